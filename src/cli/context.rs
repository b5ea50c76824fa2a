//! `spantap context`.

use std::cmp::Reverse;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf, is_separator};
use std::process::ExitCode;

use clap::Args;

use crate::cli::selection::{DefaultRange, OutputArgs, Reading, SelectArgs, hiding, note};
use crate::cli::{Out, exit_with};
use crate::present::{Printable, context, format};
use crate::query::context::{ContextServer, ContextTable};
use crate::query::files::LogSource;
use crate::query::tool_history::ToolHistory;

/// Bytes of older logs that are read for definitions.
const MAX_OLDER: u64 = 128_000_000;

#[derive(Debug, Args)]
#[command(mut_args = hiding(&["method", "status", "min_duration"]))]
pub struct ContextArgs {
    /// Only the server with this name; * and ? are wildcards
    #[arg(value_name = "SERVER")]
    name: Option<String>,
    /// Show when tools came, went and changed, over all sessions
    #[arg(long)]
    history: bool,
    #[command(flatten)]
    pub(super) select: SelectArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

impl ContextArgs {
    pub(super) fn run(mut self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        self.take_name();
        self.refuse_conditions()?;
        let default = if self.history { DefaultRange::All } else { DefaultRange::LastDay };
        let mut reading = Reading::open(&self.select, default)?;
        reading.leave_out_inner();
        if self.history {
            return self.history(&reading, out);
        }
        let select = reading.select.clone();
        let (mut table, findings) = reading.scan(|| ContextTable::new(&select));
        reading.print_problems(&findings);
        let cut = complete(&mut table, &mut reading)?;
        let summary = table.finish();
        let out = &mut BufWriter::new(out);
        if self.output.json {
            for server in summary.servers.iter().take(self.output.limit.unwrap_or(usize::MAX)) {
                writeln!(out, "{}", Printable::rounded_json(server)?)?;
            }
        } else if !summary.servers.is_empty() {
            context::write(out, &reading.terminal, &summary, self.output.limit.unwrap_or(usize::MAX))?;
        }
        out.flush()?;
        if summary.servers.is_empty() {
            reading.print_no_data("no tools", &findings)?;
        } else {
            note_unknown(&summary.servers);
            cut.iter().for_each(|text| note(text));
        }
        Ok(reading.status(&findings, summary.servers.is_empty(), &self.output))
    }

    fn history(&self, reading: &Reading, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let (history, findings) = reading.scan(|| ToolHistory::new(&reading.select));
        reading.print_problems(&findings);
        let rows = history.finish();
        let out = &mut BufWriter::new(out);
        let limit = self.output.limit.unwrap_or(usize::MAX);
        if self.output.json {
            for row in rows.iter().take(limit) {
                writeln!(out, "{}", Printable::rounded_json(row)?)?;
            }
        } else if !rows.is_empty() {
            context::write_history(out, &reading.terminal, &rows, limit)?;
        }
        out.flush()?;
        if rows.is_empty() {
            reading.print_no_data("no lists of tools", &findings)?;
        }
        Ok(reading.status(&findings, rows.is_empty(), &self.output))
    }

    /// Makes the first word a file if it is a path that exists, else the name of a server.
    fn take_name(&mut self) {
        let Some(name) = self.name.take() else { return };
        if name == "-" || (name.contains(|c| c == '.' || is_separator(c)) && Path::new(&name).exists()) {
            self.select.files.insert(0, PathBuf::from(name));
        } else {
            self.select.server.push(name);
        }
    }

    /// Refuses conditions under which a tool that was called would count as never called.
    fn refuse_conditions(&self) -> anyhow::Result<()> {
        let SelectArgs { method, status, min_duration, .. } = &self.select;
        let given = [
            ("--method", method.is_some()),
            ("--status", status.is_some()),
            ("--min-duration", min_duration.is_some()),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) => {
                let problem = anyhow::anyhow!("{option} has no effect on `context`, which counts every call");
                Err(exit_with(2, problem, "leave it out; `spantap stats` selects calls"))
            }
            None => Ok(()),
        }
    }
}

/// Adds definitions of older logs, newest first: a server may have listed its tools before the selected time. Returns
/// a note if definitions are missing and not all logs were read.
pub(super) fn complete(
    table: &mut ContextTable<'_>,
    reading: &mut Reading,
) -> anyhow::Result<Option<String>> {
    let since = reading.select.window.since;
    if !table.lacks_definitions() || since.is_none() || reading.folders.is_empty() {
        return Ok(None);
    }
    let read = std::mem::take(&mut reading.sources);
    reading.select.window.since = None;
    reading.find_sources()?;
    reading.sources.retain(|source| !read.contains(source));
    let written = |source: &LogSource| source.path()?.metadata().ok()?.modified().ok();
    reading.sources.sort_by_cached_key(|source| Reverse(written(source)));
    let (found, mut room) = (reading.sources.len(), Some(MAX_OLDER));
    reading.sources.retain(|source| {
        room = room.and_then(|room| room.checked_sub(source.size()));
        room.is_some()
    });
    let is_cut = reading.sources.len() < found;
    table.complete(reading.scan(|| ContextTable::new(&reading.select)).0);
    (reading.select.window.since, reading.sources) = (since, read);
    let text = || {
        let size = format::bytes(MAX_OLDER);
        format!(
            "definitions were looked for in the newest {size} of older logs only; an earlier --since reads more"
        )
    };
    Ok((is_cut && table.lacks_definitions()).then(text))
}

/// Names the servers whose definitions no log has.
fn note_unknown(servers: &[ContextServer]) {
    let unknown = servers.iter().filter(|server| server.definition_bytes.is_none());
    let names: Vec<&str> = unknown.map(|server| server.server_name.as_str()).collect();
    if !names.is_empty() {
        note(&format!(
            "no definitions are recorded for {}: an older spantap did not record them, or the host did not list tools; \
             start a new session, and they are here",
            names.join(", ")
        ));
    }
}
