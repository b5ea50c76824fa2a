//! Leases on files: while one is held, a process that opens the file for writing waits. Only Linux has them.

use std::fs::File;
use std::io;

#[cfg(target_os = "linux")]
pub use super::unix::lease::ReadLease;

/// Outcome of asking for a lease.
#[derive(Debug)]
pub enum LeaseOutcome<'a> {
    Held(ReadLease<'a>),
    /// A process has the file open for writing.
    OpenForWriting,
    /// The system, the file system or the owner of the file does not allow a lease.
    Unsupported,
}

/// Asks for a lease on a file that is open for reading only.
pub fn take(file: &File) -> LeaseOutcome<'_> {
    match ReadLease::take(file) {
        Ok(lease) => LeaseOutcome::Held(lease),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => LeaseOutcome::OpenForWriting,
        Err(_) => LeaseOutcome::Unsupported,
    }
}

/// A lease that is held until it is dropped. This system has no leases, so the type has no value.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub struct ReadLease<'a>(std::convert::Infallible, std::marker::PhantomData<&'a File>);

#[cfg(not(target_os = "linux"))]
impl ReadLease<'_> {
    fn take(_: &File) -> io::Result<ReadLease<'_>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Returns true if a process waits until it may open the file for writing.
    pub fn is_wanted(&self) -> bool {
        match self.0 {}
    }
}
