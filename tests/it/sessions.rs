//! Sessions of every MCP revision, and without one, with their records.
//!
//! A folder of `fixtures/sessions` contains the lines of each side, `client.jsonl` and `server.jsonl`, and
//! their order in `order`:
//!
//! ```text
//! >  <      the next line of client.jsonl, of server.jsonl; 1 ms later than what came before
//! x> x<     that line was relayed and not observed
//! +500ms    time passes (also s, m, h)
//! debug     from the start, at debug level
//! exits 0   died 9   how it ends: the exit code, or the signal
//! ```
//!
//! `UPDATE_FIXTURES=1 cargo test --test it sessions` writes the expected `records.jsonl` anew. Read the
//! result.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;
use spantap::observe::Debug;
use spantap::observe::event::EndReason;
use spantap::relay::chunk::Stream;

use crate::replay::{CLIENT, Player, SERVER, check_books, settings};
use crate::support::validate_line;

enum Step {
    Send(Stream, Vec<u8>),
    Lose(Stream, Vec<u8>),
    Wait(Duration),
}

struct Recorded {
    name: String,
    folder: PathBuf,
    steps: Vec<Step>,
    debug: bool,
    end: (EndReason, Option<i32>, Option<i32>),
}

fn recorded() -> Vec<Recorded> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sessions");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders.into_iter().map(Recorded::read).collect()
}

impl Recorded {
    fn read(folder: PathBuf) -> Recorded {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let lines = |file: &str| -> Vec<Vec<u8>> {
            let bytes = fs::read(folder.join(file)).unwrap_or_default();
            bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
        };
        let (mut client, mut server) = (lines("client.jsonl").into_iter(), lines("server.jsonl").into_iter());
        let order = fs::read_to_string(folder.join("order")).unwrap();
        let mut words = order.split_whitespace();
        let (mut steps, mut debug, mut end) = (Vec::new(), false, None);
        while let Some(word) = words.next() {
            let mut client = || client.next().unwrap_or_else(|| panic!("{name}: the client has no more"));
            let mut server = || server.next().unwrap_or_else(|| panic!("{name}: the server has no more"));
            let mut number = || words.next().and_then(|word| word.parse().ok());
            match word {
                ">" => steps.push(Step::Send(CLIENT, client())),
                "<" => steps.push(Step::Send(SERVER, server())),
                "x>" => steps.push(Step::Lose(CLIENT, client())),
                "x<" => steps.push(Step::Lose(SERVER, server())),
                "debug" => debug = true,
                "exits" => end = Some((EndReason::ServerExited, number(), None)),
                "died" => end = Some((EndReason::ServerDied, None, number())),
                time => steps.push(Step::Wait(duration(time))),
            }
        }
        assert!(
            client.next().is_none() && server.next().is_none(),
            "{name}: the order ends before the lines"
        );
        let end = end.unwrap_or_else(|| panic!("{name} has no end"));
        Recorded { name, folder, steps, debug, end }
    }

    fn player(&self) -> Player {
        let mut settings = settings();
        if self.debug {
            settings.debug = Debug::On;
        }
        Player::with(settings)
    }

    /// Plays the session with each line cut into pieces. `cut` gets the length of a line and returns the end
    /// of its first piece.
    fn play(&self, mut cut: impl FnMut(usize) -> usize) -> Vec<Value> {
        let mut player = self.player();
        for step in &self.steps {
            match step {
                Step::Send(stream, line) => {
                    let mut rest = line.as_slice();
                    player.send(*stream, b"");
                    while !rest.is_empty() {
                        let (piece, behind) = rest.split_at(cut(rest.len()).clamp(1, rest.len()));
                        player.send_now(*stream, piece);
                        rest = behind;
                    }
                }
                Step::Lose(stream, line) => player.lose(*stream, line),
                Step::Wait(duration) => player.wait(*duration),
            }
        }
        let (reason, exit_code, signal) = self.end;
        player.end_with(reason, exit_code, signal)
    }
}

fn duration(text: &str) -> Duration {
    let text = text.strip_prefix('+').unwrap_or_else(|| panic!("`{text}` is not a step"));
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap();
    let number: u64 = text[..unit].parse().unwrap();
    match &text[unit..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(60 * number),
        "h" => Duration::from_secs(3600 * number),
        other => panic!("`{other}` is not a unit"),
    }
}

#[test]
fn every_session_gives_the_records_that_were_read_and_found_right() {
    let sessions = recorded();
    assert!(sessions.len() >= 12, "the corpus is there");
    for session in sessions {
        let records = session.play(|length| length);
        let mut text = String::new();
        records.iter().for_each(|record| writeln!(text, "{record}").unwrap());
        let path = session.folder.join("records.jsonl");
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        for (line, expected) in text.lines().zip(expected.lines()) {
            assert_eq!(line, expected, "{}", session.name);
        }
        assert_eq!(text.lines().count(), expected.lines().count(), "{}", session.name);
    }
}

#[test]
fn the_books_of_every_session_balance() {
    for session in recorded() {
        check_books(&session.play(|length| length));
    }
}

#[test]
fn every_record_of_every_session_is_as_the_schema_says() {
    for session in recorded() {
        for record in session.play(|length| length) {
            validate_line(&session.folder, &record.to_string());
        }
    }
}

#[test]
fn a_session_that_comes_byte_by_byte_gives_the_same_records() {
    for session in recorded() {
        assert_eq!(session.play(|_| 1), session.play(|length| length), "{}", session.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_session_in_pieces_of_any_size_gives_the_same_records(cuts in prop::collection::vec(1..200_usize, 1..64)) {
        for session in recorded() {
            let mut sizes = cuts.iter().cycle().copied();
            let records = session.play(|_| sizes.next().unwrap());
            prop_assert_eq!(records, session.play(|length| length), "{}", session.name);
        }
    }
}
