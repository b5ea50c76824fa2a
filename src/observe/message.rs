//! Messages in JSON-RPC terms: their kinds, ids and texts.

use std::borrow::{Borrow, Cow};
use std::sync::Arc;

use crate::observe::envelope::{Envelope, Member};
use crate::observe::redact::length_of_whole_words;

/// The kind of a message. It depends on the members alone, so that messages of any MCP revision are
/// classified alike. A `method` or an `id` that is null counts as absent, as the peers read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// `method` and `id`.
    Request,
    /// `method` without `id`.
    Notification,
    /// `result` or `error`, without `method`.
    Response,
    /// Anything else.
    Neither,
}

pub fn kind(envelope: &Envelope) -> MessageKind {
    let answered = envelope.result_size.is_some() || envelope.error_size.is_some();
    let has = |member| envelope.raw(member).is_none_or(|raw| raw != b"null") && envelope.has(member);
    match (has(Member::Method), has(Member::Id)) {
        (true, true) => MessageKind::Request,
        (true, false) => MessageKind::Notification,
        (false, _) if answered => MessageKind::Response,
        (false, _) => MessageKind::Neither,
    }
}

/// A request id or a progress token. `1`, `1.0` and `"1"` are three ids, and differently escaped strings are
/// equal. An id that is not a string is kept as received.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct RequestId(Arc<[u8]>);

impl RequestId {
    /// Reads the raw JSON of an `id` member, or its beginning if the member was too long.
    pub fn new(raw: &[u8]) -> RequestId {
        RequestId(RequestId::normal(raw).into())
    }

    /// Returns the bytes of the id of this raw JSON, without an allocation if possible.
    pub(crate) fn normal(raw: &[u8]) -> Cow<'_, [u8]> {
        let needs_care = raw.first() == Some(&b'"') && (raw.contains(&b'\\') || !raw.is_ascii());
        let normal = if needs_care {
            serde_json::from_slice::<String>(raw).ok().and_then(|text| serde_json::to_vec(&text).ok())
        } else {
            None
        };
        normal.map_or(Cow::Borrowed(raw), Cow::Owned)
    }

    /// Returns the id that all spellings of this id's value share: `1` for `"1"`, `1.0` and `1e0`. Several SDKs
    /// compare the value, so that an answer with another spelling is the answer for their hosts.
    pub fn value(&self) -> RequestId {
        match value(&self.0) {
            Cow::Borrowed(same) if same.len() == self.0.len() => self.clone(),
            value => RequestId(value.into()),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Returns the bytes that all spellings of an id's value share. The value of a string is the number that JavaScript's
/// `Number` reads in it, with which the official TypeScript SDK finds the request: 0 for `""`, 16 for `"0x10"`.
pub(crate) fn value(id: &[u8]) -> Cow<'_, [u8]> {
    let number = match id {
        [b'"', inner @ .., b'"'] => in_string(inner.trim_ascii()),
        _ => decimal(id),
    };
    number.unwrap_or(Cow::Borrowed(id))
}

/// Returns the shortest spelling of the number in a string without blanks around it.
fn in_string(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    let radix = match text {
        [] => return Some(Cow::Borrowed(b"0")),
        [b'0', b'x' | b'X', ..] => 16,
        [b'0', b'o' | b'O', ..] => 8,
        [b'0', b'b' | b'B', ..] => 2,
        [b'+', unsigned @ ..] if !unsigned.starts_with(b"-") => return decimal(unsigned),
        _ => return decimal(text),
    };
    let digits = std::str::from_utf8(&text[2..]).ok().filter(|digits| !digits.starts_with('+'))?;
    Some(Cow::Owned(u64::from_str_radix(digits, radix).ok()?.to_string().into_bytes()))
}

/// Returns the shortest spelling of a decimal number: `10` for `010`, `1e1` and `10.0`. `None` for other text.
fn decimal(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    /// Digits up to which a number is written without an exponent.
    const PLAIN: usize = 20;
    let (sign, unsigned): (&[u8], _) = match text {
        [b'-', rest @ ..] => (b"-", rest),
        _ => (b"", text),
    };
    let all_digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if unsigned.len() <= PLAIN && all_digits(unsigned) && unsigned[0] != b'0' {
        return Some(Cow::Borrowed(text));
    }
    let (mantissa, exponent) = match unsigned.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&unsigned[..at], std::str::from_utf8(&unsigned[at + 1..]).ok()?.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = match mantissa.iter().position(|byte| *byte == b'.') {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &b""[..]),
    };
    let is_number = |part: &[u8]| part.is_empty() || all_digits(part);
    if !is_number(whole) || !is_number(fraction) || whole.len() + fraction.len() == 0 {
        return None;
    }
    let digits = [whole, fraction].concat();
    let after_zeros = digits.iter().position(|digit| *digit != b'0');
    let Some(start) = after_zeros else { return Some(Cow::Borrowed(b"0")) };
    let end = digits.iter().rposition(|digit| *digit != b'0')? + 1;
    let exponent = i64::from(exponent) + (whole.len() as i64) - (end as i64);
    let digits = &digits[start..end];
    let zeros = usize::try_from(exponent).ok().filter(|zeros| digits.len() + zeros <= PLAIN);
    let tail = zeros.map_or_else(|| format!("e{exponent}"), |zeros| "0".repeat(zeros));
    Some(Cow::Owned([sign, digits, tail.as_bytes()].concat()))
}

impl Borrow<[u8]> for RequestId {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// Returns the text of a JSON string. Other JSON is returned as it is, and a string that was cut off
/// without its quote.
pub fn text(raw: &[u8]) -> Cow<'_, [u8]> {
    if raw.first() == Some(&b'"') {
        if let Ok(text) = serde_json::from_slice::<Cow<'_, str>>(raw) {
            return Cow::Owned(text.into_owned().into_bytes());
        }
        let inner = raw.strip_prefix(b"\"").unwrap_or(raw);
        return unescaped(inner.strip_suffix(b"\"").unwrap_or(inner));
    }
    Cow::Borrowed(raw)
}

/// Returns the text of a JSON string that people write. If only its beginning was kept, the last word is
/// left out, because it may be half a secret.
pub fn free_text(raw: &[u8]) -> Cow<'_, [u8]> {
    let text = text(raw);
    let is_whole = match raw {
        [b'"', inner @ .., b'"'] => inner.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0,
        [b'"', ..] => false,
        _ => true,
    };
    if is_whole { text } else { Cow::Owned(text[..length_of_whole_words(&text)].to_vec()) }
}

/// Replaces the escapes in a string that is not valid JSON or was cut off. Invalid and incomplete escapes
/// are kept as they are.
fn unescaped(raw: &[u8]) -> Cow<'_, [u8]> {
    let mut rest = raw;
    let mut out = Vec::new();
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (before, escape) = rest.split_at(at);
        out.extend_from_slice(before);
        // An escaped character outside the BMP is a pair of surrogates.
        let lengths: &[usize] = if escape.get(1) == Some(&b'u') { &[12, 6] } else { &[2] };
        let character = lengths.iter().find_map(|&length| {
            let quoted = [b"\"", escape.get(..length)?, b"\""].concat();
            let text = serde_json::from_slice::<String>(&quoted).ok()?;
            (length < 12 || text.chars().count() == 1).then_some((length, text))
        });
        match character {
            Some((length, text)) => {
                out.extend_from_slice(text.as_bytes());
                rest = &escape[length..];
            }
            None => {
                out.push(b'\\');
                rest = &escape[1..];
            }
        }
    }
    if rest.len() == raw.len() {
        return Cow::Borrowed(raw);
    }
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

/// Returns the shortest spelling of a JSON value, because the peers may escape it differently.
pub(crate) fn plain(raw: &[u8]) -> Option<Vec<u8>> {
    serde_json::to_vec(&serde_json::from_slice::<serde_json::Value>(raw).ok()?).ok()
}

/// Returns the value of a JSON number without a fraction.
pub fn integer(raw: &[u8]) -> Option<i64> {
    /// Doubles that fit into an `i64`. The cast of others would give another number.
    const RANGE: std::ops::Range<f64> = -9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0;
    let number: serde_json::Number = serde_json::from_slice(raw).ok()?;
    number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|float| float.fract() == 0.0 && RANGE.contains(float))?;
        Some(float as i64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_apart_as_the_peers_do() {
        let id = |raw: &str| RequestId::new(raw.as_bytes());
        assert_ne!(id("1"), id("\"1\""));
        assert_ne!(id("1"), id("1.0"));
        assert_eq!(id("\"é\""), id("\"\\u00e9\""));
        assert_eq!(id("\"a/b\""), id("\"a\\/b\""));
    }

    #[test]
    fn ids_of_equal_value_share_one_spelling() {
        let value =
            |raw: &str| String::from_utf8(RequestId::new(raw.as_bytes()).value().bytes().to_vec()).unwrap();
        for (plain, spellings) in [
            (
                "1",
                &[
                    "1",
                    "1.0",
                    "1e0",
                    "10e-1",
                    "0.1E+1",
                    "\"1\"",
                    "\"01\"",
                    "\" 1.0 \"",
                    "\"\\u0031\"",
                    "\"0x1\"",
                    "\"+1\"",
                    "\"1.\"",
                    "\"0b01\"",
                ][..],
            ),
            ("0", &["0", "-0", "0.0", "0e9", "\"0\"", "\"000\"", "\"\"", "\"  \"", "\".0\""]),
            ("26", &["26", "\"0x1A\"", "\"0o32\""]),
            ("-7", &["-7", "-7.00", "\"-7\""]),
            ("1000", &["1000", "1e3", "\"1000\""]),
            ("1e30", &["1e30", "10e29", "1000000000000000000000000000000"]),
            ("18446744073709551617", &["18446744073709551617", "\"18446744073709551617\""]),
            ("15e-1", &["1.5", "15e-1", "\"1.50\""]),
        ] {
            for spelling in spellings {
                assert_eq!(value(spelling), plain, "{spelling}");
            }
        }
        for other in [
            "\"a\"", "\"1a\"", "\"0x\"", "\"0xg\"", "\"-0x1\"", "\"0x+1\"", "\"+-1\"", "\"1e\"", "\"-\"",
            "\".\"", "\"1_0\"", "true", "[1]", "\"1", "\"NaN\"",
        ] {
            assert_eq!(value(other), other);
        }
        assert_ne!(value("18446744073709551617"), value("18446744073709551616"));
    }

    #[test]
    fn a_string_that_was_cut_off_is_taken_as_it_stands() {
        assert_eq!(&*text(br#""whole \"one\"""#), b"whole \"one\"");
        assert_eq!(&*text(br#""cut off"#), b"cut off");
        assert_eq!(&*text(b"12"), b"12");
    }
}
