//! An export of recorded sessions equals the live export, and sends nothing twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use opentelemetry_proto::tonic::logs::v1::LogRecord;

use super::collector::{Collector, Manner, attributes};
use super::session;
use crate::support::{Home, logs_in, text, wait_until};

/// Runs `spantap export`, which must succeed. Returns its output.
fn export(home: &Home, options: &[&str]) -> String {
    let output = home.spantap(["export"]).args(options).output().unwrap();
    assert!(output.status.success(), "{}", text(&output).1);
    String::from_utf8(output.stdout).unwrap()
}

/// Returns spans by id, each with its resource and all its fields.
fn spans(collector: &Collector) -> BTreeMap<Vec<u8>, String> {
    let spans = collector.spans_of_resources();
    let all: BTreeMap<Vec<u8>, String> =
        spans.iter().map(|(resource, span)| (span.span_id.clone(), format!("{resource} {span:?}"))).collect();
    assert_eq!(all.len(), spans.len(), "a span came twice");
    all
}

fn logs(collector: &Collector) -> BTreeMap<String, String> {
    let logs = collector.logs();
    let all: BTreeMap<String, String> = logs
        .iter()
        .map(|log| {
            // Attributes have no order.
            let rest = LogRecord { attributes: Vec::new(), ..log.clone() };
            (attributes(&log.attributes), format!("{rest:?}"))
        })
        .collect();
    assert_eq!(all.len(), logs.len(), "a log came twice");
    all
}

#[test]
fn spans_and_logs_sent_again_are_those_sent_live() {
    let home = Home::new();
    let (live, again) = (Collector::start(Manner::Good), Collector::grpc(Manner::Good));
    // The parts are small, so records in a later part depend on records in an earlier one.
    let options = ["--otlp", &live.endpoint, "--otlp-set", "logs=true", "--max-log-size", "20k"];
    let mut host = home.session(&options);
    host.request(
        "initialize",
        serde_json::json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "host", "version": "1"}}),
    );
    host.calls(100);
    wait_until("the spans", || live.spans().len() == 102);
    let (status, said) = host.end();
    assert!(status.success() && said.is_empty(), "{said}");
    let resources: Vec<String> =
        live.spans_of_resources().into_iter().map(|(resource, _)| resource).collect();
    assert!(resources.iter().all(|resource| resource.contains("service.version=")), "{}", resources[0]);

    let collector = ["--otlp", &again.endpoint, "--otlp-set", "protocol=grpc", "--logs"];
    let resume = [collector.as_slice(), &["--resume"]].concat();
    let records = home.records().len();
    assert_eq!(export(&home, &resume), format!("{records} records of 1 connection sent\n"));
    assert!(spans(&again) == spans(&live), "spans differ:\n{:#?}\n{:#?}", spans(&again), spans(&live));
    assert!(logs(&again) == logs(&live), "logs differ:\n{:#?}\n{:#?}", logs(&again), logs(&live));
    assert!(export(&home, &resume).starts_with("0 records of 0 connections"), "nothing is sent twice");
    assert_eq!(spans(&again).len(), spans(&live).len());
}

#[test]
fn only_what_was_selected_is_sent() {
    let home = Home::new();
    session(&home, &[], &[], 5);
    let send = |options: &[&str]| {
        let collector = Collector::start(Manner::Good);
        export(&home, &[&["--otlp", collector.endpoint.as_str()], options].concat());
        collector.spans().iter().map(|span| span.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(send(&[]).len(), 7);
    assert_eq!(send(&["--method", "tools/list"]), ["mcp.connect", "tools/list"]);
    assert_eq!(send(&["--tool", "read_*"]), ["tools/call read_file"; 5]);
    assert!(send(&["--until", "2001-01-01"]).is_empty());
    assert!(send(&["--server", "other"]).is_empty());
}

#[test]
fn where_nothing_is_sent_it_does_not_say_that_it_was() {
    let home = Home::new();
    session(&home, &[], &[], 5);
    let collector = Collector::start(Manner::Good);
    let try_with = |options: &[&str]| {
        let options = ["export", "--otlp", &collector.endpoint].into_iter().chain(options.iter().copied());
        let output = home.spantap(options).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout.clone()).unwrap(), text(&output).1)
    };
    let (code, said, error) = try_with(&["--otlp-set", "traces=false"]);
    assert_eq!((code, said.as_str()), (Some(1), ""));
    assert!(error.starts_with("error: nothing to send: traces are turned off"), "{error}");
    let (code, said, error) = try_with(&["--server", "nosuch"]);
    assert_eq!((code, said.as_str()), (Some(0), "0 records of 0 connections sent\n"));
    assert!(error.starts_with("no records with --server nosuch in "), "{error}");
    assert!(collector.spans().is_empty());
}

#[test]
fn what_is_not_taken_is_told_and_sent_the_next_time() {
    let home = Home::new();
    session(&home, &[], &[], 5);
    let bad = Collector::start(Manner::Without("/v1/traces"));
    let good = Collector::start(Manner::Good);
    let try_with = |collector: &Collector| {
        home.spantap(["export", "--resume", "--otlp", &collector.endpoint]).output().unwrap()
    };
    let refused = try_with(&bad);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stdout).ends_with(", 7 spans or logs not taken: http_404 7\n"));
    assert!(text(&refused).1.contains("http_404"), "{}", text(&refused).1);
    let unreachable = home.spantap(["export", "--otlp", "http://127.0.0.1:1"]).output().unwrap();
    let said = text(&unreachable).1;
    assert!(
        said.contains("note: the collector at 127.0.0.1:1 does not answer (refused); spans wait"),
        "{said}"
    );
    let taken = try_with(&good);
    assert!(taken.status.success());
    assert_eq!(good.spans().len(), 7);
}

/// `--resume` knows records and not files: what a file is called, and what else it contains, does not matter.
#[test]
fn resuming_sends_each_record_once_in_whatever_file_and_order_it_comes() {
    let (one, two) = (Home::new(), Home::new());
    session(&one, &[], &[], 3);
    session(&two, &[], &[], 4);
    let lines = |home: &Home| -> Vec<String> {
        let logs = logs_in(&home.logs());
        let text: String = logs.iter().map(|log| std::fs::read_to_string(log).unwrap()).collect();
        text.split_inclusive('\n').map(str::to_owned).collect()
    };
    let (first, second) = (lines(&one), lines(&two));
    let some: Vec<String> = first.iter().step_by(2).cloned().collect();
    let backwards: Vec<String> = second.iter().chain(&first).rev().cloned().collect();
    let collector = Collector::start(Manner::Good);
    let all = one.path().join("all.jsonl");
    // The same path each time.
    let send = |content: &[String]| {
        std::fs::write(&all, content.concat()).unwrap();
        let said = export(&one, &["--resume", "--otlp", &collector.endpoint, all.to_str().unwrap()]);
        said.split(' ').next().unwrap().parse::<usize>().unwrap()
    };
    assert_eq!(send(&some), some.len());
    assert_eq!(send(&first), first.len() - some.len());
    assert_eq!(send(&second[..2]), 2);
    assert_eq!(send(&backwards), second.len() - 2);
    assert_eq!(send(&backwards), 0);
    // The span of a connection needs its records in their order.
    let operations = collector.spans().into_iter().filter(|span| span.name != "mcp.connect");
    let ids: Vec<Vec<u8>> = operations.map(|span| span.span_id).collect();
    assert_eq!((ids.iter().collect::<BTreeSet<_>>().len(), ids.len()), (9, 9));
}

/// A batch waits for no interval, and holds the spans of many connections, each with its own resource.
#[test]
fn the_spans_of_many_connections_are_sent_together() {
    const CONNECTIONS: usize = 30;
    let home = Home::new();
    session(&home, &[], &[], 3);
    let log = logs_in(&home.logs()).remove(0);
    let text = std::fs::read_to_string(&log).unwrap();
    let id = home.records()[0]["connection_id"].as_str().unwrap().to_owned();
    for n in 1..CONNECTIONS {
        let end = format!("{n:012}");
        let copy = text.replace(&id[24..], &end);
        std::fs::write(home.logs().join(format!("sample-2026-11-25-{end}.jsonl")), copy).unwrap();
    }
    let collector = Collector::start(Manner::Good);
    let said = export(&home, &["--otlp", &collector.endpoint]);
    assert!(said.ends_with(&format!(" records of {CONNECTIONS} connections sent\n")), "{said}");
    let resources: BTreeMap<String, usize> =
        collector.spans_of_resources().into_iter().fold(BTreeMap::new(), |mut counts, (resource, _)| {
            *counts.entry(resource).or_default() += 1;
            counts
        });
    assert_eq!(resources.len(), CONNECTIONS, "{resources:?}");
    assert!(resources.values().all(|spans| *spans == 5), "{resources:?}");
    // One full batch has room for all of them.
    assert!(collector.requests().len() <= 5, "{} requests", collector.requests().len());
}

/// Progress is also said where stderr is not a terminal.
#[test]
fn an_export_that_takes_long_says_every_ten_seconds_how_far_it_is() {
    let home = Home::new();
    session(&home, &[], &[], 3);
    let collector = Collector::start(Manner::Hanging);
    let cases = [
        (collector.endpoint.as_str(), " records read, 0 taken by the collector"),
        ("http://127.0.0.1:1", " records read, 0 taken by the collector; waiting for it (refused)"),
    ];
    let runs = cases.map(|(endpoint, end)| {
        let mut command = home.spantap(["export", "--otlp", endpoint]);
        (command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap(), end)
    });
    for (mut child, end) in runs {
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let line = lines.find(|line| line.starts_with("note: 1 of 1 file, "));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(line.as_ref().is_some_and(|line| line.ends_with(end)), "{line:?}");
    }
}

#[test]
fn progress_that_cannot_be_read_is_told() {
    let home = Home::new();
    session(&home, &[], &[], 3);
    let collector = Collector::start(Manner::Good);
    let resume = || {
        let output = home.spantap(["export", "--resume", "--otlp", &collector.endpoint]).output().unwrap();
        assert!(output.status.success());
        (String::from_utf8(output.stdout.clone()).unwrap(), text(&output).1)
    };
    let saved = home.path().join(".local/state/spantap/exported.json");
    std::fs::create_dir_all(saved.parent().unwrap()).unwrap();
    std::fs::write(&saved, "{\"a\":3}").unwrap();
    let (said, note) = resume();
    assert!(!said.starts_with("0 records"), "{said}");
    assert!(note.contains("cannot be used, so every record is sent"), "{note}");
    assert_eq!(resume(), ("0 records of 0 connections sent\n".to_owned(), String::new()));
}
