//! `spantap sessions`: totals of each agent session, or of each connection.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::query::agents::totals::{AgentTotals, AmbiguousRuns};
use crate::query::entry::LogEntry;
use crate::query::errors;
use crate::query::event::unexpected_end;
use crate::query::files::TimeWindow;
use crate::query::listing::LastListing;
use crate::query::live::{self, LiveConnection, Liveness};
use crate::query::scan::Fold;
use crate::query::select::Selection;
use crate::query::totals::{CallTotals, TimeSpan, TurnCounts};
use crate::record::cost::Prices;
use crate::record::live::{LiveRequest, LiveState};
use crate::record::timestamp::Timestamp;
use crate::record::{EventName, tokens};

/// Adds up the selected records by session, or by connection.
pub struct SessionTable<'a> {
    select: &'a Selection,
    prices: &'a Prices,
    by_connection: bool,
    sessions: HashMap<Box<str>, SessionTotals>,
}

#[derive(Clone, Debug, Default)]
pub struct SessionTotals {
    pub(crate) session_id: String,
    pub(crate) span: TimeSpan,
    pub(crate) hosts: BTreeSet<String>,
    pub(crate) servers: BTreeMap<String, u64>,
    pub(crate) connections: BTreeSet<String>,
    pub(crate) calls: CallTotals,
    pub(crate) turns: TurnCounts,
    pub(crate) operations: u64,
    /// Greatest number of identical calls that an `agent_thrashing` event reported.
    pub(crate) thrashing: u64,
    /// True if such an event was an alarm.
    pub(crate) has_thrashing_alarm: bool,
    pub(crate) malformed: u64,
    /// Lists of tools that differed from the one before.
    pub(crate) tool_changes: u64,
    /// The last such change: its time, server and words.
    pub(crate) last_tool_change: Option<(Timestamp, String)>,
    /// Bytes of the definitions that each server listed last.
    definitions: BTreeMap<String, LastListing<u64>>,
    /// True if records or bytes were lost.
    pub(crate) is_lossy: bool,
    /// Servers that ended without being asked to, each with how it ended, and how often.
    pub(crate) deaths: BTreeMap<String, u64>,
    /// Working folders of the servers.
    pub(crate) folders: BTreeSet<String>,
    /// Runs of an agent of which one can be the session's; `None` if that is clear.
    pub(crate) ambiguous_runs: Option<AmbiguousRuns>,
    /// Figures that its agent reported; `None` without any.
    pub(crate) agent: Option<AgentTotals>,
    /// Connections whose end was recorded.
    ended: BTreeSet<String>,
    /// The connections that run now.
    pub(crate) running: Vec<LiveState>,
    /// True if the session goes on, so that its time is until now.
    pub(crate) goes_on: bool,
    /// Servers whose proxy was killed, each with the request that was open.
    pub(crate) killed: BTreeSet<String>,
    /// Number of failures by tool and message, at most [`FAILURES`] of them.
    failures: BTreeMap<(String, String), u64>,
}

/// Most messages of one session that are counted apart.
const FAILURES: usize = 50;

impl<'a> SessionTable<'a> {
    pub fn new(select: &'a Selection, prices: &'a Prices, by_connection: bool) -> SessionTable<'a> {
        SessionTable { select, prices, by_connection, sessions: HashMap::new() }
    }

    /// Returns the sessions, newest first; with `thrashing`, only those with more identical calls.
    pub fn finish(self, thrashing: Option<u64>) -> Vec<(String, SessionTotals)> {
        let about_operations = self.select.is_about_operations();
        let mut sessions: Vec<(String, SessionTotals)> = self
            .sessions
            .into_iter()
            .map(|(id, mut session)| {
                session.turns.settle();
                (String::from(id), session)
            })
            .filter(|(_, session)| !about_operations || session.operations > 0)
            .filter(|(_, session)| thrashing.is_none_or(|most| session.most_repeats() > most))
            .collect();
        sessions.sort_by(|(a_id, a), (b_id, b)| b.span.get().cmp(&a.span.get()).then(a_id.cmp(b_id)));
        sessions
    }
}

impl SessionTotals {
    /// Returns the greatest number of identical calls in one conversation.
    pub(crate) fn most_repeats(&self) -> u64 {
        self.thrashing.max(self.calls.most_repeats.into())
    }

    /// Returns the estimated tokens of all definitions, which are not part of those of the calls. `None` if no list of
    /// tools was recorded.
    pub(crate) fn definition_tokens(&self) -> Option<u64> {
        let bytes = self.definitions.values().filter_map(LastListing::last).flat_map(|last| last.pages).sum();
        (!self.definitions.is_empty()).then(|| tokens(bytes))
    }

    /// Adds what is known of the connections now.
    pub(crate) fn add_live(&mut self, live: &[LiveConnection]) {
        for LiveConnection { state, liveness } in live {
            match liveness {
                _ if !self.connections.contains(&state.connection_id) => {}
                Liveness::Running => self.running.push(state.clone()),
                Liveness::Killed | Liveness::Unknown => {}
            }
        }
        let killed =
            self.killed_of(live).map(|state| format!("{}: {}", state.server_name, state.killed_text()));
        self.killed = killed.collect();
    }

    /// Returns the connections of this session whose proxy was killed.
    pub(crate) fn killed_of<'l>(&self, live: &'l [LiveConnection]) -> impl Iterator<Item = &'l LiveState> {
        let of_session = |state: &&LiveState| self.connections.contains(&state.connection_id);
        live::killed(live, |id| self.ended.contains(id)).filter(of_session)
    }

    /// Lets a session with a connection that runs last until `now`, unless `now` is not selected.
    pub(crate) fn last_until(&mut self, now: Timestamp, window: TimeWindow) {
        self.goes_on = !self.running.is_empty() && window.contains(now);
        if let Some((first, _)) = self.span.get().filter(|_| self.goes_on) {
            self.span.add(first, now);
        }
    }

    /// Returns the open requests of the connections that run.
    pub(crate) fn open(&self) -> impl Iterator<Item = (&LiveState, &LiveRequest)> {
        self.running.iter().flat_map(|state| state.open.iter().map(move |request| (state, request)))
    }

    /// Returns tool, message and number of the most frequent failure.
    pub(crate) fn worst_failure(&self) -> Option<(&str, &str, u64)> {
        let ((tool, message), count) = self.failures.iter().max_by_key(|(_, count)| **count)?;
        Some((tool, message, *count))
    }

    fn add_failure(&mut self, failure: (String, String), count: u64) {
        if self.failures.len() < FAILURES || self.failures.contains_key(&failure) {
            *self.failures.entry(failure).or_default() += count;
        }
    }

    /// Adds a record of the selected servers, sessions and time.
    pub(super) fn add(&mut self, entry: &LogEntry<'_>, select: &Selection, prices: &Prices) {
        self.span.add(entry.started(), entry.timestamp);
        insert(&mut self.hosts, &entry.host_name);
        insert(&mut self.connections, &entry.connection_id);
        if self.session_id.is_empty() {
            self.session_id = entry.session_id.to_string();
        }
        if !self.servers.contains_key(&*entry.server_name) {
            self.servers.insert(entry.server_name.to_string(), 0);
        }
        if !entry.is_operation() {
            self.add_event(entry);
        } else if select.takes_operation(entry) {
            self.operations += 1;
            if entry.status.is_error() && !entry.is_failure_of_task() {
                let failure = (entry.name().to_owned(), errors::masked(errors::message(entry)));
                self.add_failure(failure, 1);
            }
            if entry.event == EventName::McpToolCall {
                self.turns.add(entry);
                self.calls.add(entry, prices);
                if let Some(calls) = self.servers.get_mut(&*entry.server_name) {
                    *calls += u64::from(entry.continues_seq.is_none());
                }
            }
        }
    }

    fn add_event(&mut self, entry: &LogEntry<'_>) {
        match entry.event {
            EventName::SessionStarted => insert(&mut self.folders, &entry.cwd),
            EventName::AgentThrashing => {
                self.thrashing = self.thrashing.max(entry.count.unwrap_or(0));
                self.has_thrashing_alarm |= &*entry.level != "info";
            }
            EventName::Malformed => {
                self.malformed = self.malformed.saturating_add(entry.count.unwrap_or(1));
            }
            EventName::ToolsChanged => {
                self.tool_changes = self.tool_changes.saturating_add(entry.count.unwrap_or(1));
                let change = (entry.timestamp, format!("{}: {}", &*entry.server_name, &*entry.message));
                self.last_tool_change = self.last_tool_change.take().max(Some(change));
            }
            EventName::ToolsListed => {
                let server = self.definitions.entry(entry.server_name.to_string()).or_default();
                server.add(entry, entry.definition_bytes.unwrap_or(0));
            }
            EventName::Gap => self.is_lossy = true,
            EventName::SessionEnded => {
                insert(&mut self.ended, &entry.connection_id);
                if let Some(how) = unexpected_end(entry) {
                    *self.deaths.entry(format!("{} {how}", &*entry.server_name)).or_default() += 1;
                }
            }
            _ => {}
        }
    }

    pub(super) fn merge(&mut self, other: SessionTotals) {
        self.span.merge(other.span);
        self.hosts.extend(other.hosts);
        for (server, calls) in other.servers {
            *self.servers.entry(server).or_default() += calls;
        }
        self.connections.extend(other.connections);
        if self.session_id.is_empty() {
            self.session_id = other.session_id;
        }
        self.calls.merge(&other.calls);
        self.turns.merge(other.turns);
        self.operations += other.operations;
        self.thrashing = self.thrashing.max(other.thrashing);
        self.has_thrashing_alarm |= other.has_thrashing_alarm;
        self.malformed = self.malformed.saturating_add(other.malformed);
        self.tool_changes = self.tool_changes.saturating_add(other.tool_changes);
        self.last_tool_change = self.last_tool_change.take().max(other.last_tool_change);
        self.is_lossy |= other.is_lossy;
        for (server, listing) in other.definitions {
            self.definitions.entry(server).or_default().merge(listing);
        }
        for (death, count) in other.deaths {
            *self.deaths.entry(death).or_default() += count;
        }
        self.ended.extend(other.ended);
        self.folders.extend(other.folders);
        other.failures.into_iter().for_each(|(failure, count)| self.add_failure(failure, count));
    }
}

/// Copies `text` into `set` only if it is new.
fn insert(set: &mut BTreeSet<String>, text: &str) {
    if !text.is_empty() && !set.contains(text) {
        set.insert(text.to_owned());
    }
}

impl Fold for SessionTable<'_> {
    fn take(&mut self, entry: &LogEntry<'_>, _line: &[u8]) {
        if !self.select.takes_context(entry) {
            return;
        }
        let id = if self.by_connection { &entry.connection_id } else { &entry.session_id };
        match self.sessions.get_mut(&**id) {
            Some(session) => session.add(entry, self.select, self.prices),
            None => {
                let mut session = SessionTotals::default();
                session.add(entry, self.select, self.prices);
                self.sessions.insert((**id).into(), session);
            }
        }
    }

    fn merge(&mut self, other: SessionTable<'_>) {
        for (id, session) in other.sessions {
            self.sessions.entry(id).or_default().merge(session);
        }
    }
}
