//! The names that announce a secret.
//!
//! A name is compared word by word (`dbPassword`, `DB_PASSWORD`, `db-password` are `db` `password`),
//! so that `author`, `tokenizer` and `keyboard` do not count as `auth`, `token` and `key`.
//!
//! Sources: detect-secrets `plugins/keyword.py`, gitleaks `generic-api-key`, sentry-python
//! `scrubber.py`, getsentry/relay `regexes.rs`, Elastic APM `sanitize_field_names`.

use std::borrow::Cow;

use crate::observe::redact::detect::trigrams::Trigrams;
use crate::observe::redact::detect::word_list::WordList;

/// The secret that a name announces. It decides which values count.
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
    /// `key`, `code`, `auth` without another word: a secret if the value looks random.
    Weak,
    /// A name that ends in `key`, `auth`, `pat` and the like: a secret if the value is not made of words.
    Key,
    /// A name that ends in `pass`: a secret if the value is not a count or a state.
    Pass,
    /// A code that is typed once: a short value with digits or groups.
    Code,
    /// A secret in the query of a URL.
    Query,
    /// The URL of a webhook, whose path or query is the secret, or that secret alone.
    Webhook,
}

/// Words of which one makes a name secret.
#[rustfmt::skip]
static WORDS: WordList = WordList::new(&[
    "password", "passwords", "passwd", "passphrase", "passcode", "pwd", "pw", "psk", "secret", "secrets",
    "token", "credential", "credentials", "cred", "creds", "bearer", "jwt", "otp", "totp", "csrf", "xsrf",
    "phpsessid", "jsessionid", "sessdata", "pgpassword", "cookie", "cookies", "authorization", "mnemonic", "mnemonics",
    "requirepass", "masterauth", "bindpw", "rootpw", "dbpw", "userpw", "adminpw",
    // Danish, Dutch, Finnish, German, Lithuanian, Norwegian, Polish, Portuguese, Spanish, Swedish, …
    "passwort", "kennwort", "jelszava", "jelszavam", "salasanasi", "contrasenia", "contrasena", "senha", "geslo", "heslo", "haslo", "jelszo", "salasana",
    "wachtwoord", "adgangskode", "kodeord", "passord", "losenord", "slaptazodis", "lozinka", "sandi",
]);

/// Parts of words beyond ASCII that make a name secret.
#[rustfmt::skip]
const FOREIGN: &[&str] = &[
    "contraseñ", "contrasenya", "парол", "лозинк", "токен", "секрет", "jelszó", "hasło", "lösenord",
    "şifre", "slaptažod", "lykilorð", "fjalëkalim", "κωδικ", "סיסמ", "المرور", "السر", "رمز", "گذرواژه",
    "पासवर्ड", "রহস্য", "รหัสผ่าน", "密码", "密碼", "口令", "密钥", "密鑰", "令牌", "パスワード", "暗証番号",
    "トークン", "シークレット", "비밀번호", "암호", "토큰", "khẩu",
];

/// Parts of words beyond ASCII that mean a key.
const FOREIGN_KEYS: &[&str] = &["schlüssel", "clé", "ключ", "キー", "nøgle", "nøkkel"];

/// Two words in a row that make a name secret. Words like `de` between them do not count.
#[rustfmt::skip]
const PAIRS: &[(&str, &str)] = &[
    ("api", "key"), ("clé", "api"), ("access", "key"), ("private", "key"), ("secret", "key"), ("encryption", "key"),
    ("signing", "key"), ("account", "key"), ("auth", "key"), ("service", "key"), ("client", "key"),
    ("master", "key"), ("db", "key"), ("shared", "key"), ("connection", "string"), ("two", "factor"),
    ("mot", "passe"), ("identified", "by"), ("rediscli", "auth"), ("access", "signature"), ("amz", "signature"), ("goog", "signature"), ("art", "api"),
    ("clave", "api"), ("clave", "acceso"), ("klucz", "api"), ("klucz", "dostępu"), ("ключ", "api"),
    ("ключ", "доступу"), ("ключ", "доступа"), ("clé", "accès"), ("api", "nyckel"), ("chave", "api"), ("chiave", "api"), ("subscription", "key"), ("saml", "response"), ("api", "hash"), ("cf", "clearance"), ("hmac", "key"), ("priv", "key"), ("code", "verifier"),
    ("pkce", "verifier"), ("seed", "phrase"), ("recovery", "phrase"), ("secret", "phrase"),
    ("backup", "phrase"), ("mnemonic", "phrase"), ("wallet", "seed"), ("seed", "words"), ("hex", "seed"), ("session", "string"),
    ("telegram", "hash"), ("vault", "unseal"), ("client", "sec"), ("security", "answer"), ("pass", "phrase"), ("pass", "word"),
];

/// Two words in a row that make a name secret, whatever its last word is.
const SESSION_PAIRS: &[(&str, &str)] = &[("session", "id"), ("connect", "sid")];

/// Two words in a row that make a name harmless: a client of MCP chooses a progress token itself.
const HARMLESS_PAIRS: &[(&str, &str)] = &[("progress", "token")];

/// Parts that make a name in one word secret.
#[rustfmt::skip]
const PARTS: &[&str] = &[
    "password", "passwd", "passphrase", "passwort", "apikey", "privatekey", "secretkey", "accesskey",
    "accesstoken", "authtoken", "clientsecret", "masterkey", "signingkey", "sessiontoken", "refreshtoken",
    "seedphrase", "codeverifier", "apisecret", "appsecret", "apitoken",
];

/// Last words of names of facts about a secret.
#[rustfmt::skip]
static ABOUT: WordList = WordList::new(&[
    "count", "limit", "length", "size", "age", "type", "name", "names", "id", "ids", "file", "path", "url",
    "uri", "endpoint", "ttl", "expiry", "usage", "budget", "version", "policy", "field", "algorithm",
    "minutes", "hours", "days", "seconds", "secs", "ms", "window", "rounds", "prefix", "storage", "backend",
    "domain", "lifespan", "db", "parameter", "timeout", "interval",
    "alg", "issuer", "reset", "location", "variable", "audience", "expires", "expiration", "lifetime",
    "status", "format", "scope", "scopes", "stdin", "provider", "manager", "store", "ref", "arn",
    "enabled", "required", "error", "consent", "dir", "folder", "env", "hint", "prompt", "label",
    "strength", "min", "max", "header", "at", "in", "mode", "method", "kind", "source", "regex", "pattern",
    "fingerprint", "thumbprint", "validator", "rotation", "placeholder", "description", "host", "port",
    "supported", "attribute", "attributes", "attr", "column", "class", "property", "schema", "encoding",
    "charset", "strategy", "engine", "generator", "hasher", "exception", "found", "missing", "failed", "failure", "denied", "cache",
    "filter", "process", "encryption", "samesite", "httponly", "secure",
]);

/// First words of names of facts about a secret.
static COUNTING: WordList = WordList::new(&["max", "min", "num", "total", "count", "no"]);

/// Last words that make a name secret if its value is not made of words.
#[rustfmt::skip]
static KEYS: WordList = WordList::new(&[
    "key", "keys", "tokens", "tok", "auth", "pat", "pats", "sas", "pem", "apikeys", "seed", "parola", "parole",
    "dsn", "salt", "salts", "pepper", "license", "licence",
    "parool", "clave", "sifre",
]);

/// Words before `key` or `pass` whose keys are not secret.
#[rustfmt::skip]
static HARMLESS_KEYS: WordList = WordList::new(&[
    "primary", "foreign", "sort", "partition", "cache", "hash", "range", "idempotency", "index", "row",
    "routing", "translation", "registry", "config", "issue", "project", "object", "group", "join",
    "unique", "map", "dict", "lookup", "dedup", "dedupe", "event", "metric", "message", "sequence", "host",
    "composite", "natural", "surrogate", "shard", "bucket", "blob", "file", "known", "hot", "shortcut",
    "arrow", "parent", "child", "test", "tests", "smoke", "first", "second", "third", "single", "multi",
    "random", "public", "socket", "redis",
]);

/// Words before `code` that make it a secret.
#[rustfmt::skip]
static CODES: WordList = WordList::new(&[
    "pin", "user", "device", "verification", "verify", "confirmation", "security", "access", "login",
    "authentication", "authorization", "auth", "otp", "mfa", "2fa", "fa", "totp", "sms", "time", "backup",
    "recovery", "scratch", "activation", "magic", "signin", "entry", "pairing", "unlock", "passkey", "factor", "temporary", "invite",
    "vérification", "verificación", "verificação", "verifica", "weryfikacyjny", "подтверждения",
    "доступа", "sécurité", "seguridad", "segurança",
]);

/// Words that are the names of codes.
#[rustfmt::skip]
static CODE_WORDS: WordList = WordList::new(&[
    "pin", "puk", "tan", "cvv", "cvc", "einmalcode", "bestätigungscode", "sicherheitscode", "zugangscode",
    "verifizierungscode", "aktivierungscode", "freischaltcode", "onetimecode", "usercode", "devicecode",
    "verificationcode", "验证码", "驗證碼", "認証コード", "인증번호",
]);

/// Words between two others that do not count.
static CONNECTING: WordList =
    WordList::new(&["de", "d", "di", "do", "da", "of", "the", "la", "le", "pour", "für", "per"]);

/// Further names that are secret in the query or fragment of a URL.
#[rustfmt::skip]
const QUERY: &[&str] = &[
    "key", "sig", "signature", "x-amz-signature", "x-amz-credential", "x-amz-security-token",
    "awsaccesskeyid", "x-goog-signature", "x-goog-credential", "code_verifier", "code", "auth",
    "assertion",
];

/// Other words of which a name contains one if [`NameWords::judge_last`] knows it.
const LAST: &[&str] = &["pass", "pwd", "hook", "sid", "sess", "code", "kod", "api"];

/// Parts of the ASCII names that announce anything. Most names contain none of them.
static ANNOUNCING: Trigrams = {
    let lists = [KEYS.words, LAST, CODE_WORDS.words, WORDS.words, PARTS];
    let mut parts = Trigrams::new();
    let mut list = 0;
    while list < lists.len() {
        let mut at = 0;
        while at < lists[list].len() {
            parts.add_part(lists[list][at].as_bytes());
            at += 1;
        }
        list += 1;
    }
    // One word of a pair is enough.
    let pairs = [PAIRS, SESSION_PAIRS];
    let mut list = 0;
    while list < pairs.len() {
        let mut at = 0;
        while at < pairs[list].len() {
            let (first, second) = pairs[list][at];
            if !parts.has_part_of(first.as_bytes()) {
                parts.add_part(second.as_bytes());
            }
            at += 1;
        }
        list += 1;
    }
    parts
};

/// Returns false for a name or a phrase that announces nothing.
fn may_announce(name: &str) -> bool {
    !name.is_ascii() || ANNOUNCING.has_part_of(name.as_bytes())
}

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
        let lower = if name.is_ascii() { Cow::Borrowed(name) } else { Cow::Owned(latin(&lower_case(name))) };
        let bytes = lower.as_bytes();
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
        if self.count < 2 {
            return false;
        }
        let is_counted = |word: &&[u8]| !CONNECTING.contains(word);
        self.iter()
            .filter(is_counted)
            .zip(self.iter().filter(is_counted).skip(1))
            .any(|(left, right)| pairs.iter().any(|(a, b)| a.as_bytes() == left && b.as_bytes() == right))
    }

    /// Returns true if the last two words are one of `pairs`.
    fn has_last_pair(&self, pairs: &[(&str, &str)]) -> bool {
        pairs.iter().any(|(a, b)| a.as_bytes() == self.qualifier() && b.as_bytes() == self.last())
    }

    /// Returns the last word before the last one.
    fn qualifier(&self) -> &[u8] {
        let before = (0..self.count.saturating_sub(1)).rev().map(|at| self.get(at));
        before.into_iter().find(|word| !CONNECTING.contains(word)).unwrap_or_default()
    }

    /// Returns what this name announces, or `None` for a harmless name.
    pub(crate) fn judge(&self) -> Option<NameKind> {
        let (first, last) = (self.get(0), self.last());
        // `SLACK_WEBHOOK_URL`
        if matches!(last, b"url" | b"uri" | b"endpoint") && matches!(self.qualifier(), b"webhook" | b"hook") {
            return Some(NameKind::Webhook);
        }
        if self.has_pair(SESSION_PAIRS) {
            return Some(NameKind::Secret);
        }
        // `VAULT_SECRET_ID`: HashiCorp and Tencent call a secret so.
        if last == b"id" && self.qualifier() == b"secret" {
            return Some(NameKind::Key);
        }
        if self.count == 0
            || self.count > 1 && (ABOUT.contains(last) || COUNTING.contains(first))
            || self.iter().any(|word| matches!(word, b"public" | b"publishable" | b"passwordless"))
            // The public key of a server of web push.
            || first == b"application" && last == b"key" && self.qualifier() == b"server"
            || self.has_pair(HARMLESS_PAIRS)
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
        if self.iter().any(|word| WORDS.contains(word) || contains_part(word)) || self.has_pair(PAIRS) {
            return Some(NameKind::Secret);
        }
        self.judge_last(last)
    }

    /// Returns what a name without a secret word announces by its last word.
    fn judge_last(&self, last: &[u8]) -> Option<NameKind> {
        let qualifier = self.qualifier();
        let is_harmless = HARMLESS_KEYS.contains(qualifier);
        match last {
            b"sid" | b"session" | b"sess" | b"sessionid" | b"sessid" => Some(NameKind::Session),
            b"key" | b"code" | b"auth" if self.count == 1 => Some(NameKind::Weak),
            b"code" | b"codes" | b"kod" | b"c\xc3\xb3digo" if CODES.contains(qualifier) => {
                Some(NameKind::Code)
            }
            b"api" if self.count > 1 => Some(NameKind::Key),
            b"webhook" | b"webhooks" => Some(NameKind::Webhook),
            b"pass" if !is_harmless => Some(NameKind::Pass),
            _ if CODE_WORDS.contains(last) => Some(NameKind::Code),
            _ if KEYS.contains(last) && !(is_harmless && last.starts_with(b"key")) => Some(NameKind::Key),
            _ if last.len() > 3 && last.ends_with(b"pwd") => Some(NameKind::Pass),
            _ if last.len() > 4 && last.ends_with(b"pass") && !NO_PASSES.contains(last) => {
                Some(NameKind::Pass)
            }
            _ if last.is_ascii() => None,
            _ if FOREIGN_KEYS.iter().any(|part| holds(last, part)) => Some(NameKind::Key),
            _ => None,
        }
    }
}

/// Words that end in `pass` and are not secrets.
#[rustfmt::skip]
static NO_PASSES: WordList = WordList::new(&[
    "bypass", "askpass", "compass", "trespass", "surpass", "encompass", "underpass", "overpass",
]);

fn holds(word: &[u8], part: &str) -> bool {
    memchr::memmem::find(word, part.as_bytes()).is_some()
}

/// Returns true if a word contains that of a secret: in one word with others, or in a script that does not
/// part words.
fn contains_part(word: &[u8]) -> bool {
    const PIECES: [&[u8]; 6] = [b"pas", b"key", b"tok", b"sec", b"phr", b"ver"];
    word.len() >= 6
        && (!word.is_ascii() || word.windows(3).any(|piece| PIECES.contains(&piece)))
        && (PARTS.iter().any(|part| holds(word, part))
            || !word.is_ascii() && FOREIGN.iter().any(|part| holds(word, part)))
}

/// Returns the name in lower case, character by character, so that no byte moves. A character whose lower
/// case has another length stays.
fn lower_case(name: &str) -> String {
    name.chars()
        .map(|c| {
            c.to_lowercase()
                .next()
                .filter(|lower| !c.is_ascii() && lower.len_utf8() == c.len_utf8())
                .unwrap_or(c)
        })
        .collect()
}

/// Replaces Cyrillic letters by the Latin ones that look the same, if the name also has Latin letters.
fn latin(name: &str) -> String {
    const SAME: [(char, char); 9] = [
        ('а', 'a'),
        ('е', 'e'),
        ('о', 'o'),
        ('р', 'p'),
        ('с', 'c'),
        ('у', 'y'),
        ('х', 'x'),
        ('і', 'i'),
        ('ѕ', 's'),
    ];
    let same = |c: char| SAME.iter().find(|(look, _)| *look == c).map(|(_, latin)| *latin);
    let is_mixed = name.contains(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii() || same(c).is_some());
    if is_mixed { name.chars().map(|c| same(c).unwrap_or(c)).collect() } else { name.to_owned() }
}

/// Returns the name of a property of Java or Gradle behind its option: `-Dtoken` is `token`.
fn property(name: &str) -> &str {
    let option = name.strip_prefix('-').unwrap_or(name);
    match option.strip_prefix(['D', 'P']) {
        Some(property)
            if option.len() < name.len() && property.starts_with(|c: char| c.is_ascii_lowercase()) =>
        {
            property
        }
        _ => name,
    }
}

/// Returns what `name` announces. Only the last part of a dotted name counts, and the part before a last `key`.
pub(crate) fn judge(name: &str) -> Option<NameKind> {
    if !may_announce(name) {
        debug_assert_eq!(judge_words(name), None, "a word is missing in ANNOUNCING: {name}");
        return None;
    }
    judge_words(name)
}

fn judge_words(name: &str) -> Option<NameKind> {
    // A time, a version.
    let is_letter = |byte: &u8| byte.is_ascii_alphabetic() || *byte >= 0x80;
    if name.bytes().filter(is_letter).take(2).count() < 2 {
        return None;
    }
    let name = property(name);
    let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or(name);
    if last.len() < name.len() {
        let words = NameWords::of(name);
        if words.has_pair(SESSION_PAIRS) || words.last() == b"key" && words.has_last_pair(PAIRS) {
            return Some(NameKind::Secret);
        }
    }
    NameWords::of(last).judge()
}

/// Returns what `name` announces in the query or fragment of a URL.
pub(crate) fn judge_query(name: &str) -> Option<NameKind> {
    match judge(name) {
        None | Some(NameKind::Weak | NameKind::Pass | NameKind::Key | NameKind::Code)
            if QUERY.iter().any(|entry| entry.eq_ignore_ascii_case(name)) =>
        {
            Some(NameKind::Query)
        }
        judged => judged,
    }
}

/// Last words of phrases.
#[rustfmt::skip]
static LAST_WORDS: WordList = WordList::new(&[
    "key", "code", "codes", "string", "factor", "passe", "by", "auth", "signature", "api", "response", "verifier",
    "phrase", "seed", "words", "acceso", "id",
]);

/// Returns true if a word may be the last of a phrase that [`judge_phrase`] knows.
pub(crate) fn may_end_phrase(word: &str) -> bool {
    const LONGEST: usize = 16;
    let mut lower = [0; LONGEST];
    let Some(lower) = lower.get_mut(..word.len()) else { return !word.is_ascii() };
    lower.copy_from_slice(word.as_bytes());
    lower.make_ascii_lowercase();
    !word.is_ascii() || LAST_WORDS.contains(lower) || CODES.contains(lower)
}

/// Returns what the last words of `text` announce together: `api key`, `mot de passe`, `code de sécurité`.
pub(crate) fn judge_phrase(text: &str) -> Option<NameKind> {
    if !may_announce(text) {
        return None;
    }
    let words = NameWords::of(text);
    let (qualifier, last) = (words.qualifier(), words.last());
    if PAIRS.iter().any(|(a, b)| a.as_bytes() == qualifier && b.as_bytes() == last) {
        return Some(NameKind::Secret);
    }
    let is_code = matches!(last, b"code" | b"codes") && CODES.contains(qualifier)
        || (matches!(qualifier, b"code" | b"kod")
            || qualifier == "código".as_bytes()
            || qualifier == "код".as_bytes())
            && CODES.contains(last);
    let is_foreign = |word: &[u8]| !word.is_ascii() && FOREIGN.iter().any(|part| holds(word, part));
    match () {
        () if is_code => Some(NameKind::Code),
        () if last == b"id" && qualifier == b"secret" => Some(NameKind::Key),
        () if is_foreign(qualifier) && !last.is_ascii() => Some(NameKind::Secret),
        () if last == b"key" && !qualifier.is_empty() && !HARMLESS_KEYS.contains(qualifier) => {
            Some(NameKind::Weak)
        }
        () => None,
    }
}

/// Returns true if the last words of `text` announce any secret together.
pub(crate) fn is_phrase(text: &str) -> bool {
    judge_phrase(text) == Some(NameKind::Secret)
}

/// Returns true if a word makes the name after it that of a number: `max token`.
pub(crate) fn is_counting(word: &str) -> bool {
    COUNTING.words.iter().any(|entry| entry.eq_ignore_ascii_case(word))
}

/// Returns true if a word before `key` makes the key harmless: `cache key`, `public key`.
pub(crate) fn is_harmless_key(word: &str) -> bool {
    HARMLESS_KEYS.contains(NameWords::of(word).last())
}

/// Returns true for a word between a name and that which has the name: `passwd for bob`.
pub(crate) fn is_preposition(word: &str) -> bool {
    matches!(word, "for" | "of" | "für" | "pour" | "para" | "di" | "voor" | "för" | "для")
}

/// Returns true if a name is that of a code that a person types once.
pub(crate) fn is_code(name: &str) -> bool {
    matches!(NameWords::of(name).last(), b"otp" | b"totp" | b"passcode")
}

/// Returns true for a word that is the name of a secret as a whole, such as `Token`, and not a part of it.
pub(crate) fn is_name_alone(word: &str) -> bool {
    WORDS.contains_any_case(word) || PARTS.iter().any(|part| part.eq_ignore_ascii_case(word))
}

/// Returns true if a quoted text right after `name` is a secret.
pub(crate) fn is_password(name: &str) -> bool {
    #[rustfmt::skip]
    const CLEAR: [&[u8]; 22] = [
        b"password", b"passwd", b"passphrase", b"pwd", b"pw", b"passcode", b"rootpw", b"bindpw", b"masterauth", b"requirepass",
        b"passwort", b"kennwort", b"senha", b"wachtwoord", b"heslo", b"haslo", b"salasana", b"jelszo", b"adgangskode", b"passord",
        b"losenord", b"geslo",
    ];
    if !may_announce(name) {
        return false;
    }
    let words = NameWords::of(name);
    words.judge() == Some(NameKind::Secret)
        && (words.iter().any(|word| CLEAR.contains(&word) || contains_part(word)) || words.has_pair(PAIRS))
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
            "connection_string", "SharedAccessKey",
        ] {
            assert_eq!(judge(name), Some(NameKind::Secret), "{name}");
        }
        for name in [
            "author", "tokenizer", "max_tokens", "total_tokens", "secretary", "keyboard",
            "monkey", "primaryKey", "public_key", "publicToken", "token_type", "secret_name",
            "credentialsId", "password_policy", "passwordVariable", "SharedAccessKeyName", "kms_key_id",
            "access_token_url", "no-auth-token", "tests-passed",
        ] {
            assert_eq!(judge(name), None, "{name}");
        }
        assert_eq!(judge("Proxy-Authorization"), Some(NameKind::Authorization));
        assert_eq!(judge("Set-Cookie"), Some(NameKind::Cookies));
        assert_eq!(judge("db_pass"), Some(NameKind::Pass));
        assert_eq!(judge("tokens"), Some(NameKind::Key));
        assert_eq!(judge("key"), Some(NameKind::Weak));
        assert_eq!(judge_query("key"), Some(NameKind::Query));
        assert_eq!(judge_query("page"), None);
    }
}
