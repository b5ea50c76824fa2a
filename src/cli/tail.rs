//! `spantap tail`.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::cli::Out;
use crate::cli::selection::{DefaultRange, OutputArgs, Reading, SelectArgs};
use crate::present::table::Tone;
use crate::present::tail::RowPrinter;
use crate::query::duplicates::NewRecords;
use crate::query::entry::LogEntry;
use crate::query::follow::LogFollower;
use crate::query::last::LastRows;
use crate::query::live::{LiveConnection, Liveness};
use crate::query::name_pool::NamePool;
use crate::query::row::LogRow;
use crate::record::timestamp::Timestamp;
use crate::system::stdio;

#[derive(Debug, Args)]
pub struct TailArgs {
    /// Keep printing new operations, and show those that are open
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Number of past operations to print first
    #[arg(short = 'n', value_name = "N", default_value_t = 20)]
    count: usize,
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// Time between two rounds of `tail -f`: short for a user, long for a disk.
const ROUND: Duration = Duration::from_millis(200);

impl TailArgs {
    pub(super) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let open = if self.follow { Reading::open_early } else { Reading::open };
        let reading = open(&self.select, DefaultRange::LastDay)?;
        // Made before the scan: lines that are written during the scan are followed.
        let mut follower = LogFollower::after(&reading.sources, reading.select.window);
        let count = self.output.limit.unwrap_or(self.count);
        let json = self.output.json;
        let (last, findings) = reading.scan(|| LastRows::new(&reading.select, count, json));
        let rows = last.finish();
        reading.print_problems(&findings);
        let mut printer = RowPrinter::new(reading.terminal.clone());
        rows.iter().for_each(|row| printer.prepare(row));
        rows.iter().try_for_each(|row| printer.write(out, row))?;
        if rows.is_empty() && !self.follow {
            reading.print_no_data("no operations", &findings)?;
        }
        if !self.follow {
            return Ok(reading.status(&findings, rows.is_empty(), &self.output));
        }
        let mut names = NamePool::default();
        let new = NewRecords::after(findings.last_seqs);
        let shows_open = !json && stdio::terminal_width().is_some();
        for round in 0.. {
            let open = match shows_open {
                true => write_open(out, &reading, &follower, &printer, round)?,
                false => 0,
            };
            out.flush()?;
            std::thread::sleep(ROUND);
            if open > 0 {
                // Blanks clear the line also where escape sequences are not written.
                write!(out, "\r{:open$}\r", "")?;
            }
            follower.round(&reading.folders, |line| match LogEntry::parse(line) {
                Ok(entry) if new.takes(&entry) && LogRow::is_followed(&reading.select, &entry) => {
                    printer.write(out, &LogRow::new(&entry, line, json, &mut names))
                }
                _ => Ok(()),
            })?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes the oldest requests that are open now in the followed logs, without an end of line; returns the width of
/// the text. Prints in the first round which live files cannot be read.
fn write_open(
    out: &mut Out<'_>,
    reading: &Reading,
    follower: &LogFollower,
    printer: &RowPrinter,
    round: usize,
) -> io::Result<usize> {
    let connections = if round == 0 { reading.live_noted() } else { reading.live().0 };
    let running = connections.iter().filter(|connection| {
        connection.liveness == Liveness::Running && follower.follows(&connection.state.connection_id)
    });
    let open = running.flat_map(|LiveConnection { state, .. }| {
        let selected = state.open.iter().filter(|request| reading.select.takes_open(request));
        selected.map(move |request| (&*state.server_name, request))
    });
    let mut open: Vec<_> = open.collect();
    open.sort_by_key(|(_, request)| request.started_at);
    let line = printer.open_line(&open, Timestamp::now(), round);
    write!(out, "{}", Tone::Warning.paint(&line))?;
    Ok(line.width())
}
