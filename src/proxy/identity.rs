//! The ids of a connection, which every record contains.

use sha2::{Digest, Sha256};

use crate::record::words::SessionSource;
use crate::system::processes::{self, ProcessStat};

/// Variables that contain a host's session, with the host's name.
const HOST_SESSIONS: &[(&str, &str)] = &[
    ("CLAUDE_CODE_SESSION_ID", "claude-code"),
    ("GROK_SESSION_ID", "grok"),
    ("GEMINI_SESSION_ID", "gemini-cli"),
];

/// The id of an agent session and its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionId {
    pub(crate) id: String,
    pub(crate) source: SessionSource,
}

/// Returns the agent session: the configured one, else that of the host's variable, else one derived from the
/// host process, which all servers of the host share. `parent` is the host's pid.
pub(crate) fn session_id(
    configured: Option<(String, SessionSource)>,
    variable: &dyn Fn(&str) -> Option<String>,
    parent: i32,
) -> SessionId {
    if let Some((id, source)) = configured {
        return SessionId { id, source };
    }
    if let Some(id) = HOST_SESSIONS.iter().find_map(|(name, _)| variable(name)) {
        return SessionId { id, source: SessionSource::Host };
    }
    let started = ProcessStat::read(parent).map(|stat| stat.start_ticks.to_string());
    SessionId {
        id: derived(&processes::boot_id(), parent, &started.unwrap_or_default()),
        source: SessionSource::Derived,
    }
}

/// Returns the host's id of the conversation, if a variable of the host contains it.
pub(crate) fn host_conversation(variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    HOST_SESSIONS.iter().find_map(|(name, _)| variable(name))
}

/// Returns a UUIDv8 of boot, pid and start time, which together identify one process permanently.
fn derived(boot: &str, parent: i32, started: &str) -> String {
    let digest = Sha256::digest(format!("spantap session\n{}\n{parent}\n{started}", boot));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

/// Makes a UUIDv7 for this connection.
pub(crate) fn connection_id() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut random = [0; 10];
    let _ = getrandom::fill(&mut random);
    let millis = u64::try_from(now.as_millis()).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_of_one_host_process_share_their_session() {
        let none = |_: &str| None;
        let of = |parent| session_id(None, &none, parent);
        let this = std::process::id() as i32;
        assert_eq!(of(this), of(this));
        assert_ne!(of(this).id, of(1).id);
        assert_eq!(of(this).source, SessionSource::Derived);
        assert_eq!(of(this).id.as_bytes()[14], b'8');
    }

    #[test]
    fn what_is_configured_wins_over_what_the_host_says() {
        let host = |name: &str| (name == "CLAUDE_CODE_SESSION_ID").then(|| "abc".to_owned());
        assert_eq!(
            session_id(None, &host, 1),
            SessionId { id: "abc".to_owned(), source: SessionSource::Host }
        );
        let configured = Some(("mine".to_owned(), SessionSource::Flag));
        assert_eq!(session_id(configured, &host, 1).id, "mine");
    }
}
