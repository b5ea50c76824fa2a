//! Finds the sessions of the connections that are selected.

use std::collections::HashSet;

use memchr::memmem::Finder;

use crate::query::entry::LogEntry;
use crate::query::scan::Fold;
use crate::query::select::Selection;

/// Collects the ids of the sessions with a selected connection.
pub(crate) struct SessionOwners<'a> {
    select: &'a Selection,
    word: Finder<'static>,
    pub(crate) sessions: HashSet<Box<str>>,
}

impl<'a> SessionOwners<'a> {
    pub(crate) fn new(select: &'a Selection) -> SessionOwners<'a> {
        SessionOwners { select, word: Finder::new("session_started"), sessions: HashSet::new() }
    }
}

impl Fold for SessionOwners<'_> {
    fn wants(&self, line: &[u8]) -> bool {
        self.select.session.is_some() && self.word.find(line).is_some()
    }

    fn take(&mut self, entry: &LogEntry<'_>, _line: &[u8]) {
        // The first record of each file comes, too, also of a file that is not the first part of its log.
        let is_named = self.select.session.is_some() && self.select.takes_connection(entry);
        if is_named && !self.sessions.contains(&*entry.session_id) {
            self.sessions.insert((&*entry.session_id).into());
        }
    }

    fn merge(&mut self, other: SessionOwners<'_>) {
        self.sessions.extend(other.sessions);
    }
}
