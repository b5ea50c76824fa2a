//! Adds up what agents reported over all sessions: the figures of `sessions`, and of `stats --by model|turn`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde::Serialize;

use crate::query::agents::parts::{self, CallPart};
use crate::query::agents::totals::{AgentTotals, CallFigures, ModelTotals};
use crate::query::durations::Durations;
use crate::query::entry::LogEntry;
use crate::query::files::TimeWindow;
use crate::query::name_pool::NamePool;
use crate::query::scan::Fold;
use crate::query::select::Selection;
use crate::query::sessions::SessionTotals;
use crate::query::stats::StatsOrder;
use crate::record::EventName;
use crate::record::agent::AgentRecord;
use crate::record::timestamp::Timestamp;
use crate::record::words::{Decider, ToolDecision};

/// One turn, model call or tool of an agent, as far as it is counted.
#[derive(Clone, Debug)]
pub(crate) struct CountedFact {
    /// True if its first part was not read.
    amends: bool,
    event: EventName,
    agent_name: Arc<str>,
    session_id: Arc<str>,
    conversation_id: Arc<str>,
    turn_id: Arc<str>,
    model: Arc<str>,
    tool_name: Arc<str>,
    is_refused: bool,
    decided_by: Option<Decider>,
    person_wait_ms: f64,
    began: Timestamp,
    ended: Timestamp,
    connection_id: Arc<str>,
    has_span: bool,
    figures: CallFigures,
    /// Index of the session that it belongs to, by [`join_sessions`].
    session: Option<usize>,
}

impl CountedFact {
    fn new(record: &AgentRecord<'_>, names: &mut NamePool) -> CountedFact {
        let mut share = |text: Option<&str>| names.share(text.unwrap_or_default());
        let ms = record.duration_ms.as_ref().map_or(0.0, |ms| ms.0);
        CountedFact {
            amends: record.amends == Some(true),
            event: record.event,
            agent_name: share(Some(&record.agent_name)),
            session_id: share(Some(&record.session_id)),
            conversation_id: share(record.conversation_id.as_deref()),
            turn_id: share(record.turn_id.as_deref()),
            model: share(record.model.as_deref()),
            tool_name: share(record.tool_name.as_deref()),
            is_refused: record.decision == Some(ToolDecision::Refused),
            decided_by: record.decided_by,
            person_wait_ms: record.person_wait_ms.as_ref().map_or(0.0, |ms| ms.0.max(0.0)),
            began: record.started_at.unwrap_or_else(|| record.timestamp.plus_ms(-ms)),
            ended: record.ended_at.unwrap_or(record.timestamp),
            connection_id: share(Some(&record.connection_id)),
            has_span: record.span_id.is_some(),
            figures: CallFigures::new(record),
            session: None,
        }
    }

    fn part(&self) -> CallPart<'_> {
        let conversation =
            if self.conversation_id.is_empty() { &self.session_id } else { &self.conversation_id };
        CallPart {
            run: (&self.agent_name, conversation),
            connection_id: &self.connection_id,
            began: self.began,
            ended: self.ended,
            tokens: self.figures.tokens(),
            has_span: self.has_span,
        }
    }

    /// Adds another part of the same fact. What the first part has is kept.
    fn fill(&mut self, other: CountedFact) {
        let (mut first, later) = match self.amends && !other.amends {
            true => (other, self.clone()),
            false => (self.clone(), other),
        };
        let texts = [
            (&mut first.conversation_id, &later.conversation_id),
            (&mut first.turn_id, &later.turn_id),
            (&mut first.model, &later.model),
            (&mut first.tool_name, &later.tool_name),
        ];
        for (text, other) in texts {
            if text.is_empty() {
                *text = Arc::clone(other);
            }
        }
        first.is_refused |= later.is_refused;
        first.decided_by = first.decided_by.or(later.decided_by);
        first.person_wait_ms = first.person_wait_ms.max(later.person_wait_ms);
        first.has_span |= later.has_span;
        first.figures.fill(&later.figures);
        *self = first;
    }
}

impl AgentTotals {
    fn add_counted(&mut self, fact: &CountedFact) {
        match fact.event {
            EventName::AgentTurn => self.turns += 1,
            EventName::ModelCall => {
                let call = ModelTotals::from(&fact.figures);
                self.models.merge(&call);
                self.by_model.entry(fact.model.to_string()).or_default().merge(&call);
            }
            EventName::AgentTool => {
                self.tools += 1;
                self.person_wait_ms += fact.person_wait_ms;
                if fact.is_refused {
                    let by = fact.decided_by.map_or("", |by| by.as_str()).to_owned();
                    *self.refused.entry((fact.tool_name.to_string(), by)).or_default() += 1;
                }
            }
            _ => {}
        }
    }
}

/// Most facts that are kept: the latest. Each needs some 250 bytes, since a later part of it can be in another file.
const MOST_FACTS: usize = 100_000;

/// Collects the latest facts of the selected sessions and time.
#[derive(Clone, Debug)]
pub(crate) struct FactTable<'a> {
    /// Selection of the session; `None` selects every session.
    select: Option<&'a Selection>,
    window: TimeWindow,
    names: NamePool,
    facts: HashMap<u64, CountedFact>,
    most: usize,
    left_out: u64,
}

impl<'a> FactTable<'a> {
    pub(crate) fn new(select: &'a Selection) -> FactTable<'a> {
        FactTable { select: Some(select), ..FactTable::of_every_session(select.window) }
    }

    pub(crate) fn of_every_session(window: TimeWindow) -> FactTable<'a> {
        let (names, facts) = (NamePool::default(), HashMap::new());
        FactTable { select: None, window, names, facts, most: MOST_FACTS, left_out: 0 }
    }

    #[cfg(test)]
    pub(super) fn of_at_most(most: usize) -> FactTable<'a> {
        FactTable { most, ..FactTable::of_every_session(TimeWindow::default()) }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.facts.len()
    }

    /// Returns the facts in the order of their beginnings, and the number of earlier ones that were left out.
    pub(crate) fn finish(mut self) -> (Vec<CountedFact>, u64) {
        self.trim();
        let mut facts: Vec<(u64, CountedFact)> = self.facts.into_iter().collect();
        facts.sort_by_key(|(key, fact)| (fact.began, *key));
        let mut facts: Vec<CountedFact> = facts.into_iter().map(|(_, fact)| fact).collect();
        join_parts(&mut facts);
        (facts, self.left_out)
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
        order[..excess].iter().for_each(|(_, key)| drop(self.facts.remove(key)));
        self.left_out += excess as u64;
    }

    fn keep(&mut self, key: u64, fact: CountedFact) {
        match self.facts.get_mut(&key) {
            Some(known) => known.fill(fact),
            None => drop(self.facts.insert(key, fact)),
        }
        // Each fact is moved at most twice, since half of them are dropped at once.
        if self.facts.len() >= 2 * self.most {
            self.trim();
        }
    }
}

impl Fold for FactTable<'_> {
    fn wants(&self, line: &[u8]) -> bool {
        super::is_of_agent(line)
    }

    fn take(&mut self, _: &LogEntry<'_>, _: &[u8]) {}

    fn take_of_agent(&mut self, line: &[u8]) {
        let Ok(record) = serde_json::from_slice::<AgentRecord<'_>>(line) else { return };
        let is_only =
            |only: &str| record.session_id == only || record.conversation_id.as_deref() == Some(only);
        let is_wanted = |select: &Selection| {
            select.session.as_deref().is_none_or(|wanted| record.session_id.starts_with(wanted))
                && select.only_session.as_deref().is_none_or(is_only)
        };
        if record.event == EventName::ServerSpan
            || !self.select.is_none_or(is_wanted)
            || !self.window.contains(record.timestamp)
        {
            return;
        }
        let mut hasher = DefaultHasher::new();
        match record.fact_id.as_deref() {
            Some(id) => (&*record.agent_name, id).hash(&mut hasher),
            None => (&*record.connection_id, record.seq).hash(&mut hasher),
        }
        let fact = CountedFact::new(&record, &mut self.names);
        self.keep(hasher.finish(), fact);
    }

    fn merge(&mut self, other: FactTable<'_>) {
        self.left_out += other.left_out;
        other.facts.into_iter().for_each(|(key, fact)| self.keep(key, fact));
    }
}

/// Makes one fact of the two of a model call whose parts went to two runs of the collector.
fn join_parts(facts: &mut Vec<CountedFact>) {
    let is_call = |at: &usize| facts[*at].event == EventName::ModelCall;
    let indexes: Vec<usize> = (0..facts.len()).filter(is_call).collect();
    let parts: Vec<CallPart<'_>> = indexes.iter().map(|at| facts[*at].part()).collect();
    let mut is_inner = vec![false; facts.len()];
    for (outer, inner) in parts::pairs(&parts) {
        let inner = indexes[inner];
        let event = facts[inner].clone();
        facts[indexes[outer]].fill(event);
        is_inner[inner] = true;
    }
    let mut is_inner = is_inner.into_iter();
    facts.retain(|_| !is_inner.next().unwrap_or_default());
}

/// Finds the session of each fact, by its id or the id of one of its conversations, and adds to each session what its
/// agent reported.
pub(crate) fn join_sessions(facts: &mut [CountedFact], sessions: &mut [(String, SessionTotals)]) {
    let mut by_id: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, (_, session)) in sessions.iter().enumerate() {
        let ids: BTreeSet<&String> = session.conversation_ids.iter().chain([&session.session_id]).collect();
        ids.into_iter().for_each(|id| by_id.entry(id.clone()).or_default().push(at));
    }
    for fact in facts {
        let found = by_id.get(&*fact.session_id).or_else(|| by_id.get(&*fact.conversation_id));
        // A conversation that was continued has several sessions, and not all of them may be among these.
        let is_possible = |at: &&usize| {
            let session = &sessions[**at].1;
            *session.session_id == *fact.session_id
                || *session.session_id == *fact.conversation_id
                || super::is_in_time(session.span.get(), session.has_ended(), fact.began)
        };
        let distance = |at: &&usize| {
            let (first, last) = sessions[**at].1.span.get().unwrap_or_default();
            first.0.saturating_sub(fact.began.0).max(fact.began.0.saturating_sub(last.0)).max(0)
        };
        fact.session = found.and_then(|found| found.iter().filter(is_possible).min_by_key(distance).copied());
        if let Some(at) = fact.session {
            sessions[at].1.agent.get_or_insert_default().add_counted(fact);
        }
    }
}

/// One model, or one turn: the line of `stats --by model|turn --json`. A figure that no agent reported is absent.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct ModelRow {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) model: String,
    /// Models of a turn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) models: Vec<String>,
    pub(crate) agent_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) session_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) turn_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) model_calls: u64,
    pub(crate) errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p95_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tools: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<u64>,
    /// Model calls of which the tokens are known, and of which the cost is known.
    pub(crate) calls_with_tokens: u64,
    pub(crate) calls_with_cost: u64,
    pub(crate) input_tokens: u64,
    pub(crate) cached_tokens: u64,
    pub(crate) output_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cost_usd: Option<f64>,
    /// Model calls of which the collector calculated the cost.
    pub(crate) calculated_costs: u64,
    #[serde(skip)]
    pub(crate) totals: ModelTotals,
}

impl ModelRow {
    fn new(group: FactGroup<'_>) -> ModelRow {
        let FactGroup { key, totals, mut durations, .. } = group;
        let quantiles = durations.quantiles([0.5, 0.95]);
        let models = totals.models;
        ModelRow {
            agent_name: key[0].to_owned(),
            model_calls: models.calls,
            errors: models.errors,
            p50_ms: quantiles.map(|quantiles| quantiles[0]),
            p95_ms: quantiles.map(|quantiles| quantiles[1]),
            calls_with_tokens: models.told,
            calls_with_cost: models.priced,
            input_tokens: models.input_tokens,
            cached_tokens: models.cached_tokens,
            output_tokens: models.output_tokens,
            cost_usd: models.cost(),
            calculated_costs: models.calculated,
            totals: models,
            ..ModelRow::default()
        }
    }

    fn of_turn(turn: FactGroup<'_>) -> ModelRow {
        let named = turn.totals.by_model.keys().filter(|model| !model.is_empty());
        ModelRow {
            models: named.cloned().collect(),
            session_id: turn.key[1].to_owned(),
            turn_id: turn.key[2].to_owned(),
            started_at: Some(turn.began),
            tools: Some(turn.totals.tools),
            refused: Some(turn.totals.refusals()),
            ..ModelRow::new(turn)
        }
    }

    fn of_model(model: FactGroup<'_>) -> ModelRow {
        ModelRow { model: model.key[1].to_owned(), ..ModelRow::new(model) }
    }
}

/// Facts of one turn of an agent, or of one model. The facts of a run that name no turn are one turn.
#[derive(Debug)]
pub(crate) struct FactGroup<'f> {
    /// Agent, its id of the session, and its id of the turn; or agent and model.
    pub(crate) key: [&'f str; 3],
    /// Index of the session that it belongs to.
    pub(crate) session: Option<usize>,
    pub(crate) began: Timestamp,
    pub(crate) totals: AgentTotals,
    durations: Durations,
}

/// Groups the facts by turn. An agent that continues a conversation in another session can count its turns anew, so turns
/// with one id are told apart by the session that [`join_sessions`] found.
pub(crate) fn turns(facts: &[CountedFact]) -> Vec<FactGroup<'_>> {
    fn key(fact: &CountedFact) -> [&str; 3] {
        [&fact.agent_name, &fact.session_id, &fact.turn_id]
    }
    let mut joined: HashMap<[&str; 3], BTreeMap<Timestamp, usize>> = HashMap::new();
    for fact in facts {
        if let Some(at) = fact.session {
            joined.entry(key(fact)).or_default().insert(fact.began, at);
        }
    }
    // A turn can begin long before the first server of its session, and its first facts then belong to no session.
    let nearest = |fact: &CountedFact| {
        let joined = joined.get(&key(fact))?;
        let around = [joined.range(..fact.began).next_back(), joined.range(fact.began..).next()];
        let nearest = around.into_iter().flatten().min_by_key(|(at, _)| at.0.abs_diff(fact.began.0));
        nearest.map(|(_, at)| *at)
    };
    groups(facts.iter().map(|fact| (key(fact), fact.session.or_else(|| nearest(fact)), fact)))
}

/// Groups the facts by their keys and sessions. The most expensive group is the first, and then the one with most tokens.
fn groups<'f>(
    facts: impl Iterator<Item = ([&'f str; 3], Option<usize>, &'f CountedFact)>,
) -> Vec<FactGroup<'f>> {
    let mut groups: HashMap<([&str; 3], Option<usize>), FactGroup<'f>> = HashMap::new();
    for (key, session, fact) in facts {
        let group = groups.entry((key, session)).or_insert_with(|| FactGroup {
            key,
            session,
            began: fact.began,
            totals: AgentTotals::default(),
            durations: Durations::default(),
        });
        group.totals.add_counted(fact);
        group.began = fact.began.min(group.began);
        if let (EventName::ModelCall, Some(ms)) = (fact.event, fact.figures.ms) {
            group.durations.push(ms);
        }
    }
    let mut groups: Vec<FactGroup<'_>> = groups.into_values().collect();
    groups.sort_by(|a, b| {
        let (a_used, b_used) = (&a.totals.models, &b.totals.models);
        let by_use = b_used.cost_usd.total_cmp(&a_used.cost_usd).then(b_used.tokens().cmp(&a_used.tokens()));
        by_use.then((a.began, a.key).cmp(&(b.began, b.key)))
    });
    groups
}

/// Returns a row for each model, or for each turn.
pub(crate) fn model_rows(facts: &[CountedFact], by_turn: bool) -> Vec<ModelRow> {
    if by_turn {
        return turns(facts).into_iter().map(ModelRow::of_turn).collect();
    }
    let calls = facts.iter().filter(|fact| fact.event == EventName::ModelCall);
    let of_models = groups(calls.map(|fact| ([&*fact.agent_name, &*fact.model, ""], None, fact)));
    of_models.into_iter().map(ModelRow::of_model).collect()
}

/// Sorts the rows by a column, greatest first.
pub(crate) fn sort_rows(rows: &mut [ModelRow], order: StatsOrder) {
    rows.sort_by(|a, b| match order {
        StatsOrder::Calls => b.model_calls.cmp(&a.model_calls),
        StatsOrder::Errors => b.errors.cmp(&a.errors).then(b.model_calls.cmp(&a.model_calls)),
        StatsOrder::P95 => b.p95_ms.unwrap_or(-1.0).total_cmp(&a.p95_ms.unwrap_or(-1.0)),
        StatsOrder::Tokens => b.totals.tokens().cmp(&a.totals.tokens()),
    });
}

/// Returns that the reports of so many facts are not counted, if there are any, as one sentence.
pub(crate) fn left_out_text(left_out: u64) -> Option<String> {
    (left_out > 0).then(|| {
        format!(
            "{left_out} reports of agents are not counted: only the latest {MOST_FACTS} model calls, turns and tools are; \
             --since and --on select a shorter time"
        )
    })
}
