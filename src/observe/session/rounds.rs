//! Multi round-trip requests (2026-07-28): a result that asks for input ends its request, and the client
//! sends the same method again with a new id.

use std::collections::VecDeque;

use crate::observe::canonical::{Hash, Hashing};
use crate::observe::envelope::{Envelope, Member};
use crate::observe::event::Round;
use crate::observe::mcp::{Method, keys};
use crate::observe::message;
use crate::observe::redact::Redacted;

/// Rounds that may wait for their next one. If more wait, the oldest one is forgotten.
const MAX_WAITING: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Rounds(VecDeque<WaitingRound>);

#[derive(Debug)]
struct WaitingRound {
    round: Round,
    /// Hash of `requestState`, which is opaque and may contain secrets.
    state: Option<Hash>,
    method: Method,
    /// The target of the method, which is the same in every round.
    target: Option<Redacted>,
    /// Hash of the keys of `inputRequests`, of which there may be thousands.
    inputs: Hash,
}

impl Rounds {
    /// Remembers a round whose result asked for input.
    pub(super) fn asked(
        &mut self,
        round: Round,
        method: Method,
        target: Option<Redacted>,
        result: &Envelope,
        hashing: &Hashing,
    ) {
        if self.0.len() == MAX_WAITING {
            self.0.pop_front();
        }
        self.0.push_back(WaitingRound {
            round,
            state: result.raw(Member::ResultRequestState).map(|raw| hashing.raw(&message::text(raw))),
            method,
            target,
            inputs: hash_of_keys(result.raw(Member::InputRequests).unwrap_or_default(), hashing),
        });
    }

    /// Returns the round that `request` continues: the only one with the same `requestState`, or else the
    /// only one with the same method, target and inputs.
    pub(super) fn continued(
        &mut self,
        method: Method,
        target: Option<&Redacted>,
        request: &Envelope,
        hashing: &Hashing,
    ) -> Option<Round> {
        if self.0.is_empty() || !matches!(method, Method::ToolsCall | Method::PromptsGet | Method::Resource) {
            return None;
        }
        let state = request.raw(Member::RequestState).map(|raw| hashing.raw(&message::text(raw)));
        let responses = request.raw(Member::InputResponses).map(|raw| hash_of_keys(raw, hashing));
        if state.is_none() && responses.is_none() {
            return None;
        }
        let fits = |waiting: &WaitingRound| match (&state, &waiting.state) {
            (Some(state), Some(asked)) => state == asked,
            _ => {
                waiting.method == method
                    && waiting.target.as_ref() == target
                    && responses == Some(waiting.inputs)
            }
        };
        let mut fitting =
            self.0.iter().enumerate().filter(|(_, waiting)| fits(waiting)).map(|(index, _)| index);
        let index = match (fitting.next(), fitting.next()) {
            (Some(index), None) => index,
            _ => return None,
        };
        self.0.remove(index).map(|waiting| waiting.round)
    }
}

fn hash_of_keys(object: &[u8], hashing: &Hashing) -> Hash {
    hashing.raw(&serde_json::to_vec(&keys(object)).unwrap_or_default())
}
