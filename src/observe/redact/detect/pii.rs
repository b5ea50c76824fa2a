//! Personal data that has a recognisable form. Names and postal addresses have none and are not found.
//!
//! Sources: Presidio `predefined_recognizers/generic`, getsentry/relay `regexes.rs`; ISO/IEC 7812 (card
//! numbers, Luhn), ISO 13616 (IBAN, mod 97).

use serde::{Deserialize, Serialize};

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::matches::Matches;
use crate::observe::redact::detect::phones;

/// A class of personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PiiClass {
    Email,
    /// Payment card numbers, with a valid check digit.
    Card,
    /// Bank accounts, with valid check digits.
    Iban,
    /// US social security numbers, written with dashes.
    Ssn,
    /// Phone numbers in international or announced national writing.
    Phone,
    /// Other numbers of persons, if a word announces them or their check digits are right.
    NationalId,
    /// Every IP address.
    Ip,
    /// IP addresses that are not private, loopback or link-local.
    IpPublic,
    Mac,
    /// Mobile equipment ids, with a valid check digit.
    Imei,
    /// The user's name in `/home/…`, `/Users/…`, `C:\Users\…`.
    UserPath,
}

impl PiiClass {
    /// The default of `redaction.pii`.
    pub const STANDARD: [PiiClass; 6] = [
        PiiClass::Email,
        PiiClass::Card,
        PiiClass::Iban,
        PiiClass::Ssn,
        PiiClass::Phone,
        PiiClass::NationalId,
    ];
}

/// Matches personal data of the given classes.
pub(crate) fn find(text: &str, classes: &[PiiClass], matches: &mut Matches) {
    let bytes = text.as_bytes();
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    let has = |class| classes.contains(&class);
    if has(PiiClass::Email) {
        emails(text, matches);
    }
    if digits >= 4 {
        if has(PiiClass::Iban) && digits >= 12 {
            ibans(bytes, matches);
        }
        if digits >= 6 {
            numbers(text, classes, matches);
        }
        if has(PiiClass::Ip) || has(PiiClass::IpPublic) {
            addresses(bytes, has(PiiClass::Ip), matches);
        }
    }
    if has(PiiClass::Mac) {
        macs(bytes, matches);
    }
    if has(PiiClass::UserPath) {
        user_paths(bytes, matches);
    }
    matches.settle();
}

fn at(bytes: &[u8], index: usize) -> u8 {
    bytes.get(index).copied().unwrap_or(0)
}

fn before(bytes: &[u8], index: usize) -> u8 {
    index.checked_sub(1).map_or(0, |index| at(bytes, index))
}

/// File name extensions that look like the end of a domain.
const FILE_EXTENSIONS: &[&str] = &[
    "png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "js", "ts", "jsx", "tsx", "mjs", "css", "scss",
    "html", "json", "md", "txt", "rs", "py", "java", "go", "rb", "php", "yml", "yaml", "toml", "lock", "map",
    "so",
];

fn emails(text: &str, matches: &mut Matches) {
    const LONGEST_LOCAL: usize = 64;
    let bytes = text.as_bytes();
    for sign in memchr::memchr3_iter(b'@', b'%', b'(', bytes) {
        let domain = match bytes.get(sign..) {
            Some([b'@', ..]) => sign + 1,
            Some([b'%', b'4', b'0', ..]) => sign + 3,
            Some([b'(', b'a', b't', b')', ..]) => sign + 4,
            _ => continue,
        };
        let is_local =
            |c: &char| c.is_alphanumeric() || matches!(c, '.' | '_' | '+' | '-' | '\'' | '!' | '&' | '*');
        let before =
            text.get(text.ceil_char_boundary(sign.saturating_sub(LONGEST_LOCAL))..sign).unwrap_or_default();
        let mut local = before.chars().rev().take_while(is_local).map(char::len_utf8).sum::<usize>();
        // A local part starts with a letter or digit.
        while local > 0
            && text.get(sign - local..).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
        {
            local -= 1;
        }
        // `"anna b"@example.org`
        if local == 0 && before.ends_with('"') {
            local = before
                .get(..before.len() - 1)
                .and_then(|quoted| quoted.rfind('"'))
                .map_or(0, |open| before.len() - open);
        }
        if local == 0 {
            continue;
        }
        let tail = text.get(domain..).unwrap_or_default();
        let is_domain = |c: &char| c.is_alphanumeric() || matches!(c, '.' | '-');
        let length = tail.chars().take(253).take_while(is_domain).map(char::len_utf8).sum::<usize>();
        let host = tail.get(..length).unwrap_or_default().trim_end_matches(['.', '-']);
        let Some((name, ending)) = host.rsplit_once('.') else { continue };
        let is_ending = ending.chars().count() >= 2 && ending.chars().all(char::is_alphabetic);
        let is_file = FILE_EXTENSIONS.iter().any(|file| file.eq_ignore_ascii_case(ending))
            && (name.len() <= 3 || name.contains("min"));
        let user = text.get(sign - local..sign).unwrap_or_default();
        // `git@host:path` is the address of a repository.
        let is_remote =
            user == "git" && tail.get(host.len()..).is_some_and(|rest| rest.starts_with([':', '/']));
        if is_ending && !is_file && !is_remote && !name.is_empty() {
            matches.push(sign - local, domain + host.len(), KnownClass::Email, "email");
        }
    }
}

/// Matches runs of digits that may be grouped: cards, social security numbers, phones, IMEIs.
fn numbers(text: &str, classes: &[PiiClass], matches: &mut Matches) {
    let bytes = text.as_bytes();
    type NumberEnd = fn(&[u8], usize) -> Option<usize>;
    const FORMS: [(PiiClass, KnownClass, &str, NumberEnd); 3] = [
        (PiiClass::Ssn, KnownClass::Ssn, "ssn", ssn),
        (PiiClass::Card, KnownClass::Card, "card", card),
        (PiiClass::Imei, KnownClass::Imei, "imei", imei),
    ];
    let has = |class| classes.contains(&class);
    let mut index = 0;
    while index < bytes.len() {
        let byte = at(bytes, index);
        let border = before(bytes, index);
        if has(PiiClass::Phone)
            && matches!(byte, b'+' | b'(')
            && !border.is_ascii_alphanumeric()
            && let Some(end) = phones::find(text, index, matches)
        {
            index = end;
            continue;
        }
        // The dashes distinguish it from other numbers in a name: `get_536-22-8472`.
        if border == b'_'
            && byte.is_ascii_digit()
            && has(PiiClass::Ssn)
            && let Some(end) = ssn(bytes, index)
        {
            matches.push(index, end, KnownClass::Ssn, "ssn");
            index = end;
            continue;
        }
        // `QQ123456C`
        if byte.is_ascii_uppercase()
            && !border.is_ascii_alphanumeric()
            && (1..3).any(|next| at(bytes, index + next).is_ascii_digit())
            && has(PiiClass::NationalId)
            && let Some(end) = phones::find_personal(text, index, matches)
        {
            index = end;
            continue;
        }
        let inside = border.is_ascii_alphanumeric()
            || border == b'_'
            || matches!(border, b'.' | b',' | b'-' | b'+')
                && before(bytes, index.saturating_sub(1)).is_ascii_digit();
        if !byte.is_ascii_digit() || inside {
            index += 1;
            continue;
        }
        let found = FORMS.iter().find_map(|(personal, class, rule, end)| {
            has(*personal).then(|| end(bytes, index)).flatten().map(|end| (end, *class, *rule))
        });
        if let Some((end, class, rule)) = found {
            matches.push(index, end, class, rule);
            index = end;
            continue;
        }
        if has(PiiClass::Phone)
            && let Some(end) = phones::find(text, index, matches)
        {
            index = end;
            continue;
        }
        if has(PiiClass::NationalId)
            && let Some(end) =
                phones::find_personal(text, index, matches).or_else(|| national_id(bytes, index, matches))
        {
            index = end;
            continue;
        }
        // Only this group of digits is skipped: a card number may follow.
        while at(bytes, index).is_ascii_digit() {
            index += 1;
        }
    }
}

fn ends_number(bytes: &[u8], end: usize) -> bool {
    let next = at(bytes, end);
    !(next.is_ascii_alphanumeric()
        || next == b'_'
        || matches!(next, b'.' | b'-' | b',') && at(bytes, end + 1).is_ascii_digit())
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, &digit)| {
            let digit = u32::from(digit);
            if place % 2 == 0 { digit } else { digit * 2 / 10 + digit * 2 % 10 }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Returns the end of the card number that starts at `start`: 13 to 19 digits, bare or in groups of three
/// to six with the same blank or dash between them, with an issuer's first digits and a valid check digit.
fn card(bytes: &[u8], start: usize) -> Option<usize> {
    let mut digits = [0_u8; 19];
    let mut count = 0;
    let mut index = start;
    let mut separator = None;
    let mut best = None;
    let mut group = 0;
    loop {
        let byte = at(bytes, index);
        if byte.is_ascii_digit() {
            *digits.get_mut(count)? = byte - b'0';
            count += 1;
            group += 1;
            index += 1;
            let known = digits.get(..count).unwrap_or_default();
            if (13..=19).contains(&count) && ends_number(bytes, index) && is_issuer(known) && luhn(known) {
                best = Some(index);
            }
            if count == digits.len() {
                return best;
            }
        } else if matches!(byte, b' ' | b'-' | b'+' | b'.')
            && separator.is_none_or(|known| known == byte)
            && (3..=6).contains(&group)
            && at(bytes, index + 1).is_ascii_digit()
        {
            separator = Some(byte);
            group = 0;
            index += 1;
        } else {
            return best;
        }
    }
}

/// Returns true if the first digits and the length are those of American Express, Visa, Mastercard,
/// Discover, Diners, JCB, UnionPay, Maestro or Mir.
fn is_issuer(digits: &[u8]) -> bool {
    let prefix =
        |length: usize| digits.iter().take(length).fold(0_u32, |sum, &digit| sum * 10 + u32::from(digit));
    let (two, three, four) = (prefix(2), prefix(3), prefix(4));
    match digits.len() {
        13 | 19 if prefix(1) == 4 => true,
        14 => matches!(two, 36 | 38 | 39) || matches!(three, 300..=305),
        15 => matches!(two, 34 | 37) || matches!(four, 2131 | 1800),
        16 => {
            prefix(1) == 4
                || matches!(two, 51..=55 | 62 | 65 | 50 | 56..=58 | 67 | 63)
                || matches!(four, 2221..=2720 | 6011 | 3528..=3589 | 2200..=2204)
                || matches!(three, 644..=649)
        }
        17..=19 => matches!(two, 62 | 50 | 56..=58 | 63 | 67),
        _ => false,
    }
}

fn imei(bytes: &[u8], start: usize) -> Option<usize> {
    let run = bytes.get(start..start + 15)?;
    let digits: Vec<u8> = run.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0').collect();
    (digits.len() == 15 && ends_number(bytes, start + 15) && luhn(&digits)).then_some(start + 15)
}

fn ssn(bytes: &[u8], start: usize) -> Option<usize> {
    let text = bytes.get(start..start + 11)?;
    let fits = text.iter().enumerate().all(|(place, byte)| match place {
        3 | 6 => *byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let issued = text.get(..3) != Some(b"000")
        && text.get(..3) != Some(b"666")
        && text.first() != Some(&b'9')
        && text.get(4..6) != Some(b"00")
        && text.get(7..) != Some(b"0000");
    (fits && issued && ends_number(bytes, start + 11)).then_some(start + 11)
}

/// Matches an identity number with a form and check digits of its own: Spain (DNI), Brazil (CPF), Sweden, Finland,
/// China. Returns its end.
fn national_id(bytes: &[u8], start: usize, matches: &mut Matches) -> Option<usize> {
    let run = |length: usize| bytes.get(start..start + length).filter(|_| ends_number(bytes, start + length));
    let value = |text: &[u8]| {
        text.iter()
            .filter(|byte| byte.is_ascii_digit())
            .fold(0_u64, |sum, byte| sum * 10 + u64::from(byte - b'0'))
    };
    let is_form = |text: &[u8], form: &[u8]| {
        text.iter()
            .zip(form)
            .all(|(byte, form)| if *form == b'd' { byte.is_ascii_digit() } else { byte == form })
    };
    let is_dni = |text: &[u8]| {
        if !is_form(text, b"dddddddd") {
            return false;
        }
        let letter = b"TRWAGMYFPDXBNJZSQVHLCKE".get((value(text) % 23) as usize);
        letter == text.last()
    };
    let is_cpf = |text: &[u8]| {
        is_form(text, b"ddd.ddd.ddd-dd") && {
            let digits: Vec<u64> =
                text.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| u64::from(byte - b'0')).collect();
            let check = |count: usize| {
                let sum: u64 = digits
                    .iter()
                    .take(count)
                    .zip((2..=count as u64 + 1).rev())
                    .map(|(digit, weight)| digit * weight)
                    .sum();
                digits.get(count) == Some(&(sum * 10 % 11 % 10))
            };
            check(9) && check(10)
        }
    };
    let is_swedish = |text: &[u8]| {
        if !is_form(text, b"dddddd-dddd") || !is_day(text, 2, 4) {
            return false;
        }
        let digits: Vec<u8> =
            text.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0').collect();
        luhn(&digits)
    };
    let is_finnish = |text: &[u8]| {
        if !is_form(text, b"dddddd")
            || !matches!(text.get(6), Some(b'-' | b'+' | b'A'))
            || !is_day(text, 2, 0)
        {
            return false;
        }
        let digits: Vec<u8> =
            [text.get(..6), text.get(7..10)].into_iter().flatten().flatten().copied().collect();
        let sign = b"0123456789ABCDEFHJKLMNPRSTUVWXY".get((value(&digits) % 31) as usize);
        digits.iter().all(u8::is_ascii_digit) && sign == text.last()
    };
    let is_chinese = |text: &[u8]| {
        const WEIGHTS: [u64; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
        let is_dated = is_form(text, b"ddddddddddddddddd") && is_day(text, 10, 12);
        let sum =
            || text.iter().zip(WEIGHTS).map(|(byte, weight)| u64::from(byte - b'0') * weight).sum::<u64>();
        is_dated
            && matches!(text.get(6..8), Some(b"19" | b"20"))
            && b"10X98765432".get((sum() % 11) as usize) == text.last()
    };
    let found = run(9)
        .filter(|text| is_dni(text))
        .or_else(|| run(14).filter(|text| is_cpf(text)))
        .or_else(|| run(11).filter(|text| is_swedish(text) || is_finnish(text)))
        .or_else(|| run(18).filter(|text| is_chinese(text)))?;
    let end = start + found.len();
    matches.push(start, end, KnownClass::NationalId, "national-id");
    Some(end)
}

/// Returns true if the two digits at `month` are a month and those at `day` a day.
fn is_day(text: &[u8], month: usize, day: usize) -> bool {
    let number = |at: usize| {
        text.get(at..at + 2)
            .map_or(0, |two| two.iter().fold(0, |sum, byte| sum * 10 + u32::from(byte.wrapping_sub(b'0'))))
    };
    (1..=12).contains(&number(month)) && (1..=31).contains(&number(day))
}

fn ibans(bytes: &[u8], matches: &mut Matches) {
    let mut index = 0;
    while index + 15 <= bytes.len() {
        let starts = at(bytes, index).is_ascii_alphabetic()
            && at(bytes, index + 1).is_ascii_alphabetic()
            && at(bytes, index + 2).is_ascii_digit()
            && at(bytes, index + 3).is_ascii_digit()
            && !before(bytes, index).is_ascii_alphanumeric();
        match starts.then(|| iban(bytes, index)).flatten() {
            Some(end) => {
                matches.push(index, end, KnownClass::Iban, "iban");
                index = end;
            }
            None => index += 1,
        }
    }
}

/// Returns the end of the account number that starts at `start`: 15 to 34 characters, bare or in groups
/// of four.
fn iban(bytes: &[u8], start: usize) -> Option<usize> {
    let mut text = [0_u8; 34];
    let mut count = 0;
    let mut index = start;
    let mut best = None;
    let mut separator = None;
    let (mut is_upper, mut is_plain) = (true, true);
    loop {
        let byte = at(bytes, index);
        if byte.is_ascii_alphanumeric() {
            let Some(slot) = text.get_mut(count) else { return best };
            // In lower case, most texts of this form are hexadecimal or a word.
            is_plain &= count < 2 || byte.is_ascii_digit();
            is_upper &= !byte.is_ascii_lowercase();
            *slot = byte.to_ascii_uppercase();
            count += 1;
            index += 1;
            let known = text.get(..count).unwrap_or_default();
            let is_form = is_upper || is_plain || separator.is_some();
            if count >= 15 && is_form && !at(bytes, index).is_ascii_alphanumeric() && mod_97(known) == 1 {
                best = Some(index);
            }
        } else if matches!(byte, b' ' | b'-')
            && separator.is_none_or(|known| known == byte)
            && count % 4 == 0
            && count >= 4
        {
            separator = Some(byte);
            index += 1;
        } else {
            return best;
        }
    }
}

fn mod_97(iban: &[u8]) -> u32 {
    let (country, account) = iban.split_at_checked(4).unwrap_or((iban, &[]));
    account.iter().chain(country).fold(0, |rest, &byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte.wrapping_sub(b'A')) + 10) % 97,
    })
}

fn addresses(bytes: &[u8], private_too: bool, matches: &mut Matches) {
    use std::net::IpAddr;
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
    let mut index = 0;
    while index < bytes.len() {
        if !is_part(at(bytes, index)) || before(bytes, index).is_ascii_alphanumeric() {
            index += 1;
            continue;
        }
        let start = index;
        while is_part(at(bytes, index)) {
            index += 1;
        }
        let run = bytes.get(start..index).and_then(|run| std::str::from_utf8(run).ok()).unwrap_or_default();
        let mut candidate = run.trim_end_matches(['.', ':']);
        let mut parsed = candidate.parse::<IpAddr>();
        if parsed.is_err()
            && let Some((host, _port)) = candidate.rsplit_once(':')
        {
            candidate = host;
            parsed = host.parse::<IpAddr>();
        }
        let Ok(address) = parsed else { continue };
        let is_private = match address {
            IpAddr::V4(v4) => {
                v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified()
            }
            IpAddr::V6(v6) => {
                v6.is_loopback()
                    || v6.is_unspecified()
                    || (v6.segments()[0] & 0xfe00) == 0xfc00
                    || (v6.segments()[0] & 0xffc0) == 0xfe80
            }
        };
        if (private_too || !is_private) && candidate.len() >= 7 && !at(bytes, index).is_ascii_alphanumeric() {
            matches.push(start, start + candidate.len(), KnownClass::Ip, "ip");
        }
    }
}

fn macs(bytes: &[u8], matches: &mut Matches) {
    const LENGTH: usize = 17;
    let mut index = 0;
    while let Some(window) = bytes.get(index..index + LENGTH) {
        let separator = at(window, 2);
        let fits = matches!(separator, b':' | b'-')
            && window.iter().enumerate().all(|(place, byte)| match place % 3 {
                2 => *byte == separator,
                _ => byte.is_ascii_hexdigit(),
            })
            && !before(bytes, index).is_ascii_alphanumeric()
            && !at(bytes, index + LENGTH).is_ascii_alphanumeric();
        if fits {
            matches.push(index, index + LENGTH, KnownClass::Mac, "mac");
            index += LENGTH;
        } else {
            index += 1;
        }
    }
}

fn user_paths(bytes: &[u8], matches: &mut Matches) {
    for start in ["/home/", "/Users/", "\\Users\\", "/var/home/"] {
        for found in memchr::memmem::find_iter(bytes, start.as_bytes()) {
            let from = found + start.len();
            let is_name = |byte: &&u8| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') || **byte >= 0x80
            };
            let length = bytes.get(from..).map_or(0, |rest| rest.iter().take_while(is_name).count());
            matches.push(from, from + length, KnownClass::UserPath, "user-path");
        }
    }
}
