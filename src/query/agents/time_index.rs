//! Finds among many things those that were there at a time, without a look at each of them.

use crate::record::timestamp::Timestamp;

/// Things by the times in which they were there, in the order of their beginnings.
#[derive(Clone, Debug)]
pub(super) struct TimeIndex {
    /// Begin and number of each thing.
    order: Vec<(i64, usize)>,
    /// The latest end below each node of a binary tree; the leaves are the last half, in the same order.
    latest: Vec<i64>,
}

impl TimeIndex {
    /// Takes begin, end and number of each thing. Things that begin at once are in the order of their numbers.
    pub(super) fn new(times: impl IntoIterator<Item = (i64, i64, usize)>) -> TimeIndex {
        let mut times: Vec<(i64, i64, usize)> = times.into_iter().collect();
        times.sort_unstable_by_key(|(began, _, number)| (*began, *number));
        let leaves = (times.len() + 1).next_power_of_two();
        let mut latest = vec![i64::MIN; 2 * leaves];
        for (at, (_, ended, _)) in times.iter().enumerate() {
            latest[leaves + at] = *ended;
        }
        for node in (1..leaves).rev() {
            latest[node] = latest[2 * node].max(latest[2 * node + 1]);
        }
        TimeIndex { order: times.into_iter().map(|(began, _, number)| (began, number)).collect(), latest }
    }

    /// Returns the things that began at `begun` or before it and ended at `ended` or after it, the last one first.
    pub(super) fn find(&self, begun: i64, ended: i64) -> impl Iterator<Item = usize> + '_ {
        let end = self.order.partition_point(|(began, _)| *began <= begun);
        let found =
            std::iter::successors(self.last_before(end, ended), move |at| self.last_before(*at, ended));
        found.map(|at| self.order[at].1)
    }

    /// Returns the last thing that began before a record and ended after it, as the turn of a record without a turn's id.
    pub(super) fn last_around(&self, began: Timestamp, ended: Timestamp) -> Option<usize> {
        self.find(began.0, ended.0).next()
    }

    /// Returns the last place before `end` of a thing that ended at `ended` or after it.
    fn last_before(&self, end: usize, ended: i64) -> Option<usize> {
        let leaves = self.latest.len() / 2;
        let mut node = leaves + end;
        // Up, until the node to the left has such a thing below it.
        while node > 1 && (node.is_multiple_of(2) || self.latest[node - 1] < ended) {
            super::look();
            node /= 2;
        }
        if node <= 1 {
            return None;
        }
        node -= 1;
        while node < leaves {
            super::look();
            node = 2 * node + usize::from(self.latest[2 * node + 1] >= ended);
        }
        Some(node - leaves)
    }
}

/// Returns the number of the record that starts nearest to `at`; the records are in the order of their starts.
pub(super) fn nearest(records: &[(Timestamp, usize)], at: Timestamp) -> Option<usize> {
    let later = records.partition_point(|(start, _)| *start < at);
    // Of those that start at once, the first one is compared.
    let first_at = |start: Timestamp| records.partition_point(|(other, _)| *other < start);
    let earlier = later.checked_sub(1).map(|last| first_at(records[last].0));
    let around = [earlier, Some(later)].into_iter().flatten().filter_map(|place| records.get(place));
    around.min_by_key(|(start, number)| (start.0.abs_diff(at.0), *number)).map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_things_of_a_time_are_found_as_a_look_at_each_of_them_finds_them() {
        let mut seed = 9_u64;
        let mut below = |end: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((seed >> 33) % end) as i64
        };
        for count in 0..40 {
            let mut times: Vec<(i64, i64, usize)> = (0..count)
                .map(|number| {
                    let began = below(30);
                    (began, began + below(20), number)
                })
                .collect();
            times.push((5, i64::MAX, count));
            let index = TimeIndex::new(times.clone());
            times.sort_by_key(|(began, _, number)| (*began, *number));
            for _ in 0..20 {
                let (begun, ended) = (below(32) - 1, below(60) - 1);
                let is_found = |(began, end, _): &&(i64, i64, usize)| *began <= begun && *end >= ended;
                let expected: Vec<usize> =
                    times.iter().rev().filter(is_found).map(|(_, _, number)| *number).collect();
                assert_eq!(
                    index.find(begun, ended).collect::<Vec<_>>(),
                    expected,
                    "{times:?} {begun} {ended}"
                );
            }
        }
    }
}
