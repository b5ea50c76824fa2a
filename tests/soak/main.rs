//! A long session: descriptors and memory stay constant, every message is counted, and the end is as quick
//! and idle as that of a short session.
//!
//! `cargo test` runs the short form. `cargo test --release --test soak -- --messages 10000000` is the
//! long one. A filter selects parts by name: `calls`, `unanswered`, `unwritable`.
#![allow(clippy::print_stdout, reason = "a test runner prints its result")]

use std::process::ExitCode;

#[cfg(target_os = "linux")]
mod books;
#[cfg(target_os = "linux")]
mod sessions;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    sessions::run()
}

/// Memory, descriptors and times of spantap come from `/proc`.
#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    println!("test soak: left out, because it runs on Linux only");
    ExitCode::SUCCESS
}
