//! Everything that asks the operating system: processes, signals, clocks and the standard streams.
//!
//! Each file covers one subject. The rooms above this one name no system call.

pub mod clock;
pub mod process;
pub mod signals;
pub mod stdio;
