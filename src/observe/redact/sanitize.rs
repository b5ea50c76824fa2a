//! Keeps a text on its own line and off the terminal: removes escape sequences, makes control and
//! invisible characters visible, limits the length.
//!
//! Sources: OWASP Logging Cheat Sheet (log injection); CVE-2025-58160 (escape sequences from outside
//! reaching a terminal through a log).

use std::borrow::Cow;
use std::fmt::Write;

use crate::text::unprintable::{is_control, is_invisible};

/// A text without terminal sequences, in two forms.
pub(super) struct SanitizedText<'a> {
    /// The text as a reader sees it: without invisible characters.
    pub(super) visible: Cow<'a, str>,
    /// The text with invisible characters as `\u{…}`, if that differs from `visible`.
    pub(super) spelled_out: Option<String>,
    /// The given positions in `visible` and in `spelled_out`.
    pub(super) positions: Vec<(usize, usize)>,
}

/// The control characters that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeptControls {
    None,
    Tabs,
    /// For texts that are not part of a record: `spantap redact`.
    TabsAndLines,
}

impl KeptControls {
    fn contains(self, c: char) -> bool {
        match c {
            '\t' => self != KeptControls::None,
            '\n' => self == KeptControls::TabsAndLines,
            _ => false,
        }
    }
}

/// Removes terminal sequences, invisible characters and the CR of line ends, and makes the control characters that
/// are not kept visible. `positions` are bytes of `text`, in order; the result holds where they are now.
pub(super) fn sanitize<'a>(text: &'a str, kept: KeptControls, positions: &[usize]) -> SanitizedText<'a> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        let positions = positions.iter().map(|&position| (position, position)).collect();
        return SanitizedText { visible: Cow::Borrowed(text), spelled_out: None, positions };
    }
    let mut visible = String::with_capacity(text.len() + 16);
    let mut spelled_out: Option<String> = None;
    let mut found = Vec::with_capacity(positions.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let at = text.len() - rest.len();
        while positions.get(found.len()).is_some_and(|&position| position <= at) {
            found.push((visible.len(), spelled_out.as_ref().unwrap_or(&visible).len()));
        }
        if let Some(length) = terminal_sequence(rest) {
            rest = rest.get(length..).unwrap_or_default();
            continue;
        }
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        // CR and LF are one line end.
        if c == '\r' && rest.starts_with('\n') {
            continue;
        }
        if is_invisible(c) {
            push_escaped(spelled_out.get_or_insert_with(|| visible.clone()), c);
            continue;
        }
        for form in [Some(&mut visible), spelled_out.as_mut()].into_iter().flatten() {
            if kept.contains(c) || !is_control(c) { form.push(c) } else { push_escaped(form, c) }
        }
    }
    found.resize(positions.len(), (visible.len(), spelled_out.as_ref().unwrap_or(&visible).len()));
    SanitizedText { visible: Cow::Owned(visible), spelled_out, positions: found }
}

fn push_escaped(text: &mut String, c: char) {
    let _ = write!(text, "\\u{{{:x}}}", c as u32);
}

/// Returns the length of the terminal sequence at the start of `text` (ECMA-48: CSI, OSC and other
/// strings, two-character escapes). Only the first two characters of a string sequence without an end
/// count, so that it cannot hide the text after it.
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
        // A character set. `tput sgr0` writes ESC ( B.
        '(' | ')' => {
            Some(body + usize::from(rest.first().is_some_and(|byte| matches!(byte, b'0' | b'A' | b'B'))))
        }
        // The second character of any other escape is kept: it may be the first letter of a token.
        ' '..='~' => Some(body - kind.len_utf8()),
        _ => None,
    }
}

/// Returns true if `text` starts with a terminal sequence.
pub(super) fn starts_with_sequence(text: &str) -> bool {
    text.starts_with(SEQUENCE_STARTS) && terminal_sequence(text).is_some()
}

/// Returns true if `text` may contain a terminal sequence.
pub(super) fn may_hold_sequences(text: &str) -> bool {
    let bytes = text.as_bytes();
    memchr::memchr2_iter(0x1b, 0xc2, bytes)
        .any(|at| matches!(bytes.get(at..), Some([0x1b, ..] | [0xc2, 0x9b | 0x9d, ..])))
}

const SEQUENCE_STARTS: [char; 3] = ['\x1b', '\u{9b}', '\u{9d}'];

/// Returns the start and the end of every terminal sequence of `text`, in order.
pub(super) fn sequences(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| rest.find(SEQUENCE_STARTS)) {
        let start = from + at;
        let rest = text.get(start..).unwrap_or_default();
        let first = rest.chars().next().map_or(1, char::len_utf8);
        from = start + terminal_sequence(rest).unwrap_or(first);
        found.push((start, from));
    }
    found
}

/// The greatest length of a text.
#[derive(Clone, Copy, Debug)]
pub(super) enum TextLimit {
    Characters(usize),
    Bytes(usize),
}

impl TextLimit {
    /// Returns the length, in bytes, of the longest start of `text` within the limit.
    pub(super) fn fitting(self, text: &str) -> usize {
        match self {
            TextLimit::Characters(limit) if text.len() <= limit => text.len(),
            TextLimit::Characters(limit) => text.char_indices().nth(limit).map_or(text.len(), |(at, _)| at),
            TextLimit::Bytes(limit) => text.floor_char_boundary(limit),
        }
    }

    pub(super) fn number(self) -> usize {
        match self {
            TextLimit::Characters(limit) | TextLimit::Bytes(limit) => limit,
        }
    }
}

/// Returns the note that follows a text of which `bytes` are not shown.
pub(super) fn cut_note(bytes: usize) -> String {
    format!("…(+{bytes} bytes)")
}

/// Splits a text that was cut earlier into the shown part and its note.
pub(super) fn split_cut_note(text: &str) -> (&str, &str) {
    const LONGEST_NOTE: usize = 40;
    let from = text.floor_char_boundary(text.len().saturating_sub(LONGEST_NOTE));
    let Some(at) = text.get(from..).and_then(|tail| tail.rfind('…')) else { return (text, "") };
    let (shown, note) = text.split_at_checked(from + at).unwrap_or((text, ""));
    let digits = note.strip_prefix("…(+").and_then(|note| note.strip_suffix(" bytes)"));
    match digits {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            (shown, note)
        }
        _ => (text, ""),
    }
}
