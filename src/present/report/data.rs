//! What the page holds: the boards over everything, and the operations for filters and waterfalls.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use crate::present::format;
use crate::present::report::{Pair, ROWS, Report, Server, counts};
use crate::query::entry::Entry;
use crate::record::cost::Prices;
use crate::record::timestamp::Timestamp;
use crate::record::words::{Direction, Status};
use crate::record::{EventName, Record};

/// Operations that can be looked at with all their ids and hashes: half of them the newest, half the
/// worst.
const DETAILED: usize = 2_000;
/// Columns of the picture of calls over time.
const BUCKETS: i64 = 60;

/// Below this extent, in microseconds, a column that is a minute wide shows nothing.
const FINE: i64 = BUCKETS * 60_000_000;

/// Where the data comes from, in words.
#[derive(Clone, Debug, Default, Serialize)]
pub struct About {
    pub version: String,
    /// When the page was made, milliseconds since 1970.
    pub made_at: f64,
    /// Folder or files, and the time asked for.
    pub source: String,
    /// From which repetition on a call is marked.
    pub warn: u32,
    /// Lines and files that could not be read; empty if all could.
    pub notes: Vec<String>,
}

/// All that the page shows. Every text in it is clean.
#[derive(Debug, Serialize)]
pub struct Data {
    about: About,
    /// Milliseconds since 1970; the times of rows count from here.
    first: f64,
    last: f64,
    operations: u64,
    priced: bool,
    pairs: Vec<PairRow>,
    sessions: Vec<SessionRow>,
    servers: Vec<ServerRow>,
    timeline: Timeline,
    rows: Rows,
}

#[derive(Debug, Serialize)]
struct PairRow {
    server: String,
    tool: String,
    calls: u64,
    errors: u64,
    denied: u64,
    unknown: u64,
    repeats: u64,
    most: u32,
    slow: u64,
    tokens: u64,
    cost: Option<f64>,
    /// p50, p95, p99, maximum, in milliseconds.
    ms: Option<[f64; 4]>,
    types: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct SessionRow {
    id: String,
    hosts: Vec<String>,
    servers: Vec<String>,
    first: f64,
    last: f64,
    calls: u64,
    errors: u64,
    denied: u64,
    unknown: u64,
    turns: u64,
    repeats: u64,
    most: u64,
    slow: u64,
    tokens: u64,
    cost: Option<f64>,
    notes: String,
}

#[derive(Debug, Serialize)]
struct ServerRow {
    name: String,
    state: String,
    bad: bool,
    lossy: bool,
    starts: u64,
    failures: u64,
    last_seen: f64,
}

/// Calls and errors by server and stretch of time.
#[derive(Debug, Default, Serialize)]
struct Timeline {
    /// Milliseconds since 1970.
    from: f64,
    /// Milliseconds.
    step: f64,
    buckets: usize,
    servers: BTreeMap<String, [Vec<u32>; 2]>,
}

/// The operations, names by number.
#[derive(Debug, Default, Serialize)]
struct Rows {
    servers: Names,
    names: Names,
    sessions: Names,
    turns: Names,
    types: Names,
    /// Server, name, session, turn, status, start (ms from `first`), duration (ms or −1), tokens,
    /// repeat, error type, flags, USD.
    list: Vec<Row>,
    /// By place in `list`.
    details: BTreeMap<usize, Detail>,
}

#[derive(Debug, Serialize)]
struct Row(u32, u32, u32, u32, u8, f64, f64, u64, u32, u32, u8, f64);

/// Flags of a [`Row`].
const TOOL_CALL: u8 = 1;
const CONTINUES: u8 = 2;
const SLOW: u8 = 4;
const ASKED_BY_SERVER: u8 = 8;

#[derive(Debug, Default, Serialize)]
struct Detail {
    method: String,
    connection: String,
    seq: u64,
    request: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    conversation: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    turn: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    call: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    trace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    span: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    arguments: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    result: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

/// Clean texts, each once.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
struct Names {
    texts: Vec<String>,
    #[serde(skip)]
    index: HashMap<String, u32>,
}

impl Names {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.index.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.texts.push(clean(text));
        self.index.insert(text.to_owned(), number);
        number
    }
}

fn clean(text: &str) -> String {
    format::clean(text).into_owned()
}

fn ms(at: Timestamp) -> f64 {
    at.0 as f64 / 1000.0
}

/// Why a failure happened, in one word: `error_type`, else the status.
pub(super) fn error_type<'e>(entry: &'e Entry<'_>) -> &'e str {
    if entry.error_type.is_empty() { entry.status.as_str() } else { &entry.error_type }
}

impl Data {
    pub fn new(report: Report<'_>, about: About) -> Data {
        let (first, last) = report.extent.get().unwrap_or_default();
        let prices = report.prices;
        let warn = u64::from(about.warn);
        let newest = report.newest.finish();
        let timeline = if last.0 - first.0 < FINE && report.operations <= ROWS as u64 {
            Timeline::fine(&newest, first, last)
        } else {
            Timeline::new(&report.servers, first, last)
        };
        let servers = report.servers.iter().map(|(name, server)| ServerRow::new(name, server)).collect();
        let rows = Rows::new(newest, report.worst.finish(), first, prices);
        Data {
            about,
            first: ms(first),
            last: ms(last),
            operations: report.operations,
            priced: prices.any(),
            pairs: report.pairs.sorted().into_iter().map(|pair| PairRow::new(pair, prices)).collect(),
            sessions: report
                .sessions
                .finish(None)
                .iter()
                .map(|(id, session)| SessionRow::new(id, session, prices, warn))
                .collect(),
            servers,
            timeline,
            rows,
        }
    }
}

impl PairRow {
    fn new((server, tool, mut pair): (Box<str>, Box<str>, Pair), prices: &Prices) -> PairRow {
        let [errors, denied, unknown] = counts(&pair.timed);
        let figures = &pair.timed.figures;
        PairRow {
            server: clean(&server),
            tool: clean(&tool),
            calls: figures.calls,
            errors,
            denied,
            unknown,
            repeats: figures.repeats,
            most: figures.most_repeats,
            slow: figures.slow,
            tokens: figures.tokens,
            cost: figures.cost(prices),
            ms: pair.timed.durations.quantiles([0.5, 0.95, 0.99, 1.0]),
            types: pair.errors.iter().map(|(error_type, count)| (clean(error_type), *count)).collect(),
        }
    }
}

impl SessionRow {
    fn new(id: &str, session: &crate::present::sessions::Session, prices: &Prices, warn: u64) -> SessionRow {
        let (first, last) = session.extent.get().unwrap_or_default();
        let figures = &session.figures;
        SessionRow {
            id: clean(id),
            hosts: session.hosts.iter().map(|host| clean(host)).collect(),
            servers: session.servers.keys().map(|server| clean(server)).collect(),
            first: ms(first),
            last: ms(last),
            calls: figures.calls,
            errors: figures.errors(),
            denied: figures.with_status(Status::Denied),
            unknown: figures.with_status(Status::Unknown),
            turns: session.turns.turns(),
            repeats: figures.repeats,
            most: session.most_repeats(),
            slow: figures.slow,
            tokens: figures.tokens,
            cost: figures.cost(prices),
            notes: session.notes(warn).0,
        }
    }
}

impl ServerRow {
    fn new(name: &str, server: &Server) -> ServerRow {
        let (state, bad) = server.state();
        ServerRow {
            name: clean(name),
            state,
            bad,
            lossy: server.lossy,
            starts: server.starts,
            failures: server.failures,
            last_seen: ms(server.last_seen),
        }
    }
}

impl Timeline {
    /// From the operations themselves, which must be all there are, in columns of a second or more.
    fn fine(operations: &[Box<[u8]>], first: Timestamp, last: Timestamp) -> Timeline {
        // A forged log may begin after its end.
        let span = last.0.saturating_sub(first.0).max(0);
        let step = (span / BUCKETS + 1).max(1_000_000);
        let buckets = (span / step + 1) as usize;
        let mut servers = BTreeMap::new();
        for entry in operations.iter().filter_map(|line| Entry::parse(line).ok()) {
            let [calls, errors] = servers
                .entry(clean(&entry.server_name))
                .or_insert_with(|| [vec![0; buckets], vec![0; buckets]]);
            let bucket = (entry.timestamp.0.0.saturating_sub(first.0) / step) as usize;
            if entry.event == EventName::McpToolCall
                && let (Some(calls), Some(errors)) = (calls.get_mut(bucket), errors.get_mut(bucket))
            {
                *calls += u32::from(entry.continues_seq.is_none());
                *errors += u32::from(entry.status.is_failure());
            }
        }
        Timeline { from: ms(first), step: step as f64 / 1000.0, buckets, servers }
    }

    fn new(servers: &BTreeMap<Box<str>, Server>, first: Timestamp, last: Timestamp) -> Timeline {
        let minute = |at: Timestamp| at.0.div_euclid(60_000_000);
        let from = minute(first);
        let span = (minute(last) - from).max(0);
        let step = (span / BUCKETS + 1).max(1);
        let buckets = (span / step + 1) as usize;
        let mut timeline = Timeline {
            from: from as f64 * 60_000.0,
            step: step as f64 * 60_000.0,
            buckets,
            servers: BTreeMap::new(),
        };
        for (name, server) in servers {
            let [calls, errors] =
                timeline.servers.entry(clean(name)).or_insert_with(|| [vec![0; buckets], vec![0; buckets]]);
            for (minute, counts) in &server.minutes {
                let bucket = ((minute - from) / step) as usize;
                if let (Some(calls), Some(errors)) = (calls.get_mut(bucket), errors.get_mut(bucket)) {
                    *calls += counts[0];
                    *errors += counts[1];
                }
            }
        }
        timeline
    }
}

impl Rows {
    fn new(newest: Vec<Box<[u8]>>, worst: Vec<Box<[u8]>>, first: Timestamp, prices: &Prices) -> Rows {
        let mut rows = Rows::default();
        let mut seen = HashSet::new();
        let half = DETAILED / 2;
        let detailed: HashSet<(String, u64)> =
            newest.iter().take(half).chain(worst.iter().take(half)).filter_map(|line| key(line)).collect();
        let mut lines: Vec<&[u8]> = worst.iter().chain(&newest).map(|line| &**line).collect();
        lines.retain(|line| key(line).is_some_and(|key| seen.insert(key)));
        lines.truncate(ROWS);
        lines.sort_by_cached_key(|line| {
            Entry::parse(line).ok().map(|entry| (entry.started(), entry.connection_id.to_string(), entry.seq))
        });
        for line in lines {
            let Ok(entry) = Entry::parse(line) else { continue };
            let place = rows.list.len();
            let row = rows.row(&entry, first, prices);
            rows.list.push(row);
            if detailed.contains(&(entry.connection_id.to_string(), entry.seq)) {
                rows.details.insert(place, Detail::new(&entry, line));
            }
        }
        rows
    }

    fn row(&mut self, entry: &Entry<'_>, first: Timestamp, prices: &Prices) -> Row {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let mut figures = crate::query::totals::Figures::default();
        figures.add(entry, prices);
        let error_type = if entry.status.is_failure() { error_type(entry) } else { "" };
        let turn = if entry.turn_id.is_empty() {
            String::new()
        } else {
            format!("{}\n{}\n{}", &*entry.session_id, &*entry.conversation_id, &*entry.turn_id)
        };
        Row(
            self.servers.number(&entry.server_name),
            self.names.number(entry.name()),
            self.sessions.number(&entry.session_id),
            self.turns.number(&turn),
            entry.status as u8,
            (entry.started().0 - first.0) as f64 / 1000.0,
            entry.duration_ms.unwrap_or(-1.0),
            entry.tokens(),
            entry.repeat_count.unwrap_or(1),
            self.types.number(error_type),
            flag(entry.event == EventName::McpToolCall, TOOL_CALL)
                | flag(entry.continues_seq.is_some(), CONTINUES)
                | flag(entry.pending_at.is_some(), SLOW)
                | flag(entry.direction == Some(Direction::ServerToClient), ASKED_BY_SERVER),
            figures.cost(prices).unwrap_or(0.0),
        )
    }
}

/// Which operation a line is.
fn key(line: &[u8]) -> Option<(String, u64)> {
    Entry::parse(line).ok().map(|entry| (entry.connection_id.to_string(), entry.seq))
}

impl Detail {
    fn new(entry: &Entry<'_>, line: &[u8]) -> Detail {
        let record: Record<'_> = serde_json::from_slice(line).unwrap_or_default();
        Detail {
            method: clean(&entry.method),
            connection: clean(&entry.connection_id),
            seq: entry.seq,
            request: clean(&entry.request_id),
            conversation: clean(&entry.conversation_id),
            turn: clean(&entry.turn_id),
            call: clean(record.call_id.as_deref().unwrap_or_default()),
            trace: clean(&entry.trace_id),
            span: clean(&entry.span_id),
            arguments: clean(&entry.args_hash),
            result: clean(&entry.result_hash),
            text: clean(&entry.text_hash),
            size: entry.result_size_bytes,
            message: clean(&entry.error_message),
        }
    }
}
