//! Reads and replaces files without losing an edit that another program makes meanwhile.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::hosts::tree::FileFormat;
use crate::system::files::{read_limited, write_private};

/// Content of a file when it was read.
#[derive(Clone, Debug)]
pub struct FileSnapshot {
    /// Path of the file itself, with links resolved.
    pub path: PathBuf,
    bytes: Vec<u8>,
    has_bom: bool,
}

const BOM: &[u8] = b"\xef\xbb\xbf";
/// Size of the largest JSON file that is accepted: some hosts keep their history in the file of their servers.
const MAX_JSON: u64 = 64 << 20;
/// Size of the largest TOML or YAML file. Its syntax tree takes a hundred times as much memory.
const MAX_OTHER: u64 = 1 << 20;
/// Number of backups that are kept of each file.
const BACKUPS: usize = 10;

impl FileSnapshot {
    /// Reads a file. A link is followed, and [`FileSnapshot::replace`] writes its target.
    ///
    /// # Errors
    /// The file cannot be read, is larger than 64 MiB (TOML and YAML: 1 MiB), or is not UTF-8.
    pub fn read(path: &Path) -> io::Result<FileSnapshot> {
        let path = fs::canonicalize(path)?;
        let limit = if FileFormat::of(&path) == FileFormat::Json { MAX_JSON } else { MAX_OTHER };
        let bytes = read_limited(&path, limit)?;
        std::str::from_utf8(&bytes).map_err(|_| io::Error::other("not UTF-8"))?;
        let has_bom = bytes.starts_with(BOM);
        Ok(FileSnapshot { path, bytes, has_bom })
    }

    /// Returns the text without a byte order mark.
    pub fn text(&self) -> &str {
        let start = if self.has_bom { BOM.len() } else { 0 };
        std::str::from_utf8(&self.bytes[start..]).unwrap_or_default()
    }

    /// Replaces the file's text, unless the file has changed since it was read: then nothing is written and
    /// [`ReplaceOutcome::Changed`] is returned. The new file has the mode and owner of the old one and is on
    /// disk before it gets the name. A copy of the old file goes to `backups`.
    /// If it fails, the original is unchanged.
    pub fn replace(&self, text: &str, backups: Option<&Path>) -> io::Result<ReplaceOutcome> {
        self.replace_while(text, backups, |_| ())
    }

    /// Same as [`FileSnapshot::replace`]. Tests use `meanwhile` to write the file at the two race points.
    fn replace_while(
        &self,
        text: &str,
        backups: Option<&Path>,
        meanwhile: impl Fn(RacePoint),
    ) -> io::Result<ReplaceOutcome> {
        let folder = self.path.parent().ok_or_else(|| io::Error::other("no folder"))?;
        let metadata = fs::metadata(&self.path)?;
        if metadata.permissions().readonly() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file is read-only"));
        }
        let mut file = tempfile::Builder::new().prefix(".spantap-").tempfile_in(folder)?;
        if self.has_bom {
            file.write_all(BOM)?;
        }
        file.write_all(text.as_bytes())?;
        same_owner(file.as_file(), &metadata)?;
        file.as_file().set_permissions(metadata.permissions())?;
        file.as_file().sync_all()?;
        if let Some(backups) = backups {
            back_up(&self.path, &self.bytes, backups)?;
        }
        meanwhile(RacePoint::BeforeComparing);
        if fs::read(&self.path)? != self.bytes {
            return Ok(ReplaceOutcome::Changed);
        }
        meanwhile(RacePoint::BeforeRenaming);
        exchange(file, &self.path, &self.bytes)
    }
}

/// Points at which another program's write could be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RacePoint {
    BeforeComparing,
    BeforeRenaming,
}

/// Gives a new file the owner of the old one: an administrator may edit another user's file.
#[cfg(unix)]
fn same_owner(file: &fs::File, old: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let new = file.metadata()?;
    if (new.uid(), new.gid()) == (old.uid(), old.gid()) {
        return Ok(());
    }
    std::os::unix::fs::fchown(file, Some(old.uid()), Some(old.gid()))
}

#[cfg(not(unix))]
fn same_owner(_: &fs::File, _: &fs::Metadata) -> io::Result<()> {
    Ok(())
}

/// Replaces `path` by `file` if `path` still contains `expected`. The two names are exchanged, so that the
/// old content can be compared once more: a rename would lose a write made after the last comparison. On a
/// file system that cannot exchange names, `file` is renamed.
#[cfg(any(target_os = "linux", target_os = "macos"))]
fn exchange(file: tempfile::NamedTempFile, path: &Path, expected: &[u8]) -> io::Result<ReplaceOutcome> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    let ours = fs::read(file.path())?;
    let other = file.into_temp_path();
    let swap = || renameat_with(CWD, &*other, CWD, path, RenameFlags::EXCHANGE);
    match swap() {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            other.persist(path).map_err(|error| error.error)?;
            return Ok(ReplaceOutcome::Done);
        }
        Err(error) => return Err(error.into()),
    }
    if fs::read(&other)? == expected {
        return Ok(ReplaceOutcome::Done);
    }
    swap()?;
    if fs::read(&other)? != ours {
        // Another program wrote again between the two exchanges; its version is the newest.
        swap()?;
    }
    Ok(ReplaceOutcome::Changed)
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn exchange(file: tempfile::NamedTempFile, path: &Path, _: &[u8]) -> io::Result<ReplaceOutcome> {
    file.persist(path).map_err(|error| error.error)?;
    Ok(ReplaceOutcome::Done)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplaceOutcome {
    Done,
    /// Another program wrote the file meanwhile; read it again.
    Changed,
}

/// Copies the old content to our own folder: next to a project's file it could get into the repository.
fn back_up(path: &Path, bytes: &[u8], folder: &Path) -> io::Result<()> {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let stem: String = path.to_string_lossy().chars().map(safe).collect();
    // A path can be longer than the longest file name.
    let stem: String = stem.chars().skip(stem.chars().count().saturating_sub(180)).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    write_private(&folder.join(format!("{stem}.{now:020}")), bytes)?;

    let is_ours = |name: &str| {
        name.strip_prefix(&stem)
            .and_then(|rest| rest.strip_prefix('.'))
            .is_some_and(|rest| rest.len() == 20 && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut copies: Vec<PathBuf> = fs::read_dir(folder)?
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_ours))
        .map(|entry| entry.path())
        .collect();
    copies.sort();
    let surplus = copies.len().saturating_sub(BACKUPS);
    for old in copies.iter().take(surplus) {
        fs::remove_file(old)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replaces a file that `write` changes meanwhile, in place or by a rename; that change must stay.
    fn race(point: RacePoint, write: fn(&Path)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mcp.json");
        fs::write(&path, "{}").unwrap();
        let snapshot = FileSnapshot::read(&path).unwrap();
        let interfere = |now| {
            if now == point {
                write(&path)
            }
        };
        assert_eq!(snapshot.replace_while("ours", None, interfere).unwrap(), ReplaceOutcome::Changed);
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    fn in_place(path: &Path) {
        fs::write(path, "theirs").unwrap();
    }

    fn by_renaming(path: &Path) {
        let new = path.with_extension("new");
        fs::write(&new, "theirs").unwrap();
        fs::rename(new, path).unwrap();
    }

    #[test]
    fn an_edit_made_between_reading_and_comparing_is_kept() {
        race(RacePoint::BeforeComparing, in_place);
        race(RacePoint::BeforeComparing, by_renaming);
    }

    #[test]
    fn an_edit_made_between_comparing_and_renaming_is_kept() {
        race(RacePoint::BeforeRenaming, in_place);
        race(RacePoint::BeforeRenaming, by_renaming);
    }

    #[test]
    fn ten_copies_are_kept_and_they_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let (path, backups) = (folder.path().join("mcp.json"), folder.path().join("backups"));
        fs::write(&path, "0").unwrap();
        for round in 1..=12 {
            let snapshot = FileSnapshot::read(&path).unwrap();
            assert_eq!(snapshot.replace(&round.to_string(), Some(&backups)).unwrap(), ReplaceOutcome::Done);
        }
        let mut copies: Vec<PathBuf> =
            fs::read_dir(&backups).unwrap().map(|entry| entry.unwrap().path()).collect();
        copies.sort();
        let texts: Vec<String> = copies.iter().map(|copy| fs::read_to_string(copy).unwrap()).collect();
        assert_eq!(texts, ["2", "3", "4", "5", "6", "7", "8", "9", "10", "11"]);
        #[cfg(unix)]
        for copy in copies {
            let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(copy).unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
