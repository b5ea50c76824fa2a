//! Anonymous memory whose pages count only once they are touched.

use std::io;

/// Advice to the system about pages that are given back, and about those that are taken again. macOS would keep the
/// former among those of the process.
#[cfg(target_os = "macos")]
const GIVEN_BACK: libc::c_int = libc::MADV_FREE_REUSABLE;
#[cfg(target_os = "macos")]
const TAKEN: Option<libc::c_int> = Some(libc::MADV_FREE_REUSE);
#[cfg(not(target_os = "macos"))]
const GIVEN_BACK: libc::c_int = libc::MADV_DONTNEED;
#[cfg(not(target_os = "macos"))]
const TAKEN: Option<libc::c_int> = None;

/// Reserves `size` bytes of address space, zeroed.
pub(in crate::system) fn reserve(size: usize) -> io::Result<*mut u8> {
    // SAFETY: an anonymous private mapping at an address of the system's choice aliases nothing.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(start.cast()) }
}

/// Makes bytes ready for use. Returns true: the system gives a page when it is touched.
///
/// # Safety
/// The bytes must lie within what [`reserve`] returned.
#[inline]
pub(in crate::system) unsafe fn take(start: *mut u8, size: usize) -> bool {
    if let Some(advice) = TAKEN {
        // SAFETY: the caller keeps the contract of this function.
        unsafe { libc::madvise(start.cast(), size, advice) };
    }
    true
}

/// Gives pages back to the system.
///
/// # Safety
/// The bytes must lie within what [`reserve`] returned, and their values must not be needed.
pub(in crate::system) unsafe fn give_back(start: *mut u8, size: usize) {
    // SAFETY: the caller keeps the contract of this function.
    unsafe { libc::madvise(start.cast(), size, GIVEN_BACK) };
}

/// Makes each access to these pages fail.
///
/// # Safety
/// The bytes must lie within what [`reserve`] returned, and nothing may use them.
pub(in crate::system) unsafe fn guard(start: *mut u8, size: usize) -> io::Result<()> {
    // SAFETY: the caller keeps the contract of this function.
    match unsafe { libc::mprotect(start.cast(), size, libc::PROT_NONE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Frees what [`reserve`] returned.
///
/// # Safety
/// `start` and `size` must be those of a call of [`reserve`], and nothing may use the bytes.
pub(in crate::system) unsafe fn free(start: *mut u8, size: usize) {
    // SAFETY: the caller keeps the contract of this function.
    unsafe { libc::munmap(start.cast(), size) };
}

/// Returns the most memory that the process may map, by its limits (`ulimit -v`, `ulimit -d`).
pub fn limit() -> usize {
    soft_limit(libc::RLIMIT_AS).min(soft_limit(libc::RLIMIT_DATA))
}

/// Returns the limit of the main thread's stack (`ulimit -s`).
pub fn stack_limit() -> usize {
    soft_limit(libc::RLIMIT_STACK)
}

#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

fn soft_limit(resource: Resource) -> usize {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the result.
    unsafe { libc::getrlimit(resource, &mut limit) };
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

/// Lets all threads share one heap if memory is limited. The C library would map 64 MiB or more for each thread, and
/// a limit counts them although they stay empty.
pub fn share_heap_if_scarce() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if limit() < 1 << 30 {
        // SAFETY: a plain call.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    }
}
