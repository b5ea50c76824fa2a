//! opencode. It sends the spans of its model calls only with `experimental.openTelemetry` in its settings.

use super::table::FieldSlot::*;
use super::table::KeyPart::{Attribute, Parent, Span, Trace};
use super::table::{AgentTable, EXCEPTION, Row, SPAN_ROW};
use crate::collect::fact::SPAN;
use crate::record::EventName::{AgentTurn, ModelCall};

pub(super) const TABLE: AgentTable = AgentTable {
    agent: "opencode",
    services: &["opencode"],
    own_names: &["SessionPrompt.loop"],
    common: &[
        (Session, "session.id"),
        (Conversation, "session.id"),
        (Version, "service.version"),
        (Pid, "process.pid"),
    ],
    trace_is_turn: true,
    input_has_cached: true,
    provider: "",
    operation: "chat",
    spans: &[
        Row {
            name: "SessionPrompt.loop",
            event: AgentTurn,
            parts: SPAN,
            keys: &[&[Trace, Span]],
            has_status: true,
            ..SPAN_ROW
        },
        Row {
            name: "ai.streamText.doStream",
            event: ModelCall,
            parts: SPAN,
            keys: &[&[Trace, Parent]],
            has_status: true,
            fields: &[
                (Provider, "gen_ai.system"),
                (Model, "gen_ai.response.model"),
                (Model, "gen_ai.request.model"),
                (InputTokens, "ai.usage.inputTokens"),
                (InputTokens, "gen_ai.usage.input_tokens"),
                (OutputTokens, "ai.usage.outputTokens"),
                (OutputTokens, "gen_ai.usage.output_tokens"),
                (CachedTokens, "ai.usage.cachedInputTokens"),
                (FirstTokenMs, "ai.response.msToFirstChunk"),
                (ErrorType, EXCEPTION),
            ],
            ..SPAN_ROW
        },
        Row {
            name: "ai.toolCall",
            event: ModelCall,
            part: 4,
            parts: SPAN,
            keys: &[&[Trace, Parent]],
            is_addition: true,
            has_times: false,
            fields: &[(CallIds, "ai.toolCall.id")],
            ..SPAN_ROW
        },
        Row {
            name: "Tool.execute",
            parts: SPAN,
            keys: &[&[Attribute("session.id"), Attribute("tool.call_id"), Attribute("message.id")]],
            has_status: true,
            fields: &[(CallId, "tool.call_id"), (ToolName, "tool.name")],
            ..SPAN_ROW
        },
    ],
    events: &[],
};

/// Beginning of the status of a tool that a person or a rule refused. It is read and not kept.
pub(super) const REFUSALS: [&str; 2] =
    ["The user rejected permission", "The user has specified a rule which prevents"];
