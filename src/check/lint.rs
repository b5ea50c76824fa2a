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
    /// How many tools have each name, by redacted name.
    names: BTreeMap<String, u32>,
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
        let name = super::name(definition["name"].as_str().unwrap_or("?"));
        for found in lint::findings(definition) {
            let mut detail =
                Redactor::default().redact(Field::Message, found.detail.as_bytes()).as_str().to_owned();
            if found.more > 0 {
                detail.push_str(&format!(", and {} more", found.more));
            }
            self.push(Some(&name), found.rule, detail);
        }
        *self.names.entry(name).or_default() += 1;
    }

    pub(crate) fn tool_count(&self) -> usize {
        self.names.values().map(|count| *count as usize).sum()
    }

    /// Returns the names of the tools, redacted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Returns the findings, by rule and then in the order of the list. `server` is the server's name in hosts.
    pub(crate) fn findings(&self, server: &str) -> Vec<ServerFinding> {
        let mut all = self.clone();
        for (name, count) in &self.names {
            if *count > 1 {
                let detail = format!("{count} tools have this name");
                all.push(Some(name), LintRule::DuplicateName, detail);
            }
            let both = server.chars().count() + name.chars().count();
            if both + CLAUDE_CODE_AROUND > CLAUDE_CODE_MOST || both > CURSOR_MOST {
                let detail = format!(
                    "{both} characters with the server's name `{server}`, {} in Claude Code",
                    both + CLAUDE_CODE_AROUND
                );
                all.push(Some(name), LintRule::PrefixedName, detail);
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
    fn a_finding_shows_no_secret_of_the_server() {
        let secret = concat!("ghp", "_0123456789abcdefghijklmnopqrstuvwxyzAB");
        let mut server = LintedServer::new(false, "2025-11-25");
        let schema = serde_json::json!({"type": "object", "properties": {format!("a {secret}"): {}}});
        server.add(&serde_json::json!({"name": secret, "description": "x", "inputSchema": schema}));
        let shown = format!("{:?}", server.findings("x"));
        assert!(shown.contains("PropertyName") && !shown.contains(secret), "{shown}");
    }
}
