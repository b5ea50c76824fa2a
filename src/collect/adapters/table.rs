//! The form of an agent's table: which spans and events are facts, and which attribute is which field.

use crate::collect::fact::{LOG, SPAN};
use crate::record::EventName;

/// The names of one agent.
pub(super) struct AgentTable {
    /// Name of the agent in records; empty for the name of the service.
    pub(super) agent: &'static str,
    /// Whole values of `service.name`.
    pub(super) services: &'static [&'static str],
    /// Names of spans and events that no other program sends: a service that sends one is this agent, whatever its name.
    pub(super) own_names: &'static [&'static str],
    /// Attributes of the resource or record that every row reads.
    pub(super) common: Fields,
    /// True if a trace is one turn.
    pub(super) trace_is_turn: bool,
    /// True if the agent's input tokens contain those that were read from or written to the cache. Those of records do.
    pub(super) input_has_cached: bool,
    /// Provider and operation of model calls that do not name theirs, in the words of the conventions; empty if they
    /// are not known.
    pub(super) provider: &'static str,
    pub(super) operation: &'static str,
    pub(super) spans: &'static [Row],
    pub(super) events: &'static [Row],
}

/// Fields, each with an attribute. The first attribute that a field finds is its value. `a#b` is the member `b` of the
/// JSON object in `a`.
pub(super) type Fields = &'static [(FieldSlot, &'static str)];

/// The attribute of a span's event `exception` that names the kind of the error.
pub(super) const EXCEPTION: &str = "exception.type";

/// A span or event that is a fact or a part of one.
#[derive(Clone, Copy)]
pub(super) struct Row {
    /// Name of the span or event; empty for any name.
    pub(super) name: &'static str,
    /// An attribute that it must have, and its value; an empty value is any value.
    pub(super) only: Option<(&'static str, &'static str)>,
    pub(super) event: EventName,
    pub(super) part: u8,
    pub(super) parts: u8,
    /// Ids that the parts of the fact have in common. The first list that is complete counts. A fact whose items have
    /// none is one item; such an item is not a fact if it is neither the span nor the end of one, since another item
    /// reports the same fact.
    pub(super) keys: &'static [&'static [KeyPart]],
    /// True if the fields belong to the fact of the parent span.
    pub(super) is_of_parent: bool,
    /// True if the item only adds to a fact that another item reports: alone it is not one.
    pub(super) is_addition: bool,
    /// True if begin and end are those of the fact.
    pub(super) has_times: bool,
    /// True if the status of the span is that of the fact.
    pub(super) has_status: bool,
    /// True if the event reports that the fact failed.
    pub(super) is_failure: bool,
    pub(super) fields: Fields,
}

pub(super) const SPAN_ROW: Row = Row {
    name: "",
    only: None,
    event: EventName::AgentTool,
    part: SPAN,
    parts: SPAN | LOG,
    keys: &[],
    is_of_parent: false,
    is_addition: false,
    has_times: true,
    has_status: false,
    is_failure: false,
    fields: &[],
};

pub(super) const LOG_ROW: Row = Row { part: LOG, ..SPAN_ROW };

/// A part of the id of a fact.
#[derive(Clone, Copy)]
pub(super) enum KeyPart {
    Attribute(&'static str),
    /// An attribute, or nothing if the item does not have it.
    AnyAttribute(&'static str),
    Trace,
    Span,
    Parent,
    /// A fixed word, which separates the ids of one row from those of another.
    Word(&'static str),
    /// Nothing. Several facts can have the other parts of the id in common, and only their times tell them apart.
    ByTime,
}

/// A field of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldSlot {
    Session,
    Conversation,
    Turn,
    Version,
    Pid,
    Provider,
    Operation,
    Model,
    InputTokens,
    /// Input tokens that the agent does not count in the attribute of [`FieldSlot::InputTokens`].
    MoreInputTokens,
    OutputTokens,
    /// Output tokens that the agent does not count in the attribute of [`FieldSlot::OutputTokens`].
    MoreOutputTokens,
    CachedTokens,
    CacheWriteTokens,
    CostUsd,
    FirstTokenMs,
    Attempt,
    /// Number of the attempt, counted from 0.
    AttemptFromZero,
    /// An id of a tool call that the model asked for.
    CallIds,
    CallId,
    ToolName,
    ToolServer,
    /// A word: whether the call was allowed.
    Decision,
    /// A word: who decided.
    DecidedBy,
    /// Milliseconds that the fact took; the begin follows from it.
    Duration,
    /// True or false: whether the fact succeeded.
    Success,
    ErrorType,
}
