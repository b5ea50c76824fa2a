//! `spantap tail`: operations, one line each, as they ended.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io::{self, Write};

use crate::present::annotations;
use crate::present::format;
use crate::present::table::{Terminal, Tone};
use crate::query::entry::Entry;
use crate::query::scan::Fold;
use crate::query::select::Select;
use crate::record::timestamp::Timestamp;

/// Whether `tail` shows this record.
pub fn shows(select: &Select, entry: &Entry<'_>) -> bool {
    if entry.is_operation() {
        return select.takes_operation(entry);
    }
    !select.is_about_operations() && select.takes_place(entry) && annotations::event(entry).is_some()
}

/// Keeps the last lines, by time.
pub struct Last<'a> {
    select: &'a Select,
    count: usize,
    /// The earliest of them on top.
    lines: BinaryHeap<Kept>,
}

impl<'a> Last<'a> {
    pub fn new(select: &'a Select, count: usize) -> Last<'a> {
        Last { select, count, lines: BinaryHeap::new() }
    }

    /// The lines, earliest first.
    pub fn finish(self) -> Vec<Vec<u8>> {
        let mut lines = self.lines.into_vec();
        lines.sort_unstable_by(|a, b| b.cmp(a));
        lines.into_iter().map(|kept| kept.line).collect()
    }

    fn push(&mut self, kept: Kept) {
        self.lines.push(kept);
        if self.lines.len() > self.count {
            self.lines.pop();
        }
    }
}

impl Fold for Last<'_> {
    fn take(&mut self, entry: &Entry<'_>, line: &[u8]) {
        if !shows(self.select, entry) {
            return;
        }
        let at = entry.timestamp.0;
        if self.lines.len() >= self.count && self.lines.peek().is_none_or(|first| at < first.at) {
            return;
        }
        self.push(Kept {
            at,
            connection: (*entry.connection_id).into(),
            seq: entry.seq,
            line: line.to_owned(),
        });
    }

    fn merge(&mut self, other: Last<'_>) {
        other.lines.into_iter().for_each(|kept| self.push(kept));
    }
}

#[derive(PartialEq, Eq)]
struct Kept {
    at: Timestamp,
    connection: Box<str>,
    seq: u64,
    line: Vec<u8>,
}

impl Kept {
    fn key(&self) -> (Timestamp, &str, u64) {
        (self.at, &self.connection, self.seq)
    }
}

/// Reversed: the heap gives away the earliest.
impl Ord for Kept {
    fn cmp(&self, other: &Kept) -> Ordering {
        other.key().cmp(&self.key())
    }
}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Kept) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// From this width on a line has room for the method and the size beside the note.
const ROOMY: usize = 100;

/// Writes lines in columns that only ever widen, since the next line is not known yet.
pub struct Printer {
    terminal: Terminal,
    /// From which repetition on a call is marked.
    warn: u32,
    json: bool,
    server: usize,
    operation: usize,
    day: String,
}

impl Printer {
    pub fn new(terminal: Terminal, warn: u32, json: bool) -> Printer {
        Printer { terminal, warn, json, server: 0, operation: 0, day: String::new() }
    }

    /// Makes room for lines that will be written.
    pub fn prepare(&mut self, lines: &[Vec<u8>]) {
        for entry in lines.iter().filter_map(|line| Entry::parse(line).ok()) {
            self.widen(&entry);
        }
    }

    fn widen(&mut self, entry: &Entry<'_>) {
        let most = |share: usize| self.terminal.width / share;
        let roomy = self.terminal.width >= ROOMY;
        self.server = self.server.max(format::width(&format::clean(&entry.server_name)).min(most(6)));
        if entry.is_operation() {
            self.operation = self.operation.max(format::width(&self.operation(entry)).min(most(if roomy {
                3
            } else {
                4
            })));
        }
    }

    /// `tools/call search_issues`; where there is little room, only what it is about. Clean.
    fn operation(&self, entry: &Entry<'_>) -> String {
        if self.terminal.width < ROOMY {
            return format::clean(entry.name()).into_owned();
        }
        format::clean(format!("{} {}", &*entry.method, entry.target()).trim_end()).into_owned()
    }

    /// Writes one line.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&mut self, out: &mut dyn Write, line: &[u8]) -> io::Result<()> {
        if self.json {
            return writeln!(out, "{}", format::clean_json(&String::from_utf8_lossy(line)));
        }
        let Ok(entry) = Entry::parse(line) else { return Ok(()) };
        self.widen(&entry);
        let local = |format| format::local(entry.timestamp.0, &self.terminal.zone, format);
        let day = local("%Y-%m-%d");
        if day != self.day {
            writeln!(out, "{}", Tone::Faint.paint(&day))?;
            self.day = day;
        }
        let mut row = Row { terminal: &self.terminal, text: String::new(), used: 0 };
        row.left(&local("%H:%M:%S%.3f"), 12, Tone::Faint);
        if self.terminal.width >= 50 {
            row.left(&format::clean(&entry.server_name), self.server, Tone::Plain);
        }
        if entry.is_operation() {
            row.left(&self.operation(&entry), self.operation, Tone::Strong);
            row.right(&entry.duration_ms.map(format::duration).unwrap_or_default(), 8);
            if self.terminal.width >= ROOMY {
                row.right(&entry.result_size_bytes.map(format::bytes).unwrap_or_default(), 7);
            }
            let (note, tone) = annotations::operation(&entry, self.warn);
            row.rest(&note, tone);
        } else if let Some((note, tone)) = annotations::event(&entry) {
            row.rest(&note, tone);
        }
        writeln!(out, "{}", row.text.trim_end())
    }
}

struct Row<'t> {
    terminal: &'t Terminal,
    text: String,
    used: usize,
}

impl Row<'_> {
    fn left(&mut self, text: &str, width: usize, tone: Tone) {
        let text = format::cut(text, width, self.terminal.ellipsis());
        let blanks = width - format::width(&text).min(width) + 2;
        self.text.push_str(&tone.paint(&text));
        self.text.extend(std::iter::repeat_n(' ', blanks));
        self.used += width + 2;
    }

    fn right(&mut self, text: &str, width: usize) {
        let blanks = width.saturating_sub(format::width(text));
        self.text.extend(std::iter::repeat_n(' ', blanks));
        self.text.push_str(text);
        self.text.push_str("  ");
        self.used += blanks + format::width(text) + 2;
    }

    fn rest(&mut self, text: &str, tone: Tone) {
        let room = self.terminal.width.saturating_sub(self.used);
        self.text.push_str(&tone.paint(&format::cut(text, room, self.terminal.ellipsis())));
    }
}
