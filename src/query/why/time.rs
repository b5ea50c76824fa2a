//! Where the time of a session went, and what of it is remarkable.

use std::collections::HashMap;

use serde::Serialize;

use crate::query::live::{LiveConnection, Liveness};
use crate::query::row::OperationRow;
use crate::query::time_spent::{Interval, Silence, TimeSpent, length_ms, overlap_ms, starting_rows, union};
use crate::query::why::story::Story;
use crate::record::live::{LiveRequest, LiveState};
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;

/// Silence of this length ends a turn, unless the host says that the turn goes on.
const TURN_GAP_MS: f64 = 15_000.0;
/// A server that takes this long to start is slow, in milliseconds.
const SLOW_START_MS: f64 = 5_000.0;
/// Time that is lost if servers start one after another and that is worth a remark, in milliseconds.
const LOST_BY_ORDER_MS: f64 = 1_000.0;
/// A person who lets the agent wait for this long is worth a remark, in milliseconds.
pub(super) const LONG_WAIT_FOR_PERSON_MS: f64 = 5_000.0;
/// Silence of this length within a turn is worth a remark, in milliseconds.
const LONG_SILENCE_MS: f64 = 30_000.0;

/// The time of a session, as in [`TimeSpent`].
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct TimeFact {
    /// From the first request to the last answer.
    pub(crate) total_ms: f64,
    /// True if a request is open now, so that the time goes on.
    pub(crate) is_open: bool,
    /// True if only some operations are selected. The time is that of all operations.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_of_all: bool,
    pub(crate) person_ms: f64,
    pub(crate) tools_ms: f64,
    /// Time in which a model worked, as far as the agent reported it.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) model_ms: f64,
    pub(crate) start_ms: f64,
    /// Time in which nothing was open but calls whose answer was not observed.
    pub(crate) unobserved_ms: f64,
    /// Time without an open request, within turns.
    pub(crate) silence_ms: f64,
    /// The longest stretch of it.
    pub(crate) longest_silence_ms: f64,
    /// Time without an open request between two turns.
    pub(crate) between_turns_ms: f64,
    /// The tool that was open longest, without the time in which a person was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) longest_tool: Option<ToolTime>,
    /// Number of servers that started.
    pub(crate) servers: usize,
    /// True if they started before the first call, and hardly two of them at the same time.
    pub(crate) is_sequential: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) slowest_start: Option<StartTime>,
    pub(crate) handle: String,
}

/// The time in which at least one call of a tool was open.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ToolTime {
    pub(crate) server_name: String,
    pub(crate) tool_name: String,
    pub(crate) calls: u64,
    pub(crate) open_ms: f64,
    /// The part of `open_ms` in which no person was asked.
    pub(crate) worked_ms: f64,
    /// Number of those calls that are open now.
    pub(crate) still_open: u64,
    /// Handle of the longest call, or `request` and the request id of a call that is open now.
    pub(crate) handle: String,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct StartTime {
    pub(crate) server_name: String,
    pub(crate) start_ms: f64,
    /// Handle of its first request.
    pub(crate) handle: String,
}

impl TimeFact {
    /// Returns true if the servers took long to start or waited for each other, or if the session waited for most of
    /// its time for a person, or for the agent.
    pub(super) fn stands_out(&self) -> bool {
        let slowest = self.slowest_start.as_ref().map_or(0.0, |start| start.start_ms);
        let is_most = |ms: f64, least: f64| ms >= least && ms >= self.total_ms / 2.0;
        slowest >= SLOW_START_MS
            || self.is_sequential && self.start_ms - slowest >= LOST_BY_ORDER_MS
            || is_most(self.person_ms, LONG_WAIT_FOR_PERSON_MS)
            || is_most(self.longest_silence_ms, LONG_SILENCE_MS)
    }
}

/// Returns where the time went; `None` if it went nowhere.
pub(super) fn fact(story: &Story, live: &[&LiveConnection], now: Timestamp) -> Option<TimeFact> {
    let running = || live.iter().filter(|connection| connection.liveness == Liveness::Running);
    let open: Vec<_> = running().flat_map(|connection| &connection.state.open).collect();
    let all = story.all_rows();
    let rows: Vec<&OperationRow> = all.iter().collect();
    let time = TimeSpent::with_agent(&rows, &open, now, story.agent.times.clone());
    let mut fact = TimeFact {
        total_ms: time.first.ms_until(time.last),
        is_open: !open.is_empty(),
        is_of_all: story.rows.len() < all.len(),
        person_ms: time.person_ms,
        tools_ms: time.tools_ms,
        model_ms: time.model_ms,
        start_ms: time.starting_ms,
        servers: time.starts.len(),
        longest_tool: longest_tool(&all, running().map(|connection| &connection.state), &time.person, now),
        ..TimeFact::default()
    };
    add_starts(&mut fact, &time, &rows);
    add_silences(&mut fact, &time, &all, &union(story.agent.times.turns.clone()));
    let of_start = fact.slowest_start.as_ref().map(|start| &start.handle);
    let of_tool = fact.longest_tool.as_ref().map(|tool| &tool.handle);
    let of_any = rows.last().map(|row| row.handle());
    let longest = if fact.start_ms > fact.tools_ms { of_start.or(of_tool) } else { of_tool.or(of_start) };
    fact.handle = longest.cloned().or(of_any)?;
    (fact.total_ms > 0.0).then_some(fact)
}

fn add_starts(fact: &mut TimeFact, time: &TimeSpent, rows: &[&OperationRow]) {
    let starting =
        || rows.iter().zip(starting_rows(rows)).filter(|(_, is_start)| *is_start).map(|(row, _)| row);
    let first_call = rows.iter().find(|row| row.is_tool_call).map(|row| row.started);
    let sum: f64 = time.starts.iter().map(|start| start.ms).sum();
    let is_before = |row: &&OperationRow| first_call.is_none_or(|first| row.started <= first);
    fact.is_sequential = time.starts.len() > 1 && starting().all(is_before) && time.starting_ms >= 0.9 * sum;
    let Some(slowest) = time.starts.first() else { return };
    let first = starting().find(|row| row.connection_id == slowest.connection_id);
    fact.slowest_start = Some(StartTime {
        server_name: slowest.server_name.to_string(),
        start_ms: slowest.ms,
        handle: first.map(|row| row.handle()).unwrap_or_default(),
    });
}

/// Divides the silences: those within turns, those between turns, and those in which a call was open whose answer was
/// not observed.
fn add_silences(fact: &mut TimeFact, time: &TimeSpent, rows: &[OperationRow], turns: &[Interval]) {
    let is_lost = |row: &&OperationRow| row.is_tool_call && row.status == Status::Unknown;
    let lost = union(rows.iter().filter(is_lost).map(interval).collect());
    for silence in &time.silences {
        let unobserved = overlap_ms(&lost, (silence.from.0, silence.until.0));
        let silent = silence.ms() - unobserved;
        fact.unobserved_ms += unobserved;
        // The agent knows its turns; without it they are guessed.
        let is_in_turn = |(from, until): &Interval| *from < silence.until.0 && *until > silence.from.0;
        let is_between = match turns {
            [] => is_between_turns(rows, silence),
            turns => !turns.iter().any(is_in_turn),
        };
        if is_between {
            fact.between_turns_ms += silent;
        } else {
            fact.silence_ms += silent;
            fact.longest_silence_ms = fact.longest_silence_ms.max(silent);
        }
    }
}

fn is_zero(ms: &f64) -> bool {
    *ms == 0.0
}

/// Returns true if a new turn begins after the silence.
fn is_between_turns(rows: &[OperationRow], silence: &Silence) -> bool {
    if silence.ms() < TURN_GAP_MS {
        return false;
    }
    let after = rows.partition_point(|row| row.started < silence.until);
    let next = rows.get(after);
    let last = rows[..after].iter().rfind(|row| row.ended() == silence.from);
    let (Some(last), Some(next)) = (last, next) else { return false };
    // A number is spantap's own: each connection counts its turns by itself.
    let is_of_host = last.turn_id.parse::<u64>().is_err() || last.connection_id == next.connection_id;
    let is_same = !last.turn_id.is_empty()
        && (&last.conversation_id, &last.turn_id) == (&next.conversation_id, &next.turn_id);
    !(is_of_host && is_same)
}

fn interval(row: &OperationRow) -> Interval {
    (row.started.0, row.ended().0)
}

/// The calls of one tool.
#[derive(Default)]
struct ToolCalls<'a> {
    times: Vec<Interval>,
    longest: Option<&'a OperationRow>,
    /// The calls that are open now.
    open: Vec<&'a LiveRequest>,
}

impl ToolCalls<'_> {
    /// Returns the handle of the call that worked longest.
    fn handle(&self, person: &[Interval], now: Timestamp) -> Option<String> {
        let ended = self.longest.map(|row| (worked_ms(person, interval(row)), row.handle()));
        let oldest = self.open.iter().min_by_key(|request| request.started_at);
        let open = oldest.map(|open| {
            (worked_ms(person, open_interval(open, now)), format!("request {}", open.request_id))
        });
        let longest = ended.into_iter().chain(open).max_by(|a, b| a.0.total_cmp(&b.0));
        longest.map(|(_, handle)| handle)
    }
}

fn open_interval(request: &LiveRequest, now: Timestamp) -> Interval {
    (request.started_at.0, now.0.max(request.started_at.0))
}

/// Returns the part of an interval in which no person was asked, in milliseconds.
fn worked_ms(person: &[Interval], interval: Interval) -> f64 {
    (length_ms(&[interval]) - overlap_ms(person, interval)).max(0.0)
}

/// Returns the tool that worked longest. A moment in which a person was asked, `person`, is not the tool's.
fn longest_tool<'a>(
    rows: &'a [OperationRow],
    running: impl Iterator<Item = &'a LiveState>,
    person: &[Interval],
    now: Timestamp,
) -> Option<ToolTime> {
    let mut by_tool: HashMap<(&str, &str), ToolCalls<'_>> = HashMap::new();
    for row in rows.iter().filter(|row| row.is_tool_call && row.status != Status::Unknown) {
        let tool = by_tool.entry((&row.server_name, &row.target)).or_default();
        tool.times.push(interval(row));
        let worked = |row| worked_ms(person, interval(row));
        if tool.longest.is_none_or(|longest| worked(longest) <= worked(row)) {
            tool.longest = Some(row);
        }
    }
    for state in running {
        let is_call = |request: &&LiveRequest| request.method == "tools/call" && !request.is_from_server;
        for request in state.open.iter().filter(is_call) {
            let tool = by_tool.entry((&state.server_name, &request.target)).or_default();
            tool.times.push(open_interval(request, now));
            tool.open.push(request);
        }
    }
    let times = by_tool.into_iter().filter_map(|((server, tool), mut calls)| {
        let handle = calls.handle(person, now)?;
        let count = calls.times.len() as u64;
        let open = union(std::mem::take(&mut calls.times));
        Some(ToolTime {
            server_name: server.to_owned(),
            tool_name: tool.to_owned(),
            handle,
            calls: count,
            still_open: calls.open.len() as u64,
            open_ms: length_ms(&open),
            worked_ms: open.iter().map(|interval| worked_ms(person, *interval)).sum::<f64>().max(0.0),
        })
    });
    times.max_by(|a, b| a.worked_ms.total_cmp(&b.worked_ms).then_with(|| b.handle.cmp(&a.handle)))
}
