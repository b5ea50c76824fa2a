//! A collector that is started again between the parts of a fact: each fact is still counted once.

use serde_json::{Value, json};

use super::{RUN, bodies, records_of};
use crate::support::*;

/// Returns the bodies as another session of the agent would send them an hour later, with the same numbers.
fn an_hour_later(bodies: &[(bool, String)]) -> Vec<(bool, String)> {
    fn change(value: &mut Value) {
        let Some(members) = value.as_object_mut() else {
            return value.as_array_mut().into_iter().flatten().for_each(change);
        };
        for (name, value) in members {
            match value.as_str() {
                Some(text) if name.ends_with("UnixNano") && text != "0" => {
                    *value = json!((text.parse::<u64>().unwrap() + 3_600_000_000_000).to_string());
                }
                Some(text) if name == "traceId" || name.ends_with("panId") => {
                    *value = json!(text.chars().rev().collect::<String>());
                }
                _ => change(value),
            }
        }
    }
    let later = |(is_traces, body): &(bool, String)| {
        let mut body: Value = serde_json::from_str(body).unwrap();
        change(&mut body);
        (*is_traces, body.to_string())
    };
    bodies.iter().map(later).collect()
}

#[test]
fn a_collector_that_is_started_again_at_any_moment_counts_each_request_once() {
    for (agent, calls, sent) in [
        ("claude", 7, bodies("claude")),
        ("codex", 7, bodies("codex")),
        ("gemini", 7, bodies("gemini")),
        ("gemini-thoughts", 3, bodies("gemini-thoughts")),
        ("opencode", 5, bodies("opencode")),
        ("codex-failed", 9, bodies("codex-failed")),
        // The numbers of tokens are the same a second time.
        ("gemini", 14, [bodies("gemini"), an_hour_later(&bodies("gemini"))].concat()),
        ("codex", 14, [bodies("codex"), an_hour_later(&bodies("codex"))].concat()),
    ] {
        let sums = |runs: &[&[(bool, String)]]| {
            let home = Home::new();
            std::fs::create_dir_all(home.logs()).unwrap();
            for (number, bodies) in runs.iter().enumerate() {
                let run = format!("01a2027b-0000-7000-8000-{number:012x}");
                let lines: String = records_of(bodies, 100)
                    .iter()
                    .map(|record| record.to_string().replace(RUN, &run) + "\n")
                    .collect();
                std::fs::write(home.logs().join(format!("collect-2026-11-29-{number:012x}.jsonl")), lines)
                    .unwrap();
            }
            let output =
                home.spantap(["stats", "--by", "model", "--json", "--since", "2026-11-01"]).output().unwrap();
            let rows: Vec<Value> =
                text(&output).0.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let sum = |field: &str| rows.iter().map(|row| row[field].as_u64().unwrap()).sum::<u64>();
            ["model_calls", "errors", "calls_with_tokens", "input_tokens", "output_tokens"].map(sum)
        };
        let whole = sums(&[&sent]);
        assert_eq!(whole[0], calls, "{agent}");
        for cut in 1..sent.len() {
            let (first, second) = sent.split_at(cut);
            assert_eq!(sums(&[first, second]), whole, "{agent}, started again before request {cut}");
            assert_eq!(sums(&[first, &sent[cut - 1..]]), whole, "{agent}, request {cut} sent twice");
        }
    }
}
