//! Calls to the operating system, one subject in each file, and instructions of the processor (`vector`). All unsafe
//! code of spantap but that of `relay` is here.
//!
//! The subjects that differ between systems are in `unix/` and `windows/`, under the same names and with the same
//! functions. The other rooms name a subject and do not know the system. What only Linux or only macOS has is in
//! `unix/linux.rs` and `unix/macos.rs`.

pub mod activity;
pub mod allocator;
pub mod clock;
pub mod files;
pub mod lease;
pub mod mapping;
pub mod messages;
pub mod mutex;
pub mod network;
mod owner;
pub mod server;
pub(crate) mod signal_name;
#[cfg(not(all(unix, any(target_arch = "aarch64", target_arch = "x86_64"))))]
pub mod stack;
pub mod thread;
#[cfg(unix)]
mod unix;
pub mod vector;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::*;
#[cfg(windows)]
pub use windows::*;
