//! Edits an entry by splice: puts the proxy in front of the command or removes it, and keeps every other byte.

use std::ops::Range;

use crate::hosts::entry::{
    EntryCommand, EntryParts, PathStep, WrappedCommand, entries, is_without_args, mark, node_at,
};
use crate::hosts::table::{EntryShape, Host};
use crate::hosts::tree::{FileFormat, Node, NodeLayout, NodeValue};

/// Replacement of a byte range by a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextEdit {
    pub range: Range<usize>,
    pub text: String,
}

/// The proxy's command, as a wrapped entry contains it.
#[derive(Clone, Debug)]
pub struct ProxyCommand<'a> {
    pub program: &'a str,
    /// Additional options of `spantap run`.
    pub options: &'a [String],
}

#[derive(Clone, Copy, Debug)]
pub enum EntryChange<'a> {
    Wrap(&'a ProxyCommand<'a>),
    Unwrap,
    /// Replaces the proxy's program in a wrapped entry, and changes nothing else.
    Renew(&'a str),
}

/// Returns the edits that change the entry at `path`; every other byte of the text is kept. The result is
/// parsed and compared, and a wrapped entry is unwrapped to the original bytes, before this returns.
pub fn change(
    text: &str,
    format: FileFormat,
    host: &Host,
    path: &[PathStep],
    change: EntryChange<'_>,
) -> Result<Vec<TextEdit>, &'static str> {
    let root = Node::parse(text, format).map_err(|_| "the file cannot be parsed")?;
    let entry = node_at(&root, path).ok_or("the entry is gone")?;
    let parts = EntryParts::of(entry, host.shape)?;
    let (edits, words) = match change {
        EntryChange::Wrap(proxy) => wrap(text, format, &parts, name_of(&root, host, path), proxy)?,
        EntryChange::Unwrap => unwrap(text, &parts)?,
        EntryChange::Renew(program) => renew(&parts, program)?,
    };
    let after = apply(text, &edits);
    let changed = Node::parse(&after, format).map_err(|_| "the edited file could not be parsed")?;
    let now = node_at(&changed, path).ok_or("the edited file would not contain the entry")?;
    let now = EntryParts::of(now, host.shape)?;
    if now.words().iter().map(|node| node.text().unwrap_or_default()).ne(words.iter().map(String::as_str)) {
        return Err("the edited entry would have another command than intended");
    }
    if !without_command(&root, path, host.shape).same_value(&without_command(&changed, path, host.shape)) {
        return Err("the edit would change more than the entry's command");
    }
    if let EntryChange::Wrap(_) = change {
        let (undo, _) = unwrap(&after, &now)?;
        if apply(&after, &undo) != text {
            return Err("unwrapping would not restore the same bytes");
        }
    }
    Ok(edits)
}

/// Applies edits, which must not overlap, to a text.
pub fn apply(text: &str, edits: &[TextEdit]) -> String {
    let mut sorted: Vec<&TextEdit> = edits.iter().collect();
    sorted.sort_by_key(|edit| edit.range.start);
    let mut result = String::with_capacity(text.len() + 256);
    let mut done = 0;
    for edit in sorted {
        result.push_str(text.get(done..edit.range.start).unwrap_or_default());
        result.push_str(&edit.text);
        done = edit.range.end;
    }
    result.push_str(text.get(done..).unwrap_or_default());
    result
}

fn name_of(root: &Node, host: &Host, path: &[PathStep]) -> String {
    entries(root, host)
        .into_iter()
        .find(|entry| entry.path == path)
        .map_or_else(String::new, |entry| entry.name)
}

/// Returns a double-quoted literal, which is the same in JSON, TOML and YAML.
pub(super) fn quoted(word: &str) -> String {
    serde_json::Value::from(word).to_string()
}

fn wrap(
    text: &str,
    format: FileFormat,
    parts: &EntryParts<'_>,
    name: String,
    proxy: &ProxyCommand<'_>,
) -> Result<(Vec<TextEdit>, Vec<String>), &'static str> {
    let nodes = parts.words();
    let old: Vec<&str> = nodes.iter().filter_map(|node| node.text()).collect();
    if WrappedCommand::of(&old).is_some() {
        return Err("it is wrapped already");
    }
    let had_args = !matches!(parts.command, EntryCommand::Split { args: None, .. });
    let mut added = vec!["run".to_owned()];
    // `run` must not parse a name that begins with a dash as an option.
    if name.starts_with('-') {
        added.push(format!("--server={name}"));
    } else {
        added.extend(["--server".to_owned(), name]);
    }
    added.extend(["--wrapped".to_owned(), mark(&old, had_args)]);
    added.extend(proxy.options.iter().cloned());
    added.push("--".to_owned());

    let words = std::iter::once(proxy.program.to_owned());
    let words = words.chain(added.iter().cloned()).chain(old.iter().map(|word| (*word).to_owned())).collect();
    let mut literals: Vec<String> = added.iter().map(|word| quoted(word)).collect();
    let edits = match &parts.command {
        EntryCommand::OneList(list) => {
            literals.insert(0, quoted(proxy.program));
            vec![in_front(text, list, &literals)?]
        }
        EntryCommand::Split { program, args } => {
            literals.push(text.get(program.range.clone()).ok_or("its command cannot be located")?.to_owned());
            let args = match args {
                Some(args) => in_front(text, &args.value, &literals)?,
                None => {
                    let at = program.range.end;
                    TextEdit { range: at..at, text: new_member(text, format, parts, &literals.join(", ")) }
                }
            };
            vec![TextEdit { range: program.range.clone(), text: quoted(proxy.program) }, args]
        }
    };
    Ok((edits, words))
}

/// Puts literals in front of a list's items.
fn in_front(text: &str, list: &Node, literals: &[String]) -> Result<TextEdit, &'static str> {
    let NodeValue::List { items, layout } = &list.value else {
        return Err("its args are not a list");
    };
    match layout {
        NodeLayout::Flow => {
            let at = list.range.start + 1;
            if text.as_bytes().get(list.range.start) != Some(&b'[') {
                return Err("its args cannot be located");
            }
            // No blank after the comma: `unwrap` does not know which blanks were there before.
            let comma = if items.is_empty() { "" } else { "," };
            Ok(TextEdit { range: at..at, text: literals.join(", ") + comma })
        }
        NodeLayout::Block => {
            let first = items.first().ok_or("its args cannot be located")?;
            let dash = dash_before(text, first.range.start).ok_or("its args cannot be located")?;
            let line =
                text.get(..dash).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
            let indent = text.get(line..dash).filter(|indent| indent.bytes().all(|byte| byte == b' '));
            let indent = indent.ok_or("its args are nested in an unknown way")?;
            let newline = newline_of(text);
            let lines = literals.iter().map(|literal| format!("- {literal}{newline}{indent}")).collect();
            Ok(TextEdit { range: dash..dash, text: lines })
        }
    }
}

fn dash_before(text: &str, at: usize) -> Option<usize> {
    let before = text.get(..at)?.trim_end_matches([' ', '\t']);
    before.ends_with('-').then(|| before.len() - 1)
}

fn newline_of(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// Returns the text of an `args` member, to be inserted after the value of the `command` member.
fn new_member(text: &str, format: FileFormat, parts: &EntryParts<'_>, items: &str) -> String {
    let key_start = parts.key.key_range.start;
    let before = text.get(..key_start).unwrap_or_default();
    let line = before.rfind('\n').map_or(0, |newline| newline + 1);
    let lead = &before[line..];
    let is_block = matches!(parts.holder.value, NodeValue::Map { layout: NodeLayout::Block, .. });
    let own_line = lead.bytes().all(|byte| byte == b' ' || byte == b'\t');
    let newline = newline_of(text);
    match format {
        FileFormat::Json if own_line => format!(",{newline}{lead}\"args\": [{items}]"),
        FileFormat::Json => format!(", \"args\": [{items}]"),
        FileFormat::Toml if is_block => {
            format!("{newline}{}args = [{items}]", if own_line { lead } else { "" })
        }
        FileFormat::Toml => format!(", args = [{items}]"),
        // In a list the key follows a dash: its column is the indent.
        FileFormat::Yaml if is_block => {
            format!("{newline}{}args: [{items}]", " ".repeat(lead.chars().count()))
        }
        FileFormat::Yaml => format!(", args: [{items}]"),
    }
}

fn renew(parts: &EntryParts<'_>, program: &str) -> Result<(Vec<TextEdit>, Vec<String>), &'static str> {
    let nodes = parts.words();
    let mut words: Vec<&str> = nodes.iter().filter_map(|node| node.text()).collect();
    WrappedCommand::of(&words).ok_or("it is not wrapped")?;
    let first = nodes.first().ok_or("its command cannot be located")?;
    words[0] = program;
    let words = words.into_iter().map(str::to_owned).collect();
    Ok((vec![TextEdit { range: first.range.clone(), text: quoted(program) }], words))
}

fn unwrap(text: &str, parts: &EntryParts<'_>) -> Result<(Vec<TextEdit>, Vec<String>), &'static str> {
    let nodes = parts.words();
    let all: Vec<&str> = nodes.iter().filter_map(|node| node.text()).collect();
    let wrapped = WrappedCommand::of(&all).ok_or("it is not wrapped")?;
    let old = wrapped.old;
    let words = all[old..].iter().map(|word| (*word).to_owned()).collect();
    let edits = match &parts.command {
        EntryCommand::OneList(list) => {
            let (_, rest) = nodes.split_at(old);
            let last = nodes.get(old - 1).ok_or("its command cannot be located")?;
            vec![without_front(text, list, last, rest.first().copied())?]
        }
        EntryCommand::Split { program, args } => {
            let args = args.ok_or("its args are gone")?;
            let command = nodes.get(old).ok_or("its command cannot be located")?;
            let literal = text.get(command.range.clone()).ok_or("its command cannot be located")?;
            let rest = nodes.get(old + 1).copied();
            let args = if is_without_args(wrapped.mark) && rest.is_none() {
                TextEdit { range: member_range(text, program, args), text: String::new() }
            } else {
                without_front(text, &args.value, command, rest)?
            };
            vec![TextEdit { range: program.range.clone(), text: literal.to_owned() }, args]
        }
    };
    Ok((edits, words))
}

/// Removes the items of a list up to `last`; `next` is the first one that stays.
fn without_front(
    text: &str,
    list: &Node,
    last: &Node,
    next: Option<&Node>,
) -> Result<TextEdit, &'static str> {
    let cannot = "its args cannot be located";
    let NodeValue::List { items, layout } = &list.value else {
        return Err(cannot);
    };
    let range = match (layout, next) {
        (NodeLayout::Flow, None) => list.range.start + 1..last.range.end,
        (NodeLayout::Flow, Some(next)) => {
            let start = list.range.start + 1;
            let between = text.get(last.range.end..next.range.start).ok_or(cannot)?;
            let comma = between.find(',').ok_or(cannot)?;
            start..last.range.end + comma + 1
        }
        (NodeLayout::Block, Some(next)) => {
            let first = items.first().and_then(|first| dash_before(text, first.range.start));
            first.ok_or(cannot)?..dash_before(text, next.range.start).ok_or(cannot)?
        }
        (NodeLayout::Block, None) => return Err("its args would be an empty block"),
    };
    Ok(TextEdit { range, text: String::new() })
}

/// Returns the byte range of an `args` member and of the separator to its neighbour.
fn member_range(text: &str, program: &Node, args: &crate::hosts::tree::NodeMember) -> Range<usize> {
    let end = args.value.range.end;
    // `wrap` wrote it directly after the command.
    let is_next = program.range.end <= args.key_range.start
        && text.get(program.range.end..args.key_range.start).is_some_and(|between| {
            between.bytes().all(|byte| byte.is_ascii_whitespace() || byte == b',' || byte == b'"')
        });
    if is_next {
        return program.range.end..end;
    }
    // A host rewrote its file and moved the member: remove the comma before it, or else the one after it.
    let before = text.get(..args.key_range.start).unwrap_or_default().trim_end();
    if before.ends_with(',') {
        return before.len() - 1..end;
    }
    let after = text.get(end..).unwrap_or_default();
    let comma = after.len() - after.trim_start().len();
    if after[comma..].starts_with(',') {
        args.key_range.start..end + comma + 1
    } else {
        args.key_range.start..end
    }
}

/// Returns the tree without the command and args of the entry at `path`, to compare everything else.
fn without_command(root: &Node, path: &[PathStep], shape: EntryShape) -> Node {
    let mut tree = root.clone();
    let mut node = Some(&mut tree);
    for step in path {
        node = node.and_then(|node| match (step, &mut node.value) {
            (PathStep::Key(key), NodeValue::Map { members, .. }) => {
                members.iter_mut().rev().find(|member| member.key == *key).map(|member| &mut member.value)
            }
            (PathStep::Index(index), NodeValue::List { items, .. }) => items.get_mut(*index),
            _ => None,
        });
    }
    if let Some(NodeValue::Map { members, .. }) = node.map(|node| &mut node.value) {
        let name = if shape == EntryShape::CmdAndArgs { "cmd" } else { "command" };
        let nested =
            members.iter_mut().rev().find(|member| member.key == name).map(|member| &mut member.value.value);
        if let Some(NodeValue::Map { members, .. }) = nested {
            members.retain(|member| member.key != "path" && member.key != "args");
        } else {
            members.retain(|member| {
                member.key != name && (shape == EntryShape::OneList || member.key != "args")
            });
        }
    }
    tree
}
