//! The tools that servers listed, from `tools_listed` records, and what changed in them, from `tools_changed`.

use std::collections::{BTreeMap, BTreeSet};

use memchr::memmem;
use serde::Deserialize;

use crate::query::entry::LogEntry;
use crate::query::listing::{LastListing, ListedPages};
use crate::query::totals::GroupMap;
use crate::record::EventName;

/// Most parts of one tool that are kept as changed.
const PARTS: usize = 16;

/// One tool as its server defined it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct CatalogueTool {
    pub(crate) name: String,
    pub(crate) definition_bytes: u64,
    pub(crate) description_bytes: u64,
    pub(crate) schema_bytes: u64,
    pub(crate) definition_hash: String,
}

/// One answer to `tools/list`, which may be one of several pages.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct CataloguePage {
    tools: Vec<CatalogueTool>,
    unlisted: u64,
    /// Bytes of all definitions of the page, with those that are not in `tools`.
    definition_bytes: u64,
}

/// The tools that a server listed last.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerCatalogue {
    /// By name.
    pub(crate) tools: BTreeMap<String, CatalogueTool>,
    /// Number of further tools, which have no names here.
    pub(crate) unlisted: u64,
    pub(crate) definition_bytes: u64,
    /// True if every tool is in `tools`: a tool that is not there does not exist.
    pub(crate) is_complete: bool,
}

impl ServerCatalogue {
    /// Returns the estimated tokens of all definitions.
    pub(crate) fn tokens(&self) -> u64 {
        self.definition_bytes.div_ceil(4)
    }

    fn new(listing: ListedPages<'_, CataloguePage>) -> ServerCatalogue {
        let mut catalogue = ServerCatalogue::default();
        for page in &listing.pages {
            catalogue.unlisted += page.unlisted;
            let listed: u64 = page.tools.iter().map(|tool| tool.definition_bytes).sum();
            catalogue.definition_bytes += page.definition_bytes.max(listed);
            catalogue.tools.extend(page.tools.iter().map(|tool| (tool.name.clone(), tool.clone())));
        }
        catalogue.is_complete = listing.is_complete && catalogue.unlisted == 0;
        catalogue
    }
}

/// Collects the last list of each server in each session, and the parts of tools that changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct CatalogueReader {
    /// By session and server.
    listings: BTreeMap<(String, String), LastListing<CataloguePage>>,
    /// Names of all tools that each server had at any time.
    pub(crate) named: BTreeMap<String, BTreeSet<String>>,
    /// By server and tool.
    changes: GroupMap<BTreeSet<String>>,
}

/// The changes of a `tools_changed` record.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CatalogueChanges {
    added: Vec<String>,
    changes: Vec<CatalogueChange>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CatalogueChange {
    tool: String,
    parts: Vec<String>,
}

impl CatalogueReader {
    /// Takes a record of the selected servers, sessions and time.
    pub(crate) fn take(&mut self, entry: &LogEntry<'_>, line: &[u8]) {
        if entry.is_operation() {
            return;
        }
        if entry.event == EventName::ToolsChanged {
            self.add_changes(&entry.server_name, line);
        } else if memmem::find(line, br#""event":"tools_listed""#).is_some()
            && let Ok(page) = serde_json::from_slice::<CataloguePage>(line)
        {
            let names = page.tools.iter().map(|tool| tool.name.clone());
            self.named.entry(entry.server_name.to_string()).or_default().extend(names);
            let key = (entry.session_id.to_string(), entry.server_name.to_string());
            self.listings.entry(key).or_default().add(entry, page);
        }
    }

    fn add_changes(&mut self, server: &str, line: &[u8]) {
        let Ok(found) = serde_json::from_slice::<CatalogueChanges>(line) else { return };
        if !found.added.is_empty() {
            self.named.entry(server.to_owned()).or_default().extend(found.added);
        }
        for change in found.changes {
            let parts = self.changes.at(server, &change.tool);
            parts.extend(change.parts.into_iter().take(PARTS.saturating_sub(parts.len())));
        }
    }

    pub(crate) fn merge(&mut self, other: CatalogueReader) {
        for (key, other) in other.listings {
            self.listings.entry(key).or_default().merge(other);
        }
        for (server, names) in other.named {
            self.named.entry(server).or_default().extend(names);
        }
        self.changes.merge(other.changes, |parts, other| parts.extend(other));
    }

    /// Returns the parts of a tool that changed, in the order of their names.
    pub(crate) fn changed_parts(&mut self, server: &str, tool: &str) -> BTreeSet<String> {
        match self.changes.contains(server, tool) {
            true => self.changes.at(server, tool).clone(),
            false => BTreeSet::new(),
        }
    }

    /// Returns the estimated tokens of the definitions of each server, by session.
    pub(crate) fn by_session(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        let mut sessions: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for ((session, server), listing) in &self.listings {
            let tokens = listing.last().map_or(0, |last| ServerCatalogue::new(last).tokens());
            sessions.entry(session.clone()).or_default().insert(server.clone(), tokens);
        }
        sessions
    }

    /// Returns the list of each server that was seen last.
    pub(crate) fn by_server(&self) -> BTreeMap<String, ServerCatalogue> {
        let mut servers: BTreeMap<String, ListedPages<'_, CataloguePage>> = BTreeMap::new();
        for ((_, server), listing) in &self.listings {
            let Some(last) = listing.last() else { continue };
            if servers.get(server).is_none_or(|known| last.at >= known.at) {
                servers.insert(server.clone(), last);
            }
        }
        servers.into_iter().map(|(server, last)| (server, ServerCatalogue::new(last))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(reader: &mut CatalogueReader, seq: u64, rest: &str) {
        let line = format!(
            r#"{{"schema":"spantap/1","timestamp":"2026-11-24T09:00:{seq:02}Z","event":"tools_listed","seq":{seq},"connection_id":"c","server_name":"s",{rest}}}"#
        );
        reader.take(&LogEntry::parse(line.as_bytes()).unwrap(), line.as_bytes());
    }

    fn tool(name: &str, bytes: u64) -> String {
        format!(r#"[{{"name":"{name}","definition_bytes":{bytes},"definition_hash":"00"}}]"#)
    }

    #[test]
    fn a_catalogue_has_the_latest_of_each_page_in_any_order_of_reading() {
        let records = [
            (1, format!(r#""is_complete":false,"definition_bytes":9,"tools":{}"#, tool("a", 9))),
            (2, format!(r#""page":2,"is_complete":true,"definition_bytes":9,"tools":{}"#, tool("b", 9))),
            (3, format!(r#""page":2,"is_complete":true,"definition_bytes":12,"tools":{}"#, tool("c", 12))),
        ];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut parts = [CatalogueReader::default(), CatalogueReader::default()];
            for (number, index) in order.into_iter().enumerate() {
                take(&mut parts[number % 2], records[index].0, &records[index].1);
            }
            let [mut all, other] = parts;
            all.merge(other);
            let catalogue = &all.by_server()["s"];
            assert_eq!(catalogue.tools.keys().collect::<Vec<_>>(), ["a", "c"]);
            assert_eq!((catalogue.tokens(), catalogue.is_complete), (6, true));
        }
    }

    #[test]
    fn a_list_that_became_shorter_has_no_page_of_the_longer_one() {
        let mut reader = CatalogueReader::default();
        take(&mut reader, 1, &format!(r#""is_complete":false,"tools":{}"#, tool("a", 1)));
        take(&mut reader, 2, &format!(r#""page":2,"is_complete":true,"tools":{}"#, tool("b", 1)));
        take(&mut reader, 3, &format!(r#""is_complete":true,"tools":{}"#, tool("a", 1)));
        assert_eq!(reader.by_server()["s"].tools.keys().collect::<Vec<_>>(), ["a"]);
        take(&mut reader, 4, &format!(r#""page":3,"is_complete":true,"tools":{}"#, tool("c", 1)));
        assert!(!reader.by_server()["s"].is_complete, "page 2 is missing");
        take(&mut reader, 5, &format!(r#""is_complete":true,"unlisted":3,"tools":{}"#, tool("a", 1)));
        assert!(!reader.by_server()["s"].is_complete);
    }
}
