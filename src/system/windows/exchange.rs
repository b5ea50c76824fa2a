//! The parts of replacing a file that keep it what it is for other programs.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use windows_sys::Win32::Foundation::{
    ERROR_INVALID_FUNCTION, ERROR_NOT_SUPPORTED, ERROR_UNABLE_TO_MOVE_REPLACEMENT_2,
};
use windows_sys::Win32::Storage::FileSystem::ReplaceFileW;

use super::wide;
use crate::system::access::{again_while_in_use, rename};

/// Why two names could not be exchanged.
#[derive(Debug)]
pub enum ExchangeError {
    /// The file system cannot replace one file by another.
    Unsupported,
    Failed(io::Error),
}

/// Exchanges the files at two paths. The one that comes to `other` gets the attributes and the access list of the one
/// that was there. Other programs that have a file open for a moment are waited for.
pub fn exchange(one: &Path, other: &Path) -> Result<(), ExchangeError> {
    let aside = aside(one);
    let replaced = again_while_in_use(|| {
        let [to, from, kept] = [other, one, &aside].map(|path| wide(path.as_os_str()));
        // SAFETY: the texts end with a zero.
        super::checked(unsafe {
            ReplaceFileW(to.as_ptr(), from.as_ptr(), kept.as_ptr(), 0, std::ptr::null(), std::ptr::null())
        })
    });
    if let Err(error) = replaced {
        let code = error.raw_os_error().map_or(0, |code| code as u32);
        if code == ERROR_UNABLE_TO_MOVE_REPLACEMENT_2 {
            // The old file has its other name already.
            let _ = rename(&aside, other);
        }
        return Err(match code {
            ERROR_INVALID_FUNCTION | ERROR_NOT_SUPPORTED => ExchangeError::Unsupported,
            _ => ExchangeError::Failed(error),
        });
    }
    rename(&aside, one).map_err(|error| {
        let _ = rename(&aside, other);
        ExchangeError::Failed(error)
    })
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    PathBuf::from(name)
}

/// Does nothing: [`exchange`] keeps the attributes and the access list.
pub fn make_alike(_new: &File, _old: &File) -> io::Result<()> {
    Ok(())
}
