//! Asks collectors whether they accept what would be sent, with an empty request of each signal.

use std::time::Duration;

use crate::export::otlp::outcome::has_no_answer;
use crate::export::otlp::request::empty_request;
use crate::export::otlp::settings::{OtlpSettings, Signal, SignalTarget};
use crate::export::otlp::transport::CollectorClient;
use crate::system::thread;

/// Result of one signal's empty request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProbeResult {
    pub(crate) signal: Signal,
    /// May hold credentials.
    pub(crate) endpoint: String,
    /// With the reason as in counts of losses, or with an error.
    pub(crate) failure: Option<(ProbeFailure, String)>,
}

/// Kind of failure of an empty request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeFailure {
    NoAnswer,
    /// No TLS connection could be made.
    Tls,
    /// The collector requires other credentials.
    Unauthorized,
    UnknownPath,
    /// The collector answered with another failure.
    Refused,
    /// The request could not be made.
    Unusable,
}

/// Sends an empty request of each signal to its collector, and waits at most `patience` for each answer.
pub(crate) fn probe(settings: &OtlpSettings, patience: Duration) -> Vec<ProbeResult> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().thread_stack_size(thread::STACK).build();
    let ask = |signal, target: &SignalTarget| match &runtime {
        Ok(runtime) => runtime.block_on(async {
            let exchange = tokio::time::timeout(patience, exchange(signal, target));
            exchange.await.unwrap_or(Some((ProbeFailure::NoAnswer, "timeout".to_owned())))
        }),
        Err(error) => Some((ProbeFailure::Unusable, error.to_string())),
    };
    let result = |(signal, target): (Signal, &SignalTarget)| ProbeResult {
        signal,
        endpoint: target.endpoint.clone(),
        failure: ask(signal, target),
    };
    let results = settings.targets().map(result).collect();
    if let Ok(runtime) = runtime {
        // An exchange that hangs is not waited for.
        runtime.shutdown_background();
    }
    results
}

async fn exchange(signal: Signal, target: &SignalTarget) -> Option<(ProbeFailure, String)> {
    let client = match CollectorClient::new(target, signal) {
        Ok(client) => client,
        Err(error) => return Some((ProbeFailure::Unusable, format!("{error:#}"))),
    };
    let reason = client.send(empty_request()).await.failure?;
    let failure = match reason {
        "tls" => ProbeFailure::Tls,
        reason if has_no_answer(reason) => ProbeFailure::NoAnswer,
        "http_401" | "http_403" => ProbeFailure::Unauthorized,
        "http_404" => ProbeFailure::UnknownPath,
        _ => ProbeFailure::Refused,
    };
    Some((failure, reason.to_owned()))
}
