//! Personal data that has a recognisable form. Names and postal addresses have none and are not found.
//!
//! Sources: Presidio `predefined_recognizers/generic`, getsentry/relay `regexes.rs`; ISO/IEC 7812 (card
//! numbers, Luhn), ISO 13616 (IBAN, mod 97).

use serde::{Deserialize, Serialize};

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::matches::Matches;
use crate::observe::redact::detect::{persons, phones, url};

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

/// The classes to look for, a bit for each.
#[derive(Clone, Copy)]
struct WantedPii(u16);

impl WantedPii {
    fn new(classes: &[PiiClass]) -> WantedPii {
        WantedPii(classes.iter().fold(0, |bits, class| bits | 1 << *class as u16))
    }

    fn has(self, class: PiiClass) -> bool {
        self.0 >> class as u16 & 1 == 1
    }
}

/// Matches personal data of the given classes.
pub(crate) fn find(text: &str, classes: &[PiiClass], matches: &mut Matches) {
    let bytes = text.as_bytes();
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    let wanted = WantedPii::new(classes);
    let has = |class| wanted.has(class);
    if has(PiiClass::Email) {
        emails(text, matches);
    }
    if digits >= 4 {
        if has(PiiClass::Iban) && digits >= 12 {
            ibans(bytes, matches);
        }
        numbers(text, wanted, matches);
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

/// Ends of the names of units of systemd, which may contain a sign: `user@1000.service`.
const UNITS: &[&str] =
    &["service", "socket", "timer", "mount", "automount", "swap", "slice", "scope", "device", "target"];

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
        let user = text.get(sign - local..sign).unwrap_or_default();
        // `git@host:path` is the address of a repository.
        let is_remote =
            user == "git" && tail.get(host.len()..).is_some_and(|rest| rest.starts_with([':', '/']));
        let is_message = is_message_id(before.get(..before.len() - local).unwrap_or_default(), user);
        let outside = bytes.get(..sign - local).unwrap_or_default();
        let is_login = outside.strip_suffix(b"://").is_some_and(|scheme| url::is_plain_user(scheme, user));
        if is_domain_end(name, ending)
            && !is_not_a_person(outside, user)
            && !is_remote
            && !is_message
            && !is_login
            && !name.is_empty()
        {
            matches.push(sign - local, domain + host.len(), KnownClass::Email, "email");
        }
    }
}

/// Returns true if `name.ending` can be a domain, and is not a file or a unit of systemd.
fn is_domain_end(name: &str, ending: &str) -> bool {
    let is_file = FILE_EXTENSIONS.iter().any(|file| file.eq_ignore_ascii_case(ending))
        && (name.len() <= 3 || name.contains("min"));
    ending.chars().count() >= 2
        && ending.chars().all(char::is_alphabetic)
        && !is_file
        && !UNITS.contains(&ending)
}

/// Returns true for the user of an address that is a variable (`$TOKEN@host`) or of a program that sends mail.
fn is_not_a_person(before: &[u8], user: &str) -> bool {
    before.ends_with(b"$") && user.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
        || matches!(user, "noreply" | "no-reply" | "donotreply" | "do-not-reply")
}

/// Returns true for the id of a mail: `Message-ID: <4f2a…@host>`. `before` ends before `local`.
fn is_message_id(before: &str, local: &str) -> bool {
    const NAMES: [&str; 4] = ["message-id", "messageid", "in-reply-to", "references"];
    let name = before.strip_suffix('<').unwrap_or_default().trim_end_matches([' ', ':', '"', '\'', '=']);
    local.len() >= 12
        && local.bytes().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
        && NAMES.iter().any(|known| {
            let start = name.len().saturating_sub(known.len());
            name.get(start..).is_some_and(|end| end.eq_ignore_ascii_case(known))
        })
}

/// Matches runs of digits that may be grouped: cards, phones, IMEIs, numbers of persons.
fn numbers(text: &str, wanted: WantedPii, matches: &mut Matches) {
    let starts = |byte: &u8| matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'+' | b'(');
    let bytes = text.as_bytes();
    let mut index = 0;
    while let Some(next) = bytes.get(index..).and_then(|rest| rest.iter().position(starts)) {
        index += next;
        if let Some(end) = number_at(text, index, wanted, matches) {
            index = end;
            continue;
        }
        // Only this group of digits is skipped: a card number may follow.
        let digits =
            bytes.get(index..).map_or(0, |rest| rest.iter().take_while(|byte| byte.is_ascii_digit()).count());
        index += digits.max(1);
    }
}

/// Matches the number that starts at `index` and returns its end.
fn number_at(text: &str, index: usize, wanted: WantedPii, matches: &mut Matches) -> Option<usize> {
    type NumberEnd = fn(&[u8], usize) -> Option<usize>;
    const SSN: (PiiClass, KnownClass, &str, NumberEnd) = (PiiClass::Ssn, KnownClass::Ssn, "ssn", ssn);
    const CARD: (PiiClass, KnownClass, &str, NumberEnd) = (PiiClass::Card, KnownClass::Card, "card", card);
    const IMEI: (PiiClass, KnownClass, &str, NumberEnd) = (PiiClass::Imei, KnownClass::Imei, "imei", imei);
    let bytes = text.as_bytes();
    let (byte, border) = (at(bytes, index), before(bytes, index));
    let has = |class| wanted.has(class);
    let find_form = |(class, known, rule, end): (PiiClass, KnownClass, &'static str, NumberEnd),
                     matches: &mut Matches| {
        let end = has(class).then(|| end(bytes, index)).flatten()?;
        matches.push(index, end, known, rule);
        Some(end)
    };
    let inside = border.is_ascii_alphanumeric()
        || border == b'_'
        || matches!(border, b'.' | b',' | b'-' | b'+')
            && before(bytes, index.saturating_sub(1)).is_ascii_digit();
    match byte {
        b'+' | b'(' if has(PiiClass::Phone) && !border.is_ascii_alphanumeric() => {
            phones::find(text, index, matches)
        }
        // `QQ123456C`
        b'A'..=b'Z' if has(PiiClass::NationalId) && !border.is_ascii_alphanumeric() => {
            if let Some(end) = persons::find_lettered(bytes, index, matches) {
                return Some(end);
            }
            let letters = (1..7).take_while(|next| at(bytes, index + next).is_ascii_uppercase()).count();
            let is_near = matches!(at(bytes, index + letters + 1), b'0'..=b'9' | b' ')
                && (0..3).any(|next| at(bytes, index + letters + 1 + next).is_ascii_digit());
            is_near.then(|| persons::find_announced(text, index, matches)).flatten()
        }
        // The dashes distinguish it from other numbers in a name: `get_536-22-8472`.
        b'0'..=b'9' if border == b'_' => find_form(SSN, matches),
        b'0'..=b'9' if !inside => find_form(SSN, matches)
            .or_else(|| find_form(CARD, matches))
            .or_else(|| find_form(IMEI, matches))
            .or_else(|| has(PiiClass::Phone).then(|| phones::find(text, index, matches)).flatten())
            .or_else(|| has(PiiClass::NationalId).then(|| persons::find(text, index, matches)).flatten()),
        _ => None,
    }
}

pub(super) fn ends_number(bytes: &[u8], end: usize) -> bool {
    let next = at(bytes, end);
    !(next.is_ascii_alphanumeric()
        || next == b'_'
        || matches!(next, b'.' | b'-' | b',') && at(bytes, end + 1).is_ascii_digit())
}

pub(super) fn luhn(digits: &[u8]) -> bool {
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
    // A part number goes on: `078-05-1120-A`.
    let goes_on = at(bytes, start + 11) == b'-' && at(bytes, start + 12).is_ascii_alphanumeric();
    (fits && issued && !goes_on && ends_number(bytes, start + 11)).then_some(start + 11)
}

fn ibans(bytes: &[u8], matches: &mut Matches) {
    let mut index = 0;
    while index + 15 <= bytes.len() {
        // Two letters and two digits start one. No start is before a byte that is neither.
        let fourth = at(bytes, index + 3);
        if !fourth.is_ascii_digit() {
            index += if fourth.is_ascii_alphabetic() { 2 } else { 4 };
            continue;
        }
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
    // A UUID has groups of other lengths.
    let (mut group, mut in_fours) = (0, true);
    let near = bytes.get(start.saturating_sub(8)..start).unwrap_or_default().to_ascii_lowercase();
    let is_named = memchr::memmem::find(&near, b"iban").is_some();
    loop {
        let byte = at(bytes, index);
        if byte.is_ascii_alphanumeric() {
            let Some(slot) = text.get_mut(count) else { return best };
            // In lower case, most texts of this form are hexadecimal or a word.
            is_plain &= count < 2 || byte.is_ascii_digit();
            is_upper &= !byte.is_ascii_lowercase();
            *slot = byte.to_ascii_uppercase();
            count += 1;
            group += 1;
            in_fours &= group <= 4;
            index += 1;
            let known = text.get(..count).unwrap_or_default();
            let is_form = is_upper || is_plain || separator.is_some() && in_fours || is_named;
            let is_valid = count >= 15 && is_form && mod_97(known) == 1;
            // After its name, a number that was cut or mistyped counts, too.
            if (is_valid || is_named && count >= 12) && !at(bytes, index).is_ascii_alphanumeric() {
                best = Some(index);
            }
        } else if matches!(byte, b' ' | b'-')
            && separator.is_none_or(|known| known == byte)
            && count % 4 == 0
            && count >= 4
        {
            separator = Some(byte);
            index += 1;
            group = 0;
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
