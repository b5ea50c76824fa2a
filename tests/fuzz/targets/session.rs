//! A whole session. The mark before each line decides its treatment:
//!
//! ```text
//! >  <    the client, the server sends it
//! )  (    the same, and it is relayed but not observed
//! +       time passes, as many seconds as the line has bytes
//! ```
//!
//! Any other line is the client's. The mark is not sent.

use std::time::Duration;

use spantap::relay::chunk::Stream;

use super::pieces;
use crate::random::Random;
use crate::replay::{CLIENT, Player, SERVER, check_books};

enum Step<'a> {
    Send(Stream, &'a [u8]),
    Lose(Stream, &'a [u8]),
    Wait(Duration),
}

fn steps(input: &[u8]) -> impl Iterator<Item = Step<'_>> {
    input.split_inclusive(|byte| *byte == b'\n').map(|line| match line[0] {
        b'>' => Step::Send(CLIENT, &line[1..]),
        b'<' => Step::Send(SERVER, &line[1..]),
        b')' => Step::Lose(CLIENT, &line[1..]),
        b'(' => Step::Lose(SERVER, &line[1..]),
        b'+' => Step::Wait(Duration::from_secs(line.len() as u64)),
        _ => Step::Send(CLIENT, line),
    })
}

pub fn run(input: &[u8]) {
    any_cut_gives_the_same_records(input);
    with_any_loss_the_books_balance(input);
}

fn any_cut_gives_the_same_records(input: &[u8]) {
    let (mut whole, mut cut) = (Player::new(), Player::new());
    for step in steps(input) {
        match step {
            Step::Send(stream, line) => {
                whole.send(stream, line);
                cut.send(stream, b"");
                pieces(line, 40).into_iter().for_each(|piece| cut.send_now(stream, piece));
            }
            Step::Lose(stream, line) => {
                whole.lose(stream, line);
                cut.lose(stream, line);
            }
            Step::Wait(duration) => {
                whole.wait(duration);
                cut.wait(duration);
            }
        }
    }
    let whole = whole.end();
    check_books(&whole);
    assert_eq!(whole, cut.end());
}

fn with_any_loss_the_books_balance(input: &[u8]) {
    let mut random = Random::of(input);
    let mut player = Player::new();
    for step in steps(input) {
        match step {
            Step::Send(stream, line) | Step::Lose(stream, line) => {
                for piece in pieces(line, 60) {
                    match random.below(6) {
                        0 => player.lose(stream, piece),
                        1 if random.below(20) == 0 => player.recover(),
                        _ => player.send(stream, piece),
                    }
                }
            }
            Step::Wait(duration) => player.wait(duration),
        }
    }
    next_plain_call_is_seen(player);
}

/// This holds whatever came before.
fn next_plain_call_is_seen(mut player: Player) {
    player.send(
        CLIENT,
        "\n{\"id\":\"the plain call\",\"method\":\"tools/call\",\"params\":{\"name\":\"t\"}}\n",
    );
    player.send(SERVER, "\n{\"id\":\"the plain call\",\"result\":{}}\n");
    let records = player.end();
    check_books(&records);
    let mut plain = records
        .iter()
        .filter(|record| record["event"] == "mcp_tool_call" && record["request_id"] == "\"the plain call\"");
    assert_eq!(plain.next().unwrap()["status"], "ok");
    assert!(plain.next().is_none());
}
