//! Replaces a file without losing an edit that another program makes meanwhile.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use tempfile::{NamedTempFile, TempPath};

use crate::hosts::backup_folder::{Backup, EditFolder};
use crate::hosts::store::FileSnapshot;
use crate::system::access::{self, FileAccess, FileId};
use crate::system::exchange::{self, ExchangeError};
use crate::system::lease::{self, LeaseOutcome};
use crate::system::signals::SignalMask;

/// How long a program that writes in place is waited for on a file system without leases.
const SETTLE: Duration = Duration::from_millis(50);

/// Outcome of a replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplaceOutcome {
    Done,
    /// Another program wrote the file meanwhile, or has it open for writing; read it again.
    Changed,
}

/// Points at which another program's write could be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RacePoint {
    BeforeLease,
    BeforeExchange,
    AfterExchange,
}

impl FileSnapshot {
    /// Replaces the file's text, unless the file has changed since it was read: then nothing is written and
    /// [`ReplaceOutcome::Changed`] is returned. The new file has the mode, owner, access list and attributes of
    /// the old one and is on disk before it gets the name. A copy of the old file goes to `folder`. Signals
    /// wait meanwhile, so that none leaves a temporary file.
    /// If it fails, the original is unchanged.
    pub fn replace(&self, text: &str, folder: Option<&EditFolder>) -> io::Result<ReplaceOutcome> {
        let mask = SignalMask::block_all();
        let outcome = self.replace_while(text, folder, |_| ());
        if let Ok(mask) = mask {
            mask.restore();
        }
        outcome
    }

    /// Same as [`FileSnapshot::replace`]. Tests use `meanwhile` to write the file at the race points.
    fn replace_while(
        &self,
        text: &str,
        folder: Option<&EditFolder>,
        meanwhile: impl Fn(RacePoint),
    ) -> io::Result<ReplaceOutcome> {
        let old = File::open(&self.path)?;
        let metadata = old.metadata()?;
        check_replaceable(&metadata, &old)?;
        let mut backup = match folder {
            Some(folder) => folder.back_up(&self.path, &self.bytes)?,
            None => None,
        };
        let bytes = self.with_bom(text);
        let beside = || {
            let place = self.path.parent().ok_or_else(|| io::Error::other("no folder"))?;
            match folder {
                Some(folder) => folder.temporary_in(place),
                None => NamedTempFile::new_in(place),
            }
        };
        // The next folder of a file may be a repository: a temporary file is there only if it must.
        let own = folder.filter(|folder| folder.is_on_device_of(&old));
        if let Some(new) = own.and_then(|folder| prepare(folder.temporary().ok()?, &bytes, &old).ok()) {
            match self.exchange(new, &bytes, &old, &mut backup, &meanwhile) {
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
                outcome => return outcome,
            }
        }
        self.exchange(prepare(beside()?, &bytes, &old)?, &bytes, &old, &mut backup, &meanwhile)
    }

    /// Gives `new` the name of `old` if that still has the content of the snapshot. The two names are exchanged,
    /// so that the exchange can be undone: a rename would lose what another program wrote. A lease holds up
    /// programs that open the old file for writing until it is clear which file they write. Once the names are
    /// exchanged, no failure is an error: what the file has then decides.
    fn exchange(
        &self,
        new: TempPath,
        bytes: &[u8],
        old: &File,
        backup: &mut Option<Backup<'_>>,
        meanwhile: &impl Fn(RacePoint),
    ) -> io::Result<ReplaceOutcome> {
        meanwhile(RacePoint::BeforeLease);
        let lease = match lease::take(old) {
            LeaseOutcome::Held(lease) => Some(lease),
            LeaseOutcome::OpenForWriting => return Ok(ReplaceOutcome::Changed),
            LeaseOutcome::Unsupported => None,
        };
        if fs::read(&self.path)? != self.bytes {
            return Ok(ReplaceOutcome::Changed);
        }
        let (old_id, new_id) = (FileId::of(old)?, FileId::at(&new)?);
        if let Some(backup) = backup.take() {
            backup.keep()?;
        }
        meanwhile(RacePoint::BeforeExchange);
        let swap = || exchange::exchange(&new, &self.path);
        match swap() {
            Ok(()) => {}
            Err(ExchangeError::Unsupported) => {
                access::persist(new, &self.path)?;
                return Ok(ReplaceOutcome::Done);
            }
            Err(ExchangeError::Failed(error)) => return Err(error),
        }
        meanwhile(RacePoint::AfterExchange);
        let is_unused = match &lease {
            Some(lease) => !lease.is_wanted(),
            None => {
                std::thread::sleep(SETTLE);
                fs::read(&new).is_ok_and(|now| now == self.bytes)
            }
        };
        if FileId::at(&new).is_ok_and(|id| id == old_id) && is_unused {
            let is_ours = fs::read(&self.path).is_ok_and(|now| now == bytes);
            return Ok(if is_ours { ReplaceOutcome::Done } else { ReplaceOutcome::Changed });
        }
        if swap().is_err() {
            // The host removed the file. The other name has what a program wrote, or is about to write.
            access::persist(new, &self.path)?;
            return Ok(ReplaceOutcome::Changed);
        }
        // If another program wrote between the two exchanges, its version is the newest.
        if FileId::at(&new).is_ok_and(|id| id != new_id)
            || is_written(&new)
            || fs::read(&new).is_ok_and(|now| now != bytes)
        {
            let _ = swap();
        }
        Ok(ReplaceOutcome::Changed)
    }
}

fn is_written(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(lease::take(&file), LeaseOutcome::OpenForWriting))
}

fn check_replaceable(metadata: &fs::Metadata, file: &File) -> io::Result<()> {
    if metadata.permissions().readonly() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file is read-only"));
    }
    match FileAccess::of(file)?.names {
        0 | 1 => Ok(()),
        names => Err(io::Error::other(format!(
            "the file has {names} names (hard links), and an edit would part them; replace this one by a copy \
             or a symbolic link"
        ))),
    }
}

/// Writes the new file and makes it the same as the old one for everyone who may read it.
fn prepare(mut file: NamedTempFile, bytes: &[u8], old: &File) -> io::Result<TempPath> {
    exchange::make_alike(file.as_file(), old)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file.into_temp_path())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// Replaces a file that `write` changes at `point`; that change must stay.
    fn race(point: RacePoint, write: fn(&Path)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mcp.json");
        fs::write(&path, "{}").unwrap();
        let snapshot = FileSnapshot::read(&path).unwrap();
        std::thread::scope(|scope| {
            let interfere = |now| {
                if now == point {
                    let before = fs::read(&path).unwrap();
                    let writer = scope.spawn(|| write(&path));
                    // A lease holds the writer up before the exchange. After it, the new file may be open for writing in
                    // a child of another test that is not executed yet.
                    let is_held_up = || point == RacePoint::BeforeExchange && is_held_up(&path);
                    let has_begun = || !fs::read(&path).is_ok_and(|now| now == before);
                    while !writer.is_finished() && !is_held_up() && !has_begun() {
                        std::thread::yield_now();
                    }
                }
            };
            assert_eq!(snapshot.replace_while("ours", None, interfere).unwrap(), ReplaceOutcome::Changed);
        });
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs", "{point:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    /// Returns true if a thread waits to open the file for writing: it counts as a writer then.
    fn is_held_up(path: &Path) -> bool {
        matches!(lease::take(&File::open(path).unwrap()), LeaseOutcome::OpenForWriting)
    }

    fn in_place(path: &Path) {
        fs::write(path, "theirs").unwrap();
    }

    fn by_renaming(path: &Path) {
        let new = path.with_extension("new");
        fs::write(&new, "theirs").unwrap();
        fs::rename(new, path).unwrap();
    }

    /// Empties the file, and writes it later.
    fn slowly(path: &Path) {
        let mut file = File::create(path).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        file.write_all(b"theirs").unwrap();
    }

    #[test]
    fn an_edit_made_meanwhile_is_kept() {
        for point in [RacePoint::BeforeLease, RacePoint::BeforeExchange, RacePoint::AfterExchange] {
            for write in [in_place, by_renaming, slowly] {
                race(point, write);
            }
        }
    }

    fn folder_and_file(content: &str) -> (tempfile::TempDir, PathBuf, EditFolder) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mcp.json");
        fs::write(&path, content).unwrap();
        let backups = EditFolder::open(folder.path().join("backups")).unwrap();
        (folder, path, backups)
    }

    #[test]
    fn ten_copies_are_kept_and_they_are_private() {
        let (folder, path, backups) = folder_and_file("0");
        for round in 1..=12 {
            let snapshot = FileSnapshot::read(&path).unwrap();
            assert_eq!(snapshot.replace(&round.to_string(), Some(&backups)).unwrap(), ReplaceOutcome::Done);
        }
        let found = fs::read_dir(folder.path().join("backups")).unwrap();
        let mut copies: Vec<PathBuf> = found.map(|entry| entry.unwrap().path()).collect();
        copies.sort();
        let texts: Vec<String> = copies.iter().map(|copy| fs::read_to_string(copy).unwrap()).collect();
        assert_eq!(texts, ["2", "3", "4", "5", "6", "7", "8", "9", "10", "11"]);
        for copy in copies {
            assert!(cfg!(windows) || !FileAccess::at(&copy).unwrap().is_open);
        }
    }

    #[test]
    fn a_file_that_is_not_edited_gets_no_copy() {
        let (folder, path, backups) = folder_and_file("0");
        let old = FileSnapshot::read(&path).unwrap();
        let _writer = fs::OpenOptions::new().write(true).open(&path).unwrap();
        for content in 1..=12 {
            let snapshot = FileSnapshot::read(&path).unwrap();
            fs::write(&path, content.to_string()).unwrap();
            assert_eq!(snapshot.replace("new", Some(&backups)).unwrap(), ReplaceOutcome::Changed);
        }
        assert_eq!(old.replace("new", Some(&backups)).unwrap(), ReplaceOutcome::Changed);
        assert_eq!(fs::read_dir(folder.path().join("backups")).unwrap().count(), 0);
    }

    #[test]
    fn the_next_run_removes_the_temporary_files_of_a_run_that_was_killed() {
        let (folder, _path, backups) = folder_and_file("");
        let repository = tempfile::tempdir().unwrap();
        // A process that is killed drops nothing, but its lock ends.
        std::mem::forget(backups.temporary().unwrap());
        std::mem::forget(backups.temporary_in(repository.path()).unwrap());
        fs::write(repository.path().join(".spantap-of-another-program"), "").unwrap();
        drop(backups);
        EditFolder::clean(folder.path().join("backups"));
        assert_eq!(fs::read_dir(folder.path().join("backups")).unwrap().count(), 0);
        let left: Vec<_> =
            fs::read_dir(repository.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(left, [".spantap-of-another-program"]);
    }
}
