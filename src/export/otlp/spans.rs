//! Records to spans: the only place where a span is made, live or from a file years later.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::export::otlp::sampler::Sampling;
use crate::export::otlp::semconv::{self, attribute as name};
use crate::record::timestamp::Timestamp;
use crate::record::words::{self, Direction, EndReason, Side};
use crate::record::{EventName, Record};

/// Returns the kind of the span of a request that travels in `direction`, seen from `side`.
pub fn kind_of(side: Side, direction: Direction) -> SpanKind {
    match (side, direction) {
        (Side::Server, Direction::ClientToServer) | (Side::Client, Direction::ServerToClient) => {
            SpanKind::Server
        }
        (Side::Server, Direction::ServerToClient) | (Side::Client, Direction::ClientToServer) => {
            SpanKind::Client
        }
    }
}

/// Finds in one connection's records, in their order, what is to be a span.
#[derive(Debug)]
pub struct SpanTracker {
    sampling: Sampling,
    maker: SpanBuilder,
    /// The connection span, until its end is known.
    connecting: Option<SpanData>,
}

/// What a record completes.
#[derive(Debug, Default)]
pub struct Completed {
    /// The connection's span, where it was waited for.
    pub connection: Option<SpanData>,
    /// The record's operation is to be a span: of [`SpanBuilder::operation`].
    pub operation: bool,
}

impl SpanTracker {
    pub fn new(side: Side, sampling: Sampling) -> SpanTracker {
        SpanTracker { sampling, maker: SpanBuilder::new(side, sampling.value_length), connecting: None }
    }

    /// What of `record` is to be sent.
    pub fn take(&mut self, record: &Record<'_>) -> Completed {
        let mut completed = Completed::default();
        match record.event {
            EventName::SessionStarted => self.connecting = self.maker.connection(record),
            EventName::McpToolCall | EventName::McpRequest => {
                // The server has answered: it is connected.
                if record.result_size_bytes.is_some() && record.direction == Some(Direction::ClientToServer) {
                    completed.connection = self.connected(record, None);
                }
                completed.operation = self.samples_operation(record);
            }
            EventName::SessionEnded => {
                let failure =
                    record.reason.as_deref().filter(|reason| *reason != EndReason::ServerExited.as_str());
                completed.connection = self.connected(record, failure);
            }
            _ => {}
        }
        completed
    }

    fn connected(&mut self, record: &Record<'_>, failure: Option<&str>) -> Option<SpanData> {
        let mut span = self.connecting.take()?;
        span.end_time = time(record.ended_at.unwrap_or(record.timestamp)).max(span.start_time);
        if let Some(failure) = failure {
            span.attributes.push(KeyValue::new(name::ERROR_TYPE, failure.to_owned()));
            span.status = Status::error(failure.to_owned());
        }
        let context = &span.span_context;
        self.samples(context.trace_id(), context.trace_flags(), failure.is_some(), false)
            .then(|| self.maker.finish(span))
    }

    fn samples_operation(&self, record: &Record<'_>) -> bool {
        let failed = record.status.is_some_and(words::Status::is_failure);
        record.method.is_some()
            && ids(record).is_some_and(|(trace_id, _)| {
                self.samples(trace_id, flags(record), failed, record.pending_at.is_some())
            })
    }

    fn samples(&self, trace_id: TraceId, flags: TraceFlags, failed: bool, slow: bool) -> bool {
        let Sampling { keep, sampler, .. } = self.sampling;
        // Without a parent-based sampler the caller's flag counts for nothing.
        let is_sampled = match sampler.parent_based {
            true => flags.is_sampled(),
            false => sampler.samples(trace_id.to_bytes()),
        };
        is_sampled || (keep.errors && failed) || (keep.slow && slow)
    }
}

/// Makes spans that are to be sent; what a span says depends on its record alone.
#[derive(Clone, Debug)]
pub struct SpanBuilder {
    side: Side,
    value_length: Option<usize>,
    scope: InstrumentationScope,
}

impl SpanBuilder {
    /// Texts of attributes are cut to `value_length` characters.
    pub fn new(side: Side, value_length: Option<usize>) -> SpanBuilder {
        SpanBuilder { side, value_length, scope: semconv::scope() }
    }

    /// The span of an operation. `None` where the record is of none.
    pub fn operation(&self, record: &Record<'_>) -> Option<SpanData> {
        let method = record.method.as_deref()?;
        // A newer version may know a further direction.
        let kind = kind_of(self.side, record.direction.unwrap_or(Direction::ServerToClient));
        let target = record.tool_name.as_deref().or(record.prompt_name.as_deref());
        let title = target.map_or_else(|| method.to_owned(), |target| format!("{method} {target}"));
        let mut span = self.span(record, title, kind.clone())?;
        span.attributes = attributes(record);
        if let Some(error_type) = error_type(record, &kind) {
            span.attributes.push(KeyValue::new(name::ERROR_TYPE, error_type));
            span.status = Status::error(record.error_message.as_deref().unwrap_or_default().to_owned());
        }
        span.events = events(record);
        span.links = links(record);
        Some(self.finish(span))
    }

    /// The span of a connection that has begun.
    fn connection(&self, record: &Record<'_>) -> Option<SpanData> {
        let mut span = self.span(record, semconv::CONNECT_SPAN.to_owned(), SpanKind::Internal)?;
        span.parent_span_is_remote = true;
        span.attributes = common(record);
        Some(span)
    }

    /// A span that is sent says that it is sampled.
    fn finish(&self, mut span: SpanData) -> SpanData {
        let context = span.span_context.clone();
        span.span_context = SpanContext::new(
            context.trace_id(),
            context.span_id(),
            context.trace_flags() | TraceFlags::SAMPLED,
            false,
            context.trace_state().clone(),
        );
        if let Some(length) = self.value_length {
            shorten(&mut span.attributes, length);
        }
        span
    }

    /// A span with the record's ids and times. `None` where the record has none.
    fn span(&self, record: &Record<'_>, name: String, kind: SpanKind) -> Option<SpanData> {
        let (trace_id, span_id) = ids(record)?;
        let state = record.trace_state.as_deref().and_then(|state| state.parse::<TraceState>().ok());
        let parent = record.parent_span_id.as_deref().and_then(|id| SpanId::from_hex(id).ok());
        Some(SpanData {
            span_context: SpanContext::new(
                trace_id,
                span_id,
                flags(record),
                false,
                state.unwrap_or_default(),
            ),
            parent_span_id: parent.unwrap_or(SpanId::INVALID),
            // With a link to the connection the parent is the caller's span.
            parent_span_is_remote: record.linked_span_id.is_some(),
            span_kind: kind,
            name: name.into(),
            start_time: time(record.started_at.unwrap_or(record.timestamp)),
            end_time: time(record.ended_at.unwrap_or(record.timestamp)),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        })
    }
}

fn ids(record: &Record<'_>) -> Option<(TraceId, SpanId)> {
    let trace_id = TraceId::from_hex(record.trace_id.as_deref()?).ok()?;
    Some((trace_id, SpanId::from_hex(record.span_id.as_deref()?).ok()?))
}

fn flags(record: &Record<'_>) -> TraceFlags {
    let flags = record.trace_flags.as_deref().unwrap_or("00");
    TraceFlags::new(u8::from_str_radix(flags, 16).unwrap_or(0))
}

/// Cuts texts to `length` characters (OpenTelemetry "Attribute Limits").
fn shorten(attributes: &mut [KeyValue], length: usize) {
    for attribute in attributes {
        if let Value::String(text) = &attribute.value
            && let Some((end, _)) = text.as_str().char_indices().nth(length)
        {
            attribute.value = Value::from(text.as_str()[..end].to_owned());
        }
    }
}

/// `error.type` by the conventions, which differ by side; `None` where nothing failed.
pub fn error_type(record: &Record<'_>, kind: &SpanKind) -> Option<String> {
    let word = record.error_type.as_deref()?;
    if !record.status.is_some_and(words::Status::is_failure) {
        return None;
    }
    // A person who says no answers all the same.
    if word == "declined" && record.error_code.is_none() {
        return None;
    }
    let by_client = record.error_code.is_some_and(|code| semconv::CLIENT_CAUSED.contains(&code));
    (!(by_client && *kind == SpanKind::Server && word.parse::<i64>().is_ok())).then(|| word.to_owned())
}

/// Microseconds are all that a record has, so a span has no more.
fn time(timestamp: Timestamp) -> SystemTime {
    let micros = Duration::from_micros(timestamp.0.unsigned_abs());
    if timestamp.0 < 0 { SystemTime::UNIX_EPOCH - micros } else { SystemTime::UNIX_EPOCH + micros }
}

/// What every span carries.
fn common(record: &Record<'_>) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new(name::MCP_SERVER_NAME, record.server_name.to_string()),
        KeyValue::new(name::SESSION_ID, record.session_id.to_string()),
        KeyValue::new(name::SPANTAP_CONNECTION_ID, record.connection_id.to_string()),
        KeyValue::new(name::NETWORK_TRANSPORT, semconv::value::PIPE),
    ];
    for (key, value) in [
        (name::ENDUSER_ID, &record.user_id),
        (name::GEN_AI_CONVERSATION_ID, &record.conversation_id),
        (name::SPANTAP_TURN_ID, &record.turn_id),
        (name::SPANTAP_HOST_NAME, &record.host_name),
    ] {
        attributes.extend(value.as_ref().map(|value| KeyValue::new(key, value.to_string())));
    }
    attributes
}

/// An id that is a string stands as JSON in the record, and as itself on the span; null is no id.
fn request_id(json: &str) -> Option<String> {
    match serde_json::from_str(json) {
        Ok(serde_json::Value::Null) => None,
        Ok(serde_json::Value::String(text)) => Some(text),
        // Cut or redacted: what is left of it.
        Err(_) => Some(json.trim_matches('"').to_owned()),
        Ok(_) => Some(json.to_owned()),
    }
}

fn attributes(record: &Record<'_>) -> Vec<KeyValue> {
    let mut attributes = common(record);
    let is_call = record.tool_name.is_some();
    let id = record.request_id.as_deref().and_then(request_id);
    // Sessions end with 2026-07-28; over stdio a session is a connection.
    let version = record.protocol_version.as_deref();
    let in_session = version.is_some_and(|version| version < semconv::FIRST_WITHOUT_SESSIONS);
    let text = |value: &Option<std::borrow::Cow<'_, str>>| value.as_ref().map(|value| value.to_string());
    for (key, value) in [
        (name::MCP_METHOD_NAME, text(&record.method)),
        (name::GEN_AI_OPERATION_NAME, is_call.then(|| semconv::value::EXECUTE_TOOL.to_owned())),
        (name::GEN_AI_TOOL_NAME, text(&record.tool_name)),
        (name::GEN_AI_PROMPT_NAME, text(&record.prompt_name)),
        (name::MCP_RESOURCE_URI, text(&record.resource_uri)),
        (name::JSONRPC_REQUEST_ID, id),
        (name::JSONRPC_PROTOCOL_VERSION, text(&record.jsonrpc_version)),
        (name::MCP_PROTOCOL_VERSION, text(&record.protocol_version)),
        (name::MCP_SESSION_ID, in_session.then(|| record.connection_id.to_string())),
        (name::RPC_RESPONSE_STATUS_CODE, record.error_code.map(|code| code.to_string())),
        (name::GEN_AI_TOOL_CALL_ID, text(&record.call_id)),
        (name::SPANTAP_STATUS, record.status.map(|status| status.as_str().to_owned())),
        (name::SPANTAP_ARGS_HASH, text(&record.args_hash)),
        (name::SPANTAP_RESULT_HASH, text(&record.result_hash)),
    ] {
        attributes.extend(value.map(|value| KeyValue::new(key, value)));
    }
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    for (key, value) in [
        (name::SPANTAP_SEQ, Some(record.seq)),
        (name::SPANTAP_REQUEST_SIZE, record.request_size_bytes),
        (name::SPANTAP_RESULT_SIZE, record.result_size_bytes),
        (name::SPANTAP_REPEAT_COUNT, record.repeat_count.map(u64::from)),
        (name::SPANTAP_CONTINUES_SEQ, record.continues_seq),
    ] {
        attributes.extend(value.map(|value| KeyValue::new(key, number(value))));
    }
    attributes
}

/// At most five, however long the call was.
fn events(record: &Record<'_>) -> SpanEvents {
    let mut events = SpanEvents::default();
    let mut event = |name: &'static str, at: Option<Timestamp>, attributes: Vec<KeyValue>| {
        events.events.extend(at.map(|at| Event::new(name, time(at), attributes, 0)));
    };
    let count = |count: u64| {
        vec![KeyValue::new(name::SPANTAP_PROGRESS_COUNT, i64::try_from(count).unwrap_or(i64::MAX))]
    };
    let progress = record.progress_count.unwrap_or(0);
    event(semconv::EVENT_PROGRESS, record.progress_first_at, count(1));
    event(semconv::EVENT_PROGRESS, record.progress_last_at.filter(|_| progress > 1), count(progress));
    event(semconv::EVENT_SLOW, record.pending_at, Vec::new());
    event(semconv::EVENT_THRASHING, record.started_at.filter(|_| record.thrashing == Some(true)), Vec::new());
    event(semconv::EVENT_CANCELLED, record.cancelled_at, Vec::new());
    events
}

/// To the connection span, where it is not the parent, and to the round that this one continues.
fn links(record: &Record<'_>) -> SpanLinks {
    let mut links = SpanLinks::default();
    let own = record.trace_id.as_deref();
    let connection = record.linked_trace_id.as_deref().or(own).zip(record.linked_span_id.as_deref());
    let round = record.continues_trace_id.as_deref().or(own).zip(record.continues_span_id.as_deref());
    let relations = [(connection, semconv::LINK_CONNECTION), (round, semconv::LINK_CONTINUES)];
    for (ids, relation) in relations {
        let Some((trace_id, span_id)) = ids else { continue };
        let (Ok(trace_id), Ok(span_id)) = (TraceId::from_hex(trace_id), SpanId::from_hex(span_id)) else {
            continue;
        };
        let context =
            SpanContext::new(trace_id, span_id, TraceFlags::default(), false, TraceState::default());
        links.links.push(Link::new(context, vec![KeyValue::new(name::SPANTAP_LINK, relation)], 0));
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::otlp::sampler::AlwaysKeep;

    fn call(status: words::Status) -> Record<'static> {
        Record {
            event: EventName::McpToolCall,
            method: Some("tools/call".into()),
            tool_name: Some("read_file".into()),
            direction: Some(Direction::ClientToServer),
            status: Some(status),
            request_id: Some("\"7\"".into()),
            trace_id: Some("0af7651916cd43dd8448eb211c80319c".into()),
            span_id: Some("b7ad6b7169203331".into()),
            trace_flags: Some("03".into()),
            started_at: Some(Timestamp(1_000)),
            ended_at: Some(Timestamp(5_000)),
            ..Record::default()
        }
    }

    /// The spans that `record` completes, as they are sent.
    fn spans(tracer: &mut SpanTracker, record: &Record<'_>) -> Vec<SpanData> {
        let completed = tracer.take(record);
        let operation = completed.operation.then(|| tracer.maker.operation(record).unwrap());
        completed.connection.into_iter().chain(operation).collect()
    }

    fn one(tracer: &mut SpanTracker, record: &Record<'_>) -> SpanData {
        let mut spans = spans(tracer, record);
        assert_eq!(spans.len(), 1);
        spans.remove(0)
    }

    fn value(span: &SpanData, key: &str) -> Option<String> {
        span.attributes
            .iter()
            .find(|attribute| attribute.key.as_str() == key)
            .map(|found| found.value.to_string())
    }

    #[test]
    fn a_tool_call_is_a_server_span_by_the_conventions() {
        let span = one(&mut SpanTracker::new(Side::Server, Sampling::default()), &call(words::Status::Ok));
        assert_eq!(span.name, "tools/call read_file");
        assert_eq!(span.span_kind, SpanKind::Server);
        assert_eq!(span.status, Status::Unset);
        assert_eq!(value(&span, "gen_ai.operation.name").as_deref(), Some("execute_tool"));
        assert_eq!(value(&span, "jsonrpc.request.id").as_deref(), Some("7"));
        assert_eq!(value(&span, "error.type"), None);
        assert_eq!(span.end_time.duration_since(span.start_time).unwrap(), Duration::from_millis(4));
    }

    #[test]
    fn what_the_client_did_wrong_is_an_error_of_the_client_only() {
        let wrong = Record {
            error_code: Some(-32602),
            error_type: Some("-32602".into()),
            ..call(words::Status::Error)
        };
        let server = one(&mut SpanTracker::new(Side::Server, Sampling::default()), &wrong);
        assert_eq!(value(&server, "error.type"), None);
        assert_eq!(value(&server, "rpc.response.status_code").as_deref(), Some("-32602"));
        assert_eq!(server.status, Status::Unset);
        let client = one(&mut SpanTracker::new(Side::Client, Sampling::default()), &wrong);
        assert_eq!(client.span_kind, SpanKind::Client);
        assert_eq!(value(&client, "error.type").as_deref(), Some("-32602"));
        let tool = Record { error_type: Some("tool_error".into()), ..call(words::Status::Error) };
        let server = one(&mut SpanTracker::new(Side::Server, Sampling::default()), &tool);
        assert_eq!(value(&server, "error.type").as_deref(), Some("tool_error"));
        assert!(matches!(server.status, Status::Error { .. }));
    }

    #[test]
    fn an_unsampled_caller_is_honoured_unless_errors_are_kept() {
        let quiet = Record { trace_flags: Some("00".into()), ..call(words::Status::Ok) };
        let failed = Record {
            trace_flags: Some("00".into()),
            error_type: Some("tool_error".into()),
            ..call(words::Status::Error)
        };
        let mut plain = SpanTracker::new(Side::Server, Sampling::default());
        assert!(spans(&mut plain, &quiet).is_empty() && spans(&mut plain, &failed).is_empty());
        let keep = AlwaysKeep { errors: true, slow: false };
        let mut keeping = SpanTracker::new(Side::Server, Sampling { keep, ..Sampling::default() });
        assert!(spans(&mut keeping, &quiet).is_empty());
        assert_eq!(spans(&mut keeping, &failed).len(), 1);
    }

    #[test]
    fn a_round_is_linked_to_the_one_before_and_to_the_connection() {
        let round = Record {
            linked_span_id: Some("00f067aa0ba902b7".into()),
            linked_trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
            continues_span_id: Some("53995c3f42cd8ad8".into()),
            ..call(words::Status::Ok)
        };
        let span = one(&mut SpanTracker::new(Side::Server, Sampling::default()), &round);
        let links: Vec<(String, String, String)> = span
            .links
            .links
            .iter()
            .map(|link| {
                let context = &link.span_context;
                let relation = link.attributes[0].value.to_string();
                (relation, context.trace_id().to_string(), context.span_id().to_string())
            })
            .collect();
        let link = |relation: &str, trace: &str, span: &str| {
            (relation.to_owned(), trace.to_owned(), span.to_owned())
        };
        assert_eq!(
            links,
            [
                link("connection", "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"),
                link("continues", "0af7651916cd43dd8448eb211c80319c", "53995c3f42cd8ad8"),
            ]
        );
    }

    #[test]
    fn what_was_slow_is_kept_and_says_that_it_is_sampled() {
        let slow = Record {
            trace_flags: Some("02".into()),
            pending_at: Some(Timestamp(3_000)),
            ..call(words::Status::Ok)
        };
        let keep = AlwaysKeep { errors: false, slow: true };
        let span = one(&mut SpanTracker::new(Side::Server, Sampling { keep, ..Sampling::default() }), &slow);
        assert!(span.span_context.is_sampled());
        assert_eq!(span.events.events[0].name, "call_pending");
        assert!(spans(&mut SpanTracker::new(Side::Server, Sampling::default()), &slow).is_empty());
    }

    #[test]
    fn an_id_that_is_text_stands_without_its_quotes() {
        for (json, id) in [
            ("7", Some("7")),
            ("\"7\"", Some("7")),
            (r#""a\"b""#, Some("a\"b")),
            ("null", None),
            ("\"cut off", Some("cut off")),
        ] {
            assert_eq!(request_id(json).as_deref(), id, "{json}");
        }
    }

    #[test]
    fn the_connection_span_ends_with_the_first_answer() {
        let mut tracer = SpanTracker::new(Side::Server, Sampling::default());
        let started = Record {
            event: EventName::SessionStarted,
            timestamp: Timestamp(100),
            trace_id: Some("0af7651916cd43dd8448eb211c80319c".into()),
            span_id: Some("00f067aa0ba902b7".into()),
            trace_flags: Some("01".into()),
            ..Record::default()
        };
        assert!(spans(&mut tracer, &started).is_empty());
        let answered = Record { result_size_bytes: Some(2), ..call(words::Status::Ok) };
        let both = spans(&mut tracer, &answered);
        assert_eq!(
            both.iter().map(|span| span.name.as_ref()).collect::<Vec<_>>(),
            ["mcp.connect", "tools/call read_file"]
        );
        assert_eq!(both[0].end_time, time(Timestamp(5_000)));
        assert_eq!(spans(&mut tracer, &answered).len(), 1);
    }
}
