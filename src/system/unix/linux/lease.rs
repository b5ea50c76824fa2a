//! Leases on files: while one is held, a process that opens the file for writing waits, fcntl(2).

use std::fs::File;

/// Outcome of asking for a lease.
#[derive(Debug)]
pub enum LeaseOutcome<'a> {
    Held(ReadLease<'a>),
    /// A process has the file open for writing.
    OpenForWriting,
    /// The system, the file system or the owner of the file does not allow a lease.
    Unsupported,
}

/// A lease that is held until it is dropped.
#[derive(Debug)]
pub struct ReadLease<'a>(&'a File);

impl ReadLease<'_> {
    /// Asks for a lease on a file that is open for reading only.
    pub fn take(file: &File) -> LeaseOutcome<'_> {
        /// From `<fcntl.h>`; the libc crate does not have it for every target.
        const F_SETSIG: libc::c_int = 10;
        // The default signal, SIGIO, would end this process. This one is ignored by default.
        let taken =
            fcntl(file, F_SETSIG, libc::SIGURG).and_then(|_| fcntl(file, libc::F_SETLEASE, libc::F_RDLCK));
        match taken {
            Ok(_) => LeaseOutcome::Held(ReadLease(file)),
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => LeaseOutcome::OpenForWriting,
            Err(_) => LeaseOutcome::Unsupported,
        }
    }

    /// Returns true if a process waits until it may open the file for writing.
    pub fn is_wanted(&self) -> bool {
        !fcntl(self.0, libc::F_GETLEASE, 0).is_ok_and(|kind| kind == libc::F_RDLCK)
    }
}

impl Drop for ReadLease<'_> {
    fn drop(&mut self) {
        let _ = fcntl(self.0, libc::F_SETLEASE, libc::F_UNLCK);
    }
}

fn fcntl(file: &File, command: libc::c_int, value: libc::c_int) -> std::io::Result<libc::c_int> {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open, and each command used here takes an integer.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, value) } {
        -1 => Err(std::io::Error::last_os_error()),
        result => Ok(result),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_prevents_a_lease_and_a_lease_holds_a_writer_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        assert!(matches!(ReadLease::take(&reader), LeaseOutcome::OpenForWriting));
        drop(writer);
        let LeaseOutcome::Held(lease) = ReadLease::take(&reader) else {
            panic!("no lease on this file system")
        };
        assert!(!lease.is_wanted());
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| std::fs::write(&path, "x").unwrap());
            while !lease.is_wanted() {
                std::thread::yield_now();
            }
            assert_eq!(std::fs::read(&path).unwrap(), b"", "the writer waits");
            drop(lease);
            writer.join().unwrap();
        });
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
    }
}
