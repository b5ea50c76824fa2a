//! Receives the telemetry of agents and of MCP servers, and records the fixed list of fields of
//! [`AgentRecord`](crate::record::agent::AgentRecord).
//!
//! A request passes these modules in order:
//! - `serve`: ports and connections; `connection_use` says when a connection is closed
//! - `receive`: admission and the body
//! - `recording`: one body at a time: `decode` decompresses it, `split` parses it in pieces, `adapters` make facts
//!   (`fact`), `merge` joins the parts of a fact, `file` writes lines
//!
//! `forward` sends the body on unchanged. `state` is the file that other commands read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::collect::adapters::Adapters;
use crate::collect::file::AgentFile;
use crate::collect::forward::ForwardSenders;
use crate::collect::receive::Receiver;
use crate::collect::recording::{Recording, SharedCounts};
use crate::export::log::LogSettings;
use crate::export::otlp::{ModelMetrics, Otlp, OtlpSettings};
use crate::observe::redact::Redactor;
use crate::record::Identity;
use crate::record::cost::ModelPrices;
use crate::record::timestamp::Timestamp;
use crate::settings::{ListenAddress, address};
use crate::system::signals::LeaveSignals;
use crate::system::thread;

pub mod adapters;
mod answer;
mod connection_use;
mod decode;
pub mod fact;
mod file;
mod forward;
pub mod merge;
mod receive;
mod recording;
mod serve;
pub(crate) mod setup;
mod split;
pub(crate) mod state;

pub(crate) use forward::ForwardSettings;
pub(crate) use receive::TokenHash;
pub(crate) use serve::ListenError;
use state::{CollectCounts, CollectState, RunState, add};

/// Interval of the state file, and of the facts that wait for their parts.
const TICK: Duration = Duration::from_secs(1);
/// Interval in which new losses are reported.
const REPORT: Duration = Duration::from_secs(60);
/// How long the end waits for requests under way, and then for what is passed on.
const DRAIN: Duration = Duration::from_secs(5);
/// Most threads for blocking calls: one records, one writes the state, and some pass requests on.
const BLOCKING_THREADS: usize = 8;

/// `service.name` of the metrics of model calls.
const SERVICE: &str = "spantap-collect";

/// Settings of one run.
pub(crate) struct CollectOptions {
    /// Empty: the ports of OTLP on this machine.
    pub(crate) listen: Vec<ListenAddress>,
    pub(crate) token: Option<TokenHash>,
    /// `None` if no log is written.
    pub(crate) log: Option<LogSettings>,
    /// Bytes of one day's log, above which records are dropped and counted.
    pub(crate) max_day_size: u64,
    pub(crate) redactor: Redactor,
    pub(crate) prices: ModelPrices,
    pub(crate) forward: Option<ForwardSettings>,
    /// Where metrics of model calls are sent.
    pub(crate) otlp: Option<OtlpSettings>,
    /// Reports a problem in one line.
    pub(crate) warn: fn(&str),
}

/// Reason why a run does not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("{0} leads back to this collector at {1}")]
    LeadsBack(&'static str, SocketAddr),
    #[error("{0} cannot be used: {1}")]
    Unusable(&'static str, anyhow::Error),
    #[error("the system refuses what the collector needs: {0}")]
    System(#[from] std::io::Error),
}

/// The run before this one, by its state file.
pub(crate) type LastRun = (CollectState, RunState);

/// Receives until a signal asks to leave. Calls `started` once all listeners are open, with the last run if it still
/// runs or did not end in order. Returns the state at the end.
pub(crate) fn run(
    mut options: CollectOptions,
    started: impl FnOnce(&CollectState, Option<&LastRun>),
) -> Result<CollectState, CollectError> {
    let listeners = serve::listen(&options.listen)?;
    let addresses = listeners.iter().map(std::net::TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    let forward = options.forward.as_ref().map(|forward| &forward.url);
    let metrics = options.otlp.as_ref().and_then(|otlp| otlp.metrics.as_ref());
    for (option, url) in [("--forward", forward), ("--otlp", metrics.map(|target| &target.endpoint))] {
        if let Some(own) = url.and_then(|url| forward::leads_back(url, &addresses)) {
            return Err(CollectError::LeadsBack(option, own));
        }
    }
    let mut state = CollectState::begin(&uuid::Uuid::now_v7().to_string());
    let sending = options.otlp.take().map(|otlp| send_metrics(otlp, &mut state, options.warn)).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_stack_size(thread::STACK)
        .max_blocking_threads(BLOCKING_THREADS)
        .build()?;
    let ended = runtime.block_on(async {
        let run = Run::begin(options, state, sending, listeners, addresses)?;
        started(&run.state, run.last.as_ref());
        Ok(run.until_signal().await)
    });
    runtime.shutdown_timeout(TICK);
    ended
}

/// The export of metrics, and their instruments.
type MetricSender = (Otlp, Option<ModelMetrics>);

/// Starts to send metrics of model calls.
fn send_metrics(
    settings: OtlpSettings,
    state: &mut CollectState,
    warn: fn(&str),
) -> Result<MetricSender, CollectError> {
    state.otlp = settings.metrics.as_ref().and_then(|target| address(&target.endpoint));
    let connection_id = state.connection_id.clone();
    let identity = Identity { connection_id, server_name: SERVICE.to_owned(), ..Identity::default() };
    let (mut otlp, metrics) =
        Otlp::of_collector(settings, &identity, move |notice| warn(&notice.to_string()));
    otlp.check().map_err(|error| CollectError::Unusable("--otlp", error))?;
    otlp.open();
    Ok((otlp, metrics))
}

/// One run of the collector.
struct Run {
    state: CollectState,
    last: Option<LastRun>,
    recording: Arc<Mutex<Recording>>,
    counts: SharedCounts,
    senders: Option<ForwardSenders>,
    otlp: Option<Otlp>,
    closing: watch::Sender<bool>,
    room: Arc<Semaphore>,
    connections: usize,
    /// Number of signals that asked the run to end.
    leaving: watch::Receiver<u32>,
    warn: fn(&str),
}

/// Returns the number of signals that have asked this process to end, from now on.
fn signals() -> std::io::Result<watch::Receiver<u32>> {
    let (count, leaving) = watch::channel(0);
    let mut signals = LeaveSignals::take()?;
    tokio::spawn(async move {
        loop {
            signals.next().await;
            count.send_modify(|count| *count += 1);
        }
    });
    Ok(leaving)
}

/// Does `work` until it is done, or until `signals` signals came. Returns `None` in the second case.
async fn unless<T>(leaving: &watch::Receiver<u32>, signals: u32, work: impl Future<Output = T>) -> Option<T> {
    let mut leaving = leaving.clone();
    tokio::select! {
        done = work => Some(done),
        Ok(_) = leaving.wait_for(|count| *count >= signals) => None,
    }
}

impl Run {
    fn begin(
        options: CollectOptions,
        mut state: CollectState,
        sending: Option<MetricSender>,
        listeners: Vec<std::net::TcpListener>,
        addresses: Vec<SocketAddr>,
    ) -> Result<Run, CollectError> {
        let leaving = signals()?;
        let id = state.connection_id.clone();
        state.addresses = addresses.iter().map(ToString::to_string).collect();
        state.log_folder =
            options.log.as_ref().map(|log| log.folder.display().to_string()).unwrap_or_default();
        let counts = SharedCounts::default();
        let mut senders = None;
        let mut forwarder = None;
        if let Some(forward) = options.forward {
            state.forward = address(&forward.url);
            let (way_in, tasks) = forward::start(forward, &id, &counts, options.warn)
                .map_err(|error| CollectError::Unusable("--forward", error))?;
            (forwarder, senders) = (Some(way_in), Some(tasks));
        }
        let now = Timestamp::now();
        let file = |log| AgentFile::new(log, options.max_day_size, &id, options.warn, now);
        let adapters = Adapters::new(options.redactor);
        let (otlp, metrics) = sending.unzip();
        let file = options.log.map(file);
        let recording = Recording::new(adapters, file, options.prices, metrics.flatten(), &id, &counts);
        let recording = Arc::new(Mutex::new(recording));
        let receiver = Receiver::new(Arc::clone(&recording), counts.clone(), options.token, forwarder, &id);
        let router = receiver.router();
        let (closing, closed) = watch::channel(false);
        let room = serve::connection_limit();
        let connections = room.available_permits();
        for listener in listeners {
            let listener = TcpListener::from_std(listener)?;
            let (room, counts) = (Arc::clone(&room), counts.clone());
            tokio::spawn(serve::serve(listener, router.clone(), room, counts, closed.clone()));
        }
        let last = state::read().map(|last| (last.run_state(), last)).map(|(run, last)| (last, run));
        let last = last.filter(|(_, run)| *run != RunState::Ended);
        let warn = options.warn;
        Ok(Run { state, last, recording, counts, senders, otlp, closing, room, connections, leaving, warn })
    }

    /// Returns true if another run was running when this one began.
    fn is_second(&self) -> bool {
        self.last.as_ref().is_some_and(|(_, run)| *run == RunState::Running)
    }

    async fn until_signal(mut self) -> CollectState {
        let leaving = self.leaving.clone();
        // A disk that is slow must not keep a signal waiting.
        unless(&leaving, 1, self.keep_house()).await;
        self.end().await
    }

    /// Writes what is due and the state, and reports losses, without end.
    async fn keep_house(&mut self) {
        self.write_state().await;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reported = (Instant::now(), 0);
        loop {
            ticks.tick().await;
            self.flush_due().await;
            let counts = self.counts.lock().clone();
            if counts != self.state.counts {
                if counts.requests != self.state.counts.requests {
                    self.state.received_at = Some(Timestamp::now().to_string());
                }
                self.state.counts = counts;
                self.write_state().await;
            }
            self.report_losses(&mut reported);
        }
    }

    /// Writes the records of facts whose other parts did not come.
    async fn flush_due(&self) {
        // A request that is being recorded does it, too.
        let Ok(mut recording) = Arc::clone(&self.recording).try_lock_owned() else { return };
        let _ = tokio::task::spawn_blocking(move || recording.write_due(Timestamp::now())).await;
    }

    fn report_losses(&self, (at, known): &mut (Instant, u64)) {
        let lost = self.state.counts.all_lost();
        if lost > *known
            && at.elapsed() >= REPORT
            && let Some(losses) = self.state.counts.losses()
        {
            (self.warn)(&losses.to_string());
            (*at, *known) = (Instant::now(), lost);
        }
    }

    /// Drains: no new connection, the requests under way, the facts that wait, and then what is passed on. A second
    /// signal ends each wait. Facts that cannot be written in time are counted.
    async fn end(mut self) -> CollectState {
        let _ = self.closing.send(true);
        let all = u32::try_from(self.connections).unwrap_or(u32::MAX);
        unless(&self.leaving, 2, timeout(DRAIN, self.room.acquire_many(all))).await;
        let recording = Arc::clone(&self.recording);
        let written = async {
            let mut recording = recording.lock_owned().await;
            tokio::task::spawn_blocking(move || recording.finish(Timestamp::now())).await
        };
        let _ = unless(&self.leaving, 2, timeout(DRAIN, written)).await;
        if let Some(senders) = self.senders.take() {
            let _ = unless(&self.leaving, 2, senders.finish(DRAIN)).await;
        }
        if let Some(otlp) = self.otlp.take() {
            let last = tokio::task::spawn_blocking(move || otlp.finish(std::time::Instant::now() + DRAIN));
            let _ = unless(&self.leaving, 2, last).await;
        }
        self.state.counts = self.counts.lock().clone();
        // A request that was under way can be answered after the last write.
        self.state.counts.lose_what_waits();
        self.state.ended_at = Some(Timestamp::now().to_string());
        let _ = timeout(TICK, self.write_state()).await;
        self.state
    }

    async fn write_state(&self) {
        let (state, is_second) = (self.state.clone(), self.is_second());
        let write = move || {
            let is_of_another = |other: CollectState| {
                other.connection_id != state.connection_id && other.run_state() == RunState::Running
            };
            // The file belongs to the run that began first, until that has ended.
            if is_second && state::read().is_some_and(is_of_another) { Ok(()) } else { state.write() }
        };
        let written = tokio::task::spawn_blocking(write).await;
        if let Ok(Err(error)) = written {
            tracing::info!("the state file cannot be written: {error}");
        }
    }
}

impl CollectCounts {
    /// Counts as lost what was neither written nor passed on in time.
    fn lose_what_waits(&mut self) {
        add(&mut self.lost, "timeout", std::mem::take(&mut self.waiting));
        self.stray_spans += std::mem::take(&mut self.waiting_spans);
        add(&mut self.forward_lost, "timeout", std::mem::take(&mut self.forward_waiting));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver as StdReceiver, Sender as StdSender, channel};
    use std::sync::{Mutex as StdMutex, OnceLock};

    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::{collector::logs::v1::ExportLogsServiceRequest, logs::v1 as logs};
    use opentelemetry_proto::tonic::{collector::trace::v1::ExportTraceServiceRequest, trace::v1 as trace};
    use prost::Message;

    use super::*;
    use crate::export::otlp::settings::Signal;

    /// The disk of the test: a message about it reports that a write began, and ends when the disk works again.
    static DISK: OnceLock<(StdSender<()>, StdMutex<StdReceiver<()>>)> = OnceLock::new();

    fn hang(_: &str) {
        let (began, works) = DISK.get().unwrap();
        began.send(()).unwrap();
        let _ = works.lock().unwrap().recv();
    }

    /// Returns a request with an event of Claude Code.
    fn prompt() -> Vec<u8> {
        let attribute = |key: &str, text: &str| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) }),
            ..KeyValue::default()
        };
        let attributes = vec![attribute("event.name", "user_prompt"), attribute("prompt.id", "p")];
        let log = logs::LogRecord { attributes, ..logs::LogRecord::default() };
        let scope_logs = vec![logs::ScopeLogs { log_records: vec![log], ..logs::ScopeLogs::default() }];
        let attributes = vec![attribute("service.name", "claude-code")];
        let resource = Some(Resource { attributes, ..Resource::default() });
        let resource_logs =
            vec![logs::ResourceLogs { resource, scope_logs, ..logs::ResourceLogs::default() }];
        ExportLogsServiceRequest { resource_logs }.encode_to_vec()
    }

    /// Returns a request with a span of a server, in a trace of which nothing else is known.
    fn server_span() -> Vec<u8> {
        let (trace_id, id) = (vec![7; 16], vec![1; 8]);
        let span =
            trace::Span { trace_id, span_id: id.clone(), parent_span_id: id, ..trace::Span::default() };
        let scope_spans = vec![trace::ScopeSpans { spans: vec![span], ..trace::ScopeSpans::default() }];
        let resource_spans = vec![trace::ResourceSpans { scope_spans, ..trace::ResourceSpans::default() }];
        ExportTraceServiceRequest { resource_spans }.encode_to_vec()
    }

    #[tokio::test]
    async fn a_signal_does_not_wait_for_a_disk_that_hangs_and_what_is_not_written_is_counted() {
        let ((began, has_begun), (works, waits)) = (channel(), channel());
        DISK.set((began, StdMutex::new(waits))).unwrap();
        let counts = SharedCounts::default();
        let folder = tempfile::tempdir().unwrap();
        let log = LogSettings { folder: folder.path().to_owned(), max_size: u64::MAX, max_total_size: None };
        let file = AgentFile::new(log, 0, "0123456789ab", hang, Timestamp::now());
        let (adapters, prices) = (Adapters::new(Redactor::default()), ModelPrices::default());
        let mut recording = Recording::new(adapters, Some(file), prices, None, "id", &counts);
        // The fact is older than any wait for its other parts.
        recording.take(Signal::Logs, false, &prompt(), 0, Timestamp(0)).unwrap();
        recording.take(Signal::Traces, false, &server_span(), 0, Timestamp(0)).unwrap();
        assert_eq!(counts.lock().waiting_spans, 1);
        let (signals, leaving) = watch::channel(0);
        let run = Run {
            state: CollectState::default(),
            // The state file belongs to another run.
            last: Some((CollectState::default(), RunState::Running)),
            recording: Arc::new(Mutex::new(recording)),
            counts,
            senders: None,
            otlp: None,
            closing: watch::channel(false).0,
            room: Arc::new(Semaphore::new(1)),
            connections: 1,
            leaving,
            warn: |_| {},
        };
        let signal = async {
            tokio::task::spawn_blocking(move || has_begun.recv()).await.unwrap().unwrap();
            signals.send(2).unwrap();
        };
        let (state, ()) = tokio::join!(run.until_signal(), signal);
        assert_eq!(state.counts.lost, [("timeout".to_owned(), 1)].into());
        assert_eq!((state.counts.stray_spans, state.counts.waiting_spans), (1, 0));
        drop(works);
    }
}
