//! The steady clock, read without a system call.

use super::tap::Moment;

/// Now, on the clock that goes on while the machine is suspended.
pub fn now() -> Moment {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the clock to write to; an unknown clock leaves it zero.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    Moment(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
