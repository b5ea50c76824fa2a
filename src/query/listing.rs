//! The tools that a server listed last, from the `tools_listed` records of its connections.

use std::collections::{BTreeMap, HashMap};

use crate::query::entry::LogEntry;
use crate::record::timestamp::Timestamp;

/// Time of a record, and its number in its connection.
type ListedAt = (Timestamp, u64);

/// The pages of each connection. The connection that listed its tools last counts: a client would load these
/// definitions next. The order in which records are added does not matter.
#[derive(Clone, Debug)]
pub(crate) struct LastListing<P> {
    /// By connection: the latest record of each page, by its number from 1.
    connections: HashMap<Box<str>, BTreeMap<u64, ListedPage<P>>>,
}

#[derive(Clone, Debug)]
struct ListedPage<P> {
    at: ListedAt,
    is_complete: bool,
    page: P,
}

/// The pages of one listing.
#[derive(Clone, Debug)]
pub(crate) struct ListedPages<'l, P> {
    pub(crate) pages: Vec<&'l P>,
    /// True if every page is there, from the first one to the last one.
    pub(crate) is_complete: bool,
    /// Time of the latest page.
    pub(crate) at: ListedAt,
}

impl<P> Default for LastListing<P> {
    fn default() -> LastListing<P> {
        LastListing { connections: HashMap::new() }
    }
}

impl<P> LastListing<P> {
    /// Adds what a `tools_listed` record says about one page.
    pub(crate) fn add(&mut self, entry: &LogEntry<'_>, page: P) {
        let (at, is_complete) = ((entry.timestamp, entry.seq), entry.is_complete == Some(true));
        let pages = self.connections.entry((*entry.connection_id).into()).or_default();
        add_page(pages, entry.page.unwrap_or(1), ListedPage { at, is_complete, page });
    }

    pub(crate) fn merge(&mut self, other: LastListing<P>) {
        for (id, other) in other.connections {
            let pages = self.connections.entry(id).or_default();
            other.into_iter().for_each(|(number, page)| add_page(pages, number, page));
        }
    }

    /// Returns the last listing. `None` if no page was added.
    pub(crate) fn last(&self) -> Option<ListedPages<'_, P>> {
        let latest = |pages: &BTreeMap<u64, ListedPage<P>>| pages.values().map(|page| page.at).max();
        let (_, pages) = self.connections.iter().max_by_key(|(id, pages)| (latest(pages), *id))?;
        let (mut at, mut found) = (ListedAt::default(), Vec::new());
        for (number, page) in pages {
            // A page that is older than one before it belongs to an earlier listing.
            if page.at >= at {
                at = page.at;
                found.push((*number, page));
            }
        }
        let has_all = found.iter().zip(1..).all(|((number, _), expected)| *number == expected);
        let is_complete = has_all && found.last().is_some_and(|(_, page)| page.is_complete);
        Some(ListedPages { pages: found.into_iter().map(|(_, page)| &page.page).collect(), is_complete, at })
    }
}

/// Keeps the later of two records of the same page.
fn add_page<P>(pages: &mut BTreeMap<u64, ListedPage<P>>, number: u64, page: ListedPage<P>) {
    if pages.get(&number).is_none_or(|known| known.at <= page.at) {
        pages.insert(number, page);
    }
}
