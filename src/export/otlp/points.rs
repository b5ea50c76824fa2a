//! Sends the points of metrics, through the exporter of the OpenTelemetry crate.
//!
//! The crate encodes the points, and spantap's own client sends them. The crate's exporter would take headers and
//! compression from the environment for every endpoint, and it returns success or failure only. [`EncodedPoints`]
//! hides both: it takes the encoded body from the exporter, sends it with spantap's client, and keeps the outcome.

use std::future::Future;
use std::io::Read as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{MetricExporter, Protocol, RetryPolicy, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, ManualReader, Pipeline, Temporality};

use crate::export::otlp::losses::LossCounts;
use crate::export::otlp::outcome::Outcome;
use crate::export::otlp::queue::{Due, Queue};
use crate::export::otlp::sender::Backoff;
use crate::export::otlp::settings::{Signal, SignalTarget};
use crate::export::otlp::transport::CollectorClient;
use crate::system::mutex::lock;

/// The time limit that the crate requires. Our client has one of its own.
const NO_LIMIT: Duration = Duration::from_secs(24 * 3600);

pub(super) struct PointExporter {
    exporter: MetricExporter,
    /// Outcome of the last exchange, until it is read.
    outcome: Arc<Mutex<Option<Outcome>>>,
}

impl PointExporter {
    /// Must be called inside a runtime.
    pub(super) fn new(target: &SignalTarget, temporality: Temporality) -> anyhow::Result<PointExporter> {
        let outcome = Arc::default();
        let client = CollectorClient::new(target, Signal::Metrics)?;
        let exporter = MetricExporter::builder()
            .with_temporality(temporality)
            .with_http()
            .with_http_client(EncodedPoints { client, outcome: Arc::clone(&outcome) })
            .with_endpoint(&target.endpoint)
            .with_timeout(NO_LIMIT)
            .with_protocol(Protocol::HttpBinary)
            // Points are not sent again: sums go on.
            .with_retry_policy(RetryPolicy::disabled())
            .build()
            // The crate's message quotes the endpoint, which may hold credentials.
            .map_err(|_| anyhow::anyhow!("the endpoint is not a URL"))?;
        Ok(PointExporter { exporter, outcome })
    }

    async fn send(&self, points: &ResourceMetrics) -> Outcome {
        let result = self.exporter.export(points).await;
        match (lock(&self.outcome).take(), result) {
            (Some(outcome), _) => outcome,
            (None, Ok(())) => Outcome::default(),
            // The points never reached the client.
            (None, Err(_)) => Outcome::lost("not_encoded"),
        }
    }
}

/// The client that the crate's exporter sends with.
struct EncodedPoints {
    client: CollectorClient,
    outcome: Arc<Mutex<Option<Outcome>>>,
}

impl std::fmt::Debug for EncodedPoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EncodedPoints")
    }
}

impl HttpClient for EncodedPoints {
    fn send_bytes<'client, 'future>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'client: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            let outcome = self.client.send(uncompressed(&request)?).await;
            let failure = outcome.failure;
            *lock(&self.outcome) = Some(outcome);
            failure.map_or_else(|| Ok(Response::new(Bytes::new())), |reason| Err(HttpError::from(reason)))
        })
    }
}

/// Returns the message, which the crate compresses if the environment asks for compression.
fn uncompressed(request: &Request<Bytes>) -> std::io::Result<Vec<u8>> {
    let body = request.body();
    if !request.headers().contains_key(CONTENT_ENCODING) {
        return Ok(body.to_vec());
    }
    let mut message = Vec::new();
    flate2::read::GzDecoder::new(body.as_ref()).read_to_end(&mut message)?;
    Ok(message)
}

/// Sends points at intervals, and knows which losses the last ones contain.
pub(super) struct PointSender {
    exporter: PointExporter,
    reader: SharedReader,
    losses: Arc<LossCounts>,
    /// Losses that the last points contain.
    sent_losses: u64,
    backoff: Backoff,
}

impl PointSender {
    pub(super) fn new(
        exporter: PointExporter,
        reader: SharedReader,
        losses: Arc<LossCounts>,
        backoff: Backoff,
    ) -> PointSender {
        PointSender { exporter, reader, losses, sent_losses: 0, backoff }
    }

    /// Sends `first`, then the points of each `interval` until the end, and at the end.
    pub(super) async fn run(
        mut self,
        first: ResourceMetrics,
        interval: Duration,
        end: &Queue,
    ) -> PointSender {
        self.send(&first).await;
        while let Due::Now = end.nap(interval).await {
            if self.backoff.may_try() {
                self.send_now().await;
            }
        }
        self.send_now().await;
        self
    }

    /// Sends the last points once more if spans or logs were lost after they had been sent.
    pub(super) async fn send_last_losses(mut self) {
        if self.losses.total() > self.sent_losses && !self.backoff.failing {
            self.send_now().await;
        }
    }

    async fn send_now(&mut self) {
        let losses = self.losses.total();
        let mut points = ResourceMetrics::default();
        if self.reader.0.collect(&mut points).is_ok() {
            self.send(&points).await;
            self.sent_losses = losses;
        }
    }

    async fn send(&mut self, points: &ResourceMetrics) {
        let outcome = self.exporter.send(points).await;
        self.backoff.note(&outcome);
    }
}

/// A reader that the provider and the sending thread share.
#[derive(Clone, Debug)]
pub(super) struct SharedReader(pub(super) Arc<ManualReader>);

impl MetricReader for SharedReader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}
