//! Names of all attributes and instruments, with their origin. No other file spells them.
//!
//! `mcp.*`, `gen_ai.*`, `jsonrpc.*`, `rpc.*`, `error.*`, `network.*`, `session.*`, `enduser.*`: the
//! OpenTelemetry semantic conventions (MCP: development status, 1.41.1 and what was merged since).
//! `spantap.*` and `mcp.server.name` are ours.

/// Names of attributes of spans and points.
pub mod attribute {
    /// MCP conventions, required: the method on the wire.
    pub const MCP_METHOD_NAME: &str = "mcp.method.name";
    pub const MCP_PROTOCOL_VERSION: &str = "mcp.protocol.version";
    pub const MCP_RESOURCE_URI: &str = "mcp.resource.uri";
    /// Server name, also on spans and points, because some backends drop resource attributes.
    pub const MCP_SERVER_NAME: &str = "mcp.server.name";
    /// `tool_error`, a code, or one of our own words; absent on success.
    pub const ERROR_TYPE: &str = "error.type";
    /// The JSON-RPC error code as text.
    pub const RPC_RESPONSE_STATUS_CODE: &str = "rpc.response.status_code";
    pub const GEN_AI_TOOL_NAME: &str = "gen_ai.tool.name";
    pub const GEN_AI_PROMPT_NAME: &str = "gen_ai.prompt.name";
    /// `execute_tool` for tool calls.
    pub const GEN_AI_OPERATION_NAME: &str = "gen_ai.operation.name";
    pub const GEN_AI_CONVERSATION_ID: &str = "gen_ai.conversation.id";
    pub const GEN_AI_TOOL_CALL_ID: &str = "gen_ai.tool.call.id";
    pub const GEN_AI_REQUEST_MODEL: &str = "gen_ai.request.model";
    pub const GEN_AI_RESPONSE_MODEL: &str = "gen_ai.response.model";
    pub const GEN_AI_PROVIDER_NAME: &str = "gen_ai.provider.name";
    /// `input`, `output`.
    pub const GEN_AI_TOKEN_TYPE: &str = "gen_ai.token.type";
    pub const GEN_AI_AGENT_NAME: &str = "gen_ai.agent.name";
    pub const JSONRPC_REQUEST_ID: &str = "jsonrpc.request.id";
    /// Present only if it is not `2.0`.
    pub const JSONRPC_PROTOCOL_VERSION: &str = "jsonrpc.protocol.version";
    /// `pipe` for stdio.
    pub const NETWORK_TRANSPORT: &str = "network.transport";
    /// The connection id, for revisions of MCP with sessions.
    pub const MCP_SESSION_ID: &str = "mcp.session.id";
    /// The agent session.
    pub const SESSION_ID: &str = "session.id";
    pub const ENDUSER_ID: &str = "enduser.id";
    /// `ok`, `error`, `denied`, `timeout`, `cancelled`, `unknown`.
    pub const SPANTAP_STATUS: &str = "spantap.status";
    pub const SPANTAP_CONNECTION_ID: &str = "spantap.connection.id";
    pub const SPANTAP_SEQ: &str = "spantap.seq";
    pub const SPANTAP_ARGS_HASH: &str = "spantap.args_hash";
    pub const SPANTAP_RESULT_HASH: &str = "spantap.result_hash";
    /// Bytes of the request's line.
    pub const SPANTAP_REQUEST_SIZE: &str = "spantap.request.size";
    /// Bytes of the result or error.
    pub const SPANTAP_RESULT_SIZE: &str = "spantap.result.size";
    pub const SPANTAP_REPEAT_COUNT: &str = "spantap.repeat_count";
    /// On links: `connection`, or `continues` for the round before.
    pub const SPANTAP_LINK: &str = "spantap.link";
    pub const SPANTAP_CONTINUES_SEQ: &str = "spantap.continues_seq";
    pub const SPANTAP_TURN_ID: &str = "spantap.turn.id";
    pub const SPANTAP_HOST_NAME: &str = "spantap.host.name";
    /// On events `progress`: number of notifications so far.
    pub const SPANTAP_PROGRESS_COUNT: &str = "spantap.progress.count";
    /// `definitions`, `arguments`, `results`.
    pub const SPANTAP_TOKEN_KIND: &str = "spantap.token.kind";
    /// `llm_estimate`, `mcp`.
    pub const SPANTAP_COST_KIND: &str = "spantap.cost.kind";
    /// `added`, `removed`, or the part of the definition that changed: `title`, `description`, `input_schema`,
    /// `output_schema`, `annotations`, `other`.
    pub const SPANTAP_TOOL_CHANGE: &str = "spantap.tool.change";
    /// `tap`, `log`, `otlp`.
    pub const SPANTAP_SINK: &str = "spantap.sink";
    pub const SPANTAP_REASON: &str = "spantap.reason";
    /// `handshake`, `ping`, `tools/list`, `end`.
    pub const SPANTAP_CHECK_STEP: &str = "spantap.check.step";
}

/// Names of attributes of the resource (OpenTelemetry resource conventions).
pub mod resource {
    /// The server's name: each MCP server is a service.
    pub const SERVICE_NAME: &str = "service.name";
    /// `mcp`.
    pub const SERVICE_NAMESPACE: &str = "service.namespace";
    /// The connection id, so that two processes never write to one series.
    pub const SERVICE_INSTANCE_ID: &str = "service.instance.id";
    /// The version in the server's handshake; on spans and logs only, since metrics begin before it.
    pub const SERVICE_VERSION: &str = "service.version";
    pub const TELEMETRY_SDK_NAME: &str = "telemetry.sdk.name";
    pub const TELEMETRY_SDK_LANGUAGE: &str = "telemetry.sdk.language";
    pub const TELEMETRY_DISTRO_NAME: &str = "telemetry.distro.name";
    pub const TELEMETRY_DISTRO_VERSION: &str = "telemetry.distro.version";
}

/// Values that the conventions fix.
pub mod value {
    pub const PIPE: &str = "pipe";
    pub const EXECUTE_TOOL: &str = "execute_tool";
    pub const CHAT: &str = "chat";
    /// The value of an attribute that is required and not known.
    pub const OTHER: &str = "_OTHER";
}

/// The first revision of MCP without sessions, and so without `mcp.session.id`.
pub const FIRST_WITHOUT_SESSIONS: &str = "2026-07-28";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instrument {
    pub name: &'static str,
    pub unit: &'static str,
    pub kind: &'static str,
    pub description: &'static str,
}

/// Bounds of the histograms of operations in seconds: the conventions', preceded by three for the many calls
/// over stdio that take less than ten milliseconds.
pub const OPERATION_BOUNDS: &[f64] = SESSION_BOUNDS.split_at(17).0;

/// Bounds of the histograms of sessions in seconds: those of operations, and more up to 24 hours.
pub const SESSION_BOUNDS: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
    600.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 86400.0,
];

/// Bounds of the added-latency histogram in seconds.
pub const LATENCY_BOUNDS: [f64; 9] = [0.000_005, 0.000_02, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.01, 0.1, 1.0];

/// Bounds of the histogram of tokens (GenAI conventions).
pub const TOKEN_BOUNDS: &[f64] = &[
    1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0,
    16777216.0, 67108864.0,
];

/// Bounds of the histogram of model calls in seconds (GenAI conventions).
pub const MODEL_CALL_BOUNDS: &[f64] =
    &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

macro_rules! instruments {
    ($($constant:ident = $kind:literal $name:literal $unit:literal $description:literal;)*) => {
        $(pub const $constant: Instrument =
            Instrument { name: $name, unit: $unit, kind: $kind, description: $description };)*
        /// All instruments, in the order of `docs/telemetry.md`.
        pub const INSTRUMENTS: &[Instrument] = &[$($constant),*];
    };
}

instruments! {
    SERVER_OPERATION = "histogram" "mcp.server.operation.duration" "s"
        "Duration of a request as its receiver sees it (MCP conventions)";
    CLIENT_OPERATION = "histogram" "mcp.client.operation.duration" "s"
        "Duration of a request as its sender sees it (MCP conventions)";
    SERVER_SESSION = "histogram" "mcp.server.session.duration" "s"
        "Duration of the connection, seen from the server (MCP conventions)";
    CLIENT_SESSION = "histogram" "mcp.client.session.duration" "s"
        "Duration of the connection, seen from the client (MCP conventions)";
    SERVER_UP = "gauge" "spantap.server.up" "{server}" "1 while the server runs, 0 when it has ended";
    SERVER_UPTIME = "gauge" "spantap.server.uptime" "s" "Time since the server was started";
    SERVER_START = "gauge" "spantap.server.start.duration" "s" "Time from spawn to the server's first answer";
    SERVER_MEMORY = "gauge" "spantap.server.memory" "By" "Resident memory of the server process";
    SERVER_CPU = "counter" "spantap.server.cpu.time" "s" "CPU time of the server process, user and system";
    CONNECTION_FAILURES = "counter" "spantap.server.connection.failures" "{failure}"
        "Servers that could not be started, failed the handshake, or died";
    SESSION_TOOL_CALLS = "gauge" "spantap.session.tool_calls" "{call}" "Tool calls of this connection";
    SESSION_TOOLS = "gauge" "spantap.session.tools" "{tool}" "Different tools called in this connection";
    SESSION_TURNS = "gauge" "spantap.session.turns" "{turn}" "Turns (user requests) in this connection";
    SESSION_DENIALS = "gauge" "spantap.session.denials" "{denial}" "Calls that a person or policy refused";
    SESSION_REPEATS = "gauge" "spantap.session.repeats" "{call}"
        "Highest number of identical calls so far, by tool; above the threshold only without progress, or at four times the threshold";
    SESSION_TOKENS = "gauge" "spantap.session.tokens" "{token}" "Tokens by kind, estimated as bytes / 4; definitions: those of the tools that are listed now";
    SESSION_COST = "gauge" "spantap.session.cost.usd" "{USD}" "Cost by kind, estimated";
    DEFINITION_TOKENS = "gauge" "spantap.context.definition_tokens" "{token}"
        "Tokens of the tool's definition, estimated as bytes / 4; 0 once the server no longer lists the tool";
    TOOL_CHANGES = "counter" "spantap.tool.changes" "{change}"
        "Changes of tool definitions, by tool and by the part that changed";
    IN_FLIGHT = "updowncounter" "spantap.operation.in_flight" "{operation}" "Open requests";
    TELEMETRY_DROPPED = "counter" "spantap.telemetry.dropped" "{record}" "Records that were lost, by sink and reason";
    ADDED_LATENCY = "histogram" "spantap.relay.added_latency" "s" "Time from the read to the write of a chunk";
    QUEUE_DEPTH = "gauge" "spantap.relay.queue.depth" "By"
        "Bytes in the fullest ring, which the observer has not read yet";
    CHECK_UP = "gauge" "spantap.check.up" "{server}" "1 if the last check passed, else 0";
    CHECK_DURATION = "gauge" "spantap.check.duration" "s" "Time that a step of the last check took";
    CHECK_ATTEMPTS = "counter" "spantap.check.attempts" "{check}" "Checks that were made";
    CHECK_FAILURES = "counter" "spantap.check.failures" "{failure}" "Checks that failed, by reason";
    CHECK_FAILURES_IN_A_ROW = "gauge" "spantap.check.failures_in_a_row" "{failure}"
        "Checks that failed since the last one that passed";
    MODEL_TOKENS = "histogram" "gen_ai.client.token.usage" "{token}"
        "Tokens of a model call, as the agent reported them (GenAI conventions)";
    MODEL_CALL = "histogram" "gen_ai.client.operation.duration" "s"
        "Duration of a model call, as the agent measured it (GenAI conventions)";
}

/// Codes of errors that the client caused; a server span does not count them as errors (MCP conventions).
pub const CLIENT_CAUSED: [i64; 5] = [-32700, -32600, -32601, -32602, -32002];

/// Name of the connection's span, from spawn to the first answer.
pub const CONNECT_SPAN: &str = "mcp.connect";
/// Name of the root span of a session.
pub const SESSION_SPAN: &str = "spantap.session";
/// Values of `spantap.link`.
pub const LINK_CONNECTION: &str = "connection";
pub const LINK_CONTINUES: &str = "continues";
pub const EVENT_PROGRESS: &str = "progress";
pub const EVENT_CANCELLED: &str = "cancelled";
pub const EVENT_THRASHING: &str = "agent_thrashing";
pub const EVENT_SLOW: &str = "call_pending";
/// The instrumentation scope of everything we send.
pub const SCOPE: &str = "spantap";
