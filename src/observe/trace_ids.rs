//! The ids of spans and traces that spantap makes.

use std::time::Duration;

use crate::observe::traceparent::{SpanId, TraceId};
use crate::relay::chunk::Moment;

/// Operations of one trace, so that no trace grows without limit. The next operation starts a new trace.
const MAX_OPERATIONS: u32 = 1_000;
/// Age of a trace after which the next operation starts a new one.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// Extent of the current trace.
#[derive(Default)]
pub(super) struct TraceExtent {
    began: Option<Moment>,
    operations: u32,
}

impl TraceExtent {
    /// Counts an operation. Returns true if it starts a new trace.
    pub(super) fn starts_trace(&mut self, at: Moment) -> bool {
        let began = *self.began.get_or_insert(at);
        let starts = self.operations >= MAX_OPERATIONS || at.since(began) >= MAX_AGE;
        if starts {
            *self = TraceExtent { began: Some(at), operations: 0 };
        }
        self.operations += 1;
        starts
    }
}

/// The traces of a connection, by number. The pump and the observer agree on a trace by its number alone.
#[derive(Clone, Copy)]
pub(super) struct TraceSeries {
    /// The trace of the connection span, which has number 0.
    pub(super) first: TraceId,
    pub(super) seed: [u8; 32],
}

impl TraceSeries {
    pub(super) fn nth(&self, number: u64) -> TraceId {
        match number {
            0 => self.first,
            _ => Random::new(self.seed).jumped(number).trace_id(),
        }
    }
}

/// xoshiro256++ (Blackman and Vigna). Ids have to be distinct; they need not be unguessable.
pub(super) struct Random([u64; 4]);

impl Random {
    pub(super) fn new(seed: [u8; 32]) -> Random {
        let mut state = [0x9e37_79b9_7f4a_7c15; 4];
        for (word, bytes) in state.iter_mut().zip(seed.chunks_exact(8)) {
            *word ^= bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        Random(state)
    }

    /// Returns the generator with a state that `number` changes in every word.
    fn jumped(mut self, number: u64) -> Random {
        for (word, place) in self.0.iter_mut().zip(1..) {
            // SplitMix64 (Steele, Lea and Flood), which is a bijection.
            let mut mixed = number.wrapping_mul(4).wrapping_add(place).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            *word ^= mixed ^ mixed >> 31;
        }
        self
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

    pub(super) fn span_id(&mut self) -> SpanId {
        loop {
            if let Some(id) = SpanId::new(self.next().to_be_bytes()) {
                return id;
            }
        }
    }

    pub(super) fn trace_id(&mut self) -> TraceId {
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
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_trace_holds_a_thousand_operations_or_an_hour() {
        let mut extent = TraceExtent::default();
        assert!((0..1000).all(|_| !extent.starts_trace(Moment(0))));
        assert!(extent.starts_trace(Moment(0)));
        assert!(!extent.starts_trace(Moment(0)));
        assert!(extent.starts_trace(Moment(MAX_AGE.as_nanos() as u64)));
    }

    #[test]
    fn the_traces_of_a_series_are_distinct_and_depend_on_the_seed() {
        let first = TraceId::new([1; 16]).unwrap();
        let series = |seed| TraceSeries { first, seed: [seed; 32] };
        assert_eq!(series(0).nth(0), first);
        let ids: HashSet<TraceId> =
            [0, 1].into_iter().flat_map(|seed| (1..500).map(move |n| series(seed).nth(n))).collect();
        assert_eq!(ids.len(), 2 * 499);
    }
}
