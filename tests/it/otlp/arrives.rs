//! Everything arrives once, as the conventions define, over every transport.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::collector::{Collector, Manner, points, text};
use super::{call, session, session_until, start};
use crate::support::run::Run;
use crate::support::{Home, wait_until};

#[test]
fn all_three_signals_arrive_over_every_transport_with_what_the_log_says() {
    for (protocol, compression) in [
        ("http/protobuf", "none"),
        ("http/protobuf", "gzip"),
        ("http/json", "none"),
        ("http/json", "gzip"),
        ("grpc", "none"),
        ("grpc", "gzip"),
    ] {
        let home = Home::new();
        let collector = match protocol {
            "grpc" => Collector::grpc(Manner::Good),
            _ => Collector::start(Manner::Good),
        };
        let (protocol, compression) = (format!("protocol={protocol}"), format!("compression={compression}"));
        let options = [
            ["--otlp", &collector.endpoint],
            ["--otlp-set", &protocol],
            ["--otlp-set", &compression],
            ["--otlp-set", "logs=true"],
            ["--otlp-set", "headers.x-key=Bearer abc"],
        ];
        // The variable for compression is for the server.
        let environment = [("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")];
        let ended = session_until(&home, options.as_flattened(), &environment, 3, || {
            wait_until("the spans", || collector.spans().len() == 5);
        });
        assert!(ended.is_success);
        assert_eq!(ended.stderr, "", "{protocol}");
        for request in collector.requests() {
            let has = |header: &str| request.headers.iter().any(|line| line.starts_with(header));
            assert!(has("x-key: bearer abc") && has("user-agent: spantap/"), "{:?}", request.headers);
            assert!(compression != "compression=gzip" || request.gzip, "{protocol}");
        }
        let spans = collector.spans();
        let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
        let calls = ["tools/call read_file"; 3];
        assert_eq!(names, [["mcp.connect", "tools/list"].as_slice(), &calls].concat(), "{protocol}");
        let (connect, call) = (&spans[0], &spans[2]);
        assert_eq!(call.parent_span_id, connect.span_id);
        assert_eq!(call.kind, 2, "SERVER");
        for (name, value) in [
            ("mcp.method.name", "tools/call"),
            ("gen_ai.tool.name", "read_file"),
            ("gen_ai.operation.name", "execute_tool"),
            ("network.transport", "pipe"),
            ("jsonrpc.request.id", "1"),
        ] {
            assert_eq!(text(call, name).as_deref(), Some(value), "{protocol}");
        }
        assert!(text(call, "spantap.args_hash").unwrap().starts_with("hmac-sha256:"));

        let calls: f64 =
            collector.points("mcp.server.operation.duration").iter().map(|(_, count)| count).sum();
        assert_eq!(calls, 4.0, "{protocol}");
        let resource = collector.resource_of_metrics();
        assert!(resource.contains("service.name=sample") && resource.contains("service.namespace=mcp"));

        let logs = collector.logs();
        let calls: Vec<_> = logs.iter().filter(|log| log.event_name == "mcp_tool_call").collect();
        assert_eq!(calls.len(), 3, "{protocol}");
        assert_eq!((&calls[0].span_id, calls[0].severity_number), (&call.span_id, 9));
        assert_eq!(logs.len(), home.records().len(), "each record is a log");
    }
}

#[test]
fn a_long_session_that_ends_at_once_arrives_or_is_counted_and_nothing_twice() {
    /// Number of calls that a build without optimisation observes well within the flush budget.
    const CALLS: usize = if cfg!(debug_assertions) { 2_000 } else { 10_000 };
    for manner in [Manner::Good, Manner::Slow(Duration::from_millis(300))] {
        let home = Home::new();
        let collector = Collector::start(manner.clone());
        let environment = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ];
        let ended = session(&home, &[], &environment, CALLS);
        assert!(ended.is_success);
        let spans = collector.spans();
        let ids: BTreeSet<&[u8]> = spans.iter().map(|span| span.span_id.as_slice()).collect();
        assert_eq!(ids.len(), spans.len(), "a span arrived twice");
        if ended.had_no_time() {
            continue;
        }
        let lost = ended.lost();
        // A batch whose answer came too late counts as lost although it may have arrived.
        assert!(spans.len() as u64 + lost >= CALLS as u64 + 2, "{manner:?}: {lost} lost");
        // With a collector that takes everything, records are lost only if the flush budget was too short for
        // them.
        let stderr = &ended.stderr;
        assert!(lost == 0 || stderr.contains("at otlp (shutdown);"), "{stderr}");
    }
}

#[test]
fn a_session_is_seen_while_it_runs_from_zero_on() {
    let home = Home::new();
    let collector = Collector::start(Manner::Good);
    let mut session = start(&home, &["--otlp", &collector.endpoint], &[]);
    wait_until("the first points", || !collector.exports().is_empty());
    let first = &collector.exports()[0];
    let server = "mcp.server.name=sample";
    assert_eq!(points(first, "spantap.server.up"), [(server.to_owned(), 1.0)]);
    for name in [
        "spantap.session.tool_calls",
        "spantap.session.denials",
        "spantap.operation.in_flight",
        "spantap.server.connection.failures",
        "spantap.telemetry.dropped",
        "spantap.session.tokens",
        "spantap.server.cpu.time",
        "spantap.relay.queue.depth",
    ] {
        let points = points(first, name);
        assert!(!points.is_empty() && points.iter().all(|(_, value)| *value == 0.0), "{name}: {points:?}");
    }
    session.exchange(call(1, "").as_bytes(), 1);
    wait_until("the connection's span", || collector.spans().iter().any(|span| span.name == "mcp.connect"));
    wait_until("the call's span", || collector.spans().len() == 2);
    assert!(session.end().0.success());
    assert_eq!(collector.points("spantap.server.up"), [(server.to_owned(), 0.0)]);
}

#[test]
fn a_tool_has_a_series_from_the_moment_it_is_listed() {
    let home = Home::new();
    let collector = Collector::start(Manner::Good);
    session(&home, &["--otlp", &collector.endpoint], &[], 2);
    let repeats = collector.points("spantap.session.repeats");
    let of = |tool: &str| repeats.iter().find(|(attributes, _)| attributes.contains(tool)).map(|(_, n)| *n);
    assert_eq!(of("gen_ai.tool.name=read_file"), Some(1.0));
    assert_eq!(of("gen_ai.tool.name=search_issues"), Some(0.0), "{repeats:?}");
}

#[cfg(unix)]
#[test]
fn the_cost_of_each_definition_and_its_changes_are_measured() {
    let home = Home::new();
    let collector = Collector::start(Manner::Good);
    let lists = [r#"{"name":"a"},{"name":"b"},{"x":1}"#, r#"{"name":"a","description":"abcd"}"#];
    let mut session = Run::wrapping_lists(&lists)
        .home(&home)
        .options(&["--server", "s", "--otlp", &collector.endpoint])
        .unhurried()
        .start();
    lists.iter().for_each(|_| drop(session.request("tools/list", json!({}))));
    assert!(session.end().0.success());
    let of = |name: &str| -> Vec<String> {
        let points = collector.points(name).into_iter();
        let mut points: Vec<String> =
            points.map(|(attributes, value)| format!("{attributes} {value}")).collect();
        points.sort();
        points
    };
    assert_eq!(
        of("spantap.context.definition_tokens"),
        [
            "gen_ai.tool.name=_OTHER mcp.server.name=s 0",
            "gen_ai.tool.name=a mcp.server.name=s 9",
            "gen_ai.tool.name=b mcp.server.name=s 0",
        ]
    );
    let definitions = of("spantap.session.tokens");
    assert!(
        definitions.contains(&"mcp.server.name=s spantap.token.kind=definitions 9".to_owned()),
        "{definitions:?}"
    );
    assert_eq!(
        of("spantap.tool.changes"),
        [
            "gen_ai.tool.name=a mcp.server.name=s spantap.tool.change=description 1",
            "gen_ai.tool.name=b mcp.server.name=s spantap.tool.change=removed 1",
        ]
    );
}

#[test]
fn deltas_add_up_to_the_sum() {
    let home = Home::new();
    let collector = Collector::start(Manner::Good);
    let delta = ["--otlp", &collector.endpoint, "--otlp-set", "temporality=delta"];
    session(&home, &delta, &[], 5);
    let counts = collector
        .exports()
        .iter()
        .flat_map(|export| points(export, "mcp.server.operation.duration"))
        .map(|(_, count)| count)
        .sum::<f64>();
    assert_eq!(counts, 6.0);
}

#[test]
fn too_large_a_batch_goes_in_smaller_ones() {
    let home = Home::new();
    let collector = Collector::start(Manner::Small(8_000));
    let ended = session_until(
        &home,
        &["--otlp", &collector.endpoint],
        &[("OTEL_METRICS_EXPORTER", "none"), ("OTEL_BSP_SCHEDULE_DELAY", "500")],
        60,
        || wait_until("the spans", || collector.spans().len() == 62),
    );
    assert_eq!(ended.stderr, "");
    assert_eq!(collector.spans().len(), 62);
}

#[test]
fn without_being_asked_nothing_is_sent() {
    let home = Home::new();
    let collector = Collector::start(Manner::Good);
    let environment =
        [("OTEL_SDK_DISABLED", "true"), ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str())];
    session(&home, &[], &environment, 3);
    assert!(collector.requests().is_empty());
}

#[test]
fn calls_cost_the_same_live_and_in_the_log() {
    let home = Home::new();
    let collector = Collector::start(Manner::Good);
    let folder = home.path().join(".config/spantap");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), "[cost.per_call]\n\"sample/read_f?le\" = 0.1\n").unwrap();
    session(&home, &["--otlp", &collector.endpoint], &[], 7);
    let output = home.spantap(["stats", "--json"]).output().unwrap();
    let stats: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let live: f64 = collector.points("spantap.session.cost.usd").iter().map(|(_, usd)| usd).sum();
    assert_eq!((live, &stats["cost_usd_est"]), (0.7, &serde_json::json!(0.7)), "{stats}");
}

#[cfg(unix)]
#[test]
fn a_prompt_is_named_on_metrics_only_if_the_server_listed_it() {
    let home = Home::new();
    let collector = Collector::start(Manner::Good);
    let prompts: Vec<String> = (0..201).map(|n| format!(r#"{{"name":"p{n:03}"}}"#)).collect();
    let list = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"prompts":[{}]}}}}"#, prompts.join(","));
    let mut script = format!("read -r line; printf '%s\\n' '{list}'\n");
    for id in 2..6 {
        script += &format!(
            "read -r line; printf '%s\\n' '{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"messages\":[]}}}}'\n"
        );
    }
    let mut session = Run::wrapping_script(&(script + "cat"))
        .home(&home)
        .options(&["--server", "s", "--otlp", &collector.endpoint])
        .unhurried()
        .start();
    session.request("prompts/list", json!({}));
    for name in ["p007", "made-up-1", "made-up-2", "p200"] {
        session.request("prompts/get", json!({"name": name}));
    }
    assert!(session.end().0.success());
    let mut points = collector.points("mcp.server.operation.duration");
    points.retain(|(attributes, _)| attributes.contains("mcp.method.name=prompts/get"));
    let of = |name: &str| {
        let name = format!("gen_ai.prompt.name={name} ");
        points.iter().find(|(attributes, _)| attributes.contains(&name)).map(|(_, count)| *count)
    };
    assert_eq!((points.len(), of("p007"), of("_OTHER")), (2, Some(1.0), Some(3.0)), "{points:?}");
}

#[cfg(unix)]
#[test]
fn codes_that_a_server_makes_up_do_not_make_a_series_each() {
    let home = Home::new();
    let collector = Collector::start(Manner::Good);
    let answer = r#"{"jsonrpc":"2.0","id":%d,"error":{"code":%d,"message":"no"}}\n"#;
    let script = format!(r#"n=0; while read -r line; do n=$((n + 1)); printf '{answer}' "$n" "$n"; done"#);
    let mut session = Run::wrapping_script(&script)
        .home(&home)
        .options(&["--server", "s", "--otlp", &collector.endpoint])
        .unhurried()
        .start();
    for _ in 0..60 {
        session.request("prompts/get", json!({"name": "p"}));
    }
    assert!(session.end().0.success());
    let points = collector.points("mcp.server.operation.duration");
    let others = points.iter().find(|(text, _)| text.contains("rpc.response.status_code=_OTHER"));
    assert_eq!((points.len(), others.map(|(_, count)| *count)), (51, Some(10.0)), "{points:?}");
}
