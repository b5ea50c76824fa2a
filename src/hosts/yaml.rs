//! YAML.

use std::str::FromStr;

use yaml_edit::{Document, Mapping, Sequence, YamlNode};

use crate::hosts::tree::{Node, NodeLayout, NodeMember, NodeValue};

/// Parses one YAML document; see [`Node::parse`].
pub(super) fn parse(text: &str) -> Result<Node, String> {
    if text.trim().is_empty() {
        return Ok(Node {
            range: 0..0,
            value: NodeValue::Map { members: Vec::new(), layout: NodeLayout::Block },
        });
    }
    let document = Document::from_str(text).map_err(|_| reason(text))?;
    let mapping = document.as_mapping().ok_or("not a YAML mapping at the top")?;
    Ok(Node { range: 0..text.len(), value: map(&mapping, text) })
}

/// Returns why the text is not one document.
fn reason(text: &str) -> String {
    let head = text.lines().take_while(|line| !line.starts_with("---"));
    match head.zip(1..).find(|(line, _)| line.starts_with('%')) {
        Some((_, line)) => {
            format!("line {line}: begins with a YAML directive (%), which spantap does not read")
        }
        None => "not one valid YAML document".to_owned(),
    }
}

fn map(mapping: &Mapping, text: &str) -> NodeValue {
    let layout = if mapping.is_flow_style() { NodeLayout::Flow } else { NodeLayout::Block };
    let members = mapping
        .entries()
        .filter_map(|entry| {
            let key = node(&entry.key_node()?, text);
            let value = match entry.value_node() {
                Some(value) => node(&value, text),
                None => Node { range: key.range.end..key.range.end, value: NodeValue::Other(String::new()) },
            };
            let name = match key.value {
                NodeValue::Text(name) | NodeValue::Other(name) => name,
                NodeValue::Map { .. } | NodeValue::List { .. } => return None,
            };
            Some(NodeMember { key: name, key_range: key.range, value })
        })
        .collect();
    NodeValue::Map { members, layout }
}

fn list(sequence: &Sequence, text: &str) -> NodeValue {
    let layout = if sequence.is_flow_style() { NodeLayout::Flow } else { NodeLayout::Block };
    NodeValue::List { items: sequence.values().map(|item| node(&item, text)).collect(), layout }
}

fn node(source: &YamlNode, text: &str) -> Node {
    let position = source.byte_range();
    let whole = position.start as usize..position.end as usize;
    let raw = text.get(whole.clone()).unwrap_or_default();
    let start = whole.start + (raw.len() - raw.trim_start().len());
    let range = start..start + raw.trim().len();
    let value = if let Some(mapping) = source.as_mapping() {
        map(mapping, text)
    } else if let Some(sequence) = source.as_sequence() {
        list(sequence, text)
    } else if let Some(scalar) = source.as_scalar() {
        let is_text = scalar.is_quoted()
            || !(scalar.is_null()
                || scalar.as_bool().is_some()
                || scalar.as_i64().is_some()
                || scalar.as_f64().is_some());
        if is_text || scalar.is_block() {
            NodeValue::Text(scalar.as_string())
        } else {
            NodeValue::Other(raw.trim().to_owned())
        }
    } else {
        NodeValue::Other(raw.trim().to_owned())
    };
    Node { range, value }
}
