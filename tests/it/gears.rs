//! The observer gives way in every gear, and what it lost it says.

use std::io::{Read, Write};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{FLUSH_BUDGET, Home, events};

/// Sends `bytes` through `cat` and checks that they come back.
fn through_cat(home: &Home, options: &[&str], environment: &[(&str, &str)], bytes: Vec<u8>) -> (i32, String) {
    let arguments = options.iter().copied().chain(["--server", "cat", "--", "cat"]);
    let mut command = home.spantap(arguments);
    command.envs(environment.iter().copied()).env(FLUSH_BUDGET.0, FLUSH_BUDGET.1);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut to = child.stdin.take().unwrap();
    let expected = bytes.clone();
    let writer = std::thread::spawn(move || to.write_all(&bytes));
    let mut seen = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut seen).unwrap();
    writer.join().unwrap().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(seen == expected, "{} bytes of {}", seen.len(), expected.len());
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn ended(home: &Home) -> Value {
    let records = home.records();
    records.iter().find(|record| record["event"] == "session_ended").expect("the session's end").clone()
}

fn notifications(count: u64, size: usize) -> Vec<u8> {
    let pad = "x".repeat(size);
    (0..count)
        .flat_map(|n| {
            let message = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": n, "pad": pad}});
            format!("{message}\n").into_bytes()
        })
        .collect()
}

#[test]
fn a_panic_in_the_observer_changes_nothing_for_the_traffic_and_is_reported() {
    // The hook is compiled into builds with debug assertions only.
    if !cfg!(debug_assertions) {
        return;
    }
    let home = Home::new();
    let bytes = [notifications(20, 10), b"BOOM\n".to_vec(), notifications(20, 10)].concat();
    let (status, stderr) = through_cat(&home, &[], &[("SPANTAP_TEST_PANIC", "BOOM")], bytes);
    assert_eq!(status, 0);
    assert!(stderr.contains("internal error at src/proxy/observer_thread.rs"), "{stderr}");
    assert!(stderr.contains("the traffic is not affected"), "{stderr}");
    assert!(!stderr.contains("BOOM"), "{stderr}");
    assert!(ended(&home)["totals"]["observer_panics"].as_u64().unwrap() >= 1);
}

#[test]
fn an_observer_that_keeps_panicking_is_switched_off_and_the_traffic_goes_on() {
    if !cfg!(debug_assertions) {
        return;
    }
    let home = Home::new();
    // Larger than what one read takes, so that there are many chunks and each of them fails.
    let (status, stderr) =
        through_cat(&home, &[], &[("SPANTAP_TEST_PANIC", "jsonrpc")], notifications(4_000, 100));
    assert_eq!(status, 0);
    assert!(stderr.contains("is off for this session"), "{stderr}");
    let end = ended(&home);
    let totals = &end["totals"];
    assert_eq!(totals["observer_panics"], 3, "{end}");
    let bytes = |name: &str| totals[name].as_u64().unwrap();
    assert!(bytes("bytes_lost") > 0 && bytes("frames_lost") > 0, "{end}");
}

#[test]
fn every_frame_of_a_flood_is_observed_or_counted_as_lost() {
    let home = Home::new();
    let count = 60_000;
    through_cat(&home, &[], &[], notifications(count, 1000));
    let totals = &ended(&home)["totals"];
    let total = |name: &str| totals[name].as_u64().unwrap();
    assert_eq!(total("stdin_frames") + total("stdout_frames") + total("frames_lost"), 2 * count, "{totals}");
}

#[test]
fn with_overload_wait_nothing_is_lost() {
    let home = Home::new();
    let count = 30_000;
    through_cat(&home, &["--overload", "wait"], &[], notifications(count, 1000));
    let totals = &ended(&home)["totals"];
    assert_eq!(totals["frames_lost"], 0, "{totals}");
    assert_eq!(totals["stdin_frames"], count);
    assert_eq!(totals["stdout_frames"], count);
}

/// Calls without an answer of their own, which `cat` sends back as requests of the server: two records each.
fn calls(count: u64) -> Vec<u8> {
    let call = |n| json!({"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": {"name": "t", "arguments": {"n": n}}});
    (0..count).flat_map(|n| format!("{}\n", call(n)).into_bytes()).collect()
}

#[test]
fn with_overload_wait_the_end_waits_for_every_record() {
    let home = Home::new();
    let count = 6_000;
    let arguments = ["--overload", "wait", "--server", "cat", "--", "cat"];
    let mut command = home.spantap(arguments);
    // Nothing could be observed in the ordinary time.
    command.env(FLUSH_BUDGET.0, "700");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut to = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || to.write_all(&calls(count)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let records = home.records();
    let of = |direction: &str| {
        let operations = records.iter().filter(|record| record["direction"] == direction);
        operations.count() as u64
    };
    assert_eq!((of("client_to_server"), of("server_to_client")), (count, count));
    let numbers: Vec<u64> = records.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "a number is missing");
}

#[test]
fn one_line_of_many_megabytes_is_one_operation() {
    let home = Home::new();
    let text = "y".repeat(48 << 20);
    let line = format!(
        "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/big\",\"params\":{{\"text\":\"{text}\"}}}}\n"
    );
    through_cat(&home, &["--overload", "wait"], &[], line.into_bytes());
    let totals = &ended(&home)["totals"];
    assert_eq!(totals["notifications"], 2, "{totals}");
    assert_eq!(totals["malformed"], 0, "{totals}");
}

#[test]
fn the_server_gets_the_trace_context_and_nothing_stale() {
    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03";
    let environment = |variables: &[(&str, &str)], options: &[&str]| {
        let home = Home::new();
        let mut command = home.spantap(options.iter().copied().chain(["--", "env"]));
        command.envs(variables.iter().copied());
        let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let of = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(&format!("{name}="))).map(str::to_owned)
        };
        (of("TRACEPARENT"), of("TRACESTATE"), home)
    };
    // A new trace: sampled, with the random bit, and in the log.
    let (parent, state, home) = environment(&[("TRACESTATE", "stale=1")], &[]);
    let parent = parent.unwrap();
    assert!(parent.starts_with("00-") && parent.ends_with("-03") && parent.len() == 55, "{parent}");
    assert_eq!(state, None);
    let started = &home.records()[0];
    assert_eq!(
        parent,
        format!("00-{}-{}-03", started["trace_id"].as_str().unwrap(), started["span_id"].as_str().unwrap())
    );
    // A valid one is continued with a new span and its own state.
    let (parent, state, _) = environment(&[("TRACEPARENT", VALID), ("TRACESTATE", "a=1,b=2")], &[]);
    let parent = parent.unwrap();
    assert_eq!(parent[..36], VALID[..36]);
    assert_ne!(parent, VALID);
    assert_eq!(state.as_deref(), Some("a=1,b=2"));
    // One that is not valid is as good as none.
    let (parent, state, _) = environment(&[("TRACEPARENT", "00-xyz"), ("TRACESTATE", "a=1")], &[]);
    assert_eq!(parent.unwrap().len(), 55);
    assert_eq!(state, None);
    // Left alone where that was asked for.
    let (parent, state, _) =
        environment(&[("TRACEPARENT", VALID), ("TRACESTATE", "a=1")], &["--no-trace-env"]);
    assert_eq!((parent.as_deref(), state.as_deref()), (Some(VALID), Some("a=1")));
}

#[test]
fn a_server_that_dies_says_its_last_words_in_the_log() {
    let home = Home::new();
    let mut session = crate::support::Session::start({
        let mut command = home.spantap([
            "--server",
            "dying",
            "--",
            "sh",
            "-c",
            "read line; echo 'out of luck' >&2; kill -9 $$",
        ]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    });
    session.send(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x"}}));
    let (status, _) = session.end();
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(status.signal(), Some(9));
    let records = home.records();
    assert_eq!(events(&records).last(), Some(&"session_ended"));
    let call = records.iter().find(|record| record["event"] == "mcp_tool_call").unwrap();
    assert_eq!(call["status"], "error");
    assert!(["server_exited", "unanswered"].contains(&call["error_type"].as_str().unwrap()));
    assert_eq!(ended(&home)["stderr_tail"], json!(["out of luck"]));
}
