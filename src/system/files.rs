//! Files and folders of spantap itself: reads of a limited size that do not wait, and private writes.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

pub mod home;

/// A folder of this name, and each folder in it, belongs to spantap.
const OWN_FOLDER: &str = "spantap";

/// Reads a regular file of at most `limit` bytes. Does not wait for the writer of a pipe.
pub fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)?;
    let kind = file.metadata()?.file_type();
    // A device such as `/dev/null` is read up to the limit.
    if !kind.is_file() && !kind.is_char_device() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => Err(io::Error::other(format!("it is larger than {} MiB", limit >> 20))),
        false => Ok(bytes),
    }
}

/// Reads a file of at most `limit` bytes that belongs to this user, and that other users can neither read nor write.
/// Does not follow a link.
pub fn read_own(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let options = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = File::options().read(true).custom_flags(options).open(path);
    let file = file.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => io::Error::other("it is a link"),
        _ => error,
    })?;
    let metadata = file.metadata()?;
    let refuse = |reason: &str| Err(io::Error::other(reason));
    if !metadata.is_file() {
        return refuse("it is not a file");
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return refuse("it belongs to another user");
    }
    if metadata.mode() & 0o077 != 0 {
        return refuse("other users can read or write it");
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { refuse("it is too large") } else { Ok(bytes) }
}

/// Makes `folder` and its missing parents. `folder` and each parent that belongs to spantap get mode 0700
/// whatever the umask is. Other programs use the other parents too: they get the usual mode, with all
/// permissions for their owner. A folder that exists keeps its mode.
pub fn make_private_folder(folder: &Path) -> io::Result<()> {
    make_folder(folder, true)
}

fn make_folder(folder: &Path, is_private: bool) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_folder(parent, parent.components().any(|part| part.as_os_str() == OWN_FOLDER))?;
    }
    // Another process may make it meanwhile.
    match DirBuilder::new().mode(if is_private { 0o700 } else { 0o777 }).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => return Ok(()),
        made => made?,
    }
    // The umask may have removed the owner's permissions.
    let mode = std::fs::metadata(folder)?.mode();
    match mode & 0o700 {
        0o700 => Ok(()),
        _ => std::fs::set_permissions(folder, Permissions::from_mode(mode & 0o7777 | 0o700)),
    }
}

/// Makes the file `path`, or empties it, in a folder of mode 0700. Only its owner can read it, whatever the umask
/// is.
///
/// # Errors
/// Fails if the folder or the file cannot be made.
pub fn create_private(path: &Path) -> io::Result<File> {
    make_private_folder(path.parent().ok_or_else(|| io::Error::other("it has no folder"))?)?;
    let options = libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(options)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Replaces the file `path` as a whole by `bytes`. Only its owner can read it, whatever the umask is.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("it has no folder"))?;
    make_private_folder(folder)?;
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.as_file().set_permissions(Permissions::from_mode(0o600))?;
    temporary.write_all(bytes)?;
    temporary.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Appends `bytes` to the file `path` in one write. A file that is made can be read only by its owner.
pub fn append_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let options = libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let mut file = File::options().append(true).create(true).mode(0o600).custom_flags(options).open(path)?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_of_limited_size_is_read_and_a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [7; 100]).unwrap();
        assert_eq!(read_limited(&path, 100).unwrap(), [7; 100]);
        assert!(read_limited(&path, 99).unwrap_err().to_string().contains("larger than"));
        assert!(read_limited(folder.path(), 99).unwrap_err().to_string().contains("not a file"));
        assert_eq!(read_limited(Path::new("/dev/null"), 99).unwrap(), b"");
        assert!(read_limited(Path::new("/dev/zero"), 99).is_err());
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(read_limited(&pipe, 99).unwrap_err().to_string().contains("not a file"));
    }
}
