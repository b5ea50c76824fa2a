//! A server's entry in a host's file: its command, and whether spantap watches it.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::hosts::table::{EntryShape, Host};
use crate::hosts::tree::{Node, NodeLayout, NodeMember, NodeValue};
use crate::settings::server_name::spantap_at;
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
        /// The first word of the entry: the proxy's program, or a launcher such as `npx`.
        program: String,
        /// Arguments of the proxy before `--`.
        options: Vec<String>,
    },
    /// `spantap mcp`, which `wrap --with-self` added.
    Own,
    /// The server is reached over the network, not over pipes.
    Remote,
    /// The entry cannot be wrapped, for this reason.
    Unsupported(&'static str),
}

impl EntryState {
    /// Returns the proxy's program, as the entry names it, or that of its launcher.
    pub(crate) fn program(&self) -> Option<&str> {
        match self {
            EntryState::Wrapped { program, .. } | EntryState::ByHand { program, .. } => Some(program),
            EntryState::Plain | EntryState::Own | EntryState::Remote | EntryState::Unsupported(_) => None,
        }
    }

    /// Returns the value of an option of the proxy in this entry, such as `--log-dir`.
    pub(crate) fn option(&self, flag: &str) -> Option<&str> {
        let (EntryState::Wrapped { options, .. } | EntryState::ByHand { options, .. }) = self else {
            return None;
        };
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let (at, is_joined) = option_at(&options, flag)?;
        let value = options[at].strip_prefix(flag).filter(|_| is_joined);
        value.map_or_else(|| options.get(at).copied(), |value| value.strip_prefix('='))
    }
}

/// Returns the index of the word that has the value of an option, and true if the word has the flag, too.
pub(super) fn option_at(options: &[&str], flag: &str) -> Option<(usize, bool)> {
    let joined = |word: &str| word.strip_prefix(flag).is_some_and(|value| value.starts_with('='));
    let at = options.iter().position(|word| *word == flag || joined(word))?;
    match options[at] == flag {
        true => (at + 1 < options.len()).then_some((at + 1, false)),
        false => Some((at, true)),
    }
}

/// Names of the members with the address of a remote server.
pub(super) const ADDRESSES: [&str; 6] = ["url", "serverUrl", "httpUrl", "uri", "endpoint", "remote"];

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
    pub key: &'a NodeMember,
    pub command: EntryCommand<'a>,
}

pub(super) enum EntryCommand<'a> {
    /// The program, and its arguments in another member.
    Split {
        program: &'a Node,
        args: Option<&'a NodeMember>,
    },
    OneList(&'a Node),
}

impl<'a> EntryParts<'a> {
    /// Finds the parts of an entry.
    pub(super) fn of(entry: &'a Node, shape: EntryShape) -> Result<EntryParts<'a>, &'static str> {
        let key = entry.member(shape.keys().0).ok_or("it has no command")?;
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

    fn split(holder: &'a Node, key: &'a NodeMember, args: &str) -> Result<EntryParts<'a>, &'static str> {
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

/// Words after the program of the entry that `wrap --with-self` adds.
pub(super) const OWN_WORDS: [&str; 3] = ["mcp", "--wrapped", "self"];

/// Returns true if `words` are the command line of that entry.
pub(super) fn is_own(words: &[&str]) -> bool {
    words.get(1..).is_some_and(|rest| rest.starts_with(&OWN_WORDS))
}

/// Parts of a wrapped command line.
pub(super) struct WrappedCommand<'a> {
    pub mark: &'a str,
    /// Index of the mark among the options.
    pub mark_at: usize,
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
        Some(WrappedCommand { mark, mark_at: at + 1, options, old: dashes + 1 })
    }

    fn is_edited(&self, words: &[&str]) -> bool {
        mark(&words[self.old..], !is_without_args(self.mark)) != self.mark
    }
}

/// Entry of a server, as a node of the tree.
pub(super) struct EntryNode<'a> {
    pub name: String,
    pub path: Vec<PathStep>,
    pub node: &'a Node,
}

/// Returns the servers of a file, in file order.
pub fn entries(root: &Node, host: &Host) -> Vec<ServerEntry> {
    let entry = |EntryNode { name, path, node }| {
        let (state, disabled) = (state(node, host.shape), is_disabled(node));
        ServerEntry { name, path, state, disabled }
    };
    entry_nodes(root, host).into_iter().map(entry).collect()
}

/// Returns the nodes of [`entries`], in the same order.
pub(super) fn entry_nodes<'a>(root: &'a Node, host: &Host) -> Vec<EntryNode<'a>> {
    let mut found = Vec::new();
    for keys in host.keys {
        // Without a key the whole file is a list of servers, and must look like one.
        let is_list =
            |members: &[NodeMember]| members.iter().all(|member| is_entry(&member.value, host.shape));
        if !keys.is_empty() || is_list(root.members()) {
            descend(root, keys, &mut Vec::new(), &mut found);
        }
    }
    found
}

/// Returns the servers in lists that other hosts read and `host` does not: each with its name and the keys of its list.
pub fn unread_entries(root: &Node, host: &Host) -> Vec<(String, String)> {
    const LISTS: &[&[&str]] =
        &[&["mcpServers"], &["servers"], &["mcp", "servers"], &["mcp_servers"], &["context_servers"]];
    let mut unread = Vec::new();
    for keys in LISTS.iter().filter(|keys| !host.keys.contains(keys)) {
        let mut found = Vec::new();
        descend(root, keys, &mut Vec::new(), &mut found);
        let servers = found.into_iter().filter(|entry| is_entry(entry.node, EntryShape::CommandAndArgs));
        unread.extend(servers.map(|entry| (entry.name, keys.join("."))));
    }
    unread
}

/// Returns true if the file has a server of this host.
pub fn has_server(root: &Node, host: &Host) -> bool {
    entry_nodes(root, host).iter().any(|entry| is_entry(entry.node, host.shape))
}

/// Returns true if the file has a list of servers of this host, which may be empty.
pub fn has_list(root: &Node, host: &Host) -> bool {
    fn reaches(node: &Node, keys: &[&str]) -> bool {
        match keys.split_first() {
            None => node.is_map() || node.items().is_some(),
            Some((&"*", rest)) => node.members().iter().any(|member| reaches(&member.value, rest)),
            Some((key, rest)) => node.get(key).is_some_and(|node| reaches(node, rest)),
        }
    }
    host.keys.iter().any(|keys| !keys.is_empty() && reaches(root, keys)) || has_server(root, host)
}

fn is_entry(node: &Node, shape: EntryShape) -> bool {
    EntryParts::of(node, shape).is_ok() || is_remote(node)
}

fn descend<'a>(node: &'a Node, keys: &[&str], path: &mut Vec<PathStep>, found: &mut Vec<EntryNode<'a>>) {
    let members = match keys.first() {
        None => return found.extend(children(node, path)),
        Some(&"*") => node.last_members(),
        // Hosts use the last of several members with the same name.
        Some(key) => node.member(key).into_iter().collect(),
    };
    for member in members {
        path.push(PathStep::Key(member.key.clone()));
        descend(&member.value, &keys[1..], path, found);
        path.pop();
    }
}

fn children<'a>(servers: &'a Node, path: &[PathStep]) -> Vec<EntryNode<'a>> {
    let entry = |name, step, node| EntryNode { name, path: [path, &[step]].concat(), node };
    match &servers.value {
        NodeValue::Map { .. } => {
            let members = servers.last_members().into_iter();
            members
                .map(|member| entry(member.key.clone(), PathStep::Key(member.key.clone()), &member.value))
                .collect()
        }
        NodeValue::List { items, .. } => items
            .iter()
            .enumerate()
            .map(|(at, item)| {
                let name =
                    item.get("name").and_then(Node::text).map_or_else(|| at.to_string(), str::to_owned);
                entry(name, PathStep::Index(at), item)
            })
            .collect(),
        NodeValue::Text(_) | NodeValue::Other(_) => Vec::new(),
    }
}

fn is_disabled(entry: &Node) -> bool {
    let has = |key: &str, word: &str| matches!(entry.get(key), Some(Node { value: NodeValue::Other(text), .. }) if text == word);
    has("disabled", "true") || has("enabled", "false")
}

/// Returns the proxy's options and the server's own command if `words` are `spantap [run] [OPTIONS] -- COMMAND`, alone or
/// started by a launcher such as `npx -y`.
fn by_hand<'a>(words: &'a [&'a str]) -> Option<(&'a [&'a str], &'a [&'a str])> {
    let rest = &words[spantap_at(words)? + 1..];
    let options = rest.strip_prefix(&["run"]).unwrap_or(rest);
    let dashes = options.iter().position(|word| *word == "--")?;
    let is_proxy =
        (options.len() < rest.len() || options.first()?.starts_with('-')) && options.len() > dashes + 1;
    is_proxy.then_some((&options[..dashes], &options[dashes + 1..]))
}

/// Returns the server's own command in `words`, without a proxy in front of it.
pub(crate) fn own_words<'a>(words: &'a [&'a str]) -> &'a [&'a str] {
    let by_hand = || by_hand(words).map(|(_, own)| own);
    WrappedCommand::of(words).map(|wrapped| &words[wrapped.old..]).or_else(by_hand).unwrap_or(words)
}

/// Returns the same command of an entry, if it can be started without a shell.
pub(super) fn own_command<'a>(words: &'a [&'a str]) -> Result<&'a [&'a str], &'static str> {
    let own = own_words(words);
    shell_words(own[0]).map_or(Ok(own), Err)
}

fn is_remote(entry: &Node) -> bool {
    const REMOTE: [&str; 5] = ["http", "sse", "remote", "streamable-http", "streamable_http"];
    let kind = entry.get("type").or_else(|| entry.get("transport")).and_then(Node::text);
    ADDRESSES.iter().any(|key| entry.get(key).is_some()) || kind.is_some_and(|kind| REMOTE.contains(&kind))
}

fn state(entry: &Node, shape: EntryShape) -> EntryState {
    let parts = match EntryParts::of(entry, shape) {
        Ok(parts) => parts,
        Err(reason) => {
            return if is_remote(entry) { EntryState::Remote } else { EntryState::Unsupported(reason) };
        }
    };
    let nodes = parts.words();
    let words: Vec<&str> = nodes.iter().filter_map(|node| node.text()).collect();
    match WrappedCommand::of(&words) {
        None if is_own(&words) => EntryState::Own,
        Some(wrapped) => EntryState::Wrapped {
            program: words[0].to_owned(),
            options: wrapped.options.iter().map(|word| (*word).to_owned()).collect(),
            edited: wrapped.is_edited(&words),
        },
        None if let Some((options, _)) = by_hand(&words) => EntryState::ByHand {
            program: words[0].to_owned(),
            options: options.iter().map(|word| (*word).to_owned()).collect(),
        },
        None if let Some(reason) = shell_words(words[0]) => EntryState::Unsupported(reason),
        None => EntryState::Plain,
    }
}

/// Returns why a program cannot be started under the proxy. Some hosts pass the command to a shell, or split it
/// and expand it themselves; the proxy executes it as it is.
fn shell_words(program: &str) -> Option<&'static str> {
    let is_variable = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if program.starts_with('~') || program.strip_prefix('$').is_some_and(is_variable) {
        return Some(
            "its command begins with `~` or a variable, which spantap does not expand; write the whole path",
        );
    }
    let first = program.split_whitespace().next().unwrap_or(program);
    // If the first word is the path of no file, a shell could not start it either.
    let is_one_path = Path::new(program).is_file()
        || (first.starts_with('/') || first.get(1..3) == Some(":\\")) && !Path::new(first).is_file();
    if program.contains(char::is_whitespace) && !is_one_path {
        return Some("its command is a whole command line; split it into command and args");
    }
    None
}
