//! `spantap diff`. `tests/report/diff_check.py` compares its figures with those of a script that shares no code.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{SPANTAP, text};

const DAYS: [&str; 2] = ["2026-11-26", "2026-11-27"];

fn run(arguments: &[&str], columns: Option<&str>) -> Output {
    let mut command = Command::new(SPANTAP);
    command.arg("diff").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).env_clear();
    command.envs([("HOME", "/nonexistent/home"), ("TZ", "UTC"), ("LC_ALL", "C.UTF-8")]);
    command.envs(columns.map(|columns| ("COLUMNS", columns))).output().unwrap()
}

fn answer(arguments: &[&str]) -> Value {
    let output = run(&[arguments, &["--json"]].concat(), None);
    assert!(output.status.success(), "{}", text(&output).1);
    serde_json::from_str(&text(&output).0).unwrap()
}

fn kinds(answer: &Value) -> Vec<&str> {
    answer["facts"].as_array().unwrap().iter().map(|fact| fact["fact"].as_str().unwrap()).collect()
}

#[test]
fn a_day_a_session_and_a_folder_give_the_same_answer() {
    let logs = "fixtures/days/ordinary";
    let by_day = answer(&[DAYS[0], DAYS[1], logs]);
    let by_session = answer(&["01d10000-0000-8000-8000-000000000001", "last", "--log-dir", logs]);
    let folders = tempfile::tempdir().unwrap();
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(logs)).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        let day = DAYS.into_iter().find(|day| name.contains(day)).unwrap();
        fs::create_dir_all(folders.path().join(day)).unwrap();
        fs::copy(file.path(), folders.path().join(day).join(name)).unwrap();
    }
    let places = DAYS.map(|day| folders.path().join(day).to_str().unwrap().to_owned());
    let by_folder = answer(&[&places[0], &places[1]]);
    for other in [&by_session, &by_folder] {
        assert_eq!((&other["facts"], &other["tools"]), (&by_day["facts"], &by_day["tools"]));
    }
    assert_eq!(
        kinds(&by_day),
        [
            "end",
            "tool_changed",
            "tools_gone",
            "error_rate",
            "duration",
            "new_error",
            "new_error",
            "tools_new",
            "server_version",
            "definitions"
        ]
    );
    assert_eq!(by_day["facts"][1]["parts"], serde_json::json!(["annotations", "description"]));
    let backwards = answer(&[DAYS[1], DAYS[0], logs]);
    assert_eq!(kinds(&backwards)[..2], ["tool_changed", "tools_gone"]);
    assert!(backwards["facts"].as_array().unwrap().iter().all(|fact| fact["is_worse"] != true));
}

#[test]
fn a_day_does_not_differ_from_itself() {
    let same = run(&[DAYS[0], DAYS[0], "fixtures/days/ordinary"], Some("80"));
    let (printed, _) = text(&same);
    assert!(printed.contains("\nNothing differs beyond chance.\n5 comparisons"), "{printed}");
    assert!(printed.contains("123       1"), "the counts are there:\n{printed}");
    let nothing = answer(&[DAYS[0], DAYS[0], "fixtures/days/ordinary"]);
    assert_eq!((kinds(&nothing), &nothing["nothing_differs"]), (vec![], &Value::Bool(true)));
}

#[test]
fn few_calls_are_not_called_a_difference() {
    let folder = tempfile::tempdir().unwrap();
    let write = |day: &str, calls: usize, ms: u32, status: &str| {
        let line = |seq: usize| {
            format!(
                r#"{{"schema":"spantap/1","event":"mcp_tool_call","timestamp":"{day}T09:00:{seq:02}Z","seq":{seq},"session_id":"{day}","connection_id":"{day}","server_name":"s","tool_name":"t","method":"tools/call","duration_ms":{ms}.000,"status":"{status}"}}"#
            )
        };
        let lines: Vec<String> = (0..calls).map(line).collect();
        fs::write(folder.path().join(format!("{day}.jsonl")), lines.join("\n") + "\n").unwrap();
    };
    let place = folder.path().to_str().unwrap();
    for (calls, expected) in [(3, &[][..]), (8, &["duration"])] {
        write(DAYS[0], calls, 100, "ok");
        write(DAYS[1], calls, 900, "ok");
        assert_eq!(kinds(&answer(&[DAYS[0], DAYS[1], place])), expected, "{calls} calls");
    }
    // Significant, but not worth a word.
    write(DAYS[0], 50, 100, "ok");
    write(DAYS[1], 50, 105, "ok");
    let slightly = answer(&[DAYS[0], DAYS[1], place]);
    assert_eq!((kinds(&slightly), &slightly["tools"][0]["differs"]), (vec![], &serde_json::json!(["p50"])));
    write(DAYS[1], 50, 100, "unknown");
    assert_eq!(kinds(&answer(&[DAYS[0], DAYS[1], place])), [""; 0], "an end that was not observed");
}

#[test]
fn the_answer_fits_a_screen_and_no_text_of_a_log_steers_the_terminal() {
    for width in ["40", "80", "200"] {
        for logs in ["fixtures/days/ordinary", "fixtures/days/hostile"] {
            let output = run(&[DAYS[0], DAYS[1], logs], Some(width));
            let (printed, said) = text(&output);
            assert!(output.status.success() && said.is_empty(), "{said}");
            assert!(width == "40" || printed.lines().count() < 24, "{printed}");
            for line in printed.lines().filter(|line| line.is_ascii() && !line.contains("--limit")) {
                assert!(line.len() <= width.parse().unwrap(), "{width}: {line}");
            }
            let harmful = printed.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
            assert_eq!(harmful, None, "{printed:?}");
        }
    }
    let json = text(&run(&[DAYS[0], DAYS[1], "fixtures/days/hostile", "--json"], None)).0;
    assert_eq!(json.lines().count(), 1);
    assert!(!json.trim_end().contains(char::is_control), "{json:?}");
}

#[test]
fn a_side_that_cannot_be_meant_is_refused() {
    let logs = "fixtures/days/ordinary";
    for (arguments, status, word) in [
        (&["01d1", "last", logs][..], 1, "matches 2 sessions"),
        (&["nope", "last", logs], 1, "no session or operation `nope`"),
        (&["2026-11-26", "2026-11-27", logs, "--since", "3d"], 2, "is a day"),
        (&["last", "last", logs, "--session", "01d1"], 2, "is a session"),
        (&["last", "last", "-"], 1, "standard input"),
        (&["2026-11-20", "2026-11-27", logs, "--fail-if-empty"], 1, "nothing to compare"),
        (&["2026-11-20", "2026-11-27", logs], 0, "nothing to compare"),
    ] {
        let output = run(arguments, None);
        let (printed, said) = text(&output);
        assert_eq!((output.status.code(), printed.as_str()), (Some(status), ""), "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
}
