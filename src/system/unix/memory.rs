//! Anonymous memory whose pages count only once they are touched.

use std::io;
use std::ops::Range;

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

/// Returns the addresses of the whole pages among `size` bytes from `start`. What shares a page with other bytes must not
/// be given back: pages have 4, 16 or 64 KiB.
fn whole_pages(start: usize, size: usize, page: usize) -> Range<usize> {
    let first = start.next_multiple_of(page);
    first..((start + size) / page * page).max(first)
}

/// Gives advice about the whole pages among these bytes.
///
/// # Safety
/// The bytes must lie within what [`reserve`] returned, and the advice must not change values that are needed.
unsafe fn advise(start: *mut u8, size: usize, advice: libc::c_int) {
    // SAFETY: a plain call.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    let pages = whole_pages(start.addr(), size, page);
    if !pages.is_empty() {
        // SAFETY: the caller keeps the contract of this function.
        unsafe { libc::madvise(start.with_addr(pages.start).cast(), pages.len(), advice) };
    }
}

/// Makes bytes ready for use. Returns true: the system gives a page when it is touched.
///
/// # Safety
/// The bytes must lie within what [`reserve`] returned.
#[inline]
pub(in crate::system) unsafe fn take(start: *mut u8, size: usize) -> bool {
    if let Some(advice) = TAKEN {
        // SAFETY: the caller keeps the contract of this function.
        unsafe { advise(start, size, advice) };
    }
    true
}

/// Gives the whole pages among these bytes back to the system.
///
/// # Safety
/// The bytes must lie within what [`reserve`] returned, and their values must not be needed.
pub(in crate::system) unsafe fn give_back(start: *mut u8, size: usize) {
    // SAFETY: the caller keeps the contract of this function.
    unsafe { advise(start, size, GIVEN_BACK) };
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

/// Gives back the pages of the program and its libraries that are as in their files. The kernel maps such a page again
/// when it is touched, without reading the file as long as it keeps the page.
pub fn give_back_program() {
    #[cfg(target_os = "linux")]
    // SAFETY: the function has the type that is expected, and only reads what it is given.
    unsafe {
        libc::dl_iterate_phdr(Some(give_back_object), std::ptr::null_mut());
    }
}

#[cfg(target_os = "linux")]
unsafe extern "C" fn give_back_object(
    object: *mut libc::dl_phdr_info,
    _size: usize,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: a plain call.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    // SAFETY: the loader passes a valid object, with a list of this length.
    let (base, parts) = unsafe {
        ((*object).dlpi_addr, std::slice::from_raw_parts((*object).dlpi_phdr, (*object).dlpi_phnum.into()))
    };
    // The entries of the dynamic section: DT_TEXTREL, or DF_TEXTREL in DT_FLAGS.
    let relocates_code = |[tag, value]: &[usize; 2]| *tag == 22 || *tag == 30 && value & 4 != 0;
    for part in parts.iter().filter(|part| part.p_type == libc::PT_DYNAMIC) {
        // SAFETY: the loader has mapped the section, which is made of such pairs.
        let entries = unsafe {
            let start = (base + part.p_vaddr) as *const [usize; 2];
            std::slice::from_raw_parts(start, part.p_memsz as usize / size_of::<[usize; 2]>())
        };
        if entries.iter().any(relocates_code) {
            return 0;
        }
    }
    for part in parts.iter().filter(|part| part.p_type == libc::PT_LOAD && part.p_flags & libc::PF_W == 0) {
        let start = (base + part.p_vaddr) as usize;
        let end = start + part.p_memsz as usize;
        let first_page = start / page * page;
        // SAFETY: this part cannot be written to, and the loader has changed nothing in it, so each page is as in the
        // file. Breakpoints of a debugger are lost.
        unsafe { libc::madvise(first_page as *mut libc::c_void, end - first_page, libc::MADV_DONTNEED) };
    }
    0
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_whole_pages_are_given_back_whatever_their_size() {
        const SEGMENT: usize = 132 << 10;
        assert_eq!(whole_pages(SEGMENT, SEGMENT, 4 << 10), SEGMENT..2 * SEGMENT);
        assert_eq!(whole_pages(SEGMENT, SEGMENT, 16 << 10), 144 << 10..256 << 10);
        assert_eq!(whole_pages(SEGMENT, SEGMENT, 64 << 10), 192 << 10..256 << 10);
        assert!(whole_pages(SEGMENT, 32 << 10, 64 << 10).is_empty());
    }
}
