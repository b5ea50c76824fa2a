//! Finds remarkable reports of a session's agent: model calls that failed, and tools that were refused before a server
//! was asked.

use serde::Serialize;

use crate::query::agents::RunFact;
use crate::query::agents::chain::{ChainItem, ChainNode, SessionChain};
use crate::query::time_spent::AgentTimes;
use crate::record::words::{Decider, Status, ToolDecision};

/// The reports of the agent of one session.
#[derive(Clone, Debug, Default)]
pub(crate) struct AgentStory {
    pub(super) times: AgentTimes,
    pub(super) failures: Vec<ModelFailureFact>,
    pub(super) refusals: Vec<RefusalFact>,
}

/// Calls of one model that failed for the same reason.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ModelFailureFact {
    /// Absent if the agent did not report it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    /// The agent's word for the reason; absent if it reported none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error_type: Option<String>,
    pub(crate) count: u64,
    /// Number of calls of this model in the session.
    pub(crate) calls: u64,
    /// Time that the failed ones took, as far as the agent reported it.
    pub(crate) failed_ms: f64,
    /// Handle of the first of them.
    pub(crate) handle: String,
}

/// A tool that was refused before a server was asked.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RefusalFact {
    pub(crate) tool_name: String,
    /// Absent if the tool has no server, or if the agent did not report it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool_server: Option<String>,
    /// The one that refused it; absent if the agent did not report it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decided_by: Option<Decider>,
    pub(crate) count: u64,
    /// Handle of the last of them.
    pub(crate) handle: String,
}

impl AgentStory {
    pub(crate) fn new(chain: SessionChain<'_>) -> AgentStory {
        let mut found = AgentStory::default();
        chain.turns.iter().for_each(|turn| found.take(turn));
        for failure in &mut found.failures {
            let of_model = chain.totals.by_model.get(failure.model.as_deref().unwrap_or_default());
            failure.calls = of_model.map_or(failure.count, |totals| totals.calls);
        }
        // The sorts are stable: equal ones stay in the order of time.
        found.failures.sort_by_key(|fact| std::cmp::Reverse(fact.count));
        found.refusals.sort_by_key(|fact| std::cmp::Reverse(fact.count));
        found.times = chain.times;
        found
    }

    fn take(&mut self, node: &ChainNode<'_>) {
        match node.item {
            ChainItem::Model(fact) if fact.record.status == Some(Status::Error) => self.take_failure(fact),
            ChainItem::Tool(fact)
                if fact.record.decision == Some(ToolDecision::Refused)
                    && node.count(&|item| matches!(item, ChainItem::Operation(_))) == 0 =>
            {
                self.take_refusal(fact);
            }
            _ => {}
        }
        node.children.iter().for_each(|child| self.take(child));
    }

    fn take_failure(&mut self, fact: &RunFact<'_>) {
        let (model, error_type) = (fact.record.model.as_deref(), fact.record.error_type.as_deref());
        let ms = fact.length_ms().unwrap_or(0.0);
        let is_same = |known: &&mut ModelFailureFact| {
            (known.model.as_deref(), known.error_type.as_deref()) == (model, error_type)
        };
        match self.failures.iter_mut().find(is_same) {
            Some(known) => (known.count, known.failed_ms) = (known.count + 1, known.failed_ms + ms),
            None => self.failures.push(ModelFailureFact {
                model: model.map(str::to_owned),
                error_type: error_type.map(str::to_owned),
                count: 1,
                calls: 0,
                failed_ms: ms,
                handle: fact.handle(),
            }),
        }
    }

    fn take_refusal(&mut self, fact: &RunFact<'_>) {
        let name = fact.record.tool_name.as_deref().unwrap_or_default();
        let (server, by) = (fact.record.tool_server.as_deref(), fact.record.decided_by);
        let is_same = |known: &&mut RefusalFact| {
            (&*known.tool_name, known.tool_server.as_deref(), known.decided_by) == (name, server, by)
        };
        match self.refusals.iter_mut().find(is_same) {
            Some(known) => (known.count, known.handle) = (known.count + 1, fact.handle()),
            None => self.refusals.push(RefusalFact {
                tool_name: name.to_owned(),
                tool_server: server.map(str::to_owned),
                decided_by: by,
                count: 1,
                handle: fact.handle(),
            }),
        }
    }
}
