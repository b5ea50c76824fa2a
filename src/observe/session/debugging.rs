//! Debug in a session: by its settings, or by an order of `spantap debug` while it runs.

use crate::observe::canonical::Hash;
use crate::observe::envelope::{Envelope, Member};
use crate::observe::event::*;
use crate::observe::mcp::Method;
use crate::observe::redact::RedactionCounts;
use crate::observe::session::pending::Pending;
use crate::observe::session::{ConversationTurn, Session, Step};
use crate::observe::{Debug, DebugOrder};
use crate::relay::chunk::Moment;

impl Session {
    pub(crate) fn is_debug(&self, now: Moment) -> bool {
        let by_settings = match self.settings.debug {
            Debug::Off => false,
            Debug::On => true,
            Debug::Until(end) => now < end,
        };
        by_settings || self.debug_order.is_some_and(|order| now < order.until)
    }

    /// Returns true if the arguments and results of calls are kept, redacted.
    pub(crate) fn keeps_bodies(&self, now: Moment) -> bool {
        self.debug_order.is_some_and(|order| order.bodies == BodiesState::On && now < order.until)
    }

    /// Emits the arguments of a request.
    pub(super) fn keep_request(
        &mut self,
        facts: &CallFacts,
        within: &ConversationTurn,
        envelope: &Envelope,
        step: &mut Step<'_>,
    ) {
        let Some(size) = facts.args_size.filter(|_| self.keeps_bodies(step.now) && has_body(facts)) else {
            return;
        };
        let text = envelope.raw(Member::Arguments);
        self.keep_body(facts, within, (BodyPart::Request, text, size, facts.args_hash), step);
    }

    /// Emits the result or the error of an answer.
    pub(super) fn keep_response(&mut self, pending: &Pending, envelope: &Envelope, step: &mut Step<'_>) {
        let facts = &pending.facts;
        let size = if envelope.has_error() { envelope.error_size } else { envelope.result_size };
        let Some(size) = size.filter(|_| self.keeps_bodies(step.now) && has_body(facts)) else { return };
        let body = (BodyPart::Response, envelope.answer_text(), size, envelope.result_hash);
        self.keep_body(facts, &pending.within, body, step);
    }

    fn keep_body(
        &mut self,
        facts: &CallFacts,
        within: &ConversationTurn,
        (part, text, size, hash): (BodyPart, Option<&[u8]>, u64, Option<Hash>),
        step: &mut Step<'_>,
    ) {
        let mut redactions = RedactionCounts::default();
        let body = Body {
            part,
            request_id: facts.request_id.clone(),
            method: facts.method_name.clone(),
            target: facts.target.clone(),
            span_id: facts.span.span_id,
            text: text.and_then(|text| self.redactor.body(text, &mut redactions)),
            size,
            hash,
            redactions,
        };
        self.emit_in(within.clone(), EventKind::Body(Box::new(body)), step);
    }

    /// Takes a new order, or ends the last one.
    pub(crate) fn order_debug(&mut self, order: Option<DebugOrder>, step: &mut Step<'_>) {
        let order = order.filter(|order| step.now < order.until);
        match order {
            _ if order == self.debug_order => {}
            Some(DebugOrder { until, bodies }) => {
                self.debug_order = order;
                self.emit(EventKind::DebugStarted(DebugStarted { until, bodies }), step);
            }
            None => {
                self.debug_order = None;
                self.report_end_of_debug(step);
            }
        }
    }

    /// Ends what has reached its end: the time of `--debug-for`, and the order.
    pub(super) fn end_debug(&mut self, step: &mut Step<'_>) {
        let mut has_ended = self.debug_order.take_if(|order| step.now >= order.until).is_some();
        if let Debug::Until(end) = self.settings.debug
            && step.now >= end
        {
            self.settings.debug = Debug::Off;
            has_ended = true;
        }
        if has_ended {
            self.report_end_of_debug(step);
        }
    }

    fn report_end_of_debug(&mut self, step: &mut Step<'_>) {
        if !self.is_debug(step.now) {
            self.emit(EventKind::DebugEnded, step);
        }
    }

    /// Returns the moment at which [`Session::end_debug`] next has something to do.
    pub(super) fn debug_deadline(&self) -> Option<Moment> {
        let by_settings = match self.settings.debug {
            Debug::Until(end) => Some(end),
            Debug::Off | Debug::On => None,
        };
        by_settings.into_iter().chain(self.debug_order.map(|order| order.until)).min()
    }
}

/// Returns true for requests whose arguments and results are kept: those of the client for tools, prompts and
/// resources.
fn has_body(facts: &CallFacts) -> bool {
    let methods = [Method::ToolsCall, Method::PromptsGet, Method::Resource, Method::TasksResult];
    facts.direction == Direction::ClientToServer && methods.contains(&facts.method)
}
