//! Counts a record once although it is in several places, such as a log and its copy. Its connection and `seq` identify
//! a record.
//!
//! A scan remembers which numbers of each connection each stretch has. Only if two of them overlap the files are
//! read again, and the numbers of those connections are kept.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::query::entry::LogEntry;
use crate::system::mutex::lock;

/// The least and greatest number of each connection in one stretch of a file.
#[derive(Debug, Default)]
pub(super) struct StretchSeqs {
    /// The connection of the last record, which most records repeat.
    last: Box<str>,
    range: Option<(u64, u64)>,
    ranges: HashMap<Box<str>, (u64, u64)>,
    /// Connections with a record after one with the same or a greater number.
    unordered: Vec<Box<str>>,
}

impl StretchSeqs {
    pub(super) fn add(&mut self, entry: &LogEntry<'_>) {
        if *self.last != *entry.connection_id {
            self.flush();
            self.last = (&*entry.connection_id).into();
            self.range = self.ranges.remove(&self.last);
        }
        let seq = entry.seq;
        self.range = Some(match self.range {
            None => (seq, seq),
            Some((first, last)) => {
                if seq <= last && self.unordered.last() != Some(&self.last) {
                    self.unordered.push(self.last.clone());
                }
                (first.min(seq), last.max(seq))
            }
        });
    }

    fn flush(&mut self) {
        if let Some(range) = self.range.take() {
            self.ranges.insert(std::mem::take(&mut self.last), range);
        }
    }
}

/// The numbers of all connections in all stretches.
#[derive(Debug, Default)]
pub(super) struct AllRanges {
    ranges: HashMap<Box<str>, Vec<(u64, u64)>>,
    unordered: Vec<Box<str>>,
}

impl AllRanges {
    pub(super) fn add(&mut self, mut stretch: StretchSeqs) {
        stretch.flush();
        // A record without a connection is not known to be the same as another.
        stretch.ranges.remove("");
        for (connection, range) in stretch.ranges {
            self.ranges.entry(connection).or_default().push(range);
        }
        self.unordered.extend(stretch.unordered.into_iter().filter(|connection| !connection.is_empty()));
    }

    pub(super) fn merge(&mut self, other: AllRanges) {
        for (connection, ranges) in other.ranges {
            self.ranges.entry(connection).or_default().extend(ranges);
        }
        self.unordered.extend(other.unordered);
    }

    /// Returns the connections of which a record may be in two places; `None` without one.
    pub(super) fn duplicates(&mut self) -> Option<SeenRecords> {
        let mut duplicates: HashMap<Box<str>, _> = HashMap::new();
        for (connection, ranges) in &mut self.ranges {
            ranges.sort_unstable();
            if ranges.windows(2).any(|pair| pair[1].0 <= pair[0].1) {
                duplicates.insert(connection.clone(), Mutex::default());
            }
        }
        duplicates.extend(self.unordered.drain(..).map(|connection| (connection, Mutex::default())));
        (!duplicates.is_empty()).then_some(SeenRecords::Of(duplicates))
    }

    /// Returns the greatest number of each connection.
    pub(super) fn last_seqs(self) -> HashMap<Box<str>, u64> {
        let last =
            |ranges: Vec<(u64, u64)>| ranges.into_iter().map(|(_, last)| last).max().unwrap_or_default();
        self.ranges.into_iter().map(|(connection, ranges)| (connection, last(ranges))).collect()
    }
}

/// A set of numbers that are close together: bits in blocks of 64.
#[derive(Debug, Default)]
pub(super) struct SeqSet(HashMap<u64, u64>);

impl SeqSet {
    /// Adds a number. Returns true if it is new.
    fn insert(&mut self, seq: u64) -> bool {
        let block = self.0.entry(seq >> 6).or_default();
        let bit = 1 << (seq & 63);
        let is_new = *block & bit == 0;
        *block |= bit;
        is_new
    }
}

/// The records that were taken, of the connections that may be in two places.
#[derive(Debug)]
pub(super) enum SeenRecords {
    Of(HashMap<Box<str>, Mutex<SeqSet>>),
    /// Of every connection: a stream cannot be read again.
    All(Mutex<HashMap<Box<str>, SeqSet>>),
}

impl SeenRecords {
    /// Returns true if the record was taken before.
    pub(super) fn has(&self, entry: &LogEntry<'_>) -> bool {
        if entry.connection_id.is_empty() {
            return false;
        }
        match self {
            SeenRecords::Of(connections) => {
                connections.get(&*entry.connection_id).is_some_and(|seen| !lock(seen).insert(entry.seq))
            }
            SeenRecords::All(connections) => {
                let mut connections = lock(connections);
                match connections.get_mut(&*entry.connection_id) {
                    Some(seen) => !seen.insert(entry.seq),
                    None => {
                        let seen = connections.entry((&*entry.connection_id).into()).or_default();
                        !seen.insert(entry.seq)
                    }
                }
            }
        }
    }
}

/// The records that come after a scan. A copy of a log that appears in the folder has none.
#[derive(Debug)]
pub(crate) struct NewRecords {
    /// The greatest number of each connection in the scan.
    before: HashMap<Box<str>, u64>,
    taken: SeenRecords,
}

impl NewRecords {
    pub(crate) fn after(before: HashMap<Box<str>, u64>) -> NewRecords {
        NewRecords { before, taken: SeenRecords::All(Mutex::default()) }
    }

    /// Returns true if the record is new. The lines of two parts of a log may come in any order.
    pub(crate) fn takes(&self, entry: &LogEntry<'_>) -> bool {
        self.before.get(&*entry.connection_id).is_none_or(|last| entry.seq > *last) && !self.taken.has(entry)
    }
}
