//! The log record, `spantap/1`: the contract between the proxy and every reader of its logs.
//!
//! A record is one flat JSON object on one line. A field without a value is absent, never null.
//! [`Record::new`] alone makes records from events; [`agent`] has the records of agents' telemetry.
//! The log line, the live span and the span that `spantap export` sends are made from the record, so they agree.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::timestamp::Timestamp;
use crate::record::words::{
    BodiesState, DefinitionPart, Direction, LossPlace, SessionSource, Status, Stream, ToolChangeKind,
    UnmatchedKind,
};

pub mod agent;
pub(crate) mod body;
pub mod cost;
pub(crate) mod debug_control;
pub(crate) mod file_name;
mod from_event;
pub(crate) mod line;
pub(crate) mod live;
pub mod schema;
pub mod timestamp;
pub(crate) mod values;
pub(crate) mod words;

pub(crate) use crate::observe::CHECK_CLIENT;
pub use crate::observe::event::Totals;
pub(crate) use crate::observe::result_limits::tokens;
pub use timestamp::ClockAnchor;
pub use words::{EventName, Level};

/// The only value of `schema` that this version writes.
pub const SCHEMA: &str = "spantap/1";

/// The ids and names of one connection, which every record of the connection contains.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// UUIDv7 in its usual text form.
    pub connection_id: String,
    pub session_id: String,
    pub server_name: String,
    pub user_id: Option<String>,
}

type RecordText<'a> = Option<Cow<'a, str>>;

/// Declares a record: the fields that it always has, and those that are absent while they are unknown.
macro_rules! record {
    ($(#[$of_record:meta])* pub struct $record:ident<$a:lifetime> {
        $($(#[$of_always:meta])* pub $always:ident: $always_type:ty,)*
        where_known {
            $($(#[$of_known:meta])* pub $known:ident: $known_type:ty,)*
        }
    }) => {
        $(#[$of_record])*
        pub struct $record<$a> {
            $($(#[$of_always])* pub $always: $always_type,)*
            $($(#[$of_known])* #[serde(skip_serializing_if = "Option::is_none")] pub $known: $known_type,)*
        }
    };
}

use record;

record! {
    /// One line of a session log. `docs/log.md` lists the fields of each event.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(default)]
    #[schemars(deny_unknown_fields)]
    pub struct Record<'a> {
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
        where_known {
            // ---- on every record ----
            /// Name of the MCP host, from the client's handshake (`claude-code`).
            pub host_name: RecordText<'a>,
            /// Configured id of the person on whose behalf the host runs.
            pub user_id: RecordText<'a>,
            /// The host's id of the conversation, from a request or the host's environment.
            pub conversation_id: RecordText<'a>,
            /// Id of the turn (one user request and the calls that it causes): the host's id, the caller's trace, or
            /// a number that increases after a pause.
            pub turn_id: RecordText<'a>,
            // ---- operations ----
            /// The JSON text of the request's id: `1` and `"1"` are different.
            pub request_id: RecordText<'a>,
            /// Direction of the request or message: `client_to_server` or `server_to_client`.
            #[serde(deserialize_with = "words::known")]
            pub direction: Option<Direction>,
            /// The JSON-RPC method, such as `tools/call`.
            pub method: RecordText<'a>,
            /// Name of the tool: `params.name` of `tools/call`.
            pub tool_name: RecordText<'a>,
            /// Name of the prompt: `params.name` of `prompts/get`.
            pub prompt_name: RecordText<'a>,
            /// URI of the resource: `params.uri`, with credentials and secret query values replaced.
            pub resource_uri: RecordText<'a>,
            /// The MCP revision in force, such as `2025-11-25`.
            pub protocol_version: RecordText<'a>,
            /// The `jsonrpc` member of the request, if it is not `2.0`.
            pub jsonrpc_version: RecordText<'a>,
            /// `hmac-sha256:<64 hex>` of the canonical arguments.
            pub args_hash: RecordText<'a>,
            /// `hmac-sha256-raw:<64 hex>` of the bytes of `result`.
            pub result_hash: RecordText<'a>,
            /// `hmac-sha256-raw:<64 hex>` of the decoded text that the model got, if `content[]` is one text block.
            pub text_hash: RecordText<'a>,
            /// Time at which spantap read the last byte of the request.
            pub started_at: Option<Timestamp>,
            /// Time at which spantap read the last byte of the answer, or stopped waiting for it.
            pub ended_at: Option<Timestamp>,
            /// Time from the request to the answer in milliseconds with three decimals, by the monotonic clock.
            pub duration_ms: Option<Millis>,
            /// How the request ended: `ok`, `error`, `denied`, `timeout`, `cancelled` or `unknown`.
            pub status: Option<Status>,
            /// The JSON-RPC error code of the answer.
            pub error_code: Option<i64>,
            /// Reason of the failure: a JSON-RPC code, `tool_error`, `timeout`, `server_exited`, …
            pub error_type: RecordText<'a>,
            /// Error message of the answer, redacted, at most 500 characters. `session_ended`: why the server could not
            /// be started.
            pub error_message: RecordText<'a>,
            /// Length of the request's line in bytes, without the newline.
            pub request_size_bytes: Option<u64>,
            /// Length of `result` or `error` in bytes.
            pub result_size_bytes: Option<u64>,
            /// Estimated tokens of the arguments: their bytes divided by four, rounded up.
            pub args_tokens_est: Option<u64>,
            /// Estimated tokens of the result: its bytes divided by four, rounded up.
            pub result_tokens_est: Option<u64>,
            /// The limit for results of the host (or the setting `result_limit`), in tokens, if `result_tokens_est` is more.
            pub result_over_limit: Option<u64>,
            /// Number of calls with the same tool and arguments in this conversation, including this one; from 2 on.
            pub repeat_count: Option<u32>,
            /// True if `repeat_count` is above the thrash threshold.
            pub thrashing: Option<bool>,
            /// Time at which the call was first reported as pending.
            pub pending_at: Option<Timestamp>,
            /// Number of progress notifications for this request.
            pub progress_count: Option<u64>,
            /// Time of the first progress notification.
            pub progress_first_at: Option<Timestamp>,
            /// Time of the last progress notification.
            pub progress_last_at: Option<Timestamp>,
            /// Time at which the sender of the request cancelled it.
            pub cancelled_at: Option<Timestamp>,
            /// The JSON text of the id in the answer or cancellation, if it is another spelling of `request_id`:
            /// `"1"`, `1.0` or `1e0` for `1`.
            pub answer_id: RecordText<'a>,
            /// The model's id of the tool call, if the client sends it.
            pub call_id: RecordText<'a>,
            /// The model that asked for the call, if the client names it (Codex).
            pub model: RecordText<'a>,
            /// Milliseconds for which an elicitation or a sampling was open during the call.
            pub user_wait_ms: Option<Millis>,
            /// `seq` of the earlier attempt that this request continues.
            pub continues_seq: Option<u64>,
            /// Span id of the earlier attempt.
            pub continues_span_id: RecordText<'a>,
            /// Trace id of the earlier attempt, if it differs from `trace_id`.
            pub continues_trace_id: RecordText<'a>,
            /// Hash of the id of the task that the request names or creates.
            pub task_id_hash: RecordText<'a>,
            /// Milliseconds from the request to the handle of its task. `duration_ms` is the time to the task's outcome.
            pub task_handle_ms: Option<Millis>,
            /// For a call that was answered with a task: true if its result was seen.
            pub task_result_seen: Option<bool>,
            /// Trace id of the operation or connection, 32 hex digits.
            pub trace_id: RecordText<'a>,
            /// Span id of the operation or connection, 16 hex digits.
            pub span_id: RecordText<'a>,
            /// Span id of the caller from `_meta.traceparent`, else of the connection.
            pub parent_span_id: RecordText<'a>,
            /// Span id of the connection, if the connection span is not the parent.
            pub linked_span_id: RecordText<'a>,
            /// Trace id of the connection span, if it differs from `trace_id`.
            pub linked_trace_id: RecordText<'a>,
            /// `tracestate` as received, redacted.
            pub trace_state: RecordText<'a>,
            /// Trace flags as in `traceparent`, two hex digits.
            pub trace_flags: RecordText<'a>,
            /// True if the operation was observed in part only, or its result was not hashed because of load.
            pub truncated: Option<bool>,
            /// Debug only: number of replacements by the redactor, by class.
            pub redactions: Option<BTreeMap<Cow<'a, str>, u32>>,
            // ---- session_started ----
            /// Process id of spantap.
            pub pid: Option<u32>,
            /// Process id of the server; absent if the server could not be started.
            pub child_pid: Option<u32>,
            /// Process id of the host: the process that started spantap, which can be a launcher. Records of agents: that of
            /// the agent.
            pub host_pid: Option<u32>,
            /// Version of spantap.
            pub version: RecordText<'a>,
            /// Command line of the server, redacted, one element per argument.
            pub command: Option<Vec<Cow<'a, str>>>,
            /// Names (never values) of the server's environment variables.
            pub environment: Option<Vec<Cow<'a, str>>>,
            /// Source of `session_id`: `flag`, `environment`, `host` or `derived`.
            #[serde(deserialize_with = "words::known")]
            pub session_source: Option<SessionSource>,
            /// Working folder of the server, redacted, with the home folder as `~`; absent with `record_cwd = false`.
            pub cwd: RecordText<'a>,
            /// Host and scope of the config entry that started spantap (`claude-code/user`), as `wrap` wrote it.
            pub origin: RecordText<'a>,
            /// First eight hex digits of the SHA-256 of the hash key.
            pub hash_key_id: RecordText<'a>,
            /// True if the host's stdout and stderr are one stream. spantap then writes no message of its own to stderr.
            pub stderr_is_stdout: Option<bool>,
            /// True for the first connection of a session with `session_root = true`: `parent_span_id` is the root span
            /// of the session, which is exported with this connection's span.
            pub begins_session: Option<bool>,
            // ---- peer_identified ----
            /// Name of the client, from the handshake.
            pub client_name: RecordText<'a>,
            /// Version of the client, from the handshake.
            pub client_version: RecordText<'a>,
            /// Name of the server, from the handshake; `server_name` may differ.
            pub server_self_name: RecordText<'a>,
            /// Version of the server, from the handshake.
            pub server_version: RecordText<'a>,
            // ---- session_ended ----
            /// Cause of the event. `session_ended`: `server_exited`, `server_died` or `spawn_failed`. `gap` and
            /// `malformed` have words of their own.
            pub reason: RecordText<'a>,
            /// Exit status of the server, if it exited.
            pub exit_code: Option<i32>,
            /// Number of the signal that ended the server.
            pub signal: Option<i32>,
            /// True if spantap killed the server, because it did not end when its host was gone.
            pub orphan_killed: Option<bool>,
            /// Sums over the connection. Each round of a continued call counts as one request.
            pub totals: Option<Totals>,
            /// Number of records that did not reach a sink, by sink and reason (`log:queue_full`).
            pub dropped: Option<BTreeMap<Cow<'a, str>, u64>>,
            /// Last lines of the server on standard error, redacted, if the end was abnormal.
            pub stderr_tail: Option<Vec<Cow<'a, str>>>,
            // ---- alarms ----
            /// `call_pending`, `server_unresponsive`: milliseconds for which the call has been open.
            pub open_ms: Option<Millis>,
            /// Number of open requests at that moment, in both directions.
            pub in_flight: Option<u64>,
            /// `agent_thrashing`: true if the results are equal too, or all calls failed with the same error.
            pub no_progress: Option<bool>,
            /// `agent_thrashing`: number of different calls that are repeated in the same order. `count` is the number of
            /// rounds.
            pub cycle_length: Option<u32>,
            /// Number of calls (`agent_thrashing`), lines (`malformed`), messages of one direction and kind
            /// (`unmatched`), listings (`tools_listed`, `tools_changed`), or requests of the server that one record
            /// represents.
            pub count: Option<u64>,
            /// Tools of one `tools/list` answer: name, sizes in bytes and hash of each definition, at most 500.
            pub tools: Option<Vec<RecordedTool<'a>>>,
            /// Number of tools in the answer.
            pub tools_total: Option<u64>,
            /// True if the answer is the last page of a listing of which no page is missing.
            pub is_complete: Option<bool>,
            /// Bytes of all definitions in the answer, also of those that are not in `tools`.
            pub definition_bytes: Option<u64>,
            /// Number of the page, from 2 on. The record replaces this page of the listing before, and all later ones.
            pub page: Option<u64>,
            /// Changes by tool and part, at most 500 of each kind.
            pub changes: Option<Vec<RecordedChange<'a>>>,
            /// Names of tools that were added.
            pub added: Option<Vec<Cow<'a, str>>>,
            /// Names of tools that were removed.
            pub removed: Option<Vec<Cow<'a, str>>>,
            /// Names of tools whose definition changed.
            pub changed: Option<Vec<Cow<'a, str>>>,
            /// Tools with findings of the lint: the ids of the rules, at most 500 tools.
            pub linted: Option<Vec<RecordedLint<'a>>>,
            /// Number of tool definitions that are not in the lists (more than 500, or without a name that can be
            /// read). `tools_changed`: if one of them may have changed.
            pub unlisted: Option<u64>,
            /// Hash over all current tool definitions.
            pub definitions_hash: RecordText<'a>,
            // ---- malformed, unmatched, gap ----
            /// Stream of the server: `stdin`, `stdout` or `stderr`.
            #[serde(deserialize_with = "words::known")]
            pub stream: Option<Stream>,
            /// Length in bytes of the notification, the stderr line, or the last malformed line.
            pub size_bytes: Option<u64>,
            /// `unmatched`: `response`, `error`, `cancellation`, or `late_cancellation` of a request that was answered.
            #[serde(deserialize_with = "words::known")]
            pub what: Option<UnmatchedKind>,
            /// `gap`: place of the loss: `tap`, `log` or `otlp`.
            pub place: RecordText<'a>,
            /// Number of bytes that were forwarded but not observed.
            pub bytes_lost: Option<u64>,
            /// Number of frames that were forwarded but not observed.
            pub frames_lost: Option<u64>,
            /// Number of records that were not written.
            pub records_lost: Option<u64>,
            // ---- debug ----
            /// Time at which debug ends.
            pub debug_until: Option<Timestamp>,
            /// Whether redacted bodies are kept apart: `on`, `off`, or the reason why not: `strict_mode`,
            /// `redaction_settings` or `no_log`.
            #[serde(deserialize_with = "words::known")]
            pub bodies: Option<BodiesState>,
            /// Beginning of the tool's result, redacted, at most 200 characters.
            pub result_summary: RecordText<'a>,
            /// `mcp_notification`: text of `notifications/message` or reason of a cancellation.
            /// `server_stderr`: the line.
            pub text: RecordText<'a>,
        }
    }
}

/// One tool with findings of the lint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct RecordedLint<'a> {
    /// Name of the tool, redacted.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// Ids of the rules.
    #[serde(borrow)]
    pub rules: Vec<Cow<'a, str>>,
    /// First 16 hex digits of the SHA-256 of the canonical definition.
    #[serde(borrow)]
    pub definition_hash: Cow<'a, str>,
}

/// One tool of a `tools/list` answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct RecordedTool<'a> {
    /// Name of the tool, redacted.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// Length of the definition's JSON text in bytes.
    pub definition_bytes: u64,
    /// Length of the JSON text of `description` in bytes.
    pub description_bytes: u64,
    /// Length of the JSON texts of `inputSchema` and `outputSchema` in bytes.
    pub schema_bytes: u64,
    /// First 16 hex digits of the SHA-256 of the canonical definition.
    #[serde(borrow)]
    #[schemars(regex(pattern = "^[0-9a-f]{16}$"))]
    pub definition_hash: Cow<'a, str>,
}

/// One tool that was added, removed or changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct RecordedChange<'a> {
    /// Name of the tool, redacted.
    #[serde(borrow)]
    pub tool: Cow<'a, str>,
    /// `added`, `removed` or `changed`.
    pub change: ToolChangeKind,
    /// Parts of the definition that differ; empty unless the tool was changed.
    pub parts: Vec<DefinitionPart>,
}

/// Milliseconds, written with three decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize, JsonSchema)]
pub struct Millis(pub f64);

impl From<std::time::Duration> for Millis {
    fn from(duration: std::time::Duration) -> Millis {
        Millis(duration.as_micros() as f64 / 1000.0)
    }
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
