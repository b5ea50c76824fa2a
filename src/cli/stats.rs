//! `spantap stats`.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::cli::selection::{DefaultRange, OutputArgs, Reading, SelectArgs, note};
use crate::cli::{Out, exit_with};
use crate::present::{Printable, errors, models, stats};
use crate::query::agents::join::AgentJoins;
use crate::query::agents::owners::SessionOwners;
use crate::query::agents::table::{model_rows, sort_rows};
use crate::query::errors::ErrorTable;
use crate::query::stats::{StatsGrouping, StatsOrder, StatsTable};

#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Group calls by these columns
    #[arg(long, value_enum, default_value_t)]
    by: StatsGrouping,
    /// Sort rows by this column, greatest first [default: calls; days and hours: by time; models and turns: by cost]
    #[arg(long, value_enum)]
    sort: Option<StatsOrder>,
    #[command(flatten)]
    pub(super) select: SelectArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

impl StatsArgs {
    pub(super) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        if self.by == StatsGrouping::Error && self.sort.is_some() {
            let problem = anyhow::anyhow!("--sort has no effect with --by error");
            return Err(exit_with(2, problem, "leave out --sort: the most frequent messages come first"));
        }
        if self.by.is_of_agents() {
            return self.run_of_agents(out);
        }
        let mut reading = Reading::open(&self.select, DefaultRange::LastDay)?;
        reading.leave_out_inner();
        let limit = self.output.limit.unwrap_or(usize::MAX);
        let out = &mut BufWriter::new(out);
        let (is_empty, what, findings) = if self.by == StatsGrouping::Error {
            let (table, findings) = reading.scan(|| ErrorTable::new(&reading.select));
            reading.print_problems(&findings);
            let rows = table.finish();
            self.write(out, &rows, |out| errors::write(out, &reading.terminal, &rows, limit))?;
            (rows.is_empty(), "no failures", findings)
        } else {
            let zone = &reading.terminal.zone;
            let make = || StatsTable::new(&reading.select, &reading.prices, self.by, zone);
            let (mut table, agents, findings) = reading.scan_with(reading.agents(), make);
            reading.print_problems(&findings);
            if let Some(mut agents) = agents {
                let joined = agents.join(&reading.all_live());
                joined.notes().iter().for_each(|text| note(text));
                table.tell(joined.turns().clone());
            }
            let summary = table.finish(self.sort);
            self.write(out, &summary.rows, |out| stats::write(out, &reading.terminal, &summary, limit))?;
            (summary.rows.is_empty(), "no tool calls", findings)
        };
        out.flush()?;
        if is_empty {
            reading.print_no_data(what, &findings)?;
        }
        Ok(reading.status(&findings, is_empty, &self.output))
    }

    /// Prints what agents reported by model or turn.
    fn run_of_agents(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        if let Some(option) = self.select.first_of_operations() {
            let by = if self.by == StatsGrouping::Turn { "turn" } else { "model" };
            let problem = anyhow::anyhow!(
                "--by {by} counts requests to models, which have no server, and {option} selects calls to servers"
            );
            let way = format!("leave out {option}, or use `stats {option} …` without --by {by}");
            return Err(exit_with(2, problem, way));
        }
        let mut reading = Reading::open(&self.select, DefaultRange::LastDay)?;
        let by_turn = self.by == StatsGrouping::Turn;
        let is_of_session = reading.select.session.is_some() || reading.select.only_session.is_some();
        let of_session = (by_turn || is_of_session).then(|| reading.agents());
        let window = reading.select.window;
        let without_sessions = || AgentJoins::without_sessions(window);
        let agents = of_session.flatten().unwrap_or_else(without_sessions);
        let (owners, agents, findings) =
            reading.scan_with(Some(agents), || SessionOwners::new(&reading.select));
        let owners = owners.sessions;
        reading.select.sessions_of_connection = owners;
        let select = &reading.select;
        reading.print_problems(&findings);
        let mut agents = agents.unwrap_or_else(without_sessions);
        let mut joined = agents.join(&reading.all_live());
        // Without a selected session, the rows have all reports.
        let doubt = if is_of_session { joined.doubt(|id| select.takes_session(id)) } else { None };
        joined.notes().iter().chain(&doubt).for_each(|text| note(text));
        joined.retain_selected(&reading.select);
        let mut rows = model_rows(&joined.facts, by_turn);
        if let Some(order) = self.sort {
            sort_rows(&mut rows, order);
        }
        let limit = self.output.limit.unwrap_or(usize::MAX);
        let out = &mut BufWriter::new(out);
        self.write(out, &rows, |out| models::write(out, &reading.terminal, &rows, limit))?;
        out.flush()?;
        if rows.is_empty() {
            reading.print_no_reports(&findings)?;
        }
        Ok(reading.status(&findings, rows.is_empty(), &self.output))
    }

    /// Writes the rows as lines of JSON, or as `draw` draws them.
    fn write<T: Serialize>(
        &self,
        out: &mut dyn Write,
        rows: &[T],
        draw: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        if !self.output.json {
            if !rows.is_empty() {
                draw(out)?;
            }
            return Ok(());
        }
        for row in rows.iter().take(self.output.limit.unwrap_or(usize::MAX)) {
            writeln!(out, "{}", Printable::rounded_json(row)?)?;
        }
        Ok(())
    }
}
