//! Destructors of thread-local values, kept without the C library.
//!
//! The standard library registers each destructor with a function of the C library, which ends the process if it is
//! refused memory. The function here takes its place, and allocates as the rest of the program does.

use std::alloc::Layout;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

/// A destructor of the calling thread, and the ones that were registered before it.
struct Registered {
    destroy: extern "C" fn(*mut c_void),
    value: *mut c_void,
    earlier: *mut Registered,
}

thread_local! {
    /// The latest one of the thread. It has no destructor of its own.
    static LATEST: Cell<*mut Registered> = const { Cell::new(ptr::null_mut()) };
}

/// The key whose destructor the C library calls at the end of a thread; `None` if it has no key left.
static AT_END: OnceLock<Option<libc::pthread_key_t>> = OnceLock::new();

/// Registers the destructor of a thread-local value. A relay thread without memory leaves it out.
#[unsafe(no_mangle)]
extern "C" fn __cxa_thread_atexit_impl(
    destroy: extern "C" fn(*mut c_void),
    value: *mut c_void,
    _: *mut c_void,
) -> c_int {
    let latest = LATEST.get();
    // SAFETY: the layout has a size. An entry is written before it is reachable, and no other thread reaches it.
    unsafe {
        let entry: *mut Registered = std::alloc::alloc(Layout::new::<Registered>()).cast();
        if !entry.is_null() {
            entry.write(Registered { destroy, value, earlier: latest });
            LATEST.set(entry);
        }
    }
    if latest.is_null()
        && let Some(key) = AT_END.get_or_init(new_key)
    {
        // SAFETY: the key exists. The value only has to differ from null.
        unsafe { libc::pthread_setspecific(*key, ptr::dangling::<u8>().cast()) };
    }
    0
}

fn new_key() -> Option<libc::pthread_key_t> {
    let mut key = 0;
    // SAFETY: `key` is a valid place for the result.
    let made = unsafe { libc::pthread_key_create(&mut key, Some(run_destructors)) };
    (made == 0).then_some(key)
}

/// Runs the destructors of the thread that ends, the latest one first. A destructor may register another one.
extern "C" fn run_destructors(_: *mut c_void) {
    while !LATEST.get().is_null() {
        // SAFETY: the entry was allocated with the layout of a box, and only this thread reaches it.
        let entry = unsafe { Box::from_raw(LATEST.get()) };
        LATEST.set(entry.earlier);
        (entry.destroy)(entry.value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    static DESTROYED: AtomicU32 = AtomicU32::new(0);

    struct Value(bool);

    impl Drop for Value {
        fn drop(&mut self) {
            DESTROYED.fetch_add(1, Ordering::SeqCst);
            if self.0 {
                SECOND.with(|_| ());
            }
        }
    }

    thread_local! {
        static FIRST: Value = const { Value(true) };
        static SECOND: Value = const { Value(false) };
    }

    #[test]
    fn values_of_a_thread_are_destroyed_at_its_end() {
        std::thread::spawn(|| {
            FIRST.with(|_| ());
            assert!(!LATEST.get().is_null(), "the C library keeps the destructors");
        })
        .join()
        .unwrap();
        assert_eq!(DESTROYED.load(Ordering::SeqCst), 2);
    }
}
