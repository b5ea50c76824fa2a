//! The reading commands: `tail`, `sessions`, `show`, `stats`, `report`.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::Out;
use crate::present::stats::{By, Sort, Stats};
use crate::present::tail::{Last, Printer};
use crate::present::{format, sessions};
use crate::query::follow::Follower;

pub(super) mod reading;
mod report;
mod show;

use reading::{Reading, Since};

/// Which records are read, and how the answer is shown.
#[derive(Clone, Debug, Default, Args)]
pub struct SelectArgs {
    /// Only servers whose name matches; repeatable
    #[arg(long, value_name = "GLOB", help_heading = "Select")]
    pub server: Vec<String>,
    /// Only tools (or prompts, or resources) whose name matches; repeatable
    #[arg(long, value_name = "GLOB", help_heading = "Select")]
    pub tool: Vec<String>,
    /// Only sessions or connections whose id begins so
    #[arg(long, value_name = "PREFIX", help_heading = "Select")]
    pub session: Option<String>,
    /// Only requests of this method, which may hold * and ?
    #[arg(long, value_name = "NAME", help_heading = "Select")]
    pub method: Option<String>,
    /// Only operations that ended so; error is any failure
    #[arg(long, value_enum, help_heading = "Select")]
    pub status: Option<StatusArg>,
    /// From when: RFC 3339, a day as with --on, or an age such as 30m, 6h, 7d [default: 24h; show: all]
    #[arg(long, value_name = "TIME", help_heading = "Select")]
    pub since: Option<String>,
    /// Until when, in the same forms; a day stands for its beginning
    #[arg(long, value_name = "TIME", help_heading = "Select")]
    pub until: Option<String>,
    /// On which day: today, yesterday, a weekday, or a date
    #[arg(long, value_name = "DAY", conflicts_with_all = ["since", "until"], help_heading = "Select")]
    pub on: Option<String>,
    /// Only operations that took at least this long, e.g. 500ms
    #[arg(long, value_name = "DURATION", value_parser = crate::text::duration::parse, help_heading = "Select")]
    pub min_duration: Option<Duration>,
    /// At most this many rows or operations
    #[arg(long, value_name = "N", help_heading = "Select")]
    pub limit: Option<usize>,
    /// Read the session logs in this folder
    #[arg(long, value_name = "DIR", help_heading = "Select")]
    pub log_dir: Option<PathBuf>,
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
    /// Use colour
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub color: ColorArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatusArg {
    Ok,
    Error,
    Denied,
    Timeout,
    Cancelled,
    Unknown,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorArg {
    #[default]
    Auto,
    Always,
    Never,
}

impl From<ColorArg> for anstream::ColorChoice {
    fn from(choice: ColorArg) -> anstream::ColorChoice {
        match choice {
            ColorArg::Auto => anstream::ColorChoice::Auto,
            ColorArg::Always => anstream::ColorChoice::Always,
            ColorArg::Never => anstream::ColorChoice::Never,
        }
    }
}

#[derive(Debug, Args)]
pub struct TailArgs {
    /// Go on printing what happens
    #[arg(short, long)]
    pub follow: bool,
    /// Begin with the last operations
    #[arg(short = 'n', value_name = "N", default_value_t = 20)]
    pub count: usize,
    #[command(flatten)]
    pub select: SelectArgs,
    /// Read these files instead; .gz, .zst and - work
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// How long `tail -f` waits before it looks again: short for a person, long for a disk.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

impl TailArgs {
    pub fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let open = if self.follow { Reading::open_early } else { Reading::open };
        let reading = open(&self.select, &self.files, Since::LastDay)?;
        // What is written while the past is being read belongs to the future.
        let mut follower = Follower::after(&reading.sources);
        let count = self.select.limit.unwrap_or(self.count);
        let (last, findings) = reading.scan(|| Last::new(&reading.select, count));
        let lines = last.finish();
        let mut printer = Printer::new(reading.terminal.clone(), reading.warn, self.select.json);
        printer.prepare(&lines);
        for line in &lines {
            printer.write(out, line)?;
        }
        if lines.is_empty() && !self.follow {
            reading.say_no_data("no operations", &findings)?;
        }
        reading.report_findings(&findings);
        if !self.follow {
            return Ok(ExitCode::SUCCESS);
        }
        loop {
            out.flush()?;
            std::thread::sleep(LOOK_AGAIN);
            follower.round(&reading.folders, |line| {
                let shown = crate::query::entry::Entry::parse(line)
                    .is_ok_and(|entry| crate::present::tail::shows(&reading.select, &entry));
                if shown { printer.write(out, line) } else { Ok(()) }
            })?;
        }
    }
}

#[derive(Debug, Args)]
pub struct SessionsArgs {
    /// At most this many, newest first [default: 20; with --json: all]
    #[arg(short = 'n', value_name = "N")]
    pub count: Option<usize>,
    /// One row for each connection to a server
    #[arg(long)]
    pub connections: bool,
    /// Only sessions with more identical calls than this in a conversation
    #[arg(long, value_name = "N")]
    pub thrashing: Option<u64>,
    #[command(flatten)]
    pub select: SelectArgs,
    /// Read these files instead; .gz, .zst and - work
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Sessions that are listed where nobody says how many.
const SESSIONS: usize = 20;

impl SessionsArgs {
    pub fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let reading = Reading::open(&self.select, &self.files, Since::LastDay)?;
        let (found, findings) =
            reading.scan(|| sessions::Sessions::new(&reading.select, &reading.prices, self.connections));
        let mut found = found.finish(self.thrashing);
        let all = found.len();
        let count = match self.select.json {
            // A script that wants fewer says so.
            true => self.count.unwrap_or(usize::MAX),
            false => self.count.unwrap_or(SESSIONS),
        };
        found.truncate(self.select.limit.unwrap_or(count));
        if self.select.json {
            for (id, session) in &found {
                let line = sessions::json(id, session, &reading.prices, self.connections)?;
                writeln!(out, "{}", format::clean_json(&line))?;
            }
        } else if !found.is_empty() {
            let mut out = BufWriter::new(out);
            let warn = u64::from(reading.warn);
            sessions::write(&mut out, &reading.terminal, &found, &reading.prices, self.connections, warn)?;
            if all > found.len() {
                writeln!(out, "{} more; -n {all} shows them", all - found.len())?;
            }
            out.flush()?;
        }
        if found.is_empty() {
            let more = self.thrashing.map(|most| format!(" with a call made more than {most} times"));
            reading.say_no_data(&format!("no sessions{}", more.unwrap_or_default()), &findings)?;
        }
        reading.report_findings(&findings);
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// SESSION, SESSION/SEQ, last, or of an operation the request, trace, span, tool call or
    /// conversation id, or a hash
    #[arg(value_name = "WHAT")]
    pub target: Option<String>,
    #[command(flatten)]
    pub select: SelectArgs,
    /// Read these files instead; .gz, .zst and - work
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct StatsArgs {
    /// What makes a row
    #[arg(long, value_enum, default_value_t)]
    pub by: ByArg,
    /// What stands first
    #[arg(long, value_enum, default_value_t)]
    pub sort: SortArg,
    #[command(flatten)]
    pub select: SelectArgs,
    /// Read these files instead; .gz, .zst and - work
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ByArg {
    #[default]
    #[value(name = "server,tool")]
    ServerTool,
    Server,
    Tool,
    Session,
    Host,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SortArg {
    #[default]
    Calls,
    Errors,
    P95,
    Tokens,
}

impl StatsArgs {
    pub fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let by = match self.by {
            ByArg::ServerTool => By::ServerTool,
            ByArg::Server => By::Server,
            ByArg::Tool => By::Tool,
            ByArg::Session => By::Session,
            ByArg::Host => By::Host,
        };
        let sort = match self.sort {
            SortArg::Calls => Sort::Calls,
            SortArg::Errors => Sort::Errors,
            SortArg::P95 => Sort::P95,
            SortArg::Tokens => Sort::Tokens,
        };
        let reading = Reading::open(&self.select, &self.files, Since::LastDay)?;
        let (stats, findings) = reading.scan(|| Stats::new(&reading.select, &reading.prices, by));
        let summary = stats.finish(sort);
        let limit = self.select.limit.unwrap_or(usize::MAX);
        let mut out = BufWriter::new(out);
        if self.select.json {
            for row in summary.rows.iter().take(limit) {
                writeln!(out, "{}", format::clean_json(&serde_json::to_string(row)?))?;
            }
        } else if !summary.is_empty() {
            summary.write(&mut out, &reading.terminal, limit)?;
        }
        out.flush()?;
        if summary.is_empty() {
            reading.say_no_data("no tool calls", &findings)?;
        }
        reading.report_findings(&findings);
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
#[command(mut_arg("json", |argument| argument.hide(true)))]
pub struct ReportArgs {
    /// Write the page here
    #[arg(short, long, value_name = "FILE", default_value = "spantap-report.html")]
    pub output: PathBuf,
    /// Open the page in the browser
    #[arg(long)]
    pub open: bool,
    #[command(flatten)]
    pub select: SelectArgs,
    /// Read these files instead; .gz, .zst and - work
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// One line on standard error that is no error.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "note: {text}");
}
