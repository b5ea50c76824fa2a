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

/// Waits for bytes or the end of the stream, for at most `time`. Returns false if the time passed, or if a signal
/// cut the wait short.
pub fn is_readable_within(fd: RawFd, time: Duration) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let millis = libc::c_int::try_from(time.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: one valid entry.
    unsafe { libc::poll(&mut poll, 1, millis) > 0 }
}

/// Returns `Ok` if the failed call should be made again. A descriptor that another process made non-blocking
/// is polled and keeps its flag, because every process that shares the descriptor shares the flag.
fn again(fd: RawFd, events: libc::c_short) -> io::Result<()> {
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EINTR) => Ok(()),
        Some(libc::EAGAIN) => {
            let mut poll = libc::pollfd { fd, events, revents: 0 };
            // SAFETY: one valid entry. It has no time-out, because a stream may be silent for hours.
            unsafe { libc::poll(&mut poll, 1, -1) };
            Ok(())
        }
        _ => Err(error),
    }
}
