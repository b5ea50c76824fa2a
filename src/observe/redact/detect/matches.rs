//! The spans of a text that one pass wants replaced.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::observe::redact::class::{KnownClass, RedactionClass};
use crate::observe::redact::detect::looks;

/// One span of a text, in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Match {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) class: RedactionClass,
    /// The built-in rule that found it; `None` for a pattern of the user, whose name is the class.
    pub(crate) rule: Option<&'static str>,
}

/// The matches of one pass.
#[derive(Debug, Default)]
pub(crate) struct Matches(Vec<Match>);

impl Matches {
    pub(crate) fn push(&mut self, start: usize, end: usize, class: KnownClass, rule: &'static str) {
        if start < end {
            self.0.push(Match { start, end, class: class.into(), rule: Some(rule) });
        }
    }

    pub(crate) fn push_custom(&mut self, start: usize, end: usize, name: &Arc<str>) {
        if start < end {
            self.0.push(Match { start, end, class: RedactionClass::Custom(name.clone()), rule: None });
        }
    }

    /// Adds a match of the class and rule of another one.
    pub(crate) fn push_as(&mut self, start: usize, end: usize, other: &Match) {
        self.0.push(Match { start, end, class: other.class.clone(), rule: other.rule });
    }

    /// Moves every match to the span that `original` returns for it.
    pub(crate) fn map(&mut self, original: impl Fn(usize, usize) -> (usize, usize)) {
        for found in &mut self.0 {
            (found.start, found.end) = original(found.start, found.end);
        }
        self.settle();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Match> {
        self.0.iter()
    }

    pub(crate) fn retain(&mut self, is_kept: impl FnMut(&Match) -> bool) {
        self.0.retain(is_kept);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Extends every match that touches one of `gaps` by the word on the other side of the gap.
    pub(crate) fn widen(&mut self, bytes: &[u8], gaps: &[(usize, usize)]) {
        let is_word = |byte: &&u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'+' | b'/' | b'~')
        };
        // The end of the last widened match. No byte before it is looked at again.
        let mut covered = 0;
        for found in &mut self.0 {
            if found.end <= covered {
                continue;
            }
            let mut before = gaps.partition_point(|(start, _)| *start < found.start);
            while let Some((start, end)) = before.checked_sub(1).and_then(|at| gaps.get(at)).copied() {
                if end < found.start || start < covered {
                    break;
                }
                let word = bytes.get(covered..start).unwrap_or_default();
                found.start = start - word.iter().rev().take_while(is_word).count();
                before -= 1;
            }
            let after = gaps.partition_point(|(_, end)| *end <= found.end);
            for (start, end) in gaps.iter().skip(after).copied() {
                if start > found.end {
                    break;
                }
                let word = bytes.get(end..).unwrap_or_default();
                found.end = end + word.iter().take_while(is_word).count();
            }
            covered = found.end;
        }
        self.settle();
    }

    /// Adds the other occurrences of the values that were found, if they look random: a message may quote a value
    /// before its name.
    pub(crate) fn add_repeats(&mut self, text: &str) {
        const MOST: usize = 4;
        let is_found = |found: &&Match| text.get(found.start..found.end).is_some_and(looks::is_random_short);
        let repeated: Vec<Match> = self.0.iter().filter(is_found).take(MOST).cloned().collect();
        for found in &repeated {
            let value = text.get(found.start..found.end).unwrap_or_default();
            for at in memchr::memmem::find_iter(text.as_bytes(), value.as_bytes()) {
                if at != found.start {
                    self.push_as(at, at + value.len(), found);
                }
            }
        }
        if !repeated.is_empty() {
            self.settle();
        }
    }

    /// Sorts the matches by position and joins those that overlap. The first of them gives the class.
    pub(crate) fn settle(&mut self) {
        self.0.sort_by_key(|found| (found.start, Reverse(found.end)));
        self.0.dedup_by(|next, kept| {
            let overlaps = next.start < kept.end;
            if overlaps {
                kept.end = kept.end.max(next.end);
            }
            overlaps
        });
    }
}
