//! The output of the reading commands, character by character. `fixtures/logs` was recorded from real
//! servers. `fixtures/made-logs` contains what real servers do not do on demand. Other tests have no input,
//! too much input, or a reader that closes the pipe.
//!
//! `UPDATE_FIXTURES=1 cargo test look` writes `fixtures/look` anew.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

mod ends;
#[cfg(unix)]
mod links;
mod outputs;
#[cfg(unix)]
mod pager;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns a command for spantap in an environment that does not depend on the machine.
fn spantap(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spantap"));
    command
        .args(arguments.split_whitespace())
        .current_dir(root())
        .env_clear()
        .env("HOME", "/nonexistent/home")
        .env("TZ", "UTC")
        .env("LC_ALL", "C.UTF-8")
        .env("COLUMNS", "80");
    if cfg!(windows) {
        for name in ["USERPROFILE", "APPDATA", "LOCALAPPDATA"] {
            command.env(name, r"C:\nonexistent\home");
        }
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_owned()).unwrap()
}

fn run(arguments: &str) -> Output {
    spantap(arguments).output().unwrap()
}

/// Compares the output of `arguments` with `fixtures/look/<name>.txt`.
fn golden(name: &str, arguments: &str, environment: &[(&str, &str)]) {
    let output = spantap(arguments).envs(environment.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", text(&output.stderr));
    let printed = text(&output.stdout);
    let path = root().join("fixtures/look").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &printed).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(printed == expected, "spantap {arguments}\nprints\n{printed}\ninstead of\n{expected}");
}

/// Returns the end of the id of the first connection to `server` in `fixtures/logs`, as `show` accepts it.
fn connection(server: &str) -> String {
    let names = std::fs::read_dir(root().join("fixtures/logs")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter(|name| name.starts_with(server) && name.ends_with(".jsonl")).collect();
    names.sort();
    let stem = names[0].trim_end_matches(".jsonl");
    stem[stem.len() - 12..].to_owned()
}

fn log_of_git() -> PathBuf {
    let logs = std::fs::read_dir(root().join("fixtures/logs")).unwrap().map(|entry| entry.unwrap().path());
    let is_git = |log: &PathBuf| log.file_name().unwrap().to_str().unwrap().starts_with("git-");
    logs.into_iter().find(is_git).unwrap()
}

/// Returns the records that `arguments` with `--json` print.
fn records(arguments: &str) -> Vec<serde_json::Value> {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments}: {}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the session of the agent that worked with three servers.
fn session() -> String {
    let sessions = records("sessions --json fixtures/logs");
    let agent = sessions.iter().find(|session| session["servers"].as_array().unwrap().len() == 3);
    agent.unwrap()["session_id"].as_str().unwrap().to_owned()
}

/// Returns the last call of `git_status`, whose text is kept beside the logs.
fn status_call() -> serde_json::Value {
    records("tail -n 1 --json --tool git_status fixtures/logs").remove(0)
}

#[test]
fn each_command_prints_what_it_printed_before() {
    let prices = [("SPANTAP_COST_USD_PER_MILLION_TOKENS", "3")];
    let session = session();
    let operation = format!("{}/{}", connection("git"), status_call()["seq"]);
    for width in ["80", "200"] {
        let columns = [("COLUMNS", width)];
        for (name, arguments) in [
            ("stats", "stats"),
            ("stats-by-session", "stats --by session --sort errors"),
            ("stats-by-error", "stats --by error"),
            ("stats-requests", "stats --method * --server filesystem"),
            ("sessions", "sessions"),
            ("connections", "sessions --connections"),
            ("tail", "tail -n 45"),
            ("tail-errors", "tail --status error"),
            ("show-session", &format!("show {session}")),
            ("show-operation", &format!("show {operation}")),
        ] {
            golden(&format!("{name}-{width}"), &format!("{arguments} fixtures/logs"), &columns);
        }
    }
    golden("stats-cost", "stats --by server fixtures/logs", &prices);
    // Consoles of Windows have all characters, whatever the locale is.
    if cfg!(unix) {
        let ascii = format!("show {session} --server everything fixtures/logs");
        golden("show-session-ascii", &ascii, &[("LC_ALL", "C")]);
    }
    golden("stats-colour", "stats --color always --server git fixtures/logs", &[]);
    golden("stats-json", "stats --by server --json fixtures/logs", &prices);
    golden("sessions-json", "sessions --json fixtures/logs", &[]);
    golden("thrashing", "sessions --thrashing 5 fixtures/logs", &[]);
}

#[test]
fn what_real_servers_do_not_do_on_demand_prints_as_before() {
    for (name, arguments) in [
        ("made-stats", "stats"),
        ("made-stats-by-hour", "stats --by hour"),
        ("made-sessions", "sessions"),
        ("made-tail", "tail -n 45"),
        ("made-show-session", "show 01a2027b-6"),
        ("made-show-lost", "show 01a2027b-a --status unknown"),
        ("made-show-denied", "show 8f9a4cbd787f/14"),
        ("made-show-hostile", "show sess<b>"),
    ] {
        golden(name, &format!("{arguments} fixtures/made-logs"), &[]);
    }
}

#[test]
fn nothing_from_a_log_steers_the_terminal() {
    let commands = [
        "tail -n 1000 fixtures/made-logs",
        "tail -n 1000 --json fixtures/made-logs",
        "sessions fixtures/made-logs",
        "sessions --json fixtures/made-logs",
        "stats fixtures/made-logs",
        "stats --json fixtures/made-logs",
        "show sess<b> fixtures/made-logs",
        "show 423d60cdab8b/4 fixtures/made-logs",
    ];
    for arguments in commands {
        let output = run(arguments);
        for stream in [text(&output.stdout), text(&output.stderr)] {
            let harmful = stream.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
            assert_eq!(harmful, None, "{arguments}: {stream:?}");
        }
    }
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in [40, 60, 80, 120] {
        for arguments in [
            "stats fixtures/made-logs",
            "sessions fixtures/made-logs",
            "tail fixtures/made-logs",
            "show 01a2027b-6 fixtures/made-logs",
        ] {
            // The text is ASCII, so a byte is a column.
            let mut command = spantap(arguments);
            let output = command.env("COLUMNS", width.to_string()).env("LC_ALL", "C").output().unwrap();
            // Users copy a command, so it is never cut.
            let is_command = |line: &&str| line.starts_with("spantap show ");
            let printed = text(&output.stdout);
            for line in printed.lines().filter(|line| line.is_ascii() && !is_command(line)) {
                assert!(line.len() <= width, "{arguments} at {width}: {line}");
            }
        }
    }
}

#[test]
fn an_operation_is_found_by_any_of_its_ids() {
    let record = status_call();
    let session = record["session_id"].as_str().unwrap();
    let hash = |field: &str| record[field].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    for (what, several) in [
        (format!("{session}/{}", record["seq"]), true), // one for each server of the session
        (format!("{}/{}", connection("git"), record["seq"]), false),
        (record["request_id"].to_string().trim_matches('"').to_owned(), true),
        (record["span_id"].as_str().unwrap().to_owned(), false),
        (record["trace_id"].as_str().unwrap().to_owned(), true),
        (record["call_id"].as_str().unwrap().to_owned(), false),
        (record["conversation_id"].as_str().unwrap().to_owned(), true),
        (record["result_hash"].as_str().unwrap().to_owned(), false),
        (hash("result_hash"), false),
        (hash("text_hash")[..12].to_owned(), false),
        (hash("args_hash"), true), // asked twice, and answered differently
    ] {
        let found = records(&format!("show {what} --json fixtures/logs"));
        assert!(found.contains(&record), "show {what}: {found:?}");
        assert_eq!(found.len() > 1, several, "show {what} finds {}", found.len());
        let listed = text(&run(&format!("show {what} fixtures/logs")).stdout);
        let (first, _) = listed.split_once('\n').unwrap();
        assert_eq!(first.contains(" operations match"), several, "show {what} says {first}");
    }
    let last = text(&run("show last fixtures/logs --server git").stdout);
    assert!(last.starts_with(session), "{last}");
}

#[test]
fn a_suggested_command_names_the_folder_again() {
    let suggested = |shown: &str| {
        let line = shown.lines().rev().find(|line| line.contains("spantap show ")).unwrap().trim();
        line.split(" shows the ").next().unwrap().to_owned()
    };
    for what in ["ed9219f5", "conv-7f3a"] {
        let shown = text(&run(&format!("show {what} --log-dir fixtures/logs")).stdout);
        let command = suggested(&shown);
        assert!(command.ends_with(" --log-dir fixtures/logs"), "{command}");
        let again = run(command.strip_prefix("spantap ").unwrap());
        assert!(text(&again.stdout).contains("what happened"), "{command}: {}", text(&again.stderr));
    }
    let dir = tempfile::tempdir().unwrap();
    let blank = dir.path().join("it's here");
    std::fs::create_dir(&blank).unwrap();
    for log in std::fs::read_dir(root().join("fixtures/logs")).unwrap().flatten() {
        std::fs::copy(log.path(), blank.join(log.file_name())).unwrap();
    }
    let output = spantap("show ed9219f5 --log-dir").arg(&blank).env("COLUMNS", "200").output().unwrap();
    let quoted = match cfg!(windows) {
        true => format!(" --log-dir \"{}\"", blank.display()),
        false => format!(" --log-dir '{}/it'\\''s here'", dir.path().display()),
    };
    let command = suggested(&text(&output.stdout));
    assert!(command.ends_with(&quoted), "{command}");
}

#[test]
fn the_chain_from_the_session_to_the_result_is_unbroken_and_its_end_can_be_checked() {
    let record = status_call();
    let span = record["span_id"].as_str().unwrap();
    let shown = text(&run(&format!("show {span} fixtures/logs")).stdout);
    for field in [
        "session_id",
        "host_name",
        "user_id",
        "conversation_id",
        "turn_id",
        "call_id",
        "connection_id",
        "request_id",
        "trace_id",
        "span_id",
        "parent_span_id",
        "args_hash",
        "result_hash",
        "text_hash",
    ] {
        let value = record[field].as_str().unwrap_or_else(|| panic!("{field} is recorded"));
        assert!(shown.contains(value), "{field} {value} stands in\n{shown}");
    }
    let size = record["result_size_bytes"].as_u64().unwrap();
    assert!(shown.contains(&format!("{size} B")), "{size} bytes");

    // The hash key of the recording, and the result that the server returned then.
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join(".local/state/spantap");
    std::fs::create_dir_all(&state).unwrap();
    let key = state.join("hash-key");
    std::fs::write(&key, [0x5a; 32]).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let hash = |suspected: &[u8]| {
        let mut child = spantap("redact --hash text")
            .env("HOME", home.path())
            .env("XDG_STATE_HOME", home.path().join(".local/state"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(suspected).unwrap();
        text(&child.wait_with_output().unwrap().stdout).trim().to_owned()
    };
    let mut returned = std::fs::read(root().join("fixtures/logs/git_status.txt")).unwrap();
    assert_eq!(hash(&returned), record["text_hash"].as_str().unwrap());
    returned.extend_from_slice(b" and 17 conflicts");
    let made_up = hash(&returned);
    assert!(made_up.starts_with("hmac-sha256-raw:") && made_up != record["text_hash"].as_str().unwrap());
    assert_eq!(
        run(&format!("show {made_up} fixtures/logs")).status.code(),
        Some(1),
        "the server did not return that"
    );
}

#[test]
fn where_there_is_nothing_the_way_to_something_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().display();
    for (arguments, status) in [
        (format!("tail --log-dir {empty}"), 0),
        (format!("stats --log-dir {empty}"), 0),
        (format!("sessions --log-dir {empty}/not-there"), 1),
        ("sessions".to_owned(), 0),
        (format!("show --log-dir {empty}"), 0),
        (format!("show {empty}"), 0),
        (format!("show last {empty}"), 0),
        (format!("show unknown {empty}"), 1),
        (format!("stats {empty}"), 0),
        (format!("report --log-dir {empty} -o {empty}/page.html"), 1),
        ("show unknown fixtures/made-logs".to_owned(), 1),
        ("stats /nonexistent.jsonl".to_owned(), 1),
        ("stats --since soon".to_owned(), 2),
        ("stats --since yesterday --until 2020-01-01".to_owned(), 2),
        ("stats --on soon".to_owned(), 2),
        ("report --json fixtures/logs".to_owned(), 2),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments}");
        assert!(output.stdout.is_empty(), "{arguments}");
        let said = text(&output.stderr);
        assert!(said.contains("hint: ") || arguments.contains("nonexistent"), "{arguments}: {said}");
    }
    assert!(!dir.path().join("page.html").exists());
}

#[test]
fn a_day_is_chosen_by_its_name() {
    let all = records("tail -n 1000 --json fixtures/logs");
    let mut days: Vec<&str> = all.iter().map(|record| &record["timestamp"].as_str().unwrap()[..10]).collect();
    days.dedup();
    for day in days {
        let on_it = records(&format!("tail -n 1000 --json --on {day} fixtures/logs"));
        let expected: Vec<_> =
            all.iter().filter(|record| record["timestamp"].as_str().unwrap().starts_with(day)).collect();
        assert!(on_it.iter().eq(expected), "{day}");
    }
    assert!(records("tail --json --on 2026-11-01 fixtures/logs").is_empty());
}

#[test]
fn what_was_asked_for_is_said_where_there_is_none_of_it() {
    let said = text(&run("stats --server g* --status error --min-duration 90s fixtures/logs").stderr);
    let expected =
        "no tool calls with --server g* --status error --min-duration 90000ms in fixtures/logs\nhint: ";
    assert!(said.starts_with(expected), "{said}");
    let said = text(&spantap("tail -").stdin(Stdio::null()).output().unwrap().stderr);
    assert!(said.starts_with("no operations in standard input\nhint: session logs are "), "{said}");
    let said = text(&run("show 1249b154d581 --json fixtures/logs").stderr);
    assert!(said.starts_with("note: this session has no operations"), "{said}");
}

#[test]
fn a_connection_is_shown_without_the_others_of_its_session() {
    let whole = records(&format!("show {} --json fixtures/logs", session()));
    let one = records(&format!("show {} --json fixtures/logs", connection("git")));
    let servers = |records: &[serde_json::Value]| {
        records
            .iter()
            .map(|record| record["server_name"].as_str().unwrap().to_owned())
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(servers(&whole).len(), 3);
    assert_eq!(servers(&one), ["git".to_owned()].into());
    assert!(!one.is_empty() && one.iter().all(|record| whole.contains(record)));
}

#[test]
fn a_foreign_file_is_named_and_the_rest_is_read() {
    let output = run("stats fixtures/made-logs");
    let file = Path::new("fixtures/made-logs").join("other-tool.jsonl");
    let note = format!("note: not a session log of spantap: {}\n", file.display());
    assert_eq!(text(&output.stderr), note);
}

#[test]
fn standard_input_is_read_like_a_file() {
    let file = PathBuf::from(root()).join("fixtures/made-logs/github-2026-11-22-8f9a4cbd787f.jsonl");
    let output = spantap("stats --json -").stdin(std::fs::File::open(&file).unwrap()).output().unwrap();
    let from_file = run(&format!("stats --json {}", file.display()));
    assert!(!output.stdout.is_empty());
    assert_eq!(text(&output.stdout), text(&from_file.stdout));
}

#[test]
fn packed_logs_say_the_same_as_plain_ones() {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(root().join("fixtures/logs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            let bytes = std::fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            let (name, packed) = if name.starts_with("git") {
                let level = ruzstd::encoding::CompressionLevel::Fastest;
                (format!("{name}.zst"), ruzstd::encoding::compress_to_vec(&bytes[..], level))
            } else {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(&bytes).unwrap();
                (format!("{name}.gz"), gzip.finish().unwrap())
            };
            std::fs::write(dir.path().join(name), packed).unwrap();
        }
    }
    // `gzip -k` keeps both files.
    let both = log_of_git();
    std::fs::copy(&both, dir.path().join(both.file_name().unwrap())).unwrap();
    for arguments in ["stats --json", "sessions --json", "tail --json -n 1000"] {
        let packed = text(&run(&format!("{arguments} {}", dir.path().display())).stdout);
        assert!(!packed.is_empty());
        assert_eq!(packed, text(&run(&format!("{arguments} fixtures/logs")).stdout), "{arguments}");
    }
}

#[test]
fn a_copy_counts_once_and_what_is_no_copy_counts() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of_git();
    let plain = dir.path().join(log.file_name().unwrap());
    std::fs::copy(&log, &plain).unwrap();
    let calls = |arguments: &str| {
        let rows = records(&format!("stats --json --by server {arguments}"));
        rows.iter().map(|row| row["calls"].as_u64().unwrap()).sum::<u64>()
    };
    let (dir_name, name) = (dir.path().display(), plain.display());
    let once = calls(&format!("{name}"));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&std::fs::read(&log).unwrap()).unwrap();
    std::fs::write(format!("{name}.gz"), gzip.finish().unwrap()).unwrap();
    for arguments in [format!("{dir_name}"), format!("{name}.gz {name}"), format!("{name} {dir_name} {name}")]
    {
        assert_eq!(calls(&arguments), once, "{arguments}");
    }
    std::fs::write(&plain, "").unwrap();
    assert_eq!(calls(&format!("{dir_name}")), once, "the packed files differ from the plain ones");
    // A check reads everything that exists.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"ghp_EXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLE1\n").unwrap();
    std::fs::write(format!("{name}.gz"), gzip.finish().unwrap()).unwrap();
    assert_eq!(run(&format!("redact --check {dir_name}")).status.code(), Some(1));
}

#[test]
fn colour_is_for_terminals_unless_somebody_says_otherwise() {
    for (arguments, environment, expected) in [
        ("stats", &[][..], false),
        ("stats --color always", &[], true),
        ("stats --color always", &[("NO_COLOR", "1"), ("TERM", "dumb")], true),
        ("stats", &[("CLICOLOR_FORCE", "1")], true),
        ("stats --color never", &[("CLICOLOR_FORCE", "1")], false),
        ("stats --json --color always", &[], false),
    ] {
        let mut command = spantap(&format!("{arguments} fixtures/logs"));
        let printed = text(&command.envs(environment.iter().copied()).output().unwrap().stdout);
        assert!(!printed.is_empty());
        assert_eq!(printed.contains('\u{1b}'), expected, "{arguments} with {environment:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = spantap("tail -n 1000 --json fixtures/made-logs fixtures/made-logs")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("error"), "{}", text(&output.stderr));
}

#[test]
fn tail_ends_with_its_reader_although_nothing_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = spantap(&format!("tail -f --log-dir {}", dir.path().display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn tail_follows_old_files_and_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let line = |tool: &str| {
        format!(
            "{{\"schema\":\"spantap/1\",\"timestamp\":\"2999-01-01T00:00:00.000000Z\",\"event\":\"mcp_tool_call\",\
             \"server_name\":\"s\",\"method\":\"tools/call\",\"tool_name\":\"{tool}\",\"status\":\"ok\"}}\n"
        )
    };
    // `tail` may be started before a log exists.
    let dir = dir.path().join("later");
    let old = dir.join("old.jsonl");
    let mut child = spantap(&format!("tail -f --log-dir {}", dir.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| send.send(line))
    });
    let wait_for = |word: &str| {
        while let Ok(line) = lines.recv_timeout(Duration::from_secs(60)) {
            if line.contains(word) {
                return true;
            }
        }
        false
    };
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(&old, line("before")).unwrap();
    assert!(wait_for("before"));
    let mut file = std::fs::OpenOptions::new().append(true).open(&old).unwrap();
    file.write_all(line("added").as_bytes()).unwrap();
    let added = wait_for("added");
    std::fs::write(dir.join("new.jsonl"), line("fresh")).unwrap();
    let fresh = wait_for("fresh");
    std::fs::write(dir.join("old.1.jsonl"), line("next_part")).unwrap();
    let next_part = wait_for("next_part");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(added && fresh && next_part, "added: {added}, fresh: {fresh}, next part: {next_part}");
}

/// Returns every `$ spantap …` in README and docs with the output below it.
#[test]
fn documents_show_what_the_commands_print() {
    for (document, least) in [("README.md", 1), ("docs/looking.md", 5)] {
        check_examples(&root().join(document), least);
    }
}

fn check_examples(path: &Path, least: usize) {
    let document = std::fs::read_to_string(path).unwrap();
    let mut written = String::new();
    let mut examples = 0;
    for (index, part) in document.split("```").enumerate() {
        if index > 0 {
            written.push_str("```");
        }
        match part.strip_prefix("console\n$ spantap ").and_then(|example| example.split_once('\n')) {
            Some((arguments, _)) => {
                examples += 1;
                let output = spantap(arguments).env("SPANTAP_LOG_DIR", "fixtures/logs").output().unwrap();
                assert!(output.status.success(), "{arguments}: {}", text(&output.stderr));
                written.push_str(&format!("console\n$ spantap {arguments}\n{}", text(&output.stdout)));
            }
            None => written.push_str(part),
        }
    }
    assert!(examples >= least, "{}", path.display());
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(path, &written).unwrap();
    }
    assert!(
        written == document || std::env::var_os("UPDATE_FIXTURES").is_some(),
        "the document should say\n{written}"
    );
}
