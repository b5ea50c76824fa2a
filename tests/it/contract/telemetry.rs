//! What a collector receives: spans and logs of recorded sessions, metrics of sessions that are played live.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{fixtures, hold};
use crate::otlp::collector::{Collector, Manner, points};
use crate::support::{FLUSH_BUDGET, Home, SPANTAP, wait_until};

/// Returns a part of a request as JSON in which attributes are members and values have no wrapping.
fn plain(part: &impl Serialize) -> Value {
    fn unwrapped(value: Value) -> Value {
        match value {
            Value::Array(items) => {
                let is_attribute = |item: &Value| item.get("key").is_some() && item.get("value").is_some();
                if items.is_empty() || !items.iter().all(is_attribute) {
                    return items.into_iter().map(unwrapped).collect();
                }
                let member = |mut item: Value| {
                    let key = item["key"].as_str().unwrap().to_owned();
                    (key, unwrapped(item["value"].take()))
                };
                Value::Object(items.into_iter().map(member).collect())
            }
            Value::Object(members) if members.len() == 1 => {
                let (name, value) = members.into_iter().next().unwrap();
                match (name.as_str(), value) {
                    ("stringValue" | "boolValue" | "doubleValue", value) => value,
                    ("intValue", Value::String(text)) => text.parse::<i64>().unwrap().into(),
                    ("arrayValue" | "kvlistValue", mut list) => unwrapped(list["values"].take()),
                    (_, value) => Value::Object(Map::from_iter([(name, unwrapped(value))])),
                }
            }
            Value::Object(members) => {
                members.into_iter().map(|(name, value)| (name, unwrapped(value))).collect()
            }
            value => value,
        }
    }
    unwrapped(serde_json::to_value(part).unwrap())
}

/// Returns resource and scope of a batch as one line, without what differs between builds.
fn origin(resource: &impl Serialize, scope: &impl Serialize) -> String {
    let (mut resource, mut scope) = (plain(resource), plain(scope));
    for version in [&mut resource["attributes"]["telemetry.distro.version"], &mut scope["version"]] {
        if *version == env!("CARGO_PKG_VERSION") {
            *version = json!("…");
        }
    }
    json!({"resource": resource, "scope": scope}).to_string()
}

/// Bodies of the requests to `path`, decoded.
fn requests<M: Message + Default>(collector: &Collector, path: &str) -> Vec<M> {
    let all = collector.requests().into_iter().filter(|request| request.path == path);
    all.map(|request| M::decode(request.body.as_slice()).unwrap()).collect()
}

/// Returns the items below their origins, in the order of time.
fn in_order(title: &str, batches: Vec<(String, Vec<Value>)>, time: &str) -> String {
    // The server tells its version in its first answer. Batches that were sent before do not have it.
    const VERSION: &str = r#","service.version":""#;
    let unversioned = |origin: &str| match origin.split_once(VERSION) {
        Some((before, after)) => before.to_owned() + after.split_once('"').unwrap().1,
        None => origin.to_owned(),
    };
    let versions: BTreeMap<String, String> = batches
        .iter()
        .filter(|(origin, _)| origin.contains(VERSION))
        .map(|(origin, _)| (unversioned(origin), origin.clone()))
        .collect();
    let mut origins: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for (origin, items) in batches {
        let origin = versions.get(&origin).cloned().unwrap_or(origin);
        let items = items.into_iter().map(|item| (item[time].to_string(), item.to_string()));
        origins.entry(origin).or_default().extend(items);
    }
    let mut found = format!("== {title}\n");
    for (origin, mut items) in origins {
        items.sort();
        writeln!(found, "{origin}").unwrap();
        items.iter().for_each(|(_, item)| writeln!(found, "  {item}").unwrap());
    }
    found
}

/// Returns spans and logs that `spantap export` sends of these logs.
fn exported(title: &str, options: &[&str], logs: &[&Path]) -> (String, String) {
    let collector = Collector::start(Manner::Good);
    let home = Home::new();
    let mut command = home.spantap(["export", "--logs", "--otlp", &collector.endpoint]);
    let output = command
        .args(options)
        .args(logs)
        .env("OTEL_BSP_SCHEDULE_DELAY", "1")
        .env("OTEL_BLRP_SCHEDULE_DELAY", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{title}: {}", String::from_utf8_lossy(&output.stderr));
    let (mut spans, mut logs) = (Vec::new(), Vec::new());
    for request in requests::<ExportTraceServiceRequest>(&collector, "/v1/traces") {
        for resource in request.resource_spans {
            for scope in resource.scope_spans {
                let origin = origin(&resource.resource, &scope.scope);
                spans.push((origin, scope.spans.iter().map(plain).collect()));
            }
        }
    }
    for request in requests::<ExportLogsServiceRequest>(&collector, "/v1/logs") {
        for resource in request.resource_logs {
            for scope in resource.scope_logs {
                let origin = origin(&resource.resource, &scope.scope);
                logs.push((origin, scope.log_records.iter().map(plain).collect()));
            }
        }
    }
    (in_order(title, spans, "startTimeUnixNano"), in_order(title, logs, "timeUnixNano"))
}

/// Folders of `fixtures/sessions`, by name.
fn sessions() -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(fixtures().join("sessions")).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
        .into_iter()
        .map(|folder| (folder.file_name().unwrap().to_str().unwrap().to_owned(), folder))
        .collect()
}

#[test]
fn the_spans_and_logs_of_the_fixtures_are_the_golden_ones() {
    let (mut spans, mut logs) = (String::new(), String::new());
    let mut add = |(of_spans, of_logs): (String, String)| {
        spans += &of_spans;
        logs += &of_logs;
    };
    for folder in ["logs", "made-logs"] {
        add(exported(folder, &[], &[&fixtures().join(folder)]));
    }
    let mut client = String::new();
    for (name, folder) in sessions() {
        let records = folder.join("records.jsonl");
        add(exported(&name, &[], &[&records]));
        client += &exported(&name, &["--side", "client"], &[&records]).0;
    }
    hold("otlp-spans.txt", &spans);
    hold("otlp-logs.txt", &logs);
    hold("otlp-spans-of-clients.txt", &client);
}

#[test]
fn the_requests_of_each_protocol_have_the_golden_paths_and_headers() {
    let mut found = String::new();
    for protocol in ["http/protobuf", "http/json", "grpc"] {
        for compression in ["none", "gzip"] {
            let collector = match protocol {
                "grpc" => Collector::grpc(Manner::Good),
                _ => Collector::start(Manner::Good),
            };
            let (protocol, compression) =
                (format!("protocol={protocol}"), format!("compression={compression}"));
            let mut options = vec!["--otlp", &collector.endpoint];
            for setting in [&protocol, &compression, "logs=true", "headers.x-key=value"] {
                options.extend(["--otlp-set", setting]);
            }
            let home = Home::new();
            home.session(&options).end();
            let mut requests: BTreeSet<String> = BTreeSet::new();
            for request in collector.requests() {
                let version = format!("/{}", env!("CARGO_PKG_VERSION"));
                let names = ["content-length: ", "host: "];
                let mut headers: Vec<String> = request
                    .headers
                    .iter()
                    .map(|header| match names.iter().find(|name| header.starts_with(**name)) {
                        Some(name) => format!("{name}…"),
                        None => header.replace(&version, "/…"),
                    })
                    .collect();
                headers.sort();
                requests.insert(format!("  {}  {}\n", request.path, headers.join("; ")));
            }
            writeln!(found, "{protocol} {compression}").unwrap();
            found.extend(requests);
        }
    }
    hold("otlp-requests.txt", &found);
}

/// Instruments whose values depend on the machine, and which may not have one by the end of a short session.
const OF_THE_MACHINE: [&str; 7] = [
    "spantap.server.uptime",
    "spantap.server.start.duration",
    "spantap.server.memory",
    "spantap.server.cpu.time",
    "spantap.relay.added_latency",
    "spantap.relay.queue.depth",
    "spantap.check.duration",
];

/// What the collectors have received of metrics.
#[derive(Default)]
struct Received {
    instruments: BTreeSet<String>,
    origins: BTreeSet<String>,
    points: String,
}

impl Received {
    /// Adds the instruments of all exports and the points of the last one.
    fn add(&mut self, title: &str, collector: &Collector) {
        for request in requests::<ExportMetricsServiceRequest>(collector, "/v1/metrics") {
            for resource in request.resource_metrics {
                for scope in resource.scope_metrics {
                    let mut resource = plain(&resource.resource);
                    let instance = &mut resource["attributes"]["service.instance.id"];
                    assert!(instance.take().is_string());
                    *instance = json!("…");
                    self.origins.insert(origin(&resource, &scope.scope));
                    self.instruments.extend(scope.metrics.iter().map(instrument));
                }
            }
        }
        let mut lines = Vec::new();
        for metric in collector.exports().last().unwrap() {
            if OF_THE_MACHINE.contains(&metric.name.as_str()) {
                continue;
            }
            for (attributes, value) in points(std::slice::from_ref(metric), &metric.name) {
                lines.push(format!("  {}{{{attributes}}} {value}\n", metric.name));
            }
        }
        lines.sort();
        writeln!(self.points, "== {title}\n{}", lines.concat()).unwrap();
    }

    fn text(&self) -> String {
        let lines =
            |lines: &BTreeSet<String>| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        format!("{}\n{}\n{}", lines(&self.origins), lines(&self.instruments), self.points)
    }
}

/// Returns everything of an instrument but its points, and the names of their attributes.
fn instrument(metric: &Metric) -> String {
    let kind = match metric.data.as_ref().unwrap() {
        Data::Gauge(_) => "gauge".to_owned(),
        Data::Sum(sum) => {
            format!("sum monotonic={} temporality={}", sum.is_monotonic, sum.aggregation_temporality)
        }
        Data::Histogram(histogram) => {
            let bounds = &histogram.data_points[0].explicit_bounds;
            format!("histogram temporality={} bounds={bounds:?}", histogram.aggregation_temporality)
        }
        other => panic!("{other:?}"),
    };
    format!("{} unit={} {kind}\n    {}", metric.name, metric.unit, metric.description)
}

/// A server that the test plays: it writes what comes through `$1` and hands what it reads to `$2`, after
/// its process id. The shell keeps the server's output open until the input ends.
const PUPPET: &str = r#"exec 3>"$2"; echo $$ >&3; cat "$1" 2>/dev/null & cat >&3 2>/dev/null"#;

/// Plays a folder of `fixtures/sessions` live, step by step. Times and losses of the folder are left out:
/// they would make the test slow.
fn play(folder: &Path, options: &[&str], collector: &Collector) {
    let home = Home::new();
    let pipes = ["to-host", "from-host"].map(|name| home.path().join(name));
    assert!(home.command("mkfifo").args(&pipes).status().unwrap().success());
    // Opened for both directions, a pipe waits for no other end.
    let [to_host, mut from_host] =
        pipes.each_ref().map(|pipe| File::options().read(true).write(true).open(pipe).unwrap());
    let order = fs::read_to_string(folder.join("order")).unwrap();
    let level = if order.contains("debug") { "debug" } else { "info" };
    let mut command = home.spantap(["--server", "sample", "--session-id", "run-1", "--log-level", level]);
    command
        .args(["--otlp", &collector.endpoint, "--otlp-set", "traces=false"])
        .args(options)
        .args(["--", "sh", "-c", PUPPET, "sh"])
        .args(&pipes)
        .env(FLUSH_BUDGET.0, FLUSH_BUDGET.1)
        .env("SPANTAP_COST_USD_PER_MILLION_TOKENS", "3")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut to_server, mut from_server) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut pid = Vec::new();
    while pid.last() != Some(&b'\n') {
        let mut byte = [0];
        from_host.read_exact(&mut byte).unwrap();
        pid.extend(byte);
    }
    let sides = ["client.jsonl", "server.jsonl"].map(|file| fs::read(folder.join(file)).unwrap_or_default());
    let [mut client, mut server] = sides.each_ref().map(|bytes| bytes.split_inclusive(|byte| *byte == b'\n'));
    let mut server_pipe = Some(to_host);
    let mut words = order.split_whitespace();
    while let Some(word) = words.next() {
        let (line, from): (&[u8], &mut dyn Read) = match word {
            ">" | "x>" => {
                let line = client.next().unwrap();
                to_server.write_all(line).unwrap();
                (line, &mut from_host)
            }
            "<" | "x<" => {
                let line = server.next().unwrap();
                server_pipe.as_mut().unwrap().write_all(line).unwrap();
                (line, &mut from_server)
            }
            "died" => {
                drop(server_pipe.take());
                let pid = String::from_utf8(pid.clone()).unwrap();
                let signal = format!("-{}", words.next().unwrap());
                assert!(home.command("kill").args([&signal, pid.trim()]).status().unwrap().success());
                break;
            }
            _ => continue,
        };
        // One step is over before the next one begins.
        let mut passed = vec![0; line.len()];
        from.read_exact(&mut passed).unwrap();
        assert!(passed == line, "{}", folder.display());
    }
    drop(server_pipe);
    if !order.contains("died") {
        drop(to_server);
    }
    child.wait().unwrap();
}

#[test]
fn the_metrics_of_sessions_and_checks_are_the_golden_ones() {
    let mut received = Received::default();
    for (name, folder) in sessions() {
        let collector = Collector::start(Manner::Good);
        play(&folder, &[], &collector);
        received.add(&name, &collector);
    }
    let collector = Collector::start(Manner::Good);
    play(&fixtures().join("sessions/2025-06-18-consent"), &["--side", "client"], &collector);
    received.add("2025-06-18-consent, side of the client", &collector);

    let collector = Collector::start(Manner::Good);
    let home = Home::new();
    let mut command = home.spantap(["--server", "sample", "--otlp", &collector.endpoint]);
    command.env(FLUSH_BUDGET.0, FLUSH_BUDGET.1);
    assert_eq!(command.args(["--", "/no/such/program"]).output().unwrap().status.code(), Some(127));
    received.add("a server that cannot be started", &collector);

    let collector = Collector::start(Manner::Good);
    let options = ["--otlp", &collector.endpoint, "--otlp-set", "metric_interval=1"];
    let home = Home::new();
    let mut session = home.session(&options);
    session.calls(1);
    let last = |name: &str| collector.exports().last().is_some_and(|export| !points(export, name).is_empty());
    wait_until("the points of the machine", || {
        OF_THE_MACHINE.iter().filter(|name| !name.contains(".check.")).all(|name| last(name))
    });
    session.end();
    received.add("the sample server", &collector);

    for (title, server) in
        [("a check", [SPANTAP, "demo", "--serve"].as_slice()), ("a check that fails", &["/no/such/program"])]
    {
        let collector = Collector::start(Manner::Good);
        let options = ["check", "--every", "1ms", "--count", "2", "--timeout", "60s", "--server", "web"];
        let home = Home::new();
        let mut command = home.spantap(options);
        command.args(["--otlp", &collector.endpoint, "--"]).args(server).output().unwrap();
        received.add(title, &collector);
    }
    hold("otlp-metrics.txt", &received.text());
}
