//! Signals: blocked before the first thread, taken one by one by the main thread, and forwarded.
//!
//! A blocked signal keeps its disposition, so a signal that the host ignores is also ignored in the server and
//! can still be forwarded. A signal that is blocked between the start and the moment the server exists is not
//! lost.

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use super::own;

#[derive(Clone, Copy)]
pub struct SignalMask(own::SignalSet);

impl SignalMask {
    /// Blocks every signal in the calling thread and in all threads that it starts from now on. Returns the
    /// mask from before.
    ///
    /// # Errors
    /// If the system refuses the call.
    pub fn block_all() -> std::io::Result<SignalMask> {
        own::keep_blocked_signals();
        own::change_mask(libc::SIG_SETMASK, &own::all_signals()).map(SignalMask)
    }

    /// Returns the mask of the calling thread, if the C library changes it when it starts another thread. Both of Linux
    /// unblock signals that they use themselves: glibc in the new thread, and with the first one also in the calling
    /// thread; musl in both threads.
    pub fn if_starts_change_it() -> Option<SignalMask> {
        let read = || own::change_mask(libc::SIG_BLOCK, &own::no_signals()).map(SignalMask).ok();
        if cfg!(target_os = "linux") { read() } else { None }
    }

    /// Makes this the mask of the calling thread. Safe after `fork`.
    pub fn restore(&self) {
        let _ = own::change_mask(libc::SIG_SETMASK, &self.0);
    }
}

/// Unblocks `signal` in the calling thread.
pub fn unblock(signal: libc::c_int) {
    let _ = own::change_mask(libc::SIG_UNBLOCK, &own::one_signal(signal));
}

/// Reason why the main thread woke up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// A child has changed, or a thread of spantap called [`MainThread::wake`].
    LookAround,
    /// This signal came to spantap alone and must be forwarded. SIGCHLD also asks for a look around.
    Forward(libc::c_int),
    /// A terminal sent this signal to the whole process group, so the server already has it.
    Kernel(libc::c_int),
    /// The time-out passed.
    Timeout,
}

impl Woken {
    /// Returns true if the server may have ended.
    pub fn asks_to_look(self) -> bool {
        matches!(self, Woken::LookAround | Woken::Forward(libc::SIGCHLD))
    }
}

/// Waits for the next signal, for at most `timeout`.
pub fn wait(timeout: Option<Duration>) -> Woken {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: a zeroed `info` is a valid value.
    let signal = own::take_signal(unsafe { info.assume_init_mut() }, timeout);
    let errno = std::io::Error::last_os_error().raw_os_error();
    // SAFETY: `info` is zeroed, and the kernel fills it in for a signal that was taken. The sender's field of a
    // signal that no process sent has another value or 0.
    let (code, is_ours) = unsafe {
        let info = info.assume_init();
        (info.si_code, info.si_pid() == libc::getpid())
    };
    match signal {
        // A sandbox that refuses the wait must not hide the end of the server.
        -1 if !matches!(errno, Some(libc::EAGAIN | libc::EINTR)) => {
            std::thread::sleep(timeout.unwrap_or(Duration::MAX).min(Duration::from_millis(50)));
            Woken::LookAround
        }
        -1 => Woken::Timeout,
        // A child or a thread of spantap sent it, and not another process.
        libc::SIGCHLD if code > 0 || is_ours => Woken::LookAround,
        signal if code > 0 && comes_from_terminals(signal) => Woken::Kernel(signal),
        // This limit is on spantap's own CPU time. The server has a limit of the same size for itself.
        libc::SIGXCPU if code > 0 => Woken::LookAround,
        signal => Woken::Forward(signal),
    }
}

/// Returns true if the kernel sends this signal to the whole foreground group of a terminal. Other signals,
/// such as that of an `alarm` set before spantap was executed, are meant for one process.
fn comes_from_terminals(signal: libc::c_int) -> bool {
    matches!(signal, libc::SIGINT | libc::SIGQUIT | libc::SIGHUP | libc::SIGCONT | libc::SIGWINCH)
        || asks_to_stop(signal)
}

/// Returns true for the signals by which job control stops a program.
pub fn asks_to_stop(signal: libc::c_int) -> bool {
    matches!(signal, libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU)
}

/// Returns true for the signals that ask a program to exit.
pub fn asks_to_leave(signal: libc::c_int) -> bool {
    matches!(signal, libc::SIGTERM | libc::SIGINT | libc::SIGHUP | libc::SIGQUIT)
}

/// Returns true for the signal that continues a stopped program.
pub fn asks_to_go_on(signal: libc::c_int) -> bool {
    signal == libc::SIGCONT
}

/// Returns true for the signals by which some hosts end a server.
pub fn is_polite_end(signal: libc::c_int) -> bool {
    matches!(signal, libc::SIGTERM | libc::SIGINT | libc::SIGHUP)
}

/// Returns true if the kernel sent this signal to this process only: a terminal that hangs up signals the leader of its
/// session.
pub fn is_for_the_leader(signal: libc::c_int) -> bool {
    // SAFETY: cannot fail for the calling process.
    signal == libc::SIGHUP && unsafe { libc::getsid(0) == libc::getpid() }
}

/// Lets the kernel stop this process when the calling thread reads a terminal from the background. If the signal for
/// this is blocked, the read fails instead.
pub fn allow_stops_by_reads() {
    unblock(libc::SIGTTIN);
}

/// Leaves Ctrl-C and Ctrl-\ to a program that has taken over the terminal.
pub fn leave_the_keyboard() {
    if SignalMask::block_all().is_ok() {
        for signal in [libc::SIGHUP, libc::SIGTERM, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
            unblock(signal);
        }
    }
}

/// Signals that ask a program on the screen to end or to stop, kept until it looks.
pub struct NotedSignal(Arc<AtomicUsize>);

impl NotedSignal {
    /// Notes the signals from now on.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn watch() -> std::io::Result<NotedSignal> {
        let noted = Arc::new(AtomicUsize::new(0));
        for number in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP] {
            signal_hook::flag::register_usize(number, Arc::clone(&noted), number as usize)?;
        }
        Ok(NotedSignal(noted))
    }

    /// Returns the last signal that came since the last call.
    pub fn take(&self) -> Option<libc::c_int> {
        match self.0.swap(0, Ordering::Relaxed) {
            0 => None,
            signal => Some(signal as libc::c_int),
        }
    }
}

/// Ends this process by the signal, as if it had not been caught.
pub fn die_of(signal: libc::c_int) {
    let _ = signal_hook::low_level::emulate_default_handler(signal);
}

/// Signals that ask a program with a runtime to leave.
pub struct LeaveSignals([SignalStream; 3]);

impl LeaveSignals {
    /// Takes the signals from now on. Must be called within the runtime.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn take() -> std::io::Result<LeaveSignals> {
        let [terminate, interrupt, hangup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        Ok(LeaveSignals([terminate?, interrupt?, hangup?]))
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Handle of the main thread, for other threads.
#[derive(Clone, Copy)]
pub struct MainThread(libc::pthread_t);

impl MainThread {
    /// Returns the handle. Only the main thread may call this.
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

// SAFETY: any thread may use the handle of a thread that lives.
unsafe impl Send for MainThread {}
// SAFETY: as above.
unsafe impl Sync for MainThread {}

/// Stops this process, as job control asks. Returns once the process is continued.
pub fn stop_self() {
    // SAFETY: plain call.
    unsafe { libc::raise(libc::SIGSTOP) };
}
