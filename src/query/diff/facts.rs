//! The differences as facts, the most important first.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Serialize;

use crate::query::catalogue::CatalogueTool;
use crate::query::diff::{DiffSide, SideTool};
use crate::query::errors::OTHER_MESSAGES;
use crate::record::words::Status;

/// Least factor between two durations that is worth a fact.
const LEAST_FACTOR: f64 = 1.1;

/// Figures of one tool on one side.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) calls: u64,
    /// Calls whose outcome was observed.
    pub(crate) known: u64,
    pub(crate) errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error_rate: Option<f64>,
    /// Without the time of questions to a person, as all durations here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p95_ms: Option<f64>,
}

impl Figures {
    pub(super) fn new(totals: &mut SideTool) -> Figures {
        let SideTool { calls, durations } = totals;
        let quantiles = durations.quantiles([0.5, 0.95]);
        let errors = calls.errors();
        Figures {
            calls: calls.calls,
            known: calls.calls.saturating_sub(calls.with_status(Status::Unknown)).max(errors),
            errors,
            error_rate: calls.error_rate(),
            p50_ms: quantiles.map(|quantiles| quantiles[0]),
            p95_ms: quantiles.map(|quantiles| quantiles[1]),
        }
    }
}

/// One tool that was called on both sides. A probability is that of the exact test.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ToolDiff {
    pub(crate) server_name: String,
    pub(crate) tool_name: String,
    pub(crate) a: Figures,
    pub(crate) b: Figures,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_rate_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p95_p: Option<f64>,
    /// `error_rate`, `p50`, `p95`: the figures that differ beyond chance.
    differs: Vec<&'static str>,
}

impl ToolDiff {
    pub(super) fn new(
        server_name: String,
        tool_name: String,
        [a, b]: [Figures; 2],
        [error_rate_p, p50_p, p95_p]: [Option<f64>; 3],
        differs: [bool; 3],
    ) -> ToolDiff {
        let names = ["error_rate", "p50", "p95"].into_iter().zip(differs);
        let differs = names.filter(|(_, differs)| *differs).map(|(name, _)| name).collect();
        ToolDiff { server_name, tool_name, a, b, error_rate_p, p50_p, p95_p, differs }
    }

    fn rate(&self) -> Option<RateFact> {
        let is_worse = self.b.error_rate > self.a.error_rate;
        self.differs.contains(&"error_rate").then(|| RateFact {
            server_name: self.server_name.clone(),
            tool_name: self.tool_name.clone(),
            is_worse,
            errors: [self.a.errors, self.b.errors],
            known: [self.a.known, self.b.known],
            p: self.error_rate_p.unwrap_or_default(),
        })
    }

    fn duration(&self) -> Option<DurationFact> {
        let of = |name: &'static str, a: Option<f64>, b: Option<f64>, p: Option<f64>| {
            let (a, b) = (a?, b?);
            let factor = if b >= a { b / a } else { a / b };
            let is_noted = self.differs.contains(&name) && factor >= LEAST_FACTOR && factor.is_finite();
            is_noted.then(|| QuantileFact { quantile: name, ms: [a, b], factor, p: p.unwrap_or_default() })
        };
        let p50 = of("p50", self.a.p50_ms, self.b.p50_ms, self.p50_p);
        let p95 = of("p95", self.a.p95_ms, self.b.p95_ms, self.p95_p);
        let quantiles: Vec<QuantileFact> = p50.into_iter().chain(p95).collect();
        Some(DurationFact {
            server_name: self.server_name.clone(),
            tool_name: self.tool_name.clone(),
            is_worse: quantiles.first().map(|first| first.ms[1] > first.ms[0])?,
            quantiles,
            known: [self.a.known, self.b.known],
        })
    }
}

/// One difference. Pairs are A and B.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub(crate) enum DiffFact {
    /// A server died or did not start in a way that A does not have.
    End {
        server_name: String,
        how: String,
        count: u64,
    },
    /// The definition of a tool changed.
    ToolChanged {
        server_name: String,
        tool_name: String,
        parts: BTreeSet<String>,
        definition_bytes: [u64; 2],
    },
    /// A listed tool is no longer listed.
    ToolsGone {
        server_name: String,
        tools: Vec<String>,
    },
    /// A tool is listed in B only.
    ToolsNew {
        server_name: String,
        tools: Vec<String>,
    },
    ErrorRate(RateFact),
    Duration(DurationFact),
    /// A tool failed with a message that A does not have.
    NewError {
        server_name: String,
        tool_name: String,
        message: String,
        count: u64,
        last: String,
    },
    ServerVersion {
        server_name: String,
        versions: [String; 2],
    },
    /// The definitions of a server became longer or shorter.
    Definitions {
        server_name: String,
        tokens_est: [u64; 2],
        tools: [u64; 2],
    },
    /// Servers that only B has.
    ServersNew {
        servers: Vec<String>,
    },
    /// Servers that only A has.
    ServersGone {
        servers: Vec<String>,
    },
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct RateFact {
    pub(crate) server_name: String,
    pub(crate) tool_name: String,
    pub(crate) is_worse: bool,
    pub(crate) errors: [u64; 2],
    pub(crate) known: [u64; 2],
    pub(crate) p: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct DurationFact {
    pub(crate) server_name: String,
    pub(crate) tool_name: String,
    pub(crate) is_worse: bool,
    pub(crate) quantiles: Vec<QuantileFact>,
    pub(crate) known: [u64; 2],
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct QuantileFact {
    pub(crate) quantile: &'static str,
    pub(crate) ms: [f64; 2],
    /// The greater duration divided by the smaller one.
    pub(crate) factor: f64,
    pub(crate) p: f64,
}

/// Returns all facts. `both` are the servers that both sides have.
pub(super) fn all(
    a: &mut DiffSide,
    b: &mut DiffSide,
    both: &BTreeSet<String>,
    tools: &[ToolDiff],
) -> Vec<DiffFact> {
    let mut facts = ends(a, b);
    let lists = tool_lists(a, b, both);
    let (changed, lists): (Vec<DiffFact>, Vec<DiffFact>) =
        lists.into_iter().partition(|fact| matches!(fact, DiffFact::ToolChanged { .. }));
    let (gone, new): (Vec<DiffFact>, Vec<DiffFact>) =
        lists.into_iter().partition(|fact| matches!(fact, DiffFact::ToolsGone { .. }));
    let mut rates: Vec<RateFact> = tools.iter().filter_map(ToolDiff::rate).collect();
    rates.sort_by(|a, b| a.p.total_cmp(&b.p));
    let mut durations: Vec<DurationFact> = tools.iter().filter_map(ToolDiff::duration).collect();
    durations.sort_by(|a, b| b.quantiles[0].factor.total_cmp(&a.quantiles[0].factor));
    let rates = |worse: bool| {
        rates.iter().filter(move |fact| fact.is_worse == worse).cloned().map(DiffFact::ErrorRate)
    };
    let durations = |worse: bool| {
        durations.iter().filter(move |fact| fact.is_worse == worse).cloned().map(DiffFact::Duration)
    };
    facts.extend(changed);
    facts.extend(gone);
    facts.extend(rates(true));
    facts.extend(durations(true));
    facts.extend(new_errors(a, b));
    facts.extend(new);
    facts.extend(versions(a, b));
    facts.extend(definitions(a, b, both));
    facts.extend(rates(false));
    facts.extend(durations(false));
    let only = |side: &DiffSide| -> Vec<String> {
        side.servers.keys().filter(|name| !both.contains(*name)).cloned().collect()
    };
    let (new, gone) = (only(b), only(a));
    facts.extend((!new.is_empty()).then_some(DiffFact::ServersNew { servers: new }));
    facts.extend((!gone.is_empty()).then_some(DiffFact::ServersGone { servers: gone }));
    facts
}

fn ends(a: &DiffSide, b: &DiffSide) -> Vec<DiffFact> {
    let mut facts = Vec::new();
    for (server, found) in &b.servers {
        let before = a.servers.get(server);
        for (how, count) in &found.ends {
            if before.is_none_or(|before| !before.ends.contains_key(how)) {
                let (server_name, how) = (server.clone(), how.clone());
                facts.push(DiffFact::End { server_name, how, count: *count });
            }
        }
    }
    facts
}

/// Returns new, gone and changed tools of the servers whose lists are known on both sides.
fn tool_lists(a: &mut DiffSide, b: &mut DiffSide, both: &BTreeSet<String>) -> Vec<DiffFact> {
    let mut facts = Vec::new();
    for server in both {
        let (Some(before), Some(after)) = (a.catalogues.get(server), b.catalogues.get(server)) else {
            continue;
        };
        // A tool is new only if its absence before is known.
        let only = |here: &BTreeMap<String, CatalogueTool>, there: &BTreeMap<String, CatalogueTool>| {
            here.keys().filter(|name| !there.contains_key(*name)).cloned().collect::<Vec<String>>()
        };
        let gone = if after.is_complete { only(&before.tools, &after.tools) } else { Vec::new() };
        let new = if before.is_complete { only(&after.tools, &before.tools) } else { Vec::new() };
        if !gone.is_empty() {
            facts.push(DiffFact::ToolsGone { server_name: server.clone(), tools: gone });
        }
        if !new.is_empty() {
            facts.push(DiffFact::ToolsNew { server_name: server.clone(), tools: new });
        }
        for (name, tool) in &after.tools {
            let Some(earlier) = before.tools.get(name) else { continue };
            if earlier.definition_hash != tool.definition_hash {
                let mut parts = b.changes.changed_parts(server, name);
                if parts.is_empty() {
                    parts = sizes_that_differ(earlier, tool);
                }
                facts.push(DiffFact::ToolChanged {
                    server_name: server.clone(),
                    tool_name: name.clone(),
                    parts,
                    definition_bytes: [earlier.definition_bytes, tool.definition_bytes],
                });
            }
        }
    }
    facts
}

/// Returns the parts of a definition that have another length. A part of the same length may differ, too.
fn sizes_that_differ(before: &CatalogueTool, after: &CatalogueTool) -> BTreeSet<String> {
    let description = before.description_bytes != after.description_bytes;
    let schema = before.schema_bytes != after.schema_bytes;
    let parts = [(description, "description"), (schema, "schema")];
    parts.into_iter().filter(|(differs, _)| *differs).map(|(_, part)| part.to_owned()).collect()
}

fn new_errors(a: &DiffSide, b: &DiffSide) -> Vec<DiffFact> {
    let key =
        |server: &str, tool: &str, message: &str| (server.to_owned(), tool.to_owned(), message.to_owned());
    let before: HashSet<(String, String, String)> =
        a.errors.iter().map(|row| key(&row.server_name, &row.tool_name, &row.message)).collect();
    let has = |server: &str, tool: &str, message: &str| before.contains(&key(server, tool, message));
    let rows = b.errors.iter().filter(|row| {
        // If a tool has too many messages, those that are not counted apart are unknown.
        row.message != OTHER_MESSAGES
            && !has(&row.server_name, &row.tool_name, OTHER_MESSAGES)
            && !has(&row.server_name, &row.tool_name, &row.message)
    });
    rows.map(|row| DiffFact::NewError {
        server_name: row.server_name.clone(),
        tool_name: row.tool_name.clone(),
        message: row.message.clone(),
        count: row.count,
        last: row.last.clone(),
    })
    .collect()
}

fn versions(a: &DiffSide, b: &DiffSide) -> Vec<DiffFact> {
    let mut facts = Vec::new();
    for (server, after) in &b.servers {
        let Some(before) = a.servers.get(server) else { continue };
        let versions = [before.version.1.clone(), after.version.1.clone()];
        if versions[0] != versions[1] && versions.iter().all(|version| !version.is_empty()) {
            facts.push(DiffFact::ServerVersion { server_name: server.clone(), versions });
        }
    }
    facts
}

fn definitions(a: &DiffSide, b: &DiffSide, both: &BTreeSet<String>) -> Vec<DiffFact> {
    let mut facts = Vec::new();
    for server in both {
        let (Some(before), Some(after)) = (a.catalogues.get(server), b.catalogues.get(server)) else {
            continue;
        };
        let sides = [before, after];
        let tokens_est = sides.map(|side| side.tokens());
        if tokens_est[0] != tokens_est[1] {
            let tools = sides.map(|side| side.tools.len() as u64 + side.unlisted);
            facts.push(DiffFact::Definitions { server_name: server.clone(), tokens_est, tools });
        }
    }
    facts
}
