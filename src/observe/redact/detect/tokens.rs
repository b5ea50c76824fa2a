//! Finds vendor tokens and JSON web tokens: one scan for the starts of all of them, then a look at the
//! text around each hit.
//!
//! The list of starts is compiled for the first text that may contain a token, and the expression of a
//! rule when its start is seen for the first time.

use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::bytes::{Regex, RegexBuilder};

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::matches::Matches;
use crate::observe::redact::detect::rules::{RULES, TokenBorder, TokenRule};

/// Bytes of the shortest token that a rule takes.
const SHORTEST: usize = 14;

struct TokenStarts {
    automaton: AhoCorasick,
    /// Index into [`RULES`] of every start; its length for a JSON web token.
    rules: Vec<usize>,
    /// The expressions of the rules, compiled at their first use.
    rests: Vec<OnceLock<Option<Regex>>>,
}

/// Starts of the base64url of `{"`, `{\n  "` and `{ "`.
const JWT_STARTS: [&str; 4] = ["eyJ", "ewog", "ewoi", "eyAi"];

fn starts() -> Option<&'static TokenStarts> {
    static STARTS: OnceLock<Option<TokenStarts>> = OnceLock::new();
    STARTS
        .get_or_init(|| {
            let mut texts = Vec::new();
            let mut rules = Vec::new();
            for (index, rule) in RULES.iter().enumerate() {
                for start in rule.starts {
                    texts.push(*start);
                    rules.push(index);
                }
            }
            texts.extend(JWT_STARTS);
            rules.extend([RULES.len(); JWT_STARTS.len()]);
            let automaton =
                AhoCorasick::builder().kind(Some(AhoCorasickKind::ContiguousNFA)).build(texts).ok()?;
            let rests = RULES.iter().map(|_| OnceLock::new()).collect();
            Some(TokenStarts { automaton, rules, rests })
        })
        .as_ref()
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
    find_discord(bytes, matches);
    let Some(starts) = starts() else {
        // Without the list of starts the text cannot be checked.
        matches.push(0, text.len(), KnownClass::Unchecked, "unchecked");
        return;
    };
    let mut jwt_failed_until = 0;
    // The end of the last token. A start within a token does not count.
    let mut done = 0;
    for hit in starts.automaton.find_overlapping_iter(bytes) {
        if hit.start() < done {
            continue;
        }
        let Some(&index) = starts.rules.get(hit.pattern().as_usize()) else { continue };
        let token = match RULES.get(index) {
            Some(rule) => {
                let rest =
                    starts.rests.get(index).and_then(|rest| rest.get_or_init(|| compile(rule.rest)).as_ref());
                match rest {
                    Some(rest) => {
                        token_at(bytes, rule, rest, hit.start(), hit.end()).map(|span| (span, rule))
                    }
                    None => Some(((hit.start(), bytes.len()), rule)),
                }
            }
            None => {
                let found = jwt_at(bytes, hit.start(), &mut jwt_failed_until);
                if let Some(end) = found {
                    matches.push(hit.start(), end, KnownClass::Jwt, "jwt");
                    done = end;
                }
                None
            }
        };
        if let Some(((start, end), rule)) = token {
            matches.push(start, end, rule.class, rule.name);
            done = end;
            if rule.class == KnownClass::Aws
                && let Some((start, end)) = aws_secret_after(bytes, end)
            {
                matches.push(start, end, KnownClass::Aws, "aws-secret-key");
                done = end;
            }
        }
    }
    matches.settle();
}

/// Returns the span of the token of `rule` whose start is at `start..end`.
fn token_at(
    bytes: &[u8],
    rule: &TokenRule,
    rest: &Regex,
    start: usize,
    end: usize,
) -> Option<(usize, usize)> {
    let before = bytes.get(..start)?;
    let last = before.last().copied().unwrap_or(b' ');
    let begin = match rule.border {
        TokenBorder::None => start,
        TokenBorder::NotAlphanumeric | TokenBorder::NotAlphanumericMixed if !last.is_ascii_alphanumeric() => {
            start
        }
        TokenBorder::NotAlphanumericOrDash if !last.is_ascii_alphanumeric() && last != b'-' => start,
        TokenBorder::Lead { set, least, most } => {
            let lead = before.iter().rev().take(most).take_while(|&&byte| set(byte)).count();
            if lead < least {
                return None;
            }
            start - lead
        }
        _ => return None,
    };
    let found = rest.find(bytes.get(end..)?)?;
    // The last group of such a rule only looks ahead. It is not part of the token.
    let looked_ahead = rule.rest.ends_with("|$)")
        && found.as_bytes().last().is_some_and(|byte| !byte.is_ascii_alphanumeric());
    let stop = end + found.end() - usize::from(looked_ahead);
    if matches!(rule.border, TokenBorder::NotAlphanumericMixed) {
        let token = bytes.get(end..stop)?;
        let has = |test: fn(&u8) -> bool| token.iter().any(test);
        if !(has(u8::is_ascii_digit) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase)) {
            return None;
        }
    }
    Some((begin, stop))
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

/// Matches Discord bot tokens, which have no distinctive start: 23 to 28 characters of which the first is
/// `M`, `N` or `O`, a dot, six characters, a dot, at least 27 characters (detect-secrets: discord).
fn find_discord(bytes: &[u8], matches: &mut Matches) {
    for dot in memchr::memchr_iter(b'.', bytes) {
        if bytes.get(dot + 7) != Some(&b'.') {
            continue;
        }
        let middle =
            bytes.get(dot + 1..dot + 7).is_some_and(|middle| middle.iter().all(|&b| is_base64url(b)));
        let id = bytes.get(..dot).map_or(0, |before| {
            before.iter().rev().take(29).take_while(|b| b.is_ascii_alphanumeric()).count()
        });
        let tail = bytes
            .get(dot + 8..)
            .map_or(0, |rest| rest.iter().take(128).take_while(|&&b| is_base64url(b)).count());
        let first = bytes.get(dot.wrapping_sub(id)).copied().unwrap_or(0);
        if middle && (23..=28).contains(&id) && tail >= 27 && matches!(first, b'M' | b'N' | b'O') {
            matches.push(dot - id, dot + 8 + tail, KnownClass::Mail, "discord-bot-token");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_finds_its_own_sample() {
        for rule in RULES {
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
        for rule in RULES {
            assert!(compile(rule.rest).is_some(), "{}", rule.name);
        }
    }
}
