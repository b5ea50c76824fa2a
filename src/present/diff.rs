//! `spantap diff`: both sides in a table, then the differences, one sentence each.

use std::io::{self, Write};

use serde::Serialize;

use crate::present::table::{Cell, Column, Table, Terminal, Tone};
use crate::present::{Printable, format};
use crate::query::diff::{Diff, DiffFact, DiffSide, DurationFact, QuantileFact, RateFact};
use crate::record::words::Status;

/// Most lines of differences without `--limit`, so that the answer fits a screen.
const LINES: usize = 16;
/// Columns of the word that begins a difference.
const WORD: usize = 14;
/// Columns of a name on a terminal.
const NAME: usize = 40;
/// Columns of a message on a terminal.
const MESSAGE: usize = 160;
/// Most names in one sentence.
const NAMES: usize = 8;
const HEALTHY: &str = "Nothing differs beyond chance.";
const UNCOMPARED: &str = "No difference was found.";

/// Writes at most `limit` differences; without a limit as many as fit a screen.
pub(crate) fn write(
    out: &mut dyn Write,
    terminal: &Terminal,
    sides: &[(&str, &DiffSide); 2],
    diff: &Diff,
    limit: Option<usize>,
) -> io::Result<()> {
    write_sides(out, terminal, sides)?;
    let texts = DiffWriter { terminal };
    let mut lines = 0;
    let mut shown = 0;
    for fact in &diff.facts {
        let text = texts.fact(fact);
        lines += text.lines().count();
        if limit.map_or(shown > 0 && lines > LINES, |limit| shown >= limit) {
            break;
        }
        writeln!(out, "{text}")?;
        shown += 1;
    }
    if shown < diff.facts.len() {
        let all = diff.facts.len();
        writeln!(out, "{} more; --limit {all} shows them", all - shown)?;
    }
    if diff.facts.is_empty() {
        writeln!(out, "{}", Tone::Good.paint(if diff.comparisons > 0 { HEALTHY } else { UNCOMPARED }))?;
    }
    for text in remarks(diff) {
        for line in terminal.broken(&text.into(), 0, 0) {
            writeln!(out, "{}", Tone::Faint.paint(line))?;
        }
    }
    Ok(())
}

fn write_sides(out: &mut dyn Write, terminal: &Terminal, sides: &[(&str, &DiffSide); 2]) -> io::Result<()> {
    let columns = vec![
        Column::left("", 0),
        Column::left("SELECTED", 0),
        Column::right("CALLS", 0),
        Column::right("ERRORS", 0),
        Column::right("ERR%", 3),
        Column::right("UNKNOWN", 5),
        Column::right("SERVERS", 4),
        Column::right("DEFINITIONS~", 2),
        Column::left("START", 1),
        Column::right("LENGTH", 6),
    ];
    let row = |(letter, (name, side)): (&str, &(&str, &DiffSide))| {
        let nonzero = |count: u64| if count > 0 { count.to_string() } else { String::new() };
        let start = side.span.get().map(|(first, _)| first.local(&terminal.zone, "%Y-%m-%d %H:%M"));
        vec![
            Cell::toned(letter, Tone::Strong),
            Cell::from(*name),
            Cell::from(side.calls.calls.to_string()),
            Cell::from(side.calls.errors().to_string()),
            Cell::from(side.calls.error_rate().map(format::percent).unwrap_or_default()),
            Cell::from(nonzero(side.calls.with_status(Status::Unknown))),
            Cell::from(side.servers().to_string()),
            Cell::from(side.definition_tokens().map(format::count).unwrap_or_default()),
            Cell::from(start.unwrap_or_default()),
            Cell::from(format::duration(side.span.ms())),
        ]
    };
    Table { columns, rows: ["A", "B"].into_iter().zip(sides).map(row).collect() }.write(out, terminal)
}

/// Returns what the answer rests on.
fn remarks(diff: &Diff) -> Vec<String> {
    let mut remarks = Vec::new();
    remarks.push(match diff.comparisons {
        0 => "Too few calls on both sides to compare error rates and durations.".to_owned(),
        1 => "1 comparison of error rates and durations, by Fisher's exact test.".to_owned(),
        count => format!(
            "{count} comparisons of error rates and durations, by Fisher's exact test at 5 % for all together."
        ),
    });
    if !diff.unlisted_servers.is_empty() {
        let names: Vec<&String> = diff.unlisted_servers.iter().collect();
        remarks.push(format!(
            "No complete list of tools on both sides, so new, gone and changed tools are unknown: {}",
            names_of(&names)
        ));
    }
    remarks
}

fn names_of<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES).map(AsRef::as_ref).collect();
    let more = names.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// One side in `--json`.
#[derive(Serialize)]
struct SideLine<'d> {
    name: &'d str,
    calls: u64,
    errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_rate: Option<f64>,
    unknown: u64,
    servers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition_tokens_est: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<String>,
    records_lost: bool,
}

impl<'d> SideLine<'d> {
    fn new((name, side): &(&'d str, &DiffSide)) -> SideLine<'d> {
        SideLine {
            name,
            calls: side.calls.calls,
            errors: side.calls.errors(),
            error_rate: side.calls.error_rate(),
            unknown: side.calls.with_status(Status::Unknown),
            servers: side.servers(),
            definition_tokens_est: side.definition_tokens(),
            first: side.span.get().map(|(first, _)| first.to_string()),
            last: side.span.get().map(|(_, last)| last.to_string()),
            records_lost: side.is_lossy,
        }
    }
}

/// Returns the answer as one JSON object.
pub(crate) fn json(sides: &[(&str, &DiffSide); 2], diff: &Diff) -> serde_json::Result<Printable> {
    #[derive(Serialize)]
    struct DiffLine<'d> {
        a: SideLine<'d>,
        b: SideLine<'d>,
        nothing_differs: bool,
        #[serde(flatten)]
        diff: &'d Diff,
    }
    let [a, b] = sides;
    let nothing_differs = diff.facts.is_empty();
    Printable::rounded_json(&DiffLine { a: SideLine::new(a), b: SideLine::new(b), nothing_differs, diff })
}

/// Writes facts as sentences.
struct DiffWriter<'t> {
    terminal: &'t Terminal,
}

impl DiffWriter<'_> {
    /// Returns the lines of a fact: a word, and a sentence beside it.
    fn fact(&self, fact: &DiffFact) -> String {
        let (word, tone, sentence) = match fact {
            DiffFact::End { server_name, how, count } => {
                let times = if *count > 1 { format!(", {count} times") } else { String::new() };
                (
                    "server ended",
                    Tone::Bad,
                    format!("{} {}{times}", self.name(server_name), self.message(how)),
                )
            }
            DiffFact::ToolChanged { server_name, tool_name, parts, definition_bytes } => (
                "changed tool",
                Tone::Warning,
                self.changed(server_name, tool_name, parts.iter().map(String::as_str), *definition_bytes),
            ),
            DiffFact::ToolsGone { server_name, tools } => {
                ("gone tools", Tone::Bad, self.of_server(server_name, &names_of(tools)))
            }
            DiffFact::ToolsNew { server_name, tools } => {
                ("new tools", Tone::Warning, self.of_server(server_name, &names_of(tools)))
            }
            DiffFact::ErrorRate(fact) if fact.is_worse => ("more errors", Tone::Bad, self.rate(fact)),
            DiffFact::ErrorRate(fact) => ("fewer errors", Tone::Good, self.rate(fact)),
            DiffFact::Duration(fact) if fact.is_worse => ("slower", Tone::Bad, self.duration(fact)),
            DiffFact::Duration(fact) => ("faster", Tone::Good, self.duration(fact)),
            DiffFact::NewError { server_name, tool_name, message, count, last } => {
                let tool = self.tool(tool_name, server_name);
                ("new error", Tone::Bad, format!("{tool}, {count}x: {} ({last})", self.message(message)))
            }
            DiffFact::ServerVersion { server_name, versions: [a, b] } => {
                ("new version", Tone::Warning, self.of_server(server_name, &self.change(a, b)))
            }
            DiffFact::Definitions { server_name, tokens_est, tools } => {
                let [a, b] = tokens_est.map(|tokens| format!("~{}", format::count(tokens)));
                let tools = self.change(&tools[0].to_string(), &tools[1].to_string());
                let text = format!("{} tokens, {tools} tools", self.change(&a, &b));
                ("definitions", Tone::Warning, self.of_server(server_name, &text))
            }
            DiffFact::ServersNew { servers } => ("only in B", Tone::Plain, names_of(servers)),
            DiffFact::ServersGone { servers } => ("only in A", Tone::Plain, names_of(servers)),
        };
        let indent = if self.terminal.width >= 3 * WORD { WORD } else { 2 };
        let text = self.terminal.paragraph(&sentence.into(), WORD, indent);
        format!("{}{:blanks$}{text}", tone.paint(word), "", blanks = WORD - word.len())
    }

    fn name(&self, name: &str) -> String {
        self.terminal.cut(if name.is_empty() { "(no name)" } else { name }, NAME).to_string()
    }

    fn tool(&self, tool: &str, server: &str) -> String {
        format!("{} on {}", self.name(tool), self.name(server))
    }

    fn of_server(&self, server: &str, text: &str) -> String {
        format!("{}: {text}", self.name(server))
    }

    fn message(&self, message: &str) -> String {
        self.terminal.cut(message, MESSAGE).to_string()
    }

    fn change(&self, a: &str, b: &str) -> String {
        format!("{a} {} {b}", if self.terminal.unicode { "→" } else { "->" })
    }

    fn changed<'p>(
        &self,
        server: &str,
        tool: &str,
        parts: impl Iterator<Item = &'p str>,
        bytes: [u64; 2],
    ) -> String {
        let parts: Vec<String> = parts.map(|part| part.replace('_', " ")).collect();
        let what = if parts.is_empty() { "its definition".to_owned() } else { names_of(&parts) };
        let tokens = bytes.map(|bytes| format!("~{}", format::count(bytes.div_ceil(4))));
        let tokens = match tokens {
            [a, b] if a == b => String::new(),
            [a, b] => format!("; {} tokens", self.change(&a, &b)),
        };
        format!("{}: {what}{tokens}", self.tool(tool, server))
    }

    fn rate(&self, fact: &RateFact) -> String {
        let share = |side: usize| {
            let (errors, known) = (fact.errors[side], fact.known[side]);
            format!("{errors} of {known} ({} %)", format::percent(errors as f64 / known.max(1) as f64))
        };
        let change = self.change(&share(0), &share(1));
        format!("{}: {change}, {}", self.tool(&fact.tool_name, &fact.server_name), probability(fact.p))
    }

    fn duration(&self, fact: &DurationFact) -> String {
        let times = if self.terminal.unicode { "×" } else { "x" };
        let quantile = |found: &QuantileFact| {
            let change = self.change(&format::duration(found.ms[0]), &format::duration(found.ms[1]));
            let way = if found.ms[1] > found.ms[0] { "slower" } else { "faster" };
            let (factor, p) = (factor(found.factor), probability(found.p));
            format!("{} {change}, {factor}{times} {way}, {p}", found.quantile)
        };
        let quantiles: Vec<String> = fact.quantiles.iter().map(quantile).collect();
        let [a, b] = fact.known;
        let tool = self.tool(&fact.tool_name, &fact.server_name);
        format!("{tool}: {} ({a} and {b} calls)", quantiles.join("; "))
    }
}

/// Returns `2.1`, `34`.
fn factor(factor: f64) -> String {
    let decimals = usize::from(factor < 9.95);
    format!("{factor:.decimals$}")
}

fn probability(p: f64) -> String {
    if p < 0.001 { "p < 0.001".to_owned() } else { format!("p = {p:.3}") }
}
