//! macOS: what Linux does differently.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::process::Command;
use std::time::Duration;

use super::unix::signals_without;

/// A place where no file can be.
pub const NOWHERE: &str = "/dev/null/nowhere";

/// Signals whose default is not death, except those that stop a process.
pub const HARMLESS: &[i32] =
    &[libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH, libc::SIGIO, libc::SIGINFO];

const LIMITS: [libc::c_int; 9] = [
    libc::RLIMIT_CPU,
    libc::RLIMIT_FSIZE,
    libc::RLIMIT_DATA,
    libc::RLIMIT_STACK,
    libc::RLIMIT_CORE,
    libc::RLIMIT_AS,
    libc::RLIMIT_MEMLOCK,
    libc::RLIMIT_NPROC,
    libc::RLIMIT_NOFILE,
];

/// Returns none: macOS has no signals above 31.
pub fn real_time_signals() -> Vec<i32> {
    Vec::new()
}

/// Returns none: the C library of macOS uses no signal.
pub fn signals_of_libraries() -> Vec<i32> {
    Vec::new()
}

/// Returns the processes that have `word` among their arguments.
pub fn with_argument(word: &str) -> Vec<u32> {
    let listed = Command::new("ps").args(["-axww", "-o", "pid=,command="]).output();
    let listed = listed.map(|output| output.stdout).unwrap_or_default();
    let pid = |line: &str| {
        let mut words = line.split_whitespace();
        let pid = words.next()?.parse().ok()?;
        words.any(|argument| argument == word).then_some(pid)
    };
    String::from_utf8_lossy(&listed).lines().filter_map(pid).collect()
}

/// Returns what a process has used so far.
fn usage(pid: u32) -> Option<libc::rusage_info_v4> {
    // SAFETY: the place is that of this kind, and its plain fields may have any value.
    unsafe {
        let mut place: libc::rusage_info_v4 = std::mem::zeroed();
        let refused = libc::proc_pid_rusage(pid as i32, libc::RUSAGE_INFO_V4, (&raw mut place).cast());
        (refused == 0).then_some(place)
    }
}

/// Returns the largest number of bytes of memory that a process had.
pub fn peak_memory(pid: u32) -> Option<u64> {
    usage(pid).map(|used| used.ri_lifetime_max_phys_footprint)
}

/// Returns the CPU time of all threads of a process, which is counted in units of the machine's clock.
#[expect(deprecated, reason = "the crate that replaces it has nothing else for this suite")]
pub fn cpu_time(pid: u32) -> Duration {
    let mut base = libc::mach_timebase_info { numer: 1, denom: 1 };
    // SAFETY: `base` is a valid place for the result.
    unsafe { libc::mach_timebase_info(&mut base) };
    let units = usage(pid).map_or(0, |used| used.ri_user_time + used.ri_system_time);
    let nanos = u128::from(units) * u128::from(base.numer) / u128::from(base.denom.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Returns what else a start hands down, a line each.
pub fn handed_down() -> io::Result<Vec<String>> {
    let bits = |has: &dyn Fn(i32) -> bool| {
        (1..32).filter(|signal| has(*signal)).fold(0_u64, |bits, signal| bits | 1 << (signal - 1))
    };
    let mut lines = Vec::new();
    // SAFETY: all places are valid and zeroed, and nothing else in this process uses its umask.
    unsafe {
        let mut blocked = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut blocked);
        lines.push(format!("SigBlk:\t{:016x}", bits(&|signal| libc::sigismember(&blocked, signal) == 1)));
        let is_ignored = |signal| {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, std::ptr::null(), &mut action);
            action.sa_sigaction == libc::SIG_IGN
        };
        lines.push(format!("SigIgn:\t{:016x}", bits(&is_ignored)));
        let umask = libc::umask(0);
        libc::umask(umask);
        lines.push(format!("Umask {umask:o}"));
        let mut groups = [0; 64];
        let count = libc::getgroups(64, groups.as_mut_ptr()).max(0) as usize;
        lines.push(format!("Groups {:?}", &groups[..count]));
        let users = (libc::getuid(), libc::geteuid(), libc::getgid(), libc::getegid());
        lines.push(format!("Uid and Gid {users:?}"));
        for resource in LIMITS {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::getrlimit(resource, &mut limit);
            lines.push(format!("Limit {resource} {} {}", limit.rlim_cur, limit.rlim_max));
        }
        for fd in 3..256 {
            let mut path = [0_u8; libc::PATH_MAX as usize];
            if libc::fcntl(fd, libc::F_GETFD) >= 0 {
                libc::fcntl(fd, libc::F_GETPATH, path.as_mut_ptr());
                let length = path.iter().position(|byte| *byte == 0).unwrap_or(0);
                lines.push(format!("descriptor {fd} {}", String::from_utf8_lossy(&path[..length])));
            }
        }
    }
    Ok(lines)
}

/// Waits for the next signal that is not in `others`, of which bit `n` is signal `n`. Also returns true: macOS does not
/// tell who sent it.
pub fn next_signal_and_origin(others: u128) -> (i32, bool) {
    let all = signals_without(others);
    // SAFETY: `signal` is a valid place for the result.
    unsafe {
        let mut signal = 0;
        while libc::sigwait(&all, &mut signal) != 0 {}
        (signal, true)
    }
}

/// Returns true if a pipe, of which `end` is the reading end, holds as much as the smallest pipe can. A larger one is
/// full once the number of bytes that were written stays the same.
pub fn is_full_pipe(end: &File) -> bool {
    const SMALLEST: libc::c_int = 16 << 10;
    let mut waiting: libc::c_int = 0;
    // SAFETY: `waiting` is a valid place for the result.
    unsafe { libc::ioctl(end.as_raw_fd(), libc::FIONREAD, &raw mut waiting) == 0 && waiting >= SMALLEST }
}

/// Does nothing: the size of a pipe cannot be changed.
pub fn shrink_pipe(_fd: RawFd) {}

/// Restores the default action of `signal` and unblocks it in this thread.
pub fn restore_default(signal: i32) {
    // SAFETY: the set is emptied before it is used, and SIG_DFL is valid for every signal.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
    }
}

/// Waits as long as a process needs to take a signal, and returns true: macOS does not tell what waits for a process.
pub fn is_done_with(_pid: u32, _signal: i32) -> bool {
    std::thread::sleep(Duration::from_millis(200));
    true
}

/// Returns facts about a process. One that has ended has none.
fn facts(pid: u32) -> Option<libc::proc_bsdinfo> {
    let size = size_of::<libc::proc_bsdinfo>() as libc::c_int;
    // SAFETY: the place has `size` bytes, and its plain fields may have any value.
    unsafe {
        let mut place: libc::proc_bsdinfo = std::mem::zeroed();
        let flavor = libc::PROC_PIDTBSDINFO;
        (libc::proc_pidinfo(pid as i32, flavor, 0, (&raw mut place).cast(), size) == size).then_some(place)
    }
}

/// Returns the parent of a process.
pub fn parent(pid: u32) -> Option<u32> {
    facts(pid).map(|facts| facts.pbi_ppid)
}

/// Returns the state of a process with the letters of Linux: `T` is stopped, `Z` has ended, `R` is any other.
pub fn state_of(pid: u32) -> Option<char> {
    facts(pid).map(|facts| match facts.pbi_status {
        libc::SSTOP => 'T',
        libc::SZOMB => 'Z',
        _ => 'R',
    })
}
