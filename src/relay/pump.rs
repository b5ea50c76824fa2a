//! A pump: one thread that copies one stream, forward first.
//!
//! The loop is `read`, clock, publish, `write`, clock. Publishing is a store to memory. Between a
//! `write` and the next `read` there is no system call, lock, allocation or wake-up: a peer that was
//! just woken by the write often waits for this very core.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use crate::relay::chunk::{Moment, Stream};
use crate::relay::ring::{Producer, Room};
use crate::system::clock;

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
    /// When the end was read, in nanoseconds of the steady clock, and set before the other side can see it;
    /// `NOT_YET` until then, and for ever where it was the writing that failed.
    end_read_at: AtomicU64,
    when_full: AtomicU8,
    /// Wakes the catch-up thread; called by the pump at most once per crossing of a quarter.
    help: Box<dyn Fn() + Send + Sync>,
    /// Tells the main thread that the stream has ended.
    over: Box<dyn Fn() + Send + Sync>,
}

const NOT_YET: u64 = u64::MAX;

impl Pulse {
    pub fn new(
        when_full: WhenFull,
        help: impl Fn() + Send + Sync + 'static,
        over: impl Fn() + Send + Sync + 'static,
    ) -> Arc<Pulse> {
        Arc::new(Pulse {
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

    /// When the writer of the stream was seen to have ended it; `None` while it goes on, and where it was
    /// the reader who went away. Known a moment before [`Pulse::has_ended`], which waits until the end has
    /// been passed on.
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
            crate::system::stdio::silence(fd);
        }
    }
}

/// A pump whose thread is there, and which has not been told yet what to copy.
pub struct Pump {
    tell: mpsc::Sender<(Descriptor, Descriptor)>,
}

impl Pump {
    /// # Errors
    /// When there is no thread to be had.
    pub fn new(producer: Producer, pulse: Arc<Pulse>) -> io::Result<Pump> {
        let (tell, told) = mpsc::channel();
        let name = producer.ring().stream().as_str().to_owned();
        let body = move || {
            if let Ok((from, to)) = told.recv() {
                run(from, to, producer, &pulse);
            }
        };
        std::thread::Builder::new().name(name).stack_size(64 << 10).spawn(body)?;
        Ok(Pump { tell })
    }

    /// Has it copy `from` to `to` from now on. Dropped instead, it does nothing.
    pub fn start(self, from: Descriptor, to: Descriptor) {
        // Its thread waits for nothing else, so there is nobody who could be gone.
        let _ = self.tell.send((from, to));
    }
}

/// Copies `from` to `to` until one of them ends, then ends the other, and nothing else.
fn run(from: Descriptor, to: Descriptor, mut producer: Producer, pulse: &Pulse) {
    if crate::system::stdio::is_terminal(from.raw()) {
        // Who reads a terminal from the background is stopped by the kernel until it is in the
        // foreground, unless this signal is blocked: then the read would fail instead.
        crate::system::signals::unblock(libc::SIGTTIN);
    }
    let mut called = false;
    let mut filling = Filling::default();
    loop {
        let room = reserve(&mut producer, pulse);
        let len = match read(from.raw(), producer.buffer(&room)) {
            Ok(0) | Err(_) => {
                pulse.end_read_at.store(clock::now().0, Ordering::Release);
                break;
            }
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
    producer.end(clock::now());
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
