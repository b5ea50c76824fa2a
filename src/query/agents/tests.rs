//! Joins of made calls and facts. Times are milliseconds after a fixed moment.

use std::cell::Cell;

use super::chain::{ChainItem, ChainNode, chain};
use super::join::AgentJoins;
use super::joins::{JoinedBy, tools_of};
use super::table::{ModelRow, model_rows};
use super::*;
use crate::query::name_pool::NamePool;
use crate::query::select::Selection;

mod turns;

thread_local! {
    /// Number of looks at records in this thread, so in this test.
    pub(super) static LOOKS: Cell<u64> = const { Cell::new(0) };
}

/// Fails if `run` looks at records much more than four times as often with four times the records.
pub(super) fn assert_few_looks(what: &str, run: impl Fn(i64)) {
    let looks = |count: i64| {
        LOOKS.set(0);
        run(count);
        LOOKS.get()
    };
    let (few, many) = (looks(100), looks(400));
    assert!(few >= 100 && many <= 6 * few, "{what}: {few} looks for 100 records, {many} for 400");
}

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

fn lines(lines: &[String]) -> RunLines {
    RunLines { lines: lines.iter().map(|line| line.as_bytes().into()).collect(), ..RunLines::default() }
}

/// Returns the rows of `stats` for these lines, each group read by a thread of its own.
fn rows(threads: &[&[String]], by_turn: bool, select: &Selection) -> Vec<ModelRow> {
    let table = |lines: &&[String]| {
        let mut joins = AgentJoins::without_sessions(TimeWindow::default());
        lines.iter().for_each(|line| joins.take_of_agent(line.as_bytes()));
        joins
    };
    let tables = threads.iter().map(table).reduce(|mut a, b| {
        a.merge(b);
        a
    });
    let mut joins = tables.unwrap();
    let mut joined = joins.join(&[]);
    joined.retain_selected(select);
    model_rows(&joined.facts, by_turn)
}

fn tool(seq: u64, name: &str, start: i64, ms: i64, more: &str) -> String {
    line("agent_tool", seq, start, ms, &format!(r#","tool_name":"{name}"{more}"#))
}

/// Returns for each call the `seq` of its tool, by what, and whether by its time.
fn joined(calls: &[OperationMatch], tools: &[String]) -> Vec<Option<(u64, JoinedBy, bool)>> {
    let lines = lines(tools);
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
        let lines = lines(&order.map(String::clone));
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
fn tree(calls: &[OperationMatch], facts: &[String]) -> Option<String> {
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
    let lines = lines(facts);
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
    assert_eq!(tree(&calls, &facts).unwrap(), expected);
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
    assert_eq!(tree(&calls, &facts).unwrap(), expected);
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
    assert_eq!(tree(&calls, &facts).unwrap(), expected);
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
    assert_eq!(tree(&calls, &facts).unwrap(), expected);
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
    assert_eq!(tree(&[], &facts).unwrap(), expected);
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
    assert_eq!(tree(&[], &facts).unwrap(), expected);
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
        let lines = lines(lines_of);
        let facts = lines.facts();
        let sum: u64 = facts.iter().filter_map(|fact| fact.record.input_tokens).sum();
        let rows = rows(&[lines_of], false, &Selection::default());
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
    assert_eq!(tree(&calls, &facts).unwrap(), expected);
}

#[test]
fn a_part_that_comes_late_is_counted_once_in_whatever_thread_it_was_read() {
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
    for (here, there) in [([first.clone(), other.clone()], later.clone()), ([later, other], first)] {
        let rows = rows(&[&here, &[there]], false, &Selection::default());
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].model_calls, rows[0].calls_with_tokens, rows[0].calls_with_cost), (2, 1, 1));
        assert_eq!((rows[0].input_tokens, rows[0].output_tokens, rows[0].cached_tokens), (10, 1, 7));
        assert_eq!(rows[0].cost_usd, Some(0.5));
    }
}

#[test]
fn of_two_first_parts_the_earlier_one_counts_in_every_view() {
    let part = |seq: u64, tokens: u64, cost: &str| {
        let more = format!(r#","fact_id":"f1","model":"m","input_tokens":{tokens},{cost}"#);
        line("model_call", seq, seq as i64, 100, &more)
    };
    let parts = [
        part(1, 10, r#""cost_usd":1.0,"cost_source":"config""#),
        part(2, 99, r#""cost_usd":2.0,"cost_source":"config""#),
        part(3, 77, r#""cost_usd":0.5,"cost_source":"agent""#),
    ];
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let parts = order.map(|at: usize| parts[at].clone());
        for count in 1..=3 {
            let rows = rows(&[&parts[..1], &parts[1..count]], false, &Selection::default());
            let lines = lines(&parts[..count]);
            let facts = lines.facts();
            let record = &facts[0].record;
            assert_eq!(
                (facts.len(), record.input_tokens),
                (1, Some(rows[0].input_tokens)),
                "{order:?} {count}"
            );
            assert_eq!(record.cost_usd, rows[0].cost_usd, "{order:?} {count}");
        }
    }
}

#[test]
fn the_rows_of_one_session_have_no_fact_of_another() {
    let select = Selection { only_session: Some("own".to_owned()), ..Selection::default() };
    let ids = [("own", ""), ("run", "own"), ("other", "other"), ("own2", "ow")];
    let turn = |(seq, (session, conversation)): (u64, (&str, &str))| {
        let more =
            format!(r#","session_id":"{session}","conversation_id":"{conversation}","turn_id":"{session}""#);
        line("agent_turn", seq, 0, 1, &more)
    };
    let lines: Vec<String> = (1..).zip(ids).map(turn).collect();
    let mut turns: Vec<String> =
        rows(&[&lines], true, &select).into_iter().map(|row| row.session_id).collect();
    turns.sort();
    assert_eq!(turns, ["own", "run"]);
}

#[test]
fn a_tool_of_one_process_is_not_below_a_model_call_of_another() {
    let of = |pid: u32| format!(r#","session_id":"0000c0","host_pid":{pid}"#);
    let facts = [
        line("model_call", 2, 0, 20, &of(70)),
        line("model_call", 3, 10, 20, &of(71)),
        tool(4, "read", 40, 10, &of(70)),
    ];
    assert_eq!(tree(&[], &facts).unwrap(), "outside 0\n model 2\n  ~tool 4\n model 3\n");
}

#[test]
fn parts_of_facts_in_any_order_give_the_figures_and_the_tree_the_same_facts() {
    let mut seed = 5_u64;
    let mut below = |end: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % end
    };
    for _ in 0..40 {
        let parts: Vec<String> = (0..30_u64)
            .map(|seq| {
                let run = below(2);
                let timestamp = at(below(20) as i64 * 10);
                let mut part = format!(
                    r#"{{"schema":"spantap/1","timestamp":"{timestamp}","event":"model_call","seq":{seq},"connection_id":"0000a{run}","agent_name":"codex","session_id":"c","fact_id":"f{}""#,
                    below(8)
                );
                let fields = [
                    (r#""amends":true"#.to_owned(), 2),
                    (format!(r#""status":"{}""#, ["ok", "error"][below(2) as usize]), 2),
                    (format!(r#""error_type":"{}""#, below(600)), 3),
                    (format!(r#""started_at":"{}""#, at(below(100) as i64)), 2),
                    (format!(r#""ended_at":"{}""#, at(100 + below(100) as i64)), 3),
                    (format!(r#""duration_ms":{}"#, below(3) * 50), 2),
                    (format!(r#""input_tokens":{}"#, below(100)), 2),
                    (format!(r#""output_tokens":{}"#, below(100)), 2),
                    (format!(r#""cached_tokens":{}"#, below(100)), 2),
                    (format!(r#""cost_usd":{},"cost_source":"{}""#, below(9), ["agent", "config"][below(2) as usize]), 2),
                    (format!(r#""model":"m{}""#, below(3)), 2),
                    (format!(r#""span_id":"s{}""#, below(9)), 3),
                ];
                fields.into_iter().filter(|(_, often)| below(*often) == 0).for_each(|(field, _)| part += &format!(",{field}"));
                part + "}"
            })
            .collect();
        let lines = lines(&parts);
        let sums = |record: &AgentRecord<'_>| {
            format!(
                "{:?} {:?} {:?} {:?}",
                record.began(),
                record.ended(),
                record.model,
                totals::ModelTotals::from(record)
            )
        };
        let mut tree: Vec<String> = lines.facts().iter().map(|fact| sums(&fact.record)).collect();
        tree.sort();
        let mut joins = AgentJoins::without_sessions(TimeWindow::default());
        parts.iter().rev().for_each(|line| joins.take_of_agent(line.as_bytes()));
        let joined = joins.join(&[]);
        let mut figures: Vec<String> =
            joined.facts.iter().map(|joined| sums(&joined.fact.record())).collect();
        figures.sort();
        assert_eq!(figures, tree, "{parts:#?}");
    }
}

#[test]
fn the_latest_lines_of_a_session_are_kept_and_the_others_are_counted_whichever_thread_reads_them() {
    let line = |ms: i64| -> Box<[u8]> { format!("{ms:010}").into_bytes().into() };
    let read = |times: &[i64]| {
        let mut lines = LatestLines::of_at_most(30);
        for ms in times {
            lines.keep(at(*ms), line(*ms));
            assert!(lines.bytes < 60, "memory is bounded before the end");
        }
        lines
    };
    for (here, there) in [
        (&[1, 2, 3, 4][..], &[5, 6, 7, 8][..]),
        (&[8, 1, 7, 2, 6, 3, 5], &[4]),
        (&[], &[8, 7, 6, 5, 4, 3, 2, 1]),
    ] {
        let mut lines = read(here);
        lines.merge(read(there));
        assert_eq!(lines.finish(), (vec![line(6), line(7), line(8)], 5), "{here:?} {there:?}");
    }
    let (kept, left_out) = read(&[3, 1, 2]).finish();
    assert_eq!((kept.len(), left_out), (3, 0), "all fit");
    assert_eq!(RunLines::default().left_out_text(), None);
    let cut = RunLines { left_out: 5, ..RunLines::default() };
    assert!(cut.left_out_text().unwrap().starts_with("5 reports of agents and servers are left out"));
}

#[test]
fn a_tree_of_four_times_the_records_needs_little_more_than_four_times_the_looks() {
    let second = |number: i64| number * 1_000;
    let in_trace = |number: i64| format!(r#","trace_id":"t","span_id":"s{number}","parent_span_id":"p""#);
    type Records<'f> = &'f dyn Fn(i64) -> (Option<OperationMatch>, Vec<String>);
    let cases: [(&str, Records<'_>); 7] = [
        ("call ids that come again", &|number| {
            let (seq, id) = (number as u64, r#","call_id":"0""#);
            let model = line("model_call", seq, second(number), 9, r#","call_ids":["0"]"#);
            (Some(call(seq, "a", second(number), 9, id)), vec![model, tool(seq, "a", second(number), 9, id)])
        }),
        ("tools without ids", &|number| {
            let seq = number as u64;
            (Some(call(seq, "a", second(number), 9, "")), vec![tool(seq, "a", second(number), 9, "")])
        }),
        ("model calls of another run", &|number| {
            let model = line("model_call", number as u64, second(number), 9, r#","session_id":"other""#);
            (None, vec![model, tool(number as u64, "a", second(number), 9, "")])
        }),
        ("model calls outside turns", &|number| {
            let seq = number as u64;
            let turn = line("agent_turn", seq, second(number), 9, "");
            (None, vec![turn, line("model_call", seq, second(number) + 500, 9, "")])
        }),
        ("model calls in a turn around others", &|number| {
            let long = if number == 0 { second(1_000) } else { 0 };
            let turn = line("agent_turn", number as u64, second(number), long, "");
            (None, vec![turn, line("model_call", number as u64, second(number) + 500, 9, "")])
        }),
        ("turns of one id", &|number| {
            let turn = r#","turn_id":"p0""#;
            let model = line("model_call", number as u64, second(number) + 1, 9, turn);
            (None, vec![line("agent_turn", number as u64, second(number), 0, turn), model])
        }),
        ("spans of one trace", &|number| {
            let seq = number as u64;
            let span = line("server_span", seq, second(number) + 1, 2, &in_trace(-number));
            (Some(call(seq, "a", second(number), 9, &in_trace(number))), vec![span])
        }),
    ];
    for (what, records) in cases {
        assert_few_looks(what, |count| {
            let (calls, texts): (Vec<_>, Vec<_>) = (0..count).map(records).unzip();
            let calls: Vec<OperationMatch> = calls.into_iter().flatten().collect();
            let lines = lines(&texts.concat());
            let facts = lines.facts();
            assert!(chain(&calls, &facts, true).is_some());
        });
    }
}
