//! Lines that are added to a folder of session logs, as they are added.
//!
//! The folder is read again and again. File notifications differ between platforms and do not work on network
//! file systems; reading a folder costs microseconds.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use crate::query::files::{Compression, LogSource, TimeWindow};
use crate::query::row::id_end;

/// Bytes read from one file in one round, so that a fast writer cannot delay the other files.
const ROUND: u64 = 4 << 20;

/// The files that are followed, by path.
#[derive(Debug, Default)]
pub(crate) struct LogFollower {
    files: HashMap<PathBuf, FollowedFile>,
}

/// How far a file has been read.
#[derive(Debug, Default)]
struct FollowedFile {
    offset: u64,
    /// The beginning of a line that is not complete yet.
    partial: Vec<u8>,
}

impl LogFollower {
    /// Starts at the end that each of `sources` had when it was found.
    pub(crate) fn after(sources: &[LogSource]) -> LogFollower {
        let files = sources.iter().filter_map(|source| match source {
            LogSource::File { path, compression: Compression::Plain, size } => {
                Some((path.clone(), FollowedFile { offset: *size, partial: Vec::new() }))
            }
            _ => None,
        });
        LogFollower { files: files.collect() }
    }

    /// Returns true if the log of a connection is among the files. Their names have the end of its id.
    pub(crate) fn follows(&self, connection_id: &str) -> bool {
        let end = id_end(connection_id, 12);
        let names = self.files.keys().filter_map(|path| path.file_name()?.to_str());
        names.into_iter().any(|name| name.contains(end))
    }

    /// Calls `take` with each line that was added since the last round. New files in `folders` are read from their
    /// beginning. A file that cannot be read is no longer followed.
    pub(crate) fn round(
        &mut self,
        folders: &[PathBuf],
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        for folder in folders {
            // The folder may not exist yet.
            for source in LogSource::in_dir(folder, TimeWindow::default()).unwrap_or_default() {
                if let LogSource::File { path, compression: Compression::Plain, .. } = source {
                    self.files.entry(path).or_default();
                }
            }
        }
        let mut gone = Vec::new();
        for (path, file) in &mut self.files {
            match file.read(path) {
                Ok(added) if added.is_empty() => {}
                Ok(added) => file.lines(&added, &mut take)?,
                Err(_) => gone.push(path.clone()),
            }
        }
        for path in gone {
            self.files.remove(&path);
        }
        Ok(())
    }
}

impl FollowedFile {
    fn read(&mut self, path: &PathBuf) -> io::Result<Vec<u8>> {
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
        self.partial.extend_from_slice(added);
        let mut start = 0;
        while let Some(length) = memchr::memchr(b'\n', &self.partial[start..]) {
            take(&self.partial[start..start + length])?;
            start += length + 1;
        }
        self.partial.drain(..start);
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
        let mut follower = LogFollower::after(&sources);
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
}
