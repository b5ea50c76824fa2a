//! The steady clock, read without a system call.

use std::time::Duration;

/// A point on the machine's steady clock, in nanoseconds since an arbitrary zero. The clock goes on while the machine is
/// suspended, so that a call across it is long rather than negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// Returns the time since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Returns the moment `duration` later, saturating.
    pub fn after(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The clock that goes on while the machine is suspended. On macOS it is the only such clock of nanoseconds.
#[cfg(target_os = "linux")]
const STEADY: libc::clockid_t = libc::CLOCK_BOOTTIME;
#[cfg(target_os = "macos")]
const STEADY: libc::clockid_t = libc::CLOCK_MONOTONIC_RAW;

/// Returns the present moment of the clock that goes on while the machine is suspended.
#[cfg(unix)]
pub fn now() -> Moment {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the clock to write to; an unknown clock leaves it zero.
    unsafe { libc::clock_gettime(STEADY, &mut time) };
    Moment(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Returns the present moment of the performance counter, which goes on while the machine is suspended.
#[cfg(windows)]
pub fn now() -> Moment {
    use windows_sys::Win32::System::Performance::{QueryPerformanceCounter, QueryPerformanceFrequency};
    static FREQUENCY: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let mut count = 0;
    // SAFETY: both places are valid for the results.
    let frequency = *FREQUENCY.get_or_init(|| unsafe {
        let mut frequency = 0;
        QueryPerformanceFrequency(&mut frequency);
        frequency.max(1) as u64
    });
    // SAFETY: as above.
    unsafe { QueryPerformanceCounter(&mut count) };
    Moment((count as u128 * 1_000_000_000 / u128::from(frequency)) as u64)
}
