//! The chain of a session as lines of JSON: each record with the member `chain`, which says what it belongs to.

use std::io::{self, Write};

use serde::Serialize;

use crate::present::Printable;
use crate::query::agents::chain::{ChainItem, ChainNode, SessionChain};

/// Place of a record in the tree.
#[derive(Serialize)]
struct ChainPlace<'a> {
    handle: String,
    /// Handle of the record above; absent for a turn, and outside turns.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<&'a str>,
    /// Absent if it is only in it, such as a listing in a turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    joined_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by_time: Option<bool>,
}

/// Writes the records of the tree, each before those below it.
pub(crate) fn write(out: &mut dyn Write, chain: &SessionChain<'_>) -> io::Result<()> {
    chain.turns.iter().try_for_each(|turn| write_node(out, turn, None))
}

fn write_node(out: &mut dyn Write, node: &ChainNode<'_>, parent: Option<&str>) -> io::Result<()> {
    let (own, line) = match node.item {
        ChainItem::Turn(Some(fact))
        | ChainItem::Model(fact)
        | ChainItem::Tool(fact)
        | ChainItem::Span(fact) => (Some(fact.handle()), serde_json::to_string(&fact.record)?),
        ChainItem::Operation(found) => {
            (Some(found.row.handle()), String::from_utf8_lossy(&found.line).into_owned())
        }
        ChainItem::Turn(None) | ChainItem::OutsideTurns => (None, String::new()),
    };
    if let (Some(handle), Some(members)) = (&own, line.trim_end().strip_suffix('}')) {
        let join = node.join.filter(|_| parent.is_some());
        let place = ChainPlace {
            handle: handle.clone(),
            parent,
            joined_by: join.map(|join| join.by.as_str()),
            by_time: join.map(|join| join.is_by_time),
        };
        let line = format!("{members},\"chain\":{}}}", serde_json::to_string(&place)?);
        writeln!(out, "{}", Printable::json(&line))?;
    }
    let parent = own.as_deref().or(parent);
    node.children.iter().try_for_each(|child| write_node(out, child, parent))
}
