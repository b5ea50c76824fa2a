//! The allocator: that of the system, and what happens when it is refused memory.
//!
//! The standard library ends the process after a failed allocation. In a proxy this would end the traffic and the
//! server, so a thread that is not part of the relay stops there and never returns. The relay's threads do not
//! allocate once the server runs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::system::signals::MainThread;
use crate::system::{messages, process};

/// Memory that is free when the server starts, for the threads that are started after it.
const SLACK: usize = 32 << 10;
/// Memory that becomes free when the first thread stops. The C library ends the process if it is refused a few bytes.
static RESERVE: Mutex<Vec<u8>> = Mutex::new(Vec::new());
const RESERVE_SIZE: usize = 64 << 10;

/// The server runs.
static IS_RELAYING: AtomicBool = AtomicBool::new(false);
/// The parts whose threads have stopped because they were refused memory, as bits.
static STOPPED: AtomicU8 = AtomicU8::new(0);
const OBSERVER: u8 = 1;
const LOG: u8 = 2;
const EXPORT: u8 = 4;
const LIVE_FILE: u8 = 8;
const NOTIFICATION: u8 = 16;
/// The thread that waits for the end, since the server runs.
static MAIN: OnceLock<MainThread> = OnceLock::new();

thread_local! {
    static IS_RELAY_THREAD: Cell<bool> = const { Cell::new(false) };
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
    if IS_RELAY_THREAD.get() {
        return;
    }
    let (part, what) = match std::thread::current().name() {
        Some("otlp" | "lookup" | "tokio-rt-worker") => (EXPORT, "nothing more is sent to collectors"),
        Some("log" | "log-close") => (LOG, "the log of this session ends here"),
        Some("live") => (LIVE_FILE, "other commands no longer see the open requests of this session"),
        Some("notify") => (NOTIFICATION, "this notification is not sent"),
        _ => (OBSERVER, "the rest of this session is not recorded"),
    };
    let before = STOPPED.fetch_or(part, Ordering::AcqRel);
    if before == 0 {
        drop(std::mem::take(&mut *RESERVE.lock().unwrap_or_else(PoisonError::into_inner)));
    }
    if before & part == 0 {
        messages::say(format_args!("out of memory: {what}; traffic is not affected"));
    }
    MAIN.get().into_iter().for_each(|main| main.wake());
    // Its locks stay locked. Only threads of the observer wait for them, or the end of the session, which does not
    // wait for long.
    loop {
        std::thread::park();
    }
}

/// Marks the calling thread as one of the relay.
pub fn mark_relay_thread() {
    IS_RELAY_THREAD.set(true);
}

/// Keeps some memory free for what the calling thread, the main thread, does between the start of the server and
/// its wait.
pub fn keep_slack() {
    *RESERVE.lock().unwrap_or_else(PoisonError::into_inner) = Vec::with_capacity(RESERVE_SIZE);
    drop(std::hint::black_box(Vec::<u8>::with_capacity(SLACK)));
}

/// Lets refused memory stop single threads from now on, because the server runs. The calling thread is `main`.
pub fn relay_begins(main: MainThread) {
    mark_relay_thread();
    let _ = MAIN.set(main);
    IS_RELAYING.store(true, Ordering::Release);
}

/// Returns true if a thread of the observer has stopped because it was refused memory.
pub fn observer_is_lost() -> bool {
    STOPPED.load(Ordering::Acquire) & OBSERVER != 0
}

/// Returns true if any thread has stopped because it was refused memory. Other threads may wait for a lock that it holds.
pub fn has_stopped_a_thread() -> bool {
    STOPPED.load(Ordering::Acquire) != 0
}
