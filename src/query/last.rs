//! `spantap tail`: the last records of all files.

use std::collections::HashSet;

use crate::query::entry::LogEntry;
use crate::query::event::EventRow;
use crate::query::greatest::Greatest;
use crate::query::live::{self, LiveConnection};
use crate::query::name_pool::NamePool;
use crate::query::row::{LogRow, drop_repeated};
use crate::query::scan::Fold;
use crate::query::select::Selection;
use crate::record::EventName;
use crate::record::timestamp::Timestamp;

/// Keeps the last wanted lines, by time.
pub(crate) struct LastRows<'a> {
    select: &'a Selection,
    json: bool,
    count: usize,
    names: NamePool,
    rows: Greatest<Timestamp, Box<LogRow>>,
    /// Connections whose end was recorded.
    ended: HashSet<Box<str>>,
}

impl<'a> LastRows<'a> {
    pub(crate) fn new(select: &'a Selection, count: usize, json: bool) -> LastRows<'a> {
        let (names, rows, ended) = (NamePool::default(), Greatest::new(count), HashSet::new());
        LastRows { select, json, count, names, rows, ended }
    }

    /// Returns the rows, earliest first, with the proxies of `live` that were killed.
    pub(crate) fn finish(self, live: &[LiveConnection]) -> Vec<LogRow> {
        let is_shown = !self.json && !self.select.is_about_operations();
        let killed = live::killed(live, |id| self.ended.contains(id));
        let killed = killed.filter(|state| is_shown && self.select.window.contains(state.updated_at));
        // The proxy's last sign of life: the time of its end is not known.
        let killed = killed.map(|state| LogRow::Event(EventRow::killed(state, state.updated_at)));
        let mut rows: Vec<LogRow> = self.rows.finish().into_iter().rev().map(|row| *row).collect();
        rows.extend(killed);
        drop_repeated(&mut rows);
        rows.sort_by_key(LogRow::at);
        let excess = rows.len().saturating_sub(self.count);
        rows.split_off(excess)
    }
}

impl Fold for LastRows<'_> {
    fn take(&mut self, entry: &LogEntry<'_>, line: &[u8]) {
        if entry.event == EventName::SessionEnded {
            self.ended.insert((*entry.connection_id).into());
        }
        if LogRow::is_wanted(self.select, entry) {
            let make = |names: &mut NamePool| Box::new(LogRow::new(entry, line, self.json, names));
            self.rows.offer(entry.timestamp, entry, &mut self.names, make);
        }
    }

    fn merge(&mut self, other: LastRows<'_>) {
        self.rows.merge(other.rows);
        self.ended.extend(other.ended);
    }
}
