//! Servers, rows and activity from made records and live states.

use super::*;
use crate::query::files::TimeWindow;
use crate::record::live::{LiveProcess, LiveRequest, LiveState};

const SECOND: i64 = 1_000_000;

fn line(seq: u64, second: u64, rest: &str) -> String {
    format!(
        r#"{{"schema":"spantap/1","event":"mcp_tool_call","session_id":"s","connection_id":"c","server_name":"db","seq":{seq},"timestamp":"2026-11-28T12:{:02}:{:02}.000000Z","status":"ok",{rest}}}"#,
        second / 60,
        second % 60
    )
}

fn end(seq: u64, second: u64) -> String {
    let ended = r#""reason":"server_died","exit_code":1,"stderr_tail":["at db.py","refused",""]"#;
    line(seq, second, ended).replace("mcp_tool_call", "session_ended")
}

fn scan(lines: &[String]) -> TopState {
    let select = Selection::default();
    // Threads read stretches in any order.
    let folds = lines.iter().rev().map(|line| {
        let mut scan = TopScan::new(&select);
        scan.take(&LogEntry::parse(line.as_bytes()).unwrap(), line.as_bytes());
        scan
    });
    let merged = folds.reduce(|mut a, b| {
        a.merge(b);
        a
    });
    merged.unwrap_or_else(|| TopScan::new(&select)).finish(None)
}

fn add(state: &mut TopState, line: &str) -> bool {
    add_new(state, &NewRecords::after(HashMap::new()), line)
}

fn add_new(state: &mut TopState, new: &NewRecords, line: &str) -> bool {
    let is_taken = state.take(&LogEntry::parse(line.as_bytes()).unwrap(), new, &Selection::default());
    state.settle();
    is_taken
}

fn at(second: i64) -> Timestamp {
    let noon: Timestamp = "2026-11-28T12:00:00.000000Z".parse().unwrap();
    Timestamp(noon.0 + second * SECOND)
}

fn live(session: &str, server: &str, open: usize) -> LiveConnection {
    let request = LiveRequest { method: "ping".to_owned(), started_at: at(100), ..LiveRequest::default() };
    let state = LiveState {
        connection_id: format!("{session}-{server}"),
        session_id: session.to_owned(),
        server_name: server.to_owned(),
        proxy: LiveProcess { boot_id: processes::boot_id(), ..LiveProcess::default() },
        started_at: at(60),
        updated_at: at(90),
        open: vec![request; open],
        ..LiveState::default()
    };
    LiveConnection { state, liveness: Liveness::Running }
}

fn servers(state: &mut TopState, order: TopOrder, second: i64) -> Vec<(String, ServerState)> {
    let servers = state.servers(&Selection::default(), order, at(second));
    servers.into_iter().map(|server| (server.server_name, server.state)).collect()
}

#[test]
fn the_definitions_of_a_server_are_those_that_it_listed_last_at_any_time() {
    let listed = |seq, second, bytes: u64| {
        let list = format!(r#""definition_bytes":{bytes},"is_complete":true"#);
        line(seq, second, &list).replace("mcp_tool_call", "tools_listed").replace("\"c\"", "\"s-db\"")
    };
    let select = Selection {
        window: crate::query::files::TimeWindow { since: Some(at(5)), until: None },
        ..Selection::default()
    };
    let mut scan = TopScan::new(&select);
    let before = listed(1, 1, 400);
    scan.take(&LogEntry::parse(before.as_bytes()).unwrap(), before.as_bytes());
    let mut state = scan.finish(None);
    state.set_live(vec![live("s", "db", 0), live("s", "other", 0)]);
    let tokens = |state: &mut TopState| {
        let servers = state.servers(&select, TopOrder::Server, at(120));
        servers.iter().map(|server| server.definition_tokens_est).collect::<Vec<_>>()
    };
    assert_eq!(tokens(&mut state), [Some(100), None]);
    add(&mut state, &listed(2, 9, 800));
    assert_eq!(tokens(&mut state), [Some(200), None]);
}

#[test]
fn a_line_that_was_read_before_does_not_count_again() {
    let mut state = scan(&[line(1, 1, r#""duration_ms":1"#), line(2, 2, r#""duration_ms":2"#)]);
    let new = NewRecords::after(HashMap::from([("c".into(), 2)]));
    assert!(!add_new(&mut state, &new, &line(2, 2, r#""duration_ms":2"#)));
    assert!(add_new(&mut state, &new, &line(3, 3, r#""duration_ms":3"#)));
    // A copy of the log appears.
    assert!(!add_new(&mut state, &new, &line(3, 3, r#""duration_ms":3"#)));
    let seqs = (0..3).map(|number| match state.row(number) {
        Some(LogRow::Operation(row)) => row.seq,
        _ => 0,
    });
    assert_eq!((seqs.collect::<Vec<_>>(), state.next_number()), (vec![1, 2, 3], 3));
    assert_eq!(state.activity(at(10)).last(), Some(&[3, 0]));
}

#[test]
fn the_newest_rows_are_kept_and_keep_their_numbers() {
    let mut state = scan(&[]);
    for seq in 1..=MOST_ROWS as u64 + 5 {
        add(&mut state, &line(seq, seq / 10, r#""duration_ms":1"#));
    }
    assert_eq!((state.rows.len(), state.next_number()), (MOST_ROWS, MOST_ROWS as u64 + 5));
    assert!(state.row(4).is_none());
    assert!(matches!(state.row(5), Some(LogRow::Operation(row)) if row.seq == 6));
}

#[test]
fn the_activity_is_that_of_the_last_five_minutes() {
    let failed = line(3, 299, r#""duration_ms":1"#).replace(r#""ok""#, r#""error""#);
    let state = scan(&[line(1, 0, r#""duration_ms":1"#), line(2, 20, r#""duration_ms":1"#), failed]);
    let sum = |second| state.activity(at(second)).iter().fold([0, 0], |a, b| [a[0] + b[0], a[1] + b[1]]);
    assert_eq!([sum(299), sum(300), sum(315), sum(900)], [[3, 1], [2, 1], [1, 1], [0, 0]]);
}

#[test]
fn a_server_that_died_is_shown_for_an_hour_or_while_its_session_runs_and_does_not_run_again() {
    let mut state = scan(&[line(1, 1, r#""duration_ms":7"#), end(2, 60)]);
    let dead = |name: &str| (name.to_owned(), ServerState::Dead);
    assert_eq!(servers(&mut state, TopOrder::Server, 100), [dead("db")]);
    let shown = state.servers(&Selection::default(), TopOrder::Server, at(100)).remove(0);
    assert_eq!((shown.calls, shown.p95_ms, &*shown.message), (1, Some(7.0), "exited with 1: refused"));
    assert!(servers(&mut state, TopOrder::Server, 60 + 3_600).is_empty());
    state.set_live(vec![live("s", "git", 0)]);
    let running = |name: &str| (name.to_owned(), ServerState::Idle);
    assert_eq!(servers(&mut state, TopOrder::Server, 60 + 3_600), [running("git"), dead("db")]);
    state.set_live(vec![live("s", "db", 1)]);
    assert_eq!(servers(&mut state, TopOrder::Server, 100), [("db".to_owned(), ServerState::Busy)]);
    add(&mut state, &line(9, 120, "\"reason\":\"server_exited\"").replace("mcp_tool_call", "session_ended"));
    state.set_live(Vec::new());
    assert!(servers(&mut state, TopOrder::Server, 130).is_empty(), "the last end was an ordinary one");
}

#[test]
fn servers_are_sorted_by_each_column_and_those_that_do_not_run_are_last() {
    let mut state = scan(&[end(2, 60)]);
    let mut connections = vec![live("s", "b", 0), live("s", "a", 2), live("s", "c", 0)];
    connections[0].state.calls = 5;
    connections[2].state.errors = 3;
    connections[2].state.updated_at = at(10);
    connections[1].state.started_at = at(2);
    state.set_live(connections);
    let mut names = |order| {
        let servers = servers(&mut state, order, 200);
        servers.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" ")
    };
    for (order, expected) in [
        (TopOrder::Server, "a b c db"),
        (TopOrder::Calls, "b a c db"),
        (TopOrder::Errors, "c a b db"),
        (TopOrder::Idle, "c b a db"),
        (TopOrder::Up, "a b c db"),
        (TopOrder::Memory, "a b c db"),
    ] {
        assert_eq!(names(order), expected, "{order:?}");
    }
}

#[test]
fn a_killed_proxy_is_shown_unless_its_end_is_in_the_log() {
    let mut killed = live("s", "db", 1);
    killed.liveness = Liveness::Killed;
    let mut state = scan(&[]);
    state.set_live(vec![killed.clone()]);
    assert_eq!(servers(&mut state, TopOrder::Server, 100), [("db".to_owned(), ServerState::Killed)]);
    killed.state.connection_id = "c".to_owned();
    let mut state =
        scan(&[line(4, 60, "\"reason\":\"server_exited\"").replace("mcp_tool_call", "session_ended")]);
    state.set_live(vec![killed]);
    assert!(servers(&mut state, TopOrder::Server, 100).is_empty());
}

#[test]
fn what_an_agent_reported_is_of_the_session_that_runs() {
    let told = |seq: u64, event: &str, session: &str, more: &str| {
        format!(
            r#"{{"schema":"spantap/1","event":"{event}","agent_name":"codex","session_id":"{session}","connection_id":"k","seq":{seq},"timestamp":"2026-11-28T12:01:40.000000Z"{more}}}"#
        )
    };
    let used = r#","model":"m","input_tokens":10,"output_tokens":1,"cost_usd":0.5"#;
    let select = Selection::default();
    let mut read = TopScan::new(&select);
    let call = line(1, 1, r#""duration_ms":1,"conversation_id":"own""#);
    read.take(&LogEntry::parse(call.as_bytes()).unwrap(), call.as_bytes());
    let mut joins = AgentJoins::new(TimeWindow::default(), HashSet::new());
    joins.take(&LogEntry::parse(call.as_bytes()).unwrap());
    joins.take_of_agent(told(0, "model_call", "own", used).as_bytes());
    joins.take_of_agent(told(1, "model_call", "other", used).as_bytes());
    let mut state = read.finish(Some(joins));
    let calls = |state: &mut TopState, second| {
        state.servers(&Selection::default(), TopOrder::Server, at(second));
        let agents = state.agents.iter();
        agents.map(|agent| (agent.session_id.clone(), agent.totals.models.calls)).collect::<Vec<_>>()
    };
    assert!(calls(&mut state, 100).is_empty(), "no session runs");
    state.set_live(vec![live("s", "db", 0), live("s", "git", 0), live("quiet", "git", 0)]);
    assert_eq!(calls(&mut state, 100), [("s".to_owned(), 1)]);
    let new = NewRecords::after(HashMap::from([("k".into(), 1)]));
    for (seq, is_new) in [(1, false), (2, true), (2, false)] {
        let line = told(seq, "model_call", "own", used);
        let entry = LogEntry::parse(line.as_bytes()).unwrap();
        assert_eq!(state.take_of_agent(&entry, line.as_bytes(), &new), is_new);
    }
    assert_eq!(calls(&mut state, 120), [("s".to_owned(), 2)]);
    assert_eq!(state.agents[0].totals.models.cost(), Some(1.0));
    // A call of another conversation comes, and its facts were here before.
    let other = line(2, 104, r#""duration_ms":1,"conversation_id":"other""#);
    assert!(add(&mut state, &other));
    let late = told(9, "model_call", "own", used);
    assert!(state.take_of_agent(&LogEntry::parse(late.as_bytes()).unwrap(), late.as_bytes(), &new));
    assert_eq!(calls(&mut state, 140), [("s".to_owned(), 4)]);
}
