//! Exporters of the OpenTelemetry crate, each over a client of ours that keeps its deadlines.
//!
//! The crate's own HTTP clients follow the proxy variables even for localhost and read answers of any
//! length at any speed; ours has one deadline for the whole exchange, follows no redirect and reads at
//! most 64 KiB of an answer. It also looks at answers, because the crate tells neither how many items a
//! collector rejected nor why an export failed.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    Compression, LogExporter, MetricExporter, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig,
    WithTonicConfig,
};
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceResponse, metrics::v1::ExportMetricsServiceResponse,
    trace::v1::ExportTraceServiceResponse,
};
use prost::Message;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::settings::{Protocol, Signal, Target};

/// The most that is read of an answer.
const MAX_ANSWER: u64 = 64 << 10;
/// Longest time that a collector may ask us to stay away.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);
/// Time for one export where no limit was asked for.
const NO_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// How the last exchange went.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Why it failed, as a word; `None` if it did not.
    pub failure: Option<&'static str>,
    /// Whether the same may be sent again.
    pub retryable: bool,
    pub retry_after: Option<Duration>,
    /// Items that the collector took the request without.
    pub rejected: u64,
}

/// Shared by a client and whoever counts.
pub type LastOutcome = Arc<Mutex<Outcome>>;

/// One HTTP client for one signal.
struct Client {
    agent: ureq::Agent,
    signal: Signal,
    json: bool,
    outcome: LastOutcome,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("signal", &self.signal).finish_non_exhaustive()
    }
}

impl HttpClient for Client {
    /// Blocks the exporter's own thread, which does nothing else.
    fn send_bytes<'client, 'future>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'client: 'future,
        Self: 'future,
    {
        Box::pin(async move { self.exchange(request) })
    }
}

impl Client {
    fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.send(request);
        let outcome = match &answer {
            Ok(answer) => self.judge(answer),
            Err(error) => {
                let failure = match error {
                    ureq::Error::Timeout(_) => "timeout",
                    ureq::Error::HostNotFound => "unknown_host",
                    ureq::Error::Tls(_) | ureq::Error::Rustls(_) => "tls",
                    ureq::Error::BodyExceedsLimit(_) => "answer_too_long",
                    _ => "refused",
                };
                Outcome { failure: Some(failure), retryable: true, ..Outcome::default() }
            }
        };
        if let Ok(mut last) = self.outcome.lock() {
            *last = outcome;
        }
        // What the crate makes of an error goes to logs; ours says no more than its kind.
        answer.map_err(|error| HttpError::from(format!("{error}")))
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (mut head, body) = request.into_parts();
        let agent = format!("spantap/{} {}", env!("CARGO_PKG_VERSION"), "OTel-OTLP-Exporter-Rust");
        if let Ok(agent) = agent.parse() {
            head.headers.insert("user-agent", agent);
        }
        let request = Request::from_parts(head, body.to_vec());
        let answer = self.agent.run(request)?;
        let (head, mut body) = answer.into_parts();
        let bytes = body.with_config().limit(MAX_ANSWER).read_to_vec()?;
        Ok(Response::from_parts(head, Bytes::from(bytes)))
    }

    /// Source: OTLP specification, "OTLP/HTTP Response".
    fn judge(&self, answer: &Response<Bytes>) -> Outcome {
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let seconds = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        Outcome {
            failure: match status {
                200..=299 => None,
                400..=499 if status != 429 => Some("http_4xx"),
                429 => Some("http_429"),
                500..=599 => Some("http_5xx"),
                _ => Some("http_other"),
            },
            retryable: matches!(status, 429 | 502 | 503 | 504),
            retry_after: seconds.map(|after| after.min(MAX_RETRY_AFTER)),
            rejected: if (200..=299).contains(&status) {
                rejected(self.signal, self.json, answer.body())
            } else {
                0
            },
        }
    }
}

/// `partial_success` of an answer's body: how many items the collector took the request without. An
/// answer that cannot be read rejects nothing.
pub fn rejected(signal: Signal, json: bool, body: &[u8]) -> u64 {
    let count = if json {
        let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let partial = &value["partialSuccess"];
        let field = match signal {
            Signal::Traces => &partial["rejectedSpans"],
            Signal::Metrics => &partial["rejectedDataPoints"],
            Signal::Logs => &partial["rejectedLogRecords"],
        };
        field.as_i64().or_else(|| field.as_str()?.parse().ok())
    } else {
        match signal {
            Signal::Traces => ExportTraceServiceResponse::decode(body)
                .ok()
                .and_then(|answer| answer.partial_success)
                .map(|partial| partial.rejected_spans),
            Signal::Metrics => ExportMetricsServiceResponse::decode(body)
                .ok()
                .and_then(|answer| answer.partial_success)
                .map(|partial| partial.rejected_data_points),
            Signal::Logs => ExportLogsServiceResponse::decode(body)
                .ok()
                .and_then(|answer| answer.partial_success)
                .map(|partial| partial.rejected_log_records),
        }
    };
    count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0)
}

fn client(target: &Target, signal: Signal, outcome: &LastOutcome) -> anyhow::Result<Client> {
    let mut tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
    if let Some(path) = &target.certificate {
        let certificates = pem(path)?.into_iter().filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        });
        tls = tls.root_certs(RootCerts::new_with_certs(&certificates.collect::<Vec<Certificate<'static>>>()));
    }
    if let (Some(certificate), Some(key)) = (&target.client_certificate, &target.client_key) {
        let chain: Vec<Certificate<'static>> = pem(certificate)?
            .into_iter()
            .filter_map(|item| match item {
                PemItem::Certificate(certificate) => Some(certificate),
                _ => None,
            })
            .collect();
        let key = pem(key)?.into_iter().find_map(|item| match item {
            PemItem::PrivateKey(key) => Some(key),
            _ => None,
        });
        let key: PrivateKey<'static> = key.context("the client key file holds no private key")?;
        tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
    }
    let config = ureq::Agent::config_builder()
        .tls_config(tls.build())
        .timeout_global(target.timeout)
        .max_redirects(0)
        .http_status_as_error(false);
    let config = if is_local(&target.endpoint) { config.proxy(None) } else { config };
    let json = target.protocol == Protocol::HttpJson;
    Ok(Client { agent: config.build().new_agent(), signal, json, outcome: Arc::clone(outcome) })
}

/// A collector on this machine is never reached through a proxy.
fn is_local(endpoint: &str) -> bool {
    let host = endpoint.split("://").nth(1).unwrap_or_default();
    ["localhost", "127.", "[::1]"].iter().any(|local| host.starts_with(local))
}

fn pem(path: &std::path::Path) -> anyhow::Result<Vec<PemItem<'static>>> {
    let text = std::fs::read(path).with_context(|| format!("failed to read `{}`", path.display()))?;
    parse_pem(&text).collect::<Result<_, _>>().map_err(|_| anyhow::anyhow!("`{}` is not PEM", path.display()))
}

/// We try again ourselves, from a queue that is bounded, instead of holding one batch for seconds.
fn once() -> RetryPolicy {
    RetryPolicy::disabled()
}

macro_rules! build {
    ($builder:expr, $target:expr, $signal:expr, $outcome:expr) => {{
        let (target, timeout) = ($target, $target.timeout.unwrap_or(NO_LIMIT));
        match target.protocol {
            Protocol::Grpc => {
                let mut builder = $builder
                    .with_tonic()
                    .with_endpoint(&target.endpoint)
                    .with_timeout(timeout)
                    .with_metadata(metadata(target)?)
                    .with_retry_policy(once());
                if target.gzip {
                    builder = builder.with_compression(Compression::Gzip);
                }
                if target.endpoint.starts_with("https") {
                    builder = builder.with_tls_config(grpc_tls(target)?);
                }
                builder.build()
            }
            protocol => {
                let mut builder = $builder
                    .with_http()
                    .with_http_client(client(target, $signal, $outcome)?)
                    .with_endpoint(&target.endpoint)
                    .with_timeout(timeout)
                    .with_headers(target.headers.iter().cloned().collect::<HashMap<_, _>>())
                    .with_protocol(match protocol {
                        Protocol::HttpJson => opentelemetry_otlp::Protocol::HttpJson,
                        _ => opentelemetry_otlp::Protocol::HttpBinary,
                    })
                    .with_retry_policy(once());
                if target.gzip {
                    builder = builder.with_compression(Compression::Gzip);
                }
                builder.build()
            }
        }
        .map_err(|error| anyhow::anyhow!("{error}"))
    }};
}

pub fn spans(target: &Target, outcome: &LastOutcome) -> anyhow::Result<SpanExporter> {
    build!(SpanExporter::builder(), target, Signal::Traces, outcome)
}

pub fn logs(target: &Target, outcome: &LastOutcome) -> anyhow::Result<LogExporter> {
    build!(LogExporter::builder(), target, Signal::Logs, outcome)
}

pub fn metrics(target: &Target, outcome: &LastOutcome, delta: bool) -> anyhow::Result<MetricExporter> {
    use opentelemetry_sdk::metrics::Temporality;
    let temporality = if delta { Temporality::Delta } else { Temporality::Cumulative };
    build!(MetricExporter::builder().with_temporality(temporality), target, Signal::Metrics, outcome)
}

fn metadata(target: &Target) -> anyhow::Result<tonic::metadata::MetadataMap> {
    use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
    let mut map = MetadataMap::new();
    for (name, value) in &target.headers {
        let key = MetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes());
        let value = MetadataValue::try_from(value.as_str());
        let (Ok(key), Ok(mut value)) = (key, value) else {
            anyhow::bail!("an OTLP header cannot be sent over gRPC");
        };
        value.set_sensitive(true);
        map.insert(key, value);
    }
    Ok(map)
}

fn grpc_tls(target: &Target) -> anyhow::Result<tonic::transport::ClientTlsConfig> {
    use tonic::transport::{Certificate, ClientTlsConfig, Identity};
    let read = |path: &std::path::Path| {
        std::fs::read(path).with_context(|| format!("failed to read `{}`", path.display()))
    };
    let mut tls = match &target.certificate {
        Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let (Some(certificate), Some(key)) = (&target.client_certificate, &target.client_key) {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(tls)
}
