//! A pump: one thread that copies one stream.
//!
//! The loop is `read`, clock, publish, `write`, clock. Publishing is a store to memory and comes before the
//! `write`, so that the observer sees a request before its answer can exist. Between a `write` and the next
//! `read` the pump makes no system call, takes no lock, allocates nothing and wakes no thread, because a peer
//! that the write just woke often waits for this core. The exception is a ring that fills up: the pump then wakes
//! the catch-up thread.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::Thread;

use crate::relay::chunk::Moment;
use crate::relay::ring::{Producer, Room};
use crate::system::descriptor::{OwnedDescriptor, RawDescriptor};
use crate::system::mutex::lock;
use crate::system::thread::{self, Duty};
use crate::system::{allocator, clock, descriptor, messages, signals, stdio};

/// Action of the pump when the ring has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Forwards the bytes unobserved and counts them.
    Lose,
    /// Waits until the observer has caught up.
    Wait,
}

/// State that a pump shares with the main thread.
pub struct PumpState {
    /// The stream has ended, in order or by an error.
    ended: AtomicBool,
    /// Time at which the pump read the end, in nanoseconds of the steady clock. It is set before the other side
    /// can see the end. It stays `NOT_YET` if a write failed.
    pub(super) end_read_at: AtomicU64,
    when_full: AtomicU8,
    /// Wakes the catch-up thread. The pump calls it at most once each time the ring reaches a quarter.
    pub(super) help: Box<dyn Fn() + Send + Sync>,
    /// Wakes the main thread after the end of the stream.
    over: Box<dyn Fn() + Send + Sync>,
}

const NOT_YET: u64 = u64::MAX;

impl PumpState {
    pub fn new(
        when_full: WhenFull,
        help: impl Fn() + Send + Sync + 'static,
        over: impl Fn() + Send + Sync + 'static,
    ) -> Arc<PumpState> {
        Arc::new(PumpState {
            ended: AtomicBool::new(false),
            end_read_at: AtomicU64::new(NOT_YET),
            when_full: AtomicU8::new(when_full as u8),
            help: Box::new(help),
            over: Box::new(over),
        })
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Returns the time at which the writer ended the stream; `None` while it goes on and if the reader went
    /// away instead. It is known a moment before [`PumpState::has_ended`], which waits until the end has been
    /// passed on.
    pub fn ended_at(&self) -> Option<Moment> {
        let at = self.end_read_at.load(Ordering::Acquire);
        (at != NOT_YET).then_some(Moment(at))
    }

    pub fn set_when_full(&self, when_full: WhenFull) {
        self.when_full.store(when_full as u8, Ordering::Relaxed);
    }

    fn waits(&self) -> bool {
        self.when_full.load(Ordering::Relaxed) == WhenFull::Wait as u8
    }
}

/// A descriptor that spantap inherited from the host, or a pipe of its own.
#[derive(Debug)]
pub enum Descriptor {
    /// Descriptor 0 or 2. To end it, `/dev/null` takes its place, so that no file opened later gets the number
    /// of a standard descriptor.
    Standard(RawDescriptor),
    Owned(OwnedDescriptor),
}

impl Descriptor {
    pub fn raw(&self) -> RawDescriptor {
        match self {
            Descriptor::Standard(fd) => *fd,
            Descriptor::Owned(fd) => descriptor::raw(fd),
        }
    }

    /// Ends this side of the stream: the peer sees the end of file, or a broken pipe. It does not call
    /// `shutdown`, because a socket may carry two streams at once (`2>&1`) and the other one goes on.
    fn close(self) {
        if let Descriptor::Standard(fd) = self {
            stdio::silence(fd);
        }
    }
}

/// Place where a pump finds the two descriptors that it copies between.
type DescriptorSlot = Mutex<Option<(Descriptor, Descriptor)>>;

/// The started thread of a pump, until [`Pump::start`] gives it the two descriptors.
pub struct Pump {
    slot: Arc<DescriptorSlot>,
    thread: Thread,
}

/// Stack of a pump, in bytes.
const STACK: usize = 64 << 10;

impl Pump {
    /// Starts the thread. `run` is [`run`] or takes its place.
    pub fn new(
        producer: Producer,
        state: Arc<PumpState>,
        run: impl FnOnce(Descriptor, Descriptor, Producer, &PumpState) + Send + 'static,
    ) -> io::Result<Pump> {
        let name = producer.ring().stream().as_str();
        let slot = Arc::new(DescriptorSlot::default());
        let of_thread = Arc::clone(&slot);
        let body = move || {
            // A channel would allocate while it waits.
            loop {
                if let Some((from, to)) = lock(&of_thread).take() {
                    return run(from, to, producer, &state);
                }
                std::thread::park();
            }
        };
        let thread = thread::spawn_with_stack(Duty::Relay, name, STACK, body)?;
        Ok(Pump { slot, thread })
    }

    /// Copies `from` to `to` from now on. A pump that is dropped instead copies nothing.
    pub fn start(self, from: Descriptor, to: Descriptor) {
        *lock(&self.slot) = Some((from, to));
        self.thread.unpark();
    }
}

/// Copies `from` to `to` until one of them ends, then ends the other one.
pub fn run(from: Descriptor, to: Descriptor, mut producer: Producer, state: &PumpState) {
    unblock_background_reads(&from);
    // Messages of spantap appear between the lines of the server.
    let has_messages = matches!(to, Descriptor::Standard(descriptor::STDERR));
    let mut called = false;
    let mut filling = FillCheck::default();
    loop {
        let room = reserve(&mut producer, state);
        let len = match descriptor::read(from.raw(), producer.buffer(&room)) {
            Ok(0) | Err(_) => {
                state.end_read_at.store(clock::now().0, Ordering::Release);
                break;
            }
            Ok(len) => len,
        };
        let read_at = clock::now();
        let bytes = producer.publish(&room, len, read_at);
        let sent = match has_messages {
            false => descriptor::write_all(to.raw(), bytes),
            true => write_beside_messages(to.raw(), bytes),
        };
        producer.written(read_at, clock::now());
        if sent.is_err() {
            break;
        }
        // This reads memory only. The wake-up happens once, when the ring reaches a quarter.
        let needs_help = filling.is_high(&producer, len);
        if needs_help && !called {
            (state.help)();
        }
        called = needs_help;
    }
    end(from, to, has_messages, producer, state);
}

/// Prepares the thread to read a terminal.
pub(super) fn unblock_background_reads(from: &Descriptor) {
    if stdio::is_terminal(from.raw()) {
        signals::allow_stops_by_reads();
    }
}

/// Ends both sides of the stream, and tells the observer and the main thread. Only a stream with messages of
/// spantap, which is the host's stderr, stays open.
pub(super) fn end(
    from: Descriptor,
    to: Descriptor,
    has_messages: bool,
    mut producer: Producer,
    state: &PumpState,
) {
    producer.end(clock::now());
    // `to` is closed first, so that its peer sees the end at once. If `to` is the host's stderr, it stays open,
    // because spantap writes its own last lines there; the main thread closes it.
    match has_messages {
        false => to.close(),
        true => messages::end_servers_stream(),
    }
    from.close();
    state.ended.store(true, Ordering::Release);
    (state.over)();
}

fn write_beside_messages(to: RawDescriptor, bytes: &[u8]) -> io::Result<()> {
    messages::begin_servers_bytes();
    let sent = descriptor::write_all(to, bytes);
    messages::end_servers_bytes(bytes.last() == Some(&b'\n'));
    sent
}

/// Checks the ring's depth once every `EVERY` bytes, so that a quiet stream does not pay for it.
#[derive(Default)]
pub(super) struct FillCheck {
    since: usize,
    high: bool,
}

impl FillCheck {
    const EVERY: usize = 256 << 10;

    #[inline(always)]
    pub(super) fn is_high(&mut self, producer: &Producer, len: usize) -> bool {
        self.since += len.max(4096);
        if self.since >= Self::EVERY {
            self.since = 0;
            self.high = producer.quarters() > 0;
        }
        self.high
    }
}

#[inline(always)]
pub(super) fn reserve(producer: &mut Producer, state: &PumpState) -> Room {
    loop {
        let room = producer.reserve();
        if !matches!(room, Room::Full) || !state.waits() || allocator::has_stopped_a_thread() {
            return room;
        }
        (state.help)();
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
