//! The lines that wait for the disk, in blocks.

use std::collections::VecDeque;
use std::io::Read as _;

use flate2::Compression;
use flate2::bufread::{DeflateDecoder, DeflateEncoder};

/// Bytes that may wait for the disk, with those that are being written. The rings before the observer are the larger
/// buffer.
pub(super) const MAX_QUEUE: usize = 4 << 20;
/// Room of a block of lines, in bytes. A longer line has a block of its own. Each write is of one block and counts as
/// progress of the disk. One block is kept while no lines come.
pub(super) const BLOCK: usize = 64 << 10;

#[derive(Default)]
pub(super) struct LineQueue {
    /// Whole lines. New ones go into the last block.
    blocks: VecDeque<LineBlock>,
    /// Bytes in `blocks`, as if none were compressed.
    pub(super) size: usize,
    /// Empty blocks, for the next lines. The memory of a new one would be touched page by page.
    pub(super) spare: Vec<Vec<u8>>,
    /// True if the disk took nothing at the last attempt. Blocks are then compressed, because they may wait for long.
    pub(super) is_blocked: bool,
    pub(super) closing: bool,
    /// Number of lines that are being written now, and their bytes.
    in_hand: u64,
    size_in_hand: usize,
    /// True if the last line is written and no line will follow.
    pub(super) closed: bool,
    /// True if the deadline is over: the lines in hand have been counted as lost.
    pub(super) abandoned: bool,
}

/// Whole lines that are written together.
enum LineBlock {
    Plain(Vec<u8>),
    /// Lines of a log are alike: compressed they take less than a tenth.
    Packed {
        compressed: Box<[u8]>,
        size: usize,
        lines: u64,
    },
}

impl LineQueue {
    /// Returns the number of blocks.
    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Returns true if `line` has to wait for lines before it to be written.
    pub(super) fn is_full_for(&self, line: &[u8]) -> bool {
        let waiting = self.size + self.size_in_hand;
        waiting > 0 && waiting + line.len() > MAX_QUEUE
    }

    pub(super) fn push(&mut self, line: &[u8]) {
        self.size += line.len();
        if let Some(LineBlock::Plain(last)) = self.blocks.back_mut()
            && last.len() + line.len() <= BLOCK
        {
            return last.extend_from_slice(line);
        }
        if self.is_blocked {
            self.pack();
        }
        let spare = self.spare.pop().filter(|_| line.len() <= BLOCK);
        let mut block = spare.unwrap_or_else(|| Vec::with_capacity(line.len().max(BLOCK)));
        block.extend_from_slice(line);
        self.blocks.push_back(LineBlock::Plain(block));
    }

    /// Takes the oldest block, to write it.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        let block = match self.blocks.pop_front()? {
            LineBlock::Plain(lines) => lines,
            LineBlock::Packed { compressed, size, .. } => {
                let mut lines = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(size.max(BLOCK)));
                let read = DeflateDecoder::new(&*compressed).read_to_end(&mut lines);
                read.expect("what `pack` compressed is complete");
                lines
            }
        };
        self.size -= block.len();
        self.size_in_hand = block.len();
        self.in_hand = count_lines(&block);
        Some(block)
    }

    /// Takes back a block whose lines are written or lost.
    pub(super) fn put_back(&mut self, block: Vec<u8>) {
        (self.in_hand, self.size_in_hand) = (0, 0);
        self.keep_room(block);
    }

    /// Returns the number of lines that are not written.
    pub(super) fn unwritten(&self) -> u64 {
        let lines = self.blocks.iter().map(|block| match block {
            LineBlock::Plain(lines) => count_lines(lines),
            LineBlock::Packed { lines, .. } => *lines,
        });
        self.in_hand + lines.sum::<u64>()
    }

    /// The disk takes nothing: compresses what waits, and what will follow.
    pub(super) fn hold(&mut self) {
        self.is_blocked = true;
        self.pack();
    }

    /// Compresses the blocks that are not compressed.
    fn pack(&mut self) {
        for index in 0..self.blocks.len() {
            let LineBlock::Plain(plain) = &self.blocks[index] else { continue };
            let mut compressed = Vec::with_capacity(plain.len() / 8);
            // A reader of a slice does not fail.
            if DeflateEncoder::new(&**plain, Compression::fast()).read_to_end(&mut compressed).is_err() {
                continue;
            }
            let (size, lines) = (plain.len(), count_lines(plain));
            let packed = LineBlock::Packed { compressed: compressed.into(), size, lines };
            if let LineBlock::Plain(block) = std::mem::replace(&mut self.blocks[index], packed) {
                self.keep_room(block);
            }
        }
    }

    /// Keeps the memory of a block for the next lines.
    fn keep_room(&mut self, mut block: Vec<u8>) {
        block.clear();
        let is_enough = self.is_blocked && !self.spare.is_empty();
        if block.capacity() <= BLOCK && !is_enough {
            self.spare.push(block);
        }
    }
}

pub(super) fn count_lines(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    impl LineQueue {
        /// Returns the bytes that the blocks and the spare ones take.
        pub(crate) fn memory(&self) -> usize {
            let blocks = self.blocks.iter().map(|block| match block {
                LineBlock::Plain(lines) => lines.capacity(),
                LineBlock::Packed { compressed, .. } => compressed.len(),
            });
            blocks.chain(self.spare.iter().map(Vec::capacity)).sum()
        }
    }

    /// Returns a line of `length` bytes.
    fn line(length: usize) -> Vec<u8> {
        [vec![b'x'; length - 1], b"\n".to_vec()].concat()
    }

    #[test]
    fn blocks_are_whole_lines_and_a_long_line_has_its_own() {
        for is_blocked in [false, true] {
            for (lengths, blocks) in [
                (&[11, 11][..], &[22][..]),
                (&[11, BLOCK], &[11, BLOCK]),
                (&[BLOCK - 11, 11, 1], &[BLOCK, 1]),
                (&[11, BLOCK + 1, 11, 11], &[11, BLOCK + 1, 22]),
            ] {
                let mut queue = LineQueue { is_blocked, ..LineQueue::default() };
                lengths.iter().for_each(|length| queue.push(&line(*length)));
                assert_eq!((queue.unwritten(), queue.size), (lengths.len() as u64, lengths.iter().sum()));
                let mut left = queue.unwritten();
                for length in blocks {
                    let block = queue.take().unwrap();
                    assert_eq!((block.len(), block.last()), (*length, Some(&b'\n')));
                    assert_eq!(queue.unwritten(), left, "the lines in hand are not written yet");
                    left -= count_lines(&block);
                    queue.put_back(block);
                    assert_eq!(queue.unwritten(), left);
                }
                assert_eq!((queue.take(), queue.unwritten(), queue.size), (None, 0, 0));
                let rooms: Vec<usize> = queue.spare.iter().map(Vec::capacity).collect();
                assert!(
                    rooms.iter().all(|room| *room == BLOCK),
                    "the room of a long line is not kept: {rooms:?}"
                );
            }
        }
    }

    #[test]
    fn the_lines_hold_the_limit_and_one_block_more() {
        let mut queue = LineQueue::default();
        while !queue.is_full_for(&line(1000)) {
            queue.push(&line(1000));
        }
        let in_hand = queue.take().unwrap();
        assert!(queue.is_full_for(&line(1000)), "what is being written counts");
        // Less than a line of each block is empty.
        assert!(queue.memory() + in_hand.capacity() <= MAX_QUEUE + MAX_QUEUE / 32 + BLOCK);
    }
}
