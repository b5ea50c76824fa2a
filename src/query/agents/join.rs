//! Joins what agents reported to the sessions on the wire, for every command that shows it.
//!
//! One scan reads the facts (`facts`) and the keys of all sessions (`wire`), whatever is selected; `assign` says which
//! fact belongs to which session. So a session has the same figures in each view.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::query::agents::assign::{NEAR_US, TimedSession, assign};
use crate::query::agents::facts::{CountedFact, FactTable, FactsOf, is_of_agent, left_out_text};
use crate::query::agents::sent::sent_tools;
use crate::query::agents::totals::{AgentTotals, AmbiguousRuns};
use crate::query::agents::turn_times::{TurnPart, TurnTimes};
use crate::query::agents::wire::{SessionKeys, WireTable};
use crate::query::entry::LogEntry;
use crate::query::files::{LogSource, TimeWindow};
use crate::query::live::{LiveConnection, Liveness};
use crate::query::nested::inner_connections;
use crate::query::scan::Fold;
use crate::query::select::Selection;
use crate::query::sessions::SessionTotals;
use crate::query::totals::ReportedTurns;
use crate::record::file_name::{SessionFileName, unpacked};
use crate::record::timestamp::Timestamp;
use crate::record::words::ToolDecision;

/// Beginning of the names of the collector's logs.
const COLLECTOR: &str = "collect";

/// Returns the logs of the collector, and those whose names do not say what they are. A stream was read before.
pub(crate) fn agent_logs(sources: &[LogSource]) -> Vec<LogSource> {
    let may_have = |source: &&LogSource| {
        let name = file_name(source);
        name.is_some_and(|name| SessionFileName::parse(name).is_none_or(|name| name.server == COLLECTOR))
    };
    sources.iter().filter(may_have).cloned().collect()
}

/// Returns true if the name of a log says that it is of the collector.
pub(crate) fn is_of_collector(source: &LogSource) -> bool {
    file_name(source).and_then(SessionFileName::parse).is_some_and(|name| name.server == COLLECTOR)
}

fn file_name(source: &LogSource) -> Option<&str> {
    source.path().and_then(|path| path.file_name()?.to_str()).map(unpacked)
}

/// The facts of agents and the keys of all sessions.
#[derive(Clone, Debug)]
pub(crate) struct AgentJoins {
    facts: FactTable,
    wire: WireTable,
    /// False if the sessions of the facts are not asked for.
    has_sessions: bool,
}

impl AgentJoins {
    /// Creates an empty table for the records of `sources` in `window`. Returns `None` if no agent can have reported
    /// anything there.
    pub(crate) fn of(sources: &[LogSource], window: TimeWindow) -> Option<AgentJoins> {
        let is_stream = |source: &LogSource| source.path().is_none();
        let may_have = sources.iter().any(is_stream) || !agent_logs(sources).is_empty();
        let inner = || inner_connections(sources, &Selection::default());
        may_have.then(|| AgentJoins::new(window, inner()))
    }

    pub(crate) fn new(window: TimeWindow, inner: HashSet<Box<str>>) -> AgentJoins {
        let wire = WireTable::new(window, Arc::new(inner));
        AgentJoins { facts: FactTable::new(window, None), wire, has_sessions: true }
    }

    /// Creates an empty table of facts of which the sessions are not asked for.
    pub(crate) fn without_sessions(window: TimeWindow) -> AgentJoins {
        AgentJoins { has_sessions: false, ..AgentJoins::new(window, HashSet::new()) }
    }

    /// Returns an empty table of the same records, but without facts that cannot be of the session of `only`.
    pub(crate) fn for_only(&self, only: FactsOf) -> AgentJoins {
        AgentJoins { facts: self.facts.emptied(only), wire: self.wire.emptied(), has_sessions: true }
    }

    fn wants(&self, line: &[u8]) -> bool {
        self.has_sessions || is_of_agent(line)
    }

    /// Takes a record of a connection. Returns false if it changes no join by an id, a name or a process.
    pub(crate) fn take(&mut self, entry: &LogEntry<'_>) -> bool {
        self.has_sessions && self.wire.take(entry)
    }

    pub(crate) fn take_of_agent(&mut self, line: &[u8]) {
        self.facts.take(line);
    }

    pub(crate) fn merge(&mut self, other: AgentJoins) {
        self.facts.merge(other.facts);
        self.wire.merge(other.wire);
    }

    /// Returns the facts with their sessions. `live` are all connections that have a live file. A session that runs has
    /// no end. Any other one, also one of which it cannot be known, ends with its last record or the last change of its
    /// live file, which can be a request that has no record yet.
    pub(crate) fn join<'l>(&mut self, live: impl IntoIterator<Item = &'l LiveConnection>) -> JoinedFacts<'_> {
        self.facts.settle();
        let mut of_session: HashMap<&str, Vec<&LiveConnection>> = HashMap::new();
        for connection in live {
            of_session.entry(&connection.state.session_id).or_default().push(connection);
        }
        let is_running = |id: &str| {
            let of_session = of_session.get(id).into_iter().flatten();
            of_session.into_iter().any(|connection| connection.liveness == Liveness::Running)
        };
        let last_change = |id: &str| {
            let of_session = of_session.get(id).into_iter().flatten();
            of_session.map(|connection| connection.state.updated_at.0).max().unwrap_or(i64::MIN)
        };
        // A session without a record in the logs can have facts, too.
        let is_known = |id: &str| self.wire.has(id);
        let unknown: Vec<SessionKeys> = of_session
            .iter()
            .filter(|(id, _)| !is_known(id))
            .map(|(id, connections)| keys_of_live(id, connections))
            .collect();
        let keys: Vec<&SessionKeys> = self.wire.sessions.iter().chain(&unknown).collect();
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by_key(|at| &keys[*at].id);
        let session = |at: &usize| {
            let (first, last) = keys[*at].span.get().unwrap_or_default();
            let id = &*keys[*at].id;
            let last = if is_running(id) { i64::MAX - NEAR_US } else { last.0.max(last_change(id)) };
            TimedSession { keys: keys[*at], first: first.0, last }
        };
        let sessions: Vec<TimedSession<'_>> = order.iter().map(session).collect();
        let mut place = vec![0; keys.len()];
        order.iter().enumerate().for_each(|(new, at)| place[*at] = new);
        let (facts, records): (Vec<&CountedFact>, Vec<[Option<u64>; 2]>) =
            self.facts.facts().into_iter().unzip();
        let found = assign(&facts, &sessions, &place, &self.wire);
        let sent = sent_tools(&facts, &found.session_of, &self.wire, &place);
        let (turns, turns_in) = turns_of(&facts, &found.session_of, &sessions, &self.wire, &place);
        let id = |at: usize| Arc::clone(&sessions[at].keys.id);
        let joined = facts.into_iter().zip(records).zip(&found.session_of).enumerate();
        JoinedFacts {
            facts: joined
                .map(|(at, ((fact, records), session))| JoinedFact {
                    fact,
                    records,
                    session: session.map(id),
                    was_refused: fact.decision == Some(ToolDecision::Refused) && !sent.contains(&at),
                })
                .collect(),
            turns,
            turns_in,
            sessions: (0..sessions.len()).map(id).collect(),
            ambiguous: found.ambiguous.into_iter().map(|(at, runs)| (id(at), runs)).collect(),
            left_out: self.facts.left_out(),
            calls_left_out: self.wire.left_out,
        }
    }
}

/// Returns what is known of a session without a record in the logs.
fn keys_of_live(id: &str, connections: &[&LiveConnection]) -> SessionKeys {
    let mut keys = SessionKeys::new(id);
    for LiveConnection { state, .. } in connections {
        keys.add_host(&state.host_name);
        keys.span.add(state.started_at, state.started_at);
    }
    keys
}

/// One fact, and the session that it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct JoinedFact<'t> {
    pub(crate) fact: &'t CountedFact,
    /// The numbers of its records.
    records: [Option<u64>; 2],
    pub(crate) session: Option<Arc<str>>,
    /// True if it is a tool that its agent refused, and no server was asked.
    pub(super) was_refused: bool,
}

/// Returns the turns that agents reported, and the number of turns of each session with facts: those of its agent, and
/// those of calls that belong to none of them.
fn turns_of(
    facts: &[&CountedFact],
    session_of: &[Option<usize>],
    sessions: &[TimedSession<'_>],
    wire: &WireTable,
    place: &[usize],
) -> (ReportedTurns, HashMap<Arc<str>, u64>) {
    let mut parts: HashMap<usize, Vec<TurnPart>> = HashMap::new();
    for (fact, session) in facts.iter().zip(session_of) {
        if let Some(session) = session {
            let part = TurnPart::new(fact.event, &fact.turn_id, fact.began, fact.ended);
            parts.entry(*session).or_default().push(part);
        }
    }
    let times = parts.into_iter().map(|(session, parts)| (session, TurnTimes::new(&parts)));
    let mut times: HashMap<usize, TurnTimes> = times.collect();
    let calls = || wire.calls.iter().filter(|call| call.turn != 0);
    for call in calls() {
        if let Some(times) = times.get_mut(&place[call.session as usize]) {
            times.note(Some(call.turn_link));
        }
    }
    // The turns of the calls of these sessions; true if it is one of the agent.
    let mut of_calls: HashMap<u64, (usize, bool)> = HashMap::new();
    for call in calls() {
        let session = place[call.session as usize];
        if let Some(times) = times.get(&session) {
            let (_, is_covered) = of_calls.entry(call.turn).or_insert((session, false));
            *is_covered = *is_covered || times.covers(Some(call.turn_link), call.started);
        }
    }
    let mut reported = ReportedTurns::default();
    let mut counts: HashMap<usize, u64> =
        times.iter().map(|(session, times)| (*session, times.count)).collect();
    counts.iter().for_each(|(session, count)| reported.add(&sessions[*session].keys.id, *count));
    for (turn, (session, is_covered)) in of_calls {
        match is_covered {
            true => reported.cover(turn),
            false => *counts.entry(session).or_default() += 1,
        }
    }
    let id = |session: usize| Arc::clone(&sessions[session].keys.id);
    (reported, counts.into_iter().map(|(session, count)| (id(session), count)).collect())
}

/// The facts in the order of their beginnings, joined to sessions.
#[derive(Clone, Debug, Default)]
pub(crate) struct JoinedFacts<'t> {
    pub(crate) facts: Vec<JoinedFact<'t>>,
    /// Ids of all sessions, also of those without facts.
    sessions: Vec<Arc<str>>,
    turns: ReportedTurns,
    /// Number of turns of each session with facts.
    turns_in: HashMap<Arc<str>, u64>,
    ambiguous: HashMap<Arc<str>, AmbiguousRuns>,
    left_out: u64,
    calls_left_out: u64,
}

impl JoinedFacts<'_> {
    /// Returns what the agents of these sessions reported, by session.
    pub(crate) fn totals_of<'s>(
        &self,
        sessions: impl Iterator<Item = &'s str>,
    ) -> HashMap<&'s str, AgentTotals> {
        let mut totals: HashMap<&str, Option<AgentTotals>> = sessions.map(|id| (id, None)).collect();
        for JoinedFact { fact, session, was_refused, .. } in &self.facts {
            if let Some(totals) = session.as_deref().and_then(|id| totals.get_mut(id)) {
                totals.get_or_insert_default().add(&fact.record(), *was_refused);
            }
        }
        for (id, totals) in &mut totals {
            if let Some(totals) = totals {
                totals.turns = self.turns_in.get(*id).copied().unwrap_or(0);
            }
        }
        totals.into_iter().filter_map(|(id, totals)| Some((id, totals?))).collect()
    }

    /// Returns the turns that agents reported.
    pub(crate) fn turns(&self) -> &ReportedTurns {
        &self.turns
    }

    /// Adds to each session what its agent reported.
    pub(crate) fn add_to(&self, sessions: &mut [(String, SessionTotals)]) {
        let ids: Vec<String> = sessions.iter().map(|(id, _)| id.clone()).collect();
        let mut totals = self.totals_of(ids.iter().map(String::as_str));
        for (id, session) in sessions {
            session.turns.tell(&self.turns);
            session.agent = totals.remove(id.as_str());
            session.ambiguous_runs = self.ambiguous.get(id.as_str()).cloned();
        }
    }

    /// Returns the numbers of the records that belong to a session.
    pub(crate) fn records_of(&self, session_id: &str) -> HashSet<u64> {
        let own = self.facts.iter().filter(|joined| joined.session.as_deref() == Some(session_id));
        own.flat_map(|joined| joined.records).flatten().collect()
    }

    /// Returns the runs of an agent that could be the session's, if that is not clear.
    pub(crate) fn ambiguous_of(&self, session_id: &str) -> Option<&AmbiguousRuns> {
        self.ambiguous.get(session_id)
    }

    /// Keeps the facts of the selected session, by its id or by that of its connection. The id that the agent has for it
    /// selects facts without a session; if no session has that id, all facts with it.
    pub(crate) fn retain_selected(&mut self, select: &Selection) {
        let JoinedFacts { facts, sessions, .. } = self;
        let (only, wanted) = (select.only_session.as_deref(), select.session.as_deref());
        let has_only = only.is_some_and(|only| sessions.iter().any(|id| **id == *only));
        let has_wanted = wanted.is_some() && sessions.iter().any(|id| select.takes_session(id));
        facts.retain(|JoinedFact { fact, session, .. }| {
            let session = session.as_deref();
            let is_only = |only: &str| match session {
                Some(id) if has_only => id == only,
                _ => fact.has_id(only),
            };
            let is_wanted = |wanted: &str| match session {
                Some(id) if has_wanted => select.takes_session(id),
                _ => fact.session_id.starts_with(wanted),
            };
            only.is_none_or(is_only) && wanted.is_none_or(is_wanted)
        });
    }

    /// Returns true if some facts were left out.
    pub(crate) fn is_cut(&self) -> bool {
        self.left_out > 0
    }

    /// Returns, as one sentence, that reports are left out because it is not clear to which of these sessions they
    /// belong; `None` if that is clear.
    pub(crate) fn doubt(&self, is_shown: impl Fn(&str) -> bool) -> Option<String> {
        let mut doubtful: Vec<&str> =
            self.ambiguous.keys().map(|id| &**id).filter(|id| is_shown(id)).collect();
        doubtful.sort_unstable();
        let first = doubtful.first()?;
        let sessions = match doubtful.len() {
            1 => "1 session".to_owned(),
            count => format!("{count} sessions"),
        };
        Some(format!(
            "what the agents of {sessions} reported is left out: no id says which run is theirs; \
             `spantap show {first}` prints a way out"
        ))
    }

    /// Returns what was left out, one sentence each.
    pub(crate) fn notes(&self) -> Vec<String> {
        let calls = (self.calls_left_out > 0).then(|| {
            format!(
                "{} earlier calls are not joined to what agents reported; select a shorter time with --since or --on",
                self.calls_left_out
            )
        });
        left_out_text(self.left_out).into_iter().chain(calls).collect()
    }
}

/// The answer of a command, with what agents reported in the same scan.
pub(crate) struct WithAgents<F> {
    pub(crate) fold: F,
    pub(crate) agents: Option<AgentJoins>,
}

impl<F: Fold> Fold for WithAgents<F> {
    fn wants(&self, line: &[u8]) -> bool {
        self.agents.as_ref().is_some_and(|agents| agents.wants(line)) || self.fold.wants(line)
    }

    fn take(&mut self, entry: &LogEntry<'_>, line: &[u8]) {
        if let Some(agents) = &mut self.agents {
            agents.take(entry);
        }
        self.fold.take(entry, line);
    }

    fn take_of_agent(&mut self, line: &[u8]) {
        if let Some(agents) = &mut self.agents {
            agents.take_of_agent(line);
        }
        self.fold.take_of_agent(line);
    }

    fn merge(&mut self, other: WithAgents<F>) {
        self.fold.merge(other.fold);
        if let (Some(agents), Some(others)) = (&mut self.agents, other.agents) {
            agents.merge(others);
        }
    }
}

/// Returns the time in which a record of an agent can belong to a session from `first` to `last`.
pub(crate) fn time_near((first, last): (Timestamp, Timestamp)) -> (Timestamp, Timestamp) {
    (Timestamp(first.0.saturating_sub(NEAR_US)), Timestamp(last.0.saturating_add(NEAR_US)))
}

#[cfg(test)]
mod tests;
