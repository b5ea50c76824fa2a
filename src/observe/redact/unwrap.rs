//! The text behind the notation: escapes decoded, markup removed, base64 read. The detectors look at such a
//! text, and what they find is mapped back to the text as it came.

use std::borrow::Cow;

use crate::observe::redact::detect::runs::ByteSet;

/// A text in another notation, and where each part of it came from.
#[derive(Debug)]
pub(super) struct Unwrapped {
    pub(super) text: String,
    /// The start of every piece, in `text` and in the original. Within a piece both advance in step if the
    /// piece has the same length in both; otherwise it is one unit that was decoded.
    pieces: Vec<(usize, usize)>,
    /// The length of the original.
    length: usize,
}

impl Unwrapped {
    fn new(original: &str) -> Unwrapped {
        Unwrapped { text: String::with_capacity(original.len()), pieces: Vec::new(), length: original.len() }
    }

    /// Appends the original text from `from`, as it is.
    fn keep(&mut self, from: usize, text: &str) {
        if !text.is_empty() {
            self.pieces.push((self.text.len(), from));
            self.text.push_str(text);
        }
    }

    /// Appends `decoded` for what is at `from` in the original.
    fn decode(&mut self, from: usize, decoded: &str) {
        self.pieces.push((self.text.len(), from));
        self.text.push_str(decoded);
    }

    /// Returns the span of the original behind a span of the text.
    pub(super) fn original(&self, start: usize, end: usize) -> (usize, usize) {
        let piece = |position: usize| {
            let next = self.pieces.partition_point(|(at, _)| *at <= position);
            let (at, from) =
                next.checked_sub(1).and_then(|last| self.pieces.get(last)).copied().unwrap_or((0, 0));
            let (end, until) = self.pieces.get(next).copied().unwrap_or((self.text.len(), self.length));
            (at, from, end, until)
        };
        let (at, from, piece_end, until) = piece(start);
        let first = if piece_end - at == until - from { from + start - at } else { from };
        let (at, from, piece_end, until) = piece(end.saturating_sub(1));
        let last = if piece_end - at == until - from { from + end - at } else { until };
        (first, last.max(first))
    }
}

/// Decodes percent signs, HTML entities, `\u0022`, `\x22`, `\/`, `\n` and characters that look like an ASCII
/// operator or quote, also in each other. Returns `None` for a text without them.
pub(super) fn escapes(text: &str) -> Option<Vec<Unwrapped>> {
    const DEEPEST: usize = 3;
    let mut layers: Vec<Unwrapped> = Vec::new();
    for _ in 0..DEEPEST {
        let text = layers.last().map_or(text, |layer| layer.text.as_str());
        match decode_once(text) {
            Some(layer) => layers.push(layer),
            None => break,
        }
    }
    (!layers.is_empty()).then_some(layers)
}

/// Returns the span of the original of the first of `layers` behind a span of the last of them.
pub(super) fn original(layers: &[Unwrapped], start: usize, end: usize) -> (usize, usize) {
    layers.iter().rev().fold((start, end), |(start, end), layer| layer.original(start, end))
}

fn decode_once(text: &str) -> Option<Unwrapped> {
    let bytes = text.as_bytes();
    static STARTS: ByteSet = ByteSet::of(b"%&\\\"'^").with_wide();
    let mut unwrapped: Option<Unwrapped> = None;
    let (mut kept, mut at) = (0, 0);
    while let Some(next) = STARTS.next(bytes, at) {
        at = next;
        if let Some(length) = nothing_at(bytes, at) {
            let into = unwrapped.get_or_insert_with(|| Unwrapped::new(text));
            into.keep(kept, text.get(kept..at).unwrap_or_default());
            into.decode(at, "");
            at += length;
            kept = at;
            continue;
        }
        let Some((length, decoded)) = decoded_at(bytes, at) else {
            at += 1;
            continue;
        };
        let into = unwrapped.get_or_insert_with(|| Unwrapped::new(text));
        into.keep(kept, text.get(kept..at).unwrap_or_default());
        into.decode(at, decoded.encode_utf8(&mut [0; 4]));
        at += length;
        kept = at;
    }
    let mut unwrapped = unwrapped?;
    unwrapped.keep(kept, text.get(kept..).unwrap_or_default());
    Some(unwrapped)
}

/// Returns the length and the character of the escape at `at`.
fn decoded_at(bytes: &[u8], at: usize) -> Option<(usize, char)> {
    let rest = bytes.get(at..)?;
    match rest {
        [b'%', a, b, ..] => byte_of(&[*a, *b]).and_then(|byte| percent(rest, byte)),
        [b'&', rest @ ..] => entity(rest),
        [b'\\', ..] => backslash(rest),
        // `：` and `＝`
        [0xef, 0xbc, 0x9a, ..] => Some((3, ':')),
        [0xef, 0xbc, 0x9d, ..] => Some((3, '=')),
        [0xef, 0xbc, 0xa0, ..] => Some((3, '@')),
        // Corner brackets quote in Chinese and Japanese.
        [0xe3, 0x80, 0x8c..=0x8f, ..] => Some((3, '"')),
        // Typographic quotes.
        [0xe2, 0x80, 0x9c..=0x9e, ..] => Some((3, '"')),
        [0xe2, 0x80, 0x98..=0x9a, ..] => Some((3, '\'')),
        _ => None,
    }
}

/// Returns the length of what a reader does not see: the end of a line that goes on (`\\` and a line end), the signs
/// between two parts of a string (`" + "`), the escape of a terminal sequence (`\x1b[31m`, `^[[31m`).
fn nothing_at(bytes: &[u8], at: usize) -> Option<usize> {
    const LONGEST: usize = 40;
    let rest = bytes.get(at..bytes.len().min(at + LONGEST))?;
    let blanks = |from: usize| {
        let is_blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        rest.get(from..).map_or(0, |rest| rest.iter().take_while(is_blank).count())
    };
    match rest {
        [b'\\', b'\n', ..] => Some(1 + blanks(1)),
        [quote @ (b'"' | b'\''), b' ' | b'+' | b'\n' | b'\r', ..] => {
            let gap = 1 + blanks(1);
            let has_sign = rest.get(gap) == Some(&b'+');
            let end = if has_sign { gap + 1 + blanks(gap + 1) } else { gap };
            let goes_on = has_sign || rest.get(1..gap).is_some_and(|gap| gap.contains(&b'\n'));
            (goes_on && rest.get(end) == Some(quote)).then_some(end + 1)
        }
        [b'^' | b'\\', ..] => written_sequence(rest),
        _ => None,
    }
}

/// Returns the length of the terminal sequence that is written as an escape at the start of `text`: `\x1b[31m`,
/// `\u{1b}[0m`, `^[[31m`, `\033(B`.
pub(super) fn written_sequence(text: &[u8]) -> Option<usize> {
    const ESCAPES: [&[u8]; 9] = [b"^[", b"x1b", b"x1B", b"u001b", b"u001B", b"u{1b}", b"u{1B}", b"033", b"e"];
    // JSON in JSON doubles the backslashes.
    let slashes = text.iter().take_while(|byte| **byte == b'\\').count();
    let name = text.get(slashes..)?;
    let escape = ESCAPES
        .into_iter()
        .find(|escape| name.starts_with(escape) && (slashes > 0) != escape.starts_with(b"^"))?;
    let start = slashes + escape.len();
    let length = match name.get(escape.len()..)? {
        [b'[', sequence @ ..] => {
            let is_part = |byte: &&u8| byte.is_ascii_digit() || matches!(byte, b';' | b'?');
            let length = sequence.iter().take_while(is_part).count();
            1 + length + usize::from(sequence.get(length)?.is_ascii_alphabetic())
        }
        // A character set.
        [b'(' | b')', b'0' | b'A' | b'B', ..] => 2,
        _ => return None,
    };
    (length > 1).then_some(start + length)
}

/// Returns the length and the character of an escape of one or more backslashes.
fn backslash(rest: &[u8]) -> Option<(usize, char)> {
    const MOST: usize = 8;
    let slashes = rest.iter().take(MOST).take_while(|byte| **byte == b'\\').count();
    let (length, c) = match rest.get(slashes..)? {
        [b'u', digits @ ..] => (5, char::from_u32(number(digits.get(..4)?, 16)?)?),
        [b'x', digits @ ..] => (3, char::from_u32(number(digits.get(..2)?, 16)?)?),
        [b'/', ..] => (1, '/'),
        [b'n' | b'r', ..] => return Some((slashes + 1, '\n')),
        _ => return None,
    };
    is_shown(c).then_some((slashes + length, c))
}

/// Returns the character of an escape of percent signs: one byte, or a character of UTF-8.
fn percent(rest: &[u8], first: u8) -> Option<(usize, char)> {
    let count = match first {
        0x20..=0x7e => return Some((3, char::from(first))),
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    let mut utf8 = [0; 4];
    for (slot, escape) in utf8.iter_mut().zip(rest.chunks_exact(3).take(count)) {
        *slot = escape.strip_prefix(b"%").and_then(byte_of)?;
    }
    let c = std::str::from_utf8(utf8.get(..count)?).ok()?.chars().next()?;
    Some((3 * count, c))
}

fn byte_of(digits: &[u8]) -> Option<u8> {
    number(digits, 16).and_then(|number| u8::try_from(number).ok())
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    u32::from_str_radix(digits, radix).ok()
}

/// Returns the length and the character of the HTML entity after an ampersand.
fn entity(rest: &[u8]) -> Option<(usize, char)> {
    #[rustfmt::skip]
    const NAMES: &[(&[u8], char)] = &[
        (b"amp", '&'), (b"quot", '"'), (b"apos", '\''), (b"lt", '<'), (b"gt", '>'), (b"nbsp", ' '),
        (b"colon", ':'), (b"equals", '='), (b"commat", '@'), (b"sol", '/'), (b"period", '.'),
        (b"lowbar", '_'), (b"num", '#'), (b"lcub", '{'), (b"rcub", '}'), (b"semi", ';'), (b"dash", '-'),
    ];
    let end = rest.iter().take(10).position(|byte| *byte == b';')?;
    let name = rest.get(..end)?;
    let c = match name {
        [b'#', b'x' | b'X', digits @ ..] => char::from_u32(number(digits, 16)?),
        [b'#', digits @ ..] => char::from_u32(number(digits, 10)?),
        _ => NAMES.iter().find(|(known, _)| *known == name).map(|(_, c)| *c),
    };
    Some((end + 2, c.filter(|c| is_shown(*c))?))
}

/// Returns true for a character that sanitizing keeps.
fn is_shown(c: char) -> bool {
    !c.is_control()
}

/// Reads markup as the text that a reader sees: HTML elements, emphasis, code, cells of tables, arrows, dot
/// leaders. A border between two parts becomes a colon. Returns `None` for a text without markup.
pub(super) fn markup(text: &str) -> Option<Unwrapped> {
    // The bytes with which the marks of [`mark_at`] start.
    static STARTS: ByteSet = ByteSet::of(b"<*_`|-~=:.([\t\xe2");
    let bytes = text.as_bytes();
    let mut unwrapped: Option<Unwrapped> = None;
    let (mut kept, mut at) = (0, 0);
    while let Some(next) = STARTS.next(bytes, at) {
        at = next;
        let Some((length, replaced)) = mark_at(bytes, at) else {
            at += 1;
            continue;
        };
        let into = unwrapped.get_or_insert_with(|| Unwrapped::new(text));
        into.keep(kept, text.get(kept..at).unwrap_or_default());
        into.decode(at, replaced);
        at += length;
        kept = at;
    }
    let mut unwrapped = unwrapped?;
    unwrapped.keep(kept, text.get(kept..).unwrap_or_default());
    Some(unwrapped)
}

/// Returns the length of the mark at `at` and the text that replaces it.
fn mark_at(bytes: &[u8], at: usize) -> Option<(usize, &'static str)> {
    let rest = bytes.get(at..)?;
    let line_starts = || at == 0 || bytes.get(at - 1) == Some(&b'\n');
    match rest {
        [b'<', ..] => tag(rest),
        [b'*', b'*', ..] | [b'_', b'_', ..] => Some((2, "")),
        [b'`', ..] => Some((rest.iter().take(3).take_while(|byte| **byte == b'`').count(), "")),
        [b'*', next, ..] if *next != b' ' || at > 0 && bytes.get(at - 1) != Some(&b' ') => Some((1, "")),
        [b'|', ..] => Some((1, if line_starts() { "" } else { ":" })),
        // Borders of boxes: U+2500 to U+257F.
        [0xe2, 0x94 | 0x95, _, ..] => Some((3, if line_starts() { "" } else { ":" })),
        [b'-', b'-', b'>', ..] | [b'=', b'=', b'>', ..] => Some((3, ":")),
        [b'-' | b'~', b'>', ..] | [b':', b':', ..] => Some((2, ":")),
        [b'\t', ..] => Some((rest.iter().take_while(|byte| **byte == b'\t').count(), ": ")),
        // Arrows and dashes.
        [0xe2, 0x86 | 0x87 | 0x9e, _, ..] | [0xe2, 0x80, 0x93 | 0x94, ..] => Some((3, ":")),
        [b'.', b'.', b'.', b'.', ..] => Some((rest.iter().take_while(|byte| **byte == b'.').count(), ":")),
        [b'(' | b'[', ..] => note(rest),
        _ => None,
    }
}

/// Returns the length of the tag at the start of `rest`. The end of an element parts it from the next, with
/// the blanks and line ends between them.
fn tag(rest: &[u8]) -> Option<(usize, &'static str)> {
    const LONGEST: usize = 160;
    let closes = rest.get(1) == Some(&b'/');
    let name = rest.get(1 + usize::from(closes)..)?;
    if !name.first()?.is_ascii_alphabetic() {
        return None;
    }
    let window = rest.get(..rest.len().min(LONGEST)).unwrap_or(rest);
    let end = 1 + memchr::memchr(b'>', window)?;
    if !closes {
        return Some((end, " "));
    }
    let gap = rest.get(end..)?.iter().take(LONGEST).take_while(|byte| byte.is_ascii_whitespace()).count();
    Some((end + gap, ": "))
}

/// Returns the length of a note in brackets after a name: `Password (temporary): …`.
fn note(rest: &[u8]) -> Option<(usize, &'static str)> {
    const LONGEST: usize = 32;
    let window = rest.get(..rest.len().min(LONGEST)).unwrap_or(rest);
    let end = 1 + memchr::memchr2(b')', b']', window)?;
    let is_word =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'-' | b'_' | b'.' | b'/');
    let note = rest.get(1..end - 1)?;
    let gap = rest.get(end..)?.iter().take_while(|byte| **byte == b' ').count().min(2);
    let is_operator = matches!(rest.get(end + gap), Some(b':' | b'='));
    (is_operator && !note.is_empty() && note.iter().all(is_word)).then_some((end, ""))
}

/// Reads base64 of a text, also twice, or hexadecimal digits of one.
pub(super) fn encoded_text(run: &str) -> Option<Cow<'static, str>> {
    if run.len().is_multiple_of(2) && run.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let bytes: Option<Vec<u8>> = run.as_bytes().chunks(2).map(byte_of).collect();
        let is_text = |byte: &u8| matches!(byte, b'\n' | b'\t' | 0x20..=0x7e);
        return bytes
            .filter(|bytes| bytes.iter().all(is_text))
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .map(Cow::Owned);
    }
    let text = base64_text(run)?;
    let is_base64 =
        text.len() >= 24 && text.trim_end_matches('=').bytes().all(|byte| byte.is_ascii_alphanumeric());
    Some(if is_base64 { base64_text(&text).unwrap_or(text) } else { text })
}

/// Reads base64 or base64url of a text, also of UTF-16 as PowerShell takes it. Returns `None` for anything else.
fn base64_text(run: &str) -> Option<Cow<'static, str>> {
    const LONGEST: usize = 8 << 10;
    const SURE: usize = 16;
    let run = run.trim_end_matches('=').as_bytes();
    let run = run.get(..run.len().min(LONGEST)).unwrap_or(run);
    let is_text = |bytes: &[u8]| {
        let is_wide = bytes.get(1) == Some(&0);
        bytes.iter().enumerate().all(|(place, byte)| match byte {
            0 => is_wide && place % 2 == 1,
            b'\n' | b'\r' | b'\t' | 0x20..=0x7e => !(is_wide && place % 2 == 1),
            _ => *byte >= 0x80 && !is_wide,
        })
    };
    if !is_text(&decode_base64(run.get(..SURE)?)?) {
        return None;
    }
    let mut bytes = decode_base64(run)?;
    if !is_text(&bytes) {
        return None;
    }
    bytes.retain(|byte| *byte != 0);
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// Decodes base64 and base64url up to the padding. Returns `None` for another character.
pub(super) fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut word, mut bits) = (0_u32, 0_u32);
    for byte in text.iter().take_while(|byte| **byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        word = word << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits & 0xff) as u8);
        }
    }
    Some(bytes)
}
