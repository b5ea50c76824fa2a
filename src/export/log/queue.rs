//! The lines that wait for the disk, in blocks.

use std::collections::VecDeque;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Bytes that may wait for the disk, with those that are being written, counted as if none were compressed. The rings
/// before the observer are the larger buffer.
pub(super) const MAX_QUEUE: usize = 4 << 20;
/// Room of a block of lines, in bytes. A longer line has a block of its own. Each write is of one block and counts as
/// progress of the disk. One block is kept while no lines come.
pub(super) const BLOCK: usize = 64 << 10;

#[derive(Default)]
pub(super) struct LineQueue {
    /// Whole lines. New ones go into the last block.
    blocks: VecDeque<LineBlock>,
    /// Bytes in `blocks`, counted as if none were compressed.
    pub(super) size: usize,
    /// Empty blocks, for the next lines. The memory of a new one would be touched page by page.
    pub(super) spare: Vec<Vec<u8>>,
    /// Compresses full blocks. It is there if the last write failed: the lines may then wait for long.
    packer: Option<Box<Packer>>,
    pub(super) closing: bool,
    /// Number of records that are being written now, and the bytes of their lines.
    in_hand: u64,
    size_in_hand: usize,
    /// True if the last line is written and no line will follow.
    pub(super) closed: bool,
    /// True if the deadline is over: the lines in hand have been counted as lost.
    pub(super) abandoned: bool,
}

/// Whole lines that are written together.
pub(super) struct LineBlock {
    content: BlockContent,
    /// Bytes of the lines, and number of the records among them.
    size: usize,
    records: u64,
}

enum BlockContent {
    Plain(Vec<u8>),
    /// The lines of a log are alike: compressed they take a fifth or less.
    Packed(Box<[u8]>),
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

    /// Adds the line of a record.
    pub(super) fn push(&mut self, line: &[u8]) {
        self.add(line, 1);
    }

    /// Adds a line that tells of lost records. Lost itself, it does not count as a record.
    pub(super) fn push_report(&mut self, line: &[u8]) {
        self.add(line, 0);
    }

    fn add(&mut self, line: &[u8], records: u64) {
        self.size += line.len();
        if let Some(last) = self.blocks.back_mut()
            && last.push(line, records)
        {
            return;
        }
        self.pack_last();
        let spare = self.spare.pop().filter(|_| line.len() <= BLOCK);
        let room = spare.unwrap_or_else(|| Vec::with_capacity(line.len().max(BLOCK)));
        let mut block = LineBlock { content: BlockContent::Plain(room), size: 0, records: 0 };
        block.push(line, records);
        self.blocks.push_back(block);
    }

    /// Takes the oldest block, to write it.
    pub(super) fn take(&mut self) -> Option<LineBlock> {
        let block = self.blocks.pop_front()?;
        self.size -= block.size;
        (self.size_in_hand, self.in_hand) = (block.size, block.records);
        Some(block)
    }

    /// Notes that the lines in hand are written or lost. Their room is kept for the next lines.
    pub(super) fn put_back(&mut self, room: Option<Vec<u8>>) {
        (self.in_hand, self.size_in_hand) = (0, 0);
        room.into_iter().for_each(|room| self.keep(room));
    }

    /// Begins or ends to compress full blocks.
    pub(super) fn set_packer(&mut self, packer: Option<Box<Packer>>) {
        if packer.is_some() {
            self.spare.truncate(1);
        }
        self.packer = packer;
    }

    pub(super) fn has_packer(&self) -> bool {
        self.packer.is_some()
    }

    /// Returns the number of records that are not written.
    pub(super) fn unwritten(&self) -> u64 {
        self.in_hand + self.blocks.iter().map(|block| block.records).sum::<u64>()
    }

    /// Compresses the last block, which is full. Each block is packed when the next one begins, so that no line waits for
    /// more than one.
    fn pack_last(&mut self) {
        if let Some(packer) = &mut self.packer
            && let Some(last) = self.blocks.back_mut()
            && let BlockContent::Plain(plain) = &last.content
            && let Some(packed) = packer.pack(plain)
            && let BlockContent::Plain(room) =
                std::mem::replace(&mut last.content, BlockContent::Packed(packed))
        {
            self.keep(room);
        }
    }

    /// Keeps the memory of a block for the next lines.
    fn keep(&mut self, mut room: Vec<u8>) {
        room.clear();
        let is_enough = self.packer.is_some() && !self.spare.is_empty();
        if room.capacity() <= BLOCK && !is_enough {
            self.spare.push(room);
        }
    }
}

impl LineBlock {
    /// Adds a line. Returns false if the block has no room for it.
    fn push(&mut self, line: &[u8], records: u64) -> bool {
        let BlockContent::Plain(lines) = &mut self.content else { return false };
        if !lines.is_empty() && lines.len() + line.len() > BLOCK {
            return false;
        }
        lines.extend_from_slice(line);
        self.size += line.len();
        self.records += records;
        true
    }

    /// Returns the number of records.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Returns the lines as they were pushed.
    pub(super) fn into_lines(self) -> Vec<u8> {
        let packed = match self.content {
            BlockContent::Plain(lines) => return lines,
            BlockContent::Packed(packed) => packed,
        };
        let mut lines = Vec::with_capacity(self.size.max(BLOCK));
        let read = Decompress::new(false).decompress_vec(&packed, &mut lines, FlushDecompress::Finish);
        assert!(matches!(read, Ok(Status::StreamEnd)), "what `Packer` compressed is complete");
        lines
    }
}

/// Compresses blocks, one after the other.
pub(super) struct Packer(Compress);

impl Packer {
    pub(super) fn new() -> Box<Packer> {
        Box::new(Packer(Compress::new(Compression::fast(), false)))
    }

    /// Returns the compressed lines, or `None` if they would not take less than half.
    fn pack(&mut self, lines: &[u8]) -> Option<Box<[u8]>> {
        self.0.reset();
        let mut packed = Vec::with_capacity(lines.len() / 2);
        let done = self.0.compress_vec(lines, &mut packed, FlushCompress::Finish);
        matches!(done, Ok(Status::StreamEnd)).then(|| packed.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl LineQueue {
        /// Returns the bytes that the blocks and the spare ones take.
        pub(crate) fn memory(&self) -> usize {
            let blocks = self.blocks.iter().map(|block| match &block.content {
                BlockContent::Plain(lines) => lines.capacity(),
                BlockContent::Packed(packed) => packed.len(),
            });
            blocks.chain(self.spare.iter().map(Vec::capacity)).sum()
        }

        fn packed(&self) -> usize {
            self.blocks.iter().filter(|block| matches!(block.content, BlockContent::Packed(_))).count()
        }
    }

    /// Returns a line of `length` bytes.
    fn line(length: usize) -> Vec<u8> {
        [vec![b'x'; length - 1], b"\n".to_vec()].concat()
    }

    /// Writes the oldest block. Returns its lines.
    fn write(queue: &mut LineQueue) -> Option<Vec<u8>> {
        let (left, block) = (queue.unwritten(), queue.take()?);
        assert_eq!(queue.unwritten(), left, "the lines in hand are not written yet");
        let count = block.records();
        let lines = block.into_lines();
        queue.put_back(Some(lines.clone()));
        assert_eq!(queue.unwritten(), left - count);
        Some(lines)
    }

    #[test]
    fn blocks_are_whole_lines_and_a_long_line_has_its_own() {
        for is_packed in [false, true] {
            for (lengths, blocks) in [
                (&[11, 11][..], &[22][..]),
                (&[11, BLOCK], &[11, BLOCK]),
                (&[BLOCK - 11, 11, 1], &[BLOCK, 1]),
                (&[11, BLOCK + 1, 11, 11], &[11, BLOCK + 1, 22]),
            ] {
                let mut queue = LineQueue::default();
                queue.set_packer(is_packed.then(Packer::new));
                lengths.iter().for_each(|length| queue.push(&line(*length)));
                assert_eq!((queue.unwritten(), queue.size), (lengths.len() as u64, lengths.iter().sum()));
                assert_eq!(queue.packed(), if is_packed { blocks.len() - 1 } else { 0 });
                let written: Vec<Vec<u8>> = std::iter::from_fn(|| write(&mut queue)).collect();
                assert_eq!(written.iter().map(Vec::len).collect::<Vec<_>>(), blocks);
                assert_eq!(
                    written.concat(),
                    lengths.iter().flat_map(|length| line(*length)).collect::<Vec<_>>()
                );
                assert_eq!((queue.unwritten(), queue.size), (0, 0));
                let rooms: Vec<usize> = queue.spare.iter().map(Vec::capacity).collect();
                assert!(
                    rooms.iter().all(|room| *room <= BLOCK),
                    "the room of a long line is not kept: {rooms:?}"
                );
            }
        }
    }

    #[test]
    fn the_lines_hold_the_limit_and_one_block_more() {
        let mut queue = LineQueue::default();
        // The blocks of an earlier burst are used again.
        for _ in 0..2 {
            while !queue.is_full_for(&line(1000)) {
                queue.push(&line(1000));
            }
            let in_hand = queue.take().unwrap();
            assert!(queue.is_full_for(&line(1000)), "what is being written counts");
            // Less than a line of each block is empty.
            assert!(queue.memory() + BLOCK <= MAX_QUEUE + MAX_QUEUE / 32 + BLOCK, "{}", queue.memory());
            queue.put_back(Some(in_hand.into_lines()));
            while write(&mut queue).is_some() {}
        }
    }

    #[test]
    fn what_cannot_be_compressed_stays_as_it_is() {
        let mut queue = LineQueue::default();
        queue.set_packer(Some(Packer::new()));
        let mut state = 1_u64;
        let random: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(BLOCK)
        .collect();
        queue.push(&random);
        queue.push(b"last\n");
        assert_eq!((queue.packed(), write(&mut queue)), (0, Some(random)));
    }

    #[test]
    fn a_disk_that_takes_lines_again_ends_the_compression() {
        let mut queue = LineQueue::default();
        queue.set_packer(Some(Packer::new()));
        (0..3).for_each(|_| queue.push(&line(BLOCK)));
        queue.set_packer(None);
        (0..3).for_each(|_| queue.push(&line(BLOCK)));
        assert_eq!(queue.packed(), 2);
    }
}
