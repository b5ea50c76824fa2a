//! What every reading command makes of the same record in two places, of tasks that a later connection finished, and
//! of logs that cannot be read.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::otlp::collector::{Collector, Manner};
use crate::support::run::Run;
use crate::support::{Home, SPANTAP, logs_in, text};

fn spantap(home: &Home, arguments: &[&str]) -> Output {
    home.spantap(arguments.iter().copied()).output().unwrap()
}

/// Runs a session of `count` calls, and returns its log.
fn session(home: &Home, count: usize) -> String {
    let mut host = home.session(&["--server", "sample"]);
    host.calls(count);
    assert!(host.end().0.success());
    let log = logs_in(&home.logs()).into_iter().next_back().unwrap();
    fs::read_to_string(log).unwrap()
}

/// Adds other names and other forms of the same log.
fn copy(folder: &Path, log: &str) {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(log.as_bytes()).unwrap();
    let lines: Vec<&str> = log.lines().rev().collect();
    for (name, content) in [
        ("copy.jsonl", log.as_bytes()),
        ("packed.jsonl.gz", &packed.finish().unwrap()),
        ("other-2026-11-25-0123456789ab.jsonl", log.as_bytes()),
        ("half.jsonl", &log.as_bytes()[..log.len() / 2]),
        ("twice.jsonl", log.repeat(2).as_bytes()),
        ("z-backwards.jsonl", lines.join("\n").as_bytes()),
    ] {
        fs::write(folder.join(name), content).unwrap();
    }
}

#[test]
fn a_record_counts_once_whatever_files_it_is_in() {
    const COMMANDS: [&[&str]; 10] = [
        &["why", "last", "--json"],
        &["diff", "last", "last", "--json"],
        &["stats", "--json", "--by", "server"],
        &["stats", "--json", "--by", "hour"],
        &["stats", "--json", "--by", "error"],
        &["sessions", "--json"],
        &["sessions", "--json", "--connections"],
        &["tail", "--json", "-n", "1000"],
        &["show", "last", "--json"],
        &["show", "-2", "--json"],
    ];
    let home = Home::new();
    let log = session(&home, 5);
    let answers = || -> Vec<String> {
        let run = |command: &&[&str]| text(&spantap(&home, command)).0;
        COMMANDS.iter().map(run).collect()
    };
    let report = || text(&spantap(&home, &["report", "-o", "page.html"])).0;
    let operations = |report: &str| report.split(' ').find_map(|word| word.parse::<u64>().ok());
    let (before, page) = (answers(), report());
    copy(&home.logs(), &log);
    for ((command, before), after) in COMMANDS.iter().zip(&before).zip(answers()) {
        assert_eq!(*before, after, "{command:?}");
    }
    assert_eq!((operations(&report()), operations(&page)), (Some(5), Some(5)), "{page}");
    let said = text(&spantap(&home, &["stats"])).1;
    assert!(said.contains("the same record is in another file or place too"), "{said}");

    // A stream is read once.
    let mut child =
        home.spantap(["stats", "--json", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(log.repeat(3).as_bytes()).unwrap();
    let calls: Vec<Value> = text(&child.wait_with_output().unwrap())
        .0
        .lines()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect();
    assert_eq!(calls.iter().map(|row| row["calls"].as_u64().unwrap()).sum::<u64>(), 5);

    let collector = Collector::start(Manner::Good);
    let said = text(&spantap(&home, &["export", "--otlp", &collector.endpoint])).0;
    assert_eq!(said, format!("{} records of 1 connection sent\n", log.lines().count()));
    assert_eq!(collector.spans().len(), 6);
}

#[cfg(unix)]
#[test]
fn a_pipe_gives_the_same_answer_as_the_file_or_is_refused() {
    let home = Home::new();
    session(&home, 3);
    let log = logs_in(&home.logs()).pop().unwrap();
    for command in ["stats --json", "sessions --json", "tail --json", "report --output -"] {
        let of_file = home.spantap(command.split(' ')).arg(&log).output().unwrap();
        assert_eq!(of_file.status.code(), Some(0), "{command}: {}", text(&of_file).1);
        let script = format!(r#""$0" {command} <(cat "$1")"#);
        let of_pipe = home.command("bash").args(["-c", &script, SPANTAP]).arg(&log).output().unwrap();
        assert_eq!(of_pipe.status.code(), Some(0), "{command}: {}", text(&of_pipe).1);
        if command.ends_with("json") {
            assert_eq!(text(&of_pipe).0, text(&of_file).0, "{command}");
        }
    }
    let twice =
        home.command("bash").args(["-c", r#""$0" diff last <(cat "$1")"#, SPANTAP]).arg(&log).output();
    let said = text(&twice.unwrap()).1;
    assert!(said.contains("which /dev/fd/") && said.contains(" does not allow"), "{said}");
}

#[test]
fn a_copy_that_appears_is_nothing_new_for_tail() {
    let home = Home::new();
    let log = session(&home, 3);
    let mut tail = home.spantap(["tail", "-f", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines().map(Result::unwrap);
    (0..3).for_each(|_| drop(lines.next().unwrap()));
    fs::write(home.logs().join("copy.jsonl"), &log).unwrap();
    let id = home.records()[0]["connection_id"].as_str().unwrap().to_owned();
    let other = log.replace(&id, &format!("{}0123456789ab", &id[..24]));
    fs::write(home.logs().join("other.jsonl"), other).unwrap();
    let next: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    tail.kill().unwrap();
    tail.wait().unwrap();
    assert!(next["connection_id"].as_str().unwrap().ends_with("-0123456789ab"), "{next}");
}

/// Plays a connection with a server that gives these answers, one for each line of the client.
fn connection(home: &Home, requests: &[Value], answers: &[Value]) {
    let lines =
        |messages: &[Value]| messages.iter().map(|message| format!("{message}\n")).collect::<String>();
    let file = home.path().join("answers");
    fs::write(&file, lines(answers)).unwrap();
    let script = "while read -r line; do IFS= read -r answer <&3; [ -n \"$answer\" ] && printf '%s\\n' \"$answer\"; done 3<answers";
    let ended =
        Run::wrapping_script(script).home(home).options(&["--server", "jobs"]).send(lines(requests)).end();
    assert!(ended.expect_exit(0).records().len() >= 2);
}

fn call(id: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "build", "arguments": {}}})
}

fn handle(id: &str, task: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": {"task": {"taskId": task, "status": "working"}}})
}

fn task(method: &str, task: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": format!("{method} {task}"), "method": method, "params": {"taskId": task}})
}

#[cfg(unix)]
#[test]
fn a_task_that_a_later_connection_finished_is_the_outcome_of_its_call() {
    let home = Home::new();
    connection(&home, &[call("1"), call("2")], &[handle("1", "a"), handle("2", "b")]);
    let open = text(&spantap(&home, &["stats", "--json"])).0;
    assert!(open.contains("\"errors\":0") && open.contains("\"unknown\":2"), "{open}");
    let failed = json!({"isError": true, "content": [{"type": "text", "text": "disk full"}]});
    connection(
        &home,
        &[task("tasks/get", "a"), task("tasks/result", "a"), task("tasks/get", "c")],
        &[
            json!({"jsonrpc": "2.0", "id": "tasks/get a", "result": {"taskId": "a", "status": "completed"}}),
            json!({"jsonrpc": "2.0", "id": "tasks/result a", "result": failed}),
            json!({"jsonrpc": "2.0", "id": "tasks/get c", "result": {"taskId": "c", "status": "completed"}}),
        ],
    );
    let records = home.records();
    let calls = |rows: &str| -> Vec<Value> {
        let rows = rows.lines().map(|row| serde_json::from_str::<Value>(row).unwrap());
        rows.filter(|row| row["event"] == "mcp_tool_call").collect()
    };
    let tail = calls(&text(&spantap(&home, &["tail", "--json"])).0);
    let [joined, open] = &tail[..] else { panic!("{tail:?}") };
    assert_eq!(
        [&joined["status"], &joined["error_type"], &joined["error_message"], &joined["task_result_seen"]],
        [&json!("error"), &json!("tool_error"), &json!("disk full"), &json!(true)]
    );
    assert_eq!([&open["status"], &open["error_type"]], [&json!("unknown"), &json!("task_open")]);
    // The end is the first sign of it.
    let ended = records.iter().find(|record| record["event"] == "task_ended").unwrap();
    assert_eq!(joined["ended_at"], ended["timestamp"]);
    let time = |text: &Value| text.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_microsecond();
    let took = (time(&ended["timestamp"]) - time(&joined["started_at"])) as f64 / 1000.0;
    assert_eq!(joined["duration_ms"], took);

    let stats = text(&spantap(&home, &["stats", "--json"])).0;
    assert!(stats.contains("\"errors\":1") && stats.contains("\"unknown\":1"), "{stats}");
    let errors = text(&spantap(&home, &["stats", "--by", "error", "--json"])).0;
    assert!(errors.contains("disk full"), "{errors}");
    let handle = format!("{}.{}", &joined["connection_id"].as_str().unwrap()[30..], joined["seq"]);
    let shown = text(&spantap(&home, &["show", &handle])).0;
    assert!(shown.contains("disk full") && !shown.contains("task_open"), "{shown}");
    let page = text(&spantap(&home, &["report", "-o", "-"])).0;
    assert!(page.contains("disk full"), "the page has the outcome");
    let failures = calls(&text(&spantap(&home, &["tail", "--json", "--status", "error"])).0);
    assert_eq!(failures.len(), 1);
}

#[test]
fn a_log_that_cannot_be_read_is_a_failure_and_an_empty_answer_only_if_asked() {
    const COMMANDS: [&[&str]; 5] =
        [&["stats"], &["sessions"], &["tail"], &["show", "last"], &["why", "last"]];
    let home = Home::new();
    session(&home, 1);
    let status = |command: &[&str], more: &[&str]| spantap(&home, &[command, more].concat()).status.code();
    for command in COMMANDS {
        assert_eq!(status(command, &[]), Some(0), "{command:?}");
        let nothing = ["--server", "nosuch"];
        assert_eq!(status(command, &nothing), Some(0), "{command:?}");
        assert_eq!(status(command, &["--server", "nosuch", "--fail-if-empty"]), Some(1), "{command:?}");
    }
    assert_eq!(status(&["show", "nosuch"], &[]), Some(1));
    assert_eq!(
        status(&["report", "-o", "page.html"], &["--server", "nosuch"]),
        Some(1),
        "no page is written"
    );
    // A file that the user named and that is not a log.
    let foreign = home.path().join("notes.txt");
    fs::write(&foreign, "hello\n").unwrap();
    for command in [&["stats"][..], &["sessions"], &["tail"]] {
        assert_eq!(status(command, &["notes.txt"]), Some(1), "{command:?}");
        assert_eq!(status(command, &["nosuch.jsonl"]), Some(1), "{command:?}");
    }
    // A log in the folder that cannot be read to its end: the answer is not complete.
    fs::write(home.logs().join("broken.jsonl.gz"), "this is not gzip").unwrap();
    for command in COMMANDS.iter().copied().chain([&["report", "-o", "page.html"][..]]) {
        let output = spantap(&home, command);
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        assert!(text(&output).1.contains("broken.jsonl.gz could not be read"), "{command:?}");
        assert!(!output.stdout.is_empty(), "{command:?}: what could be read is shown");
    }
}

#[test]
fn a_log_of_a_newer_version_is_read_and_the_note_says_what_is_missing() {
    let home = Home::new();
    session(&home, 1);
    let log = logs_in(&home.logs()).remove(0);
    let newer =
        fs::read_to_string(&log).unwrap().replace("\"schema\":\"spantap/1\"", "\"schema\":\"spantap/2\"");
    fs::write(&log, newer).unwrap();
    let note = "note: written by a newer spantap, whose events and fields that this version does not know are left \
                out: ";
    for command in [
        &["stats"][..],
        &["sessions"],
        &["tail"],
        &["show"],
        &["why"],
        &["context"],
        &["stats", "--by", "model"],
    ] {
        let output = spantap(&home, command);
        let (shown, said) = text(&output);
        assert_eq!(said.matches(note).count(), 1, "{command:?}: {said}");
        assert_eq!(shown.is_empty(), command.contains(&"model"), "{command:?}");
    }
}
