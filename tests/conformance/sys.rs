//! The system calls that the helper servers and the cases need, each with a safe face.

use std::io;
use std::os::fd::RawFd;

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
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
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

/// Takes the next blocked signal.
pub fn next_signal() -> i32 {
    // SAFETY: the set is filled before it is used, and `signal` is a valid place for the result.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&mut all);
        let mut signal = 0;
        libc::sigwait(&all, &mut signal);
        signal
    }
}

/// Leaves the session of whoever started us.
pub fn new_session() {
    // SAFETY: plain call.
    unsafe { libc::setsid() };
}

pub fn status_flags(fd: RawFd) -> i32 {
    // SAFETY: plain call on an open descriptor.
    unsafe { libc::fcntl(fd, libc::F_GETFL) }
}

/// Lets `fd` survive `exec`.
pub fn make_inheritable(fd: RawFd) -> io::Result<()> {
    // SAFETY: plain call on an open descriptor.
    match unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A relay that lost its host may end with it, so that broken ones leave nothing behind.
pub fn die_with_parent() {
    // SAFETY: plain call.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}
