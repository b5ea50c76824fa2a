//! `spantap stats --by model|turn`: what agents reported of their model calls.

use std::io::{self, Write};

use crate::present::table::{Cell, Column, Table, Terminal, Tone};
use crate::present::{Printable, chain, format};
use crate::query::agents::table::ModelRow;
use crate::query::agents::totals::ModelTotals;

/// Draws the first `limit` rows, and a line about all of them.
pub(crate) fn write(
    out: &mut dyn Write,
    terminal: &Terminal,
    rows: &[ModelRow],
    limit: usize,
) -> io::Result<()> {
    let columns = vec![
        Column::left("MODEL", 0),
        Column::left("START", 7),
        Column::left("SESSION", 6),
        Column::left("TURN", 0),
        Column::left("MODELS", 4),
        Column::left("AGENT", 5),
        Column::right("CALLS", 0),
        Column::right("ERRORS", 3),
        Column::right("P50", 9),
        Column::right("P95", 8),
        Column::right("TOOLS", 10),
        Column::right("REFUSED", 11),
        Column::right("IN", 0),
        Column::right("CACHED", 2),
        Column::right("OUT", 1),
        Column::right("COST", 0),
    ];
    let rows_of_table = rows.iter().take(limit).map(|row| cells(terminal, row)).collect();
    Table { columns, rows: rows_of_table }.write(out, terminal)?;
    if rows.len() > limit {
        writeln!(out, "{} more; --limit shows them", rows.len() - limit)?;
    }
    let mut totals = ModelTotals::default();
    rows.iter().for_each(|row| totals.merge(&row.totals));
    let mut facts = vec![format::plural(totals.calls, "model call")];
    facts.extend(chain::figures(&totals));
    facts.push("as the agents reported".to_owned());
    if totals.calculated > 0 {
        let (count, usd) = (format::plural(totals.calculated, "call"), format::usd(totals.calculated_usd));
        facts.push(format!("~{usd} of {count} by the prices in the config file"));
    }
    let facts: Vec<Printable> = facts.into_iter().map(Printable::from).collect();
    for line in terminal.lines(&facts, ", ") {
        writeln!(out, "{}", Tone::Faint.paint(line))?;
    }
    Ok(())
}

fn cells(terminal: &Terminal, row: &ModelRow) -> Vec<Cell> {
    let ms = |ms: Option<f64>| Cell::from(ms.map(format::duration).unwrap_or_default());
    let nonzero = |count: u64| if count > 0 { count.to_string() } else { String::new() };
    let tokens = |tokens: Option<u64>| tokens.map(format::count).unwrap_or_default();
    // A row is of a model or of a turn.
    let is_turn = row.started_at.is_some();
    let name = |text: &str, is_shown: bool| match (is_shown, text) {
        (false, _) => String::new(),
        (true, "") => "(none)".to_owned(),
        (true, text) => text.to_owned(),
    };
    let at = row.started_at.map(|at| at.local(&terminal.zone, "%m-%d %H:%M:%S"));
    vec![
        Cell::from(name(&row.model, !is_turn)),
        Cell::from(at.unwrap_or_default()),
        Cell::from(row.session_id.chars().take(8).collect::<String>()),
        Cell::from(name(&row.turn_id, is_turn)),
        Cell::from(row.models.join(", ")),
        Cell::from(&*row.agent_name),
        Cell::from(row.model_calls.to_string()),
        Cell::toned(nonzero(row.errors), Tone::Bad),
        ms(row.p50_ms),
        ms(row.p95_ms),
        Cell::from(nonzero(row.tools.unwrap_or(0))),
        Cell::toned(nonzero(row.refused.unwrap_or(0)), Tone::Warning),
        Cell::from(tokens(row.totals.input())),
        Cell::from(nonzero(row.cached_tokens).parse().map(format::count).unwrap_or_default()),
        Cell::from(tokens(row.totals.output())),
        Cell::from(cost(&row.totals)),
    ]
}

/// Returns the cost of model calls: `~` if the collector calculated a part of it, `+` if it is not known of all.
pub(crate) fn cost(totals: &ModelTotals) -> String {
    let mark = if totals.calculated > 0 { "~" } else { "" };
    let more = if totals.priced < totals.calls { "+" } else { "" };
    totals.cost().map(|cost| format!("{mark}{}{more}", format::usd(cost))).unwrap_or_default()
}
