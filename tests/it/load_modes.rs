//! The observer gives way in every load mode, and it counts what it lost.

use std::os::unix::process::ExitStatusExt;

use serde_json::json;

use crate::support::run::{Run, notifications, tool_calls};
use crate::support::{FLUSH_BUDGET, events};

#[test]
#[cfg_attr(
    not(debug_assertions),
    ignore = "needs SPANTAP_TEST_PANIC, which builds with debug assertions have"
)]
fn a_panic_in_the_observer_changes_nothing_for_the_traffic_and_is_reported() {
    let run = Run::wrapping("cat").unhurried().env("SPANTAP_TEST_PANIC", "BOOM");
    let run = run.send(notifications(20, 10)).send("BOOM\n").send(notifications(20, 10));
    let ended = run.expect_exit(0).expect_echo();
    let stderr = &ended.stderr;
    assert!(stderr.contains("internal error at src/proxy/observer_runner.rs"), "{stderr}");
    assert!(stderr.contains("; traffic is not affected"), "{stderr}");
    assert!(!stderr.contains("BOOM"), "{stderr}");
    assert!(ended.totals()["observer_panics"].as_u64().unwrap() >= 1);
}

#[test]
#[cfg_attr(
    not(debug_assertions),
    ignore = "needs SPANTAP_TEST_PANIC, which builds with debug assertions have"
)]
fn an_observer_that_keeps_panicking_is_switched_off_and_the_traffic_goes_on() {
    let run = Run::wrapping("cat").unhurried().env("SPANTAP_TEST_PANIC", "jsonrpc");
    // Larger than what one read takes, so that there are many chunks and each of them fails.
    let ended = run.send(notifications(4_000, 100)).expect_exit(0).expect_echo();
    assert!(ended.stderr.contains("is off for this session"), "{}", ended.stderr);
    let totals = ended.totals();
    assert_eq!(totals["observer_panics"], 3, "{totals}");
    let bytes = |name: &str| totals[name].as_u64().unwrap();
    assert!(bytes("bytes_lost") > 0 && bytes("frames_lost") > 0, "{totals}");
}

#[test]
fn every_frame_of_a_flood_is_observed_or_counted_as_lost() {
    let count = 60_000;
    let ended = Run::wrapping("cat").unhurried().send(notifications(count, 1000)).end().expect_echo();
    let totals = ended.totals();
    let total = |name: &str| totals[name].as_u64().unwrap();
    assert_eq!(total("stdin_frames") + total("stdout_frames") + total("frames_lost"), 2 * count, "{totals}");
}

#[test]
fn with_overload_wait_nothing_is_lost() {
    let count = 30_000;
    let run = Run::wrapping("cat").options(&["--overload", "wait"]).unhurried();
    let totals = run.send(notifications(count, 1000)).end().expect_echo().totals();
    assert_eq!(totals["frames_lost"], 0, "{totals}");
    assert_eq!(totals["stdin_frames"], count);
    assert_eq!(totals["stdout_frames"], count);
}

#[test]
fn with_overload_wait_the_end_waits_for_every_record() {
    let count = 6_000;
    // Nothing could be observed in the ordinary time.
    let run = Run::wrapping("cat").options(&["--overload", "wait"]).env(FLUSH_BUDGET.0, "700");
    let ended = run.send(tool_calls(count)).end().expect_echo();
    assert!(ended.stderr.is_empty(), "{}", ended.stderr);
    let records = ended.records();
    let of = |direction: &str| {
        let operations = records.iter().filter(|record| record["direction"] == direction);
        // After a thousand requests of the server that the client does not answer, one record represents many.
        operations.map(|record| record["count"].as_u64().unwrap_or(1)).sum::<u64>()
    };
    assert_eq!((of("client_to_server"), of("server_to_client")), (count, count));
    let numbers: Vec<u64> = records.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "a number is missing");
}

#[test]
fn one_line_of_many_megabytes_is_one_operation() {
    let text = "y".repeat(48 << 20);
    let line = format!(
        "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/big\",\"params\":{{\"text\":\"{text}\"}}}}\n"
    );
    let run = Run::wrapping("cat").options(&["--overload", "wait"]).unhurried();
    let totals = run.send(line).end().expect_echo().totals();
    assert_eq!(totals["notifications"], 2, "{totals}");
    assert_eq!(totals["malformed"], 0, "{totals}");
}

#[test]
fn the_server_gets_the_trace_context_and_nothing_stale() {
    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03";
    let environment = |variables: &[(&str, &str)], options: &[&str]| {
        let ended = Run::wrapping("env").options(options).envs(variables).expect_exit(0);
        let of = |name: &str| {
            ended.stdout().lines().find_map(|line| line.strip_prefix(&format!("{name}="))).map(str::to_owned)
        };
        (of("TRACEPARENT"), of("TRACESTATE"), ended)
    };
    // A new trace: sampled, with the random bit, and in the log.
    let (parent, state, ended) = environment(&[("TRACESTATE", "stale=1")], &[]);
    let parent = parent.unwrap();
    assert!(parent.starts_with("00-") && parent.ends_with("-03") && parent.len() == 55, "{parent}");
    assert_eq!(state, None);
    let started = &ended.records()[0];
    assert_eq!(
        parent,
        format!("00-{}-{}-03", started["trace_id"].as_str().unwrap(), started["span_id"].as_str().unwrap())
    );
    // A valid context is continued with a new span and its own state.
    let (parent, state, _) = environment(&[("TRACEPARENT", VALID), ("TRACESTATE", "a=1,b=2")], &[]);
    let parent = parent.unwrap();
    assert_eq!(parent[..36], VALID[..36]);
    assert_ne!(parent, VALID);
    assert_eq!(state.as_deref(), Some("a=1,b=2"));
    // An invalid context is ignored.
    let (parent, state, _) = environment(&[("TRACEPARENT", "00-xyz"), ("TRACESTATE", "a=1")], &[]);
    assert_eq!(parent.unwrap().len(), 55);
    assert_eq!(state, None);
    // With --no-trace-env both variables pass unchanged.
    let (parent, state, _) =
        environment(&[("TRACEPARENT", VALID), ("TRACESTATE", "a=1")], &["--no-trace-env"]);
    assert_eq!((parent.as_deref(), state.as_deref()), (Some(VALID), Some("a=1")));
}

#[test]
fn a_server_that_dies_says_its_last_words_in_the_log() {
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x"}});
    let run = Run::wrapping_script("read line; echo 'out of luck' >&2; kill -9 $$");
    let ended = run.options(&["--server", "dying"]).send(format!("{message}\n")).end();
    assert_eq!(ended.status.signal(), Some(9));
    let records = ended.records();
    assert_eq!(events(&records).last(), Some(&"session_ended"));
    let call = records.iter().find(|record| record["event"] == "mcp_tool_call").unwrap();
    assert_eq!(call["status"], "error");
    assert!(["server_exited", "unanswered"].contains(&call["error_type"].as_str().unwrap()));
    assert_eq!(ended.session_ended()["stderr_tail"], json!(["out of luck"]));
}
