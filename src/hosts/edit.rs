//! Changes entries of a file in one pass, and proves the result before it is used.

use std::cell::Cell;
use std::collections::HashSet;

use crate::hosts::entry::{EntryNode, EntryParts, entry_nodes};
use crate::hosts::splice::{EntryChange, TextEdit, apply, edits, unwrap};
use crate::hosts::table::{EntryShape, Host};
use crate::hosts::tree::{FileFormat, Node, NodeMember, NodeValue};

/// How often a result is tried. An entry that cannot be changed is found by halving, so a file with many of
/// them would be parsed as often.
const ATTEMPTS: usize = 64;

/// The changed text, and for each change the reason why it was not made.
pub type ChangedText = (String, Vec<Result<(), &'static str>>);

/// Changes entries of a text, each given by its index in [`crate::hosts::entry::entries`]. Every other byte is
/// kept. The result is parsed and compared, and wrapped entries are unwrapped to the original bytes, before
/// this returns.
pub fn change(
    text: &str,
    format: FileFormat,
    host: &Host,
    root: &Node,
    changes: &[(usize, EntryChange<'_>)],
) -> ChangedText {
    let editor = Editor { text, format, host, root, nodes: entry_nodes(root, host), attempts: Cell::new(0) };
    let mut outcomes = vec![Ok(()); changes.len()];
    let mut planned = Vec::new();
    for (index, (at, change)) in changes.iter().enumerate() {
        match editor.plan(index, *at, *change) {
            Ok(plan) => planned.push(plan),
            Err(reason) => outcomes[index] = Err(reason),
        }
    }
    let mut result = editor.attempt(&planned);
    if result.is_err() {
        for (index, reason) in editor.refused(&planned) {
            outcomes[index] = Err(reason);
        }
        planned.retain(|plan| outcomes[plan.index].is_ok());
        result = editor.attempt(&planned);
    }
    let after = result.unwrap_or_else(|reason| {
        planned.iter().for_each(|plan| outcomes[plan.index] = Err(reason));
        text.to_owned()
    });
    (after, outcomes)
}

struct PlannedChange<'a> {
    /// Index in the list of changes.
    index: usize,
    /// Index of the entry.
    at: usize,
    change: EntryChange<'a>,
    edits: Vec<TextEdit>,
    /// Command line of the entry after the change.
    words: Vec<String>,
}

struct Editor<'a> {
    text: &'a str,
    format: FileFormat,
    host: &'a Host,
    root: &'a Node,
    nodes: Vec<EntryNode<'a>>,
    attempts: Cell<usize>,
}

impl Editor<'_> {
    fn plan<'c>(
        &self,
        index: usize,
        at: usize,
        change: EntryChange<'c>,
    ) -> Result<PlannedChange<'c>, &'static str> {
        let entry = self.nodes.get(at).ok_or("the entry is gone")?;
        let parts = EntryParts::of(entry.node, self.host.shape)?;
        let (edits, words) = edits(self.text, self.format, &parts, &entry.name, change)?;
        Ok(PlannedChange { index, at, change, edits, words })
    }

    /// Makes the changes in memory and proves the result.
    fn attempt(&self, planned: &[PlannedChange<'_>]) -> Result<String, &'static str> {
        if planned.is_empty() {
            return Ok(self.text.to_owned());
        }
        self.attempts.set(self.attempts.get() + 1);
        let after = apply(self.text, planned.iter().flat_map(|plan| &plan.edits));
        let changed = Node::parse(&after, self.format).map_err(|_| "the edited file could not be parsed")?;
        let now = entry_nodes(&changed, self.host);
        if now.len() != self.nodes.len() {
            return Err("the edit would change more than the entry's command");
        }
        let mut entries = HashSet::new();
        // Unwrapping the result must restore the text, without the proxy that it had before.
        let (mut undo, mut undo_before) = (Vec::new(), Vec::new());
        for plan in planned {
            let entry = now[plan.at].node;
            let parts = EntryParts::of(entry, self.host.shape)?;
            let words = parts.words();
            let words = words.iter().map(|node| node.text().unwrap_or_default());
            if words.ne(plan.words.iter().map(String::as_str)) {
                return Err("the edited entry would have another command than intended");
            }
            entries.insert(std::ptr::from_ref(self.nodes[plan.at].node));
            match plan.change {
                EntryChange::Wrap(_) => undo.extend(unwrap(&after, &parts)?.0),
                EntryChange::Unwrap => undo_before.extend(plan.edits.iter().cloned()),
                EntryChange::Renew { .. } => {
                    undo.extend(unwrap(&after, &parts)?.0);
                    let before = EntryParts::of(self.nodes[plan.at].node, self.host.shape)?;
                    undo_before.extend(unwrap(self.text, &before)?.0);
                }
            }
        }
        if !same_but_commands(self.root, &changed, &entries, self.host.shape) {
            return Err("the edit would change more than the entry's command");
        }
        if apply(&after, &undo) != apply(self.text, &undo_before) {
            return Err("unwrapping would not restore the same bytes");
        }
        Ok(after)
    }

    /// Returns the changes that cannot be made, with the reasons.
    fn refused(&self, planned: &[PlannedChange<'_>]) -> Vec<(usize, &'static str)> {
        let reason = match self.attempts.get() < ATTEMPTS {
            true => self.attempt(planned).err(),
            false => Some("it is among many entries that cannot be edited"),
        };
        match reason {
            None => Vec::new(),
            Some(reason) if planned.len() == 1 || self.attempts.get() >= ATTEMPTS => {
                planned.iter().map(|plan| (plan.index, reason)).collect()
            }
            Some(_) => {
                let (left, right) = planned.split_at(planned.len() / 2);
                [self.refused(left), self.refused(right)].concat()
            }
        }
    }
}

/// Returns true if both trees have the same values, apart from the commands of `entries`, which are nodes of
/// the first one.
fn same_but_commands(a: &Node, b: &Node, entries: &HashSet<*const Node>, shape: EntryShape) -> bool {
    let same = |a: &Node, b: &Node| same_but_commands(a, b, entries, shape);
    match (&a.value, &b.value) {
        (NodeValue::Map { .. }, NodeValue::Map { .. }) if entries.contains(&std::ptr::from_ref(a)) => {
            same_entry(a, b, shape)
        }
        (NodeValue::Map { .. }, NodeValue::Map { .. }) => same_members(a, b, &[], same),
        (NodeValue::List { items: a, .. }, NodeValue::List { items: b, .. }) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        _ => a.same_value(b),
    }
}

fn same_entry(a: &Node, b: &Node, shape: EntryShape) -> bool {
    let (key, args) = shape.keys();
    match (a.get(key), b.get(key)) {
        (Some(a_command), Some(b_command)) if a_command.is_map() && b_command.is_map() => {
            same_members(a, b, &[key], Node::same_value)
                && same_members(a_command, b_command, &["path", args], Node::same_value)
        }
        _ => same_members(a, b, &[key, args], Node::same_value),
    }
}

/// Compares the members of two maps, apart from those with the names `without`.
fn same_members(a: &Node, b: &Node, without: &[&str], same: impl Fn(&Node, &Node) -> bool) -> bool {
    let is_compared = |member: &&NodeMember| !without.contains(&member.key.as_str());
    let (mut a, mut b) = (a.members().iter().filter(is_compared), b.members().iter().filter(is_compared));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a.key == b.key && same(&a.value, &b.value) => {}
            _ => return false,
        }
    }
}
