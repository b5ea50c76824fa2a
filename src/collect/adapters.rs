//! Reads requests of agents into facts. Each agent has a table of names; one interpreter reads them all.
//!
//! An attribute that no table names is never read. So prompts, arguments, answers and instructions are dropped.

use std::borrow::Cow;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use crate::collect::fact::{AgentFact, FactHash};
use crate::observe::redact::{Field, Redactor};
use crate::record::EventName;
use crate::record::agent::AgentRecord;
use crate::record::cost::ModelTokens;
use crate::record::timestamp::Timestamp;
use crate::record::words::{Status, ToolDecision};

mod bounded;
mod claude_code;
mod codex;
mod fields;
mod gemini_cli;
mod genai;
mod opencode;
mod server;
mod table;

use bounded::BoundedMap;
use fields::FieldReader;
use server::ServerSpans;
use table::{AgentTable, KeyPart, Row};

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
    /// Hashes of the names of services that follow the conventions for generative AI.
    agents: BoundedMap<FactHash, ()>,
    servers: ServerSpans,
}

/// One span or log record, as far as tables read it.
struct SentItem<'r> {
    resource: &'r [KeyValue],
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
    /// A number of the item in its request, which makes an own id of items without one.
    index: usize,
}

impl Adapters {
    pub fn new(redactor: Redactor) -> Adapters {
        Adapters {
            redactor,
            of_parents: BoundedMap::new(REMEMBERED),
            sessions: BoundedMap::new(REMEMBERED),
            agents: BoundedMap::new(64),
            servers: ServerSpans::default(),
        }
    }

    /// Remembers that spantap itself has a span in this trace, so that spans of servers in it are recorded.
    pub fn know_trace(&mut self, trace_id: &[u8]) {
        self.servers.know(trace_id);
    }

    /// Adds the facts that the spans of a request report.
    pub fn read_traces(&mut self, request: &ExportTraceServiceRequest, facts: &mut Vec<AgentFact>) {
        for sent in &request.resource_spans {
            let resource = attributes_of(sent.resource.as_ref());
            let service = text_of(resource, "service.name").unwrap_or_default();
            let spans = || sent.scope_spans.iter().flat_map(|scope| &scope.spans);
            let table = self.table_of(service, spans());
            for (index, span) in spans().enumerate() {
                let item = SentItem::of_span(span, resource, index);
                match table {
                    Some(table) => self.read(table, table.spans, &item, service, facts),
                    None => self.servers.take(&item, span, service, &mut self.redactor, facts),
                }
            }
        }
        self.servers.release(facts);
    }

    /// Adds the facts that the log records of a request report.
    pub fn read_logs(&mut self, request: &ExportLogsServiceRequest, facts: &mut Vec<AgentFact>) {
        for sent in &request.resource_logs {
            let resource = attributes_of(sent.resource.as_ref());
            let service = text_of(resource, "service.name").unwrap_or_default();
            let Some(table) = AGENTS.into_iter().find(|table| service.starts_with(table.service)) else {
                continue;
            };
            for (index, log) in sent.scope_logs.iter().flat_map(|scope| &scope.log_records).enumerate() {
                let item = SentItem::of_log(log, resource, index);
                self.read(table, table.events, &item, service, facts);
            }
        }
    }

    /// Returns the table of a service; `None` if it is not an agent.
    fn table_of<'s>(
        &mut self,
        service: &str,
        mut spans: impl Iterator<Item = &'s Span>,
    ) -> Option<&'static AgentTable> {
        let own = AGENTS.into_iter().find(|table| service.starts_with(table.service));
        if own.is_some() {
            return own;
        }
        let has_operation = |span: &Span| {
            let operation = text_of(&span.attributes, genai::OPERATION);
            operation.is_some_and(|word| {
                genai::TABLE.spans.iter().any(|row| row.only.is_some_and(|only| only.1 == word))
            })
        };
        let name = FactHash::of([service.as_bytes()]);
        if !self.agents.contains(&name) {
            if !spans.any(has_operation) {
                return None;
            }
            self.agents.insert(name, ());
        }
        Some(&genai::TABLE)
    }

    fn read(
        &mut self,
        table: &AgentTable,
        rows: &[Row],
        item: &SentItem<'_>,
        service: &str,
        facts: &mut Vec<AgentFact>,
    ) {
        for row in rows.iter().filter(|row| row.takes(item)) {
            let mut record = AgentRecord { event: row.event, ..AgentRecord::default() };
            record.agent_name = match table.agent {
                "" => self.redactor.redact(Field::Name, service.as_bytes()).as_str().to_owned().into(),
                agent => agent.into(),
            };
            let mut fields = FieldReader { redactor: &mut self.redactor, item, record: &mut record };
            fields.read(row.fields);
            if row.is_of_parent {
                fields.person_wait();
                if let Ok(parent) = item.parent.try_into() {
                    self.of_parents.insert(parent, record);
                }
                continue;
            }
            fields.read(table.common);
            fields.times_and_ids(row);
            if row.event == EventName::ModelCall {
                fields.defaults(table);
            }
            if table.trace_is_turn && record.turn_id.is_none() {
                record.turn_id = record.trace_id.clone();
            }
            self.remember(item, &mut record);
            let is_refused = record.decision == Some(ToolDecision::Refused);
            let parts =
                if is_refused && row.parts & row.part == 0 { row.part | row.parts & 1 } else { row.parts };
            facts.push(AgentFact {
                key: row.key(&record, item),
                own: item.own(row),
                within: row.is_by_time.then(|| item.times()),
                part: row.part,
                parts,
                record,
            });
        }
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

/// Returns the tokens of a model call. Agents do not agree whether the input contains that of the cache.
pub(super) fn model_tokens(record: &AgentRecord<'_>) -> ModelTokens {
    let table = AGENTS.into_iter().find(|table| table.agent == record.agent_name);
    let (cached, cache_write) = (record.cached_tokens.unwrap_or(0), record.cache_write_tokens.unwrap_or(0));
    let input = record.input_tokens.map(|input| match table.is_none_or(|table| table.input_has_cached) {
        true => input,
        false => input.saturating_add(cached).saturating_add(cache_write),
    });
    ModelTokens { input, cached, cache_write, output: record.output_tokens }
}

impl Row {
    fn takes(&self, item: &SentItem<'_>) -> bool {
        let has = |(name, value): (&str, &str)| {
            let found = value_of(item.attributes, name);
            found.is_some() && (value.is_empty() || text_of(item.attributes, name) == Some(value))
        };
        (self.name.is_empty() || self.name == item.name) && self.only.is_none_or(has)
    }

    /// Returns the key of the fact: the first list of ids that is complete, else the item's own id.
    fn key(&self, record: &AgentRecord<'_>, item: &SentItem<'_>) -> FactHash {
        let list = self
            .keys
            .iter()
            .find_map(|key| key.iter().map(|part| item.key_part(*part)).collect::<Option<Vec<_>>>());
        let Some(list) = list else { return item.own(self) };
        let whose = [record.agent_name.as_bytes(), record.event.as_str().as_bytes()];
        FactHash::of(whose.into_iter().chain(list.iter().map(|text| &**text)))
    }
}

impl<'r> SentItem<'r> {
    fn of_span(span: &'r Span, resource: &'r [KeyValue], index: usize) -> SentItem<'r> {
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
            index,
        }
    }

    fn of_log(log: &'r LogRecord, resource: &'r [KeyValue], index: usize) -> SentItem<'r> {
        let name = text_of(&log.attributes, "event.name").unwrap_or(&log.event_name);
        SentItem {
            resource,
            attributes: &log.attributes,
            // Claude Code writes `api_request` there, Codex and Gemini CLI the whole name.
            name,
            trace: &log.trace_id,
            span: &log.span_id,
            parent: &[],
            started: None,
            ended: if log.time_unix_nano > 0 { log.time_unix_nano } else { log.observed_time_unix_nano },
            status: Some(Status::Ok),
            status_message: "",
            index,
        }
    }

    fn key_part(&self, part: KeyPart) -> Option<Cow<'r, [u8]>> {
        let known = |bytes: &'r [u8]| (1..=LONGEST_ID).contains(&bytes.len()).then_some(Cow::Borrowed(bytes));
        match part {
            KeyPart::Attribute(name) => {
                match value_of(self.attributes, name).or(value_of(self.resource, name))? {
                    Value::StringValue(text) => known(text.as_bytes()),
                    Value::IntValue(number) => Some(Cow::Owned(number.to_string().into_bytes())),
                    Value::DoubleValue(number) => Some(Cow::Owned(number.to_string().into_bytes())),
                    _ => None,
                }
            }
            KeyPart::Trace => known(self.trace),
            KeyPart::Span => known(self.span),
            KeyPart::Parent => known(self.parent),
            KeyPart::Word(word) => Some(Cow::Borrowed(word.as_bytes())),
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

fn attributes_of(resource: Option<&Resource>) -> &[KeyValue] {
    resource.map_or(&[], |resource| &resource.attributes)
}

fn value_of<'r>(attributes: &'r [KeyValue], name: &str) -> Option<&'r Value> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    found.value.as_ref()?.value.as_ref()
}

fn text_of<'r>(attributes: &'r [KeyValue], name: &str) -> Option<&'r str> {
    match value_of(attributes, name)? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::AnyValue;

    pub(super) fn attribute(key: &str, text: &str) -> KeyValue {
        let value = Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) });
        KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
    }

    #[test]
    fn a_service_that_called_a_model_is_an_agent_from_then_on() {
        let mut adapters = Adapters::new(Redactor::default());
        let mut is_agent = |service: &str, attributes: Vec<KeyValue>| {
            let span = Span { attributes, ..Span::default() };
            adapters.table_of(service, [span].iter()).is_some()
        };
        assert!(!is_agent("one", Vec::new()));
        assert!(is_agent("one", vec![attribute(genai::OPERATION, "chat")]));
        assert!(is_agent("one", Vec::new()));
        assert!(!is_agent("two", Vec::new()));
    }

    #[test]
    fn a_text_of_any_length_is_not_an_id_that_items_have_in_common() {
        let id = |length| [attribute("session.id", &"x".repeat(length))];
        let log = LogRecord::default();
        let has_id = |resource: &[KeyValue]| {
            SentItem::of_log(&log, resource, 0).key_part(KeyPart::Attribute("session.id")).is_some()
        };
        assert_eq!([0, 1, 1024, 1025].map(|length| has_id(&id(length))), [false, true, true, false]);
    }
}
