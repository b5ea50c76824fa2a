//! What keeps a text on its own line and off the terminal: escape sequences out, control and
//! invisible characters visible, length capped.
//!
//! Sources: OWASP Logging Cheat Sheet (log injection); CVE-2025-58160 (escape sequences from outside
//! reaching a terminal through a log).

use std::borrow::Cow;
use std::fmt::Write;

use crate::text::unprintable::{is_control, is_invisible};

/// A text free of terminal sequences, in two forms: as a reader sees it (invisible characters gone),
/// and as it is (they are shown as `\u{…}`).
pub(super) struct Plain<'a> {
    pub(super) seen: Cow<'a, str>,
    /// Present where it differs from `seen`.
    pub(super) spelled_out: Option<String>,
    /// Where the asked-for places of the text lie in both forms.
    pub(super) places: Vec<(usize, usize)>,
}

/// Whether every byte is a printable ASCII character: nothing to do then.
pub(super) fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Which control characters stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    Nothing,
    Tabs,
    /// For texts that are not one record's: `spantap redact`.
    TabsAndLines,
}

impl Keep {
    fn keeps(self, c: char) -> bool {
        match c {
            '\t' => self != Keep::Nothing,
            '\n' => self == Keep::TabsAndLines,
            _ => false,
        }
    }
}

/// Takes terminal sequences and invisible characters out and makes control characters visible, except
/// those that are kept. `places` are bytes of the text, in order, that are to be found again.
pub(super) fn plain<'a>(text: &'a str, keep: Keep, places: &[usize]) -> Plain<'a> {
    if is_plain(text.as_bytes()) {
        let places = places.iter().map(|&place| (place, place)).collect();
        return Plain { seen: Cow::Borrowed(text), spelled_out: None, places };
    }
    let mut seen = String::with_capacity(text.len() + 16);
    let mut spelled_out: Option<String> = None;
    let mut found = Vec::with_capacity(places.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let at = text.len() - rest.len();
        while places.get(found.len()).is_some_and(|&place| place <= at) {
            found.push((seen.len(), spelled_out.as_ref().unwrap_or(&seen).len()));
        }
        if let Some(length) = terminal_sequence(rest) {
            rest = rest.get(length..).unwrap_or_default();
            continue;
        }
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        if is_invisible(c) {
            let all = spelled_out.get_or_insert_with(|| seen.clone());
            push_escaped(all, c);
            continue;
        }
        for form in [Some(&mut seen), spelled_out.as_mut()].into_iter().flatten() {
            if keep.keeps(c) || !is_control(c) { form.push(c) } else { push_escaped(form, c) }
        }
    }
    found.resize(places.len(), (seen.len(), spelled_out.as_ref().unwrap_or(&seen).len()));
    Plain { seen: Cow::Owned(seen), spelled_out, places: found }
}

fn push_escaped(text: &mut String, c: char) {
    let _ = write!(text, "\\u{{{:x}}}", c as u32);
}

/// Length of the terminal sequence at the start of `text` (ECMA-48: CSI, OSC and other strings, two-
/// character escapes). A string sequence without an end is taken for its first two characters only, so
/// that it cannot hide what follows.
fn terminal_sequence(text: &str) -> Option<usize> {
    const LONGEST_STRING: usize = 4096;
    let mut chars = text.char_indices();
    let (kind, body) = match chars.next()?.1 {
        '\x1b' => {
            let (at, kind) = chars.next()?;
            (kind, at + kind.len_utf8())
        }
        '\u{9b}' => ('[', 2),
        '\u{9d}' => (']', 2),
        _ => return None,
    };
    let rest = text.as_bytes().get(body..)?;
    match kind {
        '[' => {
            let parameters = rest.iter().take(64).take_while(|byte| matches!(byte, 0x20..=0x3f)).count();
            let complete = rest.get(parameters).is_some_and(|byte| matches!(byte, 0x40..=0x7e));
            Some(body + parameters + usize::from(complete))
        }
        ']' | 'P' | 'X' | '^' | '_' => {
            let window = rest.get(..rest.len().min(LONGEST_STRING)).unwrap_or(rest);
            let end = memchr::memchr3(0x07, 0x1b, b'\n', window);
            match end.map(|at| (at, window.get(at), window.get(at + 1))) {
                Some((at, Some(0x07), _)) => Some(body + at + 1),
                Some((at, Some(0x1b), Some(b'\\'))) => Some(body + at + 2),
                _ => Some(body),
            }
        }
        // A character set: `tput sgr0` writes ESC ( B.
        '(' | ')' => {
            Some(body + usize::from(rest.first().is_some_and(|byte| matches!(byte, b'0' | b'A' | b'B'))))
        }
        // Of any other escape the second character stays: it may be the first letter of a token.
        ' '..='~' => Some(body - kind.len_utf8()),
        _ => None,
    }
}

/// Whether a terminal sequence may stand in `text`.
pub(super) fn may_hold_sequences(text: &str) -> bool {
    text.contains(['\x1b', '\u{9b}', '\u{9d}'])
}

/// Where the terminal sequences of `text` start and end, in order.
pub(super) fn sequences(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| rest.find(['\x1b', '\u{9b}', '\u{9d}'])) {
        let start = from + at;
        let rest = text.get(start..).unwrap_or_default();
        let first = rest.chars().next().map_or(1, char::len_utf8);
        let length = terminal_sequence(rest).unwrap_or(first);
        found.push((start, start + length));
        from = start + length;
    }
    found
}

/// How long a text may be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    Characters(usize),
    Bytes(usize),
}

impl Limit {
    /// Length in bytes of the part of `text` that may stay.
    pub(super) fn fitting(self, text: &str) -> usize {
        match self {
            Limit::Characters(limit) if text.len() <= limit => text.len(),
            Limit::Characters(limit) => text.char_indices().nth(limit).map_or(text.len(), |(at, _)| at),
            Limit::Bytes(limit) => floor_char_boundary(text, limit),
        }
    }

    pub(super) fn number(self) -> usize {
        match self {
            Limit::Characters(limit) | Limit::Bytes(limit) => limit,
        }
    }
}

pub(super) fn floor_char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// What stands behind a text of which `bytes` are not shown.
pub(super) fn note(bytes: usize) -> String {
    format!("…(+{bytes} bytes)")
}

/// Splits a text that was cut before into what it shows and its note.
pub(super) fn split_note(text: &str) -> (&str, &str) {
    let Some(at) = text.len().checked_sub(40).map_or(Some(0), |from| {
        let from = floor_char_boundary(text, from);
        text.get(from..).and_then(|tail| tail.rfind('…')).map(|at| from + at)
    }) else {
        return (text, "");
    };
    let at = if text.len() < 40 { text.rfind('…').unwrap_or(text.len()) } else { at };
    let (shown, note) = text.split_at_checked(at).unwrap_or((text, ""));
    let digits = note.strip_prefix("…(+").and_then(|note| note.strip_suffix(" bytes)"));
    match digits {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            (shown, note)
        }
        _ => (text, ""),
    }
}
