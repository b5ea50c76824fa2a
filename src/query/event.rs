//! The events, other than operations, that `tail` and `show` print: ends, gaps, malformed messages, warnings.

use std::sync::Arc;

use crate::query::entry::LogEntry;
use crate::query::name_pool::NamePool;
use crate::record::EventName;
use crate::record::live::LiveState;
use crate::record::timestamp::Timestamp;
use crate::record::words::EndReason;
use crate::system::signal_name::signal_name;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// The ordinary beginning or end of a connection.
    Info,
    Warning,
    Failure,
}

/// A notable event, as far as it is drawn.
#[derive(Clone, Debug)]
pub struct EventRow {
    pub(crate) event: EventName,
    pub(crate) at: Timestamp,
    pub(crate) connection_id: Arc<str>,
    pub(crate) server_name: Arc<str>,
    pub(crate) session_id: Arc<str>,
    pub(crate) severity: Severity,
    pub(crate) text: String,
    /// The last lines that a server that ended wrote to standard error.
    pub(crate) stderr: Vec<String>,
    /// The start of the request that the event is about.
    pub(crate) started: Timestamp,
    /// Time for which that request was open.
    pub(crate) open_ms: Option<f64>,
}

impl EventRow {
    pub(crate) fn new(entry: &LogEntry<'_>, names: &mut NamePool) -> EventRow {
        let text = match (unexpected_end(entry), entry.signal, entry.exit_code) {
            _ if entry.event != EventName::SessionEnded => entry.message.to_string(),
            (Some(how), ..) => how,
            (None, Some(signal), _) => format!("died of {} when it was asked to end", signal_name(signal)),
            (None, None, Some(0)) => "ended".to_owned(),
            (None, None, Some(code)) => format!("exited with {code} when it was asked to end"),
            (None, None, None) => entry.message.to_string(),
        };
        let stderr = entry.stderr_tail.iter().flatten().filter(|_| entry.event == EventName::SessionEnded);
        EventRow {
            event: entry.event,
            at: entry.timestamp,
            connection_id: names.share(&entry.connection_id),
            server_name: names.share(&entry.server_name),
            session_id: names.share(&entry.session_id),
            severity: severity(entry).unwrap_or(Severity::Info),
            text,
            stderr: stderr.map(|line| line.replace('\t', "    ")).collect(),
            started: entry.started(),
            open_ms: entry.open_ms,
        }
    }

    /// Returns the connection and the start of the request that the event is about.
    pub(crate) fn request(&self) -> (Arc<str>, Timestamp) {
        (Arc::clone(&self.connection_id), self.started)
    }

    /// Returns the end of a connection whose spantap was killed, which no record reports.
    pub(crate) fn killed(state: &LiveState, at: Timestamp) -> EventRow {
        EventRow {
            event: EventName::SessionEnded,
            at,
            connection_id: state.connection_id.as_str().into(),
            server_name: state.server_name.as_str().into(),
            session_id: state.session_id.as_str().into(),
            severity: Severity::Failure,
            text: state.last_seen_text(),
            stderr: Vec::new(),
            started: at,
            open_ms: None,
        }
    }
}

/// Returns true if a connection begins or ends with this event.
pub(crate) fn is_edge(entry: &LogEntry<'_>) -> bool {
    matches!(entry.event, EventName::SessionStarted | EventName::SessionEnded)
}

/// Returns true if an event that is not an operation is worth a line.
pub(crate) fn is_notable(entry: &LogEntry<'_>) -> bool {
    severity(entry).is_some()
}

fn severity(entry: &LogEntry<'_>) -> Option<Severity> {
    match entry.event {
        // Repeated calls that lead somewhere do not need attention.
        EventName::AgentThrashing if &*entry.level == "info" => None,
        // Cancellations of requests that were answered before harm nothing.
        EventName::Unmatched if &*entry.level == "info" => None,
        // Bodies are kept.
        EventName::DebugStarted if &*entry.level == "warn" => Some(Severity::Failure),
        EventName::AgentThrashing | EventName::ServerUnresponsive | EventName::Gap => Some(Severity::Failure),
        EventName::CallPending | EventName::ToolsChanged | EventName::Malformed | EventName::Unmatched => {
            Some(Severity::Warning)
        }
        EventName::SessionEnded if &*entry.reason != EndReason::ServerExited.as_str() => {
            Some(Severity::Failure)
        }
        EventName::SessionEnded if failed_to_end(entry) || was_killed_as_orphan(entry) => {
            Some(Severity::Warning)
        }
        _ => None,
    }
}

/// Returns true if a server that was asked to end neither succeeded nor ended by the signal that asked it.
fn failed_to_end(entry: &LogEntry<'_>) -> bool {
    // SIGHUP, SIGINT, SIGKILL, SIGTERM.
    let requests = [1, 2, 9, 15];
    match (entry.signal, entry.exit_code) {
        (Some(signal), _) => !requests.contains(&signal),
        // A program that catches a signal exits with 128 and the signal's number.
        (None, Some(code)) => code != 0 && !requests.contains(&code.saturating_sub(128)),
        (None, None) => false,
    }
}

/// Returns true if spantap killed the server, because it did not end when its host was gone.
fn was_killed_as_orphan(entry: &LogEntry<'_>) -> bool {
    entry.orphan_killed == Some(true)
}

/// Returns why a server did not start: by its message, or by the status of older records.
fn not_started(entry: &LogEntry<'_>) -> String {
    match (&*entry.error_message, entry.exit_code) {
        ("", Some(127)) => "did not start: its command was not found".to_owned(),
        ("", Some(126)) => "did not start: its command cannot be executed".to_owned(),
        ("", _) => "did not start".to_owned(),
        (message, _) => format!("did not start: {message}"),
    }
}

/// Returns the words for the error type of a call. `server_exited` is also the reason of an ordinary end.
pub(crate) fn failure_words(error_type: &str) -> &str {
    if was_lost_with_server(error_type) { "its server ended" } else { error_type }
}

/// Returns true if the error type of a request says that it was open when its server ended.
pub(crate) fn was_lost_with_server(error_type: &str) -> bool {
    error_type == "server_exited"
}

/// Returns the last line of standard error that names an error, else the last line. Lines of a stack are left out.
pub(crate) fn last_words<'e>(entry: &'e LogEntry<'_>) -> Option<&'e str> {
    let lines = || {
        let lines =
            entry.stderr_tail.iter().flatten().map(|line| line.trim()).filter(|line| !line.is_empty());
        lines.filter(|line| !line.starts_with("at ") && !line.starts_with("File \""))
    };
    let names_an_error = |line: &&str| {
        let line = line.to_ascii_lowercase();
        ["error", "exception", "panic", "fatal", "refused", "denied", "failed"]
            .iter()
            .any(|word| line.contains(word))
    };
    lines().rfind(names_an_error).or_else(|| lines().next_back())
}

/// Returns how a server ended that was not asked to end, or that did not end when it was; `None` for an ordinary end.
pub(crate) fn unexpected_end(entry: &LogEntry<'_>) -> Option<String> {
    match (entry.signal, entry.exit_code, EndReason::from_word(&entry.reason)) {
        (_, _, Some(EndReason::ServerExited)) if was_killed_as_orphan(entry) => {
            Some("did not end when its host was gone; spantap killed it".to_owned())
        }
        (_, _, Some(EndReason::ServerExited)) => None,
        (_, _, Some(EndReason::SpawnFailed)) => Some(not_started(entry)),
        (Some(signal), _, _) => Some(format!("died of {}", signal_name(signal))),
        // Other codes do not look like an ordinary end.
        (_, Some(0), _) => Some("exited with 0 by itself".to_owned()),
        (_, Some(code), _) => Some(format!("exited with {code}")),
        _ => Some("died".to_owned()),
    }
}
