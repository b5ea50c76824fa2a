//! Spans and events without the ids that their agent usually sends: each turn, model call and tool counts once.

use std::collections::BTreeMap;

use super::*;

/// Returns the bodies of an agent without these attributes.
fn bodies_without(agent: &str, left_out: &[&str]) -> Vec<(bool, String)> {
    fn strip(value: &mut Value, left_out: &[&str]) {
        match value {
            Value::Array(items) => {
                items.retain(|item| !left_out.iter().any(|key| item["key"] == *key));
                items.iter_mut().for_each(|item| strip(item, left_out));
            }
            Value::Object(members) => members.values_mut().for_each(|value| strip(value, left_out)),
            _ => {}
        }
    }
    let stripped = |(is_traces, body): (bool, String)| {
        let mut body: Value = serde_json::from_str(&body).unwrap();
        strip(&mut body, left_out);
        (is_traces, body.to_string())
    };
    bodies(agent).into_iter().map(stripped).collect()
}

/// Returns the number of facts of each event that are counted, their tokens, their cost in cents and the refusals.
fn counted(records: &[Value]) -> (BTreeMap<String, usize>, [u64; 2], u64, usize) {
    let mut events = BTreeMap::new();
    for record in records.iter().filter(|record| record.get("amends").is_none()) {
        *events.entry(record["event"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let sum = |field: &str| records.iter().filter_map(|record| record[field].as_u64()).sum::<u64>();
    let cost: f64 = records.iter().filter_map(|record| record["cost_usd"].as_f64()).sum();
    let refused = records.iter().filter(|record| record["decision"] == "refused").count();
    (events, ["input_tokens", "output_tokens"].map(sum), (cost * 100.0).round() as u64, refused)
}

#[test]
fn what_an_agent_reports_counts_once_though_the_usual_ids_are_missing() {
    for (agent, left_out) in [
        ("claude", &["request_id"][..]),
        ("claude", &["session.id", "gen_ai.conversation.id"]),
        ("claude", &["request_id", "ttft_ms", "cache_read_tokens", "cache_creation_tokens"]),
        ("claude-failed", &["request_id"]),
        ("claude-failed", &["request_id", "attempt"]),
        ("codex", &["conversation.id", "session.id"]),
        ("gemini", &["gen_ai.conversation.id"]),
        ("gemini", &["gen_ai.conversation.id", "session.id"]),
        ("opencode", &["session.id"]),
    ] {
        let mut expected = counted(&recorded(agent));
        for bodies in [bodies_without(agent, left_out), {
            let mut bodies = bodies_without(agent, left_out);
            bodies.reverse();
            bodies
        }] {
            let mut found = counted(&records_of(&bodies, 100));
            if left_out.contains(&"cache_read_tokens") {
                (expected.1, found.1) = ([0; 2], [0; 2]);
            }
            assert_eq!(found, expected, "{agent} without {left_out:?}");
        }
    }
}

#[test]
fn an_item_that_only_adds_to_a_fact_is_none_itself() {
    // The decision about a tool says which request asked for it, and the request names itself nowhere.
    let claude = bodies_without("claude", &["request_id"]);
    let records = records_of(&claude, 100);
    assert!(of(&records, "model_call").iter().all(|call| call["call_ids"].is_null()));
    // The span of the request is lost.
    let id = json!({"stringValue": "call_1"});
    let call = || span("ai.toolCall", 2, Some(1), 7, 0, &[("ai.toolCall.id", id.clone())]);
    let records = spans_of("opencode", json!([call()]));
    let [lost] = &of(&records, "model_call")[..] else { panic!("{records:#?}") };
    assert_eq!((&lost["amends"], &lost["call_ids"]), (&json!(true), &json!(["call_1"])));
    // It is not.
    let request = span("ai.streamText.doStream", 3, Some(1), 7, 0, &[]);
    let records = spans_of("opencode", json!([call(), request]));
    let [whole] = &of(&records, "model_call")[..] else { panic!("{records:#?}") };
    assert_eq!((&whole["amends"], &whole["call_ids"]), (&Value::Null, &json!(["call_1"])));
    assert_eq!(whole["fact_id"], lost["fact_id"]);
}

#[test]
fn a_model_call_of_which_only_an_addition_was_reported_is_in_no_view() {
    let folder = tempfile::tempdir().unwrap();
    let id = json!({"stringValue": "call_1"});
    let records = spans_of(
        "opencode",
        json!([
            span("ai.toolCall", 2, Some(1), 7, 0, &[("ai.toolCall.id", id)]),
            span("SessionPrompt.loop", 1, None, 7, 0, &[]),
        ]),
    );
    let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
    std::fs::write(folder.path().join("collect-2026-11-29-0123456789ab.jsonl"), lines).unwrap();
    for (by, rows) in [("model", 0), ("turn", 1)] {
        let place = folder.path().to_str().unwrap();
        let arguments = ["stats", "--by", by, "--since", "2026-01-01", "--json", place];
        let printed = text(&Home::new().spantap(arguments).output().unwrap()).0;
        let of_row = |line: &str| serde_json::from_str::<Value>(line).unwrap()["model_calls"].clone();
        assert_eq!(printed.lines().map(of_row).collect::<Vec<_>>(), vec![json!(0); rows], "{by}");
    }
}
