//! `spantap report`: totals by tool, session and server, and the operations that the page lists.

use std::collections::{BTreeMap, HashMap};

use crate::query::context::ContextTable;
use crate::query::entry::LogEntry;
use crate::query::errors::ErrorTable;
use crate::query::event::unexpected_end;
use crate::query::greatest::Greatest;
use crate::query::name_pool::NamePool;
use crate::query::row::OperationRow;
use crate::query::scan::Fold;
use crate::query::select::Selection;
use crate::query::sessions::{SessionTable, SessionTotals};
use crate::query::totals::{CallTotals, GroupMap, TimeSpan, TimedTotals};
use crate::record::EventName;
use crate::record::cost::Prices;
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;

/// Most operations in the page: up to this number its filters compute with all of them.
pub(crate) const MAX_ROWS: usize = 10_000;
/// Number of the worst operations that are kept beside the newest, if there are more than [`MAX_ROWS`].
const WORST: usize = 1_000;

/// Adds up what the page shows.
pub struct ReportTotals<'a> {
    select: &'a Selection,
    pub(crate) prices: &'a Prices,
    names: NamePool,
    /// Tool calls by server and tool.
    pub(crate) tools: GroupMap<TimedTotals>,
    pub(crate) sessions: SessionTable<'a>,
    pub(crate) servers: BTreeMap<Box<str>, ServerTotals>,
    pub(crate) errors: ErrorTable<'a>,
    /// Definitions and calls, also of tools without a call.
    pub(crate) context: ContextTable<'a>,
    pub(crate) span: TimeSpan,
    pub(crate) operations: u64,
    pub(crate) newest: Greatest<Timestamp, Box<ReportRow>>,
    /// Failures before successes, long durations before short ones.
    pub(crate) worst: Greatest<(bool, u64), Box<ReportRow>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ServerTotals {
    pub(crate) last_seen: Timestamp,
    last_start: Timestamp,
    /// When and how a process of the server last ended; the text is empty for an ordinary end.
    last_end: Option<(Timestamp, String)>,
    pub(crate) starts: u64,
    /// Processes that died or did not start.
    pub(crate) failures: u64,
    /// True if records or bytes were lost.
    pub(crate) is_lossy: bool,
    /// Calls and failures by minute since 1970.
    pub(crate) minutes: HashMap<i64, [u32; 2]>,
}

/// One operation of the page, with its ids and hashes.
#[derive(Clone, Debug)]
pub(crate) struct ReportRow {
    pub(crate) operation: OperationRow,
    /// Estimate in USD; 0 without prices.
    pub(crate) cost: f64,
    pub(crate) request_id: Box<str>,
    pub(crate) call_id: Box<str>,
    pub(crate) trace_id: Box<str>,
    pub(crate) span_id: Box<str>,
    pub(crate) args_hash: Box<str>,
    pub(crate) result_hash: Box<str>,
    pub(crate) text_hash: Box<str>,
}

impl ReportRow {
    fn new(entry: &LogEntry<'_>, prices: &Prices, names: &mut NamePool) -> ReportRow {
        ReportRow {
            operation: OperationRow::new(entry, names),
            cost: CallTotals::of(entry, prices).cost(prices).unwrap_or(0.0),
            request_id: (*entry.request_id).into(),
            call_id: (*entry.call_id).into(),
            trace_id: (*entry.trace_id).into(),
            span_id: (*entry.span_id).into(),
            args_hash: (*entry.args_hash).into(),
            result_hash: (*entry.result_hash).into(),
            text_hash: (*entry.text_hash).into(),
        }
    }
}

impl<'a> ReportTotals<'a> {
    /// Creates totals of the selected operations. `every_call` is the selection by [`Selection::of_every_call`].
    pub fn new(select: &'a Selection, every_call: &'a Selection, prices: &'a Prices) -> ReportTotals<'a> {
        ReportTotals {
            select,
            prices,
            names: NamePool::default(),
            tools: GroupMap::default(),
            sessions: SessionTable::new(select, prices, false),
            servers: BTreeMap::new(),
            errors: ErrorTable::new(select),
            context: ContextTable::new(every_call),
            span: TimeSpan::default(),
            operations: 0,
            newest: Greatest::new(MAX_ROWS),
            worst: Greatest::new(WORST),
        }
    }

    /// Returns the sessions, newest first.
    pub(crate) fn take_sessions(&mut self) -> Vec<(String, SessionTotals)> {
        let empty = SessionTable::new(self.select, self.prices, false);
        std::mem::replace(&mut self.sessions, empty).finish(None)
    }

    /// Returns true if only some sessions are selected.
    pub(crate) fn is_of_some_sessions(&self) -> bool {
        self.select.session.is_some() || self.select.only_session.is_some()
    }

    fn add_operation(&mut self, entry: &LogEntry<'_>) {
        self.operations += 1;
        self.span.add(entry.started(), entry.timestamp);
        let micros = (entry.duration_ms.unwrap_or(0.0).max(0.0) * 1000.0) as u64;
        let make = |names: &mut NamePool| Box::new(ReportRow::new(entry, self.prices, names));
        self.newest.offer(entry.timestamp, entry, &mut self.names, make);
        self.worst.offer((entry.status.is_failure(), micros), entry, &mut self.names, make);
    }

    fn add_tool_call(&mut self, entry: &LogEntry<'_>) {
        self.tools.at(&entry.server_name, &entry.tool_name).add(entry, self.prices);
    }
}

/// Returns why an operation failed, in one word: the error type if it is known, otherwise the status.
pub(crate) fn error_type(error_type: &str, status: Status) -> &str {
    if error_type.is_empty() { status.as_str() } else { error_type }
}

impl<'a> Fold for ReportTotals<'a> {
    fn take(&mut self, entry: &LogEntry<'_>, line: &[u8]) {
        self.context.take(entry, line);
        if !self.select.takes_context(entry) {
            return;
        }
        self.sessions.take(entry, line);
        if !self.servers.contains_key(&*entry.server_name) {
            self.servers.insert((*entry.server_name).into(), ServerTotals::default());
        }
        let Some(server) = self.servers.get_mut(&*entry.server_name) else { return };
        server.add_event(entry);
        if !self.select.takes_operation(entry) {
            return;
        }
        let is_tool_call = entry.event == EventName::McpToolCall;
        if is_tool_call {
            server.add_call(entry);
        }
        self.add_operation(entry);
        self.errors.take(entry, line);
        if is_tool_call {
            self.add_tool_call(entry);
        }
    }

    fn merge(&mut self, other: ReportTotals<'a>) {
        self.tools.merge(other.tools, TimedTotals::merge);
        self.sessions.merge(other.sessions);
        for (name, server) in other.servers {
            self.servers.entry(name).or_default().merge(server);
        }
        self.errors.merge(other.errors);
        self.context.merge(other.context);
        self.span.merge(other.span);
        self.operations += other.operations;
        self.newest.merge(other.newest);
        self.worst.merge(other.worst);
    }
}

impl ServerTotals {
    fn add_event(&mut self, entry: &LogEntry<'_>) {
        let at = entry.timestamp;
        self.last_seen = self.last_seen.max(at);
        match entry.event {
            EventName::SessionStarted => {
                self.starts += 1;
                self.last_start = self.last_start.max(at);
            }
            EventName::Gap => self.is_lossy = true,
            EventName::SessionEnded => {
                let how = unexpected_end(entry);
                self.failures += u64::from(how.is_some());
                let end = (at, how.unwrap_or_default());
                self.last_end = self.last_end.take().max(Some(end));
            }
            _ => {}
        }
    }

    fn add_call(&mut self, entry: &LogEntry<'_>) {
        let minute = self.minutes.entry(entry.timestamp.0.div_euclid(60_000_000)).or_default();
        minute[0] += u32::from(entry.continues_seq.is_none());
        minute[1] += u32::from(entry.status.is_error());
    }

    fn merge(&mut self, other: ServerTotals) {
        self.last_seen = self.last_seen.max(other.last_seen);
        self.last_start = self.last_start.max(other.last_start);
        self.last_end = self.last_end.take().max(other.last_end);
        self.starts += other.starts;
        self.failures += other.failures;
        self.is_lossy |= other.is_lossy;
        for (minute, [calls, errors]) in other.minutes {
            let sum = self.minutes.entry(minute).or_default();
            sum[0] += calls;
            sum[1] += errors;
        }
    }

    /// Returns how the server last ended, if it did not start again. The text is empty for an ordinary end.
    pub(crate) fn last_end(&self) -> Option<&str> {
        self.last_end.as_ref().filter(|(at, _)| *at >= self.last_start).map(|(_, how)| how.as_str())
    }
}
