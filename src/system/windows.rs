//! The subjects on Windows.

use std::ffi::OsStr;
use std::os::windows::ffi::OsStrExt;

pub mod access;
pub mod descriptor;
pub mod detached;
pub mod exchange;
pub(crate) mod group;
mod job;
pub mod memory;
pub mod places;
pub mod ports;
pub mod process;
pub mod processes;
pub mod scheduling;
pub mod signals;
pub mod stdio;

/// Returns a text as the system's calls take it: UTF-16 with a zero at the end.
fn wide(text: &OsStr) -> Vec<u16> {
    text.encode_wide().chain([0]).collect()
}

/// Returns the outcome of a call that reports a failure as false.
fn checked(outcome: windows_sys::core::BOOL) -> std::io::Result<()> {
    match outcome {
        0 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}
