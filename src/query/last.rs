//! `spantap tail`: the last records of all files.

use crate::query::entry::LogEntry;
use crate::query::greatest::Greatest;
use crate::query::name_pool::NamePool;
use crate::query::row::LogRow;
use crate::query::scan::Fold;
use crate::query::select::Selection;
use crate::record::timestamp::Timestamp;

/// Keeps the last wanted lines, by time.
pub(crate) struct LastRows<'a> {
    select: &'a Selection,
    json: bool,
    names: NamePool,
    rows: Greatest<Timestamp, Box<LogRow>>,
}

impl<'a> LastRows<'a> {
    pub(crate) fn new(select: &'a Selection, count: usize, json: bool) -> LastRows<'a> {
        LastRows { select, json, names: NamePool::default(), rows: Greatest::new(count) }
    }

    /// Returns the rows, earliest first.
    pub(crate) fn finish(self) -> Vec<LogRow> {
        self.rows.finish().into_iter().rev().map(|row| *row).collect()
    }
}

impl Fold for LastRows<'_> {
    fn take(&mut self, entry: &LogEntry<'_>, line: &[u8]) {
        if LogRow::is_wanted(self.select, entry) {
            let make = |names: &mut NamePool| Box::new(LogRow::new(entry, line, self.json, names));
            self.rows.offer(entry.timestamp, entry, &mut self.names, make);
        }
    }

    fn merge(&mut self, other: LastRows<'_>) {
        self.rows.merge(other.rows);
    }
}
