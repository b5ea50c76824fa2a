//! Progress of an export: saved for the next run, and shown while it runs.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cli::selection::note;
use crate::export::otlp::settings::SignalTarget;
use crate::export::otlp::{ExportNotice, OtlpSettings};
use crate::present::format::plural;
use crate::record::words::Side;
use crate::settings::paths;
use crate::system::files::{append_private, read_limited, write_private};
use crate::system::mutex::lock;
use crate::text::hex;

/// Records that collectors have taken. A record is known by its connection and its number, in whatever file it is.
///
/// The file has one [`TakenRecords`] on each line. A run appends a line at each checkpoint, so a run that is killed
/// leaves at most an incomplete last line.
#[derive(Default)]
pub(super) struct ExportProgress {
    taken: TakenRecords,
    /// Size of the file; `None` if it has to be written anew.
    size: Option<usize>,
}

/// Numbers of records, by connection and collector.
#[derive(Default, Serialize, Deserialize)]
struct TakenRecords(BTreeMap<String, BTreeMap<String, SeqRanges>>);

/// Largest size of the saved progress, in bytes. Beyond it the oldest connections are forgotten.
const MAX_SAVED: usize = 16 << 20;

impl ExportProgress {
    fn file() -> Option<PathBuf> {
        Some(paths::state_dir()?.join("exported.json"))
    }

    /// Loads the progress of earlier runs. It is empty before the first run, and if it cannot be used.
    pub(super) fn load() -> ExportProgress {
        let Some(file) = ExportProgress::file() else { return ExportProgress::default() };
        // Two runs at the same time can make the file a little larger than each would.
        let read = read_limited(&file, 2 * MAX_SAVED as u64).and_then(|text| ExportProgress::parse(&text));
        read.unwrap_or_else(|error: io::Error| {
            if error.kind() != io::ErrorKind::NotFound {
                note(&format!(
                    "the progress in `{}` cannot be used, so every record is sent: {error}",
                    file.display()
                ));
            }
            ExportProgress::default()
        })
    }

    /// Reads the lines of the file. Without the end of its last line it is written anew.
    fn parse(text: &[u8]) -> io::Result<ExportProgress> {
        let mut taken = TakenRecords::default();
        let end = memchr::memrchr(b'\n', text).map_or(0, |last| last + 1);
        let (whole, last) = text.split_at(end);
        for line in whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            taken.merge(serde_json::from_slice(line)?);
        }
        match serde_json::from_slice(last) {
            Ok(last) => taken.merge(last),
            Err(error) if whole.is_empty() => return Err(error.into()),
            Err(_) => {}
        }
        Ok(ExportProgress { taken, size: (end == text.len()).then_some(end) })
    }

    /// Returns true if `collector` has taken this record.
    pub(super) fn has(&self, collector: &str, connection: &str, seq: u64) -> bool {
        let sent = self.taken.0.get(connection).and_then(|sent| sent.get(collector));
        sent.is_some_and(|ranges| ranges.has(seq))
    }

    /// Adds and saves the records that `collector` has taken, by connection.
    pub(super) fn add(&mut self, collector: &str, read: HashMap<String, SeqRanges>) -> anyhow::Result<()> {
        let by_collector = |ranges| BTreeMap::from([(collector.to_owned(), ranges)]);
        let read = read.into_iter().map(|(connection, ranges)| (connection, by_collector(ranges)));
        let read = TakenRecords(read.collect());
        let line = read.line()?;
        self.taken.merge(read);
        let file = ExportProgress::file().context("no home folder to save the progress in")?;
        let size = self.size.map(|size| size + line.len()).filter(|size| *size <= MAX_SAVED);
        let saved = match size {
            Some(_) => append_private(&file, &line),
            None => {
                let text = self.taken.trimmed_line()?;
                self.size = Some(text.len());
                write_private(&file, &text)
            }
        };
        self.size = size.or(self.size);
        saved.with_context(|| format!("failed to write `{}`", file.display()))
    }
}

impl TakenRecords {
    fn merge(&mut self, other: TakenRecords) {
        for (connection, sent) in other.0 {
            let known = self.0.entry(connection).or_default();
            for (collector, ranges) in sent {
                let known = known.entry(collector).or_default();
                ranges.0.into_iter().for_each(|range| known.add(range));
            }
        }
    }

    fn line(&self) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }

    /// Forgets the oldest connections until there is room for more, and returns the line of the others.
    fn trimmed_line(&mut self) -> serde_json::Result<Vec<u8>> {
        let mut line = self.line()?;
        while line.len() > MAX_SAVED / 4 * 3 {
            // Ids of connections begin with their time.
            for _ in 0..self.0.len().div_ceil(10) {
                self.0.pop_first();
            }
            line = self.line()?;
        }
        Ok(line)
    }
}

/// A set of record numbers: its first and last numbers in order, where numbers are missing between them.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct SeqRanges(Vec<(u64, u64)>);

impl SeqRanges {
    pub(super) fn has(&self, seq: u64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= seq);
        self.0[..after].last().is_some_and(|(_, last)| seq <= *last)
    }

    /// Adds the numbers from `first` to `last`.
    pub(super) fn add(&mut self, (mut first, mut last): (u64, u64)) {
        let from = self.0.partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = self.0.partition_point(|(begin, _)| *begin <= last.saturating_add(1));
        if let Some(joined) = self.0.get(from..to).filter(|joined| !joined.is_empty()) {
            first = first.min(joined[0].0);
            last = last.max(joined[joined.len() - 1].1);
        }
        self.0.splice(from..to.max(from), [(first, last)]);
    }
}

/// Returns the name of the collector in the saved progress: a hash, because an endpoint can contain credentials.
pub(super) fn collector(settings: &OtlpSettings, side: Side) -> String {
    let endpoint = |target: &Option<SignalTarget>| {
        target.as_ref().map(|target| target.endpoint.clone()).unwrap_or_default()
    };
    let what = format!("{}\n{}\n{}", endpoint(&settings.traces), endpoint(&settings.logs), side.as_str());
    hex::text(&Sha256::digest(what)[..8])
}

/// Shows the progress on stderr: on a terminal in one line that is written again and again, else in a line every ten
/// seconds.
pub(super) struct ProgressLine {
    counts: Arc<ProgressCounts>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct ProgressCounts {
    files: u64,
    files_done: AtomicU64,
    records_read: AtomicU64,
    /// Records before the last checkpoint, so at least so many are taken.
    records_taken: AtomicU64,
    /// The reason why the collector does not take a signal now, by signal.
    refusals: Mutex<BTreeMap<&'static str, &'static str>>,
    has_ended: AtomicBool,
}

impl ProgressLine {
    pub(super) fn start(files: usize) -> ProgressLine {
        let counts = Arc::new(ProgressCounts { files: files as u64, ..ProgressCounts::default() });
        let shown = Arc::clone(&counts);
        let thread = std::thread::Builder::new().spawn(move || shown.show()).ok();
        ProgressLine { counts, thread }
    }

    pub(super) fn file_done(&self) {
        self.counts.files_done.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn record_read(&self) {
        self.counts.records_read.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts records that the collector has taken.
    pub(super) fn records_taken(&self, records: u64) {
        self.counts.records_taken.fetch_add(records, Ordering::Relaxed);
    }

    /// Returns a function for notices about the collector, so that the line shows that the run waits for it.
    pub(super) fn notices(&self) -> impl Fn(&ExportNotice) + Send + Sync + use<> {
        let counts = Arc::clone(&self.counts);
        move |notice| {
            let mut refusals = lock(&counts.refusals);
            match notice {
                ExportNotice::NoAnswer { signal, reason, .. }
                | ExportNotice::NotTaken { signal, reason, .. } => {
                    refusals.insert(signal, reason);
                }
                ExportNotice::TakenAgain { signal } => drop(refusals.remove(signal)),
                _ => {}
            }
        }
    }

    /// Clears the line, and returns the number of records that were read.
    pub(super) fn end(mut self) -> u64 {
        self.counts.has_ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
        self.counts.records_read.load(Ordering::Relaxed)
    }
}

impl ProgressCounts {
    fn show(&self) {
        let is_terminal = std::io::stderr().is_terminal();
        let period = if is_terminal { Duration::from_millis(200) } else { Duration::from_secs(10) };
        let mut next = Instant::now() + period;
        while !self.has_ended.load(Ordering::Relaxed) {
            let left = next.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                std::thread::park_timeout(left);
                continue;
            }
            next += period;
            let text = self.text();
            match is_terminal {
                true => drop(write!(io::stderr(), "\r\x1b[K{text}")),
                false => note(&text),
            }
        }
        if is_terminal {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }

    fn text(&self) -> String {
        let refusals = lock(&self.refusals);
        let reason = refusals.values().next();
        format!(
            "{} of {}, {} read, {} taken by the collector{}",
            self.files_done.load(Ordering::Relaxed),
            plural(self.files, "file"),
            plural(self.records_read.load(Ordering::Relaxed), "record"),
            self.records_taken.load(Ordering::Relaxed),
            reason.map(|reason| format!("; waiting for it ({reason})")).unwrap_or_default()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_what_its_whole_lines_say_together() {
        let lines = b"{\"a\":{\"c\":[[0,3]]}}\n{\"a\":{\"c\":[[4,5]],\"d\":[[0,0]]},\"b\":{\"c\":[[1,1]]}}\n";
        let progress = ExportProgress::parse(lines).unwrap();
        assert_eq!(progress.taken.0["a"]["c"].0, [(0, 5)]);
        assert!(progress.has("d", "a", 0) && progress.has("c", "b", 1) && !progress.has("d", "b", 1));
        assert_eq!(progress.size, Some(lines.len()));
        // The run was killed while it wrote the second line.
        let torn = ExportProgress::parse(&lines[..lines.len() - 4]).unwrap();
        assert!(torn.has("c", "a", 3) && !torn.has("c", "a", 4));
        assert_eq!(torn.size, None, "nothing is appended to half a line");
        assert!(ExportProgress::parse(b"{\"a\":3}\n").is_err());
    }

    #[test]
    fn progress_that_grew_too_large_forgets_the_oldest_connections() {
        let connection = |n: u32| format!("{n:036}");
        let ranges = || BTreeMap::from([("c".to_owned(), SeqRanges(vec![(0, 9)]))]);
        let mut taken = TakenRecords((0..400_000).map(|n| (connection(n), ranges())).collect());
        let line = taken.trimmed_line().unwrap();
        assert!(line.len() < MAX_SAVED && line.len() > MAX_SAVED / 2, "{}", line.len());
        assert!(taken.0.contains_key(&connection(399_999)) && !taken.0.contains_key(&connection(0)));
    }

    #[test]
    fn a_set_of_numbers_holds_exactly_those_that_were_added_in_any_order() {
        // Every order of these ranges, each of which touches, overlaps or misses the others.
        let parts = [(0, 2), (3, 3), (5, 9), (8, 12), (14, 14), (u64::MAX, u64::MAX)];
        for start in 0..parts.len() {
            for step in [1, 5] {
                let mut ranges = SeqRanges::default();
                (0..parts.len()).for_each(|at| ranges.add(parts[(start + at * step) % parts.len()]));
                assert_eq!(ranges.0, [(0, 3), (5, 12), (14, 14), (u64::MAX, u64::MAX)]);
                let held: Vec<u64> = (0..16).filter(|seq| ranges.has(*seq)).collect();
                assert_eq!(held, [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 14]);
            }
        }
    }
}
