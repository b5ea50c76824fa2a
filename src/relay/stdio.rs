//! The three standard descriptors of this process.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Moves descriptor 1 to a number that only its pump knows, and points 1 at standard error, so that a
/// stray print of any crate cannot reach the wire.
///
/// # Errors
/// When no descriptor is left.
pub fn take_stdout() -> io::Result<OwnedFd> {
    // SAFETY: plain descriptor calls; the runtime has made sure that 0 to 2 are open.
    let fd = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_DUPFD_CLOEXEC, 3) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above; `dup2` clears the close-on-exec flag of the copy, which 1 never had.
    if unsafe { libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just made and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts `/dev/null` in the place of a standard descriptor: closes it for the peer and keeps its number
/// taken.
pub fn silence(fd: RawFd) {
    // SAFETY: plain descriptor calls on numbers that are ours; a failure leaves the descriptor as it is.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if null >= 0 {
            libc::dup2(null, fd);
            libc::close(null);
        } else {
            libc::close(fd);
        }
    }
}
