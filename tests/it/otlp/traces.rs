//! The trace that a span belongs to, and the decision to send it.

use opentelemetry_proto::tonic::metrics::v1::Metric;

use super::collector::{Collector, Manner, points, text};
use super::{call, start};
use crate::support::run::Run;
use crate::support::{Home, wait_until};

const CALLER: &str = "0af7651916cd43dd8448eb211c80319c";

/// Returns the caller's context as a member of `_meta`.
fn caller(flags: &str) -> String {
    format!("\"traceparent\":\"00-{CALLER}-b7ad6b7169203331-{flags}\"")
}

/// Returns the span names of a session with these lines, and its collector.
fn spans(lines: &[String], options: &[&str], environment: &[(&str, &str)]) -> (Vec<String>, Collector) {
    let home = Home::new();
    let collector = Collector::start(Manner::Good);
    let often = ["--otlp", collector.endpoint.as_str(), "--otlp-set", "metric_interval=1"];
    let options = [often.as_slice(), options].concat();
    let mut session = start(&home, &options, environment);
    session.exchange(lines.concat().as_bytes(), lines.len());
    // The points of the last calls arrive at the end, after everything else.
    let seen = |export: &Vec<Metric>| {
        let counts = points(export, "mcp.server.operation.duration");
        counts.iter().map(|(_, count)| *count as usize).sum::<usize>() == lines.len()
    };
    wait_until("the points", || collector.exports().last().is_some_and(seen));
    assert!(session.end().0.success());
    (collector.spans().iter().map(|span| span.name.clone()).collect(), collector)
}

/// Returns a call that the sample server answers with an error.
fn failing(id: usize, meta: &str) -> String {
    call(id, meta).replace("read_file", "no_such_tool")
}

#[test]
fn a_caller_that_is_not_sampled_is_honoured_unless_its_failures_are_to_be_kept() {
    let lines = [call(1, &caller("00")), failing(2, &caller("00")), call(3, &caller("01"))];
    let (names, collector) = spans(&lines, &[], &[]);
    assert_eq!(names, ["mcp.connect", "tools/call read_file"]);
    let sampled = &collector.spans()[1];
    assert_eq!(text(sampled, "jsonrpc.request.id").as_deref(), Some("3"));
    assert_eq!(sampled.links.len(), 1, "to the connection");
    // Metrics also count calls that are not sampled.
    let calls: f64 = collector.points("mcp.server.operation.duration").iter().map(|(_, count)| count).sum();
    assert_eq!(calls, 3.0);

    let keep = ["--otlp-set", "always_keep=['errors','slow']"];
    let (names, _) = spans(&lines, &keep, &[]);
    assert_eq!(names, ["mcp.connect", "tools/call no_such_tool", "tools/call read_file"]);
}

#[test]
fn a_sampler_decides_about_traces_that_begin_here_and_one_without_parents_about_all() {
    let lines = [call(1, ""), call(2, &caller("01")), call(3, &caller("00"))];
    let with = |sampler: &str| spans(&lines, &[], &[("OTEL_TRACES_SAMPLER", sampler)]).0.len();
    assert_eq!(with("parentbased_always_off"), 1, "the sampled caller's");
    assert_eq!(with("always_off"), 0);
    assert_eq!(with("always_on"), 4);
    let set = ["--otlp-set", "sampler=parentbased_always_off"];
    assert_eq!(spans(&lines, &set, &[("OTEL_TRACES_SAMPLER", "always_on")]).0.len(), 1, "ours wins");
}

#[test]
fn a_session_id_is_told_where_the_protocol_knows_sessions() {
    let initialize = "{\"jsonrpc\":\"2.0\",\"id\":\"a\\\"b\",\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-06-18\",\"capabilities\":{},\"clientInfo\":{\"name\":\"x\",\"version\":\"1\"}}}\n";
    let (_, collector) = spans(&[initialize.to_owned(), call(1, "")], &[], &[]);
    let all = collector.spans();
    let call_span = all.iter().find(|span| span.name.starts_with("tools/call")).unwrap();
    assert_eq!(text(call_span, "mcp.session.id"), text(call_span, "spantap.connection.id"));
    let first = all.iter().find(|span| span.name == "initialize").unwrap();
    assert_eq!(text(first, "jsonrpc.request.id").as_deref(), Some("a\"b"));

    let modern = "\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\"";
    let (_, collector) = spans(&[call(1, modern)], &[], &[]);
    let call_span = collector.spans().pop().unwrap();
    assert_eq!(text(&call_span, "mcp.protocol.version").as_deref(), Some("2026-07-28"));
    assert_eq!(text(&call_span, "mcp.session.id"), None);
}

#[test]
fn texts_are_cut_where_a_limit_is_set() {
    let limit = [("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "6")];
    let (_, collector) = spans(&[call(1, "")], &[], &limit);
    let call_span = collector.spans().pop().unwrap();
    assert_eq!(text(&call_span, "gen_ai.tool.name").as_deref(), Some("read_f"));
}

#[cfg(unix)]
#[test]
fn the_servers_of_a_session_are_one_trace_below_one_root_if_that_is_asked_for() {
    let collector = Collector::start(Manner::Good);
    let connect = |home: &Home, options: &[&str], environment: &[(&str, &str)]| {
        // The server shows the trace context that it has got.
        let script =
            r#"read line; echo "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"is\":\"$TRACEPARENT\"}}"; cat"#;
        let options = [&["--server", "x", "--otlp", collector.endpoint.as_str()], options].concat();
        let run = Run::wrapping_script(script).home(home).options(&options).envs(environment).unhurried();
        let mut session = run.start();
        let answer = session.request("tools/call", serde_json::json!({"name": "t", "arguments": {}}));
        assert!(session.end().0.success());
        answer["result"]["is"].as_str().unwrap().to_owned()
    };
    let trace_of = |traceparent: &str| traceparent.split('-').nth(1).unwrap().to_owned();
    let home = Home::new();
    let own = ["--session-root", "--session-id", "one"];
    let traces: Vec<String> = (0..3).map(|_| trace_of(&connect(&home, &own, &[]))).collect();
    assert!(traces.iter().all(|trace| *trace == traces[0]), "{traces:?}");
    let other = trace_of(&connect(&home, &["--session-root", "--session-id", "two"], &[]));
    let without = trace_of(&connect(&home, &["--session-id", "one"], &[]));
    let derived: Vec<String> = (0..2).map(|_| trace_of(&connect(&home, &["--session-root"], &[]))).collect();
    assert!(
        derived[0] == derived[1] && ![&traces[0], &other, &without].contains(&&derived[0]),
        "{derived:?}"
    );
    assert!(traces[0] != other && traces[0] != without);
    let host = format!("00-{CALLER}-b7ad6b7169203331-01");
    assert_eq!(trace_of(&connect(&home, &own, &[("TRACEPARENT", &host)])), CALLER, "the host's trace wins");

    let spans = collector.spans();
    let roots: Vec<_> = spans.iter().filter(|span| span.name == "spantap.session").collect();
    assert_eq!(roots.len(), 3, "one for each session: {roots:?}");
    assert!(
        roots.iter().all(|root| root.parent_span_id.is_empty() && text(root, "mcp.server.name").is_none())
    );
    let root = roots.iter().find(|root| text(root, "session.id").as_deref() == Some("one")).unwrap();
    let below = |name: &str| {
        let of_trace = spans.iter().filter(move |span| span.name == name && span.trace_id == root.trace_id);
        of_trace.filter(|span| span.parent_span_id == root.span_id || name != "mcp.connect").count()
    };
    assert_eq!((below("mcp.connect"), below("tools/call t")), (3, 3));

    // Later from the log it is the same.
    let again = Collector::start(Manner::Good);
    let sent = home.spantap(["export", "--otlp", again.endpoint.as_str()]).output().unwrap();
    assert!(sent.status.success(), "{sent:?}");
    let ids = |spans: &[opentelemetry_proto::tonic::trace::v1::Span]| {
        let mut ids: Vec<_> = spans.iter().map(|span| (span.span_id.clone(), span.name.clone())).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&again.spans()), ids(&spans));
}
