//! Deletes old session logs, only for `spantap prune` or with the setting `max_total_size`.
//!
//! Never deletes a file that a live process writes to, or a file without the name of a session log.

use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::record::file_name::{SessionFileName, stem_and_part, unpacked};
use crate::record::timestamp::Timestamp;
use crate::system::access;

/// A session log with all its parts, packed or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionLog {
    /// The first part first.
    pub(crate) files: Vec<LogFile>,
    /// When any of the files was last written to.
    pub(crate) written: SystemTime,
}

/// A file of a session log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogFile {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
}

/// Size and last write of each file of a log, by the number of its part and its path.
type Parts = BTreeMap<(u64, PathBuf), (u64, SystemTime)>;

/// The result of an attempt to delete a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deletion {
    Deleted,
    /// A live process writes to a file of the log.
    InUse,
}

/// Returns the session logs of `folder`, the one with the oldest last write first.
pub(crate) fn session_logs(folder: &Path) -> io::Result<Vec<SessionLog>> {
    let mut logs: BTreeMap<String, Parts> = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if SessionFileName::parse(unpacked(&name)).is_none() {
            continue;
        }
        // `DirEntry::metadata` does not follow symbolic links; a link is not a session log.
        let Ok(metadata) = entry.metadata() else { continue };
        if let Ok(written) = metadata.modified()
            && metadata.is_file()
        {
            let (log, part) = stem_and_part(&name);
            logs.entry(log.to_owned()).or_default().insert((part, entry.path()), (metadata.len(), written));
        }
    }
    let log = |files: Parts| {
        let written = files.values().map(|(_, written)| *written).max()?;
        let file = |((_, path), (size, _))| LogFile { path, size };
        Some(SessionLog { files: files.into_iter().map(file).collect(), written })
    };
    let mut logs: Vec<SessionLog> = logs.into_values().filter_map(log).collect();
    logs.sort_by_key(|log| log.written);
    Ok(logs)
}

impl SessionLog {
    /// Returns the bytes of all files.
    pub(crate) fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Returns true if a live process writes to one of the files. A file that does not exist is not in use.
    pub(crate) fn is_in_use(&self) -> io::Result<bool> {
        for file in &self.files {
            match is_in_use(&file.path) {
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => return other,
            }
        }
        Ok(false)
    }

    /// Deletes all files unless a live process writes to one of them: a log without some of its parts says nothing
    /// about what they recorded. A file that does not exist counts as deleted.
    pub(crate) fn delete(&self) -> io::Result<Deletion> {
        if self.is_in_use()? {
            return Ok(Deletion::InUse);
        }
        for file in &self.files {
            match std::fs::remove_file(&file.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(Deletion::Deleted)
    }
}

/// Returns true if a live process holds the lock that a writer has on its log.
fn is_in_use(log: &Path) -> io::Result<bool> {
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
    let mut total: u64 = logs.iter().map(SessionLog::size).sum();
    for log in logs.iter().take_while(|log| day(log.written) < today) {
        if total <= max_total {
            break;
        }
        if matches!(log.delete(), Ok(Deletion::Deleted)) {
            total -= log.size();
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
        let [found] = session_logs(folder.path()).unwrap().try_into().unwrap();
        assert_eq!(found.delete().unwrap(), Deletion::InUse);
        limit_total_size(folder.path(), 0, SystemTime::now()).unwrap();
        assert!(log.exists());
        drop(holder);
        assert_eq!(found.delete().unwrap(), Deletion::Deleted);
        assert_eq!(found.delete().unwrap(), Deletion::Deleted, "gone already");
    }

    #[test]
    fn the_parts_of_a_log_stay_or_go_together() {
        let folder = tempfile::tempdir().unwrap();
        let first = log(folder.path(), 1, 100, DAY * 9);
        let other = log(folder.path(), 2, 100, DAY * 5);
        let second = first.with_extension("1.jsonl");
        std::fs::rename(log(folder.path(), 3, 100, DAY * 2), &second).unwrap();
        let logs = session_logs(folder.path()).unwrap();
        let files = |log: &SessionLog| log.files.iter().map(|file| file.path.clone()).collect::<Vec<_>>();
        assert_eq!(
            logs.iter().map(files).collect::<Vec<_>>(),
            [vec![other.clone()], vec![first.clone(), second.clone()]]
        );

        limit_total_size(folder.path(), 250, SystemTime::now()).unwrap();
        assert_eq!([&first, &second, &other].map(|log| log.exists()), [true, true, false]);

        // The writer locks the last part only.
        let holder = File::open(&second).unwrap();
        holder.lock_shared().unwrap();
        limit_total_size(folder.path(), 0, SystemTime::now()).unwrap();
        assert!(first.exists() && second.exists());
        drop(holder);
        limit_total_size(folder.path(), 150, SystemTime::now()).unwrap();
        assert!(!first.exists() && !second.exists());
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
