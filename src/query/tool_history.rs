//! `spantap context --history`: when a tool came, went or changed, over all sessions of a server.

use std::collections::{BTreeMap, HashMap};

use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};

use crate::query::context::{LedgerPage, LedgerTool};
use crate::query::entry::LogEntry;
use crate::query::scan::Fold;
use crate::query::select::Selection;
use crate::record::timestamp::Timestamp;
use crate::record::{EventName, tokens};

/// Collects the listings of the selected servers, and which parts of a tool changed.
pub(crate) struct ToolHistory<'a> {
    select: &'a Selection,
    words: [Finder<'static>; 2],
    /// By server.
    listings: BTreeMap<Box<str>, Vec<Listed>>,
    /// Changed parts by connection and tool, each with its time.
    parts: HashMap<(Box<str>, String), Vec<TimedParts>>,
}

/// Parts of a tool that changed at a time.
type TimedParts = (Timestamp, Vec<String>);

/// The selected tools of one listing.
#[derive(Default)]
struct Definitions {
    tools: BTreeMap<String, LedgerTool>,
    /// Number of further tools, whose names are not recorded.
    unlisted: u64,
}

/// One page of a listing.
struct Listed {
    at: Timestamp,
    seq: u64,
    connection_id: Box<str>,
    session_id: Box<str>,
    number: u64,
    is_complete: bool,
    page: LedgerPage,
}

/// Content of a `tools_changed` record.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LedgerChanges {
    changes: Vec<LedgerChange>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LedgerChange {
    tool: String,
    parts: Vec<String>,
}

/// One change: the line of `--json`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HistoryRow {
    pub(crate) at: Timestamp,
    pub(crate) server_name: String,
    pub(crate) session_id: String,
    /// Absent for the first listing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool_name: Option<String>,
    pub(crate) change: HistoryChange,
    /// Parts of the definition that differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<String>,
    /// Number of tools in the first listing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tools: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_before_est: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_est: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HistoryChange {
    FirstListed,
    Added,
    Removed,
    Changed,
}

impl<'a> ToolHistory<'a> {
    pub(crate) fn new(select: &'a Selection) -> ToolHistory<'a> {
        let words = [Finder::new("tools_listed"), Finder::new("tools_changed")];
        ToolHistory { select, words, listings: BTreeMap::new(), parts: HashMap::new() }
    }

    /// Returns the changes in the order of servers and time. A listing is compared with the one before, also if that
    /// is of another session.
    pub(crate) fn finish(mut self) -> Vec<HistoryRow> {
        let mut rows = Vec::new();
        for (server, mut listings) in std::mem::take(&mut self.listings) {
            listings.sort_by(|a, b| (a.at, &a.connection_id, a.seq).cmp(&(b.at, &b.connection_id, b.seq)));
            let mut before: Option<Definitions> = None;
            // Pages of the connections whose listing has not ended.
            let mut open: HashMap<Box<str>, BTreeMap<u64, LedgerPage>> = HashMap::new();
            for listed in listings {
                let pages = open.entry(listed.connection_id.clone()).or_default();
                // Pages after this one belong to an earlier listing.
                pages.retain(|number, _| *number < listed.number);
                pages.insert(listed.number, listed.page.clone());
                // The last page has the number of pages, unless one of them is missing.
                if !listed.is_complete || listed.number != pages.len() as u64 {
                    continue;
                }
                let mut now = Definitions::default();
                for page in pages.values() {
                    let selected = page.tools.iter().filter(|tool| self.select.takes_tool(&tool.name));
                    now.tools.extend(selected.map(|tool| (tool.name.clone(), tool.clone())));
                    now.unlisted += page.unlisted;
                }
                self.compare(&server, &listed, before.as_ref(), &now, &mut rows);
                if now.unlisted > 0 {
                    // A tool that had a name may be among those without one.
                    for (name, tool) in before.into_iter().flat_map(|before| before.tools) {
                        now.tools.entry(name).or_insert(tool);
                    }
                }
                before = Some(now);
            }
        }
        rows
    }

    fn compare(
        &self,
        server: &str,
        listed: &Listed,
        before: Option<&Definitions>,
        now: &Definitions,
        rows: &mut Vec<HistoryRow>,
    ) {
        let row = |change| HistoryRow {
            at: listed.at,
            server_name: server.to_owned(),
            session_id: listed.session_id.to_string(),
            tool_name: None,
            change,
            parts: Vec::new(),
            tools: None,
            tokens_before_est: None,
            tokens_est: None,
        };
        let size = |tool: &LedgerTool| Some(tokens(tool.definition_bytes));
        let Some(before) = before else {
            let bytes = now.tools.values().map(|tool| tool.definition_bytes).sum();
            let first = row(HistoryChange::FirstListed);
            // The selected tools may come later.
            if now.tools.is_empty() && !self.select.tools.is_empty() {
                return;
            }
            let unlisted = if self.select.tools.is_empty() { now.unlisted } else { 0 };
            let tools = now.tools.len() as u64 + unlisted;
            let tokens_est = (unlisted == 0).then(|| tokens(bytes));
            rows.push(HistoryRow { tools: Some(tools), tokens_est, ..first });
            return;
        };
        let is_gone = |name: &String| now.unlisted == 0 && !now.tools.contains_key(name);
        for (name, tool) in before.tools.iter().filter(|(name, _)| is_gone(name)) {
            let removed = row(HistoryChange::Removed);
            rows.push(HistoryRow { tool_name: Some(name.clone()), tokens_before_est: size(tool), ..removed });
        }
        for (name, tool) in &now.tools {
            let (change, old) = match before.tools.get(name) {
                None if before.unlisted > 0 => continue,
                None => (HistoryChange::Added, None),
                Some(old) if old.definition_hash != tool.definition_hash => {
                    (HistoryChange::Changed, Some(old))
                }
                Some(_) => continue,
            };
            rows.push(HistoryRow {
                tool_name: Some(name.clone()),
                parts: old.map(|old| self.parts_of(listed, old, tool)).unwrap_or_default(),
                tokens_before_est: old.and_then(size),
                tokens_est: size(tool),
                ..row(change)
            });
        }
    }

    /// Returns the changed parts: those that the connection recorded at this time, else those whose size differs.
    fn parts_of(&self, listed: &Listed, old: &LedgerTool, new: &LedgerTool) -> Vec<String> {
        let recorded = self.parts.get(&(listed.connection_id.clone(), new.name.clone()));
        let nearest = recorded.and_then(|all| all.iter().min_by_key(|(at, _)| at.0.abs_diff(listed.at.0)));
        match nearest {
            Some((_, parts)) => parts.clone(),
            None => old.different_parts(new),
        }
    }
}

impl Fold for ToolHistory<'_> {
    fn wants(&self, line: &[u8]) -> bool {
        self.words.iter().any(|word| word.find(line).is_some())
    }

    fn take(&mut self, entry: &LogEntry<'_>, line: &[u8]) {
        if !self.select.takes_context(entry) {
            return;
        }
        match entry.event {
            EventName::ToolsListed => {
                let Ok(page) = serde_json::from_slice(line) else { return };
                self.listings.entry((*entry.server_name).into()).or_default().push(Listed {
                    at: entry.timestamp,
                    seq: entry.seq,
                    connection_id: (*entry.connection_id).into(),
                    session_id: (*entry.session_id).into(),
                    number: entry.page.unwrap_or(1),
                    is_complete: entry.is_complete == Some(true),
                    page,
                });
            }
            EventName::ToolsChanged => {
                let Ok(LedgerChanges { changes }) = serde_json::from_slice(line) else { return };
                for change in changes.into_iter().filter(|change| !change.parts.is_empty()) {
                    let key = ((*entry.connection_id).into(), change.tool);
                    self.parts.entry(key).or_default().push((entry.timestamp, change.parts));
                }
            }
            _ => {}
        }
    }

    fn merge(&mut self, other: ToolHistory<'_>) {
        for (server, listings) in other.listings {
            self.listings.entry(server).or_default().extend(listings);
        }
        for (key, parts) in other.parts {
            self.parts.entry(key).or_default().extend(parts);
        }
    }
}
