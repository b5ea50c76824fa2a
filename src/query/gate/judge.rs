//! The rules of `spantap gate`, and their verdicts.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::query::errors::ErrorRow;
use crate::query::gate::{GateFacts, GateTool};
use crate::text::glob::Glob;

/// Most facts that one verdict names.
const EVIDENCE: usize = 5;

/// The rules of one gate. A pattern matches the name of a tool, or `server/tool`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GateRules {
    pub(crate) max_errors: Option<u64>,
    /// Between 0 and 1.
    pub(crate) max_error_rate: Option<f64>,
    pub(crate) no_deaths: bool,
    pub(crate) no_loops: bool,
    /// Pattern and milliseconds.
    pub(crate) p95: Vec<(String, f64)>,
    /// Estimated tokens of all servers of a session.
    pub(crate) max_definitions: Option<u64>,
    /// Pattern and estimated tokens.
    pub(crate) max_result: Vec<(String, u64)>,
    pub(crate) expect_tool: Vec<String>,
    pub(crate) forbid_tool: Vec<String>,
    pub(crate) no_new_tools: bool,
    pub(crate) lint: bool,
    pub(crate) allow_loss: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GateVerdict {
    Passed,
    Failed,
    /// The records do not have what the rule is about, which is not a pass.
    NothingToJudge,
}

/// A number with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "unit", content = "value")]
pub(crate) enum GateFigure {
    Count(u64),
    Share(f64),
    Ms(f64),
    Tokens(u64),
}

/// One rule with its verdict.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct GateCheck {
    /// The option of the rule, or `complete`.
    pub(crate) rule: &'static str,
    /// The pattern of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool: Option<String>,
    pub(crate) verdict: GateVerdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) figure: Option<GateFigure>,
    pub(crate) limit: GateFigure,
    /// Facts behind the figure, the worst first.
    pub(crate) evidence: Vec<String>,
}

impl GateCheck {
    /// Compares a figure with its limit; without a figure there is nothing to judge.
    fn new(
        rule: &'static str,
        tool: Option<&str>,
        (figure, limit): (Option<GateFigure>, GateFigure),
        mut evidence: Vec<String>,
    ) -> GateCheck {
        let value = |figure| match figure {
            GateFigure::Count(count) | GateFigure::Tokens(count) => count as f64,
            GateFigure::Share(number) | GateFigure::Ms(number) => number,
        };
        let verdict = match figure {
            None => GateVerdict::NothingToJudge,
            Some(figure) if value(figure) > value(limit) => GateVerdict::Failed,
            Some(_) => GateVerdict::Passed,
        };
        let more = evidence.len().saturating_sub(EVIDENCE);
        if more > 0 {
            evidence.truncate(EVIDENCE);
            evidence.push(format!("and {more} more"));
        }
        GateCheck { rule, tool: tool.map(str::to_owned), verdict, figure, limit, evidence }
    }
}

/// Returns the verdict over all rules: a failure counts most, then a rule without anything to judge.
pub(crate) fn overall(checks: &[GateCheck]) -> GateVerdict {
    let has = |verdict| checks.iter().any(|check| check.verdict == verdict);
    match () {
        () if has(GateVerdict::Failed) => GateVerdict::Failed,
        () if has(GateVerdict::NothingToJudge) => GateVerdict::NothingToJudge,
        () => GateVerdict::Passed,
    }
}

/// Judges the facts by each rule. `baseline` has the tools that are known.
pub(crate) fn judge(
    rules: &GateRules,
    facts: &mut GateFacts,
    baseline: Option<&GateFacts>,
) -> Vec<GateCheck> {
    let has_calls = facts.calls.calls > 0;
    let mut checks = Vec::new();
    let errors = || -> Vec<String> {
        let row = |row: &ErrorRow| {
            format!(
                "{} on {}, {}x: {} ({})",
                row.tool_name, row.server_name, row.count, row.message, row.last
            )
        };
        facts.errors.iter().map(row).collect()
    };
    if let Some(most) = rules.max_errors {
        let figure = has_calls.then(|| GateFigure::Count(facts.calls.errors()));
        checks.push(GateCheck::new("max-errors", None, (figure, GateFigure::Count(most)), errors()));
    }
    if let Some(most) = rules.max_error_rate {
        let figure = facts.calls.error_rate().map(GateFigure::Share);
        checks.push(GateCheck::new("max-error-rate", None, (figure, GateFigure::Share(most)), errors()));
    }
    let count = |judged: bool, count: u64| (judged.then_some(GateFigure::Count(count)), GateFigure::Count(0));
    if rules.no_deaths {
        let figures = count(facts.connections > 0, facts.ends.count);
        checks.push(GateCheck::new("no-deaths", None, figures, facts.ends.names.clone()));
    }
    if rules.no_loops {
        let figures = count(has_calls, facts.loops.count);
        checks.push(GateCheck::new("no-loops", None, figures, facts.loops.names.clone()));
    }
    checks.extend(rules.p95.iter().map(|(pattern, most)| slowest(facts, pattern, *most)));
    checks.extend(rules.max_definitions.map(|most| definitions(facts, most)));
    checks.extend(rules.max_result.iter().map(|(pattern, most)| largest_result(facts, pattern, *most)));
    for pattern in &rules.expect_tool {
        let calls = calls_of(facts, pattern);
        let limit = (facts.connections > 0).then_some(GateFigure::Count(calls));
        let mut check =
            GateCheck::new("expect-tool", Some(pattern), (limit, GateFigure::Count(1)), Vec::new());
        if limit.is_some() {
            check.verdict = if calls > 0 { GateVerdict::Passed } else { GateVerdict::Failed };
        }
        checks.push(check);
    }
    for pattern in &rules.forbid_tool {
        let figures = count(has_calls, calls_of(facts, pattern));
        checks.push(GateCheck::new("forbid-tool", Some(pattern), figures, names_of(facts, pattern)));
    }
    if rules.no_new_tools {
        checks.push(new_tools(facts, baseline.filter(|baseline| !baseline.named.is_empty())));
    }
    if rules.lint {
        checks.push(lint_errors(facts));
    }
    checks.push(complete(facts, rules.allow_loss));
    checks
}

/// Returns the tools that `pattern` matches.
fn matching<'f>(facts: &'f mut GateFacts, pattern: &str) -> Vec<&'f mut (String, String, GateTool)> {
    let glob = Glob::new(pattern);
    let matches = |server: &str, tool: &str| glob.matches(tool) || glob.matches(&format!("{server}/{tool}"));
    facts.tools.iter_mut().filter(|(server, tool, _)| matches(server, tool)).collect()
}

fn calls_of(facts: &mut GateFacts, pattern: &str) -> u64 {
    matching(facts, pattern).iter().map(|(_, _, tool)| tool.timed.calls.calls).sum()
}

fn names_of(facts: &mut GateFacts, pattern: &str) -> Vec<String> {
    let name = |(server, tool, found): &(String, String, GateTool)| {
        format!("{tool} on {server}, {}x", found.timed.calls.calls)
    };
    matching(facts, pattern).into_iter().map(|found| name(found)).collect()
}

/// Judges each tool that the pattern matches alone; the figure is that of the slowest.
fn slowest(facts: &mut GateFacts, pattern: &str, most: f64) -> GateCheck {
    let mut found: Vec<(f64, String)> = Vec::new();
    for (server, tool, totals) in matching(facts, pattern) {
        let calls = totals.timed.durations.len();
        if let Some([p95]) = totals.timed.durations.quantiles([0.95]) {
            found.push((p95, format!("{tool} on {server}, {p95:.0} ms ({calls}x measured)")));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let figure = found.first().map(|(p95, _)| GateFigure::Ms(*p95));
    let evidence = worst(found, most);
    GateCheck::new("p95", Some(pattern), (figure, GateFigure::Ms(most)), evidence)
}

fn largest_result(facts: &mut GateFacts, pattern: &str, most: u64) -> GateCheck {
    let with_result =
        matching(facts, pattern).into_iter().filter(|(.., totals)| !totals.largest.1.is_empty());
    let mut found: Vec<(f64, String)> = with_result
        .map(|(server, tool, totals)| {
            let (tokens, handle) = &totals.largest;
            (*tokens as f64, format!("{tool} on {server}, ~{tokens} tokens ({handle})"))
        })
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let figure = found.first().map(|(tokens, _)| GateFigure::Tokens(*tokens as u64));
    let evidence = worst(found, most as f64);
    GateCheck::new("max-result", Some(pattern), (figure, GateFigure::Tokens(most)), evidence)
}

/// Returns the texts of the figures above `most`; of the greatest if none is.
fn worst(found: Vec<(f64, String)>, most: f64) -> Vec<String> {
    let above = found.iter().filter(|(figure, _)| *figure > most).count().max(1);
    found.into_iter().take(above).map(|(_, text)| text).collect()
}

/// Judges the session with the most tokens.
fn definitions(facts: &GateFacts, most: u64) -> GateCheck {
    let sum = |servers: &BTreeMap<String, u64>| servers.values().sum::<u64>();
    let worst = facts.definitions.values().max_by_key(|servers| sum(servers));
    let figure = worst.map(|servers| GateFigure::Tokens(sum(servers)));
    let mut servers: Vec<(&String, &u64)> = worst.into_iter().flatten().collect();
    servers.sort_by(|a, b| b.1.cmp(a.1));
    let evidence = servers.into_iter().map(|(server, tokens)| format!("{server} ~{tokens} tokens")).collect();
    GateCheck::new("max-definitions", None, (figure, GateFigure::Tokens(most)), evidence)
}

/// Judges whether every tool that a server had at any time is in the baseline. A list that is not complete proves
/// nothing.
fn new_tools(facts: &GateFacts, baseline: Option<&GateFacts>) -> GateCheck {
    let is_whole = |facts: &GateFacts, server: &String| {
        facts.catalogues.get(server).is_some_and(|catalogue| catalogue.is_complete)
    };
    let mut is_known = !facts.named.is_empty() && baseline.is_some();
    let mut new = Vec::new();
    for (server, tools) in &facts.named {
        let known = baseline.and_then(|baseline| baseline.named.get(server));
        let is_known_whole = known.is_none() || baseline.is_some_and(|baseline| is_whole(baseline, server));
        is_known &= is_whole(facts, server) && is_known_whole;
        let is_new = |name: &&String| is_known_whole && known.is_none_or(|known| !known.contains(*name));
        new.extend(tools.iter().filter(is_new).map(|name| format!("{name} on {server}")));
    }
    // A tool that is new is new, whatever else is unknown.
    let is_judged = is_known || !new.is_empty() && baseline.is_some();
    let figure = is_judged.then_some(GateFigure::Count(new.len() as u64));
    let evidence = if is_judged { new } else { Vec::new() };
    GateCheck::new("no-new-tools", None, (figure, GateFigure::Count(0)), evidence)
}

/// Judges the findings of the lint in all definitions of the sessions. Without a list of tools nothing was linted.
fn lint_errors(facts: &GateFacts) -> GateCheck {
    let lint = &facts.lint;
    let is_known = !lint.found.is_empty() || !facts.catalogues.is_empty() && !lint.has_unknown;
    let figure = is_known.then_some(GateFigure::Count(lint.found.len() as u64));
    let more = lint.has_unknown.then(|| "there are more findings, which are not counted".to_owned());
    let named = lint.found.iter().map(|(server, tool, rule)| match tool.as_str() {
        "" => format!("a tool without a name on {server}: {rule}"),
        tool => format!("{tool} on {server}: {rule}"),
    });
    GateCheck::new("lint", None, (figure, GateFigure::Count(0)), more.into_iter().chain(named).collect())
}

/// Judges whether anything is missing.
fn complete(facts: &GateFacts, allow_loss: bool) -> GateCheck {
    let loss = &facts.loss;
    let parts = [
        (loss.missing, "missing record"),
        (loss.gaps, "gap"),
        (loss.unknown, "call without an observed end"),
        (loss.unended, "connection without an end"),
        (loss.unreadable, "line or file that cannot be read"),
    ];
    let lost: u64 = parts.iter().map(|(count, _)| count).sum();
    let named = parts.into_iter().filter(|(count, _)| *count > 0);
    let evidence = named.map(|(count, what)| format!("{count} x {what}")).collect();
    let figures = (Some(GateFigure::Count(lost)), GateFigure::Count(if allow_loss { u64::MAX } else { 0 }));
    let mut check = GateCheck::new("complete", None, figures, evidence);
    check.limit = GateFigure::Count(if allow_loss { lost } else { 0 });
    check
}
