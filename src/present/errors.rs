//! `spantap stats --by error`: the table of messages.

use std::io::{self, Write};

use crate::present::format;
use crate::present::table::{Cell, Column, Table, Terminal, Tone};
use crate::query::errors::ErrorRow;

/// From this width on a line has room for the message. Below it the message has a line of its own.
const ROOMY: usize = 120;
/// Column at which a message on its own line begins.
const INDENT: usize = 7;

/// Draws the first `limit` rows.
pub(crate) fn write(
    out: &mut dyn Write,
    terminal: &Terminal,
    rows: &[ErrorRow],
    limit: usize,
) -> io::Result<()> {
    let is_roomy = terminal.width >= ROOMY;
    let mut columns = vec![
        Column::right("COUNT", 0),
        Column::left("LAST SEEN", 2),
        Column { cut: false, ..Column::left("LAST", 3) },
        Column::left("SERVER", 1),
        Column { cut: !is_roomy, ..Column::left("TOOL", 0) },
        Column::left("MESSAGE", 0),
    ];
    columns.truncate(if is_roomy { 6 } else { 5 });
    let cells = |row: &ErrorRow| {
        let mut cells = vec![
            Cell::toned(
                row.count.to_string(),
                if row.denied < row.count { Tone::Bad } else { Tone::Warning },
            ),
            Cell::from(row.last_seen.local(&terminal.zone, "%m-%d %H:%M")),
            Cell::toned(&*row.last, Tone::Faint),
            Cell::from(&*row.server_name),
            Cell::toned(&*row.tool_name, Tone::Strong),
            Cell::from(row.text()),
        ];
        cells.truncate(columns.len());
        cells
    };
    let table = Table { columns: columns.clone(), rows: rows.iter().take(limit).map(cells).collect() };
    let mut lines = Vec::new();
    table.write(&mut lines, terminal)?;
    for (number, line) in lines.split_inclusive(|byte| *byte == b'\n').enumerate() {
        out.write_all(line)?;
        if let (false, Some(row)) = (is_roomy, number.checked_sub(1).and_then(|number| rows.get(number))) {
            let room = terminal.width.saturating_sub(INDENT);
            writeln!(out, "{:INDENT$}{}", "", terminal.cut(row.text(), room))?;
        }
    }
    if rows.len() > limit {
        writeln!(out, "{} more; --limit shows them", rows.len() - limit)?;
    }
    let denied: u64 = rows.iter().map(|row| row.denied).sum();
    let failures = format::plural(rows.iter().map(|row| row.count).sum::<u64>() - denied, "failure");
    let messages = format::plural(rows.len() as u64, "message");
    let denials = if denied > 0 { format!("{}, ", format::plural(denied, "denial")) } else { String::new() };
    writeln!(out, "{}", Tone::Faint.paint(format!("{failures}, {denials}{messages}")))
}
