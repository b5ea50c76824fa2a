//! Joins of made calls and facts. Times are milliseconds after a fixed moment.

use super::chain::{ChainItem, ChainNode, chain};
use super::joins::{JoinedBy, tools_of};
use super::table::{CountedFact, FactTable, left_out_text, model_rows};
use super::*;
use crate::query::name_pool::NamePool;
use crate::query::select::Selection;

const DAWN: i64 = 1_800_000_000_000_000;

fn at(ms: i64) -> Timestamp {
    Timestamp(DAWN + ms * 1_000)
}

/// Makes a call of `tool` on the server `files`, in session `s` and conversation `c`.
fn call(seq: u64, tool: &str, start: i64, ms: i64, more: &str) -> OperationMatch {
    let (started, ended) = (at(start), at(start + ms));
    let line = format!(
        r#"{{"schema":"spantap/1","timestamp":"{ended}","event":"mcp_tool_call","method":"tools/call","seq":{seq},"session_id":"s","conversation_id":"c","connection_id":"0000c1","server_name":"files","host_name":"codex","tool_name":"{tool}","started_at":"{started}","duration_ms":{ms},"status":"ok"{more}}}"#
    );
    OperationMatch::new(&LogEntry::parse(line.as_bytes()).unwrap(), line.as_bytes(), &mut NamePool::default())
}

/// Makes the line of a fact of agent `codex` in conversation `c`; `more` comes first, so it wins.
fn line(event: &str, seq: u64, start: i64, ms: i64, more: &str) -> String {
    let (started, ended) = (at(start), at(start + ms));
    let ids = if more.contains("session_id") { "" } else { r#","session_id":"c""# };
    format!(
        r#"{{"schema":"spantap/1","timestamp":"{ended}","event":"{event}","seq":{seq},"connection_id":"0000c0","agent_name":"codex","started_at":"{started}","ended_at":"{ended}","duration_ms":{ms}{ids}{more}}}"#
    )
}

fn lines(tie: RunTie, lines: &[String]) -> RunLines {
    let line = |line: &String| RunLine { tie, line: line.as_bytes().into() };
    RunLines { lines: lines.iter().map(line).collect(), ambiguous: None }
}

fn tool(seq: u64, name: &str, start: i64, ms: i64, more: &str) -> String {
    line("agent_tool", seq, start, ms, &format!(r#","tool_name":"{name}"{more}"#))
}

/// Returns for each call the `seq` of its tool, by what, and whether by its time.
fn joined(calls: &[OperationMatch], tools: &[String]) -> Vec<Option<(u64, JoinedBy, bool)>> {
    let lines = lines(RunTie::Id, tools);
    let facts = lines.facts();
    let facts: Vec<&RunFact<'_>> = facts.iter().collect();
    let joined = tools_of(&calls.iter().collect::<Vec<_>>(), &facts);
    let readable = |(tool, join): (usize, joins::Join)| (facts[tool].record.seq, join.by, join.is_by_time);
    joined.into_iter().map(|join| join.map(readable)).collect()
}

#[test]
fn the_parts_of_one_fact_are_one_record_in_whatever_order_they_are_read() {
    let first = line("model_call", 3, 0, 100, r#","fact_id":"f1","model":"m","input_tokens":10"#);
    let later = line(
        "model_call",
        9,
        0,
        100,
        r#","fact_id":"f1","amends":true,"input_tokens":99,"cached_tokens":7,"cost_usd":0.5"#,
    );
    let other = line("model_call", 4, 50, 10, r#","fact_id":"f2""#);
    for order in [[&later, &first, &other], [&other, &first, &later]] {
        let lines = lines(RunTie::Id, &order.map(String::clone));
        let facts = lines.facts();
        assert_eq!(facts.len(), 2);
        let record = &facts[0].record;
        assert_eq!((record.seq, record.input_tokens, record.cost_usd), (3, Some(10), Some(0.5)));
        assert_eq!(record.model.as_deref(), Some("m"));
    }
}

#[test]
fn a_call_id_joins_whatever_names_and_times_say_and_its_later_rounds_too() {
    let calls = [
        call(1, "a", 0, 10, r#","call_id":"x""#),
        call(2, "b", 0, 10, r#","call_id":"y""#),
        call(3, "a", 9_000, 10, r#","continues_seq":1"#),
    ];
    let tools = [
        tool(7, "b", 0, 10, r#","call_id":"x""#),
        tool(8, "other", 60_000, 10, r#","call_id":"y","decision":"refused""#),
    ];
    let exact = |seq| Some((seq, JoinedBy::CallId, false));
    assert_eq!(joined(&calls, &tools), [exact(7), exact(8), exact(7)]);
}

#[test]
fn a_trace_joins_by_its_spans_else_by_the_only_tool_of_the_name_else_by_time() {
    let of = |parent: &str| format!(r#","trace_id":"t","parent_span_id":"{parent}""#);
    let span = |span: &str| format!(r#","trace_id":"t","span_id":"{span}","session_id":"else""#);
    let calls =
        [call(1, "a", 0, 10, &of("p1")), call(2, "b", 0, 10, &of("inner")), call(3, "a", 5, 10, &of("p9"))];
    let tools = [
        tool(7, "z", 500, 10, &span("p1")),
        tool(8, "b", 0, 10, &span("p2")),
        tool(9, "a", 0, 20, &span("p3")),
    ];
    let by_trace = |seq, is_by_time| Some((seq, JoinedBy::Trace, is_by_time));
    assert_eq!(joined(&calls, &tools), [by_trace(7, false), by_trace(8, false), by_trace(9, false)]);
    // Two of the same name at the same time: only their starts tell them apart.
    let calls = [call(1, "a", 0, 50, &of("i")), call(2, "a", 20, 50, &of("j"))];
    let tools = [tool(8, "a", 19, 50, &span("p2")), tool(9, "a", 1, 50, &span("p3"))];
    assert_eq!(joined(&calls, &tools), [by_trace(9, true), by_trace(8, true)]);
}

#[test]
fn calls_of_one_tool_at_the_same_time_are_joined_one_to_one_by_the_nearest_start() {
    let calls = [
        call(1, "get-sum", 0, 900, ""),
        call(2, "get-sum", 100, 900, ""),
        call(3, "get-sum", 200, 900, ""),
        call(4, "get-sum", 210, 900, ""),
        call(5, "get-sum", 90_000, 1, ""),
    ];
    // Codex spells the name with other letters. The first waited for a person, so it was sent later than it began.
    let tools = [
        tool(11, "get_sum", 195, 910, ""),
        tool(12, "get_sum", 95, 910, r#","tool_server":"files""#),
        tool(13, "get_sum", -800, 1_700, r#","person_wait_ms":799.0"#),
        tool(14, "get_sum", 209, 5, r#","decision":"refused""#),
        tool(15, "other", 210, 900, ""),
    ];
    let by_time = |seq| Some((seq, JoinedBy::Conversation, true));
    assert_eq!(joined(&calls, &tools), [by_time(13), by_time(12), by_time(11), None, None]);
    let elsewhere = tool(1, "get_sum", 0, 900, r#","session_id":"other""#);
    assert_eq!(joined(&calls[..1], &[elsewhere]), [Some((1, JoinedBy::Host, true))]);
}

#[test]
fn a_tool_of_another_server_of_the_session_is_not_joined() {
    let mut calls = vec![call(1, "read", 0, 10, "")];
    let tools = [tool(7, "read", 0, 10, r#","tool_server":"git""#)];
    assert!(joined(&calls, &tools)[0].is_some(), "spantap may know the server by another name");
    let mut other = call(2, "status", 0, 10, "");
    other.row.server_name = "git".into();
    calls.push(other);
    assert_eq!(joined(&calls, &tools), [None, None]);
    let prefixed = [tool(7, "files_read", 0, 10, ""), tool(8, "mcp__git__status", 0, 10, "")];
    assert!(joined(&calls, &prefixed).iter().all(Option::is_some));
}

/// Returns the tree as text, one line a node: indent, `~` if it is by its time, kind, number of the record.
fn tree(calls: &[OperationMatch], tie: RunTie, facts: &[String]) -> Option<String> {
    fn write(text: &mut String, node: &ChainNode<'_>, depth: usize) {
        let mark = if node.join.is_some_and(|join| join.is_by_time) { "~" } else { "" };
        let (kind, seq) = match node.item {
            ChainItem::Turn(fact) => ("turn", fact.map_or(0, |fact| fact.record.seq)),
            ChainItem::OutsideTurns => ("outside", 0),
            ChainItem::Model(fact) => ("model", fact.record.seq),
            ChainItem::Tool(fact) => ("tool", fact.record.seq),
            ChainItem::Operation(found) => ("call", found.row.seq),
            ChainItem::Span(fact) => ("span", fact.record.seq),
        };
        text.push_str(&format!("{}{mark}{kind} {seq}\n", " ".repeat(depth)));
        node.children.iter().for_each(|child| write(text, child, depth + 1));
    }
    let lines = lines(tie, facts);
    let facts = lines.facts();
    let chain = chain(calls, &facts, true)?;
    let mut text = String::new();
    chain.turns.iter().for_each(|turn| write(&mut text, turn, 0));
    Some(text)
}

#[test]
fn a_model_call_has_the_tools_that_it_asked_for_else_those_that_follow_it_in_its_turn() {
    let turn = |id: &str| format!(r#","turn_id":"{id}""#);
    let facts = [
        line("agent_turn", 1, 0, 1_000, &turn("a")),
        line("model_call", 2, 10, 100, &format!(r#"{},"call_ids":["x","y"]"#, turn("a"))),
        line("model_call", 3, 200, 100, &turn("a")),
        line("model_call", 4, 310, 100, &turn("b")),
        tool(5, "late", 400, 10, &format!(r#"{},"call_id":"x""#, turn("a"))),
        tool(6, "next", 450, 10, &turn("a")),
    ];
    let calls =
        [call(7, "late", 401, 5, r#","call_id":"x""#), call(8, "unreported", 600, 5, r#","call_id":"y""#)];
    let expected = "turn 1\n model 2\n  tool 5\n   call 7\n  call 8\n model 3\n  ~tool 6\nturn 0\n model 4\n";
    assert_eq!(tree(&calls, RunTie::Id, &facts).unwrap(), expected);
}

#[test]
fn a_tool_follows_the_model_call_that_began_before_it_however_fast_the_agent_is() {
    let turn = r#","turn_id":"a""#;
    let facts = [
        line("agent_turn", 1, 0, 1_000, turn),
        line("model_call", 2, 10, 20, turn),
        // The agent begins the tool while the model still sends.
        tool(3, "one", 29, 5, turn),
        line("model_call", 4, 36, 20, turn),
        tool(5, "two", 57, 5, turn),
        line("model_call", 6, 64, 20, turn),
    ];
    let calls = [call(7, "one", 30, 2, ""), call(8, "two", 58, 2, "")];
    let expected = "turn 1\n model 2\n  ~tool 3\n   ~call 7\n model 4\n  ~tool 5\n   ~call 8\n model 6\n";
    assert_eq!(tree(&calls, RunTie::Id, &facts).unwrap(), expected);
}

#[test]
fn what_names_no_turn_is_in_the_turn_around_it_or_outside_turns() {
    let facts = [
        line("agent_turn", 1, 0, 1_000, r#","trace_id":"t","span_id":"s1""#),
        line("model_call", 2, 10, 100, r#","trace_id":"t","parent_span_id":"s1","call_ids":[]"#),
        line("model_call", 3, 200, 100, r#","call_ids":[]"#),
        line("model_call", 4, 5_000, 100, r#","call_ids":[]"#),
    ];
    let calls = [call(5, "a", 300, 5, "")];
    let expected = "turn 1\n model 2\n ~model 3\n ~call 5\noutside 0\n model 4\n";
    assert_eq!(tree(&calls, RunTie::Id, &facts).unwrap(), expected);
}

#[test]
fn a_call_id_that_comes_again_joins_the_nearest_tool_and_the_last_model_call_that_asked_for_it() {
    let id = r#","call_id":"0""#;
    let calls = [call(1, "a", 110, 10, id), call(2, "a", 9_110, 10, id)];
    let tools = [tool(7, "a", 9_100, 20, id), tool(8, "a", 100, 20, id)];
    let by_id = |seq| Some((seq, JoinedBy::CallId, true));
    assert_eq!(joined(&calls, &tools), [by_id(8), by_id(7)]);
    let model = |seq, start| line("model_call", seq, start, 50, r#","call_ids":["0"]"#);
    let facts = [model(3, 0), model(4, 9_000), tool(7, "a", 9_100, 20, id), tool(8, "a", 100, 20, id)];
    let expected = "outside 0\n model 3\n  ~tool 8\n   ~call 1\n model 4\n  ~tool 7\n   ~call 2\n";
    assert_eq!(tree(&calls, RunTie::Id, &facts).unwrap(), expected);
}

#[test]
fn turns_that_have_one_id_are_told_apart_by_their_beginnings() {
    let turn = r#","turn_id":"p0""#;
    let facts = [
        line("agent_turn", 1, 0, 0, turn),
        line("model_call", 2, 10, 100, turn),
        line("agent_turn", 3, 80_000_000, 0, turn),
        line("model_call", 4, 80_000_010, 100, turn),
    ];
    let expected = "turn 1\n model 2\nturn 3\n model 4\n";
    assert_eq!(tree(&[], RunTie::Id, &facts).unwrap(), expected);
}

#[test]
fn a_tool_of_a_helper_is_below_the_helper_s_model_call() {
    let place = |parent: &str| format!(r#","trace_id":"t","parent_span_id":"{parent}","turn_id":"a""#);
    let facts = [
        line("model_call", 2, 0, 20, &place("main")),
        line("model_call", 3, 10, 20, &place("helper")),
        tool(4, "of main", 40, 10, &place("main")),
        tool(5, "of helper", 41, 10, &place("helper")),
    ];
    let expected = "turn 0\n model 2\n  ~tool 4\n model 3\n  ~tool 5\n";
    assert_eq!(tree(&[], RunTie::Id, &facts).unwrap(), expected);
}

#[test]
fn a_server_that_the_agent_names_has_no_tools_of_another_server() {
    let calls = [call(1, "read", 0, 10, "")];
    // The server `notes` is not behind spantap.
    let of_notes = tool(7, "read", 0, 10, r#","tool_server":"notes""#);
    let of_files = tool(8, "read", 300, 10, r#","tool_server":"files""#);
    assert_eq!(joined(&calls, &[of_notes.clone(), of_files]), [Some((8, JoinedBy::Conversation, true))]);
    assert!(joined(&calls, &[of_notes])[0].is_some());
}

#[test]
fn the_parts_of_a_model_call_that_went_to_two_runs_of_the_collector_are_one_record() {
    let of_run = |run: &str, text: String| text.replace("0000c0", run);
    let span = |seq, start| line("model_call", seq, start, 100, r#","span_id":"s""#);
    let event = |seq, start, tokens: u64| {
        line("model_call", seq, start, 0, &format!(r#","input_tokens":{tokens},"output_tokens":1"#))
    };
    let seqs = |lines_of: &[String]| -> Vec<(u64, Option<u64>)> {
        let select = Selection::default();
        let mut table = FactTable::new(&select);
        lines_of.iter().for_each(|line| table.take_of_agent(line.as_bytes()));
        let lines = lines(RunTie::Id, lines_of);
        let facts = lines.facts();
        let sum: u64 = facts.iter().filter_map(|fact| fact.record.input_tokens).sum();
        let rows = model_rows(&table.finish().0, false);
        let calls: u64 = rows.iter().map(|row| row.model_calls).sum();
        assert_eq!((calls, rows[0].input_tokens), (facts.len() as u64, sum));
        facts.iter().map(|fact| (fact.record.seq, fact.record.input_tokens)).collect()
    };
    let two = |a: String, b: String| seqs(&[of_run("0000a1", a), of_run("0000a2", b)]);
    assert_eq!(two(span(1, 0), event(2, 100, 7)), [(1, Some(7))]);
    assert_eq!(two(event(1, 100, 7), span(2, 0)), [(2, Some(7))]);
    assert_eq!(two(span(1, 0), event(2, 102, 7)), [(1, None), (2, Some(7))], "not within the span");
    assert_eq!(two(span(1, 0), span(2, 50)).len(), 2);
    // One run would have joined them.
    assert_eq!(seqs(&[span(1, 0), event(2, 100, 7)]).len(), 2);
    let of_other = event(2, 100, 7).replace(r#""session_id":"c""#, r#""session_id":"d""#);
    assert_eq!(two(span(1, 0), of_other).len(), 2);
    // Claude Code has the tokens in both, if the provider sends no ids of requests.
    let with_tokens = |tokens: u64| {
        line("model_call", 1, 0, 100, &format!(r#","span_id":"s","input_tokens":{tokens},"output_tokens":1"#))
    };
    assert_eq!(two(with_tokens(7), event(2, 99, 7)), [(1, Some(7))]);
    assert_eq!(two(with_tokens(8), event(2, 99, 7)).len(), 2);
}

#[test]
fn an_agent_that_only_has_the_name_of_the_host_needs_a_tool_that_is_a_call() {
    let facts = |tool_name: &str| {
        [
            line("model_call", 2, 0, 100, r#","session_id":"other""#),
            tool(3, tool_name, 110, 10, r#","session_id":"other""#),
        ]
    };
    let calls = [call(5, "read", 111, 5, "")];
    let expected = "outside 0\n model 2\n  ~tool 3\n   ~call 5\n";
    assert_eq!(tree(&calls, RunTie::HostName, &facts("read")).unwrap(), expected);
    assert_eq!(tree(&calls, RunTie::HostName, &facts("write")), None);
}

#[test]
fn spans_of_a_server_are_below_their_call_and_a_circle_of_spans_ends_nothing() {
    let span = |seq: u64, start: i64, id: &str, parent: &str| {
        let ids = format!(r#","trace_id":"t","span_id":"{id}","parent_span_id":"{parent}""#);
        line("server_span", seq, start, 2, &format!(r#"{ids},"session_id":"0000c0""#))
    };
    let calls = [
        call(1, "a", 0, 10, r#","trace_id":"t","span_id":"w1","parent_span_id":"env""#),
        call(2, "a", 20, 10, r#","trace_id":"t","span_id":"w2","parent_span_id":"env""#),
    ];
    let facts = [
        span(3, 1, "b", "a"),
        span(4, 1, "a", "w1"),
        span(5, 22, "c", "env"),
        span(6, 22, "d", "e"),
        span(7, 22, "e", "d"),
        span(8, 5_000, "f", "env"),
    ];
    let expected = "outside 0\n call 1\n  span 4\n   span 3\n call 2\n  ~span 5\n";
    assert_eq!(tree(&calls, RunTie::Id, &facts).unwrap(), expected);
}

#[test]
fn a_turn_id_that_comes_again_in_another_session_is_another_turn() {
    let hour = 3_600_000;
    let session = |first: i64| {
        let mut totals = SessionTotals::default();
        totals.conversation_ids.insert("c".to_owned());
        for (event, ms) in [("session_started", first), ("session_ended", first + 1_000)] {
            let line = format!(
                r#"{{"schema":"spantap/1","timestamp":"{}","event":"{event}","session_id":"s{first}","connection_id":"0000c1"}}"#,
                at(ms)
            );
            let entry = LogEntry::parse(line.as_bytes()).unwrap();
            totals.add(&entry, &Selection::default(), &crate::record::cost::Prices::default());
        }
        (totals.session_id.clone(), totals)
    };
    let turn = r#","turn_id":"p0""#;
    let facts = [
        line("agent_turn", 1, 0, 0, turn),
        line("model_call", 2, 10, 100, turn),
        // The first server of the session started five minutes later.
        line("agent_turn", 3, hour - 300_000, 0, turn),
        line("model_call", 4, hour, 100, turn),
        line("model_call", 5, hour + 10, 100, turn),
    ];
    let select = Selection::default();
    let mut table = FactTable::new(&select);
    facts.iter().for_each(|line| table.take_of_agent(line.as_bytes()));
    let mut facts = table.finish().0;
    let turns = |facts: &[CountedFact]| -> Vec<(Timestamp, u64)> {
        let rows = model_rows(facts, true);
        let mut turns: Vec<_> = rows.iter().map(|row| (row.started_at.unwrap(), row.model_calls)).collect();
        turns.sort();
        turns
    };
    assert_eq!(turns(&facts), [(at(0), 3)], "no session is known");
    super::table::join_sessions(&mut facts, &mut [session(hour), session(0)]);
    assert_eq!(turns(&facts), [(at(0), 1), (at(hour - 300_000), 2)]);
}

#[test]
fn a_part_that_comes_late_is_counted_once_in_whatever_thread_it_was_read() {
    let select = Selection::default();
    let first =
        line("model_call", 3, 0, 100, r#","fact_id":"f1","model":"m","input_tokens":10,"output_tokens":1"#);
    let later = line(
        "model_call",
        9,
        0,
        100,
        r#","fact_id":"f1","amends":true,"input_tokens":99,"cached_tokens":7,"cost_usd":0.5"#,
    );
    let other = line("model_call", 4, 50, 10, r#","model":"m""#);
    for (here, there) in [([&first, &other], &later), ([&later, &other], &first)] {
        let table = |lines: &[&String]| {
            let mut table = FactTable::new(&select);
            lines.iter().for_each(|line| table.take_of_agent(line.as_bytes()));
            table
        };
        let mut all = table(&here);
        all.merge(table(&[there]));
        let rows = model_rows(&all.finish().0, false);
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].model_calls, rows[0].calls_with_tokens, rows[0].calls_with_cost), (2, 1, 1));
        assert_eq!((rows[0].input_tokens, rows[0].output_tokens, rows[0].cached_tokens), (10, 1, 7));
        assert_eq!(rows[0].cost_usd, Some(0.5));
    }
}

#[test]
fn a_table_of_the_only_session_has_no_fact_of_another() {
    let select = Selection { only_session: Some("own".to_owned()), ..Selection::default() };
    let mut table = FactTable::new(&select);
    let ids = [("own", ""), ("run", "own"), ("other", "other"), ("own2", "ow")];
    for (seq, (session, conversation)) in (1..).zip(ids) {
        let more =
            format!(r#","session_id":"{session}","conversation_id":"{conversation}","turn_id":"{session}""#);
        table.take_of_agent(line("agent_turn", seq, 0, 1, &more).as_bytes());
    }
    let mut turns: Vec<String> =
        model_rows(&table.finish().0, true).into_iter().map(|row| row.session_id).collect();
    turns.sort();
    assert_eq!(turns, ["own", "run"]);
}

#[test]
fn the_latest_facts_are_kept_and_the_others_are_counted() {
    let call = |seq: u64| {
        line("model_call", seq, 10 * seq as i64, 1, &format!(r#","fact_id":"f{seq}","model":"m{seq}""#))
    };
    let part = |seqs: &[u64]| {
        let mut table = FactTable::of_at_most(3);
        seqs.iter().for_each(|seq| table.take_of_agent(call(*seq).as_bytes()));
        assert!(table.len() < 6, "memory is bounded before the end");
        table
    };
    for (here, there) in [(vec![9, 1, 8, 2, 7, 3, 6], vec![5, 4]), (vec![1, 2, 3, 4, 5], vec![9, 8, 7, 6])] {
        let mut all = part(&here);
        all.merge(part(&there));
        let (facts, left_out) = all.finish();
        let mut models: Vec<String> = model_rows(&facts, false).into_iter().map(|row| row.model).collect();
        models.sort();
        assert_eq!((models.join(" "), left_out), ("m7 m8 m9".to_owned(), 6));
        assert!(left_out_text(left_out).unwrap().starts_with("6 reports of agents are not counted"));
    }
    assert_eq!(left_out_text(0), None);
}

#[test]
fn only_the_runs_of_the_session_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let of = |seq: u64, session: &str, more: &str| {
        line("model_call", seq, seq as i64, 1, &format!(r#","session_id":"{session}"{more}"#))
    };
    let text = [
        of(1, "c", ""),
        of(2, "stranger", ""),
        // The call id says whose run this is, and its other records follow.
        of(3, "run", r#","call_id":"x""#),
        of(4, "run", ""),
        // Records without ids of an agent's session count for themselves.
        of(5, "0000c0", r#","trace_id":"t""#),
        of(6, "0000c0", ""),
    ];
    let name = "collect-2027-01-15-0000000000c0.jsonl";
    std::fs::write(dir.path().join(name), text.map(|line| line + "\n").concat()).unwrap();
    // A log of another server is not even read.
    std::fs::write(dir.path().join("git-2027-01-15-0000000000c9.jsonl"), of(9, "c", "") + "\n").unwrap();
    let sources = LogSource::in_dir(dir.path(), TimeWindow::default()).unwrap();
    let calls = [call(1, "a", 0, 1, r#","call_id":"x","trace_id":"t""#)];
    let totals = SessionTotals::default();
    let keys = RunKeys::new("s", &totals, &calls);
    let read = |window| -> Vec<u64> {
        let lines = read(&sources, window, &keys);
        lines.facts().iter().map(|fact| fact.record.seq).collect()
    };
    assert_eq!(read(TimeWindow::default()), [1, 3, 4, 5]);
    assert_eq!(read(TimeWindow { since: Some(at(4)), until: None }), [3, 4, 5]);
}

/// Returns the numbers of the records that belong to a session of host `h` from 0 to 1 s, and the ambiguity.
fn found(totals: SessionTotals, calls: &[OperationMatch], text: &[String]) -> (Vec<u64>, Option<usize>) {
    let dir = tempfile::tempdir().unwrap();
    let name = "collect-2027-01-15-0000000000c0.jsonl";
    std::fs::write(dir.path().join(name), text.join("\n") + "\n").unwrap();
    let sources = LogSource::in_dir(dir.path(), TimeWindow::default()).unwrap();
    let keys = RunKeys::new("s", &totals, calls);
    let lines = read(&sources, TimeWindow::default(), &keys);
    (lines.facts().iter().map(|fact| fact.record.seq).collect(), lines.ambiguous.map(|found| found.runs))
}

/// Totals of a session of host `codex`, from 0 to 1 s, whose proxies these processes started.
fn session_of(host_pids: &[u32]) -> SessionTotals {
    let mut totals = SessionTotals::default();
    totals.host_pids.extend(host_pids);
    totals.hosts.insert("codex-mcp-client".to_owned());
    totals.span.add(at(0), at(1_000));
    totals
}

#[test]
fn the_process_that_started_the_proxies_tells_two_runs_of_one_agent_apart() {
    let of = |seq, start, session: &str, more: &str| {
        line("model_call", seq, start, 10, &format!(r#","session_id":"{session}"{more}"#))
    };
    let pid = |pid: u32| format!(r#","host_pid":{pid}"#);
    let two = [of(1, 100, "one", &pid(70)), of(2, 200, "two", &pid(71))];
    assert_eq!(found(session_of(&[71]), &[], &two), (vec![2], None));
    // The proxies were started by a launcher, or the log is older: only the name of the host fits.
    assert_eq!(found(session_of(&[5]), &[], &two), (vec![], Some(2)));
    assert_eq!(found(session_of(&[]), &[], &two), (vec![], Some(2)));
    assert_eq!(found(session_of(&[5]), &[], &two[..1]), (vec![1], None));
    // The second one began after the end of the session.
    let later = [of(1, 100, "one", ""), of(2, 2_000, "two", "")];
    assert_eq!(found(session_of(&[]), &[], &later), (vec![1], None));
    // A helper has a session of its own in the trace of its agent.
    let trace = r#","trace_id":"t""#;
    let helper = [of(1, 100, "one", trace), of(2, 200, "helper", trace)];
    assert_eq!(found(session_of(&[]), &[], &helper), (vec![1, 2], None));
    let with_other = [helper.as_slice(), &[of(3, 300, "other", "")]].concat();
    assert_eq!(found(session_of(&[]), &[], &with_other), (vec![], Some(2)));
    // A run with an id of the session leaves no doubt.
    let mut calls = [call(9, "a", 0, 1, "")];
    calls[0].row.conversation_id = "one".into();
    assert_eq!(found(session_of(&[]), &calls, &two), (vec![1], None));
}

#[test]
fn a_conversation_that_goes_on_in_another_session_belongs_to_each_by_its_time() {
    let hour = 3_600_000;
    let facts = [line("model_call", 1, 100, 10, ""), line("model_call", 2, 24 * hour, 10, "")];
    let mut totals = session_of(&[]);
    assert_eq!(found(totals.clone(), &[call(9, "a", 0, 1, "")], &facts).0, [1, 2], "it may go on");
    let end = format!(
        r#"{{"schema":"spantap/1","timestamp":"{}","event":"session_ended","session_id":"s","connection_id":"0000c1"}}"#,
        at(1_000)
    );
    let entry = LogEntry::parse(end.as_bytes()).unwrap();
    totals.add(&entry, &Selection::default(), &crate::record::cost::Prices::default());
    assert_eq!(found(totals.clone(), &[call(9, "a", 0, 1, "")], &facts).0, [1]);
    // The id of the session itself is the agent's.
    let own = facts.map(|fact| fact.replace(r#""session_id":"c""#, r#""session_id":"s""#));
    assert_eq!(found(totals, &[], &own).0, [1, 2]);

    let session = |day: i64| {
        let mut totals = SessionTotals::default();
        totals.session_id = format!("s{day}");
        totals.conversation_ids.insert("c".to_owned());
        totals.span.add(at(day * 24 * hour), at(day * 24 * hour + 1_000));
        (totals.session_id.clone(), totals)
    };
    let select = Selection::default();
    let mut table = FactTable::new(&select);
    let of_days = [line("model_call", 1, 100, 10, ""), line("model_call", 2, 24 * hour, 10, "")];
    of_days.iter().for_each(|line| table.take_of_agent(line.as_bytes()));
    let mut facts = table.finish().0;
    let mut sessions = [session(1), session(0)];
    super::table::join_sessions(&mut facts, &mut sessions);
    let calls = |totals: SessionTotals| totals.agent.map(|agent| agent.models.calls);
    assert_eq!(sessions.map(|(_, totals)| calls(totals)), [Some(1), Some(1)]);
    // The other session is not selected.
    let mut sessions = [session(1)];
    super::table::join_sessions(&mut facts, &mut sessions);
    assert_eq!(sessions.map(|(_, totals)| calls(totals)), [Some(1)]);
}
