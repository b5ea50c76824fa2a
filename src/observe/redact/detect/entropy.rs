//! Texts that look random, for strict mode.
//!
//! Source: the limits of detect-secrets' `HexHighEntropyString` (3.0 bits) and of gitleaks' generic rule (3.5 bits).

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::looks;
use crate::observe::redact::detect::matches::Matches;

/// Matches runs that look random, except UUIDs and the digests and ids that the text before them announces.
pub(crate) fn find(text: &str, matches: &mut Matches) {
    const NAMES: [&str; 10] =
        ["sha1", "sha256", "sha512", "md5", "etag", "integrity", "commit", "trace", "span", "parent"];
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '_' | '-');
    let mut at = 0;
    for run in text.split_inclusive(|c: char| !is_part(c)) {
        let start = at;
        at += run.len();
        let word = run.trim_end_matches(|c: char| !is_part(c));
        let before = text.get(..start).unwrap_or_default();
        let tail = before.get(before.floor_char_boundary(start.saturating_sub(16))..).unwrap_or_default();
        let is_announced = NAMES.iter().any(|name| tail.to_ascii_lowercase().contains(name));
        let is_uuid = word.len() == 36 && looks::is_digest(word) && word.matches('-').count() == 4;
        let is_hex = word.len() >= 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        // A text of 20 characters has at most 4.3 bits, so detect-secrets' limit would miss it.
        let is_random = is_hex && looks::entropy(word) > 3.0 || !is_hex && looks::looks_random(word);
        if is_random && !is_announced && !is_uuid {
            matches.push(start, start + word.len(), KnownClass::Entropy, "entropy");
        }
    }
}
