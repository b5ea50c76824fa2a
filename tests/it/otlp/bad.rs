//! A bad collector costs its data and nothing else; a bad configuration costs nothing on the wire.

use std::net::TcpListener;
use std::time::Duration;

use super::collector::{Collector, Manner, points};
use super::{call, session, session_until, start};
use crate::support::{Home, wait_until};

#[test]
fn a_bad_collector_costs_its_data_and_nothing_else() {
    let refused = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let elsewhere = Collector::start(Manner::Good);
    let redirect = format!("location: {}/v1/traces\r\n", elsewhere.endpoint);
    let status = |status| Manner::Status(status, String::new());
    let manners = [
        (status(400), "http_400"),
        (status(401), "http_401"),
        (status(404), "http_404"),
        (status(500), "http_5xx"),
        (status(503), "collector_gone"),
        (Manner::Status(429, "retry-after: 3600\r\n".to_owned()), "collector_gone"),
        (Manner::Status(307, redirect), "http_redirect"),
        (Manner::Garbage, "collector_gone"),
        (Manner::Reset, "collector_gone"),
        (Manner::Endless, "answer_unreadable"),
        (Manner::Dripping, "shutdown"),
        (Manner::Hanging, "shutdown"),
    ];
    let mut cases: Vec<(String, String, &str, &str)> = Vec::new();
    let mut collectors = Vec::new();
    for (manner, reason) in manners {
        let collector = Collector::start(manner.clone());
        cases.push((format!("{manner:?}"), collector.endpoint.clone(), "http/protobuf", reason));
        collectors.push(collector);
    }
    for (manner, reason) in [
        (Manner::Grpc(16), "grpc_unauthenticated"),
        (Manner::Grpc(8), "grpc_resource_exhausted"),
        (Manner::Grpc(14), "collector_gone"),
        (Manner::Hanging, "shutdown"),
    ] {
        let collector = Collector::grpc(manner.clone());
        cases.push((format!("grpc {manner:?}"), collector.endpoint.clone(), "grpc", reason));
        collectors.push(collector);
    }
    for protocol in ["http/protobuf", "grpc"] {
        cases.push((format!("{protocol} refused"), refused.clone(), protocol, "collector_gone"));
        let unknown = "http://collector.invalid:4318".to_owned();
        // A name server may need long to report an unknown name.
        cases.push((format!("{protocol} unknown host"), unknown, protocol, ""));
        let http = Collector::start(Manner::Good);
        if protocol == "grpc" {
            cases.push(("grpc to a web server".to_owned(), http.endpoint.clone(), protocol, ""));
        }
        collectors.push(http);
    }
    // A few run at the same time, because each waits for most of the flush budget.
    for some in cases.chunks(4) {
        std::thread::scope(|scope| {
            for (name, endpoint, protocol, reason) in some {
                scope.spawn(move || {
                    let home = Home::new();
                    let protocol = format!("protocol={protocol}");
                    let options = ["--otlp", endpoint, "--otlp-set", &protocol];
                    let ended = session(&home, &options, &[], 20);
                    let (stderr, took) = (&ended.stderr, ended.took);
                    assert!(ended.is_success, "{name}: {stderr}");
                    assert!(took < Duration::from_secs(10), "{name}: gone after {took:?}");
                    if !ended.had_no_time() {
                        assert_eq!(ended.lost(), 22, "{name}: {stderr}");
                        assert!(stderr.contains(&format!("at otlp ({reason}")), "{name}: {stderr}");
                    }
                    assert!(stderr.lines().all(|line| line.starts_with("spantap: ")), "{name}: {stderr}");
                });
            }
        });
    }
    assert!(elsewhere.requests().is_empty(), "a redirect was followed");
}

#[test]
fn what_a_collector_rejects_in_part_is_counted() {
    for (collector, protocol) in [
        (Collector::start(Manner::Partial), "protocol=http/protobuf"),
        (Collector::grpc(Manner::Partial), "protocol=grpc"),
    ] {
        let home = Home::new();
        let options = ["--otlp", &collector.endpoint, "--otlp-set", protocol, "--otlp-set", "metrics=false"];
        let ended = session_until(&home, &options, &[], 5, || {
            wait_until("the spans", || collector.spans().len() == 7);
        });
        let requests = collector.requests().len() as u64;
        assert_eq!(ended.lost(), requests, "{}", ended.stderr);
    }
}

#[test]
fn a_signal_that_hangs_costs_the_others_nothing_and_what_is_lost_is_told_with_the_last_points() {
    let home = Home::new();
    let collector = Collector::start(Manner::HangingOn("/v1/metrics"));
    let ended = session_until(&home, &["--otlp", &collector.endpoint], &[], 20, || {
        wait_until("the spans", || collector.spans().len() == 22);
    });
    assert_eq!(ended.lost(), 0, "{}", ended.stderr);

    let home = Home::new();
    let collector = Collector::start(Manner::HangingOn("/v1/traces"));
    let options = ["--otlp", &collector.endpoint, "--otlp-set", "metric_interval=1"];
    let calls = |collector: &Collector| {
        let points = collector.exports().last().map(|last| points(last, "mcp.server.operation.duration"));
        points.unwrap_or_default().iter().map(|(_, count)| count).sum::<f64>()
    };
    let ended = session_until(&home, &options, &[], 20, || {
        wait_until("the points", || calls(&collector) == 21.0);
    });
    assert!(ended.had_no_time() || ended.lost() == 22, "{}", ended.stderr);

    let home = Home::new();
    let collector = Collector::start(Manner::Without("/v1/traces"));
    let ended = session(&home, &["--otlp", &collector.endpoint], &[], 20);
    assert!(ended.had_no_time() || ended.lost() == 22, "{}", ended.stderr);
    let dropped = collector.points("spantap.telemetry.dropped");
    let told = dropped.iter().find(|(attributes, _)| attributes.contains("spantap.reason=http_404"));
    assert!(ended.had_no_time() || told.is_some_and(|(_, count)| *count == 22.0), "{dropped:?}");
}

#[test]
fn what_the_log_lost_is_told_to_the_collector() {
    let home = Home::new();
    let collector = Collector::start(Manner::Good);
    let no_folder = home.path().join("file");
    std::fs::write(&no_folder, "").unwrap();
    let options = ["--otlp", &collector.endpoint, "--log-dir", no_folder.to_str().unwrap()];
    let ended = session(&home, &options, &[], 5);
    let dropped = collector.points("spantap.telemetry.dropped");
    let log = |(attributes, count): &&(String, f64)| attributes.contains("spantap.sink=log") && *count > 0.0;
    assert!(ended.had_no_time() || dropped.iter().any(|point| log(&point)), "{dropped:?}");
}

#[test]
fn a_second_signal_ends_the_flush_at_once() {
    let home = Home::new();
    let collector = Collector::start(Manner::Hanging);
    let mut session = start(&home, &["--otlp", &collector.endpoint], &[]);
    session.write(call(1, "").as_bytes()).unwrap();
    session.close_input();
    session.read_to_end();
    // The first signal may still find the server, and then spantap forwards it.
    let pid = libc::pid_t::try_from(session.pid()).unwrap();
    while session.child.try_wait().unwrap().is_none() {
        // SAFETY: our own child, whose end has not been collected.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
        std::thread::sleep(Duration::from_millis(10));
    }
    let (_, said) = session.end();
    // Spantap reports how much was lost only if it waits until the budget is spent.
    assert!(!said.contains("records lost"), "{said}");
}

#[test]
fn nothing_but_the_wire_is_on_stdout_under_any_misconfiguration() {
    let base = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://127.0.0.1:9");
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "smoke"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "nonsense"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:9"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:pass@[::1"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "nonsense"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a%0Ab=c"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/nowhere"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "-1"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "lukewarm"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_METRICS_EXPORTER", "console"),
        ("OTEL_LOGS_EXPORTER", "console,otlp"),
        ("OTEL_TRACES_SAMPLER", "xray"),
        ("OTEL_TRACES_SAMPLER_ARG", "all"),
        ("OTEL_RESOURCE_ATTRIBUTES", "nonsense"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "never"),
        ("OTEL_SDK_DISABLED", "perhaps"),
        ("OTEL_LOG_LEVEL", "debug"),
        ("RUST_LOG", "trace"),
    ] {
        let home = Home::new();
        // `session` checks every line of stdout.
        let ended = session(&home, &["-vvv", "--otlp-set", "nonsense=1"], &[base, (name, value)], 2);
        assert!(ended.is_success, "{name}={value}");
        assert!(!ended.stderr.contains("pass@"), "a password: {}", ended.stderr);
    }
}
