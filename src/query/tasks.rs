//! Calls that a connection left open as tasks, joined with the outcome that a later connection saw.
//!
//! Both are found by the hash of the task's id, for one server. A server can use an id again, so an outcome belongs
//! to the last such call before it.

use std::borrow::Cow;
use std::collections::HashMap;

use memchr::memmem::Finder;

use crate::query::entry::LogEntry;
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;
use crate::record::{EventName, Level, Millis, Record};

/// Lines of the log that wait for the end of the scan.
#[derive(Debug)]
pub(super) struct TaskLines {
    calls: Vec<Box<[u8]>>,
    outcomes: Vec<Box<[u8]>>,
    word: Finder<'static>,
}

impl Default for TaskLines {
    fn default() -> TaskLines {
        TaskLines {
            calls: Vec::new(),
            outcomes: Vec::new(),
            word: Finder::new(EventName::TaskEnded.as_str()),
        }
    }
}

/// A server and the hash of a task's id.
type TaskKey = (String, String);

impl TaskLines {
    /// Returns true if the line may be an outcome, which is needed whatever the command wants.
    pub(super) fn wants(&self, line: &[u8]) -> bool {
        self.word.find(line).is_some()
    }

    /// Keeps a line that is part of a join. Returns true if it is a call that waits for its outcome.
    pub(super) fn keep(&mut self, entry: &LogEntry<'_>, line: &[u8]) -> bool {
        if entry.event == EventName::TaskEnded {
            self.outcomes.push(line.into());
        }
        let is_open = entry.status == Status::Unknown && &*entry.error_type == "task_open";
        if is_open {
            self.calls.push(line.into());
        }
        is_open
    }

    pub(super) fn merge(&mut self, other: TaskLines) {
        self.calls.extend(other.calls);
        self.outcomes.extend(other.outcomes);
    }

    /// Returns the lines of the calls, each with its outcome if one was seen.
    pub(super) fn joined(&self) -> Vec<Cow<'_, [u8]>> {
        let read = |line| serde_json::from_slice::<Record<'_>>(line).ok();
        let mut outcomes: HashMap<TaskKey, Vec<Record<'_>>> = HashMap::new();
        for record in self.outcomes.iter().filter_map(|line| read(line)) {
            if let Some(key) = key(&record) {
                outcomes.entry(key).or_default().push(record);
            }
        }
        let mut starts: HashMap<TaskKey, Vec<Timestamp>> = HashMap::new();
        let calls: Vec<(&[u8], Option<Record<'_>>)> =
            self.calls.iter().map(|line| (&**line, read(line))).collect();
        for record in calls.iter().filter_map(|(_, record)| record.as_ref()) {
            if let (Some(key), Some(started)) = (key(record), record.started_at) {
                starts.entry(key).or_default().push(started);
            }
        }
        let join = |call: Record<'_>| {
            let (key, started) = (key(&call)?, call.started_at?);
            let next = starts.get(&key)?.iter().filter(|other| **other > started).min();
            let is_its_own = |outcome: &&Record<'_>| {
                outcome.timestamp >= call.timestamp && next.is_none_or(|next| outcome.timestamp < *next)
            };
            let seen = || outcomes.get(&key).into_iter().flatten().filter(is_its_own);
            let ended = seen().map(|outcome| outcome.timestamp).min()?;
            // A result says more than the status before it.
            let rank = |outcome: &&Record<'_>| (outcome.task_result_seen != Some(true), outcome.timestamp);
            let outcome = seen().min_by_key(rank)?;
            serde_json::to_vec(&with_outcome(call.clone(), outcome, started, ended)).ok()
        };
        let joined = |(line, call): (_, Option<_>)| match call.and_then(join) {
            Some(joined) => Cow::Owned(joined),
            None => Cow::Borrowed(line),
        };
        calls.into_iter().map(joined).collect()
    }
}

fn key(record: &Record<'_>) -> Option<TaskKey> {
    Some((record.server_name.to_string(), record.task_id_hash.as_deref()?.to_owned()))
}

/// Returns `call` as it would be if its connection had seen the outcome.
fn with_outcome<'a>(
    call: Record<'a>,
    outcome: &Record<'a>,
    started: Timestamp,
    ended: Timestamp,
) -> Record<'a> {
    let status = outcome.status.unwrap_or_default();
    let what = call.message.rsplit_once(": ").map_or(&*call.message, |(what, _)| what);
    Record {
        message: Cow::Owned(format!("{what}: {}", status.as_str())),
        level: if status == Status::Ok { Level::Info } else { Level::Warn },
        status: Some(status),
        ended_at: Some(ended),
        duration_ms: Some(Millis((ended.0 - started.0) as f64 / 1000.0)),
        error_type: outcome.error_type.clone(),
        error_code: outcome.error_code,
        error_message: outcome.error_message.clone(),
        result_size_bytes: outcome.result_size_bytes,
        result_tokens_est: outcome.result_tokens_est,
        result_hash: outcome.result_hash.clone(),
        text_hash: outcome.text_hash.clone(),
        cancelled_at: outcome.cancelled_at,
        task_result_seen: outcome.task_result_seen,
        ..call
    }
}
