//! The screen of `wrap`: a table, then one question.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::Stdio;

use serde_json::json;

use crate::support::*;
use crate::wrap::{printed, put};

/// Two files with four servers.
fn home_with_servers() -> Home {
    let home = Home::new();
    let words =
        ["--token-file", "/a/very/long/path/of/a/file", "a second word", "and/a/third/one/that/is/long"];
    let servers =
        json!({"git": {"command": "uvx", "args": words}, "far": {"url": "https://mcp.example.com"}});
    put(&home, ".cursor/mcp.json", serde_json::to_string_pretty(&json!({"mcpServers": servers})).unwrap());
    let servers = json!({"memory": {"command": "cat"}, "time": {"command": "cat", "disabled": true}});
    put(&home, ".gemini/settings.json", json!({"mcpServers": servers}).to_string());
    home
}

/// Runs `wrap` on a terminal and gives it these lines. Returns its output.
fn answered(home: &Home, lines: &str) -> String {
    let (master, screen) = terminal();
    let (mut keyboard, mut screen_reader) = (File::from(master.try_clone().unwrap()), File::from(master));
    let mut command = home.spantap(["wrap", "--color", "always"]);
    command.env("COLUMNS", "80").env("LANG", "C.UTF-8");
    command.stdin(screen).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    drop(command);
    keyboard.write_all(lines.as_bytes()).unwrap();
    let reader = std::thread::spawn(move || screen_reader.read_to_end(&mut Vec::new()));
    let (printed, said) = text(&child.wait_with_output().unwrap());
    let _ = reader.join();
    assert_eq!(said, "");
    printed
}

#[test]
fn wrap_begins_with_a_count_and_a_line_for_each_server() {
    let home = home_with_servers();
    let shown = printed(&home, "wrap -n");
    let table: Vec<String> =
        shown.lines().take(6).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        table,
        [
            "4 servers in 2 files: wrap 3, remote 1",
            "HOST SERVER CHANGE FILE",
            "Cursor git wrap ~/.cursor/mcp.json",
            "Cursor far remote ~/.cursor/mcp.json",
            "Gemini CLI memory wrap ~/.gemini/settings.json",
            "Gemini CLI time (disabled) wrap ~/.gemini/settings.json",
        ]
    );
    assert!(shown.contains("\nfar: left alone: remote; to watch it, "), "{shown}");
}

#[test]
fn the_question_has_the_number_and_the_user_sees_the_diff_and_picks_servers_first() {
    let home = home_with_servers();
    let before = fs::read_to_string(home.path().join(".cursor/mcp.json")).unwrap();
    let words: Vec<String> = printed(&home, "wrap -n").split_whitespace().map(str::to_owned).collect();
    let shown = answered(&home, "d\nx\ns\n7\ns\n2-3\ny\n");
    let plain = anstream::adapter::strip_str(&shown).to_string();
    for part in [
        "\nWrap 3 servers? [y]es [d]iff [s]elect [n]o ",
        "answer y, d, s or n",
        "Numbers of servers, 1 to 3",
        "`7` is not a number from 1 to 3",
        "2 servers in 1 file: wrap 2\n",
        "\nWrap 2 servers? [y]es",
        "Gemini CLI: 2 servers changed.",
    ] {
        assert!(plain.contains(part), "{part}: {plain}");
    }
    assert!(shown.contains("\u{1b}[31m-") && shown.contains("\u{1b}[32m+"), "{shown:?}");
    assert_eq!(fs::read_to_string(home.path().join(".cursor/mcp.json")).unwrap(), before);
    assert_eq!(
        fs::read_to_string(home.path().join(".gemini/settings.json")).unwrap().matches("--wrapped").count(),
        2
    );
    // A line of the diff is broken between words.
    for line in plain.lines().filter(|line| line.contains("path/of/a/file") || line.contains("--wrapped")) {
        assert!(line.split_whitespace().all(|word| words.contains(&word.to_owned())), "{line}");
    }
    assert!(
        plain.lines().filter(|line| line.starts_with('+')).all(|line| line.chars().count() <= 80),
        "{plain}"
    );
}

#[test]
fn no_answer_and_n_change_nothing() {
    let home = home_with_servers();
    for lines in ["n\n", "\n", "d\nno\n", "\u{4}"] {
        assert!(answered(&home, lines).ends_with("nothing was changed\n"), "{lines:?}");
    }
    assert!(!printed(&home, "status --json").contains("\"yes\""));
}

/// The value of a variable comes from the environment of the host, so the word after its name is not a secret.
#[test]
fn the_diff_redacts_the_words_of_a_command_as_the_log_does() {
    let home = Home::new();
    let servers = r#"{"mcpServers": { // password: s3cret-three
        "github": {"command": "docker", "args": ["-e", "GITHUB_TOKEN", "ghcr.io/github/github-mcp-server"]},
        "x": {"command": "x", "args": ["--api-key", "s3cret-one", "https://ann:s3cret-two@example.com"]}}}"#;
    put(&home, ".cursor/mcp.json", servers);
    for options in ["wrap -n", "wrap -n --json"] {
        let shown = printed(&home, options);
        assert!(shown.contains("ghcr.io/github/github-mcp-server"), "{shown}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
