//! The records of agents' own telemetry and of servers' own spans, which `spantap collect` writes.
//!
//! They have no `server_name`: they belong to an agent, not to a connection. Agents send prompts, arguments and
//! answers as well. A record has no field for those.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::timestamp::Timestamp;
use crate::record::words::{self, CostSource, Decider, ServerSpanKind, Status, ToolDecision};
use crate::record::{EventName, Level, Millis, RecordText, SCHEMA, record};

/// Most ids in `call_ids`.
pub const MOST_CALL_IDS: usize = 64;

/// Declares the record, and `fill`, which visits each field of it.
macro_rules! agent_record {
    ($(#[$of_record:meta])* pub struct $record:ident<$a:lifetime> {
        always { $($always:tt)* }
        where_known { $($(#[$of_known:meta])* pub $known:ident: $known_type:ty,)* }
    }) => {
        record! {
            $(#[$of_record])*
            pub struct $record<$a> {
                $($always)*
                where_known { $($(#[$of_known])* pub $known: $known_type,)* }
            }
        }

        impl<$a> $record<$a> {
            /// Takes the fields from `other` that are absent here. `timestamp` becomes the later one. A cost
            /// that the agent reported replaces one that was calculated. A success has no error type.
            pub fn fill(&mut self, other: $record<$a>) {
                if self.session_id.is_empty() {
                    self.session_id = other.session_id;
                }
                self.timestamp = self.timestamp.max(other.timestamp);
                if (self.cost_source, other.cost_source) == (Some(CostSource::Config), Some(CostSource::Agent)) {
                    self.cost_usd = None;
                    self.cost_source = None;
                }
                $(if self.$known.is_none() { self.$known = other.$known; })*
                if self.status == Some(Status::Ok) {
                    self.error_type = None;
                }
            }
        }
    };
}

agent_record! {
    /// One line of a log of `spantap collect`.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(default)]
    #[schemars(deny_unknown_fields)]
    pub struct AgentRecord<'a> {
        always {
            /// The version of this contract, `spantap/1`.
            #[serde(borrow)]
            pub schema: Cow<'a, str>,
            /// Wall-clock time of the event's end, by the clock of its sender.
            pub timestamp: Timestamp,
            /// `warn` if `status` is `error` or `decision` is `refused`, else `info`.
            pub level: Level,
            /// `agent_turn`, `model_call`, `agent_tool` or `server_span`.
            pub event: EventName,
            /// Summary of the event in English. For people: its wording may change.
            #[serde(borrow)]
            pub message: Cow<'a, str>,
            /// Number of the record in this run of `spantap collect`, from 0. A missing number is a lost record.
            pub seq: u64,
            /// The agent's session id, else its conversation id, else `connection_id`.
            #[serde(borrow)]
            pub session_id: Cow<'a, str>,
            /// UUIDv7 of this run of `spantap collect`.
            #[serde(borrow)]
            pub connection_id: Cow<'a, str>,
            /// Name of the agent in the words of `host_name` (`claude-code`). `server_span`: name of the service.
            #[serde(borrow)]
            pub agent_name: Cow<'a, str>,
        }
        where_known {
            /// First 16 hex digits of the SHA-256 of agent, event and the agent's own id. The parts of one fact have it
            /// in common.
            pub fact_id: RecordText<'a>,
            /// True if the record adds to another one with the same `fact_id`. It is not counted, and its fields complete those of the other one.
            pub amends: Option<bool>,
            /// Version of the agent or service.
            pub agent_version: RecordText<'a>,
            /// Process id of the agent.
            pub host_pid: Option<u32>,
            /// The agent's id of the conversation.
            pub conversation_id: RecordText<'a>,
            /// The agent's id of the turn.
            pub turn_id: RecordText<'a>,
            /// Trace id of the span that this event was, or that contained it.
            pub trace_id: RecordText<'a>,
            /// Span id of that span.
            pub span_id: RecordText<'a>,
            /// Span id of that span's parent.
            pub parent_span_id: RecordText<'a>,
            /// Time at which it began.
            pub started_at: Option<Timestamp>,
            /// Time at which it ended.
            pub ended_at: Option<Timestamp>,
            /// Time that it took in milliseconds, as the agent measured it.
            pub duration_ms: Option<Millis>,
            /// How it ended: `ok`, `error`, `denied`, `cancelled` or `unknown`.
            pub status: Option<Status>,
            /// The agent's word for the reason of the failure.
            pub error_type: RecordText<'a>,
            // ---- model_call ----
            /// Provider of the model, as the agent names it (`anthropic`).
            pub provider: RecordText<'a>,
            /// Operation of the provider: `chat`, `generate_content` or `text_completion`.
            pub operation: RecordText<'a>,
            /// The model that answered, as the agent names it.
            pub model: RecordText<'a>,
            /// All input tokens, with those that were read from or written to the provider's cache.
            pub input_tokens: Option<u64>,
            /// Output tokens, with those that the model used to think.
            pub output_tokens: Option<u64>,
            /// Those of `input_tokens` that were read from the provider's cache.
            pub cached_tokens: Option<u64>,
            /// Those of `input_tokens` that were written to the provider's cache.
            pub cache_write_tokens: Option<u64>,
            /// Cost in USD.
            pub cost_usd: Option<f64>,
            /// Source of `cost_usd`: `agent`, or `config` for a price of `[cost.models]`.
            #[serde(deserialize_with = "words::known")]
            pub cost_source: Option<CostSource>,
            /// Milliseconds from the request to the first token.
            pub first_token_ms: Option<Millis>,
            /// Number of the attempt, from 1.
            pub attempt: Option<u64>,
            /// Ids of the tool calls that the model asked for, at most 64.
            pub call_ids: Option<Vec<Cow<'a, str>>>,
            // ---- agent_tool ----
            /// The model's id of the tool call.
            pub call_id: RecordText<'a>,
            /// Name of the tool: that of its server, or of a built-in tool.
            pub tool_name: RecordText<'a>,
            /// The agent's name of the MCP server; absent for a built-in tool.
            pub tool_server: RecordText<'a>,
            /// What was decided about the call: `allowed` or `refused`.
            #[serde(deserialize_with = "words::known")]
            pub decision: Option<ToolDecision>,
            /// Maker of the decision: `user`, `config`, `hook` or `agent`.
            #[serde(deserialize_with = "words::known")]
            pub decided_by: Option<Decider>,
            /// Milliseconds for which the agent waited for a person.
            pub person_wait_ms: Option<Millis>,
            // ---- server_span ----
            /// Name of the span, of at most three words; else `_OTHER`.
            pub span_name: RecordText<'a>,
            /// Kind of the span: `internal`, `server`, `client`, `producer` or `consumer`.
            #[serde(deserialize_with = "words::known")]
            pub span_kind: Option<ServerSpanKind>,
        }
    }
}

impl AgentRecord<'_> {
    /// Makes the record ready to be written: derives level, message and session from the other fields.
    pub fn finish(&mut self, connection_id: &str, seq: u64) {
        self.schema = SCHEMA.into();
        self.connection_id = connection_id.to_owned().into();
        self.seq = seq;
        if self.session_id.is_empty() {
            let known = self.conversation_id.as_deref().unwrap_or(connection_id);
            self.session_id = known.to_owned().into();
        }
        let is_bad = self.status == Some(Status::Error) || self.decision == Some(ToolDecision::Refused);
        self.level = if is_bad { Level::Warn } else { Level::Info };
        self.message = self.summary().into();
    }

    /// Returns when it ended by its own times.
    pub(crate) fn ended(&self) -> Timestamp {
        match (self.ended_at, self.started_at, &self.duration_ms) {
            (Some(ended), ..) => ended,
            (None, Some(started), Some(ms)) => started.plus_ms(ms.0),
            _ => self.timestamp,
        }
    }

    /// Returns when it began by its own times.
    pub(crate) fn began(&self) -> Timestamp {
        let ms = self.duration_ms.as_ref().map_or(0.0, |ms| ms.0);
        self.started_at.unwrap_or_else(|| self.ended().plus_ms(-ms))
    }

    fn summary(&self) -> String {
        let text = |text: &RecordText<'_>| text.as_deref().unwrap_or("?").to_owned();
        let what = match self.event {
            EventName::ModelCall => format!("model call {}", text(&self.model)),
            EventName::AgentTool => match &self.tool_server {
                Some(server) => format!("tool {server}/{}", text(&self.tool_name)),
                None => format!("tool {}", text(&self.tool_name)),
            },
            EventName::ServerSpan => format!("span {}", text(&self.span_name)),
            _ => format!("turn of {}", self.agent_name),
        };
        match (self.decision, self.status) {
            (Some(ToolDecision::Refused), _) => format!("{what}: refused"),
            (_, Some(status)) => format!("{what}: {status}"),
            (_, None) => what,
        }
    }
}
