//! An agent's framework and the library that sends its requests report one call in two spans: it is counted once.

use serde_json::{Value, json};

use super::{facts, of, records_of, span, tokens_of};

/// Returns a span of a model call with an operation and a number of input tokens.
fn model(id: u8, parent: u8, operation: &str, tokens: u64) -> Value {
    let attributes = [
        ("gen_ai.operation.name", json!({"stringValue": operation})),
        ("gen_ai.request.model", json!({"stringValue": "m"})),
        ("gen_ai.usage.input_tokens", json!({"intValue": tokens.to_string()})),
        ("gen_ai.usage.output_tokens", json!({"intValue": "7"})),
    ];
    span(operation, id, Some(parent), 7, 0, &attributes)
}

fn chat(id: u8, parent: u8, tokens: u64) -> Value {
    model(id, parent, "chat", tokens)
}

fn tool(id: u8, parent: u8, name: &str) -> Value {
    let attributes = [
        ("gen_ai.operation.name", json!({"stringValue": "execute_tool"})),
        ("gen_ai.tool.name", json!({"stringValue": name})),
    ];
    span("execute_tool", id, Some(parent), 7, 0, &attributes)
}

fn plain(id: u8, parent: u8) -> Value {
    span("POST", id, Some(parent), 7, 0, &[])
}

/// Returns the records of requests of one agent, each `pause_ms` after the one before.
fn sent(requests: &[Vec<Value>], pause_ms: i64) -> Vec<Value> {
    let service = json!({"key": "service.name", "value": {"stringValue": "framework"}});
    let bodies: Vec<(bool, String)> = requests
        .iter()
        .map(|spans| {
            let sent = json!({"resource": {"attributes": [service]}, "scopeSpans": [{"spans": spans}]});
            (true, json!({"resourceSpans": [sent]}).to_string())
        })
        .collect();
    records_of(&bodies, pause_ms)
}

/// Returns the number of facts, of which each has one record that amends no other, and their input tokens.
fn counted(records: &[Value], event: &str) -> (usize, u64) {
    let records: Vec<Value> = of(records, event).into_iter().cloned().collect();
    let (facts, count) = facts(&records);
    assert_eq!(facts.len(), count, "{records:#?}");
    (count, facts.values().filter_map(|fact| fact["input_tokens"].as_u64()).sum())
}

#[test]
fn a_model_call_in_two_spans_is_counted_once_in_every_order() {
    // The turn 1, the framework's span 2 of the call, and the library's span 4.
    let turn = || {
        span(
            "invoke_agent",
            1,
            None,
            7,
            0,
            &[("gen_ai.operation.name", json!({"stringValue": "invoke_agent"}))],
        )
    };
    let direct = || vec![chat(4, 2, 100), chat(2, 1, 100), turn()];
    let around = || vec![chat(4, 3, 100), plain(3, 2), chat(2, 1, 100), turn()];
    let three = || vec![chat(4, 3, 100), chat(3, 2, 100), chat(2, 1, 100), turn()];
    // The framework's word for the operation is another one, and the tokens are the same.
    let renamed = || vec![model(4, 2, "generate_content", 100), chat(2, 1, 100), turn()];
    for spans in [direct(), around(), three(), renamed()] {
        let apart: Vec<Vec<Value>> = spans.iter().map(|span| vec![span.clone()]).collect();
        let reversed: Vec<Vec<Value>> = apart.iter().rev().cloned().collect();
        let twice: Vec<Vec<Value>> = apart.iter().chain(&apart).cloned().collect();
        for requests in [vec![spans.clone()], apart, reversed, twice, vec![spans.clone(); 2]] {
            for pause in [100, 40_000] {
                let records = sent(&requests, pause);
                assert_eq!(counted(&records, "model_call"), (1, 100), "{pause}: {requests:#?}");
                assert_eq!(of(&records, "agent_turn").len(), 1);
            }
        }
    }
}

#[test]
fn the_parts_of_a_call_complete_each_other() {
    let mut inner = chat(4, 2, 100);
    // The library does not report tokens while it streams.
    inner["attributes"].as_array_mut().unwrap().truncate(2);
    let records = sent(&[vec![inner, chat(2, 1, 100)]], 100);
    let [call] = &records[..] else { panic!("{records:#?}") };
    assert_eq!((tokens_of(call), &call["span_id"]), ((100, 7), &json!("0000000000000004")));
}

#[test]
fn the_attempts_within_a_span_have_the_same_tokens_in_every_order() {
    for (operation, outer) in [("chat", 300), ("generate_content", 300), ("chat", 200), ("chat", 100)] {
        let around = || vec![chat(2, 1, 400), model(3, 2, operation, outer)];
        let spans = [chat(4, 3, 100), chat(5, 3, 200), model(3, 1, operation, outer)];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            for pause in [100, 40_000] {
                if outer == 100 && order[..2] == [2, 1] {
                    // Its first attempt has more tokens than a span that came before it.
                    continue;
                }
                let apart: Vec<Vec<Value>> = order.iter().map(|at| vec![spans[*at].clone()]).collect();
                let twice: Vec<Vec<Value>> = apart.iter().chain(&apart).cloned().collect();
                for requests in [apart, twice] {
                    let records = sent(&requests, pause);
                    assert_eq!(counted(&records, "model_call"), (2, 300), "{pause}: {requests:#?}");
                }
            }
        }
        // Two spans of frameworks around the attempts report what they used and something more.
        let requests = [around(), vec![chat(4, 3, 100), chat(5, 3, 200)]];
        assert_eq!(counted(&sent(&requests, 40_000), "model_call"), (2, 400));
    }
}

#[test]
fn calls_of_their_own_within_a_span_are_counted_each() {
    for (spans, calls, tokens) in [
        // An attempt that failed and the next one, in one span of the framework.
        (vec![chat(4, 2, 50), chat(5, 2, 60), chat(2, 1, 60)], 2, 110),
        // A tool that asks a model, and the turn of another agent.
        (vec![chat(4, 3, 50), tool(3, 2, "ask"), chat(2, 1, 60)], 2, 110),
        (vec![chat(2, 1, 60), tool(3, 2, "ask"), chat(4, 3, 50)], 2, 110),
        // Two calls of one turn.
        (vec![chat(4, 1, 50), chat(5, 1, 50)], 2, 100),
    ] {
        let apart: Vec<Vec<Value>> = spans.iter().map(|span| vec![span.clone()]).collect();
        for requests in [vec![spans.clone()], apart] {
            assert_eq!(counted(&sent(&requests, 100), "model_call"), (calls, tokens), "{spans:#?}");
        }
    }
}

#[test]
fn a_tool_in_the_spans_of_the_framework_and_of_its_mcp_client_is_counted_once() {
    for (spans, tools) in [
        (vec![tool(4, 2, "search"), tool(2, 1, "search")], 1),
        (vec![tool(2, 1, "search"), tool(4, 2, "search")], 1),
        // A tool within which another one is called, and a call after it.
        (vec![tool(4, 2, "search"), tool(2, 1, "run_code")], 2),
        (vec![tool(4, 1, "search"), tool(2, 1, "search")], 2),
        // The framework calls its tools within its span of the model call.
        (vec![chat(4, 2, 50), tool(6, 5, "search"), tool(5, 2, "search"), chat(2, 1, 50)], 1),
    ] {
        let models = spans.iter().filter(|span| span["name"] == "chat").count() / 2;
        let records = sent(std::slice::from_ref(&spans), 100);
        assert_eq!(counted(&records, "agent_tool").0, tools, "{spans:#?}");
        assert_eq!(counted(&records, "model_call").0, models, "{spans:#?}");
    }
}
