//! The servers of hosts' files that `check` looks at, and what it does with each.

use std::path::PathBuf;

use crate::check;
use crate::cli::selection::note;
use crate::cli::wrap::{ServerSelection, host_files, label, no_file, note_unread};
use crate::cli::{exit_with, redacted};
use crate::hosts::entry::{self, EntryState, ServerEntry};
use crate::hosts::launch::{self, LaunchContext, ServerLaunch};
use crate::hosts::locate::{FileScope, HostFile};
use crate::query::live::{self, LiveConnection, Liveness};
use crate::record::live::LiveState;
use crate::settings::{paths, process_variable};

/// One server to check.
pub(super) struct CheckTarget {
    /// The server's name: from the host's file or the command line. A URL has the name of its host.
    pub(super) name: String,
    /// The name for people, redacted.
    pub(super) label: String,
    /// Hosts that have the server; empty for a command or an address.
    pub(super) hosts: Vec<String>,
    pub(super) plan: CheckPlan,
}

pub(super) enum CheckPlan {
    Probe(ServerLaunch),
    Disabled,
    /// The reason why the server is not checked, redacted.
    NotChecked(String),
    /// A proxy runs the server.
    Running(Box<LiveState>),
}

/// A file that cannot be read: its host, its path, and the reason.
pub(super) type UnreadFile = (&'static str, PathBuf, String);

/// Finds the servers of the selected files. A name that is not found is an error. Of all servers, also returns the
/// files that cannot be read.
pub(super) fn targets(
    selection: &ServerSelection,
    names: &[String],
    again: bool,
) -> anyhow::Result<(Vec<CheckTarget>, Vec<UnreadFile>)> {
    let files = host_files(selection)?;
    if let (true, Some(name)) = (files.is_empty(), names.first()) {
        return Err(exit_with(
            2,
            anyhow::anyhow!("no server is called `{name}`: none of your hosts has a config file"),
            format!(
                "`spantap status` lists the places; --file FILE names another; `--` begins a command: spantap check \
                 -- {name}"
            ),
        ));
    }
    if files.is_empty() {
        return Err(no_file(selection, "check --all"));
    }
    let live = running(again);
    let (mut targets, mut unread, mut limit) = (Vec::new(), Vec::new(), "");
    for file in &files {
        match file.read() {
            Ok((_, root)) => {
                let variable = process_variable;
                let folder = std::env::current_dir().ok().filter(|_| file.scope == FileScope::Project);
                let context = LaunchContext { variable: &variable, workspace: folder };
                let entries = entry::entries(&root, file.host).into_iter();
                for (server, launch) in entries.zip(launch::launches(&root, file.host, &context)) {
                    if names.is_empty() || names.contains(&server.name) {
                        add(&mut targets, target(file, server, launch, names, &live));
                    }
                }
            }
            Err(reason) if !names.is_empty() => {
                note_unread(file, &reason);
                limit = " that can be read";
            }
            Err(reason) => unread.push((file.host.id, file.path.clone(), reason)),
        }
    }
    let is_unknown = |name: &&String| !targets.iter().any(|target| target.name == **name);
    if let Some(name) = names.iter().find(is_unknown) {
        let mut hosts: Vec<&str> = files.iter().map(|file| file.host.id).collect();
        hosts.dedup();
        return Err(exit_with(
            2,
            anyhow::anyhow!("no server is called `{name}` in the files of {}{limit}", hosts.join(", ")),
            format!("`spantap status` lists the servers; `--` begins a command: spantap check -- {name}"),
        ));
    }
    Ok((targets, unread))
}

/// Returns the connections of proxies that run now, unless servers are started again anyway.
fn running(again: bool) -> Vec<LiveState> {
    let Some(folder) = paths::live_dir().filter(|_| !again) else { return Vec::new() };
    let (connections, problems) = live::connections(&folder);
    problems.iter().for_each(|problem| note(problem));
    let runs = |connection: &LiveConnection| {
        connection.liveness == Liveness::Running && connection.state.server.is_some()
    };
    connections.into_iter().filter(runs).map(|connection| connection.state).collect()
}

fn target(
    file: &HostFile,
    server: ServerEntry,
    launch: impl FnOnce() -> Result<ServerLaunch, String>,
    names: &[String],
    live: &[LiveState],
) -> CheckTarget {
    let host = match file.scope {
        FileScope::User => file.host.id.to_owned(),
        FileScope::Project => format!("{} (project)", file.host.id),
    };
    let plan = match live_state(file, &server, live) {
        _ if server.disabled && names.is_empty() => CheckPlan::Disabled,
        Some(state) => CheckPlan::Running(Box::new(state.clone())),
        None => match launch() {
            Ok(launch) => CheckPlan::Probe(launch),
            Err(reason) => CheckPlan::NotChecked(redacted(&reason).to_string()),
        },
    };
    CheckTarget { label: label(&server.name, &server.path), name: server.name, hosts: vec![host], plan }
}

/// Returns the newest connection of the entry's proxy.
fn live_state<'a>(file: &HostFile, server: &ServerEntry, live: &'a [LiveState]) -> Option<&'a LiveState> {
    if !matches!(server.state, EntryState::Wrapped { .. } | EntryState::ByHand { .. }) {
        return None;
    }
    let name = check::name(server.state.option("--server").unwrap_or(&server.name));
    let origin = format!("{}/{}", file.host.id, file.scope);
    let is_its =
        |state: &&LiveState| state.server_name == name && (state.origin.is_empty() || state.origin == origin);
    live.iter().rev().find(is_its)
}

/// Adds a target. A server that several hosts start in the same way is one target.
fn add(targets: &mut Vec<CheckTarget>, target: CheckTarget) {
    let is_same = |other: &&mut CheckTarget| {
        other.label == target.label
            && match (&other.plan, &target.plan) {
                (CheckPlan::Probe(a), CheckPlan::Probe(b)) => a == b,
                (CheckPlan::Running(a), CheckPlan::Running(b)) => a.connection_id == b.connection_id,
                _ => false,
            }
    };
    match targets.iter_mut().find(is_same) {
        Some(other) if target.hosts.iter().any(|host| other.hosts.contains(host)) => {}
        Some(other) => other.hosts.extend(target.hosts),
        None => targets.push(target),
    }
}
