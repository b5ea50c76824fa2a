//! Owned rows: what a command keeps of a line that it will draw. Each is made of the line's entry once.

use std::collections::HashSet;
use std::sync::Arc;

use crate::query::entry::LogEntry;
use crate::query::event::{EventRow, is_edge, is_notable};
use crate::query::name_pool::NamePool;
use crate::query::select::Selection;
use crate::record::EventName;
use crate::record::timestamp::Timestamp;
use crate::record::words::{Direction, Status};

/// One operation, as far as it is drawn. Its names are shared with other rows.
#[derive(Clone, Debug)]
pub struct OperationRow {
    pub(crate) session_id: Arc<str>,
    pub(crate) connection_id: Arc<str>,
    pub(crate) server_name: Arc<str>,
    pub(crate) conversation_id: Arc<str>,
    pub(crate) turn_id: Arc<str>,
    pub(crate) method: Arc<str>,
    /// Tool, prompt or resource; empty if the operation has none.
    pub(crate) target: Arc<str>,
    pub(crate) error_type: Arc<str>,
    pub(crate) error_message: Box<str>,
    pub(crate) seq: u64,
    pub(crate) started: Timestamp,
    /// Time of the record, which is written at the end.
    pub(crate) recorded: Timestamp,
    pub(crate) duration_ms: Option<f64>,
    pub(crate) user_wait_ms: Option<f64>,
    pub(crate) result_size_bytes: Option<u64>,
    pub(crate) continues_seq: Option<u64>,
    pub(crate) tokens: u64,
    pub(crate) repeat_count: Option<u32>,
    pub(crate) status: Status,
    pub(crate) is_tool_call: bool,
    /// True if the operation was open for longer than `--slow`.
    pub(crate) is_slow: bool,
    pub(crate) is_from_server: bool,
    /// True if the operation brought the failure of a task, which counts at the call that began the task.
    pub(crate) is_failure_of_task: bool,
}

impl OperationRow {
    pub fn new(entry: &LogEntry<'_>, names: &mut NamePool) -> OperationRow {
        let mut share = |field, name: &str| names.share_field(field, name);
        OperationRow {
            session_id: share(0, &entry.session_id),
            connection_id: share(1, &entry.connection_id),
            server_name: share(2, &entry.server_name),
            conversation_id: share(3, &entry.conversation_id),
            turn_id: share(4, &entry.turn_id),
            method: share(5, &entry.method),
            target: share(6, entry.target()),
            error_type: share(7, &entry.error_type),
            error_message: (*entry.error_message).into(),
            seq: entry.seq,
            started: entry.started(),
            recorded: entry.timestamp,
            duration_ms: entry.duration_ms,
            user_wait_ms: entry.user_wait_ms,
            result_size_bytes: entry.result_size_bytes,
            continues_seq: entry.continues_seq,
            tokens: entry.tokens(),
            repeat_count: entry.repeat_count,
            status: entry.status,
            is_tool_call: entry.event == EventName::McpToolCall,
            is_slow: entry.pending_at.is_some(),
            is_from_server: entry.direction == Some(Direction::ServerToClient),
            is_failure_of_task: entry.is_failure_of_task(),
        }
    }

    /// Returns the handle by which users name the operation.
    pub(crate) fn handle(&self) -> String {
        handle(&self.connection_id, self.seq)
    }

    /// Returns the target, or the method of an operation without one.
    pub(crate) fn name(&self) -> &str {
        if self.target.is_empty() { &self.method } else { &self.target }
    }

    /// Returns the duration, 0 if it is unknown.
    pub(crate) fn length_ms(&self) -> f64 {
        self.duration_ms.unwrap_or(0.0).max(0.0)
    }

    /// Returns when the operation ended by its duration.
    pub(crate) fn ended(&self) -> Timestamp {
        self.started.plus_ms(self.length_ms())
    }

    /// Returns the order in which the operations of a session are drawn.
    pub(crate) fn order(&self) -> (Timestamp, &str, u64) {
        (self.started, &self.connection_id, self.seq)
    }
}

/// One line that `tail` prints.
#[derive(Clone, Debug)]
pub enum LogRow {
    Operation(OperationRow),
    Event(EventRow),
    /// The line as it was read, for `--json`.
    Json(Box<[u8]>),
}

impl LogRow {
    /// Returns true if `tail` prints the line: a selected operation, or a notable event of the selected servers.
    pub(crate) fn is_wanted(select: &Selection, entry: &LogEntry<'_>) -> bool {
        if entry.is_operation() {
            return select.takes_operation(entry);
        }
        !select.is_about_operations() && select.takes_context(entry) && is_notable(entry)
    }

    /// Returns true if `tail -f` prints the line: it shows beginnings and ends of connections, too.
    pub(crate) fn is_followed(select: &Selection, entry: &LogEntry<'_>) -> bool {
        LogRow::is_wanted(select, entry)
            || is_edge(entry) && !select.is_about_operations() && select.takes_context(entry)
    }

    /// Returns the time of the record; the earliest time for a line of JSON.
    pub(crate) fn at(&self) -> Timestamp {
        match self {
            LogRow::Operation(row) => row.recorded,
            LogRow::Event(row) => row.at,
            LogRow::Json(_) => Timestamp::default(),
        }
    }

    pub fn new(entry: &LogEntry<'_>, line: &[u8], json: bool, names: &mut NamePool) -> LogRow {
        match (json, entry.is_operation()) {
            (true, _) => LogRow::Json(line.into()),
            (false, true) => LogRow::Operation(OperationRow::new(entry, names)),
            (false, false) => LogRow::Event(EventRow::new(entry, names)),
        }
    }
}

/// Removes each report that a request is open that another report repeats: that the server has been silent since then.
pub(crate) fn drop_repeated(rows: &mut Vec<LogRow>) {
    let event =
        |row: &LogRow| if let LogRow::Event(row) = row { Some((row.event, row.request())) } else { None };
    let silent = rows.iter().filter_map(event).filter(|(event, _)| *event == EventName::ServerUnresponsive);
    let silent: HashSet<_> = silent.map(|(_, request)| request).collect();
    let is_repeated = |row: &LogRow| {
        event(row)
            .is_some_and(|(event, request)| event == EventName::CallPending && silent.contains(&request))
    };
    rows.retain(|row| !is_repeated(row));
}

/// Returns the handle of an operation, such as `d76af1.19`: the last six characters of its connection id, and the
/// number of its record.
pub(crate) fn handle(connection_id: &str, seq: u64) -> String {
    format!("{}.{seq}", id_end(connection_id, 6))
}

/// Returns the last `count` characters of a connection id. Its beginning is a time, which many connections share.
pub(crate) fn id_end(id: &str, count: usize) -> &str {
    let start = id.char_indices().rev().nth(count - 1).map_or(0, |(at, _)| at);
    &id[start..]
}
