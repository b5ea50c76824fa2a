//! Facts about processes, from `libproc` and `sysctl`.

use std::ffi::CStr;
use std::io;
use std::time::{Duration, SystemTime};

use crate::system::activity::Activity;

/// Facts about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessStat {
    pub(in crate::system::unix) parent: u32,
    cpu: Duration,
    /// Start of the process, in microseconds since 1970.
    pub start_ticks: u64,
    resident: u64,
}

impl ProcessStat {
    /// Reads the facts of process `pid`; `None` if the process is gone or belongs to another user.
    pub fn read(pid: i32) -> Option<ProcessStat> {
        // SAFETY: the structure has plain fields.
        let all: libc::proc_taskallinfo = unsafe { info(pid, libc::PROC_PIDTASKALLINFO) }.ok()?;
        Some(ProcessStat {
            parent: all.pbsd.pbi_ppid,
            cpu: cpu(&all.ptinfo),
            start_ticks: start(&all.pbsd),
            resident: all.ptinfo.pti_resident_size,
        })
    }

    pub fn cpu(&self) -> Duration {
        self.cpu
    }

    /// Returns the resident memory in bytes.
    pub fn resident(&self) -> u64 {
        self.resident
    }
}

/// Asks for one of the structures of `proc_pidinfo`.
///
/// # Safety
/// `T` must be the structure of `flavor`, and valid with any bytes.
unsafe fn info<T>(pid: i32, flavor: libc::c_int) -> io::Result<T> {
    let size = size_of::<T>() as libc::c_int;
    // SAFETY: the place has `size` bytes, and the caller's promise makes whatever they are valid.
    unsafe {
        let mut place: T = std::mem::zeroed();
        match libc::proc_pidinfo(pid, flavor, 0, (&raw mut place).cast(), size) {
            filled if filled == size => Ok(place),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn basics(pid: i32) -> io::Result<libc::proc_bsdinfo> {
    // SAFETY: the structure has plain fields.
    unsafe { info(pid, libc::PROC_PIDTBSDINFO) }
}

fn start(basics: &libc::proc_bsdinfo) -> u64 {
    basics.pbi_start_tvsec * 1_000_000 + basics.pbi_start_tvusec
}

/// Returns the CPU time in user and system mode, which is counted in units of the machine's clock.
#[expect(deprecated, reason = "the crate that replaces it has nothing else for spantap")]
fn cpu(task: &libc::proc_taskinfo) -> Duration {
    let mut base = libc::mach_timebase_info { numer: 1, denom: 1 };
    // SAFETY: `base` is a valid place for the result.
    unsafe { libc::mach_timebase_info(&mut base) };
    let units = u128::from(task.pti_total_user) + u128::from(task.pti_total_system);
    let nanos = units * u128::from(base.numer) / u128::from(base.denom.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Returns no process: macOS does not show who holds a pipe.
pub fn holders_of(_pipes: &[String]) -> Vec<i32> {
    Vec::new()
}

/// Returns what process `pid` does; `None` if the system does not say. Allocates nothing.
pub fn activity_of(pid: i32) -> Option<Activity> {
    /// `PROC_FLAG_INEXIT` of `<sys/proc_info.h>`.
    const IN_EXIT: u32 = 4;
    let basics = basics(pid).ok()?;
    if basics.pbi_status == libc::SZOMB || basics.pbi_flags & IN_EXIT != 0 {
        return Some(Activity::Exits);
    }
    // SAFETY: the structure has plain fields.
    let task: libc::proc_taskinfo = unsafe { info(pid, libc::PROC_PIDTASKINFO) }.ok()?;
    Some(match task.pti_numrunning {
        0 => Activity::Waits,
        _ => Activity::Works(cpu(&task)),
    })
}

/// Returns the numbers of all processes.
pub(in crate::system::unix) fn all() -> Vec<u32> {
    let mut pids = vec![0_u32; 1 << 16];
    // SAFETY: the buffer has this size.
    let count = unsafe { libc::proc_listallpids(pids.as_mut_ptr().cast(), size_of_val(&pids[..]) as i32) };
    pids.truncate(usize::try_from(count).unwrap_or(0));
    pids
}

/// Returns the command of process `pid` with its arguments; empty if it may not be read.
pub fn command_line(pid: u32) -> Vec<u8> {
    let mut name = [libc::CTL_KERN, libc::KERN_PROCARGS2, pid as libc::c_int];
    let mut bytes = vec![0_u8; 1 << 20];
    let mut size = bytes.len();
    // SAFETY: the name has three numbers, and the buffer has `size` bytes.
    let outcome = unsafe {
        libc::sysctl(name.as_mut_ptr(), 3, bytes.as_mut_ptr().cast(), &mut size, std::ptr::null_mut(), 0)
    };
    bytes.truncate(size);
    if outcome == 0 { arguments_in(&bytes).unwrap_or_default() } else { Vec::new() }
}

/// Returns the arguments in what the system has of a process: their number, the path of the program, zeros, the
/// arguments and the environment.
fn arguments_in(bytes: &[u8]) -> Option<Vec<u8>> {
    let (count, rest) = bytes.split_first_chunk()?;
    let count = usize::try_from(i32::from_ne_bytes(*count)).ok()?;
    let rest = &rest[rest.iter().position(|byte| *byte == 0)?..];
    let rest = &rest[rest.iter().position(|byte| *byte != 0)?..];
    Some(rest.split_inclusive(|byte| *byte == 0).take(count).flatten().copied().collect())
}

/// Returns the id of this boot of the system; empty if unknown.
pub fn boot_id() -> String {
    let mut text = [0_u8; 64];
    let mut size = text.len();
    // SAFETY: the buffer has `size` bytes.
    unsafe {
        libc::sysctlbyname(
            c"kern.bootsessionuuid".as_ptr(),
            text.as_mut_ptr().cast(),
            &mut size,
            std::ptr::null_mut(),
            0,
        );
    }
    CStr::from_bytes_until_nul(&text).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Returns the name of the space of process numbers, of which macOS has one.
pub fn pid_namespace() -> String {
    "macos".to_owned()
}

/// Returns `None`: macOS does not show who has the other end of standard output.
pub fn same_program_around() -> Option<i32> {
    None
}

/// Returns the parent of a process.
pub(crate) fn parent_of(pid: i32) -> Option<i32> {
    i32::try_from(basics(pid).ok()?.pbi_ppid).ok()
}

/// Returns true if the process that was started then as `pid` runs; `None` if that cannot be known here: it belongs to
/// another boot, or its facts cannot be read. A process that was not waited for does not run.
pub fn is_running(boot: &str, namespace: &str, pid: u32, start_ticks: u64) -> Option<bool> {
    if boot.is_empty() || boot != boot_id() || namespace != pid_namespace() {
        return None;
    }
    match basics(i32::try_from(pid).ok()?) {
        Ok(basics) => Some(basics.pbi_status != libc::SZOMB && start(&basics) == start_ticks),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Some(false),
        Err(_) => None,
    }
}

/// Returns when each of this user's processes called `name` was started.
pub fn start_times(name: &str) -> Vec<SystemTime> {
    let user = rustix::process::getuid().as_raw();
    let is_called = |basics: &libc::proc_bsdinfo| {
        let called: Vec<u8> = basics.pbi_name.iter().map(|byte| *byte as u8).collect();
        CStr::from_bytes_until_nul(&called).is_ok_and(|called| called.to_bytes() == name.as_bytes())
    };
    let processes = all().into_iter().filter_map(|pid| basics(i32::try_from(pid).ok()?).ok());
    processes
        .filter(|basics| basics.pbi_ruid == user && is_called(basics))
        .map(|basics| SystemTime::UNIX_EPOCH + Duration::from_micros(start(&basics)))
        .collect()
}
