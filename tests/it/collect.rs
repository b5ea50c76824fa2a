//! `spantap collect`: what it takes, what it refuses, what it passes on, and how it ends.

mod answers;
mod configured;
mod counted;
mod hostile;
mod killed;
mod metrics;
mod passed_on;
mod prices;
mod runs;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::*;

/// A running collector on a port of its own.
struct Collecting {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

/// An answer over HTTP.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn has(&self, header: &str) -> bool {
        self.head.to_lowercase().lines().any(|line| line == header)
    }
}

impl Collecting {
    fn start(home: &Home, options: &[&str]) -> Collecting {
        let words = ["collect", "--listen", "127.0.0.1:0"].iter().chain(options).copied();
        Collecting::with(home.spantap(words))
    }

    fn with(mut command: Command) -> Collecting {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").and_then(|rest| rest.split([',', ' ']).next());
        let address = address.and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("{line:?}: {:?}", child.wait_with_output_of_stderr()));
        Collecting { child, stdout, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sends a request with these lines of its head, and reads the answer.
    fn request(&self, first: &str, headers: &[&str], body: &[u8]) -> Answer {
        let mut head = format!("{first} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        if !headers.iter().any(|header| header.starts_with("host:")) {
            head += "host: localhost\r\n";
        }
        for header in headers {
            head += &format!("{header}\r\n");
        }
        let mut stream = self.connect();
        // The collector may refuse a request before it has read the body.
        let _ = stream.write_all(&[head.as_bytes(), b"\r\n", body].concat());
        read_answer(&mut stream)
    }

    fn post(&self, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        self.request(&format!("POST {path}"), headers, body)
    }

    /// Sends spans in protobuf.
    fn send(&self, request: &ExportTraceServiceRequest) -> Answer {
        self.post("/v1/traces", &[PROTOBUF], &request.encode_to_vec())
    }

    /// Sends what a real agent sent.
    fn replay(&self, agent: &str) {
        for (is_traces, body) in crate::agents::bodies(agent) {
            let path = if is_traces { "/v1/traces" } else { "/v1/logs" };
            assert_eq!(self.post(path, &[JSON], body.as_bytes()).status, 200);
        }
    }

    /// Ends the collector in order. Returns what it printed after the first line, and its messages.
    fn end(mut self) -> (String, String) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let mut printed = String::new();
        self.stdout.read_to_string(&mut printed).unwrap();
        let said = self.child.wait_with_output_of_stderr();
        assert!(self.child.wait().unwrap().success(), "{printed}{said}");
        (printed, said)
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

trait ReadStderr {
    fn wait_with_output_of_stderr(&mut self) -> String;
}

impl ReadStderr for Child {
    fn wait_with_output_of_stderr(&mut self) -> String {
        let mut text = String::new();
        let _ = self.stderr.take().unwrap().read_to_string(&mut text);
        text
    }
}

const PROTOBUF: &str = "content-type: application/x-protobuf";
const JSON: &str = "content-type: application/json";

fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A connection that is reset after the answer has the answer all the same.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let end = text.find("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = text[9..12].parse().unwrap();
    Answer { status, head: text[..end].to_owned(), body: bytes[end + 4..].to_vec() }
}

/// Returns a request with `count` spans of the scope `scope`.
fn spans(scope: &str, count: usize) -> ExportTraceServiceRequest {
    let span = |at: usize| Span {
        name: format!("span {at}"),
        trace_id: vec![1; 16],
        span_id: (at as u64 + 1).to_be_bytes().to_vec(),
        start_time_unix_nano: 1_764_000_000_000_000_000,
        end_time_unix_nano: 1_764_000_000_100_000_000,
        ..Span::default()
    };
    let scope = InstrumentationScope { name: scope.to_owned(), ..InstrumentationScope::default() };
    let spans = (0..count).map(span).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }],
    }
}

/// Returns the state file; null before it is there.
fn state(home: &Home) -> Value {
    let path = home.path().join(".local/state/spantap/collect.json");
    std::fs::read(path).map_or(Value::Null, |state| serde_json::from_slice(&state).unwrap())
}
