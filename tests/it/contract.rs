//! The public contract, as the binary shows it: flags, settings, exit statuses, the schema, `--json`, OTLP.
//!
//! `UPDATE_FIXTURES=1 cargo test --test it contract` writes `fixtures/contract` anew.

mod telemetry;

use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::Value;
use spantap::cli::help::GROUPS;

use crate::support::{FLUSH_BUDGET, Home, SPANTAP, text};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Compares `found` with the golden file `name` of `fixtures/contract`.
#[track_caller]
fn hold(name: &str, found: &str) {
    let path = fixtures().join("contract").join(name);
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    if golden == found {
        return;
    }
    let same = golden.lines().zip(found.lines()).take_while(|(golden, found)| golden == found).count();
    let [golden, found] = [&golden, found].map(|text| text.lines().nth(same).unwrap_or("(the end)"));
    // Lines are long: what comes before the first difference is cut.
    let common = golden.chars().zip(found.chars()).take_while(|(golden, found)| golden == found).count();
    let part = |line: &str| line.chars().skip(common.saturating_sub(60)).take(200).collect::<String>();
    panic!(
        "the public contract changed in fixtures/contract/{name}:{}\ngolden: {}\n found: {}",
        same + 1,
        part(golden),
        part(found)
    );
}

/// A home that has the fixtures in it and `spantap` on its PATH.
fn home() -> Home {
    let home = Home::new();
    std::fs::create_dir(home.path().join("bin")).unwrap();
    std::os::unix::fs::symlink(SPANTAP, home.path().join("bin/spantap")).unwrap();
    std::os::unix::fs::symlink(fixtures(), home.path().join("fixtures")).unwrap();
    home
}

/// Runs a shell line. A line that begins with `spantap` replaces the shell, so that its status is its own.
fn shell(home: &Home, line: &str, environment: &[(&str, &str)]) -> Output {
    let exec = if line.starts_with("spantap") { "exec " } else { "" };
    let mut command = home.command("sh");
    command
        .args(["-c", &format!("{exec}{line}")])
        .env("PATH", format!("{}:/usr/bin:/bin", home.path().join("bin").display()))
        .env(FLUSH_BUDGET.0, FLUSH_BUDGET.1)
        .envs(environment.iter().copied())
        .stdin(Stdio::null());
    command.output().unwrap()
}

#[test]
fn the_schema_is_the_golden_one() {
    /// Drops the descriptions: the contract does not include their wording.
    fn without_prose(value: &mut Value) {
        match value {
            Value::Object(members) => {
                if members.get("description").is_some_and(Value::is_string) {
                    members.remove("description");
                }
                members.values_mut().for_each(without_prose);
            }
            Value::Array(items) => items.iter_mut().for_each(without_prose),
            _ => {}
        }
    }
    let home = Home::new();
    let output = home.spantap(["schema"]).output().unwrap();
    let mut schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    without_prose(&mut schema);
    hold("schema.json", &format!("{schema:#}\n"));
}

/// Returns the facts of one entry of a help page: its head, and the bracketed words that are no prose.
fn facts(head: &str, prose: &str) -> String {
    let mut facts = head.split_whitespace().collect::<Vec<_>>().join(" ");
    let prose = prose.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in prose.split('[').skip(1).filter_map(|part| part.split(']').next()) {
        let Some((kind, value)) = part.split_once(": ") else { continue };
        let is_fact = match kind {
            "default" => !value.contains(' '),
            "possible values" | "env" | "alias" | "aliases" | "short alias" | "short aliases" => true,
            _ => false,
        };
        if is_fact {
            write!(facts, " [{part}]").unwrap();
        }
    }
    facts
}

/// Reduces a help page to usage, commands, arguments and flags, in the order of their names.
fn reduced(help: &str) -> String {
    let mut entries: Vec<(String, String)> = Vec::new();
    let (mut usage, mut section) = (Vec::new(), "");
    for line in help.lines() {
        let words = line.trim_start();
        let indent = line.len() - words.len();
        if let Some(first) = line.strip_prefix("Usage: ") {
            (section, usage) = ("Usage", vec![first.to_owned()]);
        } else if indent == 0 {
            section = line.strip_suffix(':').unwrap_or_default();
        } else if section == "Usage" {
            usage.push(words.to_owned());
        } else if section.is_empty() || section == "Examples" {
            continue;
        } else if indent == 2 || words.starts_with("--") && indent == 6 {
            let (head, prose) = words.split_once("  ").unwrap_or((words, ""));
            let is_command = GROUPS.iter().any(|(title, _)| *title == section);
            let head = if is_command { format!("command {head}") } else { head.to_owned() };
            entries.push((head, prose.to_owned()));
        } else if let Some((_, prose)) = entries.last_mut() {
            *prose += " ";
            *prose += words;
        }
    }
    let mut lines: Vec<String> = entries.iter().map(|(head, prose)| facts(head, prose)).collect();
    lines.sort_by_key(|line| line.trim_start_matches('-').to_owned());
    let usage = usage.iter().map(|usage| format!("usage {usage}"));
    usage.chain(lines).map(|line| format!("  {line}\n")).collect()
}

#[test]
fn the_commands_and_their_flags_are_the_golden_ones() {
    let help = |words: &[&str]| {
        let home = Home::new();
        let output = home.spantap(words.iter().copied().chain(["-h"])).output().unwrap();
        reduced(&text(&output).0)
    };
    let whole = help(&[]);
    let mut found = format!("spantap\n{whole}");
    for command in whole.lines().filter_map(|line| line.trim().strip_prefix("command ")) {
        if command != "help" {
            write!(found, "\nspantap {command}\n{}", help(&[command])).unwrap();
        }
    }
    hold("flags.txt", &found);
}

/// Returns what the commands print: each after its line.
fn printed(home: &Home, commands: &[&str]) -> String {
    let environment = [("SPANTAP_COST_USD_PER_MILLION_TOKENS", "3")];
    let mut found = String::new();
    for command in commands {
        let output = shell(home, &format!("spantap {command}"), &environment);
        let (printed, said) = text(&output);
        assert!(output.status.success(), "{command}: {said}");
        write!(found, "$ spantap {command}\n{printed}\n").unwrap();
    }
    found
}

#[test]
fn what_the_reading_commands_print_as_json_is_golden() {
    let home = home();
    for (name, commands) in [
        (
            "sessions.txt",
            &[
                "sessions --json fixtures/logs",
                "sessions --json fixtures/made-logs",
                "sessions --json --connections fixtures/logs",
                "sessions --json --connections fixtures/made-logs",
                "sessions --json --thrashing 5 fixtures/logs",
            ][..],
        ),
        (
            "stats.txt",
            &[
                "stats --json fixtures/logs",
                "stats --json fixtures/made-logs",
                "stats --json --by server --sort errors fixtures/logs",
                "stats --json --by tool --sort p95 fixtures/logs",
                "stats --json --by session --sort tokens fixtures/logs",
                "stats --json --by host fixtures/made-logs",
                "stats --json --method '*' fixtures/logs",
            ],
        ),
        ("tail.txt", &["tail -n 9999 --json fixtures/logs", "tail -n 9999 --json fixtures/made-logs"]),
        (
            "show.txt",
            &[
                "show 9e034e25 --json fixtures/logs",
                "show -1 --json --log-dir fixtures/logs",
                "show 01a2027b-a --json --status unknown fixtures/made-logs",
                "show 8f9a4cbd787f/14 --json fixtures/made-logs",
            ],
        ),
    ] {
        hold(name, &printed(&home, commands));
    }
}

/// Members whose value differs from run to run, is a text for people, or is held by another golden file.
const UNSTEADY: [&str; 13] = [
    "diff",
    "error",
    "fix",
    "hint",
    "note",
    "origin",
    "reason",
    "setting",
    "timestamp",
    "value",
    "version",
    "warnings",
    "what",
];

/// Replaces the values of unsteady members, and leaves out repeated objects of a list.
fn steady(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, value) in members.iter_mut() {
                if UNSTEADY.contains(&name.as_str()) || name.ends_with("_ms") {
                    *value = Value::from("…");
                } else {
                    steady(value);
                }
            }
        }
        Value::Array(items) => {
            items.iter_mut().for_each(steady);
            items.dedup();
        }
        _ => {}
    }
}

#[test]
fn what_the_other_commands_print_as_json_has_the_golden_members() {
    let home = home();
    std::fs::create_dir(home.path().join(".cursor")).unwrap();
    let servers = r#"{"mcpServers":{"a":{"command":"cat","args":["-u"]},"b":{"url":"http://localhost/"}}}"#;
    std::fs::write(home.path().join(".cursor/mcp.json"), servers).unwrap();
    let mut found = String::new();
    for line in [
        "status --json",
        "wrap --json",
        "wrap --json --yes",
        "wrap --json --yes",
        "status --json",
        "unwrap --json --yes",
        "doctor --json",
        "check --json --timeout 60s -- spantap demo --serve",
        "check --json -- false",
        "check --json --timeout 60s --every 1ms --count 2 -- spantap demo --serve",
    ] {
        let output = shell(&home, &format!("spantap {line}"), &[]);
        writeln!(found, "$ spantap {line}").unwrap();
        let printed = text(&output).0.replace(home.path().to_str().unwrap(), "~");
        let values: Vec<Value> = match serde_json::from_str(&printed) {
            Ok(whole) => vec![whole],
            Err(_) => printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        };
        for mut value in values {
            steady(&mut value);
            writeln!(found, "{value:#}").unwrap();
        }
    }
    hold("other-json.txt", &found);
}

/// Runs the command lines of `statuses.txt` in their order, in one home: a line finds what those before left.
#[test]
fn every_command_line_ends_with_the_golden_status() {
    let rows = std::fs::read_to_string(fixtures().join("contract/statuses.txt")).unwrap();
    let home = home();
    let put = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
    put("plain", "x\n");
    put("clean.jsonl", "nothing\n");
    put("leaky.jsonl", "ghp_EXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLE1\n");
    let mut found = String::new();
    for row in rows.lines() {
        let Some((_, line)) = row.split_once("  ") else {
            writeln!(found, "{row}").unwrap();
            continue;
        };
        let status = shell(&home, line.trim_start(), &[]).status;
        let shown = match (status.code(), status.signal()) {
            (Some(code), _) => code.to_string(),
            (None, signal) => format!("signal {}", signal.unwrap()),
        };
        writeln!(found, "{shown:<9}  {}", line.trim_start()).unwrap();
    }
    hold("statuses.txt", &found);
}

/// Returns the settings that `doctor` shows, and the findings that name `mark`.
fn settings(home: &Home, options: &str, environment: &[(&str, &str)], mark: &str) -> Vec<String> {
    let output = shell(home, &format!("spantap doctor --json {options}"), environment);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let rows = report["settings"].as_array().unwrap().iter();
    let rows = rows.map(|row| {
        // An origin in several words is a text for people.
        let origin = Some(text(row, "origin")).filter(|origin| !origin.contains(' '));
        let origin = origin.map(|origin| format!("  ({origin})")).unwrap_or_default();
        format!("{} = {}{origin}", text(row, "setting"), text(row, "value"))
    });
    let mut findings = report["findings"].as_array().unwrap().iter().map(|finding| text(finding, "what"));
    let is_named = findings.any(|finding| finding.contains(mark));
    rows.chain(is_named.then(|| format!("a finding names {mark}"))).collect()
}

/// A value for each variable of the settings.
const VARIABLES: [(&str, &str); 33] = [
    ("SPANTAP_SERVER", "s"),
    ("SPANTAP_LOG", "false"),
    ("SPANTAP_LOG_DIR", "l"),
    ("SPANTAP_MAX_LOG_SIZE", "1MiB"),
    ("SPANTAP_MAX_SESSION_SIZE", "2GiB"),
    ("SPANTAP_MAX_TOTAL_SIZE", "1GiB"),
    ("SPANTAP_LOG_LEVEL", "debug"),
    ("SPANTAP_DEBUG_FOR", "1m"),
    ("SPANTAP_SESSION_ID", "x"),
    ("SPANTAP_USER_ID", "x"),
    ("SPANTAP_ORIGIN", "x/user"),
    ("SPANTAP_RECORD_CWD", "false"),
    ("SPANTAP_SLOW", "1s"),
    ("SPANTAP_CALL_TIMEOUT", "1s"),
    ("SPANTAP_OVERLOAD", "wait"),
    ("SPANTAP_TRACE_ENV", "false"),
    ("SPANTAP_SESSION_ROOT", "true"),
    ("SPANTAP_PROPAGATE", "meta"),
    ("SPANTAP_STRICT", "true"),
    ("SPANTAP_ARGS_HASH", "sha256"),
    ("SPANTAP_HASH_KEY_FILE", "k"),
    ("SPANTAP_THRASH_THRESHOLD", "7"),
    ("SPANTAP_THRASH_WARN", "4"),
    ("SPANTAP_DENIED_CODES", "-1,-2"),
    ("SPANTAP_DENIED_WORDS", "no"),
    ("SPANTAP_COST_USD_PER_MILLION_TOKENS", "3"),
    ("SPANTAP_LINKS_TRACE", "https://tempo.example/trace/{trace_id}"),
    ("SPANTAP_OTLP_ENDPOINT", "http://127.0.0.1:9"),
    ("SPANTAP_COLLECT_LISTEN", "14318,192.168.1.7:4318"),
    ("SPANTAP_COLLECT_TOKEN_FILE", "t"),
    ("SPANTAP_COLLECT_FORWARD", "http://user:pass@127.0.0.1:9"),
    ("SPANTAP_COLLECT_FORWARD_HEADERS", "x-team,x-key=x"),
    ("SPANTAP_SIDE", "client"),
];

/// A value for each variable of OpenTelemetry: one that shows, or one that is refused by name.
const OTEL: [(&str, &str); 22] = [
    ("OTEL_SDK_DISABLED", "true"),
    ("OTEL_<S>_EXPORTER", "none"),
    ("OTEL_EXPORTER_OTLP[_<S>]_ENDPOINT", "http://127.0.0.1:10"),
    ("OTEL_EXPORTER_OTLP[_<S>]_PROTOCOL", "http/json"),
    ("OTEL_EXPORTER_OTLP[_<S>]_HEADERS", "a=b"),
    ("OTEL_EXPORTER_OTLP[_<S>]_TIMEOUT", "1000"),
    ("OTEL_EXPORTER_OTLP[_<S>]_COMPRESSION", "gzip"),
    ("OTEL_EXPORTER_OTLP[_<S>]_CERTIFICATE", "c.pem"),
    ("OTEL_EXPORTER_OTLP[_<S>]_CLIENT_CERTIFICATE", "c.pem"),
    ("OTEL_EXPORTER_OTLP[_<S>]_CLIENT_KEY", "k.pem"),
    ("OTEL_EXPORTER_OTLP[_<S>]_INSECURE", "?"),
    ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "?"),
    ("OTEL_METRIC_EXPORT_INTERVAL", "?"),
    ("OTEL_METRIC_EXPORT_TIMEOUT", "?"),
    ("OTEL_{B}_EXPORT_TIMEOUT", "?"),
    ("OTEL_{B}_SCHEDULE_DELAY", "?"),
    ("OTEL_{B}_MAX_QUEUE_SIZE", "?"),
    ("OTEL_{B}_MAX_EXPORT_BATCH_SIZE", "?"),
    ("OTEL_RESOURCE_ATTRIBUTES", "?"),
    ("OTEL_TRACES_SAMPLER", "?"),
    ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "?"),
    ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "?"),
];

/// Returns the variables that match a pattern of [`OTEL`].
fn variables(pattern: &str) -> Vec<String> {
    let signals = ["TRACES", "METRICS", "LOGS"];
    match pattern {
        _ if pattern.contains("[_<S>]") => std::iter::once(pattern.replace("[_<S>]", ""))
            .chain(signals.map(|signal| pattern.replace("[_<S>]", &format!("_{signal}"))))
            .collect(),
        _ if pattern.contains("<S>") => signals.map(|signal| pattern.replace("<S>", signal)).to_vec(),
        _ => match pattern.contains("{B}") {
            true => ["BSP", "BLRP"].map(|batch| pattern.replace("{B}", batch)).to_vec(),
            false => vec![pattern.to_owned()],
        },
    }
}

#[test]
fn the_settings_with_their_keys_variables_and_defaults_are_the_golden_ones() {
    let home = home();
    let mut found = String::new();
    let mut section = |title: &str, lines: &[String]| {
        writeln!(found, "{title}\n  {}\n", lines.join("\n  ")).unwrap();
    };
    let file = "fixtures/contract/config.toml";
    let line = format!("{file}:");
    section("by default", &settings(&home, "", &[], &line));
    section("from the environment", &settings(&home, "", &VARIABLES, "SPANTAP_"));
    section("from config.toml", &settings(&home, &format!("--config {file}"), &[], &line));
    let variable = [("SPANTAP_CONFIG", file)];
    section("from config.toml for its server `own`", &settings(&home, "--server own", &variable, &line));
    let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
    let all = ("OTEL_LOGS_EXPORTER", "otlp");
    let without = settings(&home, "", &[base, all], "OTEL_EXPORTER_OTLP_ENDPOINT");
    for (pattern, value) in OTEL {
        for name in variables(pattern) {
            let with = settings(&home, "", &[base, all, (&name, value)], &name);
            let mut changed: Vec<String> =
                with.iter().filter(|row| !without.contains(row)).cloned().collect();
            let gone = without.iter().filter(|row| row.starts_with("otlp ") && !with.contains(row));
            if changed.is_empty() {
                changed.extend(gone.map(|row| format!("not: {row}")));
            }
            section(&format!("{name}={value}"), &changed);
        }
    }
    hold("settings.txt", &found);
}

#[test]
fn the_environment_of_a_server_and_the_variables_of_hosts_are_the_golden_ones() {
    let mut found = String::new();
    for options in ["", "--no-trace-env"] {
        let output = shell(&home(), &format!("spantap {options} -- env"), &[("TRACESTATE", "a=b")]);
        let mut names: Vec<String> =
            text(&output).0.lines().filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect();
        names.retain(|name| !["_", "PWD", "OLDPWD", "SHLVL", FLUSH_BUDGET.0].contains(&name.as_str()));
        names.sort();
        writeln!(found, "{options} {}", names.join(" ")).unwrap();
    }
    let variables = ["SPANTAP_SESSION_ID", "CLAUDE_CODE_SESSION_ID", "GROK_SESSION_ID", "GEMINI_SESSION_ID"];
    for variable in variables {
        let home = home();
        shell(&home, "spantap -- true", &[(variable, "agent-1")]);
        let start = &home.records()[0];
        writeln!(found, "{variable} {} {}", start["session_id"], start["session_source"]).unwrap();
    }
    hold("environment.txt", &found);
}
