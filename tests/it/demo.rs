//! `demo` shows the product and leaves nothing behind.

use std::fs;
use std::path::Path;

use crate::support::*;

/// Runs the demo in a home with its own temporary folder, at 80 columns.
fn demo(home: &Home, words: &str) -> String {
    fs::create_dir_all(home.path().join("tmp")).unwrap();
    let mut command = home.spantap(["demo"].into_iter().chain(words.split_whitespace()));
    // Windows has the second variable.
    for name in ["TMPDIR", "TMP"] {
        command.env(name, home.path().join("tmp"));
    }
    command.env("COLUMNS", "80");
    let output = command.output().unwrap();
    let (printed, said) = text(&output);
    assert!(output.status.success(), "{printed}{said}");
    printed
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_demo_leaves_nothing_behind_and_breaks_no_line() {
    let home = Home::new();
    let shown = demo(&home, "");
    assert_eq!(names(home.path()), ["tmp"]);
    assert_eq!(names(&home.path().join("tmp")), [""; 0]);
    assert!(
        shown.contains("create_issue") && shown.contains("  spantap demo --log-dir demo-logs\n"),
        "{shown}"
    );
    // The commands that it prints work, in this order.
    let commands = shown.lines().filter_map(|line| line.trim().strip_prefix("spantap "));
    for command in commands.filter(|command| command.contains("demo-logs") && !command.contains("--open")) {
        let output = home.spantap(command.split_whitespace()).output().unwrap();
        assert!(output.status.success() && text(&output).0.contains("create_issue"), "{command}");
    }
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
}

/// Returns the words of a line of `tail`, and its handle without the connection, without times.
fn words(line: &str) -> Vec<&str> {
    let all: Vec<&str> = line.split_whitespace().collect();
    let is_time = |at: usize| {
        all[at].contains(':') && all[at].starts_with(|c: char| c.is_ascii_digit())
            || all.get(at + 1).is_some_and(|unit| unit.starts_with("ms") || *unit == "s")
    };
    let kept = (0..all.len()).filter(|at| !is_time(*at));
    kept.map(|at| if at == 0 { all[0].rsplit('.').next().unwrap() } else { all[at] }).collect()
}

#[test]
fn the_readme_shows_lines_that_the_demo_prints() {
    let readme = fs::read_to_string("README.md").unwrap();
    let block = readme.split("A scripted client made ").nth(1).unwrap().split("```").next().unwrap();
    let output = Home::new().spantap(["demo"]).env("COLUMNS", "200").output().unwrap();
    let printed = text(&output).0;
    let lines: Vec<&str> = block.lines().filter(|line| line.contains("  sample  ")).collect();
    assert!(lines.len() > 5, "{block}");
    for line in lines {
        assert!(printed.lines().any(|shown| words(shown) == words(line)), "{line}\n{printed}");
    }
    // Each line that is left out is marked.
    let mut shown = printed.lines().filter(|line| line.contains("  sample  "));
    let mut is_marked = false;
    for line in block.lines().filter(|line| *line == "…" || line.contains("  sample  ")) {
        if line == "…" {
            is_marked = true;
            continue;
        }
        let left_out = shown.by_ref().take_while(|shown| words(shown) != words(line)).count();
        assert_eq!(left_out > 0, std::mem::take(&mut is_marked), "{left_out} lines before {line}");
    }
    assert_eq!(shown.count() > 0, is_marked, "the rest");
}

#[test]
fn the_demo_keeps_the_log_where_it_is_asked_to() {
    let home = Home::new();
    for (words, folder) in [("--keep", "tmp"), ("--log-dir logs", ".")] {
        let shown = demo(&home, words);
        let log = shown.lines().find(|line| line.ends_with(".jsonl")).unwrap().trim();
        assert!(home.path().join(log).is_file(), "{shown}");
        assert_eq!(names(&home.path().join(folder)).len(), if folder == "." { 2 } else { 1 }, "{words}");
        let option = shown.lines().find_map(|line| line.split_once("spantap stats --log-dir ")).unwrap().1;
        let folder = option.split_whitespace().next().unwrap();
        assert!(
            text(&home.spantap(["stats", "--log-dir", folder]).output().unwrap()).0.contains("create_issue")
        );
    }
    assert!(!home.path().join(".local").exists());
}
