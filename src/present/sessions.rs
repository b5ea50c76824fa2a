//! `spantap sessions`: one row an agent run, or a connection.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write};

use serde::Serialize;

use crate::present::format;
use crate::present::table::{Cell, Column, Table, Terminal, Tone};
use crate::query::entry::Entry;
use crate::query::scan::Fold;
use crate::query::select::Select;
use crate::query::totals::{Extent, Figures, Turns};
use crate::record::EventName;
use crate::record::cost::Prices;
use crate::record::words::{EndReason, Status};

/// Adds up the selected records by session.
pub struct Sessions<'a> {
    select: &'a Select,
    prices: &'a Prices,
    /// One row a connection instead.
    connections: bool,
    sessions: HashMap<Box<str>, Session>,
}

/// What is known about one session.
#[derive(Clone, Debug, Default)]
pub struct Session {
    pub extent: Extent,
    pub hosts: BTreeSet<String>,
    /// Calls by server.
    pub servers: BTreeMap<String, u64>,
    pub connections: BTreeSet<String>,
    session_id: String,
    pub figures: Figures,
    pub turns: Turns,
    pub operations: u64,
    /// The most identical calls that `agent_thrashing` told of.
    pub thrashing: u64,
    pub malformed: u64,
    /// Records or bytes were lost.
    pub lossy: bool,
    /// How servers ended that nobody asked to end.
    pub deaths: BTreeSet<String>,
}

impl<'a> Sessions<'a> {
    pub fn new(select: &'a Select, prices: &'a Prices, connections: bool) -> Sessions<'a> {
        Sessions { select, prices, connections, sessions: HashMap::new() }
    }

    /// The sessions, newest first; with `thrashing`, those with more identical calls than that.
    pub fn finish(self, thrashing: Option<u64>) -> Vec<(String, Session)> {
        let about_operations = self.select.is_about_operations();
        let mut sessions: Vec<(String, Session)> = self
            .sessions
            .into_iter()
            .map(|(id, mut session)| {
                session.turns.settle();
                (String::from(id), session)
            })
            .filter(|(_, session)| !about_operations || session.operations > 0)
            .filter(|(_, session)| thrashing.is_none_or(|most| session.most_repeats() > most))
            .collect();
        sessions.sort_by(|(a_id, a), (b_id, b)| b.extent.get().cmp(&a.extent.get()).then(a_id.cmp(b_id)));
        sessions
    }
}

impl Session {
    /// The most identical calls in a conversation.
    pub fn most_repeats(&self) -> u64 {
        self.thrashing.max(self.figures.most_repeats.into())
    }

    pub fn take(&mut self, entry: &Entry<'_>, select: &Select, prices: &Prices) {
        let known = |set: &mut BTreeSet<String>, text: &str| {
            if !text.is_empty() && !set.contains(text) {
                set.insert(text.to_owned());
            }
        };
        self.extent.add(entry.started(), entry.timestamp.0);
        known(&mut self.hosts, &entry.host_name);
        known(&mut self.connections, &entry.connection_id);
        if self.session_id.is_empty() {
            self.session_id = entry.session_id.to_string();
        }
        if !self.servers.contains_key(&*entry.server_name) {
            self.servers.insert(entry.server_name.to_string(), 0);
        }
        if entry.is_operation() {
            if !select.takes_operation(entry) {
                return;
            }
            self.operations += 1;
            if entry.event == EventName::McpToolCall {
                self.turns.add(entry);
                self.figures.add(entry, prices);
                if let Some(calls) = self.servers.get_mut(&*entry.server_name) {
                    *calls += u64::from(entry.continues_seq.is_none());
                }
            }
            return;
        }
        match entry.event {
            EventName::AgentThrashing => self.thrashing = self.thrashing.max(entry.count.unwrap_or(0)),
            EventName::Malformed => {
                self.malformed = self.malformed.saturating_add(entry.count.unwrap_or(1));
            }
            EventName::Gap => self.lossy = true,
            EventName::SessionEnded => {
                if let Some(how) = death(entry) {
                    self.deaths.insert(format!("{} {how}", &*entry.server_name));
                }
            }
            _ => {}
        }
    }

    pub fn merge(&mut self, other: Session) {
        self.extent.merge(other.extent);
        self.hosts.extend(other.hosts);
        for (server, calls) in other.servers {
            *self.servers.entry(server).or_default() += calls;
        }
        self.connections.extend(other.connections);
        if self.session_id.is_empty() {
            self.session_id = other.session_id;
        }
        self.figures.merge(&other.figures);
        self.turns.merge(other.turns);
        self.operations += other.operations;
        self.thrashing = self.thrashing.max(other.thrashing);
        self.malformed = self.malformed.saturating_add(other.malformed);
        self.lossy |= other.lossy;
        self.deaths.extend(other.deaths);
    }

    /// What deserves a look, in words; clean.
    pub fn notes(&self, warn: u64) -> (String, Tone) {
        let mut notes: Vec<String> =
            self.deaths.iter().map(|death| format::clean(death).into_owned()).collect();
        let tone = if !notes.is_empty() || self.thrashing > 0 { Tone::Bad } else { Tone::Warning };
        if self.most_repeats() >= warn {
            notes.push(format!("{}x same arguments", self.most_repeats()));
        }
        if self.figures.slow > 0 {
            notes.push(format!("{} slow", self.figures.slow));
        }
        if self.malformed > 0 {
            notes.push(format!("{} malformed", self.malformed));
        }
        if self.lossy {
            notes.push("records lost".to_owned());
        }
        (notes.join(", "), tone)
    }
}

/// How a server ended that nobody asked to end; `None` for an ordinary end.
pub fn death(entry: &Entry<'_>) -> Option<String> {
    match (entry.signal, entry.exit_code, EndReason::from_word(&entry.reason)) {
        (_, _, Some(EndReason::ServerExited)) => None,
        (_, _, Some(EndReason::SpawnFailed)) => Some("did not start".to_owned()),
        (Some(signal), _, _) => Some(format!("died of signal {signal}")),
        (_, Some(code), _) => Some(format!("exited with {code}")),
        _ => Some("died".to_owned()),
    }
}

impl Fold for Sessions<'_> {
    fn take(&mut self, entry: &Entry<'_>, _line: &[u8]) {
        if !self.select.takes_place(entry) {
            return;
        }
        let id = if self.connections { &entry.connection_id } else { &entry.session_id };
        match self.sessions.get_mut(&**id) {
            Some(session) => session.take(entry, self.select, self.prices),
            None => {
                let mut session = Session::default();
                session.take(entry, self.select, self.prices);
                self.sessions.insert((**id).into(), session);
            }
        }
    }

    fn merge(&mut self, other: Sessions<'_>) {
        for (id, session) in other.sessions {
            self.sessions.entry(id).or_default().merge(session);
        }
    }
}

/// The line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    session_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_id: Option<&'a str>,
    started_at: String,
    ended_at: String,
    duration_ms: f64,
    hosts: Vec<&'a str>,
    servers: Vec<&'a str>,
    connections: usize,
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
    /// How servers ended that nobody had asked to end.
    deaths: Vec<&'a str>,
    records_lost: bool,
    tokens_est: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd_est: Option<f64>,
}

/// One JSON object for a session.
///
/// # Errors
/// None in practice: every value has a JSON form.
pub fn json(id: &str, session: &Session, prices: &Prices, connections: bool) -> serde_json::Result<String> {
    let (first, last) = session.extent.get().unwrap_or_default();
    serde_json::to_string(&Line {
        session_id: if connections { &session.session_id } else { id },
        connection_id: connections.then_some(id),
        started_at: first.to_string(),
        ended_at: last.to_string(),
        duration_ms: session.extent.ms(),
        hosts: session.hosts.iter().map(String::as_str).collect(),
        servers: session.servers.keys().map(String::as_str).collect(),
        connections: session.connections.len(),
        calls: session.figures.calls,
        errors: session.figures.errors(),
        error_rate: session.figures.error_rate(),
        denied: session.figures.with_status(Status::Denied),
        unknown: session.figures.with_status(Status::Unknown),
        turns: session.turns.turns(),
        conversations: session.turns.conversations(),
        most_repeats: session.most_repeats(),
        slow: session.figures.slow,
        malformed: session.malformed,
        deaths: session.deaths.iter().map(String::as_str).collect(),
        records_lost: session.lossy,
        tokens_est: session.figures.tokens,
        cost_usd_est: session.figures.cost(prices),
    })
}

/// Writes the table.
///
/// # Errors
/// Those of `out`.
pub fn write(
    out: &mut dyn Write,
    terminal: &Terminal,
    sessions: &[(String, Session)],
    prices: &Prices,
    connections: bool,
    warn: u64,
) -> io::Result<()> {
    let length = short_id_length(sessions, connections);
    let columns = vec![
        Column::left(if connections { "CONNECTION" } else { "SESSION" }, 0),
        Column::left("START", 1),
        Column::right("LENGTH", 6),
        Column::left("HOST", 3),
        Column::left("SERVERS", 0),
        Column::right("CALLS", 0),
        Column::right("ERRORS", 0),
        Column::right("TURNS", 7),
        Column::right("TOKENS~", 4),
        Column::right("COST~", 5),
        Column::left("NOTES", 0),
    ];
    // The year only where it tells something.
    let year = |session: &Session| session.extent.get().map(|(first, _)| first.date().0);
    let same_year = sessions.windows(2).all(|pair| year(&pair[0].1) == year(&pair[1].1));
    let format = if same_year { "%m-%d %H:%M" } else { "%Y-%m-%d %H:%M" };
    let rows = sessions
        .iter()
        .map(|(id, session)| {
            let start = session.extent.get().map(|(first, _)| first).unwrap_or_default();
            let servers: Vec<_> = session.servers.keys().map(|name| format::clean(name)).collect();
            let hosts: Vec<_> = session.hosts.iter().map(|name| format::clean(name)).collect();
            let errors = session.figures.errors();
            let (notes, tone) = session.notes(warn);
            vec![
                Cell::toned(short(id, length, connections), Tone::Strong),
                Cell::from(format::local(start, &terminal.zone, format)),
                Cell::from(format::duration(session.extent.ms())),
                Cell::from(hosts.join(", ")),
                Cell::from(servers.join(", ")),
                Cell::from(session.figures.calls.to_string()),
                Cell::toned(errors.to_string(), if errors > 0 { Tone::Bad } else { Tone::Plain }),
                Cell::from(session.turns.turns().to_string()),
                Cell::from(format::count(session.figures.tokens)),
                Cell::from(session.figures.cost(prices).map(format::usd).unwrap_or_default()),
                Cell::toned(notes, tone),
            ]
        })
        .collect();
    Table { columns, rows, titled: true }.write(out, terminal)
}

/// The part of an id that people type: the end of a connection's (as in file names), the beginning
/// of a session's.
pub fn short(id: &str, length: usize, connection: bool) -> String {
    let characters = id.chars().count();
    let part: String = if connection {
        id.chars().skip(characters.saturating_sub(12)).collect()
    } else {
        id.chars().take(length).collect()
    };
    format::clean(&part).into_owned()
}

/// Characters that tell all sessions apart, 8 at least.
fn short_id_length(sessions: &[(String, Session)], connections: bool) -> usize {
    if connections {
        return 12;
    }
    (8..40)
        .find(|length| {
            let mut seen = BTreeSet::new();
            sessions.iter().all(|(id, _)| seen.insert(id.chars().take(*length).collect::<String>()))
        })
        .unwrap_or(40)
}
