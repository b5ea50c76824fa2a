//! `spantap check`: which way a server fails is told apart, and the exit status says whether it did.

use std::process::{Command, Output};

use crate::support;

/// A server in a shell: `body` runs once for each line it gets.
fn check(script: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spantap"))
        .args(["check", "--timeout", "20s", "--json", "--", "sh", "-c", script])
        .output()
        .unwrap()
}

fn error(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(1));
    std::str::from_utf8(&output.stderr).unwrap()
}

const GOOD: &str = r#"echo starting up
read -r line; echo '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}'
read -r line; read -r line; echo '{"jsonrpc":"2.0","id":2,"result":{}}'
read -r line; echo '{"jsonrpc":"2.0","id":3,"result":{"tools":[{"name":"a"},{"name":"b"}]}}'"#;

#[test]
fn a_server_that_works_is_measured() {
    let output = check(GOOD);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["server"], &report["tools"]), (&"sh".into(), &2.into()));
    assert_eq!(report["banner_lines"], 1);
    assert!(report["handshake_ms"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_server_that_dies_at_once_is_told_with_its_last_words() {
    let output = check("echo no such database >&2; exit 3");
    assert!(error(&output).contains("stderr: no such database"), "{}", error(&output));
}

#[test]
fn a_server_that_answers_with_an_error_is_told_with_its_code() {
    let answer = r#"read -r line; echo '{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"x"}}'; read -r line"#;
    assert!(error(&check(answer)).contains("initialize with error -32602"));
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let output = Command::new(env!("CARGO_BIN_EXE_spantap"))
        .args(["check", "--timeout", "200ms", "--", "sh", "-c", "while read -r line; do :; done"])
        .output()
        .unwrap();
    assert!(error(&output).contains("no answer to initialize"));
}

#[test]
fn a_command_that_does_not_exist_is_told() {
    let output = Command::new(env!("CARGO_BIN_EXE_spantap"))
        .args(["check", "--", "/no/such/server"])
        .output()
        .unwrap();
    assert!(error(&output).contains("failed to start server `/no/such/server`"));
}

/// Ten lines are shown, and a key may have begun before them.
#[test]
fn a_key_that_a_failing_server_prints_is_not_among_its_last_lines() {
    let home = support::Home::new();
    let body = "MIIEXAMPLEexample0123456789+/EXAMPLEexample0123456789EXAMPLEexam\n";
    let words = format!("-----BEGIN RSA PRIVATE KEY-----\n{}", body.repeat(30));
    std::fs::write(home.path().join("words"), words).unwrap();
    let output = home.spantap(["check", "--", "sh", "-c", "cat words >&2; exit 1"]).output().unwrap();
    let said = support::text(&output).1;
    assert!(said.contains("stderr: [REDACTED:private_key]") && !said.contains("MIIEXAMPLE"), "{said}");
}
