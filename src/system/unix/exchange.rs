//! The parts of replacing a file that keep it what it is for other programs.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, XattrFlags, renameat_with};
use rustix::io::Errno;

use super::own;

/// Why two names could not be exchanged.
#[derive(Debug)]
pub enum ExchangeError {
    /// The file system cannot exchange names.
    Unsupported,
    Failed(io::Error),
}

/// Exchanges the files at two paths.
pub fn exchange(one: &Path, other: &Path) -> Result<(), ExchangeError> {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).map_err(|error| match error {
        Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => ExchangeError::Unsupported,
        Errno::BUSY => ExchangeError::Failed(io::Error::other("it is a mount point, and cannot be replaced")),
        error => ExchangeError::Failed(error.into()),
    })
}

/// Gives the new file the owner, the mode and the extended attributes of the old one, which include its access list,
/// and no other attribute.
pub fn make_alike(new: &File, old: &File) -> io::Result<()> {
    let (wanted, present) = (old.metadata()?, new.metadata()?);
    if (present.uid(), present.gid()) != (wanted.uid(), wanted.gid()) {
        // An administrator may edit another user's file.
        fchown(new, Some(wanted.uid()), Some(wanted.gid()))?;
    }
    copy_attributes(old, new)?;
    own::copy_access_list(old, new)?;
    new.set_permissions(wanted.permissions())
}

fn copy_attributes(old: &File, new: &File) -> io::Result<()> {
    let (wanted, present) = (attributes(old)?, attributes(new)?);
    let cannot = |name: &str, error: Errno| {
        io::Error::other(format!("its attribute {name} cannot be copied: {}", io::Error::from(error)))
    };
    for (name, _) in &present {
        // A folder gives its default access list to new files.
        if !wanted.iter().any(|(kept, _)| kept == name) {
            rustix::fs::fremovexattr(new, name).map_err(|error| cannot(name, error))?;
        }
    }
    for (name, value) in wanted.iter().filter(|attribute| !present.contains(attribute)) {
        rustix::fs::fsetxattr(new, name, value, XattrFlags::empty()).map_err(|error| cannot(name, error))?;
    }
    Ok(())
}

/// Returns the names and values of a file's extended attributes.
fn attributes(file: &File) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::flistxattr(file, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
        Err(error) => return Err(error.into()),
    };
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::fgetxattr(file, name, &mut value[..])?;
            value.truncate(length);
            Ok((String::from_utf8_lossy(name).into_owned(), value))
        })
        .collect()
}
