//! spantap's own folder for edits. It contains the backups and, if possible, the temporary files.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::{NamedTempFile, TempPath};

use crate::system::access::{self, FileId};
use crate::system::files::make_private_folder;

/// Number of backups that are kept of each file.
const BACKUPS: usize = 10;
/// Prefix of the names of temporary files.
const PREFIX: &str = ".spantap-";

/// The folder, locked: one run of spantap at a time edits files of hosts.
#[derive(Debug)]
pub struct EditFolder {
    path: PathBuf,
    /// Contains the path of the last temporary file that was not in this folder.
    lock: File,
}

impl EditFolder {
    /// Makes the folder if it is missing, waits for another run that edits, and removes the temporary files of
    /// a run that was killed.
    pub fn open(path: PathBuf) -> io::Result<EditFolder> {
        make_private_folder(&path)?;
        let mut options = access::private_options();
        options.read(true).write(true).create(true).truncate(false);
        let folder = EditFolder { lock: options.open(lock_file(&path))?, path };
        access::keep_private(&folder.lock)?;
        // Without locks on this file system, a temporary file may belong to a run that is not dead.
        if folder.lock.lock().is_ok() {
            folder.remove_leftovers()?;
        }
        Ok(folder)
    }

    /// Removes the temporary files of a run that was killed, if spantap has edited files before.
    pub fn clean(path: PathBuf) {
        if lock_file(&path).exists() {
            let _ = EditFolder::open(path);
        }
    }

    fn remove_leftovers(&self) -> io::Result<()> {
        let mut elsewhere = Vec::new();
        (&self.lock).read_to_end(&mut elsewhere)?;
        let elsewhere = access::path_of(&elsewhere);
        let here = fs::read_dir(&self.path)?.flatten().map(|entry| entry.path());
        let is_ours = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
        };
        for path in here.chain([elsewhere]).filter(is_ours) {
            let _ = fs::remove_file(path);
        }
        self.lock.set_len(0)
    }

    /// Returns true if files can be renamed between this folder and the place of `file`.
    pub(super) fn is_on_device_of(&self, file: &File) -> bool {
        let ids = FileId::of(&self.lock).and_then(|lock| Ok((lock, FileId::of(file)?)));
        ids.is_ok_and(|(lock, file)| lock.is_on_device_of(file))
    }

    /// Makes a temporary file in this folder.
    pub(super) fn temporary(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix(PREFIX).tempfile_in(&self.path)
    }

    /// Makes a temporary file in another folder. Its path is written down first, so that the next run can
    /// remove it if this one is killed.
    pub(super) fn temporary_in(&self, folder: &Path) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix(PREFIX).make_in(folder, |path| {
            let mut lock = &self.lock;
            lock.set_len(0)?;
            lock.rewind()?;
            lock.write_all(access::bytes_of(path))?;
            access::private_options().write(true).create_new(true).open(path)
        })
    }

    /// Copies the old content of the file at `path`. Returns `None` if its newest copy has the same content.
    pub(super) fn back_up(&self, path: &Path, bytes: &[u8]) -> io::Result<Option<Backup<'_>>> {
        let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let stem: String = path.to_string_lossy().chars().map(safe).collect();
        // A path can be longer than the longest file name.
        let stem: String = stem.chars().skip(stem.chars().count().saturating_sub(180)).collect();
        let older = self.copies(&stem)?;
        if older.last().is_some_and(|newest| fs::read(newest).is_ok_and(|copy| copy == bytes)) {
            return Ok(None);
        }
        let mut file = self.temporary()?;
        access::keep_private(file.as_file())?;
        file.write_all(bytes)?;
        Ok(Some(Backup { folder: self, stem, copy: file.into_temp_path(), older }))
    }

    /// Returns the copies of a file, the oldest first.
    fn copies(&self, stem: &str) -> io::Result<Vec<PathBuf>> {
        let is_copy = |name: &str| {
            name.strip_prefix(stem)
                .and_then(|rest| rest.strip_prefix('.'))
                .is_some_and(|rest| rest.len() == 20 && rest.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let mut copies: Vec<PathBuf> = fs::read_dir(&self.path)?
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(is_copy))
            .map(|entry| entry.path())
            .collect();
        copies.sort();
        Ok(copies)
    }
}

/// A copy of a file that is to be edited. It is removed unless it is kept.
pub(super) struct Backup<'a> {
    folder: &'a EditFolder,
    /// The beginning of the names of this file's copies.
    stem: String,
    copy: TempPath,
    /// The copies that were there, the oldest first.
    older: Vec<PathBuf>,
}

impl Backup<'_> {
    /// Gives the copy its name, and removes the oldest copies.
    pub(super) fn keep(self) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        access::persist(self.copy, &self.folder.path.join(format!("{}.{now:020}", self.stem)))?;
        for oldest in &self.older[..self.older.len().saturating_sub(BACKUPS - 1)] {
            // A copy that stays does not prevent the edit.
            let _ = fs::remove_file(oldest);
        }
        Ok(())
    }
}

/// Returns the path of the lock file. It is beside the folder, which contains backups only.
fn lock_file(folder: &Path) -> PathBuf {
    folder.with_extension("lock")
}
