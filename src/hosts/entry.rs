//! A server's entry in a host's file: its command, and whether spantap watches it.

use sha2::{Digest, Sha256};

use crate::hosts::table::{EntryShape, Host};
use crate::hosts::tree::{Node, NodeLayout, NodeValue};
use crate::text::hex;

#[derive(Clone, Debug)]
pub struct ServerEntry {
    pub name: String,
    /// Steps from the top of the file to the entry.
    pub path: Vec<PathStep>,
    pub state: EntryState,
    /// True if the host does not start the server at present. The entry is wrapped all the same.
    pub disabled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathStep {
    Key(String),
    Index(usize),
}

/// State of an entry: whether spantap watches its server, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// A local server, not wrapped.
    Plain,
    Wrapped {
        /// The proxy's program, as the entry names it.
        program: String,
        /// Arguments of the proxy before `--`.
        options: Vec<String>,
        /// True if the server's command was changed by hand after `wrap`.
        edited: bool,
    },
    /// The user put the proxy in front of the server without `wrap`. The server is watched; `wrap` and
    /// `unwrap` do not change the entry.
    ByHand {
        program: String,
        /// Arguments of the proxy before `--`.
        options: Vec<String>,
    },
    /// The server is reached over the network, not over pipes.
    Remote,
    /// The entry cannot be wrapped, for this reason.
    Unsupported(&'static str),
}

/// Prefix of the hash. The number grows when the form of a wrapped entry changes.
const MARK_VERSION: &str = "1:";
/// Suffix of the hash if the entry had no `args` before it was wrapped.
const NO_ARGS: &str = ":no-args";

/// Returns the value of `--wrapped`, which shows later whether the entry was edited by hand.
pub fn mark(words: &[&str], had_args: bool) -> String {
    let mut hash = Sha256::new();
    for word in words {
        hash.update((word.len() as u64).to_be_bytes());
        hash.update(word.as_bytes());
    }
    let hash = hex::text(hash.finalize().get(..6).unwrap_or_default());
    format!("{MARK_VERSION}{hash}{}", if had_args { "" } else { NO_ARGS })
}

/// Returns true if the entry had no `args` before it was wrapped.
pub(super) fn is_without_args(mark: &str) -> bool {
    mark.ends_with(NO_ARGS)
}

/// Parts of an entry that wrapping changes.
pub(super) struct EntryParts<'a> {
    /// The map that contains them.
    pub holder: &'a Node,
    /// The member with the command.
    pub key: &'a crate::hosts::tree::NodeMember,
    pub command: EntryCommand<'a>,
}

pub(super) enum EntryCommand<'a> {
    /// The program, and its arguments in another member.
    Split {
        program: &'a Node,
        args: Option<&'a crate::hosts::tree::NodeMember>,
    },
    OneList(&'a Node),
}

impl<'a> EntryParts<'a> {
    /// Finds the parts of an entry.
    pub(super) fn of(entry: &'a Node, shape: EntryShape) -> Result<EntryParts<'a>, &'static str> {
        let name = if shape == EntryShape::CmdAndArgs { "cmd" } else { "command" };
        let key = entry.member(name).ok_or("it has no command")?;
        match (&key.value.value, shape) {
            (NodeValue::List { items, layout: NodeLayout::Flow }, EntryShape::OneList) => {
                if items.is_empty() || items.iter().any(|item| item.text().is_none()) {
                    return Err("its command is not a list of strings");
                }
                Ok(EntryParts { holder: entry, key, command: EntryCommand::OneList(&key.value) })
            }
            (NodeValue::Text(_), EntryShape::CommandAndArgs | EntryShape::CmdAndArgs) => {
                EntryParts::split(entry, key, "args")
            }
            (NodeValue::Map { .. }, EntryShape::CommandAndArgs) => {
                let inner = key.value.member("path").ok_or("its command has no path")?;
                EntryParts::split(&key.value, inner, "args")
            }
            _ => Err("its command has an unknown form"),
        }
    }

    fn split(
        holder: &'a Node,
        key: &'a crate::hosts::tree::NodeMember,
        args: &str,
    ) -> Result<EntryParts<'a>, &'static str> {
        let times = |name: &str| holder.members().iter().filter(|member| member.key == name).count();
        if times(&key.key) > 1 || times(args) > 1 {
            return Err("its command or args member appears twice");
        }
        if key.value.text().is_none_or(str::is_empty) {
            return Err("its command is empty");
        }
        let args = holder.member(args);
        if let Some(args) = args {
            let items = args.value.items().ok_or("its args are not a list")?;
            if items.iter().any(|item| item.text().is_none()) {
                return Err("its args are not all strings");
            }
        }
        Ok(EntryParts { holder, key, command: EntryCommand::Split { program: &key.value, args } })
    }

    pub(super) fn words(&self) -> Vec<&'a Node> {
        match &self.command {
            EntryCommand::Split { program, args } => {
                let rest = args.and_then(|args| args.value.items()).unwrap_or_default();
                std::iter::once(*program).chain(rest).collect()
            }
            EntryCommand::OneList(list) => list.items().unwrap_or_default().iter().collect(),
        }
    }
}

/// Parts of a wrapped command line.
pub(super) struct WrappedCommand<'a> {
    pub mark: &'a str,
    pub options: &'a [&'a str],
    /// Index of the first word of the server's own command.
    pub old: usize,
}

impl<'a> WrappedCommand<'a> {
    /// Splits `words`; returns `None` if `wrap` did not write them.
    pub(super) fn of(words: &'a [&'a str]) -> Option<WrappedCommand<'a>> {
        if words.get(1) != Some(&"run") {
            return None;
        }
        let dashes = words.iter().position(|word| *word == "--")?;
        let options = words.get(2..dashes)?;
        let at = options.iter().position(|word| *word == "--wrapped")?;
        let mark = options.get(at + 1).filter(|mark| mark.starts_with(MARK_VERSION))?;
        words.get(dashes + 1)?;
        Some(WrappedCommand { mark, options, old: dashes + 1 })
    }

    fn is_edited(&self, words: &[&str]) -> bool {
        mark(&words[self.old..], !is_without_args(self.mark)) != self.mark
    }
}

/// Returns the servers of a file, in file order.
pub fn entries(root: &Node, host: &Host) -> Vec<ServerEntry> {
    let mut found = Vec::new();
    for keys in host.keys {
        descend(root, keys, &mut Vec::new(), &mut |servers, path| {
            for (name, step, node) in children(servers) {
                let mut path = path.to_vec();
                path.push(step);
                let disabled = is_disabled(node);
                found.push(ServerEntry { name, path, state: state(node, host.shape), disabled });
            }
        });
    }
    found
}

fn descend(node: &Node, keys: &[&str], path: &mut Vec<PathStep>, take: &mut dyn FnMut(&Node, &[PathStep])) {
    let Some((first, rest)) = keys.split_first() else {
        return take(node, path);
    };
    let members = node.members();
    for (at, member) in members.iter().enumerate() {
        // Hosts use the last of several members with the same name.
        let is_last = !members[at + 1..].iter().any(|later| later.key == member.key);
        if is_last && (*first == "*" || *first == member.key) {
            path.push(PathStep::Key(member.key.clone()));
            descend(&member.value, rest, path, take);
            path.pop();
        }
    }
}

fn children(servers: &Node) -> Vec<(String, PathStep, &Node)> {
    match &servers.value {
        NodeValue::Map { members, .. } => {
            let is_last = |at: usize, key: &str| !members[at + 1..].iter().any(|later| later.key == key);
            let numbered = members.iter().enumerate().filter(|(at, member)| is_last(*at, &member.key));
            numbered
                .map(|(_, member)| (member.key.clone(), PathStep::Key(member.key.clone()), &member.value))
                .collect()
        }
        NodeValue::List { items, .. } => items
            .iter()
            .enumerate()
            .map(|(at, item)| {
                let name =
                    item.get("name").and_then(Node::text).map_or_else(|| at.to_string(), str::to_owned);
                (name, PathStep::Index(at), item)
            })
            .collect(),
        NodeValue::Text(_) | NodeValue::Other(_) => Vec::new(),
    }
}

pub(super) fn node_at<'a>(root: &'a Node, path: &[PathStep]) -> Option<&'a Node> {
    path.iter().try_fold(root, |node, step| match step {
        PathStep::Key(key) => node.get(key),
        PathStep::Index(index) => node.items()?.get(*index),
    })
}

fn is_disabled(entry: &Node) -> bool {
    let has = |key: &str, word: &str| matches!(entry.get(key), Some(Node { value: NodeValue::Other(text), .. }) if text == word);
    has("disabled", "true") || has("enabled", "false")
}

/// Returns the proxy's options if `words` are `spantap [run] [OPTIONS] -- COMMAND`.
fn by_hand<'a>(words: &'a [&'a str]) -> Option<&'a [&'a str]> {
    let (program, rest) = words.split_first()?;
    let name = program.rsplit(['/', '\\']).next()?;
    let options = rest.strip_prefix(&["run"]).unwrap_or(rest);
    let dashes = options.iter().position(|word| *word == "--")?;
    let is_proxy = name.trim_end_matches(".exe") == "spantap"
        && (options.len() < rest.len() || options.first()?.starts_with('-'))
        && options.len() > dashes + 1;
    is_proxy.then_some(&options[..dashes])
}

fn state(entry: &Node, shape: EntryShape) -> EntryState {
    const ADDRESSES: [&str; 5] = ["url", "serverUrl", "httpUrl", "uri", "endpoint"];
    const REMOTE: [&str; 5] = ["http", "sse", "remote", "streamable-http", "streamable_http"];
    let parts = match EntryParts::of(entry, shape) {
        Ok(parts) => parts,
        Err(reason) => {
            let kind = entry.get("type").and_then(Node::text);
            let is_remote = ADDRESSES.iter().any(|key| entry.get(key).is_some())
                || kind.is_some_and(|kind| REMOTE.contains(&kind));
            return if is_remote { EntryState::Remote } else { EntryState::Unsupported(reason) };
        }
    };
    let nodes = parts.words();
    let words: Vec<&str> = nodes.iter().filter_map(|node| node.text()).collect();
    match WrappedCommand::of(&words) {
        Some(wrapped) => EntryState::Wrapped {
            program: words[0].to_owned(),
            options: wrapped.options.iter().map(|word| (*word).to_owned()).collect(),
            edited: wrapped.is_edited(&words),
        },
        None if let Some(options) = by_hand(&words) => EntryState::ByHand {
            program: words[0].to_owned(),
            options: options.iter().map(|word| (*word).to_owned()).collect(),
        },
        // Some hosts pass such a command to a shell; the proxy does not.
        None if words.len() == 1 && words[0].contains(' ') && !words[0].contains(['/', '\\']) => {
            EntryState::Unsupported("its command is a whole command line; split it into command and args")
        }
        None => EntryState::Plain,
    }
}
