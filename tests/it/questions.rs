//! The ten questions with which `docs/looking.md` begins, asked on a terminal: one command answers each.

use serde_json::json;

use crate::support::run::Run;
use crate::support::screen::Screen;
use crate::support::*;

/// A question of the page, the call X that it is about, what is typed after the command of the page, and words that
/// the answer contains. Commands without a log read the sessions of the test.
type Question = (&'static str, &'static str, &'static str, &'static [&'static str]);

const QUESTIONS: [Question; 10] = [
    ("why was the agent slow", "", "fixtures/why/slow-tool", &["took 4.10 s, much more than usual"]),
    (
        "which tool fails most",
        "",
        FROM_SERVERS,
        &["read_text_file", "ENOENT: no such file", "9 failures, 2 denials"],
    ),
    ("did it loop?", "", "fixtures/why/loop", &["12 times with the same arguments", "no progress"]),
    ("what did the model see in call X?", "-1", "", &["#12 the build is red", "the chain"]),
    (
        "what did it cost?",
        "",
        "fixtures/context",
        &["A turn pays ~2.6k tokens", "files: 11 of 14 tools never called"],
    ),
    ("which server died or did not start", "", "fixtures/why/died", &["Error: connect ECONNREFUSED"]),
    ("what has changed since yesterday?", "", DAYS, &["slower        search_issues on github", "old_search"]),
    ("is everything healthy right now?", "", "", &["mcp ✖db"]),
    ("what is the trace of this call", "44677d.12", FROM_SERVERS, &["trace          b2715945795e82"]),
    ("which session was that?", "", FROM_SERVERS, &["example-agent", "everything died of SIGSEGV"]),
];
const FROM_SERVERS: &str = "--log-dir fixtures/logs --since 2026-11-24";
const DAYS: &str = "--log-dir fixtures/days/ordinary";

/// Returns the questions of the page, each with the first command of its answer.
fn page() -> Vec<(&'static str, &'static str)> {
    let lines = include_str!("../../docs/looking.md").lines();
    let rows = lines.skip_while(|line| !line.starts_with("| question")).skip(2);
    let row = |line: &'static str| line.strip_prefix("| ")?.split_once(" | `");
    rows.map_while(row).map(|(question, answer)| (question, answer.split('`').next().unwrap())).collect()
}

#[test]
fn each_of_the_ten_questions_is_answered_by_one_command() {
    let page = page();
    assert_eq!(page.len(), QUESTIONS.len());
    let home = Home::new();
    let Some(screen) = Screen::new(&home, 200, 60) else { return };
    let mut session = home.session(&["--log-level", "debug"]);
    session.request("initialize", json!({}));
    session.calls(2);
    session.end();
    let dies = Run::wrapping_script("read line; exit 3").home(&home).options(&["--server", "db"]);
    let mut session = dies.unhurried().start();
    session.send(&json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}));
    session.read_to_end();
    assert_eq!(session.end().0.code(), Some(3));
    screen.run(&format!("cd {}; spantap() {{ {SPANTAP} \"$@\"; }}", env!("CARGO_MANIFEST_DIR")), "ready>");
    for (number, (question, command)) in page.into_iter().enumerate() {
        let (begin, call, options, words) = QUESTIONS[number];
        assert!(question.starts_with(begin), "{question}");
        // The logs of the fixtures are older.
        let command =
            command.replace(" X", &format!(" {call}")).replace("yesterday today", "2026-11-26 2026-11-27");
        screen.run(&format!("clear; {command} {options}; echo end''ed {number}"), &format!("ended {number}"));
        let answer = screen.text();
        words.iter().for_each(|word| assert!(answer.contains(word), "{question} {word}:\n{answer}"));
    }
}

#[test]
fn a_call_that_hangs_is_named_while_it_hangs() {
    let home = Home::new();
    let Some(screen) = Screen::new(&home, 80, 24) else { return };
    let session = hang(&home, "db", "slow_query");
    for (number, command) in ["why", "sessions", "top --once"].into_iter().enumerate() {
        let asks = format!("until {SPANTAP} {command} | grep -m1 slow''_query; do :; done");
        screen.run(&format!("clear; {asks}; echo na''med {number}"), &format!("named {number}"));
    }
    screen.run("clear; echo cl''eared", "cleared");
    screen.run(&format!("{SPANTAP} tail -f"), "slow_query");
    session.end();
}
