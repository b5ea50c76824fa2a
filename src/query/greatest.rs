//! The greatest of many items, in bounded memory.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::query::entry::LogEntry;
use crate::query::name_pool::NamePool;

/// Keeps the items with the greatest keys. Connection and number order items with equal keys, so that the
/// result does not depend on the order in which threads offer them.
#[derive(Debug)]
pub(crate) struct Greatest<K, T> {
    most: usize,
    /// The least item is on top.
    items: BinaryHeap<Reverse<RankedItem<K, T>>>,
}

#[derive(Debug)]
struct RankedItem<K, T> {
    key: K,
    connection_id: Arc<str>,
    seq: u64,
    item: T,
}

impl<K: Ord, T> Greatest<K, T> {
    pub(crate) fn new(most: usize) -> Greatest<K, T> {
        Greatest { most, items: BinaryHeap::new() }
    }

    /// Keeps what `make` returns if `key` is one of the greatest so far.
    pub(crate) fn offer(
        &mut self,
        key: K,
        entry: &LogEntry<'_>,
        names: &mut NamePool,
        make: impl FnOnce(&mut NamePool) -> T,
    ) {
        if self.most == 0 || self.least().is_some_and(|least| key < *least) {
            return;
        }
        let connection_id = names.share(&entry.connection_id);
        self.push(RankedItem { key, connection_id, seq: entry.seq, item: make(names) });
    }

    /// Returns the least key, if an item with a smaller one would not be kept.
    pub(crate) fn least(&self) -> Option<&K> {
        self.items.peek().filter(|_| self.items.len() >= self.most).map(|Reverse(least)| &least.key)
    }

    pub(crate) fn merge(&mut self, other: Greatest<K, T>) {
        other.items.into_iter().for_each(|Reverse(item)| self.push(item));
    }

    fn push(&mut self, item: RankedItem<K, T>) {
        self.items.push(Reverse(item));
        if self.items.len() > self.most {
            self.items.pop();
        }
    }

    /// Returns the items, greatest first.
    pub(crate) fn finish(self) -> Vec<T> {
        self.items.into_sorted_vec().into_iter().map(|Reverse(ranked)| ranked.item).collect()
    }
}

impl<K: Ord, T> Ord for RankedItem<K, T> {
    fn cmp(&self, other: &RankedItem<K, T>) -> Ordering {
        (&self.key, &self.connection_id, self.seq).cmp(&(&other.key, &other.connection_id, other.seq))
    }
}

impl<K: Ord, T> PartialOrd for RankedItem<K, T> {
    fn partial_cmp(&self, other: &RankedItem<K, T>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord, T> PartialEq for RankedItem<K, T> {
    fn eq(&self, other: &RankedItem<K, T>) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<K: Ord, T> Eq for RankedItem<K, T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_are_kept_whatever_the_order() {
        let mut names = NamePool::default();
        let mut top = |keys: &[u8]| {
            let mut top = Greatest::new(3);
            keys.iter().for_each(|key| top.offer(*key, &LogEntry::default(), &mut names, |_| *key));
            top
        };
        let mut a = top(&[5, 1, 9, 7, 3]);
        a.merge(top(&[8, 2, 6]));
        assert_eq!(a.finish(), [9, 8, 7]);
    }

    #[test]
    fn items_with_equal_keys_are_kept_by_connection_and_number() {
        let mut names = NamePool::default();
        let mut kept = |seqs: &[u64]| {
            let mut top = Greatest::new(2);
            for seq in seqs {
                top.offer(0, &LogEntry { seq: *seq, ..LogEntry::default() }, &mut names, |_| *seq);
            }
            top.finish()
        };
        assert_eq!(kept(&[1, 2, 3]), kept(&[3, 2, 1]));
    }
}
