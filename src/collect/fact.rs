//! Facts of agents, as one span or event reports them.

use crate::record::agent::AgentRecord;

/// A fact of an agent, or a part of one. The parts of a fact have the same `fact_id`.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentFact {
    /// The record as far as this part knows it. It has no number and no connection yet.
    pub record: AgentRecord<'static>,
    /// Bit of this part among `parts`.
    pub part: u8,
    /// Bits of all parts that a whole fact has. A part that is all of it is not held back.
    pub parts: u8,
}
