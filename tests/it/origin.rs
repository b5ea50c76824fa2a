//! `--origin`: `wrap` names the entry, and `status` knows an entry by it.

use std::fs;

use serde_json::{Value, json};

use crate::support::*;
use crate::wrap::{json_lines, printed, put};

#[test]
fn an_entry_names_its_host_and_scope_and_an_older_or_copied_one_gets_them_with_the_next_wrap() {
    let home = Home::new();
    let before = r#"{"mcpServers":{"a":{"command":"true","args":["x"]},"b":{"command":"cat"}}}"#;
    let path = put(&home, ".cursor/mcp.json", before);
    printed(&home, "wrap -y");
    let wrapped = fs::read_to_string(&path).unwrap();
    let origin = r#""--origin", "cursor/user", "#;
    assert_eq!(wrapped.matches(origin).count(), 2, "{wrapped}");
    // Wrapped before the option existed, and copied from the file of another host.
    for old in [wrapped.replace(origin, ""), wrapped.replace("cursor/user", "vscode/user")] {
        fs::write(&path, &old).unwrap();
        let report = json_lines(&printed(&home, "wrap -y --json")).remove(0);
        assert_eq!((&report["origin_set"], &report["renewed"]), (&json!(["a", "b"]), &json!([])));
        assert_eq!(fs::read_to_string(&path).unwrap(), wrapped);
    }
    let args: Value = serde_json::from_str(&wrapped).unwrap();
    let args = args["mcpServers"]["a"]["args"].as_array().unwrap().clone();
    let args: Vec<&str> = args.iter().map(|arg| arg.as_str().unwrap()).collect();
    assert!(home.spantap(args).output().unwrap().status.success());
    let log = logs_in(&home.path().join(".local/state/spantap/sessions")).remove(0);
    let first = json_lines(&fs::read_to_string(log).unwrap()).remove(0);
    assert_eq!(first["origin"], "cursor/user");
    printed(&home, "unwrap -y");
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
}

/// Two hosts have a `git`, and one file has a `git` in two projects.
#[test]
fn status_does_not_take_the_server_of_one_host_or_project_for_that_of_another() {
    let home = Home::new();
    let git = json!({"command": "true"});
    put(&home, ".cursor/mcp.json", json!({"mcpServers": {"git": git}}).to_string());
    let folders = ["one", "two"].map(|name| home.path().join(name));
    folders.iter().for_each(|folder| fs::create_dir(folder).unwrap());
    let project = json!({"mcpServers": {"git": git}});
    let projects = json!({(folders[0].to_str().unwrap()): project, (folders[1].to_str().unwrap()): project});
    put(&home, ".claude.json", json!({"projects": projects}).to_string());
    printed(&home, "wrap -y");
    let seen = || -> Vec<(String, Value)> {
        let rows = json_lines(&printed(&home, "status --json"));
        let by = |row: &Value| (row["server"].to_string(), row["last_seen_by"].clone());
        rows.iter().map(by).collect()
    };
    assert!(seen().iter().all(|(_, by)| by.is_null()), "{:?}", seen());
    // Claude Code runs the server of the first project.
    let claude: Value =
        serde_json::from_str(&fs::read_to_string(home.path().join(".claude.json")).unwrap()).unwrap();
    let entry = &claude["projects"][folders[0].to_str().unwrap()]["mcpServers"]["git"];
    let args = entry["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
    assert!(home.spantap(args).current_dir(&folders[0]).output().unwrap().status.success());
    for (server, by) in seen() {
        let expected = match () {
            () if server.contains("one)") => json!("origin"),
            // Not every host starts a project's server in the project.
            () if server.contains("two)") => json!("name"),
            () => Value::Null,
        };
        assert_eq!(by, expected, "{server}");
    }
    let shown = printed(&home, "status");
    assert!(
        shown.contains("\n~ a server of this name was seen; its log does not name the entry."),
        "{shown}"
    );
}

#[test]
fn a_log_that_names_no_entry_counts_for_all_of_that_name_with_a_mark() {
    let home = Home::new();
    put(&home, ".cursor/mcp.json", r#"{"mcpServers":{"git":{"command":"true"}}}"#);
    put(&home, ".gemini/settings.json", r#"{"mcpServers":{"git":{"command":"true"}}}"#);
    printed(&home, "wrap -y --host cursor");
    assert!(home.spantap(["--server", "git", "--", "true"]).output().unwrap().status.success());
    let rows = json_lines(&printed(&home, "status --json"));
    let by: Vec<_> = rows.iter().map(|row| (row["host"].as_str().unwrap(), &row["last_seen_by"])).collect();
    assert_eq!(by, [("cursor", &json!("name")), ("gemini-cli", &Value::Null)], "one is not watched");
}

#[test]
fn status_shows_what_runs_and_breaks_neither_dates_nor_words_at_any_width() {
    let home = Home::new();
    let servers = json!({"git": {"command": "cat"}, "a-server-with-a-long-name": {"command": "/gone/spantap",
        "args": ["run", "--server", "x", "--wrapped", "1:0", "--", "cat"]}});
    put(&home, ".cursor/mcp.json", json!({"mcpServers": servers}).to_string());
    printed(&home, "wrap git -y");
    let mut proxy = home.spantap(["--server", "git", "--origin", "cursor/user", "--", "cat"]);
    let mut running =
        proxy.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
    let status = |columns: &str, colour: &str| {
        let mut command = home.spantap(["status", "--color", colour]);
        text(&command.env("COLUMNS", columns).env("TZ", "JST-9").output().unwrap()).0
    };
    wait_until("the server runs", || status("80", "never").contains("running"));
    let shown = status("80", "always");
    assert!(shown.contains("\u{1b}[32mrunning") && shown.contains("\u{1b}[31mstale binary"), "{shown:?}");
    drop(running.stdin.take());
    running.wait().unwrap();
    // 2027-01-15 08:00 UTC.
    let log = logs_in(&home.path().join(".local/state/spantap/sessions")).remove(0);
    let written = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000);
    fs::File::options().append(true).open(log).unwrap().set_modified(written).unwrap();
    let whole: Vec<String> = status("1000", "never").split_whitespace().map(str::to_owned).collect();
    for columns in ["66", "80", "200"] {
        let shown = status(columns, "never");
        let width: usize = columns.parse().unwrap();
        assert!(shown.lines().all(|line| line.chars().count() <= width), "{columns}:\n{shown}");
        assert!(shown.contains("2027-01-15 17:00\n"), "local time: {shown}");
        assert!(shown.split_whitespace().all(|word| whole.contains(&word.to_owned())), "{columns}:\n{shown}");
    }
}
