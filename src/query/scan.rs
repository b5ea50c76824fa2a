//! The lines of many files, folded by several threads in constant memory.
//!
//! A plain file is cut into stretches of [`STRETCH`] bytes, so that one big file keeps all threads busy. A line
//! belongs to the stretch in which it begins. A compressed file is one stretch. The result of a [`Fold`] must not
//! depend on the order of the lines.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::query::duplicates::{AllRanges, SeenRecords, StretchSeqs};
use crate::query::entry::{EntryReader, LogEntry};
use crate::query::files::{Compression, LogSource};
use crate::query::tasks::TaskLines;

/// Bytes of a plain file that one thread takes at a time: enough to make opening the file cheap, and few enough
/// that the threads finish together.
const STRETCH: u64 = 8 << 20;
const READ: usize = 256 << 10;
/// A longer line is not a record (records end at 1 MiB); it is skipped and counted.
pub(super) const MAX_LINE: usize = 4 << 20;

/// The answer of a command, computed record by record.
pub trait Fold: Send {
    /// Returns false if the bytes of a line prove that it does not matter.
    fn wants(&self, _line: &[u8]) -> bool {
        true
    }

    /// Takes a record of a connection.
    fn take(&mut self, entry: &LogEntry<'_>, line: &[u8]);

    /// Takes the line of a record of an agent, which `spantap collect` wrote.
    fn take_of_agent(&mut self, _line: &[u8]) {}

    /// Adds the answer of another thread.
    fn merge(&mut self, other: Self);
}

/// The answer to no question, for a scan that only reads what agents reported.
impl Fold for () {
    fn wants(&self, _line: &[u8]) -> bool {
        false
    }

    fn take(&mut self, _entry: &LogEntry<'_>, _line: &[u8]) {}

    fn merge(&mut self, _other: ()) {}
}

/// Counts of what was read, and what could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScanFindings {
    pub(crate) files: u64,
    /// Bytes read, before decompression.
    pub(crate) bytes: u64,
    /// Lines that were parsed as records.
    pub(crate) records: u64,
    /// Files without a single record, by name.
    pub(crate) foreign: Vec<String>,
    /// Number of files that contain nothing.
    pub(crate) empty: u64,
    /// Lines that are not records, by file, in files that have records.
    pub(crate) unreadable: BTreeMap<String, u64>,
    /// Files with an incomplete last line: the session is still running or was killed.
    pub(crate) torn: u64,
    /// Files with records of a newer schema.
    pub(crate) newer: Vec<String>,
    /// Files that could not be read to their end, with the reason.
    pub(crate) failed: BTreeMap<String, String>,
    /// Records that are in two places, such as a log and its copy. Each counts once.
    pub(crate) duplicates: u64,
    /// The greatest `seq` of each connection among the parsed records.
    pub(crate) last_seqs: HashMap<Box<str>, u64>,
}

/// Folds all lines of `sources`, each record once. `progress` grows by the bytes that are done.
pub(crate) fn scan<F: Fold>(
    sources: &[LogSource],
    make: impl Fn() -> F + Sync,
    progress: &AtomicU64,
) -> (F, ScanFindings) {
    let is_stream = |source: &LogSource| matches!(source, LogSource::Stream(_));
    // What is in two places is known only after all was read, and a stream is read once.
    let seen = sources.iter().any(is_stream).then(|| SeenRecords::All(Mutex::default()));
    let (mut read, mut tallies) = scan_once(sources, &make, progress, seen.as_ref());
    if let (None, Some(seen)) = (seen, read.ranges.duplicates()) {
        (read, tallies) = scan_once(sources, &make, progress, Some(&seen));
    }
    let mut fold = read.fold;
    for line in read.tasks.joined() {
        if let Ok(entry) = LogEntry::parse(&line) {
            fold.take(&entry, &line);
        }
    }
    (fold, ScanFindings { last_seqs: read.ranges.last_seqs(), ..findings(sources, tallies) })
}

/// The answer of one thread, and what is settled after all threads.
struct ScanPart<F> {
    fold: F,
    tasks: TaskLines,
    ranges: AllRanges,
    reader: EntryReader,
}

/// Folds all lines, but not the records that `seen` has.
fn scan_once<F: Fold>(
    sources: &[LogSource],
    make: &(impl Fn() -> F + Sync),
    progress: &AtomicU64,
    seen: Option<&SeenRecords>,
) -> (ScanPart<F>, Vec<FileTally>) {
    let stretches = cut(sources);
    let next = AtomicUsize::new(0);
    let work = || {
        let (tasks, ranges) = (TaskLines::default(), AllRanges::default());
        let mut part = ScanPart { fold: make(), tasks, ranges, reader: EntryReader::default() };
        let mut tallies = vec![FileTally::default(); sources.len()];
        let mut buffer = Vec::new();
        while let Some(stretch) = stretches.get(next.fetch_add(1, Ordering::Relaxed)) {
            let tally = &mut tallies[stretch.source];
            if let Err(error) = read_stretch(sources, stretch, &mut buffer, &mut part, seen, tally) {
                tally.error = Some(error.to_string());
            }
            let end = stretch.end.min(sources[stretch.source].size());
            progress.fetch_add(end.saturating_sub(stretch.start), Ordering::Relaxed);
        }
        (part, tallies)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(stretches.len()).max(1);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let (mut part, mut tallies) = work();
        for other in others {
            let (other, other_tallies) =
                other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            part.fold.merge(other.fold);
            part.tasks.merge(other.tasks);
            part.ranges.merge(other.ranges);
            for (tally, other) in tallies.iter_mut().zip(other_tallies) {
                tally.add(other);
            }
        }
        (part, tallies)
    })
}

struct Stretch {
    source: usize,
    start: u64,
    /// Lines that begin here or later belong to the next stretch; `u64::MAX` for the last one.
    end: u64,
}

fn cut(sources: &[LogSource]) -> Vec<Stretch> {
    let mut stretches = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let mut start = 0;
        if let LogSource::File { compression: Compression::Plain, size, .. } = source {
            while size - start > STRETCH {
                stretches.push(Stretch { source: index, start, end: start + STRETCH });
                start += STRETCH;
            }
        }
        stretches.push(Stretch { source: index, start, end: u64::MAX });
    }
    // The end of a log comes first: after it, a command that asks for the last records skips those before.
    stretches.reverse();
    stretches
}

/// Counts of one thread for one file.
#[derive(Clone, Debug, Default)]
struct FileTally {
    records: u64,
    unreadable: u64,
    duplicates: u64,
    torn: bool,
    newer: bool,
    error: Option<String>,
}

impl FileTally {
    fn add(&mut self, other: FileTally) {
        self.records += other.records;
        self.unreadable += other.unreadable;
        self.duplicates += other.duplicates;
        self.torn |= other.torn;
        self.newer |= other.newer;
        self.error = self.error.take().or(other.error);
    }

    fn line<F: Fold>(
        &mut self,
        line: &[u8],
        complete: bool,
        part: &mut ScanPart<F>,
        ranges: &mut StretchSeqs,
        seen: Option<&SeenRecords>,
    ) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        // A line that the fold does not want is not parsed, if it looks like a record. Other lines are parsed, so
        // that they are counted as unreadable.
        let is_known = self.records + self.duplicates > 0 && looks_like_a_record(line);
        if is_known && !part.fold.wants(line) && !part.tasks.wants(line) {
            self.newer |= !line.starts_with(BEGINNING.as_bytes());
            return;
        }
        match part.reader.parse(line) {
            Ok(entry) if seen.is_some_and(|seen| seen.has(&entry)) => self.duplicates += 1,
            Ok(entry) => {
                self.records += 1;
                self.newer |= &*entry.schema != crate::record::SCHEMA;
                ranges.add(&entry);
                if entry.event.is_of_agent() {
                    part.fold.take_of_agent(line);
                } else if !part.tasks.keep(&entry, line) {
                    part.fold.take(&entry, line);
                }
            }
            Err(_) if complete => self.unreadable += 1,
            Err(_) => self.torn = true,
        }
    }
}

/// The beginning of each line that this version writes.
const BEGINNING: &str = "{\"schema\":\"spantap/1\"";

/// Returns true if a line begins and ends like a line that spantap wrote.
fn looks_like_a_record(line: &[u8]) -> bool {
    line.starts_with(b"{\"schema\":\"spantap/") && line.ends_with(b"}")
}

fn read_stretch<F: Fold>(
    sources: &[LogSource],
    stretch: &Stretch,
    buffer: &mut Vec<u8>,
    part: &mut ScanPart<F>,
    seen: Option<&SeenRecords>,
    tally: &mut FileTally,
) -> io::Result<()> {
    let mut ranges = StretchSeqs::default();
    let read = read_lines(sources, stretch, buffer, part, (seen, &mut ranges), tally);
    part.ranges.add(ranges);
    read
}

fn read_lines<F: Fold>(
    sources: &[LogSource],
    stretch: &Stretch,
    buffer: &mut Vec<u8>,
    part: &mut ScanPart<F>,
    (seen, ranges): (Option<&SeenRecords>, &mut StretchSeqs),
    tally: &mut FileTally,
) -> io::Result<()> {
    // Reading begins one byte earlier: if that byte is a newline, the first line belongs to this stretch.
    let from = stretch.start.saturating_sub(1);
    let mut lines = LineReader::new(sources[stretch.source].open(from)?, buffer, from);
    if stretch.start > 0 {
        lines.skip_line(stretch.end)?;
    }
    while lines.position() < stretch.end {
        match lines.next()? {
            LogLine::Whole(line) => tally.line(line, true, part, ranges, seen),
            LogLine::Last(line) => tally.line(line, false, part, ranges, seen),
            LogLine::TooLong => tally.unreadable += 1,
            LogLine::End => break,
        }
    }
    Ok(())
}

fn findings(sources: &[LogSource], tallies: Vec<FileTally>) -> ScanFindings {
    let mut findings = ScanFindings { files: sources.len() as u64, ..ScanFindings::default() };
    for (source, tally) in sources.iter().zip(tallies) {
        let name = source.name();
        findings.bytes += source.size();
        findings.records += tally.records;
        findings.duplicates += tally.duplicates;
        // A file of copies is a log, too.
        let records = tally.records + tally.duplicates;
        findings.torn += u64::from(tally.torn && records > 0);
        if tally.newer {
            findings.newer.push(name.clone());
        }
        findings.empty +=
            u64::from(records == 0 && tally.unreadable == 0 && !tally.torn && tally.error.is_none());
        if records == 0 && (tally.unreadable > 0 || tally.torn) {
            findings.foreign.push(name.clone());
        } else if tally.unreadable > 0 {
            findings.unreadable.insert(name.clone(), tally.unreadable);
        }
        if let Some(error) = tally.error {
            findings.failed.insert(name, error);
        }
    }
    findings
}

pub enum LogLine<'a> {
    /// Ended by a newline, which is not part of it.
    Whole(&'a [u8]),
    /// The bytes after the last newline.
    Last(&'a [u8]),
    /// Longer than any record.
    TooLong,
    End,
}

/// Cuts a stream into lines without copying them.
pub struct LineReader<'b, R> {
    input: R,
    buffer: &'b mut Vec<u8>,
    /// Start of the next line in `buffer`.
    start: usize,
    /// Bytes of `buffer` that hold data.
    filled: usize,
    /// Offset of the next line in the stream, in bytes.
    position: u64,
    ended: bool,
}

impl<'b, R: Read> LineReader<'b, R> {
    /// `position` is the offset of the stream's next byte.
    pub fn new(input: R, buffer: &'b mut Vec<u8>, position: u64) -> LineReader<'b, R> {
        LineReader { input, buffer, start: 0, filled: 0, position, ended: false }
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    #[expect(clippy::should_implement_trait, reason = "a line borrows from the reader")]
    pub fn next(&mut self) -> io::Result<LogLine<'_>> {
        let mut searched = self.start;
        let mut skipped = false;
        loop {
            if let Some(found) = memchr::memchr(b'\n', &self.buffer[searched..self.filled]) {
                let (from, to) = (self.start, searched + found);
                self.start = to + 1;
                self.position += (to + 1 - from) as u64;
                return Ok(if skipped { LogLine::TooLong } else { LogLine::Whole(&self.buffer[from..to]) });
            }
            if self.filled - self.start > MAX_LINE {
                self.position += (self.filled - self.start) as u64;
                self.start = self.filled;
                skipped = true;
            }
            searched = self.filled - self.start;
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.filled, 0);
                self.filled = searched;
                self.start = 0;
            }
            if self.ended || !self.fill()? {
                self.ended = true;
                let rest = std::mem::take(&mut self.filled);
                self.position += rest as u64;
                return Ok(match rest {
                    _ if skipped => LogLine::TooLong,
                    0 => LogLine::End,
                    _ => LogLine::Last(&self.buffer[..rest]),
                });
            }
        }
    }

    /// Passes over the rest of a line. Ends earlier, at `limit` or some bytes after it, if the line is longer: a file
    /// of one line is not read to its end for each of its stretches.
    fn skip_line(&mut self, limit: u64) -> io::Result<()> {
        loop {
            let rest = &self.buffer[self.start..self.filled];
            let newline = memchr::memchr(b'\n', rest);
            let passed = newline.map_or(rest.len(), |at| at + 1);
            self.position += passed as u64;
            self.start += passed;
            if newline.is_some() || self.position >= limit {
                return Ok(());
            }
            (self.start, self.filled) = (0, 0);
            if !self.fill()? {
                self.ended = true;
                return Ok(());
            }
        }
    }

    fn fill(&mut self) -> io::Result<bool> {
        if self.buffer.is_empty() {
            // The system gives zeroed pages when they are first used: a short file uses few.
            *self.buffer = vec![0; READ];
        } else if self.buffer.len() < self.filled + READ {
            self.buffer.resize(self.filled + READ, 0);
        }
        loop {
            match self.input.read(&mut self.buffer[self.filled..]) {
                Ok(count) => {
                    self.filled += count;
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[derive(Default)]
    struct Seqs(Vec<u64>);

    impl Fold for Seqs {
        fn take(&mut self, entry: &LogEntry<'_>, _line: &[u8]) {
            self.0.push(entry.seq);
        }

        fn merge(&mut self, other: Seqs) {
            self.0.extend(other.0);
        }
    }

    /// A fold that wants no line.
    struct Nothing;

    impl Fold for Nothing {
        fn wants(&self, _line: &[u8]) -> bool {
            false
        }

        fn take(&mut self, _entry: &LogEntry<'_>, _line: &[u8]) {}

        fn merge(&mut self, _other: Nothing) {}
    }

    fn line(seq: u64, filler: usize) -> String {
        format!("{{\"schema\":\"spantap/1\",\"seq\":{seq},\"message\":\"{}\"}}\n", "x".repeat(filler))
    }

    fn read(files: &[(&str, &[u8])]) -> (Vec<u64>, ScanFindings) {
        let dir = tempfile::tempdir().unwrap();
        let sources: Vec<LogSource> = files
            .iter()
            .map(|(name, bytes)| {
                let path = dir.path().join(name);
                std::fs::write(&path, bytes).unwrap();
                LogSource::named(&path).unwrap()
            })
            .collect();
        let (mut seqs, findings) = scan(&sources, Seqs::default, &AtomicU64::new(0));
        seqs.0.sort_unstable();
        (seqs.0, findings)
    }

    #[test]
    fn every_line_of_a_cut_file_is_read_once() {
        let text: String = (0..9_000).map(|seq| line(seq, 2_000 + (seq as usize * 7919) % 900)).collect();
        assert!(text.len() as u64 > 2 * STRETCH);
        let (seqs, findings) = read(&[("a.jsonl", text.as_bytes())]);
        assert_eq!(seqs, (0..9_000).collect::<Vec<_>>());
        assert_eq!(findings.records, 9_000);
    }

    #[test]
    fn progress_ends_at_the_size_of_all_files() {
        let dir = tempfile::tempdir().unwrap();
        let sizes = [0, 10, STRETCH as usize + 1, 3 * STRETCH as usize];
        let sources: Vec<LogSource> = sizes
            .iter()
            .map(|size| {
                let path = dir.path().join(format!("{size}.jsonl"));
                std::fs::write(&path, vec![b'\n'; *size]).unwrap();
                LogSource::named(&path).unwrap()
            })
            .collect();
        let progress = AtomicU64::new(0);
        scan(&sources, Seqs::default, &progress);
        assert_eq!(progress.into_inner(), sizes.iter().sum::<usize>() as u64);
    }

    #[test]
    fn a_line_that_is_not_a_record_is_counted_even_if_the_fold_wants_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, format!("{}broken\n{}", line(1, 0), line(2, 0))).unwrap();
        let (_, findings) = scan(&[LogSource::named(&path).unwrap()], || Nothing, &AtomicU64::new(0));
        assert_eq!(findings.unreadable.values().copied().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_line_of_a_newer_version_is_noticed_even_if_the_fold_wants_no_line() {
        assert!(BEGINNING.contains(&format!("\"{}\"", crate::record::SCHEMA)));
        let newer = |schema: &str| line(2, 0).replace("spantap/1", schema);
        for (schema, is_newer) in [("spantap/1", false), ("spantap/2", true), ("spantap/10", true)] {
            let text = line(1, 0) + &newer(schema);
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.jsonl");
            std::fs::write(&path, text).unwrap();
            let (_, findings) = scan(&[LogSource::named(&path).unwrap()], || Nothing, &AtomicU64::new(0));
            assert_eq!(findings.newer.len(), usize::from(is_newer), "{schema}");
        }
    }

    #[test]
    fn a_cut_at_a_line_break_neither_loses_nor_doubles_a_line() {
        let empty = line(0, 0).len();
        let first = line(0, STRETCH as usize / 4 - empty);
        assert_eq!(first.len() as u64, STRETCH / 4);
        let text: String = (0..9).map(|seq| line(seq, STRETCH as usize / 4 - empty)).collect();
        assert_eq!(read(&[("a.jsonl", text.as_bytes())]).0, (0..9).collect::<Vec<_>>());
    }

    #[test]
    fn records_after_many_broken_lines_are_read_in_each_part_of_a_file() {
        let size = STRETCH as usize / 4;
        let empty = line(0, 0).len();
        let broken = "broken\n".repeat(1500);
        let text: String = (0..9).map(|seq| broken.clone() + &line(seq, size - empty)).collect();
        let (seqs, findings) = read(&[("a.jsonl", text.as_bytes())]);
        assert_eq!(seqs, (0..9).collect::<Vec<_>>());
        assert_eq!(findings.unreadable.values().copied().collect::<Vec<_>>(), [9 * 1500]);
    }

    #[test]
    fn a_line_of_many_stretches_is_passed_over_only_to_the_end_of_the_own_stretch() {
        let (mut buffer, bytes) = (Vec::new(), vec![b'x'; 4 * READ]);
        let mut lines = LineReader::new(&bytes[..], &mut buffer, 0);
        lines.skip_line(READ as u64 + 1).unwrap();
        assert_eq!(lines.position(), 2 * READ as u64);
    }

    #[test]
    fn packed_files_are_read_like_plain_ones() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(line(1, 5).as_bytes()).unwrap();
        let mut packed = gzip.finish().unwrap();
        packed.extend_from_within(..); // a second member
        let frame = |seq| {
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            ruzstd::encoding::compress_to_vec(line(seq, 5).as_bytes(), level)
        };
        let zstd = [frame(2), frame(3)].concat();
        let (seqs, findings) = read(&[("a.jsonl.gz", &packed), ("b.jsonl.zst", &zstd)]);
        assert_eq!(seqs, [1, 1, 2, 3]);
        assert_eq!(findings.failed, BTreeMap::new());
    }

    #[test]
    fn lines_that_cannot_be_read_are_counted_and_named() {
        let torn = format!("{}{}", line(1, 0), &line(2, 50)[..40]);
        let broken = format!("{}not json\n\n{}", line(3, 0), line(4, 0));
        let newer = line(5, 0).replace("spantap/1", "spantap/9");
        let complete_without_newline = line(6, 0);
        let long = format!("{}{}", line(7, MAX_LINE + READ), line(8, 0));
        let (seqs, findings) = read(&[
            ("torn.jsonl", torn.as_bytes()),
            ("broken.jsonl", broken.as_bytes()),
            ("newer.jsonl", newer.as_bytes()),
            ("whole.jsonl", complete_without_newline.trim_end().as_bytes()),
            ("foreign.jsonl", b"{\"level\":30,\"msg\":\"pino\"}\nhello\n"),
            ("long.jsonl", long.as_bytes()),
            ("bad.jsonl.gz", b"this is not gzip"),
            ("empty.jsonl", b""),
        ]);
        assert_eq!(seqs, [1, 3, 4, 5, 6, 8]);
        let ends = |names: &[String], end: &str| names.len() == 1 && names[0].ends_with(end);
        assert_eq!(findings.torn, 1);
        assert!(ends(&findings.foreign, "foreign.jsonl"), "{:?}", findings.foreign);
        assert!(ends(&findings.newer, "newer.jsonl"), "{:?}", findings.newer);
        assert_eq!(findings.unreadable.values().copied().collect::<Vec<_>>(), [1, 1]);
        assert!(findings.failed.keys().all(|name| name.ends_with("bad.jsonl.gz")));
        assert_eq!(findings.failed.len(), 1);
    }
}
