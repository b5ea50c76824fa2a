//! Every span and log record that came is recorded, or counted and named.

use serde_json::json;

use super::killed::of_server;
use super::*;

fn text_of(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// Returns a body with spans of a service: id, parent and operation, which is empty for a span without one.
fn spans_of(service: &str, spans: &[(u64, u64, &str)]) -> Vec<u8> {
    let id = |id: u64| if id == 0 { String::new() } else { format!("{id:016x}") };
    let spans: Vec<Value> = spans
        .iter()
        .map(|(own, parent, operation)| {
            let attributes: &[Value] = match *operation {
                "" => &[],
                operation => &[text_of("gen_ai.operation.name", operation)],
            };
            json!({
                "traceId": format!("{:032x}", 5), "spanId": id(*own), "parentSpanId": id(*parent), "name": "span",
                "startTimeUnixNano": "1795946345000000000", "endTimeUnixNano": "1795946345250000000",
                "attributes": attributes,
            })
        })
        .collect();
    let resource = json!({"attributes": [text_of("service.name", service)]});
    json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}).to_string().into()
}

/// Returns a body with log records of a service and a scope, with these names.
fn logs_of(service: &str, scope: &str, names: &[&str]) -> Vec<u8> {
    let record = |name: &&str| json!({"timeUnixNano": "1795946345250000000", "attributes": [text_of("event.name", name)]});
    let records: Vec<Value> = names.iter().map(record).collect();
    let resource = json!({"attributes": [text_of("service.name", service)]});
    let scope_logs = json!([{"scope": {"name": scope}, "logRecords": records}]);
    json!({"resourceLogs": [{"resource": resource, "scopeLogs": scope_logs}]}).to_string().into()
}

#[test]
fn what_has_no_record_of_its_own_is_counted_by_its_reason() {
    let home = Home::new();
    let collecting = Collecting::start(&home, &[]);
    for (path, body) in [
        // A call in two spans, one below it that is nothing of an agent, and the first span of a trace.
        (
            "/v1/traces",
            spans_of("framework", &[(5, 4, ""), (4, 2, "chat"), (2, 1, "chat"), (1, 0, "invoke_agent")]),
        ),
        ("/v1/traces", spans_of("web", &[(9, 0, "")])),
        // An agent of an unknown name, before and after it has sent something of its own.
        ("/v1/logs", logs_of("my-codex", "x", &["codex.startup", "codex.end"])),
        ("/v1/logs", logs_of("my-codex", "x", &["codex.tool_result", "codex.startup"])),
        ("/v1/logs", logs_of("s", "spantap", &["a", "b", "c"])),
    ] {
        assert_eq!(collecting.post(path, &[JSON], &body).status, 200);
    }
    let (printed, _) = collecting.end();
    for line in [
        "took 5 requests with 5 spans, 7 log records and 0 data points; wrote 3 records",
        "not recorded: 3 log records of spantap itself",
        "not recorded: 2 spans and 1 log record with no event of an agent or server",
        "not recorded: 1 span around another span of the same call, whose record has them",
        "log records not recorded, because their service is not known as an agent: 2",
    ] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    let counts = &state(&home)["counts"];
    let sum = |names: &[&str]| names.iter().map(|name| counts[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!(
        sum(&["spans", "logs"]),
        sum(&["records", "own_logs", "other_spans", "other_logs", "joined_spans", "unknown_logs"])
    );
}

#[test]
fn status_and_doctor_name_what_a_run_refused_and_did_not_record_also_after_a_kill() {
    let home = Home::new();
    crate::wrap::put(&home, ".cursor/mcp.json", r#"{"mcpServers": {"s": {"command": "true"}}}"#);
    let collecting = Collecting::start(&home, &[]);
    assert_eq!(collecting.post("/v1/logs", &[JSON], b"garbage").status, 400);
    for (path, body) in [("/v1/traces", of_server(1..2059)), ("/v1/logs", logs_of("unknown", "x", &["a"]))] {
        assert_eq!(collecting.post(path, &[JSON], &body).status, 200);
    }
    let counted = ["refused", "stray_spans", "unknown_logs"];
    let expected = [json!({"garbage": 1}), json!(10), json!(1)];
    wait_until("all are counted", || {
        let counts = &state(&home)["counts"];
        counted.map(|name| &counts[name]) == expected.each_ref()
    });
    let told = || {
        for command in ["status", "doctor"] {
            let said = text(&home.spantap([command]).output().unwrap()).0;
            for loss in [
                "requests refused: 1 (garbage 1)",
                "spans of servers not recorded, because no agent and no proxy sent a span of their trace: 10",
                "log records not recorded, because their service is not known as an agent: 1",
            ] {
                assert!(said.contains(loss), "{command}: {loss}\n{said}");
            }
        }
    };
    told();
    kill_process(Pid::from_child(&collecting.child), Signal::KILL).unwrap();
    drop(collecting);
    told();
    let (_, said) = Collecting::start(&home, &[]).end();
    assert!(
        said.contains("2048 spans that waited") && said.contains("requests refused: 1 (garbage 1)"),
        "{said}"
    );
}
