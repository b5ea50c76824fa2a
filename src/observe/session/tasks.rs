//! Tool calls that are answered with a task (2025-11-25, and the tasks extension of 2026-07-28). Such a call stays
//! open until its outcome is seen.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::observe::canonical::Hash;
use crate::observe::envelope::{Envelope, Member};
use crate::observe::event::*;
use crate::observe::mcp::{Content, Method};
use crate::observe::message;
use crate::observe::redact::{Field, Redacted, RedactionCounts};
use crate::observe::session::answer::TEXT_WINDOW;
use crate::observe::session::pending::{OpenTask, Pending};
use crate::observe::session::{Session, Step};
use crate::relay::chunk::Moment;

/// Codes of answers to `tasks/result` that are about the request, not about the task: the task is not known.
const NOT_OF_THE_TASK: [i64; 2] = [-32601, -32602];

/// A result or an error inside a task.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TaskResult<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow, rename = "isError")]
    is_error: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

/// The members of a task, in an answer or in a notification.
struct TaskMembers {
    status: Member,
    status_message: Member,
    result: Member,
    error: Member,
}

const OF_RESULT: TaskMembers = TaskMembers {
    status: Member::ResultStatus,
    status_message: Member::ResultStatusMessage,
    result: Member::ResultResult,
    error: Member::ResultError,
};
const OF_PARAMS: TaskMembers = TaskMembers {
    status: Member::ParamsStatus,
    status_message: Member::ParamsStatusMessage,
    result: Member::ParamsResult,
    error: Member::ParamsError,
};

/// Returns true if `answer`, to the request with these facts, is the outcome of a task: a result or an error of the call
/// that began the task.
pub(super) fn is_outcome(facts: &CallFacts, answer: &CallAnswer) -> bool {
    let CallFacts { method, direction, task_id_hash, .. } = facts;
    *method == Method::TasksResult
        && *direction == Direction::ClientToServer
        && task_id_hash.is_some()
        && match answer.error_type {
            None | Some(ErrorType::ToolError | ErrorType::InvalidResponse) => true,
            Some(ErrorType::Code(code)) => !NOT_OF_THE_TASK.contains(&code),
            Some(_) => false,
        }
}

impl Session {
    /// Keeps a call open whose answer is the handle of a task. Returns the call if the answer is not a handle.
    pub(super) fn keep_task(
        &mut self,
        mut pending: Box<Pending>,
        number: u64,
        answer: &CallAnswer,
        envelope: &Envelope,
        step: &mut Step<'_>,
    ) -> Option<Box<Pending>> {
        let is_task = envelope.has(Member::Task)
            || envelope.raw(Member::ResultType).is_some_and(|raw| raw == b"\"task\"");
        let Some(id) = answer.task_id_hash.filter(|_| {
            is_task && answer.status == Status::Ok && pending.facts.is_tool_call() && pending.task.is_none()
        }) else {
            return Some(pending);
        };
        if let Some(earlier) = self.open.task(id) {
            self.abandon_request(earlier, Status::Unknown, ErrorType::TaskOpen, step);
        }
        self.turns.answered(pending.within.conversation_id.as_ref(), step.now);
        for is_result_seen in [false, true] {
            self.known_tasks.is_new((id, is_result_seen));
        }
        let answer_id = answer.answer_id.clone();
        pending.task = Some(Box::new(OpenTask { id, handle_at: step.now, answer_id, ended: None }));
        self.open.keep(number, pending);
        // The handle may have the outcome.
        self.task_status(id, &OF_RESULT, envelope, step);
        None
    }

    /// Takes what an answer reveals about a task. `answer` is the answer to `pending`.
    pub(super) fn task_answered(
        &mut self,
        pending: &Pending,
        answer: &CallAnswer,
        envelope: &Envelope,
        step: &mut Step<'_>,
    ) {
        let CallFacts { method, direction, task_id_hash, .. } = &pending.facts;
        let is_of_client = *direction == Direction::ClientToServer;
        let Some(&id) = task_id_hash.as_deref().filter(|_| is_of_client) else { return };
        match method {
            Method::Tasks => self.task_status(id, &OF_RESULT, envelope, step),
            Method::TasksResult if is_outcome(&pending.facts, answer) => {
                let result = CallAnswer { answer_id: None, task_result_seen: Some(true), ..answer.clone() };
                self.end_task(id, result, RedactionCounts::default(), step);
            }
            _ => {}
        }
    }

    /// Takes `notifications/tasks` and `notifications/tasks/status` of the server.
    pub(super) fn task_notified(&mut self, direction: Direction, envelope: &Envelope, step: &mut Step<'_>) {
        if direction == Direction::ServerToClient
            && let Some(raw) = envelope.raw(Member::ParamsTaskId)
        {
            let id = self.hashing.raw(&message::text(raw));
            self.task_status(id, &OF_PARAMS, envelope, step);
        }
    }

    /// Takes the status of a task, and its result or error if the message contains one.
    fn task_status(&mut self, id: Hash, members: &TaskMembers, envelope: &Envelope, step: &mut Step<'_>) {
        let number = self.open.task(id);
        let mut redactions = RedactionCounts::default();
        let mut answer = CallAnswer { task_result_seen: Some(false), ..CallAnswer::default() };
        (answer.status, answer.error_type) = match envelope.raw(members.status) {
            Some(b"\"completed\"") => (Status::Ok, None),
            Some(b"\"failed\"") => (Status::Error, Some(ErrorType::TaskFailed)),
            Some(b"\"cancelled\"") => (Status::Cancelled, Some(ErrorType::Cancelled)),
            _ => return,
        };
        let has_result = [members.result, members.error].into_iter().any(|member| is_given(envelope, member));
        if answer.status == Status::Cancelled {
            answer.cancelled_at = Some(step.now);
        } else if has_result {
            self.read_task_result(&mut answer, number, members, envelope, &mut redactions);
        } else {
            let text = envelope.head(members.status_message).map(message::free_text).unwrap_or_default();
            if answer.status == Status::Error {
                let text = String::from_utf8_lossy(&text);
                answer.error_message = self.task_error(number, &text, &mut redactions);
            }
            let Some(number) = number else {
                self.task_of_another_connection(id, answer, redactions, step);
                return;
            };
            if let Some(pending) = self.open.get_mut(number)
                && let Some(task) = pending.task.as_mut().filter(|task| task.ended.is_none())
            {
                task.ended = Some((answer, step.now));
                pending.close_questions(step.now);
                // Entries whose call has ended meanwhile are half of the list at most.
                if self.settling.len() > 2 * self.open.len() {
                    self.settling.retain(|(_, number)| self.open.get(*number).is_some());
                }
                self.settling.push_back((step.now, number));
            }
            return;
        }
        self.end_task(id, answer, redactions, step);
    }

    /// Reads the result or the error that came with the status of a task.
    fn read_task_result(
        &mut self,
        answer: &mut CallAnswer,
        number: Option<u64>,
        members: &TaskMembers,
        envelope: &Envelope,
        redactions: &mut RedactionCounts,
    ) {
        let is_error = is_given(envelope, members.error);
        let member = if is_error { members.error } else { members.result };
        answer.task_result_seen = Some(true);
        answer.size = envelope.size_of(member);
        let Some(raw) = envelope.raw(member) else {
            answer.truncated = true;
            return;
        };
        let inside: TaskResult<'_> = serde_json::from_slice(raw).unwrap_or_default();
        let get = |raw: Option<&'_ RawValue>| raw.map(|raw| raw.get().as_bytes().to_vec());
        let content = get(inside.content).unwrap_or_default();
        let content = Content::new(&content);
        if !is_error && !raw.starts_with(b"{") {
            (answer.status, answer.error_type) = (Status::Error, Some(ErrorType::InvalidResponse));
            return;
        }
        if is_error {
            answer.error_code = get(inside.code).as_deref().and_then(message::integer);
            answer.error_type = Some(answer.error_code.map_or(ErrorType::TaskFailed, ErrorType::Code));
        } else {
            answer.result_hash = Some(self.hashing.raw(raw));
            answer.text_hash = content.only_text().map(|text| self.hashing.raw(text.as_bytes()));
        }
        let is_tool_error = inside.is_error.is_some_and(|raw| raw.get() == "true");
        if is_error || is_tool_error {
            let text = match get(inside.message).filter(|_| is_error) {
                Some(message) => String::from_utf8_lossy(&message::text(&message)).into_owned(),
                None => content.summary(TEXT_WINDOW),
            };
            if is_tool_error {
                answer.error_type = Some(ErrorType::ToolError);
            }
            let refused = answer.error_code.is_some_and(|code| self.settings.denials.codes.contains(&code));
            let refused = refused || self.is_refusal(&text);
            answer.status = if refused { Status::Denied } else { Status::Error };
            answer.error_message = self.task_error(number, &text, redactions);
        }
    }

    /// Redacts the error of a task. Redactions are counted in its call, or in `redactions` without one.
    fn task_error(
        &mut self,
        number: Option<u64>,
        text: &str,
        redactions: &mut RedactionCounts,
    ) -> Option<Redacted> {
        let pending = number.and_then(|number| self.open.get_mut(number));
        let counts = pending.map_or(redactions, |pending| pending.redactions());
        let text = text.as_bytes();
        (!text.is_empty()).then(|| self.redactor.redact_counted(Field::Message, text, counts))
    }

    /// Ends the call of a task now. An outcome without such a call is an event of its own.
    fn end_task(&mut self, id: Hash, answer: CallAnswer, redactions: RedactionCounts, step: &mut Step<'_>) {
        let Some(pending) = self.open.task(id).and_then(|number| self.open.remove(number)) else {
            return self.task_of_another_connection(id, answer, redactions, step);
        };
        // An outcome that was seen before is the end. The result adds to it.
        let ended = pending.task.as_ref().and_then(|task| task.ended.as_ref());
        let at = ended.map_or(step.now, |(_, at)| *at);
        self.complete_task(pending, answer, at, step);
    }

    /// Reports the outcome of a task whose call is in the log of an earlier connection: once, and once more with its
    /// result.
    fn task_of_another_connection(
        &mut self,
        id: Hash,
        answer: CallAnswer,
        redactions: RedactionCounts,
        step: &mut Step<'_>,
    ) {
        let is_result_seen = answer.task_result_seen == Some(true);
        if !self.known_tasks.is_new((id, is_result_seen)) {
            return;
        }
        if is_result_seen {
            // A status that comes later adds nothing.
            self.known_tasks.is_new((id, false));
        }
        self.emit(EventKind::TaskEnded(Box::new(TaskEnded { id, answer, redactions })), step);
    }

    pub(super) fn complete_task(
        &mut self,
        pending: Box<Pending>,
        mut answer: CallAnswer,
        at: Moment,
        step: &mut Step<'_>,
    ) {
        if let Some(task) = &pending.task {
            answer.task_id_hash = Some(task.id);
            answer.answer_id.clone_from(&task.answer_id);
        }
        self.complete(pending, answer, &mut Step { now: at, out: step.out });
    }

    /// Ends the calls whose tasks ended without a result, once it has not followed in time; with `all`, at once.
    pub(super) fn settle_tasks(&mut self, all: bool, step: &mut Step<'_>) {
        while let Some((at, number)) = self.settling.front().copied() {
            if !all && step.now < at.after(self.result_time()) {
                return;
            }
            self.settling.pop_front();
            let ended = self.open.get_mut(number).and_then(|pending| pending.task.as_mut()?.ended.take());
            if let Some((answer, at)) = ended
                && let Some(pending) = self.open.remove(number)
            {
                self.complete_task(pending, answer, at, step);
            }
        }
    }

    /// Returns the moment at which [`Session::settle_tasks`] next has something to do.
    pub(super) fn task_deadline(&self) -> Option<Moment> {
        self.settling.front().map(|(at, _)| at.after(self.result_time()))
    }

    /// Returns how long the result of a task may follow its end.
    fn result_time(&self) -> std::time::Duration {
        self.settings.call_timeout.unwrap_or(self.settings.slow)
    }
}

/// Returns true if the member is present and not null: some servers always write both `result` and `error`.
fn is_given(envelope: &Envelope, member: Member) -> bool {
    envelope.has(member) && envelope.raw(member).is_none_or(|raw| raw != b"null")
}
