//! Lost bytes, malformed lines and unmatched answers. Floods of them are summed up.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::observe::event::*;
use crate::observe::mcp::Method;
use crate::observe::message::RequestId;
use crate::observe::redact::Field;
use crate::observe::repeats::FloodCounter;
use crate::observe::session::{ConversationTurn, Session, Step};
use crate::relay::chunk::{Gap, Moment, Stream};

/// Lost bytes are reported at most this often.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);

/// Requests of the server that are alike and are reported one by one.
const MANY_ALIKE: u64 = 1000;

/// Counts that have not been reported yet.
#[derive(Default)]
pub(super) struct UnreportedLosses {
    /// Malformed lines, and the length of the last one in bytes.
    malformed: BTreeMap<(Stream, MalformedReason), (FloodCounter, u64)>,
    unmatched: BTreeMap<(Direction, UnmatchedKind), FloodCounter>,
    of_server: Vec<RequestsAlike>,
    /// Reports of open requests of the server.
    pending_of_server: FloodCounter,
    /// Lost bytes and newlines.
    bytes: BTreeMap<Stream, (u64, u64)>,
    bytes_reported: Option<Moment>,
}

/// Requests of the server with the same method and outcome.
struct RequestsAlike {
    method: Method,
    status: Status,
    error_type: Option<ErrorType>,
    flood: FloodCounter,
    /// The last one that was not reported.
    last: Option<Box<(Operation, ConversationTurn)>>,
}

impl UnreportedLosses {
    /// Returns the requests that are like this one. All codes of errors are alike.
    fn alike(&mut self, Operation { facts, answer, .. }: &Operation) -> &mut RequestsAlike {
        let error_type = answer.error_type.map(|error| match error {
            ErrorType::Code(_) => ErrorType::Code(0),
            other => other,
        });
        let key = (facts.method, answer.status, error_type);
        let known = self.of_server.iter().position(|one| (one.method, one.status, one.error_type) == key);
        let index = known.unwrap_or_else(|| {
            let (method, status, error_type) = key;
            let flood = FloodCounter::default();
            self.of_server.push(RequestsAlike { method, status, error_type, flood, last: None });
            self.of_server.len() - 1
        });
        &mut self.of_server[index]
    }

    /// Returns true if one more open request of the server is to be reported.
    pub(super) fn is_pending_reported(&mut self) -> bool {
        self.pending_of_server.one_more_after(MANY_ALIKE).is_some()
    }

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

    /// Counts an answer or a cancellation that belongs to no open request. A flood is reported at each doubling.
    pub(super) fn unmatched(
        &mut self,
        direction: Direction,
        id: Option<&RequestId>,
        what: UnmatchedKind,
        error_code: Option<i64>,
        step: &mut Step<'_>,
    ) {
        self.totals.unmatched += 1;
        if let Some(count) = self.losses.unmatched.entry((direction, what)).or_default().one_more() {
            let request_id = id.map(|id| self.redactor.redact(Field::Id, id.bytes()));
            let unmatched = Unmatched { request_id, direction, what, error_code, count };
            self.emit(EventKind::Unmatched(unmatched), step);
        }
    }

    /// Emits the operation of a request of the server, and returns its `seq`. After many that are alike, one operation
    /// is emitted at each doubling; it represents those before it. A server cannot make a person or a model answer
    /// so often.
    pub(super) fn emit_of_server(
        &mut self,
        mut operation: Operation,
        within: ConversationTurn,
        step: &mut Step<'_>,
    ) -> u64 {
        let is_consent = operation.facts.method.asks_consent() && operation.answer.status == Status::Ok;
        if !is_consent {
            let alike = self.losses.alike(&operation);
            match alike.flood.one_more_after(MANY_ALIKE) {
                Some(count) => operation.count = count,
                None => {
                    alike.last = Some(Box::new((operation, within)));
                    return self.seq;
                }
            }
        }
        self.emit_operation(operation, within, step)
    }

    /// Counts bytes that were not observed. They may have held the answers of the open requests.
    pub(crate) fn gap(&mut self, gap: &Gap, step: &mut Step<'_>) {
        let (bytes, newlines) = self.losses.bytes.entry(gap.stream).or_default();
        *bytes += gap.bytes;
        *newlines += gap.newlines;
        self.totals.bytes_lost += gap.bytes;
        if let Some(direction) = Direction::of(gap.stream) {
            self.open.answers_lost(direction.reversed());
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
        for RequestsAlike { mut flood, last, .. } in std::mem::take(&mut self.losses.of_server) {
            if let Some((count, last)) = flood.rest().zip(last) {
                let (mut operation, within) = *last;
                operation.count = count;
                self.emit_operation(operation, within, step);
            }
        }
        for ((direction, what), mut flood) in std::mem::take(&mut self.losses.unmatched) {
            if let Some(count) = flood.rest() {
                let unmatched = Unmatched { request_id: None, direction, what, error_code: None, count };
                self.emit(EventKind::Unmatched(unmatched), step);
            }
        }
        if !self.losses.bytes.is_empty() {
            self.report_lost_bytes(step);
        }
    }
}
