//! Exporters of the OpenTelemetry crate, each over a client of ours that keeps its deadlines.
//!
//! The crate encodes; what goes over the network is ours. Its own clients follow the proxy variables even
//! for localhost, read answers of any length at any speed and take headers from the environment for
//! whatever endpoint there is. Ours has one deadline for the whole exchange, follows no redirect, reads at
//! most 64 KiB of an answer and sends the headers of its settings and no others.

use std::future::Future;
use std::io::Read as _;
use std::path::Path;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT as AGENT};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    Compression, LogExporter, MetricExporter, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::metrics::Temporality;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::export::otlp::grpc::Grpc;
use crate::export::otlp::outcome::{self, Outcome};
use crate::export::otlp::settings::{Protocol, Signal, SignalTarget};
use crate::export::otlp::wire::{MAX_ANSWER, USER_AGENT, read};

/// Time for one export where no limit was asked for.
const NO_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// What the exporter of one signal sends with.
enum Client {
    Http(Http),
    Grpc(Grpc),
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl HttpClient for Client {
    fn send_bytes<'client, 'future>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'client: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            let outcome = match self {
                Client::Http(http) => http.send(request).await,
                Client::Grpc(grpc) => grpc.send(plain(request)?).await,
            };
            let failed = outcome.failure;
            outcome::report(outcome);
            match failed {
                None => Ok(Response::new(Bytes::new())),
                Some(reason) => Err(HttpError::from(reason)),
            }
        })
    }
}

/// The message itself: gRPC compresses by itself, and the environment may have made the crate do it.
fn plain(request: Request<Bytes>) -> std::io::Result<Bytes> {
    let (head, body) = request.into_parts();
    if !head.headers.contains_key(CONTENT_ENCODING) {
        return Ok(body);
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(body.as_ref()).read_to_end(&mut plain)?;
    Ok(plain.into())
}

/// OTLP over HTTP/1.1. The agent blocks, on a thread of the runtime that is there for that.
struct Http {
    agent: ureq::Agent,
    headers: HeaderMap,
    signal: Signal,
    json: bool,
}

impl Http {
    fn new(target: &SignalTarget, signal: Signal) -> anyhow::Result<Http> {
        let config = ureq::Agent::config_builder()
            .tls_config(tls(target)?)
            .timeout_global(target.timeout)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false);
        let config = if is_local(&target.endpoint) { config.proxy(None) } else { config };
        let mut headers = HeaderMap::new();
        for (name, value) in &target.headers {
            let (Ok(name), Ok(mut value)) =
                (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
            else {
                anyhow::bail!("a header cannot be sent over HTTP");
            };
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        // A user agent that somebody set is theirs.
        headers.entry(AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
        let json = target.protocol == Protocol::HttpJson;
        Ok(Http { agent: config.build().new_agent(), headers, signal, json })
    }

    async fn send(&self, request: Request<Bytes>) -> Outcome {
        let (mut head, body) = request.into_parts();
        let mut headers = self.headers.clone();
        for name in [CONTENT_TYPE, CONTENT_ENCODING] {
            headers.extend(head.headers.remove(&name).map(|value| (name, value)));
        }
        head.headers = headers;
        let agent = self.agent.clone();
        let exchange =
            move || -> Result<(http::response::Parts, Result<Vec<u8>, ureq::Error>), ureq::Error> {
                let (head, mut body) = agent.run(Request::from_parts(head, body.to_vec()))?.into_parts();
                Ok((head, body.with_config().limit(MAX_ANSWER).read_to_vec()))
            };
        match tokio::task::spawn_blocking(exchange).await {
            Ok(Ok((head, body))) => self.judge(&head, body.as_deref()),
            Ok(Err(error)) => Outcome::not_now(reason(&error)),
            Err(_) => Outcome::lost("exporter_panic"),
        }
    }

    /// Whether the answer is JSON: what it says of itself counts, not what was asked.
    fn is_json(&self, head: &http::response::Parts) -> bool {
        let kind = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        kind.map_or(self.json, |kind| kind.starts_with("application/json"))
    }

    /// Source: OTLP specification, "OTLP/HTTP Response" and "OTLP/HTTP Throttling".
    fn judge(&self, head: &http::response::Parts, body: Result<&[u8], &ureq::Error>) -> Outcome {
        let retry_after = head.headers.get("retry-after").and_then(|value| retry_after(value.to_str().ok()?));
        match head.status.as_u16() {
            200..=299 => match body {
                Ok(body) => Outcome::taken(outcome::rejected(self.signal, self.is_json(head), body)),
                // Taken or not, nobody knows; a second time would be one too many.
                Err(_) => Outcome::lost("answer_unreadable"),
            },
            300..=399 => Outcome::lost("http_redirect"),
            429 => Outcome::not_now("http_429").after(retry_after),
            503 => Outcome::not_now("http_503").after(retry_after),
            502 => Outcome::not_now("http_502"),
            504 => Outcome::not_now("http_504"),
            400 => Outcome::lost("http_400"),
            401 => Outcome::lost("http_401"),
            403 => Outcome::lost("http_403"),
            404 => Outcome::lost("http_404"),
            413 => Outcome { too_large: true, ..Outcome::lost("http_413") },
            415 => Outcome::lost("http_415"),
            status => Outcome::lost(match status / 100 {
                4 => "http_4xx",
                5 => "http_5xx",
                _ => "http_other",
            }),
        }
    }
}

/// Why there is no answer. Everything here may pass: a connection that failed, or ended without an answer.
fn reason(error: &ureq::Error) -> &'static str {
    use std::io::ErrorKind;
    match error {
        ureq::Error::Timeout(_) => "timeout",
        ureq::Error::HostNotFound => "unknown_host",
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => "tls",
        ureq::Error::Protocol(_) | ureq::Error::Http(_) => "no_http",
        ureq::Error::Io(error) => match error.kind() {
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::UnexpectedEof
            | ErrorKind::BrokenPipe => "reset",
            ErrorKind::TimedOut => "timeout",
            // rustls tells a bad certificate as bad data.
            ErrorKind::InvalidData => "tls",
            _ => "refused",
        },
        _ => "refused",
    }
}

/// Seconds, or an HTTP date (RFC 9110 §10.2.3).
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(at.as_second()).ok()?);
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

fn tls(target: &SignalTarget) -> anyhow::Result<TlsConfig> {
    let mut tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
    if let Some(path) = &target.certificate {
        tls = tls.root_certs(RootCerts::new_with_certs(&certificates(path)?));
    }
    if let (Some(certificate), Some(key)) = (&target.client_certificate, &target.client_key) {
        let chain = certificates(certificate)?;
        let key = pem(key)?.into_iter().find_map(|item| match item {
            PemItem::PrivateKey(key) => Some(key),
            _ => None,
        });
        let key: PrivateKey<'static> = key.context("the client key file holds no private key")?;
        tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
    }
    Ok(tls.build())
}

fn certificates(path: &Path) -> anyhow::Result<Vec<Certificate<'static>>> {
    let certificates: Vec<_> = pem(path)?
        .into_iter()
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    anyhow::ensure!(!certificates.is_empty(), "`{}` holds no certificate", path.display());
    Ok(certificates)
}

fn pem(path: &Path) -> anyhow::Result<Vec<PemItem<'static>>> {
    parse_pem(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|_| anyhow::anyhow!("`{}` is not PEM", path.display()))
}

/// A collector on this machine is never reached through a proxy.
fn is_local(endpoint: &str) -> bool {
    let Ok(uri) = endpoint.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

macro_rules! build {
    ($builder:expr, $target:expr, $signal:expr) => {{
        let target: &SignalTarget = $target;
        let client = match target.protocol {
            Protocol::Grpc => Client::Grpc(Grpc::new(target, $signal)?),
            _ => Client::Http(Http::new(target, $signal)?),
        };
        let mut builder = $builder
            .with_http()
            .with_http_client(client)
            .with_endpoint(&target.endpoint)
            .with_timeout(NO_LIMIT)
            .with_protocol(match target.protocol {
                Protocol::HttpJson => opentelemetry_otlp::Protocol::HttpJson,
                _ => opentelemetry_otlp::Protocol::HttpBinary,
            })
            // We try again ourselves, from a queue that is bounded, instead of holding a batch for seconds.
            .with_retry_policy(RetryPolicy::disabled());
        if target.gzip && target.protocol != Protocol::Grpc {
            builder = builder.with_compression(Compression::Gzip);
        }
        // The crate's message quotes the endpoint, which may hold credentials.
        builder.build().map_err(|_| anyhow::anyhow!("the endpoint is no URL"))
    }};
}

/// # Errors
/// When the endpoint, a header or a file cannot be used. Must be called inside a runtime.
pub fn spans(target: &SignalTarget) -> anyhow::Result<SpanExporter> {
    build!(SpanExporter::builder(), target, Signal::Traces)
}

/// # Errors
/// As [`spans`].
pub fn logs(target: &SignalTarget) -> anyhow::Result<LogExporter> {
    build!(LogExporter::builder(), target, Signal::Logs)
}

/// # Errors
/// As [`spans`].
pub fn metrics(target: &SignalTarget, temporality: Temporality) -> anyhow::Result<MetricExporter> {
    build!(MetricExporter::builder().with_temporality(temporality), target, Signal::Metrics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_says_seconds_or_a_date() {
        assert_eq!(retry_after("120"), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert!(retry_after("Tue, 31 Dec 2199 23:59:59 GMT").unwrap() > Duration::from_secs(3600));
        assert_eq!(retry_after("soon"), None);
    }

    #[test]
    fn only_this_machine_is_local() {
        assert!(is_local("http://localhost:4318/v1/traces") && is_local("http://127.0.0.1:1"));
        assert!(is_local("http://[::1]:4318") && is_local("http://127.9.9.9"));
        for elsewhere in
            ["https://collector.example:4318", "http://localhost.example", "http://127.example.com"]
        {
            assert!(!is_local(elsewhere), "{elsewhere}");
        }
    }
}
