//! Numbers by which states know persons: after a word that announces them, or with a form and check digits of their
//! own. Numbers that are only digits need the word, because one in ten other numbers has the right check digit.
//!
//! Sources: the authorities of the countries; the check digits as python-stdnum computes them.

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::matches::Matches;
use crate::observe::redact::detect::phones::{announced, announcement};

/// Words that announce another number of a person.
#[rustfmt::skip]
const PERSON: &[&str] = &[
    "ssn", "social security", "nino", "national insurance", "nhs", "pesel", "bsn", "burgerservice", "cpf", "cnpj",
    "dni", "nie", "nif", "curp", "rfc", "aadhaar", "aadhar", "personnummer", "fødselsnummer", "cpr", "henkilötunnus",
    "hetu", "steuer-id", "steuernummer", "steueridentifikation", "svnr", "sozialversicherung", "insee",
    "codice fiscale", "passport", "steuer id", "ahv", "cnp", "egn", "medicare", "tfn", "sin", "rg", "pan", "nir", "id card",
    "identity", "dob", "date of birth", "birthdate", "birthday", "geburtsdatum", "naissance", "nacimiento", "reisepass", "passnummer", "rijksregister", "driver's licen", "driver licen", "führerschein", "身份证", "身分證",
    "sécurité sociale", "kimlik", "ת.ז", "егн", "rodné číslo", "rodne cislo", "rut", "cuit", "cuil", "isikukood", "oib",
    "nric", "ประชาชน", "рнокпп", "снилс", "инн", "ppsn", "pps n", "asmens kod", "personas kods", "emšo", "jmbg", "マイナンバー", "주민등록",
];

/// Digits of the shortest number of a person.
const FEWEST_DIGITS: usize = 6;

/// Matches the number of a person that starts at `start`, and returns its end.
pub(super) fn find(text: &str, start: usize, matches: &mut Matches) -> Option<usize> {
    type PersonForm = (usize, fn(&[u8]) -> bool);
    const FORMS: [PersonForm; 5] =
        [(9, is_spanish), (14, is_brazilian), (11, is_swedish), (11, is_finnish), (18, is_chinese)];
    let bytes = text.as_bytes();
    let near = bytes.get(start..bytes.len().min(start + 16)).unwrap_or_default();
    if near.iter().filter(|byte| byte.is_ascii_digit()).count() < FEWEST_DIGITS {
        return None;
    }
    find_announced(text, start, matches).or_else(|| {
        let fits = |(length, is_valid): &&PersonForm| {
            bytes.get(start..start + length).is_some_and(is_valid) && ends_number(bytes, start + length)
        };
        let end = start + FORMS.iter().find(fits)?.0;
        matches.push(start, end, KnownClass::NationalId, "national-id");
        Some(end)
    })
}

/// Matches an announced number of a person, which may contain letters, and returns its end.
pub(super) fn find_announced(text: &str, start: usize, matches: &mut Matches) -> Option<usize> {
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
    let is_announced = (4..=18).contains(&digits)
        && number.len() >= 7
        && announced(&announcement(text, start), PERSON).is_some();
    is_announced.then(|| {
        matches.push(start, start + number.len(), KnownClass::NationalId, "national-id");
        start + number.len()
    })
}

fn ends_number(bytes: &[u8], end: usize) -> bool {
    !bytes.get(end).is_some_and(|next| next.is_ascii_alphanumeric() || matches!(next, b'_' | b'-'))
}

/// Returns true if `text` has the form: `d` is a digit, any other byte is itself.
fn has_form(text: &[u8], form: &[u8]) -> bool {
    text.iter().zip(form).all(|(byte, form)| if *form == b'd' { byte.is_ascii_digit() } else { byte == form })
}

fn digits(text: &[u8]) -> impl Iterator<Item = u64> {
    text.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| u64::from(byte - b'0'))
}

fn number(text: &[u8]) -> u64 {
    digits(text).fold(0, |sum, digit| sum * 10 + digit)
}

/// Returns true if the two digits at `month` are a month and those at `day` a day.
fn is_date(text: &[u8], month: usize, day: usize) -> bool {
    let two = |at: usize| text.get(at..at + 2).map_or(0, number);
    (1..=12).contains(&two(month)) && (1..=31).contains(&two(day))
}

/// DNI: `12345678Z`.
fn is_spanish(text: &[u8]) -> bool {
    let letter = |text| b"TRWAGMYFPDXBNJZSQVHLCKE".get((number(text) % 23) as usize);
    has_form(text, b"dddddddd") && letter(text) == text.last()
}

/// CPF: `529.982.247-25`.
fn is_brazilian(text: &[u8]) -> bool {
    let check = |count: usize| {
        let sum: u64 = digits(text)
            .take(count)
            .zip((2..=count as u64 + 1).rev())
            .map(|(digit, weight)| digit * weight)
            .sum();
        digits(text).nth(count) == Some(sum * 10 % 11 % 10)
    };
    has_form(text, b"ddd.ddd.ddd-dd") && check(9) && check(10)
}

/// Personnummer: `811218-9876`.
fn is_swedish(text: &[u8]) -> bool {
    let sum = || {
        digits(text)
            .zip([2, 1].into_iter().cycle())
            .map(|(digit, weight)| digit * weight / 10 + digit * weight % 10)
            .sum::<u64>()
    };
    has_form(text, b"dddddd-dddd") && is_date(text, 2, 4) && sum().is_multiple_of(10)
}

/// Henkilötunnus: `131052-308T`.
fn is_finnish(text: &[u8]) -> bool {
    let sign = || b"0123456789ABCDEFHJKLMNPRSTUVWXY".get((text.get(..10).map_or(0, number) % 31) as usize);
    has_form(text, b"dddddd")
        && matches!(text.get(6), Some(b'-' | b'+' | b'A'))
        && text.get(7..10).is_some_and(|part| has_form(part, b"ddd"))
        && is_date(text, 2, 0)
        && sign() == text.last()
}

/// Resident identity number: `11010519491231002X`.
fn is_chinese(text: &[u8]) -> bool {
    const WEIGHTS: [u64; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let sum = || digits(text).zip(WEIGHTS).map(|(digit, weight)| digit * weight).sum::<u64>();
    has_form(text, b"ddddddddddddddddd")
        && is_date(text, 10, 12)
        && matches!(text.get(6..8), Some(b"19" | b"20"))
        && b"10X98765432".get((sum() % 11) as usize) == text.last()
}
