//! The events that the observer emits.
//!
//! A text from outside is always a [`Redacted`]. All other fields are numbers, moments, hashes or words
//! of a closed list. A test reads the declarations in this file, so that a new field cannot carry text
//! past the redactor.

use std::borrow::Cow;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::observe::canonical::Hash;
use crate::observe::mcp::Method;
use crate::observe::redact::{Redacted, RedactionCounts};
use crate::observe::traceparent::{SpanId, TraceFlags, TraceId};
use crate::relay::chunk::{Moment, Stream};
use crate::text::words::words;

mod context;
mod debug;
mod tools;

pub use context::{ContextCounts, ContextOmission};
pub use debug::{BodiesState, Body, BodyPart, DebugStarted};
pub use tools::{ChangedTool, LintedTool, ListedTool, ToolsChanged, ToolsLinted, ToolsListed};

/// Takes events in their order, on the thread that runs the observer. A sink drops and counts the events that
/// it cannot take. It waits for its own queue for a bounded time only.
pub trait Sink {
    fn record(&mut self, event: &Event);
}

#[derive(Clone, Debug)]
pub struct Event {
    /// Number of this event among the recorded events of the connection, from 0. A missing number in the
    /// log is a lost record. An event that is not recorded ([`EventKind::is_recorded`]) repeats the last one.
    pub seq: u64,
    /// When the event happened; for an operation, when it ended.
    pub at: Moment,
    pub conversation_id: Option<Redacted>,
    pub turn_id: Option<Redacted>,
    pub kind: EventKind,
}

#[derive(Clone, Debug)]
pub enum EventKind {
    SessionStarted(Box<SessionStarted>),
    PeerIdentified(Box<PeerIdentified>),
    /// A request and its end. Every observed request makes exactly one operation.
    Operation(Box<Operation>),
    /// A call has been open for `--slow`; again after ten times as long.
    CallPending(Box<PendingCall>),
    /// The server has sent no message since a pending call began.
    ServerUnresponsive(Box<PendingCall>),
    AgentThrashing(Box<Thrashing>),
    /// The outcome of a task whose call is not of this connection.
    TaskEnded(Box<TaskEnded>),
    /// The tool definitions differ from those of the last session with this server.
    ToolsChanged(ToolsChanged),
    /// A page of a `tools/list` answer. It is recorded if it differs from the one before.
    ToolsListed(Box<ToolsListed>),
    /// Names of at most 500 prompts of one `prompts/list` answer. For metrics only; not recorded.
    PromptsListed(Vec<Redacted>),
    /// Tools that hosts refuse or cut, once for each definition.
    ToolsLinted(Box<ToolsLinted>),
    /// Lines of one stream that are not JSON-RPC, since the last such event.
    Malformed(Malformed),
    /// An answer or a cancellation that belongs to no open request.
    Unmatched(Unmatched),
    Gap(Lost),
    /// Debug only: the beginning of a tool's result, in at most 200 redacted characters.
    ToolResult(Box<ToolResult>),
    /// Debug only.
    Notification(Box<Notification>),
    /// Debug only: one line of the server's stderr.
    ServerStderr(ServerStderr),
    /// `spantap debug` has turned debug on, or has changed its end.
    DebugStarted(DebugStarted),
    /// The time of `--debug-for` or of `spantap debug` is over, and debug is off.
    DebugEnded,
    /// Arguments or a result, for the bodies file only; not recorded.
    Body(Box<Body>),
    /// Measurements of the server process and of the proxy. For metrics only; not recorded.
    StatsSample(Box<StatsSample>),
    SessionEnded(Box<SessionEnded>),
}

impl EventKind {
    /// Returns true if this event becomes a line in the log.
    pub(crate) fn is_recorded(&self) -> bool {
        match self {
            EventKind::ToolsListed(listed) => listed.is_recorded,
            EventKind::PromptsListed(_) | EventKind::StatsSample(_) | EventKind::Body(_) => false,
            _ => true,
        }
    }
}

/// One request with its answer, or with the reason why it has none.
#[derive(Clone, Debug)]
pub struct Operation {
    pub facts: CallFacts,
    pub answer: CallAnswer,
    pub timing: CallTiming,
    /// Requests that this operation represents: more than 1 in a flood of requests of the server that are alike.
    pub count: u64,
    /// Replacements by the redactor in this operation's texts, by class. Debug only.
    pub redactions: RedactionCounts,
}

/// The facts of a request, all known when it arrives. Thousands of requests may be open, so what few have is boxed.
#[derive(Clone, Debug)]
pub struct CallFacts {
    /// The JSON text of the id: `1` and `"1"` are different.
    pub request_id: Redacted,
    pub direction: Direction,
    pub method: Method,
    /// The method's name as it is logged. Names that differ may be equal after redaction.
    pub method_name: Redacted,
    pub target: Option<CallTarget>,
    /// The MCP revision in force for this request, as the peers sent it (`2025-11-25`).
    pub protocol_version: Option<Redacted>,
    /// The member `jsonrpc`, if it is not `2.0`.
    pub jsonrpc_version: Option<Redacted>,
    /// Hash of `params.arguments`; `tools/call` and `prompts/get` only.
    pub args_hash: Option<Hash>,
    /// Length of `params.arguments` as received, in bytes.
    pub args_size: Option<u64>,
    /// Length of the request's line without its newline, in bytes.
    pub request_size: u64,
    /// Number of calls with the same server, tool and `args_hash` in this conversation, with this one; from 2 on.
    pub repeat_count: Option<u32>,
    /// True if `repeat_count` is above the thrash threshold.
    pub thrashing: bool,
    /// The number of such calls; at most the threshold while they make progress. For metrics only.
    pub alarming_repeats: u32,
    pub call_id: Option<Redacted>,
    /// The model that asked for the call, if the host names it.
    pub model: Option<Redacted>,
    /// The attempt that this request continues (multi round-trip requests).
    pub continues: Option<Box<Round>>,
    /// Hash of `params.taskId`.
    pub task_id_hash: Option<Box<Hash>>,
    pub span: Span,
}

/// The answer to a request, or the reason why it is missing.
#[derive(Clone, Debug, Default)]
pub struct CallAnswer {
    pub status: Status,
    pub error_type: Option<ErrorType>,
    /// The JSON-RPC error code.
    pub error_code: Option<i64>,
    pub error_message: Option<Redacted>,
    /// Length of `result` (or `error`) as received, in bytes.
    pub size: Option<u64>,
    /// The host's limit in tokens, if a tool's result is longer.
    pub over_limit: Option<u64>,
    /// Hash of the bytes of `result` as received.
    pub result_hash: Option<Hash>,
    /// Hash of the decoded text of `content[]`, if `content[]` is one text block of at most 256 KiB.
    pub text_hash: Option<Hash>,
    /// Hash of the task id in the result.
    pub task_id_hash: Option<Hash>,
    pub cancelled_at: Option<Moment>,
    /// The JSON text of the id in the answer or cancellation, if it differs from the request's.
    pub answer_id: Option<Redacted>,
    /// For a call that was answered with a task: true if its result was seen.
    pub task_result_seen: Option<bool>,
    /// True if the result was observed in part only, or was not hashed because of load.
    pub truncated: bool,
}

/// The outcome of a task that an earlier connection began.
#[derive(Clone, Debug)]
pub struct TaskEnded {
    pub id: Hash,
    pub answer: CallAnswer,
    pub redactions: RedactionCounts,
}

/// When a request began and ended, and what happened while it was open.
#[derive(Clone, Debug, Default)]
pub struct CallTiming {
    /// Read time of the chunk with the request's last byte.
    pub started: Moment,
    /// Read time of the chunk with the answer's last byte, or the moment at which we stopped waiting.
    pub ended: Moment,
    /// When the call was first reported as pending (`--slow`).
    pub pending_at: Option<Moment>,
    pub progress: Option<CallProgress>,
    /// Time for which at least one elicitation or sampling was open that began while this was the only open tool call.
    pub user_wait: Duration,
    /// When the call was answered with a task.
    pub task_handle: Option<Moment>,
}

/// One attempt of a multi round-trip request.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// The `seq` of the attempt's operation.
    pub seq: u64,
    pub trace_id: TraceId,
    pub span_id: SpanId,
}

#[derive(Clone, Debug)]
pub enum CallTarget {
    Tool(Redacted),
    Prompt(Redacted),
    Resource(Redacted),
}

impl CallTarget {
    pub(crate) fn text(&self) -> &Redacted {
        let (CallTarget::Tool(text) | CallTarget::Prompt(text) | CallTarget::Resource(text)) = self;
        text
    }
}

/// The span of an operation or a connection.
#[derive(Clone, Debug)]
pub struct Span {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    /// The caller's span from `_meta.traceparent`, or else the connection span.
    pub parent_span_id: Option<SpanId>,
    /// The connection span, if it is not the parent.
    pub linked: Option<(TraceId, SpanId)>,
    pub trace_state: Option<Redacted>,
    pub flags: TraceFlags,
}

#[derive(Clone, Copy, Debug)]
pub struct CallProgress {
    pub count: u64,
    pub first: Moment,
    pub last: Moment,
}

words! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub enum Direction { ClientToServer = "client_to_server", ServerToClient = "server_to_client" }
}

impl Direction {
    /// Returns the direction of the messages on `stream`; `None` for stderr, which carries no protocol.
    pub(crate) fn of(stream: Stream) -> Option<Direction> {
        match stream {
            Stream::Stdin => Some(Direction::ClientToServer),
            Stream::Stdout => Some(Direction::ServerToClient),
            Stream::Stderr => None,
        }
    }

    /// Returns the stream that carries the messages of this direction.
    pub(crate) fn stream(self) -> Stream {
        match self {
            Direction::ClientToServer => Stream::Stdin,
            Direction::ServerToClient => Stream::Stdout,
        }
    }

    /// Returns the direction of an answer to a message of this direction.
    pub(crate) fn reversed(self) -> Direction {
        match self {
            Direction::ClientToServer => Direction::ServerToClient,
            Direction::ServerToClient => Direction::ClientToServer,
        }
    }
}

words! {
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub enum Status {
        Ok = "ok",
        Error = "error",
        /// A person or a policy refused the request.
        Denied = "denied",
        Timeout = "timeout",
        Cancelled = "cancelled",
        /// The answer was not observed, or a newer version wrote the status; never counted in error rates.
        #[default]
        Unknown = "unknown",
    }
}

impl Status {
    /// Returns true if the ending is known and not good.
    pub(crate) fn is_failure(self) -> bool {
        !matches!(self, Status::Ok | Status::Unknown)
    }

    /// Returns true if the ending is a failure that no person or policy caused by a refusal.
    pub(crate) fn is_error(self) -> bool {
        self.is_failure() && self != Status::Denied
    }
}

/// The reason why an operation failed: the closed list of `error_type` and `error.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// The JSON-RPC code, written as decimal text.
    Code(i64),
    /// `result.isError` was true.
    ToolError,
    /// An elicitation was declined, or a sampling rejected.
    Declined,
    /// A person closed a question without an answer.
    Dismissed,
    Timeout,
    Cancelled,
    /// The task of the call failed; its result was not seen.
    TaskFailed,
    /// The connection ended before the task of the call.
    TaskOpen,
    /// The server ended before it answered.
    ServerExited,
    /// The session ended before the answer.
    Unanswered,
    /// The same side sent the same id again while the request was open.
    Superseded,
    /// Bytes that may have held the answer were not observed.
    Gap,
    /// Too many requests were open, and this one was the oldest.
    Evicted,
    /// An answer whose `result` is not an object, or whose `error` has no code.
    InvalidResponse,
}

impl ErrorType {
    /// Returns the word (or code) that records and spans contain.
    pub(crate) fn text(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            ErrorType::Code(code) => return Cow::Owned(code.to_string()),
            ErrorType::ToolError => "tool_error",
            ErrorType::Declined => "declined",
            ErrorType::Dismissed => "dismissed",
            ErrorType::Timeout => "timeout",
            ErrorType::Cancelled => "cancelled",
            ErrorType::TaskFailed => "task_failed",
            ErrorType::TaskOpen => "task_open",
            ErrorType::ServerExited => "server_exited",
            ErrorType::Unanswered => "unanswered",
            ErrorType::Superseded => "superseded",
            ErrorType::Gap => "gap",
            ErrorType::Evicted => "evicted",
            ErrorType::InvalidResponse => "invalid_response",
        })
    }
}

/// The first event of every connection: its processes, command and folder.
#[derive(Clone, Debug)]
pub struct SessionStarted {
    pub pid: u32,
    /// Absent if the server could not be started.
    pub child_pid: Option<u32>,
    /// The process that started spantap; absent if it is in another pid namespace.
    pub host_pid: Option<u32>,
    /// The command and its arguments, redacted element by element.
    pub command: Vec<Redacted>,
    /// Names of the variables in the server's environment, without their values.
    pub environment: Vec<Redacted>,
    pub session_source: SessionSource,
    /// Working folder of the server, with the home folder as `~`.
    pub cwd: Option<Redacted>,
    /// The entry of a host's config file that started spantap, such as `claude-code/user`.
    pub origin: Option<Redacted>,
    /// The connection span.
    pub span: Span,
    /// First four bytes of the SHA-256 of the hash key; absent for unkeyed hashes.
    pub hash_key_id: Option<[u8; 4]>,
    /// When the server process was started.
    pub spawned: Moment,
    /// The host's stdout and stderr are one stream, so spantap writes no message of its own there.
    pub stderr_is_stdout: bool,
    /// This connection is the first of its session, and the parent of its span is the root span of the session.
    pub begins_session: bool,
}

words! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum SessionSource {
        Flag = "flag",
        /// A variable of spantap.
        Environment = "environment",
        /// A variable that the host sets.
        Host = "host",
        /// The host process.
        Derived = "derived",
    }
}

/// The known names of both peers, after a peer sent one.
#[derive(Clone, Debug)]
pub struct PeerIdentified {
    pub client_name: Option<Redacted>,
    pub client_version: Option<Redacted>,
    pub server_name: Option<Redacted>,
    pub server_version: Option<Redacted>,
    pub protocol_version: Option<Redacted>,
}

#[derive(Clone, Debug)]
pub struct PendingCall {
    pub request_id: Redacted,
    pub direction: Direction,
    pub method: Redacted,
    pub target: Option<CallTarget>,
    pub started: Moment,
    pub open_for: Duration,
    /// Requests that are open at this moment, in both directions.
    pub in_flight: u64,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct Thrashing {
    pub request_id: Redacted,
    pub tool: Redacted,
    pub args_hash: Hash,
    pub count: u32,
    /// True if the results are equal too, or all calls failed with the same error.
    pub no_progress: bool,
    /// True if it is an alarm: without progress, or at four times the threshold.
    pub is_alarm: bool,
    /// Number of different calls that are repeated in the same order; `count` is the number of rounds.
    pub cycle_length: Option<u32>,
    pub span: Span,
}

#[derive(Clone, Copy, Debug)]
pub struct Malformed {
    pub stream: Stream,
    /// Lines since the last such event.
    pub count: u64,
    /// Length of the last line, in bytes.
    pub size: u64,
    pub reason: MalformedReason,
}

words! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub enum MalformedReason {
        /// A line that is not JSON, such as a banner, a log line or binary data.
        NotJson = "not_json",
        /// JSON that is not a JSON-RPC message.
        NotJsonRpc = "not_json_rpc",
    }
}

#[derive(Clone, Debug)]
pub struct Unmatched {
    pub request_id: Option<Redacted>,
    pub direction: Direction,
    pub what: UnmatchedKind,
    pub error_code: Option<i64>,
    /// Messages of this direction and kind since the last such event.
    pub count: u64,
}

words! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum UnmatchedKind { Response = "response", Error = "error", Cancellation = "cancellation",
        LateCancellation = "late_cancellation" }
}

#[derive(Clone, Copy, Debug)]
pub struct Lost {
    pub place: LossPlace,
    pub stream: Option<Stream>,
    pub bytes: u64,
    /// Frames that were lost with the bytes.
    pub frames: u64,
    pub records: u64,
    pub reason: &'static str,
}

words! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub enum LossPlace {
        /// Between the relay and the observer: bytes.
        Tap = "tap",
        /// Between the observer and the outputs: records.
        Observer = "observer",
        Log = "log",
        Bodies = "bodies",
        Otlp = "otlp",
    }
}

#[derive(Clone, Debug)]
pub struct ToolResult {
    pub request_id: Redacted,
    pub tool: Redacted,
    pub summary: Redacted,
    pub result_hash: Option<Hash>,
    pub redactions: RedactionCounts,
}

#[derive(Clone, Debug)]
pub struct Notification {
    pub direction: Direction,
    pub method: Redacted,
    /// The text of `notifications/message`, or the reason of a cancellation.
    pub text: Option<Redacted>,
    pub size: u64,
    pub redactions: RedactionCounts,
}

#[derive(Clone, Debug)]
pub struct ServerStderr {
    pub line: Redacted,
    /// Length of the line as the server wrote it, in bytes.
    pub size: u64,
    pub redactions: RedactionCounts,
}

/// Measurements for metrics, taken about once a second during traffic.
#[derive(Clone, Debug, Default)]
pub struct StatsSample {
    /// Requests that are open, in both directions.
    pub in_flight: u64,
    /// Resident memory of the server process, in bytes.
    pub server_rss: Option<u64>,
    /// CPU time of the server process, user and system.
    pub server_cpu: Option<Duration>,
    /// Time from the start of the server process to its first answer.
    pub server_first_answer: Option<Duration>,
    /// Times from the read to the write of a chunk since the last sample: upper bound in nanoseconds (a
    /// power of two), and count.
    pub added_latency: Vec<(u64, u64)>,
    /// Bytes in the fullest ring.
    pub ring_depth: u64,
}

#[derive(Clone, Debug)]
pub struct SessionEnded {
    pub reason: EndReason,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    /// spantap killed the server, because it did not end when its host was gone.
    pub orphan_killed: bool,
    pub totals: Totals,
    /// Why the server could not be started.
    pub start_error: Option<Redacted>,
    /// The last lines of stderr, if the end was abnormal.
    pub stderr_tail: Vec<Redacted>,
}

words! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum EndReason {
        /// The server exited after its stdin was closed, or because of a forwarded signal.
        ServerExited = "server_exited",
        /// The server ended without being asked to.
        ServerDied = "server_died",
        SpawnFailed = "spawn_failed",
    }
}

/// Sums over a connection, in the record `session_ended`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Totals {
    pub tool_calls: u64,
    /// Requests that are not tool calls.
    pub other_requests: u64,
    /// Requests of the client with status `error` or `timeout`. The failure of a task counts at its call, and not at
    /// `tasks/result`.
    pub errors: u64,
    /// Requests of the client with status `denied`, with tasks as in `errors`.
    pub denied: u64,
    pub notifications: u64,
    pub malformed: u64,
    pub unmatched: u64,
    /// Turns with a tool call. Each counts once, also if its calls are mixed with calls of other turns.
    pub turns: u64,
    pub stdin_bytes: u64,
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
    pub stdin_frames: u64,
    pub stdout_frames: u64,
    pub stderr_frames: u64,
    /// Bytes that were forwarded but not observed.
    pub bytes_lost: u64,
    /// Frames that were forwarded but not observed.
    pub frames_lost: u64,
    pub catch_ups: u64,
    /// Frames whose body was not hashed because of load.
    pub envelope_only: u64,
    pub observer_panics: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ContextCounts")]
    pub trace_context: Option<ContextCounts>,
}
