//! The telemetry of agents and servers that `spantap collect` recorded, and how it belongs to the sessions.
//!
//! `facts` collects what agents reported, `wire` what is known of the sessions, `assign` says which fact belongs to which
//! session, and `join` is that for all commands. [`read`] reads the records of one session. `joins` says which call
//! belongs to which tool and model call, `chain` makes the tree of them, `totals` adds up tokens and cost, and `table`
//! groups them by model and turn.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicU64;

use serde::Deserialize;

use crate::query::agents::facts::{is_of_agent, key_of};
use crate::query::agents::join::{JoinedFacts, agent_logs, time_near};
use crate::query::entry::{EntryText, LogEntry};
use crate::query::files::{LogSource, TimeWindow};
use crate::query::find::OperationMatch;
use crate::query::row::handle;
use crate::query::scan::{Fold, scan};
use crate::query::totals::{ReportedTurns, TimeSpan};
use crate::record::EventName;
use crate::record::agent::AgentRecord;
use crate::record::timestamp::Timestamp;

mod assign;
pub(crate) mod chain;
pub(crate) mod facts;
pub(crate) mod find;
pub(crate) mod join;
pub(crate) mod joins;
mod names;
pub(crate) mod owners;
mod parts;
mod sent;
pub(crate) mod table;
mod time_index;
pub(crate) mod totals;
mod turn_times;
mod wire;

use parts::CallPart;
use totals::AmbiguousRuns;

/// The needed fields of one line of an agent's record. An absent text is empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct RunEntry<'a> {
    event: EventName,
    timestamp: Timestamp,
    seq: u64,
    session_id: EntryText<'a>,
    connection_id: EntryText<'a>,
    agent_name: EntryText<'a>,
    conversation_id: EntryText<'a>,
    fact_id: EntryText<'a>,
    trace_id: EntryText<'a>,
}

/// The records that belong to one session.
pub(crate) struct RecordsOf<'k> {
    session_id: &'k str,
    /// Numbers of the records of its agent.
    records: HashSet<u64>,
    /// Traces of its operations, in which servers report spans of their own.
    traces: HashSet<&'k str>,
    /// The time of these spans.
    time: Option<(Timestamp, Timestamp)>,
    ambiguous: Option<AmbiguousRuns>,
    turns: ReportedTurns,
}

impl<'k> RecordsOf<'k> {
    pub(crate) fn new(
        session_id: &'k str,
        joined: &JoinedFacts<'_>,
        operations: &'k [OperationMatch],
        span: TimeSpan,
    ) -> RecordsOf<'k> {
        let traces = operations.iter().map(|operation| &*operation.ids.trace_id);
        RecordsOf {
            session_id,
            records: joined.records_of(session_id),
            traces: traces.filter(|trace| !trace.is_empty()).collect(),
            time: span.get().map(time_near),
            ambiguous: joined.ambiguous_of(session_id).cloned(),
            turns: joined.turns().clone(),
        }
    }

    fn has(&self, entry: &RunEntry<'_>) -> bool {
        if entry.event == EventName::ServerSpan {
            let is_own =
                [&entry.session_id, &entry.conversation_id].into_iter().any(|id| **id == *self.session_id);
            let is_in_time =
                || self.time.is_none_or(|(from, until)| (from..=until).contains(&entry.timestamp));
            return is_own || self.traces.contains(&*entry.trace_id) && is_in_time();
        }
        let fact_id = Some(&*entry.fact_id).filter(|id| !id.is_empty());
        self.records.contains(&key_of(&entry.agent_name, fact_id, (&entry.connection_id, entry.seq)))
    }
}

/// Reads the records of agents and of servers' own spans that belong to a session.
pub(crate) fn read(sources: &[LogSource], window: TimeWindow, of: &RecordsOf<'_>) -> RunLines {
    let sources = agent_logs(sources);
    let make = || RunReader { of, window, lines: LatestLines::of_at_most(MOST_BYTES) };
    let (reader, _) = scan(&sources, make, &AtomicU64::new(0));
    let (lines, left_out) = reader.lines.finish();
    RunLines { lines, ambiguous: of.ambiguous.clone(), turns: of.turns.clone(), left_out }
}

/// Keeps the lines of the records of a session.
struct RunReader<'k> {
    of: &'k RecordsOf<'k>,
    window: TimeWindow,
    lines: LatestLines,
}

impl Fold for RunReader<'_> {
    fn wants(&self, line: &[u8]) -> bool {
        is_of_agent(line)
    }

    fn take(&mut self, _: &LogEntry<'_>, _: &[u8]) {}

    fn take_of_agent(&mut self, line: &[u8]) {
        let Ok(entry) = serde_json::from_slice::<RunEntry<'_>>(line) else { return };
        if self.window.contains(entry.timestamp) && self.of.has(&entry) {
            self.lines.keep(entry.timestamp, line.into());
        }
    }

    fn merge(&mut self, other: RunReader<'_>) {
        self.lines.merge(other.lines);
    }
}

/// Most bytes of lines of one session that are kept.
const MOST_BYTES: usize = 32 << 20;

/// The latest lines, as many as fit into a number of bytes.
struct LatestLines {
    lines: Vec<(Timestamp, Box<[u8]>)>,
    bytes: usize,
    most: usize,
    left_out: u64,
}

impl LatestLines {
    fn of_at_most(most: usize) -> LatestLines {
        LatestLines { lines: Vec::new(), bytes: 0, most, left_out: 0 }
    }

    fn keep(&mut self, at: Timestamp, line: Box<[u8]>) {
        self.bytes += line.len();
        self.lines.push((at, line));
        // Each line is moved at most twice, since half of them are dropped at once.
        if self.bytes >= 2 * self.most {
            self.trim();
        }
    }

    fn merge(&mut self, other: LatestLines) {
        self.left_out += other.left_out;
        other.lines.into_iter().for_each(|(at, line)| self.keep(at, line));
    }

    /// Drops the earliest lines until the others fit.
    fn trim(&mut self) {
        if self.bytes <= self.most {
            return;
        }
        self.lines.sort_unstable();
        let mut dropped = 0;
        while self.bytes > self.most {
            self.bytes -= self.lines[dropped].1.len();
            dropped += 1;
        }
        self.lines.drain(..dropped);
        self.left_out += dropped as u64;
    }

    /// Returns the lines, and the number of those that were dropped.
    fn finish(mut self) -> (Vec<Box<[u8]>>, u64) {
        self.trim();
        (self.lines.into_iter().map(|(_, line)| line).collect(), self.left_out)
    }
}

/// The lines of the agents of one session.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunLines {
    lines: Vec<Box<[u8]>>,
    /// Runs whose lines were left out.
    pub(crate) ambiguous: Option<AmbiguousRuns>,
    /// The turns that agents reported.
    pub(crate) turns: ReportedTurns,
    /// Number of earlier lines that were left out, since there are too many.
    left_out: u64,
}

impl RunLines {
    /// Returns that earlier lines were left out, as one sentence; `None` if none were.
    pub(crate) fn left_out_text(&self) -> Option<String> {
        (self.left_out > 0).then(|| {
            format!(
                "{} reports of agents and servers are left out: only the latest {} MiB of those of this session are \
                 read; --since and --until select a shorter time",
                self.left_out,
                MOST_BYTES >> 20
            )
        })
    }

    /// Returns the facts in the order of their beginnings. The parts of one fact are one record.
    pub(crate) fn facts(&self) -> Vec<RunFact<'_>> {
        let mut parts: Vec<RunFact<'_>> = self.lines.iter().filter_map(|line| RunFact::parse(line)).collect();
        let order =
            |fact: &RunFact<'_>| (fact.record.amends == Some(true), fact.record.timestamp, fact.record.seq);
        parts.sort_by(|a, b| {
            order(a).cmp(&order(b)).then_with(|| a.record.connection_id.cmp(&b.record.connection_id))
        });
        let mut facts: Vec<RunFact<'_>> = Vec::with_capacity(parts.len());
        let mut known: HashMap<u64, usize> = HashMap::new();
        // Indexes of records that only add to a model call. They are not facts if no other record reports the call.
        let mut additions: Vec<usize> = Vec::new();
        for part in parts {
            match known.entry(part.key()) {
                Entry::Occupied(at) => facts[*at.get()].record.fill(part.record),
                Entry::Vacant(place) => {
                    place.insert(facts.len());
                    let AgentRecord { event, amends, .. } = part.record;
                    additions.extend(
                        (event == EventName::ModelCall && amends == Some(true)).then_some(facts.len()),
                    );
                    facts.push(part);
                }
            }
        }
        additions.retain(|at| facts[*at].record.input_tokens.or(facts[*at].record.output_tokens).is_none());
        additions.into_iter().rev().for_each(|at| drop(facts.remove(at)));
        join_parts(&mut facts);
        facts.sort_by_key(|fact| (fact.began(), fact.record.seq));
        facts
    }
}

/// Makes one record of the two of a model call whose parts went to two runs of the collector.
fn join_parts(facts: &mut Vec<RunFact<'_>>) {
    let is_call = |fact: &&RunFact<'_>| fact.record.event == EventName::ModelCall;
    let mut indexes: Vec<usize> = (0..facts.len()).filter(|at| is_call(&&facts[*at])).collect();
    indexes.sort_by_key(|at| (facts[*at].began(), facts[*at].key()));
    let parts: Vec<CallPart<'_>> = indexes.iter().map(|at| facts[*at].part()).collect();
    let mut inner: Vec<usize> = Vec::new();
    for (outer, of_event) in parts::pairs(&parts) {
        let (outer, of_event) = (indexes[outer], indexes[of_event]);
        let event = facts[of_event].clone();
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
}

impl<'l> RunFact<'l> {
    fn parse(line: &'l [u8]) -> Option<RunFact<'l>> {
        // A record of a newer spantap may have a field of another type. It is left out.
        Some(RunFact { record: serde_json::from_slice(line).ok()? })
    }

    /// Returns the number of the fact that it is a part of.
    fn key(&self) -> u64 {
        let AgentRecord { agent_name, fact_id, connection_id, seq, .. } = &self.record;
        let fact_id = fact_id.as_deref().filter(|id| !id.is_empty());
        key_of(agent_name, fact_id, (connection_id, *seq))
    }

    /// Returns the handle by which users name the record.
    pub(crate) fn handle(&self) -> String {
        handle(&self.record.connection_id, self.record.seq)
    }

    /// Returns when it ended by its own times.
    pub(crate) fn ended(&self) -> Timestamp {
        look();
        self.record.ended()
    }

    /// Returns when it began by its own times.
    pub(crate) fn began(&self) -> Timestamp {
        look();
        self.record.began()
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

    /// Returns true if the tool may have been asked of a server.
    pub(crate) fn may_be_sent(&self) -> bool {
        names::may_be_sent(self.record.decision, self.record.status)
    }

    /// Returns trace and parent of its span, which an agent and its helpers do not have in common.
    fn place(&self) -> Option<(&str, &str)> {
        Some((self.record.trace_id.as_deref()?, self.record.parent_span_id.as_deref()?))
    }
}

/// Counts a look at a record: tests compare the numbers of looks for few and for many records.
fn look() {
    #[cfg(test)]
    tests::LOOKS.with(|looks| looks.set(looks.get() + 1));
}

#[cfg(test)]
mod tests;
