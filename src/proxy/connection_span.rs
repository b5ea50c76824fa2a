//! The span of the connection, and the trace context that the server gets in its environment.

use std::ffi::OsString;

use crate::export::otlp::sampler::Sampler;
use crate::export::otlp::settings::SignalEndpoints;
use crate::observe::event::Span;
use crate::observe::redact::{Field, Redactor};
use crate::observe::traceparent::{SpanId, TraceFlags, TraceId, TraceParent};
use crate::proxy::nested;
use crate::settings::Environment;
use crate::system::process::TraceEnv;

/// The connection's span and the span that it continues.
pub(crate) struct ConnectionSpan {
    trace_id: TraceId,
    span_id: SpanId,
    parent: Option<TraceParent>,
    trace_state: Option<OsString>,
    flags: TraceFlags,
}

impl ConnectionSpan {
    /// Continues a valid `TRACEPARENT` of our environment. Otherwise a new trace begins, and a stale
    /// `TRACESTATE` is dropped (W3C Trace Context §3.3).
    ///
    /// The id of the span shows an inner spantap what this one exports to `endpoints`.
    pub(crate) fn new(
        environment: Environment<'_>,
        sampler: Sampler,
        endpoints: &SignalEndpoints,
    ) -> ConnectionSpan {
        let parent = environment("TRACEPARENT").and_then(|text| TraceParent::parse(text.to_str()?));
        let trace_state = parent.and_then(|_| environment("TRACESTATE"));
        let trace_id = parent.map_or_else(|| random(TraceId::new), |parent| parent.trace_id);
        let flags = match parent {
            Some(parent) if sampler.parent_based => parent.flags,
            Some(parent) => parent.flags.with_sampled(sampler.samples(trace_id.bytes())),
            None => TraceFlags::new_trace(sampler.samples(trace_id.bytes())),
        };
        let span_id = random(|bytes| SpanId::new(nested::marked(bytes, endpoints)));
        ConnectionSpan { trace_id, span_id, parent, trace_state, flags }
    }

    /// Returns the span that this one continues.
    pub(crate) fn parent_id(&self) -> Option<SpanId> {
        self.parent.map(|parent| parent.parent_id)
    }

    /// Returns the server's trace context, whose parent is this span.
    pub(crate) fn trace_env(&self) -> TraceEnv {
        let own = TraceParent { trace_id: self.trace_id, parent_id: self.span_id, flags: self.flags };
        TraceEnv::Set { traceparent: own.to_string(), tracestate: self.trace_state.clone() }
    }

    pub(crate) fn span(&self, redactor: &mut Redactor) -> Span {
        let state = self.trace_state.as_ref().map(|state| state.as_encoded_bytes());
        Span {
            trace_id: self.trace_id,
            span_id: self.span_id,
            parent_span_id: self.parent.map(|parent| parent.parent_id),
            linked: None,
            trace_state: state.map(|state| redactor.redact(Field::TraceState, state)),
            flags: self.flags,
        }
    }
}

/// Draws random bytes until they make a valid id.
fn random<const N: usize, T>(make: impl Fn([u8; N]) -> Option<T>) -> T {
    let mut bytes = [0; N];
    loop {
        if getrandom::fill(&mut bytes).is_err() {
            // Without a source of randomness the clock and the pid have to do.
            let seed = crate::system::clock::now().0 ^ u64::from(std::process::id()) << 32;
            bytes.iter_mut().zip(seed.to_ne_bytes().iter().cycle()).for_each(|(to, from)| *to = *from | 1);
        }
        if let Some(value) = make(bytes) {
            return value;
        }
    }
}
