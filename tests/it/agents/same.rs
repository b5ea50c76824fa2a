//! Every command that shows what the agent of a session used gives the same figures.

use std::collections::BTreeMap;
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
    assert!(output.status.success(), "{arguments:?}: {said}");
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

/// Returns what each session of the folder used, after every command has said the same.
fn used_by_session(folder: &Path) -> BTreeMap<String, Used> {
    used_since(folder, "2026-01-01")
}

/// Returns what each session of the folder used since that time, after every command has said the same.
fn used_since(folder: &Path, since: &str) -> BTreeMap<String, Used> {
    let home = Home::new();
    let place = folder.to_str().unwrap();
    let rows = json_lines(&home, &["sessions", "--since", since, "--json", place]);
    let id = |row: &Value| row["session_id"].as_str().unwrap().to_owned();
    let sessions: BTreeMap<String, Used> =
        rows.iter().map(|row| (id(row), used(row, "model_calls"))).collect();
    let page = text(&home.spantap(["report", "--since", since, "-o", "-", place]).output().unwrap()).0;
    let data = page.split("<script id=\"data\" type=\"application/json\">").nth(1).unwrap();
    let page: Value = serde_json::from_str(data.split("</script>").next().unwrap()).unwrap();
    for (id, expected) in &sessions {
        let of_model = |model: &Value| {
            let number = |at: usize| model[at].as_i64().unwrap();
            let usd = model[9].as_f64().unwrap() + model[11].as_f64().unwrap();
            [number(2), number(5), number(6), number(7), micros(usd)]
        };
        let turns =
            page["agents"]["turns"].as_array().unwrap().iter().filter(|turn| turn["session"] == id.as_str());
        let in_page = sum(turns.flat_map(|turn| turn["models"].as_array().unwrap()).map(of_model));
        let shown = json_lines(&home, &["show", id, place, "--since", since, "--json"]);
        let calls = shown.iter().filter(|record| record["event"] == "model_call");
        let in_show = sum(calls.map(|record| {
            let [_, tokens @ ..] = used(record, "");
            [1, tokens[0], tokens[1], tokens[2], tokens[3]]
        }));
        let by = |by: &str| {
            let rows =
                json_lines(&home, &["stats", "--by", by, "--session", id, "--since", since, "--json", place]);
            sum(rows.iter().map(|row| used(row, "model_calls")))
        };
        let drawn = ["show", id, place, "--since", since, "--no-pager"];
        let (drawn, _) = text(&home.spantap(drawn).output().unwrap());
        let says = format!("{} model call", expected[0]);
        assert!(expected[0] == 0 || has_number(&drawn, &says), "{id}: {says} in {drawn}");
        let found =
            [("show", in_show), ("by model", by("model")), ("by turn", by("turn")), ("report", in_page)];
        for (view, found) in found {
            // Each view rounds its own sums.
            let is_same = found[..4] == expected[..4] && (found[4] - expected[4]).abs() <= 20;
            assert!(is_same, "{id} in {view}: {found:?}, and {expected:?} in sessions");
        }
    }
    sessions
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
            line["session_id"] = json!(format!("session-{number}"));
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
        match random.below(3) {
            0 => {}
            pid => fact["host_pid"] = json!(pid),
        }
        if fact["event"] == "agent_tool" {
            fact["tool_name"] = json!(random.one(&["read", "kit_list", "other"]));
            fact["decision"] = json!("allowed");
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
