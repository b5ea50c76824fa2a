//! Notifications: progress and cancellation concern a request, the rest is counted.

use crate::observe::envelope::{Envelope, Member};
use crate::observe::event::*;
use crate::observe::mcp::Method;
use crate::observe::message::{self, RequestId};
use crate::observe::redact::Field;
use crate::observe::session::answer::Answer;
use crate::observe::session::{MAX_CANCELLED, Session};
use crate::relay::chunk::Moment;

/// Words in the reason of a cancellation that mean that somebody's patience ran out.
const TIMEOUT_WORDS: [&str; 3] = ["timeout", "timed out", "time out"];

impl Session {
    pub(super) fn notification(
        &mut self,
        direction: Direction,
        envelope: &Envelope,
        at: Moment,
        sink: &mut dyn Sink,
    ) {
        self.totals.notifications += 1;
        let method = envelope.head(Member::Method).map(message::text).unwrap_or_default();
        match &*method {
            b"notifications/progress" => self.progress(direction, envelope, at),
            b"notifications/cancelled" => self.cancel(direction, envelope, at, sink),
            _ => {}
        }
        if self.is_debug(at) {
            self.redactor.take_counts();
            let method = self.redactor.redact(Field::Name, &method);
            let text = envelope.head(Member::Data).or(envelope.head(Member::Reason));
            let text = text.map(|raw| self.redactor.redact(Field::Message, &message::free_text(raw)));
            let redactions = self.redactor.take_counts();
            let notification = Notification { direction, method, text, size: envelope.size, redactions };
            self.emit(at, Kind::Notification(Box::new(notification)), sink);
        }
    }

    /// Progress travels against its request, and names it by a token.
    fn progress(&mut self, direction: Direction, envelope: &Envelope, at: Moment) {
        let Some(token) = envelope.raw(Member::ProgressToken).and_then(message::plain) else { return };
        let number = self.by_progress_token.get(&(direction.reversed(), token));
        if let Some(pending) = number.and_then(|number| self.pending.get_mut(number)) {
            let progress = pending.progress.get_or_insert(Progress { count: 0, first: at, last: at });
            progress.count += 1;
            progress.last = at;
        }
    }

    /// The asker gives up: the request ends now, and a late answer is swallowed. Only a subscription may
    /// be ended by the other side.
    fn cancel(&mut self, direction: Direction, envelope: &Envelope, at: Moment, sink: &mut dyn Sink) {
        let Some(id) = envelope.head(Member::RequestId).map(RequestId::new) else { return };
        let own = self.by_id[direction as usize].get(&id).copied();
        if let Some(pending) = own.and_then(|number| self.remove(number)) {
            self.remember_cancelled((direction, id));
            let reason = envelope.head(Member::Reason).map(message::text).unwrap_or_default();
            let reason = String::from_utf8_lossy(&reason).to_lowercase();
            let (status, error_type) = match TIMEOUT_WORDS.iter().any(|word| reason.contains(word)) {
                true => (Status::Timeout, ErrorType::Timeout),
                false => (Status::Cancelled, ErrorType::Cancelled),
            };
            let answer = Answer { cancelled_at: Some(at), ..Answer::none(status, error_type) };
            self.complete(pending, answer, at, sink);
            return;
        }
        let others = self.by_id[direction.reversed() as usize].get(&id).copied();
        let subscription = others
            .filter(|number| self.pending.get(number).is_some_and(|open| open.method == Method::Listen));
        match subscription.and_then(|number| self.remove(number)) {
            Some(pending) => {
                self.remember_cancelled((direction.reversed(), id));
                let answer = Answer {
                    error_type: None,
                    cancelled_at: Some(at),
                    ..Answer::none(Status::Ok, ErrorType::Cancelled)
                };
                self.complete(pending, answer, at, sink);
            }
            // Some hosts cancel what was answered a moment ago.
            None => self.unmatched(direction, Some(&id), UnmatchedKind::Cancellation, None, at, sink),
        }
    }

    fn remember_cancelled(&mut self, key: (Direction, RequestId)) {
        if self.cancelled_order.len() == MAX_CANCELLED
            && let Some(oldest) = self.cancelled_order.pop_front()
        {
            self.cancelled.remove(&oldest);
        }
        self.cancelled.insert(key.clone());
        self.cancelled_order.push_back(key);
    }
}
