//! The failures, and their cause: the server, the arguments, the client or a person.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::query::errors;
use crate::query::row::OperationRow;
use crate::query::time_spent::{Interval, overlap_ms, union};
use crate::query::why::ends::is_lost_with_server;
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

/// Operations of one tool that ended with the same status.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FailureFact {
    pub(crate) server_name: String,
    /// Tool, prompt or resource, or the method of a request without one.
    pub(crate) name: String,
    pub(crate) status: &'static str,
    /// First line of the most frequent message.
    pub(crate) message: String,
    pub(crate) count: u64,
    /// The most frequent messages, at most ten.
    pub(crate) messages: Vec<FailureMessage>,
    /// Number of further messages.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) more_messages: u64,
    /// Number of operations with this name; absent if `--status` or `--min-duration` leaves operations out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) operations: Option<u64>,
    /// Number of all failures of the session, also of requests that were lost with their server, with the most
    /// frequent of them; absent as `operations` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) all_failures: Option<u64>,
    /// Number of tool calls among `all_failures`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failed_calls: Option<u64>,
    pub(crate) is_call: bool,
    /// Unknown also if the messages have different causes.
    pub(crate) cause: FailureCause,
    /// Handle of the first of them.
    pub(crate) handle: String,
}

/// Failures with the same message, except for numbers, ids and paths.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FailureMessage {
    /// First line of the first message; empty without one.
    pub(crate) message: String,
    pub(crate) count: u64,
    pub(crate) cause: FailureCause,
    /// Handle of the first of them.
    pub(crate) handle: String,
}

/// Most messages of one tool.
const MESSAGES: usize = 10;

/// Operations of one tool that a person or a policy refused.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DenialFact {
    pub(crate) server_name: String,
    pub(crate) name: String,
    pub(crate) count: u64,
    /// True if a person declined the question that was asked during the last of them.
    pub(crate) by_person: bool,
    /// True if they are questions to a person, of which no refused call has a part.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_question: bool,
    /// Handle of the last of them.
    pub(crate) handle: String,
}

/// Returns the failures by tool and status: the most frequent first, then the earliest. Refused operations, and those
/// that were lost with their server, are not among them. Older servers refuse `server/discover` correctly.
/// `all` are the operations of the session; `is_narrowed` is true if `rows` are not all that have their names.
pub(super) fn failures(rows: &[OperationRow], all: &[OperationRow], is_narrowed: bool) -> Vec<FailureFact> {
    let of_calls = failures_of_calls(rows);
    let is_failure = |row: &&OperationRow| {
        row.status.is_error() && &*row.method != "server/discover" && !is_told_by_call(row, &of_calls)
    };
    let failed = || rows.iter().filter(is_failure);
    let sampled = unions(all.iter().filter(|row| &*row.method == "sampling/createMessage"));
    let mut facts: Vec<FailureFact> = Vec::new();
    let mut places: HashMap<(&str, &str, Status), usize> = HashMap::new();
    let mut messages: HashMap<(usize, String, FailureCause), usize> = HashMap::new();
    let mut operations: HashMap<(&str, &str), u64> = HashMap::new();
    rows.iter().for_each(|row| *operations.entry((&row.server_name, row.name())).or_default() += 1);
    for row in failed().filter(|row| !is_lost_with_server(row)) {
        let (message, cause) = (message(row), cause(row, &sampled));
        let place = *places.entry((&row.server_name, row.name(), row.status)).or_insert(facts.len());
        if place == facts.len() {
            facts.push(FailureFact {
                server_name: row.server_name.to_string(),
                name: row.name().to_owned(),
                status: row.status.as_str(),
                message: String::new(),
                count: 0,
                messages: Vec::new(),
                more_messages: 0,
                operations: (!is_narrowed).then(|| operations[&(&*row.server_name, row.name())]),
                all_failures: None,
                failed_calls: None,
                is_call: row.is_tool_call,
                cause,
                handle: row.handle(),
            });
        }
        let fact = &mut facts[place];
        fact.count += 1;
        let known = fact.messages.len();
        let at = *messages.entry((place, errors::masked(message), cause)).or_insert(known);
        if at == known {
            let (message, handle) = (message.to_owned(), row.handle());
            fact.messages.push(FailureMessage { message, count: 0, cause, handle });
        }
        fact.messages[at].count += 1;
    }
    facts.iter_mut().for_each(settle_messages);
    // The sort is stable: equal ones stay in the order of time.
    facts.sort_by_key(|fact| std::cmp::Reverse(fact.count));
    if let Some(first) = facts.first_mut().filter(|_| !is_narrowed) {
        first.all_failures = Some(failed().count() as u64);
        first.failed_calls = Some(failed().filter(|row| row.is_tool_call).count() as u64);
    }
    facts
}

/// Sorts the messages, the most frequent first, and sums them up.
fn settle_messages(fact: &mut FailureFact) {
    fact.messages.sort_by_key(|message| std::cmp::Reverse(message.count));
    if fact.messages.iter().any(|message| message.cause != fact.cause) {
        fact.cause = FailureCause::Unknown;
    }
    fact.message = fact.messages.first().map(|message| message.message.clone()).unwrap_or_default();
    fact.more_messages = fact.messages.len().saturating_sub(MESSAGES) as u64;
    fact.messages.truncate(MESSAGES);
}

/// Returns the refused operations by tool, the most frequent first.
pub(super) fn denials(rows: &[OperationRow]) -> Vec<DenialFact> {
    let mut facts: Vec<DenialFact> = Vec::new();
    let of_calls = failures_of_calls(rows);
    let is_denied = |row: &&OperationRow| row.status == Status::Denied && !is_told_by_call(row, &of_calls);
    let (questions, refused): (Vec<&OperationRow>, Vec<_>) =
        rows.iter().filter(is_denied).partition(|row| row.is_from_server);
    let during = unions(refused.iter().copied());
    // A question that was declined during a refused call is part of the refusal of the call.
    let is_own = |question: &&OperationRow| {
        let at = question.started.0;
        let is_during = |calls: &Vec<Interval>| {
            calls.get(calls.partition_point(|call| call.1 < at)).is_some_and(|call| call.0 <= at)
        };
        !during.get(&*question.connection_id).is_some_and(is_during)
    };
    let declined = by_connection(questions.iter().copied());
    let own = questions.iter().copied().filter(is_own);
    let mut places: HashMap<(&str, &str), usize> = HashMap::new();
    for row in refused.iter().copied().chain(own) {
        let is_declined = |questions: &Vec<Interval>| {
            let first = questions.partition_point(|question| question.0 < row.started.0);
            questions.get(first).is_some_and(|question| question.0 <= row.ended().0)
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
                is_question: row.is_from_server && &*row.method == "elicitation/create",
                handle: row.handle(),
            }),
        }
    }
    facts.sort_by_key(|fact| std::cmp::Reverse(fact.count));
    facts
}

/// Returns the times of operations by connection, each in the order of its beginnings.
fn by_connection<'r>(rows: impl Iterator<Item = &'r OperationRow>) -> HashMap<&'r str, Vec<Interval>> {
    let mut times: HashMap<&str, Vec<Interval>> = HashMap::new();
    for row in rows {
        times.entry(&row.connection_id).or_default().push((row.started.0, row.ended().0));
    }
    times.values_mut().for_each(|times| times.sort_unstable());
    times
}

/// Returns the [`union`] of the times of operations by connection.
fn unions<'r>(rows: impl Iterator<Item = &'r OperationRow>) -> HashMap<&'r str, Vec<Interval>> {
    by_connection(rows).into_iter().map(|(connection, times)| (connection, union(times))).collect()
}

fn is_zero(count: &u64) -> bool {
    *count == 0
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

/// Returns the cause by status and error type, and for a tool's own error by its message. `sampled` are the times in
/// which a model was asked.
fn cause(row: &OperationRow, sampled: &HashMap<&str, Vec<Interval>>) -> FailureCause {
    let wait = row.user_wait_ms.unwrap_or(0.0);
    let waited = wait > row.length_ms() / 2.0;
    let is_for_model = || {
        let times = sampled.get(&*row.connection_id);
        times.is_some_and(|times| overlap_ms(times, (row.started.0, row.ended().0)) > wait / 2.0)
    };
    match (&*row.error_type, row.status) {
        ("dismissed", _) => FailureCause::Person,
        (_, Status::Timeout | Status::Cancelled) if waited && is_for_model() => FailureCause::Client,
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
