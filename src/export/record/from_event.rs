//! The one function that turns an event into a record.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{EventName, Level, Millis, Record, SCHEMA, Totals};
use crate::export::{Anchor, Dropped, Identity};
use crate::observe::event::{self, *};
use crate::observe::redact::Redacted;

/// Bytes that stand for one token in estimates.
const BYTES_PER_TOKEN: u64 = 4;

impl<'a> Record<'a> {
    /// The record of `event`, or `None` for an event that makes none. `host_name` is what the client has
    /// called itself, and `dropped` what the sinks have lost so far.
    pub fn new(
        event: &'a Event,
        identity: &'a Identity,
        anchor: &Anchor,
        host_name: Option<&'a str>,
        dropped: &[Dropped],
    ) -> Option<Record<'a>> {
        let text = |text: &'a Option<Redacted>| text.as_ref().map(|text| Cow::Borrowed(text.as_str()));
        let record = Record {
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
        Some(match &event.kind {
            Kind::Operation(operation) => record.operation(operation, anchor),
            Kind::SessionStarted(started) => record.session_started(started),
            Kind::PeerIdentified(peers) => record.peer_identified(peers),
            Kind::CallPending(call) => record.pending(call, anchor, EventName::CallPending),
            Kind::ServerUnresponsive(call) => record.pending(call, anchor, EventName::ServerUnresponsive),
            Kind::AgentThrashing(thrashing) => record.thrashing(thrashing),
            Kind::ToolsChanged(changed) => record.tools_changed(changed),
            Kind::Malformed(malformed) => record.malformed(malformed),
            Kind::Unmatched(unmatched) => record.unmatched(unmatched),
            Kind::Gap(lost) => record.gap(lost),
            Kind::ToolResult(result) => record.tool_result(result),
            Kind::Notification(notification) => record.notification(notification),
            Kind::ServerStderr(stderr) => record.server_stderr(stderr),
            Kind::DebugEnded => {
                Record { event: EventName::DebugEnded, message: "debug records end here".into(), ..record }
            }
            Kind::SessionEnded(ended) => record.session_ended(ended, dropped),
            Kind::ToolsListed(_) | Kind::Pulse(_) => return None,
        })
    }

    fn operation(self, operation: &'a Operation, anchor: &Anchor) -> Record<'a> {
        let is_call = operation.method.as_str() == "tools/call";
        // Clients of both eras ask an older server what it is, and get an error: nothing is wrong.
        let is_probe = operation.method.as_str() == "server/discover";
        let level = if operation.status == Status::Ok || is_probe { Level::Info } else { Level::Warn };
        let target = operation.target.as_ref().map(Target::text);
        let duration = operation.ended.since(operation.started);
        let message = match target {
            Some(target) => format!("{} {target}: {}", operation.method, operation.status.as_str()),
            None => format!("{}: {}", operation.method, operation.status.as_str()),
        };
        let progress = operation.progress;
        Record {
            level,
            event: if is_call { EventName::McpToolCall } else { EventName::McpRequest },
            message: message.into(),
            request_id: known(&operation.request_id),
            direction: Some(operation.direction.as_str().into()),
            method: known(&operation.method),
            protocol_version: operation.protocol_version.as_ref().and_then(known),
            jsonrpc_version: operation.jsonrpc_version.as_ref().and_then(known),
            args_hash: operation.args_hash.map(|hash| hash.to_string().into()),
            result_hash: operation.result_hash.map(|hash| hash.to_string().into()),
            text_hash: operation.text_hash.map(|hash| hash.to_string().into()),
            started_at: Some(anchor.wall(operation.started)),
            ended_at: Some(anchor.wall(operation.ended)),
            duration_ms: Some(duration.into()),
            status: Some(operation.status.as_str().into()),
            error_code: operation.error_code,
            error_type: operation.error_type.map(ErrorType::text),
            error_message: operation.error_message.as_ref().and_then(known),
            request_size_bytes: Some(operation.request_size),
            result_size_bytes: operation.result_size,
            args_tokens_est: operation.args_size.map(tokens),
            result_tokens_est: operation.result_size.map(tokens),
            repeat_count: operation.repeat_count,
            thrashing: operation.thrashing.then_some(true),
            pending_at: operation.pending_at.map(|at| anchor.wall(at)),
            progress_count: progress.map(|progress| progress.count),
            progress_first_at: progress.map(|progress| anchor.wall(progress.first)),
            progress_last_at: progress.map(|progress| anchor.wall(progress.last)),
            cancelled_at: operation.cancelled_at.map(|at| anchor.wall(at)),
            call_id: operation.call_id.as_ref().and_then(known),
            user_wait_ms: operation.user_wait.map(Millis::from),
            continues_seq: operation.continues_seq,
            continues_span_id: operation.continues_span.map(|(_, span_id)| span_id.to_string().into()),
            continues_trace_id: operation
                .continues_span
                .filter(|(trace_id, _)| *trace_id != operation.span.trace_id)
                .map(|(trace_id, _)| trace_id.to_string().into()),
            task_id_hash: operation.task_id_hash.map(|hash| hash.to_string().into()),
            truncated: operation.truncated.then_some(true),
            redactions: counts(&operation.redactions),
            ..self
        }
        .target(operation.target.as_ref())
        .span(&operation.span)
    }

    fn target(self, target: Option<&'a Target>) -> Record<'a> {
        match target {
            Some(Target::Tool(name)) => Record { tool_name: known(name), ..self },
            Some(Target::Prompt(name)) => Record { prompt_name: known(name), ..self },
            Some(Target::Resource(uri)) => Record { resource_uri: known(uri), ..self },
            None => self,
        }
    }

    fn span(self, span: &'a Span) -> Record<'a> {
        let foreign = span.linked.filter(|(trace_id, _)| *trace_id != span.trace_id);
        Record {
            trace_id: Some(span.trace_id.to_string().into()),
            span_id: Some(span.span_id.to_string().into()),
            parent_span_id: span.parent_span_id.map(|id| id.to_string().into()),
            linked_span_id: span.linked.map(|(_, span_id)| span_id.to_string().into()),
            linked_trace_id: foreign.map(|(trace_id, _)| trace_id.to_string().into()),
            trace_state: span.trace_state.as_ref().and_then(known),
            trace_flags: Some(span.flags.to_string().into()),
            ..self
        }
    }

    fn session_started(self, started: &'a SessionStarted) -> Record<'a> {
        let message = match started.child_pid {
            Some(pid) => format!("watching {} (process {pid})", self.server_name),
            None => format!("{} could not be started", self.server_name),
        };
        Record {
            event: EventName::SessionStarted,
            message: message.into(),
            pid: Some(started.pid),
            child_pid: started.child_pid,
            version: Some(env!("CARGO_PKG_VERSION").into()),
            command: Some(texts(&started.command)),
            environment: Some(texts(&started.environment)),
            session_source: Some(started.session_source.into()),
            hash_key_id: started.hash_key_id.map(|id| format!("{:08x}", u32::from_be_bytes(id)).into()),
            ..self
        }
        .span(&started.span)
    }

    fn peer_identified(self, peers: &'a PeerIdentified) -> Record<'a> {
        let name = |name: &Option<Redacted>| name.as_ref().map_or("unknown", Redacted::as_str).to_owned();
        let message = format!("client {}, server {}", name(&peers.client_name), name(&peers.server_name));
        Record {
            event: EventName::PeerIdentified,
            message: message.into(),
            client_name: peers.client_name.as_ref().and_then(known),
            client_version: peers.client_version.as_ref().and_then(known),
            server_self_name: peers.server_name.as_ref().and_then(known),
            server_version: peers.server_version.as_ref().and_then(known),
            protocol_version: peers.protocol_version.as_ref().and_then(known),
            ..self
        }
    }

    fn pending(self, call: &'a PendingCall, anchor: &Anchor, event: EventName) -> Record<'a> {
        let what = call.target.as_ref().map_or(call.method.as_str(), |target| target.text().as_str());
        let seconds = call.open_for.as_secs();
        let message = match event {
            EventName::ServerUnresponsive => format!("nothing from the server since {what}, {seconds} s ago"),
            _ => format!("{what} has been open for {seconds} s"),
        };
        Record {
            level: Level::Warn,
            event,
            message: message.into(),
            request_id: known(&call.request_id),
            direction: Some(call.direction.as_str().into()),
            method: known(&call.method),
            started_at: Some(anchor.wall(call.started)),
            open_ms: Some(call.open_for.into()),
            in_flight: Some(call.in_flight),
            ..self
        }
        .target(call.target.as_ref())
        .span(&call.span)
    }

    fn thrashing(self, thrashing: &'a Thrashing) -> Record<'a> {
        let Thrashing { request_id, tool, args_hash, count, no_progress, span } = thrashing;
        Record {
            level: Level::Warn,
            event: EventName::AgentThrashing,
            message: format!("{tool} called {count} times with the same arguments").into(),
            request_id: known(request_id),
            tool_name: known(tool),
            args_hash: Some(args_hash.to_string().into()),
            count: Some(u64::from(*count)),
            no_progress: Some(*no_progress),
            ..self
        }
        .span(span)
    }

    fn tools_changed(self, changed: &'a ToolsChanged) -> Record<'a> {
        let [added, removed, differ] =
            [&changed.added, &changed.removed, &changed.changed].map(|names| names.len());
        Record {
            level: Level::Warn,
            event: EventName::ToolsChanged,
            message: format!("tool definitions: {added} added, {removed} removed, {differ} changed").into(),
            added: Some(texts(&changed.added)),
            removed: Some(texts(&changed.removed)),
            changed: Some(texts(&changed.changed)),
            definitions_hash: Some(changed.definitions_hash.to_string().into()),
            ..self
        }
    }

    fn malformed(self, malformed: &event::Malformed) -> Record<'a> {
        let Malformed { stream, count, size, reason } = *malformed;
        let reason = match reason {
            MalformedReason::NotJson => "not_json",
            MalformedReason::NotJsonRpc => "not_json_rpc",
            MalformedReason::Partial => "partial",
        };
        Record {
            level: Level::Warn,
            event: EventName::Malformed,
            message: format!("{count} lines on {} that are no messages", stream.as_str()).into(),
            stream: Some(stream.as_str().into()),
            count: Some(count),
            size_bytes: Some(size),
            reason: Some(reason.into()),
            ..self
        }
    }

    fn unmatched(self, unmatched: &'a Unmatched) -> Record<'a> {
        let Unmatched { request_id, direction, what, error_code, count } = unmatched;
        Record {
            level: Level::Warn,
            event: EventName::Unmatched,
            message: format!("a {what} that no open request waits for").into(),
            request_id: request_id.as_ref().and_then(known),
            direction: Some(direction.as_str().into()),
            what: Some((*what).into()),
            error_code: *error_code,
            count: Some(*count),
            ..self
        }
    }

    fn gap(self, lost: &Lost) -> Record<'a> {
        let Lost { place, stream, bytes, frames, records, reason } = *lost;
        let what = if records > 0 { format!("{records} records") } else { format!("{bytes} bytes") };
        Record {
            level: Level::Warn,
            event: EventName::Gap,
            message: format!("lost at {place}: {what} ({reason})").into(),
            place: Some(place.into()),
            stream: stream.map(|stream| stream.as_str().into()),
            bytes_lost: (bytes > 0).then_some(bytes),
            frames_lost: (frames > 0).then_some(frames),
            records_lost: (records > 0).then_some(records),
            reason: Some(reason.into()),
            ..self
        }
    }

    fn tool_result(self, result: &'a ToolResult) -> Record<'a> {
        Record {
            level: Level::Debug,
            event: EventName::ToolResult,
            message: format!("result of {}", result.tool).into(),
            request_id: known(&result.request_id),
            tool_name: known(&result.tool),
            result_summary: known(&result.summary),
            result_hash: result.result_hash.map(|hash| hash.to_string().into()),
            redactions: counts(&result.redactions),
            ..self
        }
    }

    fn notification(self, notification: &'a Notification) -> Record<'a> {
        Record {
            level: Level::Debug,
            event: EventName::McpNotification,
            message: notification.method.as_str().into(),
            direction: Some(notification.direction.as_str().into()),
            method: known(&notification.method),
            text: notification.text.as_ref().and_then(known),
            size_bytes: Some(notification.size),
            redactions: counts(&notification.redactions),
            ..self
        }
    }

    fn server_stderr(self, stderr: &'a ServerStderr) -> Record<'a> {
        Record {
            level: Level::Debug,
            event: EventName::ServerStderr,
            message: "the server wrote to stderr".into(),
            stream: Some("stderr".into()),
            text: known(&stderr.line),
            size_bytes: Some(stderr.size),
            redactions: counts(&stderr.redactions),
            ..self
        }
    }

    fn session_ended(self, ended: &'a SessionEnded, dropped: &[Dropped]) -> Record<'a> {
        let (reason, level) = match ended.reason {
            EndReason::ServerExited => ("server_exited", Level::Info),
            EndReason::ServerDied => ("server_died", Level::Error),
            EndReason::SpawnFailed => ("spawn_failed", Level::Error),
        };
        let how = match (ended.exit_code, ended.signal) {
            (_, Some(signal)) => format!("signal {signal}"),
            (code, None) => format!("status {}", code.unwrap_or_default()),
        };
        let dropped: BTreeMap<Cow<'a, str>, u64> = dropped
            .iter()
            .filter(|dropped| dropped.count > 0)
            .map(|dropped| (format!("{}:{}", dropped.place, dropped.reason).into(), dropped.count))
            .collect();
        Record {
            level,
            event: EventName::SessionEnded,
            message: format!("{reason}: {how}").into(),
            reason: Some(reason.into()),
            exit_code: ended.exit_code,
            signal: ended.signal,
            totals: Some((&ended.totals).into()),
            dropped: (!dropped.is_empty()).then_some(dropped),
            stderr_tail: (!ended.stderr_tail.is_empty()).then(|| texts(&ended.stderr_tail)),
            ..self
        }
    }
}

impl From<&event::Totals> for Totals {
    fn from(totals: &event::Totals) -> Totals {
        let [stdin_bytes, stdout_bytes, stderr_bytes] = totals.bytes;
        let [stdin_frames, stdout_frames, stderr_frames] = totals.frames;
        Totals {
            tool_calls: totals.tool_calls,
            other_requests: totals.other_requests,
            errors: totals.errors,
            denied: totals.denied,
            notifications: totals.notifications,
            malformed: totals.malformed,
            unmatched: totals.unmatched,
            turns: totals.turns,
            stdin_bytes,
            stdout_bytes,
            stderr_bytes,
            stdin_frames,
            stdout_frames,
            stderr_frames,
            bytes_lost: totals.bytes_lost,
            frames_lost: totals.frames_lost,
            catch_ups: totals.catch_ups,
            envelope_only: totals.envelope_only,
            observer_panics: totals.observer_panics,
        }
    }
}

fn known(text: &Redacted) -> Option<Cow<'_, str>> {
    Some(Cow::Borrowed(text.as_str()))
}

fn texts(list: &[Redacted]) -> Vec<Cow<'_, str>> {
    list.iter().map(|text| Cow::Borrowed(text.as_str())).collect()
}

fn counts(counts: &BTreeMap<&'static str, u32>) -> Option<BTreeMap<Cow<'static, str>, u32>> {
    let owned = || counts.iter().map(|(class, count)| (Cow::Borrowed(*class), *count)).collect();
    (!counts.is_empty()).then(owned)
}

/// An estimate, rounded up.
fn tokens(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}
