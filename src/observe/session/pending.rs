//! Open requests.
//!
//! They are found by the side that sent them and by id, because before the 2026-07-28 revision both
//! sides send requests and both count ids from zero. Their number is bounded.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::observe::event::*;
use crate::observe::mcp::Method;
use crate::observe::message::RequestId;
use crate::observe::redact::RedactionCounts;
use crate::observe::session::ConversationTurn;
use crate::relay::chunk::Moment;

/// Requests that may be open at the same time. If more are unanswered, the oldest one ends as `evicted`.
const MAX_PENDING: usize = 16_384;

pub(super) struct Pending {
    pub(super) id: RequestId,
    pub(super) facts: CallFacts,
    /// `ended` is set by [`Pending::finish`].
    pub(super) timing: CallTiming,
    pub(super) within: ConversationTurn,
    pub(super) progress_token: Option<Vec<u8>>,
    /// True if a person refused a question that was asked while this was the only open tool call.
    pub(super) declined: bool,
    /// For a question to a person: the number of the tool call that it probably belongs to.
    pub(super) asked_for: Option<u64>,
    /// True if bytes that may have held the answer were lost.
    pub(super) maybe_lost: bool,
    pub(super) redactions: RedactionCounts,
}

impl Pending {
    /// Makes the operation of this request. An error after a refused question is a denial, and an
    /// answer later than `call_timeout` is a timeout.
    pub(super) fn finish(
        self,
        mut answer: CallAnswer,
        call_timeout: Option<Duration>,
        now: Moment,
    ) -> (Operation, ConversationTurn) {
        let Pending { facts, mut timing, within, declined, redactions, .. } = self;
        if declined && answer.status == Status::Error {
            answer.status = Status::Denied;
        }
        // Skip the timeout check if the answer was not observed, or if the method waits for a person
        // or an event by design.
        let can_be_late =
            !matches!(answer.status, Status::Cancelled | Status::Unknown) && !facts.method.waits_by_design();
        if can_be_late && call_timeout.is_some_and(|limit| now.since(timing.started) > limit) {
            answer.status = Status::Timeout;
            answer.error_type = Some(ErrorType::Timeout);
        }
        timing.ended = now.max(timing.started);
        (Operation { facts, answer, timing, redactions }, within)
    }

    /// Returns how this request ends if the connection ends before the answer.
    pub(super) fn end_without_answer(&self, reason: EndReason) -> (Status, ErrorType) {
        let is_to_server = self.facts.direction == Direction::ClientToServer;
        if self.maybe_lost {
            (Status::Unknown, ErrorType::Gap)
        } else if is_to_server && reason == EndReason::ServerDied {
            (Status::Error, ErrorType::ServerExited)
        } else if self.facts.method == Method::Listen {
            // A subscription lasts as long as the connection.
            (Status::Cancelled, ErrorType::Cancelled)
        } else {
            (Status::Error, ErrorType::Unanswered)
        }
    }
}

/// Numbers of open requests by id. The peers choose the ids, so the hash is seeded by this process.
type Ids = HashMap<RequestId, u64, foldhash::fast::RandomState>;

/// The open requests of both sides, numbered in the order in which they arrived.
#[derive(Default)]
pub(super) struct OpenRequests {
    by_number: BTreeMap<u64, Box<Pending>>,
    /// One table for each [`Direction`].
    by_id: [Ids; 2],
    by_progress_token: HashMap<(Direction, Vec<u8>), u64>,
    next_number: u64,
}

impl OpenRequests {
    pub(super) fn insert(&mut self, pending: Pending) {
        let number = self.next_number;
        let direction = pending.facts.direction;
        self.next_number += 1;
        if let Some(token) = &pending.progress_token {
            self.by_progress_token.insert((direction, token.clone()), number);
        }
        self.by_id[direction as usize].insert(pending.id.clone(), number);
        self.by_number.insert(number, Box::new(pending));
    }

    /// Takes a request out of all tables.
    pub(super) fn remove(&mut self, number: u64) -> Option<Box<Pending>> {
        let mut pending = self.by_number.remove(&number)?;
        let direction = pending.facts.direction;
        self.by_id[direction as usize].remove(&pending.id);
        if let Some(token) = pending.progress_token.take() {
            let key = (direction, token);
            if self.by_progress_token.get(&key) == Some(&number) {
                self.by_progress_token.remove(&key);
            }
        }
        Some(pending)
    }

    /// Returns the number of the request that `direction` sent under the id with these bytes.
    pub(super) fn number(&self, direction: Direction, id: &[u8]) -> Option<u64> {
        self.by_id[direction as usize].get(id).copied()
    }

    pub(super) fn get(&self, number: u64) -> Option<&Pending> {
        self.by_number.get(&number).map(|pending| &**pending)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Pending> {
        self.by_number.get_mut(&number).map(|pending| &mut **pending)
    }

    pub(super) fn by_progress_token(&mut self, direction: Direction, token: Vec<u8>) -> Option<&mut Pending> {
        let number = *self.by_progress_token.get(&(direction, token))?;
        self.get_mut(number)
    }

    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    pub(super) fn numbers(&self) -> Vec<u64> {
        self.by_number.keys().copied().collect()
    }

    /// Returns the requests from `number` on, oldest first.
    pub(super) fn from(&self, number: u64) -> impl Iterator<Item = (u64, &Pending)> {
        self.by_number.range(number..).map(|(number, pending)| (*number, &**pending))
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.by_number.values_mut().map(|pending| &mut **pending)
    }

    /// Returns the request that has to go before another one is taken.
    pub(super) fn oldest_if_full(&self) -> Option<u64> {
        let is_full = self.by_number.len() >= MAX_PENDING;
        self.by_number.first_key_value().filter(|_| is_full).map(|(number, _)| *number)
    }

    /// Returns the number of the open tool call, if exactly one is open.
    pub(super) fn only_tool_call(&self) -> Option<u64> {
        let mut calls = self.from(0).filter(|(_, pending)| pending.facts.is_tool_call());
        match (calls.next(), calls.next()) {
            (Some((number, _)), None) => Some(number),
            _ => None,
        }
    }

    /// Returns true if a request other than a subscription is open. A subscription lasts for many turns.
    pub(super) fn any_that_ends(&self) -> bool {
        self.by_number.values().any(|pending| pending.facts.method != Method::Listen)
    }
}
