//! Pairs requests with answers: every request that was seen ends in exactly one operation.
//!
//! Open requests are kept by the side that asked and by id, because before the 2026-07-28 revision both
//! sides ask and both count from zero. Their number is bounded; beyond it the oldest is given up.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use crate::observe::canonical::{Hash, Hashing};
use crate::observe::envelope::{Envelope, Member};
use crate::observe::event::*;
use crate::observe::mcp::{Meta, Method, Peer};
use crate::observe::message::{self, MessageKind, RequestId};
use crate::observe::redact::{Field, Redacted, Redactor};
use crate::observe::repeats::{Doubling, Repeats, Tools, Turns};
use crate::observe::{Debug, Settings};
use crate::relay::chunk::{Moment, Stream};

mod answer;
mod notification;
mod rounds;
mod spans;
mod state;

use rounds::{Round, Rounds};
use spans::Spans;

/// Requests that may be open at the same time; a host or server that leaves more unanswered loses the
/// oldest as `evicted`.
const MAX_PENDING: usize = 16_384;
/// Requests that were cancelled and whose late answers are swallowed.
const MAX_CANCELLED: usize = 1024;

/// What is known of a request until its answer comes.
pub(super) struct Pending {
    id: RequestId,
    request_id: Redacted,
    direction: Direction,
    method: Method,
    method_name: Redacted,
    target: Option<Target>,
    conversation: Option<Redacted>,
    turn: Option<Redacted>,
    protocol_version: Option<Redacted>,
    jsonrpc_version: Option<Redacted>,
    args_hash: Option<Hash>,
    args_size: Option<u64>,
    started: Moment,
    request_size: u64,
    repeat_count: Option<u32>,
    thrashing: bool,
    pending_at: Option<Moment>,
    progress: Option<Progress>,
    progress_token: Option<Vec<u8>>,
    call_id: Option<Redacted>,
    user_wait: Duration,
    /// A person was asked while this was the only open tool call, and said no.
    declined: bool,
    /// For a question to a person: the number of the tool call it probably belongs to.
    asked_for: Option<u64>,
    continues: Option<Round>,
    task_id_hash: Option<Hash>,
    span: Span,
    /// Bytes that may have held the answer were lost.
    maybe_lost: bool,
    redactions: BTreeMap<&'static str, u32>,
}

/// Numbers of open requests. The ids are chosen by the peers: a hash with a seed of this process.
type Ids = HashMap<RequestId, u64, foldhash::fast::RandomState>;

/// The state of one connection.
pub(super) struct Session {
    settings: Settings,
    redactor: Redactor,
    hashing: Hashing,
    spans: Spans,
    seq: u64,
    /// Open requests by the order in which they came.
    pending: BTreeMap<u64, Box<Pending>>,
    /// Their numbers by the side that asked and by id.
    by_id: [Ids; 2],
    by_progress_token: HashMap<(Direction, Vec<u8>), u64>,
    next_number: u64,
    /// Requests below these numbers have been reported as slow, and as hanging.
    slow_cursor: u64,
    hung_cursor: u64,
    cancelled: HashSet<(Direction, RequestId)>,
    cancelled_order: VecDeque<(Direction, RequestId)>,
    repeats: Repeats,
    turns: Turns,
    tools: Tools,
    rounds: Rounds,
    peers: Peers,
    /// What [`Session::version`] said last.
    last_version: Option<Redacted>,
    last_from_server: Moment,
    silence_reported: bool,
    malformed: BTreeMap<(Stream, MalformedReason), (Doubling, u64)>,
    unmatched: Doubling,
    lost: BTreeMap<Stream, (u64, u64)>,
    lost_reported: Option<Moment>,
    first_answer: Option<Moment>,
    spawned: Option<Moment>,
    pub(super) totals: Totals,
}

#[derive(Default)]
struct Peers {
    client: Option<Peer>,
    server: Option<Peer>,
    version: Option<String>,
    /// What the last `peer_identified` said.
    told: Option<(Option<Peer>, Option<Peer>, Option<String>)>,
}

impl Session {
    pub(super) fn new(settings: Settings, redactor: Redactor, random: [u8; 32]) -> Session {
        Session {
            hashing: Hashing::new(&settings.hash_key),
            spans: Spans::new(settings.connection.clone(), random),
            settings,
            redactor,
            seq: 0,
            pending: BTreeMap::new(),
            by_id: Default::default(),
            by_progress_token: HashMap::new(),
            next_number: 0,
            slow_cursor: 0,
            hung_cursor: 0,
            cancelled: HashSet::new(),
            cancelled_order: VecDeque::new(),
            repeats: Repeats::default(),
            turns: Turns::default(),
            tools: Tools::default(),
            rounds: Rounds::default(),
            peers: Peers::default(),
            last_version: None,
            last_from_server: Moment(0),
            silence_reported: false,
            malformed: BTreeMap::new(),
            unmatched: Doubling::default(),
            lost: BTreeMap::new(),
            lost_reported: None,
            first_answer: None,
            spawned: None,
            totals: Totals::default(),
        }
    }

    pub(super) fn hashing(&self) -> &Hashing {
        &self.hashing
    }

    pub(super) fn tools(&self) -> Option<&BTreeMap<String, [u8; 32]>> {
        self.tools.complete()
    }

    /// Emits an event of no particular conversation.
    fn emit(&mut self, at: Moment, kind: Kind, sink: &mut dyn Sink) {
        let conversation = self.settings.conversation_id.clone();
        self.emit_in(conversation, None, at, kind, sink);
    }

    /// Emits an event and returns its `seq`.
    fn emit_in(
        &mut self,
        conversation_id: Option<Redacted>,
        turn_id: Option<Redacted>,
        at: Moment,
        kind: Kind,
        sink: &mut dyn Sink,
    ) -> u64 {
        let seq = self.seq;
        if kind.is_recorded() {
            self.seq += 1;
        }
        let seq = if kind.is_recorded() { seq } else { seq.saturating_sub(1) };
        sink.record(&Event { seq, at, conversation_id, turn_id, kind });
        seq
    }

    pub(super) fn start(&mut self, started: SessionStarted, at: Moment, sink: &mut dyn Sink) {
        self.spawned = Some(started.spawned);
        self.last_from_server = started.spawned;
        self.emit(at, Kind::SessionStarted(Box::new(started)), sink);
    }

    /// One message; `bodies` says whether its bodies were hashed.
    pub(super) fn message(
        &mut self,
        direction: Direction,
        envelope: &Envelope,
        bodies: bool,
        at: Moment,
        sink: &mut dyn Sink,
    ) {
        if direction == Direction::ServerToClient {
            self.last_from_server = at;
            self.silence_reported = false;
        }
        match message::kind(envelope) {
            MessageKind::Request => self.request(direction, envelope, at, sink),
            MessageKind::Notification => self.notification(direction, envelope, at, sink),
            MessageKind::Response => self.response(direction, envelope, bodies, at, sink),
            MessageKind::Neither => {
                self.malformed(direction.stream(), MalformedReason::NotJsonRpc, envelope.size, at, sink);
            }
        }
    }

    fn request(&mut self, direction: Direction, envelope: &Envelope, at: Moment, sink: &mut dyn Sink) {
        let id = RequestId::new(envelope.head(Member::Id).unwrap_or_default());
        let method_text = envelope.head(Member::Method).map(message::text).unwrap_or_default();
        let method = Method::new(&method_text);
        let meta = Meta::of(envelope, Member::ParamsMeta);
        if let Some(number) = self.by_id[direction as usize].get(&id).copied() {
            self.give_up(number, at, Status::Error, ErrorType::Superseded, sink);
        }
        if self.pending.len() >= MAX_PENDING
            && let Some((&oldest, _)) = self.pending.first_key_value()
        {
            self.give_up(oldest, at, Status::Unknown, ErrorType::Evicted, sink);
        }
        self.identify(direction, method, envelope, &meta, at, sink);

        self.redactor.take_counts();
        let request_id = self.redactor.redact(Field::Id, id.bytes());
        let method_name = self.redactor.redact(Field::Name, &method_text);
        let target = self.target(method, envelope);
        let conversation = self.conversation(&meta);
        let turn = self.turn(direction, &meta, at);
        let protocol_version = self.version(&meta);
        let jsonrpc = envelope.head(Member::JsonRpc).filter(|raw| *raw != b"\"2.0\"").map(message::text);
        let jsonrpc = jsonrpc.filter(|text| !text.is_empty() && **text != *b"2.0");
        let jsonrpc_version = jsonrpc.map(|text| self.redactor.redact(Field::Name, &text));
        let call_id = meta.call.as_deref().map(|call| self.redactor.redact(Field::Id, call.as_bytes()));
        let args_hash =
            matches!(method, Method::ToolsCall | Method::PromptsGet).then(|| self.args_hash(envelope));
        let span = {
            let Session { spans, redactor, .. } = self;
            spans.assign(&meta, at, |state| redactor.redact(Field::TraceState, state))
        };
        let continues =
            self.rounds.continued(method, target.as_ref().map(Target::text), envelope, &self.hashing);
        // The next round of a call is the same call, not one more.
        let counts = direction == Direction::ClientToServer && continues.is_none();
        let repeats = match (&target, args_hash) {
            (Some(Target::Tool(tool)), Some(hash)) if counts => {
                let tool = tool.clone();
                let (count, no_progress) = self.repeats.count((conversation.clone(), tool.clone(), hash));
                if Repeats::is_alarm(count, self.settings.thrash_threshold) {
                    let thrashing = Thrashing {
                        request_id: request_id.clone(),
                        tool,
                        args_hash: hash,
                        count,
                        no_progress,
                        span: span.clone(),
                    };
                    let kind = Kind::AgentThrashing(Box::new(thrashing));
                    self.emit_in(conversation.clone(), turn.clone(), at, kind, sink);
                }
                Some(count)
            }
            _ => None,
        };
        let number = self.next_number;
        self.next_number += 1;
        let asked_for = method.asks_consent().then(|| self.only_open_call()).flatten();
        let task_id_hash =
            envelope.head(Member::ParamsTaskId).map(|raw| self.hashing.raw(&message::text(raw)));
        let asker_counts = direction == Direction::ClientToServer && method == Method::ToolsCall;
        self.totals.tool_calls += u64::from(asker_counts);
        self.totals.other_requests += u64::from(!asker_counts);
        if let Some(token) = &meta.progress_token {
            self.by_progress_token.insert((direction, token.clone()), number);
        }
        self.by_id[direction as usize].insert(id.clone(), number);
        let pending = Pending {
            id,
            request_id,
            direction,
            method,
            method_name,
            target,
            conversation,
            turn,
            protocol_version,
            jsonrpc_version,
            args_hash,
            args_size: envelope.size_of(Member::Arguments),
            started: at,
            request_size: envelope.size,
            repeat_count: repeats.filter(|count| *count > 1),
            thrashing: repeats.is_some_and(|count| count > self.settings.thrash_threshold),
            pending_at: None,
            progress: None,
            progress_token: meta.progress_token,
            call_id,
            user_wait: Duration::ZERO,
            declined: false,
            asked_for,
            continues,
            task_id_hash,
            span,
            maybe_lost: false,
            redactions: self.redactor.take_counts(),
        };
        self.pending.insert(number, Box::new(pending));
    }

    /// The MCP revision that a request is under. It is the same text again and again.
    fn version(&mut self, meta: &Meta) -> Option<Redacted> {
        let version = meta.protocol_version.as_deref().or(self.peers.version.as_deref())?;
        if self.last_version.as_ref().is_none_or(|last| last.as_str() != version) {
            self.last_version = Some(self.redactor.redact(Field::Name, version.as_bytes()));
        }
        self.last_version.clone()
    }

    fn target(&mut self, method: Method, envelope: &Envelope) -> Option<Target> {
        let (member, field): (_, Field) = match method {
            Method::ToolsCall | Method::PromptsGet => (Member::Name, Field::Name),
            Method::Resource => (Member::Uri, Field::Uri),
            _ => return None,
        };
        let text = self.redactor.redact(field, &message::text(envelope.head(member)?));
        Some(match method {
            Method::ToolsCall => Target::Tool(text),
            Method::PromptsGet => Target::Prompt(text),
            _ => Target::Resource(text),
        })
    }

    fn args_hash(&self, envelope: &Envelope) -> Hash {
        match (envelope.raw(Member::Arguments), envelope.long_arguments_hash) {
            (Some(raw), _) => self.hashing.args(raw),
            (None, Some(hash)) => hash,
            (None, None) => self.hashing.args(b"{}"),
        }
    }

    fn conversation(&mut self, meta: &Meta) -> Option<Redacted> {
        match &meta.conversation {
            Some(conversation) => Some(self.redactor.redact(Field::Id, conversation.as_bytes())),
            None => self.settings.conversation_id.clone(),
        }
    }

    /// The turn: what the client says, else the caller's trace, else by the gaps between requests. Only
    /// the client's requests make turns; what the server asks belongs to the turn that is running.
    fn turn(&mut self, direction: Direction, meta: &Meta, at: Moment) -> Option<Redacted> {
        let trace = meta.trace_parent.map(|parent| parent.trace_id.to_string());
        if let Some(told) = meta.turn.as_ref().or(trace.as_ref()) {
            let turn = self.redactor.redact(Field::Id, told.as_bytes());
            self.turns.told(&turn);
            return Some(turn);
        }
        if direction == Direction::ServerToClient {
            return None;
        }
        // A subscription stays open through many turns.
        let busy = self.pending.values().any(|pending| pending.method != Method::Listen);
        let turn = self
            .turns
            .by_gap(at, busy, |number| self.redactor.redact(Field::Id, number.to_string().as_bytes()));
        Some(turn)
    }

    /// The one open tool call of the client, if there is just one.
    fn only_open_call(&self) -> Option<u64> {
        let is_call = |pending: &Pending| {
            pending.method == Method::ToolsCall && pending.direction == Direction::ClientToServer
        };
        let mut calls =
            self.pending.iter().filter(|(_, pending)| is_call(pending)).map(|(number, _)| *number);
        match (calls.next(), calls.next()) {
            (Some(call), None) => Some(call),
            _ => None,
        }
    }

    /// Takes a request out of all tables.
    fn remove(&mut self, number: u64) -> Option<Box<Pending>> {
        let pending = self.pending.remove(&number)?;
        self.by_id[pending.direction as usize].remove(&pending.id);
        if let Some(token) = &pending.progress_token {
            let key = (pending.direction, token.clone());
            if self.by_progress_token.get(&key) == Some(&number) {
                self.by_progress_token.remove(&key);
            }
        }
        Some(pending)
    }

    /// Ends a request that gets no answer.
    fn give_up(
        &mut self,
        number: u64,
        at: Moment,
        status: Status,
        error_type: ErrorType,
        sink: &mut dyn Sink,
    ) {
        if let Some(pending) = self.remove(number) {
            let end = answer::Answer::none(status, error_type);
            self.complete(pending, end, at, sink);
        }
    }

    /// Emits the one operation of a request.
    fn complete(
        &mut self,
        mut pending: Box<Pending>,
        answer: answer::Answer,
        at: Moment,
        sink: &mut dyn Sink,
    ) -> u64 {
        self.turns.answered(at);
        self.redactor.take_counts();
        let answer::Answer { mut status, mut error_type, error_code, error_text, .. } = answer;
        if pending.declined && status == Status::Error {
            status = Status::Denied;
        }
        let limit = self.settings.call_timeout;
        // Of an answer that was not observed nobody can say that it was late, and what waits for a person
        // or for an event is not late.
        let may_be_late =
            !matches!(status, Status::Cancelled | Status::Unknown) && !pending.method.waits_by_design();
        if may_be_late && limit.is_some_and(|limit| at.since(pending.started) > limit) {
            status = Status::Timeout;
            error_type = Some(ErrorType::Timeout);
        }
        match status {
            Status::Error | Status::Timeout => self.totals.errors += 1,
            Status::Denied => self.totals.denied += 1,
            Status::Ok | Status::Cancelled | Status::Unknown => {}
        }
        if let (Some(Target::Tool(tool)), Some(args)) = (&pending.target, pending.args_hash) {
            let key = (pending.conversation.clone(), tool.clone(), args);
            self.repeats.answered(&key, answer.result_hash);
        }
        let error_message = error_text.map(|text| self.redactor.redact(Field::Message, text.as_bytes()));
        let mut redactions = BTreeMap::new();
        if self.is_debug(at) {
            redactions = std::mem::take(&mut pending.redactions);
            for (class, count) in self.redactor.take_counts() {
                *redactions.entry(class).or_default() += count;
            }
        }
        let operation = Operation {
            request_id: pending.request_id,
            direction: pending.direction,
            method: pending.method,
            method_name: pending.method_name,
            target: pending.target,
            protocol_version: pending.protocol_version,
            jsonrpc_version: pending.jsonrpc_version,
            args_hash: pending.args_hash,
            result_hash: answer.result_hash,
            text_hash: answer.text_hash,
            started: pending.started,
            ended: at.max(pending.started),
            status,
            error_type,
            error_code,
            error_message,
            request_size: pending.request_size,
            result_size: answer.size,
            args_size: pending.args_size,
            repeat_count: pending.repeat_count,
            thrashing: pending.thrashing,
            pending_at: pending.pending_at,
            progress: pending.progress,
            call_id: pending.call_id,
            user_wait: (!pending.user_wait.is_zero()).then_some(pending.user_wait),
            continues_seq: pending.continues.map(|round| round.seq),
            continues_span: pending.continues.map(|round| round.span),
            task_id_hash: answer.task_id_hash.or(pending.task_id_hash),
            span: pending.span,
            cancelled_at: answer.cancelled_at,
            truncated: answer.truncated,
            redactions,
        };
        let kind = Kind::Operation(Box::new(operation));
        self.emit_in(pending.conversation, pending.turn, at, kind, sink)
    }

    pub(super) fn is_debug(&self, now: Moment) -> bool {
        match self.settings.debug {
            Debug::Off => false,
            Debug::On => true,
            Debug::Until(end) => now < end,
        }
    }
}
