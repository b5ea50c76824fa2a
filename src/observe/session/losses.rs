//! Lost bytes, malformed lines and unmatched answers. Floods of them are summed up.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::observe::event::*;
use crate::observe::message::RequestId;
use crate::observe::redact::Field;
use crate::observe::repeats::FloodCounter;
use crate::observe::session::{ConversationTurn, Session, Step};
use crate::relay::chunk::{Gap, Moment, Stream};

/// Lost bytes are reported at most this often.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);

/// Requests of the server without an answer that are reported one by one.
const MANY_ABANDONED: u64 = 1000;

/// Counts that have not been reported yet.
#[derive(Default)]
pub(super) struct UnreportedLosses {
    /// Malformed lines, and the length of the last one in bytes.
    malformed: BTreeMap<(Stream, MalformedReason), (FloodCounter, u64)>,
    unmatched: FloodCounter,
    /// Requests of the server without an answer, and the last one that was not reported.
    abandoned: (FloodCounter, Option<Box<(Operation, ConversationTurn)>>),
    /// Lost bytes and newlines.
    bytes: BTreeMap<Stream, (u64, u64)>,
    bytes_reported: Option<Moment>,
}

impl UnreportedLosses {
    pub(super) fn is_due(&self, now: Moment) -> bool {
        self.bytes_reported.is_some_and(|last| now.since(last) >= LOSS_INTERVAL)
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        self.bytes_reported.filter(|_| !self.bytes.is_empty()).map(|last| last.after(LOSS_INTERVAL))
    }
}

impl Session {
    /// Counts a line that is not a message. A flood is reported at each doubling.
    pub(crate) fn malformed(
        &mut self,
        stream: Stream,
        reason: MalformedReason,
        size: u64,
        step: &mut Step<'_>,
    ) {
        self.totals.malformed += 1;
        let (flood, last_size) = self.losses.malformed.entry((stream, reason)).or_default();
        *last_size = size;
        if let Some(count) = flood.one_more() {
            self.emit(EventKind::Malformed(Malformed { stream, count, size, reason }), step);
        }
    }

    /// Counts a line that was cut by lost bytes.
    pub(crate) fn cut(&mut self, direction: Direction, size: u64, step: &mut Step<'_>) {
        self.malformed(direction.stream(), MalformedReason::Partial, size, step);
    }

    /// Counts an answer or a cancellation that belongs to no open request.
    pub(super) fn unmatched(
        &mut self,
        direction: Direction,
        id: Option<&RequestId>,
        what: UnmatchedKind,
        error_code: Option<i64>,
        step: &mut Step<'_>,
    ) {
        self.totals.unmatched += 1;
        if let Some(count) = self.losses.unmatched.one_more() {
            let request_id = id.map(|id| self.redactor.redact(Field::Id, id.bytes()));
            let unmatched = Unmatched { request_id, direction, what, error_code, count };
            self.emit(EventKind::Unmatched(unmatched), step);
        }
    }

    /// Emits the operation of a request of the server that the client does not answer. After many of them, one
    /// operation is emitted at each doubling; it represents those before it.
    pub(super) fn report_abandoned(
        &mut self,
        mut operation: Operation,
        within: ConversationTurn,
        step: &mut Step<'_>,
    ) {
        let (flood, last) = &mut self.losses.abandoned;
        match flood.one_more_after(MANY_ABANDONED) {
            Some(count) => {
                operation.count = count;
                self.emit_operation(operation, within, step);
            }
            None => *last = Some(Box::new((operation, within))),
        }
    }

    /// Counts bytes that were not observed. They may have held the answers of the open requests.
    pub(crate) fn gap(&mut self, gap: &Gap, step: &mut Step<'_>) {
        let (bytes, newlines) = self.losses.bytes.entry(gap.stream).or_default();
        *bytes += gap.bytes;
        *newlines += gap.newlines;
        self.totals.bytes_lost += gap.bytes;
        if let Some(direction) = Direction::of(gap.stream) {
            let asked = self.open.values_mut();
            asked
                .filter(|pending| pending.facts.direction == direction.reversed())
                .for_each(|pending| pending.maybe_lost = true);
        }
        if self.losses.bytes_reported.is_none() || self.losses.is_due(step.now) {
            self.report_lost_bytes(step);
        }
    }

    pub(super) fn report_lost_bytes(&mut self, step: &mut Step<'_>) {
        for (stream, (bytes, frames)) in std::mem::take(&mut self.losses.bytes) {
            let lost = Lost {
                place: LossPlace::Tap,
                stream: Some(stream),
                bytes,
                frames,
                records: 0,
                reason: "overload",
            };
            self.emit(EventKind::Gap(lost), step);
        }
        self.losses.bytes_reported = Some(step.now);
    }

    /// Emits the counts that have not been reported when the connection ends.
    pub(super) fn report_remaining(&mut self, step: &mut Step<'_>) {
        for ((stream, reason), (mut flood, size)) in std::mem::take(&mut self.losses.malformed) {
            if let Some(count) = flood.rest() {
                self.emit(EventKind::Malformed(Malformed { stream, count, size, reason }), step);
            }
        }
        let (flood, last) = &mut self.losses.abandoned;
        if let Some((count, last)) = flood.rest().zip(last.take()) {
            let (mut operation, within) = *last;
            operation.count = count;
            self.emit_operation(operation, within, step);
        }
        if let Some(count) = self.losses.unmatched.rest() {
            let direction = Direction::ServerToClient;
            let what = UnmatchedKind::Response;
            let unmatched = Unmatched { request_id: None, direction, what, error_code: None, count };
            self.emit(EventKind::Unmatched(unmatched), step);
        }
        if !self.losses.bytes.is_empty() {
            self.report_lost_bytes(step);
        }
    }
}
