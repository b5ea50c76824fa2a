//! Lines that are added to a folder of session logs, as they are added.
//!
//! By looking again rather than by file notifications: those differ on every platform and say nothing
//! on network file systems, and a look at a folder costs microseconds.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use crate::query::files::{Packing, Source, Window};

/// Bytes read from one file in one round, so that a fast writer cannot starve the others.
const ROUND: u64 = 4 << 20;

/// Where each file was left.
#[derive(Debug, Default)]
pub struct Follower {
    places: HashMap<PathBuf, Place>,
}

#[derive(Debug, Default)]
struct Place {
    offset: u64,
    /// A line whose end has not been written yet.
    partial: Vec<u8>,
}

impl Follower {
    /// Starts where each of `sources` ended when it was found.
    pub fn after(sources: &[Source]) -> Follower {
        let places = sources.iter().filter_map(|source| match source {
            Source::File { path, packing: Packing::Plain, size } => {
                Some((path.clone(), Place { offset: *size, partial: Vec::new() }))
            }
            _ => None,
        });
        Follower { places: places.collect() }
    }

    /// What was added since the last round, line by line. New files in `folders` are read from their
    /// beginning.
    ///
    /// # Errors
    /// None of a single file (it may be gone), those of `take`.
    pub fn round(
        &mut self,
        folders: &[PathBuf],
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        for folder in folders {
            // A folder that does not exist yet is one where nothing has happened yet.
            for source in Source::in_dir(folder, Window::default()).unwrap_or_default() {
                if let Source::File { path, packing: Packing::Plain, .. } = source {
                    self.places.entry(path).or_default();
                }
            }
        }
        let mut gone = Vec::new();
        for (path, place) in &mut self.places {
            match place.read(path) {
                Ok(added) if added.is_empty() => {}
                Ok(added) => place.lines(&added, &mut take)?,
                Err(_) => gone.push(path.clone()),
            }
        }
        for path in gone {
            self.places.remove(&path);
        }
        Ok(())
    }
}

impl Place {
    fn read(&mut self, path: &PathBuf) -> io::Result<Vec<u8>> {
        let size = std::fs::metadata(path)?.len();
        if size < self.offset {
            *self = Place::default();
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
    fn lines_come_whole_from_old_files_and_new_ones() {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("old.jsonl");
        std::fs::write(&old, "before\n").unwrap();
        let sources = Source::in_dir(dir.path(), Window::default()).unwrap();
        let mut follower = Follower::after(&sources);
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
