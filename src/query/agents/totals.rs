//! Adds up what agents reported of their model calls, turns and decisions. Nothing here is an estimate of spantap.

use std::collections::BTreeMap;

use crate::record::EventName;
use crate::record::agent::AgentRecord;
use crate::record::words::{CostSource, Status};

/// Tokens and cost of model calls.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ModelTotals {
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    /// Calls whose tokens were reported: of the input, of the output, or of both.
    pub(crate) told: u64,
    /// Calls whose input tokens were reported, and whose output tokens.
    pub(crate) told_input: u64,
    pub(crate) told_output: u64,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) cached_tokens: u64,
    pub(crate) cost_usd: f64,
    /// Calls whose cost was reported, or calculated by the prices of the config file.
    pub(crate) priced: u64,
    /// Calls of which the cost was calculated, and their share of `cost_usd`.
    pub(crate) calculated: u64,
    pub(crate) calculated_usd: f64,
    pub(crate) ms: f64,
}

impl From<&AgentRecord<'_>> for ModelTotals {
    fn from(call: &AgentRecord<'_>) -> ModelTotals {
        let cost = call.cost_usd.filter(|cost| cost.is_finite());
        let calculated = cost.filter(|_| call.cost_source == Some(CostSource::Config));
        ModelTotals {
            calls: 1,
            errors: u64::from(call.status == Some(Status::Error)),
            told: u64::from(call.input_tokens.is_some() || call.output_tokens.is_some()),
            told_input: u64::from(call.input_tokens.is_some()),
            told_output: u64::from(call.output_tokens.is_some()),
            input_tokens: call.input_tokens.unwrap_or(0),
            output_tokens: call.output_tokens.unwrap_or(0),
            cached_tokens: call.cached_tokens.unwrap_or(0),
            cost_usd: cost.unwrap_or(0.0),
            priced: u64::from(cost.is_some()),
            calculated: u64::from(calculated.is_some()),
            calculated_usd: calculated.unwrap_or(0.0),
            ms: call.duration_ms.as_ref().map_or(0.0, |ms| ms.0.max(0.0)),
        }
    }
}

impl ModelTotals {
    pub(crate) fn add(&mut self, record: &AgentRecord<'_>) {
        self.merge(&ModelTotals::from(record));
    }

    pub(crate) fn merge(&mut self, other: &ModelTotals) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.told += other.told;
        self.told_input += other.told_input;
        self.told_output += other.told_output;
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(other.cached_tokens);
        self.cost_usd += other.cost_usd;
        self.priced += other.priced;
        self.calculated += other.calculated;
        self.calculated_usd += other.calculated_usd;
        self.ms += other.ms;
    }

    /// Returns the input tokens; `None` if no call reported any.
    pub(crate) fn input(&self) -> Option<u64> {
        (self.told_input > 0).then_some(self.input_tokens)
    }

    /// Returns the output tokens; `None` if no call reported any.
    pub(crate) fn output(&self) -> Option<u64> {
        (self.told_output > 0).then_some(self.output_tokens)
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    /// Returns the cost of the calls of which it is known; `None` without any.
    pub(crate) fn cost(&self) -> Option<f64> {
        (self.priced > 0).then_some(self.cost_usd)
    }
}

/// Sums of the reports of the agents of one session.
#[derive(Clone, Debug, Default)]
pub(crate) struct AgentTotals {
    pub(crate) models: ModelTotals,
    pub(crate) by_model: BTreeMap<String, ModelTotals>,
    /// Turns of the session: those of its agent, and those of calls that belong to none of them.
    pub(crate) turns: u64,
    pub(crate) tools: u64,
    /// Tools that were refused before any server was asked, by name and maker of the decision.
    pub(crate) refused: BTreeMap<(String, String), u64>,
    /// Time for which the agent waited for a person.
    pub(crate) person_wait_ms: f64,
}

impl AgentTotals {
    /// Adds a fact; `was_refused` is true if it is a tool that its agent refused, and no server was asked.
    pub(super) fn add(&mut self, record: &AgentRecord<'_>, was_refused: bool) {
        match record.event {
            EventName::ModelCall => {
                self.models.add(record);
                let model = record.model.as_deref().unwrap_or_default();
                self.by_model.entry(model.to_owned()).or_default().add(record);
            }
            EventName::AgentTool => {
                self.tools += 1;
                self.person_wait_ms += record.person_wait_ms.as_ref().map_or(0.0, |ms| ms.0.max(0.0));
                if was_refused {
                    let name = record.tool_name.as_deref().unwrap_or_default().to_owned();
                    let by = record.decided_by.map_or("", |by| by.as_str()).to_owned();
                    *self.refused.entry((name, by)).or_default() += 1;
                }
            }
            _ => {}
        }
    }

    pub(crate) fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }
}

/// Runs of one agent that were active in the time of a session, of which nothing says which one is the session's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AmbiguousRuns {
    pub(crate) agent_name: String,
    /// Number of its processes, as far as they can be told apart.
    pub(crate) runs: usize,
    /// Number of sessions that one of the runs can belong to.
    pub(crate) sessions: usize,
    /// True if the process of the run started the proxies of each of these sessions.
    pub(crate) is_by_process: bool,
}

impl AmbiguousRuns {
    /// Returns what is known, what follows, and the way out.
    pub(crate) fn facts(&self) -> [String; 3] {
        let AmbiguousRuns { agent_name, runs, sessions, is_by_process } = self;
        let runs = if *runs == 1 { "a run".to_owned() } else { format!("{runs} runs") };
        let known = match sessions {
            0 | 1 => format!("agent: {runs} of {agent_name} at this time, and no id says which one"),
            _ => format!(
                "agent: {runs} of {agent_name} and {sessions} sessions at this time, and no id says which belong together"
            ),
        };
        let known_if = match is_by_process {
            true => "each session has a process of the agent of its own",
            false => {
                "its reports have its process id (`process.pid`) and it starts spantap itself, without npx"
            }
        };
        let way_out = format!("`spantap stats --by turn` has them; a run is known if {known_if}");
        [known, "what they reported is left out".to_owned(), way_out]
    }
}
