//! The `[otlp]` table of the config file, and of `--otlp-set`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::Deserializer;

use crate::export::otlp::settings::Signal;
use crate::system::files::home::expand_home_or_fail;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpTable {
    pub(crate) endpoint: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) headers: BTreeMap<String, String>,
    /// `gzip` or `none`.
    pub(crate) compression: Option<String>,
    #[serde(deserialize_with = "path")]
    pub(crate) certificate: Option<PathBuf>,
    #[serde(deserialize_with = "path")]
    pub(crate) client_certificate: Option<PathBuf>,
    #[serde(deserialize_with = "path")]
    pub(crate) client_key: Option<PathBuf>,
    /// Seconds for one export.
    pub(crate) timeout: Option<u64>,
    pub(crate) traces: Option<SignalSwitch>,
    pub(crate) metrics: Option<SignalSwitch>,
    pub(crate) logs: Option<SignalSwitch>,
    /// `cumulative` or `delta`.
    pub(crate) temporality: Option<String>,
    /// Seconds.
    pub(crate) metric_interval: Option<u64>,
    /// `errors`, `slow`: spans that are sent although the caller's trace is not sampled.
    pub(crate) always_keep: Vec<String>,
    /// As in `OTEL_TRACES_SAMPLER` and its `_ARG`.
    pub(crate) sampler: Option<String>,
    pub(crate) sampler_arg: Option<f64>,
    pub(crate) resource: BTreeMap<String, String>,
}

/// The tables of the command line and of the config file. They are kept apart, because each has credentials
/// for its own endpoints.
#[derive(Clone, Debug, Default)]
pub struct OtlpTables {
    pub(crate) flags: OtlpTable,
    pub(crate) file: OtlpTable,
    /// The command line's table laid over that of the file.
    pub(crate) all: OtlpTable,
}

/// A switch for one signal, or its settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum SignalSwitch {
    Sent(bool),
    Own(Box<SignalTable>),
}

/// Settings of one signal, which win over those of all signals.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignalTable {
    /// Used as it is: no path is added.
    pub(crate) endpoint: Option<String>,
    pub(crate) protocol: Option<String>,
    /// They replace the headers of all signals.
    pub(crate) headers: Option<BTreeMap<String, String>>,
    pub(crate) compression: Option<String>,
    #[serde(deserialize_with = "path")]
    pub(crate) certificate: Option<PathBuf>,
    #[serde(deserialize_with = "path")]
    pub(crate) client_certificate: Option<PathBuf>,
    #[serde(deserialize_with = "path")]
    pub(crate) client_key: Option<PathBuf>,
    pub(crate) timeout: Option<u64>,
}

/// Reads the path of a file, without which nothing is sent.
fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    PathBuf::deserialize(deserializer).map(expand_home_or_fail).map(Some)
}

impl OtlpTable {
    fn one(&self, signal: Signal) -> Option<&SignalSwitch> {
        match signal {
            Signal::Traces => self.traces.as_ref(),
            Signal::Metrics => self.metrics.as_ref(),
            Signal::Logs => self.logs.as_ref(),
        }
    }

    /// Returns true if the table turns `signal` on, and false if it turns it off.
    pub(super) fn asks_for(&self, signal: Signal) -> Option<bool> {
        self.one(signal).map(|one| match one {
            SignalSwitch::Sent(sent) => *sent,
            SignalSwitch::Own(_) => true,
        })
    }

    /// Returns the endpoint of `signal`: its own, or else that of all signals.
    pub(super) fn endpoint_of(&self, signal: Signal) -> Option<&str> {
        let own = match self.one(signal) {
            Some(SignalSwitch::Own(own)) => own.endpoint.as_deref(),
            _ => None,
        };
        own.or(self.endpoint.as_deref())
    }

    /// Returns the settings of `signal`: its own, or else those of all signals. The endpoint is its own only.
    pub(super) fn of(&self, signal: Signal) -> SignalTable {
        let own = match self.one(signal) {
            Some(SignalSwitch::Own(own)) => (**own).clone(),
            _ => SignalTable::default(),
        };
        SignalTable {
            endpoint: own.endpoint,
            protocol: own.protocol.or_else(|| self.protocol.clone()),
            headers: own.headers.or_else(|| Some(self.headers.clone()).filter(|headers| !headers.is_empty())),
            compression: own.compression.or_else(|| self.compression.clone()),
            certificate: own.certificate.or_else(|| self.certificate.clone()),
            client_certificate: own.client_certificate.or_else(|| self.client_certificate.clone()),
            client_key: own.client_key.or_else(|| self.client_key.clone()),
            timeout: own.timeout.or(self.timeout),
        }
    }
}
