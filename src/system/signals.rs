//! Signals: blocked before the first thread, taken one by one by the main thread, and passed on.
//!
//! A blocked signal keeps its disposition, so what the host had set to be ignored is still ignored in
//! the server, and can still be passed on. Blocked signals are never lost between the start and the
//! moment the server exists.

use std::mem::MaybeUninit;
use std::time::Duration;

/// A set of signals.
#[derive(Clone, Copy)]
pub struct Mask(libc::sigset_t);

impl Mask {
    /// Blocks every signal in the calling thread, and in all threads that it starts from now on;
    /// returns what was blocked before.
    pub fn block_all() -> Mask {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: both sets are written before they are read.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Mask(before.assume_init())
        }
    }

    /// Makes this the mask of the calling thread. Safe after `fork`.
    pub fn restore(&self) {
        // SAFETY: `self.0` is a valid set.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// Lets `signal` through to the calling thread.
pub fn unblock(signal: libc::c_int) {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is emptied before it is used.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// What the main thread was woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// A child has changed, or a thread of ours asked for a look around.
    LookAround,
    /// This signal came to us alone: it is to reach the server. SIGCHLD asks for a look around, too.
    Forward(libc::c_int),
    /// A terminal sent this signal to our whole group: the server has it already.
    Kernel(libc::c_int),
    /// Nothing for the time given.
    Timeout,
}

/// Waits for the next signal, for at most `timeout`.
pub fn wait(timeout: Option<Duration>) -> Woken {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the set is filled before it is used, and `info` is a valid place for the result.
    let signal = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        match timeout {
            None => libc::sigwaitinfo(all.as_ptr(), info.as_mut_ptr()),
            Some(timeout) => {
                let time = libc::timespec {
                    tv_sec: timeout.as_secs() as libc::time_t,
                    tv_nsec: timeout.subsec_nanos() as libc::c_long,
                };
                libc::sigtimedwait(all.as_ptr(), info.as_mut_ptr(), &time)
            }
        }
    };
    // SAFETY: zeroed at least, and filled in by the kernel for a signal that was taken; the sender of one that
    // no process sent is another number or nothing.
    let (code, is_ours) = unsafe {
        let info = info.assume_init();
        (info.si_code, info.si_pid() == libc::getpid())
    };
    match signal {
        -1 => Woken::Timeout,
        // From a child, or from a thread of ours, unless another process sent it.
        libc::SIGCHLD if code > 0 || is_ours => Woken::LookAround,
        signal if code > 0 && comes_from_terminals(signal) => Woken::Kernel(signal),
        // Our own CPU time is not the server's, which has a limit of the same size for itself.
        libc::SIGXCPU if code > 0 => Woken::LookAround,
        signal => Woken::Forward(signal),
    }
}

/// Whether the kernel sends this signal to a terminal's whole foreground group. Others, such as that of
/// an `alarm` which was set before we were executed, are meant for the one process that it started.
fn comes_from_terminals(signal: libc::c_int) -> bool {
    matches!(signal, libc::SIGINT | libc::SIGQUIT | libc::SIGHUP | libc::SIGCONT | libc::SIGWINCH)
        || asks_to_stop(signal)
}

/// Job control's ways to stop a program.
pub fn asks_to_stop(signal: libc::c_int) -> bool {
    matches!(signal, libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU)
}

/// The polite ways to tell a program to leave.
pub fn asks_to_leave(signal: libc::c_int) -> bool {
    matches!(signal, libc::SIGTERM | libc::SIGINT | libc::SIGHUP | libc::SIGQUIT)
}

/// Whether this process leads its session: of a terminal that hangs up it alone is told.
pub fn leads_session() -> bool {
    // SAFETY: cannot fail for the calling process.
    unsafe { libc::getsid(0) == libc::getpid() }
}

/// The main thread, as other threads see it.
#[derive(Clone, Copy)]
pub struct MainThread(libc::pthread_t);

impl MainThread {
    /// To be called by the main thread.
    pub fn this() -> MainThread {
        // SAFETY: cannot fail.
        MainThread(unsafe { libc::pthread_self() })
    }

    /// Makes [`wait`] return [`Woken::LookAround`].
    pub fn wake(self) {
        // SAFETY: the main thread lives until the process ends.
        unsafe { libc::pthread_kill(self.0, libc::SIGCHLD) };
    }
}

// SAFETY: a thread's handle may be used by any thread as long as that thread lives.
unsafe impl Send for MainThread {}
// SAFETY: as above.
unsafe impl Sync for MainThread {}

/// Stops this process, as job control asks; returns when somebody lets it go on.
pub fn stop_self() {
    // SAFETY: plain call.
    unsafe { libc::raise(libc::SIGSTOP) };
}
