//! The tool definitions that checks have seen, and what has changed in them since the last check.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::check::name;
use crate::observe::tools::definition_hash;
use crate::text::hex;

/// Most tools of one server that are compared.
const MOST_TOOLS: usize = 2_000;
/// Largest memory of all servers, in bytes. Beyond it the servers that were checked longest ago are forgotten.
const MAX_MEMORY: usize = 1 << 20;

/// The parts of the definitions of a server's tools: a hash of each part, by redacted name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckedTools(BTreeMap<String, BTreeMap<String, String>>);

/// A change of one tool since the last check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToolChange {
    pub(crate) tool: String,
    /// `added`, `removed` or `changed`.
    pub(crate) kind: &'static str,
    /// Parts that differ, for a change.
    pub(crate) parts: Vec<String>,
}

/// Returns the words for a member of a definition.
fn part(member: &str) -> &'static str {
    match member {
        "description" => "description",
        "inputSchema" => "input schema",
        "outputSchema" => "output schema",
        "annotations" => "annotations",
        _ => "other fields",
    }
}

impl CheckedTools {
    /// Adds a definition. The parts of tools with the same name are joined.
    pub(crate) fn add(&mut self, definition: &Value) {
        let parts = self.0.entry(name(definition["name"].as_str().unwrap_or("?"))).or_default();
        for (member, value) in definition.as_object().into_iter().flatten().filter(|(key, _)| *key != "name")
        {
            let hash = hex::text(&definition_hash(&format!("[{:?},{value}]", member))[..8]);
            parts.entry(part(member).to_owned()).or_default().push_str(&hash);
        }
        // The tools that are kept do not depend on the server's order.
        if self.0.len() > MOST_TOOLS {
            self.0.pop_last();
        }
    }

    /// Returns the changes from `before` to these definitions, by tool.
    pub(crate) fn changes_since(&self, before: &CheckedTools) -> Vec<ToolChange> {
        let change = |tool: &String| {
            let (old, new) = (before.0.get(tool), self.0.get(tool));
            let kind = match (old, new) {
                (Some(old), Some(new)) if old == new => return None,
                (Some(_), Some(_)) => "changed",
                (None, _) => "added",
                (_, None) => "removed",
            };
            let both = old.zip(new).map(|(old, new)| {
                let mut parts: Vec<String> = old.keys().chain(new.keys()).cloned().collect();
                parts.sort();
                parts.dedup();
                parts.retain(|part| old.get(part) != new.get(part));
                parts
            });
            Some(ToolChange { tool: tool.clone(), kind, parts: both.unwrap_or_default() })
        };
        let mut tools: Vec<&String> = before.0.keys().chain(self.0.keys()).collect();
        tools.sort();
        tools.dedup();
        tools.into_iter().filter_map(change).collect()
    }
}

/// The last check of each server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct CheckMemory {
    servers: BTreeMap<String, LastCheck>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LastCheck {
    /// Microseconds since 1970.
    pub(crate) at: i64,
    pub(crate) tools: CheckedTools,
}

impl CheckMemory {
    /// Parses the memory. A text that cannot be used is an empty memory.
    pub(crate) fn parse(text: &[u8]) -> CheckMemory {
        serde_json::from_slice(text).unwrap_or_default()
    }

    /// Replaces the last check of `server` and returns it.
    pub(crate) fn replace(&mut self, server: String, check: LastCheck) -> Option<LastCheck> {
        self.servers.insert(server, check)
    }

    /// Returns the text of the memory, within its largest size.
    pub(crate) fn encode(&mut self) -> Vec<u8> {
        loop {
            let text = serde_json::to_vec(self).unwrap_or_default();
            let oldest =
                self.servers.iter().min_by_key(|(_, check)| check.at).map(|(server, _)| server.clone());
            match oldest {
                Some(oldest) if text.len() > MAX_MEMORY => drop(self.servers.remove(&oldest)),
                _ => return text,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tools(definitions: &[Value]) -> CheckedTools {
        let mut tools = CheckedTools::default();
        definitions.iter().for_each(|definition| tools.add(definition));
        tools
    }

    #[test]
    fn changes_are_named_by_tool_and_part() {
        let before = tools(&[
            json!({"name": "a", "description": "x", "inputSchema": {"b": 1, "a": 2}}),
            json!({"name": "b", "title": "t"}),
            json!({"name": "c"}),
        ]);
        let now = tools(&[
            json!({"name": "a", "description": "y", "inputSchema": {"a": 2, "b": 1}, "annotations": {}}),
            json!({"name": "b", "title": "u"}),
            json!({"name": "d", "description": "x"}),
        ]);
        let shown: Vec<String> = now
            .changes_since(&before)
            .iter()
            .map(|change| format!("{} {} {}", change.kind, change.tool, change.parts.join("+")))
            .collect();
        assert_eq!(
            shown,
            ["changed a annotations+description", "changed b other fields", "removed c ", "added d "]
        );
        assert_eq!(now.changes_since(&now), []);
    }

    #[test]
    fn another_order_of_too_many_tools_is_not_a_change() {
        let mut many: Vec<Value> =
            (0..MOST_TOOLS + 9).map(|n| json!({"name": format!("{n}"), "title": 1})).collect();
        let before = tools(&many);
        many.reverse();
        assert_eq!(tools(&many).changes_since(&before), []);
    }

    #[test]
    fn the_memory_forgets_the_oldest_beyond_its_size_and_survives_any_text() {
        let mut memory = CheckMemory::parse(b"{\"servers\":7}");
        let many: Vec<Value> =
            (0..MOST_TOOLS).map(|n| json!({"name": format!("{n:0100}"), "title": 1})).collect();
        let many = tools(&many);
        for at in 0..10 {
            memory.replace(format!("{at}"), LastCheck { at, tools: many.clone() });
        }
        let text = memory.encode();
        assert!(text.len() <= MAX_MEMORY);
        let mut read = CheckMemory::parse(&text);
        let check = LastCheck { at: 11, tools: CheckedTools::default() };
        assert_eq!(read.replace("9".to_owned(), check.clone()).map(|last| last.tools), Some(many));
        assert!(read.replace("0".to_owned(), check).is_none());
    }
}
