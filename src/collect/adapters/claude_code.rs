//! Claude Code. `request_id` is absent where the provider sends none: then the numbers of the request identify it.
//! `session.id` is absent if the settings leave it out: then the trace and the id of the call identify a tool.

use super::table::FieldSlot::*;
use super::table::KeyPart::{AnyAttribute, Attribute, ByTime, Parent, Span, Trace, Word};
use super::table::{AgentTable, Fields, KeyPart, LOG_ROW, Row, SPAN_ROW};
use crate::record::EventName::{AgentTurn, ModelCall};

pub(super) const TABLE: AgentTable = AgentTable {
    agent: "claude-code",
    services: &["claude-code"],
    own_names: &["claude_code.interaction", "claude_code.llm_request", "claude_code.tool"],
    common: &[
        (Session, "session.id"),
        (Conversation, "gen_ai.conversation.id"),
        (Conversation, "session.id"),
        (Turn, "prompt.id"),
        (Version, "service.version"),
        (Pid, "process.pid"),
    ],
    trace_is_turn: false,
    input_has_cached: false,
    provider: "",
    operation: "chat",
    spans: &[
        Row { name: "claude_code.interaction", event: AgentTurn, keys: TURN, has_status: true, ..SPAN_ROW },
        Row {
            name: "claude_code.llm_request",
            event: ModelCall,
            keys: &[
                REQUEST,
                &[Trace, Parent, MODEL, IN, OUT, READ, WRITE, ByTime],
                &[MODEL, IN, OUT, READ, WRITE, ByTime],
                &[Trace, Parent, ATTEMPT, Word("failed"), ByTime],
                FAILED_ALONE,
            ],
            fields: MODEL_CALL,
            ..SPAN_ROW
        },
        Row {
            name: "claude_code.tool",
            keys: WHOLE_TOOL,
            fields: &[
                (CallId, "tool_use_id"),
                (ToolServer, "anthropic.mcp.server.name"),
                (ToolName, "gen_ai.tool.name"),
                (ToolName, "tool_name"),
            ],
            ..SPAN_ROW
        },
        Row {
            name: "claude_code.tool.execution",
            part: 4,
            keys: TOOL,
            has_times: false,
            fields: &[(CallId, "tool_use_id"), (Success, "success"), (ErrorType, "error.type")],
            ..SPAN_ROW
        },
        Row {
            name: "claude_code.tool.blocked_on_user",
            part: 8,
            is_of_parent: true,
            fields: &[(Decision, "decision"), (DecidedBy, "source")],
            ..SPAN_ROW
        },
    ],
    events: &[
        Row { name: "user_prompt", event: AgentTurn, keys: TURN, has_times: false, ..LOG_ROW },
        Row {
            name: "api_request",
            event: ModelCall,
            keys: &[
                REQUEST,
                &[Trace, Span, MODEL, IN, OUT, READ, WRITE, ByTime],
                &[MODEL, IN, OUT, READ, WRITE, ByTime],
                FAILED_IN_SPAN,
                FAILED_ALONE,
            ],
            fields: MODEL_CALL,
            ..LOG_ROW
        },
        Row {
            name: "api_error",
            event: ModelCall,
            is_failure: true,
            keys: &[REQUEST, FAILED_IN_SPAN, FAILED_ALONE],
            fields: &[
                (Model, "model"),
                (Attempt, "attempt"),
                (Duration, "duration_ms"),
                (ErrorType, "status_code"),
                (ErrorType, "error_class"),
            ],
            ..LOG_ROW
        },
        Row {
            name: "tool_decision",
            part: 16,
            keys: TOOL,
            has_times: false,
            fields: &[
                (CallId, "tool_use_id"),
                (Decision, "decision"),
                (DecidedBy, "source"),
                (ToolServer, "tool_parameters#mcp_server_name"),
                (ToolName, "tool_parameters#mcp_tool_name"),
                (ToolName, "tool_name"),
            ],
            ..LOG_ROW
        },
        Row {
            name: "tool_decision",
            event: ModelCall,
            part: 32,
            keys: &[REQUEST],
            is_addition: true,
            has_times: false,
            fields: &[(CallIds, "tool_use_id")],
            ..LOG_ROW
        },
        Row {
            name: "tool_result",
            keys: WHOLE_TOOL,
            fields: &[
                (CallId, "tool_use_id"),
                (ToolServer, "tool_parameters#mcp_server_name"),
                (ToolName, "tool_parameters#mcp_tool_name"),
                (ToolName, "tool_name"),
                (Duration, "duration_ms"),
                (Success, "success"),
                (ErrorType, "error_type"),
            ],
            ..LOG_ROW
        },
    ],
};

const TURN: &[&[KeyPart]] = &[&[Trace, Word("turn")], &[Attribute("prompt.id")]];
const TOOL: &[&[KeyPart]] = &[OF_SESSION, OF_TRACE, OF_CALL];
/// Only the span and the end have times by which they are the same tool without an id.
const WHOLE_TOOL: &[&[KeyPart]] = &[OF_SESSION, OF_TRACE, OF_CALL, &[Trace, Word("tool"), ByTime]];
const OF_SESSION: &[KeyPart] = &[Attribute("session.id"), Attribute("tool_use_id")];
const OF_TRACE: &[KeyPart] = &[Trace, Attribute("tool_use_id")];
const OF_CALL: &[KeyPart] = &[Attribute("tool_use_id")];
const REQUEST: &[KeyPart] = &[Attribute("request_id")];
const MODEL: KeyPart = Attribute("model");
const IN: KeyPart = Attribute("input_tokens");
const OUT: KeyPart = Attribute("output_tokens");
const READ: KeyPart = AnyAttribute("cache_read_tokens");
const WRITE: KeyPart = AnyAttribute("cache_creation_tokens");
const ATTEMPT: KeyPart = AnyAttribute("attempt");
const FAILED_IN_SPAN: &[KeyPart] = &[Trace, Span, ATTEMPT, Word("failed"), ByTime];
const FAILED_ALONE: &[KeyPart] = &[ATTEMPT, Word("failed"), ByTime];

const MODEL_CALL: Fields = &[
    (Provider, "gen_ai.provider.name"),
    (Model, "model"),
    (InputTokens, "input_tokens"),
    (OutputTokens, "output_tokens"),
    (CachedTokens, "cache_read_tokens"),
    (CacheWriteTokens, "cache_creation_tokens"),
    (CostUsd, "cost_usd"),
    (FirstTokenMs, "ttft_ms"),
    (Attempt, "attempt"),
    (Duration, "duration_ms"),
    (Success, "success"),
    (ErrorType, "status_code"),
];
