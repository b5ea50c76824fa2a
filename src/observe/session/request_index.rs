//! Finds requests by id or progress token: by the exact spelling, and by the value that several spellings share.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use crate::observe::message::{self, RequestId};

/// Numbers of requests by id.
#[derive(Default)]
pub(super) struct RequestIndex {
    /// The peers choose the ids, so the hashes are seeded by this process.
    by_value: HashMap<RequestId, SameValue, foldhash::fast::RandomState>,
}

/// The requests whose ids have one value: at least one.
enum SameValue {
    One(RequestId, u64),
    /// By the exact id. A tree has no memory for requests that were removed. A hash table would keep it, and a peer can
    /// fill a table for each of many values.
    Many(BTreeMap<RequestId, u64>),
}

impl RequestIndex {
    /// Adds a request. It takes the place of an earlier one with exactly this id.
    pub(super) fn insert(&mut self, id: &RequestId, number: u64) {
        match self.by_value.entry(id.value()) {
            Entry::Vacant(entry) => {
                entry.insert(SameValue::One(id.clone(), number));
            }
            Entry::Occupied(mut entry) => match entry.get_mut() {
                SameValue::One(exact, earlier) if exact == id => *earlier = number,
                SameValue::One(exact, earlier) => {
                    let both = [(exact.clone(), *earlier), (id.clone(), number)];
                    *entry.get_mut() = SameValue::Many(BTreeMap::from(both));
                }
                SameValue::Many(numbers) => {
                    numbers.insert(id.clone(), number);
                }
            },
        }
    }

    /// Removes a request, unless a later one took its place. Returns true if it was removed.
    pub(super) fn remove(&mut self, id: &RequestId, number: u64) -> bool {
        let value = message::value(id.bytes());
        let Some(same) = self.by_value.get_mut(&*value) else { return false };
        let (is_found, is_last) = match same {
            SameValue::One(exact, found) => (exact == id && *found == number, true),
            SameValue::Many(numbers) => {
                let is_found = numbers.get(id) == Some(&number);
                if is_found {
                    numbers.remove(id);
                }
                (is_found, numbers.is_empty())
            }
        };
        if is_found && is_last {
            self.by_value.remove(&*value);
        }
        is_found
    }

    /// Returns the request with exactly this id.
    pub(super) fn exact(&self, id: &[u8]) -> Option<u64> {
        match self.by_value.get(&*message::value(id))? {
            SameValue::One(exact, number) => (exact.bytes() == id).then_some(*number),
            SameValue::Many(numbers) => numbers.get(id).copied(),
        }
    }

    /// Returns the only request whose id has the value of this id.
    pub(super) fn only_of_value(&self, id: &[u8]) -> Option<u64> {
        match self.by_value.get(&*message::value(id))? {
            SameValue::One(_, number) => Some(*number),
            SameValue::Many(numbers) => numbers.values().next().copied().filter(|_| numbers.len() == 1),
        }
    }
}
