//! `spantap debug`: turns debug records on in sessions that run, for a time.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;

use crate::cli::{Out, done, exit_with, hint};
use crate::observe::event::BodiesState;
use crate::present::{Printable, format};
use crate::query::live::{self, LiveConnection, Liveness};
use crate::record::debug_control::{DebugClock, DebugControl, LIMIT, LONGEST};
use crate::record::timestamp::Timestamp;
use crate::settings::paths;
use crate::system::{clock, files, processes};
use crate::text::duration;

#[derive(Debug, Args)]
pub struct DebugArgs {
    /// Turn debug on or off; without it, show what is on
    #[arg(value_enum)]
    action: Option<DebugAction>,
    /// Turn debug off again after this time, at most 24h [default: 15m]
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse_positive)]
    time: Option<Duration>,
    /// Only servers whose name matches GLOB
    #[arg(long, value_name = "GLOB")]
    server: Option<String>,
    /// Keep arguments and results, redacted, in a file beside each log, for a day
    #[arg(long)]
    bodies: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DebugAction {
    /// Turn debug on in sessions that run and in those that start
    On,
    /// Turn debug off again
    Off,
}

const USUAL_TIME: Duration = Duration::from_secs(15 * 60);

impl DebugArgs {
    pub(super) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let DebugArgs { action, time, server, bodies } = self;
        let path = paths::debug_control()
            .ok_or_else(|| hint(anyhow::anyhow!("the home folder is not known"), "set HOME"))?;
        if action != Some(DebugAction::On) && (time.is_some() || server.is_some() || bodies) {
            let error = anyhow::anyhow!("--for, --server and --bodies are options of `spantap debug on`");
            return Err(exit_with(2, error, "spantap debug on --for 15m"));
        }
        match action {
            Some(DebugAction::On) => turn_on(&path, time.unwrap_or(USUAL_TIME), server, bodies, out),
            Some(DebugAction::Off) => turn_off(&path, out),
            None => show(&path, out),
        }
    }
}

fn turn_on(
    path: &Path,
    time: Duration,
    server: Option<String>,
    bodies: bool,
    out: &mut Out<'_>,
) -> anyhow::Result<ExitCode> {
    if time > LONGEST {
        let error = anyhow::anyhow!("--for is longer than 24h");
        return Err(exit_with(2, error, "for a longer time set `log_level = \"debug\"` in the config file"));
    }
    let mut control = with_clock(|clock| DebugControl::new(time, server, clock));
    control.bodies = bodies;
    files::write_private(path, &control.encode())
        .with_context(|| format!("failed to write `{}`", path.display()))?;
    let printed = print(&control, time, out);
    done(ExitCode::SUCCESS, printed)
}

fn turn_off(path: &Path, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
    let text = match std::fs::remove_file(path) {
        Ok(()) => "debug is off; sessions follow within 5 seconds",
        Err(error) if error.kind() == ErrorKind::NotFound => "debug is off already",
        Err(error) => {
            let what = format!("failed to remove `{}`", path.display());
            return Err(hint(anyhow::Error::from(error).context(what), "check who owns it and its folder"));
        }
    };
    done(ExitCode::SUCCESS, writeln!(out, "{text}"))
}

fn show(path: &Path, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
    let off = "debug is off; `spantap debug on` turns it on for 15 minutes";
    let problem: &dyn std::fmt::Display = match files::read_own(path, LIMIT) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return done(ExitCode::SUCCESS, writeln!(out, "{off}"));
        }
        Err(error) => &error.to_string(),
        Ok(bytes) => match DebugControl::decode(&bytes) {
            Err(problem) => &problem.to_string(),
            Ok(control) => match with_clock(|clock| control.left(clock)) {
                Ok(Duration::ZERO) => {
                    // Its time is over. A file that cannot be removed does no harm.
                    let _ = std::fs::remove_file(path);
                    return done(ExitCode::SUCCESS, writeln!(out, "{off}"));
                }
                Ok(left) => return done(ExitCode::SUCCESS, print(&control, left, out)),
                Err(problem) => &problem.to_string(),
            },
        },
    };
    let error = anyhow::anyhow!("`{}` is ignored: {problem}", path.display());
    Err(hint(error, "debug is off; `spantap debug off` removes the file"))
}

fn with_clock<T>(with: impl FnOnce(&DebugClock<'_>) -> T) -> T {
    let boot_id = processes::boot_id();
    with(&DebugClock { moment: clock::now(), wall: Timestamp::now(), boot_id: &boot_id })
}

/// Writes what is on, and which sessions that run it is for.
fn print(control: &DebugControl, left: Duration, out: &mut Out<'_>) -> std::io::Result<()> {
    let zone = TimeZone::system();
    let now = Timestamp::now();
    let is_today = now.local(&zone, "%F") == control.until.local(&zone, "%F");
    let until = control.until.local(&zone, if is_today { "%H:%M:%S" } else { "%F %H:%M:%S" });
    let servers = match &control.server {
        Some(pattern) => format!("servers that match {}", Printable::new(pattern)),
        None => "all servers".to_owned(),
    };
    let left = format::duration(left.as_secs_f64() * 1000.0);
    writeln!(out, "debug is on for {servers} until {until} ({left} left)")?;
    if control.bodies {
        writeln!(out, "{}", bodies_line())?;
    }
    let mut names: Vec<String> = running().into_iter().filter(|name| control.is_for(name)).collect();
    names.sort();
    match names.len() {
        0 => {
            writeln!(out, "no running session matches; debug will be on for sessions that start before then")
        }
        count => {
            let sessions = format::plural(count as u64, "session");
            let verb = if count == 1 { "follows" } else { "follow" };
            names.dedup();
            writeln!(out, "{sessions} {verb} within 5 seconds: {}", Printable::new(&names.join(", ")))
        }
    }
}

/// Returns whether sessions keep bodies, by the settings of the config file for all servers.
fn bodies_line() -> &'static str {
    let (settings, file) = crate::cli::usual_settings();
    match settings.redaction.bodies_state() {
        _ if file.is_err() => "no bodies are kept: the config file cannot be read; `spantap doctor` says why",
        BodiesState::StrictMode => "no bodies are kept: redaction is in strict mode",
        BodiesState::RedactionSettings => {
            "no bodies are kept: the redaction settings cannot be applied; `spantap doctor` names them"
        }
        _ => {
            "arguments and results are kept beside the logs, redacted, for a day; `spantap show HANDLE` prints them"
        }
    }
}

/// Returns the server's name of each session that runs and has a log.
fn running() -> Vec<String> {
    let (connections, _) = paths::live_dir().map(|dir: PathBuf| live::connections(&dir)).unwrap_or_default();
    let is_running = |connection: &LiveConnection| connection.liveness == Liveness::Running;
    connections.into_iter().filter(is_running).map(|connection| connection.state.server_name).collect()
}
