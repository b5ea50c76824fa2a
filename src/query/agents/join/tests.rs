//! Which fact belongs to which session. Times are milliseconds after a fixed moment.

use super::*;
use crate::query::agents::names::CANDIDATES;
use crate::query::agents::table::model_rows;
use crate::query::agents::tests::assert_few_looks;
use crate::record::live::LiveState;

mod counted;

const DAWN: i64 = 1_800_000_000_000_000;
const DAY: i64 = 24 * 3_600_000;

fn at(ms: i64) -> Timestamp {
    Timestamp(DAWN + ms * 1_000)
}

/// Makes the record of a call of `tool` on the server `files`, whose host is Codex.
fn call(session: &str, tool: &str, start: i64, more: &str) -> String {
    let (started, ended) = (at(start), at(start + 10));
    format!(
        r#"{{"schema":"spantap/1","timestamp":"{ended}","event":"mcp_tool_call","session_id":"{session}","connection_id":"of-{session}","server_name":"files","host_name":"codex-mcp-client","tool_name":"{tool}","started_at":"{started}","duration_ms":10,"status":"ok"{more}}}"#
    )
}

/// Makes the first record of a session, whose proxies the process `pid` started.
fn start(session: &str, at_ms: i64, pid: u32) -> String {
    call(session, "", at_ms, &format!(r#","host_pid":{pid}"#)).replace("mcp_tool_call", "session_started")
}

/// Makes a fact of Codex that lasts 10 ms and has the name `name`.
fn fact(event: &str, name: &str, session: &str, start: i64, more: &str) -> String {
    let (started, ended) = (at(start), at(start + 10));
    format!(
        r#"{{"schema":"spantap/1","timestamp":"{ended}","event":"{event}","seq":{start},"fact_id":"{name}","model":"{name}","connection_id":"0000c0","session_id":"{session}","agent_name":"codex","started_at":"{started}","ended_at":"{ended}"{more}}}"#
    )
}

fn model(name: &str, session: &str, start: i64, more: &str) -> String {
    fact("model_call", name, session, start, more)
}

fn tool(name: &str, session: &str, start: i64, tool: &str, more: &str) -> String {
    fact("agent_tool", name, session, start, &format!(r#","tool_name":"{tool}"{more}"#))
}

fn running(session: &str) -> LiveConnection {
    let state = LiveState { session_id: session.to_owned(), started_at: at(0), ..LiveState::default() };
    LiveConnection { state, liveness: Liveness::Running }
}

fn take_all(joins: &mut AgentJoins, wire: &[String]) {
    for line in wire {
        joins.take(&LogEntry::parse(line.as_bytes()).unwrap());
    }
}

/// Returns `fact:session` of each fact that has a session, and what is said of ambiguous ones. The order in which the
/// lines are read, and the thread that reads them, change nothing.
fn joined_with(live: &[LiveConnection], wire: &[String], facts: &[String]) -> (String, Vec<String>) {
    let read = |wire: &[String], facts: &[String]| {
        let mut joins = AgentJoins::new(TimeWindow::default(), HashSet::new());
        take_all(&mut joins, wire);
        facts.iter().for_each(|line| joins.take_of_agent(line.as_bytes()));
        joins
    };
    let answer = |mut joins: AgentJoins| {
        let joined = joins.join(live);
        let mut found: Vec<String> = joined
            .facts
            .iter()
            .filter_map(|found| Some(format!("{}:{}", found.fact.model, found.session.as_deref()?)))
            .collect();
        found.sort();
        let mut doubts: Vec<String> =
            joined.ambiguous.iter().map(|(id, runs)| format!("{id}: {}", runs.facts()[0])).collect();
        doubts.sort();
        (found.join(" "), doubts)
    };
    let found = answer(read(wire, facts));
    let mut parts = read(&[], &[]);
    for line in facts.iter().rev() {
        parts.merge(read(&[], std::slice::from_ref(line)));
    }
    for line in wire.iter().rev() {
        parts.merge(read(std::slice::from_ref(line), &[]));
    }
    assert_eq!(answer(parts), found, "the order of reading changes the answer");
    found
}

fn joined(wire: &[String], facts: &[String]) -> String {
    joined_with(&[], wire, facts).0
}

#[test]
fn a_session_whose_end_was_not_recorded_ends_with_its_last_record_unless_it_runs() {
    let wire = [call("s", "a", 0, r#","conversation_id":"c""#)];
    let facts = [model("m1", "c", 100, ""), model("m2", "c", 59_000, ""), model("m3", "c", DAY, "")];
    assert_eq!(joined(&wire, &facts), "m1:s m2:s", "it was killed");
    assert_eq!(joined_with(&[running("s")], &wire, &facts).0, "m1:s m2:s m3:s");
    let mut killed = running("s");
    killed.liveness = Liveness::Killed;
    assert_eq!(joined_with(&[killed], &wire, &facts).0, "m1:s m2:s");
    // Nothing shows whether the proxy of a container runs. Its live file shows that it did at its last change.
    let mut unknown = running("s");
    unknown.liveness = Liveness::Unknown;
    assert_eq!(joined_with(std::slice::from_ref(&unknown), &wire, &facts).0, "m1:s m2:s");
    unknown.state.updated_at = at(DAY - 59_000);
    assert_eq!(joined_with(std::slice::from_ref(&unknown), &wire, &facts).0, "m1:s m2:s m3:s");
    unknown.state.updated_at = at(DAY - 61_000);
    assert_eq!(joined_with(&[unknown], &wire, &facts).0, "m1:s m2:s");
    // The id of the session itself is the agent's.
    let own = facts.map(|fact| fact.replace(r#""session_id":"c""#, r#""session_id":"s""#));
    assert_eq!(joined(&wire, &own), "m1:s m2:s m3:s");
}

#[test]
fn a_session_is_known_by_its_records_before_the_selected_time() {
    let wire = [
        start("s", 0, 71),
        call("s", "a", 10, r#","conversation_id":"c""#),
        call("s", "b", 300_000, ""),
        // A session that was over before.
        start("old", -200_000, 71),
    ];
    let model_of = |name: &str, run: &str, start: i64, pid: u32| {
        model(name, run, start, &format!(r#","host_pid":{pid}"#))
    };
    let by_process = [model_of("m1", "one", 150_000, 71), model_of("m2", "two", 150_001, 72)];
    let by_conversation =
        [model_of("m0", "c", 20, 5), model_of("m1", "c", 150_000, 5), model_of("m2", "d", 150_001, 6)];
    for facts in [&by_process[..], &by_conversation] {
        let window = TimeWindow { since: Some(at(100_000)), until: None };
        let mut joins = AgentJoins::new(window, HashSet::new());
        take_all(&mut joins, &wire);
        facts.iter().for_each(|line| joins.take_of_agent(line.as_bytes()));
        let joined = joins.join(&[]);
        let found: Vec<_> =
            joined.facts.iter().map(|found| (&*found.fact.model, found.session.as_deref())).collect();
        assert_eq!(found, [("m1", Some("s")), ("m2", None)]);
        assert!(joined.ambiguous.is_empty());
    }
}

#[test]
fn a_conversation_that_goes_on_in_another_session_belongs_to_each_by_its_time() {
    let conversation = r#","conversation_id":"c""#;
    let wire = [call("s1", "a", 0, conversation), call("s2", "a", DAY, conversation)];
    let facts = [model("m1", "c", 100, ""), model("m2", "c", DAY - 100, ""), model("m3", "c", DAY / 2, "")];
    assert_eq!(joined(&wire, &facts), "m1:s1 m2:s2");
    assert_eq!(joined(&wire[1..], &facts), "m2:s2", "the log of the other session was not read");
    // Only one of the two records has the id, and the call id says whose run that is.
    let wire = [call("s1", "a", 0, r#","call_id":"x""#), call("s2", "a", DAY, "")];
    let facts = [model("m1", "run", 50, ""), tool("t", "run", 0, "z", r#","call_id":"x""#)];
    assert_eq!(joined(&wire, &facts), "m1:s1 t:s1");
}

#[test]
fn a_call_id_that_comes_again_does_not_outweigh_the_conversation() {
    let ids = |conversation: &str| format!(r#","call_id":"0","conversation_id":"{conversation}""#);
    let wire = [call("s1", "a", 0, &ids("c1")), call("s2", "a", 5, &ids("c2"))];
    let of = |name: &str, run: &str| tool(name, run, 2, "a", r#","call_id":"0""#);
    let facts = [of("t1", "c1"), of("t2", "c2"), model("m1", "c1", 900, ""), model("m2", "c2", 900, "")];
    assert_eq!(joined(&wire, &facts), "m1:s1 m2:s2 t1:s1 t2:s2");
}

#[test]
fn a_call_id_joins_only_the_agent_that_is_the_host_and_only_if_one_session_has_it() {
    let id = r#","call_id":"call_1""#;
    let of_opencode = |line: String| line.replace(r#""codex-mcp-client""#, r#""opencode""#);
    // A local model counts the calls of both agents, and only Codex sends the ids to its servers.
    let wire = [call("s1", "read", 0, id), of_opencode(call("s2", "list", 5, ""))];
    let codex = [model("m1", "one", 50, ""), tool("t1", "one", 0, "read", id)];
    let opencode = [model("m2", "two", 50, ""), tool("t2", "two", 5, "list", id)]
        .map(|fact| fact.replace(r#""agent_name":"codex""#, r#""agent_name":"opencode""#));
    let both = [&codex[..], &opencode].concat();
    assert_eq!(joined(&wire, &both), "m1:s1 m2:s2 t1:s1 t2:s2");
    assert_eq!(joined(&wire[..1], &both), "m1:s1 t1:s1", "opencode is not behind spantap");
    let nameless = wire[..1].iter().map(|line| line.replace("codex-mcp-client", "")).collect::<Vec<_>>();
    assert_eq!(joined(&nameless, &codex), "m1:s1 t1:s1", "the host is not known");
    // Two sessions of Codex have the id at this time, and a third one on another day.
    let twice = [&wire[..1], &[call("s3", "list", 5, id), call("s4", "list", DAY, id)]].concat();
    let unclear = [model("m1", "one", 50, ""), tool("t1", "one", 2, "write", id)];
    assert_eq!(joined(&twice, &unclear), "");
    assert_eq!(joined(&twice, &codex), "m1:s1 t1:s1", "the names of the tools tell them apart");
    let later = [model("m1", "one", DAY + 50, ""), tool("t1", "one", DAY, "write", id)];
    assert_eq!(joined(&twice, &later), "m1:s4 t1:s4");
}

#[test]
fn a_process_is_the_agent_though_the_call_of_its_tool_was_not_recorded() {
    let of_files = |pid: u32| format!(r#","host_pid":{pid},"tool_server":"files""#);
    let run = |name: &str, run: &str, pid: u32| {
        let of_process = format!(r#","host_pid":{pid}"#);
        [
            model(&format!("m{name}"), run, 10, &of_process),
            tool(&format!("t{name}"), run, 95, "read", &of_files(pid)),
        ]
    };
    let wire = [start("s1", 0, 70), call("s1", "last", 9_000, "")];
    assert_eq!(joined(&wire, &run("1", "one", 70)), "m1:s1 t1:s1", "the tool failed before it was sent");
    // A call of the same tool in the session of another process says nothing of this one.
    let other = [start("s2", 0, 71), call("s2", "read", 96, ""), call("s2", "last", 9_000, "")];
    let runs = [run("1", "one", 70), run("2", "two", 71)].concat();
    assert_eq!(joined(&[&wire[..], &other].concat(), &runs), "m1:s1 m2:s2 t1:s1 t2:s2");
    // It was sent in a session whose proxies a launcher started: this number is that of another pid namespace.
    let launched = [start("s2", 0, 5), call("s2", "read", 96, "")];
    assert_eq!(joined(&[&wire[..], &launched].concat(), &run("1", "one", 70)), "m1:s2 t1:s2");
}

#[test]
fn the_records_of_a_run_without_ids_are_those_of_its_process_or_trace() {
    let wire = [start("s", 0, 71), call("s", "a", 500, r#","trace_id":"t""#)];
    let of = |name: &str, start: i64, more: &str| model(name, "0000c0", start, more);
    let two = [of("m1", 100, r#","host_pid":70"#), of("m2", 200, r#","host_pid":71"#)];
    assert_eq!(joined(&wire, &two), "m2:s");
    let with_trace = [of("m1", 100, r#","trace_id":"t""#), of("m2", 200, "")];
    assert_eq!(joined(&wire[1..], &with_trace), "m1:s", "the other one is of any run");
    // One of the two processes has a trace in common with the session, and the records without a trace follow it.
    let followed = [
        of("m1", 100, r#","host_pid":70,"trace_id":"t""#),
        of("m2", 200, r#","host_pid":70"#),
        of("m3", 200, r#","host_pid":72"#),
    ];
    assert_eq!(joined(&wire[1..], &followed), "m1:s m2:s");
}

#[test]
fn the_process_that_started_the_proxies_tells_two_runs_of_one_agent_apart() {
    let of = |name: &str, run: &str, start: i64, pid: &str| {
        let pid = if pid.is_empty() { String::new() } else { format!(r#","host_pid":{pid}"#) };
        tool(name, run, start, "a", &pid)
    };
    let calls = [call("s", "a", 100, ""), call("s", "a", 1_000, "")];
    let of_process = |pid: u32| [&[start("s", 0, pid)], &calls[..]].concat();
    let two = [of("m1", "one", 100, "70"), of("m2", "two", 1_000, "71")];
    assert_eq!(joined(&of_process(71), &two), "m2:s");
    // The proxies were started by a launcher, or the log is older: only the name of the host fits.
    for wire in [&of_process(5)[..], &calls] {
        let (found, doubts) = joined_with(&[], wire, &two);
        assert_eq!(found, "");
        assert_eq!(doubts, ["s: agent: 2 runs of codex at this time, and no id says which one"]);
    }
    assert_eq!(joined(&of_process(5), &two[..1]), "m1:s");
    // The second one began after the end of the session.
    assert_eq!(joined(&calls, &[of("m1", "one", 100, ""), of("m2", "two", 2_000, "")]), "m1:s");
    // A helper has a session of its own in the trace of its agent.
    let in_trace = |fact: String| fact.replace(r#""agent_name""#, r#""trace_id":"t","agent_name""#);
    let helper = [in_trace(of("m1", "one", 100, "")), in_trace(model("m2", "helper", 200, ""))];
    assert_eq!(joined(&calls, &helper), "m1:s m2:s");
    let with_other = [&helper[..], &[of("m3", "other", 300, "")]].concat();
    assert_eq!(joined(&calls, &with_other), "");
    // A run with an id of the session leaves no doubt.
    let known = [&calls[..], &[call("s", "a", 100, r#","conversation_id":"one""#)]].concat();
    assert_eq!(joined(&known, &two), "m1:s");
}

#[test]
fn a_run_that_only_has_the_name_of_the_host_needs_a_tool_that_can_be_a_call() {
    let wire = [start("s", 0, 5), call("s", "read", 111, "")];
    let facts = |name: &str, more: &str| [model("m", "run", 0, ""), tool("t", "run", 110, name, more)];
    assert_eq!(joined(&wire, &facts("read", "")), "m:s t:s");
    assert_eq!(joined(&wire, &facts("mcp__files__read", "")), "m:s t:s");
    assert_eq!(joined(&wire, &facts("write", "")), "");
    assert_eq!(
        joined(&wire, &facts("read", r#","tool_server":"notes""#)),
        "m:s t:s",
        "it may have another name"
    );
    assert_eq!(joined(&wire, &facts("read", r#","decision":"refused""#)), "");
    let git = start("s", 0, 5).replace(r#""server_name":"files""#, r#""server_name":"notes""#);
    assert_eq!(joined(&[&wire[..], &[git]].concat(), &facts("read", r#","tool_server":"notes""#)), "");
    // Two sessions were there, and the tool can be a call of each.
    let (found, doubts) = joined_with(
        &[],
        &[&wire[..], &[start("s2", 5, 6), call("s2", "read", 112, "")]].concat(),
        &facts("read", ""),
    );
    assert_eq!(found, "");
    let doubt = "agent: a run of codex and 2 sessions at this time, and no id says which belong together";
    assert_eq!(doubts, [format!("s2: {doubt}"), format!("s: {doubt}")]);
    // An agent of another name is another agent.
    let other = facts("read", "").map(|fact| fact.replace("codex", "opencode"));
    assert_eq!(joined(&wire, &other), "");
}

#[test]
fn many_tools_of_another_agent_do_not_hide_the_one_that_is_the_call() {
    let of_opencode =
        |line: String| line.replace("codex-mcp-client", "opencode").replace("codex", "opencode");
    let wire = [call("s1", "read", 100, ""), of_opencode(call("s2", "list", 100, ""))];
    let others = (0..2 * CANDIDATES).map(|n| of_opencode(tool(&format!("o{n}"), "other", 101, "read", "")));
    let run = [model("m", "run", 0, ""), tool("t", "run", 99, "read", "")];
    assert_eq!(joined(&wire, &run.into_iter().chain(others).collect::<Vec<_>>()), "m:s1 t:s1");
}

#[test]
fn the_way_out_of_a_doubt_fits_what_is_known() {
    let way_out = |wire: &[String], facts: &[String]| {
        let mut joins = AgentJoins::new(TimeWindow::default(), HashSet::new());
        take_all(&mut joins, wire);
        facts.iter().for_each(|line| joins.take_of_agent(line.as_bytes()));
        let [_, _, way_out] = joins.join(&[]).ambiguous_of("s1").unwrap().facts();
        way_out
    };
    let wire = |pid: u32| {
        ["s1", "s2"].map(|session| [start(session, 0, pid), call(session, "read", 100, "")]).concat()
    };
    let run = |name: &str| tool(name, name, 100, "read", r#","host_pid":70"#);
    let of_one_process = way_out(&wire(70), &[run("one")]);
    assert!(
        of_one_process.ends_with("if each session has a process of the agent of its own"),
        "{of_one_process}"
    );
    let other = run("two").replace(":70", ":71");
    for facts in [&[run("one")][..], &[run("one"), other]] {
        let launched = way_out(&wire(5), facts);
        assert!(launched.ends_with("and it starts spantap itself, without npx"), "{launched}");
    }
}

#[test]
fn processes_of_two_namespaces_that_have_one_number_are_told_apart_by_their_calls() {
    let pid = r#","host_pid":1"#;
    let of_files = r#","host_pid":1,"tool_server":"files""#;
    let wire = [
        start("s1", 0, 1),
        call("s1", "read", 100, ""),
        call("s1", "last", 9_000, ""),
        start("s2", 50, 1),
        call("s2", "list", 100, ""),
        call("s2", "last", 9_000, ""),
    ];
    let runs = [
        model("m1", "one", 10, pid),
        tool("t1", "one", 95, "read", of_files),
        model("m2", "two", 10, pid),
        tool("t2", "two", 95, "list", of_files),
    ];
    assert_eq!(joined(&wire, &runs), "m1:s1 m2:s2 t1:s1 t2:s2");
    // Without tools nothing tells them apart.
    let silent = [runs[0].clone(), runs[2].clone()];
    let (found, doubts) = joined_with(&[], &wire, &silent);
    assert_eq!((&*found, doubts.len()), ("", 2), "{doubts:?}");
    // The other container is not behind spantap: its tools of this server are not calls of the session.
    assert_eq!(joined(&wire[..3], &runs), "m1:s1 t1:s1");
    // A conversation can go on in another process.
    let resumed = [model("m1", "run", 10, r#","host_pid":1"#), model("m2", "run", DAY, r#","host_pid":2"#)];
    let both = [&wire[..3], &[start("s2", DAY, 2), call("s2", "list", DAY, "")]].concat();
    assert_eq!(joined(&both, &resumed), "m1:s1 m2:s2");
    // A number that is used again on another day is that of the process of the day.
    let later = [&wire[..3], &[start("s2", DAY, 1), call("s2", "list", DAY, "")]].concat();
    assert_eq!(joined(&later, &[model("m1", "one", 10, pid), model("m2", "two", DAY, pid)]), "m1:s1 m2:s2");
}

#[test]
fn the_latest_facts_are_kept_and_the_records_of_the_others_are_counted_once() {
    let part = |seqs: &[i64]| {
        let mut table = FactTable::of_at_most(3);
        for seq in seqs {
            table.take(model(&format!("m{seq}"), "c", 10 * seq, "").as_bytes());
            assert!(table.len() < 6, "memory is bounded before the end");
        }
        table
    };
    // A record of m1 comes again after m1 was dropped: two records of one fact are left out.
    let orders: [(&[i64], &[i64], u64); 3] = [
        (&[9, 1, 8, 2, 7, 3, 6], &[5, 4], 6),
        (&[1, 2, 3, 4, 5], &[9, 8, 7, 6], 6),
        (&[9, 8, 7, 6, 5, 4, 1, 3, 2, 1], &[1], 8),
    ];
    for (here, there, records) in orders {
        let mut all = part(here);
        all.merge(part(there));
        all.settle();
        let models: Vec<&str> = all.facts().iter().map(|(fact, _)| &*fact.model).collect();
        assert_eq!((models.join(" "), all.left_out()), ("m7 m8 m9".to_owned(), records));
        assert!(left_out_text(records).unwrap().starts_with(&format!("{records} reports of agents")));
    }
    assert_eq!(left_out_text(0), None);
}

#[test]
fn facts_of_an_old_session_are_found_though_later_ones_fill_the_table() {
    let facts: Vec<String> = (0..9).map(|day| model(&format!("m{day}"), "c", day * DAY, "")).collect();
    let wire = call("s", "a", DAY, r#","conversation_id":"c""#);
    let mut joins = AgentJoins::new(TimeWindow::default(), HashSet::new());
    let (from, until) = time_near((at(DAY), at(DAY + 10)));
    let mut of_session = joins.for_only(FactsOf { session_id: "s".into(), from, until });
    joins.facts = FactTable::of_at_most(3);
    for joins in [&mut joins, &mut of_session] {
        joins.take(&LogEntry::parse(wire.as_bytes()).unwrap());
        facts.iter().for_each(|line| joins.take_of_agent(line.as_bytes()));
    }
    let found = joins.join(&[]);
    assert!(found.is_cut() && found.records_of("s").is_empty());
    let found = of_session.join(&[]);
    assert!(!found.is_cut() && found.records_of("s").len() == 1);
}

#[test]
fn the_rows_of_a_selected_session_are_those_that_belong_to_it() {
    let conversation = r#","conversation_id":"c""#;
    let wire = [
        call("s1", "a", 0, conversation),
        call("s2", "a", DAY, conversation),
        // The agent continues the session s3 in s4, and keeps the id in its reports.
        call("s3", "a", 2 * DAY, ""),
        call("s4", "a", 3 * DAY, r#","call_id":"x""#),
    ];
    let facts = [
        model("m1", "c", 100, ""),
        model("m2", "c", DAY, ""),
        model("m3", "c", DAY / 2, ""),
        model("m4", "s3", 2 * DAY, ""),
        model("m5", "s3", 3 * DAY, ""),
        tool("t", "s3", 3 * DAY, "a", r#","call_id":"x""#),
        // A run that no session has.
        model("m6", "s33", 4 * DAY, ""),
    ];
    let models = |select: &Selection| {
        let mut joins = AgentJoins::new(TimeWindow::default(), HashSet::new());
        take_all(&mut joins, &wire);
        facts.iter().for_each(|line| joins.take_of_agent(line.as_bytes()));
        let mut joined = joins.join(&[]);
        joined.retain_selected(select);
        model_rows(&joined.facts, false).into_iter().map(|row| row.model).collect::<Vec<_>>().join(" ")
    };
    let of_prefix =
        |wanted: &str| models(&Selection { session: Some(wanted.to_owned()), ..Selection::default() });
    assert_eq!(["s1", "s2", "c", "other"].map(of_prefix), ["m1", "m2", "m1 m3 m2", ""]);
    assert_eq!(["s3", "s4", "s33"].map(of_prefix), ["m4 m6", "m5", "m6"]);
    let of_only =
        |only: &str| models(&Selection { only_session: Some(only.to_owned()), ..Selection::default() });
    assert_eq!(["s3", "s4", "s33", "c"].map(of_only), ["m4", "m5", "m6", "m1 m3 m2"]);
}

#[test]
fn a_turn_id_that_comes_again_in_another_session_is_another_turn() {
    let hour = 3_600_000;
    let conversation = r#","conversation_id":"c""#;
    let wire = [call("s1", "a", 0, conversation), call("s2", "a", hour, conversation)];
    let turn = r#","turn_id":"p0""#;
    let facts = [
        fact("agent_turn", "t1", "c", 0, turn),
        model("m1", "c", 10, turn),
        // The first server of the session started five minutes later.
        fact("agent_turn", "t2", "c", hour - 300_000, turn),
        model("m2", "c", hour, turn),
        model("m3", "c", hour + 10, turn),
    ];
    let turns = |wire: &[String]| {
        let mut joins = AgentJoins::new(TimeWindow::default(), HashSet::new());
        take_all(&mut joins, wire);
        facts.iter().for_each(|line| joins.take_of_agent(line.as_bytes()));
        let rows = model_rows(&joins.join(&[]).facts, true);
        let mut turns: Vec<_> = rows.iter().map(|row| (row.started_at.unwrap(), row.model_calls)).collect();
        turns.sort();
        turns
    };
    assert_eq!(turns(&[]), [(at(0), 3)], "no session is known");
    assert_eq!(turns(&wire), [(at(0), 1), (at(hour - 300_000), 2)]);
}

#[test]
fn a_turn_that_began_long_before_the_first_server_is_one_turn_of_the_session_in_every_view() {
    let minute = 60_000;
    let turn = r#","turn_id":"p0""#;
    let facts = [
        fact("agent_turn", "t1", "c", 0, turn),
        model("m1", "c", 10, turn),
        // The first server of the session started twenty minutes later, and the last record is its call.
        model("m2", "c", 20 * minute, turn),
        model("m3", "c", 40 * minute, turn),
        // Another turn, to which no server belongs.
        model("m4", "c", 41 * minute, r#","turn_id":"p1""#),
        // The agent was started again on another day, and counts its turns anew.
        model("m5", "c", DAY, turn),
    ];
    let wire = [call("s", "a", 20 * minute, r#","conversation_id":"c""#)];
    assert_eq!(joined(&wire, &facts), "m1:s m2:s m3:s t1:s");
    let mut joins = AgentJoins::new(TimeWindow::default(), HashSet::new());
    take_all(&mut joins, &wire);
    facts.iter().for_each(|line| joins.take_of_agent(line.as_bytes()));
    let mut joined = joins.join(&[]);
    let totals = joined.totals_of(["s"].into_iter());
    assert_eq!((totals["s"].turns, totals["s"].models.calls, joined.records_of("s").len()), (1, 3, 4));
    let mut rows: Vec<_> = model_rows(&joined.facts, true)
        .into_iter()
        .map(|row| (row.session_id, row.agent_session_id, row.turn_id, row.model_calls))
        .collect();
    rows.sort();
    let row = |session: &str, turn: &str, calls: u64| -> (String, String, String, u64) {
        (session.to_owned(), "c".to_owned(), turn.to_owned(), calls)
    };
    assert_eq!(rows, [row("c", "p0", 1), row("c", "p1", 1), row("s", "p0", 3)]);
    joined.retain_selected(&Selection { session: Some("s".to_owned()), ..Selection::default() });
    assert_eq!(model_rows(&joined.facts, true)[0].model_calls, 3, "of the selected session");
}

#[test]
fn four_times_the_sessions_and_facts_need_little_more_than_four_times_the_looks() {
    let conversation = r#","conversation_id":"c""#;
    let id = r#","call_id":"0""#;
    let name = |day: i64| format!("f{day}");
    let session = |day: i64| format!("s{day}");
    type Records<'f> = &'f dyn Fn(i64) -> [String; 2];
    let cases: [(&str, Records<'_>); 4] = [
        ("a conversation that goes on each day", &|day| {
            [call(&session(day), "a", day * DAY, conversation), model(&name(day), "c", day * DAY, "")]
        }),
        ("a call id that comes again", &|day| {
            let tool = tool(&name(day), &format!("run-{day}"), day * DAY, "b", id);
            [call(&session(day), "a", day * DAY, id), tool]
        }),
        ("one run of each day", &|day| {
            [
                call(&session(day), "a", day * DAY, ""),
                tool(&name(day), &format!("run-{day}"), day * DAY, "a", ""),
            ]
        }),
        ("one run of all days", &|day| {
            [call(&session(day), "a", day * DAY, ""), tool(&name(day), "run", day * DAY, "a", "")]
        }),
    ];
    for (what, records) in cases {
        for live in [vec![], vec![running("s0")]] {
            assert_few_looks(what, |count| {
                let mut joins = AgentJoins::new(TimeWindow::default(), HashSet::new());
                for [wire, fact] in (0..count).map(records) {
                    take_all(&mut joins, &[wire]);
                    joins.take_of_agent(fact.as_bytes());
                }
                assert_eq!(joins.join(&live).facts.len() as i64, count);
            });
        }
    }
}
