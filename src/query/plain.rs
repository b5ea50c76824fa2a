//! Reads the line of a record in the form in which spantap writes most of them, several times as fast as a parser
//! of all JSON.
//!
//! This form is one object without spaces, whose values are strings, numbers, `true` and `false`. [`read`] accepts
//! nothing else, and the caller then asks serde_json. A value that it accepts is the value that serde_json reads.

use std::borrow::Cow;

use crate::query::marks::Marks;
use crate::record::EventName;
use crate::record::timestamp::Timestamp;
use crate::record::words::{Direction, Status};

/// Declares a struct, and how its members are read from a line that has them under the same names.
macro_rules! record {
    (
        $(#[$of_record:meta])*
        $visible:vis struct $record:ident<$life:lifetime> {
            $($(#[$of_member:meta])* $member_visible:vis $member:ident: $kind:ty,)+
        }
    ) => {
        $(#[$of_record])*
        $visible struct $record<$life> {
            $($(#[$of_member])* $member_visible $member: $kind,)+
        }

        impl<$life> $crate::query::plain::PlainRecord<$life> for $record<$life> {
            fn read_member(
                &mut self,
                name: &str,
                seen: &mut u64,
                value: &mut $crate::query::plain::PlainReader<$life>,
            ) -> Result<(), $crate::query::plain::NotPlain> {
                #[expect(non_camel_case_types, reason = "the names of the members")]
                #[derive(Clone, Copy)]
                enum PlainMember {
                    $($member),+
                }
                match name {
                    $(stringify!($member) => {
                        let bit = 1 << PlainMember::$member as u64;
                        if *seen & bit != 0 {
                            return Err($crate::query::plain::NotPlain);
                        }
                        *seen |= bit;
                        self.$member = $crate::query::plain::PlainValue::read(value)?;
                    })+
                    _ => value.skip()?,
                }
                Ok(())
            }
        }
    };
}

pub(super) use record;

/// A struct that [`record`] declared.
pub(super) trait PlainRecord<'a> {
    /// Reads the value of a member. Fails if `seen`, which has a bit for each known member, says that it was read
    /// before: serde_json refuses such a line.
    fn read_member(
        &mut self,
        name: &str,
        seen: &mut u64,
        value: &mut PlainReader<'a>,
    ) -> Result<(), NotPlain>;
}

/// A value of a member.
pub(super) trait PlainValue<'a>: Sized {
    fn read(reader: &mut PlainReader<'a>) -> Result<Self, NotPlain>;
}

/// The line has another form, or a value is not of the type that is read.
#[derive(Debug)]
pub(super) struct NotPlain;

/// Reads the members of the line into `record`. Returns `None` if the line has another form, or is not what `T` expects;
/// some members may then have been read.
pub(super) fn read<'a, T: PlainRecord<'a>>(line: &'a [u8], record: &mut T) -> Option<()> {
    if line.first() != Some(&b'{') {
        return None;
    }
    let mut reader = PlainReader { text: std::str::from_utf8(line).ok()?, at: 1, marks: Marks::of(line) };
    let mut seen = 0;
    loop {
        let name = reader.name()?;
        if !reader.pass(b':') {
            return None;
        }
        record.read_member(name, &mut seen, &mut reader).ok()?;
        if !reader.pass(b',') {
            break;
        }
    }
    let is_whole = reader.pass(b'}') && reader.at == line.len();
    // JSON has no control character in a string.
    (is_whole && !reader.marks.has_control()).then_some(())
}

/// The members with which spantap begins every line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineHead {
    pub(super) timestamp: Timestamp,
    pub(super) event: EventName,
}

impl LineHead {
    /// Returns the beginning of a line; `None` if it is not the usual one.
    pub(super) fn read(line: &[u8]) -> Option<LineHead> {
        let (timestamp, rest) = quoted(line.strip_prefix(br#"{"schema":"spantap/1","timestamp":"#)?)?;
        let (_, rest) = quoted(rest.strip_prefix(br#","level":"#)?)?;
        let (event, _) = quoted(rest.strip_prefix(br#","event":"#)?)?;
        Some(LineHead { timestamp: timestamp.parse().ok()?, event: EventName::from_word(event)? })
    }
}

/// Returns the text of a string of at most 30 bytes without escapes, and the bytes behind it.
fn quoted(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let bytes = bytes.strip_prefix(b"\"")?;
    let end = bytes.iter().take(30).position(|byte| matches!(byte, b'"' | b'\\'))?;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    Some((text, bytes[end..].strip_prefix(b"\"")?))
}

/// A line, read up to `at`: the start of a value, or, after a value, the byte behind it.
pub(super) struct PlainReader<'a> {
    text: &'a str,
    at: usize,
    /// The marks from `at` on.
    marks: Marks<'a>,
}

/// A number without an exponent: its digits without the point, and how many of them are behind it.
struct PlainNumber {
    /// Where its text begins and ends in the line.
    text: std::ops::Range<usize>,
    is_negative: bool,
    digits: u64,
    count: usize,
    behind_point: Option<usize>,
}

impl<'a> PlainReader<'a> {
    fn byte(&self, at: usize) -> u8 {
        // A control character, which no value has, marks the end of the line.
        self.text.as_bytes().get(at).copied().unwrap_or_default()
    }

    /// Moves behind `byte`, if it is the next one.
    fn pass(&mut self, byte: u8) -> bool {
        let is_next = self.byte(self.at) == byte;
        self.at += usize::from(is_next);
        is_next
    }

    /// Reads a string, borrowed unless it has escapes.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, NotPlain> {
        let mark = self.second_mark().ok_or(NotPlain)?;
        match self.text_to(mark) {
            Some(text) => Ok(Cow::Borrowed(text)),
            None => self.escaped(mark).map(Cow::Owned),
        }
    }

    /// Reads a string without escapes; `None` if the next value is anything else.
    #[inline(always)]
    fn name(&mut self) -> Option<&'a str> {
        let mark = self.second_mark()?;
        self.text_to(mark)
    }

    /// Returns the place of the last quote of the string that is next, or of its first backslash.
    #[inline(always)]
    fn second_mark(&mut self) -> Option<usize> {
        if self.byte(self.at) != b'"' {
            return None;
        }
        // The first mark is its first quote.
        self.marks.next_two().map(|(_, second)| second)
    }

    /// Moves behind the string that ends at `end`, if that is a quote.
    #[inline(always)]
    fn text_to(&mut self, end: usize) -> Option<&'a str> {
        if self.byte(end) != b'"' {
            return None;
        }
        let text = self.text.get(self.at + 1..end)?;
        self.at = end + 1;
        Some(text)
    }

    /// Reads a string, of which the next byte is the first quote and `mark` is the place of the first backslash.
    #[cold]
    fn escaped(&mut self, mut mark: usize) -> Result<String, NotPlain> {
        while self.byte(mark) == b'\\' {
            let escaped = mark + 1;
            mark = self.marks.next().ok_or(NotPlain)?;
            if mark == escaped {
                mark = self.marks.next().ok_or(NotPlain)?;
            }
        }
        let with_quotes = &self.text.as_bytes()[self.at..=mark];
        self.at = mark + 1;
        serde_json::from_slice(with_quotes).map_err(|_| NotPlain)
    }

    fn number(&mut self) -> Result<PlainNumber, NotPlain> {
        let start = self.at;
        let is_negative = self.pass(b'-');
        let first = self.byte(self.at);
        let (before, count) = self.digits(0);
        if count == 0 || count > 18 || (first == b'0' && (count > 1 || is_negative)) {
            return Err(NotPlain);
        }
        if !self.pass(b'.') {
            let text = start..self.at;
            return Ok(PlainNumber { text, is_negative, digits: before, count, behind_point: None });
        }
        let (digits, behind) = self.digits(before);
        if behind == 0 {
            return Err(NotPlain);
        }
        let text = start..self.at;
        Ok(PlainNumber { text, is_negative, digits, count: count + behind, behind_point: Some(behind) })
    }

    /// Moves behind the digits. Returns the number of them, and their value behind that of `before`, which wraps.
    fn digits(&mut self, before: u64) -> (u64, usize) {
        let (start, mut value) = (self.at, before);
        loop {
            let digit = self.byte(self.at).wrapping_sub(b'0');
            if digit > 9 {
                return (value, self.at - start);
            }
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
            self.at += 1;
        }
    }

    /// Moves behind `word`, which is the rest of a value whose first byte is next.
    fn word(&mut self, word: &str) -> Result<(), NotPlain> {
        if !self.text[self.at..].starts_with(word) {
            return Err(NotPlain);
        }
        self.at += word.len();
        Ok(())
    }

    /// Moves behind a value of any type. Numbers and escapes are read in full, since serde_json refuses wrong ones that
    /// are ignored, too.
    pub(super) fn skip(&mut self) -> Result<(), NotPlain> {
        match self.byte(self.at) {
            b'"' => self.string().map(drop),
            b'-' | b'0'..=b'9' => self.number().map(drop),
            _ => bool::read(self).map(drop),
        }
    }
}

impl PlainNumber {
    /// Returns the number if it has no point.
    fn integer(&self) -> Result<i64, NotPlain> {
        let digits = i64::try_from(self.digits).map_err(|_| NotPlain)?;
        match self.behind_point {
            None if self.is_negative => Ok(-digits),
            None => Ok(digits),
            Some(_) => Err(NotPlain),
        }
    }

    /// Returns the value of this number of `line`.
    fn float(self, line: &str) -> Result<f64, NotPlain> {
        /// Powers of ten that a float represents exactly.
        const TENS: [f64; 16] =
            [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
        if self.count > 15 {
            return line[self.text].parse().map_err(|_| NotPlain);
        }
        // Both are exact, so the quotient is the float that is nearest to the number.
        let float = self.digits as f64 / TENS[self.behind_point.unwrap_or(0)];
        Ok(if self.is_negative { -float } else { float })
    }
}

impl<'a, T: PlainValue<'a>> PlainValue<'a> for Option<T> {
    fn read(reader: &mut PlainReader<'a>) -> Result<Option<T>, NotPlain> {
        T::read(reader).map(Some)
    }
}

impl<'a> PlainValue<'a> for Cow<'a, str> {
    fn read(reader: &mut PlainReader<'a>) -> Result<Cow<'a, str>, NotPlain> {
        reader.string()
    }
}

impl PlainValue<'_> for bool {
    fn read(reader: &mut PlainReader<'_>) -> Result<bool, NotPlain> {
        match reader.byte(reader.at) {
            b't' => reader.word("true").map(|()| true),
            b'f' => reader.word("false").map(|()| false),
            _ => Err(NotPlain),
        }
    }
}

macro_rules! integers {
    ($($integer:ty),+) => {$(
        impl PlainValue<'_> for $integer {
            fn read(reader: &mut PlainReader<'_>) -> Result<$integer, NotPlain> {
                reader.number()?.integer()?.try_into().map_err(|_| NotPlain)
            }
        }
    )+};
}

integers!(u64, u32, i32);

impl PlainValue<'_> for f64 {
    fn read(reader: &mut PlainReader<'_>) -> Result<f64, NotPlain> {
        reader.number()?.float(reader.text)
    }
}

impl PlainValue<'_> for Timestamp {
    fn read(reader: &mut PlainReader<'_>) -> Result<Timestamp, NotPlain> {
        reader.string()?.parse().map_err(|_| NotPlain)
    }
}

impl PlainValue<'_> for EventName {
    fn read(reader: &mut PlainReader<'_>) -> Result<EventName, NotPlain> {
        Ok(EventName::from_word(&reader.string()?).unwrap_or_default())
    }
}

impl PlainValue<'_> for Status {
    fn read(reader: &mut PlainReader<'_>) -> Result<Status, NotPlain> {
        Ok(Status::from_word(&reader.string()?).unwrap_or_default())
    }
}

impl PlainValue<'_> for Direction {
    fn read(reader: &mut PlainReader<'_>) -> Result<Direction, NotPlain> {
        Direction::from_word(&reader.string()?).ok_or(NotPlain)
    }
}

impl<'a, T> PlainValue<'a> for Vec<T> {
    fn read(_reader: &mut PlainReader<'a>) -> Result<Vec<T>, NotPlain> {
        Err(NotPlain)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;
    use crate::record::words;

    record! {
        #[derive(Debug, Default, Deserialize)]
        #[serde(default)]
        struct Line<'a> {
            timestamp: Timestamp,
            event: EventName,
            status: Status,
            #[serde(deserialize_with = "words::known")]
            direction: Option<Direction>,
            seq: u64,
            duration_ms: Option<f64>,
            exit_code: Option<i32>,
            count: Option<u32>,
            no_progress: Option<bool>,
            #[serde(borrow)]
            message: Cow<'a, str>,
            stderr_tail: Option<Vec<String>>,
        }
    }

    fn plain(line: &[u8]) -> Option<String> {
        let mut record = Line::default();
        read(line, &mut record).map(|()| format!("{record:?}"))
    }

    fn by_serde_json(line: &[u8]) -> Option<String> {
        serde_json::from_slice::<Line<'_>>(line).ok().map(|line| format!("{line:?}"))
    }

    #[test]
    fn a_record_as_spantap_writes_it_is_accepted() {
        let line = br#"{"schema":"spantap/1","timestamp":"2026-11-24T09:14:03.512004Z","level":"info","event":"mcp_tool_call","message":"a \"b\" \u00e9","seq":7,"duration_ms":12.345,"exit_code":-7,"no_progress":true,"status":"ok","direction":"client_to_server","new_text":"x\ty","new_number":0.5,"new_flag":false}"#;
        let accepted = plain(line);
        assert!(accepted.is_some());
        assert_eq!(accepted, by_serde_json(line));
    }

    #[test]
    fn the_head_of_a_line_is_that_of_its_record() {
        let line = br#"{"schema":"spantap/1","timestamp":"2026-11-24T09:14:03.512004Z","level":"info","event":"gap","seq":7}"#;
        let (head, record) =
            (LineHead::read(line).unwrap(), serde_json::from_slice::<Line<'_>>(line).unwrap());
        assert_eq!((head.timestamp, head.event), (record.timestamp, record.event));
        for line in [
            r#"{"schema":"spantap/2","timestamp":"2026-11-24T09:14:03.512004Z","level":"info","event":"gap"}"#,
            r#"{"schema":"spantap/1","timestamp":"2026-11-24T09:14:03.512004Z","event":"gap"}"#,
            r#"{"schema":"spantap/1","timestamp":"soon","level":"info","event":"gap"}"#,
            r#"{"schema":"spantap/1","timestamp":"2026-11-24T09:14:03.512004Z","level":"info","event":"teleported"}"#,
            r#"{"schema":"spantap/1","timestamp":"2026-11-24T09:14:03.512004Z","level":"in\u0066o","event":"gap"}"#,
            r#"{"schema":"spantap/1","timestamp":"2026-11"#,
        ] {
            assert_eq!(LineHead::read(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn lines_of_another_form_are_left_to_serde_json() {
        for line in [
            r#"{}"#,
            r#" {"seq":1}"#,
            r#"{"seq":1} "#,
            r#"{"seq": 1}"#,
            r#"{"seq":1,}"#,
            r#"{"seq":1"#,
            r#"{"seq":null}"#,
            r#"{"seq":1e3}"#,
            r#"{"seq":01}"#,
            r#"{"duration_ms":-0}"#,
            r#"{"duration_ms":1.}"#,
            r#"{"duration_ms":.5}"#,
            r#"{"new":[1]}"#,
            r#"{"new":{}}"#,
            r#"{"new":-}"#,
            r#"{"new":"\q"}"#,
            r#"{"new":"\ud800"}"#,
            r#"{"new":"open}"#,
            r#"{"new":"open\"}"#,
            "{\"new\":\"a\tb\"}",
            r#"{"s\u0065q":1}"#,
            r#"{"seq":1,"seq":2}"#,
            r#"{"seq":"1"}"#,
            r#"{"seq":1.5}"#,
            r#"{"seq":-1}"#,
            r#"{"count":4294967296}"#,
            r#"{"direction":"up"}"#,
            r#"{"stderr_tail":["a"]}"#,
            r#"{"seq":1}{"seq":2}"#,
            r#"{"event":7}"#,
            r#"{"new":tru}"#,
            r#"{"new":trues}"#,
        ] {
            assert_eq!(plain(line.as_bytes()), None, "{line}");
        }
        assert_eq!(plain(b"{\"message\":\"\xff\"}"), None);
    }

    /// Names and values that records have, and texts that are almost such values.
    fn member() -> impl Strategy<Value = String> {
        let name = prop_oneof![
            Just("seq"),
            Just("message"),
            Just("duration_ms"),
            Just("exit_code"),
            Just("count"),
            Just("status"),
            Just("direction"),
            Just("event"),
            Just("no_progress"),
            Just("timestamp"),
            Just("new")
        ];
        let value = prop_oneof![
            any::<u64>().prop_map(|number| number.to_string()),
            any::<i32>().prop_map(|number| number.to_string()),
            any::<f64>().prop_map(|number| number.to_string()),
            "-?[0-9]{1,9}[.][0-9]{1,9}",
            any::<String>().prop_map(|text| Value::from(text).to_string()),
            "[-0-9.eE]{1,22}",
            r#""[ -~]{0,12}"?"#,
            Just("\"mcp_request\"".to_owned()),
            Just("\"client_to_server\"".to_owned()),
            Just("\"2026-11-24T09:14:03.512004Z\"".to_owned()),
            Just("true".to_owned()),
        ];
        (name, value).prop_map(|(name, value)| format!("\"{name}\":{value}"))
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_what_serde_json_reads(members in proptest::collection::vec(member(), 1..5)) {
            let line = format!("{{{}}}", members.join(","));
            if let Some(accepted) = plain(line.as_bytes()) {
                prop_assert_eq!(Some(accepted), by_serde_json(line.as_bytes()), "{}", line);
            }
        }
    }
}
