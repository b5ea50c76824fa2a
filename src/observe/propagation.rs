//! Trace context for the requests of a client that sends none.
//!
//! [`ContextInserter`] adds `traceparent` to `params._meta` of a request. The value names the span that the observer
//! will record for this request, because the pump makes the span's id and marks the line with it. The observer gets
//! the line as the client wrote it. A line that is not such a request stays as it is, and is counted.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::observe::event::{ContextCounts, ContextOmission};
use crate::observe::trace_ids::{Random, TraceExtent, TraceSeries};
use crate::observe::traceparent::{TraceFlags, TraceParent};
use crate::relay::chunk::{LineMark, Moment};
use crate::relay::line_editor::{LineEdit, LineEditor, UnreadLine};

mod place;

pub use place::InsertionPlace;

/// Longest `tracestate` that is passed on, in bytes, with the escapes of JSON.
const MAX_TRACE_STATE: usize = 600;
/// Members without `tracestate`: names, quotes, braces, and 55 bytes of `traceparent`.
const MEMBERS: usize = 128;

/// The pump's side: reads the lines of the client.
pub struct ContextInserter {
    shared: Arc<SharedContext>,
    flags: TraceFlags,
    /// JSON of `tracestate`, which belongs to the connection's trace.
    trace_state: Option<String>,
    random: Random,
    extent: TraceExtent,
    trace: u64,
    text: Vec<u8>,
}

/// The observer's side: the traces of marked requests, and the counts.
pub struct SharedContext {
    pub(super) series: TraceSeries,
    inserted: AtomicU64,
    omitted: [AtomicU64; ContextOmission::COUNT],
}

impl ContextInserter {
    /// Creates both sides. `connection` is the context whose parent is the connection span; `random` seeds the ids.
    pub fn new(
        connection: TraceParent,
        trace_state: Option<&str>,
        random: [[u8; 32]; 2],
    ) -> (ContextInserter, Arc<SharedContext>) {
        let [of_spans, of_traces] = random;
        let shared = Arc::new(SharedContext {
            series: TraceSeries { first: connection.trace_id, seed: of_traces },
            inserted: AtomicU64::new(0),
            omitted: std::array::from_fn(|_| AtomicU64::new(0)),
        });
        let trace_state = trace_state.filter(|state| !state.is_empty());
        let trace_state = trace_state.and_then(|state| serde_json::to_string(state).ok());
        let inserter = ContextInserter {
            shared: Arc::clone(&shared),
            flags: connection.flags,
            trace_state: trace_state.filter(|state| state.len() <= MAX_TRACE_STATE),
            random: Random::new(of_spans),
            extent: TraceExtent::default(),
            trace: 0,
            text: Vec::with_capacity(MEMBERS + MAX_TRACE_STATE),
        };
        (inserter, shared)
    }

    /// Makes the span of a request that is read at this time.
    fn mark(&mut self, read_at: Moment) -> LineMark {
        if self.extent.starts_trace(read_at) {
            self.trace += 1;
        }
        let span = u64::from_be_bytes(self.random.span_id().bytes());
        LineMark { span: NonZeroU64::new(span).unwrap_or(NonZeroU64::MIN), trace: self.trace }
    }

    /// Writes the members that name the span of `mark`.
    fn write(&mut self, mark: LineMark, place: InsertionPlace) {
        let trace_id = self.shared.series.nth(self.trace).bytes();
        let text = &mut self.text;
        text.clear();
        text.extend_from_slice(if place.makes_meta {
            br#""_meta":{"traceparent":"00-"#
        } else {
            br#""traceparent":"00-"#
        });
        push_hex(text, &trace_id);
        text.push(b'-');
        push_hex(text, &mark.span.get().to_be_bytes());
        text.push(b'-');
        push_hex(text, &[self.flags.bits()]);
        text.push(b'"');
        if let Some(state) = self.trace_state.as_deref().filter(|_| self.trace == 0) {
            text.extend_from_slice(br#","tracestate":"#);
            text.extend_from_slice(state.as_bytes());
        }
        if place.makes_meta {
            text.push(b'}');
        }
        if !place.is_empty {
            text.push(b',');
        }
    }
}

impl LineEditor for ContextInserter {
    fn edit(&mut self, line: &[u8], read_at: Moment) -> LineEdit<'_> {
        match InsertionPlace::find(line) {
            Ok(place) => {
                let mark = self.mark(read_at);
                self.write(mark, place);
                count(&self.shared.inserted);
                LineEdit { insertion: Some((place.at, &self.text)), mark: Some(mark) }
            }
            Err(None) => LineEdit::default(),
            Err(Some(omission)) => {
                self.shared.omit(omission);
                // The trace ends after as many requests whether or not they can get context.
                let mark = (omission == ContextOmission::NoParams).then(|| self.mark(read_at));
                LineEdit { insertion: None, mark }
            }
        }
    }

    fn passes(&mut self, why: UnreadLine) {
        self.shared.omit(match why {
            UnreadLine::TooLong => ContextOmission::TooLong,
            UnreadLine::Incomplete => ContextOmission::Incomplete,
        });
    }
}

impl SharedContext {
    fn omit(&self, omission: ContextOmission) {
        count(&self.omitted[omission as usize]);
    }

    /// Returns the counts so far.
    pub fn counts(&self) -> ContextCounts {
        let of = |omission| self.omitted[omission as usize].load(Ordering::Relaxed);
        ContextCounts {
            inserted: self.inserted.load(Ordering::Relaxed),
            has_context: of(ContextOmission::HasContext),
            no_params: of(ContextOmission::NoParams),
            not_a_request: of(ContextOmission::NotARequest),
            batch: of(ContextOmission::Batch),
            duplicate: of(ContextOmission::Duplicate),
            invalid: of(ContextOmission::Invalid),
            too_long: of(ContextOmission::TooLong),
            incomplete: of(ContextOmission::Incomplete),
        }
    }
}

/// Adds one. Only the pump counts.
fn count(number: &AtomicU64) {
    number.store(number.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// Writes hex digits without an allocation, as long as `text` has room.
fn push_hex(text: &mut Vec<u8>, bytes: &[u8]) {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    text.extend(digits.map(|digit| b"0123456789abcdef"[usize::from(digit)]));
}

#[cfg(test)]
mod tests;
