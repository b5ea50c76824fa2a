//! The subjects on Linux and macOS.

pub mod access;
pub mod descriptor;
pub mod detached;
pub mod exchange;
pub(crate) mod group;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
pub mod memory;
pub mod places;
pub mod process;
pub mod processes;
pub mod scheduling;
pub mod signals;
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
pub mod stack;
pub mod stdio;

#[cfg(target_os = "linux")]
use linux as own;
#[cfg(target_os = "macos")]
use macos as own;

#[cfg(target_os = "linux")]
pub(in crate::system) use own::lease;
pub use own::ports;
