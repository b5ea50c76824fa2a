//! Conversations that an agent continues in another process, with a new id for its servers.
//!
//! Claude Code keeps the id of the session in its reports, and gives its servers that of the new process. A call id joins
//! the two.

use std::collections::{BTreeSet, HashMap};

use super::{Assigner, NEAR_US};
use crate::query::agents::wire::WireTable;

/// Most sessions with one call id that are compared. Models that count their calls give the same ids in many sessions.
const MOST_SESSIONS: usize = 64;

impl Assigner<'_, '_> {
    /// Gives facts outside the time of the session whose id they have to a nearer session that has a call of their run.
    pub(super) fn by_calls_of_continued(&mut self, wire: &WireTable, place: &[usize]) {
        let calls = self.facts.iter().filter_map(|fact| fact.call);
        let mut of_call: HashMap<u64, BTreeSet<usize>> = calls.map(|id| (id, BTreeSet::new())).collect();
        for call in &wire.calls {
            for link in call.links {
                if let Some(sessions) =
                    of_call.get_mut(&link).filter(|sessions| sessions.len() <= MOST_SESSIONS)
                {
                    sessions.insert(place[call.session as usize]);
                }
            }
        }
        for run in self.runs.iter().filter(|run| run.is_one) {
            let called: BTreeSet<usize> = run
                .facts
                .iter()
                .filter_map(|at| {
                    let fact = self.facts[*at];
                    let sessions =
                        of_call.get(&fact.call?).filter(|sessions| sessions.len() <= MOST_SESSIONS)?;
                    let mut near = sessions.iter().copied().filter(|session| {
                        let session = &self.sessions[*session];
                        session.gap(fact) <= NEAR_US && session.can_be_of(&fact.agent_name)
                    });
                    near.next().filter(|_| near.next().is_none())
                })
                .collect();
            for at in run.facts.iter().filter(|_| !called.is_empty()) {
                let Some(own) = self.result.session_of[*at] else { continue };
                let gap = |session: &usize| self.sessions[*session].gap(self.facts[*at]);
                if let Some(nearest) = called.iter().copied().min_by_key(gap)
                    && gap(&nearest) < gap(&own).min(NEAR_US)
                {
                    self.result.session_of[*at] = Some(nearest);
                }
            }
        }
    }
}
