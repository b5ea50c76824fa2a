//! Secrets that their name gives away: `name operator value` in whatever notation a text holds, headers,
//! cookies, query parameters, command-line flags.
//!
//! One pass over the text, led by the operators: at each, look back for a name, judge it, look ahead for
//! a value, judge that. A declined pair is passed over up to its operator only, because its value may
//! hold the next pair (`error: secret=…`).
//!
//! Sources: gitleaks `generic-api-key` and `curl-auth-*`, detect-secrets `plugins/keyword.py`,
//! getsentry/relay pair lists, OpenTelemetry `url.full`.

mod encoded;

mod flags;
mod prose;
mod value_end;

use crate::observe::redact::detect::keys::{self, KeyPatterns, Name};
use crate::observe::redact::detect::matches::Matches;
use crate::observe::redact::detect::values::{self, Context};
use crate::observe::redact::placeholder::Placeholder;

/// What the configuration says about names.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyRules {
    pub(crate) extra: KeyPatterns,
    pub(crate) allow: KeyPatterns,
}

impl KeyRules {
    fn judge(&self, name: &str, in_query: bool) -> Option<Name> {
        if self.allows(name) {
            return None;
        }
        if self.extra.matches(name) || name == "_auth" {
            return Some(Name::Secret);
        }
        if in_query { keys::judge_query(name) } else { keys::judge(name) }
    }

    /// Whether somebody said that the name announces none.
    pub(crate) fn allows(&self, name: &str) -> bool {
        self.allow.matches(name)
    }

    /// Whether a flag of this name takes a secret.
    pub(crate) fn is_secret(&self, name: &str) -> bool {
        // `redis-cli --pass`, `openssl -passin`: as names of anything but a flag they say too little.
        if matches!(name, "pass" | "passin" | "passout") {
            return !self.allows(name);
        }
        matches!(self.judge(name, false), Some(Name::Secret | Name::Authorization | Name::Cookies))
    }
}

/// Matches the values of all secret names in `text`.
pub(crate) fn find(text: &str, rules: &KeyRules, placeholder: &Placeholder, marks: &mut Matches) {
    let mut scan = Scan {
        text,
        bytes: text.as_bytes(),
        rules,
        placeholder,
        marks,
        budget: 4096 + text.len() * 16,
        done: 0,
        curl: memchr::memmem::find(text.as_bytes(), b"curl"),
    };
    scan.run();
    marks.settle();
}

struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
    rules: &'a KeyRules,
    placeholder: &'a Placeholder,
    marks: &'a mut Matches,
    /// How many more bytes may be looked at in search of the end of values. Keeps the pass linear;
    /// whatever is left when it is used up is not shown.
    budget: usize,
    /// Where the last pair found by [`Scan::name_value`] ended.
    done: usize,
    /// Where `curl` was first seen: `-u` behind it takes user and password.
    curl: Option<usize>,
}

/// A name in front of an operator.
struct Key<'a> {
    text: &'a str,
    start: usize,
    /// The name stands in quotes of its own.
    quoted: bool,
}

/// The part of a text that would be replaced, and where to go on behind it.
#[derive(Clone, Copy)]
struct Value {
    start: usize,
    end: usize,
    next: usize,
    quoted: bool,
}

const LONGEST_NAME: usize = 80;

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'$') || byte >= 0x80
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`')
}

impl<'a> Scan<'a> {
    fn run(&mut self) {
        let mut at = 0;
        if self.at(0) == b'-' {
            at = self.flag(0);
        }
        while at < self.bytes.len() {
            if self.budget == 0 {
                self.marks.push(at, self.bytes.len(), "unchecked", "unchecked");
                return;
            }
            at = match self.at(at) {
                b'=' | b':' => self.operator(at),
                b'%' => self.percent(at),
                b'>' => self.element(at),
                b',' => self.comma(at),
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

    /// Length of the line end at `index`: real, made visible, or zero.
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

    /// Blanks and line ends.
    fn skip_space(&self, mut index: usize) -> usize {
        loop {
            let next = self.skip_blanks(index) + self.line_end(self.skip_blanks(index));
            if next == index {
                return index;
            }
            index = next;
        }
    }

    /// The name that ends before `end`, behind closing quotes and brackets.
    fn key_before(&self, end: usize) -> Option<Key<'a>> {
        let mut end = end;
        while matches!(self.before(end), b' ' | b'\t') {
            end -= 1;
        }
        if self.before(end) == b']' {
            end -= 1;
            if self.before(end) == b'[' {
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
        let mut start = end;
        while start > 0 && end - start < LONGEST_NAME && is_name_byte(self.before(start)) {
            start -= 1;
        }
        while start < end && !self.text.is_char_boundary(start) {
            start += 1;
        }
        // What follows a percent sign are the digits of an escape.
        if self.before(start) == b'%' {
            let digits = if self.slice(start, end).starts_with("25") { 4 } else { 2 };
            start = (start + digits).min(end);
        }
        (start < end).then(|| Key { text: self.slice(start, end), start, quoted })
    }

    /// Back over one line end.
    fn over_line_end(&self, index: usize) -> usize {
        match self.bytes.get(..index) {
            Some([.., b'\n' | b'\r']) => index - 1,
            Some([.., b'\\', b'u', b'{', b'a' | b'd', b'}']) => index - 5,
            _ => index,
        }
    }

    /// What the name in front of an operator announces; looks at the words before it where the name alone
    /// says nothing.
    fn judge(&self, key: &Key<'a>, in_query: bool) -> Option<Name> {
        let judged = self.rules.judge(key.text, in_query);
        if self.before(key.start) != b' '
            || !matches!(judged, None | Some(Name::Weak | Name::Pass | Name::Secret))
        {
            return judged;
        }
        let Some(previous) = self.key_before(key.start) else { return judged };
        if judged == Some(Name::Secret) {
            return judged.filter(|_| !keys::is_counting(previous.text));
        }
        let phrase = self.slice(previous.start, key.start + key.text.len());
        if keys::is_phrase(phrase) && !self.rules.allow.matches(&phrase.replace(' ', "_")) {
            return Some(Name::Secret);
        }
        // `var apiToken string = …`, `apiToken: str = …`
        if values::is_type_name(key.text) {
            return self.rules.judge(previous.text, false);
        }
        judged
    }

    fn operator(&mut self, at: usize) -> usize {
        let mut end = at + 1;
        while end < at + 4 && matches!(self.at(end), b'=' | b':' | b'>') {
            end += 1;
        }
        let operator = self.bytes.get(at..end).unwrap_or_default();
        if operator == b"::" || operator == b":" && self.bytes.get(end..end + 2) == Some(b"//") {
            return end;
        }
        let is_comparison = self.before(at) == b'!' && operator.starts_with(b"=") || operator == b"===";
        let mut left = at;
        while left + 2 > at
            && left > 0
            && matches!(self.before(left), b'+' | b'?' | b'.' | b'!' | b'~' | b'|')
        {
            left -= 1;
        }
        // On a line of its own, with the name before and the value behind it.
        let is_alone = self.line_end(end) > 0 && self.ends_line(left);
        let mut key = self.key_before(if is_alone { self.over_line_end(left) } else { left });
        // `var x: string = …`: the type is in front of the operator, the name before the colon.
        if let Some(found) = &key
            && operator == b"="
            && values::is_type_name(found.text)
            && !self
                .key_before(found.start)
                .is_some_and(|word| keys::is_phrase(self.slice(word.start, found.start + found.text.len())))
        {
            let mut end = found.start;
            while matches!(self.before(end), b' ' | b':' | b'&' | b'*') {
                end -= 1;
            }
            key = self.key_before(end);
        }
        let Some(key) = key else { return end };
        let in_query = matches!(self.before(key.start), b'?' | b'&' | b'#' | b';');
        let context = if operator.contains(&b'=') { Context::Assignment } else { Context::Colon };
        match self.judge(&key, in_query) {
            Some(Name::Weak) | None if self.name_value(&key, end).is_some() => self.done,
            // `password !== confirmPassword` compares names, `!= "…"` gives the secret away.
            Some(_) if is_comparison && !is_quote(self.at(self.skip_blanks(end))) => end,
            Some(_) if operator == b":" && self.is_in_arn(key.start) => end,
            Some(name) => {
                // `["password"]=>` ends a line where PHP dumps an array, `"password":` where JSON is
                // spread out, `password:` where YAML is.
                let goes_on = is_alone
                    || operator == b"=>"
                    || operator == b":" && (key.quoted || self.is_indented(end));
                let from = if goes_on { self.skip_space(end) } else { end };
                self.take(&key, name, context, from)
            }
            None => end,
        }
    }

    /// Whether the line ends at `index` and the next one is indented and neither a list nor a pair of its
    /// own.
    fn is_indented(&self, index: usize) -> bool {
        let blanks = self.skip_blanks(index);
        let mut next = blanks;
        while self.line_end(next) > 0 {
            next += self.line_end(next);
        }
        let word = self.skip_blanks(next);
        let rest = self.bytes.get(word..).unwrap_or_default();
        let name = rest.iter().take_while(|byte| is_name_byte(**byte)).count();
        let is_pair = matches!(rest.get(name..), Some([b':', b' ' | b'\n' | b'\r' | b'\\', ..] | [b':']));
        next > blanks && word > next && !is_pair && !matches!(rest, [b'-' | b'*' | b'#', b' ', ..])
    }

    /// Whether a line end, real or made visible, stands right before `index`.
    fn ends_line(&self, index: usize) -> bool {
        matches!(self.before(index), b'\n' | b'\r')
            || matches!(self.bytes.get(..index), Some([.., b'\\', b'u', b'{', b'a' | b'd', b'}']))
    }

    /// Whether the name that starts at `start` is a part of an Amazon resource name.
    fn is_in_arn(&self, start: usize) -> bool {
        const LONGEST: usize = 160;
        let window = self.bytes.get(start.saturating_sub(LONGEST)..start).unwrap_or_default();
        let is_part = |byte: &&u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-' | b'_' | b'/' | b'.' | b'*')
        };
        let length = window.iter().rev().take_while(is_part).count();
        window.get(window.len() - length..).is_some_and(|word| word.starts_with(b"arn:"))
    }

    /// Judges the value behind `from` of a name that announces a secret, and marks it.
    fn take(&mut self, key: &Key<'a>, name: Name, context: Context, from: usize) -> usize {
        let (class, rule) = match name {
            Name::Authorization => return self.header(key, "auth_header", "authorization-header", from),
            Name::Cookies => return self.header(key, "cookie", "cookie-header", from),
            Name::Session if context == Context::Colon && !key.quoted => return from,
            Name::Session => ("cookie", "session"),
            Name::Query => ("url", "query"),
            Name::Secret | Name::Weak | Name::Pass => ("key_value", "key-value"),
        };
        let Some(value) = self.value(from) else { return from };
        let text = self.slice(value.start, value.end);
        let secret = match name {
            Name::Weak => values::looks_random(text),
            Name::Pass => values::is_mixed(text) && !text.contains([' ', '(', '/']),
            _ => values::is_secret(text, key.text, context, value.quoted),
        };
        if !secret || self.placeholder.is_whole(text) {
            return from;
        }
        self.marks.push(value.start, value.end, class, rule);
        value.next.max(from)
    }

    /// `{"name": "X-Api-Key", "value": …}`, `key="ApiKey" value="…"`.
    fn name_value(&mut self, key: &Key<'a>, from: usize) -> Option<()> {
        const NAMES: [&str; 8] = ["name", "key", "header", "field", "variable", "param", "parameter", "k"];
        const VALUES: [&str; 5] = ["value", "val", "v", "content", "values"];
        if !NAMES.iter().any(|name| name.eq_ignore_ascii_case(key.text)) {
            return None;
        }
        // Without quotes in YAML only: `- name: API_TOKEN` and `value: …` on the next line.
        let named = self.value(from).filter(|value| value.quoted || self.line_end(value.next) > 0)?;
        if !self.rules.judge(self.slice(named.start, named.end), false).is_some_and(|name| name != Name::Weak)
        {
            return None;
        }
        let mut at = named.next;
        while at < named.next + 32
            && (matches!(
                self.at(at),
                b' ' | b',' | b';' | b'"' | b'\'' | b'\\' | b'\t' | b'\n' | b'\r' | b'}' | b'{'
            ) && self.line_end(at) == 0
                || self.line_end(at) > 0)
        {
            at += self.line_end(at).max(1);
        }
        let start = at;
        while self.at(at).is_ascii_alphabetic() && at < start + 8 {
            at += 1;
        }
        let word = self.slice(start, at);
        if !VALUES.iter().any(|value| value.eq_ignore_ascii_case(word)) {
            return None;
        }
        while matches!(self.at(at), b'"' | b'\'' | b'\\' | b' ') {
            at += 1;
        }
        if !matches!(self.at(at), b':' | b'=') {
            return None;
        }
        let value = self.value(at + 1)?;
        if !self.placeholder.is_whole(self.slice(value.start, value.end)) {
            self.marks.push(value.start, value.end, "key_value", "name-value");
        }
        self.done = value.next;
        Some(())
    }

    /// `["password", "…"]`, `getenv("api_token", "…")`, `token,…` in a table.
    fn comma(&mut self, at: usize) -> usize {
        let from = at + 1;
        let Some(key) = self.key_before(at) else { return from };
        if self.rules.judge(key.text, false) != Some(Name::Secret) {
            return from;
        }
        let is_flag = key.quoted && key.text.starts_with('-');
        let Some(value) = self.value(if is_flag { self.skip_space(from) } else { from }) else { return from };
        let text = self.slice(value.start, value.end);
        // `["--api-key", "…", "--port", "80"]`: a command line written as a list.
        let is_pair = if is_flag {
            value.quoted && !text.starts_with('-') && !values::is_reference(text)
        } else if key.quoted {
            let mut behind = self.skip_blanks(value.next);
            while self.at(behind) == b'\\' && self.line_end(behind) == 0 && behind < value.next + 4 {
                behind += 1;
            }
            let closes = matches!(self.at(behind), b')' | b']');
            let is_word = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            value.quoted && closes && !is_word
        } else {
            from == value.start && !value.quoted && values::is_mixed(text)
        };
        if !is_pair || self.placeholder.is_whole(text) {
            return from;
        }
        self.marks.push(value.start, value.end, "key_value", "listed-pair");
        value.next
    }

    /// Matches the rest of a header line, up to the quote that encloses it or the end of the line.
    fn header(&mut self, key: &Key<'a>, class: &'static str, rule: &'static str, from: usize) -> usize {
        let start = self.skip_blanks(from);
        let enclosing = self.before(key.start);
        let (start, end) = if is_quote(self.at(start)) || self.at(start) == b'\\' && self.line_end(start) == 0
        {
            match self.value(start) {
                Some(value) => (value.start, value.end),
                None => return from,
            }
        } else {
            let closing = is_quote(enclosing) && !key.quoted;
            let mut end = start;
            let escaped_end =
                |at: usize| self.at(at) == b'\\' && matches!(self.at(at + 1), b'n' | b'r' | b'"');
            while !(self.is_break(end) || closing && self.at(end) == enclosing || escaped_end(end)) {
                end += 1;
            }
            (start, end)
        };
        let text = self.slice(start, end).trim_end();
        self.budget = self.budget.saturating_sub(end - start);
        if text.is_empty() || self.placeholder.is_whole(text) || values::is_prose_header(text) {
            return from;
        }
        self.marks.push(start, start + text.len(), class, rule);
        end.max(from)
    }
}
