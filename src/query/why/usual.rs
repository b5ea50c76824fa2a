//! The usual duration of a tool: its median and 95th percentile of the thirty days before a call.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use memchr::memmem::Finder;
use serde::Serialize;

use crate::query::durations::Durations;
use crate::query::entry::LogEntry;
use crate::query::row::OperationRow;
use crate::query::scan::Fold;
use crate::query::why::story::Story;
use crate::record::EventName;
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;

/// Fewest earlier calls from which a tool has a usual duration.
const ENOUGH: usize = 20;
/// The thirty days before a call, in milliseconds.
const HISTORY_MS: f64 = 30.0 * 86_400_000.0;
/// Least time beyond the median that is worth a sentence, in milliseconds.
const NOTICEABLE_MS: f64 = 100.0;

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct UsualDuration {
    pub(crate) median_ms: f64,
    pub(crate) p95_ms: f64,
    /// Number of calls that were measured.
    pub(crate) calls: usize,
}

impl UsualDuration {
    pub(super) fn is_exceeded_by(&self, ms: f64) -> bool {
        ms > self.p95_ms && ms > 2.0 * self.median_ms && ms - self.median_ms >= NOTICEABLE_MS
    }
}

/// Calls of a tool that took much longer than usual.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct UnusualFact {
    pub(crate) server_name: String,
    pub(crate) tool_name: String,
    /// Duration of the slowest call, without the time of questions.
    pub(crate) slowest_ms: f64,
    /// Number of calls of the session that took unusually long.
    pub(crate) slow: usize,
    /// Number of calls of the tool in the session.
    pub(crate) calls: usize,
    pub(crate) usual: UsualDuration,
    pub(crate) handle: String,
}

/// Returns the duration of an operation without the time for which it waited for the host's user or model.
pub(super) fn worked_ms(row: &OperationRow) -> f64 {
    (row.length_ms() - row.user_wait_ms.unwrap_or(0.0)).max(0.0)
}

/// Returns the tools that took unusually long: the longest call first.
pub(super) fn facts(story: &Story, history: &CallHistory) -> Vec<UnusualFact> {
    let mut by_tool: HashMap<(&str, &str), Vec<&OperationRow>> = HashMap::new();
    for row in story.rows.iter().filter(|row| row.is_tool_call && row.status != Status::Unknown) {
        by_tool.entry((&row.server_name, &row.target)).or_default().push(row);
    }
    let fact = |((server, tool), rows): ((&str, &str), Vec<&OperationRow>)| {
        let slowest = *rows.iter().max_by(|a, b| worked_ms(a).total_cmp(&worked_ms(b)))?;
        let usual = history.before(server, tool, slowest.started)?;
        let slow = rows.iter().filter(|row| usual.is_exceeded_by(worked_ms(row))).count();
        (slow > 0).then(|| UnusualFact {
            server_name: server.to_owned(),
            tool_name: tool.to_owned(),
            slowest_ms: worked_ms(slowest),
            slow,
            calls: rows.len(),
            usual,
            handle: slowest.handle(),
        })
    };
    let mut facts: Vec<UnusualFact> = by_tool.into_iter().filter_map(fact).collect();
    facts.sort_by(|a, b| b.slowest_ms.total_cmp(&a.slowest_ms).then_with(|| a.handle.cmp(&b.handle)));
    facts
}

/// Server and tool.
type ToolKey = (Arc<str>, Arc<str>);

/// The durations of all calls of some tools.
#[derive(Debug, Default)]
pub(crate) struct CallHistory {
    calls: HashMap<ToolKey, Vec<(Timestamp, f64)>>,
}

impl CallHistory {
    /// Returns the tool's usual duration before a call that began at `at`; `None` without enough calls.
    pub(super) fn before(&self, server: &str, tool: &str, at: Timestamp) -> Option<UsualDuration> {
        let calls = self.calls.get(&(server.into(), tool.into()))?;
        let mut durations = Durations::default();
        let window = at.plus_ms(-HISTORY_MS)..at;
        calls.iter().filter(|(at, _)| window.contains(at)).for_each(|(_, ms)| durations.push(*ms));
        let calls = durations.len();
        let [median_ms, p95_ms] = durations.quantiles([0.5, 0.95]).filter(|_| calls >= ENOUGH)?;
        Some(UsualDuration { median_ms, p95_ms, calls })
    }
}

/// Collects the history of some tools, over all sessions.
pub(crate) struct HistoryReader<'a> {
    tools: &'a HashSet<ToolKey>,
    inner: &'a HashSet<Box<str>>,
    word: Finder<'static>,
    history: CallHistory,
}

impl<'a> HistoryReader<'a> {
    /// `inner` are the connections whose calls are in the log of another connection too.
    pub(crate) fn new(tools: &'a HashSet<ToolKey>, inner: &'a HashSet<Box<str>>) -> HistoryReader<'a> {
        HistoryReader { tools, inner, word: Finder::new("mcp_tool_call"), history: CallHistory::default() }
    }

    pub(crate) fn finish(self) -> CallHistory {
        self.history
    }
}

impl Fold for HistoryReader<'_> {
    fn wants(&self, line: &[u8]) -> bool {
        self.word.find(line).is_some()
    }

    fn take(&mut self, entry: &LogEntry<'_>, _line: &[u8]) {
        let key = || ((&*entry.server_name).into(), (&*entry.tool_name).into());
        let (Some(ms), EventName::McpToolCall) = (entry.duration_ms, entry.event) else { return };
        if entry.status == Status::Unknown || self.inner.contains(&*entry.connection_id) {
            return;
        }
        let Some(tool) = self.tools.get::<ToolKey>(&key()) else { return };
        let worked = (ms - entry.user_wait_ms.unwrap_or(0.0)).max(0.0);
        self.history.calls.entry(tool.clone()).or_default().push((entry.started(), worked));
    }

    fn merge(&mut self, other: HistoryReader<'_>) {
        for (tool, calls) in other.history.calls {
            self.history.calls.entry(tool).or_default().extend(calls);
        }
    }
}
