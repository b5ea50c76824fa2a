//! Calls to the operating system, one subject in each file. All unsafe code of spantap but that of `relay` is here.
//! Other rooms use the standard library, rustix, crossterm and signal-hook.

pub mod allocator;
pub mod clock;
pub mod descriptor;
pub mod detached;
pub mod files;
pub mod lease;
pub mod memory;
pub mod messages;
pub mod ports;
pub mod process;
pub mod procfs;
pub mod signals;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub mod stack;
pub mod stdio;
pub mod thread;
#[cfg(all(target_os = "linux", target_env = "gnu", not(target_feature = "crt-static")))]
mod thread_local;
