//! The way to a collector: a bounded queue, one thread with a runtime of its own, and honest counts.
//!
//! Records become spans and logs where they are made, and wait in a queue; the thread sends what has
//! gathered every second and metrics every ten. What a collector does not take for the moment stays in
//! the queue and is tried again, later and later; what finds the queue full, is refused for good or is
//! left when time is over is counted by reason. Nothing in here is touched unless somebody asked for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{LogBatch, LogExporter as _, SdkLogRecord};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{ManualReader, SdkMeterProvider, Temporality};
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};

use super::checks::Checks;
use super::logs::Recorder;
use super::metrics::{Metrics, Prices};
use super::record::Record;
use super::trace::{Side, Tracer};
use super::{Dropped, Identity, Output, semconv};
use crate::observe::event::{Event, Kind};

pub mod settings;
pub mod transport;

pub use settings::{Settings, Table};
use transport::{LastOutcome, Outcome};

/// Spans and logs that may wait: a session of ten thousand calls that ends at once fits.
const MAX_QUEUE: usize = 16_384;
/// What is sent at once.
const MAX_BATCH: usize = 2_048;
/// How often what has gathered is sent.
const INTERVAL: Duration = Duration::from_secs(1);
/// First pause after a failure that may pass; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Spans, logs and metrics of one connection, on their way.
pub struct Otlp {
    shared: Arc<Shared>,
    tracer: Option<Tracer>,
    recorder: Option<Recorder>,
    metrics: Option<Metrics>,
    /// Taken by the thread when the first event comes.
    unsent: Option<Worker>,
    warn: Arc<dyn Fn(&str) + Send + Sync>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    dropped: Mutex<BTreeMap<&'static str, u64>>,
}

#[derive(Default)]
struct State {
    spans: VecDeque<SpanData>,
    logs: VecDeque<SdkLogRecord>,
    closing: bool,
    closed: bool,
    /// Items that are being sent.
    in_hand: u64,
}

/// What the thread owns.
struct Worker {
    settings: Settings,
    resource: Resource,
    reader: Option<SharedReader>,
    warn: Arc<dyn Fn(&str) + Send + Sync>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The resource of a connection: the server as a service (or the client, seen from its side).
fn resource(identity: &Identity, settings: &Settings) -> Resource {
    let own = [
        ("service.name", identity.server_name.as_str()),
        ("service.namespace", "mcp"),
        ("service.instance.id", identity.connection_id.as_str()),
        ("telemetry.sdk.name", "opentelemetry"),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.distro.name", semconv::SCOPE),
        ("telemetry.distro.version", env!("CARGO_PKG_VERSION")),
    ];
    let mut attributes: BTreeMap<String, String> =
        own.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    attributes.extend(settings.resource.iter().cloned());
    Resource::builder_empty()
        .with_attributes(attributes.into_iter().map(|(key, value)| KeyValue::new(key, value)))
        .build()
}

impl Otlp {
    /// Nothing is opened before the first event; `warn` gets one line when a collector stops taking what
    /// we send, and one when it takes it again.
    pub fn new(
        settings: Settings,
        identity: &Identity,
        side: Side,
        prices: Prices,
        warn: impl Fn(&str) + Send + Sync + 'static,
    ) -> Otlp {
        let tracer = settings.traces.is_some().then(|| Tracer::new(side, settings.keep));
        let (otlp, metrics) = Otlp::build(settings, identity, warn, |meter| {
            Metrics::new(meter, side, &identity.server_name, prices)
        });
        Otlp { tracer, metrics, ..otlp }
    }

    /// For `spantap check`: metrics alone, with instruments of their own; call [`Otlp::open`] next.
    pub fn of_checks(
        settings: Settings,
        identity: &Identity,
        kinds: &[&'static str],
        warn: impl Fn(&str) + Send + Sync + 'static,
    ) -> (Otlp, Option<Checks>) {
        let settings = Settings { traces: None, logs: None, ..settings };
        Otlp::build(settings, identity, warn, |meter| Checks::new(meter, &identity.server_name, kinds))
    }

    /// Without a tracer; with the instruments that `instruments` makes, if metrics are to be sent.
    fn build<T>(
        settings: Settings,
        identity: &Identity,
        warn: impl Fn(&str) + Send + Sync + 'static,
        instruments: impl FnOnce(&Meter) -> T,
    ) -> (Otlp, Option<T>) {
        let resource = resource(identity, &settings);
        let mut reader = None;
        let made = settings.metrics.is_some().then(|| {
            let temporality = if settings.delta { Temporality::Delta } else { Temporality::Cumulative };
            let shared =
                SharedReader(Arc::new(ManualReader::builder().with_temporality(temporality).build()));
            let provider = SdkMeterProvider::builder()
                .with_reader(shared.clone())
                .with_resource(resource.clone())
                .build();
            reader = Some(shared);
            let made = instruments(&provider.meter(semconv::SCOPE));
            // The provider's end would shut the reader down; it lives as long as the process.
            std::mem::forget(provider);
            made
        });
        let warn: Arc<dyn Fn(&str) + Send + Sync> = Arc::new(warn);
        let otlp = Otlp {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                changed: Condvar::new(),
                dropped: Mutex::default(),
            }),
            tracer: None,
            recorder: settings.logs.is_some().then(Recorder::default),
            metrics: None,
            unsent: Some(Worker { settings, resource, reader, warn: Arc::clone(&warn) }),
            warn,
        };
        (otlp, made)
    }

    /// Starts to send, also where no event comes.
    pub fn open(&mut self) {
        self.start();
    }

    /// Queues the spans and the log of one record; for live traffic and for recorded sessions alike.
    pub fn send(&mut self, record: &Record<'_>) {
        let spans = self.tracer.as_mut().map(|tracer| tracer.spans(record)).unwrap_or_default();
        let log = self.recorder.as_ref().map(|recorder| recorder.log(record));
        let mut state = lock(&self.shared.state);
        let mut full = 0;
        for span in spans {
            if state.spans.len() < MAX_QUEUE {
                state.spans.push_back(span);
            } else {
                full += 1;
            }
        }
        if let Some(log) = log {
            if state.logs.len() < MAX_QUEUE {
                state.logs.push_back(log);
            } else {
                full += 1;
            }
        }
        let plenty = state.spans.len().max(state.logs.len()) >= MAX_BATCH;
        drop(state);
        self.shared.drop_some("queue_full", full);
        if plenty {
            self.shared.changed.notify_all();
        }
        self.start();
    }

    /// Waits until there is room for more, for a sender that reads files instead of watching traffic;
    /// `false` when nothing has been taken for `patience`.
    pub fn wait_for_room(&self, patience: Duration) -> bool {
        let mut state = lock(&self.shared.state);
        let mut least = usize::MAX;
        let mut since = Instant::now();
        loop {
            let waiting = state.spans.len().max(state.logs.len());
            if state.closed || waiting < MAX_BATCH {
                return !state.closed;
            }
            if waiting < least {
                least = waiting;
                since = Instant::now();
            }
            if since.elapsed() >= patience {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(state, Duration::from_millis(100));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn start(&mut self) {
        let Some(worker) = self.unsent.take() else { return };
        let shared = Arc::clone(&self.shared);
        let started = std::thread::Builder::new().name("otlp".to_owned()).spawn(move || {
            let run = std::panic::AssertUnwindSafe(|| worker.run(&shared));
            if std::panic::catch_unwind(run).is_err() {
                shared.give_up("exporter_panic");
            }
            lock(&shared.state).closed = true;
            shared.changed.notify_all();
        });
        if started.is_err() {
            (self.warn)("no thread for the export; nothing is sent");
            lock(&self.shared.state).closed = true;
        }
    }
}

impl Shared {
    fn drop_some(&self, reason: &'static str, count: u64) {
        if count > 0 {
            *lock(&self.dropped).entry(reason).or_default() += count;
        }
    }

    /// Counts everything that is left as lost.
    fn give_up(&self, reason: &'static str) {
        let mut state = lock(&self.state);
        let left = state.spans.len() as u64 + state.logs.len() as u64 + std::mem::take(&mut state.in_hand);
        state.spans.clear();
        state.logs.clear();
        drop(state);
        self.drop_some(reason, left);
    }
}

impl Output for Otlp {
    fn take(&mut self, event: &Event, record: Option<&Record<'_>>) {
        if let Some(metrics) = &mut self.metrics {
            if matches!(event.kind, Kind::Pulse(_) | Kind::SessionEnded(_)) {
                let dropped: Vec<Dropped> = dropped(&self.shared);
                metrics.dropped(&dropped);
            }
            metrics.take(event, record);
        }
        match record {
            Some(record) => self.send(record),
            None => self.start(),
        }
    }

    fn dropped(&self) -> Vec<Dropped> {
        dropped(&self.shared)
    }

    fn begin_close(&mut self) {
        lock(&self.shared.state).closing = true;
        self.shared.changed.notify_all();
    }

    fn finish_close(&mut self, deadline: Instant) {
        if self.unsent.is_some() {
            return;
        }
        let mut state = lock(&self.shared.state);
        while !state.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                return self.shared.give_up("shutdown");
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        // A thread that ended before its time has left things behind.
        self.shared.give_up("exporter_gone");
    }
}

fn dropped(shared: &Shared) -> Vec<Dropped> {
    let dropped = lock(&shared.dropped);
    dropped.iter().map(|(reason, count)| Dropped { place: "otlp", reason, count: *count }).collect()
}

/// One exporter with what its last exchange said, and when it may be tried again.
struct Lane<E> {
    exporter: E,
    outcome: LastOutcome,
    pause: Duration,
    not_before: Option<Instant>,
    failing: bool,
}

impl<E> Lane<E> {
    fn may_try(&self, closing: bool) -> bool {
        closing || self.not_before.is_none_or(|at| Instant::now() >= at)
    }

    /// What became of an export: `Err` with the reason, and whether to keep the items for later.
    fn settle(&mut self, worker: &Worker, what: &str, ok: bool) -> Result<u64, (&'static str, bool)> {
        let outcome = std::mem::take(&mut *lock(&self.outcome));
        if ok && outcome.failure.is_none() {
            if std::mem::take(&mut self.failing) {
                (worker.warn)(&format!("the collector takes {what} again"));
            }
            self.pause = FIRST_PAUSE;
            self.not_before = None;
            return Ok(outcome.rejected);
        }
        // gRPC tells nothing but that it failed; most failures there are a collector that is not up.
        let Outcome { failure, retryable, retry_after, .. } = outcome;
        let (reason, retryable) = failure.map_or(("grpc", true), |reason| (reason, retryable));
        if !std::mem::replace(&mut self.failing, true) {
            (worker.warn)(&format!("the collector does not take {what} ({reason}); traffic is not affected"));
        }
        self.not_before = Some(Instant::now() + retry_after.unwrap_or(self.pause));
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        Err((reason, retryable))
    }
}

impl Worker {
    /// The thread's life.
    fn run(self, shared: &Shared) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else {
            (self.warn)("no runtime for the export; nothing is sent");
            return shared.give_up("no_runtime");
        };
        // gRPC exporters must be made inside the runtime.
        let guard = runtime.enter();
        let mut spans = self.lane("spans", self.settings.traces.as_ref(), transport::spans);
        let mut logs = self.lane("logs", self.settings.logs.as_ref(), transport::logs);
        let delta = self.settings.delta;
        let mut metrics = self.lane("metrics", self.settings.metrics.as_ref(), |target, outcome| {
            transport::metrics(target, outcome, delta)
        });
        drop(guard);
        if let Some(lane) = &mut spans {
            lane.exporter.set_resource(&self.resource);
        }
        if let Some(lane) = &mut logs {
            lane.exporter.set_resource(&self.resource);
        }
        let scope =
            InstrumentationScope::builder(semconv::SCOPE).with_version(env!("CARGO_PKG_VERSION")).build();
        let mut next_metrics = Instant::now() + self.settings.metric_interval;
        loop {
            // Full batches wake the thread early only where they may be sent: while a collector is
            // stayed away from, the interval is all there is.
            let ready = [
                spans.as_ref().is_some_and(|lane| lane.may_try(false)),
                logs.as_ref().is_some_and(|lane| lane.may_try(false)),
            ];
            let closing = self.gather(shared, ready);
            loop {
                let sent = self.send_spans(&runtime, shared, spans.as_mut(), closing)
                    | self.send_logs(&runtime, shared, logs.as_mut(), &scope, closing);
                if !sent {
                    break;
                }
            }
            if closing || Instant::now() >= next_metrics {
                self.send_metrics(&runtime, metrics.as_mut(), closing);
                next_metrics = Instant::now() + self.settings.metric_interval;
            }
            if closing {
                // What a collector refused a moment ago will not be taken now.
                return shared.give_up("collector_gone");
            }
        }
    }

    fn lane<E>(
        &self,
        what: &str,
        target: Option<&settings::Target>,
        build: impl Fn(&settings::Target, &LastOutcome) -> anyhow::Result<E>,
    ) -> Option<Lane<E>> {
        let outcome = LastOutcome::default();
        match build(target?, &outcome) {
            Ok(exporter) => {
                Some(Lane { exporter, outcome, pause: FIRST_PAUSE, not_before: None, failing: false })
            }
            Err(error) => {
                (self.warn)(&format!("{what} are not sent: {error}"));
                None
            }
        }
    }

    /// Waits for an interval, a full batch or the end; returns whether it is the end.
    fn gather(&self, shared: &Shared, [spans_ready, logs_ready]: [bool; 2]) -> bool {
        let state = lock(&shared.state);
        let more = |state: &mut State| {
            let full = (spans_ready && state.spans.len() >= MAX_BATCH)
                || (logs_ready && state.logs.len() >= MAX_BATCH);
            !state.closing && !full
        };
        let waited = shared.changed.wait_timeout_while(state, INTERVAL, more);
        waited.unwrap_or_else(PoisonError::into_inner).0.closing
    }

    /// Sends one batch; returns whether there may be more to send now.
    fn send_spans(
        &self,
        runtime: &tokio::runtime::Runtime,
        shared: &Shared,
        lane: Option<&mut Lane<opentelemetry_otlp::SpanExporter>>,
        closing: bool,
    ) -> bool {
        let batch = {
            let mut state = lock(&shared.state);
            let Some(lane) = lane.as_ref() else {
                let count = state.spans.drain(..).count() as u64;
                drop(state);
                shared.drop_some("not_configured", count);
                return false;
            };
            if state.spans.is_empty() || !lane.may_try(closing) {
                return false;
            }
            let count = state.spans.len().min(MAX_BATCH);
            state.in_hand += count as u64;
            state.spans.drain(..count).collect::<Vec<_>>()
        };
        let Some(lane) = lane else { return false };
        let kept = batch.clone();
        let ok = runtime.block_on(lane.exporter.export(batch)).is_ok();
        let settled = lane.settle(self, "spans", ok);
        shared.settled(settled, kept.len() as u64, |state| {
            for span in kept.into_iter().rev() {
                state.spans.push_front(span);
            }
        })
    }

    fn send_logs(
        &self,
        runtime: &tokio::runtime::Runtime,
        shared: &Shared,
        lane: Option<&mut Lane<opentelemetry_otlp::LogExporter>>,
        scope: &InstrumentationScope,
        closing: bool,
    ) -> bool {
        let batch = {
            let mut state = lock(&shared.state);
            let Some(lane) = lane.as_ref() else {
                let count = state.logs.drain(..).count() as u64;
                drop(state);
                shared.drop_some("not_configured", count);
                return false;
            };
            if state.logs.is_empty() || !lane.may_try(closing) {
                return false;
            }
            let count = state.logs.len().min(MAX_BATCH);
            state.in_hand += count as u64;
            state.logs.drain(..count).collect::<Vec<_>>()
        };
        let Some(lane) = lane else { return false };
        let pairs: Vec<(&SdkLogRecord, &InstrumentationScope)> =
            batch.iter().map(|log| (log, scope)).collect();
        let ok = runtime.block_on(lane.exporter.export(LogBatch::new(&pairs))).is_ok();
        let settled = lane.settle(self, "logs", ok);
        shared.settled(settled, batch.len() as u64, |state| {
            for log in batch.into_iter().rev() {
                state.logs.push_front(log);
            }
        })
    }

    fn send_metrics(
        &self,
        runtime: &tokio::runtime::Runtime,
        lane: Option<&mut Lane<opentelemetry_otlp::MetricExporter>>,
        closing: bool,
    ) {
        let (Some(lane), Some(reader)) = (lane, &self.reader) else { return };
        if !lane.may_try(closing) {
            return;
        }
        let mut collected = ResourceMetrics::default();
        if reader.0.collect(&mut collected).is_ok() {
            let ok = runtime.block_on(lane.exporter.export(&collected)).is_ok();
            // A point that was not taken is made good by the next one: sums go on.
            let _ = lane.settle(self, "metrics", ok);
        }
    }
}

impl Shared {
    /// Books a batch of `count`: sent, partly rejected, back into the queue, or lost. Returns whether to
    /// go on with the next batch.
    fn settled(
        &self,
        settled: Result<u64, (&'static str, bool)>,
        count: u64,
        put_back: impl FnOnce(&mut State),
    ) -> bool {
        let mut state = lock(&self.state);
        if state.in_hand == 0 {
            // Time was over meanwhile, and these were counted as lost.
            return false;
        }
        state.in_hand = state.in_hand.saturating_sub(count);
        let result = match settled {
            Ok(rejected) => {
                drop(state);
                self.drop_some("rejected", rejected.min(count));
                true
            }
            Err((_, true)) => {
                put_back(&mut state);
                let over =
                    state.spans.len().saturating_sub(MAX_QUEUE) + state.logs.len().saturating_sub(MAX_QUEUE);
                while state.spans.len() > MAX_QUEUE {
                    state.spans.pop_back();
                }
                while state.logs.len() > MAX_QUEUE {
                    state.logs.pop_back();
                }
                drop(state);
                self.drop_some("queue_full", over as u64);
                false
            }
            Err((reason, false)) => {
                drop(state);
                self.drop_some(reason, count);
                true
            }
        };
        self.changed.notify_all();
        result
    }
}

/// A reader that both the provider and our thread hold.
#[derive(Clone, Debug)]
struct SharedReader(Arc<ManualReader>);

impl MetricReader for SharedReader {
    fn register_pipeline(&self, pipeline: std::sync::Weak<opentelemetry_sdk::metrics::Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> opentelemetry_sdk::error::OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> opentelemetry_sdk::error::OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> opentelemetry_sdk::error::OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: opentelemetry_sdk::metrics::InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}
