//! The telemetry of agents and servers that `spantap collect` recorded, and how it belongs to one session.
//!
//! [`RunKeys`] has what is known of a session. [`read`] finds the agent runs that belong to it, then keeps their
//! lines; a record of another run is never kept. `joins` says which call belongs to which tool and model call, `chain`
//! makes the tree of them, `totals` adds up tokens and
//! cost, and `table` does so over all sessions.

use std::collections::hash_map::Entry;
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
mod parts;
pub(crate) mod table;
pub(crate) mod totals;

use parts::CallPart;
use totals::AmbiguousRuns;

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
    host_pid: Option<u32>,
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
    session_id: Box<str>,
    conversation_ids: HashSet<Box<str>>,
    traces: HashSet<Box<str>>,
    call_ids: HashSet<Box<str>>,
    hosts: BTreeSet<String>,
    host_pids: BTreeSet<u32>,
    span: Option<(Timestamp, Timestamp)>,
    has_ended: bool,
}

/// Way in which a run of an agent belongs to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum RunTie {
    /// The agent has the name of the session's host and ran at the same time.
    HostName,
    /// The agent is also the process that started the session's proxies.
    Process,
    /// They have an id in common.
    Id,
}

impl RunKeys {
    /// Returns the keys of a session from its totals and its operations.
    pub(crate) fn new(session_id: &str, totals: &SessionTotals, operations: &[OperationMatch]) -> RunKeys {
        let texts = |text: fn(&OperationMatch) -> &str| -> HashSet<Box<str>> {
            operations.iter().map(text).filter(|text| !text.is_empty()).map(Box::from).collect()
        };
        RunKeys {
            session_id: session_id.into(),
            conversation_ids: texts(|operation| &operation.row.conversation_id),
            traces: texts(|operation| &operation.ids.trace_id),
            call_ids: texts(|operation| &operation.ids.call_id),
            hosts: totals.hosts.iter().map(|host| agent_of(host).to_owned()).collect(),
            host_pids: totals.host_pids.clone(),
            span: totals.span.get(),
            has_ended: totals.has_ended(),
        }
    }

    /// Returns true if the record has the session's own id, which the agent gave it.
    fn is_own(&self, entry: &RunEntry<'_>) -> bool {
        *entry.session_id == *self.session_id || *entry.conversation_id == *self.session_id
    }

    fn is_in_time(&self, at: Timestamp) -> bool {
        is_in_time(self.span, self.has_ended, at)
    }

    /// Returns true if the agent's record is not before the beginning or after the end of the session.
    fn overlaps(&self, at: Timestamp) -> bool {
        self.span.is_some_and(|(first, last)| (first..=last).contains(&at))
    }

    fn is_near(&self, at: Timestamp) -> bool {
        self.span.is_some_and(|(first, last)| at.0 >= first.0 - NEAR_US && at.0 <= last.0 + NEAR_US)
    }

    /// Returns how the record itself belongs to the session.
    fn tie(&self, entry: &RunEntry<'_>) -> Option<RunTie> {
        let has = |set: &HashSet<Box<str>>, id: &EntryText<'_>| !id.is_empty() && set.contains(&**id);
        let has_id = || {
            has(&self.conversation_ids, &entry.session_id)
                || has(&self.conversation_ids, &entry.conversation_id)
                || has(&self.call_ids, &entry.call_id)
                || has(&self.traces, &entry.trace_id)
        };
        if self.is_own(entry) || self.is_in_time(entry.timestamp) && has_id() {
            return Some(RunTie::Id);
        }
        let is_host = self.hosts.contains(&*entry.agent_name) && self.is_near(entry.timestamp);
        let is_process = entry.host_pid.is_some_and(|pid| self.host_pids.contains(&pid));
        is_host.then_some(if is_process { RunTie::Process } else { RunTie::HostName })
    }
}

/// Returns true if a record at the time `at` can be of a session. An agent can continue a conversation on another day,
/// which then has another session.
fn is_in_time(span: Option<(Timestamp, Timestamp)>, has_ended: bool, at: Timestamp) -> bool {
    span.is_none_or(|(first, last)| at.0 >= first.0 - NEAR_US && (!has_ended || at.0 <= last.0 + NEAR_US))
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
    let (search, _) = scan(&sources, || RunSearch { keys, runs: HashMap::new() }, &progress);
    let (runs, ambiguous) = search.finish();
    if runs.is_empty() {
        return RunLines { lines: Vec::new(), ambiguous };
    }
    let make = || RunReader { keys, runs: &runs, window, lines: Vec::new() };
    let (reader, _) = scan(&sources, make, &progress);
    RunLines { lines: reader.lines, ambiguous }
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
    runs: HashMap<RunName, FoundRun>,
}

/// A run of an agent, as far as its records that belong to a session tell.
#[derive(Debug)]
struct FoundRun {
    tie: RunTie,
    host_pid: Option<u32>,
    traces: HashSet<Box<str>>,
    /// True if one of its records is within the time of the session.
    overlaps: bool,
}

impl FoundRun {
    /// Returns true if both are of one process of the agent, as those of an agent and its helpers are.
    fn is_of_process(&self, other: &FoundRun) -> bool {
        match (self.host_pid, other.host_pid) {
            (Some(own), Some(other)) => own == other,
            _ => !self.traces.is_disjoint(&other.traces),
        }
    }

    fn merge(&mut self, other: FoundRun) {
        self.tie = self.tie.max(other.tie);
        self.host_pid = self.host_pid.or(other.host_pid);
        self.traces.extend(other.traces);
        self.overlaps |= other.overlaps;
    }
}

impl RunSearch<'_> {
    fn add(&mut self, run: RunName, found: FoundRun) {
        match self.runs.entry(run) {
            Entry::Occupied(mut known) => known.get_mut().merge(found),
            Entry::Vacant(place) => drop(place.insert(found)),
        }
    }

    /// Returns the runs of the session, and what could be it as well. A run that has only the name of the host belongs
    /// to the session if no other run of that agent does, or can.
    fn finish(mut self) -> (HashMap<RunName, RunTie>, Option<AmbiguousRuns>) {
        let is_certain = |found: &FoundRun| found.tie > RunTie::HostName;
        let certain: HashSet<Box<str>> =
            self.runs.iter().filter(|(_, found)| is_certain(found)).map(|(run, _)| run.0.clone()).collect();
        self.runs.retain(|run, found| is_certain(found) || !certain.contains(&run.0));
        let agents: BTreeSet<Box<str>> = self.runs.keys().map(|run| run.0.clone()).collect();
        let mut ambiguous = None;
        for agent in agents.iter().filter(|agent| !certain.contains(&***agent)) {
            let of_agent = |run: &RunName| run.0 == *agent;
            if self.runs.iter().any(|(run, found)| of_agent(run) && found.overlaps) {
                self.runs.retain(|run, found| !of_agent(run) || found.overlaps);
            }
            let found: Vec<&FoundRun> =
                self.runs.iter().filter(|(run, _)| of_agent(run)).map(|(_, found)| found).collect();
            let processes = processes_of(&found);
            if processes > 1 {
                self.runs.retain(|run, _| !of_agent(run));
                ambiguous = Some(AmbiguousRuns { agent_name: agent.to_string(), runs: processes });
            }
        }
        (self.runs.into_iter().map(|(run, found)| (run, found.tie)).collect(), ambiguous)
    }
}

/// Returns the number of processes that the runs are of.
fn processes_of(runs: &[&FoundRun]) -> usize {
    let mut left: Vec<usize> = (0..runs.len()).collect();
    let mut processes = 0;
    while let Some(first) = left.pop() {
        processes += 1;
        let mut of_process = vec![first];
        while let Some(run) = of_process.pop() {
            let (same, others) = left.into_iter().partition(|other| runs[run].is_of_process(runs[*other]));
            left = others;
            of_process.extend::<Vec<usize>>(same);
        }
    }
    processes
}

impl Fold for RunSearch<'_> {
    fn wants(&self, line: &[u8]) -> bool {
        is_of_agent(line)
    }

    fn take(&mut self, _: &LogEntry<'_>, _: &[u8]) {}

    fn take_of_agent(&mut self, line: &[u8]) {
        let Ok(entry) = serde_json::from_slice::<RunEntry<'_>>(line) else { return };
        if let Some(tie) = self.keys.tie(&entry) {
            let trace = Some(&*entry.trace_id).filter(|trace| tie == RunTie::HostName && !trace.is_empty());
            let found = FoundRun {
                tie,
                host_pid: entry.host_pid,
                traces: trace.map(Box::from).into_iter().collect(),
                overlaps: self.keys.overlaps(entry.timestamp),
            };
            self.add(run_of(&entry), found);
        }
    }

    fn merge(&mut self, other: RunSearch<'_>) {
        other.runs.into_iter().for_each(|(run, found)| self.add(run, found));
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
        let of_run = self.runs.get(&run_of(&entry)).copied();
        // A server's spans, and the records of an agent without ids, are not those of one session.
        let tie = match entry.is_anonymous() || entry.event == EventName::ServerSpan {
            true => self.keys.tie(&entry).filter(|tie| *tie > RunTie::HostName || of_run.is_some()),
            false => of_run.filter(|_| self.keys.is_own(&entry) || self.keys.is_in_time(entry.timestamp)),
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
    /// Runs whose lines were left out.
    pub(crate) ambiguous: Option<AmbiguousRuns>,
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
        join_parts(&mut facts);
        facts.sort_by_key(|fact| (fact.began(), fact.record.seq));
        facts
    }
}

/// Makes one record of the two of a model call whose parts went to two runs of the collector.
fn join_parts(facts: &mut Vec<RunFact<'_>>) {
    let is_call = |fact: &&RunFact<'_>| fact.record.event == EventName::ModelCall;
    let indexes: Vec<usize> = (0..facts.len()).filter(|at| is_call(&&facts[*at])).collect();
    let parts: Vec<CallPart<'_>> = indexes.iter().map(|at| facts[*at].part()).collect();
    let mut inner: Vec<usize> = Vec::new();
    for (outer, of_event) in parts::pairs(&parts) {
        let (outer, of_event) = (indexes[outer], indexes[of_event]);
        let event = facts[of_event].clone();
        facts[outer].tie = facts[outer].tie.max(event.tie);
        facts[outer].record.fill(event.record);
        inner.push(of_event);
    }
    inner.sort_unstable();
    inner.into_iter().rev().for_each(|at| drop(facts.remove(at)));
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

    fn part(&self) -> CallPart<'_> {
        CallPart {
            run: (&self.record.agent_name, self.conversation()),
            connection_id: &self.record.connection_id,
            began: self.began(),
            ended: self.ended(),
            tokens: [self.record.input_tokens, self.record.output_tokens],
            has_span: self.record.span_id.is_some(),
        }
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

    /// Returns true if the spans of both have the same parent.
    pub(crate) fn is_beside(&self, other: &RunFact<'_>) -> bool {
        fn place<'f>(fact: &'f RunFact<'_>) -> Option<(&'f str, &'f str)> {
            Some((fact.record.trace_id.as_deref()?, fact.record.parent_span_id.as_deref()?))
        }
        place(self).is_some_and(|own| place(other) == Some(own))
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
