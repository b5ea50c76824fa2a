//! The folders in which programs of this user keep their files: those of XDG if their variables are set, else those of
//! the profile.

use std::path::PathBuf;

use etcetera::BaseStrategy;
use etcetera::base_strategy::Windows;

/// Returns the folder of state, `%LOCALAPPDATA%` by default; `None` without a profile.
pub fn state() -> Option<PathBuf> {
    set("XDG_STATE_HOME").or_else(|| Some(Windows::new().ok()?.cache_dir()))
}

/// Returns the folder of config files, `%APPDATA%` by default; `None` without a profile.
pub fn config() -> Option<PathBuf> {
    set("XDG_CONFIG_HOME").or_else(|| Some(Windows::new().ok()?.config_dir()))
}

fn set(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}
