//! `spantap stats`: the table of groups, and a line about all of them.

use std::io::{self, Write};

use crate::present::table::{Cell, Column, Table, Terminal, Tone};
use crate::present::{Printable, format};
use crate::query::stats::{StatsRow, StatsSummary};

/// Draws the first `limit` rows, and a line about all of them.
pub fn write(
    out: &mut dyn Write,
    terminal: &Terminal,
    summary: &StatsSummary,
    limit: usize,
) -> io::Result<()> {
    let columns = summary.by.keys().iter().map(|key| Column::left(title(key), 0));
    let columns = columns.chain([
        Column::right("CALLS", 0),
        Column::right("/MIN", 10),
        Column::right("ERRORS", 1),
        Column::right("ERR%", 0),
        Column::right("DENIED", 7),
        Column::right("UNKNOWN", 4),
        Column::right("P50", 2),
        Column::right("P95", 0),
        Column::right("P99", 3),
        Column::right("REPEATS", 8),
        Column::right("TURNS", 9),
        Column::right("DEFINED~", 6),
        Column::right("TOKENS~", 5),
        Column::right("COST~", 6),
    ]);
    let rows = summary.rows.iter().take(limit).map(cells).collect();
    Table { columns: columns.collect(), rows }.write(out, terminal)?;
    if summary.rows.len() > limit {
        writeln!(out, "{} more; --limit shows them", summary.rows.len() - limit)?;
    }
    if summary.by.is_time() && terminal.unicode && summary.rows.len() > 1 {
        write_sparklines(out, &summary.rows)?;
    }
    for facts in [counts(&summary.total), times(summary, terminal)] {
        for line in terminal.lines(&facts, ", ") {
            writeln!(out, "{}", Tone::Faint.paint(line))?;
        }
    }
    Ok(())
}

/// Returns the title of the column with this key in `--json`.
fn title(key: &str) -> &'static str {
    match key {
        "server_name" => "SERVER",
        "tool_name" => "TOOL",
        "session_id" => "SESSION",
        "host_name" => "HOST",
        "day" => "DAY",
        _ => "HOUR",
    }
}

fn cells(row: &StatsRow) -> Vec<Cell> {
    let nonzero = |count: u64| if count > 0 { count.to_string() } else { String::new() };
    let ms = |ms: Option<f64>| Cell::from(ms.map(format::duration).unwrap_or_default());
    let tone = match row.error_rate {
        Some(rate) if rate >= 0.2 => Tone::Bad,
        Some(rate) if rate > 0.0 => Tone::Warning,
        _ => Tone::Plain,
    };
    let name = |(_, name): &(_, String)| Cell::from(if name.is_empty() { "(none)" } else { name });
    let mut cells: Vec<Cell> = row.names.iter().map(name).collect();
    cells.extend([
        Cell::from(row.calls.to_string()),
        Cell::from(
            row.calls_per_minute.filter(|rate| *rate >= LEAST_RATE).map(per_minute).unwrap_or_default(),
        ),
        Cell::toned(row.errors.to_string(), tone),
        Cell::toned(row.error_rate.map(format::percent).unwrap_or_default(), tone),
        Cell::from(nonzero(row.denied)),
        Cell::toned(nonzero(row.unknown), Tone::Faint),
        ms(row.p50_ms),
        ms(row.p95_ms),
        ms(row.p99_ms),
        Cell::from(nonzero(row.repeats)),
        Cell::from(row.turns.map(|turns| turns.to_string()).unwrap_or_default()),
        Cell::from(row.definition_tokens_est.map(format::count).unwrap_or_default()),
        Cell::from(format::count(row.tokens_est)),
        Cell::from(row.cost_usd_est.map(format::usd).unwrap_or_default()),
    ]);
    cells
}

/// Writes calls, errors and 95th percentiles as blocks, one for each row.
fn write_sparklines(out: &mut dyn Write, rows: &[StatsRow]) -> io::Result<()> {
    let of = |number: fn(&StatsRow) -> u64| -> Vec<u64> { rows.iter().map(number).collect() };
    let lines = [
        ("calls", of(|row| row.calls), Tone::Good),
        ("errors", of(|row| row.errors), Tone::Bad),
        ("p95", of(|row| row.p95_ms.unwrap_or(0.0) as u64), Tone::Warning),
    ];
    for (title, numbers, tone) in lines {
        writeln!(out, "{title:<6}  {}", tone.paint(format::sparkline(&numbers)))?;
    }
    Ok(())
}

fn counts(total: &StatsRow) -> Vec<Printable> {
    let rate = total.error_rate.map(|rate| format!(" ({} %)", format::percent(rate))).unwrap_or_default();
    let mut facts =
        vec![format::plural(total.calls, "call"), format!("{}{rate}", format::plural(total.errors, "error"))];
    if total.unknown > 0 {
        facts.push(format!("{} not observed", total.unknown));
    }
    let (turns, conversations) = (total.turns.unwrap_or(0), total.conversations.unwrap_or(0));
    if turns > 0 && conversations > 0 {
        let mean = turns as f64 / conversations as f64;
        let conversations = format::plural(conversations, "conversation");
        facts.push(format!("{} in {conversations} ({mean:.1} each)", format::plural(turns, "turn")));
    }
    facts.push(format!("~{} tokens", format::count(total.tokens_est)));
    facts.extend(total.cost_usd_est.map(|cost| format!("~{}", format::usd(cost))));
    facts.into_iter().map(Printable::from).collect()
}

fn times(summary: &StatsSummary, terminal: &Terminal) -> Vec<Printable> {
    let (first, last) = summary.span.get().unwrap_or_default();
    let span = format::span(first, Some(last), &terminal.zone, terminal.dash());
    let rate = summary.total.calls_per_minute.map(|rate| format!("{} calls a minute", per_minute(rate)));
    vec![span.into(), rate.unwrap_or_default().into()]
}

/// A lower rate is not shown in a row.
const LEAST_RATE: f64 = 0.005;

fn per_minute(rate: f64) -> String {
    match rate {
        _ if rate >= 9.95 => format!("{rate:.0}"),
        _ if rate >= 0.095 => format!("{rate:.1}"),
        _ if rate >= LEAST_RATE => format!("{rate:.2}"),
        _ => "<0.01".to_owned(),
    }
}
