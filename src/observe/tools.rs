//! The tool definitions of a server: collected from the pages of `tools/list`, and compared with those before.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::observe::canonical::{JsonText, canonical};

/// Hashes of tool definitions. They are not keyed, so that a new hash key changes no definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolSet {
    /// Hash of each definition by its redacted name.
    pub hashes: BTreeMap<String, [u8; 32]>,
    pub unlisted: UnlistedTools,
    /// True if these are all tools of the server.
    pub is_complete: bool,
    /// Bytes of `hashes`.
    size: usize,
}

/// Definitions that are not known by a name: their number, and one hash of all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnlistedTools {
    pub count: u64,
    pub hash: [u8; 32],
}

/// Returns the hash of a tool definition: of its canonical form if it has one, else of its text.
pub(crate) fn definition_hash(text: &str) -> [u8; 32] {
    match canonical(text.as_bytes()) {
        Some(canonical) => Sha256::digest(canonical).into(),
        None => Sha256::new().chain_update(b"raw:").chain_update(text).finalize().into(),
    }
}

/// Returns the name in the JSON text of a tool definition. The last of two equal members counts.
pub(crate) fn tool_name(definition: &str) -> Option<String> {
    struct NameVisitor;

    impl<'de> Visitor<'de> for NameVisitor {
        type Value = Option<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a tool definition")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
            let mut name = None;
            while let Some(JsonText(key)) = members.next_key()? {
                match &*key {
                    "name" => name = Some(members.next_value()?),
                    _ => drop(members.next_value::<IgnoredAny>()?),
                }
            }
            Ok(name)
        }
    }

    let name = serde_json::Deserializer::from_str(definition).deserialize_map(NameVisitor).ok()??;
    let quoted = name.get().strip_prefix('"')?;
    // A half surrogate pair is kept as it is written.
    Some(serde_json::from_str(name.get()).unwrap_or_else(|_| quoted.trim_end_matches('"').to_owned()))
}

/// Returns one hash of two.
fn joined(first: &[u8; 32], second: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(first).chain_update(second).finalize().into()
}

impl UnlistedTools {
    pub(crate) fn add(&mut self, hash: [u8; 32]) {
        self.count += 1;
        self.hash = joined(&self.hash, &hash);
    }
}

/// Bytes of the names and hashes of one server.
const MAX_SET: usize = 256 << 10;
/// Bytes of a tool's name that are compared.
const MAX_TOOL_NAME: usize = 256;
/// Bytes of a hash, and of what surrounds it in memory and in a file.
const HASH_SIZE: usize = 80;

impl ToolSet {
    /// Returns a set without names.
    pub fn new(is_complete: bool, unlisted: UnlistedTools) -> ToolSet {
        ToolSet { is_complete, unlisted, ..ToolSet::default() }
    }

    /// Adds a definition. The hashes of tools with the same name are joined.
    pub fn add(&mut self, name: &str, hash: [u8; 32]) {
        let name = &name[..name.floor_char_boundary(MAX_TOOL_NAME)];
        if let Some(before) = self.hashes.get_mut(name) {
            *before = joined(before, &hash);
        } else if self.size + name.len() + HASH_SIZE > MAX_SET {
            self.unlisted.add(hash);
        } else {
            self.size += name.len() + HASH_SIZE;
            self.hashes.insert(name.to_owned(), hash);
        }
    }

    /// Adds the tools of the next page.
    fn append(&mut self, page: ToolSet) {
        page.hashes.iter().for_each(|(name, hash)| self.add(name, *hash));
        if page.unlisted.count > 0 {
            self.unlisted.hash = joined(&self.unlisted.hash, &page.unlisted.hash);
            self.unlisted.count += page.unlisted.count;
        }
    }

    /// Returns the difference between the tools `before` and these. If these are not all tools, those that are
    /// missing may still exist.
    fn difference(&self, before: &ToolSet) -> ToolDrift {
        let names = |of: &ToolSet, is_wanted: &dyn Fn(&str, &[u8; 32]) -> bool| {
            let wanted = of.hashes.iter().filter(|(name, hash)| is_wanted(name, hash));
            wanted.map(|(name, _)| name.clone()).collect()
        };
        let is_known = |set: &ToolSet| set.is_complete || set.unlisted.count > 0;
        ToolDrift {
            added: match before.is_complete {
                true => names(self, &|name, _| !before.hashes.contains_key(name)),
                false => Vec::new(),
            },
            removed: match self.is_complete {
                true => names(before, &|name, _| !self.hashes.contains_key(name)),
                false => Vec::new(),
            },
            changed: names(self, &|name, hash| before.hashes.get(name).is_some_and(|before| before != hash)),
            unlisted: match is_known(self) && is_known(before) && before.unlisted != self.unlisted {
                true => before.unlisted.count.max(self.unlisted.count),
                false => 0,
            },
        }
    }

    /// Replaces the definitions by newer ones.
    fn update(&mut self, newer: ToolSet) {
        if newer.is_complete {
            *self = newer;
            return;
        }
        for (name, hash) in newer.hashes {
            match self.hashes.get_mut(&name) {
                Some(known) => *known = hash,
                None => self.add(&name, hash),
            }
        }
        if newer.unlisted.count > 0 {
            self.unlisted = newer.unlisted;
        }
    }
}

/// The difference between two sets of definitions, by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ToolDrift {
    pub(crate) added: Vec<String>,
    pub(crate) removed: Vec<String>,
    pub(crate) changed: Vec<String>,
    /// Number of definitions without a name, if one of them may have changed.
    pub(crate) unlisted: u64,
}

/// A cursor: its length and a hash of its beginning.
pub(crate) type PageCursor = (u64, [u8; 32]);

/// The listings of one connection.
#[derive(Debug, Default)]
pub(crate) struct ToolListings {
    /// Listings of which the next page has not come, each with the cursor of that page, the oldest first.
    open: VecDeque<(PageCursor, ToolSet)>,
    last: Option<ToolSet>,
    /// True if a listing of this connection is in `last`.
    is_fresh: bool,
}

/// Listings that may be open at the same time.
const MAX_OPEN: usize = 8;

impl ToolListings {
    /// Sets the definitions that the first listing is compared with.
    pub(crate) fn remember(&mut self, known: Option<ToolSet>) {
        self.last = known;
    }

    /// Adds one page. `asked` is the cursor in its request, and `next` that of the following page. A complete
    /// listing is compared with the one before; so is the oldest open one if too many are open.
    pub(crate) fn page(
        &mut self,
        asked: Option<PageCursor>,
        page: ToolSet,
        next: Option<PageCursor>,
    ) -> Option<ToolDrift> {
        let before = |listing: &(PageCursor, ToolSet)| Some(listing.0) == asked;
        let mut listing = match (asked, self.open.iter().position(before)) {
            (None, _) => ToolSet { is_complete: true, ..ToolSet::default() },
            (Some(_), Some(found)) => self.open.remove(found).map(|(_, listing)| listing).unwrap_or_default(),
            // Its first pages have not been seen.
            (Some(_), None) => ToolSet::default(),
        };
        listing.append(page);
        match next {
            None => self.compare(listing),
            Some(next) => {
                self.open.push_back((next, listing));
                if self.open.len() > MAX_OPEN { self.end_oldest() } else { None }
            }
        }
    }

    /// Compares the oldest open listing as far as it has come.
    pub(crate) fn end_oldest(&mut self) -> Option<ToolDrift> {
        let (_, listing) = self.open.pop_front()?;
        self.compare(ToolSet { is_complete: false, ..listing })
    }

    pub(crate) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    fn compare(&mut self, listing: ToolSet) -> Option<ToolDrift> {
        self.is_fresh = true;
        let Some(last) = &mut self.last else {
            self.last = Some(listing);
            return None;
        };
        let drift = listing.difference(last);
        last.update(listing);
        (drift != ToolDrift::default()).then_some(drift)
    }

    /// Returns the definitions after the last listing of this connection, if there was one.
    pub(crate) fn fresh(&self) -> Option<&ToolSet> {
        self.last.as_ref().filter(|_| self.is_fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(tools: &[(&str, u8)]) -> ToolSet {
        let mut set = ToolSet::default();
        tools.iter().for_each(|(name, hash)| set.add(name, [*hash; 32]));
        set
    }

    fn cursor(number: u8) -> Option<PageCursor> {
        Some((1, [number; 32]))
    }

    fn listed(tools: &[(&str, u8)]) -> ToolListings {
        let mut listings = ToolListings::default();
        assert_eq!(listings.page(None, set(tools), None), None);
        listings
    }

    #[test]
    fn definitions_are_compared_when_the_last_page_is_there() {
        let mut listings = listed(&[("a", 1), ("b", 2)]);
        assert_eq!(listings.page(None, set(&[("a", 9)]), cursor(1)), None);
        let drift = listings.page(cursor(1), set(&[("c", 3)]), None).unwrap();
        assert_eq!(
            (drift.added, drift.removed, drift.changed, drift.unlisted),
            (vec!["c".to_owned()], vec!["b".to_owned()], vec!["a".to_owned()], 0)
        );
        assert_eq!(listings.page(None, set(&[("c", 3), ("a", 9)]), None), None);
    }

    #[test]
    fn pages_belong_to_the_listing_whose_cursor_their_request_has() {
        let mut listings = listed(&[("a", 1), ("b", 2), ("c", 3)]);
        for order in [[1, 2, 1, 2], [1, 2, 2, 1], [1, 1, 2, 2]] {
            for cursor in order {
                // Two listings with cursors of their own, and one of another client with that of the first.
                let cursor = |page: u8| self::cursor(10 * cursor + page);
                assert_eq!(listings.page(None, set(&[("a", 1)]), cursor(1)), None);
                assert_eq!(listings.page(None, set(&[("a", 1)]), cursor(1)), None);
                assert_eq!(listings.page(cursor(1), set(&[("b", 2)]), cursor(2)), None);
                assert_eq!(listings.page(cursor(1), set(&[("b", 2)]), cursor(2)), None);
                assert_eq!(listings.page(cursor(2), set(&[("c", 3)]), None), None);
                assert_eq!(listings.page(cursor(2), set(&[("c", 3)]), None), None);
            }
        }
        assert!(!listings.has_open());
    }

    #[test]
    fn a_listing_that_does_not_end_is_compared_as_far_as_it_has_come_and_once() {
        let mut listings = listed(&[("a", 1), ("b", 2)]);
        let drifts: Vec<ToolDrift> = (0..20)
            .filter_map(|page| listings.page(None, set(&[("a", 9), ("x", 1)]), cursor(page)))
            .collect();
        let [drift] = &drifts[..] else { panic!("{drifts:?}") };
        assert_eq!((drift.added.len(), drift.removed.len(), drift.changed.len()), (1, 0, 1));
        let mut listings = listed(&[("a", 1), ("b", 2)]);
        assert_eq!(listings.page(None, set(&[("b", 9)]), cursor(1)), None);
        assert_eq!(listings.end_oldest().unwrap().changed, ["b"]);
        assert_eq!(listings.end_oldest(), None);
    }

    #[test]
    fn pages_without_end_take_limited_memory_and_what_is_beyond_it_counts() {
        let drift = |last: u8| {
            let mut listings = ToolListings::default();
            for (round, pass) in [0, last].into_iter().enumerate() {
                for page in 0..30_u32 {
                    let mut tools = ToolSet::default();
                    let name = |tool: u32| format!("{page}-{tool}-{}", "x".repeat(2000));
                    (0..1000).for_each(|tool| tools.add(&name(tool), [0; 32]));
                    tools.add("last", [pass; 32]);
                    let cursor = |number: u32| (number > 0).then_some((u64::from(number), [0; 32]));
                    let drift = listings.page(cursor(page), tools, cursor(page + 1).filter(|_| page < 29));
                    if page == 29 && round == 1 {
                        let last = listings.fresh().unwrap();
                        assert!(
                            last.size <= MAX_SET
                                && last.hashes.keys().all(|name| name.len() <= MAX_TOOL_NAME)
                        );
                        return drift;
                    }
                }
            }
            None
        };
        assert_eq!(drift(0), None);
        assert!(drift(1).is_some());
    }

    #[test]
    fn of_tools_with_one_name_each_counts() {
        let mut listings = listed(&[("a", 1), ("a", 2)]);
        assert_eq!(listings.page(None, set(&[("a", 3), ("a", 2)]), None).unwrap().changed, ["a"]);
        assert_eq!(listings.page(None, set(&[("a", 3), ("a", 2)]), None), None);
    }
}
