//! `check`: does a server work, and how fast; once for a probe, or again and again as a pulse.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::check::{self, Failure, Health, Probe};
use crate::cli::run::RunArgs;
use crate::cli::{Hinted, Out, ServerCommand};
use crate::export::Output;
use crate::export::otlp::Otlp;
use crate::export::otlp::checks::{CheckInstruments, CheckMeasurement};
use crate::proxy::identity;
use crate::record::Identity;
use crate::settings::{Config, process_environment};

/// What the statuses mean; `docs/operations.md` says the same, and a test compares.
const STATUSES: &str = "\
Exit status: 0 the server works; 1 it died; 3 no answer in time; 4 it answers, but not as MCP asks;
5 something else than MCP on its stdout; 126 cannot be executed, 127 not found; 2 usage.
With --every: the status of the last check, once --count is reached.";

#[derive(Debug, Args)]
#[command(after_help = STATUSES)]
pub struct CheckArgs {
    /// How long to wait for each answer
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = crate::text::duration::parse_positive)]
    pub timeout: Duration,
    /// Which handshake to try: both, server/discover alone, or initialize alone
    #[arg(long, value_enum, default_value = "auto")]
    pub era: Era,
    /// Check again and again, with a line, and metrics to a configured collector, for each
    #[arg(long, value_name = "DURATION", value_parser = crate::text::duration::parse_positive)]
    pub every: Option<Duration>,
    /// Failures in a row after which a pulse raises an alert
    #[arg(long, value_name = "N", default_value = "3", requires = "every", value_parser = clap::value_parser!(u32).range(1..))]
    pub alert_after: u32,
    /// End a pulse after this many checks
    #[arg(long, value_name = "N", requires = "every", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Name used in metrics [default: from the command]
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
    /// Send metrics to a collector, e.g. http://localhost:4318
    #[arg(long, value_name = "URL")]
    pub otlp: Option<String>,
    /// Read this config file instead of the usual one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One JSON object a check instead of a text
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub server_command: ServerCommand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Era {
    Auto,
    Modern,
    Legacy,
}

/// How long the last metrics may take on their way.
const FLUSH: Duration = Duration::from_secs(2);

impl CheckArgs {
    /// Prints what the server said and how long it took.
    ///
    /// # Errors
    /// The server does not work; the exit status says how.
    pub fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        if self.server_command.command.is_empty() {
            let example = "put it behind two dashes: spantap check -- npx -y my-server".to_owned();
            return Err(Hinted { error: anyhow!("no server command"), hint: example, status: 2 }.into());
        }
        let mut metrics = self.metrics()?;
        let status = match self.every {
            Some(every) => self.pulse(every, &mut metrics, out),
            None => self.once(&mut metrics, out),
        };
        if let Some((otlp, _)) = &mut metrics {
            otlp.begin_close();
            otlp.finish_close(Instant::now() + FLUSH);
        }
        status
    }

    fn once(
        &self,
        metrics: &mut Option<(Otlp, CheckInstruments)>,
        out: &mut Out<'_>,
    ) -> anyhow::Result<ExitCode> {
        let outcome = self.probe();
        if let Some((_, checks)) = metrics {
            checks.take(&checked(&outcome));
        }
        match outcome {
            Ok(health) if self.json => writeln!(out, "{}", health_json(&health))?,
            Ok(health) => tell(&health, out)?,
            Err(failure) if self.json => {
                writeln!(out, "{}", failure_json(&failure))?;
                return Ok(ExitCode::from(failure.kind.status()));
            }
            Err(failure) => {
                let (hint, status) = (failure.hint().to_owned(), failure.kind.status());
                let mut text = failure.text;
                for line in &failure.stderr {
                    text.push_str("\n  stderr: ");
                    text.push_str(line);
                }
                return Err(Hinted { error: anyhow!(text), hint, status }.into());
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Checks until `--count` is reached or somebody ends it.
    fn pulse(
        &self,
        every: Duration,
        metrics: &mut Option<(Otlp, CheckInstruments)>,
        out: &mut Out<'_>,
    ) -> anyhow::Result<ExitCode> {
        let (mut failures, mut done) = (0_u32, 0_u64);
        loop {
            let begin = Instant::now();
            let outcome = self.probe();
            let before = failures;
            failures = if outcome.is_ok() { 0 } else { failures.saturating_add(1) };
            if let Some((_, checks)) = metrics {
                checks.take(&checked(&outcome));
            }
            let alert = failures == self.alert_after;
            let recovered = failures == 0 && before >= self.alert_after;
            if self.json {
                let mut line = match &outcome {
                    Ok(health) => health_json(health),
                    Err(failure) => failure_json(failure),
                };
                line["timestamp"] = crate::record::timestamp::Timestamp::now().to_string().into();
                line["failures_in_a_row"] = failures.into();
                line["alert"] = (failures >= self.alert_after).into();
                writeln!(out, "{line}")?;
            } else {
                let now = jiff::tz::TimeZone::system().to_datetime(jiff::Timestamp::now());
                let time = now.strftime("%H:%M:%S");
                match &outcome {
                    Ok(health) => writeln!(out, "{time}  ok    {}", summary(health))?,
                    Err(Failure { kind, text, stderr, .. }) => {
                        let last = stderr.last().map(|line| format!("; stderr: {line}")).unwrap_or_default();
                        writeln!(out, "{time}  fail  {}: {text}{last}", kind.word())?;
                    }
                }
            }
            out.flush()?;
            // Where nobody reads the lines somebody reads what is on stderr: the journal, a cron mail.
            let mut stderr = std::io::stderr();
            if let (true, Err(failure)) = (alert, &outcome) {
                let _ = writeln!(stderr, "spantap: alert: {failures} failures in a row: {}", failure.text);
            }
            if recovered {
                let _ = writeln!(stderr, "spantap: alert is over: works again after {before} failures");
            }
            done += 1;
            if self.count.is_some_and(|count| done >= count) {
                return Ok(outcome
                    .map_or_else(|failure| ExitCode::from(failure.kind.status()), |_| ExitCode::SUCCESS));
            }
            std::thread::sleep(every.saturating_sub(begin.elapsed()));
        }
    }

    fn probe(&self) -> Result<Health, Failure> {
        let era = match self.era {
            Era::Auto => check::Era::Auto,
            Era::Modern => check::Era::Modern,
            Era::Legacy => check::Era::Legacy,
        };
        let command = &self.server_command.command;
        let redactor = || crate::cli::redactor(self.config.as_deref(), command);
        Probe { timeout: self.timeout, era }.run(command, &redactor)
    }

    /// The way to a collector: for a pulse if one is configured, for one check if it is asked for by flag.
    ///
    /// # Errors
    /// The config file cannot be read.
    fn metrics(&self) -> anyhow::Result<Option<(Otlp, CheckInstruments)>> {
        if self.every.is_none() && self.otlp.is_none() {
            return Ok(None);
        }
        let args = RunArgs { config: self.config.clone(), otlp: self.otlp.clone(), ..RunArgs::default() };
        let name = self
            .server
            .clone()
            .unwrap_or_else(|| crate::settings::server_name::server_name(&self.server_command.command));
        let file = crate::cli::config_file(&args)?;
        let config = Config::resolve(&args, &process_environment, file.as_ref(), &name);
        let (settings, warnings) = config.otlp(&process_environment);
        let warn = |line: &str| drop(writeln!(std::io::stderr(), "spantap: {line}"));
        config.problems.iter().for_each(|problem| warn(&problem.to_string()));
        warnings.iter().for_each(|line| warn(line));
        let connection_id = identity::connection_id();
        let identity = Identity {
            session_id: connection_id.clone(),
            connection_id,
            server_name: check::name(&name),
            user_id: None,
        };
        let kinds = check::Kind::ALL.map(check::Kind::word);
        let Some(settings) = settings else { return Ok(None) };
        let (mut otlp, checks) = Otlp::of_checks(settings, &identity, &kinds, warn);
        otlp.open();
        Ok(checks.map(|checks| (otlp, checks)))
    }
}

/// A check in the words of the instruments.
fn checked(outcome: &Result<Health, Failure>) -> CheckMeasurement {
    match outcome {
        Ok(health) => {
            let mut steps = vec![("handshake", health.handshake), ("ping", health.ping)];
            steps.extend(health.tools.map(|(_, time)| ("tools/list", time)));
            steps.push(("end", health.end.after));
            CheckMeasurement::Works(
                steps.into_iter().map(|(step, time)| (step, time.as_secs_f64())).collect(),
            )
        }
        Err(failure) => CheckMeasurement::Fails(failure.kind.word()),
    }
}

/// Milliseconds with three decimals.
fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn health_json(health: &Health) -> Value {
    json!({
        "ok": true, "server": health.name, "version": health.version, "protocol": health.protocol,
        "era": health.era, "handshake_ms": ms(health.handshake), "ping_ms": ms(health.ping),
        "ping_method": health.ping_method, "tools": health.tools.map(|(tools, _)| tools),
        "tools_list_ms": health.tools.map(|(_, time)| ms(time)), "ended_by": health.end.by,
        "end_ms": ms(health.end.after), "banner_lines": health.banner_lines, "warnings": health.warnings,
    })
}

fn failure_json(failure: &Failure) -> Value {
    json!({
        "ok": false, "error_type": failure.kind.word(), "error": failure.text, "stderr": failure.stderr,
        "banner_lines": failure.banner_lines, "hint": failure.hint(),
    })
}

fn tell(health: &Health, out: &mut Out<'_>) -> anyhow::Result<()> {
    let Health { name, version, protocol, .. } = health;
    writeln!(out, "ok  {name} {version}, protocol {protocol}")?;
    writeln!(out, "    start and handshake  {:>9.1} ms", ms(health.handshake))?;
    writeln!(out, "    {:<19}  {:>9.1} ms", health.ping_method, ms(health.ping))?;
    if let Some((tools, time)) = health.tools {
        let noun = if tools == 1 { "tool" } else { "tools" };
        writeln!(out, "    tools/list           {:>9.1} ms  {tools} {noun}", ms(time))?;
    }
    writeln!(out, "    end                  {:>9.1} ms", ms(health.end.after))?;
    for warning in &health.warnings {
        writeln!(out, "    warning: {warning}")?;
    }
    Ok(())
}

fn summary(health: &Health) -> String {
    let mut text = format!(
        "{} {}  start {:.0} ms  {} {:.1} ms",
        health.name,
        health.version,
        ms(health.handshake),
        health.ping_method,
        ms(health.ping)
    );
    if let Some((tools, time)) = health.tools {
        text.push_str(&format!("  tools/list {:.1} ms ({tools})", ms(time)));
    }
    for warning in &health.warnings {
        text.push_str(&format!("; {warning}"));
    }
    text
}
