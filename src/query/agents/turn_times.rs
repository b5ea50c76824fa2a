//! The turns that the agent of a session reported, and which turns of calls they are.
//!
//! A turn of calls is one that the host names, or one that spantap counts by the pauses between calls. It is a turn of
//! the agent if both have the same id. If no turn of calls has the id of a turn of the agent, the two do not have ids of
//! one kind: then it is a turn of the agent if one of its calls began during it.

use std::collections::{HashMap, HashSet};

use crate::query::agents::facts::link;
use crate::query::agents::time_index::TimeIndex;
use crate::record::EventName;
use crate::record::timestamp::Timestamp;

/// Longest time between two facts of one turn: a model call, a tool, or the answer of a person takes less. Turns of one
/// id that are farther apart are different turns, since an agent that continues a conversation can count them anew.
pub(super) const TURN_PAUSE_US: i64 = 30 * 60_000_000;

/// Longest time by which a call begins before the turn that it belongs to, or after it. Both are by one clock, and an
/// agent rounds its times.
const SLACK_US: i64 = 50_000;

/// Turn and time of a fact.
#[derive(Clone, Copy, Debug)]
pub(super) struct TurnPart {
    /// The agent's id of the turn, by [`turn_link`].
    turn: Option<u64>,
    /// True if the fact is the turn itself.
    is_turn: bool,
    began: i64,
    ended: i64,
}

impl TurnPart {
    pub(super) fn new(event: EventName, turn_id: &str, began: Timestamp, ended: Timestamp) -> TurnPart {
        let is_turn = event == EventName::AgentTurn;
        TurnPart { turn: turn_link(turn_id), is_turn, began: began.0, ended: ended.0 }
    }
}

/// Returns a number for an id of a turn that calls and facts have in common; `None` without an id.
pub(super) fn turn_link(turn_id: &str) -> Option<u64> {
    link("turn", turn_id)
}

/// The turns of the agent of one session.
#[derive(Clone, Debug)]
pub(super) struct TurnTimes {
    /// Number of turns: those that the agent reported, and those of which it reported other facts only.
    pub(super) count: u64,
    turns: HashSet<u64>,
    times: TimeIndex,
    /// True if a turn of calls has the id of one of these.
    has_common_ids: bool,
}

impl TurnTimes {
    /// Takes the facts of a session in the order of their beginnings. [`note`](TurnTimes::note) takes its calls then.
    pub(super) fn new(parts: &[TurnPart]) -> TurnTimes {
        let of_turns = || parts.iter().filter(|part| part.is_turn);
        let reported: HashSet<u64> = of_turns().filter_map(|part| part.turn).collect();
        let nameless = of_turns().filter(|part| part.turn.is_none());
        let nameless: Vec<(i64, i64, usize)> = nameless.map(|part| (part.began, part.ended, 0)).collect();
        let mut times: Vec<(i64, i64)> = nameless.iter().map(|(began, ended, _)| (*began, *ended)).collect();
        let nameless = TimeIndex::new(nameless);
        // Ids of turns that the agent did not report; true if a turn without an id was around a fact of it.
        let mut unreported: HashMap<u64, bool> = HashMap::new();
        let mut open: HashMap<u64, (i64, i64)> = HashMap::new();
        for part in parts {
            let Some(turn) = part.turn else { continue };
            let time = open.entry(turn).or_insert((part.began, part.ended));
            if part.began.saturating_sub(time.1) > TURN_PAUSE_US {
                times.push(std::mem::replace(time, (part.began, part.ended)));
            }
            time.1 = time.1.max(part.ended);
            if !reported.contains(&turn) {
                let is_around = nameless.find(part.began, part.began).next().is_some();
                *unreported.entry(turn).or_default() |= is_around;
            }
        }
        times.extend(open.values());
        let others = unreported.values().filter(|is_around| !**is_around).count();
        TurnTimes {
            count: (of_turns().count() + others) as u64,
            turns: open.into_keys().collect(),
            times: TimeIndex::new(times.into_iter().map(|(began, ended)| (began, ended, 0))),
            has_common_ids: false,
        }
    }

    /// Takes the turn that a call names, by [`turn_link`].
    pub(super) fn note(&mut self, turn: Option<u64>) {
        self.has_common_ids |= turn.is_some_and(|turn| self.turns.contains(&turn));
    }

    /// Returns true if a call that names this turn belongs to a turn of the agent, after all calls were noted.
    pub(super) fn covers(&self, turn: Option<u64>, started: Timestamp) -> bool {
        let is_around = || {
            let (from, until) = (started.0.saturating_sub(SLACK_US), started.0.saturating_add(SLACK_US));
            self.times.find(until, from).next().is_some()
        };
        turn.is_some_and(|turn| self.turns.contains(&turn)) || !self.has_common_ids && is_around()
    }
}
