//! `check --lint`: the findings of all checked servers, as text, JSON and SARIF, and what they have in common.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::check::lint::{LintedServer, ServerFinding};
use crate::cli::Out;
use crate::cli::check::servers::CheckTarget;
use crate::cli::selection::terminal;
use crate::observe::lint::{LintLevel, LintRule};
use crate::present::lint::LintGroup;
use crate::present::sarif::{self, SarifLevel, SarifResult, SarifRule};

/// The findings about the servers that were checked.
pub(super) struct LintReport {
    servers: Vec<LintedTarget>,
    /// Number of tools of all servers.
    tools: usize,
}

struct LintedTarget {
    label: String,
    /// `None` if the server was not probed, or failed.
    findings: Option<Vec<ServerFinding>>,
}

impl LintReport {
    /// Collects the findings of servers that work. `name` is the name that all of them have in hosts, if it is not
    /// that of the target.
    pub(super) fn new(
        targets: &[CheckTarget],
        linted: &[Option<&LintedServer>],
        name: Option<&str>,
    ) -> LintReport {
        let mut report = LintReport { servers: Vec::new(), tools: 0 };
        let mut owners = BTreeMap::<&str, Vec<usize>>::new();
        for (index, (target, lint)) in targets.iter().zip(linted).enumerate() {
            let findings = lint.map(|lint| {
                report.tools += lint.tool_count();
                lint.names().for_each(|tool| owners.entry(tool).or_default().push(index));
                lint.findings(name.unwrap_or(&target.name))
            });
            report.servers.push(LintedTarget { label: target.label.clone(), findings });
        }
        let meet = |a: usize, b: usize| targets[a].hosts.iter().any(|host| targets[b].hosts.contains(host));
        for (tool, servers) in owners {
            for &server in &servers {
                let others = servers.iter().filter(|other| **other != server && meet(server, **other));
                let others: Vec<&str> = others.map(|other| &*targets[*other].label).collect();
                if let (false, Some(findings)) = (others.is_empty(), &mut report.servers[server].findings) {
                    let detail = format!("also in {}", others.join(", "));
                    findings.push(ServerFinding {
                        tool: Some(crate::check::name(tool)),
                        rule: LintRule::SharedName,
                        detail,
                    });
                }
            }
        }
        report
    }

    fn findings(&self) -> impl Iterator<Item = (&LintedTarget, &ServerFinding)> {
        self.servers.iter().flat_map(|server| server.findings.iter().flatten().map(move |it| (server, it)))
    }

    fn count(&self, level: LintLevel) -> usize {
        self.findings().filter(|(_, finding)| finding.rule.row().level == level).count()
    }

    /// Returns true if a host refuses a tool or a server.
    pub(super) fn has_errors(&self) -> bool {
        self.count(LintLevel::Error) > 0
    }

    pub(super) fn write(&self, out: &mut Out<'_>) -> anyhow::Result<()> {
        let mut groups: Vec<LintGroup> = Vec::new();
        let mut rules: Vec<LintRule> = self.findings().map(|(_, finding)| finding.rule).collect();
        rules.sort_by_key(|rule| (rule.row().level == LintLevel::Warning, *rule));
        rules.dedup();
        for rule in rules {
            let row = rule.row();
            let of_rule = self.findings().filter(|(_, finding)| finding.rule == rule);
            let place = |server: &LintedTarget, finding: &ServerFinding| match (&finding.tool, &*self.servers)
            {
                (Some(tool), [_]) => tool.clone(),
                (Some(tool), _) => format!("{}/{tool}", server.label),
                (None, _) => server.label.clone(),
            };
            groups.push(LintGroup {
                rule: row.rule.as_str(),
                is_error: row.level == LintLevel::Error,
                what: row.what,
                hosts: row.hosts,
                way_out: row.way_out,
                source: row.source,
                places: of_rule.map(|(server, it)| (place(server, it), it.detail.clone())).collect(),
            });
        }
        Ok(crate::present::lint::write(out, &groups, self.tools, &terminal(0))?)
    }

    /// Returns the findings of one server, by its number; `null` if it was not linted.
    pub(super) fn server_json(&self, index: usize) -> Value {
        let Some(findings) = &self.servers[index].findings else { return Value::Null };
        let finding = |finding: &ServerFinding| {
            let row = finding.rule.row();
            json!({
                "tool": finding.tool, "rule": finding.rule.as_str(), "level": level(finding).0,
                "message": finding.detail, "what": row.what, "hosts": row.hosts, "way_out": row.way_out,
                "source": row.source,
            })
        };
        findings.iter().map(finding).collect()
    }

    /// Returns the numbers of errors and of warnings.
    pub(super) fn counts(&self) -> [usize; 2] {
        [self.count(LintLevel::Error), self.count(LintLevel::Warning)]
    }

    /// Returns true if the server with this number was linted.
    pub(super) fn is_linted(&self, index: usize) -> bool {
        self.servers[index].findings.is_some()
    }

    /// Returns the document. `unlinted` has a text for each server and file that could not be read.
    pub(super) fn sarif(&self, unlinted: &[String]) -> Value {
        let rules = LintRule::ALL.map(|rule| {
            let row = rule.row();
            SarifRule {
                id: row.rule.as_str(),
                text: row.what.to_owned(),
                help: format!("{}. Way out: {}.", row.hosts, row.way_out),
                help_uri: Some(row.source),
            }
        });
        let result = |(server, finding): (&LintedTarget, &ServerFinding)| {
            let tool = finding.tool.as_ref().map(|tool| ("tool", tool.clone()));
            SarifResult {
                rule: finding.rule.as_str(),
                level: level(finding).1,
                message: format!("{}: {}", finding.rule.row().what, finding.detail),
                place: [("server", server.label.clone())].into_iter().chain(tool).collect(),
            }
        };
        let results: Vec<SarifResult> = self.findings().map(result).collect();
        sarif::document(&rules, &results, unlinted)
    }
}

fn level(finding: &ServerFinding) -> (&'static str, SarifLevel) {
    match finding.rule.row().level {
        LintLevel::Error => ("error", SarifLevel::Error),
        LintLevel::Warning => ("warning", SarifLevel::Warning),
    }
}
