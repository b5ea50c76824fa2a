//! Help and manual pages: groups, examples that work, one text for one option.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;

use spantap::cli::Cli;
use spantap::cli::help::{Example, GROUPS};

use crate::support::*;
use crate::wrap::put;

/// Options that are not the same in all commands, as each command's subject is not.
const OWN_MEANING: &[&str] =
    &["all", "dry-run", "force", "json", "limit", "lint", "output", "rules", "server", "sort", "strict"];

fn help(command: &str) -> String {
    let home = Home::new();
    let words: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
    text(&home.spantap(words).env("COLUMNS", "80").output().unwrap()).0
}

fn examples() -> impl Iterator<Item = (&'static str, &'static Example)> {
    let commands = GROUPS.iter().flat_map(|(_, commands)| *commands);
    let exists = |name: &str| Cli::whole().find_subcommand(name).is_some();
    let commands = commands.filter(move |command| exists(command.name));
    commands.flat_map(|command| command.examples.iter().map(|example| (command.name, example)))
}

#[test]
fn every_command_is_in_a_group_and_has_two_examples_at_least() {
    let whole = Cli::whole();
    let commands: BTreeSet<&str> = whole.get_subcommands().map(clap::Command::get_name).collect();
    assert!(commands.len() <= 28, "{commands:?}");
    let shown = help("");
    for command in commands {
        let count = examples().filter(|(name, _)| *name == command).count();
        assert!(count >= 2, "{command} has {count} examples in src/cli/help.rs");
        assert_eq!(shown.lines().filter(|line| line.starts_with(&format!("  {command} "))).count(), 1);
        let help = help(command);
        assert!(help.contains("\nExamples:\n"), "{help}");
        assert_eq!(help.matches("\nExit status").count(), 1, "{help}");
    }
    let groups: Vec<&str> = GROUPS.iter().map(|(title, _)| *title).collect();
    let lines: Vec<&str> = shown.lines().filter_map(|line| line.strip_suffix(':')).collect();
    assert!(lines.starts_with(&groups), "{shown}");
}

#[test]
fn one_option_has_one_text() {
    let whole = Cli::whole();
    let mut texts: BTreeMap<String, BTreeMap<String, Vec<&str>>> = BTreeMap::new();
    for command in whole.get_subcommands() {
        for option in command.get_opts() {
            let Some(name) = option.get_long() else { continue };
            // The default differs with the command, and a warning may follow.
            let help = option.get_help().map(ToString::to_string).unwrap_or_default();
            let help = help.split(" [default").next().unwrap().split(". ").next().unwrap().to_owned();
            texts.entry(name.to_owned()).or_default().entry(help).or_default().push(command.get_name());
        }
    }
    texts.retain(|name, texts| texts.len() > 1 && !OWN_MEANING.contains(&name.as_str()));
    // The folder of the demo is not that of the session logs.
    let demo = texts.get_mut("log-dir").unwrap();
    demo.retain(|_, commands| commands != &["demo"]);
    texts.retain(|_, texts| texts.len() > 1);
    assert!(texts.is_empty(), "{texts:#?}");
    // One letter has one meaning: a number.
    for command in whole.get_subcommands() {
        let number = command.get_opts().find(|option| option.get_short() == Some('n'));
        assert!(number.is_none_or(|option| option.get_action().takes_values()), "{}", command.get_name());
    }
}

/// Returns a home with a recorded session and a host's file.
fn home_with_everything() -> Home {
    let home = Home::new();
    let logs = home.path().join(".local/state/spantap/sessions");
    assert!(home.spantap(["demo", "--log-dir", logs.to_str().unwrap()]).output().unwrap().status.success());
    let server =
        serde_json::json!({"mcpServers": {"github": {"command": SPANTAP, "args": ["demo", "--serve"]}}});
    put(&home, ".cursor/mcp.json", server.to_string());
    fs::create_dir(home.path().join("bin")).unwrap();
    std::os::unix::fs::symlink(SPANTAP, home.path().join("bin/spantap")).unwrap();
    home
}

#[test]
fn every_example_works() {
    let home = home_with_everything();
    for (command, example) in examples() {
        assert!(example.line.contains("spantap"), "{}", example.line);
        if example.is_run {
            let path = format!("{}/bin:{}", home.path().display(), std::env::var("PATH").unwrap());
            let mut shell = home.command("bash");
            shell.args(["-c", example.line]).env("PATH", path).env(FLUSH_BUDGET.0, FLUSH_BUDGET.1);
            let output = shell.stdin(Stdio::null()).output().unwrap();
            let (printed, said) = text(&output);
            assert!(output.status.success(), "{}: {printed}{said}", example.line);
            continue;
        }
        let words = example.line.split_whitespace().skip_while(|word| !word.ends_with("spantap"));
        let words: Vec<&str> = words.take_while(|word| !matches!(*word, "|" | ">")).collect();
        let words = words.iter().map(|word| word.trim_matches(['\'', ')', '(', '<']));
        let parsed = Cli::whole().try_get_matches_from(words);
        let parsed = parsed.unwrap_or_else(|error| panic!("{}: {error}", example.line));
        assert_eq!(parsed.subcommand_name(), Some(command), "{}", example.line);
    }
}

#[test]
fn a_manual_page_has_examples_files_environment_and_exit_status() {
    let home = Home::new();
    for command in ["", "tail", "wrap", "run", "check", "status"] {
        let output = home.spantap(["man", command].into_iter().filter(|word| !word.is_empty())).output();
        let page = text(&output.unwrap()).0;
        let sections = ["EXAMPLES", "FILES", "ENVIRONMENT", "\"EXIT STATUS\""];
        let places: Vec<_> = sections.iter().map(|title| page.find(&format!("\n.SH {title}\n"))).collect();
        assert!(places.is_sorted() && places.iter().all(Option::is_some), "{command}: {places:?}\n{page}");
    }
    let page = |command: &str| text(&home.spantap(["man", command]).output().unwrap()).0;
    assert!(page("tail").contains("SPANTAP_PAGER") && !page("wrap").contains("SPANTAP_PAGER"));
    assert!(page("run").contains("125 if spantap failed"));
    for entry in ["thrash.threshold", "record_cwd", "[redaction]", "client_certificate"] {
        assert!(page("run").replace("\\-", "-").contains(entry), "{entry}");
    }
    assert!(page("run").contains("SPANTAP_CALL_TIMEOUT"), "{}", page("run"));
}

#[test]
fn the_old_spelling_of_an_option_still_works_and_a_wrong_word_leads_to_the_right_one() {
    let home = home_with_everything();
    let run = |words: &str| home.spantap(words.split_whitespace()).stdin(Stdio::null()).output().unwrap();
    for words in ["wrap -n", "unwrap -n", "prune --older-than 9d -n", "stats --by server,tool"] {
        assert!(run(words).status.success(), "{words}");
    }
    assert!(!help("wrap").contains("-n,") && help("tail").contains("-n, --limit <N>"));
    assert!(text(&run("version")).1.contains("hint: did you mean `spantap --version`?"));
}
