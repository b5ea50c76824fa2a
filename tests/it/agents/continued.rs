//! A conversation that an agent continues in another process: each of its sessions has the reports of its time.

use serde_json::{Value, json};
use spantap::record::timestamp::Timestamp;

use crate::support::*;

fn at(second: i64) -> Value {
    json!(Timestamp(1_795_946_400_000_000 + second * 1_000_000))
}

/// Returns the log of a session of Claude Code that begins at a second, with one call of this id.
fn session(number: i64, id: &str, begin: i64, call_id: &str) -> Vec<Value> {
    let always = |mut line: Value, seq: i64| {
        line["schema"] = json!("spantap/1");
        line["seq"] = json!(seq);
        (line["session_id"], line["conversation_id"]) = (json!(id), json!(id));
        line["connection_id"] = json!(format!("01a2027b-0000-7000-8000-00000000000{number}"));
        (line["server_name"], line["host_name"]) = (json!("kit"), json!("claude-code"));
        line
    };
    let call = json!({
        "event": "mcp_tool_call", "timestamp": at(begin + 4), "started_at": at(begin + 3), "ended_at": at(begin + 4),
        "duration_ms": 1000, "status": "ok", "method": "tools/call", "tool_name": "read", "call_id": call_id,
    });
    let started = json!({"event": "session_started", "timestamp": at(begin), "host_pid": 100 + number});
    let ended = json!({"event": "session_ended", "timestamp": at(begin + 8), "reason": "server_exited"});
    vec![always(started, 0), always(call, 1), always(ended, 2)]
}

/// Returns the reports of one turn of a session of the agent: a model call that asks for a tool, the tool, and the last
/// model call.
fn turn(id: &str, number: i64, begin: i64, call_id: &str) -> Vec<Value> {
    let fact = |part: i64, event: &str, from: i64, until: i64| {
        json!({
            "schema": "spantap/1", "seq": number * 10 + part, "event": event, "agent_name": "claude-code",
            "connection_id": "01a2027b-0000-7000-8000-900000000000", "session_id": id, "conversation_id": id,
            "fact_id": format!("f{number}{part}"), "turn_id": format!("turn-{number}"), "timestamp": at(until),
            "started_at": at(from), "ended_at": at(until), "duration_ms": (until - from) * 1000, "status": "ok",
        })
    };
    let mut asking = fact(0, "model_call", begin + 1, begin + 2);
    asking["call_ids"] = json!([call_id]);
    let mut tool = fact(1, "agent_tool", begin + 3, begin + 4);
    (tool["call_id"], tool["tool_name"], tool["tool_server"]) = (json!(call_id), json!("read"), json!("kit"));
    let mut last = fact(2, "model_call", begin + 5, begin + 6);
    for call in [&mut asking, &mut last] {
        (call["model"], call["input_tokens"], call["output_tokens"]) = (json!("m"), json!(100), json!(1));
    }
    vec![asking, tool, last]
}

#[test]
fn a_session_whose_id_the_reports_do_not_have_is_found_by_the_ids_of_its_calls() {
    // Claude Code 2.1.328 with `--continue`, soon after the first session and on another day.
    for later in [20, 100_000] {
        let home = Home::new();
        std::fs::create_dir_all(home.logs()).unwrap();
        let write = |name: &str, lines: &[Value]| {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            std::fs::write(home.logs().join(name), text).unwrap();
        };
        write("kit-2026-11-29-000000000001.jsonl", &session(1, "first", 0, "toolu_1"));
        write("kit-2026-11-29-000000000002.jsonl", &session(2, "second", later, "toolu_2"));
        let facts = [turn("first", 1, 0, "toolu_1"), turn("first", 2, later, "toolu_2")].concat();
        write("collect-2026-11-29-900000000000.jsonl", &facts);
        let rows = |words: &[&str]| -> Vec<Value> {
            let words = words.iter().chain(&["--json", "--since", "2026-11-01"]).copied();
            let printed = text(&home.spantap(words).output().unwrap()).0;
            printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        for session in rows(&["sessions"]) {
            assert_eq!(
                (&session["model_calls"], &session["input_tokens"]),
                (&json!(2), &json!(200)),
                "{session}"
            );
        }
        let shown = text(&home.spantap(["show", "second", "--json"]).output().unwrap()).0;
        let shown: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let call = shown.iter().find(|record| record["event"] == "mcp_tool_call").unwrap();
        assert_eq!(call["chain"]["joined_by"], "call_id", "{call}");
        assert_eq!(shown.iter().filter(|record| record["event"] == "model_call").count(), 2);
    }
}
