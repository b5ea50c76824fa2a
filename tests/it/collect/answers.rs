//! Answers as the OTLP specification describes them.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value as OtlpValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use prost::Message;
use tonic::codec::CompressionEncoding;

use super::*;

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut to = GzEncoder::new(Vec::new(), Compression::fast());
    to.write_all(body).unwrap();
    to.finish().unwrap()
}

#[test]
fn every_encoding_of_a_body_is_taken() {
    let home = Home::new();
    let collecting = Collecting::start(&home, &[]);
    let request = spans("agent", 3);
    let (protobuf, json) = (request.encode_to_vec(), serde_json::to_vec(&request).unwrap());
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(&protobuf).unwrap();
    let zstd = ruzstd::encoding::compress_to_vec(&*json, ruzstd::encoding::CompressionLevel::Fastest);
    for (kind, encoding, body) in [
        (PROTOBUF, "content-encoding: identity", protobuf.clone()),
        (PROTOBUF, "content-encoding: gzip", gzip(&protobuf)),
        (PROTOBUF, "content-encoding: deflate", zlib.finish().unwrap()),
        (JSON, "content-encoding: zstd", zstd),
        ("content-type: Application/JSON; charset=utf-8", "content-encoding:", json),
    ] {
        let answer = collecting.post("/v1/traces", &[kind, encoding], &body);
        assert_eq!(answer.status, 200, "{encoding} {answer:?}");
        match kind {
            PROTOBUF => assert!(answer.has(PROTOBUF) && answer.body.is_empty(), "{answer:?}"),
            _ => assert_eq!(answer.body, b"{}"),
        }
    }
    let (printed, _) = collecting.end();
    assert!(printed.contains("took 5 requests with 15 spans"), "{printed}");
}

#[test]
fn a_refusal_has_the_status_and_the_form_of_the_request() {
    let home = Home::new();
    let collecting = Collecting::start(&home, &[]);
    for (status, first, headers, body) in [
        (400, "POST /v1/traces", &[JSON][..], &b"{\"resourceSpans\":"[..]),
        (400, "POST /v1/logs", &[PROTOBUF], b"hello"),
        (400, "POST /v1/logs", &[PROTOBUF, "content-encoding: gzip"], b"hello"),
        (404, "POST /v1/profiles", &[JSON], b"{}"),
        (405, "GET /v1/traces", &[JSON], b""),
        (415, "POST /v1/metrics", &["content-type: text/plain"], b"{}"),
        (415, "POST /v1/metrics", &[JSON, "content-encoding: br"], b"{}"),
        (403, "POST /v1/metrics", &[JSON, "origin: http://localhost:3000"], b"{}"),
        (403, "POST /v1/metrics", &[JSON, "host: rebound.example:4318"], b"{}"),
    ] {
        let answer = collecting.request(first, headers, body);
        assert_eq!(answer.status, status, "{first} {headers:?} {answer:?}");
        assert!(!answer.head.to_lowercase().contains("access-control"), "{answer:?}");
        if headers[0] == JSON {
            assert!(answer.json()["message"].as_str().is_some_and(|text| !text.is_empty()), "{answer:?}");
        } else {
            let status = tonic_types::Status::decode(&*answer.body).unwrap();
            assert!(!status.message.is_empty() && status.code > 0, "{status:?}");
        }
    }
    let (printed, _) = collecting.end();
    assert!(printed.contains("took 0 requests"), "{printed}");
    let refused = "requests refused: 9 (broken 1, browser 1, content_type 1, encoding 1, garbage 2, host 1, method 1, not_found 1)";
    assert!(printed.contains(refused), "{printed}");
}

#[test]
fn items_that_are_left_out_are_a_partial_success() {
    let home = Home::new();
    let collecting = Collecting::start(&home, &[]);
    let mut request = spans("agent", 2);
    let many = OtlpValue::ArrayValue(ArrayValue { values: vec![AnyValue::default(); 30_000] });
    let value = Some(AnyValue { value: Some(many) });
    request.resource_spans[0].scope_spans[0].spans[1].attributes =
        vec![KeyValue { key: "many".to_owned(), value, ..KeyValue::default() }];
    let answer = collecting.send(&request);
    assert_eq!(answer.status, 200);
    let partial = ExportTraceServiceResponse::decode(&*answer.body).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 1);
    assert!(!partial.error_message.is_empty());
    let (printed, _) = collecting.end();
    assert!(
        printed.contains("with 1 span,") && printed.contains("items that are not valid, and not recorded: 1"),
        "{printed}"
    );
}

#[test]
fn all_signals_are_taken_over_grpc_on_the_same_port() {
    let home = Home::new();
    let collecting = Collecting::start(&home, &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = collecting.url();
    runtime.block_on(async {
        let channel = tonic::transport::Endpoint::from_shared(url).unwrap().connect().await.unwrap();
        let mut traces = TraceServiceClient::new(channel.clone());
        traces.export(spans("agent", 2)).await.unwrap();
        let mut traces = traces.send_compressed(CompressionEncoding::Gzip);
        traces.export(spans("agent", 2_000)).await.unwrap();
        LogsServiceClient::new(channel.clone()).export(ExportLogsServiceRequest::default()).await.unwrap();
        MetricsServiceClient::new(channel.clone())
            .export(ExportMetricsServiceRequest::default())
            .await
            .unwrap();
        let mut large = spans("agent", 1);
        large.resource_spans[0].scope_spans[0].spans[0].name = "x".repeat(17 << 20);
        let status = TraceServiceClient::new(channel).export(large).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
    });
    let (printed, _) = collecting.end();
    assert!(printed.contains("took 4 requests with 2002 spans"), "{printed}");
    assert!(printed.contains("requests refused: 1 (too_large 1)"), "{printed}");
}

#[test]
fn with_a_token_only_requests_that_have_it_are_taken() {
    let home = Home::new();
    let file = home.path().join("token");
    std::fs::write(&file, "a-token-of-some-length\n").unwrap();
    let start =
        |listen: &str| home.spantap(["collect", "--listen", listen, "--token-file", file.to_str().unwrap()]);
    let refused = text(&start("127.0.0.1:0").output().unwrap()).1;
    assert!(refused.contains("other users can read the token") && refused.contains("chmod 600"), "{refused}");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, mode).unwrap();
    let open = home.spantap(["collect", "--listen", "0.0.0.0:0"]).output().unwrap();
    assert_eq!(open.status.code(), Some(2), "{open:?}");
    let collecting = Collecting::with(start("0.0.0.0:0"));
    for (status, header) in [
        (401, "x: y"),
        (401, "authorization: Bearer a-token-of-some-lengt"),
        (200, "authorization: Bearer a-token-of-some-length"),
    ] {
        let answer = collecting.post("/v1/logs", &[JSON, "host: box.example", header], b"{}");
        assert_eq!(answer.status, status, "{header}");
        assert_eq!(answer.has("www-authenticate: bearer"), status == 401);
    }
}
