//! The key of all hashes of one installation: 32 bytes from the operating system, made once.
//!
//! The key is in the state folder and not beside the logs, because logs are shipped. Only its owner may be
//! able to read it: a reader of the key can guess short arguments from their hashes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::observe::canonical::HashKey;
use crate::record::timestamp::Timestamp;
use crate::settings::{ArgsHash, Settings, paths};
use crate::system::access::{self, FileAccess, FileOwner};
use crate::system::files::make_private_folder;

/// Length of a key, in bytes.
const LENGTH: usize = 32;
const NAME: &str = "hash-key";
/// Pause between two looks at a file in which another process is about to write its key, and their number.
const LOOK: Duration = Duration::from_millis(5);
const LOOKS: u32 = 20;

/// The place of the hash key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HashKeySource {
    /// Hashes are not keyed.
    Unkeyed,
    /// The file that `hash_key_file` names.
    File(PathBuf),
    /// The installation's own file in this state folder.
    Installation(PathBuf),
    /// Memory, without a home folder. The key is made for this process: hashes of two processes differ.
    Process,
}

/// Returns the place of the hash key that these settings choose.
pub(crate) fn choose(settings: &Settings) -> HashKeySource {
    match (settings.args_hash.value, &settings.hash_key_file.value, paths::state_dir()) {
        (ArgsHash::Sha256, ..) => HashKeySource::Unkeyed,
        (ArgsHash::Hmac, Some(file), _) => HashKeySource::File(file.clone()),
        (ArgsHash::Hmac, None, Some(state)) => HashKeySource::Installation(state),
        (ArgsHash::Hmac, None, None) => HashKeySource::Process,
    }
}

impl HashKeySource {
    /// Returns the key. The installation's key is made now if it does not exist.
    pub(crate) fn load_or_make(&self) -> Result<HashKey, HashKeyError> {
        match self {
            HashKeySource::Installation(state) => of_installation(state).map(HashKey::Keyed),
            HashKeySource::Process => random().map(HashKey::Keyed),
            HashKeySource::Unkeyed => Ok(HashKey::Unkeyed),
            HashKeySource::File(path) => from_file(path).map(HashKey::Keyed),
        }
    }

    /// Returns the key, or `None` if it has not been made yet.
    pub(crate) fn load(&self) -> Result<Option<HashKey>, HashKeyError> {
        match self {
            HashKeySource::Unkeyed => Ok(Some(HashKey::Unkeyed)),
            HashKeySource::File(path) => from_file(path).map(|key| Some(HashKey::Keyed(key))),
            HashKeySource::Installation(state) => Ok(known(state)?.map(HashKey::Keyed)),
            HashKeySource::Process => Ok(None),
        }
    }
}

/// Makes a key for this process only. Without random bytes from the operating system the key is a hash of
/// time and pid, which at least differs from process to process; a fixed key would not.
pub(crate) fn for_this_process() -> HashKey {
    let seed = || Sha256::digest(format!("{} {}", std::process::id(), Timestamp::now())).into();
    HashKey::Keyed(random().unwrap_or_else(|_| seed()))
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum HashKeyError {
    /// Other users can read or change the file, or it is not ours, or it is not a regular file.
    #[error(
        "hash key {} {reason}: {}, or remove it to have a new one made",
        path.display(),
        access::command_to_close(path)
    )]
    Unsafe { path: PathBuf, reason: &'static str },
    #[error(
        "hash key {path} is not 32 bytes (or 64 hex digits): make one with `openssl rand -out FILE 32`",
        path = path.display()
    )]
    Length { path: PathBuf },
    #[error("cannot use hash key {path}: {error}", path = path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("cannot make a hash key: {0}")]
    Random(getrandom::Error),
}

/// Reads the key in the file that the user names: 32 bytes, or 64 hex digits.
fn from_file(path: &Path) -> Result<[u8; LENGTH], HashKeyError> {
    // The user may link to a folder of mounted secrets. The target of the link is checked.
    read(path, true)
}

/// Reads the installation's key in the folder `state`, if it exists.
fn known(state: &Path) -> Result<Option<[u8; LENGTH]>, HashKeyError> {
    match read(&state.join(NAME), false) {
        Ok(key) => Ok(Some(key)),
        Err(HashKeyError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the installation's key like [`known`]. Waits a moment for a process that has made the file and is about to
/// write the key.
fn known_soon(state: &Path) -> Result<Option<[u8; LENGTH]>, HashKeyError> {
    let path = state.join(NAME);
    let is_empty = || std::fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() == 0);
    let mut left = LOOKS;
    while left > 0 && is_empty() {
        left -= 1;
        std::thread::sleep(LOOK);
    }
    known(state)
}

/// Returns the installation's key in the folder `state`, and makes it if it does not exist. Processes that
/// start at once get the same key.
fn of_installation(state: &Path) -> Result<[u8; LENGTH], HashKeyError> {
    make_with(state, |temporary, path| std::fs::hard_link(temporary, path))
}

/// Does what [`of_installation`] does. `link` gives a file a second name.
fn make_with(
    state: &Path,
    link: impl Fn(&Path, &Path) -> io::Result<()>,
) -> Result<[u8; LENGTH], HashKeyError> {
    let path = state.join(NAME);
    let io = |error| HashKeyError::Io { path: path.clone(), error };
    if let Some(key) = known_soon(state)? {
        return Ok(key);
    }
    make_private_folder(state).map_err(io)?;
    let bytes = random()?;
    // The key is written to a temporary file and linked to its name: the name never shows half a key, and if
    // two processes race, the second uses the first one's key.
    let mut suffix = [0; 8];
    getrandom::fill(&mut suffix).map_err(HashKeyError::Random)?;
    let temporary = state.join(format!("{NAME}.{:016x}", u64::from_ne_bytes(suffix)));
    let written = access::private_options()
        .write(true)
        .create_new(true)
        .open(&temporary)
        .and_then(|mut file| {
            access::keep_private(&file)?;
            file.write_all(&bytes)?;
            file.sync_all()
        })
        .and_then(|()| match link(&temporary, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // Some file systems, such as exFAT, give a file one name only.
            Err(_) => write_in_place(&path, &bytes),
            Ok(()) => Ok(()),
        });
    let _ = std::fs::remove_file(&temporary);
    written.map_err(io)?;
    // Another process may have been first: the key in the file counts.
    known_soon(state)?.ok_or_else(|| io(io::ErrorKind::NotFound.into()))
}

/// Writes the key to the file `path`, unless another process has made it.
fn write_in_place(path: &Path, bytes: &[u8; LENGTH]) -> io::Result<()> {
    let made = access::private_options().write(true).create_new(true).open(path);
    let mut file = match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    };
    let written = access::keep_private(&file).and_then(|()| file.write_all(bytes));
    written.and_then(|()| file.sync_all()).inspect_err(|_| drop(std::fs::remove_file(path)))
}

fn random() -> Result<[u8; LENGTH], HashKeyError> {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).map_err(HashKeyError::Random)?;
    Ok(bytes)
}

fn read(path: &Path, follows_links: bool) -> Result<[u8; LENGTH], HashKeyError> {
    let io = |error: io::Error| match access::is_link(&error) {
        true => HashKeyError::Unsafe { path: path.to_owned(), reason: "is a link" },
        false => HashKeyError::Io { path: path.to_owned(), error },
    };
    let file = access::reading_options(follows_links).open(path).map_err(io)?;
    check(&file, path, !follows_links)?;
    let mut text = Vec::new();
    file.take(256).read_to_end(&mut text).map_err(io)?;
    key_in(&text).ok_or_else(|| HashKeyError::Length { path: path.to_owned() })
}

/// Refuses a file that other users can read or change, or that another user made.
fn check(file: &File, path: &Path, is_ours: bool) -> Result<(), HashKeyError> {
    let io = |error| HashKeyError::Io { path: path.to_owned(), error };
    let refuse = |reason| Err(HashKeyError::Unsafe { path: path.to_owned(), reason });
    if !file.metadata().map_err(io)?.is_file() {
        return refuse("is not a regular file");
    }
    let FileAccess { owner, is_open, names, .. } = FileAccess::of(file).map_err(io)?;
    if is_open {
        return refuse("can be read or changed by others");
    }
    // Only the system's own user can open a private file of another user.
    if owner == FileOwner::Another {
        return refuse("belongs to another user");
    }
    // The file has two links until its temporary name is removed.
    if is_ours && names > 2 {
        return refuse("has other names");
    }
    Ok(())
}

fn key_in(text: &[u8]) -> Option<[u8; LENGTH]> {
    if let Ok(bytes) = <[u8; LENGTH]>::try_from(text) {
        return Some(bytes);
    }
    let digits = text.trim_ascii();
    if digits.len() != 2 * LENGTH || !digits.iter().all(u8::is_ascii_hexdigit) {
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

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_key_is_made_once_and_only_its_owner_can_read_it() {
        let folder = folder();
        let state = folder.path().join("state/spantap");
        let first = of_installation(&state).unwrap();
        let again = of_installation(&state).unwrap();
        assert_eq!(first, again);
        assert_ne!(first, [0; 32]);
        let source = HashKeySource::Installation(state.clone());
        let keys = [source.load().unwrap().unwrap(), source.load_or_make().unwrap()];
        assert!(keys.iter().all(|key| key.id() == HashKey::Keyed(first).id()));
        for path in [state.join(NAME), state.clone()] {
            assert!(!FileAccess::at(&path).unwrap().is_open, "{}", path.display());
        }
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 1);
        assert!(format!("{:?}", keys[0]).contains("REDACTED"));
    }

    #[test]
    fn processes_that_start_at_once_get_the_same_key() {
        let folder = folder();
        let start = std::sync::Barrier::new(16);
        let keys: Vec<[u8; 32]> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        of_installation(folder.path()).unwrap()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn where_a_file_has_one_name_only_the_key_is_made_once_too() {
        for kind in [io::ErrorKind::Unsupported, io::ErrorKind::PermissionDenied, io::ErrorKind::Other] {
            let folder = folder();
            let start = std::sync::Barrier::new(8);
            let keys: Vec<[u8; 32]> = std::thread::scope(|scope| {
                let make = || {
                    start.wait();
                    make_with(folder.path(), |_, _| Err(kind.into())).unwrap()
                };
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(keys.iter().all(|key| *key == keys[0]));
            assert_eq!(of_installation(folder.path()).unwrap(), keys[0]);
            assert!(!FileAccess::at(&folder.path().join(NAME)).unwrap().is_open);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = folder();
        let path = folder.path().join(NAME);
        std::fs::write(&path, [1; 32]).unwrap();
        access::open_to_all(&path);
        let advice = format!("can be read or changed by others: {}, or", access::command_to_close(&path));
        for key in [of_installation(folder.path()), from_file(&path)] {
            let error = key.unwrap_err().to_string();
            assert!(error.contains(&advice), "{error}");
        }
        access::make_private(&path).unwrap();
        assert_eq!(of_installation(folder.path()).unwrap(), [1; 32]);
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_only_the_group_can_read_is_refused_too() {
        let folder = folder();
        let path = folder.path().join(NAME);
        std::fs::write(&path, [1; 32]).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        let error = from_file(&path).unwrap_err().to_string();
        assert!(error.contains("can be read or changed by others"), "{error}");
    }

    #[test]
    fn in_a_folder_that_others_can_use_a_key_is_made_private() {
        let folder = folder();
        access::open_to_all(folder.path());
        let made = of_installation(folder.path()).unwrap();
        assert_eq!(of_installation(folder.path()).unwrap(), made);
        assert!(!FileAccess::at(&folder.path().join(NAME)).unwrap().is_open);
    }

    #[cfg(unix)]
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
            access::make_private(&path).unwrap();
            from_file(&path)
        };
        assert_eq!(write(&[9; 32]).unwrap(), [9; 32]);
        assert_eq!(write(format!("{}\n", "09".repeat(32)).as_bytes()).unwrap(), [9; 32]);
        for text in ["short".to_owned(), "+f".repeat(32), "0g".repeat(32)] {
            assert!(write(text.as_bytes()).is_err(), "{text}");
        }
        assert!(write(b"short").unwrap_err().to_string().contains("is not 32 bytes"));
    }
}
