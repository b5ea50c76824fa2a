//! `spantap show`: finds a session or operations by an id, a part of an id, or a hash.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::query::entry::LogEntry;
use crate::query::event::{EventRow, is_notable};
use crate::query::greatest::Greatest;
use crate::query::live::LiveConnection;
use crate::query::name_pool::NamePool;
use crate::query::row::OperationRow;
use crate::query::scan::Fold;
use crate::query::select::{Selection, belongs};
use crate::query::sessions::SessionTotals;
use crate::query::text_filter::TextFilter;
use crate::record::EventName;
use crate::record::cost::Prices;
use crate::record::timestamp::Timestamp;

/// The argument of `show`, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SearchTarget {
    Last,
    /// `-1` is the last tool call, `-2` the one before it.
    Recent(usize),
    /// `last.SEQ`.
    InLast {
        seq: u64,
    },
    /// A handle, or `SESSION/SEQ`; a connection id also names the session.
    Operation {
        session: String,
        seq: u64,
    },
    /// The beginning of a session id, or an id of an operation: request, trace, span, tool call,
    /// conversation, or the beginning of a hash.
    Word(String),
}

impl SearchTarget {
    pub(crate) fn parse(text: Option<&str>) -> SearchTarget {
        let Some(text) = text else { return SearchTarget::Last };
        let number = |text: &str| text.trim_start_matches('#').parse().ok();
        let is_end = |id: &str| id.len() >= 6 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if text == "last" {
            SearchTarget::Last
        } else if let Some(back) = text.strip_prefix('-').and_then(|text| text.parse().ok()) {
            SearchTarget::Recent(back)
        } else if let Some(seq) = text.strip_prefix("last.").and_then(number) {
            SearchTarget::InLast { seq }
        } else if let Some((session, seq)) = text.rsplit_once('/').or_else(|| text.rsplit_once('.'))
            && (text.contains('/') && !session.is_empty() || is_end(session))
            && let Some(seq) = number(seq)
        {
            SearchTarget::Operation { session: session.to_owned(), seq }
        } else {
            SearchTarget::Word(text.to_owned())
        }
    }
}

impl SearchTarget {
    /// Returns true if the target is named by an id, and not by being the last.
    pub(crate) fn has_id(&self) -> bool {
        matches!(self, SearchTarget::Operation { .. } | SearchTarget::Word(_))
    }
}

/// Fewest characters of a hash or span id that are searched for, so that `show 1` finds request 1.
const LEAST_PREFIX: usize = 6;
/// Most operations that are kept as matches: the latest.
const MATCHES: usize = 1_000;

/// Finds the sessions and operations that match the target.
pub(crate) struct Search<'a> {
    select: &'a Selection,
    target: &'a SearchTarget,
    /// Passes the lines that can have the id that is searched for.
    filter: Option<TextFilter>,
    names: NamePool,
    sessions: BTreeMap<String, SessionMatch>,
    operations: Greatest<Timestamp, Box<OperationMatch>>,
    /// Number of operations that match.
    matched: u64,
}

#[derive(Debug, Default)]
struct SessionMatch {
    last: Timestamp,
    /// Its connections that match, if the session id does not.
    connections: BTreeSet<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct OperationMatch {
    pub(crate) row: OperationRow,
    pub(crate) ids: WireIds,
    pub(crate) line: Box<[u8]>,
}

/// The ids of an operation by which records of agents are joined to it; empty if unknown.
#[derive(Clone, Debug, Default)]
pub(crate) struct WireIds {
    pub(crate) call_id: Box<str>,
    pub(crate) trace_id: Box<str>,
    pub(crate) span_id: Box<str>,
    pub(crate) parent_span_id: Box<str>,
}

impl OperationMatch {
    pub(crate) fn new(entry: &LogEntry<'_>, line: &[u8], names: &mut NamePool) -> OperationMatch {
        let text = |text: &str| Box::from(text);
        let ids = WireIds {
            call_id: text(&entry.call_id),
            trace_id: text(&entry.trace_id),
            span_id: text(&entry.span_id),
            parent_span_id: text(&entry.parent_span_id),
        };
        OperationMatch { row: OperationRow::new(entry, names), ids, line: line.into() }
    }
}

#[derive(Debug)]
pub(crate) enum SearchResult {
    Nothing,
    Session(String),
    /// Ids of the sessions that match, newest first; ids of connections where those match instead.
    Sessions(Vec<String>),
    /// Operations, oldest first; never empty. Of more than [`MATCHES`] only the latest are found.
    Operations {
        found: Vec<OperationMatch>,
        left_out: u64,
    },
}

impl<'a> Search<'a> {
    pub(crate) fn new(select: &'a Selection, target: &'a SearchTarget) -> Search<'a> {
        let names = NamePool::default();
        let count = if let SearchTarget::Recent(back) = target { *back } else { MATCHES };
        let id = match target {
            SearchTarget::Operation { session: id, .. } | SearchTarget::Word(id) => Some(id),
            SearchTarget::Last | SearchTarget::Recent(_) | SearchTarget::InLast { .. } => None,
        };
        let filter = id.map(|id| TextFilter::new(id));
        let (sessions, operations) = (BTreeMap::new(), Greatest::new(count));
        Search { select, target, filter, names, sessions, operations, matched: 0 }
    }

    /// Returns what was found. The last session is one that waits for an answer now, as `live` shows, or else the one
    /// whose last record is the latest.
    pub(crate) fn finish(mut self, live: &[LiveConnection]) -> SearchResult {
        for LiveConnection { state, .. } in live.iter().filter(|connection| connection.waits()) {
            if let Some(session) = self.sessions.get_mut(&state.session_id) {
                session.last = Timestamp::now().max(session.last);
            }
        }
        let mut operations: Vec<OperationMatch> =
            self.operations.finish().into_iter().rev().map(|found| *found).collect();
        let left_out = self.matched - operations.len() as u64;
        let mut sessions: Vec<(String, SessionMatch)> = self.sessions.into_iter().collect();
        // The sort is stable: equal ones stay in the order of their ids.
        sessions.sort_by_key(|(_, session)| Reverse(session.last));
        let is_short = matches!(self.target, SearchTarget::Word(word) if word.len() < LEAST_PREFIX);
        match self.target {
            SearchTarget::Recent(back) if operations.len() < *back => operations.clear(),
            SearchTarget::Recent(_) => operations.truncate(1),
            SearchTarget::InLast { .. } => operations
                .retain(|found| sessions.first().is_some_and(|(last, _)| *found.row.session_id == **last)),
            _ => {}
        }
        match (self.target, sessions.len(), operations.is_empty()) {
            // `3` is the beginning of many ids, but a complete request id.
            (_, _, false) if is_short => SearchResult::Operations { found: operations, left_out },
            (SearchTarget::Last, 1.., _) | (SearchTarget::Word(_), 1, _) => {
                SearchResult::Session(sessions.swap_remove(0).0)
            }
            (SearchTarget::Word(_), 2.., _) => {
                let ids = |(id, session): (String, SessionMatch)| match session.connections.is_empty() {
                    true => vec![id],
                    false => session.connections.into_iter().collect(),
                };
                SearchResult::Sessions(sessions.into_iter().flat_map(ids).collect())
            }
            (_, _, false) => SearchResult::Operations { found: operations, left_out },
            _ => SearchResult::Nothing,
        }
    }

    fn keep_session(&mut self, entry: &LogEntry<'_>) {
        let session = match self.sessions.get_mut(&*entry.session_id) {
            Some(session) => session,
            None => self.sessions.entry(entry.session_id.to_string()).or_default(),
        };
        session.last = entry.timestamp.max(session.last);
        if let SearchTarget::Word(word) = self.target
            && !entry.session_id.starts_with(word.as_str())
            && !session.connections.contains(&*entry.connection_id)
        {
            session.connections.insert(entry.connection_id.to_string());
        }
    }

    fn keep_operation(&mut self, entry: &LogEntry<'_>, line: &[u8]) {
        self.matched += 1;
        let make = |names: &mut NamePool| Box::new(OperationMatch::new(entry, line, names));
        self.operations.offer(entry.timestamp, entry, &mut self.names, make);
    }

    /// Keeps the session of an event that matches: a server that did not start has an end, but no operation.
    fn take_event(&mut self, entry: &LogEntry<'_>) {
        let is_match = match self.target {
            SearchTarget::Last | SearchTarget::InLast { .. } => true,
            SearchTarget::Word(word) => belongs(entry, word),
            SearchTarget::Recent(_) | SearchTarget::Operation { .. } => false,
        };
        if is_match
            && !entry.is_operation()
            && !self.select.is_about_operations()
            && self.select.takes_context(entry)
        {
            self.keep_session(entry);
        }
    }
}

impl Fold for Search<'_> {
    fn wants(&self, line: &[u8]) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.can_have(line))
    }

    fn take(&mut self, entry: &LogEntry<'_>, line: &[u8]) {
        if !self.select.takes_operation(entry) {
            self.take_event(entry);
            return;
        }
        match self.target {
            SearchTarget::Last => self.keep_session(entry),
            SearchTarget::Recent(_) if entry.event == EventName::McpToolCall => {
                self.keep_operation(entry, line);
            }
            SearchTarget::Recent(_) => {}
            SearchTarget::InLast { seq } => {
                self.keep_session(entry);
                if entry.seq == *seq {
                    self.keep_operation(entry, line);
                }
            }
            SearchTarget::Operation { session, seq } => {
                if entry.seq == *seq && belongs(entry, session) {
                    self.keep_operation(entry, line);
                }
            }
            SearchTarget::Word(word) => {
                let is_session = belongs(entry, word);
                if is_session {
                    self.keep_session(entry);
                }
                if (!is_session || word.len() < LEAST_PREFIX) && has_id(entry, word) {
                    self.keep_operation(entry, line);
                }
            }
        }
    }

    fn merge(&mut self, other: Search<'_>) {
        for (id, other) in other.sessions {
            let session = self.sessions.entry(id).or_default();
            session.last = other.last.max(session.last);
            session.connections.extend(other.connections);
        }
        self.operations.merge(other.operations);
        self.matched += other.matched;
    }
}

/// Returns true if `word` is the operation's request id (with or without the quotes of a text), its trace,
/// span, tool call or conversation, or the beginning of one of its hashes (with or without the function's name).
fn has_id(entry: &LogEntry<'_>, word: &str) -> bool {
    let id = &*entry.request_id;
    let unquoted = id.strip_prefix('"').and_then(|id| id.strip_suffix('"'));
    let ids = [&entry.trace_id, &entry.span_id, &entry.call_id, &entry.conversation_id];
    if id == word || unquoted == Some(word) || ids.into_iter().any(|id| &**id == word) {
        return true;
    }
    let begins = |text: &str| {
        let hex = text.rsplit_once(':').map_or(text, |(_, hex)| hex);
        text.starts_with(word) && word.len() > text.len() - hex.len() || hex.starts_with(word)
    };
    let long = [
        &entry.args_hash,
        &entry.result_hash,
        &entry.text_hash,
        &entry.trace_id,
        &entry.call_id,
        &entry.conversation_id,
    ];
    word.len() >= LEAST_PREFIX && long.into_iter().any(|text| begins(text))
}

/// Collects what `show` draws of one session.
pub(crate) struct SessionReader<'a> {
    select: &'a Selection,
    session_id: &'a str,
    filter: TextFilter,
    limit: usize,
    keeps_lines: bool,
    names: NamePool,
    /// Lines are empty unless they are kept.
    pub(crate) operations: Vec<OperationMatch>,
    /// Number of operations beyond the limit.
    pub(crate) more: u64,
    pub(crate) totals: SessionTotals,
    pub(crate) events: Vec<EventRow>,
    pub(crate) open: Vec<OpenRow>,
    /// Ids of the traces of its operations, at most one more than [`TRACES`].
    traces: BTreeSet<Box<str>>,
}

/// Most traces of one session that are named.
const TRACES: usize = 3;

/// A request that is open now.
#[derive(Debug)]
pub(crate) struct OpenRow {
    pub(crate) server_name: String,
    pub(crate) name: String,
    pub(crate) started: Timestamp,
    /// Time from its start in which the server sent nothing, if that was reported.
    pub(crate) silent_ms: Option<f64>,
}

impl<'a> SessionReader<'a> {
    /// Returns true if only some servers, connections or operations of the session are selected.
    pub(crate) fn is_part(&self) -> bool {
        self.select.is_part_of(self.session_id)
    }

    /// Keeps the first `limit` operations by time; with `keeps_lines` also their lines.
    pub(crate) fn new(
        select: &'a Selection,
        session_id: &'a str,
        limit: usize,
        keeps_lines: bool,
    ) -> SessionReader<'a> {
        SessionReader {
            select,
            session_id,
            filter: TextFilter::new(session_id),
            limit,
            keeps_lines,
            names: NamePool::default(),
            operations: Vec::new(),
            more: 0,
            totals: SessionTotals::default(),
            events: Vec::new(),
            open: Vec::new(),
            traces: BTreeSet::new(),
        }
    }

    /// Returns the traces of the session if they are few.
    pub(crate) fn traces(&self) -> impl Iterator<Item = &str> {
        self.traces.iter().filter(|_| self.traces.len() <= TRACES).map(|trace| &**trace)
    }

    /// Drops all but the first operations.
    fn trim(&mut self) {
        let excess = self.operations.len().saturating_sub(self.limit);
        if excess > 0 {
            self.operations.select_nth_unstable_by(self.limit, |a, b| a.row.order().cmp(&b.row.order()));
            self.operations.truncate(self.limit);
            self.more += excess as u64;
        }
    }

    /// Sorts operations and events by time, and settles the totals.
    pub(crate) fn settle(&mut self) {
        self.trim();
        self.operations.sort_by(|a, b| a.row.order().cmp(&b.row.order()));
        self.events.sort_by_key(|event| event.at);
        self.totals.turns.settle();
    }

    /// Adds what is known of the connections now, and removes the reports that a request is open which is shown
    /// itself.
    pub(crate) fn add_live(&mut self, live: &[LiveConnection]) {
        self.totals.add_live(live);
        if !self.select.is_about_operations() {
            let killed = self.totals.killed_of(live).map(|state| EventRow::killed(state, state.updated_at));
            self.events.extend(killed);
            self.events.sort_by_key(|event| event.at);
        }
        let ended =
            self.operations.iter().map(|OperationMatch { row, .. }| (&*row.connection_id, row.started));
        let ended: HashSet<(&str, Timestamp)> = ended.collect();
        let is_silence = |event: &&EventRow| event.event == EventName::ServerUnresponsive;
        let silent: HashMap<_, _> =
            self.events.iter().filter(is_silence).map(|event| (event.request(), event.open_ms)).collect();
        let mut open = HashSet::new();
        for (state, request) in self.totals.open() {
            let key = (Arc::<str>::from(&*state.connection_id), request.started_at);
            self.open.push(OpenRow {
                server_name: state.server_name.clone(),
                name: request.name().to_owned(),
                started: request.started_at,
                silent_ms: silent.get(&key).copied().flatten(),
            });
            open.insert(key);
        }
        self.events.retain(|event| match event.event {
            EventName::CallPending => {
                let key = event.request();
                !(ended.contains(&(&*key.0, key.1)) || open.contains(&key) || silent.contains_key(&key))
            }
            EventName::ServerUnresponsive => !open.contains(&event.request()),
            _ => true,
        });
    }
}

impl Fold for SessionReader<'_> {
    fn wants(&self, line: &[u8]) -> bool {
        self.filter.can_have(line)
    }

    fn take(&mut self, entry: &LogEntry<'_>, line: &[u8]) {
        if *entry.session_id != *self.session_id || !self.select.takes_context(entry) {
            return;
        }
        self.totals.add(entry, self.select, &Prices::default());
        if self.select.takes_operation(entry) {
            if !entry.trace_id.is_empty()
                && self.traces.len() <= TRACES
                && !self.traces.contains(&*entry.trace_id)
            {
                self.traces.insert((*entry.trace_id).into());
            }
            let line = if self.keeps_lines { line } else { &[] };
            self.operations.push(OperationMatch::new(entry, line, &mut self.names));
            // Each operation is moved at most twice, since half of them are dropped at once.
            if self.operations.len() >= self.limit.saturating_add(1).saturating_mul(2) {
                self.trim();
            }
        } else if is_notable(entry) {
            self.events.push(EventRow::new(entry, &mut self.names));
        }
    }

    fn merge(&mut self, other: SessionReader<'_>) {
        self.totals.merge(other.totals);
        self.events.extend(other.events);
        self.operations.extend(other.operations);
        self.more += other.more;
        self.traces.extend(other.traces);
        self.trim();
    }
}

/// Finds the summary of one operation's result, which is recorded at level debug only.
pub(crate) struct SummarySearch {
    pub(crate) connection_id: String,
    pub(crate) request_id: String,
    pub(crate) summary: Option<String>,
}

impl Fold for SummarySearch {
    fn wants(&self, line: &[u8]) -> bool {
        memchr::memmem::find(line, b"tool_result").is_some()
    }

    fn take(&mut self, entry: &LogEntry<'_>, _line: &[u8]) {
        let is_same = *entry.connection_id == self.connection_id && *entry.request_id == self.request_id;
        if entry.event == EventName::ToolResult && is_same && self.summary.is_none() {
            self.summary = Some(entry.result_summary.to_string());
        }
    }

    fn merge(&mut self, other: SummarySearch) {
        self.summary = self.summary.take().or(other.summary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_found_by_each_of_its_ids() {
        let line = format!(
            r#"{{"schema":"spantap/1","event":"mcp_tool_call","request_id":"\"r-1\"","trace_id":"{0}","span_id":"00f067aa0ba902b7","args_hash":"hmac-sha256:{1}","result_hash":"hmac-sha256-raw:{2}"}}"#,
            "4bf92f3577b34da6a3ce929d0e0e4736",
            "a".repeat(64),
            "0123456789abcdef".repeat(4)
        );
        let entry = LogEntry::parse(line.as_bytes()).unwrap();
        for (word, expected) in [
            ("r-1", true),
            ("\"r-1\"", true),
            ("4bf92f3577b34da6a3ce929d0e0e4736", true),
            ("4bf92f", true),
            ("00f067aa0ba902b7", true),
            ("hmac-sha256-raw:01234", true),
            ("0123456789", true),
            ("hmac-sha256", false),
            ("aaaaa", false),
            ("r-", false),
        ] {
            assert_eq!(has_id(&entry, word), expected, "{word}");
        }
    }

    #[test]
    fn a_short_word_is_a_request_id_before_it_is_the_beginning_of_a_session() {
        let line = |session: &str, request: &str| {
            format!(
                r#"{{"schema":"spantap/1","event":"mcp_tool_call","session_id":"{session}","request_id":"{request}"}}"#
            )
        };
        let find = |word| find(word, &[line("43b33780", "4"), line("43b33780", "5"), line("9000", "7")]);
        assert!(matches!(find("4"), SearchResult::Operations { found, left_out: 0 } if found.len() == 1));
        assert!(matches!(find("43"), SearchResult::Session(session) if session == "43b33780"));
        assert!(matches!(find("43b33780"), SearchResult::Session(_)));
        assert!(matches!(find("8"), SearchResult::Nothing));
    }

    #[test]
    fn operations_beyond_the_most_that_are_found_are_counted() {
        let line = |session: u64| {
            format!(
                r#"{{"schema":"spantap/1","event":"mcp_tool_call","session_id":"{session}","request_id":"r-1"}}"#
            )
        };
        let lines: Vec<String> = (0..MATCHES as u64 + 3).map(line).collect();
        let found = find("r-1", &lines);
        assert!(
            matches!(&found, SearchResult::Operations { found, left_out: 3 } if found.len() == MATCHES),
            "{found:?}"
        );
    }

    #[test]
    fn sessions_that_match_by_their_connections_are_listed_by_them() {
        let line = |session: &str, connection: &str| {
            format!(
                r#"{{"schema":"spantap/1","event":"mcp_tool_call","session_id":"{session}","connection_id":"{connection}"}}"#
            )
        };
        let lines = [line("s1", "01a20de7-a"), line("s2", "01a20de7-b"), line("s2", "02")];
        let ids = |word| match find(word, &lines) {
            SearchResult::Sessions(ids) => ids,
            other => panic!("{other:?}"),
        };
        assert_eq!(ids("01a20d"), ["01a20de7-a", "01a20de7-b"]);
        assert_eq!(ids("s"), ["s1", "s2"]);
        assert!(matches!(find("02", &lines), SearchResult::Session(session) if session == "s2"));
    }

    fn find(word: &str, lines: &[String]) -> SearchResult {
        let (select, target) = (Selection::default(), SearchTarget::parse(Some(word)));
        let mut search = Search::new(&select, &target);
        for line in lines {
            search.take(&LogEntry::parse(line.as_bytes()).unwrap(), line.as_bytes());
        }
        search.finish(&[])
    }

    #[test]
    fn a_target_is_a_session_an_operation_or_a_word() {
        assert_eq!(SearchTarget::parse(None), SearchTarget::Last);
        assert_eq!(SearchTarget::parse(Some("last")), SearchTarget::Last);
        assert_eq!(
            SearchTarget::parse(Some("01a2/#42")),
            SearchTarget::Operation { session: "01a2".to_owned(), seq: 42 }
        );
        assert_eq!(
            SearchTarget::parse(Some("d76af1.19")),
            SearchTarget::Operation { session: "d76af1".to_owned(), seq: 19 }
        );
        assert_eq!(SearchTarget::parse(Some("last.19")), SearchTarget::InLast { seq: 19 });
        assert_eq!(SearchTarget::parse(Some("-3")), SearchTarget::Recent(3));
        assert_eq!(SearchTarget::parse(Some("v1.19")), SearchTarget::Word("v1.19".to_owned()));
        assert_eq!(SearchTarget::parse(Some("a/b")), SearchTarget::Word("a/b".to_owned()));
    }
}
