//! The three standard handles of this process.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::io::{BorrowedHandle, FromRawHandle, IntoRawHandle, OwnedHandle};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicIsize, AtomicU8, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use windows_sys::Wdk::Storage::FileSystem::{
    FILE_PIPE_LOCAL_INFORMATION, FilePipeLocalInformation, NtQueryInformationFile,
};
use windows_sys::Win32::Foundation::{
    CloseHandle, CompareObjectHandles, DUPLICATE_SAME_ACCESS, DuplicateHandle, HANDLE, HANDLE_FLAG_INHERIT,
    SetHandleInformation,
};
use windows_sys::Win32::System::Console::{GetConsoleMode, SetStdHandle};
use windows_sys::Win32::System::IO::IO_STATUS_BLOCK;
use windows_sys::Win32::System::Threading::GetCurrentProcess;

use crate::system::descriptor::{self, RawDescriptor, STDERR, STDIN, STDOUT};
use crate::system::thread::{self, Duty};

/// Prevents that the server inherits the host's handles: it would hold them open after spantap's end.
pub(super) fn keep_from_children() {
    for standard in [STDIN, STDOUT, STDERR] {
        // SAFETY: a plain call, which fails on what is not a handle.
        unsafe { SetHandleInformation(standard.handle(), HANDLE_FLAG_INHERIT, 0) };
    }
}

/// Returns a further handle of what `from` names.
fn copy(from: RawDescriptor) -> io::Result<OwnedHandle> {
    let mut copy = std::ptr::null_mut();
    // SAFETY: `copy` is a valid place for the new handle, which nothing else owns.
    unsafe {
        let this = GetCurrentProcess();
        super::checked(DuplicateHandle(this, from.handle(), this, &mut copy, 0, 0, DUPLICATE_SAME_ACCESS))?;
        Ok(OwnedHandle::from_raw_handle(copy))
    }
}

/// Moves standard output to a handle that only its pump knows, and lets standard output be standard error, so that a
/// stray print of any crate cannot reach the wire.
pub fn take_stdout() -> io::Result<OwnedHandle> {
    let taken = copy(STDOUT)?;
    let (before, stderr) = (STDOUT.handle(), STDERR.handle());
    set(STDOUT, stderr);
    if before != stderr {
        // SAFETY: standard output has another handle now, and the copy stays open.
        unsafe { CloseHandle(before) };
    }
    Ok(taken)
}

/// Takes a copy of standard error, a handle that only its pump knows.
///
/// # Errors
/// If the system refuses a handle.
pub fn copy_stderr() -> io::Result<OwnedHandle> {
    copy(STDERR)
}

/// Returns true if what is written to standard error appears in standard output: both are the same file or pipe, or
/// both are consoles.
pub fn outputs_are_one() -> bool {
    // SAFETY: a plain call, which compares what the handles name.
    let are_same = unsafe { CompareObjectHandles(STDOUT.handle(), STDERR.handle()) } != 0;
    are_same || is_terminal(STDOUT) && is_terminal(STDERR)
}

/// Replaces a standard handle with the null device, and closes it for the peer.
pub fn silence(standard: RawDescriptor) {
    let before = standard.handle();
    let null = OpenOptions::new().read(true).write(true).open("NUL");
    set(standard, null.map_or(std::ptr::null_mut(), IntoRawHandle::into_raw_handle));
    // Standard output may be standard error, which another call closes.
    let is_used = [STDIN, STDOUT, STDERR].iter().any(|other| other.handle() == before);
    if !is_used && !before.is_null() {
        // SAFETY: no standard name has this handle any more.
        unsafe { CloseHandle(before) };
    }
}

fn set(standard: RawDescriptor, handle: HANDLE) {
    if let Some(number) = standard.standard() {
        // SAFETY: a plain call.
        unsafe { SetStdHandle(number, handle) };
    }
}

/// Returns a file that writes to standard output as it is, without a buffer and whatever colours are wanted.
///
/// # Errors
/// If the system refuses a handle.
pub(crate) fn open_stdout() -> io::Result<File> {
    Ok(copy(STDOUT)?.into())
}

/// Returns true if `descriptor` is a console.
pub fn is_terminal(descriptor: RawDescriptor) -> bool {
    let mut mode = 0;
    // SAFETY: `mode` is a valid place for the result. On a handle of another kind the call fails.
    unsafe { GetConsoleMode(descriptor.handle(), &mut mode) != 0 }
}

/// Returns the number of bytes that wait in a pipe of spantap's own; 0 if unknown.
pub fn waiting(from: RawDescriptor) -> u64 {
    descriptor::waiting(from).unwrap_or(0).into()
}

/// Returns true if `descriptor` is a pipe or socket. A peer that closes its end of anything else cannot be noticed.
pub fn has_peer(descriptor: RawDescriptor) -> bool {
    descriptor.is_pipe()
}

/// The thread that asks the system about the other end of a pipe, and the thread that waits for the answer.
static ASKING: OnceLock<[Thread; 2]> = OnceLock::new();
/// The pipe that it is to ask about.
static PIPE: AtomicIsize = AtomicIsize::new(0);
/// State of the other end of that pipe, as far as it is known.
static PEER: AtomicU8 = AtomicU8::new(IS_THERE);
const IS_THERE: u8 = 0;
const IS_GONE: u8 = 1;
/// The system has not answered yet.
const IS_ASKED_FOR: u8 = 2;

/// Starts the thread that [`has_lost_peer`] needs. The calling thread is the one that will ask.
///
/// # Errors
/// If the system refuses a thread.
pub fn prepare_for_lost_peers() -> io::Result<()> {
    const STACK: usize = 64 << 10;
    let ask = || loop {
        if PEER.load(Ordering::Acquire) == IS_ASKED_FOR {
            let is_there = is_open(RawDescriptor::from_number(PIPE.load(Ordering::Relaxed)));
            PEER.store(if is_there { IS_THERE } else { IS_GONE }, Ordering::Release);
            ASKING.get().into_iter().for_each(|[_, waiting]| waiting.unpark());
        }
        std::thread::park();
    };
    let asking = thread::spawn_with_stack(Duty::Relay, "peer", STACK, ask)?;
    let _ = ASKING.set([asking, std::thread::current()]);
    Ok(())
}

/// Returns true if the other end of a pipe is closed. The system does not answer while a pump writes to the pipe and
/// waits for room. Its reader then exists, so the answer is waited for only shortly. Allocates nothing.
pub fn has_lost_peer(pipe: RawDescriptor) -> bool {
    const PATIENCE: Duration = Duration::from_millis(50);
    let Some([asking, _]) = ASKING.get() else { return false };
    if PEER.load(Ordering::Acquire) == IS_ASKED_FOR {
        return false;
    }
    PIPE.store(pipe.number(), Ordering::Relaxed);
    PEER.store(IS_ASKED_FOR, Ordering::Release);
    asking.unpark();
    let begin = Instant::now();
    loop {
        match (PEER.load(Ordering::Acquire), PATIENCE.checked_sub(begin.elapsed())) {
            (IS_ASKED_FOR, Some(left)) => std::thread::park_timeout(left),
            (answer, _) => return answer == IS_GONE,
        }
    }
}

fn is_open(pipe: RawDescriptor) -> bool {
    /// `FILE_PIPE_CONNECTED_STATE` of `<ntifs.h>`.
    const CONNECTED: u32 = 3;
    // SAFETY: both zeroed structures are valid places for the results.
    unsafe {
        let mut block: IO_STATUS_BLOCK = std::mem::zeroed();
        let mut facts: FILE_PIPE_LOCAL_INFORMATION = std::mem::zeroed();
        let size = size_of_val(&facts) as u32;
        let facts_place = (&raw mut facts).cast();
        let status =
            NtQueryInformationFile(pipe.handle(), &mut block, facts_place, size, FilePipeLocalInformation);
        status < 0 || facts.NamedPipeState == CONNECTED
    }
}

/// Returns false: the size of a pipe cannot be changed.
pub fn widen(_to: RawDescriptor, _more: u64) -> bool {
    false
}

/// Returns the columns of the console that standard output is, 80 if it does not know them; `None` for a pipe or file.
pub(crate) fn terminal_width() -> Option<usize> {
    let handle = STDOUT.handle();
    if !is_terminal(STDOUT) {
        return None;
    }
    // SAFETY: standard output is a console here, and stays open through the call.
    let output = unsafe { BorrowedHandle::borrow_raw(handle) };
    Some(terminal_size::terminal_size_of(output).map_or(80, |(width, _)| width.0.into()))
}
