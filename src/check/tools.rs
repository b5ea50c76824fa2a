//! The tool definitions that checks have seen, and what has changed in them since the last check.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::check::name;
use crate::observe::tool_definition::{self, Fingerprints, ToolChange, ToolDefinition};

/// Most tools of one server that are compared.
const MOST_TOOLS: usize = 2_000;
/// Largest memory of all servers, in bytes. Beyond it the servers that were checked longest ago are forgotten.
const MAX_MEMORY: usize = 1 << 20;

/// The definitions of a server's tools, as fingerprints by redacted name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckedTools(Fingerprints);

impl CheckedTools {
    /// Adds a definition. The parts of tools with the same name are joined.
    pub(crate) fn add(&mut self, definition: &Value) {
        let Ok(tool) = ToolDefinition::read(&definition.to_string()) else { return };
        match self.0.entry(name(&tool.name)) {
            Entry::Occupied(mut before) => before.get_mut().join(&tool.fingerprint),
            Entry::Vacant(new) => drop(new.insert(tool.fingerprint)),
        }
        // The tools that are kept do not depend on the server's order.
        if self.0.len() > MOST_TOOLS {
            self.0.pop_last();
        }
    }

    /// Returns the changes from `before` to these definitions, by tool.
    pub(crate) fn changes_since(&self, before: &CheckedTools) -> Vec<ToolChange> {
        tool_definition::changes(&before.0, &self.0)
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
            .map(|change| format!("{} {} {:?}", change.kind, change.tool, change.parts))
            .collect();
        assert_eq!(
            shown,
            ["changed a [Description, Annotations]", "changed b [Title]", "removed c []", "added d []"]
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
