//! `spantap sessions`.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use clap::Args;

use crate::cli::Out;
use crate::cli::selection::{DefaultRange, OutputArgs, Reading, SelectArgs, limit_help, note};
use crate::present::sessions;
use crate::query::sessions::SessionTable;
use crate::record::timestamp::Timestamp;

#[derive(Debug, Args)]
#[command(mut_arg("limit", limit_help("20")))]
pub struct SessionsArgs {
    /// Print one row per connection to a server
    #[arg(long)]
    connections: bool,
    /// Only sessions with more than N identical calls in a conversation
    #[arg(long, value_name = "N")]
    thrashing: Option<u64>,
    #[command(flatten)]
    pub(super) select: SelectArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// Default number of sessions in the table. `--json` prints all.
const SESSIONS: usize = 20;

impl SessionsArgs {
    pub(super) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let mut reading = Reading::open(&self.select, DefaultRange::LastDay)?;
        if !self.connections {
            reading.leave_out_inner();
        }
        // What an agent reported is that of a whole session.
        let agents = if self.connections { None } else { reading.agents() };
        let make = || SessionTable::new(&reading.select, &reading.prices, self.connections);
        let (table, agents, findings) = reading.scan_with(agents, make);
        reading.print_problems(&findings);
        let mut found = table.finish(self.thrashing);
        let all = found.len();
        let default = if self.output.json { usize::MAX } else { SESSIONS };
        found.truncate(self.output.limit.unwrap_or(default));
        if let Some(mut agents) = agents {
            let joined = agents.join(&reading.all_live());
            let doubt = joined.doubt(|id| found.iter().any(|(known, _)| known == id));
            joined.notes().iter().chain(&doubt).for_each(|text| note(text));
            joined.add_to(&mut found);
        }
        let live = reading.live_noted();
        let now = Timestamp::now();
        for (_, session) in &mut found {
            session.add_live(&live);
            session.last_until(now, reading.select.window);
        }
        if self.output.json {
            for (id, session) in &found {
                writeln!(out, "{}", sessions::json(id, session, &reading.prices, self.connections)?)?;
            }
        } else if !found.is_empty() {
            let mut out = BufWriter::new(out);
            sessions::write(&mut out, &reading.terminal, &found, &reading.prices, self.connections)?;
            if all > found.len() {
                writeln!(out, "{} more; -n {all} shows them", all - found.len())?;
            }
            out.flush()?;
        }
        if found.is_empty() {
            let more = self.thrashing.map(|most| format!(" with a call made more than {most} times"));
            reading.print_no_data(&format!("no sessions{}", more.unwrap_or_default()), &findings)?;
        }
        Ok(reading.status(&findings, found.is_empty(), &self.output))
    }
}
