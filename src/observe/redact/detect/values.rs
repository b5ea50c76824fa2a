//! Judges the value that follows the name of a secret: a secret, or prose, code, a reference, a schema.

use crate::observe::redact::detect::keys;

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
    "default", "enabled", "disabled", "ok", "bearer", "basic", "new", "started", "ended", "closed",
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
        || trimmed.chars().all(|c| matches!(c, '*' | '•' | '●' | '·' | '.' | 'x' | 'X'))
        // The sign of a block in YAML.
        || trimmed.bytes().all(|byte| matches!(byte, b'>' | b'|' | b'-' | b'+'))
        || is_reference(trimmed)
        || is_stand_in(trimmed)
        // The working directory.
        || name == "PWD" && trimmed.starts_with('/')
        || is_file_name(trimmed)
    {
        return false;
    }
    let own = name.rsplit('.').next().unwrap_or(name).trim_start_matches(['_', '$']);
    if is_state(TYPES) && !trimmed.eq_ignore_ascii_case("password")
        || is_placeholder(trimmed)
        || own.to_ascii_lowercase().ends_with("key")
            && trimmed.contains(['.', '_', ':'])
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
    !(is_state(TYPES)
        || trimmed.eq_ignore_ascii_case(own)
        || operator == PairOperator::Colon && (is_prose || is_version(trimmed))
        || EXPRESSIONS.iter().any(|start| trimmed.starts_with(start))
        || is_code_of(trimmed)
        // `token == expected_token`
        || trimmed.contains('_') && is_lower_path(trimmed) && keys::judge(trimmed).is_some())
}

/// Returns true for a call and for a path of names: `tokenizer.next_token()`, `hash_password(raw)`, `Token.Ident2`.
fn is_code_of(value: &str) -> bool {
    let callee = value.split(['(', '[']).next().unwrap_or(value).trim_end_matches('!');
    let is_call = callee.len() < value.len() && callee.len() >= 3;
    let is_name = |part: &str| part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_path =
        callee.contains('.') && !callee.ends_with('.') && callee.split('.').all(|part| part.len() >= 2);
    (is_call || is_path && !is_odd_path(callee))
        && callee.split(['.', ':']).filter(|part| !part.is_empty()).all(is_name)
        && callee.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':'))
        && is_wordy(callee)
}

/// Returns true if a dotted text has digits, and its letters change their case unlike in a name: `J9.fB.puR694`.
fn is_odd_path(value: &str) -> bool {
    let is_odd = |part: &[u8]| matches!(part, [a, b, c] if a.is_ascii_lowercase() && b.is_ascii_uppercase() && !c.is_ascii_alphabetic());
    value.bytes().any(|byte| byte.is_ascii_digit()) && value.as_bytes().windows(3).any(is_odd)
}

/// Returns true for a short word in a query: `key=title`, `code=invalid_grant`.
pub(crate) fn is_lower_word(value: &str) -> bool {
    value.len() <= 16 && value.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Returns true for the name of a setting or of a row: `auth.token`, `users:name`.
fn is_lower_path(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'.' | b'_' | b':' | b'-'))
}

/// Returns true for a text that documentation has in the place of a secret: `your_api_key_here`.
fn is_placeholder(value: &str) -> bool {
    let lower = value.get(..5).unwrap_or_default().to_ascii_lowercase();
    matches!(lower.as_str(), "your_" | "your-" | "<your" | "your ")
        || value.starts_with("<") && value.ends_with('>') && is_wordy(value)
        // The start of a token, as documentation has it before an ellipsis.
        || value.len() <= 7
            && value.ends_with(['-', '_'])
            && value.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'_'))
}

/// Words that other programs write in the place of a secret.
const MASKS: [&str; 10] =
    ["redacted", "hidden", "masked", "filtered", "removed", "sensitive", "secret", "omitted", "empty", "not"];

/// Returns true for a mask: `xoxb-xxxx-xxxx`, `***`, `(hidden)`, `(sensitive value)`, `[REDACTED String]`.
pub(crate) fn is_stand_in(value: &str) -> bool {
    let inner = ["()", "[]", "<>"].iter().find_map(|pair| {
        let inner = value.strip_prefix(pair.get(..1)?)?.strip_suffix(pair.get(1..)?)?;
        let first = inner.split(' ').next()?.to_ascii_lowercase();
        Some(MASKS.contains(&first.as_str()) && !inner.contains('=') && is_wordy(inner))
    });
    inner.unwrap_or_else(|| is_masked(value))
}

/// Returns true for runs of one sign, after the prefix of a vendor or not: `ghp_XXXXXXXX`, `sk-****`.
fn is_masked(value: &str) -> bool {
    const LONGEST_PREFIX: usize = 12;
    let Some(at) = value
        .find(['*', 'x', 'X', '•'])
        .and_then(|_| ["***", "xxxx", "XXXX", "•••"].iter().filter_map(|run| value.find(run)).min())
    else {
        return false;
    };
    let (prefix, mask) = value.split_at(at);
    prefix.len() <= LONGEST_PREFIX
        && (prefix.is_empty() || prefix.ends_with(['-', '_']))
        && prefix.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'_'))
        && mask.chars().all(|c| matches!(c, '*' | 'x' | 'X' | '•' | '-' | '_' | '.'))
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

/// Returns true for an expression of a template that only looks a value up: `{{ lookup('env', 'NAME') }}`.
fn is_lookup(value: &str) -> bool {
    let inner = value.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).unwrap_or_default();
    inner.trim_start().starts_with(|c: char| c.is_ascii_alphabetic() || c == '.')
        && inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-/:'\"(), =|$".contains(&byte))
        && !inner.contains("default")
        && !inner.contains(" or ")
        && inner.split(|c: char| !c.is_ascii_alphanumeric()).all(|word| !is_random_short(word))
}

/// Starts of the addresses of secrets in stores.
const ADDRESSES: [&str; 8] = [
    "arn:aws",
    "@Microsoft.KeyVault(",
    "vault:",
    "ssm:/",
    "secretsmanager:",
    "awssm://",
    "gcpsm://",
    "keychain:",
];

/// Returns true for the address of a secret in a store: `arn:aws:secretsmanager:…`, `vault:secret/data/db#password`.
fn is_address(value: &str) -> bool {
    ADDRESSES.iter().any(|start| value.starts_with(start))
        && value.contains(['/', ')', ':'])
        && value.split(['/', ':', '#', '.', '(', ')', '=', '-']).all(|word| !is_random_short(word))
}

/// YAML tags that precede a reference.
const TAGS: &[&str] =
    &["!ref", "!Ref", "!Sub", "!GetAtt", "!ImportValue", "!reference", "!secret", "!env", "!vault", "!Join"];

/// Where hosts look a name up: `${env:NAME}`, `${input:name}`, `{env:NAME}`.
const SOURCES: [&str; 5] = ["env:", "input:", "config:", "secret:", "secrets:"];

/// Returns true if `value` only names the source of a secret: `${NAME}`, `$NAME`, `{{ .name }}`, `%s`, `<name>`.
pub(crate) fn is_reference(value: &str) -> bool {
    let is_name = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b' ' | b'-' | b'$' | b'|' | b'"' | b':' | b'/')
            })
            // `${NAME:-default}` contains a value.
            && !text.contains(":-")
    };
    let between = |open: &str, close: &str| value.strip_prefix(open)?.strip_suffix(close);
    let inside = |open: &str, close: &str| between(open, close).is_some_and(is_name);
    let looked_up = |open: &str| {
        let name =
            between(open, "}").and_then(|inner| SOURCES.iter().find_map(|source| inner.strip_prefix(source)));
        name.is_some_and(is_name)
    };
    let is_variable = value.strip_prefix('$').is_some_and(|name| {
        let fits = |letter: fn(&u8) -> bool| {
            !name.is_empty()
                && name.bytes().all(|byte| letter(&byte) || byte.is_ascii_digit() || byte == b'_')
        };
        fits(u8::is_ascii_uppercase) || fits(u8::is_ascii_lowercase)
    });
    let is_demanded = || {
        between("${", "}")
            .and_then(|inner| inner.split_once(":?").or_else(|| inner.split_once('?')))
            .is_some_and(|(name, message)| is_name(name) && !message.split(' ').any(is_random_short))
    };
    is_variable
        || is_demanded()
        || is_lookup(value)
        || is_address(value)
        || inside("${", "}")
        || inside("{{", "}}")
        || inside("${{", "}}")
        || inside("<", ">")
        || inside("%(", ")s")
        || looked_up("${")
        || looked_up("{")
        // An item of 1Password.
        || value.strip_prefix("op://").is_some_and(|item| item.split('/').all(is_name))
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

/// Returns true if brackets contain a few words of prose: `token: [see docs]`, `<paste here>`.
pub(crate) fn is_aside(value: &str) -> bool {
    let inner = value.get(1..value.len().saturating_sub(1)).filter(|_| {
        matches!(
            (value.chars().next(), value.chars().next_back()),
            (Some('['), Some(']')) | (Some('('), Some(')')) | (Some('<'), Some('>'))
        )
    });
    let inner = inner.unwrap_or_default();
    inner.contains(' ') && inner.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b' ')
}

/// Returns true if the value of a header is part of a sentence.
pub(crate) fn is_prose_header(value: &str) -> bool {
    const SCHEMES: [&str; 8] = ["basic", "bearer", "token", "negotiate", "digest", "apikey", "ntlm", "key"];
    let word = value.split([' ', ',', '.', ';']).next().unwrap_or_default();
    is_reference(value)
        || is_header_reference(value)
        || value.split_once(' ').is_some_and(|(scheme, rest)| {
            SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme)) && is_stand_in(rest)
        })
        || word.len() <= 16 && word.bytes().all(|byte| byte.is_ascii_lowercase()) && !SCHEMES.contains(&word)
}

/// Returns true for a cookie that a server deletes: `session=; Max-Age=0; Path=/`.
pub(crate) fn is_cleared_cookie(value: &str) -> bool {
    const ATTRIBUTES: [&str; 9] =
        ["max-age", "expires", "path", "domain", "samesite", "httponly", "secure", "partitioned", "priority"];
    let mut parts = value.split(';').map(|part| part.trim().split_once('=').unwrap_or((part.trim(), "")));
    parts.next().is_some_and(|(_, value)| matches!(value, "" | "\"\"" | "deleted"))
        && value.contains('=')
        && parts.all(|(name, value)| {
            value.is_empty() || ATTRIBUTES.iter().any(|known| known.eq_ignore_ascii_case(name))
        })
}

/// Returns true for `Bearer $TOKEN`, `Bearer ${process.env.TOKEN}` and `f"Bearer {token}"`.
fn is_header_reference(value: &str) -> bool {
    let line = value.strip_prefix("f").filter(|rest| rest.starts_with(['"', '\''])).unwrap_or(value);
    let Some((scheme, reference)) = line.trim_start_matches(['"', '\'']).split_once(' ') else {
        return false;
    };
    let scheme_fits =
        (3..=8).contains(&scheme.len()) && scheme.bytes().all(|byte| byte.is_ascii_alphabetic());
    // `Bearer <token>`
    if is_reference(reference) && reference.starts_with('<') {
        return scheme_fits;
    }
    let (name, rest) = match reference.trim_start_matches('$').strip_prefix('{') {
        Some(inner) => inner.split_once('}').unwrap_or(("", inner)),
        None if reference.starts_with('$') => {
            (reference.trim_start_matches('$').trim_end_matches(['"', '\'']), "")
        }
        None => return false,
    };
    let is_path = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    scheme_fits
        && name.bytes().all(is_path)
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && !rest.bytes().any(|byte| byte.is_ascii_alphanumeric())
        && is_wordy(name)
}

/// Returns true if a text is made of words, numbers and short pieces: `node-modules-v2`, `PROJ-1234`, `users:42`,
/// `/etc/ssl/server1.key`, `12ms`, `2024-05-01`.
pub(crate) fn is_wordy(value: &str) -> bool {
    value.split(|c: char| !c.is_ascii_alphanumeric()).all(|part| {
        let letters = part.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = part.trim_start_matches(|c: char| c.is_ascii_digit());
        part.len() <= 2 && value.len() > 2
            || letters.bytes().all(|byte| byte.is_ascii_alphabetic())
                && part.len() - letters.len() <= 4
                && !changes_case(letters)
            || number.len() <= 3 && number.bytes().all(|byte| byte.is_ascii_alphabetic())
    })
}

/// Returns true if the letters of a word change their case more often than in a name in code.
fn changes_case(word: &str) -> bool {
    let bytes = word.as_bytes();
    let humps = bytes
        .windows(2)
        .filter(|pair| matches!(pair, [a, b] if a.is_ascii_uppercase() && b.is_ascii_lowercase()));
    let falls = bytes
        .windows(2)
        .filter(|pair| matches!(pair, [a, b] if a.is_ascii_lowercase() && b.is_ascii_uppercase()));
    word.len() >= 16 && humps.count() + falls.count() > word.len() / 3
}

/// Returns true if the value of a name that ends in `key` is a secret: letters and digits that are not words.
pub(crate) fn is_key(value: &str) -> bool {
    let value = value.trim();
    value.len() >= 8
        && !value.contains([' ', '(', '<', '{', '$'])
        && !value.contains("://")
        && (!is_path(value) || value.split('/').any(looks_random))
        && !is_wordy(value)
        && (is_mixed(value) || value.len() >= 20)
}

/// Returns true if a value of eight or more characters is not made of words.
pub(crate) fn is_random_short(value: &str) -> bool {
    is_mixed(value) && !value.contains(' ') && !is_wordy(value)
}

/// Returns true for the path of a file that holds a secret: `/etc/ssl/client.pem`, `/run/secrets/db_password`.
fn is_file_name(value: &str) -> bool {
    const ENDINGS: [&str; 16] = [
        ".json", ".pem", ".key", ".p8", ".p12", ".pfx", ".crt", ".cer", ".txt", ".env", ".yaml", ".yml",
        ".toml", ".ini", ".conf", ".jks",
    ];
    let is_mounted = ["/run/secrets/", "/var/run/secrets/"].iter().any(|start| value.starts_with(start));
    is_path(value) && !value.contains(' ') && (is_mounted || ENDINGS.iter().any(|end| value.ends_with(end)))
}

pub(crate) fn is_path(value: &str) -> bool {
    let is_drive = value.as_bytes().get(1) == Some(&b':') && value.contains('\\');
    is_drive || ["/", "./", "../", "~/"].iter().any(|start| value.starts_with(start)) && value.len() < 200
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
    let has_digits = value.bytes().any(|byte| byte.is_ascii_digit());
    let is_upper =
        value.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-');
    value.contains('-') && value.split('-').all(is_group) && (is_upper || has_digits)
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
        && !is_wordy(value)
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
