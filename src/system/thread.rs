//! Threads with a stack of a known size, their priority and CPU time.

use std::io;
use std::thread::{Builder, Thread};

pub use crate::system::allocator::{Duty, has_stopped};
use crate::system::signals::SignalMask;
use crate::system::{allocator, scheduling};

/// Stack of a thread, in bytes. The standard library would take it from `RUST_MIN_STACK`, a variable that the host
/// sets for other programs.
pub const STACK: usize = 2 << 20;

/// Starts a thread for `duty`.
///
/// # Errors
/// If the system refuses another thread.
pub fn spawn(duty: Duty, name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<Thread> {
    spawn_with_stack(duty, name, STACK, body)
}

/// Starts a thread that needs less stack, or more.
///
/// # Errors
/// If the system refuses another thread, or has refused memory to an earlier one.
pub fn spawn_with_stack(
    duty: Duty,
    name: &str,
    stack: usize,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<Thread> {
    if allocator::has_stopped_a_thread() {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let restore = restore_mask();
    let with_mask = move || {
        restore();
        duty.begin();
        body();
    };
    let started = Builder::new().name(name.to_owned()).stack_size(stack).spawn(with_mask);
    restore();
    Ok(started?.thread().clone())
}

/// Returns a function that gives a thread the signal mask that the calling thread has now. For threads that another
/// library starts: what the C library unblocks in them would end spantap instead of reaching the server.
pub fn restore_mask() -> impl Fn() + Copy + Send + Sync + 'static {
    let mask = SignalMask::if_starts_change_it();
    move || {
        if let Some(mask) = &mask {
            mask.restore();
        }
    }
}

/// Gives the calling thread the lowest priority (nice 19). If the system refuses, the priority stays as it is.
pub fn lower_priority() {
    scheduling::lower_priority();
}

/// Returns the CPU time that the calling thread has used, in nanoseconds.
pub fn thread_cpu() -> u64 {
    scheduling::thread_cpu()
}
