//! The log of a session: one private file with a record for each call, whole at every kind of end.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::run::Run;
use crate::support::*;

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

/// Lets spantap take the time at its end that a busy machine needs.
fn unhurried(mut command: std::process::Command) -> std::process::Command {
    command.env(FLUSH_BUDGET.0, FLUSH_BUDGET.1);
    command
}

/// Checks that the numbers of the records begin at 0 and have no gap.
#[track_caller]
fn assert_whole(records: &[Value]) {
    let seqs: Vec<u64> = records.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    assert!(seqs.iter().copied().eq(0..records.len() as u64), "{seqs:?}");
}

#[test]
fn each_call_of_a_session_has_its_record_between_its_start_and_its_end() {
    let home = Home::new();
    let mut session = home.session(&["--user-id", "dana", "--session-id", "run-7"]);
    let client = json!({"name": "tester", "version": "1"});
    session.request(
        "initialize",
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}),
    );
    session.calls(3);
    let failed = session.request("tools/call", json!({"name": "create_issue", "arguments": {}}));
    assert_eq!(failed["result"]["isError"], true);
    let (status, said) = session.end();
    assert!(status.success());
    assert_eq!(said, "");

    let records = home.records();
    assert_whole(&records);
    assert_eq!(
        events(&records),
        [
            "session_started",
            "peer_identified",
            "mcp_request",
            "mcp_tool_call",
            "mcp_tool_call",
            "mcp_tool_call",
            "mcp_tool_call",
            "session_ended",
        ]
    );
    for record in &records {
        assert_eq!(record["session_id"], "run-7");
        assert_eq!(record["user_id"], "dana");
    }
    assert_eq!(records[0]["session_source"], "flag");
    assert_eq!(records[6]["host_name"], "tester");
    assert_eq!(records[6]["error_type"], "tool_error");
    assert_eq!(records[6]["level"], "warn");
    let (started, ended) = (&records[6]["started_at"], &records[6]["ended_at"]);
    assert!(started.as_str() < ended.as_str(), "{started} {ended}");
    let end = records.last().unwrap();
    assert_eq!(end["totals"]["tool_calls"], 4);
    assert_eq!(end["totals"]["errors"], 1);
    assert_eq!(end.get("dropped"), None);
}

#[test]
fn the_log_is_private_whatever_the_umask_which_the_server_sees_unchanged() {
    for umask in ["0000", "0022", "0377"] {
        let home = Home::new();
        // The folders above belong to the user.
        std::fs::create_dir_all(home.logs().parent().unwrap().parent().unwrap()).unwrap();
        let script = format!("umask {umask}; exec {SPANTAP} --log-dir logs -- sh -c umask");
        std::fs::DirBuilder::new().create(home.path().join("logs")).unwrap();
        let output = home.command("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(text(&output).0.trim(), umask);
        let [log] = &logs_in(&home.path().join("logs"))[..] else { panic!("{output:?}") };
        assert_eq!(mode(log), 0o600, "umask {umask}");
    }
}

/// Root, who runs the tests, could use a folder of any mode: the modes are compared.
#[test]
fn with_any_umask_the_next_session_can_use_what_the_first_has_made_and_other_programs_their_folders() {
    for (umask, of_parents) in [(0, 0o777), (0o022, 0o755), (0o077, 0o700), (0o177, 0o700), (0o777, 0o700)] {
        let home = Home::new();
        // The server lists a tool, so that it is remembered; with -v there is a diagnostics file.
        let server =
            r#"read -r line; echo '{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"}]}}'; cat"#;
        let script = format!("umask {umask:o}; exec {SPANTAP} run --server s -v -- sh -c \"$0\"");
        let mut command = home.command("sh");
        command.args(["-c", &script, server]);
        let mut host = Session::start(unhurried(command));
        host.request("tools/list", json!({}));
        let (status, said) = host.end();
        assert!(status.success() && !said.contains("warning"), "umask {umask:o}: {said}");
        let state = home.path().join(".local/state");
        for parent in [state.parent().unwrap(), &state] {
            assert_eq!(mode(parent), of_parents, "umask {umask:o}: {}", parent.display());
        }
        let mut waiting = vec![state.join("spantap")];
        let mut files = Vec::new();
        while let Some(folder) = waiting.pop() {
            assert_eq!(mode(&folder), 0o700, "umask {umask:o}: {}", folder.display());
            for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
                match entry.file_type().unwrap().is_dir() {
                    true => waiting.push(entry.path()),
                    false => files.push(entry.path()),
                }
            }
        }
        let ours = |name: &str| files.iter().filter(|file| file.to_str().unwrap().contains(name)).count();
        assert_eq!(["sessions/", "hash-key", "tools/", "diagnostics/"].map(ours), [1; 4], "{files:?}");
        for file in &files {
            assert_eq!(mode(file), 0o600, "umask {umask:o}: {}", file.display());
        }
    }
}

#[test]
fn a_record_is_in_the_file_while_the_session_goes_on() {
    let home = Home::new();
    let mut session = home.session(&[]);
    session.calls(1);
    wait_until("the call's record in the file", || {
        let logs = logs_in(&home.logs());
        logs.iter().flat_map(|log| validate_torn_log(log)).any(|record| record["event"] == "mcp_tool_call")
    });
    session.end();
}

#[test]
fn a_killed_proxy_leaves_whole_records_without_a_hole() {
    for calls in [0, 1, 7, 40] {
        let home = Home::new();
        let mut session = home.session(&[]);
        session.calls(calls);
        let written =
            || logs_in(&home.logs()).iter().flat_map(|log| validate_torn_log(log)).collect::<Vec<_>>();
        // Some of the records are written, the others may be on their way.
        wait_until("a beginning of the log", || written().len() > calls / 2);
        session.child.kill().unwrap();
        session.child.wait().unwrap();
        let records = written();
        assert_whole(&records);
        assert!(records.len() > calls / 2);
    }
}

/// Returns the longest time that a recording thread has waited for a core, in nanoseconds. It is `u64::MAX`
/// if such a thread waits now, because that wait is not counted yet.
fn kept_waiting(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let waits = tasks.filter_map(|task| {
        let task = task.unwrap().path();
        let name = std::fs::read_to_string(task.join("comm")).ok()?;
        let stat = std::fs::read_to_string(task.join("schedstat")).ok()?;
        let state = std::fs::read_to_string(task.join("stat")).ok()?;
        let is_runnable = state.rsplit_once(')')?.1.trim_start().starts_with('R');
        let waited = if is_runnable { u64::MAX } else { stat.split(' ').nth(1)?.parse().ok()? };
        ["observer", "log"].contains(&name.trim()).then_some(waited)
    });
    waits.max().unwrap_or(0)
}

#[test]
fn every_record_older_than_a_second_survives_sigkill() {
    let mut fair_tries = 0;
    for number in 0..12_u64 {
        let home = Home::new();
        let mut session = home.session(&[]);
        session.calls(1);
        let life = Duration::from_millis(1_300 + number * 137 % 700);
        let start = Instant::now();
        let mut answered = vec![start];
        let mut waited = None;
        while start.elapsed() < life {
            // A flood fills whole writes. A trickle must be written although no record follows.
            if number % 2 == 1 {
                std::thread::sleep(Duration::from_millis(30));
            }
            session.calls(1);
            answered.push(Instant::now());
            if waited.is_none() && start.elapsed() + Duration::from_secs(1) >= life {
                waited = Some(kept_waiting(session.child.id()));
            }
        }
        let waited = match (waited, kept_waiting(session.child.id())) {
            (Some(before), now) if before != u64::MAX => now - before,
            _ => u64::MAX,
        };
        let killed = Instant::now();
        session.child.kill().unwrap();
        session.child.wait().unwrap();
        let records: Vec<Value> =
            logs_in(&home.logs()).iter().flat_map(|log| validate_torn_log(log)).collect();
        assert_whole(&records);
        // The recording threads have the lowest priority. On a machine without a free core the second does
        // not count.
        if waited > 300_000_000 {
            continue;
        }
        fair_tries += 1;
        let calls = events(&records).iter().filter(|event| **event == "mcp_tool_call").count();
        let old = answered.iter().filter(|at| killed - **at > Duration::from_secs(1)).count();
        assert!(calls >= old, "{calls} calls in the log, {old} are older than a second");
        if fair_tries == 4 {
            return;
        }
    }
    if fair_tries == 0 {
        skip("records older than a second: no try of 12 had a free core");
    }
}

#[test]
fn a_large_session_goes_on_in_parts_that_read_as_one() {
    let home = Home::new();
    let mut session = home.session(&["--max-log-size", "8k"]);
    session.calls(60);
    session.end();
    let logs = logs_in(&home.logs());
    assert!(logs.len() > 2, "{logs:?}");
    assert!(logs.iter().all(|log| log.metadata().unwrap().len() <= 8 << 10));
    let records = home.records();
    assert_whole(&records);
    assert_eq!(events(&records).iter().filter(|event| **event == "mcp_tool_call").count(), 60);
}

#[test]
fn no_log_means_no_file_and_a_log_dir_means_that_folder() {
    let home = Home::new();
    let mut session = home.session(&["--no-log"]);
    session.calls(1);
    session.end();
    assert!(!home.logs().exists());
    let mut session = home.session(&["--log-dir", "elsewhere"]);
    session.calls(1);
    session.end();
    assert!(!home.logs().exists());
    assert_eq!(logs_in(&home.path().join("elsewhere")).len(), 1);
}

#[test]
fn a_strict_session_has_one_file_too() {
    let home = Home::new();
    let mut session = home.session(&["--strict"]);
    session.calls(1);
    session.end();
    assert_eq!(logs_in(&home.logs()).len(), 1);
    assert_whole(&home.records());
}

#[test]
fn hundreds_of_sessions_share_a_folder_without_touching_each_other() {
    const SESSIONS: usize = 200;
    let home = Home::new();
    let mut sessions: Vec<Session> = (0..SESSIONS).map(|_| home.session(&[])).collect();
    sessions.iter_mut().for_each(|session| session.calls(1));
    // All end at the same time, as when a host is closed.
    let ends: Vec<_> =
        sessions.into_iter().map(|session| std::thread::spawn(move || session.end())).collect();
    for end in ends {
        let (status, said) = end.join().unwrap();
        assert!(status.success() && said.is_empty(), "{status}: {said}");
    }
    let logs = logs_in(&home.logs());
    assert_eq!(logs.len(), SESSIONS);
    let mut sessions = BTreeSet::new();
    for log in &logs {
        let records = validate_log(log);
        assert_whole(&records);
        assert_eq!(events(&records).last(), Some(&"session_ended"), "{}", log.display());
        sessions.insert(records[0]["session_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(sessions.len(), 1, "all were started by this process");
}

#[test]
fn a_server_that_cannot_be_started_is_in_the_log() {
    let home = Home::new();
    let output = home.spantap(["--", "no-such-program-anywhere"]).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    let records = home.records();
    assert_eq!(events(&records), ["session_started", "session_ended"]);
    assert_eq!(records[1]["reason"], "spawn_failed");
    assert_eq!(records[1]["level"], "error");
}

#[test]
fn debug_records_are_there_when_asked_for_and_as_the_schema_says() {
    let home = Home::new();
    let mut session = home.session(&["--log-level", "debug"]);
    session.calls(1);
    session.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    session.calls(1);
    let (_, said) = session.end();
    assert!(said.contains("debug records are on until you turn them off"), "{said}");
    let records = home.records();
    for event in ["tool_result", "mcp_notification"] {
        assert!(events(&records).contains(&event), "{event} in {:?}", events(&records));
    }
}

#[test]
fn the_start_says_in_which_folder_and_from_which_entry_unless_the_user_forbids_the_folder() {
    let started = |options: &[&str], forbidden: &str| {
        let run = Run::wrapping("true").options(options).env("SPANTAP_RECORD_CWD", forbidden);
        run.launched_by(&["sh", "-c", r#"mkdir -p "$HOME/garden" && cd "$HOME/garden" && exec "$@""#, "sh"])
            .expect_exit(0)
            .records()
            .remove(0)
    };
    let record = started(&["--origin", "cursor/user"], "true");
    assert_eq!((&record["cwd"], &record["origin"]), (&json!("~/garden"), &json!("cursor/user")));
    let record = started(&[], "false");
    assert_eq!((record.get("cwd"), record.get("origin")), (None, None));
}

#[test]
fn a_password_in_the_name_of_the_folder_is_not_recorded() {
    let enter =
        r#"mkdir -p "$HOME/password=hunter2hunter2" && cd "$HOME/password=hunter2hunter2" && exec "$@""#;
    let ended = Run::wrapping("true").launched_by(&["sh", "-c", enter, "sh"]).expect_exit(0);
    let cwd = ended.records()[0]["cwd"].clone();
    assert_eq!(cwd, "~/password=[REDACTED:key_value]");
}

#[test]
fn a_server_that_did_not_start_ends_with_the_reason() {
    let ended = Run::wrapping("no-such-program-here").expect_exit(127);
    assert_eq!(ended.session_ended()["error_message"], "`no-such-program-here` was not found");
    let home = Home::new();
    std::fs::write(home.path().join("data"), "").unwrap();
    let program = home.path().join("data").display().to_string();
    let ended = Run::wrapping(&program).home(&home).expect_exit(126);
    assert_eq!(ended.session_ended()["error_message"], format!("`{program}` cannot be executed"));
}

/// A server is known by its name, its command and its folder. A new hash key changes no tool.
#[test]
fn tools_are_compared_with_those_of_the_last_session_of_the_same_server_only() {
    let home = Home::new();
    let lists = |folder: &str, tools: &str, options: &[&str]| {
        std::fs::create_dir_all(home.path().join(folder)).unwrap();
        // The same command in each folder; what it lists is in a file of the folder, as in two projects.
        std::fs::write(home.path().join(folder).join("tools"), tools).unwrap();
        let server = r#"read -r line; printf '{"jsonrpc":"2.0","id":1,"result":{"tools":[%s]}}\n' "$(cat tools)"; cat"#;
        let logs = home.path().join("logs");
        let _ = std::fs::remove_dir_all(&logs);
        let mut command = home.spantap(["run", "--server", "github", "--log-dir", logs.to_str().unwrap()]);
        command.args(options).args(["--", "sh", "-c", server]).current_dir(home.path().join(folder));
        let mut host = Session::start(unhurried(command));
        host.request("tools/list", json!({}));
        assert!(host.end().0.success());
        let records = validate_log(&logs_in(&logs)[0]);
        let alarms = records.into_iter().filter(|record| record["event"] == "tools_changed");
        alarms.map(|alarm| alarm["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (xy, pq) = (r#"{"name":"x"},{"name":"y"}"#, r#"{"name":"p"},{"name":"q"}"#);
    let none = Vec::<String>::new();
    let key = home.logs().parent().unwrap().join("hash-key");
    let config = home.path().join("config.toml");
    std::fs::write(&config, "args_hash = 'sha256'").unwrap();
    assert_eq!(lists("one", xy, &[]), none);
    assert_eq!(lists("one", xy, &["--config", config.to_str().unwrap()]), none, "without a key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(lists("one", xy, &[]), none, "with a key that is refused");
    std::fs::remove_file(&key).unwrap();
    assert_eq!(lists("one", xy, &[]), none, "with a new key");
    assert_eq!(lists("two", pq, &[]), none, "another project");
    assert_eq!(lists("one", xy, &[]), none, "after the other project");
    let changed = lists("one", r#"{"name":"x","description":"new"},{"name":"y"}"#, &[]);
    assert_eq!(changed, ["description of x changed"]);
    assert_eq!(lists("two", r#"{"name":"p"}"#, &[]), ["q removed"]);
}

#[test]
fn spantap_behind_spantap_counts_each_call_once() {
    let home = Home::new();
    let run = Run::wrapping_sample().home(&home).unhurried();
    let mut session = run.launched_by(&[SPANTAP, "run", "--server", "outer", "--"]).start();
    session.calls(5);
    assert!(session.end().0.success());
    let all = home.path().join("all.jsonl");
    let logs: Vec<u8> = logs_in(&home.logs()).iter().flat_map(|log| std::fs::read(log).unwrap()).collect();
    std::fs::write(&all, logs).unwrap();
    let all = all.to_str().unwrap();
    let rows = |arguments: &[&str]| -> Vec<Value> {
        let output = home.spantap(arguments.iter().copied()).output().unwrap();
        let (rows, notes) = text(&output);
        assert_eq!(
            notes.contains("1 connection left out"),
            rows.lines().count() == 1,
            "{arguments:?}: {notes}"
        );
        rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect()
    };
    for files in [&[][..], &[all]] {
        let calls = rows(&[&["stats", "--json", "--by", "server"], files].concat());
        assert_eq!((&calls[0]["server_name"], &calls[0]["calls"]), (&json!("outer"), &json!(5)));
        let sessions = rows(&[&["sessions", "--json"], files].concat());
        assert_eq!(sessions[0]["calls"], 5);
        assert_eq!(rows(&[&["sessions", "--json", "--connections"], files].concat()).len(), 2);
    }
    // The inner connection counts where the outer one does not.
    let server =
        home.records().iter().find(|record| record["server_name"] != "outer").unwrap()["server_name"].clone();
    let output = home.spantap(["stats", "--json", "--server", server.as_str().unwrap()]).output().unwrap();
    assert!(text(&output).0.contains("\"calls\":5"));
}

#[test]
fn a_session_without_end_does_not_fill_the_disk_and_every_record_that_is_dropped_is_counted() {
    const LIMIT: u64 = 100_000;
    let mut requests = Vec::new();
    for id in 0..3000 {
        requests.extend(format!("{{\"id\":{id},\"method\":\"a\"}}\n").bytes());
    }
    let ended = Run::wrapping("cat")
        .env("SPANTAP_MAX_SESSION_SIZE", "100000")
        .unhurried()
        .send(requests)
        .end()
        .expect_echo();
    let size: u64 = logs_in(&ended.home.logs()).iter().map(|log| log.metadata().unwrap().len()).sum();
    // The gaps, one for each doubling, and the last record come after the limit.
    assert!(size > LIMIT * 9 / 10 && size < LIMIT + 20 * 1024, "{size}");
    let records = ended.records();
    let is_full = |record: &&Value| record["reason"] == "session_full";
    let lost: u64 = records.iter().filter(is_full).map(|gap| gap["records_lost"].as_u64().unwrap()).sum();
    let gaps = records.iter().filter(is_full).count();
    let last = records.last().unwrap();
    assert_eq!(last["event"], "session_ended");
    assert_eq!(last["seq"].as_u64().unwrap() + 1, (records.len() - gaps) as u64 + lost);
    assert!(ended.stderr.contains("has reached `max_session_size`"), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("{lost} at log (session_full)")), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 2, "{}", ended.stderr);
}

/// Runs a client of this name whose calls are answered with results of these sizes in bytes. Returns the limit that
/// each record says is exceeded.
fn limits(client: &str, sizes: [u64; 2], config: &str) -> Vec<Value> {
    let home = Home::new();
    std::fs::write(home.path().join("config.toml"), config).unwrap();
    let frame = json!({"content": [{"type": "text", "text": ""}]}).to_string().len() as u64;
    let [first, second] = sizes.map(|size| size - frame);
    let answer = r#"printf '{"jsonrpc":"2.0","id":%d,"result":{"content":[{"text":"%s","type":"text"}]}}\n'"#;
    let server = format!(
        r#"read -r line; echo '{{"jsonrpc":"2.0","id":1,"result":{{}}}}'
        id=2; for size in {first} {second}; do
            read -r line; {answer} $id "$(head -c $size /dev/zero | tr '\0' x)"; id=$((id+1))
        done"#
    );
    let config = home.path().join("config.toml").display().to_string();
    let run = Run::wrapping_script(&server).home(&home).options(&["--config", &config]).unhurried();
    let mut session = run.start();
    session.request("initialize", json!({"clientInfo": {"name": client, "version": "1"}}));
    for n in 0..2 {
        session.request("tools/call", json!({"name": "read", "arguments": {"n": n}}));
    }
    session.end();
    let calls = home.records().into_iter().filter(|record| record["event"] == "mcp_tool_call");
    calls.map(|call| call["result_over_limit"].clone()).collect()
}

#[test]
fn a_result_that_the_host_cuts_has_the_limit_of_the_host_or_of_the_setting() {
    let none = Value::Null;
    for (client, sizes, config, limit) in [
        ("claude-code", [100_000, 100_001], "", json!(25_000)),
        ("opencode", [51_200, 51_201], "", json!(12_800)),
        ("some-agent", [100_000, 100_001], "", none.clone()),
        ("some-agent", [4_000, 4_001], "result_limit = 1000", json!(1_000)),
        ("claude-code", [100_000, 120_000], "result_limit = 0", none.clone()),
    ] {
        assert_eq!(limits(client, sizes, config), [none.clone(), limit], "{client} {config}");
    }
}
