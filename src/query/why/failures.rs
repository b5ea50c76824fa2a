//! The failures, and their cause: the server, the arguments, the client or a person.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::Serialize;

use crate::query::errors;
use crate::query::row::OperationRow;
use crate::query::why::ends::is_lost_with_server;
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;

/// The side on which the cause of a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FailureCause {
    Server,
    /// The request cannot succeed as it was sent.
    Arguments,
    /// A person left a question without an answer.
    Person,
    /// The client cancelled the request, or left.
    Client,
    /// Neither code nor message tells.
    Unknown,
}

/// Operations of one tool that failed with the same message, except for numbers, ids and paths.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FailureFact {
    pub(crate) server_name: String,
    /// Tool, prompt or resource, or the method of a request without one.
    pub(crate) name: String,
    pub(crate) status: &'static str,
    /// First line of the first message.
    pub(crate) message: String,
    pub(crate) count: u64,
    /// Number of operations with this name; absent if `--status` or `--min-duration` leaves operations out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) operations: Option<u64>,
    /// Number of all failures of the session, with the most frequent of them; absent as `operations` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) all_failures: Option<u64>,
    pub(crate) is_call: bool,
    pub(crate) cause: FailureCause,
    /// Handle of the first of them.
    pub(crate) handle: String,
}

/// Operations of one tool that a person or a policy refused.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DenialFact {
    pub(crate) server_name: String,
    pub(crate) name: String,
    pub(crate) count: u64,
    /// True if a person declined the question that was asked during the last of them.
    pub(crate) by_person: bool,
    /// Handle of the last of them.
    pub(crate) handle: String,
}

/// Returns the failures by tool and message: the most frequent first, then the earliest. Refused operations, and
/// those that were lost with their server, are not among them. Older servers refuse `server/discover` correctly.
/// `is_narrowed` is true if `rows` are not all operations.
pub(super) fn failures(rows: &[OperationRow], is_narrowed: bool) -> Vec<FailureFact> {
    let of_calls = failures_of_calls(rows);
    let is_failure = |row: &&OperationRow| {
        row.status.is_error()
            && !is_lost_with_server(row)
            && &*row.method != "server/discover"
            && !is_told_by_call(row, &of_calls)
    };
    let failed = || rows.iter().filter(is_failure);
    let mut facts: Vec<FailureFact> = Vec::new();
    let mut places: HashMap<(&str, &str, String, FailureCause), usize> = HashMap::new();
    let mut operations: HashMap<(&str, &str), u64> = HashMap::new();
    rows.iter().for_each(|row| *operations.entry((&row.server_name, row.name())).or_default() += 1);
    for row in failed() {
        let message = message(row);
        let cause = cause(row);
        let key = (&*row.server_name, row.name(), errors::masked(message), cause);
        let place = *places.entry(key).or_insert_with(|| {
            facts.push(FailureFact {
                server_name: row.server_name.to_string(),
                name: row.name().to_owned(),
                status: row.status.as_str(),
                message: message.to_owned(),
                count: 0,
                operations: (!is_narrowed).then(|| operations[&(&*row.server_name, row.name())]),
                all_failures: None,
                is_call: row.is_tool_call,
                cause,
                handle: row.handle(),
            });
            facts.len() - 1
        });
        facts[place].count += 1;
    }
    // The sort is stable: equal ones stay in the order of time.
    facts.sort_by_key(|fact| std::cmp::Reverse(fact.count));
    if let Some(first) = facts.first_mut().filter(|_| !is_narrowed) {
        first.all_failures = Some(failed().count() as u64);
    }
    facts
}

/// Returns the refused operations by tool, the most frequent first.
pub(super) fn denials(rows: &[OperationRow]) -> Vec<DenialFact> {
    let mut facts: Vec<DenialFact> = Vec::new();
    let of_calls = failures_of_calls(rows);
    let is_denied = |row: &&OperationRow| row.status == Status::Denied && !is_told_by_call(row, &of_calls);
    let denied = || rows.iter().filter(is_denied);
    // A question of the server that was declined also makes its call denied.
    let has_call = denied().any(|row| !row.is_from_server);
    let mut declined: HashMap<&str, BTreeSet<Timestamp>> = HashMap::new();
    for question in denied().filter(|row| row.is_from_server) {
        declined.entry(&question.connection_id).or_default().insert(question.started);
    }
    let mut places: HashMap<(&str, &str), usize> = HashMap::new();
    for row in denied().filter(|row| !row.is_from_server || !has_call) {
        let is_declined = |times: &BTreeSet<Timestamp>| {
            times.range(row.started..).next().is_some_and(|at| *at <= row.ended())
        };
        let by_person = row.is_from_server || declined.get(&*row.connection_id).is_some_and(is_declined);
        let place = *places.entry((&row.server_name, row.name())).or_insert(facts.len());
        match facts.get_mut(place) {
            Some(fact) => {
                (fact.count, fact.by_person, fact.handle) = (fact.count + 1, by_person, row.handle())
            }
            None => facts.push(DenialFact {
                server_name: row.server_name.to_string(),
                name: row.name().to_owned(),
                count: 1,
                by_person,
                handle: row.handle(),
            }),
        }
    }
    facts.sort_by_key(|fact| std::cmp::Reverse(fact.count));
    facts
}

/// Server, error type and message of each failed call.
type FailedCalls<'r> = HashSet<(&'r str, &'r str, &'r str)>;

fn failures_of_calls(rows: &[OperationRow]) -> FailedCalls<'_> {
    let failed = rows.iter().filter(|row| row.is_tool_call && row.status.is_failure());
    failed.map(failure).collect()
}

/// Returns true if `row` brought the failure of a task whose call is among the failed calls.
fn is_told_by_call(row: &OperationRow, of_calls: &FailedCalls<'_>) -> bool {
    row.is_failure_of_task && of_calls.contains(&failure(row))
}

fn failure(row: &OperationRow) -> (&str, &str, &str) {
    (&row.server_name, &row.error_type, &row.error_message)
}

/// Returns the first line of the error message; empty without a message.
fn message(row: &OperationRow) -> &str {
    row.error_message.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default()
}

/// Beginnings and parts of messages that blame what was asked for.
const OF_ARGUMENTS: &[&str] = &[
    "invalid param",
    "invalid argument",
    "invalid input",
    "invalid value",
    "validation error",
    "missing required",
    "is required",
    "required property",
    "unknown tool",
    "must be a string",
    "must be a number",
    "must be a valid",
    "must be an integer",
    "must be one of",
    "enoent",
    "eisdir",
    "enotdir",
    "no such file",
    "not found",
    "does not exist",
    "bad request",
    "outside allowed",
];

/// Parts of messages about what the server runs or signs in with. With one of them, a thing that is missing or invalid
/// need not be what was asked for.
const NOT_OF_ARGUMENTS: &[&str] = &[
    "spawn",
    "command",
    "sh: ",
    "executable",
    "module",
    "package",
    "key",
    "token",
    "auth",
    "credential",
    "password",
    "environment",
    "logged in",
];

/// Parts of messages that blame the server, or what it depends on.
const OF_SERVER: &[&str] = &[
    "internal error",
    "internal server error",
    "connection refused",
    "econnrefused",
    "econnreset",
    "connection reset",
    "timed out",
    "timeout",
    "unavailable",
    "rate limit",
    "too many requests",
    "enospc",
    "no space left",
    "out of memory",
    "deadlock",
];

/// Returns the cause by status and error type, and for a tool's own error by its message.
fn cause(row: &OperationRow) -> FailureCause {
    let waited = row.user_wait_ms.unwrap_or(0.0) > row.length_ms() / 2.0;
    match (&*row.error_type, row.status) {
        ("dismissed", _) => FailureCause::Person,
        (_, Status::Timeout | Status::Cancelled) if waited => FailureCause::Person,
        (_, _) if row.is_from_server => FailureCause::Client,
        (_, Status::Timeout) => FailureCause::Server,
        (_, Status::Cancelled) | ("unanswered" | "superseded", _) => FailureCause::Client,
        ("-32700" | "-32600" | "-32602", _) => FailureCause::Arguments,
        ("-32601", _) => FailureCause::Unknown,
        ("-32603" | "invalid_response", _) => FailureCause::Server,
        _ => cause_by_message(message(row)),
    }
}

fn cause_by_message(message: &str) -> FailureCause {
    let message = message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match (has(OF_ARGUMENTS) && !has(NOT_OF_ARGUMENTS), has(OF_SERVER)) {
        (true, false) => FailureCause::Arguments,
        (false, true) => FailureCause::Server,
        _ => FailureCause::Unknown,
    }
}
