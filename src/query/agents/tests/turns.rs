//! The turns of calls of which an agent reported nothing.

use super::*;

fn of_turn(id: &str) -> String {
    format!(r#","turn_id":"{id}""#)
}

#[test]
fn calls_of_a_turn_of_which_the_agent_reported_nothing_are_in_a_turn_of_their_own() {
    // The collector ran in the second of three turns, which the host names.
    let facts = [line("agent_turn", 1, 10_000, 1_000, &of_turn("b")), line("model_call", 2, 10_010, 100, "")];
    let calls = |ids: [&str; 3]| {
        let turns = ids.map(of_turn);
        [
            call(3, "a", 0, 5, &turns[0]),
            call(4, "a", 5_000, 5, &turns[0]),
            call(5, "a", 10_200, 5, &turns[1]),
            call(6, "a", 20_000, 5, &turns[2]),
        ]
    };
    let others = "turn 0\n call 3\n call 4\nturn 1\n ~model 2\n  ~call 5\nturn 0\n call 6\n";
    for ids in [["a", "b", "c"], ["1", "2", "3"]] {
        let calls = calls(ids);
        assert_eq!(tree(&calls, &facts).unwrap(), others, "{ids:?}");
    }
}

#[test]
fn a_call_between_two_turns_of_the_agent_is_outside_turns_if_its_turn_is_one_of_them() {
    let facts = [line("agent_turn", 1, 0, 1_000, ""), line("agent_turn", 2, 9_000, 1_000, "")];
    // spantap counted both turns as one.
    let calls = [10, 5_000, 9_010].map(|start| call(start as u64, "a", start, 5, &of_turn("1")));
    let expected = "turn 1\n ~call 10\noutside 0\n call 5000\nturn 2\n ~call 9010\n";
    assert_eq!(tree(&calls, &facts).unwrap(), expected);
}

#[test]
fn a_fact_with_an_unknown_turn_id_is_in_the_turn_without_an_id_around_it() {
    let facts = [
        line("agent_turn", 1, 0, 1_000, ""),
        line("model_call", 2, 100, 100, &of_turn("p")),
        line("model_call", 3, 5_000, 100, &of_turn("q")),
    ];
    assert_eq!(tree(&[], &facts).unwrap(), "turn 1\n ~model 2\nturn 0\n model 3\n");
}
