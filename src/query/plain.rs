//! Reads the line of a record in the form in which spantap writes most of them, several times as fast as a parser
//! of all JSON.
//!
//! This form is one object without spaces, whose values are strings, numbers, `true` and `false`. [`read`] accepts
//! nothing else, and the caller then asks serde_json. A value that it accepts is the value that serde_json reads.

use std::borrow::Cow;

use crate::record::EventName;
use crate::record::timestamp::Timestamp;
use crate::record::words::{Direction, Status};
use crate::system::vector::plain_string;

/// Declares a struct, and how its members are read from a line that has them under the same names. Members of the line
/// that are listed behind it are passed over sooner than unknown ones.
macro_rules! record {
    (
        $(#[$of_record:meta])*
        $visible:vis struct $record:ident<$life:lifetime> {
            $($(#[$of_member:meta])* $member_visible:vis $member:ident: $kind:ty,)+
        }
        $(passed over: $($other:ident),+)?
    ) => {
        $(#[$of_record])*
        $visible struct $record<$life> {
            $($(#[$of_member])* $member_visible $member: $kind,)+
        }

        const _: () = {
            /// The places of the names, from 1: 0 is the beginning of the line.
            #[expect(non_camel_case_types, reason = "the names of the members")]
            enum PlainMember {
                #[expect(dead_code, reason = "no member")]
                Beginning,
                $($member,)+
                $($($other,)+)?
            }

            impl<$life> $crate::query::plain::PlainRecord<$life> for $record<$life> {
                fn place_of(name: &str) -> Option<u8> {
                    Some(match name {
                        $(stringify!($member) => PlainMember::$member as u8,)+
                        $($(stringify!($other) => PlainMember::$other as u8,)+)?
                        _ => return None,
                    })
                }

                #[inline(always)]
                fn read_member(
                    &mut self,
                    place: u8,
                    seen: &mut u64,
                    line: &mut $crate::query::plain::PlainReader<$life>,
                ) -> Result<bool, $crate::query::plain::NotPlain> {
                    // The compiler makes one table of jumps of these.
                    $(if place == PlainMember::$member as u8 {
                        if !line.pass(concat!('"', stringify!($member), "\":")) {
                            return Ok(false);
                        }
                        let bit = 1 << PlainMember::$member as u8;
                        if *seen & bit != 0 {
                            return Err($crate::query::plain::NotPlain);
                        }
                        *seen |= bit;
                        self.$member = $crate::query::plain::PlainValue::read(line)?;
                        return Ok(true);
                    })+
                    $($(if place == PlainMember::$other as u8 {
                        if !line.pass(concat!('"', stringify!($other), "\":")) {
                            return Ok(false);
                        }
                        line.skip()?;
                        return Ok(true);
                    })+)?
                    Ok(false)
                }
            }
        };
    };
}

pub(super) use record;

/// A struct that [`record`] declared.
pub(super) trait PlainRecord<'a> {
    /// Returns the place of a name in the list of names that are known.
    fn place_of(name: &str) -> Option<u8>;

    /// Reads the member of the name at `place`, if it is the next one. Returns false if another one is. Fails if `seen`,
    /// which has a bit for each member of the struct, says that it was read before: serde_json refuses such a line.
    fn read_member(
        &mut self,
        place: u8,
        seen: &mut u64,
        line: &mut PlainReader<'a>,
    ) -> Result<bool, NotPlain>;
}

/// A value of a member.
pub(super) trait PlainValue<'a>: Sized {
    fn read(line: &mut PlainReader<'a>) -> Result<Self, NotPlain>;
}

/// The line has another form, or a value is not of the type that is read.
#[derive(Debug)]
pub(super) struct NotPlain;

/// Reads the members of the line into `record`. Returns `None` if the line has another form, or is not what `T` expects;
/// some members may then have been read. `order` is that of the members in the lines before.
pub(super) fn read<'a, T: PlainRecord<'a>>(
    line: &'a [u8],
    order: &mut MemberOrder,
    record: &mut T,
) -> Option<()> {
    let mut line = PlainReader { rest: line };
    if !line.pass("{") {
        return None;
    }
    let (mut last, mut seen) = (MemberOrder::BEGINNING, 0);
    loop {
        let expected = order.after(last);
        if record.read_member(expected, &mut seen, &mut line).ok()? {
            last = expected;
        } else if let Some(place) = T::place_of(line.next_name()?) {
            order.learn(last, place);
            if !record.read_member(place, &mut seen, &mut line).ok()? {
                return None;
            }
            last = place;
        } else {
            line.string().ok()?;
            if !line.pass(":") {
                return None;
            }
            line.skip().ok()?;
        }
        if !line.pass(",") {
            break;
        }
    }
    (line.rest == b"}").then_some(())
}

/// The order in which the lines before had their members: those of one log mostly have the same ones. A guess of the next
/// name, which is compared first, spares a look at all names.
#[derive(Clone, Debug)]
pub(super) struct MemberOrder {
    /// By the place of a name: the place of the name that came behind it.
    after: [u8; 256],
}

impl MemberOrder {
    const BEGINNING: u8 = 0;

    fn after(&self, place: u8) -> u8 {
        self.after[usize::from(place)]
    }

    fn learn(&mut self, place: u8, next: u8) {
        self.after[usize::from(place)] = next;
    }
}

/// The order of the list of names.
impl Default for MemberOrder {
    fn default() -> MemberOrder {
        const AFTER: [u8; 256] = {
            let (mut after, mut place) = ([0; 256], 0);
            while place < 255 {
                after[place] = place as u8 + 1;
                place += 1;
            }
            after
        };
        MemberOrder { after: AFTER }
    }
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

/// The part of a line that was not read. Its short methods are compiled into the reader of each member, so that it stays
/// in registers; what they call for longer work takes the rest as a value.
pub(super) struct PlainReader<'a> {
    rest: &'a [u8],
}

impl<'a> PlainReader<'a> {
    /// Moves behind `text`, if it is next.
    #[inline(always)]
    pub(super) fn pass(&mut self, text: &str) -> bool {
        let behind = self.rest.strip_prefix(text.as_bytes());
        self.rest = behind.unwrap_or(self.rest);
        behind.is_some()
    }

    /// Moves behind the next bytes, which are a value.
    #[inline(always)]
    fn move_behind(&mut self, length: usize) -> Result<(), NotPlain> {
        self.rest = self.rest.get(length..).ok_or(NotPlain)?;
        Ok(())
    }

    /// Returns the name that is next, unless it has escapes.
    fn next_name(&self) -> Option<&'a str> {
        match (PlainReader { rest: self.rest }).string() {
            Ok(Cow::Borrowed(name)) => Some(name),
            _ => None,
        }
    }

    /// Reads a string, borrowed unless it has escapes.
    #[inline(always)]
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, NotPlain> {
        if let Some(text) = plain_string(self.rest) {
            self.move_behind(text.len() + 2)?;
            return Ok(Cow::Borrowed(text));
        }
        let (text, length) = any_string(self.rest).ok_or(NotPlain)?;
        self.move_behind(length)?;
        Ok(text)
    }

    /// Moves behind a value of any type. Numbers and escapes are read in full, since serde_json refuses wrong ones that
    /// are ignored, too.
    #[inline(always)]
    pub(super) fn skip(&mut self) -> Result<(), NotPlain> {
        match self.rest.first() {
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => f64::read(self).map(drop),
            _ => bool::read(self).map(drop),
        }
    }
}

/// Reads the string with which `rest` begins. Returns its text and its length with the quotes.
#[inline(never)]
fn any_string(rest: &[u8]) -> Option<(Cow<'_, str>, usize)> {
    let string = rest.strip_prefix(b"\"")?;
    let (mut end, mut has_escape) = (0, false);
    loop {
        end += memchr::memchr2(b'"', b'\\', string.get(end..)?)?;
        if string[end] == b'"' {
            break;
        }
        has_escape = true;
        end += 2;
    }
    let (text, length) = (&string[..end], end + 2);
    if has_escape {
        return serde_json::from_slice(&rest[..length]).ok().map(|text| (Cow::Owned(text), length));
    }
    // JSON has no control character in a string.
    let text = std::str::from_utf8(text).ok().filter(|text| !text.bytes().any(|byte| byte < b' '))?;
    Some((Cow::Borrowed(text), length))
}

/// Returns the value of the digits with which `text` begins, behind that of `before`, which wraps, and the number of them.
#[inline(always)]
fn digits(text: &[u8], before: u64) -> (u64, usize) {
    let (mut value, mut count) = (before, 0);
    while let Some(byte @ b'0'..=b'9') = text.get(count) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
        count += 1;
    }
    (value, count)
}

/// Returns the whole number with which `rest` begins, without its sign, its length with it, and true if it is negative. The
/// length is 0 without a number, and for rare ones: those of more than 18 digits, and 0 with a sign.
#[inline(always)]
fn whole_number(rest: &[u8]) -> (u64, usize, bool) {
    let is_negative = rest.first() == Some(&b'-');
    let number = &rest[usize::from(is_negative)..];
    let (value, count) = digits(number, 0);
    let is_usual = (1..=18).contains(&count) && (number[0] != b'0' || (count == 1 && !is_negative));
    (value, if is_usual { usize::from(is_negative) + count } else { 0 }, is_negative)
}

/// Returns the whole number with which `rest` begins, and its length; 0 without one. The caller looks at what follows.
#[inline(never)]
fn integer(rest: &[u8]) -> (i64, usize) {
    let (value, length, is_negative) = whole_number(rest);
    let value = value as i64;
    // A value that wrapped has the length 0.
    (if is_negative { value.wrapping_neg() } else { value }, length)
}

/// Returns the number with which `rest` begins, and its length; 0 without one. The caller looks at what follows.
#[inline(never)]
fn float(rest: &[u8]) -> (f64, usize) {
    /// Powers of ten that a float represents exactly.
    const TENS: [f64; 16] =
        [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    let (mut value, mut length, is_negative) = whole_number(rest);
    let mut behind = 0;
    if length > 0 && rest.get(length) == Some(&b'.') {
        (value, behind) = digits(&rest[length + 1..], value);
        length = if behind > 0 { length + 1 + behind } else { 0 };
    }
    if length > 15 {
        let number = std::str::from_utf8(&rest[..length]).ok().and_then(|text| text.parse().ok());
        return number.map_or_else(Default::default, |number| (number, length));
    }
    // Both are exact, so the quotient is the float that is nearest to the number.
    let float = value as f64 / TENS[behind];
    (if is_negative { -float } else { float }, length)
}

/// Returns the time with which `rest` begins, in the form in which spantap writes times.
#[inline(never)]
fn usual_time(rest: &[u8]) -> Option<Timestamp> {
    let [b'"', text @ .., b'"'] = rest.first_chunk::<TIME>()? else { return None };
    Timestamp::of_record(text)
}

/// Length of a time with its quotes.
const TIME: usize = 29;

impl<'a, T: PlainValue<'a>> PlainValue<'a> for Option<T> {
    #[inline(always)]
    fn read(line: &mut PlainReader<'a>) -> Result<Option<T>, NotPlain> {
        T::read(line).map(Some)
    }
}

impl<'a> PlainValue<'a> for Cow<'a, str> {
    #[inline(always)]
    fn read(line: &mut PlainReader<'a>) -> Result<Cow<'a, str>, NotPlain> {
        line.string()
    }
}

impl PlainValue<'_> for bool {
    #[inline(always)]
    fn read(line: &mut PlainReader<'_>) -> Result<bool, NotPlain> {
        if line.pass("true") {
            Ok(true)
        } else if line.pass("false") {
            Ok(false)
        } else {
            Err(NotPlain)
        }
    }
}

macro_rules! integers {
    ($($integer:ty),+) => {$(
        impl PlainValue<'_> for $integer {
            #[inline(always)]
            fn read(line: &mut PlainReader<'_>) -> Result<$integer, NotPlain> {
                let (number, length) = integer(line.rest);
                line.move_behind(length)?;
                if length == 0 { Err(NotPlain) } else { number.try_into().map_err(|_| NotPlain) }
            }
        }
    )+};
}

integers!(u64, u32, i32);

impl PlainValue<'_> for f64 {
    #[inline(always)]
    fn read(line: &mut PlainReader<'_>) -> Result<f64, NotPlain> {
        let (number, length) = float(line.rest);
        line.move_behind(length)?;
        if length == 0 { Err(NotPlain) } else { Ok(number) }
    }
}

impl PlainValue<'_> for Timestamp {
    #[inline(always)]
    fn read(line: &mut PlainReader<'_>) -> Result<Timestamp, NotPlain> {
        if let Some(time) = usual_time(line.rest) {
            line.move_behind(TIME)?;
            return Ok(time);
        }
        line.string()?.parse().map_err(|_| NotPlain)
    }
}

macro_rules! words {
    ($($words:ty: $of_other:expr),+) => {$(
        impl PlainValue<'_> for $words {
            #[inline(always)]
            fn read(line: &mut PlainReader<'_>) -> Result<$words, NotPlain> {
                <$words>::from_word(&line.string()?).or($of_other).ok_or(NotPlain)
            }
        }
    )+};
}

words!(EventName: Some(EventName::default()), Status: Some(Status::default()), Direction: None);

impl<'a, T> PlainValue<'a> for Vec<T> {
    fn read(_line: &mut PlainReader<'a>) -> Result<Vec<T>, NotPlain> {
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
        passed over: old, new_flag
    }

    fn plain(line: &[u8]) -> Option<String> {
        plain_after(&mut MemberOrder::default(), line)
    }

    fn plain_after(order: &mut MemberOrder, line: &[u8]) -> Option<String> {
        let mut record = Line::default();
        read(line, order, &mut record).map(|()| format!("{record:?}"))
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
