//! The part of a record that the reading commands need, borrowed from its line.
//!
//! `Record` has about ninety fields and owns its texts when it is read, which is too slow for a report over a
//! million lines. An [`Entry`] has the fields that are selected, counted or drawn, under the record's names (a
//! test compares them), and skips the rest of the line.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::record::EventName;
use crate::record::timestamp::Timestamp;
use crate::record::words::{self, Direction, Status};

/// The needed fields of one line of a session log. An absent text is empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Entry<'a> {
    #[serde(borrow)]
    pub schema: EntryText<'a>,
    pub timestamp: EntryTime,
    pub event: EventName,
    #[serde(borrow)]
    pub message: EntryText<'a>,
    pub seq: u64,
    #[serde(borrow)]
    pub session_id: EntryText<'a>,
    #[serde(borrow)]
    pub connection_id: EntryText<'a>,
    #[serde(borrow)]
    pub server_name: EntryText<'a>,
    #[serde(borrow)]
    pub host_name: EntryText<'a>,
    #[serde(borrow)]
    pub conversation_id: EntryText<'a>,
    #[serde(borrow)]
    pub turn_id: EntryText<'a>,
    #[serde(borrow)]
    pub call_id: EntryText<'a>,
    #[serde(borrow)]
    pub request_id: EntryText<'a>,
    #[serde(deserialize_with = "words::known")]
    pub direction: Option<Direction>,
    #[serde(borrow)]
    pub method: EntryText<'a>,
    #[serde(borrow)]
    pub tool_name: EntryText<'a>,
    #[serde(borrow)]
    pub prompt_name: EntryText<'a>,
    #[serde(borrow)]
    pub resource_uri: EntryText<'a>,
    #[serde(borrow)]
    pub args_hash: EntryText<'a>,
    #[serde(borrow)]
    pub result_hash: EntryText<'a>,
    #[serde(borrow)]
    pub text_hash: EntryText<'a>,
    pub started_at: Option<EntryTime>,
    pub duration_ms: Option<f64>,
    pub status: Status,
    #[serde(borrow)]
    pub error_type: EntryText<'a>,
    #[serde(borrow)]
    pub error_message: EntryText<'a>,
    pub result_size_bytes: Option<u64>,
    pub args_tokens_est: Option<u64>,
    pub result_tokens_est: Option<u64>,
    pub repeat_count: Option<u32>,
    pub thrashing: Option<bool>,
    pub pending_at: Option<EntryTime>,
    pub user_wait_ms: Option<f64>,
    pub continues_seq: Option<u64>,
    #[serde(borrow)]
    pub trace_id: EntryText<'a>,
    #[serde(borrow)]
    pub span_id: EntryText<'a>,
    #[serde(borrow)]
    pub reason: EntryText<'a>,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub open_ms: Option<f64>,
    pub count: Option<u64>,
    pub bytes_lost: Option<u64>,
    pub records_lost: Option<u64>,
    #[serde(borrow)]
    pub result_summary: EntryText<'a>,
    #[serde(borrow)]
    pub stderr_tail: Option<Vec<EntryText<'a>>>,
}

impl<'a> Entry<'a> {
    /// Parses one line.
    ///
    /// # Errors
    /// The line is not a JSON object, a field has another type than in the record, or `schema` does not begin with
    /// `spantap/`.
    pub fn parse(line: &'a [u8]) -> Result<Entry<'a>, serde_json::Error> {
        let entry: Entry<'a> = serde_json::from_slice(line)?;
        if entry.schema.starts_with("spantap/") {
            Ok(entry)
        } else {
            Err(serde_json::Error::custom("not a record of spantap"))
        }
    }

    /// Returns true if the line is a request with its outcome.
    pub fn is_operation(&self) -> bool {
        matches!(self.event, EventName::McpToolCall | EventName::McpRequest)
    }

    /// Returns the tool, prompt or resource of the operation; empty if it has none.
    pub fn target(&self) -> &str {
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

    /// Returns when the request was read.
    pub fn started(&self) -> Timestamp {
        match (self.started_at, self.duration_ms) {
            (Some(started), _) => started.0,
            (None, Some(duration)) => self.timestamp.0.plus_ms(-duration),
            (None, None) => self.timestamp.0,
        }
    }

    /// Returns the estimated tokens of arguments and result.
    pub fn tokens(&self) -> u64 {
        self.args_tokens_est.unwrap_or(0).saturating_add(self.result_tokens_est.unwrap_or(0))
    }
}

/// A text, borrowed from the line unless it has escapes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryText<'a>(Cow<'a, str>);

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

impl<'de: 'a, 'a> Deserialize<'de> for EntryText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<EntryText<'a>, D::Error> {
        struct Borrowing;

        impl<'de> Visitor<'de> for Borrowing {
            type Value = EntryText<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<EntryText<'de>, E> {
                Ok(EntryText(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<EntryText<'de>, E> {
                Ok(EntryText(Cow::Owned(text.to_owned())))
            }

            fn visit_unit<E: Error>(self) -> Result<EntryText<'de>, E> {
                Ok(EntryText::default())
            }
        }

        deserializer.deserialize_str(Borrowing)
    }
}

/// A wall-clock time. The form that spantap writes is parsed without the general date parser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryTime(pub Timestamp);

impl<'de> Deserialize<'de> for EntryTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<EntryTime, D::Error> {
        let text = EntryText::deserialize(deserializer)?;
        match fixed_form(text.as_bytes()) {
            Some(instant) => Ok(EntryTime(instant)),
            None => match text.parse() {
                Ok(instant) => Ok(EntryTime(instant)),
                Err(_) => Err(D::Error::invalid_value(Unexpected::Str(&text), &"an RFC 3339 instant")),
            },
        }
    }
}

/// Parses `YYYY-MM-DDTHH:MM:SS.ffffffZ`, the form that spantap writes.
fn fixed_form(text: &[u8]) -> Option<Timestamp> {
    let text: &[u8; 27] = text.try_into().ok()?;
    const FORM: &[u8; 27] = b"dddd-dd-ddTdd:dd:dd.ddddddZ";
    let fits = FORM.iter().zip(text).all(|(form, byte)| match form {
        b'd' => byte.is_ascii_digit(),
        literal => literal == byte,
    });
    let number = |from: usize, to: usize| {
        text[from..to].iter().fold(0i64, |sum, digit| sum * 10 + i64::from(digit - b'0'))
    };
    if !fits {
        return None;
    }
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let (hour, minute, second) = (number(11, 13), number(14, 16), number(17, 19));
    let in_range = (1..=12).contains(&month) && (1..=28).contains(&day);
    if !in_range || hour > 23 || minute > 59 || second > 59 {
        return None; // Days 29 to 31 are left to the general parser, which knows the lengths of months.
    }
    // Days from civil date, the year beginning in March so that the leap day is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days =
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Timestamp(seconds * 1_000_000 + number(20, 26)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_way_to_read_an_instant_agrees_with_the_long_one() {
        for text in [
            "1970-01-01T00:00:00.000000Z",
            "2000-02-28T23:59:59.999999Z",
            "2000-02-29T23:59:59.999999Z",
            "2026-11-24T09:14:03.512004Z",
            "2026-12-31T00:00:00.000001Z",
            "2100-03-01T00:00:00.000001Z",
            "1969-12-28T23:59:59.999999Z",
        ] {
            let read: EntryTime = serde_json::from_str(&format!("\"{text}\"")).unwrap();
            assert_eq!(read.0, text.parse().unwrap(), "{text}");
        }
        for text in ["2026-02-30T00:00:00.000000Z", "2026-13-01T00:00:00.000000Z", "now", ""] {
            assert!(serde_json::from_str::<EntryTime>(&format!("\"{text}\"")).is_err(), "{text}");
        }
        let offset: EntryTime = serde_json::from_str("\"2026-11-24T10:14:03.5+01:00\"").unwrap();
        assert_eq!(offset.0.to_string(), "2026-11-24T09:14:03.500000Z");
    }

    #[test]
    fn every_field_of_an_entry_is_a_field_of_the_record() {
        let schema = serde_json::to_value(schemars::schema_for!(crate::record::Record<'static>)).unwrap();
        let source = include_str!("entry.rs");
        let start = source.find("pub struct Entry").unwrap();
        let body = &source[start..start + source[start..].find("\n}").unwrap()];
        let fields: Vec<&str> = body
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':').map(|(name, _)| name))
            .collect();
        assert!(fields.len() > 30);
        for field in fields {
            assert!(schema["properties"].get(field).is_some(), "{field}");
        }
    }

    #[test]
    fn a_newer_record_is_read_as_far_as_it_is_understood() {
        let line = br#"{"schema":"spantap/2","timestamp":"2026-11-24T09:14:03.512004Z","event":"teleported","seq":3,"status":"sideways","new":{"a":[1]},"session_id":"a\u0041"}"#;
        let entry = Entry::parse(line).unwrap();
        assert_eq!((entry.event, entry.status), (EventName::Unknown, Status::Unknown));
        assert_eq!(&*entry.session_id, "aA");
        assert!(Entry::parse(br#"{"level":"info"}"#).is_err());
        assert!(Entry::parse(b"plain words").is_err());
    }
}
