//! One signal on its way to its collector: batches, back-off, and the end.
//!
//! Each signal has a lane of its own, so that a collector that hangs over one of them costs the others
//! nothing.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{LogBatch, LogExporter as _, SdkLogRecord};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::task::JoinSet;

use crate::export::otlp::logs::LogBuilder;
use crate::export::otlp::losses::LossCounts;
use crate::export::otlp::outcome::{self, Outcome};
use crate::export::otlp::queue::{Due, Queue};
use crate::export::otlp::spans::SpanBuilder;
use crate::export::otlp::{SharedReader, WarnCallback, semconv};
use crate::record::line::Kept;

/// Batches that are on their way at the same time, where more than one waits.
const CONCURRENT: usize = 4;
/// First pause after a failure that may pass; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// When a collector that failed may be tried again, and what has been said about it.
struct Backoff {
    /// What is sent, for messages.
    what: &'static str,
    pause: Duration,
    not_before: Option<Instant>,
    failing: bool,
    rejecting: bool,
    warn: WarnCallback,
}

impl Backoff {
    fn new(what: &'static str, warn: WarnCallback) -> Backoff {
        Backoff { what, pause: FIRST_PAUSE, not_before: None, failing: false, rejecting: false, warn }
    }

    fn may_try(&self) -> bool {
        self.not_before.is_none_or(|at| Instant::now() >= at)
    }

    fn note(&mut self, outcome: &Outcome) {
        let what = self.what;
        let Some(reason) = outcome.failure else {
            if std::mem::take(&mut self.failing) {
                (self.warn)(&format!("the collector takes {what} again"));
            }
            if outcome.rejected > 0 && !std::mem::replace(&mut self.rejecting, true) {
                (self.warn)(&format!("the collector rejects some of the {what}"));
            }
            self.pause = FIRST_PAUSE;
            self.not_before = None;
            return;
        };
        if !std::mem::replace(&mut self.failing, true) {
            (self.warn)(&format!("the collector does not take {what} ({reason}); traffic is not affected"));
        }
        let pause = outcome.retry_after.unwrap_or(self.pause);
        self.not_before = Some(Instant::now() + pause + jitter(self.pause));
        self.pause = (self.pause * 2).min(MAX_PAUSE);
    }
}

/// Up to a quarter of `pause`, so that many proxies do not come back at the same instant.
fn jitter(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness from the system there is no jitter, and nothing else is lost.
    let _ = getrandom::fill(&mut byte);
    pause.mul_f64(f64::from(byte[0]) / 1024.0)
}

/// An exporter of single items, which makes of them what is sent.
pub(super) trait Carrier: Send + Sync + 'static {
    type Item: Send + Sync + 'static;

    fn carry(&self, batch: &[Self::Item]) -> impl Future<Output = Outcome> + Send;

    fn set_resource(&mut self, resource: &Resource);
}

/// What becomes a span. Many may wait while a collector is away, so most wait as lines, which take a
/// third of a span's memory.
pub(super) enum Waiting {
    Connection(Box<SpanData>),
    Operation(Kept),
}

pub(super) struct Spans {
    pub(super) exporter: opentelemetry_otlp::SpanExporter,
    pub(super) maker: SpanBuilder,
}

impl Carrier for Spans {
    type Item = Waiting;

    async fn carry(&self, batch: &[Waiting]) -> Outcome {
        let make = |waiting: &Waiting| match waiting {
            Waiting::Connection(span) => Some(SpanData::clone(span)),
            Waiting::Operation(kept) => self.maker.operation(&kept.record().ok()?),
        };
        let spans = batch.iter().filter_map(make).collect();
        outcome::of(self.exporter.export(spans)).await
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

pub(super) struct Logs {
    pub(super) exporter: opentelemetry_otlp::LogExporter,
    pub(super) builder: LogBuilder,
}

impl Carrier for Logs {
    type Item = Kept;

    async fn carry(&self, batch: &[Kept]) -> Outcome {
        let scope = semconv::scope();
        let logs: Vec<SdkLogRecord> =
            batch.iter().filter_map(|kept| Some(self.builder.log(&kept.record().ok()?))).collect();
        let pairs: Vec<(&SdkLogRecord, &InstrumentationScope)> =
            logs.iter().map(|log| (log, &scope)).collect();
        outcome::of(self.exporter.export(LogBatch::new(&pairs))).await
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Sends what is in `queue` until its end. What is left then stays in it.
pub(super) async fn run<C: Carrier>(
    what: &'static str,
    mut carrier: C,
    queue: &Queue<C::Item>,
    losses: &LossCounts,
    warn: WarnCallback,
) {
    let mut backoff = Backoff::new(what, warn);
    let mut size = queue.limits().batch;
    loop {
        let closing = matches!(queue.due(backoff.not_before).await, Due::Closing);
        if let Some(resource) = queue.new_resource() {
            carrier.set_resource(&resource);
        }
        let shared = Arc::new(carrier);
        // What comes in while we send waits its time, unless it fills a batch.
        let mut at_least = 1;
        // At the end nobody waits for a collector's pause; it is asked once more, and that was it.
        while closing || backoff.may_try() {
            let batches = queue.take(CONCURRENT, size, at_least);
            if batches.is_empty() {
                break;
            }
            at_least = if closing { 1 } else { size };
            let mut on_their_way = JoinSet::new();
            for batch in batches {
                let carrier = Arc::clone(&shared);
                on_their_way.spawn(async move {
                    let outcome = carrier.carry(&batch).await;
                    (batch, outcome)
                });
            }
            let mut come_back = Vec::new();
            while let Some(arrived) = on_their_way.join_next().await {
                // A panic in the exporter: its items are still in hand, and lost at the end.
                let Ok((batch, outcome)) = arrived else { continue };
                let count = batch.len();
                let smaller = outcome.too_large && count > 1;
                if smaller {
                    size = count.div_ceil(2);
                } else {
                    backoff.note(&outcome);
                    if outcome.failure.is_none() {
                        // One large item says nothing of those that follow.
                        size = (size + size.div_ceil(8)).min(queue.limits().batch);
                    }
                }
                if smaller || outcome.retryable {
                    come_back.push(batch);
                } else if queue.settle(count) {
                    let lost = if outcome.failure.is_some() { count as u64 } else { outcome.rejected };
                    losses.add(outcome.failure.unwrap_or("rejected"), lost.min(count as u64));
                }
            }
            for batch in come_back {
                losses.add("queue_full", queue.put_back(batch));
            }
            if closing && !backoff.may_try() && backoff.failing {
                break;
            }
        }
        let Some(back) = Arc::into_inner(shared) else { return };
        carrier = back;
        if closing {
            return;
        }
    }
}

/// Sends points, and knows which losses they tell of.
pub(super) struct Points {
    exporter: opentelemetry_otlp::MetricExporter,
    reader: SharedReader,
    losses: Arc<LossCounts>,
    /// Losses that the last points tell of.
    told: u64,
    backoff: Backoff,
}

impl Points {
    pub(super) fn new(
        exporter: opentelemetry_otlp::MetricExporter,
        reader: SharedReader,
        losses: Arc<LossCounts>,
        warn: WarnCallback,
    ) -> Points {
        Points { exporter, reader, losses, told: 0, backoff: Backoff::new("metrics", warn) }
    }

    /// Sends `first`, then what there is each `interval` until the end, and at the end.
    pub(super) async fn run(mut self, first: ResourceMetrics, interval: Duration, end: &Queue<()>) -> Points {
        self.send(&first).await;
        while let Due::Now = end.nap(interval).await {
            if self.backoff.may_try() {
                self.send_now().await;
            }
        }
        self.send_now().await;
        self
    }

    /// The last points once more, where spans or logs were lost after they had been sent.
    pub(super) async fn tell_the_last_losses(mut self) {
        if self.losses.total() > self.told && !self.backoff.failing {
            self.send_now().await;
        }
    }

    async fn send_now(&mut self) {
        let told = self.losses.total();
        let mut points = ResourceMetrics::default();
        if self.reader.0.collect(&mut points).is_ok() {
            self.send(&points).await;
            self.told = told;
        }
    }

    /// A point that was not taken is made good by the next one: sums go on.
    async fn send(&mut self, points: &ResourceMetrics) {
        let outcome = outcome::of(self.exporter.export(points)).await;
        self.backoff.note(&outcome);
    }
}
