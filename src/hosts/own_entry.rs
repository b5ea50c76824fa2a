//! The entry of `spantap mcp` itself, which `wrap --with-self` adds to a list of servers and `unwrap` removes again.

use std::ops::Range;

use crate::hosts::entry::{EntryParts, EntryState, OWN_WORDS, PathStep, ServerEntry, entries, is_own};
use crate::hosts::splice::{TextEdit, apply, newline_of, quoted};
use crate::hosts::table::{EntryShape, Host};
use crate::hosts::tree::{FileFormat, Node, NodeLayout, NodeMember, NodeValue};

/// Name of the entry.
pub const NAME: &str = "spantap";
/// A list of servers in a file: the keys that lead to it, and its node.
struct ServerList<'a> {
    path: Vec<PathStep>,
    node: &'a Node,
}

/// Returns the first list of servers that is not of one project.
fn list<'a>(root: &'a Node, host: &Host) -> Option<ServerList<'a>> {
    let find = |keys: &[&str]| {
        let node = keys.iter().try_fold(root, |node, key| node.get(key))?;
        let path = keys.iter().map(|key| PathStep::Key((*key).to_owned())).collect();
        (!keys.is_empty() && !keys.contains(&"*")).then_some(ServerList { path, node })
    };
    host.keys.iter().find_map(|keys| find(keys))
}

/// Returns the steps to the entry in a file that has a list of servers.
pub fn path(root: &Node, host: &Host) -> Option<Vec<PathStep>> {
    list(root, host).map(|list| [list.path, vec![PathStep::Key(NAME.to_owned())]].concat())
}

/// Adds the entry, whose command is `program` with `options` after `mcp`, before the first server of the list.
/// Every other byte is kept, and [`remove`] restores the text: both are tried before this returns.
///
/// # Errors
/// Returns the reason if the entry cannot be added.
pub fn add(
    text: &str,
    format: FileFormat,
    host: &Host,
    program: &str,
    options: &[String],
) -> Result<String, &'static str> {
    let root = Node::parse(text, format).map_err(|_| "the file could not be parsed")?;
    let list = list(&root, host).ok_or("the file has no list of servers")?.node;
    if list.get(NAME).is_some() {
        return Err("a server is called `spantap` already");
    }
    let NodeValue::Map { members, layout } = &list.value else {
        return Err("its servers are a list without names");
    };
    let words: Vec<String> =
        OWN_WORDS.iter().map(|word| (*word).to_owned()).chain(options.iter().cloned()).collect();
    let first = members.iter().min_by_key(|member| member.key_range.start);
    let kind = members.iter().find_map(|member| kind(&member.value, host.shape)).unwrap_or_default();
    let fields = fields(host.shape, kind, program, &words);
    let edit = match (first, layout) {
        (Some(first), NodeLayout::Flow) => {
            let gap = text.get(list.range.start + 1..first.key_range.start).unwrap_or_default();
            let gap = if gap.chars().all(char::is_whitespace) { gap } else { " " };
            (first.key_range.start, flow_entry(format, &fields) + "," + gap)
        }
        (None, NodeLayout::Flow) if text.as_bytes().get(list.range.start) == Some(&b'{') => {
            (list.range.start + 1, flow_entry(format, &fields))
        }
        (Some(first), NodeLayout::Block) => block_entry(text, format, first, &fields)?,
        (None, _) => return Err("its list of servers is empty"),
    };
    let edit = TextEdit { range: edit.0..edit.0, text: edit.1 };
    let after = apply(text, [&edit]);
    prove(text, &after, format, host).map(|()| after)
}

/// Returns what a host may require besides the command, as a local sibling has it: kind, name, and that it is enabled.
fn kind(entry: &Node, shape: EntryShape) -> Option<Vec<(String, String)>> {
    EntryParts::of(entry, shape).ok()?;
    let field = |member: &NodeMember| {
        let literal = match (member.key.as_str(), &member.value.value) {
            ("type" | "source" | "transport", NodeValue::Text(kind)) => quoted(kind),
            ("name", NodeValue::Text(_)) => quoted(NAME),
            ("enabled", NodeValue::Other(_)) => "true".to_owned(),
            _ => return None,
        };
        Some((member.key.clone(), literal))
    };
    Some(entry.last_members().into_iter().filter_map(field).collect())
}

/// Returns the members of the entry, each with its value as a literal that JSON, TOML and YAML have in common.
fn fields(
    shape: EntryShape,
    mut fields: Vec<(String, String)>,
    program: &str,
    words: &[String],
) -> Vec<(String, String)> {
    let (command, args) = shape.keys();
    let list = |words: &mut dyn Iterator<Item = &str>| {
        format!("[{}]", words.map(quoted).collect::<Vec<_>>().join(", "))
    };
    let rest = || words.iter().map(String::as_str);
    if command == args {
        fields.push((command.to_owned(), list(&mut std::iter::once(program).chain(rest()))));
    } else {
        fields.push((command.to_owned(), quoted(program)));
        fields.push((args.to_owned(), list(&mut rest())));
    }
    fields
}

fn flow_entry(format: FileFormat, fields: &[(String, String)]) -> String {
    let member = |name: &str, value: &str| match format {
        FileFormat::Toml => format!("{name} = {value}"),
        FileFormat::Json | FileFormat::Yaml => format!("{}: {value}", quoted(name)),
    };
    let members: Vec<String> = fields.iter().map(|(name, value)| member(name, value)).collect();
    member(NAME, &format!("{{{}}}", members.join(", ")))
}

/// Returns the entry in lines of its own, and the place for it: before the first server.
fn block_entry(
    text: &str,
    format: FileFormat,
    first: &NodeMember,
    fields: &[(String, String)],
) -> Result<(usize, String), &'static str> {
    let newline = newline_of(text);
    let line = line_start(text, first.key_range.start);
    let lead = text.get(line..first.key_range.start).unwrap_or_default();
    let lines = |indent: &str, sign: &str| {
        fields.iter().map(|(name, value)| format!("{indent}{name}{sign}{value}{newline}")).collect::<String>()
    };
    match format {
        FileFormat::Yaml if lead.bytes().all(|byte| byte == b' ') => {
            let members = lines(&format!("{lead}  "), ": ");
            Ok((first.key_range.start, format!("{NAME}:{newline}{members}{lead}")))
        }
        FileFormat::Toml if lead.trim_start().starts_with('[') => {
            Ok((line, format!("{lead}{NAME}]{newline}{}{newline}", lines("", " = "))))
        }
        _ => Err("its servers are written in an unknown way"),
    }
}

fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1)
}

/// Removes the entry, if the file has it. Every other byte is kept.
pub fn remove(text: &str, format: FileFormat, host: &Host) -> Option<String> {
    let root = Node::parse(text, format).ok()?;
    let list = list(&root, host)?.node;
    let NodeValue::Map { members, layout } = &list.value else { return None };
    let is_own_entry = |member: &&NodeMember| {
        let words = EntryParts::of(&member.value, host.shape).map(|parts| parts.words());
        words.is_ok_and(|words| is_own(&words.iter().filter_map(|node| node.text()).collect::<Vec<_>>()))
    };
    let own = members.iter().find(is_own_entry)?;
    let start = |member: &NodeMember| match (format, layout) {
        (FileFormat::Toml, NodeLayout::Block) => line_start(text, member.key_range.start),
        _ => member.key_range.start,
    };
    let starts = || members.iter().map(&start);
    let next = starts().filter(|at| *at > start(own)).min();
    let before = members.iter().filter(|member| start(member) < start(own));
    let range = match (layout, next) {
        (NodeLayout::Flow, Some(next)) => start(own)..after_comma(text, own.value.range.end, next)?,
        (NodeLayout::Flow, None) => {
            let before = before.map(|member| member.value.range.end).max();
            before.unwrap_or_else(|| start(own))..own.value.range.end
        }
        (NodeLayout::Block, Some(next)) => start(own)..next,
        (NodeLayout::Block, None) => line_start(text, start(own))..end_of_entry(text, own),
    };
    let after = apply(text, [&TextEdit { range, text: String::new() }]);
    let count = |text: &str| Some(entries(&Node::parse(text, format).ok()?, host).len());
    (count(&after)? + 1 == count(text)?).then_some(after)
}

/// Returns the place of the next member if only a comma and white space are before it, else the place after the comma.
fn after_comma(text: &str, end: usize, next: usize) -> Option<usize> {
    let between = text.get(end..next)?;
    let comma = between.find(',')?;
    Some(if between[comma + 1..].trim().is_empty() { next } else { end + comma + 1 })
}

/// Returns the end of the last line of an entry in lines of its own.
fn end_of_entry(text: &str, own: &NodeMember) -> usize {
    let ends = own.value.members().iter().map(|member| member.value.range.end);
    let end = ends.max().unwrap_or(own.value.range.end);
    let rest: Range<usize> = end..text.len();
    text.get(rest).and_then(|rest| rest.find('\n')).map_or(text.len(), |newline| end + newline + 1)
}

/// Proves that `after` has the entry and every other one of `before`, and that it can be removed again.
fn prove(before: &str, after: &str, format: FileFormat, host: &Host) -> Result<(), &'static str> {
    let unproven = "the edit would change more than it should";
    let parse = |text: &str| Node::parse(text, format).map_err(|_| unproven);
    let (old, new) = (entries(&parse(before)?, host), entries(&parse(after)?, host));
    let is_other = |entry: &&ServerEntry| entry.state != EntryState::Own;
    let rest: Vec<_> = new.iter().filter(is_other).map(|entry| (&entry.name, &entry.state)).collect();
    let is_same = old.iter().map(|entry| (&entry.name, &entry.state)).eq(rest.iter().copied());
    let is_undone = remove(after, format, host).as_deref() == Some(before);
    (is_same && new.len() == old.len() + 1 && is_undone).then_some(()).ok_or(unproven)
}
