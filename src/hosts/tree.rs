//! A config file as a tree of byte ranges, the same for every format.

use std::ops::Range;
use std::path::Path;

/// How a file is written; told by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON, with comments and trailing commas where the host takes them.
    Json,
    Toml,
    Yaml,
}

impl Format {
    /// The format of a file: `.toml`, `.yaml` and `.yml` by name, JSON otherwise.
    pub fn of(path: &Path) -> Format {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => Format::Toml,
            Some("yaml" | "yml") => Format::Yaml,
            _ => Format::Json,
        }
    }
}

/// A value, and the bytes of the text that it stands on.
#[derive(Clone, Debug)]
pub struct Node {
    pub range: Range<usize>,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub enum Value {
    Text(String),
    Map {
        members: Vec<Member>,
        layout: Layout,
    },
    List {
        items: Vec<Node>,
        layout: Layout,
    },
    /// Anything else, as written.
    Other(String),
}

/// How a map or a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Between brackets, with commas.
    Flow,
    /// One member a line, without brackets.
    Block,
}

#[derive(Clone, Debug)]
pub struct Member {
    pub key: String,
    pub key_range: Range<usize>,
    pub value: Node,
}

impl Node {
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn items(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List { items, .. } => Some(items),
            _ => None,
        }
    }

    pub fn members(&self) -> &[Member] {
        match &self.value {
            Value::Map { members, .. } => members,
            _ => &[],
        }
    }

    /// The last member called `key`: the one that counts for the parsers of hosts.
    pub fn member(&self, key: &str) -> Option<&Member> {
        self.members().iter().rev().find(|member| member.key == key)
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.member(key).map(|member| &member.value)
    }

    /// Whether two trees say the same, wherever it stands and however it is laid out.
    pub fn says_the_same(&self, other: &Node) -> bool {
        match (&self.value, &other.value) {
            (Value::Text(a), Value::Text(b)) | (Value::Other(a), Value::Other(b)) => a == b,
            (Value::List { items: a, .. }, Value::List { items: b, .. }) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.says_the_same(b))
            }
            (Value::Map { members: a, .. }, Value::Map { members: b, .. }) => {
                let mut pairs = a.iter().zip(b);
                a.len() == b.len() && pairs.all(|(a, b)| a.key == b.key && a.value.says_the_same(&b.value))
            }
            _ => false,
        }
    }
}
