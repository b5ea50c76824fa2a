//! Notifications: progress and cancellation concern a request, the others are counted.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::observe::envelope::{Envelope, Member};
use crate::observe::error_words;
use crate::observe::event::*;
use crate::observe::mcp::Method;
use crate::observe::message::{self, RequestId};
use crate::observe::redact::{Field, RedactionCounts};
use crate::observe::session::request_index::RequestIndex;
use crate::observe::session::{Session, Step};
use crate::relay::chunk::Moment;

/// Cancelled requests that are remembered, so that their late answers are ignored.
const MAX_CANCELLED: usize = 1024;

/// Cancelled requests, in one table for each side that sent them.
#[derive(Default)]
pub(super) struct CancelledRequests {
    by_id: [RequestIndex; 2],
    by_number: BTreeMap<u64, (Direction, RequestId)>,
    next_number: u64,
}

impl CancelledRequests {
    fn insert(&mut self, direction: Direction, id: RequestId) {
        if let Some(earlier) = self.by_id[direction as usize].exact(id.bytes()) {
            self.forget(earlier);
        } else if self.by_number.len() == MAX_CANCELLED
            && let Some((oldest, _)) = self.by_number.first_key_value()
        {
            self.forget(*oldest);
        }
        self.by_id[direction as usize].insert(&id, self.next_number);
        self.by_number.insert(self.next_number, (direction, id));
        self.next_number += 1;
    }

    fn forget(&mut self, number: u64) {
        if let Some((direction, id)) = self.by_number.remove(&number) {
            self.by_id[direction as usize].remove(&id, number);
        }
    }

    pub(super) fn contains(&self, direction: Direction, id: &[u8]) -> bool {
        self.by_id[direction as usize].exact(id).is_some()
    }

    /// Removes a request that is answered under this id. Returns true if it had been cancelled.
    pub(super) fn remove(&mut self, direction: Direction, id: &[u8]) -> bool {
        let ids = &self.by_id[direction as usize];
        let number = ids.exact(id).or_else(|| ids.only_of_value(id));
        number.map(|number| self.forget(number)).is_some()
    }
}

/// Answered requests that are remembered, so that a late cancellation is known.
const MAX_ANSWERED: usize = 1024;

/// Hashes of the latest requests that were answered, with the side that sent them. They are compared only if a
/// cancellation finds no open request.
#[derive(Default)]
pub(super) struct AnsweredRequests(VecDeque<u64>);

impl AnsweredRequests {
    pub(super) fn insert(&mut self, direction: Direction, id: &RequestId) {
        if self.0.len() == MAX_ANSWERED {
            self.0.pop_front();
        }
        self.0.push_back(AnsweredRequests::hash(direction, id));
    }

    fn contains(&self, direction: Direction, id: &RequestId) -> bool {
        self.0.contains(&AnsweredRequests::hash(direction, id))
    }

    fn hash(direction: Direction, id: &RequestId) -> u64 {
        let mut hasher = DefaultHasher::new();
        (direction as u8, id.bytes()).hash(&mut hasher);
        hasher.finish()
    }
}

impl Session {
    pub(super) fn notification(&mut self, direction: Direction, envelope: &Envelope, step: &mut Step<'_>) {
        self.totals.notifications += 1;
        let method = envelope.head(Member::Method).map(message::text).unwrap_or_default();
        match &*method {
            b"notifications/progress" => self.progress(direction, envelope, step.now),
            b"notifications/cancelled" => self.cancel(direction, envelope, step),
            b"notifications/tasks" | b"notifications/tasks/status" => {
                self.task_notified(direction, envelope, step);
            }
            _ => {}
        }
        if self.is_debug(step.now) {
            let mut redactions = RedactionCounts::default();
            let mut redact = |field, text: &[u8]| self.redactor.redact_counted(field, text, &mut redactions);
            let method = redact(Field::Name, &method);
            let text = envelope.head(Member::Data).or(envelope.head(Member::Reason));
            let text = text.map(|raw| redact(Field::Message, &message::free_text(raw)));
            let notification = Notification { direction, method, text, size: envelope.size, redactions };
            self.emit(EventKind::Notification(Box::new(notification)), step);
        }
    }

    /// Counts progress. It is sent in the opposite direction of its request and names it by a token.
    fn progress(&mut self, direction: Direction, envelope: &Envelope, now: Moment) {
        let Some(token) = envelope.raw(Member::ProgressToken).and_then(message::plain) else { return };
        let token = RequestId::new(&token);
        if let Some(pending) = self.open.by_progress_token(direction.reversed(), token.bytes()) {
            pending.progressed(now);
        }
    }

    /// Ends a request that its sender cancels, or a subscription that the other side ends. A late
    /// answer is ignored.
    fn cancel(&mut self, direction: Direction, envelope: &Envelope, step: &mut Step<'_>) {
        let Some(id) = envelope.head(Member::RequestId).map(RequestId::new) else { return };
        let Some(pending) =
            self.cancelled_request(direction, &id).and_then(|number| self.open.remove(number))
        else {
            // Some hosts cancel a request that was answered a moment ago, which the specification allows.
            let what = match self.answered.contains(direction, &id) {
                true => UnmatchedKind::LateCancellation,
                false => UnmatchedKind::Cancellation,
            };
            self.unmatched(direction, Some(&id), what, None, step);
            return;
        };
        let mut answer = CallAnswer { cancelled_at: Some(step.now), ..CallAnswer::default() };
        if pending.facts.direction == direction {
            let reason = envelope.head(Member::Reason).map(message::text).unwrap_or_default();
            let (status, error_type) = match error_words::is_timeout(&String::from_utf8_lossy(&reason)) {
                true => (Status::Timeout, ErrorType::Timeout),
                false => (Status::Cancelled, ErrorType::Cancelled),
            };
            (answer.status, answer.error_type) = (status, Some(error_type));
        } else {
            answer.status = Status::Ok;
        }
        answer.answer_id = (pending.id != id).then(|| self.redactor.redact(Field::Id, id.bytes()));
        self.cancelled.insert(pending.facts.direction, pending.id.clone());
        self.complete(pending, answer, step);
    }

    /// Returns the request that a cancellation from `direction` ends: one of its own, or a subscription of the
    /// other side. A request with exactly this id comes first.
    fn cancelled_request(&self, direction: Direction, id: &RequestId) -> Option<u64> {
        let (id, other) = (id.bytes(), direction.reversed());
        let is_subscription = |number: &u64| {
            self.open.get(*number).is_some_and(|pending| pending.facts.method == Method::Listen)
        };
        let exact = self.open.number(direction, id);
        let exact = exact.or_else(|| self.open.number(other, id).filter(is_subscription));
        let own = || self.open.only_of_value(direction, id);
        let subscription = || self.open.only_of_value(other, id).filter(is_subscription);
        exact.or_else(own).or_else(subscription)
    }
}
