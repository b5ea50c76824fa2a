//! Calls that a connection left open as tasks, joined with the outcome that a later connection saw.
//!
//! Both are found by the hash of the task's id, for one server. A server can use an id again, so an outcome belongs
//! to the last call before it that began a task with this id, also if that call's own connection saw its end.

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
    /// When each task was begun.
    starts: HashMap<TaskKey, Vec<Timestamp>>,
    word: Finder<'static>,
}

impl Default for TaskLines {
    fn default() -> TaskLines {
        TaskLines {
            calls: Vec::new(),
            outcomes: Vec::new(),
            starts: HashMap::new(),
            word: Finder::new("\"task_id_hash\":"),
        }
    }
}

/// A server and the hash of a task's id.
type TaskKey = (String, String);

impl TaskLines {
    /// Returns true if the line may be part of a join, which is needed whatever the command wants.
    pub(super) fn wants(&self, line: &[u8]) -> bool {
        self.word.find(line).is_some()
    }

    /// Keeps a line that is part of a join. Returns true if it is a call that waits for its outcome.
    pub(super) fn keep(&mut self, entry: &LogEntry<'_>, line: &[u8]) -> bool {
        if entry.event == EventName::TaskEnded {
            self.outcomes.push(line.into());
        }
        // The methods `tasks/...` have the id of a task that another call began.
        let is_start =
            entry.is_operation() && !entry.task_id_hash.is_empty() && !entry.method.starts_with("tasks/");
        if let (true, Some(started)) = (is_start, entry.started_at) {
            let key = (entry.server_name.to_string(), entry.task_id_hash.to_string());
            self.starts.entry(key).or_default().push(started);
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
        for (key, starts) in other.starts {
            self.starts.entry(key).or_default().extend(starts);
        }
    }

    /// Returns the lines of the calls, each with its outcome if one was seen.
    pub(super) fn joined(&mut self) -> Vec<Cow<'_, [u8]>> {
        self.starts.values_mut().for_each(|starts| starts.sort_unstable());
        let mut outcomes: Vec<Record<'_>> = self.outcomes.iter().filter_map(|line| read(line)).collect();
        outcomes.sort_by_key(|outcome| outcome.timestamp);
        let (mut seen, mut results): (HashMap<TaskKey, Vec<_>>, HashMap<TaskKey, Vec<_>>) =
            Default::default();
        for outcome in &outcomes {
            let Some(key) = key(outcome) else { continue };
            if outcome.task_result_seen == Some(true) {
                results.entry(key.clone()).or_default().push(outcome);
            }
            seen.entry(key).or_default().push(outcome);
        }
        let join = |line| {
            let call: Record<'_> = read(line)?;
            let (key, started) = (key(&call)?, call.started_at?);
            let starts = self.starts.get(&key)?;
            let next = starts.get(starts.partition_point(|other| *other <= started));
            let [ended, result] = [&seen, &results].map(|outcomes| {
                let outcomes = outcomes.get(&key)?;
                let first = outcomes.partition_point(|outcome| outcome.timestamp < call.timestamp);
                let first = *outcomes.get(first)?;
                next.is_none_or(|next| first.timestamp < *next).then_some(first)
            });
            let ended = ended?;
            // A result says more than the status before it.
            let outcome = result.unwrap_or(ended);
            serde_json::to_vec(&with_outcome(call.clone(), outcome, started, ended.timestamp)).ok()
        };
        let calls = self.calls.iter().map(|line| &**line);
        calls.map(|line| join(line).map_or(Cow::Borrowed(line), Cow::Owned)).collect()
    }
}

fn read(line: &[u8]) -> Option<Record<'_>> {
    serde_json::from_slice(line).ok()
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Returns the record of `seq` at that minute of the day.
    fn record(seq: usize, server: &str, members: Value) -> String {
        let time = |minute: usize| format!("2026-01-01T{:02}:{:02}:00.000000Z", minute / 60, minute % 60);
        let mut record = json!({
            "schema": "spantap/1", "timestamp": time(seq), "level": "info", "message": "tools/call: x", "seq": seq,
            "server_name": server, "task_id_hash": "1",
        });
        record.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        if let Some(minute) = record["started_at"].as_u64() {
            record["started_at"] = json!(time(minute as usize));
        }
        record.to_string()
    }

    fn call(seq: usize, started: usize, method: &str, is_open: bool) -> String {
        let mut members =
            json!({"event": "mcp_request", "method": method, "started_at": started, "status": "ok"});
        if is_open {
            members["status"] = json!("unknown");
            members["error_type"] = json!("task_open");
        }
        record(seq, "s", members)
    }

    fn ended(seq: usize, is_result: bool, error: &str) -> String {
        let members = json!({"event": "task_ended", "status": "error", "error_type": error,
            "task_result_seen": is_result});
        record(seq, "s", members)
    }

    /// Returns the `seq` and the error of each call, from lines that several threads read.
    fn joined(lines: &[String]) -> Vec<(u64, String)> {
        let mut tasks = TaskLines::default();
        for line in lines.iter().rev() {
            let mut part = TaskLines::default();
            assert!(part.wants(line.as_bytes()), "{line}");
            part.keep(&LogEntry::parse(line.as_bytes()).unwrap(), line.as_bytes());
            tasks.merge(part);
        }
        let lines = tasks.joined();
        let entries = lines.iter().map(|line| LogEntry::parse(line).unwrap());
        let mut calls: Vec<_> = entries.map(|entry| (entry.seq, entry.error_type.to_string())).collect();
        calls.sort();
        calls
    }

    fn expected(calls: &[(u64, &str)]) -> Vec<(u64, String)> {
        calls.iter().map(|(seq, error)| (*seq, (*error).to_owned())).collect()
    }

    #[test]
    fn an_outcome_belongs_to_the_last_call_that_began_its_task() {
        let open = call(2, 1, "tools/call", true);
        let again = |is_open| call(6, 4, "tools/call", is_open);
        let outcome = ended(8, false, "late");
        // The later task was seen to its end in its own connection, or is open, too.
        assert_eq!(joined(&[open.clone(), again(false), outcome.clone()]), expected(&[(2, "task_open")]));
        let both = [open.clone(), again(true), outcome.clone()];
        assert_eq!(joined(&both), expected(&[(2, "task_open"), (6, "late")]));
        // Asking for a task does not begin one.
        let asked = call(6, 4, "tasks/get", false);
        assert_eq!(joined(&[open.clone(), asked, outcome.clone()]), expected(&[(2, "late")]));
        let before = [open, ended(3, false, "status"), again(false), outcome];
        assert_eq!(joined(&before), expected(&[(2, "status")]));
    }

    #[test]
    fn each_of_many_calls_with_one_id_gets_its_own_outcome_and_rather_a_result() {
        let (mut lines, mut all) = (Vec::new(), Vec::new());
        for n in 0..200_usize {
            let (at, result) = (n * 5, format!("r{n}"));
            lines.push(call(at + 1, at, "tools/call", true));
            lines.push(ended(at + 2, false, "status"));
            lines.extend((n % 2 == 0).then(|| ended(at + 3, true, &result)));
            all.push((at as u64 + 1, if n % 2 == 0 { result } else { "status".to_owned() }));
        }
        assert_eq!(joined(&lines), all);
    }
}
