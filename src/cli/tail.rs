//! `spantap tail`.

use std::collections::HashSet;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::cli::Out;
use crate::cli::selection::{DefaultRange, NEWER, OutputArgs, Reading, SelectArgs, limit_help};
use crate::present::Printable;
use crate::present::table::Tone;
use crate::present::tail::RowPrinter;
use crate::query::duplicates::NewRecords;
use crate::query::entry::LogEntry;
use crate::query::event::EventRow;
use crate::query::follow::LogFollower;
use crate::query::last::LastRows;
use crate::query::live::{LiveConnection, LiveFolder, Liveness};
use crate::query::name_pool::NamePool;
use crate::query::row::{LogRow, drop_repeated};
use crate::record::live::LiveState;
use crate::record::timestamp::Timestamp;
use crate::record::{EventName, SCHEMA};
use crate::system::{descriptor, stdio};

#[derive(Debug, Args)]
#[command(mut_arg("limit", limit_help("20")))]
pub struct TailArgs {
    /// Keep printing new operations, and show those that are open
    #[arg(short, long)]
    pub(super) follow: bool,
    #[command(flatten)]
    pub(super) select: SelectArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// Default number of past operations that are printed first.
const OPERATIONS: usize = 20;
/// Time between two rounds of `tail -f`: short for a user, long for a disk.
const ROUND: Duration = Duration::from_millis(200);

impl TailArgs {
    pub(super) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let open = if self.follow { Reading::open_early } else { Reading::open };
        let reading = open(&self.select, DefaultRange::LastDay)?;
        // Made before the scan: lines that are written during the scan are followed.
        let mut follower = LogFollower::after(&reading.sources, reading.select.window);
        let count = self.output.limit.unwrap_or(OPERATIONS);
        let json = self.output.json;
        let (last, findings) = reading.scan(|| LastRows::new(&reading.select, count, json));
        let live = if json { Vec::new() } else { reading.live_noted() };
        let rows = last.finish(&live);
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
        let mut folder = LiveFolder::default();
        let mut ends = EndedConnections::of(&live);
        let mut is_newer_noted = !findings.newer.is_empty();
        for round in 0.. {
            let (live, _) = if json { Default::default() } else { reading.live_in(&mut folder) };
            let killed = ends.killed(&live);
            if !reading.select.is_about_operations() {
                killed.iter().try_for_each(|row| printer.write(out, row))?;
            }
            let open = match shows_open {
                true => write_open(out, &reading, &live, &follower, &printer, round)?,
                false => 0,
            };
            out.flush()?;
            pause(round)?;
            if open > 0 {
                // Blanks clear the line also where escape sequences are not written.
                write!(out, "\r{:open$}\r", "")?;
            }
            let mut rows = Vec::new();
            follower.round(&reading.folders, |line| {
                let Some(entry) = LogEntry::of_connection(line) else { return Ok(()) };
                if *entry.schema != *SCHEMA && !std::mem::replace(&mut is_newer_noted, true) {
                    reading.note(&format!("{NEWER}: the log of {}", Printable::new(&entry.server_name)));
                }
                ends.take(&entry);
                if new.takes(&entry) && LogRow::is_followed(&reading.select, &entry) {
                    rows.push(LogRow::new(&entry, line, json, &mut names));
                }
                Ok(())
            })?;
            drop_repeated(&mut rows);
            rows.iter().try_for_each(|row| printer.write(out, row))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Waits until the next round. Fails if the process that reads the output is gone: while nothing is recorded, no write
/// shows that.
fn pause(round: usize) -> io::Result<()> {
    if stdio::has_peer(descriptor::STDOUT) {
        if round == 0 {
            let _ = stdio::prepare_for_lost_peers();
        }
        if stdio::has_lost_peer(descriptor::STDOUT) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
    std::thread::sleep(ROUND);
    Ok(())
}

/// The connections whose end was shown or recorded.
pub(super) struct EndedConnections {
    ids: HashSet<String>,
    /// Connections whose proxy did not run at the last look.
    gone: HashSet<String>,
}

impl EndedConnections {
    /// Starts with the connections whose proxy was killed before.
    pub(super) fn of(live: &[LiveConnection]) -> EndedConnections {
        let killed = live.iter().filter(|connection| connection.liveness == Liveness::Killed);
        let ids = killed.map(|connection| connection.state.connection_id.clone()).collect();
        EndedConnections { ids, gone: HashSet::new() }
    }

    pub(super) fn take(&mut self, entry: &LogEntry<'_>) {
        if entry.event == EventName::SessionEnded {
            self.ids.insert(entry.connection_id.to_string());
        }
    }

    /// Returns one row for each proxy that was killed. A proxy that ends in order leaves its file for a moment: at the
    /// next look its end is read, or its file is gone.
    pub(super) fn killed(&mut self, live: &[LiveConnection]) -> Vec<LogRow> {
        let is_new = |killed: &&LiveConnection| {
            killed.liveness == Liveness::Killed && !self.ids.contains(&killed.state.connection_id)
        };
        let gone: Vec<&LiveState> = live.iter().filter(is_new).map(|killed| &killed.state).collect();
        let before = std::mem::take(&mut self.gone);
        self.gone = gone.iter().map(|state| state.connection_id.clone()).collect();
        let killed: Vec<_> = gone.into_iter().filter(|state| before.contains(&state.connection_id)).collect();
        self.ids.extend(killed.iter().map(|state| state.connection_id.clone()));
        killed.into_iter().map(|state| LogRow::Event(EventRow::killed(state, Timestamp::now()))).collect()
    }
}

/// Writes the oldest requests that are open now in the followed logs, without an end of line; returns the width of
/// the text.
fn write_open(
    out: &mut Out<'_>,
    reading: &Reading,
    live: &[LiveConnection],
    follower: &LogFollower,
    printer: &RowPrinter,
    round: usize,
) -> io::Result<usize> {
    let running = live.iter().filter(|connection| {
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
