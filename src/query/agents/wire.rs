//! Collects the ids, processes and times of the sessions on the wire by which reports of agents are joined to them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::query::agents::facts::link;
use crate::query::agents::names::plain;
use crate::query::agents::turn_times::turn_link;
use crate::query::entry::LogEntry;
use crate::query::files::TimeWindow;
use crate::query::tight::{append_tight, push_tight};
use crate::query::totals::{GroupMap, TimeSpan, turn_of};
use crate::record::timestamp::Timestamp;
use crate::record::{CHECK_CLIENT, EventName};

/// Most calls that are kept: the latest. Each needs 56 bytes.
const MOST_CALLS: usize = 1_000_000;

/// Ids, processes and time of one session.
#[derive(Clone, Debug)]
pub(super) struct SessionKeys {
    pub(super) id: Arc<str>,
    pub(super) span: TimeSpan,
    /// Names of the agents that are its hosts.
    pub(super) agents: BTreeSet<Box<str>>,
    /// Processes that started its proxies.
    pub(super) host_pids: BTreeSet<u32>,
    pub(super) conversations: HashSet<Box<str>>,
    /// Names of its servers, as agents spell them.
    pub(super) servers: BTreeSet<String>,
}

impl SessionKeys {
    pub(super) fn new(id: &str) -> SessionKeys {
        SessionKeys {
            id: id.into(),
            span: TimeSpan::default(),
            agents: BTreeSet::new(),
            host_pids: BTreeSet::new(),
            conversations: HashSet::new(),
            servers: BTreeSet::new(),
        }
    }

    /// Adds the name of a host. Returns false if it is known.
    pub(super) fn add_host(&mut self, host: &str) -> bool {
        let agent = agent_of(host);
        !agent.is_empty() && !self.agents.contains(agent) && self.agents.insert(agent.into())
    }

    /// Adds a record. Returns false if it has no id, name or process that is new.
    fn add(&mut self, entry: &LogEntry<'_>) -> bool {
        self.span.add(entry.started(), entry.timestamp);
        let mut is_new = self.add_host(&entry.host_name);
        let conversation = &*entry.conversation_id;
        if !conversation.is_empty() && !self.conversations.contains(conversation) {
            is_new |= self.conversations.insert(conversation.into());
        }
        if entry.event == EventName::SessionStarted {
            is_new |= entry.host_pid.is_some_and(|pid| self.host_pids.insert(pid));
            is_new |= self.servers.insert(plain(&entry.server_name));
        }
        is_new
    }

    fn merge(&mut self, other: SessionKeys) {
        self.span.merge(other.span);
        self.agents.extend(other.agents);
        self.host_pids.extend(other.host_pids);
        self.conversations.extend(other.conversations);
        self.servers.extend(other.servers);
    }
}

/// Returns the name of the agent whose MCP client has this name. Codex and Gemini CLI name their clients apart.
fn agent_of(host: &str) -> &str {
    host.strip_suffix("-mcp-client").unwrap_or(host)
}

/// One call of a tool, as far as a fact of an agent can be the same call.
#[derive(Clone, Copy, Debug)]
pub(super) struct WireCall {
    pub(super) started: Timestamp,
    pub(super) ended: Timestamp,
    /// The ids that it may have in common with a fact, by [`link`]; 0 if it has none.
    pub(super) links: [u64; 2],
    /// Its turn, by [`turn_of`], and the id of the turn by [`turn_link`]; 0 if it names none.
    pub(super) turn: u64,
    pub(super) turn_link: u64,
    /// Index of its session.
    pub(super) session: u32,
    /// Index of its server and tool; `None` for a further round of a call.
    tool: u32,
}

impl WireCall {
    const NO_TOOL: u32 = u32::MAX;

    pub(super) fn tool(&self) -> Option<usize> {
        (self.tool != WireCall::NO_TOOL).then_some(self.tool as usize)
    }

    fn order(&self) -> (Timestamp, Timestamp, [u64; 2]) {
        (self.ended, self.started, self.links)
    }
}

/// Collects all sessions, and the latest calls of the selected time: what is selected does not change what belongs
/// together.
#[derive(Clone, Debug)]
pub(super) struct WireTable {
    window: TimeWindow,
    /// Connections whose calls are in the log of another connection too.
    inner: Arc<HashSet<Box<str>>>,
    pub(super) sessions: Vec<SessionKeys>,
    by_id: HashMap<Arc<str>, u32>,
    /// Server and tool of the calls.
    pub(super) tools: Vec<(Box<str>, Box<str>)>,
    by_tool: GroupMap<Option<u32>>,
    pub(super) calls: Vec<WireCall>,
    most: usize,
    /// Number of earlier calls that were left out.
    pub(super) left_out: u64,
}

impl WireTable {
    pub(super) fn new(window: TimeWindow, inner: Arc<HashSet<Box<str>>>) -> WireTable {
        WireTable {
            window,
            inner,
            sessions: Vec::new(),
            by_id: HashMap::new(),
            tools: Vec::new(),
            by_tool: GroupMap::default(),
            calls: Vec::new(),
            most: MOST_CALLS,
            left_out: 0,
        }
    }

    /// Takes a record. Returns false if it says nothing new of its session.
    pub(super) fn take(&mut self, entry: &LogEntry<'_>) -> bool {
        if *entry.host_name == *CHECK_CLIENT || self.inner.contains(&*entry.connection_id) {
            return false;
        }
        // The ids, processes and time of a session are those of all its records.
        let session = self.session(&entry.session_id);
        let is_new = self.sessions[session as usize].add(entry);
        if entry.event == EventName::McpToolCall && self.window.contains(entry.timestamp) {
            let links = [link("call", &entry.call_id), link("trace", &entry.trace_id)];
            let tool = match entry.continues_seq {
                None => self.tool(&entry.server_name, &entry.tool_name),
                Some(_) => WireCall::NO_TOOL,
            };
            let call = WireCall {
                started: entry.started(),
                ended: entry.timestamp,
                links: links.map(Option::unwrap_or_default),
                turn: turn_of(entry).unwrap_or_default(),
                turn_link: turn_link(&entry.turn_id).unwrap_or_default(),
                session,
                tool,
            };
            push_tight(&mut self.calls, call);
            self.trim();
        }
        is_new
    }

    /// Returns an empty table of the same selection.
    pub(super) fn emptied(&self) -> WireTable {
        WireTable::new(self.window, Arc::clone(&self.inner))
    }

    pub(super) fn has(&self, session_id: &str) -> bool {
        self.by_id.contains_key(session_id)
    }

    fn session(&mut self, id: &str) -> u32 {
        if let Some(at) = self.by_id.get(id) {
            return *at;
        }
        let at = self.sessions.len() as u32;
        let keys = SessionKeys::new(id);
        self.by_id.insert(Arc::clone(&keys.id), at);
        self.sessions.push(keys);
        at
    }

    fn tool(&mut self, server: &str, tool: &str) -> u32 {
        let (place, tools) = (self.by_tool.at(server, tool), &mut self.tools);
        *place.get_or_insert_with(|| {
            tools.push((server.into(), tool.into()));
            tools.len() as u32 - 1
        })
    }

    /// Drops all but the latest calls if there are a quarter more.
    fn trim(&mut self) {
        if self.calls.len() <= self.most + self.most / 4 {
            return;
        }
        let excess = self.calls.len() - self.most;
        self.calls.select_nth_unstable_by_key(excess, WireCall::order);
        self.calls.drain(..excess);
        self.left_out += excess as u64;
    }

    pub(super) fn merge(&mut self, mut other: WireTable) {
        let sessions: Vec<u32> = other
            .sessions
            .into_iter()
            .map(|keys| {
                let at = self.session(&keys.id);
                self.sessions[at as usize].merge(keys);
                at
            })
            .collect();
        let tools: Vec<u32> = other.tools.iter().map(|(server, tool)| self.tool(server, tool)).collect();
        for call in &mut other.calls {
            call.session = sessions[call.session as usize];
            if let Some(tool) = call.tool() {
                call.tool = tools[tool];
            }
        }
        append_tight(&mut self.calls, other.calls);
        self.left_out += other.left_out;
        self.trim();
    }
}
