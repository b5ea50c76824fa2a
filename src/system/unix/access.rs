//! Who may read and write a file, which file it is, and how much room its disk has.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::own;
pub use crate::system::owner::{FileAccess, FileOwner};

/// Returns options for a file that only its owner can read, whatever the umask is, once [`keep_private`] has been
/// called. A link at its place is not followed.
pub fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    options
}

/// Returns options for a file that the user named. A new file can be read only by its owner. A link is followed.
pub fn output_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Returns options to read a file without waiting for the writer of a pipe.
pub fn reading_options(follows_links: bool) -> OpenOptions {
    let link = if follows_links { 0 } else { libc::O_NOFOLLOW };
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(link | libc::O_NONBLOCK | libc::O_CLOEXEC);
    options
}

/// Returns true if opening a file failed because it is a link.
pub fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ELOOP)
}

/// Lets only its owner read and write a new file. The umask may have removed the owner's permissions.
pub fn keep_private(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o600))
}

/// Lets only its owner read and write the file at `path`.
pub fn make_private(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
}

/// Closes a folder to other users, if it is open to them.
pub fn close_folder(folder: &Path) -> io::Result<()> {
    match std::fs::metadata(folder)?.mode() & 0o077 {
        0 => Ok(()),
        _ => std::fs::set_permissions(folder, Permissions::from_mode(0o700)),
    }
}

/// Makes one folder, with all permissions for its owner.
pub fn make_folder(folder: &Path, is_private: bool) -> io::Result<()> {
    DirBuilder::new().mode(if is_private { 0o700 } else { 0o777 }).create(folder)?;
    // The umask may have removed the owner's permissions.
    let mode = std::fs::metadata(folder)?.mode();
    match mode & 0o700 {
        0o700 => Ok(()),
        _ => std::fs::set_permissions(folder, Permissions::from_mode(mode & 0o7777 | 0o700)),
    }
}

/// Returns true for a device such as `/dev/null`, which can be read like a file.
pub fn is_device(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device()
}

/// Returns a command for a shell that closes a file or folder to other users.
pub fn command_to_close(path: &Path) -> String {
    let quoted = path.display().to_string().replace('\'', r"'\''");
    format!("chmod {} '{quoted}'", if path.is_dir() { 700 } else { 600 })
}

/// Lets all users use a file or folder.
#[cfg(test)]
pub(crate) fn open_to_all(path: &Path) {
    std::fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
}

impl FileAccess {
    pub fn of(file: &File) -> io::Result<FileAccess> {
        Ok(FileAccess::from(&file.metadata()?))
    }

    /// Returns the access of what is at `path`, or of the target of a link there.
    pub fn at(path: &Path) -> io::Result<FileAccess> {
        Ok(FileAccess::from(&std::fs::metadata(path)?))
    }

    /// Returns the access of what is at `path`, also if it is a link.
    pub fn of_entry(path: &Path) -> io::Result<FileAccess> {
        Ok(FileAccess::from(&std::fs::symlink_metadata(path)?))
    }

    fn from(metadata: &Metadata) -> FileAccess {
        let owner = match (own::effective_user(), metadata.uid()) {
            (None, _) => FileOwner::Unknown,
            (Some(user), uid) if user == uid => FileOwner::Ours,
            (_, 0) => FileOwner::System,
            _ => FileOwner::Another,
        };
        let mode = metadata.mode();
        FileAccess {
            owner,
            is_open: mode & 0o077 != 0,
            is_open_for_writing: mode & 0o022 != 0,
            names: metadata.nlink(),
        }
    }
}

/// Identity of a file, whatever its name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    number: u64,
}

impl FileId {
    pub fn of(file: &File) -> io::Result<FileId> {
        Ok(FileId::from(&file.metadata()?))
    }

    /// Returns the identity of what is at `path`, also if it is a link.
    pub fn at(path: &Path) -> io::Result<FileId> {
        Ok(FileId::from(&std::fs::symlink_metadata(path)?))
    }

    fn from(metadata: &Metadata) -> FileId {
        FileId { device: metadata.dev(), number: metadata.ino() }
    }

    /// Returns true if a file can be renamed between the places of the two.
    pub fn is_on_device_of(self, other: FileId) -> bool {
        self.device == other.device
    }
}

/// Facts of a file that change when it is written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileVersion {
    id: FileId,
    changed: (i64, i64),
    size: u64,
}

impl FileVersion {
    /// Returns the version of what is at `path`, also if it is a link.
    pub fn at(path: &Path) -> io::Result<FileVersion> {
        let metadata = std::fs::symlink_metadata(path)?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Ok(FileVersion { id: FileId::from(&metadata), changed, size: metadata.len() })
    }
}

/// Gives a temporary file the name `path`, in the place of what has it.
pub fn persist(temporary: TempPath, path: &Path) -> io::Result<()> {
    temporary.persist(path).map_err(|error| error.error)
}

/// Writes all of `bytes` at a place of the file.
pub fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Returns the bytes of a path, for a file that [`path_of`] reads.
pub fn bytes_of(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// Returns the path that [`bytes_of`] wrote.
pub fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// Returns the bytes that this user may still write to the disk of `folder`; `None` if the system does not say.
pub fn free_space(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Returns true if a write failed because the device has an error.
pub fn is_device_error(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_the_path_of_a_command_as_one_word() {
        let command = command_to_close(Path::new("/nowhere/it's; rm -rf x"));
        assert_eq!(command, r"chmod 600 '/nowhere/it'\''s; rm -rf x'");
    }
}
