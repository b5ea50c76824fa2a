//! A server entry: what it starts, and whether it is watched.

use sha2::{Digest, Sha256};

use crate::hosts::table::{Host, Shape};
use crate::hosts::tree::{Layout, Node, Value};
use crate::text::hex;

/// One server of a host's file.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name of the server.
    pub name: String,
    /// The steps from the top of the file to the entry.
    pub path: Vec<Step>,
    pub state: State,
    /// Whether the host does not start it for now; it is wrapped all the same.
    pub disabled: bool,
}

/// One step down a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

/// Whether an entry is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// A local server, not wrapped.
    Plain,
    Wrapped {
        /// The proxy as the entry names it.
        program: String,
        /// The arguments of the proxy before `--`.
        options: Vec<String>,
        /// The command behind the proxy was changed by hand since it was wrapped.
        edited: bool,
    },
    /// Somebody has put the proxy in front of it without `wrap`; it is watched, and theirs to change.
    ByHand {
        program: String,
        /// The arguments of the proxy before `--`.
        options: Vec<String>,
    },
    /// Reached over the network: there is no pipe to stand in.
    Remote,
    /// Left alone, and why.
    Unsupported(&'static str),
}

/// The mark in front of the hash; it counts up when the way of wrapping changes.
const MARK_VERSION: &str = "1:";
/// After the hash when the entry had no `args` before it was wrapped.
const NO_ARGS: &str = ":no-args";

/// The text of `--wrapped`: it tells an entry edited by hand from one that is as `wrap` left it.
pub fn mark(words: &[&str], had_args: bool) -> String {
    let mut hash = Sha256::new();
    for word in words {
        hash.update((word.len() as u64).to_be_bytes());
        hash.update(word.as_bytes());
    }
    let hash = hex::text(hash.finalize().get(..6).unwrap_or_default());
    format!("{MARK_VERSION}{hash}{}", if had_args { "" } else { NO_ARGS })
}

/// Whether a mark says that the entry had no `args`.
pub(super) fn is_without_args(mark: &str) -> bool {
    mark.ends_with(NO_ARGS)
}

/// The parts of an entry that wrapping changes.
pub(super) struct Parts<'a> {
    /// The map that holds them.
    pub holder: &'a Node,
    /// The command's key, and where it stands.
    pub key: &'a crate::hosts::tree::Member,
    pub command: Command<'a>,
}

pub(super) enum Command<'a> {
    /// A text and, in another member, the rest.
    Split {
        program: &'a Node,
        args: Option<&'a crate::hosts::tree::Member>,
    },
    OneList(&'a Node),
}

impl<'a> Parts<'a> {
    /// Finds the parts of an entry.
    ///
    /// # Errors
    /// Why the entry cannot be wrapped.
    pub(super) fn of(entry: &'a Node, shape: Shape) -> Result<Parts<'a>, &'static str> {
        let name = if shape == Shape::CmdAndArgs { "cmd" } else { "command" };
        let key = entry.member(name).ok_or("it has no command")?;
        match (&key.value.value, shape) {
            (Value::List { items, layout: Layout::Flow }, Shape::OneList) => {
                if items.is_empty() || items.iter().any(|item| item.text().is_none()) {
                    return Err("its command is not a list of texts");
                }
                Ok(Parts { holder: entry, key, command: Command::OneList(&key.value) })
            }
            (Value::Text(_), Shape::CommandAndArgs | Shape::CmdAndArgs) => Parts::split(entry, key, "args"),
            (Value::Map { .. }, Shape::CommandAndArgs) => {
                let inner = key.value.member("path").ok_or("its command has no path")?;
                Parts::split(&key.value, inner, "args")
            }
            _ => Err("its command has a form that is not known"),
        }
    }

    fn split(
        holder: &'a Node,
        key: &'a crate::hosts::tree::Member,
        args: &str,
    ) -> Result<Parts<'a>, &'static str> {
        let times = |name: &str| holder.members().iter().filter(|member| member.key == name).count();
        if times(&key.key) > 1 || times(args) > 1 {
            return Err("it says its command or arguments twice");
        }
        if key.value.text().is_none_or(str::is_empty) {
            return Err("its command is empty");
        }
        let args = holder.member(args);
        if let Some(args) = args {
            let items = args.value.items().ok_or("its args are not a list")?;
            if items.iter().any(|item| item.text().is_none()) {
                return Err("its args are not all texts");
            }
        }
        Ok(Parts { holder, key, command: Command::Split { program: &key.value, args } })
    }

    /// Everything that is started, program first.
    pub(super) fn words(&self) -> Vec<&'a Node> {
        match &self.command {
            Command::Split { program, args } => {
                let rest = args.and_then(|args| args.value.items()).unwrap_or_default();
                std::iter::once(*program).chain(rest).collect()
            }
            Command::OneList(list) => list.items().unwrap_or_default().iter().collect(),
        }
    }
}

/// A wrapped command line, taken apart.
pub(super) struct Wrapped<'a> {
    pub mark: &'a str,
    pub options: &'a [&'a str],
    /// Where the old command starts among the words.
    pub old: usize,
}

impl<'a> Wrapped<'a> {
    /// `words` if they are what `wrap` writes.
    pub(super) fn of(words: &'a [&'a str]) -> Option<Wrapped<'a>> {
        if words.get(1) != Some(&"run") {
            return None;
        }
        let dashes = words.iter().position(|word| *word == "--")?;
        let options = words.get(2..dashes)?;
        let at = options.iter().position(|word| *word == "--wrapped")?;
        let mark = options.get(at + 1).filter(|mark| mark.starts_with(MARK_VERSION))?;
        words.get(dashes + 1)?;
        Some(Wrapped { mark, options, old: dashes + 1 })
    }

    fn is_edited(&self, words: &[&str]) -> bool {
        mark(&words[self.old..], !is_without_args(self.mark)) != self.mark
    }
}

/// The servers of a file, in its order.
pub fn entries(root: &Node, host: &Host) -> Vec<Entry> {
    let mut found = Vec::new();
    for keys in host.keys {
        descend(root, keys, &mut Vec::new(), &mut |servers, path| {
            for (name, step, node) in children(servers) {
                let mut path = path.to_vec();
                path.push(step);
                let disabled = is_disabled(node);
                found.push(Entry { name, path, state: state(node, host.shape), disabled });
            }
        });
    }
    found
}

fn descend(node: &Node, keys: &[&str], path: &mut Vec<Step>, take: &mut dyn FnMut(&Node, &[Step])) {
    let Some((first, rest)) = keys.split_first() else {
        return take(node, path);
    };
    let members = node.members();
    for (at, member) in members.iter().enumerate() {
        // Of members with the same name the last one counts, as it does for hosts.
        let is_last = !members[at + 1..].iter().any(|later| later.key == member.key);
        if is_last && (*first == "*" || *first == member.key) {
            path.push(Step::Key(member.key.clone()));
            descend(&member.value, rest, path, take);
            path.pop();
        }
    }
}

fn children(servers: &Node) -> Vec<(String, Step, &Node)> {
    match &servers.value {
        Value::Map { members, .. } => {
            let is_last = |at: usize, key: &str| !members[at + 1..].iter().any(|later| later.key == key);
            let numbered = members.iter().enumerate().filter(|(at, member)| is_last(*at, &member.key));
            numbered
                .map(|(_, member)| (member.key.clone(), Step::Key(member.key.clone()), &member.value))
                .collect()
        }
        Value::List { items, .. } => items
            .iter()
            .enumerate()
            .map(|(at, item)| {
                let name =
                    item.get("name").and_then(Node::text).map_or_else(|| at.to_string(), str::to_owned);
                (name, Step::Index(at), item)
            })
            .collect(),
        Value::Text(_) | Value::Other(_) => Vec::new(),
    }
}

/// The node that `path` leads to.
pub(super) fn at<'a>(root: &'a Node, path: &[Step]) -> Option<&'a Node> {
    path.iter().try_fold(root, |node, step| match step {
        Step::Key(key) => node.get(key),
        Step::Index(index) => node.items()?.get(*index),
    })
}

fn is_disabled(entry: &Node) -> bool {
    let says = |key: &str, word: &str| matches!(entry.get(key), Some(Node { value: Value::Other(text), .. }) if text == word);
    says("disabled", "true") || says("enabled", "false")
}

/// The proxy's options, if `words` run a server behind it: `spantap [run] [OPTIONS] -- COMMAND`.
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

fn state(entry: &Node, shape: Shape) -> State {
    const ADDRESSES: [&str; 5] = ["url", "serverUrl", "httpUrl", "uri", "endpoint"];
    const REMOTE: [&str; 5] = ["http", "sse", "remote", "streamable-http", "streamable_http"];
    let parts = match Parts::of(entry, shape) {
        Ok(parts) => parts,
        Err(reason) => {
            let kind = entry.get("type").and_then(Node::text);
            let is_remote = ADDRESSES.iter().any(|key| entry.get(key).is_some())
                || kind.is_some_and(|kind| REMOTE.contains(&kind));
            return if is_remote { State::Remote } else { State::Unsupported(reason) };
        }
    };
    let nodes = parts.words();
    let words: Vec<&str> = nodes.iter().filter_map(|node| node.text()).collect();
    match Wrapped::of(&words) {
        Some(wrapped) => State::Wrapped {
            program: words[0].to_owned(),
            options: wrapped.options.iter().map(|word| (*word).to_owned()).collect(),
            edited: wrapped.is_edited(&words),
        },
        None if let Some(options) = by_hand(&words) => State::ByHand {
            program: words[0].to_owned(),
            options: options.iter().map(|word| (*word).to_owned()).collect(),
        },
        // Some hosts hand such a command to a shell; behind the proxy there is none.
        None if words.len() == 1 && words[0].contains(' ') && !words[0].contains(['/', '\\']) => {
            State::Unsupported("its command is a whole line; split it into command and args")
        }
        None => State::Plain,
    }
}
