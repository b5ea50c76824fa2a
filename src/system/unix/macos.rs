//! macOS: what Linux does differently.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

pub mod ports;
pub mod processes;
mod watcher;

/// Makes a pipe, read end first. Neither end survives `exec`.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for the two descriptors. This runs on the main thread before any other thread exists, so
    // nothing forks between the calls.
    unsafe {
        if libc::pipe(ends.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        for end in ends {
            libc::fcntl(end, libc::F_SETFD, libc::FD_CLOEXEC);
        }
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// Returns the variables of this process's environment in their order.
pub(super) fn inherited() -> Vec<Vec<u8>> {
    std::env::vars_os().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat()).collect()
}

pub(super) use watcher::start as kill_with_us;

/// Does nothing: macOS has no parent-death signal. [`kill_with_us`] takes its place.
pub(super) fn die_with(_parent: libc::pid_t) {}

/// Executes the first word of `argv`, which is looked up in PATH. Returns if this fails.
///
/// # Safety
/// Both arrays must end with a null pointer, and the others must point to C strings.
pub(super) unsafe fn exec(argv: &[*const libc::c_char], envp: Option<&[*const libc::c_char]>) {
    // SAFETY: the caller keeps the contract of this function. The child has one thread, so nothing reads the
    // environment while it is replaced.
    unsafe {
        if let Some(envp) = envp {
            *libc::_NSGetEnviron() = envp.as_ptr().cast_mut().cast();
        }
        libc::execvp(argv[0], argv.as_ptr());
    }
}

/// Does nothing: the limit of core files is enough.
pub(super) fn forbid_core_dump() {}

pub(super) type SignalSet = libc::sigset_t;

pub(super) fn all_signals() -> SignalSet {
    // SAFETY: zeros are an empty set, which the call fills.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&mut set);
        set
    }
}

pub(super) fn no_signals() -> SignalSet {
    // SAFETY: zeros are an empty set.
    unsafe { std::mem::zeroed() }
}

pub(super) fn one_signal(signal: libc::c_int) -> SignalSet {
    // SAFETY: zeros are an empty set.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigaddset(&mut set, signal);
        set
    }
}

/// Lets the signals that do nothing by default wait while they are blocked. The kernel drops them unless they have a
/// handler. `exec` gives them back their default disposition.
pub(super) fn keep_blocked_signals() {
    extern "C" fn nothing(_: libc::c_int) {}
    for signal in [libc::SIGCHLD, libc::SIGURG, libc::SIGIO, libc::SIGWINCH, libc::SIGINFO, libc::SIGCONT] {
        // SAFETY: a zeroed structure is a valid place for the present action, and the handler does nothing.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, std::ptr::null(), &mut action) == 0
                && action.sa_sigaction == libc::SIG_DFL
            {
                action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
                action.sa_flags = libc::SA_RESTART;
                libc::sigaction(signal, &action, std::ptr::null_mut());
            }
        }
    }
}

/// Changes the signal mask of the calling thread, and returns the one from before. Async-signal-safe.
pub(super) fn change_mask(how: libc::c_int, set: &SignalSet) -> io::Result<SignalSet> {
    // SAFETY: both sets are valid places.
    unsafe {
        let mut before = std::mem::zeroed();
        match libc::pthread_sigmask(how, set, &mut before) {
            0 => Ok(before),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Gives `signal` its default disposition.
pub(super) fn restore_default(signal: libc::c_int) {
    // SAFETY: SIG_DFL is valid for every signal that has a disposition.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Sends `signal` to the calling thread.
pub(super) fn raise(signal: libc::c_int) {
    // SAFETY: a plain call.
    unsafe { libc::raise(signal) };
}

/// Interval of the look for signals while a time-out runs.
const LOOK: Duration = Duration::from_millis(10);

/// Takes a signal that waits or comes within `timeout`. Returns -1 and sets `errno` to `EAGAIN` without one.
/// macOS has no wait with a time-out, and does not report who sent a signal. While spantap is in the foreground of its
/// terminal, the signals that terminals send count as the terminal's.
pub(super) fn take_signal(info: &mut libc::siginfo_t, timeout: Option<Duration>) -> libc::c_int {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut signal = 0;
    // SAFETY: the sets and numbers are valid places through the calls.
    unsafe {
        while let Some(deadline) = deadline {
            let mut pending: libc::sigset_t = std::mem::zeroed();
            libc::sigpending(&mut pending);
            if (1..32).any(|signal| libc::sigismember(&pending, signal) == 1) {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                *libc::__error() = libc::EAGAIN;
                return -1;
            }
            std::thread::sleep(left.min(LOOK));
        }
        match libc::sigwait(&all_signals(), &mut signal) {
            0 => {
                let is_kernels = matches!(signal, libc::SIGCHLD | libc::SIGXCPU) || is_in_foreground();
                info.si_code = i32::from(is_kernels);
                signal
            }
            error => {
                *libc::__error() = error;
                -1
            }
        }
    }
}

/// Returns true if this process belongs to the group that its terminal sends signals to.
fn is_in_foreground() -> bool {
    // SAFETY: plain calls, and the descriptor is open between them.
    unsafe {
        let terminal = libc::open(c"/dev/tty".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK);
        let is_ours = terminal >= 0 && libc::tcgetpgrp(terminal) == libc::getpgrp();
        if terminal >= 0 {
            libc::close(terminal);
        }
        is_ours
    }
}

/// Returns `None`: macOS has no write that does not wait on a descriptor which waits otherwise.
pub(super) fn write_without_waiting(_fd: RawFd, _bytes: &[u8]) -> Option<bool> {
    None
}

/// Returns `None`: the size of a pipe cannot be changed, and `fd` may be a socket.
pub(super) fn widen_pipe(_fd: RawFd, _more: libc::c_int) -> Option<bool> {
    None
}

/// Returns false: macOS has no such call.
pub(super) fn close_all_at_once() -> bool {
    false
}

/// Lets other threads run first. The class below this one may not run at all while the machine saves energy.
pub(super) fn lower_priority() {
    // SAFETY: a plain call on the calling thread.
    unsafe { libc::pthread_set_qos_class_self_np(libc::qos_class_t::QOS_CLASS_UTILITY, 0) };
}

/// Returns the effective user of this process.
pub(super) fn effective_user() -> Option<u32> {
    Some(rustix::process::geteuid().as_raw())
}

/// Gives `new` the access list of `old`, which is not among the extended attributes.
pub(super) fn copy_access_list(old: &File, new: &File) -> io::Result<()> {
    // SAFETY: both descriptors are open through the call, which needs no further state.
    let outcome = unsafe {
        libc::fcopyfile(old.as_raw_fd(), new.as_raw_fd(), std::ptr::null_mut(), libc::COPYFILE_ACL)
    };
    let error = io::Error::last_os_error();
    // The file system may have no access lists.
    let is_done = outcome >= 0 || error.raw_os_error() == Some(libc::ENOTSUP);
    if is_done { Ok(()) } else { Err(error) }
}
