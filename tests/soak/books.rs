//! The contents of the log, counted while it grows. Complete parts are read and removed, so that the longest
//! session needs no more disk space than a short one.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Sums over all parts of one session's log.
#[derive(Debug, Default)]
pub struct Books {
    pub records: u64,
    /// `mcp_tool_call` and `mcp_request`.
    pub operations: u64,
    pub parts: u64,
    /// Record numbers that are missing between two records.
    pub holes: u64,
    next_seq: u64,
}

/// Returns the parts in a folder, in their order.
fn parts(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut parts: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    parts.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    parts.sort_by_key(|path| {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        stem.rsplit_once('.').and_then(|(_, part)| part.parse::<u64>().ok()).unwrap_or(0)
    });
    Ok(parts)
}

impl Books {
    fn read(&mut self, part: &Path) -> io::Result<()> {
        self.parts += 1;
        for line in BufReader::with_capacity(1 << 20, std::fs::File::open(part)?).lines() {
            let line = line?;
            self.records += 1;
            let is = |event: &str| line.contains(&format!("\"event\":\"{event}\""));
            self.operations += u64::from(is("mcp_tool_call") || is("mcp_request"));
            let seq = line.split_once("\"seq\":").map_or("", |(_, rest)| rest);
            let seq = seq.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            let seq: u64 = seq.parse().map_err(|_| io::Error::other(format!("no number: {line}")))?;
            self.holes += seq.saturating_sub(self.next_seq);
            self.next_seq = seq + 1;
        }
        std::fs::remove_file(part)
    }
}

/// Counts the records of the one session in `folder` until it is `over`.
pub fn keep(folder: &Path, over: Arc<AtomicBool>) -> JoinHandle<io::Result<Books>> {
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        let mut books = Books::default();
        loop {
            let was_over = over.load(Ordering::Acquire);
            let mut parts = parts(&folder)?;
            if !was_over {
                // The last part is still being written.
                parts.pop();
            }
            for part in parts {
                books.read(&part)?;
            }
            if was_over {
                return Ok(books);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    })
}

/// Returns the operations of a log by `error_type`. A last line that is being written does not count.
pub fn by_error(folder: &Path) -> io::Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for part in parts(folder)? {
        let bytes = std::fs::read(part)?;
        for line in bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            let line = String::from_utf8_lossy(line);
            let Some((_, rest)) = line.split_once("\"error_type\":\"") else { continue };
            let word = rest.split('"').next().unwrap_or_default();
            *counts.entry(word.to_owned()).or_default() += 1;
        }
    }
    Ok(counts)
}

/// Returns the sum in `records lost: N at PLACE (REASON), …`, or 0 without such a line.
pub fn said_lost(said: &str) -> u64 {
    let Some((_, rest)) = said.split_once("records lost: ") else { return 0 };
    let list = rest.split(';').next().unwrap_or_default();
    list.split(", ").filter_map(|part| part.split(' ').next()?.parse::<u64>().ok()).sum()
}
