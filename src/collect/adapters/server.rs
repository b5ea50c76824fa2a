//! Spans of MCP servers: those of a trace that came to the service from somewhere else, from spantap or from an agent.
//!
//! A trace is known if spantap or an agent has a span in it, or if the parent of one of its spans is in another process. The
//! first span of a request ends last, so the others wait for it.

use std::collections::VecDeque;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::SentItem;
use super::bounded::BoundedMap;
use super::fields::FieldReader;
use super::table::FieldSlot::{ErrorType, Pid, Session, Version};
use super::table::{Fields, Row, SPAN_ROW};
use crate::collect::fact::{AgentFact, FactHash, SPAN};
use crate::observe::redact::{Field, Redactor};
use crate::record::EventName;
use crate::record::agent::AgentRecord;
use crate::record::words::ServerSpanKind;

/// Flag of a span whose parent is in another process.
const IS_REMOTE: u32 = 0x200;
/// Most spans that wait until their trace is known.
const WAITING: usize = 2048;
const TRACES: usize = 4096;

const ROW: Row = Row { event: EventName::ServerSpan, parts: SPAN, has_status: true, ..SPAN_ROW };
const FIELDS: Fields =
    &[(ErrorType, "error.type"), (Session, "session.id"), (Version, "service.version"), (Pid, "process.pid")];

pub(super) struct ServerSpans {
    known: BoundedMap<[u8; 16], ()>,
    /// True if a trace has become known since the last release.
    has_new: bool,
    waiting: VecDeque<([u8; 16], AgentFact)>,
}

impl Default for ServerSpans {
    fn default() -> ServerSpans {
        ServerSpans { known: BoundedMap::new(TRACES), has_new: false, waiting: VecDeque::new() }
    }
}

impl ServerSpans {
    pub(super) fn know(&mut self, trace: &[u8]) {
        if let Ok(trace) = trace.try_into()
            && !self.known.contains(&trace)
        {
            self.known.insert(trace, ());
            self.has_new = true;
        }
    }

    pub(super) fn take(
        &mut self,
        item: &SentItem<'_>,
        span: &Span,
        service: &str,
        redactor: &mut Redactor,
        facts: &mut Vec<AgentFact>,
    ) {
        let Ok(trace) = item.trace.try_into() else { return };
        if item.parent.is_empty() || item.span.len() != 8 {
            return;
        }
        if span.flags & IS_REMOTE != 0 {
            self.know(item.trace);
        }
        let fact = fact(item, span, service, redactor);
        if self.known.contains(&trace) {
            facts.push(fact);
            return;
        }
        if self.waiting.len() == WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back((trace, fact));
    }

    /// Adds the spans that waited for a trace that is known now.
    pub(super) fn release(&mut self, facts: &mut Vec<AgentFact>) {
        if !std::mem::take(&mut self.has_new) {
            return;
        }
        for (trace, fact) in std::mem::take(&mut self.waiting) {
            match self.known.contains(&trace) {
                true => facts.push(fact),
                false => self.waiting.push_back((trace, fact)),
            }
        }
    }
}

fn fact(item: &SentItem<'_>, span: &Span, service: &str, redactor: &mut Redactor) -> AgentFact {
    let text = |redactor: &mut Redactor, text: &str| {
        redactor.redact(Field::Name, text.as_bytes()).as_str().to_owned()
    };
    let mut record = AgentRecord {
        event: ROW.event,
        agent_name: text(redactor, service).into(),
        span_name: Some(text(redactor, &span.name).into()),
        span_kind: match span.kind() {
            SpanKind::Unspecified => None,
            SpanKind::Internal => Some(ServerSpanKind::Internal),
            SpanKind::Server => Some(ServerSpanKind::Server),
            SpanKind::Client => Some(ServerSpanKind::Client),
            SpanKind::Producer => Some(ServerSpanKind::Producer),
            SpanKind::Consumer => Some(ServerSpanKind::Consumer),
        },
        ..AgentRecord::default()
    };
    let mut fields = FieldReader { redactor, item, record: &mut record };
    fields.read(FIELDS);
    fields.times_and_ids(&ROW);
    let key = FactHash::of([b"server_span", item.trace, item.span]);
    AgentFact { record, key, own: item.own(&ROW), within: None, part: SPAN, parts: SPAN }
}
