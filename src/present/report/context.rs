//! The context board: what definitions and results cost, by server and tool.

use serde::Serialize;
use serde_json::{Value, json};

use crate::present::Printable;
use crate::present::context::{note, on_demand, saving, server_notes};
use crate::query::context::{ContextServer, ContextSummary, ContextTool};

/// Most tools of the board.
const TOOLS: usize = 1_000;

/// The data of the context board, in the order of `spantap context`.
#[derive(Debug, Serialize)]
pub(super) struct ContextBoard {
    servers: Vec<Value>,
    tools: Vec<Value>,
    /// Number of tools that are left out of `tools`.
    more: usize,
    /// A sentence about hosts that load definitions on demand.
    on_demand: Option<Printable>,
}

impl ContextBoard {
    pub(super) fn new(summary: &ContextSummary) -> ContextBoard {
        let servers = &summary.servers;
        let all =
            servers.iter().flat_map(|server| server.tools.iter().map(move |tool| tool_row(server, tool)));
        let tools: Vec<Value> = all.take(TOOLS).collect();
        ContextBoard {
            more: servers.iter().map(|server| server.tools.len()).sum::<usize>() - tools.len(),
            tools,
            servers: servers.iter().map(server_row).collect(),
            on_demand: on_demand(&summary.hosts).map(Printable::from),
        }
    }
}

fn server_row(server: &ContextServer) -> Value {
    let notes: Vec<Printable> = server_notes(server).into_iter().map(Printable::from).collect();
    json!({
        "name": Printable::new(&server.server_name), "tools": server.tools_total,
        "tokens": server.definition_tokens_est, "unused": server.never_called_tokens_est,
        "saving": saving(server).map(Printable::from), "notes": notes,
    })
}

fn tool_row(server: &ContextServer, tool: &ContextTool) -> Value {
    json!({
        "server": Printable::new(&server.server_name), "tool": Printable::new(&tool.tool_name),
        "tokens": tool.definition_tokens_est, "description": tool.description_tokens_est,
        "schema": tool.schema_tokens_est, "calls": tool.calls, "never": tool.never_called,
        "median": tool.result_median_tokens_est, "largest": tool.result_max_tokens_est,
        "over": tool.results_over_limit, "note": Printable::from(note(server, tool).0),
    })
}
