//! The state file of the collector: what other commands can say about a run, now and after its end.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::record::timestamp::Timestamp;
use crate::settings::paths;
use crate::system::{files, process, processes};

/// Largest state file that is read, in bytes.
const MAX_SIZE: u64 = 256 << 10;

/// Everything that a run counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CollectCounts {
    /// Requests that were taken, and their bytes as they came.
    pub requests: u64,
    pub bytes: u64,
    pub spans: u64,
    pub logs: u64,
    pub points: u64,
    /// Records written.
    pub records: u64,
    /// Spans and log records of spantap itself, which are not recorded.
    pub own_spans: u64,
    pub own_logs: u64,
    /// Spans of servers in traces of which no span of spantap or of an agent came in time. They are not recorded.
    pub stray_spans: u64,
    /// Spans of a model call or tool that a span within them reports, too. They are parts of its record.
    pub joined_spans: u64,
    /// Spans and log records of known services that no row of a table reads, and first spans of a trace.
    pub other_spans: u64,
    pub other_logs: u64,
    /// Log records of services that are not known as agents.
    pub unknown_logs: u64,
    /// Facts that wait for their other parts, and records that wait for the disk.
    pub waiting: u64,
    /// Spans of servers that wait for a span of spantap or of an agent in their trace.
    pub waiting_spans: u64,
    /// Items that could not be decoded although their request could.
    pub rejected: u64,
    /// Requests and connections that were refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Records lost, by reason.
    pub lost: BTreeMap<String, u64>,
    /// Requests passed on.
    pub forwarded: u64,
    /// Requests that were answered and wait to be passed on. A run that is killed loses them.
    pub forward_waiting: u64,
    /// Requests that were not passed on, by reason.
    pub forward_lost: BTreeMap<String, u64>,
    /// Spans, data points and log records that the target left out of requests that it took, as it reports.
    pub forward_rejected: BTreeMap<String, u64>,
}

/// The losses of a run, in the words of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CollectLosses {
    /// Numbers and reasons.
    pub(crate) facts: String,
    pub(crate) way_out: String,
}

impl fmt::Display for CollectLosses {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}; {}", self.facts, self.way_out)
    }
}

impl CollectCounts {
    /// Returns what was lost; `None` if nothing was.
    pub(crate) fn losses(&self) -> Option<CollectLosses> {
        let refused = self.lost_by_refusal();
        let lists = [
            (&self.lost, "records lost"),
            (&self.forward_lost, "requests not passed on"),
            (&self.forward_rejected, "items rejected by the target of --forward"),
            (&refused, "requests refused"),
        ];
        let numbers = [
            (self.rejected, "items that are not valid, and not recorded"),
            (
                self.stray_spans,
                "spans of servers not recorded, because no agent and no proxy sent a span of their trace",
            ),
            (self.unknown_logs, "log records not recorded, because their service is not known as an agent"),
        ];
        let of_list = |(list, what): &(&BTreeMap<String, u64>, &str)| {
            let reasons: Vec<String> = list.iter().map(|(word, count)| format!("{word} {count}")).collect();
            format!("{what}: {} ({})", sum(list), reasons.join(", "))
        };
        let lists = lists.iter().filter(|(list, _)| !list.is_empty()).map(of_list);
        let numbers = numbers.iter().filter(|(count, _)| *count > 0);
        let facts: Vec<String> =
            lists.chain(numbers.map(|(count, what)| format!("{what}: {count}"))).collect();
        (!facts.is_empty())
            .then(|| CollectLosses { facts: facts.join("; "), way_out: self.way_out(&refused) })
    }

    /// Returns what the user can do about losses.
    fn way_out(&self, refused: &BTreeMap<String, u64>) -> String {
        let has = |reason: &str| refused.contains_key(reason);
        let is_large = has("too_large") || has("too_many_elements");
        let ways = [
            (self.lost.contains_key(DAY_FULL), "set a larger `max_session_size`"),
            (
                self.lost.keys().any(|reason| reason != DAY_FULL),
                "check the space and the permissions of the log folder",
            ),
            (
                !(self.forward_lost.is_empty() && self.forward_rejected.is_empty()),
                "check the target of --forward and its log",
            ),
            (has(CONNECTIONS), process::WAY_TO_CONNECTIONS),
            (
                is_large,
                "let the senders send less at once (OTEL_BSP_MAX_EXPORT_BATCH_SIZE, OTEL_BLRP_MAX_EXPORT_BATCH_SIZE)",
            ),
            (
                self.rejected > 0 || refused.keys().any(|reason| reason != CONNECTIONS),
                "read the reason in the logs of the senders",
            ),
            (
                self.stray_spans > 0,
                "let the agent and the proxies (`--otlp`) send their spans to this collector, too",
            ),
            (
                self.unknown_logs > 0,
                "give the agent its usual `service.name` (`spantap collect --setup PROGRAM`)",
            ),
        ];
        let ways: Vec<&str> =
            ways.into_iter().filter(|(is_needed, _)| *is_needed).map(|(_, way)| way).collect();
        ways.join("; ")
    }

    /// Returns the refusals with which telemetry is lost. A connection that sent nothing loses nothing.
    fn lost_by_refusal(&self) -> BTreeMap<String, u64> {
        let mut refused = self.refused.clone();
        refused.remove(SILENT);
        refused
    }

    /// Returns the number of connections that were closed because they sent nothing; `None` without any.
    pub(crate) fn silent_connections(&self) -> Option<u64> {
        self.refused.get(SILENT).copied()
    }

    /// Returns the number of everything that was lost.
    pub(super) fn all_lost(&self) -> u64 {
        let lists = [&self.lost, &self.forward_lost, &self.forward_rejected, &self.lost_by_refusal()];
        [self.rejected, self.stray_spans, self.unknown_logs]
            .into_iter()
            .chain(lists.map(sum))
            .fold(0, u64::saturating_add)
    }
}

/// Word of the connections for which there was no room, and of those that sent nothing.
pub(super) const CONNECTIONS: &str = "connections";
pub(super) const SILENT: &str = "silent_connection";

fn sum(counts: &BTreeMap<String, u64>) -> u64 {
    counts.values().fold(0, |sum, count| sum.saturating_add(*count))
}

/// Reason of the records for which a day's file has no room.
pub(super) const DAY_FULL: &str = "day_full";

/// Adds `count` to the entry `word`.
pub(super) fn add(counts: &mut BTreeMap<String, u64>, word: &str, count: u64) {
    match counts.get_mut(word) {
        _ if count == 0 => {}
        Some(known) => *known = known.saturating_add(count),
        None => drop(counts.insert(word.to_owned(), count)),
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CollectState {
    /// Version of spantap.
    pub version: String,
    pub connection_id: String,
    pub pid: u32,
    boot_id: String,
    pid_namespace: String,
    start_ticks: u64,
    pub started_at: String,
    /// When the last request was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_at: Option<String>,
    /// When the run ended in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Host and port of each listener.
    pub addresses: Vec<String>,
    /// Host and port to which everything is passed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward: Option<String>,
    /// Host and port to which metrics of model calls are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<String>,
    pub log_folder: String,
    pub counts: CollectCounts,
}

/// The state of a run, as far as it is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    Running,
    Ended,
    /// The process is gone and did not end in order.
    Killed,
    /// The run belongs to another boot or namespace.
    Unknown,
}

impl CollectState {
    /// Returns the state of a run that begins in this process.
    pub(super) fn begin(connection_id: &str) -> CollectState {
        let pid = std::process::id();
        let stat = i32::try_from(pid).ok().and_then(processes::ProcessStat::read);
        CollectState {
            version: crate::VERSION.to_owned(),
            connection_id: connection_id.to_owned(),
            pid,
            boot_id: processes::boot_id(),
            pid_namespace: processes::pid_namespace(),
            start_ticks: stat.map_or(0, |stat| stat.start_ticks),
            started_at: Timestamp::now().to_string(),
            ..CollectState::default()
        }
    }

    pub fn run_state(&self) -> RunState {
        if self.ended_at.is_some() {
            return RunState::Ended;
        }
        match processes::is_running(&self.boot_id, &self.pid_namespace, self.pid, self.start_ticks) {
            Some(true) => RunState::Running,
            Some(false) => RunState::Killed,
            // A reboot ends every process, too, but the namespace of another boot is not known.
            None => RunState::Unknown,
        }
    }

    /// Replaces the state file.
    pub(super) fn write(&self) -> std::io::Result<()> {
        let path = path().ok_or_else(|| std::io::Error::other("the home folder is not known"))?;
        files::write_private(&path, &serde_json::to_vec(self)?)
    }
}

fn path() -> Option<PathBuf> {
    Some(paths::state_dir()?.join("collect.json"))
}

/// Returns the state of the last run; `None` without one, or if the file cannot be read.
pub fn read() -> Option<CollectState> {
    serde_json::from_slice(&files::read_limited(&path()?, MAX_SIZE).ok()?).ok()
}
