//! Progress of an export: saved for the next run, and shown on the terminal.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cli::selection::note;
use crate::export::otlp::OtlpSettings;
use crate::export::otlp::settings::SignalTarget;
use crate::present::Printable;
use crate::query::files::LogSource;
use crate::record::words::Side;
use crate::settings::paths;
use crate::system::files::{read_limited, write_private};
use crate::text::hex;

/// Records that collectors have taken, by connection and collector. A record is known by its connection and its
/// number, in whatever file it is.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct ExportProgress(BTreeMap<String, BTreeMap<String, SeqRanges>>);

/// Largest size of the saved progress, in bytes. Beyond it the oldest connections are forgotten.
const MAX_SAVED: usize = 16 << 20;

impl ExportProgress {
    fn file() -> Option<PathBuf> {
        Some(paths::state_dir()?.join("exported.json"))
    }

    /// Loads the progress of earlier runs. It is empty before the first run, and if it cannot be used.
    pub(super) fn load() -> ExportProgress {
        let Some(file) = ExportProgress::file() else { return ExportProgress::default() };
        let read = read_limited(&file, MAX_SAVED as u64).and_then(|text| Ok(serde_json::from_slice(&text)?));
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

    /// Returns true if `collector` has taken this record.
    pub(super) fn has(&self, collector: &str, connection: &str, seq: u64) -> bool {
        self.0.get(connection).and_then(|sent| sent.get(collector)).is_some_and(|ranges| ranges.has(seq))
    }

    pub(super) fn add(&mut self, collector: &str, connection: &str, ranges: &SeqRanges) {
        let sent = self.0.entry(connection.to_owned()).or_default().entry(collector.to_owned()).or_default();
        ranges.0.iter().for_each(|range| sent.add(*range));
    }

    pub(super) fn save(&mut self) -> anyhow::Result<()> {
        let file = ExportProgress::file().context("no home folder to save the progress in")?;
        let mut text = serde_json::to_vec(self)?;
        while text.len() > MAX_SAVED {
            // Ids of connections begin with their time.
            for _ in 0..self.0.len().div_ceil(10) {
                self.0.pop_first();
            }
            text = serde_json::to_vec(self)?;
        }
        write_private(&file, &text).with_context(|| format!("failed to write `{}`", file.display()))
    }
}

/// A set of record numbers: its first and last numbers in order, where numbers are missing between them.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct SeqRanges(Vec<(u64, u64)>);

impl SeqRanges {
    fn has(&self, seq: u64) -> bool {
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

/// Progress line on stderr, if stderr is a terminal.
pub(super) struct ProgressLine {
    files: usize,
    is_terminal: bool,
}

impl ProgressLine {
    pub(super) fn new(files: usize) -> ProgressLine {
        ProgressLine { files, is_terminal: std::io::stderr().is_terminal() }
    }

    pub(super) fn show(&self, file: usize, source: &LogSource, records: u64) {
        if self.is_terminal {
            let name = Printable::new(&source.name());
            let name = name.rsplit('/').next().unwrap_or_default();
            let text = format!("\r\x1b[K{}/{} {name}, {records} records sent", file + 1, self.files);
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.is_terminal {
            let _ = std::io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
