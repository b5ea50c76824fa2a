//! Turns and refusals of a session, as the records of agents and of calls tell them together.

use super::*;
use crate::query::totals::TurnCounts;

/// Returns the number of turns of session `s`, after two ways to count them have said the same.
fn turns(wire: &[String], facts: &[String]) -> u64 {
    let mut joins = AgentJoins::new(TimeWindow::default(), HashSet::new());
    take_all(&mut joins, wire);
    facts.iter().for_each(|line| joins.take_of_agent(line.as_bytes()));
    let joined = joins.join(&[]);
    let mut counts = TurnCounts::default();
    wire.iter().for_each(|line| counts.add(&LogEntry::parse(line.as_bytes()).unwrap()));
    counts.settle();
    counts.tell(joined.turns());
    if let Some(totals) = joined.totals_of(["s"].into_iter()).get("s") {
        assert_eq!(totals.turns, counts.turns());
    }
    counts.turns()
}

#[test]
fn the_turns_of_a_session_are_those_of_its_agent_and_those_of_which_it_reported_nothing() {
    let of_call = |turn: &str| format!(r#","conversation_id":"c","turn_id":"{turn}""#);
    let of_fact = |turn: &str| format!(r#","turn_id":"{turn}""#);
    let calls = |ids: [&str; 3]| -> Vec<String> {
        let [a, b, c] = ids.map(of_call);
        [(0, &a), (5, &a), (20_000, &b), (40_000, &c), (40_005, &c)]
            .map(|(start, turn)| call("s", "a", start, turn))
            .to_vec()
    };
    let last = fact("agent_turn", "t", "c", 39_990, &of_fact("C")).replace("40.000000Z", "50.000000Z");
    // The host names the turns, or spantap counts them.
    for ids in [["A", "B", "C"], ["1", "2", "3"]] {
        assert_eq!(turns(&calls(ids), &[]), 3);
        assert_eq!(turns(&calls(ids), std::slice::from_ref(&last)), 3, "{ids:?}");
    }
    // A turn of calls that ended when the turn of the agent began is another one by its id.
    let before = call("s", "a", 39_989, &of_call("B2"));
    assert_eq!(turns(&[&calls(["A", "B", "C"])[..], &[before]].concat(), std::slice::from_ref(&last)), 4);
    let other = fact("agent_turn", "t2", "c", 30_000, &of_fact("D"));
    assert_eq!(turns(&calls(["A", "B", "C"]), &[last.clone(), other.clone()]), 4, "a turn without calls");
    // The agent reported the begin of a turn only, and a tool of it.
    let begun = fact("agent_turn", "t3", "c", 9_000, &of_fact("p1"));
    let of_begun = tool("x", "c", 2, "a", &of_fact("p1"));
    assert_eq!(turns(&calls(["1", "2", "3"]), &[begun.clone(), of_begun]), 3);
    // It reported a model call of a turn, and not the turn.
    let of_lost = model("m", "c", 20_005, &of_fact("p2"));
    assert_eq!(turns(&calls(["1", "2", "3"]), &[begun, of_lost]), 4);
    // spantap counted two turns as one.
    assert_eq!(turns(&calls(["1", "2", "2"]), &[last, other]), 3);
}

#[test]
fn a_refused_tool_that_was_sent_is_not_counted_as_refused_before_a_server_was_asked() {
    let refused = |name: &str, start: i64, id: &str| {
        tool(name, "c", start, "a", &format!(r#","call_id":"{id}","decision":"refused""#))
    };
    let of_call =
        |start: i64, id: &str| call("s", "a", start, &format!(r#","conversation_id":"c","call_id":"{id}""#));
    let count = |wire: &[String], facts: &[String]| {
        let mut joins = AgentJoins::new(TimeWindow::default(), HashSet::new());
        take_all(&mut joins, wire);
        facts.iter().for_each(|line| joins.take_of_agent(line.as_bytes()));
        let joined = joins.join(&[]);
        let by_turn: u64 =
            model_rows(&joined.facts, true).iter().map(|row| row.refused.unwrap_or_default()).sum();
        assert_eq!(joined.totals_of(["s"].into_iter())["s"].refusals(), by_turn);
        by_turn
    };
    let wire = [of_call(0, "x")];
    assert_eq!(count(&wire, &[refused("t", 0, "x")]), 0);
    assert_eq!(count(&wire, &[refused("t", 0, "y"), refused("u", 0, "z")]), 2);
    // The model counts its calls: the call is that of the allowed tool.
    let allowed = tool("t", "c", 1, "a", r#","call_id":"x","decision":"allowed""#);
    assert_eq!(count(&wire, &[allowed, refused("u", 9_000, "x")]), 1);
    // A call of another session.
    let other = call("s2", "a", 0, r#","call_id":"x""#);
    assert_eq!(count(&[of_call(0, "w"), other], &[refused("t", 0, "x")]), 1);
}
