//! `spantap demo`: records a sample session and shows its log; needs no installed server.

use std::ffi::OsStr;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use clap::{Args, Parser};

use crate::cli::{Cli, Out};
use crate::demo::{client, server};
use crate::present::Printable;

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder for the demo's log [default: a new temporary folder]
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// Run as the sample server that the demo starts
    #[arg(long, hide = true)]
    serve: bool,
}

impl DemoArgs {
    pub(crate) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        if self.serve {
            server::serve(&mut std::io::stdin().lock(), out)?;
            return Ok(ExitCode::SUCCESS);
        }
        let log_dir = match self.log_dir {
            Some(dir) => dir,
            None => tempfile::Builder::new().prefix("spantap-demo-").tempdir()?.keep(),
        };
        let calls = record(&log_dir)?;
        let log = newest_log(&log_dir)?;
        writeln!(
            out,
            "A scripted client made {calls} tool calls to a sample server, with spantap between them.\n"
        )?;
        show(&log, out)?;
        let dir = Printable::new(&log_dir.to_string_lossy());
        writeln!(
            out,
            "\nThe log, one JSON object per line, without arguments and results:\n  {}\n",
            Printable::new(&log.to_string_lossy())
        )?;
        writeln!(out, "See more:")?;
        writeln!(out, "  spantap show last --log-dir {dir}      the session as a waterfall")?;
        writeln!(out, "  spantap stats --log-dir {dir}          calls, errors and percentiles by tool")?;
        writeln!(out, "  spantap report --open --log-dir {dir}  one HTML page\n")?;
        writeln!(out, "Watch your own servers:")?;
        writeln!(
            out,
            "  spantap wrap                           put spantap in front of them in your hosts' config files"
        )?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Runs client, proxy and sample server; returns the number of tool calls.
fn record(log_dir: &Path) -> anyhow::Result<usize> {
    let spantap = std::env::current_exe().context("cannot find the running spantap binary")?;
    let mut proxy = Command::new(&spantap)
        .arg("--log-dir")
        .arg(log_dir)
        .args(["--server", "sample", "--log-level", "info", "--"])
        .arg(&spantap)
        .args(["demo", "--serve"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start `{}`", spantap.display()))?;
    let (Some(mut to_server), Some(from_server)) = (proxy.stdin.take(), proxy.stdout.take()) else {
        bail!("the proxy has no pipes");
    };
    let calls = client::play(&mut to_server, &mut BufReader::new(from_server));
    drop(to_server);
    let status = proxy.wait()?;
    let calls =
        calls.with_context(|| format!("the sample server did not answer; the proxy ended with {status}"))?;
    if !status.success() {
        bail!("the proxy ended with {status}");
    }
    Ok(calls)
}

fn newest_log(dir: &Path) -> anyhow::Result<PathBuf> {
    std::fs::read_dir(dir)
        .with_context(|| format!("failed to read `{}`", dir.display()))?
        .filter_map(Result::ok)
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "jsonl"))
        .max_by_key(|entry| entry.metadata().and_then(|metadata| metadata.modified()).ok())
        .map(|entry| entry.path())
        .with_context(|| format!("the proxy wrote no log in `{}`", dir.display()))
}

/// Prints the operations of the log as `spantap tail` does.
fn show(log: &Path, out: &mut Out<'_>) -> anyhow::Result<()> {
    let words = ["spantap", "tail", "-n", "40"].map(OsStr::new).into_iter().chain([log.as_os_str()]);
    match Cli::try_parse_from(words)?.command {
        Some(command) => command.run(out).map(drop),
        None => Ok(()),
    }
}
