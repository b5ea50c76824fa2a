//! The whole program at its highest verbosity, with secrets of every class in every place. All its output is
//! searched: logs, state folder, OTLP, stderr, and the output of every reading command.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use aho_corasick::AhoCorasick;
use serde_json::{Value, json};
use spantap::observe::redact::rules;
use spantap::relay::chunk::Stream;

use crate::leaks::{NAMED, forms, planted};
use crate::support::*;

mod names;

/// Starts a collector that keeps every request.
fn collector() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let got: Arc<Mutex<Vec<u8>>> = Arc::default();
    let remembered = Arc::clone(&got);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let remembered = Arc::clone(&remembered);
            std::thread::spawn(move || {
                let mut writer = stream.try_clone().unwrap();
                let mut reader = BufReader::new(stream);
                loop {
                    let mut length = 0;
                    let mut line = String::new();
                    while reader.read_line(&mut line).is_ok_and(|read| read > 0) && line != "\r\n" {
                        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap();
                        }
                        line.clear();
                    }
                    let mut body = vec![0; length];
                    if length == 0 || reader.read_exact(&mut body).is_err() {
                        return;
                    }
                    remembered.lock().unwrap().extend_from_slice(&body);
                    if writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
                        return;
                    }
                }
            });
        }
    });
    (endpoint, got)
}

/// A server that writes its script for stderr at once, and then the next part of its answers for every line
/// that it reads.
const SERVER: &str = r#"
cat last-words >&2
while IFS= read -r request; do
    while IFS= read -r answer <&3 && [ "$answer" != . ]; do printf '%s\n' "$answer"; done
done 3< answers
exit 3
"#;

/// The planted texts, and the parts of them that must not appear.
fn secrets() -> Vec<(String, String)> {
    let vendor = rules().map(|rule| (rule.sample.to_owned(), rule.sample.to_owned()));
    let named = NAMED.map(|(before, secret)| {
        let hidden = secret.split("@db").next().unwrap();
        (format!("{before}{secret}"), hidden.to_owned())
    });
    let body = "MIIEXAMPLEexample0123456789EXAMPLEexample0123456789EXAMPLEexam";
    let key = (format!("-----BEGIN PRIVATE KEY-----\\n{body}\\n-----END PRIVATE KEY-----"), body.to_owned());
    let (head, claims) = ("eyJleGFtcGxlIjoxfQ", "eyJleGFtcGxlIjoyfQ");
    let jwt = (format!("{head}.{claims}.EXAMPLEexample0123456789"), "EXAMPLEexample0123456789".to_owned());
    vendor.chain(named).chain([key, jwt]).collect()
}

/// Finds secrets, whole in any encoding or in pieces.
struct Search {
    patterns: Vec<String>,
    automaton: AhoCorasick,
}

impl Search {
    fn new(hidden: &[String]) -> Search {
        let mut patterns: Vec<String> = hidden.iter().flat_map(|secret| forms(secret)).collect();
        for secret in hidden {
            let pieces = secret.as_bytes().windows(secret.len().min(14));
            patterns.extend(pieces.map(|piece| String::from_utf8(piece.to_owned()).unwrap()));
        }
        patterns.sort();
        patterns.dedup();
        let automaton = AhoCorasick::new(&patterns).unwrap();
        Search { patterns, automaton }
    }

    fn first(&self, text: &[u8]) -> Option<String> {
        let found = self.automaton.find(text)?;
        let around = &text[found.start().saturating_sub(200)..text.len().min(found.end() + 80)];
        let pattern = &self.patterns[found.pattern().as_usize()];
        Some(format!("{pattern} in …{}…", String::from_utf8_lossy(around)))
    }

    #[track_caller]
    fn assert_absent(&self, place: &str, text: &[u8]) {
        if let Some(found) = self.first(text) {
            panic!("{place}: {found}");
        }
    }
}

/// Renumbers the requests of a script, so that each id is used once.
fn renumbered(line: &str, offset: u64) -> String {
    match serde_json::from_str::<Value>(line) {
        Ok(mut message) => {
            if let Some(id) = message["id"].as_u64() {
                message["id"] = json!(id + offset);
            }
            message.to_string()
        }
        Err(_) => line.to_owned(),
    }
}

/// Writes the server's script into `home` and returns the host's input.
fn script(home: &Path, secrets: &[(String, String)]) -> String {
    let (mut host, mut answers, mut last_words) = (String::new(), String::new(), String::new());
    for (round, (text, _)) in secrets.iter().enumerate() {
        let mut is_first = true;
        for (stream, line) in planted(text) {
            let line = renumbered(&line, 100 * round as u64);
            match stream {
                Stream::Stdin => {
                    answers.push_str(if is_first && round == 0 { "" } else { ".\n" });
                    host.push_str(&line);
                    host.push('\n');
                    is_first = false;
                }
                Stream::Stdout => answers.push_str(&format!("{line}\n")),
                Stream::Stderr => last_words.push_str(&format!("{line}\n")),
            }
        }
    }
    answers.push_str(".\n");
    std::fs::write(home.join("answers"), answers).unwrap();
    std::fs::write(home.join("last-words"), last_words).unwrap();
    std::fs::write(home.join("server.sh"), SERVER).unwrap();
    host
}

/// Returns every file below `folder`: its path and its content.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
            }
        }
    }
    found
}

const TOKEN: &str = "ghp_EXAMPLEexample0123456789EXAMPLEexamp";

#[test]
fn no_secret_of_any_class_comes_out_of_anything() {
    let home = Home::new();
    let secrets = secrets();
    let hidden: Vec<String> = secrets.iter().map(|(_, hidden)| hidden.clone()).collect();
    let search = Search::new(&hidden);
    let host = script(home.path(), &secrets);
    let config = home.path().join(".config/spantap");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(
        config.join("config.toml"),
        format!("slow = '{TOKEN}'\n{TOKEN} = 1\nthis is {TOKEN}\nuser_id = 'u {TOKEN}'\n"),
    )
    .unwrap();
    let (endpoint, got) = collector();

    // The session.
    let server = format!("srv-{TOKEN}");
    let session = format!("sess {TOKEN}");
    let mut command =
        home.spantap(["--log-level", "debug", "-vvv", "--overload", "wait", "--otlp", &endpoint]);
    command.args(["--server", &server, "--session-id", &session, "--", "sh", "server.sh"]);
    for (text, hidden) in &secrets {
        command.args([text.as_str(), "--api-key", hidden]);
    }
    command
        .env("API_TOKEN", TOKEN)
        .env("OTEL_LOGS_EXPORTER", "otlp")
        .env("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization=Bearer {TOKEN}"))
        .env("OTEL_METRIC_EXPORT_INTERVAL", TOKEN);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        input.write_all(host.as_bytes()).unwrap();
        input
    });
    let mut stdout = child.stdout.take().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let answers = std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    let said = std::thread::spawn(move || {
        let mut said = String::new();
        stderr.read_to_string(&mut said).map(|_| said)
    });
    let input = writer.join().unwrap();
    // The observer has the lowest priority and must not lose anything, so the session ends only when
    // everything is recorded.
    let deadline = std::time::Instant::now() + 5 * LONG;
    let is_recorded = || {
        let logs = logs_in(&home.logs());
        let log = logs.iter().map(|log| std::fs::read(log).unwrap()).collect::<Vec<_>>().concat();
        ["mcp_tool_call", "mcp_notification", "server_stderr"].iter().all(|event| {
            let event = format!("\"event\":\"{event}\"");
            memchr::memmem::find_iter(&log, &event).count() >= 3 * secrets.len()
        })
    };
    while !is_recorded() {
        assert!(std::time::Instant::now() < deadline, "not all is recorded");
        // Each look reads the whole log, and takes the time from the observer.
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
    drop(input);
    assert_eq!(child.wait().unwrap().code(), Some(3));
    answers.join().unwrap().unwrap();
    let said = said.join().unwrap().unwrap();
    // The server's own stderr passes unchanged. The lines of spantap among it are searched. They may begin in
    // the middle of a line of the server.
    let lines = said.match_indices("spantap: ").map(|(at, _)| said[at..].lines().next().unwrap());
    let ours = lines.collect::<Vec<_>>().join("\n");
    search.assert_absent("stderr", ours.as_bytes());
    for warning in ["`slow` is not a duration", "unknown setting", "not valid TOML", "debug records are on"] {
        assert!(ours.contains(warning), "{warning}: {ours}");
    }

    // Files, and their names.
    let state = home.path().join(".local/state/spantap");
    let left = files(&state);
    // The file of tool definitions is written only if time is left at the end.
    for part in ["sessions/", "diagnostics/", "hash-key"] {
        assert!(left.iter().any(|(path, _)| path.contains(part)), "nothing in {part}");
    }
    for (path, bytes) in &left {
        search.assert_absent(path, bytes);
        search.assert_absent("a file's name", path.as_bytes());
    }
    let records = home.records();
    let text = records.iter().map(Value::to_string).collect::<String>();
    for event in ["mcp_tool_call", "mcp_request", "tool_result", "mcp_notification", "server_stderr"] {
        let seen = records.iter().filter(|record| record["event"] == event).count();
        assert!(seen >= secrets.len(), "{seen} of {event}");
    }
    let otlp = got.lock().unwrap().clone();
    search.assert_absent("otlp", &otlp);
    let otlp = String::from_utf8_lossy(&otlp).into_owned();
    const OTHERS: [&str; 14] = [
        "jwt",
        "private_key",
        "auth_header",
        "cookie",
        "url",
        "webhook",
        "key_value",
        "flag",
        "email",
        "card",
        "iban",
        "ssn",
        "phone",
        "national_id",
    ];
    for class in rules().map(|rule| rule.class).chain(OTHERS) {
        let placeholder = format!("[REDACTED:{class}]");
        assert!(text.contains(&placeholder), "{placeholder} in no record");
        assert!(otlp.contains(&placeholder), "{placeholder} in no payload");
    }

    // The commands that users run afterwards.
    let cursor = home.path().join(".cursor");
    std::fs::create_dir_all(&cursor).unwrap();
    let entry = json!({"mcpServers": {"x\u{1b}[2J": {
        "command": "npx", "args": ["-y", "srv", "--api-key", "q7Zr9EXAMPLEflag", TOKEN],
        "env": {"HARMLESS": "q7Zr2EXAMPLEpw"},
    }, &server: {"command": "cat"}}});
    std::fs::write(cursor.join("mcp.json"), format!("{entry}\n")).unwrap();
    let logs = home.logs();
    let folder = logs.to_str().unwrap();
    let log = logs_in(&logs)[0].to_str().unwrap().to_owned();
    let connection = records[0]["connection_id"].as_str().unwrap();
    let connection = &connection[connection.len() - 12..];
    let page = home.path().join("page.html");
    let (again, sent_again) = collector();
    let commands: &[&[&str]] = &[
        &["tail", "-n", "100000", folder],
        &["tail", "-n", "100000", "--json", folder],
        &["sessions", folder],
        &["sessions", "--json", folder],
        &["sessions", "--connections", folder],
        &["stats", folder],
        &["stats", "--json", folder],
        &["stats", "--by", "session", "--method", "*", folder],
        &["why", folder],
        &["why", "--json", folder],
        &["diff", connection, connection, folder],
        &["show", connection, folder],
        &["show", connection, "--json", folder],
        &["report", "--output", page.to_str().unwrap(), folder],
        &["export", "--otlp", &again, &log],
        &["doctor"],
        &["doctor", "--json"],
        &["status"],
        &["status", "--json"],
        &["wrap", "--dry-run"],
        &["wrap", "--dry-run", "--json"],
        &["redact", "--check", &log],
        &["check", "--", "sh", "-c", "cat last-words >&2; exit 1"],
        &["--", "/nowhere/ghp_EXAMPLEexample0123456789EXAMPLEexamp", "--password", "q7Zr2EXAMPLEpw"],
        &["check", "--", "/nowhere/ghp_EXAMPLEexample0123456789EXAMPLEexamp"],
        &["--api-key=q7Zr9EXAMPLEflag", "npx", "srv"],
        &["npx", "srv", "--password=q7Zr2EXAMPLEpw"],
        &["--log-level", "ghp_EXAMPLEexample0123456789EXAMPLEexamp", "--", "true"],
        &["export", "/nowhere/ghp_EXAMPLEexample0123456789EXAMPLEexamp"],
    ];
    for arguments in commands {
        let mut command = home.spantap(arguments.iter().copied());
        command.env("API_TOKEN", TOKEN).env("SPANTAP_SERVER", &server);
        let output = command.output().unwrap();
        let name = arguments.join(" ");
        for stream in [&output.stdout, &output.stderr] {
            search.assert_absent(&name, stream);
            let raw = String::from_utf8_lossy(stream);
            let harmful = raw.chars().find(|c| c.is_control() && *c != '\n');
            assert_eq!(harmful, None, "{name}: {raw:?}");
        }
        let expected = match arguments[0] {
            "tail" | "sessions" | "stats" | "show" | "report" | "redact" | "wrap" | "status" | "why" => {
                Some(0)
            }
            "export" if arguments.len() > 2 => Some(0),
            _ => output.status.code(),
        };
        assert_eq!(output.status.code(), expected, "{name}: {output:?}");
        assert!(!output.stdout.is_empty() || !output.stderr.is_empty() || arguments[0] == "report", "{name}");
    }
    search.assert_absent("the page", &std::fs::read(page).unwrap());
    let sent = sent_again.lock().unwrap().clone();
    assert!(sent.len() > 1000, "{} bytes exported", sent.len());
    search.assert_absent("export", &sent);
    for (path, bytes) in files(&state).iter().filter(|(path, _)| !path.contains("backups")) {
        search.assert_absent(path, bytes);
    }
}

/// The search finds what it looks for.
#[test]
fn the_search_finds_every_form_and_piece_of_a_secret() {
    let search = Search::new(&[TOKEN.to_owned()]);
    assert_eq!(search.first(b"nothing here, [REDACTED:github]"), None);
    for form in forms(TOKEN) {
        assert!(search.first(format!("x{form}y").as_bytes()).is_some(), "{form}");
    }
    for piece in [&TOKEN[..14], &TOKEN[13..27], &TOKEN[26..]] {
        assert!(search.first(piece.as_bytes()).is_some(), "{piece}");
    }
    if !can_run(&["base64", "--version"], "secrets in base64") {
        return;
    }
    for shift in 0..3 {
        let mut encoder =
            Command::new("base64").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let text = format!("{}{TOKEN} and more", "x".repeat(shift));
        encoder.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(search.first(&encoder.wait_with_output().unwrap().stdout).is_some(), "base64 at {shift}");
    }
}

/// Processes of one host start together and must use one key.
#[test]
fn servers_that_start_together_share_one_private_hash_key() {
    let home = Home::new();
    let mut children: Vec<_> = (0..8)
        .map(|n| {
            let script = format!("umask 0; exec {SPANTAP} --server s{n} -vv -- true");
            home.command("sh").args(["-c", &script]).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let records = home.records();
    let ids: std::collections::BTreeSet<&str> =
        records.iter().filter_map(|record| record["hash_key_id"].as_str()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let state = home.path().join(".local/state/spantap");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state.join("hash-key")), 0o600);
    assert_eq!(mode(&state.join("diagnostics")), 0o700);
    let names: Vec<_> = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with("hash-key.")), "{names:?}");
}

#[test]
fn a_hash_key_that_is_a_link_or_open_to_others_is_refused_with_a_word_and_left_alone() {
    for is_link in [true, false] {
        let home = Home::new();
        let state = home.path().join(".local/state/spantap");
        std::fs::create_dir_all(&state).unwrap();
        let (key, target) = (state.join("hash-key"), home.path().join("target"));
        if is_link {
            std::os::unix::fs::symlink(&target, &key).unwrap();
        } else {
            std::fs::write(&key, [7; 32]).unwrap();
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        }
        let output = home.spantap(["--", "true"]).output().unwrap();
        assert!(output.status.success());
        let said = text(&output).1;
        let reason = if is_link { "is a link" } else { "can be read or changed by others" };
        assert!(
            said.contains(reason) && said.contains("cannot be compared with those of other sessions"),
            "{said}"
        );
        assert!(!target.exists());
        let is_as_before = if is_link { key.is_symlink() } else { std::fs::read(&key).unwrap() == [7; 32] };
        assert!(is_as_before && key.symlink_metadata().unwrap().nlink() == 1);
    }
}

/// The hashes in a record can be calculated again from the messages.
#[test]
fn the_hashes_of_a_recorded_call_are_those_of_its_arguments_result_and_text() {
    let home = Home::new();
    let mut session = home.session(&[]);
    let arguments = json!({"query": "é ≠ e\u{301}", "limit": 3.0});
    session.send(&json!({"jsonrpc": "2.0", "id": 77, "method": "tools/call",
        "params": {"name": "search_issues", "arguments": arguments}}));
    let mut line = String::new();
    session.read_line(&mut line);
    assert!(session.end().0.success());
    let records = home.records();
    let call = records.iter().find(|record| record["event"] == "mcp_tool_call").unwrap();
    let hash = |what: &str, input: &str| {
        let mut command = home.spantap(["redact", "--hash", what]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let (said, hint) = text(&child.wait_with_output().unwrap());
        (said.trim().to_owned(), hint)
    };
    // As a user would type it: other order, other spelling, a newline at the end.
    let (found, _) = hash("args", "{ \"limit\": 3,\n \"query\": \"\\u00e9 \\u2260 e\u{301}\" }\n");
    assert_eq!(found, call["args_hash"]);
    let raw = line.split_once("\"result\":").unwrap().1.trim_end();
    let result = raw.strip_suffix('}').unwrap();
    let answer: Value = serde_json::from_str(&line).unwrap();
    let result = if serde_json::from_str::<Value>(result).is_ok() {
        result.to_owned()
    } else {
        // The result is not the last member of the answer.
        answer["result"].to_string()
    };
    assert_eq!(hash("result", &format!("{result}\n")).0, call["result_hash"]);
    let seen = answer["result"]["content"][0]["text"].as_str().unwrap();
    let (found, hint) = hash("text", seen);
    assert_eq!(found, call["text_hash"]);
    assert_eq!(hint, "");
    // `echo` appends a newline, which may or may not be meant.
    let (other, hint) = hash("text", &format!("{seen}\n"));
    assert_ne!(other, found);
    assert_eq!(hint, format!("without the newline at the end: {found}\n"));
}

/// Debug for one server, from the config file, ends when its time is over.
#[test]
fn debug_for_a_time_says_when_it_is_over_and_holds_for_the_named_server_only() {
    let home = Home::new();
    let config = home.path().join("config.toml");
    std::fs::write(&config, "[server.noisy]\ndebug_for = '40ms'\n[server.loud]\nlog_level = 'debug'\n")
        .unwrap();
    let config = config.to_str().unwrap();
    let run = |server: &str| {
        let mut session = home.session(&["--server", server, "--config", config, "--log-dir", server]);
        session.calls(1);
        wait_until("the end of debug", || {
            let logs = logs_in(&home.path().join(server));
            let records: Vec<Value> = logs.iter().flat_map(|log| validate_torn_log(log)).collect();
            let has = |event: &str| records.iter().any(|record| record["event"] == event);
            has("mcp_tool_call") && (server != "noisy" || has("debug_ended"))
        });
        session.calls(1);
        let said = session.end().1;
        let records = validate_log(&logs_in(&home.path().join(server))[0]);
        (records.iter().filter(|record| record["event"] == "tool_result").count(), said, records)
    };
    let (summaries, said, _) = run("quiet");
    assert_eq!((summaries, said.as_str()), (0, ""));
    let (summaries, said, records) = run("noisy");
    assert!(summaries <= 1, "{summaries}: {said}");
    let ended = records.iter().position(|record| record["event"] == "debug_ended").unwrap();
    assert!(!records[ended..].iter().any(|record| record["event"] == "tool_result"), "{records:?}");
    let (summaries, said, records) = run("loud");
    assert_eq!(summaries, 2);
    assert!(
        said.contains("debug records are on until you turn them off") && said.contains("--debug-for"),
        "{said}"
    );
    for record in records.iter().filter(|record| record["event"] == "tool_result") {
        assert!(record["result_summary"].as_str().unwrap().split('…').next().unwrap().chars().count() <= 200);
        assert!(record["result_hash"].is_string());
    }
}

/// A configured redaction that cannot work shows no text instead of the secret.
#[test]
fn a_config_file_that_cannot_be_applied_closes_the_log_to_texts_and_is_named() {
    for (file, named) in [
        ("x = 1\n[redaction]\n\nmode = \"off\"\n", ":4: `redaction.mode` is not one of default, strict"),
        (
            "[redaction]\npii = ['email']\nsecrets = 'ghp_EXAMPLEexample0123456789EXAMPLEexamp'\n",
            ":3: `redaction.secrets` is not an entry",
        ),
        (
            "[redaction]\nextra_keys = ['a']\nallow_values = ['(']\n",
            ":3: cannot use redaction.allow_values[0]",
        ),
        ("[redaction]\nmode = strict\n", ":2: a line of this file cannot be read"),
        ("[redaction\nmode = 'strict'\n", ":1: a line of this file cannot be read"),
        ("[server.s.redaction]\nplaceholder = ''\n", ":2: cannot use redaction.placeholder"),
    ] {
        let home = Home::new();
        let config = home.path().join("config.toml");
        std::fs::write(&config, file).unwrap();
        let config = config.to_str().unwrap();
        let options = ["--server", "s", "--config", config];
        std::fs::write(home.path().join("words"), "harmless words\n").unwrap();
        let server = ["--", "sh", "-c", "cat words >&2; exit 1"];
        let output = home.spantap(options.into_iter().chain(server)).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output).1;
        assert!(said.contains(named) && !said.contains("EXAMPLE"), "{file}: {said}");
        let log = std::fs::read_to_string(&logs_in(&home.logs())[0]).unwrap();
        assert!(log.contains("session_ended") && !log.contains("harmless words"), "{file}: {log}");
        let strict = home.spantap(options.into_iter().chain(["--strict", "--", "true"])).output().unwrap();
        assert_eq!(strict.status.code(), Some(125), "{file}");
        let said = text(&strict).1;
        assert!(said.contains("error: ") && !said.contains("EXAMPLE"), "{file}: {said}");
    }
}

/// A field that is exempted from redaction is reported at every start, and by `doctor`.
#[test]
fn a_revealed_field_is_said_aloud_and_holds_only_what_it_names() {
    let home = Home::new();
    let config = home.path().join(".config/spantap");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("config.toml"), "[redaction]\nreveal_fields = ['server_stderr']\npii = []\n")
        .unwrap();
    let server = format!("printf 'using {TOKEN}\\nanna@example.org\\n' >&2; exit 1");
    let output = home.spantap(["--", "sh", "-c", &server, "--password", "q7Zr2EXAMPLEpw"]).output().unwrap();
    let said = text(&output).1;
    for warning in ["server_stderr is recorded as it is, secrets included", "redaction.pii is empty"] {
        assert!(said.contains(warning), "{warning}: {said}");
        let doctor = home.spantap(["doctor"]).output().unwrap();
        assert!(text(&doctor).0.contains(warning), "{doctor:?}");
    }
    let log = std::fs::read_to_string(&logs_in(&home.logs())[0]).unwrap();
    let records = home.records();
    let last = records.last().unwrap().to_string();
    assert!(last.contains(TOKEN) && last.contains("anna@example.org"), "{last}");
    assert!(!log.contains("q7Zr2EXAMPLEpw") && log.matches(TOKEN).count() == 1, "{log}");
}
