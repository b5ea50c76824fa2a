//! State that is derived from many messages: repeated calls and floods.

use std::collections::{HashMap, VecDeque};

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

    /// Returns true if call number `count` is an alarm: the first above the threshold, and each doubling of it.
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
        let mut flood = FloodCounter::default();
        let reported: Vec<u64> = (0..100).filter_map(|_| flood.one_more_after(3)).collect();
        assert_eq!(reported, [1, 1, 1, 1, 1, 2, 4, 8, 16, 32]);
        assert_eq!(flood.rest(), Some(33));
    }
}
