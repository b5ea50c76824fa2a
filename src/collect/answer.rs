//! Answers to requests, as the OTLP specification describes them for HTTP and gRPC.

use std::time::Duration;

use axum::body::Body;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message;
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt};

use crate::collect::decode::ACCEPTED;
use crate::export::otlp::settings::Signal;

/// How long a client is asked to wait before it sends a request again that found no room, in seconds.
const RETRY_SECONDS: u64 = 2;
/// Explains the items that a partial success leaves out.
const PARTLY: &str = "these items are not valid, or have more than 20,000 attributes and values, \
    or their resource or scope has more than 64 KiB or 1,000 of them";

/// Encoding of the messages over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyForm {
    Protobuf,
    Json,
}

/// Reason why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    NotFound,
    Method,
    Browser,
    Host,
    Token,
    Loop,
    ContentType,
    Encoding,
    TooLarge,
    TooManyElements,
    Slow,
    Busy,
    /// The client left.
    Gone,
    /// A fault of spantap.
    Failed,
    Garbage,
    Broken,
}

impl Refusal {
    /// Returns the word of this reason in counts, the status over HTTP and over gRPC, and a sentence.
    fn parts(self) -> (&'static str, u16, Code, &'static str) {
        match self {
            Refusal::NotFound => {
                ("not_found", 404, Code::Unimplemented, "the paths are /v1/traces, /v1/logs and /v1/metrics")
            }
            Refusal::Method => ("method", 405, Code::Unimplemented, "telemetry is sent with POST"),
            Refusal::Browser => {
                ("browser", 403, Code::PermissionDenied, "requests of web pages are refused (header Origin)")
            }
            Refusal::Host => {
                ("host", 403, Code::PermissionDenied, "the host name must be localhost or an IP address")
            }
            Refusal::Token => {
                ("token", 401, Code::Unauthenticated, "the header `authorization: Bearer TOKEN` is needed")
            }
            Refusal::Loop => {
                ("loop", 508, Code::FailedPrecondition, "this request came from this collector (--forward)")
            }
            Refusal::ContentType => (
                "content_type",
                415,
                Code::InvalidArgument,
                "the content type must be application/x-protobuf or application/json",
            ),
            Refusal::Encoding => (
                "encoding",
                415,
                Code::Unimplemented,
                "the content encoding must be gzip, deflate, zstd or identity",
            ),
            Refusal::TooLarge => {
                ("too_large", 413, Code::InvalidArgument, "the request is larger than 16 MiB")
            }
            Refusal::TooManyElements => (
                "too_many_elements",
                413,
                Code::InvalidArgument,
                "the request has too many items; send fewer at once",
            ),
            Refusal::Slow => ("slow", 408, Code::DeadlineExceeded, "the body took longer than 10 seconds"),
            Refusal::Busy => ("busy", 503, Code::Unavailable, "too many requests wait; send it again later"),
            Refusal::Gone => ("gone", 400, Code::Cancelled, "the client left before the end of the body"),
            Refusal::Failed => ("failed", 500, Code::Internal, "spantap collect failed"),
            Refusal::Garbage => {
                ("garbage", 400, Code::InvalidArgument, "the body is not a valid OTLP request")
            }
            Refusal::Broken => {
                ("broken", 400, Code::InvalidArgument, "the body does not have its content encoding")
            }
        }
    }

    /// Returns the word of this reason in counts.
    pub(super) fn word(self) -> &'static str {
        self.parts().0
    }

    fn may_pass(self) -> bool {
        self == Refusal::Busy
    }

    /// Returns the answer over HTTP, with a `google.rpc.Status` in `form`.
    pub(super) fn http(self, form: BodyForm) -> Response<Body> {
        let (_, status, code, message) = self.parts();
        let body = match form {
            BodyForm::Protobuf => {
                let status = tonic_types::Status {
                    code: code as i32,
                    message: message.to_owned(),
                    ..tonic_types::Status::default()
                };
                status.encode_to_vec()
            }
            BodyForm::Json => {
                serde_json::json!({ "code": code as i32, "message": message }).to_string().into_bytes()
            }
        };
        let mut answer = http(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), form, body);
        let headers = answer.headers_mut();
        match self {
            Refusal::Method => drop(headers.insert(ALLOW, HeaderValue::from_static("POST"))),
            Refusal::Token => drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            Refusal::Encoding => {
                headers.insert(http::header::ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
            }
            // The rest of the body is not read.
            Refusal::Slow | Refusal::TooLarge => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ if self.may_pass() => drop(headers.insert(RETRY_AFTER, RETRY_SECONDS.into())),
            _ => {}
        }
        answer
    }

    /// Returns the status over gRPC.
    pub(super) fn grpc(self) -> tonic::Status {
        let (_, _, code, message) = self.parts();
        if !self.may_pass() {
            return tonic::Status::new(code, message);
        }
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(RETRY_SECONDS)));
        tonic::Status::with_error_details(code, message, details)
    }
}

fn http(status: StatusCode, form: BodyForm, body: Vec<u8>) -> Response<Body> {
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = status;
    let kind = match form {
        BodyForm::Protobuf => "application/x-protobuf",
        BodyForm::Json => "application/json",
    };
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// Returns the answer over HTTP to a request that was taken without `rejected` of its items.
pub(super) fn taken(signal: Signal, form: BodyForm, rejected: u64) -> Response<Body> {
    let body = match form {
        BodyForm::Protobuf => taken_message(signal, rejected),
        BodyForm::Json if rejected == 0 => b"{}".to_vec(),
        BodyForm::Json => {
            let name = match signal {
                Signal::Traces => "rejectedSpans",
                Signal::Metrics => "rejectedDataPoints",
                Signal::Logs => "rejectedLogRecords",
            };
            // JSON of protobuf writes 64-bit numbers as texts.
            let partial = serde_json::json!({ name: rejected.to_string(), "errorMessage": PARTLY });
            serde_json::json!({ "partialSuccess": partial }).to_string().into_bytes()
        }
    };
    http(StatusCode::OK, form, body)
}

/// Returns the message of the answer to a request that was taken without `rejected` of its items.
pub(super) fn taken_message(signal: Signal, rejected: u64) -> Vec<u8> {
    let partial = i64::try_from(rejected).ok().filter(|rejected| *rejected > 0);
    let partial = partial.map(|rejected| (rejected, PARTLY.to_owned()));
    match signal {
        Signal::Traces => {
            let partial_success = partial.map(|(rejected_spans, error_message)| ExportTracePartialSuccess {
                rejected_spans,
                error_message,
            });
            ExportTraceServiceResponse { partial_success }.encode_to_vec()
        }
        Signal::Metrics => {
            let partial_success = partial.map(|(rejected_data_points, error_message)| {
                ExportMetricsPartialSuccess { rejected_data_points, error_message }
            });
            ExportMetricsServiceResponse { partial_success }.encode_to_vec()
        }
        Signal::Logs => {
            let partial_success = partial.map(|(rejected_log_records, error_message)| {
                ExportLogsPartialSuccess { rejected_log_records, error_message }
            });
            ExportLogsServiceResponse { partial_success }.encode_to_vec()
        }
    }
}
