//! TOML.

use toml_edit::{Document, Item, TableLike, Value as TomlValue};

use crate::hosts::tree::{Node, NodeLayout, NodeMember, NodeValue};
use crate::text::line_of;

/// Parses TOML; see [`Node::parse`].
pub(super) fn parse(text: &str) -> Result<Node, String> {
    let document = Document::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        format!("line {}: not valid TOML", line_of(text, at))
    })?;
    Ok(Node { range: 0..text.len(), value: table(document.as_table(), NodeLayout::Block, text) })
}

fn table(table: &dyn TableLike, layout: NodeLayout, text: &str) -> NodeValue {
    let member = |(key, item): (&str, &Item)| NodeMember {
        key: key.to_owned(),
        key_range: table.key(key).and_then(toml_edit::Key::span).unwrap_or_default(),
        value: node(item, text),
    };
    NodeValue::Map { members: table.iter().map(member).collect(), layout }
}

fn node(item: &Item, text: &str) -> Node {
    let range = item.span().unwrap_or_default();
    let value = match item {
        Item::Table(inner) => table(inner, NodeLayout::Block, text),
        Item::Value(value) => return of_value(value, text),
        Item::ArrayOfTables(tables) => NodeValue::List {
            items: tables
                .iter()
                .map(|inner| Node { range: range.clone(), value: table(inner, NodeLayout::Block, text) })
                .collect(),
            layout: NodeLayout::Block,
        },
        Item::None => NodeValue::Other(String::new()),
    };
    Node { range, value }
}

fn of_value(value: &TomlValue, text: &str) -> Node {
    let range = value.span().unwrap_or_default();
    let value = match value {
        TomlValue::String(literal) => NodeValue::Text(literal.value().clone()),
        TomlValue::Array(array) => NodeValue::List {
            items: array.iter().map(|item| of_value(item, text)).collect(),
            layout: NodeLayout::Flow,
        },
        TomlValue::InlineTable(inner) => table(inner, NodeLayout::Flow, text),
        _ => NodeValue::Other(text.get(range.clone()).unwrap_or_default().to_owned()),
    };
    Node { range, value }
}
