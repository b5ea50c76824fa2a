//! Finds the quotes and backslashes of a line, 64 bytes at a time.
//!
//! A line has some eighty of them, a few bytes apart. A search that begins anew behind each takes three times as long.

use crate::system::vector::{BLOCK, marks_of};

/// The places of the quotes and backslashes of a line, in their order.
pub(super) struct Marks<'a> {
    rest: std::slice::Chunks<'a, u8>,
    /// Place of the present block in the line.
    block: usize,
    /// A bit for each byte of the block that is a mark and was not returned.
    bits: u64,
    has_control: bool,
}

impl<'a> Marks<'a> {
    pub(super) fn of(line: &'a [u8]) -> Marks<'a> {
        let mut marks = Marks { rest: line.chunks(BLOCK), block: 0, bits: 0, has_control: false };
        marks.read(0);
        marks
    }

    /// Returns the place of the next mark; `None` at the end of the line.
    // A call keeps the code that reads a string short.
    #[inline(never)]
    pub(super) fn next(&mut self) -> Option<usize> {
        while self.bits == 0 {
            if !self.read(self.block + BLOCK) {
                return None;
            }
        }
        let place = self.block + self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        Some(place)
    }

    /// Returns the places of the next two marks; `None` at the end of the line.
    #[inline(always)]
    pub(super) fn next_two(&mut self) -> Option<(usize, usize)> {
        let others = self.bits & self.bits.wrapping_sub(1);
        if others == 0 {
            return Some((self.next()?, self.next()?));
        }
        let places =
            (self.block + self.bits.trailing_zeros() as usize, self.block + others.trailing_zeros() as usize);
        self.bits = others & (others - 1);
        Some(places)
    }

    /// Returns true if a byte up to the last mark that was returned is a control character, or one of the few behind it.
    pub(super) fn has_control(&self) -> bool {
        self.has_control
    }

    /// Reads the next block, which is at `block`. Returns false at the end of the line.
    fn read(&mut self, block: usize) -> bool {
        let Some(bytes) = self.rest.next() else { return false };
        let mut last = [b' '; BLOCK];
        let bytes = bytes.try_into().unwrap_or_else(|_| {
            last[..bytes.len()].copy_from_slice(bytes);
            &last
        });
        let (bits, has_control) = marks_of(bytes);
        self.has_control |= has_control;
        (self.block, self.bits) = (block, bits);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_quote_and_backslash_is_found_once(text in "[\"\\\\a\u{1}\u{80}é~]{0,300}") {
            let line = text.as_bytes();
            let expected: Vec<usize> = memchr::memchr2_iter(b'"', b'\\', line).collect();
            let mut marks = Marks::of(line);
            let found: Vec<usize> = std::iter::from_fn(|| marks.next()).collect();
            let mut pairs = Marks::of(line);
            let two_by_two: Vec<(usize, usize)> = std::iter::from_fn(|| pairs.next_two()).collect();
            let expected_pairs: Vec<(usize, usize)> = expected.chunks_exact(2).map(|two| (two[0], two[1])).collect();
            prop_assert_eq!(two_by_two, expected_pairs);
            prop_assert_eq!(found, expected);
            prop_assert_eq!(marks.has_control(), line.contains(&1));
            prop_assert_eq!(marks.next(), None);
        }
    }
}
