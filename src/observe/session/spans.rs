//! Spans of operations.

use std::time::Duration;

use crate::observe::event::Span;
use crate::observe::mcp::Meta;
use crate::observe::redact::Redacted;
use crate::observe::traceparent::{SpanId, TraceId};
use crate::relay::chunk::Moment;

/// Operations of one trace, so that no trace grows without limit. The next operation starts a new trace.
const MAX_OPERATIONS: u32 = 1_000;
/// Age of a trace after which the next operation starts a new one.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// Assigns spans to operations.
pub(super) struct SpanAssigner {
    connection: Span,
    /// The trace of operations whose caller sent no trace context.
    trace_id: TraceId,
    began: Option<Moment>,
    operations: u32,
    random: Random,
}

impl SpanAssigner {
    pub(super) fn new(connection: Span, seed: [u8; 32]) -> SpanAssigner {
        let trace_id = connection.trace_id;
        SpanAssigner { connection, trace_id, began: None, operations: 0, random: Random::new(seed) }
    }

    /// Returns the span of a new operation. Its parent is the caller's span, with a link to the connection
    /// span, or else the connection span.
    pub(super) fn assign(
        &mut self,
        meta: &Meta,
        at: Moment,
        mut redact: impl FnMut(&[u8]) -> Redacted,
    ) -> Span {
        let link = Some((self.connection.trace_id, self.connection.span_id));
        let span_id = self.random.span_id();
        if let Some(parent) = meta.trace_parent {
            return Span {
                trace_id: parent.trace_id,
                span_id,
                parent_span_id: Some(parent.parent_id),
                linked: link,
                trace_state: meta.trace_state.as_deref().map(|state| redact(state.as_bytes())),
                flags: parent.flags,
            };
        }
        let began = *self.began.get_or_insert(at);
        if self.operations >= MAX_OPERATIONS || at.since(began) >= MAX_AGE {
            self.trace_id = self.random.trace_id();
            self.operations = 0;
            self.began = Some(at);
        }
        self.operations += 1;
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
}

/// xoshiro256++ (Blackman and Vigna). Ids have to be distinct; they need not be unguessable.
struct Random([u64; 4]);

impl Random {
    fn new(seed: [u8; 32]) -> Random {
        let mut state = [0x9e37_79b9_7f4a_7c15; 4];
        for (word, bytes) in state.iter_mut().zip(seed.chunks_exact(8)) {
            *word ^= bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        Random(state)
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    fn span_id(&mut self) -> SpanId {
        loop {
            if let Some(id) = SpanId::new(self.next().to_be_bytes()) {
                return id;
            }
        }
    }

    fn trace_id(&mut self) -> TraceId {
        loop {
            let bytes = (u128::from(self.next()) << 64 | u128::from(self.next())).to_be_bytes();
            if let Some(id) = TraceId::new(bytes) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
    fn a_trace_holds_a_thousand_operations_or_an_hour() {
        let mut spans = spans();
        let meta = Meta::default();
        let first: Vec<Span> = (0..1000).map(|_| assign(&mut spans, &meta, 0)).collect();
        assert!(first.iter().all(|span| span.parent_span_id.is_some() && span.linked.is_none()));
        let next = assign(&mut spans, &meta, 0);
        assert_ne!(next.trace_id, first[0].trace_id);
        assert!(next.linked.is_some() && next.parent_span_id.is_none());
        let later = assign(&mut spans, &meta, MAX_AGE.as_nanos() as u64);
        assert_ne!(later.trace_id, next.trace_id);
    }
}
