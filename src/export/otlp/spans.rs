//! Encodes operations and connections as OTLP spans, from live traffic or from a session log.

use std::borrow::Cow;

use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};
use opentelemetry_proto::tonic::trace::v1::SpanFlags;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use crate::export::otlp::protobuf::ProtobufWriter;
use crate::export::otlp::sampler::Sampling;
use crate::export::otlp::semconv::{self, attribute as name};
use crate::record::timestamp::Timestamp;
use crate::record::words::{Direction, EndReason, Side, Status};
use crate::record::{EventName, Record};

/// Field numbers of `Span`, `Event`, `Link` and `Status` (OTLP `trace.proto`).
mod field {
    pub(crate) const TRACE_ID: u32 = 1;
    pub(crate) const SPAN_ID: u32 = 2;
    pub(crate) const TRACE_STATE: u32 = 3;
    pub(crate) const PARENT_SPAN_ID: u32 = 4;
    pub(crate) const NAME: u32 = 5;
    pub(crate) const KIND: u32 = 6;
    pub(crate) const START_TIME: u32 = 7;
    pub(crate) const END_TIME: u32 = 8;
    pub(crate) const ATTRIBUTES: u32 = 9;
    pub(crate) const EVENTS: u32 = 11;
    pub(crate) const LINKS: u32 = 13;
    pub(crate) const STATUS: u32 = 15;
    pub(crate) const FLAGS: u32 = 16;
    pub(crate) const EVENT_TIME: u32 = 1;
    pub(crate) const EVENT_NAME: u32 = 2;
    pub(crate) const EVENT_ATTRIBUTES: u32 = 3;
    pub(crate) const LINK_ATTRIBUTES: u32 = 4;
    pub(crate) const LINK_FLAGS: u32 = 6;
    pub(crate) const STATUS_MESSAGE: u32 = 2;
    pub(crate) const STATUS_CODE: u32 = 3;
}

/// Returns true if `side` receives requests that travel in `direction`, so that it has spans of servers.
pub(super) fn is_receiver(side: Side, direction: Direction) -> bool {
    (side == Side::Server) == (direction == Direction::ClientToServer)
}

/// Makes spans of one connection's records, which it needs in their order.
#[derive(Debug)]
pub(super) struct SpanTracker {
    side: Side,
    sampling: Sampling,
    /// The connection's span, until its end is known.
    connecting: Option<OpenConnectionSpan>,
}

#[derive(Debug)]
struct OpenConnectionSpan {
    fields: ProtobufWriter,
    /// The root span of the session, if this connection is the first one of it.
    root: Option<ProtobufWriter>,
    started: Timestamp,
    trace_id: TraceId,
    flags: TraceFlags,
}

impl SpanTracker {
    pub(super) fn new(side: Side, sampling: Sampling) -> SpanTracker {
        SpanTracker { side, sampling, connecting: None }
    }

    /// Returns the connection's span if `record` ends it and it is sampled, after the root span of the session if this
    /// connection is its first one.
    pub(super) fn connection(&mut self, record: &Record<'_>) -> impl Iterator<Item = Vec<u8>> + use<> {
        let ended = match record.event {
            EventName::SessionStarted => {
                self.connecting = begin_connection(record, self.sampling.value_length);
                None
            }
            // The server has answered: it is connected.
            EventName::McpToolCall | EventName::McpRequest
                if record.result_size_bytes.is_some()
                    && record.direction == Some(Direction::ClientToServer) =>
            {
                self.end_connection(record, None)
            }
            EventName::SessionEnded => {
                let reason = record.reason.as_deref();
                let failure = reason.filter(|reason| *reason != EndReason::ServerExited.as_str());
                self.end_connection(record, failure)
            }
            _ => None,
        };
        ended.into_iter().flatten().flatten()
    }

    fn end_connection(&mut self, record: &Record<'_>, failure: Option<&str>) -> Option<[Option<Vec<u8>>; 2]> {
        let OpenConnectionSpan { mut fields, root, started, trace_id, flags } = self.connecting.take()?;
        if !self.samples(trace_id, flags, failure.is_some(), false) {
            return None;
        }
        let ended = record.ended_at.unwrap_or(record.timestamp).max(started);
        fields.fixed64(field::END_TIME, nanoseconds(ended));
        if let Some(failure) = failure {
            let mut attributes = SpanAttributes { span: &mut fields, length: self.sampling.value_length };
            attributes.text(name::ERROR_TYPE, failure);
        }
        status(&mut fields, failure);
        let root = root.map(|mut root| {
            root.fixed64(field::END_TIME, nanoseconds(ended));
            let host = record.host_name.as_deref();
            SpanAttributes { span: &mut root, length: self.sampling.value_length }
                .texts(&[(name::SPANTAP_HOST_NAME, host)]);
            status(&mut root, None);
            root.into_bytes()
        });
        Some([root, Some(fields.into_bytes())])
    }

    /// Writes the span of the record's operation. Returns false if it has none, or if it is not sampled.
    pub(super) fn operation(&self, record: &Record<'_>, span: &mut ProtobufWriter) -> bool {
        if !matches!(record.event, EventName::McpToolCall | EventName::McpRequest) {
            return false;
        }
        let (Some(method), Some(ids)) = (record.method.as_deref(), SpanIds::of(record)) else { return false };
        let failed = record.status.is_some_and(Status::is_failure);
        if !self.samples(ids.trace_id, ids.flags, failed, record.pending_at.is_some()) {
            return false;
        }
        // A record of a newer version may have a direction that this version does not know.
        let is_server = is_receiver(self.side, record.direction.unwrap_or(Direction::ServerToClient));
        let kind = if is_server { SpanKind::Server } else { SpanKind::Client };
        // A span that links to the connection span has the caller's span as its parent, in another process.
        begin(span, record, &ids, kind, record.linked_span_id.is_some());
        match record.tool_name.as_deref().or(record.prompt_name.as_deref()) {
            Some(target) => span.bytes(field::NAME, [method, " ", target].concat().as_bytes()),
            None => span.bytes(field::NAME, method.as_bytes()),
        }
        span.fixed64(field::END_TIME, nanoseconds(record.ended_at.unwrap_or(record.timestamp)));
        let mut attributes = SpanAttributes { span, length: self.sampling.value_length };
        attributes.common(record);
        attributes.operation(record);
        let word = record.error_type.as_deref().filter(|_| failed);
        let error = word.filter(|word| is_error_of(is_server, word, record.error_code));
        if let Some(error) = error {
            attributes.text(name::ERROR_TYPE, error);
        }
        events(span, record);
        links(span, record);
        status(span, error.map(|_| record.error_message.as_deref().unwrap_or_default()));
        true
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

struct SpanIds {
    trace_id: TraceId,
    span_id: SpanId,
    flags: TraceFlags,
}

impl SpanIds {
    fn of(record: &Record<'_>) -> Option<SpanIds> {
        let flags = record.trace_flags.as_deref().unwrap_or("00");
        Some(SpanIds {
            trace_id: TraceId::from_hex(record.trace_id.as_deref()?).ok()?,
            span_id: SpanId::from_hex(record.span_id.as_deref()?).ok()?,
            flags: TraceFlags::new(u8::from_str_radix(flags, 16).unwrap_or(0)),
        })
    }
}

fn begin(
    span: &mut ProtobufWriter,
    record: &Record<'_>,
    ids: &SpanIds,
    kind: SpanKind,
    parent_is_remote: bool,
) {
    span.bytes(field::TRACE_ID, &ids.trace_id.to_bytes());
    span.bytes(field::SPAN_ID, &ids.span_id.to_bytes());
    let state = record.trace_state.as_deref().and_then(|state| state.parse::<TraceState>().ok());
    if let Some(state) = state.map(|state| state.header()).filter(|state| !state.is_empty()) {
        span.bytes(field::TRACE_STATE, state.as_bytes());
    }
    let parent = record.parent_span_id.as_deref().and_then(|id| SpanId::from_hex(id).ok());
    if let Some(parent) = parent.filter(|parent| *parent != SpanId::INVALID) {
        span.bytes(field::PARENT_SPAN_ID, &parent.to_bytes());
    }
    span.varint(field::KIND, kind as u64);
    span.fixed64(field::START_TIME, nanoseconds(record.started_at.unwrap_or(record.timestamp)));
    // A span that is sent is marked as sampled.
    let mut flags = u32::from((ids.flags | TraceFlags::SAMPLED).to_u8());
    flags |= SpanFlags::ContextHasIsRemoteMask as u32;
    if parent_is_remote {
        flags |= SpanFlags::ContextIsRemoteMask as u32;
    }
    span.fixed32(field::FLAGS, flags);
}

/// Begins the span of a connection. `None` if the record has no ids.
fn begin_connection(record: &Record<'_>, length: Option<usize>) -> Option<OpenConnectionSpan> {
    let ids = SpanIds::of(record)?;
    let mut fields = ProtobufWriter::default();
    begin(&mut fields, record, &ids, SpanKind::Internal, true);
    fields.bytes(field::NAME, semconv::CONNECT_SPAN.as_bytes());
    SpanAttributes { span: &mut fields, length }.common(record);
    let started = record.started_at.unwrap_or(record.timestamp);
    let root = begin_root(record, &ids, length);
    Some(OpenConnectionSpan { fields, root, started, trace_id: ids.trace_id, flags: ids.flags })
}

/// Begins the root span of the session, which is the parent of the connection's span.
fn begin_root(record: &Record<'_>, ids: &SpanIds, length: Option<usize>) -> Option<ProtobufWriter> {
    record.begins_session.filter(|begins| *begins)?;
    let span_id = SpanId::from_hex(record.parent_span_id.as_deref()?).ok()?;
    let mut root = ProtobufWriter::default();
    let without_parent = Record { parent_span_id: None, ..record.clone() };
    begin(&mut root, &without_parent, &SpanIds { span_id, ..*ids }, SpanKind::Internal, false);
    root.bytes(field::NAME, semconv::SESSION_SPAN.as_bytes());
    SpanAttributes { span: &mut root, length }.texts(&[
        (name::SESSION_ID, Some(&record.session_id)),
        (name::ENDUSER_ID, record.user_id.as_deref()),
    ]);
    Some(root)
}

/// Writes a status. `failure` is the message of an error.
fn status(span: &mut ProtobufWriter, failure: Option<&str>) {
    span.message(field::STATUS, |status| {
        if let Some(message) = failure {
            status.bytes(field::STATUS_MESSAGE, message.as_bytes());
            status.varint(field::STATUS_CODE, StatusCode::Error as u64);
        }
    });
}

/// Returns true if the failure `word` is `error.type` on this side's spans: the conventions differ by side.
pub(super) fn is_error_of(is_server: bool, word: &str, code: Option<i64>) -> bool {
    let Some(code) = code else {
        // A user who declines or dismisses a question has answered the request.
        return !matches!(word, "declined" | "dismissed");
    };
    let by_client = semconv::CLIENT_CAUSED.contains(&code) && word.parse::<i64>().is_ok();
    !(is_server && by_client)
}

/// Nanoseconds since 1970; records have microseconds.
pub(super) fn nanoseconds(timestamp: Timestamp) -> u64 {
    u64::try_from(timestamp.0).unwrap_or(0) * 1000
}

struct SpanAttributes<'a> {
    span: &'a mut ProtobufWriter,
    length: Option<usize>,
}

impl SpanAttributes<'_> {
    /// Writes a text, cut to the longest length (OpenTelemetry "Attribute Limits").
    fn text(&mut self, key: &str, text: &str) {
        let end = self.length.and_then(|length| text.char_indices().nth(length));
        let text = end.map_or(text, |(end, _)| &text[..end]);
        self.span.text_attribute(field::ATTRIBUTES, key, text);
    }

    fn texts(&mut self, attributes: &[(&str, Option<&str>)]) {
        for (key, text) in attributes {
            if let Some(text) = text {
                self.text(key, text);
            }
        }
    }

    fn common(&mut self, record: &Record<'_>) {
        self.texts(&[
            (name::MCP_SERVER_NAME, Some(&record.server_name)),
            (name::SESSION_ID, Some(&record.session_id)),
            (name::SPANTAP_CONNECTION_ID, Some(&record.connection_id)),
            (name::NETWORK_TRANSPORT, Some(semconv::value::PIPE)),
            (name::ENDUSER_ID, record.user_id.as_deref()),
            (name::GEN_AI_CONVERSATION_ID, record.conversation_id.as_deref()),
            (name::SPANTAP_TURN_ID, record.turn_id.as_deref()),
            (name::SPANTAP_HOST_NAME, record.host_name.as_deref()),
        ]);
    }

    fn operation(&mut self, record: &Record<'_>) {
        let id = record.request_id.as_deref().and_then(request_id);
        let code = record.error_code.map(|code| code.to_string());
        let version = record.protocol_version.as_deref();
        // Sessions end with 2026-07-28; over stdio a session is a connection.
        let in_session = version.is_some_and(|version| version < semconv::FIRST_WITHOUT_SESSIONS);
        let operation_name = record.tool_name.as_ref().map(|_| semconv::value::EXECUTE_TOOL);
        self.texts(&[
            (name::MCP_METHOD_NAME, record.method.as_deref()),
            (name::GEN_AI_OPERATION_NAME, operation_name),
            (name::GEN_AI_TOOL_NAME, record.tool_name.as_deref()),
            (name::GEN_AI_PROMPT_NAME, record.prompt_name.as_deref()),
            (name::MCP_RESOURCE_URI, record.resource_uri.as_deref()),
            (name::JSONRPC_REQUEST_ID, id.as_deref()),
            (name::JSONRPC_PROTOCOL_VERSION, record.jsonrpc_version.as_deref()),
            (name::MCP_PROTOCOL_VERSION, version),
            (name::MCP_SESSION_ID, in_session.then_some(&record.connection_id)),
            (name::RPC_RESPONSE_STATUS_CODE, code.as_deref()),
            (name::GEN_AI_TOOL_CALL_ID, record.call_id.as_deref()),
            (name::GEN_AI_REQUEST_MODEL, record.model.as_deref()),
            (name::SPANTAP_STATUS, record.status.map(Status::as_str)),
            (name::SPANTAP_ARGS_HASH, record.args_hash.as_deref()),
            (name::SPANTAP_RESULT_HASH, record.result_hash.as_deref()),
        ]);
        for (key, value) in [
            (name::SPANTAP_SEQ, Some(record.seq)),
            (name::SPANTAP_REQUEST_SIZE, record.request_size_bytes),
            (name::SPANTAP_RESULT_SIZE, record.result_size_bytes),
            (name::SPANTAP_REPEAT_COUNT, record.repeat_count.map(u64::from)),
            (name::SPANTAP_CONTINUES_SEQ, record.continues_seq),
        ] {
            if let Some(value) = value {
                self.span.int_attribute(field::ATTRIBUTES, key, value);
            }
        }
    }
}

/// Returns a request's id as the span shows it: text without the quotes of the record. `None` for null.
fn request_id(json: &str) -> Option<Cow<'_, str>> {
    if json.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(json.into());
    }
    match serde_json::from_str(json) {
        Ok(serde_json::Value::Null) => None,
        Ok(serde_json::Value::String(text)) => Some(text.into()),
        Ok(_) => Some(json.into()),
        // The id was cut or redacted.
        Err(_) => Some(json.trim_matches('"').into()),
    }
}

/// Writes at most five events, however long the call was.
fn events(span: &mut ProtobufWriter, record: &Record<'_>) {
    let mut event = |name: &str, at: Option<Timestamp>, progress: Option<u64>| {
        let Some(at) = at else { return };
        span.message(field::EVENTS, |event| {
            event.fixed64(field::EVENT_TIME, nanoseconds(at));
            event.bytes(field::EVENT_NAME, name.as_bytes());
            if let Some(count) = progress {
                event.int_attribute(field::EVENT_ATTRIBUTES, name::SPANTAP_PROGRESS_COUNT, count);
            }
        });
    };
    let progress = record.progress_count.unwrap_or(0);
    event(semconv::EVENT_PROGRESS, record.progress_first_at, Some(1));
    event(semconv::EVENT_PROGRESS, record.progress_last_at.filter(|_| progress > 1), Some(progress));
    event(semconv::EVENT_SLOW, record.pending_at, None);
    event(semconv::EVENT_THRASHING, record.started_at.filter(|_| record.thrashing == Some(true)), None);
    event(semconv::EVENT_CANCELLED, record.cancelled_at, None);
}

/// Writes links: to the connection's span if it is not the parent, and to the round that this one continues.
fn links(span: &mut ProtobufWriter, record: &Record<'_>) {
    let own = record.trace_id.as_deref();
    let connection = record.linked_trace_id.as_deref().or(own).zip(record.linked_span_id.as_deref());
    let round = record.continues_trace_id.as_deref().or(own).zip(record.continues_span_id.as_deref());
    for (ids, relation) in [(connection, semconv::LINK_CONNECTION), (round, semconv::LINK_CONTINUES)] {
        let Some((trace_id, span_id)) = ids else { continue };
        let (Ok(trace_id), Ok(span_id)) = (TraceId::from_hex(trace_id), SpanId::from_hex(span_id)) else {
            continue;
        };
        span.message(field::LINKS, |link| {
            link.bytes(field::TRACE_ID, &trace_id.to_bytes());
            link.bytes(field::SPAN_ID, &span_id.to_bytes());
            link.text_attribute(field::LINK_ATTRIBUTES, name::SPANTAP_LINK, relation);
            link.fixed32(field::LINK_FLAGS, SpanFlags::ContextHasIsRemoteMask as u32);
        });
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::trace::v1::{self, Span};
    use prost::Message;

    use super::*;
    use crate::export::otlp::sampler::AlwaysKeep;

    fn call(status: Status) -> Record<'static> {
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

    /// Returns the spans that `record` completes, as a collector reads them.
    fn spans(tracker: &mut SpanTracker, record: &Record<'_>) -> Vec<Span> {
        let mut span = ProtobufWriter::default();
        let connection = tracker.connection(record);
        let operation = tracker.operation(record, &mut span).then(|| span.into_bytes());
        connection.into_iter().chain(operation).map(|span| Span::decode(span.as_slice()).unwrap()).collect()
    }

    fn one(tracker: &mut SpanTracker, record: &Record<'_>) -> Span {
        let mut spans = spans(tracker, record);
        assert_eq!(spans.len(), 1);
        spans.remove(0)
    }

    fn value(span: &Span, key: &str) -> Option<String> {
        use opentelemetry_proto::tonic::common::v1::any_value::Value;
        let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
        match found.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => Some(text.clone()),
            other => Some(format!("{other:?}")),
        }
    }

    fn hex(id: &[u8]) -> String {
        id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_tool_call_is_a_server_span_by_the_conventions() {
        let span = one(&mut SpanTracker::new(Side::Server, Sampling::default()), &call(Status::Ok));
        assert_eq!(span.name, "tools/call read_file");
        assert_eq!(span.kind(), SpanKind::Server);
        assert_eq!(span.status, Some(v1::Status::default()));
        assert_eq!(value(&span, "gen_ai.operation.name").as_deref(), Some("execute_tool"));
        assert_eq!(value(&span, "jsonrpc.request.id").as_deref(), Some("7"));
        assert_eq!(value(&span, "error.type"), None);
        assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 4_000_000);
    }

    #[test]
    fn what_the_client_did_wrong_is_an_error_of_the_client_only() {
        let wrong =
            Record { error_code: Some(-32602), error_type: Some("-32602".into()), ..call(Status::Error) };
        let server = one(&mut SpanTracker::new(Side::Server, Sampling::default()), &wrong);
        assert_eq!(value(&server, "error.type"), None);
        assert_eq!(value(&server, "rpc.response.status_code").as_deref(), Some("-32602"));
        assert_eq!(server.status, Some(v1::Status::default()));
        let client = one(&mut SpanTracker::new(Side::Client, Sampling::default()), &wrong);
        assert_eq!(client.kind(), SpanKind::Client);
        assert_eq!(value(&client, "error.type").as_deref(), Some("-32602"));
        let tool = Record { error_type: Some("tool_error".into()), ..call(Status::Error) };
        let server = one(&mut SpanTracker::new(Side::Server, Sampling::default()), &tool);
        assert_eq!(value(&server, "error.type").as_deref(), Some("tool_error"));
        assert_eq!(server.status.unwrap().code(), StatusCode::Error);
    }

    #[test]
    fn an_unsampled_caller_is_honoured_unless_errors_are_kept() {
        let quiet = Record { trace_flags: Some("00".into()), ..call(Status::Ok) };
        let failed = Record {
            trace_flags: Some("00".into()),
            error_type: Some("tool_error".into()),
            ..call(Status::Error)
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
            ..call(Status::Ok)
        };
        let span = one(&mut SpanTracker::new(Side::Server, Sampling::default()), &round);
        let links: Vec<(String, String, String)> = span
            .links
            .iter()
            .map(|link| {
                let relation = link.attributes[0].value.clone().unwrap().value;
                (format!("{:?}", relation.unwrap()), hex(&link.trace_id), hex(&link.span_id))
            })
            .collect();
        let link = |relation: &str, trace: &str, span: &str| {
            (format!("StringValue({relation:?})"), trace.to_owned(), span.to_owned())
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
        let slow =
            Record { trace_flags: Some("02".into()), pending_at: Some(Timestamp(3_000)), ..call(Status::Ok) };
        let keep = AlwaysKeep { errors: false, slow: true };
        let span = one(&mut SpanTracker::new(Side::Server, Sampling { keep, ..Sampling::default() }), &slow);
        assert_eq!(span.flags & 1, 1);
        assert_eq!(span.events[0].name, "call_pending");
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
    fn texts_are_cut_to_the_longest_length_in_characters() {
        let sampling = Sampling { value_length: Some(2), ..Sampling::default() };
        let record = Record { tool_name: Some("äöü".into()), ..call(Status::Ok) };
        let span = one(&mut SpanTracker::new(Side::Server, sampling), &record);
        assert_eq!(value(&span, "gen_ai.tool.name").as_deref(), Some("äö"));
        assert_eq!(span.name, "tools/call äöü");
    }

    #[test]
    fn the_connection_span_ends_with_the_first_answer() {
        let mut tracker = SpanTracker::new(Side::Server, Sampling::default());
        let started = Record {
            event: EventName::SessionStarted,
            timestamp: Timestamp(100),
            trace_id: Some("0af7651916cd43dd8448eb211c80319c".into()),
            span_id: Some("00f067aa0ba902b7".into()),
            trace_flags: Some("01".into()),
            ..Record::default()
        };
        assert!(spans(&mut tracker, &started).is_empty());
        let answered = Record { result_size_bytes: Some(2), ..call(Status::Ok) };
        let both = spans(&mut tracker, &answered);
        assert_eq!(
            both.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(),
            ["mcp.connect", "tools/call read_file"]
        );
        assert_eq!(both[0].end_time_unix_nano, 5_000_000);
        assert_eq!(spans(&mut tracker, &answered).len(), 1);
    }

    #[test]
    fn the_first_connection_of_a_session_also_ends_the_root_span_above_it() {
        let started = Record {
            event: EventName::SessionStarted,
            session_id: "s".into(),
            timestamp: Timestamp(100),
            trace_id: Some("0af7651916cd43dd8448eb211c80319c".into()),
            span_id: Some("00f067aa0ba902b7".into()),
            parent_span_id: Some("b7ad6b7169203331".into()),
            trace_flags: Some("03".into()),
            begins_session: Some(true),
            ..Record::default()
        };
        let mut tracker = SpanTracker::new(Side::Server, Sampling::default());
        assert!(spans(&mut tracker, &started).is_empty());
        let answered = Record { result_size_bytes: Some(2), host_name: Some("h".into()), ..call(Status::Ok) };
        let all = spans(&mut tracker, &answered);
        let [root, connection, _] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((root.name.as_str(), root.parent_span_id.len()), ("spantap.session", 0));
        assert_eq!((&root.span_id, &root.trace_id), (&connection.parent_span_id, &connection.trace_id));
        assert_eq!((value(root, "session.id").as_deref(), value(root, "mcp.server.name")), (Some("s"), None));
        assert_eq!(value(root, "spantap.host.name").as_deref(), Some("h"));
        let unsampled = Record { trace_flags: Some("00".into()), ..started };
        assert!(spans(&mut tracker, &unsampled).is_empty());
        assert_eq!(spans(&mut tracker, &answered).len(), 1);
    }
}
