//! `spantap stats`: calls, errors and percentiles by group.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use clap::ValueEnum;
use jiff::tz::{AmbiguousOffset, TimeZone};
use memchr::memmem::Finder;
use serde::{Serialize, Serializer};

use crate::query::entry::LogEntry;
use crate::query::listing::LastListing;
use crate::query::scan::Fold;
use crate::query::select::Selection;
use crate::query::totals::{GroupMap, ReportedTurns, TimeSpan, TimedTotals, TurnCounts};
use crate::record::cost::Prices;
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;
use crate::record::{EventName, tokens};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StatsGrouping {
    #[default]
    #[value(name = "server/tool", alias = "server,tool")]
    ServerTool,
    Server,
    Tool,
    Session,
    Host,
    Day,
    Hour,
    Model,
    Turn,
    // Failures by tool and message, see `query::errors`. A doc comment would become help text.
    Error,
}

impl StatsGrouping {
    /// Returns the keys in `--json` of the columns, in the order of the texts that group calls.
    pub(crate) fn keys(self) -> &'static [&'static str] {
        match self {
            StatsGrouping::ServerTool | StatsGrouping::Error => &["server_name", "tool_name"],
            StatsGrouping::Server => &["server_name"],
            StatsGrouping::Tool => &["tool_name"],
            StatsGrouping::Session => &["session_id"],
            StatsGrouping::Host => &["host_name"],
            StatsGrouping::Day => &["day"],
            StatsGrouping::Hour => &["hour"],
            StatsGrouping::Model => &["model"],
            StatsGrouping::Turn => &["turn_id"],
        }
    }

    /// Returns true if the rows are of what agents reported, not of calls.
    pub(crate) fn is_of_agents(self) -> bool {
        matches!(self, StatsGrouping::Model | StatsGrouping::Turn)
    }

    /// Returns true if the rows are spans of time, one after the other.
    pub(crate) fn is_time(self) -> bool {
        matches!(self, StatsGrouping::Day | StatsGrouping::Hour)
    }
}

/// The column by which rows are sorted, greatest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatsOrder {
    Calls,
    Errors,
    P95,
    Tokens,
}

/// Adds up the selected tool calls; with `--method`, the requests of that method.
pub struct StatsTable<'a> {
    select: &'a Selection,
    prices: &'a Prices,
    by: StatsGrouping,
    zone: &'a TimeZone,
    words: Vec<Finder<'static>>,
    groups: GroupMap<StatsGroup>,
    /// Bytes of the definitions that each server listed last, where servers are the groups.
    definitions: BTreeMap<Box<str>, LastListing<u64>>,
    total: StatsGroup,
    span: TimeSpan,
    reported: ReportedTurns,
}

#[derive(Clone, Debug, Default)]
struct StatsGroup {
    timed: TimedTotals,
    turns: TurnCounts,
}

impl<'a> StatsTable<'a> {
    /// Days and hours begin as in `zone`.
    pub fn new(
        select: &'a Selection,
        prices: &'a Prices,
        by: StatsGrouping,
        zone: &'a TimeZone,
    ) -> StatsTable<'a> {
        let mut words = vec!["mcp_tool_call"];
        words.extend(select.method.as_ref().map(|_| "mcp_request"));
        words.extend((by == StatsGrouping::Server).then_some("tools_listed"));
        StatsTable {
            select,
            prices,
            by,
            zone,
            words: words.into_iter().map(Finder::new).collect(),
            groups: GroupMap::default(),
            definitions: BTreeMap::new(),
            total: StatsGroup::default(),
            span: TimeSpan::default(),
            reported: ReportedTurns::default(),
        }
    }

    /// Takes the turns that the agents of the sessions reported.
    pub(crate) fn tell(&mut self, reported: ReportedTurns) {
        self.reported = reported;
    }

    /// Returns the rows, sorted by `order`; without it by calls, or by time if the rows are times.
    pub fn finish(self, order: Option<StatsOrder>) -> StatsSummary {
        let minutes = self.span.ms() / 60_000.0;
        let mut total = self.total;
        let mut rows: Vec<StatsRow> = self
            .groups
            .sorted()
            .into_iter()
            .map(|(first, second, mut group)| {
                group.turns.settle();
                group.turns.tell(&self.reported);
                let mut row = StatsRow::new(&mut group, self.prices, minutes);
                row.definition_tokens_est = self
                    .definitions
                    .get(&first)
                    .and_then(LastListing::last)
                    .map(|last| tokens(last.pages.into_iter().sum()));
                let names = match self.by {
                    // The first character is the order of the offsets.
                    StatsGrouping::Hour => {
                        [format!("{first}{}", second.get(1..).unwrap_or_default()), String::new()]
                    }
                    _ => [first, second].map(String::from),
                };
                row.names = self.by.keys().iter().copied().zip(names).collect();
                total.turns.merge(group.turns);
                row
            })
            .collect();
        rows.sort_by(|a, b| match order {
            None if self.by.is_time() => Ordering::Equal,
            None | Some(StatsOrder::Calls) => b.calls.cmp(&a.calls),
            Some(StatsOrder::Errors) => b.errors.cmp(&a.errors).then(b.calls.cmp(&a.calls)),
            Some(StatsOrder::P95) => b.p95_ms.unwrap_or(-1.0).total_cmp(&a.p95_ms.unwrap_or(-1.0)),
            Some(StatsOrder::Tokens) => b.tokens_est.cmp(&a.tokens_est),
        });
        total.turns.settle();
        total.turns.tell(&self.reported);
        let total = StatsRow::new(&mut total, self.prices, minutes);
        StatsSummary { by: self.by, rows, total, span: self.span }
    }
}

impl Fold for StatsTable<'_> {
    fn wants(&self, line: &[u8]) -> bool {
        self.words.iter().any(|word| word.find(line).is_some())
    }

    fn take(&mut self, entry: &LogEntry<'_>, _line: &[u8]) {
        if entry.event == EventName::ToolsListed {
            if self.by == StatsGrouping::Server && self.select.takes_lasting(entry) {
                let server = self.definitions.entry((*entry.server_name).into()).or_default();
                server.add(entry, entry.definition_bytes.unwrap_or(0));
            }
            return;
        }
        let wanted = entry.event == EventName::McpToolCall || self.select.method.is_some();
        if !wanted || !self.select.takes_operation(entry) {
            return;
        }
        let time;
        let (first, second) = match self.by {
            StatsGrouping::Day => {
                time = (entry.timestamp.local(self.zone, "%Y-%m-%d"), String::new());
                (&*time.0, "")
            }
            StatsGrouping::Hour => {
                time = hour(entry.timestamp, self.zone);
                (&*time.0, &*time.1)
            }
            StatsGrouping::ServerTool | StatsGrouping::Error => (&*entry.server_name, entry.name()),
            StatsGrouping::Server => (&*entry.server_name, ""),
            StatsGrouping::Tool => (entry.name(), ""),
            StatsGrouping::Session => (&*entry.session_id, ""),
            StatsGrouping::Host => (&*entry.host_name, ""),
            // Agents report models and turns, see `query::agents::table`.
            StatsGrouping::Model | StatsGrouping::Turn => return,
        };
        let group = self.groups.at(first, second);
        group.timed.add(entry, self.prices);
        // Turns need memory for every operation, so they are counted once: by group where a row shows them,
        // otherwise for the total.
        match self.by {
            StatsGrouping::Session | StatsGrouping::Host => group.turns.add(entry),
            _ => self.total.turns.add(entry),
        }
        self.total.timed.calls.add(entry, self.prices);
        self.span.add(entry.started(), entry.timestamp);
    }

    fn merge(&mut self, other: StatsTable<'_>) {
        self.groups.merge(other.groups, |group, other| {
            group.timed.merge(other.timed);
            group.turns.merge(other.turns);
        });
        for (server, listing) in other.definitions {
            self.definitions.entry(server).or_default().merge(listing);
        }
        self.total.timed.merge(other.total.timed);
        self.total.turns.merge(other.total.turns);
        self.span.merge(other.span);
    }
}

/// Returns the local hour of `at`. An hour that the zone has twice, at the end of summer time, has its offset from UTC
/// as the second text, after a digit for its order.
fn hour(at: Timestamp, zone: &TimeZone) -> (String, String) {
    let offset = jiff::Timestamp::from_microsecond(at.0).ok().and_then(|instant| {
        let zoned = instant.to_zoned_datetime(zone.clone());
        let first = zoned.datetime().with().minute(0).second(0).subsec_nanosecond(0).build().ok()?;
        let last = first.with().minute(59).second(59).build().ok()?;
        [first, last].into_iter().find_map(|local| match zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Fold { after, .. } => {
                Some(format!("{}{}", u8::from(zoned.offset() == after), at.local(zone, "%:z")))
            }
            _ => None,
        })
    });
    (at.local(zone, "%Y-%m-%d %H:00"), offset.unwrap_or_default())
}

#[derive(Clone, Debug)]
pub struct StatsSummary {
    pub(crate) by: StatsGrouping,
    pub(crate) rows: Vec<StatsRow>,
    pub(crate) total: StatsRow,
    pub(crate) span: TimeSpan,
}

/// One group: the line of `--json`. A field that does not apply is absent.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct StatsRow {
    /// Keys and texts of the columns that group calls. With `--method` the tool is the target of the request.
    #[serde(flatten, serialize_with = "serialize_names")]
    pub(crate) names: Vec<(&'static str, String)>,
    pub(crate) calls: u64,
    /// Calls a minute between the first and the last selected operation of all groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) calls_per_minute: Option<f64>,
    /// Operations with a known status other than `ok`.
    pub(crate) errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error_rate: Option<f64>,
    pub(crate) denied: u64,
    pub(crate) timeouts: u64,
    pub(crate) cancelled: u64,
    /// Operations whose end was not observed; part of `calls`, not of the error rate.
    pub(crate) unknown: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_ms: Option<f64>,
    /// Calls that repeat an earlier call with the same arguments.
    pub(crate) repeats: u64,
    pub(crate) most_repeats: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) turns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) conversations: Option<u64>,
    /// Tokens of the server's definitions, which are not part of `tokens_est`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) definition_tokens_est: Option<u64>,
    pub(crate) tokens_est: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cost_usd_est: Option<f64>,
}

impl StatsRow {
    fn new(group: &mut StatsGroup, prices: &Prices, minutes: f64) -> StatsRow {
        let calls = &group.timed.calls;
        let quantiles = group.timed.durations.quantiles([0.5, 0.95, 0.99, 1.0]);
        let has_turns = group.turns.conversations() > 0;
        StatsRow {
            calls: calls.calls,
            // A rate over a few seconds would be a guess.
            calls_per_minute: (minutes >= 0.5).then(|| calls.calls as f64 / minutes),
            errors: calls.errors(),
            error_rate: calls.error_rate(),
            denied: calls.with_status(Status::Denied),
            timeouts: calls.with_status(Status::Timeout),
            cancelled: calls.with_status(Status::Cancelled),
            unknown: calls.with_status(Status::Unknown),
            p50_ms: quantiles.map(|quantiles| quantiles[0]),
            p95_ms: quantiles.map(|quantiles| quantiles[1]),
            p99_ms: quantiles.map(|quantiles| quantiles[2]),
            max_ms: quantiles.map(|quantiles| quantiles[3]),
            repeats: calls.repeats,
            most_repeats: calls.most_repeats,
            turns: has_turns.then(|| group.turns.turns()),
            conversations: has_turns.then(|| group.turns.conversations()),
            tokens_est: calls.tokens,
            cost_usd_est: calls.cost(prices),
            ..StatsRow::default()
        }
    }
}

fn serialize_names<S: Serializer>(
    names: &[(&'static str, String)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(names.iter().map(|(key, name)| (key, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_that_a_zone_has_twice_has_two_rows_in_the_order_of_time() {
        let hours = |zone: &str, times: &[&str]| -> Vec<String> {
            let zone = TimeZone::posix(zone).unwrap();
            let (select, prices) = (Selection::default(), Prices::default());
            let mut table = StatsTable::new(&select, &prices, StatsGrouping::Hour, &zone);
            for time in times.iter().rev() {
                let line =
                    format!(r#"{{"schema":"spantap/1","event":"mcp_tool_call","timestamp":"{time}"}}"#);
                table.take(&LogEntry::parse(line.as_bytes()).unwrap(), b"");
            }
            table.finish(None).rows.into_iter().map(|row| row.names[0].1.clone()).collect()
        };
        assert_eq!(
            hours(
                "CET-1CEST,M3.5.0,M10.5.0/3",
                &[
                    "2026-10-24T23:30:00Z",
                    "2026-10-25T00:30:00Z",
                    "2026-10-25T00:59:59Z",
                    "2026-10-25T01:30:00Z",
                    "2026-10-25T02:30:00Z"
                ]
            ),
            ["2026-10-25 01:00", "2026-10-25 02:00+02:00", "2026-10-25 02:00+01:00", "2026-10-25 03:00"]
        );
        assert_eq!(
            hours("EST5EDT,M3.2.0,M11.1.0", &["2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z"]),
            ["2026-11-01 01:00-04:00", "2026-11-01 01:00-05:00"]
        );
        // Lord Howe Island: half an hour is repeated.
        assert_eq!(
            hours(
                "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
                &[
                    "2026-04-04T14:10:00Z",
                    "2026-04-04T14:40:00Z",
                    "2026-04-04T15:10:00Z",
                    "2026-04-04T15:40:00Z"
                ]
            ),
            ["2026-04-05 01:00+11:00", "2026-04-05 01:00+10:30", "2026-04-05 02:00"]
        );
    }
}
