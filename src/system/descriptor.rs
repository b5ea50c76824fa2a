//! Blocking reads and writes on descriptors that the host owns too.
//!
//! A `File` would close such a descriptor, and `std::io::stdout()` would hold back half a line.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// Reads what is there into `buffer`, up to its size; 0 is the end of the stream.
pub fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: the buffer is valid for writing `len` bytes.
        let count = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
        match usize::try_from(count) {
            Ok(count) => return Ok(count),
            Err(_) => again(fd, libc::POLLIN)?,
        }
    }
}

/// Writes all of `bytes`.
pub fn write_all(fd: RawFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // SAFETY: the slice is valid for reading `len` bytes.
        let count = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(count) {
            Ok(count) => bytes = &bytes[count..],
            Err(_) => again(fd, libc::POLLOUT)?,
        }
    }
    Ok(())
}

/// Writes `bytes` in one call. Returns false if the system did not take all of them.
pub fn write_once(fd: RawFd, bytes: &[u8]) -> bool {
    // SAFETY: the slice is valid for reading `len` bytes.
    usize::try_from(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) }) == Ok(bytes.len())
}

/// Waits for bytes or the end of the stream, for at most `time`. Returns false if the time passed, or if a signal
/// cut the wait short. If the system refuses to wait, a read finds out.
pub fn is_readable_within(fd: RawFd, time: Duration) -> bool {
    poll(fd, libc::POLLIN, time).is_none_or(|events| events != 0)
}

/// Waits for room to write, for at most `time`. Returns false if the time passed or the reader is gone.
pub fn is_writable_within(fd: RawFd, time: Duration) -> bool {
    poll(fd, libc::POLLOUT, time).is_none_or(|events| events & libc::POLLOUT != 0)
}

/// Returns the events that came within `time`, also the end of the other side; `None` if the system refuses the
/// call.
fn poll(fd: RawFd, events: libc::c_short, time: Duration) -> Option<libc::c_short> {
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    let millis = libc::c_int::try_from(time.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: one valid entry.
    let found = unsafe { libc::poll(&mut entry, 1, millis) };
    let is_refused = found < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted;
    (!is_refused).then_some(entry.revents)
}

/// Returns `Ok` if the failed call should be made again. A descriptor that another process made non-blocking
/// is polled and keeps its flag, because every process that shares the descriptor shares the flag.
fn again(fd: RawFd, events: libc::c_short) -> io::Result<()> {
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EINTR) => Ok(()),
        Some(libc::EAGAIN) => {
            // A stream may be silent for hours.
            match poll(fd, events, Duration::MAX) {
                Some(_) => Ok(()),
                None => Err(error),
            }
        }
        _ => Err(error),
    }
}
