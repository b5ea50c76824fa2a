//! A remote server of a probe, over Streamable HTTP in either era.
//!
//! The headers of the entry go to the origin of its address only: the client follows a redirect within that origin
//! and reports any other.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::time::{Duration, Instant};

use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use http::{Method, Request, StatusCode, Uri};
use serde_json::{Value, json};
use ureq::Timeout;
use ureq::config::Config;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::check::answer::{ProbeAnswer, ProbeReply, answer_to, parsed, reply_of};
use crate::check::{FailureKind, ProbeEnd, ProbePeer, ProbeProblem, ServerFailure, protocol_error};
use crate::hosts::launch::RemoteLaunch;
use crate::observe::redact::{Field, Redactor};
use crate::system::network::{NetworkFailure, is_local};

/// Largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 16 << 20;
/// Most redirects that are followed.
const MOST_REDIRECTS: usize = 5;
/// Most requests of the server that are answered within one answer.
const MOST_REQUESTS: usize = 20;
/// Time limit for the end of a session.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest segment of a path that is shown. Longer ones are often keys.
const LONGEST_SEGMENT: usize = 20;

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");

pub(super) struct HttpServer {
    agent: ureq::Agent,
    address: Uri,
    headers: HeaderMap,
    has_credentials: bool,
    timeout: Duration,
    last_id: u64,
    /// The request that the next [`reply`](ProbePeer::reply) sends.
    unsent: Option<Value>,
    replies: VecDeque<ProbeReply>,
    session_id: Option<HeaderValue>,
    /// The version that `initialize` agreed on.
    version: Option<HeaderValue>,
}

/// Returns an address for people: without user information, query, fragment, and parts of the path that may be keys.
pub(crate) fn shown_url(url: &str) -> String {
    let Ok(uri) = url.parse::<Uri>() else { return "an address that is not a URL".to_owned() };
    let host = uri.host().unwrap_or("?");
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    let shown = |segment: &str| {
        let has_digit = segment.bytes().any(|byte| byte.is_ascii_digit());
        if segment.len() > LONGEST_SEGMENT || has_digit && segment.len() > 8 { "..." } else { segment }
            .to_owned()
    };
    let path: Vec<String> = uri.path().split('/').map(shown).collect();
    let text = format!("{}://{host}{port}{}", uri.scheme_str().unwrap_or("?"), path.join("/"));
    Redactor::default().redact(Field::Uri, text.as_bytes()).as_str().to_owned()
}

/// Parses the address of a server, or returns why it cannot be one, without a word of it: it may hold credentials.
pub(crate) fn address_of(url: &str) -> Result<Uri, &'static str> {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err("begins with neither http:// nor https://");
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let place = authority.rsplit('@').next().unwrap_or_default();
    if place.is_empty() || place.starts_with(':') {
        return Err("has no host");
    }
    let address: Uri = url.parse().map_err(|_| "is not a URL")?;
    let port = address.host().and_then(|host| place.strip_prefix(host)?.strip_prefix(':'));
    match port.is_none_or(|port| port.parse().is_ok_and(|port: u16| port > 0)) {
        true => Ok(address),
        false => Err("has a port that is not a number from 1 to 65535"),
    }
}

/// Returns the host of an address, which is its name in metrics.
pub(crate) fn host_of(url: &str) -> String {
    let uri = url.parse::<Uri>().ok();
    uri.as_ref().and_then(Uri::host).unwrap_or("remote").to_owned()
}

/// Looks names up, and reports each failure as that of a name.
#[derive(Debug)]
struct NamedHost;

impl Resolver for NamedHost {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        DefaultResolver::default().resolve(uri, config, timeout).map_err(|error| match error {
            ureq::Error::Timeout(_) => ureq::Error::Timeout(Timeout::Resolve),
            _ => ureq::Error::HostNotFound,
        })
    }
}

impl HttpServer {
    pub(super) fn new(remote: &RemoteLaunch, timeout: Duration) -> Result<HttpServer, ServerFailure> {
        let refuse = |text: &str| ServerFailure {
            kind: FailureKind::BadEntry,
            text: text.to_owned(),
            stderr: Vec::new(),
            banner_lines: 0,
        };
        let address = address_of(&remote.url).map_err(|reason| refuse(&format!("its address {reason}")))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &remote.headers {
            let (Ok(name), Ok(mut value)) =
                (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
            else {
                // The error would quote the value, which may be secret.
                return Err(refuse("a header of the entry cannot be sent over HTTP"));
            };
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let has_credentials =
            !headers.is_empty() || address.authority().is_some_and(|it| it.as_str().contains('@'));
        let config = ureq::Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .user_agent(concat!("spantap-check/", env!("CARGO_PKG_VERSION")))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false);
        // A proxy can read what is not encrypted, or what is encrypted for an authority of its own.
        let is_open = address.scheme_str() == Some("http")
            || ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some());
        let is_direct = is_local(&address) || has_credentials && is_open;
        let config = if is_direct { config.proxy(None) } else { config };
        Ok(HttpServer {
            agent: ureq::Agent::with_parts(config.build(), DefaultConnector::default(), NamedHost),
            address,
            headers,
            has_credentials,
            timeout,
            last_id: 0,
            unsent: None,
            replies: VecDeque::new(),
            session_id: None,
            version: None,
        })
    }

    /// Ends the session, if the server has begun one.
    pub(super) fn end(&mut self) -> ProbeEnd {
        let begin = Instant::now();
        let by = match self.session_id.is_some() {
            true => {
                let _ = self.exchange(Method::DELETE, None, &self.address, END_TIMEOUT);
                "session_deleted"
            }
            false => "none",
        };
        ProbeEnd { by, after: begin.elapsed() }
    }

    fn exchange(
        &self,
        method: Method,
        message: Option<&Value>,
        address: &Uri,
        timeout: Duration,
    ) -> Result<http::Response<ureq::Body>, ureq::Error> {
        let body = message.map(Value::to_string).unwrap_or_default();
        let mut request = Request::builder().method(method).uri(address).body(body)?;
        let headers = request.headers_mut();
        *headers = self.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        let modern =
            message.and_then(|it| it["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"].as_str());
        let version = modern.and_then(|version| HeaderValue::from_str(version).ok()).or(self.version.clone());
        version.into_iter().for_each(|version| drop(headers.insert(PROTOCOL_VERSION, version)));
        if let (Some(_), Some(method)) = (modern, message.and_then(|message| message["method"].as_str())) {
            headers.insert(METHOD, HeaderValue::from_str(method).map_err(http::Error::from)?);
        }
        self.session_id.iter().for_each(|id| drop(headers.insert(SESSION_ID, id.clone())));
        let timeout = timeout.max(Duration::from_millis(1));
        let request = self.agent.configure_request(request).timeout_global(Some(timeout)).build();
        self.agent.run(request)
    }

    /// Sends a message, and follows redirects within the origin.
    fn post(&self, message: &Value, deadline: Instant) -> Result<http::Response<ureq::Body>, ProbeProblem> {
        let mut address = self.address.clone();
        for _ in 0..MOST_REDIRECTS {
            let left = deadline.saturating_duration_since(Instant::now());
            let response = self
                .exchange(Method::POST, Some(message), &address, left)
                .map_err(|error| problem(&error))?;
            let status = response.status();
            // Other redirects turn a POST into a GET.
            if !matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
                return Ok(response);
            }
            let place = response.headers().get(LOCATION).and_then(|place| place.to_str().ok());
            let Some(next) = place.and_then(|place| resolve(&address, place)) else { return Ok(response) };
            if origin(&next) != origin(&self.address) {
                let place = shown_url(&next.to_string());
                let mut text = format!("it redirects to another origin, {place} ({})", status.as_u16());
                if !self.headers.is_empty() {
                    text.push_str("; the headers of the entry were not sent there");
                }
                return Err(ProbeProblem { kind: FailureKind::HttpStatus, text });
            }
            address = next;
        }
        let text = format!("it redirects more than {MOST_REDIRECTS} times");
        Err(ProbeProblem { kind: FailureKind::HttpStatus, text })
    }

    /// Sends `message` and reads the answers to it.
    fn ask(&mut self, message: &Value, deadline: Instant) -> Result<(), ProbeProblem> {
        let response = self.post(message, deadline)?;
        let (head, mut body) = response.into_parts();
        let id = message["id"].as_u64().unwrap_or_default();
        if !head.status.is_success() {
            return self.refused(message, id, head.status);
        }
        if message["method"] == "initialize" {
            self.session_id = head.headers.get(SESSION_ID).cloned();
        }
        let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let mut reader = body.with_config().limit(MAX_ANSWER).reader();
        match kind.split(';').next().unwrap_or_default().trim() {
            "application/json" => {
                let mut text = Vec::new();
                let read = reader.read_to_end(&mut text);
                read.map_err(|error| problem(&ureq::Error::from(error)))?;
                let message = parsed(&text)?.ok_or_else(|| protocol_error("the answer is not JSON"))?;
                self.take(&message, &text)?;
            }
            "text/event-stream" => self.read_events(BufReader::new(reader), id, deadline)?,
            kind => {
                let kind = if kind.is_empty() { "no content type" } else { kind };
                let kind = Redactor::default().redact(Field::Name, kind.as_bytes()).as_str().to_owned();
                let text = format!("it answers with {kind} instead of MCP");
                return Err(ProbeProblem { kind: FailureKind::NotMcp, text });
            }
        }
        if !self.replies.iter().any(|reply| reply.id == id) {
            // An error for a first message that is unknown may have no id.
            if !self.is_first(message) {
                return Err(protocol_error("the server ended its answer without a result"));
            }
            self.replies.push_back(ProbeReply::error(id, None));
        }
        Ok(())
    }

    fn is_first(&self, message: &Value) -> bool {
        message["method"] == "server/discover" && self.last_id == 1
    }

    /// Judges an answer that is not a success.
    fn refused(&mut self, message: &Value, id: u64, status: StatusCode) -> Result<(), ProbeProblem> {
        let (kind, text) = match status.as_u16() {
            401 if self.has_credentials => {
                (FailureKind::NeedsSignIn, "it refuses the credentials (401)".to_owned())
            }
            401 => (FailureKind::NeedsSignIn, "it wants a sign-in (401)".to_owned()),
            code => {
                let name = status.canonical_reason().map(|name| format!(" {name}")).unwrap_or_default();
                let to = message["method"].as_str().unwrap_or("an answer").to_owned();
                (FailureKind::HttpStatus, format!("it answers {to} with HTTP {code}{name}"))
            }
        };
        // A server of an older revision refuses the first message in any way.
        if kind == FailureKind::HttpStatus && self.is_first(message) {
            self.replies.push_back(ProbeReply::error(id, Some(i64::from(status.as_u16()))));
            return Ok(());
        }
        Err(ProbeProblem { kind, text })
    }

    /// Reads server-sent events until the answer to request `id`.
    fn read_events(
        &mut self,
        mut events: impl BufRead,
        id: u64,
        deadline: Instant,
    ) -> Result<(), ProbeProblem> {
        let (mut data, mut answered) = (String::new(), 0);
        loop {
            let mut line = Vec::new();
            let read = events.read_until(b'\n', &mut line);
            let is_end = read.map_err(|error| problem(&ureq::Error::from(error)))? == 0;
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if let Some(rest) = line.strip_prefix("data:") {
                data.push_str(rest.strip_prefix(' ').unwrap_or(rest));
                data.push('\n');
            }
            if !line.is_empty() || data.is_empty() {
                if is_end {
                    return Ok(());
                }
                continue;
            }
            // An event without data primes a stream that can be resumed.
            let text = std::mem::take(&mut data);
            if let Some(message) = parsed(text.as_bytes())? {
                if let Some(answer) =
                    self.take(&message, text.as_bytes())?.filter(|_| answered < MOST_REQUESTS)
                {
                    answered += 1;
                    let _ = self.post(&answer, deadline)?;
                }
                if self.replies.iter().any(|reply| reply.id == id) {
                    return Ok(());
                }
            }
        }
    }

    /// Keeps an answer; returns our answer to a request of the server. `text` is the message as it came.
    fn take(&mut self, message: &Value, text: &[u8]) -> Result<Option<Value>, ProbeProblem> {
        if message["jsonrpc"] != "2.0" {
            let text = "it answers with JSON that is not JSON-RPC".to_owned();
            return Err(ProbeProblem { kind: FailureKind::NotMcp, text });
        }
        if message["method"].is_string() {
            return answer_to(message);
        }
        if let Some(reply) = reply_of(message, text)? {
            if let ProbeAnswer::Result(result) = &reply.answer
                && let Some(version) = result["protocolVersion"].as_str()
            {
                self.version = HeaderValue::from_str(version).ok();
            }
            self.replies.push_back(reply);
        }
        Ok(None)
    }
}

impl ProbePeer for HttpServer {
    fn request(&mut self, method: &str, params: Value) -> Result<u64, ProbeProblem> {
        self.last_id += 1;
        self.unsent = Some(json!({"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params}));
        Ok(self.last_id)
    }

    fn send(&mut self, message: &Value) -> Result<(), ProbeProblem> {
        let status = self.post(message, Instant::now() + self.timeout)?.status();
        match status.is_success() {
            true => Ok(()),
            false => self.refused(message, 0, status),
        }
    }

    fn reply(&mut self, deadline: Instant) -> Result<Option<ProbeReply>, ProbeProblem> {
        if self.replies.is_empty()
            && let Some(message) = self.unsent.take()
        {
            match self.ask(&message, deadline) {
                Err(ProbeProblem { kind: FailureKind::NoAnswer, .. }) => return Ok(None),
                asked => asked?,
            }
        }
        Ok(self.replies.pop_front())
    }
}

/// Returns why an exchange failed. Addresses and texts of the server are not quoted.
fn problem(error: &ureq::Error) -> ProbeProblem {
    let (kind, text) = match NetworkFailure::of(error) {
        NetworkFailure::LateName => (FailureKind::Dns, "its name was not resolved in time"),
        NetworkFailure::LateConnection => (FailureKind::Connect, "it accepted no connection in time"),
        NetworkFailure::LateAnswer => (FailureKind::NoAnswer, "no answer in time"),
        NetworkFailure::UnknownName => (FailureKind::Dns, "the name in its address is unknown"),
        NetworkFailure::Tls => (FailureKind::Tls, "its certificate or TLS is not valid"),
        NetworkFailure::TooLong => (FailureKind::ProtocolError, "its answer is larger than 16 MiB"),
        NetworkFailure::NotHttp => (FailureKind::NotMcp, "it does not answer in HTTP"),
        NetworkFailure::Refused => (FailureKind::Connect, "the connection was refused"),
        NetworkFailure::Ended => (FailureKind::Connect, "the connection ended before an answer"),
        NetworkFailure::Unreachable => (FailureKind::Connect, "it cannot be reached"),
    };
    ProbeProblem { kind, text: text.to_owned() }
}

/// Returns scheme, host and port.
fn origin(uri: &Uri) -> (Option<&str>, Option<String>, Option<u16>) {
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    (uri.scheme_str(), uri.host().map(str::to_ascii_lowercase), uri.port_u16().or(Some(default)))
}

/// Returns the address that `place` names in an answer of `base`.
fn resolve(base: &Uri, place: &str) -> Option<Uri> {
    // A query can contain another address.
    if place.split_once("://").is_some_and(|(scheme, _)| !scheme.contains(['/', '?', '#'])) {
        return place.parse().ok();
    }
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    match place.strip_prefix("//") {
        Some(rest) => format!("{scheme}://{rest}").parse().ok(),
        None if place.starts_with('/') => format!("{scheme}://{authority}{place}").parse().ok(),
        None => {
            let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{place}").parse().ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_what_may_be_secret() {
        for (url, shown) in [
            ("https://ada:pw@h.example/mcp?key=1#x", "https://h.example/mcp"),
            ("http://localhost:8080/a/b", "http://localhost:8080/a/b"),
            ("https://h/s/1f9c0b7a6e5d4c3b/mcp", "https://h/s/.../mcp"),
            ("https://h/abcdefghijklmnopqrstuvwxyz", "https://h/..."),
            ("not a url", "an address that is not a URL"),
        ] {
            assert_eq!(shown_url(url), shown);
        }
    }

    #[test]
    fn an_address_that_cannot_be_one_is_refused_with_the_reason() {
        let port = "has a port that is not a number from 1 to 65535";
        for (url, reason) in [
            ("http://", "has no host"),
            ("https:///mcp", "has no host"),
            ("http://:80/", "has no host"),
            ("http://ada:pw@/", "has no host"),
            ("ftp://x/y", "begins with neither http:// nor https://"),
            ("mcp.example.com/mcp", "begins with neither http:// nor https://"),
            ("http://h ost/", "is not a URL"),
            ("http://h:99999/", port),
            ("http://ada:pw@h:0/", port),
            ("http://[::1]:x/", port),
        ] {
            assert_eq!(address_of(url), Err(reason), "{url}");
        }
        for url in [
            "http://h",
            "HTTPS://H:443/",
            "http://ada:pw@h:8080?a=://",
            "http://[::1]:80/mcp",
            "http://[::1]/",
        ] {
            assert!(address_of(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn places_are_resolved_and_compared_by_origin() {
        let base: Uri = "https://h.example/a/mcp".parse().unwrap();
        for (place, is_same) in [
            ("/x", true),
            ("x", true),
            ("https://H.example:443/y", true),
            ("/login?next=https://other.example/", true),
            ("login?next=https://other.example/", true),
            ("//other.example/x", false),
            ("http://h.example/a", false),
            ("https://h.example:8443/a", false),
        ] {
            assert_eq!(origin(&resolve(&base, place).unwrap()) == origin(&base), is_same, "{place}");
        }
    }
}
