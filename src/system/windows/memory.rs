//! Memory of which only the parts in use count.

use std::io;
use std::ops::Range;

use windows_sys::Win32::System::Memory::{
    MEM_COMMIT, MEM_DECOMMIT, MEM_RELEASE, MEM_RESERVE, PAGE_READWRITE, VirtualAlloc, VirtualFree,
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
    /// Reserves `size` bytes of address space. Each part must be taken before it is used.
    pub fn reserve(size: usize) -> io::Result<Mapping> {
        // SAFETY: new memory at an address of the system's choice aliases nothing.
        let start = unsafe { VirtualAlloc(std::ptr::null(), size, MEM_RESERVE, PAGE_READWRITE) };
        match start.is_null() {
            true => Err(io::Error::last_os_error()),
            false => Ok(Mapping { start: start.cast(), size }),
        }
    }

    /// Address of the first byte.
    pub fn start(&self) -> *mut u8 {
        self.start
    }

    /// Makes `bytes` ready for use, before the first one and after [`Mapping::give_back`]. Returns false if the system
    /// has no room for them, in memory or in the page file. Bytes that are in use keep their values.
    pub fn take(&self, bytes: Range<usize>) -> bool {
        assert!(bytes.end <= self.size);
        // SAFETY: the range lies within the mapping.
        unsafe {
            let start = self.start.add(bytes.start).cast();
            !VirtualAlloc(start, bytes.len(), MEM_COMMIT, PAGE_READWRITE).is_null()
        }
    }

    /// Gives the pages of `bytes` back to the system.
    pub fn give_back(&self, bytes: Range<usize>) {
        assert!(bytes.end <= self.size);
        // SAFETY: the range lies within the mapping, and its owner does not touch it before it takes it again.
        unsafe { VirtualFree(self.start.add(bytes.start).cast(), bytes.len(), MEM_DECOMMIT) };
    }

    /// Returns the number of bytes for which the system keeps room.
    #[cfg(test)]
    pub fn in_use(&self) -> usize {
        use windows_sys::Win32::System::Memory::{MEMORY_BASIC_INFORMATION, VirtualQuery};
        let (mut at, mut sum) = (0, 0);
        while at < self.size {
            let mut facts = MEMORY_BASIC_INFORMATION::default();
            // SAFETY: the address lies within the mapping, and `facts` is a place of this size.
            assert_ne!(
                unsafe { VirtualQuery(self.start.add(at).cast(), &mut facts, size_of_val(&facts)) },
                0
            );
            let within = facts.RegionSize.min(self.size - at);
            sum += if facts.State == MEM_COMMIT { within } else { 0 };
            at += within;
        }
        sum
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_parts_in_use_count() {
        const PART: usize = 64 << 10;
        let mapping = Mapping::reserve(64 << 20).unwrap();
        assert_eq!(mapping.in_use(), 0);
        assert!(mapping.take(PART..2 * PART));
        // SAFETY: the byte is in use.
        unsafe { mapping.start().add(PART).write(7) };
        assert!(mapping.take(PART..3 * PART));
        // SAFETY: as above.
        assert_eq!(unsafe { mapping.start().add(PART).read() }, 7);
        assert_eq!(mapping.in_use(), 2 * PART);
        mapping.give_back(PART..2 * PART);
        assert_eq!(mapping.in_use(), PART);
        assert!(mapping.take(PART..2 * PART));
    }
}
