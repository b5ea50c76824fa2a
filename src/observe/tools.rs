//! The tool definitions of a server: collected from the pages of `tools/list`, and compared with those before.

use std::collections::{BTreeMap, VecDeque};

use sha2::{Digest, Sha256};

use crate::observe::tool_definition::{
    Fingerprints, ToolChange, ToolChangeKind, ToolFingerprint, changes, joined,
};

/// The definitions of a server by name. They contain hashes without a key, so that a new hash key changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolSet {
    /// Hashes of each definition by its redacted name.
    pub(crate) fingerprints: Fingerprints,
    pub unlisted: UnlistedTools,
    /// True if these are all tools of the server.
    pub is_complete: bool,
    /// Bytes of `fingerprints`.
    size: usize,
}

/// Definitions that are not known by a name: their number, and one hash of all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnlistedTools {
    pub count: u64,
    pub hash: [u8; 32],
}

impl UnlistedTools {
    pub(crate) fn add(&mut self, hash: [u8; 32]) {
        self.count += 1;
        self.hash = joined(&self.hash, &hash);
    }
}

/// Bytes of the names and hashes of one server.
const MAX_SET: usize = 384 << 10;
/// Bytes of a tool's name that are compared.
const MAX_TOOL_NAME: usize = 256;
/// Bytes of a fingerprint, and of what surrounds it in memory and in a file.
const FINGERPRINT_SIZE: usize = 176;
/// Pages of a listing that are recorded.
const MAX_PAGES: u64 = 100;

impl ToolSet {
    /// Returns a set without names.
    pub fn new(is_complete: bool, unlisted: UnlistedTools) -> ToolSet {
        ToolSet { is_complete, unlisted, ..ToolSet::default() }
    }

    /// Adds a definition. The fingerprints of tools with the same name are joined.
    pub(crate) fn add(&mut self, name: &str, fingerprint: &ToolFingerprint) {
        let name = &name[..name.floor_char_boundary(MAX_TOOL_NAME)];
        if let Some(before) = self.fingerprints.get_mut(name) {
            before.join(fingerprint);
        } else if self.size + name.len() + FINGERPRINT_SIZE > MAX_SET {
            self.unlisted.add(fingerprint.hash);
        } else {
            self.size += name.len() + FINGERPRINT_SIZE;
            self.fingerprints.insert(name.to_owned(), *fingerprint);
        }
    }

    /// Adds the tools of the next page.
    fn append(&mut self, page: ToolSet) {
        page.fingerprints.iter().for_each(|(name, fingerprint)| self.add(name, fingerprint));
        if page.unlisted.count > 0 {
            self.unlisted.hash = joined(&self.unlisted.hash, &page.unlisted.hash);
            self.unlisted.count += page.unlisted.count;
        }
    }

    /// Returns one hash of all definitions.
    fn hash(&self) -> [u8; 32] {
        let mut all = Sha256::new();
        for (name, fingerprint) in &self.fingerprints {
            all.update(name);
            all.update(fingerprint.hash);
        }
        all.update(self.unlisted.hash);
        all.finalize().into()
    }

    /// Returns the difference between the tools `before` and these. If these are not all tools, those that are
    /// missing may still exist.
    fn difference(&self, before: &ToolSet) -> ToolDrift {
        let is_known = |set: &ToolSet| set.is_complete || set.unlisted.count > 0;
        let mut changes = changes(&before.fingerprints, &self.fingerprints);
        changes.retain(|change| match change.kind {
            ToolChangeKind::Added => before.is_complete,
            ToolChangeKind::Removed => self.is_complete,
            ToolChangeKind::Changed => true,
        });
        ToolDrift {
            changes,
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
        for (name, fingerprint) in newer.fingerprints {
            match self.fingerprints.get_mut(&name) {
                Some(known) => *known = fingerprint,
                None => self.add(&name, &fingerprint),
            }
        }
        if newer.unlisted.count > 0 {
            self.unlisted = newer.unlisted;
        }
    }
}

/// The difference between two sets of definitions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ToolDrift {
    pub(crate) changes: Vec<ToolChange>,
    /// Number of definitions without a name, if one of them may have changed.
    pub(crate) unlisted: u64,
}

/// A cursor: its length and a hash of its beginning.
pub(crate) type PageCursor = (u64, [u8; 32]);

/// A listing of which the next page has not come.
#[derive(Debug)]
struct OpenListing {
    /// Cursor of the next page.
    next: PageCursor,
    tools: ToolSet,
    pages: u64,
    number: u64,
    report: ListingReport,
    /// Number of pages that had been recorded when its last page was.
    recorded: u64,
}

/// The decision about the pages of one listing. It is made at the first page that differs from the one that is
/// recorded, so that a reader never joins pages of two listings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListingReport {
    /// All pages so far are recorded, from a listing before.
    #[default]
    Unchanged,
    Recorded,
    Withheld,
}

/// The place of one page in its listing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PagePlace {
    /// Number of the page, from 1. If the first pages were not seen, it is at least 2.
    pub(crate) number: u64,
    /// True if this is the last page and none is missing.
    pub(crate) is_complete: bool,
    /// Number of the listing in its connection.
    pub(crate) listing: u64,
    pub(crate) report: ListingReport,
    /// True if this page is to be recorded.
    pub(crate) is_recorded: bool,
    /// True if a listing that ended with this page differs from the one before.
    pub(crate) has_changed: bool,
}

/// The listings of one connection.
#[derive(Debug, Default)]
pub(crate) struct ToolListings {
    /// The oldest one is the first.
    open: VecDeque<OpenListing>,
    last: Option<ToolSet>,
    /// True if a listing of this connection is in `last`.
    is_fresh: bool,
    /// The definitions before the first change that was not taken.
    before_changes: Option<ToolSet>,
    /// Hash of each page that a reader of the records joins to the last listing, by its number.
    recorded_pages: BTreeMap<u64, [u8; 32]>,
    /// Number of pages that were recorded.
    recorded: u64,
    /// Number of listings.
    begun: u64,
}

/// Listings that may be open at the same time.
const MAX_OPEN: usize = 8;

impl ToolListings {
    /// Sets the definitions that the first listing is compared with.
    pub(crate) fn remember(&mut self, known: Option<ToolSet>) {
        self.last = known;
    }

    /// Adds one page. `asked` is the cursor in its request, and `next` that of the following page. `sizes` is a hash of
    /// the lengths of its definitions. A complete listing is compared with the one before; so is the oldest open one
    /// if too many are open. `is_due` returns true if one more listing may be recorded.
    pub(crate) fn page(
        &mut self,
        asked: Option<PageCursor>,
        (page, sizes): (ToolSet, [u8; 32]),
        next: Option<PageCursor>,
        is_due: impl FnOnce() -> bool,
    ) -> PagePlace {
        let mut listing = self.take_open(asked);
        listing.pages += 1;
        // A definition with other spaces is the same, but its record has its length.
        let hash = joined(&joined(&page.hash(), &sizes), &[u8::from(next.is_some()); 32]);
        let is_recorded = self.decide(&mut listing, hash, is_due);
        listing.tools.append(page);
        let OpenListing { number, pages, report, .. } = listing;
        let is_complete = listing.tools.is_complete && next.is_none();
        let has_changed = match next {
            None => self.compare(listing.tools),
            Some(next) => {
                self.open.push_back(OpenListing { next, ..listing });
                self.open.len() > MAX_OPEN && self.end_oldest()
            }
        };
        PagePlace { number: pages, is_complete, listing: number, report, is_recorded, has_changed }
    }

    /// Takes the listing that the cursor continues, or begins one.
    fn take_open(&mut self, asked: Option<PageCursor>) -> OpenListing {
        let found = asked.and_then(|asked| self.open.iter().position(|listing| listing.next == asked));
        if let Some(listing) = found.and_then(|found| self.open.remove(found)) {
            return listing;
        }
        self.begun += 1;
        OpenListing {
            next: PageCursor::default(),
            // Without the listing of its cursor, the first pages have not been seen.
            tools: ToolSet::new(asked.is_none(), UnlistedTools::default()),
            pages: u64::from(asked.is_some()),
            number: self.begun,
            report: ListingReport::Unchanged,
            recorded: self.recorded,
        }
    }

    /// Decides whether the last page of the listing is recorded, at its first page that differs for all later ones.
    fn decide(&mut self, listing: &mut OpenListing, hash: [u8; 32], is_due: impl FnOnce() -> bool) -> bool {
        let number = listing.pages;
        if number > MAX_PAGES || self.recorded_pages.get(&number) == Some(&hash) {
            return false;
        }
        if listing.recorded != self.recorded {
            // Another listing was recorded since its last page.
            listing.report = ListingReport::Withheld;
        } else if listing.report == ListingReport::Unchanged {
            listing.report = if is_due() { ListingReport::Recorded } else { ListingReport::Withheld };
        }
        let is_recorded = listing.report == ListingReport::Recorded;
        if is_recorded {
            // For a reader, pages after this one belong to an earlier listing.
            self.recorded_pages.split_off(&number);
            self.recorded_pages.insert(number, hash);
            self.recorded += 1;
            listing.recorded = self.recorded;
        }
        is_recorded
    }

    /// Compares the oldest open listing as far as it has come. Returns true if there is a difference.
    pub(crate) fn end_oldest(&mut self) -> bool {
        let Some(OpenListing { tools, .. }) = self.open.pop_front() else { return false };
        self.compare(ToolSet { is_complete: false, ..tools })
    }

    pub(crate) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Returns true if the listing differs from the one before.
    fn compare(&mut self, listing: ToolSet) -> bool {
        self.is_fresh = true;
        let Some(last) = &mut self.last else {
            self.last = Some(listing);
            return false;
        };
        let has_changed = listing.difference(last) != ToolDrift::default();
        if has_changed && self.before_changes.is_none() {
            self.before_changes = Some(last.clone());
        }
        last.update(listing);
        has_changed
    }

    /// Takes the difference of all changes that were not taken. It is empty if the last one undid the others.
    pub(crate) fn take_changes(&mut self) -> ToolDrift {
        match (self.before_changes.take(), &self.last) {
            (Some(before), Some(last)) => last.difference(&before),
            _ => ToolDrift::default(),
        }
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
        tools.iter().for_each(|(name, hash)| set.add(name, &ToolFingerprint::of_hash([*hash; 32])));
        set
    }

    fn cursor(number: u8) -> Option<PageCursor> {
        Some((1, [number; 32]))
    }

    /// Adds a page, and returns the changes that it ends in.
    fn page(
        listings: &mut ToolListings,
        asked: Option<PageCursor>,
        tools: ToolSet,
        next: Option<PageCursor>,
    ) -> Option<ToolDrift> {
        listings.page(asked, (tools, [0; 32]), next, || true).has_changed.then(|| listings.take_changes())
    }

    fn texts(drift: &ToolDrift) -> Vec<String> {
        drift.changes.iter().map(|change| format!("{} {}", change.kind, change.tool)).collect()
    }

    fn listed(tools: &[(&str, u8)]) -> ToolListings {
        let mut listings = ToolListings::default();
        assert_eq!(page(&mut listings, None, set(tools), None), None);
        listings
    }

    #[test]
    fn definitions_are_compared_when_the_last_page_is_there() {
        let mut listings = listed(&[("a", 1), ("b", 2)]);
        assert_eq!(page(&mut listings, None, set(&[("a", 9)]), cursor(1)), None);
        let drift = page(&mut listings, cursor(1), set(&[("c", 3)]), None).unwrap();
        assert_eq!(
            (texts(&drift).join(", "), drift.unlisted),
            ("changed a, removed b, added c".to_owned(), 0)
        );
        assert_eq!(page(&mut listings, None, set(&[("c", 3), ("a", 9)]), None), None);
    }

    #[test]
    fn changes_that_were_not_taken_are_taken_together() {
        let mut listings = listed(&[("a", 1), ("b", 2)]);
        for tools in [&[("a", 9), ("b", 2)][..], &[("a", 9)], &[("a", 9), ("b", 2), ("c", 3)]] {
            assert!(listings.page(None, (set(tools), [0; 32]), None, || true).has_changed);
        }
        assert_eq!(texts(&listings.take_changes()), ["changed a", "added c"]);
        assert!(listings.page(None, (set(&[("a", 1)]), [0; 32]), None, || true).has_changed);
        assert!(
            listings.page(None, (set(&[("a", 9), ("b", 2), ("c", 3)]), [0; 32]), None, || true).has_changed
        );
        assert_eq!(listings.take_changes(), ToolDrift::default());
    }

    /// Adds pages with one tool each, and returns those that are recorded.
    fn recorded(listings: &mut ToolListings, tools: &[(&str, u8)], is_due: bool) -> Vec<u64> {
        let last = tools.len() - 1;
        let pages = tools.iter().enumerate().map(|(index, tool)| {
            let asked = cursor(index as u8).filter(|_| index > 0);
            let next = cursor(index as u8 + 1).filter(|_| index < last);
            listings.page(asked, (set(&[*tool]), [0; 32]), next, || is_due)
        });
        pages.filter(|place| place.is_recorded).map(|place| place.number).collect()
    }

    #[test]
    fn the_records_of_all_pages_give_one_listing() {
        let listings = &mut ToolListings::default();
        assert_eq!(recorded(listings, &[("a", 1), ("b", 2), ("c", 3)], true), [1, 2, 3]);
        assert_eq!(recorded(listings, &[("a", 1), ("b", 2), ("c", 3)], true), [0; 0]);
        assert_eq!(recorded(listings, &[("a", 1), ("b", 9), ("c", 3)], true), [2, 3]);
        // The same tools on fewer pages.
        assert_eq!(recorded(listings, &[("a", 1)], true), [1]);
        assert_eq!(recorded(listings, &[("a", 1), ("b", 9)], true), [1, 2]);
        // A page whose listing was not seen.
        let place = listings.page(cursor(7), (set(&[("b", 8)]), [0; 32]), None, || true);
        assert_eq!((place.number, place.is_complete, place.is_recorded), (2, false, true));
    }

    #[test]
    fn a_listing_is_recorded_whole_or_not_at_all() {
        let listings = &mut ToolListings::default();
        assert_eq!(recorded(listings, &[("a", 1), ("b", 2)], true), [1, 2]);
        assert_eq!(recorded(listings, &[("a", 9), ("b", 9)], false), [0; 0]);
        // Page 1 is that of the listing which was not recorded.
        assert_eq!(recorded(listings, &[("a", 9), ("b", 8)], true), [1, 2]);
        // The limit is asked once, for the first page that differs.
        let mut asked = 0;
        let first = listings.page(None, (set(&[("a", 7)]), [0; 32]), cursor(1), || false);
        let second = listings.page(cursor(1), (set(&[("b", 7)]), [0; 32]), None, || {
            asked += 1;
            true
        });
        let withheld = (ListingReport::Withheld, false);
        assert_eq!([first, second].map(|it| (it.report, it.is_recorded)), [withheld; 2]);
        assert_eq!(asked, 0);
    }

    #[test]
    fn of_two_listings_at_a_time_one_is_recorded() {
        let listings = &mut ToolListings::default();
        let mut page =
            |asked, tool, next| listings.page(asked, (set(&[tool]), [0; 32]), next, || true).is_recorded;
        assert!(page(None, ("a", 1), cursor(1)));
        assert!(page(None, ("a", 2), cursor(2)));
        assert!(!page(cursor(1), ("b", 1), None), "page 1 of this listing was replaced");
        assert!(page(cursor(2), ("b", 2), None));
        // Two clients that get the same pages.
        assert!(page(None, ("a", 3), cursor(1)) && !page(None, ("a", 3), cursor(1)));
        assert!(page(cursor(1), ("b", 3), None) && !page(cursor(1), ("b", 3), None));
    }

    #[test]
    fn pages_belong_to_the_listing_whose_cursor_their_request_has() {
        let mut listings = listed(&[("a", 1), ("b", 2), ("c", 3)]);
        for order in [[1, 2, 1, 2], [1, 2, 2, 1], [1, 1, 2, 2]] {
            for cursor in order {
                // Two listings with cursors of their own, and one of another client with that of the first.
                let cursor = |page: u8| self::cursor(10 * cursor + page);
                let mut same = |asked, tool, next| {
                    assert_eq!(page(&mut listings, asked, set(&[tool]), next), None);
                    assert_eq!(page(&mut listings, asked, set(&[tool]), next), None);
                };
                same(None, ("a", 1), cursor(1));
                same(cursor(1), ("b", 2), cursor(2));
                same(cursor(2), ("c", 3), None);
            }
        }
        assert!(!listings.has_open());
    }

    #[test]
    fn a_listing_that_does_not_end_is_compared_as_far_as_it_has_come_and_once() {
        let mut listings = listed(&[("a", 1), ("b", 2)]);
        let drifts: Vec<ToolDrift> = (0..20)
            .filter_map(|number| page(&mut listings, None, set(&[("a", 9), ("x", 1)]), cursor(number)))
            .collect();
        let [drift] = &drifts[..] else { panic!("{drifts:?}") };
        assert_eq!(texts(drift), ["changed a", "added x"]);
        let mut listings = listed(&[("a", 1), ("b", 2)]);
        assert_eq!(page(&mut listings, None, set(&[("b", 9)]), cursor(1)), None);
        assert!(listings.end_oldest());
        assert_eq!(texts(&listings.take_changes()), ["changed b"]);
        assert!(!listings.end_oldest());
    }

    #[test]
    fn pages_without_end_take_limited_memory_and_what_is_beyond_it_counts() {
        let drift = |last: u8| {
            let mut listings = ToolListings::default();
            for (round, pass) in [0, last].into_iter().enumerate() {
                for number in 0..30_u32 {
                    let mut tools = ToolSet::default();
                    let name = |tool: u32| format!("{number}-{tool}-{}", "x".repeat(2000));
                    (0..1000).for_each(|tool| tools.add(&name(tool), &ToolFingerprint::of_hash([0; 32])));
                    tools.add("last", &ToolFingerprint::of_hash([pass; 32]));
                    let cursor = |number: u32| (number > 0).then_some((u64::from(number), [0; 32]));
                    let next = cursor(number + 1).filter(|_| number < 29);
                    let drift = page(&mut listings, cursor(number), tools, next);
                    if number == 29 && round == 1 {
                        let last = listings.fresh().unwrap();
                        let is_short = |name: &String| name.len() <= MAX_TOOL_NAME;
                        assert!(last.size <= MAX_SET && last.fingerprints.keys().all(is_short));
                        return drift;
                    }
                }
            }
            None
        };
        assert_eq!(drift(0), None);
        assert!(drift(1).is_some());
        let mut listings = ToolListings::default();
        for page in 0..5000 {
            let (asked, next) = (Some((page, [0; 32])), Some((page + 1, [0; 32])));
            assert!(listings.page(asked, (set(&[]), [0; 32]), next, || true).number > 1);
        }
        assert!(listings.recorded < MAX_PAGES && listings.open.len() <= MAX_OPEN);
    }

    #[test]
    fn of_tools_with_one_name_each_counts() {
        let mut listings = listed(&[("a", 1), ("a", 2)]);
        let drift = page(&mut listings, None, set(&[("a", 3), ("a", 2)]), None).unwrap();
        assert_eq!(texts(&drift), ["changed a"]);
        assert_eq!(page(&mut listings, None, set(&[("a", 3), ("a", 2)]), None), None);
    }
}
