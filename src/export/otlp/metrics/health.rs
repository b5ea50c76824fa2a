//! Instruments of the server process and of its connection.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram};

use crate::export::otlp::instruments::{InstrumentFactory, ServerLabel};
use crate::export::otlp::semconv::{self, attribute as name};
use crate::observe::event::{EndReason, Operation, SessionEnded, StatsSample, Status};
use crate::observe::mcp::Method;
use crate::record::words::Side;

pub(super) struct HealthMetrics {
    label: ServerLabel,
    initialised: bool,
    /// The server refused the handshake.
    rejected: bool,
    cpu: Duration,
    session: Histogram<f64>,
    up: Gauge<u64>,
    uptime: Gauge<f64>,
    start: Gauge<f64>,
    memory: Gauge<u64>,
    cpu_time: Counter<f64>,
    failures: Counter<u64>,
}

impl HealthMetrics {
    pub(super) fn new(factory: &InstrumentFactory<'_>, label: ServerLabel, side: Side) -> HealthMetrics {
        let session = if side == Side::Server { semconv::SERVER_SESSION } else { semconv::CLIENT_SESSION };
        let metrics = HealthMetrics {
            initialised: false,
            rejected: false,
            cpu: Duration::ZERO,
            session: factory.histogram(session, semconv::SESSION_BOUNDS),
            up: factory.gauge(semconv::SERVER_UP),
            uptime: factory.float_gauge(semconv::SERVER_UPTIME),
            start: factory.float_gauge(semconv::SERVER_START),
            memory: factory.gauge(semconv::SERVER_MEMORY),
            cpu_time: factory.float_counter(semconv::SERVER_CPU),
            failures: factory.counter(semconv::CONNECTION_FAILURES),
            label,
        };
        for failure in ["spawn_failed", "initialize_failed", "exited", "signalled"] {
            metrics.failures.add(0, &metrics.label.and(name::ERROR_TYPE, failure));
        }
        let attributes = metrics.label.with([]);
        metrics.up.record(0, &attributes);
        metrics.cpu_time.add(0.0, &attributes);
        metrics.uptime.record(0.0, &attributes);
        metrics
    }

    pub(super) fn started(&self, runs: bool) {
        self.up.record(u64::from(runs), &self.label.with([]));
    }

    /// Learns from a request of the client whether the handshake was accepted.
    pub(super) fn answered(&mut self, Operation { facts, answer, .. }: &Operation) {
        self.initialised |= answer.status == Status::Ok;
        if matches!(facts.method, Method::Initialize | Method::Discover) {
            self.rejected = answer.error_code.is_some();
        }
    }

    pub(super) fn sample(&mut self, sample: &StatsSample, age: Option<Duration>) {
        let attributes = self.label.with([]);
        if let Some(age) = age {
            self.uptime.record(age.as_secs_f64(), &attributes);
        }
        if let Some(rss) = sample.server_rss {
            self.memory.record(rss, &attributes);
        }
        if let Some(cpu) = sample.server_cpu {
            self.cpu_time.add(cpu.saturating_sub(self.cpu).as_secs_f64(), &attributes);
            self.cpu = self.cpu.max(cpu);
        }
        if let Some(start) = sample.server_first_answer {
            self.start.record(start.as_secs_f64(), &attributes);
        }
    }

    pub(super) fn ended(&self, ended: &SessionEnded, age: Duration) {
        let failure = match (ended.reason, ended.signal) {
            (EndReason::SpawnFailed, _) => Some("spawn_failed"),
            (EndReason::ServerDied, _) if !self.initialised => Some("initialize_failed"),
            (EndReason::ServerDied, None) => Some("exited"),
            (EndReason::ServerDied, Some(_)) => Some("signalled"),
            (EndReason::ServerExited, _) if self.rejected => Some("initialize_failed"),
            (EndReason::ServerExited, _) => None,
        };
        if let Some(failure) = failure {
            self.failures.add(1, &self.label.and(name::ERROR_TYPE, failure));
        }
        let mut attributes = self.label.and(name::NETWORK_TRANSPORT, semconv::value::PIPE);
        attributes.extend(failure.map(|failure| KeyValue::new(name::ERROR_TYPE, failure)));
        self.session.record(age.as_secs_f64(), &attributes);
        self.up.record(0, &self.label.with([]));
        self.uptime.record(age.as_secs_f64(), &self.label.with([]));
    }
}
