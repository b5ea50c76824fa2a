//! Finds programs of wrapped entries and processes of hosts.

use std::path::{Path, PathBuf};

use crate::system::processes::start_times;

/// Returns the executable file of a program; a bare name is searched on the PATH.
pub(crate) fn resolve(program: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let is_program = |path: &Path| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| is_program(path));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| is_program(file))
}

pub(crate) fn can_start(program: &str) -> bool {
    resolve(program).is_some()
}

pub(super) fn is_running(name: &str) -> bool {
    !start_times(name).is_empty()
}
