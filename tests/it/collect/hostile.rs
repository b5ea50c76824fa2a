//! What a hostile or broken client sends costs a bounded amount, is counted, and does not disturb the next one.

use std::net::Shutdown;
use std::time::Instant;

use opentelemetry_proto::tonic::common::v1::any_value::Value as OtlpValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::*;

/// Most memory of a collector at any moment, in KiB; the tests are built without optimisation.
const MOST_MEMORY: u64 = 192 << 10;

impl Collecting {
    /// Checks that a request is taken, within the bound of memory.
    fn lives(&self) {
        assert_eq!(self.send(&spans("agent", 1)).status, 200);
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(peak <= MOST_MEMORY, "{peak} KiB");
    }
}

#[test]
fn bombs_end_at_the_bound() {
    let home = Home::new();
    let collecting = Collecting::start(&home, &[]);
    let zeros = vec![0; 64 << 20];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&zeros).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = ruzstd::encoding::compress_to_vec(&*zeros, ruzstd::encoding::CompressionLevel::Fastest);
    for (encoding, body) in [("gzip", &gzip), ("zstd", &zstd)] {
        let header = format!("content-encoding: {encoding}");
        for _ in 0..4 {
            assert_eq!(collecting.post("/v1/traces", &[PROTOBUF, &header], body).status, 413, "{encoding}");
        }
    }
    // Empty messages of two bytes, which are a hundred times as large in memory.
    let empty = [10, 0].repeat(8 << 20);
    assert_eq!(collecting.post("/v1/traces", &[PROTOBUF], &empty[2..]).status, 200);
    let objects = [&b"{\"resourceLogs\":["[..], &b"{},".repeat(5 << 20), b"{}]}"].concat();
    assert_eq!(collecting.post("/v1/logs", &[JSON], &objects).status, 413);
    // Facts that are small in the body and large as records, in both forms.
    let text = Some(AnyValue { value: Some(OtlpValue::StringValue("claude-code".to_owned())) });
    let service = KeyValue { key: "service.name".to_owned(), value: text, ..KeyValue::default() };
    let mut request = spans("agent", 0);
    request.resource_spans[0].resource = Some(Resource { attributes: vec![service], ..Resource::default() });
    let named = |number: u32| Span {
        name: "claude_code.tool".to_owned(),
        span_id: number.to_be_bytes().to_vec(),
        ..Span::default()
    };
    request.resource_spans[0].scope_spans[0].spans = (0..200_000).map(named).collect();
    assert_eq!(collecting.send(&request).status, 200);
    let spans =
        br#"{"name":"claude_code.tool","traceId":"01010101010101010101010101010101"},"#.repeat(60_000);
    let service = r#"{"attributes":[{"key":"service.name","value":{"stringValue":"claude-code"}}]}"#;
    let json = format!(
        r#"{{"resourceSpans":[{{"resource":{service},"scopeSpans":[{{"spans":[{}{{}}]}}]}}]}}"#,
        String::from_utf8(spans).unwrap()
    );
    assert_eq!(collecting.post("/v1/traces", &[JSON], json.as_bytes()).status, 200);
    let deep = b"[".repeat(1 << 20);
    assert_eq!(collecting.post("/v1/logs", &[JSON], &deep).status, 413);
    assert_eq!(collecting.post("/v1/logs", &[PROTOBUF], &vec![0; (16 << 20) + 1]).status, 413);
    collecting.lives();
}

#[test]
fn a_body_that_drips_is_answered_in_time() {
    let home = Home::new();
    let collecting = Collecting::start(&home, &[]);
    let mut stream = collecting.connect();
    let head =
        format!("POST /v1/logs HTTP/1.1\r\nhost: localhost\r\n{JSON}\r\ncontent-length: 99999\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut dripping = stream.try_clone().unwrap();
    let begin = Instant::now();
    std::thread::spawn(move || {
        while dripping.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    assert_eq!(read_answer(&mut stream).status, 408);
    assert!(begin.elapsed() < Duration::from_secs(50), "{:?}", begin.elapsed());
    collecting.lives();
}

#[test]
fn a_thousand_connections_are_answered_or_refused_and_counted() {
    let home = Home::new();
    let collecting = Collecting::start(&home, &[]);
    let mut streams = Vec::new();
    for _ in 0..1000 {
        match TcpStream::connect_timeout(&collecting.address, Duration::from_secs(20)) {
            Ok(stream) => streams.push(stream),
            // This process has no descriptor left.
            Err(_) => break,
        }
    }
    assert!(streams.len() > 400, "{}", streams.len());
    drop(streams);
    wait_until("room for a connection", || {
        let mut stream = collecting.connect();
        let request = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let _ = stream.write_all(request.as_bytes());
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        bytes.starts_with(b"HTTP/1.1 404")
    });
    collecting.lives();
}

#[test]
fn garbage_on_the_port_and_clients_that_leave_disturb_nothing() {
    let home = Home::new();
    let collecting = Collecting::start(&home, &[]);
    for garbage in [
        &b"\0\0\0\0\0\0\0\0"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"POST /v1/traces HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{",
        b"POST /v1/traces HTTP/1.1\r\ntransfer-encoding: chunked\r\nhost: localhost\r\n\r\nzz\r\n",
        &[b'a'; 100_000],
    ] {
        let mut stream = collecting.connect();
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    collecting.lives();
    let (printed, _) = collecting.end();
    assert!(printed.contains("took 1 request with 1 span"), "{printed}");
}
