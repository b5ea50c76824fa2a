//! Events of the console, under the names of the signals that they correspond to. The console tells the server itself.

use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::signal::windows::{CtrlBreak, CtrlC, CtrlClose, CtrlShutdown};
use windows_sys::Win32::Foundation::{STATUS_CONTROL_C_EXIT, WAIT_FAILED, WAIT_OBJECT_0, WAIT_TIMEOUT};
use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, CTRL_C_EVENT, CTRL_CLOSE_EVENT, SetConsoleCtrlHandler,
};
use windows_sys::Win32::System::Threading::{CreateEventW, INFINITE, SetEvent, WaitForMultipleObjects};
use windows_sys::core::BOOL;

use crate::system::process;

/// Numbers of the C library.
const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGBREAK: i32 = 21;

/// Signals that came and were not taken, as bits.
static NOTED: AtomicU32 = AtomicU32::new(0);
/// Wakes the main thread.
static WAKE: OnceLock<Option<OwnedHandle>> = OnceLock::new();

/// The set of signals that wait. Windows has none.
#[derive(Clone, Copy)]
pub struct SignalMask(());

impl SignalMask {
    /// Does nothing: an event of the console waits only for [`MainThread::this`].
    ///
    /// # Errors
    /// Never.
    pub fn block_all() -> std::io::Result<SignalMask> {
        Ok(SignalMask(()))
    }

    /// Returns `None`: Windows has no mask.
    pub fn if_starts_change_it() -> Option<SignalMask> {
        None
    }

    /// Does nothing.
    pub fn restore(&self) {}
}

/// Reason why the main thread woke up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The server has ended, or a thread of spantap called [`MainThread::wake`].
    LookAround,
    /// This signal came to spantap alone and must be forwarded. Windows has no such signal.
    Forward(i32),
    /// The console sent this signal to all its programs, so the server already has it.
    Kernel(i32),
    /// The time-out passed.
    Timeout,
}

impl Woken {
    /// Returns true if the server may have ended.
    pub fn asks_to_look(self) -> bool {
        self == Woken::LookAround
    }
}

/// Waits for the next event, for at most `timeout`.
pub fn wait(timeout: Option<Duration>) -> Woken {
    let most = |timeout: Duration| u32::try_from(timeout.as_millis()).unwrap_or(INFINITE).min(INFINITE - 1);
    let time = timeout.map_or(INFINITE, most);
    let wake = WAKE.get().and_then(Option::as_ref).map(|event| event.as_raw_handle());
    let mut handles = [std::ptr::null_mut(); 2];
    let mut count = 0;
    for handle in wake.into_iter().chain(process::server()) {
        handles[count] = handle;
        count += 1;
    }
    // SAFETY: the first `count` handles are open.
    let woken = unsafe { WaitForMultipleObjects(count as u32, handles.as_ptr(), 0, time) };
    match woken {
        WAIT_TIMEOUT => Woken::Timeout,
        // A wait that the system refuses must not hide the end of the server.
        WAIT_FAILED => {
            std::thread::sleep(Duration::from_millis(50));
            Woken::LookAround
        }
        WAIT_OBJECT_0 if wake.is_some() => taken().map_or(Woken::LookAround, Woken::Kernel),
        _ => Woken::LookAround,
    }
}

/// Takes one of the noted signals. The next wait ends at once if there are more.
fn taken() -> Option<i32> {
    let noted = NOTED.load(Ordering::Acquire);
    let signal = (noted != 0).then(|| noted.trailing_zeros() as i32)?;
    if NOTED.fetch_and(!(1 << signal), Ordering::AcqRel) & !(1 << signal) != 0 {
        wake();
    }
    Some(signal)
}

fn wake() {
    if let Some(Some(event)) = WAKE.get() {
        // SAFETY: the event is open as long as the process lives.
        unsafe { SetEvent(event.as_raw_handle()) };
    }
}

/// Notes an event of the console. The system calls this on a thread of its own.
unsafe extern "system" fn note(event: u32) -> BOOL {
    let signal = match event {
        CTRL_C_EVENT => SIGINT,
        CTRL_BREAK_EVENT => SIGBREAK,
        CTRL_CLOSE_EVENT => SIGHUP,
        _ => SIGTERM,
    };
    NOTED.fetch_or(1 << signal, Ordering::AcqRel);
    wake();
    if matches!(signal, SIGHUP | SIGTERM) {
        // The system ends the process when this returns. Until then the main thread ends it, if it can.
        loop {
            std::thread::park();
        }
    }
    1
}

/// Notes the events of the console from now on.
fn watch() -> std::io::Result<()> {
    // SAFETY: the handler lives as long as the process.
    super::checked(unsafe { SetConsoleCtrlHandler(Some(note), 1) })
}

/// Returns true for the signals by which job control stops a program. Windows has none.
pub fn asks_to_stop(_signal: i32) -> bool {
    false
}

/// Returns true for the signals that ask a program to exit, which all do.
pub fn asks_to_leave(_signal: i32) -> bool {
    true
}

/// Returns true for the signal that continues a stopped program. Windows has none.
pub fn asks_to_go_on(_signal: i32) -> bool {
    false
}

/// Returns true for the signals by which some hosts end a server.
pub fn is_polite_end(_signal: i32) -> bool {
    true
}

/// Returns false: the console tells all its programs.
pub fn is_for_the_leader(_signal: i32) -> bool {
    false
}

/// Does nothing: a program may read the console from the background.
pub fn allow_stops_by_reads() {}

/// Leaves Ctrl-C to a program that has taken over the console.
pub fn leave_the_keyboard() {
    // SAFETY: a plain call: this process ignores Ctrl-C from now on.
    unsafe { SetConsoleCtrlHandler(None, 1) };
}

/// Handle of the main thread, for other threads.
#[derive(Clone, Copy)]
pub struct MainThread(());

impl MainThread {
    /// Returns the handle, and notes the events of the console from now on.
    pub fn this() -> MainThread {
        WAKE.get_or_init(|| {
            let _ = watch();
            // SAFETY: a plain call. Nothing else owns the new handle.
            unsafe {
                let event = CreateEventW(std::ptr::null(), 0, 0, std::ptr::null());
                (!event.is_null()).then(|| OwnedHandle::from_raw_handle(event))
            }
        });
        MainThread(())
    }

    /// Makes [`wait`] return [`Woken::LookAround`].
    pub fn wake(self) {
        wake();
    }
}

/// Does nothing: Windows has no job control.
pub fn stop_self() {}

/// Signals that ask a program on the screen to end, kept until it looks.
pub struct NotedSignal(());

impl NotedSignal {
    /// Notes the signals from now on.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn watch() -> std::io::Result<NotedSignal> {
        watch()?;
        Ok(NotedSignal(()))
    }

    /// Returns a signal that came since the last call.
    pub fn take(&self) -> Option<i32> {
        taken()
    }
}

/// Ends this process as Ctrl-C does.
pub fn die_of(_signal: i32) {
    process::exit_at_once(STATUS_CONTROL_C_EXIT)
}

/// Events that ask a program with a runtime to leave.
pub struct LeaveSignals {
    interrupt: CtrlC,
    interrupt_all: CtrlBreak,
    close: CtrlClose,
    shutdown: CtrlShutdown,
}

impl LeaveSignals {
    /// Takes the events from now on. Must be called within the runtime.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn take() -> std::io::Result<LeaveSignals> {
        use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};
        Ok(LeaveSignals {
            interrupt: ctrl_c()?,
            interrupt_all: ctrl_break()?,
            close: ctrl_close()?,
            shutdown: ctrl_shutdown()?,
        })
    }

    /// Waits for the next event.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.interrupt_all.recv() => {}
            _ = self.close.recv() => {}
            _ = self.shutdown.recv() => {}
        }
    }
}
