//! Memory of which only the parts in use count.

use std::io;

use windows_sys::Win32::System::Memory::{
    MEM_COMMIT, MEM_DECOMMIT, MEM_RELEASE, MEM_RESERVE, PAGE_READWRITE, VirtualAlloc, VirtualFree,
};

/// Reserves `size` bytes of address space.
pub(in crate::system) fn reserve(size: usize) -> io::Result<*mut u8> {
    // SAFETY: new memory at an address of the system's choice aliases nothing.
    let start = unsafe { VirtualAlloc(std::ptr::null(), size, MEM_RESERVE, PAGE_READWRITE) };
    if start.is_null() { Err(io::Error::last_os_error()) } else { Ok(start.cast()) }
}

/// Makes bytes ready for use, zeroed if they are not in use yet. Returns false if the system has no room for them.
///
/// # Safety
/// The bytes must lie within what [`reserve`] returned.
pub(in crate::system) unsafe fn take(start: *mut u8, size: usize) -> bool {
    // SAFETY: the caller keeps the contract of this function.
    unsafe { !VirtualAlloc(start.cast(), size, MEM_COMMIT, PAGE_READWRITE).is_null() }
}

/// Gives pages back to the system.
///
/// # Safety
/// The bytes must lie within what [`reserve`] returned, and nothing may touch them before they are taken again.
pub(in crate::system) unsafe fn give_back(start: *mut u8, size: usize) {
    // SAFETY: the caller keeps the contract of this function.
    unsafe { VirtualFree(start.cast(), size, MEM_DECOMMIT) };
}

/// Frees what [`reserve`] returned.
///
/// # Safety
/// `start` must be that of a call of [`reserve`], and nothing may use the bytes.
pub(in crate::system) unsafe fn free(start: *mut u8, _size: usize) {
    // SAFETY: the caller keeps the contract of this function.
    unsafe { VirtualFree(start.cast(), 0, MEM_RELEASE) };
}

/// Returns the number of bytes for which the system keeps room.
#[cfg(test)]
pub(in crate::system) fn in_use(start: *mut u8, size: usize) -> usize {
    use windows_sys::Win32::System::Memory::{MEMORY_BASIC_INFORMATION, VirtualQuery};
    let (mut at, mut sum) = (0, 0);
    while at < size {
        let mut facts = MEMORY_BASIC_INFORMATION::default();
        let place = start.wrapping_add(at).cast();
        // SAFETY: the call reads no memory at the address, and `facts` is a place of this size.
        assert_ne!(unsafe { VirtualQuery(place, &mut facts, size_of_val(&facts)) }, 0);
        let within = facts.RegionSize.min(size - at);
        sum += if facts.State == MEM_COMMIT { within } else { 0 };
        at += within;
    }
    sum
}

/// Does nothing: Windows takes such pages back by itself.
pub fn give_back_program() {}

/// Returns the largest number: Windows has no limit for one process unless a job sets one, and then refuses memory.
pub fn limit() -> usize {
    usize::MAX
}

/// Does nothing: all threads share one heap.
pub fn share_heap_if_scarce() {}
