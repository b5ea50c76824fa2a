//! Secrets in URLs: user info and the path of webhooks. `pairs` finds those in query and fragment.
//!
//! Sources: RFC 3986 §3.2.1; OpenTelemetry semantic conventions, `url.full` (user name and password
//! become `REDACTED`); detect-secrets `basic_auth`; gitleaks `slack-webhook-url`,
//! `microsoft-teams-webhook`; trufflehog `discordwebhook`.

use memchr::memmem;

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::matches::Matches;
use crate::observe::redact::detect::{harmless, looks};

/// Hosts with the start of a path, and where the secret that follows it ends.
const WEBHOOKS: &[(&str, &str, WebhookEnd)] = &[
    ("hooks.slack.com/services/", "slack-webhook", WebhookEnd::Url),
    ("hooks.slack.com/workflows/", "slack-webhook", WebhookEnd::Url),
    ("hooks.slack.com/triggers/", "slack-webhook", WebhookEnd::Url),
    ("discord.com/api/webhooks/", "discord-webhook", WebhookEnd::Url),
    ("discordapp.com/api/webhooks/", "discord-webhook", WebhookEnd::Url),
    ("webhook.office.com/webhookb2/", "teams-webhook", WebhookEnd::Url),
    ("api.telegram.org/bot", "telegram-url", WebhookEnd::Segment),
    ("hooks.zapier.com/hooks/catch/", "zapier-webhook", WebhookEnd::Url),
    ("hc-ping.com/", "healthchecks-ping", WebhookEnd::Segment),
    ("g.alchemy.com/v2/", "alchemy-url", WebhookEnd::Segment),
    ("infura.io/v3/", "infura-url", WebhookEnd::Segment),
    ("infura.io/ws/v3/", "infura-url", WebhookEnd::Segment),
    // The path of a user's own MCP server is the credential.
    ("mcp.zapier.com/api/mcp/s/", "zapier-mcp", WebhookEnd::Segment),
    ("actions.zapier.com/mcp/", "zapier-mcp", WebhookEnd::Segment),
];

#[derive(Clone, Copy, PartialEq)]
enum WebhookEnd {
    Segment,
    Url,
}

/// User names that are not secret without a password, as in `ssh://git@host`.
const HARMLESS_USERS: &[&str] = &["git", "hg", "svn", "ssh", "anonymous", "ftp", "nobody"];

fn ends_url(bytes: &[u8], at: usize) -> bool {
    match bytes.get(at) {
        None => true,
        Some(byte) => {
            matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'"' | b'\'' | b'`' | b'<' | b'>')
                || bytes.get(at..at + 3) == Some(b"\\u{")
        }
    }
}

/// Matches user info and webhook paths in `text`.
pub(crate) fn find(text: &str, matches: &mut Matches) {
    let bytes = text.as_bytes();
    let has_scheme = memmem::find(bytes, b"://").is_some();
    if has_scheme {
        find_user_info(text, matches);
    }
    find_webhooks(bytes, matches);
    if has_scheme {
        find_secret_paths(text, matches);
    }
    if memchr::memchr(b'@', bytes).is_some() {
        find_oracle(text, matches);
        find_driver_names(bytes, matches);
        find_without_scheme(bytes, matches);
    }
    matches.settle();
}

/// Matches the user info of URLs with a scheme.
fn find_user_info(text: &str, matches: &mut Matches) {
    let bytes = text.as_bytes();
    let mut looked_at = 0;
    for colon in memmem::find_iter(bytes, b"://") {
        let start = colon + 3;
        // This `://` is within the authority that was looked at before.
        if start < looked_at {
            continue;
        }
        let mut end = start;
        let mut last_at = None;
        while !ends_url(bytes, end) && !matches!(bytes.get(end), Some(b'/' | b'?' | b'#')) {
            if bytes.get(end) == Some(&b'@') {
                last_at = Some(end);
            }
            end += 1;
        }
        looked_at = end;
        if last_at.is_none() {
            (last_at, looked_at) = unescaped_password(bytes, start);
        }
        let Some(at) = last_at.filter(|&at| at > start) else { continue };
        let user_info = text.get(start..at).unwrap_or_default();
        let scheme = bytes.get(..colon).unwrap_or_default();
        if !HARMLESS_USERS.contains(&user_info) && !is_plain_user(scheme, user_info) {
            matches.push(start, at, KnownClass::Url, "url-user-info");
        }
    }
}

/// Returns true for a user without a password where servers ask for it (`postgresql://app@host`), and for one with a
/// masked password (`app:***`).
pub(crate) fn is_plain_user(before: &[u8], user_info: &str) -> bool {
    const SCHEMES: [&[u8]; 8] =
        [b"postgresql", b"postgres", b"mysql", b"mariadb", b"mongodb", b"ssh", b"sftp", b"ldap"];
    const LONGEST: usize = 16;
    let (user, password) =
        user_info.split_once(':').map_or((user_info, None), |(user, rest)| (user, Some(rest)));
    let is_harmless = |part: &str| harmless::is_harmless(part) || harmless::is_metavariable(part);
    // Documentation has these words in the place of both.
    if matches!(user.trim_start_matches('['), "user" | "username" | "usr" | "")
        && matches!(password, Some("password" | "pass" | "passwd" | "pwd" | "secret"))
    {
        return true;
    }
    // `***:***`, `USER:PASSWORD`, `${USER}:${PASSWORD}`, `<password>`
    if password.map_or(is_harmless(user), |password| {
        is_harmless(password) && (is_harmless(user) || user.bytes().all(|byte| byte.is_ascii_lowercase()))
    }) {
        return true;
    }
    user.len() <= LONGEST
        && user.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-'))
        && match password {
            Some(password) => harmless::is_mask(password),
            None => SCHEMES.iter().any(|scheme| before.ends_with(scheme)),
        }
}

/// Returns the `@` after `user:password` whose password contains characters that a URL reserves, and the end of the
/// part that was looked at. Drivers and people forget to escape them.
fn unescaped_password(bytes: &[u8], start: usize) -> (Option<usize>, usize) {
    const LONGEST: usize = 256;
    let rest = bytes.get(start..bytes.len().min(start + LONGEST)).unwrap_or_default();
    let is_user =
        |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+' | b'%' | b'~');
    let user = rest.iter().take_while(is_user).count();
    let digits = rest.iter().skip(user + 1).take_while(|byte| byte.is_ascii_digit()).count();
    let is_port = (1..=5).contains(&digits)
        && !rest
            .get(user + 1 + digits)
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'!' | b'@'));
    if rest.get(user) != Some(&b':') || is_port {
        return (None, start);
    }
    let mut found = None;
    let mut end = user + 1;
    while let Some(byte) = rest.get(end).filter(|byte| !byte.is_ascii_whitespace()) {
        // The end of a string and the start of the next item.
        let after = rest.get(end + 1);
        if matches!(byte, b'"' | b'\'' | b'`')
            && matches!(after, None | Some(b',' | b':' | b'}' | b']' | b')' | b' ' | b'\n'))
            || rest.get(end..end + 3) == Some(b"://")
        {
            break;
        }
        if *byte == b'@' && end > user + 1 && is_host(rest.get(end + 1..).unwrap_or_default()) {
            found = Some(start + end);
        }
        end += 1;
    }
    (found, start + if found.is_some() { end } else { 0 })
}

/// Returns true if `rest` starts with a host, or with the path of a URL without one.
fn is_host(rest: &[u8]) -> bool {
    let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let length = rest.iter().take_while(is_part).count();
    let ends = matches!(
        rest.get(length),
        None | Some(
            b'/' | b':'
                | b'?'
                | b'#'
                | b'"'
                | b'\''
                | b'`'
                | b','
                | b')'
                | b' '
                | b'\n'
                | b'\r'
                | b'\\'
                | b'>'
        )
    );
    matches!(rest.first(), Some(b'[' | b'/')) || length > 0 && ends
}

/// Matches the secret part of the paths of [`WEBHOOKS`].
fn find_webhooks(bytes: &[u8], matches: &mut Matches) {
    // Every host ends so. This is one search for most texts.
    let ends_host = |slash: usize| {
        let before = bytes.get(..slash).unwrap_or_default();
        [".com", ".org", ".io"].iter().any(|end| before.ends_with(end.as_bytes()))
    };
    if !memchr::memchr_iter(b'/', bytes).any(ends_host) {
        return;
    }
    for (host, rule, path_end) in WEBHOOKS {
        let mut done = 0;
        for found in memmem::find_iter(bytes, host.as_bytes()) {
            let start = found + host.len();
            if start <= done {
                continue;
            }
            let mut end = start;
            while !ends_url(bytes, end) && (*path_end == WebhookEnd::Url || bytes.get(end) != Some(&b'/')) {
                end += 1;
            }
            done = end;
            while end > start && matches!(bytes.get(end - 1), Some(b'.' | b',' | b')' | b';' | b':')) {
                end -= 1;
            }
            matches.push(start, end, KnownClass::Webhook, rule);
        }
    }
}

/// Segments of paths after which, or before which, another segment is a secret.
const HOOKS: &[&str] =
    &["s", "in", "mcp", "sse", "incoming", "services", "trigger", "triggers", "relay", "token", "key", "u"];

/// Segments of paths before a segment that replaces a login.
const LOGINS: &[&str] = &[
    "reset-password",
    "password-reset",
    "reset",
    "verify",
    "verify-email",
    "confirm",
    "confirmation",
    "activate",
    "activation",
    "magic-link",
    "magic",
    "invite",
    "invitation",
    "unsubscribe",
    "sso",
    "login",
    "otp",
];

/// Returns true for a URL of an MCP server: its host or a segment of its path says so.
fn is_mcp(host: &str, url: &str) -> bool {
    host.split(['.', '-']).any(|label| label == "mcp")
        || url.split('/').skip(1).any(|segment| matches!(segment, "mcp" | "sse"))
}

/// Matches segments of paths that look random, beside a segment that says why: `/hooks/catch/77/…`, `/s/…/mcp`.
fn find_secret_paths(text: &str, matches: &mut Matches) {
    const LONGEST: usize = 512;
    let bytes = text.as_bytes();
    let mut done = 0;
    for colon in memmem::find_iter(bytes, b"://") {
        if colon < done {
            continue;
        }
        let start = colon + 3;
        let window = bytes.get(start..bytes.len().min(start + LONGEST)).unwrap_or_default();
        let ends = |at: usize| {
            ends_url(bytes, start + at) || matches!(window.get(at), Some(b'?' | b'#' | b'[' | b'\\'))
        };
        let length = (0..window.len()).find(|at| ends(*at)).unwrap_or(window.len());
        done = start + length;
        let url = text.get(start..text.floor_char_boundary(done)).unwrap_or_default();
        let host = url.split('/').next().unwrap_or_default();
        let (mut is_hook, mut before) = (host.contains("hook"), host.split('.').next().unwrap_or_default());
        let mut at = start + host.len() + 1;
        // The key in the path of a hosted server is the credential.
        let is_mcp = is_mcp(host, url);
        let mut segments = url.split('/').skip(1).peekable();
        while let Some(segment) = segments.next() {
            let next = segments.peek().copied().unwrap_or_default();
            let secret = segment.trim_end_matches(['.', ',', ')', ';', ':']);
            let is_beside = HOOKS.contains(&before)
                || LOGINS.contains(&before) && secret.len() >= 20
                || matches!(next, "mcp" | "sse" | "hook" | "webhook");
            let is_resource = looks::is_uuid(secret) && before.len() > 2 && before.ends_with('s');
            if is_secret_segment(secret, is_hook || is_mcp && !is_resource, is_beside) {
                matches.push(at, at + secret.len(), KnownClass::Webhook, "secret-path");
            }
            is_hook |= segment.contains("hook") || matches!(segment, "catch" | "services");
            at += segment.len() + 1;
            before = segment;
        }
    }
}

/// Returns where the path or query of the URL of a webhook starts, if a part of it looks random.
pub(crate) fn secret_path(url: &str) -> Option<usize> {
    let host = url.find("://")? + 3;
    let start = host + url.get(host..)?.find(['/', '?'])? + 1;
    url.get(start..)?.split(['/', '?', '&', '=', '#']).any(looks::is_random_short).then_some(start)
}

/// Returns true if a segment looks random. Ids of resources do, too; so behind a hook only, or beside one of [`HOOKS`].
fn is_secret_segment(segment: &str, is_hook: bool, is_beside: bool) -> bool {
    let is_id = looks::is_digest(segment);
    segment.len() >= 16
        && (is_hook || is_beside && !(is_id && segment.contains('-')))
        && looks::is_mixed(segment)
        && !looks::is_wordy(segment)
        && !segment.contains(['@', '%', '{', '$', '='])
        && segment.matches('.').count() < 2
}

/// Matches the password in `user:password@tcp(host:port)/name` of Go's MySQL driver.
fn find_driver_names(bytes: &[u8], matches: &mut Matches) {
    const LONGEST: usize = 256;
    for protocol in ["@tcp(", "@unix(", "@udp("] {
        for at in memmem::find_iter(bytes, protocol.as_bytes()) {
            let window = bytes.get(at.saturating_sub(LONGEST)..at).unwrap_or_default();
            let start = at - window.iter().rev().take_while(|byte| !is_border(**byte)).count();
            if let Some(colon) = memchr::memchr(b':', bytes.get(start..at).unwrap_or_default()) {
                matches.push(start + colon + 1, at, KnownClass::Url, "url-user-info");
            }
        }
    }
}

/// Matches the password in `user:password@host:port`.
fn find_without_scheme(bytes: &[u8], matches: &mut Matches) {
    const LONGEST: usize = 128;
    for at in memchr::memchr_iter(b'@', bytes) {
        let window = bytes.get(at.saturating_sub(LONGEST)..at).unwrap_or_default();
        let is_part = |byte: &&u8| !is_border(**byte) && !matches!(byte, b'/' | b'@' | b'(' | b'<' | b',');
        let start = at - window.iter().rev().take_while(is_part).count();
        let Some(colon) = memchr::memchr(b':', bytes.get(start..at).unwrap_or_default()) else { continue };
        let password = std::str::from_utf8(bytes.get(start + colon + 1..at).unwrap_or_default());
        if password
            .is_ok_and(|password| harmless::is_harmless(password) || harmless::is_metavariable(password))
        {
            continue;
        }
        let host = bytes.get(at + 1..).unwrap_or_default();
        // `ssh user:password@host` has no port.
        let is_login = || is_host(host) && password.is_ok_and(looks::is_password_like);
        if colon > 0 && start + colon + 1 < at && (is_host_and_port(host) || is_login()) {
            matches.push(start + colon + 1, at, KnownClass::Url, "url-user-info");
        }
    }
}

/// Matches the password in `user/password@database` of Oracle's programs.
fn find_oracle(text: &str, matches: &mut Matches) {
    const PROGRAMS: [&str; 8] = ["sqlplus", "sqlcl", "expdp", "impdp", "sqlldr", "rman", "oracle:", "ORA-"];
    let bytes = text.as_bytes();
    if !PROGRAMS.iter().any(|program| memmem::find(bytes, program.as_bytes()).is_some()) {
        return;
    }
    const LONGEST: usize = 128;
    for at in memchr::memchr_iter(b'@', bytes) {
        let window = bytes.get(at.saturating_sub(LONGEST)..at).unwrap_or_default();
        let start = at - window.iter().rev().take_while(|byte| !is_border(**byte)).count();
        let word = bytes.get(start..at).unwrap_or_default();
        let Some(slash) = memchr::memchr(b'/', word).filter(|slash| *slash > 0) else { continue };
        if slash + 1 < word.len()
            && is_host(bytes.get(at + 1..).unwrap_or_default())
            && memmem::find(word, b"://").is_none()
        {
            matches.push(start + slash + 1, at, KnownClass::Url, "oracle-login");
        }
    }
}

/// Returns true if `bytes` starts with `host:port`.
fn is_host_and_port(bytes: &[u8]) -> bool {
    let host = bytes
        .iter()
        .take(253)
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
        .count();
    let Some((b':', port)) = bytes.get(host..).and_then(|rest| rest.split_first()) else { return false };
    let digits = port.iter().take(6).take_while(|byte| byte.is_ascii_digit()).count();
    host > 0 && (2..=5).contains(&digits) && !port.get(digits).is_some_and(u8::is_ascii_alphanumeric)
}

fn is_border(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'"' | b'\'' | b'`' | b'=')
}
