//! `spantap context`: what the tools of each server cost the context of the model.
//!
//! Definitions come from `tools_listed`, calls and results from tool calls. Of several connections to a server, the one
//! that listed its tools last counts, since its definitions are those that a client would load next.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};

use crate::query::entry::LogEntry;
use crate::query::listing::{LastListing, ListedPages};
use crate::query::scan::Fold;
use crate::query::select::Selection;
use crate::query::tight::{append_tight, push_tight};
use crate::query::totals::TimeSpan;
use crate::record::{EventName, tokens};

/// Collects definitions and calls by server.
pub struct ContextTable<'a> {
    select: &'a Selection,
    words: [Finder<'static>; 2],
    servers: BTreeMap<Box<str>, ServerContext>,
    sessions: BTreeSet<Box<str>>,
    span: TimeSpan,
}

#[derive(Debug, Default)]
struct ServerContext {
    tools: HashMap<Box<str>, ToolUse>,
    listing: Option<LastListing<LedgerPage>>,
    hosts: BTreeSet<Box<str>>,
}

/// Calls of one tool.
#[derive(Debug, Default)]
struct ToolUse {
    calls: u64,
    /// Estimated tokens of each result.
    results: Vec<u32>,
    over_limit: u64,
    /// The lowest limit of a host that a result exceeded.
    limit: Option<u64>,
}

/// Content of a `tools_listed` record.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LedgerPage {
    pub(crate) tools: Vec<LedgerTool>,
    tools_total: u64,
    pub(crate) unlisted: u64,
    definition_bytes: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LedgerTool {
    pub(crate) name: String,
    pub(crate) definition_bytes: u64,
    description_bytes: u64,
    schema_bytes: u64,
    pub(crate) definition_hash: String,
}

impl LedgerTool {
    /// Returns the parts of the definition whose length differs.
    pub(crate) fn different_parts(&self, other: &LedgerTool) -> Vec<String> {
        let parts = [
            ("description", self.description_bytes != other.description_bytes),
            ("schema", self.schema_bytes != other.schema_bytes),
        ];
        parts.iter().filter(|(_, differs)| *differs).map(|(part, _)| (*part).to_owned()).collect()
    }
}

impl<'a> ContextTable<'a> {
    pub fn new(select: &'a Selection) -> ContextTable<'a> {
        ContextTable {
            select,
            words: [Finder::new("mcp_tool_call"), Finder::new("tools_listed")],
            servers: BTreeMap::new(),
            sessions: BTreeSet::new(),
            span: TimeSpan::default(),
        }
    }

    /// Returns true if a server was called whose definitions are not known.
    pub(crate) fn lacks_definitions(&self) -> bool {
        self.servers.values().any(|server| server.listing.is_none())
    }

    /// Takes definitions of `older`, which has read older logs too, for servers without definitions.
    pub(crate) fn complete(&mut self, older: ContextTable<'_>) {
        for (name, older) in older.servers {
            if let Some(server) = self.servers.get_mut(&name)
                && server.listing.is_none()
            {
                server.listing = older.listing;
            }
        }
    }

    fn server(&mut self, entry: &LogEntry<'_>) -> &mut ServerContext {
        if !self.servers.contains_key(&*entry.server_name) {
            self.servers.insert((*entry.server_name).into(), ServerContext::default());
        }
        let Some(server) = self.servers.get_mut(&*entry.server_name) else {
            unreachable!("the server was inserted above")
        };
        if !entry.host_name.is_empty() && !server.hosts.contains(&*entry.host_name) {
            server.hosts.insert((*entry.host_name).into());
        }
        server
    }

    /// Returns the servers, those first with which most could be saved.
    pub fn finish(self) -> ContextSummary {
        let select = self.select;
        let mut hosts = BTreeSet::new();
        let mut servers: Vec<ContextServer> = Vec::new();
        for (name, server) in self.servers {
            hosts.extend(server.hosts.iter().map(|host| String::from(&**host)));
            servers.push(ContextServer::new(&name, server, select));
        }
        servers.sort_by(|a, b| {
            let key = |server: &ContextServer| (server.never_called_tokens_est, server.definition_tokens_est);
            key(b).cmp(&key(a)).then_with(|| a.server_name.cmp(&b.server_name))
        });
        ContextSummary { servers, hosts, sessions: self.sessions.len() as u64, span: self.span }
    }
}

impl Fold for ContextTable<'_> {
    fn wants(&self, line: &[u8]) -> bool {
        self.words.iter().any(|word| word.find(line).is_some())
    }

    fn take(&mut self, entry: &LogEntry<'_>, line: &[u8]) {
        match entry.event {
            // A server may have listed its tools before the selected time, and nothing since then.
            EventName::ToolsListed if self.select.takes_lasting(entry) => {
                if let Ok(page) = serde_json::from_slice(line) {
                    let listing = self.server(entry).listing.get_or_insert_default();
                    listing.add(entry, page);
                }
            }
            EventName::McpToolCall if self.select.takes_operation(entry) => {
                self.server(entry).add_call(entry);
                self.span.add(entry.started(), entry.timestamp);
            }
            _ => return,
        }
        if !self.sessions.contains(&*entry.session_id) {
            self.sessions.insert((*entry.session_id).into());
        }
    }

    fn merge(&mut self, other: ContextTable<'_>) {
        for (name, other) in other.servers {
            self.servers.entry(name).or_default().merge(other);
        }
        self.sessions.extend(other.sessions);
        self.span.merge(other.span);
    }
}

impl ServerContext {
    fn tool(&mut self, name: &str) -> &mut ToolUse {
        if !self.tools.contains_key(name) {
            self.tools.insert(name.into(), ToolUse::default());
        }
        let Some(tool) = self.tools.get_mut(name) else { unreachable!("the tool was inserted above") };
        tool
    }

    fn add_call(&mut self, entry: &LogEntry<'_>) {
        let tool = self.tool(&entry.tool_name);
        tool.calls += u64::from(entry.continues_seq.is_none());
        if let Some(tokens) = entry.result_tokens_est {
            push_tight(&mut tool.results, u32::try_from(tokens).unwrap_or(u32::MAX));
        }
        if let Some(limit) = entry.result_over_limit {
            tool.over_limit += 1;
            tool.limit = Some(tool.limit.map_or(limit, |least| least.min(limit)));
        }
    }

    fn merge(&mut self, other: ServerContext) {
        self.hosts.extend(other.hosts);
        if let Some(listing) = other.listing {
            self.listing.get_or_insert_default().merge(listing);
        }
        for (name, other) in other.tools {
            let tool = self.tool(&name);
            tool.calls += other.calls;
            append_tight(&mut tool.results, other.results);
            tool.over_limit += other.over_limit;
            tool.limit = tool.limit.into_iter().chain(other.limit).min();
        }
    }
}

/// The answer: what the selected servers cost.
#[derive(Clone, Debug)]
pub struct ContextSummary {
    pub(crate) servers: Vec<ContextServer>,
    pub(crate) hosts: BTreeSet<String>,
    pub(crate) sessions: u64,
    /// The time of the calls.
    pub(crate) span: TimeSpan,
}

/// One server: the line of `--json`. Without definitions, the fields about them are absent.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct ContextServer {
    pub(crate) server_name: String,
    pub(crate) calls: u64,
    /// Number of defined tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tools_total: Option<u64>,
    /// Number of defined tools that are not in `tools`, because the server has too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unlisted: Option<u64>,
    /// False if the listing was not seen to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) is_complete: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) definition_bytes: Option<u64>,
    /// Cost of each turn if the client loads all definitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) definition_tokens_est: Option<u64>,
    /// Number of defined tools without a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) never_called: Option<u64>,
    /// Cost of their definitions in each turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) never_called_tokens_est: Option<u64>,
    pub(crate) tools: Vec<ContextTool>,
}

/// One tool. Without a definition, the fields about it are absent.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct ContextTool {
    pub(crate) tool_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) definition_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) definition_tokens_est: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description_tokens_est: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) schema_tokens_est: Option<u64>,
    pub(crate) calls: u64,
    /// True if the tool is defined and was not called.
    pub(crate) never_called: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) result_median_tokens_est: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) result_max_tokens_est: Option<u64>,
    /// Number of results over the limit of the host.
    pub(crate) results_over_limit: u64,
    /// The limit, in tokens; the lowest one if hosts differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) result_limit: Option<u64>,
}

impl ContextServer {
    fn new(name: &str, mut server: ServerContext, select: &Selection) -> ContextServer {
        let mut row = ContextServer { server_name: name.to_owned(), ..ContextServer::default() };
        let mut tools: BTreeMap<String, ContextTool> = BTreeMap::new();
        for (name, used) in &mut server.tools {
            row.calls += used.calls;
            tools.insert(String::from(&**name), ContextTool::used(name, used));
        }
        if let Some(listing) = server.listing.as_ref().and_then(LastListing::last) {
            row.add_listing(listing, &mut tools, select);
        }
        row.tools = tools.into_values().collect();
        if row.tools_total.is_some() {
            for tool in &mut row.tools {
                tool.never_called = tool.definition_bytes.is_some() && tool.calls == 0;
            }
            let unused = || row.tools.iter().filter(|tool| tool.never_called);
            row.never_called = Some(unused().count() as u64);
            row.never_called_tokens_est =
                Some(tokens(unused().filter_map(|tool| tool.definition_bytes).sum()));
        }
        row.tools.sort_by(|a, b| {
            let key = |tool: &ContextTool| (tool.never_called, tool.definition_bytes, tool.calls);
            key(b).cmp(&key(a)).then_with(|| a.tool_name.cmp(&b.tool_name))
        });
        row
    }

    fn add_listing(
        &mut self,
        listing: ListedPages<'_, LedgerPage>,
        tools: &mut BTreeMap<String, ContextTool>,
        select: &Selection,
    ) {
        let (mut total, mut bytes, mut unlisted) = (0, 0, 0);
        for page in listing.pages {
            total += page.tools_total;
            bytes += page.definition_bytes;
            unlisted += page.unlisted;
            for listed in &page.tools {
                if !select.takes_tool(&listed.name) {
                    total -= 1.min(total);
                    bytes -= listed.definition_bytes.min(bytes);
                    continue;
                }
                let tool = tools.entry(listed.name.clone()).or_default();
                tool.add_definition(listed);
            }
        }
        self.tools_total = Some(total);
        self.unlisted = (unlisted > 0).then_some(unlisted);
        self.is_complete = Some(listing.is_complete);
        self.definition_bytes = Some(bytes);
        self.definition_tokens_est = Some(tokens(bytes));
    }
}

impl ContextTool {
    fn used(name: &str, used: &mut ToolUse) -> ContextTool {
        used.results.sort_unstable();
        let results = &used.results;
        let middle = |half: usize| results.get(half).map(|tokens| u64::from(*tokens));
        let median = middle(results.len().saturating_sub(1) / 2).zip(middle(results.len() / 2));
        ContextTool {
            tool_name: name.to_owned(),
            calls: used.calls,
            result_median_tokens_est: median.map(|(low, high)| (low + high).div_ceil(2)),
            result_max_tokens_est: results.last().map(|tokens| u64::from(*tokens)),
            results_over_limit: used.over_limit,
            result_limit: used.limit,
            ..ContextTool::default()
        }
    }

    /// Adds a definition; a server may define two tools of one name.
    fn add_definition(&mut self, listed: &LedgerTool) {
        let add = |sum: &mut Option<u64>, more: u64| *sum = Some(sum.unwrap_or(0) + more);
        self.tool_name.clone_from(&listed.name);
        add(&mut self.definition_bytes, listed.definition_bytes);
        self.definition_tokens_est = self.definition_bytes.map(tokens);
        add(&mut self.description_tokens_est, tokens(listed.description_bytes));
        add(&mut self.schema_tokens_est, tokens(listed.schema_bytes));
    }
}
