//! When a server was last seen, by the entry of the host file that started it.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::query::files::LogSource;
use crate::query::live::{LiveConnection, Liveness};
use crate::record::file_name::{SessionFileName, server_part, unpacked};
use crate::record::timestamp::Timestamp;

/// Longest first line that is read.
const LONGEST: u64 = 1 << 20;

/// An entry of a host file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryPlace<'a> {
    pub(crate) server: &'a str,
    /// Host and scope.
    pub(crate) origin: &'a str,
    /// The folder of the project to which the entry belongs, with the home folder as `~`.
    pub(crate) project: Option<&'a str>,
}

/// The fact by which a connection belongs to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SeenBy {
    /// Its origin, and the folder for an entry of a project.
    Origin,
    /// The server's name only.
    Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastSeen {
    pub(crate) at: Timestamp,
    pub(crate) by: SeenBy,
    pub(crate) is_running: bool,
}

/// The place that a connection recorded at its start.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StartPlace {
    server_name: String,
    origin: String,
    cwd: String,
    /// Name of the agent in a log of `spantap collect`, which is not a log of a server.
    agent_name: String,
}

impl StartPlace {
    fn belongs_to(&self, entry: &EntryPlace<'_>) -> Option<SeenBy> {
        // Not a comparison of texts: hosts on Windows write `C:/project` for `C:\project`.
        let is_inside = |project: &str| Path::new(&self.cwd).starts_with(project);
        match entry.project {
            _ if !self.agent_name.is_empty() => None,
            // Two names can have the same name of the log. A log without its start has no name.
            _ if !self.server_name.is_empty() && self.server_name != entry.server => None,
            _ if self.origin.is_empty() => Some(SeenBy::Name),
            _ if self.origin != entry.origin => None,
            // Not every host starts a project's server in the project.
            Some(project) if !is_inside(project) => Some(SeenBy::Name),
            _ => Some(SeenBy::Origin),
        }
    }
}

/// The log of one connection. Its first line is read when it is needed.
struct SeenLog {
    written: Timestamp,
    first: Option<PathBuf>,
    start: OnceCell<StartPlace>,
}

/// The logs of a folder: those of each server, the newest first.
#[derive(Default)]
pub(crate) struct SeenLogs(BTreeMap<String, Vec<SeenLog>>);

impl SeenLogs {
    /// Lists the logs of a folder. A folder that cannot be read has none.
    pub(crate) fn in_dir(folder: &Path) -> SeenLogs {
        let mut logs: BTreeMap<(String, String), SeenLog> = BTreeMap::new();
        for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = file.file_name();
            let Some(name) = name.to_str().map(unpacked).and_then(SessionFileName::parse) else { continue };
            let written = file.metadata().and_then(|metadata| metadata.modified());
            let written = written.ok().and_then(|time| jiff::Timestamp::try_from(time).ok());
            let written = Timestamp(written.map_or(0, jiff::Timestamp::as_microsecond));
            let log = logs.entry((name.server, name.connection)).or_insert_with(|| SeenLog {
                written,
                first: None,
                start: OnceCell::new(),
            });
            log.written = log.written.max(written);
            if name.part == 0 {
                log.first = Some(file.path());
            }
        }
        let mut servers: BTreeMap<String, Vec<SeenLog>> = BTreeMap::new();
        for ((server, _), log) in logs {
            servers.entry(server).or_default().push(log);
        }
        servers.values_mut().for_each(|logs| logs.sort_by_key(|log| std::cmp::Reverse(log.written)));
        SeenLogs(servers)
    }

    /// Returns when `entry` was last seen. A log that names the entry is better than a newer one that names none.
    pub(crate) fn last(&self, entry: &EntryPlace<'_>) -> Option<LastSeen> {
        let logs = self.0.get(&server_part(entry.server))?;
        let seen = logs.iter().filter_map(|log| {
            let start =
                log.start.get_or_init(|| log.first.as_deref().and_then(read_start).unwrap_or_default());
            Some(LastSeen { at: log.written, by: start.belongs_to(entry)?, is_running: false })
        });
        best(seen)
    }
}

/// Returns the running connection that belongs to `entry`.
pub(crate) fn running(live: &[LiveConnection], entry: &EntryPlace<'_>) -> Option<LastSeen> {
    let running = live.iter().filter(|connection| connection.liveness == Liveness::Running);
    let states = running.map(|connection| &connection.state);
    best(states.filter_map(|state| {
        let start = StartPlace {
            server_name: state.server_name.clone(),
            origin: state.origin.clone(),
            cwd: state.cwd.clone(),
            ..StartPlace::default()
        };
        Some(LastSeen { at: state.updated_at, by: start.belongs_to(entry)?, is_running: true })
    }))
}

/// Returns the first that was seen by its origin, or else the first.
fn best(seen: impl Iterator<Item = LastSeen>) -> Option<LastSeen> {
    let mut by_name = None;
    for seen in seen {
        match seen.by {
            SeenBy::Origin => return Some(seen),
            SeenBy::Name => by_name = by_name.or(Some(seen)),
        }
    }
    by_name
}

fn read_start(path: &Path) -> Option<StartPlace> {
    let mut line = Vec::new();
    let content = LogSource::named(path).ok()?.open(0).ok()?;
    BufReader::new(content.take(LONGEST)).read_until(b'\n', &mut line).ok()?;
    serde_json::from_slice(&line).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_belongs_to_the_entry_that_it_names() {
        let named = |server_name: &str, origin: &str, cwd: &str, project: Option<&str>| {
            let [server_name, origin, cwd] = [server_name, origin, cwd].map(str::to_owned);
            let start = StartPlace { server_name, origin, cwd, ..StartPlace::default() };
            start.belongs_to(&EntryPlace { server: "a b", origin: "claude-code/user", project })
        };
        for origin in ["claude-code/user", ""] {
            assert_eq!(
                named("a_b", origin, "~/a", None),
                None,
                "another server with the same name of its log"
            );
        }
        assert_eq!(named("", "", "", None), Some(SeenBy::Name), "a log without its start");
        let of_agent = StartPlace { agent_name: "codex".to_owned(), ..StartPlace::default() };
        let collect = EntryPlace { server: "collect", origin: "", project: None };
        assert_eq!(of_agent.belongs_to(&collect), None, "a log of `spantap collect`");
        let by = |origin: &str, cwd: &str, project: Option<&str>| named("a b", origin, cwd, project);
        assert_eq!(by("claude-code/user", "~/a", None), Some(SeenBy::Origin));
        assert_eq!(by("cursor/user", "~/a", None), None, "the server of the same name of another host");
        assert_eq!(by("", "~/a", None), Some(SeenBy::Name));
        assert_eq!(by("claude-code/user", "~/a/b", Some("~/a")), Some(SeenBy::Origin));
        for cwd in ["~/ab", "", "~"] {
            assert_eq!(by("claude-code/user", cwd, Some("~/a")), Some(SeenBy::Name), "{cwd}");
        }
        let written_by_host = by("claude-code/user", r"C:\a\b", Some("C:/a"));
        assert_eq!(written_by_host, Some(if cfg!(windows) { SeenBy::Origin } else { SeenBy::Name }));
    }
}
