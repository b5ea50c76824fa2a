//! Answers: how they end their request, and what they change in the state of the connection.

use crate::observe::canonical::Hash;
use crate::observe::envelope::{Envelope, Member};
use crate::observe::error_words;
use crate::observe::event::*;
use crate::observe::mcp::{Content, Method};
use crate::observe::message::{self, RequestId};
use crate::observe::redact::{Field, Redacted, RedactionCounts};
use crate::observe::result_limits;
use crate::observe::session::pending::Pending;
use crate::observe::session::{Session, Step};

/// Bytes of a result's text that are read for a summary or an error message: more than is kept, so
/// that the redactor sees a secret at the cut as a whole.
pub(super) const TEXT_WINDOW: usize = 500 + (4 << 10);

/// The code by which a server asks for an action at a URL before the request can be processed (MCP 2025-11-25). Its
/// message speaks of authorization, but the request was not refused: the client sends it again afterwards.
const URL_ELICITATION_REQUIRED: i64 = -32042;

impl CallAnswer {
    /// Returns the answer of a request that was not answered.
    pub(super) fn missing(status: Status, error_type: ErrorType) -> CallAnswer {
        CallAnswer { status, error_type: Some(error_type), ..CallAnswer::default() }
    }
}

impl Session {
    pub(super) fn response(
        &mut self,
        direction: Direction,
        envelope: &Envelope,
        bodies: bool,
        step: &mut Step<'_>,
    ) {
        let asker = direction.reversed();
        let raw_id = envelope.head(Member::Id).filter(|raw| *raw != b"null");
        let id = raw_id.map(RequestId::normal);
        let number = id.as_deref().and_then(|id| self.answered_request(asker, id));
        let Some(mut pending) = number.and_then(|number| self.open.remove(number)) else {
            if !id.as_deref().is_some_and(|id| self.cancelled.remove(asker, id)) {
                let what = if envelope.has_error() { UnmatchedKind::Error } else { UnmatchedKind::Response };
                let id = id.as_deref().map(RequestId::new);
                self.unmatched(direction, id.as_ref(), what, error_code(envelope), step);
            }
            return;
        };
        self.answered.insert(asker, &pending.id);
        if direction == Direction::ServerToClient {
            self.first_answer.get_or_insert(step.now);
        }
        self.keep_response(&pending, envelope, step);
        self.update_state(&pending, envelope, step);
        let content = Session::content(&pending, envelope);
        let mut answer = self.answer(&mut pending, envelope, &content);
        if let Some(id) = id.as_deref().filter(|id| *id != pending.id.bytes()) {
            answer.answer_id = Some(self.redactor.redact_counted(Field::Id, id, pending.redactions()));
        }
        let Some(pending) =
            number.and_then(|number| self.keep_task(pending, number, &answer, envelope, step))
        else {
            return;
        };
        answer.truncated = !bodies && envelope.result_size.is_some();
        answer.text_hash = content.only_text().map(|text| self.hashing.raw(text.as_bytes()));
        if self.is_debug(step.now) && pending.facts.is_tool_call() {
            self.summarise(&pending, &content, answer.result_hash, step);
        }
        self.task_answered(&pending, &answer, envelope, step);
        self.lint_result(&pending.facts, &answer, envelope, step);
        let asks_again = envelope.raw(Member::ResultType).is_some_and(|raw| raw == b"\"input_required\"");
        let CallFacts { method, target, span, .. } = &pending.facts;
        let (trace_id, span_id) = (span.trace_id, span.span_id);
        let asked = asks_again.then(|| (*method, target.as_ref().map(|target| target.text().clone())));
        let seq = self.complete(pending, answer, step);
        if let Some((method, target)) = asked {
            self.rounds.asked(Round { seq, trace_id, span_id }, method, target, envelope, &self.hashing);
        }
    }

    /// Returns the open request that an answer with this id ends: the one with exactly this id, or else the only
    /// one whose id has the same value, because SDKs compare `Number(id)` or `int(id)`.
    fn answered_request(&self, asker: Direction, id: &[u8]) -> Option<u64> {
        self.open.number(asker, id).or_else(|| {
            let is_late = self.cancelled.contains(asker, id);
            (!is_late).then(|| self.open.only_of_value(asker, id)).flatten()
        })
    }

    /// Parses the content of a tool's result. For other methods the content is empty.
    fn content<'a>(pending: &Pending, envelope: &'a Envelope) -> Content<'a> {
        match envelope.raw(Member::Content) {
            Some(raw) if matches!(pending.facts.method, Method::ToolsCall | Method::TasksResult) => {
                Content::new(raw)
            }
            _ => Content::default(),
        }
    }

    /// Reads the answer. Redactions in its message are counted in `pending`.
    fn answer(&mut self, pending: &mut Pending, envelope: &Envelope, content: &Content<'_>) -> CallAnswer {
        let method = pending.facts.method;
        let mut answer = CallAnswer {
            status: Status::Ok,
            size: envelope.result_size.or(envelope.error_size),
            over_limit: self.exceeded_limit(pending, envelope),
            result_hash: envelope.result_hash,
            task_id_hash: self.task_id(envelope),
            ..CallAnswer::default()
        };
        if envelope.has_error() {
            let text = envelope.head(Member::ErrorMessage).map(message::free_text).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            answer.error_code = error_code(envelope);
            answer.error_type = Some(answer.error_code.map_or(ErrorType::InvalidResponse, ErrorType::Code));
            let code = answer.error_code.unwrap_or_default();
            let refused = self.settings.denials.codes.contains(&code)
                || (code != URL_ELICITATION_REQUIRED && self.is_refusal(&text));
            answer.status = if refused { Status::Denied } else { Status::Error };
            answer.error_message = self.error_message(pending, &text);
        } else if envelope.is_invalid_result() {
            (answer.status, answer.error_type) = (Status::Error, Some(ErrorType::InvalidResponse));
        } else if envelope.raw(Member::IsError).is_some_and(|raw| raw == b"true") {
            let text = content.summary(TEXT_WINDOW);
            answer.error_type = Some(ErrorType::ToolError);
            answer.status = if self.is_refusal(&text) { Status::Denied } else { Status::Error };
            answer.error_message = self.error_message(pending, &text);
        } else if method == Method::Elicitation {
            (answer.status, answer.error_type) = match envelope.raw(Member::Action) {
                Some(b"\"decline\"") => (Status::Denied, Some(ErrorType::Declined)),
                // "The user dismissed without making an explicit choice" (MCP): the person did not say no.
                Some(b"\"cancel\"") => (Status::Cancelled, Some(ErrorType::Dismissed)),
                _ => (answer.status, answer.error_type),
            };
        }
        if method == Method::Sampling && answer.error_code == Some(-1) {
            answer.status = Status::Denied;
            answer.error_type = Some(ErrorType::Declined);
        }
        answer
    }

    /// Returns the limit for results of tools, if this one is longer.
    fn exceeded_limit(&self, pending: &Pending, envelope: &Envelope) -> Option<u64> {
        let is_result = matches!(pending.facts.method, Method::ToolsCall | Method::TasksResult);
        let size = envelope.result_size.filter(|_| is_result)?;
        let limit = match self.settings.result_limit {
            Some(limit) => Some(u64::from(limit)).filter(|limit| *limit > 0),
            None => self.peers.client_name().and_then(result_limits::of_client),
        };
        limit.filter(|limit| result_limits::tokens(size) > *limit)
    }

    fn error_message(&mut self, pending: &mut Pending, text: &str) -> Option<Redacted> {
        let counts = pending.redactions();
        (!text.is_empty()).then(|| self.redactor.redact_counted(Field::Message, text.as_bytes(), counts))
    }

    pub(super) fn is_refusal(&self, text: &str) -> bool {
        error_words::is_refusal(text, &self.settings.denials.words)
    }

    fn task_id(&self, envelope: &Envelope) -> Option<Hash> {
        if let Some(raw) = envelope.raw(Member::ResultTaskId) {
            return Some(self.hashing.raw(&message::text(raw)));
        }
        let task: serde_json::Value = serde_json::from_slice(envelope.raw(Member::Task)?).ok()?;
        Some(self.hashing.raw(task.get("taskId")?.as_str()?.as_bytes()))
    }

    /// Updates the peers and the tools from an answer of the server.
    fn update_state(&mut self, pending: &Pending, envelope: &Envelope, step: &mut Step<'_>) {
        if pending.facts.direction != Direction::ClientToServer {
            return;
        }
        self.update_peers(pending.facts.method, envelope, step);
        if pending.facts.method == Method::ToolsList && envelope.has(Member::Tools) {
            self.tools_listed(pending.cursor(), envelope, step);
        }
        if pending.facts.method == Method::PromptsList && envelope.has(Member::Prompts) {
            self.prompts_listed(envelope, step);
        }
    }

    /// Debug: emits the beginning of a tool's result.
    fn summarise(
        &mut self,
        pending: &Pending,
        content: &Content<'_>,
        result_hash: Option<Hash>,
        step: &mut Step<'_>,
    ) {
        let Some(CallTarget::Tool(tool)) = &pending.facts.target else { return };
        let mut redactions = RedactionCounts::default();
        let summary = content.summary(TEXT_WINDOW);
        let summary = self.redactor.redact_counted(Field::Summary, summary.as_bytes(), &mut redactions);
        let result = ToolResult {
            request_id: pending.facts.request_id.clone(),
            tool: tool.clone(),
            summary,
            result_hash,
            redactions,
        };
        self.emit_in(pending.within.clone(), EventKind::ToolResult(Box::new(result)), step);
    }
}

fn error_code(envelope: &Envelope) -> Option<i64> {
    envelope.raw(Member::ErrorCode).and_then(message::integer)
}
