//! `spantap show`: finds a session or an operation by whatever a person has of it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use crate::present::format;
use crate::present::table::{Terminal, Tone};
use crate::query::entry::Entry;
use crate::query::scan::Fold;
use crate::query::select::{Select, belongs};
use crate::record::timestamp::Timestamp;
use crate::record::words::Direction;
use crate::record::{EventName, Record};

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The session that was active last.
    Last,
    /// `SESSION/SEQ`, the session also by its connection.
    Operation { session: String, seq: u64 },
    /// The beginning of a session id, or something that an operation carries: request id, trace id,
    /// span id, id of the tool call or conversation, beginning of a hash.
    Word(String),
}

impl Target {
    pub fn parse(text: Option<&str>) -> Target {
        match text {
            None | Some("last") => Target::Last,
            Some(text) => match text.rsplit_once('/') {
                Some((session, seq)) if !session.is_empty() => match seq.trim_start_matches('#').parse() {
                    Ok(seq) => Target::Operation { session: session.to_owned(), seq },
                    Err(_) => Target::Word(text.to_owned()),
                },
                _ => Target::Word(text.to_owned()),
            },
        }
    }
}

/// Fewest characters of a hash or span that are taken for one, so that `show 1` is request 1.
const LEAST_PREFIX: usize = 6;

/// Finds candidates: the sessions that match, and the operations.
pub struct Finder<'a> {
    select: &'a Select,
    target: &'a Target,
    /// By session; without operations only those that were named.
    sessions: BTreeMap<String, Seen>,
    operations: Vec<Vec<u8>>,
    /// Operations found beyond those kept.
    pub more: u64,
}

/// Operations that are kept as candidates.
const CANDIDATES: usize = 1_000;

/// What is known of a session that matches.
#[derive(Debug, Default)]
struct Seen {
    last: Timestamp,
    /// Its connections that match, where the session itself does not.
    connections: BTreeSet<String>,
}

/// What was found.
#[derive(Debug)]
pub enum Found {
    Nothing,
    Session(String),
    /// Several sessions match: their ids, newest first, or those of their connections where it is these
    /// that match.
    Sessions(Vec<String>),
    /// Lines of operations, oldest first; never empty.
    Operations(Vec<Vec<u8>>),
}

impl<'a> Finder<'a> {
    pub fn new(select: &'a Select, target: &'a Target) -> Finder<'a> {
        Finder { select, target, sessions: BTreeMap::new(), operations: Vec::new(), more: 0 }
    }

    pub fn finish(self) -> Found {
        let mut operations = self.operations;
        operations.sort_by_key(|line| Entry::parse(line).map(|entry| entry.timestamp).ok());
        let mut sessions: Vec<(String, Seen)> = self.sessions.into_iter().collect();
        // Stable, and they come in the order of their ids.
        sessions.sort_by_key(|(_, seen)| Reverse(seen.last));
        let is_short = matches!(self.target, Target::Word(word) if word.len() < LEAST_PREFIX);
        match (self.target, sessions.len(), operations.is_empty()) {
            // `3` begins many ids, but as a request id it is complete.
            (_, _, false) if is_short => Found::Operations(operations),
            (Target::Last, 1.., _) | (Target::Word(_), 1, _) => Found::Session(sessions.swap_remove(0).0),
            (Target::Word(_), 2.., _) => {
                let ids = |(session, seen): (String, Seen)| match seen.connections.is_empty() {
                    true => vec![session],
                    false => seen.connections.into_iter().collect(),
                };
                Found::Sessions(sessions.into_iter().flat_map(ids).collect())
            }
            (_, _, false) => Found::Operations(operations),
            _ => Found::Nothing,
        }
    }

    fn saw(&mut self, entry: &Entry<'_>) {
        let seen = match self.sessions.get_mut(&*entry.session_id) {
            Some(seen) => seen,
            None => self.sessions.entry(entry.session_id.to_string()).or_default(),
        };
        seen.last = entry.timestamp.0.max(seen.last);
        if let Target::Word(word) = self.target
            && !entry.session_id.starts_with(word.as_str())
            && !seen.connections.contains(&*entry.connection_id)
        {
            seen.connections.insert(entry.connection_id.to_string());
        }
    }

    fn keep(&mut self, line: &[u8]) {
        if self.operations.len() < CANDIDATES {
            self.operations.push(line.to_owned());
        } else {
            self.more += 1;
        }
    }
}

impl Fold for Finder<'_> {
    fn take(&mut self, entry: &Entry<'_>, line: &[u8]) {
        if !self.select.takes_operation(entry) {
            // A server that did not start has no operation, and yet an end.
            if let Target::Word(word) = self.target
                && !entry.is_operation()
                && !self.select.is_about_operations()
                && self.select.takes_place(entry)
                && belongs(entry, word)
            {
                self.saw(entry);
            }
            return;
        }
        let is_session = match self.target {
            Target::Last => true,
            Target::Word(word) => belongs(entry, word),
            Target::Operation { session, seq } => {
                if entry.seq == *seq && belongs(entry, session) {
                    self.keep(line);
                }
                false
            }
        };
        if is_session {
            self.saw(entry);
        }
        if let Target::Word(word) = self.target
            && (!is_session || word.len() < LEAST_PREFIX)
            && carries(entry, word)
        {
            self.keep(line);
        }
    }

    fn merge(&mut self, other: Finder<'_>) {
        for (session, other) in other.sessions {
            let seen = self.sessions.entry(session).or_default();
            seen.last = other.last.max(seen.last);
            seen.connections.extend(other.connections);
        }
        self.more += other.more;
        other.operations.iter().for_each(|line| self.keep(line));
    }
}

/// Whether the operation is known by `word`: its request id (with or without the quotes of a text),
/// its trace or span, the tool call or conversation of the model, or one of its hashes (with or without
/// the name of the function).
fn carries(entry: &Entry<'_>, word: &str) -> bool {
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

/// All lines of one session that `show` draws or tells of.
pub struct OneSession<'a> {
    select: &'a Select,
    session: &'a str,
    pub operations: Vec<Vec<u8>>,
    pub summary: crate::present::sessions::Session,
    /// Operations beyond those kept.
    pub more: u64,
    limit: usize,
    /// What was said about the session apart from its operations, by time.
    pub events: Vec<Event>,
}

/// Something that was said about a session.
pub struct Event {
    pub at: Timestamp,
    /// Clean.
    pub text: String,
    pub tone: Tone,
    /// The server's last lines on standard error, of an end; clean.
    pub stderr: Vec<String>,
}

impl<'a> OneSession<'a> {
    /// Keeps at most `limit` operations.
    pub fn new(select: &'a Select, session: &'a str, limit: usize) -> OneSession<'a> {
        OneSession {
            select,
            session,
            operations: Vec::new(),
            summary: crate::present::sessions::Session::default(),
            more: 0,
            limit,
            events: Vec::new(),
        }
    }

    fn keep(&mut self, line: Vec<u8>) {
        if self.operations.len() < self.limit {
            self.operations.push(line);
        } else {
            self.more += 1;
        }
    }
}

impl Fold for OneSession<'_> {
    fn take(&mut self, entry: &Entry<'_>, line: &[u8]) {
        if *entry.session_id != *self.session || !self.select.takes_place(entry) {
            return;
        }
        self.summary.take(entry, self.select, &crate::record::cost::Prices::default());
        if self.select.takes_operation(entry) {
            self.keep(line.to_owned());
        } else if let Some((note, tone)) = crate::present::annotations::event(entry) {
            let record = match entry.event {
                EventName::SessionEnded => serde_json::from_slice::<Record<'_>>(line).unwrap_or_default(),
                _ => Record::default(),
            };
            let stderr = record.stderr_tail.unwrap_or_default();
            let stderr = stderr.iter().map(|line| format::clean(line).into_owned()).collect();
            self.events.push(Event { at: entry.timestamp.0, text: note, tone, stderr });
        }
    }

    fn merge(&mut self, other: OneSession<'_>) {
        self.summary.merge(other.summary);
        self.more += other.more;
        self.events.extend(other.events);
        other.operations.into_iter().for_each(|line| self.keep(line));
    }
}

/// Finds what the server returned in words, which is recorded in debug only.
pub struct Summaries {
    pub connection: String,
    pub request: String,
    pub found: Option<String>,
}

impl Fold for Summaries {
    fn wants(&self, line: &[u8]) -> bool {
        memchr::memmem::find(line, b"tool_result").is_some()
    }

    fn take(&mut self, entry: &Entry<'_>, _line: &[u8]) {
        let same = *entry.connection_id == self.connection && *entry.request_id == self.request;
        if entry.event == EventName::ToolResult && same && self.found.is_none() {
            self.found = Some(entry.result_summary.to_string());
        }
    }

    fn merge(&mut self, other: Summaries) {
        self.found = self.found.take().or(other.found);
    }
}

/// Writes everything about one operation: what was asked, how it ended, the chain of ids from the
/// agent's session to the bytes of the result, and how to check a text against it.
///
/// # Errors
/// Those of `out`.
pub fn write_operation(
    out: &mut dyn Write,
    terminal: &Terminal,
    record: &Record<'_>,
    entry: &Entry<'_>,
    summary: Option<&str>,
    warn: u32,
) -> io::Result<()> {
    let clean = |text: &str| format::clean(text).into_owned();
    let known = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().map(clean);
    let title = format!("{}/{}", clean(&entry.session_id), entry.seq);
    writeln!(
        out,
        "{}  {} on {}",
        Tone::Strong.paint(&title),
        clean(entry.name()),
        clean(&entry.server_name)
    )?;

    let mut lines = Lines { out, terminal };
    lines.section("what happened")?;
    let asker = match entry.direction {
        Some(Direction::ServerToClient) => "asked by the server",
        _ => "asked by the client",
    };
    lines.fact(
        "request",
        &format!("{} {}, {asker}", clean(&entry.method), clean(entry.target())),
        Tone::Plain,
    )?;
    let at = format::local(entry.started(), &terminal.zone, "%Y-%m-%d %H:%M:%S%.6f %:z");
    let took = entry.duration_ms.map(format::duration).unwrap_or_else(|| "unknown".to_owned());
    lines.fact("time", &format!("{at}, took {took}"), Tone::Plain)?;
    let (note, tone) = crate::present::annotations::operation(entry, warn);
    let code = record.error_code.map(|code| format!(" (code {code})")).unwrap_or_default();
    lines.fact("status", &format!("{}{code}", entry.status.as_str()), tone)?;
    lines.fact("", &note, tone)?;
    let size = |bytes: Option<u64>, tokens: Option<u64>| {
        let tokens = tokens.map(|tokens| format!(", ~{} tokens", format::count(tokens))).unwrap_or_default();
        bytes.map(|bytes| format!("{}{tokens}", format::bytes(bytes)))
    };
    let requested = size(record.request_size_bytes, record.args_tokens_est);
    lines.fact("sent", &requested.unwrap_or_default(), Tone::Plain)?;
    let returned = size(entry.result_size_bytes, entry.result_tokens_est);
    lines.fact("returned", &returned.unwrap_or_else(|| "nothing".to_owned()), Tone::Plain)?;
    let summary =
        summary.map(clean).unwrap_or_else(|| "not recorded; --log-level debug records a summary".to_owned());
    // The record has line breaks written out.
    for (number, line) in summary.split("\\u{a}").filter(|line| !line.trim().is_empty()).enumerate() {
        lines.fact(if number == 0 { "summary" } else { "" }, line, Tone::Plain)?;
    }

    lines.section("the chain")?;
    let facts = [
        ("agent session", Some(clean(&entry.session_id))),
        ("host", known(&record.host_name)),
        ("user", known(&record.user_id)),
        ("conversation", known(&record.conversation_id)),
        ("turn", known(&record.turn_id)),
        ("tool call", known(&record.call_id)),
        ("connection", Some(clean(&entry.connection_id))),
        ("request id", known(&record.request_id)),
        ("trace", known(&record.trace_id)),
        ("span", known(&record.span_id)),
        ("parent span", known(&record.parent_span_id)),
        ("arguments", known(&record.args_hash)),
        ("result", known(&record.result_hash)),
        ("text", known(&record.text_hash)),
    ];
    for (name, value) in &facts {
        lines.fact(name, value.as_deref().unwrap_or_default(), Tone::Plain)?;
    }

    if record.result_hash.is_some() {
        lines.section("is this what the server returned?")?;
        if record.text_hash.is_some() {
            lines.fact(
                "its text",
                "spantap redact --hash text FILE      prints the hash above",
                Tone::Plain,
            )?;
        }
        lines.fact(
            "its result",
            "spantap redact --hash result FILE    prints the hash above",
            Tone::Plain,
        )?;
        lines
            .line("The same hash: the server said so. Another: the text was changed or made up after it.")?;
    }
    Ok(())
}

struct Lines<'o, 't> {
    out: &'o mut dyn Write,
    terminal: &'t Terminal,
}

impl Lines<'_, '_> {
    fn section(&mut self, title: &str) -> io::Result<()> {
        writeln!(self.out, "{}", Tone::Faint.paint(title))
    }

    /// One fact; nothing where it is not known. Never cut: this is where people copy from.
    fn fact(&mut self, name: &str, value: &str, tone: Tone) -> io::Result<()> {
        if value.is_empty() {
            return Ok(());
        }
        writeln!(self.out, "  {name:<14} {}", tone.paint(value))
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        let text = format::cut(text, self.terminal.width.saturating_sub(2), self.terminal.ellipsis());
        writeln!(self.out, "  {}", Tone::Faint.paint(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_found_by_whatever_is_known_of_it() {
        let line = format!(
            r#"{{"schema":"spantap/1","event":"mcp_tool_call","request_id":"\"r-1\"","trace_id":"{0}","span_id":"00f067aa0ba902b7","args_hash":"hmac-sha256:{1}","result_hash":"hmac-sha256-raw:{2}"}}"#,
            "4bf92f3577b34da6a3ce929d0e0e4736",
            "a".repeat(64),
            "0123456789abcdef".repeat(4)
        );
        let entry = Entry::parse(line.as_bytes()).unwrap();
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
            assert_eq!(carries(&entry, word), expected, "{word}");
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
        assert!(matches!(find("4"), Found::Operations(lines) if lines.len() == 1));
        assert!(matches!(find("43"), Found::Session(session) if session == "43b33780"));
        assert!(matches!(find("43b33780"), Found::Session(_)));
        assert!(matches!(find("8"), Found::Nothing));
    }

    #[test]
    fn sessions_known_by_their_connections_are_told_apart_by_them() {
        let line = |session: &str, connection: &str| {
            format!(
                r#"{{"schema":"spantap/1","event":"mcp_tool_call","session_id":"{session}","connection_id":"{connection}"}}"#
            )
        };
        let lines = [line("s1", "01a20de7-a"), line("s2", "01a20de7-b"), line("s2", "02")];
        assert!(
            matches!(find("01a20d", &lines), Found::Sessions(ids) if ids == ["01a20de7-a", "01a20de7-b"])
        );
        assert!(matches!(find("s", &lines), Found::Sessions(ids) if ids == ["s1", "s2"]));
        assert!(matches!(find("02", &lines), Found::Session(session) if session == "s2"));
    }

    fn find(word: &str, lines: &[String]) -> Found {
        let (select, target) = (Select::default(), Target::parse(Some(word)));
        let mut finder = Finder::new(&select, &target);
        for line in lines {
            finder.take(&Entry::parse(line.as_bytes()).unwrap(), line.as_bytes());
        }
        finder.finish()
    }

    #[test]
    fn a_target_is_a_session_an_operation_or_a_word() {
        assert_eq!(Target::parse(None), Target::Last);
        assert_eq!(Target::parse(Some("last")), Target::Last);
        assert_eq!(
            Target::parse(Some("01a2/#42")),
            Target::Operation { session: "01a2".to_owned(), seq: 42 }
        );
        assert_eq!(Target::parse(Some("a/b")), Target::Word("a/b".to_owned()));
    }
}
