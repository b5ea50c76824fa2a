//! Reads one signal's settings from the table and the variables.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::export::otlp::sampler::Sampler;
use crate::export::otlp::settings::table::SignalTable;
use crate::export::otlp::settings::{
    OtlpTables, OtlpWarning, Protocol, QueueLimits, Signal, SignalTarget, TIMEOUT,
};
use crate::observe::redact::{Field, Redactor};
use crate::text::baggage;

/// Sources of the settings, and warnings about values that cannot be used.
pub(super) struct OtlpSource<'a> {
    pub(super) environment: &'a dyn Fn(&str) -> Option<String>,
    pub(super) tables: &'a OtlpTables,
    pub(super) warnings: Vec<OtlpWarning>,
}

/// Exporter that `OTEL_<S>_EXPORTER` asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ExporterChoice {
    Nothing,
    Otlp,
    /// `none`, or an exporter that we do not have.
    Off,
}

impl OtlpSource<'_> {
    pub(super) fn get(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|text| !text.trim().is_empty())
    }

    /// Adds a warning once, however many signals it concerns.
    pub(super) fn warn(&mut self, cause: impl Into<String>, consequence: &'static str) {
        let warning = OtlpWarning { cause: cause.into(), consequence };
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Returns true if `OTEL_SDK_DISABLED` is set. It disables all exports, including those requested by a flag.
    pub(super) fn is_disabled(&mut self) -> bool {
        match self.get("OTEL_SDK_DISABLED").map(|text| text.trim().to_ascii_lowercase()) {
            Some(text) if text == "true" => true,
            None => false,
            Some(text) => {
                if text != "false" {
                    self.warn("OTEL_SDK_DISABLED is neither true nor false", "using false");
                }
                false
            }
        }
    }

    /// Returns the value and the name of the signal's own variable, or else of the general one.
    pub(super) fn of(&self, signal: Signal, suffix: &str) -> Option<(String, String)> {
        [
            format!("OTEL_EXPORTER_OTLP_{}_{suffix}", signal.in_variables()),
            format!("OTEL_EXPORTER_OTLP_{suffix}"),
        ]
        .into_iter()
        .find_map(|name| Some((self.get(&name)?, name)))
    }

    pub(super) fn milliseconds(&mut self, name: &str) -> Option<Duration> {
        self.count(name).map(|millis| Duration::from_millis(millis as u64))
    }

    pub(super) fn count(&mut self, name: &str) -> Option<usize> {
        let number = self.get(name)?.trim().parse().ok();
        if number.is_none() {
            self.warn(format!("{name} is not a whole number"), "using the default");
        }
        number
    }

    /// Returns the limits of spans (`OTEL_BSP`) or logs (`OTEL_BLRP`).
    pub(super) fn limits(&mut self, prefix: &str, default: QueueLimits) -> QueueLimits {
        let mut at_least_one = |name: &str| match self.count(&format!("{prefix}_{name}")) {
            Some(0) => {
                self.warn(format!("{prefix}_{name} is 0"), "using the default");
                None
            }
            other => other,
        };
        let queue = at_least_one("MAX_QUEUE_SIZE").unwrap_or(default.queue);
        let batch = at_least_one("MAX_EXPORT_BATCH_SIZE").unwrap_or(default.batch);
        let interval = self.milliseconds(&format!("{prefix}_SCHEDULE_DELAY")).unwrap_or(default.interval);
        QueueLimits { queue, batch: batch.min(queue), interval }
    }

    pub(super) fn is_delta(&mut self) -> bool {
        let word = self.tables.all.temporality.clone();
        let word = word.or_else(|| self.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"));
        match word.as_deref().map(|word| word.trim().to_ascii_lowercase()).as_deref() {
            None | Some("cumulative") => false,
            Some("delta" | "lowmemory") => true,
            Some(_) => {
                self.warn("the metrics' temporality is neither cumulative nor delta", "using cumulative");
                false
            }
        }
    }

    pub(super) fn sampler(&mut self) -> Sampler {
        let (name, ratio) = match self.tables.all.sampler.clone() {
            Some(name) => (Some(name), self.tables.all.sampler_arg),
            None => {
                let text = self.get("OTEL_TRACES_SAMPLER_ARG");
                let ratio = text.as_deref().map(|text| text.trim().parse::<f64>().unwrap_or(f64::NAN));
                (self.get("OTEL_TRACES_SAMPLER"), ratio)
            }
        };
        let Some(name) = name else { return Sampler::default() };
        if ratio.is_some_and(|ratio| !(0.0..=1.0).contains(&ratio)) {
            self.warn("the sampler's argument is not a share from 0 to 1", "using 1");
        }
        let ratio = ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
        Sampler::named(&name, ratio).unwrap_or_else(|| {
            self.warn("the traces' sampler is unknown", "using parentbased_always_on");
            Sampler::default()
        })
    }

    fn exporter(&mut self, signal: Signal) -> ExporterChoice {
        let name = format!("OTEL_{}_EXPORTER", signal.in_variables());
        let Some(text) = self.get(&name) else { return ExporterChoice::Nothing };
        let mut asked = ExporterChoice::Nothing;
        for word in text.split(',').map(|word| word.trim().to_ascii_lowercase()) {
            match word.as_str() {
                "otlp" => asked = ExporterChoice::Otlp,
                "none" if asked == ExporterChoice::Nothing => asked = ExporterChoice::Off,
                "none" | "" => {}
                // The console exporter would write to standard output, which carries the protocol.
                "console" | "logging" | "stdout" | "zipkin" | "prometheus" | "jaeger" => {
                    self.warn(format!("{name} names an exporter that spantap does not have"), "");
                    if asked == ExporterChoice::Nothing {
                        asked = ExporterChoice::Off;
                    }
                }
                _ => self.warn(format!("{name} names an unknown exporter"), "ignoring it"),
            }
        }
        asked
    }

    /// Returns how `signal` is sent, or `None` if it is not sent. `flag` is the endpoint of `--otlp`.
    pub(super) fn target(&mut self, signal: Signal, flag: Option<&str>) -> Option<SignalTarget> {
        let own = self.tables.all.of(signal);
        let exporter = self.exporter(signal);
        let asked = self.tables.all.asks_for(signal);
        if exporter == ExporterChoice::Off && asked != Some(true) {
            return None;
        }
        let variable = self.get(&format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.in_variables()));
        let general = self.get("OTEL_EXPORTER_OTLP_ENDPOINT");
        // Logs repeat the session log, so they are sent only if the user names them.
        let by_name = exporter == ExporterChoice::Otlp || variable.is_some();
        if !asked.unwrap_or(signal != Signal::Logs || by_name) {
            return None;
        }
        let protocol = self.protocol(signal, &own);
        let base = |base: &str| joined(base, signal, protocol);
        let endpoint = match (flag, &own.endpoint, &self.tables.all.endpoint, &variable, &general) {
            (Some(flag), ..) => base(flag),
            (_, Some(own), ..) => own.clone(),
            (_, _, Some(all), ..) => base(all),
            (_, _, _, Some(variable), _) => variable.clone(),
            (_, _, _, _, Some(general)) => base(general),
            _ if exporter != ExporterChoice::Otlp => return None,
            _ if protocol == Protocol::Grpc => "http://localhost:4317".to_owned(),
            _ => base("http://localhost:4318"),
        };
        let endpoint = endpoint.trim().to_owned();
        let trust = self.trust(signal, flag, &endpoint);
        // The environment may not remove the encryption from credentials of the config file.
        let may_be_insecure = trust.environment && !trust.file;
        let (credentials, left_out) = self.credentials(signal, trust, &endpoint);
        Some(SignalTarget {
            endpoint: self.with_scheme(endpoint, signal, protocol, may_be_insecure)?,
            protocol,
            headers: credentials.headers.into_iter().collect(),
            gzip: self.gzip(signal, &own),
            timeout: self.timeout(signal, &own),
            certificate: credentials.certificate,
            client_certificate: credentials.client_certificate,
            client_key: credentials.client_key,
            is_direct: credentials.is_direct,
            left_out,
        })
    }

    fn with_scheme(
        &mut self,
        endpoint: String,
        signal: Signal,
        protocol: Protocol,
        may_be_insecure: bool,
    ) -> Option<String> {
        let base = endpoint.strip_suffix(&signal.path()).map(|base| base.trim_end_matches('/'));
        if base.is_some_and(|base| Signal::ALL.iter().any(|signal| base.ends_with(&signal.path()))) {
            self.warn(
                "the endpoint ends in a signal's path; leave the path out, because each signal's own path is added",
                "",
            );
        }
        match endpoint.split_once("://") {
            Some(("http" | "https", rest)) if !rest.is_empty() => Some(endpoint),
            None if protocol == Protocol::Grpc => {
                let insecure = self.of(signal, "INSECURE").filter(|_| may_be_insecure);
                let insecure = insecure.is_some_and(|(text, _)| text.trim().eq_ignore_ascii_case("true"));
                Some(format!("{}://{endpoint}", if insecure { "http" } else { "https" }))
            }
            _ => {
                self.warn(
                    format!("the endpoint for {signal} does not begin with http:// or https://"),
                    "they are not sent",
                );
                None
            }
        }
    }

    fn protocol(&mut self, signal: Signal, own: &SignalTable) -> Protocol {
        match own.protocol.clone().or_else(|| self.of(signal, "PROTOCOL").map(|(word, _)| word)) {
            None => Protocol::default(),
            Some(word) => Protocol::from_word(&word.trim().to_ascii_lowercase()).unwrap_or_else(|| {
                self.warn("the OTLP protocol is not http/protobuf, http/json or grpc", "using http/protobuf");
                Protocol::default()
            }),
        }
    }

    fn gzip(&mut self, signal: Signal, own: &SignalTable) -> bool {
        let word = own.compression.clone().or_else(|| self.of(signal, "COMPRESSION").map(|(word, _)| word));
        match word.as_deref().map(|word| word.trim().to_ascii_lowercase()).as_deref() {
            None | Some("none") => false,
            Some("gzip") => true,
            Some(_) => {
                self.warn("the OTLP compression is neither gzip nor none", "using none");
                false
            }
        }
    }

    /// Returns the limit of one exchange. Zero means no limit (specification); the SDK would fail at once.
    fn timeout(&mut self, signal: Signal, own: &SignalTable) -> Option<Duration> {
        let export = match signal {
            Signal::Traces => "OTEL_BSP_EXPORT_TIMEOUT",
            Signal::Metrics => "OTEL_METRIC_EXPORT_TIMEOUT",
            Signal::Logs => "OTEL_BLRP_EXPORT_TIMEOUT",
        };
        let timeout = own.timeout.map(Duration::from_secs).or_else(|| {
            let (_, name) = self.of(signal, "TIMEOUT")?;
            self.milliseconds(&name)
        });
        let timeout = Some(timeout.unwrap_or(TIMEOUT)).filter(|timeout| !timeout.is_zero());
        let export = self.milliseconds(export).filter(|limit| !limit.is_zero());
        timeout.into_iter().chain(export).min()
    }

    /// Returns the attributes of the resource, redacted. Those of the table win over `OTEL_SERVICE_NAME`,
    /// which wins over `OTEL_RESOURCE_ATTRIBUTES`.
    pub(super) fn resource(&mut self) -> Vec<(String, String)> {
        let mut attributes: BTreeMap<String, String> = BTreeMap::new();
        match self.get("OTEL_RESOURCE_ATTRIBUTES").map(|text| baggage::pairs(&text)) {
            Some(None) => {
                self.warn("OTEL_RESOURCE_ATTRIBUTES is not a list of name=value", "ignoring it");
            }
            Some(Some(pairs)) => attributes.extend(pairs),
            None => {}
        }
        attributes.extend(self.get("OTEL_SERVICE_NAME").map(|name| ("service.name".to_owned(), name)));
        attributes.extend(self.tables.all.resource.clone());
        let mut redactor = Redactor::default();
        attributes.into_iter().map(|(name, value)| attribute(&mut redactor, &name, &value)).collect()
    }
}

/// Returns the attribute redacted. The value is judged together with its name.
fn attribute(redactor: &mut Redactor, name: &str, value: &str) -> (String, String) {
    let name = redactor.redact(Field::Name, name.as_bytes()).as_str().to_owned();
    let pair = redactor.redact(Field::Uri, format!("{name}={value}").as_bytes());
    let value = pair.as_str().strip_prefix(&name).and_then(|rest| rest.strip_prefix('='));
    let value = value.unwrap_or(pair.as_str()).to_owned();
    (name, value)
}

/// Appends the signal's path to an HTTP base; gRPC has none.
fn joined(base: &str, signal: Signal, protocol: Protocol) -> String {
    let base = base.trim();
    match protocol {
        Protocol::Grpc => base.to_owned(),
        _ => joined_path(base, signal),
    }
}

/// Appends the signal's path to a base.
pub(in crate::export::otlp) fn joined_path(base: &str, signal: Signal) -> String {
    format!("{}/{}", base.trim().trim_end_matches('/'), signal.path())
}
