//! `--propagate meta`: trace context in the requests of a client that sends none.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::support::run::{Ended, Run, tool_calls};
use crate::support::*;

const META: &[&str] = &["--propagate", "meta"];
const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03";

/// The client's requests in the log, by their id.
fn requests(ended: &Ended) -> HashMap<String, Value> {
    let of_client =
        |record: &Value| record["direction"] == "client_to_server" && record["request_id"].is_string();
    let records = ended.records().into_iter().filter(of_client);
    records.map(|record| (record["request_id"].as_str().unwrap().to_owned(), record)).collect()
}

/// The `traceparent` that the server got with each request, by the request's id.
fn contexts(ended: &Ended) -> HashMap<String, Option<String>> {
    let lines = ended.stdout().lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let context = |line: &Value| line["params"]["_meta"]["traceparent"].as_str().map(str::to_owned);
    lines.filter(|line| !line["id"].is_null()).map(|line| (line["id"].to_string(), context(&line))).collect()
}

fn request(id: u32, params: &Value) -> String {
    format!("{}\n", json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}))
}

fn name_of(record: &Value) -> String {
    let text = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
    format!("00-{}-{}-", text("trace_id"), text("span_id"))
}

#[test]
fn the_server_gets_the_span_of_the_record_of_each_request() {
    let requests_sent = [
        request(1, &json!({"name": "t", "arguments": {"a": 1}})),
        request(2, &json!({"name": "t", "_meta": {"progressToken": "p"}})),
        request(3, &json!({"name": "t", "_meta": {"traceparent": VALID}})),
        "{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"ping\"}\n".to_owned(),
        "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\",\"params\":{}}\n".to_owned(),
    ]
    .concat();
    let home = Home::new();
    let run = |options| {
        let run = Run::wrapping("cat").home(&home).options(options).unhurried();
        run.send(&requests_sent).expect_exit(0)
    };
    let plain = run(&[]).expect_echo();
    let plain_records = requests(&plain);
    assert_eq!(plain.totals().get("trace_context"), None);
    for log in logs_in(&home.logs()) {
        std::fs::remove_file(log).unwrap();
    }
    let ended = run(META);
    let (records, contexts) = (requests(&ended), contexts(&ended));
    assert_eq!(records.len(), 4);
    for id in ["1", "2"] {
        let context = contexts[id].as_deref().unwrap();
        assert_eq!(context, format!("{}03", name_of(&records[id])), "request {id}");
        // The observer gets the client's bytes.
        for field in ["request_size_bytes", "args_hash"] {
            assert_eq!(records[id][field], plain_records[id][field], "{field}");
        }
    }
    let started = &ended.records()[0];
    assert_eq!(records["1"]["trace_id"], started["trace_id"]);
    assert_eq!(records["1"]["parent_span_id"], started["span_id"]);
    assert_eq!(records["4"]["trace_id"], started["trace_id"]);
    // The client's own context stays, and is the parent of our span.
    assert_eq!(contexts["3"].as_deref(), Some(VALID));
    assert_eq!(records["3"]["parent_span_id"], "b7ad6b7169203331");
    assert_eq!(contexts["4"], None);
    let totals = ended.totals();
    let counts = &totals["trace_context"];
    assert_eq!((&counts["inserted"], &counts["has_context"]), (&json!(2), &json!(1)));
    assert_eq!((&counts["no_params"], &counts["not_a_request"]), (&json!(1), &json!(1)));
    assert_eq!(totals["stdin_bytes"], json!(requests_sent.len()));
    assert_eq!(totals["stdin_frames"], json!(5));
}

#[test]
fn a_trace_that_began_before_goes_on_with_its_state() {
    let run = Run::wrapping("cat").options(META).unhurried();
    let run = run.envs(&[("TRACEPARENT", &VALID.replace("-03", "-00")), ("TRACESTATE", "a=\"1\",b=2")]);
    let ended = run.send(request(1, &json!({}))).expect_exit(0);
    let line: Value = serde_json::from_str(ended.stdout()).unwrap();
    let meta = &line["params"]["_meta"];
    assert_eq!(meta["tracestate"], "a=\"1\",b=2");
    let context = meta["traceparent"].as_str().unwrap();
    assert!(context.starts_with(&VALID[..36]) && context.ends_with("-00"), "{context}");
    assert_eq!(context, format!("{}00", name_of(&requests(&ended)["1"])));
}

#[test]
fn each_of_thousands_of_requests_has_the_span_that_the_server_got() {
    const COUNT: usize = 2_500;
    let run = Run::wrapping("cat").options(META).options(&["--overload", "wait"]).unhurried();
    let ended = run.send(tool_calls(COUNT as u64)).expect_exit(0);
    let (records, contexts) = (requests(&ended), contexts(&ended));
    assert_eq!((records.len(), contexts.len()), (COUNT, COUNT));
    let mut inserted = 0;
    let mut traces: Vec<&str> = Vec::new();
    for (id, context) in &contexts {
        let Some(context) = context else { continue };
        inserted += 1;
        assert_eq!(*context, format!("{}03", name_of(&records[id])), "request {id}");
        traces.push(&context[3..35]);
    }
    traces.sort_unstable();
    traces.dedup();
    // A busy machine may deliver a line in two parts.
    let counts = ended.totals()["trace_context"].clone();
    assert_eq!(counts["inserted"], json!(inserted));
    assert_eq!(inserted + counts["incomplete"].as_u64().unwrap() as usize, COUNT);
    assert!(inserted > COUNT / 2, "{inserted}");
    assert_eq!(traces.len(), inserted.div_ceil(1000), "a trace has at most a thousand operations");
}

#[test]
fn it_is_set_by_flag_variable_and_file_also_for_one_server() {
    let inserts = |run: Run| {
        let ended = run.unhurried().send(request(1, &json!({}))).expect_exit(0);
        let context = contexts(&ended)["1"].is_some();
        assert_eq!(context, ended.totals()["trace_context"].is_object());
        context
    };
    assert!(!inserts(Run::wrapping("cat")));
    assert!(inserts(Run::wrapping("cat").options(META)));
    assert!(inserts(Run::wrapping("cat").env("SPANTAP_PROPAGATE", "meta")));
    assert!(!inserts(Run::wrapping("cat").env("SPANTAP_PROPAGATE", "meta").options(&["--propagate", "off"])));
    let home = Home::new();
    let folder = home.path().join(".config/spantap");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), "[server.one]\npropagate = \"meta\"\n").unwrap();
    for (server, expected) in [("one", true), ("two", false)] {
        for log in logs_in(&home.logs()) {
            std::fs::remove_file(log).unwrap();
        }
        let run = Run::wrapping("cat").home(&home).options(&["--server", server]);
        assert_eq!(inserts(run), expected, "{server}");
    }
    Run::wrapping("cat").options(&["--propagate", "headers"]).expect_exit(2);
}
