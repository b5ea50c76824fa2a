//! The chain of a session as lines of JSON: each record with the member `chain`, which says what it belongs to.

use std::io::{self, Write};

use serde::Serialize;

use crate::present::Printable;
use crate::query::agents::chain::{ChainItem, ChainNode, ChainPath, SessionChain};
use crate::query::find::OperationMatch;

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

/// Returns the line of one operation with its place.
pub(crate) fn of_operation(found: &OperationMatch, path: &ChainPath<'_, '_>) -> io::Result<Printable> {
    let line = String::from_utf8_lossy(&found.line);
    let Some((operation, above)) = path.nodes.split_last() else {
        return Ok(Printable::json(line.trim_end()));
    };
    let parent = above.iter().rev().find_map(|node| own_handle(node));
    Ok(with_place(line.trim_end(), &found.row.handle(), operation, parent.as_deref())?
        .unwrap_or_else(|| Printable::json(line.trim_end())))
}

fn own_handle(node: &ChainNode<'_>) -> Option<String> {
    match node.item {
        ChainItem::Turn(Some(fact))
        | ChainItem::Model(fact)
        | ChainItem::Tool(fact)
        | ChainItem::Span(fact) => Some(fact.handle()),
        ChainItem::Operation(found) => Some(found.row.handle()),
        ChainItem::Turn(None) | ChainItem::OutsideTurns => None,
    }
}

fn write_node(out: &mut dyn Write, node: &ChainNode<'_>, parent: Option<&str>) -> io::Result<()> {
    let line = match node.item {
        ChainItem::Turn(Some(fact))
        | ChainItem::Model(fact)
        | ChainItem::Tool(fact)
        | ChainItem::Span(fact) => serde_json::to_string(&fact.record)?,
        ChainItem::Operation(found) => String::from_utf8_lossy(&found.line).into_owned(),
        ChainItem::Turn(None) | ChainItem::OutsideTurns => String::new(),
    };
    let own = own_handle(node);
    if let Some(handle) = &own
        && let Some(line) = with_place(line.trim_end(), handle, node, parent)?
    {
        writeln!(out, "{line}")?;
    }
    let parent = own.as_deref().or(parent);
    node.children.iter().try_for_each(|child| write_node(out, child, parent))
}

/// Returns an object with the member `chain`; `None` if `line` is not an object.
fn with_place(
    line: &str,
    handle: &str,
    node: &ChainNode<'_>,
    parent: Option<&str>,
) -> io::Result<Option<Printable>> {
    let Some(members) = line.strip_suffix('}') else { return Ok(None) };
    let join = node.join.filter(|_| parent.is_some());
    let place = ChainPlace {
        handle: handle.to_owned(),
        parent,
        joined_by: join.map(|join| join.by.as_str()),
        by_time: join.map(|join| join.is_by_time),
    };
    let line = format!("{members},\"chain\":{}}}", serde_json::to_string(&place)?);
    Ok(Some(Printable::json(&line)))
}
