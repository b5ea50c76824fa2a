//! The names that announce a secret.
//!
//! A name is compared word by word (`dbPassword`, `DB_PASSWORD`, `db-password` are `db` `password`),
//! so that `author`, `tokenizer` and `keyboard` do not count as `auth`, `token` and `key`.
//!
//! Sources: detect-secrets `plugins/keyword.py`, gitleaks `generic-api-key`, sentry-python
//! `scrubber.py`, getsentry/relay `regexes.rs`, Elastic APM `sanitize_field_names`.

use crate::text::glob::Glob;

/// The secret that a name announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameKind {
    /// Any secret.
    Secret,
    /// `Authorization`, `Proxy-Authorization`: the value ends with the header.
    Authorization,
    /// `Cookie`, `Set-Cookie`: the value ends with the header.
    Cookies,
    /// A session, which is a secret in `name=value` and a common word in prose.
    Session,
    /// A secret if the value looks random.
    Weak,
    /// `pass`: a secret if the value has letters and digits. Otherwise it may be a number of tests.
    Pass,
    /// A secret in the query of a URL.
    Query,
}

/// Words of which one makes a name secret.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "password", "passwords", "passwd", "passphrase", "passcode", "pwd", "pw", "passwort", "contraseña",
    "contrasena", "kennwort", "senha", "пароль", "Пароль", "密码", "secret", "secrets", "token",
    "credential", "credentials", "creds", "bearer", "jwt", "otp", "csrf", "xsrf", "phpsessid",
    "jsessionid", "pgpassword", "cookie", "cookies", "authorization",
];

/// Two words in a row that make a name secret.
#[rustfmt::skip]
const PAIRS: &[(&str, &str)] = &[
    ("api", "key"), ("access", "key"), ("private", "key"), ("secret", "key"), ("encryption", "key"),
    ("signing", "key"), ("account", "key"), ("auth", "key"), ("service", "key"), ("client", "key"),
    ("master", "key"), ("db", "key"), ("shared", "key"), ("db", "pass"), ("database", "pass"),
    ("key", "pass"), ("connection", "string"), ("two", "factor"), ("de", "passe"), ("identified", "by"),
    ("rediscli", "auth"), ("access", "signature"), ("art", "api"), ("subscription", "key"),
    ("saml", "response"), ("hmac", "key"), ("priv", "key"), ("factor", "code"),
    ("verification", "code"), ("authorization", "code"),
];

/// Two words in a row that make a name secret, whatever its last word is.
const SESSION_PAIRS: &[(&str, &str)] = &[("session", "id"), ("connect", "sid")];

/// Parts that make a name in one word secret.
#[rustfmt::skip]
const PARTS: &[&str] = &[
    "password", "passwd", "passphrase", "apikey", "privatekey", "secretkey", "accesskey", "accesstoken",
    "authtoken", "clientsecret", "masterkey", "signingkey", "sessiontoken", "refreshtoken",
];

/// Last words of names of facts about a secret.
#[rustfmt::skip]
const ABOUT: &[&str] = &[
    "count", "limit", "length", "size", "type", "name", "names", "id", "ids", "file", "path", "url",
    "uri", "endpoint", "ttl", "expiry", "usage", "budget", "version", "policy", "field", "algorithm",
    "alg", "issuer", "reset", "location", "variable", "audience", "expires", "expiration", "lifetime",
    "status", "format", "scope", "scopes", "stdin", "provider", "manager", "store", "ref", "arn",
    "enabled", "required", "error", "consent", "dir", "folder", "env", "hint", "prompt", "label",
    "strength", "min", "max",
];

/// First words of names of facts about a secret.
const COUNTING: &[&str] = &["max", "min", "num", "total", "count", "no"];

/// Further names that are secret in the query or fragment of a URL.
#[rustfmt::skip]
const QUERY: &[&str] = &[
    "key", "sig", "signature", "x-amz-signature", "x-amz-credential", "x-amz-security-token",
    "awsaccesskeyid", "x-goog-signature", "x-goog-credential", "code_verifier", "code", "auth",
    "assertion",
];

/// The words of one name, lower-case, without trailing digits.
pub(crate) struct NameWords {
    buffer: [u8; NameWords::LONGEST],
    ranges: [(u8, u8); NameWords::MOST],
    count: usize,
}

impl NameWords {
    const LONGEST: usize = 96;
    const MOST: usize = 12;

    /// Splits a name at case changes and at every character that is not a letter or digit. Keeps the last
    /// 96 bytes and the last 12 words.
    pub(crate) fn of(name: &str) -> NameWords {
        let bytes = name.as_bytes();
        let bytes = bytes.get(bytes.len().saturating_sub(NameWords::LONGEST)..).unwrap_or(bytes);
        let mut words =
            NameWords { buffer: [0; NameWords::LONGEST], ranges: [(0, 0); NameWords::MOST], count: 0 };
        let mut start = None;
        for (at, &byte) in bytes.iter().enumerate() {
            if let Some(slot) = words.buffer.get_mut(at) {
                *slot = byte.to_ascii_lowercase();
            }
            let is_letter = byte.is_ascii_alphanumeric() || byte >= 0x80;
            let before = at.checked_sub(1).and_then(|at| bytes.get(at)).copied().unwrap_or(0);
            let after = bytes.get(at + 1).copied().unwrap_or(0);
            let hump = byte.is_ascii_uppercase()
                && (before.is_ascii_lowercase()
                    || before.is_ascii_digit()
                    || before.is_ascii_uppercase() && after.is_ascii_lowercase());
            match start {
                Some(from) if !is_letter => {
                    words.push(from, at);
                    start = None;
                }
                Some(from) if hump => {
                    words.push(from, at);
                    start = Some(at);
                }
                None if is_letter => start = Some(at),
                _ => {}
            }
        }
        if let Some(from) = start {
            words.push(from, bytes.len());
        }
        words
    }

    fn push(&mut self, start: usize, end: usize) {
        let digits = |range: &[u8]| range.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let trailing = self.buffer.get(start..end).map_or(0, digits);
        let end = if trailing < end - start { end - trailing } else { end };
        if self.count == NameWords::MOST {
            self.ranges.copy_within(1.., 0);
            self.count -= 1;
        }
        if let Some(slot) = self.ranges.get_mut(self.count) {
            *slot = (start as u8, end as u8);
            self.count += 1;
        }
    }

    fn get(&self, index: usize) -> &[u8] {
        let range = self.ranges.get(..self.count).and_then(|ranges| ranges.get(index));
        range.and_then(|&(start, end)| self.buffer.get(start.into()..end.into())).unwrap_or_default()
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.count).map(|index| self.get(index))
    }

    fn last(&self) -> &[u8] {
        self.count.checked_sub(1).map_or(&[], |last| self.get(last))
    }

    fn has_pair(&self, pairs: &[(&str, &str)]) -> bool {
        (1..self.count).any(|at| {
            let (left, right) = (self.get(at - 1), self.get(at));
            pairs.iter().any(|(a, b)| a.as_bytes() == left && b.as_bytes() == right)
        })
    }

    /// Returns what this name announces, or `None` for a harmless name.
    pub(crate) fn judge(&self) -> Option<NameKind> {
        let (first, last) = (self.get(0), self.last());
        if self.has_pair(SESSION_PAIRS) {
            return Some(NameKind::Secret);
        }
        let among = |word: &[u8], list: &[&str]| list.iter().any(|entry| entry.as_bytes() == word);
        if self.count == 0
            || self.count > 1 && (among(last, ABOUT) || among(first, COUNTING))
            || self.iter().any(|word| word == b"public" || word == b"passwordless")
        {
            return None;
        }
        match last {
            b"authorization" => return Some(NameKind::Authorization),
            b"cookie" | b"cookies" if self.count == 1 || self.count == 2 && first == b"set" => {
                return Some(NameKind::Cookies);
            }
            _ => {}
        }
        if self.iter().any(|word| among(word, WORDS) || contains_part(word)) || self.has_pair(PAIRS) {
            return Some(NameKind::Secret);
        }
        match last {
            b"sid" | b"session" | b"sess" | b"sessionid" => Some(NameKind::Session),
            b"key" | b"code" if self.count == 1 => Some(NameKind::Weak),
            b"auth" => Some(NameKind::Weak),
            b"pass" if self.count == 1 => Some(NameKind::Pass),
            _ => None,
        }
    }
}

fn contains_part(word: &[u8]) -> bool {
    word.len() >= 6 && PARTS.iter().any(|part| memchr::memmem::find(word, part.as_bytes()).is_some())
}

/// Returns what `name` announces. Only the last part of a dotted name counts.
pub(crate) fn judge(name: &str) -> Option<NameKind> {
    let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or(name);
    if last.len() < name.len() && NameWords::of(name).has_pair(SESSION_PAIRS) {
        return Some(NameKind::Secret);
    }
    NameWords::of(last).judge()
}

/// Returns what `name` announces in the query or fragment of a URL.
pub(crate) fn judge_query(name: &str) -> Option<NameKind> {
    match judge(name) {
        None | Some(NameKind::Weak | NameKind::Pass)
            if QUERY.iter().any(|entry| entry.eq_ignore_ascii_case(name)) =>
        {
            Some(NameKind::Query)
        }
        judged => judged,
    }
}

/// Returns true if the last two words of `text` announce a secret together: `api key`, `identified by`.
pub(crate) fn is_phrase(text: &str) -> bool {
    let words = NameWords::of(text);
    let Some(last) = words.count.checked_sub(1) else { return false };
    let Some(before) = last.checked_sub(1) else { return false };
    PAIRS.iter().any(|(a, b)| a.as_bytes() == words.get(before) && b.as_bytes() == words.get(last))
}

/// Returns true if a word makes the name after it that of a number: `max token`.
pub(crate) fn is_counting(word: &str) -> bool {
    COUNTING.iter().any(|entry| entry.eq_ignore_ascii_case(word))
}

/// Returns true if a quoted text right after `name` is a secret.
pub(crate) fn is_password(name: &str) -> bool {
    const CLEAR: [&[u8]; 5] = [b"password", b"passwd", b"passphrase", b"pwd", b"passcode"];
    let words = NameWords::of(name);
    words.judge() == Some(NameKind::Secret)
        && (words.iter().any(|word| CLEAR.contains(&word) || contains_part(word)) || words.has_pair(PAIRS))
}

/// The patterns of names in a setting. Case and `-`/`_` do not matter.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyPatterns(Vec<Glob>);

impl KeyPatterns {
    pub(crate) fn new(patterns: &[String]) -> KeyPatterns {
        KeyPatterns(patterns.iter().map(|pattern| Glob::new(fold(pattern))).collect())
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let name = fold(name);
        self.0.iter().any(|glob| glob.matches(&name))
    }
}

fn fold(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn names_are_compared_word_by_word() {
        for name in [
            "password", "dbPassword", "DB_PASSWORD", "db-password", "config.dbPassword", "apiKey",
            "API_KEY", "X-Api-Key", "APIKey", "theapikey", "fooapikeyfoo", "secret", "client_secret",
            "mySecretString", "token", "bot_token1", "dogToken", "session_id", "mcp-session-id",
            "connect.sid", "AccountKey", "PGPASSWORD", "MYSQL_PWD", "REDISCLI_AUTH", "contraseña",
            "connection_string", "SharedAccessKey", "db_pass",
        ] {
            assert_eq!(judge(name), Some(NameKind::Secret), "{name}");
        }
        for name in [
            "author", "tokenizer", "tokens", "max_tokens", "total_tokens", "secretary", "keyboard",
            "monkey", "primaryKey", "public_key", "publicToken", "token_type", "secret_name",
            "credentialsId", "password_policy", "passwordVariable", "SharedAccessKeyName", "kms_key_id",
            "access_token_url", "no-auth-token", "tests-passed",
        ] {
            assert_eq!(judge(name), None, "{name}");
        }
        assert_eq!(judge("Proxy-Authorization"), Some(NameKind::Authorization));
        assert_eq!(judge("Set-Cookie"), Some(NameKind::Cookies));
        assert_eq!(judge("key"), Some(NameKind::Weak));
        assert_eq!(judge_query("key"), Some(NameKind::Query));
        assert_eq!(judge_query("page"), None);
    }

    #[test]
    fn a_users_key_may_hold_wildcards() {
        for (pattern, name, expected) in [
            ("x-tenant-*", "X_Tenant_Name", true),
            ("*_no", "employee-no", true),
            ("employee_no", "EMPLOYEE-NO", true),
            ("employee_no", "employee_nos", false),
            ("employee?no", "employee.no", true),
        ] {
            assert_eq!(KeyPatterns::new(&[pattern.to_owned()]).matches(name), expected, "{pattern} {name}");
        }
    }
}
