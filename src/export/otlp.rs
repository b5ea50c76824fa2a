//! The way to a collector: bounded queues, one thread with a runtime of its own, and honest counts.
//!
//! Records become spans and logs where they are made, and wait in a queue; the thread sends what has
//! gathered every second and metrics every ten. What a collector does not take for the moment stays in
//! the queue and is tried again, later and later; what finds the queue full, is refused for good or is
//! left when time is over is counted by reason. Nothing in here is touched unless somebody asked for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{ManualReader, SdkMeterProvider, Temporality};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::export::Output;
use crate::export::otlp::checks::CheckInstruments;
use crate::export::otlp::logs::LogBuilder;
use crate::export::otlp::metrics::Metrics;
use crate::export::otlp::spans::{SpanBuilder, SpanTracker};
use crate::observe::event::Event;
use crate::record::cost::Prices;
use crate::record::line::Kept;
use crate::record::words::{LossPlace, Side};
use crate::record::{Dropped, Identity};
use crate::record::{EventName, Record};

mod grpc;

pub mod checks;
pub mod logs;
mod losses;
pub mod metrics;
pub mod outcome;
mod probe;
mod queue;
pub mod sampler;
pub mod semconv;
mod sender;
pub mod settings;
pub mod spans;
mod transport;
mod wire;

use losses::{LossCallback, LossCounts, lock};
pub use probe::{ProbeResult, probe};
use queue::Queue;
use sender::{Carrier, Logs, Points, Spans, Waiting};
pub use settings::{OtlpSettings, OtlpTable, SignalTarget};

type WarnCallback = Arc<dyn Fn(&str) + Send + Sync>;

/// Spans, logs and metrics of one connection, on their way.
pub struct Otlp {
    tracer: Option<SpanTracker>,
    sends_logs: bool,
    metrics: Option<Metrics>,
    /// Where the next line is written.
    buffer: Vec<u8>,
    /// What the resource says of the connection; spans and logs tell the server's version as well, once
    /// it is known.
    attributes: BTreeMap<String, String>,
    shared: Arc<Shared>,
    /// Taken by the thread when the first event comes.
    unsent: Option<Worker>,
    prepare_thread: fn(),
    warn: WarnCallback,
}

struct Shared {
    spans: Queue<Waiting>,
    logs: Queue<Kept>,
    /// Never holds anything: the end is all that metrics are told.
    points: Queue<()>,
    losses: Arc<LossCounts>,
    /// Who sends.
    baton: Mutex<Baton>,
    passed: Condvar,
    /// The thread is to give the sending away.
    hand_over: Notify,
    /// All losses are known, those of other outputs too.
    last_word: Notify,
}

/// The thread that sends has the observer's low priority, which it cannot give up again, and on a busy
/// machine that is too little for what has to go out at the end. So whoever closes takes over.
enum Baton {
    /// The thread has it.
    Away,
    /// It waits to be taken; the task ends when everything is sent.
    Here(Runtime, JoinHandle<()>),
    /// Nobody sends any more.
    Ended,
}

/// What the thread owns.
struct Worker {
    settings: OtlpSettings,
    side: Side,
    resource: Resource,
    reader: Option<SharedReader>,
    warn: WarnCallback,
}

/// The resource of a connection: the server as a service (or the client, seen from its side).
fn attributes(identity: &Identity, settings: &OtlpSettings) -> BTreeMap<String, String> {
    use semconv::resource as name;
    let own = [
        (name::SERVICE_NAME, identity.server_name.as_str()),
        (name::SERVICE_NAMESPACE, "mcp"),
        (name::SERVICE_INSTANCE_ID, identity.connection_id.as_str()),
        (name::TELEMETRY_SDK_NAME, "opentelemetry"),
        (name::TELEMETRY_SDK_LANGUAGE, "rust"),
        (name::TELEMETRY_DISTRO_NAME, semconv::SCOPE),
        (name::TELEMETRY_DISTRO_VERSION, env!("CARGO_PKG_VERSION")),
    ];
    let mut attributes: BTreeMap<String, String> =
        own.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    attributes.extend(settings.resource.iter().cloned());
    attributes
}

fn resource(attributes: &BTreeMap<String, String>) -> Resource {
    let attributes = attributes.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    Resource::builder_empty().with_attributes(attributes).build()
}

impl Otlp {
    /// Nothing is opened before the first event; `warn` gets one line when a collector stops taking what
    /// we send, and one when it takes it again.
    pub fn new(
        settings: OtlpSettings,
        identity: &Identity,
        side: Side,
        prices: Prices,
        warn: impl Fn(&str) + Send + Sync + 'static,
    ) -> Otlp {
        let tracer = settings.traces.is_some().then(|| SpanTracker::new(side, settings.sampling()));
        let (otlp, metrics) = Otlp::build(settings, identity, side, warn, |meter| {
            let metrics = Metrics::new(meter, side, &identity.server_name, prices);
            let losses = metrics.otlp_losses();
            (metrics, Some(losses))
        });
        Otlp { tracer, metrics, ..otlp }
    }

    /// For `spantap check`: metrics alone, with instruments of their own; call [`Otlp::open`] next.
    pub fn of_checks(
        settings: OtlpSettings,
        identity: &Identity,
        kinds: &[&'static str],
        warn: impl Fn(&str) + Send + Sync + 'static,
    ) -> (Otlp, Option<CheckInstruments>) {
        let settings = OtlpSettings { traces: None, logs: None, ..settings };
        let checks = |meter: &Meter| (CheckInstruments::new(meter, &identity.server_name, kinds), None);
        Otlp::build(settings, identity, Side::Client, warn, checks)
    }

    /// Without a tracer. If metrics are to be sent, with what `instruments` makes: instruments, and whom
    /// to tell of losses on the way.
    fn build<T>(
        settings: OtlpSettings,
        identity: &Identity,
        side: Side,
        warn: impl Fn(&str) + Send + Sync + 'static,
        instruments: impl FnOnce(&Meter) -> (T, Option<LossCallback>),
    ) -> (Otlp, Option<T>) {
        let attributes = attributes(identity, &settings);
        let resource = resource(&attributes);
        let mut reader = None;
        let made = settings.metrics.is_some().then(|| {
            let temporality = settings.temporality();
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
        let (made, told) = made.unzip();
        let warn: WarnCallback = Arc::new(warn);
        let shared = Shared {
            spans: Queue::new(settings.span_limits),
            logs: Queue::new(settings.log_limits),
            points: Queue::new(settings.span_limits),
            losses: Arc::new(LossCounts::new(told.flatten())),
            baton: Mutex::new(Baton::Away),
            passed: Condvar::new(),
            hand_over: Notify::new(),
            last_word: Notify::new(),
        };
        let otlp = Otlp {
            tracer: None,
            sends_logs: settings.logs.is_some(),
            metrics: None,
            buffer: Vec::new(),
            attributes,
            shared: Arc::new(shared),
            unsent: Some(Worker { settings, side, resource, reader, warn: Arc::clone(&warn) }),
            prepare_thread: || {},
            warn,
        };
        (otlp, made)
    }

    /// Lets the thread that sends, and those that it starts, call `prepare` first, to lower their priority.
    pub fn with_thread(self, prepare: fn()) -> Otlp {
        Otlp { prepare_thread: prepare, ..self }
    }

    /// Whether everything can be made that is sent with: endpoints, headers, certificates. Sends nothing.
    ///
    /// # Errors
    /// The first thing that cannot be used.
    pub fn check(&self) -> anyhow::Result<()> {
        let Some(Worker { settings, .. }) = &self.unsent else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let _within = runtime.enter();
        settings.traces.as_ref().map(transport::spans).transpose()?;
        settings.logs.as_ref().map(transport::logs).transpose()?;
        let metrics = |target| transport::metrics(target, settings.temporality());
        settings.metrics.as_ref().map(metrics).transpose()?;
        Ok(())
    }

    /// Starts to send, also where no event comes.
    pub fn open(&mut self) {
        self.start();
    }

    /// Queues the spans and the log of one record; for live traffic and for recorded sessions alike. What
    /// waits is the record's line, so both are made of the same.
    pub fn send(&mut self, record: &Record<'_>) {
        self.learn(record);
        let completed = self.tracer.as_mut().map(|tracer| tracer.take(record)).unwrap_or_default();
        if let Some(span) = completed.connection {
            // A backend shows nothing of a trace before its root: the connection does not wait.
            self.shared.put(&self.shared.spans, Waiting::Connection(Box::new(span)), true);
        }
        let items = u64::from(completed.operation) + u64::from(self.sends_logs);
        if items > 0 {
            match Kept::of(record, &mut self.buffer) {
                Ok(kept) => {
                    if completed.operation {
                        self.shared.put(&self.shared.spans, Waiting::Operation(kept.clone()), false);
                    }
                    if self.sends_logs {
                        self.shared.put(&self.shared.logs, kept, false);
                    }
                }
                Err(_) => self.shared.losses.add("not_encoded", items),
            }
        }
        self.start();
    }

    /// Takes notice of a record that is not to be sent, since later ones build on it: the connection's
    /// span ends with the first answer, and the server tells its version once.
    pub fn pass_over(&mut self, record: &Record<'_>) {
        self.learn(record);
        if let Some(tracer) = &mut self.tracer {
            let _ = tracer.take(record);
        }
    }

    /// Whether there was anything to send.
    pub fn has_sent(&self) -> bool {
        self.unsent.is_none()
    }

    /// The server's version is known once it has introduced itself, before its first span is made.
    fn learn(&mut self, record: &Record<'_>) {
        let Some(version) = record.server_version.as_deref() else { return };
        let name = semconv::resource::SERVICE_VERSION;
        if record.event == EventName::PeerIdentified && !self.attributes.contains_key(name) {
            self.attributes.insert(name.to_owned(), version.to_owned());
            let resource = resource(&self.attributes);
            self.shared.spans.set_resource(resource.clone());
            self.shared.logs.set_resource(resource);
        }
    }

    /// Waits until there is room for more, for a sender that reads files instead of watching traffic;
    /// `false` when nothing has been taken for `patience`.
    pub fn wait_for_room(&self, patience: Duration) -> bool {
        let batch = self.shared.spans.limits().batch;
        self.shared.spans.wait_for_room(batch, patience) && self.shared.logs.wait_for_room(batch, patience)
    }

    /// Waits until everything has been taken or refused; `false` when nothing has been for `patience`.
    pub fn wait_until_sent(&self, patience: Duration) -> bool {
        !self.has_sent()
            || (self.shared.spans.wait_for_room(0, patience) && self.shared.logs.wait_for_room(0, patience))
    }

    fn start(&mut self) {
        let Some(worker) = self.unsent.take() else { return };
        let mut first = ResourceMetrics::default();
        if let Some(reader) = &worker.reader {
            // Before anything has been counted: the first points are zero.
            let _ = reader.0.collect(&mut first);
        }
        let (shared, prepare) = (Arc::clone(&self.shared), self.prepare_thread);
        let started = std::thread::Builder::new().name("otlp".to_owned()).spawn(move || {
            prepare();
            let run = std::panic::AssertUnwindSafe(|| worker.run(first, &shared));
            if std::panic::catch_unwind(run).is_err() {
                shared.end("exporter_panic");
            }
        });
        if started.is_err() {
            (self.warn)("no thread for the export; nothing is sent");
            self.shared.end("no_thread");
        }
    }
}

impl Shared {
    fn put<T>(&self, queue: &Queue<T>, item: T, urgent: bool) {
        if !queue.put(item, urgent) {
            self.losses.add(if queue.has_ended() { "not_configured" } else { "queue_full" }, 1);
        }
    }

    /// Counts everything that is left as lost.
    fn end(&self, reason: &'static str) {
        self.losses.add(reason, self.spans.end() + self.logs.end());
        *lock(&self.baton) = Baton::Ended;
        self.passed.notify_all();
    }
}

impl Output for Otlp {
    fn take(&mut self, event: &Event, record: Option<&Record<'_>>) {
        if let Some(metrics) = &mut self.metrics {
            metrics.take(event, record);
        }
        match record {
            Some(record) => self.send(record),
            None => self.start(),
        }
    }

    fn dropped(&self) -> Vec<Dropped> {
        let counts = self.shared.losses.by_reason();
        counts.into_iter().map(|(reason, count)| Dropped { place: LossPlace::Otlp, reason, count }).collect()
    }

    fn update_losses(&mut self, dropped: &[Dropped]) {
        // Our own are counted where they happen.
        let others = || dropped.iter().filter(|dropped| dropped.place != LossPlace::Otlp);
        if let Some(metrics) = &mut self.metrics {
            metrics.dropped(others());
        }
        self.shared.losses.set_elsewhere(others().map(|dropped| dropped.count).sum());
    }

    fn begin_close(&mut self) {
        self.shared.spans.close();
        self.shared.logs.close();
        self.shared.points.close();
    }

    fn finish_close(&mut self, deadline: Instant) {
        if self.unsent.is_some() {
            return;
        }
        self.shared.hand_over.notify_one();
        self.shared.last_word.notify_one();
        let baton = lock(&self.shared.baton);
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.shared.passed.wait_timeout_while(baton, left, |baton| matches!(baton, Baton::Away));
        let mut baton = waited.unwrap_or_else(PoisonError::into_inner).0;
        let taken = std::mem::replace(&mut *baton, Baton::Ended);
        drop(baton);
        match taken {
            Baton::Ended => {}
            Baton::Away => self.shared.end("shutdown"),
            Baton::Here(runtime, sending) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let sent = runtime.block_on(async { tokio::time::timeout(left, sending).await });
                self.shared.end(match sent {
                    // What a collector refused a moment ago will not be taken now.
                    Ok(Ok(())) => "collector_gone",
                    Ok(Err(_)) => "exporter_panic",
                    Err(_) => "shutdown",
                });
                // A name that is still being looked up cannot be called back.
                runtime.shutdown_background();
            }
        }
    }
}

impl Worker {
    /// The thread's life.
    fn run(self, first: ResourceMetrics, shared: &Arc<Shared>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Threads of the thread's own low priority are not kept for the end.
            .thread_keep_alive(Duration::from_millis(50))
            .build();
        let Ok(runtime) = runtime else {
            (self.warn)("no runtime for the export; nothing is sent");
            return shared.end("no_runtime");
        };
        let all = Arc::clone(shared);
        let sending = runtime.spawn(async move { self.send(first, &all).await });
        runtime.block_on(shared.hand_over.notified());
        let mut baton = lock(&shared.baton);
        match &*baton {
            Baton::Ended => runtime.shutdown_background(),
            _ => *baton = Baton::Here(runtime, sending),
        }
        drop(baton);
        shared.passed.notify_all();
    }

    async fn send(self, first: ResourceMetrics, shared: &Arc<Shared>) {
        let OtlpSettings { traces, logs, metrics, metric_interval, .. } = &self.settings;
        let spans = |target: &settings::SignalTarget| {
            let maker = SpanBuilder::new(self.side, self.settings.sampling().value_length);
            Ok(Spans { exporter: transport::spans(target)?, maker })
        };
        let spans = self.lane("spans", traces.as_ref(), spans, shared, |shared| &shared.spans);
        let records = |target: &settings::SignalTarget| {
            Ok(Logs { exporter: transport::logs(target)?, builder: LogBuilder::default() })
        };
        let logs = self.lane("logs", logs.as_ref(), records, shared, |shared| &shared.logs);
        let temporality = self.settings.temporality();
        let points =
            self.exporter("metrics", metrics.as_ref(), |target| transport::metrics(target, temporality));
        let points = points.zip(self.reader.clone()).map(|(exporter, reader)| {
            let shared = Arc::clone(shared);
            let points = Points::new(exporter, reader, Arc::clone(&shared.losses), Arc::clone(&self.warn));
            let interval = *metric_interval;
            tokio::spawn(async move { points.run(first, interval, &shared.points).await })
        });
        for lane in [spans, logs].into_iter().flatten() {
            let _ = lane.await;
        }
        if let Some(points) = points
            && let Ok(points) = points.await
        {
            shared.last_word.notified().await;
            points.tell_the_last_losses().await;
        }
    }

    fn exporter<E>(
        &self,
        what: &str,
        target: Option<&settings::SignalTarget>,
        build: impl Fn(&settings::SignalTarget) -> anyhow::Result<E>,
    ) -> Option<E> {
        match build(target?) {
            Ok(exporter) => Some(exporter),
            Err(error) => {
                (self.warn)(&format!("{what} are not sent: {error}"));
                None
            }
        }
    }

    /// Starts to send what is in one of the queues.
    fn lane<C: Carrier>(
        &self,
        what: &'static str,
        target: Option<&settings::SignalTarget>,
        build: impl Fn(&settings::SignalTarget) -> anyhow::Result<C>,
        shared: &Arc<Shared>,
        queue: impl Fn(&Shared) -> &Queue<C::Item> + Send + 'static,
    ) -> Option<JoinHandle<()>> {
        let Some(mut carrier) = self.exporter(what, target, build) else {
            shared.losses.add("not_configured", queue(shared).end());
            return None;
        };
        carrier.set_resource(&self.resource);
        let (shared, warn) = (Arc::clone(shared), Arc::clone(&self.warn));
        Some(tokio::spawn(
            async move { sender::run(what, carrier, queue(&shared), &shared.losses, warn).await },
        ))
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
