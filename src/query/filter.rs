//! The language of the report page's filter: `server:git* tool:"two words" status:error session:01a2 anything`.
//!
//! A row matches if it matches every term. `server:` and `tool:` take patterns of the whole name, `session:` the
//! beginning of an id, `status:` a status, where `error` includes `timeout` and `cancelled`. A word without a key is a part of the
//! server, the tool, the session id, the error or the handle. Quotes hold blanks together; case does not matter.
//! Every row passes a term with another key or an unknown status; [`RowFilter::unknown`] names it.

use crate::query::row::{LogRow, OperationRow};
use crate::record::words::Status;
use crate::text::glob::Glob;

/// A parsed filter. The default matches every row.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowFilter {
    terms: Vec<FilterTerm>,
    /// Terms with an unknown key or status, such as `sever:git` or `status:eror`. Matching ignores them.
    pub(crate) unknown: Vec<String>,
}

#[derive(Clone, Debug)]
enum FilterTerm {
    Server(Glob),
    Tool(Glob),
    Session(String),
    Status(Status),
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
            let is_unfinished = key.is_empty() && KEYS.iter().any(|key| value.strip_suffix(':') == Some(key));
            if value.is_empty() || is_unfinished {
                continue;
            }
            let term = match &*key.to_ascii_lowercase() {
                "server" => Some(FilterTerm::Server(Glob::new(&*value))),
                "tool" => Some(FilterTerm::Tool(Glob::new(&*value))),
                "session" => Some(FilterTerm::Session(value.clone())),
                "status" => Status::from_word(&value).map(FilterTerm::Status),
                "" => Some(FilterTerm::Word(value.clone())),
                _ => None,
            };
            match term {
                Some(term) => filter.terms.push(term),
                None => filter.unknown.push(format!("{key}:{value}")),
            }
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
            FilterTerm::Status(Status::Error) => row.status.is_error(),
            FilterTerm::Status(status) => *status == row.status,
            FilterTerm::Word(word) => [
                &*row.handle(),
                &row.server_name,
                row.name(),
                &row.session_id,
                &row.error_type,
                &row.error_message,
            ]
            .iter()
            .any(|text| text.to_lowercase().contains(word)),
        }
    }
}

/// Splits `server:git` at its key. A key without a value, and the beginning of a URL, are words like any other.
fn split_key(text: &str) -> (&str, &str) {
    let length = text.find(|c: char| !c.is_ascii_alphabetic() && c != '_').unwrap_or(0);
    let (key, rest) = text.split_at(length);
    let is_value =
        |rest: &&str| !rest.is_empty() && !rest.starts_with(char::is_whitespace) && !rest.starts_with("//");
    match rest.strip_prefix(':').filter(is_value) {
        Some(value) if !key.is_empty() => (key, value),
        _ => ("", text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::entry::LogEntry;
    use crate::query::name_pool::NamePool;

    /// `tests/report/check_filter.mjs` checks the filter of the page with the same cases.
    #[test]
    fn a_filter_selects_the_rows_that_the_page_selects() {
        #[derive(serde::Deserialize)]
        struct FilterCase {
            filter: String,
            matches: Vec<u64>,
            unknown: usize,
        }
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/filter");
        let log = std::fs::read_to_string(folder.join("rows.jsonl")).unwrap();
        let row = |line: &str| {
            let entry = LogEntry::parse(line.as_bytes()).unwrap();
            (entry.seq, LogRow::new(&entry, line.as_bytes(), false, &mut NamePool::default()))
        };
        let rows: Vec<(u64, LogRow)> = log.lines().map(row).collect();
        let cases = std::fs::read_to_string(folder.join("cases.json")).unwrap();
        let cases: Vec<FilterCase> = serde_json::from_str(&cases).unwrap();
        assert!(rows.len() > 5 && cases.len() > 30);
        for FilterCase { filter: text, matches, unknown } in cases {
            let filter = RowFilter::parse(&text);
            let found = rows.iter().filter(|(_, row)| filter.matches(row)).map(|(seq, _)| *seq);
            assert_eq!((found.collect::<Vec<_>>(), filter.unknown.len()), (matches, unknown), "{text}");
        }
    }

    #[test]
    fn a_key_or_a_status_that_does_not_exist_is_named() {
        let unknown = RowFilter::parse("server:a status:eror Sever:\"x y\" http://x eror").unknown;
        assert_eq!(unknown, ["status:eror", "Sever:x y"]);
        assert!(RowFilter::parse("status:denied eror").unknown.is_empty());
    }
}
