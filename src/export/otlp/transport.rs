//! Sends encoded requests over HTTP or gRPC.
//!
//! The clients of the OpenTelemetry crate follow the proxy variables even for localhost, read answers of any
//! length at any speed and take headers from the environment for every endpoint. The client of this module uses
//! no proxy for a local endpoint, has one deadline for the whole exchange, follows no redirect, reads at most
//! 64 KiB of an answer and sends only the headers of its settings.

use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use bytes::Bytes;
use flate2::write::GzEncoder;
use http::Request;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT as AGENT};
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    trace::v1::ExportTraceServiceRequest,
};
use prost::Message;
use serde::Serialize;
use ureq::config::Config;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::export::otlp::grpc::GrpcClient;
use crate::export::otlp::limits::{MAX_ANSWER, USER_AGENT, read};
use crate::export::otlp::outcome::{self, Outcome};
use crate::export::otlp::settings::{Protocol, Signal, SignalTarget};
use crate::system::network::{self, NetworkFailure};
use crate::system::thread::{self, Duty};

/// Sends requests of one signal to one collector.
pub(super) enum CollectorClient {
    Http(HttpClient),
    Grpc(GrpcClient),
}

impl CollectorClient {
    /// Connects when it is first used. Must be called inside a runtime.
    pub(super) fn new(target: &SignalTarget, signal: Signal) -> anyhow::Result<CollectorClient> {
        Ok(match target.protocol {
            Protocol::Grpc => CollectorClient::Grpc(GrpcClient::new(target, signal)?),
            _ => CollectorClient::Http(HttpClient::new(target, signal)?),
        })
    }

    /// Sends one request, encoded as protobuf without compression.
    pub(super) async fn send(&self, request: Vec<u8>) -> Outcome {
        match self {
            CollectorClient::Http(client) => client.send(request).await,
            CollectorClient::Grpc(client) => client.send(request.into()).await,
        }
    }
}

/// Looks names up on a thread with a stack of a known size. That of the HTTP client takes its size from a variable
/// of the host.
#[derive(Debug)]
struct NameLookup;

impl Resolver for NameLookup {
    fn resolve(
        &self,
        uri: &http::Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let (to, from) = sync_channel(1);
        let (uri, config) = (uri.clone(), config.clone());
        let look_up = move || {
            let found = DefaultResolver::default().resolve(&uri, &config, NextTimeout::default());
            let _ = to.send(found);
        };
        thread::spawn(Duty::Export, "lookup", look_up)?;
        let late = |_| Err(ureq::Error::Timeout(timeout.reason));
        from.recv_timeout(*timeout.after).unwrap_or_else(late)
    }
}

/// OTLP over HTTP/1.1. The agent blocks a thread that the runtime has for blocking calls.
pub(super) struct HttpClient {
    agent: ureq::Agent,
    endpoint: http::Uri,
    headers: HeaderMap,
    signal: Signal,
    json: bool,
    gzip: bool,
}

impl HttpClient {
    pub(super) fn new(target: &SignalTarget, signal: Signal) -> anyhow::Result<HttpClient> {
        let config = ureq::Agent::config_builder()
            .tls_config(tls(target)?)
            .timeout_global(target.timeout)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false);
        let is_local = target.endpoint.parse().is_ok_and(|endpoint| network::is_local(&endpoint));
        let config = if target.is_direct || is_local { config.proxy(None) } else { config };
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
        // The settings may name another user agent.
        headers.entry(AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
        let (json, gzip) = (target.protocol == Protocol::HttpJson, target.gzip);
        let kind = if json { "application/json" } else { "application/x-protobuf" };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        // The error would quote the endpoint, which may hold credentials.
        let endpoint = target.endpoint.parse().ok().context("the endpoint is not a URL")?;
        let agent = ureq::Agent::with_parts(config.build(), DefaultConnector::default(), NameLookup);
        Ok(HttpClient { agent, endpoint, headers, signal, json, gzip })
    }

    async fn send(&self, request: Vec<u8>) -> Outcome {
        match self.body(request) {
            Some(body) => self.post(HeaderMap::new(), body.into()).await,
            None => Outcome::lost("not_encoded"),
        }
    }

    /// Posts a body as it is, with these headers in place of the client's own.
    pub(super) async fn post(&self, headers: HeaderMap, body: Bytes) -> Outcome {
        let mut request = Request::post(&self.endpoint).body(()).expect("endpoint was checked");
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().extend(headers);
        let agent = self.agent.clone();
        let exchange = move || {
            let request = request.map(|()| &*body);
            let (head, mut body) = agent.run(request)?.into_parts();
            Ok((head, body.with_config().limit(MAX_ANSWER).read_to_vec()))
        };
        match tokio::task::spawn_blocking(exchange).await {
            Ok(Ok((head, body))) => self.judge(&head, body.as_deref()),
            Ok(Err(error)) => Outcome::not_now(reason(&error)),
            Err(_) => Outcome::lost("exporter_panic"),
        }
    }

    fn body(&self, request: Vec<u8>) -> Option<Vec<u8>> {
        let body = if self.json { to_json(self.signal, &request)? } else { request };
        if !self.gzip {
            return Some(body);
        }
        let mut compressed = GzEncoder::new(Vec::new(), flate2::Compression::default());
        compressed.write_all(&body).ok()?;
        compressed.finish().ok()
    }

    /// Returns true if the answer is JSON. Its own content type counts, not what was asked for.
    fn is_json(&self, head: &http::response::Parts) -> bool {
        let kind = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        kind.map_or(self.json, |kind| kind.starts_with("application/json"))
    }

    /// Source: OTLP specification, "OTLP/HTTP Response" and "OTLP/HTTP Throttling".
    fn judge(&self, head: &http::response::Parts, body: Result<&[u8], &ureq::Error>) -> Outcome {
        let retry_after = head.headers.get("retry-after").and_then(|value| retry_after(value.to_str().ok()?));
        match head.status.as_u16() {
            200..=299 => match body {
                Ok(body) => Outcome::taken(outcome::partial_success(self.signal, self.is_json(head), body)),
                // The collector may have taken the request, so it is not sent again.
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

fn to_json(signal: Signal, request: &[u8]) -> Option<Vec<u8>> {
    fn convert<M: Message + Default + Serialize>(request: &[u8]) -> Option<Vec<u8>> {
        serde_json::to_vec(&M::decode(request).ok()?).ok()
    }
    match signal {
        Signal::Traces => convert::<ExportTraceServiceRequest>(request),
        Signal::Metrics => convert::<ExportMetricsServiceRequest>(request),
        Signal::Logs => convert::<ExportLogsServiceRequest>(request),
    }
}

/// Returns why the answer is missing. All reasons may pass: the connection failed, or ended without an answer.
fn reason(error: &ureq::Error) -> &'static str {
    match NetworkFailure::of(error) {
        NetworkFailure::LateName | NetworkFailure::LateConnection | NetworkFailure::LateAnswer => "timeout",
        NetworkFailure::UnknownName => "unknown_host",
        NetworkFailure::Tls => "tls",
        NetworkFailure::NotHttp | NetworkFailure::TooLong => "no_http",
        NetworkFailure::Ended => "reset",
        NetworkFailure::Refused | NetworkFailure::Unreachable => "refused",
    }
}

/// Reads seconds or an HTTP date (RFC 9110 §10.2.3).
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
        let key: PrivateKey<'static> = key.context("the client key file does not contain a private key")?;
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
    anyhow::ensure!(!certificates.is_empty(), "`{}` does not contain a certificate", path.display());
    Ok(certificates)
}

fn pem(path: &Path) -> anyhow::Result<Vec<PemItem<'static>>> {
    parse_pem(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|_| anyhow::anyhow!("`{}` is not PEM", path.display()))
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
}
