//! The tools that servers listed, from `tools_listed` records, and what changed in them, from `tools_changed`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use memchr::memmem;
use serde::Deserialize;

use crate::query::entry::LogEntry;
use crate::query::totals::GroupMap;
use crate::record::EventName;
use crate::record::timestamp::Timestamp;

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
    /// Number of the page; 0 for the first one. Older pages after it belong to an earlier listing.
    page: u64,
    tools: Vec<CatalogueTool>,
    unlisted: u64,
    /// Bytes of all definitions of the page, with those that are not in `tools`.
    definition_bytes: u64,
    /// True if no page follows.
    is_complete: bool,
    #[serde(skip)]
    order: (Timestamp, u64),
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
    order: (Timestamp, u64),
}

impl ServerCatalogue {
    /// Returns the estimated tokens of all definitions.
    pub(crate) fn tokens(&self) -> u64 {
        self.definition_bytes.div_ceil(4)
    }

    /// Makes the catalogue of the pages of one connection.
    fn of(pages: BTreeMap<u64, CataloguePage>) -> ServerCatalogue {
        let mut catalogue = ServerCatalogue::default();
        for page in pages.into_values() {
            if page.order < catalogue.order {
                continue;
            }
            catalogue.is_complete = page.is_complete;
            catalogue.order = page.order;
            catalogue.unlisted += page.unlisted;
            let listed: u64 = page.tools.iter().map(|tool| tool.definition_bytes).sum();
            catalogue.definition_bytes += page.definition_bytes.max(listed);
            catalogue.tools.extend(page.tools.into_iter().map(|tool| (tool.name.clone(), tool)));
        }
        catalogue.is_complete &= catalogue.unlisted == 0;
        catalogue
    }
}

/// Collects the latest list of each connection, and the parts of tools that changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct CatalogueReader {
    connections: HashMap<Box<str>, ConnectionPages>,
    /// By server and tool.
    changes: GroupMap<BTreeSet<String>>,
}

#[derive(Clone, Debug, Default)]
struct ConnectionPages {
    server_name: Box<str>,
    session_id: Box<str>,
    pages: BTreeMap<u64, CataloguePage>,
}

/// The changes of a `tools_changed` record.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CatalogueChanges {
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
            && let Ok(mut page) = serde_json::from_slice::<CataloguePage>(line)
        {
            page.order = (entry.timestamp, entry.seq);
            let connection = self.connections.entry((*entry.connection_id).into()).or_default();
            connection.server_name = (*entry.server_name).into();
            connection.session_id = (*entry.session_id).into();
            connection.add(page);
        }
    }

    fn add_changes(&mut self, server: &str, line: &[u8]) {
        let Ok(found) = serde_json::from_slice::<CatalogueChanges>(line) else { return };
        for change in found.changes {
            let parts = self.changes.at(server, &change.tool);
            parts.extend(change.parts.into_iter().take(PARTS.saturating_sub(parts.len())));
        }
    }

    pub(crate) fn merge(&mut self, other: CatalogueReader) {
        for (id, other) in other.connections {
            let connection = self.connections.entry(id).or_default();
            (connection.server_name, connection.session_id) = (other.server_name, other.session_id);
            other.pages.into_values().for_each(|page| connection.add(page));
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
        let mut latest: BTreeMap<(&str, &str), ServerCatalogue> = BTreeMap::new();
        for connection in self.connections.values() {
            let catalogue = ServerCatalogue::of(connection.pages.clone());
            let found = latest.entry((&connection.session_id, &connection.server_name)).or_default();
            if catalogue.order >= found.order {
                *found = catalogue;
            }
        }
        let mut sessions: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for ((session, server), catalogue) in latest {
            sessions.entry(session.to_owned()).or_default().insert(server.to_owned(), catalogue.tokens());
        }
        sessions
    }

    /// Returns the list of each server that was seen last.
    pub(crate) fn by_server(&self) -> BTreeMap<String, ServerCatalogue> {
        let mut servers: BTreeMap<String, ServerCatalogue> = BTreeMap::new();
        for connection in self.connections.values() {
            let catalogue = ServerCatalogue::of(connection.pages.clone());
            let latest = servers.entry(connection.server_name.to_string()).or_default();
            if catalogue.order >= latest.order {
                *latest = catalogue;
            }
        }
        servers
    }
}

impl ConnectionPages {
    /// Keeps the later of two records of the same page.
    fn add(&mut self, page: CataloguePage) {
        if self.pages.get(&page.page).is_none_or(|known| known.order <= page.order) {
            self.pages.insert(page.page, page);
        }
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
        take(&mut reader, 4, &format!(r#""is_complete":true,"unlisted":3,"tools":{}"#, tool("a", 1)));
        assert!(!reader.by_server()["s"].is_complete);
    }
}
