//! Checks that collectors take what would be sent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::cli::doctor::DoctorFindings;
use crate::export::otlp::{self, ProbeFailure, ProbeResult};
use crate::settings::{Environment, Settings, address};

/// How long a collector may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Checks that collectors take the signals that are sent with `config`. `who` is the prefix of findings. A
/// collector is asked once for each signal; `asked` contains the pairs that were asked already.
pub(super) fn check(
    config: &Settings,
    environment: Environment<'_>,
    who: &str,
    asked: &mut BTreeSet<String>,
    findings: &mut DoctorFindings,
) {
    let (settings, warnings) = config.otlp(environment);
    for warning in warnings {
        findings.warn(format!("{who}{warning}"), "correct it; `spantap man run` lists the entries of [otlp]");
    }
    let Some(mut settings) = settings else { return };
    // Several signals may have the same endpoint.
    let signals =
        [("traces", &mut settings.traces), ("metrics", &mut settings.metrics), ("logs", &mut settings.logs)];
    for (signal, target) in signals {
        target.take_if(|target| !asked.insert(format!("{signal} {}", target.endpoint)));
    }
    let mut taken: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut silent = BTreeSet::new();
    for ProbeResult { signal, endpoint, failure } in otlp::probe(&settings, TIMEOUT) {
        let Some(address) = address(&endpoint) else {
            findings.fail(format!("{who}an OTLP endpoint has no host"), "write it as http://HOST:4318");
            continue;
        };
        let signal = signal.as_str();
        let Some((failure, reason)) = failure else {
            taken.entry(address).or_default().push(signal);
            continue;
        };
        match fix_of(failure) {
            Some(fix) => findings
                .fail(format!("{who}the collector at {address} does not take {signal}: {reason}"), fix),
            None if silent.insert(address.clone()) => findings.fail(
                format!("{who}the collector at {address} does not answer: {reason}"),
                "start it, or correct `otlp.endpoint`; `spantap export` can send recorded sessions later",
            ),
            None => {}
        }
    }
    for (address, signals) in taken {
        findings.ok(format!("{who}the collector at {address} takes {}", signals.join(", ")));
    }
}

/// Returns what the user can do about a signal that is not taken; `None` if the collector does not answer.
fn fix_of(failure: ProbeFailure) -> Option<&'static str> {
    match failure {
        ProbeFailure::NoAnswer => None,
        ProbeFailure::Tls => Some(
            "check https or http in the endpoint; `certificate` names a certificate that this machine does not know",
        ),
        ProbeFailure::Unauthorized => {
            Some("set credentials: `headers` of [otlp], or OTEL_EXPORTER_OTLP_HEADERS")
        }
        ProbeFailure::UnknownPath => {
            Some("correct the path of the endpoint, or turn the signal off in [otlp]")
        }
        ProbeFailure::Refused => Some("read the collector's own log"),
        ProbeFailure::Unusable => Some("correct [otlp]; `spantap man run` lists its entries"),
    }
}
