//! The state of one connection: pairs requests with answers and emits the events of both.
//!
//! Every request that was observed ends in exactly one operation. If the server sends many requests that are alike,
//! one operation represents many of them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::observe::canonical::Hashing;
use crate::observe::envelope::{Envelope, Member};
use crate::observe::event::*;
use crate::observe::mcp::Method;
use crate::observe::message::{self, MessageKind, RequestId};
use crate::observe::propagation::SharedContext;
use crate::observe::redact::{Field, KeyLines, Redacted, RedactionCounts, Redactor};
use crate::observe::repeats::{CallOutcome, Repeats};
use crate::observe::tools::ToolSet;
use crate::observe::turns::{RecentValues, TurnCounter};
use crate::observe::{DebugOrder, ObserverSettings, ServerEnd};
use crate::relay::chunk::{LineMark, Moment};

mod answer;
mod deadlines;
mod debugging;
mod facts;
mod linted;
mod losses;
mod notification;
mod peers;
mod pending;
mod request_index;
mod rounds;
mod spans;
mod tasks;
mod tools;

use deadlines::Deadlines;
use facts::ReceivedRequest;
use losses::UnreportedLosses;
use notification::{AnsweredRequests, CancelledRequests};
use peers::Peers;
use pending::{OpenRequests, Pending};
use rounds::Rounds;
use spans::SpanAssigner;
use tools::ReportedTools;

/// The moment that is observed, and the sink that takes its events.
pub(super) struct Step<'a> {
    pub(super) now: Moment,
    pub(super) out: &'a mut dyn Sink,
}

/// The conversation and the turn that an event belongs to.
#[derive(Clone)]
struct ConversationTurn {
    conversation_id: Option<Redacted>,
    turn_id: Option<Redacted>,
}

pub(super) struct Session {
    settings: ObserverSettings,
    /// The order of `spantap debug`, until its end.
    debug_order: Option<DebugOrder>,
    redactor: Redactor,
    hashing: Hashing,
    spans: SpanAssigner,
    /// Traces and counts of the pump, if it inserts trace context.
    context: Option<Arc<SharedContext>>,
    seq: u64,
    open: OpenRequests,
    cancelled: CancelledRequests,
    answered: AnsweredRequests,
    deadlines: Deadlines,
    repeats: Repeats,
    turns: TurnCounter,
    /// Conversations and turns that had a tool call.
    turns_with_calls: RecentValues,
    tools: ReportedTools,
    rounds: Rounds,
    peers: Peers,
    losses: UnreportedLosses,
    /// Calls whose tasks have ended, in that order. Their results may still follow.
    settling: VecDeque<(Moment, u64)>,
    /// Tasks of calls of this connection, and outcomes of other tasks, each with whether its result was seen.
    known_tasks: RecentValues,
    first_answer: Option<Moment>,
    spawned: Option<Moment>,
    /// The program that could not be started.
    not_started: Option<Redacted>,
    pub(super) totals: Totals,
}

impl Session {
    pub(super) fn new(settings: ObserverSettings, redactor: Redactor, random: [u8; 32]) -> Session {
        Session {
            hashing: Hashing::new(&settings.hash_key),
            spans: SpanAssigner::new(settings.connection.clone(), random),
            settings,
            debug_order: None,
            redactor,
            context: None,
            seq: 0,
            open: OpenRequests::default(),
            cancelled: CancelledRequests::default(),
            answered: AnsweredRequests::default(),
            deadlines: Deadlines::default(),
            repeats: Repeats::default(),
            turns: TurnCounter::default(),
            turns_with_calls: RecentValues::default(),
            tools: ReportedTools::default(),
            rounds: Rounds::default(),
            peers: Peers::default(),
            losses: UnreportedLosses::default(),
            settling: VecDeque::new(),
            known_tasks: RecentValues::default(),
            first_answer: None,
            spawned: None,
            not_started: None,
            totals: Totals::default(),
        }
    }

    pub(super) fn follow(&mut self, context: Arc<SharedContext>) {
        self.spans.follow(context.series);
        self.context = Some(context);
    }

    pub(super) fn set_mark(&mut self, mark: Option<LineMark>) {
        self.spans.set_mark(mark);
    }

    pub(super) fn hashing(&self) -> &Hashing {
        &self.hashing
    }

    pub(super) fn open_requests(&self) -> impl Iterator<Item = (&CallFacts, Moment)> {
        self.open.from(0).map(|(_, pending)| (&pending.facts, pending.started))
    }

    pub(super) fn arrived(&self) -> u64 {
        self.open.arrived()
    }

    pub(super) fn tools(&self) -> Option<&ToolSet> {
        self.tools.listings.fresh()
    }

    pub(super) fn remember_tools(&mut self, known: Option<ToolSet>) {
        self.tools.listings.remember(known);
    }

    /// Emits an event that belongs to the connection as a whole.
    fn emit(&mut self, kind: EventKind, step: &mut Step<'_>) {
        let conversation_id = self.settings.conversation_id.clone();
        self.emit_in(ConversationTurn { conversation_id, turn_id: None }, kind, step);
    }

    /// Emits an event and returns its `seq`.
    fn emit_in(&mut self, within: ConversationTurn, kind: EventKind, step: &mut Step<'_>) -> u64 {
        let mut seq = self.seq;
        match kind.is_recorded() {
            true => self.seq += 1,
            false => seq = seq.saturating_sub(1),
        }
        let ConversationTurn { conversation_id, turn_id } = within;
        step.out.record(&Event { seq, at: step.now, conversation_id, turn_id, kind });
        seq
    }

    pub(super) fn start(&mut self, started: SessionStarted, step: &mut Step<'_>) {
        self.spawned = Some(started.spawned);
        self.deadlines.last_from_server = started.spawned;
        self.not_started = started.command.first().filter(|_| started.child_pid.is_none()).cloned();
        self.emit(EventKind::SessionStarted(Box::new(started)), step);
    }

    /// Returns why the server could not be started, in words, from the status with which spantap exits.
    fn start_error(&mut self, status: Option<i32>) -> Option<Redacted> {
        let program = self.not_started.as_ref()?;
        let reason = match status {
            Some(127) => "was not found",
            Some(126) => "cannot be executed",
            _ => "could not be started",
        };
        let text = format!("`{program}` {reason}");
        Some(self.redactor.redact(Field::Message, text.as_bytes()))
    }

    /// Takes one message. `bodies` is true if the bodies of the message were hashed.
    pub(super) fn message(
        &mut self,
        direction: Direction,
        envelope: &Envelope,
        bodies: bool,
        step: &mut Step<'_>,
    ) {
        if direction == Direction::ServerToClient {
            self.deadlines.heard_from_server(step.now);
        }
        match message::kind(envelope) {
            MessageKind::Request => self.request(direction, envelope, step),
            MessageKind::Notification => self.notification(direction, envelope, step),
            MessageKind::Response => self.response(direction, envelope, bodies, step),
            MessageKind::Neither => {
                self.malformed(direction.stream(), MalformedReason::NotJsonRpc, envelope.size, step);
            }
        }
    }

    fn request(&mut self, direction: Direction, envelope: &Envelope, step: &mut Step<'_>) {
        let mut request = ReceivedRequest::new(direction, envelope);
        if let Some(number) = self.open.number(direction, request.id.bytes()) {
            self.abandon_request(number, Status::Error, ErrorType::Superseded, step);
        }
        while let Some((oldest, reason)) = self.open.oldest_if_full() {
            self.abandon_request(oldest, Status::Unknown, reason, step);
        }
        self.identify(&request, step);
        let mut facts = self.facts(&mut request, step.now);
        let within = self.conversation_turn(&mut request, step.now);
        // The next round of a call is the same call and is counted once.
        if direction == Direction::ClientToServer && facts.continues.is_none() {
            self.count_repeats(&mut facts, &within, step);
        }
        match facts.is_tool_call() {
            true => self.totals.tool_calls += 1,
            false => self.totals.other_requests += 1,
        }
        let asked_for = facts.method.asks_consent().then(|| self.open.only_tool_call()).flatten();
        if let Some(call) = asked_for.and_then(|number| self.open.get_mut(number)) {
            call.question_asked(step.now);
        }
        self.keep_request(&facts, &within, envelope, step);
        let cursor = tools::cursor(envelope, Member::Cursor);
        let ReceivedRequest { id, meta, redactions, .. } = request;
        let is_tool_call = facts.is_tool_call();
        let mut pending = Pending::new(id, facts, within, redactions, step.now);
        pending.progress_token = meta.progress_token.map(|token| RequestId::new(&token));
        pending.set_cursor(cursor);
        if let Some(call) = asked_for {
            pending.set_asked_for(call);
        }
        self.open.insert(pending);
        if is_tool_call {
            self.open.adopt_questions(step.now);
        }
    }

    /// Ends a request that gets no answer.
    fn abandon_request(&mut self, number: u64, status: Status, error_type: ErrorType, step: &mut Step<'_>) {
        let Some(mut pending) = self.open.remove(number) else { return };
        if let Some((answer, at)) = pending.task.as_mut().and_then(|task| task.ended.take()) {
            // Its outcome was seen, and only its result is missing.
            self.complete_task(pending, answer, at, step);
            return;
        }
        let mut answer = CallAnswer::missing(status, error_type);
        answer.task_result_seen = pending.task.as_ref().map(|_| false);
        self.complete_task(pending, answer, step.now, step);
    }

    /// Emits the one operation of a request and returns its `seq`.
    fn complete(&mut self, pending: Box<Pending>, answer: CallAnswer, step: &mut Step<'_>) -> u64 {
        // A server's requests cost it nothing. The client's are calls, each of which counts.
        let is_of_server = pending.facts.direction == Direction::ServerToClient && pending.task.is_none();
        let (operation, within) = self.settle(pending, answer, step);
        match is_of_server {
            true => self.emit_of_server(operation, within, step),
            false => self.emit_operation(operation, within, step),
        }
    }

    fn emit_operation(&mut self, operation: Operation, within: ConversationTurn, step: &mut Step<'_>) -> u64 {
        self.emit_in(within, EventKind::Operation(Box::new(operation)), step)
    }

    /// Makes the operation of a request, and counts it.
    fn settle(
        &mut self,
        pending: Box<Pending>,
        answer: CallAnswer,
        step: &Step<'_>,
    ) -> (Operation, ConversationTurn) {
        if let Some(call) = pending.asked_for().and_then(|number| self.open.get_mut(number)) {
            call.question_ended(answer.status, step.now);
        }
        if pending.facts.method != Method::Listen && pending.task.is_none() {
            self.turns.answered(pending.within.conversation_id.as_ref(), step.now);
        }
        let (mut operation, within) = pending.finish(answer, self.settings.call_timeout, step.now);
        let Operation { facts, answer, .. } = &operation;
        // The failure of a task counts at its call.
        let counts = facts.direction == Direction::ClientToServer && !tasks::is_outcome(facts, answer);
        match answer.status {
            Status::Error | Status::Timeout if counts => self.totals.errors += 1,
            Status::Denied if counts => self.totals.denied += 1,
            _ => {}
        }
        let ConversationTurn { conversation_id, turn_id } = &within;
        if facts.method == Method::ToolsCall
            && turn_id.is_some()
            && self.turns_with_calls.is_new((conversation_id, turn_id))
        {
            self.totals.turns += 1;
        }
        if let (Some(CallTarget::Tool(tool)), Some(args)) = (&facts.target, facts.args_hash) {
            let key = (within.conversation_id.clone(), tool.clone(), args);
            let error = answer.error_type.filter(|_| answer.status != Status::Unknown);
            let error = || Some(CallOutcome::Error(error?, answer.error_message.clone()));
            self.repeats.answered(&key, answer.result_hash.map(CallOutcome::Result).or_else(error));
        }
        if !self.is_debug(step.now) {
            operation.redactions = RedactionCounts::default();
        }
        (operation, within)
    }

    pub(super) fn stats_sample(&mut self, sample: StatsSample, step: &mut Step<'_>) {
        let answer = self.first_answer.zip(self.spawned);
        let sample = StatsSample {
            in_flight: self.open.len() as u64,
            server_first_answer: answer.map(|(answer, spawned)| answer.since(spawned)),
            ..sample
        };
        self.emit(EventKind::StatsSample(Box::new(sample)), step);
    }

    pub(super) fn stderr_line(&mut self, line: &[u8], size: u64, step: &mut Step<'_>) {
        let mut redactions = RedactionCounts::default();
        let line = self.redactor.redact_counted(Field::StderrLine, line, &mut redactions);
        self.emit(EventKind::ServerStderr(ServerStderr { line, size, redactions }), step);
    }

    /// Ends every open request as `unknown`, because the observer failed and may have missed answers.
    pub(super) fn abandon_all(&mut self, step: &mut Step<'_>) {
        self.settle_tasks(true, step);
        for number in self.open.numbers() {
            self.abandon_request(number, Status::Unknown, ErrorType::Gap, step);
        }
    }

    /// Emits the last events of the connection. `key_lines` is the state before `stderr_tail`.
    pub(super) fn end(
        &mut self,
        end: ServerEnd,
        key_lines: KeyLines,
        stderr_tail: Vec<Vec<u8>>,
        step: &mut Step<'_>,
    ) {
        self.settle_tasks(true, step);
        for number in self.open.numbers() {
            let Some((status, error_type)) = self.open.end_without_answer(number, end.reason) else {
                continue;
            };
            self.abandon_request(number, status, error_type, step);
        }
        self.end_listings(step);
        self.report_remaining(step);
        let clean = end.reason == EndReason::ServerExited && end.exit_code == Some(0);
        self.redactor.resume(key_lines);
        let stderr_tail = match clean {
            true => Vec::new(),
            false => stderr_tail.iter().map(|line| self.redactor.redact(Field::StderrLine, line)).collect(),
        };
        self.totals.catch_ups = end.catch_ups;
        self.totals.observer_panics = end.observer_panics;
        self.totals.trace_context = self.context.as_ref().map(|context| context.counts());
        let ended = SessionEnded {
            reason: end.reason,
            exit_code: end.exit_code,
            signal: end.signal,
            orphan_killed: end.orphan_killed,
            totals: self.totals.clone(),
            start_error: self.start_error(end.exit_code),
            stderr_tail,
        };
        self.emit(EventKind::SessionEnded(Box::new(ended)), step);
    }
}
