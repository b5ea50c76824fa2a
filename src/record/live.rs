//! The live file of a connection: what its proxy does now, for the commands that look at it.
//!
//! The proxy overwrites the file in place, so a reader may see half of two states. A line before the state
//! holds its length and its checksum.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::record::file_name::server_part;
use crate::record::timestamp::Timestamp;
use crate::text::hex;

/// Largest size of a live file, in bytes.
pub(crate) const LIMIT: usize = 64 << 10;
/// Most open requests in a live file.
pub(crate) const MOST_OPEN: usize = 200;
/// Extension of a live file, whose name is the connection id.
pub(crate) const EXTENSION: &str = "live";

/// Extension of the file that spantap leaves when its server died or did not start. It is named after the server.
pub(crate) const ENDED_EXTENSION: &str = "ended";

/// Extension of a live file whose proxy was killed. The next start of a spantap gives the file this extension.
pub(crate) const KILLED_EXTENSION: &str = "killed";

/// Extension of the file whose time is that of the last notification about a server.
pub(crate) const NOTIFIED_EXTENSION: &str = "notified";

const MAGIC: &str = "spantap-live/1";

/// Problem of a file that is being written, or was not written to its end.
pub(crate) const INCOMPLETE: &str = "incomplete";

/// The state of one connection, in words of its records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LiveState {
    pub(crate) connection_id: String,
    pub(crate) session_id: String,
    pub(crate) server_name: String,
    pub(crate) host_name: String,
    pub(crate) origin: String,
    pub(crate) cwd: String,
    /// Absolute path of the folder of the log; empty if it is not known.
    pub(crate) log_folder: String,
    pub(crate) proxy: LiveProcess,
    pub(crate) server: Option<LiveProcess>,
    pub(crate) started_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    /// Tool calls that have ended.
    pub(crate) calls: u64,
    /// Tool calls that have failed, without those that a person or a policy refused.
    pub(crate) errors: u64,
    /// The oldest open requests, at most [`MOST_OPEN`].
    pub(crate) open: Vec<LiveRequest>,
    /// Number of open requests beyond those.
    pub(crate) more_open: u64,
    pub(crate) last_error: Option<LiveError>,
    /// Time of the last of those errors.
    pub(crate) failed_at: Option<Timestamp>,
    /// The last alarm about repeated calls.
    pub(crate) repeats: Option<LiveRepeats>,
    /// The end of a server that died or did not start.
    pub(crate) ended: Option<LiveEnd>,
}

/// A process that a reader can recognise: pids are used again, after a reboot and in other namespaces too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LiveProcess {
    pub(crate) boot_id: String,
    pub(crate) namespace: String,
    pub(crate) pid: u32,
    /// Start in clock ticks since boot.
    pub(crate) start_ticks: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LiveRequest {
    pub(crate) request_id: String,
    pub(crate) method: String,
    /// Tool, prompt or resource; empty if the request has none.
    pub(crate) target: String,
    pub(crate) is_from_server: bool,
    pub(crate) started_at: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LiveError {
    pub(crate) seq: u64,
    pub(crate) name: String,
    pub(crate) message: String,
    pub(crate) at: Timestamp,
}

/// A tool that is called again and again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LiveRepeats {
    pub(crate) tool_name: String,
    /// Number of identical calls, or of rounds of a cycle.
    pub(crate) count: u64,
    /// Time of the last of them.
    pub(crate) at: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LiveEnd {
    /// `server_died` or `spawn_failed`, as in the record.
    pub(crate) reason: String,
    pub(crate) at: Timestamp,
}

impl LiveState {
    /// Returns the name of the file that spantap leaves for a server that died or did not start: the beginning of the
    /// server's name and a hash of it. A later end replaces the file.
    pub(crate) fn ended_name(server_name: &str) -> String {
        let hash = hex::text(&Sha256::digest(server_name)[..6]);
        format!("{}-{hash}.{ENDED_EXTENSION}", server_part(server_name))
    }
}

impl LiveState {
    /// Returns the end of a connection whose proxy was killed: `spantap was killed while query was open`.
    pub(crate) fn killed_text(&self) -> String {
        let others = (self.open.len() as u64 + self.more_open).saturating_sub(1);
        let Some(oldest) = self.open.iter().min_by_key(|request| request.started_at) else {
            return "spantap was killed".to_owned();
        };
        let name = oldest.name();
        match others {
            0 => format!("spantap was killed while {name} was open"),
            1 => format!("spantap was killed while {name} and 1 other request were open"),
            _ => format!("spantap was killed while {name} and {others} other requests were open"),
        }
    }

    /// Returns the text of a row that has the time `updated_at`: the time of the end is not known.
    pub(crate) fn last_seen_text(&self) -> String {
        format!("last seen at this time; {}", self.killed_text())
    }

    /// Returns how a connection ended whose proxy was killed, as the end of a sentence about its server.
    pub(crate) fn lost_proxy_text(&self) -> String {
        format!("lost its proxy: {}", self.killed_text())
    }

    /// Returns the contents of the file. Drops open requests from the newest on until they fit.
    pub(crate) fn encode(&mut self) -> Vec<u8> {
        loop {
            let json = serde_json::to_vec(self).unwrap_or_default();
            if json.len() + MAGIC.len() + 40 <= LIMIT || self.open.is_empty() {
                let mut bytes = format!("{MAGIC} {} {}\n", json.len(), checksum(&json)).into_bytes();
                bytes.extend(json);
                return bytes;
            }
            let kept = self.open.len() / 2;
            self.more_open += (self.open.len() - kept) as u64;
            self.open.truncate(kept);
        }
    }

    /// Parses the contents of a file. After the state may be the rest of a longer one, which begins anywhere. The
    /// error says what is wrong: text of another program, a newer version, or a state that was being overwritten.
    pub(crate) fn decode(bytes: &[u8]) -> Result<LiveState, &'static str> {
        if bytes.is_empty() {
            return Err(INCOMPLETE);
        }
        let head = &bytes[..memchr::memchr(b'\n', bytes).unwrap_or(0)];
        let rest = bytes.get(head.len() + 1..).unwrap_or_default();
        let mut words = std::str::from_utf8(head).unwrap_or_default().split(' ');
        match words.next() {
            Some(MAGIC) => {}
            Some(other) if other.starts_with("spantap-live/") => return Err("written by a newer spantap"),
            _ => return Err("not a live file of spantap"),
        }
        let length = words.next().and_then(|word| word.parse::<usize>().ok());
        let json = length.and_then(|length| rest.get(..length)).ok_or(INCOMPLETE)?;
        if words.next() != Some(&checksum(json)) {
            return Err(INCOMPLETE);
        }
        serde_json::from_slice(json).map_err(|_| "not a live file of spantap")
    }
}

impl LiveRequest {
    /// Returns the target, or the method of a request without one.
    pub(crate) fn name(&self) -> &str {
        if self.target.is_empty() { &self.method } else { &self.target }
    }
}

/// Returns eight bytes of the SHA-256 as hex.
fn checksum(json: &[u8]) -> String {
    hex::text(&Sha256::digest(json)[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(open: usize, name: &str) -> LiveState {
        let request = LiveRequest { target: name.to_owned(), ..LiveRequest::default() };
        LiveState { server_name: "files".to_owned(), open: vec![request; open], ..LiveState::default() }
    }

    #[test]
    fn a_state_is_read_as_it_was_written_also_over_a_longer_one() {
        for name in ["search", "поиск"] {
            let mut long = state(3, name).encode();
            let short = state(1, "search").encode();
            // A character of several bytes may be cut.
            while long.len() > short.len() {
                long[..short.len()].copy_from_slice(&short);
                assert_eq!(LiveState::decode(&long).unwrap(), state(1, "search"));
                long.remove(short.len());
            }
        }
    }

    #[test]
    fn open_requests_that_do_not_fit_are_counted() {
        let mut full = state(MOST_OPEN, &"x".repeat(900));
        let file = full.encode();
        assert!(file.len() <= LIMIT);
        let read = LiveState::decode(&file).unwrap();
        assert_eq!(read.open.len() as u64 + read.more_open, MOST_OPEN as u64);
    }

    #[test]
    fn what_is_torn_foreign_or_newer_is_named_and_nothing_else() {
        let whole = state(2, "search").encode();
        for length in 0..whole.len() {
            assert!(LiveState::decode(&whole[..length]).is_err(), "{length}");
        }
        let mut torn = whole.clone();
        let last = torn.len() - 3;
        torn[last] ^= 1;
        assert_eq!(LiveState::decode(&torn), Err("incomplete"));
        assert_eq!(LiveState::decode(b"spantap-live/2 1 x\n1"), Err("written by a newer spantap"));
        assert_eq!(LiveState::decode(b"\xff\x00"), Err("not a live file of spantap"));
    }
}
