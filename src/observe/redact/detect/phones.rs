//! Phone numbers, international or as people write them in their country.
//!
//! A number in national writing has few marks of its own. It counts if a word before it announces it, or in the
//! form `ddd-ddd-dddd` of North America.

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::matches::Matches;

/// Words that announce a phone number, at the start of a word.
#[rustfmt::skip]
const PHONE: &[&str] = &[
    "phone", "ph:", "ph.", "tel", "tél", "tlf", "cel.", "cel:", "my number", "rufen", "appel", "llame", "chiam", "ligue", "mobile", "mobil", "mob", "móvil", "handy", "cell", "celular", "fax", "whatsapp", "whats app", "signal", "gsm",
    "msisdn", "rückruf", "anruf", "festnetz", "durchwahl", "rufnummer", "call", "ring", "dial", "sms", "contact",
    "kontakt", "numer", "numéro", "portable", "office", "puh", "☎", "📞", "טלפון", "שיחה", "puhelin", "telefon", "電話", "电话", "手机", "携帯", "전화", "тел", "моб", "cellulare", "hotline", "звон", "연락처", "טלפון", "โทร",
];

/// Matches the phone number that starts at `start`, and returns its end.
pub(super) fn find(text: &str, start: usize, matches: &mut Matches) -> Option<usize> {
    let bytes = text.as_bytes();
    let number = Number::at(bytes, start)?;
    if bytes.get(start) == Some(&b'+') {
        let is_phone = number.digits >= 8 && matches!(bytes.get(start + 1), Some(b'1'..=b'9'));
        return is_phone.then(|| push(matches, start, number.end, "phone"));
    }
    if number.is_american(bytes.get(start..number.end).unwrap_or_default()) && !is_counted(text, start) {
        return Some(push(matches, start, number.end, "phone"));
    }
    if number.is_foreign(bytes.get(start..number.end).unwrap_or_default())
        && announcement(text, start).contains(char::is_alphabetic)
    {
        return Some(push(matches, start, number.end, "phone"));
    }
    let is_grouped = number.groups > 1;
    let is_date = number.digits == 8
        && number.groups == 3
        && bytes.get(start..start + 2).is_some_and(|year| matches!(year, b"19" | b"20"));
    if is_date {
        return None;
    }
    let (word, is_direct) = announced(&announcement(text, start), PHONE)?;
    let is_weak = matches!(
        word,
        "call"
            | "ring"
            | "dial"
            | "my number"
            | "rufen"
            | "appel"
            | "llame"
            | "chiam"
            | "ligue"
            | "contact"
            | "kontakt"
            | "signal"
            | "numer"
            | "numéro"
            | "portable"
            | "office"
            | "mobile"
            | "mobil"
    );
    let is_national =
        matches!(bytes.get(start), Some(b'0' | b'(')) || number.groups >= 3 && number.digits >= 9;
    let fits = if is_weak && !is_direct {
        is_grouped && is_national
    } else {
        is_direct || is_grouped || is_national
    };
    fits.then(|| push(matches, start, number.end, "phone"))
}

/// Returns true if the word before `start` announces a version, a range or a part.
fn is_counted(text: &str, start: usize) -> bool {
    const COUNTED: [&str; 13] = [
        "firmware", "driver", "version", "build", "release", "revision", "lines", "row", "rows", "bytes",
        "offset", "part", "sku",
    ];
    let before = announcement(text, start);
    let word = before.trim_end().rsplit(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
    COUNTED.contains(&word)
}

fn push(matches: &mut Matches, start: usize, end: usize, rule: &'static str) -> usize {
    matches.push(start, end, KnownClass::Phone, rule);
    end
}

/// A run of digits in groups.
struct Number {
    end: usize,
    digits: usize,
    groups: usize,
}

impl Number {
    fn at(bytes: &[u8], start: usize) -> Option<Number> {
        const MOST: usize = 15;
        const LONGEST_GAP: usize = 3;
        let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
        let mut number = Number { end: start, digits: 0, groups: 0 };
        let mut index = start + usize::from(matches!(at(start), b'+' | b'('));
        let (mut in_group, mut gap) = (false, 0);
        while number.digits < MOST {
            let byte = at(index);
            if byte.is_ascii_digit() {
                number.groups += usize::from(!in_group);
                in_group = true;
                gap = 0;
                number.digits += 1;
                number.end = index + 1;
            } else if matches!(byte, b' ' | b'-' | b'.' | b'(' | b')' | b'/') && gap < LONGEST_GAP {
                gap += 1;
                in_group = false;
            } else {
                break;
            }
            index += 1;
        }
        let next = at(number.end);
        let goes_on = next.is_ascii_alphanumeric()
            || next == b'_'
            || matches!(next, b':' | b',' | b'%') && at(number.end + 1).is_ascii_digit();
        (number.digits >= 8 && !goes_on).then_some(number)
    }

    /// Returns true for `0041 79 712 21 71`, with the prefix of calls abroad and a country in the first group.
    fn is_foreign(&self, text: &[u8]) -> bool {
        let first = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        text.starts_with(b"00")
            && matches!(text.get(2), Some(b'1'..=b'9'))
            && matches!(first, 4 | 5)
            && (3..=6).contains(&self.groups)
            && self.digits >= 11
    }

    /// Returns true for `ddd-ddd-dddd`, `ddd.ddd.dddd` and `(ddd) ddd-dddd`.
    fn is_american(&self, text: &[u8]) -> bool {
        let fits = |form: &[u8]| {
            text.len() == form.len()
                && text.iter().zip(form).all(|(byte, form)| match form {
                    b'd' => byte.is_ascii_digit(),
                    b'n' => matches!(byte, b'2'..=b'9'),
                    _ => byte == form,
                })
        };
        [
            b"ndd-ndd-dddd" as &[u8],
            b"ndd.ndd.dddd",
            b"(ndd) ddd-dddd",
            b"(ndd) ddd.dddd",
            b"1-ndd-ndd-dddd",
            b"010-dddd-dddd",
        ]
        .iter()
        .any(|form| fits(form))
    }
}

/// Returns the text shortly before `start`, on its line, in lower case.
pub(super) fn announcement(text: &str, start: usize) -> String {
    const NEAR: usize = 32;
    let from = text.ceil_char_boundary(start.saturating_sub(NEAR));
    let near = text.get(from..start).unwrap_or_default();
    let near = near.rsplit(['\n', ';', '|']).next().unwrap_or_default();
    // `codiceFiscale`, `tax_id` are words, too.
    let mut words = String::with_capacity(near.len() + 4);
    let mut is_lower = false;
    for c in near.chars() {
        if c.is_uppercase() && is_lower {
            words.push(' ');
        }
        is_lower = c.is_lowercase();
        words.extend(Some(c).filter(|c| *c != '_').unwrap_or(' ').to_lowercase());
    }
    words
}

/// Returns the word of `words` that announces a number, and true if only an operator is between them. Another number
/// in between ends the announcement.
pub(super) fn announced<'a>(before: &str, words: &[&'a str]) -> Option<(&'a str, bool)> {
    let numbers = before.rfind(|c: char| c.is_ascii_digit()).map_or(0, |at| at + 1);
    let before = before.get(numbers..).unwrap_or_default();
    if !before.contains(char::is_alphabetic) {
        return None;
    }
    words.iter().find_map(|word| {
        let at = before.rfind(word)?;
        let starts =
            before.get(..at)?.chars().next_back().is_none_or(|c| !c.is_alphanumeric() || !word.is_ascii());
        let rest = before.get(at + word.len()..)?;
        let name = rest.trim_start_matches(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-'));
        let name =
            [" number", " no", " nr", " num"].iter().find_map(|no| name.strip_prefix(no)).unwrap_or(name);
        let is_direct =
            name.chars().all(|c| matches!(c, ':' | '=' | '"' | '\'' | ' ' | '.' | '：' | '#' | '>' | '<'))
                && (name.contains([':', '=', '：', '.', '#']) || !word.is_ascii() || *word == "msisdn");
        // `tel 5551234567`, `call me: 555 123 4567`
        let is_direct = is_direct
            || rest == " " && matches!(*word, "phone" | "tel" | "tlf" | "mob" | "fax" | "cell" | "handy")
            || rest.trim_end().ends_with(':') && rest.len() <= 8;
        // Letters of another word: `telemetry`, `telegram`, `callback`, `single`.
        let is_open = rest.starts_with(|c: char| c.is_ascii_lowercase());
        let is_whole = word.len() > 4 || !word.is_ascii() || matches!(*word, "tel" | "mob" | "cell");
        let is_long =
            rest.len() - name.len() > 8 || ["emetry", "egram"].iter().any(|end| rest.starts_with(end));
        let is_word = !is_open || is_whole && !is_long;
        (starts && is_word).then_some((*word, is_direct))
    })
}
