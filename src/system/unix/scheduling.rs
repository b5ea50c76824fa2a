//! The priority and the CPU time of the calling thread.

use super::own;

/// Gives the calling thread the lowest priority. If the system refuses, the priority stays as it is.
pub fn lower_priority() {
    own::lower_priority();
}

/// Returns the CPU time that the calling thread has used, in nanoseconds.
pub fn thread_cpu() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the clock to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
