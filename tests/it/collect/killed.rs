//! A collector that is killed in the middle of a stream, and the next one.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::json;

use super::*;

/// Returns a body with the spans of model calls of Claude Code. A fact is whole once its log record came, too.
fn calls(ids: std::ops::Range<u64>) -> Vec<u8> {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let spans: Vec<Value> = ids
        .map(|id| {
            json!({
                "traceId": format!("{:032x}", 7), "spanId": format!("{id:016x}"), "name": "claude_code.llm_request",
                "startTimeUnixNano": "1795946345000000000", "endTimeUnixNano": "1795946345250000000",
                "attributes": [text("request_id", &format!("req_{id}")), text("model", "m")],
            })
        })
        .collect();
    of_claude("resourceSpans", "scopeSpans", json!({"spans": spans}))
}

/// Returns a body with the log records of the same model calls.
fn events(ids: std::ops::Range<u64>) -> Vec<u8> {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let records: Vec<Value> = ids
        .map(|id| {
            let attributes = [text("event.name", "api_request"), text("request_id", &format!("req_{id}"))];
            json!({"timeUnixNano": "1795946345250000000", "attributes": attributes})
        })
        .collect();
    of_claude("resourceLogs", "scopeLogs", json!({"logRecords": records}))
}

/// Returns a body with spans of a server, in a trace of which nothing else is known.
pub(super) fn of_server(ids: std::ops::Range<u64>) -> Vec<u8> {
    let span = |id: u64| {
        json!({
            "traceId": format!("{:032x}", 9), "spanId": format!("{id:016x}"), "parentSpanId": format!("{:016x}", 99),
            "name": "query", "startTimeUnixNano": "1795946345000000000", "endTimeUnixNano": "1795946345250000000",
        })
    };
    let spans: Vec<Value> = ids.map(span).collect();
    json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).to_string().into()
}

fn of_claude(resources: &str, scopes: &str, items: Value) -> Vec<u8> {
    let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "claude-code"}}]});
    json!({resources: [{"resource": resource, scopes: [items]}]}).to_string().into()
}

fn files(home: &Home) -> Vec<(PathBuf, Vec<u8>)> {
    logs_in(&home.logs()).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn spans_of(records: &[Value]) -> BTreeSet<u64> {
    let id = |record: &Value| u64::from_str_radix(record["span_id"].as_str().unwrap(), 16).unwrap();
    let ids: Vec<u64> = records.iter().map(id).collect();
    let set: BTreeSet<u64> = ids.iter().copied().collect();
    assert_eq!(set.len(), ids.len(), "a record is there twice");
    set
}

#[test]
fn what_was_written_before_a_kill_stays_and_the_next_run_counts_the_rest() {
    let home = Home::new();
    let collecting = Collecting::start(&home, &["--forward", "http://127.0.0.1:9"]);
    let send = |collecting: &Collecting, path: &str, body: Vec<u8>| {
        assert_eq!(collecting.post(path, &[JSON], &body).status, 200);
    };
    // Whole facts, which are written, and halves, which wait for their other part.
    for request in 1..=20 {
        let ids = request * 10..request * 10 + 10;
        send(&collecting, "/v1/traces", calls(ids.clone()));
        send(&collecting, "/v1/logs", events(ids));
    }
    send(&collecting, "/v1/traces", calls(1000..1007));
    send(&collecting, "/v1/traces", of_server(1..4));
    wait_until("all whole facts are written, and the halves and the spans of a server are counted", || {
        let counts = &state(&home)["counts"];
        let waiting = ["waiting", "waiting_spans", "forward_waiting"].map(|name| &counts[name]);
        counts["records"] == 200 && waiting == [7, 3, 42]
    });
    // A request is under way when the process is killed.
    let body = calls(2000..2010);
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\n{JSON}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut half = collecting.connect();
    half.write_all(&[head.as_bytes(), &body[..body.len() / 2]].concat()).unwrap();
    kill_process(Pid::from_child(&collecting.child), Signal::KILL).unwrap();
    drop(collecting);
    let before = files(&home);
    let written = spans_of(&home.records());
    assert_eq!(written, (10..210).collect());

    let collecting = Collecting::start(&home, &[]);
    // Its sender sends the request again, which was not answered.
    send(&collecting, "/v1/traces", body);
    let said = collecting.end().1;
    let expected = "did not end in order; it lost the requests under way, 7 facts that waited for other parts or for \
                    the disk, 3 spans that waited for the rest of their trace, 42 answered requests that waited to be \
                    passed on; its last second may not be counted";
    assert!(said.contains(expected), "{said}");
    let after = files(&home);
    assert!(before.iter().all(|file| after.contains(file)) && after.len() == 2, "{after:?}");
    assert_eq!(spans_of(&home.records()), written.into_iter().chain(2000..2010).collect());
    let said = Collecting::start(&home, &[]).end().1;
    assert!(!said.contains("did not end in order"), "{said}");
}
