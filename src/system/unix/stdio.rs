//! The three standard descriptors of this process.

use std::io::{self, IsTerminal};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::own;

/// Moves descriptor 1 to a number that only its pump knows, and points 1 at standard error, so that a stray
/// print of any crate cannot reach the wire.
pub fn take_stdout() -> io::Result<OwnedFd> {
    // SAFETY: plain descriptor calls. The runtime has made sure that 0 to 2 are open.
    let fd = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_DUPFD_CLOEXEC, 3) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above. `dup2` clears the close-on-exec flag of the copy, which 1 never had.
    if unsafe { libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just made, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes a copy of standard error, at a number that only its pump knows.
///
/// # Errors
/// If the system refuses a descriptor.
pub fn copy_stderr() -> io::Result<OwnedFd> {
    // SAFETY: plain descriptor call.
    let fd = unsafe { libc::fcntl(libc::STDERR_FILENO, libc::F_DUPFD_CLOEXEC, 3) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just made, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Returns true if what is written to standard error appears in standard output: both are the same file, pipe,
/// socket or device, or both are terminals.
pub fn outputs_are_one() -> bool {
    let (Some(stdout), Some(stderr)) = (status(libc::STDOUT_FILENO), status(libc::STDERR_FILENO)) else {
        return false;
    };
    let are_devices = [stdout, stderr].iter().all(|status| status.st_mode & libc::S_IFMT == libc::S_IFCHR);
    // One terminal has several names: `/dev/tty`, `/dev/pts/0`.
    (stdout.st_dev, stdout.st_ino) == (stderr.st_dev, stderr.st_ino)
        || (are_devices && is_terminal(libc::STDOUT_FILENO) && is_terminal(libc::STDERR_FILENO))
}

/// Replaces a standard descriptor with `/dev/null`. This closes it for the peer and keeps its number taken, so that
/// no file opened later gets it. If `/dev/null` cannot be opened, an end of a new pipe takes the number, and the other end is
/// closed.
pub fn silence(fd: RawFd) {
    // SAFETY: plain descriptor calls on numbers of this process, and room for the two ends.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if null >= 0 {
            libc::dup2(null, fd);
            libc::close(null);
            return;
        }
        let mut ends = [0; 2];
        if libc::pipe(ends.as_mut_ptr()) == 0 {
            // Reading finds the end, and writing fails.
            libc::dup2(ends[0], fd);
            for end in ends {
                libc::close(end);
            }
        } else {
            libc::close(fd);
        }
    }
}

/// Returns a file that writes to standard output as it is, without a buffer and whatever colours are wanted.
///
/// # Errors
/// If the system refuses a descriptor.
pub(crate) fn open_stdout() -> io::Result<std::fs::File> {
    Ok(rustix::stdio::stdout().try_clone_to_owned()?.into())
}

/// Returns true if `fd` is a terminal.
pub fn is_terminal(fd: RawFd) -> bool {
    // SAFETY: plain call on an open descriptor.
    unsafe { libc::isatty(fd) == 1 }
}

/// Returns the number of bytes that wait in the pipe of `fd`; 0 if unknown.
pub fn waiting(fd: RawFd) -> u64 {
    let mut count: libc::c_int = 0;
    // SAFETY: `count` is a valid place for the result. On a descriptor of another kind the call fails.
    unsafe { libc::ioctl(fd, libc::FIONREAD, &mut count) };
    u64::try_from(count).unwrap_or(0)
}

/// Facts about a descriptor; `None` if it is closed.
fn status(fd: RawFd) -> Option<libc::stat> {
    // SAFETY: a zeroed `stat` is a valid value.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `status` lives through the call.
    (unsafe { libc::fstat(fd, &mut status) } == 0).then_some(status)
}

/// Returns true if `fd` is a pipe or socket. A peer that closes its end of anything else cannot be noticed.
pub fn has_peer(fd: RawFd) -> bool {
    status(fd).is_some_and(|status| matches!(status.st_mode & libc::S_IFMT, libc::S_IFIFO | libc::S_IFSOCK))
}

/// Does nothing: [`has_lost_peer`] needs no thread.
pub fn prepare_for_lost_peers() -> std::io::Result<()> {
    Ok(())
}

/// Returns true if the other end of the pipe or socket of `fd` is closed.
pub fn has_lost_peer(fd: RawFd) -> bool {
    let mut entry = libc::pollfd { fd, events: 0, revents: 0 };
    // SAFETY: one valid entry, and no waiting.
    let found = unsafe { libc::poll(&mut entry, 1, 0) };
    found > 0 && entry.revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0
}

/// Enlarges the pipe or socket of `fd` by `more` bytes, as far as the system allows, so that a blocked writer
/// goes on. Returns false if the system refuses.
pub fn widen(fd: RawFd, more: u64) -> bool {
    let more = libc::c_int::try_from(more).unwrap_or(libc::c_int::MAX / 4);
    if let Some(is_wider) = own::widen_pipe(fd, more) {
        return is_wider;
    }
    // SAFETY: plain calls. On a descriptor of another kind they fail and change nothing.
    unsafe {
        let (level, option) = (libc::SOL_SOCKET, libc::SO_SNDBUF);
        let mut size: libc::c_int = 0;
        let mut len = size_of_val(&size) as libc::socklen_t;
        if libc::getsockopt(fd, level, option, (&raw mut size).cast(), &mut len) != 0 {
            return false;
        }
        let larger = size.saturating_add(more);
        libc::setsockopt(fd, level, option, (&raw const larger).cast(), len) == 0
    }
}

/// Returns the columns of the terminal that standard output is, 80 if it does not know them; `None` for a pipe or
/// file.
pub(crate) fn terminal_width() -> Option<usize> {
    let output = rustix::stdio::stdout();
    let measured = || terminal_size::terminal_size_of(output).map(|(width, _)| width.0.into());
    output.is_terminal().then(|| measured().unwrap_or(80))
}
