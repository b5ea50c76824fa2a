//! Records of agents: every command that reads sessions, servers or calls passes over them.

use std::path::{Path, PathBuf};

use crate::support::*;

fn session() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/agents/session")
}

#[test]
fn the_made_session_is_of_the_contract() {
    for path in logs_in(&session()) {
        assert!(!validate_log(&path).is_empty());
    }
}

#[test]
fn a_log_of_the_collector_changes_no_answer_about_sessions_servers_and_calls() {
    let commands: &[&[&str]] = &[
        &["tail", "-n", "50"],
        &["tail", "--json"],
        &["sessions"],
        &["sessions", "--json"],
        &["stats"],
        &["stats", "--by", "session", "--json"],
        &["stats", "--by", "error"],
        &["show"],
        &["show", "last", "--json"],
        &["why"],
        &["why", "--json"],
        &["context"],
        &["context", "--history", "files/list_directory"],
        &["gate", "--max-errors", "0"],
        &["diff", "last", "last"],
        &["top", "--once"],
        &["status"],
    ];
    let home = Home::new();
    std::fs::create_dir_all(home.logs()).unwrap();
    let answers = || -> Vec<String> {
        let run = |arguments: &&[&str]| {
            let output = home.spantap(arguments.iter().copied()).env("COLUMNS", "120").output().unwrap();
            let (printed, said) = text(&output);
            // The first line of `top` has the time.
            let printed = printed
                .split_once('\n')
                .filter(|_| arguments[0] == "top")
                .map_or(&*printed, |(_, rest)| rest);
            format!("{}\n{printed}{said}", output.status)
        };
        commands.iter().map(run).collect()
    };
    let (mut of_agents, mut of_servers) = (Vec::new(), Vec::new());
    for path in logs_in(&session()) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let list = if name.starts_with("collect-") { &mut of_agents } else { &mut of_servers };
        list.push((home.logs().join(name), path));
    }
    let copy = |files: &[(PathBuf, PathBuf)]| {
        for (to, from) in files {
            std::fs::copy(from, to).unwrap();
        }
    };
    copy(&of_servers);
    let before = answers();
    assert!(before[1].contains("read_text_file"), "{}", before[1]);
    copy(&of_agents);
    for ((arguments, before), after) in commands.iter().zip(before).zip(answers()) {
        assert_eq!(after, before, "{arguments:?}");
    }
}
