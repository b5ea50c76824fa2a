//! State that is derived from many messages: repeated calls and floods.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::observe::canonical::Hash;
use crate::observe::event::ErrorType;
use crate::observe::redact::Redacted;
use crate::relay::chunk::Moment;

/// Counts calls with the same tool and arguments, and cycles of such calls, per conversation.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    calls: HashMap<RepeatKey, Repeat, foldhash::fast::RandomState>,
    order: VecDeque<RepeatKey>,
    /// The conversation of the latest call is the last.
    conversations: Vec<LatestCalls>,
}

/// Conversation, tool, and hash of the arguments.
type RepeatKey = (Option<Redacted>, Redacted, Hash);

#[derive(Debug, Default)]
struct Repeat {
    count: u32,
    last_outcome: Option<CallOutcome>,
    /// True if all outcomes so far were equal.
    same_outcomes: bool,
}

/// The result or the failure by which two calls are compared.
#[derive(Debug, PartialEq)]
pub(crate) enum CallOutcome {
    Result(Hash),
    Error(ErrorType, Option<Redacted>),
}

/// The latest calls of one conversation.
#[derive(Debug)]
struct LatestCalls {
    keys: VecDeque<RepeatKey>,
    /// For each length of a cycle up to [`MAX_CYCLE`]: calls in a row that were equal to the one a cycle before.
    equal: [u32; MAX_CYCLE],
}

/// A call among those like it.
pub(crate) struct RepeatedCall {
    pub(crate) count: u32,
    /// True if all outcomes of the earlier calls were equal.
    pub(crate) no_progress: bool,
    pub(crate) cycle: Option<Cycle>,
}

/// Different calls that are made again and again in the same order.
pub(crate) struct Cycle {
    pub(crate) length: u32,
    pub(crate) rounds: u32,
    /// True for the last call of a round.
    pub(crate) ends_round: bool,
    pub(crate) no_progress: bool,
}

/// Different calls that are counted at the same time. If there are more, the oldest one is forgotten.
const MAX_CALLS: usize = 4096;
/// Conversations in which cycles are looked for at the same time.
const MAX_CONVERSATIONS: usize = 64;
/// Calls of the longest cycle.
const MAX_CYCLE: usize = 4;
/// Full rounds from which on calls are a cycle.
const LEAST_ROUNDS: u32 = 3;

impl Repeats {
    /// Counts one more call.
    pub(crate) fn count(&mut self, key: RepeatKey) -> RepeatedCall {
        let cycle = self.cycle(&key);
        if let Some(repeat) = self.calls.get_mut(&key) {
            repeat.count = repeat.count.saturating_add(1);
            return RepeatedCall { count: repeat.count, no_progress: repeat.same_outcomes, cycle };
        }
        if self.order.len() == MAX_CALLS
            && let Some(oldest) = self.order.pop_front()
        {
            self.calls.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.calls.insert(key, Repeat { count: 1, ..Repeat::default() });
        RepeatedCall { count: 1, no_progress: false, cycle }
    }

    /// Takes the outcome of a call; `None` if it is not known.
    pub(crate) fn answered(&mut self, key: &RepeatKey, outcome: Option<CallOutcome>) {
        if let Some(repeat) = self.calls.get_mut(key) {
            let first = repeat.last_outcome.is_none();
            repeat.same_outcomes =
                outcome.is_some() && (first || (repeat.same_outcomes && repeat.last_outcome == outcome));
            repeat.last_outcome = outcome;
        }
    }

    /// Returns the cycle to which a new call belongs: the shortest one, without a call that repeats alone.
    fn cycle(&mut self, key: &RepeatKey) -> Option<Cycle> {
        let Repeats { calls, conversations, .. } = self;
        let at =
            conversations.iter().rposition(|latest| latest.keys.front().is_some_and(|one| one.0 == key.0));
        let mut latest = match at {
            Some(at) => conversations.remove(at),
            None => LatestCalls { keys: VecDeque::with_capacity(MAX_CYCLE), equal: [0; MAX_CYCLE] },
        };
        let LatestCalls { keys, equal } = &mut latest;
        for (length, equal) in (1..).zip(equal.iter_mut()) {
            let before = keys.len().checked_sub(length).and_then(|at| keys.get(at));
            *equal = if before == Some(key) { equal.saturating_add(1) } else { 0 };
        }
        if keys.len() == MAX_CYCLE {
            keys.pop_front();
        }
        keys.push_back(key.clone());
        let rounds = |(length, equal): (u32, &u32)| {
            (length, (equal + length) / length, (equal + length) % length == 0)
        };
        let shortest = (1..).zip(equal.iter()).map(rounds).find(|(_, rounds, _)| *rounds >= LEAST_ROUNDS);
        let cycle = shortest.filter(|(length, ..)| *length > 1).map(|(length, rounds, ends_round)| {
            let same = |key: &RepeatKey| calls.get(key).is_some_and(|repeat| repeat.same_outcomes);
            Cycle {
                length,
                rounds,
                ends_round,
                no_progress: keys.iter().rev().take(length as usize).all(same),
            }
        });
        if conversations.len() == MAX_CONVERSATIONS {
            conversations.remove(0);
        }
        conversations.push(latest);
        cycle
    }

    /// Returns true if call number `count` is reported: the first above the threshold, and each doubling of it.
    pub(crate) fn is_reported(count: u32, threshold: u32) -> bool {
        let first = threshold.saturating_add(1);
        count >= first && count.is_multiple_of(first) && (count / first).is_power_of_two()
    }

    /// Returns true if so many calls are an alarm: they lead nowhere, or they are four times the threshold.
    pub(crate) fn is_alarm(count: u32, no_progress: bool, threshold: u32) -> bool {
        count > threshold && (no_progress || count >= threshold.saturating_mul(4))
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
        self.one_more_after(0)
    }

    /// Same as [`FloodCounter::one_more`], after `many` events that are all reported.
    pub(crate) fn one_more_after(&mut self, many: u64) -> Option<u64> {
        self.count += 1;
        let is_reported = self.count <= many || (self.count - many).is_power_of_two();
        is_reported.then(|| self.rest()).flatten()
    }

    /// Returns the number of events that have not been reported.
    pub(crate) fn rest(&mut self) -> Option<u64> {
        let rest = self.count - self.reported;
        self.reported = self.count;
        (rest > 0).then_some(rest)
    }
}

/// Counts events of which the first ones are reported one by one, and later ones once in an interval.
#[derive(Debug, Default)]
pub(crate) struct RateLimit {
    flood: FloodCounter,
    last: Option<Moment>,
}

impl RateLimit {
    /// Counts one more event. Returns the number since the last report if this event is to be reported.
    pub(crate) fn one_more(&mut self, many: u64, interval: Duration, now: Moment) -> Option<u64> {
        self.flood.count += 1;
        let is_due = self.last.is_none_or(|last| now.since(last) >= interval);
        if self.flood.count > many && !is_due {
            return None;
        }
        self.last = Some(now);
        self.flood.rest()
    }

    /// Counts an event that is reported because the last one was.
    pub(crate) fn one_with_the_last(&mut self) {
        self.flood.count += 1;
        self.flood.reported += 1;
    }

    /// Returns the number of events that have not been reported.
    pub(crate) fn rest(&mut self) -> Option<u64> {
        self.flood.rest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_comes_at_the_sixth_call_and_at_each_doubling() {
        let alarms: Vec<u32> = (1..60).filter(|count| Repeats::is_reported(*count, 5)).collect();
        assert_eq!(alarms, [6, 12, 24, 48]);
    }

    #[test]
    fn a_flood_is_reported_at_each_doubling_and_whole_at_the_end() {
        let mut flood = FloodCounter::default();
        let reported: Vec<u64> = (0..100).filter_map(|_| flood.one_more()).collect();
        assert_eq!(reported, [1, 1, 2, 4, 8, 16, 32]);
        assert_eq!(flood.rest(), Some(36));
        assert_eq!(flood.rest(), None);
        let mut flood = FloodCounter::default();
        let reported: Vec<u64> = (0..100).filter_map(|_| flood.one_more_after(3)).collect();
        assert_eq!(reported, [1, 1, 1, 1, 1, 2, 4, 8, 16, 32]);
        assert_eq!(flood.rest(), Some(33));
    }

    #[test]
    fn many_events_are_reported_once_in_an_interval_and_the_rest_at_the_end() {
        let (mut limit, minute) = (RateLimit::default(), Duration::from_secs(60));
        let seconds = |seconds| Moment(0).after(Duration::from_secs(seconds));
        let reported: Vec<u64> = (0..200).filter_map(|at| limit.one_more(3, minute, seconds(at))).collect();
        assert_eq!(reported, [1, 1, 1, 60, 60, 60]);
        assert_eq!((limit.rest(), limit.rest()), (Some(17), None));
        let mut limit = RateLimit::default();
        assert_eq!(limit.one_more(3, minute, seconds(0)), Some(1));
        (0..2).for_each(|_| limit.one_with_the_last());
        assert_eq!((limit.one_more(3, minute, seconds(1)), limit.rest()), (None, Some(1)));
    }
}
