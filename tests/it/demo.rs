//! `demo` shows the product and leaves nothing behind.

use std::fs;
use std::path::Path;

use crate::support::*;

/// Runs the demo in a home with its own temporary folder, at 80 columns.
fn demo(home: &Home, words: &str) -> String {
    fs::create_dir_all(home.path().join("tmp")).unwrap();
    let mut command = home.spantap(["demo"].into_iter().chain(words.split_whitespace()));
    command.env("TMPDIR", home.path().join("tmp")).env("COLUMNS", "80");
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
    assert!(shown.contains("create_issue") && shown.contains("`spantap demo --keep` keeps it"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
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
