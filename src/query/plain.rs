//! Reads the line of a record in the form in which spantap writes most of them, several times as fast as a parser
//! of all JSON.
//!
//! This form is one object without spaces, whose values are strings, numbers, `true` and `false`. [`read`] accepts
//! nothing else, and the caller then asks serde_json. A value that it accepts is the value that serde_json reads.

use std::fmt;

use serde::de::value::{BorrowedStrDeserializer, StringDeserializer};
use serde::de::{self, Deserialize, DeserializeSeed, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

/// Returns the value of the line; `None` if the line has another form, or is not what `T` expects.
pub(super) fn read<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Option<T> {
    // Without an early return, the compiler compares many bytes at once. JSON has no control character in a string.
    let has_control = line.iter().fold(false, |found, byte| found | (*byte < b' '));
    if has_control || line.first() != Some(&b'{') {
        return None;
    }
    let mut reader = PlainReader { text: std::str::from_utf8(line).ok()?, at: 1 };
    let value = T::deserialize(&mut reader).ok()?;
    (reader.at == line.len()).then_some(value)
}

/// A line, read up to `at`: the start of a value, or, after a value, the byte behind it.
struct PlainReader<'a> {
    text: &'a str,
    at: usize,
}

/// The text between the quotes of a string.
enum PlainText<'a> {
    Borrowed(&'a str),
    Unescaped(String),
}

enum PlainNumber {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

impl<'a> PlainReader<'a> {
    fn byte(&self, at: usize) -> u8 {
        // A control character, which is not in the line, marks its end.
        self.text.as_bytes().get(at).copied().unwrap_or_default()
    }

    /// Moves behind `byte`, if it is the next one.
    fn pass(&mut self, byte: u8) -> bool {
        let is_next = self.byte(self.at) == byte;
        self.at += usize::from(is_next);
        is_next
    }

    /// Reads a string, of which the next byte is the first quote.
    fn quoted(&mut self) -> Result<PlainText<'a>, NotPlain> {
        let start = self.at + 1;
        let text = self.text;
        let found = memchr::memchr2(b'"', b'\\', &text.as_bytes()[start..]).ok_or(NotPlain)?;
        let mut end = start + found;
        if self.byte(end) == b'"' {
            self.at = end + 1;
            return Ok(PlainText::Borrowed(&text[start..end]));
        }
        while self.byte(end) != b'"' {
            let escaped = if self.byte(end) == b'\\' { 2 } else { 1 };
            end += escaped;
            if end >= text.len() {
                return Err(NotPlain);
            }
        }
        let with_quotes = &text.as_bytes()[self.at..=end];
        self.at = end + 1;
        serde_json::from_slice(with_quotes).map(PlainText::Unescaped).map_err(|_| NotPlain)
    }

    /// Reads a number without an exponent, of which the next byte is the first.
    fn number(&mut self) -> Result<PlainNumber, NotPlain> {
        let start = self.at;
        let is_negative = self.pass(b'-');
        let digits = self.digits();
        let starts_with_zero = self.byte(start + usize::from(is_negative)) == b'0';
        if digits == 0 || digits > 18 || (starts_with_zero && (digits > 1 || is_negative)) {
            return Err(NotPlain);
        }
        let is_float = self.pass(b'.');
        if is_float && self.digits() == 0 {
            return Err(NotPlain);
        }
        let number = &self.text[start..self.at];
        let number = match (is_float, is_negative) {
            (true, _) => number.parse().map(PlainNumber::Float).ok(),
            (false, true) => number.parse().map(PlainNumber::Signed).ok(),
            (false, false) => number.parse().map(PlainNumber::Unsigned).ok(),
        };
        number.ok_or(NotPlain)
    }

    /// Moves behind the digits. Returns their number.
    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.byte(self.at).is_ascii_digit() {
            self.at += 1;
        }
        self.at - start
    }

    /// Moves behind `word`, which is the rest of a value whose first byte is next.
    fn word(&mut self, word: &str) -> Result<(), NotPlain> {
        if !self.text[self.at..].starts_with(word) {
            return Err(NotPlain);
        }
        self.at += word.len();
        Ok(())
    }
}

impl<'de> de::Deserializer<'de> for &mut PlainReader<'de> {
    type Error = NotPlain;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotPlain> {
        match self.byte(self.at) {
            b'"' => match self.quoted()? {
                PlainText::Borrowed(text) => visitor.visit_borrowed_str(text),
                PlainText::Unescaped(text) => visitor.visit_string(text),
            },
            b'-' | b'0'..=b'9' => match self.number()? {
                PlainNumber::Unsigned(number) => visitor.visit_u64(number),
                PlainNumber::Signed(number) => visitor.visit_i64(number),
                PlainNumber::Float(number) => visitor.visit_f64(number),
            },
            b't' => self.word("true").and_then(|()| visitor.visit_bool(true)),
            b'f' => self.word("false").and_then(|()| visitor.visit_bool(false)),
            _ => Err(NotPlain),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotPlain> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, NotPlain> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NotPlain> {
        if self.byte(self.at) != b'"' {
            return Err(NotPlain);
        }
        match self.quoted()? {
            PlainText::Borrowed(text) => visitor.visit_enum(BorrowedStrDeserializer::new(text)),
            PlainText::Unescaped(text) => visitor.visit_enum(StringDeserializer::new(text)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NotPlain> {
        // The only object is the line itself.
        if self.at != 1 {
            return Err(NotPlain);
        }
        visitor.visit_map(PlainMembers { reader: self, is_first: true })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotPlain> {
        // Numbers and escapes are read in full, since serde_json refuses wrong ones that are ignored, too.
        self.deserialize_any(de::IgnoredAny)?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map identifier
    }
}

/// The members of the line that are not read yet.
struct PlainMembers<'r, 'a> {
    reader: &'r mut PlainReader<'a>,
    is_first: bool,
}

impl<'a> MapAccess<'a> for PlainMembers<'_, 'a> {
    type Error = NotPlain;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, NotPlain> {
        if !std::mem::take(&mut self.is_first) && !self.reader.pass(b',') {
            return if self.reader.pass(b'}') { Ok(None) } else { Err(NotPlain) };
        }
        if self.reader.byte(self.reader.at) != b'"' {
            return Err(NotPlain);
        }
        let PlainText::Borrowed(key) = self.reader.quoted()? else { return Err(NotPlain) };
        if !self.reader.pass(b':') {
            return Err(NotPlain);
        }
        seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, NotPlain> {
        seed.deserialize(&mut *self.reader)
    }
}

/// The line has another form, or a value is not of the type that is read.
#[derive(Debug)]
struct NotPlain;

impl fmt::Display for NotPlain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not in the form of most records")
    }
}

impl std::error::Error for NotPlain {}

impl de::Error for NotPlain {
    fn custom<T: fmt::Display>(_message: T) -> NotPlain {
        NotPlain
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;
    use crate::record::EventName;
    use crate::record::timestamp::Timestamp;
    use crate::record::words::Status;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Line<'a> {
        timestamp: Timestamp,
        event: EventName,
        status: Status,
        seq: u64,
        duration_ms: Option<f64>,
        exit_code: Option<i32>,
        no_progress: Option<bool>,
        #[serde(borrow)]
        message: Cow<'a, str>,
        inner: Option<Box<Line<'a>>>,
    }

    fn plain(line: &[u8]) -> Option<String> {
        read::<Line<'_>>(line).map(|line| format!("{line:?}"))
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
            r#"{"seq":1}{"seq":2}"#,
            r#"{"event":7}"#,
            r#"{"new":tru}"#,
            r#"{"new":trues}"#,
            r#"{"inner":{"seq":1}}"#,
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
            Just("status"),
            Just("event"),
            Just("no_progress"),
            Just("timestamp"),
            Just("new")
        ];
        let value = prop_oneof![
            any::<u64>().prop_map(|number| number.to_string()),
            any::<i32>().prop_map(|number| number.to_string()),
            any::<f64>().prop_map(|number| number.to_string()),
            any::<String>().prop_map(|text| Value::from(text).to_string()),
            "[-0-9.eE]{1,22}",
            r#""[ -~]{0,12}"?"#,
            Just("\"mcp_request\"".to_owned()),
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
