//! The allocator: that of the system, and what happens when it is refused memory.
//!
//! The standard library ends the process after a failed allocation. In a proxy this would end the traffic and the
//! server, so a thread that is not part of the relay stops there and never returns. The relay's threads do not
//! allocate once the server runs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock};

use crate::system::mutex::lock;
use crate::system::signals::MainThread;
use crate::system::{messages, process};

/// Memory that is free when the server starts, for the threads that are started after it.
const SLACK: usize = 32 << 10;
/// Memory that becomes free when the first thread stops. The C library ends the process if it is refused a few bytes.
static RESERVE: Mutex<Vec<u8>> = Mutex::new(Vec::new());
const RESERVE_SIZE: usize = 64 << 10;

/// The server runs.
static IS_RELAYING: AtomicBool = AtomicBool::new(false);
/// The duties whose threads have stopped because they were refused memory, as bits.
static STOPPED: AtomicU8 = AtomicU8::new(0);
/// The thread that waits for the end, since the server runs.
static MAIN: OnceLock<MainThread> = OnceLock::new();

/// Work of a thread. Its number is its bit in `STOPPED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Duty {
    /// The traffic, whose threads never stop.
    Relay = 0,
    Observer = 1,
    Log = 2,
    Export = 4,
    LiveFile = 8,
    Notification = 16,
    Bodies = 32,
    /// The end of a notification that takes too long.
    #[cfg(windows)]
    Guard = 64,
}

impl Duty {
    /// Returns what follows if a thread with this duty stops.
    fn consequence(self) -> &'static str {
        match self {
            Duty::Relay => "",
            Duty::Observer => "the rest of this session is not recorded",
            Duty::Log => "the log of this session ends here",
            Duty::Export => "nothing more is sent to collectors",
            Duty::LiveFile => "other commands no longer see the state of this session",
            Duty::Notification => "this notification is not sent",
            Duty::Bodies => "no more bodies of this session are kept",
            #[cfg(windows)]
            Duty::Guard => "the command of `notify` is not stopped if it takes too long",
        }
    }

    /// Gives the calling thread this duty.
    pub fn begin(self) {
        DUTY.set(self);
    }
}

thread_local! {
    /// The duty of the calling thread.
    static DUTY: Cell<Duty> = const { Cell::new(Duty::Observer) };
}

/// Allocates as the system does. A thread of the observer whose memory is refused stops.
pub struct StoppingAllocator;

// SAFETY: every call is passed on unchanged.
unsafe impl GlobalAlloc for StoppingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of this method, which is the same.
        checked(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        checked(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        checked(unsafe { System.realloc(memory, layout, size) })
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

fn checked(memory: *mut u8) -> *mut u8 {
    if memory.is_null() {
        refused();
    }
    memory
}

/// Ends the program before a server runs, and the calling thread after that. Returns on a thread of the relay.
#[cold]
fn refused() {
    if !IS_RELAYING.load(Ordering::Acquire) {
        messages::write_lines(
            "error: the system refuses memory to spantap; raise its limit (`ulimit -v`) and try again\n",
        );
        process::exit_at_once(125);
    }
    let duty = DUTY.get();
    if duty == Duty::Relay {
        return;
    }
    let before = STOPPED.fetch_or(duty as u8, Ordering::AcqRel);
    if before == 0 {
        drop(std::mem::take(&mut *lock(&RESERVE)));
    }
    if before & duty as u8 == 0 {
        let consequence = duty.consequence();
        messages::say(format_args!("out of memory: {consequence}; traffic is not affected"));
    }
    MAIN.get().into_iter().for_each(|main| main.wake());
    // Its locks stay locked. Only threads of the observer wait for them, or the end of the session, which does not
    // wait for long.
    loop {
        std::thread::park();
    }
}

/// Keeps some memory free for what the calling thread, the main thread, does between the start of the server and
/// its wait.
pub fn keep_slack() {
    *lock(&RESERVE) = Vec::with_capacity(RESERVE_SIZE);
    drop(std::hint::black_box(Vec::<u8>::with_capacity(SLACK)));
}

/// Lets refused memory stop single threads from now on, because the server runs. The calling thread is `main`.
pub fn relay_begins(main: MainThread) {
    Duty::Relay.begin();
    let _ = MAIN.set(main);
    IS_RELAYING.store(true, Ordering::Release);
}

/// Returns true if a thread with this duty has stopped because it was refused memory.
pub fn has_stopped(duty: Duty) -> bool {
    STOPPED.load(Ordering::Acquire) & duty as u8 != 0
}

/// Returns true if any thread has stopped because it was refused memory. Other threads may wait for a lock that it holds.
pub fn has_stopped_a_thread() -> bool {
    STOPPED.load(Ordering::Acquire) != 0
}
