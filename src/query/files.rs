//! Which files can hold the answer, and how to open them.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::record::timestamp::Timestamp;

/// Something that records can be read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    File {
        path: PathBuf,
        packing: Packing,
        /// Size on disk when it was found, in bytes.
        size: u64,
    },
    Stdin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    fn of(path: &Path) -> Packing {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => Packing::Gzip,
            Some("zst") => Packing::Zstd,
            _ => Packing::Plain,
        }
    }
}

/// The instants that the answer is about; an open end is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    pub since: Option<Timestamp>,
    /// The first instant that no longer counts.
    pub until: Option<Timestamp>,
}

impl Window {
    pub fn contains(&self, at: Timestamp) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }
}

impl Source {
    /// The session logs in folder `dir` that can hold records of `window`, in the order of their
    /// names: those not begun after its end (the date in the name is the UTC day of the start) and
    /// not last written before its beginning.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn in_dir(dir: &Path, window: Window) -> io::Result<Vec<Source>> {
        Source::all_in_dir(dir, window).map(Source::once)
    }

    /// The same with all that is there twice.
    ///
    /// # Errors
    /// As there.
    pub fn all_in_dir(dir: &Path, window: Window) -> io::Result<Vec<Source>> {
        let mut sources = Vec::new();
        for file in std::fs::read_dir(dir)? {
            let path = file?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let stem = name.trim_end_matches(".gz").trim_end_matches(".zst");
            if !stem.ends_with(".jsonl") || begins_after(stem, window.until) {
                continue;
            }
            // A file that is gone by now, or a broken link, holds nothing.
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            let written = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let too_old = match (window.since, written) {
                (Some(since), Some(written)) => (written.as_micros() as i64) < since.0,
                _ => false,
            };
            if metadata.is_file() && !too_old {
                sources.push(Source::File { packing: Packing::of(&path), size: metadata.len(), path });
            }
        }
        sources.sort_by(|a, b| a.path().cmp(&b.path()));
        Ok(sources)
    }

    /// Each of `sources` once, by whatever path, and a log that is there packed and unpacked (`gzip -k` leaves
    /// it where it was) unpacked. Two that begin otherwise are two.
    pub fn once(sources: Vec<Source>) -> Vec<Source> {
        let real = |source: &Source| {
            source.path().map(|path| path.canonicalize().unwrap_or_else(|_| path.to_owned()))
        };
        let is_plain = |source: &Source| matches!(source, Source::File { packing: Packing::Plain, .. });
        let plain: HashMap<PathBuf, Source> = sources
            .iter()
            .filter(|source| is_plain(source))
            .filter_map(|source| Some((real(source)?, source.clone())))
            .collect();
        let mut seen = HashSet::new();
        let mut is_first = |source: &Source| {
            let Some(path) = real(source) else { return true };
            let same = |other: &Source| other.beginning().is_some_and(|it| source.beginning() == Some(it));
            let is_copy = !is_plain(source) && plain.get(&path.with_extension("")).is_some_and(same);
            seen.insert(path) && !is_copy
        };
        sources.into_iter().filter(|source| is_first(source)).collect()
    }

    /// What it begins with, if that much is there.
    fn beginning(&self) -> Option<Vec<u8>> {
        let mut beginning = vec![0; 128];
        self.open(0).ok()?.read_exact(&mut beginning).ok()?;
        Some(beginning)
    }

    /// One file that was named, `-` for standard input.
    ///
    /// # Errors
    /// The file does not exist or cannot be looked at.
    pub fn named(path: &Path) -> io::Result<Source> {
        if path.as_os_str() == "-" {
            return Ok(Source::Stdin);
        }
        let size = std::fs::metadata(path)?.len();
        Ok(Source::File { packing: Packing::of(path), size, path: path.to_owned() })
    }

    pub fn path(&self) -> Option<&Path> {
        match self {
            Source::File { path, .. } => Some(path),
            Source::Stdin => None,
        }
    }

    /// What to call it in a message.
    pub fn name(&self) -> String {
        match self {
            Source::File { path, .. } => path.display().to_string(),
            Source::Stdin => "standard input".to_owned(),
        }
    }

    /// Size on disk in bytes; 0 where it is not known.
    pub fn size(&self) -> u64 {
        match self {
            Source::File { size, .. } => *size,
            Source::Stdin => 0,
        }
    }

    /// Opens it for reading from byte `offset`, which only a plain file can have.
    ///
    /// # Errors
    /// It cannot be opened, or is not packed as its name says.
    pub fn open(&self, offset: u64) -> io::Result<Box<dyn Read>> {
        let Source::File { path, packing, .. } = self else { return Ok(Box::new(io::stdin().lock())) };
        let mut file = File::open(path)?;
        Ok(match packing {
            Packing::Plain => {
                if offset > 0 {
                    file.seek(SeekFrom::Start(offset))?;
                }
                Box::new(file)
            }
            // Members one after the other are what `cat a.gz b.gz` gives.
            Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(io::BufReader::new(file))),
            Packing::Zstd => Box::new(
                ruzstd::decoding::StreamingDecoder::new(io::BufReader::new(file))
                    .map_err(io::Error::other)?,
            ),
        })
    }
}

/// Whether the date in `…-YYYY-MM-DD-<12 hex>[.N].jsonl` is after the day of `until`.
fn begins_after(stem: &str, until: Option<Timestamp>) -> bool {
    let Some(until) = until else { return false };
    let Some(date) = date_in_name(stem) else { return false };
    date > until.date()
}

fn date_in_name(stem: &str) -> Option<(i64, u32, u32)> {
    let (name, _) = stem.split_once(".jsonl").unwrap_or((stem, ""));
    let name = match name.rsplit_once('.') {
        Some((name, part)) if part.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => name,
    };
    let mut parts = name.rsplitn(5, '-');
    let id = parts.next()?;
    if id.len() != 12 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let of_length = |text: &str, length: usize| text.len() == length;
    if !of_length(day, 2) || !of_length(month, 2) || !of_length(year, 4) {
        return None;
    }
    Some((year.parse().ok()?, month.parse().ok()?, day.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_of_the_start_stands_in_the_name() {
        assert_eq!(date_in_name("git-hub-2026-11-24-0123456789ab.jsonl"), Some((2026, 11, 24)));
        assert_eq!(date_in_name("git-hub-2026-11-24-0123456789ab.12.jsonl"), Some((2026, 11, 24)));
        for other in ["notes.jsonl", "x-2026-11-24.jsonl", "x-26-11-24-0123456789ab.jsonl", "é-–-.jsonl"] {
            assert_eq!(date_in_name(other), None, "{other}");
        }
    }

    #[test]
    fn a_file_is_left_out_only_when_it_cannot_hold_the_time_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "a-2026-11-23-0123456789ab.jsonl",
            "a-2026-11-25-0123456789ab.jsonl.gz",
            "unusual.jsonl",
            "readme.txt",
        ] {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        let names = |since: Option<&str>, until: Option<&str>| -> Vec<String> {
            let instant = |text: &str| text.parse().unwrap();
            let window = Window { since: since.map(instant), until: until.map(instant) };
            let sources = Source::in_dir(dir.path(), window).unwrap();
            let name = |source: &Source| source.path()?.file_name()?.to_str().map(str::to_owned);
            sources.iter().filter_map(name).collect()
        };
        assert_eq!(names(None, None).len(), 3);
        assert_eq!(
            names(None, Some("2026-11-24T00:00:00Z")),
            ["a-2026-11-23-0123456789ab.jsonl", "unusual.jsonl"]
        );
        assert!(names(Some("2999-01-01T00:00:00Z"), None).is_empty(), "all were last written before");
    }
}
