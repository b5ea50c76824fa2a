//! Takes requests apart without holding more than a piece of them in memory as a tree.
//!
//! A protobuf request may be much larger in memory than as bytes: an empty message takes two bytes there and three
//! hundred here. So the walk over the bytes counts messages first, and decodes a limited number of items at a time.

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};

/// Most messages of one piece: items, attributes and values.
const MOST_ELEMENTS: u32 = 20_000;
/// Most bytes of one piece that has more than one item.
const MOST_BYTES: usize = 1 << 20;
/// Most bytes and messages of a resource or of a scope, which are read again for each piece or item.
const MOST_SHARED: (usize, u32) = (64 << 10, 1000);
/// Most objects, lists and commas of a body in JSON, which is decoded as a whole.
const MOST_JSON_ELEMENTS: usize = 300_000;
/// Most items of one piece of a body in JSON.
const MOST_OF_JSON: usize = 5000;
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

/// Calls `visit` with the content of each field `number` of `message`.
fn each<'a>(
    message: &'a [u8],
    number: u32,
    mut visit: impl FnMut(&'a [u8]) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    fields(message, |found, content| if found == number { visit(content) } else { Ok(()) })
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

/// Returns true if a resource or a scope is small enough to be read for each of its items.
fn is_shareable(message: &[u8], shape: &MessageShape) -> Result<bool, Unreadable> {
    let (most_bytes, most_elements) = MOST_SHARED;
    match elements(message, shape, 0) {
        Err(Unreadable::TooManyElements) => Ok(false),
        count => Ok(count? <= most_elements && message.len() <= most_bytes),
    }
}

/// Some items of one resource, with the bytes of what they share.
#[derive(Default)]
struct ItemPiece<'a> {
    resource: &'a [u8],
    /// Scopes with their items.
    scopes: Vec<(&'a [u8], Vec<&'a [u8]>)>,
    elements: u32,
    bytes: usize,
}

impl<'a> ItemPiece<'a> {
    fn has_room(&self, item: &[u8], elements: u32) -> bool {
        self.scopes.is_empty()
            || (self.elements + elements <= MOST_ELEMENTS && self.bytes + item.len() <= MOST_BYTES)
    }

    fn begin_scope(&mut self, scope: &'a [u8]) {
        self.scopes.push((scope, Vec::new()));
        // A message within the scope takes two bytes at least.
        self.elements += 1 + u32::try_from(scope.len() / 2).unwrap_or(u32::MAX).min(MOST_SHARED.1);
        self.bytes += scope.len();
    }

    fn push(&mut self, item: &'a [u8], elements: u32) {
        if let Some((_, items)) = self.scopes.last_mut() {
            items.push(item);
        }
        self.elements += elements;
        self.bytes += item.len();
    }
}

/// Calls `take` with the items of a request, piece by piece. Returns the number of items that are too large, or whose
/// resource or scope is.
/// Resource, scope and item have the same numbers in the requests of all signals.
fn walk<'a>(
    request: &'a [u8],
    shape: &MessageShape,
    take: &mut dyn FnMut(ItemPiece<'a>),
) -> Result<u64, Unreadable> {
    let mut too_large = 0;
    each(request, 1, |of_resource| {
        let resource = last_field(of_resource)?;
        let is_readable = is_shareable(resource, &RESOURCE)?;
        let mut piece = ItemPiece { resource, ..ItemPiece::default() };
        each(of_resource, 2, |of_scope| {
            let scope = last_field(of_scope)?;
            let is_readable = is_shareable(scope, &SCOPE)? && is_readable;
            let mut has_begun = false;
            each(of_scope, 2, |item| {
                // Values that are nested too deep are a fault of the item alone.
                let own = match elements(item, shape, 0) {
                    Err(Unreadable::TooManyElements) => u32::MAX,
                    own => own?,
                };
                if !is_readable || own > MOST_ELEMENTS {
                    too_large += 1;
                    return Ok(());
                }
                if !piece.has_room(item, own) {
                    take(std::mem::replace(&mut piece, ItemPiece { resource, ..ItemPiece::default() }));
                    has_begun = false;
                }
                if !std::mem::replace(&mut has_begun, true) {
                    piece.begin_scope(scope);
                }
                piece.push(item, own);
                Ok(())
            })
        })?;
        if !piece.scopes.is_empty() {
            take(piece);
        }
        Ok(())
    })?;
    Ok(too_large)
}

/// Returns the last field with number 1: what the items of `message` share.
fn last_field(message: &[u8]) -> Result<&[u8], Unreadable> {
    let mut found: &[u8] = &[];
    each(message, 1, |content| {
        found = content;
        Ok(())
    })?;
    Ok(found)
}

/// Decodes the items of a request in protobuf and calls `take` with each piece: a resource, and scopes with their
/// items. A request that is garbage is refused before its first piece.
fn decode_pieces<I: Message + Default>(
    request: &[u8],
    shape: &MessageShape,
    mut take: impl FnMut(Option<Resource>, Vec<(Option<InstrumentationScope>, Vec<I>)>),
) -> Result<ItemCounts, Unreadable> {
    walk(request, shape, &mut |_| {})?;
    let mut counts = ItemCounts::default();
    let too_large = walk(request, shape, &mut |piece| {
        let resource = Resource::decode(piece.resource);
        let mut scopes = Vec::new();
        for (scope, items) in piece.scopes {
            let all = items.len();
            // Without its resource or scope the source of an item is not known.
            let shared = resource.is_ok().then(|| InstrumentationScope::decode(scope).ok()).flatten();
            let read = |item| shared.as_ref().and_then(|_| I::decode(item).ok());
            let items: Vec<I> = items.into_iter().filter_map(read).collect();
            counts.count(items.len(), true);
            counts.count(all - items.len(), false);
            scopes.push((shared, items));
        }
        take(resource.ok(), scopes);
    })?;
    match counts {
        ItemCounts { taken: 0, rejected: 1.. } if too_large == 0 => Err(Unreadable::Garbage),
        ItemCounts { taken, rejected } => Ok(ItemCounts { taken, rejected: rejected + too_large }),
    }
}

impl ItemCounts {
    /// Counts items as taken or as rejected, and returns which.
    fn count(&mut self, items: usize, is_taken: bool) -> bool {
        *if is_taken { &mut self.taken } else { &mut self.rejected } += items as u64;
        is_taken
    }
}

/// Returns true if a resource or a scope that came as JSON is small enough to be read for each of its items.
fn is_shared_shareable<M: Message>(message: Option<&M>, shape: &MessageShape) -> bool {
    message.is_none_or(|message| {
        message.encoded_len() <= MOST_SHARED.0 && is_shareable(&message.encode_to_vec(), shape) == Ok(true)
    })
}

/// Calls `take` with the items of one resource that came as JSON, in pieces.
fn take_json<I>(
    resource: Option<&Resource>,
    scopes: impl Iterator<Item = (Option<InstrumentationScope>, Vec<I>)>,
    counts: &mut ItemCounts,
    mut take: impl FnMut(Option<Resource>, Vec<(Option<InstrumentationScope>, Vec<I>)>),
) {
    let is_readable = is_shared_shareable(resource, &RESOURCE);
    let (mut piece, mut room) = (Vec::new(), MOST_OF_JSON);
    for (scope, items) in scopes {
        if !counts.count(items.len(), is_readable && is_shared_shareable(scope.as_ref(), &SCOPE)) {
            continue;
        }
        let mut items = items.into_iter();
        while items.len() > 0 {
            let some: Vec<I> = items.by_ref().take(room).collect();
            room -= some.len();
            piece.push((scope.clone(), some));
            if room == 0 {
                take(resource.cloned(), std::mem::take(&mut piece));
                room = MOST_OF_JSON;
            }
        }
    }
    if !piece.is_empty() {
        take(resource.cloned(), piece);
    }
}

/// Calls `take` with the pieces of a request with spans.
pub(super) fn traces(
    body: &[u8],
    is_json: bool,
    take: &mut dyn FnMut(ExportTraceServiceRequest),
) -> Result<ItemCounts, Unreadable> {
    let mut take = |resource, scopes: Vec<_>| {
        let of_scope = |(scope, spans)| ScopeSpans { scope, spans, ..ScopeSpans::default() };
        let scope_spans = scopes.into_iter().map(of_scope).collect();
        let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
        take(ExportTraceServiceRequest { resource_spans });
    };
    if !is_json {
        return decode_pieces(body, &SPAN, take);
    }
    let mut counts = ItemCounts::default();
    for sent in from_json::<ExportTraceServiceRequest>(body)?.resource_spans {
        let scopes = sent.scope_spans.into_iter().map(|of_scope| (of_scope.scope, of_scope.spans));
        take_json(sent.resource.as_ref(), scopes, &mut counts, &mut take);
    }
    Ok(counts)
}

/// Calls `take` with the pieces of a request with log records.
pub(super) fn logs(
    body: &[u8],
    is_json: bool,
    take: &mut dyn FnMut(ExportLogsServiceRequest),
) -> Result<ItemCounts, Unreadable> {
    let mut take = |resource, scopes: Vec<_>| {
        let of_scope = |(scope, log_records)| ScopeLogs { scope, log_records, ..ScopeLogs::default() };
        let scope_logs = scopes.into_iter().map(of_scope).collect();
        let resource_logs = vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }];
        take(ExportLogsServiceRequest { resource_logs });
    };
    if !is_json {
        return decode_pieces(body, &LOG_RECORD, take);
    }
    let mut counts = ItemCounts::default();
    for sent in from_json::<ExportLogsServiceRequest>(body)?.resource_logs {
        let scopes = sent.scope_logs.into_iter().map(|of_scope| (of_scope.scope, of_scope.log_records));
        take_json(sent.resource.as_ref(), scopes, &mut counts, &mut take);
    }
    Ok(counts)
}

/// Counts the data points of a request with metrics. They are not recorded, so the limits of items do not apply.
pub(super) fn metrics(body: &[u8], is_json: bool) -> Result<ItemCounts, Unreadable> {
    let mut taken = 0;
    if is_json {
        let request: ExportMetricsServiceRequest = from_json(body)?;
        let scopes = request.resource_metrics.iter().flat_map(|sent| &sent.scope_metrics);
        taken = scopes.flat_map(|scope| &scope.metrics).map(|metric| points(metric) as u64).sum();
    } else {
        let mut count = |metric| {
            // Without the metric itself and the message that holds its points.
            taken += u64::from(elements(metric, &METRIC, 0)?.saturating_sub(2));
            Ok(())
        };
        each(body, 1, |of_resource| each(of_resource, 2, |of_scope| each(of_scope, 2, &mut count)))?;
    }
    Ok(ItemCounts { taken, rejected: 0 })
}

fn points(metric: &Metric) -> usize {
    match &metric.data {
        Some(Data::Gauge(data)) => data.data_points.len(),
        Some(Data::Sum(data)) => data.data_points.len(),
        Some(Data::Histogram(data)) => data.data_points.len(),
        Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
        Some(Data::Summary(data)) => data.data_points.len(),
        None => 0,
    }
}

fn from_json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Unreadable> {
    if json_elements(body) > MOST_JSON_ELEMENTS {
        return Err(Unreadable::TooManyElements);
    }
    serde_json::from_slice(body).map_err(|_| Unreadable::Garbage)
}

/// Returns the number of objects, lists and commas, without those in texts. Each member of an object and each value of
/// a list takes memory while an object is decoded.
fn json_elements(body: &[u8]) -> usize {
    let (mut count, mut is_text, mut is_escaped) = (0, false, false);
    for byte in body {
        match (is_text, byte) {
            (true, _) if is_escaped => is_escaped = false,
            (true, b'\\') => is_escaped = true,
            (_, b'"') => is_text = !is_text,
            (false, b'{' | b'[' | b',') => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
    use opentelemetry_proto::tonic::metrics::v1::{Gauge, NumberDataPoint, ResourceMetrics, ScopeMetrics};
    use opentelemetry_proto::tonic::trace::v1::Span;

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
    fn an_item_that_is_too_large_is_rejected_also_if_it_is_alone() {
        let values = vec![AnyValue::default(); 20_001];
        let many = attribute("many", Value::ArrayValue(ArrayValue { values }));
        let alone = request(vec![Span { attributes: vec![many], ..Span::default() }]).encode_to_vec();
        assert_eq!(split(&alone, false), (Vec::new(), Ok(ItemCounts { taken: 0, rejected: 1 })));
    }

    #[test]
    fn items_of_a_resource_or_scope_that_is_too_large_are_rejected_in_both_forms() {
        let long = vec![attribute("long", Value::StringValue("x".repeat(64 << 10)))];
        let many = vec![attribute("many", Value::BoolValue(true)); 1000];
        for attributes in [long, many] {
            let mut whole = request(vec![span("a", 1), span("b", 1)]);
            let good = request(vec![span("c", 1)]).resource_spans[0].clone();
            whole.resource_spans.extend([good.clone(), good]);
            whole.resource_spans[0].resource.as_mut().unwrap().attributes = attributes.clone();
            whole.resource_spans[1].scope_spans[0].scope.as_mut().unwrap().attributes = attributes;
            let counts = Ok(ItemCounts { taken: 1, rejected: 3 });
            assert_eq!(split(&whole.encode_to_vec(), false).1, counts);
            let (pieces, json_counts) = split(&serde_json::to_vec(&whole).unwrap(), true);
            let left = pieces.iter().map(|piece| piece.resource_spans[0].scope_spans[0].spans.len());
            assert_eq!((json_counts, left.collect()), (counts, vec![1]));
        }
    }

    #[test]
    fn a_body_in_json_is_taken_in_pieces_that_are_the_whole() {
        let span = |number: usize| Span { name: number.to_string(), ..Span::default() };
        let mut whole = request((0..3).map(span).collect());
        let more =
            ScopeSpans { spans: (3..2 * MOST_OF_JSON + 1).map(span).collect(), ..ScopeSpans::default() };
        whole.resource_spans[0].scope_spans.push(more);
        let body = br#"{"resourceSpans":[{"resource":{"attributes":[]},"scopeSpans":[SCOPES]}]}"#;
        let names = |scope: &ScopeSpans| {
            let spans = scope.spans.iter().map(|span| format!(r#"{{"name":"{}"}}"#, span.name));
            format!(r#"{{"spans":[{}]}}"#, spans.collect::<Vec<_>>().join(","))
        };
        let scopes: Vec<String> = whole.resource_spans[0].scope_spans.iter().map(names).collect();
        let body = String::from_utf8_lossy(body).replace("SCOPES", &scopes.join(","));
        let (pieces, counts) = split(body.as_bytes(), true);
        assert_eq!(counts, Ok(ItemCounts { taken: 2 * MOST_OF_JSON as u64 + 1, rejected: 0 }));
        let scopes = pieces.iter().flat_map(|piece| &piece.resource_spans[0].scope_spans);
        let sizes: Vec<usize> = scopes.clone().map(|scope| scope.spans.len()).collect();
        assert_eq!(sizes, [3, MOST_OF_JSON - 3, MOST_OF_JSON, 1]);
        let found: Vec<usize> =
            scopes.flat_map(|scope| &scope.spans).map(|span| span.name.parse().unwrap()).collect();
        assert!(found.into_iter().eq(0..2 * MOST_OF_JSON + 1));
        assert!(pieces.iter().all(|piece| piece.resource_spans[0].resource.is_some()));
    }

    #[test]
    fn items_whose_resource_or_scope_cannot_be_decoded_are_rejected() {
        let mut whole = request(vec![span("a", 1)]);
        whole.resource_spans.push(request(vec![span("b", 1), span("c", 1)]).resource_spans[0].clone());
        whole.resource_spans.push(request(vec![span("d", 1)]).resource_spans[0].clone());
        let key = |name: &str| attribute(name, Value::BoolValue(true));
        whole.resource_spans[1].resource.as_mut().unwrap().attributes = vec![key("BAD")];
        whole.resource_spans[2].scope_spans[0].scope.as_mut().unwrap().attributes = vec![key("BAD")];
        let mut body = whole.encode_to_vec();
        while let Some(at) = memchr::memmem::find(&body, b"BAD") {
            body[at] = 0xff;
        }
        let (pieces, counts) = split(&body, false);
        assert_eq!(counts, Ok(ItemCounts { taken: 1, rejected: 3 }));
        let left = pieces.iter().flat_map(|piece| &piece.resource_spans[0].scope_spans);
        assert_eq!(left.map(|scope| scope.spans.len()).sum::<usize>(), 1);
    }

    #[test]
    fn a_resource_is_decoded_once_for_many_scopes() {
        let mut whole = request(vec![Span::default()]);
        let scopes = &mut whole.resource_spans[0].scope_spans;
        *scopes = vec![ScopeSpans { spans: vec![Span::default()], ..ScopeSpans::default() }; 30_000];
        let (pieces, counts) = split(&whole.encode_to_vec(), false);
        assert_eq!(counts, Ok(ItemCounts { taken: 30_000, rejected: 0 }));
        assert!(pieces.len() <= 4, "{}", pieces.len());
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
        // Members and values that no message has are read into memory, too.
        let values = [&b"{\"resourceSpans\":[{\"unknown\":["[..], &b"1,".repeat(1 << 20), b"1]}]}"].concat();
        assert_eq!(split(&values, true).1, Err(Unreadable::TooManyElements));
        // Braces and commas within a text are text.
        let text = span(&"{\"[\\,".repeat(100_000), 1);
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
    fn data_points_are_counted_in_both_forms_however_many_there_are() {
        let gauge = |count: usize| {
            let data_points = vec![NumberDataPoint::default(); count];
            Metric { data: Some(Data::Gauge(Gauge { data_points })), ..Metric::default() }
        };
        let sent = |resource, metrics| {
            let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
            ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }
        };
        // More points than attributes of a span, a metric without data, and a resource above the limit of spans.
        let many = vec![gauge(3), gauge(MOST_ELEMENTS as usize + 1), Metric::default()];
        let attributes = vec![attribute("many", Value::BoolValue(true)); MOST_SHARED.1 as usize];
        let large = Some(Resource { attributes, ..Resource::default() });
        let resource_metrics = vec![sent(None, many), sent(large, vec![gauge(3)])];
        let request = ExportMetricsServiceRequest { resource_metrics };
        let counts = Ok(ItemCounts { taken: 3 + 20_001 + 3, rejected: 0 });
        assert_eq!(metrics(&request.encode_to_vec(), false), counts);
        assert_eq!(metrics(&serde_json::to_vec(&request).unwrap(), true), counts);
    }
}
