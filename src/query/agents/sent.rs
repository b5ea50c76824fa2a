//! Finds the tools that an agent sent to a server, though it reported that it refused them.

use std::collections::{HashMap, HashSet};

use crate::query::agents::facts::CountedFact;
use crate::query::agents::time_index::nearest;
use crate::query::agents::wire::{WireCall, WireTable};
use crate::record::EventName;
use crate::record::timestamp::Timestamp;
use crate::record::words::ToolDecision;

/// Returns the indexes of the facts that are tools with the id of a refused one, and with a call of their session. A
/// call has one tool: the nearest one with its id. `place` has the index of each session of `wire`.
pub(super) fn sent_tools(
    facts: &[&CountedFact],
    session_of: &[Option<usize>],
    wire: &WireTable,
    place: &[usize],
) -> HashSet<usize> {
    let is_refused = |fact: &&&CountedFact| fact.decision == Some(ToolDecision::Refused);
    let refused: HashSet<u64> = facts.iter().filter(is_refused).filter_map(|fact| fact.call).collect();
    let mut tools: HashMap<(u64, usize), Vec<(Timestamp, usize)>> = HashMap::new();
    for (at, fact) in facts.iter().enumerate().filter(|(_, fact)| fact.event == EventName::AgentTool) {
        if let (Some(call), Some(session)) = (fact.call.filter(|call| refused.contains(call)), session_of[at])
        {
            tools.entry((call, session)).or_default().push((fact.start(), at));
        }
    }
    tools.values_mut().for_each(|tools| tools.sort_unstable());
    if tools.is_empty() {
        return HashSet::new();
    }
    let tool_of = |call: &WireCall| {
        let [id, _] = call.links;
        nearest(tools.get(&(id, place[call.session as usize]))?, call.started)
    };
    wire.calls.iter().filter_map(tool_of).collect()
}
