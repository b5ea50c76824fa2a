//! Divides the time of operations among the start of servers, open requests, a person who was asked, and silence.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::query::row::OperationRow;
use crate::record::live::LiveRequest;
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;

/// The time from the first request to the last answer. Each moment counts once: a moment in which a person was
/// asked is the person's, otherwise an open request of the client has it, otherwise a call of a model, otherwise the
/// start of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct TimeSpent {
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    /// Waiting for a person: elicitations, and the time between two rounds of a call.
    pub(crate) person_ms: f64,
    /// The times of `person_ms`, in their order; none touches another.
    pub(super) person: Vec<Interval>,
    /// Waiting for a model, as far as the agent reported it.
    pub(crate) model_ms: f64,
    /// Waiting for answers to tool calls and to other requests.
    pub(crate) tools_ms: f64,
    /// Waiting for greetings and listings before the first other request to a server.
    pub(crate) starting_ms: f64,
    /// Times in which nothing was asked, in their order: the agent, its model or its user works.
    pub(crate) silences: Vec<Silence>,
    /// The servers that started, the slowest first.
    pub(crate) starts: Vec<StartupTime>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Silence {
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

/// The greetings and listings of one connection.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StartupTime {
    pub(crate) server_name: Arc<str>,
    pub(crate) connection_id: Arc<str>,
    /// Time in which the server was asked for them.
    pub(crate) ms: f64,
}

/// From and until, in microseconds.
pub(super) type Interval = (i64, i64);

/// Times that an agent reported.
#[derive(Clone, Debug, Default)]
pub(crate) struct AgentTimes {
    pub(crate) models: Vec<Interval>,
    /// Waiting for a person, before a tool ran.
    pub(crate) people: Vec<Interval>,
    pub(crate) turns: Vec<Interval>,
}

impl TimeSpent {
    pub(crate) fn new(rows: &[&OperationRow], open: &[&LiveRequest], now: Timestamp) -> TimeSpent {
        TimeSpent::with_agent(rows, open, now, AgentTimes::default())
    }

    /// Adds up the time of `rows` and of requests that are `open` now. An answer that was not observed has no known
    /// duration and counts nothing; neither does a subscription, which is open as long as its connection.
    pub(crate) fn with_agent(
        rows: &[&OperationRow],
        open: &[&LiveRequest],
        now: Timestamp,
        agent: AgentTimes,
    ) -> TimeSpent {
        let mut person = between_rounds(rows);
        person.extend(agent.people);
        let mut tools = Vec::new();
        let mut starting: Vec<Interval> = Vec::new();
        let mut starts: BTreeMap<&Arc<str>, (&Arc<str>, Vec<Interval>)> = BTreeMap::new();
        for (row, is_start) in rows.iter().zip(starting_rows(rows)) {
            let interval = (row.started.0, row.ended().0);
            match kind(&row.method, row.is_from_server) {
                // A greeting that was not answered is a start that took no known time.
                _ if is_start => {
                    let known = (row.status != Status::Unknown).then_some(interval);
                    starting.extend(known);
                    let start = starts.entry(&row.connection_id).or_insert((&row.server_name, Vec::new()));
                    start.1.extend(known);
                }
                _ if row.status == Status::Unknown => {}
                Some(Asked::Person) => person.push(interval),
                Some(Asked::Server) => tools.push(interval),
                None => {}
            }
        }
        for request in open {
            let interval = (request.started_at.0, now.0.max(request.started_at.0));
            match kind(&request.method, request.is_from_server) {
                Some(Asked::Person) => person.push(interval),
                Some(Asked::Server) if is_greeting(&request.method) => starting.push(interval),
                Some(Asked::Server) => tools.push(interval),
                None => {}
            }
        }
        let starts = starts.into_iter().map(|(connection_id, (server_name, intervals))| StartupTime {
            server_name: Arc::clone(server_name),
            connection_id: Arc::clone(connection_id),
            ms: length_ms(&union(intervals)),
        });
        let mut starts: Vec<StartupTime> = starts.collect();
        starts.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        TimeSpent { starts, ..TimeSpent::divided(person, tools, agent.models, starting) }
    }

    fn divided(
        person: Vec<Interval>,
        tools: Vec<Interval>,
        models: Vec<Interval>,
        starting: Vec<Interval>,
    ) -> TimeSpent {
        let person = union(person);
        let with_tools = union([&person[..], &tools].concat());
        let with_models = union([&with_tools[..], &models].concat());
        let all = union([&with_models[..], &starting].concat());
        let silences =
            all.windows(2).map(|pair| Silence { from: Timestamp(pair[0].1), until: Timestamp(pair[1].0) });
        TimeSpent {
            first: Timestamp(all.first().map_or(0, |interval| interval.0)),
            last: Timestamp(all.last().map_or(0, |interval| interval.1)),
            person_ms: length_ms(&person),
            tools_ms: length_ms(&with_tools) - length_ms(&person),
            model_ms: length_ms(&with_models) - length_ms(&with_tools),
            starting_ms: length_ms(&all) - length_ms(&with_models),
            silences: silences.collect(),
            starts: Vec::new(),
            person,
        }
    }

    /// Returns the silence that ended at `at`.
    pub(crate) fn silence_before(&self, at: Timestamp) -> Option<&Silence> {
        let found = self.silences.binary_search_by_key(&at, |silence| silence.until);
        found.ok().and_then(|index| self.silences.get(index))
    }

    pub(crate) fn silent_ms(&self) -> f64 {
        self.silences.iter().map(Silence::ms).sum()
    }
}

impl Silence {
    pub(crate) fn ms(&self) -> f64 {
        (self.until.0 - self.from.0) as f64 / 1000.0
    }
}

/// Returns for each row whether it belongs to the start of its server: a greeting or a listing before the client
/// asked the server for anything else.
pub(crate) fn starting_rows(rows: &[&OperationRow]) -> Vec<bool> {
    let is_of_start = |row: &OperationRow| !row.is_from_server && is_greeting(&row.method);
    let mut first_use: HashMap<&str, Timestamp> = HashMap::new();
    for row in rows.iter().filter(|row| !row.is_from_server && !is_of_start(row)) {
        let first = first_use.entry(&row.connection_id).or_insert(row.started);
        *first = row.started.min(*first);
    }
    let is_before_use =
        |row: &OperationRow| first_use.get(&*row.connection_id).is_none_or(|first| row.started < *first);
    rows.iter().map(|row| is_of_start(row) && is_before_use(row)).collect()
}

/// Returns true if clients send the method when they have started a server, before they use it.
pub(super) fn is_greeting(method: &str) -> bool {
    matches!(method, "initialize" | "server/discover" | "logging/setLevel" | "ping")
        || method.ends_with("/list")
}

/// The side that a request waits for.
enum Asked {
    Person,
    Server,
}

/// Returns the side that a request waits for; `None` if its time is that of another request, or of none.
fn kind(method: &str, is_from_server: bool) -> Option<Asked> {
    match method {
        "elicitation/create" => Some(Asked::Person),
        "subscriptions/listen" => None,
        _ => (!is_from_server).then_some(Asked::Server),
    }
}

/// Returns the times between a round of a call, whose result asked for input, and the next round.
fn between_rounds(rows: &[&OperationRow]) -> Vec<Interval> {
    if rows.iter().all(|row| row.continues_seq.is_none()) {
        return Vec::new();
    }
    let ended: HashMap<(&str, u64), i64> =
        rows.iter().map(|row| ((&*row.connection_id, row.seq), row.ended().0)).collect();
    let wait = |row: &&OperationRow| {
        let asked = *ended.get(&(&*row.connection_id, row.continues_seq?))?;
        Some((asked, row.started.0))
    };
    rows.iter().filter_map(wait).collect()
}

/// Returns the intervals in their order, without those that touch or overlap an earlier one: they extend it. One
/// that ends before it begins, as after a step of the clock, is left out.
pub(super) fn union(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.retain(|(from, until)| from <= until);
    intervals.sort_unstable();
    let mut union: Vec<Interval> = Vec::with_capacity(intervals.len());
    for (from, until) in intervals {
        match union.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(until),
            _ => union.push((from, until)),
        }
    }
    union
}

/// Returns for how long `interval` overlaps a [`union`], in milliseconds.
pub(super) fn overlap_ms(union: &[Interval], (from, until): Interval) -> f64 {
    let first = union.partition_point(|other| other.1 <= from);
    let during = union[first..].iter().take_while(|other| other.0 < until);
    during.map(|other| other.1.min(until).saturating_sub(other.0.max(from)).max(0) as f64 / 1000.0).sum()
}

pub(super) fn length_ms(union: &[Interval]) -> f64 {
    // The sum of nothing is -0 as a floating-point number, and 0 as an integer.
    union.iter().map(|(from, until)| until - from).sum::<i64>() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::entry::LogEntry;
    use crate::query::name_pool::NamePool;

    /// Makes a row of connection and server `server`; times are milliseconds after 1 s past the minute.
    fn row(server: &str, method: &str, start: i64, ms: f64, more: &str) -> OperationRow {
        let event = if method == "tools/call" { "mcp_tool_call" } else { "mcp_request" };
        let started = Timestamp(1_800_000_000_000_000 + start * 1000);
        let line = format!(
            r#"{{"schema":"spantap/1","event":"{event}","method":"{method}","connection_id":"{server}","server_name":"{server}","started_at":"{started}","duration_ms":{ms},"status":"ok"{more}}}"#
        );
        OperationRow::new(&LogEntry::parse(line.as_bytes()).unwrap(), &mut NamePool::default())
    }

    /// Returns starting, tools, person and silence in ms.
    fn spent(rows: &[OperationRow]) -> [f64; 4] {
        let time = TimeSpent::new(&rows.iter().collect::<Vec<_>>(), &[], Timestamp(0));
        let parts = [time.starting_ms, time.tools_ms, time.person_ms, time.silent_ms()];
        let all = (time.last.0 - time.first.0) as f64 / 1000.0;
        assert!((parts.iter().sum::<f64>() - all).abs() < 1e-6, "{parts:?} of {all}");
        parts
    }

    #[test]
    fn each_moment_counts_once_also_where_servers_start_and_answer_at_the_same_time() {
        let rows = [
            row("git", "initialize", 0, 1500.0, ""),
            row("files", "initialize", 1000, 1000.0, ""),
            row("files", "tools/list", 2100, 100.0, ""),
            // While a tool works, the start of another server costs nothing.
            row("files", "tools/call", 2500, 1000.0, ""),
            row("files", "tools/call", 3000, 1000.0, ""),
            row("memory", "initialize", 3900, 300.0, ""),
        ];
        assert_eq!(spent(&rows), [2300.0, 1500.0, 0.0, 400.0]);
        let time = TimeSpent::new(&rows.iter().collect::<Vec<_>>(), &[], Timestamp(0));
        let starts: Vec<_> = time.starts.iter().map(|start| (&*start.server_name, start.ms)).collect();
        assert_eq!(starts, [("git", 1500.0), ("files", 1100.0), ("memory", 300.0)]);
        assert_eq!(time.silences.iter().map(Silence::ms).collect::<Vec<_>>(), [100.0, 300.0]);
    }

    #[test]
    fn a_person_has_the_time_of_an_elicitation_and_of_the_pause_between_two_rounds() {
        let asked = r#","direction":"server_to_client""#;
        let elicited =
            [row("a", "tools/call", 0, 1000.0, ""), row("a", "elicitation/create", 200, 700.0, asked)];
        assert_eq!(spent(&elicited), [0.0, 300.0, 700.0, 0.0]);
        let rounds = [
            row("a", "tools/call", 0, 10.0, r#","seq":4"#),
            row("a", "tools/call", 8010, 20.0, r#","seq":6,"continues_seq":4"#),
        ];
        assert_eq!(spent(&rounds), [0.0, 30.0, 8000.0, 0.0]);
        // The model of the client works for the server: its time is the call's.
        let sampled = [row("a", "tools/call", 0, 9.0, ""), row("a", "sampling/createMessage", 1, 7.0, asked)];
        assert_eq!(spent(&sampled), [0.0, 9.0, 0.0, 0.0]);
    }

    #[test]
    fn a_model_has_the_moments_in_which_neither_a_person_nor_a_tool_was_waited_for() {
        let rows = [row("a", "initialize", 0, 500.0, ""), row("a", "tools/call", 2000, 1000.0, "")];
        let at = |ms: i64| 1_800_000_000_000_000 + ms * 1000;
        let agent = AgentTimes {
            models: vec![(at(400), at(1400)), (at(2500), at(3500))],
            people: vec![(at(1300), at(1900))],
            turns: Vec::new(),
        };
        let time = TimeSpent::with_agent(&rows.iter().collect::<Vec<_>>(), &[], Timestamp(0), agent);
        let parts = [time.starting_ms, time.model_ms, time.person_ms, time.tools_ms, time.silent_ms()];
        assert_eq!(parts, [400.0, 1400.0, 600.0, 1000.0, 100.0]);
    }

    #[test]
    fn a_listing_after_the_first_use_is_not_a_start_and_a_subscription_costs_nothing() {
        let rows = [
            row("a", "resources/read", 0, 10.0, ""),
            row("a", "tools/list", 20, 5.0, ""),
            row("a", "subscriptions/listen", 21, 90_000.0, ""),
        ];
        assert_eq!(spent(&rows), [0.0, 15.0, 0.0, 10.0]);
        assert_eq!(starting_rows(&rows.iter().collect::<Vec<_>>()), [false; 3]);
    }

    #[test]
    fn an_open_request_lasts_until_now_and_an_answer_that_was_not_observed_for_no_known_time() {
        let lost = OperationRow { status: Status::Unknown, ..row("a", "tools/call", 0, 50_000.0, "") };
        assert_eq!(spent(&[lost, row("a", "tools/call", 100, 10.0, "")]), [0.0, 10.0, 0.0, 0.0]);

        let started_at = Timestamp(1_800_000_000_000_000);
        let open =
            |method: &str| LiveRequest { method: method.to_owned(), started_at, ..LiveRequest::default() };
        let time = |method, now| TimeSpent::new(&[], &[&open(method)], Timestamp(now));
        assert_eq!(time("tools/call", started_at.0 + 4_000_000).tools_ms, 4000.0);
        assert_eq!(time("initialize", started_at.0 + 4_000_000).starting_ms, 4000.0);
        // A clock that was set back does not make time negative.
        assert_eq!(time("tools/call", started_at.0 - 4_000_000).tools_ms, 0.0);
    }

    #[test]
    fn without_operations_and_with_impossible_times_there_is_no_time() {
        assert_eq!(spent(&[]), [0.0; 4]);
        let rounds = [
            row("a", "tools/call", 5000, -3.0, r#","seq":4"#),
            row("a", "tools/call", 10, 1.0, r#","seq":6,"continues_seq":4"#),
        ];
        assert_eq!(spent(&rounds), [0.0, 1.0, 0.0, 4989.0]);
        let far = row("a", "tools/call", 0, 1e300, "");
        assert!(spent(&[far])[1] > 0.0);
    }
}
