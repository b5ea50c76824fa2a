//! Judges the value that follows the name of a secret: a secret, or prose, code, a reference, a schema.

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
const STATES: &[&str] = &[
    "null", "none", "nil", "undefined", "true", "false", "yes", "no", "on", "off", "required",
    "missing", "invalid", "expired", "revoked", "empty", "unset", "set", "unknown", "optional", "n/a",
    "default", "enabled", "disabled", "ok", "bearer", "basic",
    // The placeholders of other redactors.
    "[redacted]", "<redacted>", "redacted", "[filtered]", "[hidden]", "[masked]",
];

/// Names of types, as several languages write them next to a name.
#[rustfmt::skip]
const TYPES: &[&str] = &[
    "string", "str", "&str", "text", "bytes", "int", "integer", "number", "bool", "boolean", "object",
    "any", "char", "char*", "optional<string>", "option<string>", "optional[str]", "varchar",
    "password",
];

/// Starts of expressions in code.
#[rustfmt::skip]
const EXPRESSIONS: &[&str] = &[
    "this.", "self.", "process.", "os.", "env.", "config.", "settings.", "request.", "req.", "args.",
    "options.", "opts.", "params.", "ctx.", "context.", "secrets.", "vars.", "var.", "local.",
    "module.", "props.", "fs.", "data.", "getenv(", "os.getenv(", "getpass(", "input(", "prompt(",
    "await ", "new ", "Field(", "Column(", "Depends(", "Header(", "Form(",
];

pub(crate) fn is_type_name(word: &str) -> bool {
    TYPES.iter().any(|name| name.eq_ignore_ascii_case(word)) && !word.eq_ignore_ascii_case("password")
}

/// Returns true if `value`, which follows the secret name `name`, is a secret.
pub(crate) fn is_secret(value: &str, name: &str, operator: PairOperator, quoted: bool) -> bool {
    let trimmed = value.trim();
    let is_state = |list: &[&str]| list.iter().any(|word| word.eq_ignore_ascii_case(trimmed));
    if trimmed.is_empty()
        || is_state(STATES)
        || trimmed.len() == 1 && trimmed.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_punctuation())
        || trimmed.bytes().all(|byte| byte == b'*')
        || is_reference(trimmed)
        // The working directory.
        || name == "PWD" && trimmed.starts_with('/')
    {
        return false;
    }
    if quoted {
        return true;
    }
    let is_prose = trimmed.len() <= 20 && trimmed.chars().all(|c| c.is_lowercase() || c == '\'');
    !(is_state(TYPES)
        || trimmed.eq_ignore_ascii_case(name)
        || operator == PairOperator::Colon && is_prose
        || EXPRESSIONS.iter().any(|start| trimmed.starts_with(start))
        || is_call(trimmed))
}

/// Returns true for a call without arguments: `tokenizer.next_token()`.
fn is_call(value: &str) -> bool {
    value.strip_suffix("()").is_some_and(|callee| {
        !callee.is_empty()
            && callee.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'.' | b':'))
    })
}

/// YAML tags that precede a reference.
const TAGS: &[&str] =
    &["!ref", "!Ref", "!Sub", "!GetAtt", "!ImportValue", "!reference", "!secret", "!env", "!vault", "!Join"];

/// Returns true if `value` only names the source of a secret: `${NAME}`, `$NAME`, `{{ .name }}`, `%s`, `<name>`.
pub(crate) fn is_reference(value: &str) -> bool {
    let is_name = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b' ' | b'-' | b'$' | b'|' | b'"')
            })
    };
    let inside = |open: &str, close: &str| {
        value.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)).is_some_and(is_name)
    };
    let is_variable = value.strip_prefix('$').is_some_and(|name| {
        let fits = |letter: fn(&u8) -> bool| {
            !name.is_empty()
                && name.bytes().all(|byte| letter(&byte) || byte.is_ascii_digit() || byte == b'_')
        };
        fits(u8::is_ascii_uppercase) || fits(u8::is_ascii_lowercase)
    });
    is_variable
        || inside("${", "}")
        || inside("{{", "}}")
        || inside("${{", "}}")
        || inside("<", ">")
        || inside("%(", ")s")
        || value.starts_with("$(")
        || TAGS.contains(&value)
        || value == "%s"
        || value == "..."
        || value == "…"
}

/// Returns true if `value` is part of the description of a flag, as in `--token TOKEN`.
pub(crate) fn is_usage(value: &str) -> bool {
    let value = value.trim_end_matches([']', '>', ')']);
    value.len() <= 4 && value.bytes().all(|byte| byte.is_ascii_lowercase())
        || value.bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'_' | b'<' | b'['))
}

/// Returns true if a bracketed value is a JSON Schema without values, as many tools have it for an argument
/// that is a secret.
pub(crate) fn is_schema(value: &str) -> bool {
    let inner = value.trim_start_matches('{').trim_start();
    let starts = ["\"type\"", "\\\"type\\\"", "'type'", "type:", "\"description\"", "\"$ref\"", "\"title\""];
    starts.iter().any(|start| inner.starts_with(start))
        && ["default", "const", "example", "enum"].iter().all(|word| !value.contains(word))
}

/// Returns true if brackets contain a few words of prose: `token: [see docs]`.
pub(crate) fn is_aside(value: &str) -> bool {
    let inner = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or_default();
    inner.contains(' ') && inner.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b' ')
}

/// Returns true if the value of a header is part of a sentence.
pub(crate) fn is_prose_header(value: &str) -> bool {
    const SCHEMES: [&str; 8] = ["basic", "bearer", "token", "negotiate", "digest", "apikey", "ntlm", "key"];
    let word = value.split([' ', ',', '.', ';']).next().unwrap_or_default();
    is_reference(value)
        || word.len() <= 16 && word.bytes().all(|byte| byte.is_ascii_lowercase()) && !SCHEMES.contains(&word)
}

/// Returns true if a value has letters and digits, as keys and tokens do.
pub(crate) fn is_mixed(value: &str) -> bool {
    value.len() >= 8
        && value.bytes().any(|byte| byte.is_ascii_digit())
        && value.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// Returns true if the value of a weak name (`key`, `code`, `auth`) looks random, by the limits of gitleaks'
/// generic rule. Identifiers and digests do not count, because logs are full of them.
pub(crate) fn looks_random(value: &str) -> bool {
    value.len() >= 16
        && is_mixed(value)
        && !value.contains([' ', ':'])
        && !is_digest(value)
        && entropy(value) >= 3.5
}

/// Returns true for UUIDs and hexadecimal digests.
pub(crate) fn is_digest(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Returns the Shannon entropy in bits per byte.
pub(crate) fn entropy(value: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in value.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }
    let length = value.len() as f64;
    counts
        .iter()
        .filter(|&&count| count > 0)
        .map(|&count| {
            let share = f64::from(count) / length;
            -share * share.log2()
        })
        .sum()
}
