//! Judges the value that follows the name of a secret: a secret, or prose, code, a reference, a schema.

use crate::observe::redact::detect::harmless::{
    is_complaint, is_file_name, is_harmless, is_mask, is_store_path,
};
use crate::observe::redact::detect::keys;
use crate::observe::redact::detect::labels::{is_description, is_label};
use crate::observe::redact::detect::looks::{is_mixed, is_path, is_wordy, looks_random};
use crate::observe::redact::detect::word_list::WordList;

/// The text between a name and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PairOperator {
    /// An operator that contains `=`, or markup.
    Assignment,
    /// A colon, which also occurs in prose.
    Colon,
}

/// Values that describe a secret.
#[rustfmt::skip]
static STATES: WordList = WordList::new(&[
    "null", "none", "nil", "undefined", "true", "false", "yes", "no", "on", "off", "required",
    "missing", "invalid", "expired", "revoked", "empty", "unset", "set", "unknown", "optional", "n/a",
    "default", "enabled", "disabled", "ok", "bearer", "basic", "new", "started", "ended", "closed",
    "include", "omit", "same-origin", "lax", "strict",
    // The masks of other redactors.
    "[redacted]", "<redacted>", "redacted", "[filtered]", "[hidden]", "[masked]",
]);

/// Names of types, as several languages write them next to a name.
#[rustfmt::skip]
static TYPES: WordList = WordList::new(&[
    "string", "str", "&str", "text", "bytes", "int", "integer", "number", "bool", "boolean", "object",
    "any", "char", "char*", "optional<string>", "option<string>", "optional[str]", "varchar",
    "password", "secretstr", "secretstring", "securestring",
]);

/// Starts of expressions in code.
#[rustfmt::skip]
const EXPRESSIONS: &[&str] = &[
    "this.", "self.", "process.", "os.", "env.", "config.", "settings.", "request.", "req.", "args.",
    "options.", "opts.", "params.", "ctx.", "context.", "secrets.", "vars.", "var.", "local.",
    "module.", "props.", "fs.", "data.", "getenv(", "os.getenv(", "getpass(", "input(", "prompt(",
    "await ", "new ", "Field(", "Column(", "Depends(", "Header(", "Form(",
];

pub(crate) fn is_type_name(word: &str) -> bool {
    TYPES.contains_any_case(word) && !word.eq_ignore_ascii_case("password")
}

/// Returns true if `value`, which follows the secret name `name`, is a secret.
pub(crate) fn is_secret(value: &str, name: &str, operator: PairOperator, quoted: bool) -> bool {
    let trimmed = value.trim();
    if trimmed.is_empty()
        || STATES.contains_any_case(trimmed)
        || trimmed.len() == 1 && trimmed.is_ascii()
        || trimmed.chars().all(|c| matches!(c, '*' | '•' | '●' | '·' | '.' | 'x' | 'X'))
        // The sign of a block in YAML.
        || trimmed.bytes().all(|byte| matches!(byte, b'>' | b'|' | b'-' | b'+'))
        || is_harmless(trimmed)
        || is_complaint(trimmed)
        || is_description(trimmed)
        // `DB_PASSWORD="My Secret"` is not a label. `login.password=Passwort` and `--auth-token=TOKEN` are.
        || (operator == PairOperator::Colon
            || name.contains('.')
            || trimmed.bytes().all(|byte| byte.is_ascii_uppercase()))
            && is_label(trimmed)
        || !keys::is_password(name) && is_store_path(trimmed)
        || is_number(trimmed)
        || !keys::is_password(name) && is_count(trimmed, operator, quoted)
        // The working directory.
        || name == "PWD" && trimmed.starts_with('/')
        || is_file_name(trimmed)
    {
        return false;
    }
    let own = name.rsplit('.').next().unwrap_or(name).trim_start_matches(['_', '$']);
    if TYPES.contains_any_case(trimmed) && !trimmed.eq_ignore_ascii_case("password")
        || own.to_ascii_lowercase().ends_with("key")
            && (trimmed.contains(['.', '_', ':'])
                || operator == PairOperator::Colon && trimmed.contains('-') && keys::judge(trimmed).is_some())
            && is_lower_path(trimmed)
    {
        return false;
    }
    if quoted {
        return true;
    }
    let trimmed = trimmed.trim_end_matches(['。', '、', '！', '،']);
    let mut letters = trimmed.chars();
    letters.next();
    let is_prose = trimmed.chars().count() <= 20
        && trimmed.starts_with(char::is_alphabetic)
        && letters.all(|c| c.is_alphabetic() && !c.is_uppercase() || c == '\'');
    !(TYPES.contains_any_case(trimmed)
        || trimmed.trim_start_matches('@').eq_ignore_ascii_case(own)
        // The token of a parser.
        || operator == PairOperator::Colon
            && own.eq_ignore_ascii_case("token")
            && trimmed.len() <= 8
            && trimmed.bytes().all(|byte| byte.is_ascii_uppercase())
        // `https://user:***@host`
        || trimmed.split_once('@').is_some_and(|(mask, _)| is_mask(mask))
        || operator == PairOperator::Colon && (is_prose || is_version(trimmed))
        || EXPRESSIONS.iter().any(|start| trimmed.starts_with(start))
        || is_code_of(trimmed)
        // `token == expected_token`
        || trimmed.contains('_') && is_lower_path(trimmed) && keys::judge(trimmed).is_some())
}

/// Returns true for a part of a whole (`12/40`), and after a colon for a status (`401`).
fn is_count(value: &str, operator: PairOperator, quoted: bool) -> bool {
    let is_short =
        |part: &str| (1..=6).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    value.split_once('/').is_some_and(|(part, whole)| is_short(part) && is_short(whole))
        || operator == PairOperator::Colon && !quoted && value.len() <= 3 && is_short(value)
}

/// Returns true for a number that no secret is: an address in memory, `-1`, `NaN`.
fn is_number(value: &str) -> bool {
    value == "-1"
        || value == "NaN"
        || value
            .strip_prefix("0x")
            .is_some_and(|digits| digits.len() <= 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Returns true for a call and for a path of names: `tokenizer.next_token()`, `hash_password(raw)`, `Token.Ident2`.
fn is_code_of(value: &str) -> bool {
    let callee = value.split(['(', '[']).next().unwrap_or(value).trim_end_matches('!');
    // `useRef<Input>(null)`
    let callee =
        callee.split_once('<').filter(|(_, rest)| rest.ends_with('>')).map_or(callee, |(name, _)| name);
    let is_call = callee.len() < value.len() && callee.len() >= 3;
    let is_name = |part: &str| part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_path =
        callee.contains('.') && !callee.ends_with('.') && callee.split('.').all(|part| part.len() >= 2);
    (is_call || is_path && !is_odd_path(callee))
        && callee.split(['.', ':']).filter(|part| !part.is_empty()).all(is_name)
        && callee.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':'))
        // `base64.b64encode(…)`
        && is_wordy(&callee.replace("64", ""))
}

/// Returns true if a dotted text has digits, and its letters change their case unlike in a name: `J9.fB.puR694`.
fn is_odd_path(value: &str) -> bool {
    let is_odd = |part: &[u8]| matches!(part, [a, b, c] if a.is_ascii_lowercase() && b.is_ascii_uppercase() && !c.is_ascii_alphabetic());
    // `VjxVSWQ.OV17`
    let is_shouted = |part: &[u8]| matches!(part, [a, b, c, d] if a.is_ascii_lowercase() && [b, c, d].iter().all(|byte| byte.is_ascii_uppercase()));
    let bytes = value.as_bytes();
    bytes.iter().any(u8::is_ascii_digit) && (bytes.windows(3).any(is_odd) || bytes.windows(4).any(is_shouted))
}

/// Returns true for a short word in a query: `key=title`, `code=invalid_grant`.
pub(crate) fn is_lower_word(value: &str) -> bool {
    value.len() <= 16 && value.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        || value.len() <= 3 && value.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns true for the name of a setting or of a row: `auth.token`, `users:name`.
pub(crate) fn is_lower_path(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'.' | b'_' | b':' | b'-'))
}

/// Returns true for the version of a program: `1.13.3`, `v2.1`, `0.8.1-alpine`.
fn is_version(value: &str) -> bool {
    let (number, suffix) = value.split_once(['-', '+']).unwrap_or((value, ""));
    let parts = number.strip_prefix('v').unwrap_or(number).split('.');
    parts.clone().count() >= if number.starts_with('v') || !suffix.is_empty() { 2 } else { 3 }
        && parts.clone().count() <= 4
        && parts
            .into_iter()
            .all(|part| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit()))
        && suffix.len() <= 12
        && is_lower_path(suffix.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.'))
}

/// Returns true if the value of a name that ends in `key` is a secret: letters and digits that are not words.
pub(crate) fn is_key(value: &str) -> bool {
    let value = value.trim();
    // The id of a key has 16 hexadecimal digits.
    let is_id = value.starts_with("0x") && value.len() <= 18;
    is_product_key(value)
        || value.len() >= 8
            && !is_id
            && !value.contains([' ', '(', '<', '{', '$'])
            && !value.contains("://")
            && (!is_path(value) || value.split('/').any(looks_random))
            && !is_wordy(value)
            && (is_mixed(value) || value.len() >= 20)
}

/// Returns true for the key of a licence: `ABCD1-EFGH2-IJKL3`.
fn is_product_key(value: &str) -> bool {
    let length = value.find('-').unwrap_or(0);
    (4..=8).contains(&length)
        && value.split('-').count() >= 3
        && value.split('-').all(|group| group.len() == length)
        && value.bytes().any(|byte| byte.is_ascii_digit())
        && value.bytes().any(|byte| byte.is_ascii_uppercase())
        && value.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Returns true if the value of a name that ends in `pass` is a secret, and not a count, a duration or a state.
pub(crate) fn is_pass(value: &str) -> bool {
    let number = value.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '%');
    let is_count = number.len() <= 4
        && value.len() - number.len() <= 2
        && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    value.len() >= 4 && !is_count && !value.contains([' ', '('])
}

/// Returns true if a value is a code that a person types once: four to ten digits, or groups of letters and digits.
pub(crate) fn is_code(value: &str) -> bool {
    let value = value.trim_matches(['"', '\'', '\\', ' ']);
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let fits = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b' '));
    if value.starts_with('[') {
        return digits >= 4;
    }
    let is_upper = || value.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    fits && (4..=10).contains(&digits) && value.len() <= digits + 2 && !value.ends_with('-')
        || (5..=10).contains(&value.len()) && digits > 0 && digits < value.len() && is_upper()
        || fits && is_grouped_code(value)
        || is_mixed(value) && !is_wordy(value) && !value.contains(' ')
}

/// Returns true for `HJKD-QWMZ` and `8f3k-29dk`.
pub(crate) fn is_grouped_code(value: &str) -> bool {
    let is_group = |group: &str| (3..=6).contains(&group.len());
    let has_digits = || value.bytes().any(|byte| byte.is_ascii_digit());
    let is_upper =
        || value.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-');
    value.contains('-') && value.split('-').all(is_group) && (has_digits() || is_upper())
}
