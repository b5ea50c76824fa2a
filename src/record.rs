//! The log record, `spantap/1`: the contract between the proxy and every reader of its logs.
//!
//! A record is one flat JSON object on one line. An unknown field is absent, never null. [`Record::new`] alone
//! turns an event into a record; the log line, the live span, the metric point and the span that `spantap
//! export` sends later are all made from the record, so they cannot disagree.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::timestamp::Timestamp;
use crate::record::words::{Direction, LossPlace, SessionSource, Status, Stream, UnmatchedKind};

pub mod cost;
pub(crate) mod file_name;
mod from_event;
mod identity;
pub(crate) mod line;
pub mod schema;
pub mod timestamp;
pub(crate) mod words;

pub(crate) use from_event::tokens;
pub use identity::Identity;
pub use timestamp::ClockAnchor;
pub use words::{EventName, Level};

/// The only value of `schema` that this version writes.
pub const SCHEMA: &str = "spantap/1";

type RecordText<'a> = Option<Cow<'a, str>>;

/// One line of a session log. Which fields an event carries stands in `docs/log.md`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Record<'a> {
    // ---- on every record ----
    /// The version of this contract, `spantap/1`.
    #[serde(borrow)]
    pub schema: Cow<'a, str>,
    /// When it happened, by the wall clock; for an operation, when it ended.
    pub timestamp: Timestamp,
    /// `debug`, `info`, `warn` or `error`; never parse the message for it.
    pub level: Level,
    /// What happened; decides which other fields there are.
    pub event: EventName,
    /// The event in words, for people; never parse it.
    #[serde(borrow)]
    pub message: Cow<'a, str>,
    /// Number of the record in its connection, from 0. A missing number is a lost record.
    pub seq: u64,
    /// The agent run: groups the connections of all servers that one host process started.
    #[serde(borrow)]
    pub session_id: Cow<'a, str>,
    /// UUIDv7 of this spantap process, that is of this stdio connection.
    #[serde(borrow)]
    pub connection_id: Cow<'a, str>,
    /// The server, as configured or derived from its command.
    #[serde(borrow)]
    pub server_name: Cow<'a, str>,
    // ---- on every record, where known ----
    /// The MCP host (`claude-code`): what the client calls itself.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub host_name: RecordText<'a>,
    /// The person on whose behalf the host runs, if somebody configured one.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub user_id: RecordText<'a>,
    /// The host's id of the conversation, where a request or the host's environment tells it.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub conversation_id: RecordText<'a>,
    /// One question of the user and what the agent does about it: the host's id, the caller's trace, or a
    /// number that a pause moves on.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub turn_id: RecordText<'a>,
    // ---- operations ----
    /// The JSON text of the request's id: `1` and `"1"` are different.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub request_id: RecordText<'a>,
    /// `client_to_server` or `server_to_client`: who asked, or who sent it.
    #[serde(deserialize_with = "words::known", skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// The JSON-RPC method, such as `tools/call`.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub method: RecordText<'a>,
    /// `params.name` of `tools/call`.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub tool_name: RecordText<'a>,
    /// `params.name` of `prompts/get`.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub prompt_name: RecordText<'a>,
    /// `params.uri`, with credentials and secret query values replaced.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub resource_uri: RecordText<'a>,
    /// The MCP revision in force, such as `2025-11-25`.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub protocol_version: RecordText<'a>,
    /// The `jsonrpc` member, only where it is not `2.0`.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub jsonrpc_version: RecordText<'a>,
    /// `hmac-sha256:<64 hex>` of the canonical arguments.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub args_hash: RecordText<'a>,
    /// `hmac-sha256-raw:<64 hex>` of the bytes of `result`.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub result_hash: RecordText<'a>,
    /// `hmac-sha256-raw:<64 hex>` of the one text block of `content[]`, decoded: what the model saw.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub text_hash: RecordText<'a>,
    /// When the request's last byte was read from the asker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When the answer's last byte was read, or when waiting for it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Milliseconds with three decimals, by the steady clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<Millis>,
    /// `ok`, `error`, `denied`, `timeout`, `cancelled` or `unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The JSON-RPC error code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<i64>,
    /// Why it failed: a code, `tool_error`, `timeout`, `server_exited`, …
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub error_type: RecordText<'a>,
    /// What the error says, redacted, at most 500 characters.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub error_message: RecordText<'a>,
    /// Bytes of the request's line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_size_bytes: Option<u64>,
    /// Bytes of `result` or `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_size_bytes: Option<u64>,
    /// Bytes of the arguments divided by four: an estimate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args_tokens_est: Option<u64>,
    /// Bytes of the result divided by four: an estimate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_tokens_est: Option<u64>,
    /// This is the n-th call with the same tool and arguments; from 2 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_count: Option<u32>,
    /// The call is beyond the thrash threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thrashing: Option<bool>,
    /// When the call was first reported as pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_at: Option<Timestamp>,
    /// Progress notifications for this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_count: Option<u64>,
    /// When the first of them came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_first_at: Option<Timestamp>,
    /// When the last of them came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_last_at: Option<Timestamp>,
    /// When the asker took the request back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<Timestamp>,
    /// The model's id of the tool call, where the client tells it.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub call_id: RecordText<'a>,
    /// Milliseconds a person was being asked while the call was open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_wait_ms: Option<Millis>,
    /// `seq` of the attempt that this one continues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continues_seq: Option<u64>,
    /// The span of that attempt.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub continues_span_id: RecordText<'a>,
    /// Its trace, where it is another one.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub continues_trace_id: RecordText<'a>,
    /// Hash of the id of the task that the request is about or made.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub task_id_hash: RecordText<'a>,
    /// 32 hex digits: the trace that the operation belongs to.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub trace_id: RecordText<'a>,
    /// 16 hex digits: the operation's own span.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub span_id: RecordText<'a>,
    /// The caller's span from `_meta.traceparent`, else the connection span.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub parent_span_id: RecordText<'a>,
    /// The connection span, where it is not the parent.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub linked_span_id: RecordText<'a>,
    /// The trace of the connection span, where it is another one.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub linked_trace_id: RecordText<'a>,
    /// `tracestate` as received, redacted.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub trace_state: RecordText<'a>,
    /// Two hex digits, as in `traceparent`.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub trace_flags: RecordText<'a>,
    /// Observed in part only, or without a body hash under load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<bool>,
    /// Debug: what was replaced, by class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redactions: Option<BTreeMap<Cow<'a, str>, u32>>,
    // ---- session_started ----
    /// Process id of spantap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Process id of the server; absent where it could not be started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child_pid: Option<u32>,
    /// The version of spantap.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub version: RecordText<'a>,
    /// The redacted command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<Cow<'a, str>>>,
    /// Names (never values) of the server's environment variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Vec<Cow<'a, str>>>,
    /// `flag`, `environment`, `host` or `derived`.
    #[serde(deserialize_with = "words::known", skip_serializing_if = "Option::is_none")]
    pub session_source: Option<SessionSource>,
    /// First eight hex digits of the SHA-256 of the hash key.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub hash_key_id: RecordText<'a>,
    // ---- peer_identified ----
    /// What the client calls itself.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub client_name: RecordText<'a>,
    /// The client's version, as it says.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub client_version: RecordText<'a>,
    /// What the server calls itself; `server_name` is what we call it.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub server_self_name: RecordText<'a>,
    /// The server's version, as it says.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub server_version: RecordText<'a>,
    // ---- session_ended ----
    /// Of `session_ended`: `server_exited`, `server_died`, `spawn_failed`. Of `gap` and `malformed`:
    /// what went wrong.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub reason: RecordText<'a>,
    /// Exit status of the server, where it exited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Number of the signal that ended the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Sums over the connection, of requests: each round of a call that is continued counts in `tool_calls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
    /// Records that did not reach a sink, by sink and reason (`log:queue_full`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<BTreeMap<Cow<'a, str>, u64>>,
    /// The server's last lines on standard error, redacted, only where the end was abnormal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr_tail: Option<Vec<Cow<'a, str>>>,
    // ---- alarms ----
    /// Of `call_pending` and `server_unresponsive`: how long the call has been open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_ms: Option<Millis>,
    /// Requests open at that moment, both directions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u64>,
    /// Of `agent_thrashing`: the results are equal too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_progress: Option<bool>,
    /// How many: calls of `agent_thrashing`, lines of `malformed`, answers of `unmatched`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Names of tools that are new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub added: Option<Vec<Cow<'a, str>>>,
    /// Names of tools that are gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed: Option<Vec<Cow<'a, str>>>,
    /// Names of tools whose definition is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<Vec<Cow<'a, str>>>,
    /// Hash over all definitions as they are now.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub definitions_hash: RecordText<'a>,
    // ---- malformed, unmatched, gap ----
    /// `stdin`, `stdout` or `stderr` of the server.
    #[serde(deserialize_with = "words::known", skip_serializing_if = "Option::is_none")]
    pub stream: Option<Stream>,
    /// Length in bytes of the malformed line, the notification, the stderr line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Of `unmatched`: `response`, `error` or `cancellation`.
    #[serde(deserialize_with = "words::known", skip_serializing_if = "Option::is_none")]
    pub what: Option<UnmatchedKind>,
    /// Of `gap`: where it was lost (`tap`, `log`, `otlp`).
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub place: RecordText<'a>,
    /// Bytes that were relayed and not observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_lost: Option<u64>,
    /// Lines among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames_lost: Option<u64>,
    /// Records that were not written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records_lost: Option<u64>,
    // ---- debug ----
    /// What the tool returned, redacted, at most 200 characters.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub result_summary: RecordText<'a>,
    /// Of `mcp_notification`: the text of `notifications/message`. Of `server_stderr`: the line.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub text: RecordText<'a>,
}

/// Milliseconds, written with three decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize, JsonSchema)]
pub struct Millis(pub f64);

impl From<std::time::Duration> for Millis {
    fn from(duration: std::time::Duration) -> Millis {
        Millis(duration.as_micros() as f64 / 1000.0)
    }
}

/// Sums over the connection, on `session_ended`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Totals {
    pub tool_calls: u64,
    /// Requests that are not tool calls.
    pub other_requests: u64,
    pub errors: u64,
    pub denied: u64,
    pub notifications: u64,
    pub malformed: u64,
    pub unmatched: u64,
    pub turns: u64,
    pub stdin_bytes: u64,
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
    pub stdin_frames: u64,
    pub stdout_frames: u64,
    pub stderr_frames: u64,
    /// Bytes relayed but not observed.
    pub bytes_lost: u64,
    /// Frames relayed but not observed.
    pub frames_lost: u64,
    pub catch_ups: u64,
    /// Frames observed without a body hash, because of load.
    pub envelope_only: u64,
    pub observer_panics: u64,
}

/// The number of records, spans or points that did not leave the process, at one place for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The output, or the observer for what reached no output.
    pub place: LossPlace,
    /// `queue_full`, `no_space`, `refused`, `timeout`, …
    pub reason: &'static str,
    pub count: u64,
}
