//! Adds up what agents reported over all sessions: the figures of `sessions`, and of `stats --by model|turn`.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde::Serialize;

use crate::query::agents::totals::{AgentTotals, CallFigures, ModelTotals};
use crate::query::durations::Durations;
use crate::query::entry::LogEntry;
use crate::query::name_pool::NamePool;
use crate::query::scan::Fold;
use crate::query::select::Selection;
use crate::query::sessions::SessionTotals;
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
    figures: CallFigures,
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
            figures: CallFigures::new(record),
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

/// Collects the facts of the selected sessions and time. It needs memory for each fact, since a later part of one can
/// be in another file.
pub(crate) struct FactTable<'a> {
    select: &'a Selection,
    names: NamePool,
    facts: HashMap<u64, CountedFact>,
}

impl<'a> FactTable<'a> {
    pub(crate) fn new(select: &'a Selection) -> FactTable<'a> {
        FactTable { select, names: NamePool::default(), facts: HashMap::new() }
    }

    pub(crate) fn finish(self) -> Vec<CountedFact> {
        let mut facts: Vec<(u64, CountedFact)> = self.facts.into_iter().collect();
        facts.sort_by_key(|(key, fact)| (fact.began, *key));
        facts.into_iter().map(|(_, fact)| fact).collect()
    }

    fn keep(&mut self, key: u64, fact: CountedFact) {
        match self.facts.get_mut(&key) {
            Some(known) => known.fill(fact),
            None => drop(self.facts.insert(key, fact)),
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
        let wanted = self.select.session.as_deref();
        let is_only =
            |only: &str| record.session_id == only || record.conversation_id.as_deref() == Some(only);
        let is_wanted = wanted.is_none_or(|wanted| record.session_id.starts_with(wanted))
            && self.select.only_session.as_deref().is_none_or(is_only);
        if record.event == EventName::ServerSpan
            || !is_wanted
            || !self.select.window.contains(record.timestamp)
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
        other.facts.into_iter().for_each(|(key, fact)| self.keep(key, fact));
    }
}

/// Adds to each session what the runs with its id, or with the id of one of its conversations, reported.
pub(crate) fn add_to_sessions(facts: &[CountedFact], sessions: &mut [(String, SessionTotals)]) {
    let mut by_id: HashMap<String, usize> = HashMap::new();
    for (at, (_, session)) in sessions.iter().enumerate() {
        for id in session.conversation_ids.iter().chain([&session.session_id]) {
            by_id.entry(id.clone()).or_insert(at);
        }
    }
    for fact in facts {
        let at = by_id.get(&*fact.session_id).or_else(|| by_id.get(&*fact.conversation_id));
        if let Some(at) = at {
            sessions[*at].1.agent.get_or_insert_default().add_counted(fact);
        }
    }
}

/// One model, or one turn: the line of `stats --by model|turn --json`. A figure that no agent reported is absent.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct ModelRow {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) model: String,
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

/// Groups the facts by model, or by turn. The most expensive row is the first, and then the one with most tokens.
pub(crate) fn model_rows(facts: &[CountedFact], by_turn: bool) -> Vec<ModelRow> {
    let mut groups: HashMap<[&str; 3], (AgentTotals, Durations, Timestamp)> = HashMap::new();
    let is_counted = |fact: &&CountedFact| by_turn || fact.event == EventName::ModelCall;
    for fact in facts.iter().filter(is_counted) {
        let key = match by_turn {
            true => [&*fact.agent_name, &*fact.session_id, &*fact.turn_id],
            false => [&*fact.agent_name, &*fact.model, ""],
        };
        let (totals, durations, began) =
            groups.entry(key).or_insert_with(|| (AgentTotals::default(), Durations::default(), fact.began));
        totals.add_counted(fact);
        *began = fact.began.min(*began);
        if fact.event == EventName::ModelCall
            && let Some(ms) = fact.figures.ms
        {
            durations.push(ms);
        }
    }
    let mut rows: Vec<ModelRow> = groups
        .into_iter()
        .map(|([agent, first, turn], (totals, mut durations, began))| {
            let ModelTotals { calls, errors, told, priced, calculated, .. } = totals.models;
            let quantiles = durations.quantiles([0.5, 0.95]);
            ModelRow {
                model: if by_turn { String::new() } else { first.to_owned() },
                agent_name: agent.to_owned(),
                session_id: if by_turn { first.to_owned() } else { String::new() },
                turn_id: turn.to_owned(),
                started_at: by_turn.then_some(began),
                model_calls: calls,
                errors,
                p50_ms: quantiles.map(|quantiles| quantiles[0]),
                p95_ms: quantiles.map(|quantiles| quantiles[1]),
                tools: by_turn.then_some(totals.tools),
                refused: by_turn.then(|| totals.refusals()),
                calls_with_tokens: told,
                calls_with_cost: priced,
                input_tokens: totals.models.input_tokens,
                cached_tokens: totals.models.cached_tokens,
                output_tokens: totals.models.output_tokens,
                cost_usd: totals.models.cost(),
                calculated_costs: calculated,
                totals: totals.models,
            }
        })
        .collect();
    let size = |row: &ModelRow| row.input_tokens.saturating_add(row.output_tokens);
    rows.sort_by(|a, b| {
        let cost = |row: &ModelRow| row.cost_usd.unwrap_or(0.0);
        cost(b).total_cmp(&cost(a)).then(size(b).cmp(&size(a))).then_with(|| {
            (&a.started_at, &a.agent_name, &a.model).cmp(&(&b.started_at, &b.agent_name, &b.model))
        })
    });
    rows
}
