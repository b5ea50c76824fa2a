//! The telemetry of agents and servers that `spantap collect` recorded, and how it belongs to one session.
//!
//! [`RunKeys`] has what is known of a session. [`read`] finds the agent runs that belong to it, then keeps their
//! lines; a record of another run is never kept. `joins` says which call belongs to which tool and model call, `chain`
//! makes the tree of them, `totals` adds up tokens and
//! cost, and `table` does so over all sessions.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::AtomicU64;

use memchr::memmem;
use serde::Deserialize;

use crate::query::entry::{EntryText, LogEntry};
use crate::query::files::{LogSource, TimeWindow};
use crate::query::find::OperationMatch;
use crate::query::row::handle;
use crate::query::scan::{Fold, scan};
use crate::query::sessions::SessionTotals;
use crate::record::EventName;
use crate::record::agent::AgentRecord;
use crate::record::file_name::{SessionFileName, unpacked};
use crate::record::timestamp::Timestamp;

pub(crate) mod chain;
pub(crate) mod find;
pub(crate) mod joins;
pub(crate) mod table;
pub(crate) mod totals;

/// Beginning of the names of the collector's logs.
const COLLECTOR: &str = "collect";
/// Longest time between a session and a record of its agent that has only the name of its host.
const NEAR_US: i64 = 60_000_000;

/// The needed fields of one line of an agent's record. An absent text is empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct RunEntry<'a> {
    event: EventName,
    timestamp: Timestamp,
    session_id: EntryText<'a>,
    connection_id: EntryText<'a>,
    agent_name: EntryText<'a>,
    conversation_id: EntryText<'a>,
    trace_id: EntryText<'a>,
    call_id: EntryText<'a>,
}

impl RunEntry<'_> {
    /// Returns true if the agent reported no id of a session or conversation.
    fn is_anonymous(&self) -> bool {
        self.session_id == self.connection_id
    }
}

/// Ids and time of a session whose agent is looked for.
#[derive(Debug, Default)]
pub(crate) struct RunKeys {
    /// Ids of the session and of its conversations.
    ids: HashSet<Box<str>>,
    traces: HashSet<Box<str>>,
    call_ids: HashSet<Box<str>>,
    hosts: BTreeSet<String>,
    span: Option<(Timestamp, Timestamp)>,
}

/// Way in which a run of an agent belongs to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum RunTie {
    /// The agent has the name of the session's host and ran at the same time.
    HostName,
    /// They have an id in common.
    Id,
}

impl RunKeys {
    /// Returns the keys of a session from its totals and its operations.
    pub(crate) fn new(session_id: &str, totals: &SessionTotals, operations: &[OperationMatch]) -> RunKeys {
        let texts = |text: fn(&OperationMatch) -> &str| -> HashSet<Box<str>> {
            operations.iter().map(text).filter(|text| !text.is_empty()).map(Box::from).collect()
        };
        let mut ids = texts(|operation| &operation.row.conversation_id);
        ids.insert(session_id.into());
        RunKeys {
            ids,
            traces: texts(|operation| &operation.ids.trace_id),
            call_ids: texts(|operation| &operation.ids.call_id),
            hosts: totals.hosts.iter().map(|host| agent_of(host).to_owned()).collect(),
            span: totals.span.get(),
        }
    }

    fn is_near(&self, at: Timestamp) -> bool {
        self.span.is_some_and(|(first, last)| at.0 >= first.0 - NEAR_US && at.0 <= last.0 + NEAR_US)
    }

    /// Returns how the record itself belongs to the session.
    fn tie(&self, entry: &RunEntry<'_>) -> Option<RunTie> {
        let has = |set: &HashSet<Box<str>>, id: &EntryText<'_>| !id.is_empty() && set.contains(&**id);
        let has_id = has(&self.ids, &entry.session_id)
            || has(&self.ids, &entry.conversation_id)
            || has(&self.call_ids, &entry.call_id)
            || has(&self.traces, &entry.trace_id);
        let is_host = || self.hosts.contains(&*entry.agent_name) && self.is_near(entry.timestamp);
        match has_id {
            true => Some(RunTie::Id),
            false => is_host().then_some(RunTie::HostName),
        }
    }
}

/// Returns the name of the agent whose MCP client has this name. Codex and Gemini CLI name their clients apart.
fn agent_of(host: &str) -> &str {
    host.strip_suffix("-mcp-client").unwrap_or(host)
}

/// Returns the logs of the collector, and those whose names do not say what they are. A stream was read before.
pub(crate) fn agent_logs(sources: &[LogSource]) -> Vec<LogSource> {
    let may_have = |source: &&LogSource| {
        let name = source.path().and_then(|path| path.file_name()?.to_str()).map(unpacked);
        name.is_some_and(|name| SessionFileName::parse(name).is_none_or(|name| name.server == COLLECTOR))
    };
    sources.iter().filter(may_have).cloned().collect()
}

/// Reads the records of the agents that belong to the session of `keys`.
pub(crate) fn read(sources: &[LogSource], window: TimeWindow, keys: &RunKeys) -> RunLines {
    let sources = agent_logs(sources);
    if sources.is_empty() {
        return RunLines::default();
    }
    let progress = AtomicU64::new(0);
    let (runs, _) = scan(&sources, || RunSearch { keys, runs: HashMap::new() }, &progress);
    if runs.runs.is_empty() {
        return RunLines::default();
    }
    let runs = &runs.runs;
    let (reader, _) = scan(&sources, || RunReader { keys, runs, window, lines: Vec::new() }, &progress);
    RunLines { lines: reader.lines }
}

/// Name of the agent, and its session id; the id is empty if the agent reported none.
type RunName = (Box<str>, Box<str>);

fn run_of(entry: &RunEntry<'_>) -> RunName {
    let id = if entry.is_anonymous() { "" } else { &*entry.session_id };
    ((&*entry.agent_name).into(), id.into())
}

fn is_of_agent(line: &[u8]) -> bool {
    memmem::find(line, b"\"agent_name\"").is_some()
}

/// Finds the runs of agents that belong to a session.
struct RunSearch<'k> {
    keys: &'k RunKeys,
    runs: HashMap<RunName, RunTie>,
}

impl RunSearch<'_> {
    fn add(&mut self, run: RunName, tie: RunTie) {
        let known = self.runs.entry(run).or_insert(tie);
        *known = tie.max(*known);
    }
}

impl Fold for RunSearch<'_> {
    fn wants(&self, line: &[u8]) -> bool {
        is_of_agent(line)
    }

    fn take(&mut self, _: &LogEntry<'_>, _: &[u8]) {}

    fn take_of_agent(&mut self, line: &[u8]) {
        let Ok(entry) = serde_json::from_slice::<RunEntry<'_>>(line) else { return };
        if let Some(tie) = self.keys.tie(&entry) {
            self.add(run_of(&entry), tie);
        }
    }

    fn merge(&mut self, other: RunSearch<'_>) {
        other.runs.into_iter().for_each(|(run, tie)| self.add(run, tie));
    }
}

/// Keeps the lines of the runs that were found.
struct RunReader<'k> {
    keys: &'k RunKeys,
    runs: &'k HashMap<RunName, RunTie>,
    window: TimeWindow,
    lines: Vec<RunLine>,
}

impl Fold for RunReader<'_> {
    fn wants(&self, line: &[u8]) -> bool {
        is_of_agent(line)
    }

    fn take(&mut self, _: &LogEntry<'_>, _: &[u8]) {}

    fn take_of_agent(&mut self, line: &[u8]) {
        let Ok(entry) = serde_json::from_slice::<RunEntry<'_>>(line) else { return };
        let own = || self.keys.tie(&entry);
        // A server's spans, and the records of an agent without ids, are not those of one session.
        let tie = match entry.is_anonymous() || entry.event == EventName::ServerSpan {
            true => own(),
            false => self.runs.get(&run_of(&entry)).copied(),
        };
        if let Some(tie) = tie.filter(|_| self.window.contains(entry.timestamp)) {
            self.lines.push(RunLine { tie, line: line.into() });
        }
    }

    fn merge(&mut self, other: RunReader<'_>) {
        self.lines.extend(other.lines);
    }
}

#[derive(Clone, Debug)]
struct RunLine {
    tie: RunTie,
    line: Box<[u8]>,
}

/// The lines of the agents of one session.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunLines {
    lines: Vec<RunLine>,
}

impl RunLines {
    /// Returns the facts in the order of their beginnings. The parts of one fact are one record.
    pub(crate) fn facts(&self) -> Vec<RunFact<'_>> {
        let mut parts: Vec<RunFact<'_>> = self.lines.iter().filter_map(RunFact::parse).collect();
        let order = |fact: &RunFact<'_>| (fact.record.amends, fact.record.timestamp, fact.record.seq);
        parts.sort_by(|a, b| {
            order(a).cmp(&order(b)).then_with(|| a.record.connection_id.cmp(&b.record.connection_id))
        });
        let mut facts: Vec<RunFact<'_>> = Vec::with_capacity(parts.len());
        let mut known: HashMap<String, usize> = HashMap::new();
        for part in parts {
            let id = part.record.fact_id.as_deref().unwrap_or_default();
            match known.get(id) {
                Some(at) => {
                    facts[*at].tie = facts[*at].tie.max(part.tie);
                    facts[*at].record.fill(part.record);
                }
                None => {
                    if !id.is_empty() {
                        known.insert(id.to_owned(), facts.len());
                    }
                    facts.push(part);
                }
            }
        }
        facts.sort_by_key(|fact| (fact.began(), fact.record.seq));
        facts
    }
}

/// Report of an agent or a server about one turn, model call, tool or span.
#[derive(Clone, Debug)]
pub(crate) struct RunFact<'l> {
    pub(crate) record: AgentRecord<'l>,
    tie: RunTie,
}

impl<'l> RunFact<'l> {
    fn parse(line: &'l RunLine) -> Option<RunFact<'l>> {
        // A record of a newer spantap may have a field of another type. It is left out.
        Some(RunFact { record: serde_json::from_slice(&line.line).ok()?, tie: line.tie })
    }

    /// Returns the handle by which users name the record.
    pub(crate) fn handle(&self) -> String {
        handle(&self.record.connection_id, self.record.seq)
    }

    /// Returns when it ended by its own times.
    pub(crate) fn ended(&self) -> Timestamp {
        let AgentRecord { started_at, ended_at, duration_ms, timestamp, .. } = &self.record;
        match (ended_at, started_at, duration_ms) {
            (Some(ended), ..) => *ended,
            (None, Some(started), Some(ms)) => started.plus_ms(ms.0),
            _ => *timestamp,
        }
    }

    /// Returns when it began by its own times.
    pub(crate) fn began(&self) -> Timestamp {
        let ms = self.record.duration_ms.as_ref().map_or(0.0, |ms| ms.0);
        self.record.started_at.unwrap_or_else(|| self.ended().plus_ms(-ms))
    }

    /// Returns the time that it took; `None` if the agent reported none.
    pub(crate) fn length_ms(&self) -> Option<f64> {
        let AgentRecord { started_at, ended_at, duration_ms, .. } = &self.record;
        let between = || Some((ended_at.as_ref()?.0 - started_at.as_ref()?.0) as f64 / 1000.0);
        duration_ms.as_ref().map(|ms| ms.0).or_else(between).filter(|ms| *ms >= 0.0)
    }

    /// Returns when the agent waited for a person: at its beginning, or before it if the wait is not part of its time.
    pub(crate) fn waited(&self) -> Option<(Timestamp, Timestamp)> {
        let ms = self.record.person_wait_ms.as_ref().map(|ms| ms.0).filter(|ms| *ms > 0.0)?;
        let began = self.began();
        Some(match self.length_ms().is_some_and(|length| length < ms) {
            true => (began.plus_ms(-ms), began),
            false => (began, began.plus_ms(ms)),
        })
    }

    /// Returns the agent's id of the conversation, else of the session.
    pub(crate) fn conversation(&self) -> &str {
        self.record.conversation_id.as_deref().unwrap_or(&self.record.session_id)
    }

    /// Returns true if both are of one run of an agent.
    pub(crate) fn is_of_run(&self, other: &RunFact<'_>) -> bool {
        self.record.agent_name == other.record.agent_name
            && (self.record.session_id == other.record.session_id
                || self.conversation() == other.conversation())
    }
}

#[cfg(test)]
mod tests;
