//! Spans of MCP servers: those of a trace that came to the service from somewhere else, from spantap or from an agent.
//!
//! A trace is known if spantap or an agent has a span in it, or if the parent of one of its spans is in another process. The
//! first span of a request ends last, so the others wait for it.

use std::collections::VecDeque;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::bounded::BoundedMap;
use super::fields::{FieldReader, OTHER, is_span_name};
use super::table::FieldSlot::{ErrorType, Pid, Session, Version};
use super::table::{Fields, Row, SPAN_ROW};
use super::{SentItem, redacted};
use crate::collect::fact::{AgentFact, FactHash, SPAN};
use crate::observe::redact::{Field, Redactor};
use crate::record::EventName;
use crate::record::agent::AgentRecord;
use crate::record::words::ServerSpanKind;

/// Flag of a span whose parent is in another process.
pub(super) const IS_REMOTE: u32 = 0x200;
/// Most spans that wait until their trace is known, and most of them in the middle of a request, of which a later span can
/// make the trace known.
const WAITING: usize = 2048;
const WAITING_IN_REQUEST: usize = 8192;
/// Spans that are dropped at once in the middle of a request, so that the others are seldom looked through.
const DROPPED: usize = 1024;
const TRACES: usize = 4096;

const ROW: Row = Row { event: EventName::ServerSpan, parts: SPAN, has_status: true, ..SPAN_ROW };
const FIELDS: Fields =
    &[(ErrorType, "error.type"), (Session, "session.id"), (Version, "service.version"), (Pid, "process.pid")];

pub(super) struct ServerSpans {
    known: BoundedMap<[u8; 16], ()>,
    /// True if a trace has become known since the last release.
    has_new: bool,
    waiting: VecDeque<([u8; 16], AgentFact)>,
    /// Spans that waited too long.
    stray: u64,
}

impl Default for ServerSpans {
    fn default() -> ServerSpans {
        ServerSpans { known: BoundedMap::new(TRACES), has_new: false, waiting: VecDeque::new(), stray: 0 }
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

    /// Takes a span. Returns false if it is the first one of its trace or has no valid ids.
    pub(super) fn take(
        &mut self,
        item: &SentItem<'_>,
        span: &Span,
        redactor: &mut Redactor,
        facts: &mut Vec<AgentFact>,
    ) -> bool {
        let Ok(trace) = item.trace.try_into() else { return false };
        if item.parent.is_empty() || item.span.len() != 8 {
            return false;
        }
        if span.flags & IS_REMOTE != 0 {
            self.know(item.trace);
        }
        let fact = fact(item, span, redactor);
        if self.known.contains(&trace) {
            facts.push(fact);
            return true;
        }
        if self.waiting.len() == WAITING_IN_REQUEST {
            self.release(facts);
            self.keep(WAITING_IN_REQUEST - DROPPED);
        }
        self.waiting.push_back((trace, fact));
        true
    }

    /// Ends a request: adds the spans whose trace has become known, and drops the oldest of too many that still wait.
    pub(super) fn end_request(&mut self, facts: &mut Vec<AgentFact>) {
        self.release(facts);
        self.keep(WAITING);
    }

    /// Returns the number of spans that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn keep(&mut self, most: usize) {
        let excess = self.waiting.len().saturating_sub(most);
        self.stray += self.waiting.drain(..excess).count() as u64;
    }

    /// Returns how many spans were dropped since the last call, because their trace did not become known. At the end
    /// the spans that still wait are dropped, too.
    pub(super) fn take_stray(&mut self, is_end: bool) -> u64 {
        if is_end {
            self.keep(0);
        }
        std::mem::take(&mut self.stray)
    }

    /// Adds the spans that waited for a trace that is known now.
    fn release(&mut self, facts: &mut Vec<AgentFact>) {
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

fn fact(item: &SentItem<'_>, span: &Span, redactor: &mut Redactor) -> AgentFact {
    let mut record = AgentRecord {
        event: ROW.event,
        agent_name: item.resource.redacted_service(redactor),
        span_name: Some(match is_span_name(&span.name) {
            true => redacted(redactor, Field::Name, &span.name),
            false => OTHER.into(),
        }),
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
    AgentFact { record, key, own: item.own(&ROW), within: None, part: SPAN, parts: SPAN, is_addition: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::adapters::resource::SentResource;

    #[test]
    fn a_span_that_waits_in_vain_is_counted_and_one_whose_trace_becomes_known_is_not() {
        let (mut servers, mut redactor, mut facts) =
            (ServerSpans::default(), Redactor::default(), Vec::new());
        let resource = SentResource::new(None);
        let mut take = |servers: &mut ServerSpans, trace: u8| {
            let (trace_id, id) = (vec![trace; 16], vec![1; 8]);
            let span = Span { trace_id, span_id: id.clone(), parent_span_id: id, ..Span::default() };
            let item = SentItem::of_span(&span, &resource, 0);
            servers.take(&item, &span, &mut redactor, &mut facts);
            servers.end_request(&mut facts);
            facts.len()
        };
        take(&mut servers, 1);
        for _ in 0..WAITING {
            take(&mut servers, 2);
        }
        assert_eq!((servers.take_stray(false), servers.take_stray(false)), (1, 0));
        servers.know(&[2; 16]);
        assert_eq!([2, 3].map(|trace| take(&mut servers, trace)), [WAITING + 1; 2]);
        assert_eq!((servers.take_stray(false), servers.take_stray(true)), (0, 1));
    }

    #[test]
    fn a_span_waits_for_the_whole_request_whose_last_span_makes_its_trace_known() {
        let mut redactor = Redactor::default();
        let resource = SentResource::new(None);
        for (spans, known, stray) in [
            (WAITING * 2, WAITING * 2 + 1, 0),
            (WAITING_IN_REQUEST + 1, WAITING_IN_REQUEST - DROPPED + 2, DROPPED),
        ] {
            let (mut servers, mut facts) = (ServerSpans::default(), Vec::new());
            let mut take = |flags: u32| {
                let (trace_id, id) = (vec![7; 16], vec![1; 8]);
                let span =
                    Span { trace_id, span_id: id.clone(), parent_span_id: id, flags, ..Span::default() };
                servers.take(&SentItem::of_span(&span, &resource, 0), &span, &mut redactor, &mut facts);
            };
            (0..spans).for_each(|_| take(0));
            take(IS_REMOTE);
            servers.end_request(&mut facts);
            assert_eq!((facts.len(), servers.waiting()), (known, 0));
            assert_eq!(servers.take_stray(false), stray as u64);
        }
    }
}
