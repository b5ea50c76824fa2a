//! How the reading commands show the end of a server.

use super::{run, text};

#[test]
fn a_server_that_did_not_start_is_shown_with_how_it_ended() {
    for what in ["f8365c04", "1249b154d581"] {
        let output = run(&format!("show {what} --log-dir fixtures/logs"));
        assert!(output.status.success(), "show {what}: {}", text(&output.stderr));
        let shown = text(&output.stdout);
        assert!(shown.starts_with("f8365c04-65c4-8202-8d23-9d23f9fa1085\nbroken"), "{shown}");
        assert!(shown.ends_with("  did not start: its command was not found\n"), "{shown}");
    }
    assert_eq!(run("show f8365c04 --tool x --log-dir fixtures/logs").status.code(), Some(1));
}

#[test]
fn what_a_server_said_last_stands_under_its_end_and_is_harmless() {
    let shown = text(&run("show ed9219f5 fixtures/logs").stdout);
    let end = "  everything: died of SIGSEGV (signal 11)\n          Starting default (STDIO) server...\n";
    assert!(shown.contains(end), "{shown}");
    let dir = tempfile::tempdir().unwrap();
    let line = r#"{"schema":"spantap/1","timestamp":"2026-11-25T19:11:53.988312Z","event":"session_ended","session_id":"crashed","server_name":"s","reason":"server_died","exit_code":3,"stderr_tail":["panic: \u001b[2J","at main"]}"#;
    std::fs::write(dir.path().join("s.jsonl"), format!("{line}\n")).unwrap();
    let shown = text(&run(&format!("show crashed {}", dir.path().display())).stdout);
    assert!(shown.ends_with("  exited with 3\n          panic: \\u{1b}[2J\n          at main\n"), "{shown}");
}

#[test]
fn a_server_that_ended_badly_when_it_was_asked_to_end_is_told() {
    let dir = tempfile::tempdir().unwrap();
    for (end, told) in [
        (r#""exit_code":3"#, Some("exited with 3 when it was asked to end")),
        (r#""signal":11"#, Some("died of SIGSEGV (signal 11) when it was asked to end")),
        (r#""exit_code":0"#, None),
        (r#""exit_code":143"#, None),
        (r#""signal":15"#, None),
    ] {
        let line = format!(
            r#"{{"schema":"spantap/1","timestamp":"2026-11-25T19:11:53.988312Z","event":"session_ended","session_id":"ended","server_name":"s","reason":"server_exited",{end},"stderr_tail":["a word"]}}"#
        );
        std::fs::write(dir.path().join("s.jsonl"), format!("{line}\n")).unwrap();
        let shown = text(&run(&format!("show ended {}", dir.path().display())).stdout);
        match told {
            Some(told) => assert!(shown.ends_with(&format!("  {told}\n          a word\n")), "{shown}"),
            None => assert!(!shown.contains("a word"), "{shown}"),
        }
    }
}

#[test]
fn a_server_that_spantap_killed_because_its_host_was_gone_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let line = r#"{"schema":"spantap/1","timestamp":"2026-11-25T19:11:53.988312Z","level":"warn","event":"session_ended","session_id":"ended","connection_id":"c","server_name":"s","reason":"server_exited","signal":9,"orphan_killed":true}"#;
    std::fs::write(dir.path().join("s.jsonl"), format!("{line}\n")).unwrap();
    for command in ["show ended", "sessions --json", "why"] {
        let told = text(&run(&format!("{command} {}", dir.path().display())).stdout);
        assert!(told.contains("did not end when its host was gone; spantap killed it"), "{command}: {told}");
    }
}
