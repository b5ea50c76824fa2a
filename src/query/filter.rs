//! The language of the report page's filter: `server:git* tool:"two words" status:error session:01a2 anything`.
//!
//! A row matches if it matches every term. `server:` and `tool:` take patterns of the whole name, `session:` the
//! beginning of an id, `status:` a status, where `error` is any failure. A word without a key is a part of the
//! server, the tool, the session id or the error. Quotes hold blanks together; case does not matter.

use crate::query::row::{LogRow, OperationRow};
use crate::record::words::Status;
use crate::text::glob::Glob;

/// A parsed filter. The default matches every row.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowFilter {
    terms: Vec<FilterTerm>,
    /// Terms that match nothing because they are wrong, such as `status:eror`.
    pub(crate) unknown: Vec<String>,
}

#[derive(Clone, Debug)]
enum FilterTerm {
    Server(Glob),
    Tool(Glob),
    Session(String),
    /// `None` is not a status, and matches nothing.
    Status(Option<Status>),
    Word(String),
}

const KEYS: [&str; 4] = ["server", "tool", "session", "status"];

impl RowFilter {
    pub(crate) fn parse(text: &str) -> RowFilter {
        let mut filter = RowFilter::default();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (key, after) = split_key(rest);
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
                None => after.split_at(after.find(char::is_whitespace).unwrap_or(after.len())),
            };
            rest = after.trim_start();
            let value = value.to_lowercase();
            if value.is_empty() {
                continue;
            }
            filter.terms.push(match key {
                "server" => FilterTerm::Server(Glob::new(value)),
                "tool" => FilterTerm::Tool(Glob::new(value)),
                "session" => FilterTerm::Session(value),
                "status" => {
                    let status = Status::from_word(&value);
                    if status.is_none() {
                        filter.unknown.push(format!("status:{value}"));
                    }
                    FilterTerm::Status(status)
                }
                _ => FilterTerm::Word(value),
            });
        }
        filter
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    pub(crate) fn matches(&self, row: &LogRow) -> bool {
        let has = |text: &str, word: &str| text.to_lowercase().contains(word);
        self.terms.iter().all(|term| match (row, term) {
            (LogRow::Operation(row), term) => term.matches(row),
            (LogRow::Event(row), FilterTerm::Server(glob)) => glob.matches(&row.server_name.to_lowercase()),
            (LogRow::Event(row), FilterTerm::Word(word)) => {
                has(&row.server_name, word) || has(&row.text, word)
            }
            _ => false,
        })
    }
}

impl FilterTerm {
    fn matches(&self, row: &OperationRow) -> bool {
        match self {
            FilterTerm::Server(glob) => glob.matches(&row.server_name.to_lowercase()),
            FilterTerm::Tool(glob) => glob.matches(&row.name().to_lowercase()),
            FilterTerm::Session(start) => row.session_id.to_lowercase().starts_with(start),
            FilterTerm::Status(Some(Status::Error)) => row.status.is_failure(),
            FilterTerm::Status(status) => *status == Some(row.status),
            FilterTerm::Word(word) => {
                [&row.server_name, row.name(), &row.session_id, &row.error_type, &row.error_message]
                    .iter()
                    .any(|text| text.to_lowercase().contains(word))
            }
        }
    }
}

/// Splits `server:git` at its key. A key without a value is a word like any other.
fn split_key(text: &str) -> (&'static str, &str) {
    let split = |key: &'static str| {
        let (head, rest) = text.split_at_checked(key.len())?;
        let rest = rest
            .strip_prefix(':')
            .filter(|rest| !rest.is_empty() && !rest.starts_with(char::is_whitespace))?;
        head.eq_ignore_ascii_case(key).then_some((key, rest))
    };
    KEYS.into_iter().find_map(split).unwrap_or(("", text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::entry::LogEntry;
    use crate::query::name_pool::NamePool;

    fn row(rest: &str) -> LogRow {
        let line = format!(
            r#"{{"schema":"spantap/1","event":"mcp_tool_call","server_name":"Git hub","tool_name":"read_file","session_id":"01A2-x","method":"tools/call",{rest}}}"#
        );
        let entry = LogEntry::parse(line.as_bytes()).unwrap();
        LogRow::new(&entry, line.as_bytes(), false, &mut NamePool::default())
    }

    #[test]
    fn every_term_must_match_as_on_the_page() {
        let failed = row(r#""status":"timeout","error_type":"timeout","error_message":"No answer""#);
        for (text, expected) in [
            ("", true),
            ("   ", true),
            ("server:git*", true),
            ("server:git", false),
            ("SERVER:\"git hub\"", true),
            ("server:\"git hub", true),
            ("tool:read_file status:error", true),
            ("tool:read_file status:ok", false),
            ("tool:read_????", true),
            ("status:TIMEOUT", true),
            ("session:01a2", true),
            ("session:1a2", false),
            ("hub read answer", true),
            ("\"git hub\"", true),
            ("\"hub git\"", false),
            ("server:", false),
            ("\"\"", true),
            ("status:eror", false),
            ("é", false),
        ] {
            assert_eq!(RowFilter::parse(text).matches(&failed), expected, "{text}");
        }
        assert!(!RowFilter::parse("status:error").matches(&row(r#""status":"unknown""#)));
        assert!(RowFilter::parse("status:unknown").matches(&row(r#""status":"unknown""#)));
    }

    #[test]
    fn a_word_that_is_not_a_status_is_named() {
        assert_eq!(RowFilter::parse("server:a status:eror").unknown, ["status:eror"]);
        assert!(RowFilter::parse("status:denied eror").unknown.is_empty());
    }
}
