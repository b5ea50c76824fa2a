//! What became of one exchange with a collector.
//!
//! The exporters of the OpenTelemetry crate tell success from failure and nothing else. The client below
//! them knows more: it reports here, and whoever awaits the export finds it. The place is local to the
//! task, so that exchanges that run at the same time do not answer for each other.

use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceResponse, metrics::v1::ExportMetricsServiceResponse,
    trace::v1::ExportTraceServiceResponse,
};
use opentelemetry_sdk::error::OTelSdkResult;
use prost::Message;

use crate::export::otlp::settings::Signal;

/// Longest time that a collector may ask us to stay away.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// How an exchange went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Why it failed, as a word; `None` if it did not.
    pub failure: Option<&'static str>,
    /// Whether the same may be sent again.
    pub retryable: bool,
    /// It was too much at once; less may be taken.
    pub too_large: bool,
    pub retry_after: Option<Duration>,
    /// Items that the collector took the request without.
    pub rejected: u64,
}

impl Outcome {
    pub fn taken(rejected: u64) -> Outcome {
        Outcome { rejected, ..Outcome::default() }
    }

    /// Sending the same again would be refused again, or would come twice.
    pub fn lost(reason: &'static str) -> Outcome {
        Outcome { failure: Some(reason), ..Outcome::default() }
    }

    /// It may be taken another time.
    pub fn not_now(reason: &'static str) -> Outcome {
        Outcome { failure: Some(reason), retryable: true, ..Outcome::default() }
    }

    pub fn after(self, retry_after: Option<Duration>) -> Outcome {
        Outcome { retry_after: retry_after.map(|after| after.min(MAX_RETRY_AFTER)), ..self }
    }
}

tokio::task_local! {
    static EXCHANGE: RefCell<Option<Outcome>>;
}

/// Called by the client when an exchange is over.
pub fn report(outcome: Outcome) {
    // Outside of `of` nobody asks.
    let _ = EXCHANGE.try_with(|exchange| *exchange.borrow_mut() = Some(outcome));
}

/// Awaits an export and says what became of it.
pub async fn of(export: impl Future<Output = OTelSdkResult>) -> Outcome {
    EXCHANGE
        .scope(RefCell::default(), async {
            let result = export.await;
            match (EXCHANGE.with(RefCell::take), result) {
                (Some(outcome), _) => outcome,
                (None, Ok(())) => Outcome::default(),
                // It never reached the client: too large, or not to be encoded.
                (None, Err(_)) => Outcome { too_large: true, ..Outcome::lost("not_encoded") },
            }
        })
        .await
}

/// The number of items in `partial_success` of an answer; one that cannot be read rejects nothing.
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
