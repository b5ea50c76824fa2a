//! Anonymous memory whose pages count only once they are touched.

use std::io;
use std::ops::Range;

/// A private mapping of zeroed memory. It is unmapped when dropped.
pub struct Mapping {
    start: *mut u8,
    size: usize,
}

// SAFETY: the mapping is plain memory that any thread may touch; who touches which part when is decided by
// its owner.
unsafe impl Send for Mapping {}
// SAFETY: as above; a shared reference gives out the address only.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Reserves `size` bytes of address space.
    pub fn reserve(size: usize) -> io::Result<Mapping> {
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
        match start == libc::MAP_FAILED {
            true => Err(io::Error::last_os_error()),
            false => Ok(Mapping { start: start.cast(), size }),
        }
    }

    /// Address of the first byte.
    pub fn start(&self) -> *mut u8 {
        self.start
    }

    /// Makes `bytes` ready for use, before the first one and after [`Mapping::give_back`]. Returns true: the system gives
    /// a page when it is touched.
    #[inline]
    pub fn take(&self, _bytes: Range<usize>) -> bool {
        true
    }

    /// Makes each access to `bytes`, which are whole pages, fail.
    pub fn guard(&self, bytes: Range<usize>) -> io::Result<()> {
        assert!(bytes.end <= self.size);
        // SAFETY: the range lies within the mapping, and its owner has not used it yet.
        let outcome =
            unsafe { libc::mprotect(self.start.add(bytes.start).cast(), bytes.len(), libc::PROT_NONE) };
        if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Gives the pages of `bytes` back to the system.
    pub fn give_back(&self, bytes: Range<usize>) {
        assert!(bytes.end <= self.size);
        // SAFETY: the range lies within the mapping.
        unsafe { libc::madvise(self.start.add(bytes.start).cast(), bytes.len(), libc::MADV_DONTNEED) };
    }
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

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `size` are those of a mapping that `reserve` made, and nothing else owns it.
        unsafe { libc::munmap(self.start.cast(), self.size) };
    }
}
