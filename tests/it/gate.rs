//! `spantap gate`. `tests/report/gate_check.py` runs the CI job of the documentation and reads its JUnit file.

use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::{SPANTAP, text};

const FIRST: &[&str] = &["--on", "2026-11-26", "fixtures/days/ordinary"];
const SECOND: &[&str] = &["--on", "2026-11-27", "fixtures/days/ordinary"];
const HOSTILE: &[&str] = &["--on", "2026-11-27", "fixtures/days/hostile"];

fn run(parts: &[&[&str]], columns: Option<&str>) -> Output {
    let mut command = Command::new(SPANTAP);
    command.arg("gate").args(parts.concat()).current_dir(env!("CARGO_MANIFEST_DIR")).env_clear();
    command.envs([("HOME", "/nonexistent/home"), ("TZ", "UTC"), ("LC_ALL", "C.UTF-8")]);
    command.envs(columns.map(|columns| ("COLUMNS", columns))).output().unwrap()
}

/// Returns the exit status, and rule, verdict, figure and limit of each rule.
fn judged(rules: &[&str], logs: &[&str]) -> (i32, Vec<(String, String, Value, Value)>) {
    let output = run(&[rules, logs, &["--json"]], None);
    let (printed, said) = text(&output);
    let verdict: Value = serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{rules:?}: {said}"));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let row = |rule: &Value| {
        let figures = ["figure", "limit"].map(|field| rule[field]["value"].clone());
        let [figure, limit] = figures;
        (text(&rule["rule"]), text(&rule["verdict"]), figure, limit)
    };
    let rows = verdict["rules"].as_array().unwrap().iter().map(row).collect();
    (output.status.code().unwrap(), rows)
}

/// Judges one rule, without the rule that nothing is missing.
fn one(rule: &[&str], logs: &[&str]) -> (i32, String, Value) {
    let (status, mut rows) = judged(&[rule, &["--allow-loss"]].concat(), logs);
    assert_eq!((rows.len(), rows[1].0.as_str()), (2, "complete"), "{rows:?}");
    let (_, verdict, figure, _) = rows.remove(0);
    (status, verdict, figure)
}

#[test]
fn each_rule_passes_fails_and_says_its_figure() {
    let passed = |figure: Value| (0, "passed".to_owned(), figure);
    let failed = |figure: Value| (1, "failed".to_owned(), figure);
    for (rule, logs, expected) in [
        (&["--max-errors", "1"][..], FIRST, passed(json!(1))),
        (&["--max-errors", "12"], SECOND, failed(json!(13))),
        (&["--max-error-rate", "12%"], SECOND, passed(json!(0.119266055))),
        (&["--max-error-rate", "0.1"], SECOND, failed(json!(0.119266055))),
        (&["--no-deaths"], FIRST, passed(json!(0))),
        (&["--no-deaths"], SECOND, failed(json!(1))),
        (&["--no-loops"], SECOND, passed(json!(0))),
        (&["--no-loops"], &["fixtures/why/loop"], failed(json!(1))),
        (&["--max-definitions", "1.1k"], SECOND, passed(json!(1068))),
        (&["--max-definitions", "1000"], SECOND, failed(json!(1068))),
        (&["--max-result", "read_file=3k"], SECOND, passed(json!(2475))),
        (&["--max-result", "filesystem/*=2k"], SECOND, failed(json!(2475))),
        (&["--expect-tool", "web"], SECOND, passed(json!(13))),
        (&["--expect-tool", "github/web"], SECOND, failed(json!(0))),
        (&["--forbid-tool", "delete_*"], SECOND, passed(json!(0))),
        (&["--forbid-tool", "search/*"], SECOND, failed(json!(13))),
        (&["--no-new-tools", "fixtures/days/ordinary"], SECOND, passed(json!(0))),
    ] {
        assert_eq!(one(rule, logs), expected, "{rule:?}");
    }
    let (status, verdict, figure) = one(&["--p95", "search_*=1ms"], SECOND);
    assert_eq!((status, verdict.as_str()), (1, "failed"));
    let mut stats = Command::new(SPANTAP);
    stats.args(["stats", "--json", "--tool", "search_issues"]).args(SECOND);
    let stats = stats.env("TZ", "UTC").current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let stats: Value = serde_json::from_str(&text(&stats).0).unwrap();
    assert_eq!(figure, stats["p95_ms"], "the figure is that of `stats`");
    assert_eq!(one(&["--p95", "search_*=1h"], SECOND).0, 0);
}

#[test]
fn a_tool_that_the_baseline_lacks_is_new_and_a_list_that_is_not_whole_proves_nothing() {
    let logs = |day: &str| {
        let folder = tempfile::tempdir().unwrap();
        let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/days/ordinary");
        for file in fs::read_dir(source).unwrap().map(Result::unwrap) {
            if file.file_name().to_str().unwrap().contains(day) {
                fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
            }
        }
        folder
    };
    let before = logs("2026-11-26");
    let place = before.path().to_str().unwrap();
    assert_eq!(one(&["--no-new-tools", place], SECOND), (1, "failed".to_owned(), json!(1)));
    let words = text(&run(&[&["--no-new-tools", place], SECOND], None)).0;
    assert!(words.contains("FAIL  no-new-tools  1, limit 0 - merge_pull_request on github\n"), "{words}");
    let file = fs::read_dir(before.path()).unwrap().map(|file| file.unwrap().path());
    let file = file.filter(|path| path.to_str().unwrap().contains("filesystem")).last().unwrap();
    let cut = fs::read_to_string(&file).unwrap().replace("\"is_complete\": true", "\"is_complete\":false");
    fs::write(&file, cut.replace("\"is_complete\":true", "\"is_complete\":false")).unwrap();
    assert_eq!(one(&["--no-new-tools", place], FIRST), (3, "nothing_to_judge".to_owned(), Value::Null));
    assert_eq!(one(&["--no-new-tools", place], SECOND).0, 1, "a new tool is new all the same");
    let words = text(&run(&[&["--no-new-tools", place], SECOND], None)).0;
    assert!(words.contains("FAIL  no-new-tools  1, limit 0 - "), "{words}");
    let missing = run(&[&["--no-new-tools", "/nonexistent/logs"], SECOND], None);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing).1.contains("the baseline of --no-new-tools cannot be read"), "{missing:?}");
}

#[test]
fn figures_that_differ_look_different_and_a_limit_without_a_tool_is_refused() {
    let words = |rule: &[&str]| text(&run(&[rule, SECOND], None)).0;
    let words = words(&["--max-definitions", "1067", "--max-result", "read_file=2474"]);
    assert!(words.contains("  ~1068 tokens, limit ~1067 tokens"), "{words}");
    assert!(words.contains("  ~2475 tokens, limit ~2474 tokens"), "{words}");
    for rule in [["--p95", "=1s"], ["--max-result", "=7"], ["--max-result", "*=1.5"]] {
        assert_eq!(run(&[&rule, SECOND], None).status.code(), Some(2), "{rule:?}");
    }
}

#[test]
fn nothing_to_judge_is_never_a_pass() {
    let nothing = |rule: &[&str], logs: &[&str]| {
        let (status, verdict, figure) = one(rule, logs);
        assert_eq!((status, verdict.as_str(), figure), (3, "nothing_to_judge", Value::Null), "{rule:?}");
    };
    let empty = tempfile::tempdir().unwrap();
    let empty = &[empty.path().to_str().unwrap()][..];
    for rule in [
        &["--max-errors", "9"][..],
        &["--max-error-rate", "100%"],
        &["--no-deaths"],
        &["--no-loops"],
        &["--p95", "*=9h"],
        &["--max-definitions", "9M"],
        &["--max-result", "*=9M"],
        &["--expect-tool", "*"],
        &["--forbid-tool", "x"],
        &["--no-new-tools", "fixtures/days/ordinary"],
        &["--lint"],
    ] {
        nothing(rule, empty);
    }
    nothing(&["--p95", "no_such_tool=9h"], SECOND);
    nothing(&["--max-definitions", "9M"], &["fixtures/made-logs"]);
    nothing(&["--no-new-tools", "fixtures/made-logs"], SECOND);
    // A failure counts more.
    let (status, _) = judged(&["--p95", "no_such_tool=9h", "--no-deaths"], SECOND);
    assert_eq!(status, 1);
}

#[test]
fn an_error_of_the_lint_fails_and_a_warning_does_not() {
    let source = "fixtures/days/ordinary/filesystem-2026-11-27-ddccf8436e53.jsonl";
    let log = fs::read_to_string(source).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("a.jsonl");
    // The record takes the place of one that no rule reads.
    let replaced = log.lines().find(|line| line.contains("tools_listed")).unwrap();
    let listed: Value = serde_json::from_str(replaced).unwrap();
    let with = |fields: Value| {
        let mut record = listed.clone();
        record["event"] = json!("tools_linted");
        record["seq"] = json!(log.lines().count());
        record.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        fs::write(&place, format!("{log}{record}\n")).unwrap();
        one(&["--lint"], &[place.to_str().unwrap()])
    };
    let tool = |rules: &[&str]| json!({"linted": [{"name": "::error::a", "rules": rules}]});
    assert_eq!(one(&["--lint"], &[source]), (0, "passed".to_owned(), json!(0)));
    assert_eq!(with(tool(&["no-description"])), (0, "passed".to_owned(), json!(0)));
    let unknown = (3, "nothing_to_judge".to_owned(), Value::Null);
    assert_eq!(with(tool(&["a-rule-of-a-later-version"])), unknown);
    assert_eq!(with(json!({"linted": [], "unlisted": 1})), unknown);
    let errors = tool(&["no-description", "property-name", "array-items"]);
    assert_eq!(with(errors), (1, "failed".to_owned(), json!(2)));
    let file = folder.path().join("gate.toml");
    fs::write(&file, "[gate]\nlint = true\nallow_loss = true\n").unwrap();
    let (rules, logs) = (["--rules", file.to_str().unwrap()], [place.to_str().unwrap()]);
    for (form, part) in [
        (
            "text",
            "FAIL  lint      2, limit 0 - ::error::a on filesystem: array-items; ::error::a on filesystem: pr",
        ),
        ("json", r#""rule":"lint","verdict":"failed""#),
        ("junit", "<failure type=\"lint\" message=\"2, limit 0\">"),
        ("sarif", r#""ruleId":"lint""#),
        ("github", "::error title=spantap gate lint::lint: 2, limit 0; "),
    ] {
        let printed = text(&run(&[&rules, &logs, &["--format", form]], Some("200"))).0;
        assert!(printed.contains(part), "{form}: {printed}");
    }
}

#[test]
fn what_is_missing_fails_unless_it_is_allowed() {
    let (status, rows) = judged(&["--no-deaths"], FIRST);
    assert_eq!((status, &rows[1].1, &rows[1].2), (1, &"failed".to_owned(), &json!(1)), "one unknown call");
    assert_eq!(judged(&["--no-deaths", "--allow-loss"], FIRST).0, 0);
    assert_eq!(judged(&["--no-loops"], SECOND).0, 0, "nothing is missing there");
    let log = fs::read_to_string("fixtures/days/ordinary/filesystem-2026-11-27-ddccf8436e53.jsonl").unwrap();
    let lines: Vec<&str> = log.lines().collect();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("a.jsonl");
    let whole = |lines: &[&str]| lines.join("\n") + "\n";
    for (content, what) in [
        (whole(&[&lines[..9], &lines[11..]].concat()), "2 x missing record"),
        (whole(&lines[..lines.len() - 1]), "1 x connection without an end"),
        (whole(&[&lines[..], &["not a record"]].concat()), "1 x line or file that cannot be read"),
        (whole(&lines[3..]), "3 x missing record"),
    ] {
        fs::write(&place, content).unwrap();
        let output = run(&[&["--no-loops", place.to_str().unwrap()]], None);
        let printed = text(&output).0;
        assert_eq!(output.status.code(), Some(1), "{printed}");
        assert!(printed.contains("FAIL  complete  ") && printed.contains(what), "{what}: {printed}");
    }
}

#[test]
fn the_first_records_of_a_connection_are_missing_only_if_it_began_in_the_selected_time() {
    let log = fs::read_to_string("fixtures/days/ordinary/filesystem-2026-11-27-ddccf8436e53.jsonl").unwrap();
    // The time in the id: 2026-11-27T09:30:00Z.
    let log = log.replace("01933aaf-c1b9-7a2f", "01a21c57-19c0-7a2f");
    let lines: Vec<&str> = log.lines().collect();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("a.jsonl");
    fs::write(&place, lines[3..].join("\n") + "\n").unwrap();
    let printed = |since: &str| {
        let output = run(&[&["--no-loops", "--since", since, place.to_str().unwrap()]], None);
        text(&output).0
    };
    let whole = printed("2026-11-27T09:30:00Z");
    assert!(whole.contains("FAIL  complete  ") && whole.contains("3 x missing record"), "{whole}");
    let part = printed("2026-11-27T09:30:00.001Z");
    assert!(part.contains("complete") && !part.contains("missing record"), "{part}");
}

#[test]
fn a_tool_that_was_there_for_a_while_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, records: &[&str]| {
        let line = |(seq, rest): (usize, &&str)| {
            format!(
                r#"{{"schema":"spantap/1","timestamp":"2026-11-27T09:30:{seq:02}Z","level":"info","message":"","seq":{seq},"session_id":"s","connection_id":"c{name}","server_name":"s",{rest}}}"#
            ) + "\n"
        };
        let place = folder.path().join(name);
        fs::write(&place, records.iter().enumerate().map(line).collect::<String>()).unwrap();
        place.to_str().unwrap().to_owned()
    };
    let a = r#""event":"tools_listed","is_complete":true,"tools":[{"name":"a"}]"#;
    let both = r#""event":"tools_listed","is_complete":true,"tools":[{"name":"a"},{"name":"b"}]"#;
    let added = r#""event":"tools_changed","added":["b"],"removed":[],"changed":[]"#;
    let before = write("before", &[a]);
    for (name, records, new) in
        [("listed", &[a, both, a][..], 1), ("changed", &[a, added, a], 1), ("same", &[a, a], 0)]
    {
        let judged = write(name, records);
        let (status, _, figure) = one(&["--no-new-tools", &before], &[&judged]);
        assert_eq!((status, figure), (new, json!(new)), "{name}");
        assert_eq!(one(&["--no-new-tools", &judged], &[&judged]).0, 0, "{name} has no tool that it lacks");
    }
}

#[test]
fn a_log_that_is_not_one_or_is_empty_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (good, other) = (place("good.jsonl"), place("other.jsonl"));
    fs::copy("fixtures/days/ordinary/filesystem-2026-11-27-ddccf8436e53.jsonl", &good).unwrap();
    let logs = ["--no-loops", &good, &other];
    for content in [&b"\0\0\0\n\xff\xfe\n"[..], b"", b"{\"schema\":\"spantap/1\",\"time"] {
        fs::write(&other, content).unwrap();
        let output = run(&[&logs], None);
        let printed = text(&output).0;
        assert_eq!(output.status.code(), Some(1), "{content:?}: {printed}");
        assert!(printed.contains("1 x line or file that cannot be read"), "{printed}");
        assert_eq!(run(&[&logs, &["--allow-loss"]], None).status.code(), Some(0));
    }
}

#[test]
fn a_condition_that_leaves_out_calls_is_a_usage_error() {
    for condition in [["--status", "ok"], ["--min-duration", "1s"]] {
        let output = run(&[&["--max-errors", "0"], &condition, SECOND], None);
        let said = text(&output).1;
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains(&format!("{} would leave out calls that `gate` judges", condition[0])),
            "{said}"
        );
    }
}

#[test]
fn a_file_of_rules_says_the_same_as_the_options_and_an_option_goes_first() {
    let rules = "fixtures/days/gate.toml";
    let file = judged(&["--rules", rules], SECOND);
    let options = [
        "--max-errors=2",
        "--max-error-rate=5%",
        "--no-deaths",
        "--no-loops",
        "--max-definitions=1.2k",
        "--expect-tool=search_issues",
        "--forbid-tool=merge_*",
        "--forbid-tool=github/delete_*",
        "--p95=filesystem/read_file=50ms",
        "--p95=search_*=300ms",
        "--max-result=*=20k",
        "--allow-loss",
    ];
    assert_eq!(file, judged(&options, SECOND));
    assert_eq!((file.0, file.1.iter().filter(|row| row.1 == "failed").count()), (1, 4));
    assert_eq!(judged(&["--rules", rules], FIRST).0, 0);
    let (_, rows) = judged(&["--rules", rules, "--max-errors", "20"], SECOND);
    assert_eq!((&rows[0].1, &rows[0].3), (&"passed".to_owned(), &json!(20)));
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("gate.toml");
    for (content, word) in [
        ("[gate]\nmax_error = 3\n", "unknown field `max_error`"),
        ("[gate]\nmax_error_rate = 5\n", "max_error_rate: expected a share"),
        ("[gate.p95]\nx = \"soon\"\n", "p95: expected a number"),
        ("[other]\n", "missing field `gate`"),
        ("[gate]\n", "no rule is given"),
        ("[gate\n", "gate.toml`"),
    ] {
        fs::write(&place, content).unwrap();
        let output = run(&[&["--rules", place.to_str().unwrap()], FIRST], None);
        assert_eq!(output.status.code(), Some(2), "{content}");
        assert!(text(&output).1.contains(word), "{content}: {}", text(&output).1);
    }
    for words in [&[][..], &["--rules", "/no/such/file"], &["--p95", "x"], &["--max-errors", "-1"]] {
        assert_eq!(run(&[words, FIRST], None).status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn hostile_names_do_nothing_in_any_form() {
    let rules = ["--max-errors=0", "--no-deaths", "--forbid-tool=*", "--max-result=*=1", "--p95=*=1ms"];
    let own = "--expect-tool=\n::error::x%0A<a>&\"'##[error]##vso[task.debug]\u{1b}[31m\u{202e}\u{ffff}";
    let printed = |form: &str| {
        let output = run(&[&rules, &[own, "--format", form], HOSTILE], None);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output).1);
        let printed = text(&output).0;
        assert!(form == "github" || !printed.contains("##[") && !printed.contains("##vso["), "{printed}");
        let harmful = printed.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert_eq!(harmful, None, "{form}: {printed:?}");
        printed
    };
    // Each line is one of ours: no text from outside begins a line, where a CI system reads commands.
    for line in printed("text").lines() {
        assert!(["ok  ", "FAIL", "none", "fail"].iter().any(|word| line.starts_with(word)), "{line}");
    }
    for line in printed("github").lines() {
        assert!(line.starts_with("::error title=spantap gate ") || line.starts_with("failed: "), "{line}");
        assert!(
            line.matches('%').count() == line.matches("%25").count() || line.starts_with("failed"),
            "{line}"
        );
    }
    let junit = printed("junit");
    let tags = junit.matches('<').count();
    let own_tags = ["<?xml", "<testsuites ", "</testsuites>", "<testsuite ", "</testsuite>"];
    let each = ["<testcase ", "</testcase>", "<failure ", "</failure>"];
    let known = own_tags.iter().chain(&each).map(|tag| junit.matches(tag).count()).sum::<usize>();
    assert_eq!(tags, known, "{junit}");
    assert!(junit.contains("failures=\"6\"") && !junit.contains('\u{ffff}'), "{junit}");
    let sarif: Value = serde_json::from_str(&printed("sarif")).unwrap();
    let schema = include_str!("../../fixtures/sarif/sarif-2.1.0-rtm.5.json");
    let mut schema: Value = serde_json::from_str(schema).unwrap();
    // A pattern there has a bracket too many, which strict readers of regular expressions refuse.
    for part in ["run", "toolComponent"] {
        let language = &mut schema["definitions"][part]["properties"]["language"];
        language.as_object_mut().unwrap().remove("pattern").unwrap();
    }
    let validator = jsonschema::draft4::new(&schema).unwrap();
    let problems: Vec<String> = validator.iter_errors(&sarif).map(|problem| problem.to_string()).collect();
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(sarif["runs"][0]["results"].as_array().unwrap().len(), 6);
    assert_eq!(printed("json").lines().count(), 1);
}

#[test]
fn a_file_gets_the_form_and_standard_output_the_text() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("gate.xml");
    let output = run(
        &[
            &["--rules", "fixtures/days/gate.toml", "--format", "junit", "-o", place.to_str().unwrap()],
            SECOND,
        ],
        None,
    );
    let printed = text(&output).0;
    assert!(printed.ends_with("failed: 4 of 12 rules; 109 calls in 1 session\n"), "{printed}");
    assert!(fs::read_to_string(&place).unwrap().contains("tests=\"12\" failures=\"4\" errors=\"0\""));
    for width in ["40", "80"] {
        let narrow = text(&run(&[&["--rules", "fixtures/days/gate.toml"], SECOND], Some(width))).0;
        for line in narrow.lines().filter(|line| line.is_ascii() && !line.starts_with("failed")) {
            assert!(line.len() <= width.parse().unwrap(), "{width}: {line}");
        }
    }
}
