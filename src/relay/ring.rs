//! The one-way door: a ring that a pump reads straight into, and that an observer looks at later.
//!
//! One producer (the pump), one consumer (whoever holds the observer), fixed size, no lock. The pump
//! reserves room, lets `read(2)` fill it, publishes it with one store and then writes the very same
//! bytes onward. What was published is visible to the observer before its answer can exist, because
//! the peer cannot answer what has not been written yet.
//!
//! The memory is cut into segments. The producer fills one after the other, and of those that the
//! consumer has left it takes the one left last: while the consumer keeps up, two segments do all the
//! work and stay in a core's cache; when it does not, all of them are there to be filled. Positions are
//! numbers of bytes since the start, as if the segments were one endless memory.
//!
//! Each entry is a header of 32 bytes with the bytes behind it, in one piece. A `NEXT` header says that
//! the segment ends here.

use std::io;
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

use crate::relay::chunk::{Chunk, Gap, Moment, Stream};
use crate::system::clock;

/// The most that one `read(2)` takes: a pipe's default size, and what fits into a core's cache.
pub const MAX_READ: usize = 64 << 10;
/// Room below which a read is not worth its header; the segment then counts as full. A model checker
/// walks every order of events, and needs segments that are full after a few bytes.
const MIN_READ: usize = if cfg!(loom) { 8 } else { 4 << 10 };
/// Two of the longest reads with their headers.
const SEGMENT: usize = if cfg!(loom) { 2 * HEADER + SPARE + 16 } else { 2 * MAX_READ + (4 << 10) };
const HEADER: usize = 32;
/// Room that must stay behind an entry for a `NEXT` or an `END`.
const SPARE: usize = 2 * HEADER;
/// When a burst is over and more than this is still waiting, segments are given back to the system as
/// they are left.
const KEEP: usize = 1 << 20;
/// How long nothing must have been read for a burst to count as over.
const QUIET: std::time::Duration = std::time::Duration::from_millis(2);
/// Buckets of the added-latency histogram: bucket `i` counts up to 2^i nanoseconds.
const BUCKETS: usize = 40;

#[derive(Clone, Copy)]
#[repr(C)]
struct Header {
    kind: u32,
    len: u32,
    read_at: u64,
    a: u64,
    b: u64,
}

const CHUNK: u32 = 1;
const GAP: u32 = 2;
const GAP_ENDING_LINE: u32 = 3;
const NEXT: u32 = 4;
const END: u32 = 5;

/// What both ends share.
pub struct Ring {
    stream: Stream,
    memory: *mut u8,
    /// Which piece of the memory the n-th segment is, at `n % places.len()`; written by the producer
    /// before it publishes anything in that segment.
    places: Box<[AtomicU32]>,
    /// The position where the next entry will be published; written by the producer.
    write: AtomicU64,
    /// The position where the oldest entry that is still needed begins; written by the consumer.
    read: AtomicU64,
    /// Entries published so far, stored after `write`; written by the producer.
    published: AtomicU64,
    /// Bytes of the stream so far, observed or not; written by the producer.
    bytes: AtomicU64,
    /// When `read(2)` last returned something, for the drain rule; written by the producer.
    last_read: AtomicU64,
    /// Bytes that have been passed on, of those; written by the producer.
    forwarded: AtomicU64,
    /// Written − read, by powers of two.
    latency: [AtomicU32; BUCKETS],
    /// What the observer has taken of them.
    latency_taken: [AtomicU32; BUCKETS],
    #[cfg(loom)]
    shadow: Shadow,
}

// SAFETY: the memory is touched by the producer in segments that the consumer has left and behind
// `write`, and by the consumer between `read` and `write` only; both positions are published with
// release stores and read with acquire loads.
unsafe impl Send for Ring {}
// SAFETY: as above; the types that touch the memory, `Producer` and `Consumer`, exist once each.
unsafe impl Sync for Ring {}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: `memory` is the mapping of this size that `pair` made, and nobody else has it now.
        unsafe { libc::munmap(self.memory.cast(), self.size()) };
    }
}

/// Makes a ring of about `size` bytes of address space, at least two segments; memory is used as it is
/// touched.
///
/// # Errors
/// When the system refuses the mapping.
pub fn pair(stream: Stream, size: usize) -> io::Result<(Producer, Consumer)> {
    let segments = (size / SEGMENT).max(2);
    // SAFETY: an anonymous private mapping at an address of the system's choice aliases nothing.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            segments * SEGMENT,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let ring = Arc::new(Ring {
        stream,
        memory: memory.cast(),
        places: (0..segments).map(|_| AtomicU32::new(0)).collect(),
        write: AtomicU64::new(0),
        read: AtomicU64::new(0),
        published: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        last_read: AtomicU64::new(0),
        forwarded: AtomicU64::new(0),
        latency: std::array::from_fn(|_| AtomicU32::new(0)),
        latency_taken: std::array::from_fn(|_| AtomicU32::new(0)),
        #[cfg(loom)]
        shadow: Shadow::new(segments * SEGMENT),
    });
    let producer = Producer {
        ring: Arc::clone(&ring),
        here: Place::default(),
        reserved: 0,
        free: Vec::with_capacity(segments),
        left: 0,
        untouched: 1,
        gap: None,
        scratch: Vec::new(),
    };
    Ok((producer, Consumer { ring, here: Place::default(), offset: 0, limit: 0, taken: 0 }))
}

impl Ring {
    pub fn stream(&self) -> Stream {
        self.stream
    }

    pub fn size(&self) -> usize {
        self.places.len() * SEGMENT
    }

    /// Bytes of the stream so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the stream that have been passed on to the other side.
    pub fn forwarded(&self) -> u64 {
        self.forwarded.load(Ordering::Acquire)
    }

    /// When something was last read.
    pub fn last_read(&self) -> Moment {
        Moment(self.last_read.load(Ordering::Relaxed))
    }

    /// About how many bytes wait for the observer.
    pub fn depth(&self) -> usize {
        let read = self.read.load(Ordering::Acquire);
        self.write.load(Ordering::Acquire).saturating_sub(read) as usize
    }

    /// Takes the added-latency counts since the last call: upper bound in nanoseconds, and count.
    pub fn take_latency(&self) -> Vec<(u64, u64)> {
        // The producer alone counts, and the observer alone remembers what it has taken: nothing is undone.
        let new = |(count, taken): (&AtomicU32, &AtomicU32)| {
            let count = count.load(Ordering::Relaxed);
            u64::from(count.wrapping_sub(taken.swap(count, Ordering::Relaxed)))
        };
        let buckets = self.latency.iter().zip(&self.latency_taken).map(new).enumerate();
        buckets.map(|(power, count)| (1 << power, count)).filter(|(_, count)| *count > 0).collect()
    }

    /// Where the n-th segment says that it lies.
    fn place(&self, segment: u64) -> &AtomicU32 {
        &self.places[(segment % self.places.len() as u64) as usize]
    }

    /// Tells the model checker that the producer fills these bytes; the memory itself it cannot see.
    fn fills(&self, _bytes: Range<usize>) {
        #[cfg(loom)]
        self.shadow.fills(_bytes);
    }

    /// Tells the model checker that the consumer reads these bytes.
    fn reads(&self, _bytes: Range<usize>) {
        #[cfg(loom)]
        self.shadow.reads(_bytes);
    }

    fn put(&self, at: usize, header: Header) {
        debug_assert!(at + HEADER <= self.size() && at.is_multiple_of(8));
        self.fills(at..at + HEADER);
        // SAFETY: `at` is within the mapping with room for a header, aligned to 8, and outside what the
        // consumer may look at until `write` is stored.
        unsafe { self.memory.add(at).cast::<Header>().write(header) };
    }

    fn header(&self, at: usize) -> Header {
        debug_assert!(at + HEADER <= self.size() && at.is_multiple_of(8));
        self.reads(at..at + HEADER);
        // SAFETY: the consumer reads only below the published `write`, where the producer has put one.
        unsafe { self.memory.add(at).cast::<Header>().read() }
    }
}

/// Where one end is: in which segment, where that lies, and how far into it.
#[derive(Clone, Copy, Default)]
struct Place {
    segment: u64,
    /// Number of its piece of the memory.
    piece: u32,
    at: usize,
}

impl Place {
    fn position(self) -> u64 {
        self.segment * SEGMENT as u64 + self.at as u64
    }

    /// Bytes from the start of the memory.
    fn address(self) -> usize {
        self.piece as usize * SEGMENT + self.at
    }

    /// Entries begin at multiples of eight.
    fn step(&mut self, bytes: usize) {
        self.at = (self.at + bytes).next_multiple_of(8);
    }
}

/// Bytes lost since the ring was last able to take some.
#[derive(Clone, Copy)]
struct Shed {
    bytes: u64,
    newlines: u64,
    ends_line: bool,
}

/// Where the next `read(2)` goes.
pub enum Room {
    /// Into the ring: the bytes will be observed.
    Ring(usize),
    /// Into a buffer of the pump's own: the bytes will be counted only.
    Full,
}

/// The pump's end.
pub struct Producer {
    ring: Arc<Ring>,
    /// Where the next entry goes.
    here: Place,
    /// Bytes behind its header that the consumer has left to us; 0 where nothing was reserved since the
    /// last entry.
    reserved: usize,
    /// Pieces of the memory that the consumer has left, the last one on top.
    free: Vec<u32>,
    /// Segments before this one have been left, and their pieces are in `free` or in use again.
    left: u64,
    /// Pieces from this one on have never been used.
    untouched: u32,
    gap: Option<Shed>,
    scratch: Vec<u8>,
}

impl Producer {
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// How full the ring is, in quarters.
    pub fn quarters(&self) -> usize {
        self.ring.depth() * 4 / self.ring.size()
    }

    /// Finds room for a read, as much as there is in one piece up to [`MAX_READ`].
    pub fn reserve(&mut self) -> Room {
        let room = |place: Place| SEGMENT.saturating_sub(place.at + HEADER + SPARE);
        if room(self.here) < MIN_READ && !self.next_segment() {
            self.reserved = 0;
            return Room::Full;
        }
        self.reserved = room(self.here).min(MAX_READ);
        Room::Ring(self.reserved)
    }

    /// Begins another segment; `false` if the consumer still needs all of them.
    fn next_segment(&mut self) -> bool {
        let needed = self.ring.read.load(Ordering::Acquire) / SEGMENT as u64;
        while self.left < needed {
            self.free.push(self.ring.place(self.left).load(Ordering::Relaxed));
            self.left += 1;
        }
        let piece = match self.free.pop() {
            Some(piece) => piece,
            None if (self.untouched as usize) < self.ring.places.len() => {
                self.untouched += 1;
                self.untouched - 1
            }
            None => return false,
        };
        self.ring.put(self.here.address(), Header { kind: NEXT, len: 0, read_at: 0, a: 0, b: 0 });
        self.here = Place { segment: self.here.segment + 1, piece, at: 0 };
        self.ring.place(self.here.segment).store(piece, Ordering::Relaxed);
        self.ring.write.store(self.here.position(), Ordering::Release);
        true
    }

    /// The place that `room` named, for `read(2)` to fill.
    pub fn buffer(&mut self, room: &Room) -> &mut [u8] {
        match *room {
            Room::Ring(_) => {
                let (start, len) = (self.here.address() + HEADER, self.reserved);
                self.ring.fills(start..start + len);
                // SAFETY: `reserve` checked that these bytes lie within a segment of ours, behind what
                // the consumer may look at; the exclusive borrow of `self` keeps them ours.
                unsafe { std::slice::from_raw_parts_mut(self.ring.memory.add(start), len) }
            }
            Room::Full => {
                self.scratch.resize(MAX_READ, 0);
                &mut self.scratch
            }
        }
    }

    /// Publishes the first `len` bytes of the buffer, read at `read_at`, and returns them for writing.
    pub fn publish(&mut self, room: &Room, len: usize, read_at: Moment) -> &[u8] {
        self.ring.last_read.store(read_at.0, Ordering::Relaxed);
        self.ring.bytes.store(self.ring.bytes.load(Ordering::Relaxed) + len as u64, Ordering::Relaxed);
        match room {
            Room::Ring(_) => {
                assert!(len <= self.reserved, "more was read than there was room for");
                self.reserved = 0;
                let start = self.here.address() + HEADER;
                // What was lost before these bytes stands in the same header.
                let header = match self.gap.take() {
                    None => Header { kind: CHUNK, len: len as u32, read_at: read_at.0, a: 0, b: 0 },
                    Some(shed) => {
                        let kind = if shed.ends_line { GAP_ENDING_LINE } else { GAP };
                        Header { kind, len: len as u32, read_at: read_at.0, a: shed.bytes, b: shed.newlines }
                    }
                };
                self.advance(header, HEADER + len);
                // SAFETY: the bytes were just read into the mapping; the consumer only reads them, and
                // this producer does not touch them again before it has reserved anew.
                unsafe { std::slice::from_raw_parts(self.ring.memory.add(start), len) }
            }
            Room::Full => {
                let bytes = &self.scratch[..len];
                let newlines = memchr::memchr_iter(b'\n', bytes).count() as u64;
                let shed = self.gap.get_or_insert(Shed { bytes: 0, newlines: 0, ends_line: false });
                shed.bytes += len as u64;
                shed.newlines += newlines;
                shed.ends_line = bytes.last() == Some(&b'\n');
                bytes
            }
        }
    }

    fn advance(&mut self, header: Header, size: usize) {
        self.ring.put(self.here.address(), header);
        self.here.step(size);
        self.ring.write.store(self.here.position(), Ordering::Release);
        self.ring.published.store(self.ring.published.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// The published bytes have been written: counts what that took.
    pub fn written(&self, read_at: Moment, written_at: Moment) {
        let nanos = written_at.0.saturating_sub(read_at.0);
        let power = (64 - nanos.leading_zeros()) as usize;
        let bucket = &self.ring.latency[power.min(BUCKETS - 1)];
        bucket.store(bucket.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        self.ring.forwarded.store(self.ring.bytes.load(Ordering::Relaxed), Ordering::Release);
    }

    /// The stream has ended.
    pub fn end(&mut self, at: Moment) {
        let (kind, a, b) = match self.gap.take() {
            Some(shed) if shed.ends_line => (END, shed.bytes << 1 | 1, shed.newlines),
            Some(shed) => (END, shed.bytes << 1, shed.newlines),
            None => (END, 0, 0),
        };
        // SPARE keeps room for this header behind every entry.
        self.advance(Header { kind, len: 0, read_at: at.0, a, b }, HEADER);
    }
}

/// One thing that a stream did.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    Chunk(Chunk<'a>),
    Gap(Gap),
    End(Moment),
}

/// The observer's end.
pub struct Consumer {
    ring: Arc<Ring>,
    /// Where the next entry is.
    here: Place,
    /// Bytes of the stream before the next entry.
    offset: u64,
    /// The snapshot of `write` up to which may be read.
    limit: u64,
    /// Entries taken so far.
    taken: u64,
}

impl Consumer {
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Looks how far the producer is; [`Consumer::peek`] goes up to here. Returns a mark for
    /// [`Consumer::is_before`].
    pub fn snapshot(&mut self) -> u64 {
        let mark = self.ring.published.load(Ordering::Acquire);
        self.limit = self.ring.write.load(Ordering::Acquire);
        mark
    }

    /// Whether the next entry was already published when `mark` was taken.
    pub fn is_before(&self, mark: u64) -> bool {
        self.taken < mark
    }

    /// When the next entry was read, if there is one.
    pub fn peek(&mut self) -> Option<Moment> {
        self.next_entry().map(|header| Moment(header.read_at))
    }

    fn next_entry(&mut self) -> Option<Header> {
        loop {
            if self.here.position() == self.limit {
                return None;
            }
            let header = self.ring.header(self.here.address());
            if header.kind != NEXT {
                return Some(header);
            }
            self.leave_segment();
        }
    }

    fn leave_segment(&mut self) {
        let burst_is_over = || clock::now().since(self.ring.last_read()) >= QUIET;
        if self.ring.depth() > KEEP && burst_is_over() {
            // SAFETY: the segment lies within the mapping and is the consumer's until `read` has passed it.
            unsafe {
                let start = self.ring.memory.add(self.here.piece as usize * SEGMENT);
                libc::madvise(start.cast(), SEGMENT, libc::MADV_DONTNEED);
            }
        }
        let segment = self.here.segment + 1;
        self.here = Place { segment, piece: self.ring.place(segment).load(Ordering::Relaxed), at: 0 };
        self.ring.read.store(self.here.position(), Ordering::Release);
    }

    /// Hands the next entry to `each`, in order: a gap before the bytes that follow it.
    pub fn take(&mut self, mut each: impl FnMut(Item<'_>)) {
        let Some(Header { kind, len, read_at, a, b }) = self.next_entry() else { return };
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
            return self.is_done_with(HEADER);
        }
        if kind == GAP || kind == GAP_ENDING_LINE {
            gap(&mut self.offset, a, kind == GAP_ENDING_LINE, &mut each);
        }
        let (start, len) = (self.here.address() + HEADER, len as usize);
        self.ring.reads(start..start + len);
        // SAFETY: the header was published together with `len` bytes behind it, which the producer
        // leaves alone until `read` has passed them.
        let bytes = unsafe { std::slice::from_raw_parts(self.ring.memory.add(start), len) };
        each(Item::Chunk(Chunk { stream, offset: self.offset, read_at, bytes }));
        self.offset += len as u64;
        self.is_done_with(HEADER + len);
    }

    fn is_done_with(&mut self, bytes: usize) {
        self.taken += 1;
        self.here.step(bytes);
        self.ring.read.store(self.here.position(), Ordering::Release);
    }
}

/// What the model checker sees in place of the memory: cells of which it knows who may touch them when.
#[cfg(loom)]
struct Shadow(Vec<loom::cell::UnsafeCell<()>>);

#[cfg(loom)]
impl Shadow {
    const CELL: usize = 8;

    fn new(size: usize) -> Shadow {
        Shadow((0..size.div_ceil(Self::CELL)).map(|_| loom::cell::UnsafeCell::new(())).collect())
    }

    fn cells(&self, bytes: Range<usize>) -> &[loom::cell::UnsafeCell<()>] {
        &self.0[bytes.start / Self::CELL..bytes.end.div_ceil(Self::CELL)]
    }

    fn fills(&self, bytes: Range<usize>) {
        self.cells(bytes).iter().for_each(|cell| cell.with_mut(|_| ()));
    }

    fn reads(&self, bytes: Range<usize>) {
        self.cells(bytes).iter().for_each(|cell| cell.with(|_| ()));
    }
}

#[cfg(all(test, not(loom)))]
#[path = "ring/tests.rs"]
mod tests;
