//! A stack of its own for the main thread, where the host limits the stack (`ulimit -s`).
//!
//! A further thread could not do the main thread's work: the kernel ties the server to the thread that forks it.

use std::panic::{catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use crate::system::memory::{self, Mapping};
use crate::system::thread::STACK;

/// Limit from which on the stack that the kernel gave suffices.
const ENOUGH: usize = 1 << 20;

/// The function for the other stack, and its outcome.
static CALL: Mutex<Call> = Mutex::new(Call { body: None, outcome: None });

struct Call {
    body: Option<fn() -> ExitCode>,
    outcome: Option<std::thread::Result<ExitCode>>,
}

/// Calls `body` on the calling thread, on a larger stack if the host allows only a small one.
pub fn with_enough_stack(body: fn() -> ExitCode) -> ExitCode {
    let stack = (memory::stack_limit() < ENOUGH).then(|| Mapping::reserve(STACK)).and_then(Result::ok);
    let Some(stack) = stack else { return body() };
    call().body = Some(body);
    // SAFETY: zeroed contexts are valid places. The stack and both contexts live until `start` has returned, which
    // continues `here`.
    unsafe {
        let mut here: libc::ucontext_t = std::mem::zeroed();
        let mut there: libc::ucontext_t = std::mem::zeroed();
        if libc::getcontext(&mut there) == 0 {
            there.uc_stack.ss_sp = stack.start().cast();
            there.uc_stack.ss_size = STACK;
            there.uc_link = &mut here;
            libc::makecontext(&mut there, start, 0);
            libc::swapcontext(&mut here, &there);
        }
    }
    let Call { body, outcome } = std::mem::replace(&mut *call(), Call { body: None, outcome: None });
    match (outcome, body) {
        (Some(outcome), _) => outcome.unwrap_or_else(|panic| resume_unwind(panic)),
        // The system has no contexts.
        (None, Some(body)) => body(),
        (None, None) => ExitCode::FAILURE,
    }
}

extern "C" fn start() {
    let body = call().body.take();
    let outcome = body.map(catch_unwind);
    call().outcome = outcome;
}

fn call() -> std::sync::MutexGuard<'static, Call> {
    CALL.lock().unwrap_or_else(PoisonError::into_inner)
}
