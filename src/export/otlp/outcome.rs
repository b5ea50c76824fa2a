//! Outcome of one exchange with a collector.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceResponse, metrics::v1::ExportMetricsServiceResponse,
    trace::v1::ExportTraceServiceResponse,
};
use prost::Message;

use crate::export::otlp::settings::Signal;

/// Longest time that a collector may ask us to stay away.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Why it failed, as a word; `None` if it did not.
    pub(super) failure: Option<&'static str>,
    /// The same request may be sent again.
    pub(super) retryable: bool,
    /// The batch was too large; a smaller one may be accepted.
    pub(super) too_large: bool,
    pub(super) retry_after: Option<Duration>,
    /// Items that the collector rejected although it accepted the request.
    pub(super) rejected: u64,
}

impl Outcome {
    /// The collector accepted the request without `rejected` items.
    pub(super) fn taken(rejected: u64) -> Outcome {
        Outcome { rejected, ..Outcome::default() }
    }

    /// The request is lost: sent again, it would be refused again or arrive twice.
    pub(super) fn lost(reason: &'static str) -> Outcome {
        Outcome { failure: Some(reason), ..Outcome::default() }
    }

    /// The collector may accept the request later.
    pub(super) fn not_now(reason: &'static str) -> Outcome {
        Outcome { failure: Some(reason), retryable: true, ..Outcome::default() }
    }

    pub(super) fn after(self, retry_after: Option<Duration>) -> Outcome {
        Outcome { retry_after: retry_after.map(|after| after.min(MAX_RETRY_AFTER)), ..self }
    }
}

/// Returns the number of items in `partial_success` of an answer, or 0 if the answer cannot be read.
/// Source: OTLP specification, "Partial Success".
pub fn rejected(signal: Signal, json: bool, body: &[u8]) -> u64 {
    let count = if json {
        let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let partial = &value["partialSuccess"];
        let field = match signal {
            Signal::Traces => &partial["rejectedSpans"],
            Signal::Metrics => &partial["rejectedDataPoints"],
            Signal::Logs => &partial["rejectedLogRecords"],
        };
        field.as_i64().or_else(|| field.as_str()?.parse().ok())
    } else {
        match signal {
            Signal::Traces => ExportTraceServiceResponse::decode(body)
                .ok()
                .and_then(|answer| answer.partial_success)
                .map(|partial| partial.rejected_spans),
            Signal::Metrics => ExportMetricsServiceResponse::decode(body)
                .ok()
                .and_then(|answer| answer.partial_success)
                .map(|partial| partial.rejected_data_points),
            Signal::Logs => ExportLogsServiceResponse::decode(body)
                .ok()
                .and_then(|answer| answer.partial_success)
                .map(|partial| partial.rejected_log_records),
        }
    };
    count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_collector_rejects_is_read_from_either_encoding() {
        let binary = [0x0a, 0x02, 0x08, 0x07];
        for (signal, json) in [
            (Signal::Traces, r#"{"partialSuccess":{"rejectedSpans":"7"}}"#),
            (Signal::Metrics, r#"{"partialSuccess":{"rejectedDataPoints":7}}"#),
            (Signal::Logs, r#"{"partialSuccess":{"rejectedLogRecords":"7"}}"#),
        ] {
            assert_eq!(rejected(signal, false, &binary), 7);
            assert_eq!(rejected(signal, true, json.as_bytes()), 7);
            assert_eq!(rejected(signal, true, b"nonsense"), 0);
            assert_eq!(rejected(signal, false, b"\xff\xff"), 0);
        }
    }
}
