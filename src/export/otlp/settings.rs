//! What is sent where: flags, the `[otlp]` table and the `OTEL_*` variables become one value.
//!
//! Nothing is sent unless somebody asked for it: with `--otlp`, in the config file, or with an endpoint or
//! exporter variable. Source: OpenTelemetry "OTLP Exporter Configuration" and "Environment Variable
//! Specification". An empty variable is an unset one; a value that cannot be read is a warning and the
//! default.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::export::trace::Keep;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    #[default]
    HttpProtobuf,
    HttpJson,
    Grpc,
}

impl Protocol {
    fn from_word(word: &str) -> Option<Protocol> {
        match word.to_ascii_lowercase().as_str() {
            "http/protobuf" => Some(Protocol::HttpProtobuf),
            "http/json" => Some(Protocol::HttpJson),
            "grpc" => Some(Protocol::Grpc),
            _ => None,
        }
    }
}

/// One of the three kinds of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    pub const ALL: [Signal; 3] = [Signal::Traces, Signal::Metrics, Signal::Logs];

    pub fn path(self) -> &'static str {
        match self {
            Signal::Traces => "v1/traces",
            Signal::Metrics => "v1/metrics",
            Signal::Logs => "v1/logs",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Signal::Traces => "TRACES",
            Signal::Metrics => "METRICS",
            Signal::Logs => "LOGS",
        }
    }
}

/// The `[otlp]` table of the config file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Table {
    pub endpoint: Option<String>,
    pub protocol: Option<String>,
    pub headers: BTreeMap<String, String>,
    /// `gzip` or `none`.
    pub compression: Option<String>,
    /// PEM files.
    pub certificate: Option<PathBuf>,
    pub client_certificate: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
    /// Seconds for one export.
    pub timeout: Option<u64>,
    pub traces: Option<bool>,
    pub metrics: Option<bool>,
    pub logs: Option<bool>,
    /// `cumulative` or `delta`.
    pub temporality: Option<String>,
    /// `errors`, `slow`: sent although the caller's trace is not sampled.
    pub always_keep: Vec<String>,
    /// Attributes of the resource.
    pub resource: BTreeMap<String, String>,
}

/// How one signal is sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// With its path for HTTP.
    pub endpoint: String,
    pub protocol: Protocol,
    /// May hold credentials.
    pub headers: Vec<(String, String)>,
    pub gzip: bool,
    /// `None`: no limit.
    pub timeout: Option<Duration>,
    pub certificate: Option<PathBuf>,
    pub client_certificate: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Target")
            .field("protocol", &self.protocol)
            .field("headers", &headers)
            .finish_non_exhaustive()
    }
}

/// Everything about sending.
#[derive(Clone, Debug)]
pub struct Settings {
    pub traces: Option<Target>,
    pub metrics: Option<Target>,
    pub logs: Option<Target>,
    /// Attributes of the resource beyond our own; `service.name` among them if it was set.
    pub resource: Vec<(String, String)>,
    pub delta: bool,
    pub metric_interval: Duration,
    pub keep: Keep,
}

/// How often metrics are sent: often enough that a session of a minute is more than its last point.
const METRIC_INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(10);

impl Settings {
    /// `flag` is `--otlp`. `None` when nobody asked for anything to be sent. Warnings name variables,
    /// never values.
    pub fn resolve(
        flag: Option<&str>,
        table: &Table,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> (Option<Settings>, Vec<String>) {
        let mut source = Source { environment, warnings: Vec::new() };
        if source.get("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            return (None, source.warnings);
        }
        let base = flag.map(str::to_owned).or_else(|| table.endpoint.clone());
        let [traces, metrics, logs] = Signal::ALL.map(|signal| source.target(signal, base.as_deref(), table));
        if traces.is_none() && metrics.is_none() && logs.is_none() {
            return (None, source.warnings);
        }
        let mut resource = source.resource();
        resource.extend(table.resource.iter().map(|(key, value)| (key.clone(), value.clone())));
        let temporality = source
            .get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE")
            .or_else(|| table.temporality.clone());
        let delta = match temporality.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("cumulative") => false,
            Some("delta" | "lowmemory") => true,
            Some(_) => {
                source.warn("the metrics' temporality is neither cumulative nor delta; using cumulative");
                false
            }
        };
        let metric_interval = match source.milliseconds("OTEL_METRIC_EXPORT_INTERVAL") {
            Some(Duration::ZERO) | None => METRIC_INTERVAL,
            Some(interval) => interval,
        };
        let keeps = |word: &str| table.always_keep.iter().any(|kept| kept == word);
        let keep = Keep { errors: keeps("errors"), slow: keeps("slow") };
        let settings = Settings { traces, metrics, logs, resource, delta, metric_interval, keep };
        (Some(settings), source.warnings)
    }
}

/// Whether a new trace is sampled, by `OTEL_TRACES_SAMPLER`; a caller's decision is followed elsewhere.
pub fn samples(trace_id: [u8; 16], environment: &dyn Fn(&str) -> Option<String>) -> bool {
    let sampler = environment("OTEL_TRACES_SAMPLER").unwrap_or_default().to_ascii_lowercase();
    match sampler.trim_start_matches("parentbased_") {
        "always_off" => false,
        "traceidratio" => {
            let ratio = environment("OTEL_TRACES_SAMPLER_ARG").and_then(|text| text.parse::<f64>().ok());
            let ratio = ratio.filter(|ratio| (0.0..=1.0).contains(ratio)).unwrap_or(1.0);
            // The right-most seven bytes are random (W3C Trace Context Level 2).
            let random = trace_id[9..].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
            (random as f64) < ratio * (1_u64 << 56) as f64
        }
        _ => true,
    }
}

struct Source<'a> {
    environment: &'a dyn Fn(&str) -> Option<String>,
    warnings: Vec<String>,
}

impl Source<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|text| !text.trim().is_empty())
    }

    fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    /// The signal's own variable, else the general one.
    fn of(&self, signal: Signal, suffix: &str) -> Option<String> {
        self.get(&format!("OTEL_EXPORTER_OTLP_{}_{suffix}", signal.word()))
            .or_else(|| self.get(&format!("OTEL_EXPORTER_OTLP_{suffix}")))
    }

    fn milliseconds(&mut self, name: &str) -> Option<Duration> {
        let text = self.get(name)?;
        match text.trim().parse() {
            Ok(millis) => Some(Duration::from_millis(millis)),
            Err(_) => {
                self.warn(format!("{name} is not a number of milliseconds; using the default"));
                None
            }
        }
    }

    /// Whether and how `signal` is sent. `base` is what flag or file say.
    fn target(&mut self, signal: Signal, base: Option<&str>, table: &Table) -> Option<Target> {
        let asked = match signal {
            Signal::Traces => table.traces,
            Signal::Metrics => table.metrics,
            Signal::Logs => table.logs,
        };
        let exporter = self.get(&format!("OTEL_{}_EXPORTER", signal.word()));
        match exporter.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("otlp") => {}
            Some("none") => return None,
            Some(_) => {
                self.warn(format!(
                    "OTEL_{}_EXPORTER names no exporter that spantap has; it is off",
                    signal.word()
                ));
                return None;
            }
        }
        let own = self.get(&format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.word()));
        let general = self.get("OTEL_EXPORTER_OTLP_ENDPOINT");
        // Logs double what the session log holds: they are sent when asked for by name.
        let by_name = exporter.is_some() || own.is_some() || asked == Some(true);
        let wanted = asked.unwrap_or(signal != Signal::Logs || by_name);
        let any = base.is_some() || own.is_some() || general.is_some() || exporter.is_some();
        if !wanted || !any {
            return None;
        }
        let protocol = self.protocol(signal, table);
        let endpoint = match (base, own, general) {
            (Some(base), ..) => joined(base, signal, protocol),
            (None, Some(own), _) => own,
            (None, None, Some(general)) => joined(&general, signal, protocol),
            (None, None, None) if protocol == Protocol::Grpc => "http://localhost:4317".to_owned(),
            (None, None, None) => joined("http://localhost:4318", signal, protocol),
        };
        let endpoint = match endpoint.contains("://") {
            true => endpoint,
            false if protocol == Protocol::Grpc => {
                let insecure =
                    self.of(signal, "INSECURE").is_some_and(|text| text.eq_ignore_ascii_case("true"));
                format!("{}://{endpoint}", if insecure { "http" } else { "https" })
            }
            false => {
                self.warn(format!("the endpoint for {} is no URL; nothing is sent there", signal.path()));
                return None;
            }
        };
        let mut headers = self.headers(signal);
        headers.extend(table.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        let file = |suffix, own: &Option<PathBuf>| {
            self.of(signal, suffix).map(PathBuf::from).or_else(|| own.clone())
        };
        let (certificate, client_certificate, client_key) = (
            file("CERTIFICATE", &table.certificate),
            file("CLIENT_CERTIFICATE", &table.client_certificate),
            file("CLIENT_KEY", &table.client_key),
        );
        Some(Target {
            endpoint,
            protocol,
            headers,
            gzip: self.gzip(signal, table),
            timeout: self.timeout(signal, table),
            certificate,
            client_certificate,
            client_key,
        })
    }

    fn protocol(&mut self, signal: Signal, table: &Table) -> Protocol {
        match self.of(signal, "PROTOCOL").or_else(|| table.protocol.clone()) {
            None => Protocol::default(),
            Some(word) => Protocol::from_word(word.trim()).unwrap_or_else(|| {
                self.warn(
                    "the OTLP protocol is none of http/protobuf, http/json and grpc; using http/protobuf",
                );
                Protocol::default()
            }),
        }
    }

    fn gzip(&mut self, signal: Signal, table: &Table) -> bool {
        let word = self.of(signal, "COMPRESSION").or_else(|| table.compression.clone());
        match word.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("none") => false,
            Some("gzip") => true,
            Some(_) => {
                self.warn("the OTLP compression is neither gzip nor none; using none");
                false
            }
        }
    }

    /// Zero means no limit (specification); the SDK would fail at once.
    fn timeout(&mut self, signal: Signal, table: &Table) -> Option<Duration> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_TIMEOUT", signal.word());
        let millis = self.milliseconds(&own).or_else(|| self.milliseconds("OTEL_EXPORTER_OTLP_TIMEOUT"));
        let timeout = millis.or(table.timeout.map(Duration::from_secs)).unwrap_or(TIMEOUT);
        (!timeout.is_zero()).then_some(timeout)
    }

    fn headers(&mut self, signal: Signal) -> Vec<(String, String)> {
        let Some(text) = self.of(signal, "HEADERS") else { return Vec::new() };
        match pairs(&text) {
            Some(headers) => headers,
            None => {
                self.warn("OTEL_EXPORTER_OTLP_HEADERS is no list of name=value; no header of it is sent");
                Vec::new()
            }
        }
    }

    fn resource(&mut self) -> Vec<(String, String)> {
        let mut attributes = match self.get("OTEL_RESOURCE_ATTRIBUTES").map(|text| pairs(&text)) {
            Some(None) => {
                self.warn("OTEL_RESOURCE_ATTRIBUTES is no list of name=value; it is left out as a whole");
                Vec::new()
            }
            Some(Some(attributes)) => attributes,
            None => Vec::new(),
        };
        if let Some(name) = self.get("OTEL_SERVICE_NAME") {
            attributes.retain(|(key, _)| key != "service.name");
            attributes.push(("service.name".to_owned(), name));
        }
        attributes
    }
}

/// Appends the signal's path to an HTTP base; gRPC has none.
fn joined(base: &str, signal: Signal, protocol: Protocol) -> String {
    match protocol {
        Protocol::Grpc => base.to_owned(),
        _ => format!("{}/{}", base.trim_end_matches('/'), signal.path()),
    }
}

/// `name=value,name=value`, percent-encoded (W3C Baggage without properties).
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let (name, value) = entry.split_once('=')?;
            let name = name.trim();
            (!name.is_empty()).then_some(())?;
            Some((name.to_owned(), decoded(value.trim())?))
        })
        .collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        if *first == b'%' {
            let hex = std::str::from_utf8(others.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &others[2..];
        } else {
            bytes.push(*first);
            rest = others;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(flag: Option<&str>, environment: &[(&str, &str)]) -> (Option<Settings>, Vec<String>) {
        let lookup = |name: &str| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Settings::resolve(flag, &Table::default(), &lookup)
    }

    fn settings(flag: Option<&str>, environment: &[(&str, &str)]) -> Settings {
        resolve(flag, environment).0.unwrap()
    }

    #[test]
    fn nothing_is_sent_unless_somebody_asks() {
        assert!(resolve(None, &[]).0.is_none());
        assert!(resolve(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).0.is_none());
        assert!(resolve(Some("http://h:1"), &[("OTEL_SDK_DISABLED", "TRUE")]).0.is_none());
        assert!(
            resolve(
                Some("http://h:1"),
                &[("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")]
            )
            .0
            .is_none()
        );
    }

    #[test]
    fn a_base_gets_a_path_and_a_signals_own_endpoint_does_not() {
        let both = settings(
            None,
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:1/base/"),
                ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m:2/own"),
            ],
        );
        assert_eq!(both.traces.unwrap().endpoint, "http://h:1/base/v1/traces");
        assert_eq!(both.metrics.unwrap().endpoint, "http://m:2/own");
        assert!(both.logs.is_none());
    }

    #[test]
    fn logs_are_sent_when_asked_for_by_name() {
        assert!(settings(Some("http://h:1"), &[]).logs.is_none());
        let asked = settings(Some("http://h:1"), &[("OTEL_LOGS_EXPORTER", "otlp")]);
        assert_eq!(asked.logs.unwrap().endpoint, "http://h:1/v1/logs");
    }

    #[test]
    fn zero_is_no_limit_and_nonsense_is_the_default_with_a_word() {
        let target = |environment: &[(&str, &str)]| {
            let (settings, warnings) = resolve(Some("http://h:1"), environment);
            (settings.unwrap().traces.unwrap(), warnings)
        };
        assert_eq!(target(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "0")]).0.timeout, None);
        let (nonsense, warnings) =
            target(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "smoke")]);
        assert_eq!(nonsense.timeout, Some(TIMEOUT));
        assert_eq!(nonsense.protocol, Protocol::HttpProtobuf);
        assert!(warnings.len() >= 2);
    }

    #[test]
    fn lists_are_percent_decoded_and_a_broken_one_is_left_out_whole() {
        let right = settings(
            Some("http://h:1"),
            &[("OTEL_RESOURCE_ATTRIBUTES", "a=b%2Cc, service.name=x"), ("OTEL_SERVICE_NAME", "y")],
        );
        assert_eq!(
            right.resource,
            [("a".to_owned(), "b,c".to_owned()), ("service.name".to_owned(), "y".to_owned())]
        );
        let (wrong, warnings) = resolve(Some("http://h:1"), &[("OTEL_RESOURCE_ATTRIBUTES", "a=b,nonsense")]);
        assert!(wrong.unwrap().resource.is_empty());
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn headers_are_in_no_debug_text() {
        let settings = settings(
            Some("http://h:1"),
            &[("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20EXAMPLEsecret")],
        );
        let text = format!("{settings:?}");
        assert!(text.contains("authorization") && !text.contains("EXAMPLEsecret"), "{text}");
    }

    #[test]
    fn the_sampler_decides_by_the_random_part_of_the_trace_id() {
        let with = |sampler: &'static str, ratio: &'static str| {
            move |name: &str| match name {
                "OTEL_TRACES_SAMPLER" => Some(sampler.to_owned()),
                "OTEL_TRACES_SAMPLER_ARG" => Some(ratio.to_owned()),
                _ => None,
            }
        };
        assert!(!samples([0; 16], &with("always_off", "")));
        assert!(samples([0xff; 16], &with("parentbased_always_on", "")));
        assert!(samples([0x10; 16], &with("traceidratio", "0.1")));
        assert!(!samples([0xf0; 16], &with("parentbased_traceidratio", "0.1")));
    }
}
