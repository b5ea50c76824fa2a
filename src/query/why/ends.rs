//! Servers that died or did not start, and their last words.

use std::collections::HashMap;

use serde::Serialize;

use crate::query::errors;
use crate::query::event::was_lost_with_server;
use crate::query::live::{self, LiveConnection};
use crate::query::row::{OperationRow, id_end};
use crate::query::why::story::Story;
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;

/// A server that ended without being asked to, or whose spantap was killed; or several equal ends of one server.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EndFact {
    pub(crate) server_name: String,
    /// `exited with 1`, `died of signal 11`, `did not start: …`.
    pub(crate) how: String,
    pub(crate) count: u64,
    /// True if the server had answered a handshake or a call; absent if it did not start, or if a part of its log is
    /// missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) was_ready: Option<bool>,
    /// Number of requests that all these ends left without an answer.
    pub(crate) unanswered: u64,
    /// The line of standard error that says most about the last end; absent if the server wrote nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_words: Option<String>,
    pub(crate) at: Timestamp,
    /// Handle of the last request without an answer; without one the end of the connection id.
    pub(crate) handle: String,
    #[serde(skip)]
    connection_id: String,
}

impl EndFact {
    /// Returns true if the server ended while `call` was open.
    pub(super) fn is_during(&self, call: &OperationRow) -> bool {
        *self.connection_id == *call.connection_id && is_lost_with_server(call)
            || self.connection_id == *call.connection_id
                && call.status != Status::Ok
                && call.started <= self.at
                && call.ended().ms_until(self.at) < 1.0
    }
}

/// Returns true if the request was open when its server ended.
pub(super) fn is_lost_with_server(row: &OperationRow) -> bool {
    was_lost_with_server(&row.error_type)
}

/// Returns the unexpected ends as [`facts`] does, but those that differ at most in numbers, ids and paths of their last
/// words as one, with the time, words and handle of the last.
pub(super) fn grouped(story: &Story, live: &[&LiveConnection]) -> Vec<EndFact> {
    let mut ends = facts(story, live);
    ends.sort_by_key(|end| end.at);
    let mut groups: Vec<EndFact> = Vec::new();
    let mut places: HashMap<(String, String, Option<bool>, Option<String>), usize> = HashMap::new();
    for end in ends {
        let words = end.last_words.as_deref().map(errors::masked);
        let key = (end.server_name.clone(), end.how.clone(), end.was_ready, words);
        let place = *places.entry(key).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => {
                let (count, unanswered) = (group.count + 1, group.unanswered + end.unanswered);
                // A handle of a request is worth more than that of a connection.
                let handle = if end.unanswered > 0 { end.handle.clone() } else { group.handle.clone() };
                *group = EndFact { count, unanswered, handle, ..end };
            }
            None => groups.push(end),
        }
    }
    sort(&mut groups);
    groups
}

/// Returns the unexpected ends: first those that cost most answers.
pub(super) fn facts(story: &Story, live: &[&LiveConnection]) -> Vec<EndFact> {
    let lost = story.rows.iter().filter(|row| is_lost_with_server(row));
    // The last of each connection stays.
    let lost: HashMap<&str, &OperationRow> = lost.map(|row| (&*row.connection_id, row)).collect();
    let fact = |connection_id: &str, server_name: &str, at, how| {
        let records = story.records.get(connection_id).copied().unwrap_or_default();
        let handle = lost.get(connection_id).map(|row| row.handle());
        EndFact {
            server_name: server_name.to_owned(),
            how,
            count: 1,
            was_ready: records.was_ready(),
            unanswered: records.lost_with_server,
            last_words: None,
            at,
            handle: handle.unwrap_or_else(|| id_end(connection_id, 6).to_owned()),
            connection_id: connection_id.to_owned(),
        }
    };
    let died = story.ends.iter().filter_map(|end| {
        let how = end.unexpected.clone()?;
        let fact = fact(&end.connection_id, &end.server_name, end.at, how);
        let was_ready = fact.was_ready.filter(|_| end.did_start);
        Some(EndFact { was_ready, last_words: end.last_words.clone(), ..fact })
    });
    let has_ended = |id: &str| story.ends.iter().any(|end| *end.connection_id == *id);
    let killed = live.iter().flat_map(|live| live::killed(std::slice::from_ref(*live), has_ended));
    let killed = killed.map(|state| {
        let how = state.lost_proxy_text();
        let fact = fact(&state.connection_id, &state.server_name, state.updated_at, how);
        // Its last records may be lost.
        EndFact { was_ready: fact.was_ready.filter(|was_ready| *was_ready), ..fact }
    });
    let mut facts: Vec<EndFact> = died.chain(killed).collect();
    sort(&mut facts);
    facts
}

fn sort(ends: &mut [EndFact]) {
    ends.sort_by(|a, b| b.unanswered.cmp(&a.unanswered).then(a.at.cmp(&b.at)));
}
