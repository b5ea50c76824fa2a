//! Paths of settings: the home folder at their start is replaced, and what looks like another variable is refused.

use std::path::{Component, Path, PathBuf};

/// Variable of the home folder. Hosts on Windows do not look at `HOME`, which other programs set.
pub const VARIABLE: &str = if cfg!(windows) { "USERPROFILE" } else { "HOME" };

/// Returns the user's home folder, if its path is absolute.
pub fn folder() -> Option<PathBuf> {
    etcetera::home_dir().ok().filter(|home| home.is_absolute())
}

/// Returns `path` with `~`, `$HOME`, `${HOME}` or `${env:HOME}` at its start replaced by the home folder, because
/// hosts and config files pass them on as they are. Returns `None` if the path has another variable or placeholder, is
/// a URL or quoted, begins with the home of another user, or if the home folder is not known: a folder of such a name
/// is never meant.
pub fn expand_home(path: PathBuf) -> Option<PathBuf> {
    const HOME: [&str; 4] = ["~", "$HOME", "${HOME}", "${env:HOME}"];
    let mut parts = path.components();
    let first = parts.next()?;
    if HOME.iter().any(|home| first.as_os_str() == *home) {
        let rest = parts.as_path();
        return (!rest.components().any(is_placeholder)).then_some(folder()?.join(rest));
    }
    let text = first.as_os_str().to_string_lossy();
    let is_odd = text.starts_with(['~', '{', '<', '"', '\''])
        || text != text.trim()
        || is_url(&path.to_string_lossy());
    (!is_odd && !path.components().any(is_placeholder)).then_some(path)
}

/// Returns the path of a file, expanded by [`expand_home`]. A path that this refuses becomes one that no user has, so
/// that the part that needs the file fails and names it: to go on without the file could be less safe.
pub fn expand_home_or_fail(path: PathBuf) -> PathBuf {
    expand_home(path.clone()).unwrap_or_else(|| Path::new("/").join(path))
}

/// Returns true if a part of a path has a form in which shells, hosts and templates name variables.
fn is_placeholder(part: Component<'_>) -> bool {
    let text = part.as_os_str().to_string_lossy();
    let is_percent = text
        .strip_prefix('%')
        .and_then(|rest| rest.split_once('%'))
        .is_some_and(|(name, _)| !name.is_empty());
    text.starts_with('$') || is_percent || ["`", "${", "$(", "{{"].iter().any(|form| text.contains(form))
}

fn is_url(text: &str) -> bool {
    text.starts_with("file:") || text.split_once("://").is_some_and(|(scheme, _)| !scheme.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_begins_with_the_name_of_a_home_or_has_a_variable_in_it() {
        let home = folder().unwrap();
        let expanded = |text: &str| expand_home(PathBuf::from(text));
        for text in ["~", "~/", "$HOME", "${HOME}/", "${env:HOME}"] {
            assert_eq!(expanded(text).as_ref(), Some(&home), "{text}");
        }
        for text in ["~/a b/~", "$HOME/a b/~", "${HOME}//a b/~"] {
            assert_eq!(expanded(text), Some(home.join("a b/~")), "{text}");
        }
        for text in [
            "~ann/logs",
            "$LOGS",
            "${userHome}/logs",
            "/data/$USER/logs",
            "a/${HOME}",
            "$HOMES",
            "~~",
            "%HOME%",
            "%USERPROFILE%\\logs",
            "/data/%USER%/logs",
            "`echo ~`/logs",
            "/data/`id -un`",
            "$(pwd)/logs",
            "/logs-$(date)",
            "/logs-${USER}",
            "{{HOME}}/logs",
            "{{ home }}/logs",
            "/logs/{{user}}",
            "{HOME}/logs",
            "<home>/logs",
            "file:///var/log",
            "file:logs",
            "https://host/logs",
            "'~/logs'",
            "\"/data/logs\"",
            " /data/logs",
            "",
            " ",
        ] {
            assert_eq!(expanded(text), None, "{text}");
        }
        for text in [
            "/data/logs",
            "logs",
            "a$b/c~d",
            "./~",
            "/a/~b",
            "100%/b",
            "a%b%",
            "/x/100% done",
            "/a/{b}",
            "/it's",
            "/a b",
            "/c++/<3",
            "/d:/x",
        ] {
            assert_eq!(expanded(text), Some(PathBuf::from(text)), "{text}");
        }
    }
}
