//! From the table's places to the files of this machine.

use std::path::{Path, PathBuf};

use crate::hosts::store::Snapshot;
use crate::hosts::table::{HOSTS, Host};
use crate::hosts::tree::{Format, Node};
use crate::text::glob::Glob;

/// Whose file it is: it decides how the proxy is named in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One person's, on one machine.
    User,
    /// Shared with everybody who works on the project.
    Project,
}

impl Scope {
    pub fn word(self) -> &'static str {
        match self {
            Scope::User => "user",
            Scope::Project => "project",
        }
    }
}

/// A file in which a host keeps servers.
#[derive(Clone, Debug)]
pub struct Found {
    pub host: &'static Host,
    pub scope: Scope,
    pub path: PathBuf,
}

impl Found {
    /// What the file says.
    ///
    /// # Errors
    /// Why it cannot be read, in words.
    pub fn parse(&self) -> Result<Node, String> {
        let snapshot = Snapshot::read(&self.path).map_err(|error| error.to_string())?;
        Node::parse(snapshot.text(), Format::of(&snapshot.path))
    }
}

/// What places depend on.
pub struct Surroundings<'a> {
    pub home: Option<PathBuf>,
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// The folder of the project, when its files are wanted too.
    pub project: Option<PathBuf>,
}

/// The files that exist, in the table's order; `wanted` narrows to hosts by id, empty takes all.
pub fn files(around: &Surroundings<'_>, wanted: &[String]) -> Vec<Found> {
    places(around, wanted).into_iter().filter(|found| found.path.is_file()).collect()
}

/// Every place that is looked at, whether there is a file or not; patterns that match nothing are left out.
pub fn places(around: &Surroundings<'_>, wanted: &[String]) -> Vec<Found> {
    let mut found = Vec::new();
    let hosts = HOSTS.iter().filter(|host| wanted.is_empty() || wanted.iter().any(|id| id == host.id));
    for host in hosts {
        for place in host.user_files {
            let paths = expand(place, around).map(|path| glob(&path)).unwrap_or_default();
            found.extend(paths.into_iter().map(|path| Found { host, scope: Scope::User, path }));
        }
        for place in host.project_files {
            let paths = around.project.as_ref().map(|folder| glob(&folder.join(place))).unwrap_or_default();
            found.extend(paths.into_iter().map(|path| Found { host, scope: Scope::Project, path }));
        }
    }
    found
}

/// Puts the folder in the place of the first part: `~`, `{linux-config}`, `{mac-support}`, `{appdata}`,
/// `{localappdata}`, or `{VARIABLE:otherwise}`. `None` where this machine has no such folder.
fn expand(place: &str, around: &Surroundings<'_>) -> Option<PathBuf> {
    let home = around.home.clone();
    if let Some(rest) = place.strip_prefix("~/") {
        return Some(home?.join(rest));
    }
    let (token, rest) = place.strip_prefix('{')?.split_once("}/")?;
    let base = match token {
        "linux-config" if cfg!(all(unix, not(target_os = "macos"))) => {
            (around.environment)("XDG_CONFIG_HOME")
                .map(PathBuf::from)
                .or_else(|| Some(home?.join(".config")))?
        }
        "mac-support" if cfg!(target_os = "macos") => home?.join("Library/Application Support"),
        "appdata" if cfg!(windows) => (around.environment)("APPDATA")?.into(),
        "localappdata" if cfg!(windows) => (around.environment)("LOCALAPPDATA")?.into(),
        _ => {
            let (variable, otherwise) = token.split_once(':')?;
            match (around.environment)(variable) {
                Some(folder) => folder.into(),
                None => home?.join(otherwise.trim_start_matches('~').trim_start_matches('/')),
            }
        }
    };
    Some(base.join(rest))
}

/// The paths that match `pattern`, in which a name with a `*` is a glob.
fn glob(pattern: &Path) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::new()];
    for part in pattern.components() {
        let Some(name) = part.as_os_str().to_str().filter(|name| name.contains('*')).map(Glob::new) else {
            for path in &mut paths {
                path.push(part);
            }
            continue;
        };
        let mut matched: Vec<PathBuf> = paths
            .iter()
            .filter_map(|folder| std::fs::read_dir(folder).ok())
            .flat_map(|entries| entries.flatten())
            .filter(|entry| entry.file_name().to_str().is_some_and(|file| name.matches(file)))
            .map(|entry| entry.path())
            .collect();
        matched.sort();
        paths = matched;
    }
    paths
}
