//! Finds vendor tokens and JSON web tokens: one scan for the starts of all of them, then a look at the
//! text around each hit.
//!
//! The list of starts is built for the first text that may contain a token, and the expression of a rule is
//! compiled when its start is seen for the first time.

use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder};

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::matches::Matches;
use crate::observe::redact::detect::rules::{self, TokenBorder, TokenRule};
use crate::observe::redact::detect::trigrams::Trigrams;

/// Bytes of the shortest token that a rule takes.
const SHORTEST: usize = 14;

/// Bytes that follow every start without a lead, at least.
const SHORTEST_REST: usize = 10;

/// The starts of all rules. Building it costs less than a fifth of an Aho-Corasick automaton, which matters
/// because every session redacts its first text at its start.
struct TokenStarts {
    begins: Trigrams,
    /// The last start of every group by first and second byte, as a position in `starts` counted from one.
    last_of_group: [u16; 256],
    starts: Vec<TokenStart>,
    /// The rules with their expressions, compiled at their first use.
    rules: Vec<(&'static TokenRule, OnceLock<Option<Regex>>)>,
}

struct TokenStart {
    text: &'static str,
    /// Index into `rules`; its length for a JSON web token.
    rule: usize,
    /// The start before this one in its group, counted from one.
    before: u16,
}

impl TokenStarts {
    fn new() -> TokenStarts {
        let mut starts = TokenStarts {
            begins: Trigrams::new(),
            last_of_group: [0; 256],
            starts: Vec::with_capacity(640),
            rules: rules::all().map(|rule| (rule, OnceLock::new())).collect(),
        };
        for (index, rule) in rules::all().enumerate() {
            rule.starts.iter().for_each(|start| starts.push(start, index));
        }
        JWT_STARTS.iter().for_each(|start| starts.push(start, starts.rules.len()));
        starts
    }

    fn push(&mut self, text: &'static str, rule: usize) {
        let bytes = text.as_bytes();
        let (first, second) = (bytes.first().copied().unwrap_or(0), bytes.get(1).copied().unwrap_or(0));
        self.begins.add(bytes);
        if let Some(last) = self.last_of_group.get_mut(TokenStarts::group(first, second)) {
            self.starts.push(TokenStart { text, rule, before: *last });
            *last = self.starts.len() as u16;
        }
    }

    fn group(first: u8, second: u8) -> usize {
        usize::from(first.wrapping_mul(37) ^ second)
    }

    /// Returns the starts that `bytes` begins with.
    fn of<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = &'a TokenStart> {
        let group = match bytes {
            [first, second, ..] => TokenStarts::group(*first, *second),
            _ => 0,
        };
        let get = |from_one: u16| usize::from(from_one).checked_sub(1).and_then(|at| self.starts.get(at));
        std::iter::successors(self.last_of_group.get(group).and_then(|last| get(*last)), move |start| {
            get(start.before)
        })
        .filter(|start| bytes.starts_with(start.text.as_bytes()))
    }
}

/// Starts of the base64url of `{"`, `{\n  "` and `{ "`.
const JWT_STARTS: [&str; 4] = ["eyJ", "ewog", "ewoi", "eyAi"];

fn starts() -> &'static TokenStarts {
    static STARTS: OnceLock<TokenStarts> = OnceLock::new();
    STARTS.get_or_init(TokenStarts::new)
}

/// Compiles the rest of a rule: with ASCII classes, anchored where the start ends.
fn compile(rest: &str) -> Option<Regex> {
    RegexBuilder::new(&format!("^(?:{rest})")).unicode(false).build().ok()
}

/// Matches every token in `text`.
pub(crate) fn find(text: &str, matches: &mut Matches) {
    let bytes = text.as_bytes();
    if bytes.len() < SHORTEST {
        return;
    }
    find_discord_and_zhipu(bytes, matches);
    find_fal(bytes, matches);
    let starts = starts();
    let mut jwt_failed_until = 0;
    let mut rejected = RejectedRuns::default();
    // The end of the last token. A start within a token does not count.
    let mut done = 0;
    for at in starts.begins.positions(bytes) {
        if at < done {
            continue;
        }
        let found = starts.of(bytes.get(at..).unwrap_or_default()).filter_map(|start| {
            let end = at + start.text.len();
            let token = match starts.rules.get(start.rule) {
                Some((rule, rest)) => {
                    if rejected.contains(start.rule, end) {
                        return None;
                    }
                    let (begin, end) = match token_at(bytes, rule, rest, at, end) {
                        Ok(span) => span?,
                        Err(until) => {
                            rejected.add(start.rule, end, until);
                            return None;
                        }
                    };
                    FoundToken { begin, end, class: rule.class, rule: rule.name }
                }
                None => {
                    let end = jwt_at(bytes, at, &mut jwt_failed_until)?;
                    FoundToken { begin: at, end, class: KnownClass::Jwt, rule: "jwt" }
                }
            };
            Some((token, start.text.len()))
        });
        let Some((token, _)) = found.max_by_key(|(token, length)| (token.end, *length)) else { continue };
        matches.push(token.begin, token.end, token.class, token.rule);
        done = token.end;
        if token.class == KnownClass::Aws
            && let Some((start, end)) = aws_secret_after(bytes, token.end)
        {
            matches.push(start, end, KnownClass::Aws, "aws-secret-key");
            done = end;
        }
    }
    matches.settle();
}

/// The long runs that were not a token, by rule: the end of the part in which no other start of the rule is looked at.
/// Without it, a run of many starts would take quadratic time.
#[derive(Default)]
struct RejectedRuns(Vec<(usize, usize)>);

impl RejectedRuns {
    const SHORTEST: usize = 256;

    fn contains(&self, rule: usize, at: usize) -> bool {
        self.0.iter().any(|(known, until)| *known == rule && at < *until)
    }

    fn add(&mut self, rule: usize, at: usize, until: usize) {
        if until >= at + RejectedRuns::SHORTEST {
            self.0.retain(|(known, _)| *known != rule);
            self.0.push((rule, until));
        }
    }
}

struct FoundToken {
    begin: usize,
    end: usize,
    class: KnownClass,
    rule: &'static str,
}

/// Returns the span of the token of `rule` whose start is at `start..end`. A rule whose expression does not
/// compile takes the rest of the text.
///
/// # Errors
/// If the text after the start is not random. The end of the part whose other starts are not a token either.
fn token_at(
    bytes: &[u8],
    rule: &TokenRule,
    rest: &OnceLock<Option<Regex>>,
    start: usize,
    end: usize,
) -> Result<Option<(usize, usize)>, usize> {
    let before = bytes.get(..start).unwrap_or_default();
    let last = before.last().copied().unwrap_or(b' ');
    let begin = match rule.border {
        TokenBorder::None => start,
        TokenBorder::NotAlphanumeric | TokenBorder::NotAlphanumericMixed if !last.is_ascii_alphanumeric() => {
            start
        }
        TokenBorder::NotAlphanumericOrDash | TokenBorder::NotAlphanumericOrDashMixed
            if !last.is_ascii_alphanumeric() && last != b'-' =>
        {
            start
        }
        TokenBorder::Lead { set, least, most } => {
            let lead = before.iter().rev().take(most).take_while(|&&byte| set(byte)).count();
            if lead < least {
                return Ok(None);
            }
            start - lead
        }
        _ => return Ok(None),
    };
    // Most hits of a short start are parts of other words, and a rest is expensive to compile.
    let next = bytes.get(end..end + SHORTEST_REST).unwrap_or_default();
    if begin == start && (next.is_empty() || !next.iter().all(u8::is_ascii_graphic)) {
        return Ok(None);
    }
    let Some(rest) = rest.get_or_init(|| compile(rule.rest)) else { return Ok(Some((start, bytes.len()))) };
    let Some(found) = rest.find(bytes.get(end..).unwrap_or_default()) else { return Ok(None) };
    // The last group of such a rule only looks ahead. It is not part of the token.
    let looked_ahead = rule.rest.ends_with("|$)")
        && found.as_bytes().last().is_some_and(|byte| !byte.is_ascii_alphanumeric());
    let stop = end + found.end() - usize::from(looked_ahead);
    let token = bytes.get(end..stop).unwrap_or_default();
    match rule.border {
        TokenBorder::NotAlphanumericMixed | TokenBorder::NotAlphanumericOrDashMixed if !is_mixed(token) => {
            Err(stop)
        }
        TokenBorder::NotAlphanumericMixed | TokenBorder::NotAlphanumericOrDashMixed => {
            Ok(Some((begin, stop)))
        }
        // A part of such a run without `_` and `-` would be a token.
        _ if begin == start && is_words(token) => {
            Err(end + token.iter().rposition(|byte| matches!(byte, b'_' | b'-')).unwrap_or(0))
        }
        _ => Ok(Some((begin, stop))),
    }
}

/// Returns true for the rest of a name in code or of a file: lower-case words with `_` or `-` between them.
fn is_words(rest: &[u8]) -> bool {
    let is_join = |byte: &u8| matches!(byte, b'_' | b'-');
    rest.iter().all(|byte| byte.is_ascii_lowercase() || is_join(byte)) && rest.iter().any(is_join)
}

/// Returns true if a token has upper-case letters, lower-case letters and digits.
fn is_mixed(token: &[u8]) -> bool {
    let has = |test: fn(&u8) -> bool| token.iter().any(test);
    has(u8::is_ascii_digit) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase)
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Returns the end of the JSON web token that starts at `start`: two to five parts of base64url, of which
/// the first and one other have at least ten characters. `failed_until` is the end of the last run that is
/// not a token, so that no other start within that run is looked at.
fn jwt_at(bytes: &[u8], start: usize, failed_until: &mut usize) -> Option<usize> {
    let border = start.checked_sub(1).and_then(|at| bytes.get(at)).copied().unwrap_or(b' ');
    if border.is_ascii_alphanumeric() || start < *failed_until {
        return None;
    }
    let run = |from: usize| {
        bytes.get(from..).map_or(0, |rest| rest.iter().take_while(|&&b| is_base64url(b)).count())
    };
    let mut end = start + run(start);
    let header = end - start;
    let mut parts = 1;
    let mut longest = 0;
    while parts < 5 && bytes.get(end) == Some(&b'.') {
        let length = run(end + 1);
        if length == 0 && parts < 2 && bytes.get(end + 1) != Some(&b'.') {
            break;
        }
        end += 1 + length;
        parts += 1;
        longest = longest.max(length);
    }
    if parts >= 2 && header >= 10 && longest >= 10 {
        return Some(end);
    }
    *failed_until = start + header;
    None
}

/// Returns the span of the secret key right after an AWS key id: 40 or more characters of base64 after a
/// few separators.
fn aws_secret_after(bytes: &[u8], end: usize) -> Option<(usize, usize)> {
    const LENGTH: usize = 40;
    const MOST: usize = 128;
    let rest = bytes.get(end..)?;
    let gap = rest
        .iter()
        .take(8)
        .take_while(|byte| matches!(byte, b' ' | b',' | b':' | b';' | b'"' | b'\'' | b'|'))
        .count();
    let run = rest
        .iter()
        .skip(gap)
        .take(MOST)
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='))
        .count();
    (gap > 0 && run >= LENGTH).then_some((end + gap, end + gap + run))
}

/// Matches two tokens without a distinctive start. Discord's bot tokens (detect-secrets: discord) are 23 to 28
/// characters of which the first is `M`, `N` or `O`, a dot, six characters, a dot, at least 27 characters. The
/// keys of Zhipu (betterleaks: zai-api-key) are 32 hexadecimal digits, a dot, 16 letters and digits.
fn find_discord_and_zhipu(bytes: &[u8], matches: &mut Matches) {
    for dot in memchr::memchr_iter(b'.', bytes) {
        let before = bytes.get(..dot).unwrap_or_default();
        let after = bytes.get(dot + 1..).unwrap_or_default();
        let id = before.iter().rev().take(33).take_while(|b| b.is_ascii_alphanumeric()).count();
        let start = dot - id;
        if after.get(6) == Some(&b'.') && (23..=28).contains(&id) {
            let middle = after.iter().take(6).all(|&b| is_base64url(b));
            let tail = after.iter().skip(7).take(128).take_while(|&&b| is_base64url(b)).count();
            if middle && tail >= 27 && matches!(bytes.get(start), Some(b'M' | b'N' | b'O')) {
                matches.push(start, dot + 8 + tail, KnownClass::Mail, "discord-bot-token");
            }
        } else if id == 32 && before.iter().rev().take(32).all(u8::is_ascii_hexdigit) {
            let tail = after.iter().take(17).take_while(|b| b.is_ascii_alphanumeric()).count();
            if tail == 16 && is_mixed(after.get(..tail).unwrap_or_default()) {
                matches.push(start, dot + 17, KnownClass::ModelHost, "zhipu-key");
            }
        }
    }
}

/// Matches the keys of fal: a UUID, a colon, 32 hexadecimal digits (betterleaks: fal-api-key).
fn find_fal(bytes: &[u8], matches: &mut Matches) {
    const UUID: usize = 36;
    for colon in memchr::memchr_iter(b':', bytes) {
        let Some(start) = colon.checked_sub(UUID) else { continue };
        let uuid = bytes.get(start..colon).unwrap_or_default();
        let key = bytes.get(colon + 1..colon + 33).unwrap_or_default();
        let is_uuid = uuid.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
        if is_uuid && key.len() == 32 && key.iter().all(u8::is_ascii_hexdigit) {
            matches.push(start, colon + 33, KnownClass::ModelHost, "fal-key");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_finds_its_own_sample() {
        for rule in rules::all() {
            let text = format!("({})", rule.sample);
            let mut matches = Matches::default();
            find(&text, &mut matches);
            let found: Vec<_> =
                matches.iter().map(|found| (found.start, found.end, found.class.name())).collect();
            assert_eq!(found, [(1, text.len() - 1, rule.class.as_str())], "{}: {text}", rule.name);
            assert!(!rule.anchor.is_empty());
        }
    }

    #[test]
    fn every_expression_compiles() {
        for rule in rules::all() {
            assert!(compile(rule.rest).is_some(), "{}", rule.name);
        }
    }
}
