//! The calls that Linux and macOS share.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

use super::{next_signal_and_origin, restore_default, state_of};

/// A descriptor that is closed when it is dropped.
pub type Owned = OwnedFd;

/// Variables that name places for files.
pub const PLACES: &[&str] = &["HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "TMPDIR"];

/// Returns a further descriptor of a standard stream.
pub fn standard(fd: i32) -> File {
    let owned = match fd {
        0 => io::stdin().as_fd().try_clone_to_owned(),
        1 => io::stdout().as_fd().try_clone_to_owned(),
        _ => io::stderr().as_fd().try_clone_to_owned(),
    };
    File::from(owned.expect("an open standard stream"))
}

/// Waits for the next blocked signal.
pub fn next_signal() -> i32 {
    next_signal_and_origin(0).0
}

/// Returns the set of all signals but `others`, of which bit `n` is signal `n`. A number that the system does not have
/// changes nothing.
pub(super) fn signals_without(others: u128) -> libc::sigset_t {
    // SAFETY: the set is filled before it is used.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&mut set);
        for signal in (1..128).filter(|signal| others >> signal & 1 == 1) {
            libc::sigdelset(&mut set, signal);
        }
        set
    }
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

/// Returns 0: the parts of a program that are used are a small part of its memory.
pub fn image_memory(_pid: u32) -> u64 {
    0
}

/// Returns true: the system gives the times of every process.
pub fn knows_cpu_times(_other: u32) -> bool {
    true
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

/// Lets the program that is executed next inherit only its three standard streams.
pub fn keep_standard_streams() {
    for fd in 3..1024 {
        // SAFETY: a plain call, which fails for a number that is not open.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
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

/// Returns true if a process has ended, also if its parent has not collected it.
pub fn is_gone(pid: u32) -> bool {
    matches!(state_of(pid), None | Some('Z' | 'X'))
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
        libc::ioctl(fd, libc::TIOCSCTTY as _, 0);
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
