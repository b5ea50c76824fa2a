//! The files of a run: one for each UTC day, in the folder of the session logs.

use jiff::civil::Date;

use crate::collect::state::{CollectCounts, DAY_FULL, add};
use crate::export::log::{LogSettings, SessionFile};
use crate::record::Identity;
use crate::record::timestamp::Timestamp;

/// Begins the names of the files.
const NAME: &str = "collect";

/// The file of the current day.
pub(super) struct AgentFile {
    settings: LogSettings,
    /// Bytes of one day, above which records are dropped and counted.
    limit: u64,
    identity: Identity,
    warn: fn(&str),
    day: Date,
    file: SessionFile,
    size: u64,
}

impl AgentFile {
    pub(super) fn new(
        settings: LogSettings,
        limit: u64,
        connection_id: &str,
        warn: fn(&str),
        now: Timestamp,
    ) -> AgentFile {
        let connection_id = connection_id.to_owned();
        let identity = Identity { connection_id, server_name: NAME.to_owned(), ..Identity::default() };
        let file = SessionFile::of_collector(settings.clone(), identity.clone(), now, Box::new(warn));
        AgentFile { settings, limit, identity, warn, day: now.date(), file, size: 0 }
    }

    /// Appends whole lines to the file of the day `now`. Counts those that are written and those that are lost.
    pub(super) fn write(&mut self, lines: &[u8], now: Timestamp, counts: &mut CollectCounts) {
        if lines.is_empty() {
            return;
        }
        if now.date() != self.day {
            let (settings, identity) = (self.settings.clone(), self.identity.clone());
            self.file = SessionFile::of_collector(settings, identity, now, Box::new(self.warn));
            (self.day, self.size) = (now.date(), 0);
        }
        let number = memchr::memchr_iter(b'\n', lines).count() as u64;
        let was_full = self.size > self.limit;
        self.size = self.size.saturating_add(lines.len() as u64);
        if self.size > self.limit {
            if !was_full {
                (self.warn)(&format!(
                    "today's file has reached `max_session_size` ({} MiB); records are dropped and counted until \
                     midnight UTC; set a larger size to keep them",
                    self.limit >> 20
                ));
            }
            return add(&mut counts.lost, DAY_FULL, number);
        }
        let (reason, lost) = self.file.write(lines).unwrap_or(("", 0));
        counts.records += number - lost;
        add(&mut counts.lost, reason, lost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::Path;

    const LINE: &[u8] = b"{\"seq\":0}\n";

    fn file(folder: &Path, limit: u64) -> AgentFile {
        let settings = LogSettings { folder: folder.to_owned(), max_size: 64, max_total_size: None };
        let id = "01a2027b-0000-7000-8000-0123456789ab";
        AgentFile::new(settings, limit, id, |_| {}, "2026-11-29T23:59:59Z".parse().unwrap())
    }

    fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
        let name = |entry: &std::fs::DirEntry| entry.file_name().into_string().unwrap();
        entries.map(|entry| (name(&entry), std::fs::read(entry.path()).unwrap())).collect()
    }

    #[test]
    fn a_new_file_begins_at_midnight_and_a_new_part_at_the_limit_of_size() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = file(folder.path(), u64::MAX);
        let mut counts = CollectCounts::default();
        file.write(&LINE.repeat(8), "2026-11-29T23:59:59Z".parse().unwrap(), &mut counts);
        file.write(LINE, "2026-11-30T00:00:00Z".parse().unwrap(), &mut counts);
        assert_eq!((counts.records, counts.lost.len()), (9, 0));
        let expected = [
            ("collect-2026-11-29-0123456789ab.1.jsonl", LINE.repeat(2)),
            ("collect-2026-11-29-0123456789ab.jsonl", LINE.repeat(6)),
            ("collect-2026-11-30-0123456789ab.jsonl", LINE.to_vec()),
        ];
        assert_eq!(content(folder.path()), expected.map(|(name, lines)| (name.to_owned(), lines)).into());
    }

    #[test]
    fn a_day_that_is_full_and_a_folder_that_cannot_be_written_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut full = file(folder.path(), 25);
        let mut counts = CollectCounts::default();
        for _ in 0..4 {
            full.write(LINE, "2026-11-29T23:59:59Z".parse().unwrap(), &mut counts);
        }
        full.write(LINE, "2026-11-30T00:00:00Z".parse().unwrap(), &mut counts);
        assert_eq!((counts.records, counts.lost.get(DAY_FULL)), (3, Some(&2)));
        let mut counts = CollectCounts::default();
        let path = folder.path().join("file");
        std::fs::write(&path, "").unwrap();
        file(&path, 99).write(LINE, "2026-11-29T23:59:59Z".parse().unwrap(), &mut counts);
        assert_eq!((counts.records, counts.lost.values().sum()), (0, 1));
    }
}
