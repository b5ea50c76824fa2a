//! Calls that were made again and again.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::query::row::{OperationRow, handle};
use crate::query::why::story::{RepeatRow, Story};

/// The same call, or the same cycle of calls, again and again.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RepeatFact {
    pub(crate) server_name: String,
    pub(crate) tool_name: String,
    /// Number of identical calls, or of rounds of the cycle.
    pub(crate) count: u64,
    /// Number of different calls in the cycle; absent for one call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cycle_length: Option<u32>,
    /// True if the results were equal too, or all failed with the same error; absent in older records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) no_progress: Option<bool>,
    /// Handle of the last of them.
    pub(crate) handle: String,
}

/// Returns the repeats that the log reports: alarms first, then the most frequent.
pub(super) fn facts(story: &Story) -> Vec<RepeatFact> {
    // The same repetition is reported again when it goes on; the last report counts.
    let mut latest: BTreeMap<(&str, &str, Option<u32>), &RepeatRow> = BTreeMap::new();
    for row in &story.repeats {
        let known = latest.entry((&row.connection_id, &row.tool_name, row.cycle_length)).or_insert(row);
        if (row.is_alarm, row.count) >= (known.is_alarm, known.count) {
            *known = row;
        }
    }
    let mut facts: Vec<(bool, RepeatFact)> =
        latest.into_values().map(|row| (row.is_alarm, fact(story, row))).collect();
    facts.sort_by(|(a_alarm, a), (b_alarm, b)| (b_alarm, b.count).cmp(&(a_alarm, a.count)));
    facts.into_iter().map(|(_, fact)| fact).collect()
}

/// Returns the report of which `call` is a part.
pub(super) fn of_call(story: &Story, call: &OperationRow) -> Option<RepeatFact> {
    let repeats = u64::from(call.repeat_count?);
    let is_of_call = |row: &&RepeatRow| {
        row.connection_id == call.connection_id
            && row.tool_name == call.target
            && row.cycle_length.is_none()
            && row.count <= repeats
    };
    let row = story.repeats.iter().rfind(is_of_call)?;
    Some(RepeatFact { count: repeats, handle: call.handle(), ..fact(story, row) })
}

fn fact(story: &Story, row: &RepeatRow) -> RepeatFact {
    // The report is made at the threshold, and the calls may go on after it.
    let is_of_report = |call: &&OperationRow| {
        call.connection_id == row.connection_id
            && call.target == row.tool_name
            && row.cycle_length.is_none()
            && u64::from(call.repeat_count.unwrap_or(0)) >= row.count
    };
    let last = story.rows.iter().filter(is_of_report).max_by_key(|call| call.repeat_count);
    let of_tool = |call: &&OperationRow| {
        call.connection_id == row.connection_id && call.target == row.tool_name && call.seq < row.seq
    };
    let shown = last.or_else(|| story.rows.iter().rfind(of_tool));
    RepeatFact {
        server_name: row.server_name.to_string(),
        tool_name: row.tool_name.to_string(),
        count: last.and_then(|call| call.repeat_count).map_or(row.count, u64::from),
        cycle_length: row.cycle_length,
        no_progress: row.no_progress,
        handle: shown.map_or_else(|| handle(&row.connection_id, row.seq), OperationRow::handle),
    }
}
