//! Any agent that follows the conventions of OpenTelemetry for generative AI.

use super::table::FieldSlot::*;
use super::table::KeyPart::{Span, Trace};
use super::table::{AgentTable, EXCEPTION, Fields, Row, SPAN_ROW};
use crate::collect::fact::SPAN;
use crate::record::EventName::{self, AgentTool, AgentTurn, ModelCall};

/// The attribute that makes a service an agent, unless it is that of a server.
pub(super) const OPERATION: &str = "gen_ai.operation.name";

pub(super) const TABLE: AgentTable = AgentTable {
    agent: "",
    services: &[],
    own_names: &[],
    common: &[
        (Session, "session.id"),
        (Conversation, "gen_ai.conversation.id"),
        (Version, "service.version"),
        (Pid, "process.pid"),
    ],
    trace_is_turn: true,
    input_has_cached: true,
    provider: "",
    operation: "",
    spans: &[
        operation("invoke_agent", AgentTurn, &[(ErrorType, "error.type")]),
        operation("chat", ModelCall, MODEL_CALL),
        operation("generate_content", ModelCall, MODEL_CALL),
        operation("text_completion", ModelCall, MODEL_CALL),
        operation(
            "execute_tool",
            AgentTool,
            &[(CallId, "gen_ai.tool.call.id"), (ToolName, "gen_ai.tool.name"), (ErrorType, "error.type")],
        ),
    ],
    events: &[],
};

const MODEL_CALL: Fields = &[
    (Provider, "gen_ai.provider.name"),
    (Provider, "gen_ai.system"),
    (Operation, OPERATION),
    (Model, "gen_ai.response.model"),
    (Model, "gen_ai.request.model"),
    (InputTokens, "gen_ai.usage.input_tokens"),
    (OutputTokens, "gen_ai.usage.output_tokens"),
    (CachedTokens, "gen_ai.usage.cache_read.input_tokens"),
    (CacheWriteTokens, "gen_ai.usage.cache_creation.input_tokens"),
    (ErrorType, "error.type"),
    (ErrorType, EXCEPTION),
];

const fn operation(name: &'static str, event: EventName, fields: Fields) -> Row {
    Row {
        only: Some((OPERATION, name)),
        event,
        parts: SPAN,
        keys: &[&[Trace, Span]],
        has_status: true,
        fields,
        ..SPAN_ROW
    }
}
