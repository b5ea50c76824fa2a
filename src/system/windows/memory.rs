//! Memory whose pages count only once they are touched.

use std::io;
use std::ops::Range;

use windows_sys::Win32::System::Memory::{
    MEM_COMMIT, MEM_RELEASE, MEM_RESERVE, MEM_RESET, PAGE_READWRITE, VirtualAlloc, VirtualFree, VirtualUnlock,
};

/// A private range of zeroed memory. It is freed when dropped.
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
    /// Takes `size` bytes. The system promises room for all of them, in memory or in the page file, and gives a page
    /// when it is touched.
    pub fn reserve(size: usize) -> io::Result<Mapping> {
        // SAFETY: new memory at an address of the system's choice aliases nothing.
        let start = unsafe { VirtualAlloc(std::ptr::null(), size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE) };
        match start.is_null() {
            true => Err(io::Error::last_os_error()),
            false => Ok(Mapping { start: start.cast(), size }),
        }
    }

    /// Address of the first byte.
    pub fn start(&self) -> *mut u8 {
        self.start
    }

    /// Gives the pages of `bytes` back to the system. What they contain afterwards is not defined.
    pub fn give_back(&self, bytes: Range<usize>) {
        assert!(bytes.end <= self.size);
        // SAFETY: the range lies within the mapping. Unlocking pages that are not locked takes them out of the working
        // set, without writing them to the page file after the reset.
        unsafe {
            let start = self.start.add(bytes.start).cast();
            VirtualAlloc(start, bytes.len(), MEM_RESET, PAGE_READWRITE);
            VirtualUnlock(start, bytes.len());
        }
    }
}

/// Returns the largest number: Windows has no limit for one process unless a job sets one, and then refuses memory.
pub fn limit() -> usize {
    usize::MAX
}

/// Does nothing: all threads share one heap.
pub fn share_heap_if_scarce() {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` is that of memory that `reserve` took, and nothing else owns it.
        unsafe { VirtualFree(self.start.cast(), 0, MEM_RELEASE) };
    }
}
