//! Finds for each call the tool of the agent that it belongs to, and the model call that asked for it.
//!
//! A call and a tool are joined by their call id, else by the trace that the agent sent, else by conversation or
//! process, name and time. The last three are one-to-one, and the nearest starts are joined first.

use std::collections::{HashMap, HashSet};

use crate::query::agents::RunFact;
use crate::query::agents::facts::digest;
use crate::query::agents::names::{CANDIDATES, SLACK_US, names_of_tool, plain};
use crate::query::agents::time_index::{TimeIndex, nearest};
use crate::query::find::OperationMatch;
use crate::record::timestamp::Timestamp;
use crate::text::words::words;

words! {
    /// Common property of two records that belong together.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub(crate) enum JoinedBy {
        CallId = "call_id",
        Trace = "trace",
        Turn = "turn",
        Conversation = "conversation",
        Host = "host",
    }
}

/// Reason why a record belongs to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Join {
    pub(crate) by: JoinedBy,
    /// True if several records have this in common, so that only their times decided.
    pub(crate) is_by_time: bool,
}

impl Join {
    pub(super) fn exact(by: JoinedBy) -> Join {
        Join { by, is_by_time: false }
    }

    pub(super) fn by_time(by: JoinedBy) -> Join {
        Join { by, is_by_time: true }
    }
}

/// Returns for each call the index of its tool in `tools`.
pub(crate) fn tools_of(calls: &[&OperationMatch], tools: &[&RunFact<'_>]) -> Vec<Option<(usize, Join)>> {
    let mut joined: Vec<Option<(usize, Join)>> = vec![None; calls.len()];
    join_by_ids(calls, tools, &mut joined);
    let mut matching = Matching::new(calls, tools);
    matching.join(&mut joined, JoinedBy::Trace);
    matching.join(&mut joined, JoinedBy::Conversation);
    matching.join(&mut joined, JoinedBy::Host);
    join_rounds(calls, &mut joined);
    joined
}

fn join_by_ids(calls: &[&OperationMatch], tools: &[&RunFact<'_>], joined: &mut [Option<(usize, Join)>]) {
    // Some models count the calls of each answer, so that a call id comes again.
    let mut by_call_id: HashMap<&str, Vec<(Timestamp, usize)>> = HashMap::new();
    let mut by_span: HashMap<(&str, &str), usize> = HashMap::new();
    for (at, tool) in tools.iter().enumerate() {
        if let Some(id) = tool.record.call_id.as_deref() {
            by_call_id.entry(id).or_default().push((start(tool), at));
        }
        let span = (tool.record.trace_id.as_deref(), tool.record.span_id.as_deref());
        // A refused tool has a call only if the id of the call says so.
        if let (Some(trace), Some(span), true) = (span.0, span.1, tool.may_be_sent()) {
            by_span.entry((trace, span)).or_insert(at);
        }
    }
    by_call_id.values_mut().for_each(|of_id| of_id.sort_unstable());
    for (call, joined) in calls.iter().zip(joined) {
        let ids = &call.ids;
        let by_call_id = by_call_id.get(&*ids.call_id).and_then(|of_id| {
            let join = Join { by: JoinedBy::CallId, is_by_time: of_id.len() > 1 };
            Some((nearest(of_id, call.row.started)?, join))
        });
        let by_span = || by_span.get(&(&*ids.trace_id, &*ids.parent_span_id));
        *joined = by_call_id.or_else(|| by_span().map(|at| (*at, Join::exact(JoinedBy::Trace))));
    }
}

/// Joins each further round of a call to the tool of the round that it continues.
fn join_rounds(calls: &[&OperationMatch], joined: &mut [Option<(usize, Join)>]) {
    if calls.iter().all(|call| call.row.continues_seq.is_none()) {
        return;
    }
    let position: HashMap<(&str, u64), usize> =
        calls.iter().enumerate().map(|(at, call)| ((&*call.row.connection_id, call.row.seq), at)).collect();
    // A round begins after the one that it continues, and calls are in the order of their beginnings.
    for (at, call) in calls.iter().enumerate() {
        let before = call.row.continues_seq.and_then(|seq| position.get(&(&*call.row.connection_id, seq)));
        if let (Some(before), None) = (before, joined[at]) {
            joined[at] = joined[*before];
        }
    }
}

/// Calls and tools without a common id.
struct Matching<'r, 'l> {
    calls: &'r [&'r OperationMatch],
    tools: &'r [&'r RunFact<'l>],
    /// Tools by name.
    by_name: HashMap<String, TimeIndex>,
    /// Servers of the calls, and those that the agent named.
    servers: HashSet<String>,
    told_servers: HashSet<String>,
}

impl<'r, 'l> Matching<'r, 'l> {
    fn new(calls: &'r [&'r OperationMatch], tools: &'r [&'r RunFact<'l>]) -> Matching<'r, 'l> {
        let mut by_name: HashMap<String, Vec<(i64, i64, usize)>> = HashMap::new();
        for (at, tool) in tools.iter().enumerate().filter(|(_, tool)| tool.may_be_sent()) {
            let name = plain(tool.record.tool_name.as_deref().unwrap_or_default());
            by_name.entry(name).or_default().push((tool.began().0, tool.ended().0, at));
        }
        let by_name = by_name.into_iter().map(|(name, times)| (name, TimeIndex::new(times))).collect();
        let servers = calls.iter().map(|call| plain(&call.row.server_name)).collect();
        let told_servers = tools.iter().filter_map(|tool| tool.record.tool_server.as_deref()).map(plain);
        Matching { calls, tools, by_name, servers, told_servers: told_servers.collect() }
    }

    /// Joins each call that is left to the nearest tool that is left, one to one.
    fn join(&mut self, joined: &mut [Option<(usize, Join)>], by: JoinedBy) {
        let taken: HashSet<usize> = joined.iter().flatten().map(|(tool, _)| *tool).collect();
        let mut pairs: Vec<(i64, usize, usize)> = Vec::new();
        for (at, call) in self
            .calls
            .iter()
            .enumerate()
            .filter(|(at, call)| joined[*at].is_none() && call.row.continues_seq.is_none())
        {
            let candidates = self.candidates(call, by).filter(|tool| !taken.contains(tool));
            let distance = |tool: usize| (start(self.tools[tool]).0 - call.row.started.0).abs();
            let mut near: Vec<_> = candidates.map(|tool| (distance(tool), at, tool)).collect();
            near.sort_unstable();
            pairs.extend(near.into_iter().take(CANDIDATES));
        }
        pairs.sort_unstable();
        let (mut of_call, mut of_tool) = (HashMap::new(), HashMap::new());
        for (_, call, tool) in &pairs {
            *of_call.entry(*call).or_insert(0_u32) += 1;
            *of_tool.entry(*tool).or_insert(0_u32) += 1;
        }
        let mut used = HashSet::new();
        for (_, call, tool) in pairs {
            if joined[call].is_none() && used.insert(tool) {
                let is_only = by == JoinedBy::Trace && of_call[&call] == 1 && of_tool[&tool] == 1;
                joined[call] = Some((tool, Join { by, is_by_time: !is_only }));
            }
        }
    }

    /// Returns the tools that can be the call: same name, same server as far as that is known, at the same time.
    fn candidates(&self, call: &'r OperationMatch, by: JoinedBy) -> impl Iterator<Item = usize> {
        let server = plain(&call.row.server_name);
        let names = names_of_tool(&server, call.row.name());
        let (from, until) = (call.row.started.0 - SLACK_US, call.row.ended().0 + SLACK_US);
        let of_names = names.into_iter().filter_map(|name| self.by_name.get(&name));
        let at_once = of_names.flat_map(move |tools| tools.find(until, from));
        // An agent that names the call's server has the same names as spantap.
        let is_named = self.told_servers.contains(&server);
        let of_server = move |record_server: Option<&str>| {
            let told = record_server.map(plain);
            told.is_none_or(|told| told == server || !(is_named || self.servers.contains(&told)))
        };
        at_once.filter(move |at| {
            super::look();
            let fact = self.tools[*at];
            of_server(fact.record.tool_server.as_deref()) && has_in_common(call, fact, by)
        })
    }
}

/// Returns true if call and fact have in common what `by` names.
fn has_in_common(call: &OperationMatch, fact: &RunFact<'_>, by: JoinedBy) -> bool {
    match by {
        JoinedBy::Trace => {
            !call.ids.trace_id.is_empty() && fact.record.trace_id.as_deref() == Some(&*call.ids.trace_id)
        }
        JoinedBy::Conversation => is_of_conversation(call, fact),
        _ => true,
    }
}

/// Returns true if call and fact are of one conversation or session.
fn is_of_conversation(call: &OperationMatch, fact: &RunFact<'_>) -> bool {
    let told = [&*fact.record.session_id, fact.conversation()];
    [&*call.row.conversation_id, &*call.row.session_id].iter().any(|id| !id.is_empty() && told.contains(id))
}

/// Returns when the agent began to run the tool: after a person had been asked.
fn start(tool: &RunFact<'_>) -> Timestamp {
    tool.waited().map_or(tool.began(), |(_, until)| until)
}

/// The model calls of a session, by what they asked for.
pub(crate) struct ModelIndex<'r> {
    /// In the order of their beginnings.
    by_call_id: HashMap<&'r str, Vec<(Timestamp, usize)>>,
    /// Those that do not report what they asked for, by the number of each [`ModelKey`] and conversation, in the order
    /// of their beginnings.
    silent: HashMap<u64, Vec<(Timestamp, usize)>>,
}

/// Key that a tool and the model call that asked for it can have in common. Of turn and process, `None` is any one, and
/// `Some(None)` one that is not known.
#[derive(Clone, Copy, Hash)]
struct ModelKey<'k> {
    agent: &'k str,
    /// Session or conversation.
    run: &'k str,
    turn: Option<Option<&'k str>>,
    pid: Option<Option<u32>>,
    /// Trace and parent of the spans.
    place: Option<(&'k str, &'k str)>,
}

impl ModelKey<'_> {
    /// Returns the keys of a fact with each of these turns, processes and places.
    fn of<'k>(
        fact: &'k RunFact<'_>,
        turns: &[Option<Option<&'k str>>],
        pids: &[Option<Option<u32>>],
        places: &[Option<(&'k str, &'k str)>],
    ) -> Vec<u64> {
        let mut runs = vec![&*fact.record.session_id, fact.conversation()];
        runs.dedup();
        let mut keys = Vec::with_capacity(runs.len() * turns.len() * pids.len() * places.len());
        for run in runs {
            for turn in turns.iter().copied() {
                for pid in pids.iter().copied() {
                    for place in places.iter().copied() {
                        keys.push(digest(ModelKey { agent: &fact.record.agent_name, run, turn, pid, place }));
                    }
                }
            }
        }
        keys
    }
}

impl<'r> ModelIndex<'r> {
    pub(crate) fn new(models: &[&'r RunFact<'r>]) -> ModelIndex<'r> {
        let mut by_call_id: HashMap<&str, Vec<(Timestamp, usize)>> = HashMap::new();
        let mut silent: HashMap<u64, Vec<(Timestamp, usize)>> = HashMap::new();
        for (at, model) in models.iter().enumerate() {
            let place = (model.began(), at);
            for id in model.record.call_ids.iter().flatten() {
                by_call_id.entry(&**id).or_default().push(place);
            }
            if model.record.call_ids.is_none() {
                let turns = [None, Some(model.record.turn_id.as_deref())];
                let pids = [None, Some(model.record.host_pid)];
                let places = [None, model.place()];
                let places = &places[..1 + usize::from(places[1].is_some())];
                let mut keys = ModelKey::of(model, &turns, &pids, places);
                keys.extend([&*model.record.session_id, model.conversation()].map(digest));
                keys.sort_unstable();
                keys.dedup();
                keys.into_iter().for_each(|key| silent.entry(key).or_default().push(place));
            }
        }
        by_call_id.values_mut().chain(silent.values_mut()).for_each(|models| models.sort_unstable());
        ModelIndex { by_call_id, silent }
    }

    /// Returns the model call that asked for this call id; the last one before `began` if several did.
    pub(crate) fn of_call_id(&self, call_id: &str, began: Timestamp) -> Option<(usize, Join)> {
        let models = self.by_call_id.get(call_id)?;
        let before = models.partition_point(|(asked, _)| *asked <= began);
        let join = Join { by: JoinedBy::CallId, is_by_time: models.len() > 1 };
        Some((models.get(before.saturating_sub(1))?.1, join))
    }

    /// Returns the last model call before the tool that does not report what it asked for, in the same run and turn as
    /// far as those are known.
    pub(crate) fn before_tool(&self, tool: &RunFact<'_>) -> Option<(usize, Join)> {
        let turns = match tool.record.turn_id.as_deref() {
            Some(turn) => vec![Some(Some(turn)), Some(None)],
            None => vec![None],
        };
        let pids = match tool.record.host_pid {
            Some(pid) => vec![Some(Some(pid)), Some(None)],
            None => vec![None],
        };
        // An agent and its helpers, which work at the same time, have spans of their own.
        let place = tool.place();
        let before = |place| self.last_before(ModelKey::of(tool, &turns, &pids, &[place]), tool.began());
        place.and_then(|place| before(Some(place))).or_else(|| before(None))
    }

    /// Returns the last model call before the call that does not report what it asked for, in the same conversation or
    /// session.
    pub(crate) fn before_call(&self, call: &OperationMatch) -> Option<(usize, Join)> {
        let ids = [&*call.row.conversation_id, &*call.row.session_id];
        self.last_before(ids.into_iter().filter(|id| !id.is_empty()).map(digest), call.row.started)
    }

    /// Returns the last one of the silent model calls with one of these keys that began before `began`. It may end
    /// later, since an agent can begin a tool while the model still sends.
    fn last_before(&self, keys: impl IntoIterator<Item = u64>, began: Timestamp) -> Option<(usize, Join)> {
        let last = |key: u64| {
            super::look();
            let models = self.silent.get(&key)?;
            models[..models.partition_point(|(other, _)| *other < began)].last().copied()
        };
        let (_, at) = keys.into_iter().filter_map(last).max()?;
        Some((at, Join::by_time(JoinedBy::Conversation)))
    }
}

/// Returns for each span of a server the index of the call that it belongs to, in `calls`.
pub(crate) fn calls_of_spans(
    spans: &[&RunFact<'_>],
    calls: &[&OperationMatch],
) -> Vec<Option<(usize, Join)>> {
    let mut by_span: HashMap<(&str, &str), usize> = HashMap::new();
    let mut by_parent: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
    let mut by_trace: HashMap<&str, Vec<(i64, i64, usize)>> = HashMap::new();
    let time = |at: usize| {
        let row = &calls[at].row;
        (row.started.0, row.ended().0.saturating_add(SLACK_US))
    };
    for (at, call) in calls.iter().enumerate().filter(|(_, call)| !call.ids.trace_id.is_empty()) {
        let (trace, (started, ended)) = (&*call.ids.trace_id, time(at));
        by_span.insert((trace, &call.ids.span_id), at);
        by_parent.entry((trace, &call.ids.parent_span_id)).or_default().push(at);
        by_trace.entry(trace).or_default().push((started, ended, at));
    }
    let by_trace: HashMap<&str, TimeIndex> =
        by_trace.into_iter().map(|(trace, times)| (trace, TimeIndex::new(times))).collect();
    let of_span = |span: &&RunFact<'_>| {
        let trace = span.record.trace_id.as_deref()?;
        let parent = span.record.parent_span_id.as_deref().unwrap_or_default();
        if let Some(at) = by_span.get(&(trace, parent)) {
            return Some((*at, Join::exact(JoinedBy::Trace)));
        }
        // The server knows the trace only: of its connection, or of the agent.
        let (began, ended) = (span.began().0, span.ended().0);
        let mut around = by_trace.get(trace)?.find(began, ended);
        let last = around.next()?;
        // Of calls that began at once, the first one has the span.
        let first = around.take_while(|at| time(*at).0 == time(last).0).last().unwrap_or(last);
        let is_around = |at: usize| time(at).0 <= began && ended <= time(at).1;
        let of_parent = by_parent.get(&(trace, parent)).filter(|_| !parent.is_empty());
        let is_only = of_parent.is_some_and(|calls| matches!(calls[..], [only] if is_around(only)));
        Some((first, Join { by: JoinedBy::Trace, is_by_time: !is_only }))
    };
    spans.iter().map(of_span).collect()
}
