//! Leases on files, which Windows does not have.

use std::fs::File;
use std::marker::PhantomData;

/// Outcome of asking for a lease.
#[derive(Debug)]
pub enum LeaseOutcome<'a> {
    Held(ReadLease<'a>),
    /// A process has the file open for writing.
    OpenForWriting,
    /// The system does not allow a lease.
    Unsupported,
}

/// A lease that is held until it is dropped.
#[derive(Debug)]
pub struct ReadLease<'a>(PhantomData<&'a File>);

impl ReadLease<'_> {
    /// Returns [`LeaseOutcome::Unsupported`].
    pub fn take(_: &File) -> LeaseOutcome<'_> {
        LeaseOutcome::Unsupported
    }

    /// Returns true, because nothing is known.
    pub fn is_wanted(&self) -> bool {
        true
    }
}
