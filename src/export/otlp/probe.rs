//! Asks collectors whether they accept what would be sent, with an empty request of each signal.

use std::time::Duration;

use crate::export::otlp::outcome::Outcome;
use crate::export::otlp::request::RequestOrigin;
use crate::export::otlp::settings::{OtlpSettings, Signal, SignalTarget};
use crate::export::otlp::transport::CollectorClient;

/// Result of one signal's empty request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeResult {
    pub signal: Signal,
    /// May hold credentials.
    pub endpoint: String,
    /// Why the request was not taken: a reason as in counts of losses, or an error in the settings.
    pub failure: Option<String>,
}

/// Sends an empty request of each signal that `settings` has a target for, one after the other, and waits at
/// most `patience` for each answer.
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
            let exchange = tokio::time::timeout(patience, exchange(signal, target));
            exchange.await.unwrap_or_else(|_| Err("timeout".to_owned()))
        }),
        Err(error) => Err(error.to_string()),
    };
    let results = targets
        .map(|(signal, target)| {
            let failure = ask(signal, target).err();
            ProbeResult { signal, endpoint: target.endpoint.clone(), failure }
        })
        .collect();
    if let Ok(runtime) = runtime {
        // An exchange that hangs is not waited for.
        runtime.shutdown_background();
    }
    results
}

async fn exchange(signal: Signal, target: &SignalTarget) -> Result<(), String> {
    let client = CollectorClient::new(target, signal).map_err(|error| format!("{error:#}"))?;
    let Outcome { failure, .. } = client.send(RequestOrigin::default().request(&[])).await;
    failure.map_or(Ok(()), |reason| Err(reason.to_owned()))
}
