//! What `wrap` or `unwrap` would do in one file.

use crate::cli::wrap::watched::can_start;
use crate::cli::wrap::{Which, label, program};
use crate::hosts::entry::{self, State};
use crate::hosts::locate::{Found, Scope};
use crate::hosts::splice::{self, Change, Proxy};
use crate::hosts::store::Snapshot;
use crate::hosts::tree::{Format, Node};

/// Which way the servers are to be changed.
#[derive(Debug)]
pub(super) enum Intent {
    Wrap {
        /// What this shell says and a host will not; for the user's own files only.
        inherited: Vec<String>,
        /// Options behind `--`.
        given: Vec<String>,
    },
    Unwrap,
}

impl Intent {
    /// The name of the command.
    pub(super) fn command(&self) -> &'static str {
        match self {
            Intent::Wrap { .. } => "wrap",
            Intent::Unwrap => "unwrap",
        }
    }

    pub(super) fn verb(&self) -> &'static str {
        match self {
            Intent::Wrap { .. } => "Wrap",
            Intent::Unwrap => "Unwrap",
        }
    }

    /// The options of an entry: a shared file gets nothing that holds for this machine alone.
    fn options(&self, scope: Scope) -> Vec<String> {
        match (self, scope) {
            (Intent::Wrap { inherited, given }, Scope::User) => [inherited.as_slice(), given].concat(),
            (Intent::Wrap { given, .. }, Scope::Project) => given.clone(),
            (Intent::Unwrap, _) => Vec::new(),
        }
    }
}

/// A server whose entry changes.
#[derive(Debug)]
pub(super) struct Changed {
    pub label: String,
    /// Its command was changed by hand since it was wrapped.
    pub edited: bool,
    /// It is wrapped and only gets a spantap that is there.
    pub renewed: bool,
    /// Its host does not start it for now.
    pub disabled: bool,
}

/// What will be, or was, done in one file.
pub(super) struct Plan {
    pub found: Found,
    pub snapshot: Snapshot,
    pub after: String,
    pub changed: Vec<Changed>,
    /// Servers left alone, and why.
    pub skipped: Vec<(String, String)>,
    /// All servers of the file by name.
    pub names: Vec<String>,
}

impl Plan {
    /// # Errors
    /// Why the file is left alone.
    pub(super) fn make(found: &Found, which: &Which, intent: &Intent) -> Result<Plan, String> {
        let snapshot = Snapshot::read(&found.path).map_err(|error| error.to_string())?;
        let format = Format::of(&snapshot.path);
        let root = Node::parse(snapshot.text(), format)?;
        let program = program(found.scope).map_err(|error| error.to_string())?;
        let options = intent.options(found.scope);
        let mut after = snapshot.text().to_owned();
        let (mut changed, mut skipped, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for server in entry::entries(&root, found.host) {
            names.push(server.name.clone());
            if !which.servers.is_empty() && !which.servers.contains(&server.name) {
                continue;
            }
            let label = label(&server.name, &server.path);
            let (mut edited, mut renewed) = (false, false);
            let step = match (intent, &server.state) {
                (Intent::Wrap { .. }, State::Plain) => {
                    Change::Wrap(&Proxy { program: &program, options: &options })
                }
                (Intent::Unwrap, State::Wrapped { edited: is_edited, .. }) => {
                    edited = *is_edited;
                    Change::Unwrap
                }
                // A shared file's entry may be right for everybody else.
                (Intent::Wrap { .. }, State::Wrapped { program: old, .. })
                    if found.scope == Scope::User && !can_start(old) =>
                {
                    renewed = true;
                    Change::Renew(&program)
                }
                (Intent::Wrap { given, .. }, State::Wrapped { options: old, .. }) => {
                    let differs = !given.is_empty() && !old.ends_with(given);
                    let reason = "wrapped already";
                    let reason = if differs {
                        format!("{reason}; unwrap it first for other options")
                    } else {
                        reason.to_owned()
                    };
                    skipped.push((label, reason));
                    continue;
                }
                (Intent::Wrap { .. }, State::ByHand { .. }) => {
                    skipped.push((label, "spantap is in front of it already, put there by hand".to_owned()));
                    continue;
                }
                (Intent::Unwrap, State::ByHand { .. }) => {
                    skipped.push((label, "spantap was put there by hand; take it out by hand".to_owned()));
                    continue;
                }
                (Intent::Wrap { .. }, State::Remote) => {
                    let reason = "remote; to watch it, run it through a bridge such as mcp-remote";
                    skipped.push((label, reason.to_owned()));
                    continue;
                }
                (Intent::Wrap { .. }, State::Unsupported(reason)) => {
                    skipped.push((label, (*reason).to_owned()));
                    continue;
                }
                (Intent::Unwrap, _) => continue,
            };
            match splice::change(&after, format, found.host, &server.path, step) {
                Ok(edits) => {
                    after = splice::apply(&after, &edits);
                    changed.push(Changed { label, edited, renewed, disabled: server.disabled });
                }
                Err(reason) => skipped.push((label, reason.to_owned())),
            }
        }
        Ok(Plan { found: found.clone(), snapshot, after, changed, skipped, names })
    }
}
