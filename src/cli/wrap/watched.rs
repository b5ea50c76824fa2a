//! Entries that are watched, and the programs and processes behind them.

use std::path::{Path, PathBuf};

use crate::system::procfs::start_times;

/// The file that an entry's proxy is; a bare name is looked for on the PATH.
pub fn resolve(program: &str) -> Option<PathBuf> {
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

/// Whether an entry's proxy can be started.
pub fn can_start(program: &str) -> bool {
    resolve(program).is_some()
}

/// Whether a process is called `name`.
pub fn is_running(name: &str) -> bool {
    !start_times(name).is_empty()
}
