//! Everything that is not a message: peers, time, loss, and the end.

use std::time::Duration;

use crate::observe::envelope::{Envelope, Member};
use crate::observe::event::*;
use crate::observe::mcp::{Meta, Method, Peer};
use crate::observe::redact::{Field, KeyLines};
use crate::observe::session::{Peers, Pending, Session};
use crate::observe::{Debug, ServerEnd};
use crate::relay::chunk::{Gap, Moment, Stream};

/// A call that has been open for this many times `--slow` is reported again.
const HUNG: u32 = 10;
/// Lost bytes are told at most this often.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);

impl Session {
    /// What a request tells about the client.
    pub(super) fn identify(
        &mut self,
        direction: Direction,
        method: Method,
        envelope: &Envelope,
        meta: &Meta,
        at: Moment,
        sink: &mut dyn Sink,
    ) {
        if direction != Direction::ClientToServer {
            return;
        }
        if method == Method::Initialize {
            let parse = |member| {
                envelope.raw(member).and_then(|raw| serde_json::from_slice::<serde_json::Value>(raw).ok())
            };
            self.peers.client = parse(Member::ClientInfo).and_then(|info| Peer::new(&info));
            // What is asked for counts until the answer says what it is.
            self.peers.version =
                parse(Member::ParamsProtocolVersion).and_then(|text| text.as_str().map(str::to_owned));
        }
        if meta.client.is_some() {
            self.peers.client.clone_from(&meta.client);
        }
        if let Some(version) = &meta.protocol_version {
            self.peers.version = Some(version.clone());
        }
        // With a handshake the answer completes the picture; without one this is all there is.
        if method != Method::Initialize {
            self.tell_peers(at, sink);
        }
    }

    /// Emits `peer_identified` when what is known has changed.
    pub(super) fn tell_peers(&mut self, at: Moment, sink: &mut dyn Sink) {
        let Peers { client, server, version, told } = &self.peers;
        let nothing = client.is_none() && server.is_none() && version.is_none();
        let same = told.as_ref().is_some_and(|told| (&told.0, &told.1, &told.2) == (client, server, version));
        if nothing || same {
            return;
        }
        let known = (client.clone(), server.clone(), version.clone());
        let (client, server, version) = &known;
        let mut redact =
            |text: Option<&String>| text.map(|text| self.redactor.redact(Field::Name, text.as_bytes()));
        let of = |peer: &Option<Peer>| peer.clone().unwrap_or_default();
        let (client, server) = (of(client), of(server));
        let identified = PeerIdentified {
            client_name: redact(client.name.as_ref()),
            client_version: redact(client.version.as_ref()),
            server_name: redact(server.name.as_ref()),
            server_version: redact(server.version.as_ref()),
            protocol_version: redact(version.as_ref()),
        };
        self.peers.told = Some(known);
        self.emit(at, Kind::PeerIdentified(Box::new(identified)), sink);
    }

    /// Reports what hangs, and lets debug end.
    pub(crate) fn tick(&mut self, now: Moment, sink: &mut dyn Sink) {
        if let Debug::Until(end) = self.settings.debug
            && now >= end
        {
            self.settings.debug = Debug::Off;
            self.emit(now, Kind::DebugEnded, sink);
        }
        let (slow, hung) = (self.settings.slow, self.settings.slow.saturating_mul(HUNG));
        for number in self.due(self.slow_cursor, slow, now) {
            self.slow_cursor = number + 1;
            self.report_pending(number, true, now, sink);
        }
        for number in self.due(self.hung_cursor, hung, now) {
            self.hung_cursor = number + 1;
            self.report_pending(number, false, now, sink);
        }
        if self.lost_reported.is_some_and(|last| now.since(last) >= LOSS_INTERVAL) {
            self.tell_lost(now, sink);
        }
    }

    /// Open requests from `cursor` on that have been open for `limit`. They stand in the order in which
    /// they began.
    fn due(&self, cursor: u64, limit: Duration, now: Moment) -> Vec<u64> {
        let open = self.pending.range(cursor..);
        open.take_while(|(_, pending)| now.since(pending.started) >= limit)
            .map(|(number, _)| *number)
            .collect()
    }

    fn report_pending(&mut self, number: u64, first: bool, now: Moment, sink: &mut dyn Sink) {
        let in_flight = self.pending.len() as u64;
        let silent = self.last_from_server;
        let Some(pending) = self.pending.get_mut(&number) else { return };
        if pending.method.waits_by_design() {
            return;
        }
        if first {
            pending.pending_at = Some(now);
        }
        let report = Box::new(describe(pending, now, in_flight));
        let (conversation, turn) = (pending.conversation.clone(), pending.turn.clone());
        let asked_server = pending.direction == Direction::ClientToServer;
        let unresponsive = asked_server && silent <= pending.started && !self.silence_reported;
        self.emit_in(conversation.clone(), turn.clone(), now, Kind::CallPending(report.clone()), sink);
        if unresponsive {
            self.silence_reported = true;
            self.emit_in(conversation, turn, now, Kind::ServerUnresponsive(report), sink);
        }
    }

    /// When [`Session::tick`] next has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        let slow = self.settings.slow;
        let due = |cursor, limit| {
            self.pending.range(cursor..).next().map(|(_, pending)| pending.started.after(limit))
        };
        let debug = match self.settings.debug {
            Debug::Until(end) => Some(end),
            Debug::Off | Debug::On => None,
        };
        let lost = self.lost_reported.filter(|_| !self.lost.is_empty()).map(|last| last.after(LOSS_INTERVAL));
        [due(self.slow_cursor, slow), due(self.hung_cursor, slow.saturating_mul(HUNG)), debug, lost]
            .into_iter()
            .flatten()
            .min()
    }

    /// A line that is no message. Floods are told at each doubling.
    pub(crate) fn malformed(
        &mut self,
        stream: Stream,
        reason: MalformedReason,
        size: u64,
        at: Moment,
        sink: &mut dyn Sink,
    ) {
        self.totals.malformed += 1;
        let (flood, last_size) = self.malformed.entry((stream, reason)).or_default();
        *last_size = size;
        if let Some(count) = flood.one_more() {
            self.emit(at, Kind::Malformed(Malformed { stream, count, size, reason }), sink);
        }
    }

    /// Bytes were not observed: what is open may have been answered in them.
    pub(crate) fn gap(&mut self, gap: &Gap, at: Moment, sink: &mut dyn Sink) {
        let lost = self.lost.entry(gap.stream).or_default();
        lost.0 += gap.bytes;
        lost.1 += gap.newlines;
        self.totals.bytes_lost += gap.bytes;
        if let Some(direction) = Direction::of(gap.stream) {
            let answered = |pending: &&mut Box<Pending>| pending.direction == direction.reversed();
            self.pending.values_mut().filter(answered).for_each(|pending| pending.maybe_lost = true);
        }
        if self.lost_reported.is_none_or(|last| at.since(last) >= LOSS_INTERVAL) {
            self.tell_lost(at, sink);
        }
    }

    fn tell_lost(&mut self, at: Moment, sink: &mut dyn Sink) {
        for (stream, (bytes, frames)) in std::mem::take(&mut self.lost) {
            let lost = Lost {
                place: LossPlace::Tap,
                stream: Some(stream),
                bytes,
                frames,
                records: 0,
                reason: "overload",
            };
            self.emit(at, Kind::Gap(lost), sink);
        }
        self.lost_reported = Some(at);
    }

    pub(crate) fn lost_records(&mut self, lost: Lost, at: Moment, sink: &mut dyn Sink) {
        self.emit(at, Kind::Gap(lost), sink);
    }

    pub(crate) fn pulse(&mut self, pulse: Pulse, at: Moment, sink: &mut dyn Sink) {
        let answer = self.first_answer.zip(self.spawned);
        let pulse = Pulse {
            in_flight: self.pending.len() as u64,
            server_first_answer: answer.map(|(answer, spawned)| answer.since(spawned)),
            ..pulse
        };
        self.emit(at, Kind::Pulse(Box::new(pulse)), sink);
    }

    pub(crate) fn stderr_line(&mut self, line: &[u8], size: u64, at: Moment, sink: &mut dyn Sink) {
        self.redactor.take_counts();
        let line = self.redactor.redact(Field::StderrLine, line);
        let stderr = ServerStderr { line, size, redactions: self.redactor.take_counts() };
        self.emit(at, Kind::ServerStderr(stderr), sink);
    }

    /// Every open request ends as `unknown`: the observer failed and may have lost its place.
    pub(crate) fn forget_open(&mut self, at: Moment, sink: &mut dyn Sink) {
        let open: Vec<u64> = self.pending.keys().copied().collect();
        for number in open {
            self.give_up(number, at, Status::Unknown, ErrorType::Gap, sink);
        }
    }

    /// The last events of the connection.
    pub(crate) fn end(
        &mut self,
        end: ServerEnd,
        stderr_state: KeyLines,
        stderr_tail: Vec<Vec<u8>>,
        sink: &mut dyn Sink,
    ) {
        let open: Vec<u64> = self.pending.keys().copied().collect();
        for number in open {
            let Some(pending) = self.pending.get(&number) else { continue };
            let exited =
                pending.direction == Direction::ClientToServer && end.reason == EndReason::ServerDied;
            let (status, error_type) = match (pending.maybe_lost, pending.method == Method::Listen, exited) {
                (true, ..) => (Status::Unknown, ErrorType::Gap),
                (_, _, true) => (Status::Error, ErrorType::ServerExited),
                // A subscription lasts as long as the connection.
                (_, true, _) => (Status::Cancelled, ErrorType::Cancelled),
                _ => (Status::Error, ErrorType::Unanswered),
            };
            self.give_up(number, end.at, status, error_type, sink);
        }
        for ((stream, reason), (mut flood, size)) in std::mem::take(&mut self.malformed) {
            if let Some(count) = flood.rest() {
                self.emit(end.at, Kind::Malformed(Malformed { stream, count, size, reason }), sink);
            }
        }
        if let Some(count) = self.unmatched.rest() {
            let direction = Direction::ServerToClient;
            let what = UnmatchedKind::Response;
            let unmatched = Unmatched { request_id: None, direction, what, error_code: None, count };
            self.emit(end.at, Kind::Unmatched(unmatched), sink);
        }
        if !self.lost.is_empty() {
            self.tell_lost(end.at, sink);
        }
        let clean = end.reason == EndReason::ServerExited && end.exit_code == Some(0);
        self.redactor.resume(stderr_state);
        let stderr_tail = match !clean {
            true => stderr_tail.iter().map(|line| self.redactor.redact(Field::StderrLine, line)).collect(),
            false => Vec::new(),
        };
        self.totals.turns = self.turns.count;
        self.totals.catch_ups = end.catch_ups;
        self.totals.observer_panics = end.observer_panics;
        let ended = SessionEnded {
            reason: end.reason,
            exit_code: end.exit_code,
            signal: end.signal,
            totals: self.totals.clone(),
            stderr_tail,
        };
        self.emit(end.at, Kind::SessionEnded(Box::new(ended)), sink);
    }

    /// A frame whose line was cut by lost bytes.
    pub(crate) fn cut(&mut self, direction: Direction, size: u64, at: Moment, sink: &mut dyn Sink) {
        self.malformed(direction.stream(), MalformedReason::Partial, size, at, sink);
    }
}

fn describe(pending: &Pending, now: Moment, in_flight: u64) -> PendingCall {
    PendingCall {
        request_id: pending.request_id.clone(),
        direction: pending.direction,
        method: pending.method_name.clone(),
        target: pending.target.clone(),
        started: pending.started,
        open_for: now.since(pending.started),
        in_flight,
        span: pending.span.clone(),
    }
}
