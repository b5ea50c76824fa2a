//! The operations of a session by turn, and which of them took unusually long.

use std::collections::{HashMap, VecDeque};

use crate::query::durations::Durations;
use crate::query::row::OperationRow;
use crate::record::words::Status;

#[derive(Clone, Debug, Default)]
pub struct Turn<'r> {
    pub(crate) operations: Vec<TurnOperation<'r>>,
    /// False for a group without a tool call that names its turn, such as greetings and listings.
    pub(crate) is_named: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct TurnOperation<'r> {
    pub(crate) row: &'r OperationRow,
    /// The 95th percentile of its tool, if the operation took much longer than usual.
    pub exceeded_p95_ms: Option<f64>,
}

/// Groups operations by turn, in order of each turn's first one. The operations without a turn are one group.
pub fn turns<'r>(rows: &[&'r OperationRow]) -> Vec<Turn<'r>> {
    let usual = usual_durations(rows);
    let mut sorted = rows.to_vec();
    sorted.sort_by(|a, b| (a.started, &a.server_name, a.seq).cmp(&(b.started, &b.server_name, b.seq)));
    let mut turns: Vec<Turn<'r>> = Vec::new();
    let mut index: HashMap<(&str, &str), usize> = HashMap::new();
    let calls = sorted.clone().into_iter().filter(|row| row.is_tool_call && !row.turn_id.is_empty());
    let mut calls = calls.peekable();
    // By connection, the calls that have begun; the first of them that ends too early is removed.
    let mut begun: HashMap<&str, VecDeque<&OperationRow>> = HashMap::new();
    for row in sorted {
        while let Some(call) = calls.next_if(|call| call.started <= row.started) {
            begun.entry(&call.connection_id).or_default().push_back(call);
        }
        // A request of the server during a call has no turn of its own: it belongs to the call's.
        let begun = begun.get_mut(&*row.connection_id).filter(|_| row.turn_id.is_empty());
        let call = begun.and_then(|begun| {
            while begun.front().is_some_and(|call| call.ended() < row.started) {
                begun.pop_front();
            }
            begun.front().copied()
        });
        let owner = call.unwrap_or(row);
        let at = *index.entry((&owner.conversation_id, &owner.turn_id)).or_insert_with(|| {
            turns.push(Turn::default());
            turns.len() - 1
        });
        let exceeded_p95_ms = usual.get(&(&*row.server_name, row.name())).and_then(|[p50, p95]| {
            let is_slow = row.length_ms() > *p95 && row.length_ms() > 2.0 * p50;
            is_slow.then_some(*p95)
        });
        turns[at].operations.push(TurnOperation { row, exceeded_p95_ms });
        turns[at].is_named |= row.is_tool_call && !owner.turn_id.is_empty();
    }
    turns
}

/// Returns median and 95th percentile of each tool that has enough samples.
fn usual_durations<'r>(rows: &[&'r OperationRow]) -> HashMap<(&'r str, &'r str), [f64; 2]> {
    /// Fewest samples for which a 95th percentile means anything.
    const ENOUGH: usize = 20;
    let mut by_tool: HashMap<(&str, &str), Durations> = HashMap::new();
    for row in rows.iter().filter(|row| row.status != Status::Unknown) {
        by_tool.entry((&row.server_name, row.name())).or_default().push(row.length_ms());
    }
    by_tool
        .into_iter()
        .filter(|(_, durations)| durations.len() >= ENOUGH)
        .filter_map(|(tool, mut durations)| Some((tool, durations.quantiles([0.5, 0.95])?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::entry::LogEntry;
    use crate::query::name_pool::NamePool;

    #[test]
    fn a_request_of_the_server_belongs_to_the_turn_of_the_call_and_a_greeting_to_none() {
        let line = |event: &str, method: &str, second: u32, ms: u32, turn: &str| {
            format!(
                r#"{{"schema":"spantap/1","event":"{event}","method":"{method}","connection_id":"c","started_at":"2026-11-25T18:00:{second:02}.000000Z","duration_ms":{ms},"status":"ok","turn_id":"{turn}"}}"#
            )
        };
        let lines = [
            line("mcp_request", "initialize", 0, 300, "1"),
            line("mcp_request", "elicitation/create", 11, 1_000, ""),
            line("mcp_tool_call", "tools/call", 10, 5_000, "t1"),
            line("mcp_request", "ping", 30, 1, ""),
        ];
        let mut names = NamePool::default();
        let rows =
            lines.map(|line| OperationRow::new(&LogEntry::parse(line.as_bytes()).unwrap(), &mut names));
        let turns = turns(&rows.iter().collect::<Vec<_>>());
        let methods: Vec<Vec<&str>> = turns
            .iter()
            .map(|turn| turn.operations.iter().map(|operation| operation.row.name()).collect())
            .collect();
        assert_eq!(methods, [vec!["initialize"], vec!["tools/call", "elicitation/create"], vec!["ping"]]);
        assert_eq!(turns.iter().map(|turn| turn.is_named).collect::<Vec<_>>(), [false, true, false]);
    }
}
