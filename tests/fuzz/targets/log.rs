//! A session log with any content: every line is read once, wherever a read ends, and the shown text contains
//! nothing that a terminal executes.

use std::collections::BTreeMap;
use std::io::{self, Read};

use spantap::present::report::{PageData, PageSource, page};
use spantap::present::table::Terminal;
use spantap::present::tail::RowPrinter;
use spantap::present::waterfall::{self, DrawnPart};
use spantap::present::{Printable, operation, sessions, stats};
use spantap::query::entry::LogEntry;
use spantap::query::name_pool::NamePool;
use spantap::query::report::ReportTotals;
use spantap::query::row::{LogRow, OperationRow};
use spantap::query::scan::{Fold, LineReader, LogLine};
use spantap::query::select::Selection;
use spantap::query::sessions::SessionTable;
use spantap::query::stats::{StatsGrouping, StatsOrder, StatsTable};
use spantap::record::Record;
use spantap::record::cost::Prices;
use spantap::record::timestamp::Timestamp;

use super::pieces;

pub fn run(input: &[u8]) {
    for most in [1, 100, 1 << 20] {
        if most > 1 || input.len() < 4 << 10 {
            read_as_lines(input, most);
        }
    }
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    lines.iter().for_each(|line| one(line));
    show(&lines);
}

/// Returns one piece at each read.
struct InPieces<'a>(std::vec::IntoIter<&'a [u8]>);

impl Read for InPieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.0.next() else { return Ok(0) };
        buffer[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }
}

fn read_as_lines(input: &[u8], most: usize) {
    let mut buffer = Vec::new();
    let mut reader = LineReader::new(InPieces(pieces(input, most).into_iter()), &mut buffer, 0);
    let mut expected: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let last = expected.pop().unwrap_or_default();
    let mut position = 0;
    for line in expected {
        assert!(matches!(reader.next(), Ok(LogLine::Whole(read)) if read == line));
        position += line.len() as u64 + 1;
        assert_eq!(reader.position(), position);
    }
    if !last.is_empty() {
        assert!(matches!(reader.next(), Ok(LogLine::Last(read)) if read == last));
    }
    assert!(matches!(reader.next(), Ok(LogLine::End)));
}

fn one(line: &[u8]) {
    if let Ok(text) = std::str::from_utf8(line) {
        assert_eq!(serde_json::from_value::<Timestamp>(text.into()).ok(), text.parse().ok(), "{text}");
    }
    let Ok(entry) = LogEntry::parse(line) else { return };
    let _ = (entry.started(), entry.tokens(), entry.name(), entry.is_operation());
    if let Ok(record) = serde_json::from_slice::<Record<'_>>(line) {
        let written = serde_json::to_string(&record).unwrap();
        let again: Record<'_> =
            serde_json::from_str(&written).expect("the reader reads what the writer wrote");
        assert_eq!(serde_json::to_string(&again).unwrap(), written);
    }
    if let Ok(text) = std::str::from_utf8(line)
        && let Ok(value) = serde_json::from_str::<serde_json::Value>(text)
    {
        let clean = Printable::json(text);
        assert!(!clean.contains(|c: char| c.is_control() && !matches!(c, '\t' | '\r')), "{clean:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&clean).ok(), Some(value));
    }
}

fn show(lines: &[&[u8]]) {
    let (select, prices) = (Selection::default(), Prices::new(Some(3.0), &BTreeMap::new()));
    for width in [30, 200] {
        let terminal =
            Terminal { width, unicode: width > 80, zone: jiff::tz::TimeZone::UTC, warn: 3, trace_link: None };
        let mut out = Vec::new();
        let mut printer = RowPrinter::new(terminal.clone());
        let mut session_table = SessionTable::new(&select, &prices, width > 80);
        let mut stats_table = StatsTable::new(&select, &prices, StatsGrouping::ServerTool, &terminal.zone);
        let mut report = ReportTotals::new(&select, &select, &prices);
        let mut names = NamePool::default();
        let mut rows = Vec::new();
        for line in lines {
            let Ok(entry) = LogEntry::parse(line) else { continue };
            printer.write(&mut out, &LogRow::new(&entry, line, false, &mut names)).unwrap();
            session_table.take(&entry, line);
            stats_table.take(&entry, line);
            report.take(&entry, line);
            let row = OperationRow::new(&entry, &mut names);
            if let Ok(record) = serde_json::from_slice::<Record<'_>>(line) {
                operation::write(&mut out, &terminal, &row, &record, None, &Default::default(), None)
                    .unwrap();
            }
            if entry.is_operation() && rows.len() < 300 {
                rows.push(row);
            }
        }
        let part = DrawnPart { first: 100, folds_start: width > 80, only_operations: false, is_whole: true };
        waterfall::draw(&mut out, &terminal, &rows.iter().collect::<Vec<_>>(), part).unwrap();
        stats::write(&mut out, &terminal, &stats_table.finish(Some(StatsOrder::Calls)), 50).unwrap();
        let found = session_table.finish(Some(5));
        sessions::write(&mut out, &terminal, &found, &prices, width > 80).unwrap();
        let page = page(&PageData::new(report, PageSource::default())).unwrap();
        assert!(!page.contains('\u{202e}'));
        let text = String::from_utf8(out).expect("the shown text is UTF-8");
        let own = anstream::adapter::strip_str(&text).to_string();
        let obeyed = own.chars().find(|c| {
            c.is_control() && *c != '\n'
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}')
        });
        assert_eq!(obeyed, None, "{own:?}");
    }
}
