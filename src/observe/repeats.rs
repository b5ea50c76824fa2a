//! State that is derived from many messages: repeated calls, tool definitions, and floods.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::observe::canonical::Hash;
use crate::observe::redact::Redacted;

/// Counts calls with the same tool and arguments, per conversation.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    calls: HashMap<RepeatKey, Repeat, foldhash::fast::RandomState>,
    order: VecDeque<RepeatKey>,
}

/// Conversation, tool, and hash of the arguments.
type RepeatKey = (Option<Redacted>, Redacted, Hash);

#[derive(Debug, Default)]
struct Repeat {
    count: u32,
    last_result: Option<Hash>,
    /// True if all results so far were equal.
    same_results: bool,
}

/// Different calls that are counted at the same time. If there are more, the oldest one is forgotten.
const MAX_CALLS: usize = 4096;

impl Repeats {
    /// Counts one more call. Returns the number of such calls, and true if all their results were equal.
    pub(crate) fn count(&mut self, key: RepeatKey) -> (u32, bool) {
        if let Some(repeat) = self.calls.get_mut(&key) {
            repeat.count = repeat.count.saturating_add(1);
            return (repeat.count, repeat.same_results);
        }
        if self.order.len() == MAX_CALLS
            && let Some(oldest) = self.order.pop_front()
        {
            self.calls.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.calls.insert(key, Repeat { count: 1, ..Repeat::default() });
        (1, false)
    }

    pub(crate) fn answered(&mut self, key: &RepeatKey, result: Option<Hash>) {
        if let Some(repeat) = self.calls.get_mut(key) {
            let first = repeat.last_result.is_none();
            repeat.same_results =
                result.is_some() && (first || (repeat.same_results && repeat.last_result == result));
            repeat.last_result = result;
        }
    }

    /// Returns true if the call with this number is an alarm: the first above the threshold, and each
    /// doubling of that number.
    pub(crate) fn is_alarm(count: u32, threshold: u32) -> bool {
        let first = threshold.saturating_add(1);
        count >= first && count.is_multiple_of(first) && (count / first).is_power_of_two()
    }
}

/// Counts events of a flood and lets the 1st, 2nd, 4th, 8th … be reported.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct FloodCounter {
    count: u64,
    reported: u64,
}

impl FloodCounter {
    /// Counts one more event. Returns the number since the last report if this event is to be reported.
    pub(crate) fn one_more(&mut self) -> Option<u64> {
        self.count += 1;
        self.count.is_power_of_two().then(|| self.rest()).flatten()
    }

    /// Returns the number of events that have not been reported.
    pub(crate) fn rest(&mut self) -> Option<u64> {
        let rest = self.count - self.reported;
        self.reported = self.count;
        (rest > 0).then_some(rest)
    }
}

/// Hashes of a server's tool definitions by name, collected from the pages of `tools/list`.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    pages: BTreeMap<String, [u8; 32]>,
    complete: Option<BTreeMap<String, [u8; 32]>>,
}

/// Tools of one server that are compared; the others are ignored.
const MAX_TOOLS: usize = 10_000;
/// Bytes of a tool's name that are compared.
const MAX_TOOL_NAME: usize = 256;

/// The difference between two sets of definitions, by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Drift {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub changed: Vec<String>,
}

impl Tools {
    /// Adds one page. After the `last` one, returns the difference to the previous definitions, or else to
    /// `known`.
    pub(crate) fn page(
        &mut self,
        definitions: impl Iterator<Item = (String, [u8; 32])>,
        last: bool,
        known: Option<&BTreeMap<String, [u8; 32]>>,
    ) -> Option<Drift> {
        for (mut name, hash) in definitions {
            name.truncate(name.floor_char_boundary(MAX_TOOL_NAME));
            if self.pages.len() < MAX_TOOLS || self.pages.contains_key(&name) {
                self.pages.insert(name, hash);
            }
        }
        if !last {
            return None;
        }
        let pages = std::mem::take(&mut self.pages);
        let before = self.complete.as_ref().or(known);
        let drift = before.map(|before| Drift {
            added: pages.keys().filter(|name| !before.contains_key(*name)).cloned().collect(),
            removed: before.keys().filter(|name| !pages.contains_key(*name)).cloned().collect(),
            changed: pages
                .iter()
                .filter(|(name, hash)| before.get(*name).is_some_and(|before| before != *hash))
                .map(|(name, _)| name.clone())
                .collect(),
        });
        self.complete = Some(pages);
        drift.filter(|drift| *drift != Drift::default())
    }

    pub(crate) fn complete(&self) -> Option<&BTreeMap<String, [u8; 32]>> {
        self.complete.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alarm_sounds_at_the_sixth_call_and_at_each_doubling() {
        let alarms: Vec<u32> = (1..60).filter(|count| Repeats::is_alarm(*count, 5)).collect();
        assert_eq!(alarms, [6, 12, 24, 48]);
    }

    #[test]
    fn a_flood_is_reported_at_each_doubling_and_whole_at_the_end() {
        let mut flood = FloodCounter::default();
        let reported: Vec<u64> = (0..100).filter_map(|_| flood.one_more()).collect();
        assert_eq!(reported, [1, 1, 2, 4, 8, 16, 32]);
        assert_eq!(flood.rest(), Some(36));
        assert_eq!(flood.rest(), None);
    }

    #[test]
    fn definitions_are_compared_when_the_last_page_is_there() {
        let known = BTreeMap::from([("a".to_owned(), [1; 32]), ("b".to_owned(), [2; 32])]);
        let mut tools = Tools::default();
        let page = |name: &str, hash| [(name.to_owned(), [hash; 32])].into_iter();
        assert_eq!(tools.page(page("a", 9), false, Some(&known)), None);
        let drift = tools.page(page("c", 3), true, Some(&known)).unwrap();
        assert_eq!(drift.added, ["c"]);
        assert_eq!(drift.removed, ["b"]);
        assert_eq!(drift.changed, ["a"]);
        assert_eq!(
            tools.page([("a".to_owned(), [9; 32]), ("c".to_owned(), [3; 32])].into_iter(), true, None),
            None
        );
    }

    #[test]
    fn pages_without_end_do_not_grow_without_end() {
        let mut tools = Tools::default();
        for page in 0..30_u32 {
            let names = (0..1000).map(|tool| (format!("{page}-{tool}-{}", "x".repeat(2000)), [0; 32]));
            tools.page(names, page == 29, None);
        }
        let complete = tools.complete().unwrap();
        assert_eq!(complete.len(), MAX_TOOLS);
        assert!(complete.keys().all(|name| name.len() == MAX_TOOL_NAME));
    }
}
