//! Finds the records of agents by a handle or an id.

use std::collections::HashSet;
use std::sync::atomic::AtomicU64;

use serde::Deserialize;

use crate::query::agents::RunLines;
use crate::query::agents::facts::is_of_agent;
use crate::query::agents::join::agent_logs;
use crate::query::entry::{EntryText, LogEntry};
use crate::query::files::{LogSource, TimeWindow};
use crate::query::find::SearchTarget;
use crate::query::scan::{Fold, scan};
use crate::record::timestamp::Timestamp;

/// Most records that are kept as matches.
const MATCHES: usize = 1_000;
/// Fewest characters of the end of a connection id that name it, as in a handle.
const LEAST_END: usize = 6;

/// The fields of an agent's record by which it is found. An absent text is empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct FactEntry<'a> {
    timestamp: Timestamp,
    seq: u64,
    connection_id: EntryText<'a>,
    agent_name: EntryText<'a>,
    fact_id: EntryText<'a>,
    call_id: EntryText<'a>,
    span_id: EntryText<'a>,
}

impl FactEntry<'_> {
    fn is(&self, target: &SearchTarget) -> bool {
        match target {
            SearchTarget::Operation { session, seq } => {
                let is_end = session.len() >= LEAST_END && self.connection_id.ends_with(session.as_str());
                self.seq == *seq && (is_end || self.connection_id.starts_with(session.as_str()))
            }
            SearchTarget::Word(word) => {
                [&self.fact_id, &self.call_id, &self.span_id].into_iter().any(|id| **id == **word)
            }
            _ => false,
        }
    }
}

/// Name of the agent, and its id of the fact.
type FactName = (Box<str>, Box<str>);

/// Reads the records of agents that `target` names, with the later parts of the same facts.
pub(crate) fn find(sources: &[LogSource], window: TimeWindow, target: &SearchTarget) -> RunLines {
    let sources = agent_logs(sources);
    let progress = AtomicU64::new(0);
    let search = |facts| FactSearch { target, facts, window, found: HashSet::new(), lines: Vec::new() };
    let (found, _) = scan(&sources, || search(None), &progress);
    if found.lines.is_empty() || found.found.is_empty() {
        return RunLines { lines: found.lines, ..RunLines::default() };
    }
    let (parts, _) = scan(&sources, || search(Some(&found.found)), &progress);
    RunLines { lines: parts.lines, ..RunLines::default() }
}

/// Keeps the lines of the target, or of the facts that are known to be its.
struct FactSearch<'k> {
    target: &'k SearchTarget,
    facts: Option<&'k HashSet<FactName>>,
    window: TimeWindow,
    found: HashSet<FactName>,
    lines: Vec<Box<[u8]>>,
}

impl Fold for FactSearch<'_> {
    fn wants(&self, line: &[u8]) -> bool {
        is_of_agent(line)
    }

    fn take(&mut self, _: &LogEntry<'_>, _: &[u8]) {}

    fn take_of_agent(&mut self, line: &[u8]) {
        let Ok(entry) = serde_json::from_slice::<FactEntry<'_>>(line) else { return };
        let name: FactName = ((&*entry.agent_name).into(), (&*entry.fact_id).into());
        let is_wanted = entry.is(self.target) || self.facts.is_some_and(|facts| facts.contains(&name));
        if !is_wanted || !self.window.contains(entry.timestamp) || self.lines.len() >= MATCHES {
            return;
        }
        if !entry.fact_id.is_empty() {
            self.found.insert(name);
        }
        self.lines.push(line.into());
    }

    fn merge(&mut self, other: FactSearch<'_>) {
        self.found.extend(other.found);
        self.lines.extend(other.lines);
        self.lines.truncate(MATCHES);
    }
}
