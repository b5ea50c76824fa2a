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
    /// The collector's words about them, as they came.
    pub(super) message: String,
}

/// The items that a collector left out of a request that it accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialSuccess {
    /// Number of items, as the collector reports it.
    pub rejected: u64,
    /// Its words about them, as they came.
    pub message: String,
}

impl Outcome {
    /// The collector accepted the request, perhaps without some items.
    pub(super) fn taken(PartialSuccess { rejected, message }: PartialSuccess) -> Outcome {
        Outcome { rejected, message, ..Outcome::default() }
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

/// Returns true for a failure of which no collector knows: no connection, or no answer in the protocol.
pub(super) fn has_no_answer(reason: &str) -> bool {
    matches!(reason, "refused" | "unknown_host" | "timeout" | "reset" | "no_http" | "tls")
}

/// Returns `partial_success` of an answer; the default value if the answer has none or cannot be read.
/// Source: OTLP specification, "Partial Success".
pub fn partial_success(signal: Signal, json: bool, body: &[u8]) -> PartialSuccess {
    let read = if json { read_json(signal, body) } else { read_protobuf(signal, body) };
    let (count, message) = read.unwrap_or_default();
    PartialSuccess { rejected: u64::try_from(count).unwrap_or(0), message }
}

fn read_json(signal: Signal, body: &[u8]) -> Option<(i64, String)> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let partial = value.get("partialSuccess")?;
    let count = &partial[match signal {
        Signal::Traces => "rejectedSpans",
        Signal::Metrics => "rejectedDataPoints",
        Signal::Logs => "rejectedLogRecords",
    }];
    let count = count.as_i64().or_else(|| count.as_str()?.parse().ok());
    Some((count.unwrap_or(0), partial["errorMessage"].as_str().unwrap_or_default().to_owned()))
}

fn read_protobuf(signal: Signal, body: &[u8]) -> Option<(i64, String)> {
    Some(match signal {
        Signal::Traces => {
            let partial = ExportTraceServiceResponse::decode(body).ok()?.partial_success?;
            (partial.rejected_spans, partial.error_message)
        }
        Signal::Metrics => {
            let partial = ExportMetricsServiceResponse::decode(body).ok()?.partial_success?;
            (partial.rejected_data_points, partial.error_message)
        }
        Signal::Logs => {
            let partial = ExportLogsServiceResponse::decode(body).ok()?.partial_success?;
            (partial.rejected_log_records, partial.error_message)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_collector_rejects_is_read_from_either_encoding() {
        let binary = [0x0a, 0x07, 0x08, 0x07, 0x12, 0x03, b'w', b'h', b'y'];
        for (signal, json) in [
            (Signal::Traces, r#"{"partialSuccess":{"rejectedSpans":"7","errorMessage":"why"}}"#),
            (Signal::Metrics, r#"{"partialSuccess":{"rejectedDataPoints":7,"errorMessage":"why"}}"#),
            (Signal::Logs, r#"{"partialSuccess":{"rejectedLogRecords":"7","errorMessage":"why"}}"#),
        ] {
            let expected = PartialSuccess { rejected: 7, message: "why".to_owned() };
            assert_eq!(partial_success(signal, false, &binary), expected);
            assert_eq!(partial_success(signal, true, json.as_bytes()), expected);
            for (is_json, body) in
                [(true, &b"nonsense"[..]), (true, b"{}"), (false, b"\xff\xff"), (false, b"")]
            {
                assert_eq!(partial_success(signal, is_json, body), PartialSuccess::default());
            }
        }
    }
}
