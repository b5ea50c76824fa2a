//! The part of a record that the reading commands need, borrowed from its line.
//!
//! `Record` has about ninety fields and owns its texts when it is read, which is too slow for a report over a
//! million lines. A [`LogEntry`] has the fields that are selected, counted or drawn, under the record's names (a
//! test compares them), and skips the rest of the line.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::Deserialize;
use serde::de::Error as _;

use crate::query::plain::{self, NotPlain, PlainReader, PlainValue};
use crate::record::EventName;
use crate::record::timestamp::Timestamp;
use crate::record::words::{self, Direction, Status};

plain::record! {
    /// The needed fields of one line of a session log. An absent text is empty.
    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(default, bound(deserialize = "'de: 'a"))]
    pub struct LogEntry<'a> {
        pub(crate) schema: EntryText<'a>,
        pub(crate) timestamp: Timestamp,
        pub(crate) level: EntryText<'a>,
        pub(crate) event: EventName,
        pub(crate) message: EntryText<'a>,
        pub(crate) seq: u64,
        pub(crate) session_id: EntryText<'a>,
        pub(crate) connection_id: EntryText<'a>,
        pub(crate) server_name: EntryText<'a>,
        pub(crate) host_name: EntryText<'a>,
        pub(crate) conversation_id: EntryText<'a>,
        pub(crate) turn_id: EntryText<'a>,
        pub(crate) request_id: EntryText<'a>,
        #[serde(deserialize_with = "words::known")]
        pub(crate) direction: Option<Direction>,
        pub(crate) method: EntryText<'a>,
        pub(crate) tool_name: EntryText<'a>,
        pub(crate) prompt_name: EntryText<'a>,
        pub(crate) resource_uri: EntryText<'a>,
        pub(crate) args_hash: EntryText<'a>,
        pub(crate) result_hash: EntryText<'a>,
        pub(crate) text_hash: EntryText<'a>,
        pub(crate) started_at: Option<Timestamp>,
        pub(crate) duration_ms: Option<f64>,
        pub(crate) status: Status,
        pub(crate) error_type: EntryText<'a>,
        pub(crate) error_message: EntryText<'a>,
        pub(crate) result_size_bytes: Option<u64>,
        pub(crate) args_tokens_est: Option<u64>,
        pub(crate) result_tokens_est: Option<u64>,
        pub(crate) result_over_limit: Option<u64>,
        pub(crate) repeat_count: Option<u32>,
        pub(crate) thrashing: Option<bool>,
        pub(crate) pending_at: Option<Timestamp>,
        pub(crate) call_id: EntryText<'a>,
        pub(crate) user_wait_ms: Option<f64>,
        pub(crate) continues_seq: Option<u64>,
        pub(crate) task_id_hash: EntryText<'a>,
        pub(crate) trace_id: EntryText<'a>,
        pub(crate) span_id: EntryText<'a>,
        pub(crate) parent_span_id: EntryText<'a>,
        pub(crate) host_pid: Option<u32>,
        pub(crate) cwd: EntryText<'a>,
        pub(crate) server_version: EntryText<'a>,
        pub(crate) reason: EntryText<'a>,
        pub(crate) place: EntryText<'a>,
        pub(crate) exit_code: Option<i32>,
        pub(crate) signal: Option<i32>,
        pub(crate) orphan_killed: Option<bool>,
        pub(crate) open_ms: Option<f64>,
        pub(crate) count: Option<u64>,
        pub(crate) no_progress: Option<bool>,
        pub(crate) cycle_length: Option<u32>,
        pub(crate) bytes_lost: Option<u64>,
        pub(crate) records_lost: Option<u64>,
        pub(crate) page: Option<u64>,
        pub(crate) is_complete: Option<bool>,
        pub(crate) definition_bytes: Option<u64>,
        pub(crate) result_summary: EntryText<'a>,
        pub(crate) stderr_tail: Option<Vec<EntryText<'a>>>,
    }
}

impl<'a> LogEntry<'a> {
    /// Parses one line. Fails also if `schema` does not begin with `spantap/`.
    pub fn parse(line: &'a [u8]) -> Result<LogEntry<'a>, serde_json::Error> {
        let mut entry = LogEntry::default();
        if plain::read(line, &mut entry).is_none() {
            entry = serde_json::from_slice(line)?;
        }
        if entry.schema.starts_with("spantap/") {
            Ok(entry)
        } else {
            Err(serde_json::Error::custom("not a record of spantap"))
        }
    }

    /// Returns the entry of a line that belongs to a connection; `None` for a record of an agent and any other line.
    pub(crate) fn of_connection(line: &'a [u8]) -> Option<LogEntry<'a>> {
        LogEntry::parse(line).ok().filter(|entry| !entry.event.is_of_agent())
    }

    /// Returns true if the line is a request with its outcome.
    pub fn is_operation(&self) -> bool {
        matches!(self.event, EventName::McpToolCall | EventName::McpRequest)
    }

    /// Returns true if the line is a `tasks/result` that was answered with the failure of its task, which counts at the
    /// call that began the task.
    pub(crate) fn is_failure_of_task(&self) -> bool {
        let is_of_task = match &*self.error_type {
            "tool_error" | "invalid_response" => true,
            // These codes say that the task is not known.
            "-32601" | "-32602" => false,
            code => code.parse::<i64>().is_ok(),
        };
        is_of_task && &*self.method == "tasks/result" && !self.task_id_hash.is_empty()
    }

    /// Returns the tool, prompt or resource of the operation; empty if it has none.
    pub(crate) fn target(&self) -> &str {
        [&self.tool_name, &self.prompt_name, &self.resource_uri]
            .into_iter()
            .map(|text| &**text)
            .find(|text| !text.is_empty())
            .unwrap_or_default()
    }

    /// Returns the target, or the method of an operation without one.
    pub fn name(&self) -> &str {
        match self.target() {
            "" => &self.method,
            target => target,
        }
    }

    pub fn started(&self) -> Timestamp {
        match (self.started_at, self.duration_ms) {
            (Some(started), _) => started,
            (None, Some(duration)) => self.timestamp.plus_ms(-duration),
            (None, None) => self.timestamp,
        }
    }

    pub fn tokens(&self) -> u64 {
        self.args_tokens_est.unwrap_or(0).saturating_add(self.result_tokens_est.unwrap_or(0))
    }
}

/// A text, borrowed from the line unless it has escapes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub struct EntryText<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> PlainValue<'a> for EntryText<'a> {
    fn read(reader: &mut PlainReader<'a>) -> Result<EntryText<'a>, NotPlain> {
        reader.string().map(EntryText)
    }
}

impl Deref for EntryText<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntryText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_an_entry_is_a_field_of_the_record() {
        let schema = serde_json::to_value(schemars::schema_for!(crate::record::Record<'static>)).unwrap();
        let source = include_str!("entry.rs");
        let start = source.find("pub struct LogEntry").unwrap();
        let body = &source[start..start + source[start..].find("\n    }").unwrap()];
        let fields: Vec<&str> = body
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pub(crate) ")?.split_once(':').map(|(name, _)| name))
            .collect();
        assert!(fields.len() > 30);
        for field in fields {
            assert!(schema["properties"].get(field).is_some(), "{field}");
        }
    }

    #[test]
    fn a_newer_record_is_read_as_far_as_it_is_understood() {
        let line = br#"{"schema":"spantap/2","timestamp":"2026-11-24T09:14:03.512004Z","event":"teleported","seq":3,"status":"sideways","new":{"a":[1]},"session_id":"a\u0041"}"#;
        let entry = LogEntry::parse(line).unwrap();
        assert_eq!((entry.event, entry.status), (EventName::Unknown, Status::Unknown));
        assert_eq!(&*entry.session_id, "aA");
        assert!(LogEntry::parse(br#"{"level":"info"}"#).is_err());
        assert!(LogEntry::parse(b"plain words").is_err());
    }
}
