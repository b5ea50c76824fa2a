//! `spantap top`: the header, the table of servers and the newest calls, as lines of text.

pub(crate) mod screen;
#[cfg(test)]
mod tests;
pub(crate) mod view;

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::present::sessions::AgentFigures;
use crate::present::table::{Cell, Column, Table, Terminal, Tone};
use crate::present::tail::RowPrinter;
use crate::present::{Printable, chain, format};
use crate::query::row::{LogRow, OperationRow};
use crate::query::top::{ServerState, TopAgent, TopServer, TopState};
use crate::record::timestamp::Timestamp;

/// From this width on there is room for what is rarely needed.
const ROOMY: usize = 100;

/// Writes everything once, with the last `count` rows.
pub(crate) fn write(
    out: &mut dyn Write,
    terminal: &Terminal,
    state: &TopState,
    servers: &[TopServer],
    count: usize,
    now: Timestamp,
) -> io::Result<()> {
    writeln!(out, "{}", header(terminal, state, servers, now, ""))?;
    for line in server_lines(terminal, servers, now) {
        writeln!(out, "{line}")?;
    }
    for line in agent_lines(terminal, state, usize::MAX) {
        writeln!(out, "{line}")?;
    }
    let mut printer = RowPrinter::of_single_lines(terminal.clone());
    let rows: Vec<&LogRow> = state.rows.iter().skip(state.rows.len().saturating_sub(count)).collect();
    rows.iter().for_each(|row| printer.prepare(row));
    if !rows.is_empty() {
        writeln!(out)?;
    }
    rows.iter().try_for_each(|row| writeln!(out, "{}", printer.line(row)))
}

/// Returns everything as one object, with the last `count` rows that are operations.
pub(crate) fn json(state: &TopState, servers: &[TopServer], count: usize, now: Timestamp) -> Value {
    let [calls, errors] = five_minutes(state, now);
    let operations = state.rows.iter().filter_map(|row| match row {
        LogRow::Operation(row) => Some(row),
        _ => None,
    });
    let mut rows: Vec<Value> = operations.rev().take(count).map(operation_json).collect();
    rows.reverse();
    json!({
        "timestamp": now,
        "running": servers.iter().filter(|server| server.is_running()).count(),
        "dead": servers.iter().filter(|server| !server.is_running()).count(),
        "calls_5min": calls,
        "errors_5min": errors,
        "servers": servers,
        "agents": state.agents.iter().map(agent_json).collect::<Vec<Value>>(),
        "agent_notes": state.agent_notes.iter().chain(&state.agent_doubt).collect::<Vec<&String>>(),
        "operations": rows,
    })
}

fn agent_json(agent: &TopAgent) -> Value {
    let mut object = json!(AgentFigures::new(&agent.totals));
    object["session_id"] = json!(agent.session_id);
    object["hosts"] = json!(agent.hosts);
    object["models"] = json!(agent.totals.by_model.keys().collect::<Vec<_>>());
    object["turns"] = json!(agent.totals.turns);
    object
}

/// Returns a line for each session whose agent reported what it used, and then what is missing in these figures. If
/// there are more than `most`, the last line of the sessions counts those that are left out.
pub(crate) fn agent_lines(terminal: &Terminal, state: &TopState, most: usize) -> Vec<String> {
    let agents = &state.agents;
    let notes: &[String] = if agents.is_empty() { &[] } else { &state.agent_notes };
    let notes: Vec<&String> = notes.iter().chain(&state.agent_doubt).collect();
    let most = most.saturating_sub(notes.len());
    let line = |agent: &TopAgent| {
        let hosts: Vec<&str> = agent.hosts.iter().map(String::as_str).collect();
        let session: String = agent.session_id.chars().take(8).collect();
        let models = &agent.totals.models;
        let names: Vec<&str> =
            agent.totals.by_model.keys().map(String::as_str).filter(|name| !name.is_empty()).collect();
        let of = if names.is_empty() { String::new() } else { format!(" of {}", names.join(", ")) };
        let mut facts: Vec<String> = chain::cost(models).into_iter().chain(chain::tokens(models)).collect();
        facts.push(format!("{}{of}", format::plural(models.calls, "model call")));
        let refused = agent.totals.refusals();
        facts.extend((refused > 0).then(|| format!("{refused} refused before a server was asked")));
        let name = terminal.cut(format!("{} {session}", hosts.join(", ")).trim_start(), terminal.share(2));
        let facts = terminal.cut(facts.join(", "), terminal.width.saturating_sub(name.width() + 2));
        format!("{}  {}", Tone::Faint.paint(name), Tone::Plain.paint(facts))
    };
    let shown = if agents.len() > most { most.saturating_sub(1) } else { agents.len() };
    let mut lines: Vec<String> = agents.iter().take(shown).map(line).collect();
    if shown < agents.len() && most > 0 {
        let more = format!("{} more sessions with reports of their agents", agents.len() - shown);
        lines.push(Tone::Faint.paint(terminal.cut(more, terminal.width)));
    }
    if !lines.is_empty() || agents.is_empty() && most > 0 {
        let note = |note: &&String| Tone::Warning.paint(terminal.cut((*note).clone(), terminal.width));
        lines.extend(notes.iter().map(note));
    }
    lines
}

fn operation_json(row: &OperationRow) -> Value {
    json!({
        "handle": row.handle(),
        "timestamp": row.recorded,
        "server_name": &*row.server_name,
        "session_id": &*row.session_id,
        "connection_id": &*row.connection_id,
        "seq": row.seq,
        "method": &*row.method,
        "name": row.name(),
        "status": row.status,
        "duration_ms": row.duration_ms,
        "error_type": &*row.error_type,
        "error_message": &*row.error_message,
        "repeat_count": row.repeat_count,
    })
}

fn five_minutes(state: &TopState, now: Timestamp) -> [u64; 2] {
    state.activity(now).iter().fold([0, 0], |sum, part| [sum[0] + part[0], sum[1] + part[1]])
}

/// Returns the first line. A fact that does not fit is left out, the least important ones first.
pub(crate) fn header(
    terminal: &Terminal,
    state: &TopState,
    servers: &[TopServer],
    now: Timestamp,
    mark: &str,
) -> String {
    let running = servers.iter().filter(|server| server.is_running()).count();
    let dead = servers.len() - running;
    let [calls, errors] = five_minutes(state, now);
    let mut parts: Vec<u64> = state.activity(now).iter().map(|part| part[0]).collect();
    let is_narrow = terminal.width < ROOMY;
    if is_narrow {
        parts = parts.chunks(2).map(|parts| parts.iter().sum()).collect();
    }
    let blocks = if terminal.unicode { format::sparkline(&parts) } else { String::new() };
    let [on, off, _] = marks(terminal);
    let some = |count: u64, text: String| if count > 0 { text } else { String::new() };
    // Texts with their tones; the last number is the order in which they are left out.
    let mut facts = vec![
        ("spantap".to_owned(), Tone::Strong, 7),
        (mark.to_owned(), Tone::Warning, 1),
        (format!("{on} {running} running"), if running > 0 { Tone::Good } else { Tone::Faint }, 0),
        (some(dead as u64, format!("{off} {dead} dead")), Tone::Bad, 2),
        (format!("last 5 min {}", blocks.trim_end()).trim_end().to_owned(), Tone::Faint, 6),
        (format::plural(calls, "call"), Tone::Plain, 3),
        (some(errors, format::plural(errors, "error")), Tone::Bad, 4),
        (now.local(&terminal.zone, "%H:%M:%S"), Tone::Faint, 5),
    ];
    facts.retain(|(text, ..)| !text.is_empty());
    let width = |facts: &[(String, Tone, u8)]| {
        facts.iter().map(|(text, ..)| Printable::new(text).width() + 2).sum::<usize>().saturating_sub(2)
    };
    while facts.len() > 1 && width(&facts) > terminal.width {
        let least = facts.iter().map(|fact| fact.2).max().unwrap_or_default();
        facts.retain(|fact| fact.2 != least);
    }
    let painted: Vec<String> =
        facts.iter().map(|(text, tone, _)| tone.paint(terminal.cut(&**text, terminal.width))).collect();
    painted.join("  ")
}

/// Returns the marks of a server that runs and of one that does not, and of one that is busy.
fn marks(terminal: &Terminal) -> [&'static str; 3] {
    if terminal.unicode { ["●", "✖", "◐"] } else { ["*", "x", ">"] }
}

/// Returns the line of titles and one line for each server.
pub(crate) fn server_lines(terminal: &Terminal, servers: &[TopServer], now: Timestamp) -> Vec<String> {
    if servers.is_empty() {
        return vec![Tone::Faint.paint(terminal.cut("no server runs now", terminal.width))];
    }
    let columns = vec![
        Column::left("SERVER", 0),
        Column { cut: false, ..Column::left("STATE", 5) },
        Column::right("UP", 6),
        Column::right("CALLS", 4),
        Column::right("ERR", 3),
        Column::right("P95", 2),
        Column::left("NOW", 1),
        Column::right("MEM", 7),
        Column::right("COPIES", 8),
        Column::left("HOST", 9),
    ];
    let rows = servers.iter().map(|server| server_cells(terminal, server, now)).collect();
    let mut table = Table { columns, rows };
    if terminal.is_unlimited() {
        table.move_to_end("NOW");
    }
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _ = table.write(&mut text, terminal);
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
}

fn server_cells(terminal: &Terminal, server: &TopServer, now: Timestamp) -> Vec<Cell> {
    let [on, off, busy] = marks(terminal);
    let (state, tone) = match server.state {
        ServerState::Busy => (format!("{busy} busy"), Tone::Warning),
        ServerState::Idle => (format!("{on} idle"), Tone::Good),
        ServerState::Unknown => (format!("{on} unknown"), Tone::Faint),
        ServerState::Killed => (format!("{off} killed"), Tone::Bad),
        ServerState::Dead => (format!("{off} dead"), Tone::Bad),
    };
    let up = match server.is_running() {
        true => format::age(server.since.ms_until(now)),
        false => server.since.local(&terminal.zone, "%H:%M:%S"),
    };
    let error_tone = if server.errors > 0 { Tone::Bad } else { Tone::Plain };
    vec![
        Cell::toned(&*server.server_name, Tone::Strong),
        Cell::toned(state, tone),
        Cell::from(up),
        Cell::from(server.calls.to_string()),
        Cell::toned(server.errors.to_string(), error_tone),
        Cell::from(server.p95_ms.map_or_else(|| terminal.dash().to_owned(), format::duration)),
        activity_cell(server),
        Cell::from(server.memory_bytes.map(format::bytes).unwrap_or_default()),
        Cell::from(
            server
                .copies
                .filter(|copies| *copies > 1 && terminal.width >= ROOMY)
                .map(|copies| copies.to_string())
                .unwrap_or_default(),
        ),
        Cell::toned(&*server.host_name, Tone::Faint),
    ]
}

/// Returns the oldest open request, with its time first, which must not be cut; else how long the server is idle, or
/// how it died.
fn activity_cell(server: &TopServer) -> Cell {
    if !server.is_running() {
        return Cell::toned(&*server.message, Tone::Bad);
    }
    let Some(open) = server.open.first() else {
        let idle = server.idle_ms.map(|ms| format!("idle {}", format::age(ms)));
        return Cell::toned(idle.unwrap_or_default(), Tone::Faint);
    };
    let asked = if open.is_from_server { ", asked by the server" } else { "" };
    let more = match server.open.len() {
        1 => String::new(),
        count => format!(", {} more", count - 1),
    };
    let name = &open.name;
    Cell::toned(format!("{} {name}{asked}{more}", format::duration(open.open_ms)), Tone::Warning)
}
