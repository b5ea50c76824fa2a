//! Adds up what agents reported of their model calls, turns and decisions. Nothing here is an estimate of spantap.

use std::collections::BTreeMap;

use crate::record::EventName;
use crate::record::agent::AgentRecord;
use crate::record::words::{CostSource, Status, ToolDecision};

/// Tokens and cost of model calls.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ModelTotals {
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    /// Calls whose tokens were reported.
    pub(crate) told: u64,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) cached_tokens: u64,
    pub(crate) cost_usd: f64,
    /// Calls whose cost was reported, or calculated by the prices of the config file.
    pub(crate) priced: u64,
    /// Calls of which the cost was calculated.
    pub(crate) calculated: u64,
    pub(crate) ms: f64,
}

impl ModelTotals {
    pub(crate) fn add(&mut self, record: &AgentRecord<'_>) {
        let tokens = |tokens: Option<u64>| tokens.unwrap_or(0);
        self.merge(&ModelTotals {
            calls: 1,
            errors: u64::from(record.status == Some(Status::Error)),
            told: u64::from(record.input_tokens.is_some() || record.output_tokens.is_some()),
            input_tokens: tokens(record.input_tokens),
            output_tokens: tokens(record.output_tokens),
            cached_tokens: tokens(record.cached_tokens),
            cost_usd: record.cost_usd.filter(|cost| cost.is_finite()).unwrap_or(0.0),
            priced: u64::from(record.cost_usd.is_some()),
            calculated: u64::from(
                record.cost_usd.is_some() && record.cost_source == Some(CostSource::Config),
            ),
            ms: record.duration_ms.as_ref().map_or(0.0, |ms| ms.0.max(0.0)),
        });
    }

    /// Takes tokens, cost and time from another part of the same call where they are missing here.
    pub(super) fn fill(&mut self, other: &ModelTotals) {
        if self.told == 0 {
            let ModelTotals { told, input_tokens, output_tokens, cached_tokens, .. } = *other;
            *self = ModelTotals { told, input_tokens, output_tokens, cached_tokens, ..*self };
        }
        if self.priced == 0 {
            let ModelTotals { priced, calculated, cost_usd, .. } = *other;
            *self = ModelTotals { priced, calculated, cost_usd, ..*self };
        }
        if self.ms == 0.0 {
            self.ms = other.ms;
        }
        self.errors = self.errors.max(other.errors);
    }

    pub(crate) fn merge(&mut self, other: &ModelTotals) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.told += other.told;
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(other.cached_tokens);
        self.cost_usd += other.cost_usd;
        self.priced += other.priced;
        self.calculated += other.calculated;
        self.ms += other.ms;
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
    pub(crate) turns: u64,
    pub(crate) tools: u64,
    /// Tools that were refused before any server was asked, by name and maker of the decision.
    pub(crate) refused: BTreeMap<(String, String), u64>,
    /// Time for which the agent waited for a person.
    pub(crate) person_wait_ms: f64,
}

impl AgentTotals {
    pub(super) fn add(&mut self, record: &AgentRecord<'_>) {
        match record.event {
            EventName::AgentTurn => self.turns += 1,
            EventName::ModelCall => {
                self.models.add(record);
                let model = record.model.as_deref().unwrap_or_default();
                self.by_model.entry(model.to_owned()).or_default().add(record);
            }
            EventName::AgentTool => {
                self.tools += 1;
                self.person_wait_ms += record.person_wait_ms.as_ref().map_or(0.0, |ms| ms.0.max(0.0));
                if record.decision == Some(ToolDecision::Refused) {
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
