//! Codex. The event that has the tokens of a request lies within the span `codex.sampling` of its conversation; no id
//! joins the two. A request that failed and was sent again is an event of its own, within the span of the last attempt.

use super::table::FieldSlot::*;
use super::table::KeyPart::{Attribute, ByTime, Span, Trace, Word};
use super::table::{AgentTable, KeyPart, LOG_ROW, Row, SPAN_ROW};
use crate::collect::fact::{LOG, SPAN};
use crate::record::EventName::{AgentTurn, ModelCall};

pub(super) const TABLE: AgentTable = AgentTable {
    agent: "codex",
    services: &["codex_exec", "codex_cli_rs", "codex-tui", "codex_vscode", "codex_sdk_ts"],
    own_names: &[
        "codex.sampling",
        "codex.sse_event",
        "codex.api_request",
        "codex.tool_decision",
        "codex.tool_result",
    ],
    common: &[
        (Session, "session.id"),
        (Session, "conversation.id"),
        (Conversation, "conversation.id"),
        (Turn, "turn.id"),
        (Turn, "turn_id"),
        (Version, "service.version"),
        (Pid, "process.pid"),
    ],
    trace_is_turn: false,
    input_has_cached: true,
    provider: "",
    operation: "chat",
    spans: &[
        Row {
            name: "run_turn",
            event: AgentTurn,
            part: 4,
            parts: SPAN,
            keys: TURN,
            has_times: false,
            ..SPAN_ROW
        },
        Row {
            name: "session_task.turn",
            event: AgentTurn,
            parts: SPAN,
            keys: TURN,
            has_status: true,
            ..SPAN_ROW
        },
        Row { name: "codex.sampling", event: ModelCall, keys: SAMPLING, ..SPAN_ROW },
        Row {
            name: "mcp.tools.call",
            part: 4,
            keys: TOOL,
            has_times: false,
            fields: &[(CallId, "tool.call_id"), (ToolServer, "mcp.server.name"), (ToolName, "tool.name")],
            ..SPAN_ROW
        },
        Row {
            only: Some(("codex.tool.phase", "dispatch")),
            keys: TOOL,
            fields: &[(CallId, "call_id"), (ToolName, "tool_name")],
            ..SPAN_ROW
        },
    ],
    events: &[
        Row {
            name: "codex.sse_event",
            only: Some(("input_token_count", "")),
            event: ModelCall,
            keys: SAMPLING,
            has_status: true,
            fields: &[
                (Model, "model"),
                (InputTokens, "input_token_count"),
                (OutputTokens, "output_token_count"),
                (CachedTokens, "cached_token_count"),
                (CacheWriteTokens, "cache_write_token_count"),
                (FirstTokenMs, "ttft_ms"),
            ],
            ..LOG_ROW
        },
        Row {
            name: "codex.sse_event",
            only: Some(("error.message", "")),
            event: ModelCall,
            keys: SAMPLING,
            is_failure: true,
            fields: &[(Model, "model"), (ErrorType, "event.kind")],
            ..LOG_ROW
        },
        Row {
            name: "codex.api_request",
            only: Some(("error.message", "")),
            event: ModelCall,
            parts: LOG,
            keys: &[&[Trace, Span, Attribute("attempt"), Word("failed")]],
            is_failure: true,
            fields: &[
                (Model, "model"),
                (AttemptFromZero, "attempt"),
                (Duration, "duration_ms"),
                (ErrorType, "http.response.status_code"),
            ],
            ..LOG_ROW
        },
        Row {
            name: "codex.tool_decision",
            part: 16,
            keys: TOOL,
            has_times: false,
            fields: &[
                (CallId, "call_id"),
                (Decision, "decision"),
                (DecidedBy, "source"),
                (ToolName, "tool_name"),
            ],
            ..LOG_ROW
        },
        Row {
            name: "codex.tool_result",
            keys: TOOL,
            fields: &[
                (CallId, "call_id"),
                (ToolServer, "mcp_server"),
                (ToolName, "tool_name"),
                (Duration, "duration_ms"),
                (Success, "success"),
            ],
            ..LOG_ROW
        },
    ],
};

const TURN: &[&[KeyPart]] = &[&[Attribute("turn.id")]];
const SAMPLING: &[&[KeyPart]] =
    &[&[Attribute("conversation.id"), Word("sampling"), ByTime], &[Word("sampling"), ByTime]];
const TOOL: &[&[KeyPart]] = &[
    &[Attribute("conversation.id"), Attribute("call_id")],
    &[Attribute("conversation.id"), Attribute("tool.call_id")],
    &[Attribute("call_id")],
    &[Attribute("tool.call_id")],
];
