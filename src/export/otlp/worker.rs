//! The thread that sends, with a runtime of its own, and the hand-over of its work at the end.
//!
//! The thread has the observer's low priority, which it cannot give up again. On a busy machine that is too
//! little for what has to be sent at the end. So the thread hands its runtime over a channel to the thread
//! that closes, which has normal priority and goes on with the same tasks.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, SendError, SyncSender, sync_channel};
use std::time::Duration;

use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader as _;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::export::otlp::losses::LossCounts;
use crate::export::otlp::notice::{ExportNotice, NoticeCallback};
use crate::export::otlp::points::{PointExporter, PointSender, SharedReader};
use crate::export::otlp::queue::Queue;
use crate::export::otlp::request::RequestOrigin;
use crate::export::otlp::sender::{Backoff, QueueSender};
use crate::export::otlp::settings::{OtlpSettings, Signal, SignalTarget};
use crate::export::otlp::transport::CollectorClient;
use crate::system::thread::{self, Duty};

/// State that the observer and the sending thread share.
pub(super) struct ExportQueues {
    pub(super) spans: Queue,
    pub(super) logs: Queue,
    /// Always empty; used only to signal the end to the task that sends points.
    pub(super) points: Queue,
    pub(super) losses: Arc<LossCounts>,
    /// Number of exchanges with collectors that are over.
    pub(super) exchanges: Arc<AtomicU64>,
    /// Asks the thread to hand over.
    pub(super) hand_over: Notify,
    /// Wakes the task that sends points when all losses are known, those of other outputs too.
    pub(super) losses_known: Notify,
}

impl ExportQueues {
    pub(super) fn put(&self, queue: &Queue, origin: &Arc<RequestOrigin>, item: &[u8], urgent: bool) {
        if !queue.put(origin, item, urgent) {
            self.losses.add(if queue.has_ended() { "not_configured" } else { "queue_full" }, 1);
        }
    }

    pub(super) fn end(&self, reason: &'static str) {
        self.losses.add(reason, self.spans.end() + self.logs.end());
    }
}

/// The runtime and the task that sends, which ends when everything is sent.
pub(super) struct HandedOver {
    pub(super) runtime: Runtime,
    pub(super) sending: JoinHandle<()>,
}

/// The sending thread before it starts, with all that it needs.
pub(super) struct Worker {
    pub(super) settings: OtlpSettings,
    pub(super) reader: Option<SharedReader>,
    pub(super) notify: NoticeCallback,
}

impl Worker {
    /// Starts the thread, which calls `prepare` first. The channel is disconnected once its losses are counted.
    pub(super) fn start(self, queues: Arc<ExportQueues>, prepare: fn()) -> Receiver<HandedOver> {
        // Without room in the channel a runtime that comes too late goes back to the thread.
        let (to, from) = sync_channel(0);
        let mut first = ResourceMetrics::default();
        if let Some(reader) = &self.reader {
            // No event has been counted yet, so the first points are zero.
            let _ = reader.collect(&mut first);
        }
        let (notify, shared) = (Arc::clone(&self.notify), Arc::clone(&queues));
        let started = thread::spawn(Duty::Export, "otlp", move || {
            prepare();
            let run = AssertUnwindSafe(|| self.run(first, &shared, &to));
            if std::panic::catch_unwind(run).is_err() {
                shared.end("exporter_panic");
            }
        });
        if started.is_err() {
            notify(&ExportNotice::NoThread);
            queues.end("no_thread");
        }
        from
    }

    fn run(self, first: ResourceMetrics, queues: &Arc<ExportQueues>, to: &SyncSender<HandedOver>) {
        let restore_mask = thread::restore_mask();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_stack_size(thread::STACK)
            .on_thread_start(move || {
                restore_mask();
                Duty::Export.begin();
            })
            // A thread for blocking calls inherits the low priority of the thread that starts it. Idle ones end soon,
            // so that the closing thread starts new ones.
            .thread_keep_alive(Duration::from_millis(50))
            .build();
        let Ok(runtime) = runtime else {
            (self.notify)(&ExportNotice::NoThread);
            return queues.end("no_runtime");
        };
        let shared = Arc::clone(queues);
        let sending = runtime.spawn(async move { self.send(first, &shared).await });
        runtime.block_on(queues.hand_over.notified());
        if let Err(SendError(late)) = to.send(HandedOver { runtime, sending }) {
            late.runtime.shutdown_background();
        }
    }

    async fn send(self, first: ResourceMetrics, queues: &Arc<ExportQueues>) {
        let OtlpSettings { traces, logs, metrics, metric_interval, .. } = &self.settings;
        let spans = self.queue_task("spans", Signal::Traces, traces.as_ref(), queues, |all| &all.spans);
        let logs = self.queue_task("logs", Signal::Logs, logs.as_ref(), queues, |all| &all.logs);
        let exporter = metrics.as_ref().map(|target| PointExporter::new(target, self.settings.temporality()));
        let exporter = exporter.and_then(|exporter| self.usable("metrics", exporter));
        let backoff = metrics.as_ref().map(|target| self.backoff("metrics", target, queues));
        let points = exporter.zip(self.reader.clone()).zip(backoff).map(|((exporter, reader), backoff)| {
            let queues = Arc::clone(queues);
            let points = PointSender::new(exporter, reader, Arc::clone(&queues.losses), backoff);
            let interval = *metric_interval;
            tokio::spawn(async move { points.run(first, interval, &queues.points).await })
        });
        for task in [spans, logs].into_iter().flatten() {
            let _ = task.await;
        }
        if let Some(points) = points
            && let Ok(points) = points.await
        {
            queues.losses_known.notified().await;
            points.send_last_losses().await;
        }
    }

    fn usable<T>(&self, signal: &'static str, made: anyhow::Result<T>) -> Option<T> {
        let report = |error: anyhow::Error| {
            (self.notify)(&ExportNotice::NotConfigured { signal, error: error.to_string() });
        };
        made.map_err(report).ok()
    }

    fn backoff(&self, signal: &'static str, target: &SignalTarget, queues: &ExportQueues) -> Backoff {
        Backoff::new(signal, target, Arc::clone(&queues.exchanges), Arc::clone(&self.notify))
    }

    fn queue_task(
        &self,
        name: &'static str,
        signal: Signal,
        target: Option<&SignalTarget>,
        queues: &Arc<ExportQueues>,
        queue: impl Fn(&ExportQueues) -> &Queue + Send + 'static,
    ) -> Option<JoinHandle<()>> {
        let backoff = target.map(|target| self.backoff(name, target, queues));
        let client = target.map(|target| CollectorClient::new(target, signal));
        let client = client.and_then(|client| self.usable(name, client));
        let Some((client, backoff)) = client.zip(backoff) else {
            queues.losses.add("not_configured", queue(queues).end());
            return None;
        };
        let client = Arc::new(client);
        let queues = Arc::clone(queues);
        Some(tokio::spawn(async move {
            let (queue, losses) = (queue(&queues), &*queues.losses);
            let size = queue.limits.batch;
            QueueSender { client, queue, losses, backoff, size }.run().await;
        }))
    }
}
