//! Tables that fit the terminal: long texts are cut and columns are dropped; no line is wrapped. Output that does
//! not go to a terminal is complete.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use crate::present::Printable;
use crate::present::trace_link::TraceLink;

#[derive(Clone, Debug)]
pub struct Terminal {
    /// Columns of a line; [`UNLIMITED`](Terminal::UNLIMITED) if nothing is cut.
    pub width: usize,
    pub unicode: bool,
    pub zone: jiff::tz::TimeZone,
    /// Number of identical calls from which on a call is marked.
    pub warn: u32,
    pub trace_link: Option<TraceLink>,
}

impl Terminal {
    /// The width of a pipe or file.
    pub const UNLIMITED: usize = usize::MAX / 4;

    pub(crate) fn is_unlimited(&self) -> bool {
        self.width == Self::UNLIMITED
    }

    /// Returns the share `1 / parts` of a line. Unlimited lines give a column at most 60, so that one long text
    /// does not move the columns of all rows.
    pub(crate) fn share(&self, parts: usize) -> usize {
        if self.is_unlimited() { 60 } else { self.width / parts }
    }

    fn ellipsis(&self) -> &'static str {
        if self.unicode { "…" } else { "..." }
    }

    pub(crate) fn dash(&self) -> &'static str {
        if self.unicode { "–" } else { "-" }
    }

    /// Cuts a text to `columns`. Unlimited lines keep it whole.
    pub(crate) fn cut(&self, text: impl Into<Printable>, columns: usize) -> Printable {
        match self.is_unlimited() {
            true => text.into(),
            false => text.into().cut(columns, self.ellipsis()),
        }
    }

    /// Returns a note that follows a line of which `used` columns are taken: after a gap of `gap` blanks if it
    /// fits, else on the next line after `indent` blanks. A text is worth more than the columns before it.
    pub(crate) fn note(
        &self,
        note: &Printable,
        tone: Tone,
        used: usize,
        gap: usize,
        indent: usize,
    ) -> String {
        if note.is_empty() {
            String::new()
        } else if self.width.saturating_sub(used + gap) >= note.width() {
            format!("{:gap$}{}", "", tone.paint(note))
        } else {
            format!("\n{:indent$}{}", "", tone.paint(self.cut(note, self.width.saturating_sub(indent))))
        }
    }

    /// Returns a text that is broken between words only. The lines after the first begin with `indent` blanks, and
    /// `used` columns of the first line are taken.
    pub(crate) fn paragraph(&self, text: &Printable, used: usize, indent: usize) -> String {
        let lines = self.broken(text, used, indent);
        lines.iter().map(|line| &**line).collect::<Vec<&str>>().join("\n")
    }

    /// Returns the lines of [`paragraph`](Terminal::paragraph).
    pub(crate) fn broken(&self, text: &Printable, used: usize, indent: usize) -> Vec<Printable> {
        let mut lines = Vec::new();
        let (mut line, mut column) = (String::new(), used);
        for (at, word) in text.split_inclusive(' ').enumerate() {
            let width = Printable::new(word.trim_end_matches(' ')).width();
            if at > 0 && column + width > self.width && !line.trim().is_empty() {
                lines.push(Printable::new(line.trim_end_matches(' ')));
                line = " ".repeat(indent);
                column = indent;
            }
            line.push_str(word);
            column += Printable::new(word).width();
        }
        lines.push(Printable::from(line));
        lines
    }

    /// Returns the lines of a paragraph, in which a word that is longer than a line is broken, too.
    pub(crate) fn folded(&self, text: &Printable, indent: usize) -> Vec<Printable> {
        let mut lines = Vec::new();
        for line in self.broken(text, 0, indent) {
            let (mut part, mut column) = (String::new(), 0);
            for c in line.chars() {
                let width = Printable::new(c.encode_utf8(&mut [0; 4])).width();
                if column + width > self.width && column > indent {
                    lines.push(Printable::from(std::mem::replace(&mut part, " ".repeat(indent))));
                    column = indent;
                }
                part.push(c);
                column += width;
            }
            lines.push(Printable::from(part));
        }
        lines
    }

    /// Puts facts side by side, as many on a line as fit.
    pub(crate) fn lines(&self, facts: &[Printable], separator: &str) -> Vec<Printable> {
        Printable::lines(facts, separator, self.width, self.ellipsis())
    }
}

/// The meaning of a text; its colour only repeats the words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    #[default]
    Plain,
    Strong,
    Faint,
    Good,
    Warning,
    Bad,
}

impl Tone {
    fn style(self) -> Style {
        let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
        match self {
            Tone::Plain => Style::new(),
            Tone::Strong => Style::new().bold(),
            Tone::Faint => Style::new().dimmed(),
            Tone::Good => colour(AnsiColor::Green),
            Tone::Warning => colour(AnsiColor::Yellow),
            Tone::Bad => colour(AnsiColor::Red),
        }
    }

    /// Returns `text` in this tone. Plain text has no escape sequences.
    pub(crate) fn paint(self, text: impl Into<Printable>) -> String {
        let text = text.into();
        match self {
            Tone::Plain => text.to_string(),
            _ if text.is_empty() => String::new(),
            tone => format!("{}{text}{}", tone.style(), tone.style().render_reset()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// One column. If the line is too narrow, the column with the highest `drop` is left out first; a column with 0
/// stays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) align: Align,
    pub(crate) drop: u8,
    /// True if its texts may be cut when no column is left to drop.
    pub(crate) cut: bool,
}

impl Column {
    pub(crate) const fn left(title: &'static str, drop: u8) -> Column {
        Column { title, align: Align::Left, drop, cut: true }
    }

    pub(crate) const fn right(title: &'static str, drop: u8) -> Column {
        Column { title, align: Align::Right, drop, cut: false }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    pub(crate) text: Printable,
    pub(crate) tone: Tone,
}

impl Cell {
    pub(crate) fn toned(text: impl Into<Printable>, tone: Tone) -> Cell {
        Cell { text: text.into(), tone }
    }
}

impl<T: Into<Printable>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell { text: text.into(), tone: Tone::Plain }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

/// Blanks between two columns.
const GAP: usize = 2;
/// Texts are cut to this share of the line before a column is dropped.
const LONG_SHARE: usize = 5;
/// A column is not cut below this.
const LEAST: usize = 6;

impl Table {
    /// Writes the rows so that no line is wider than the terminal. A column without text is left out.
    pub(crate) fn write(&self, out: &mut dyn Write, terminal: &Terminal) -> io::Result<()> {
        let widths = self.fit(terminal);
        let titles: Vec<Cell> =
            self.columns.iter().map(|column| Cell::toned(column.title, Tone::Faint)).collect();
        self.write_row(out, &titles, &widths, terminal)?;
        for row in &self.rows {
            self.write_row(out, row, &widths, terminal)?;
        }
        Ok(())
    }

    /// Makes a column the last one: a long text in it then moves no other column.
    pub(crate) fn move_to_end(&mut self, title: &str) {
        if let Some(at) = self.columns.iter().position(|column| column.title == title) {
            self.columns[at..].rotate_left(1);
            self.rows.iter_mut().for_each(|row| row[at..].rotate_left(1));
        }
    }

    /// Returns the width of each column, `None` for a column that is not shown.
    fn fit(&self, terminal: &Terminal) -> Vec<Option<usize>> {
        let room = terminal.width;
        let mut widths: Vec<Option<usize>> = (0..self.columns.len())
            .map(|index| {
                let widest = self.rows.iter().filter_map(|row| row.get(index));
                let widest = widest.map(|cell| cell.text.width()).max().unwrap_or(0).min(terminal.share(1));
                (widest > 0).then_some(widest.max(self.columns[index].title.len()))
            })
            .collect();
        let total = |widths: &[Option<usize>]| {
            widths.iter().flatten().map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
        };
        let wanted = widths.clone();
        if total(&widths) > room {
            // A long name in one row must not push the numbers of all rows out.
            let long = (room / LONG_SHARE).max(LEAST);
            for (width, column) in widths.iter_mut().zip(&self.columns) {
                *width = width.map(|width| if column.cut { width.min(long) } else { width });
            }
        }
        while total(&widths) > room {
            let shown = |index: &usize| widths[*index].is_some();
            let droppable = (0..self.columns.len())
                .filter(shown)
                .filter(|index| self.columns[*index].drop > 0)
                .max_by_key(|index| self.columns[*index].drop);
            if let Some(index) = droppable {
                widths[index] = None;
                continue;
            }
            let widest = |may_cut: &dyn Fn(&Column) -> bool, least: usize| {
                let columns = (0..self.columns.len()).filter(|index| may_cut(&self.columns[*index]));
                let wide = columns.filter(|index| widths[*index].is_some_and(|width| width > least));
                wide.max_by_key(|index| widths[*index]).map(|index| (index, least))
            };
            // A terminal would break a line that is too long within a word.
            let left = |column: &Column| matches!(column.align, Align::Left);
            let cut = widest(&|column| column.cut, LEAST).or_else(|| widest(&left, room / LONG_SHARE));
            let Some((index, least)) = cut else { break };
            let excess = total(&widths) - room;
            widths[index] = widths[index].map(|width| width.saturating_sub(excess).max(least));
        }
        // The room of the dropped columns goes to the columns that were cut most.
        while total(&widths) < room {
            let lacks =
                |index: usize| wanted[index].zip(widths[index]).map_or(0, |(wanted, width)| wanted - width);
            let Some(index) =
                (0..widths.len()).filter(|index| lacks(*index) > 0).max_by_key(|index| lacks(*index))
            else {
                break;
            };
            widths[index] = widths[index].map(|width| width + 1);
        }
        widths
    }

    fn write_row(
        &self,
        out: &mut dyn Write,
        row: &[Cell],
        widths: &[Option<usize>],
        terminal: &Terminal,
    ) -> io::Result<()> {
        let mut line = String::new();
        let mut column_start = 0;
        let mut used = 0;
        for ((column, cell), width) in self.columns.iter().zip(row).zip(widths) {
            let Some(width) = *width else { continue };
            let text = terminal.cut(&cell.text, width);
            let free = width - text.width().min(width);
            let before = match column.align {
                Align::Left => 0,
                Align::Right => free,
            };
            if !text.is_empty() {
                // Blanks are written before a text only: no line ends in blanks.
                let start = (column_start + before).max(used + usize::from(used > 0));
                line.extend(std::iter::repeat_n(' ', start - used));
                line.push_str(&cell.tone.paint(&text));
                used = start + text.width();
            }
            column_start += width + GAP;
        }
        writeln!(out, "{line}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(width: usize) -> String {
        let row = |name: &str, calls: &str, note: &str| {
            vec![Cell::from(name.to_owned()), Cell::from(calls.to_owned()), Cell::from(note.to_owned())]
        };
        let table = Table {
            columns: vec![Column::left("NAME", 0), Column::right("CALLS", 0), Column::left("NOTE", 1)],
            rows: vec![row("search_issues", "412", "slow"), row("東京", "3", "")],
        };
        let terminal =
            Terminal { width, unicode: true, zone: jiff::tz::TimeZone::UTC, warn: 3, trace_link: None };
        let mut out = Vec::new();
        table.write(&mut out, &terminal).unwrap();
        anstream::adapter::strip_str(&String::from_utf8(out).unwrap()).to_string()
    }

    #[test]
    fn a_table_cuts_long_texts_then_drops_columns_and_never_wraps() {
        assert_eq!(
            draw(80),
            "NAME           CALLS  NOTE\nsearch_issues    412  slow\n東京               3\n"
        );
        assert_eq!(draw(24), "NAME         CALLS  NOTE\nsearch_iss…    412  slow\n東京             3\n");
        assert_eq!(draw(16), "NAME       CALLS\nsearch_i…    412\n東京           3\n");
    }

    #[test]
    fn a_name_is_cut_only_if_the_line_would_be_too_long_without_every_other_column() {
        let whole = |title, drop| Column { cut: false, ..Column::left(title, drop) };
        let table = Table {
            columns: vec![whole("SERVER", 0), whole("SCOPE", 2), whole("LAST SEEN", 0)],
            rows: vec![vec!["a-long-name-of-a-server".into(), "user".into(), "2026-11-29 00:19".into()]],
        };
        for (width, row) in [
            (60, "a-long-name-of-a-server  user   2026-11-29 00:19"),
            (42, "a-long-name-of-a-server  2026-11-29 00:19"),
            (36, "a-long-name-of-a-…  2026-11-29 00:19"),
        ] {
            let terminal =
                Terminal { width, unicode: true, zone: jiff::tz::TimeZone::UTC, warn: 3, trace_link: None };
            let mut out = Vec::new();
            table.write(&mut out, &terminal).unwrap();
            assert_eq!(String::from_utf8(out).unwrap().lines().nth(1), Some(row), "{width}");
        }
    }

    #[test]
    fn a_paragraph_is_broken_between_words_and_a_pipe_gets_one_line() {
        let paragraph = |width| {
            let terminal =
                Terminal { width, unicode: true, zone: jiff::tz::TimeZone::UTC, warn: 3, trace_link: None };
            terminal.paragraph(&"one two /a/long/path three".into(), 2, 4)
        };
        assert_eq!(paragraph(10), "one two\n    /a/long/path\n    three");
        assert_eq!(paragraph(Terminal::UNLIMITED), "one two /a/long/path three");
    }

    #[test]
    fn a_word_that_is_longer_than_a_line_is_folded_and_loses_nothing() {
        let folded = |width| {
            let terminal =
                Terminal { width, unicode: true, zone: jiff::tz::TimeZone::UTC, warn: 3, trace_link: None };
            let lines = terminal.folded(&"+ one /a/long/path/東京 x".into(), 3);
            lines.iter().map(|line| line.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(folded(10), ["+ one", "   /a/long", "   /path/", "   東京", "   x"]);
        assert_eq!(folded(Terminal::UNLIMITED), ["+ one /a/long/path/東京 x"]);
    }

    #[test]
    fn a_pipe_gets_every_column_and_every_text_whole() {
        let long = "x".repeat(10_000);
        let table = Table {
            columns: vec![Column::left("", 0), Column::right("", 9), Column::left("", 1)],
            rows: vec![vec![long.clone().into(), "3".into(), long.clone().into()], vec![Cell::default(); 3]],
        };
        let terminal = Terminal {
            width: Terminal::UNLIMITED,
            unicode: true,
            zone: jiff::tz::TimeZone::UTC,
            warn: 3,
            trace_link: None,
        };
        let mut out = Vec::new();
        table.write(&mut out, &terminal).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!("\n{long} 3 {long}\n\n"));
    }
}
