//! A pump: one thread that copies one stream, forward first.
//!
//! The loop is `read`, clock, publish, `write`, clock. Publishing is a store to memory. Between a
//! `write` and the next `read` there is no system call, lock, allocation or wake-up: a peer that was
//! just woken by the write often waits for this very core.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use super::clock;
use super::ring::{Producer, Room};
use super::tap::{Moment, Stream};

/// What to do when the ring has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Forward the bytes unobserved and count them.
    Lose,
    /// Let the writer wait until the observer has caught up.
    Wait,
}

/// What a pump and the rest of the process tell each other.
pub struct Pulse {
    /// The stream has ended, in order or not.
    ended: AtomicBool,
    /// When its last read came back, by the steady clock: before the other side could see the end.
    last_read: AtomicU64,
    when_full: AtomicU8,
    /// Wakes the catch-up thread; called by the pump at most once per crossing of a quarter.
    help: Box<dyn Fn() + Send + Sync>,
    /// Tells the main thread that the stream has ended.
    over: Box<dyn Fn() + Send + Sync>,
}

impl Pulse {
    pub fn new(
        when_full: WhenFull,
        help: impl Fn() + Send + Sync + 'static,
        over: impl Fn() + Send + Sync + 'static,
    ) -> Arc<Pulse> {
        Arc::new(Pulse {
            ended: AtomicBool::new(false),
            last_read: AtomicU64::new(u64::MAX),
            when_full: AtomicU8::new(when_full as u8),
            help: Box::new(help),
            over: Box::new(over),
        })
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// When the stream came to its end; `None` while it goes on.
    pub fn ended_at(&self) -> Option<Moment> {
        self.has_ended().then(|| Moment(self.last_read.load(Ordering::Relaxed)))
    }

    pub fn set_when_full(&self, when_full: WhenFull) {
        self.when_full.store(when_full as u8, Ordering::Relaxed);
    }

    fn waits(&self) -> bool {
        self.when_full.load(Ordering::Relaxed) == WhenFull::Wait as u8
    }
}

/// One of the descriptors that we got from the host, or a pipe of ours.
#[derive(Debug)]
pub enum Descriptor {
    /// Descriptor 0 or 2: to end it, `/dev/null` is put in its place, so that no file opened later can
    /// land on a standard descriptor.
    Standard(RawFd),
    Owned(OwnedFd),
}

impl Descriptor {
    fn raw(&self) -> RawFd {
        match self {
            Descriptor::Standard(fd) => *fd,
            Descriptor::Owned(fd) => fd.as_raw_fd(),
        }
    }

    /// Ends this side of the stream: the peer sees the end of file, or a broken pipe. Never by
    /// `shutdown`: a socket may be two of our streams at once (`2>&1`), and the other one goes on.
    fn close(self) {
        if let Descriptor::Standard(fd) = self {
            super::stdio::silence(fd);
        }
    }
}

/// Copies `from` to `to` until one of them ends, then ends the other, and nothing else.
pub fn run(from: Descriptor, to: Descriptor, mut producer: Producer, pulse: &Pulse) {
    if super::stdio::is_terminal(from.raw()) {
        // Who reads a terminal from the background is stopped by the kernel until it is in the
        // foreground, unless this signal is blocked: then the read would fail instead.
        super::signals::unblock(libc::SIGTTIN);
    }
    let mut called = false;
    let mut filling = Filling::default();
    loop {
        let room = reserve(&mut producer, pulse);
        let len = match read(from.raw(), producer.buffer(&room)) {
            Ok(0) | Err(_) => break,
            Ok(len) => len,
        };
        let read_at = clock::now();
        let bytes = producer.publish(&room, len, read_at);
        let sent = write_all(to.raw(), bytes);
        producer.written(read_at, clock::now());
        if sent.is_err() {
            break;
        }
        // Only memory is looked at here; the wake-up happens once, when a quarter is reached.
        let needs_help = filling.is_high(&producer, len);
        if needs_help && !called {
            (pulse.help)();
        }
        called = needs_help;
    }
    let stream = producer.ring().stream();
    let end = clock::now();
    pulse.last_read.store(end.0, Ordering::Relaxed);
    producer.end(end);
    // The writer first: its peer shall see the end at once. Only the host's stderr stays open for a
    // moment, because our own last words go there: the main thread ends it.
    if stream != Stream::Stderr {
        to.close();
    }
    from.close();
    pulse.ended.store(true, Ordering::Release);
    (pulse.over)();
}

/// Looks at the ring's depth every so many bytes, so that a quiet stream does not pay for it.
#[derive(Default)]
struct Filling {
    since: usize,
    high: bool,
}

impl Filling {
    const EVERY: usize = 256 << 10;

    fn is_high(&mut self, producer: &Producer, len: usize) -> bool {
        self.since += len.max(4096);
        if self.since >= Self::EVERY {
            self.since = 0;
            self.high = producer.quarters() > 0;
        }
        self.high
    }
}

fn reserve(producer: &mut Producer, pulse: &Pulse) -> Room {
    loop {
        let room = producer.reserve();
        if !matches!(room, Room::Full) || !pulse.waits() {
            return room;
        }
        (pulse.help)();
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: the buffer is valid for writing `len` bytes.
        let count = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
        match usize::try_from(count) {
            Ok(count) => return Ok(count),
            Err(_) => again(fd, libc::POLLIN)?,
        }
    }
}

fn write_all(fd: RawFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // SAFETY: the slice is valid for reading `len` bytes.
        let count = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(count) {
            Ok(count) => bytes = &bytes[count..],
            Err(_) => again(fd, libc::POLLOUT)?,
        }
    }
    Ok(())
}

/// After a failed call: `Ok` if it is to be made again. A descriptor that somebody else made
/// non-blocking is waited for, and left as it is: the flag belongs to everybody who shares it.
fn again(fd: RawFd, events: libc::c_short) -> io::Result<()> {
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EINTR) => Ok(()),
        Some(libc::EAGAIN) => {
            let mut poll = libc::pollfd { fd, events, revents: 0 };
            // SAFETY: one valid entry; no time-out, since the stream may be silent for hours.
            unsafe { libc::poll(&mut poll, 1, -1) };
            Ok(())
        }
        _ => Err(error),
    }
}
