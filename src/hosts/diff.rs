//! Shows an edit to the user: the lines that differ, with their server. Values that the edit does not touch
//! are hidden, because hosts keep tokens in them.

use std::collections::HashSet;
use std::ops::Range;

use crate::hosts::entry::{EntryNode, EntryParts, entry_nodes};
use crate::hosts::table::Host;
use crate::hosts::tree::{FileFormat, Node, NodeValue};

/// Redacts the texts that a diff shows.
pub(crate) trait DiffRedactor {
    /// Redacts the words of a command line, one for one.
    fn words(&mut self, words: &[&str]) -> Vec<String>;
    /// Redacts a part of a line between the words of a command. Its comments may contain anything.
    fn line(&mut self, line: &str) -> String;
    /// Makes the name of a server printable on one line.
    fn name(&mut self, name: &str) -> String;
}

/// Replaces a value that is not shown.
const HIDDEN: &str = "…";
/// Longest line, in bytes, that is shown whole. Of a longer one only the part around the difference is shown.
const LONG: usize = 240;
/// Begins a line that the text does not have.
const SPLIT: char = '\0';
/// Surrounds a word of a command, which is redacted as a command line. In the line it would be redacted as the value
/// of the word before it.
const WORD: char = '\u{1}';
/// Characters shown of such a line on either side of the difference.
const AROUND: usize = 40;

/// Returns the lines that differ, marked with `-` and `+` as `diff -u` does.
pub(crate) fn diff(
    before: &str,
    after: &str,
    format: FileFormat,
    host: &Host,
    redactor: &mut dyn DiffRedactor,
) -> String {
    let (Ok(root), Ok(changed)) = (Node::parse(before, format), Node::parse(after, format)) else {
        return String::new();
    };
    let (servers, now) = (entry_nodes(&root, host), entry_nodes(&changed, host));
    let breaks = LineBreaks::of(before, &servers);
    let names = changed_servers(&servers, &now, &breaks);
    let old = masked(before, &root, &servers, &breaks.is_split, host, redactor);
    let new = masked(after, &changed, &now, &breaks.is_split, host, redactor);
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let numbers = line_numbers(&old);
    let mut result = String::new();
    let (mut left, mut right) = (0, 0);
    while left < old.len() || right < new.len() {
        if left < old.len() && right < new.len() && old[left] == new[right] {
            (left, right) = (left + 1, right + 1);
            continue;
        }
        let (to_left, to_right) = next_common_line(&old, &new, left, right);
        let here = left..to_left.max(left + 1);
        let is_here = |lines: &Range<usize>| lines.start < here.end && here.start < lines.end;
        let inside: Vec<String> =
            names.iter().filter(|(lines, _)| is_here(lines)).map(|(_, name)| redactor.name(name)).collect();
        let noun = if inside.len() == 1 { "server" } else { "servers" };
        let server =
            if inside.is_empty() { String::new() } else { format!(", {noun} {}", inside.join(", ")) };
        let line = numbers.get(left).map_or(numbers.len() + 1, |line| *line);
        result.push_str(&format!("@@ line {line}{server} @@\n"));
        let (old, new) = (&old[left..to_left], &new[right..to_right]);
        let same_end = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
        let (old, new) = (&old[..old.len() - same_end], &new[..new.len() - same_end]);
        // A token that is cut is not recognised any more, so the cut comes last.
        let [old, new] = [old, new]
            .map(|lines| lines.iter().map(|line| shown(line.trim_start_matches(SPLIT), redactor)).collect());
        let (old, new) = around_difference(old, new);
        for (mark, lines) in [('-', old), ('+', new)] {
            for line in lines {
                result.push(mark);
                result.push_str(&line);
                result.push('\n');
            }
        }
        (left, right) = (to_left, to_right);
    }
    result
}

/// Redacts a line apart from its words, which are redacted already.
fn shown(line: &str, redactor: &mut dyn DiffRedactor) -> String {
    let parts = line.split(WORD).enumerate();
    parts.map(|(at, part)| if at % 2 == 1 { part.to_owned() } else { redactor.line(part) }).collect()
}

/// Returns where the old and the new text have the same line again. Edits are few and short: the nearest common
/// line ends the difference.
fn next_common_line(old: &[&str], new: &[&str], left: usize, right: usize) -> (usize, usize) {
    let reach = (old.len() - left) + (new.len() - right);
    let next = (1..=reach).find_map(|sum| {
        (0..=sum).map(|taken| (left + taken, right + sum - taken)).find(|(l, r)| {
            *l < old.len() && *r < new.len() && old[*l] == new[*r] && !old[*l].trim().is_empty()
        })
    });
    next.unwrap_or((old.len(), new.len()))
}

/// Returns the number in the file of each line, counted from 1.
fn line_numbers(lines: &[&str]) -> Vec<usize> {
    let count = |number: &mut usize, line: &&str| {
        *number += usize::from(!line.starts_with(SPLIT));
        Some(*number)
    };
    lines.iter().scan(0, count).collect()
}

/// Lines of a text. A server on a long line, as of a file that is one line, has a line of its own.
struct LineBreaks {
    /// Where each line begins.
    starts: Vec<usize>,
    /// For each server: true if it has a line of its own.
    is_split: Vec<bool>,
}

impl LineBreaks {
    fn of(text: &str, servers: &[EntryNode<'_>]) -> LineBreaks {
        let mut starts: Vec<usize> = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1).collect();
        let is_long = |at: usize| {
            let line = starts.partition_point(|start| *start <= at);
            let begin = if line == 0 { 0 } else { starts[line - 1] };
            starts.get(line).copied().unwrap_or(text.len()) - begin > LONG
        };
        let is_split: Vec<bool> = servers.iter().map(|server| is_long(server.node.range.start)).collect();
        let split = servers.iter().zip(&is_split).filter(|(_, is_split)| **is_split);
        starts.extend(split.flat_map(|(server, _)| [server.node.range.start, server.node.range.end]));
        starts.sort_unstable();
        LineBreaks { starts, is_split }
    }

    /// Returns the line at an offset, counted from 0.
    fn line(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at)
    }
}

/// Returns the servers whose commands differ, each with its lines in the old text, counted from 0.
fn changed_servers(
    servers: &[EntryNode<'_>],
    now: &[EntryNode<'_>],
    breaks: &LineBreaks,
) -> Vec<(Range<usize>, String)> {
    let changed = servers.iter().zip(now).filter(|(server, now)| !server.node.same_value(now.node));
    changed
        .map(|(server, _)| {
            // The range of a TOML table is its header alone; the ranges of its members give its end.
            let range = &server.node.range;
            let members = server.node.members().iter().map(|member| member.value.range.end);
            let end = members.fold(range.end, usize::max);
            (breaks.line(range.start)..breaks.line(end.saturating_sub(1)) + 1, server.name.clone())
        })
        .collect()
}

/// Returns the text with every value hidden, except the words of servers' commands, which are redacted.
fn masked(
    text: &str,
    root: &Node,
    servers: &[EntryNode<'_>],
    is_split: &[bool],
    host: &Host,
    redactor: &mut dyn DiffRedactor,
) -> String {
    let mut masks: Vec<(Range<usize>, String)> = Vec::new();
    let mut shown: HashSet<Range<usize>> = HashSet::new();
    for (at, entry) in servers.iter().enumerate() {
        if is_split.get(at) == Some(&true) {
            let Range { start, end } = entry.node.range;
            masks.extend([start, end].map(|at| (at..at, format!("\n{SPLIT}"))));
        }
        let Ok(parts) = EntryParts::of(entry.node, host.shape) else { continue };
        let nodes = parts.words();
        let words: Vec<&str> = nodes.iter().filter_map(|node| node.text()).collect();
        for (node, (word, cleaned)) in nodes.iter().zip(words.iter().zip(redactor.words(&words))) {
            shown.insert(node.range.clone());
            let literal = match *word == cleaned {
                true => text.get(node.range.clone()).unwrap_or_default().to_owned(),
                false => crate::hosts::splice::quoted(&cleaned),
            };
            // The lines of a longer literal are redacted as they are.
            if !literal.contains(['\n', '\r', WORD]) {
                masks.push((node.range.clone(), format!("{WORD}{literal}{WORD}")));
            }
        }
    }
    hide(root, text, &shown, &mut masks);
    masks.sort_by_key(|(range, _)| range.start);
    let mut result = String::with_capacity(text.len());
    let mut done = 0;
    for (range, mask) in masks {
        if range.start < done {
            continue;
        }
        result.push_str(&text.get(done..range.start).unwrap_or_default().replace(WORD, HIDDEN));
        result.push_str(&mask);
        // Keep the line numbers.
        let lines = text.get(range.clone()).unwrap_or_default().matches('\n').count();
        result.extend(std::iter::repeat_n('\n', lines));
        done = range.end;
    }
    result.push_str(&text.get(done..).unwrap_or_default().replace(WORD, HIDDEN));
    result
}

fn hide(node: &Node, text: &str, shown: &HashSet<Range<usize>>, masks: &mut Vec<(Range<usize>, String)>) {
    match &node.value {
        NodeValue::Map { members, .. } => {
            members.iter().for_each(|member| hide(&member.value, text, shown, masks));
        }
        NodeValue::List { items, .. } => items.iter().for_each(|item| hide(item, text, shown, masks)),
        _ if shown.contains(&node.range) || node.range.is_empty() => {}
        NodeValue::Text(word) if matches!(word.as_str(), "stdio" | "local" | "custom") => {}
        NodeValue::Text(_) => {
            let is_quoted =
                text.as_bytes().get(node.range.start).is_some_and(|byte| matches!(byte, b'"' | b'\''));
            let mask = if is_quoted { format!("\"{HIDDEN}\"") } else { HIDDEN.to_owned() };
            masks.push((node.range.clone(), mask));
        }
        NodeValue::Other(word) if matches!(word.as_str(), "true" | "false" | "null" | "~") => {}
        NodeValue::Other(_) => masks.push((node.range.clone(), HIDDEN.to_owned())),
    }
}

/// Cuts the common parts of two long lines, as of a file that is one line.
fn around_difference(old: Vec<String>, new: Vec<String>) -> (Vec<String>, Vec<String>) {
    let ([before], [after]) = (old.as_slice(), new.as_slice()) else { return (old, new) };
    if before.len().max(after.len()) <= LONG {
        return (old, new);
    }
    let (before, after): (Vec<char>, Vec<char>) = (before.chars().collect(), after.chars().collect());
    let start = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
    let shorter = before.len().min(after.len()) - start;
    let same = before.iter().rev().zip(after.iter().rev()).take(shorter).take_while(|(a, b)| a == b).count();
    let cut = |line: &[char]| {
        let from = start.saturating_sub(AROUND);
        let to = (line.len() - same + AROUND).min(line.len());
        let lead = if from > 0 { "… " } else { "" };
        let trail = if to < line.len() { " …" } else { "" };
        vec![format!("{lead}{}{trail}", line[from..to].iter().collect::<String>())]
    };
    (cut(&before), cut(&after))
}
