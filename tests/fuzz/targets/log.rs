//! A session log from anywhere: every line is read once, wherever a read ends; what is shown of it holds
//! nothing that a terminal obeys.

use std::collections::BTreeMap;
use std::io::{self, Read};

use spantap::present::format;
use spantap::present::report::{About, Data, Report, page};
use spantap::present::sessions::{self, Sessions};
use spantap::present::show::write_operation;
use spantap::present::stats::{By, Sort, Stats};
use spantap::present::table::Terminal;
use spantap::present::tail::Printer;
use spantap::present::waterfall::{self, Bar};
use spantap::query::entry::{Entry, Instant};
use spantap::query::scan::{Fold, Line, Lines};
use spantap::query::select::Select;
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

/// Gives out one piece at each read.
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
    let mut reader = Lines::new(InPieces(pieces(input, most).into_iter()), &mut buffer, 0);
    let mut expected: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let last = expected.pop().unwrap_or_default();
    let mut position = 0;
    for line in expected {
        assert!(matches!(reader.next(), Ok(Line::Whole(read)) if read == line));
        position += line.len() as u64 + 1;
        assert_eq!(reader.position(), position);
    }
    if !last.is_empty() {
        assert!(matches!(reader.next(), Ok(Line::Last(read)) if read == last));
    }
    assert!(matches!(reader.next(), Ok(Line::End)));
}

fn one(line: &[u8]) {
    if let Ok(text) = std::str::from_utf8(line)
        && let Ok(instant) = serde_json::from_value::<Timestamp>(text.into())
    {
        let quoted = serde_json::to_string(text).unwrap();
        assert_eq!(serde_json::from_str::<Instant>(&quoted).ok(), Some(Instant(instant)), "{text}");
    }
    let Ok(entry) = Entry::parse(line) else { return };
    let _ = (entry.started(), entry.tokens(), entry.name(), entry.is_operation());
    if let Ok(record) = serde_json::from_slice::<Record<'_>>(line) {
        let written = serde_json::to_string(&record).unwrap();
        let again: Record<'_> = serde_json::from_str(&written).expect("what we write we read");
        assert_eq!(serde_json::to_string(&again).unwrap(), written);
    }
    if let Ok(text) = std::str::from_utf8(line)
        && let Ok(value) = serde_json::from_str::<serde_json::Value>(text)
    {
        let clean = format::clean_json(text);
        assert!(!clean.contains(|c: char| c.is_control() && !matches!(c, '\t' | '\r')), "{clean:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&clean).ok(), Some(value));
    }
}

fn show(lines: &[&[u8]]) {
    let (select, prices) = (Select::default(), Prices::new(Some(3.0), &BTreeMap::new()));
    for width in [30, 200] {
        let terminal = Terminal { width, unicode: width > 80, zone: jiff::tz::TimeZone::UTC };
        let mut out = Vec::new();
        let mut printer = Printer::new(terminal.clone(), 3, false);
        let mut sessions = Sessions::new(&select, &prices, width > 80);
        let mut stats = Stats::new(&select, &prices, By::ServerTool);
        let mut report = Report::new(&select, &prices);
        let mut bars = Vec::new();
        for line in lines {
            printer.write(&mut out, line).unwrap();
            let Ok(entry) = Entry::parse(line) else { continue };
            sessions.take(&entry, line);
            stats.take(&entry, line);
            report.take(&entry, line);
            if entry.is_operation() && bars.len() < 300 {
                bars.push(Bar::new(&entry, 3));
            }
            if let Ok(record) = serde_json::from_slice::<Record<'_>>(line) {
                write_operation(&mut out, &terminal, &record, &entry, None, 3).unwrap();
            }
        }
        waterfall::mark_slow(&mut bars);
        waterfall::draw(&mut out, &terminal, &waterfall::turns(bars)).unwrap();
        stats.finish(Sort::Calls).write(&mut out, &terminal, 50).unwrap();
        let sessions = sessions.finish(Some(5));
        sessions::write(&mut out, &terminal, &sessions, &prices, width > 80, 3).unwrap();
        let page = page(&Data::new(report, About::default())).unwrap();
        assert!(!page.contains('\u{202e}'));
        let text = String::from_utf8(out).expect("what is shown is text");
        let own = anstream::adapter::strip_str(&text).to_string();
        let obeyed = own.chars().find(|c| {
            c.is_control() && *c != '\n'
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}')
        });
        assert_eq!(obeyed, None, "{own:?}");
    }
}
