//! Counts of the requests into which trace context was inserted, and of the lines that stayed as they were.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lines of the client, with `--propagate meta`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ContextCounts {
    /// Requests into which trace context was inserted.
    pub inserted: u64,
    /// Requests that contained trace context already.
    pub has_context: u64,
    /// Requests without an object `params`, or whose `_meta` is not an object.
    pub no_params: u64,
    /// Notifications, answers and other objects.
    pub not_a_request: u64,
    pub batch: u64,
    /// Objects in which a member that decides is there twice.
    pub duplicate: u64,
    /// Lines that are not JSON or not UTF-8, or are nested too deeply.
    pub invalid: u64,
    /// Lines that are longer than the pump holds back.
    pub too_long: u64,
    /// Lines whose rest did not arrive in time.
    pub incomplete: u64,
}

/// Reason why a line of the client got no trace context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextOmission {
    HasContext,
    NoParams,
    NotARequest,
    Batch,
    Duplicate,
    Invalid,
    TooLong,
    Incomplete,
}

impl ContextOmission {
    pub(crate) const COUNT: usize = ContextOmission::Incomplete as usize + 1;
}
