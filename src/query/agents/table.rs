//! Groups what agents reported: the rows of `stats --by model|turn` and of the report page.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use crate::query::agents::join::JoinedFact;
use crate::query::agents::time_index::TimeIndex;
use crate::query::agents::totals::{AgentTotals, ModelTotals};
use crate::query::durations::Durations;
use crate::query::stats::StatsOrder;
use crate::record::EventName;
use crate::record::timestamp::Timestamp;

/// One model, or one turn: the line of `stats --by model|turn --json`. A figure that no agent reported is absent.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct ModelRow {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) model: String,
    /// Models of a turn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) models: Vec<String>,
    pub(crate) agent_name: String,
    /// Id of the session that the turn belongs to, else the agent's id of its session.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) session_id: String,
    /// The agent's id of its session.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) agent_session_id: String,
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
    /// Their share of `cost_usd`.
    pub(crate) calculated_usd: f64,
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
            calculated_usd: models.calculated_usd,
            totals: models,
            ..ModelRow::default()
        }
    }

    fn of_turn(turn: FactGroup<'_>) -> ModelRow {
        let named = turn.totals.by_model.keys().filter(|model| !model.is_empty());
        ModelRow {
            models: named.cloned().collect(),
            session_id: turn.session_id().to_owned(),
            agent_session_id: turn.key[1].to_owned(),
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
    /// Id of the session that it belongs to, if the facts are grouped by it.
    pub(crate) session: Option<Arc<str>>,
    pub(crate) began: Timestamp,
    pub(crate) totals: AgentTotals,
    durations: Durations,
}

impl FactGroup<'_> {
    /// Returns the id of the session that it belongs to, else the agent's id of its session.
    pub(crate) fn session_id(&self) -> &str {
        self.session.as_deref().unwrap_or(self.key[1])
    }
}

/// Groups the facts by session and turn. An agent that continues a conversation in another session can count its turns
/// anew, so their sessions separate turns with one id. A fact that names no turn belongs to the turn around it.
pub(crate) fn turns<'f>(facts: &'f [JoinedFact<'_>]) -> Vec<FactGroup<'f>> {
    let reported = TurnsByTime::new(facts);
    groups(facts.iter().map(|joined| {
        let turn = reported.around(joined).unwrap_or(joined);
        ((turn_of(turn), turn.session.as_ref()), joined)
    }))
}

/// The turns that agents reported, by their times.
struct TurnsByTime<'f> {
    facts: &'f [JoinedFact<'f>],
    /// Indexes of the turns by agent and session; of a run without one, by agent and its id.
    of_run: HashMap<[&'f str; 2], TimeIndex>,
}

impl<'f> TurnsByTime<'f> {
    fn new(facts: &'f [JoinedFact<'f>]) -> TurnsByTime<'f> {
        let mut turns: HashMap<[&str; 2], Vec<(i64, i64, usize)>> = HashMap::new();
        let is_turn = |(_, joined): &(usize, &JoinedFact<'_>)| joined.fact.event == EventName::AgentTurn;
        for (at, joined) in facts.iter().enumerate().filter(is_turn) {
            turns.entry(run_of(joined)).or_default().push((joined.fact.began.0, joined.fact.ended.0, at));
        }
        let of_run = turns.into_iter().map(|(run, turns)| (run, TimeIndex::new(turns))).collect();
        TurnsByTime { facts, of_run }
    }

    /// Returns the turn around a fact that names none.
    fn around(&self, joined: &JoinedFact<'_>) -> Option<&'f JoinedFact<'f>> {
        let JoinedFact { fact, .. } = joined;
        if fact.event == EventName::AgentTurn || !fact.turn_id.is_empty() {
            return None;
        }
        let at = self.of_run.get(&run_of(joined))?.last_around(fact.began, fact.ended)?;
        Some(&self.facts[at])
    }
}

fn run_of<'f>(JoinedFact { fact, session, .. }: &'f JoinedFact<'_>) -> [&'f str; 2] {
    match session {
        Some(session) => [&fact.agent_name, session],
        None => [&fact.agent_name, &fact.session_id],
    }
}

fn turn_of<'f>(JoinedFact { fact, .. }: &'f JoinedFact<'_>) -> [&'f str; 3] {
    [&fact.agent_name, &fact.session_id, &fact.turn_id]
}

/// The key that the facts of a group have in common, and their session if they are grouped by it.
type GroupKey<'f> = ([&'f str; 3], Option<&'f Arc<str>>);

/// Groups the facts by their keys. The most expensive group is the first, and then the one with most tokens.
fn groups<'f>(facts: impl Iterator<Item = (GroupKey<'f>, &'f JoinedFact<'f>)>) -> Vec<FactGroup<'f>> {
    let mut groups: HashMap<GroupKey<'f>, FactGroup<'f>> = HashMap::new();
    for (key, JoinedFact { fact, was_refused, .. }) in facts {
        let group = groups.entry(key).or_insert_with(|| FactGroup {
            key: key.0,
            session: key.1.cloned(),
            began: fact.began,
            totals: AgentTotals::default(),
            durations: Durations::default(),
        });
        let record = fact.record();
        group.totals.add(&record, *was_refused);
        group.began = fact.began.min(group.began);
        let ms = record.duration_ms.as_ref().map(|ms| ms.0).filter(|ms| *ms > 0.0);
        if let (EventName::ModelCall, Some(ms)) = (fact.event, ms) {
            group.durations.push(ms);
        }
    }
    let mut groups: Vec<FactGroup<'_>> = groups.into_values().collect();
    groups.sort_by(|a, b| {
        let (a_used, b_used) = (&a.totals.models, &b.totals.models);
        let by_use = b_used.cost_usd.total_cmp(&a_used.cost_usd).then(b_used.tokens().cmp(&a_used.tokens()));
        by_use.then_with(|| (a.began, a.key, &a.session).cmp(&(b.began, b.key, &b.session)))
    });
    groups
}

/// Returns a row for each model, or for each turn.
pub(crate) fn model_rows(facts: &[JoinedFact<'_>], by_turn: bool) -> Vec<ModelRow> {
    if by_turn {
        return turns(facts).into_iter().map(ModelRow::of_turn).collect();
    }
    let calls = facts.iter().filter(|joined| joined.fact.event == EventName::ModelCall);
    let of_models =
        groups(calls.map(|joined| (([&*joined.fact.agent_name, &*joined.fact.model, ""], None), joined)));
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
