//! Lints a probed server: its tool definitions, each alone and together, and what it offers.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::observe::lint::{self, LintRule};
use crate::observe::redact::{Field, Redactor};

/// Length of `mcp__` and `__`, which Claude Code puts around the name of the server.
const CLAUDE_CODE_AROUND: usize = 7;
/// Longest name of a tool in Claude Code, with the server's.
const CLAUDE_CODE_MOST: usize = 64;
/// Longest name of a tool in Cursor, with the server's: its message says 60, but it drops a tool with 60, too.
const CURSOR_MOST: usize = 59;

/// A finding about one server. Its texts are redacted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServerFinding {
    /// The tool's name; `None` if the finding is about the server.
    pub(crate) tool: Option<String>,
    pub(crate) rule: LintRule,
    pub(crate) detail: String,
}

/// The tools of one server with what was found in them.
#[derive(Clone, Debug, Default)]
pub(crate) struct LintedServer {
    revision: String,
    /// How many tools have each name. The names are not redacted.
    names: BTreeMap<String, u32>,
    /// Number of all tools, with those that have no name.
    tools: usize,
    findings: Vec<ServerFinding>,
}

impl LintedServer {
    /// `revision` is that of MCP in the probe.
    pub(crate) fn new(has_logging: bool, revision: &str) -> LintedServer {
        let mut server = LintedServer { revision: revision.to_owned(), ..LintedServer::default() };
        if has_logging {
            server.push(None, LintRule::DeprecatedFeature, "the capability `logging`".to_owned());
        }
        server
    }

    fn push(&mut self, tool: Option<&str>, rule: LintRule, detail: String) {
        if rule.is_in_force(Some(&self.revision)) {
            self.findings.push(ServerFinding { tool: tool.map(str::to_owned), rule, detail });
        }
    }

    /// Lints the next definition.
    pub(crate) fn add(&mut self, definition: &Value) {
        self.tools += 1;
        let name = definition["name"].as_str();
        let shown = name.map(super::name);
        for found in lint::findings(definition) {
            let mut detail =
                Redactor::default().redact(Field::Message, found.detail.as_bytes()).as_str().to_owned();
            if found.more > 0 {
                detail.push_str(&format!(", and {} more", found.more));
            }
            if name.is_none() {
                detail = format!("tool {}: {detail}", self.tools);
            }
            self.push(shown.as_deref(), found.rule, detail);
        }
        if let Some(name) = name {
            *self.names.entry(name.to_owned()).or_default() += 1;
        }
    }

    pub(crate) fn tool_count(&self) -> usize {
        self.tools
    }

    /// Returns the names of the tools, as the server wrote them.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Returns the findings, by rule and then in the order of the list. `server` is the server's name in hosts, as the
    /// host's file has it.
    pub(crate) fn findings(&self, server: &str) -> Vec<ServerFinding> {
        let mut all = self.clone();
        let server_shown = super::name(server);
        for (name, count) in &self.names {
            let shown = super::name(name);
            if *count > 1 {
                let detail = format!("{count} tools have this name");
                all.push(Some(&shown), LintRule::DuplicateName, detail);
            }
            // Hosts count the whole names, not those that are shown.
            let both = server.chars().count() + name.chars().count();
            if both + CLAUDE_CODE_AROUND > CLAUDE_CODE_MOST || both > CURSOR_MOST {
                let detail = format!(
                    "{both} characters with the server's name `{server_shown}`, {} in Claude Code",
                    both + CLAUDE_CODE_AROUND
                );
                all.push(Some(&shown), LintRule::PrefixedName, detail);
            }
        }
        all.findings.sort_by_key(|finding| finding.rule);
        all.findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    /// A file of `fixtures/lint`.
    #[derive(Deserialize)]
    struct LintFixture {
        source: String,
        revision: String,
        server: String,
        tools: Vec<Value>,
        /// The rules by the name of the tool.
        expected: BTreeMap<String, Vec<String>>,
    }

    fn by_tool(findings: Vec<ServerFinding>) -> BTreeMap<String, Vec<String>> {
        let mut tools = BTreeMap::<String, Vec<String>>::new();
        for finding in findings {
            tools.entry(finding.tool.unwrap()).or_default().push(finding.rule.to_string());
        }
        tools
    }

    #[test]
    fn what_hosts_refused_in_public_reports_is_found_by_tool_and_rule_and_nothing_else_is() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/lint");
        let mut reports = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let fixture: LintFixture = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let mut server = LintedServer::new(false, &fixture.revision);
            fixture.tools.iter().for_each(|tool| server.add(tool));
            assert_eq!(by_tool(server.findings(&fixture.server)), fixture.expected, "{}", path.display());
            assert!(fixture.source.starts_with("https://"));
            reports += u32::from(!fixture.expected.is_empty());
        }
        assert!(reports >= 12, "{reports}");
    }

    #[test]
    fn a_deprecated_capability_counts_in_the_revision_that_deprecates_it() {
        let rules = |revision: &str| {
            let findings = LintedServer::new(true, revision).findings("x");
            findings.into_iter().map(|finding| (finding.tool, finding.rule)).collect::<Vec<_>>()
        };
        assert_eq!(rules("2026-07-28"), [(None, LintRule::DeprecatedFeature)]);
        assert_eq!(rules("2025-11-25"), []);
    }

    #[test]
    fn a_tool_without_a_name_is_a_finding_of_its_own_and_never_a_second_of_the_same_name() {
        let mut server = LintedServer::new(false, "2025-11-25");
        let nameless = serde_json::json!({"description": "x", "inputSchema": {"type": "object"}});
        let mut numbered = nameless.clone();
        numbered["name"] = 7.into();
        [&nameless, &nameless, &numbered].into_iter().for_each(|tool| server.add(tool));
        let found: Vec<_> =
            server.findings("x").into_iter().map(|it| (it.tool, it.rule, it.detail)).collect();
        let expected =
            ["tool 1: the name is missing", "tool 2: the name is missing", "tool 3: the name is `7`"];
        assert_eq!(found, expected.map(|text| (None, LintRule::MissingName, text.to_owned())));
        assert_eq!((server.tool_count(), server.names().count()), (3, 0));
    }

    #[test]
    fn names_are_counted_and_compared_whole_although_they_are_shown_redacted() {
        let good = |name: &str| serde_json::json!({"name": name, "description": "x", "inputSchema": {"type": "object"}});
        let mut server = LintedServer::new(false, "2025-11-25");
        // Both are shown alike, because a shown name is cut.
        for end in ["a", "b"] {
            server.add(&good(&("n".repeat(200) + end)));
        }
        let found = server.findings("files");
        assert!(found.iter().all(|it| it.rule != LintRule::DuplicateName), "{found:?}");
        let long: Vec<&str> =
            found.iter().filter(|it| it.rule == LintRule::PrefixedName).map(|it| &*it.detail).collect();
        assert_eq!(long, ["206 characters with the server's name `files`, 213 in Claude Code"; 2]);
    }

    #[test]
    fn a_finding_shows_no_secret_of_the_server() {
        let secret = concat!("ghp", "_0123456789abcdefghijklmnopqrstuvwxyzAB");
        let mut server = LintedServer::new(false, "2025-11-25");
        let schema = serde_json::json!({"type": "object", "properties": {format!("a {secret}"): {}}});
        server.add(&serde_json::json!({"name": secret, "description": "x", "inputSchema": schema}));
        let shown = format!("{:?}", server.findings("x"));
        assert!(shown.contains("PropertyName") && !shown.contains(secret), "{shown}");
    }

    #[test]
    fn a_finding_shows_no_part_of_a_secret_that_lies_across_its_cut() {
        let secret = concat!("ghp", "_0123456789abcdefghijklmnopqrstuvwxyzAB");
        for before in 40..80 {
            let mut server = LintedServer::new(false, "2025-11-25");
            let property = format!("{} {secret}", "a ".repeat(before / 2));
            let wrong = serde_json::json!({"type": "object", "required": 1});
            let schema = serde_json::json!({"type": "object", "properties": {property: wrong}});
            server.add(&serde_json::json!({"name": "x", "description": "x", "inputSchema": schema}));
            let found = server.findings("x");
            let shown = format!("{found:?}");
            assert!(found.len() > 1 && !shown.contains("ghp_0"), "{shown}");
        }
    }
}
