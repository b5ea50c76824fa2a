//! `spantap report`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use crate::cli::context::complete;
use crate::cli::selection::{DefaultRange, OutputArgs, Reading, SelectArgs, note};
use crate::cli::{Out, exit_with, hint};
use crate::present::report::{PageData, PageSource, page};
use crate::present::{Printable, format};
use crate::query::report::ReportTotals;
use crate::record::timestamp::Timestamp;
use crate::system::access;

#[derive(Debug, Args)]
#[command(mut_arg("json", |argument| argument.hide(true)))]
#[command(mut_arg("no_pager", |argument| argument.hide(true)))]
pub struct ReportArgs {
    /// File to write the page to; - is standard output
    #[arg(short, long = "output", value_name = "FILE", default_value = "spantap-report.html")]
    output_file: PathBuf,
    /// Open the page in a browser
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl ReportArgs {
    pub(super) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        if self.output.json {
            let error = anyhow::anyhow!("`report` writes an HTML page, not JSON");
            let hint = "`spantap stats --json` and `spantap sessions --json` print its numbers";
            return Err(exit_with(2, error, hint));
        }
        let mut reading = Reading::open(&self.select, DefaultRange::LastDay)?;
        reading.leave_out_inner();
        let (select, prices) = (reading.select.clone(), reading.prices.clone());
        let every_call = select.of_every_call();
        let make = || ReportTotals::new(&select, &every_call, &prices);
        let (mut report, mut agents, findings) = reading.scan_with(reading.agents(), make);
        reading.print_problems(&findings);
        let operations = report.operations;
        if operations == 0 {
            let (text, way) = reading.no_data("no operations", &findings);
            return Err(hint(anyhow::anyhow!(text), way));
        }
        let cut = complete(&mut report.context, &mut reading)?;
        let source = PageSource {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            made_at: Timestamp::now().0 as f64 / 1000.0,
            source: reading.location().into(),
            warn: reading.terminal.warn,
            trace_link: reading.terminal.trace_link.clone().map(|link| link.template),
            notes: reading.problems(&findings).into_iter().chain(cut.map(Printable::from)).collect(),
            live: reading.live_noted(),
        };
        let live = reading.all_live();
        let joined = agents.as_mut().map(|agents| agents.join(&live)).unwrap_or_default();
        let page = page(&PageData::with_agents(report, &joined, source))?;
        let path = &self.output_file;
        if path.as_os_str() == "-" {
            out.write_all(page.as_bytes())?;
            return Ok(reading.status(&findings, false, &self.output));
        }
        let name = Printable::from(path.to_string_lossy());
        // The page has texts and names of the logs, which only this user can read. A file that is there keeps its mode.
        let written = access::output_options().write(true).create(true).truncate(true).open(path);
        let written = written.and_then(|mut file| file.write_all(page.as_bytes()));
        written.with_context(|| format!("failed to write `{name}`"))?;
        let size = format::bytes(page.len() as u64);
        writeln!(out, "{name}  {}, {size}", format::plural(operations, "operation"))?;
        if self.open {
            open(path);
        }
        Ok(reading.status(&findings, false, &self.output))
    }
}

/// Opens the page with the program of the desktop. A failure is printed, and is not a failure of the report.
fn open(path: &Path) {
    let program = match std::env::consts::OS {
        "macos" => "open",
        "windows" => "explorer",
        _ => "xdg-open",
    };
    let child = Command::new(program)
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let problem = match child {
        Err(error) => format!("`{program}` could not be started: {error}"),
        Ok(mut child) => {
            // The program ends after it has found a browser, or runs as long as the browser. So only a failure
            // within two seconds is reported.
            let deadline = Instant::now() + Duration::from_secs(2);
            loop {
                match child.try_wait() {
                    Ok(Some(status)) if !status.success() => break format!("`{program}` found no browser"),
                    Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                    _ => return,
                }
            }
        }
    };
    note(&format!("{problem}; open {} by hand", path.display()));
}
