//! `check` of the servers in hosts' files: `--all`, or one by its name.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::*;

/// A server of an older revision that answers everything with the same result, whose tools are `$TOOLS`.
const SERVER: &str = r#"while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case $line in
    *server/discover*) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"x"}}\n' "$id" ;;
    *'"id"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"},"tools":[%s]}}\n' "$id" "$TOOLS" ;;
  esac
done"#;

/// Returns an entry that runs a script before it serves.
fn entry(script: &str, environment: &Value) -> Value {
    json!({"command": "sh", "args": ["-c", format!("{script}\n{SERVER}")], "env": environment})
}

/// Writes a file of a host.
fn write(home: &Home, file: &str, content: &Value) {
    let path = home.path().join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content.to_string()).unwrap();
}

fn cursor(home: &Home, servers: &Value) {
    write(home, ".cursor/mcp.json", &json!({"mcpServers": servers}));
}

/// Returns the exit status and the document of `check … --json`.
fn check(home: &Home, words: &[&str]) -> (i32, Value) {
    let words = ["check", "--json", "--timeout", "30s"].iter().chain(words).copied();
    let output = home.spantap(words).output().unwrap();
    let (printed, said) = text(&output);
    let document = serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}{said}"));
    (output.status.code().unwrap(), document)
}

/// Returns a server of the document.
fn server<'a>(document: &'a Value, name: &str) -> &'a Value {
    let servers = document["servers"].as_array().unwrap();
    servers.iter().find(|server| server["name"] == name).unwrap_or_else(|| panic!("{name}: {document}"))
}

#[test]
fn each_server_runs_in_the_environment_and_folder_of_its_entry() {
    let home = Home::new();
    std::fs::create_dir(home.path().join("work")).unwrap();
    let folder = home.path().join("work");
    let mut with_folder =
        entry("pwd > folder; echo \"$TOKEN $HOME\" > environment", &json!({"TOKEN": "${env:KEY}"}));
    with_folder["cwd"] = json!("${userHome}/work");
    let never = json!({"command": "sh", "args": ["-c", "touch started"], "env": {"T": "${input:token}"}});
    cursor(
        &home,
        &json!({
            "works": with_folder,
            "asks": never,
            "off": {"command": "touch", "args": ["started"], "disabled": true},
            "dies": {"command": "sh", "args": ["-c", "echo password=hunter2hunter2 >&2; echo refused plainword >&2; echo no database >&2; exit 3"],
            "env": {"API_KEY": "plainword"}},
        }),
    );
    let output =
        home.spantap(["check", "--all", "--timeout", "30s"]).env("KEY", "from-the-shell").output().unwrap();
    let (printed, said) = text(&output);
    assert_eq!((output.status.code(), said.as_str()), (Some(1), ""), "{printed}");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(&folder.join("folder")).trim(), folder.canonicalize().unwrap().to_str().unwrap());
    assert_eq!(read(&folder.join("environment")), format!("from-the-shell {}\n", home.path().display()));
    for line in [
        "dies: the server ended before it answered (exit status 3)",
        "  stderr: no database",
        "asks: not checked: needs input: ${input:token}",
        "1 ok, 1 failed, 2 not checked",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line}: {printed}");
    }
    assert!(printed.contains("disabled") && printed.contains("needs input"), "{printed}");
    assert!(!printed.contains("hunter2") && !printed.contains("plainword"), "{printed}");
    assert!(!printed.contains("from-the-shell"), "{printed}");
    assert!(!home.path().join("started").exists() && logs_in(&home.logs()).is_empty());
}

#[test]
fn what_is_not_checked_is_not_a_failure_and_a_file_that_cannot_be_read_is() {
    let home = Home::new();
    cursor(&home, &json!({"off": {"command": "x", "disabled": true}}));
    let (status, document) = check(&home, &["--all"]);
    assert_eq!((status, &document["not_checked"]), (0, &json!(1)), "{document}");
    std::fs::create_dir_all(home.path().join(".codex")).unwrap();
    std::fs::write(home.path().join(".codex/config.toml"), "[mcp_servers").unwrap();
    let (status, document) = check(&home, &["--all"]);
    assert_eq!((status, &document["unread_files"][0]["host"]), (1, &json!("codex")), "{document}");
}

#[test]
fn a_file_that_cannot_be_read_changes_nothing_for_a_server_that_is_named() {
    let home = Home::new();
    let servers = json!({
        "db": {"command": SPANTAP, "args": ["demo", "--serve"]},
        "ghost": {"command": "/no/such/program"},
    });
    cursor(&home, &servers);
    let run = |words: &str| {
        let output = home.spantap(words.split(' ')).output().unwrap();
        (output.status.code().unwrap(), text(&output).1)
    };
    let commands =
        ["check db", "check ghost", "check dbb", "status db", "status nope", "wrap -n db", "wrap -n nope"];
    let before = commands.map(run);
    assert_eq!(before.each_ref().map(|(status, _)| *status), [0, 127, 2, 0, 1, 0, 1], "{before:?}");
    std::fs::create_dir_all(home.path().join(".gemini")).unwrap();
    std::fs::write(home.path().join(".gemini/settings.json"), "{\"mcpServers\": {").unwrap();
    for (command, (status, said)) in commands.into_iter().zip(before) {
        let (status_now, said_now) = run(command);
        let rest = said_now.split_once('\n').map(|(note, rest)| {
            assert!(note.starts_with("note: gemini-cli: ~/.gemini/settings.json cannot be read"), "{note}");
            rest.replace("cursor, gemini-cli", "cursor").replace(" that can be read", "")
        });
        assert_eq!((status_now, rest), (status, Some(said)), "{command}: {said_now}");
    }
}

#[test]
fn at_most_four_servers_run_at_the_same_time() {
    let home = Home::new();
    // Each server waits until four have begun, so that four run at once on a busy machine, too. It then runs on a
    // little, in which a fifth one would begin.
    let script = "echo + >> running; for n in $(seq 2000); do [ $(wc -l < running) -gt 3 ] && break; sleep 0.01; done; \
                  sleep 0.2; trap 'echo - >> running' EXIT";
    let servers: serde_json::Map<String, Value> =
        (0..9).map(|n| (format!("s{n}"), entry(script, &json!({"N": n})))).collect();
    cursor(&home, &servers.into());
    let (status, document) = check(&home, &["--all"]);
    assert_eq!((status, &document["ok"]), (0, &json!(9)), "{document}");
    let mut running = (0, 0);
    for line in std::fs::read_to_string(home.path().join("running")).unwrap().lines() {
        running.0 += if line == "+" { 1 } else { -1 };
        running.1 = running.1.max(running.0);
    }
    assert_eq!(running.1, 4);
}

#[test]
fn a_servers_changes_since_the_last_check_are_named_by_tool_and_part() {
    let home = Home::new();
    let with = |tools: &str| cursor(&home, &json!({"git": entry("", &json!({"TOOLS": tools}))}));
    with(r#"{"name":"log","description":"x","inputSchema":{"type":"object"}},{"name":"old"}"#);
    let (_, document) = check(&home, &["--all"]);
    assert_eq!(server(&document, "git")["changes"], Value::Null, "{document}");
    let (_, document) = check(&home, &["--all"]);
    assert_eq!(server(&document, "git")["changes"]["tools"], json!([]), "{document}");
    with(r#"{"name":"log","description":"y","inputSchema":{"type":"object"}},{"name":"new"}"#);
    let output = home.spantap(["check", "--all", "--timeout", "30s"]).output().unwrap();
    let (printed, _) = text(&output);
    assert!(printed.contains(": added new; removed old; changed log (description)\n"), "{printed}");
    with(r#"{"name":"log","description":"y","inputSchema":{"type":"string"}},{"name":"new"}"#);
    let (_, report) = check(&home, &["git"]);
    assert_eq!(
        report["changes"]["tools"],
        json!([{"tool": "log", "change": "changed", "parts": ["input_schema"]}]),
        "{report}"
    );
}

#[test]
fn a_wrapped_server_is_started_without_its_proxy_and_not_while_a_proxy_runs_it() {
    let home = Home::new();
    let wrapped = |server: &str| json!({"command": SPANTAP, "args": ["run", "--server", "demo", "--", SPANTAP, "demo", server]});
    cursor(&home, &json!({"demo": wrapped("--serve")}));
    let (status, document) = check(&home, &["--all"]);
    assert_eq!((status, &server(&document, "demo")["state"]), (0, &json!("ok")), "{document}");
    assert!(logs_in(&home.logs()).is_empty(), "a proxy would have written a log");

    let mut session = home.session(&["--server", "demo"]);
    session.request("initialize", json!({"protocolVersion": "2025-11-25", "capabilities": {}}));
    session.calls(2);
    wait_until("the live state", || {
        let (_, document) = check(&home, &["--all"]);
        let demo = server(&document, "demo");
        demo["state"] == "running" && demo["calls"] == 2
    });
    let (printed, _) = text(&home.spantap(["check", "demo"]).output().unwrap());
    assert!(printed.contains("2 calls, 0 errors; --again starts another"), "{printed}");
    let (status, document) = check(&home, &["--all", "--again"]);
    assert_eq!((status, &server(&document, "demo")["state"]), (0, &json!("ok")), "{document}");
}

/// A launcher that starts a proxy cannot be unwrapped.
#[test]
fn a_session_that_a_check_makes_is_marked_and_left_out_unless_asked_for() {
    let home = Home::new();
    let launcher = |server: &str| format!("exec {SPANTAP} --server inner -- {SPANTAP} demo {server}");
    for (server, status) in [("--serve", 0), ("--no-such-option", 1)] {
        let script = launcher(server);
        let words = ["check", "--timeout", "30s", "--", "sh", "-c", &script];
        let output = home.spantap(words).env(FLUSH_BUDGET.0, FLUSH_BUDGET.1).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{}", text(&output).1);
    }
    let records = home.records();
    assert!(
        records.len() > 5 && records.iter().all(|record| record["host_name"] == "spantap-check"),
        "{records:#?}"
    );
    let printed = |words: &[&str]| text(&home.spantap(words.iter().copied()).output().unwrap()).0;
    for words in
        [&["sessions", "--json"][..], &["stats", "--json"], &["show", "last", "--json"], &["tail", "--json"]]
    {
        assert_eq!(printed(words), "", "{words:?}");
    }
    assert!(!printed(&["why", "last"]).contains("inner"));
    assert_eq!(printed(&["sessions", "--json", "--checks"]).lines().count(), 2);
    let id = records[0]["session_id"].as_str().unwrap();
    assert!(printed(&["show", id]).contains("inner"));
}

#[test]
fn a_server_is_checked_by_its_name_and_an_unknown_name_says_where_it_was_looked_for() {
    let home = Home::new();
    let demo = json!({"command": SPANTAP, "args": ["demo", "--serve"]});
    cursor(&home, &json!({"demo": demo, "twice": demo}));
    write(
        &home,
        ".config/Code/User/mcp.json",
        &json!({"servers": {"demo": demo, "twice": {"command": "/no/such"}}}),
    );
    let (status, report) = check(&home, &["demo"]);
    assert_eq!((status, &report["server"]), (0, &json!("sample")), "two hosts, one server: {report}");
    let (status, document) = check(&home, &["twice"]);
    assert_eq!((status, &document["ok"], &document["failed"]), (1, &json!(1), &json!(1)), "{document}");
    let nowhere = text(&Home::new().spantap(["check", "demos"]).output().unwrap()).1;
    assert!(nowhere.starts_with("error: no server is called `demos`: none of your hosts has"), "{nowhere}");
    let (status, report) = check(&home, &["twice", "--host", "vscode"]);
    assert_eq!((status, &report["error_type"]), (127, &json!("not_found")), "{report}");
    for (words, says) in [
        (&["check", "demos"][..], "no server is called `demos` in the files of cursor, vscode"),
        (
            &["check", "twice", "--every", "1s"],
            "one server that can be checked; found: twice in cursor; twice in vscode",
        ),
        (&["check"], "no server is named"),
    ] {
        let output = home.spantap(words.iter().copied()).output().unwrap();
        let said = text(&output).1;
        assert!(output.status.code() == Some(2) && said.contains(says), "{said}");
    }
}

#[test]
fn programs_of_a_project_are_started_only_when_asked() {
    let home = Home::new();
    write(&home, ".mcp.json", &json!({"mcpServers": {"evil": {"command": "touch", "args": ["started"]}}}));
    cursor(&home, &json!({}));
    let output = home.spantap(["check", "--all"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output).1);
    assert!(!home.path().join("started").exists());
    let output = home.spantap(["check", "--all", "--project"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).0.contains("claude-code (project)") && home.path().join("started").exists());
}

/// A server that sends anything in the texts that are shown.
#[test]
fn no_text_of_a_server_reaches_a_terminal_as_it_came() {
    let home = Home::new();
    let tools = r#"{"name":"a\u001b[31m\u202eb","description":"x"}"#;
    cursor(
        &home,
        &json!({"\u{1b}]0;x\u{7}name": entry("", &json!({"TOOLS": tools})),
        "dies": {"command": "sh", "args": ["-c", "printf '\\033[2J%s\\n' x >&2; exit 1"]}}),
    );
    home.spantap(["check", "--all", "--timeout", "30s"]).output().unwrap();
    cursor(
        &home,
        &json!({"\u{1b}]0;x\u{7}name": entry("", &json!({"TOOLS": ""})),
        "dies": {"command": "sh", "args": ["-c", "printf '\\033[2J%s\\n' x >&2; exit 1"]}}),
    );
    for json in [&["--json"][..], &[]] {
        let words = ["check", "--all", "--timeout", "30s", "--color", "never"].iter().chain(json).copied();
        let (printed, said) = text(&home.spantap(words).output().unwrap());
        let all = format!("{printed}{said}");
        assert!(!all.contains('\u{1b}') && !all.contains('\u{202e}') && !all.contains('\u{7}'), "{all:?}");
    }
}
