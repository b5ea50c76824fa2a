//! A tool definition that changes is reported, whatever else is in the list: bytes that are not UTF-8, halves of
//! surrogate pairs, members twice, a list of more than a megabyte. A list that stays the same is reported once, and
//! its size is that of its definitions.

use serde_json::Value;

use super::pieces;
use crate::random::Random;
use crate::replay::{CLIENT, Player, SERVER};

pub fn run(input: &[u8]) {
    let text = inside_a_string(input);
    let mut random = Random::of(input);
    let times = match random.below(40) {
        0 => (1 << 20) / text.len().max(1) + 1,
        _ => 1 + random.below(3),
    };
    let text = text.repeat(times);
    for place in 0..5 {
        for (first, second) in [(b"1", b"1"), (b"1", b"2")] {
            let records = listed_twice(&list(place, &text, first), &list(place, &text, second));
            let alarms = records.iter().filter(|record| record["event"] == "tools_changed").count();
            assert_eq!(alarms, usize::from(first != second), "place {place}");
            let listed: Vec<&Value> =
                records.iter().filter(|record| record["event"] == "tools_listed").collect();
            assert_eq!(listed.len(), 1 + usize::from(first != second), "place {place}");
            // The bytes between the brackets, without the commas.
            let size = list(place, &text, first).len() - LIST.len() - "]}}\n".len();
            let number = |name: &str| listed[0][name].as_u64().unwrap() as usize;
            assert_eq!(number("definition_bytes") + number("tools_total") - 1, size, "place {place}");
        }
    }
}

/// Returns the bytes that a lenient host accepts in a string.
fn inside_a_string(input: &[u8]) -> Vec<u8> {
    let is_escape = |rest: &[u8]| {
        rest.get(1) == Some(&b'u')
            && rest.get(2..6).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let kept = |(at, byte): (usize, &u8)| match byte {
        b'"' | 0..0x20 => None,
        b'\\' if !is_escape(&input[at..]) => None,
        byte => Some(*byte),
    };
    input.iter().enumerate().filter_map(kept).collect()
}

/// The beginning of an answer, up to its first definition.
const LIST: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"tools\":[";

/// Returns a list with `text` in one of five places, and `version` in a definition.
fn list(place: usize, text: &[u8], version: &[u8]) -> Vec<u8> {
    let before: [&[&[u8]]; 5] = [
        &[b"{\"name\":\"pad\",\"description\":\"", text, b"\"},{\"name\":\"send\",\"description\":\""],
        &[b"{\"name\":\"send\",\"description\":\"", text],
        &[b"{\"name\":\"", text, b"\",\"description\":\""],
        &[b"{\"", text, b"\":[[[{}]]],\"name\":\"send\",\"x\":1,\"x\":1,\"description\":\""],
        &[b"\"", text, b"\",{\"name\":\"send\"},{\"name\":\"send\",\"x\":1e999,\"", text, b"\":\""],
    ];
    [LIST, &before[place].concat(), version, b"\"},{\"name\":\"last\"}]}}\n"].concat()
}

fn listed_twice(first: &[u8], second: &[u8]) -> Vec<Value> {
    let mut player = Player::new();
    for list in [first, second] {
        player.send(CLIENT, b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}\n");
        player.send(SERVER, b"");
        pieces(list, 64 << 10).into_iter().for_each(|piece| player.send_now(SERVER, piece));
    }
    player.end()
}
