//! `spantap why` names the cause: of sessions whose cause is known (`fixtures/why`), and of one that hangs now.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use crate::support::*;

fn logs(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/why").join(case)
}

fn run(arguments: &[&str], columns: Option<&str>) -> Output {
    let home = Home::new();
    let mut command = home.spantap(arguments.iter().copied());
    command.envs(columns.map(|columns| ("COLUMNS", columns)));
    command.output().unwrap()
}

/// Returns the lines that `why` prints about a case, one sentence each.
fn why(case: &str, what: &str) -> Vec<String> {
    let output = run(&["why", what, logs(case).to_str().unwrap()], None);
    assert!(output.status.success(), "{case}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn why_json(case: &str, what: &str) -> Value {
    let output = run(&["why", what, "--json", logs(case).to_str().unwrap()], None);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn cases() -> Vec<String> {
    let entries = std::fs::read_dir(logs("")).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// For each case, parts of what is said, and parts (after `!`) of what is not.
const CAUSES: &[(&str, &[&str])] = &[
    (
        "arguments",
        &["5 of 6 calls of read_text_file on files failed: ENOENT", "the cause was the arguments", "!in all"],
    ),
    ("cancelled", &["query on db was cancelled: user pressed Esc; the cause was the client"]),
    ("cycle", &["The same 3 calls were made 4 times in the same order", "no progress"]),
    (
        "died",
        &[
            "db exited with 1 and left 1 request unanswered",
            "its last words: Error: connect ECONNREFUSED 127.0.0.1:5432.",
            "!before it was ready",
            "!failed:",
        ],
    ),
    ("died-in-start", &["db exited with 1 before it was ready", "its last words: KeyError: 'DATABASE_URL'."]),
    ("loop", &["list_directory on files was called 12 times with the same arguments", "no progress"]),
    (
        "loop-with-progress",
        &["was called 12 times with the same arguments, and the results differed", "!no progress"],
    ),
    ("nested", &["read_text_file on files failed: EISDIR", "!of 2 calls"]),
    ("not-started", &["ghost did not start: `ghost-mcp` was not found in PATH.", "!before it was ready"]),
    ("person", &["8.00 s waiting for a person", "300 ms in tools", "!Nothing stood out"]),
    ("refused", &["A person refused drop_table on db, which is not an error.", "!failed", "!the cause was"]),
    (
        "sequential-starts",
        &["3.81 s for the start of 5 servers one after another (the slowest, git: 1.56 s)", "!Nothing"],
    ),
    (
        "server-fault",
        &["All 3 calls of query on db failed: connect ECONNREFUSED", "the cause was the server"],
    ),
    ("silence", &["40.8 s in which nothing was asked", "!between turns", "!Nothing"]),
    (
        "slow-tool",
        &[
            "The slowest of 2 calls of search on files took 4.10 s, much more than usual",
            "its median is 295 ms, its p95 340 ms (21 calls in 30 days)",
        ],
    ),
    ("task-failed", &["export on db failed: disk full", "!2 ", "!tasks/result", "!in all"]),
    (
        "died-often",
        &[
            "db exited with 3, 5 times, and left 5 requests unanswered; its last words: worker 4104: fatal error.",
        ],
    ),
    (
        "many-messages",
        &[
            "All 6 calls of query on db failed, with 3 messages: boom alpha (2), boom beta (2), boom gamma (2); \
             10 calls failed in all.",
            "3 of 4 calls of load on db failed, with 2 messages: ENOENT: no such file or directory (2, the cause was \
             the arguments), rate limit reached (1, the cause was the server).",
            "db exited with 0 by itself and left 1 request unanswered; its last words: bye.",
            "!of 6 calls",
        ],
    ),
    (
        "model-silent",
        &[
            "draft on db timed out; the cause was the client; 2 requests failed in all, 1 of them",
            "!a person",
        ],
    ),
    (
        "questions",
        &[
            "3.08 s waiting for a person, 1.12 s in tools (draft on db: 1.00 s in 1 call)",
            "A person or a policy refused drop_table on db, which is not an error.",
            "A person declined a question of db, which is not an error.",
        ],
    ),
    ("timed-out", &["query on db timed out", "the cause was the server", "30.0 s in tools"]),
];

/// The same for sessions in which nothing is wrong.
const HEALTHY: &[(&str, &[&str])] = &[
    ("healthy", &["1.80 s in tools (search on files: 1.80 s in 6 calls)"]),
    // Ten calls of two seconds at the same time are two seconds.
    ("overlapping", &["2.01 s in tools (search on files: 2.01 s in 10 calls)"]),
    (
        "parallel-starts",
        &["1.56 s for the start of 5 servers (the slowest, git: 1.56 s)", "!one after another"],
    ),
    ("slow-tool-too-few", &["4.38 s in tools", "!usual"]),
    ("task-done", &["10.0 s in tools (export on db: 10.0 s in 1 call)"]),
    ("task-open", &["20.0 s in calls whose answer was not observed", "450 ms in tools", "!failed"]),
    ("turns", &["30 min 00 s between turns", "!nothing was asked"]),
];

fn check(case: &str, parts: &[&str]) -> String {
    let text = why(case, case).join("\n");
    for part in parts {
        match part.strip_prefix('!') {
            Some(part) => assert!(!text.contains(part), "{case}: {part} in\n{text}"),
            None => assert!(text.contains(part), "{case}: no {part} in\n{text}"),
        }
    }
    text
}

#[test]
fn the_cause_is_named() {
    for (case, parts) in CAUSES {
        let text = check(case, parts);
        assert!(!text.contains("Nothing stood out"), "{case}: {text}");
    }
    assert!(CAUSES.len() >= 12);
    let known = CAUSES.iter().chain(HEALTHY).map(|(case, _)| *case).chain(["hostile"]);
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    assert_eq!(known, cases(), "every case states its cause");
}

#[test]
fn of_a_healthy_session_nothing_stood_out_and_where_the_time_went() {
    for (case, parts) in HEALTHY {
        let text = check(case, parts);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[0], lines.len()), ("Nothing stood out.", 2), "{case}: {text}");
        assert_eq!(why_json(case, case)["nothing_stood_out"], true);
    }
}

#[test]
fn each_sentence_ends_with_a_handle_that_show_takes() {
    for case in cases().iter().filter(|case| *case != "hostile") {
        let story = why_json(case, case);
        let lines = why(case, case);
        let text = story.to_string();
        assert!(!text.contains(":-") && !text.contains(":null"), "{text}");
        let facts = story["facts"].as_array().unwrap();
        assert!(!facts.is_empty(), "{case}");
        for fact in facts {
            let handle = fact["handle"].as_str().unwrap();
            let shown = run(&["show", handle, logs(case).to_str().unwrap()], None);
            assert!(shown.status.success(), "{case}: {handle}");
            let sentence = fact["sentence"].as_str().unwrap();
            assert!(lines.contains(&format!("{sentence}  {handle}")), "{case}: {sentence}");
        }
    }
}

#[test]
fn several_deaths_are_counted_and_an_end_that_nobody_asked_for_is_called_so() {
    let said = |arguments: &[&str], case| {
        let (printed, said) = text(&run(&[arguments, &[logs(case).to_str().unwrap()]].concat(), None));
        assert!(said.is_empty(), "{said}");
        printed
    };
    let sessions = said(&["sessions"], "died-often");
    assert!(sessions.contains("  5x db exited with 3, "), "{sessions}");
    let session: Value = serde_json::from_str(&said(&["sessions", "--json"], "died-often")).unwrap();
    assert_eq!((&session["deaths"], &session["death_count"]), (&json!(["db exited with 3"]), &json!(5)));
    let gate = said(&["gate", "--no-deaths"], "many-messages");
    assert!(gate.contains("FAIL  no-deaths  1, limit 0 - db exited with 0 by itself\n"), "{gate}");
}

#[test]
fn failures_have_the_total_that_sessions_and_stats_have() {
    let facts = why_json("many-messages", "many-messages")["facts"].clone();
    let facts: Vec<&Value> =
        facts.as_array().unwrap().iter().filter(|fact| fact["fact"] == "failures").collect();
    let place = logs("many-messages");
    let (printed, _) = text(&run(&["sessions", "--json", place.to_str().unwrap()], None));
    let session: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&facts[0]["failed_calls"], facts.len()), (&session["errors"], 2));
    let (printed, _) = text(&run(&["stats", "--by", "error", place.to_str().unwrap()], None));
    let all = &facts[0]["all_failures"];
    assert!(printed.contains(&format!("{all} failures, ")), "{all}: {printed}");
    let messages = facts[0]["messages"].as_array().unwrap();
    let message = |message: &Value| (message["message"].clone(), message["count"].clone());
    assert_eq!(messages.iter().map(message).next(), Some((json!("boom alpha"), json!(2))));
    assert_eq!((&facts[0]["count"], &facts[0]["operations"]), (&json!(6), &json!(6)));
}

#[test]
fn a_call_is_explained_by_its_own_history_and_end() {
    let fact = |case: &str, kind: &str| {
        let facts = why_json(case, case)["facts"].clone();
        facts.as_array().unwrap().iter().find(|fact| fact["fact"] == kind).unwrap().clone()
    };
    let handle = |case, kind| fact(case, kind)["handle"].as_str().unwrap().to_owned();
    let slow = why("slow-tool", &handle("slow-tool", "unusual"));
    assert!(
        slow[0].starts_with("search on files took 4.10 s; much more than usual: its median is"),
        "{slow:?}"
    );
    let usual = fact("slow-tool", "unusual")["usual"].clone();
    assert_eq!(usual["calls"], 21, "{usual}");
    let died = why("died", &handle("died", "end"));
    assert!(died[1].contains("exited with 1"), "{died:?}");
    let looped = why("loop", &handle("loop", "repeats")).join("\n");
    assert!(
        looped.contains("12 times with the same arguments") && looped.contains("no progress"),
        "{looped}"
    );
    let last = why("person", "-1");
    assert!(last[0].contains("8.00 s of it waiting for the host"), "{last:?}");
    let sampled = why("questions", "-3");
    assert!(sampled[1].contains("draft on db took 1.00 s, 980 ms of it waiting for the host"), "{sampled:?}");
    let beside = why("overlapping", "-1").join("\n");
    assert!(beside.contains("9 other calls of the server were open when it began"), "{beside}");
}

#[test]
fn hostile_names_and_messages_stay_texts_in_every_sentence() {
    for columns in [None, Some("80"), Some("40")] {
        for what in ["hostile", "-1", "-2", "-4"] {
            let output = run(&["why", what, logs("hostile").to_str().unwrap()], columns);
            let text = String::from_utf8(output.stdout).unwrap();
            let is_raw = |c: char| c != '\n' && (c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c));
            assert!(!text.contains(is_raw), "{text:?}");
            assert!(output.status.success() && !text.is_empty(), "{what}");
            if let Some(columns) = columns.filter(|_| what == "hostile") {
                let columns: usize = columns.parse().unwrap();
                // An escaped character makes one long word, which is not broken.
                let words_fit = |line: &&str| line.chars().count() <= columns || !line.trim().contains(' ');
                assert!(text.lines().all(|line| words_fit(&line)), "{text}");
            }
        }
    }
    let lines = why("hostile", "hostile");
    assert_eq!(lines.len(), 5, "{lines:#?}");
    let all = why_json("hostile", "hostile")["facts"].as_array().unwrap().len();
    assert!(all > 5, "{all}");
}

#[cfg(unix)]
#[test]
fn a_call_that_hangs_now_is_named_with_its_request_id() {
    let home = Home::new();
    let server = r#"read first; echo '{"jsonrpc":"2.0","id":1,"result":{}}'; cat > /dev/null"#;
    let mut command = home.command(SPANTAP);
    command.args(["--server", "db", "--", "bash", "-c", server]);
    let mut session = Session::start(command);
    session.request("initialize", json!({}));
    let call = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "query"}});
    session.send(&call);
    let said = || {
        let output = home.spantap(["why"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    wait_until("the open call is named", || said().contains("query on db has been open for "));
    let said = said();
    assert!(said.contains("It has taken ") && said.contains(" so far: "), "{said}");
    assert!(said.contains("request 7"), "{said}");
    session.end();
}

#[cfg(unix)]
#[test]
fn the_time_of_a_call_that_is_open_is_its_own_and_not_that_of_another_tool() {
    let home = Home::new();
    let server = |name: &str, answers: &[u64], tool: &str| {
        let mut script = String::new();
        for id in answers {
            script += &format!(r#"read line; echo '{{"jsonrpc":"2.0","id":{id},"result":{{}}}}'; "#);
        }
        let mut command = home.command(SPANTAP);
        command.args(["--server", name, "--session-id", "one", "--", "bash", "-c"]);
        command.arg(script + "cat > /dev/null");
        let mut session = Session::start(command);
        session.request("initialize", json!({}));
        let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": tool}});
        session.send(&call);
        session
    };
    let quick = server("mem", &[1, 2], "ok");
    let slow = server("files", &[1], "slow");
    let time = || {
        let output = home.spantap(["why", "--json"]).output().unwrap();
        let story: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let facts = story["facts"].as_array().cloned().unwrap_or_default();
        facts.into_iter().find(|fact| fact["fact"] == "time" && fact["is_open"] == true)
    };
    // The call of `ok` took less than this.
    wait_until("the open call is the longest", || {
        time().is_some_and(|time| time["longest_tool"]["tool_name"] == "slow")
    });
    let time = time().unwrap();
    let sentence = time["sentence"].as_str().unwrap();
    let is_named = sentence.contains(" in tools (");
    assert!(sentence.contains(" in tools") && !is_named, "the next sentence names the tool: {sentence}");
    let alone = home.spantap(["why", "--limit", "1"]).output().unwrap();
    let alone = String::from_utf8(alone.stdout).unwrap();
    assert!(alone.contains("(slow on files: ") && alone.contains(", still open)"), "{alone}");
    let longest = &time["longest_tool"];
    assert_eq!((&longest["handle"], &longest["still_open"]), (&json!("request 2"), &json!(1)));
    slow.end();
    quick.end();
}

#[test]
fn an_empty_word_is_not_searched_for() {
    for command in ["why", "show"] {
        let (printed, said) = text(&run(&[command, ""], None));
        assert!(
            printed.is_empty()
                && said.contains("'' for '[WHAT]': expected a word; leave it out for the last session"),
            "{said}"
        );
    }
}

#[test]
fn without_a_session_or_with_an_unknown_one_the_way_out_is_said() {
    let nothing = run(&["why"], None);
    assert!(nothing.status.success());
    assert!(String::from_utf8(nothing.stderr).unwrap().contains("hint: "));
    let unknown = run(&["why", "d76af1.99", logs("died").to_str().unwrap()], None);
    assert_eq!(unknown.status.code(), Some(1));
    let many =
        run(&["why", "e", logs("arguments").to_str().unwrap(), logs("person").to_str().unwrap()], None);
    assert_eq!(many.status.code(), Some(1));
}

/// Writes a case's log, as `change` returns it, into a new folder, and returns what `why` says about it.
fn why_changed(case: &str, options: &[&str], change: impl Fn(&str) -> String) -> String {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(logs(case)).unwrap().map(|entry| entry.unwrap()) {
        let text = change(&std::fs::read_to_string(entry.path()).unwrap());
        std::fs::write(dir.path().join(entry.file_name()), text).unwrap();
    }
    let output = run(&[&["why", case], options, &[dir.path().to_str().unwrap()]].concat(), None);
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_filter_or_a_missing_record_makes_no_statement_about_the_server_false() {
    let ready = "before it was ready";
    let lost = "left 1 request unanswered";
    let same = str::to_owned;
    for options in [
        &["--since", "2026-11-24T09:00:01Z"][..],
        &["--status", "error"],
        &["--status", "ok"],
        &["--method", "tools/*"],
        &["--min-duration", "250ms"],
    ] {
        let text = why_changed("died", options, same);
        assert!(!text.contains(ready), "{options:?}: {text}");
        assert!(text.contains(lost), "{options:?}: {text}");
    }
    let text = why_changed("died-in-start", &["--since", "2026-11-24T09:00:00.2Z"], same);
    assert!(text.contains(ready), "{text}");
    // The records that a pruned part or a loss takes may be the handshake.
    for seqs in [&["0", "1", "2"][..], &["1", "2"]] {
        let is_lost = |line: &&str| !seqs.iter().any(|seq| line.contains(&format!(r#""seq":{seq},"#)));
        let text = why_changed("died", &[], |log| {
            log.lines().filter(is_lost).fold(String::new(), |a, b| a + b + "\n")
        });
        assert!(text.contains("exited with 1") && !text.contains(ready), "{text}");
    }
    let all = why_changed("arguments", &[], same);
    assert!(all.contains("5 of 6 calls of read_text_file on files failed"), "{all}");
    let narrowed = why_changed("arguments", &["--status", "error"], same);
    assert!(narrowed.contains("5 calls of read_text_file on files failed: ENOENT"), "{narrowed}");
    // The time is that of the session: between two selected calls are others.
    let time =
        |text: &str, begin: &str| text.lines().find_map(|line| line.strip_prefix(begin)).map(str::to_owned);
    assert_eq!(time(&narrowed, "The whole session took "), time(&all, "It took "), "{narrowed}");
    assert!(time(&all, "It took ").is_some(), "{all}");
}

#[test]
fn words_that_prove_nothing_name_no_cause() {
    let known = "ENOENT: no such file or directory";
    assert!(why_changed("arguments", &[], str::to_owned).contains(known));
    for message in [
        "spawn git ENOENT",
        "bash: line 1: rg: command not found",
        "sh: 1: rg: not found",
        "API key not found",
        "You must be authenticated",
        "Docker must be running",
        "Authentication is required",
        "Module 'x' does not exist",
    ] {
        let text = why_changed("arguments", &[], |log| log.replace(known, message));
        assert!(text.contains(message) && !text.contains("the cause was"), "{text}");
    }
    let text = why_changed("arguments", &[], |log| log.replace(known, "must be a string"));
    assert!(text.contains("the cause was the arguments"), "{text}");
}
