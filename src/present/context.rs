//! `spantap context`: a table of the tools, and what could be saved.

use std::collections::BTreeSet;
use std::io::{self, Write};

use crate::present::table::{Cell, Column, Table, Terminal, Tone};
use crate::present::{Printable, format};
use crate::query::context::{ContextServer, ContextSummary, ContextTool};
use crate::query::tool_history::{HistoryChange, HistoryRow};

/// Hosts that load definitions on demand, by the name of their client. `docs/looking.md` names the sources.
const ON_DEMAND: &[&str] = &["claude-code", "github-copilot-cli"];
/// Servers that the last line names.
const NAMED: usize = 4;

/// Draws the first `limit` tools, and lines about all of them.
pub(crate) fn write(
    out: &mut dyn Write,
    terminal: &Terminal,
    summary: &ContextSummary,
    limit: usize,
) -> io::Result<()> {
    let columns = vec![
        Column::left("SERVER", 0),
        Column::left("TOOL", 0),
        Column::right("DEFINED~", 0),
        Column::right("DESCRIBED~", 4),
        Column::right("SCHEMA~", 3),
        Column::right("CALLS", 0),
        Column::right("RESULT~", 2),
        Column::right("LARGEST~", 1),
        Column::left("NOTE", 0),
    ];
    let all: Vec<(&ContextServer, &ContextTool)> = summary
        .servers
        .iter()
        .flat_map(|server| server.tools.iter().map(move |tool| (server, tool)))
        .collect();
    let rows = all.iter().take(limit).map(|(server, tool)| cells(server, tool)).collect();
    Table { columns, rows }.write(out, terminal)?;
    if all.len() > limit {
        writeln!(out, "{} more; --limit shows them", all.len() - limit)?;
    }
    for line in terminal.lines(&facts(summary, terminal), ", ") {
        writeln!(out, "{}", Tone::Faint.paint(line))?;
    }
    for sentence in sentences(summary) {
        for line in terminal.broken(&sentence, 0, 2) {
            writeln!(out, "{}", Tone::Faint.paint(line))?;
        }
    }
    for line in terminal.lines(&savings(summary), "; ") {
        writeln!(out, "{}", Tone::Warning.paint(line))?;
    }
    Ok(())
}

fn cells(server: &ContextServer, tool: &ContextTool) -> Vec<Cell> {
    let count = |tokens: Option<u64>| Cell::from(tokens.map(format::count).unwrap_or_default());
    let (note, tone) = note(server, tool);
    let unused = if tool.never_called { Tone::Warning } else { Tone::Plain };
    vec![
        Cell::from(server.server_name.as_str()),
        Cell::toned(if tool.tool_name.is_empty() { "(none)" } else { &*tool.tool_name }, unused),
        count(tool.definition_tokens_est),
        count(tool.description_tokens_est),
        count(tool.schema_tokens_est),
        Cell::from(tool.calls.to_string()),
        count(tool.result_median_tokens_est),
        Cell::toned(
            tool.result_max_tokens_est.map(format::count).unwrap_or_default(),
            if tool.results_over_limit > 0 { Tone::Bad } else { Tone::Plain },
        ),
        Cell::toned(note, tone),
    ]
}

/// Returns what is remarkable about a tool.
pub(crate) fn note(server: &ContextServer, tool: &ContextTool) -> (String, Tone) {
    match tool.result_limit.filter(|_| tool.results_over_limit > 0) {
        Some(limit) => {
            let over = format!("{} over {}, probably cut", tool.results_over_limit, format::count(limit));
            (over, Tone::Bad)
        }
        None if tool.never_called => ("never called".to_owned(), Tone::Warning),
        // With more definitions than a record names, a tool may be among the others.
        None if server.is_complete == Some(true)
            && tool.definition_bytes.is_none()
            && server.unlisted.is_none() =>
        {
            ("not listed now".to_owned(), Tone::Faint)
        }
        None => Default::default(),
    }
}

/// Returns what the numbers are about.
fn facts(summary: &ContextSummary, terminal: &Terminal) -> Vec<Printable> {
    let servers = &summary.servers;
    let tools = servers.iter().map(|server| server.tools_total.unwrap_or(0)).sum();
    let calls = servers.iter().map(|server| server.calls).sum();
    let mut facts = vec![
        format::plural(servers.len() as u64, "server"),
        format!("{} defined", format::plural(tools, "tool")),
        format!("{} in {}", format::plural(calls, "call"), format::plural(summary.sessions, "session")),
    ];
    facts.extend(
        summary
            .span
            .get()
            .map(|(first, last)| format::span(first, Some(last), &terminal.zone, terminal.dash())),
    );
    facts.into_iter().map(Printable::from).collect()
}

/// Returns what a turn pays, and who pays less.
fn sentences(summary: &ContextSummary) -> Vec<Printable> {
    let tokens: u64 = summary.servers.iter().filter_map(|server| server.definition_tokens_est).sum();
    let mut sentences = Vec::new();
    if tokens > 0 {
        let of = if summary.servers.len() > 1 { " of all these servers" } else { "" };
        sentences.push(format!(
            "A turn pays ~{} tokens for definitions if the client loads all tools{of}.",
            format::count(tokens)
        ));
        sentences.extend(on_demand(&summary.hosts));
    }
    sentences.extend(summary.servers.iter().flat_map(server_notes));
    sentences.into_iter().map(Printable::from).collect()
}

/// Returns which of the hosts pay less, if any do.
pub(crate) fn on_demand(hosts: &BTreeSet<String>) -> Option<String> {
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).filter(|host| ON_DEMAND.contains(host)).collect();
    (!hosts.is_empty()).then(|| {
        format!(
            "{} can load definitions on demand; a turn then pays for names, and for the tools it has looked up.",
            hosts.join(" and ")
        )
    })
}

/// Returns why the tools of a server may not be all.
pub(crate) fn server_notes(server: &ContextServer) -> Vec<String> {
    let name = &server.server_name;
    let unlisted = server
        .unlisted
        .map(|more| if more == 1 { "1 more tool is".to_owned() } else { format!("{more} more tools are") })
        .map(|more| format!("{name}: {more} in the sum only: the log does not name them."));
    let incomplete = (server.is_complete == Some(false))
        .then(|| format!("{name}: its list was not seen to the end, so there may be more tools."));
    unlisted.into_iter().chain(incomplete).collect()
}

/// Returns what the tools of a server without a call cost, if it has any.
pub(crate) fn saving(server: &ContextServer) -> Option<String> {
    let never = server.never_called.filter(|never| *never > 0)?;
    let total = format::plural(server.tools_total.unwrap_or(0), "tool");
    let tokens = format::count(server.never_called_tokens_est.unwrap_or(0));
    Some(format!("{}: {never} of {total} never called, ~{tokens} tokens a turn", server.server_name))
}

/// Returns for each server what its tools without a call cost; nothing if all were called.
fn savings(summary: &ContextSummary) -> Vec<Printable> {
    let servers = || summary.servers.iter().filter(|server| server.never_called.unwrap_or(0) > 0);
    let mut lines: Vec<String> = servers().take(NAMED).filter_map(saving).collect();
    let rest = servers().skip(NAMED);
    let (count, tokens) = rest.fold((0, 0), |(count, tokens), server| {
        (count + 1, tokens + server.never_called_tokens_est.unwrap_or(0))
    });
    if count > 0 {
        lines.push(format!("{} more: ~{}", format::plural(count, "server"), format::count(tokens)));
    }
    lines.into_iter().map(Printable::from).collect()
}

/// Draws the first `limit` changes.
pub(crate) fn write_history(
    out: &mut dyn Write,
    terminal: &Terminal,
    rows: &[HistoryRow],
    limit: usize,
) -> io::Result<()> {
    let columns = vec![
        Column { cut: false, ..Column::left("TIME", 0) },
        Column::left("SERVER", 2),
        Column::left("SESSION", 3),
        Column::left("TOOL", 0),
        Column { cut: false, ..Column::left("CHANGE", 0) },
        Column::left("PARTS", 0),
        Column::right("BEFORE~", 1),
        Column::right("TOKENS~", 0),
    ];
    let cells = |row: &HistoryRow| {
        let count = |tokens: Option<u64>| Cell::from(tokens.map(format::count).unwrap_or_default());
        let (change, tone) = match row.change {
            HistoryChange::FirstListed => ("first seen", Tone::Faint),
            HistoryChange::Added => ("came", Tone::Plain),
            HistoryChange::Removed => ("went", Tone::Plain),
            HistoryChange::Changed => ("changed", Tone::Warning),
        };
        let tool = match (&row.tool_name, row.tools) {
            (Some(name), _) => name.clone(),
            (None, tools) => format::plural(tools.unwrap_or(0), "tool"),
        };
        vec![
            Cell::from(row.at.local(&terminal.zone, "%Y-%m-%d %H:%M")),
            Cell::from(row.server_name.as_str()),
            Cell::from(row.session_id.chars().take(8).collect::<String>()),
            Cell::toned(tool, tone),
            Cell::toned(change, tone),
            Cell::from(row.parts.join(", ").replace('_', " ")),
            count(row.tokens_before_est),
            count(row.tokens_est),
        ]
    };
    Table { columns, rows: rows.iter().take(limit).map(cells).collect() }.write(out, terminal)?;
    if rows.len() > limit {
        writeln!(out, "{} more; --limit shows them", rows.len() - limit)?;
    }
    Ok(())
}
