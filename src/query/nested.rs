//! Connections inside another connection: a wrapped server whose command is a wrapped server too. Each of its
//! calls is in both logs.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::path::Path;

use memchr::memmem::Finder;
use serde::Deserialize;

use crate::query::entry::LogEntry;
use crate::query::files::LogSource;
use crate::query::scan::{LineReader, LogLine};
use crate::query::select::Selection;
use crate::record::EventName;
use crate::record::file_name::{SessionFileName, unpacked};

/// The span of a connection, and its parent in the environment of that spantap process.
struct Start {
    connection_id: Box<str>,
    span: (String, String),
    parent: (String, String),
    processes: StartProcesses,
    is_selected: bool,
}

/// The processes of a connection: spantap, and the server that it started.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StartProcesses {
    pid: Option<u32>,
    child_pid: Option<u32>,
    command: Vec<String>,
}

impl StartProcesses {
    /// Returns true if the server is `spantap mcp`. The program may have the name `own`, too.
    fn is_mcp(&self, own: Option<&OsStr>) -> bool {
        let [program, command, ..] = self.command.as_slice() else { return false };
        let name = Path::new(program).file_stem();
        command == "mcp" && name.is_some_and(|name| name == "spantap" || Some(name) == own)
    }

    /// Returns true if the server is the spantap process of `inner`, or a launcher of it. A server that starts a
    /// wrapped server for itself is neither.
    fn is_around(&self, inner: &StartProcesses) -> bool {
        self.child_pid.is_some() && self.child_pid == inner.pid
            || !inner.command.is_empty() && self.command.ends_with(&inner.command)
    }
}

/// Returns the ids of the connections whose spantap is the server of another selected connection of `sources`: their
/// parent span is its span. A stream is not read.
pub(crate) fn inner_connections(sources: &[LogSource], select: &Selection) -> HashSet<Box<str>> {
    let mut starts = Vec::new();
    // One buffer for all files: making it costs more than reading a line.
    let mut buffer = Vec::new();
    for source in sources {
        // The scan reports what cannot be read.
        let _ = read_starts(source, select, &mut buffer, &mut starts);
    }
    let outer: HashMap<&(String, String), &StartProcesses> = starts
        .iter()
        .filter(|start| start.is_selected)
        .map(|start| (&start.span, &start.processes))
        .collect();
    let is_inner =
        |start: &&Start| outer.get(&start.parent).is_some_and(|outer| outer.is_around(&start.processes));
    let inner = starts.iter().filter(is_inner);
    inner.map(|start| start.connection_id.clone()).collect()
}

/// Returns the ids of the connections to `spantap mcp`, whose program may have the name `own`, too.
pub(crate) fn mcp_connections(sources: &[LogSource], own: Option<&OsStr>) -> HashSet<Box<str>> {
    let (mut starts, mut buffer) = (Vec::new(), Vec::new());
    for source in sources {
        // The scan reports what cannot be read.
        let _ = read_starts(source, &Selection::default(), &mut buffer, &mut starts);
    }
    starts.retain(|start| start.processes.is_mcp(own));
    starts.into_iter().map(|start| start.connection_id).collect()
}

fn read_starts(
    source: &LogSource,
    select: &Selection,
    buffer: &mut Vec<u8>,
    starts: &mut Vec<Start>,
) -> io::Result<()> {
    let Some(path) = source.path() else { return Ok(()) };
    // A file of spantap has one connection, and begins with its start. A file that was put together has several.
    let name = path.file_name().and_then(|name| name.to_str()).map(unpacked);
    let has_one = name.is_some_and(|name| SessionFileName::parse(name).is_some());
    let word = Finder::new("session_started");
    let mut lines = LineReader::new(source.open(0)?, buffer, 0);
    loop {
        let line = match lines.next()? {
            LogLine::Whole(line) | LogLine::Last(line) => line,
            LogLine::TooLong => continue,
            LogLine::End => break,
        };
        if word.find(line).is_some()
            && let Ok(entry) = LogEntry::parse(line)
            && entry.event == EventName::SessionStarted
        {
            let span = |id: &str| (entry.trace_id.to_string(), id.to_owned());
            starts.push(Start {
                connection_id: (&*entry.connection_id).into(),
                span: span(&entry.span_id),
                parent: span(&entry.parent_span_id),
                processes: serde_json::from_slice(line).unwrap_or_default(),
                is_selected: !entry.span_id.is_empty() && select.takes_connection(&entry),
            });
        }
        if has_one {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spantap_s_own_server_is_known_by_its_command() {
        let is_mcp = |command: &[&str], own: Option<&str>| {
            let command = command.iter().map(|word| (*word).to_owned()).collect();
            StartProcesses { command, ..StartProcesses::default() }.is_mcp(own.map(OsStr::new))
        };
        assert!(is_mcp(&["/usr/bin/spantap", "mcp", "--all"], None) && is_mcp(&["tap", "mcp"], Some("tap")));
        assert!(
            !is_mcp(&["npx", "mcp"], Some("tap"))
                && !is_mcp(&["spantap", "demo"], None)
                && !is_mcp(&["mcp"], None)
        );
    }

    #[test]
    fn a_server_that_starts_a_wrapped_server_for_itself_is_not_around_it() {
        let processes = |pid, child_pid, command: &[&str]| StartProcesses {
            pid: Some(pid),
            child_pid,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
        };
        let outer = processes(10, Some(11), &["npx", "agent"]);
        assert!(outer.is_around(&processes(11, Some(12), &["spantap-of-npx"])));
        assert!(outer.is_around(&processes(15, None, &["agent"])), "a launcher is between them");
        assert!(!outer.is_around(&processes(30, Some(31), &["github-mcp"])));
        assert!(!processes(10, None, &["a"]).is_around(&StartProcesses::default()));
    }
}
