//! Decodes requests, reads them into facts, and writes the records of the facts.

use std::sync::{Arc, Mutex, MutexGuard};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

use crate::collect::adapters::{Adapters, UnreadItems};
use crate::collect::answer::Refusal;
use crate::collect::fact::AgentFact;
use crate::collect::file::AgentFile;
use crate::collect::merge::Merge;
use crate::collect::split::{self, ItemCounts, Unreadable};
use crate::collect::state::{CollectCounts, add};
use crate::export::otlp::ModelMetrics;
use crate::export::otlp::semconv::SCOPE;
use crate::export::otlp::settings::Signal;
use crate::record::agent::AgentRecord;
use crate::record::cost::{ModelPrices, ModelTokens};
use crate::record::timestamp::Timestamp;
use crate::record::words::CostSource;
use crate::record::{EventName, line};
use crate::system::mutex::lock;

/// Bytes of the buffer of lines that stay for the next request.
const LINES_KEPT: usize = 256 << 10;

/// Facts of one request that are read before they are recorded. Each takes a kilobyte.
const MOST_FACTS: usize = 4096;

/// The counts of a run, which all its parts share.
#[derive(Clone, Default)]
pub(super) struct SharedCounts(Arc<Mutex<CollectCounts>>);

impl SharedCounts {
    pub(super) fn lock(&self) -> MutexGuard<'_, CollectCounts> {
        lock(&self.0)
    }

    pub(super) fn refuse(&self, word: &str) {
        add(&mut self.lock().refused, word, 1);
    }

    pub(super) fn lose_forward(&self, reason: &str, count: u64) {
        add(&mut self.lock().forward_lost, reason, count);
    }
}

/// Everything that one request at a time uses.
pub(super) struct Recording {
    adapters: Adapters,
    /// `None` if no log is written.
    file: Option<AgentFile>,
    prices: ModelPrices,
    /// `None` if no metrics are sent.
    metrics: Option<ModelMetrics>,
    connection_id: String,
    /// Number of the next record.
    seq: u64,
    facts: Vec<AgentFact>,
    merge: Merge,
    lines: Vec<u8>,
    counts: SharedCounts,
}

impl Recording {
    pub(super) fn new(
        adapters: Adapters,
        file: Option<AgentFile>,
        prices: ModelPrices,
        metrics: Option<ModelMetrics>,
        connection_id: &str,
        counts: &SharedCounts,
    ) -> Recording {
        let connection_id = connection_id.to_owned();
        let (facts, lines) = (Vec::new(), Vec::new());
        let merge = Merge::default();
        Recording {
            adapters,
            file,
            prices,
            metrics,
            connection_id,
            seq: 0,
            facts,
            merge,
            lines,
            counts: counts.clone(),
        }
    }

    /// Reads and records the body of a request, which took `length` bytes as it came. Returns the number of its items
    /// that are rejected.
    pub(super) fn take(
        &mut self,
        signal: Signal,
        is_json: bool,
        body: &[u8],
        length: usize,
        now: Timestamp,
    ) -> Result<u64, Refusal> {
        let (mut own_spans, mut own_logs) = (0, 0);
        let items = match signal {
            Signal::Traces => split::traces(body, is_json, &mut |request| {
                own_spans += self.take_traces(request);
                self.record_many(now);
            }),
            Signal::Logs => split::logs(body, is_json, &mut |request| {
                own_logs += self.take_logs(request);
                self.record_many(now);
            }),
            Signal::Metrics => split::metrics(body, is_json),
        };
        self.adapters.end_request(&mut self.facts);
        let ItemCounts { taken, rejected } = items.map_err(|failure| match failure {
            Unreadable::Garbage => Refusal::Garbage,
            Unreadable::TooManyElements => Refusal::TooManyElements,
        })?;
        let mut counts = self.counts.lock();
        counts.requests += 1;
        counts.bytes += length as u64;
        counts.rejected += rejected;
        counts.own_spans += own_spans;
        counts.own_logs += own_logs;
        match signal {
            Signal::Traces => counts.spans += taken,
            Signal::Logs => counts.logs += taken,
            Signal::Metrics => counts.points += taken,
        }
        drop(counts);
        self.record(now);
        Ok(rejected)
    }

    /// Reads spans, without those of spantap itself. Returns the number of those.
    fn take_traces(&mut self, mut request: ExportTraceServiceRequest) -> u64 {
        let mut own = 0;
        for resource in &mut request.resource_spans {
            resource.scope_spans.retain(|scope| {
                let is_own = scope.scope.as_ref().is_some_and(|scope| scope.name == SCOPE);
                if is_own {
                    own += scope.spans.len() as u64;
                    scope.spans.iter().for_each(|span| self.adapters.know_own(span));
                }
                !is_own
            });
        }
        self.adapters.read_traces(&request, &mut self.facts);
        own
    }

    /// Reads log records, without those of spantap itself. Returns the number of those.
    fn take_logs(&mut self, mut request: ExportLogsServiceRequest) -> u64 {
        let mut own = 0;
        for resource in &mut request.resource_logs {
            resource.scope_logs.retain(|scope| {
                let is_own = scope.scope.as_ref().is_some_and(|scope| scope.name == SCOPE);
                own += if is_own { scope.log_records.len() as u64 } else { 0 };
                !is_own
            });
        }
        self.adapters.read_logs(&request, &mut self.facts);
        own
    }

    /// Writes the records of facts whose other parts did not come in time.
    pub(super) fn write_due(&mut self, now: Timestamp) {
        self.record(now);
    }

    /// Writes the records of all facts that wait for other parts.
    pub(super) fn finish(&mut self, now: Timestamp) {
        let records = self.merge.take(None);
        self.write(records, now);
        self.count_spans(true);
    }

    /// Counts the spans of servers that wait, and the items of which no record is made. At the end all spans that wait are
    /// dropped.
    fn count_spans(&mut self, is_end: bool) {
        let mut counts = self.counts.lock();
        counts.stray_spans += self.adapters.take_stray(is_end);
        counts.waiting_spans = self.adapters.waiting_spans();
        let UnreadItems { joined_spans, spans, logs, unknown_logs } = self.adapters.take_unread();
        counts.joined_spans += joined_spans;
        counts.other_spans += spans;
        counts.other_logs += logs;
        counts.unknown_logs += unknown_logs;
    }

    /// Writes the records of the facts that are ready, if a request has many of them.
    fn record_many(&mut self, now: Timestamp) {
        if self.facts.len() >= MOST_FACTS {
            self.record(now);
        }
    }

    /// Writes the records of the facts that are ready.
    fn record(&mut self, now: Timestamp) {
        self.facts.drain(..).for_each(|fact| self.merge.add(fact, now));
        let records = self.merge.take(Some(now));
        self.write(records, now);
    }

    /// Adds the cost of a model call whose agent does not report it, and counts the call in the metrics.
    fn add_up(&mut self, call: &mut AgentRecord<'_>) {
        let tokens = ModelTokens::of(call);
        if call.cost_usd.is_none() {
            let model = call.model.as_deref().unwrap_or_default();
            call.cost_usd = self.prices.cost(model, tokens);
            call.cost_source = call.cost_usd.map(|_| CostSource::Config);
        }
        if let Some(metrics) = &mut self.metrics {
            metrics.take(call, tokens);
        }
    }

    fn write(&mut self, records: Vec<AgentRecord<'static>>, now: Timestamp) {
        let held = self.merge.unwritten() as u64;
        self.counts.lock().waiting = held + records.len() as u64;
        self.count_spans(false);
        for mut record in records {
            if record.event == EventName::ModelCall {
                self.add_up(&mut record);
            }
            record.finish(&self.connection_id, self.seq);
            self.seq += 1;
            // Writing to memory cannot fail.
            let _ = line::write(&record, &mut self.lines);
        }
        if let Some(file) = &mut self.file {
            let mut written = CollectCounts::default();
            file.write(&self.lines, now, &mut written);
            // The thread that serves connections needs the lock, so it is not held while the disk is slow.
            let mut counts = self.counts.lock();
            counts.records += written.records;
            written.lost.iter().for_each(|(reason, number)| add(&mut counts.lost, reason, *number));
        }
        self.counts.lock().waiting = held;
        self.lines.clear();
        self.lines.shrink_to(LINES_KEPT);
    }
}
