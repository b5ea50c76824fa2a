//! Open requests.
//!
//! They are found by the side that sent them and by id, because before the 2026-07-28 revision both
//! sides send requests and both count ids from zero. Their number and their memory are bounded.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use crate::observe::canonical::Hash;
use crate::observe::event::*;
use crate::observe::mcp::Method;
use crate::observe::message::RequestId;
use crate::observe::redact::{Redacted, RedactionCounts};
use crate::observe::session::ConversationTurn;
use crate::observe::session::request_index::RequestIndex;
use crate::observe::tools::PageCursor;
use crate::relay::chunk::Moment;

/// Requests that may be open at the same time. If more are unanswered, the oldest one ends as `evicted`.
const MAX_PENDING: usize = 16_384;
/// If so many requests are open and the answer of the oldest one may have been lost, it ends as `gap`.
const MAX_MAYBE_LOST: usize = 4096;
/// Bytes of the texts of open requests. If there are more, the oldest request ends as `evicted`.
const MAX_PENDING_TEXT: usize = 8 << 20;

/// Open questions to a person that are remembered for the next call. If there are more, the oldest one is forgotten.
const MAX_QUESTIONS: usize = 64;

/// An open request. Thousands may be open, so what few of them have is boxed.
pub(super) struct Pending {
    pub(super) id: RequestId,
    pub(super) facts: CallFacts,
    pub(super) started: Moment,
    pub(super) within: ConversationTurn,
    pub(super) progress_token: Option<RequestId>,
    /// The task with which this call was answered.
    pub(super) task: Option<Box<OpenTask>>,
    extras: Option<Box<Extras>>,
}

/// So [`MAX_PENDING`] requests take 6 MiB, and their texts and indexes about 3.
const _: () = assert!(size_of::<Pending>() <= 400);

/// Facts that few open requests have.
#[derive(Default)]
struct Extras {
    /// When the request was first reported as pending.
    pending_at: Option<Moment>,
    progress: Option<CallProgress>,
    questions: Questions,
    /// For a question to a person: the number of the tool call that it probably belongs to.
    asked_for: Option<u64>,
    /// The cursor in a `tools/list`.
    cursor: Option<PageCursor>,
    redactions: RedactionCounts,
}

/// The task of an open call.
pub(super) struct OpenTask {
    pub(super) id: Hash,
    pub(super) handle_at: Moment,
    /// The spelling of the call's id in the handle.
    pub(super) answer_id: Option<Redacted>,
    /// How the task ended, if its result may still follow.
    pub(super) ended: Option<(CallAnswer, Moment)>,
}

/// The questions to a person that were open while a call was the only open tool call.
#[derive(Clone, Copy, Default)]
struct Questions {
    open: u32,
    /// When the first of the open questions was asked.
    since: Moment,
    /// Time for which questions were open, up to `since`.
    waited: Duration,
    /// True if the person refused the last question that was answered.
    declined: bool,
}

impl Questions {
    fn asked(&mut self, now: Moment) {
        if self.open == 0 {
            self.since = now;
        }
        self.open += 1;
    }

    /// Takes the end of a question. One that was not answered leaves the last answer as it is.
    fn ended(&mut self, status: Status, now: Moment) {
        if self.open == 0 {
            return;
        }
        self.open -= 1;
        if self.open == 0 {
            self.waited += now.since(self.since);
        }
        self.declined = match status {
            Status::Denied => true,
            Status::Ok => false,
            _ => self.declined,
        };
    }

    /// Takes the end of the call, after which its questions do not count.
    fn close(&mut self, now: Moment) {
        self.waited = self.waited(now);
        self.open = 0;
    }

    /// Returns the time for which questions were open until `now`.
    fn waited(&self, now: Moment) -> Duration {
        self.waited + if self.open > 0 { now.since(self.since) } else { Duration::ZERO }
    }
}

impl Pending {
    /// Makes a request that begins now. `redactions` counts what was replaced in its texts.
    pub(super) fn new(
        id: RequestId,
        facts: CallFacts,
        within: ConversationTurn,
        redactions: RedactionCounts,
        now: Moment,
    ) -> Pending {
        let extras = (!redactions.is_empty()).then(|| Box::new(Extras { redactions, ..Extras::default() }));
        Pending { id, facts, started: now, within, progress_token: None, task: None, extras }
    }

    fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    /// Returns the counts of what was replaced in the texts of this request and of its answer.
    pub(super) fn redactions(&mut self) -> &mut RedactionCounts {
        &mut self.extras().redactions
    }

    /// Takes the cursor of a `tools/list`.
    pub(super) fn set_cursor(&mut self, cursor: Option<PageCursor>) {
        if cursor.is_some() {
            self.extras().cursor = cursor;
        }
    }

    pub(super) fn cursor(&self) -> Option<PageCursor> {
        self.extras.as_ref()?.cursor
    }

    /// Takes note of the first report that this request is pending.
    pub(super) fn reported_pending(&mut self, now: Moment) {
        self.extras().pending_at = Some(now);
    }

    /// Counts a report of progress.
    pub(super) fn progressed(&mut self, now: Moment) {
        let progress = self.extras().progress.get_or_insert(CallProgress { count: 0, first: now, last: now });
        progress.count += 1;
        progress.last = now;
    }

    /// Takes note that this question to a person probably belongs to the tool call with this number.
    pub(super) fn set_asked_for(&mut self, call: u64) {
        self.extras().asked_for = Some(call);
    }

    pub(super) fn asked_for(&self) -> Option<u64> {
        self.extras.as_ref()?.asked_for
    }

    /// Takes note of a question to a person while this call is the only open one.
    pub(super) fn question_asked(&mut self, now: Moment) {
        self.extras().questions.asked(now);
    }

    /// Takes the end of such a question.
    pub(super) fn question_ended(&mut self, status: Status, now: Moment) {
        self.extras().questions.ended(status, now);
    }

    /// Takes the end of the call, after which its questions do not count.
    pub(super) fn close_questions(&mut self, now: Moment) {
        if let Some(extras) = &mut self.extras {
            extras.questions.close(now);
        }
    }

    /// Returns the bytes of the texts that this request keeps. A text that it shares with other requests counts
    /// each time.
    fn text_size(&self) -> usize {
        let CallFacts {
            request_id,
            method_name,
            target,
            protocol_version,
            jsonrpc_version,
            call_id,
            model,
            span,
            ..
        } = &self.facts;
        let token = self.progress_token.as_ref().map_or(0, |token| token.bytes().len());
        let optional = [protocol_version, jsonrpc_version, call_id, model, &span.trace_state];
        let texts = optional.into_iter().flatten().chain(target.as_ref().map(CallTarget::text));
        let texts = texts.chain(&self.within.conversation_id).chain(&self.within.turn_id);
        let texts = texts.chain([request_id, method_name]);
        2 * (self.id.bytes().len() + token) + texts.map(|text| text.as_str().len()).sum::<usize>()
    }

    /// Makes the operation of this request. An error after a refused question is a denial, and an
    /// answer later than `call_timeout` is a timeout.
    pub(super) fn finish(
        self,
        mut answer: CallAnswer,
        call_timeout: Option<Duration>,
        now: Moment,
    ) -> (Operation, ConversationTurn) {
        let Pending { facts, started, within, task, extras, .. } = self;
        let Extras { pending_at, progress, questions, redactions, .. } =
            extras.map(|extras| *extras).unwrap_or_default();
        if questions.declined && answer.status == Status::Error {
            answer.status = Status::Denied;
        }
        // A request is not late if it was cancelled, if its answer was not observed, if it became a task, or if its
        // method waits for a person or an event.
        let can_be_late = !matches!(answer.status, Status::Cancelled | Status::Unknown)
            && !facts.method.waits_by_design()
            && task.is_none();
        if can_be_late && call_timeout.is_some_and(|limit| now.since(started) > limit) {
            answer.status = Status::Timeout;
            answer.error_type = Some(ErrorType::Timeout);
        }
        let ended = now.max(started);
        let timing = CallTiming {
            started,
            ended,
            pending_at,
            progress,
            user_wait: questions.waited(now).min(ended.since(started)),
            task_handle: task.map(|task| task.handle_at),
        };
        (Operation { facts, answer, timing, count: 1, redactions }, within)
    }

    /// Returns how this request ends if the connection ends before the answer, of which bytes may have been lost.
    fn end_without_answer(&self, reason: EndReason, maybe_lost: bool) -> (Status, ErrorType) {
        let is_to_server = self.facts.direction == Direction::ClientToServer;
        if maybe_lost {
            (Status::Unknown, ErrorType::Gap)
        } else if self.task.is_some() {
            (Status::Unknown, ErrorType::TaskOpen)
        } else if is_to_server && reason == EndReason::ServerDied {
            (Status::Error, ErrorType::ServerExited)
        } else if self.facts.method == Method::Listen {
            // A subscription lasts as long as the connection.
            (Status::Cancelled, ErrorType::Cancelled)
        } else {
            (Status::Error, ErrorType::Unanswered)
        }
    }
}

/// The open requests of both sides, numbered in the order in which they arrived.
#[derive(Default)]
pub(super) struct OpenRequests {
    by_number: BTreeMap<u64, Box<Pending>>,
    /// One table for each [`Direction`].
    by_id: [RequestIndex; 2],
    by_progress_token: [RequestIndex; 2],
    /// Numbers of questions to a person.
    questions: VecDeque<u64>,
    /// Calls of the client that were answered with a task, by the digest of its id.
    by_task: HashMap<[u8; 32], u64>,
    next_number: u64,
    /// For each direction of requests: bytes that may have held the answer were lost if the number is below this one.
    answers_lost_before: [u64; 2],
    /// Bytes of the texts in `by_number`.
    text: usize,
}

impl OpenRequests {
    pub(super) fn insert(&mut self, pending: Pending) {
        let number = self.next_number;
        let side = pending.facts.direction as usize;
        self.next_number += 1;
        self.text += pending.text_size();
        if let Some(token) = &pending.progress_token {
            self.by_progress_token[side].insert(token, number);
        }
        self.by_id[side].insert(&pending.id, number);
        if pending.facts.method.asks_consent() {
            self.questions.truncate(MAX_QUESTIONS - 1);
            self.questions.push_front(number);
        }
        self.by_number.insert(number, Box::new(pending));
    }

    /// Takes a request out of all tables.
    pub(super) fn remove(&mut self, number: u64) -> Option<Box<Pending>> {
        let mut pending = self.by_number.remove(&number)?;
        let side = pending.facts.direction as usize;
        self.text -= pending.text_size();
        self.by_id[side].remove(&pending.id, number);
        // A token that a later request has named is lost to this one permanently.
        pending.progress_token.take_if(|token| !self.by_progress_token[side].remove(token, number));
        if let Some(task) = &pending.task {
            self.by_task.remove(&task.id.digest);
        }
        if pending.facts.method.asks_consent() {
            self.questions.retain(|question| *question != number);
        }
        Some(pending)
    }

    /// Takes a removed call back under its number, now that it is found by its task. Its id may be used again.
    pub(super) fn keep(&mut self, number: u64, pending: Box<Pending>) {
        self.text += pending.text_size();
        if let Some(token) = &pending.progress_token {
            self.by_progress_token[pending.facts.direction as usize].insert(token, number);
        }
        if let Some(task) = &pending.task {
            self.by_task.insert(task.id.digest, number);
        }
        self.by_number.insert(number, pending);
    }

    /// Returns the number of the open call of this task.
    pub(super) fn task(&self, id: Hash) -> Option<u64> {
        self.by_task.get(&id.digest).copied()
    }

    /// Returns the number of the request that `direction` sent under exactly the id with these bytes.
    pub(super) fn number(&self, direction: Direction, id: &[u8]) -> Option<u64> {
        self.by_id[direction as usize].exact(id)
    }

    /// Returns the number of the only request of `direction` whose id has the value of the id with these bytes.
    pub(super) fn only_of_value(&self, direction: Direction, id: &[u8]) -> Option<u64> {
        self.by_id[direction as usize].only_of_value(id)
    }

    pub(super) fn get(&self, number: u64) -> Option<&Pending> {
        self.by_number.get(&number).map(|pending| &**pending)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Pending> {
        self.by_number.get_mut(&number).map(|pending| &mut **pending)
    }

    /// Returns the request of `direction` that named this token, or the only one that named a token of equal value.
    pub(super) fn by_progress_token(&mut self, direction: Direction, token: &[u8]) -> Option<&mut Pending> {
        let tokens = &self.by_progress_token[direction as usize];
        let number = tokens.exact(token).or_else(|| tokens.only_of_value(token))?;
        self.get_mut(number)
    }

    /// Takes note that bytes were lost that may have held the answers of all open requests of `direction`.
    pub(super) fn answers_lost(&mut self, direction: Direction) {
        self.answers_lost_before[direction as usize] = self.next_number;
    }

    /// Returns how an open request ends if the connection ends before the answer.
    pub(super) fn end_without_answer(&self, number: u64, reason: EndReason) -> Option<(Status, ErrorType)> {
        let pending = self.get(number)?;
        Some(pending.end_without_answer(reason, self.is_maybe_lost(number, pending)))
    }

    /// Returns true if bytes were lost that may have held the answer of this request.
    fn is_maybe_lost(&self, number: u64, pending: &Pending) -> bool {
        number < self.answers_lost_before[pending.facts.direction as usize]
    }

    /// Returns the number of requests that have arrived.
    pub(super) fn arrived(&self) -> u64 {
        self.next_number
    }

    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    pub(super) fn numbers(&self) -> Vec<u64> {
        self.by_number.keys().copied().collect()
    }

    /// Returns the requests from `number` on, oldest first.
    pub(super) fn from(&self, number: u64) -> impl Iterator<Item = (u64, &Pending)> {
        self.by_number.range(number..).map(|(number, pending)| (*number, &**pending))
    }

    /// Returns the request that has to go before another one is taken, and the reason.
    pub(super) fn oldest_if_full(&self) -> Option<(u64, ErrorType)> {
        let (number, oldest) = self.by_number.first_key_value()?;
        let count = self.by_number.len();
        if count >= MAX_MAYBE_LOST && self.is_maybe_lost(*number, oldest) {
            return Some((*number, ErrorType::Gap));
        }
        let is_full = count >= MAX_PENDING || self.text > MAX_PENDING_TEXT;
        is_full.then_some((*number, ErrorType::Evicted))
    }

    /// Counts the open questions for the tool call that has just arrived, if it is the only open one.
    pub(super) fn adopt_questions(&mut self, now: Moment) {
        if self.questions.is_empty() {
            return;
        }
        let Some(call) = self.only_tool_call() else { return };
        for question in self.questions.clone() {
            if let Some(pending) = self.get_mut(question) {
                pending.set_asked_for(call);
                self.get_mut(call).into_iter().for_each(|call| call.question_asked(now));
            }
        }
    }

    /// Returns the number of the open tool call, if exactly one is open.
    pub(super) fn only_tool_call(&self) -> Option<u64> {
        let is_running = |pending: &Pending| pending.task.as_ref().is_none_or(|task| task.ended.is_none());
        let mut calls =
            self.from(0).filter(|(_, pending)| pending.facts.is_tool_call() && is_running(pending));
        match (calls.next(), calls.next()) {
            (Some((number, _)), None) => Some(number),
            _ => None,
        }
    }
}
