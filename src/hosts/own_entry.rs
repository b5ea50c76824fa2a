//! The entry of `spantap mcp` itself, which `wrap --with-self` adds to a list of servers and `unwrap` removes again.

use std::ops::Range;

use crate::hosts::entry::{EntryParts, EntryState, OWN_WORDS, PathStep, ServerEntry, entries, is_own};
use crate::hosts::splice::{TextEdit, apply, newline_of, quoted};
use crate::hosts::table::{EntryShape, Host};
use crate::hosts::tree::{FileFormat, Node, NodeLayout, NodeMember, NodeValue};

/// Name of the entry.
pub const NAME: &str = "spantap";
const UNPROVEN: &str = "the edit would change more than it should";

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

/// Removes the entry, if the file has it. Every other byte is kept, apart from white space up to the next server.
///
/// # Errors
/// Returns the reason if the file has the entry, and it cannot be removed alone.
pub fn remove(text: &str, format: FileFormat, host: &Host) -> Result<Option<String>, &'static str> {
    let Ok(root) = Node::parse(text, format) else { return Ok(None) };
    let Some(NodeValue::Map { members, layout }) = list(&root, host).map(|list| &list.node.value) else {
        return Ok(None);
    };
    let is_own_entry = |member: &&NodeMember| {
        let words = EntryParts::of(&member.value, host.shape).map(|parts| parts.words());
        words.is_ok_and(|words| is_own(&words.iter().filter_map(|node| node.text()).collect::<Vec<_>>()))
    };
    let Some(own) = members.iter().find(is_own_entry) else { return Ok(None) };
    let remove = |range| TextEdit { range, text: String::new() };
    let edits = match layout {
        NodeLayout::Flow => flow_ranges(text, members, own)?.map(remove).to_vec(),
        NodeLayout::Block => vec![remove(block_range(text, format, &root, members, own)?)],
    };
    let after = apply(text, &edits);
    let after_root = Node::parse(&after, format).map_err(|_| UNPROVEN)?;
    let is_alone = entries(&after_root, host).len() + 1 == entries(&root, host).len();
    is_alone.then_some(Some(after)).ok_or(UNPROVEN)
}

/// Returns the ranges of an entry in brackets and of the comma beside it.
fn flow_ranges(
    text: &str,
    members: &[NodeMember],
    own: &NodeMember,
) -> Result<[Range<usize>; 2], &'static str> {
    let whole = own.key_range.start..own.value.range.end;
    let next = members.iter().map(|member| member.key_range.start).filter(|at| *at > whole.start).min();
    let ends = members.iter().map(|member| member.value.range.end);
    let (gap, is_after) = match (ends.filter(|end| *end <= whole.start).max(), next) {
        (_, Some(next)) => (whole.end..next, true),
        (Some(before), None) => (before..whole.start, false),
        (None, None) => return Ok([whole.end..whole.end, whole]),
    };
    let between = text.get(gap.clone()).unwrap_or_default();
    let by_hand = "a comment is before a comma beside it; remove it by hand";
    let (lead, rest) = between.split_once(',').filter(|(lead, _)| is_blank(lead)).ok_or(by_hand)?;
    let comma = gap.start + lead.len();
    let comma = match (is_after, is_blank(rest)) {
        (_, true) => gap,
        (true, false) => gap.start..comma + 1,
        (false, false) => comma..comma + 1,
    };
    Ok([whole, comma])
}

/// Returns the range of an entry in lines of its own, up to the next server if only white space is before that.
fn block_range(
    text: &str,
    format: FileFormat,
    root: &Node,
    members: &[NodeMember],
    own: &NodeMember,
) -> Result<Range<usize>, &'static str> {
    let start = |member: &NodeMember| match format {
        FileFormat::Toml => line_start(text, member.key_range.start),
        FileFormat::Json | FileFormat::Yaml => member.key_range.start,
    };
    let end = end_of_lines(text, format, own);
    let next = members.iter().map(start).filter(|at| *at > start(own)).min();
    let range = match next.filter(|next| text.get(end..*next).is_some_and(is_blank)) {
        Some(next) => start(own)..next,
        None => line_start(text, own.key_range.start)..end,
    };
    let has_others = begins_in(root, own, &(own.key_range.end..range.end));
    (!has_others).then_some(range).ok_or("other entries are between its lines; remove it by hand")
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// Returns true if the key of a member that is not in `own` is in the range.
fn begins_in(node: &Node, own: &NodeMember, range: &Range<usize>) -> bool {
    let is_other =
        |member: &NodeMember| range.contains(&member.key_range.start) || begins_in(&member.value, own, range);
    node.members().iter().any(|member| !std::ptr::eq(member, own) && is_other(member))
        || node.items().unwrap_or_default().iter().any(|item| begins_in(item, own, range))
}

/// Returns the end of the last line of an entry in lines of its own, and in TOML of the empty line that follows it.
fn end_of_lines(text: &str, format: FileFormat, own: &NodeMember) -> usize {
    let end = end_of(&own.value).max(own.key_range.end);
    let rest = text.get(end..).unwrap_or_default();
    let line = rest.find('\n').map_or(rest.len(), |newline| newline + 1);
    let newline = newline_of(text);
    let is_empty_next = format == FileFormat::Toml && rest[line..].starts_with(newline);
    end + line + if is_empty_next { newline.len() } else { 0 }
}

/// Returns the end of a value without the comments that follow it.
fn end_of(node: &Node) -> usize {
    let last = match &node.value {
        NodeValue::Map { members, layout: NodeLayout::Block } => {
            members.iter().map(|member| end_of(&member.value).max(member.key_range.end)).max()
        }
        NodeValue::List { items, layout: NodeLayout::Block } => items.iter().map(end_of).max(),
        _ => None,
    };
    last.unwrap_or(node.range.end)
}

/// Proves that `after` has the entry and every other one of `before`, and that it can be removed again.
fn prove(before: &str, after: &str, format: FileFormat, host: &Host) -> Result<(), &'static str> {
    let parse = |text: &str| Node::parse(text, format).map_err(|_| UNPROVEN);
    let (old, new) = (entries(&parse(before)?, host), entries(&parse(after)?, host));
    let is_other = |entry: &&ServerEntry| entry.state != EntryState::Own;
    let rest: Vec<_> = new.iter().filter(is_other).map(|entry| (&entry.name, &entry.state)).collect();
    let is_same = old.iter().map(|entry| (&entry.name, &entry.state)).eq(rest.iter().copied());
    let is_undone = remove(after, format, host).is_ok_and(|undone| undone.as_deref() == Some(before));
    (is_same && new.len() == old.len() + 1 && is_undone).then_some(()).ok_or(UNPROVEN)
}
