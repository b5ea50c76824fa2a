//! `spantap stats --by error`: failures by tool and message.

use memchr::memmem::Finder;
use serde::Serialize;

use crate::query::entry::LogEntry;
use crate::query::event::failure_words;
use crate::query::row::{OperationRow, handle};
use crate::query::scan::Fold;
use crate::query::select::Selection;
use crate::query::totals::GroupMap;
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;

/// Most messages of one tool. Failures with further messages are one group.
const MESSAGES: usize = 1_000;

/// Most characters of a message by which failures are grouped.
const LENGTH: usize = 300;

/// Stands for the messages of a tool that are not counted apart.
pub(crate) const OTHER_MESSAGES: &str = "(other messages)";

/// Counts the selected failures; requests other than tool calls too. The failure of a task counts at its call.
pub(crate) struct ErrorTable<'a> {
    select: &'a Selection,
    words: [Finder<'static>; 2],
    /// By server and tool, then by `tool_name` and message.
    groups: GroupMap<GroupMap<ErrorGroup>>,
}

#[derive(Clone, Debug, Default)]
struct ErrorGroup {
    count: u64,
    denied: u64,
    last: Timestamp,
    handle: String,
}

/// Failures of one tool with one message: the line of `--json`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ErrorRow {
    pub(crate) server_name: String,
    /// Tool, prompt or resource, or the method of a request without one.
    pub(crate) tool_name: String,
    /// First line of the message, with paths, ids and numbers masked.
    pub(crate) message: String,
    pub(crate) count: u64,
    /// Number of them that a person or a policy refused.
    pub(crate) denied: u64,
    pub(crate) last_seen: Timestamp,
    /// Handle of the latest of them.
    pub(crate) last: String,
}

impl ErrorRow {
    /// Returns the message, after how many of the failures were refusals.
    pub(crate) fn text(&self) -> String {
        match self.denied {
            0 => self.message.clone(),
            denied if denied == self.count => format!("denied: {}", self.message),
            denied => format!("{denied} denied: {}", self.message),
        }
    }
}

/// Leaves out the failures that a person or a policy refused, which are not errors.
pub(crate) fn without_denials(mut rows: Vec<ErrorRow>) -> Vec<ErrorRow> {
    rows.iter_mut().for_each(|row| row.count -= std::mem::take(&mut row.denied));
    rows.retain(|row| row.count > 0);
    rows
}

impl<'a> ErrorTable<'a> {
    pub(crate) fn new(select: &'a Selection) -> ErrorTable<'a> {
        let words = [Finder::new("mcp_tool_call"), Finder::new("mcp_request")];
        ErrorTable { select, words, groups: GroupMap::default() }
    }

    /// Returns the groups, the largest first, then the latest.
    pub(crate) fn finish(self) -> Vec<ErrorRow> {
        sorted_rows(self.groups)
    }
}

/// Groups the failures among `rows` in the same way.
pub(crate) fn of_rows<'r>(rows: impl Iterator<Item = &'r OperationRow>) -> Vec<ErrorRow> {
    let mut groups: GroupMap<GroupMap<ErrorGroup>> = GroupMap::default();
    for row in rows.filter(|row| row.status.is_failure() && !row.is_failure_of_task) {
        let group = group_of(groups.at(&row.server_name, row.name()), &masked_message(row));
        group.denied += u64::from(row.status == Status::Denied);
        group.add(1, row.recorded, || row.handle());
    }
    sorted_rows(groups)
}

fn sorted_rows(groups: GroupMap<GroupMap<ErrorGroup>>) -> Vec<ErrorRow> {
    let mut rows = Vec::new();
    for (server, tool, messages) in groups.sorted() {
        for (_, message, group) in messages.sorted() {
            rows.push(ErrorRow {
                server_name: server.to_string(),
                tool_name: tool.to_string(),
                message: message.into(),
                count: group.count,
                denied: group.denied,
                last_seen: group.last,
                last: group.handle,
            });
        }
    }
    rows.sort_by(|a, b| b.count.cmp(&a.count).then(b.last_seen.cmp(&a.last_seen)));
    rows
}

impl Fold for ErrorTable<'_> {
    fn wants(&self, line: &[u8]) -> bool {
        self.words.iter().any(|word| word.find(line).is_some())
    }

    fn take(&mut self, entry: &LogEntry<'_>, _line: &[u8]) {
        let is_counted = entry.status.is_failure() && !entry.is_failure_of_task();
        if !is_counted || !self.select.takes_operation(entry) {
            return;
        }
        let message = masked(message(entry));
        let messages = self.groups.at(&entry.server_name, entry.name());
        let group = group_of(messages, &message);
        group.denied += u64::from(entry.status == Status::Denied);
        group.add(1, entry.timestamp, || handle(&entry.connection_id, entry.seq));
    }

    fn merge(&mut self, other: ErrorTable<'_>) {
        self.groups.merge(other.groups, |messages, other| {
            for (_, message, other) in other.sorted() {
                let group = group_of(messages, &message);
                group.denied += other.denied;
                group.add(other.count, other.last, || other.handle);
            }
        });
    }
}

/// Returns the group of a message; that of all other messages if there are too many.
fn group_of<'m>(messages: &'m mut GroupMap<ErrorGroup>, message: &str) -> &'m mut ErrorGroup {
    let has_room = messages.len() < MESSAGES || messages.contains("", message);
    messages.at("", if has_room { message } else { OTHER_MESSAGES })
}

impl ErrorGroup {
    /// Adds failures, of which `handle` names the latest.
    fn add(&mut self, count: u64, last: Timestamp, handle: impl FnOnce() -> String) {
        self.count += count;
        if (self.handle.is_empty(), last) >= (false, self.last) {
            (self.last, self.handle) = (last, handle());
        }
    }
}

/// Returns the first line of the message of a failure, or its type without one.
pub(crate) fn message<'e>(entry: &'e LogEntry<'_>) -> &'e str {
    first_line(&entry.error_message, &entry.error_type, entry.status)
}

/// Returns the message by which [`ErrorTable`] groups a failure.
pub(crate) fn masked_message(row: &OperationRow) -> String {
    masked(first_line(&row.error_message, &row.error_type, row.status))
}

fn first_line<'t>(message: &'t str, error_type: &'t str, status: Status) -> &'t str {
    let first = message.lines().map(str::trim).find(|line| !line.is_empty());
    first.unwrap_or(if error_type.is_empty() { status.as_str() } else { failure_words(error_type) })
}

/// Returns at most the first 300 characters of a message, with paths as `…`, and ids and numbers as `#`, so that
/// messages that differ in nothing else are equal.
pub(crate) fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let is_inner = |c: char| c.is_alphanumeric() || "/\\._-~%+@:".contains(c);
    let end = text.char_indices().nth(LENGTH).map_or(text.len(), |(at, _)| at);
    let mut rest = &text[..end];
    while let Some(c) = rest.chars().next() {
        // A character that is not printed is in the log as `\u{a}`, which is not a part of a path.
        let escape = rest.find("\\u{").unwrap_or(rest.len());
        if escape == 0 {
            let (code, after) = rest.split_at(rest.find('}').map_or(rest.len(), |end| end + 1));
            masked.push_str(code);
            rest = after;
            continue;
        }
        let length = rest.find(|c| !is_inner(c)).unwrap_or(rest.len()).min(escape);
        let word = rest[..length].trim_end_matches(['.', ':', '-']);
        if word.is_empty() {
            masked.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        rest = &rest[word.len()..];
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        let is_id = word.len() >= 8 && digits > 0 && word.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        if word.len() > 1 && word.contains(['/', '\\']) {
            masked.push('…');
        } else if is_id {
            masked.push('#');
        } else {
            mask_digits(word, &mut masked);
        }
    }
    masked
}

/// Appends `word` with each run of digits as `#`.
fn mask_digits(word: &str, masked: &mut String) {
    for c in word.chars() {
        match c {
            '0'..='9' if masked.ends_with('#') => {}
            '0'..='9' => masked.push('#'),
            c => masked.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_message_counts_in_its_group_also_when_there_is_no_room_for_others() {
        let mut messages = GroupMap::default();
        for n in 0..MESSAGES + 10 {
            group_of(&mut messages, &format!("message {n}")).count += 1;
        }
        group_of(&mut messages, "message 7").count += 1;
        assert_eq!((messages.at("", "message 7").count, messages.at("", "(other messages)").count), (2, 10));
    }

    #[test]
    fn messages_that_differ_in_paths_ids_and_numbers_only_are_equal() {
        for (text, expected) in [
            (
                "ENOENT: no such file or directory, open '/tmp/nope1.txt'",
                "ENOENT: no such file or directory, open '…'",
            ),
            ("MCP error -32602: Input 17 of 4", "MCP error -#: Input # of #"),
            ("run 4bf92f3577b34da6 failed", "run # failed"),
            ("cannot open C:\\data\\a.txt.", "cannot open …."),
            ("GET https://api.example.com/v1/a?id=3: 503", "GET …?id=#: #"),
            ("and/or", "…"),
            (r"line 3\u{a}at /tmp/x\u{1b}[31m", r"line #\u{a}at …\u{1b}[#m"),
            (r"read\u{", r"read\u{"),
            ("- no, nothing.", "- no, nothing."),
            ("", ""),
        ] {
            assert_eq!(masked(text), expected);
        }
    }
}
