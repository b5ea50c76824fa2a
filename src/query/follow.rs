//! Lines that are added to a folder of session logs, as they are added.
//!
//! The sizes of the files are asked for again and again, and a folder is listed after it changed. File notifications
//! differ between platforms and do not work on network file systems; the size of a file costs a microsecond.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::query::files::{Compression, LogSource, TimeWindow};
use crate::query::row::id_end;
use crate::query::scan::MAX_LINE;
use crate::record::file_name::stem_and_part;
use crate::record::timestamp::Timestamp;

/// Bytes read from one file in one round, so that a fast writer cannot delay the other files.
const ROUND: u64 = 4 << 20;
/// Rounds after which a part that cannot be read no longer holds back the later parts of its log.
const MOST_FAILURES: u32 = 10;
/// Age of a change after which the next change has another time.
const SETTLED: Duration = Duration::from_secs(2);

/// The files that are followed.
#[derive(Debug, Default)]
pub(crate) struct LogFollower {
    files: BTreeMap<PartPath, FollowedFile>,
    /// Lines of files that were last written before are not followed: they were not selected.
    since: Option<Timestamp>,
    /// When each folder had changed before it was listed. While that stays the same, it has no new file.
    listed: HashMap<PathBuf, SystemTime>,
}

/// The path of a file. The parts of one log are neighbours, in the order in which they were written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PartPath {
    /// Folder and name of the log, without the number of the part.
    log: PathBuf,
    part: u64,
    path: PathBuf,
}

impl PartPath {
    fn new(path: PathBuf) -> PartPath {
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let (stem, part) = stem_and_part(&name);
        PartPath { log: path.with_file_name(stem), part, path }
    }
}

/// How far a file has been read.
#[derive(Debug, Default)]
struct FollowedFile {
    offset: u64,
    /// The beginning of a line that is not complete yet.
    partial: Vec<u8>,
    /// True if the line is longer than a record can be, so that the rest of it is skipped.
    is_too_long: bool,
    /// Number of rounds in a row in which the file could not be read.
    failures: u32,
}

impl LogFollower {
    /// Starts at the end that each of `sources`, the logs of `window`, had when it was found.
    pub(crate) fn after(sources: &[LogSource], window: TimeWindow) -> LogFollower {
        let files = sources.iter().filter_map(|source| match source {
            LogSource::File { path, compression: Compression::Plain, size } => {
                Some((PartPath::new(path.clone()), FollowedFile { offset: *size, ..FollowedFile::default() }))
            }
            _ => None,
        });
        LogFollower { files: files.collect(), since: window.since, listed: HashMap::new() }
    }

    /// Returns true if the log of a connection is among the files. Their names have the end of its id.
    pub(crate) fn follows(&self, connection_id: &str) -> bool {
        let end = id_end(connection_id, 12);
        let names = self.files.keys().filter_map(|file| file.path.file_name()?.to_str());
        names.into_iter().any(|name| name.contains(end))
    }

    /// Calls `take` with each line that was added since the last round, with the lines of one log in their order. New
    /// files in `folders` are read from their beginning. The follower forgets a file that is gone.
    pub(crate) fn round(
        &mut self,
        folders: &[PathBuf],
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        folders.iter().for_each(|folder| self.list(folder));
        let mut gone = Vec::new();
        // A log of which a part was not read to its end. Its later parts wait for the next round.
        let mut unfinished: Option<&Path> = None;
        for (file, followed) in &mut self.files {
            if unfinished == Some(&file.log) {
                continue;
            }
            match followed.read(&file.path) {
                Ok(added) => {
                    followed.failures = 0;
                    unfinished = (added.len() as u64 == ROUND).then_some(&file.log);
                    followed.lines(&added, &mut take)?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => gone.push(file.clone()),
                // Such as too many open files. The next round reads what was added.
                Err(_) => {
                    followed.failures = followed.failures.saturating_add(1);
                    unfinished = (followed.failures < MOST_FAILURES).then_some(&file.log);
                }
            }
        }
        for file in gone {
            self.files.remove(&file);
        }
        Ok(())
    }

    /// Finds the new files of a folder, which may not exist yet.
    fn list(&mut self, folder: &Path) {
        let changed = std::fs::metadata(folder).and_then(|metadata| metadata.modified());
        if changed.as_ref().is_ok_and(|changed| self.listed.get(folder) == Some(changed)) {
            return;
        }
        let Ok(sources) = LogSource::in_dir(folder, TimeWindow::default()) else { return };
        for source in sources {
            let LogSource::File { path, compression: Compression::Plain, size } = source else { continue };
            let is_old = |path: &Path| {
                let written = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
                let written = written.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                written.zip(self.since).is_some_and(|(at, since)| (at.as_micros() as i64) < since.0)
            };
            if let Entry::Vacant(place) = self.files.entry(PartPath::new(path)) {
                let offset = if is_old(&place.key().path) { size } else { 0 };
                place.insert(FollowedFile { offset, ..FollowedFile::default() });
            }
        }
        // A folder that changed just now may change again at the same time of its file system.
        if let Ok(changed) = changed
            && changed.elapsed().is_ok_and(|age| age > SETTLED)
        {
            self.listed.insert(folder.to_owned(), changed);
        }
    }
}

impl FollowedFile {
    fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let size = std::fs::metadata(path)?.len();
        if size < self.offset {
            *self = FollowedFile::default();
        }
        let mut added = Vec::new();
        if size > self.offset {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(self.offset))?;
            file.take(ROUND).read_to_end(&mut added)?;
            self.offset += added.len() as u64;
        }
        Ok(added)
    }

    fn lines(&mut self, added: &[u8], take: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut start = 0;
        while let Some(length) = memchr::memchr(b'\n', &added[start..]) {
            let end = &added[start..start + length];
            start += length + 1;
            let mut partial = std::mem::take(&mut self.partial);
            match (std::mem::take(&mut self.is_too_long), partial.is_empty()) {
                (true, _) => {}
                (false, true) => take(end)?,
                (false, false) => {
                    partial.extend_from_slice(end);
                    take(&partial)?;
                }
            }
        }
        if !self.is_too_long {
            self.partial.extend_from_slice(&added[start..]);
        }
        if self.partial.len() > MAX_LINE {
            (self.partial, self.is_too_long) = (Vec::new(), true);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_of_old_and_new_files_are_complete() {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("old.jsonl");
        std::fs::write(&old, "before\n").unwrap();
        let sources = LogSource::in_dir(dir.path(), TimeWindow::default()).unwrap();
        let mut follower = LogFollower::after(&sources, TimeWindow::default());
        let folders = [dir.path().to_owned()];
        let mut round = || {
            let mut lines = Vec::new();
            follower
                .round(&folders, |line| {
                    lines.push(String::from_utf8(line.to_owned()).unwrap());
                    Ok(())
                })
                .unwrap();
            lines.sort();
            lines
        };
        assert!(round().is_empty());
        let mut file = std::fs::OpenOptions::new().append(true).open(&old).unwrap();
        file.write_all(b"one\ntw").unwrap();
        std::fs::write(dir.path().join("new.jsonl"), "new\n").unwrap();
        assert_eq!(round(), ["new", "one"]);
        file.write_all(b"o\n").unwrap();
        assert_eq!(round(), ["two"]);
        std::fs::write(&old, "again\n").unwrap();
        std::fs::remove_file(dir.path().join("new.jsonl")).unwrap();
        assert_eq!(round(), ["again"]);
    }

    #[test]
    fn a_part_that_stays_unreadable_holds_later_parts_of_its_log_back_for_a_moment_only() {
        let dir = tempfile::tempdir().unwrap();
        let first = dir.path().join("db-2026-11-25-0123456789ab.jsonl");
        std::fs::write(&first, "").unwrap();
        let mut follower = LogFollower::after(&[], TimeWindow::default());
        let mut lines = 0;
        let mut round = |follower: &mut LogFollower| {
            let take = |_: &[u8]| {
                lines += 1;
                Ok(())
            };
            follower.round(&[dir.path().to_owned()], take).unwrap();
            lines
        };
        round(&mut follower);
        // A folder opens and cannot be read.
        std::fs::remove_file(&first).unwrap();
        std::fs::create_dir(&first).unwrap();
        std::fs::write(dir.path().join("db-2026-11-25-0123456789ab.1.jsonl"), "later\n").unwrap();
        assert_eq!(round(&mut follower), 0);
        let last = (0..MOST_FAILURES).map(|_| round(&mut follower)).last();
        assert_eq!(last, Some(1));
    }

    #[test]
    fn the_parts_of_one_log_are_read_in_the_order_in_which_they_were_written() {
        const PARTS: usize = 12;
        let dir = tempfile::tempdir().unwrap();
        let name = |part: usize| match part {
            0 => "db-2026-11-25-0123456789ab.jsonl".to_owned(),
            part => format!("db-2026-11-25-0123456789ab.{part}.jsonl"),
        };
        let mut follower = LogFollower::after(&[], TimeWindow::default());
        let mut expected = Vec::new();
        for part in (0..PARTS).rev() {
            // The first two parts are longer than one round.
            let filler = "x".repeat(if part < 2 { ROUND as usize } else { 10 });
            std::fs::write(dir.path().join(name(part)), format!("{part} {filler}\n{part} end\n")).unwrap();
            expected.splice(..0, [part, part]);
        }
        let mut read = Vec::new();
        for _ in 0..4 {
            let take = |line: &[u8]| {
                let line = String::from_utf8(line.to_owned()).unwrap();
                read.push(line.split(' ').next().unwrap().parse::<usize>().unwrap());
                Ok(())
            };
            follower.round(&[dir.path().to_owned()], take).unwrap();
        }
        assert_eq!(read, expected);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_not_kept() {
        let mut file = FollowedFile::default();
        let mut lines = Vec::new();
        let part = vec![b'x'; MAX_LINE / 2 + 1];
        for added in [&b"one\ntw"[..], b"o\n", &part, &part, &part, b"y\nthree\n", b"fo", b"ur", b"\n"] {
            let take = |line: &[u8]| {
                lines.push(String::from_utf8(line.to_owned()).unwrap());
                Ok(())
            };
            file.lines(added, &mut { take }).unwrap();
            assert!(file.partial.len() <= MAX_LINE);
        }
        assert_eq!(lines, ["one", "two", "three", "four"]);
    }

    #[test]
    fn a_file_that_was_not_selected_is_read_from_what_is_added() {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("old.jsonl");
        std::fs::write(&old, "before\n").unwrap();
        let mut file = std::fs::OpenOptions::new().append(true).open(&old).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        let since = Timestamp(Timestamp::now().0 - 1_000_000);
        let mut follower = LogFollower::after(&[], TimeWindow { since: Some(since), until: None });
        let folders = [dir.path().to_owned()];
        let mut lines = Vec::new();
        for added in ["", "after\n"] {
            file.write_all(added.as_bytes()).unwrap();
            let take = |line: &[u8]| {
                lines.push(String::from_utf8(line.to_owned()).unwrap());
                Ok(())
            };
            follower.round(&folders, take).unwrap();
        }
        assert_eq!(lines, ["after"]);
    }
}
