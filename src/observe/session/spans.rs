//! Spans of operations.

use crate::observe::event::Span;
use crate::observe::mcp::Meta;
use crate::observe::redact::Redacted;
use crate::observe::trace_ids::{Random, TraceExtent, TraceSeries};
use crate::observe::traceparent::{SpanId, TraceId};
use crate::relay::chunk::{LineMark, Moment};

/// Assigns spans to operations.
pub(super) struct SpanAssigner {
    connection: Span,
    /// The trace of operations whose caller sent no trace context.
    trace_id: TraceId,
    extent: TraceExtent,
    random: Random,
    /// The traces that the pump numbers, if it inserts trace context into requests.
    series: Option<TraceSeries>,
    /// Mark of the line that is observed.
    mark: Option<LineMark>,
}

impl SpanAssigner {
    pub(super) fn new(connection: Span, seed: [u8; 32]) -> SpanAssigner {
        let trace_id = connection.trace_id;
        let (extent, random) = (TraceExtent::default(), Random::new(seed));
        SpanAssigner { connection, trace_id, extent, random, series: None, mark: None }
    }

    pub(super) fn follow(&mut self, series: TraceSeries) {
        self.series = Some(series);
    }

    /// Sets the mark of the line whose bytes come next.
    pub(super) fn set_mark(&mut self, mark: Option<LineMark>) {
        self.mark = mark;
    }

    /// Returns the span of a new operation. Its parent is the caller's span, with a link to the connection
    /// span, or else the connection span. The ids are those that the pump has given to the request, if it has.
    pub(super) fn assign(
        &mut self,
        meta: &Meta,
        at: Moment,
        mut redact: impl FnMut(&[u8]) -> Redacted,
    ) -> Span {
        let link = Some((self.connection.trace_id, self.connection.span_id));
        if let Some(parent) = meta.trace_parent {
            return Span {
                trace_id: parent.trace_id,
                span_id: self.random.span_id(),
                parent_span_id: Some(parent.parent_id),
                linked: link,
                trace_state: meta.trace_state.as_deref().map(|state| redact(state.as_bytes())),
                flags: parent.flags,
            };
        }
        let span_id = self.marked(at).unwrap_or_else(|| {
            if self.extent.starts_trace(at) {
                self.trace_id = self.random.trace_id();
            }
            self.random.span_id()
        });
        let in_connection = self.trace_id == self.connection.trace_id;
        Span {
            trace_id: self.trace_id,
            span_id,
            parent_span_id: in_connection.then_some(self.connection.span_id),
            linked: if in_connection { None } else { link },
            trace_state: self.connection.trace_state.clone().filter(|_| in_connection),
            flags: self.connection.flags,
        }
    }

    /// Takes the mark: enters its trace and returns its span.
    fn marked(&mut self, at: Moment) -> Option<SpanId> {
        let (mark, series) = self.mark.take().zip(self.series)?;
        let span_id = SpanId::new(mark.span.get().to_be_bytes())?;
        let trace_id = series.nth(mark.trace);
        if self.trace_id != trace_id {
            self.trace_id = trace_id;
            self.extent = TraceExtent::default();
            self.extent.starts_trace(at);
        }
        Some(span_id)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::observe::traceparent::TraceFlags;

    fn spans() -> SpanAssigner {
        let connection = Span {
            trace_id: TraceId::new([1; 16]).unwrap(),
            span_id: SpanId::new([2; 8]).unwrap(),
            parent_span_id: None,
            linked: None,
            trace_state: None,
            flags: TraceFlags::new_trace(true),
        };
        SpanAssigner::new(connection, [3; 32])
    }

    fn assign(spans: &mut SpanAssigner, meta: &Meta, at: u64) -> Span {
        spans.assign(meta, Moment(at), |_| unreachable!("no tracestate here"))
    }

    #[test]
    fn the_callers_context_is_the_parent_and_the_connection_a_link() {
        let meta = Meta::new(br#"{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}"#);
        let span = assign(&mut spans(), &meta, 0);
        assert_eq!(span.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span.parent_span_id.unwrap().to_string(), "b7ad6b7169203331");
        assert!(span.linked.is_some());
        assert_eq!(span.flags, TraceFlags::from_bits(0));
    }

    #[test]
    fn after_a_thousand_operations_the_parent_becomes_a_link() {
        let mut spans = spans();
        let meta = Meta::default();
        let first: Vec<Span> = (0..1000).map(|_| assign(&mut spans, &meta, 0)).collect();
        assert!(first.iter().all(|span| span.parent_span_id.is_some() && span.linked.is_none()));
        let next = assign(&mut spans, &meta, 0);
        assert_ne!(next.trace_id, first[0].trace_id);
        assert!(next.linked.is_some() && next.parent_span_id.is_none());
    }

    #[test]
    fn a_marked_request_has_the_span_of_its_mark_and_later_ones_follow_into_its_trace() {
        let mut spans = spans();
        let series = TraceSeries { first: TraceId::new([1; 16]).unwrap(), seed: [7; 32] };
        spans.follow(series);
        for (trace, is_in_connection) in [(0, true), (3, false)] {
            spans.set_mark(NonZeroU64::new(0xab).map(|span| LineMark { span, trace }));
            let marked = assign(&mut spans, &Meta::default(), 0);
            assert_eq!(marked.span_id.to_string(), "00000000000000ab");
            assert_eq!(marked.trace_id, series.nth(trace));
            assert_eq!(marked.parent_span_id.is_some(), is_in_connection);
            assert_eq!(marked.linked.is_none(), is_in_connection);
            let unmarked = assign(&mut spans, &Meta::default(), 0);
            assert_eq!(unmarked.trace_id, marked.trace_id);
            assert_ne!(unmarked.span_id, marked.span_id);
        }
    }
}
