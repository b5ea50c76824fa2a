//! Says of each fact of an agent to which session it belongs.
//!
//! The surest reason decides: the id of the session; an id of a conversation of the session; a call id or trace of one
//! of its calls; the process that started its proxies; at last the name of its host, if one process of that name was
//! there and a tool of it can be a call of the session. A reason holds for the whole run of the agent, in the time of
//! the session. If it holds for several sessions, the nearest one has the fact; if two of them were there at once and
//! only a process or a name is known, none has.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use crate::query::agents::facts::CountedFact;
use crate::query::agents::names::{CANDIDATES, SLACK_US, may_be_sent, names_of_tool, plain};
use crate::query::agents::time_index::TimeIndex;
use crate::query::agents::totals::AmbiguousRuns;
use crate::query::agents::turn_times::TURN_PAUSE_US;
use crate::query::agents::wire::{SessionKeys, WireCall, WireTable};
use crate::record::EventName;
use crate::record::timestamp::Timestamp;

mod continued;

/// Longest time between a session and a fact of its agent. An agent can continue a conversation on another day, which
/// then has another session.
pub(super) const NEAR_US: i64 = 60_000_000;

/// A session with its time in microseconds. A session that runs has no end.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimedSession<'t> {
    pub(super) keys: &'t SessionKeys,
    pub(super) first: i64,
    pub(super) last: i64,
}

impl TimedSession<'_> {
    /// Returns the time between the session and the fact; 0 if they overlap.
    fn gap(&self, fact: &CountedFact) -> i64 {
        let (began, ended) = (fact.began.0, fact.ended.0);
        self.first.saturating_sub(ended).max(began.saturating_sub(self.last)).max(0)
    }

    fn is_near(&self, fact: &CountedFact) -> bool {
        super::look();
        self.gap(fact) <= NEAR_US
    }

    /// Returns false if its hosts are known and none of them has this name.
    fn can_be_of(&self, agent: &str) -> bool {
        self.keys.agents.is_empty() || self.keys.agents.contains(agent)
    }
}

/// The session of each fact, and the sessions of which that is not clear.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    pub(super) session_of: Vec<Option<usize>>,
    pub(super) ambiguous: BTreeMap<usize, AmbiguousRuns>,
}

/// Returns the sessions of the facts. `place` has the index in `sessions` of each session of `wire`.
pub(super) fn assign<'t>(
    facts: &[&'t CountedFact],
    sessions: &[TimedSession<'t>],
    place: &[usize],
    wire: &WireTable,
) -> Assignment {
    let mut assigner = Assigner::new(facts, sessions);
    assigner.by_ids(wire, place);
    assigner.by_calls_of_continued(wire, place);
    let pairs = assigner.pairs();
    if !pairs.is_empty() {
        let with_calls = assigner.runs_with_calls(&pairs, wire, place);
        assigner.by_process(&pairs, &with_calls);
        let pairs = assigner.pairs();
        assigner.by_name(&pairs, &with_calls);
    }
    assigner.by_turn();
    assigner.result
}

/// The name by which the records of one run of an agent are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum RunId<'t> {
    Session(&'t str),
    /// Its process, of a run without ids.
    Process(u32),
    /// The trace of a run without ids and process.
    Trace(u64),
    /// The run of the collector, of records that have nothing else.
    Collector(&'t str),
}

impl<'t> RunId<'t> {
    fn of(fact: &'t CountedFact) -> RunId<'t> {
        match (fact.host_pid, fact.trace) {
            _ if !fact.is_anonymous() => RunId::Session(&fact.session_id),
            (Some(pid), _) => RunId::Process(pid),
            (None, Some(trace)) => RunId::Trace(trace),
            (None, None) => RunId::Collector(&fact.connection_id),
        }
    }
}

#[derive(Debug)]
struct AgentRun<'t> {
    agent: &'t str,
    /// False if its records may be of several runs.
    is_one: bool,
    /// Its processes: an agent can continue a conversation in another one.
    pids: BTreeSet<u32>,
    traces: HashSet<u64>,
    /// Indexes of its facts.
    facts: Vec<usize>,
    /// Servers that it named.
    servers: HashSet<String>,
}

/// A run and a session near it, by index; true if they overlap.
type Pairs = BTreeMap<(usize, usize), bool>;

/// The runs and sessions that have a process in common.
#[derive(Debug)]
struct Processes {
    pairs: BTreeSet<(usize, usize)>,
    /// The sessions of these pairs.
    of_session: HashSet<usize>,
    /// For each run, the sessions of which a call can be its tool, whatever their processes are.
    called_by: HashMap<usize, Vec<usize>>,
    /// For each session, the runs of its process of which a tool can be its call.
    callers: HashMap<usize, Vec<usize>>,
}

struct Assigner<'f, 't> {
    facts: &'f [&'t CountedFact],
    sessions: &'f [TimedSession<'t>],
    runs: Vec<AgentRun<'t>>,
    result: Assignment,
}

impl<'f, 't> Assigner<'f, 't> {
    fn new(facts: &'f [&'t CountedFact], sessions: &'f [TimedSession<'t>]) -> Assigner<'f, 't> {
        let mut runs: Vec<AgentRun<'t>> = Vec::new();
        let mut by_id: HashMap<(&str, RunId<'t>), usize> = HashMap::new();
        for (at, fact) in facts.iter().enumerate() {
            let id = RunId::of(fact);
            let run = *by_id.entry((&fact.agent_name, id)).or_insert_with(|| {
                runs.push(AgentRun {
                    agent: &fact.agent_name,
                    is_one: !matches!(id, RunId::Collector(_)),
                    pids: BTreeSet::new(),
                    traces: HashSet::new(),
                    facts: Vec::new(),
                    servers: HashSet::new(),
                });
                runs.len() - 1
            });
            let run = &mut runs[run];
            run.pids.extend(fact.host_pid);
            run.traces.extend(fact.trace);
            run.facts.push(at);
            if !fact.tool_server.is_empty() && fact.event == EventName::AgentTool {
                run.servers.insert(plain(&fact.tool_server));
            }
        }
        let result = Assignment { session_of: vec![None; facts.len()], ambiguous: BTreeMap::new() };
        Assigner { facts, sessions, runs, result }
    }

    /// Returns the nearest of these sessions if one is near the fact.
    fn nearest(&self, fact: &CountedFact, sessions: impl IntoIterator<Item = usize>) -> Option<usize> {
        let near = sessions.into_iter().filter(|at| self.sessions[*at].is_near(fact));
        near.min_by_key(|at| {
            let session = &self.sessions[*at];
            let from_begin =
                session.first.saturating_sub(fact.began.0).max(fact.began.0.saturating_sub(session.last));
            (session.gap(fact), from_begin.max(0), *at)
        })
    }

    fn index(&self, sessions: impl IntoIterator<Item = usize>) -> TimeIndex {
        TimeIndex::new(sessions.into_iter().map(|at| (self.sessions[at].first, self.sessions[at].last, at)))
    }

    /// Returns an index of the sessions of each key.
    fn indexes<K: Hash + Eq>(&self, sessions: impl IntoIterator<Item = (K, usize)>) -> HashMap<K, TimeIndex> {
        let mut of_key: HashMap<K, BTreeSet<usize>> = HashMap::new();
        for (key, at) in sessions {
            of_key.entry(key).or_default().insert(at);
        }
        of_key.into_iter().map(|(key, sessions)| (key, self.index(sessions))).collect()
    }

    fn by_ids(&mut self, wire: &WireTable, place: &[usize]) {
        let mut own: HashMap<&str, usize> = HashMap::new();
        for (at, session) in self.sessions.iter().enumerate() {
            own.insert(&session.keys.id, at);
        }
        let ids = |(at, session): (usize, &TimedSession<'t>)| {
            session.keys.conversations.iter().map(move |id| (&**id, at))
        };
        let of_conversation: HashMap<&str, TimeIndex> =
            self.indexes(self.sessions.iter().enumerate().flat_map(ids));
        let of_link = self.sessions_of_links(wire, place);
        let linked = |fact: &CountedFact| {
            let near = |link: Option<u64>| {
                let sessions = link.and_then(|link| of_link.get(&link)).into_iter();
                sessions.flat_map(|sessions| near(sessions, fact))
            };
            let is_of_agent = |at: &usize| self.sessions[*at].can_be_of(&fact.agent_name);
            let mut found: Vec<usize> = near(fact.call).filter(is_of_agent).take(2).collect();
            // Models that count their calls give the same ids in several sessions.
            if found.len() > 1 {
                found.clear();
            }
            found.extend(near(fact.trace));
            found
        };
        let conversing = |fact: &CountedFact| {
            let ids = [&*fact.session_id, &*fact.conversation_id].into_iter();
            let sessions = ids.filter_map(|id| of_conversation.get(id));
            sessions.flat_map(|sessions| near(sessions, fact)).collect::<Vec<usize>>()
        };
        let mut session_of = vec![None; self.facts.len()];
        for run in &self.runs {
            // For each kind of id, the sessions that have one in common with a fact of the run in their time.
            let mut of_run = [BTreeSet::new(), BTreeSet::new()];
            for at in run.facts.iter().filter(|_| run.is_one) {
                let fact = self.facts[*at];
                for (sessions, found) in of_run.iter_mut().zip([conversing(fact), linked(fact)]) {
                    sessions.extend(found);
                }
            }
            let of_run = of_run.map(|sessions| self.index(sessions));
            for at in &run.facts {
                let fact = self.facts[*at];
                let ids = [&*fact.session_id, &*fact.conversation_id];
                let own = ids.into_iter().find_map(|id| own.get(id).copied());
                let of_ids = || match run.is_one {
                    true => of_run.iter().find_map(|found| self.nearest(fact, near(found, fact))),
                    false => [conversing(fact), linked(fact)]
                        .into_iter()
                        .find_map(|found| self.nearest(fact, found)),
                };
                session_of[*at] = own.or_else(of_ids);
            }
        }
        self.result.session_of = session_of;
    }

    /// Returns the sessions of the calls that have a call id or trace in common with a fact.
    fn sessions_of_links(&self, wire: &WireTable, place: &[usize]) -> HashMap<u64, TimeIndex> {
        let links: HashSet<u64> =
            self.facts.iter().flat_map(|fact| [fact.call, fact.trace]).flatten().collect();
        let of_call = |call: &WireCall| {
            let session = place[call.session as usize];
            call.links.map(|link| (link, session))
        };
        self.indexes(wire.calls.iter().flat_map(of_call).filter(|(link, _)| links.contains(link)))
    }

    /// Returns the runs with facts that have no session yet, each with the sessions near those facts whose host has
    /// its name.
    fn pairs(&self) -> Pairs {
        let agents = |(at, session): (usize, &TimedSession<'t>)| {
            session.keys.agents.iter().map(move |agent| (&**agent, at))
        };
        let of_agent: HashMap<&str, TimeIndex> =
            self.indexes(self.sessions.iter().enumerate().flat_map(agents));
        let mut pairs = Pairs::new();
        for (at, run) in self.runs.iter().enumerate() {
            let Some(sessions) = of_agent.get(run.agent) else { continue };
            // Begin of each fact, in this order, with the latest end of those up to it.
            let mut latest = i64::MIN;
            let facts: Vec<(i64, i64)> = self
                .open_facts(run)
                .map(|fact| {
                    latest = latest.max(fact.ended.0);
                    (fact.began.0, latest)
                })
                .collect();
            let (Some(first), Some(last)) = (facts.first(), facts.last()) else { continue };
            let has_fact = |from: i64, until: i64| {
                super::look();
                let begun = facts.partition_point(|(began, _)| *began <= until);
                begun > 0 && facts[begun - 1].1 >= from
            };
            let begun = last.0.max(last.1).saturating_add(NEAR_US);
            for session in sessions.find(begun, first.0.saturating_sub(NEAR_US)) {
                let TimedSession { first, last, .. } = self.sessions[session];
                if has_fact(first.saturating_sub(NEAR_US), last.saturating_add(NEAR_US)) {
                    pairs.insert((at, session), has_fact(first, last));
                }
            }
        }
        pairs
    }

    /// Returns the facts of a run that have no session yet.
    fn open_facts<'a>(&'a self, run: &'a AgentRun<'t>) -> impl Iterator<Item = &'t CountedFact> + 'a {
        run.facts.iter().filter(|at| self.result.session_of[**at].is_none()).map(|at| self.facts[*at])
    }

    /// Returns the pairs in which a tool of the run can be a call of the session: it has the same name, the same
    /// server as far as that is known, and they overlap.
    fn runs_with_calls(&self, pairs: &Pairs, wire: &WireTable, place: &[usize]) -> HashSet<(usize, usize)> {
        let mut by_name: HashMap<String, Vec<OpenTool<'t>>> = HashMap::new();
        let mut runs: Vec<usize> = pairs.keys().map(|(run, _)| *run).collect();
        runs.dedup();
        for run in runs {
            for fact in self.open_facts(&self.runs[run]).filter(|fact| is_sent(fact)) {
                let server = Some(plain(&fact.tool_server)).filter(|server| !server.is_empty());
                let tool = OpenTool { run, fact, server };
                by_name.entry(plain(&fact.tool_name)).or_default().push(tool);
            }
        }
        let by_name: HashMap<String, ToolsOfName<'t>> = by_name
            .into_iter()
            .map(|(name, tools)| {
                let time = |(at, tool): (usize, &OpenTool<'_>)| (tool.fact.began.0, tool.fact.ended.0, at);
                let index = TimeIndex::new(tools.iter().enumerate().map(time));
                (name, (tools, index))
            })
            .collect();
        let of_tool: Vec<(String, Vec<&ToolsOfName<'t>>)> = wire
            .tools
            .iter()
            .map(|(server, tool)| {
                let names = names_of_tool(server, tool);
                (plain(server), names.iter().filter_map(|name| by_name.get(name)).collect())
            })
            .collect();
        let mut found = HashSet::new();
        for call in &wire.calls {
            let Some((server, lists)) = call.tool().map(|tool| &of_tool[tool]) else { continue };
            let session = place[call.session as usize];
            let (from, until) =
                (call.started.0.saturating_sub(SLACK_US), call.ended.0.saturating_add(SLACK_US));
            for (tools, index) in lists {
                let near = index.find(until, from).map(|at| &tools[at]);
                let can_be = |tool: &&OpenTool<'_>| {
                    super::look();
                    pairs.contains_key(&(tool.run, session))
                };
                for tool in near.filter(can_be).take(CANDIDATES) {
                    let is_of_server = tool.server.as_ref().is_none_or(|told| {
                        // An agent that names the call's server has the same names as spantap.
                        let is_named = || self.runs[tool.run].servers.contains(server);
                        told == server || !(is_named() || self.sessions[session].keys.servers.contains(told))
                    });
                    if is_of_server {
                        found.insert((tool.run, session));
                    }
                }
            }
        }
        found
    }

    /// Joins the runs whose process started the proxies of a session. Processes of two pid namespaces can have one
    /// number: if sessions of two processes were there at once, the calls decide.
    fn by_process(&mut self, pairs: &Pairs, with_calls: &HashSet<(usize, usize)>) {
        let mut of_run: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let processes = self.processes_in(pairs, with_calls);
        for (run, session) in processes.pairs.iter().copied() {
            if with_calls.contains(&(run, session)) || !self.is_of_other_process(run, session, &processes) {
                of_run.entry(run).or_default().push(session);
            }
        }
        for (run, mut sessions) in of_run {
            if !self.at_once(&sessions).is_empty()
                && sessions.iter().any(|at| with_calls.contains(&(run, *at)))
            {
                sessions.retain(|at| with_calls.contains(&(run, *at)));
            }
            self.give(run, sessions, true, |fact, session| {
                fact.host_pid.is_none_or(|pid| session.keys.host_pids.contains(&pid))
            });
        }
    }

    /// Returns the pairs in which the process of the run started the proxies of the session.
    fn processes_in(&self, pairs: &Pairs, with_calls: &HashSet<(usize, usize)>) -> Processes {
        let is_process = |(run, session): &(usize, usize)| {
            !self.runs[*run].pids.is_disjoint(&self.sessions[*session].keys.host_pids)
        };
        let pairs: BTreeSet<(usize, usize)> = pairs.keys().copied().filter(is_process).collect();
        let of_session = pairs.iter().map(|(_, session)| *session).collect();
        let mut processes =
            Processes { pairs, of_session, called_by: HashMap::new(), callers: HashMap::new() };
        for (run, session) in with_calls.iter().copied() {
            processes.called_by.entry(run).or_default().push(session);
            if processes.pairs.contains(&(run, session)) {
                processes.callers.entry(session).or_default().push(run);
            }
        }
        processes
    }

    /// Returns true if a run without calls of the session is of a process of another pid namespace. Only the calls of
    /// others prove that: a tool can fail before it is sent, and the record of its call can be lost.
    fn is_of_other_process(&self, run: usize, session: usize, processes: &Processes) -> bool {
        let servers = &self.sessions[session].keys.servers;
        let mut tools = self.open_facts(&self.runs[run]).filter(|fact| is_sent(fact));
        if !tools.any(|fact| servers.contains(&plain(&fact.tool_server))) {
            return false;
        }
        let can_be_its_session =
            |other: &usize| processes.pairs.contains(&(run, *other)) || !processes.of_session.contains(other);
        let is_at_once = |other: &usize| {
            let (own, other) = (&self.runs[run], &self.runs[*other]);
            let (own_time, other_time) = (self.time_of(own), self.time_of(other));
            own.traces.is_disjoint(&other.traces) && own_time.0 <= other_time.1 && other_time.0 <= own_time.1
        };
        processes.called_by.get(&run).into_iter().flatten().any(can_be_its_session)
            || processes.callers.get(&session).into_iter().flatten().any(is_at_once)
    }

    /// Returns when the first fact of a run began and the last one ended.
    fn time_of(&self, run: &AgentRun<'t>) -> (Timestamp, Timestamp) {
        let facts = || run.facts.iter().map(|at| self.facts[*at]);
        let began = facts().map(|fact| fact.began).min().unwrap_or_default();
        (began, facts().map(|fact| fact.ended).max().unwrap_or_default())
    }

    /// Joins the runs that have the name of the session's host, if they are of the only process of that name.
    fn by_name(&mut self, pairs: &Pairs, with_calls: &HashSet<(usize, usize)>) {
        let joined = self.result.session_of.iter().zip(self.facts);
        let is_clear: HashSet<(usize, &str)> =
            joined.filter_map(|(session, fact)| Some(((*session)?, &*fact.agent_name))).collect();
        let mut of_session: BTreeMap<(usize, &str), Vec<(usize, bool)>> = BTreeMap::new();
        for ((run, session), overlaps) in pairs {
            let agent = self.runs[*run].agent;
            if !is_clear.contains(&(*session, agent)) {
                of_session.entry((*session, agent)).or_default().push((*run, *overlaps));
            }
        }
        let mut of_run: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for ((session, agent), mut runs) in of_session {
            if runs.iter().any(|(_, overlaps)| *overlaps) {
                runs.retain(|(_, overlaps)| *overlaps);
            }
            let runs: Vec<usize> = runs.into_iter().map(|(run, _)| run).collect();
            let processes = self.processes_of(&runs);
            if processes > 1 {
                let agent_name = agent.to_owned();
                let runs = AmbiguousRuns { agent_name, runs: processes, sessions: 1, is_by_process: false };
                self.doubt(session, runs);
            } else if runs.iter().any(|run| with_calls.contains(&(*run, session))) {
                runs.into_iter().for_each(|run| of_run.entry(run).or_default().push(session));
            }
        }
        of_run.into_iter().for_each(|(run, sessions)| self.give(run, sessions, false, |_, _| true));
    }

    /// Gives the facts of a run that have no session to the nearest of these that `fits`, except to those that were
    /// there at once. `is_by_process` is true if its process started their proxies.
    fn give(
        &mut self,
        run: usize,
        mut sessions: Vec<usize>,
        is_by_process: bool,
        fits: impl Fn(&CountedFact, &TimedSession<'_>) -> bool,
    ) {
        let at_once = self.at_once(&sessions);
        for session in &at_once {
            let (agent, sessions) = (self.runs[run].agent.to_owned(), at_once.len());
            self.doubt(*session, AmbiguousRuns { agent_name: agent, runs: 1, sessions, is_by_process });
        }
        sessions.retain(|session| !at_once.contains(session));
        let sessions = self.index(sessions);
        for at in &self.runs[run].facts {
            if self.result.session_of[*at].is_none() {
                let fact = self.facts[*at];
                let fitting = near(&sessions, fact).filter(|session| fits(fact, &self.sessions[*session]));
                self.result.session_of[*at] = self.nearest(fact, fitting);
            }
        }
    }

    /// Gives the facts of a turn that have no session to that of the nearest fact of the turn: a turn can begin long
    /// before the first server of its session, and end long after the last one.
    fn by_turn(&mut self) {
        for run in self.runs.iter().filter(|run| run.is_one) {
            let mut of_turn: HashMap<&str, Vec<usize>> = HashMap::new();
            for at in run.facts.iter().filter(|at| !self.facts[**at].turn_id.is_empty()) {
                of_turn.entry(&self.facts[*at].turn_id).or_default().push(*at);
            }
            for facts in of_turn.into_values() {
                // The facts are in the order of their beginnings.
                let mut end = facts.first().map_or(0, |at| self.facts[*at].ended.0);
                let is_next = |_: &usize, at: &usize| {
                    let CountedFact { began, ended, .. } = self.facts[*at];
                    let is_near = began.0.saturating_sub(end) <= TURN_PAUSE_US;
                    end = if is_near { end.max(ended.0) } else { ended.0 };
                    is_near
                };
                for turn in facts.chunk_by(is_next) {
                    let session_of = &mut self.result.session_of;
                    let known = |at: &usize| Some((self.facts[*at].began.0, session_of[*at]?));
                    let known: Vec<(i64, usize)> = turn.iter().filter_map(known).collect();
                    for at in turn {
                        let began = self.facts[*at].began.0;
                        let next = known.partition_point(|(known, _)| *known < began);
                        let around = &known[next.saturating_sub(1)..known.len().min(next + 1)];
                        let nearest = around.iter().min_by_key(|(known, _)| known.abs_diff(began));
                        session_of[*at] = session_of[*at].or(nearest.map(|(_, session)| *session));
                    }
                }
            }
        }
    }

    fn doubt(&mut self, session: usize, runs: AmbiguousRuns) {
        self.result.ambiguous.entry(session).or_insert(runs);
    }

    /// Returns the sessions whose time overlaps that of another one.
    fn at_once(&self, sessions: &[usize]) -> BTreeSet<usize> {
        let mut sessions = sessions.to_vec();
        sessions.sort_by_key(|at| self.sessions[*at].first);
        let mut at_once = BTreeSet::new();
        let mut longest: Option<usize> = None;
        for session in sessions {
            if let Some(before) =
                longest.filter(|before| self.sessions[*before].last >= self.sessions[session].first)
            {
                at_once.extend([before, session]);
            }
            if longest.is_none_or(|before| self.sessions[before].last < self.sessions[session].last) {
                longest = Some(session);
            }
        }
        at_once
    }

    /// Returns the number of processes that the runs are of. Those with one number are one process; a run without a
    /// number is of the process of any run that has a trace in common with it, as an agent and its helpers have.
    fn processes_of(&self, runs: &[usize]) -> usize {
        let mut groups = Groups((0..runs.len()).collect());
        let mut of_pid: HashMap<u32, usize> = HashMap::new();
        let mut of_trace: HashMap<u64, usize> = HashMap::new();
        for has_pid in [true, false] {
            let runs = runs.iter().map(|run| &self.runs[*run]).enumerate();
            for (at, run) in runs.filter(|(_, run)| run.pids.is_empty() != has_pid) {
                for pid in &run.pids {
                    groups.join(at, *of_pid.entry(*pid).or_insert(at));
                }
                for trace in &run.traces {
                    let known = *of_trace.entry(*trace).or_insert(at);
                    if !has_pid {
                        groups.join(at, known);
                    }
                }
            }
        }
        (0..runs.len()).filter(|at| groups.first(*at) == *at).count()
    }
}

/// Returns those sessions that are near the fact.
fn near(sessions: &TimeIndex, fact: &CountedFact) -> impl Iterator<Item = usize> {
    sessions.find(fact.ended.0.saturating_add(NEAR_US), fact.began.0.saturating_sub(NEAR_US))
}

/// Groups of numbers, each as the number that it is joined to.
struct Groups(Vec<usize>);

impl Groups {
    fn first(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.first(a), self.first(b));
        self.0[a.max(b)] = a.min(b);
    }
}

/// A tool of an agent without a session.
struct OpenTool<'t> {
    run: usize,
    fact: &'t CountedFact,
    /// Its plain name, if the agent told it.
    server: Option<String>,
}

/// Tools of one name, by their times.
type ToolsOfName<'t> = (Vec<OpenTool<'t>>, TimeIndex);

fn is_sent(fact: &CountedFact) -> bool {
    fact.event == EventName::AgentTool && may_be_sent(fact.decision, fact.status)
}
