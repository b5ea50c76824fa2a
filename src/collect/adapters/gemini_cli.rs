//! Gemini CLI. The event of a tool is in the trace of its span's parent; the event of a request has the
//! numbers of its span, and the event of a failure is in its span.
//!
//! Input and output do not contain the tokens of thoughts and of the results of the provider's own tools, which are billed,
//! too. Only the event has those, so the tokens of the span are only a part of the id.

use super::table::FieldSlot::*;
use super::table::KeyPart::{Attribute, ByTime, Parent, Span, Trace, Word};
use super::table::{AgentTable, KeyPart, LOG_ROW, Row, SPAN_ROW};
use crate::collect::fact::LOG;
use crate::record::EventName::{AgentTurn, ModelCall};

pub(super) const TABLE: AgentTable = AgentTable {
    agent: "gemini-cli",
    services: &["gemini-cli"],
    own_names: &[
        "gemini_cli.user_prompt",
        "gemini_cli.api_response",
        "gemini_cli.api_error",
        "gemini_cli.tool_call",
    ],
    common: &[
        (Session, "session.id"),
        (Conversation, "gen_ai.conversation.id"),
        (Conversation, "session.id"),
        (Turn, "prompt_id"),
        (Turn, "gen_ai.prompt.name"),
        (Pid, "process.pid"),
    ],
    trace_is_turn: false,
    input_has_cached: true,
    provider: "gcp.gen_ai",
    operation: "generate_content",
    spans: &[
        Row {
            name: "llm_call",
            event: ModelCall,
            keys: &[
                &[
                    Attribute("gen_ai.conversation.id"),
                    Attribute("gen_ai.usage.input_tokens"),
                    Attribute("gen_ai.usage.output_tokens"),
                    ByTime,
                ],
                &[
                    Attribute("session.id"),
                    Attribute("gen_ai.usage.input_tokens"),
                    Attribute("gen_ai.usage.output_tokens"),
                    ByTime,
                ],
                &[Attribute("gen_ai.usage.input_tokens"), Attribute("gen_ai.usage.output_tokens"), ByTime],
                FAILED,
            ],
            has_status: true,
            fields: &[(ErrorType, "error.type")],
            ..SPAN_ROW
        },
        Row {
            name: "tool_call",
            keys: &[&[Trace, Parent, Attribute("gen_ai.tool.name")]],
            fields: &[(CallId, "gen_ai.tool.call_id"), (ToolName, "gen_ai.tool.name")],
            ..SPAN_ROW
        },
    ],
    events: &[
        Row {
            name: "gemini_cli.user_prompt",
            event: AgentTurn,
            parts: LOG,
            // A session that is continued counts its prompts anew.
            keys: &[&[Attribute("prompt_id"), ByTime]],
            ..LOG_ROW
        },
        Row {
            name: "gemini_cli.api_response",
            event: ModelCall,
            keys: &[
                &[
                    Attribute("session.id"),
                    Attribute("input_token_count"),
                    Attribute("output_token_count"),
                    ByTime,
                ],
                &[Attribute("input_token_count"), Attribute("output_token_count"), ByTime],
            ],
            has_status: true,
            fields: &[
                (Model, "model"),
                (InputTokens, "input_token_count"),
                (MoreInputTokens, "tool_token_count"),
                (OutputTokens, "output_token_count"),
                (MoreOutputTokens, "thoughts_token_count"),
                (CachedTokens, "cached_content_token_count"),
                (Duration, "duration_ms"),
            ],
            ..LOG_ROW
        },
        Row {
            name: "gemini_cli.api_error",
            event: ModelCall,
            keys: &[FAILED],
            is_failure: true,
            fields: &[
                (Model, "model"),
                (Duration, "duration_ms"),
                (ErrorType, "status_code"),
                (ErrorType, "error.type"),
            ],
            ..LOG_ROW
        },
        Row {
            name: "gemini_cli.tool_call",
            keys: &[&[Trace, Span, Attribute("function_name")]],
            fields: &[
                (ToolServer, "mcp_server_name"),
                (ToolName, "function_name"),
                (Decision, "decision"),
                // A call that a policy refuses has no decision.
                (Decision, "error_type"),
                (DecidedBy, "error_type"),
                (Duration, "duration_ms"),
                (Success, "success"),
                (ErrorType, "error_type"),
            ],
            ..LOG_ROW
        },
    ],
};

const FAILED: &[KeyPart] = &[Trace, Span, Word("failed")];
