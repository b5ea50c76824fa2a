//! Linux: what other Unix systems do differently, or not at all. The broken relays need some of it.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use super::unix::signals_without;

/// A place where no file can be.
pub const NOWHERE: &str = "/proc/nowhere";

/// Signals from 1 to 31 whose default is not death, except those that stop a process.
pub const HARMLESS: &[i32] = &[libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH];

/// Returns the first, one, and the last of the signals above 31 that programs may use.
pub fn real_time_signals() -> Vec<i32> {
    vec![libc::SIGRTMIN(), libc::SIGRTMIN() + 7, libc::SIGRTMAX()]
}

/// Returns the signals that C libraries keep for themselves, also if this one uses fewer.
pub fn signals_of_libraries() -> Vec<i32> {
    vec![32, 33, 34]
}

/// Returns the processes that have `word` among their arguments.
pub fn with_argument(word: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has_it = |pid: &u32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())
    };
    pids.filter(has_it).collect()
}

/// Returns the largest number of bytes of memory that a process had.
pub fn peak_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// Returns the number of bytes of address space that a program of 64 bits takes (ELF), or none if it is something else.
pub fn mapped_size(program: &[u8]) -> Option<u64> {
    const LOAD: u32 = 1;
    let number = |at: usize, size: usize| {
        let bytes = program.get(at..at + size)?;
        Some(bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    let is_elf = program.starts_with(b"\x7fELF\x02\x01");
    let (from, size, count) = (number(32, 8)? as usize, number(54, 2)? as usize, number(56, 2)? as usize);
    let segments = (0..count).map(|index| from + index * size);
    let loaded = segments.filter(|at| number(*at, 4) == Some(LOAD.into()));
    is_elf.then(|| loaded.filter_map(|at| number(at + 40, 8)).sum())
}

/// Returns the CPU time of all threads of a process.
pub fn cpu_time(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    Duration::from_nanos(stats.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum())
}

/// Returns what else a start hands down, a line each.
pub fn handed_down() -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let told = ["Umask", "SigBlk", "SigIgn", "Uid", "Gid", "Groups", "NoNewPrivs"];
    lines.extend(
        status.lines().filter(|line| told.iter().any(|name| line.starts_with(name))).map(str::to_owned),
    );
    lines.extend(std::fs::read_to_string("/proc/self/limits")?.lines().map(str::to_owned));
    for entry in std::fs::read_dir("/proc/self/fd")?.flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        let fd: i32 = entry.file_name().to_string_lossy().parse().unwrap_or(0);
        if fd > 2 && !target.starts_with(format!("/proc/{}", std::process::id())) {
            lines.push(format!("descriptor {fd} {}", target.display()));
        }
    }
    Ok(lines)
}

/// Waits for the next signal that is not in `others`, of which bit `n` is signal `n`. Also returns true if a
/// process sent it rather than the kernel.
pub fn next_signal_and_origin(others: u128) -> (i32, bool) {
    let all = signals_without(others);
    // SAFETY: `info` is a valid place for the result.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        loop {
            let signal = libc::sigwaitinfo(&all, &mut info);
            if signal > 0 {
                return (signal, info.si_code <= 0);
            }
        }
    }
}

/// Blocks every signal and allows waiting for children. Returns a function that undoes both, for use between
/// fork and exec.
pub fn take_signals() -> impl Fn() + Send + Sync + 'static {
    // SAFETY: the sets are filled before they are used, and SIG_DFL is valid for SIGCHLD.
    let (before, children) = unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        (before, libc::signal(libc::SIGCHLD, libc::SIG_DFL))
    };
    // SAFETY: both were in force before.
    move || unsafe {
        libc::signal(libc::SIGCHLD, children);
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
    }
}

/// Waits until child `pid` ends or stops. A stopped child has no status.
pub fn wait_or_stop(pid: u32) -> io::Result<Option<ExitStatus>> {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the result.
    if unsafe { libc::waitpid(pid as i32, &mut status, libc::WUNTRACED) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((!libc::WIFSTOPPED(status)).then(|| ExitStatus::from_raw(status)))
}

/// Lets this process, just forked, end with `parent`, which may have ended already.
pub fn end_with(parent: u32) {
    die_with_parent();
    // SAFETY: plain calls.
    unsafe {
        if libc::getppid() != parent as i32 {
            libc::_exit(97);
        }
    }
}

/// Returns true if `fd` is the terminal of this process and another group has it.
pub fn is_in_background(fd: RawFd) -> bool {
    // SAFETY: plain calls; on a descriptor of another kind the first fails.
    unsafe { libc::tcgetpgrp(fd).is_positive() && libc::tcgetpgrp(fd) != libc::getpgrp() }
}

/// Waits until one of two descriptors is readable or at its end.
pub fn either_readable(one: RawFd, other: RawFd) -> (bool, bool) {
    let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut polls = [entry(one), entry(other)];
    // SAFETY: two valid entries.
    unsafe { libc::poll(polls.as_mut_ptr(), 2, -1) };
    (polls[0].revents != 0, polls[1].revents != 0)
}

/// Returns true if a pipe, of which `end` is the reading end, is full.
pub fn is_full_pipe(end: &File) -> bool {
    let fd = end.as_raw_fd();
    let Ok(end) = File::options().write(true).open(format!("/proc/self/fd/{fd}")) else {
        return false;
    };
    let mut poll = libc::pollfd { fd: end.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one valid entry.
    unsafe { libc::poll(&mut poll, 1, 0) == 0 }
}

/// Enlarges the pipe of `fd` for the bytes that are still under way.
pub fn widen_pipe(fd: RawFd) {
    // SAFETY: plain call on a standard stream; on another kind it fails.
    unsafe { libc::fcntl(fd, libc::F_SETPIPE_SZ, 1 << 20) };
}

/// Lets a relay end with its host, so that broken relays do not remain.
pub fn die_with_parent() {
    // SAFETY: plain call.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Restores the default action of `signal` and unblocks it in this thread.
pub fn restore_default(signal: i32) {
    // As the kernel has them, because the C library refuses to change the signals that it uses itself.
    let (default, set, none) = ([0_u64; 4], 1_u64 << (signal - 1), std::ptr::null_mut::<u64>());
    // SAFETY: zeros are the default disposition with an empty mask; all sets have eight bytes.
    unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, 8);
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_UNBLOCK, &raw const set, none, 8);
    }
}

/// Makes the pipe of `fd` as small as possible.
pub fn shrink_pipe(fd: RawFd) {
    // SAFETY: plain call on an open descriptor.
    unsafe { libc::fcntl(fd, libc::F_SETPIPE_SZ, 4096) };
}

/// Returns true if `signal` is pending for a process.
pub fn is_pending(pid: u32, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask =
        status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("ShdPnd:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Returns true if a process has taken `signal` and is idle, so its handling is done.
pub fn is_done_with(pid: u32, signal: i32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut states = threads.map(|thread| state_in(&thread.path().join("stat")));
    !is_pending(pid, signal) && states.all(|state| state == Some('S'))
}

/// Returns the parent of a process.
pub fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Returns the state letter of proc_pid_stat(5).
pub fn state_of(pid: u32) -> Option<char> {
    state_in(std::path::Path::new(&format!("/proc/{pid}/stat")))
}

fn state_in(stat: &std::path::Path) -> Option<char> {
    let stat = std::fs::read_to_string(stat).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Ends the sending half of a socket for all processes that hold it.
pub fn shut_down(fd: RawFd) {
    // SAFETY: plain call; on a descriptor of another kind it fails.
    unsafe { libc::shutdown(fd, libc::SHUT_WR) };
}

/// Denies a system call to this process and its children, as a sandbox does. Safe between fork and exec.
pub fn deny(call: libc::c_long) {
    let step = |code: u32, jump: [u8; 2], k: u32| libc::sock_filter {
        code: code as u16,
        jt: jump[0],
        jf: jump[1],
        k,
    };
    let refuse = 0x0005_0000 | libc::EPERM as u32;
    let allow = 0x7fff_0000;
    let filter = [
        // The number of the call is the first word that the filter sees.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, [0, 0], 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, [0, 1], call as u32),
        step(libc::BPF_RET | libc::BPF_K, [0, 0], refuse),
        step(libc::BPF_RET | libc::BPF_K, [0, 0], allow),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: plain calls on values that live through them.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program);
    }
}
