//! Turns of conversations, of which several may take place at the same time in one connection.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use crate::observe::redact::Redacted;
use crate::relay::chunk::Moment;

/// Time without an open request after which the next request of a conversation begins a new turn.
pub(crate) const TURN_GAP: Duration = Duration::from_secs(15);
/// Conversations whose gaps are known at the same time. If there are more, the one that was quiet longest is forgotten.
const MAX_CONVERSATIONS: usize = 64;

/// Numbers the turns of clients that do not name them: a new turn begins with the first request of a conversation
/// after [`TURN_GAP`] without an open one.
#[derive(Debug, Default)]
pub(crate) struct TurnCounter {
    number: u64,
    /// The conversation of the latest message is the last.
    conversations: Vec<Conversation>,
}

#[derive(Debug, Default)]
struct Conversation {
    id: Option<Redacted>,
    turn: Option<Redacted>,
    open: u32,
    quiet_since: Option<Moment>,
}

impl TurnCounter {
    /// Returns the turn of a request of `conversation` that does not name its turn. `text` writes the turn's number.
    pub(crate) fn by_gap(
        &mut self,
        conversation: Option<&Redacted>,
        now: Moment,
        text: impl FnOnce(u64) -> Redacted,
    ) -> Redacted {
        let next = self.number + 1;
        let Conversation { turn, open, quiet_since, .. } = self.conversation(conversation);
        let is_over = *open == 0 && quiet_since.is_some_and(|since| now.since(since) >= TURN_GAP);
        if let Some(turn) = turn.as_ref().filter(|_| !is_over) {
            return turn.clone();
        }
        let turn = turn.insert(text(next)).clone();
        self.number = next;
        turn
    }

    /// Takes note of a request that ends with its turn.
    pub(crate) fn opened(&mut self, conversation: Option<&Redacted>) {
        self.conversation(conversation).open += 1;
    }

    /// Takes note of the end of such a request.
    pub(crate) fn answered(&mut self, conversation: Option<&Redacted>, now: Moment) {
        let conversation = self.conversation(conversation);
        conversation.open = conversation.open.saturating_sub(1);
        conversation.quiet_since = Some(now);
    }

    fn conversation(&mut self, id: Option<&Redacted>) -> &mut Conversation {
        let at = self.conversations.iter().rposition(|conversation| conversation.id.as_ref() == id);
        let mut conversation = match at {
            Some(at) if at + 1 == self.conversations.len() => return &mut self.conversations[at],
            Some(at) => self.conversations.remove(at),
            None => Conversation { id: id.cloned(), ..Conversation::default() },
        };
        if self.conversations.len() == MAX_CONVERSATIONS {
            self.conversations.remove(0);
        }
        self.conversations.push(std::mem::take(&mut conversation));
        let last = self.conversations.len() - 1;
        &mut self.conversations[last]
    }
}

/// Finds out which values are new, in bounded memory: it remembers the digests of the latest values.
#[derive(Debug, Default)]
pub(crate) struct RecentValues {
    latest: HashSet<u64>,
    /// The values before the latest ones.
    earlier: HashSet<u64>,
    hasher: foldhash::fast::RandomState,
}

/// Digests in each of the two sets of [`RecentValues`].
const MAX_LATEST: usize = 16_384;

impl RecentValues {
    /// Returns true if the value is new: it was not among the latest 16,384 different values.
    pub(crate) fn is_new(&mut self, value: impl Hash) -> bool {
        let digest = self.hasher.hash_one(value);
        if self.latest.contains(&digest) {
            return false;
        }
        if self.latest.len() == MAX_LATEST {
            self.earlier = std::mem::take(&mut self.latest);
        }
        self.latest.insert(digest);
        !self.earlier.contains(&digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::redact::{Field, Redactor};

    fn id(text: &str) -> Redacted {
        Redactor::default().redact(Field::Id, text.as_bytes())
    }

    fn second(second: u64) -> Moment {
        Moment(second * 1_000_000_000)
    }

    #[test]
    fn a_turn_ends_with_fifteen_quiet_seconds_of_its_conversation() {
        let mut turns = TurnCounter::default();
        let turn = |turns: &mut TurnCounter, conversation: &str, at| {
            let conversation = Some(id(conversation));
            let turn = turns.by_gap(conversation.as_ref(), second(at), |number| id(&number.to_string()));
            turns.opened(conversation.as_ref());
            turn.to_string()
        };
        let end = |turns: &mut TurnCounter, conversation, at| {
            turns.answered(Some(&id(conversation)), second(at));
        };
        assert_eq!(turn(&mut turns, "a", 0), "1");
        end(&mut turns, "a", 1);
        assert_eq!(turn(&mut turns, "a", 10), "1");
        // While a request of this conversation is open, the turn goes on. Others have their own.
        assert_eq!(turn(&mut turns, "a", 30), "1");
        assert_eq!(turn(&mut turns, "b", 30), "2");
        end(&mut turns, "b", 31);
        end(&mut turns, "a", 31);
        end(&mut turns, "a", 31);
        assert_eq!(turn(&mut turns, "b", 44), "2");
        assert_eq!(turn(&mut turns, "a", 47), "3");
    }

    #[test]
    fn conversations_and_values_without_end_are_bounded() {
        let mut turns = TurnCounter::default();
        let mut values = RecentValues::default();
        for number in 0..100_000_u64 {
            if number < 1_000 {
                turns.opened(Some(&id(&number.to_string())));
            }
            assert!(values.is_new(number));
            assert!(!values.is_new(number));
            assert!(!values.is_new(number.saturating_sub(8_000)));
        }
        assert_eq!(turns.conversations.len(), MAX_CONVERSATIONS);
        assert!(values.latest.len() <= MAX_LATEST && values.earlier.len() <= MAX_LATEST);
    }
}
