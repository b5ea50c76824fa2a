//! How an agent names the tools of a server, and how near two records of one call are.

use crate::record::words::{Status, ToolDecision};

/// Longest distance of the times of one call on the wire and in the agent's report.
pub(super) const SLACK_US: i64 = 500_000;
/// Most tools of the same name that are compared with one call.
pub(super) const CANDIDATES: usize = 16;

/// Returns a name as agents spell it, which allow few characters.
pub(super) fn plain(name: &str) -> String {
    let letter = |c: char| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    name.chars().map(letter).collect()
}

/// Returns the plain names by which agents call a tool. An agent that does not report the server puts it into the name
/// of the tool.
pub(super) fn names_of_tool(server: &str, tool: &str) -> [String; 4] {
    let (server, tool) = (plain(server), plain(tool));
    [format!("{server}_{tool}"), format!("mcp_{server}_{tool}"), format!("mcp__{server}__{tool}"), tool]
}

/// Returns true if the tool may have been asked of a server.
pub(super) fn may_be_sent(decision: Option<ToolDecision>, status: Option<Status>) -> bool {
    decision != Some(ToolDecision::Refused) && (decision.is_some() || status != Some(Status::Denied))
}
