//! `spantap debug` from another terminal, in sessions that run.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use serde_json::{Value, json};
use spantap::record::timestamp::Timestamp;

use crate::support::*;

fn control(home: &Home) -> PathBuf {
    home.path().join(".local/state/spantap/debug.json")
}

#[track_caller]
fn debug(home: &Home, words: &[&str]) -> String {
    let output = home.spantap(["debug"].into_iter().chain(words.iter().copied())).output().unwrap();
    let (printed, said) = text(&output);
    assert!(output.status.success(), "{printed}{said}");
    printed
}

fn count(records: &[Value], event: &str) -> usize {
    events(records).iter().filter(|name| **name == event).count()
}

/// Waits until the log has `wanted` records of this event.
#[track_caller]
fn wait_for(home: &Home, event: &str, wanted: usize) {
    wait_until(event, || {
        let whole = logs_in(&home.logs()).into_iter().flat_map(|log| validate_torn_log(&log));
        count(&whole.collect::<Vec<_>>(), event) == wanted
    });
}

#[test]
fn debug_is_turned_on_and_off_from_another_terminal_while_a_session_runs() {
    let home = Home::new();
    let mut session = home.session(&["--server", "notes"]);
    session.calls(1);
    wait_for(&home, "mcp_tool_call", 1);
    let printed = debug(&home, &["on", "--for", "10m", "--server", "no*"]);
    assert!(printed.starts_with("debug is on for servers that match no* until "), "{printed}");
    assert!(printed.contains("1 session follows within 5 seconds: notes"), "{printed}");
    wait_for(&home, "debug_started", 1);
    session.calls(1);
    wait_for(&home, "tool_result", 1);
    let printed = debug(&home, &["off"]);
    assert!(printed.starts_with("debug is off"), "{printed}");
    wait_for(&home, "debug_ended", 1);
    session.calls(1);
    session.end();
    let records = home.records();
    assert_eq!(count(&records, "tool_result"), 1);
    let started = records.iter().find(|record| record["event"] == "debug_started").unwrap();
    let (at, until) = (started["timestamp"].as_str().unwrap(), started["debug_until"].as_str().unwrap());
    let micros = |text: &str| text.parse::<Timestamp>().unwrap().0;
    let left = (micros(until) - micros(at)) / 1_000_000;
    assert!((500..=600).contains(&left), "{started}");
}

#[test]
fn debug_ends_by_itself_also_in_a_session_that_starts_later() {
    let home = Home::new();
    debug(&home, &["on", "--for", "3s"]);
    let mut sessions = [home.session(&["--server", "one"]), home.session(&["--server", "two"])];
    sessions.iter_mut().for_each(|session| session.calls(1));
    wait_for(&home, "debug_ended", 2);
    assert!(control(&home).exists(), "the sessions do not need its removal");
    assert!(debug(&home, &[]).starts_with("debug is off"));
    assert!(!control(&home).exists());
    sessions.into_iter().for_each(|session| drop(session.end()));
}

#[test]
fn a_session_of_another_server_or_at_debug_level_already_stays_as_it_is() {
    let home = Home::new();
    debug(&home, &["on", "--server", "quiet"]);
    let mut other = home.session(&["--server", "other"]);
    let mut loud = home.session(&["--server", "quiet", "--log-level", "debug"]);
    other.calls(1);
    loud.calls(1);
    wait_for(&home, "debug_started", 1);
    debug(&home, &["off"]);
    // The next look ends the order. A look of the other session would have begun one.
    std::fs::remove_file(control(&home)).unwrap_err();
    loud.calls(1);
    loud.end();
    other.end();
    let records = home.records();
    assert_eq!(count(&records, "debug_ended"), 0, "debug goes on by the setting");
    let of_other = |record: &&Value| record["server_name"] == "other";
    assert!(records.iter().filter(of_other).all(|record| record["event"] != "debug_started"));
}

#[test]
fn the_control_file_is_private_and_replaced_as_a_whole() {
    let home = Home::new();
    let precious = home.path().join("precious");
    std::fs::write(&precious, "mine").unwrap();
    std::fs::create_dir_all(control(&home).parent().unwrap()).unwrap();
    symlink(&precious, control(&home)).unwrap();
    debug(&home, &["on"]);
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "mine");
    let metadata = std::fs::symlink_metadata(control(&home)).unwrap();
    assert!(metadata.is_file());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert!(debug(&home, &[]).starts_with("debug is on for all servers until "));
    debug(&home, &["on", "--server", "fs", "--for", "24h"]);
    assert!(debug(&home, &[]).starts_with("debug is on for servers that match fs until "));
    assert!(debug(&home, &["off"]).starts_with("debug is off"));
    assert_eq!(debug(&home, &["off"]), "debug is off already\n");
    assert!(debug(&home, &[]).starts_with("debug is off"));
}

#[test]
fn a_control_file_that_cannot_be_used_is_named_and_changes_nothing() {
    let home = Home::new();
    std::fs::create_dir_all(control(&home).parent().unwrap()).unwrap();
    let year: i64 = 365 * 86_400 * 1_000_000;
    let until = Timestamp(Timestamp::now().0 + year);
    let late = format!(r#"{{"version":1,"until":"{until}","boot_id":"","until_ns":0}}"#);
    for (content, reason) in [
        ("garbage", "not a control file"),
        (r#"{"version":2,"until":"later"}"#, "version is 2"),
        (&late, "later than 24 hours"),
        (&" ".repeat(5000), "too large"),
    ] {
        let _ = std::fs::remove_file(control(&home));
        std::fs::write(control(&home), content).unwrap();
        std::fs::set_permissions(control(&home), PermissionsExt::from_mode(0o600)).unwrap();
        let output = home.spantap(["debug"]).output().unwrap();
        let (_, said) = text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(reason) && said.contains("`spantap debug off` removes the file"), "{said}");
    }
    // On a busy machine a session may end before it looks at the file.
    wait_until("a session that names the file", || {
        let mut session = home.session(&[]);
        session.calls(1);
        session.end().1.contains("is ignored: it is too large")
    });
    let records = logs_in(&home.logs()).into_iter().flat_map(|log| validate_torn_log(&log));
    assert_eq!(count(&records.collect::<Vec<_>>(), "debug_started"), 0);
}

#[test]
fn a_time_that_is_too_long_and_options_without_on_are_refused() {
    let home = Home::new();
    for words in
        [&["debug", "on", "--for", "25h"][..], &["debug", "off", "--for", "1m"], &["debug", "--server", "x"]]
    {
        let output = home.spantap(words.iter().copied()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(!control(&home).exists(), "{words:?}");
    }
}

/// Returns the files of bodies beside the logs.
fn bodies(home: &Home) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(home.logs()).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path());
    files.filter(|path| path.to_str().unwrap().ends_with(".bodies.jsonl")).collect()
}

const TOKEN: &str = "ghp_EXAMPLEmEON6IZBmtYqLw1peE0bhTcIyiHtl";

/// Makes a call with a secret, which the sample server repeats in its error.
fn call_with_secret(session: &mut Session) {
    session.request("tools/call", json!({"name": "create_issue", "arguments": {"body": TOKEN, "n": 7}}));
    session.request(
        "tools/call",
        json!({"name": "search_issues", "arguments": {"query": format!("x {TOKEN}")}}),
    );
}

/// Waits until the files of bodies have this number of lines.
#[track_caller]
fn wait_for_bodies(home: &Home, wanted: usize) {
    let lines = |path: &PathBuf| std::fs::read_to_string(path).unwrap().lines().count();
    wait_until("bodies", || bodies(home).iter().map(lines).sum::<usize>() == wanted);
}

fn shown(home: &Home, words: &[&str]) -> String {
    let output = home.spantap(words.iter().copied()).output().unwrap();
    let (printed, said) = text(&output);
    assert!(output.status.success(), "{words:?}: {printed}{said}");
    printed
}

#[test]
fn bodies_are_kept_redacted_apart_and_announced_and_show_prints_them() {
    let home = Home::new();
    let mut session = home.session(&["--server", "notes"]);
    call_with_secret(&mut session);
    wait_for(&home, "mcp_tool_call", 2);
    let printed = shown(&home, &["show", "-1"]);
    assert!(printed.contains("`spantap debug on --bodies` keeps those of later calls"), "{printed}");
    let printed = debug(&home, &["on", "--bodies"]);
    assert!(printed.contains("kept beside the logs, redacted, for a day"), "{printed}");
    wait_for(&home, "debug_started", 1);
    call_with_secret(&mut session);
    wait_for_bodies(&home, 4);
    let files = bodies(&home);
    assert_eq!(std::fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = std::fs::read_to_string(&files[0]).unwrap();
    assert!(!kept.contains(TOKEN) && kept.contains("[REDACTED:github]"), "{kept}");
    debug(&home, &["off"]);
    wait_for(&home, "debug_ended", 1);
    call_with_secret(&mut session);
    let (_, said) = session.end();
    assert!(said.contains("arguments and results are kept, redacted, in a file beside the log"), "{said}");
    assert_eq!(std::fs::read_to_string(&files[0]).unwrap(), kept, "nothing after the end");

    let logs: Vec<PathBuf> = logs_in(&home.logs());
    let records: Vec<Value> = logs.iter().flat_map(|log| validate_log(log)).collect();
    let started = records.iter().find(|record| record["event"] == "debug_started").unwrap();
    assert_eq!((&started["bodies"], &started["level"]), (&json!("on"), &json!("warn")));
    let calls: Vec<&Value> = records.iter().filter(|record| record["event"] == "mcp_tool_call").collect();
    assert_eq!(calls.len(), 6);
    let handle = |call: &Value| {
        let connection = call["connection_id"].as_str().unwrap();
        format!("{}.{}", &connection[connection.len() - 6..], call["seq"])
    };
    let printed = shown(&home, &["show", &handle(calls[2])]);
    assert!(
        printed.contains("request, redacted\n  {\n    \"body\": \"[REDACTED:github]\",\n    \"n\": 7\n  }\n"),
        "{printed}"
    );
    assert!(printed.contains("response, redacted\n  {\n"), "{printed}");
    assert!(shown(&home, &["show", &handle(calls[4])]).contains("bodies         not kept"));

    let tail = shown(&home, &["tail", "--color", "always"]);
    let line = tail.lines().find(|line| line.contains("debug level is on")).unwrap();
    assert!(line.contains("\u{1b}[31m") && line.contains("kept in a file of their own, redacted"), "{tail}");
    shown(&home, &["report", "-o", "page.html"]);
    let page = std::fs::read_to_string(home.path().join("page.html")).unwrap();
    for printed in [page, shown(&home, &["sessions", "--json"]), shown(&home, &["tail", "--json"])] {
        assert!(!printed.contains("\"n\\\": 7") && !printed.contains("spantap-bodies"), "{printed}");
    }
}

#[test]
fn a_session_whose_redaction_is_strict_or_unknown_or_that_has_no_log_keeps_no_bodies_and_says_why() {
    for (config, options, reason, word) in [
        ("[redaction]\nmode = 'strict'\n", &[][..], "redaction is in strict mode", "strict_mode"),
        (
            "[redaction]\nmode = 'lax'\n",
            &[],
            "the redaction settings cannot be applied",
            "redaction_settings",
        ),
        ("", &["--no-log"], "this session has no log", "no_log"),
    ] {
        let home = Home::new();
        let folder = home.path().join(".config/spantap");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("config.toml"), config).unwrap();
        let printed = debug(&home, &["on", "--bodies"]);
        assert_eq!(printed.contains("no bodies are kept"), !config.is_empty(), "{printed}");
        // A short session may end before its first look at the control file.
        wait_until(reason, || {
            let mut session = home.session(options);
            call_with_secret(&mut session);
            let (_, said) = session.end();
            said.contains(&format!("no bodies are kept: {reason}"))
        });
        assert_eq!(bodies(&home), Vec::<PathBuf>::new(), "{word}");
        let records = home.records();
        let started = records.iter().find(|record| record["event"] == "debug_started");
        assert!(started.is_none_or(|record| record["bodies"] == word), "{started:?}");
    }
}

#[test]
fn each_start_deletes_bodies_that_a_killed_proxy_left_a_day_ago() {
    let home = Home::new();
    let elsewhere = home.path().join("elsewhere");
    debug(&home, &["on", "--bodies"]);
    for options in [&[][..], &["--log-dir", elsewhere.to_str().unwrap()]] {
        let mut session = home.session(options);
        session.calls(1);
        let folder = if options.is_empty() { home.logs() } else { elsewhere.clone() };
        let kept = || {
            let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).find(|path| path.to_str().unwrap().ends_with(".bodies.jsonl"))
        };
        wait_until("bodies", || {
            // The first call may have been made before the first look.
            session.calls(1);
            kept().is_some()
        });
        session.child.kill().unwrap();
        session.child.wait().unwrap();
        let file = kept().unwrap();
        shown(&home, &["debug"]);
        assert!(file.exists(), "it is young");
        let hours = std::time::Duration::from_secs(3600);
        let time = std::time::SystemTime::now() - 25 * hours;
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        match options {
            [] => drop(shown(&home, &["debug"])),
            // A proxy, too.
            _ => wait_until("the old file is deleted", || {
                home.session(&[]).end();
                !file.exists()
            }),
        }
        assert!(!file.exists());
    }
}
