//! The changes that `wrap` or `unwrap` makes to one file.

use std::borrow::Cow;

use crate::cli::wrap::programs::can_start;
use crate::cli::wrap::{ServerSelection, label, program};
use crate::hosts::edit;
use crate::hosts::entry::{self, EntryState, PathStep, ServerEntry};
use crate::hosts::locate::{FileScope, HostFile};
use crate::hosts::own_entry;
use crate::hosts::splice::{EntryChange, ORIGIN, ProxyCommand};
use crate::hosts::store::FileSnapshot;
use crate::hosts::tree::{FileFormat, Node};

/// The command, with the options that it writes into entries.
#[derive(Debug)]
pub(super) enum WrapAction {
    Wrap {
        /// Options from this shell's environment, which hosts do not pass on; for the user's own files only.
        inherited: Vec<String>,
        /// Options after `--`.
        given: Vec<String>,
        /// True if the entry of `spantap mcp` is added, too.
        with_self: bool,
    },
    Unwrap,
}

enum EntryDecision<'a> {
    Change(EntryChange<'a>),
    /// Leave the entry alone and report its state and the reason.
    Skip(&'static str, &'static str),
    /// Leave the entry alone without a report.
    Ignore,
}

const ALREADY: &str = "wrapped already";
const LEFT_ALONE: &str = "left alone";

impl WrapAction {
    pub(super) fn command(&self) -> &'static str {
        match self {
            WrapAction::Wrap { .. } => "wrap",
            WrapAction::Unwrap => "unwrap",
        }
    }

    pub(super) fn verb(&self) -> &'static str {
        match self {
            WrapAction::Wrap { .. } => "Wrap",
            WrapAction::Unwrap => "Unwrap",
        }
    }

    /// Returns the options of an entry. A shared file gets no option that is valid on this machine alone.
    fn options(&self, scope: FileScope, origin: &str) -> Vec<String> {
        let origin = [ORIGIN.to_owned(), origin.to_owned()];
        match (self, scope) {
            (WrapAction::Wrap { inherited, given, .. }, FileScope::User) => {
                [&origin, inherited.as_slice(), given].concat()
            }
            (WrapAction::Wrap { given, .. }, FileScope::Project) => [&origin, given.as_slice()].concat(),
            (WrapAction::Unwrap, _) => Vec::new(),
        }
    }

    fn decide<'a>(
        &self,
        state: &'a EntryState,
        scope: FileScope,
        proxy: &'a ProxyCommand<'a>,
        origin: &'a str,
    ) -> EntryDecision<'a> {
        use EntryDecision::{Change, Ignore, Skip};
        match (self, state) {
            (WrapAction::Wrap { .. }, EntryState::Plain) => Change(EntryChange::Wrap(proxy)),
            // The program of a shared file's entry may exist on the machines of its other users.
            (WrapAction::Wrap { .. }, EntryState::Wrapped { program, .. })
                if scope == FileScope::User && !can_start(program) =>
            {
                Change(EntryChange::Renew { program: proxy.program, origin })
            }
            (WrapAction::Wrap { given, .. }, EntryState::Wrapped { program, options, .. }) => {
                if !given.is_empty() && !options.ends_with(given) {
                    Skip(ALREADY, "wrapped already; unwrap it first for other options")
                } else if state.option(ORIGIN) == Some(origin) {
                    Skip(ALREADY, "wrapped already")
                } else {
                    Change(EntryChange::Renew { program, origin })
                }
            }
            (WrapAction::Wrap { .. }, EntryState::ByHand { .. }) => {
                Skip("by hand", "spantap is in front of it already, put there by hand")
            }
            (WrapAction::Wrap { .. }, EntryState::Own) => Skip(ALREADY, "it is spantap itself"),
            (WrapAction::Wrap { .. }, EntryState::Remote) => {
                Skip("remote", "remote; to watch it, run it through a bridge such as mcp-remote")
            }
            (WrapAction::Wrap { .. }, EntryState::Unsupported(reason)) => Skip(LEFT_ALONE, reason),
            (WrapAction::Unwrap, EntryState::Wrapped { .. }) => Change(EntryChange::Unwrap),
            (WrapAction::Unwrap, EntryState::ByHand { .. }) => {
                Skip("by hand", "spantap was put there by hand; remove it by hand")
            }
            (WrapAction::Unwrap, _) => Ignore,
        }
    }
}

#[derive(Debug)]
pub(super) struct ServerChange {
    pub label: String,
    /// The steps to the entry and its name.
    pub entry: (Vec<PathStep>, String),
    /// True if the entry is unwrapped and its command was changed by hand after `wrap`.
    pub edited: bool,
    /// True if a wrapped entry gets another path of spantap, because its own does not exist.
    pub renewed: bool,
    /// True if a wrapped entry gets the `--origin` that its place has.
    pub origin_set: bool,
    /// True if the entry is that of `spantap mcp`, which is added or removed.
    pub own: bool,
    /// True if the host does not start the server at present.
    pub disabled: bool,
}

impl ServerChange {
    fn new(server: &ServerEntry, change: EntryChange<'_>) -> ServerChange {
        let is_unwrapped = matches!(change, EntryChange::Unwrap);
        let is_renewed = |differs: fn(&str, &str, &EntryState) -> bool| match change {
            EntryChange::Renew { program, origin } => differs(program, origin, &server.state),
            EntryChange::Wrap(_) | EntryChange::Unwrap => false,
        };
        ServerChange {
            label: label(&server.name, &server.path),
            entry: (server.path.clone(), server.name.clone()),
            edited: is_unwrapped && matches!(server.state, EntryState::Wrapped { edited: true, .. }),
            renewed: is_renewed(|program, _, state| Some(program) != state.program()),
            origin_set: is_renewed(|_, origin, state| Some(origin) != state.option(ORIGIN)),
            own: false,
            disabled: server.disabled,
        }
    }

    fn of_own(path: Vec<PathStep>) -> ServerChange {
        let name = own_entry::NAME.to_owned();
        ServerChange {
            label: name.clone(),
            entry: (path, name),
            edited: false,
            renewed: false,
            origin_set: false,
            own: true,
            disabled: false,
        }
    }
}

/// Returns those of the options of `spantap run` that `spantap mcp` needs to find the same logs and the same session.
fn own_options(options: &[String]) -> Vec<String> {
    const SHARED: [&str; 3] = ["--config", "--log-dir", "--session-id"];
    let mut own = Vec::new();
    let mut words = options.iter();
    while let Some(word) = words.next() {
        if SHARED.contains(&word.as_str()) {
            own.push(word.clone());
            own.extend(words.next().cloned());
        } else if SHARED.iter().any(|flag| word.strip_prefix(flag).is_some_and(|rest| rest.starts_with('=')))
        {
            own.push(word.clone());
        }
    }
    own
}

/// A server that is left alone.
#[derive(Debug)]
pub(super) struct SkippedServer {
    pub label: String,
    /// A word or two, for a table.
    pub state: &'static str,
    pub reason: Cow<'static, str>,
}

pub(super) struct FilePlan {
    pub file: HostFile,
    pub snapshot: FileSnapshot,
    /// Text of the file after the changes.
    pub after: String,
    pub changes: Vec<ServerChange>,
    pub skipped: Vec<SkippedServer>,
    /// True if a change that was asked for cannot be made.
    pub refused: bool,
    pub names: Vec<String>,
}

impl FilePlan {
    /// Reads a file and tries the changes to it in memory.
    pub(super) fn make(
        file: &HostFile,
        selection: &ServerSelection,
        action: &WrapAction,
    ) -> Result<FilePlan, String> {
        let (snapshot, root) = file.read()?;
        if file.leads_out_of_project(&snapshot.path) {
            return Err(format!(
                "a link leads out of the project, to {}; name that file with --file to change it",
                snapshot.path.display()
            ));
        }
        let program = program(file.scope).map_err(|error| error.to_string())?;
        let origin = file.origin();
        let proxy = ProxyCommand { program: &program, options: &action.options(file.scope, &origin) };
        let mut plan = FilePlan {
            file: file.clone(),
            after: String::new(),
            snapshot,
            changes: Vec::new(),
            skipped: Vec::new(),
            refused: false,
            names: Vec::new(),
        };
        let servers = entry::entries(&root, file.host);
        let mut wanted = Vec::new();
        for (at, server) in servers.iter().enumerate() {
            if selection.takes_entry(file, server) {
                match action.decide(&server.state, file.scope, &proxy, &origin) {
                    EntryDecision::Change(change) => wanted.push((at, change)),
                    EntryDecision::Skip(state, reason) => plan.skip(server, state, reason),
                    EntryDecision::Ignore => {}
                }
            }
            plan.names.push(server.name.clone());
        }
        let format = FileFormat::of(&plan.snapshot.path);
        let (after, outcomes) = edit::change(plan.snapshot.text(), format, file.host, &root, &wanted);
        plan.after = after;
        for ((at, change), outcome) in wanted.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => plan.changes.push(ServerChange::new(&servers[at], change)),
                Err(reason) => {
                    plan.refused = true;
                    plan.skip(&servers[at], LEFT_ALONE, reason);
                }
            }
        }
        plan.change_own(&root, selection, action, &proxy);
        if matches!(action, WrapAction::Wrap { .. }) {
            plan.skip_unread(&root, selection);
        }
        Ok(plan)
    }

    /// Adds the entry of `spantap mcp` or removes it, as the action asks.
    fn change_own(
        &mut self,
        root: &Node,
        selection: &ServerSelection,
        action: &WrapAction,
        proxy: &ProxyCommand<'_>,
    ) {
        let (host, format) = (self.file.host, FileFormat::of(&self.snapshot.path));
        let Some(path) = own_entry::path(root, host).filter(|path| selection.takes_own(&self.file, path))
        else {
            return;
        };
        let after = match action {
            WrapAction::Wrap { with_self: false, .. } => return,
            WrapAction::Wrap { .. } if own_entry::remove(&self.after, format, host) != Ok(None) => return,
            WrapAction::Wrap { .. } => {
                own_entry::add(&self.after, format, host, proxy.program, &own_options(proxy.options))
                    .map(Some)
            }
            WrapAction::Unwrap if selection.takes(own_entry::NAME) => {
                own_entry::remove(&self.after, format, host)
            }
            WrapAction::Unwrap => return,
        };
        match after {
            Ok(Some(after)) => {
                self.after = after;
                self.changes.push(ServerChange::of_own(path));
            }
            Ok(None) => {}
            Err(reason) => {
                self.refused = true;
                let (label, reason) = (own_entry::NAME.to_owned(), Cow::Borrowed(reason));
                self.skipped.push(SkippedServer { label, state: LEFT_ALONE, reason });
            }
        }
    }

    fn skip(&mut self, server: &ServerEntry, state: &'static str, reason: &'static str) {
        let reason = Cow::Borrowed(reason);
        self.skipped.push(SkippedServer { label: label(&server.name, &server.path), state, reason });
    }

    /// Reports the servers in lists that the host does not read: it starts none of them.
    fn skip_unread(&mut self, root: &Node, selection: &ServerSelection) {
        for (name, list) in entry::unread_entries(root, self.file.host) {
            if selection.takes(&name) {
                let reason = format!("it is in `{list}`, which {} does not read", self.file.host.name);
                let reason = Cow::Owned(reason);
                self.skipped.push(SkippedServer { label: label(&name, &[]), state: "not read", reason });
            }
            self.names.push(name);
        }
    }
}
