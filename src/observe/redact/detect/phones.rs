//! Phone numbers and other numbers of persons, international or as people write them in their country.
//!
//! A number in national writing has few marks of its own. It counts if a word before it announces it, or in the
//! form `ddd-ddd-dddd` of North America.

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::matches::Matches;

/// Words that announce a phone number, at the start of a word.
#[rustfmt::skip]
const PHONE: &[&str] = &[
    "phone", "tel", "tél", "mobile", "mobil", "móvil", "handy", "cell", "celular", "fax", "whatsapp", "signal", "gsm",
    "msisdn", "rückruf", "anruf", "festnetz", "durchwahl", "rufnummer", "call", "ring", "dial", "sms", "contact",
    "kontakt", "numer", "puhelin", "telefon", "電話", "电话", "手机", "携帯", "전화", "тел", "моб", "cellulare", "hotline",
];

/// Words that announce another number of a person.
#[rustfmt::skip]
const PERSON: &[&str] = &[
    "ssn", "social security", "nino", "national insurance", "nhs", "pesel", "bsn", "burgerservice", "cpf", "cnpj",
    "dni", "nie", "nif", "curp", "rfc", "aadhaar", "aadhar", "personnummer", "fødselsnummer", "cpr", "henkilötunnus",
    "hetu", "steuer-id", "steuernummer", "steueridentifikation", "svnr", "sozialversicherung", "insee",
    "codice fiscale", "passport", "reisepass", "passnummer", "rijksregister", "driver's licen", "driver licen", "führerschein", "身份证", "マイナンバー", "주민등록",
];

/// Matches the phone number or the other number of a person that starts at `start`, and returns its end.
pub(super) fn find(text: &str, start: usize, matches: &mut Matches) -> Option<usize> {
    let bytes = text.as_bytes();
    let number = Number::at(bytes, start)?;
    if bytes.get(start) == Some(&b'+') {
        let is_phone = number.digits >= 8 && matches!(bytes.get(start + 1), Some(b'1'..=b'9'));
        return is_phone.then(|| push(matches, start, number.end, "phone"));
    }
    if number.is_american(bytes.get(start..number.end).unwrap_or_default()) {
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
        "call" | "ring" | "dial" | "contact" | "kontakt" | "signal" | "numer" | "mobile" | "mobil"
    );
    let is_national = matches!(bytes.get(start), Some(b'0' | b'('));
    let fits = if is_weak && !is_direct {
        is_grouped && is_national
    } else {
        is_direct || is_grouped || is_national
    };
    fits.then(|| push(matches, start, number.end, "phone"))
}

/// Matches an announced number of a person, which may contain letters, and returns its end.
pub(super) fn find_personal(text: &str, start: usize, matches: &mut Matches) -> Option<usize> {
    let bytes = text.as_bytes();
    let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'/' | b' ');
    let run = bytes.get(start..)?.iter().take(24).take_while(is_part).count();
    let number = text.get(start..start + run)?;
    // A word of a sentence ends the number.
    let mut end = 0;
    for word in number.split_inclusive([' ', '/']) {
        let trimmed = word.trim_end_matches([' ', '.', '/']);
        if trimmed.bytes().any(|byte| byte.is_ascii_lowercase())
            || !trimmed.bytes().any(|byte| byte.is_ascii_digit()) && trimmed.len() > 2
        {
            break;
        }
        end += word.len();
    }
    let number = number.get(..end)?.trim_end_matches([' ', '.', '-', '/']);
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    let is_announced = (6..=18).contains(&digits) && announced(&announcement(text, start), PERSON).is_some();
    is_announced.then(|| {
        matches.push(start, start + number.len(), KnownClass::NationalId, "national-id");
        start + number.len()
    })
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
        let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
        let mut number = Number { end: start, digits: 0, groups: 0 };
        let mut index = start + usize::from(matches!(at(start), b'+' | b'('));
        let mut in_group = false;
        while number.digits < MOST {
            let byte = at(index);
            if byte.is_ascii_digit() {
                number.groups += usize::from(!in_group);
                in_group = true;
                number.digits += 1;
                number.end = index + 1;
            } else if matches!(byte, b' ' | b'-' | b'.' | b'(' | b')' | b'/')
                && (at(index + 1).is_ascii_digit() || matches!(at(index + 1), b'(' | b' ') && byte != b' ')
                || matches!(byte, b' ') && at(index + 1) == b'(' && at(index + 2).is_ascii_digit()
            {
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
        [b"ndd-ndd-dddd" as &[u8], b"ndd.ndd.dddd", b"(ndd) ddd-dddd", b"(ndd) ddd.dddd"]
            .iter()
            .any(|form| fits(form))
    }
}

/// Returns the text shortly before `start`, on its line, in lower case.
fn announcement(text: &str, start: usize) -> String {
    const NEAR: usize = 28;
    let from = text.ceil_char_boundary(start.saturating_sub(NEAR));
    let near = text.get(from..start).unwrap_or_default();
    near.rsplit(['\n', ';', '|']).next().unwrap_or_default().to_lowercase()
}

/// Returns the word of `words` that announces a number, and true if only an operator is between them. Another number
/// in between ends the announcement.
fn announced<'a>(before: &str, words: &[&'a str]) -> Option<(&'a str, bool)> {
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
        let is_direct = !name.is_empty()
            && name.chars().all(|c| matches!(c, ':' | '=' | '"' | '\'' | ' ' | '.' | '：' | '#' | '>' | '<'))
            && name.contains([':', '=', '：']);
        // Letters of another word: `telemetry`, `telegram`.
        let is_word = !(rest.starts_with(|c: char| c.is_ascii_lowercase()) && rest.len() - name.len() > 8)
            && !rest.starts_with("emetry")
            && !rest.starts_with("egram")
            && !rest.starts_with("back")
            && !rest.starts_with("ed ");
        (starts && is_word).then_some((*word, is_direct))
    })
}
