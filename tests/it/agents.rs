//! Records of agents: what real agents send becomes exact records without a text of theirs, and every command that
//! reads sessions, servers or calls passes over them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use serde_json::{Value, json};
use spantap::collect::adapters::Adapters;
use spantap::collect::merge::Merge;
use spantap::observe::redact::Redactor;
use spantap::record::timestamp::Timestamp;

use crate::support::*;

mod continued;
mod incomplete;
mod restart;
mod same;
mod same_call;

const RUN: &str = "01a2027b-0000-7000-8000-0123456789ab";

fn folder(agent: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/agents").join(agent)
}

/// Returns the bodies that an agent sent, with their signals, in the order in which they came.
pub fn bodies(agent: &str) -> Vec<(bool, String)> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder(agent)).unwrap().map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let body = |path: &PathBuf| {
        (path.to_str().unwrap().ends_with("-traces.json"), std::fs::read_to_string(path).unwrap())
    };
    paths.iter().map(body).collect()
}

/// Returns the records of the bodies. Each body comes `pause_ms` after the one before.
fn records_of(bodies: &[(bool, String)], pause_ms: i64) -> Vec<Value> {
    let mut adapters = Adapters::new(Redactor::default());
    let mut merge = Merge::default();
    let mut records = Vec::new();
    let mut now = Timestamp(1_795_946_343_000_000);
    for (is_traces, body) in bodies {
        let mut facts = Vec::new();
        match is_traces {
            true => {
                let request: ExportTraceServiceRequest = serde_json::from_str(body).unwrap();
                adapters.read_traces(&request, &mut facts);
            }
            false => {
                let request: ExportLogsServiceRequest = serde_json::from_str(body).unwrap();
                adapters.read_logs(&request, &mut facts);
            }
        }
        adapters.end_request(&mut facts);
        facts.into_iter().for_each(|fact| merge.add(fact, now));
        now = Timestamp(now.0 + pause_ms * 1000);
        records.extend(merge.take(Some(now)));
    }
    records.extend(merge.take(None));
    let number = |(seq, mut record): (u64, spantap::record::agent::AgentRecord<'static>)| {
        record.finish(RUN, seq);
        let line = serde_json::to_string(&record).unwrap();
        validate_line(Path::new("of an agent"), &line)
    };
    (0..).zip(records).map(number).collect()
}

fn recorded(agent: &str) -> Vec<Value> {
    records_of(&bodies(agent), 100)
}

fn of<'r>(records: &'r [Value], event: &str) -> Vec<&'r Value> {
    records.iter().filter(|record| record["event"] == event).collect()
}

fn texts<'r>(records: &[&'r Value], field: &str) -> Vec<&'r str> {
    records.iter().map(|record| record[field].as_str().unwrap_or("-")).collect()
}

/// The tokens of a record: input, output, cached.
fn tokens(record: &Value) -> [u64; 3] {
    ["input_tokens", "output_tokens", "cached_tokens"].map(|field| record[field].as_u64().unwrap_or_default())
}

/// What the scripted model reported with its answers, which began with this number of tool results.
fn told(answers: &[u64]) -> Vec<[u64; 3]> {
    answers.iter().map(|number| [1000 * (number + 1), 10 * (number + 1), 100 * (number + 1)]).collect()
}

/// The same for Claude Code, whose model wrote 7 tokens and one more for each tool result to the cache. Its input has
/// neither those nor those that were read from the cache.
fn told_by_claude(answers: &[u64]) -> Vec<[u64; 3]> {
    let with_cache =
        |(number, [input, output, cached]): (&u64, [u64; 3])| [input + cached + number + 7, output, cached];
    answers.iter().zip(told(answers)).map(with_cache).collect()
}

const AGENTS: [&str; 9] = [
    "claude",
    "codex",
    "gemini",
    "gemini-thoughts",
    "opencode",
    "claude-failed",
    "codex-failed",
    "gemini-failed",
    "opencode-failed",
];

#[test]
fn the_made_session_is_of_the_contract() {
    for path in logs_in(&folder("session")) {
        assert!(!validate_log(&path).is_empty());
    }
}

#[test]
fn a_log_of_the_collector_changes_no_answer_about_sessions_servers_and_calls() {
    let commands: &[&[&str]] = &[
        &["tail", "-n", "50"],
        &["tail", "--json"],
        &["sessions", "--connections"],
        // Turns are those that the agent reported, unless only some calls are selected.
        &["stats", "--tool", "*"],
        &["stats", "--by", "session", "--tool", "*", "--json"],
        &["stats", "--by", "error"],
        &["context"],
        &["context", "--history", "files/list_directory"],
        &["gate", "--max-errors", "0"],
        &["diff", "last", "last"],
        &["top", "--once"],
        &["status"],
    ];
    let home = Home::new();
    std::fs::create_dir_all(home.logs()).unwrap();
    let answers = || -> Vec<String> {
        let run = |arguments: &&[&str]| {
            let mut command = home.spantap(arguments.iter().copied());
            if arguments[0] != "status" {
                command.args(["--since", "2026-11-28"]);
            }
            let output = command.env("COLUMNS", "120").output().unwrap();
            let (printed, said) = text(&output);
            // The first line of `top` has the time.
            let printed = printed
                .split_once('\n')
                .filter(|_| arguments[0] == "top")
                .map_or(&*printed, |(_, rest)| rest);
            format!("{}\n{printed}{said}", output.status)
        };
        commands.iter().map(run).collect()
    };
    let (mut of_agents, mut of_servers) = (Vec::new(), Vec::new());
    for path in logs_in(&folder("session")) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let list = if name.starts_with("collect-") { &mut of_agents } else { &mut of_servers };
        list.push((home.logs().join(name), path));
    }
    let copy = |files: &[(PathBuf, PathBuf)]| {
        for (to, from) in files {
            std::fs::copy(from, to).unwrap();
        }
    };
    copy(&of_servers);
    let before = answers();
    assert!(before[1].contains("read_text_file"), "{}", before[1]);
    assert!(before.iter().filter(|answer| answer.contains("read_text_file")).count() >= 8, "{before:#?}");
    copy(&of_agents);
    for ((arguments, before), after) in commands.iter().zip(before).zip(answers()) {
        assert_eq!(after, before, "{arguments:?}");
    }
}

#[test]
fn claude_code_s_turn_requests_and_tools_are_recorded_with_the_numbers_that_it_reported() {
    let records = recorded("claude");
    assert_eq!(records.len(), 1 + 7 + 6, "{records:#?}");
    let turns = of(&records, "agent_turn");
    assert_eq!(texts(&turns, "turn_id").len(), 1);
    let turn = turns[0]["turn_id"].as_str().unwrap();
    let session = turns[0]["session_id"].as_str().unwrap();
    for record in &records {
        assert_eq!(record["turn_id"], turn, "{record}");
        assert_eq!([&record["session_id"], &record["conversation_id"]], [session, session], "{record}");
        assert_eq!([&record["agent_name"], &record["agent_version"]], ["claude-code", "2.1.328"]);
        assert!(record["started_at"].is_string() && record["trace_id"].is_string(), "{record}");
    }
    let mut calls = of(&records, "model_call");
    calls.sort_by_key(|call| call["input_tokens"].as_u64());
    let found: Vec<_> = calls.iter().map(|call| tokens(call)).collect();
    assert_eq!(found, told_by_claude(&[0, 1, 2, 3, 4, 5, 6]));
    let costs: Vec<f64> = calls.iter().map(|call| call["cost_usd"].as_f64().unwrap()).collect();
    assert_eq!(costs, [0.004255, 0.00848, 0.012705, 0.01693, 0.021155, 0.02538, 0.029605]);
    for (number, call) in calls.iter().enumerate() {
        assert_eq!(call["cost_source"], "agent");
        let asked = (number < 6).then(|| vec![format!("toolu_{}", number + 1)]);
        assert_eq!(call["call_ids"], json!(asked), "{call}");
        assert!(call["first_token_ms"].is_number() && call["attempt"] == 1, "{call}");
    }
    let mut tools = of(&records, "agent_tool");
    tools.sort_by_key(|tool| tool["call_id"].as_str());
    assert_eq!(texts(&tools, "tool_name"), ["echo", "fail", "nap", "forbidden", "Bash", "echo"]);
    assert_eq!(texts(&tools, "tool_server"), ["kit", "kit", "kit", "kit", "-", "kit"]);
    assert_eq!(texts(&tools, "status"), ["ok", "error", "ok", "denied", "ok", "ok"]);
    assert_eq!(texts(&tools, "decision"), ["allowed", "allowed", "allowed", "refused", "allowed", "allowed"]);
    assert_eq!(texts(&tools, "decided_by"), ["config"; 6]);
    assert_eq!(texts(&tools, "error_type"), ["-", "tool_error", "-", "-", "-", "-"]);
    assert!(tools[2]["duration_ms"].as_f64().unwrap() > 1200.0);
}

#[test]
fn codex_s_turn_requests_and_tools_are_recorded_with_the_numbers_that_it_reported() {
    let records = recorded("codex");
    assert_eq!(records.len(), 1 + 7 + 6, "{records:#?}");
    let turn = &of(&records, "agent_turn")[0]["turn_id"];
    for record in &records {
        assert_eq!(&record["turn_id"], turn, "{record}");
        assert_eq!(record["conversation_id"], "01a226bf-048c-7023-973c-4be46fbbf7d6");
        assert_eq!([&record["agent_name"], &record["agent_version"]], ["codex", "0.169.0"]);
        assert!(record["started_at"].is_string() && record["trace_id"].is_string(), "{record}");
    }
    let mut calls = of(&records, "model_call");
    calls.sort_by_key(|call| call["started_at"].as_str());
    let found: Vec<_> = calls.iter().map(|call| tokens(call)).collect();
    assert_eq!(found, told(&[0, 1, 2, 3, 4, 5, 6]));
    assert_eq!(texts(&calls, "model"), ["fake-model"; 7]);
    let mut tools = of(&records, "agent_tool");
    tools.sort_by_key(|tool| tool["call_id"].as_str());
    assert_eq!(texts(&tools, "call_id"), ["call_1", "call_2", "call_3", "call_4", "call_5", "call_6"]);
    assert_eq!(texts(&tools, "tool_name"), ["echo", "fail", "nap", "forbidden", "exec_command", "echo"]);
    assert_eq!(texts(&tools, "tool_server"), ["more", "more", "more", "more", "-", "more"]);
    assert_eq!(texts(&tools, "status"), ["ok", "error", "ok", "ok", "ok", "ok"]);
    assert_eq!([&tools[4]["decision"], &tools[4]["decided_by"]], ["allowed", "config"]);
}

#[test]
fn gemini_cli_s_turn_requests_and_tools_are_recorded_with_the_numbers_that_it_reported() {
    let records = recorded("gemini");
    assert_eq!(records.len(), 1 + 7 + 6, "{records:#?}");
    for record in &records {
        assert_eq!([&record["session_id"], &record["turn_id"]], ["fe4f56f2-cfbf-48dd-818a-8069371dc4eb"; 2]);
        assert_eq!([&record["agent_name"], &record["host_pid"]], [&json!("gemini-cli"), &json!(21475)]);
        assert_eq!(record.get("agent_version"), None, "the version of the service is that of Node");
    }
    let mut calls = of(&records, "model_call");
    calls.sort_by_key(|call| call["started_at"].as_str());
    let found: Vec<_> = calls.iter().map(|call| tokens(call)).collect();
    assert_eq!(found, told(&[0, 1, 2, 3, 4, 5, 6]));
    assert!(calls.iter().all(|call| call["trace_id"].is_string() && call["status"] == "ok"));
    let mut tools = of(&records, "agent_tool");
    tools.sort_by_key(|tool| tool["started_at"].as_str());
    assert_eq!(texts(&tools, "tool_name"), ["echo", "fail", "nap", "forbidden", "list_directory", "echo"]);
    assert_eq!(texts(&tools, "tool_server"), ["kit", "kit", "kit", "kit", "-", "kit"]);
    assert_eq!(texts(&tools, "status"), ["ok", "error", "ok", "ok", "ok", "ok"]);
    assert!(tools.iter().all(|tool| tool["call_id"].is_string() && tool["decision"] == "allowed"));
}

#[test]
fn the_tokens_of_gemini_s_thoughts_are_output_and_those_of_its_own_tools_input() {
    let records = recorded("gemini-thoughts");
    let mut calls = of(&records, "model_call");
    calls.sort_by_key(|call| call["started_at"].as_str());
    let found: Vec<_> = calls.iter().map(|call| tokens(call)).collect();
    assert_eq!(found, told(&[0, 1, 2]));
    assert!(calls.iter().all(|call| call["span_id"].is_string() && call["model"] == "fake"), "{calls:#?}");
}

#[test]
fn a_tool_that_a_policy_of_gemini_cli_refused_is_refused_by_the_settings() {
    let attributes = [
        ("event.name", "gemini_cli.tool_call"),
        ("function_name", "create_directory"),
        ("mcp_server_name", "files"),
        ("error_type", "policy_violation"),
    ];
    let attributes: Vec<Value> = attributes
        .iter()
        .map(|(key, text)| json!({"key": key, "value": {"stringValue": text}}))
        .chain([json!({"key": "success", "value": {"boolValue": false}})])
        .collect();
    let service = json!({"key": "service.name", "value": {"stringValue": "gemini-cli"}});
    let event = json!({"timeUnixNano": "1795946343000000000", "attributes": attributes});
    let body = json!({"resourceLogs": [{
        "resource": {"attributes": [service]}, "scopeLogs": [{"logRecords": [event]}],
    }]});
    let records = records_of(&[(false, body.to_string())], 100);
    let [tool] = &records[..] else { panic!("{records:#?}") };
    let fields = ["event", "status", "decision", "decided_by"].map(|field| &tool[field]);
    assert_eq!(fields, ["agent_tool", "denied", "refused", "config"], "{tool}");
}

#[test]
fn opencode_s_turn_requests_and_tools_are_recorded_with_the_numbers_that_it_reported() {
    let records = recorded("opencode");
    // Its first request asks for a title. The refused tool ended the turn.
    assert_eq!(records.len(), 1 + 5 + 4, "{records:#?}");
    for record in &records {
        assert_eq!(record["session_id"], "ses_dd93d3a7cffeBY2KXIbABQSi7G", "{record}");
        assert_eq!(record["turn_id"], record["trace_id"]);
        assert_eq!([&record["agent_name"], &record["agent_version"]], ["opencode", "1.18.33"]);
    }
    let turns: BTreeSet<&str> = records.iter().map(|record| record["turn_id"].as_str().unwrap()).collect();
    assert_eq!(turns.len(), 1);
    let mut calls = of(&records, "model_call");
    calls.sort_by_key(|call| call["started_at"].as_str());
    let mut found: Vec<_> = calls.iter().map(|call| tokens(call)).collect();
    found.sort_unstable();
    assert_eq!(found, told(&[0, 0, 1, 2, 3]));
    let asked: Vec<&Value> = calls.iter().filter_map(|call| call.get("call_ids")).collect();
    assert_eq!(asked, [&json!(["call_1"]), &json!(["call_2"]), &json!(["call_3"]), &json!(["call_4"])]);
    let mut tools = of(&records, "agent_tool");
    tools.sort_by_key(|tool| tool["call_id"].as_str());
    assert_eq!(texts(&tools, "tool_name"), ["kit_echo", "kit_fail", "kit_nap", "kit_forbidden"]);
    assert_eq!(texts(&tools, "status"), ["ok", "error", "ok", "denied"]);
    assert_eq!(texts(&tools, "decision"), ["-", "-", "-", "refused"]);
}

#[test]
fn each_request_that_failed_is_one_model_call_with_the_reason_that_the_agent_reported() {
    for (agent, told_ok, failures) in [
        // Claude Code reports a request that it sends again only as the number of the attempt.
        ("claude-failed", told_by_claude(&[0, 1]), vec![("400", 1)]),
        ("codex-failed", told(&[0, 1, 2, 3, 4, 5, 6]), vec![("500", 1), ("-", 1)]),
        ("gemini-failed", told(&[0, 1, 2, 3, 4, 5, 6]), vec![("500", 0), ("429", 0)]),
        // Its first request asks for a title. The spans of its last requests did not come.
        ("opencode-failed", told(&[0, 0, 1]), vec![("AI_APICallError", 0); 2]),
    ] {
        let records = recorded(agent);
        let mut calls = of(&records, "model_call");
        calls.sort_by_key(|call| call["started_at"].as_str());
        let (failed, others): (Vec<&Value>, Vec<&Value>) =
            calls.into_iter().partition(|call| call["status"] == "error");
        let reasons: Vec<(&str, u64)> = failed
            .iter()
            .map(|call| (call["error_type"].as_str().unwrap_or("-"), call["attempt"].as_u64().unwrap_or(0)))
            .collect();
        assert_eq!(reasons, failures, "{agent}: {failed:#?}");
        assert!(failed.iter().all(|call| call["level"] == "warn" && tokens(call) == [0; 3]), "{agent}");
        for call in failed {
            assert!(call["model"].is_string() && call["started_at"].is_string(), "{agent}: {call}");
        }
        let mut found: Vec<_> = others.iter().map(|call| tokens(call)).collect();
        found.sort_unstable();
        assert_eq!(found, told_ok, "{agent}");
    }
}

#[test]
fn no_text_of_a_person_a_model_or_a_tool_is_in_a_record_in_any_form() {
    for agent in AGENTS {
        let bodies = bodies(agent);
        let planted: usize = bodies.iter().map(|(_, body)| body.matches("canary").count()).sum();
        assert!(planted > 10, "{agent}: {planted}");
        let written: String = recorded(agent).iter().map(Value::to_string).collect();
        // Three of four characters are the same in base64 wherever the word begins.
        let forms = (0..3)
            .map(|pad| BASE64_STANDARD.encode(format!("{}canary of a", "x".repeat(pad)))[4..12].to_owned());
        let plain = ["canary", "of a text", "password=", "\\u0063anary", "63616e617279"].map(str::to_owned);
        for form in forms.chain(plain) {
            assert!(!written.contains(&form), "{agent}: {form}");
        }
        for attribute in ["user.id", "prompt", "tool_input", "arguments", "messages", "instructions"] {
            assert!(!written.contains(&format!("\"{attribute}\"")), "{agent}: {attribute}");
        }
    }
}

/// Returns each fact with what its records say together, and the number of records that do not amend another.
fn facts(records: &[Value]) -> (std::collections::BTreeMap<String, Value>, usize) {
    let mut facts = std::collections::BTreeMap::new();
    for record in records {
        let fact: &mut Value =
            facts.entry(record["fact_id"].as_str().unwrap().to_owned()).or_insert_with(|| json!({}));
        for (name, value) in record.as_object().unwrap() {
            fact.as_object_mut().unwrap().entry(name).or_insert_with(|| value.clone());
        }
    }
    (facts, records.iter().filter(|record| record.get("amends").is_none()).count())
}

#[test]
fn parts_that_come_late_twice_or_in_another_order_are_the_same_facts() {
    for agent in AGENTS {
        let sent = bodies(agent);
        let (expected, count) = facts(&records_of(&sent, 100));
        assert_eq!(count, expected.len(), "{agent}");
        let sums = |facts: &std::collections::BTreeMap<String, Value>| {
            let sum = |field: &str| {
                facts.values().map(|fact| fact[field].as_f64().unwrap_or_default()).sum::<f64>()
            };
            (sum("input_tokens"), sum("output_tokens"), (sum("cost_usd") * 1e6).round())
        };
        let twice: Vec<_> = sent.iter().chain(&sent).cloned().collect();
        let reversed: Vec<_> = sent.iter().rev().cloned().collect();
        for (what, bodies, pause) in [
            ("late", &sent, 40_000),
            ("twice", &twice, 100),
            ("twice and late", &twice, 40_000),
            ("reversed", &reversed, 100),
            ("reversed and late", &reversed, 40_000),
        ] {
            let records = records_of(bodies, pause);
            let (found, first) = facts(&records);
            assert_eq!((found.len(), first), (count, count), "{agent} {what}");
            assert_eq!(sums(&found), sums(&expected), "{agent} {what}");
        }
    }
}

/// Returns the records of one request with these spans of a service.
fn spans_of(service: &str, spans: Value) -> Vec<Value> {
    let body = json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
        "scopeSpans": [{"scope": {"name": "x"}, "spans": spans}],
    }]});
    records_of(&[(true, body.to_string())], 100)
}

fn span(
    name: &str,
    id: u8,
    parent: Option<u8>,
    trace: u8,
    flags: u32,
    attributes: &[(&str, Value)],
) -> Value {
    let attributes: Vec<Value> =
        attributes.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
    json!({
        "traceId": format!("{trace:032x}"), "spanId": format!("{id:016x}"),
        "parentSpanId": parent.map_or(String::new(), |parent| format!("{parent:016x}")), "name": name, "kind": 1,
        "flags": flags, "startTimeUnixNano": "1795946345000000000", "endTimeUnixNano": "1795946345250000000",
        "attributes": attributes, "status": {},
    })
}

#[test]
fn a_server_s_spans_are_recorded_if_their_trace_came_from_another_process() {
    const REMOTE: u32 = 0x301;
    let records = spans_of(
        "weather",
        json!([
            span("query", 2, Some(1), 7, 0x101, &[("db.query.text", json!({"stringValue": "canary"}))]),
            span("tools/call forecast", 1, Some(9), 7, REMOTE, &[]),
            span("of itself", 4, Some(3), 8, 0x101, &[]),
            span("start", 3, None, 8, 0x101, &[]),
        ]),
    );
    let mut names = texts(&records.iter().collect::<Vec<_>>(), "span_name");
    names.sort_unstable();
    assert_eq!(names, ["query", "tools/call forecast"]);
    for record in &records {
        assert_eq!(
            [&record["event"], &record["agent_name"], &record["span_kind"]],
            ["server_span", "weather", "internal"]
        );
        assert_eq!(record["duration_ms"], 250.0);
        assert!(!record.to_string().contains("canary"));
    }
}

#[test]
fn an_agent_that_follows_the_conventions_is_read_without_a_table_of_its_own() {
    let text = |text: &str| json!({"stringValue": text});
    let operation = |name: &str| ("gen_ai.operation.name", text(name));
    let tokens = |number: u64| json!({"intValue": number.to_string()});
    let records = spans_of(
        "copilot-chat",
        json!([
            span(
                "execute_tool read",
                3,
                Some(1),
                7,
                0,
                &[
                    operation("execute_tool"),
                    ("gen_ai.tool.call.id", text("call_9")),
                    ("gen_ai.tool.name", text("read")),
                    ("gen_ai.tool.call.arguments", text("canary")),
                ]
            ),
            span(
                "chat gpt",
                2,
                Some(1),
                7,
                0,
                &[
                    operation("chat"),
                    ("gen_ai.request.model", text("gpt")),
                    ("gen_ai.usage.input_tokens", tokens(1200)),
                    ("gen_ai.usage.output_tokens", tokens(34)),
                    ("gen_ai.input.messages", text("canary")),
                ]
            ),
            span("http", 4, Some(2), 7, 0, &[]),
            span(
                "invoke_agent",
                1,
                None,
                7,
                0,
                &[operation("invoke_agent"), ("gen_ai.conversation.id", text("c1"))]
            ),
        ]),
    );
    let mut events = texts(&records.iter().collect::<Vec<_>>(), "event");
    events.sort_unstable();
    assert_eq!(events, ["agent_tool", "agent_turn", "model_call"]);
    let call = of(&records, "model_call")[0];
    assert_eq!((call["model"].as_str(), tokens_of(call)), (Some("gpt"), (1200, 34)));
    let tool = of(&records, "agent_tool")[0];
    assert_eq!(
        [&tool["call_id"], &tool["tool_name"], &tool["agent_name"]],
        ["call_9", "read", "copilot-chat"]
    );
    assert!(records.iter().all(|record| !record.to_string().contains("canary")));
}

#[test]
fn the_input_of_every_agent_contains_the_tokens_of_the_cache() {
    for (input, read, written, expected) in [
        (1000, 600, 100, 1000),
        // So few cannot contain those of the cache.
        (100, 600, 100, 800),
        (0, 0, 0, 0),
        (100, u64::MAX >> 1, u64::MAX >> 1, u64::MAX),
    ] {
        let number = |name, number: u64| (name, json!({"intValue": number.to_string()}));
        let attributes = [
            ("gen_ai.operation.name", json!({"stringValue": "chat"})),
            number("gen_ai.usage.input_tokens", input),
            number("gen_ai.usage.cache_read.input_tokens", read),
            number("gen_ai.usage.cache_creation.input_tokens", written),
        ];
        let records = spans_of("some-agent", json!([span("chat", 2, Some(1), 7, 0, &attributes)]));
        assert_eq!(records[0]["input_tokens"], expected, "{records:#?}");
    }
}

fn tokens_of(call: &Value) -> (u64, u64) {
    (call["input_tokens"].as_u64().unwrap(), call["output_tokens"].as_u64().unwrap())
}

#[test]
fn the_time_for_which_claude_code_waited_for_a_person_is_that_of_the_tool() {
    let text = |text: &str| json!({"stringValue": text});
    for (source, waited) in [("user_reject", Some(250.0)), ("config", None)] {
        let records = spans_of(
            "claude-code",
            json!([
                span(
                    "claude_code.tool.blocked_on_user",
                    2,
                    Some(1),
                    7,
                    0,
                    &[("decision", text("reject")), ("source", text(source)), ("session.id", text("s")),]
                ),
                span(
                    "claude_code.tool",
                    1,
                    Some(9),
                    7,
                    0,
                    &[
                        ("session.id", text("s")),
                        ("tool_use_id", text("toolu_1")),
                        ("gen_ai.tool.name", text("write_file")),
                    ]
                ),
            ]),
        );
        assert_eq!(records.len(), 1);
        assert_eq!(
            [&records[0]["decision"], &records[0]["status"], &records[0]["level"]],
            ["refused", "denied", "warn"]
        );
        assert_eq!(records[0].get("person_wait_ms").and_then(Value::as_f64), waited);
    }
}
