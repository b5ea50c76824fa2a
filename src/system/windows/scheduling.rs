//! The priority and the CPU time of the calling thread.

use std::sync::LazyLock;

use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::System::Registry::{HKEY_LOCAL_MACHINE, RRF_RT_REG_DWORD, RegGetValueW};
use windows_sys::Win32::System::Threading::{
    GetCurrentThread, GetThreadTimes, SetThreadPriority, THREAD_PRIORITY_LOWEST,
};
use windows_sys::Win32::System::WindowsProgramming::QueryThreadCycleTime;
use windows_sys::core::{PCWSTR, w};

/// Gives the calling thread the lowest priority at which it still runs beside other programs.
pub fn lower_priority() {
    // SAFETY: a plain call on the calling thread.
    unsafe { SetThreadPriority(GetCurrentThread(), THREAD_PRIORITY_LOWEST) };
}

/// Rate of the counter that times threads, in MHz; 0 if unknown.
static MEGAHERTZ: LazyLock<u32> = LazyLock::new(|| {
    number_of_machine(w!("HARDWARE\\DESCRIPTION\\System\\CentralProcessor\\0"), w!("~MHz")).unwrap_or(0)
});

/// Returns a number of the machine's registry.
pub(super) fn number_of_machine(key: PCWSTR, name: PCWSTR) -> Option<u32> {
    let (mut number, mut size) = (0_u32, 4);
    // SAFETY: the texts end with a zero, and the place has `size` bytes.
    let outcome = unsafe {
        RegGetValueW(
            HKEY_LOCAL_MACHINE,
            key,
            name,
            RRF_RT_REG_DWORD,
            std::ptr::null_mut(),
            (&raw mut number).cast(),
            &mut size,
        )
    };
    (outcome == 0).then_some(number)
}

/// Returns the CPU time that the calling thread has used, in nanoseconds. The cycle counter is exact; the thread's times
/// are counted in ticks of 16 ms.
pub fn thread_cpu() -> u64 {
    let mut cycles = 0;
    // SAFETY: `cycles` is a valid place for the result.
    let is_counted = unsafe { QueryThreadCycleTime(GetCurrentThread(), &mut cycles) } != 0;
    match (is_counted, *MEGAHERTZ) {
        (true, rate @ 1..) => (u128::from(cycles) * 1000 / u128::from(rate)) as u64,
        _ => thread_times(),
    }
}

fn thread_times() -> u64 {
    let mut times = [FILETIME::default(); 4];
    let [created, ended, kernel, user] = &mut times;
    // SAFETY: the four places are valid for the results.
    unsafe { GetThreadTimes(GetCurrentThread(), created, ended, kernel, user) };
    (ticks(&times[2]) + ticks(&times[3])) * 100
}

/// Returns a time of the system in its units of 100 ns.
pub(super) fn ticks(time: &FILETIME) -> u64 {
    u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime)
}
