//! Turns an event into a record.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::observe::event::{self, *};
use crate::observe::mcp::Method;
use crate::observe::redact::{Redacted, RedactionCounts};
use crate::observe::result_limits::tokens;
use crate::observe::tool_definition::{ToolChangeKind, parts_text};
use crate::record::{
    ClockAnchor, Dropped, EventName, Identity, Level, Millis, Record, RecordedChange, RecordedLint,
    RecordedTool, SCHEMA,
};
use crate::relay::chunk::Stream;

impl<'a> Record<'a> {
    /// Returns the record of `event`, or `None` if the event makes no record. `host_name` is the name that
    /// the client has given itself, and `dropped` contains the losses of the outputs so far.
    pub fn new(
        event: &'a Event,
        identity: &'a Identity,
        anchor: &ClockAnchor,
        host_name: Option<&'a str>,
        dropped: &[Dropped],
    ) -> Option<Record<'a>> {
        let text = |text: &'a Option<Redacted>| text.as_ref().map(|text| Cow::Borrowed(text.as_str()));
        let mut record = Record {
            schema: SCHEMA.into(),
            timestamp: anchor.wall(event.at),
            seq: event.seq,
            session_id: identity.session_id.as_str().into(),
            connection_id: identity.connection_id.as_str().into(),
            server_name: identity.server_name.as_str().into(),
            host_name: host_name.map(Cow::Borrowed),
            user_id: identity.user_id.as_deref().map(Cow::Borrowed),
            conversation_id: text(&event.conversation_id),
            turn_id: text(&event.turn_id),
            ..Record::default()
        };
        match &event.kind {
            EventKind::Operation(operation) => record.operation(operation, anchor),
            EventKind::SessionStarted(started) => record.session_started(started),
            EventKind::PeerIdentified(peers) => record.peer_identified(peers),
            EventKind::CallPending(call) => record.pending(call, anchor, EventName::CallPending),
            EventKind::ServerUnresponsive(call) => {
                record.pending(call, anchor, EventName::ServerUnresponsive)
            }
            EventKind::AgentThrashing(thrashing) => record.thrashing(thrashing),
            EventKind::TaskEnded(ended) => record.task_ended(ended, anchor),
            EventKind::ToolsChanged(changed) => record.tools_changed(changed),
            EventKind::Malformed(malformed) => record.malformed(malformed),
            EventKind::Unmatched(unmatched) => record.unmatched(unmatched),
            EventKind::Gap(lost) => record.gap(lost),
            EventKind::ToolResult(result) => record.tool_result(result),
            EventKind::Notification(notification) => record.notification(notification),
            EventKind::ServerStderr(stderr) => record.server_stderr(stderr),
            EventKind::DebugStarted(started) => record.debug_started(started, anchor),
            EventKind::DebugEnded => record.begin(Level::Info, EventName::DebugEnded, "debug level ended"),
            EventKind::SessionEnded(ended) => record.session_ended(ended, dropped),
            EventKind::ToolsListed(listed) if listed.is_recorded => record.tools_listed(listed),
            EventKind::ToolsLinted(linted) => record.tools_linted(linted),
            EventKind::ToolsListed(_)
            | EventKind::PromptsListed(_)
            | EventKind::StatsSample(_)
            | EventKind::Body(_) => {
                return None;
            }
        }
        Some(record)
    }

    fn debug_started(&mut self, started: &DebugStarted, anchor: &ClockAnchor) {
        let until = anchor.wall(started.until);
        self.debug_until = Some(until);
        self.bodies = Some(started.bodies);
        let (level, bodies) = match started.bodies {
            BodiesState::Off => (Level::Info, ""),
            BodiesState::On => {
                (Level::Warn, "; arguments and results are kept in a file of their own, redacted")
            }
            BodiesState::StrictMode => (Level::Info, "; no bodies are kept: redaction is in strict mode"),
            BodiesState::RedactionSettings => {
                (Level::Info, "; no bodies are kept: the redaction settings cannot be applied")
            }
            BodiesState::NoLog => (Level::Info, "; no bodies are kept: this session has no log"),
        };
        self.begin(level, EventName::DebugStarted, format!("debug level is on until {until}{bodies}"));
    }

    fn begin(&mut self, level: Level, event: EventName, message: impl Into<Cow<'a, str>>) {
        (self.level, self.event, self.message) = (level, event, message.into());
    }

    fn operation(&mut self, operation: &'a Operation, anchor: &ClockAnchor) {
        let Operation { facts, answer, timing, count, redactions } = operation;
        self.call_facts(facts);
        self.call_answer(answer, anchor);
        self.call_timing(timing, anchor);
        // Clients send `server/discover` to older servers too, which refuse it correctly.
        let is_probe = facts.method == Method::Discover;
        let target = facts.target.as_ref().map(CallTarget::text);
        let (method, status) = (facts.method_name.as_str(), answer.status.as_str());
        let message = match target {
            Some(target) => [method, " ", target.as_str(), ": ", status].concat(),
            None => [method, ": ", status].concat(),
        };
        if self.event == EventName::McpToolCall {
            self.result_over_limit = answer.over_limit;
        }
        let task_id_hash = answer.task_id_hash.as_ref().or(facts.task_id_hash.as_deref());
        self.level = if answer.status == Status::Ok || is_probe { Level::Info } else { Level::Warn };
        self.message = message.into();
        self.task_id_hash = task_id_hash.map(|hash| hash.text().into());
        self.count = (*count > 1).then_some(*count);
        self.redactions = counts(redactions);
    }

    fn call_facts(&mut self, facts: &'a CallFacts) {
        let is_call = facts.method == Method::ToolsCall;
        self.event = if is_call { EventName::McpToolCall } else { EventName::McpRequest };
        self.request_id = known(&facts.request_id);
        self.direction = Some(facts.direction);
        self.method = known(&facts.method_name);
        self.protocol_version = facts.protocol_version.as_ref().and_then(known);
        self.jsonrpc_version = facts.jsonrpc_version.as_ref().and_then(known);
        self.args_hash = facts.args_hash.map(|hash| hash.text().into());
        self.args_tokens_est = facts.args_size.map(tokens);
        self.request_size_bytes = Some(facts.request_size);
        self.repeat_count = facts.repeat_count;
        self.thrashing = facts.thrashing.then_some(true);
        self.call_id = facts.call_id.as_ref().and_then(known);
        self.model = facts.model.as_ref().and_then(known);
        if let Some(round) = &facts.continues {
            let foreign = (round.trace_id != facts.span.trace_id).then_some(round.trace_id);
            self.continues_seq = Some(round.seq);
            self.continues_span_id = Some(round.span_id.text().into());
            self.continues_trace_id = foreign.map(|trace_id| trace_id.text().into());
        }
        self.target(facts.target.as_ref());
        self.span(&facts.span);
    }

    fn call_answer(&mut self, answer: &'a CallAnswer, anchor: &ClockAnchor) {
        self.status = Some(answer.status);
        self.error_code = answer.error_code;
        self.error_type = answer.error_type.map(ErrorType::text);
        self.error_message = answer.error_message.as_ref().and_then(known);
        self.result_size_bytes = answer.size;
        self.result_tokens_est = answer.size.map(tokens);
        self.result_hash = answer.result_hash.map(|hash| hash.text().into());
        self.text_hash = answer.text_hash.map(|hash| hash.text().into());
        self.cancelled_at = answer.cancelled_at.map(|at| anchor.wall(at));
        self.task_result_seen = answer.task_result_seen;
        self.answer_id = answer.answer_id.as_ref().and_then(known);
        self.truncated = answer.truncated.then_some(true);
    }

    fn call_timing(&mut self, timing: &CallTiming, anchor: &ClockAnchor) {
        let user_wait = (!timing.user_wait.is_zero()).then_some(timing.user_wait);
        self.started_at = Some(anchor.wall(timing.started));
        self.ended_at = Some(anchor.wall(timing.ended));
        self.duration_ms = Some(timing.ended.since(timing.started).into());
        self.pending_at = timing.pending_at.map(|at| anchor.wall(at));
        self.progress_count = timing.progress.map(|progress| progress.count);
        self.progress_first_at = timing.progress.map(|progress| anchor.wall(progress.first));
        self.progress_last_at = timing.progress.map(|progress| anchor.wall(progress.last));
        self.task_handle_ms = timing.task_handle.map(|at| at.since(timing.started).into());
        self.user_wait_ms = user_wait.map(Millis::from);
    }

    fn target(&mut self, target: Option<&'a CallTarget>) {
        match target {
            Some(CallTarget::Tool(name)) => self.tool_name = known(name),
            Some(CallTarget::Prompt(name)) => self.prompt_name = known(name),
            Some(CallTarget::Resource(uri)) => self.resource_uri = known(uri),
            None => {}
        }
    }

    fn span(&mut self, span: &'a Span) {
        let foreign = span.linked.filter(|(trace_id, _)| *trace_id != span.trace_id);
        self.trace_id = Some(span.trace_id.text().into());
        self.span_id = Some(span.span_id.text().into());
        self.parent_span_id = span.parent_span_id.map(|id| id.text().into());
        self.linked_span_id = span.linked.map(|(_, span_id)| span_id.text().into());
        self.linked_trace_id = foreign.map(|(trace_id, _)| trace_id.text().into());
        self.trace_state = span.trace_state.as_ref().and_then(known);
        self.trace_flags = Some(span.flags.text().into());
    }

    fn session_started(&mut self, started: &'a SessionStarted) {
        let message = match started.child_pid {
            Some(pid) => format!("watching {} (process {pid})", self.server_name),
            None => format!("{} could not be started", self.server_name),
        };
        self.begin(Level::Info, EventName::SessionStarted, message);
        self.pid = Some(started.pid);
        self.child_pid = started.child_pid;
        self.host_pid = started.host_pid;
        self.version = Some(env!("CARGO_PKG_VERSION").into());
        self.command = Some(texts(&started.command));
        self.environment = Some(texts(&started.environment));
        self.session_source = Some(started.session_source);
        self.cwd = started.cwd.as_ref().and_then(known);
        self.origin = started.origin.as_ref().and_then(known);
        self.hash_key_id = started.hash_key_id.map(|id| format!("{:08x}", u32::from_be_bytes(id)).into());
        self.stderr_is_stdout = started.stderr_is_stdout.then_some(true);
        self.begins_session = started.begins_session.then_some(true);
        self.span(&started.span);
    }

    fn peer_identified(&mut self, peers: &'a PeerIdentified) {
        let name = |name: &Option<Redacted>| name.as_ref().map_or("unknown", Redacted::as_str).to_owned();
        let message = format!("client {}, server {}", name(&peers.client_name), name(&peers.server_name));
        self.begin(Level::Info, EventName::PeerIdentified, message);
        self.client_name = peers.client_name.as_ref().and_then(known);
        self.client_version = peers.client_version.as_ref().and_then(known);
        self.server_self_name = peers.server_name.as_ref().and_then(known);
        self.server_version = peers.server_version.as_ref().and_then(known);
        self.protocol_version = peers.protocol_version.as_ref().and_then(known);
    }

    fn pending(&mut self, call: &'a PendingCall, anchor: &ClockAnchor, event: EventName) {
        let what = call.target.as_ref().map_or(call.method.as_str(), |target| target.text().as_str());
        let seconds = call.open_for.as_secs();
        let message = match event {
            EventName::ServerUnresponsive => format!("nothing from the server since {what}, {seconds} s ago"),
            _ => format!("{what} has been open for {seconds} s"),
        };
        self.begin(Level::Warn, event, message);
        self.request_id = known(&call.request_id);
        self.direction = Some(call.direction);
        self.method = known(&call.method);
        self.started_at = Some(anchor.wall(call.started));
        self.open_ms = Some(call.open_for.into());
        self.in_flight = Some(call.in_flight);
        self.target(call.target.as_ref());
        self.span(&call.span);
    }

    fn thrashing(&mut self, thrashing: &'a Thrashing) {
        let Thrashing { request_id, tool, args_hash, count, no_progress, is_alarm, cycle_length, span } =
            thrashing;
        let message = match cycle_length {
            Some(length) => {
                format!("{length} calls made {count} times in the same order, the last one to {tool}")
            }
            None => format!("{tool} called {count} times with the same arguments"),
        };
        let level = if *is_alarm { Level::Warn } else { Level::Info };
        self.begin(level, EventName::AgentThrashing, message);
        self.cycle_length = *cycle_length;
        self.request_id = known(request_id);
        self.tool_name = known(tool);
        self.args_hash = Some(args_hash.text().into());
        self.count = Some(u64::from(*count));
        self.no_progress = Some(*no_progress);
        self.span(span);
    }

    fn task_ended(&mut self, ended: &'a TaskEnded, anchor: &ClockAnchor) {
        let TaskEnded { id, answer, redactions } = ended;
        let message = format!("task of an earlier connection: {}", answer.status.as_str());
        let level = if answer.status == Status::Ok { Level::Info } else { Level::Warn };
        self.begin(level, EventName::TaskEnded, message);
        self.call_answer(answer, anchor);
        self.task_id_hash = Some(id.text().into());
        self.redactions = counts(redactions);
    }

    fn tools_listed(&mut self, listed: &'a ToolsListed) {
        let ToolsListed { tools, total, page, is_complete, definition_size, count, .. } = listed;
        let tools_word = if *total == 1 { "tool" } else { "tools" };
        let message = match page {
            1 => format!("{total} {tools_word}, {definition_size} bytes of definitions"),
            page => format!("{total} {tools_word} on page {page}, {definition_size} bytes of definitions"),
        };
        self.begin(Level::Info, EventName::ToolsListed, message);
        let tool = |tool: &'a ListedTool| RecordedTool {
            name: tool.name.as_str().into(),
            definition_bytes: tool.definition_size,
            description_bytes: tool.description_size,
            schema_bytes: tool.schema_size,
            definition_hash: format!("{:016x}", tool.definition_hash).into(),
        };
        let unlisted = total - tools.len() as u64;
        self.tools = Some(tools.iter().map(tool).collect());
        self.tools_total = Some(*total);
        self.unlisted = (unlisted > 0).then_some(unlisted);
        self.is_complete = Some(*is_complete);
        self.definition_bytes = Some(*definition_size);
        self.page = (*page > 1).then_some(*page);
        self.count = (*count > 1).then_some(*count);
    }

    fn tools_changed(&mut self, changed: &'a ToolsChanged) {
        let ToolsChanged { changes, unlisted, definitions_hash, count } = changed;
        self.begin(Level::Warn, EventName::ToolsChanged, changes_message(changed));
        let names = |kind: ToolChangeKind| {
            let of_kind = changes.iter().filter(|change| change.kind == kind);
            Some(of_kind.map(|change| Cow::Borrowed(change.tool.as_str())).collect())
        };
        self.added = names(ToolChangeKind::Added);
        self.removed = names(ToolChangeKind::Removed);
        self.changed = names(ToolChangeKind::Changed);
        let change = |change: &'a ChangedTool| RecordedChange {
            tool: change.tool.as_str().into(),
            change: change.kind,
            parts: change.parts.clone(),
        };
        self.changes = Some(changes.iter().map(change).collect());
        self.unlisted = (*unlisted > 0).then_some(*unlisted);
        self.definitions_hash = Some(definitions_hash.text().into());
        self.count = (*count > 1).then_some(*count);
    }

    fn tools_linted(&mut self, linted: &'a ToolsLinted) {
        let ToolsLinted { tools, unlisted } = linted;
        let rules = |tool: &LintedTool| {
            let words: Vec<&str> = tool.rules.iter().map(|rule| rule.as_str()).collect();
            words.join(", ")
        };
        let mut parts: Vec<String> =
            tools.iter().take(2).map(|tool| format!("{}: {}", tool.name.as_str(), rules(tool))).collect();
        let more = (tools.len() as u64).saturating_sub(2) + unlisted;
        if more > 0 {
            parts.push(format!("{more} more {}", if more == 1 { "tool" } else { "tools" }));
        }
        self.begin(Level::Info, EventName::ToolsLinted, format!("lint of {}", parts.join("; ")));
        let tool = |tool: &'a LintedTool| RecordedLint {
            name: tool.name.as_str().into(),
            rules: tool.rules.iter().map(|rule| Cow::Borrowed(rule.as_str())).collect(),
            definition_hash: format!("{:016x}", tool.definition_hash).into(),
        };
        self.linted = Some(tools.iter().map(tool).collect());
        self.unlisted = (*unlisted > 0).then_some(*unlisted);
    }

    fn malformed(&mut self, malformed: &event::Malformed) {
        let Malformed { stream, count, size, reason } = *malformed;
        let message = match count {
            1 => format!("malformed line on {stream}"),
            count => format!("{count} malformed lines on {stream}"),
        };
        self.begin(Level::Warn, EventName::Malformed, message);
        self.stream = Some(stream);
        self.count = Some(count);
        self.size_bytes = Some(size);
        self.reason = Some(reason.as_str().into());
    }

    fn unmatched(&mut self, unmatched: &'a Unmatched) {
        let Unmatched { request_id, direction, what, error_code, count } = unmatched;
        let (level, message) = match what {
            UnmatchedKind::LateCancellation => (Level::Info, "cancellation after the answer".to_owned()),
            what => (Level::Warn, format!("{what} without an open request")),
        };
        self.begin(level, EventName::Unmatched, message);
        self.request_id = request_id.as_ref().and_then(known);
        self.direction = Some(*direction);
        self.what = Some(*what);
        self.error_code = *error_code;
        self.count = Some(*count);
    }

    fn gap(&mut self, lost: &Lost) {
        let Lost { place, stream, bytes, frames, records, reason } = *lost;
        let what = if records > 0 { format!("{records} records") } else { format!("{bytes} bytes") };
        self.begin(Level::Warn, EventName::Gap, format!("lost at {place}: {what} ({reason})"));
        self.place = Some(place.as_str().into());
        self.stream = stream;
        self.bytes_lost = (bytes > 0).then_some(bytes);
        self.frames_lost = (frames > 0).then_some(frames);
        self.records_lost = (records > 0).then_some(records);
        self.reason = Some(reason.into());
    }

    fn tool_result(&mut self, result: &'a ToolResult) {
        self.begin(Level::Debug, EventName::ToolResult, format!("result of {}", result.tool));
        self.request_id = known(&result.request_id);
        self.tool_name = known(&result.tool);
        self.result_summary = known(&result.summary);
        self.result_hash = result.result_hash.map(|hash| hash.text().into());
        self.redactions = counts(&result.redactions);
    }

    fn notification(&mut self, notification: &'a Notification) {
        self.begin(Level::Debug, EventName::McpNotification, notification.method.as_str());
        self.direction = Some(notification.direction);
        self.method = known(&notification.method);
        self.text = notification.text.as_ref().and_then(known);
        self.size_bytes = Some(notification.size);
        self.redactions = counts(&notification.redactions);
    }

    fn server_stderr(&mut self, stderr: &'a ServerStderr) {
        self.begin(Level::Debug, EventName::ServerStderr, "the server wrote to stderr");
        self.stream = Some(Stream::Stderr);
        self.text = known(&stderr.line);
        self.size_bytes = Some(stderr.size);
        self.redactions = counts(&stderr.redactions);
    }

    fn session_ended(&mut self, ended: &'a SessionEnded, dropped: &[Dropped]) {
        let level = match ended.reason {
            EndReason::ServerExited if ended.orphan_killed => Level::Warn,
            EndReason::ServerExited => Level::Info,
            EndReason::ServerDied | EndReason::SpawnFailed => Level::Error,
        };
        let reason = ended.reason.as_str();
        let how = match (ended.exit_code, ended.signal) {
            (_, Some(signal)) => format!("signal {signal}"),
            (code, None) => format!("status {}", code.unwrap_or_default()),
        };
        let dropped: BTreeMap<Cow<'a, str>, u64> = dropped
            .iter()
            .filter(|dropped| dropped.count > 0)
            .map(|dropped| (format!("{}:{}", dropped.place, dropped.reason).into(), dropped.count))
            .collect();
        self.level = level;
        self.event = EventName::SessionEnded;
        self.message = match &ended.start_error {
            Some(error) => format!("{reason}: {error}").into(),
            None if ended.orphan_killed => {
                format!("{reason}: {how}: it did not end when its host was gone; spantap killed it").into()
            }
            None => format!("{reason}: {how}").into(),
        };
        self.error_message = ended.start_error.as_ref().and_then(known);
        self.reason = Some(reason.into());
        self.exit_code = ended.exit_code;
        self.signal = ended.signal;
        self.orphan_killed = ended.orphan_killed.then_some(true);
        self.totals = Some(ended.totals.clone());
        self.dropped = (!dropped.is_empty()).then_some(dropped);
        self.stderr_tail = (!ended.stderr_tail.is_empty()).then(|| texts(&ended.stderr_tail));
    }
}

/// Returns the changes in words, those of existing tools first: `description of read_file changed, search added`.
fn changes_message(changed: &ToolsChanged) -> String {
    /// Tools that are named.
    const NAMED: usize = 3;
    let mut changes: Vec<&ChangedTool> = changed.changes.iter().collect();
    changes.sort_by_key(|change| std::cmp::Reverse(change.kind));
    let mut texts: Vec<String> = changes
        .iter()
        .take(NAMED)
        .map(|change| match &*change.parts {
            [] => format!("{} {}", change.tool, change.kind),
            parts => format!("{} of {} {}", parts_text(parts), change.tool, change.kind),
        })
        .collect();
    let more = changes.len().saturating_sub(NAMED) as u64 + changed.unlisted;
    match (&*texts, more) {
        ([], 0) => texts.push("tools changed and changed back".to_owned()),
        ([], 1) => texts.push("a change of a tool that is not listed".to_owned()),
        ([], _) => texts.push(format!("a change among {more} tools that are not listed")),
        (_, 0) => {}
        (_, 1) => texts.push("up to 1 more change".to_owned()),
        (_, _) => texts.push(format!("up to {more} more changes")),
    }
    let text = texts.join(", ");
    if changed.count > 1 { format!("{text}, in {} changes of the list", changed.count) } else { text }
}

fn known(text: &Redacted) -> Option<Cow<'_, str>> {
    Some(Cow::Borrowed(text.as_str()))
}

fn texts(list: &[Redacted]) -> Vec<Cow<'_, str>> {
    list.iter().map(|text| Cow::Borrowed(text.as_str())).collect()
}

fn counts(counts: &RedactionCounts) -> Option<BTreeMap<Cow<'_, str>, u32>> {
    let owned = || counts.iter().map(|(class, count)| (Cow::Borrowed(class), count)).collect();
    (!counts.is_empty()).then(owned)
}
