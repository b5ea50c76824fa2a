//! Values that describe something of the name of a secret: labels and sentences of a user interface, rules of
//! validators, versions, algorithms, objects of settings. None of them contains a part that looks random.

use crate::observe::redact::detect::harmless::is_complaint;
use crate::observe::redact::detect::keys;
use crate::observe::redact::detect::looks::{is_random_short, is_wordy};

/// Returns true if a value after the name of a secret is a description. Labels do not count: see [`is_label`].
pub(crate) fn is_description(value: &str) -> bool {
    is_version_range(value) || is_rules(value) || is_member(value) || is_algorithm(value)
}

/// Words with which a label in lower case starts.
#[rustfmt::skip]
const LABELLING: [&str; 18] = [
    "enter", "forgot", "reset", "show", "hide", "change", "confirm", "repeat", "invalid", "wrong", "missing", "bad", "expired",
    "no", "the", "your", "current", "incorrect",
];

/// Returns true for a label, its translation, or a sentence: `Reset password`, `Mot de passe oublié ?`, `API Key`,
/// `Your session has expired.` One of the words names a secret, so that a passphrase of words is not a label. A label of
/// one word is such a name.
pub(crate) fn is_label(value: &str) -> bool {
    let is_text = |c: char| c.is_alphabetic() || " -'’.,?!:…()*/&\u{a0}".contains(c);
    let is_plain = |word: &str| {
        let mut rest = word.chars().skip(1);
        rest.all(|c| !c.is_uppercase()) || word.chars().all(char::is_uppercase)
    };
    let words = || value.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
    let starts = |word: &str| {
        word.starts_with(|c: char| !c.is_lowercase())
            || words().count() > 1 && LABELLING.iter().any(|known| known.eq_ignore_ascii_case(word))
    };
    let is_name = |word: &str| word.len() >= 3 && keys::judge(word).is_some();
    value.len() <= 240
        && value.chars().all(is_text)
        && words().next().is_some_and(starts)
        && words().all(is_plain)
        && match words().count() {
            1 => !value.ends_with('!') && words().all(keys::is_name_alone),
            _ => {
                keys::judge(value.trim_end_matches(['.', '…', '!', '?', ' '])).is_some()
                    || words().any(is_name)
            }
        }
}

/// Where package managers look: `workspace:*`, `npm:other@1`.
const PACKAGE_SOURCES: [&str; 8] =
    ["workspace:", "npm:", "link:", "portal:", "patch:", "catalog:", "github:", "jsr:"];

/// Returns true for versions of a package and ranges of them: `^9.0.2`, `>=3.0.5 <4`, `1.4.0-SNAPSHOT`,
/// `jar:1.4.0:compile`, `v1.2.3@sha256:…`.
fn is_version_range(value: &str) -> bool {
    let is_signed = |part: &str| {
        let version = part.trim_start_matches(['^', '~', '>', '<', '=', '!']);
        let is_range = version.len() < part.len();
        version.is_empty() && is_range
            || is_range && version.len() <= 3 && version.bytes().all(|byte| byte.is_ascii_digit())
            || is_version(version)
    };
    let is_coordinate = || {
        let mut parts = value.split(':');
        let is_word = |part: &str| part.bytes().all(|byte| byte.is_ascii_lowercase()) && part.len() <= 12;
        value.contains(':')
            && parts.clone().any(is_version)
            && parts.all(|part| is_word(part) || is_version(part))
    };
    let has_source = || {
        PACKAGE_SOURCES.iter().any(|source| value.starts_with(source))
            && value.split(['/', ':', '@', '#']).all(|part| !is_random_short(part) || is_version(part))
    };
    !value.is_empty() && value.split([' ', ',', '|']).filter(|part| !part.is_empty()).all(is_signed)
        || is_coordinate()
        || value.split_once('@').is_some_and(|(tag, digest)| is_version(tag) && digest.starts_with("sha256:"))
        || has_source()
}

/// Returns true for `1.13.3`, `v2.1`, `1.4.0-SNAPSHOT`, `2.x`.
fn is_version(value: &str) -> bool {
    let (number, suffix) = value.split_once(['-', '+']).unwrap_or((value, ""));
    let has_sign = number.starts_with('v') || value.len() > number.len();
    let mut parts = number.strip_prefix('v').unwrap_or(number).split('.');
    parts.clone().count() >= if has_sign { 2 } else { 3 }
        && parts.clone().count() <= 4
        && parts.all(|part| {
            (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
                || matches!(part, "x" | "*")
        })
        && suffix.len() <= 16
        && is_wordy(suffix)
}

/// Rules of validators.
#[rustfmt::skip]
const RULES: [&str; 26] = [
    "required", "nullable", "sometimes", "string", "min", "max", "confirmed", "regex", "unique", "same", "email", "in",
    "numeric", "integer", "boolean", "alpha_num", "alpha_dash", "size", "between", "filled", "present", "bail", "uuid", "url",
    "exists", "current_password",
];

/// Returns true for the rules of a validator: `required|string|max:255`, `['required', 'min:8']`.
fn is_rules(value: &str) -> bool {
    let inner = value.trim_start_matches('[').trim_end_matches(']');
    let rules = || {
        inner
            .split(['|', ','])
            .map(|rule| rule.trim().trim_matches(['\'', '"', '\\']))
            .filter(|rule| !rule.is_empty())
    };
    rules().count() >= 2
        && rules().all(|rule| {
            let (name, argument) = rule.split_once([':', '=']).unwrap_or((rule, ""));
            RULES.contains(&name) && !is_random_short(argument)
        })
}

/// Returns true for a member of an object, whose name is that of a secret: `form.password`, `state.apiKey`.
fn is_member(value: &str) -> bool {
    value.rsplit_once('.').is_some_and(|(object, member)| {
        object.starts_with(|c: char| c.is_ascii_lowercase() || c == '_' || c == '$')
            && object.bytes().all(|byte| byte.is_ascii_alphabetic() || b"._?$".contains(&byte))
            && member.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            && keys::judge(member).is_some()
    })
}

/// Names of algorithms and encodings with digits.
#[rustfmt::skip]
const ALGORITHMS: [&str; 40] = [
    "md5", "sha1", "sha2", "sha3", "sha224", "sha256", "sha384", "sha512", "hs256", "hs384", "hs512", "rs256", "rs384", "rs512",
    "es256", "es384", "es512", "ps256", "aes128", "aes256", "argon2", "argon2i", "argon2id", "pbkdf2", "pbkdf2sha256", "base64",
    "base32", "base58", "utf8", "utf16", "ed25519", "x25519", "x509", "rsa2048", "rsa4096", "oauth2", "oauth1", "secp256k1",
    "p256", "blake2b",
];

/// Returns true if a part of a value is the name of an algorithm and the others are words or sizes: `sha256`,
/// `AES-256-GCM`, `PBKDF2-SHA256`.
pub(crate) fn is_algorithm(value: &str) -> bool {
    const FAMILIES: [&str; 8] = ["aes", "sha", "rsa", "utf", "hmac", "ecdsa", "chacha", "des"];
    let is_known =
        |part: &str| ALGORITHMS.iter().chain(&FAMILIES).any(|known| known.eq_ignore_ascii_case(part));
    value.len() <= 32
        && value.split(['-', '_', '/', ' ']).any(is_known)
        && value
            .split(['-', '_', '/', ' '])
            .all(|part| is_known(part) || is_wordy(part) && !is_mixed_word(part))
}

fn is_mixed_word(word: &str) -> bool {
    word.bytes().any(|byte| byte.is_ascii_digit()) && word.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// Names of the members of an object that describes a secret or says where it is.
#[rustfmt::skip]
const DESCRIBING: [&str; 60] = [
    "path", "name", "names", "key", "from", "ref", "version", "features", "optional", "type", "kind", "group", "required", "valuefrom",
    "secretkeyref", "configmapkeyref", "secretref", "secretname", "expirationseconds", "audience", "namespace", "apiversion",
    "errors", "_errors", "message", "messages", "error", "code", "label", "placeholder", "help", "title", "description", "format",
    "minlength", "maxlength", "min", "max", "pattern", "env", "file", "source", "in", "scheme", "default-features", "workspace",
    "provider", "property", "store", "remoteref", "mode", "external", "enabled", "digits", "period", "algorithm", "issuer", "length",
    "ttl", "interval",
];

/// Returns true for an object or a list that only describes secrets: `{ path: token, expirationSeconds: 3600 }`,
/// `[db_password, api_token]`, `["is too short"]`.
pub(crate) fn is_described_object(value: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
    let words = || value.split(|c: char| !is_part(c)).filter(|word| !word.is_empty());
    if value.len() > 400
        || words().any(|word| is_random_short(word) && !is_version(word) && !is_algorithm(word))
    {
        return false;
    }
    let names = words().filter(|word| {
        let end = word.as_ptr() as usize - value.as_ptr() as usize + word.len();
        let rest = value.get(end..).unwrap_or_default().trim_start_matches(['\\', '"', '\'', ' ']);
        rest.starts_with([':', '='])
    });
    let mut has_names = false;
    for name in names {
        has_names = true;
        if !DESCRIBING.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return false;
        }
    }
    has_names || value.starts_with('[') && (is_rules(value) || is_list_of_names(value))
}

/// Returns true for a list of names of secrets, or of complaints about one.
fn is_list_of_names(value: &str) -> bool {
    let inner = value.trim_start_matches('[').trim_end_matches(']');
    let is_name = |item: &str| {
        item.contains(['_', '-'])
            && item.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-'))
            && keys::judge(item).is_some()
    };
    let mut items = inner.split(',').map(|item| item.trim().trim_matches(['"', '\'', '\\'])).peekable();
    let is_sentence = |item: &str| {
        let words = item.split(' ').map(|word| word.trim_matches(['(', ')', '.', '\'']));
        item.contains(' ')
            && words.clone().any(|word| matches!(word, "is" | "be" | "must" | "at" | "not" | "was"))
            && words.into_iter().all(|word| is_wordy(word) && !is_mixed_word(word))
    };
    items.peek().is_some()
        && items.all(|item| is_name(item) || is_complaint(item) || is_label(item) || is_sentence(item))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_told_from_a_secret_by_its_words() {
        for value in [
            "Passwort",
            "Mot de passe oublié ?",
            "API Key",
            "Reset password",
            "Your session has expired, please log in.",
            "^9.0.2",
            ">=3.0.5 <4",
            "1.4.0-SNAPSHOT",
            "jar:1.4.0",
            "workspace:*",
            "4.0.1",
            "v1.2.3@sha256:aa",
            "required|string|max:255",
            "form.password",
            "AES-256-GCM",
            "sha256",
        ] {
            assert!(is_description(value) || is_label(value), "{value}");
        }
        for value in [
            "Mypassword",
            "Password!",
            "Correct horse battery staple!",
            "hunter2",
            "Tundra-5512",
            "correct horse battery staple",
            "1234",
            "password",
            "AdminPassword",
            "Summer2024",
            "k91ksl20dkw83jfks02l",
            "a.b",
            "10.1.2",
            "sha256k91ksl20dkw83",
            "abc|def",
        ] {
            assert_eq!(is_description(value) || is_label(value), value == "10.1.2", "{value}");
        }
        for value in [
            "{ path: token, expirationSeconds: 3600 }",
            "[db_password, api_token]",
            r#"["is too short (minimum is 8 characters)"]"#,
        ] {
            assert!(is_described_object(value), "{value}");
        }
        for value in [r#"{"db":"hunter2"}"#, r#"["hunter2","letmein"]"#, "{name: k91ksl20dkw83jfks02l}"] {
            assert!(!is_described_object(value), "{value}");
        }
    }
}
