//! The fields of each event, and the JSON Schema of the record.
//!
//! The table of events is the contract in one place: the schema is made from it, `docs/log.md` prints it, and a
//! test compares it with [`Record::new`] in both directions. The events of agents have a table of their own.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::record::agent::AgentRecord;
use crate::record::{EventName, Record, SCHEMA};

/// Fields of every record of a connection. Lists of names are separated by blanks.
pub const ALWAYS: &str = "schema timestamp level event message seq session_id connection_id server_name";

/// Fields of every record once they are known.
pub const WHERE_KNOWN: &str = "host_name user_id conversation_id turn_id";

/// Fields of every record of an agent.
pub const AGENT_ALWAYS: &str = "schema timestamp level event message seq session_id connection_id agent_name";

/// Fields of every record of an agent once they are known.
pub const AGENT_WHERE_KNOWN: &str = "fact_id amends agent_version host_pid conversation_id turn_id trace_id span_id \
    parent_span_id started_at ended_at duration_ms status error_type";

/// The fields of an event beyond those of every record.
pub struct EventFields {
    pub event: EventName,
    pub required: &'static str,
    pub optional: &'static str,
}

const fn fields(event: EventName, required: &'static str, optional: &'static str) -> EventFields {
    EventFields { event, required, optional }
}

/// All events of connections, in the order of `docs/log.md`.
pub const EVENTS: &[EventFields] = &[
    fields(
        EventName::SessionStarted,
        "pid version command environment session_source trace_id span_id trace_flags",
        "child_pid host_pid cwd origin hash_key_id stderr_is_stdout begins_session parent_span_id trace_state",
    ),
    fields(
        EventName::PeerIdentified,
        "",
        "client_name client_version server_self_name server_version protocol_version",
    ),
    fields(
        EventName::McpToolCall,
        OPERATION,
        "tool_name protocol_version jsonrpc_version args_hash result_hash text_hash error_code \
        error_type error_message result_size_bytes args_tokens_est result_tokens_est result_over_limit repeat_count \
        thrashing pending_at progress_count progress_first_at progress_last_at cancelled_at answer_id call_id model \
        user_wait_ms continues_seq continues_span_id continues_trace_id task_id_hash task_handle_ms task_result_seen parent_span_id \
        linked_span_id linked_trace_id trace_state truncated count redactions",
    ),
    fields(
        EventName::McpRequest,
        OPERATION,
        "prompt_name resource_uri protocol_version jsonrpc_version args_hash result_hash text_hash \
        error_code error_type error_message result_size_bytes args_tokens_est result_tokens_est \
        pending_at progress_count progress_first_at progress_last_at cancelled_at answer_id call_id model user_wait_ms \
        continues_seq continues_span_id continues_trace_id task_id_hash parent_span_id linked_span_id \
        linked_trace_id trace_state truncated count redactions",
    ),
    fields(EventName::CallPending, PENDING, PENDING_OPTIONAL),
    fields(EventName::ServerUnresponsive, PENDING, PENDING_OPTIONAL),
    fields(
        EventName::AgentThrashing,
        "request_id tool_name args_hash count no_progress trace_id span_id trace_flags",
        "cycle_length parent_span_id linked_span_id linked_trace_id trace_state",
    ),
    fields(
        EventName::TaskEnded,
        "task_id_hash status",
        "task_result_seen error_code error_type error_message result_size_bytes result_tokens_est result_hash \
        text_hash cancelled_at answer_id truncated redactions",
    ),
    fields(EventName::ToolsListed, "tools tools_total is_complete definition_bytes", "unlisted page count"),
    fields(EventName::ToolsChanged, "changes added removed changed definitions_hash", "unlisted count"),
    fields(EventName::ToolsLinted, "linted", "unlisted"),
    fields(EventName::Malformed, "stream count size_bytes reason", ""),
    fields(EventName::Unmatched, "direction what count", "request_id error_code"),
    fields(EventName::Gap, "place reason", "stream bytes_lost frames_lost records_lost"),
    fields(
        EventName::SessionEnded,
        "reason totals",
        "exit_code signal orphan_killed error_message dropped stderr_tail",
    ),
    fields(EventName::ToolResult, "request_id tool_name result_summary", "result_hash redactions"),
    fields(EventName::McpNotification, "direction method size_bytes", "text redactions"),
    fields(EventName::ServerStderr, "stream text size_bytes", "redactions"),
    fields(EventName::DebugStarted, "debug_until bodies", ""),
    fields(EventName::DebugEnded, "", ""),
];

/// All events of agents, which `spantap collect` records.
pub const AGENT_EVENTS: &[EventFields] = &[
    fields(EventName::AgentTurn, "", ""),
    fields(
        EventName::ModelCall,
        "",
        "provider operation model input_tokens output_tokens cached_tokens cache_write_tokens cost_usd cost_source first_token_ms attempt \
        call_ids",
    ),
    fields(EventName::AgentTool, "", "call_id tool_name tool_server decision decided_by person_wait_ms"),
    fields(EventName::ServerSpan, "trace_id span_id span_name", "span_kind"),
];

const OPERATION: &str = "request_id direction method started_at ended_at duration_ms status request_size_bytes trace_id \
    span_id trace_flags";
const PENDING: &str = "request_id direction method started_at open_ms in_flight trace_id span_id trace_flags";
const PENDING_OPTIONAL: &str =
    "tool_name prompt_name resource_uri parent_span_id linked_span_id linked_trace_id trace_state";

/// Fields whose text has a form.
const FORMS: &[(&str, &str)] = &[
    ("trace_id", "^[0-9a-f]{32}$"),
    ("linked_trace_id", "^[0-9a-f]{32}$"),
    ("span_id", "^[0-9a-f]{16}$"),
    ("parent_span_id", "^[0-9a-f]{16}$"),
    ("linked_span_id", "^[0-9a-f]{16}$"),
    ("trace_flags", "^[0-9a-f]{2}$"),
    ("fact_id", "^[0-9a-f]{16}$"),
    ("hash_key_id", "^[0-9a-f]{8}$"),
    ("args_hash", HASH),
    ("result_hash", HASH),
    ("text_hash", HASH),
    ("task_id_hash", HASH),
    ("definitions_hash", HASH),
    ("connection_id", "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$"),
];
const HASH: &str = "^(hmac-)?sha256(-raw)?:[0-9a-f]{64}$";

/// Returns the JSON Schema (draft 2020-12) of one line of a log that this version writes. It has types and
/// descriptions from [`Record`] and [`AgentRecord`], and the fields of each event.
pub fn schema() -> Value {
    let mut schema = schema_of::<Record<'_>>();
    let agents = schema_of::<AgentRecord<'_>>();
    for part in ["properties", "$defs"] {
        let (Some(all), Some(more)) = (schema[part].as_object_mut(), agents[part].as_object()) else {
            continue;
        };
        for (name, field) in more {
            all.entry(name).or_insert_with(|| field.clone());
        }
    }
    let mut per_event: Vec<Value> = EVENTS.iter().map(|event| event.schema(ALWAYS, WHERE_KNOWN)).collect();
    per_event.extend(AGENT_EVENTS.iter().map(|event| event.schema(AGENT_ALWAYS, AGENT_WHERE_KNOWN)));
    if let Some(root) = schema.as_object_mut() {
        root.insert("$id".to_owned(), json!(format!("urn:spantap:log:{SCHEMA}")));
        root.insert("title".to_owned(), json!(format!("spantap log record, {SCHEMA}")));
        let mut required = names(ALWAYS);
        required.retain(|name| names(AGENT_ALWAYS).contains(name));
        root.insert("required".to_owned(), json!(required));
        root.insert("allOf".to_owned(), json!(per_event));
        if let Some(properties) = root.get_mut("properties").and_then(Value::as_object_mut) {
            properties.values_mut().for_each(without_null);
            extend(properties, "schema", "const", json!(SCHEMA));
            FORMS.iter().for_each(|(field, form)| extend(properties, field, "pattern", json!(form)));
        }
    }
    schema
}

fn schema_of<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>().to_value()
}

/// Removes null and the default from the schema of a field, since an unknown field is absent.
fn without_null(field: &mut Value) {
    let Some(field) = field.as_object_mut() else { return };
    field.remove("default");
    let not_null = |kind: &Value| kind != "null" && kind.get("type").is_none_or(|kind| kind != "null");
    if let Some(Value::Array(kinds)) = field.get_mut("type") {
        kinds.retain(not_null);
        if let [kind] = kinds.as_slice() {
            let kind = kind.clone();
            field.insert("type".to_owned(), kind);
        }
    }
    if let Some(Value::Array(words)) = field.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    if let Some(Value::Array(kinds)) = field.get_mut("anyOf") {
        kinds.retain(not_null);
        if let [Value::Object(kind)] = kinds.as_mut_slice() {
            let mut kind = std::mem::take(kind);
            field.remove("anyOf");
            field.append(&mut kind);
        }
    }
}

/// Returns the names of a list.
pub fn names(list: &str) -> Vec<&str> {
    list.split(' ').filter(|name| !name.is_empty()).collect()
}

fn extend(properties: &mut Map<String, Value>, field: &str, keyword: &str, value: Value) {
    if let Some(field) = properties.get_mut(field).and_then(Value::as_object_mut) {
        field.insert(keyword.to_owned(), value);
    }
}

impl EventFields {
    /// Returns the rule that a record of this event has these fields and no other fields.
    fn schema(&self, always: &str, where_known: &str) -> Value {
        let known = [always, where_known, self.required, self.optional].map(names).concat();
        let required = [always, self.required].map(names).concat();
        json!({
            "if": {"properties": {"event": {"const": self.event.as_str()}}, "required": ["event"]},
            "then": {"required": required, "propertyNames": {"enum": known}},
        })
    }
}

#[cfg(test)]
mod tests;
