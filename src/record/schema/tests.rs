use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::observe::canonical::{Algorithm, Hash};
use crate::observe::event::*;
use crate::observe::lint::LintRule;
use crate::observe::mcp::Method;
use crate::observe::redact::{Field, Redacted, RedactionCounts, Redactor};
use crate::observe::tool_definition::{DefinitionPart, ToolChangeKind};
use crate::observe::traceparent::{SpanId, TraceFlags, TraceId};
use crate::record::timestamp::Timestamp;
use crate::record::{ClockAnchor, Dropped, Identity};
use crate::relay::chunk::{Moment, Stream};

fn text(text: &str) -> Redacted {
    Redactor::default().redact(Field::Name, text.as_bytes())
}

fn hash() -> Hash {
    Hash { algorithm: Algorithm::HmacSha256, raw: false, digest: [0xab; 32] }
}

/// Samples of events that have all optional parts or no optional part.
#[derive(Clone, Copy, PartialEq)]
enum Filled {
    Fully,
    Barely,
}

impl Filled {
    fn some<T>(self, value: T) -> Option<T> {
        (self == Filled::Fully).then_some(value)
    }

    fn counts(self) -> RedactionCounts {
        let mut counts = RedactionCounts::default();
        if self == Filled::Fully {
            Redactor::default().redact_counted(Field::Message, b"a@example.org b@example.org", &mut counts);
        }
        counts
    }

    fn span(self) -> Span {
        Span {
            trace_id: TraceId::new([1; 16]).unwrap(),
            span_id: SpanId::new([2; 8]).unwrap(),
            parent_span_id: self.some(SpanId::new([3; 8]).unwrap()),
            linked: self.some((TraceId::new([4; 16]).unwrap(), SpanId::new([5; 8]).unwrap())),
            trace_state: self.some(text("vendor=1")),
            flags: TraceFlags::new_trace(true),
        }
    }

    fn operation(self, method: &str, target: Option<CallTarget>) -> EventKind {
        let facts = CallFacts {
            request_id: text("7"),
            direction: Direction::ClientToServer,
            method: Method::new(method.as_bytes()),
            method_name: text(method),
            protocol_version: self.some(text("2025-11-25")),
            jsonrpc_version: self.some(text("1.0")),
            args_hash: self.some(hash()),
            args_size: self.some(8),
            request_size: 100,
            repeat_count: self.some(6).filter(|_| target.is_none() || method == "tools/call"),
            thrashing: self == Filled::Fully,
            alarming_repeats: 1,
            call_id: self.some(text("toolu_1")),
            model: self.some(text("a-model")),
            continues: self.some(Box::new(Round {
                seq: 3,
                trace_id: TraceId::new([9; 16]).unwrap(),
                span_id: SpanId::new([8; 8]).unwrap(),
            })),
            task_id_hash: self.some(Box::new(hash())),
            span: self.span(),
            target,
        };
        let is_call = method == "tools/call";
        let task_result_seen = self.some(true).filter(|_| is_call);
        let answer = CallAnswer { task_result_seen, task_id_hash: self.some(hash()), ..self.answer() };
        let timing = CallTiming {
            started: Moment(1_000_000_000),
            ended: Moment(1_084_120_999),
            pending_at: self.some(Moment(1_030_000_000)),
            progress: self.some(CallProgress {
                count: 3,
                first: Moment(1_001_000_000),
                last: Moment(1_002_000_000),
            }),
            user_wait: self.some(Duration::from_millis(5)).unwrap_or_default(),
            task_handle: self.some(Moment(1_010_000_000)).filter(|_| method == "tools/call"),
        };
        EventKind::Operation(Box::new(Operation {
            facts,
            answer,
            timing,
            count: self.some(3).unwrap_or(1),
            redactions: self.counts(),
        }))
    }

    fn answer(self) -> CallAnswer {
        CallAnswer {
            status: Status::Error,
            error_type: self.some(ErrorType::Code(-32602)),
            error_code: self.some(-32602),
            error_message: self.some(text("no such file")),
            size: self.some(9),
            over_limit: self.some(2),
            result_hash: self.some(hash()),
            text_hash: self.some(hash()),
            task_id_hash: None,
            cancelled_at: self.some(Moment(1_050_000_000)),
            answer_id: self.some(text("1.0")),
            task_result_seen: self.some(true),
            truncated: self == Filled::Fully,
        }
    }

    fn pending(self, target: CallTarget) -> Box<PendingCall> {
        Box::new(PendingCall {
            request_id: text("7"),
            direction: Direction::ServerToClient,
            method: text("tools/call"),
            target: self.some(target),
            started: Moment(1),
            open_for: Duration::from_secs(30),
            in_flight: 1,
            span: self.span(),
        })
    }

    fn kinds(self) -> Vec<EventKind> {
        let targets = [
            CallTarget::Tool(text("read_file")),
            CallTarget::Prompt(text("summary")),
            CallTarget::Resource(text("file:///x")),
        ];
        let mut kinds = vec![
            EventKind::SessionStarted(Box::new(SessionStarted {
                pid: 1,
                child_pid: self.some(2),
                host_pid: self.some(3),
                command: vec![text("npx")],
                environment: vec![text("PATH")],
                session_source: SessionSource::Derived,
                cwd: self.some(text("~/garden")),
                origin: self.some(text("claude-code/user")),
                // The connection span is linked to nothing.
                span: Span { linked: None, ..self.span() },
                hash_key_id: self.some([0, 1, 2, 3]),
                spawned: Moment(0),
                stderr_is_stdout: self.some(()).is_some(),
                begins_session: self.some(()).is_some(),
            })),
            EventKind::PeerIdentified(Box::new(PeerIdentified {
                client_name: self.some(text("claude-code")),
                client_version: self.some(text("2.1.0")),
                server_name: self.some(text("fs")),
                server_version: self.some(text("1")),
                protocol_version: self.some(text("2025-11-25")),
            })),
            self.operation("tools/call", self.some(targets[0].clone())),
            EventKind::AgentThrashing(Box::new(Thrashing {
                request_id: text("7"),
                tool: text("read_file"),
                args_hash: hash(),
                count: 6,
                no_progress: false,
                is_alarm: true,
                cycle_length: self.some(2),
                span: self.span(),
            })),
            EventKind::TaskEnded(Box::new(TaskEnded {
                id: hash(),
                answer: self.answer(),
                redactions: self.counts(),
            })),
            EventKind::ToolsListed(Box::new(ToolsListed {
                tools: vec![ListedTool {
                    name: text("a"),
                    definition_size: 90,
                    description_size: 20,
                    schema_size: 50,
                    definition_hash: 0xab,
                }],
                total: self.some(4).unwrap_or(1),
                page: self.some(2).unwrap_or(1),
                is_complete: true,
                definition_size: 360,
                result_size: 400,
                is_recorded: true,
                count: self.some(2).unwrap_or(1),
            })),
            EventKind::ToolsChanged(ToolsChanged {
                changes: vec![ChangedTool {
                    tool: text("a"),
                    kind: ToolChangeKind::Changed,
                    parts: DefinitionPart::ALL.to_vec(),
                }],
                unlisted: self.some(3).unwrap_or_default(),
                definitions_hash: hash(),
                count: self.some(2).unwrap_or(1),
            }),
            EventKind::ToolsLinted(Box::new(ToolsLinted {
                tools: vec![LintedTool {
                    name: text("a"),
                    rules: vec![LintRule::ToolName],
                    definition_hash: 0xab,
                }],
                unlisted: self.some(3).unwrap_or_default(),
            })),
            EventKind::Malformed(Malformed {
                stream: Stream::Stdout,
                count: 1,
                size: 5,
                reason: MalformedReason::NotJson,
            }),
            EventKind::Unmatched(Unmatched {
                request_id: self.some(text("9")),
                direction: Direction::ServerToClient,
                what: UnmatchedKind::Response,
                error_code: self.some(-32601),
                count: 1,
            }),
            EventKind::Gap(Lost {
                place: LossPlace::Tap,
                stream: self.some(Stream::Stdin),
                bytes: self.some(10).unwrap_or_default(),
                frames: self.some(1).unwrap_or_default(),
                records: self.some(1).unwrap_or_default(),
                reason: "overload",
            }),
        ];
        for target in targets {
            kinds.push(self.operation("resources/read", self.some(target.clone())).without_tool());
            kinds.push(EventKind::CallPending(self.pending(target.clone())));
            kinds.push(EventKind::ServerUnresponsive(self.pending(target)));
        }
        kinds.extend(self.debug_and_last_kinds());
        kinds
    }

    fn debug_and_last_kinds(self) -> [EventKind; 6] {
        [
            EventKind::ToolResult(Box::new(ToolResult {
                request_id: text("7"),
                tool: text("read_file"),
                summary: text("ok"),
                result_hash: self.some(hash()),
                redactions: self.counts(),
            })),
            EventKind::Notification(Box::new(Notification {
                direction: Direction::ServerToClient,
                method: text("notifications/message"),
                text: self.some(text("hello")),
                size: 12,
                redactions: self.counts(),
            })),
            EventKind::ServerStderr(ServerStderr { line: text("boom"), size: 4, redactions: self.counts() }),
            EventKind::DebugStarted(DebugStarted {
                until: Moment(9_000_000_000),
                bodies: BodiesState::StrictMode,
            }),
            EventKind::DebugEnded,
            EventKind::SessionEnded(Box::new(SessionEnded {
                reason: EndReason::ServerDied,
                exit_code: self.some(1),
                signal: self.some(9),
                orphan_killed: self.some(true).is_some(),
                totals: Totals::default(),
                start_error: self.some(text("`x` was not found")),
                stderr_tail: self.some(text("panic")).into_iter().collect(),
            })),
        ]
    }
}

impl EventKind {
    /// Removes repetitions and the tool, which only tool calls have.
    fn without_tool(mut self) -> EventKind {
        if let EventKind::Operation(operation) = &mut self {
            operation.facts.repeat_count = None;
            operation.facts.thrashing = false;
            operation.facts.target.take_if(|target| matches!(target, CallTarget::Tool(_)));
        }
        self
    }
}

fn records(filled: Filled) -> Vec<Value> {
    let identity = Identity {
        connection_id: "01a2027b-0000-7000-8000-0123456789ab".to_owned(),
        session_id: "s".to_owned(),
        server_name: "fs".to_owned(),
        user_id: filled.some("dana".to_owned()),
    };
    let anchor = ClockAnchor { moment: Moment(0), wall: Timestamp(1_800_000_000_000_000) };
    let dropped = filled.some(Dropped { place: LossPlace::Log, reason: "no_space", count: 2 });
    let dropped: Vec<Dropped> = dropped.into_iter().collect();
    let event = |(seq, kind)| Event {
        seq,
        at: Moment(1_084_120_999),
        conversation_id: filled.some(text("c")),
        turn_id: filled.some(text("t")),
        kind,
    };
    let record = |event: Event| {
        let record = Record::new(&event, &identity, &anchor, filled.some("claude-code"), &dropped).unwrap();
        serde_json::to_value(record).unwrap()
    };
    (0..).zip(filled.kinds()).map(event).map(record).collect()
}

fn fields(record: &Value) -> BTreeSet<&str> {
    record.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_record_has_the_fields_of_its_event_and_no_others() {
    let (full, bare) = (records(Filled::Fully), records(Filled::Barely));
    for entry in EVENTS {
        let of = |records: &'static [Value]| {
            records.iter().filter(|record| record["event"] == entry.event.as_str())
        };
        let (full, bare) = (full.clone().leak(), bare.clone().leak());
        let most: BTreeSet<&str> = of(full).flat_map(fields).collect();
        let least = of(bare).map(fields).reduce(|a, b| &a & &b).expect("a sample of every event");
        let required: BTreeSet<&str> = [ALWAYS, entry.required].into_iter().flat_map(names).collect();
        let known: BTreeSet<&str> = [WHERE_KNOWN, entry.optional].into_iter().flat_map(names).collect();
        assert_eq!(least, required, "{} at least", entry.event.as_str());
        assert_eq!(most, &required | &known, "{} at most", entry.event.as_str());
    }
}

#[test]
fn every_event_is_in_the_table_once() {
    let names: BTreeSet<&str> = EVENTS.iter().map(|entry| entry.event.as_str()).collect();
    assert_eq!(names.len(), EVENTS.len());
    let schema = schema();
    let of_the_type = schema["$defs"]["EventName"].to_string();
    for record in records(Filled::Fully) {
        let name = record["event"].as_str().unwrap();
        assert!(names.contains(name), "{name}");
        assert!(of_the_type.contains(&format!("\"{name}\"")), "{name} in {of_the_type}");
    }
    assert!(!of_the_type.contains("unknown"), "{of_the_type}");
}

#[test]
fn the_schema_takes_what_is_written() {
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    for record in records(Filled::Fully).into_iter().chain(records(Filled::Barely)) {
        let errors: Vec<String> = validator.iter_errors(&record).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}\n{record}");
    }
}

#[test]
fn the_schema_refuses_what_is_not_the_contract() {
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    let call = records(Filled::Fully).into_iter().find(|record| record["event"] == "mcp_tool_call").unwrap();
    for (field, value) in [
        ("schema", json!("spantap/2")),
        ("timestamp", json!("2026-11-24T09:14:03Z")),
        ("level", json!("warning")),
        ("event", json!("unknown")),
        ("seq", json!(-1)),
        ("seq", json!(null)),
        ("status", json!("failed")),
        ("direction", json!("in")),
        ("trace_id", json!("00")),
        ("args_hash", json!("sha256:12")),
        ("duration_ms", json!("84.12")),
        ("error_message", json!(null)),
        ("arguments", json!({})),
        // A field of another event.
        ("exit_code", json!(0)),
    ] {
        let mut record = call.clone();
        record[field] = value;
        assert!(!validator.is_valid(&record), "{field}: {}", record[field]);
    }
    for field in ["schema", "seq", "request_id", "duration_ms", "span_id"] {
        let mut record = call.clone();
        record.as_object_mut().unwrap().remove(field);
        assert!(!validator.is_valid(&record), "without {field}");
    }
}

#[test]
fn durations_have_three_decimals_and_token_estimates_are_rounded_up() {
    let call = records(Filled::Fully).into_iter().find(|record| record["event"] == "mcp_tool_call").unwrap();
    assert_eq!(call["duration_ms"].to_string(), "84.12");
    assert_eq!(call["started_at"], "2027-01-15T08:00:01.000000Z");
    assert_eq!(call["ended_at"], "2027-01-15T08:00:01.084120Z");
    assert_eq!(call["timestamp"], call["ended_at"]);
    assert_eq!([&call["args_tokens_est"], &call["result_tokens_est"]], [2, 3]);
    assert_eq!(call["level"], "warn");
}

#[test]
fn every_field_of_an_agent_s_record_belongs_to_an_event_and_the_schema_takes_it() {
    use crate::record::agent::AgentRecord;
    use crate::record::words::{CostSource, Decider, ServerSpanKind, ToolDecision};
    let text = || Some("a".into());
    let hex = |digits: usize| Some("0123456789abcdef".repeat(2)[..digits].to_owned().into());
    let mut full = AgentRecord {
        agent_name: "codex".into(),
        fact_id: hex(16),
        amends: Some(true),
        agent_version: text(),
        host_pid: Some(1),
        conversation_id: text(),
        turn_id: text(),
        trace_id: hex(32),
        span_id: hex(16),
        parent_span_id: hex(16),
        started_at: Some(Timestamp(0)),
        ended_at: Some(Timestamp(1)),
        duration_ms: Some(crate::record::Millis(1.5)),
        status: Some(Status::Error),
        error_type: text(),
        provider: text(),
        operation: text(),
        model: text(),
        input_tokens: Some(1),
        output_tokens: Some(2),
        cached_tokens: Some(3),
        cache_write_tokens: Some(4),
        cost_usd: Some(0.25),
        cost_source: Some(CostSource::Agent),
        first_token_ms: Some(crate::record::Millis(2.5)),
        attempt: Some(1),
        call_ids: Some(vec!["call_1".into()]),
        call_id: text(),
        tool_name: text(),
        tool_server: text(),
        decision: Some(ToolDecision::Refused),
        decided_by: Some(Decider::User),
        person_wait_ms: Some(crate::record::Millis(3.5)),
        span_name: text(),
        span_kind: Some(ServerSpanKind::Internal),
        ..AgentRecord::default()
    };
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    let mut used: BTreeSet<String> = BTreeSet::new();
    for entry in AGENT_EVENTS {
        full.event = entry.event;
        full.finish("01a2027b-0000-7000-8000-0123456789ab", 7);
        assert!(entry.event.is_of_agent());
        let mut record = serde_json::to_value(&full).unwrap();
        assert!(!validator.is_valid(&record), "fields of all events");
        let lists = [AGENT_ALWAYS, AGENT_WHERE_KNOWN, entry.required, entry.optional];
        let known: BTreeSet<&str> = lists.into_iter().flat_map(names).collect();
        let fields = record.as_object_mut().unwrap();
        fields.retain(|name, _| known.contains(name.as_str()));
        assert_eq!(fields.len(), known.len(), "{known:?}");
        used.extend(fields.keys().cloned());
        let errors: Vec<String> = validator.iter_errors(&record).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}\n{record}");
        let line = record.to_string();
        assert_eq!(serde_json::from_str::<AgentRecord<'_>>(&line).unwrap().seq, 7);
        record["server_name"] = json!("fs");
        assert!(!validator.is_valid(&record));
        record.as_object_mut().unwrap().remove("server_name");
        record.as_object_mut().unwrap().remove("agent_name");
        assert!(!validator.is_valid(&record));
    }
    let all = serde_json::to_value(&full).unwrap();
    assert_eq!(used, fields(&all).into_iter().map(str::to_owned).collect());
    assert_eq!(all["session_id"], "a", "the conversation in place of the session");
}
