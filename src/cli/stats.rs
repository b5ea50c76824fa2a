//! `spantap stats`.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use clap::Args;

use crate::cli::Out;
use crate::cli::selection::{DefaultRange, OutputArgs, Reading, SelectArgs};
use crate::present::{Printable, stats};
use crate::query::stats::{StatsGrouping, StatsOrder, StatsTable};

#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Group calls by these columns
    #[arg(long, value_enum, default_value_t)]
    by: StatsGrouping,
    /// Sort rows by this column, greatest first
    #[arg(long, value_enum, default_value_t)]
    sort: StatsOrder,
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

impl StatsArgs {
    pub(super) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let reading = Reading::open(&self.select, DefaultRange::LastDay)?;
        let (table, findings) = reading.scan(|| StatsTable::new(&reading.select, &reading.prices, self.by));
        let summary = table.finish(self.sort);
        let limit = self.output.limit.unwrap_or(usize::MAX);
        let mut out = BufWriter::new(out);
        if self.output.json {
            for row in summary.rows.iter().take(limit) {
                writeln!(out, "{}", Printable::json(&serde_json::to_string(row)?))?;
            }
        } else if !summary.rows.is_empty() {
            stats::write(&mut out, &reading.terminal, &summary, limit)?;
        }
        out.flush()?;
        if summary.rows.is_empty() {
            reading.print_no_data("no tool calls", &findings)?;
        }
        reading.print_problems(&findings);
        Ok(ExitCode::SUCCESS)
    }
}
