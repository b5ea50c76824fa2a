//! Reads one session: its operations, and the ends and alarms of its connections.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::query::entry::LogEntry;
use crate::query::event::{last_words, unexpected_end, was_lost_with_server};
use crate::query::name_pool::NamePool;
use crate::query::row::OperationRow;
use crate::query::scan::Fold;
use crate::query::select::Selection;
use crate::query::time_spent::is_greeting;
use crate::query::why::agent::AgentStory;
use crate::record::EventName;
use crate::record::timestamp::Timestamp;
use crate::record::words::{Direction, EndReason, Status};

/// One session, in the order of time once it is [settled](StoryReader::settle).
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) session_id: String,
    pub(crate) rows: Vec<OperationRow>,
    /// The operations of the session that are not selected.
    others: Vec<OperationRow>,
    pub(super) ends: Vec<EndRow>,
    pub(super) repeats: Vec<RepeatRow>,
    /// By connection, whatever times and operations are selected.
    pub(super) records: HashMap<Arc<str>, ReadRecords>,
    /// True if only some of the operations are selected by how they ended.
    pub(super) is_narrowed: bool,
    /// True if bytes or records of the session were lost.
    pub(crate) is_lossy: bool,
    pub(crate) agent: AgentStory,
}

impl Story {
    /// Returns all operations of the session, by time: the time between selected ones is not silent.
    pub(super) fn all_rows(&self) -> Cow<'_, [OperationRow]> {
        if self.others.is_empty() {
            return Cow::Borrowed(&self.rows);
        }
        let mut rows = [&self.rows[..], &self.others].concat();
        rows.sort_by(|a, b| a.order().cmp(&b.order()));
        Cow::Owned(rows)
    }
}

/// The records of one connection that were read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReadRecords {
    count: u64,
    last_seq: u64,
    has_start: bool,
    has_gap: bool,
    /// True if the server answered a handshake or a call.
    has_answer: bool,
    /// Number of requests that the server left without an answer.
    pub(super) lost_with_server: u64,
}

impl ReadRecords {
    fn add(&mut self, entry: &LogEntry<'_>) {
        self.count += 1;
        self.last_seq = self.last_seq.max(entry.seq);
        self.has_start |= entry.event == EventName::SessionStarted;
        self.has_gap |= entry.event == EventName::Gap;
        self.has_answer |= entry.status == Status::Ok
            && entry.direction != Some(Direction::ServerToClient)
            && (entry.event == EventName::McpToolCall || is_greeting(&entry.method));
        self.lost_with_server += u64::from(entry.is_operation() && was_lost_with_server(&entry.error_type));
    }

    fn merge(&mut self, other: ReadRecords) {
        self.count += other.count;
        self.last_seq = self.last_seq.max(other.last_seq);
        self.has_start |= other.has_start;
        self.has_gap |= other.has_gap;
        self.has_answer |= other.has_answer;
        self.lost_with_server += other.lost_with_server;
    }

    /// Returns true if the server answered a handshake or a call; `None` if an answer may be in what is missing.
    pub(super) fn was_ready(self) -> Option<bool> {
        let is_whole = self.has_start && !self.has_gap && self.count.checked_sub(1) == Some(self.last_seq);
        (self.has_answer || is_whole).then_some(self.has_answer)
    }
}

/// The recorded end of a connection.
#[derive(Debug)]
pub(super) struct EndRow {
    pub(super) connection_id: Arc<str>,
    pub(super) server_name: Arc<str>,
    pub(super) at: Timestamp,
    /// How the server ended that was not asked to end.
    pub(super) unexpected: Option<String>,
    pub(super) did_start: bool,
    pub(super) last_words: Option<String>,
}

/// A report of repeated calls.
#[derive(Debug)]
pub(super) struct RepeatRow {
    pub(super) connection_id: Arc<str>,
    pub(super) server_name: Arc<str>,
    pub(super) tool_name: Arc<str>,
    pub(super) seq: u64,
    pub(super) count: u64,
    pub(super) cycle_length: Option<u32>,
    pub(super) no_progress: Option<bool>,
    pub(super) is_alarm: bool,
}

/// Collects the records of one session.
pub(crate) struct StoryReader<'a> {
    select: &'a Selection,
    names: NamePool,
    story: Story,
}

impl<'a> StoryReader<'a> {
    pub(crate) fn new(select: &'a Selection, session_id: &str) -> StoryReader<'a> {
        let is_narrowed = select.status.is_some() || select.min_duration.is_some();
        let story = Story { session_id: session_id.to_owned(), is_narrowed, ..Story::default() };
        StoryReader { select, names: NamePool::default(), story }
    }

    /// Returns the session, sorted by time.
    pub(crate) fn settle(self) -> Story {
        let mut story = self.story;
        story.rows.sort_by(|a, b| a.order().cmp(&b.order()));
        story.ends.sort_by(|a, b| (a.at, &a.connection_id).cmp(&(b.at, &b.connection_id)));
        story.repeats.sort_by(|a, b| (&a.connection_id, a.seq).cmp(&(&b.connection_id, b.seq)));
        story
    }

    fn take_event(&mut self, entry: &LogEntry<'_>) {
        let (story, names) = (&mut self.story, &mut self.names);
        let connection_id = names.share(&entry.connection_id);
        let server_name = names.share(&entry.server_name);
        match entry.event {
            EventName::SessionEnded => story.ends.push(EndRow {
                connection_id,
                server_name,
                at: entry.timestamp,
                unexpected: unexpected_end(entry),
                did_start: EndReason::from_word(&entry.reason) != Some(EndReason::SpawnFailed),
                last_words: last_words(entry).map(str::to_owned),
            }),
            EventName::AgentThrashing => story.repeats.push(RepeatRow {
                connection_id,
                server_name,
                tool_name: names.share(&entry.tool_name),
                seq: entry.seq,
                count: entry.count.unwrap_or(0),
                cycle_length: entry.cycle_length,
                no_progress: entry.no_progress,
                is_alarm: &*entry.level != "info",
            }),
            EventName::Gap => story.is_lossy = true,
            _ => {}
        }
    }
}

impl Fold for StoryReader<'_> {
    fn take(&mut self, entry: &LogEntry<'_>, _line: &[u8]) {
        if *entry.session_id != *self.story.session_id || !self.select.takes_connection(entry) {
            return;
        }
        let connection_id = self.names.share(&entry.connection_id);
        self.story.records.entry(connection_id).or_default().add(entry);
        if !self.select.takes_context(entry) {
            return;
        }
        if !entry.is_operation() {
            self.take_event(entry);
            return;
        }
        let is_selected = self.select.takes_operation(entry);
        let rows = if is_selected { &mut self.story.rows } else { &mut self.story.others };
        rows.push(OperationRow::new(entry, &mut self.names));
    }

    fn merge(&mut self, other: StoryReader<'_>) {
        let other = other.story;
        for (connection_id, records) in other.records {
            self.story.records.entry(connection_id).or_default().merge(records);
        }
        self.story.rows.extend(other.rows);
        self.story.others.extend(other.others);
        self.story.ends.extend(other.ends);
        self.story.repeats.extend(other.repeats);
        self.story.is_lossy |= other.is_lossy;
    }
}
