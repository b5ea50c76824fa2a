//! Shows an edit to the user: the lines that differ, with their server. Values that the edit does not touch
//! are hidden, because hosts keep tokens in them.

use std::ops::Range;

use crate::hosts::entry::{EntryParts, entries, node_at};
use crate::hosts::table::Host;
use crate::hosts::tree::{FileFormat, Node, NodeValue};

/// Redacts the texts that a diff shows.
pub(crate) trait DiffRedactor {
    /// Redacts the words of a command line, one for one.
    fn words(&mut self, words: &[&str]) -> Vec<String>;
    /// Redacts a line of the file. Its comments may contain anything.
    fn line(&mut self, line: &str) -> String;
    /// Makes the name of a server printable on one line.
    fn name(&mut self, name: &str) -> String;
}

/// Replaces a value that is not shown.
const HIDDEN: &str = "…";
/// Longest line, in bytes, that is shown whole. Of a longer one only the part around the difference is shown.
const LONG: usize = 240;
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
    let names = changed_servers(before, after, format, host);
    let (old, new) = (masked(before, format, host, redactor), masked(after, format, host, redactor));
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let mut result = String::new();
    let (mut left, mut right) = (0, 0);
    while left < old.len() || right < new.len() {
        if left < old.len() && right < new.len() && old[left] == new[right] {
            (left, right) = (left + 1, right + 1);
            continue;
        }
        // Edits are few and short: the nearest common line ends the difference.
        let reach = (old.len() - left) + (new.len() - right);
        let next = (1..=reach).find_map(|sum| {
            (0..=sum).map(|taken| (left + taken, right + sum - taken)).find(|(l, r)| {
                *l < old.len() && *r < new.len() && old[*l] == new[*r] && !old[*l].trim().is_empty()
            })
        });
        let (to_left, to_right) = next.unwrap_or((old.len(), new.len()));
        let here = left..to_left.max(left + 1);
        let is_here = |lines: &Range<usize>| lines.start < here.end && here.start < lines.end;
        let inside: Vec<String> =
            names.iter().filter(|(lines, _)| is_here(lines)).map(|(_, name)| redactor.name(name)).collect();
        let noun = if inside.len() == 1 { "server" } else { "servers" };
        let server =
            if inside.is_empty() { String::new() } else { format!(", {noun} {}", inside.join(", ")) };
        result.push_str(&format!("@@ line {}{server} @@\n", left + 1));
        let (old, new) = (&old[left..to_left], &new[right..to_right]);
        let same_end = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
        let (old, new) = (&old[..old.len() - same_end], &new[..new.len() - same_end]);
        // A token that is cut is not recognised any more, so the cut comes last.
        let [old, new] = [old, new].map(|lines| lines.iter().map(|line| redactor.line(line)).collect());
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

/// Returns the servers whose commands differ, each with its lines in `before`, counted from 0.
fn changed_servers(
    before: &str,
    after: &str,
    format: FileFormat,
    host: &Host,
) -> Vec<(Range<usize>, String)> {
    let (Ok(root), Ok(changed)) = (Node::parse(before, format), Node::parse(after, format)) else {
        return Vec::new();
    };
    let line = |at: usize| crate::text::line_of(before, at) - 1;
    entries(&root, host)
        .into_iter()
        .filter_map(|entry| {
            let node = node_at(&root, &entry.path)?;
            if node_at(&changed, &entry.path).is_some_and(|now| now.same_value(node)) {
                return None;
            }
            // The range of a TOML table is its header alone; the ranges of its members give its end.
            let members = node.members().iter().map(|member| member.value.range.end);
            let end = members.chain([node.range.end]).max()?;
            Some((line(node.range.start)..line(end) + 1, entry.name))
        })
        .collect()
}

/// Returns the text with every value hidden, except the words of servers' commands, which are redacted.
fn masked(text: &str, format: FileFormat, host: &Host, redactor: &mut dyn DiffRedactor) -> String {
    let Ok(root) = Node::parse(text, format) else { return String::new() };
    let mut masks: Vec<(Range<usize>, String)> = Vec::new();
    let mut shown: Vec<Range<usize>> = Vec::new();
    for entry in entries(&root, host) {
        let Some(node) = node_at(&root, &entry.path) else { continue };
        let Ok(parts) = EntryParts::of(node, host.shape) else { continue };
        let nodes = parts.words();
        let words: Vec<&str> = nodes.iter().filter_map(|node| node.text()).collect();
        for (node, (word, cleaned)) in nodes.iter().zip(words.iter().zip(redactor.words(&words))) {
            shown.push(node.range.clone());
            if *word != cleaned {
                masks.push((node.range.clone(), crate::hosts::splice::quoted(&cleaned)));
            }
        }
    }
    hide(&root, text, &shown, &mut masks);
    masks.sort_by_key(|(range, _)| range.start);
    let mut result = String::with_capacity(text.len());
    let mut done = 0;
    for (range, mask) in masks {
        if range.start < done {
            continue;
        }
        result.push_str(text.get(done..range.start).unwrap_or_default());
        result.push_str(&mask);
        // Keep the line numbers.
        let lines = text.get(range.clone()).unwrap_or_default().matches('\n').count();
        result.extend(std::iter::repeat_n('\n', lines));
        done = range.end;
    }
    result.push_str(text.get(done..).unwrap_or_default());
    result
}

fn hide(node: &Node, text: &str, shown: &[Range<usize>], masks: &mut Vec<(Range<usize>, String)>) {
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
