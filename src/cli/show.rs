//! `spantap show`.

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::process::ExitCode;

use clap::Args;

use crate::cli::selection::{self, DefaultRange, OutputArgs, Reading, SelectArgs, note};
use crate::cli::{Out, hint, shell_word};
use crate::present::sessions::short_connection;
use crate::present::tail::RowPrinter;
use crate::present::waterfall::DrawnPart;
use crate::present::{Printable, chain_json, fact, format, operation, session};
use crate::query::agents::chain::{self, ChainPath};
use crate::query::agents::facts::FactsOf;
use crate::query::agents::join::{AgentJoins, agent_logs, time_near};
use crate::query::agents::{self, RecordsOf, RunLines};
use crate::query::bodies::OperationBodies;
use crate::query::find::{OperationMatch, Search, SearchResult, SearchTarget, SessionReader, SummarySearch};
use crate::query::live::{LiveConnection, Liveness};
use crate::query::row::LogRow;
use crate::query::scan::ScanFindings;
use crate::query::why::agent::AgentStory;
use crate::record::Record;
use crate::record::timestamp::Timestamp;

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// SESSION, HANDLE, last, -1 (last call), SESSION/SEQ, or an operation's request, trace, span, tool call or conversation id, or a hash
    #[arg(value_name = "WHAT", allow_negative_numbers = true, value_parser = selection::target)]
    target: Option<String>,
    /// Draw all operations of a session, and the start of its servers in full [default: the first 200, and failures]
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    #[command(flatten)]
    pub(super) select: SelectArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// Default number of operations of a session that are drawn.
const OPERATIONS: usize = 200;
/// Default number of operations of a session that are read. Failures among them are drawn.
const READ: usize = 10_000;
/// Part of a session that is drawn without further options.
pub(super) const USUAL_PART: (usize, DrawnPart) =
    (READ, DrawnPart { first: OPERATIONS, folds_start: true, only_operations: false, is_whole: true });
/// Default number of matches that are listed.
const LISTED: usize = 20;

impl ShowArgs {
    pub(super) fn run(mut self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        self.select.take_place(&mut self.target, "show")?;
        let target = SearchTarget::parse(self.target.as_deref());
        let mut reading = Reading::open(&self.select, DefaultRange::All)?;
        reading.select.checks |= target.has_id();
        let (search, findings) = reading.scan(|| Search::new(&reading.select, &target));
        let result = search.finish(&reading.live().0);
        reading.print_problems(&findings);
        let mut out = BufWriter::new(out);
        let status = reading.status(&findings, matches!(result, SearchResult::Nothing), &self.output);
        match result {
            // Without a name this is the empty list of the other commands.
            SearchResult::Nothing if matches!(self.target.as_deref(), None | Some("last")) => {
                reading.print_no_data("no session", &findings)?;
            }
            SearchResult::Nothing if self.write_facts(&mut out, &reading, &target)? => {
                out.flush()?;
                return Ok(reading.status(&findings, false, &self.output));
            }
            SearchResult::Nothing => return Err(not_found(self.target.as_deref(), &reading, &findings)),
            SearchResult::Session(session_id) => {
                // If the target is a connection id, only that connection of the session is shown.
                if let SearchTarget::Word(word) = &target
                    && !session_id.starts_with(word.as_str())
                {
                    reading.select.session = Some(word.clone());
                }
                self.write_session(&mut out, &reading, &session_id)?;
            }
            SearchResult::Sessions(ids) => self.write_ids(&mut out, &ids)?,
            SearchResult::Operations { found, left_out } if self.output.json => {
                let limit = self.output.limit.unwrap_or(usize::MAX);
                if left_out > 0 {
                    note(&format!(
                        "{} match, too; only the latest are shown",
                        format::plural(left_out, "operation")
                    ));
                }
                match &found[..found.len().min(limit)] {
                    [found] => write_record(&mut out, &reading, found)?,
                    several => write_records(&mut out, several)?,
                }
            }
            SearchResult::Operations { found, left_out } => match &found[..] {
                [found] => write_operation(&mut out, &reading, found)?,
                found => self.write_operations(&mut out, &reading, found, left_out)?,
            },
        }
        out.flush()?;
        Ok(status)
    }

    fn write_session(&self, out: &mut impl Write, reading: &Reading, session_id: &str) -> anyhow::Result<()> {
        let (limit, first) = match self.output.limit {
            Some(limit) => (limit, limit),
            None if self.all || self.output.json => (usize::MAX, usize::MAX),
            None => (READ, OPERATIONS),
        };
        if !self.output.json {
            let part = DrawnPart { first, folds_start: !self.all, ..USUAL_PART.1 };
            return write_session(out, reading, session_id, (limit, part), &self.again());
        }
        let (found, lines) = read_session(reading, session_id, limit, true);
        if found.operations.is_empty() {
            note("this session has no operations; without --json its other events are shown");
        }
        if let Some(runs) = &lines.ambiguous {
            note(&runs.facts().join("; "));
        }
        let facts = lines.facts();
        match chain::chain(&found.operations, &facts, false) {
            Some(chain) => Ok(chain_json::write(out, &chain)?),
            None => write_records(out, &found.operations),
        }
    }

    /// Writes the records of agents that `target` names. Returns false if it names none.
    fn write_facts(
        &self,
        out: &mut impl Write,
        reading: &Reading,
        target: &SearchTarget,
    ) -> anyhow::Result<bool> {
        let lines = agents::find::find(&reading.sources, reading.select.window, target);
        let facts = lines.facts();
        let shown = facts.len().min(self.output.limit.unwrap_or(usize::MAX));
        match &facts[..shown] {
            _ if self.output.json => {
                for fact in &facts[..shown] {
                    writeln!(out, "{}", Printable::json(&serde_json::to_string(&fact.record)?))?;
                }
            }
            [one] => fact::write(out, &reading.terminal, one)?,
            [] => {}
            several => {
                writeln!(out, "{} match:", format::plural(several.len() as u64, "record"))?;
                for fact in several {
                    let handle = Printable::from(fact.handle());
                    let name = Printable::from(fact::name(&fact.record));
                    writeln!(out, "  spantap show {handle}{}  {name}", self.again())?;
                }
            }
        }
        Ok(!facts.is_empty())
    }

    fn write_ids(&self, out: &mut impl Write, ids: &[String]) -> anyhow::Result<()> {
        let again = self.again();
        writeln!(out, "{} sessions or connections match:", ids.len())?;
        for id in ids.iter().take(LISTED) {
            writeln!(out, "  spantap show {}{again}", Printable::new(id))?;
        }
        if ids.len() > LISTED {
            writeln!(out, "and {} more; a longer prefix matches fewer", ids.len() - LISTED)?;
        }
        Ok(())
    }

    fn write_operations(
        &self,
        out: &mut impl Write,
        reading: &Reading,
        found: &[OperationMatch],
        left_out: u64,
    ) -> anyhow::Result<()> {
        let again = self.again();
        let shown = &found[found.len().saturating_sub(self.output.limit.unwrap_or(LISTED))..];
        let count = found.len() as u64 + left_out;
        writeln!(out, "{} match; the last of them:", format::plural(count, "operation"))?;
        let mut printer = RowPrinter::new(reading.terminal.clone());
        let rows: Vec<LogRow> = shown.iter().map(|found| LogRow::Operation(found.row.clone())).collect();
        rows.iter().for_each(|row| printer.prepare(row));
        rows.iter().try_for_each(|row| printer.write(out, row))?;
        let handles: BTreeSet<String> = shown.iter().map(|found| found.row.handle()).collect();
        if let (Some(first), true) = (shown.first(), handles.len() == shown.len()) {
            let handle = Printable::from(first.row.handle());
            writeln!(out, "spantap show {handle}{again} shows the first of them in full")?;
            return Ok(());
        }
        writeln!(out, "to show one:")?;
        for OperationMatch { row, .. } in shown {
            // The same handle names operations of several connections, so a longer part of their ids does.
            writeln!(out, "  spantap show {}/{}{again}", short_connection(&row.connection_id), row.seq)?;
        }
        Ok(())
    }

    /// Returns the options that name the folder and files again in a suggested command.
    fn again(&self) -> Printable {
        let dir = self.select.log_dir.iter().map(|dir| format!(" --log-dir {}", shell_word(dir)));
        let files = self.select.files.iter().map(|file| format!(" {}", shell_word(file)));
        Printable::from(dir.chain(files).collect::<String>())
    }
}

/// Returns the error that no session or operation has this name.
pub(super) fn not_found(target: Option<&str>, reading: &Reading, findings: &ScanFindings) -> anyhow::Error {
    let what = match target.unwrap_or_default() {
        text if text.starts_with('-') => format!("no call `{}`", Printable::new(text)),
        text => format!("no session or operation `{}`", Printable::new(text)),
    };
    let (text, _) = reading.no_data(&what, findings);
    hint(anyhow::anyhow!(text), reading.not_found_hint())
}

/// Draws a part of the first `limit` operations of a session. `again` are the options that a suggested command has to
/// name.
pub(super) fn write_session(
    out: &mut impl Write,
    reading: &Reading,
    session_id: &str,
    (limit, part): (usize, DrawnPart),
    again: &Printable,
) -> anyhow::Result<()> {
    let (mut found, lines) = read_session(reading, session_id, limit, false);
    found.add_live(&reading.live_noted());
    found.totals.last_until(Timestamp::now(), reading.select.window);
    found.totals.ambiguous_runs.clone_from(&lines.ambiguous);
    if !found.is_part() {
        found.totals.turns.tell(&lines.turns);
    }
    let facts = lines.facts();
    let chain = chain::chain(&found.operations, &facts, part.folds_start);
    let is_part = reading.select.is_part_of(session_id);
    let part = DrawnPart { only_operations: is_part, is_whole: !is_part && found.more == 0, ..part };
    session::write(out, &reading.terminal, session_id, &found, chain.as_ref(), part, again)?;
    Ok(())
}

/// Returns when the agent of a session waited for a model or a person.
pub(super) fn agent_story(reading: &Reading, session_id: &str) -> AgentStory {
    if agent_logs(&reading.sources).is_empty() {
        return AgentStory::default();
    }
    let (found, lines) = read_session(reading, session_id, READ, false);
    let facts = lines.facts();
    chain::chain(&found.operations, &facts, false).map(AgentStory::new).unwrap_or_default()
}

/// Reads the first `limit` operations of a session, and what its agent reported.
fn read_session<'r>(
    reading: &'r Reading,
    session_id: &'r str,
    limit: usize,
    keeps_lines: bool,
) -> (SessionReader<'r>, RunLines) {
    let agents = AgentJoins::of(&reading.sources, reading.select.window);
    let make = || SessionReader::new(&reading.select, session_id, limit, keeps_lines);
    let (mut found, agents, _) = reading.scan_with(agents, make);
    found.settle();
    let lines = agents.map(|agents| agent_lines(reading, session_id, &found, agents)).unwrap_or_default();
    (found, lines)
}

/// Writes the record of one operation, with its place in the tree if agents reported of its session.
fn write_record(out: &mut impl Write, reading: &Reading, found: &OperationMatch) -> anyhow::Result<()> {
    let line = with_path(reading, found, |path| match path {
        Some(path) => chain_json::of_operation(found, path).map(Some),
        None => Ok(None),
    })?;
    match line {
        Some(line) => Ok(writeln!(out, "{line}")?),
        None => write_records(out, std::slice::from_ref(found)),
    }
}

fn agent_lines(
    reading: &Reading,
    session_id: &str,
    found: &SessionReader<'_>,
    mut agents: AgentJoins,
) -> RunLines {
    let live = reading.all_live();
    let span = found.totals.span;
    if agents.join(&live).is_cut()
        && let Some((from, until)) = span.get().map(time_near)
    {
        // The session can be older than the facts that were kept.
        let of_session = live.iter().filter(|connection| connection.state.session_id == session_id);
        let ends = of_session.map(|LiveConnection { state, liveness }| match liveness {
            Liveness::Running => Timestamp(i64::MAX),
            Liveness::Killed | Liveness::Unknown => time_near((from, state.updated_at)).1,
        });
        let until = ends.max().map_or(until, |end| end.max(until));
        let only = FactsOf { session_id: session_id.into(), from, until };
        let ((), of_session, _) = reading.scan_with(Some(agents.for_only(only)), || ());
        agents = of_session.unwrap_or(agents);
    }
    let joined = agents.join(&live);
    let of = RecordsOf::new(session_id, &joined, &found.operations, span);
    let lines = agents::read(&reading.sources, reading.select.window, &of);
    joined.notes().iter().chain(&lines.left_out_text()).for_each(|text| reading.note(text));
    lines
}

fn write_records(out: &mut impl Write, found: &[OperationMatch]) -> anyhow::Result<()> {
    for found in found {
        writeln!(out, "{}", Printable::json(&String::from_utf8_lossy(&found.line)))?;
    }
    Ok(())
}

/// Writes one operation with everything that is recorded of it.
pub(super) fn write_operation(
    out: &mut impl Write,
    reading: &Reading,
    found: &OperationMatch,
) -> anyhow::Result<()> {
    // A record of a newer spantap may have a field of another type and cannot be parsed. An empty record takes its
    // place, so only the fields of `found.row` are shown.
    let record: Record<'_> = serde_json::from_slice(&found.line).unwrap_or_default();
    let (search, _) = reading.scan(|| SummarySearch {
        connection_id: found.row.connection_id.to_string(),
        request_id: record.request_id.as_deref().unwrap_or_default().to_owned(),
        summary: None,
    });
    let summary = search.summary.as_deref();
    let span_id = record.span_id.as_deref().unwrap_or_default();
    let bodies = OperationBodies::read(&reading.folders, &found.row.connection_id, span_id);
    with_path(reading, found, |path| {
        operation::write(out, &reading.terminal, &found.row, &record, summary, &bodies, path)
    })?;
    Ok(())
}

/// Calls `take` with what agents and servers reported around an operation; with `None` if they reported nothing.
fn with_path<T>(
    reading: &Reading,
    found: &OperationMatch,
    take: impl FnOnce(Option<&ChainPath<'_, '_>>) -> T,
) -> T {
    /// Most operations of the session that are joined.
    const JOINED: usize = 100_000;
    if agent_logs(&reading.sources).is_empty() {
        return take(None);
    }
    let (session, lines) = read_session(reading, &found.row.session_id, JOINED, false);
    let facts = lines.facts();
    let chain = chain::chain(&session.operations, &facts, false);
    let path = chain.as_ref().and_then(|chain| chain.path_to(&found.row.connection_id, found.row.seq));
    take(path.as_ref())
}
