//! Blocking reads and writes on descriptors that the host owns too.
//!
//! A `File` would close such a descriptor, and `std::io::stdout()` would hold back half a line.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::own;
use crate::system::stdio;

/// A descriptor of this process, by its number.
pub type RawDescriptor = RawFd;
/// A descriptor that is closed when it is dropped.
pub type OwnedDescriptor = OwnedFd;

pub const STDIN: RawDescriptor = libc::STDIN_FILENO;
pub const STDOUT: RawDescriptor = libc::STDOUT_FILENO;
pub const STDERR: RawDescriptor = libc::STDERR_FILENO;

/// Bytes that a pipe which can be written takes at once.
pub const PIPE_ROOM: usize = libc::PIPE_BUF;

/// Returns the number of descriptors that this process may have.
pub fn limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1024)
}

/// Returns the number of a descriptor.
pub fn raw(descriptor: &OwnedDescriptor) -> RawDescriptor {
    descriptor.as_raw_fd()
}

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

/// Writes `bytes` in one call that does not wait for room, even if other programs have just filled the pipe, socket or
/// terminal. Allocates nothing. Returns false if the system did not take all of them.
pub fn write_once(fd: RawFd, bytes: &[u8]) -> bool {
    // A file needs no room. Some file systems refuse it every write that may not wait.
    if (stdio::has_peer(fd) || stdio::is_terminal(fd))
        && let Some(is_written) = own::write_without_waiting(fd, bytes)
    {
        return is_written;
    }
    // SAFETY: the slice is valid for reading `len` bytes.
    usize::try_from(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) }) == Ok(bytes.len())
}

/// Waits for bytes or the end of the stream, for at most `time`. Returns false if the time passed, or if a signal
/// cut the wait short. If the system refuses to wait, a read finds out.
pub fn is_readable_within(fd: RawFd, time: Duration) -> bool {
    poll(fd, libc::POLLIN, time).is_none_or(|events| events != 0)
}

/// Waits for bytes or the end of the stream, for at most `time`. Returns false if the time passed, if a signal cut the
/// wait short, or if the system refuses to wait.
pub fn has_bytes_within(fd: RawFd, time: Duration) -> bool {
    poll(fd, libc::POLLIN, time).is_some_and(|events| events != 0)
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Writes lines until the descriptor takes no more. Returns their number.
    fn fill(fd: RawFd) -> usize {
        (0..100_000).take_while(|_| write_once(fd, &[b'x'; 64])).count()
    }

    #[test]
    fn a_line_never_waits_for_room() {
        let (_reader, pipe) = io::pipe().unwrap();
        assert!((16..100_000).contains(&fill(pipe.as_raw_fd())));
        let (_reader, socket) = UnixStream::pair().unwrap();
        assert!((16..100_000).contains(&fill(socket.as_raw_fd())));
    }

    #[test]
    fn a_line_goes_to_the_end_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = std::fs::File::create(&path).unwrap();
        assert!(write_once(file.as_raw_fd(), b"one\n") && write_once(file.as_raw_fd(), b"two\n"));
        assert_eq!(std::fs::read(path).unwrap(), b"one\ntwo\n");
    }
}
