//! `spantap report`.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::cli::look::reading::{Reading, Since};
use crate::cli::look::{ReportArgs, note};
use crate::cli::{Hinted, Out, hint};
use crate::present::format;
use crate::present::report::{About, Data, Report, page};
use crate::record::timestamp::Timestamp;

impl ReportArgs {
    pub fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        if self.select.json {
            return Err(Hinted {
                error: anyhow::anyhow!("`report` writes a page for people, and no JSON"),
                hint: "`spantap stats --json` and `spantap sessions --json` hold its figures".to_owned(),
                status: 2,
            }
            .into());
        }
        let reading = Reading::open(&self.select, &self.files, Since::LastDay)?;
        let (report, findings) = reading.scan(|| Report::new(&reading.select, &reading.prices));
        reading.report_findings(&findings);
        let operations = report.operations();
        if operations == 0 {
            let (text, way) = reading.nothing("no operations", &findings);
            return Err(hint(anyhow::anyhow!(text), way));
        }
        let about = About {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            made_at: Timestamp::now().0 as f64 / 1000.0,
            source: format::clean(&reading.whereabouts()).into_owned(),
            warn: reading.warn,
            notes: reading.findings(&findings),
        };
        let page = page(&Data::new(report, about))?;
        if self.output.as_os_str() == "-" {
            out.write_all(page.as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        std::fs::write(&self.output, &page)
            .with_context(|| format!("failed to write `{}`", self.output.display()))?;
        let size = format::bytes(page.len() as u64);
        let count = format::plural(operations, "operation");
        writeln!(out, "{}  {count}, {size}", self.output.display())?;
        if self.open {
            open(&self.output);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Hands the page to the desktop; that it cannot is no failure of the report.
fn open(path: &Path) {
    let program = match std::env::consts::OS {
        "macos" => "open",
        "windows" => "explorer",
        _ => "xdg-open",
    };
    let opened = Command::new(program)
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let trouble = match opened {
        Err(error) => format!("`{program}` could not be started: {error}"),
        Ok(mut child) => {
            // It hands the page over and ends, or stays with the browser.
            let patience = Instant::now() + Duration::from_secs(2);
            loop {
                match child.try_wait() {
                    Ok(Some(status)) if !status.success() => break format!("`{program}` found no browser"),
                    Ok(None) if Instant::now() < patience => std::thread::sleep(Duration::from_millis(20)),
                    _ => return,
                }
            }
        }
    };
    note(&format!("{trouble}; open {} by hand", path.display()));
}
