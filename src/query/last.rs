//! `spantap tail`: the last records of all files.

use std::collections::HashSet;

use crate::query::entry::LogEntry;
use crate::query::event::EventRow;
use crate::query::greatest::Greatest;
use crate::query::live::{self, LiveConnection};
use crate::query::name_pool::NamePool;
use crate::query::plain::LineHead;
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
    fn wants(&self, line: &[u8]) -> bool {
        let (Some(least), Some(head)) = (self.rows.least(), LineHead::read(line)) else { return true };
        head.timestamp >= *least || head.event == EventName::SessionEnded
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_before_the_last_rows_is_passed_over_unless_a_connection_ends() {
        let select = Selection::default();
        let line = |second: u8, event: &str| {
            format!(
                r#"{{"schema":"spantap/1","timestamp":"2026-11-24T09:00:0{second}.000000Z","level":"info","event":"{event}","message":"m","seq":{second},"connection_id":"c"}}"#
            )
        };
        let mut rows = LastRows::new(&select, 2, false);
        for second in [3, 7, 5] {
            let line = line(second, "mcp_tool_call");
            assert!(rows.wants(line.as_bytes()));
            rows.take(&LogEntry::parse(line.as_bytes()).unwrap(), line.as_bytes());
        }
        let wants = |second, event| rows.wants(line(second, event).as_bytes());
        assert!(!wants(4, "mcp_tool_call") && wants(5, "mcp_tool_call") && wants(8, "gap"));
        assert!(wants(1, "session_ended"));
        assert!(rows.wants(br#"{"schema":"spantap/1","event":"gap"}"#), "its time is not known");
        let shown: Vec<Timestamp> = rows.finish(&[]).iter().map(LogRow::at).collect();
        assert_eq!(shown.len(), 2);
        assert!(shown.is_sorted());
    }
}
