//! Pairs without an operator, in sentences and in SQL: `PASSWORD '…'`, `invalid token …`, `Bearer …`.

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::pairs::{
    NameKind, PairName, PairOperator, PairScanner, is_name_byte, is_quote, keys,
};
use crate::observe::redact::detect::word_list::WordList;
use crate::observe::redact::detect::{labels, looks, values};

use crate::observe::redact::unwrap::decode_base64;

/// Words between the name of a secret and the secret.
static GLUE: WordList = WordList::new(&[
    "is", "was", "be", "to", "set", "has", "value", "equals", "provided", "given", "received", "supplied",
    "sent", "used", "got", "ist", "lautet", "est", "es", "now", "still", "from", "reads", "changed", "reset",
    "wurde", "auf", "been", "are", "é", "è", "är", "er", "jest", "je", "bylo", "este", "—", "–", "это",
]);
/// Such words before a quoted value.
const VERBS: [&str; 13] =
    ["is", "was", "to", "be", "set", "equals", "ist", "lautet", "est", "now", "from", "changed", "reset"];
/// Number of such words in a row.
const MOST_GLUE: usize = 4;

/// Parameters of a challenge: `WWW-Authenticate: Bearer resource_metadata="…"`.
const CHALLENGE: &[&str] =
    &["realm", "scope", "error", "error_description", "error_uri", "resource_metadata", "charset", "algs"];

/// Bytes of the longest token in a sentence.
const LONGEST_ANNOUNCED: usize = 512;

impl<'a> PairScanner<'a> {
    /// Matches the quoted text of `PASSWORD '…'`, `IDENTIFIED BY '…'`, `apikey "…"`.
    pub(super) fn adjacent(&mut self, at: usize) -> usize {
        let mut end = at;
        while self.before(end) == b'\\' {
            end -= 1;
        }
        let opener = end;
        if self.before(end) == b'(' {
            return self.argument(end - 1, opener).unwrap_or(at + 1);
        }
        let is_apart = matches!(self.before(end), b' ' | b'\t');
        while matches!(self.before(end), b' ' | b'\t') && opener - end < 3 {
            end -= 1;
        }
        if !is_name_byte(self.before(end)) {
            return at + 1;
        }
        let Some(mut key) = self.key_before(end) else { return at + 1 };
        // `the password was '…'`
        let mut has_verb = false;
        for _ in 0..MOST_GLUE {
            let is_verb = VERBS.contains(&key.text);
            match self.key_before(key.start).filter(|_| is_verb) {
                Some(previous) => (key, has_verb) = (previous, true),
                None => break,
            }
        }
        let phrase = self.phrase_of(&key);
        if !is_quote(self.before(key.start))
            && let Some(end) = self.announced_token(opener)
        {
            return self.take_announced(opener + 1, end);
        }
        if is_apart && self.is_announcement(key.text) {
            let next = self.take_mentioned(&key, PairOperator::Colon, opener);
            return if next > opener { next } else { at + 1 };
        }
        let announces =
            keys::is_password(key.text) && !self.rules.allow.matches(key.text) || keys::is_phrase(phrase);
        // The quote may close the name, or a text that ends with the name. Then it opens no value.
        if !announces || !is_apart && key.text.is_ascii() || is_quote(self.before(key.start)) {
            return at + 1;
        }
        let Some(value) = self.value(opener).filter(|value| value.quoted) else { return at + 1 };
        let text = self.slice(value.start, value.end);
        if self.placeholder.is_whole(text)
            || !values::is_secret(text, key.text, PairOperator::Assignment, true)
            || has_verb && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b' ')
        {
            return at + 1;
        }
        self.push(value.start, value.end, KnownClass::KeyValue, "quoted-after-name");
        value.next
    }

    /// Matches the quoted text of `setPassword("…")`, whose bracket is at `at`. A text that looks like words may be a
    /// name, as in `getPassword("…")`.
    fn argument(&mut self, at: usize, opener: usize) -> Option<usize> {
        const READING: [&str; 6] = ["get", "read", "load", "find", "fetch", "has"];
        let key = self.key_before(at)?;
        let name = key.text.rsplit('.').next()?;
        if self.rules.judge(name, false) != Some(NameKind::Secret)
            || READING.iter().any(|verb| name.starts_with(verb))
        {
            return None;
        }
        let value = self.value(opener).filter(|value| value.quoted)?;
        let text = self.slice(value.start, value.end);
        if !looks::is_random_short(text) || self.placeholder.is_whole(text) {
            return None;
        }
        self.push(value.start, value.end, KnownClass::KeyValue, "argument");
        Some(value.next)
    }

    /// Matches the secret after a blank: that of a flag, after `password`, `Basic`, `Bearer` or in a sentence.
    pub(super) fn blank(&mut self, at: usize) -> usize {
        if self.at(at + 1) == b'-' {
            return self.flag(at + 1);
        }
        if self.bytes.get(..at).is_some_and(|before| before.ends_with(b"password")) {
            let next = self.netrc(at);
            if next > at + 1 {
                return next;
            }
        }
        if let Some(end) = self.announced_token(at) {
            return self.take_announced(at + 1, end);
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
        // `Bearer realm="…"` is a challenge.
        let parameter = token.split_once('=').map_or("", |(name, _)| name);
        let is_challenge = CHALLENGE.contains(&parameter)
                // `token_type=Bearer expires_in=3600`
                || parameter.contains('_') && parameter.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                || token.ends_with('=') && is_quote(self.at(start + length));
        if is_challenge || token.len() < 8 || token.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return at + 1;
        }
        self.push(start, start + token.len(), KnownClass::AuthHeader, "bearer");
        start + token.len()
    }

    /// Matches the value of `machine HOST login USER password V`. `at` is right after `password`.
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
        self.push(value.start, value.end, KnownClass::KeyValue, "netrc");
        value.next
    }

    /// Returns a name with the word before it, or with the word before a preposition: `mot de passe`.
    fn phrase_of(&self, key: &PairName<'_>) -> &'a str {
        const PREPOSITIONS: [&str; 6] = ["de", "d", "di", "da", "do", "of"];
        let end = key.start + key.text.len();
        let Some(previous) = self.key_before(key.start) else { return "" };
        let first = self.key_before(previous.start).filter(|_| PREPOSITIONS.contains(&previous.text));
        self.slice(first.map_or(previous.start, |first| first.start), end)
    }

    /// Returns the end of the token or password after the blank or quote at `at`, if the words before it announce one:
    /// `invalid token '…'`, `Incorrect API key provided: …`, `requirepass …`, `TAN 837261`, `password is …`.
    fn announced_token(&mut self, at: usize) -> Option<usize> {
        let start = at + 1;
        let token_end = start + self.announced_length(start);
        let token = self.slice(start, token_end);
        let password_end = self.password_end(start, token_end);
        let password = self.slice(start, password_end);
        let near = self.slice(start, token_end.max(password_end));
        if !near.bytes().any(|byte| byte.is_ascii_digit() || byte == b'-') {
            return None;
        }
        let mut end = at;
        while matches!(self.before(end), b' ' | b':' | b'"' | b'\'' | b'`') && at - end < 4 {
            end -= 1;
        }
        let mut key = self.key_before(end)?;
        let last = key.start;
        let is_announcement = self.is_announcement(key.text);
        for _ in 0..MOST_GLUE {
            match self.key_before(key.start).filter(|_| GLUE.contains(key.text.as_bytes())) {
                Some(previous) => key = previous,
                None => break,
            }
        }
        let phrase = self.phrase_of(&key);
        let kind = match self.rules.judge(key.text, false) {
            None | Some(NameKind::Weak) if keys::may_end_phrase(key.text) => keys::judge_phrase(phrase),
            judged => judged,
        };
        // Most words announce nothing, and a look at the token costs more than one at the words before it.
        if kind.is_none() && !is_announcement && key.text != "code" {
            return None;
        }
        let is_token = token.len() >= 4
            && token.bytes().any(|byte| byte.is_ascii_digit() || byte == b'-')
            && values::is_code(token);
        let is_password = looks::is_password_like(password) && !labels::is_algorithm(password);
        if !is_token && !is_password || self.placeholder.length_at_start(token).is_some() {
            return None;
        }
        if is_token && is_announcement && looks::is_random_short(token) && self.mentioned(last).is_some() {
            return Some(token_end);
        }
        if is_fingerprint(phrase, token) {
            return None;
        }
        let has_glue = key.start < last;
        let is_named = names_password(kind, key.text, phrase, has_glue);
        let is_number = || has_glue && token.len() >= 6 && token.bytes().all(|byte| byte.is_ascii_digit());
        let found = if is_named && is_password {
            Some(password_end)
        } else {
            (is_token && (is_named && is_number() || self.announces(kind, key.text, phrase, token)))
                .then_some(token_end)
        };
        found.filter(|_| {
            !self.is_digest_of(key.start)
                && !self.rules.allow.matches(key.text)
                && !self.rules.allow.matches(&phrase.replace(' ', "_"))
        })
    }

    /// Returns the end of a password that starts at `start`, which may contain a sign at `end` and more after it.
    fn password_end(&self, start: usize, end: usize) -> usize {
        const LONGEST: usize = 64;
        if !matches!(self.at(end), b'!' | b'#' | b'$' | b'%' | b'&' | b'*' | b'@' | b'^' | b'?') {
            return end;
        }
        let is_part = |byte: &&u8| byte.is_ascii_graphic() && !b"\"'`<>()[]{},;|\\".contains(byte);
        let rest = self.bytes.get(start..).unwrap_or_default();
        let length = rest.iter().take(LONGEST).take_while(is_part).count();
        start + self.slice(start, start + length).trim_end_matches(['.', ':', '?']).len()
    }

    /// Returns true if `token`, which follows `name` without an operator, is a secret. `phrase` ends with the name.
    fn announces(&self, kind: Option<NameKind>, name: &str, phrase: &str, token: &str) -> bool {
        let is_identifier = name.get(1..).is_some_and(|rest| rest.contains('_'));
        match kind {
            Some(NameKind::Secret) if keys::is_code(name) => values::is_code(token) || is_long_token(token),
            // After these words another word may follow, but not this one.
            Some(NameKind::Secret | NameKind::Pass)
                if keys::is_password(name) || is_identifier || self.is_marked =>
            {
                looks::is_random_short(token) && !looks::is_digest(token) || is_long_token(token)
            }
            Some(NameKind::Secret) => is_long_token(token),
            Some(NameKind::Key) => values::is_key(token) && (is_identifier || is_long_token(token)),
            Some(NameKind::Code) => values::is_code(token),
            Some(NameKind::Weak) if looks::is_words_and_digests(token) => false,
            Some(NameKind::Weak) => {
                token.len() >= 14 && values::is_grouped_code(token)
                    || is_long_token(token) && token.len() >= 20
            }
            // `enter code WDJB-MJHT`
            None if name == "code" => {
                values::is_code(token)
                    && token.contains('-')
                    && matches!(phrase.split(' ').next(), Some("enter" | "your" | "the" | "use"))
            }
            _ => false,
        }
    }

    fn announced_length(&self, from: usize) -> usize {
        let is_part = |byte: &u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'+' | b'/' | b'=' | b'~')
        };
        let rest = self.bytes.get(from..self.bytes.len().min(from + LONGEST_ANNOUNCED)).unwrap_or_default();
        let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        self.slice(from, from + length).trim_end_matches(['.', '-', '/']).len()
    }

    fn take_announced(&mut self, start: usize, end: usize) -> usize {
        self.budget = self.budget.saturating_sub(end - start);
        self.push(start, end, KnownClass::KeyValue, "announced-token");
        end
    }

    /// Matches user and password in base64 after `Basic`. `at` is the blank between them.
    fn basic(&mut self, at: usize) -> usize {
        let start = self.skip_blanks(at);
        let rest = self.bytes.get(start..).unwrap_or_default();
        let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        let length = rest.iter().take(LONGEST_ANNOUNCED).take_while(is_part).count();
        if length < 8 || !is_user_and_password(rest.get(..length).unwrap_or_default()) {
            return at + 1;
        }
        self.push(start, start + length, KnownClass::AuthHeader, "basic");
        start + length
    }
}

/// Returns true for a token of 16 or more characters: of both cases, or of 32 hexadecimal digits.
fn is_long_token(token: &str) -> bool {
    let is_hex = token.len() >= 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit());
    token.len() >= 16 && (is_token(token.as_bytes()) || is_hex)
}

/// Returns true if letters of both cases and digits alternate as in a random text, unlike in a path, an id,
/// or a name in code (`UnexpectedEndOfInput2`).
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
        && std::str::from_utf8(bytes).is_ok_and(looks::looks_random)
}

/// Returns true if base64 contains `user:password` in printable ASCII (RFC 7617).
fn is_user_and_password(base64: &[u8]) -> bool {
    decode_base64(base64)
        .is_some_and(|text| text.contains(&b':') && text.iter().all(|byte| matches!(byte, b' '..=b'~')))
}

/// Returns true if `name` or `phrase`, which ends with it, announces a password. After some words it takes a verb
/// (`has_glue`) or a preposition.
fn names_password(kind: Option<NameKind>, name: &str, phrase: &str, has_glue: bool) -> bool {
    const FOREIGN: [&str; 4] = ["clave", "parola", "parool", "sifre"];
    let is_password =
        || keys::is_password(name) || keys::is_password(phrase) || matches!(phrase, "with pass" | "and pass");
    matches!(kind, Some(NameKind::Secret | NameKind::Pass)) && is_password()
        || has_glue && FOREIGN.contains(&name)
}

/// Returns true for the id or fingerprint of a public key: `gpg: using RSA key 942E…`.
fn is_fingerprint(phrase: &str, token: &str) -> bool {
    const ALGORITHMS: [&str; 8] = ["RSA", "DSA", "ECDSA", "EDDSA", "ECDH", "GPG", "PGP", "OpenPGP"];
    phrase.strip_suffix(" key").is_some_and(|first| ALGORITHMS.contains(&first))
        && matches!(token.len(), 8 | 16 | 40)
        && token.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'A'..=b'F'))
}
