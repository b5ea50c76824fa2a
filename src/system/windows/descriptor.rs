//! Blocking reads and writes on handles that the host owns too.
//!
//! A host may give spantap handles that wait (pipes of `CreatePipe`) or that do not (overlapped ones). The calls of the
//! kernel below Win32 take both in the same way: they wait on an event of the calling thread where the handle does not
//! wait itself.

use std::cell::OnceCell;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::time::{Duration, Instant};

use windows_sys::Wdk::Storage::FileSystem::{NtReadFile, NtWriteFile};
use windows_sys::Win32::Foundation::{
    HANDLE, NTSTATUS, RtlNtStatusToDosError, STATUS_END_OF_FILE, STATUS_PENDING, STATUS_PIPE_BROKEN,
    STATUS_PIPE_CLOSING, STATUS_PIPE_DISCONNECTED, STATUS_PIPE_EMPTY,
};
use windows_sys::Win32::Storage::FileSystem::{FILE_TYPE_PIPE, GetFileType};
use windows_sys::Win32::System::Console::GetStdHandle;
use windows_sys::Win32::System::IO::IO_STATUS_BLOCK;
use windows_sys::Win32::System::Pipes::{
    GetNamedPipeHandleStateW, PIPE_NOWAIT, PIPE_READMODE_BYTE, PIPE_WAIT, PeekNamedPipe,
    SetNamedPipeHandleState,
};
use windows_sys::Win32::System::Threading::{CreateEventW, INFINITE, WaitForSingleObject};

/// A handle of this process, or the name of a standard one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawDescriptor(isize);

/// A handle that is closed when it is dropped.
pub type OwnedDescriptor = OwnedHandle;

pub const STDIN: RawDescriptor = RawDescriptor(-10);
pub const STDOUT: RawDescriptor = RawDescriptor(-11);
pub const STDERR: RawDescriptor = RawDescriptor(-12);

/// Bytes of spantap's own lines that are written at once.
pub const PIPE_ROOM: usize = 4096;

/// Pause between two looks at a pipe that cannot be waited for.
const LOOK: Duration = Duration::from_millis(1);

/// Returns the number of handles that this process may have, as far as spantap needs to know.
pub fn limit() -> u64 {
    1 << 20
}

/// Returns the number of a handle.
pub fn raw(handle: &OwnedDescriptor) -> RawDescriptor {
    RawDescriptor(handle.as_raw_handle() as isize)
}

impl RawDescriptor {
    /// Returns the handle that now has this name.
    pub(super) fn handle(self) -> HANDLE {
        match self.standard() {
            // SAFETY: a plain call. The result may be null, and every call refuses that.
            Some(number) => unsafe { GetStdHandle(number) },
            None => self.0 as HANDLE,
        }
    }

    /// Returns the number by which [`RawDescriptor::from_number`] makes this descriptor again.
    pub(super) fn number(self) -> isize {
        self.0
    }

    pub(super) fn from_number(number: isize) -> RawDescriptor {
        RawDescriptor(number)
    }

    /// Returns the number of a standard handle for the system.
    pub(super) fn standard(self) -> Option<u32> {
        (-12..=-10).contains(&self.0).then_some(self.0 as i32 as u32)
    }

    /// Returns true for a pipe or socket.
    pub(super) fn is_pipe(self) -> bool {
        // SAFETY: a plain call, which fails on what is not a handle.
        unsafe { GetFileType(self.handle()) == FILE_TYPE_PIPE }
    }
}

thread_local! {
    /// The event of the calling thread's reads and writes.
    static EVENT: OnceCell<Option<OwnedHandle>> = const { OnceCell::new() };
}

/// Returns the event of the calling thread, which makes it at its first read or write.
fn event() -> io::Result<HANDLE> {
    let new = || {
        // SAFETY: a plain call. Nothing else owns the new handle.
        unsafe {
            let event = CreateEventW(std::ptr::null(), 1, 0, std::ptr::null());
            (!event.is_null()).then(|| OwnedHandle::from_raw_handle(event))
        }
    };
    let made = EVENT.with(|event| event.get_or_init(new).as_ref().map(|event| event.as_raw_handle()));
    made.ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// Makes a call of the kernel and waits for its end. Returns the number of bytes.
///
/// # Safety
/// `call` must pass its arguments on, and the memory that it names must be valid until it ends.
unsafe fn transfer(call: impl FnOnce(HANDLE, *mut IO_STATUS_BLOCK) -> NTSTATUS) -> Result<usize, NTSTATUS> {
    let Ok(event) = event() else { return Err(STATUS_PIPE_DISCONNECTED) };
    // SAFETY: a zeroed block is valid, and it lives until the call has ended.
    unsafe {
        let mut block: IO_STATUS_BLOCK = std::mem::zeroed();
        let mut status = call(event, &mut block);
        if status == STATUS_PENDING {
            WaitForSingleObject(event, INFINITE);
            status = block.Anonymous.Status;
        }
        if status < 0 { Err(status) } else { Ok(block.Information) }
    }
}

/// Reads what is there into `buffer`, up to its size; 0 is the end of the stream.
pub fn read(from: RawDescriptor, buffer: &mut [u8]) -> io::Result<usize> {
    let (start, len) = (buffer.as_mut_ptr().cast(), u32::try_from(buffer.len()).unwrap_or(u32::MAX));
    loop {
        // SAFETY: the buffer is valid for writing `len` bytes until the call has ended.
        let outcome = unsafe {
            transfer(|event, block| {
                NtReadFile(
                    from.handle(),
                    event,
                    None,
                    std::ptr::null(),
                    block,
                    start,
                    len,
                    std::ptr::null(),
                    std::ptr::null(),
                )
            })
        };
        match outcome {
            // A program wrote no bytes to the pipe. The stream goes on.
            Ok(0) if from.is_pipe() => {}
            Ok(count) => return Ok(count),
            Err(STATUS_END_OF_FILE | STATUS_PIPE_BROKEN | STATUS_PIPE_CLOSING | STATUS_PIPE_DISCONNECTED) => {
                return Ok(0);
            }
            // Another process has made the pipe one that does not wait. It keeps its mode.
            Err(STATUS_PIPE_EMPTY) => std::thread::sleep(LOOK),
            Err(status) => return Err(error(status)),
        }
    }
}

/// Writes all of `bytes`.
pub fn write_all(to: RawDescriptor, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match write(to, bytes) {
            // The pipe is full, and another process has made it one that does not wait.
            Ok(0) => std::thread::sleep(LOOK),
            Ok(count) => bytes = &bytes[count.min(bytes.len())..],
            Err(status) => return Err(error(status)),
        }
    }
    Ok(())
}

fn write(to: RawDescriptor, bytes: &[u8]) -> Result<usize, NTSTATUS> {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    // SAFETY: the slice is valid for reading `len` bytes until the call has ended.
    unsafe {
        transfer(|event, block| {
            NtWriteFile(
                to.handle(),
                event,
                None,
                std::ptr::null(),
                block,
                bytes.as_ptr().cast(),
                len,
                std::ptr::null(),
                std::ptr::null(),
            )
        })
    }
}

fn error(status: NTSTATUS) -> io::Error {
    // SAFETY: a plain call.
    io::Error::from_raw_os_error(unsafe { RtlNtStatusToDosError(status) } as i32)
}

/// Writes `bytes` in one call that does not wait, even if other programs have just filled the pipe. Returns false if
/// the system did not take all of them. The pipe is one that does not wait only during the call, and nothing else
/// writes to it meanwhile. After it the pipe has the mode from before, which other processes may have chosen.
pub fn write_once(to: RawDescriptor, bytes: &[u8]) -> bool {
    if !to.is_pipe() {
        return write(to, bytes) == Ok(bytes.len());
    }
    // SAFETY: `mode` is a valid place through the call.
    let set = |mode: u32| unsafe {
        SetNamedPipeHandleState(to.handle(), &mode, std::ptr::null(), std::ptr::null())
    };
    let before = pipe_mode(to).unwrap_or(PIPE_READMODE_BYTE | PIPE_WAIT);
    set(before | PIPE_NOWAIT);
    let written = write(to, bytes) == Ok(bytes.len());
    set(before);
    written
}

/// Returns how a pipe waits and how it is read; `None` if this handle may not ask.
fn pipe_mode(pipe: RawDescriptor) -> Option<u32> {
    let (mut mode, nothing) = (0, std::ptr::null_mut());
    // SAFETY: `mode` is a valid place for the result, and nothing else is asked for.
    let found = unsafe {
        GetNamedPipeHandleStateW(pipe.handle(), &mut mode, nothing, nothing, nothing, std::ptr::null_mut(), 0)
    };
    (found != 0).then_some(mode)
}

/// Waits for bytes or the end of the stream, for at most `time`. Returns false if the time passed. Bytes of anything but
/// a pipe are not waited for: a read finds out.
pub fn is_readable_within(from: RawDescriptor, time: Duration) -> bool {
    has_bytes_within(from, time)
}

/// Waits for bytes or the end of the stream, for at most `time`. Returns false if the time passed.
pub fn has_bytes_within(from: RawDescriptor, time: Duration) -> bool {
    let begin = Instant::now();
    while waiting(from) == Some(0) {
        if begin.elapsed() >= time {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}

/// Returns the number of bytes that wait in a pipe; `None` if it has ended, or is not a pipe.
pub(super) fn waiting(from: RawDescriptor) -> Option<u32> {
    let mut count = 0;
    // SAFETY: `count` is a valid place for the result. On a handle of another kind the call fails.
    let found = unsafe {
        PeekNamedPipe(
            from.handle(),
            std::ptr::null_mut(),
            0,
            std::ptr::null_mut(),
            &mut count,
            std::ptr::null_mut(),
        )
    };
    (found != 0).then_some(count)
}

/// Returns true: [`write_once`] does not wait for room.
pub fn is_writable_within(_to: RawDescriptor, _time: Duration) -> bool {
    true
}
