//! Deletes old session logs, only for `spantap prune` or with the setting `max_total_size`.
//!
//! Never deletes a file that a live process writes to, or a file without the name of a session log.

use std::fs::TryLockError;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::record::file_name::{SessionFileName, unpacked};
use crate::record::timestamp::Timestamp;
use crate::system::access;

/// The file of a session log or of one of its parts, packed or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogFile {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) written: SystemTime,
}

/// The result of an attempt to delete a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deletion {
    Deleted,
    /// A live process writes to the file.
    InUse,
}

/// Returns the session logs of `folder`, the one with the oldest last write first.
pub(crate) fn session_logs(folder: &Path) -> io::Result<Vec<LogFile>> {
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if SessionFileName::parse(unpacked(&entry.file_name().to_string_lossy())).is_none() {
            continue;
        }
        // `DirEntry::metadata` does not follow symbolic links; a link is not a session log.
        let Ok(metadata) = entry.metadata() else { continue };
        if let Ok(written) = metadata.modified()
            && metadata.is_file()
        {
            logs.push(LogFile { path: entry.path(), size: metadata.len(), written });
        }
    }
    logs.sort_by(|a, b| (a.written, &a.path).cmp(&(b.written, &b.path)));
    Ok(logs)
}

/// Deletes `log` unless a live process writes to it. A file that does not exist counts as deleted.
pub(crate) fn delete(log: &Path) -> io::Result<Deletion> {
    match is_in_use(log) {
        Ok(true) => Ok(Deletion::InUse),
        Ok(false) => std::fs::remove_file(log).map(|()| Deletion::Deleted),
        Err(error) => Err(error),
    }
    .or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(Deletion::Deleted),
        _ => Err(error),
    })
}

/// Returns true if a live process holds the lock that a writer has on its log.
pub(crate) fn is_in_use(log: &Path) -> io::Result<bool> {
    let file = access::reading_options(false).open(log)?;
    // On a file system without locks the age alone decides.
    Ok(matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Deletes the oldest session logs of `folder` until all of them together take at most `max_total` bytes.
/// Logs of the current day (UTC) and logs in use stay, even if that leaves more. A file that cannot be deleted
/// is skipped.
pub(crate) fn limit_total_size(folder: &Path, max_total: u64, now: SystemTime) -> io::Result<()> {
    let day = |time| Timestamp::from(time).date();
    let today = day(now);
    let logs = session_logs(folder)?;
    let mut total: u64 = logs.iter().map(|log| log.size).sum();
    for log in logs.iter().take_while(|log| day(log.written) < today) {
        if total <= max_total {
            break;
        }
        if matches!(delete(&log.path), Ok(Deletion::Deleted)) {
            total -= log.size;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::Duration;

    const DAY: Duration = Duration::from_secs(86_400);

    fn log(folder: &Path, id: u32, size: usize, age: Duration) -> PathBuf {
        let path = folder.join(format!("fs-2026-01-01-{id:012x}.jsonl"));
        std::fs::write(&path, vec![b'x'; size]).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
        path
    }

    #[test]
    fn the_oldest_go_first_and_only_until_the_rest_fits() {
        let folder = tempfile::tempdir().unwrap();
        let logs = [3, 4, 2].map(|days| log(folder.path(), days, 100, DAY * days));
        limit_total_size(folder.path(), 250, SystemTime::now()).unwrap();
        assert_eq!(logs.map(|log| log.exists()), [true, false, true]);
    }

    #[test]
    fn todays_logs_stay_however_large() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path(), 1, 100, Duration::ZERO);
        limit_total_size(folder.path(), 0, SystemTime::now()).unwrap();
        assert!(log.exists());
    }

    #[test]
    fn what_a_live_process_holds_stays() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path(), 1, 100, DAY * 9);
        let holder = File::open(&log).unwrap();
        holder.lock_shared().unwrap();
        assert_eq!(delete(&log).unwrap(), Deletion::InUse);
        limit_total_size(folder.path(), 0, SystemTime::now()).unwrap();
        assert!(log.exists());
        drop(holder);
        assert_eq!(delete(&log).unwrap(), Deletion::Deleted);
        assert_eq!(delete(&log).unwrap(), Deletion::Deleted, "gone already");
    }

    #[test]
    fn nothing_else_in_the_folder_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let target = log(folder.path(), 7, 10, DAY * 9);
        std::fs::rename(&target, folder.path().join("precious")).unwrap();
        for name in ["notes.jsonl", "fs-2026-01-01.jsonl", "fs-2026-01-01-00000000000g.jsonl"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink("precious", &target).unwrap();
        std::fs::create_dir(folder.path().join("fs-2026-01-01-00000000000a.jsonl")).unwrap();
        assert_eq!(session_logs(folder.path()).unwrap(), []);
    }

    #[test]
    fn packed_logs_count_too() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["fs-2026-01-01-00000000000a.jsonl.gz", "fs-2026-01-01-00000000000b.2.jsonl.zst"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        assert_eq!(session_logs(folder.path()).unwrap().len(), 2);
    }
}
