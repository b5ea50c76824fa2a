//! The tools that a server listed last, from the `tools_listed` records of its connections.

use std::collections::BTreeMap;

use crate::query::entry::LogEntry;

/// The pages of the last listing of the connection that began last: a client would load these definitions next. The
/// order in which records are added does not matter.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastListing<P> {
    /// Ids of connections are in the order of time.
    connection_id: Box<str>,
    /// The latest record of each page, by its number from 1.
    pages: BTreeMap<u64, ListedPage<P>>,
}

#[derive(Clone, Debug)]
struct ListedPage<P> {
    seq: u64,
    is_complete: bool,
    page: P,
}

impl<P> LastListing<P> {
    /// Adds what a `tools_listed` record says about one page.
    pub(crate) fn add(&mut self, entry: &LogEntry<'_>, page: P) {
        let is_complete = entry.is_complete == Some(true);
        let page = ListedPage { seq: entry.seq, is_complete, page };
        self.add_page(&entry.connection_id, entry.page.unwrap_or(1), page);
    }

    fn add_page(&mut self, connection_id: &str, number: u64, page: ListedPage<P>) {
        if *connection_id > *self.connection_id {
            self.connection_id = connection_id.into();
            self.pages.clear();
        }
        let is_newer = self.pages.get(&number).is_none_or(|known| page.seq >= known.seq);
        if *connection_id == *self.connection_id && is_newer {
            self.pages.insert(number, page);
        }
    }

    pub(crate) fn merge(&mut self, other: LastListing<P>) {
        for (number, page) in other.pages {
            self.add_page(&other.connection_id, number, page);
        }
    }

    /// Returns the last page of the last complete listing with its number.
    fn end(&self) -> Option<(u64, u64)> {
        let complete = self.pages.iter().filter(|(_, page)| page.is_complete);
        complete.map(|(number, page)| (page.seq, *number)).max()
    }

    /// Returns true if the listing was seen to its end.
    pub(crate) fn is_complete(&self) -> bool {
        self.end().is_some()
    }

    /// Returns the pages: none after the end of the listing that are older than it.
    pub(crate) fn pages(&self) -> impl Iterator<Item = &P> {
        let end = self.end();
        let counts = move |number: u64, page: &ListedPage<P>| {
            end.is_none_or(|(seq, last)| number <= last || page.seq > seq)
        };
        self.pages.iter().filter(move |(number, page)| counts(**number, page)).map(|(_, page)| &page.page)
    }
}
