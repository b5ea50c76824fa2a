//! `prune`, `completions`, `man`: maintenance of an installation.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::support::*;

const DAY: Duration = Duration::from_secs(86_400);

/// Makes a log that was last written `days` ago.
fn old_log(folder: &Path, id: u32, days: u32) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    let path = folder.join(format!("fs-2026-01-01-{id:012x}.jsonl"));
    std::fs::write(&path, "{}\n").unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now() - DAY * days).unwrap();
    path
}

#[track_caller]
fn run(home: &Home, arguments: &str) -> String {
    let output = home.spantap(arguments.split_whitespace()).output().unwrap();
    let (printed, said) = text(&output);
    assert!(output.status.success(), "{arguments}: {said}");
    printed
}

#[test]
fn prune_deletes_what_is_older_and_nothing_else() {
    let home = Home::new();
    let logs = [40, 31, 29, 0].map(|days| old_log(&home.logs(), days, days));
    std::fs::write(home.logs().join("notes.txt"), "mine").unwrap();

    let printed = run(&home, "prune --older-than 30d --dry-run");
    assert!(printed.ends_with("would delete 2 files, 6 B; kept 2\n"), "{printed}");
    assert!(logs.iter().all(|log| log.exists()));

    let printed = run(&home, "prune --older-than 30d");
    let expected: Vec<String> = logs[..2].iter().map(|log| log.display().to_string()).collect();
    assert_eq!(printed, format!("{}\ndeleted 2 files, 6 B; kept 2\n", expected.join("\n")));
    assert_eq!([true, true, false, false], logs.map(|log| !log.exists()));
    assert!(home.logs().join("notes.txt").exists());
    assert_eq!(run(&home, "prune --older-than 30d"), "deleted 0 files, 0 B; kept 2\n");
}

#[test]
fn prune_leaves_a_log_alone_that_a_session_writes_to() {
    let home = Home::new();
    let mut session = home.session(&[]);
    session.calls(1);
    wait_until("a log", || !logs_in(&home.logs()).is_empty());
    let log = logs_in(&home.logs()).remove(0);
    let printed = run(&home, "prune --older-than 0s");
    assert_eq!(printed, "deleted 0 files, 0 B; kept 1, 1 of them old but in use\n");
    session.end();
    assert!(!validate_log(&log).is_empty());
    run(&home, "prune --older-than 0s");
    assert!(!log.exists());
}

#[test]
fn prune_looks_where_it_is_told_and_never_guesses_an_age() {
    let home = Home::new();
    let here = old_log(&home.path().join("here"), 1, 9);
    let there = old_log(&home.path().join("there"), 1, 9);
    std::fs::create_dir_all(home.path().join(".config/spantap")).unwrap();
    let config = home.path().join(".config/spantap/config.toml");
    std::fs::write(config, "log_dir = '~/here'\n").unwrap();
    run(&home, "prune --older-than 1d --log-dir there");
    assert!(here.exists() && !there.exists());
    run(&home, "prune --older-than 1d");
    assert!(!here.exists());

    let output = home.spantap(["prune"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(run(&Home::new(), "prune --older-than 1d"), "deleted 0 files, 0 B; kept 0\n");
}

#[test]
fn max_total_size_deletes_the_oldest_logs_at_the_start_of_a_session() {
    let home = Home::new();
    let logs = [9, 5, 2].map(|days| old_log(&home.logs(), days, days));
    std::fs::create_dir_all(home.path().join(".config/spantap")).unwrap();
    std::fs::write(home.path().join(".config/spantap/config.toml"), "max_total_size = '7'\n").unwrap();
    let mut session = home.session(&[]);
    session.calls(1);
    wait_until("the oldest log is gone", || !logs[0].exists());
    let (_, said) = session.end();
    assert_eq!(said, "");
    assert_eq!([false, true, true], logs.map(|log| log.exists()));
}

#[test]
fn a_completion_script_knows_the_commands_for_each_shell() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&home, &format!("completions {shell}"));
        for word in ["prune", "older-than", "thrash-threshold"] {
            assert!(script.contains(word), "{word} for {shell}");
        }
    }
    if cfg!(unix) {
        let script = run(&home, "completions bash");
        let mut bash = home.command("bash");
        assert!(bash.args(["-n", "-c", &script]).status().unwrap().success());
    }
}

#[test]
fn the_manual_has_a_page_for_the_program_and_for_each_command() {
    let home = Home::new();
    let page = run(&home, "man");
    assert!(page.contains(".TH spantap 1"), "{page}");
    assert!(page.contains("prune"), "{page}");
    let page = run(&home, "man prune");
    assert!(page.contains("older\\-than"), "{page}");
    let output = home.spantap(["man", "nothing"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output).1,
        "error: unknown command `nothing`\nhint: `spantap help` lists the commands\n"
    );
}
