//! The folders and files of spantap: XDG folders on every Unix, and on Windows those of the profile.

use std::path::{MAIN_SEPARATOR, Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::system::files::home;
use crate::system::places;
use crate::text::hex;

const NAME: &str = "spantap";

/// Returns `$XDG_STATE_HOME/spantap`, by default `~/.local/state/spantap`, or `%LOCALAPPDATA%\spantap` on Windows; `None`
/// without a home folder.
pub(crate) fn state_dir() -> Option<PathBuf> {
    absolute(places::state()?.join(NAME))
}

/// Returns `$XDG_CONFIG_HOME/spantap`, by default `~/.config/spantap`, or `%APPDATA%\spantap` on Windows.
pub(crate) fn config_dir() -> Option<PathBuf> {
    absolute(places::config()?.join(NAME))
}

/// Returns `path` if it is absolute. With a relative `HOME` it would depend on the working folder.
fn absolute(path: PathBuf) -> Option<PathBuf> {
    path.is_absolute().then_some(path)
}

/// Returns `path` with the user's home folder as `~`.
pub(crate) fn home_as_tilde(path: &Path) -> String {
    let below = home::folder().and_then(|home| path.strip_prefix(home).ok().map(Path::to_owned));
    match below {
        Some(rest) if rest.as_os_str().is_empty() => "~".to_owned(),
        Some(rest) => format!("~{MAIN_SEPARATOR}{}", rest.display()),
        None => path.display().to_string(),
    }
}

/// Returns the folder of the live files.
pub(crate) fn live_dir() -> Option<PathBuf> {
    Some(state_dir()?.join("live"))
}

/// Returns the control file of `spantap debug`.
pub(crate) fn debug_control() -> Option<PathBuf> {
    Some(state_dir()?.join("debug.json"))
}

/// Returns the folder in which the first proxy of a session marks that it exports the session's root span.
pub(crate) fn roots_dir() -> Option<PathBuf> {
    Some(state_dir()?.join("roots"))
}

/// Returns the folder that names every file of bodies, so that each start can delete the old ones.
pub(crate) fn bodies_dir() -> Option<PathBuf> {
    Some(state_dir()?.join("bodies"))
}

pub(crate) fn sessions_dir() -> Option<PathBuf> {
    Some(state_dir()?.join("sessions"))
}

/// Returns the file in which the tools of a server are remembered between its sessions.
pub(crate) fn tools_file(server_name: &str) -> Option<PathBuf> {
    Some(state_dir()?.join("tools").join(tools_file_name(server_name)))
}

/// Returns the server's name with `.json`. A name that is long, or has characters that a file name should not
/// have, is cut and cleaned, and gets a hash of the whole name, so that no two servers share a file. Capitals are
/// among these characters: some file systems do not distinguish them.
fn tools_file_name(server_name: &str) -> String {
    /// Longest name that is used as it is, in bytes.
    const LONGEST: usize = 100;
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_ordinary = !server_name.is_empty()
        && !server_name.starts_with('.')
        && server_name.len() <= LONGEST
        && !is_device(server_name);
    if is_ordinary && server_name.chars().all(|c| is_safe(c) && !c.is_ascii_uppercase()) {
        return format!("{server_name}.json");
    }
    let safe = |c: char| if is_safe(c) { c } else { '_' };
    let name: String = server_name.chars().take(LONGEST).map(safe).collect();
    let hash = hex::text(&Sha256::digest(server_name)[..8]);
    // No name that is used as it is has a `~`.
    format!("{}~{hash}.json", name.trim_start_matches('.'))
}

/// Returns true if the part of a file name before its first dot is the name of a device on Windows.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    let numbered = |prefix| {
        stem.strip_prefix(prefix).is_some_and(|rest| rest.len() == 1 && rest.as_bytes()[0].is_ascii_digit())
    };
    matches!(stem, "con" | "prn" | "aux" | "nul") || numbered("com") || numbered("lpt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_has_a_tools_file_of_its_own_with_a_name_of_limited_length() {
        assert_eq!(tools_file_name("server-filesystem_1.2"), "server-filesystem_1.2.json");
        let long = "x".repeat(300);
        let names =
            ["a b", "a_b", "a:b", ".a", "a", "A", "", "日本", "本日", "con", "com1.x", &long, &long[1..]];
        let files: std::collections::BTreeSet<String> =
            names.iter().map(|name| tools_file_name(name).to_ascii_lowercase()).collect();
        assert!(!files.contains("con.json") && !files.contains("com1.x.json"), "{files:?}");
        assert_eq!(files.len(), names.len(), "{files:?}");
        assert!(files.iter().all(|file| file.len() <= 130 && !file.starts_with('.')), "{files:?}");
    }
}
