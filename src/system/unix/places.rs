//! The folders in which programs of this user keep their files: those of XDG.

use std::path::PathBuf;

use etcetera::{BaseStrategy, base_strategy::Xdg};

/// Returns the folder of state, `~/.local/state` by default; `None` without a home folder.
pub fn state() -> Option<PathBuf> {
    Xdg::new().ok()?.state_dir()
}

/// Returns the folder of config files, `~/.config` by default; `None` without a home folder.
pub fn config() -> Option<PathBuf> {
    Some(Xdg::new().ok()?.config_dir())
}
