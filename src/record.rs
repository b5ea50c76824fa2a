//! The log record, `spantap/1`: the contract between the proxy and every reader of its logs.
//!
//! A record is one flat JSON object on one line. An unknown field is absent, never null. [`Record::new`] alone
//! turns an event into a record. The log line, the live span and the span that `spantap export` sends later are
//! all made from the record, so they cannot disagree.

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
pub(crate) mod values;
pub(crate) mod words;

pub(crate) use from_event::tokens;
pub use identity::Identity;
pub use timestamp::ClockAnchor;
pub use words::{EventName, Level};

/// The only value of `schema` that this version writes.
pub const SCHEMA: &str = "spantap/1";

type RecordText<'a> = Option<Cow<'a, str>>;

/// One line of a session log. `docs/log.md` lists the fields of each event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Record<'a> {
    // ---- on every record ----
    /// The version of this contract, `spantap/1`.
    #[serde(borrow)]
    pub schema: Cow<'a, str>,
    /// Wall-clock time of the event; for an operation, of its end.
    pub timestamp: Timestamp,
    /// `debug`, `info`, `warn` or `error`.
    pub level: Level,
    /// Name of the event, which determines the other fields.
    pub event: EventName,
    /// Summary of the event in English. For people: its wording may change.
    #[serde(borrow)]
    pub message: Cow<'a, str>,
    /// Number of the record in its connection, from 0. A missing number is a lost record.
    pub seq: u64,
    /// Id of the agent session: the connections that one host process started, to all servers.
    #[serde(borrow)]
    pub session_id: Cow<'a, str>,
    /// UUIDv7 of this spantap process, and so of this stdio connection.
    #[serde(borrow)]
    pub connection_id: Cow<'a, str>,
    /// Name of the server, as configured or derived from its command.
    #[serde(borrow)]
    pub server_name: Cow<'a, str>,
    // ---- on every record, where known ----
    /// Name of the MCP host, from the client's handshake (`claude-code`).
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub host_name: RecordText<'a>,
    /// Configured id of the person on whose behalf the host runs.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub user_id: RecordText<'a>,
    /// The host's id of the conversation, from a request or the host's environment.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub conversation_id: RecordText<'a>,
    /// Id of the turn (one user request and the calls that it causes): the host's id, the caller's trace, or
    /// a number that increases after a pause.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub turn_id: RecordText<'a>,
    // ---- operations ----
    /// The JSON text of the request's id: `1` and `"1"` are different.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub request_id: RecordText<'a>,
    /// Direction of the request or message: `client_to_server` or `server_to_client`.
    #[serde(deserialize_with = "words::known", skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// The JSON-RPC method, such as `tools/call`.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub method: RecordText<'a>,
    /// Name of the tool: `params.name` of `tools/call`.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub tool_name: RecordText<'a>,
    /// Name of the prompt: `params.name` of `prompts/get`.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub prompt_name: RecordText<'a>,
    /// URI of the resource: `params.uri`, with credentials and secret query values replaced.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub resource_uri: RecordText<'a>,
    /// The MCP revision in force, such as `2025-11-25`.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub protocol_version: RecordText<'a>,
    /// The `jsonrpc` member of the request, if it is not `2.0`.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub jsonrpc_version: RecordText<'a>,
    /// `hmac-sha256:<64 hex>` of the canonical arguments.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub args_hash: RecordText<'a>,
    /// `hmac-sha256-raw:<64 hex>` of the bytes of `result`.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub result_hash: RecordText<'a>,
    /// `hmac-sha256-raw:<64 hex>` of the decoded text that the model got, if `content[]` is one text block.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub text_hash: RecordText<'a>,
    /// Time at which spantap read the last byte of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Time at which spantap read the last byte of the answer, or stopped waiting for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Time from the request to the answer in milliseconds with three decimals, by the monotonic clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<Millis>,
    /// How the request ended: `ok`, `error`, `denied`, `timeout`, `cancelled` or `unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The JSON-RPC error code of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<i64>,
    /// Reason of the failure: a JSON-RPC code, `tool_error`, `timeout`, `server_exited`, …
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub error_type: RecordText<'a>,
    /// Error message of the answer, redacted, at most 500 characters.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub error_message: RecordText<'a>,
    /// Length of the request's line in bytes, without the newline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_size_bytes: Option<u64>,
    /// Length of `result` or `error` in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_size_bytes: Option<u64>,
    /// Estimated tokens of the arguments: their bytes divided by four, rounded up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args_tokens_est: Option<u64>,
    /// Estimated tokens of the result: its bytes divided by four, rounded up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_tokens_est: Option<u64>,
    /// Number of calls with the same tool and arguments in this conversation, including this one; from 2 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_count: Option<u32>,
    /// True if `repeat_count` is above the thrash threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thrashing: Option<bool>,
    /// Time at which the call was first reported as pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_at: Option<Timestamp>,
    /// Number of progress notifications for this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_count: Option<u64>,
    /// Time of the first progress notification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_first_at: Option<Timestamp>,
    /// Time of the last progress notification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_last_at: Option<Timestamp>,
    /// Time at which the sender of the request cancelled it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<Timestamp>,
    /// The model's id of the tool call, if the client sends it.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub call_id: RecordText<'a>,
    /// Milliseconds for which an elicitation or a sampling was open during the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_wait_ms: Option<Millis>,
    /// `seq` of the earlier attempt that this request continues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continues_seq: Option<u64>,
    /// Span id of the earlier attempt.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub continues_span_id: RecordText<'a>,
    /// Trace id of the earlier attempt, if it differs from `trace_id`.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub continues_trace_id: RecordText<'a>,
    /// Hash of the id of the task that the request names or creates.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub task_id_hash: RecordText<'a>,
    /// Trace id of the operation or connection, 32 hex digits.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub trace_id: RecordText<'a>,
    /// Span id of the operation or connection, 16 hex digits.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub span_id: RecordText<'a>,
    /// Span id of the caller from `_meta.traceparent`, else of the connection.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub parent_span_id: RecordText<'a>,
    /// Span id of the connection, if the connection span is not the parent.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub linked_span_id: RecordText<'a>,
    /// Trace id of the connection span, if it differs from `trace_id`.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub linked_trace_id: RecordText<'a>,
    /// `tracestate` as received, redacted.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub trace_state: RecordText<'a>,
    /// Trace flags as in `traceparent`, two hex digits.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub trace_flags: RecordText<'a>,
    /// True if the operation was observed in part only, or its result was not hashed because of load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<bool>,
    /// Debug only: number of replacements by the redactor, by class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redactions: Option<BTreeMap<Cow<'a, str>, u32>>,
    // ---- session_started ----
    /// Process id of spantap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Process id of the server; absent if the server could not be started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child_pid: Option<u32>,
    /// Version of spantap.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub version: RecordText<'a>,
    /// Command line of the server, redacted, one element per argument.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<Cow<'a, str>>>,
    /// Names (never values) of the server's environment variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Vec<Cow<'a, str>>>,
    /// Source of `session_id`: `flag`, `environment`, `host` or `derived`.
    #[serde(deserialize_with = "words::known", skip_serializing_if = "Option::is_none")]
    pub session_source: Option<SessionSource>,
    /// First eight hex digits of the SHA-256 of the hash key.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub hash_key_id: RecordText<'a>,
    // ---- peer_identified ----
    /// Name of the client, from the handshake.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub client_name: RecordText<'a>,
    /// Version of the client, from the handshake.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub client_version: RecordText<'a>,
    /// Name of the server, from the handshake; `server_name` may differ.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub server_self_name: RecordText<'a>,
    /// Version of the server, from the handshake.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub server_version: RecordText<'a>,
    // ---- session_ended ----
    /// Cause of the event. `session_ended`: `server_exited`, `server_died` or `spawn_failed`. `gap` and
    /// `malformed` have words of their own.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub reason: RecordText<'a>,
    /// Exit status of the server, if it exited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Number of the signal that ended the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Sums over the connection. Each round of a continued call counts as one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
    /// Number of records that did not reach a sink, by sink and reason (`log:queue_full`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<BTreeMap<Cow<'a, str>, u64>>,
    /// Last lines of the server on standard error, redacted, if the end was abnormal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr_tail: Option<Vec<Cow<'a, str>>>,
    // ---- alarms ----
    /// `call_pending`, `server_unresponsive`: milliseconds for which the call has been open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_ms: Option<Millis>,
    /// Number of open requests at that moment, in both directions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u64>,
    /// `agent_thrashing`: true if the results are equal too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_progress: Option<bool>,
    /// Number of calls (`agent_thrashing`), lines (`malformed`) or answers (`unmatched`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Names of tools that were added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub added: Option<Vec<Cow<'a, str>>>,
    /// Names of tools that were removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed: Option<Vec<Cow<'a, str>>>,
    /// Names of tools whose definition changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<Vec<Cow<'a, str>>>,
    /// Hash over all current tool definitions.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub definitions_hash: RecordText<'a>,
    // ---- malformed, unmatched, gap ----
    /// Stream of the server: `stdin`, `stdout` or `stderr`.
    #[serde(deserialize_with = "words::known", skip_serializing_if = "Option::is_none")]
    pub stream: Option<Stream>,
    /// Length in bytes of the notification, the stderr line, or the last malformed line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// `unmatched`: `response`, `error` or `cancellation`.
    #[serde(deserialize_with = "words::known", skip_serializing_if = "Option::is_none")]
    pub what: Option<UnmatchedKind>,
    /// `gap`: place of the loss: `tap`, `log` or `otlp`.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub place: RecordText<'a>,
    /// Number of bytes that were forwarded but not observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_lost: Option<u64>,
    /// Number of frames that were forwarded but not observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames_lost: Option<u64>,
    /// Number of records that were not written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records_lost: Option<u64>,
    // ---- debug ----
    /// Beginning of the tool's result, redacted, at most 200 characters.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub result_summary: RecordText<'a>,
    /// `mcp_notification`: text of `notifications/message` or reason of a cancellation.
    /// `server_stderr`: the line.
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

/// Sums over a connection, in the record `session_ended`.
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
    /// Bytes that were forwarded but not observed.
    pub bytes_lost: u64,
    /// Frames that were forwarded but not observed.
    pub frames_lost: u64,
    pub catch_ups: u64,
    /// Frames whose body was not hashed because of load.
    pub envelope_only: u64,
    pub observer_panics: u64,
}

/// The number of records, spans or points that did not leave the process, at one place for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The output, or the observer if the records were lost before every output.
    pub place: LossPlace,
    /// `queue_full`, `no_space`, `refused`, `timeout`, …
    pub reason: &'static str,
    pub count: u64,
}
