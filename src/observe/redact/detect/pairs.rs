//! Secrets that a name announces: `name operator value` in any notation, headers, cookies, query
//! parameters, command-line flags.
//!
//! One pass over the text, led by the operators. At each operator the scanner looks back for a name and
//! judges it, then looks ahead for a value and judges it. After a pair that is not a secret it continues
//! right after the operator, because the value may contain the next pair (`error: secret=…`).
//!
//! Sources: gitleaks `generic-api-key` and `curl-auth-*`, detect-secrets `plugins/keyword.py`,
//! getsentry/relay pair lists, OpenTelemetry `url.full`.

mod context;
mod element;
mod flags;
mod header;
mod mentions;
pub(crate) mod next_line;
mod prose;
mod value_end;

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::key_patterns::KeyPatterns;
use crate::observe::redact::detect::keys::{self, NameKind};
use crate::observe::redact::detect::matches::Matches;
use crate::observe::redact::detect::runs::ByteSet;
use crate::observe::redact::detect::url;
use crate::observe::redact::detect::values::{self, PairOperator};
use crate::observe::redact::detect::{harmless, labels, looks};
use crate::observe::redact::placeholder::Placeholder;
use mentions::Mentions;
use value_end::OpenQuote;

/// The names that the user configures.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyRules {
    pub(crate) extra: KeyPatterns,
    pub(crate) allow: KeyPatterns,
}

impl KeyRules {
    fn judge(&self, name: &str, in_query: bool) -> Option<NameKind> {
        if self.allows(name) {
            return None;
        }
        if self.extra.matches(name) || name == "_auth" {
            return Some(NameKind::Secret);
        }
        if in_query { keys::judge_query(name) } else { keys::judge(name) }
    }

    /// Returns true if `allow_keys` lists this name as not secret.
    pub(crate) fn allows(&self, name: &str) -> bool {
        self.allow.matches(name)
    }

    /// Returns true if `name` announces that `value` is a secret.
    pub(crate) fn announces(&self, name: &str, value: &str) -> bool {
        self.is_secret(name) || self.judge(name, false) == Some(NameKind::Key) && values::is_key(value)
    }

    /// Returns true if a flag of this name takes a secret.
    pub(crate) fn is_secret(&self, name: &str) -> bool {
        // `redis-cli --pass`, `openssl -passin`. Only as names of flags do they announce a secret.
        if matches!(name, "pass" | "passin" | "passout" | "pat") {
            return !self.allows(name);
        }
        matches!(
            self.judge(name, false),
            Some(NameKind::Secret | NameKind::Pass | NameKind::Authorization | NameKind::Cookies)
        )
    }
}

/// Matches the values of all secret names in `text`.
///
/// In a text behind markup (`is_marked`), borders are operators, and a value must look random: many cells of a
/// table are beside a name.
pub(crate) fn find(
    text: &str,
    rules: &KeyRules,
    placeholder: &Placeholder,
    is_marked: bool,
    matches: &mut Matches,
) {
    let mut scan = PairScanner {
        text,
        bytes: text.as_bytes(),
        rules,
        placeholder,
        is_marked,
        matches,
        budget: 4096 + text.len() * 16,
        mentions: Mentions::default(),
        quotes: OpenQuote::default(),
        owns_line: false,
        program: None,
        program_searched: 0,
        is_jwk: memchr::memmem::find(text.as_bytes(), b"kty").is_some(),
    };
    scan.run();
    matches.settle();
}

struct PairScanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    rules: &'a KeyRules,
    placeholder: &'a Placeholder,
    is_marked: bool,
    matches: &'a mut Matches,
    /// Number of bytes that the search for the ends of values may still look at. It keeps the pass linear;
    /// when it is used up, the rest of the text is replaced.
    budget: usize,
    /// The last secret name that the text mentions, and what follows it.
    mentions: Mentions<'a>,
    /// The quote that is open where the scan is.
    quotes: OpenQuote,
    /// The name of the pair that is looked at starts its line.
    owns_line: bool,
    /// The last known program that the text names, and the end of the part that was searched for one.
    program: Option<&'static str>,
    program_searched: usize,
    /// The text contains a JSON web key.
    is_jwk: bool,
}

/// A name before an operator.
struct PairName<'a> {
    text: &'a str,
    start: usize,
    /// The name is in quotes of its own.
    quoted: bool,
}

/// A value, and where the scan continues after it.
#[derive(Clone, Copy)]
struct PairValue {
    start: usize,
    end: usize,
    next: usize,
    quoted: bool,
}

const LONGEST_NAME: usize = 80;

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'$') || byte >= 0x80
}

/// Returns true if `text` is the code that `name` announces. The code on the back of a card has three digits.
fn is_code_of(name: &str, text: &str) -> bool {
    const SHORT_NAME: usize = 4;
    let is_short = name.len() <= SHORT_NAME;
    values::is_code(text) && !(is_short && looks::is_wordy(text) && looks::is_mixed_short(text))
        || is_short
            && text.len() == 3
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && name.starts_with(['c', 'C'])
}

/// Returns true for a value that counts although its name is weak.
fn is_strong(value: &str) -> bool {
    looks::is_random_short(value) || looks::is_password_like(value) && !labels::is_algorithm(value)
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`')
}

impl<'a> PairScanner<'a> {
    fn run(&mut self) {
        static LEADING: ByteSet = ByteSet::of(b"=:>,\"'` ");
        let mut at = 0;
        if self.at(0) == b'-' {
            at = self.flag(0);
        }
        loop {
            if self.budget == 0 {
                self.matches.push(at, self.bytes.len(), KnownClass::Unchecked, "unchecked");
                return;
            }
            let Some(next) = LEADING.next(self.bytes, at) else { return };
            at = next;
            at = match self.at(at) {
                b'=' | b':' => self.operator(at),
                b'>' => self.element(at),
                b',' => self.comma(at),
                b'"' | b'\'' | b'`' if self.at(at + 1) == b'-' => self.flag(at + 1).max(at + 1),
                b'"' | b'\'' | b'`' => self.adjacent(at),
                b' ' => self.blank(at),
                _ => at + 1,
            };
        }
    }

    fn at(&self, index: usize) -> u8 {
        self.bytes.get(index).copied().unwrap_or(0)
    }

    fn before(&self, index: usize) -> u8 {
        index.checked_sub(1).map_or(0, |index| self.at(index))
    }

    fn slice(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or_default()
    }

    /// Adds a match. Behind markup, only a value that looks random counts.
    fn push(&mut self, start: usize, end: usize, class: KnownClass, rule: &'static str) {
        if !self.is_marked || is_strong(self.slice(start, end)) {
            self.matches.push(start, end, class, rule);
        }
    }

    /// Returns the length of the line end at `index`, real or made visible, or zero.
    fn line_end(&self, index: usize) -> usize {
        match self.bytes.get(index..).unwrap_or_default() {
            [b'\n' | b'\r', ..] => 1,
            [b'\\', b'u', b'{', b'a' | b'd', b'}', ..] => 5,
            _ => 0,
        }
    }

    fn is_break(&self, index: usize) -> bool {
        index >= self.bytes.len()
            || matches!(self.at(index), b'\n' | b'\r')
            || self.bytes.get(index..index + 3) == Some(b"\\u{")
    }

    fn skip_blanks(&self, mut index: usize) -> usize {
        while matches!(self.at(index), b' ' | b'\t') {
            index += 1;
        }
        index
    }

    /// Skips blanks and line ends.
    fn skip_space(&self, mut index: usize) -> usize {
        loop {
            let next = self.skip_blanks(index) + self.line_end(self.skip_blanks(index));
            if next == index {
                return index;
            }
            index = next;
        }
    }

    /// Returns the name that ends before `end`, without blanks, closing quotes and brackets.
    fn key_before(&self, end: usize) -> Option<PairName<'a>> {
        let mut end = end;
        while matches!(self.before(end), b' ' | b'\t') {
            end -= 1;
        }
        if self.before(end) == b']' {
            end -= 1;
            // `password[]`, `[Symbol(password)]`
            if matches!(self.before(end), b'[' | b')') {
                end -= 1;
            }
        }
        let quoted = is_quote(self.before(end));
        if quoted {
            end -= 1;
            while self.before(end) == b'\\' {
                end -= 1;
            }
        }
        let window = self.bytes.get(end.saturating_sub(LONGEST_NAME)..end).unwrap_or_default();
        let length = window.iter().rev().position(|byte| !is_name_byte(*byte)).unwrap_or(window.len());
        let mut start = end - length;
        while start < end && !self.text.is_char_boundary(start) {
            start += 1;
        }
        (start < end).then(|| PairName { text: self.slice(start, end), start, quoted })
    }

    /// Returns `index`, or the start of the line end right before it.
    fn over_line_end(&self, index: usize) -> usize {
        match self.bytes.get(..index) {
            Some([.., b'\n' | b'\r']) => index - 1,
            Some([.., b'\\', b'u', b'{', b'a' | b'd', b'}']) => index - 5,
            _ => index,
        }
    }

    /// Returns what the name before an operator announces. Looks at the words before the name if the name
    /// alone announces nothing.
    fn judge(&self, key: &PairName<'a>, in_query: bool) -> Option<NameKind> {
        let judged = self.rules.judge(key.text, in_query);
        // The private members of a JSON web key (RFC 7518).
        if key.quoted && self.is_jwk && matches!(key.text, "d" | "p" | "q" | "dp" | "dq" | "qi" | "k") {
            return Some(NameKind::Key);
        }
        if self.is_digest_of(key.start) {
            return None;
        }
        if self.before(key.start) != b' '
            || matches!(judged, Some(NameKind::Authorization | NameKind::Cookies | NameKind::Session))
        {
            return judged;
        }
        let Some(previous) = self.key_before(key.start) else { return judged };
        // `cache key: V`, `public key: V`, `type Secret = …`
        if judged == Some(NameKind::Weak) && keys::is_harmless_key(previous.text)
            || matches!(previous.text, "type" | "interface" | "struct" | "enum" | "class" | "trait")
        {
            return None;
        }
        // `Your password is: V`, `unseal key 1: V`
        let is_number = key.text.len() <= 2 && key.text.bytes().all(|byte| byte.is_ascii_digit());
        #[rustfmt::skip]
        const BETWEEN: [&str; 14] = [
            "is", "are", "was", "ist", "lautet", "est", "es", "é", "è", "temporal", "temporaire", "provisoire", "inicial", "now",
        ];
        if is_number || BETWEEN.contains(&key.text) {
            return self
                .judge(&previous, false)
                .filter(|_| self.has_random_value(key.start + key.text.len()));
        }
        // `passwd for bob: V`
        if judged.is_none()
            && keys::is_preposition(previous.text)
            && let Some(name) = self.key_before(previous.start)
        {
            return self
                .rules
                .judge(name.text, false)
                .filter(|_| self.has_random_value(key.start + key.text.len()));
        }
        if judged == Some(NameKind::Secret) {
            return judged.filter(|_| !keys::is_counting(previous.text));
        }
        if keys::may_end_phrase(key.text)
            && let Some(kind) = self.judge_phrase_of(key, &previous, judged)
        {
            return Some(kind);
        }
        // `var apiToken string = …`, `apiToken: str = …`
        if values::is_type_name(key.text) {
            return self.rules.judge(previous.text, false);
        }
        judged
    }

    /// Returns true if the name that starts at `start` is that of a digest: `checksum/secret: …`.
    fn is_digest_of(&self, start: usize) -> bool {
        let before = self.bytes.get(..start).unwrap_or_default();
        [&b"checksum/"[..], b"hash/", b"digest/"].iter().any(|word| before.ends_with(word))
    }

    /// Returns what a name and the one or two words before it announce together.
    fn judge_phrase_of(
        &self,
        key: &PairName<'a>,
        previous: &PairName<'a>,
        judged: Option<NameKind>,
    ) -> Option<NameKind> {
        const LONGEST: usize = 64;
        let end = key.start + key.text.len();
        let longer = self.key_before(previous.start).map_or(previous.start, |first| first.start);
        let phrase = self.slice(longer, end);
        let phrase = if phrase.len() > LONGEST { self.slice(previous.start, end) } else { phrase };
        keys::judge_phrase(phrase)
            .filter(|kind| *kind != NameKind::Weak || judged.is_none())
            .filter(|_| !self.rules.allow.matches(&phrase.replace(' ', "_")))
    }

    /// Returns true if the word after the operator at `at` looks random.
    fn has_random_value(&self, at: usize) -> bool {
        const LONGEST: usize = 128;
        let start = self.skip_space(at + 1);
        let rest = self.bytes.get(start..self.bytes.len().min(start + LONGEST)).unwrap_or_default();
        let length = rest.iter().take_while(|byte| !byte.is_ascii_whitespace()).count();
        is_strong(self.slice(start, start + length).trim_end_matches(['.', ',', ';']))
    }

    fn operator(&mut self, at: usize) -> usize {
        let mut end = at + 1;
        while end < at + 4 && matches!(self.at(end), b'=' | b':' | b'>') {
            end += 1;
        }
        let operator = self.bytes.get(at..end).unwrap_or_default();
        if operator == b"::" && !self.is_marked
            || operator == b":" && self.bytes.get(end..end + 2) == Some(b"//")
        {
            return end;
        }
        let is_comparison = self.is_comparison(at, end);
        let mut left = at;
        while left + 2 > at
            && left > 0
            && matches!(self.before(left), b'+' | b'?' | b'.' | b'!' | b'~' | b'|')
        {
            left -= 1;
        }
        // The operator is on a line of its own, between those of the name and the value.
        let is_alone = self.line_end(end) > 0 && self.ends_line(left);
        let key = self.key_before(if is_alone { self.over_line_end(left) } else { left });
        let Some(key) = key.and_then(|key| if operator == b"=" { self.over_type(key) } else { Some(key) })
        else {
            return end;
        };
        let in_query = matches!(self.before(key.start), b'?' | b'&' | b'#' | b';');
        let kind = if operator.contains(&b'=') { PairOperator::Assignment } else { PairOperator::Colon };
        match self.judge(&key, in_query) {
            Some(NameKind::Weak) | None if self.is_announcement(key.text) => {
                self.take_mentioned(&key, kind, end)
            }
            // `password !== confirmPassword` compares names, `!= "…"` contains the secret.
            Some(_) if is_comparison && !is_quote(self.at(self.skip_blanks(end))) => end,
            Some(_)
                if operator == b":"
                    && (self.is_in_reference(key.start, end) || self.is_attribute(at, end)) =>
            {
                end
            }
            Some(name) => {
                // A line may end with `["password"]=>` (PHP's dump), `"password":` (JSON) or `password:`
                // (YAML).
                let goes_on = is_alone
                    || operator == b"=>"
                    || operator == b":" && (key.quoted || self.is_indented(end));
                let from = match self.lone_value(end) {
                    Some(value) => value,
                    None if goes_on => self.skip_space(end),
                    None => end,
                };
                self.owns_line = self.starts_line(key.start);
                self.take(&key, name, kind, from)
            }
            None => end,
        }
    }

    /// Returns true if the operator compares two names or values.
    fn is_comparison(&self, at: usize, end: usize) -> bool {
        let operator = self.bytes.get(at..end).unwrap_or_default();
        let is_spaced = self.before(at) == b' ' && self.at(end) == b' ';
        self.before(at) == b'!' && operator.starts_with(b"=")
            || operator == b"==="
            || operator == b"==" && is_spaced && !self.has_random_value(end)
    }

    /// Returns the name before a type in `var x: string = …`, or the word itself if it is not a type.
    fn over_type(&self, found: PairName<'a>) -> Option<PairName<'a>> {
        let is_phrase =
            |word: PairName<'_>| keys::is_phrase(self.slice(word.start, found.start + found.text.len()));
        if !values::is_type_name(found.text) || self.key_before(found.start).is_some_and(is_phrase) {
            return Some(found);
        }
        let mut end = found.start;
        while matches!(self.before(end), b' ' | b':' | b'&' | b'*') {
            end -= 1;
        }
        self.key_before(end)
    }

    /// Returns true if a line end, real or made visible, is right before `index`.
    fn ends_line(&self, index: usize) -> bool {
        matches!(self.before(index), b'\n' | b'\r')
            || matches!(self.bytes.get(..index), Some([.., b'\\', b'u', b'{', b'a' | b'd', b'}']))
    }

    /// Returns true if the name that starts at `start` is part of an Amazon resource name.
    fn is_in_arn(&self, start: usize) -> bool {
        const LONGEST: usize = 160;
        let window = self.bytes.get(start.saturating_sub(LONGEST)..start).unwrap_or_default();
        let is_part = |byte: &&u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-' | b'_' | b'/' | b'.' | b'*')
        };
        let length = window.iter().rev().take_while(is_part).count();
        window.get(window.len() - length..).is_some_and(|word| word.starts_with(b"arn:"))
    }

    /// Matches the value after `from` if it is the secret that the name announces.
    fn take(&mut self, key: &PairName<'a>, kind: NameKind, operator: PairOperator, from: usize) -> usize {
        let (class, rule) = match kind {
            NameKind::Authorization => {
                return self.header(key, KnownClass::AuthHeader, "authorization-header", from);
            }
            NameKind::Cookies => return self.header(key, KnownClass::Cookie, "cookie-header", from),
            NameKind::Session => (KnownClass::Cookie, "session"),
            NameKind::Query => (KnownClass::Url, "query"),
            NameKind::Webhook => (KnownClass::Webhook, "webhook-name"),
            _ => (KnownClass::KeyValue, "key-value"),
        };
        let value = self.value(from);
        self.owns_line = false;
        let Some(value) = value else { return from };
        let text = self.slice(value.start, value.end);
        if self.is_harmless(key, text, value, operator) {
            return from;
        }
        let is_secret = || values::is_secret(text, key.text, operator, value.quoted);
        if kind == NameKind::Webhook && text.contains("://") {
            let Some(at) = url::secret_path(text).map(|at| value.start + at) else { return from };
            self.matches.push(at, value.end, class, rule);
            return value.next.max(from);
        }
        let secret = match kind {
            NameKind::Weak => {
                looks::looks_random(text) && !looks::is_words_and_digests(text) && !text.contains('\\')
            }
            NameKind::Query => !values::is_lower_word(text) && is_secret(),
            NameKind::Key if text.starts_with('[') => {
                text.split(['"', '\'', ',', ' ', '[', ']']).any(looks::is_random_short)
            }
            NameKind::Key | NameKind::Webhook => values::is_key(text) && is_secret(),
            NameKind::Code => is_code_of(key.text, text),
            NameKind::Session if operator == PairOperator::Colon && !key.quoted => {
                text.len() >= 16 && values::is_key(text)
            }
            NameKind::Session => text.len() >= 6 && is_secret(),
            // The result of a test has this name, too.
            NameKind::Pass if !key.quoted && key.text.eq_ignore_ascii_case("pass") => {
                looks::is_mixed(text) && values::is_pass(text)
            }
            NameKind::Pass => values::is_pass(text) && is_secret(),
            _ => is_secret(),
        };
        let secret = secret && (!self.is_marked || is_strong(text) || kind == NameKind::Code);
        // `OPENAI_API_KEY=sk-...`
        let is_example =
            text.len() < 12 && self.bytes.get(value.end..).is_some_and(|rest| rest.starts_with(b"..."));
        if !secret || is_example || self.placeholder.is_whole(text) {
            return from;
        }
        self.matches.push(value.start, value.end, class, rule);
        value.next.max(from)
    }

    /// Matches the value of `["password", "…"]`, `getenv("api_token", "…")`, and `token,…` in a table.
    fn comma(&mut self, at: usize) -> usize {
        let from = at + 1;
        let Some(key) = self.key_before(at) else { return from };
        let judged = self.rules.judge(key.text, false);
        if !matches!(judged, Some(NameKind::Secret | NameKind::Key)) {
            return from;
        }
        let is_flag = key.quoted && key.text.starts_with('-');
        let Some(value) = self.value(if is_flag { self.skip_space(from) } else { from }) else { return from };
        let text = self.slice(value.start, value.end);
        // `["--api-key", "…", "--port", "80"]` is a command line as a list.
        let is_pair = if is_flag {
            value.quoted && !text.starts_with('-') && !harmless::is_reference(text)
        } else if key.quoted {
            let mut after = self.skip_blanks(value.next);
            while self.at(after) == b'\\' && self.line_end(after) == 0 && after < value.next + 4 {
                after += 1;
            }
            let closes = matches!(self.at(after), b')' | b']');
            let is_word = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            // `'X-Auth-Token', '…', 'Host'` is a list of headers.
            let is_listed = key.text.contains(['-', '_']) && looks::looks_random(text);
            value.quoted && (closes || is_listed) && !is_word && is_quote(self.before(key.start))
        } else {
            from == value.start && !value.quoted && looks::is_mixed(text)
        };
        let is_key = judged == Some(NameKind::Key);
        if !is_pair || is_key && !(key.quoted && values::is_key(text)) || self.placeholder.is_whole(text) {
            return from;
        }
        self.push(value.start, value.end, KnownClass::KeyValue, "listed-pair");
        value.next
    }
}
