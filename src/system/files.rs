//! Files and folders of spantap itself: reads of a limited size that do not wait, and private writes.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use crate::system::access::{self, FileAccess, FileOwner};

pub mod home;

/// A folder of this name, and each folder in it, belongs to spantap.
const OWN_FOLDER: &str = "spantap";

/// Reads a regular file of at most `limit` bytes. Does not wait for the writer of a pipe.
pub fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = access::reading_options(true).open(path)?;
    let metadata = file.metadata()?;
    // A device such as `/dev/null` is read up to the limit.
    if !metadata.is_file() && !access::is_device(&metadata) {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => {
            let (size, unit) = if limit < 1 << 20 { (limit >> 10, "KiB") } else { (limit >> 20, "MiB") };
            Err(io::Error::other(format!("it is larger than {size} {unit}")))
        }
        false => Ok(bytes),
    }
}

/// Reads a file of at most `limit` bytes that belongs to this user, and that other users can neither read nor write.
/// Does not follow a link.
pub fn read_own(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = access::reading_options(false).open(path);
    let file = file.map_err(|error| match access::is_link(&error) {
        true => io::Error::other("it is a link"),
        false => error,
    })?;
    let refuse = |reason: &str| Err(io::Error::other(reason));
    if !file.metadata()?.is_file() {
        return refuse("it is not a file");
    }
    let FileAccess { owner, is_open, .. } = FileAccess::of(&file)?;
    match owner {
        FileOwner::Ours => {}
        FileOwner::Unknown => return refuse("the system does not say whether it belongs to this user"),
        FileOwner::System | FileOwner::Another => return refuse("it belongs to another user"),
    }
    if is_open {
        return refuse("other users can read or write it");
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { refuse("it is too large") } else { Ok(bytes) }
}

/// Makes `folder` and its missing parents. `folder` and each parent that belongs to spantap can be used only by their
/// owner, whatever the umask is. Other programs use the other parents too: they get the usual mode, with all
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
    match access::make_folder(folder, is_private) {
        // Another process made it meanwhile.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(io::Error::new(ErrorKind::NotADirectory, format!("{} is not a folder", folder.display())))
        }
        made => made,
    }
}

/// Makes the file `path` for appending, which only its owner can read, whatever the umask is.
///
/// # Errors
/// Fails if anything is at `path`, or if the file cannot be made.
pub fn append_to_new(path: &Path) -> io::Result<File> {
    let file = access::private_options().append(true).create_new(true).open(path)?;
    access::keep_private(&file).inspect_err(|_| drop(std::fs::remove_file(path)))?;
    Ok(file)
}

/// Makes the file `path`, or empties it, in a private folder. Only its owner can read it, whatever the umask is.
///
/// # Errors
/// Fails if the folder or the file cannot be made.
pub fn create_private(path: &Path) -> io::Result<File> {
    make_private_folder(path.parent().ok_or_else(|| io::Error::other("it has no folder"))?)?;
    let file = access::private_options().write(true).create(true).truncate(true).open(path)?;
    access::keep_private(&file)?;
    Ok(file)
}

/// Replaces the file `path` as a whole by `bytes`. Only its owner can read it, whatever the umask is.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("it has no folder"))?;
    make_private_folder(folder)?;
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    access::keep_private(temporary.as_file())?;
    temporary.write_all(bytes)?;
    access::persist(temporary.into_temp_path(), path)
}

/// Appends `bytes` to the file `path` in one write. A file that is made can be read only by its owner.
///
/// # Errors
/// Fails if the file cannot be made or written. If the disk had room for a part of `bytes`, this part is in the file.
pub fn append_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let open = || access::private_options().append(true).open(path);
    let mut file = match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => match append_to_new(path) {
            // Another process made it meanwhile.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => open()?,
            made => made?,
        },
        opened => opened?,
    };
    match file.write(bytes)? {
        count if count == bytes.len() => Ok(()),
        _ => Err(ErrorKind::WriteZero.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_made_to_append_to_can_be_read_only_by_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        access::open_to_all(folder.path());
        let path = folder.path().join("file");
        append_private(&path, b"one\n").unwrap();
        assert!(!FileAccess::at(&path).unwrap().is_open);
        append_private(&path, b"two\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn only_a_file_of_limited_size_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [7; 100]).unwrap();
        assert_eq!(read_limited(&path, 100).unwrap(), [7; 100]);
        assert!(read_limited(&path, 99).unwrap_err().to_string().contains("larger than"));
        let error = read_limited(folder.path(), 99).unwrap_err().to_string();
        // Windows does not open a folder as a file.
        assert!(cfg!(windows) || error.contains("not a file"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_read_like_a_file_and_a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_limited(Path::new("/dev/null"), 99).unwrap(), b"");
        assert!(read_limited(Path::new("/dev/zero"), 99).is_err());
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(read_limited(&pipe, 99).unwrap_err().to_string().contains("not a file"));
    }
}
