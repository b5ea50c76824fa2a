//! Text that is safe to print: the only text that tables, lines and messages are made of.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::ops::Deref;

use serde::{Serialize, Serializer};
use unicode_width::UnicodeWidthChar;

use crate::text::unprintable::is_unprintable;

/// A text without escape sequences, control characters, bidi controls and invisible characters, which
/// makes it harmless on a terminal and in a page.
///
/// Every conversion writes such a character out as `\u{…}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Printable(String);

impl Printable {
    pub fn new(text: &str) -> Printable {
        Printable::from(Cow::Borrowed(text))
    }

    /// Cleans one line of JSON, whose value stays the same: in valid JSON unprintable characters occur only
    /// inside strings, where they can be escaped, and as white space between tokens.
    pub fn json(line: &str) -> Printable {
        if !line.contains(is_unprintable) {
            return Printable(line.to_owned());
        }
        let mut clean = String::with_capacity(line.len() + 16);
        for c in line.chars() {
            if matches!(c, '\t' | '\r' | '\n') {
                // Inside a string it would be escaped: this is space between tokens.
                clean.push(' ');
            } else if is_unprintable(c) {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(clean, "\\u{unit:04x}");
                }
            } else {
                clean.push(c);
            }
        }
        Printable(clean)
    }

    /// Writes a value as one line of JSON. Figures have at most nine decimals, because a sum of `f64` such as
    /// `1.0852609999999998` shows digits that were never measured.
    pub(crate) fn rounded_json(value: &impl Serialize) -> serde_json::Result<Printable> {
        struct NineDecimals;
        impl serde_json::ser::Formatter for NineDecimals {
            fn write_f64<W: ?Sized + std::io::Write>(
                &mut self,
                out: &mut W,
                value: f64,
            ) -> std::io::Result<()> {
                let rounded = format!("{value:.9}").parse().unwrap_or(value);
                serde_json::ser::CompactFormatter.write_f64(out, rounded)
            }
        }
        let mut line = Vec::new();
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut line, NineDecimals))?;
        Ok(Printable::json(&String::from_utf8_lossy(&line)))
    }

    /// Returns the number of terminal columns.
    pub(crate) fn width(&self) -> usize {
        self.chars().map(char_width).sum()
    }

    /// Cuts the text to `columns`; `ellipsis` marks the cut.
    pub(crate) fn cut(&self, columns: usize, ellipsis: &str) -> Printable {
        if self.width() <= columns {
            return self.clone();
        }
        let room = columns.saturating_sub(ellipsis.chars().map(char_width).sum());
        let mut used = 0;
        let mut short: String = self
            .chars()
            .take_while(|c| {
                used += char_width(*c);
                used <= room
            })
            .collect();
        if room > 0 {
            short.push_str(ellipsis);
        }
        Printable(short)
    }

    /// Puts facts side by side, as many on a line as fit. A fact is cut only if it is wider than a line.
    pub(crate) fn lines(
        facts: &[Printable],
        separator: &str,
        columns: usize,
        ellipsis: &str,
    ) -> Vec<Printable> {
        let mut lines: Vec<Printable> = Vec::new();
        for fact in facts.iter().filter(|fact| !fact.is_empty()) {
            match lines.last_mut() {
                Some(line) if line.width() + separator.len() + fact.width() <= columns => {
                    line.0.push_str(separator);
                    line.0.push_str(fact);
                }
                _ => lines.push(fact.cut(columns, ellipsis)),
            }
        }
        lines
    }
}

fn char_width(c: char) -> usize {
    c.width().unwrap_or(0)
}

impl From<Cow<'_, str>> for Printable {
    fn from(text: Cow<'_, str>) -> Printable {
        if !text.contains(is_unprintable) {
            return Printable(text.into_owned());
        }
        let mut clean = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            if is_unprintable(c) {
                let _ = write!(clean, "{}", c.escape_unicode());
            } else {
                clean.push(c);
            }
        }
        Printable(clean)
    }
}

impl From<&str> for Printable {
    fn from(text: &str) -> Printable {
        Printable::new(text)
    }
}

impl From<String> for Printable {
    fn from(text: String) -> Printable {
        Printable::from(Cow::<str>::Owned(text))
    }
}

impl From<&Printable> for Printable {
    fn from(text: &Printable) -> Printable {
        text.clone()
    }
}

impl Deref for Printable {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Printable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for Printable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_survives() {
        for (hostile, text) in [
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("a\nb\tc\r", "a\\u{a}b\\u{9}c\\u{d}"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("abc\u{202e}fdp.exe", "abc\\u{202e}fdp.exe"),
            ("line\u{2028}two\u{feff}", "line\\u{2028}two\\u{feff}"),
            ("\u{34f}\u{115f}\u{1160}\u{3164}\u{ffa0}", "\\u{34f}\\u{115f}\\u{1160}\\u{3164}\\u{ffa0}"),
            ("état 東京 مرحبا", "état 東京 مرحبا"),
        ] {
            assert_eq!(&*Printable::from(hostile), text);
        }
        assert_eq!(
            &*Printable::rounded_json(&[1.0852609999999998, 2.0, 1e300]).unwrap(),
            "[1.085261,2.0,1e+300]"
        );
        let line = serde_json::to_string("\u{9b}\u{202e}\u{e0001}x").unwrap();
        let cleaned = Printable::json(&line);
        assert!(cleaned.is_ascii());
        assert_eq!(
            serde_json::from_str::<String>(&cleaned).unwrap(),
            serde_json::from_str::<String>(&line).unwrap()
        );
    }

    #[test]
    fn texts_are_cut_at_columns() {
        let cut = |text: &str, columns, ellipsis| Printable::from(text).cut(columns, ellipsis).to_string();
        assert_eq!(cut("東京都庁", 5, "…"), "東京…");
        assert_eq!(cut("abcdef", 6, "…"), "abcdef");
        assert_eq!(cut("abcdef", 4, "..."), "a...");
        assert_eq!(cut("abcdef", 0, "…"), "");
        assert_eq!(Printable::from("e\u{301}").width(), 1, "a combining mark takes no column");
    }

    #[test]
    fn facts_that_do_not_fit_go_to_the_next_line() {
        let facts = ["58 calls", "", "10 errors", "a fact that is wider than a line"].map(Printable::from);
        let lines = |facts: &[Printable], columns| {
            let lines = Printable::lines(facts, ", ", columns, "…");
            lines.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(lines(&facts, 80), ["58 calls, 10 errors, a fact that is wider than a line"]);
        assert_eq!(lines(&facts, 20), ["58 calls, 10 errors", "a fact that is wide…"]);
        assert!(lines(&[], 20).is_empty());
    }
}
