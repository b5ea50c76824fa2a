//! A session that is played to the observer: the bytes of each stream, in the given order and at the given
//! times.
//!
//! Ids, key and clock are fixed, so that the same session always gives the same records.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use spantap::observe::canonical::HashKey;
use spantap::observe::event::{EndReason, Event, EventKind, SessionSource, SessionStarted, Sink, Span};
use spantap::observe::redact::{Field, Redactor};
use spantap::observe::traceparent::{SpanId, TraceFlags, TraceId};
use spantap::observe::{Debug, Denials, Observer, ObserverSettings, ServerEnd};
use spantap::record::Record;
use spantap::record::timestamp::Timestamp;
use spantap::record::{ClockAnchor, Identity};
use spantap::relay::chunk::{Chunk, Gap, Moment, Stream};

pub const CLIENT: Stream = Stream::Stdin;
pub const SERVER: Stream = Stream::Stdout;

/// An observer with its input.
pub struct Player {
    observer: Observer,
    records: Records,
    now: Moment,
    offsets: [u64; 3],
}

struct Records {
    identity: Identity,
    anchor: ClockAnchor,
    host_name: Option<String>,
    lines: Vec<String>,
}

impl Sink for Records {
    fn record(&mut self, event: &Event) {
        if let EventKind::PeerIdentified(peers) = &event.kind
            && let Some(name) = &peers.client_name
        {
            self.host_name = Some(name.as_str().to_owned());
        }
        let record = Record::new(event, &self.identity, &self.anchor, self.host_name.as_deref(), &[]);
        self.lines.extend(record.map(|record| serde_json::to_string(&record).unwrap()));
    }
}

pub fn settings() -> ObserverSettings {
    ObserverSettings {
        slow: Duration::from_secs(30),
        call_timeout: None,
        thrash_threshold: 5,
        thrash_tools: Vec::new(),
        result_limit: None,
        debug: Debug::Off,
        hash_key: HashKey::Keyed([7; 32]),
        connection: Span {
            trace_id: TraceId::new([1; 16]).unwrap(),
            span_id: SpanId::new([2; 8]).unwrap(),
            parent_span_id: None,
            linked: None,
            trace_state: None,
            flags: TraceFlags::new_trace(true),
        },
        denials: Denials::standard(),
        conversation_id: None,
    }
}

impl Player {
    pub fn new() -> Player {
        Player::with(settings())
    }

    pub fn with(settings: ObserverSettings) -> Player {
        let identity = Identity {
            connection_id: "0190c0de-0000-7000-8000-000000000001".to_owned(),
            session_id: "run-1".to_owned(),
            server_name: "sample".to_owned(),
            user_id: None,
        };
        let wall = Timestamp(1_790_000_000_000_000);
        let anchor = ClockAnchor { moment: Moment(0), wall };
        let mut records = Records { identity, anchor, host_name: None, lines: Vec::new() };
        let span = settings.connection.clone();
        let hash_key_id = settings.hash_key.id();
        let mut observer = Observer::new(settings, Redactor::default(), [3; 32]);
        let mut redactor = Redactor::default();
        let started = SessionStarted {
            pid: 1,
            child_pid: Some(2),
            host_pid: None,
            command: vec![redactor.redact(Field::Name, b"server")],
            environment: vec![redactor.redact(Field::Name, b"PATH")],
            session_source: SessionSource::Flag,
            cwd: None,
            origin: None,
            span,
            hash_key_id,
            spawned: Moment(0),
            stderr_is_stdout: false,
            begins_session: false,
        };
        observer.start(started, Moment(0), &mut records);
        Player { observer, records, now: Moment(0), offsets: [0; 3] }
    }

    /// Reads these bytes after one millisecond.
    pub fn send(&mut self, stream: Stream, bytes: impl AsRef<[u8]>) {
        self.now = self.now.after(Duration::from_millis(1));
        self.send_now(stream, bytes);
    }

    /// Reads these bytes at the same instant as the last ones.
    pub fn send_now(&mut self, stream: Stream, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let offset = self.passes(stream, bytes);
        self.observer
            .chunk(Chunk { stream, offset, read_at: self.now, bytes, mark: None }, &mut self.records);
    }

    /// Relays bytes without observing them.
    pub fn lose(&mut self, stream: Stream, bytes: impl AsRef<[u8]>) {
        self.now = self.now.after(Duration::from_millis(1));
        let bytes = bytes.as_ref();
        let gap = Gap {
            stream,
            offset: self.passes(stream, bytes),
            bytes: bytes.len() as u64,
            newlines: bytes.iter().filter(|byte| **byte == b'\n').count() as u64,
            ends_line: bytes.last() == Some(&b'\n'),
            read_at: self.now,
        };
        self.observer.gap(gap, &mut self.records);
    }

    fn passes(&mut self, stream: Stream, bytes: &[u8]) -> u64 {
        let offset = &mut self.offsets[stream as usize];
        let before = *offset;
        *offset += bytes.len() as u64;
        before
    }

    /// Lets time pass, and calls the observer whenever it asked for it.
    pub fn wait(&mut self, duration: Duration) {
        let until = self.now.after(duration);
        let mut last = None;
        while let Some(deadline) = self.observer.next_deadline().filter(|deadline| *deadline <= until) {
            assert_ne!(last, Some(deadline), "a deadline that was kept is not reported again");
            last = Some(deadline);
            self.observer.tick(deadline, &mut self.records);
        }
        self.now = until;
        self.observer.tick(until, &mut self.records);
    }

    /// Lets time pass without calling the observer, as when the machine sleeps.
    pub fn sleep(&mut self, duration: Duration) {
        self.now = self.now.after(duration);
    }

    /// Returns the time of the last read or wait.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// Restarts the observer as after a caught panic.
    pub fn recover(&mut self) {
        self.observer.recover(&mut self.records);
    }

    pub fn back_to(&mut self, moment: Moment) {
        self.now = moment;
    }

    /// Ends the server with exit code 0, as it was asked to.
    pub fn end(self) -> Vec<Value> {
        self.end_with(EndReason::ServerExited, Some(0), None)
    }

    pub fn end_with(mut self, reason: EndReason, exit_code: Option<i32>, signal: Option<i32>) -> Vec<Value> {
        let at = self.now.after(Duration::from_millis(1));
        let end = ServerEnd {
            at,
            reason,
            exit_code,
            signal,
            orphan_killed: false,
            catch_ups: 0,
            observer_panics: 0,
        };
        self.observer.end(end, &mut self.records);
        self.records.lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub fn is_operation(record: &Value) -> bool {
    record["event"] == "mcp_tool_call" || record["event"] == "mcp_request"
}

/// Checks what holds for the records of any session.
#[track_caller]
pub fn check_books(records: &[Value]) {
    for (number, record) in records.iter().enumerate() {
        assert_eq!(record["seq"], number, "no number is missing");
    }
    let (last, _) = records.split_last().unwrap();
    assert_eq!(last["event"], "session_ended");
    let totals = &last["totals"];
    let count = |is: &dyn Fn(&Value) -> bool| records.iter().filter(|record| is(record)).count() as u64;
    let is_call =
        |record: &Value| record["event"] == "mcp_tool_call" && record["direction"] == "client_to_server";
    let status = |record: &Value, words: &[&str]| {
        is_operation(record) && words.iter().any(|word| record["status"] == *word)
    };
    let sum = |event: &str| {
        let counts = records.iter().filter(|record| record["event"] == event);
        counts.map(|record| record["count"].as_u64().unwrap()).sum::<u64>()
    };
    // The failure of a task counts at its call.
    let is_of_task = |record: &Value| {
        let error = record["error_type"].as_str().unwrap_or_default();
        let is_code = error.parse::<i64>().is_ok() && !["-32601", "-32602"].contains(&error);
        record["method"] == "tasks/result"
            && record.get("task_id_hash").is_some()
            && (is_code || ["tool_error", "invalid_response"].contains(&error))
    };
    let is_to_server = |record: &Value| record["direction"] == "client_to_server" && !is_of_task(record);
    let calls = records.iter().filter(|record| record["event"] == "mcp_tool_call");
    let named = calls.filter(|record| record.get("turn_id").is_some());
    let turns: BTreeSet<String> =
        named.map(|record| format!("{} {}", record["conversation_id"], record["turn_id"])).collect();
    let lost = records.iter().filter(|record| record["event"] == "gap");
    let others = records.iter().filter(|record| is_operation(record) && !is_call(record));
    let other_requests = others.map(|record| record["count"].as_u64().unwrap_or(1)).sum::<u64>();
    let counted = [
        ("tool_calls", count(&is_call)),
        ("other_requests", other_requests),
        ("errors", count(&|record| is_to_server(record) && status(record, &["error", "timeout"]))),
        ("denied", count(&|record| is_to_server(record) && status(record, &["denied"]))),
        ("turns", turns.len() as u64),
        ("malformed", sum("malformed")),
        ("unmatched", sum("unmatched")),
        ("bytes_lost", lost.map(|gap| gap["bytes_lost"].as_u64().unwrap_or(0)).sum::<u64>()),
    ];
    for (name, count) in counted {
        assert_eq!(totals[name], count, "{name}");
    }
    for record in records.iter().filter(|record| is_operation(record)) {
        assert!(record["duration_ms"].as_f64().unwrap() >= 0.0);
        assert!(record["ended_at"].as_str() >= record["started_at"].as_str());
        assert_eq!(record["status"] == "ok", record.get("error_type").is_none(), "{record}");
    }
}
