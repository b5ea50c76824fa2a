//! `[cost.models]`: the cost of model calls whose agent does not report it.

use super::*;
use crate::config::write_config;

#[test]
fn a_cost_is_calculated_only_for_calls_without_one_and_is_marked_everywhere() {
    let home = Home::new();
    write_config(&home, "[cost.models]\n\"fake*\" = { input = 1, cached = 0.1, output = 10 }\n");
    let collecting = Collecting::start(&home, &[]);
    for agent in ["codex", "claude", "gemini-thoughts"] {
        collecting.replay(agent);
    }
    collecting.end();
    let calls = home.records().into_iter().filter(|record| record["event"] == "model_call");
    let costs: Vec<(Value, Value, Value)> = calls
        .map(|call| (call["agent_name"].clone(), call["cost_source"].clone(), call["cost_usd"].clone()))
        .collect();
    // Seven calls of 1,000 to 7,000 input tokens, of which a tenth is cached, and 10 to 70 output tokens.
    let calculated = (1..=7).map(|call| f64::from(call) * 1e-6 * (900.0 + 100.0 * 0.1 + 10.0 * 10.0));
    let expected: Vec<f64> = calculated.map(|usd| (usd * 1e9).round() / 1e9).collect();
    let of = |agent: &str, source: &str| -> Vec<f64> {
        let of_agent = costs.iter().filter(|cost| cost.0 == agent && cost.1 == source);
        of_agent.map(|cost| cost.2.as_f64().unwrap()).collect()
    };
    assert_eq!(of("codex", "config"), expected);
    let told = [4255, 8480, 12705, 16930, 21155, 25380, 29605].map(|cost| f64::from(cost) / 1e6);
    assert_eq!(of("claude-code", "agent"), told);
    // The thoughts of the model and its own tools are paid for.
    assert_eq!(of("gemini-cli", "config"), expected[..3]);
    assert_eq!(costs.len(), 17);
    let said = |words: &[&str]| text(&home.spantap(words.iter().copied()).output().unwrap()).0;
    let by_model = said(&["stats", "--by", "model", "--since", "2020-01-01", "--no-pager"]);
    let costs = |agent: &str| {
        let line = by_model.lines().find(|line| line.contains(agent)).unwrap_or_else(|| panic!("{by_model}"));
        line.split_whitespace().last().unwrap().to_owned()
    };
    assert_eq!((costs("codex"), costs("claude-code")), ("~$0.028".to_owned(), "$0.119".to_owned()));
    assert!(by_model.contains("~$0.153 (10 of 17 calculated)"), "{by_model}");
    let json = said(&["stats", "--by", "model", "--since", "2020-01-01", "--json"]);
    let rows: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let counts: Vec<&Value> = rows.iter().map(|row| &row["calculated_costs"]).collect();
    assert_eq!(counts, [0, 7, 3].map(Value::from).each_ref());
}

#[test]
fn a_table_of_prices_that_cannot_be_used_is_named_and_no_cost_is_made_up() {
    let home = Home::new();
    write_config(&home, "[cost.models]\n\"fake*\" = { input = 1 }\n");
    let collecting = Collecting::start(&home, &[]);
    collecting.replay("codex");
    let said = collecting.end().1;
    assert!(said.contains("cost.models") && said.contains("input and output"), "{said}");
    assert!(home.records().iter().all(|record| record["cost_usd"].is_null()));
}
