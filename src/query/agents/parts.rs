//! Finds the two records of one model call whose parts went to two runs of `spantap collect`.
//!
//! Codex and Gemini CLI report a model call in a span and in an event, which have no id in common. The collector joins
//! them by their times. If it was started again between the two, each run has a record, and the reader joins those.

use std::collections::HashMap;

use crate::record::timestamp::Timestamp;

/// Longest time by which a part is outside the other one. Both are by one clock.
const SLACK_MS: f64 = 1.0;
/// Most earlier records that are compared with one.
const COMPARED: usize = 16;

/// A record of a model call.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallPart<'r> {
    /// Agent, and its id of the conversation.
    pub(super) run: (&'r str, &'r str),
    /// The run of the collector.
    pub(super) connection_id: &'r str,
    pub(super) began: Timestamp,
    pub(super) ended: Timestamp,
    /// Input and output.
    pub(super) tokens: [Option<u64>; 2],
    pub(super) has_span: bool,
}

impl CallPart<'_> {
    /// Returns true if `inner` is an event about this span.
    fn is_around(&self, inner: &CallPart<'_>) -> bool {
        let is_within = self.began <= inner.began.plus_ms(SLACK_MS)
            && inner.ended <= self.ended.plus_ms(SLACK_MS)
            && self.began.ms_until(self.ended) >= inner.began.ms_until(inner.ended);
        let is_same = match (self.tokens, inner.tokens) {
            (_, [None, None]) => false,
            ([None, None], _) => !inner.has_span,
            (own, other) => own == other,
        };
        self.has_span && self.connection_id != inner.connection_id && is_within && is_same
    }
}

/// Returns the pairs of records that are one model call, each as the indexes of the span and of its event.
pub(super) fn pairs(parts: &[CallPart<'_>]) -> Vec<(usize, usize)> {
    let of_first = |part: &CallPart<'_>| part.connection_id == parts[0].connection_id;
    if parts.iter().all(of_first) {
        return Vec::new();
    }
    let mut runs: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
    for (at, part) in parts.iter().enumerate().filter(|(_, part)| !part.run.1.is_empty()) {
        runs.entry(part.run).or_default().push(at);
    }
    let mut pairs = Vec::new();
    let mut is_used = vec![false; parts.len()];
    for of_run in runs.values_mut() {
        of_run.sort_by_key(|at| (parts[*at].began, *at));
        for inner in of_run.iter().copied() {
            let until = parts[inner].began.plus_ms(SLACK_MS);
            let earlier = &of_run[..of_run.partition_point(|at| parts[*at].began <= until)];
            let is_outer =
                |at: &&usize| **at != inner && !is_used[**at] && parts[**at].is_around(&parts[inner]);
            let outer = earlier.iter().rev().take(COMPARED).find(is_outer).copied();
            if let Some(outer) = outer.filter(|_| !is_used[inner]) {
                (is_used[outer], is_used[inner]) = (true, true);
                pairs.push((outer, inner));
            }
        }
    }
    pairs.sort_unstable();
    pairs
}
