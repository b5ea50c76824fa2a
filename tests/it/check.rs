//! `check` starts its own server, and its exit status reports the result.

use std::os::unix::process::ExitStatusExt;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::support::*;

/// Runs `check` for a server in a shell.
fn check(options: &[&str], script: &str) -> Output {
    let patient: &[&str] = if options.contains(&"--timeout") { &[] } else { &["--timeout", "30s"] };
    let words = ["check"].iter().chain(patient).chain(options).copied();
    Home::new().spantap(words.chain(["--", "sh", "-c", script])).output().unwrap()
}

/// Returns the exit status and the object of `--json`.
fn report(options: &[&str], script: &str) -> (i32, Value) {
    let options: Vec<&str> = options.iter().copied().chain(["--json"]).collect();
    let output = check(&options, script);
    let (printed, said) = text(&output);
    assert_eq!(said, "", "{printed}");
    (output.status.code().unwrap(), serde_json::from_str(&printed).unwrap())
}

/// A server of the older revisions. It sends `$1` before its first answer, and a request of its own.
const LEGACY: &str = r#"
answer() { printf '{"jsonrpc":"2.0","id":%s,%s}\n' "$1" "$2"; }
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case $line in
    *'"initialize"'*)
      echo starting up
      answer "$id" '"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}' ;;
    *'"notifications/initialized"'*) echo '{"jsonrpc":"2.0","id":1,"method":"roots/list"}' ;;
    *'"ping"'*) answer "$id" '"result":{}' ;;
    *'"cursor":"2"'*) answer "$id" '"result":{"tools":[{"name":"c"}]}' ;;
    *'"tools/list"'*) answer "$id" '"result":{"tools":[{"name":"a"},{"name":"b"}],"nextCursor":"2"}' ;;
    *'"method"'*) answer "$id" '"error":{"code":-32601,"message":"x"}' ;;
    *) echo "answered: $line" >&2 ;;
  esac
done"#;

#[test]
fn no_time_at_all_is_no_time() {
    for option in ["--timeout", "--every"] {
        let output = Home::new().spantap(["check", option, "0s", "--", "true"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output).1);
    }
}

#[test]
fn a_server_of_the_older_revisions_is_greeted_and_measured() {
    let (status, report) = report(&[], LEGACY);
    assert_eq!(status, 0, "{report}");
    assert_eq!(
        (&report["ok"], &report["era"], &report["server"]),
        (&true.into(), &"legacy".into(), &"sh".into())
    );
    assert_eq!((&report["protocol"], &report["ping_method"]), (&"2025-11-25".into(), &"ping".into()));
    assert_eq!(report["tools"], 3, "all pages are counted");
    assert_eq!((&report["banner_lines"], &report["ended_by"]), (&1.into(), &"stdin_closed".into()));
    assert!(report["warnings"][0].as_str().unwrap().contains("not JSON-RPC"));
    for time in ["handshake_ms", "ping_ms", "tools_list_ms", "end_ms"] {
        assert!(report[time].as_f64().unwrap() > 0.0, "{time}");
    }
}

#[test]
fn definitions_are_measured_as_they_came() {
    let definition = r#"{ "name" : "a", "description": "\u00e9" }"#;
    let script = LEGACY.replacen(r#"{"name":"b"}"#, definition, 1);
    let (status, report) = report(&[], &script);
    let others = r#"{"name":"a"}{"name":"c"}"#.len();
    assert_eq!((status, &report["definitions_bytes"]), (0, &(definition.len() + others).into()), "{report}");
}

#[test]
fn a_server_of_the_newest_revision_is_never_asked_to_initialize() {
    let modern = r#"while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case $line in
    *'"server/discover"'*clientInfo*|*clientInfo*'"server/discover"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"supportedVersions":["2025-11-25","2026-07-28"],"capabilities":{"tools":{}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"new","version":"9"}}}}\n' "$id" ;;
    *'"tools/list"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"a"}]}}\n' "$id" ;;
    *) exit 7 ;;
  esac
done"#;
    for options in [&[][..], &["--era", "modern"]] {
        let (status, report) = report(options, modern);
        assert_eq!((status, &report["era"]), (0, &"modern".into()), "{report}");
        assert_eq!((&report["protocol"], &report["server"]), (&"2026-07-28".into(), &"new".into()));
        assert_eq!((&report["ping_method"], &report["tools"]), (&"server/discover".into(), &1.into()));
    }
    let (status, _) = report(&["--era", "legacy"], modern);
    assert_eq!(status, 1);
}

#[test]
fn a_server_that_does_not_survive_the_first_question_is_asked_the_old_way() {
    let fragile = format!("read -r line; case $line in *discover*) exit 1;; esac\nfirst=$line\n{LEGACY}");
    // The first line is checked and then returned to the stream.
    let fragile = fragile.replacen(
        "while read -r line; do",
        "while if [ \"$first\" ]; then line=$first; first=; else read -r line; fi; do",
        1,
    );
    let (status, report) = report(&[], &fragile);
    assert_eq!((status, &report["era"]), (0, &"legacy".into()), "{report}");
}

#[test]
fn a_server_that_leaves_the_first_question_unanswered_is_asked_the_old_way_too() {
    let silent = LEGACY.replacen("case $line in", "case $line in *discover*) ;;", 1);
    let output = check(&["--timeout", "10s", "--json"], &silent);
    assert!(output.status.success(), "{}", text(&output).0);
}

#[test]
fn each_way_of_not_working_has_a_status_and_a_word_of_its_own() {
    let refusing = r#"while read -r line; do id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p'); printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"x"}}\n' "$id"; done"#;
    for (script, timeout, status, word, says) in [
        ("echo no such database >&2; exit 3", "30s", 1, "died", "exit status 3"),
        ("kill -SEGV $$", "30s", 1, "died", "SIGSEGV (signal 11)"),
        ("exec cat", "30s", 5, "echo", "it sends back what it receives; it is not an MCP server"),
        ("exec >&-; read -r line; sleep 30", "30s", 1, "died", "still runs"),
        ("while read -r line; do :; done", "1s", 3, "no_answer", "no answer to initialize within 1s"),
        (refusing, "30s", 4, "protocol_error", "initialize with error -32602: x"),
        (
            "read -r line; printf '[%.0s' $(seq 200); printf ']%.0s' $(seq 200); echo; read -r line",
            "30s",
            4,
            "protocol_error",
            "nested more than 127 levels deep",
        ),
        (
            "read -r line; head -c 17000000 /dev/zero | tr '\\0' x; echo; read -r line",
            "30s",
            4,
            "protocol_error",
            "larger than 16 MiB",
        ),
        (
            "echo Listening on port 3000; while read -r line; do :; done",
            "1s",
            5,
            "banner",
            "Listening on port 3000",
        ),
    ] {
        let (code, report) = report(&["--timeout", timeout], script);
        assert_eq!((code, &report["error_type"]), (status, &word.into()), "{script}: {report}");
        assert!(report["error"].as_str().unwrap().contains(says), "{script}: {report}");
    }
    let home = Home::new();
    let plain = home.path().join("plain");
    std::fs::write(&plain, "x").unwrap();
    for (program, status, says) in
        [("/no/such/server", 127, "not found"), (plain.to_str().unwrap(), 126, "not executable")]
    {
        let output = home.spantap(["check", "--", program]).output().unwrap();
        assert_eq!(output.status.code(), Some(status));
        let (_, said) = text(&output);
        assert!(
            said.starts_with(&format!("error: failed to start server `{program}`: {says}\nhint: ")),
            "{said}"
        );
    }
    // The descriptor that the limit leaves must not be one that the tests have inherited.
    let limited = ["-c", "exec 3>&-; ulimit -Sn 4; exec \"$0\" check -- true", SPANTAP];
    let output = home.command("sh").args(limited).output().unwrap();
    let (_, said) = text(&output);
    assert_eq!(output.status.code(), Some(126));
    assert!(said.contains("no pipe can be made") && said.contains("hint: the system refused it"), "{said}");
}

/// Answers `ping` with an error that has free text, and the value of a variable.
const QUOTING: &str = r#"while read -r line; do id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case $line in
    *'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}\n' "$id" ;;
    *'"method"'*) [ -z "$id" ] || printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32603,"message":"no entry for %s here"}}\n' "$id" "$DOOR_TOKEN" ;;
  esac
done"#;

#[test]
fn the_message_of_an_error_is_quoted_without_the_secrets_of_the_entry_and_not_in_strict_mode() {
    for (mode, shown) in [("default", true), ("strict", false)] {
        let home = Home::new();
        let entry = json!({"mcpServers": {"quoting": {
            "command": "sh", "args": ["-c", QUOTING], "env": {"DOOR_TOKEN": "plainword"},
        }}});
        std::fs::write(home.path().join(".mcp.json"), entry.to_string()).unwrap();
        let config = home.path().join("config.toml");
        std::fs::write(&config, format!("[redaction]\nmode = \"{mode}\"\n")).unwrap();
        let mut command = home.spantap(["check", "quoting", "--project", "--json", "--timeout", "30s"]);
        command.env("SPANTAP_CONFIG", &config).current_dir(home.path());
        let (printed, said) = text(&command.output().unwrap());
        assert!(printed.contains("it answers ping with error -32603"), "{printed} {said}");
        assert_eq!(printed.contains("no entry for"), shown, "{mode}: {printed}");
        assert!(!printed.contains("plainword"), "{printed}");
    }
}

#[test]
fn the_last_words_of_a_server_are_shown_without_its_secrets() {
    let output =
        check(&[], "echo password=hunter2hunter2 >&2; seq 20 >&2; echo cannot open the database >&2; exit 1");
    let (_, said) = text(&output);
    assert!(said.contains("\n  stderr: cannot open the database\nhint: "), "{said}");
    assert!(!said.contains("stderr: 11\n"), "ten lines are enough: {said}");
    let output = check(&[], "echo password=hunter2hunter2 >&2; exit 1");
    let (_, said) = text(&output);
    assert!(said.contains("stderr: password=") && !said.contains("hunter2"), "{said}");
}

#[test]
fn a_server_that_ignores_the_end_of_its_input_is_ended_and_told() {
    let stubborn = format!("{LEGACY}\nexec sleep 600");
    let (status, report) = report(&[], &stubborn);
    assert_eq!((status, &report["ended_by"]), (0, &"sigterm".into()));
    assert!(report["warnings"].to_string().contains("did not end when its stdin was closed"), "{report}");
}

/// A server ignores the signals that it can. The probe starts it through a launcher, or it leaves its session, or both.
#[test]
fn however_a_probe_ends_its_launcher_and_its_server_are_gone() {
    let server = r#"sh -c 'trap "" INT TERM HUP; echo $$ > server; while :; do sleep 0.1; done'"#;
    let launched = format!("trap '' INT TERM HUP; {server}; true");
    let in_session = format!("trap '' INT TERM HUP; exec setsid {server}");
    let both = format!("trap '' INT TERM HUP; setsid {server}; true");
    let each_signal = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGKILL, 0];
    std::thread::scope(|scope| {
        for script in [&launched, &in_session, &both] {
            scope.spawn(|| expect_no_leftovers(script, &each_signal));
        }
    });
}

/// Ends a probe by each signal, or by its time limit for 0, and waits for the end of its server.
fn expect_no_leftovers(script: &str, signals: &[i32]) {
    let pid =
        |home: &Home| std::fs::read_to_string(home.path().join("server")).ok()?.trim().parse::<i32>().ok();
    for signal in signals.iter().copied() {
        let home = Home::new();
        let timeout = if signal == 0 { "1s" } else { "60s" };
        // A test runner in the background ignores SIGINT, and a child inherits that.
        let mut command = home.command("env");
        command.args([
            "--default-signal=INT,TERM,HUP",
            SPANTAP,
            "check",
            "--timeout",
            timeout,
            "--",
            "sh",
            "-c",
            script,
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut check = command.spawn().unwrap();
        wait_until("the server", || pid(&home).is_some());
        let server = pid(&home).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{server}/stat")).unwrap();
        let group: i32 = stat.rsplit(')').next().unwrap().split_whitespace().nth(2).unwrap().parse().unwrap();
        if signal != 0 {
            // SAFETY: the number is that of a child that has not been waited for.
            unsafe { libc::kill(check.id() as i32, signal) };
        }
        let status = check.wait().unwrap();
        match signal {
            0 => assert_eq!(status.code(), Some(3)),
            signal => assert_eq!(status.signal(), Some(signal)),
        }
        // SAFETY: signal 0 asks whether a process of the group exists.
        wait_until("the end of all", || unsafe { libc::kill(-group, 0) } == -1);
    }
}

#[test]
fn the_time_limit_holds_whatever_the_server_does() {
    for script in [
        // Messages without end.
        r#"yes '{"jsonrpc":"2.0","method":"notifications/message"}'"#,
        // Requests whose answers it does not read.
        r#"yes '{"jsonrpc":"2.0","id":"x","method":"ping"}'"#,
        // Answers to something else.
        r#"yes '{"jsonrpc":"2.0","id":99,"result":{}}'"#,
        // Lines that are no messages, after its stdin.
        "exec <&-; yes 'not a message'",
        "yes '' & yes 'not a message' >&2 & exec >&-; yes >&2",
        // A process that is out of reach holds its pipes.
        "trap '' TERM; setsid sh -c \"trap '' TERM; yes\"",
    ] {
        let home = Home::new();
        let words = ["-k", "1", "60", SPANTAP, "check", "--timeout", "1s", "--", "sh", "-c", script];
        let output = home.command("timeout").args(words).output().unwrap();
        let (_, said) = text(&output);
        assert!(matches!(output.status.code(), Some(1..=5)), "{script}: {}: {said}", output.status);
    }
}

#[test]
fn a_pulse_counts_failures_raises_one_alert_and_says_when_it_is_over() {
    let home = Home::new();
    // The server fails three times, then works.
    let script = format!("echo x >> runs; [ $(wc -l < runs) -gt 3 ] || exit 9\n{LEGACY}");
    let words =
        ["check", "--era", "legacy", "--every", "1ms", "--count", "5", "--alert-after", "2", "--json"];
    let output = home.spantap(words.into_iter().chain(["--", "sh", "-c", &script])).output().unwrap();
    let (printed, said) = text(&output);
    assert!(output.status.success(), "{said}");
    let lines: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line["ok"].as_bool().unwrap(),
                line["failures_in_a_row"].as_u64().unwrap(),
                line["alert"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [(false, 1, false), (false, 2, true), (false, 3, true), (true, 0, false), (true, 0, false)]
    );
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("spantap: alert: 2 failures in a row: the server ended"), "{said:?}");
    assert_eq!(said[1], "spantap: alert is over: works again after 3 failures");
}

#[test]
fn a_pulse_leaves_no_session_log_behind() {
    let home = Home::new();
    let output = home.spantap(["check", "--", "sh", "-c", LEGACY]).output().unwrap();
    assert!(output.status.success());
    assert!(text(&output).0.starts_with("ok  sh 1, protocol 2025-11-25\n    start and handshake  "));
    assert!(logs_in(&home.logs()).is_empty());
}

#[test]
fn the_statuses_of_a_probe_are_those_of_the_documentation() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md")).unwrap();
    for kind in spantap::check::FailureKind::ALL {
        let row = format!("| {} | `{}` |", kind.status(), kind);
        assert!(docs.contains(&row), "{row}");
    }
}

/// `check` shows ten lines. A key may begin before them.
#[test]
fn a_key_that_a_failing_server_prints_is_not_among_its_last_lines() {
    let home = Home::new();
    let body = "MIIEXAMPLEexample0123456789+/EXAMPLEexample0123456789EXAMPLEexam\n";
    let words = format!("-----BEGIN RSA PRIVATE KEY-----\n{}", body.repeat(30));
    std::fs::write(home.path().join("words"), words).unwrap();
    let output = home.spantap(["check", "--", "sh", "-c", "cat words >&2; exit 1"]).output().unwrap();
    let said = text(&output).1;
    assert!(said.contains("stderr: [REDACTED:private_key]") && !said.contains("MIIEXAMPLE"), "{said}");
}

/// The rest of a line that is too long begins within a token, where the redactor does not recognise it.
#[test]
fn no_half_token_is_shown_of_a_line_of_stderr_that_is_too_long() {
    let script = "head -c 16777200 /dev/zero | tr '\\0' x >&2; echo ' ghp_EXAMPLEexample0123456789EXAMPLEexamp' >&2; \
                  echo last >&2; exit 1";
    let (status, report) = report(&[], script);
    let shown = report["stderr"].to_string();
    assert!(status == 1 && shown.contains("last") && !shown.contains("0123456789"), "{status}: {shown}");
}
