//! Turns of a session: each operation is a bar on the time scale of its turn.

use std::collections::BTreeSet;
use std::io::{self, Write};

use crate::present::table::{Terminal, Tone};
use crate::present::{Printable, annotations, format};
use crate::query::row::OperationRow;
use crate::query::time_spent::{TimeSpent, starting_rows};
use crate::query::turns::{Turn, TurnOperation, turns};
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;

/// How much of a session is drawn.
#[derive(Clone, Copy, Debug)]
pub struct DrawnPart {
    /// Number of operations that are drawn; later failures are drawn in addition.
    pub first: usize,
    /// True if the start of servers is drawn as one line.
    pub folds_start: bool,
    /// True if a record of an agent is drawn only above a selected operation.
    pub only_operations: bool,
    /// True if every call of the session was read.
    pub is_whole: bool,
}

impl DrawnPart {
    /// Returns the number of `rows`, sorted by time, that are drawn, and of later failures.
    pub(crate) fn counts(self, rows: &[&OperationRow]) -> (u64, u64) {
        let shown = rows.len().min(self.first);
        (shown as u64, rows[shown..].iter().filter(|row| row.status.is_failure()).count() as u64)
    }
}

/// Draws `rows`, sorted by time: the start of servers, and each turn on a time scale of its own.
pub fn draw(
    out: &mut dyn Write,
    terminal: &Terminal,
    rows: &[&OperationRow],
    part: DrawnPart,
) -> io::Result<()> {
    let is_start = starting_rows(rows);
    let is_folded =
        |(row, is_start): &(&OperationRow, bool)| part.folds_start && *is_start && row.status == Status::Ok;
    let (starts, others): (Vec<_>, Vec<_>) = rows.iter().copied().zip(is_start).partition(is_folded);
    draw_start(out, terminal, &starts.into_iter().map(|(row, _)| row).collect::<Vec<_>>())?;
    let turns = turns(&others.into_iter().map(|(row, _)| row).collect::<Vec<_>>());
    let columns = WaterfallColumns::new(terminal, &turns);
    let time = TimeSpent::new(rows, &[], Timestamp::default());
    let until = rows.get(part.first).map(|row| row.order());
    let is_shown =
        |row: &OperationRow| row.status.is_failure() || until.is_none_or(|until| row.order() < until);
    let mut number = 0;
    for turn in &turns {
        number += usize::from(turn.is_named);
        let title = if turn.is_named { format!("turn {number}") } else { "outside turns".to_owned() };
        let Some(scale) = TimeScale::new(turn, &columns, terminal) else { continue };
        let mut is_first = true;
        for operation in turn.operations.iter().filter(|operation| is_shown(operation.row)) {
            draw_silence(out, terminal, &time, operation.row.started)?;
            if is_first {
                draw_heading(out, terminal, &columns, &scale, &title, turn.operations.len())?;
                is_first = false;
            }
            writeln!(out, "{}", bar_line(terminal, &columns, &scale, operation))?;
        }
    }
    Ok(())
}

/// Draws the start of servers, whose operations are `rows`, as one line.
pub(super) fn draw_start(out: &mut dyn Write, terminal: &Terminal, rows: &[&OperationRow]) -> io::Result<()> {
    let time = TimeSpent::new(rows, &[], Timestamp::default());
    let Some(slowest) = time.starts.first() else { return Ok(()) };
    let at = time.first.local(&terminal.zone, "%H:%M:%S");
    let took = format::duration(time.starting_ms);
    let (what, more) = match time.starts.len() {
        1 => (slowest.server_name.to_string(), String::new()),
        servers => {
            let slow = format!(", slowest {} {}", slowest.server_name, format::duration(slowest.ms));
            (format::plural(servers as u64, "server"), slow)
        }
    };
    let head = Printable::from(format!("start of {what}  {at}  {took}{more}"));
    let hint = Printable::new("  --all lists it");
    let hint = if head.width() + hint.width() <= terminal.width { hint } else { Printable::default() };
    writeln!(out, "{}{}", Tone::Strong.paint(terminal.cut(head, terminal.width)), Tone::Faint.paint(hint))
}

/// Draws a line for the time before `at` in which nothing was asked, if it was long.
fn draw_silence(out: &mut dyn Write, terminal: &Terminal, time: &TimeSpent, at: Timestamp) -> io::Result<()> {
    const LONG_MS: f64 = 1_000.0;
    let Some(silence) = time.silence_before(at).filter(|silence| silence.ms() >= LONG_MS) else {
        return Ok(());
    };
    let dots = if terminal.unicode { "…" } else { "..." };
    let line = format!("  {dots} {} nothing asked", format::duration(silence.ms()));
    writeln!(out, "{}", Tone::Faint.paint(terminal.cut(line, terminal.width)))
}

/// Widths of the columns before the bars.
struct WaterfallColumns {
    handle: usize,
    /// 0 if all operations are of one server, or the line is too narrow.
    server: usize,
    name: usize,
}

impl WaterfallColumns {
    fn new(terminal: &Terminal, turns: &[Turn<'_>]) -> WaterfallColumns {
        let rows = || turns.iter().flat_map(|turn| &turn.operations).map(|operation| operation.row);
        let widest = |text: fn(&OperationRow) -> &str, share: usize| {
            let width = rows().map(|row| Printable::new(text(row)).width()).max().unwrap_or(0);
            width.min(terminal.share(share))
        };
        let servers = rows().map(|row| &row.server_name).collect::<BTreeSet<_>>().len();
        WaterfallColumns {
            handle: rows().map(|row| Printable::from(row.handle()).width()).max().unwrap_or(0),
            server: if servers > 1 && terminal.width >= 50 { widest(|row| &row.server_name, 8) } else { 0 },
            name: widest(|row| row.name(), if terminal.width < 60 { 5 } else { 4 }),
        }
    }

    /// Returns the column at which bars begin: after indent, handle, server, name, duration.
    fn bars(&self) -> usize {
        let server = if self.server > 0 { self.server + 1 } else { 0 };
        2 + self.handle + 2 + server + self.name + 1 + 8 + 2
    }
}

/// The time of one turn on the columns of its bars.
pub(super) struct TimeScale {
    start: i64,
    span_us: f64,
    /// Columns of the longest bar.
    width: usize,
}

impl TimeScale {
    fn new(turn: &Turn<'_>, columns: &WaterfallColumns, terminal: &Terminal) -> Option<TimeScale> {
        let rows = || turn.operations.iter().map(|operation| operation.row);
        let start = rows().map(|row| row.started).min()?;
        let end = rows().map(|row| row.ended()).max()?;
        Some(TimeScale::of_span(start, end, columns.bars(), terminal))
    }

    /// Returns the scale of a time whose bars begin at column `bars`.
    pub(super) fn of_span(start: Timestamp, end: Timestamp, bars: usize, terminal: &Terminal) -> TimeScale {
        // One column is left for the mark of a failure.
        let room = if terminal.is_unlimited() { 72 } else { terminal.width.saturating_sub(bars + 1) };
        TimeScale { start: start.0, span_us: (end.0 - start.0).max(1) as f64, width: room.max(4) }
    }

    /// Returns the column at which the bar of a time begins, and the bar: exact to an eighth of a column.
    pub(super) fn bar(
        &self,
        unicode: bool,
        started: Timestamp,
        ended: Timestamp,
        status: Status,
    ) -> (usize, Printable) {
        const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        let columns = |us: i64| us as f64 / self.span_us * self.width as f64;
        let length = columns(ended.0 - started.0).clamp(0.0, self.width as f64);
        let eighths = ((length * 8.0).round() as usize).max(1);
        let cells = eighths.div_ceil(8);
        let bar = match (unicode, status) {
            (true, Status::Unknown) => "░".repeat(cells),
            (true, _) => "█".repeat(eighths / 8) + EIGHTHS[eighths % 8],
            (false, Status::Unknown) => ".".repeat(cells),
            (false, _) => "=".repeat(cells),
        };
        let mark = if status.is_failure() { "x" } else { "" };
        let from = columns(started.0 - self.start) as usize;
        (from.min(self.width - cells), Printable::from(bar + mark))
    }

    /// Returns `0      500 ms      1.00 s` over the columns of the bars, after `before` blanks.
    pub(super) fn axis(&self, before: usize) -> String {
        let half = format::duration(self.span_us / 2000.0);
        let full = format::duration(self.span_us / 1000.0);
        let mut axis = " ".repeat(before.max(2));
        axis.push('0');
        let middle = (self.width / 2).saturating_sub(1 + half.len() / 2);
        if middle + half.len() + full.len() + 4 <= self.width {
            axis.push_str(&" ".repeat(middle));
            axis.push_str(&half);
            axis.push_str(&" ".repeat(self.width.saturating_sub(1 + middle + half.len() + full.len())));
        } else {
            axis.push_str(&" ".repeat(self.width.saturating_sub(1 + full.len())));
        }
        axis.push_str(&full);
        axis
    }
}

fn draw_heading(
    out: &mut dyn Write,
    terminal: &Terminal,
    columns: &WaterfallColumns,
    scale: &TimeScale,
    title: &str,
    operations: usize,
) -> io::Result<()> {
    let at = Timestamp(scale.start).local(&terminal.zone, "%H:%M:%S");
    let heading =
        Printable::from(format!("{title}  {at}  {}", format::plural(operations as u64, "operation")));
    let mut axis = scale.axis(columns.bars().saturating_sub(heading.width()));
    if heading.width() + axis.len() > terminal.width || scale.width < 12 {
        axis.clear();
    }
    writeln!(out, "{}{}", Tone::Strong.paint(heading), Tone::Faint.paint(axis))
}

fn bar_line(
    terminal: &Terminal,
    columns: &WaterfallColumns,
    scale: &TimeScale,
    operation: &TurnOperation<'_>,
) -> String {
    let row = operation.row;
    let (note, tone) = note(operation, terminal.warn);
    let handle = Printable::from(row.handle());
    let mut line = format!("  {}", Tone::Faint.paint(&handle));
    line.extend(std::iter::repeat_n(' ', columns.handle - handle.width() + 2));
    if columns.server > 0 {
        pad(&mut line, &terminal.cut(&*row.server_name, columns.server), columns.server + 1);
    }
    pad(&mut line, &terminal.cut(row.name(), columns.name), columns.name + 1);
    line.push_str(&format!("{:>8}  ", format::duration(row.length_ms())));

    let bar = scale.bar(terminal.unicode, row.started, row.ended(), row.status);
    let tone = if row.status == Status::Ok && tone == Tone::Plain { Tone::Good } else { tone };
    bar_and_note(terminal, line, columns.bars(), bar, (&note, tone), 2 + columns.handle + 2)
}

/// Adds a bar and a note to a line of `bars` columns. A note on a line of its own begins after `indent` blanks.
pub(super) fn bar_and_note(
    terminal: &Terminal,
    mut line: String,
    bars: usize,
    (from, bar): (usize, Printable),
    (note, tone): (&Printable, Tone),
    indent: usize,
) -> String {
    let used = bars + from + bar.width();
    // A note that does not fit behind the bar fits before it, or has a line of its own.
    if note.width() + 1 > terminal.width.saturating_sub(used) && !note.is_empty() && note.width() < from {
        let blanks = from - note.width() - 1;
        return format!("{line}{:blanks$}{} {}", "", tone.paint(note), tone.paint(&bar));
    }
    line.extend(std::iter::repeat_n(' ', from));
    line.push_str(&tone.paint(&bar));
    line + &terminal.note(note, tone, used, 1, indent)
}

fn note(operation: &TurnOperation<'_>, warn: u32) -> (Printable, Tone) {
    let (note, tone) = annotations::operation(operation.row, warn);
    let Some(p95) = operation.exceeded_p95_ms else { return (note, tone) };
    let separator = if note.is_empty() { "" } else { ", " };
    let note = format!("{note}{separator}slow (p95 {})", format::duration(p95));
    (note.into(), if tone == Tone::Plain { Tone::Warning } else { tone })
}

fn pad(line: &mut String, text: &Printable, width: usize) {
    line.push_str(text);
    line.extend(std::iter::repeat_n(' ', width.saturating_sub(text.width())));
}
