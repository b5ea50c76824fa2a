//! Secrets that their own form gives away, without the name of a vendor: a prefix that says what it is, the base64 of a
//! private key without armour, keys and recovery phrases of wallets.
//!
//! Sources: RFC 5208, 5915, 8017 (private keys in DER), BIP 32 and 39, the documentation of the wallets.

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::matches::Matches;
use crate::observe::redact::detect::{looks, runs};
use crate::observe::redact::unwrap::decode_base64;

/// Words in a prefix that say that the rest is a secret.
#[rustfmt::skip]
const SAYING: &[&str] = &[
    "secret", "pat", "key", "apikey", "token", "tok", "live", "prod", "sk", "api", "auth", "priv", "private",
    "access", "oauth", "pk", "rk", "sak", "uat", "mcp", "svc", "service", "admin", "personal", "user", "dev", "test",
];

/// Prefixes of ids, which people look for in a log.
#[rustfmt::skip]
const IDS: &[&str] = &[
    "cus", "msg", "call", "req", "resp", "run", "step", "thread", "asst", "file", "batch", "chatcmpl", "cmpl",
    "toolu", "srvtoolu", "evt", "event", "pi", "ch", "in", "sub", "price", "acct", "si", "seti", "txn", "po", "pm",
    "card", "src", "sess", "session", "conv", "task", "job", "trace", "span", "obj", "org", "proj", "project",
    "team", "usr", "doc", "img", "image", "vs", "ft", "rs", "fc", "ws", "item", "order", "inv", "ii", "prod",
    "sha", "sha1", "sha256", "sha384", "sha512", "md5", "id", "ref", "node", "pod", "build", "rev", "v1", "v2",
    "gen", "request", "commit", "page", "block", "snap", "vol", "subnet", "vpc", "ami", "i", "sg", "eni", "rtb",
    "igw", "acl", "fs", "lt", "arn", "urn", "uuid", "cursor", "etag", "digest", "hash", "tool", "resource",
];

/// Words near a token without a saying prefix that show that it is one.
const CONTEXT: &[&str] = &[
    "key",
    "token",
    "secret",
    "credential",
    "auth",
    "401",
    "403",
    "login",
    "client",
    "password",
    "rejected",
    "invalid",
    "denied",
    "://",
];

/// Bytes of the shortest such secret.
pub(crate) const SHORTEST: usize = 24;

/// Matches every secret of such a form.
pub(crate) fn find(text: &str, matches: &mut Matches) {
    for (start, end) in runs::long(text.as_bytes(), SHORTEST, is_base64) {
        find_in(text, start, end, matches);
    }
    find_phrases(text, matches);
    matches.settle();
}

/// Returns true for a byte of base64 or base64url without padding.
pub(crate) fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'/')
}

/// Looks at one run of letters, digits, `+`, `/`, `_` and `-`.
fn find_in(text: &str, start: usize, end: usize, matches: &mut Matches) {
    let run = text.get(start..end).unwrap_or_default();
    if is_private_key(run) {
        let padding = text.get(end..).map_or(0, |rest| rest.len() - rest.trim_start_matches('=').len());
        matches.push(start, end + padding, KnownClass::PrivateKey, "private-key-der");
        return;
    }
    // `/` is part of base64, and parts the segments of a path.
    let mut at = start;
    for word in run.split(['/', '+']) {
        if word.len() >= SHORTEST {
            if is_protected(word) {
                matches.push(at, at + word.len(), KnownClass::KeyValue, "protected-data");
            } else if is_wallet_key(word) {
                matches.push(at, at + word.len(), KnownClass::PrivateKey, "wallet-key");
            } else if is_prefixed(word, || has_context(text, at, at + word.len())) {
                matches.push(at, at + word.len(), KnownClass::KeyValue, "prefixed-token");
            }
        }
        at += word.len() + 1;
    }
}

/// Returns true if a word is a prefix that says what it is (`acme_pat_…`, `fooToken-…`), or an unknown one in a
/// context of secrets, and a long random part.
fn is_prefixed(word: &str, has_context: impl Fn() -> bool) -> bool {
    let mut from = 0;
    let mut says = false;
    let mut first = "";
    for part in word.split(['_', '-']) {
        let lower = part.to_ascii_lowercase();
        let is_word = part.len() <= 12 && looks::is_wordy(part) && !part.is_empty();
        if !is_word {
            break;
        }
        if from == 0 {
            first = part;
        }
        says |= SAYING.contains(&lower.as_str())
            || ["key", "token", "secret"].iter().any(|end| lower.ends_with(end));
        from += part.len() + 1;
    }
    // The keys that Stripe, Supabase and Clerk publish in web pages.
    if ["pk_live_", "pk_test_", "sb_publishable_", "pk-lf-"].iter().any(|start| word.starts_with(start)) {
        return false;
    }
    let is_prefix = first.len() >= 2 && first.starts_with(|c: char| c.is_ascii_alphabetic());
    let Some(rest) = word.get(from..).filter(|_| is_prefix) else { return false };
    let is_uuid = rest.len() == 36 && rest.matches('-').count() == 4 && looks::is_digest(rest);
    if is_uuid {
        return says && !IDS.contains(&first);
    }
    // `user_01HF7YAT31JZHSMW1CG6Q6MHB7`
    let is_ulid = rest.len() == 26
        && rest.starts_with('0')
        && rest.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    const NOUNS: [&str; 5] = ["user", "service", "svc", "admin", "personal"];
    if is_ulid && from == first.len() + 1 && NOUNS.contains(&first) {
        return false;
    }
    let longest = rest.split(['_', '-']).map(str::len).max().unwrap_or(0);
    let has = |test: fn(&u8) -> bool| rest.bytes().any(|byte| test(&byte));
    let is_mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit);
    let is_random = looks::is_mixed(rest) && !looks::is_wordy(rest) && looks::entropy(rest) >= 3.0;
    if !is_random || longest < 10 || IDS.contains(&first.to_ascii_lowercase().as_str()) && !says {
        return false;
    }
    match says {
        true => rest.len() >= 20 || is_mixed && rest.len() >= 16,
        false => {
            !looks::is_words_and_digests(word)
                && is_short_word(first)
                && (rest.len() >= 36 && is_mixed
                    || rest.len() >= if is_mixed { 20 } else { 24 } && has_context())
        }
    }
}

fn is_short_word(word: &str) -> bool {
    word.len() <= 6 && !word.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// Returns true if the text around a word speaks of keys and access.
fn has_context(text: &str, start: usize, end: usize) -> bool {
    const NEAR: usize = 48;
    let from = text.floor_char_boundary(start.saturating_sub(NEAR));
    let until = text.ceil_char_boundary((end + NEAR).min(text.len()));
    [text.get(from..start), text.get(end..until)].into_iter().flatten().any(|near| {
        let near = near.to_ascii_lowercase();
        CONTEXT.iter().any(|word| near.contains(word))
    })
}

/// Returns true for base64 of a private key: a sequence that starts with a version (PKCS #1, #8, SEC 1) or with the
/// name of an encryption (PKCS #8), or the format of OpenSSH. Certificates and public keys start with a sequence.
fn is_private_key(run: &str) -> bool {
    const OPENSSH: &str = "b3BlbnNzaC1rZXktdjE";
    const PASSWORD_BASED: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05";
    if run.starts_with(OPENSSH) {
        return true;
    }
    let Some(head) = run.get(..40).filter(|head| head.starts_with('M')) else { return false };
    let Some(bytes) = decode_base64(head.as_bytes()) else { return false };
    let Some(body) = sequence(&bytes) else { return false };
    let is_encrypted = sequence(body).is_some_and(|inner| inner.starts_with(PASSWORD_BASED));
    is_encrypted || matches!(body, [2, 1, 0..=3, 2 | 4 | 0x30, ..])
}

/// Returns what a DER sequence at the start of `bytes` contains.
fn sequence(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        [0x30, 0x82, _, _, body @ ..] | [0x30, 0x81, _, body @ ..] => Some(body),
        [0x30, 0..=0x7f, body @ ..] => Some(body),
        _ => None,
    }
}

/// Returns true for data that ASP.NET protected, as in its cookies. Jenkins' begin with the length of their IV.
fn is_protected(word: &str) -> bool {
    word.len() >= 40 && ["CfDJ8", "AQAAABAAAA"].iter().any(|start| word.starts_with(start))
}

/// Returns true for a private key in the notation of a wallet: WIF, BIP 32, Stellar, XRP, Tezos, Nostr.
fn is_wallet_key(word: &str) -> bool {
    let is_base58 = || {
        word.bytes().all(|byte| byte.is_ascii_alphanumeric() && !matches!(byte, b'0' | b'O' | b'I' | b'l'))
    };
    let starts = |starts: &[&str]| starts.iter().any(|start| word.starts_with(start));
    match word.len() {
        51 | 52 if starts(&["5", "K", "L", "9", "c"]) => is_base58() && looks::is_mixed(word),
        105.. if starts(&["xprv", "yprv", "zprv", "tprv", "uprv", "vprv"]) => is_base58(),
        56 if starts(&["S"]) => word.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7')),
        31 if starts(&["sEd"]) => is_base58(),
        54 | 98 if starts(&["edsk", "spsk", "p2sk"]) => is_base58(),
        63 if starts(&["nsec1"]) => {
            word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        }
        _ => false,
    }
}

/// Words that no recovery phrase contains and few sentences lack.
#[rustfmt::skip]
const SENTENCE: &[&str] = &[
    "the", "and", "for", "are", "was", "not", "has", "its", "but", "had", "were", "been", "from", "with", "which",
    "would", "could", "should", "than", "them", "their", "these", "those", "who", "how", "why", "our", "his", "her",
    "may", "might", "per", "however", "many", "hence", "while", "each", "most", "some", "via", "using", "uses", "see", "let", "after", "cannot", "does", "did", "being", "new", "get", "set", "des", "les", "une", "est", "pas", "sur",
    "der", "die", "das", "und", "ist", "nicht", "den", "dem", "ein", "eine", "los", "las", "una", "que", "por", "con",
];

/// Matches recovery phrases (BIP 39): 12 or 24 lower-case words of three to eight letters, or at least twelve after a
/// word that announces them.
fn find_phrases(text: &str, matches: &mut Matches) {
    /// Bytes of twelve words of three letters, and the blanks between them.
    const SHORTEST_RUN: usize = 47;
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte == b' ';
    for (start, end) in runs::long(text.as_bytes(), SHORTEST_RUN, is_part) {
        find_phrases_in(text, start, end, matches);
    }
}

/// Looks at one run of lower-case letters and blanks.
fn find_phrases_in(text: &str, from: usize, to: usize, matches: &mut Matches) {
    const SHORTEST: usize = 12;
    let bytes = text.as_bytes();
    let (mut first, mut count, mut start) = (0, 0, from);
    for end in from..=to {
        let byte = bytes.get(end).copied().unwrap_or(0);
        if byte.is_ascii_lowercase() {
            continue;
        }
        let is_word = (3..=8).contains(&(end - start));
        if is_word {
            first = if count == 0 { start } else { first };
            count += 1;
        }
        if !(is_word && byte == b' ') {
            if count >= SHORTEST {
                find_phrase(text, first, if is_word { end } else { start.max(first) }, matches);
            }
            count = 0;
        }
        start = end + 1;
    }
}

/// Returns the start of the words before `end` that may be the start of a recovery phrase, or `end`.
pub(in crate::observe::redact) fn before_phrase(window: &[u8], end: usize) -> usize {
    const FEWEST: usize = 5;
    const MOST: usize = 24;
    let mut start = end;
    for count in 0..MOST {
        let before = window.get(..start).unwrap_or_default();
        let length = before.iter().rev().take(9).take_while(|byte| byte.is_ascii_lowercase()).count();
        let word =
            before.get(start - length..).and_then(|word| std::str::from_utf8(word).ok()).unwrap_or_default();
        if !(3..=8).contains(&length) || SENTENCE.contains(&word) {
            return if count >= FEWEST { start } else { end };
        }
        start = (start - length).saturating_sub(1);
    }
    start
}

/// Looks for a recovery phrase in a run of short words.
fn find_phrase(text: &str, start: usize, end: usize, matches: &mut Matches) {
    const ANNOUNCING: &[&str] = &["phrase", "mnemonic", "seed", "words", "wallet", "recovery"];
    let run = text.get(start..end).unwrap_or_default().trim_end();
    for part in split_sentences(run) {
        let words: Vec<&str> = part.split(' ').filter(|word| !word.is_empty()).collect();
        let announced =
            words.iter().take(4).rposition(|word| ANNOUNCING.contains(word)).map_or(0, |last| last + 1);
        let count = words.len() - announced;
        // `recovery phrase: …`
        let before = text.get(text.ceil_char_boundary(start.saturating_sub(24))..start).unwrap_or_default();
        let label = before.trim_end_matches([' ', ':', '=', '"', '\'', '`']);
        let is_labelled = part.as_ptr() == run.as_ptr()
            && ANNOUNCING.iter().any(|word| label.to_ascii_lowercase().ends_with(word));
        let at = |index: usize| text.as_bytes().get(index).copied().unwrap_or(0);
        let is_quoted = part.len() == run.len()
            && matches!(at(start.wrapping_sub(1)), b'"' | b'\'' | b'`')
            && at(start.wrapping_sub(1)) == at(start + run.len());
        let fits = matches!(count, 12 | 24)
            || is_quoted && matches!(count, 15 | 18 | 21)
            || (announced > 0 || is_labelled) && (12..=26).contains(&count);
        if let (true, Some(first)) = (fits, words.get(announced)) {
            let at = start + (first.as_ptr() as usize - run.as_ptr() as usize);
            let last = start + (part.as_ptr() as usize - run.as_ptr() as usize) + part.trim_end().len();
            matches.push(at, last, KnownClass::PrivateKey, "recovery-phrase");
        }
    }
}

/// Splits a run of words at those that no recovery phrase contains.
fn split_sentences(run: &str) -> Vec<&str> {
    let (mut parts, mut from, mut at) = (Vec::new(), 0, 0);
    for word in run.split_inclusive(' ') {
        if SENTENCE.contains(&word.trim_end()) {
            parts.push(run.get(from..at).unwrap_or_default());
            from = at + word.len();
        }
        at += word.len();
    }
    parts.push(run.get(from..).unwrap_or_default());
    parts
}
