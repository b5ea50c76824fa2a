//! Finds the files of this machine at the places that the table names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::hosts::store::FileSnapshot;
use crate::hosts::table::{HOSTS, Host};
use crate::hosts::tree::{FileFormat, Node};
use crate::text::glob::Glob;
use crate::text::words::words;

words! {
    /// Owner of a host's file. The scope decides how an entry names the proxy.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum FileScope {
        /// One user, on one machine.
        User = "user",
        /// All users of a project share the file.
        Project = "project",
    }
}

/// Config file in which a host keeps its servers.
#[derive(Clone, Debug)]
pub(crate) struct HostFile {
    pub(crate) host: &'static Host,
    pub(crate) scope: FileScope,
    pub(crate) path: PathBuf,
}

/// How long after its last change a file may be half written.
const SETTLE: Duration = Duration::from_secs(1);
/// Pause before a file is read again.
const PAUSE: Duration = Duration::from_millis(10);

impl HostFile {
    /// Returns the value of `--origin` in the entries of this file: host and scope, never a path.
    pub(crate) fn origin(&self) -> String {
        format!("{}/{}", self.host.id, self.scope.as_str())
    }

    /// Reads and parses the file. A file that is missing, empty or not valid is read again until it has not
    /// changed for a second: a host may be writing it.
    pub(crate) fn read(&self) -> Result<(FileSnapshot, Node), String> {
        loop {
            if is_dangling(&self.path) {
                return Err("a link to a file that does not exist".to_owned());
            }
            if let Some(what) = other_than_file(&self.path) {
                return Err(what.to_owned());
            }
            let snapshot = FileSnapshot::read(&self.path).map_err(|error| error.to_string());
            let parsed = snapshot.and_then(|snapshot| {
                let root = Node::parse(snapshot.text(), FileFormat::of(&snapshot.path))?;
                Ok((snapshot, root))
            });
            let is_whole = parsed.as_ref().is_ok_and(|(snapshot, _)| !snapshot.text().trim().is_empty());
            if is_whole || !self.changed_within(SETTLE) {
                return parsed;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Returns true if the file, or the folder from which it is missing, has changed within this time.
    fn changed_within(&self, time: Duration) -> bool {
        let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
        let changed = changed(&self.path).or_else(|_| changed(self.path.parent().unwrap_or(&self.path)));
        changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|since| since < time))
    }
}

impl HostFile {
    /// Returns true if this is a project's file and `target`, which it is a link to or lies behind a link, is
    /// outside of the project: a cloned repository can contain a link to any file of the user.
    pub(crate) fn leads_out_of_project(&self, target: &Path) -> bool {
        if self.scope == FileScope::User {
            return false;
        }
        let ends_with = |place: &str| {
            let mut parts = self.path.iter().rev().map(|part| part.to_string_lossy());
            place
                .rsplit('/')
                .all(|pattern| parts.next().is_some_and(|part| Glob::new(pattern).matches(&part)))
        };
        let place = self.host.project_files.iter().find(|place| ends_with(place));
        let path = std::path::absolute(&self.path).ok();
        let project = place
            .zip(path)
            .and_then(|(place, path)| path.ancestors().nth(place.split('/').count())?.canonicalize().ok());
        project.is_none_or(|project| !target.starts_with(project))
    }
}

/// Folders and variables that the table's places depend on.
pub(crate) struct SearchContext<'a> {
    pub(crate) home: Option<PathBuf>,
    pub(crate) environment: &'a dyn Fn(&str) -> Option<String>,
    /// Folder of the project, if project files are searched too.
    pub(crate) project: Option<PathBuf>,
}

/// Returns the files that exist, in the table's order, and what else is in their places: links to files that do not
/// exist, folders, pipes. `wanted` selects hosts by id; empty selects all.
pub(crate) fn files(context: &SearchContext<'_>, wanted: &[String]) -> Vec<HostFile> {
    places(context, wanted)
        .into_iter()
        .filter(|found| found.path.exists() || is_dangling(&found.path))
        .collect()
}

/// Returns what is at the path, in words, if it exists and is not a file.
pub(crate) fn other_than_file(path: &Path) -> Option<&'static str> {
    match path.metadata().ok()?.file_type() {
        kind if kind.is_file() => None,
        kind if kind.is_dir() => Some("a folder, and not a file"),
        _ => Some("a pipe or a device, and not a file"),
    }
}

/// Returns true if the path is a link to something that does not exist, such as a folder that is not mounted.
fn is_dangling(path: &Path) -> bool {
    path.is_symlink() && !path.exists()
}

/// Returns every searched path, whether the file exists or not. A pattern without a match yields no path.
pub(crate) fn places(context: &SearchContext<'_>, wanted: &[String]) -> Vec<HostFile> {
    let mut found = Vec::new();
    let hosts = HOSTS.iter().filter(|host| wanted.is_empty() || wanted.iter().any(|id| id == host.id));
    for host in hosts {
        for place in host.user_files {
            let paths = expand(place, context).map(|path| glob(&path)).unwrap_or_default();
            found.extend(paths.into_iter().map(|path| HostFile { host, scope: FileScope::User, path }));
        }
        for place in host.project_files {
            let paths = context.project.as_ref().map(|folder| glob(&folder.join(place))).unwrap_or_default();
            found.extend(paths.into_iter().map(|path| HostFile { host, scope: FileScope::Project, path }));
        }
    }
    found
}

/// Replaces the first part of `place` by its folder. The part is `~`, `{linux-config}`, `{flatpak}`, `{mac-support}`,
/// `{appdata}`, `{localappdata}` or `{VARIABLE:otherwise}`. Returns `None` if this machine has no such folder.
fn expand(place: &str, context: &SearchContext<'_>) -> Option<PathBuf> {
    let home = context.home.clone();
    if let Some(rest) = place.strip_prefix("~/") {
        return Some(home?.join(rest));
    }
    let (token, rest) = place.strip_prefix('{')?.split_once("}/")?;
    let base = match token {
        "linux-config" if cfg!(all(unix, not(target_os = "macos"))) => {
            (context.environment)("XDG_CONFIG_HOME")
                .map(PathBuf::from)
                .or_else(|| Some(home?.join(".config")))?
        }
        "flatpak" if cfg!(target_os = "linux") => home?.join(".var/app"),
        "mac-support" if cfg!(target_os = "macos") => home?.join("Library/Application Support"),
        "appdata" if cfg!(windows) => (context.environment)("APPDATA")?.into(),
        "localappdata" if cfg!(windows) => (context.environment)("LOCALAPPDATA")?.into(),
        _ => {
            let (variable, otherwise) = token.split_once(':')?;
            match (context.environment)(variable) {
                Some(folder) => folder.into(),
                None => home?.join(otherwise.trim_start_matches('~').trim_start_matches('/')),
            }
        }
    };
    Some(base.join(rest))
}

/// Returns the paths that match `pattern`, in which a name with a `*` is a glob.
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
