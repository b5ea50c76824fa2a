//! The greatest of many lines, in bounded memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Keeps the lines with the greatest keys.
pub(super) struct Top<K: Ord> {
    most: usize,
    /// The least of them on top.
    lines: BinaryHeap<Reverse<(K, Box<[u8]>)>>,
}

impl<K: Ord> Top<K> {
    pub(super) fn new(most: usize) -> Top<K> {
        Top { most, lines: BinaryHeap::new() }
    }

    /// Copies `line` if it is one of the greatest so far.
    pub(super) fn offer(&mut self, key: K, line: &[u8]) {
        let least = self.lines.peek().map(|Reverse((least, _))| least);
        if self.lines.len() < self.most || least.is_some_and(|least| key > *least) {
            self.push(key, line.into());
        }
    }

    pub(super) fn merge(&mut self, other: Top<K>) {
        other.lines.into_iter().for_each(|Reverse((key, line))| self.push(key, line));
    }

    fn push(&mut self, key: K, line: Box<[u8]>) {
        self.lines.push(Reverse((key, line)));
        if self.lines.len() > self.most {
            self.lines.pop();
        }
    }

    /// The lines, greatest first.
    pub(super) fn finish(self) -> Vec<Box<[u8]>> {
        let lines = self.lines.into_sorted_vec();
        lines.into_iter().map(|Reverse((_, line))| line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_are_kept_whatever_the_order() {
        let mut a = Top::new(3);
        let mut b = Top::new(3);
        for key in [5, 1, 9, 7, 3] {
            a.offer(key, &[key]);
        }
        for key in [8, 2, 6] {
            b.offer(key, &[key]);
        }
        a.merge(b);
        let kept: Vec<u8> = a.finish().iter().map(|line| line[0]).collect();
        assert_eq!(kept, [9, 8, 7]);
    }
}
