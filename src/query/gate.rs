//! `spantap gate`: judges the selected sessions by rules.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use crate::query::catalogue::{CatalogueReader, ServerCatalogue};
use crate::query::entry::LogEntry;
use crate::query::errors::{ErrorRow, ErrorTable, without_denials};
use crate::query::event::unexpected_end;
use crate::query::gate::linted::LintErrors;
use crate::query::live::{self, LiveConnection};
use crate::query::row::handle;
use crate::query::scan::{Fold, ScanFindings};
use crate::query::select::Selection;
use crate::query::totals::{CallTotals, GroupMap, TimedTotals};
use crate::record::EventName;
use crate::record::cost::Prices;
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;

mod judge;
mod linted;

pub(crate) use judge::{GateCheck, GateFigure, GateRules, GateVerdict, judge, overall};

/// Most ends and loops that are named.
const NAMED: usize = 50;

/// Reads the selected records.
pub(crate) struct GateReader<'a> {
    select: &'a Selection,
    prices: Prices,
    connections: HashMap<Box<str>, GateConnection>,
    sessions: HashSet<Box<str>>,
    /// By server and tool.
    tools: GroupMap<GateTool>,
    calls: CallTotals,
    errors: ErrorTable<'a>,
    catalogue: CatalogueReader,
    lint: LintErrors,
    ends: NamedEvents,
    loops: NamedEvents,
    /// Events of lost bytes or records.
    gaps: u64,
}

/// The numbers of the records of one connection, and whether its end is among them.
#[derive(Clone, Debug, Default)]
struct GateConnection {
    /// Least and greatest number.
    seqs: Option<(u64, u64)>,
    records: u64,
    is_selected: bool,
    has_ended: bool,
}

#[derive(Clone, Debug, Default)]
struct GateTool {
    timed: TimedTotals,
    /// Estimated tokens of the largest result, and the handle of its call.
    largest: (u64, String),
}

/// Events that are counted, the first of them with their texts.
#[derive(Clone, Debug, Default)]
struct NamedEvents {
    count: u64,
    names: Vec<String>,
}

impl NamedEvents {
    fn add(&mut self, name: String) {
        self.count += 1;
        if self.names.len() < NAMED {
            self.names.push(name);
        }
    }

    fn merge(&mut self, other: NamedEvents) {
        self.count += other.count;
        self.names.extend(other.names);
    }

    fn settle(mut self) -> NamedEvents {
        self.names.sort();
        self.names.dedup();
        self.names.truncate(NAMED);
        self
    }
}

impl GateConnection {
    fn add(&mut self, first: u64, last: u64, records: u64) {
        self.records += records;
        self.seqs = Some(match self.seqs {
            None => (first, last),
            Some((least, greatest)) => (least.min(first), greatest.max(last)),
        });
    }

    /// Returns how many numbers up to the last record are missing: from 0 on, or from the first record on if the
    /// connection began before the selected time, since its first records may be in a file that was not read.
    fn missing(&self, began_before: bool) -> u64 {
        self.seqs.map_or(0, |(first, last)| {
            let first = if began_before { first } else { 0 };
            last.saturating_sub(first).saturating_add(1).saturating_sub(self.records)
        })
    }
}

/// Returns when a connection began, which its id says. `None` if spantap did not make the id.
fn began(connection_id: &str) -> Option<Timestamp> {
    let (seconds, nanos) = Uuid::parse_str(connection_id).ok()?.get_timestamp()?.to_unix();
    Some(Timestamp(i64::try_from(seconds).ok()?.checked_mul(1_000_000)? + i64::from(nanos / 1000)))
}

impl<'a> GateReader<'a> {
    pub(crate) fn new(select: &'a Selection) -> GateReader<'a> {
        GateReader {
            select,
            prices: Prices::default(),
            connections: HashMap::new(),
            sessions: HashSet::new(),
            tools: GroupMap::default(),
            calls: CallTotals::default(),
            errors: ErrorTable::new(select),
            catalogue: CatalogueReader::default(),
            lint: LintErrors::default(),
            ends: NamedEvents::default(),
            loops: NamedEvents::default(),
            gaps: 0,
        }
    }

    fn take_call(&mut self, entry: &LogEntry<'_>, line: &[u8]) {
        self.calls.add(entry, &self.prices);
        self.errors.take(entry, line);
        let tool = self.tools.at(&entry.server_name, &entry.tool_name);
        tool.timed.add(entry, &self.prices);
        let tokens = entry.result_tokens_est.unwrap_or(0);
        if tokens > tool.largest.0 {
            tool.largest = (tokens, handle(&entry.connection_id, entry.seq));
        }
    }

    /// Returns what was read. `findings` has what could not be read, `live` the proxies that were killed.
    pub(crate) fn finish(mut self, findings: &ScanFindings, live: &[LiveConnection]) -> GateFacts {
        let has_ended = |id: &str| {
            self.connections.get(id).is_none_or(|connection| connection.has_ended || !connection.is_selected)
        };
        for state in live::killed(live, has_ended) {
            self.ends.add(format!("{} {}", state.server_name, state.lost_proxy_text()));
        }
        let selected = || self.connections.iter().filter(|(_, connection)| connection.is_selected);
        let since = self.select.window.since;
        let began_before = |id: &str| since.is_some_and(|since| began(id).is_none_or(|began| began < since));
        let loss = GateLoss {
            missing: selected().map(|(id, connection)| connection.missing(began_before(id))).sum(),
            gaps: self.gaps,
            unknown: self.calls.with_status(Status::Unknown),
            unended: selected().filter(|(_, connection)| !connection.has_ended).count() as u64,
            unreadable: findings.unreadable.values().sum::<u64>()
                + (findings.failed.len() + findings.foreign.len()) as u64
                + findings.empty,
        };
        GateFacts {
            connections: selected().count(),
            sessions: self.sessions.len(),
            tools: self
                .tools
                .sorted()
                .into_iter()
                .map(|(server, tool, found)| (server.into(), tool.into(), found))
                .collect(),
            calls: self.calls,
            errors: without_denials(self.errors.finish()),
            definitions: self.catalogue.by_session(),
            catalogues: self.catalogue.by_server(),
            lint: self.lint,
            named: self.catalogue.named,
            ends: self.ends.settle(),
            loops: self.loops.settle(),
            loss,
        }
    }
}

impl Fold for GateReader<'_> {
    fn take(&mut self, entry: &LogEntry<'_>, line: &[u8]) {
        let connection = self.connections.entry((*entry.connection_id).into()).or_default();
        connection.add(entry.seq, entry.seq, 1);
        connection.has_ended |= entry.event == EventName::SessionEnded;
        if !self.select.takes_context(entry) {
            return;
        }
        connection.is_selected = true;
        if !self.sessions.contains(&*entry.session_id) {
            self.sessions.insert((*entry.session_id).into());
        }
        self.catalogue.take(entry, line);
        match entry.event {
            EventName::McpToolCall if self.select.takes_operation(entry) => self.take_call(entry, line),
            EventName::ToolsLinted => self.lint.add(&entry.server_name, line),
            // A record that a collector did not get is in the log.
            EventName::Gap if &*entry.place != "otlp" => self.gaps += 1,
            EventName::AgentThrashing if &*entry.level != "info" => {
                let (tool, server, count) = (&entry.tool_name, &entry.server_name, entry.count.unwrap_or(0));
                self.loops.add(format!("{tool} on {server}, {count} times"));
            }
            EventName::SessionEnded => {
                if let Some(how) = unexpected_end(entry) {
                    self.ends.add(format!("{} {how}", entry.server_name));
                }
            }
            _ => {}
        }
    }

    fn merge(&mut self, other: Self) {
        for (id, other) in other.connections {
            let connection = self.connections.entry(id).or_default();
            if let Some((first, last)) = other.seqs {
                connection.add(first, last, other.records);
            }
            connection.is_selected |= other.is_selected;
            connection.has_ended |= other.has_ended;
        }
        self.sessions.extend(other.sessions);
        self.tools.merge(other.tools, |tool, other| {
            tool.timed.merge(other.timed);
            if other.largest > tool.largest {
                tool.largest = other.largest;
            }
        });
        self.calls.merge(&other.calls);
        self.errors.merge(other.errors);
        self.catalogue.merge(other.catalogue);
        self.lint.merge(other.lint);
        self.ends.merge(other.ends);
        self.loops.merge(other.loops);
        self.gaps += other.gaps;
    }
}

/// The facts that rules judge.
#[derive(Debug)]
pub(crate) struct GateFacts {
    pub(crate) connections: usize,
    pub(crate) sessions: usize,
    /// Server, tool and figures.
    tools: Vec<(String, String, GateTool)>,
    pub(crate) calls: CallTotals,
    errors: Vec<ErrorRow>,
    /// Estimated tokens of the definitions of each server, by session.
    definitions: BTreeMap<String, BTreeMap<String, u64>>,
    pub(crate) catalogues: BTreeMap<String, ServerCatalogue>,
    lint: LintErrors,
    /// Names of all tools that each server had at any time.
    named: BTreeMap<String, BTreeSet<String>>,
    ends: NamedEvents,
    loops: NamedEvents,
    loss: GateLoss,
}

/// The parts of the selected sessions that are missing.
#[derive(Clone, Copy, Debug)]
struct GateLoss {
    /// Records whose numbers are missing.
    missing: u64,
    gaps: u64,
    /// Calls whose end was not observed.
    unknown: u64,
    /// Connections without an end: they run, or their last records are missing.
    unended: u64,
    /// Lines and files that cannot be read.
    unreadable: u64,
}
