//! Where spantap keeps things: XDG folders on every Unix.

use std::path::PathBuf;

use etcetera::{BaseStrategy, base_strategy::Xdg};

const NAME: &str = "spantap";

/// `$XDG_STATE_HOME/spantap`, by default `~/.local/state/spantap`; `None` without a home folder.
pub fn state_dir() -> Option<PathBuf> {
    Some(Xdg::new().ok()?.state_dir()?.join(NAME))
}

/// `$XDG_CONFIG_HOME/spantap`, by default `~/.config/spantap`.
pub fn config_dir() -> Option<PathBuf> {
    Some(Xdg::new().ok()?.config_dir().join(NAME))
}

/// The default folder of the session logs.
pub fn sessions_dir() -> Option<PathBuf> {
    Some(state_dir()?.join("sessions"))
}

/// What is remembered of a server between its sessions.
pub fn tools_file(server_name: &str) -> Option<PathBuf> {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = server_name.chars().map(safe).collect();
    Some(state_dir()?.join("tools").join(format!("{}.json", name.trim_start_matches('.'))))
}
