//! `doctor` finds what keeps spantap from working, suggests a fix, and shows no secret.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::*;

fn put(home: &Home, path: &str, text: &str) -> PathBuf {
    let path = home.path().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

/// Returns the exit status, and each finding as `verdict: what`, with its fix.
fn doctor(home: &Home, arguments: &str) -> (i32, Vec<(String, String)>) {
    let words = ["doctor", "--json"].into_iter().chain(arguments.split_whitespace());
    let output = home.spantap(words).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap().iter().map(|finding| {
        let text = |key: &str| finding[key].as_str().unwrap_or_default();
        (format!("{}: {}", text("verdict"), text("what")), text("fix").to_owned())
    });
    (output.status.code().unwrap(), findings.collect())
}

#[track_caller]
fn expect(home: &Home, status: i32, finding: &str, fix: &str) {
    let (code, findings) = doctor(home, "");
    assert_eq!(code, status, "{findings:#?}");
    let found = findings.iter().find(|(what, _)| what.starts_with(finding));
    let (_, said) = found.unwrap_or_else(|| panic!("no `{finding}` in {findings:#?}"));
    assert!(said.contains(fix), "{said}");
}

const SERVER: &str = r#"{"mcpServers":{"a":{"command":"cat","args":["-u"]}}}"#;

fn wrapped(home: &Home, options: &str) -> PathBuf {
    let path = put(home, ".cursor/mcp.json", SERVER);
    let words = "wrap -y --".split_whitespace().chain(options.split_whitespace());
    assert!(home.spantap(words).output().unwrap().status.success());
    path
}

#[test]
fn a_fresh_home_is_in_order_and_told_how_to_begin() {
    let home = Home::new();
    expect(&home, 0, "warn: no session has been recorded yet", "`spantap wrap`");
    expect(&home, 0, "ok: no config file at ~/.config/spantap/config.toml", "");
    expect(&home, 0, "ok: log folder ~/.local/state/spantap/sessions will be made", "");
    expect(&home, 0, "ok: no collector is configured", "");
}

#[test]
fn settings_are_shown_as_they_are_documented_and_as_they_can_be_written() {
    let home = Home::new();
    put(&home, ".config/spantap/config.toml", "[denied]\nwords = ['nope']\n");
    let words = ["doctor", "--json", "--otlp", "ftp://ada:pw@x/y", "--all"];
    let output = home.spantap(words).env("SPANTAP_SLOW", "1500ms").output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let settings = report["settings"].as_array().unwrap();
    let value = |name: &str| settings.iter().find(|row| row["setting"] == name).unwrap()["value"].clone();
    for (name, expected) in [
        ("denied.words", "nope"),
        ("session_id", "from the host"),
        ("server", "from the command"),
        ("result_limit", "that of the host"),
        ("collect.listen", "4318 and 4317"),
        ("user_id", "none"),
        ("otlp.endpoint", "ftp://x"),
        ("slow", "1.5s"),
        ("max_log_size", "64MiB"),
        ("max_session_size", "1GiB"),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }
}

#[test]
fn servers_that_are_not_watched_are_counted() {
    let home = Home::new();
    put(&home, ".cursor/mcp.json", SERVER);
    expect(&home, 0, "warn: none of your hosts' 1 local server is watched", "`spantap wrap`");
    wrapped(&home, "");
    expect(&home, 0, "ok: your hosts' servers: 1 watched, 0 not", "");
    let bad = r#"{"mcpServers":{"a":{"command":"npx -y foo"},"b":{"command":["x"]}}}"#;
    put(&home, ".claude.json", bad);
    expect(&home, 0, "ok: your hosts' servers: 1 watched, 2 not", "");
    std::fs::remove_file(home.path().join(".cursor/mcp.json")).unwrap();
    expect(&home, 0, "warn: none of your hosts' 2 local servers is watched", "`spantap status` says why");
}

#[test]
fn an_entry_whose_spantap_is_gone_is_a_failure() {
    let home = Home::new();
    let path = wrapped(&home, "");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(SPANTAP, "/gone/spantap")).unwrap();
    expect(
        &home,
        1,
        "fail: cursor server a is wrapped by `/gone/spantap`, which cannot be started",
        "`spantap wrap`",
    );
}

#[test]
fn an_entry_with_another_spantap_is_told_with_its_version() {
    let home = Home::new();
    let path = wrapped(&home, "");
    let old = put(&home, "old/spantap", "#!/bin/sh\necho 'spantap 0.0.1 (abc1234 2026-01-01)'\n");
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(SPANTAP, old.to_str().unwrap())).unwrap();
    expect(
        &home,
        0,
        "warn: cursor server a is wrapped by ~/old/spantap, which is spantap 0.0.1 (abc1234 2026-01-01)",
        "install one of them over the other",
    );
}

#[test]
fn an_entry_that_writes_its_log_elsewhere_is_told() {
    let home = Home::new();
    wrapped(&home, "--log-dir /tmp/elsewhere");
    expect(&home, 0, "warn: cursor server a writes its log to /tmp/elsewhere", "set `log_dir`");
    put(&home, ".config/spantap/config.toml", "log_dir = '/tmp/elsewhere'\n");
    let (_, findings) = doctor(&home, "");
    assert!(!findings.iter().any(|(what, _)| what.contains("writes its log to")), "{findings:#?}");
}

#[test]
fn a_log_folder_that_cannot_be_written_is_a_failure() {
    let home = Home::new();
    put(&home, "file", "in the way");
    put(&home, ".config/spantap/config.toml", "log_dir = '~/file/below'\n");
    expect(&home, 1, "fail: log folder ~/file/below cannot be made", "--log-dir");
}

#[test]
fn records_that_cannot_be_read_are_counted() {
    let home = Home::new();
    put(
        &home,
        ".local/state/spantap/sessions/a-2026-11-22-0123456789ab.jsonl",
        "nonsense\nnot json\n{\"half\":",
    );
    expect(
        &home,
        0,
        "warn: 2 records of ~/.local/state/spantap/sessions/a-2026-11-22",
        "readers pass over them",
    );
}

#[test]
fn a_collector_that_does_not_answer_is_a_failure_and_its_secrets_stay_unsaid() {
    let home = Home::new();
    // The port was bound and closed again, so nothing listens on it.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    put(
        &home,
        ".config/spantap/config.toml",
        &format!(
            "[otlp]\nendpoint = 'http://ann:s3cret@127.0.0.1:{port}/?key=s3cret'\nheaders = {{ authorization = 'Bearer s3cret' }}\n"
        ),
    );
    expect(&home, 1, &format!("fail: the collector at 127.0.0.1:{port} does not answer"), "spantap export");
    for arguments in [&["doctor"][..], &["doctor", "--json"]] {
        let (printed, said) = text(&home.spantap(arguments.iter().copied()).output().unwrap());
        assert!(!printed.contains("s3cret") && !said.contains("s3cret"), "{printed}");
        assert!(!printed.contains(home.path().to_str().unwrap()), "the home folder is ~: {printed}");
    }
}

#[test]
fn a_collector_is_asked_to_take_what_would_be_sent() {
    use crate::otlp::collector::{Collector, Manner};
    let home = Home::new();
    let good = Collector::start(Manner::Good);
    let address = good.endpoint.trim_start_matches("http://");
    let (code, findings) = doctor(&home, &format!("--otlp {}", good.endpoint));
    let takes = format!("ok: the collector at {address} takes traces, metrics");
    assert!(code == 0 && findings.iter().any(|(what, _)| *what == takes), "{findings:#?}");
    // All signals have one endpoint. Each is probed separately.
    let grpc = Collector::grpc(Manner::Good);
    let options = format!("--otlp {} --otlp-set protocol=grpc --otlp-set logs=true", grpc.endpoint);
    let (_, findings) = doctor(&home, &options);
    let all = |(what, _): &(String, String)| what.ends_with(" takes traces, metrics, logs");
    assert!(findings.iter().any(all), "{findings:#?}");
    let bad = Collector::start(Manner::Without("/v1/metrics"));
    let address = bad.endpoint.trim_start_matches("http://");
    // A wrapped server would send the same.
    wrapped(&home, &format!("--otlp {}", bad.endpoint));
    let refused =
        format!("fail: cursor server a: the collector at {address} does not take metrics: http_404");
    expect(&home, 1, &refused, "path of the endpoint");
    expect(&home, 1, "ok: cursor server a: the collector at", "");
}

#[test]
fn an_entry_that_names_what_is_not_there_or_writes_no_log_is_told() {
    let home = Home::new();
    wrapped(&home, "--config /nowhere.toml");
    expect(&home, 1, "fail: cursor server a names config file /nowhere.toml", "--config");
    wrapped(&home, "--no-log");
    expect(&home, 0, "warn: cursor server a writes no log", "--no-log");
}

#[test]
fn a_command_of_notify_that_cannot_start_is_reported_and_one_that_can_is_listed() {
    let home = Home::new();
    let script = put(&home, "tell.sh", "#!/bin/sh\n");
    for (value, finding, fix) in [
        (
            "'no-such-notifier.sh'",
            "warn: notify: `no-such-notifier.sh` is not in PATH (/usr/local/bin:",
            "full path",
        ),
        ("['~/gone.sh', 'x']", "warn: notify: `~/gone.sh` is not a file, so", "correct the path in `notify`"),
        ("'~/tell.sh'", "warn: notify: `~/tell.sh` is not executable, so", "chmod +x ~/tell.sh"),
    ] {
        put(&home, ".config/spantap/config.toml", &format!("notify = {value}\n"));
        expect(&home, 0, finding, fix);
    }
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o700)).unwrap();
    expect(&home, 0, "ok: notify: `~/tell.sh` can be started", "");
    let (printed, _) = text(&home.spantap(["doctor"]).output().unwrap());
    assert!(printed.contains("  notify  ~/tell.sh  (config file)\n"), "{printed}");
}

#[test]
fn what_hosts_strip_from_the_environment_is_named() {
    let home = Home::new();
    let mut command = home.spantap(["doctor"]);
    let output = command.env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3cret").output().unwrap();
    let (printed, _) = text(&output);
    assert!(printed.contains("stripped by most hosts: OTEL_EXPORTER_OTLP_HEADERS"), "{printed}");
    assert!(!printed.contains("s3cret"), "{printed}");
}

#[test]
fn a_program_that_a_project_names_is_not_started_and_its_collector_is_not_asked() {
    let home = Home::new();
    let program = put(&home, "bin/spantap", "#!/bin/sh\ntouch started\n");
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let collector = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    collector.set_nonblocking(true).unwrap();
    let options = format!("\"--otlp\", \"http://{}\"", collector.local_addr().unwrap());
    let entry = format!("{{\"command\": \"./bin/spantap\", \"args\": [{options}, \"--\", \"cat\"]}}");
    put(&home, ".mcp.json", &format!("{{\"mcpServers\": {{\"a\": {entry}}}}}"));
    expect(
        &home,
        0,
        "warn: claude-code server a is wrapped by ./bin/spantap, which is not this spantap",
        "spantap",
    );
    // The name alone may lead to any program on the PATH.
    put(&home, ".mcp.json", &format!("{{\"mcpServers\": {{\"a\": {}}}}}", entry.replace("./bin/", "")));
    let mut by_name = home.spantap(["doctor"]);
    let (printed, _) = text(&by_name.env("PATH", home.path().join("bin")).output().unwrap());
    assert!(printed.contains("is wrapped by spantap, which is not this spantap"), "{printed}");
    assert!(!home.path().join("started").exists());
    assert!(collector.accept().is_err());
}

#[test]
fn problems_come_first_and_a_fix_once_and_what_has_its_default_is_folded_away() {
    let home = Home::new();
    let path =
        put(&home, ".cursor/mcp.json", r#"{"mcpServers":{"a":{"command":"cat"},"b":{"command":"cat"}}}"#);
    let run = |words: &str| {
        let mut command = home.spantap(words.split_whitespace());
        text(&command.env("COLUMNS", "80").env("SPANTAP_SLOW", "9s").output().unwrap()).0
    };
    run("wrap -y");
    std::fs::write(&path, std::fs::read_to_string(&path).unwrap().replace(SPANTAP, "/gone/spantap")).unwrap();
    let shown = run("doctor");
    let verdicts: Vec<&str> = shown.lines().filter_map(|line| line.get(..4)).collect();
    let verdicts: Vec<&str> =
        verdicts.into_iter().filter(|word| ["ok  ", "warn", "fail"].contains(word)).collect();
    assert!(
        verdicts.is_sorted_by_key(|word| ["fail", "warn", "ok  "].iter().position(|known| known == word)),
        "{shown}"
    );
    assert!(shown.starts_with("2 failures, 2 warnings\nfail  cursor server a is wrapped by"), "{shown}");
    assert_eq!(shown.matches("`spantap wrap` names this spantap instead").count(), 1, "{shown}");
    // The servers are watched already, and `wrap` has written the folders of this shell.
    assert!(!shown.contains("puts spantap in front of your servers"), "{shown}");
    assert!(shown.contains("stripped by most hosts: SPANTAP_SLOW\n"), "{shown}");
    let settings = shown.split_once("Settings:\n").unwrap().1;
    assert!(settings.starts_with("  slow  9s  (SPANTAP_SLOW)\n"), "{settings}");
    assert!(settings.ends_with("with the default; `spantap doctor --all` lists them\n"), "{settings}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    assert!(run("doctor --all").contains("  overload "), "{shown}");
    assert!(run("doctor --color always").contains("\u{1b}[31mfail"));
}

/// An installed program has no folder `docs`.
#[test]
fn no_message_sends_a_user_to_a_file_of_the_documentation() {
    let sources = walk(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")));
    for (path, text) in sources.into_iter().filter(|(path, _)| !path.ends_with("tests.rs")) {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let lines: Vec<&str> =
            lines.filter(|line| line.contains("docs/") && !line.contains("include_str!")).collect();
        assert!(lines.is_empty(), "{}: {lines:?}", path.display());
    }
}

fn walk(folder: &std::path::Path) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| match path.is_dir() {
        true => walk(&path),
        false => std::fs::read_to_string(&path).map(|text| vec![(path, text)]).unwrap_or_default(),
    });
    files.collect()
}
