//! The state file of the collector: what other commands can say about a run, now and after its end.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::record::timestamp::Timestamp;
use crate::settings::paths;
use crate::system::{files, processes};

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
    /// Spans of spantap itself, which are not recorded.
    pub own_spans: u64,
    /// Spans of servers in traces of which no span of spantap or of an agent came in time. They are not recorded.
    pub stray_spans: u64,
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
        let (mut facts, mut ways) = (Vec::new(), Vec::new());
        for (list, what) in [
            (&self.lost, "records lost"),
            (&self.forward_lost, "requests not passed on"),
            (&self.forward_rejected, "items rejected by the target of --forward"),
        ] {
            if !list.is_empty() {
                let reasons: Vec<String> =
                    list.iter().map(|(word, count)| format!("{word} {count}")).collect();
                let sum = list.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
                facts.push(format!("{what}: {sum} ({})", reasons.join(", ")));
            }
        }
        if self.lost.contains_key(DAY_FULL) {
            ways.push("set a larger `max_session_size`");
        }
        if self.lost.keys().any(|reason| reason != DAY_FULL) {
            ways.push("check the space and the permissions of the log folder");
        }
        if !(self.forward_lost.is_empty() && self.forward_rejected.is_empty()) {
            ways.push("check the target of --forward and its log");
        }
        if self.rejected > 0 {
            facts.push(format!("items that are not valid, and not recorded: {}", self.rejected));
            ways.push("look into the logs of the programs that sent them, to which this was answered");
        }
        (!facts.is_empty()).then(|| CollectLosses { facts: facts.join("; "), way_out: ways.join("; ") })
    }
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
