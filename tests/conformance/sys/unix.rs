//! The calls of Unix, and of Linux where no other system is tested.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// A descriptor that is closed when it is dropped.
pub type Owned = OwnedFd;

/// Variables that name places for files, and a place where no file can be.
pub const PLACES: &[&str] = &["HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "TMPDIR"];
pub const NOWHERE: &str = "/proc/nowhere";

/// Returns a further descriptor of a standard stream.
pub fn standard(fd: i32) -> File {
    let owned = match fd {
        0 => io::stdin().as_fd().try_clone_to_owned(),
        1 => io::stdout().as_fd().try_clone_to_owned(),
        _ => io::stderr().as_fd().try_clone_to_owned(),
    };
    File::from(owned.expect("an open standard stream"))
}

/// Kills a process.
pub fn end(pid: u32) {
    kill(pid, libc::SIGKILL);
}

/// Returns true if this is the status of a process that [`end`] ended, or of a wrapper around it.
pub fn is_ended(status: ExitStatus) -> bool {
    status.signal() == Some(libc::SIGKILL) || status.code() == Some(128 + libc::SIGKILL)
}

/// Lets this process ignore the signals by which hosts ask a server to end.
pub fn be_stubborn() {
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP].into_iter().for_each(ignore);
}

/// Lets a write to a pipe without a reader fail.
pub fn survive_broken_pipes() {
    ignore(libc::SIGPIPE);
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

/// Returns 0: the parts of a program that are used are a small part of its memory.
pub fn image_memory(_pid: u32) -> u64 {
    0
}

/// Returns the CPU time of all threads of a process.
pub fn cpu_time(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    Duration::from_nanos(stats.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum())
}

/// Returns true: the system gives the times of every process.
pub fn knows_cpu_times(_other: u32) -> bool {
    true
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

pub fn ignore(signal: i32) {
    // SAFETY: SIG_IGN is valid for every signal that is passed here.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

pub fn kill(pid: u32, signal: i32) {
    // SAFETY: plain call; a pid that is gone makes it fail.
    unsafe { libc::kill(pid as i32, signal) };
}

/// Ends this process by `signal`.
pub fn die_of(signal: i32) -> ! {
    // SAFETY: plain calls on this process.
    unsafe {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        restore_default(signal);
        // The C library does not raise the signals that it uses itself.
        libc::kill(libc::getpid(), signal);
    }
    std::process::exit(99)
}

pub fn close(fd: RawFd) {
    // SAFETY: a helper server closes its own standard streams, which nothing else here uses.
    unsafe { libc::close(fd) };
}

/// Blocks every signal in this thread and those it starts.
pub fn block_signals() {
    // SAFETY: the set is filled before it is used.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
    }
}

/// Waits for the next blocked signal.
pub fn next_signal() -> i32 {
    next_signal_and_origin(0).0
}

/// Waits for the next signal that is not in `others`, of which bit `n` is signal `n`. Also returns true if a
/// process sent it rather than the kernel.
pub fn next_signal_and_origin(others: u128) -> (i32, bool) {
    // SAFETY: the set is filled before it is used, and `info` is a valid place for the result.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&mut all);
        for signal in (1..128).filter(|signal| others >> signal & 1 == 1) {
            libc::sigdelset(&mut all, signal);
        }
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

/// Leaves the session of the process that started this one.
pub fn new_session() {
    // SAFETY: plain call.
    unsafe { libc::setsid() };
}

pub fn status_flags(fd: RawFd) -> i32 {
    // SAFETY: plain call on an open descriptor.
    unsafe { libc::fcntl(fd, libc::F_GETFL) }
}

/// Lets a file survive `exec`.
pub fn make_inheritable(file: &File) -> io::Result<()> {
    // SAFETY: plain call on an open descriptor.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
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

/// Returns true if a read from a stream would return within so many milliseconds.
pub fn is_readable(from: &impl AsRawFd, milliseconds: i32) -> bool {
    let mut poll = libc::pollfd { fd: from.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid entry.
    unsafe { libc::poll(&mut poll, 1, milliseconds) > 0 }
}

/// Sends `signal` to the process group that `leader` leads.
pub fn kill_group(leader: u32, signal: i32) {
    // SAFETY: plain call; a group that is gone makes it fail.
    unsafe { libc::kill(-(leader as i32), signal) };
}

/// Lets `command` lead a process group of its own.
pub fn own_group(command: &mut Command) {
    command.process_group(0);
}

/// Runs `act` between fork and exec of `command`. `act` may make plain system calls only.
pub fn before_exec(command: &mut Command, act: impl Fn() + Send + Sync + 'static) {
    // SAFETY: callers make nothing but async-signal-safe calls.
    unsafe {
        command.pre_exec(move || {
            act();
            Ok(())
        })
    };
}

/// Blocks one signal in this thread.
pub fn block(signal: i32) {
    // SAFETY: the set is emptied before it is used.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
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

/// Returns true if a process has ended, also if its parent has not collected it.
pub fn is_gone(pid: u32) -> bool {
    matches!(state_of(pid), None | Some('Z' | 'X'))
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

/// Requests SIGALRM in so many seconds. It survives `exec`.
pub fn alarm(seconds: u32) {
    // SAFETY: plain call.
    unsafe { libc::alarm(seconds) };
}

/// Opens a pseudo-terminal: its master, and the side for programs.
pub fn open_terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let (mut master, mut slave) = (0, 0);
    // SAFETY: both places are valid; without names and settings the defaults are used. The two descriptors
    // are new and have no other owner.
    unsafe {
        let null = std::ptr::null_mut();
        if libc::openpty(&mut master, &mut slave, null, std::ptr::null_mut(), std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        for fd in [master, slave] {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
        Ok((OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)))
    }
}

/// Makes this process the leader of a new session that owns the terminal `fd`.
pub fn lead_session_on(fd: RawFd) {
    // SAFETY: plain calls on this process.
    unsafe {
        libc::setsid();
        libc::ioctl(fd, libc::TIOCSCTTY, 0);
    }
}

/// Returns true if the terminal echoes its input.
pub fn set_echo(fd: RawFd, on: bool) {
    // SAFETY: the settings are read before they are changed and written back.
    unsafe {
        let mut settings = std::mem::zeroed();
        libc::tcgetattr(fd, &mut settings);
        settings.c_lflag = if on { settings.c_lflag | libc::ECHO } else { settings.c_lflag & !libc::ECHO };
        libc::tcsetattr(fd, libc::TCSANOW, &settings);
    }
}

/// Gives the terminal of this process to the group of process `pid`.
pub fn give_foreground_to(pid: u32) {
    // SAFETY: plain calls.
    unsafe {
        let terminal = libc::open(c"/dev/tty".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        libc::tcsetpgrp(terminal, pid as i32);
        libc::close(terminal);
    }
}

/// Gives the terminal of this process to its own group. SIGTTOU must be ignored.
pub fn bring_to_foreground() {
    // SAFETY: cannot fail.
    give_foreground_to(unsafe { libc::getpid() } as u32);
}

/// Waits until child `pid` stops, continues or ends. Returns the event as a word, and true for the end.
pub fn wait_for_change(pid: u32) -> (String, bool) {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the result.
    let waited = unsafe { libc::waitpid(pid as i32, &mut status, libc::WUNTRACED | libc::WCONTINUED) };
    if waited < 0 {
        return ("lost".to_owned(), true);
    }
    if libc::WIFSTOPPED(status) {
        ("stopped".to_owned(), false)
    } else if libc::WIFCONTINUED(status) {
        ("continued".to_owned(), false)
    } else if libc::WIFEXITED(status) {
        (format!("exited {}", libc::WEXITSTATUS(status)), true)
    } else {
        (format!("killed {}", libc::WTERMSIG(status)), true)
    }
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
