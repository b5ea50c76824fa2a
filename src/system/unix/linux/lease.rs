//! Leases on files: while one is held, a process that opens the file for writing waits, fcntl(2).

use std::fs::File;
use std::io;

/// A lease that is held until it is dropped.
#[derive(Debug)]
pub struct ReadLease<'a>(&'a File);

impl ReadLease<'_> {
    /// Asks for a lease on a file that is open for reading only. Fails with [`io::ErrorKind::WouldBlock`] if a process has
    /// it open for writing.
    pub(in crate::system) fn take(file: &File) -> io::Result<ReadLease<'_>> {
        /// From `<fcntl.h>`; the libc crate does not have it for every target.
        const F_SETSIG: libc::c_int = 10;
        // The default signal, SIGIO, would end this process. This one is ignored by default.
        fcntl(file, F_SETSIG, libc::SIGURG)?;
        fcntl(file, libc::F_SETLEASE, libc::F_RDLCK)?;
        Ok(ReadLease(file))
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

fn fcntl(file: &File, command: libc::c_int, value: libc::c_int) -> io::Result<libc::c_int> {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open, and each command used here takes an integer.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, value) } {
        -1 => Err(io::Error::last_os_error()),
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
        let refused = ReadLease::take(&reader).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(writer);
        let lease = ReadLease::take(&reader).expect("a lease on this file system");
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
