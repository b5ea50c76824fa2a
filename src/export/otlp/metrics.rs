//! Events to instruments.
//!
//! Figures of a session are gauges, one series for each connection: a histogram that a process records
//! into once gives no average in Prometheus. Tool names come from `tools/list` answers only, so that an
//! agent that makes names up does not make series up.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter};
use opentelemetry::trace::SpanKind;

use crate::export::otlp::losses::LossCallback;
use crate::export::otlp::semconv::{self, Instrument, attribute as name};
use crate::export::otlp::spans::{error_type, kind_of};
use crate::observe::event::{
    CallTarget, Direction, EndReason, Event, EventKind, Operation, StatsSample, Status,
};
use crate::observe::mcp::Method;
use crate::record::Dropped;
use crate::record::Record;
use crate::record::cost::{Charge, Prices};
use crate::record::words::{LossPlace, Side};

/// Tools of one server that get series of their own; the rest are `_OTHER`.
const MAX_TOOLS: usize = 200;
const OTHER: &str = "_OTHER";

/// The instruments of one connection and the sums behind its gauges.
pub struct Metrics {
    side: Side,
    server: String,
    prices: Prices,
    started: Option<crate::relay::chunk::Moment>,
    initialised: bool,
    /// The server said no to the handshake.
    rejected: bool,
    in_flight: i64,
    listed: BTreeSet<String>,
    called: HashSet<String>,
    turns: u64,
    /// The last turns that were counted; the calls of two may end in any order.
    recent_turns: VecDeque<String>,
    calls: u64,
    denials: u64,
    repeats: HashMap<String, u64>,
    tokens: [u64; 3],
    charged: Charge,
    cpu: Duration,
    dropped: HashMap<(LossPlace, &'static str), u64>,
    server_operation: Histogram<f64>,
    client_operation: Histogram<f64>,
    session: Histogram<f64>,
    up: Gauge<u64>,
    uptime: Gauge<f64>,
    start: Gauge<f64>,
    memory: Gauge<u64>,
    cpu_time: Counter<f64>,
    failures: Counter<u64>,
    session_calls: Gauge<u64>,
    session_tools: Gauge<u64>,
    session_turns: Gauge<u64>,
    session_denials: Gauge<u64>,
    session_repeats: Gauge<u64>,
    session_tokens: Gauge<u64>,
    session_cost: Gauge<f64>,
    open: UpDownCounter<i64>,
    lost: Counter<u64>,
    latency: Histogram<f64>,
    depth: Gauge<u64>,
}

impl Metrics {
    pub fn new(meter: &Meter, side: Side, server: &str, prices: Prices) -> Metrics {
        let histogram = |instrument: Instrument, bounds: &[f64]| {
            let builder = meter.f64_histogram(instrument.name).with_unit(instrument.unit);
            builder.with_description(instrument.description).with_boundaries(bounds.to_vec()).build()
        };
        let gauge = |instrument: Instrument| {
            let builder = meter.u64_gauge(instrument.name).with_unit(instrument.unit);
            builder.with_description(instrument.description).build()
        };
        let float_gauge = |instrument: Instrument| {
            let builder = meter.f64_gauge(instrument.name).with_unit(instrument.unit);
            builder.with_description(instrument.description).build()
        };
        let counter = |instrument: Instrument| {
            let builder = meter.u64_counter(instrument.name).with_unit(instrument.unit);
            builder.with_description(instrument.description).build()
        };
        let session = if side == Side::Server { semconv::SERVER_SESSION } else { semconv::CLIENT_SESSION };
        let cpu = semconv::SERVER_CPU;
        let open = semconv::IN_FLIGHT;
        let metrics = Metrics {
            side,
            server: server.to_owned(),
            prices,
            started: None,
            initialised: false,
            rejected: false,
            in_flight: 0,
            listed: BTreeSet::new(),
            called: HashSet::new(),
            turns: 0,
            recent_turns: VecDeque::new(),
            calls: 0,
            denials: 0,
            repeats: HashMap::new(),
            tokens: [0; 3],
            charged: Charge::default(),
            cpu: Duration::ZERO,
            dropped: HashMap::new(),
            server_operation: histogram(semconv::SERVER_OPERATION, &semconv::DURATION_BOUNDS),
            client_operation: histogram(semconv::CLIENT_OPERATION, &semconv::DURATION_BOUNDS),
            session: histogram(session, &semconv::DURATION_BOUNDS),
            up: gauge(semconv::SERVER_UP),
            uptime: float_gauge(semconv::SERVER_UPTIME),
            start: float_gauge(semconv::SERVER_START),
            memory: gauge(semconv::SERVER_MEMORY),
            cpu_time: meter
                .f64_counter(cpu.name)
                .with_unit(cpu.unit)
                .with_description(cpu.description)
                .build(),
            failures: counter(semconv::CONNECTION_FAILURES),
            session_calls: gauge(semconv::SESSION_TOOL_CALLS),
            session_tools: gauge(semconv::SESSION_TOOLS),
            session_turns: gauge(semconv::SESSION_TURNS),
            session_denials: gauge(semconv::SESSION_DENIALS),
            session_repeats: gauge(semconv::SESSION_REPEATS),
            session_tokens: gauge(semconv::SESSION_TOKENS),
            session_cost: float_gauge(semconv::SESSION_COST),
            open: meter
                .i64_up_down_counter(open.name)
                .with_unit(open.unit)
                .with_description(open.description)
                .build(),
            lost: counter(semconv::TELEMETRY_DROPPED),
            latency: histogram(semconv::ADDED_LATENCY, &semconv::LATENCY_BOUNDS),
            depth: gauge(semconv::QUEUE_DEPTH),
        };
        metrics.zero();
        metrics
    }

    /// First points, so that the first event of a kind is an increase.
    fn zero(&self) {
        self.up.record(0, &self.with([]));
        for failure in ["spawn_failed", "initialize_failed", "exited", "signalled"] {
            self.failures.add(0, &self.with([KeyValue::new(name::ERROR_TYPE, failure)]));
        }
        for sink in [LossPlace::Tap, LossPlace::Log, LossPlace::Otlp] {
            self.lost.add(0, &self.with([KeyValue::new(name::SPANTAP_SINK, sink.as_str())]));
        }
        self.open.add(0, &self.with([]));
        self.cpu_time.add(0.0, &self.with([]));
        self.uptime.record(0.0, &self.with([]));
        self.depth.record(0, &self.with([]));
        self.gauges();
    }

    /// Counts what is lost on the way to the collector, wherever that is noticed.
    pub fn otlp_losses(&self) -> LossCallback {
        let (lost, server) = (self.lost.clone(), self.server.clone());
        Box::new(move |reason, count| {
            let attributes = [
                KeyValue::new(name::MCP_SERVER_NAME, server.clone()),
                KeyValue::new(name::SPANTAP_SINK, LossPlace::Otlp.as_str()),
                KeyValue::new(name::SPANTAP_REASON, reason),
            ];
            lost.add(count, &attributes);
        })
    }

    fn with<const N: usize>(&self, attributes: [KeyValue; N]) -> Vec<KeyValue> {
        let server = KeyValue::new(name::MCP_SERVER_NAME, self.server.clone());
        std::iter::once(server).chain(attributes).collect()
    }

    fn gauges(&self) {
        self.session_calls.record(self.calls, &self.with([]));
        self.session_tools.record(self.called.len() as u64, &self.with([]));
        self.session_turns.record(self.turns, &self.with([]));
        self.session_denials.record(self.denials, &self.with([]));
        for (kind, tokens) in ["definitions", "arguments", "results"].into_iter().zip(self.tokens) {
            self.session_tokens.record(tokens, &self.with([KeyValue::new(name::SPANTAP_TOKEN_KIND, kind)]));
        }
        let cost = |kind, usd| {
            self.session_cost.record(usd, &self.with([KeyValue::new(name::SPANTAP_COST_KIND, kind)]))
        };
        if let Some(usd) = self.prices.tokens(self.tokens.iter().sum()) {
            cost("llm_estimate", usd);
        }
        if self.prices.has_calls() {
            cost("mcp", self.charged.usd());
        }
    }

    pub fn take(&mut self, event: &Event, record: Option<&Record<'_>>) {
        match &event.kind {
            EventKind::SessionStarted(started) => {
                self.started = Some(started.spawned);
                self.up.record(u64::from(started.child_pid.is_some()), &self.with([]));
            }
            EventKind::ToolsListed(listed) => {
                let room = MAX_TOOLS.saturating_sub(self.listed.len());
                self.listed.extend(listed.names.iter().take(room).map(|name| name.as_str().to_owned()));
                for tool in &self.listed {
                    let most = self.repeats.entry(tool.clone()).or_default();
                    let tool = KeyValue::new(name::GEN_AI_TOOL_NAME, tool.clone());
                    self.session_repeats.record(*most, &self.with([tool]));
                }
                self.tokens[0] += listed.size.div_ceil(4);
                self.gauges();
            }
            EventKind::Operation(operation) => {
                if let Some(record) = record {
                    self.operation(operation, record);
                }
            }
            EventKind::StatsSample(sample) => self.stats_sample(sample, event),
            EventKind::Gap(lost) => {
                let count = lost.frames.max(lost.records).max(1);
                let sink = KeyValue::new(name::SPANTAP_SINK, lost.place.as_str());
                self.lost.add(count, &self.with([sink, KeyValue::new(name::SPANTAP_REASON, lost.reason)]));
            }
            EventKind::SessionEnded(ended) => {
                let failure = match (ended.reason, ended.signal) {
                    (EndReason::SpawnFailed, _) => Some("spawn_failed"),
                    (EndReason::ServerDied, _) if !self.initialised => Some("initialize_failed"),
                    (EndReason::ServerDied, None) => Some("exited"),
                    (EndReason::ServerDied, Some(_)) => Some("signalled"),
                    (EndReason::ServerExited, _) if self.rejected => Some("initialize_failed"),
                    (EndReason::ServerExited, _) => None,
                };
                if let Some(failure) = failure {
                    self.failures.add(1, &self.with([KeyValue::new(name::ERROR_TYPE, failure)]));
                }
                let age = self.started.map_or(Duration::ZERO, |started| event.at.since(started));
                let mut attributes =
                    self.with([KeyValue::new(name::NETWORK_TRANSPORT, semconv::value::PIPE)]);
                attributes.extend(failure.map(|failure| KeyValue::new(name::ERROR_TYPE, failure)));
                self.session.record(age.as_secs_f64(), &attributes);
                self.up.record(0, &self.with([]));
                self.uptime.record(age.as_secs_f64(), &self.with([]));
                self.open.add(-self.in_flight, &self.with([]));
                self.in_flight = 0;
                self.gauges();
            }
            _ => {}
        }
    }

    fn operation(&mut self, operation: &Operation, record: &Record<'_>) {
        let Operation { facts, answer, timing, .. } = operation;
        let kind = kind_of(self.side, facts.direction);
        let tool = match &facts.target {
            Some(CallTarget::Tool(tool)) => Some(tool.as_str()),
            _ => None,
        };
        let label = tool.map(|tool| if self.listed.contains(tool) { tool } else { OTHER });
        let method = method_label(facts.method_name.as_str());
        let mut attributes = self.with([
            KeyValue::new(name::MCP_METHOD_NAME, method),
            KeyValue::new(name::NETWORK_TRANSPORT, semconv::value::PIPE),
        ]);
        if let Some(label) = label {
            attributes.push(KeyValue::new(name::GEN_AI_TOOL_NAME, label.to_owned()));
            attributes.push(KeyValue::new(name::GEN_AI_OPERATION_NAME, semconv::value::EXECUTE_TOOL));
        }
        let version = facts.protocol_version.as_ref();
        attributes
            .extend(version.map(|text| KeyValue::new(name::MCP_PROTOCOL_VERSION, text.as_str().to_owned())));
        attributes.extend(error_type(record, &kind).map(|error| KeyValue::new(name::ERROR_TYPE, error)));
        let code = answer.error_code.map(|code| code.to_string());
        attributes.extend(code.map(|code| KeyValue::new(name::RPC_RESPONSE_STATUS_CODE, code)));
        let seconds = timing.ended.since(timing.started).as_secs_f64();
        // How long a subscription lasts says nothing about how fast the server is.
        let lasts = facts.method == Method::Listen;
        if answer.status != Status::Unknown && !lasts {
            let histogram =
                if kind == SpanKind::Server { &self.server_operation } else { &self.client_operation };
            histogram.record(seconds, &attributes);
        }
        if facts.direction == Direction::ClientToServer {
            self.initialised |= answer.status == Status::Ok;
            if matches!(facts.method, Method::Initialize | Method::Discover) {
                self.rejected = answer.error_code.is_some();
            }
        }
        self.denials += u64::from(answer.status == Status::Denied && tool.is_some());
        if let (Some(tool), Some(label)) = (tool, label) {
            // A further round of a request is no call of its own, and a turn without calls is none of ours.
            let begins = record.continues_seq.is_none();
            self.calls += u64::from(begins);
            if let Some(turn) = record.turn_id.as_deref() {
                self.turn(turn);
            }
            if self.called.len() < MAX_TOOLS {
                self.called.insert(tool.to_owned());
            }
            if begins {
                self.charged.add(self.prices.call(&self.server, tool));
            }
            self.tokens[1] += record.args_tokens_est.unwrap_or(0);
            self.tokens[2] += record.result_tokens_est.unwrap_or(0);
            let most = self.repeats.entry(label.to_owned()).or_default();
            *most = (*most).max(u64::from(facts.repeat_count.unwrap_or(1)));
            let (most, label) = (*most, label.to_owned());
            self.session_repeats.record(most, &self.with([KeyValue::new(name::GEN_AI_TOOL_NAME, label)]));
        }
        self.gauges();
    }

    fn turn(&mut self, turn: &str) {
        /// Turns whose calls may still be running when the next one begins.
        const OVERLAPPING: usize = 16;
        if self.recent_turns.iter().any(|recent| recent == turn) {
            return;
        }
        self.turns += 1;
        self.recent_turns.truncate(OVERLAPPING - 1);
        self.recent_turns.push_front(turn.to_owned());
    }

    fn stats_sample(&mut self, sample: &StatsSample, event: &Event) {
        /// About how many samples one pulse makes of its latency counts, the same share of each bucket.
        const MAX_SAMPLES: u64 = 2_000;
        if let Some(started) = self.started {
            self.uptime.record(event.at.since(started).as_secs_f64(), &self.with([]));
        }
        let attributes = self.with([]);
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
        let in_flight = i64::try_from(sample.in_flight).unwrap_or(i64::MAX);
        self.open.add(in_flight - self.in_flight, &attributes);
        self.in_flight = in_flight;
        self.depth.record(sample.ring_depth, &attributes);
        let total = sample.added_latency.iter().map(|(_, count)| count).sum::<u64>().max(MAX_SAMPLES);
        for (bound, count) in &sample.added_latency {
            for _ in 0..(count * MAX_SAMPLES).div_ceil(total) {
                // Buckets are powers of two; the middle of the bucket stands for it.
                self.latency.record(*bound as f64 * 0.75e-9, &attributes);
            }
        }
    }

    /// What the sinks have lost so far.
    pub fn dropped<'a>(&mut self, dropped: impl Iterator<Item = &'a Dropped>) {
        for Dropped { place, reason, count } in dropped {
            let told = self.dropped.entry((*place, reason)).or_default();
            let new = count.saturating_sub(*told);
            *told = (*told).max(*count);
            if new > 0 {
                let sink = KeyValue::new(name::SPANTAP_SINK, place.as_str());
                let attributes = self.with([sink, KeyValue::new(name::SPANTAP_REASON, *reason)]);
                self.lost.add(new, &attributes);
            }
        }
    }
}

/// The requests of all revisions of MCP; a peer that makes names up makes one series.
fn method_label(method: &str) -> &'static str {
    const REQUESTS: [&str; 23] = [
        "completion/complete",
        "elicitation/create",
        "initialize",
        "logging/setLevel",
        "ping",
        "prompts/get",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/subscribe",
        "resources/templates/list",
        "resources/unsubscribe",
        "roots/list",
        "sampling/createMessage",
        "server/discover",
        "subscriptions/listen",
        "tasks/cancel",
        "tasks/get",
        "tasks/list",
        "tasks/result",
        "tasks/update",
        "tools/call",
        "tools/list",
    ];
    REQUESTS.into_iter().find(|known| *known == method).unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_peer_makes_up_make_no_series() {
        assert_eq!(method_label("tools/call"), "tools/call");
        for made_up in ["x/random-123", "tools/random-1", "tools/", "pinged", "initialize2"] {
            assert_eq!(method_label(made_up), OTHER);
        }
    }
}
