//! Takes requests apart without holding more than a piece of them in memory as a tree.
//!
//! A protobuf request may be much larger in memory than as bytes: an empty message takes two bytes there and three
//! hundred here. So the walk over the bytes counts messages first, and decodes a limited number of items at a time.

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};

/// Most messages of one piece: items, attributes and values.
const MOST_ELEMENTS: u32 = 20_000;
/// Most bytes of one piece that has more than one item.
const MOST_BYTES: usize = 1 << 20;
/// Most objects and lists of a body in JSON, which is decoded as a whole.
const MOST_JSON_ELEMENTS: usize = 150_000;
/// Deepest nesting of values.
const DEEPEST: u32 = 32;

/// Items of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ItemCounts {
    /// Spans, log records or data points.
    pub(super) taken: u64,
    /// Items that are too large, or that cannot be decoded although their request can.
    pub(super) rejected: u64,
}

/// Reason why a whole request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    Garbage,
    TooManyElements,
}

/// The message of a kind of field: its number, and the shape of the message.
#[derive(Debug)]
struct MessageShape(&'static [(u32, &'static MessageShape)]);

static LEAF: MessageShape = MessageShape(&[]);
static VALUE: MessageShape = MessageShape(&[(5, &LIST), (6, &MAP)]);
static LIST: MessageShape = MessageShape(&[(1, &VALUE)]);
static MAP: MessageShape = MessageShape(&[(1, &ATTRIBUTE)]);
static ATTRIBUTE: MessageShape = MessageShape(&[(2, &VALUE)]);
static ENTITY: MessageShape = MessageShape(&[(3, &LEAF), (4, &LEAF)]);
static RESOURCE: MessageShape = MessageShape(&[(1, &ATTRIBUTE), (3, &ENTITY)]);
static SCOPE: MessageShape = MessageShape(&[(3, &ATTRIBUTE)]);
static SPAN_EVENT: MessageShape = MessageShape(&[(3, &ATTRIBUTE)]);
static SPAN_LINK: MessageShape = MessageShape(&[(4, &ATTRIBUTE)]);
static SPAN: MessageShape =
    MessageShape(&[(9, &ATTRIBUTE), (11, &SPAN_EVENT), (13, &SPAN_LINK), (15, &LEAF)]);
static LOG_RECORD: MessageShape = MessageShape(&[(5, &VALUE), (6, &ATTRIBUTE)]);
static POINTS: MessageShape = MessageShape(&[(1, &LEAF)]);
static METRIC: MessageShape =
    MessageShape(&[(5, &POINTS), (7, &POINTS), (9, &POINTS), (10, &POINTS), (11, &POINTS)]);

/// Calls `visit` with number and content of each field of `message` that has a length, in their order.
fn fields<'a>(
    mut message: &'a [u8],
    mut visit: impl FnMut(u32, &'a [u8]) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let skip = |message: &mut &'a [u8], count: usize| {
        let (skipped, rest) = message.split_at_checked(count).ok_or(Unreadable::Garbage)?;
        *message = rest;
        Ok(skipped)
    };
    while !message.is_empty() {
        let (number, kind) = decode_key(&mut message).map_err(|_| Unreadable::Garbage)?;
        let mut varint = || decode_varint(&mut message).map_err(|_| Unreadable::Garbage);
        match kind {
            WireType::Varint => drop(varint()?),
            WireType::SixtyFourBit => drop(skip(&mut message, 8)?),
            WireType::ThirtyTwoBit => drop(skip(&mut message, 4)?),
            WireType::LengthDelimited => {
                let length = usize::try_from(varint()?).map_err(|_| Unreadable::Garbage)?;
                visit(number, skip(&mut message, length)?)?;
            }
            WireType::StartGroup | WireType::EndGroup => return Err(Unreadable::Garbage),
        }
    }
    Ok(())
}

/// Returns the number of messages in `message`, with itself.
fn elements(message: &[u8], shape: &MessageShape, depth: u32) -> Result<u32, Unreadable> {
    if depth > DEEPEST {
        return Err(Unreadable::TooManyElements);
    }
    let mut count: u32 = 1;
    if shape.0.is_empty() {
        return Ok(count);
    }
    fields(message, |number, content| {
        if let Some((_, shape)) = shape.0.iter().find(|(known, _)| *known == number) {
            count = count.saturating_add(elements(content, shape, depth + 1)?);
        }
        Ok(())
    })?;
    Ok(count)
}

/// Items of one scope, with the bytes of what they share.
struct ItemPiece<'a> {
    resource: &'a [u8],
    scope: &'a [u8],
    items: Vec<&'a [u8]>,
}

/// Calls `take` with the items of a request, piece by piece. Returns the number of items that are too large.
/// Resource, scope and item have the same numbers in the requests of all signals.
fn walk<'a>(
    request: &'a [u8],
    shape: &MessageShape,
    take: &mut dyn FnMut(ItemPiece<'a>),
) -> Result<u64, Unreadable> {
    let mut too_large = 0;
    fields(request, |number, of_resource| {
        if number != 1 {
            return Ok(());
        }
        let resource = last_field(of_resource)?;
        let resource_elements = elements(resource, &RESOURCE, 0)?;
        fields(of_resource, |number, of_scope| {
            if number != 2 {
                return Ok(());
            }
            let scope = last_field(of_scope)?;
            let shared = resource_elements.saturating_add(elements(scope, &SCOPE, 0)?);
            let mut piece = ItemPiece { resource, scope, items: Vec::new() };
            let (mut count, mut size) = (shared, 0);
            fields(of_scope, |number, item| {
                if number != 2 {
                    return Ok(());
                }
                // Values that are nested too deep are a fault of the item alone.
                let own = match elements(item, shape, 0) {
                    Err(Unreadable::TooManyElements) => u32::MAX,
                    own => own?,
                };
                if shared.saturating_add(own) > MOST_ELEMENTS {
                    too_large += 1;
                    return Ok(());
                }
                if !piece.items.is_empty() && (count + own > MOST_ELEMENTS || size + item.len() > MOST_BYTES)
                {
                    take(ItemPiece { items: std::mem::take(&mut piece.items), ..piece });
                    (count, size) = (shared, 0);
                }
                piece.items.push(item);
                (count, size) = (count + own, size + item.len());
                Ok(())
            })?;
            if !piece.items.is_empty() {
                take(piece);
            }
            Ok(())
        })
    })?;
    Ok(too_large)
}

/// Returns the last field with number 1: what the items of `message` share.
fn last_field(message: &[u8]) -> Result<&[u8], Unreadable> {
    let mut found: &[u8] = &[];
    fields(message, |number, content| {
        if number == 1 {
            found = content;
        }
        Ok(())
    })?;
    Ok(found)
}

/// Decodes the items of a request in protobuf and calls `take` with each piece. A request that is garbage is
/// refused before its first piece.
fn decode_pieces<I: Message + Default>(
    request: &[u8],
    shape: &MessageShape,
    mut take: impl FnMut(Option<Resource>, Option<InstrumentationScope>, Vec<I>),
) -> Result<ItemCounts, Unreadable> {
    walk(request, shape, &mut |_| {})?;
    let mut counts = ItemCounts::default();
    let too_large = walk(request, shape, &mut |piece| {
        let all = piece.items.len() as u64;
        let items: Vec<I> = piece.items.into_iter().filter_map(|item| I::decode(item).ok()).collect();
        counts.taken += items.len() as u64;
        counts.rejected += all - items.len() as u64;
        take(Resource::decode(piece.resource).ok(), InstrumentationScope::decode(piece.scope).ok(), items);
    })?;
    counts.rejected += too_large;
    match counts {
        ItemCounts { taken: 0, rejected: 1.. } => Err(Unreadable::Garbage),
        counts => Ok(counts),
    }
}

/// Calls `take` with the pieces of a request with spans.
pub(super) fn traces(
    body: &[u8],
    is_json: bool,
    take: &mut dyn FnMut(ExportTraceServiceRequest),
) -> Result<ItemCounts, Unreadable> {
    if is_json {
        let request: ExportTraceServiceRequest = from_json(body)?;
        let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        let taken = scopes.map(|scope| scope.spans.len() as u64).sum();
        take(request);
        return Ok(ItemCounts { taken, rejected: 0 });
    }
    decode_pieces(body, &SPAN, |resource, scope, spans: Vec<Span>| {
        let scope_spans = vec![ScopeSpans { scope, spans, ..ScopeSpans::default() }];
        let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
        take(ExportTraceServiceRequest { resource_spans });
    })
}

/// Calls `take` with the pieces of a request with log records.
pub(super) fn logs(
    body: &[u8],
    is_json: bool,
    take: &mut dyn FnMut(ExportLogsServiceRequest),
) -> Result<ItemCounts, Unreadable> {
    if is_json {
        let request: ExportLogsServiceRequest = from_json(body)?;
        let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
        let taken = scopes.map(|scope| scope.log_records.len() as u64).sum();
        take(request);
        return Ok(ItemCounts { taken, rejected: 0 });
    }
    decode_pieces(body, &LOG_RECORD, |resource, scope, log_records: Vec<LogRecord>| {
        let scope_logs = vec![ScopeLogs { scope, log_records, ..ScopeLogs::default() }];
        let resource_logs = vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }];
        take(ExportLogsServiceRequest { resource_logs });
    })
}

/// Counts the data points of a request with metrics.
pub(super) fn metrics(body: &[u8], is_json: bool) -> Result<ItemCounts, Unreadable> {
    let mut taken = 0;
    if is_json {
        let request: ExportMetricsServiceRequest = from_json(body)?;
        let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        for metric in scopes.flat_map(|scope| &scope.metrics) {
            taken += match &metric.data {
                Some(Data::Gauge(data)) => data.data_points.len(),
                Some(Data::Sum(data)) => data.data_points.len(),
                Some(Data::Histogram(data)) => data.data_points.len(),
                Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
                Some(Data::Summary(data)) => data.data_points.len(),
                None => 0,
            } as u64;
        }
        return Ok(ItemCounts { taken, rejected: 0 });
    }
    let rejected = walk(body, &METRIC, &mut |piece| {
        for metric in piece.items {
            // Without the metric itself and the message that holds its points.
            taken += u64::from(elements(metric, &METRIC, 0).unwrap_or(0).saturating_sub(2));
        }
    })?;
    Ok(ItemCounts { taken, rejected })
}

fn from_json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Unreadable> {
    if json_elements(body) > MOST_JSON_ELEMENTS {
        return Err(Unreadable::TooManyElements);
    }
    serde_json::from_slice(body).map_err(|_| Unreadable::Garbage)
}

/// Returns the number of objects and lists, without those in texts.
fn json_elements(body: &[u8]) -> usize {
    let (mut count, mut rest) = (0, body);
    while let Some(at) = memchr::memchr3(b'"', b'{', b'[', rest) {
        let is_text = rest[at] == b'"';
        rest = &rest[at + 1..];
        if !is_text {
            count += 1;
            continue;
        }
        while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
            let is_end = rest[at] == b'"';
            rest = rest.get(at + if is_end { 1 } else { 2 }..).unwrap_or_default();
            if is_end {
                break;
            }
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
    use opentelemetry_proto::tonic::metrics::v1::{
        Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
    };

    fn attribute(key: &str, value: Value) -> KeyValue {
        KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
    }

    fn span(name: &str, size: usize) -> Span {
        let text = Value::StringValue("x".repeat(size));
        Span { name: name.to_owned(), attributes: vec![attribute("text", text)], ..Span::default() }
    }

    fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
        let resource = Resource {
            attributes: vec![attribute("service.name", Value::StringValue("a".to_owned()))],
            ..Resource::default()
        };
        let scope = InstrumentationScope { name: "scope".to_owned(), ..InstrumentationScope::default() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource_spans =
            vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }];
        ExportTraceServiceRequest { resource_spans }
    }

    /// Returns the pieces and the counts of a request.
    fn split(body: &[u8], is_json: bool) -> (Vec<ExportTraceServiceRequest>, Result<ItemCounts, Unreadable>) {
        let mut pieces = Vec::new();
        let counts = traces(body, is_json, &mut |piece| pieces.push(piece));
        (pieces, counts)
    }

    #[test]
    fn the_pieces_are_the_whole_request() {
        let spans: Vec<Span> = (0..30).map(|at| span(&at.to_string(), 100 << 10)).collect();
        let whole = request(spans.clone());
        let (pieces, counts) = split(&whole.encode_to_vec(), false);
        assert_eq!(counts, Ok(ItemCounts { taken: 30, rejected: 0 }));
        assert!(pieces.len() >= 3, "{}", pieces.len());
        let mut found = Vec::new();
        for piece in pieces {
            let [of_resource] = &piece.resource_spans[..] else { panic!("one resource") };
            assert_eq!(of_resource.resource, whole.resource_spans[0].resource);
            let [of_scope] = &of_resource.scope_spans[..] else { panic!("one scope") };
            assert_eq!(of_scope.scope, whole.resource_spans[0].scope_spans[0].scope);
            found.extend(of_scope.spans.clone());
        }
        assert_eq!(found, spans);
        let (pieces, counts) = split(&serde_json::to_vec(&whole).unwrap(), true);
        assert_eq!((pieces, counts), (vec![whole], Ok(ItemCounts { taken: 30, rejected: 0 })));
    }

    #[test]
    fn one_large_text_is_taken_and_one_item_of_many_values_is_rejected() {
        let many = vec![AnyValue::default(); 50_000];
        let many = Value::ArrayValue(ArrayValue { values: many });
        let many = Span { attributes: vec![attribute("many", many)], ..Span::default() };
        let body = request(vec![span("a", 8 << 20), many, span("b", 1)]).encode_to_vec();
        let (pieces, counts) = split(&body, false);
        assert_eq!(counts, Ok(ItemCounts { taken: 2, rejected: 1 }));
        assert_eq!(pieces.len(), 2);
    }

    #[test]
    fn values_that_are_nested_without_end_are_rejected() {
        let mut value = Value::BoolValue(true);
        for _ in 0..90 {
            value = Value::ArrayValue(ArrayValue { values: vec![AnyValue { value: Some(value) }] });
        }
        let deep = Span { attributes: vec![attribute("deep", value)], ..Span::default() };
        let (_, counts) = split(&request(vec![deep, span("a", 1)]).encode_to_vec(), false);
        assert_eq!(counts, Ok(ItemCounts { taken: 1, rejected: 1 }));
        let deep = [&b"{\"resourceSpans\":"[..], &[b'['; 100_000]].concat();
        assert_eq!(split(&deep, true).1, Err(Unreadable::Garbage));
    }

    #[test]
    fn millions_of_empty_messages_are_not_made() {
        // A resource of two bytes each, which is a hundred times as large in memory.
        let empty = [10, 0].repeat(4 << 20);
        assert_eq!(split(&empty, false), (Vec::new(), Ok(ItemCounts::default())));
        let objects = [&b"{\"resourceSpans\":["[..], &b"{},".repeat(1 << 20), b"{}]}"].concat();
        assert_eq!(split(&objects, true).1, Err(Unreadable::TooManyElements));
        // Braces within a text are text.
        let text = span(&"{\"[\\".repeat(100_000), 1);
        let body = serde_json::to_vec(&request(vec![text])).unwrap();
        assert_eq!(split(&body, true).1, Ok(ItemCounts { taken: 1, rejected: 0 }));
    }

    #[test]
    fn garbage_is_refused_before_the_first_piece() {
        let good = request(vec![span("a", 10), span("b", 10)]).encode_to_vec();
        for cut in 1..good.len() {
            let (pieces, counts) = split(&good[..cut], false);
            assert_eq!((pieces.len(), counts), (0, Err(Unreadable::Garbage)), "cut at {cut}");
        }
        for garbage in [&b"{\"resourceSpans\":[]}"[..], b"\xff\xff\xff\xff", b"hello, world"] {
            assert_eq!(split(garbage, false), (Vec::new(), Err(Unreadable::Garbage)));
        }
        assert_eq!(split(&good, true).1, Err(Unreadable::Garbage));
        assert_eq!(split(b"", false).1, Ok(ItemCounts::default()));
    }

    #[test]
    fn data_points_are_counted_in_both_forms() {
        let data_points = vec![NumberDataPoint::default(); 3];
        let metric = Metric { data: Some(Data::Gauge(Gauge { data_points })), ..Metric::default() };
        let scope_metrics =
            vec![ScopeMetrics { metrics: vec![metric.clone(), metric], ..ScopeMetrics::default() }];
        let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
        let request = ExportMetricsServiceRequest { resource_metrics };
        let counts = Ok(ItemCounts { taken: 6, rejected: 0 });
        assert_eq!(metrics(&request.encode_to_vec(), false), counts);
        assert_eq!(metrics(&serde_json::to_vec(&request).unwrap(), true), counts);
    }
}
