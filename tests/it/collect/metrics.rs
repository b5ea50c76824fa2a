//! `collect --otlp`: metrics of the model calls that agents reported.

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use serde_json::json;

use super::*;
use crate::config::write_config;
use crate::otlp::collector::{Collector, Manner, attributes};

const TOKENS: &str = "gen_ai.client.token.usage";
const DURATION: &str = "gen_ai.client.operation.duration";

/// Returns the last points of a histogram: attributes, sum, count and bounds.
fn histogram(target: &Collector, name: &str) -> Vec<(String, f64, u64, Vec<f64>)> {
    let metrics = target.exports().pop().unwrap();
    let Some(metric) = metrics.into_iter().find(|metric| metric.name == name) else { return Vec::new() };
    let Some(Data::Histogram(histogram)) = metric.data else { panic!("{name} is a histogram") };
    let points = histogram.data_points.into_iter();
    points
        .map(|point| (attributes(&point.attributes), point.sum.unwrap(), point.count, point.explicit_bounds))
        .collect()
}

/// Returns a body with spans of model calls, each with the model, an operation and an error if it failed.
fn chats(service: &str, calls: &[(&str, &str, Option<&str>)]) -> Vec<u8> {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let spans: Vec<Value> = calls
        .iter()
        .enumerate()
        .map(|(at, (model, operation, error))| {
            let mut attributes =
                vec![text("gen_ai.operation.name", operation), text("gen_ai.request.model", model)];
            attributes.push(text("gen_ai.provider.name", "acme"));
            attributes.push(json!({"key": "gen_ai.usage.input_tokens", "value": {"intValue": "5"}}));
            attributes.extend(error.map(|error| text("error.type", error)));
            json!({
                "traceId": format!("{:032x}", 7), "spanId": format!("{:016x}", at + 1), "name": "chat",
                "startTimeUnixNano": "1795946345000000000", "endTimeUnixNano": "1795946345250000000",
                "status": {"code": if error.is_some() { 2 } else { 0 }}, "attributes": attributes,
            })
        })
        .collect();
    let resource = json!({"attributes": [text("service.name", service)]});
    json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}).to_string().into()
}

#[test]
fn the_tokens_and_durations_of_model_calls_arrive_as_the_agents_reported_them() {
    for protocol in ["http/protobuf", "grpc"] {
        let home = Home::new();
        let is_grpc = protocol == "grpc";
        let target = if is_grpc { Collector::grpc(Manner::Good) } else { Collector::start(Manner::Good) };
        let set = format!("protocol={protocol}");
        let collecting = Collecting::start(&home, &["--otlp", &target.endpoint, "--otlp-set", &set]);
        for agent in ["claude", "codex", "gemini", "opencode"] {
            collecting.replay(agent);
        }
        let printed = collecting.end().0;
        assert!(printed.contains("sending metrics of model calls to localhost:"), "{printed}");
        assert!(target.requests().iter().all(|request| request.path == "/v1/metrics"));
        let resource = target.resource_of_metrics();
        assert!(resource.contains("service.name=spantap-collect"), "{resource}");
        let tokens = histogram(&target, TOKENS);
        let sum = |agent: &str, kind: &str| {
            let is_of = |text: &str| text.contains(&format!("agent.name={agent} ")) && text.contains(kind);
            let points: Vec<_> = tokens.iter().filter(|(text, ..)| is_of(text)).collect();
            assert!(points.iter().all(|point| point.3.first() == Some(&1.0) && point.3.len() == 14));
            points.iter().map(|point| (point.1, point.2)).fold((0.0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
        };
        // Claude Code leaves the tokens of the cache out of its input: 2,800 read and 70 written.
        assert_eq!(sum("claude-code", "token.type=input"), (30_870.0, 7));
        assert_eq!(sum("claude-code", "token.type=output"), (280.0, 7));
        assert_eq!(sum("codex", "token.type=input"), (28_000.0, 7));
        assert_eq!(sum("codex", "token.type=output"), (280.0, 7));
        for (agent, operation) in [("gemini-cli", "generate_content"), ("opencode", "chat")] {
            assert!(sum(agent, "token.type=input").0 > 0.0, "{tokens:?}");
            assert!(sum(agent, &format!("operation.name={operation} ")).1 > 0, "{tokens:?}");
        }
        assert!(sum("claude-code", "gen_ai.provider.name=anthropic ").1 > 0, "{tokens:?}");
        let durations = histogram(&target, DURATION);
        let codex = durations.iter().find(|(text, ..)| text.contains("agent.name=codex")).unwrap();
        assert!(codex.2 == 7 && codex.1 > 0.0 && codex.3[0] == 0.01, "{codex:?}");
        assert!(codex.0.contains("gen_ai.request.model=fake-model"), "{codex:?}");
        assert!(!format!("{durations:?}{tokens:?}{resource}").contains("canary"));
    }
}

#[test]
fn names_are_bounded_and_failures_have_their_word() {
    let (home, target) = (Home::new(), Collector::start(Manner::Good));
    let collecting = Collecting::start(&home, &["--otlp", &target.endpoint]);
    let models: Vec<String> = (0..150).map(|number| format!("model-{number}")).collect();
    // Some agents let the user name the model.
    let mut calls: Vec<(&str, &str, Option<&str>)> = vec![("the model of alice", "chat", None)];
    calls.extend(models.iter().map(|model| (model.as_str(), "chat", None)));
    calls.push(("model-1", "text_completion", Some("rate_limited")));
    // Some agents put a message there.
    calls.push(("model-1", "text_completion", Some("the quota of alice is spent")));
    assert_eq!(collecting.post("/v1/traces", &[JSON], &chats("my-agent", &calls)).status, 200);
    // So can its name be, and there can be many of them.
    for service in (0..30).map(|number| format!("agent-{number}")).chain(["agent of alice".to_owned()]) {
        let call = [("model-1", "generate_content", None)];
        assert_eq!(collecting.post("/v1/traces", &[JSON], &chats(&service, &call)).status, 200);
    }
    collecting.end();
    let tokens = histogram(&target, TOKENS);
    let agents: Vec<_> = tokens.iter().filter(|(text, ..)| text.contains("=generate_content ")).collect();
    let rest = agents.iter().find(|(text, ..)| text.contains("agent.name=_OTHER"));
    assert_eq!((agents.len(), rest.map(|rest| rest.2)), (20, Some(12)), "19 agents and the rest: {agents:?}");
    let own = tokens.iter().filter(|(text, ..)| text.contains("operation.name=chat ")).count();
    assert_eq!(own, 101, "100 models and the rest");
    let rest = tokens.iter().find(|(text, ..)| text.contains("request.model=_OTHER")).unwrap();
    assert_eq!((rest.1, rest.2), (255.0, 51));
    assert!(!format!("{tokens:?}{:?}", histogram(&target, DURATION)).contains("alice"));
    let mut failed: Vec<_> =
        histogram(&target, DURATION).into_iter().filter(|(text, ..)| text.contains("error.type")).collect();
    failed.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = ["_OTHER", "rate_limited"].map(|word| {
        format!(
            "error.type={word} gen_ai.agent.name=my-agent gen_ai.operation.name=text_completion \
             gen_ai.provider.name=acme gen_ai.request.model=model-1 gen_ai.response.model=model-1"
        )
    });
    let found: Vec<(&str, f64)> = failed.iter().map(|point| (point.0.as_str(), point.1)).collect();
    assert_eq!(found, expected.each_ref().map(|text| (text.as_str(), 0.25)));
}

#[test]
fn metrics_are_sent_only_with_the_flag_and_not_to_the_collector_itself() {
    let (home, target) = (Home::new(), Collector::start(Manner::Good));
    write_config(&home, &format!("[otlp]\nendpoint = \"{}\"\n", target.endpoint));
    let collecting = Collecting::start(&home, &[]);
    collecting.replay("codex");
    collecting.end();
    assert!(target.requests().is_empty());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let url = format!("http://{address}");
    for (set, status, expected) in [
        ("temporality=delta", 1, "--otlp leads back to this collector at"),
        ("metrics=false", 2, "--otlp would send nothing, because metrics are turned off"),
        ("certificate=/no/such/file", 1, "--otlp cannot be used"),
    ] {
        let address = if set.starts_with("cert") { "127.0.0.1:0" } else { &address };
        let words = ["collect", "--listen", address, "--otlp", &url, "--otlp-set", set];
        let output = home.spantap(words).output().unwrap();
        let said = text(&output).1;
        assert_eq!((output.status.code(), said.contains(expected)), (Some(status), true), "{said}");
    }
}
