//! Turns of a session: each operation is a bar on the time scale of its turn.

use std::collections::BTreeSet;
use std::io::{self, Write};

use crate::present::table::{Terminal, Tone};
use crate::present::{Printable, annotations, format};
use crate::query::row::OperationRow;
use crate::query::turns::{Turn, TurnOperation};
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;

pub fn draw(out: &mut dyn Write, terminal: &Terminal, turns: &[Turn<'_>]) -> io::Result<()> {
    let columns = WaterfallColumns::new(terminal, turns);
    let mut number = 0;
    for turn in turns {
        number += usize::from(turn.is_named);
        let title = if turn.is_named { format!("turn {number}") } else { "outside turns".to_owned() };
        let Some(scale) = TimeScale::new(turn, &columns, terminal) else { continue };
        draw_heading(out, terminal, &columns, &scale, &title, turn.operations.len())?;
        for operation in &turn.operations {
            writeln!(out, "{}", bar_line(terminal, &columns, &scale, operation))?;
        }
    }
    Ok(())
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
struct TimeScale {
    start: i64,
    span_us: f64,
    /// Columns of the longest bar. Notes follow the bars and take the rest of the line.
    width: usize,
}

impl TimeScale {
    fn new(turn: &Turn<'_>, columns: &WaterfallColumns, terminal: &Terminal) -> Option<TimeScale> {
        let rows = || turn.operations.iter().map(|operation| operation.row);
        let start = rows().map(|row| row.started.0).min()?;
        let end = rows().map(|row| row.ended().0).max()?;
        let width = (terminal.width.saturating_sub(columns.bars() + 2) / 2).clamp(4, 72);
        Some(TimeScale { start, span_us: (end - start).max(1) as f64, width })
    }

    fn column(&self, at: Timestamp) -> usize {
        (((at.0 - self.start) as f64 / self.span_us) * self.width as f64) as usize
    }

    /// Returns `0      500 ms      1.00 s` over the columns of the bars, after `before` blanks.
    fn axis(&self, before: usize) -> String {
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
    if heading.width() + axis.len() > terminal.width {
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

    let from = scale.column(row.started).min(scale.width - 1);
    let to = scale.column(row.ended()).clamp(from + 1, scale.width);
    let body = match (terminal.unicode, row.status) {
        (true, Status::Unknown) => "░",
        (true, _) => "█",
        (false, Status::Unknown) => ".",
        (false, _) => "=",
    };
    let end_mark = if row.status.is_failure() { "x" } else { "" };
    let bar = Printable::from(format!("{}{end_mark}", body.repeat(to - from)));
    let bar_tone = if row.status == Status::Ok && tone == Tone::Plain { Tone::Good } else { tone };
    line.extend(std::iter::repeat_n(' ', from));
    line.push_str(&bar_tone.paint(&bar));
    let used = columns.bars() + from + bar.width();
    line + &terminal.note(&note, bar_tone, used, 1, 2 + columns.handle + 2)
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
