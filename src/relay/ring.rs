//! The ring: a pump reads straight into it, and the observer reads it later.
//!
//! It has one producer (the pump), one consumer (the observer, on one thread at a time), a fixed size and no
//! lock. The pump reserves room, lets `read(2)` fill it, publishes it with one store and then writes the
//! same bytes onward. The observer sees a request before its answer can exist, because the pump publishes
//! the request before it writes it to the peer.
//!
//! The memory is divided into segments. The producer fills one after the other and reuses the segment that
//! the consumer left last. While the consumer keeps up, two segments do all the work and stay in a core's
//! cache. When it does not, the producer can fill all of them. Positions are numbers of bytes since the
//! start, as if the segments were one endless memory.
//!
//! Each entry is a header of 16 bytes, of 32 if something was lost before it or if it has a mark, followed by its
//! bytes in one piece. A `NEXT` header marks the end of a segment.
//!
//! The ring is written by hand because a channel costs three to four times the relay itself: it wakes the
//! observer for each chunk. `cargo bench` measures the relay against two plain copies.

use std::io;
use std::num::NonZeroU64;
use std::ops::Range;

#[cfg(loom)]
use loom::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};
#[cfg(not(loom))]
use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use crate::relay::chunk::{Chunk, Gap, LineMark, Moment, Stream};
use crate::system::clock;
use crate::system::mapping::Mapping;

/// The most that one `read(2)` takes: a pipe's default size, and what fits into a core's cache.
pub const MAX_READ: usize = 64 << 10;
/// A segment with less room than this counts as full, because a smaller read is not worth its header. The
/// model checker walks every order of events, so its segments must be full after a few bytes.
const MIN_READ: usize = if cfg!(loom) { 8 } else { 4 << 10 };
/// Two of the longest reads with their headers.
const SEGMENT: usize = if cfg!(loom) { 2 * LONG_HEADER + SPARE + 16 } else { 2 * MAX_READ + (4 << 10) };
const HEADER: usize = size_of::<Header>();
/// A header with its [`Numbers`].
const LONG_HEADER: usize = HEADER + size_of::<Numbers>();
/// Room that must stay after an entry for a `NEXT` or an `END` header.
const SPARE: usize = 2 * LONG_HEADER;
/// When a burst is over and more than this still waits, the consumer gives each segment that it leaves back
/// to the system.
const KEPT_AFTER_BURST: usize = 1 << 20;
/// A burst is over once the pump has read nothing for this long.
const QUIET: std::time::Duration = std::time::Duration::from_millis(2);
/// Buckets of the added-latency histogram: bucket `i` counts up to 2^i nanoseconds.
const BUCKETS: usize = 40;

#[derive(Clone, Copy)]
#[repr(C)]
struct Header {
    kind: u32,
    len: u32,
    read_at: u64,
}

/// Two numbers that follow the header of all entries but `CHUNK` and `NEXT`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Numbers {
    /// Of a marked chunk: span of its mark. Of a gap: lost bytes.
    a: u64,
    /// Of a marked chunk: trace of its mark. Of a gap: lost newlines.
    b: u64,
}

const CHUNK: u32 = 1;
const MARKED: u32 = 2;
const GAP: u32 = 3;
const GAP_ENDING_LINE: u32 = 4;
const NEXT: u32 = 5;
const END: u32 = 6;

/// State that the two ends share.
pub struct Ring {
    stream: Stream,
    memory: Mapping,
    /// Piece of the memory that holds the n-th segment, at `n % segments.len()`. The producer writes it before
    /// it publishes anything in that segment.
    segments: Box<[AtomicU32]>,
    /// Position of the next entry to be published. The producer writes it.
    write: AtomicU64,
    /// Position of the oldest entry that the consumer still needs. The consumer writes it.
    read: AtomicU64,
    /// Number of entries published, stored after `write`. The producer writes it.
    published: AtomicU64,
    /// Bytes read from the stream, observed or not. The producer writes it.
    bytes: AtomicU64,
    /// Time of the last read that returned bytes, for the drain rule. The producer writes it.
    last_read: AtomicU64,
    /// Bytes of the stream that have been written onward. The producer writes it.
    forwarded: AtomicU64,
    /// Bytes of the stream that the consumer has taken, or was told about. The consumer writes it.
    taken: AtomicU64,
    /// Time from read to written, counted by powers of two. The producer writes it.
    latency: [AtomicU32; BUCKETS],
    /// Counts of `latency` that the observer has already taken.
    latency_taken: [AtomicU32; BUCKETS],
    #[cfg(loom)]
    shadow: shadow::Shadow,
}

/// Makes a ring of about `size` bytes of address space, at least two segments. Memory is used as it is
/// touched.
pub fn pair(stream: Stream, size: usize) -> io::Result<(Producer, Consumer)> {
    let count = (size / SEGMENT).max(2);
    // The bytes that are read while the ring is full come after the segments.
    let memory = Mapping::reserve(count * SEGMENT + MAX_READ)?;
    if !(memory.take(0..SEGMENT) && memory.take(count * SEGMENT..count * SEGMENT + MAX_READ)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let ring = Arc::new(Ring {
        stream,
        memory,
        segments: (0..count).map(|_| AtomicU32::new(0)).collect(),
        write: AtomicU64::new(0),
        read: AtomicU64::new(0),
        published: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        last_read: AtomicU64::new(0),
        forwarded: AtomicU64::new(0),
        taken: AtomicU64::new(0),
        latency: std::array::from_fn(|_| AtomicU32::new(0)),
        latency_taken: std::array::from_fn(|_| AtomicU32::new(0)),
        #[cfg(loom)]
        shadow: shadow::Shadow::new(count * SEGMENT),
    });
    let producer = Producer {
        ring: Arc::clone(&ring),
        here: Cursor::default(),
        header: HEADER,
        reserved: 0,
        free: Vec::with_capacity(count),
        left: 0,
        untouched: 1,
        gap: None,
    };
    Ok((producer, Consumer { ring, here: Cursor::default(), offset: 0, limit: 0, taken: 0 }))
}

impl Ring {
    pub fn stream(&self) -> Stream {
        self.stream
    }

    pub fn size(&self) -> usize {
        self.segments.len() * SEGMENT
    }

    /// Bytes read from the stream.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the stream that have been written to the other side.
    pub fn forwarded(&self) -> u64 {
        self.forwarded.load(Ordering::Acquire)
    }

    /// Bytes of the stream that the observer has not taken.
    pub fn not_taken(&self) -> u64 {
        self.bytes().saturating_sub(self.taken.load(Ordering::Relaxed))
    }

    /// Time of the last read that returned bytes.
    pub fn last_read(&self) -> Moment {
        Moment(self.last_read.load(Ordering::Relaxed))
    }

    /// Approximate number of bytes that wait for the observer.
    pub fn depth(&self) -> usize {
        let read = self.read.load(Ordering::Acquire);
        self.write.load(Ordering::Acquire).saturating_sub(read) as usize
    }

    /// Takes the added-latency counts since the last call: upper bound in nanoseconds, and count.
    pub fn take_latency(&self) -> Vec<(u64, u64)> {
        // The producer alone counts, and the observer alone records what it has taken, so no count is lost.
        let new = |(count, taken): (&AtomicU32, &AtomicU32)| {
            let count = count.load(Ordering::Relaxed);
            u64::from(count.wrapping_sub(taken.swap(count, Ordering::Relaxed)))
        };
        let buckets = self.latency.iter().zip(&self.latency_taken).map(new).enumerate();
        buckets.map(|(power, count)| (1 << power, count)).filter(|(_, count)| *count > 0).collect()
    }

    /// Piece of the memory that holds the n-th segment.
    fn piece_of(&self, segment: u64) -> &AtomicU32 {
        &self.segments[(segment % self.segments.len() as u64) as usize]
    }

    /// Reports to the model checker, which cannot see the memory, that the producer fills these bytes.
    fn fills(&self, _bytes: Range<usize>) {
        #[cfg(loom)]
        self.shadow.fills(_bytes);
    }

    /// Reports to the model checker that the consumer reads these bytes.
    fn reads(&self, _bytes: Range<usize>) {
        #[cfg(loom)]
        self.shadow.reads(_bytes);
    }

    /// Puts a [`Header`] or [`Numbers`] at an offset in the memory.
    fn put<T: Copy>(&self, at: usize, value: T) {
        debug_assert!(at + size_of::<T>() <= self.size() && at.is_multiple_of(8));
        self.fills(at..at + size_of::<T>());
        // SAFETY: `at` is within the mapping with room for a long header, aligned to 8, and outside what the
        // consumer may read until `write` is stored.
        unsafe { self.memory.start().add(at).cast::<T>().write(value) };
    }

    /// Returns the [`Header`] or the [`Numbers`] that the producer has put there.
    fn get<T: Copy>(&self, at: usize) -> T {
        debug_assert!(at + size_of::<T>() <= self.size() && at.is_multiple_of(8));
        self.reads(at..at + size_of::<T>());
        // SAFETY: the consumer reads only below the published `write`, where the producer has put this value.
        unsafe { self.memory.start().add(at).cast::<T>().read() }
    }
}

/// Position of one end: its segment, the segment's piece of the memory, and the offset in it.
#[derive(Clone, Copy, Default)]
struct Cursor {
    segment: u64,
    /// Number of the piece of the memory that holds the segment.
    piece: u32,
    at: usize,
}

impl Cursor {
    fn position(self) -> u64 {
        self.segment * SEGMENT as u64 + self.at as u64
    }

    /// Returns the offset from the start of the memory.
    fn address(self) -> usize {
        self.piece as usize * SEGMENT + self.at
    }

    /// Moves on by `bytes`, up to a multiple of eight, where the next entry begins.
    fn step(&mut self, bytes: usize) {
        self.at = (self.at + bytes).next_multiple_of(8);
    }
}

/// Bytes that were not observed since the ring last had room.
#[derive(Clone, Copy)]
struct LostBytes {
    bytes: u64,
    newlines: u64,
    ends_line: bool,
}

/// Target of the next `read(2)`.
pub enum Room {
    /// The ring: the bytes will be observed.
    Ring,
    /// The pump's own buffer: the bytes will be counted only.
    Full,
}

/// The pump's end. The methods that a pump calls for each read are inlined, so that each of the two pumps is one
/// function without calls.
pub struct Producer {
    ring: Arc<Ring>,
    /// Position of the next entry.
    here: Cursor,
    /// Bytes of the header of the next entry.
    header: usize,
    /// Bytes after the header that are reserved for the next read; 0 if nothing was reserved since the last
    /// entry.
    reserved: usize,
    /// Pieces of the memory that the consumer has left, the latest on top.
    free: Vec<u32>,
    /// First segment that the consumer has not left. The pieces of earlier segments are in `free` or in use
    /// again.
    left: u64,
    /// First piece that has never been used.
    untouched: u32,
    gap: Option<LostBytes>,
}

impl Producer {
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Returns the fill level of the ring in quarters.
    pub fn quarters(&self) -> usize {
        self.ring.depth() * 4 / self.ring.size()
    }

    /// Reserves room for a read, in one piece of up to [`MAX_READ`] bytes.
    #[inline(always)]
    pub fn reserve(&mut self) -> Room {
        self.header = if self.gap.is_some() { LONG_HEADER } else { HEADER };
        let room = |here: Cursor| SEGMENT.saturating_sub(here.at + LONG_HEADER + SPARE);
        if room(self.here) < MIN_READ && !self.next_segment() {
            self.reserved = 0;
            return Room::Full;
        }
        self.reserved = room(self.here).min(MAX_READ);
        Room::Ring
    }

    /// Begins another segment. Returns `false` if the consumer still needs all of them, or if the system has no memory
    /// for one.
    fn next_segment(&mut self) -> bool {
        let needed = self.ring.read.load(Ordering::Acquire) / SEGMENT as u64;
        while self.left < needed {
            self.free.push(self.ring.piece_of(self.left).load(Ordering::Relaxed));
            self.left += 1;
        }
        let piece = match self.free.pop() {
            Some(piece) => piece,
            None if (self.untouched as usize) < self.ring.segments.len() => {
                self.untouched += 1;
                self.untouched - 1
            }
            None => return false,
        };
        let start = piece as usize * SEGMENT;
        if !self.ring.memory.take(start..start + SEGMENT) {
            self.free.push(piece);
            return false;
        }
        self.ring.put(self.here.address(), Header { kind: NEXT, len: 0, read_at: 0 });
        self.here = Cursor { segment: self.here.segment + 1, piece, at: 0 };
        self.ring.piece_of(self.here.segment).store(piece, Ordering::Relaxed);
        self.ring.write.store(self.here.position(), Ordering::Release);
        true
    }

    /// Returns the buffer of `room`, for `read(2)` to fill.
    #[inline(always)]
    pub fn buffer(&mut self, room: &Room) -> &mut [u8] {
        match *room {
            Room::Ring => {
                let (start, len) = (self.here.address() + self.header, self.reserved);
                self.ring.fills(start..start + len);
                // SAFETY: `reserve` checked that these bytes are within a segment of the producer, beyond what
                // the consumer may read. `self` is borrowed exclusively, so no other slice of them exists.
                unsafe { std::slice::from_raw_parts_mut(self.ring.memory.start().add(start), len) }
            }
            Room::Full => {
                let start = self.ring.size();
                // SAFETY: the spare buffer of `MAX_READ` bytes is within the mapping, after the segments, and only
                // the producer uses it. `self` is borrowed exclusively, so no other slice of it exists.
                unsafe { std::slice::from_raw_parts_mut(self.ring.memory.start().add(start), MAX_READ) }
            }
        }
    }

    /// Publishes the first `len` bytes of the buffer, read at `read_at`, and returns them for writing.
    #[inline(always)]
    pub fn publish(&mut self, room: &Room, len: usize, read_at: Moment) -> &[u8] {
        self.ring.last_read.store(read_at.0, Ordering::Relaxed);
        self.ring.bytes.store(self.ring.bytes.load(Ordering::Relaxed) + len as u64, Ordering::Relaxed);
        match room {
            Room::Ring => {
                assert!(len <= self.reserved, "more was read than there was room for");
                self.reserved = 0;
                let start = self.here.address() + self.header;
                // The same header counts the bytes that were lost before these.
                let (kind, numbers) = match self.gap.take() {
                    None => (CHUNK, None),
                    Some(lost) => {
                        let kind = if lost.ends_line { GAP_ENDING_LINE } else { GAP };
                        (kind, Some(Numbers { a: lost.bytes, b: lost.newlines }))
                    }
                };
                self.advance(Header { kind, len: len as u32, read_at: read_at.0 }, numbers);
                // SAFETY: the bytes were just read into the mapping. The consumer only reads them, and this
                // producer does not touch them again before its next reservation.
                unsafe { std::slice::from_raw_parts(self.ring.memory.start().add(start), len) }
            }
            Room::Full => {
                assert!(len <= MAX_READ, "more was read than there was room for");
                let start = self.ring.size();
                // SAFETY: as in `buffer`. The bytes are read only until the next reservation.
                let bytes = unsafe { std::slice::from_raw_parts(self.ring.memory.start().add(start), len) };
                let newlines = memchr::memchr_iter(b'\n', bytes).count() as u64;
                let lost = self.gap.get_or_insert(LostBytes { bytes: 0, newlines: 0, ends_line: false });
                lost.bytes += len as u64;
                lost.newlines += newlines;
                lost.ends_line = bytes.last() == Some(&b'\n');
                bytes
            }
        }
    }

    /// Publishes a copy of `bytes`, as much as there is room for, with the mark of their line. Returns the number of
    /// bytes.
    pub fn publish_copy(
        &mut self,
        mut room: Room,
        bytes: &[u8],
        mark: Option<LineMark>,
        read_at: Moment,
    ) -> usize {
        if mark.is_some() && self.gap.is_some() && matches!(room, Room::Ring) {
            // A header has room for a mark or for the lost bytes.
            self.publish(&room, 0, read_at);
            room = self.reserve();
        }
        let mark = mark.filter(|_| matches!(room, Room::Ring));
        if mark.is_some() {
            self.header = LONG_HEADER;
        }
        let buffer = self.buffer(&room);
        let len = bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        match mark {
            Some(LineMark { span, trace }) => {
                self.ring.last_read.store(read_at.0, Ordering::Relaxed);
                let read = self.ring.bytes.load(Ordering::Relaxed) + len as u64;
                self.ring.bytes.store(read, Ordering::Relaxed);
                self.reserved = 0;
                let header = Header { kind: MARKED, len: len as u32, read_at: read_at.0 };
                self.advance(header, Some(Numbers { a: span.get(), b: trace }));
            }
            None => {
                self.publish(&room, len, read_at);
            }
        }
        len
    }

    #[inline(always)]
    fn advance(&mut self, header: Header, numbers: Option<Numbers>) {
        let at = self.here.address();
        self.ring.put(at, header);
        let header_size = match numbers {
            Some(numbers) => {
                self.ring.put(at + HEADER, numbers);
                LONG_HEADER
            }
            None => HEADER,
        };
        self.here.step(header_size + header.len as usize);
        self.ring.write.store(self.here.position(), Ordering::Release);
        self.ring.published.store(self.ring.published.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// Counts the published bytes as written, and the time that this took.
    #[inline(always)]
    pub fn written(&self, read_at: Moment, written_at: Moment) {
        let nanos = written_at.0.saturating_sub(read_at.0);
        let power = (64 - nanos.leading_zeros()) as usize;
        let bucket = &self.ring.latency[power.min(BUCKETS - 1)];
        bucket.store(bucket.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        self.ring.forwarded.store(self.ring.bytes.load(Ordering::Relaxed), Ordering::Release);
    }

    /// Publishes the end of the stream.
    pub fn end(&mut self, at: Moment) {
        let (a, b) = match self.gap.take() {
            Some(lost) => (lost.bytes << 1 | u64::from(lost.ends_line), lost.newlines),
            None => (0, 0),
        };
        // SPARE keeps room for this header after every entry.
        self.advance(Header { kind: END, len: 0, read_at: at.0 }, Some(Numbers { a, b }));
    }
}

/// One entry of the ring.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    Chunk(Chunk<'a>),
    Gap(Gap),
    End(Moment),
}

/// The observer's end.
pub struct Consumer {
    ring: Arc<Ring>,
    /// Position of the next entry.
    here: Cursor,
    /// Bytes of the stream before the next entry.
    offset: u64,
    /// Snapshot of `write`. The consumer reads up to this position.
    limit: u64,
    /// Entries taken so far.
    taken: u64,
}

impl Consumer {
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Takes a snapshot of the producer's position, up to which [`Consumer::peek`] reads. Returns a mark for
    /// [`Consumer::is_before`].
    pub fn snapshot(&mut self) -> u64 {
        let mark = self.ring.published.load(Ordering::Acquire);
        self.limit = self.ring.write.load(Ordering::Acquire);
        mark
    }

    /// Returns true if the next entry was already published when `mark` was taken.
    pub fn is_before(&self, mark: u64) -> bool {
        self.taken < mark
    }

    /// Returns the time at which the next entry was read, if there is one.
    pub fn peek(&mut self) -> Option<Moment> {
        self.next_entry().map(|header| Moment(header.read_at))
    }

    fn next_entry(&mut self) -> Option<Header> {
        loop {
            if self.here.position() == self.limit {
                return None;
            }
            let header: Header = self.ring.get(self.here.address());
            if header.kind != NEXT {
                return Some(header);
            }
            self.leave_segment();
        }
    }

    fn leave_segment(&mut self) {
        let burst_is_over = || clock::now().since(self.ring.last_read()) >= QUIET;
        if self.ring.depth() > KEPT_AFTER_BURST && burst_is_over() {
            // The segment is the consumer's until `read` has passed it.
            let start = self.here.piece as usize * SEGMENT;
            self.ring.memory.give_back(start..start + SEGMENT);
        }
        let segment = self.here.segment + 1;
        self.here = Cursor { segment, piece: self.ring.piece_of(segment).load(Ordering::Relaxed), at: 0 };
        self.ring.read.store(self.here.position(), Ordering::Release);
    }

    /// Passes the next entry to `each`: a gap comes before the bytes that follow it.
    pub fn take(&mut self, mut each: impl FnMut(Item<'_>)) {
        let Some(Header { kind, len, read_at }) = self.next_entry() else { return };
        let at = self.here.address();
        let (header, Numbers { a, b }) = match kind {
            CHUNK => (HEADER, Numbers { a: 0, b: 0 }),
            _ => (LONG_HEADER, self.ring.get(at + HEADER)),
        };
        let read_at = Moment(read_at);
        let stream = self.ring.stream;
        let gap = |offset: &mut u64, bytes: u64, ends_line: bool, each: &mut dyn FnMut(Item<'_>)| {
            each(Item::Gap(Gap { stream, offset: *offset, bytes, newlines: b, ends_line, read_at }));
            *offset += bytes;
        };
        if kind == END {
            if a > 1 {
                gap(&mut self.offset, a >> 1, a & 1 == 1, &mut each);
            }
            each(Item::End(read_at));
            return self.is_done_with(header);
        }
        if kind == GAP || kind == GAP_ENDING_LINE {
            gap(&mut self.offset, a, kind == GAP_ENDING_LINE, &mut each);
        }
        let (start, len) = (at + header, len as usize);
        self.ring.reads(start..start + len);
        // SAFETY: the header was published together with the `len` bytes after it. The producer does not touch
        // them until `read` has passed them.
        let bytes = unsafe { std::slice::from_raw_parts(self.ring.memory.start().add(start), len) };
        let span = NonZeroU64::new(a).filter(|_| kind == MARKED);
        let mark = span.map(|span| LineMark { span, trace: b });
        each(Item::Chunk(Chunk { stream, offset: self.offset, read_at, bytes, mark }));
        self.offset += len as u64;
        self.is_done_with(header + len);
    }

    fn is_done_with(&mut self, bytes: usize) {
        self.taken += 1;
        self.ring.taken.store(self.offset, Ordering::Relaxed);
        self.here.step(bytes);
        self.ring.read.store(self.here.position(), Ordering::Release);
    }
}

#[cfg(loom)]
#[path = "ring/shadow.rs"]
mod shadow;

#[cfg(all(test, not(loom)))]
#[path = "ring/tests.rs"]
mod tests;
