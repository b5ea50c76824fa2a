//! Collects what agents reported, each fact once.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use memchr::memmem;

use crate::query::agents::parts::{self, CallPart};
use crate::query::files::TimeWindow;
use crate::query::name_pool::NamePool;
use crate::record::agent::AgentRecord;
use crate::record::timestamp::Timestamp;
use crate::record::words::{CostSource, Decider, Status, ToolDecision};
use crate::record::{EventName, Millis};

/// One turn, model call or tool of an agent, as far as it is counted and joined.
#[derive(Clone, Debug)]
pub(crate) struct CountedFact {
    pub(super) event: EventName,
    pub(super) agent_name: Arc<str>,
    pub(super) session_id: Arc<str>,
    pub(super) conversation_id: Arc<str>,
    pub(super) turn_id: Arc<str>,
    pub(super) model: Arc<str>,
    pub(super) tool_name: Arc<str>,
    pub(super) tool_server: Arc<str>,
    /// The run of the collector.
    pub(super) connection_id: Arc<str>,
    pub(super) host_pid: Option<u32>,
    /// By [`link`]; `None` if the agent reported none.
    pub(super) call: Option<u64>,
    pub(super) trace: Option<u64>,
    pub(super) decision: Option<ToolDecision>,
    pub(super) status: Option<Status>,
    decided_by: Option<Decider>,
    person_wait_ms: Option<Millis>,
    timestamp: Timestamp,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    duration_ms: Option<Millis>,
    /// When it began and ended, by these times.
    pub(super) began: Timestamp,
    pub(super) ended: Timestamp,
    has_span: bool,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cached_tokens: Option<u64>,
    cost_usd: Option<f64>,
    cost_source: Option<CostSource>,
    /// The order of its first part among the parts of the fact: later additions, then time and number.
    order: (bool, Timestamp, u64),
    /// Number of records that are its parts.
    records: u64,
    /// Key of the record that another run of the collector made of the same model call.
    inner: Option<u64>,
}

/// Returns a number for an id that records of agents and of calls have in common.
pub(super) fn link(kind: &str, id: &str) -> Option<u64> {
    (!id.is_empty()).then(|| digest((kind, id)))
}

pub(super) fn digest(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Returns the number of the fact that a record is a part of, by the agent's id of the fact; without one, of the record.
pub(super) fn key_of(agent_name: &str, fact_id: Option<&str>, record: (&str, u64)) -> u64 {
    match fact_id {
        Some(id) => digest((agent_name, id)),
        None => digest(record),
    }
}

/// Returns false if the bytes of a line prove that it is not a record of an agent.
pub(super) fn is_of_agent(line: &[u8]) -> bool {
    memmem::find(line, b"\"agent_name\"").is_some()
}

impl CountedFact {
    fn new(record: &AgentRecord<'_>, names: &mut NamePool) -> CountedFact {
        let mut share = |text: Option<&str>| names.share(text.unwrap_or_default());
        CountedFact {
            event: record.event,
            agent_name: share(Some(&record.agent_name)),
            session_id: share(Some(&record.session_id)),
            conversation_id: share(record.conversation_id.as_deref()),
            turn_id: share(record.turn_id.as_deref()),
            model: share(record.model.as_deref()),
            tool_name: share(record.tool_name.as_deref()),
            tool_server: share(record.tool_server.as_deref()),
            connection_id: share(Some(&record.connection_id)),
            host_pid: record.host_pid,
            call: record.call_id.as_deref().and_then(|id| link("call", id)),
            trace: record.trace_id.as_deref().and_then(|id| link("trace", id)),
            decision: record.decision,
            status: record.status,
            decided_by: record.decided_by,
            person_wait_ms: record.person_wait_ms,
            timestamp: record.timestamp,
            started_at: record.started_at,
            ended_at: record.ended_at,
            duration_ms: record.duration_ms,
            began: record.began(),
            ended: record.ended(),
            has_span: record.span_id.is_some(),
            input_tokens: record.input_tokens,
            output_tokens: record.output_tokens,
            cached_tokens: record.cached_tokens,
            cost_usd: record.cost_usd,
            cost_source: record.cost_source,
            order: (record.amends == Some(true), record.timestamp, record.seq),
            records: 1,
            inner: None,
        }
    }

    /// Returns the record of which it has the fields, without its call id, trace and span.
    pub(super) fn record(&self) -> AgentRecord<'_> {
        fn known(text: &Arc<str>) -> Option<Cow<'_, str>> {
            (!text.is_empty()).then(|| Cow::from(&**text))
        }
        AgentRecord {
            event: self.event,
            timestamp: self.timestamp,
            agent_name: Cow::from(&*self.agent_name),
            session_id: Cow::from(&*self.session_id),
            connection_id: Cow::from(&*self.connection_id),
            conversation_id: known(&self.conversation_id),
            turn_id: known(&self.turn_id),
            model: known(&self.model),
            tool_name: known(&self.tool_name),
            tool_server: known(&self.tool_server),
            host_pid: self.host_pid,
            decision: self.decision,
            status: self.status,
            decided_by: self.decided_by,
            person_wait_ms: self.person_wait_ms,
            started_at: self.started_at,
            ended_at: self.ended_at,
            duration_ms: self.duration_ms,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            cached_tokens: self.cached_tokens,
            cost_usd: self.cost_usd,
            cost_source: self.cost_source,
            ..AgentRecord::default()
        }
    }

    /// Returns true if the agent reported no id of a session or conversation.
    pub(super) fn is_anonymous(&self) -> bool {
        self.session_id == self.connection_id
    }

    pub(super) fn has_id(&self, id: &str) -> bool {
        [&self.session_id, &self.conversation_id].into_iter().any(|own| **own == *id)
    }

    /// Returns the agent's id of the conversation, else of the session.
    fn conversation(&self) -> &Arc<str> {
        if self.conversation_id.is_empty() { &self.session_id } else { &self.conversation_id }
    }

    /// Returns when the agent began to run the tool: after a person had been asked.
    pub(super) fn start(&self) -> Timestamp {
        let Some(wait) = self.person_wait_ms.as_ref().map(|ms| ms.0).filter(|ms| *ms > 0.0) else {
            return self.began;
        };
        let between = || Some((self.ended_at?.0 - self.started_at?.0) as f64 / 1000.0);
        let length = self.duration_ms.as_ref().map(|ms| ms.0).or_else(between).filter(|ms| *ms >= 0.0);
        // A wait that is longer than the fact is not part of its time.
        if length.is_some_and(|length| length < wait) { self.began } else { self.began.plus_ms(wait) }
    }

    /// Returns true if no record of it is counted and they have no figure: they only add to a model call that nothing
    /// reports.
    fn is_addition(&self) -> bool {
        let (is_addition, ..) = self.order;
        is_addition
            && self.event == EventName::ModelCall
            && self.input_tokens.or(self.output_tokens).is_none()
    }

    fn part(&self) -> CallPart<'_> {
        CallPart {
            run: (&self.agent_name, self.conversation()),
            connection_id: &self.connection_id,
            began: self.began,
            ended: self.ended,
            tokens: [self.input_tokens, self.output_tokens],
            has_span: self.has_span,
        }
    }

    /// Returns its place among the parts of the fact.
    fn place(&self) -> (bool, Timestamp, u64, &str) {
        let (amends, at, seq) = self.order;
        (amends, at, seq, &self.connection_id)
    }

    /// Adds another part of the same fact, by the rules of [`AgentRecord::fill`].
    fn fill(&mut self, mut other: CountedFact, names: &mut NamePool) {
        if other.place() < self.place() {
            std::mem::swap(self, &mut other);
        }
        let mut record = self.record();
        record.fill(other.record());
        *self = CountedFact {
            call: self.call.or(other.call),
            trace: self.trace.or(other.trace),
            has_span: self.has_span || other.has_span,
            order: self.order,
            records: self.records + other.records,
            inner: self.inner.or(other.inner),
            ..CountedFact::new(&record, names)
        };
    }
}

/// Most facts that are kept: the latest. Each needs some 350 bytes, since a later part of it can be in another file.
const MOST_FACTS: usize = 100_000;

/// Time and id of the only session whose facts are wanted.
#[derive(Clone, Debug)]
pub(crate) struct FactsOf {
    pub(crate) session_id: Box<str>,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

/// Collects the latest facts of the selected time.
#[derive(Clone, Debug)]
pub(crate) struct FactTable {
    window: TimeWindow,
    only: Option<FactsOf>,
    names: NamePool,
    facts: HashMap<u64, CountedFact>,
    /// Further parts of these facts. They are added in their order, in whatever order they were read.
    parts: Vec<(u64, CountedFact)>,
    /// The key of the fact that a fact with another key was joined to.
    outer: HashMap<u64, u64>,
    most: usize,
    left_out: u64,
}

impl FactTable {
    /// Creates a table of the facts in `window`; with `only`, of those that can be of its session.
    pub(super) fn new(window: TimeWindow, only: Option<FactsOf>) -> FactTable {
        FactTable {
            window,
            only,
            names: NamePool::default(),
            facts: HashMap::new(),
            parts: Vec::new(),
            outer: HashMap::new(),
            most: MOST_FACTS,
            left_out: 0,
        }
    }

    /// Returns an empty table of the facts that can be of one session.
    pub(super) fn emptied(&self, only: FactsOf) -> FactTable {
        FactTable::new(self.window, Some(only))
    }

    #[cfg(test)]
    pub(super) fn of_at_most(most: usize) -> FactTable {
        FactTable { most, ..FactTable::new(TimeWindow::default(), None) }
    }

    pub(super) fn len(&self) -> usize {
        self.facts.len() + self.parts.len()
    }

    /// Returns the number of records that belong to earlier facts, which were left out.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Takes the line of a record of an agent.
    pub(crate) fn take(&mut self, line: &[u8]) {
        let Ok(record) = serde_json::from_slice::<AgentRecord<'_>>(line) else { return };
        let can_be = |only: &FactsOf| {
            let ids = [Some(&*record.session_id), record.conversation_id.as_deref()];
            ids.contains(&Some(&*only.session_id))
                || (record.began() <= only.until && record.ended() >= only.from)
        };
        if record.event == EventName::ServerSpan
            || !self.window.contains(record.timestamp)
            || !self.only.as_ref().is_none_or(can_be)
        {
            return;
        }
        let fact = CountedFact::new(&record, &mut self.names);
        let fact_id = record.fact_id.as_deref().filter(|id| !id.is_empty());
        self.keep(key_of(&record.agent_name, fact_id, (&record.connection_id, record.seq)), fact);
    }

    pub(crate) fn merge(&mut self, other: FactTable) {
        self.left_out += other.left_out;
        other.facts.into_iter().chain(other.parts).for_each(|(key, fact)| self.keep(key, fact));
    }

    fn keep(&mut self, key: u64, fact: CountedFact) {
        let key = self.outer.get(&key).copied().unwrap_or(key);
        match self.facts.contains_key(&key) {
            true => self.parts.push((key, fact)),
            false => drop(self.facts.insert(key, fact)),
        }
        // Each fact is moved at most twice, since half of them are dropped at once.
        if self.len() >= 2 * self.most {
            self.add_parts();
            self.trim();
        }
    }

    /// Adds the further parts to their facts.
    fn add_parts(&mut self) {
        let mut parts = std::mem::take(&mut self.parts);
        let known: BTreeSet<u64> = parts.iter().map(|(key, _)| *key).collect();
        parts.extend(known.into_iter().filter_map(|key| Some((key, self.facts.remove(&key)?))));
        parts.sort_by(|(a_key, a), (b_key, b)| a_key.cmp(b_key).then_with(|| a.place().cmp(&b.place())));
        for (key, part) in parts {
            match self.facts.get_mut(&key) {
                Some(first) => first.fill(part, &mut self.names),
                None => drop(self.facts.insert(key, part)),
            }
        }
    }

    /// Drops all but the latest facts.
    fn trim(&mut self) {
        let excess = self.facts.len().saturating_sub(self.most);
        if excess == 0 {
            return;
        }
        let mut order: Vec<(Timestamp, u64)> =
            self.facts.iter().map(|(key, fact)| (fact.began, *key)).collect();
        order.select_nth_unstable(excess);
        // Records are counted and not facts: a later part of a fact that was dropped comes and is dropped again.
        let dropped = order[..excess].iter().filter_map(|(_, key)| self.facts.remove(key));
        self.left_out += dropped.map(|fact| fact.records).sum::<u64>();
        self.outer.retain(|_, key| self.facts.contains_key(key));
    }

    /// Drops all but the latest facts, and makes one fact of the two of a model call whose parts went to two runs of
    /// the collector. [`facts`](FactTable::facts) is complete only afterwards.
    pub(crate) fn settle(&mut self) {
        self.add_parts();
        self.trim();
        let mut calls: Vec<(u64, &CountedFact)> = self
            .facts
            .iter()
            .filter(|(_, fact)| fact.event == EventName::ModelCall && !fact.is_addition())
            .map(|(key, fact)| (*key, fact))
            .collect();
        calls.sort_by_key(|(key, fact)| (fact.began, *key));
        let parts: Vec<CallPart<'_>> = calls.iter().map(|(_, fact)| fact.part()).collect();
        let pairs = parts::pairs(&parts).into_iter();
        let pairs: Vec<(u64, u64)> = pairs.map(|(outer, inner)| (calls[outer].0, calls[inner].0)).collect();
        for (outer, inner) in pairs {
            let Some(mut event) = self.facts.remove(&inner) else { continue };
            if let Some(span) = self.facts.get_mut(&outer) {
                // What the span has is kept, whichever of the two was recorded first.
                event.order = event.order.max(span.order);
                span.fill(event, &mut self.names);
                span.inner = Some(inner);
            }
            self.outer.insert(inner, outer);
        }
    }

    /// Returns the facts in the order of their beginnings, each with the keys of its records.
    pub(crate) fn facts(&self) -> Vec<(&CountedFact, [Option<u64>; 2])> {
        let known = self.facts.iter().map(|(key, fact)| (*key, fact));
        let mut facts: Vec<(u64, &CountedFact)> = known.filter(|(_, fact)| !fact.is_addition()).collect();
        facts.sort_by_key(|(key, fact)| {
            let (_, _, seq) = fact.order;
            (fact.began, seq, *key)
        });
        facts.into_iter().map(|(key, fact)| (fact, [Some(key), fact.inner])).collect()
    }
}

/// Returns that so many records of agents are not counted, if there are any, as one sentence.
pub(crate) fn left_out_text(left_out: u64) -> Option<String> {
    (left_out > 0).then(|| {
        format!(
            "{left_out} reports of agents are not counted: only the latest {MOST_FACTS} model calls, turns and tools are; \
             --since and --on select a shorter time"
        )
    })
}
