//! Values that show by their own form that they are not a secret: references, expressions, templates, fill-ins,
//! masks, metavariables, paths, schemas.
//!
//! Every detector asks these functions, so that a form counts after every name and in every notation. A form must not
//! contain a part that looks random.

use crate::observe::redact::detect::keys;
use crate::observe::redact::detect::looks::{is_path, is_random_short, is_wordy};

/// Returns true if `value` stands for a secret and does not contain one.
pub(crate) fn is_harmless(value: &str) -> bool {
    is_reference(value) || is_mask(value) || is_fill_in(value) || is_path_of_words(value)
}

/// Words that other programs write in the place of a secret.
#[rustfmt::skip]
const MASKS: [&str; 18] = [
    "redacted", "hidden", "masked", "filtered", "removed", "sensitive", "secret", "omitted", "empty", "not", "none",
    "null", "nil", "unset", "set", "missing", "unchanged", "blank",
];

/// Returns true for a mask: `xoxb-xxxx-xxxx`, `***`, `(hidden)`, `(sensitive value)`, `[REDACTED String]`.
pub(crate) fn is_mask(value: &str) -> bool {
    let inner = ["()", "[]", "<>"].iter().find_map(|pair| {
        let inner = value.strip_prefix(pair.get(..1)?)?.strip_suffix(pair.get(1..)?)?;
        let (first, rest) = inner.split_once(' ').unwrap_or((inner, ""));
        // `<redacted:9 chars>`
        let (first, count) = first.split_once(':').unwrap_or((first, "0"));
        let is_length = count == "0"
            || count.bytes().all(|byte| byte.is_ascii_digit())
                && matches!(rest, "bytes" | "chars" | "characters");
        let first = first.to_ascii_lowercase();
        // `[PAD]`
        let is_name = (2..=8).contains(&inner.len()) && inner.bytes().all(|byte| byte.is_ascii_uppercase());
        let is_mask = MASKS.contains(&first.as_str()) && !inner.contains('=') && is_wordy(inner);
        Some(is_name || is_mask && is_length)
    });
    // `***REMOVED***`
    let is_starred = || {
        let inner = value.trim_matches('*');
        inner.len() + 2 <= value.len() && MASKS.iter().any(|mask| mask.eq_ignore_ascii_case(inner))
    };
    inner
        .unwrap_or_else(|| is_crossed_out(value) || is_shortened(value) || is_starred() || is_cut_note(value))
}

/// Returns true for the note after a text that was cut, or its first word: `…(+20 bytes)`.
fn is_cut_note(value: &str) -> bool {
    let count = value.strip_prefix("…(+").map(|note| note.strip_suffix(" bytes)").unwrap_or(note));
    count.is_some_and(|count| {
        (1..=9).contains(&count.len()) && count.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Returns true for runs of one sign, after the prefix of a vendor or not: `ghp_XXXXXXXX`, `sk-****`, `AKIAXXXXXXXX`.
fn is_crossed_out(value: &str) -> bool {
    const LONGEST_PREFIX: usize = 12;
    let Some(at) = value
        .find(['*', 'x', 'X', '•'])
        .and_then(|_| ["***", "xxxx", "XXXX", "•••"].iter().filter_map(|run| value.find(run)).min())
    else {
        return false;
    };
    let (prefix, mask) = value.split_at(at);
    let is_prefix = prefix.is_empty()
        || prefix.ends_with(['-', '_'])
            && prefix.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'_'))
        || prefix.len() == 4 && mask.len() >= 12 && prefix.bytes().all(|byte| byte.is_ascii_alphabetic());
    prefix.len() <= LONGEST_PREFIX
        && is_prefix
        && mask.chars().all(|c| matches!(c, '*' | 'x' | 'X' | '•' | '-' | '_' | '.'))
}

/// Returns true for a secret of which another program shows the first and the last characters only: `sk-pr****9XkA`,
/// `sk-...9XkA`, `abc…`.
fn is_shortened(value: &str) -> bool {
    const LONGEST_HEAD: usize = 8;
    const LONGEST_TAIL: usize = 4;
    let Some((at, mask)) =
        ["***", "•••", "...", "…"].iter().find_map(|mask| Some((value.find(mask)?, *mask)))
    else {
        return false;
    };
    let (head, rest) = value.split_at(at);
    let tail = rest.trim_start_matches(|c| mask.contains(c));
    let is_part =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let hides_most = rest.len() - tail.len() >= head.len() + tail.len();
    head.len() <= LONGEST_HEAD
        && tail.len() <= LONGEST_TAIL
        && is_part(head)
        && is_part(tail)
        && (hides_most || head.contains(['-', '_']) || head.len() + tail.len() <= 4)
}

/// Words that ask the reader to put a secret in.
#[rustfmt::skip]
const ASKING: &[&str] = &[
    "your", "insert", "replace", "paste", "enter", "put", "here", "todo", "tbd", "fixme", "placeholder", "redacted",
    "change", "fill", "goes",
];

/// Further words of texts that ask for a secret.
#[rustfmt::skip]
const ASKED: &[&str] = &[
    "api", "key", "keys", "token", "tokens", "secret", "secrets", "password", "passphrase", "pass", "credential",
    "credentials", "access", "auth", "client", "id", "value", "bot", "app", "user", "username", "name", "private",
    "oauth", "bearer", "account", "service", "project", "db", "database", "host", "port", "my", "the", "a", "an", "in",
    "with", "me", "this", "it", "own", "real", "actual", "new", "personal", "github", "gitlab", "openai", "anthropic",
    "slack", "google", "azure", "aws", "dsn", "url", "string", "of", "for", "from",
];

/// Returns true for a text that documentation has in the place of a secret: `your_api_key_here`, `insert-token-here`,
/// `REPLACE_ME`, `xoxb-your-token`.
fn is_fill_in(value: &str) -> bool {
    let lower = value.get(..5).unwrap_or_default().to_ascii_lowercase();
    let asks = || {
        let words = || value.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let is_asking = |word: &str| ASKING.iter().any(|known| known.eq_ignore_ascii_case(word));
        let is_known =
            |word: &str| is_asking(word) || ASKED.iter().any(|known| known.eq_ignore_ascii_case(word));
        // The prefix of a vendor may be first.
        let has_prefix = words()
            .next()
            .is_some_and(|word| word.len() <= 5 && word.bytes().all(|b| b.is_ascii_lowercase()));
        let is_one = words().count() == 1;
        words().any(is_asking)
            && words().skip(usize::from(has_prefix && !is_one)).all(is_known)
            && !(is_one && value.bytes().all(|byte| byte.is_ascii_lowercase()))
    };
    matches!(lower.as_str(), "your_" | "your-" | "<your" | "your ") && is_wordy(value)
        || asks()
        || value.starts_with("<") && value.ends_with('>') && is_wordy(value)
        // The start of a token, as documentation has it before an ellipsis.
        || value.len() <= 7
            && value.ends_with(['-', '_'])
            && value.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'_'))
}

/// Returns true for the name of a value in upper case, as in `postgres://USER:PASSWORD@HOST`.
pub(crate) fn is_metavariable(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
        && value
            .split('_')
            .filter(|word| !word.is_empty())
            .all(|word| ASKING.iter().chain(ASKED).any(|known| known.eq_ignore_ascii_case(word)))
}

/// Returns true for an expression of a template that only looks a value up: `{{ lookup('env', 'NAME') }}`.
fn is_lookup(value: &str) -> bool {
    let inner = value.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).unwrap_or_default();
    inner.trim_start().starts_with(|c: char| c.is_ascii_alphabetic() || c == '.')
        && inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-/:'\"(), =|$".contains(&byte))
        && (!inner.contains("default") || inner.contains("default(omit)"))
        && !inner.contains(" or ")
        && inner.split(|c: char| !c.is_ascii_alphanumeric()).all(|word| !is_random_short(word))
}

/// The signs around the code of a template.
pub(crate) const TEMPLATES: [(&str, &str); 4] = [("<%", "%>"), ("<?", "?>"), ("{%", "%}"), ("#{", "}")];

/// Returns true for the code of a template without a part that looks random: `<%= ENV["NAME"] %>`, `#{name}`.
pub(crate) fn is_template(value: &str) -> bool {
    TEMPLATES.iter().any(|(open, close)| {
        value.strip_prefix(open).and_then(|rest| rest.trim_end_matches('#').strip_suffix(close)).is_some_and(
            |inner| {
                !inner.contains(close)
                    && inner.split(|c: char| !c.is_ascii_alphanumeric()).all(|word| !is_random_short(word))
            },
        )
    })
}

/// Returns true for the command of a substitution in a shell, unless it prints its arguments: `` `vault read …` ``.
pub(crate) fn is_command(value: &str) -> bool {
    let inner = value.trim_matches('`');
    inner.split_once(' ').is_some_and(|(program, _)| {
        !matches!(program, "echo" | "printf")
            && program.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'_' | b'/'))
            && !inner.split(' ').any(is_random_short)
    })
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

/// Returns true for the path of a secret in a store: `kv/data/db`, `db/main#field`.
pub(crate) fn is_store_path(value: &str) -> bool {
    let is_part = |part: &str| {
        part.len() >= 2
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'_' | b'.'))
    };
    value.contains('/') && value.split(['/', '#']).all(is_part)
}

/// YAML tags that precede a reference.
const TAGS: &[&str] = &[
    "!!null",
    "!Ref",
    "!Sub",
    "!GetAtt",
    "!ImportValue",
    "!reference",
    "!secret",
    "!env",
    "!vault",
    "!Join",
];

/// Where hosts look a name up: `${env:NAME}`, `${input:name}`, `{env:NAME}`.
const SOURCES: [&str; 5] = ["env:", "input:", "config:", "secret:", "secrets:"];

/// Returns true for the name of a variable or a file from which a program reads: `env:NAME`, `file:pw`, `@pw.txt`.
fn is_source(value: &str) -> bool {
    let is_name =
        |name: &str| !name.is_empty() && !name.contains(':') && is_wordy(name) && !is_random_short(name);
    match value.split_once(':') {
        Some(("env" | "file" | "fd", name)) => is_name(name),
        _ => value.strip_prefix('@').is_some_and(|name| {
            (name.contains('/') || ENDINGS.iter().any(|end| name.ends_with(end)))
                && !name.contains('@')
                && is_name(name)
        }),
    }
}

/// Returns true for a parameter of a statement: `:password`, `@password`.
fn is_bound(value: &str) -> bool {
    value.strip_prefix([':', '@']).is_some_and(|name| {
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            && keys::judge(name).is_some()
    })
}

/// Returns true for a URL of words without user info and query, as of a document or a store.
fn is_plain_url(value: &str) -> bool {
    value.split_once("://").is_some_and(|(scheme, rest)| {
        scheme.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'+' | b'-'))
            && !rest.contains(['@', '?', '=', ' ', '"', '\''])
            && rest.contains('/')
            && rest.split(['/', ':', '#', '.']).all(|part| is_wordy(part) && !is_random_short(part))
    })
}

/// Signs around a name that a program replaces with a value.
const MARKS: [(&str, &str); 10] = [
    ("!", "!"),
    ("#", "#"),
    ("%%", "%%"),
    ("%env(", ")%"),
    ("%", "%"),
    ("__", "__"),
    ("@@", "@@"),
    ("@", "@"),
    ("{", "}"),
    ("[[", "]]"),
];

/// Returns true for a name of letters between signs: `%DB_PASSWORD%`, `__TOKEN__`, `@db.password@`, `{token}`.
fn is_marked_name(value: &str) -> bool {
    MARKS.iter().any(|(open, close)| {
        value.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)).is_some_and(|name| {
            name.len() >= 2
                && name.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'.'))
                && (name.bytes().all(|byte| !byte.is_ascii_uppercase())
                    || name.bytes().all(|byte| !byte.is_ascii_lowercase())
                    || *open == "{")
        })
    })
}

/// Returns true if `value` only names the source of a secret: `${NAME}`, `$NAME`, `{{ .name }}`, `%s`, `<name>`.
pub(crate) fn is_reference(value: &str) -> bool {
    let is_name = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b' ' | b'-' | b'$' | b'|' | b'"' | b':' | b'/')
            })
            // `${NAME:-default}` contains a value.
            && (!text.contains(":-") || text.ends_with(":-"))
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
        fits(u8::is_ascii_uppercase)
            || fits(u8::is_ascii_lowercase)
            // `$securePassword`
            || fits(u8::is_ascii_alphabetic) && is_wordy(name) && keys::judge(name).is_some()
    });
    let is_demanded = || {
        between("${", "}")
            .and_then(|inner| inner.split_once(":?").or_else(|| inner.split_once('?')))
            .is_some_and(|(name, message)| is_name(name) && !message.split(' ').any(is_random_short))
    };
    is_variable
        || is_demanded()
        || is_lookup(value)
        || is_template(value)
        || is_address(value)
        || is_marked_name(value)
        || is_member(value)
        || inside("${", "}")
        || inside("{{", "}}") && !value.split(|c: char| !c.is_ascii_alphanumeric()).any(is_random_short)
        || inside("${{", "}}")
        || inside("$[", "]")
        || inside("((", "))")
        || is_source(value)
        || is_bound(value)
        || is_plain_url(value)
        || inside("<", ">") && !is_random_short(value)
        || inside("%(", ")s")
        || looked_up("${")
        || looked_up("{")
        // An item of 1Password.
        || value.strip_prefix("op://").is_some_and(|item| item.split('/').all(is_name))
        || value.starts_with("$(")
        || value.starts_with("()")
        || TAGS.iter().any(|tag| tag.eq_ignore_ascii_case(value))
        || value.starts_with("%!")
        || value.len() == 2 && value.starts_with('%') && value.bytes().all(|byte| !byte.is_ascii_digit())
        || value == "..."
        || value == "…"
}

/// Returns true for the start of a member of a variable: `$_POST[`, `$this->`, `$config['db']`, `$ENV{NAME}`, `$env:NAME`.
fn is_member(value: &str) -> bool {
    let Some(name) = value.strip_prefix('$') else { return false };
    let length = name.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
    let (name, rest) = name.split_at(length);
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && !is_random_short(name);
    // `$env:NAME`, `:NAME`
    let is_scoped =
        |rest: &str| is_wordy(rest) && rest.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if is_name && rest.strip_prefix(':').is_some_and(is_scoped) {
        return true;
    }
    let rest = rest
        .strip_prefix(['[', '{'])
        .map(|rest| rest.trim_start_matches(['\'', '"']))
        .or(rest.strip_prefix("->"))
        .or(rest.strip_prefix("::"));
    is_name && rest.is_some_and(|rest| is_wordy(rest) && !is_random_short(rest))
}

/// Returns true for the complaint of a validator: `too short`, `["This field is required."]`.
pub(crate) fn is_complaint(value: &str) -> bool {
    #[rustfmt::skip]
    const COMPLAINTS: [&str; 16] = [
        "is required", "are required", "must be", "must not", "must contain", "must match", "too short", "too long",
        "too common", "too weak", "invalid ", "is invalid", "not match", "is missing", "may not be", "cannot be",
    ];
    let text = value.trim_matches(['[', ']', '"', '\'', '\\', '.', ' ']).to_lowercase();
    text.contains(' ')
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b' ' | b'.' | b','))
        && COMPLAINTS.iter().any(|known| text.contains(known))
}

/// Names of what an option takes, as programs show them in their help.
const METAVARIABLES: [&str; 10] =
    ["stdin", "string", "value", "text", "path", "file", "duration", "strings", "token", "password"];

/// Returns true if `value` is part of the description of a flag, as in `--token TOKEN`.
pub(crate) fn is_usage(value: &str) -> bool {
    let value = value.trim_end_matches([']', '>', ')']);
    // `option --token needs a value`
    let is_prose =
        matches!(value, "needs" | "requires" | "cannot" | "expects" | "option" | "argument" | "instead");
    value.len() <= 4 && value.bytes().all(|byte| byte.is_ascii_lowercase())
        || is_prose
        || METAVARIABLES.contains(&value)
        || value.bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'_' | b'<' | b'['))
}

/// Returns true if a bracketed value is a JSON Schema without values, as many tools have it for an argument
/// that is a secret.
pub(crate) fn is_schema(value: &str) -> bool {
    const STARTS: [&str; 6] = ["type", "description", "$ref", "title", "anyOf", "oneOf"];
    let inner = value.trim_start_matches('{').trim_start();
    let name = inner.trim_start_matches(['\\', '"', '\'']);
    let is_quoted = name.len() < inner.len();
    STARTS.iter().any(|start| {
        name.strip_prefix(start).is_some_and(|rest| match is_quoted {
            true => rest.starts_with(['\\', '"', '\'']),
            false => *start == "type" && rest.starts_with(':'),
        })
    }) && ["default", "const", "example", "enum"].iter().all(|word| !value.contains(word))
}

/// Returns true if brackets contain a few words of prose, or the text of an object without values: `token: [see docs]`,
/// `<paste here>`, `<Mock id='140234'>`, `<object at 0x7f3c9a52d1e0>`.
pub(crate) fn is_aside(value: &str) -> bool {
    let inner = value.get(1..value.len().saturating_sub(1)).filter(|_| {
        matches!(
            (value.chars().next(), value.chars().next_back()),
            (Some('['), Some(']')) | (Some('('), Some(')')) | (Some('<'), Some('>'))
        )
    });
    let inner = inner.unwrap_or_default();
    let is_object = || {
        value.starts_with('<')
            && inner.starts_with(|c: char| c.is_ascii_alphabetic())
            && inner
                .split([' ', '=', '\'', '(', ')', ':', '.'])
                .all(|word| is_wordy(word) && !is_random_short(word) || word.starts_with("0x"))
    };
    inner.contains(' ')
        && (inner.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b' ') || is_object())
        || value.starts_with('<') && inner.contains(['(', ':']) && is_object()
}

/// Returns true if the value of a header is part of a sentence.
pub(crate) fn is_prose_header(value: &str) -> bool {
    const SCHEMES: [&str; 8] = ["basic", "bearer", "token", "negotiate", "digest", "apikey", "ntlm", "key"];
    let word = value.split([' ', ',', '.', ';']).next().unwrap_or_default();
    is_harmless(value)
        || is_header_reference(value)
        || SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(value))
        || value.split_once(' ').is_some_and(|(scheme, rest)| {
            SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme))
                && (is_harmless(rest) || is_aside(rest))
        })
        || word.len() <= 16 && word.bytes().all(|byte| byte.is_ascii_lowercase()) && !SCHEMES.contains(&word)
}

/// Names of the parts of a cookie that describe it.
const ATTRIBUTES: [&str; 9] =
    ["max-age", "expires", "path", "domain", "samesite", "httponly", "secure", "partitioned", "priority"];

/// Returns true for a cookie that a server deletes: `session=; Max-Age=0; Path=/`.
pub(crate) fn is_cleared_cookie(value: &str) -> bool {
    let mut parts = value.split(';').map(|part| part.trim().split_once('=').unwrap_or((part.trim(), "")));
    parts.next().is_some_and(|(_, value)| matches!(value, "" | "\"\"" | "deleted"))
        && value.contains('=')
        && parts.all(|(name, value)| {
            value.is_empty() || ATTRIBUTES.iter().any(|known| known.eq_ignore_ascii_case(name))
        })
}

/// Returns true for cookies without a session: words and short numbers (`theme=dark; Path=/`), and the ids of
/// analytics, under names for which `is_secret` returns false.
pub(crate) fn is_plain_cookie(value: &str, is_secret: impl Fn(&str) -> bool) -> bool {
    const ANALYTICS: [&str; 6] = ["_ga", "_gid", "_gat", "_fbp", "_gcl_au", "_pk_id"];
    let is_word = |value: &str| {
        value.len() <= 12
            && value.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'_'))
            || value.len() <= 5
                && value
                    .split(['-', '.'])
                    .all(|part| part.len() <= 3 && part.bytes().all(|b| b.is_ascii_alphanumeric()))
    };
    // `cookies: 4 set, 0 blocked`
    !value.contains('=')
        && value.contains(' ')
        && value.split([' ', ',']).all(is_wordy)
        && !is_random_short(value)
        || value.contains('=')
            && value.split(';').map(|part| part.trim().split_once('=').unwrap_or((part.trim(), ""))).all(
                |(name, value)| {
                    ATTRIBUTES.iter().any(|known| known.eq_ignore_ascii_case(name))
                        || !is_secret(name) && (is_word(value) || ANALYTICS.contains(&name))
                },
            )
}

/// Returns true for `Bearer $TOKEN`, `Bearer ${process.env.TOKEN}` and `f"Bearer {token}"`.
fn is_header_reference(value: &str) -> bool {
    let line = value.strip_prefix("f").filter(|rest| rest.starts_with(['"', '\''])).unwrap_or(value);
    let Some((scheme, reference)) = line.trim_start_matches(['"', '\'']).split_once(' ') else {
        return false;
    };
    let scheme_fits =
        (3..=8).contains(&scheme.len()) && scheme.bytes().all(|byte| byte.is_ascii_alphabetic());
    // `Bearer <token>`, `Bearer $env:TOKEN`
    let reference_alone = reference.trim_end_matches(['"', '\'']);
    if is_reference(reference) && reference.starts_with('<') || is_member(reference_alone) {
        return scheme_fits;
    }
    let (name, rest) = match reference.trim_start_matches('$').strip_prefix('{') {
        Some(inner) => inner.split_once('}').unwrap_or(("", inner)),
        None if reference.starts_with('$') => {
            (reference.trim_start_matches('$').trim_end_matches(['"', '\'']), "")
        }
        None => return false,
    };
    let is_path = |byte: u8| byte.is_ascii_alphanumeric() || b"_. ()?[]'\"".contains(&byte);
    scheme_fits
        && name.bytes().all(is_path)
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && !rest.bytes().any(|byte| byte.is_ascii_alphanumeric())
        && is_wordy(name)
}

/// First folders of the paths of files.
#[rustfmt::skip]
const ROOTS: [&str; 26] = [
    "etc", "home", "usr", "var", "opt", "run", "tmp", "srv", "root", "mnt", "data", "app", "certs", "keys", "secrets",
    "Users", "private", "workspace", "proc", "dev", "config", "vault", "ssl", "Library", "volumes", "creds",
];

/// Returns true for the path of a file whose parts are words: `/etc/ssl/client.pem`, `/run/secrets/db_password`,
/// `~/.ssh/id_ed25519`, `./secrets/db`, `name:/etc/creds/name`.
fn is_path_of_words(value: &str) -> bool {
    let path = value.strip_prefix("file://").unwrap_or(value);
    let path = path.split_once(":/").map_or(path, |(name, _)| match is_wordy(name) && name.len() > 1 {
        true => path.get(name.len() + 1..).unwrap_or_default(),
        false => path,
    });
    let is_rooted = match path.strip_prefix('/') {
        Some(rest) => rest.split('/').next().is_some_and(|root| ROOTS.contains(&root)) && rest.contains('/'),
        None => is_path(path),
    };
    is_rooted
        && !path.contains(' ')
        && path.split(['/', '\\', '.']).skip(1).all(|part| is_wordy(part) || part == "id_ed25519")
}

/// Endings of files that hold a secret.
const ENDINGS: [&str; 16] = [
    ".json", ".pem", ".key", ".p8", ".p12", ".pfx", ".crt", ".cer", ".txt", ".env", ".yaml", ".yml", ".toml",
    ".ini", ".conf", ".jks",
];

/// Returns true for the path of a file that holds a secret.
pub(crate) fn is_file_name(value: &str) -> bool {
    let is_mounted = ["/run/secrets/", "/var/run/secrets/"].iter().any(|start| value.starts_with(start));
    is_path(value) && !value.contains(' ') && (is_mounted || ENDINGS.iter().any(|end| value.ends_with(end)))
}
