//! Memory of which only the parts in use count.

use std::io;
use std::ops::Range;

use crate::system::memory;

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
    ///
    /// # Errors
    /// If the system has no room for them.
    pub fn reserve(size: usize) -> io::Result<Mapping> {
        Ok(Mapping { start: memory::reserve(size)?, size })
    }

    /// Address of the first byte.
    pub fn start(&self) -> *mut u8 {
        self.start
    }

    /// Makes `bytes` ready for use, before the first one and after [`Mapping::give_back`]. Returns
    /// false if the system has no room for them, in memory or in the page file. Bytes that are in use keep their
    /// values.
    #[inline]
    pub fn take(&self, bytes: Range<usize>) -> bool {
        // SAFETY: the range lies within the mapping.
        unsafe { memory::take(self.at(&bytes), bytes.len()) }
    }

    /// Gives the whole pages among `bytes` back to the system.
    pub fn give_back(&self, bytes: Range<usize>) {
        // SAFETY: the range lies within the mapping, and its owner does not touch it before it takes it again.
        unsafe { memory::give_back(self.at(&bytes), bytes.len()) };
    }

    /// Makes each access to `bytes`, which are whole pages, fail.
    ///
    /// # Errors
    /// If the system refuses.
    #[cfg(all(unix, any(target_arch = "aarch64", target_arch = "x86_64")))]
    pub fn guard(&self, bytes: Range<usize>) -> io::Result<()> {
        // SAFETY: the range lies within the mapping, and its owner does not use it.
        unsafe { memory::guard(self.at(&bytes), bytes.len()) }
    }

    /// Returns the number of bytes for which the system keeps room.
    #[cfg(all(test, windows))]
    pub fn in_use(&self) -> usize {
        memory::in_use(self.start, self.size)
    }

    /// Returns the address of `bytes`, which lie within the mapping.
    #[inline]
    fn at(&self, bytes: &Range<usize>) -> *mut u8 {
        assert!(bytes.end <= self.size);
        self.start.wrapping_add(bytes.start)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `size` are those of a mapping that `reserve` made, and nothing else owns it.
        unsafe { memory::free(self.start, self.size) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_use_keep_their_values_and_given_back_ones_can_be_taken_again() {
        const PART: usize = 64 << 10;
        let mapping = Mapping::reserve(4 * PART).unwrap();
        let place = |at: usize| mapping.start().wrapping_add(at);
        assert!(mapping.take(PART..2 * PART));
        // SAFETY: the bytes are in use when they are touched.
        unsafe {
            place(PART).write(7);
            assert!(mapping.take(PART..3 * PART));
            assert_eq!((place(PART).read(), place(2 * PART).read()), (7, 0));
            mapping.give_back(PART..2 * PART);
            assert!(mapping.take(PART..2 * PART));
            place(PART).write(8);
            assert_eq!(place(PART).read(), 8);
        }
    }

    #[cfg(windows)]
    #[test]
    fn only_the_parts_in_use_count() {
        const PART: usize = 64 << 10;
        let mapping = Mapping::reserve(64 << 20).unwrap();
        assert_eq!(mapping.in_use(), 0);
        assert!(mapping.take(PART..2 * PART) && mapping.take(PART..3 * PART));
        assert_eq!(mapping.in_use(), 2 * PART);
        mapping.give_back(PART..2 * PART);
        assert_eq!(mapping.in_use(), PART);
    }
}
