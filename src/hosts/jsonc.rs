//! JSON with comments.

use std::borrow::Cow;

use jsonc_parser::ast;
use jsonc_parser::common::{Range as Span, Ranged};
use jsonc_parser::errors::ParseErrorKind;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use crate::hosts::tree::{Node, NodeLayout, NodeMember, NodeValue};
use crate::text::line_of;

/// Parses JSON with comments and trailing commas; see [`Node::parse`].
pub(super) fn parse(text: &str) -> Result<Node, String> {
    // Names without quotes and single quotes are JSON5, which some hosts read.
    let options = ParseOptions { allow_missing_commas: false, ..ParseOptions::default() };
    let text = &*without_lone_surrogates(text);
    let parsed = parse_to_ast(text, &CollectOptions::default(), &options)
        .map_err(|error| format!("line {}: {}", line_of(text, error.range().start), reason(error.kind())))?;
    match parsed.value {
        Some(value) => Ok(node(&value, text)),
        None => {
            Ok(Node { range: 0..0, value: NodeValue::Map { members: Vec::new(), layout: NodeLayout::Flow } })
        }
    }
}

fn reason(kind: &ParseErrorKind) -> &'static str {
    match kind {
        ParseErrorKind::NestingDepthExceeded => "lists and objects inside each other, too deep to be read",
        _ => "not valid JSON",
    }
}

/// Replaces each escape of half a character by that of U+FFFD, which has the same length. Hosts cut texts in the
/// middle of a character, and read such an escape; the parser does not.
fn without_lone_surrogates(text: &str) -> Cow<'_, str> {
    let escape = |at: usize| -> Option<u16> {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
    };
    let mut result = Cow::Borrowed(text);
    let mut at = 0;
    while let Some(next) = text.as_bytes().get(at..).and_then(|rest| memchr::memchr(b'\\', rest)) {
        at += next;
        at += match (escape(at), escape(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                result.to_mut().replace_range(at + 2..at + 6, "fffd");
                6
            }
            _ => 2,
        };
    }
    result
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
