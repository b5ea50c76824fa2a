//! `spantap why`: the facts about one session or one call. `present::why` puts them into sentences.
//!
//! `story` reads the session, `time` divides its time, `usual` compares durations with the tool's own history,
//! `failures` and `ends` find out what failed and why, `repeats` what went in circles, and `agent` what failed or was
//! refused before it reached a server.

use serde::Serialize;

use crate::query::live::{LiveConnection, Liveness};
use crate::query::row::OperationRow;
use crate::record::timestamp::Timestamp;

pub(crate) mod agent;
pub(crate) mod ends;
pub(crate) mod failures;
pub(crate) mod repeats;
pub(crate) mod story;
pub(crate) mod time;
pub(crate) mod usual;

use agent::{ModelFailureFact, RefusalFact};
use ends::EndFact;
use failures::{DenialFact, FailureFact};
use repeats::RepeatFact;
use story::Story;
use time::TimeFact;
use usual::{CallHistory, UnusualFact, UsualDuration};

/// One fact, with the handle of the operation to look at.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub(crate) enum Fact {
    /// Where the time of the session went.
    Time(TimeFact),
    /// How long the call took.
    Call(CallFact),
    /// Requests that are open now.
    Open(OpenFact),
    /// A server that died or did not start.
    End(EndFact),
    /// Operations of one tool that failed.
    Failures(FailureFact),
    /// Calls of a model that failed for the same reason, as the agent reported them.
    ModelFailures(ModelFailureFact),
    /// Operations that a person or a policy refused.
    Denials(DenialFact),
    /// A tool that was refused before a server was asked, as the agent reported it.
    Refusals(RefusalFact),
    /// The same calls again and again.
    Repeats(RepeatFact),
    /// A tool that took longer than it usually does.
    Unusual(UnusualFact),
}

/// The call that was asked for.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CallFact {
    pub(crate) server_name: String,
    pub(crate) name: String,
    pub(crate) status: &'static str,
    /// Absent if the end was not observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duration_ms: Option<f64>,
    /// Time for which the server waited during the call for the host's user or model.
    pub(crate) user_wait_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usual: Option<UsualDuration>,
    pub(crate) is_unusual: bool,
    /// Number of other calls of its connection that were open when it began.
    pub(crate) beside: usize,
    pub(crate) handle: String,
}

/// The request that is open longest, and how many there are.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct OpenFact {
    pub(crate) server_name: String,
    pub(crate) name: String,
    pub(crate) request_id: String,
    pub(crate) open_ms: f64,
    /// Number of open requests, with this one.
    pub(crate) count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usual: Option<UsualDuration>,
}

impl Fact {
    /// Returns the handle to look at; of an open request, which has no handle yet, its request id.
    pub(crate) fn handle(&self) -> String {
        match self {
            Fact::Time(fact) => fact.handle.clone(),
            Fact::Call(fact) => fact.handle.clone(),
            Fact::Open(fact) => format!("request {}", fact.request_id),
            Fact::End(fact) => fact.handle.clone(),
            Fact::Failures(fact) => fact.handle.clone(),
            Fact::ModelFailures(fact) => fact.handle.clone(),
            Fact::Denials(fact) => fact.handle.clone(),
            Fact::Refusals(fact) => fact.handle.clone(),
            Fact::Repeats(fact) => fact.handle.clone(),
            Fact::Unusual(fact) => fact.handle.clone(),
        }
    }

    /// Returns true if the fact is a reason to look closer.
    pub(crate) fn stands_out(&self) -> bool {
        match self {
            Fact::Time(fact) => fact.stands_out(),
            Fact::Call(fact) => fact.is_unusual || fact.user_wait_ms >= time::LONG_WAIT_FOR_PERSON_MS,
            _ => true,
        }
    }
}

/// Most facts of one kind.
const MOST: usize = 10;

/// Returns the facts about the session, the most important first: the worst of each kind, then the rest.
pub(crate) fn of_session(
    story: &Story,
    history: &CallHistory,
    live: &[LiveConnection],
    now: Timestamp,
) -> Vec<Fact> {
    let live: Vec<&LiveConnection> =
        live.iter().filter(|connection| connection.state.session_id == story.session_id).collect();
    let kinds: [Vec<Fact>; 9] = [
        time::fact(story, &live, now).map(Fact::Time).into_iter().collect(),
        open(&live, history, now).map(Fact::Open).into_iter().collect(),
        ends::grouped(story, &live).into_iter().map(Fact::End).collect(),
        failures::failures(&story.rows, &story.all_rows(), story.is_narrowed)
            .into_iter()
            .map(Fact::Failures)
            .collect(),
        story.agent.failures.iter().cloned().map(Fact::ModelFailures).collect(),
        repeats::facts(story).into_iter().map(Fact::Repeats).collect(),
        usual::facts(story, history).into_iter().map(Fact::Unusual).collect(),
        failures::denials(&story.rows).into_iter().map(Fact::Denials).collect(),
        story.agent.refusals.iter().cloned().map(Fact::Refusals).collect(),
    ];
    let rank = |rank: usize| kinds.iter().filter_map(move |facts| facts.get(rank).cloned());
    (0..MOST).flat_map(rank).collect()
}

/// Returns the facts about one operation of the session.
pub(crate) fn of_call(story: &Story, history: &CallHistory, call: &OperationRow) -> Vec<Fact> {
    let usual = history.before(&call.server_name, &call.target, call.started);
    let worked = usual::worked_ms(call);
    let was_open = |row: &&OperationRow| {
        row.connection_id == call.connection_id
            && row.is_tool_call
            && row.seq != call.seq
            && row.started <= call.started
            && row.ended() > call.started
    };
    let fact = CallFact {
        server_name: call.server_name.to_string(),
        name: call.name().to_owned(),
        status: call.status.as_str(),
        duration_ms: call.duration_ms,
        user_wait_ms: call.user_wait_ms.unwrap_or(0.0),
        is_unusual: usual.is_some_and(|usual| usual.is_exceeded_by(worked)),
        usual,
        beside: story.rows.iter().filter(was_open).count(),
        handle: call.handle(),
    };
    let during = |end: &EndFact| end.is_during(call);
    let ends = ends::facts(story, &[]).into_iter().filter(during).map(Fact::End);
    let own = std::slice::from_ref(call);
    let failures = failures::failures(own, &story.all_rows(), false).into_iter().map(Fact::Failures);
    let denials = failures::denials(own).into_iter().map(Fact::Denials);
    let repeats = repeats::of_call(story, call).map(Fact::Repeats);
    let facts = std::iter::once(Fact::Call(fact)).chain(ends).chain(failures).chain(denials).chain(repeats);
    facts.collect()
}

/// Returns the request that is open longest now.
fn open(live: &[&LiveConnection], history: &CallHistory, now: Timestamp) -> Option<OpenFact> {
    let running = || live.iter().filter(|connection| connection.liveness == Liveness::Running);
    let requests = running()
        .flat_map(|connection| connection.state.open.iter().map(move |request| (connection, request)));
    let (connection, request) = requests.min_by_key(|(_, request)| request.started_at)?;
    let state = &connection.state;
    let count =
        |connection: &&LiveConnection| connection.state.open.len() as u64 + connection.state.more_open;
    Some(OpenFact {
        server_name: state.server_name.clone(),
        name: request.name().to_owned(),
        request_id: request.request_id.clone(),
        open_ms: request.started_at.ms_until(now),
        count: running().map(count).sum(),
        usual: history.before(&state.server_name, &request.target, request.started_at),
    })
}
