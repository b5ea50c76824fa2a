//! `spantap check` of several servers: one line a server, and below it the words of those that have some.

use std::io::{self, Write};

use crate::present::Printable;
use crate::present::format;
use crate::present::table::{Cell, Column, Table, Terminal, Tone};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CheckState {
    Works,
    /// It works, and its start or its list of tools took long.
    Slow,
    /// A proxy runs the server; it is not started again.
    Runs,
    Fails,
    #[default]
    NotChecked,
}

/// One checked server. Its texts are redacted.
#[derive(Clone, Debug, Default)]
pub(crate) struct CheckRow {
    pub(crate) server: String,
    pub(crate) hosts: String,
    pub(crate) state: CheckState,
    /// The state in words.
    pub(crate) word: String,
    pub(crate) start_ms: Option<f64>,
    pub(crate) tools: Option<u64>,
    /// Estimated tokens of the tool definitions.
    pub(crate) definitions: Option<u64>,
    pub(crate) protocol: String,
    /// Number of tools that differ from the last check; `None` for the first check.
    pub(crate) changed: Option<usize>,
    pub(crate) notes: Vec<String>,
}

impl CheckState {
    fn tone(self) -> Tone {
        match self {
            CheckState::Works | CheckState::Runs => Tone::Good,
            CheckState::Slow => Tone::Warning,
            CheckState::Fails => Tone::Bad,
            CheckState::NotChecked => Tone::Faint,
        }
    }
}

/// Writes the table, the notes and the sum.
pub(crate) fn write(out: &mut dyn Write, rows: &[CheckRow], terminal: &Terminal) -> io::Result<()> {
    if !rows.is_empty() {
        table(rows, terminal).write(out, terminal)?;
    }
    let mut gap = "\n";
    for row in rows {
        for (number, note) in row.notes.iter().enumerate() {
            let (text, tone, indent) = match number {
                0 => (format!("{}: {note}", row.server), Tone::Plain, 0),
                _ => (note.clone(), Tone::Faint, 2),
            };
            write!(out, "{gap}{:indent$}", "")?;
            for line in terminal.broken(&Printable::new(&text), indent, 4) {
                writeln!(out, "{}", tone.paint(line))?;
            }
            gap = "";
        }
    }
    let count = |state: CheckState| rows.iter().filter(|row| row.state == state).count();
    let sums = [
        (CheckState::Works, "ok"),
        (CheckState::Slow, "slow"),
        (CheckState::Runs, "running"),
        (CheckState::Fails, "failed"),
        (CheckState::NotChecked, "not checked"),
    ];
    let sums: Vec<String> = sums
        .iter()
        .map(|(state, word)| (*state, count(*state), word))
        .filter(|(state, count, _)| *count > 0 || *state == CheckState::Works)
        .map(|(state, count, word)| {
            let tone = if count > 0 { state.tone() } else { Tone::Plain };
            tone.paint(format!("{count} {word}"))
        })
        .collect();
    writeln!(out, "\n{}", sums.join(", "))
}

fn table(rows: &[CheckRow], terminal: &Terminal) -> Table {
    let columns = vec![
        // A name that is cut cannot be given to `check`.
        Column { cut: false, ..Column::left("SERVER", 0) },
        Column::left("HOST", 3),
        Column::left("STATE", 0),
        Column::right("START", 1),
        Column::right("TOOLS", 1),
        Column::right("DEFINITIONS", 2),
        Column::left("PROTOCOL", 4),
        Column::left("CHANGES", 1),
    ];
    let number = |number: Option<u64>| number.map_or_else(|| terminal.dash().to_owned(), format::count);
    let cells = |row: &CheckRow| {
        let (changes, tone) = match row.changed {
            _ if !matches!(row.state, CheckState::Works | CheckState::Slow) => {
                (terminal.dash().to_owned(), Tone::Faint)
            }
            None => ("first check".to_owned(), Tone::Faint),
            Some(0) => ("none".to_owned(), Tone::Faint),
            Some(changed) => (format::plural(changed as u64, "tool"), Tone::Warning),
        };
        let start = row.start_ms.map_or_else(|| terminal.dash().to_owned(), format::duration);
        let protocol = if row.protocol.is_empty() { terminal.dash() } else { &row.protocol };
        vec![
            Cell::toned(Printable::new(&row.server), Tone::Strong),
            Cell::from(Printable::new(&row.hosts)),
            Cell::toned(Printable::new(&row.word), row.state.tone()),
            Cell::from(start),
            Cell::from(number(row.tools)),
            Cell::from(row.definitions.map_or_else(
                || terminal.dash().to_owned(),
                |tokens| format!("~{} tokens", format::count(tokens)),
            )),
            Cell::from(Printable::new(protocol)),
            Cell::toned(changes, tone),
        ]
    };
    Table { columns, rows: rows.iter().map(cells).collect() }
}
