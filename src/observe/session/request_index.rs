//! Finds requests by id or progress token: by the exact spelling, and by the value that several spellings share.

use std::collections::HashMap;

use crate::observe::message::{self, RequestId};

/// The peers choose the ids, so the hashes are seeded by this process.
type Table<V> = HashMap<RequestId, V, foldhash::fast::RandomState>;

/// Numbers of requests by id. A number is in both tables or in none.
#[derive(Default)]
pub(super) struct RequestIndex {
    exact: Table<u64>,
    by_value: Table<SameValue>,
}

/// The requests whose ids have one value.
#[derive(Default)]
struct SameValue {
    count: usize,
    /// The exclusive or of their numbers, which is the number if there is one request.
    numbers: u64,
}

impl RequestIndex {
    /// Adds a request. It takes the place of an earlier one with exactly this id.
    pub(super) fn insert(&mut self, id: &RequestId, number: u64) {
        if let Some(earlier) = self.exact.insert(id.clone(), number) {
            self.forget_value(id, earlier);
        }
        let same = self.by_value.entry(id.value()).or_default();
        same.count += 1;
        same.numbers ^= number;
    }

    /// Removes a request, unless a later one took its place. Returns true if it was removed.
    pub(super) fn remove(&mut self, id: &RequestId, number: u64) -> bool {
        let is_found = self.exact(id.bytes()) == Some(number);
        if is_found {
            self.exact.remove(id);
            self.forget_value(id, number);
        }
        is_found
    }

    fn forget_value(&mut self, id: &RequestId, number: u64) {
        let value = id.value();
        if let Some(same) = self.by_value.get_mut(&value) {
            same.count -= 1;
            same.numbers ^= number;
            if same.count == 0 {
                self.by_value.remove(&value);
            }
        }
    }

    /// Returns the request with exactly this id.
    pub(super) fn exact(&self, id: &[u8]) -> Option<u64> {
        self.exact.get(id).copied()
    }

    /// Returns the only request whose id has the value of this id.
    pub(super) fn only_of_value(&self, id: &[u8]) -> Option<u64> {
        let same = self.by_value.get(&*message::value(id))?;
        (same.count == 1).then_some(same.numbers)
    }
}
