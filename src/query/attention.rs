//! The facts that need attention now, for `status --line`: read from at most 200 live files, and from no log.

use std::collections::BTreeSet;
use std::path::Path;

use crate::query::live::{self, LiveConnection, Liveness};
use crate::record::live::{ENDED_EXTENSION, LiveRequest, LiveState};
use crate::record::timestamp::Timestamp;

/// Most connections that run, and most servers that ended, whose files are read.
const FILES: usize = 100;
/// A request that is open for this long hangs, in milliseconds.
const HANGING_MS: f64 = 30_000.0;
/// An error or a repeated call needs attention for this long, in milliseconds.
const RECENT_MS: f64 = 5.0 * 60_000.0;
/// The end of a server needs attention for this long, in milliseconds, unless the server starts again.
const ENDED_MS: f64 = 3_600_000.0;

/// The facts of the line.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Attention {
    /// Servers that died, did not start or lost their proxy in the last hour, and did not start again.
    pub(crate) ended: BTreeSet<String>,
    /// Tools, or methods, of requests that hang.
    pub(crate) hanging: BTreeSet<String>,
    /// Greatest number of identical calls in an alarm of the last five minutes.
    pub(crate) repeats: u64,
    /// Failed calls of the connections in which a call failed in the last five minutes.
    pub(crate) errors: u64,
    /// True if a server runs.
    pub(crate) is_running: bool,
    /// True if there are further files, or files that cannot be read.
    pub(crate) is_partial: bool,
}

impl Attention {
    /// Reads the live files in `folder`.
    pub(crate) fn look(folder: &Path, now: Timestamp) -> Attention {
        let (connections, problems) = live::connections_of(folder, FILES);
        let (ended, more) = live::states(folder, ENDED_EXTENSION, FILES);
        let is_partial = !(problems.is_empty() && more.is_empty());
        Attention { is_partial, ..Attention::of(&connections, &ended, now) }
    }

    fn of(connections: &[LiveConnection], ended: &[LiveState], now: Timestamp) -> Attention {
        let mut attention = Attention::default();
        let is_recent = |at: Timestamp, ms: f64| at.ms_until(now) <= ms;
        let running = connections.iter().filter(|connection| connection.liveness == Liveness::Running);
        for LiveConnection { state, .. } in running {
            attention.is_running = true;
            attention.hanging.extend(hanging(state, now).map(|request| request.name().to_owned()));
            if let Some(repeats) = state.repeats.as_ref().filter(|repeats| is_recent(repeats.at, RECENT_MS)) {
                attention.repeats = attention.repeats.max(repeats.count);
            }
            if state.failed_at.is_some_and(|at| is_recent(at, RECENT_MS)) {
                attention.errors += state.errors;
            }
        }
        let ended = ended.iter().filter_map(|state| Some((&state.server_name, state.ended.as_ref()?.at)));
        let killed = live::killed(connections, |_| false).map(|state| (&state.server_name, state.updated_at));
        let needs_attention = |(name, at): &(&String, Timestamp)| {
            let mut later = connections.iter().map(|connection| &connection.state);
            is_recent(*at, ENDED_MS)
                && !later.any(|state| state.server_name == **name && state.started_at > *at)
        };
        let names = ended.chain(killed).filter(needs_attention).map(|(name, _)| name.clone());
        attention.ended = names.collect();
        attention
    }
}

/// Returns the requests of the client that hang. A request does not hang while the server waits for an answer of the
/// client.
fn hanging(state: &LiveState, now: Timestamp) -> impl Iterator<Item = &LiveRequest> {
    let waits = state.open.iter().any(|request| request.is_from_server);
    state.open.iter().filter(move |request| {
        !waits
            // This one is open as long as its connection.
            && request.method != "subscriptions/listen"
            && request.started_at.ms_until(now) >= HANGING_MS
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::live::{LiveEnd, LiveRepeats};

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

    fn ago(seconds: i64) -> Timestamp {
        Timestamp(NOW.0 - seconds * 1_000_000)
    }

    fn open(method: &str, target: &str, seconds: i64) -> LiveRequest {
        let is_from_server = method == "elicitation/create";
        LiveRequest {
            method: method.to_owned(),
            target: target.to_owned(),
            is_from_server,
            started_at: ago(seconds),
            ..LiveRequest::default()
        }
    }

    fn of(state: LiveState, liveness: Liveness) -> Attention {
        Attention::of(&[LiveConnection { state, liveness }], &[], NOW)
    }

    #[test]
    fn a_request_hangs_after_half_a_minute_unless_a_person_is_asked_or_it_is_a_subscription() {
        let hanging = |open: Vec<LiveRequest>| {
            let state = LiveState { open, ..LiveState::default() };
            of(state, Liveness::Running).hanging.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(hanging(vec![open("tools/call", "query", 31), open("tools/call", "b", 29)]), ["query"]);
        assert!(hanging(vec![open("tools/call", "a", 99), open("elicitation/create", "", 9)]).is_empty());
        assert!(hanging(vec![open("subscriptions/listen", "", 9_000)]).is_empty());
        // The clock was set back.
        assert!(hanging(vec![open("tools/call", "a", -99)]).is_empty());
    }

    #[test]
    fn an_old_error_an_old_loop_and_an_old_end_need_no_attention_a_killed_proxy_does_until_it_starts_again() {
        let state = |seconds| LiveState {
            errors: 3,
            failed_at: Some(ago(seconds)),
            repeats: Some(LiveRepeats { count: 12, at: ago(seconds), ..LiveRepeats::default() }),
            ..LiveState::default()
        };
        let recent = of(state(200), Liveness::Running);
        assert_eq!((recent.errors, recent.repeats, recent.is_running), (3, 12, true));
        let old = of(state(400), Liveness::Running);
        assert_eq!(old, Attention { is_running: true, ..Attention::default() });
        let killed = |seconds| LiveConnection {
            state: LiveState { server_name: "db".to_owned(), updated_at: ago(seconds), ..state(1) },
            liveness: Liveness::Killed,
        };
        let of_killed = |connections: &[LiveConnection]| Attention::of(connections, &[], NOW);
        let dead = Attention { ended: BTreeSet::from(["db".to_owned()]), ..Attention::default() };
        assert_eq!(of_killed(&[killed(3_500)]), dead);
        assert_eq!(of_killed(&[killed(3_700)]), Attention::default());
        let mut again = killed(10);
        (again.liveness, again.state.started_at) = (Liveness::Running, ago(20));
        assert!(of_killed(&[killed(30), again.clone()]).ended.is_empty());
        assert_eq!(of_killed(&[killed(10), again]).ended, dead.ended, "one that ran beside it");
        let ended = |name: &str, seconds| LiveState {
            server_name: name.to_owned(),
            ended: Some(LiveEnd { reason: "server_died".to_owned(), at: ago(seconds) }),
            ..LiveState::default()
        };
        let found = Attention::of(&[], &[ended("db", 3_500), ended("git", 3_700)], NOW);
        assert_eq!(found.ended.into_iter().collect::<Vec<_>>(), ["db"]);
    }
}
