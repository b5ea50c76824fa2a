//! Whether collectors take what would be sent: an empty export of each signal, as the protocol allows.

use std::time::Duration;

use opentelemetry_sdk::logs::LogBatch;
use opentelemetry_sdk::logs::LogExporter as _;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter as _;
use opentelemetry_sdk::trace::SpanExporter as _;

use crate::export::otlp::outcome::{self, Outcome};
use crate::export::otlp::settings::{OtlpSettings, Signal, SignalTarget};
use crate::export::otlp::transport;

/// What became of one signal's export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeResult {
    pub signal: Signal,
    /// May hold credentials.
    pub endpoint: String,
    /// Why it was not taken: a reason as of losses, or what is wrong with the set-up.
    pub failure: Option<String>,
}

/// Sends an empty export of each signal that `settings` has a way for, one after the other, and waits for
/// each answer at most `patience`.
pub fn probe(settings: &OtlpSettings, patience: Duration) -> Vec<ProbeResult> {
    let targets = [
        (Signal::Traces, &settings.traces),
        (Signal::Metrics, &settings.metrics),
        (Signal::Logs, &settings.logs),
    ];
    let targets = targets.into_iter().filter_map(|(signal, target)| Some((signal, target.as_ref()?)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ask = |signal, target| match &runtime {
        Ok(runtime) => runtime.block_on(async {
            let exchange = tokio::time::timeout(patience, exchange(signal, target, settings));
            exchange.await.unwrap_or_else(|_| Err("timeout".to_owned()))
        }),
        Err(error) => Err(error.to_string()),
    };
    let probed = targets
        .map(|(signal, target)| {
            let failure = ask(signal, target).err();
            ProbeResult { signal, endpoint: target.endpoint.clone(), failure }
        })
        .collect();
    if let Ok(runtime) = runtime {
        // An exchange that hangs is left to itself.
        runtime.shutdown_background();
    }
    probed
}

async fn exchange(signal: Signal, target: &SignalTarget, settings: &OtlpSettings) -> Result<(), String> {
    let unusable = |error: anyhow::Error| format!("{error:#}");
    let Outcome { failure, .. } = match signal {
        Signal::Traces => {
            let exporter = transport::spans(target).map_err(unusable)?;
            outcome::of(exporter.export(Vec::new())).await
        }
        Signal::Metrics => {
            let exporter = transport::metrics(target, settings.temporality()).map_err(unusable)?;
            outcome::of(exporter.export(&ResourceMetrics::default())).await
        }
        Signal::Logs => {
            let exporter = transport::logs(target).map_err(unusable)?;
            outcome::of(exporter.export(LogBatch::new(&[]))).await
        }
    };
    failure.map_or(Ok(()), |reason| Err(reason.to_owned()))
}
