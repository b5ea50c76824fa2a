//! What Windows has otherwise: places, exit codes, the host's config files, and the parts that no other module here
//! runs there.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::otlp::collector::{Collector, Manner};
use crate::support::run::Run;
use crate::support::*;

fn run(home: &Home, arguments: &[&str]) -> Output {
    home.spantap(arguments.iter().copied()).stdin(Stdio::null()).output().unwrap()
}

/// Returns what a command printed, which must succeed.
#[track_caller]
fn printed(home: &Home, arguments: &[&str]) -> String {
    let output = run(home, arguments);
    let (printed, said) = text(&output);
    assert!(output.status.success(), "{arguments:?}: {printed}{said}");
    printed
}

#[test]
fn the_server_s_exit_code_is_that_of_spantap_and_in_the_log() {
    let home = Home::new();
    let output = run(&home, &["--", "cmd", "/d", "/c", "exit 7"]);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output).1);
    let records = home.records();
    let ended = records.iter().find(|record| record["event"] == "session_ended").unwrap();
    assert_eq!(ended["exit_code"], 7);
}

#[test]
fn a_missing_command_is_told_with_a_hint_and_gives_127() {
    let output = run(&Home::new(), &["--", "no-such-command"]);
    let (printed, said) = text(&output);
    assert_eq!((output.status.code(), printed.as_str()), (Some(127), ""));
    assert!(said.starts_with("error: failed to start server `no-such-command`: not found\nhint: "), "{said}");
    assert!(said.contains("(`where no-such-command`)"), "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");
    let said = text(&run(&Home::new(), &["--", r"C:\no\such.exe"])).1;
    assert!(said.contains("hint: check the path"), "{said}");
}

#[test]
fn status_tells_what_the_collector_took_and_that_it_was_killed() {
    let home = Home::new();
    let mut command = home.spantap(["collect", "--listen", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut stdout, mut line) = (BufReader::new(child.stdout.take().unwrap()), String::new());
    stdout.read_line(&mut line).unwrap();
    let address = line.strip_prefix("listening on ").and_then(|rest| rest.split([',', ' ']).next()).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let span =
        json!({"name": "x", "traceId": "01".repeat(16), "spanId": "01".repeat(8), "startTimeUnixNano": "1"});
    let body = json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).to_string();
    let head =
        "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json";
    write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let status = || text(&run(&home, &["status"])).0;
    let runs = format!("spantap collect runs (pid {}) on {address}", child.id());
    wait_until("status tells of the span", || {
        let status = status();
        status.contains(&runs) && status.contains("1 span")
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(status().contains("did not end in order"), "{}", status());
}

#[test]
fn without_variables_of_xdg_files_are_in_the_folders_of_the_profile() {
    let home = Home::new();
    let spantap = |words: &[&str]| {
        let mut command = home.spantap(words.iter().copied());
        command.env_remove("XDG_STATE_HOME").env_remove("XDG_CONFIG_HOME");
        command.env("APPDATA", home.path().join("Roaming")).env("LOCALAPPDATA", home.path().join("Local"));
        command
    };
    fs::create_dir_all(home.path().join("Roaming/spantap")).unwrap();
    fs::write(home.path().join("Roaming/spantap/config.toml"), "user_id = \"from-config\"\n").unwrap();
    let output = spantap(&["--", "cmd", "/d", "/c", "exit"]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output).1);
    let logs = logs_in(&home.path().join("Local/spantap/sessions"));
    assert_eq!(logs.len(), 1);
    let records = validate_log(&logs[0]);
    assert_eq!(records[0]["user_id"], "from-config");
    let shown = text(&spantap(&["sessions"]).output().unwrap()).0;
    assert!(shown.contains("exit"), "{shown}");
}

#[test]
fn lines_that_end_with_cr_lf_are_messages_as_others_are() {
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "read_file", "arguments": {}}});
    let ended = Run::wrapping_sample().unhurried().send(format!("{call}\r\n")).expect_exit(0);
    let records = ended.records();
    let calls: Vec<&Value> = records.iter().filter(|record| record["event"] == "mcp_tool_call").collect();
    assert_eq!(calls.len(), 1, "{records:?}");
    assert_eq!((&calls[0]["tool_name"], &calls[0]["status"]), (&json!("read_file"), &json!("ok")));
    assert!(!records.iter().any(|record| record["event"] == "protocol_violation"), "{records:?}");
}

#[test]
fn no_secret_of_a_call_reaches_the_log() {
    const SECRET: &str = "sk-ant-api03-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789";
    let home = Home::new();
    let mut host = home.session(&["--server", "mail"]);
    let arguments = json!({"to": SECRET, "api_key": "hunter2hunter2"});
    host.request("tools/call", json!({"name": "send_mail", "arguments": arguments}));
    assert!(host.end().0.success());
    let files = logs_in(&home.logs());
    assert_eq!(files.len(), 1);
    for entry in fs::read_dir(home.logs()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(SECRET) && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn the_reading_commands_show_a_session() {
    let home = Home::new();
    let mut host = home.session(&["--server", "sample"]);
    host.calls(3);
    assert!(host.end().0.success());
    for (command, word) in [
        (&["sessions"][..], "sample"),
        (&["stats"], "search_issues"),
        (&["tail"], "search_issues"),
        (&["show", "last"], "search_issues"),
        (&["doctor"], "sessions"),
        (&["report", "-o", "page.html"], "page.html"),
    ] {
        let shown = printed(&home, command);
        assert!(shown.contains(word), "{command:?}: {shown}");
    }
    assert!(fs::read_to_string(home.path().join("page.html")).unwrap().contains("search_issues"));
}

#[test]
fn top_shows_a_call_that_waits_and_what_the_server_costs() {
    let home = Home::new();
    let mut host = home.session(&["--server", "db"]);
    let call = json!({"name": "delete_repository", "arguments": {}});
    host.send(&json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": call}));
    let mut state = json!(null);
    wait_until("the call is open", || {
        state = serde_json::from_str(&printed(&home, &["top", "--once", "--json"])).unwrap();
        state["servers"][0]["open"][0]["name"] == "delete_repository"
    });
    assert_eq!((&state["running"], &state["servers"][0]["server_name"]), (&json!(1), &json!("db")));
    assert!(state["servers"][0]["memory_bytes"].as_u64().unwrap() > 1_000_000, "{state}");
    host.end();
    state = serde_json::from_str(&printed(&home, &["top", "--once", "--json"])).unwrap();
    assert_eq!(state["servers"], json!([]));
}

#[test]
fn wrap_then_unwrap_leaves_the_file_of_claude_desktop_as_it_was() {
    const BEFORE: &[u8] =
        b"{\r\n  \"mcpServers\": {\r\n    \"files\": {\"command\": \"npx\", \"args\": [\"-y\", \
        \"@modelcontextprotocol/server-filesystem\", \"C:\\\\Users\\\\x y\"]}\r\n  }\r\n}\r\n";
    let home = Home::new();
    let folder = home.path().join("Claude");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("claude_desktop_config.json");
    fs::write(&path, BEFORE).unwrap();
    let said = printed(&home, &["wrap", "--yes"]);
    assert!(said.contains("Claude Desktop: 1 server changed."), "{said}");
    let now: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let entry = &now["mcpServers"]["files"];
    assert!(entry["command"].as_str().unwrap().ends_with("spantap.exe"), "{entry}");
    let args: Vec<&str> = entry["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let dashes = args.iter().position(|word| *word == "--").unwrap();
    assert_eq!(args[dashes + 1..], ["npx", "-y", "@modelcontextprotocol/server-filesystem", r"C:\Users\x y"]);
    let status = printed(&home, &["status", "--json"]);
    let status: Value = serde_json::from_str(status.lines().next().unwrap()).unwrap();
    assert_eq!((&status["server"], &status["watched"]), (&json!("files"), &json!("yes")));
    printed(&home, &["unwrap", "--yes"]);
    assert_eq!(fs::read(&path).unwrap(), BEFORE);
}

#[test]
fn check_greets_a_server_and_leaves_no_process() {
    let home = Home::new();
    let shown = printed(&home, &["check", "--timeout", "60s", "--json", "--", SPANTAP, "demo", "--serve"]);
    let report: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(report["ok"], true, "{report}");
    let missing = run(&home, &["check", "--timeout", "60s", "--", "no-such-command"]);
    assert_eq!(missing.status.code(), Some(127), "{}", text(&missing).1);
}

#[test]
fn the_command_of_notify_runs_once_if_a_server_dies() {
    let home = Home::new();
    let folder = home.path().join(".config/spantap");
    fs::create_dir_all(&folder).unwrap();
    let (script, told) = (home.path().join("tell me.cmd"), home.path().join("told.txt"));
    let text = format!("@echo %SPANTAP_EVENT% %1>> \"{}\"\r\n", told.display());
    fs::write(&script, text).unwrap();
    let config = format!("notify = ['{}', 'word']\n", script.display());
    fs::write(folder.join("config.toml"), config).unwrap();
    let mut command = home.spantap(["--server", "db", "--", "cmd", "/d", "/c", "exit -1073741819"]);
    // A server whose input has ended was asked to end.
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let input = child.stdin.take();
    assert_eq!(child.wait().unwrap().code(), Some(0xC000_0005_u32 as i32));
    drop(input);
    wait_until("the command has run", || fs::read_to_string(&told).is_ok_and(|text| !text.is_empty()));
    let said = fs::read_to_string(&told).unwrap();
    assert_eq!(said.trim_end(), "died word", "{said:?}");
}

#[test]
fn spans_arrive_at_a_collector() {
    let home = Home::new();
    let collector = Collector::start(Manner::Good);
    let mut host = home.session(&["--server", "sample", "--otlp", &collector.endpoint]);
    host.calls(2);
    assert!(host.end().0.success());
    let names: Vec<String> = collector.spans().into_iter().map(|span| span.name).collect();
    let calls = names.iter().filter(|name| *name == "tools/call search_issues").count();
    assert_eq!(calls, 2, "{names:?}");
}
