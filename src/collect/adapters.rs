//! Reads requests of agents into facts. Each agent has a table of names; one interpreter reads them all.
//!
//! An attribute that no table names is never read. So prompts, arguments, answers and instructions are dropped.

use std::borrow::Cow;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use crate::collect::fact::{AgentFact, FactHash, LOG, SPAN};
use crate::observe::redact::{Field, Redactor};
use crate::record::EventName;
use crate::record::agent::AgentRecord;
use crate::record::timestamp::Timestamp;
use crate::record::words::{Status, ToolDecision};

mod bounded;
mod claude_code;
mod codex;
mod fields;
mod gemini_cli;
mod genai;
mod opencode;
mod resource;
mod same_call;
mod server;
mod services;
mod table;

use bounded::BoundedMap;
use fields::FieldReader;
use resource::SentResource;
use same_call::{SAME_CALL, SameCalls, SpanCall};
use server::ServerSpans;
use services::Services;
use table::{AgentTable, EXCEPTION, KeyPart, Row};

/// The agents with a table of their own.
const AGENTS: [&AgentTable; 4] = [&claude_code::TABLE, &codex::TABLE, &gemini_cli::TABLE, &opencode::TABLE];

/// Most spans whose parent has not come, and most traces that are remembered.
const REMEMBERED: usize = 4096;
/// Longest text that is an id which the parts of a fact have in common. The id of a resource is read for each item.
const LONGEST_ID: usize = 1 << 10;

/// The tables of all agents, and what they remember between two requests.
pub struct Adapters {
    redactor: Redactor,
    /// Fields for the fact of a span that has not come yet, by its id.
    of_parents: BoundedMap<[u8; 8], AgentRecord<'static>>,
    /// Session of each trace.
    sessions: BoundedMap<[u8; 16], Cow<'static, str>>,
    services: Services,
    servers: ServerSpans,
    same_calls: SameCalls,
    unread: UnreadItems,
}

/// Numbers of spans and log records of which no record is made, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct UnreadItems {
    /// Spans that are parts of the fact of another span of the same call.
    pub(super) joined_spans: u64,
    /// Items of known services that no row reads or that add to a fact which they do not name, and first spans of a
    /// trace of a service that is not an agent.
    pub(super) spans: u64,
    pub(super) logs: u64,
    /// Log records of services that are not known as agents.
    pub(super) unknown_logs: u64,
}

/// One span or log record, as far as tables read it.
struct SentItem<'r> {
    resource: &'r SentResource<'r>,
    attributes: &'r [KeyValue],
    name: &'r str,
    trace: &'r [u8],
    span: &'r [u8],
    parent: &'r [u8],
    /// Begin and end in nanoseconds since 1970. A log record has no begin.
    started: Option<u64>,
    ended: u64,
    status: Option<Status>,
    status_message: &'r str,
    /// Events of the span, such as its exception.
    events: &'r [Event],
    /// A number of the item in its request, which makes an own id of items without one.
    index: usize,
}

impl Adapters {
    pub fn new(redactor: Redactor) -> Adapters {
        Adapters {
            redactor,
            of_parents: BoundedMap::new(REMEMBERED),
            sessions: BoundedMap::new(REMEMBERED),
            services: Services::default(),
            servers: ServerSpans::default(),
            same_calls: SameCalls::default(),
            unread: UnreadItems::default(),
        }
    }

    /// Remembers a span of spantap itself, so that spans of servers in its trace are recorded.
    pub fn know_own(&mut self, span: &Span) {
        self.servers.know(&span.trace_id);
        self.services.know_own(span);
    }

    /// Adds the facts that the spans of a piece of a request report.
    pub fn read_traces(&mut self, request: &ExportTraceServiceRequest, facts: &mut Vec<AgentFact>) {
        for sent in &request.resource_spans {
            let resource = SentResource::new(sent.resource.as_ref());
            let spans = || sent.scope_spans.iter().flat_map(|scope| &scope.spans);
            let table = self.services.of_spans(resource.service(), spans());
            for (index, span) in spans().enumerate() {
                let item = SentItem::of_span(span, &resource, index);
                let is_read = match table.filter(|table| table.reads(span)) {
                    Some(table) => self.read(table, table.spans, &item, facts),
                    None => self.servers.take(&item, span, &mut self.redactor, facts),
                };
                self.unread.spans += u64::from(!is_read);
            }
        }
    }

    /// Adds the facts that the log records of a piece of a request report.
    pub fn read_logs(&mut self, request: &ExportLogsServiceRequest, facts: &mut Vec<AgentFact>) {
        for sent in &request.resource_logs {
            let resource = SentResource::new(sent.resource.as_ref());
            let logs = || sent.scope_logs.iter().flat_map(|scope| &scope.log_records);
            let Some(table) = self.services.of_names(resource.service(), logs().map(name_of)) else {
                self.unread.unknown_logs += logs().count() as u64;
                continue;
            };
            for (index, log) in logs().enumerate() {
                let item = SentItem::of_log(log, &resource, index);
                self.unread.logs += u64::from(!self.read(table, table.events, &item, facts));
            }
        }
    }

    /// Ends a request, of which all pieces were read. Adds the spans of servers whose trace it made known.
    pub fn end_request(&mut self, facts: &mut Vec<AgentFact>) {
        self.servers.end_request(facts);
    }

    /// Returns the number of spans of servers that wait until their trace is known.
    pub(super) fn waiting_spans(&self) -> u64 {
        self.servers.waiting() as u64
    }

    /// Returns how many spans of servers were dropped since the last call, because their trace did not become known.
    pub fn take_stray(&mut self, is_end: bool) -> u64 {
        self.servers.take_stray(is_end)
    }

    /// Returns the numbers of items since the last call of which no record is made.
    pub(super) fn take_unread(&mut self) -> UnreadItems {
        let joined_spans = self.same_calls.take_joined();
        UnreadItems { joined_spans, ..std::mem::take(&mut self.unread) }
    }

    /// Adds the facts that the rows make of an item. Returns false if they make nothing of it.
    fn read(
        &mut self,
        table: &AgentTable,
        rows: &[Row],
        item: &SentItem<'_>,
        facts: &mut Vec<AgentFact>,
    ) -> bool {
        let can_contain = table.agent.is_empty() && item.started.is_some();
        let mut is_read = false;
        for row in rows.iter().filter(|row| row.takes(item)) {
            let mut record = AgentRecord { event: row.event, ..AgentRecord::default() };
            record.agent_name = match table.agent {
                "" => item.resource.redacted_service(&mut self.redactor),
                agent => agent.into(),
            };
            let mut fields = FieldReader { redactor: &mut self.redactor, item, record: &mut record };
            fields.read(row.fields);
            if row.is_of_parent {
                fields.person_wait();
                if let Ok(parent) = item.parent.try_into() {
                    self.of_parents.insert(parent, record);
                }
                is_read = true;
                continue;
            }
            fields.read(table.common);
            fields.times_and_ids(row);
            if row.event == EventName::ModelCall {
                fields.defaults(table);
                fields.add_cache(table);
            }
            if table.trace_is_turn && record.turn_id.is_none() {
                record.turn_id = record.trace_id.clone();
            }
            self.remember(item, &mut record);
            let Some((key, is_by_time)) = row.key(&record, item) else { continue };
            is_read = true;
            let own = (SpanCall::of(row, &record), key);
            let same = can_contain.then(|| self.same_calls.take(item, Some(own)));
            let same = same.and_then(|same| {
                same.limit(&mut record);
                same.key
            });
            facts.push(AgentFact {
                key: same.unwrap_or(key),
                own: item.own(row),
                within: is_by_time.then(|| item.times()),
                part: if same.is_some() { SAME_CALL } else { row.part },
                parts: row.parts_of(&record),
                is_addition: row.is_addition,
                record,
            });
        }
        if can_contain && !is_read {
            self.same_calls.take(item, None);
        }
        is_read
    }

    /// Adds what earlier spans of the trace or children of the span reported.
    fn remember(&mut self, item: &SentItem<'_>, record: &mut AgentRecord<'static>) {
        let span: Result<[u8; 8], _> = item.span.try_into();
        if let Some(of_child) =
            span.ok().filter(|_| item.started.is_some()).and_then(|span| self.of_parents.remove(&span))
        {
            let AgentRecord { decision, decided_by, person_wait_ms, .. } = of_child;
            record.decision = record.decision.or(decision);
            record.decided_by = record.decided_by.or(decided_by);
            record.person_wait_ms = record.person_wait_ms.or(person_wait_ms);
        }
        let Ok(trace) = <[u8; 16]>::try_from(item.trace) else { return };
        self.servers.know(item.trace);
        if !record.session_id.is_empty() {
            self.sessions.insert(trace, record.session_id.clone());
        } else if let Some(session) = self.sessions.get(&trace) {
            record.session_id = session.clone();
        }
    }
}

impl AgentTable {
    /// Returns false if the span is one of a server in the telemetry of an agent that has no table of its own.
    fn reads(&self, span: &Span) -> bool {
        !self.agent.is_empty() || span.kind() != SpanKind::Server
    }
}

impl Row {
    fn takes(&self, item: &SentItem<'_>) -> bool {
        let has = |(name, value): (&str, &str)| {
            let found = value_of(item.attributes, name);
            found.is_some() && (value.is_empty() || text_of(item.attributes, name) == Some(value))
        };
        (self.name.is_empty() || self.name == item.name) && self.only.is_none_or(has)
    }

    /// Returns the parts that make the fact whole: a refused tool has no end.
    fn parts_of(&self, record: &AgentRecord<'_>) -> u8 {
        let is_refused = record.decision == Some(ToolDecision::Refused);
        if is_refused && self.parts & self.part == 0 { self.part | self.parts & SPAN } else { self.parts }
    }

    /// Returns the key of the fact: the first list of ids that is complete, else the item's own id; `None` if it is
    /// then not known to which fact the item adds. Returns true if several facts can have the key.
    fn key(&self, record: &AgentRecord<'_>, item: &SentItem<'_>) -> Option<(FactHash, bool)> {
        let complete = |key: &&[KeyPart]| {
            let texts = key.iter().map(|part| item.key_part(*part)).collect::<Option<Vec<_>>>()?;
            Some((texts, key.iter().any(|part| matches!(part, KeyPart::ByTime))))
        };
        let Some((texts, is_by_time)) = self.keys.iter().find_map(complete) else {
            return (self.part & (SPAN | LOG) != 0).then(|| (item.own(self), false));
        };
        let whose = [record.agent_name.as_bytes(), record.event.as_str().as_bytes()];
        Some((FactHash::of(whose.into_iter().chain(texts.iter().map(|text| &**text))), is_by_time))
    }
}

impl<'r> SentItem<'r> {
    fn of_span(span: &'r Span, resource: &'r SentResource<'r>, index: usize) -> SentItem<'r> {
        let status = span.status.as_ref();
        SentItem {
            resource,
            attributes: &span.attributes,
            name: &span.name,
            trace: &span.trace_id,
            span: &span.span_id,
            parent: &span.parent_span_id,
            started: Some(span.start_time_unix_nano),
            ended: span.end_time_unix_nano,
            status: Some(match status.map(|status| status.code()) {
                Some(StatusCode::Error) => Status::Error,
                _ => Status::Ok,
            }),
            status_message: status.map_or("", |status| &status.message),
            events: &span.events,
            index,
        }
    }

    fn of_log(log: &'r LogRecord, resource: &'r SentResource<'r>, index: usize) -> SentItem<'r> {
        SentItem {
            resource,
            attributes: &log.attributes,
            name: name_of(log),
            trace: &log.trace_id,
            span: &log.span_id,
            parent: &[],
            started: None,
            ended: if log.time_unix_nano > 0 { log.time_unix_nano } else { log.observed_time_unix_nano },
            status: Some(Status::Ok),
            status_message: "",
            events: &[],
            index,
        }
    }

    /// Returns the kind of the error that ended a span.
    fn exception(&self) -> Option<&'r Value> {
        self.events.iter().rev().find_map(|event| value_of(&event.attributes, EXCEPTION))
    }

    fn key_part(&self, part: KeyPart) -> Option<Cow<'r, [u8]>> {
        let known = |bytes: &'r [u8]| (1..=LONGEST_ID).contains(&bytes.len()).then_some(Cow::Borrowed(bytes));
        match part {
            KeyPart::Attribute(name) => {
                match value_of(self.attributes, name).or_else(|| self.resource.value(name))? {
                    Value::StringValue(text) => known(text.as_bytes()),
                    Value::IntValue(number) => Some(Cow::Owned(number.to_string().into_bytes())),
                    Value::DoubleValue(number) => Some(Cow::Owned(number.to_string().into_bytes())),
                    _ => None,
                }
            }
            KeyPart::AnyAttribute(name) => {
                Some(self.key_part(KeyPart::Attribute(name)).unwrap_or(Cow::Borrowed(b"")))
            }
            KeyPart::Trace => known(self.trace),
            KeyPart::Span => known(self.span),
            KeyPart::Parent => known(self.parent),
            KeyPart::Word(word) => Some(Cow::Borrowed(word.as_bytes())),
            KeyPart::ByTime => Some(Cow::Borrowed(b"by time")),
        }
    }

    /// Returns an id of the item itself, so that an item that is sent again is known.
    fn own(&self, row: &Row) -> FactHash {
        let ended = self.ended.to_le_bytes();
        let index = if self.started.is_some() { 0 } else { self.index }.to_le_bytes();
        FactHash::of([self.trace, self.span, row.event.as_str().as_bytes(), &[row.part], &ended, &index])
    }

    fn times(&self) -> (Timestamp, Timestamp) {
        let ended = timestamp(self.ended);
        (self.started.map_or(ended, timestamp), ended)
    }
}

fn timestamp(nanos: u64) -> Timestamp {
    Timestamp(i64::try_from(nanos / 1000).unwrap_or(i64::MAX)).plus_ms(0.0)
}

/// Returns the name of an event. Claude Code writes `api_request` in its attribute, Codex and Gemini CLI the whole name.
fn name_of(log: &LogRecord) -> &str {
    text_of(&log.attributes, "event.name").unwrap_or(&log.event_name)
}

/// Returns the place of the attribute `name`.
fn position_of(attributes: &[KeyValue], name: &str) -> Option<usize> {
    #[cfg(test)]
    tests::COMPARED.set(tests::COMPARED.get() + attributes.len());
    attributes.iter().position(|attribute| attribute.key == name)
}

fn value_of<'r>(attributes: &'r [KeyValue], name: &str) -> Option<&'r Value> {
    attributes[position_of(attributes, name)?].value.as_ref()?.value.as_ref()
}

fn redacted(redactor: &mut Redactor, field: Field, text: &str) -> Cow<'static, str> {
    #[cfg(test)]
    tests::REDACTED.set(tests::REDACTED.get() + 1);
    redactor.redact(field, text.as_bytes()).as_str().to_owned().into()
}

fn text_of<'r>(attributes: &'r [KeyValue], name: &str) -> Option<&'r str> {
    match value_of(attributes, name)? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use opentelemetry_proto::tonic::common::v1::AnyValue;
    use opentelemetry_proto::tonic::logs::v1::{ResourceLogs, ScopeLogs};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};

    thread_local! {
        /// Attributes among which a name was searched, and texts that were redacted.
        pub(super) static COMPARED: Cell<usize> = const { Cell::new(0) };
        pub(super) static REDACTED: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn attribute(key: &str, text: &str) -> KeyValue {
        let value = Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) });
        KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
    }

    /// Returns a span of the trace 7 with these ids, kind and attributes.
    pub(super) fn span(id: u8, parent: u8, kind: SpanKind, attributes: &[(&str, &str)]) -> Span {
        Span {
            trace_id: vec![7; 16],
            span_id: vec![id; 8],
            parent_span_id: vec![parent; 8],
            kind: kind.into(),
            attributes: attributes.iter().map(|(key, text)| attribute(key, text)).collect(),
            ..Span::default()
        }
    }

    /// Returns the events and numbers of the spans that a request of a service makes facts of, in the order of the spans.
    fn facts_of(adapters: &mut Adapters, service: &str, spans: Vec<Span>) -> Vec<(EventName, String)> {
        let attributes = vec![attribute("service.name", service)];
        let resource = Some(Resource { attributes, ..Resource::default() });
        let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
        let sent = ResourceSpans { resource, scope_spans, ..ResourceSpans::default() };
        let mut facts = Vec::new();
        adapters.read_traces(&ExportTraceServiceRequest { resource_spans: vec![sent] }, &mut facts);
        adapters.end_request(&mut facts);
        let id = |fact: &AgentFact| fact.record.span_id.as_deref().unwrap_or_default()[..2].to_owned();
        facts.iter().map(|fact| (fact.record.event, id(fact))).collect()
    }

    #[test]
    fn a_server_that_follows_the_conventions_for_mcp_is_not_an_agent() {
        let tool = ("gen_ai.operation.name", "execute_tool");
        let call = |id| span(id, 1, SpanKind::Server, &[("mcp.method.name", "tools/call"), tool]);
        let query = |id, parent| span(id, parent, SpanKind::Client, &[("db.system.name", "sqlite")]);
        // A model that the server calls is its own affair.
        let chat = |id, parent| span(id, parent, SpanKind::Client, &[("gen_ai.operation.name", "chat")]);
        let mut adapters = Adapters::new(Redactor::default());
        adapters.know_own(&span(1, 9, SpanKind::Server, &[]));
        let mut take = |spans: Vec<Span>| {
            let facts = facts_of(&mut adapters, "weather", spans);
            assert!(facts.iter().all(|fact| fact.0 == EventName::ServerSpan), "{facts:?}");
            facts.len()
        };
        assert_eq!(take(vec![query(3, 2), chat(4, 2), call(2)]), 3);
        assert_eq!(take(vec![query(6, 5), chat(7, 5)]), 2);
        assert_eq!(take(vec![call(5)]), 1);
    }

    #[test]
    fn a_text_of_any_length_is_not_an_id_that_items_have_in_common() {
        let id = |length| vec![attribute("session.id", &"x".repeat(length))];
        let log = LogRecord::default();
        let has_id = |attributes: Vec<KeyValue>| {
            let resource = Resource { attributes, ..Resource::default() };
            let resource = SentResource::new(Some(&resource));
            SentItem::of_log(&log, &resource, 0).key_part(KeyPart::Attribute("session.id")).is_some()
        };
        assert_eq!([0, 1, 1024, 1025].map(|length| has_id(id(length))), [false, true, true, false]);
    }

    /// Returns how many attributes were compared and how many texts redacted for `count` spans and log records of a
    /// service with a large resource.
    fn cost(service: &str, count: usize) -> (usize, usize) {
        let names = ["session.id", "service.version", "gen_ai.conversation.id", "user.id", "error.type"];
        let mut attributes: Vec<KeyValue> =
            (0..1000).map(|number| attribute(&format!("attribute.{number}"), "text")).collect();
        attributes.push(attribute("service.name", service));
        attributes.extend(names.map(|name| attribute(name, "text")));
        let resource = Some(Resource { attributes, ..Resource::default() });
        let names = match service {
            "claude-code" => {
                ["claude_code.interaction", "claude_code.llm_request", "claude_code.tool", "any"]
            }
            _ => ["query", "read", "write", "any"],
        };
        let span = |number: usize| Span {
            name: names[number % 4].to_owned(),
            trace_id: vec![1; 16],
            span_id: number.to_be_bytes().to_vec(),
            parent_span_id: vec![1; 8],
            ..Span::default()
        };
        let names = ["user_prompt", "api_request", "tool_decision", "tool_result"];
        let log = |number: usize| LogRecord {
            event_name: names[number % 4].to_owned(),
            time_unix_nano: number as u64,
            ..LogRecord::default()
        };
        let scope_spans = vec![ScopeSpans { spans: (0..count).map(span).collect(), ..ScopeSpans::default() }];
        let log_records = (0..count).map(log).collect();
        let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
        let spans = ResourceSpans { resource: resource.clone(), scope_spans, ..ResourceSpans::default() };
        let logs = ResourceLogs { resource, scope_logs, ..ResourceLogs::default() };
        let (mut adapters, mut facts) = (Adapters::new(Redactor::default()), Vec::new());
        COMPARED.set(0);
        REDACTED.set(0);
        adapters.read_traces(&ExportTraceServiceRequest { resource_spans: vec![spans] }, &mut facts);
        adapters.read_logs(&ExportLogsServiceRequest { resource_logs: vec![logs] }, &mut facts);
        (COMPARED.get(), REDACTED.get())
    }

    #[test]
    fn a_resource_is_searched_and_redacted_once_for_all_its_items() {
        for service in ["claude-code", "a-server"] {
            let (few, many) = (cost(service, 4), cost(service, 400));
            assert!(few.0 > 1000 && few.1 > 0, "{few:?}");
            // The items have no attributes.
            assert_eq!(few.0, many.0, "{service}");
            // A span of a server has a name of its own.
            let own = if service == "a-server" { 396 } else { 0 };
            assert_eq!(few.1 + own, many.1, "{service}");
        }
    }
}
