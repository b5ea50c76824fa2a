//! `spantap report`: one page that answers whether servers live, fail, are slow, loop, and what it cost.
//!
//! The page holds everything: style, script and data, and its content security policy forbids it to
//! load or send anything. Whatever comes from a log is in the data, as JSON in which no `<` is left,
//! and reaches the page as text nodes only.

use std::collections::{BTreeMap, HashMap};

use crate::present::sessions::Sessions;
use crate::query::entry::Entry;
use crate::query::scan::Fold;
use crate::query::select::Select;
use crate::query::totals::{Extent, Groups, Timed};
use crate::record::EventName;
use crate::record::cost::Prices;
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;

mod data;
mod keep;
mod page;

pub use data::{About, Data};
pub use page::page;

use keep::Top;

/// Operations in the page: up to here its filters compute with all of them.
pub(crate) const ROWS: usize = 10_000;
/// Of more operations than that, the worst that are kept beside the newest.
const WORST: usize = 1_000;

/// Adds up what the boards show.
pub struct Report<'a> {
    select: &'a Select,
    prices: &'a Prices,
    /// Tool calls by server and tool.
    pairs: Groups<Pair>,
    sessions: Sessions<'a>,
    servers: BTreeMap<Box<str>, Server>,
    extent: Extent,
    operations: u64,
    newest: Top<Timestamp>,
    worst: Top<(bool, u64)>,
}

#[derive(Clone, Debug, Default)]
struct Pair {
    timed: Timed,
    /// Failures by `error_type`.
    errors: BTreeMap<Box<str>, u64>,
}

/// How a server is.
#[derive(Clone, Debug, Default)]
struct Server {
    last_seen: Timestamp,
    last_start: Timestamp,
    /// When and how its last process to end ended; the text is empty for an ordinary end.
    last_end: Option<(Timestamp, String)>,
    starts: u64,
    /// Processes that died, or did not start.
    failures: u64,
    /// Records or bytes were lost.
    lossy: bool,
    /// Calls and failures by minute since 1970.
    minutes: HashMap<i64, [u32; 2]>,
}

impl<'a> Report<'a> {
    pub fn new(select: &'a Select, prices: &'a Prices) -> Report<'a> {
        Report {
            select,
            prices,
            pairs: Groups::default(),
            sessions: Sessions::new(select, prices, false),
            servers: BTreeMap::new(),
            extent: Extent::default(),
            operations: 0,
            newest: Top::new(ROWS),
            worst: Top::new(WORST),
        }
    }

    pub fn operations(&self) -> u64 {
        self.operations
    }
}

impl<'a> Fold for Report<'a> {
    fn take(&mut self, entry: &Entry<'_>, line: &[u8]) {
        if !self.select.takes_place(entry) {
            return;
        }
        self.sessions.take(entry, line);
        if !self.servers.contains_key(&*entry.server_name) {
            self.servers.insert((*entry.server_name).into(), Server::default());
        }
        let Some(server) = self.servers.get_mut(&*entry.server_name) else { return };
        server.take(entry);
        if !self.select.takes_operation(entry) {
            return;
        }
        self.operations += 1;
        self.extent.add(entry.started(), entry.timestamp.0);
        let micros = (entry.duration_ms.unwrap_or(0.0).max(0.0) * 1000.0) as u64;
        self.newest.offer(entry.timestamp.0, line);
        self.worst.offer((entry.status.is_failure(), micros), line);
        if entry.event != EventName::McpToolCall {
            return;
        }
        let minute = server.minutes.entry(entry.timestamp.0.0.div_euclid(60_000_000)).or_default();
        minute[0] += u32::from(entry.continues_seq.is_none());
        minute[1] += u32::from(entry.status.is_failure());
        let pair = self.pairs.at(&entry.server_name, &entry.tool_name);
        pair.timed.add(entry, self.prices);
        if entry.status.is_failure() {
            let error_type = data::error_type(entry);
            match pair.errors.get_mut(error_type) {
                Some(count) => *count += 1,
                None => drop(pair.errors.insert(error_type.into(), 1)),
            }
        }
    }

    fn merge(&mut self, other: Report<'a>) {
        self.pairs.merge(other.pairs, |pair, other| {
            pair.timed.merge(other.timed);
            for (error_type, count) in other.errors {
                *pair.errors.entry(error_type).or_default() += count;
            }
        });
        self.sessions.merge(other.sessions);
        for (name, server) in other.servers {
            self.servers.entry(name).or_default().merge(server);
        }
        self.extent.merge(other.extent);
        self.operations += other.operations;
        self.newest.merge(other.newest);
        self.worst.merge(other.worst);
    }
}

impl Server {
    fn take(&mut self, entry: &Entry<'_>) {
        let at = entry.timestamp.0;
        self.last_seen = self.last_seen.max(at);
        match entry.event {
            EventName::SessionStarted => {
                self.starts += 1;
                self.last_start = self.last_start.max(at);
            }
            EventName::Gap => self.lossy = true,
            EventName::SessionEnded => {
                let how = crate::present::sessions::death(entry);
                self.failures += u64::from(how.is_some());
                let end = (at, how.unwrap_or_default());
                self.last_end = self.last_end.take().max(Some(end));
            }
            _ => {}
        }
    }

    fn merge(&mut self, other: Server) {
        self.last_seen = self.last_seen.max(other.last_seen);
        self.last_start = self.last_start.max(other.last_start);
        self.last_end = self.last_end.take().max(other.last_end);
        self.starts += other.starts;
        self.failures += other.failures;
        self.lossy |= other.lossy;
        for (minute, [calls, errors]) in other.minutes {
            let sum = self.minutes.entry(minute).or_default();
            sum[0] += calls;
            sum[1] += errors;
        }
    }

    /// How the server was last known to be, and whether that is bad.
    fn state(&self) -> (String, bool) {
        match &self.last_end {
            Some((at, how)) if *at >= self.last_start => match how.as_str() {
                "" => ("ended in order".to_owned(), false),
                how => (how.to_owned(), true),
            },
            _ => ("no end recorded".to_owned(), false),
        }
    }
}

/// Counts of one pair that the page wants by name.
fn counts(timed: &Timed) -> [u64; 3] {
    let figures = &timed.figures;
    [figures.errors(), figures.with_status(Status::Denied), figures.with_status(Status::Unknown)]
}
