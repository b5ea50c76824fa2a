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
    "ni number", "ni no", "social insurance", "tax file", "tax id", "tax number", "abn", "ird", "sécu", "secu", "securite sociale", "ausweis",
    "nss", "nip", "numéro national", "numero national", "cédula", "cedula", "sa id", "id number", "id-nummer", "mykad", "zehut",
    "zehout", "תעודת", "паспорт", "αφμ", "amka", "adószám", "taj szám", "driving licen", "licence number", "license number", "vat id", "born",
    "citizen id", "citizen number", "national id", "identification number", "personal id", "personal number", "kennitala", "nino",
    "bvn", "nik", "ktp", "philhealth", "hkid", "護照", "护照", "여권", "旅券", "єдрпоу", "pasaport", "iqama", "emirates id", "niss", "avs", "oasi",
    "card number", "card no", "cardnumber", "credit card", "kreditkarte", "carte bancaire", "tarjeta", "bank account", "sort code",
    "kontonummer", "routing number", "ss number", "election", "voter id", "fiscal code", "steuernr", "taxpayer", "personnr", "fnr", "matricule",
    "n.i. n", "주민", "tckn", "t.c.", "passeport", "permis", "identifikationsn", "insz", "geboren", "mrn", "licencia", "carnet", "cidadão",
    "eleitor", "nuip", "ruc", "identity card", "residence permit", "rentenversicherung", "versichertenn", "national number",
    "nric", "ประชาชน", "рнокпп", "снилс", "инн", "ppsn", "pps n", "asmens kod", "personas kods", "emšo", "jmbg", "マイナンバー", "주민등록",
];

/// Digits of the shortest number of a person.
const FEWEST_DIGITS: usize = 6;

/// Matches the number of a person that starts at `start`, and returns its end.
pub(super) fn find(text: &str, start: usize, matches: &mut Matches) -> Option<usize> {
    type PersonForm = (usize, fn(&[u8]) -> bool);
    const FORMS: [PersonForm; 7] = [
        (9, is_spanish),
        (14, is_brazilian),
        (11, is_swedish),
        (11, is_finnish),
        (18, is_chinese),
        (21, is_french),
        (15, is_french),
    ];
    let bytes = text.as_bytes();
    let near = bytes.get(start..bytes.len().min(start + 18)).unwrap_or_default();
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
    let is_announced = (4..=19).contains(&digits)
        && number.len() >= 7
        && announced(&announcement(text, start), PERSON).is_some();
    is_announced.then(|| {
        matches.push(start, start + number.len(), KnownClass::NationalId, "national-id");
        start + number.len()
    })
}

/// Matches a number of a person that starts with letters and has a form and a check letter of its own, and returns its
/// end.
pub(super) fn find_lettered(bytes: &[u8], start: usize, matches: &mut Matches) -> Option<usize> {
    type LetteredForm = (usize, fn(&[u8]) -> bool);
    const FORMS: [LetteredForm; 3] = [(16, is_italian), (13, is_british), (10, is_indian)];
    let fits = |(length, is_valid): &&LetteredForm| {
        bytes.get(start..start + length).is_some_and(is_valid) && ends_number(bytes, start + length)
    };
    let end = start + FORMS.iter().find(fits)?.0;
    matches.push(start, end, KnownClass::NationalId, "national-id");
    Some(end)
}

/// Returns true if `text` has the form: `d` is a digit, `L` a letter in upper case, any other byte is itself.
fn has_lettered_form(text: &[u8], form: &[u8]) -> bool {
    text.iter().zip(form).all(|(byte, form)| match form {
        b'd' => byte.is_ascii_digit(),
        b'L' => byte.is_ascii_uppercase(),
        _ => byte == form,
    })
}

/// Codice fiscale: `RSSMRA85T10A562S`. A letter may stand for the month only if it is one of twelve.
fn is_italian(text: &[u8]) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let value = |byte: u8| match byte {
        b'0'..=b'9' => usize::from(byte - b'0'),
        _ => usize::from(byte.wrapping_sub(b'A')),
    };
    let sum = || {
        text.iter().take(15).enumerate().fold(0, |sum, (place, byte)| {
            let value = value(*byte);
            sum + if place % 2 == 0 { ODD.get(value).copied().unwrap_or(0) } else { value as u32 }
        })
    };
    has_lettered_form(text, b"LLLLLLddLddLdddL")
        && text.get(8).is_some_and(|month| b"ABCDEHLMPRST".contains(month))
        && text.last().is_some_and(|last| u32::from(*last - b'A') == sum() % 26)
}

/// National insurance number in groups: `QQ 12 34 56 C`.
fn is_british(text: &[u8]) -> bool {
    has_lettered_form(text, b"LL dd dd dd L") && matches!(text.last(), Some(b'A'..=b'D'))
}

/// Permanent account number of a person: `ABCPE1234F`.
fn is_indian(text: &[u8]) -> bool {
    has_lettered_form(text, b"LLLPLddddL")
}

/// NIR: `1 85 05 78 006 084 36`, in groups or not.
fn is_french(text: &[u8]) -> bool {
    let is_form =
        has_form(text, b"d dd dd dd ddd ddd dd") || text.len() == 15 && has_form(text, b"ddddddddddddddd");
    let has_check = || {
        let all = number(text);
        97 - all / 100 % 97 == all % 100
    };
    is_form
        && matches!(text.first(), Some(b'1' | b'2'))
        && matches!(digits(text).skip(3).take(2).fold(0, |sum, digit| sum * 10 + digit), 1..=12)
        && has_check()
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
