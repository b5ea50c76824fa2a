//! What the reading commands print for the logs in `fixtures/logs`, character by character, and how
//! they behave where there is nothing, too much, or nobody who reads on.
//!
//! `UPDATE_FIXTURES=1 cargo test look` writes `fixtures/look` anew.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// spantap with an environment in which nothing depends on the machine.
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
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_owned()).unwrap()
}

fn run(arguments: &str) -> Output {
    spantap(arguments).output().unwrap()
}

/// Compares what `arguments` print with `fixtures/look/<name>.txt`.
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

#[test]
fn each_command_prints_what_it_printed_before() {
    let prices = [("SPANTAP_COST_USD_PER_MILLION_TOKENS", "3")];
    for width in ["80", "200"] {
        let columns = [("COLUMNS", width)];
        for (name, arguments) in [
            ("stats", "stats fixtures/logs"),
            ("stats-by-session", "stats --by session --sort errors fixtures/logs"),
            ("stats-requests", "stats --method * --server filesystem fixtures/logs"),
            ("sessions", "sessions fixtures/logs"),
            ("connections", "sessions --connections fixtures/logs"),
            ("tail", "tail -n 30 fixtures/logs"),
            ("tail-errors", "tail --status error fixtures/logs"),
            ("show-session", "show 01a2027b-6 fixtures/logs"),
            ("show-operation", "show 8f9a4cbd787f/7 fixtures/logs"),
        ] {
            golden(&format!("{name}-{width}"), arguments, &columns);
        }
    }
    golden("stats-cost", "stats --by server fixtures/logs", &prices);
    golden("show-session-ascii", "show 01a2027b-6 --tool create_* fixtures/logs", &[("LC_ALL", "C")]);
    golden("stats-colour", "stats --color always --server github fixtures/logs", &[]);
    golden("show-hostile", "show sess<b> fixtures/logs", &[]);
    golden("stats-json", "stats --by server --json fixtures/logs", &prices);
    golden("sessions-json", "sessions --json fixtures/logs", &[]);
    golden("thrashing", "sessions --thrashing 5 fixtures/logs", &[]);
}

#[test]
fn nothing_from_a_log_steers_the_terminal() {
    let commands = [
        "tail -n 1000 fixtures/logs",
        "tail -n 1000 --json fixtures/logs",
        "sessions fixtures/logs",
        "sessions --json fixtures/logs",
        "stats fixtures/logs",
        "stats --json fixtures/logs",
        "show sess<b> fixtures/logs",
        "show 423d60cdab8b/4 fixtures/logs",
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
            "stats fixtures/logs",
            "sessions fixtures/logs",
            "tail fixtures/logs",
            "show 01a2027b-6 fixtures/logs",
        ] {
            // ASCII, so that a byte is a column.
            let mut command = spantap(arguments);
            let output = command.env("COLUMNS", width.to_string()).env("LC_ALL", "C").output().unwrap();
            for line in text(&output.stdout).lines().filter(|line| line.is_ascii()) {
                assert!(line.len() <= width, "{arguments} at {width}: {line}");
            }
        }
    }
}

#[test]
fn an_operation_is_found_by_any_of_its_ids() {
    let line = run("show 8f9a4cbd787f/7 --json fixtures/logs");
    let record: serde_json::Value = serde_json::from_slice(&line.stdout).unwrap();
    for field in ["span_id", "args_hash"] {
        let id = record[field].as_str().unwrap();
        let found = text(&run(&format!("show {id} --json fixtures/logs")).stdout);
        assert!(found.contains(record["span_id"].as_str().unwrap()), "{field} {id}: {found}");
    }
    let hash = record["args_hash"].as_str().unwrap().trim_start_matches("hmac-sha256:");
    let found = text(&run(&format!("show {} fixtures/logs", &hash[..12])).stdout);
    assert!(found.starts_with("2 operations match"), "the same arguments twice: {found}");
}

#[test]
fn where_there_is_nothing_the_way_to_something_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().display();
    for (arguments, status) in [
        (format!("tail --log-dir {empty}"), 0),
        (format!("stats --log-dir {empty}"), 0),
        (format!("sessions --log-dir {empty}/not-yet"), 0),
        (format!("show --log-dir {empty}"), 1),
        (format!("report --log-dir {empty} -o {empty}/page.html"), 1),
        ("show nobody fixtures/logs".to_owned(), 1),
        ("stats /nonexistent.jsonl".to_owned(), 1),
        ("stats --since soon".to_owned(), 2),
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
fn a_foreign_file_is_named_and_the_rest_is_read() {
    let output = run("stats fixtures/logs");
    assert_eq!(text(&output.stderr), "note: not a session log of spantap: fixtures/logs/other-tool.jsonl\n");
}

#[test]
fn standard_input_is_read_like_a_file() {
    let file = PathBuf::from(root()).join("fixtures/logs/github-2026-11-22-8f9a4cbd787f.jsonl");
    let output = spantap("stats --json -").stdin(std::fs::File::open(&file).unwrap()).output().unwrap();
    let from_file = run(&format!("stats --json {}", file.display()));
    assert!(!output.stdout.is_empty());
    assert_eq!(text(&output.stdout), text(&from_file.stdout));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = spantap("tail -n 1000 --json fixtures/logs fixtures/logs")
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
fn tail_follows_old_files_and_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let line = |tool: &str| {
        format!(
            "{{\"schema\":\"spantap/1\",\"timestamp\":\"2999-01-01T00:00:00.000000Z\",\"event\":\"mcp_tool_call\",\
             \"server_name\":\"s\",\"method\":\"tools/call\",\"tool_name\":\"{tool}\",\"status\":\"ok\"}}\n"
        )
    };
    let old = dir.path().join("old.jsonl");
    std::fs::write(&old, line("before")).unwrap();
    let mut child = spantap(&format!("tail -f --log-dir {}", dir.path().display()))
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
    assert!(wait_for("before"));
    let mut file = std::fs::OpenOptions::new().append(true).open(&old).unwrap();
    file.write_all(line("added").as_bytes()).unwrap();
    let added = wait_for("added");
    std::fs::write(dir.path().join("new.jsonl"), line("fresh")).unwrap();
    let fresh = wait_for("fresh");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(added && fresh, "added: {added}, fresh: {fresh}");
}

/// Every `$ spantap …` in `docs/looking.md` with what stands below it.
#[test]
fn the_document_shows_what_the_commands_print() {
    let path = root().join("docs/looking.md");
    let document = std::fs::read_to_string(&path).unwrap();
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
    assert!(examples >= 5);
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    assert!(
        written == document || std::env::var_os("UPDATE_FIXTURES").is_some(),
        "the document should say\n{written}"
    );
}
