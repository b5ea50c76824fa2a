//! Pairs without an operator, in sentences and in SQL: `PASSWORD '…'`, `invalid token …`, `Bearer …`.

use crate::observe::redact::detect::pairs::{Context, Name, Scan, is_name_byte, is_quote, keys, values};

/// Words that may stand between a secret's name and the secret.
const GLUE: &[&str] =
    &["is", "was", "value", "provided", "given", "received", "supplied", "sent", "used", "got"];

/// Where tokens in sentences begin to look like tokens.
const SHORTEST_TOLD: usize = 16;
const LONGEST_TOLD: usize = 512;

impl Scan<'_> {
    /// `PASSWORD '…'`, `IDENTIFIED BY '…'`, `apikey "…"`.
    pub(super) fn adjacent(&mut self, at: usize) -> usize {
        let mut end = at;
        while self.before(end) == b'\\' {
            end -= 1;
        }
        let opener = end;
        let is_apart = matches!(self.before(end), b' ' | b'\t');
        while matches!(self.before(end), b' ' | b'\t') && opener - end < 3 {
            end -= 1;
        }
        if !is_name_byte(self.before(end)) {
            return at + 1;
        }
        let Some(mut key) = self.key_before(end) else { return at + 1 };
        // `the password was '…'`
        let mut is_told = false;
        if matches!(key.text, "is" | "was" | "to" | "be")
            && let Some(previous) = self.key_before(key.start)
        {
            (key, is_told) = (previous, true);
        }
        let end = key.start + key.text.len();
        let phrase = self.key_before(key.start).map_or("", |previous| self.slice(previous.start, end));
        if !is_quote(self.before(key.start)) && self.is_told(opener) {
            return self.told(opener + 1);
        }
        let speaks =
            keys::is_password(key.text) && !self.rules.allow.matches(key.text) || keys::is_phrase(phrase);
        // The quote may close the name, or a text that ends with it, and not open a value.
        if !speaks || !is_apart || is_quote(self.before(key.start)) {
            return at + 1;
        }
        let Some(value) = self.value(opener).filter(|value| value.quoted) else { return at + 1 };
        let text = self.slice(value.start, value.end);
        if self.placeholder.is_whole(text)
            || !values::is_secret(text, key.text, Context::Assignment, true)
            || is_told && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b' ')
        {
            return at + 1;
        }
        self.marks.push(value.start, value.end, "key_value", "quoted-after-name");
        value.next
    }

    /// A blank may stand before a flag, or behind `Bearer`.
    pub(super) fn blank(&mut self, at: usize) -> usize {
        if self.at(at + 1) == b'-' {
            return self.flag(at + 1);
        }
        if self.bytes.get(..at).is_some_and(|before| before.ends_with(b"password")) {
            return self.netrc(at);
        }
        if self.is_told(at) {
            return self.told(at + 1);
        }
        let word = self.bytes.get(at.saturating_sub(6)..at).unwrap_or_default();
        if word.ends_with(b"asic") {
            return self.basic(at);
        }
        if !word.eq_ignore_ascii_case(b"bearer") || self.before(at.saturating_sub(6)).is_ascii_alphanumeric()
        {
            return at + 1;
        }
        let start = self.skip_blanks(at);
        let is_token = |byte: &&u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'+' | b'/' | b'=' | b'-')
        };
        let length = self.bytes.get(start..).map_or(0, |rest| rest.iter().take_while(is_token).count());
        let token = self.slice(start, start + length).trim_end_matches(['.', '-']);
        if token.len() < 8 || token.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return at + 1;
        }
        self.marks.push(start, start + token.len(), "auth_header", "bearer");
        start + token.len()
    }

    /// `machine HOST login USER password V`; `at` is behind `password`.
    fn netrc(&mut self, at: usize) -> usize {
        let user = self.key_before(at - "password".len());
        let login = user.and_then(|user| self.key_before(user.start));
        if login.is_none_or(|login| login.text != "login") {
            return at + 1;
        }
        let Some(value) = self.value(at) else { return at + 1 };
        if self.placeholder.is_whole(self.slice(value.start, value.end)) {
            return at + 1;
        }
        self.marks.push(value.start, value.end, "key_value", "netrc");
        value.next
    }

    /// Whether what stands behind the blank or quote at `at` looks like a token, and the words before call it
    /// one: `invalid token '…'`, `Incorrect API key provided: …`.
    fn is_told(&self, at: usize) -> bool {
        let length = self.told_length(at + 1);
        if length < SHORTEST_TOLD || !is_token(self.bytes.get(at + 1..at + 1 + length).unwrap_or_default()) {
            return false;
        }
        let mut end = at;
        while matches!(self.before(end), b' ' | b':' | b'"' | b'\'' | b'`') && at - end < 4 {
            end -= 1;
        }
        let Some(mut key) = self.key_before(end) else { return false };
        if GLUE.contains(&key.text)
            && let Some(previous) = self.key_before(key.start)
        {
            key = previous;
        }
        let phrase = self
            .key_before(key.start)
            .map_or("", |previous| self.slice(previous.start, key.start + key.text.len()));
        let is_allowed = || {
            let names = [key.text, &phrase.replace(' ', "_")];
            names.iter().any(|name| self.rules.allow.matches(name))
        };
        (self.rules.judge(key.text, false) == Some(Name::Secret) || keys::is_phrase(phrase)) && !is_allowed()
    }

    fn told_length(&self, from: usize) -> usize {
        let is_part = |byte: &&u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'+' | b'/' | b'=' | b'~')
        };
        let rest = self.bytes.get(from..).unwrap_or_default();
        let length = rest.iter().take(LONGEST_TOLD).take_while(is_part).count();
        self.slice(from, from + length).trim_end_matches(['.', '-', '/']).len()
    }

    fn told(&mut self, start: usize) -> usize {
        let end = start + self.told_length(start);
        self.budget = self.budget.saturating_sub(end - start);
        self.marks.push(start, end, "key_value", "told");
        end
    }

    /// `Basic` with user and password in base64 behind it; `at` is the blank between.
    fn basic(&mut self, at: usize) -> usize {
        let start = self.skip_blanks(at);
        let rest = self.bytes.get(start..).unwrap_or_default();
        let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        let length = rest.iter().take(LONGEST_TOLD).take_while(is_part).count();
        if length < 8 || !is_user_and_password(rest.get(..length).unwrap_or_default()) {
            return at + 1;
        }
        self.marks.push(start, start + length, "auth_header", "basic");
        start + length
    }
}

/// Whether letters of both cases and digits change as often as chance has it: not a path, an id, or a name
/// in code (`UnexpectedEndOfInput2`).
fn is_token(bytes: &[u8]) -> bool {
    let kind = |byte: u8| match byte {
        b'A'..=b'Z' => 0,
        b'a'..=b'z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    };
    let mut seen = [0_usize; 4];
    let mut last = None;
    for kind in bytes.iter().map(|byte| kind(*byte)) {
        if last != Some(kind)
            && let Some(runs) = seen.get_mut(kind)
        {
            *runs += 1;
        }
        last = Some(kind);
    }
    let [upper, lower, digits, _] = seen;
    (upper > 0 && lower > 0 && digits > 1)
        && (upper + lower + digits) * 3 > bytes.len()
        && !matches!(bytes.first(), Some(b'/' | b'.'))
        && std::str::from_utf8(bytes).is_ok_and(values::looks_random)
}

/// Whether base64 says `user:password` in printable ASCII (RFC 7617).
fn is_user_and_password(base64: &[u8]) -> bool {
    let mut word = 0_u32;
    let mut bits = 0_u32;
    let mut has_colon = false;
    for byte in base64.iter().take_while(|byte| **byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        word = word << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            let decoded = (word >> bits & 0xff) as u8;
            if !matches!(decoded, b' '..=b'~') {
                return false;
            }
            has_colon |= decoded == b':';
        }
    }
    has_colon
}
