//! Completion of names in the shells.

use std::fs;

use crate::support::*;
use crate::wrap::put;

/// Returns a home with a session of a server called `notes`, and a host's file.
fn home_with_names() -> Home {
    let home = Home::new();
    let mut session = home.session(&["--server", "notes"]);
    session.calls(3);
    session.end();
    put(
        &home,
        ".cursor/mcp.json",
        r#"{"mcpServers":{"github":{"command":"cat"},"a b$(touch x)":{"command":"cat"}}}"#,
    );
    fs::create_dir(home.path().join("bin")).unwrap();
    std::os::unix::fs::symlink(SPANTAP, home.path().join("bin/spantap")).unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.spantap(["completions", shell]).output().unwrap().stdout;
        fs::write(home.path().join(shell), script).unwrap();
    }
    home
}

/// Runs a line in a shell and returns its words.
fn shell(home: &Home, words: &[&str]) -> Vec<String> {
    let path = format!("{}/bin:{}", home.path().display(), std::env::var("PATH").unwrap());
    let mut command = home.command(words[0]);
    let output = command.args(&words[1..]).env("PATH", path).output().unwrap();
    let (printed, said) = text(&output);
    assert_eq!(said, "", "{words:?}");
    printed.split_whitespace().map(str::to_owned).collect()
}

fn values(home: &Home, kind: &str) -> Vec<String> {
    shell(
        home,
        &["spantap", "completions", "--values", kind]
            .map(|word| if word == "spantap" { SPANTAP } else { word }),
    )
}

#[test]
fn spantap_lists_the_names_that_a_shell_completes_and_none_that_a_shell_would_expand() {
    let home = home_with_names();
    assert_eq!(values(&home, "servers"), ["notes"]);
    assert_eq!(values(&home, "entries"), ["github"], "a name with blanks and a command is left out");
    assert_eq!(values(&home, "tools").len(), 1);
    assert_eq!(values(&home, "sessions").len(), 1);
    let calls = values(&home, "calls");
    assert_eq!((calls.len(), &calls[..2]), (5, &["last".to_owned(), "-1".to_owned()][..]));
    let show = home.spantap(["show", &calls[2]]).output().unwrap();
    assert!(show.status.success(), "{}", text(&show).1);
    assert_eq!(values(&Home::new(), "servers"), [""; 0]);
}

#[test]
fn bash_completes_names_and_options() {
    let home = home_with_names();
    let complete = |line: &str| {
        let script = format!(
            "source ./bash; COMP_WORDS=({line} ''); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _spantap_words spantap '' \"${{COMP_WORDS[COMP_CWORD-1]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        shell(&home, &["bash", "-c", &script])
    };
    assert_eq!(complete("spantap tail --server"), ["notes"]);
    assert_eq!(complete("spantap show")[..2], ["last", "-1"]);
    assert_eq!(complete("spantap wrap"), ["github"]);
    assert_eq!(complete("spantap diff").len(), 1);
    assert_eq!(complete("spantap context"), ["notes"]);
    assert!(complete("spantap").contains(&"doctor".to_owned()));
    assert!(!home.path().join("x").exists());
}

#[test]
fn fish_completes_names() {
    if !can_run(&["fish", "--version"], "completion in fish") {
        return;
    }
    let home = home_with_names();
    let complete =
        |line: &str| shell(&home, &["fish", "-c", &format!("source ./fish; complete -C '{line}'")]);
    assert_eq!(complete("spantap tail --server "), ["notes"]);
    assert!(complete("spantap show ").contains(&"last".to_owned()));
    assert_eq!(complete("spantap wrap g"), ["github"]);
}

#[test]
fn zsh_completes_names() {
    if !can_run(&["zsh", "--version"], "completion in zsh") {
        return;
    }
    let home = home_with_names();
    let script = "autoload -Uz compinit; compinit -D -u; source ./zsh; print $_comps[spantap]; \
                  compadd() { print -rl -- $@ }; _spantap_servers; _spantap_entries";
    assert_eq!(shell(&home, &["zsh", "-fc", script]), ["_spantap", "--", "notes", "--", "github"]);
    let script = fs::read_to_string(home.path().join("zsh")).unwrap();
    for function in ["servers", "tools", "sessions", "calls", "entries"] {
        assert!(script.contains(&format!(":_spantap_{function}'")), "{function}");
    }
    assert!(script.matches(":_spantap_sessions'").count() > script.matches("--session=[").count());
}
