//! Notifications: progress and cancellation concern a request, the others are counted.

use std::collections::{HashSet, VecDeque};

use crate::observe::envelope::{Envelope, Member};
use crate::observe::event::*;
use crate::observe::mcp::Method;
use crate::observe::message::{self, RequestId};
use crate::observe::redact::{Field, RedactionCounts};
use crate::observe::session::{Session, Step};
use crate::relay::chunk::Moment;

/// Words in the reason of a cancellation which mean that the asking side stopped waiting.
const TIMEOUT_WORDS: [&str; 3] = ["timeout", "timed out", "time out"];
/// Cancelled requests that are remembered, so that their late answers are ignored.
const MAX_CANCELLED: usize = 1024;

/// Requests that were cancelled, by the side that sent them.
#[derive(Default)]
pub(super) struct CancelledRequests {
    ids: HashSet<(Direction, RequestId)>,
    order: VecDeque<(Direction, RequestId)>,
}

impl CancelledRequests {
    fn insert(&mut self, direction: Direction, id: RequestId) {
        if self.order.len() == MAX_CANCELLED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        self.ids.insert((direction, id.clone()));
        self.order.push_back((direction, id));
    }

    /// Removes a request that is answered. Returns true if it had been cancelled.
    pub(super) fn remove(&mut self, direction: Direction, id: RequestId) -> bool {
        self.ids.remove(&(direction, id))
    }
}

impl Session {
    pub(super) fn notification(&mut self, direction: Direction, envelope: &Envelope, step: &mut Step<'_>) {
        self.totals.notifications += 1;
        let method = envelope.head(Member::Method).map(message::text).unwrap_or_default();
        match &*method {
            b"notifications/progress" => self.progress(direction, envelope, step.now),
            b"notifications/cancelled" => self.cancel(direction, envelope, step),
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
        if let Some(pending) = self.open.by_progress_token(direction.reversed(), token) {
            let progress =
                pending.timing.progress.get_or_insert(CallProgress { count: 0, first: now, last: now });
            progress.count += 1;
            progress.last = now;
        }
    }

    /// Ends a request that its sender cancels, or a subscription that the other side ends. A late
    /// answer is ignored.
    fn cancel(&mut self, direction: Direction, envelope: &Envelope, step: &mut Step<'_>) {
        let Some(id) = envelope.head(Member::RequestId).map(RequestId::new) else { return };
        let own = self.open.number(direction, id.bytes());
        if let Some(pending) = own.and_then(|number| self.open.remove(number)) {
            self.cancelled.insert(direction, id);
            let reason = envelope.head(Member::Reason).map(message::text).unwrap_or_default();
            let reason = String::from_utf8_lossy(&reason).to_lowercase();
            let (status, error_type) = match TIMEOUT_WORDS.iter().any(|word| reason.contains(word)) {
                true => (Status::Timeout, ErrorType::Timeout),
                false => (Status::Cancelled, ErrorType::Cancelled),
            };
            let answer =
                CallAnswer { cancelled_at: Some(step.now), ..CallAnswer::missing(status, error_type) };
            self.complete(pending, answer, step);
            return;
        }
        let is_subscription = |number: &u64| {
            self.open.get(*number).is_some_and(|pending| pending.facts.method == Method::Listen)
        };
        let subscription = self.open.number(direction.reversed(), id.bytes()).filter(is_subscription);
        match subscription.and_then(|number| self.open.remove(number)) {
            Some(pending) => {
                self.cancelled.insert(direction.reversed(), id);
                let answer =
                    CallAnswer { status: Status::Ok, cancelled_at: Some(step.now), ..CallAnswer::default() };
                self.complete(pending, answer, step);
            }
            // Some hosts cancel a request that was answered a moment ago.
            None => self.unmatched(direction, Some(&id), UnmatchedKind::Cancellation, None, step),
        }
    }
}
