//! `spantap demo`: records a sample session and shows its log; needs no installed server.

use std::ffi::OsStr;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use clap::{Args, Parser};

use crate::cli::selection::{self, ColorArgs};
use crate::cli::{Cli, Out, shell_word};
use crate::demo::{client, server};
use crate::present::Printable;
use crate::present::table::{Terminal, Tone};

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Keep the log, in a new temporary folder
    #[arg(long)]
    keep: bool,
    /// Folder for the demo's log, which is kept [default: a temporary folder, which is removed]
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(super) color: ColorArgs,
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
        let temporary = || tempfile::Builder::new().prefix("spantap-demo-").tempdir();
        // Hash key and lists of tools; removed at the end.
        let state = temporary()?;
        let log_dir = match self.log_dir {
            Some(dir) => Some(dir),
            None if self.keep => Some(temporary()?.keep()),
            None => None,
        };
        let folder = log_dir.clone().unwrap_or_else(|| state.path().join("sessions"));
        let calls = record(&folder, state.path())?;
        let log = newest_log(&folder)?;
        let terminal = selection::terminal(0);
        let line = |out: &mut Out<'_>, text: String| {
            writeln!(out, "{}", terminal.paragraph(&Printable::from(text), 0, 0))
        };
        let text = "tool calls to a sample server, with spantap between them.";
        line(out, format!("A scripted client made {calls} {text}"))?;
        writeln!(out)?;
        show(&log, out)?;
        writeln!(out)?;
        let (option, mut commands) = match &log_dir {
            Some(dir) => {
                line(out, "The log, one JSON object per line, without arguments and results:".to_owned())?;
                writeln!(out, "  {}\n\nSee more:", Printable::new(&log.to_string_lossy()))?;
                (format!(" --log-dir {}", shell_word(dir)), Vec::new())
            }
            None => {
                line(
                    out,
                    "The log was temporary and is removed. To keep one and to see more of it:".to_owned(),
                )?;
                let option = " --log-dir demo-logs".to_owned();
                let again = (format!("spantap demo{option}"), "the same again, with its log in a folder");
                (option, vec![again])
            }
        };
        commands.extend([
            (format!("spantap show last{option}"), "the session as a waterfall"),
            (format!("spantap stats{option}"), "calls, errors and percentiles by tool"),
            (format!("spantap report --open{option}"), "one HTML page"),
        ]);
        self::commands(out, &terminal, &commands)?;
        writeln!(out, "\nWatch your own servers:")?;
        let wrap = ("spantap wrap".to_owned(), "put spantap in front of them in your hosts' config files");
        self::commands(out, &terminal, &[wrap])?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints commands with their descriptions: beside them, or below where the line is too narrow for one of them.
fn commands(out: &mut Out<'_>, terminal: &Terminal, rows: &[(String, &str)]) -> std::io::Result<()> {
    let width = rows.iter().map(|(command, _)| command.chars().count()).max().unwrap_or(0);
    let about = rows.iter().map(|(_, about)| about.len()).max().unwrap_or(0);
    for (command, about_it) in rows {
        let command = Printable::new(command);
        match width + about + 4 <= terminal.width {
            true => writeln!(out, "  {command:width$}  {}", Tone::Faint.paint(*about_it))?,
            false => writeln!(out, "  {command}\n      {}", Tone::Faint.paint(*about_it))?,
        }
    }
    Ok(())
}

/// Runs client, proxy and sample server; returns the number of tool calls.
fn record(log_dir: &Path, state: &Path) -> anyhow::Result<usize> {
    let spantap = std::env::current_exe().context("cannot find the running spantap binary")?;
    let mut proxy = Command::new(&spantap)
        .arg("--log-dir")
        .arg(log_dir)
        .args(["--server", "sample", "--log-level", "info", "--"])
        .arg(&spantap)
        .args(["demo", "--serve"])
        .env("XDG_STATE_HOME", state)
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
