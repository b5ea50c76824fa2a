//! What a collector receives, and what happens when it is not there, slow or mad.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// How a collector behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Good,
    Slow(Duration),
    /// Answers with this status; with `Retry-After` of an hour for 429.
    Status(u16),
    Garbage,
    /// An answer that never ends.
    Endless,
    /// Takes the request and says nothing.
    Hanging,
    /// Takes each request without one span.
    Partial,
}

/// Requests: their paths and bodies.
type Requests = Mutex<Vec<(String, Vec<u8>)>>;

/// A collector on a port of its own, which remembers what it got.
struct Collector {
    endpoint: String,
    got: Arc<Requests>,
}

impl Collector {
    fn start(manner: Manner) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let got: Arc<Requests> = Arc::default();
        let requests = Arc::clone(&got);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let requests = Arc::clone(&requests);
                std::thread::spawn(move || serve(stream, manner, &requests));
            }
        });
        Collector { endpoint, got }
    }

    fn of<M: Message + Default>(&self, path: &str) -> Vec<M> {
        let got = self.got.lock().unwrap();
        got.iter().filter(|(to, _)| to == path).map(|(_, body)| M::decode(body.as_slice()).unwrap()).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let requests: Vec<ExportTraceServiceRequest> = self.of("/v1/traces");
        let resources = requests.into_iter().flat_map(|request| request.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }
}

fn serve(stream: TcpStream, manner: Manner, requests: &Requests) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let (mut length, mut gzip) = (0, false);
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap_or(0) == 0 || header == "\r\n" {
                break;
            }
            let header = header.to_lowercase();
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            gzip |= header.starts_with("content-encoding: gzip");
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        if gzip {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(body.as_slice()).read_to_end(&mut plain).unwrap();
            body = plain;
        }
        let answer = |status: u16, extra: &str, body: &[u8]| {
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{extra}\r\n", body.len());
            [head.as_bytes(), body].concat()
        };
        let bytes = match manner {
            Manner::Good => answer(200, "", b""),
            Manner::Slow(time) => {
                std::thread::sleep(time);
                answer(200, "", b"")
            }
            Manner::Status(429) => answer(429, "retry-after: 3600\r\n", b""),
            Manner::Status(status) => answer(status, "", b"no"),
            Manner::Garbage => b"\0\xff\x13 this is no HTTP\r\n\r\n".to_vec(),
            Manner::Partial => answer(200, "", &[0x0a, 0x02, 0x08, 0x01]),
            Manner::Hanging => {
                std::thread::sleep(Duration::from_secs(60));
                return;
            }
            Manner::Endless => {
                let _ = writer.write_all(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n");
                while writer.write_all(b"1000\r\n").is_ok() && writer.write_all(&[b'x'; 4098]).is_ok() {}
                return;
            }
        };
        requests.lock().unwrap().push((path, body));
        if writer.write_all(&bytes).is_err() {
            return;
        }
    }
}

/// A session of `calls` tool calls with the sample server, all sent at once.
fn session(home: &Path, options: &[&str], environment: &[(&str, &str)], calls: usize) -> (Output, Duration) {
    let spantap = env!("CARGO_BIN_EXE_spantap");
    let mut command = Command::new(spantap);
    command.args(["--server", "sample"]).args(options).arg("--").args([spantap, "demo", "--serve"]);
    command.env_clear().env("HOME", home).envs(environment.iter().copied());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut to = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let mut text = String::from("{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"tools/list\"}\n");
        for id in 1..=calls {
            text.push_str(&format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\"params\":{{\"name\":\"read_file\",\"arguments\":{{\"n\":{id}}}}}}}\n"
            ));
        }
        let _ = to.write_all(text.as_bytes());
        Instant::now()
    });
    let mut lines = 0;
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while lines <= calls && stdout.read_line(&mut line).unwrap() > 0 {
        assert!(line.starts_with("{\"jsonrpc\"") || line.starts_with("{\"id\""), "on the wire: {line}");
        line.clear();
        lines += 1;
    }
    assert_eq!(lines, calls + 1);
    writer.join().unwrap();
    let ended = Instant::now();
    let output = child.wait_with_output().unwrap();
    (output, ended.elapsed())
}

fn text(span: &Span, key: &str) -> Option<String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let attribute = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}

#[test]
fn all_three_signals_arrive_with_what_the_log_says() {
    let home = tempfile::tempdir().unwrap();
    let collector = Collector::start(Manner::Good);
    let logs = ("OTEL_LOGS_EXPORTER", "otlp");
    let (output, _) = session(home.path(), &["--otlp", &collector.endpoint], &[logs], 3);
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let spans = collector.spans();
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(
        names,
        ["mcp.connect", "tools/list", "tools/call read_file", "tools/call read_file", "tools/call read_file"]
    );
    let (connect, call) = (&spans[0], &spans[2]);
    assert_eq!(call.parent_span_id, connect.span_id);
    assert_eq!(call.kind, 2, "SERVER");
    assert_eq!(text(call, "mcp.method.name").as_deref(), Some("tools/call"));
    assert_eq!(text(call, "gen_ai.tool.name").as_deref(), Some("read_file"));
    assert_eq!(text(call, "network.transport").as_deref(), Some("pipe"));
    assert!(text(call, "spantap.args_hash").unwrap().starts_with("hmac-sha256:"));

    let metrics: Vec<ExportMetricsServiceRequest> = collector.of("/v1/metrics");
    let last = metrics.last().unwrap().resource_metrics[0].clone();
    let points = &last.scope_metrics[0].metrics;
    let histogram = points.iter().find(|metric| metric.name == "mcp.server.operation.duration").unwrap();
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    let Some(Data::Histogram(histogram)) = &histogram.data else { panic!("a histogram") };
    assert_eq!(histogram.data_points.iter().map(|point| point.count).sum::<u64>(), 4);
    let of =
        |key: &str| last.resource.as_ref().unwrap().attributes.iter().find(|a| a.key == key).unwrap().clone();
    assert!(format!("{:?}", of("service.name")).contains("sample"));
    assert!(format!("{:?}", of("service.namespace")).contains("mcp"));

    let logs: Vec<ExportLogsServiceRequest> = collector.of("/v1/logs");
    let records: Vec<_> = logs
        .iter()
        .flat_map(|request| &request.resource_logs)
        .flat_map(|resource| &resource.scope_logs)
        .flat_map(|scope| &scope.log_records)
        .collect();
    let calls: Vec<_> = records.iter().filter(|record| record.event_name == "mcp_tool_call").collect();
    assert_eq!(calls.len(), 3);
    assert_eq!(calls[0].span_id, call.span_id);
}

#[test]
fn a_long_session_that_ends_at_once_arrives_or_is_counted_and_nothing_twice() {
    /// As many as a build without optimisation observes well within the flush budget.
    const CALLS: usize = if cfg!(debug_assertions) { 2_000 } else { 10_000 };
    for manner in [Manner::Good, Manner::Slow(Duration::from_millis(100))] {
        let home = tempfile::tempdir().unwrap();
        let collector = Collector::start(manner);
        let environment = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ];
        let (output, _) = session(home.path(), &[], &environment, CALLS);
        assert!(output.status.success());
        let spans = collector.spans();
        let mut ids: Vec<&[u8]> = spans.iter().map(|span| span.span_id.as_slice()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), spans.len(), "a span arrived twice");
        let lost = lost(&output);
        // A batch whose answer did not come in time counts as lost although it may have arrived.
        assert!(spans.len() as u64 + lost >= CALLS as u64 + 2, "{manner:?}: {lost} lost");
        // A collector that takes everything loses nothing but what the flush budget had no time for.
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(lost == 0 || stderr.contains("at otlp (shutdown);"), "{stderr}");
    }
}

/// What the closing line on stderr says was lost on the way to the collector.
fn lost(output: &Output) -> u64 {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = stderr.lines().find(|line| line.contains("records lost")).unwrap_or_default();
    let parts = line.split(": ").last().unwrap_or_default().split(", ");
    parts
        .filter(|part| part.contains(" at otlp"))
        .filter_map(|part| part.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

#[test]
fn a_bad_collector_costs_its_data_and_nothing_else() {
    let refused = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let manners = [
        Manner::Status(400),
        Manner::Status(401),
        Manner::Status(404),
        Manner::Status(429),
        Manner::Status(500),
        Manner::Status(503),
        Manner::Garbage,
        Manner::Endless,
        Manner::Hanging,
    ];
    let collectors: Vec<(String, Collector)> =
        manners.iter().map(|manner| (format!("{manner:?}"), Collector::start(*manner))).collect();
    let mut endpoints: Vec<(String, String)> =
        collectors.iter().map(|(name, collector)| (name.clone(), collector.endpoint.clone())).collect();
    endpoints.push(("refused".to_owned(), refused));
    endpoints.push(("unknown host".to_owned(), "http://collector.invalid:4318".to_owned()));
    // A few at a time: each waits for most of the flush budget.
    for some in endpoints.chunks(4) {
        std::thread::scope(|scope| {
            for (name, endpoint) in some {
                scope.spawn(move || {
                    let home = tempfile::tempdir().unwrap();
                    let (output, took) = session(home.path(), &["--otlp", endpoint], &[], 20);
                    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
                    assert!(output.status.success(), "{name}: {stderr}");
                    assert!(took < Duration::from_secs(10), "{name}: gone after {took:?}");
                    assert_eq!(lost(&output), 22, "{name}: {stderr}");
                    assert!(stderr.lines().all(|line| line.starts_with("spantap: ")), "{name}: {stderr}");
                });
            }
        });
    }
}

#[test]
fn what_a_collector_rejects_in_part_is_counted() {
    let home = tempfile::tempdir().unwrap();
    let collector = Collector::start(Manner::Partial);
    let (output, _) =
        session(home.path(), &["--otlp", &collector.endpoint], &[("OTEL_METRICS_EXPORTER", "none")], 5);
    let requests = collector.of::<ExportTraceServiceRequest>("/v1/traces").len() as u64;
    assert_eq!(lost(&output), requests, "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn spans_sent_again_are_the_spans_sent_live() {
    let home = tempfile::tempdir().unwrap();
    let (live, again) = (Collector::start(Manner::Good), Collector::start(Manner::Good));
    session(home.path(), &["--otlp", &live.endpoint], &[], 50);
    let export = |options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spantap"));
        command
            .args(["export", "--otlp", &again.endpoint])
            .args(options)
            .env_clear()
            .env("HOME", home.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(export(&["--resume"]).contains("53 records of 1 connections sent, 0"), "all of them");
    assert_eq!(again.spans(), live.spans());
    let before = again.spans().len();
    assert!(export(&["--resume"]).starts_with("0 records"), "nothing is sent twice");
    assert_eq!(again.spans().len(), before);
}

#[test]
fn nothing_but_the_wire_is_on_stdout_under_any_misconfiguration() {
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "smoke"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "nonsense"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "nonsense"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "-1"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_RESOURCE_ATTRIBUTES", "nonsense"),
        ("RUST_LOG", "trace"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let base = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://127.0.0.1:9");
        // `session` looks at every line of stdout.
        let (output, _) = session(home.path(), &["-vvv"], &[base, (name, value)], 5);
        assert!(output.status.success(), "{name}={value}");
    }
}

#[test]
fn without_being_asked_nothing_is_sent() {
    let home = tempfile::tempdir().unwrap();
    let collector = Collector::start(Manner::Good);
    let environment =
        [("OTEL_SDK_DISABLED", "true"), ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str())];
    session(home.path(), &[], &environment, 3);
    assert!(collector.got.lock().unwrap().is_empty());
}

#[test]
fn a_pulse_sends_figures_of_its_own_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let collector = Collector::start(Manner::Good);
    let pulse = |server: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spantap"));
        command.env_clear().env("HOME", home.path()).env("PATH", "/usr/bin:/bin");
        command.args([
            "check",
            "--every",
            "1ms",
            "--count",
            "2",
            "--server",
            "web",
            "--otlp",
            &collector.endpoint,
        ]);
        command.arg("--").args(server).output().unwrap()
    };
    assert!(pulse(&[env!("CARGO_BIN_EXE_spantap"), "demo", "--serve"]).status.success());
    assert_eq!(pulse(&["/no/such/server"]).status.code(), Some(127));
    let requests: Vec<ExportMetricsServiceRequest> = collector.of("/v1/metrics");
    let got: Vec<String> = collector.got.lock().unwrap().iter().map(|(path, _)| path.clone()).collect();
    assert!(got.iter().all(|path| path == "/v1/metrics"), "{got:?}");
    // The last export of each pulse, in which everything stands.
    let last = |status: &str| {
        let request = requests.iter().rev().find(|request| format!("{request:?}").contains(status)).unwrap();
        let metrics = request.resource_metrics[0].scope_metrics[0].metrics.clone();
        metrics
            .into_iter()
            .map(|metric| (metric.name.clone(), format!("{:?}", metric.data)))
            .collect::<BTreeMap<_, _>>()
    };
    let good = last("tools/list");
    assert!(good["spantap.check.up"].contains("AsInt(1)"), "{good:?}");
    for step in ["handshake", "ping", "tools/list", "end"] {
        assert!(good["spantap.check.duration"].contains(step), "{good:?}");
    }
    let bad = last("AsInt(2)");
    assert!(bad["spantap.check.up"].contains("AsInt(0)"), "{bad:?}");
    assert!(bad["spantap.check.failures_in_a_row"].contains("AsInt(2)"), "{bad:?}");
    assert!(bad["spantap.check.failures"].contains("not_found"), "{bad:?}");
    let names: Vec<&str> = good.keys().chain(bad.keys()).map(String::as_str).collect();
    assert!(names.iter().all(|name| name.starts_with("spantap.check.")), "{names:?}");
}
