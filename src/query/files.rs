//! Finds the files that can hold the answer, and opens them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::record::file_name::{SessionFileName, stem_and_part, unpacked};
use crate::record::timestamp::Timestamp;
use crate::text::zstd::ZstdFrames;

/// Largest window of a zstd frame, in bytes: what the command `zstd` reads without an option.
const MAX_WINDOW: u64 = 128 << 20;

/// A file or stream of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogSource {
    File {
        path: PathBuf,
        compression: Compression,
        /// Size on disk in bytes when the file was found.
        size: u64,
    },
    /// A pipe, or `-`, which is standard input. It can be read once.
    Stream(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

impl Compression {
    fn of(path: &Path) -> Compression {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => Compression::Gzip,
            Some("zst") => Compression::Zstd,
            _ => Compression::Plain,
        }
    }
}

/// The selected time; `None` is an open end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimeWindow {
    pub(crate) since: Option<Timestamp>,
    /// The first time after the window.
    pub(crate) until: Option<Timestamp>,
}

impl TimeWindow {
    pub(crate) fn contains(&self, at: Timestamp) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }
}

impl LogSource {
    /// Returns the session logs in folder `dir` that can hold records of `window`, in the order of their names.
    ///
    /// It leaves out files begun after the window's end (the date in the name is the UTC day of the start) and
    /// files last written before its beginning.
    pub(crate) fn in_dir(dir: &Path, window: TimeWindow) -> io::Result<Vec<LogSource>> {
        LogSource::all_in_dir(dir, window).map(LogSource::once)
    }

    /// Returns the same with duplicates.
    pub(crate) fn all_in_dir(dir: &Path, window: TimeWindow) -> io::Result<Vec<LogSource>> {
        let mut sources = Vec::new();
        for file in std::fs::read_dir(dir)? {
            let path = file?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let name = unpacked(name);
            let begins_after =
                |until: Timestamp| SessionFileName::parse(name).is_some_and(|name| name.date > until.date());
            if !name.ends_with(".jsonl")
                || SessionFileName::parse_bodies(name).is_some()
                || window.until.is_some_and(begins_after)
            {
                continue;
            }
            // A file that was deleted since, or a broken link, is left out.
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            let written = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let too_old = match (window.since, written) {
                (Some(since), Some(written)) => (written.as_micros() as i64) < since.0,
                _ => false,
            };
            if metadata.is_file() && !too_old {
                sources.push(LogSource::File {
                    compression: Compression::of(&path),
                    size: metadata.len(),
                    path,
                });
            }
        }
        sources.sort_by(|a, b| a.path().cmp(&b.path()));
        Ok(sources)
    }

    /// Removes duplicates: other paths of the same file, and the packed copy of a plain log (`gzip -k` keeps both).
    /// Files with different first bytes are kept as separate logs.
    pub(crate) fn once(sources: Vec<LogSource>) -> Vec<LogSource> {
        let real = |source: &LogSource| {
            source.path().map(|path| path.canonicalize().unwrap_or_else(|_| path.to_owned()))
        };
        let is_plain =
            |source: &LogSource| matches!(source, LogSource::File { compression: Compression::Plain, .. });
        let plain: HashMap<PathBuf, LogSource> = sources
            .iter()
            .filter(|source| is_plain(source))
            .filter_map(|source| Some((real(source)?, source.clone())))
            .collect();
        let mut seen = HashSet::new();
        let mut is_first = |source: &LogSource| {
            let Some(path) = real(source) else { return true };
            let same = |other: &LogSource| other.beginning().is_some_and(|it| source.beginning() == Some(it));
            let is_copy = !is_plain(source) && plain.get(&path.with_extension("")).is_some_and(same);
            seen.insert(path) && !is_copy
        };
        sources.into_iter().filter(|source| is_first(source)).collect()
    }

    /// Returns the names of logs of which parts are missing among `sources`, with the number of these parts. If older
    /// files were left out, `has_oldest` is false, and the first parts are not missing.
    pub(crate) fn missing_parts<'a>(
        sources: impl Iterator<Item = &'a LogSource>,
        has_oldest: bool,
    ) -> BTreeMap<String, u64> {
        let mut parts: BTreeMap<PathBuf, BTreeSet<u64>> = BTreeMap::new();
        for path in sources.filter_map(LogSource::path) {
            let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
            if SessionFileName::parse(unpacked(&name)).is_some() {
                let (log, part) = stem_and_part(&name);
                parts.entry(path.with_file_name(log)).or_default().insert(part);
            }
        }
        let missing = |(log, parts): (PathBuf, BTreeSet<u64>)| {
            let first = if has_oldest { 0 } else { *parts.first()? };
            let missing = (parts.last()? - first + 1).saturating_sub(parts.len() as u64);
            (missing > 0).then(|| (format!("{}.jsonl", log.display()), missing))
        };
        parts.into_iter().filter_map(missing).collect()
    }

    /// Returns the first 128 bytes, `None` if there are fewer.
    fn beginning(&self) -> Option<Vec<u8>> {
        let mut beginning = vec![0; 128];
        self.open(0).ok()?.read_exact(&mut beginning).ok()?;
        Some(beginning)
    }

    /// Returns the file at `path`; `-` is standard input.
    pub(crate) fn named(path: &Path) -> io::Result<LogSource> {
        if is_stream(path) {
            return Ok(LogSource::Stream(path.to_owned()));
        }
        let size = std::fs::metadata(path)?.len();
        Ok(LogSource::File { compression: Compression::of(path), size, path: path.to_owned() })
    }

    /// Returns the path of a file that can be read again.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            LogSource::File { path, .. } => Some(path),
            LogSource::Stream(_) => None,
        }
    }

    pub(crate) fn name(&self) -> String {
        match self {
            LogSource::Stream(path) if path.as_os_str() == "-" => "standard input".to_owned(),
            LogSource::File { path, .. } | LogSource::Stream(path) => path.display().to_string(),
        }
    }

    /// Returns the size on disk in bytes, 0 if it is unknown.
    pub(crate) fn size(&self) -> u64 {
        match self {
            LogSource::File { size, .. } => *size,
            LogSource::Stream(_) => 0,
        }
    }

    /// Opens the source for reading. Only a plain file is read from byte `offset`.
    pub(crate) fn open(&self, offset: u64) -> io::Result<Box<dyn Read>> {
        let (path, compression) = match self {
            LogSource::Stream(path) if path.as_os_str() == "-" => return Ok(Box::new(io::stdin().lock())),
            LogSource::Stream(path) => (path, &Compression::of(path)),
            LogSource::File { path, compression, .. } => (path, compression),
        };
        let mut file = File::open(path)?;
        Ok(match compression {
            Compression::Plain => {
                if offset > 0 {
                    file.seek(SeekFrom::Start(offset))?;
                }
                Box::new(file)
            }
            // `cat a.gz b.gz` makes a file of several members, and zstd has frames in the same way.
            Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(io::BufReader::new(file))),
            Compression::Zstd => Box::new(ZstdFrames::new(io::BufReader::new(file), MAX_WINDOW, u64::MAX)),
        })
    }
}

/// Returns true for what can be read only once: standard input (`-`), and pipes such as `<(xzcat a.xz)` names.
pub(crate) fn is_stream(path: &Path) -> bool {
    let is_pipe = |metadata: std::fs::Metadata| !metadata.is_file() && !metadata.is_dir();
    path.as_os_str() == "-" || std::fs::metadata(path).is_ok_and(is_pipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_left_out_only_if_it_cannot_hold_the_selected_time() {
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
            let window = TimeWindow { since: since.map(instant), until: until.map(instant) };
            let sources = LogSource::in_dir(dir.path(), window).unwrap();
            let name = |source: &LogSource| source.path()?.file_name()?.to_str().map(str::to_owned);
            sources.iter().filter_map(name).collect()
        };
        assert_eq!(names(None, None).len(), 3);
        assert_eq!(
            names(None, Some("2026-11-24T00:00:00Z")),
            ["a-2026-11-23-0123456789ab.jsonl", "unusual.jsonl"]
        );
        assert!(names(Some("2999-01-01T00:00:00Z"), None).is_empty(), "all were last written before");
    }

    #[test]
    fn a_part_that_is_not_there_is_missing_unless_it_may_be_older() {
        let source = |name: &str| LogSource::File {
            path: Path::new("logs").join(name),
            compression: Compression::Plain,
            size: 0,
        };
        let names = ["a-2026-11-25-0123456789ab", "b-2026-11-25-0123456789ab"];
        let [a, b] = names;
        let sources = [
            source(&format!("{a}.1.jsonl.gz")),
            source(&format!("{a}.4.jsonl")),
            source(&format!("{a}.4.jsonl.gz")),
            source(&format!("{b}.jsonl")),
            source(&format!("{b}.1.jsonl")),
            source("notes.7.jsonl"),
            LogSource::Stream("-".into()),
        ];
        let name = Path::new("logs").join(format!("{a}.jsonl")).display().to_string();
        let missing = |has_oldest| LogSource::missing_parts(sources.iter(), has_oldest);
        assert_eq!(missing(true), BTreeMap::from([(name.clone(), 3)]));
        assert_eq!(missing(false), BTreeMap::from([(name, 2)]));
    }
}
