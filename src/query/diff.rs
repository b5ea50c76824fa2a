//! `spantap diff`: what differs between two selections of records, A and B.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use crate::query::catalogue::{CatalogueReader, ServerCatalogue};
use crate::query::durations::Durations;
use crate::query::entry::LogEntry;
use crate::query::errors::{ErrorRow, ErrorTable, without_denials};
use crate::query::event::unexpected_end;
use crate::query::live::{self, LiveConnection};
use crate::query::scan::Fold;
use crate::query::select::Selection;
use crate::query::totals::{CallTotals, GroupMap, TimeSpan};
use crate::record::EventName;
use crate::record::cost::Prices;
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;

mod chance;
mod facts;

pub(crate) use facts::{DiffFact, DurationFact, QuantileFact, RateFact};
use facts::{Figures, ToolDiff};

use chance::ExactTest;

/// Most ways in which one server ended that are counted apart.
const ENDS: usize = 50;

/// Reads one of the two selections.
pub(crate) struct SideReader<'a> {
    select: &'a Selection,
    prices: Prices,
    /// By server and tool.
    tools: GroupMap<SideTool>,
    errors: ErrorTable<'a>,
    catalogue: CatalogueReader,
    servers: BTreeMap<Box<str>, ServerFacts>,
    calls: CallTotals,
    span: TimeSpan,
    is_lossy: bool,
    /// True for a connection whose end is recorded.
    connections: HashMap<Box<str>, bool>,
}

#[derive(Clone, Debug, Default)]
struct SideTool {
    calls: CallTotals,
    /// Without the time of questions to a person.
    durations: Durations,
}

#[derive(Clone, Debug, Default)]
struct ServerFacts {
    /// The latest version, and when it was seen.
    version: (Timestamp, String),
    /// Ends that were not asked for.
    ends: BTreeMap<String, u64>,
}

impl ServerFacts {
    fn add_end(&mut self, how: String, count: u64) {
        if self.ends.len() < ENDS || self.ends.contains_key(&how) {
            *self.ends.entry(how).or_default() += count;
        }
    }
}

impl<'a> SideReader<'a> {
    pub(crate) fn new(select: &'a Selection) -> SideReader<'a> {
        SideReader {
            select,
            prices: Prices::default(),
            tools: GroupMap::default(),
            errors: ErrorTable::new(select),
            catalogue: CatalogueReader::default(),
            servers: BTreeMap::new(),
            calls: CallTotals::default(),
            span: TimeSpan::default(),
            is_lossy: false,
            connections: HashMap::new(),
        }
    }

    fn take_call(&mut self, entry: &LogEntry<'_>) {
        self.calls.add(entry, &self.prices);
        let tool = self.tools.at(&entry.server_name, &entry.tool_name);
        tool.calls.add(entry, &self.prices);
        if let (Some(ms), true) = (entry.duration_ms, entry.status != Status::Unknown) {
            tool.durations.push((ms - entry.user_wait_ms.unwrap_or(0.0)).max(0.0));
        }
    }

    fn server(&mut self, name: &str) -> &mut ServerFacts {
        self.servers.entry(name.into()).or_default()
    }

    /// Returns what was read, with the proxies of `live` that were killed.
    pub(crate) fn finish(mut self, live: &[LiveConnection]) -> DiffSide {
        let connections = std::mem::take(&mut self.connections);
        for state in live::killed(live, |id| connections.get(id).is_none_or(|has_ended| *has_ended)) {
            self.server(&state.server_name).add_end(state.lost_proxy_text(), 1);
        }
        let tools = self.tools.sorted().into_iter();
        DiffSide {
            tools: tools.map(|(server, tool, totals)| ((server.into(), tool.into()), totals)).collect(),
            errors: without_denials(self.errors.finish()),
            catalogues: self.catalogue.by_server(),
            changes: self.catalogue,
            servers: self.servers.into_iter().map(|(name, facts)| (name.into(), facts)).collect(),
            calls: self.calls,
            span: self.span,
            is_lossy: self.is_lossy,
        }
    }
}

impl Fold for SideReader<'_> {
    fn take(&mut self, entry: &LogEntry<'_>, line: &[u8]) {
        if !self.select.takes_context(entry) {
            return;
        }
        self.is_lossy |= entry.event == EventName::Gap;
        // A condition on operations leaves the servers and their tools out of the question.
        if self.select.is_about_operations() && !self.select.takes_operation(entry) {
            return;
        }
        let has_ended = entry.event == EventName::SessionEnded;
        match self.connections.get_mut(&*entry.connection_id) {
            Some(known) => *known |= has_ended,
            None => drop(self.connections.insert((*entry.connection_id).into(), has_ended)),
        }
        self.catalogue.take(entry, line);
        self.server(&entry.server_name);
        self.errors.take(entry, line);
        match entry.event {
            EventName::McpToolCall => self.take_call(entry),
            EventName::PeerIdentified if !entry.server_version.is_empty() => {
                let found = (entry.timestamp, entry.server_version.to_string());
                let version = &mut self.server(&entry.server_name).version;
                *version = found.max(std::mem::take(version));
            }
            EventName::SessionEnded => {
                if let Some(how) = unexpected_end(entry) {
                    self.server(&entry.server_name).add_end(how, 1);
                }
            }
            _ => {}
        }
        self.span.add(entry.started(), entry.timestamp);
    }

    fn merge(&mut self, other: Self) {
        self.tools.merge(other.tools, |tool, other| {
            tool.calls.merge(&other.calls);
            tool.durations.append(other.durations);
        });
        self.errors.merge(other.errors);
        self.catalogue.merge(other.catalogue);
        for (name, other) in other.servers {
            let server = self.servers.entry(name).or_default();
            server.version = other.version.max(std::mem::take(&mut server.version));
            other.ends.into_iter().for_each(|(how, count)| server.add_end(how, count));
        }
        for (id, has_ended) in other.connections {
            *self.connections.entry(id).or_default() |= has_ended;
        }
        self.calls.merge(&other.calls);
        self.span.merge(other.span);
        self.is_lossy |= other.is_lossy;
    }
}

/// One of the two selections, read.
#[derive(Debug)]
pub(crate) struct DiffSide {
    /// By server and tool.
    tools: BTreeMap<(String, String), SideTool>,
    errors: Vec<ErrorRow>,
    catalogues: BTreeMap<String, ServerCatalogue>,
    changes: CatalogueReader,
    servers: BTreeMap<String, ServerFacts>,
    pub(crate) calls: CallTotals,
    pub(crate) span: TimeSpan,
    /// True if records or bytes were lost.
    pub(crate) is_lossy: bool,
}

impl DiffSide {
    pub(crate) fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Returns the number of servers.
    pub(crate) fn servers(&self) -> usize {
        self.servers.len()
    }

    /// Returns the estimated tokens of all definitions; `None` if no list was recorded.
    pub(crate) fn definition_tokens(&self) -> Option<u64> {
        let tokens = self.catalogues.values().map(ServerCatalogue::tokens);
        (!self.catalogues.is_empty()).then(|| tokens.sum())
    }
}

/// The differences between A and B.
#[derive(Debug, Serialize)]
pub(crate) struct Diff {
    /// The most important first.
    pub(crate) facts: Vec<DiffFact>,
    /// All tools that were called on both sides.
    pub(crate) tools: Vec<ToolDiff>,
    /// Number of comparisons that could show a difference.
    pub(crate) comparisons: usize,
    /// Servers of both sides whose tools were not listed completely on both, so that new and gone tools are unknown.
    pub(crate) unlisted_servers: BTreeSet<String>,
}

impl Diff {
    pub(crate) fn new(a: &mut DiffSide, b: &mut DiffSide) -> Diff {
        let both: BTreeSet<String> =
            a.servers.keys().filter(|name| b.servers.contains_key(*name)).cloned().collect();
        let (tools, comparisons) = compare_tools(a, b);
        let is_whole = |side: &DiffSide, name: &str| {
            side.catalogues.get(name).is_some_and(|catalogue| catalogue.is_complete)
        };
        let unlisted_servers =
            both.iter().filter(|name| !is_whole(a, name) || !is_whole(b, name)).cloned().collect();
        let facts = facts::all(a, b, &both, &tools);
        Diff { facts, tools, comparisons, unlisted_servers }
    }
}

/// Returns the tools that were called on both sides, and the number of comparisons that could show a difference.
fn compare_tools(a: &mut DiffSide, b: &mut DiffSide) -> (Vec<ToolDiff>, usize) {
    let mut found = Vec::new();
    for (key, a) in &mut a.tools {
        if let Some(b) = b.tools.get_mut(key) {
            let mut both = a.durations.clone();
            both.append(b.durations.clone());
            let durations = both
                .quantiles([0.5, 0.95])
                .map(|limits| limits.map(|limit| slower_than(limit, &a.durations, &b.durations)));
            let figures = [Figures::new(a), Figures::new(b)];
            let rates = ExactTest::new(figures.map(|side| side.errors), figures.map(|side| side.known));
            let tests = [Some(rates), durations.map(|tests| tests[0]), durations.map(|tests| tests[1])];
            found.push((key.clone(), figures, tests));
        }
    }
    let (threshold, comparisons) =
        chance::threshold(found.iter().flat_map(|(_, _, tests)| tests.iter().copied().flatten()));
    let tools = found.into_iter().map(|((server_name, tool_name), [a, b], tests)| {
        let differs = tests.map(|test| {
            test.is_some_and(|test| test.can_show() && threshold.is_some_and(|most| test.p <= most))
        });
        ToolDiff::new(server_name, tool_name, [a, b], tests.map(|test| test.map(|test| test.p)), differs)
    });
    (tools.collect(), comparisons)
}

/// Tests whether more calls of one side took longer than `limit`.
fn slower_than(limit: f64, a: &Durations, b: &Durations) -> ExactTest {
    let sides = [a, b];
    ExactTest::new(sides.map(|side| side.count_above(limit)), sides.map(|side| side.len() as u64))
}
