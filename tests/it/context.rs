//! `spantap context`: what definitions and results cost, and which tools were never called.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::*;

fn fixtures() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/context").display().to_string()
}

fn run(arguments: &[&str], width: &str) -> (String, String) {
    let output = Home::new().spantap(arguments.iter().copied()).env("COLUMNS", width).output().unwrap();
    text(&output)
}

fn rows(arguments: &[&str]) -> Vec<Value> {
    let (printed, _) = run(&[&["context"], arguments, &["--json"]].concat(), "80");
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn tool<'r>(rows: &'r [Value], server: &str, name: &str) -> &'r Value {
    let server = rows.iter().find(|row| row["server_name"] == server).unwrap();
    let tools = server["tools"].as_array().unwrap();
    tools.iter().find(|tool| tool["tool_name"] == name).unwrap_or(&Value::Null)
}

/// A log of one server with these events, of which each has a time in minutes.
fn log(folder: &Path, server: &str, connection: u32, events: &[(u32, &str, Value)]) {
    let mut lines = String::new();
    for (seq, (minute, event, fields)) in events.iter().enumerate() {
        let mut record = json!({
            "schema": "spantap/1", "timestamp": format!("2026-11-28T10:{minute:02}:00.000000Z"), "level": "info",
            "event": event, "message": "", "seq": seq, "session_id": format!("s{connection}"),
            "connection_id": format!("019acac6-0000-7000-8000-{connection:012}"), "server_name": server,
        });
        record.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        lines.push_str(&format!("{record}\n"));
    }
    std::fs::write(folder.join(format!("{server}-{connection}.jsonl")), lines).unwrap();
}

fn listed(names: &[&str], page: u64, is_complete: bool) -> Value {
    let tools: Vec<Value> = names
        .iter()
        .map(|name| {
            json!({"name": name, "definition_bytes": 400, "description_bytes": 100, "schema_bytes": 201,
                "definition_hash": "0123456789abcdef"})
        })
        .collect();
    let bytes = 400 * names.len();
    json!({"tools": tools, "tools_total": names.len(), "is_complete": is_complete, "definition_bytes": bytes,
        "page": page})
}

fn called(name: &str) -> Value {
    json!({"method": "tools/call", "tool_name": name, "status": "ok", "duration_ms": 1.0, "result_tokens_est": 10})
}

#[test]
fn a_tool_is_never_called_if_no_session_of_its_server_called_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    log(
        path,
        "a",
        1,
        &[
            (1, "tools_listed", listed(&["read", "write", "list"], 1, true)),
            (2, "mcp_tool_call", called("read")),
        ],
    );
    log(
        path,
        "a",
        2,
        &[
            (3, "tools_listed", listed(&["read", "write", "list"], 1, true)),
            (4, "mcp_tool_call", called("list")),
        ],
    );
    // Another server has tools of the same names.
    log(
        path,
        "b",
        3,
        &[(1, "tools_listed", listed(&["read", "write"], 1, true)), (2, "mcp_tool_call", called("write"))],
    );
    let rows = rows(&[&path.display().to_string()]);
    let never = |server: &str, name: &str| tool(&rows, server, name)["never_called"] == json!(true);
    let expected = [("a", "read", false), ("a", "list", false), ("a", "write", true)];
    for (server, name, is_never) in expected.into_iter().chain([("b", "read", true), ("b", "write", false)]) {
        assert_eq!(never(server, name), is_never, "{server} {name}");
    }
    for row in &rows {
        assert_eq!((&row["never_called"], &row["never_called_tokens_est"]), (&json!(1), &json!(100)));
    }
    let described = tool(&rows, "a", "write");
    assert_eq!(
        (&described["description_tokens_est"], &described["schema_tokens_est"]),
        (&json!(25), &json!(51))
    );
}

#[test]
fn the_definitions_are_those_of_the_connection_that_listed_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    // The connection with the greater id does not list its tools last.
    log(
        path,
        "a",
        3,
        &[
            (1, "tools_listed", listed(&["old"], 1, true)),
            (2, "mcp_tool_call", called("old")),
            (2, "tools_listed", listed(&["older"], 1, true)),
        ],
    );
    log(
        path,
        "a",
        2,
        &[
            (3, "tools_listed", listed(&["one"], 1, false)),
            (3, "tools_listed", listed(&["two"], 2, false)),
            (3, "tools_listed", listed(&["three"], 3, true)),
            // The second page changes, and is the last one.
            (4, "tools_listed", listed(&["two", "new"], 2, true)),
        ],
    );
    let rows = rows(&[&path.display().to_string()]);
    let names: Vec<&str> =
        rows[0]["tools"].as_array().unwrap().iter().map(|tool| tool["tool_name"].as_str().unwrap()).collect();
    assert_eq!(names, ["new", "one", "two", "old"]);
    assert_eq!((&rows[0]["tools_total"], &rows[0]["definition_bytes"]), (&json!(3), &json!(1200)));
    let old = tool(&rows, "a", "old");
    assert_eq!(
        (&old["calls"], &old["never_called"], &old["definition_bytes"]),
        (&json!(1), &json!(false), &Value::Null)
    );
}

#[test]
fn a_listing_is_whole_if_all_its_pages_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    log(path, "a", 1, &[(1, "tools_listed", listed(&["one", "two"], 1, true))]);
    let without_second =
        [(2, "tools_listed", listed(&["one"], 1, false)), (2, "tools_listed", listed(&["three"], 3, true))];
    log(path, "a", 2, &without_second);
    let folder = path.display().to_string();
    assert_eq!(rows(&[&folder])[0]["is_complete"], false);
    assert_eq!(rows(&["a", "--history", &folder]).len(), 1, "`two` may be on the page that is missing");
    log(path, "a", 3, &[(3, "tools_listed", listed(&["one"], 1, true))]);
    assert_eq!(rows(&[&folder])[0]["is_complete"], true);
    let changes = rows(&["a", "--history", &folder]);
    assert_eq!((changes.len(), &changes[1]["tool_name"]), (2, &json!("two")));
    assert_eq!(rows(&["a", "--history", "--tool", "no_such_tool", &folder]).len(), 0);
}

#[test]
fn a_tool_without_a_name_in_the_log_neither_came_nor_went() {
    let folder = tempfile::tempdir().unwrap();
    let with_more = |names: &[&str]| {
        let mut listed = listed(names, 1, true);
        (listed["unlisted"], listed["tools_total"]) = (json!(3), json!(names.len() + 3));
        listed
    };
    let listings = [
        with_more(&["one"]),
        listed(&["one", "two"], 1, true),
        with_more(&["two"]),
        listed(&["one", "two", "three"], 1, true),
        listed(&["two", "three"], 1, true),
    ];
    let events: Vec<_> =
        (1..).zip(listings).map(|(minute, listing)| (minute, "tools_listed", listing)).collect();
    log(folder.path(), "a", 1, &events);
    let place = folder.path().display().to_string();
    let changes = rows(&["a", "--history", &place]);
    assert_eq!((&changes[0]["tools"], &changes[0]["tokens_est"]), (&json!(4), &Value::Null));
    let changed: Vec<[&Value; 2]> =
        changes[1..].iter().map(|row| [&row["change"], &row["tool_name"]]).collect();
    assert_eq!(changed, [[&json!("removed"), &json!("one")]]);
}

#[test]
fn a_session_is_read_from_its_beginning_although_it_is_old() {
    let folder = tempfile::tempdir().unwrap();
    log(
        folder.path(),
        "a",
        1,
        &[(1, "tools_listed", listed(&["one"], 1, true)), (2, "mcp_tool_call", called("one"))],
    );
    let name = folder.path().join("a-2020-11-28-000000000001.jsonl");
    let old = std::fs::read_to_string(folder.path().join("a-1.jsonl")).unwrap().replace("2026-", "2020-");
    std::fs::write(&name, old).unwrap();
    std::fs::remove_file(folder.path().join("a-1.jsonl")).unwrap();
    let place = folder.path().display().to_string();
    for (options, calls) in
        [(&[][..], 0), (&["--session", "s1"], 1), (&["--session", "s1", "--since", "24h"], 0)]
    {
        let rows = rows(&[&["--log-dir", &place][..], options].concat());
        assert_eq!(tool(&rows, "a", "one")["calls"], calls, "{options:?}");
    }
}

/// A server that runs for days lists its tools once, perhaps in a part of its log that was written before.
#[test]
fn definitions_count_although_they_were_listed_before_the_selected_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    log(
        path,
        "a",
        1,
        &[(1, "tools_listed", listed(&["read", "write"], 1, true)), (1, "mcp_tool_call", called("read"))],
    );
    std::fs::rename(path.join("a-1.jsonl"), path.join("early.jsonl")).unwrap();
    log(path, "a", 1, &[(0, "x", json!({})), (0, "x", json!({})), (30, "mcp_tool_call", called("write"))]);
    // The later part begins with the third record.
    let later = std::fs::read_to_string(path.join("a-1.jsonl")).unwrap();
    std::fs::write(path.join("a-1.jsonl"), format!("{}\n", later.lines().last().unwrap())).unwrap();
    let old = std::fs::File::options().append(true).open(path.join("early.jsonl")).unwrap();
    old.set_modified(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000))
        .unwrap();
    let rows = rows(&["--log-dir", &path.display().to_string(), "--since", "2026-11-28T10:20:00Z"]);
    assert_eq!(rows[0]["definition_bytes"], 800);
    assert_eq!(tool(&rows, "a", "read")["never_called"], json!(true), "it was called before");
    assert_eq!(tool(&rows, "a", "write")["calls"], 1);
}

#[test]
fn definitions_are_looked_for_in_the_newest_older_logs_only_and_a_note_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let age = |name: &str, minute: u64| {
        let file = std::fs::File::options().append(true).open(path.join(name)).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(60 * minute))
            .unwrap();
        file
    };
    log(path, "a", 1, &[(1, "tools_listed", listed(&["read"], 1, true))]);
    log(path, "other", 1, &[(1, "tools_listed", listed(&["read"], 1, true))]);
    log(path, "a", 2, &[(30, "mcp_tool_call", called("read"))]);
    let place = path.display().to_string();
    let words = ["context", "--log-dir", &place, "--since", "2026-11-28T10:20:00Z", "--json"];
    let found = |older: &str| {
        age("a-1.jsonl", 1);
        // A file with holes takes no room on the disk.
        let file = age("other-1.jsonl", if older == "a" { 2 } else { 0 });
        file.set_len(200 << 20).unwrap();
        age("other-1.jsonl", if older == "a" { 2 } else { 0 });
        let (printed, said) = run(&words, "80");
        let row: Value = serde_json::from_str(&printed).unwrap();
        (row["definition_bytes"].as_u64(), said.contains("the newest 128 MB of older logs only"))
    };
    assert_eq!(found("other"), (Some(400), false));
    assert_eq!(found("a"), (None, true));
}

#[test]
fn it_says_what_a_turn_pays_what_was_cut_and_what_could_be_saved() {
    let (printed, said) = run(&["context", &fixtures()], "200");
    for words in [
        "read_text_file                  240         123      103      3      420       31k  1 over 25k, probably cut",
        "create_directory                118          49       54      0                     never called",
        "claude-code can load definitions on demand",
        "files: 11 of 14 tools never called, ~1.5k tokens a turn; git: 3 of 5 tools never called, ~291 tokens a turn\n",
    ] {
        assert!(printed.contains(words), "{words}\n{printed}");
    }
    assert!(printed.lines().last().unwrap().starts_with("files: 11 of 14"), "{printed}");
    assert_eq!(
        printed.lines().nth(1).unwrap().split_whitespace().next(),
        Some("files"),
        "most can be saved there"
    );
    assert!(said.starts_with("note: no definitions are recorded for search: an older spantap"), "{said}");
    for width in ["40", "80", "200"] {
        let (printed, _) = run(&["context", &fixtures()], width);
        let longest = printed.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(longest <= width.parse().unwrap(), "{printed}");
    }
    let (piped, _) = text(&Home::new().spantap(["context", &fixtures()]).output().unwrap());
    assert!(piped.contains("list_directory_with_sizes") && piped.contains("probably cut"), "{piped}");
}

#[test]
fn one_server_and_one_tool_can_be_selected_and_conditions_on_calls_are_refused() {
    let path = fixtures();
    for arguments in [&["git", &path][..], &["g*", &path], &["--server", "git", &path]] {
        let rows = rows(arguments);
        assert_eq!(rows.iter().map(|row| &row["server_name"]).collect::<Vec<_>>(), ["git"], "{arguments:?}");
    }
    let rows = rows(&["git", "--tool", "git_p*", &path]);
    assert_eq!((&rows[0]["tools_total"], &rows[0]["calls"]), (&json!(1), &json!(0)));
    for option in [&["--status", "error"][..], &["--method", "x"], &["--min-duration", "1s"]] {
        let output = Home::new().spantap([&["context", &path], option].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{option:?}");
    }
}

#[test]
fn the_history_says_when_a_tool_came_went_and_what_changed() {
    let (printed, _) = run(&["context", "git", "--history", &fixtures()], "100");
    let expected = "\
TIME              SERVER  SESSION   TOOL            CHANGE      PARTS        BEFORE~  TOKENS~
2026-11-27 09:00  git     6f0c2a11  5 tools         first seen                            508
2026-11-28 10:00  git     b81e7d40  list_directory  went                          90
2026-11-28 10:00  git     b81e7d40  git_push        came                                   83
2026-11-28 10:00  git     b81e7d40  git_status      changed     description       72       91
";
    assert_eq!(printed, expected);
    let changes = rows(&["git", "--history", &fixtures()]);
    assert_eq!((&changes[3]["change"], &changes[3]["parts"]), (&json!("changed"), &json!(["description"])));
}

#[test]
fn sessions_and_stats_count_definitions_apart_from_calls() {
    let path = fixtures();
    let of = |arguments: &[&str]| -> Vec<Value> {
        let (printed, _) = run(&[arguments, &["--json", &path]].concat(), "80");
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let servers = rows(&[&path]);
    let bytes = |row: &Value| row["definition_bytes"].as_u64().unwrap();
    let all = servers.iter().filter(|row| row["server_name"] != "search").map(bytes).sum::<u64>();
    let sessions = of(&["sessions"]);
    let session = |id: &str| sessions.iter().find(|session| session["session_id"] == id).unwrap();
    assert_eq!(session("b81e7d40")["definition_tokens_est"], all.div_ceil(4));
    assert_eq!(session("b81e7d40")["tokens_est"], 380 + 31_250 + 210 + 840 + 1_200 + 5 * 12);
    assert_eq!(session("0c6d11e9")["definition_tokens_est"], Value::Null);
    for row in of(&["stats", "--by", "server"]) {
        let server = servers.iter().find(|server| server["server_name"] == row["server_name"]).unwrap();
        assert_eq!(row["definition_tokens_est"], server["definition_tokens_est"], "{row}");
    }
    let (table, _) = run(&["stats", "--by", "server", &path], "200");
    assert!(table.lines().next().unwrap().contains("DEFINED~  TOKENS~"), "{table}");
}
