//! `--forward`: the bodies arrive as they came.

use std::sync::mpsc::{Receiver, channel};

use super::*;

/// A request as a target reads it.
pub(super) struct Arrived {
    head: String,
    body: Vec<u8>,
}

impl Arrived {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }
}

/// A target that answers the requests with these statuses, then with 200.
pub(super) fn target(statuses: &'static [u16]) -> (String, Receiver<Arrived>) {
    target_that_says(statuses, "")
}

/// A target that answers the requests with these statuses, then with 200, each with this text of JSON.
fn target_that_says(statuses: &'static [u16], says: &'static str) -> (String, Receiver<Arrived>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (to, arrived) = channel();
    let mut statuses = statuses.iter().copied();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(&stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|count| count > 0) {}
            let mut request = Arrived { head, body: Vec::new() };
            let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            request.body = vec![0; length];
            reader.read_exact(&mut request.body).unwrap();
            let status = statuses.next().unwrap_or(200);
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{says}",
                says.len()
            );
            (&stream).write_all(answer.as_bytes()).unwrap();
            if to.send(request).is_err() {
                return;
            }
        }
    });
    (url, arrived)
}

/// How long a test waits for a request.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn bodies_arrive_as_they_came_with_the_headers_that_are_named() {
    let (url, arrived) = target(&[]);
    let home = Home::new();
    let options = ["--forward", &url, "--forward-header", "x-team", "--forward-header", "x-key=a b"];
    let collecting = Collecting::start(&home, &options);
    let json = br#"{ "resourceSpans" : [ ], "unknown": "kept" }"#;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&spans("spantap", 5).encode_to_vec()).unwrap();
    let gzip = gzip.finish().unwrap();
    let json_kind = "content-type: application/json; charset=utf-8";
    let headers = [json_kind, "x-team: red", "x-secret: s", "authorization: Bearer t"];
    assert_eq!(collecting.post("/v1/traces", &headers, json).status, 200);
    let first = arrived.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        (first.body.as_slice(), first.head.lines().next()),
        (&json[..], Some("POST /v1/traces HTTP/1.1"))
    );
    assert_eq!(first.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!((first.header("x-team"), first.header("x-key")), (Some("red"), Some("a b")));
    assert_eq!((first.header("x-secret"), first.header("authorization")), (None, None));
    assert_eq!(first.header("content-encoding"), None);
    assert_eq!(collecting.post("/v1/traces", &[PROTOBUF, "content-encoding: gzip"], &gzip).status, 200);
    let second = arrived.recv_timeout(PATIENCE).unwrap();
    assert_eq!((second.body, second.head.contains("x-team")), (gzip, false));
    assert!(second.head.to_lowercase().contains("content-encoding: gzip"), "{}", second.head);
    // What is refused here is not passed on.
    assert_eq!(collecting.post("/v1/traces", &[PROTOBUF], b"garbage").status, 400);
    let (printed, said) = collecting.end();
    assert!(said.contains("prompts") && said.contains(url.strip_prefix("http://").unwrap()), "{said}");
    assert!(printed.contains("passed on: 2 requests"), "{printed}");
    assert!(arrived.try_recv().is_err());
}

#[test]
fn a_message_over_grpc_arrives_as_a_body_over_http() {
    use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
    use tonic::codec::CompressionEncoding::Gzip;

    let (url, arrived) = target(&[]);
    let home = Home::new();
    let collecting = Collecting::start(&home, &["--forward", &url]);
    let request = spans("agent", 300);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let address = collecting.url();
    runtime.block_on(async {
        let channel = tonic::transport::Endpoint::from_shared(address).unwrap().connect().await.unwrap();
        TraceServiceClient::new(channel.clone()).export(request.clone()).await.unwrap();
        TraceServiceClient::new(channel).send_compressed(Gzip).export(request.clone()).await.unwrap();
    });
    let plain = arrived.recv_timeout(PATIENCE).unwrap();
    assert_eq!((plain.body, plain.head.contains("content-encoding")), (request.encode_to_vec(), false));
    let packed = arrived.recv_timeout(PATIENCE).unwrap();
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&*packed.body).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, request.encode_to_vec());
}

#[test]
fn a_target_that_is_away_is_tried_again_and_one_that_refuses_is_counted() {
    let (url, arrived) = target(&[503, 200, 400]);
    let home = Home::new();
    let collecting = Collecting::start(&home, &["--forward", &url]);
    assert_eq!(collecting.send(&spans("agent", 1)).status, 200);
    let bodies = [arrived.recv_timeout(PATIENCE).unwrap().body, arrived.recv_timeout(PATIENCE).unwrap().body];
    assert_eq!(bodies[0], bodies[1]);
    assert_eq!(collecting.send(&spans("agent", 2)).status, 200);
    arrived.recv_timeout(PATIENCE).unwrap();
    let (printed, said) = collecting.end();
    assert!(
        said.contains("does not take requests (http_503)") && said.contains("takes requests again"),
        "{said}"
    );
    assert!(printed.contains("passed on: 1 request"), "{printed}");
    assert!(printed.contains("requests not passed on: 1 (http_400 1)"), "{printed}");
}

#[test]
fn items_that_a_target_rejects_are_counted_with_its_words_redacted() {
    let says = r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old, password=hunter2-of-it"}}"#;
    let (url, arrived) = target_that_says(&[], says);
    let home = Home::new();
    let collecting = Collecting::start(&home, &["--forward", &url]);
    for _ in 0..2 {
        assert_eq!(collecting.send(&spans("agent", 5)).status, 200);
        arrived.recv_timeout(PATIENCE).unwrap();
    }
    wait_until("both are counted", || state(&home)["counts"]["forward_rejected"]["spans"] == 6);
    crate::wrap::put(&home, ".cursor/mcp.json", r#"{"mcpServers": {"s": {"command": "true"}}}"#);
    let status = text(&home.spantap(["status"]).output().unwrap()).0;
    let loss = "items rejected by the target of --forward: 6 (spans 6)";
    assert!(status.contains(loss) && status.contains("check the target of --forward"), "{status}");
    let (printed, said) = collecting.end();
    assert!(printed.contains("passed on: 2 requests") && printed.contains(loss), "{printed}");
    assert_eq!(said.matches("took a request without 3 of its spans (too old, ").count(), 1, "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn a_target_that_leads_back_is_refused_by_its_address_and_by_its_marker() {
    let home = Home::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let url = format!("http://{address}");
    let output = home.spantap(["collect", "--listen", &address, "--forward", &url]).output().unwrap();
    let said = text(&output).1;
    assert!(!output.status.success() && said.contains("leads back to this collector"), "{said}");
    // The marker of a request that this run has passed on already.
    let (url, arrived) = target(&[]);
    let collecting = Collecting::start(&home, &["--forward", &url]);
    assert_eq!(collecting.send(&spans("agent", 1)).status, 200);
    let via = arrived.recv_timeout(PATIENCE).unwrap();
    let marker = format!("spantap-collect-via: {}", via.header("spantap-collect-via").unwrap());
    assert_eq!(
        collecting.post("/v1/traces", &[PROTOBUF, &marker], &spans("agent", 1).encode_to_vec()).status,
        508
    );
    let (printed, _) = collecting.end();
    assert!(printed.contains("requests refused: 1 (loop 1)"), "{printed}");
}
