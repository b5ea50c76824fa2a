//! `spantap debug` from another terminal, in sessions that run.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use serde_json::Value;
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
    let mut session = home.session(&[]);
    session.calls(1);
    wait_for(&home, "mcp_tool_call", 1);
    let (_, said) = session.end();
    assert!(said.contains("is ignored: it is too large"), "{said}");
    assert_eq!(count(&home.records(), "debug_started"), 0);
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
