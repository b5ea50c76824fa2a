//! `spantap top`: the servers that run now or died lately, and the newest calls and events.
//!
//! [`TopScan`] reads the logs once. [`TopState`] continues with the lines that are added, the live files, and what
//! the system knows of the processes. Nothing here depends on a terminal.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Instant;

use clap::ValueEnum;
use serde::Serialize;

use crate::query::agents::join::AgentJoins;
use crate::query::agents::totals::AgentTotals;
use crate::query::duplicates::NewRecords;
use crate::query::entry::LogEntry;
use crate::query::event::{EventRow, last_words, unexpected_end};
use crate::query::greatest::Greatest;
use crate::query::listing::LastListing;
use crate::query::live::{self, LiveConnection, Liveness};
use crate::query::name_pool::NamePool;
use crate::query::row::{LogRow, drop_repeated};
use crate::query::scan::Fold;
use crate::query::select::Selection;
use crate::query::totals::TimedTotals;
use crate::record::cost::Prices;
use crate::record::timestamp::Timestamp;
use crate::record::{EventName, tokens};
use crate::system::processes::{self, ProcessTree};

/// Most operations and events that are kept: the newest.
pub(crate) const MOST_ROWS: usize = 10_000;
/// Number and length of the parts of the activity: the last five minutes.
const PARTS: usize = 20;
const PART_US: i64 = 15_000_000;
/// A server that died is shown for this time, or while its session runs.
const SHOWN_DEAD_US: i64 = 3_600_000_000;
/// Shortest time between two computations of the percentiles, and of what agents reported.
const PERCENTILES_US: i64 = 1_000_000;
/// The figures of agents are computed again after this many times the time that it took, and at most after this time.
const PAUSE_PER_JOIN: i64 = 50;
const LONGEST_PAUSE_US: i64 = 10_000_000;

/// The column by which the servers are sorted. Servers that do not run are last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TopOrder {
    #[default]
    Server,
    Calls,
    Errors,
    P95,
    Memory,
    Idle,
    Up,
}

/// The present state of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ServerState {
    Busy,
    Idle,
    /// Its live file is of another pid namespace, such as that of a container.
    Unknown,
    /// Its proxy was killed.
    Killed,
    Dead,
}

/// A row of the table of servers: one connection.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TopServer {
    pub(crate) server_name: String,
    pub(crate) host_name: String,
    pub(crate) cwd: String,
    pub(crate) session_id: String,
    pub(crate) connection_id: String,
    pub(crate) state: ServerState,
    /// The start of the connection, or its end if it is dead.
    pub(crate) since: Timestamp,
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    pub(crate) p95_ms: Option<f64>,
    /// The open requests, oldest first.
    pub(crate) open: Vec<OpenCall>,
    pub(crate) idle_ms: Option<f64>,
    /// Resident memory of the server's processes.
    pub(crate) memory_bytes: Option<u64>,
    /// Number of running servers with the same command, this one included.
    pub(crate) copies: Option<usize>,
    /// Tokens of its definitions, which a turn pays if the client loads all of them.
    pub(crate) definition_tokens_est: Option<u64>,
    /// How it died, or the last error.
    pub(crate) message: String,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct OpenCall {
    pub(crate) name: String,
    pub(crate) is_from_server: bool,
    pub(crate) started_at: Timestamp,
    pub(crate) open_ms: f64,
}

impl TopServer {
    pub(crate) fn is_running(&self) -> bool {
        !matches!(self.state, ServerState::Killed | ServerState::Dead)
    }
}

/// Figures that the agent of a session that runs reported.
#[derive(Clone, Debug)]
pub(crate) struct TopAgent {
    pub(crate) session_id: String,
    pub(crate) hosts: BTreeSet<String>,
    pub(crate) totals: AgentTotals,
}

/// Totals of the records of one connection.
#[derive(Debug, Default)]
struct ConnectionTotals {
    timed: TimedTotals,
    p95_ms: Option<f64>,
    is_changed: bool,
    has_ended: bool,
    /// Bytes of its definitions.
    definitions: Option<LastListing<u64>>,
}

impl ConnectionTotals {
    fn definition_tokens(&self) -> Option<u64> {
        Some(tokens(self.definitions.as_ref()?.last()?.pages.into_iter().sum()))
    }
}

/// The last end of a server in its session.
#[derive(Debug)]
struct LastEnd {
    at: Timestamp,
    connection_id: Box<str>,
    host_name: Box<str>,
    /// How it died, with the last line that it wrote to standard error; `None` for an ordinary end.
    died: Option<String>,
}

#[derive(Debug, Default)]
struct TopTotals {
    connections: HashMap<Box<str>, ConnectionTotals>,
    /// By session and server.
    ends: HashMap<(Box<str>, Box<str>), LastEnd>,
    /// Calls and errors by part of the time.
    activity: BTreeMap<i64, [u64; 2]>,
}

impl TopTotals {
    /// Adds a record of the selected servers, sessions and time.
    fn add(&mut self, entry: &LogEntry<'_>, select: &Selection) {
        if !self.connections.contains_key(&*entry.connection_id) {
            self.connections.insert((*entry.connection_id).into(), ConnectionTotals::default());
        }
        if entry.event == EventName::SessionEnded {
            self.add_end(entry);
        }
        let connection = self.connections.entry((*entry.connection_id).into()).or_default();
        connection.has_ended |= entry.event == EventName::SessionEnded;
        if entry.event == EventName::McpToolCall && select.takes_operation(entry) {
            connection.timed.add(entry, &Prices::default());
            connection.is_changed = true;
            let part = self.activity.entry(entry.timestamp.0.div_euclid(PART_US)).or_default();
            part[0] += u64::from(entry.continues_seq.is_none());
            part[1] += u64::from(entry.status.is_error());
            while self.activity.len() > PARTS {
                self.activity.pop_first();
            }
        }
    }

    /// Adds definitions. They hold for the connection also if they were listed before the selected time.
    fn add_definitions(&mut self, entry: &LogEntry<'_>) {
        let connection = self.connections.entry((*entry.connection_id).into()).or_default();
        connection.definitions.get_or_insert_default().add(entry, entry.definition_bytes.unwrap_or(0));
    }

    fn add_end(&mut self, entry: &LogEntry<'_>) {
        let died = unexpected_end(entry).map(|how| match last_words(entry) {
            Some(words) => format!("{how}: {words}"),
            None => how,
        });
        let end = LastEnd {
            at: entry.timestamp,
            connection_id: (*entry.connection_id).into(),
            host_name: (*entry.host_name).into(),
            died,
        };
        self.keep_end(((*entry.session_id).into(), (*entry.server_name).into()), end);
    }

    fn keep_end(&mut self, key: (Box<str>, Box<str>), end: LastEnd) {
        match self.ends.get(&key) {
            Some(known) if known.at > end.at => {}
            _ => drop(self.ends.insert(key, end)),
        }
    }

    fn merge(&mut self, other: TopTotals) {
        for (id, other) in other.connections {
            let connection = self.connections.entry(id).or_default();
            connection.timed.merge(other.timed);
            connection.is_changed |= other.is_changed;
            connection.has_ended |= other.has_ended;
            if let Some(listing) = other.definitions {
                connection.definitions.get_or_insert_default().merge(listing);
            }
        }
        other.ends.into_iter().for_each(|(key, end)| self.keep_end(key, end));
        for (part, counts) in other.activity {
            let sum = self.activity.entry(part).or_default();
            *sum = [sum[0] + counts[0], sum[1] + counts[1]];
        }
        while self.activity.len() > PARTS {
            self.activity.pop_first();
        }
    }
}

/// Reads what the logs have when the command starts.
pub(crate) struct TopScan<'a> {
    select: &'a Selection,
    names: NamePool,
    totals: TopTotals,
    rows: Greatest<Timestamp, Box<LogRow>>,
}

impl<'a> TopScan<'a> {
    pub(crate) fn new(select: &'a Selection) -> TopScan<'a> {
        let (names, totals) = (NamePool::default(), TopTotals::default());
        TopScan { select, names, totals, rows: Greatest::new(MOST_ROWS) }
    }

    /// Returns the state to which lines are added. `joins` has what agents reported, if that is shown.
    pub(crate) fn finish(self, joins: Option<AgentJoins>) -> TopState {
        let mut rows: Vec<LogRow> = self.rows.finish().into_iter().rev().map(|row| *row).collect();
        drop_repeated(&mut rows);
        let (names, totals) = (self.names, self.totals);
        TopState { names, totals, rows: rows.into(), joins, ..TopState::default() }
    }
}

impl Fold for TopScan<'_> {
    fn take(&mut self, entry: &LogEntry<'_>, line: &[u8]) {
        if entry.event == EventName::ToolsListed && self.select.takes_lasting(entry) {
            self.totals.add_definitions(entry);
        }
        if !self.select.takes_context(entry) {
            return;
        }
        self.totals.add(entry, self.select);
        if LogRow::is_wanted(self.select, entry) {
            let make = |names: &mut NamePool| Box::new(LogRow::new(entry, line, false, names));
            self.rows.offer(entry.timestamp, entry, &mut self.names, make);
        }
    }

    fn merge(&mut self, other: TopScan<'_>) {
        self.totals.merge(other.totals);
        self.rows.merge(other.rows);
    }
}

/// Facts of the system about a server's processes.
#[derive(Debug)]
struct ProcessFacts {
    command: Vec<u8>,
    memory: Option<u64>,
}

/// Everything that the screen shows.
#[derive(Debug, Default)]
pub(crate) struct TopState {
    names: NamePool,
    totals: TopTotals,
    /// Operations and events, oldest first, at most [`MOST_ROWS`].
    pub(crate) rows: VecDeque<LogRow>,
    /// Rows of the present round.
    taken: Vec<LogRow>,
    /// Number of rows that were dropped from the front.
    dropped: u64,
    pub(crate) live: Vec<LiveConnection>,
    /// Connections that run and are not shown.
    pub(crate) other_live: Vec<LiveConnection>,
    /// By connection.
    processes: HashMap<String, ProcessFacts>,
    percentiles_at: Timestamp,
    joins: Option<AgentJoins>,
    /// Figures of the agents of the sessions that run, in the order of the session ids.
    pub(crate) agents: Vec<TopAgent>,
    /// Sentences about what is missing in those figures.
    pub(crate) agent_notes: Vec<String>,
    /// Sentence about sessions that run and of which it is not clear what their agents reported.
    pub(crate) agent_doubt: Option<String>,
    /// The session ids and the time of that computation.
    agents_of: Option<(BTreeSet<String>, Timestamp)>,
    /// Shortest time from then until the next one, in microseconds.
    agents_pause: i64,
    has_new_facts: bool,
}

impl TopState {
    /// Adds a line that the follower read. Returns false if it changes nothing.
    pub(crate) fn take(&mut self, entry: &LogEntry<'_>, new: &NewRecords, select: &Selection) -> bool {
        if !new.takes(entry) {
            return false;
        }
        if let Some(joins) = &mut self.joins {
            self.has_new_facts |= joins.take(entry);
        }
        if !select.takes_context(entry) {
            return false;
        }
        if entry.event == EventName::ToolsListed {
            self.totals.add_definitions(entry);
        }
        self.totals.add(entry, select);
        if LogRow::is_followed(select, entry) {
            self.taken.push(LogRow::new(entry, &[], false, &mut self.names));
        }
        true
    }

    /// Adds the line of a record of an agent that the follower read. Returns false if it changes nothing.
    pub(crate) fn take_of_agent(&mut self, entry: &LogEntry<'_>, line: &[u8], new: &NewRecords) -> bool {
        let Some(joins) = self.joins.as_mut().filter(|_| new.takes(entry)) else { return false };
        joins.take_of_agent(line);
        self.has_new_facts = true;
        true
    }

    /// Adds the rows of the lines that were taken, which came file by file.
    pub(crate) fn settle(&mut self) {
        drop_repeated(&mut self.taken);
        self.taken.sort_by_key(LogRow::at);
        self.rows.extend(self.taken.drain(..));
        let excess = self.rows.len().saturating_sub(MOST_ROWS);
        self.rows.drain(..excess);
        self.dropped += excess as u64;
    }

    /// Returns the row with this number, counted from the first one that was read.
    pub(crate) fn row(&self, number: u64) -> Option<&LogRow> {
        self.rows.get(usize::try_from(number.checked_sub(self.dropped)?).ok()?)
    }

    /// Returns the number that the next row will have.
    pub(crate) fn next_number(&self) -> u64 {
        self.dropped + self.rows.len() as u64
    }

    /// Replaces what is known of the connections that run. Returns false if it is what was known.
    pub(crate) fn set_live(&mut self, live: Vec<LiveConnection>) -> bool {
        let is_same =
            |(a, b): (&LiveConnection, &LiveConnection)| (&a.state, a.liveness) == (&b.state, b.liveness);
        let is_changed = live.len() != self.live.len() || !live.iter().zip(&self.live).all(is_same);
        self.live = live;
        is_changed
    }

    /// Adds a row for each proxy that was killed before, at its last sign of life.
    pub(crate) fn add_killed(&mut self) {
        let totals = &self.totals.connections;
        let has_ended = |id: &str| totals.get(id).is_some_and(|totals| totals.has_ended);
        let killed = live::killed(&self.live, has_ended);
        self.rows.extend(killed.map(|state| LogRow::Event(EventRow::killed(state, state.updated_at))));
        self.rows.make_contiguous().sort_by_key(LogRow::at);
        self.rows.drain(..self.rows.len().saturating_sub(MOST_ROWS));
    }

    /// Adds rows that no record has; `settle` makes them visible.
    pub(crate) fn add_rows(&mut self, rows: impl IntoIterator<Item = LogRow>) {
        self.taken.extend(rows);
    }

    /// Returns true if a request is open, whose time grows.
    pub(crate) fn has_open(&self) -> bool {
        let mut running = self.live.iter().filter(|connection| connection.liveness == Liveness::Running);
        running.any(|connection| !connection.state.open.is_empty())
    }

    /// Asks the system for the memory and the commands of the servers.
    pub(crate) fn measure(&mut self) {
        let tree = ProcessTree::read();
        let mut before = std::mem::take(&mut self.processes);
        for LiveConnection { state, liveness } in &self.live {
            let Some(server) = state.server.as_ref().filter(|_| *liveness == Liveness::Running) else {
                continue;
            };
            let known = before.remove(&state.connection_id).map(|facts| facts.command);
            // A launcher such as `sh -c` replaces itself at the start.
            let command = known.filter(|command| !command.is_empty() && state.calls > 0);
            let facts = ProcessFacts {
                command: command.unwrap_or_else(|| processes::command_line(server.pid)),
                memory: tree.memory(server.pid, server.start_ticks),
            };
            self.processes.insert(state.connection_id.clone(), facts);
        }
    }

    /// Returns the servers that run, sorted by `order`, then those that died.
    pub(crate) fn servers(&mut self, select: &Selection, order: TopOrder, now: Timestamp) -> Vec<TopServer> {
        self.update_percentiles(now);
        let boot = processes::boot_id();
        let is_shown = |connection: &&LiveConnection| {
            let ended = self.totals.connections.get(&*connection.state.connection_id);
            let has_ended = ended.is_some_and(|totals| totals.has_ended);
            !has_ended && (connection.liveness != Liveness::Unknown || connection.state.proxy.boot_id == boot)
        };
        let live: Vec<&LiveConnection> = self.live.iter().filter(is_shown).collect();
        let is_running = |connection: &&&LiveConnection| connection.liveness != Liveness::Killed;
        let sessions: HashSet<&str> =
            live.iter().filter(is_running).map(|connection| &*connection.state.session_id).collect();
        let is_recent =
            |session: &str, at: Timestamp| sessions.contains(session) || now.0 - at.0 < SHOWN_DEAD_US;
        let runs: HashSet<(&str, &str)> = live
            .iter()
            .filter(is_running)
            .map(|LiveConnection { state, .. }| (&*state.session_id, &*state.server_name))
            .collect();
        // A server that its host started again runs.
        let is_latest = |LiveConnection { state, liveness }: &&&LiveConnection| {
            *liveness != Liveness::Killed || !runs.contains(&(&state.session_id, &state.server_name))
        };
        let live_rows = live.iter().filter(is_latest);
        let mut servers: Vec<TopServer> =
            live_rows.map(|connection| self.live_server(connection, select, now)).collect();
        let ends =
            self.totals.ends.iter().filter(|((session, server), _)| !runs.contains(&(session, server)));
        servers.extend(ends.filter_map(|(key, end)| self.dead_server(key, end)));
        servers.retain(|server| server.is_running() || is_recent(&server.session_id, server.since));
        sort(&mut servers, order);
        self.update_agents(&servers, now);
        servers
    }

    fn live_server(&self, connection: &LiveConnection, select: &Selection, now: Timestamp) -> TopServer {
        let LiveConnection { state, liveness } = connection;
        let totals = self.totals.connections.get(&*state.connection_id);
        let counted = totals.filter(|_| select.is_about_operations()).map(|totals| &totals.timed.calls);
        let ms = |at: Timestamp| at.ms_until(now);
        let open: Vec<OpenCall> = state
            .open
            .iter()
            .filter(|_| *liveness == Liveness::Running)
            .map(|request| OpenCall {
                name: request.name().to_owned(),
                is_from_server: request.is_from_server,
                started_at: request.started_at,
                open_ms: ms(request.started_at),
            })
            .collect();
        let process = self.processes.get(&state.connection_id);
        let copies = process
            .filter(|process| !process.command.is_empty())
            .map(|process| self.processes.values().filter(|other| other.command == process.command).count());
        let last_error = state.last_error.as_ref().map(|error| error.message.clone());
        let (server_state, since, message) = match liveness {
            Liveness::Running if !open.is_empty() => (ServerState::Busy, state.started_at, last_error),
            Liveness::Running => (ServerState::Idle, state.started_at, last_error),
            Liveness::Unknown => (ServerState::Unknown, state.started_at, last_error),
            Liveness::Killed => (ServerState::Killed, state.updated_at, Some(state.last_seen_text())),
        };
        TopServer {
            server_name: state.server_name.clone(),
            host_name: state.host_name.clone(),
            cwd: state.cwd.clone(),
            session_id: state.session_id.clone(),
            connection_id: state.connection_id.clone(),
            state: server_state,
            since,
            calls: counted.map_or(state.calls, |calls| calls.calls),
            errors: counted.map_or(state.errors, |calls| calls.errors()),
            p95_ms: totals.and_then(|totals| totals.p95_ms),
            idle_ms: (server_state == ServerState::Idle).then(|| ms(state.updated_at)),
            open,
            memory_bytes: process.and_then(|process| process.memory),
            copies,
            definition_tokens_est: totals.and_then(ConnectionTotals::definition_tokens),
            message: message.unwrap_or_default(),
        }
    }

    /// Returns the row of a server that died.
    fn dead_server(&self, (session, server): &(Box<str>, Box<str>), end: &LastEnd) -> Option<TopServer> {
        let message = end.died.clone()?;
        let totals = self.totals.connections.get(&end.connection_id);
        Some(TopServer {
            server_name: server.to_string(),
            host_name: end.host_name.to_string(),
            cwd: String::new(),
            session_id: session.to_string(),
            connection_id: end.connection_id.to_string(),
            state: ServerState::Dead,
            since: end.at,
            calls: totals.map_or(0, |totals| totals.timed.calls.calls),
            errors: totals.map_or(0, |totals| totals.timed.calls.errors()),
            p95_ms: totals.and_then(|totals| totals.p95_ms),
            open: Vec::new(),
            idle_ms: None,
            memory_bytes: None,
            copies: None,
            definition_tokens_est: totals.and_then(ConnectionTotals::definition_tokens),
            message,
        })
    }

    /// Adds up what the agents of the sessions that run reported.
    fn update_agents(&mut self, servers: &[TopServer], now: Timestamp) {
        let mut hosts: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for server in servers.iter().filter(|server| server.is_running()) {
            let of_session = hosts.entry(&server.session_id).or_default();
            of_session.extend(Some(&server.host_name).filter(|host| !host.is_empty()).cloned());
        }
        let ids: BTreeSet<String> = hosts.keys().map(|id| (*id).to_owned()).collect();
        let pause = self.agents_pause.clamp(PERCENTILES_US, LONGEST_PAUSE_US);
        let is_recent = |at: Timestamp| (0..pause).contains(&now.0.saturating_sub(at.0));
        let is_known = |(known, at): &(BTreeSet<String>, Timestamp)| {
            *known == ids && (!self.has_new_facts || is_recent(*at))
        };
        let Some(joins) = self.joins.as_mut().filter(|_| !self.agents_of.as_ref().is_some_and(is_known))
        else {
            return;
        };
        let begun = Instant::now();
        let joined = joins.join(self.live.iter().chain(&self.other_live));
        let mut totals = joined.totals_of(hosts.keys().copied());
        self.agent_notes = joined.notes();
        self.agent_doubt = joined.doubt(|id| ids.contains(id));
        self.agents = hosts
            .into_iter()
            .filter_map(|(id, hosts)| {
                Some(TopAgent { session_id: id.to_owned(), hosts, totals: totals.remove(id)? })
            })
            .collect();
        self.agents_pause = begun.elapsed().as_micros() as i64 * PAUSE_PER_JOIN;
        (self.agents_of, self.has_new_facts) = (Some((ids, now)), false);
    }

    fn update_percentiles(&mut self, now: Timestamp) {
        if (0..PERCENTILES_US).contains(&now.0.saturating_sub(self.percentiles_at.0)) {
            return;
        }
        self.percentiles_at = now;
        for totals in self.totals.connections.values_mut().filter(|totals| totals.is_changed) {
            totals.p95_ms = totals.timed.durations.quantiles([0.95]).map(|[p95]| p95);
            totals.is_changed = false;
        }
    }

    /// Returns calls and errors of the last five minutes, by part of that time.
    pub(crate) fn activity(&self, now: Timestamp) -> Vec<[u64; 2]> {
        let last = now.0.div_euclid(PART_US);
        let parts = last - PARTS as i64 + 1..=last;
        parts.map(|part| self.totals.activity.get(&part).copied().unwrap_or_default()).collect()
    }
}

fn sort(servers: &mut [TopServer], order: TopOrder) {
    servers.sort_by(|a, b| {
        let by = match order {
            TopOrder::Server => std::cmp::Ordering::Equal,
            TopOrder::Calls => b.calls.cmp(&a.calls),
            TopOrder::Errors => b.errors.cmp(&a.errors),
            TopOrder::P95 => b.p95_ms.unwrap_or(-1.0).total_cmp(&a.p95_ms.unwrap_or(-1.0)),
            TopOrder::Memory => b.memory_bytes.cmp(&a.memory_bytes),
            TopOrder::Idle => b.idle_ms.unwrap_or(-1.0).total_cmp(&a.idle_ms.unwrap_or(-1.0)),
            TopOrder::Up => a.since.cmp(&b.since),
        };
        let by_name =
            || (&a.server_name, a.since, &a.connection_id).cmp(&(&b.server_name, b.since, &b.connection_id));
        b.is_running().cmp(&a.is_running()).then(by).then_with(by_name)
    });
}
