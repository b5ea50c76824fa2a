//! A config file as a tree of byte ranges, the same for every format.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// JSON, with comments and trailing commas if the host accepts them.
    Json,
    Toml,
    Yaml,
}

impl FileFormat {
    /// Returns the format by file name: TOML for `.toml`, YAML for `.yaml` and `.yml`, JSON otherwise.
    pub fn of(path: &Path) -> FileFormat {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => FileFormat::Toml,
            Some("yaml" | "yml") => FileFormat::Yaml,
            _ => FileFormat::Json,
        }
    }
}

/// A value and its byte range in the text.
#[derive(Clone, Debug)]
pub struct Node {
    pub range: Range<usize>,
    pub value: NodeValue,
}

#[derive(Clone, Debug)]
pub enum NodeValue {
    Text(String),
    Map {
        members: Vec<NodeMember>,
        layout: NodeLayout,
    },
    List {
        items: Vec<Node>,
        layout: NodeLayout,
    },
    /// Any other value, as written in the file.
    Other(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeLayout {
    /// In brackets, separated by commas.
    Flow,
    /// One member per line, without brackets.
    Block,
}

#[derive(Clone, Debug)]
pub struct NodeMember {
    pub key: String,
    pub key_range: Range<usize>,
    pub value: Node,
}

impl Node {
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            NodeValue::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn items(&self) -> Option<&[Node]> {
        match &self.value {
            NodeValue::List { items, .. } => Some(items),
            _ => None,
        }
    }

    pub fn is_map(&self) -> bool {
        matches!(self.value, NodeValue::Map { .. })
    }

    pub fn members(&self) -> &[NodeMember] {
        match &self.value {
            NodeValue::Map { members, .. } => members,
            _ => &[],
        }
    }

    /// Returns the last member named `key`. Parsers of hosts also use the last one.
    pub fn member(&self, key: &str) -> Option<&NodeMember> {
        self.members().iter().rev().find(|member| member.key == key)
    }

    /// Returns the members in file order, without those that a later one of the same name replaces.
    pub fn last_members(&self) -> Vec<&NodeMember> {
        let mut names = HashSet::new();
        let members = self.members().iter().rev();
        let mut members: Vec<&NodeMember> =
            members.filter(|member| names.insert(member.key.as_str())).collect();
        members.reverse();
        members
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.member(key).map(|member| &member.value)
    }

    /// Returns true if both trees have the same values, whatever their byte ranges and layouts are.
    pub fn same_value(&self, other: &Node) -> bool {
        match (&self.value, &other.value) {
            (NodeValue::Text(a), NodeValue::Text(b)) | (NodeValue::Other(a), NodeValue::Other(b)) => a == b,
            (NodeValue::List { items: a, .. }, NodeValue::List { items: b, .. }) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same_value(b))
            }
            (NodeValue::Map { members: a, .. }, NodeValue::Map { members: b, .. }) => {
                let mut pairs = a.iter().zip(b);
                a.len() == b.len() && pairs.all(|(a, b)| a.key == b.key && a.value.same_value(&b.value))
            }
            _ => false,
        }
    }
}
