//! The command line answers as documented.

#[test]
fn help_names_every_command() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_spantap")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for command in ["run", "wrap", "unwrap", "status", "tail", "sessions", "show", "stats", "report"] {
        assert!(help.contains(command), "{command} in\n{help}");
    }
}

#[test]
fn a_mistyped_command_starts_no_program_and_says_how_one_would_be_started() {
    let output =
        std::process::Command::new(env!("CARGO_BIN_EXE_spantap")).args(["touch", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("hint: to watch a program, put `--` before its command: spantap -- touch"),
        "{stderr}"
    );
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_spantap")).arg("stat").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("hint: did you mean `spantap stats`?"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn the_long_form_starts_the_same_program_with_and_without_dashes() {
    let home = crate::support::Home::new();
    for words in [
        &["--server", "x", "--", "printf", "%s-", "a", "--server", "b"][..],
        &["run", "--server", "x", "--", "printf", "%s-", "a", "--server", "b"],
        &["run", "--server", "x", "printf", "%s-", "a", "--server", "b"],
        &["run", "--wrapped", "1:0", "--strict", "printf", "%s-", "a", "--server", "b"],
    ] {
        let output = home.spantap(words.iter().copied()).output().unwrap();
        let (printed, said) = crate::support::text(&output);
        assert_eq!((printed.as_str(), said.as_str()), ("a---server-b-", ""), "{words:?}");
    }
    for words in [&["run"][..], &["--server", "x"], &["run", "--no-such", "x"]] {
        let output = home.spantap(words.iter().copied()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
    }
    let output = home.spantap(["run", "--help"]).output().unwrap();
    let (help, _) = crate::support::text(&output);
    assert!(help.contains("Usage: spantap run [OPTIONS]") && help.contains("[COMMAND]..."), "{help}");
}

#[cfg(unix)]
#[test]
fn an_argument_that_is_no_text_is_refused_like_another() {
    use std::os::unix::ffi::OsStrExt;
    let home = crate::support::Home::new();
    let word = std::ffi::OsStr::from_bytes(b"\xff");
    let output = home.spantap([]).arg(word).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", crate::support::text(&output).1);
}

#[test]
fn work_is_done_whole_whoever_reads_of_it() {
    let home = crate::support::Home::new();
    let logs = home.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    for number in 0..20 {
        let name = format!("a-2020-01-01-{number:012x}.jsonl");
        let file = std::fs::File::create(logs.join(name)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut prune = home.spantap(["prune", "--older-than", "30d", "--log-dir", logs.to_str().unwrap()]);
    assert!(prune.stdout(writer).status().unwrap().success());
    assert_eq!(std::fs::read_dir(&logs).unwrap().count(), 0);
    let mut typo = home.spantap(["prune", "--older-than", "30d"]);
    assert_eq!(typo.env("SPANTAP_CONFIG", "/nowhere.toml").status().unwrap().code(), Some(1));
}

#[test]
fn nobody_reading_makes_no_good_verdict_and_no_failure_of_anything_else() {
    let home = crate::support::Home::new();
    let leaky = home.path().join("leaky.jsonl");
    std::fs::write(&leaky, "ghp_EXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLE1\n").unwrap();
    let unlogged = home.path().join("clean.jsonl");
    std::fs::write(&unlogged, "nothing\n").unwrap();
    for (arguments, status) in [
        (vec!["redact", "--check", leaky.to_str().unwrap()], 1),
        (vec!["redact", "--check", unlogged.to_str().unwrap()], 1),
        (vec!["redact", "--check", "/nowhere.jsonl"], 2),
        (vec!["redact", "--rules"], 0),
        (vec!["schema"], 0),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status_seen = home.spantap(arguments.iter().copied()).stdout(writer).status().unwrap();
        assert_eq!(status_seen.code(), Some(status), "{arguments:?}");
    }
}
