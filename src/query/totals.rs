//! What is added up about a group of operations, whoever asks and however they are grouped.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::query::durations::Durations;
use crate::query::entry::Entry;
use crate::record::EventName;
use crate::record::cost::{Charge, Prices};
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;

/// Counts of operations. A multi round-trip request is one call: an operation that continues
/// another adds its ending, time and size, but no call.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub calls: u64,
    /// In the order of [`Status::ALL`].
    by_status: [u64; 6],
    /// Calls that had been made before with the same arguments.
    pub repeats: u64,
    /// The most identical calls in one conversation.
    pub most_repeats: u32,
    /// Calls that were open for longer than `--slow` when they were.
    pub slow: u64,
    pub tokens: u64,
    per_call: Charge,
}

impl Figures {
    pub fn add(&mut self, entry: &Entry<'_>, prices: &Prices) {
        let begins = entry.continues_seq.is_none();
        self.calls += u64::from(begins);
        self.by_status[entry.status as usize] += u64::from(begins || entry.status != Status::Ok);
        let repeats = entry.repeat_count.unwrap_or(1);
        self.repeats += u64::from(repeats > 1);
        self.most_repeats = self.most_repeats.max(repeats);
        self.slow += u64::from(entry.pending_at.is_some());
        self.tokens = self.tokens.saturating_add(entry.tokens());
        if begins && entry.event == EventName::McpToolCall {
            self.per_call.add(prices.call(&entry.server_name, &entry.tool_name));
        }
    }

    pub fn merge(&mut self, other: &Figures) {
        self.calls += other.calls;
        self.by_status.iter_mut().zip(other.by_status).for_each(|(sum, more)| *sum += more);
        self.repeats += other.repeats;
        self.most_repeats = self.most_repeats.max(other.most_repeats);
        self.slow += other.slow;
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.per_call.add(other.per_call);
    }

    pub fn with_status(&self, status: Status) -> u64 {
        self.by_status[status as usize]
    }

    /// Operations that are known to have ended otherwise than well.
    pub fn errors(&self) -> u64 {
        Status::ALL
            .into_iter()
            .filter(|status| status.is_failure())
            .map(|status| self.with_status(status))
            .sum()
    }

    /// Errors among the calls whose ending is known; `None` where there are none of those.
    pub fn error_rate(&self) -> Option<f64> {
        let known = self.calls.saturating_sub(self.with_status(Status::Unknown)).max(self.errors());
        (known > 0).then(|| self.errors() as f64 / known as f64)
    }

    /// Estimate in USD; `None` without prices.
    pub fn cost(&self, prices: &Prices) -> Option<f64> {
        prices.any().then(|| prices.tokens(self.tokens).unwrap_or(0.0) + self.per_call.usd())
    }
}

/// Turns and conversations, each counted once however many servers took part.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    /// Digests in the order of the calls. A set would take twice the memory, and where most calls are
    /// turns of their own that would be most of what a summary needs.
    turns: Vec<u64>,
    conversations: HashSet<u64>,
}

impl Turns {
    pub fn add(&mut self, entry: &Entry<'_>) {
        let conversation = digest((&*entry.session_id, &*entry.conversation_id));
        if !entry.turn_id.is_empty() {
            let turn = digest((conversation, &*entry.turn_id));
            if self.turns.last() != Some(&turn) {
                push_tight(&mut self.turns, turn);
            }
        }
        self.conversations.insert(conversation);
    }

    pub fn merge(&mut self, other: Turns) {
        append_tight(&mut self.turns, other.turns);
        self.conversations.extend(other.conversations);
    }

    /// Leaves each turn once; [`turns`](Turns::turns) counts only then.
    pub fn settle(&mut self) {
        self.turns.sort_unstable();
        self.turns.dedup();
    }

    pub fn turns(&self) -> u64 {
        debug_assert!(self.turns.is_sorted(), "settled");
        self.turns.len() as u64
    }

    /// Conversations; a session that names none is one.
    pub fn conversations(&self) -> u64 {
        self.conversations.len() as u64
    }
}

/// Adds to a list that may hold something for every operation: room grows by a quarter, not by as much
/// again, and big blocks are moved by the system without a copy.
pub(super) fn push_tight<T>(list: &mut Vec<T>, item: T) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 4 + 16);
    }
    list.push(item);
}

/// Adds one list to another, giving back the memory of what has been moved.
pub(super) fn append_tight<T>(list: &mut Vec<T>, mut other: Vec<T>) {
    const PIECE: usize = 1 << 16;
    while !other.is_empty() {
        let rest = other.len().saturating_sub(PIECE);
        list.reserve_exact(other.len() - rest);
        list.extend(other.drain(rest..));
        other.shrink_to(rest);
    }
}

fn digest(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// From when to when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent(Option<(Timestamp, Timestamp)>);

impl Extent {
    pub fn add(&mut self, from: Timestamp, to: Timestamp) {
        self.0 = Some(match self.0 {
            Some((first, last)) => (first.min(from), last.max(to)),
            None => (from, to),
        });
    }

    pub fn merge(&mut self, other: Extent) {
        if let Some((first, last)) = other.0 {
            self.add(first, last);
        }
    }

    pub fn get(&self) -> Option<(Timestamp, Timestamp)> {
        self.0
    }

    pub fn ms(&self) -> f64 {
        self.0.map_or(0.0, |(first, last)| (last.0 - first.0) as f64 / 1000.0)
    }
}

/// Figures with their durations.
#[derive(Clone, Debug, Default)]
pub struct Timed {
    pub figures: Figures,
    /// Of everything whose answer was observed.
    pub durations: Durations,
}

impl Timed {
    pub fn add(&mut self, entry: &Entry<'_>, prices: &Prices) {
        self.figures.add(entry, prices);
        if let (Some(ms), true) = (entry.duration_ms, entry.status != Status::Unknown) {
            self.durations.push(ms);
        }
    }

    pub fn merge(&mut self, other: Timed) {
        self.figures.merge(&other.figures);
        self.durations.append(other.durations);
    }
}

/// Values by two texts, found without copying them.
#[derive(Clone, Debug)]
pub struct Groups<V>(HashMap<Box<str>, HashMap<Box<str>, V>>);

impl<V> Default for Groups<V> {
    fn default() -> Groups<V> {
        Groups(HashMap::new())
    }
}

impl<V: Default> Groups<V> {
    pub fn at(&mut self, first: &str, second: &str) -> &mut V {
        slot(slot(&mut self.0, first), second)
    }

    /// The groups in the order of their names.
    pub fn sorted(self) -> Vec<(Box<str>, Box<str>, V)> {
        let mut groups: Vec<_> = self
            .0
            .into_iter()
            .flat_map(|(first, inner)| {
                inner.into_iter().map(move |(second, value)| (first.clone(), second, value))
            })
            .collect();
        groups.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        groups
    }

    pub fn merge(&mut self, other: Groups<V>, mut merge: impl FnMut(&mut V, V)) {
        for (first, inner) in other.0 {
            for (second, value) in inner {
                merge(self.at(&first, &second), value);
            }
        }
    }
}

/// The value at `key`. `HashMap::entry` would want an owned key for every look-up.
fn slot<'m, V: Default>(map: &'m mut HashMap<Box<str>, V>, key: &str) -> &'m mut V {
    if !map.contains_key(key) {
        map.insert(key.into(), V::default());
    }
    match map.get_mut(key) {
        Some(value) => value,
        None => unreachable!("it was put there just now"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn entry(rest: &str) -> String {
        format!(
            r#"{{"schema":"spantap/1","event":"mcp_tool_call","server_name":"search","tool_name":"web",{rest}}}"#
        )
    }

    #[test]
    fn an_unknown_ending_is_no_error_and_a_continued_call_is_one_call() {
        let mut figures = Figures::default();
        for rest in [
            r#""status":"ok","seq":1"#,
            r#""status":"error","seq":2,"continues_seq":1"#,
            r#""status":"unknown","seq":3"#,
            r#""status":"ok","seq":4,"repeat_count":2"#,
            r#""status":"denied","seq":5"#,
        ] {
            figures.add(&Entry::parse(entry(rest).as_bytes()).unwrap(), &Prices::default());
        }
        assert_eq!((figures.calls, figures.errors(), figures.with_status(Status::Unknown)), (4, 2, 1));
        assert_eq!(figures.error_rate(), Some(2.0 / 3.0));
        assert_eq!((figures.repeats, figures.most_repeats), (1, 2));
        assert_eq!(Figures::default().error_rate(), None);
    }

    #[test]
    fn cost_is_tokens_and_calls_by_their_prices() {
        let prices = Prices::new(Some(3.0), &BTreeMap::from([("search/*".to_owned(), 0.005)]));
        let mut figures = Figures::default();
        let line = entry(r#""status":"ok","args_tokens_est":1000,"result_tokens_est":9000"#);
        figures.add(&Entry::parse(line.as_bytes()).unwrap(), &prices);
        assert!((figures.cost(&prices).unwrap() - 0.035).abs() < 1e-12);
        assert_eq!(figures.cost(&Prices::default()), None);
    }

    #[test]
    fn a_turn_counts_once_however_its_calls_are_mixed_with_those_of_others() {
        let lines: Vec<String> = ["a", "b", "a", "b", "a", "c"]
            .iter()
            .map(|turn| entry(&format!(r#""status":"ok","session_id":"s","turn_id":"{turn}""#)))
            .collect();
        let add = |lines: &[String]| {
            let mut turns = Turns::default();
            lines.iter().for_each(|line| turns.add(&Entry::parse(line.as_bytes()).unwrap()));
            turns
        };
        let mut all = add(&lines[..3]);
        all.merge(add(&lines[3..]));
        all.settle();
        assert_eq!((all.turns(), all.conversations()), (3, 1));
    }

    #[test]
    fn lists_grow_by_a_quarter() {
        let mut list = Vec::new();
        (0..100_000_u64).for_each(|number| push_tight(&mut list, number));
        assert!(list.capacity() <= 125_020, "{}", list.capacity());
        let mut other = vec![7; 200_000];
        append_tight(&mut other, list);
        assert_eq!(other.len(), 300_000);
        assert_eq!(other.iter().sum::<u64>(), 7 * 200_000 + (0..100_000).sum::<u64>());
    }
}
