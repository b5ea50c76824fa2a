//! Deadlines: calls that hang, a silent server, and the end of debug.

use std::time::Duration;

use crate::observe::event::*;
use crate::observe::session::{Session, Step};
use crate::relay::chunk::Moment;

/// A call that has been open for this many times `--slow` is reported again.
const HUNG: u32 = 10;

#[derive(Default)]
pub(super) struct Deadlines {
    /// Requests below this number have been reported as slow.
    slow_cursor: u64,
    /// Requests below this number have been reported as hanging.
    hung_cursor: u64,
    pub(super) last_from_server: Moment,
    silence_reported: bool,
}

impl Deadlines {
    pub(super) fn heard_from_server(&mut self, now: Moment) {
        self.last_from_server = now;
        self.silence_reported = false;
    }
}

impl Session {
    /// Reports hanging calls and lost bytes, and ends debug, as far as they are due.
    pub(crate) fn tick(&mut self, step: &mut Step<'_>) {
        self.end_debug(step);
        let (slow, hung) = (self.settings.slow, self.settings.slow.saturating_mul(HUNG));
        for number in self.due(self.deadlines.slow_cursor, slow, step.now) {
            self.deadlines.slow_cursor = number + 1;
            self.report_pending(number, true, step);
        }
        for number in self.due(self.deadlines.hung_cursor, hung, step.now) {
            self.deadlines.hung_cursor = number + 1;
            self.report_pending(number, false, step);
        }
        self.settle_tasks(false, step);
        if self.losses.is_due(step.now) {
            self.report_lost_bytes(step);
        }
    }

    /// Returns the moment at which [`Session::tick`] next has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        let slow = self.settings.slow;
        let due =
            |cursor, limit| self.open.from(cursor).next().map(|(_, pending)| pending.started.after(limit));
        let slow_call = due(self.deadlines.slow_cursor, slow);
        let hung_call = due(self.deadlines.hung_cursor, slow.saturating_mul(HUNG));
        [slow_call, hung_call, self.debug_deadline(), self.losses.deadline(), self.task_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Returns the numbers of the requests from `cursor` on that have been open for `limit`. Requests
    /// are numbered in the order in which they began.
    fn due(&self, cursor: u64, limit: Duration, now: Moment) -> Vec<u64> {
        let open = self.open.from(cursor);
        open.take_while(|(_, pending)| now.since(pending.started) >= limit)
            .map(|(number, _)| number)
            .collect()
    }

    fn report_pending(&mut self, number: u64, first: bool, step: &mut Step<'_>) {
        let in_flight = self.open.len() as u64;
        let Some(pending) = self.open.get_mut(number) else { return };
        if pending.facts.method.waits_by_design() || pending.task.is_some() {
            return;
        }
        if first {
            pending.reported_pending(step.now);
        }
        let (facts, started) = (&pending.facts, pending.started);
        let is_to_server = facts.direction == Direction::ClientToServer;
        if !is_to_server && !self.losses.is_pending_reported() {
            return;
        }
        let report = Box::new(PendingCall {
            request_id: facts.request_id.clone(),
            direction: facts.direction,
            method: facts.method_name.clone(),
            target: facts.target.clone(),
            started,
            open_for: step.now.since(started),
            in_flight,
            span: facts.span.clone(),
        });
        let within = pending.within.clone();
        let Deadlines { last_from_server, silence_reported, .. } = &mut self.deadlines;
        let silent = is_to_server && *last_from_server <= started && !*silence_reported;
        *silence_reported |= silent;
        let unresponsive = silent.then(|| (within.clone(), report.clone()));
        self.emit_in(within, EventKind::CallPending(report), step);
        if let Some((within, report)) = unresponsive {
            self.emit_in(within, EventKind::ServerUnresponsive(report), step);
        }
    }
}
