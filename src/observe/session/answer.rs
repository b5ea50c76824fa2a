//! Answers: what they say about their request.

use crate::observe::canonical::Hash;
use crate::observe::envelope::{Envelope, Member};
use crate::observe::event::*;
use crate::observe::mcp::{Content, Meta, Method, Peer};
use crate::observe::message::{self, RequestId};
use crate::observe::redact::Field;
use crate::observe::session::rounds::Round;
use crate::observe::session::{Pending, Session};
use crate::relay::chunk::Moment;

/// How much of a result's text is looked at for a summary or an error message, in bytes: more than is
/// kept, so that a secret at the cut is still seen whole.
const TEXT_WINDOW: usize = 500 + (4 << 10);

/// How a request ended.
pub(super) struct Answer {
    pub status: Status,
    pub error_type: Option<ErrorType>,
    pub error_code: Option<i64>,
    /// As received; redacted when the operation is made.
    pub error_text: Option<String>,
    pub size: Option<u64>,
    pub result_hash: Option<Hash>,
    pub text_hash: Option<Hash>,
    pub task_id_hash: Option<Hash>,
    pub cancelled_at: Option<Moment>,
    pub truncated: bool,
}

impl Answer {
    /// There was no answer.
    pub(super) fn none(status: Status, error_type: ErrorType) -> Answer {
        Answer {
            status,
            error_type: Some(error_type),
            error_code: None,
            error_text: None,
            size: None,
            result_hash: None,
            text_hash: None,
            task_id_hash: None,
            cancelled_at: None,
            truncated: false,
        }
    }
}

impl Session {
    pub(super) fn response(
        &mut self,
        direction: Direction,
        envelope: &Envelope,
        bodies: bool,
        at: Moment,
        sink: &mut dyn Sink,
    ) {
        let asker = direction.reversed();
        let raw_id = envelope.head(Member::Id).filter(|raw| *raw != b"null");
        let number = raw_id.and_then(|raw| self.by_id[asker as usize].get(&*RequestId::normal(raw))).copied();
        let Some(pending) = number.and_then(|number| self.remove(number)) else {
            let id = raw_id.map(RequestId::new);
            let was_cancelled = id.as_ref().is_some_and(|id| self.cancelled.remove(&(asker, id.clone())));
            if !was_cancelled {
                let what = if envelope.has_error() { UnmatchedKind::Error } else { UnmatchedKind::Response };
                self.unmatched(direction, id.as_ref(), what, error_code(envelope), at, sink);
            }
            return;
        };
        if direction == Direction::ServerToClient {
            self.first_answer.get_or_insert(at);
        }
        self.learn(&pending, envelope, at, sink);
        let content = Session::content(&pending, envelope);
        let mut answer = self.judge(&pending, envelope, &content);
        answer.truncated = !bodies && envelope.result_size.is_some();
        answer.text_hash = content.only_text().map(|text| self.hashing.raw(text.as_bytes()));
        self.settle_consent(&pending, answer.status, at);

        let asks_again = envelope.raw(Member::ResultType).is_some_and(|raw| raw == b"\"input_required\"");
        let (method, target) = (pending.method, pending.target.as_ref().map(|target| target.text().clone()));
        if self.is_debug(at) && method == Method::ToolsCall && direction == Direction::ServerToClient {
            self.summarise(&pending, &content, answer.result_hash, at, sink);
        }
        let span = (pending.span.trace_id, pending.span.span_id);
        let seq = self.complete(pending, answer, at, sink);
        if asks_again {
            self.rounds.asked(Round { seq, span }, method, target, envelope, &self.hashing);
        }
    }

    /// The content of a tool's result, read only where something needs it.
    fn content<'a>(pending: &Pending, envelope: &'a Envelope) -> Content<'a> {
        match envelope.raw(Member::Content) {
            Some(raw) if matches!(pending.method, Method::ToolsCall | Method::TasksResult) => {
                Content::new(raw)
            }
            _ => Content::default(),
        }
    }

    fn judge(&self, pending: &Pending, envelope: &Envelope, content: &Content<'_>) -> Answer {
        let mut answer = Answer {
            status: Status::Ok,
            error_type: None,
            error_code: None,
            error_text: None,
            size: envelope.result_size.or(envelope.error_size),
            result_hash: envelope.result_hash,
            text_hash: None,
            task_id_hash: self.task_id(envelope),
            cancelled_at: None,
            truncated: false,
        };
        if envelope.has_error() {
            let text = envelope.head(Member::ErrorMessage).map(message::free_text).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            answer.error_code = error_code(envelope);
            answer.error_type = Some(answer.error_code.map_or(ErrorType::InvalidResponse, ErrorType::Code));
            let refused = answer.error_code.is_some_and(|code| self.settings.denials.codes.contains(&code));
            answer.status = if refused || self.says_no(&text) { Status::Denied } else { Status::Error };
            answer.error_text = (!text.is_empty()).then_some(text);
        } else if envelope.raw(Member::IsError).is_some_and(|raw| raw == b"true") {
            answer.error_type = Some(ErrorType::ToolError);
            let text = content.summary(TEXT_WINDOW);
            answer.status = if self.says_no(&text) { Status::Denied } else { Status::Error };
            answer.error_text = (!text.is_empty()).then_some(text);
        } else if pending.method == Method::Elicitation {
            let action = envelope.raw(Member::Action);
            if action.is_some_and(|raw| raw == b"\"decline\"" || raw == b"\"cancel\"") {
                answer.status = Status::Denied;
                answer.error_type = Some(ErrorType::Declined);
            }
        }
        if pending.method == Method::Sampling && answer.error_code == Some(-1) {
            answer.status = Status::Denied;
            answer.error_type = Some(ErrorType::Declined);
        }
        answer
    }

    fn says_no(&self, text: &str) -> bool {
        let words = &self.settings.denials.words;
        !words.is_empty() && {
            let text = text.to_lowercase();
            words.iter().any(|word| text.contains(word.as_str()))
        }
    }

    fn task_id(&self, envelope: &Envelope) -> Option<Hash> {
        if let Some(raw) = envelope.raw(Member::ResultTaskId) {
            return Some(self.hashing.raw(&message::text(raw)));
        }
        let task: serde_json::Value = serde_json::from_slice(envelope.raw(Member::Task)?).ok()?;
        Some(self.hashing.raw(task.get("taskId")?.as_str()?.as_bytes()))
    }

    /// A question to a person was answered: the tool call that it belongs to had to wait that long, and
    /// if the person said no and the call then fails, it was denied.
    fn settle_consent(&mut self, pending: &Pending, status: Status, at: Moment) {
        let Some(call) = pending.asked_for.and_then(|number| self.pending.get_mut(&number)) else { return };
        call.user_wait += at.since(pending.started);
        call.declined |= status == Status::Denied;
    }

    /// What an answer tells about the peers and the tools.
    fn learn(&mut self, pending: &Pending, envelope: &Envelope, at: Moment, sink: &mut dyn Sink) {
        if pending.direction != Direction::ClientToServer {
            return;
        }
        let parse = |member| {
            envelope.raw(member).and_then(|raw| serde_json::from_slice::<serde_json::Value>(raw).ok())
        };
        if pending.method == Method::Initialize {
            self.peers.version = parse(Member::ResultProtocolVersion)
                .and_then(|version| version.as_str().map(str::to_owned))
                .or(self.peers.version.take());
            self.peers.server =
                parse(Member::ServerInfo).and_then(|info| Peer::new(&info)).or(self.peers.server.take());
        }
        if envelope.has(Member::ResultMeta)
            && let Some(server) = Meta::of(envelope, Member::ResultMeta).server
        {
            self.peers.server = Some(server);
        }
        self.tell_peers(at, sink);
        if pending.method == Method::ToolsList
            && let Some(raw) = envelope.raw(Member::Tools)
        {
            let last = !envelope.has(Member::NextCursor)
                || envelope.raw(Member::NextCursor).is_some_and(|raw| raw == b"null" || raw == b"\"\"");
            self.tools_listed(raw, last, envelope.result_size.unwrap_or(0), at, sink);
        }
    }

    fn tools_listed(&mut self, raw: &[u8], last: bool, size: u64, at: Moment, sink: &mut dyn Sink) {
        #[derive(serde::Deserialize)]
        struct Named {
            name: String,
        }
        let Ok(definitions) = serde_json::from_slice::<Vec<&serde_json::value::RawValue>>(raw) else {
            return;
        };
        let mut listed = Vec::new();
        let mut hashes = Vec::new();
        for definition in definitions {
            let Ok(Named { name }) = serde_json::from_str(definition.get()) else { continue };
            let name = self.redactor.redact(Field::Name, name.as_bytes());
            hashes.push((name.as_str().to_owned(), self.hashing.args(definition.get().as_bytes()).digest));
            listed.push(name);
        }
        self.emit(at, Kind::ToolsListed(ToolsListed { names: listed, size }), sink);
        let known = self.settings.known_tools.take();
        let drift = self.tools.page(hashes.into_iter(), last, known.as_ref());
        self.settings.known_tools = known;
        if let Some(drift) = drift {
            let mut redact = |names: Vec<String>| {
                names
                    .iter()
                    .map(|name| self.redactor.redact(Field::Name, name.as_bytes()))
                    .collect::<Vec<_>>()
            };
            let (added, removed, changed) =
                (redact(drift.added), redact(drift.removed), redact(drift.changed));
            let mut all = self.hashing.start();
            for (name, hash) in self.tools.complete().into_iter().flatten() {
                all.update(name.as_bytes());
                all.update(hash);
            }
            let definitions_hash = all.finish(true);
            self.emit(
                at,
                Kind::ToolsChanged(ToolsChanged { added, removed, changed, definitions_hash }),
                sink,
            );
        }
    }

    /// Debug: what the tool returned.
    fn summarise(
        &mut self,
        pending: &Pending,
        content: &Content<'_>,
        hash: Option<Hash>,
        at: Moment,
        sink: &mut dyn Sink,
    ) {
        let Some(Target::Tool(tool)) = &pending.target else { return };
        self.redactor.take_counts();
        let summary = self.redactor.redact(Field::Summary, content.summary(TEXT_WINDOW).as_bytes());
        let result = ToolResult {
            request_id: pending.request_id.clone(),
            tool: tool.clone(),
            summary,
            result_hash: hash,
            redactions: self.redactor.take_counts(),
        };
        let kind = Kind::ToolResult(Box::new(result));
        self.emit_in(pending.conversation.clone(), pending.turn.clone(), at, kind, sink);
    }

    /// An answer or cancellation that nothing open belongs to.
    pub(super) fn unmatched(
        &mut self,
        direction: Direction,
        id: Option<&RequestId>,
        what: UnmatchedKind,
        error_code: Option<i64>,
        at: Moment,
        sink: &mut dyn Sink,
    ) {
        self.totals.unmatched += 1;
        if let Some(count) = self.unmatched.one_more() {
            let request_id = id.map(|id| self.redactor.redact(Field::Id, id.bytes()));
            let unmatched = Unmatched { request_id, direction, what, error_code, count };
            self.emit(at, Kind::Unmatched(unmatched), sink);
        }
    }
}

fn error_code(envelope: &Envelope) -> Option<i64> {
    envelope.raw(Member::ErrorCode).and_then(message::integer)
}
