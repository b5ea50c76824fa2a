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

use crate::query::plain::{self, MemberOrder, NotPlain, PlainReader, PlainValue};
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
    passed over: user_id, protocol_version, ended_at, request_size_bytes, error_code, linked_span_id,
        linked_trace_id, trace_state, trace_flags
}

impl<'a> LogEntry<'a> {
    /// Parses one line. Fails also if `schema` does not begin with `spantap/`.
    pub fn parse(line: &'a [u8]) -> Result<LogEntry<'a>, serde_json::Error> {
        EntryReader::default().parse(line)
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

/// Parses many lines, sooner if they have the same members in the same order.
#[derive(Clone, Debug, Default)]
pub(crate) struct EntryReader(MemberOrder);

impl EntryReader {
    /// Parses one line as [`LogEntry::parse`] does.
    pub(crate) fn parse<'a>(&mut self, line: &'a [u8]) -> Result<LogEntry<'a>, serde_json::Error> {
        let mut entry = LogEntry::default();
        if plain::read(line, &mut self.0, &mut entry).is_none() {
            entry = serde_json::from_slice(line)?;
        }
        if entry.schema.starts_with("spantap/") {
            Ok(entry)
        } else {
            Err(serde_json::Error::custom("not a record of spantap"))
        }
    }
}

/// A text, borrowed from the line unless it has escapes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub struct EntryText<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> PlainValue<'a> for EntryText<'a> {
    #[inline(always)]
    fn read(line: &mut PlainReader<'a>) -> Result<EntryText<'a>, NotPlain> {
        line.string().map(EntryText)
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
    use proptest::prelude::*;
    use proptest::sample::{Index, subsequence};

    use super::*;

    /// Members of several events, in the order of the log.
    const MEMBERS: [&str; 36] = [
        r#""schema":"spantap/1""#,
        r#""timestamp":"2026-11-24T09:14:03.512004Z""#,
        r#""level":"info""#,
        r#""event":"mcp_tool_call""#,
        r#""message":"tools/call \"東京\" \u00e9: ok""#,
        r#""seq":7"#,
        r#""session_id":"run-1""#,
        r#""connection_id":"0190c0de-0000-7000-8000-000000000001""#,
        r#""server_name":"東京都庁""#,
        r#""user_id":"dana""#,
        r#""direction":"client_to_server""#,
        r#""method":"tools/call""#,
        r#""tool_name":"list_directory""#,
        r#""protocol_version":"2025-11-25""#,
        r#""args_hash":"hmac-sha256:0c0b0a09080706050403020100ffeeddccbbaa99887766554433221100""#,
        r#""started_at":"2026-11-24T09:14:03.5+00:00""#,
        r#""ended_at":"2026-11-24T09:14:03.512004Z""#,
        r#""duration_ms":12.004"#,
        r#""status":"ok""#,
        r#""error_code":-32601"#,
        r#""error_message":"a\tb""#,
        r#""request_size_bytes":140"#,
        r#""result_size_bytes":18446744073709551615"#,
        r#""args_tokens_est":9"#,
        r#""repeat_count":4294967296"#,
        r#""thrashing":true"#,
        r#""trace_flags":"03""#,
        r#""exit_code":-7"#,
        r#""command":["npx","-y"]"#,
        r#""totals":{"errors":1}"#,
        r#""new":false"#,
        r#""new_text":"\ud83d\ude00\\""#,
        r#""new_number":1.5e3"#,
        r#""reason":null"#,
        r#""stderr_tail":["a","b"]"#,
        r#""user_wait_ms":0.5"#,
    ];

    /// A line with some of the members, often in their order, in which a few bytes are often changed.
    fn line() -> impl Strategy<Value = Vec<u8>> {
        let usual = [&MEMBERS[..19], &MEMBERS[21..22], &MEMBERS[23..24], &MEMBERS[26..27]].concat();
        let some = subsequence(MEMBERS.to_vec(), 0..12);
        let members = prop_oneof![
            3 => Just(usual.clone()),
            2 => subsequence(usual.clone(), 0..usual.len()),
            1 => some.clone(),
            1 => some.prop_shuffle(),
        ];
        let byte = prop_oneof![4 => proptest::sample::select(b"\"\\{}[],:-.0 a\t\x01\x7f\xc3".to_vec()), 1 => any::<u8>()];
        let change = (any::<Index>(), 0..3_u8, byte);
        (members, prop_oneof![Just(0), 1..4_usize], proptest::collection::vec(change, 3)).prop_map(
            |(members, count, changes)| {
                let mut line = format!("{{{}}}", members.join(",")).into_bytes();
                for (at, kind, byte) in changes.into_iter().take(count) {
                    let at = at.index(line.len());
                    match kind {
                        0 => line[at] = byte,
                        1 => line.insert(at, byte),
                        _ => line.truncate(at.max(1)),
                    }
                }
                line
            },
        )
    }

    proptest! {
        #[test]
        fn a_reader_of_many_lines_reads_each_as_serde_json_does(
            lines in proptest::collection::vec(line(), 1..9)
        ) {
            let mut reader = EntryReader::default();
            for line in &lines {
                let expected = serde_json::from_slice::<LogEntry<'_>>(line).ok();
                let expected = expected.filter(|entry| entry.schema.starts_with("spantap/"));
                let shown = String::from_utf8_lossy(line);
                prop_assert_eq!(format!("{:?}", reader.parse(line).ok()), format!("{expected:?}"), "{}", shown);
            }
        }
    }

    #[test]
    fn every_field_of_an_entry_is_a_field_of_the_record() {
        let schema = serde_json::to_value(schemars::schema_for!(crate::record::Record<'static>)).unwrap();
        let source = include_str!("entry.rs");
        let start = source.find("pub struct LogEntry").unwrap();
        let (body, rest) = source[start..].split_once("\n    }\n    passed over: ").unwrap();
        let passed_over = rest.split_once('}').unwrap().0.split(',').map(str::trim);
        let fields = body.lines().filter_map(|line| {
            line.trim().strip_prefix("pub(crate) ")?.split_once(':').map(|(name, _)| name)
        });
        let fields: Vec<&str> = fields.chain(passed_over).collect();
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
