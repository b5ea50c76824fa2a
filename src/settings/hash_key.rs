//! The key of all hashes of one installation: 32 bytes from the operating system, made once.
//!
//! It lies in the state folder and not beside the logs, since those are shipped. Nobody else may be able
//! to read it: whoever has the key can guess short arguments from their hashes.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Length of a key, in bytes.
const LENGTH: usize = 32;
const NAME: &str = "hash-key";

/// Where the key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The installation's own file, made now or earlier.
    Installation,
    /// The file that `hash_key_file` names.
    File,
    /// Made for this process, because it can be kept nowhere: hashes of two processes differ.
    Process,
}

/// A key and where it comes from.
#[derive(Clone)]
pub struct Key {
    pub bytes: [u8; LENGTH],
    pub source: Source,
}

impl Key {
    /// The first four bytes of the key's SHA-256: shows when a key has changed.
    pub fn id(&self) -> [u8; 4] {
        let digest = Sha256::digest(self.bytes);
        let mut id = [0; 4];
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        id
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("bytes", &"[REDACTED]").field("source", &self.source).finish()
    }
}

/// Why there is no key.
#[derive(Debug)]
pub enum Error {
    /// The file can be read by others, is not ours, or is not a plain file of its own.
    Unsafe {
        path: PathBuf,
        reason: &'static str,
    },
    /// The file does not hold 32 bytes.
    Length {
        path: PathBuf,
    },
    Io {
        path: PathBuf,
        error: io::Error,
    },
    /// The operating system gives no random bytes.
    Random(getrandom::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unsafe { path, reason } => {
                write!(
                    f,
                    "hash key {} {reason}: chmod 600 it, or remove it to have a new one made",
                    path.display()
                )
            }
            Error::Length { path } => write!(
                f,
                "hash key {} is not 32 bytes (or 64 hex digits): make one with `openssl rand -out FILE 32`",
                path.display()
            ),
            Error::Io { path, error } => write!(f, "cannot use hash key {}: {error}", path.display()),
            Error::Random(error) => write!(f, "cannot make a hash key: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// The key in the file that the user names: 32 bytes, or 64 hex digits.
///
/// # Errors
/// The file cannot be read, can be read by others, or holds no key.
pub fn from_file(path: &Path) -> Result<Key, Error> {
    // A user may link to where secrets are mounted; what is linked to is what is checked.
    let bytes = read(path, 0)?;
    Ok(Key { bytes, source: Source::File })
}

/// The installation's key in the folder `state`, if one was made.
///
/// # Errors
/// The key exists and cannot be trusted or read.
pub fn known(state: &Path) -> Result<Option<Key>, Error> {
    match read(&state.join(NAME), libc::O_NOFOLLOW) {
        Ok(bytes) => Ok(Some(Key { bytes, source: Source::Installation })),
        Err(Error::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The installation's key in the folder `state`, made now if there is none. Processes that start at once
/// get the same.
///
/// # Errors
/// The key exists and cannot be trusted, or it can be neither read nor made.
pub fn of_installation(state: &Path) -> Result<Key, Error> {
    let path = state.join(NAME);
    let io = |error| Error::Io { path: path.clone(), error };
    if let Some(key) = known(state)? {
        return Ok(key);
    }
    DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(io)?;
    let bytes = random()?;
    // Written beside and linked into its place: the name never shows a key that is half there, and who
    // comes second finds the first one's.
    let mut suffix = [0; 8];
    getrandom::fill(&mut suffix).map_err(Error::Random)?;
    let beside = state.join(format!("{NAME}.{:016x}", u64::from_ne_bytes(suffix)));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(&beside)
        .and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        })
        .and_then(|()| match std::fs::hard_link(&beside, &path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        });
    let _ = std::fs::remove_file(&beside);
    written.map_err(io)?;
    // Whoever was first: what counts is in the file.
    read(&path, libc::O_NOFOLLOW).map(|bytes| Key { bytes, source: Source::Installation })
}

/// A key for this process only, for when there is nowhere to keep one.
///
/// # Errors
/// The operating system gives no random bytes.
pub fn for_this_process() -> Result<Key, Error> {
    Ok(Key { bytes: random()?, source: Source::Process })
}

fn random() -> Result<[u8; LENGTH], Error> {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    Ok(bytes)
}

fn read(path: &Path, flags: i32) -> Result<[u8; LENGTH], Error> {
    let io = |error: io::Error| match error.raw_os_error() {
        Some(libc::ELOOP) => Error::Unsafe { path: path.to_owned(), reason: "is a link" },
        _ => Error::Io { path: path.to_owned(), error },
    };
    // Not to hang on a pipe that somebody put there.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags | libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(path)
        .map_err(io)?;
    check(&file, path, flags & libc::O_NOFOLLOW != 0)?;
    let mut text = Vec::new();
    file.take(256).read_to_end(&mut text).map_err(io)?;
    key_in(&text).ok_or_else(|| Error::Length { path: path.to_owned() })
}

/// Refuses a file that others could have read, or could have put there.
fn check(file: &File, path: &Path, is_ours: bool) -> Result<(), Error> {
    let metadata = file.metadata().map_err(|error| Error::Io { path: path.to_owned(), error })?;
    let refuse = |reason| Err(Error::Unsafe { path: path.to_owned(), reason });
    if !metadata.is_file() {
        return refuse("is not a regular file");
    }
    if metadata.mode() & 0o077 != 0 {
        return refuse("can be read by others");
    }
    // Only root can open what is another user's and closed to others.
    let is_another = |user| metadata.uid() != user && metadata.uid() != 0;
    if effective_user().is_some_and(is_another) {
        return refuse("belongs to another user");
    }
    // Two links for the moment in which it is put in its place.
    if is_ours && metadata.nlink() > 2 {
        return refuse("has other names");
    }
    Ok(())
}

/// Who we are; not known where there is no `/proc`.
fn effective_user() -> Option<u32> {
    std::fs::metadata("/proc/self").ok().map(|metadata| metadata.uid())
}

fn key_in(text: &[u8]) -> Option<[u8; LENGTH]> {
    if let Ok(bytes) = <[u8; LENGTH]>::try_from(text) {
        return Some(bytes);
    }
    let digits = text.trim_ascii();
    if digits.len() != 2 * LENGTH {
        return None;
    }
    let mut bytes = [0; LENGTH];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_key_is_made_once_and_only_its_owner_can_read_it() {
        let folder = folder();
        let state = folder.path().join("state/spantap");
        let first = of_installation(&state).unwrap();
        assert_eq!(first.source, Source::Installation);
        let again = of_installation(&state).unwrap();
        assert_eq!((first.bytes, first.id()), (again.bytes, again.id()));
        assert_ne!(first.bytes, [0; 32]);
        assert_eq!(std::fs::metadata(state.join(NAME)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&state).unwrap().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 1);
        assert!(
            !format!("{first:?}").contains(&first.bytes[0].to_string())
                || format!("{first:?}").contains("REDACTED")
        );
    }

    #[test]
    fn those_who_start_at_once_get_the_same_key() {
        let folder = folder();
        let start = std::sync::Barrier::new(16);
        let keys: Vec<[u8; 32]> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        of_installation(folder.path()).unwrap().bytes
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = folder();
        let path = folder.path().join(NAME);
        std::fs::write(&path, [1; 32]).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        for key in [of_installation(folder.path()), from_file(&path)] {
            let error = key.unwrap_err().to_string();
            assert!(error.contains("can be read by others: chmod 600"), "{error}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(of_installation(folder.path()).unwrap().bytes, [1; 32]);
    }

    #[test]
    fn a_link_in_the_place_of_the_key_is_refused_and_not_written_through() {
        let folder = folder();
        let target = folder.path().join("target");
        std::os::unix::fs::symlink(&target, folder.path().join(NAME)).unwrap();
        let error = of_installation(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is a link"), "{error}");
        assert!(!target.exists());
        std::fs::remove_file(folder.path().join(NAME)).unwrap();
        std::fs::create_dir(folder.path().join(NAME)).unwrap();
        assert!(of_installation(folder.path()).is_err());
    }

    #[test]
    fn a_shared_key_may_be_bytes_or_hex() {
        let folder = folder();
        let path = folder.path().join("shared");
        let write = |text: &[u8]| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            from_file(&path).map(|key| key.bytes)
        };
        assert_eq!(write(&[9; 32]).unwrap(), [9; 32]);
        assert_eq!(write(format!("{}\n", "09".repeat(32)).as_bytes()).unwrap(), [9; 32]);
        assert!(write(b"short").unwrap_err().to_string().contains("is not 32 bytes"));
    }
}
