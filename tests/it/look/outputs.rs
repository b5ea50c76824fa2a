//! What a pipe gets, handles of operations, and which session and operations are chosen.

use super::{records, run, session, spantap, text};

#[test]
fn what_is_piped_is_not_cut_and_has_all_columns() {
    let piped = |arguments: &str| text(&spantap(arguments).env_remove("COLUMNS").output().unwrap().stdout);
    let errors = piped("tail -n 1000 --status error fixtures/logs fixtures/made-logs");
    let failed = records("tail -n 1000 --status error --json fixtures/logs fixtures/made-logs");
    let messages: Vec<&str> = failed.iter().filter_map(|record| record["error_message"].as_str()).collect();
    assert!(messages.iter().any(|message| message.len() > 120), "{messages:?}");
    for message in messages.iter().filter(|message| message.is_ascii() && !message.contains('\n')) {
        assert!(errors.contains(message), "{message} is in\n{errors}");
    }
    let sessions = piped("sessions fixtures/logs");
    for word in ["LENGTH", "TOKENS~", "TURNS", "ENOENT: no such file or directory, open '…'"] {
        assert!(sessions.contains(word), "{word} is in\n{sessions}");
    }
}

#[test]
fn a_handle_is_the_first_thing_in_a_line_and_finds_its_operation() {
    let tail = text(&run("tail -n 40 fixtures/logs").stdout);
    let handles: Vec<&str> = tail.lines().filter_map(|line| line.split("  ").next()).collect();
    for record in
        records("tail -n 40 --json fixtures/logs").iter().filter(|record| record["status"].is_string())
    {
        let connection = record["connection_id"].as_str().unwrap();
        let handle = format!("{}.{}", &connection[connection.len() - 6..], record["seq"]);
        assert!(handles.contains(&handle.as_str()), "{handle} is in\n{tail}");
        assert_eq!(records(&format!("show {handle} --json fixtures/logs")), std::slice::from_ref(record));
    }
    let last = records("tail -n 1 --json --method tools/call fixtures/logs");
    assert_eq!(records("show --json --log-dir fixtures/logs -- -1"), last);
    assert_eq!(records("show -1 --json --log-dir fixtures/logs"), last);
    let git = records("tail -n 1 --json --server git fixtures/logs");
    assert_eq!(records(&format!("show last.{} --server git --json fixtures/logs", git[0]["seq"])), git);
    assert_eq!(run("show -9999 --log-dir fixtures/logs").status.code(), Some(1));
}

#[test]
fn the_last_session_is_the_last_whether_its_server_started_or_not() {
    let shown = text(&run("show last --log-dir fixtures/logs").stdout);
    assert!(shown.starts_with("f8365c04"), "{shown}");
}

#[test]
fn a_limit_keeps_the_first_operations_by_time_and_says_of_how_many() {
    let session = session();
    let all = records(&format!("show {session} --json fixtures/logs"));
    let first = records(&format!("show {session} --limit 7 --json fixtures/logs"));
    assert_eq!(first, all[..7]);
    let shown = text(&run(&format!("show {session} --limit 7 fixtures/logs")).stdout);
    assert!(shown.contains(&format!("the first 7 of {} operations", all.len())), "{shown}");
}

#[test]
fn failures_are_grouped_by_message_and_name_the_latest_of_them() {
    let with = |status: &str| {
        records(&format!("tail -n 1000 --status {status} --json --since 30d fixtures/logs")).len() as u64
    };
    let rows = records("stats --by error --json fixtures/logs");
    let sum = |field: &str| rows.iter().map(|row| row[field].as_u64().unwrap()).sum::<u64>();
    let denied = with("denied");
    assert!(denied > 0);
    assert_eq!((sum("count"), sum("denied")), (with("error") + denied, denied));
    let missing = rows.iter().find(|row| row["tool_name"] == "read_text_file" && row["count"] == 2).unwrap();
    assert_eq!(missing["message"], "ENOENT: no such file or directory, open '…'");
    let latest = records(&format!("show {} --json fixtures/logs", missing["last"].as_str().unwrap()));
    assert_eq!(latest[0]["timestamp"], missing["last_seen"]);
}

#[test]
fn days_and_hours_follow_each_other() {
    for (by, key) in [("day", "day"), ("hour", "hour")] {
        let rows = records(&format!("stats --by {by} --json fixtures/made-logs"));
        let times: Vec<&str> = rows.iter().map(|row| row[key].as_str().unwrap()).collect();
        assert!(times.len() > 1 && times.is_sorted(), "{times:?}");
    }
}

#[test]
fn an_order_that_has_no_effect_is_refused() {
    let output = run("stats --by error --sort p95 fixtures/logs");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--sort has no effect with --by error"));
}

#[test]
fn show_draws_the_first_operations_of_a_long_session_and_all_failures_and_says_what_it_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = String::new();
    for number in 0..300 {
        let status = if number == 250 { "error" } else { "ok" };
        let method = if number == 0 { "initialize" } else { "tools/call" };
        let event = if number == 0 { "mcp_request" } else { "mcp_tool_call" };
        let at = |ms: u32| {
            let second = ms / 1000;
            format!("2026-11-25T10:{:02}:{:02}.{:03}000Z", second / 60, second % 60, ms % 1000)
        };
        log += &format!(
            r#"{{"schema":"spantap/1","timestamp":"{}","event":"{event}","seq":{number},"session_id":"long","connection_id":"c00001","server_name":"files","method":"{method}","started_at":"{}","duration_ms":10,"status":"{status}","turn_id":"1"}}"#,
            at(number * 100 + 10),
            at(number * 100)
        );
        log.push('\n');
    }
    std::fs::write(dir.path().join("files.jsonl"), log).unwrap();
    let show = |options: &str| text(&run(&format!("show long {options} {}", dir.path().display())).stdout);
    let shown = show("");
    let drawn = |shown: &str| shown.lines().filter(|line| line.starts_with("  c00001.")).count();
    assert_eq!(drawn(&shown), 200, "{shown}");
    assert!(shown.contains("start of files"), "{shown}");
    assert!(!shown.contains("  c00001.0 ") && shown.contains("  c00001.250 "), "{shown}");
    assert!(
        shown.contains("the first 200 of 300 operations and 1 later failure; --all shows all"),
        "{shown}"
    );
    assert!(shown.contains("time: starting 10 ms"), "{shown}");
    let all = show("--all");
    assert_eq!(drawn(&all), 300, "{all}");
    assert!(
        all.contains("  c00001.0 ") && !all.contains("start of") && !all.contains("the first 2"),
        "{all}"
    );
    // An explicit limit is a limit of failures, too.
    assert_eq!(drawn(&show("--limit 20")), 19);
    assert_eq!(show("--json").lines().count(), 300);
}

#[test]
fn the_short_form_of_the_limit_means_the_same_in_every_command() {
    for command in ["tail", "sessions", "stats", "stats --by error", "show last", "why last", "tail --json"] {
        let shown = |limit: &str| text(&run(&format!("{command} {limit} fixtures/logs")).stdout);
        let short = shown("-n 2");
        assert!(!short.is_empty() && short == shown("--limit 2"), "{command}: {short}");
    }
}
