//! `spantap stats`: calls, errors and percentiles by group.

use std::io::{self, Write};

use memchr::memmem::Finder;
use serde::Serialize;

use crate::present::format;
use crate::present::table::{Cell, Column, Table, Terminal, Tone};
use crate::query::entry::Entry;
use crate::query::scan::Fold;
use crate::query::select::Select;
use crate::query::totals::{Extent, Groups, Timed, Turns};
use crate::record::EventName;
use crate::record::cost::Prices;
use crate::record::words::Status;

/// What makes a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    #[default]
    ServerTool,
    Server,
    Tool,
    Session,
    Host,
}

/// What stands first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Calls,
    Errors,
    P95,
    Tokens,
}

/// Adds up the selected tool calls; with `--method`, the requests of that method.
pub struct Stats<'a> {
    select: &'a Select,
    prices: &'a Prices,
    by: By,
    words: [Finder<'static>; 2],
    groups: Groups<Group>,
    total: Group,
    extent: Extent,
}

#[derive(Clone, Debug, Default)]
struct Group {
    timed: Timed,
    turns: Turns,
}

impl<'a> Stats<'a> {
    pub fn new(select: &'a Select, prices: &'a Prices, by: By) -> Stats<'a> {
        Stats {
            select,
            prices,
            by,
            words: [Finder::new("mcp_tool_call"), Finder::new("mcp_request")],
            groups: Groups::default(),
            total: Group::default(),
            extent: Extent::default(),
        }
    }

    fn words(&self) -> &[Finder<'static>] {
        match self.select.method {
            Some(_) => &self.words,
            None => &self.words[..1],
        }
    }

    /// The rows, most of what `sort` asks for first.
    pub fn finish(self, sort: Sort) -> Summary {
        let minutes = self.extent.ms() / 60_000.0;
        let mut total = self.total;
        let mut rows: Vec<Row> = self
            .groups
            .sorted()
            .into_iter()
            .map(|(first, second, mut group)| {
                group.turns.settle();
                let row = Row::new(Some((self.by, &first, &second)), &mut group, self.prices, minutes);
                total.turns.merge(group.turns);
                row
            })
            .collect();
        rows.sort_by(|a, b| match sort {
            Sort::Calls => b.calls.cmp(&a.calls),
            Sort::Errors => b.errors.cmp(&a.errors).then(b.calls.cmp(&a.calls)),
            Sort::P95 => b.p95_ms.unwrap_or(-1.0).total_cmp(&a.p95_ms.unwrap_or(-1.0)),
            Sort::Tokens => b.tokens_est.cmp(&a.tokens_est),
        });
        total.turns.settle();
        let total = Row::new(None, &mut total, self.prices, minutes);
        Summary { by: self.by, rows, total, extent: self.extent }
    }
}

impl Fold for Stats<'_> {
    fn wants(&self, line: &[u8]) -> bool {
        self.words().iter().any(|word| word.find(line).is_some())
    }

    fn take(&mut self, entry: &Entry<'_>, _line: &[u8]) {
        let wanted = entry.event == EventName::McpToolCall || self.select.method.is_some();
        if !wanted || !self.select.takes_operation(entry) {
            return;
        }
        let (first, second) = match self.by {
            By::ServerTool => (&*entry.server_name, entry.name()),
            By::Server => (&*entry.server_name, ""),
            By::Tool => (entry.name(), ""),
            By::Session => (&*entry.session_id, ""),
            By::Host => (&*entry.host_name, ""),
        };
        let group = self.groups.at(first, second);
        group.timed.add(entry, self.prices);
        // Once only, since they need memory for every operation: by group where that is a question, and
        // else for the total.
        match self.by {
            By::Session | By::Host => group.turns.add(entry),
            By::ServerTool | By::Server | By::Tool => self.total.turns.add(entry),
        }
        self.total.timed.figures.add(entry, self.prices);
        self.extent.add(entry.started(), entry.timestamp.0);
    }

    fn merge(&mut self, other: Stats<'_>) {
        self.groups.merge(other.groups, |group, other| {
            group.timed.merge(other.timed);
            group.turns.merge(other.turns);
        });
        self.total.timed.merge(other.total.timed);
        self.total.turns.merge(other.total.turns);
        self.extent.merge(other.extent);
    }
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Summary {
    by: By,
    pub rows: Vec<Row>,
    total: Row,
    extent: Extent,
}

/// One group: the line of `--json`. Absent where it does not apply.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The tool; with `--method`, what the request was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_name: Option<String>,
    pub calls: u64,
    /// Calls a minute between the first and the last selected operation of all groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_per_minute: Option<f64>,
    /// All that ended otherwise than `ok`, as far as the ending is known.
    pub errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<f64>,
    pub denied: u64,
    pub timeouts: u64,
    pub cancelled: u64,
    /// Not observed; part of `calls`, not of the error rate.
    pub unknown: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ms: Option<f64>,
    /// Calls that had been made before with the same arguments.
    pub repeats: u64,
    pub most_repeats: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversations: Option<u64>,
    pub tokens_est: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd_est: Option<f64>,
}

impl Row {
    fn new(name: Option<(By, &str, &str)>, group: &mut Group, prices: &Prices, minutes: f64) -> Row {
        let figures = &group.timed.figures;
        let quantiles = group.timed.durations.quantiles([0.5, 0.95, 0.99, 1.0]);
        let with_turns = group.turns.conversations() > 0;
        let mut row = Row {
            calls: figures.calls,
            // Of some seconds it would be a guess.
            calls_per_minute: (minutes >= 0.5).then(|| figures.calls as f64 / minutes),
            errors: figures.errors(),
            error_rate: figures.error_rate(),
            denied: figures.with_status(Status::Denied),
            timeouts: figures.with_status(Status::Timeout),
            cancelled: figures.with_status(Status::Cancelled),
            unknown: figures.with_status(Status::Unknown),
            p50_ms: quantiles.map(|quantiles| quantiles[0]),
            p95_ms: quantiles.map(|quantiles| quantiles[1]),
            p99_ms: quantiles.map(|quantiles| quantiles[2]),
            max_ms: quantiles.map(|quantiles| quantiles[3]),
            repeats: figures.repeats,
            most_repeats: figures.most_repeats,
            turns: with_turns.then(|| group.turns.turns()),
            conversations: with_turns.then(|| group.turns.conversations()),
            tokens_est: figures.tokens,
            cost_usd_est: figures.cost(prices),
            ..Row::default()
        };
        let some = |text: &str| Some(text.to_owned());
        match name {
            Some((By::ServerTool, server, tool)) => {
                row.server_name = some(server);
                row.tool_name = some(tool);
            }
            Some((By::Server, server, _)) => row.server_name = some(server),
            Some((By::Tool, tool, _)) => row.tool_name = some(tool),
            Some((By::Session, session, _)) => row.session_id = some(session),
            Some((By::Host, host, _)) => row.host_name = some(host),
            None => {}
        }
        row
    }
}

impl Summary {
    /// Whether nothing was selected.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes the table of the first `limit` rows, and a line about all of them.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut dyn Write, terminal: &Terminal, limit: usize) -> io::Result<()> {
        let mut columns = match self.by {
            By::ServerTool => vec![Column::left("SERVER", 0), Column::left("TOOL", 0)],
            By::Server => vec![Column::left("SERVER", 0)],
            By::Tool => vec![Column::left("TOOL", 0)],
            By::Session => vec![Column::left("SESSION", 0)],
            By::Host => vec![Column::left("HOST", 0)],
        };
        columns.extend([
            Column::right("CALLS", 0),
            Column::right("/MIN", 10),
            Column::right("ERRORS", 1),
            Column::right("ERR%", 0),
            Column::right("DENIED", 7),
            Column::right("UNKNOWN", 4),
            Column::right("P50", 2),
            Column::right("P95", 0),
            Column::right("P99", 3),
            Column::right("REPEATS", 8),
            Column::right("TURNS", 9),
            Column::right("TOKENS~", 5),
            Column::right("COST~", 6),
        ]);
        let rows = self.rows.iter().take(limit).map(|row| self.cells(row)).collect();
        Table { columns, rows, titled: true }.write(out, terminal)?;
        if self.rows.len() > limit {
            writeln!(out, "{} more; --limit shows them", self.rows.len() - limit)?;
        }
        for facts in [self.counts(), self.times(terminal)] {
            for line in format::lines_of(&facts, ", ", terminal.width, terminal.ellipsis()) {
                writeln!(out, "{}", Tone::Faint.paint(&line))?;
            }
        }
        Ok(())
    }

    fn cells(&self, row: &Row) -> Vec<Cell> {
        let name = |text: &Option<String>| {
            let text = text.as_deref().unwrap_or_default();
            Cell::from(format::clean(if text.is_empty() { "(none)" } else { text }).into_owned())
        };
        let nonzero = |count: u64| Cell::from(if count > 0 { count.to_string() } else { String::new() });
        let ms = |ms: Option<f64>| Cell::from(ms.map(format::duration).unwrap_or_default());
        let mut cells = match self.by {
            By::ServerTool => vec![name(&row.server_name), name(&row.tool_name)],
            By::Server => vec![name(&row.server_name)],
            By::Tool => vec![name(&row.tool_name)],
            By::Session => vec![name(&row.session_id)],
            By::Host => vec![name(&row.host_name)],
        };
        let tone = match row.error_rate {
            Some(rate) if rate >= 0.2 => Tone::Bad,
            Some(rate) if rate > 0.0 => Tone::Warning,
            _ => Tone::Plain,
        };
        cells.extend([
            Cell::from(row.calls.to_string()),
            Cell::from(row.calls_per_minute.map(per_minute).unwrap_or_default()),
            Cell::toned(row.errors.to_string(), tone),
            Cell::toned(row.error_rate.map(format::percent).unwrap_or_default(), tone),
            nonzero(row.denied),
            Cell::toned(nonzero(row.unknown).text, Tone::Faint),
            ms(row.p50_ms),
            ms(row.p95_ms),
            ms(row.p99_ms),
            nonzero(row.repeats),
            Cell::from(row.turns.map(|turns| turns.to_string()).unwrap_or_default()),
            Cell::from(format::count(row.tokens_est)),
            Cell::from(row.cost_usd_est.map(format::usd).unwrap_or_default()),
        ]);
        cells
    }

    fn counts(&self) -> Vec<String> {
        let total = &self.total;
        let mut parts = vec![format::plural(total.calls, "call")];
        let rate = total.error_rate.map(|rate| format!(" ({} %)", format::percent(rate))).unwrap_or_default();
        parts.push(format!("{}{rate}", format::plural(total.errors, "error")));
        if total.unknown > 0 {
            parts.push(format!("{} not observed", total.unknown));
        }
        let (turns, conversations) = (total.turns.unwrap_or(0), total.conversations.unwrap_or(0));
        if turns > 0 && conversations > 0 {
            let mean = turns as f64 / conversations as f64;
            let conversations = format::plural(conversations, "conversation");
            parts.push(format!("{} in {conversations} ({mean:.1} each)", format::plural(turns, "turn")));
        }
        parts.push(format!("~{} tokens", format::count(total.tokens_est)));
        if let Some(cost) = total.cost_usd_est {
            parts.push(format!("~{}", format::usd(cost)));
        }
        parts
    }

    fn times(&self, terminal: &Terminal) -> Vec<String> {
        let (first, last) = self.extent.get().unwrap_or_default();
        let rate = self.total.calls_per_minute.map(|rate| format!("{} calls a minute", per_minute(rate)));
        vec![format::span(first, last, &terminal.zone, terminal.dash()), rate.unwrap_or_default()]
    }
}

fn per_minute(rate: f64) -> String {
    match rate {
        _ if rate >= 9.95 => format!("{rate:.0}"),
        _ if rate >= 0.095 => format!("{rate:.1}"),
        _ if rate >= 0.005 => format!("{rate:.2}"),
        _ => "<0.01".to_owned(),
    }
}
