//! The name of a session log.

use std::fmt;

use jiff::civil::Date;

use crate::record::Identity;
use crate::record::timestamp::Timestamp;

/// Characters of the server's name in a file name.
const MAX_SERVER: usize = 64;
/// Hex digits of the connection id in a file name.
const ID_DIGITS: usize = 12;
const PACKED: [&str; 2] = [".gz", ".zst"];

/// `<server>-YYYY-MM-DD-<end of the connection id>.jsonl`; parts after the first one end with `.N.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionFileName {
    /// The server's name with safe characters only: [`server_part`].
    pub(crate) server: String,
    /// UTC day of the first record.
    pub(crate) date: Date,
    /// The last 12 hex digits of the connection id.
    pub(crate) connection: String,
    /// Number of the part, from 0.
    pub(crate) part: u32,
}

impl SessionFileName {
    /// Returns the name of the first part of a log that begins at `begin`.
    pub(crate) fn first(identity: &Identity, begin: Timestamp) -> SessionFileName {
        let id = &identity.connection_id;
        SessionFileName {
            server: server_part(&identity.server_name),
            date: begin.date(),
            connection: id[id.len().saturating_sub(ID_DIGITS)..].to_owned(),
            part: 0,
        }
    }

    /// Parses the name of an unpacked log. Returns `None` for any other file name.
    pub(crate) fn parse(name: &str) -> Option<SessionFileName> {
        let stem = name.strip_suffix(".jsonl").filter(|stem| stem.is_ascii())?;
        let (stem, part) = match stem.rsplit_once('.') {
            Some((stem, part)) if is_number(part) => (stem, part.parse().ok()?),
            _ => (stem, 0),
        };
        let (rest, connection) = stem.rsplit_once('-')?;
        let (server, date) = rest.split_at_checked(rest.len().checked_sub("-YYYY-MM-DD".len())?)?;
        let is_id = connection.len() == ID_DIGITS && connection.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id || server.is_empty() {
            return None;
        }
        let date = date.strip_prefix('-')?.parse().ok()?;
        Some(SessionFileName { server: server.to_owned(), date, connection: connection.to_owned(), part })
    }
}

/// End of the name of a file with redacted bodies.
const BODIES: &str = ".bodies.jsonl";

impl SessionFileName {
    /// Returns the name of the file of bodies that is beside this log.
    pub(crate) fn of_bodies(&self) -> String {
        self.to_string().trim_end_matches(".jsonl").to_owned() + BODIES
    }

    /// Parses the name of a file of bodies.
    pub(crate) fn parse_bodies(name: &str) -> Option<SessionFileName> {
        SessionFileName::parse(&(name.strip_suffix(BODIES)?.to_owned() + ".jsonl"))
    }
}

impl fmt::Display for SessionFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SessionFileName { server, date, connection, part } = self;
        match part {
            0 => write!(f, "{server}-{date}-{connection}.jsonl"),
            part => write!(f, "{server}-{date}-{connection}.{part}.jsonl"),
        }
    }
}

/// Returns the server's name as it appears in file names.
pub(crate) fn server_part(server: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let server: String = server.chars().take(MAX_SERVER).map(safe).collect();
    // A leading dot hides a file; a command such as `rm *` reads a leading dash as an option.
    let server = server.trim_start_matches(['.', '-']);
    if server.is_empty() { "server".to_owned() } else { server.to_owned() }
}

pub(crate) fn unpacked(name: &str) -> &str {
    PACKED.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

/// Splits the name of any log, packed or not, at its part number: `a.2.jsonl.gz` is part 2 of `a`, and
/// `a.jsonl` is part 0.
pub(crate) fn stem_and_part(name: &str) -> (&str, u64) {
    let name = unpacked(name);
    let name = name.strip_suffix(".jsonl").unwrap_or(name);
    match name.rsplit_once('.').and_then(|(stem, part)| Some((stem, part.parse().ok()?))) {
        Some((stem, part)) => (stem, part),
        None => (name, 0),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(server: &str) -> SessionFileName {
        let identity = Identity {
            connection_id: "01a2027b-0000-7000-8000-0123456789ab".to_owned(),
            session_id: "s".to_owned(),
            server_name: server.to_owned(),
            user_id: None,
        };
        SessionFileName::first(&identity, Timestamp(0))
    }

    #[test]
    fn a_file_name_is_safe_and_read_back() {
        for (server, expected) in [
            ("git hub/ü", "git_hub__"),
            ("", "server"),
            ("..", "server"),
            ("-rf", "rf"),
            ("../../etc/passwd", "_.._etc_passwd"),
            ("a b\n\u{202e}c", "a_b__c"),
            ("fs-2026-01-01-00000000000a", "fs-2026-01-01-00000000000a"),
        ] {
            let name = name(server);
            assert_eq!(name.to_string(), format!("{expected}-1970-01-01-0123456789ab.jsonl"));
            assert_eq!(SessionFileName::parse(&name.to_string()), Some(name.clone()));
            let part = SessionFileName { part: 12, ..name };
            assert_eq!(part.to_string(), format!("{expected}-1970-01-01-0123456789ab.12.jsonl"));
            assert_eq!(SessionFileName::parse(&part.to_string()), Some(part));
        }
    }

    #[test]
    fn other_files_are_not_session_logs() {
        for other in [
            "notes.jsonl",
            "x.jsonl",
            "é.jsonl",
            "é-–-.jsonl",
            "x-2026-11-24.jsonl",
            "x-26-11-24-0123456789ab.jsonl",
            "x-2026-13-24-0123456789ab.jsonl",
            "x-2026-11-24-0123456789ag.jsonl",
            "a-1970-01-01-0123456789ab.json",
            "-1970-01-01-0123456789ab.jsonl",
            "a-1970-01-01-0123456789ab.x.jsonl",
            "a-1970-01-01-0123456789ab.jsonl.gz",
        ] {
            assert_eq!(SessionFileName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_packed_log_has_the_name_of_its_log() {
        for packed in ["a-1970-01-01-0123456789ab.jsonl.gz", "a-1970-01-01-0123456789ab.jsonl.zst"] {
            assert_eq!(unpacked(packed), "a-1970-01-01-0123456789ab.jsonl");
        }
    }

    #[test]
    fn a_part_belongs_to_its_log() {
        for (name, stem, part) in
            [("a.jsonl", "a", 0), ("b.2.jsonl", "b", 2), ("b.10.jsonl.gz", "b", 10), ("b.jsonl", "b", 0)]
        {
            assert_eq!(stem_and_part(name), (stem, part), "{name}");
        }
    }
}
