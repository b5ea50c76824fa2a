//! The reports of agents about their model calls and about tools that they refused, by turn and by model.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use serde_json::{Value, json};

use crate::present::Printable;
use crate::query::agents::join::JoinedFact;
use crate::query::agents::table::{FactGroup, turns};
use crate::query::agents::totals::{AgentTotals, ModelTotals};
use crate::query::sessions::SessionTotals;

/// Most turns in the page: the most expensive ones.
const TURNS: usize = 1_000;

/// The reports of the agents. Turns of which only the sums are in the page count in `models` and `refused`.
#[derive(Debug, Serialize)]
pub(super) struct AgentBoard {
    turns: Vec<Value>,
    /// Number of requests: turns with an id.
    requests: usize,
    /// Number of turns that are left out of `turns`.
    more: usize,
    models: Vec<ModelFigures>,
    refused: Vec<Refusals>,
}

/// Agent, model, calls, errors; calls whose tokens are known, tokens in, cached, out; calls whose cost is known, USD as
/// reported; calls whose cost was calculated, USD as calculated.
#[derive(Debug, Serialize)]
struct ModelFigures(Printable, Printable, u64, u64, u64, u64, u64, u64, u64, f64, u64, f64);

/// Tool, maker of the decision, number.
#[derive(Debug, Serialize)]
struct Refusals(Printable, Printable, u64);

impl AgentBoard {
    /// `only_sessions` leaves out runs that belong to none of the sessions.
    pub(super) fn new(
        facts: &[JoinedFact<'_>],
        sessions: &[(String, SessionTotals)],
        only_sessions: bool,
    ) -> AgentBoard {
        let mut turns = turns(facts);
        let known: HashSet<&str> = sessions.iter().map(|(id, _)| id.as_str()).collect();
        let is_known = |turn: &FactGroup<'_>| turn.session.as_deref().is_some_and(|id| known.contains(id));
        turns.retain(|turn| !only_sessions || is_known(turn));
        let mut models: BTreeMap<(&str, &str), ModelTotals> = BTreeMap::new();
        let mut refused = AgentTotals::default();
        for turn in &turns {
            for (model, totals) in &turn.totals.by_model {
                models.entry((turn.key[0], model)).or_default().merge(totals);
            }
            for (refusal, count) in &turn.totals.refused {
                *refused.refused.entry(refusal.clone()).or_default() += count;
            }
        }
        AgentBoard {
            requests: turns.iter().filter(|turn| !turn.key[2].is_empty()).count(),
            more: turns.len().saturating_sub(TURNS),
            models: models.iter().map(|((agent, model), totals)| figures(agent, model, totals)).collect(),
            refused: refusals(&refused),
            turns: turns.iter().take(TURNS).map(turn_row).collect(),
        }
    }
}

fn turn_row(turn: &FactGroup<'_>) -> Value {
    let [agent, _, id] = turn.key;
    let session = turn.session_id();
    let models: Vec<ModelFigures> =
        turn.totals.by_model.iter().map(|(model, totals)| figures(agent, model, totals)).collect();
    json!({
        "agent": Printable::new(agent), "session": Printable::new(session), "turn": Printable::new(id),
        "at": turn.began.0 as f64 / 1000.0, "tools": turn.totals.tools, "models": models,
        "refused": refusals(&turn.totals),
    })
}

fn refusals(totals: &AgentTotals) -> Vec<Refusals> {
    let refusal = |((tool, by), count): (&(String, String), &u64)| {
        Refusals(Printable::new(tool), Printable::new(by), *count)
    };
    totals.refused.iter().map(refusal).collect()
}

fn figures(agent: &str, model: &str, totals: &ModelTotals) -> ModelFigures {
    ModelFigures(
        Printable::new(agent),
        Printable::new(model),
        totals.calls,
        totals.errors,
        totals.told,
        totals.input_tokens,
        totals.cached_tokens,
        totals.output_tokens,
        totals.priced - totals.calculated,
        totals.cost_usd - totals.calculated_usd,
        totals.calculated,
        totals.calculated_usd,
    )
}
