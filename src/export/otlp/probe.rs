//! Asks collectors whether they accept what would be sent, with an empty request of each signal.

use std::time::Duration;

use crate::export::otlp::outcome::Outcome;
use crate::export::otlp::request::RequestOrigin;
use crate::export::otlp::settings::{OtlpSettings, Signal, SignalTarget};
use crate::export::otlp::transport::CollectorClient;

/// Result of one signal's empty request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProbeResult {
    pub(crate) signal: Signal,
    /// May hold credentials.
    pub(crate) endpoint: String,
    pub(crate) failure: Option<ProbeFailure>,
}

/// Kind of failure of an empty request, with the reason as in counts of losses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProbeFailure {
    /// The collector did not answer.
    #[error("{0}")]
    NoAnswer(&'static str),
    /// No TLS connection could be made.
    #[error("{0}")]
    Tls(&'static str),
    /// The collector requires other credentials.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The collector does not know the path.
    #[error("{0}")]
    UnknownPath(&'static str),
    /// The collector answered with another failure.
    #[error("{0}")]
    Refused(&'static str),
    /// The request could not be made; the text is the error.
    #[error("{0}")]
    Unusable(String),
}

impl From<&'static str> for ProbeFailure {
    fn from(reason: &'static str) -> ProbeFailure {
        match reason {
            "refused" | "unknown_host" | "timeout" | "reset" | "no_http" => ProbeFailure::NoAnswer(reason),
            "tls" => ProbeFailure::Tls(reason),
            "http_401" | "http_403" => ProbeFailure::Unauthorized(reason),
            "http_404" => ProbeFailure::UnknownPath(reason),
            _ => ProbeFailure::Refused(reason),
        }
    }
}

/// Sends an empty request of each signal that `settings` has a target for, one after the other, and waits at
/// most `patience` for each answer.
pub(crate) fn probe(settings: &OtlpSettings, patience: Duration) -> Vec<ProbeResult> {
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
            exchange.await.unwrap_or(Err("timeout".into()))
        }),
        Err(error) => Err(ProbeFailure::Unusable(error.to_string())),
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

async fn exchange(signal: Signal, target: &SignalTarget) -> Result<(), ProbeFailure> {
    let client =
        CollectorClient::new(target, signal).map_err(|error| ProbeFailure::Unusable(format!("{error:#}")))?;
    let Outcome { failure, .. } = client.send(RequestOrigin::default().request(&[])).await;
    failure.map_or(Ok(()), |reason| Err(reason.into()))
}
