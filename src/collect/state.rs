//! The state file of the collector: what other commands can say about a run, now and after its end.

use std::collections::BTreeMap;
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
}

impl CollectCounts {
    /// Returns a line about what was lost, by reason.
    pub(crate) fn losses(&self) -> String {
        let mut parts = Vec::new();
        let lists = [(&self.lost, "records lost"), (&self.forward_lost, "requests not passed on")];
        for (list, what) in lists.into_iter().filter(|(list, _)| !list.is_empty()) {
            let reasons: Vec<String> = list.iter().map(|(word, count)| format!("{word} {count}")).collect();
            parts.push(format!("{what}: {} ({})", list.values().sum::<u64>(), reasons.join(", ")));
        }
        if self.rejected > 0 {
            parts.push(format!("items that are not valid: {}", self.rejected));
        }
        parts.join("; ")
    }
}

/// Adds `count` to the entry `word`.
pub(super) fn add(counts: &mut BTreeMap<String, u64>, word: &str, count: u64) {
    match counts.get_mut(word) {
        _ if count == 0 => {}
        Some(known) => *known += count,
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
