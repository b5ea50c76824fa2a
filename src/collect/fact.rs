//! Facts of agents, as one span or event reports them.

use sha2::{Digest, Sha256};

use crate::record::agent::AgentRecord;
use crate::record::timestamp::Timestamp;

/// Bit of the span that a fact is.
pub(super) const SPAN: u8 = 1;
/// Bit of the log record that reports the end of a fact.
pub(super) const LOG: u8 = 2;

/// A fact of an agent, or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentFact {
    /// The record as far as this part knows it. It has no number, no connection and no `fact_id` yet.
    pub(super) record: AgentRecord<'static>,
    /// Id that the parts of one fact have in common.
    pub(super) key: FactHash,
    /// Id of this part alone.
    pub(super) own: FactHash,
    /// Begin and end of the part, if several facts have the same key and only their times differ.
    pub(super) within: Option<(Timestamp, Timestamp)>,
    /// Bit of this part.
    pub(super) part: u8,
    /// Bits of the parts that make the fact whole.
    pub(super) parts: u8,
    /// True if the part only adds to a fact that another part reports.
    pub(super) is_addition: bool,
}

impl AgentFact {
    /// Returns the id of a fact with a key that other facts have, too.
    pub(super) fn id(&self) -> FactHash {
        FactHash::of([&self.key.0[..], &self.own.0])
    }
}

/// First eight bytes of the SHA-256 of some texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct FactHash(pub(super) [u8; 8]);

impl FactHash {
    /// Returns the hash of the texts; each is preceded by its length, so that no two lists are the same bytes.
    pub(super) fn of<'t>(texts: impl IntoIterator<Item = &'t [u8]>) -> FactHash {
        let mut hash = Sha256::new();
        for text in texts {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hash.finalize()[..8]);
        FactHash(first)
    }
}
