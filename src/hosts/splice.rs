//! Edits an entry by splice: puts the proxy in front of the command or removes it, and keeps every other byte.

use std::ops::Range;

use crate::hosts::entry::{EntryCommand, EntryParts, WrappedCommand, is_without_args, mark, option_at};
use crate::hosts::tree::{FileFormat, Node, NodeLayout, NodeMember, NodeValue};

/// Option of the proxy that names the entry: host and scope.
pub(crate) const ORIGIN: &str = "--origin";

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
    /// Sets the proxy's program and the value of its `--origin` in a wrapped entry, and changes nothing else.
    Renew {
        program: &'a str,
        origin: &'a str,
    },
}

/// Applies edits, which must not overlap, to a text.
pub fn apply<'a>(text: &str, edits: impl IntoIterator<Item = &'a TextEdit>) -> String {
    let mut sorted: Vec<&TextEdit> = edits.into_iter().collect();
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

/// Returns a double-quoted literal, which is the same in JSON, TOML and YAML.
pub(super) fn quoted(word: &str) -> String {
    serde_json::Value::from(word).to_string()
}

/// Edits of an entry, and the words of its command line after them.
pub(super) type EntryEdits = (Vec<TextEdit>, Vec<String>);

/// Returns the edits that change the command of the server called `name`.
pub(super) fn edits(
    text: &str,
    format: FileFormat,
    parts: &EntryParts<'_>,
    name: &str,
    change: EntryChange<'_>,
) -> Result<EntryEdits, &'static str> {
    match change {
        EntryChange::Wrap(proxy) => wrap(text, format, parts, name, proxy),
        EntryChange::Unwrap => unwrap(text, parts),
        EntryChange::Renew { program, origin } => renew(text, parts, program, origin),
    }
}

fn wrap(
    text: &str,
    format: FileFormat,
    parts: &EntryParts<'_>,
    name: &str,
    proxy: &ProxyCommand<'_>,
) -> Result<EntryEdits, &'static str> {
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
        added.extend(["--server".to_owned(), name.to_owned()]);
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
            vec![insert(text, list, 0, &literals)?]
        }
        EntryCommand::Split { program, args } => {
            literals.push(text.get(program.range.clone()).ok_or("its command cannot be located")?.to_owned());
            let args = match args {
                Some(args) => insert(text, &args.value, 0, &literals)?,
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

/// Inserts literals before the list's item `index`.
fn insert(text: &str, list: &Node, index: usize, literals: &[String]) -> Result<TextEdit, &'static str> {
    let NodeValue::List { items, layout } = &list.value else {
        return Err("its args are not a list");
    };
    match layout {
        NodeLayout::Flow if index > 0 => {
            let at = items.get(index).ok_or("its args cannot be located")?.range.start;
            Ok(TextEdit { range: at..at, text: literals.join(", ") + ", " })
        }
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
            let next = items.get(index).ok_or("its args cannot be located")?;
            let dash = dash_before(text, next.range.start).ok_or("its args cannot be located")?;
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

pub(super) fn newline_of(text: &str) -> &'static str {
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

fn renew(
    text: &str,
    parts: &EntryParts<'_>,
    program: &str,
    origin: &str,
) -> Result<EntryEdits, &'static str> {
    let cannot = "its command cannot be located";
    let nodes = parts.words();
    let old: Vec<&str> = nodes.iter().filter_map(|node| node.text()).collect();
    let wrapped = WrappedCommand::of(&old).ok_or("it is not wrapped")?;
    let mut words: Vec<String> = old.iter().map(|word| (*word).to_owned()).collect();
    let mut edits = Vec::new();
    let mut set = |words: &mut Vec<String>, at: usize, word: String| {
        if words[at] != word {
            edits.push(TextEdit { range: nodes[at].range.clone(), text: quoted(&word) });
            words[at] = word;
        }
    };
    set(&mut words, 0, program.to_owned());
    // The options follow the program and `run`.
    match option_at(wrapped.options, ORIGIN) {
        Some((at, true)) => set(&mut words, at + 2, format!("{ORIGIN}={origin}")),
        Some((at, false)) => set(&mut words, at + 2, origin.to_owned()),
        None => {
            let added = [ORIGIN, origin];
            let at = wrapped.mark_at + 3;
            let (list, index) = match &parts.command {
                EntryCommand::OneList(list) => (*list, at),
                EntryCommand::Split { args, .. } => (&args.ok_or(cannot)?.value, at - 1),
            };
            edits.push(insert(text, list, index, &added.map(quoted))?);
            words.splice(at..at, added.map(str::to_owned));
        }
    }
    Ok((edits, words))
}

pub(super) fn unwrap(text: &str, parts: &EntryParts<'_>) -> Result<EntryEdits, &'static str> {
    let nodes = parts.words();
    let all: Vec<&str> = nodes.iter().filter_map(|node| node.text()).collect();
    let wrapped = WrappedCommand::of(&all).ok_or("it is not wrapped")?;
    let old = wrapped.old;
    let words = all[old..].iter().map(|word| (*word).to_owned()).collect();
    let edits = match &parts.command {
        EntryCommand::OneList(list) => {
            let (_, rest) = nodes.split_at(old);
            let last = nodes.get(old - 1).ok_or("its command cannot be located")?;
            without_front(text, list, last, rest.first().copied())?
        }
        EntryCommand::Split { program, args } => {
            let args = args.ok_or("its args are gone")?;
            let command = nodes.get(old).ok_or("its command cannot be located")?;
            let literal = text.get(command.range.clone()).ok_or("its command cannot be located")?;
            let rest = nodes.get(old + 1).copied();
            let mut edits = if is_without_args(wrapped.mark) && rest.is_none() {
                vec![TextEdit { range: member_range(text, program, args), text: String::new() }]
            } else {
                without_front(text, &args.value, command, rest)?
            };
            edits.push(TextEdit { range: program.range.clone(), text: literal.to_owned() });
            edits
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
) -> Result<Vec<TextEdit>, &'static str> {
    let cannot = "its args cannot be located";
    let NodeValue::List { items, layout } = &list.value else {
        return Err(cannot);
    };
    let remove = |range| TextEdit { range, text: String::new() };
    match (layout, next) {
        (NodeLayout::Flow, None) => Ok(vec![remove(list.range.start + 1..last.range.end)]),
        (NodeLayout::Flow, Some(next)) => {
            let between = text.get(last.range.end..next.range.start).ok_or(cannot)?;
            let comma = between.find(',').ok_or(cannot)?;
            Ok(vec![remove(list.range.start + 1..last.range.end + comma + 1)])
        }
        (NodeLayout::Block, next) => {
            let first = items.first().and_then(|first| dash_before(text, first.range.start)).ok_or(cannot)?;
            let Some(next) = next else {
                // The host wrote the list as a block. Nothing is left of it, and its key needs an empty list.
                let before = text.get(..first).unwrap_or_default();
                let line = before.trim_end_matches([' ', '\t']).trim_end_matches(['\n', '\r']);
                let key = line.rfind('\n').map_or(0, |newline| newline + 1);
                let colon = key + line.get(key..).and_then(|line| line.find(':')).ok_or(cannot)? + 1;
                let empty = TextEdit { range: colon..colon, text: " []".to_owned() };
                return Ok(vec![empty, remove(line.len()..last.range.end)]);
            };
            Ok(vec![remove(first..dash_before(text, next.range.start).ok_or(cannot)?)])
        }
    }
}

/// Returns the byte range of an `args` member and of the separator to its neighbour.
fn member_range(text: &str, program: &Node, args: &NodeMember) -> Range<usize> {
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
