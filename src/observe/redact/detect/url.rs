//! Secrets in URLs: user info and the path of webhooks. `pairs` finds those in query and fragment.
//!
//! Sources: RFC 3986 §3.2.1; OpenTelemetry semantic conventions, `url.full` (user name and password
//! become `REDACTED`); detect-secrets `basic_auth`; gitleaks `slack-webhook-url`,
//! `microsoft-teams-webhook`; trufflehog `discordwebhook`.

use memchr::memmem;

use crate::observe::redact::class::KnownClass;
use crate::observe::redact::detect::matches::Matches;

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
    find_user_info(text, matches);
    find_webhooks(text.as_bytes(), matches);
    find_driver_names(text.as_bytes(), matches);
    find_without_scheme(text.as_bytes(), matches);
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
        // Drivers accept a database's password that contains `/`, `?` or `#`.
        if last_at.is_none() && is_database(bytes.get(..colon).unwrap_or_default()) {
            while !ends_url(bytes, end) {
                if bytes.get(end) == Some(&b'@') {
                    last_at = Some(end);
                }
                end += 1;
            }
            let user_info = bytes.get(start..last_at.unwrap_or(start)).unwrap_or_default();
            last_at = last_at.filter(|_| memchr::memchr(b':', user_info).is_some());
        }
        looked_at = end;
        let Some(at) = last_at.filter(|&at| at > start) else { continue };
        let user_info = text.get(start..at).unwrap_or_default();
        if !HARMLESS_USERS.contains(&user_info) {
            matches.push(start, at, KnownClass::Url, "url-user-info");
        }
    }
}

/// Matches the secret part of the paths of [`WEBHOOKS`].
fn find_webhooks(bytes: &[u8], matches: &mut Matches) {
    for (host, rule, path_end) in WEBHOOKS {
        for found in memmem::find_iter(bytes, host.as_bytes()) {
            let start = found + host.len();
            let mut end = start;
            while !ends_url(bytes, end) && (*path_end == WebhookEnd::Url || bytes.get(end) != Some(&b'/')) {
                end += 1;
            }
            while end > start && matches!(bytes.get(end - 1), Some(b'.' | b',' | b')' | b';' | b':')) {
                end -= 1;
            }
            matches.push(start, end, KnownClass::Webhook, rule);
        }
    }
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
        if colon > 0 && start + colon + 1 < at && is_host_and_port(bytes.get(at + 1..).unwrap_or_default()) {
            matches.push(start + colon + 1, at, KnownClass::Url, "url-user-info");
        }
    }
}

/// Returns true if `bytes` ends with the scheme of a database or a broker.
fn is_database(bytes: &[u8]) -> bool {
    const SCHEMES: [&str; 9] =
        ["postgresql", "postgres", "mysql", "mariadb", "mongodb", "mongodb+srv", "redis", "rediss", "amqp"];
    SCHEMES.iter().any(|scheme| bytes.ends_with(scheme.as_bytes()))
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
