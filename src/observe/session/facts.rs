//! The facts of a request, read once from its envelope.

use std::borrow::Cow;

use crate::observe::canonical::Hash;
use crate::observe::envelope::{Envelope, Member};
use crate::observe::event::*;
use crate::observe::mcp::{Meta, Method};
use crate::observe::message::{self, RequestId};
use crate::observe::redact::{Field, Redacted, RedactionCounts};
use crate::observe::repeats::{RepeatedCall, Repeats};
use crate::observe::session::{ConversationTurn, Session, Step};
use crate::relay::chunk::Moment;

/// A request as it was received, with its parsed `_meta`.
pub(super) struct ReceivedRequest<'a> {
    pub(super) direction: Direction,
    pub(super) envelope: &'a Envelope,
    pub(super) id: RequestId,
    pub(super) method: Method,
    method_name: Cow<'a, [u8]>,
    pub(super) meta: Meta,
    /// Number of replaced texts in this request.
    pub(super) redactions: RedactionCounts,
}

impl ReceivedRequest<'_> {
    pub(super) fn new(direction: Direction, envelope: &Envelope) -> ReceivedRequest<'_> {
        let method_name = envelope.head(Member::Method).map(message::text).unwrap_or_default();
        ReceivedRequest {
            direction,
            envelope,
            id: RequestId::new(envelope.head(Member::Id).unwrap_or_default()),
            method: Method::new(&method_name),
            method_name,
            meta: Meta::of(envelope, Member::ParamsMeta),
            redactions: RedactionCounts::default(),
        }
    }
}

impl CallFacts {
    /// Returns true for a call that the client makes to one of the server's tools.
    pub(super) fn is_tool_call(&self) -> bool {
        self.method == Method::ToolsCall && self.direction == Direction::ClientToServer
    }
}

impl Session {
    /// Reads the facts of a request. [`Session::count_repeats`] completes them.
    pub(super) fn facts(&mut self, request: &mut ReceivedRequest<'_>, now: Moment) -> CallFacts {
        let ReceivedRequest { direction, envelope, method, ref meta, ref mut redactions, .. } = *request;
        let target = self.target(method, envelope, redactions);
        let continues =
            self.rounds.continued(method, target.as_ref().map(CallTarget::text), envelope, &self.hashing);
        let protocol_version = self.version(meta, redactions);
        let has_args = matches!(method, Method::ToolsCall | Method::PromptsGet);
        let args_hash = has_args.then(|| self.args_hash(envelope));
        let jsonrpc = envelope.head(Member::JsonRpc).filter(|raw| *raw != b"\"2.0\"").map(message::text);
        let jsonrpc = jsonrpc.filter(|text| !text.is_empty() && **text != *b"2.0");
        let task_id = envelope.head(Member::ParamsTaskId);
        let Session { redactor, spans, hashing, .. } = self;
        let mut redact = |field, text: &[u8]| redactor.redact_counted(field, text, redactions);
        CallFacts {
            request_id: redact(Field::Id, request.id.bytes()),
            direction,
            method,
            method_name: redact(Field::Name, &request.method_name),
            target,
            protocol_version,
            jsonrpc_version: jsonrpc.map(|text| redact(Field::Name, &text)),
            args_hash,
            args_size: envelope.size_of(Member::Arguments),
            request_size: envelope.size,
            repeat_count: None,
            thrashing: false,
            alarming_repeats: 1,
            call_id: meta.call.as_deref().map(|call| redact(Field::Id, call.as_bytes())),
            model: meta.model.as_deref().map(|model| redact(Field::Name, model.as_bytes())),
            continues: continues.map(Box::new),
            task_id_hash: task_id.map(|raw| Box::new(hashing.raw(&message::text(raw)))),
            span: spans.assign(meta, now, |state| redact(Field::TraceState, state)),
        }
    }

    fn target(
        &mut self,
        method: Method,
        envelope: &Envelope,
        counts: &mut RedactionCounts,
    ) -> Option<CallTarget> {
        let (member, field): (_, Field) = match method {
            Method::ToolsCall | Method::PromptsGet => (Member::Name, Field::Name),
            Method::Resource => (Member::Uri, Field::Uri),
            _ => return None,
        };
        let text = message::text(envelope.head(member)?);
        let text = self.redactor.redact_counted(field, &text, counts);
        Some(match method {
            Method::ToolsCall => CallTarget::Tool(text),
            Method::PromptsGet => CallTarget::Prompt(text),
            _ => CallTarget::Resource(text),
        })
    }

    fn args_hash(&self, envelope: &Envelope) -> Hash {
        match (envelope.raw(Member::Arguments), envelope.long_arguments_hash) {
            (Some(raw), _) => self.hashing.args(raw),
            (None, Some(hash)) => hash,
            (None, None) => self.hashing.args(b"{}"),
        }
    }

    pub(super) fn conversation_turn(
        &mut self,
        request: &mut ReceivedRequest<'_>,
        now: Moment,
    ) -> ConversationTurn {
        let conversation_id = match &request.meta.conversation {
            Some(id) => Some(self.redactor.redact_counted(Field::Id, id.as_bytes(), &mut request.redactions)),
            None => self.settings.conversation_id.clone(),
        };
        let turn_id = self.turn(request, conversation_id.as_ref(), now);
        if request.method != Method::Listen {
            self.turns.opened(conversation_id.as_ref());
        }
        ConversationTurn { conversation_id, turn_id }
    }

    /// Returns the turn: the id in the request, else the caller's trace id, else a number that is counted by
    /// the gaps between requests. Only requests of the client are numbered.
    fn turn(
        &mut self,
        request: &mut ReceivedRequest<'_>,
        conversation: Option<&Redacted>,
        now: Moment,
    ) -> Option<Redacted> {
        let ReceivedRequest { direction, meta, redactions, .. } = request;
        let redactor = &mut self.redactor;
        let mut redact = |id: &str| redactor.redact_counted(Field::Id, id.as_bytes(), redactions);
        let trace = meta.trace_parent.map(|parent| parent.trace_id.to_string());
        if let Some(named) = meta.turn.as_ref().or(trace.as_ref()) {
            return Some(redact(named));
        }
        if *direction == Direction::ServerToClient {
            return None;
        }
        Some(self.turns.by_gap(conversation, now, |number| redact(&number.to_string())))
    }

    /// Counts a tool call with the same arguments, and reports it if it is repeated too often.
    pub(super) fn count_repeats(
        &mut self,
        facts: &mut CallFacts,
        within: &ConversationTurn,
        step: &mut Step<'_>,
    ) {
        let (Some(CallTarget::Tool(tool)), Some(args_hash)) = (&facts.target, facts.args_hash) else {
            return;
        };
        let key = (within.conversation_id.clone(), tool.clone(), args_hash);
        let RepeatedCall { count, no_progress, cycle } = self.repeats.count(key);
        let threshold = self.settings.threshold_of(tool.as_str());
        let is_alarm = Repeats::is_alarm(count, no_progress, threshold);
        // A cycle is one repeating call, which its last call reports.
        let reported = match &cycle {
            Some(cycle) => (cycle.rounds, cycle.no_progress, cycle.ends_round),
            None => (count, no_progress, true),
        };
        let (rounds, no_progress, is_whole) = reported;
        if is_whole && Repeats::is_reported(rounds, threshold) {
            let thrashing = Thrashing {
                request_id: facts.request_id.clone(),
                tool: tool.clone(),
                args_hash,
                count: rounds,
                no_progress,
                is_alarm: Repeats::is_alarm(rounds, no_progress, threshold),
                cycle_length: cycle.map(|cycle| cycle.length),
                span: facts.span.clone(),
            };
            self.emit_in(within.clone(), EventKind::AgentThrashing(Box::new(thrashing)), step);
        }
        facts.repeat_count = (count > 1).then_some(count);
        facts.thrashing = count > threshold;
        facts.alarming_repeats = if is_alarm { count } else { count.min(threshold) };
    }
}
