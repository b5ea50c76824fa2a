//! The bounds of a thread's stack, which this program does not need.
//!
//! The standard library asks for those of the main thread when the program starts. It would recognise an overflow of
//! the stack by them, and does not, because of `process::hide_faults`. glibc reads and parses `/proc/self/maps` for
//! the answer, which takes a tenth of all instructions before the server's start. The function here takes the place of
//! its own.

use std::ffi::c_int;

/// Refuses, as a C library that does not know the bounds.
#[unsafe(no_mangle)]
extern "C" fn pthread_getattr_np(_: libc::pthread_t, _: *mut libc::pthread_attr_t) -> c_int {
    libc::ENOSYS
}
