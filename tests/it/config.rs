//! The config file: precedence of sources, warnings about entries that cannot be used, ignored files of other
//! owners.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::support::run::Run;
use crate::support::*;

pub fn write_config(home: &Home, text: &str) {
    let folder = home.path().join(".config/spantap");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), text).unwrap();
}

/// Returns `(value, origin)` of a setting as `doctor` shows it.
fn setting(report: &Value, name: &str) -> (String, String) {
    let settings = report["settings"].as_array().unwrap();
    let row = settings.iter().find(|row| row["setting"] == name).unwrap_or_else(|| panic!("no {name}"));
    let text = |key: &str| row[key].as_str().unwrap().to_owned();
    (text("value"), text("origin"))
}

fn doctor(home: &Home, arguments: &str, environment: &[(&str, &str)]) -> Value {
    let mut command = home.spantap(["doctor", "--json"].into_iter().chain(arguments.split_whitespace()));
    let output = command.envs(environment.iter().copied()).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_flag_wins_over_the_environment_that_over_the_server_section_that_over_the_file() {
    let home = Home::new();
    write_config(
        &home,
        "log_dir = 'from-file'\nslow = '1s'\ncall_timeout = '1s'\n\n[server.github]\nslow = '2s'\ncall_timeout = '2s'\n",
    );
    let report = doctor(&home, "--server github --log-dir from-flag", &[("SPANTAP_SLOW", "3s")]);
    let file = "~/.config/spantap/config.toml";
    assert_eq!(setting(&report, "log_dir"), ("from-flag".to_owned(), "flag".to_owned()));
    assert_eq!(setting(&report, "slow"), ("3s".to_owned(), "SPANTAP_SLOW".to_owned()));
    assert_eq!(setting(&report, "call_timeout"), ("2s".to_owned(), format!("{file}:7")));
    assert_eq!(setting(&report, "overload"), ("lose".to_owned(), "default".to_owned()));
    let report = doctor(&home, "--server other", &[]);
    assert_eq!(setting(&report, "call_timeout"), ("1s".to_owned(), format!("{file}:3")));
}

#[test]
fn every_setting_can_be_said_by_its_variable() {
    let home = Home::new();
    let values = [
        ("server", "s"),
        ("log", "true"),
        ("log_dir", "l"),
        ("max_log_size", "1MiB"),
        ("max_session_size", "2GiB"),
        ("max_total_size", "1GiB"),
        ("log_level", "debug"),
        ("debug_for", "1m"),
        ("session_id", "x"),
        ("user_id", "x"),
        ("origin", "cursor/user"),
        ("record_cwd", "false"),
        ("slow", "1s"),
        ("call_timeout", "1s"),
        ("overload", "wait"),
        ("trace_env", "false"),
        ("session_root", "true"),
        ("propagate", "meta"),
        ("strict", "true"),
        ("args_hash", "sha256"),
        ("hash_key_file", "k"),
        ("thrash.threshold", "7"),
        ("thrash.warn", "4"),
        ("result_limit", "9000"),
        ("denied.codes", "-1,-2"),
        ("denied.words", "no"),
        ("cost.usd_per_million_tokens", "3"),
        ("links.trace", "https://tempo.example/trace/{trace_id}"),
        ("otlp.endpoint", "http://127.0.0.1:9"),
        ("collect.listen", "14318"),
        ("collect.token_file", "t"),
        ("collect.forward", "http://127.0.0.1:9"),
        ("collect.forward_headers", "x-team"),
        ("side", "client"),
    ];
    assert_eq!(
        values.map(|(name, _)| name).as_slice(),
        spantap::settings::DECLARATIONS.iter().map(|setting| setting.name).collect::<Vec<_>>()
    );
    let variable = |name: &str| format!("SPANTAP_{}", name.to_uppercase().replace('.', "_"));
    let names: Vec<String> = values.iter().map(|(name, _)| variable(name)).collect();
    let environment: Vec<(&str, &str)> =
        names.iter().zip(values).map(|(variable, (_, value))| (variable.as_str(), value)).collect();
    let report = doctor(&home, "", &environment);
    for ((name, _), variable) in values.iter().zip(&names) {
        assert_eq!(setting(&report, name).1, *variable, "{name}");
    }
}

#[test]
fn a_log_folder_may_have_a_name_that_is_not_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let home = Home::new();
    for (name, is_flag) in [(&b"flag-\xff"[..], true), (b"variable-\xff", false)] {
        let folder = home.path().join(std::ffi::OsStr::from_bytes(name));
        let mut command = home.spantap(Vec::<&str>::new());
        match is_flag {
            true => command.arg("--log-dir").arg(&folder),
            false => command.env("SPANTAP_LOG_DIR", &folder),
        };
        assert!(command.args(["--", "true"]).output().unwrap().status.success());
        assert_eq!(logs_in(&folder).len(), 1, "{folder:?}");
    }
}

#[test]
fn a_file_of_the_current_folder_steers_nothing() {
    let home = Home::new();
    for name in
        [".spantap.toml", "spantap.toml", "config.toml", ".spantap/config.toml", "spantap/config.toml"]
    {
        let path = home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "log = false\nlog_dir = 'elsewhere'\n[otlp]\nendpoint = 'http://127.0.0.1:9'\n")
            .unwrap();
    }
    let mut session = home.session(&[]);
    session.calls(1);
    wait_until("a log in the usual place", || logs_in(&home.logs()).len() == 1);
    let (_, said) = session.end();
    assert_eq!(said, "");
    assert!(
        doctor(&home, "", &[])["settings"]
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["origin"] == "default" || row["setting"] == "log_dir")
    );
}

#[test]
fn what_cannot_be_used_is_named_with_its_line_and_a_way_out_and_the_rest_counts() {
    let home = Home::new();
    write_config(&home, "slow = 'ghp_secret'\nslwo = '1s'\nthis is not toml\nlog_dir = '~/mine'\n");
    let mut session = home.session(&[]);
    session.calls(1);
    wait_until("a log in the folder of the last line", || logs_in(&home.path().join("mine")).len() == 1);
    let (status, said) = session.end();
    assert!(status.success());
    let lines: Vec<&str> = said.lines().collect();
    let file = home.path().join(".config/spantap/config.toml");
    let line = |number: usize, text: &str| format!("spantap: warning: {}:{number}: {text}", file.display());
    assert_eq!(
        lines,
        [
            line(1, "`slow` is not a duration, for example 30s; ignoring it"),
            line(2, "unknown setting `slwo`; did you mean `slow`?"),
            line(3, "not valid TOML; this line is ignored"),
        ]
    );
    let output = home.spantap(["--strict", "--", "touch", "started"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let said = text(&output).1;
    let refused = format!("error: {}:1: `slow` is not a duration, for example 30s\nhint: ", file.display());
    assert!(said.starts_with(&refused), "{said}");
    assert!(!home.path().join("started").exists());
    let output = Home::new().spantap(["--strict", "--otlp", "ftp://x", "--", "true"]).output().unwrap();
    let said = text(&output).1;
    let refused = "error: the endpoint for traces does not begin with http:// or https://\nhint: ";
    assert!(said.starts_with(refused) && output.status.code() == Some(125), "{said}");
}

#[test]
fn a_value_that_begins_with_a_dash_is_named_as_a_wrong_value() {
    let output = Home::new().spantap(["--slow", "-1s", "--", "true"]).output().unwrap();
    let said = text(&output).1;
    let named = "error: invalid value '-1s' for '--slow <DURATION>': expected a number";
    assert!(said.starts_with(named) && output.status.code() == Some(2), "{said}");
    // A word after `--` is a command, and no value.
    let output = Home::new().spantap(["--thrash", "-- cat"]).output().unwrap();
    assert!(!text(&output).1.contains("use '--"), "{}", text(&output).1);
}

#[test]
fn a_value_of_a_wrong_form_is_named_and_strictness_refuses_it() {
    let home = Home::new();
    let origin = "flag: `origin` is not HOST/SCOPE, each of letters, digits and dashes";
    let notify =
        "config.toml:1: `notify` is not a program, or a list of a program and its arguments, each in quotes";
    for (config, options, says) in [
        ("", &["--origin", "x/../y z"][..], origin),
        ("", &["--origin", "foo"], origin),
        ("", &["--origin", "/user"], origin),
        ("notify = 5\n", &[], notify),
        ("notify = ['notify-send', 5]\n", &[], notify),
        ("notifi = 'desktop'\n", &[], "config.toml:1: unknown setting `notifi`; did you mean `notify`?"),
        ("colour = 1\n", &[], "unknown setting `colour`; `spantap doctor --all` lists the settings"),
        (
            "server = 'x'\n",
            &[],
            "config.toml:1: `server` has no effect: the file is for all servers; name one",
        ),
        (
            "[server]\nlog = false\n",
            &[],
            "config.toml:2: `server.log` has no effect: it names no server; write it",
        ),
        (
            "[server.true]\nserver = 'x'\n",
            &[],
            "config.toml:2: `server` has no effect: the section names the server",
        ),
        (
            "[server.other]\nslwo = '1s'\n",
            &[],
            "config.toml:2: unknown setting `server.other.slwo`; did you mean `slow`?",
        ),
        ("[otlp]\nendpont = 'http://127.0.0.1:9'\n", &[], "config.toml:2: "),
        (
            "[thrash]\ntreshold = 3\n",
            &[],
            "unknown setting `thrash.treshold`; did you mean `thrash.threshold`?",
        ),
    ] {
        write_config(&home, config);
        let run = |first: &[&'static str]| {
            let words = first.iter().chain(options).chain(&["--", "true"]).copied();
            let output = home.spantap(words).output().unwrap();
            (output.status.code(), text(&output).1)
        };
        let (status, said) = run(&[]);
        assert!(status == Some(0) && said.contains(says), "{config} {options:?}: {said}");
        let (status, said) = run(&["--strict"]);
        assert!(status == Some(125) && said.contains(says), "{config} {options:?}: {said}");
    }
    write_config(&home, "notify = ['/bin/true', 'x']\n");
    let output = home.spantap(["--strict", "--origin", "claude-code/user", "--", "true"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output).1.as_str()), (Some(0), ""));
}

#[test]
fn strictness_wants_the_files_of_the_way_to_the_collector() {
    let home = Home::new();
    std::fs::write(home.path().join("empty.pem"), "nothing\n").unwrap();
    for file in ["nowhere.pem", "empty.pem"] {
        let certificate = format!("certificate={}", home.path().join(file).display());
        let options = ["--strict", "--otlp", "https://localhost:9", "--otlp-set", &certificate];
        let output =
            home.spantap(options.iter().copied().chain(["--", "touch", "started"])).output().unwrap();
        let said = text(&output).1;
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(said.contains("export cannot be set up: ") && said.contains(file), "{said}");
        assert!(!home.path().join("started").exists());
    }
}

#[test]
fn a_misspelt_variable_is_named_like_a_misspelt_line() {
    let home = Home::new();
    for (name, meant) in [("SPANTAP_SLWO", "SPANTAP_SLOW?"), ("SPANTAP_NO_LOG", "SPANTAP_LOG=false?")] {
        let output = home.spantap(["--", "true"]).env(name, "1").output().unwrap();
        let said = text(&output).1;
        assert!(said.contains(&format!("{name}: unknown setting; did you mean {meant}")), "{said}");
        let output = home.spantap(["--strict", "--", "true"]).env(name, "1").output().unwrap();
        assert_eq!(output.status.code(), Some(125));
    }
    // A variable of such a name belongs to another program.
    let output = home.spantap(["--strict", "--", "true"]).env("SPANTAP_CI_CACHE", "/x").output().unwrap();
    assert_eq!((output.status.code(), text(&output).1.as_str()), (Some(0), ""));
}

#[test]
fn strictness_wants_a_way_that_can_be_gone() {
    let home = Home::new();
    for options in [&["--otlp", "http://exa mple:4318"][..], &["--otlp", "localhost:4318"]] {
        let words = ["--strict"].iter().chain(options).chain(&["--", "touch", "started"]);
        let output = home.spantap(words.copied()).output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{options:?}: {}", text(&output).1);
        assert!(!home.path().join("started").exists());
    }
}

#[test]
fn the_documented_example_is_a_config_file() {
    let docs =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap();
    let example = docs.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let file = spantap::settings::ConfigFile::parse(Path::new("config.toml"), example);
    let given = spantap::settings::GivenSettings::default();
    let config = spantap::settings::SettingSources::with_file(given, &|_| None, file).settings("github");
    assert!(config.problems.is_empty(), "{:?}", config.problems);
    assert_eq!(config.call_timeout.value, Some(std::time::Duration::from_secs(60)));
    assert!(docs.contains("`.spantap.toml`"));
}

#[test]
fn a_config_file_that_never_ends_does_not_keep_the_server_from_starting() {
    let home = Home::new();
    let folder = home.path().join(".config/spantap");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("config.toml");
    assert!(home.command("mkfifo").arg(&file).status().unwrap().success());
    for what in ["a pipe", "zeros without end"] {
        let output = home.spantap(["--", "echo", "served"]).output().unwrap();
        let (stdout, stderr) = text(&output);
        assert_eq!((stdout.as_str(), output.status.code()), ("served\n", Some(0)), "{what}");
        assert!(stderr.contains("config.toml` cannot be read: it is"), "{what}: {stderr}");
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
    }
}

#[test]
fn a_config_file_that_somebody_named_has_to_be_there() {
    let home = Home::new();
    let output = home.spantap(["--config", "/nowhere.toml", "--", "echo", "served"]).output().unwrap();
    let (stdout, stderr) = text(&output);
    assert_eq!(stdout, "served\n");
    assert!(
        stderr.contains("config file `/nowhere.toml` cannot be read: the file does not exist"),
        "{stderr}"
    );
    let mut strict = home.spantap(["--strict", "--", "echo", "served"]);
    let output = strict.env("SPANTAP_CONFIG", "/nowhere.toml").output().unwrap();
    assert_eq!((text(&output).0.as_str(), output.status.code()), ("", Some(125)));
    let output = home.spantap(["doctor", "--config", "/nowhere.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output).0);
}

#[test]
fn a_bad_entry_of_the_collector_takes_nothing_with_it() {
    let home = Home::new();
    let table =
        "endpoint = 'http://127.0.0.1:9'\nendpiont = 1\ntimeout = '5s'\nlogs = true\nheaders = 'a=b'\n";
    write_config(&home, &format!("[otlp]\n{table}"));
    let output = home.spantap(["--", "true"]).env(FLUSH_BUDGET.0, FLUSH_BUDGET.1).output().unwrap();
    let (_, stderr) = text(&output);
    for said in [
        ":3: `otlp.endpiont` is not an entry; did you mean `endpoint`?",
        ":4: `otlp.timeout` is not a number; ignoring it",
        ":6: `otlp.headers` is not a table of texts; ignoring it",
    ] {
        assert!(stderr.contains(said), "{said}: {stderr}");
    }
    assert!(stderr.contains("at otlp"), "records that could not be sent are counted: {stderr}");
    let flags = ["--otlp-set", "logs=yes", "--otlp-set", "timeout=ghp_secret", "--otlp-set", "gzip"];
    let output = home.spantap(flags.into_iter().chain(["--", "true"])).output().unwrap();
    let (_, stderr) = text(&output);
    for said in [
        "`--otlp-set logs` is not ",
        "`--otlp-set timeout` is not a number",
        "`--otlp-set` expects KEY=VALUE",
    ] {
        assert!(stderr.contains(said), "{said}: {stderr}");
    }
    assert!(!stderr.contains("ghp_secret"), "{stderr}");
}

#[test]
fn a_tool_that_is_called_often_by_its_nature_has_a_threshold_of_its_own() {
    let home = Home::new();
    write_config(&home, "[thrash]\nthreshold = 2\n\n[thrash.tools]\n'git*' = 20\n");
    let call = |id: u32, tool: &str| {
        format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\"params\":{{\"name\":\"{tool}\",\"arguments\":{{}}}}}}\n"
        )
    };
    let calls: String = (0..6).flat_map(|n| [call(2 * n, "git_log"), call(2 * n + 1, "search")]).collect();
    let ended = Run::wrapping_script("cat > /dev/null").home(&home).send(calls).expect_exit(0);
    let records = ended.records();
    let reported = records.iter().filter(|record| record["event"] == "agent_thrashing");
    let tools: BTreeSet<&str> = reported.map(|record| record["tool_name"].as_str().unwrap()).collect();
    assert_eq!(tools, BTreeSet::from(["search"]));
    write_config(&home, "[thrash.tools]\n'git*' = 0\n");
    let ended = Run::wrapping("true").home(&home).expect_exit(0);
    assert!(
        ended.stderr.contains("`thrash.tools` has an entry `git*` that is not a number of calls, from 1"),
        "{}",
        ended.stderr
    );
}

#[test]
fn an_entry_of_a_table_that_cannot_be_used_is_named_and_the_others_count() {
    let home = Home::new();
    write_config(
        &home,
        "[thrash.tools]\n'git*' = 'SECRET'\nsearch = 2\n[cost.models.'gpt*']\ninput = 1.0\noutput = 2.0\ncachd = 0.1\n",
    );
    let call = |id| {
        format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\"params\":{{\"name\":\"search\",\"arguments\":{{}}}}}}\n"
        )
    };
    let calls: String = (0..3).map(call).collect();
    let ended = Run::wrapping_script("cat > /dev/null").home(&home).send(calls).expect_exit(0);
    let said = &ended.stderr;
    assert!(said.contains(":2: `thrash.tools` has an entry `git*` that is not a number of calls"), "{said}");
    assert!(!said.contains("SECRET"), "{said}");
    assert!(ended.records().iter().any(|record| record["event"] == "agent_thrashing"));
    let checked = text(&home.spantap(["doctor"]).output().unwrap());
    let expected = "`cost.models` has an entry `gpt*` that contains something else than input, output, cached, cache_write";
    assert!(checked.0.contains(expected) || checked.1.contains(expected), "{checked:?}");
}

#[test]
fn a_path_with_a_variable_of_another_program_makes_no_folder_and_one_clear_line() {
    for path in ["%HOME%/logs", "`pwd`/logs", "{{HOME}}/logs", "file:///tmp/logs", "<home>/logs"] {
        let home = Home::new();
        write_config(
            &home,
            &format!(
                "log_dir = '{path}'\n[otlp]\nendpoint = 'https://localhost:9'\ncertificate = '{path}'\nmetrics = false\n"
            ),
        );
        let ended = Run::wrapping("cat").home(&home).unhurried().end().expect_exit(0);
        let form = "(only ~ and $HOME at its start are replaced); ignoring it";
        let lines: Vec<&str> = ended.stderr.lines().filter(|line| line.contains(form)).collect();
        assert_eq!(lines.len(), 1, "{path}: {}", ended.stderr);
        assert!(lines[0].contains("`log_dir` is not a folder"), "{lines:?}");
        let off = format!("spans are not sent: failed to read `/{path}`");
        assert!(ended.stderr.contains(&off), "{path}: {}", ended.stderr);
        assert!(!home.records().is_empty(), "{path}: the log is in the usual folder");
        let left: Vec<_> =
            std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| [".config", ".local"].iter().any(|known| name == known)), "{left:?}");
    }
}

#[test]
fn a_relative_home_makes_no_folder() {
    let home = Home::new();
    let ended = Run::wrapping("cat").home(&home).env("HOME", "somewhere").end().expect_exit(0);
    assert!(
        ended.stderr.contains("no log: the home folder is not known; name a folder with --log-dir"),
        "{}",
        ended.stderr
    );
    assert!(!home.path().join("somewhere").exists());
}

#[test]
fn a_config_file_that_is_a_link_to_nothing_is_not_passed_over() {
    let home = Home::new();
    write_config(&home, "");
    let path = home.path().join(".config/spantap/config.toml");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/mnt/dotfiles/config.toml", &path).unwrap();
    let ended = Run::wrapping("cat").home(&home).end().expect_exit(0);
    assert!(
        ended.stderr.contains("it is a link to a file that does not exist; continuing without the file"),
        "{}",
        ended.stderr
    );
    assert_eq!(Run::wrapping("cat").home(&home).options(&["--strict"]).end().status.code(), Some(125));
}
