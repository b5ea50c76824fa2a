//! A map that forgets its oldest entries. Its keys are `Copy`, so that no text of a client stays as a key.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

pub(super) struct BoundedMap<K, V> {
    entries: HashMap<K, V>,
    /// Keys, oldest first. A key that was removed stays until it is the oldest.
    order: VecDeque<K>,
    limit: usize,
}

impl<K: Hash + Eq + Copy, V> BoundedMap<K, V> {
    pub(super) fn new(limit: usize) -> BoundedMap<K, V> {
        BoundedMap { entries: HashMap::new(), order: VecDeque::new(), limit }
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.entries.insert(key, value).is_none() {
            self.order.push_back(key);
            while self.order.len() > self.limit {
                if let Some(oldest) = self.order.pop_front() {
                    self.entries.remove(&oldest);
                }
            }
        }
    }

    pub(super) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.entries.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    pub(super) fn contains<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: std::borrow::Borrow<Q>,
    {
        self.entries.contains_key(key)
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entries_are_forgotten_and_a_removed_key_takes_no_place_for_ever() {
        let mut map = BoundedMap::new(3);
        for number in 0..10 {
            map.insert(number, number);
            map.insert(number, number * 2);
            if number % 2 == 0 {
                assert_eq!(map.remove(&number), Some(number * 2));
            }
        }
        assert_eq!((map.get(&9), map.get(&7), map.contains(&5)), (Some(&18), Some(&14), false));
        assert!(map.order.len() <= 3);
    }
}
