//! JSON with comments.

use jsonc_parser::ast;
use jsonc_parser::common::{Range as Span, Ranged};
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use crate::hosts::tree::{Node, NodeLayout, NodeMember, NodeValue};
use crate::text::line_of;

/// Parses JSON with comments and trailing commas; see [`Node::parse`].
pub(super) fn parse(text: &str) -> Result<Node, String> {
    let options = ParseOptions {
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        ..ParseOptions::default()
    };
    let parsed = parse_to_ast(text, &CollectOptions::default(), &options)
        .map_err(|error| format!("line {}: not valid JSON", line_of(text, error.range().start)))?;
    match parsed.value {
        Some(value) => Ok(node(&value, text)),
        None => {
            Ok(Node { range: 0..0, value: NodeValue::Map { members: Vec::new(), layout: NodeLayout::Flow } })
        }
    }
}

fn bytes(span: Span) -> std::ops::Range<usize> {
    span.start..span.end
}

fn node(value: &ast::Value<'_>, text: &str) -> Node {
    let range = bytes(value.range());
    let value = match value {
        ast::Value::StringLit(literal) => NodeValue::Text(literal.value.to_string()),
        ast::Value::Array(array) => NodeValue::List {
            items: array.elements.iter().map(|item| node(item, text)).collect(),
            layout: NodeLayout::Flow,
        },
        ast::Value::Object(object) => {
            let member = |property: &ast::ObjectProp<'_>| NodeMember {
                key: property.name.as_str().to_owned(),
                key_range: bytes(property.name.range()),
                value: node(&property.value, text),
            };
            NodeValue::Map {
                members: object.properties.iter().map(member).collect(),
                layout: NodeLayout::Flow,
            }
        }
        _ => NodeValue::Other(text.get(range.clone()).unwrap_or_default().to_owned()),
    };
    Node { range, value }
}
