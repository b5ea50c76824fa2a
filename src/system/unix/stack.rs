//! A stack of its own for the main thread, where the host limits the stack (`ulimit -s`).
//!
//! A further thread could not do the main thread's work: the kernel ties the server to the thread that forks it.

use std::arch::asm;
use std::io;
use std::panic::{catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::sync::Mutex;

use crate::system::mapping::Mapping;
use crate::system::memory;
use crate::system::mutex::lock;
use crate::system::thread::STACK;

/// Limit from which on the stack that the kernel gave suffices.
const ENOUGH: usize = 1 << 20;

/// Bytes below the stack that cannot be used, so that a stack that is too deep ends the program and changes no other
/// memory. They are whole pages on every system.
const GUARD: usize = 64 << 10;

/// Zeroed bytes above the first frame. A backtrace reads the caller's frame there, and ends at its zeros.
const ABOVE: usize = 16 << 10;

/// The function for the other stack, and its outcome.
static CALL: Mutex<Call> = Mutex::new(Call { body: None, outcome: None });

struct Call {
    body: Option<fn() -> ExitCode>,
    outcome: Option<std::thread::Result<ExitCode>>,
}

/// Calls `body` on the calling thread, on a larger stack if the host allows only a small one.
pub fn with_enough_stack(body: fn() -> ExitCode) -> ExitCode {
    let stack = (memory::stack_limit() < ENOUGH).then(reserve).and_then(Result::ok);
    let Some(stack) = stack else { return body() };
    lock(&CALL).body = Some(body);
    // SAFETY: the mapping is aligned, has room for the stack, and lives until `start` has returned, which never panics.
    unsafe { on_stack(stack.start().add(GUARD + STACK - ABOVE), start) };
    match lock(&CALL).outcome.take() {
        Some(outcome) => outcome.unwrap_or_else(|panic| resume_unwind(panic)),
        None => ExitCode::FAILURE,
    }
}

/// Returns memory for a stack, with its guard at the low end.
fn reserve() -> io::Result<Mapping> {
    let stack = Mapping::reserve(GUARD + STACK)?;
    stack.guard(0..GUARD)?;
    Ok(stack)
}

extern "C" fn start() {
    let body = lock(&CALL).body.take();
    let outcome = body.map(catch_unwind);
    lock(&CALL).outcome = outcome;
}

/// Calls `function` with the stack that ends at `top`.
///
/// # Safety
/// `top` must be a multiple of 16, the end of memory that suffices, and `function` must not unwind.
unsafe fn on_stack(top: *mut u8, function: extern "C" fn()) {
    // SAFETY: the register that keeps the stack pointer belongs to the callee, who restores it; all that a call may
    // change is listed.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "mov r12, rsp", "mov rsp, {top}", "call {function}", "mov rsp, r12",
            top = in(reg) top, function = in(reg) function, out("r12") _, clobber_abi("C"),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "mov x20, sp", "mov sp, {top}", "blr {function}", "mov sp, x20",
            top = in(reg) top, function = in(reg) function, out("x20") _, clobber_abi("C"),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    static PLACE: Mutex<usize> = Mutex::new(0);

    extern "C" fn note_the_place() {
        let local = 0_u64;
        *PLACE.lock().unwrap() = (&raw const local).addr();
        assert!(catch_unwind(|| panic!("on the other stack")).is_err());
    }

    #[test]
    fn a_function_runs_on_the_stack_it_is_given_and_returns() {
        let stack = reserve().unwrap();
        let (start, kept) = (stack.start().addr() + GUARD, std::hint::black_box([7_u64; 8]));
        // SAFETY: the mapping is aligned and has room, and the function does not unwind.
        unsafe { on_stack(stack.start().add(GUARD + STACK - ABOVE), note_the_place) };
        let place = *PLACE.lock().unwrap();
        assert!((start..start + STACK - ABOVE).contains(&place));
        assert_eq!(kept, [7; 8]);
    }

    #[test]
    fn below_the_stack_is_memory_that_cannot_be_used() {
        let stack = reserve().unwrap();
        let (_reader, writer) = std::io::pipe().unwrap();
        // SAFETY: the system checks the address, and refuses it.
        let written = |at: usize| unsafe { libc::write(writer.as_raw_fd(), stack.start().add(at).cast(), 1) };
        assert_eq!([0, GUARD - 1, GUARD].map(written), [-1, -1, 1]);
    }
}
