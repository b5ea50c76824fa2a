//! `spantap sessions`: one row for each session, or each connection.

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde::Serialize;

use crate::present::table::{Cell, Column, Table, Terminal, Tone};
use crate::present::{Printable, format, models};
use crate::query::agents::totals::{AgentTotals, ModelTotals};
use crate::query::row::id_end;
use crate::query::sessions::SessionTotals;
use crate::record::cost::Prices;
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;

#[derive(Serialize)]
struct SessionLine<'a> {
    session_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_id: Option<&'a str>,
    started_at: String,
    /// Absent while the session goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
    duration_ms: f64,
    hosts: &'a BTreeSet<String>,
    servers: Vec<&'a str>,
    /// Working folders of the servers.
    folders: &'a BTreeSet<String>,
    connections: usize,
    /// Number of connections that run now, and of their open requests.
    running: usize,
    open: u64,
    calls: u64,
    errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_rate: Option<f64>,
    denied: u64,
    unknown: u64,
    turns: u64,
    conversations: u64,
    most_repeats: u64,
    slow: u64,
    malformed: u64,
    tool_changes: u64,
    /// Servers that ended without being asked to, each with how it ended.
    deaths: Vec<&'a str>,
    /// Number of all these ends.
    death_count: u64,
    records_lost: bool,
    /// Tokens of the definitions of all servers, which a turn pays if the client loads all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    definition_tokens_est: Option<u64>,
    tokens_est: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd_est: Option<f64>,
    #[serde(flatten)]
    agent: Option<AgentFigures>,
}

/// Figures that the agent of a session reported. Nothing of them is part of the estimates.
#[derive(Serialize)]
pub(super) struct AgentFigures {
    model_calls: u64,
    /// Model calls of which the tokens are known, and of which the cost is known.
    calls_with_tokens: u64,
    calls_with_cost: u64,
    input_tokens: u64,
    cached_tokens: u64,
    output_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<f64>,
    /// Model calls of which the collector calculated the cost.
    calculated_costs: u64,
    /// Their share of `cost_usd`.
    calculated_usd: f64,
    /// Tools that were refused before a server was asked.
    refused: u64,
}

impl AgentFigures {
    pub(super) fn new(agent: &AgentTotals) -> AgentFigures {
        let ModelTotals { calls, told, priced, calculated, .. } = agent.models;
        AgentFigures {
            model_calls: calls,
            calls_with_tokens: told,
            calls_with_cost: priced,
            input_tokens: agent.models.input_tokens,
            cached_tokens: agent.models.cached_tokens,
            output_tokens: agent.models.output_tokens,
            cost_usd: agent.models.cost(),
            calculated_costs: calculated,
            calculated_usd: agent.models.calculated_usd,
            refused: agent.refusals(),
        }
    }
}

pub(crate) fn json(
    id: &str,
    session: &SessionTotals,
    prices: &Prices,
    by_connection: bool,
) -> serde_json::Result<Printable> {
    let (first, last) = session.span.get().unwrap_or_default();
    Printable::rounded_json(&SessionLine {
        session_id: if by_connection { &session.session_id } else { id },
        connection_id: by_connection.then_some(id),
        started_at: first.to_string(),
        ended_at: (!session.goes_on).then(|| last.to_string()),
        duration_ms: session.span.ms(),
        hosts: &session.hosts,
        servers: session.servers.keys().map(String::as_str).collect(),
        folders: &session.folders,
        connections: session.connections.len(),
        running: session.running.len(),
        open: session.running.iter().map(|state| state.open.len() as u64 + state.more_open).sum(),
        calls: session.calls.calls,
        errors: session.calls.errors(),
        error_rate: session.calls.error_rate(),
        denied: session.calls.with_status(Status::Denied),
        unknown: session.calls.with_status(Status::Unknown),
        turns: session.turns.turns(),
        conversations: session.turns.conversations(),
        most_repeats: session.most_repeats(),
        slow: session.calls.slow,
        malformed: session.malformed,
        tool_changes: session.tool_changes,
        deaths: session.deaths.keys().map(String::as_str).collect(),
        death_count: session.deaths.values().sum(),
        records_lost: session.is_lossy,
        definition_tokens_est: session.definition_tokens(),
        tokens_est: session.calls.tokens,
        cost_usd_est: session.calls.cost(prices),
        agent: session.agent.as_ref().map(AgentFigures::new),
    })
}

pub fn write(
    out: &mut dyn Write,
    terminal: &Terminal,
    sessions: &[(String, SessionTotals)],
    prices: &Prices,
    by_connection: bool,
) -> io::Result<()> {
    let length = if by_connection { 0 } else { short_id_length(sessions) };
    let columns = vec![
        Column::left(if by_connection { "CONNECTION" } else { "SESSION" }, 0),
        Column::left("START", 1),
        Column::right("LENGTH", 6),
        Column::left("HOST", 3),
        Column::left("FOLDER", 2),
        Column::left("SERVERS", 0),
        Column::right("CALLS", 0),
        Column::right("ERRORS", 0),
        Column::right("TURNS", 7),
        Column::right("DEFINED~", 5),
        Column::right("TOKENS~", 4),
        Column::right("COST~", 5),
        Column::right("IN", 4),
        Column::right("OUT", 5),
        Column::right("COST", 3),
        Column::left("NOTES", 0),
    ];
    // The year is shown only if it differs between rows.
    let year = |session: &SessionTotals| session.span.get().map(|(first, _)| first.date().year());
    let same_year = sessions.windows(2).all(|pair| year(&pair[0].1) == year(&pair[1].1));
    let format = if same_year { "%m-%d %H:%M" } else { "%Y-%m-%d %H:%M" };
    let row = |(id, session): &(String, SessionTotals)| {
        let start = session.span.get().map(|(first, _)| first).unwrap_or_default();
        let hosts: Vec<&str> = session.hosts.iter().map(String::as_str).collect();
        let servers: Vec<&str> = session.servers.keys().map(String::as_str).collect();
        let errors = session.calls.errors();
        let (note, tone) = annotation(session, terminal.warn, true);
        let models = session.agent.as_ref().map(|agent| &agent.models);
        let tokens = |tokens: Option<u64>| tokens.map(format::count).unwrap_or_default();
        let id = if by_connection { short_connection(id) } else { beginning(id, length).into() };
        vec![
            Cell::toned(id, Tone::Strong),
            Cell::from(start.local(&terminal.zone, format)),
            Cell::from(format::duration(session.span.ms())),
            Cell::from(hosts.join(", ")),
            Cell::from(folder_name(session)),
            Cell::from(servers.join(", ")),
            Cell::from(session.calls.calls.to_string()),
            Cell::toned(errors.to_string(), if errors > 0 { Tone::Bad } else { Tone::Plain }),
            Cell::from(session.turns.turns().to_string()),
            Cell::from(session.definition_tokens().map(format::count).unwrap_or_default()),
            Cell::from(format::count(session.calls.tokens)),
            Cell::from(session.calls.cost(prices).map(format::usd).unwrap_or_default()),
            Cell::from(tokens(models.and_then(ModelTotals::input))),
            Cell::from(tokens(models.and_then(ModelTotals::output))),
            Cell::from(models.map(models::cost).unwrap_or_default()),
            Cell::toned(note, tone),
        ]
    };
    Table { columns, rows: sessions.iter().map(row).collect() }.write(out, terminal)
}

/// Returns what is unusual about a session, in words; with `names_open` also the request that is open longest.
pub(crate) fn annotation(session: &SessionTotals, warn: u32, names_open: bool) -> (Printable, Tone) {
    let deaths = session.deaths.iter().map(|(death, count)| match count {
        1 => death.clone(),
        count => format!("{count}x {death}"),
    });
    let mut notes: Vec<String> = session.killed.iter().cloned().chain(deaths).collect();
    let tone = match () {
        () if !notes.is_empty() || session.has_thrashing_alarm => Tone::Bad,
        () if session.calls.errors() > 0 || session.tool_changes > 0 || session.running.is_empty() => {
            Tone::Warning
        }
        () => Tone::Good,
    };
    notes.extend(running(session, names_open));
    if session.most_repeats() >= warn.into() {
        notes.push(format!("same call {}x", session.most_repeats()));
    }
    if let Some((tool, message, count)) = session.worst_failure() {
        notes.push(format!("{count}x {tool}: {message}"));
    }
    if let Some(refused) = session.agent.as_ref().map(AgentTotals::refusals).filter(|refused| *refused > 0) {
        notes.push(format!("{refused} refused before a server was asked"));
    }
    if session.calls.with_status(Status::Denied) > 0 {
        notes.push(format!("{} denied", session.calls.with_status(Status::Denied)));
    }
    if let Some((_, change)) = &session.last_tool_change {
        let more = session.tool_changes.saturating_sub(1);
        notes.push(if more > 0 {
            format!("{change} (and {} before)", format::plural(more, "change"))
        } else {
            change.clone()
        });
    }
    if session.calls.slow > 0 {
        notes.push(format!("{} slow", session.calls.slow));
    }
    if session.malformed > 0 {
        notes.push(format!("{} malformed", session.malformed));
    }
    if session.is_lossy {
        notes.push("records lost".to_owned());
    }
    (notes.join(", ").into(), tone)
}

/// Returns that the session runs, and what it waits for longest.
fn running(session: &SessionTotals, names_open: bool) -> Option<String> {
    let now = session.running.iter().map(|state| state.updated_at).max()?.max(Timestamp::now());
    let oldest = session.open().filter(|_| names_open).min_by_key(|(_, request)| request.started_at);
    Some(oldest.map_or("running".to_owned(), |(_, request)| {
        let open = format::duration(request.started_at.ms_until(now));
        format!("running, {} open for {open}", request.name())
    }))
}

/// Returns the last component of the first working folder; `+` if there are several folders.
fn folder_name(session: &SessionTotals) -> String {
    let name = |folder: &String| folder.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    let more = if session.folders.len() > 1 { " +" } else { "" };
    session.folders.first().map(|folder| name(folder) + more).unwrap_or_default()
}

/// Returns the end of a connection id as it is in file names.
pub(crate) fn short_connection(id: &str) -> Printable {
    Printable::new(id_end(id, 12))
}

fn beginning(id: &str, length: usize) -> String {
    id.chars().take(length).collect()
}

/// Returns the number of characters that distinguish all session ids, at least 8.
fn short_id_length(sessions: &[(String, SessionTotals)]) -> usize {
    let is_enough = |length: &usize| {
        let mut seen = BTreeSet::new();
        sessions.iter().all(|(id, _)| seen.insert(beginning(id, *length)))
    };
    (8..40).find(is_enough).unwrap_or(40)
}
