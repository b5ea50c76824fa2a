//! `spantap check --every`: repeated probes beside the live traffic, with metrics of their own.

use super::collector::{Collector, Manner, points};
use crate::support::http::HttpFake;
use crate::support::{Home, SPANTAP};

#[test]
fn a_pulse_sends_figures_of_its_own_and_nothing_else() {
    let home = Home::new();
    let collector = Collector::start(Manner::Good);
    let pulse = |server: &[&str]| {
        let options = ["check", "--every", "1ms", "--count", "2", "--server", "web", "--otlp"];
        let mut command = home.spantap(options);
        command.arg(&collector.endpoint).arg("--").args(server).output().unwrap()
    };
    assert!(pulse(&[SPANTAP, "demo", "--serve"]).status.success());
    let good = collector.exports().pop().expect("the last export of a pulse has every figure");
    assert_eq!(points(&good, "spantap.check.up")[0].1, 1.0);
    let steps = points(&good, "spantap.check.duration");
    for step in ["handshake", "ping", "tools/list", "end"] {
        assert!(steps.iter().any(|(attributes, _)| attributes.contains(step)), "{step}: {steps:?}");
    }

    assert_eq!(pulse(&["/no/such/server"]).status.code(), Some(127));
    let bad = collector.exports().pop().expect("metrics");
    assert_eq!(points(&bad, "spantap.check.up")[0].1, 0.0);
    assert_eq!(points(&bad, "spantap.check.failures_in_a_row")[0].1, 2.0);
    assert_eq!(points(&bad, "spantap.check.attempts")[0].1, 2.0);
    let failures = points(&bad, "spantap.check.failures");
    assert!(
        failures.iter().any(|(attributes, count)| attributes.contains("not_found") && *count == 2.0),
        "{failures:?}"
    );

    let others: Vec<String> = good
        .iter()
        .chain(&bad)
        .map(|metric| metric.name.clone())
        .filter(|name| !name.starts_with("spantap.check."))
        .collect();
    assert!(others.is_empty(), "{others:?}");
    let paths: Vec<String> = collector.requests().into_iter().map(|request| request.path).collect();
    assert!(paths.iter().all(|path| path == "/v1/metrics"), "{paths:?}");
}

/// An address may hold a key, and metrics are kept for years.
#[test]
fn a_pulse_of_a_remote_server_is_counted_by_name_and_never_by_its_address() {
    let (home, collector) = (Home::new(), Collector::start(Manner::Good));
    let server = HttpFake::serve(|_| Some((503, Vec::new(), String::new())));
    let url = server.url.replace("/mcp", "/s/key-in-path?key=key-in-query");
    let words = ["check", &url, "--every", "1ms", "--count", "2", "--otlp", &collector.endpoint];
    assert_eq!(home.spantap(words).output().unwrap().status.code(), Some(9));
    let export = collector.exports().pop().expect("metrics");
    assert_eq!(points(&export, "spantap.check.attempts")[0].1, 2.0);
    let failures = points(&export, "spantap.check.failures");
    assert!(
        failures.iter().any(|(labels, count)| labels.contains("http_status") && *count == 2.0),
        "{failures:?}"
    );
    assert!(!format!("{export:?}").contains("key-in"));
}
