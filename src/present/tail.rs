//! `spantap tail`: one line for each operation, as it ended, and for each notable event. A long message has a
//! second line.

use std::io::{self, Write};

use crate::present::table::{Terminal, Tone};
use crate::present::{Printable, annotations, format};
use crate::query::row::{LogRow, OperationRow};
use crate::record::live::LiveRequest;
use crate::record::timestamp::Timestamp;

/// From this width on a line has room for method, size and milliseconds beside the note.
const ROOMY: usize = 100;
/// Below this width a line has no room for the server and the seconds.
const NARROW: usize = 50;
/// Below this width a line has no room for the handle.
const LEAST: usize = 40;

/// Writes lines in columns that only ever widen, since the next line is not known yet.
pub struct RowPrinter {
    terminal: Terminal,
    /// Widths of the first columns.
    handle: usize,
    server: usize,
    operation: usize,
    day: String,
    /// Parts of a narrow line of which server and operation take one each.
    parts: [usize; 2],
}

impl RowPrinter {
    pub fn new(terminal: Terminal) -> RowPrinter {
        RowPrinter { terminal, handle: 0, server: 0, operation: 0, day: String::new(), parts: [6, 4] }
    }

    /// Returns a printer for [`line`](RowPrinter::line), which leaves the message more room.
    pub(crate) fn of_single_lines(terminal: Terminal) -> RowPrinter {
        RowPrinter { parts: [8, 5], ..RowPrinter::new(terminal) }
    }

    /// Widens the columns for a row that will be written.
    pub(crate) fn prepare(&mut self, row: &LogRow) {
        match row {
            LogRow::Operation(row) => {
                self.handle = self.handle.max(Printable::from(row.handle()).width());
                self.widen(&row.server_name);
                let parts = if self.terminal.width < ROOMY { self.parts[1] } else { 3 };
                let width = self.operation(row).width().min(self.terminal.share(parts));
                self.operation = self.operation.max(width);
            }
            LogRow::Event(row) => self.widen(&row.server_name),
            LogRow::Json(_) => {}
        }
    }

    fn widen(&mut self, server: &str) {
        self.server = self.server.max(Printable::new(server).width().min(self.terminal.share(self.parts[0])));
    }

    /// Returns `tools/call search_issues`; where there is little room, only the target.
    fn operation(&self, row: &OperationRow) -> Printable {
        if self.terminal.width < ROOMY {
            return Printable::new(row.name());
        }
        Printable::new(format!("{} {}", row.method, row.target).trim_end())
    }

    pub fn write(&mut self, out: &mut dyn Write, row: &LogRow) -> io::Result<()> {
        self.prepare(row);
        match row {
            LogRow::Operation(row) => {
                self.write_day(out, row.recorded)?;
                let (line, note, tone) = self.operation_line(row);
                writeln!(out, "{}", line.end(&note, tone))
            }
            LogRow::Event(row) => {
                self.write_day(out, row.at)?;
                let line = self.start_line("", row.at, &row.server_name);
                writeln!(out, "{}", line.end(&Printable::new(&row.text), row.severity.into()))
            }
            LogRow::Json(line) => writeln!(out, "{}", Printable::json(&String::from_utf8_lossy(line))),
        }
    }

    /// Returns a row as one line, whose message is cut.
    pub(crate) fn line(&mut self, row: &LogRow) -> String {
        self.prepare(row);
        match row {
            LogRow::Operation(row) => {
                let (line, note, tone) = self.operation_line(row);
                line.end_cut(&note, tone)
            }
            LogRow::Event(row) => {
                let line = self.start_line("", row.at, &row.server_name);
                line.end_cut(&Printable::new(&row.text), row.severity.into())
            }
            LogRow::Json(line) => Printable::json(&String::from_utf8_lossy(line)).to_string(),
        }
    }

    /// Writes the day of the next line, unless the line before has the same.
    fn write_day(&mut self, out: &mut dyn Write, at: Timestamp) -> io::Result<()> {
        let day = at.local(&self.terminal.zone, "%Y-%m-%d");
        if day != self.day {
            writeln!(out, "{}", Tone::Faint.paint(&*day))?;
            self.day = day;
        }
        Ok(())
    }

    /// Returns the line without its note, and the note.
    fn operation_line(&self, row: &OperationRow) -> (LineBuilder<'_>, Printable, Tone) {
        let mut line = self.start_line(&row.handle(), row.recorded, &row.server_name);
        line.left(self.operation(row), self.operation, Tone::Strong);
        line.right(&row.duration_ms.map(format::duration).unwrap_or_default(), 8);
        if self.terminal.width >= ROOMY {
            line.right(&row.result_size_bytes.map(format::bytes).unwrap_or_default(), 7);
        }
        let (note, tone) = annotations::operation(row, self.terminal.warn);
        (line, note, tone)
    }

    /// Returns the line of the requests that are open now, each with its server, in the order given; empty without
    /// requests. `round` turns the mark before it.
    pub(crate) fn open_line(&self, open: &[(&str, &LiveRequest)], now: Timestamp, round: usize) -> Printable {
        let marks: Vec<char> = if self.terminal.unicode { "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" } else { "|/-\\" }.chars().collect();
        let request = |(server, request): &(&str, &LiveRequest)| {
            let open = format::duration(request.started_at.ms_until(now));
            let asked = if request.is_from_server { ", asked by the server" } else { "" };
            format!("{server}  {}  {open}{asked}", request.name())
        };
        let requests: Vec<String> = open.iter().map(request).collect();
        if requests.is_empty() {
            return Printable::default();
        }
        let line = format!("{} {}", marks[round % marks.len()], requests.join("   "));
        self.terminal.cut(line, self.terminal.width.saturating_sub(1))
    }

    /// Begins a line with handle, time and server.
    fn start_line(&self, handle: &str, at: Timestamp, server: &str) -> LineBuilder<'_> {
        let mut line = LineBuilder { terminal: &self.terminal, text: String::new(), used: 0 };
        if self.handle > 0 && self.terminal.width >= LEAST {
            line.left(handle, self.handle, Tone::Faint);
        }
        let clock = match self.terminal.width {
            0..NARROW => "%H:%M",
            NARROW..ROOMY => "%H:%M:%S",
            _ => "%H:%M:%S%.3f",
        };
        let time = at.local(&self.terminal.zone, clock);
        let width = time.len();
        line.left(time, width, Tone::Faint);
        if self.terminal.width >= NARROW {
            line.left(server, self.server, Tone::Plain);
        }
        line
    }
}

struct LineBuilder<'t> {
    terminal: &'t Terminal,
    text: String,
    used: usize,
}

impl LineBuilder<'_> {
    fn left(&mut self, text: impl Into<Printable>, width: usize, tone: Tone) {
        let text = self.terminal.cut(text, width);
        let blanks = width - text.width().min(width) + 2;
        self.text.push_str(&tone.paint(text));
        self.text.extend(std::iter::repeat_n(' ', blanks));
        self.used += width + 2;
    }

    /// Adds a number with its unit.
    fn right(&mut self, text: &str, width: usize) {
        self.text.push_str(&format!("{text:>width$}  "));
        self.used += text.len().max(width) + 2;
    }

    /// Ends the line with a note. No line ends in blanks.
    fn end(self, note: &Printable, tone: Tone) -> String {
        let note = self.terminal.note(note, tone, self.used, 0, 2);
        match note.starts_with('\n') || note.is_empty() {
            true => format!("{}{note}", self.text.trim_end()),
            false => self.text + &note,
        }
    }

    /// Ends the line with as much of a note as fits.
    fn end_cut(self, note: &Printable, tone: Tone) -> String {
        let note = self.terminal.cut(note, self.terminal.width.saturating_sub(self.used));
        match note.is_empty() {
            true => self.text.trim_end().to_owned(),
            false => self.text + &tone.paint(note),
        }
    }
}
