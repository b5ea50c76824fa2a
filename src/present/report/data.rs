//! The data of the HTML report: the totals that its boards (tables and charts) show, and single operations for
//! its filters and waterfalls.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use serde_json::{Value, json};

use crate::present::Printable;
use crate::present::report::agents::AgentBoard;
use crate::present::report::context::ContextBoard;
use crate::present::sessions::annotation;
use crate::present::table::Tone;
use crate::query::agents::join::JoinedFacts;
use crate::query::errors::{ErrorRow, masked_message};
use crate::query::live::{LiveConnection, Liveness};
use crate::query::report::{MAX_ROWS, ReportRow, ReportTotals, ServerTotals, error_type};
use crate::query::row::OperationRow;
use crate::query::sessions::SessionTotals;
use crate::query::time_spent::{Silence, TimeSpent, starting_rows};
use crate::query::totals::TimedTotals;
use crate::record::cost::Prices;
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;

/// Operations whose ids and hashes are in the page: half of them the newest, half the worst.
const DETAILED: usize = 2_000;
/// Columns of the picture of calls over time.
const BUCKETS: i64 = 60;
/// Time span in microseconds below which columns of a minute are too coarse.
const FINE: i64 = BUCKETS * 60_000_000;

/// Where the data comes from, in words.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PageSource {
    pub(crate) version: String,
    /// When the page was made, milliseconds since 1970.
    pub(crate) made_at: f64,
    /// Folder or files, and the selected time.
    pub(crate) source: Printable,
    /// Number of identical calls from which on a call is marked.
    pub(crate) warn: u32,
    /// Template of the addresses of traces, whose scheme is http or https.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trace_link: Option<String>,
    /// Lines and files that could not be read.
    pub(crate) notes: Vec<Printable>,
    /// The connections that had a live file when the page was made.
    #[serde(skip)]
    pub(crate) live: Vec<LiveConnection>,
}

#[derive(Debug, Serialize)]
pub struct PageData {
    about: PageSource,
    /// Milliseconds since 1970; the times of rows count from here.
    first: f64,
    last: f64,
    operations: u64,
    priced: bool,
    pairs: Vec<Value>,
    sessions: Vec<Value>,
    servers: Vec<Value>,
    /// Failures by tool and message.
    errors: Vec<Value>,
    context: ContextBoard,
    agents: AgentBoard,
    timeline: Timeline,
    rows: OperationTable,
}

#[derive(Debug, Default, Serialize)]
struct Timeline {
    /// Milliseconds since 1970.
    from: f64,
    /// Milliseconds.
    step: f64,
    buckets: usize,
    servers: BTreeMap<Printable, [Vec<u32>; 2]>,
}

/// The operations, with names by number.
#[derive(Debug, Default, Serialize)]
struct OperationTable {
    servers: NameTable,
    names: NameTable,
    sessions: NameTable,
    turns: NameTable,
    types: NameTable,
    /// Masked messages, as `stats --by error` groups them.
    messages: NameTable,
    connections: NameTable,
    /// Milliseconds in which nothing was asked before an operation, by index in `list`.
    silences: BTreeMap<usize, u64>,
    list: Vec<PageRow>,
    /// By index in `list`.
    details: BTreeMap<usize, Value>,
}

/// Server, name, session, turn, status, start (ms from `first`), ms or −1, tokens, repeat, error type, flags, USD,
/// message, connection, number of the record.
#[derive(Debug, Serialize)]
struct PageRow(u32, u32, u32, u32, u8, f64, f64, u64, u32, u32, u8, f64, u32, u32, u64);

/// Flags of a [`PageRow`].
const TOOL_CALL: u8 = 1;
const CONTINUES: u8 = 2;
const SLOW: u8 = 4;
const ASKED_BY_SERVER: u8 = 8;
const OF_START: u8 = 16;

/// Most groups of failures, and most different messages of single operations.
const MESSAGES: usize = 1_000;
/// Silences shorter than this, in ms, are not drawn.
const SILENCE_MS: f64 = 1_000.0;

/// Texts without duplicates, in order of their first use.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
struct NameTable {
    texts: Vec<Printable>,
    #[serde(skip)]
    index: HashMap<String, u32>,
}

impl NameTable {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.index.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.texts.push(Printable::new(text));
        self.index.insert(text.to_owned(), number);
        number
    }

    /// Returns the number of a text, or of `(other messages)` if there are `most` others.
    fn number_of_most(&mut self, text: &str, most: usize) -> u32 {
        let has_room = self.texts.len() < most || self.index.contains_key(text);
        self.number(if has_room { text } else { "(other messages)" })
    }
}

fn ms(at: Timestamp) -> f64 {
    at.0 as f64 / 1000.0
}

impl PageData {
    /// Makes the page of a report.
    pub fn new(report: ReportTotals<'_>, about: PageSource) -> PageData {
        PageData::with_agents(report, &JoinedFacts::default(), about)
    }

    /// Makes the page of a report, with what agents reported.
    pub(crate) fn with_agents(
        mut report: ReportTotals<'_>,
        joined: &JoinedFacts<'_>,
        mut about: PageSource,
    ) -> PageData {
        let is_of_some_sessions = report.is_of_some_sessions();
        let mut sessions = report.take_sessions();
        joined.add_to(&mut sessions);
        let doubt = joined.doubt(|id| sessions.iter().any(|(known, _)| known == id));
        about.notes.extend(joined.notes().into_iter().chain(doubt).map(Printable::from));
        let agents = AgentBoard::new(&joined.facts, &sessions, is_of_some_sessions);
        let (first, last) = report.span.get().unwrap_or_default();
        let prices = report.prices;
        let warn = about.warn;
        let newest = report.newest.finish();
        let timeline = if last.0 - first.0 < FINE && report.operations <= MAX_ROWS as u64 {
            Timeline::fine(&newest, first, last)
        } else {
            Timeline::new(&report.servers, first, last)
        };
        let tool = |(server, tool, totals): (Box<str>, Box<str>, TimedTotals)| {
            tool_row(&server, &tool, totals, prices)
        };
        let times = SessionTimes::new(&newest);
        let is_known = |live: &LiveConnection| {
            sessions.iter().any(|(_, session)| session.connections.contains(&live.state.connection_id))
        };
        about.live.retain(is_known);
        let session = |(id, mut session): (String, SessionTotals)| {
            session.add_live(&about.live);
            let mut row = session_row(&id, &session, prices, warn);
            times.add_to(&mut row, &id, session.operations);
            row
        };
        let errors = report.errors.finish().into_iter().take(MESSAGES);
        PageData {
            first: ms(first),
            last: ms(last),
            operations: report.operations,
            priced: prices.any(),
            pairs: report.tools.sorted().into_iter().map(tool).collect(),
            sessions: sessions.into_iter().map(session).collect(),
            servers: report
                .servers
                .iter()
                .map(|(name, server)| server_row(name, server, &about.live))
                .collect(),
            errors: errors.map(|row| error_row(&row)).collect(),
            context: ContextBoard::new(&report.context.finish()),
            agents,
            timeline,
            rows: OperationTable::new(&newest, &report.worst.finish(), &times, first),
            about,
        }
    }
}

fn tool_row(server: &str, tool: &str, mut totals: TimedTotals, prices: &Prices) -> Value {
    let calls = &totals.calls;
    json!({
        "server": Printable::new(server), "tool": Printable::new(tool), "calls": calls.calls,
        "errors": calls.errors(), "denied": calls.with_status(Status::Denied),
        "unknown": calls.with_status(Status::Unknown), "repeats": calls.repeats, "most": calls.most_repeats,
        "slow": calls.slow, "tokens": calls.tokens, "cost": calls.cost(prices),
        "ms": totals.durations.quantiles([0.5, 0.95, 0.99, 1.0]),
    })
}

fn session_row(id: &str, session: &SessionTotals, prices: &Prices, warn: u32) -> Value {
    let (first, last) = session.span.get().unwrap_or_default();
    let calls = &session.calls;
    let hosts: Vec<Printable> = session.hosts.iter().map(|host| Printable::new(host)).collect();
    let (notes, tone) = annotation(session, warn, true);
    let tone = match tone {
        Tone::Bad => "bad",
        Tone::Warning => "warn",
        Tone::Good => "good",
        Tone::Plain | Tone::Strong | Tone::Faint => "",
    };
    let servers: Vec<Printable> = session.servers.keys().map(|server| Printable::new(server)).collect();
    json!({
        "id": Printable::new(id), "hosts": hosts, "servers": servers, "first": ms(first), "last": ms(last),
        "calls": calls.calls, "errors": calls.errors(), "denied": calls.with_status(Status::Denied),
        "unknown": calls.with_status(Status::Unknown), "turns": session.turns.turns(),
        "told": session.agent.as_ref().is_some_and(|agent| agent.turns > 0),
        "repeats": calls.repeats, "most": session.most_repeats(), "slow": calls.slow,
        "tokens": calls.tokens, "cost": calls.cost(prices), "notes": notes, "tone": tone,
    })
}

/// Returns the last known state of a server. A process that runs now is known better than by its log.
fn server_row(name: &str, server: &ServerTotals, live: &[LiveConnection]) -> Value {
    let has = |liveness| {
        live.iter().any(|connection| connection.state.server_name == name && connection.liveness == liveness)
    };
    let (kind, state) = match server.last_end() {
        _ if has(Liveness::Running) => ("running", "running"),
        None if has(Liveness::Killed) => ("bad", "spantap was killed"),
        None => ("unknown", "no end recorded"),
        Some("") => ("ended", "ended in order"),
        Some(how) => ("bad", how),
    };
    json!({
        "name": Printable::new(name), "state": Printable::new(state), "kind": kind, "lossy": server.is_lossy,
        "starts": server.starts, "failures": server.failures, "last_seen": ms(server.last_seen),
    })
}

fn error_row(row: &ErrorRow) -> Value {
    json!({
        "server": Printable::new(&row.server_name), "tool": Printable::new(&row.tool_name),
        "message": Printable::new(&row.message), "count": row.count, "denied": row.denied,
        "last_seen": ms(row.last_seen), "last": Printable::new(&row.last),
    })
}

/// Where the time of each session went, and which operations belong to the start of its servers.
struct SessionTimes<'r> {
    times: HashMap<&'r str, SessionTime>,
    starting: HashSet<(&'r str, u64)>,
}

struct SessionTime {
    time: TimeSpent,
    /// The start of its servers alone.
    start: TimeSpent,
    operations: u64,
}

impl<'r> SessionTimes<'r> {
    fn new(rows: &'r [Box<ReportRow>]) -> SessionTimes<'r> {
        let mut sessions: HashMap<&str, Vec<&OperationRow>> = HashMap::new();
        for row in rows {
            sessions.entry(&row.operation.session_id).or_default().push(&row.operation);
        }
        let mut starting = HashSet::new();
        for rows in sessions.values() {
            let is_start = rows.iter().zip(starting_rows(rows)).filter(|(_, is_start)| *is_start);
            starting.extend(is_start.map(|(row, _)| (&*row.connection_id, row.seq)));
        }
        let spent = |rows: &[&OperationRow]| TimeSpent::new(rows, &[], Timestamp::default());
        let time = |rows: Vec<&OperationRow>| {
            let is_start = rows.iter().zip(starting_rows(&rows));
            let start = is_start.filter(|(row, is_start)| *is_start && !row.status.is_failure());
            let start: Vec<&OperationRow> = start.map(|(row, _)| *row).collect();
            SessionTime { time: spent(&rows), start: spent(&start), operations: rows.len() as u64 }
        };
        SessionTimes { times: sessions.into_iter().map(|(id, rows)| (id, time(rows))).collect(), starting }
    }

    /// Returns the ms before the operation in which nothing was asked in its session, if they are worth a line.
    fn silence_before(&self, row: &OperationRow) -> Option<f64> {
        let SessionTime { time, .. } = self.times.get(&*row.session_id)?;
        time.silence_before(row.started).map(Silence::ms).filter(|ms| *ms >= SILENCE_MS)
    }

    /// Adds the times to the row of a session of which all operations are known.
    fn add_to(&self, row: &mut Value, session_id: &str, operations: u64) {
        let known = self.times.get(session_id).filter(|known| known.operations == operations);
        let Some(SessionTime { time, start, .. }) = known else { return };
        row["time"] = json!([time.starting_ms, time.tools_ms, time.person_ms, time.silent_ms()]);
        let slowest = start.starts.first().map(|start| (Printable::new(&start.server_name), start.ms));
        row["start"] = json!({ "servers": start.starts.len(), "ms": start.starting_ms, "slowest": slowest });
    }
}

impl Timeline {
    /// Makes columns of a second or more, from `rows`, which have to be all operations.
    fn fine(rows: &[Box<ReportRow>], first: Timestamp, last: Timestamp) -> Timeline {
        // In a forged log the first time may be after the last.
        let span = last.0.saturating_sub(first.0).max(0);
        let step = (span / BUCKETS + 1).max(1_000_000);
        let mut timeline = Timeline {
            from: ms(first),
            step: step as f64 / 1000.0,
            buckets: (span / step + 1) as usize,
            servers: BTreeMap::new(),
        };
        for row in rows.iter().map(|row| &row.operation) {
            let bucket = (row.recorded.0.saturating_sub(first.0) / step) as usize;
            let is_call = row.is_tool_call;
            let calls = u32::from(is_call && row.continues_seq.is_none());
            let errors = u32::from(is_call && row.status.is_error());
            timeline.add(&row.server_name, bucket, [calls, errors]);
        }
        timeline
    }

    /// Makes columns of a minute or more.
    fn new(servers: &BTreeMap<Box<str>, ServerTotals>, first: Timestamp, last: Timestamp) -> Timeline {
        let minute = |at: Timestamp| at.0.div_euclid(60_000_000);
        let from = minute(first);
        let span = (minute(last) - from).max(0);
        let step = (span / BUCKETS + 1).max(1);
        let mut timeline = Timeline {
            from: from as f64 * 60_000.0,
            step: step as f64 * 60_000.0,
            buckets: (span / step + 1) as usize,
            servers: BTreeMap::new(),
        };
        for (name, server) in servers {
            timeline.add(name, 0, [0, 0]);
            for (minute, counts) in &server.minutes {
                timeline.add(name, ((minute - from) / step) as usize, *counts);
            }
        }
        timeline
    }

    fn add(&mut self, server: &str, bucket: usize, counts: [u32; 2]) {
        let server = self.servers.entry(Printable::new(server));
        let columns = server.or_insert_with(|| [vec![0; self.buckets], vec![0; self.buckets]]);
        for (column, count) in columns.iter_mut().zip(counts) {
            if let Some(sum) = column.get_mut(bucket) {
                *sum += count;
            }
        }
    }
}

impl OperationTable {
    fn new(
        newest: &[Box<ReportRow>],
        worst: &[Box<ReportRow>],
        times: &SessionTimes<'_>,
        first: Timestamp,
    ) -> OperationTable {
        let half = DETAILED / 2;
        let detailed: HashSet<_> =
            newest.iter().take(half).chain(worst.iter().take(half)).map(|row| key(row)).collect();
        let mut seen = HashSet::new();
        let mut rows: Vec<&ReportRow> = worst.iter().chain(newest).map(Box::as_ref).collect();
        rows.retain(|row| seen.insert(key(row)));
        rows.truncate(MAX_ROWS);
        rows.sort_by(|a, b| a.operation.order().cmp(&b.operation.order()));
        let mut table = OperationTable::default();
        for (index, row) in rows.into_iter().enumerate() {
            let page_row = table.row(row, times.starting.contains(&key(row)), first);
            table.list.push(page_row);
            if let Some(silence) = times.silence_before(&row.operation) {
                table.silences.insert(index, silence.round() as u64);
            }
            if detailed.contains(&key(row)) {
                table.details.insert(index, details(row));
            }
        }
        table
    }

    fn row(&mut self, row: &ReportRow, is_of_start: bool, first: Timestamp) -> PageRow {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let operation = &row.operation;
        let is_failure = operation.status.is_failure();
        let failure = if is_failure { error_type(&operation.error_type, operation.status) } else { "" };
        let message = if is_failure { masked_message(operation) } else { String::new() };
        let turn = match &*operation.turn_id {
            "" => String::new(),
            turn => format!("{}\n{}\n{turn}", operation.session_id, operation.conversation_id),
        };
        PageRow(
            self.servers.number(&operation.server_name),
            self.names.number(operation.name()),
            self.sessions.number(&operation.session_id),
            self.turns.number(&turn),
            operation.status as u8,
            (operation.started.0 - first.0) as f64 / 1000.0,
            operation.duration_ms.unwrap_or(-1.0),
            operation.tokens,
            operation.repeat_count.unwrap_or(1),
            self.types.number(failure),
            flag(operation.is_tool_call, TOOL_CALL)
                | flag(operation.continues_seq.is_some(), CONTINUES)
                | flag(operation.is_slow, SLOW)
                | flag(operation.is_from_server, ASKED_BY_SERVER)
                | flag(is_of_start, OF_START),
            row.cost,
            self.messages.number_of_most(&message, MESSAGES),
            self.connections.number(&operation.connection_id),
            operation.seq,
        )
    }
}

/// Returns what identifies an operation.
fn key(row: &ReportRow) -> (&str, u64) {
    (&row.operation.connection_id, row.operation.seq)
}

/// Returns the ids and hashes of an operation that its row does not have. Empty ones are left out.
fn details(row: &ReportRow) -> Value {
    /// Most characters of a message.
    const MESSAGE: usize = 300;
    let operation = &row.operation;
    let mut details = json!({ "request": Printable::new(&row.request_id) });
    let message = Printable::new(&operation.error_message).cut(MESSAGE, "…");
    let is_masked = operation.error_message.is_empty() || *message == *masked_message(operation);
    for (name, text) in [
        ("method", if operation.is_tool_call { "" } else { &*operation.method }),
        ("conversation", if operation.turn_id.is_empty() { &*operation.conversation_id } else { "" }),
        ("call", &row.call_id),
        ("trace", &row.trace_id),
        ("span", &row.span_id),
        ("arguments", &row.args_hash),
        ("result", &row.result_hash),
        ("text", &row.text_hash),
        ("message", if is_masked { "" } else { &message }),
    ] {
        if !text.is_empty() {
            details[name] = json!(Printable::new(text));
        }
    }
    if let Some(size) = operation.result_size_bytes {
        details["size"] = size.into();
    }
    details
}
