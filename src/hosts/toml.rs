//! TOML.

use toml_edit::{Document, Item, TableLike, Value as TomlValue};

use crate::hosts::tree::{Layout, Member, Node, Value};
use crate::text::line_of;

/// Reads TOML; see [`Node::parse`].
pub(super) fn parse(text: &str) -> Result<Node, String> {
    let document = Document::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        format!("line {}: not valid TOML", line_of(text, at))
    })?;
    Ok(Node { range: 0..text.len(), value: table(document.as_table(), Layout::Block, text) })
}

fn table(table: &dyn TableLike, layout: Layout, text: &str) -> Value {
    let member = |(key, item): (&str, &Item)| Member {
        key: key.to_owned(),
        key_range: table.key(key).and_then(toml_edit::Key::span).unwrap_or_default(),
        value: node(item, text),
    };
    Value::Map { members: table.iter().map(member).collect(), layout }
}

fn node(item: &Item, text: &str) -> Node {
    let range = item.span().unwrap_or_default();
    let value = match item {
        Item::Table(inner) => table(inner, Layout::Block, text),
        Item::Value(value) => return of_value(value, text),
        Item::ArrayOfTables(tables) => Value::List {
            items: tables
                .iter()
                .map(|inner| Node { range: range.clone(), value: table(inner, Layout::Block, text) })
                .collect(),
            layout: Layout::Block,
        },
        Item::None => Value::Other(String::new()),
    };
    Node { range, value }
}

fn of_value(value: &TomlValue, text: &str) -> Node {
    let range = value.span().unwrap_or_default();
    let value = match value {
        TomlValue::String(literal) => Value::Text(literal.value().clone()),
        TomlValue::Array(array) => Value::List {
            items: array.iter().map(|item| of_value(item, text)).collect(),
            layout: Layout::Flow,
        },
        TomlValue::InlineTable(inner) => table(inner, Layout::Flow, text),
        _ => Value::Other(text.get(range.clone()).unwrap_or_default().to_owned()),
    };
    Node { range, value }
}
