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
pub mod scheduling;
pub mod signals;
pub mod stdio;

#[cfg(target_os = "linux")]
use linux as own;
#[cfg(target_os = "macos")]
use macos as own;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub use own::stack;
pub use own::{lease, ports, processes};
