//! Every command that shows what the agent of a session used gives the same figures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};
use spantap::record::timestamp::Timestamp;

use super::recorded;
use crate::support::*;

/// Model calls, tokens in, cached and out, and the cost in millionths of a dollar.
type Used = [i64; 5];

fn micros(usd: f64) -> i64 {
    (usd * 1e6).round() as i64
}

fn add(sum: &mut Used, used: Used) {
    sum.iter_mut().zip(used).for_each(|(sum, used)| *sum += used);
}

fn json_lines(home: &Home, arguments: &[&str]) -> Vec<Value> {
    let output = home.spantap(arguments.iter().copied()).output().unwrap();
    let (printed, said) = text(&output);
    assert!(output.status.success(), "{arguments:?}: {}: {said}", output.status);
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn used(row: &Value, calls: &str) -> Used {
    let number = |name: &str| row[name].as_i64().unwrap_or(0);
    let tokens = ["input_tokens", "cached_tokens", "output_tokens"].map(number);
    [number(calls), tokens[0], tokens[1], tokens[2], micros(row["cost_usd"].as_f64().unwrap_or(0.0))]
}

fn sum(rows: impl Iterator<Item = Used>) -> Used {
    rows.fold(Used::default(), |mut sum, used| {
        add(&mut sum, used);
        sum
    })
}

/// Returns true if the text has `what`, and not as the end of a longer number.
fn has_number(text: &str, what: &str) -> bool {
    text.match_indices(what).any(|(at, _)| !text[..at].ends_with(|c: char| c.is_ascii_digit() || c == ','))
}

/// Failed model calls, tools that were refused and not sent, tools, and turns.
type Counts = [i64; 4];

/// Returns the number of records of this event with this word.
fn count(records: &[Value], event: &str, field: &str, word: &str) -> i64 {
    records.iter().filter(|record| record["event"] == event && record[field] == word).count() as i64
}

/// Returns the number of refused tools above which no call is drawn.
fn refused(shown: &[Value]) -> i64 {
    let parents: BTreeSet<&str> = shown
        .iter()
        .filter(|record| record["event"] == "mcp_tool_call")
        .filter_map(|call| call["chain"]["parent"].as_str())
        .collect();
    let is_above = |tool: &&Value| parents.contains(tool["chain"]["handle"].as_str().unwrap());
    let tools = shown.iter().filter(|record| record["event"] == "agent_tool");
    let tools = tools.filter(|tool| tool["decision"] == "refused");
    tools.filter(|tool| !is_above(tool)).count() as i64
}

/// Returns what each session of the folder used, after every command has said the same.
fn used_by_session(folder: &Path) -> BTreeMap<String, Used> {
    used_since(folder, "2026-01-01")
}

/// Returns what each session of the folder used since that time, after every command has said the same.
fn used_since(folder: &Path, since: &str) -> BTreeMap<String, Used> {
    used_in(&Home::new(), folder, since)
}

/// Does the same for the processes of this home.
fn used_in(home: &Home, folder: &Path, since: &str) -> BTreeMap<String, Used> {
    let place = folder.to_str().unwrap();
    let sessions = home.spantap(["sessions", "--since", since, "--json", place]).output().unwrap();
    let (rows, noted) = text(&sessions);
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let page = text(&home.spantap(["report", "--since", since, "-o", "-", place]).output().unwrap()).0;
    let data = page.split("<script id=\"data\" type=\"application/json\">").nth(1).unwrap();
    let page: Value = serde_json::from_str(data.split("</script>").next().unwrap()).unwrap();
    let mut asked = Asked::new(home, place);
    let told = asked.answer("sessions", json!({"since": since}))["rows"].clone();
    let top = json_lines(home, &["top", "--once", "--since", since, "--json", place]);
    let all = json_lines(home, &["stats", "--by", "turn", "--since", since, "--json", place]);
    for row in &rows {
        let id = row["session_id"].as_str().unwrap();
        let of_session = |row: &&Value| row["session_id"] == id;
        let expected = used(row, "model_calls");
        let shown = json_lines(home, &["show", id, place, "--since", since, "--json"]);
        let counts = [
            count(&shown, "model_call", "status", "error"),
            refused(&shown),
            shown.iter().filter(|record| record["event"] == "agent_tool").count() as i64,
            row["turns"].as_i64().unwrap(),
        ];
        let drawn = check_show(home, place, since, row, &shown, counts, &noted);
        check_stats(home, place, since, row, counts, &all);
        check_page(&page, row, counts);
        check_why(home, &mut asked, place, since, id, &drawn);
        let told = told.as_array().unwrap().iter().find(of_session).unwrap();
        assert_eq!(used(told, "model_calls"), expected, "{id} in mcp");
        assert_eq!(told["refused"], row["refused"], "{id} in mcp");
        let runs = row["running"].as_i64() > Some(0);
        let agent = top[0]["agents"].as_array().unwrap().iter().find(of_session);
        assert_eq!(agent.is_some(), runs && row["model_calls"].is_number(), "{id} in top: {:#?}", top[0]);
        if let Some(agent) = agent {
            assert_eq!(used(agent, "model_calls"), expected, "{id} in top");
            let found = ["refused", "turns"].map(|name| agent[name].as_i64().unwrap());
            assert_eq!(found, [counts[1], counts[3]], "{id} in top");
        }
    }
    assert!(asked.session.end().0.success());
    let id = |row: &Value| row["session_id"].as_str().unwrap().to_owned();
    rows.iter().map(|row| (id(row), used(row, "model_calls"))).collect()
}

/// A client of `spantap mcp`.
struct Asked {
    session: Session,
}

impl Asked {
    fn new(home: &Home, place: &str) -> Asked {
        let mut session = Session::start(home.spantap(["mcp", "--all", "--log-dir", place]));
        let client = json!({"name": "it", "version": "1"});
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
        session.request("initialize", params);
        session.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        Asked { session }
    }

    fn answer(&mut self, tool: &str, mut arguments: Value) -> Value {
        arguments["max_tokens"] = json!(10_000);
        let answer = self.session.request("tools/call", json!({"name": tool, "arguments": arguments}));
        let text = answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"));
        serde_json::from_str(text).unwrap()
    }
}

#[track_caller]
fn assert_same(what: &str, found: Used, row: &Value) {
    let expected = used(row, "model_calls");
    // Each view rounds its own sums.
    let is_same = found[..4] == expected[..4] && (found[4] - expected[4]).abs() <= 20;
    assert!(is_same, "{} in {what}: {found:?}, and {expected:?} in sessions", row["session_id"]);
}

/// Returns what `show` draws. `noted` is what `sessions` printed beside its rows.
fn check_show(
    home: &Home,
    place: &str,
    since: &str,
    row: &Value,
    shown: &[Value],
    counts: Counts,
    noted: &str,
) -> String {
    let id = row["session_id"].as_str().unwrap();
    let calls = shown.iter().filter(|record| record["event"] == "model_call");
    let of_call = |record: &Value| {
        let [_, tokens @ ..] = used(record, "");
        [1, tokens[0], tokens[1], tokens[2], tokens[3]]
    };
    assert_same("show", sum(calls.map(of_call)), row);
    assert_eq!(row["refused"].as_i64().unwrap_or(0), counts[1], "{id} in sessions");
    let reported = shown.iter().filter(|record| record["event"] == "agent_turn").count() as i64;
    assert!(reported <= counts[3], "{id} in sessions: {row}, and {reported} in show");
    let (drawn, said) =
        text(&home.spantap(["show", id, place, "--since", since, "--no-pager"]).output().unwrap());
    for (number, what) in [(row["model_calls"].as_i64().unwrap_or(0), "model call"), (counts[3], "turn")] {
        let says = format!("{number} {what}");
        assert!(number == 0 || has_number(&drawn, &says), "{id}: {says} in {drawn}");
    }
    let is_doubtful = drawn.contains("what they reported is left out");
    assert!(!is_doubtful || noted.contains("no id says which run is theirs"), "{id}: {noted}{said}");
    let of_session = ["stats", "--by", "turn", "--session", id, "--since", since, place];
    let stats = text(&home.spantap(of_session).output().unwrap()).1;
    assert_eq!(stats.contains("no id says"), is_doubtful, "{id}: {stats}");
    drawn
}

/// `all` is what `stats --by turn` says about all sessions.
fn check_stats(home: &Home, place: &str, since: &str, row: &Value, counts: Counts, all: &[Value]) {
    let id = row["session_id"].as_str().unwrap();
    let number = |rows: &[Value], name: &str| rows.iter().filter_map(|row| row[name].as_i64()).sum::<i64>();
    let of_session: Vec<Value> = all.iter().filter(|row| row["session_id"] == id).cloned().collect();
    let by = |by: &str| {
        json_lines(home, &["stats", "--by", by, "--session", id, "--since", since, "--json", place])
    };
    let of_calls = by("session");
    let has_turns = of_calls.is_empty() || of_calls[0]["turns"] == counts[3];
    assert!(has_turns, "{id}: {of_calls:?}, and {} turns in sessions", counts[3]);
    for (what, rows, is_by_turn) in
        [("by model", by("model"), false), ("by turn", by("turn"), true), ("all by turn", of_session, true)]
    {
        assert_same(what, sum(rows.iter().map(|row| used(row, "model_calls"))), row);
        assert_eq!(number(&rows, "errors"), counts[0], "{id} {what}");
        if is_by_turn {
            assert_eq!([number(&rows, "refused"), number(&rows, "tools")], counts[1..3], "{id} {what}");
        }
    }
}

fn check_page(page: &Value, row: &Value, counts: Counts) {
    let id = row["session_id"].as_str().unwrap();
    let turns: Vec<&Value> =
        page["agents"]["turns"].as_array().unwrap().iter().filter(|turn| turn["session"] == id).collect();
    let models = || turns.iter().flat_map(|turn| turn["models"].as_array().unwrap());
    let number = |list: &Value, at: usize| list[at].as_i64().unwrap();
    let of_model = |model: &Value| {
        let usd = model[9].as_f64().unwrap() + model[11].as_f64().unwrap();
        [number(model, 2), number(model, 5), number(model, 6), number(model, 7), micros(usd)]
    };
    assert_same("report", sum(models().map(of_model)), row);
    let refused = turns.iter().flat_map(|turn| turn["refused"].as_array().unwrap());
    let found = [
        models().map(|model| number(model, 3)).sum::<i64>(),
        refused.map(|refusal| number(refusal, 2)).sum(),
        turns.iter().map(|turn| turn["tools"].as_i64().unwrap()).sum(),
    ];
    assert_eq!(found, counts[..3], "{id} in report");
}

/// Checks that `why`, `show` and `mcp` agree whether and for how long models worked.
fn check_why(home: &Home, asked: &mut Asked, place: &str, since: &str, id: &str, drawn: &str) {
    let time_of = |facts: &Value| {
        let facts = facts.as_array().unwrap();
        let time = facts.iter().find(|fact| fact["total_ms"].is_number());
        time.map_or(0.0, |fact| fact["model_ms"].as_f64().unwrap_or(0.0))
    };
    let why = &json_lines(home, &["why", id, place, "--since", since, "--json"])[0]["facts"];
    let times = drawn.lines().find(|line| line.starts_with("time: ")).unwrap_or_default();
    assert_eq!(times.contains("model "), time_of(why) > 0.0, "{id}: {why} and {times}");
    let told = asked.answer("why", json!({"handle": id}));
    if since == "2026-01-01" && !why.to_string().contains("open") {
        assert_eq!(time_of(&told["rows"]), time_of(why), "{id} in mcp: {told}");
    }
}

fn write(folder: &Path, name: &str, lines: &[Value]) {
    std::fs::create_dir_all(folder).unwrap();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(folder.join(name), text).unwrap();
}

/// Returns the log of the session in which an agent made the calls that it reported.
fn wire_of(agent: &str, session: &str, facts: &[Value], number: usize) -> Vec<Value> {
    let host = match agent {
        "claude" => "claude-code",
        "codex" => "codex-mcp-client",
        "gemini" => "gemini-cli-mcp-client",
        _ => "opencode",
    };
    let connection = format!("01a2027b-0000-7000-8000-0000000000{number:02}");
    let is_sent = |fact: &&Value| {
        fact["event"] == "agent_tool"
            && fact["status"] != "denied"
            && (fact["tool_server"].is_string() || fact["tool_name"].as_str().unwrap().starts_with("kit_"))
    };
    let tools: Vec<&Value> = facts.iter().filter(is_sent).collect();
    let begin = tools.iter().map(|tool| tool["started_at"].as_str().unwrap()).min().unwrap();
    let always = |mut line: Value, seq: usize| {
        line["schema"] = json!("spantap/1");
        line["seq"] = json!(seq);
        line["session_id"] = json!(session);
        line["connection_id"] = json!(connection);
        line["server_name"] = json!("kit");
        line
    };
    let start = json!({
        "event": "session_started", "timestamp": begin, "host_pid": if agent == "gemini" { 21475 } else { 5 },
    });
    let call = |(seq, tool): (usize, &&Value)| {
        let name = tool["tool_name"].as_str().unwrap();
        let mut call = json!({
            "event": "mcp_tool_call", "timestamp": tool["timestamp"], "started_at": tool["started_at"],
            "duration_ms": tool["duration_ms"], "host_name": host, "status": tool["status"], "method": "tools/call",
            "tool_name": name.strip_prefix("kit_").unwrap_or(name),
        });
        if agent == "codex" {
            call["conversation_id"] = tool["conversation_id"].clone();
        }
        if agent == "claude" || agent == "codex" {
            call["call_id"] = tool["call_id"].clone();
        }
        always(call, seq + 1)
    };
    [always(start, 0)].into_iter().chain(tools.iter().enumerate().map(call)).collect()
}

const CAPTURED: [&str; 4] = ["claude", "codex", "gemini", "opencode"];

/// Returns the facts that an agent reported, and the log of its session.
fn captured(agent: &str, number: usize) -> (Vec<Value>, Vec<Value>) {
    let facts = recorded(agent);
    let own = facts[0]["session_id"].as_str().unwrap();
    let session = if agent == "claude" { own.to_owned() } else { format!("session-of-{agent}") };
    let wire = wire_of(agent, &session, &facts, number);
    (facts, wire)
}

#[test]
fn what_the_four_agents_reported_is_the_same_in_every_command() {
    let home = Home::new();
    for (number, agent) in CAPTURED.iter().enumerate() {
        let folder = home.path().join(agent);
        let (facts, wire) = captured(agent, number);
        write(&folder, "collect-2026-11-29-0123456789ab.jsonl", &facts);
        write(&folder, &format!("kit-2026-11-29-0000000000{number:02}.jsonl"), &wire);
        let used_by_session = used_by_session(&folder);
        let calls: Vec<&Value> = facts.iter().filter(|fact| fact["event"] == "model_call").collect();
        let reported = sum(calls.iter().map(|call| used(call, "")));
        let found: Vec<Used> = used_by_session.into_values().collect();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0][0], &found[0][1..4]), (calls.len() as i64, &reported[1..4]), "{agent}");
    }
}

#[test]
fn a_selected_time_that_begins_within_a_session_leaves_its_agent_known() {
    let home = Home::new();
    for agent in ["gemini", "codex"] {
        let folder = home.path().join(agent);
        let (facts, mut wire) = captured(agent, 0);
        // Only the calls before the selected time name the conversation.
        wire.iter_mut()
            .skip(2)
            .for_each(|call| drop(call.as_object_mut().unwrap().remove("conversation_id")));
        wire.iter_mut().skip(2).for_each(|call| drop(call.as_object_mut().unwrap().remove("call_id")));
        // Another process of the agent was there at the same time.
        let of_other = facts.iter().cloned().map(|mut fact| {
            for id in ["session_id", "conversation_id", "fact_id", "trace_id"] {
                if let Some(own) = fact[id].as_str().map(|id| format!("{id}-of-other")) {
                    fact[id] = json!(own);
                }
            }
            fact["host_pid"] = json!(999);
            fact
        });
        let since = wire[2]["started_at"].as_str().unwrap().to_owned();
        let both: Vec<Value> = facts.iter().cloned().chain(of_other).collect();
        write(&folder, "collect-2026-11-29-0123456789ab.jsonl", &both);
        write(&folder, "kit-2026-11-29-000000000000.jsonl", &wire);
        let is_selected = |fact: &&Value| {
            fact["event"] == "model_call" && fact["timestamp"].as_str().unwrap() >= since.as_str()
        };
        let calls = facts.iter().filter(is_selected).count() as i64;
        let found: Vec<i64> = used_since(&folder, &since).into_values().map(|used| used[0]).collect();
        assert!(0 < calls && calls < 7, "{agent}: {calls} of its requests are selected");
        assert_eq!(found, [calls], "{agent}");
    }
}

#[test]
fn agents_that_share_a_folder_keep_their_figures_in_whatever_order_and_files_they_are() {
    let home = Home::new();
    let both: Vec<(Vec<Value>, Vec<Value>)> =
        CAPTURED.iter().enumerate().map(|(number, agent)| captured(agent, number)).collect();
    let mut random = Random(7);
    let mut answers = Vec::new();
    for round in 0..3 {
        let folder = home.path().join(format!("round-{round}"));
        for (number, (_, wire)) in both.iter().enumerate() {
            write(&folder, &format!("kit-2026-11-29-0000000000{number:02}.jsonl"), wire);
        }
        let mut files = vec![Vec::new(); 3];
        let mut facts: Vec<Value> = both
            .iter()
            .enumerate()
            .flat_map(|(run, (facts, _))| {
                // Each agent reported to a run of the collector of its own.
                facts.iter().cloned().map(move |mut fact| {
                    fact["connection_id"] = json!(format!("01a2027b-0000-7000-8000-9000000000{run:02}"));
                    fact
                })
            })
            .collect();
        while !facts.is_empty() {
            let fact = facts.swap_remove(random.below(facts.len()));
            files[random.below(3)].push(fact);
        }
        for (number, lines) in files.iter().enumerate() {
            write(&folder, &format!("collect-2026-11-29-90000000000{number}.jsonl"), lines);
        }
        answers.push(used_by_session(&folder));
    }
    assert_eq!(answers[0].len(), 4);
    assert!(answers[0].values().all(|used| used[0] >= 5), "{answers:?}");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
}

/// Numbers that only depend on the seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % end as u64) as usize
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

/// Makes a folder of sessions and facts that have few ids, processes and names, and mostly the same time.
fn ambiguous_folder(folder: &Path, seed: u64) {
    let mut random = Random(seed);
    let at = |second: usize| json!(Timestamp(1_795_946_400_000_000 + second as i64 * 1_000_000));
    let mut wire = vec![Vec::new(); 5];
    for (number, lines) in wire.iter_mut().enumerate() {
        let begin = random.below(400);
        let host = random.one(&["codex-mcp-client", "codex", "opencode"]);
        let always = |mut line: Value, seq: usize| {
            line["schema"] = json!("spantap/1");
            line["seq"] = json!(seq);
            // Tests let the first session run.
            let session = if number == 0 { "one".to_owned() } else { format!("session-{number}") };
            line["session_id"] = json!(session);
            line["connection_id"] = json!(format!("01a2027b-0000-7000-8000-0000000000{number:02}"));
            line["server_name"] = json!("kit");
            line["host_name"] = json!(host);
            line
        };
        let pid = 1 + random.below(3);
        lines.push(always(json!({"event": "session_started", "timestamp": at(begin), "host_pid": pid}), 0));
        for seq in 1..4 {
            let second = begin + random.below(60);
            let mut call = json!({
                "event": "mcp_tool_call", "timestamp": at(second + 1), "started_at": at(second), "duration_ms": 1000,
                "status": "ok", "method": "tools/call", "tool_name": random.one(&["read", "list"]),
            });
            for (field, ids) in [
                ("conversation_id", ["", "c1", "c2"]),
                ("call_id", ["", "0", "1"]),
                ("trace_id", ["", "t1", "t2"]),
            ] {
                let id = random.one(&ids);
                if !id.is_empty() {
                    call[field] = json!(id);
                }
            }
            lines.push(always(call, seq));
        }
    }
    for (number, lines) in wire.iter().enumerate() {
        write(folder, &format!("kit-2026-11-29-0000000000{number:02}.jsonl"), lines);
    }
    let mut files = vec![Vec::new(); 2];
    for seq in 0..60 {
        let run = random.below(2);
        let connection = format!("01a2027b-0000-7000-8000-90000000000{run}");
        let second = random.below(600);
        let mut fact = json!({
            "schema": "spantap/1", "seq": seq, "connection_id": connection, "timestamp": at(second + 2),
            "started_at": at(second), "ended_at": at(second + 2), "duration_ms": 2000,
            "agent_name": random.one(&["codex", "opencode"]), "session_id": random.one(&[&connection, "c1", "c3", "r4"]),
            "event": random.one(&["model_call", "model_call", "agent_tool", "agent_turn"]),
            // Some facts have several parts, also in two runs of the collector.
            "fact_id": format!("f{}", random.below(50)), "status": "ok",
        });
        for (field, ids) in
            [("trace_id", ["", "t2", "t3"]), ("call_id", ["", "0", "7"]), ("turn_id", ["", "1", "2"])]
        {
            let id = random.one(&ids);
            if !id.is_empty() {
                fact[field] = json!(id);
            }
        }
        if random.below(5) == 0 {
            fact["amends"] = json!(true);
        }
        fact["status"] = json!(random.one(&["ok", "ok", "error"]));
        match random.below(3) {
            0 => {}
            pid => fact["host_pid"] = json!(pid),
        }
        if fact["event"] == "agent_tool" {
            fact["tool_name"] = json!(random.one(&["read", "kit_list", "other"]));
            fact["decision"] = json!(random.one(&["allowed", "allowed", "refused"]));
        } else if fact["event"] == "model_call" {
            fact["model"] = json!(random.one(&["m1", "m2"]));
            (fact["input_tokens"], fact["output_tokens"]) = (json!(1 << random.below(20)), json!(1));
            (fact["cost_usd"], fact["cost_source"]) = (json!(0.01), json!(random.one(&["agent", "config"])));
        }
        files[run].push(fact);
    }
    for (number, lines) in files.iter().enumerate() {
        write(folder, &format!("collect-2026-11-29-90000000000{number}.jsonl"), lines);
    }
}

#[test]
fn ambiguous_ids_give_no_command_other_figures_than_another() {
    let home = Home::new();
    let mut all = 0;
    for seed in 1..=6 {
        let folder = home.path().join(format!("seed-{seed}"));
        ambiguous_folder(&folder, seed);
        all += used_by_session(&folder).values().map(|used| used[0]).sum::<i64>();
    }
    assert!(all > 20, "{all} model calls have a session");
}

#[cfg(unix)]
#[test]
fn a_session_that_runs_has_the_same_figures_in_every_command_and_in_top() {
    let mut all = 0;
    for seed in 1..=3 {
        let home = Home::new();
        ambiguous_folder(&home.logs(), seed);
        let session = hang(&home, "kit", "read");
        wait_until("the session runs", || {
            let rows = json_lines(&home, &["sessions", "--json", home.logs().to_str().unwrap()]);
            rows.iter().any(|row| row["session_id"] == "one" && row["running"] == 1)
        });
        all += used_in(&home, &home.logs(), "2026-01-01")["one"][0];
        session.end();
    }
    assert!(all > 5, "{all} model calls are of the session that runs");
}
