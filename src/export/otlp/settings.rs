//! Settings of the export: flags, the `[otlp]` table and the `OTEL_*` variables become one value.
//!
//! Nothing is sent unless the user asks for it: with `--otlp`, in the config file, or with an endpoint or
//! exporter variable. Our own settings win over the variables, which the server inherits too and which may
//! be meant for it alone. Source: OpenTelemetry "OTLP Exporter Configuration" and "Environment Variable
//! Specification". An empty variable counts as unset. A value that cannot be read gives a warning and the
//! default.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use opentelemetry_sdk::metrics::Temporality;

use crate::export::otlp::queue::QueueLimits;
use crate::export::otlp::sampler::{AlwaysKeep, Sampler, Sampling};
use crate::text::words::words;

mod credentials;
pub(super) mod source;
mod table;
#[cfg(test)]
mod tests;

use source::OtlpSource;
pub(crate) use table::{OtlpTable, OtlpTables, SignalSwitch};

words! {
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) enum Protocol {
        #[default]
        HttpProtobuf = "http/protobuf",
        HttpJson = "http/json",
        Grpc = "grpc",
    }
}

words! {
    /// One of the three kinds of telemetry.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Signal {
        Traces = "traces",
        Metrics = "metrics",
        Logs = "logs",
    }
}

/// A value that cannot be used. It contains no headers and no paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtlpWarning {
    pub(crate) cause: String,
    /// The consequence, unless `--strict` is set; empty if the cause has advice instead.
    pub(crate) consequence: &'static str,
}

impl fmt::Display for OtlpWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.consequence {
            "" => f.write_str(&self.cause),
            consequence => write!(f, "{}; {consequence}", self.cause),
        }
    }
}

impl Signal {
    pub(crate) fn path(self) -> String {
        format!("v1/{self}")
    }

    /// Returns the path of the method that takes this signal over gRPC.
    pub(crate) fn grpc_path(self) -> &'static str {
        match self {
            Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        }
    }

    /// Returns the signal as it is written in names of variables.
    fn in_variables(self) -> String {
        self.as_str().to_ascii_uppercase()
    }
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SignalTarget {
    /// With its path for HTTP.
    pub(crate) endpoint: String,
    pub(crate) protocol: Protocol,
    /// May hold credentials.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) gzip: bool,
    /// Limit of one whole exchange; `None` means that the exchange is not limited.
    pub(crate) timeout: Option<Duration>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) client_certificate: Option<PathBuf>,
    pub(crate) client_key: Option<PathBuf>,
    /// No proxy of the environment is used.
    pub(crate) is_direct: bool,
    /// Layers whose headers and certificates are not sent, because they do not name this endpoint.
    pub(crate) left_out: Vec<&'static str>,
}

impl SignalTarget {
    /// Returns host and port of the endpoint, for messages.
    pub(super) fn address(&self) -> String {
        address(&self.endpoint).unwrap_or_else(|| "the endpoint".to_owned())
    }
}

impl std::fmt::Debug for SignalTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("SignalTarget")
            .field("protocol", &self.protocol)
            .field("headers", &headers)
            .finish_non_exhaustive()
    }
}

/// Returns host and port of a URL, without user, path and query. A scheme other than http and https is kept.
pub(crate) fn address(endpoint: &str) -> Option<String> {
    let uri: http::Uri = endpoint.parse().ok()?;
    let host = uri.host()?;
    match (uri.scheme_str(), uri.port_u16()) {
        (Some("https"), port) => Some(format!("{host}:{}", port.unwrap_or(443))),
        (Some("http"), port) => Some(format!("{host}:{}", port.unwrap_or(80))),
        (Some(scheme), Some(port)) => Some(format!("{scheme}://{host}:{port}")),
        (Some(scheme), None) => Some(format!("{scheme}://{host}")),
        // As for gRPC. A word alone need not be a host.
        (None, port) => Some(format!("{host}:{}", port?)),
    }
}

#[derive(Clone, Debug)]
pub(crate) struct OtlpSettings {
    pub(crate) traces: Option<SignalTarget>,
    pub(crate) metrics: Option<SignalTarget>,
    pub(crate) logs: Option<SignalTarget>,
    /// Attributes of the resource beyond our own, including `service.name` if it is set.
    pub(crate) resource: Vec<(String, String)>,
    /// Points are deltas instead of sums since the start.
    pub(crate) delta: bool,
    pub(crate) metric_interval: Duration,
    pub(crate) span_limits: QueueLimits,
    pub(crate) log_limits: QueueLimits,
    pub(crate) keep: AlwaysKeep,
    pub(crate) sampler: Sampler,
    /// Longest text of an attribute of a span, in characters.
    pub(crate) value_length: Option<usize>,
}

/// Interval of metrics, short enough for several points in a session of a minute.
const METRIC_INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Limits of the queues. Spans and logs are sent every second, because some hosts kill half a second after
/// their first signal. A session of ten thousand calls that ends at once fits into a queue.
const LIMITS: QueueLimits = QueueLimits { queue: 16_384, batch: 2_048, interval: Duration::from_secs(1) };

/// The endpoints of traces, metrics and logs, if they are sent.
pub(crate) type SignalEndpoints = [Option<String>; 3];

impl OtlpSettings {
    /// Returns the settings, if anything is to be sent, and warnings, which contain no headers and no paths. `flag` is `--otlp`.
    pub(crate) fn resolve(
        flag: Option<&str>,
        tables: &OtlpTables,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> (Option<OtlpSettings>, Vec<OtlpWarning>) {
        let mut source = OtlpSource { environment, tables, warnings: Vec::new() };
        if source.is_disabled() {
            return (None, source.warnings);
        }
        let [traces, metrics, logs] = Signal::ALL.map(|signal| source.target(signal, flag));
        if traces.is_none() && metrics.is_none() && logs.is_none() {
            return (None, source.warnings);
        }
        let table = &tables.all;
        let delta = source.is_delta();
        let metric_interval = table.metric_interval.map(Duration::from_secs);
        let metric_interval = metric_interval.or_else(|| source.milliseconds("OTEL_METRIC_EXPORT_INTERVAL"));
        let keeps = |word: &str| table.always_keep.iter().any(|kept| kept == word);
        if table.always_keep.iter().any(|word| word != "errors" && word != "slow") {
            source.warn("otlp.always_keep takes errors and slow only", "ignoring the other words");
        }
        let settings = OtlpSettings {
            traces,
            metrics,
            logs,
            resource: source.resource(),
            delta,
            metric_interval: metric_interval.filter(|time| !time.is_zero()).unwrap_or(METRIC_INTERVAL),
            span_limits: source.limits("OTEL_BSP", LIMITS),
            log_limits: source.limits("OTEL_BLRP", LIMITS),
            keep: AlwaysKeep { errors: keeps("errors"), slow: keeps("slow") },
            sampler: source.sampler(),
            value_length: source
                .count("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT")
                .or_else(|| source.count("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT")),
        };
        (Some(settings), source.warnings)
    }

    /// Returns the sampler that is set, without a warning if it cannot be used.
    pub(crate) fn resolve_sampler(
        tables: &OtlpTables,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Sampler {
        OtlpSource { environment, tables, warnings: Vec::new() }.sampler()
    }

    /// Returns the endpoints to which signals are sent, without warnings.
    pub(crate) fn resolve_endpoints(
        flag: Option<&str>,
        tables: &OtlpTables,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> SignalEndpoints {
        let mut source = OtlpSource { environment, tables, warnings: Vec::new() };
        if source.is_disabled() {
            return SignalEndpoints::default();
        }
        Signal::ALL.map(|signal| source.target(signal, flag).map(|target| target.endpoint))
    }

    /// Returns the signals that are sent.
    pub(crate) fn targets(&self) -> impl Iterator<Item = (Signal, &SignalTarget)> {
        let targets = [&self.traces, &self.metrics, &self.logs];
        Signal::ALL.into_iter().zip(targets).filter_map(|(signal, target)| Some((signal, target.as_ref()?)))
    }

    pub(crate) fn temporality(&self) -> Temporality {
        if self.delta { Temporality::Delta } else { Temporality::Cumulative }
    }

    pub(crate) fn sampling(&self) -> Sampling {
        Sampling { keep: self.keep, sampler: self.sampler, value_length: self.value_length }
    }
}
