//! Totals of a group of operations, for all commands.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use foldhash::fast::RandomState;
use foldhash::quality::FixedState;

use crate::query::durations::Durations;
use crate::query::entry::LogEntry;
use crate::query::tight::{append_tight, push_tight};
use crate::record::EventName;
use crate::record::cost::{Charge, Prices};
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;

/// Counts of operations. A request in several round trips is one call: an operation that continues another adds
/// its failure, time and size, but not a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallTotals {
    pub(crate) calls: u64,
    /// In the order of [`Status::ALL`].
    by_status: [u64; 6],
    /// Calls that repeat an earlier call with the same arguments.
    pub(crate) repeats: u64,
    /// Greatest number of identical calls in one conversation.
    pub(crate) most_repeats: u32,
    /// Calls that were open for longer than `--slow`.
    pub(crate) slow: u64,
    pub(crate) tokens: u64,
    per_call: Charge,
}

impl CallTotals {
    pub(crate) fn add(&mut self, entry: &LogEntry<'_>, prices: &Prices) {
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

    pub(crate) fn merge(&mut self, other: &CallTotals) {
        self.calls += other.calls;
        self.by_status.iter_mut().zip(other.by_status).for_each(|(sum, more)| *sum += more);
        self.repeats += other.repeats;
        self.most_repeats = self.most_repeats.max(other.most_repeats);
        self.slow += other.slow;
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.per_call.add(other.per_call);
    }

    pub(crate) fn with_status(&self, status: Status) -> u64 {
        self.by_status[status as usize]
    }

    pub(super) fn of(entry: &LogEntry<'_>, prices: &Prices) -> CallTotals {
        let mut totals = CallTotals::default();
        totals.add(entry, prices);
        totals
    }

    pub(crate) fn errors(&self) -> u64 {
        let errors = Status::ALL.into_iter().filter(|status| status.is_error());
        errors.map(|status| self.with_status(status)).sum()
    }

    /// Returns the share of errors among the calls whose end was observed; `None` without such calls.
    pub(crate) fn error_rate(&self) -> Option<f64> {
        let known = self.calls.saturating_sub(self.with_status(Status::Unknown)).max(self.errors());
        (known > 0).then(|| self.errors() as f64 / known as f64)
    }

    /// Returns the estimated cost in USD; `None` without prices.
    pub(crate) fn cost(&self, prices: &Prices) -> Option<f64> {
        prices.any().then(|| prices.tokens(self.tokens).unwrap_or(0.0) + self.per_call.usd())
    }
}

/// Numbers of turns and conversations. Each counts once, also if several servers took part in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct TurnCounts {
    /// By the digest of the session.
    sessions: HashMap<u64, SessionTurns, RandomState>,
    conversations: HashSet<u64, RandomState>,
    /// Those of the last call, which most calls repeat: a comparison is cheaper than a look-up.
    last: LastTurn,
}

#[derive(Clone, Debug, Default)]
struct LastTurn {
    /// The digest of the conversation; `None` before the first call.
    conversation: Option<u64>,
    session_id: String,
    conversation_id: String,
    turn_id: String,
}

impl LastTurn {
    fn is_in_conversation_of(&self, entry: &LogEntry<'_>) -> bool {
        *self.session_id == *entry.session_id && *self.conversation_id == *entry.conversation_id
    }
}

/// The turns of one session.
#[derive(Clone, Debug, Default)]
struct SessionTurns {
    /// Digests of the turns that the calls name, in the order of the calls. A set would take twice the memory, which is
    /// most of the memory of a summary if most calls are turns of their own.
    named: Vec<u64>,
    /// Number of turns that the agent reported.
    reported: u64,
}

/// The turns that agents reported.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReportedTurns {
    /// Numbers of turns by the digest of the session.
    counts: HashMap<u64, u64>,
    /// The turns that calls name and agents reported, too, by [`turn_of`].
    covered: HashSet<u64>,
}

impl ReportedTurns {
    /// Adds turns of a session.
    pub(crate) fn add(&mut self, session_id: &str, count: u64) {
        *self.counts.entry(digest(session_id)).or_default() += count;
    }

    /// Adds a turn that calls name, by [`turn_of`], and that is one of the agent.
    pub(crate) fn cover(&mut self, turn: u64) {
        self.covered.insert(turn);
    }
}

/// Returns a number for the turn of a record in its session and conversation; `None` if it names no turn.
pub(crate) fn turn_of(entry: &LogEntry<'_>) -> Option<u64> {
    turn_in(conversation_of(entry), entry)
}

fn turn_in(conversation: u64, entry: &LogEntry<'_>) -> Option<u64> {
    let turn = || digest((conversation, &*entry.turn_id));
    (!entry.turn_id.is_empty()).then(turn)
}

fn conversation_of(entry: &LogEntry<'_>) -> u64 {
    digest((&*entry.session_id, &*entry.conversation_id))
}

impl TurnCounts {
    pub(crate) fn add(&mut self, entry: &LogEntry<'_>) {
        let known = self.last.conversation.filter(|_| self.last.is_in_conversation_of(entry));
        if known.is_some() && *self.last.turn_id == *entry.turn_id {
            return;
        }
        let conversation = known.unwrap_or_else(|| conversation_of(entry));
        let session = self.sessions.entry(digest(&*entry.session_id)).or_default();
        if let Some(turn) = turn_in(conversation, entry).filter(|turn| session.named.last() != Some(turn)) {
            push_tight(&mut session.named, turn);
        }
        if known.is_none() {
            self.conversations.insert(conversation);
            self.last.conversation = Some(conversation);
            replace(&mut self.last.session_id, &entry.session_id);
            replace(&mut self.last.conversation_id, &entry.conversation_id);
        }
        replace(&mut self.last.turn_id, &entry.turn_id);
    }

    pub(crate) fn merge(&mut self, other: TurnCounts) {
        for (id, turns) in other.sessions {
            let session = self.sessions.entry(id).or_default();
            append_tight(&mut session.named, turns.named);
            session.reported = session.reported.max(turns.reported);
        }
        self.conversations.extend(other.conversations);
    }

    /// Removes duplicates. [`turns`](TurnCounts::turns) is correct only afterwards.
    pub(crate) fn settle(&mut self) {
        for session in self.sessions.values_mut() {
            session.named.sort_unstable();
            session.named.dedup();
        }
    }

    /// Takes the turns that the agents of these sessions reported in place of the same turns that the calls name.
    pub(crate) fn tell(&mut self, reported: &ReportedTurns) {
        for (id, session) in &mut self.sessions {
            session.reported = reported.counts.get(id).copied().unwrap_or(session.reported);
            session.named.retain(|turn| !reported.covered.contains(turn));
        }
    }

    /// Returns the number of turns: of each session those that its agent reported, and the others that the calls name.
    pub(crate) fn turns(&self) -> u64 {
        let of_session = |session: &SessionTurns| {
            debug_assert!(session.named.is_sorted(), "settled");
            session.reported + session.named.len() as u64
        };
        self.sessions.values().map(of_session).sum()
    }

    /// Returns the number of conversations. A session without conversation ids counts as one.
    pub(crate) fn conversations(&self) -> u64 {
        self.conversations.len() as u64
    }
}

/// Puts `new` into the memory of `text`.
fn replace(text: &mut String, new: &str) {
    text.clear();
    text.push_str(new);
}

/// Returns a digest that is the same in all threads.
fn digest(value: impl Hash) -> u64 {
    FixedState::default().hash_one(value)
}

/// The time from the first to the last of several events; empty without events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimeSpan(Option<(Timestamp, Timestamp)>);

impl TimeSpan {
    pub(crate) fn add(&mut self, from: Timestamp, to: Timestamp) {
        self.0 = Some(match self.0 {
            Some((first, last)) => (first.min(from), last.max(to)),
            None => (from, to),
        });
    }

    pub(crate) fn merge(&mut self, other: TimeSpan) {
        if let Some((first, last)) = other.0 {
            self.add(first, last);
        }
    }

    pub(crate) fn get(&self) -> Option<(Timestamp, Timestamp)> {
        self.0
    }

    pub(crate) fn ms(&self) -> f64 {
        self.0.map_or(0.0, |(first, last)| (last.0 - first.0) as f64 / 1000.0)
    }
}

/// Counts with the durations of the operations whose end was observed.
#[derive(Clone, Debug, Default)]
pub(crate) struct TimedTotals {
    pub(crate) calls: CallTotals,
    pub(crate) durations: Durations,
}

impl TimedTotals {
    pub(crate) fn add(&mut self, entry: &LogEntry<'_>, prices: &Prices) {
        self.calls.add(entry, prices);
        if let (Some(ms), true) = (entry.duration_ms, entry.status != Status::Unknown) {
            self.durations.push(ms);
        }
    }

    pub(crate) fn merge(&mut self, other: TimedTotals) {
        self.calls.merge(&other.calls);
        self.durations.append(other.durations);
    }
}

/// Values by two texts. A look-up does not copy the texts, and hashes each once.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupMap<V>(TextMap<TextMap<V>>);

#[derive(Clone, Debug)]
struct TextMap<V> {
    places: HashMap<Arc<str>, usize, RandomState>,
    /// In the order in which their texts came.
    entries: Vec<(Arc<str>, V)>,
    /// Place of the last look-up, which many look-ups repeat.
    last: usize,
}

impl<V> Default for TextMap<V> {
    fn default() -> TextMap<V> {
        TextMap { places: HashMap::default(), entries: Vec::new(), last: 0 }
    }
}

impl<V: Default> TextMap<V> {
    fn at(&mut self, key: &str) -> &mut V {
        if self.entries.get(self.last).is_none_or(|(last, _)| **last != *key) {
            self.last = self.place(key);
        }
        &mut self.entries[self.last].1
    }

    fn place(&mut self, key: &str) -> usize {
        if let Some(place) = self.places.get(key) {
            return *place;
        }
        let (text, place): (Arc<str>, _) = (key.into(), self.entries.len());
        self.places.insert(Arc::clone(&text), place);
        self.entries.push((text, V::default()));
        place
    }

    fn get(&self, key: &str) -> Option<&V> {
        self.places.get(key).map(|place| &self.entries[*place].1)
    }
}

impl<V: Default> GroupMap<V> {
    pub(crate) fn at(&mut self, first: &str, second: &str) -> &mut V {
        self.0.at(first).at(second)
    }

    pub(crate) fn contains(&self, first: &str, second: &str) -> bool {
        self.0.get(first).is_some_and(|inner| inner.get(second).is_some())
    }

    /// Returns the number of groups.
    pub(crate) fn len(&self) -> usize {
        self.0.entries.iter().map(|(_, inner)| inner.entries.len()).sum()
    }

    /// Returns the groups in the order of their names.
    pub(crate) fn sorted(self) -> Vec<(Box<str>, Box<str>, V)> {
        let mut groups: Vec<_> = self
            .0
            .entries
            .into_iter()
            .flat_map(|(first, inner)| {
                let inner = inner.entries.into_iter();
                inner.map(move |(second, value)| ((&*first).into(), (&*second).into(), value))
            })
            .collect();
        groups.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        groups
    }

    pub(crate) fn merge(&mut self, other: GroupMap<V>, mut merge: impl FnMut(&mut V, V)) {
        for (first, inner) in other.0.entries {
            for (second, value) in inner.entries {
                merge(self.at(&first, &second), value);
            }
        }
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
    fn an_unobserved_end_and_a_denial_are_not_errors_and_a_continued_call_is_one_call() {
        let mut totals = CallTotals::default();
        for rest in [
            r#""status":"ok","seq":1"#,
            r#""status":"error","seq":2,"continues_seq":1"#,
            r#""status":"unknown","seq":3"#,
            r#""status":"ok","seq":4,"repeat_count":2"#,
            r#""status":"denied","seq":5"#,
        ] {
            totals.add(&LogEntry::parse(entry(rest).as_bytes()).unwrap(), &Prices::default());
        }
        assert_eq!((totals.calls, totals.errors(), totals.with_status(Status::Unknown)), (4, 1, 1));
        assert_eq!(totals.error_rate(), Some(1.0 / 3.0));
        assert_eq!((totals.repeats, totals.most_repeats), (1, 2));
        assert_eq!(CallTotals::default().error_rate(), None);
    }

    #[test]
    fn cost_is_tokens_and_calls_by_their_prices() {
        let prices = Prices::new(Some(3.0), &BTreeMap::from([("search/*".to_owned(), 0.005)]));
        let mut totals = CallTotals::default();
        let line = entry(r#""status":"ok","args_tokens_est":1000,"result_tokens_est":9000"#);
        totals.add(&LogEntry::parse(line.as_bytes()).unwrap(), &prices);
        assert!((totals.cost(&prices).unwrap() - 0.035).abs() < 1e-12);
        assert_eq!(totals.cost(&Prices::default()), None);
    }

    #[test]
    fn a_turn_counts_once_if_its_calls_are_mixed_with_calls_of_other_turns() {
        let lines: Vec<String> = ["a", "b", "a", "b", "a", "c"]
            .iter()
            .map(|turn| entry(&format!(r#""status":"ok","session_id":"s","turn_id":"{turn}""#)))
            .collect();
        let add = |lines: &[String]| {
            let mut turns = TurnCounts::default();
            lines.iter().for_each(|line| turns.add(&LogEntry::parse(line.as_bytes()).unwrap()));
            turns
        };
        let mut all = add(&lines[..3]);
        all.merge(add(&lines[3..]));
        all.settle();
        assert_eq!((all.turns(), all.conversations()), (3, 1));
    }

    #[test]
    fn a_turn_that_calls_name_counts_beside_those_of_the_agent_unless_it_is_one_of_them() {
        let mut turns = TurnCounts::default();
        let mut reported = ReportedTurns::default();
        for (session, turn) in [("told", "a"), ("told", "b"), ("told", "a"), ("silent", "a"), ("silent", "c")]
        {
            let line = entry(&format!(r#""status":"ok","session_id":"{session}","turn_id":"{turn}""#));
            let entry = LogEntry::parse(line.as_bytes()).unwrap();
            turns.add(&entry);
            if (session, turn) == ("told", "a") {
                reported.cover(turn_of(&entry).unwrap());
            }
        }
        reported.add("told", 3);
        reported.add("without calls", 1);
        turns.settle();
        assert_eq!(turns.turns(), 4);
        turns.tell(&reported);
        assert_eq!(turns.turns(), 3 + 1 + 2);
        let mut all = turns.clone();
        all.merge(turns);
        all.settle();
        all.tell(&reported);
        assert_eq!(all.turns(), 6, "a session of two groups counts once");
    }
}
