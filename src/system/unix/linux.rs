//! Linux: what other Unix systems do differently, or not at all.

use std::ffi::{CStr, OsStr};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::Duration;

pub mod lease;
pub mod ports;
pub mod processes;
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
mod stack_bounds;
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
mod thread_local;

/// Makes a pipe, read end first. Neither end survives `exec`.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for the two descriptors.
    match unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } {
        // SAFETY: the kernel just made both, and nothing else owns them.
        0 => Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) }),
        _ => Err(io::Error::last_os_error()),
    }
}

unsafe extern "C" {
    static environ: *const *const libc::c_char;
}

/// Returns the strings of this process's environment in their order, with duplicates.
pub(super) fn inherited() -> Vec<Vec<u8>> {
    // SAFETY: nothing in this process changes the environment, so the array is as the kernel made it: pointers
    // to strings, ended by a null pointer.
    unsafe {
        let mut strings = Vec::new();
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            strings.push(CStr::from_ptr(*entry).to_bytes().to_vec());
            entry = entry.add(1);
        }
        strings
    }
}

/// Lets the kernel kill the calling process, the forked server, when `parent` dies, as if the host had. Exits if it
/// has died already. If the system refuses this (seccomp), the server still sees the end of its stdin.
/// Async-signal-safe.
pub(super) fn die_with(parent: libc::pid_t) {
    // SAFETY: plain calls on this process.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0);
        // The sandbox may refuse the two numbers.
        let present = libc::getppid();
        if present > 0 && parent > 0 && present != parent {
            libc::_exit(0);
        }
    }
}

/// Does nothing: the server has asked for this itself, by [`die_with`].
pub(super) fn kill_with_us(_server: libc::pid_t, _close_all: unsafe fn()) {}

/// Executes the first word of `argv`, which is looked up in PATH without allocating. Returns if this fails.
/// Async-signal-safe.
///
/// # Safety
/// Both arrays must end with a null pointer, and the others must point to C strings.
pub(super) unsafe fn exec(argv: &[*const libc::c_char], envp: Option<&[*const libc::c_char]>) {
    // SAFETY: the caller keeps the contract of this function, which is that of the calls.
    unsafe {
        match envp {
            Some(envp) => libc::execvpe(argv[0], argv.as_ptr(), envp.as_ptr()),
            None => libc::execvp(argv[0], argv.as_ptr()),
        };
    }
}

/// Prevents a core dump of this process, whatever the system does with core dumps.
pub(super) fn forbid_core_dump() {
    // SAFETY: a plain call on this process.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

/// A set of signals as the kernel has it: bit `n - 1` is signal `n`. The functions of the C library leave out the
/// signals that it uses itself (32 and 33 with glibc, also 34 with musl), and spantap forwards these, too.
pub(super) type SignalSet = u64;

pub(super) fn all_signals() -> SignalSet {
    !0
}

pub(super) fn no_signals() -> SignalSet {
    0
}

pub(super) fn one_signal(signal: libc::c_int) -> SignalSet {
    1 << (signal - 1)
}

/// Does nothing: the kernel keeps every signal that is blocked.
pub(super) fn keep_blocked_signals() {}

/// Changes the signal mask of the calling thread, and returns the one from before. Async-signal-safe.
pub(super) fn change_mask(how: libc::c_int, set: &SignalSet) -> io::Result<SignalSet> {
    let mut before: SignalSet = 0;
    let (set, size) = (&raw const *set, size_of::<SignalSet>());
    // SAFETY: both sets are valid places of this size.
    match unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, set, &raw mut before, size) } {
        0 => Ok(before),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives `signal` its default disposition, also if the C library uses it.
pub(super) fn restore_default(signal: libc::c_int) {
    // The handler, the flags, the restorer and the mask, as the kernel has them.
    let default = [0_u64; 4];
    let (action, none, size) =
        (default.as_ptr(), std::ptr::null_mut::<libc::c_void>(), size_of::<SignalSet>());
    // SAFETY: the action is valid, and its mask has this size.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action, none, size) };
}

/// Sends `signal` to the calling thread, also if the C library uses it.
pub(super) fn raise(signal: libc::c_int) {
    // SAFETY: plain calls. `kill` with the answer of a refused `getpid` would reach every process; this fails then.
    unsafe { libc::syscall(libc::SYS_tkill, libc::syscall(libc::SYS_gettid), signal) };
}

/// Takes a signal that waits or comes within `timeout`, and its facts. Returns -1 and sets `errno` without one.
pub(super) fn take_signal(info: &mut libc::siginfo_t, timeout: Option<Duration>) -> libc::c_int {
    let set = all_signals();
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs() as _,
        tv_nsec: timeout.subsec_nanos() as _,
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let (set, info, size) = (&raw const set, &raw mut *info, size_of::<SignalSet>());
    // SAFETY: all are valid places through the call; a null pointer is a wait without end.
    unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, set, info, timeout, size) as libc::c_int }
}

/// Writes `bytes` to a pipe, socket or terminal in one call that does not wait. Allocates nothing. Returns `None` if
/// the system has no such call for it, else whether it took all of them.
pub(super) fn write_without_waiting(fd: RawFd, bytes: &[u8]) -> Option<bool> {
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the one part is valid for reading, and the system only reads it.
    let count = unsafe { libc::pwritev2(fd, &part, 1, -1, libc::RWF_NOWAIT) };
    if count >= 0 || io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock {
        return Some(usize::try_from(count) == Ok(bytes.len()));
    }
    // Older systems cannot do this, and no system on terminals. A socket cannot be opened again.
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the bytes are valid for reading, and the system only reads them.
    let count = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
    if count >= 0 || io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock {
        return Some(usize::try_from(count) == Ok(bytes.len()));
    }
    let mut path = [0; 32];
    let mut rest = &mut path[..];
    let _ = write!(rest, "/proc/self/fd/{fd}");
    let left = rest.len();
    let path = OsStr::from_bytes(&path[..path.len() - left]);
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut same = OpenOptions::new().write(true).custom_flags(flags).open(path).ok()?;
    Some(same.write(bytes).is_ok_and(|count| count == bytes.len()))
}

/// Enlarges the pipe of `fd` by `more` bytes. Returns false if the system refuses, and `None` if `fd` is not a pipe.
pub(super) fn widen_pipe(fd: RawFd, more: libc::c_int) -> Option<bool> {
    // SAFETY: plain calls. On a descriptor of another kind they fail and change nothing.
    unsafe {
        let size = libc::fcntl(fd, libc::F_GETPIPE_SZ);
        (size >= 0).then(|| libc::fcntl(fd, libc::F_SETPIPE_SZ, size.saturating_add(more)) >= 0)
    }
}

/// Closes every descriptor of the calling process in one call, if the system has it. Async-signal-safe.
pub(super) fn close_all_at_once() -> bool {
    // SAFETY: a plain call; the caller gives up its descriptors.
    unsafe { libc::syscall(libc::SYS_close_range, 0_u32, u32::MAX, 0_u32) == 0 }
}

/// Does nothing: the access list is among the extended attributes.
pub(super) fn copy_access_list(_old: &File, _new: &File) -> io::Result<()> {
    Ok(())
}

/// Gives the calling thread the lowest nice value (19).
pub(super) fn lower_priority() {
    // SAFETY: 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
}

/// Returns the effective user of this process, if there is a `/proc`. A sandbox may refuse the call for it.
pub(super) fn effective_user() -> Option<u32> {
    std::fs::metadata("/proc/self").ok().map(|process| process.uid())
}
