//! Numbers, instants and foreign texts in the form in which a person reads them.

use std::borrow::Cow;
use std::fmt::Write;

use jiff::tz::TimeZone;

use crate::record::timestamp::Timestamp;

/// `0.4 ms`, `84 ms`, `1.24 s`, `12.4 s`, `3 min 20 s`, `2 h 05 min`, `3 d 04 h`.
pub fn duration(ms: f64) -> String {
    let seconds = ms / 1000.0;
    let whole = seconds.round() as u64;
    match ms {
        _ if !ms.is_finite() || ms < 0.0 => "?".to_owned(),
        _ if ms == 0.0 => "0 ms".to_owned(),
        _ if ms < 0.05 => "<0.1 ms".to_owned(),
        _ if ms < 9.95 => format!("{ms:.1} ms"),
        _ if ms < 999.5 => format!("{ms:.0} ms"),
        _ if ms < 9_995.0 => format!("{seconds:.2} s"),
        _ if ms < 59_950.0 => format!("{seconds:.1} s"),
        _ if whole < 3_600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ if whole < 86_400 => format!("{} h {:02} min", whole / 3_600, whole / 60 % 60),
        _ => format!("{} d {:02} h", whole / 86_400, whole / 3_600 % 24),
    }
}

/// `640 B`, `1.2 kB`, `18 kB`, `3.1 MB`: powers of ten, since that is what `kB` means.
pub fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        _ => scaled(count, &["kB", "MB", "GB", "TB", "PB", "EB"], " "),
    }
}

/// `940`, `1.2k`, `88k`, `3.1M`.
pub fn count(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        _ => scaled(count, &["k", "M", "G", "T", "P", "E"], ""),
    }
}

fn scaled(count: u64, units: &[&str], gap: &str) -> String {
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = usize::from(value < 9.95);
    format!("{value:.decimals$}{gap}{}", units[unit])
}

/// `7.5` for 0.075; `0` for none at all, and never `0.0` for some.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0".to_owned(),
        percent if percent < 0.05 => "<0.1".to_owned(),
        percent if percent > 99.95 && share < 1.0 => ">99.9".to_owned(),
        percent if percent >= 99.95 => "100".to_owned(),
        percent => format!("{percent:.1}"),
    }
}

/// US dollars: `$12.40`, `$0.031`, `<$0.001`.
pub fn usd(amount: f64) -> String {
    match amount {
        0.0 => "$0".to_owned(),
        _ if amount < 0.001 => "<$0.001".to_owned(),
        _ if amount < 0.995 => format!("${amount:.3}"),
        _ => format!("${amount:.2}"),
    }
}

/// `1 call`, `2 calls`.
pub fn plural(count: u64, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// An instant in the reader's time zone.
pub fn local(at: Timestamp, zone: &TimeZone, format: &str) -> String {
    match jiff::Timestamp::from_microsecond(at.0) {
        Ok(instant) => instant.to_zoned_datetime(zone.clone()).strftime(format).to_string(),
        Err(_) => at.to_string(),
    }
}

/// From when to when: the day once if it is the same, seconds only where they tell something.
pub fn span(first: Timestamp, last: Timestamp, zone: &TimeZone, dash: &str) -> String {
    const HOUR_US: i64 = 3_600_000_000;
    let day = |at| local(at, zone, "%Y-%m-%d");
    let clock = if last.0.saturating_sub(first.0) < HOUR_US { "%H:%M:%S" } else { "%H:%M" };
    let end = local(last, zone, clock);
    let end = if day(first) == day(last) { end } else { format!("{} {end}", day(last)) };
    format!("{} {} {dash} {end}", day(first), local(first, zone, clock))
}

/// Facts side by side, as many on a line as fit; none is cut unless it is wider than a line.
pub fn lines_of(facts: &[String], separator: &str, columns: usize, ellipsis: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for fact in facts.iter().filter(|fact| !fact.is_empty()) {
        match lines.last_mut() {
            Some(line) if width(line) + separator.len() + width(fact) <= columns => {
                line.push_str(separator);
                line.push_str(fact);
            }
            _ => lines.push(cut(fact, columns, ellipsis)),
        }
    }
    lines
}

/// Makes a text from a file harmless: what could move the cursor, colour the screen, hide or turn
/// text around is written out as `\u{…}`.
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmful(c) {
            let _ = write!(clean, "{}", c.escape_unicode());
        } else {
            clean.push(c);
        }
    }
    Cow::Owned(clean)
}

/// The same for a line of JSON, which stays the same JSON: in valid JSON such characters stand only
/// in strings, where they can be escaped.
pub fn clean_json(line: &str) -> Cow<'_, str> {
    if !line.chars().any(is_harmful) {
        return Cow::Borrowed(line);
    }
    let mut clean = String::with_capacity(line.len() + 16);
    for c in line.chars() {
        if matches!(c, '\t' | '\r' | '\n') {
            // Within a string it would be escaped already: this is space between the parts.
            clean.push(' ');
        } else if is_harmful(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(clean, "\\u{unit:04x}");
            }
        } else {
            clean.push(c);
        }
    }
    Cow::Owned(clean)
}

/// Control characters, line and paragraph separators, and format characters: bidi overrides and
/// isolates, zero-width characters, tags.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Columns that a clean text takes on a terminal.
pub fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

fn char_width(c: char) -> usize {
    match u32::from(c) {
        0..=0x2ff => 1,
        // Marks that stand on the letter before them.
        0x300..=0x36f
        | 0x483..=0x489
        | 0x591..=0x5bd
        | 0x610..=0x61a
        | 0x64b..=0x65f
        | 0x1ab0..=0x1aff
        | 0x1dc0..=0x1dff
        | 0x20d0..=0x20ff
        | 0xfe00..=0xfe0f
        | 0xfe20..=0xfe2f => 0,
        // East Asian wide and fullwidth, and pictures.
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xa960..=0xa97f
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f680..=0x1f6ff
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Cuts a clean text to `columns`, saying that it did.
pub fn cut(text: &str, columns: usize, ellipsis: &str) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(width(ellipsis));
    let mut used = 0;
    let mut short: String = text
        .chars()
        .take_while(|c| {
            used += char_width(*c);
            used <= room
        })
        .collect();
    if room > 0 {
        short.push_str(ellipsis);
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_at_most_and_a_unit() {
        for (ms, text) in [
            (0.0, "0 ms"),
            (0.004, "<0.1 ms"),
            (0.42, "0.4 ms"),
            (84.2, "84 ms"),
            (999.4, "999 ms"),
            (999.6, "1.00 s"),
            (1240.0, "1.24 s"),
            (59_949.0, "59.9 s"),
            (59_960.0, "1 min 00 s"),
            (7_500_000.0, "2 h 05 min"),
            (f64::NAN, "?"),
        ] {
            assert_eq!(duration(ms), text);
        }
        assert_eq!(
            [bytes(999), bytes(1_200), bytes(18_400), bytes(999_600)],
            ["999 B", "1.2 kB", "18 kB", "1.0 MB"]
        );
        assert_eq!([count(88_123), count(3_100_000)], ["88k", "3.1M"]);
        assert_eq!(
            [percent(0.0), percent(0.0001), percent(0.075), percent(0.9999), percent(1.0)],
            ["0", "<0.1", "7.5", ">99.9", "100"]
        );
    }

    #[test]
    fn nothing_that_steers_a_terminal_survives() {
        for (hostile, text) in [
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("a\nb\tc\r", "a\\u{a}b\\u{9}c\\u{d}"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("abc\u{202e}fdp.exe", "abc\\u{202e}fdp.exe"),
            ("line\u{2028}two\u{feff}", "line\\u{2028}two\\u{feff}"),
            ("état 東京 مرحبا", "état 東京 مرحبا"),
        ] {
            assert_eq!(clean(hostile), text);
        }
        let line = serde_json::to_string("\u{9b}\u{202e}\u{e0001}x").unwrap();
        let cleaned = clean_json(&line).into_owned();
        assert!(cleaned.is_ascii());
        assert_eq!(
            serde_json::from_str::<String>(&cleaned).unwrap(),
            serde_json::from_str::<String>(&line).unwrap()
        );
    }

    #[test]
    fn texts_are_cut_at_columns() {
        assert_eq!(cut("東京都庁", 5, "…"), "東京…");
        assert_eq!(cut("abcdef", 6, "…"), "abcdef");
        assert_eq!(cut("abcdef", 4, "..."), "a...");
        assert_eq!(cut("abcdef", 0, "…"), "");
    }

    #[test]
    fn facts_that_do_not_fit_go_to_the_next_line() {
        let facts = ["58 calls", "", "10 errors", "a fact that is wider than a line"].map(str::to_owned);
        assert_eq!(
            lines_of(&facts, ", ", 80, "…"),
            ["58 calls, 10 errors, a fact that is wider than a line"]
        );
        assert_eq!(lines_of(&facts, ", ", 20, "…"), ["58 calls, 10 errors", "a fact that is wide…"]);
        assert!(lines_of(&[], ", ", 20, "…").is_empty());
    }

    #[test]
    fn a_span_says_the_day_once_and_seconds_where_they_matter() {
        let at = |text: &str| text.parse().unwrap();
        for (first, last, expected) in [
            ("2026-11-25T18:05:15Z", "2026-11-25T18:05:40Z", "2026-11-25 18:05:15 - 18:05:40"),
            ("2026-11-25T08:05:15Z", "2026-11-25T18:05:40Z", "2026-11-25 08:05 - 18:05"),
            ("2026-11-25T23:59:00Z", "2026-11-26T00:01:00Z", "2026-11-25 23:59:00 - 2026-11-26 00:01:00"),
        ] {
            assert_eq!(span(at(first), at(last), &TimeZone::UTC, "-"), expected);
        }
    }
}
