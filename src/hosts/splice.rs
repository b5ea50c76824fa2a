//! Edits by splice: the proxy put in front of a command and taken out again, every other byte kept.

use std::ops::Range;

use crate::hosts::entry::{Command, Parts, Step, Wrapped, at, entries, is_without_args, mark};
use crate::hosts::table::{Host, Shape};
use crate::hosts::tree::{Format, Layout, Node, Value};

/// Text to put where a range of bytes was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    pub range: Range<usize>,
    pub text: String,
}

/// The proxy as an entry will name it.
#[derive(Clone, Debug)]
pub struct Proxy<'a> {
    pub program: &'a str,
    /// More options of `spantap run`.
    pub options: &'a [String],
}

/// Which way an entry is changed.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    Wrap(&'a Proxy<'a>),
    Unwrap,
    /// Names the proxy anew in a wrapped entry, and changes nothing else.
    Renew(&'a str),
}

/// Changes the entry at `path`; the rest of the text is kept byte for byte.
///
/// # Errors
/// Why the entry is left alone. The result has been parsed and compared, and a wrapped one undone to
/// the very same bytes, before this returns.
pub fn change(
    text: &str,
    format: Format,
    host: &Host,
    path: &[Step],
    change: Change<'_>,
) -> Result<Vec<Edit>, &'static str> {
    let root = Node::parse(text, format).map_err(|_| "the file cannot be parsed")?;
    let entry = at(&root, path).ok_or("the entry is gone")?;
    let parts = Parts::of(entry, host.shape)?;
    let (edits, words) = match change {
        Change::Wrap(proxy) => wrap(text, format, &parts, name_of(&root, host, path), proxy)?,
        Change::Unwrap => unwrap(text, &parts)?,
        Change::Renew(program) => renew(&parts, program)?,
    };
    let after = apply(text, &edits);
    let changed = Node::parse(&after, format).map_err(|_| "the edited file would not parse")?;
    let now = at(&changed, path).ok_or("the edited file would lose the entry")?;
    let now = Parts::of(now, host.shape)?;
    if now.words().iter().map(|node| node.text().unwrap_or_default()).ne(words.iter().map(String::as_str)) {
        return Err("the edited entry would not say what it should");
    }
    if !blanked(&root, path, host.shape).says_the_same(&blanked(&changed, path, host.shape)) {
        return Err("the edit would change more than the entry's command");
    }
    if let Change::Wrap(_) = change {
        let (undo, _) = unwrap(&after, &now)?;
        if apply(&after, &undo) != text {
            return Err("taking the proxy out again would not give the same bytes");
        }
    }
    Ok(edits)
}

/// The text with the edits done; they must not overlap.
pub fn apply(text: &str, edits: &[Edit]) -> String {
    let mut sorted: Vec<&Edit> = edits.iter().collect();
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

fn name_of(root: &Node, host: &Host, path: &[Step]) -> String {
    entries(root, host)
        .into_iter()
        .find(|entry| entry.path == path)
        .map_or_else(String::new, |entry| entry.name)
}

/// A double-quoted literal, the same in JSON, TOML and YAML.
pub(super) fn quoted(word: &str) -> String {
    serde_json::Value::from(word).to_string()
}

fn wrap(
    text: &str,
    format: Format,
    parts: &Parts<'_>,
    name: String,
    proxy: &Proxy<'_>,
) -> Result<(Vec<Edit>, Vec<String>), &'static str> {
    let nodes = parts.words();
    let old: Vec<&str> = nodes.iter().filter_map(|node| node.text()).collect();
    if Wrapped::of(&old).is_some() {
        return Err("it is wrapped already");
    }
    let had_args = !matches!(parts.command, Command::Split { args: None, .. });
    let mut added = vec!["run".to_owned()];
    // A name that looks like an option must not be read as one.
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
        Command::OneList(list) => {
            literals.insert(0, quoted(proxy.program));
            vec![in_front(text, list, &literals)?]
        }
        Command::Split { program, args } => {
            literals.push(text.get(program.range.clone()).ok_or("its command cannot be located")?.to_owned());
            let args = match args {
                Some(args) => in_front(text, &args.value, &literals)?,
                None => {
                    let at = program.range.end;
                    Edit { range: at..at, text: new_member(text, format, parts, &literals.join(", ")) }
                }
            };
            vec![Edit { range: program.range.clone(), text: quoted(proxy.program) }, args]
        }
    };
    Ok((edits, words))
}

/// Puts literals in front of a list's items.
fn in_front(text: &str, list: &Node, literals: &[String]) -> Result<Edit, &'static str> {
    let Value::List { items, layout } = &list.value else {
        return Err("its args are not a list");
    };
    match layout {
        Layout::Flow => {
            let at = list.range.start + 1;
            if text.as_bytes().get(list.range.start) != Some(&b'[') {
                return Err("its args cannot be located");
            }
            // Nothing behind the comma, so that undoing need not guess what was there before.
            let comma = if items.is_empty() { "" } else { "," };
            Ok(Edit { range: at..at, text: literals.join(", ") + comma })
        }
        Layout::Block => {
            let first = items.first().ok_or("its args cannot be located")?;
            let dash = dash_before(text, first.range.start).ok_or("its args cannot be located")?;
            let line =
                text.get(..dash).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
            let indent = text.get(line..dash).filter(|indent| indent.bytes().all(|byte| byte == b' '));
            let indent = indent.ok_or("its args are nested in a way that is not known")?;
            let newline = newline_of(text);
            let lines = literals.iter().map(|literal| format!("- {literal}{newline}{indent}")).collect();
            Ok(Edit { range: dash..dash, text: lines })
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

/// What goes behind the command's literal to give the entry an `args` member.
fn new_member(text: &str, format: Format, parts: &Parts<'_>, items: &str) -> String {
    let key_start = parts.key.key_range.start;
    let before = text.get(..key_start).unwrap_or_default();
    let line = before.rfind('\n').map_or(0, |newline| newline + 1);
    let lead = &before[line..];
    let is_block = matches!(parts.holder.value, Value::Map { layout: Layout::Block, .. });
    let own_line = lead.bytes().all(|byte| byte == b' ' || byte == b'\t');
    let newline = newline_of(text);
    match format {
        Format::Json if own_line => format!(",{newline}{lead}\"args\": [{items}]"),
        Format::Json => format!(", \"args\": [{items}]"),
        Format::Toml if is_block => format!("{newline}{}args = [{items}]", if own_line { lead } else { "" }),
        Format::Toml => format!(", args = [{items}]"),
        // In a list the key stands behind a dash: its column is the indent.
        Format::Yaml if is_block => format!("{newline}{}args: [{items}]", " ".repeat(lead.chars().count())),
        Format::Yaml => format!(", args: [{items}]"),
    }
}

fn renew(parts: &Parts<'_>, program: &str) -> Result<(Vec<Edit>, Vec<String>), &'static str> {
    let nodes = parts.words();
    let mut words: Vec<&str> = nodes.iter().filter_map(|node| node.text()).collect();
    Wrapped::of(&words).ok_or("it is not wrapped")?;
    let first = nodes.first().ok_or("its command cannot be located")?;
    words[0] = program;
    let words = words.into_iter().map(str::to_owned).collect();
    Ok((vec![Edit { range: first.range.clone(), text: quoted(program) }], words))
}

fn unwrap(text: &str, parts: &Parts<'_>) -> Result<(Vec<Edit>, Vec<String>), &'static str> {
    let nodes = parts.words();
    let all: Vec<&str> = nodes.iter().filter_map(|node| node.text()).collect();
    let wrapped = Wrapped::of(&all).ok_or("it is not wrapped")?;
    let old = wrapped.old;
    let words = all[old..].iter().map(|word| (*word).to_owned()).collect();
    let edits = match &parts.command {
        Command::OneList(list) => {
            let (_, rest) = nodes.split_at(old);
            let last = nodes.get(old - 1).ok_or("its command cannot be located")?;
            vec![without_front(text, list, last, rest.first().copied())?]
        }
        Command::Split { program, args } => {
            let args = args.ok_or("its args are gone")?;
            let command = nodes.get(old).ok_or("its command cannot be located")?;
            let literal = text.get(command.range.clone()).ok_or("its command cannot be located")?;
            let rest = nodes.get(old + 1).copied();
            let args = if is_without_args(wrapped.mark) && rest.is_none() {
                Edit { range: member_range(text, program, args), text: String::new() }
            } else {
                without_front(text, &args.value, command, rest)?
            };
            vec![Edit { range: program.range.clone(), text: literal.to_owned() }, args]
        }
    };
    Ok((edits, words))
}

/// Takes the items up to `last` out of a list; `next` is the first one that stays.
fn without_front(text: &str, list: &Node, last: &Node, next: Option<&Node>) -> Result<Edit, &'static str> {
    let cannot = "its args cannot be located";
    let Value::List { items, layout } = &list.value else {
        return Err(cannot);
    };
    let range = match (layout, next) {
        (Layout::Flow, None) => list.range.start + 1..last.range.end,
        (Layout::Flow, Some(next)) => {
            let start = list.range.start + 1;
            let between = text.get(last.range.end..next.range.start).ok_or(cannot)?;
            let comma = between.find(',').ok_or(cannot)?;
            start..last.range.end + comma + 1
        }
        (Layout::Block, Some(next)) => {
            let first = items.first().and_then(|first| dash_before(text, first.range.start));
            first.ok_or(cannot)?..dash_before(text, next.range.start).ok_or(cannot)?
        }
        (Layout::Block, None) => return Err("its args would be an empty block"),
    };
    Ok(Edit { range, text: String::new() })
}

/// The bytes of an `args` member with what parts it from its neighbours.
fn member_range(text: &str, program: &Node, args: &crate::hosts::tree::Member) -> Range<usize> {
    let end = args.value.range.end;
    // As wrap wrote it: right behind the command.
    let is_next = program.range.end <= args.key_range.start
        && text.get(program.range.end..args.key_range.start).is_some_and(|between| {
            between.bytes().all(|byte| byte.is_ascii_whitespace() || byte == b',' || byte == b'"')
        });
    if is_next {
        return program.range.end..end;
    }
    // Moved by a host that wrote its file anew: the comma in front goes with it, else the one behind.
    let before = text.get(..args.key_range.start).unwrap_or_default().trim_end();
    if before.ends_with(',') {
        return before.len() - 1..end;
    }
    let behind = text.get(end..).unwrap_or_default();
    let comma = behind.len() - behind.trim_start().len();
    if behind[comma..].starts_with(',') {
        args.key_range.start..end + comma + 1
    } else {
        args.key_range.start..end
    }
}

/// The tree without what wrapping changes, to see that nothing else did.
fn blanked(root: &Node, path: &[Step], shape: Shape) -> Node {
    let mut tree = root.clone();
    let mut node = Some(&mut tree);
    for step in path {
        node = node.and_then(|node| match (step, &mut node.value) {
            (Step::Key(key), Value::Map { members, .. }) => {
                members.iter_mut().rev().find(|member| member.key == *key).map(|member| &mut member.value)
            }
            (Step::Index(index), Value::List { items, .. }) => items.get_mut(*index),
            _ => None,
        });
    }
    if let Some(Value::Map { members, .. }) = node.map(|node| &mut node.value) {
        let name = if shape == Shape::CmdAndArgs { "cmd" } else { "command" };
        let nested =
            members.iter_mut().rev().find(|member| member.key == name).map(|member| &mut member.value.value);
        if let Some(Value::Map { members, .. }) = nested {
            members.retain(|member| member.key != "path" && member.key != "args");
        } else {
            members.retain(|member| member.key != name && (shape == Shape::OneList || member.key != "args"));
        }
    }
    tree
}
