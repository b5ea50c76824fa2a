//! Files read and replaced so that nobody's edit is lost.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A file as it was read.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The file itself, behind any links.
    pub path: PathBuf,
    bytes: Vec<u8>,
    has_bom: bool,
}

const BOM: &[u8] = b"\xef\xbb\xbf";
/// Files larger than this are no config files.
const MAX_BYTES: u64 = 64 << 20;
/// Copies kept of each file.
const BACKUPS: usize = 10;

impl Snapshot {
    /// Reads a file; a link is followed and its target is what will be written.
    ///
    /// # Errors
    /// When it cannot be read, is larger than 64 MiB, or is not UTF-8.
    pub fn read(path: &Path) -> io::Result<Snapshot> {
        let path = fs::canonicalize(path)?;
        if fs::metadata(&path)?.len() > MAX_BYTES {
            return Err(io::Error::other("too large for a config file"));
        }
        let bytes = fs::read(&path)?;
        std::str::from_utf8(&bytes).map_err(|_| io::Error::other("not UTF-8"))?;
        let has_bom = bytes.starts_with(BOM);
        Ok(Snapshot { path, bytes, has_bom })
    }

    /// The text without a byte order mark.
    pub fn text(&self) -> &str {
        let start = if self.has_bom { BOM.len() } else { 0 };
        std::str::from_utf8(&self.bytes[start..]).unwrap_or_default()
    }

    /// Puts `text` in the file's place, unless the file has changed since it was read: then nothing is
    /// written and the answer is [`Replaced::Changed`]. The new file has the old one's mode, is on disk
    /// before it takes the name, and a copy of the old one goes to `backups`.
    ///
    /// # Errors
    /// When something cannot be written; the file is then as it was.
    pub fn replace(&self, text: &str, backups: Option<&Path>) -> io::Result<Replaced> {
        self.replace_while(text, backups, |_| ())
    }

    /// `meanwhile` is what others do at the two moments at which a race could be lost.
    fn replace_while(
        &self,
        text: &str,
        backups: Option<&Path>,
        meanwhile: impl Fn(Moment),
    ) -> io::Result<Replaced> {
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
        meanwhile(Moment::BeforeComparing);
        if fs::read(&self.path)? != self.bytes {
            return Ok(Replaced::Changed);
        }
        meanwhile(Moment::BeforeRenaming);
        exchange(file, &self.path, &self.bytes)
    }
}

/// When somebody else may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    BeforeComparing,
    BeforeRenaming,
}

/// Gives a new file the old one's owner: an administrator may edit another person's file.
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

/// Puts `file` in the place of `path` if `path` still holds `expected`. The two names are exchanged, so
/// that what was there a moment ago can still be looked at: renaming over it would lose what somebody
/// wrote after the last comparison. A file system that cannot exchange renames.
#[cfg(any(target_os = "linux", target_os = "macos"))]
fn exchange(file: tempfile::NamedTempFile, path: &Path, expected: &[u8]) -> io::Result<Replaced> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    let ours = fs::read(file.path())?;
    let other = file.into_temp_path();
    let swap = || renameat_with(CWD, &*other, CWD, path, RenameFlags::EXCHANGE);
    match swap() {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            other.persist(path).map_err(|error| error.error)?;
            return Ok(Replaced::Done);
        }
        Err(error) => return Err(error.into()),
    }
    if fs::read(&other)? == expected {
        return Ok(Replaced::Done);
    }
    swap()?;
    if fs::read(&other)? != ours {
        // Written yet again between the two exchanges: that is the newest.
        swap()?;
    }
    Ok(Replaced::Changed)
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn exchange(file: tempfile::NamedTempFile, path: &Path, _: &[u8]) -> io::Result<Replaced> {
    file.persist(path).map_err(|error| error.error)?;
    Ok(Replaced::Done)
}

/// What became of a replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    Done,
    /// Somebody else wrote the file meanwhile; read it again.
    Changed,
}

/// Copies go to one folder of our own: beside a project's file they would end up in its repository.
fn back_up(path: &Path, bytes: &[u8], folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let stem: String = path.to_string_lossy().chars().map(safe).collect();
    // A path may be longer than a name.
    let stem: String = stem.chars().skip(stem.chars().count().saturating_sub(180)).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    // A temporary file is made 0600; its name appears when it is complete.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(folder.join(format!("{stem}.{now:020}"))).map_err(|error| error.error)?;

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

    /// Replaces a file that somebody else writes meanwhile, in place or by a rename; theirs must stay.
    fn race(moment: Moment, write: fn(&Path)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mcp.json");
        fs::write(&path, "{}").unwrap();
        let snapshot = Snapshot::read(&path).unwrap();
        let theirs = |now| {
            if now == moment {
                write(&path)
            }
        };
        assert_eq!(snapshot.replace_while("ours", None, theirs).unwrap(), Replaced::Changed);
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays behind");
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
        race(Moment::BeforeComparing, in_place);
        race(Moment::BeforeComparing, by_renaming);
    }

    #[test]
    fn an_edit_made_between_comparing_and_renaming_is_kept() {
        race(Moment::BeforeRenaming, in_place);
        race(Moment::BeforeRenaming, by_renaming);
    }

    #[test]
    fn ten_copies_are_kept_and_they_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let (path, backups) = (folder.path().join("mcp.json"), folder.path().join("backups"));
        fs::write(&path, "0").unwrap();
        for round in 1..=12 {
            let snapshot = Snapshot::read(&path).unwrap();
            assert_eq!(snapshot.replace(&round.to_string(), Some(&backups)).unwrap(), Replaced::Done);
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
