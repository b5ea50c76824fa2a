//! `check`: starts a server and measures whether and how fast it works, once or at an interval.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use serde_json::{Value, json};

use crate::check::{self, Probe, ProtocolEra, ServerFailure, ServerHealth};
use crate::cli::{Out, ServerCommand, exit_with, help, write_json};
use crate::export::Output;
use crate::export::otlp::Otlp;
use crate::export::otlp::checks::{CheckInstruments, CheckMeasurement};
use crate::present::Printable;
use crate::proxy::identity;
use crate::record::Identity;
use crate::settings::{GivenSettings, process_environment, server_name};

/// Meanings of the exit statuses. A test compares them with `docs/operations.md`.
const STATUSES: &str = "\
Exit status: 0 the server works; 1 it died; 3 no answer in time; 4 it answers, but not as MCP requires;
5 its stdout contains something other than MCP; 126 cannot be executed, 127 not found; 2 usage.
With --every: the status of the last check, once --count is reached.";

#[derive(Debug, Args)]
#[command(after_help = STATUSES)]
pub struct CheckArgs {
    /// Time limit of each answer
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = crate::text::duration::parse_positive)]
    timeout: Duration,
    /// Handshake to try: both, server/discover alone, or initialize alone
    #[arg(long, value_enum, default_value = "auto")]
    era: ProtocolEra,
    /// Repeat the check at this interval; print a line and send metrics to a configured collector each time
    #[arg(long, value_name = "DURATION", value_parser = crate::text::duration::parse_positive)]
    every: Option<Duration>,
    /// Report an alert after this many failures in a row
    #[arg(long, value_name = "N", default_value = "3", requires = "every", value_parser = clap::value_parser!(u32).range(1..))]
    alert_after: u32,
    /// End after this many checks
    #[arg(long, value_name = "N", requires = "every", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Name used in metrics [default: from the command]
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    #[arg(long, value_name = "URL", help = help::of("otlp.endpoint"))]
    otlp: Option<String>,
    #[arg(long, value_name = "FILE", help = help::CONFIG)]
    config: Option<PathBuf>,
    /// Print one JSON object per check
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server_command: ServerCommand,
}

/// Time limit for sending the last metrics.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

impl CheckArgs {
    pub(crate) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        if self.server_command.command.is_empty() {
            let example = "put `--` before the command: spantap check -- npx -y my-server";
            return Err(exit_with(2, anyhow!("no server command"), example));
        }
        let mut metrics = self.metrics()?;
        let status = match self.every {
            Some(every) => self.repeat(every, &mut metrics, out),
            None => self.once(&mut metrics, out),
        };
        if let Some((otlp, _)) = &mut metrics {
            otlp.begin_close();
            otlp.finish_close(Instant::now() + FLUSH_TIMEOUT);
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
            checks.take(&measurement(&outcome));
        }
        match outcome {
            Ok(health) if self.json => write_json(out, &health_json(&health))?,
            Ok(health) => print(&health, out)?,
            Err(failure) if self.json => {
                write_json(out, &failure_json(&failure))?;
                return Ok(ExitCode::from(failure.kind.status()));
            }
            Err(failure) => {
                let (hint, status) = (failure.hint(), failure.kind.status());
                let mut text = failure.text;
                for line in &failure.stderr {
                    text.push_str("\n  stderr: ");
                    text.push_str(line);
                }
                return Err(exit_with(status, anyhow!(text), hint));
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Repeats the check until `--count` is reached or the user ends it.
    fn repeat(
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
                checks.take(&measurement(&outcome));
            }
            self.print_line(&outcome, failures, out)?;
            self.print_alert(&outcome, failures, before);
            done += 1;
            if self.count.is_some_and(|count| done >= count) {
                return Ok(outcome
                    .map_or_else(|failure| ExitCode::from(failure.kind.status()), |_| ExitCode::SUCCESS));
            }
            std::thread::sleep(every.saturating_sub(begin.elapsed()));
        }
    }

    /// Prints one check; `failures` is the number of failures in a row.
    fn print_line(
        &self,
        outcome: &Result<ServerHealth, ServerFailure>,
        failures: u32,
        out: &mut Out<'_>,
    ) -> anyhow::Result<()> {
        if self.json {
            let mut line = match outcome {
                Ok(health) => health_json(health),
                Err(failure) => failure_json(failure),
            };
            line["timestamp"] = crate::record::timestamp::Timestamp::now().to_string().into();
            line["failures_in_a_row"] = failures.into();
            line["alert"] = (failures >= self.alert_after).into();
            write_json(out, &line)?;
        } else {
            let now = jiff::tz::TimeZone::system().to_datetime(jiff::Timestamp::now());
            let time = now.strftime("%H:%M:%S");
            match outcome {
                Ok(health) => writeln!(out, "{time}  ok    {}", Printable::new(&summary(health)))?,
                Err(ServerFailure { kind, text, stderr, .. }) => {
                    let last = stderr.last().map(|line| format!("; stderr: {line}")).unwrap_or_default();
                    let text = Printable::new(&format!("{text}{last}"));
                    writeln!(out, "{time}  fail  {kind}: {text}")?;
                }
            }
        }
        Ok(out.flush()?)
    }

    /// Reports on stderr, for the journal or a cron mail, that an alert begins or ends.
    fn print_alert(&self, outcome: &Result<ServerHealth, ServerFailure>, failures: u32, before: u32) {
        let mut stderr = std::io::stderr();
        if let (true, Err(failure)) = (failures == self.alert_after, outcome) {
            let text = Printable::new(&failure.text);
            let _ = writeln!(stderr, "spantap: alert: {failures} failures in a row: {text}");
        }
        if failures == 0 && before >= self.alert_after {
            let _ = writeln!(stderr, "spantap: alert is over: works again after {before} failures");
        }
    }

    fn probe(&self) -> Result<ServerHealth, ServerFailure> {
        let command = &self.server_command.command;
        let redactor = || crate::cli::redactor(self.config.as_deref(), command);
        Probe { timeout: self.timeout, era: self.era }.run(command, &redactor)
    }

    /// Sets up the export of metrics. A single check sends metrics only with `--otlp`.
    fn metrics(&self) -> anyhow::Result<Option<(Otlp, CheckInstruments)>> {
        if self.every.is_none() && self.otlp.is_none() {
            return Ok(None);
        }
        let given = GivenSettings {
            config: self.config.clone(),
            otlp_endpoint: self.otlp.clone(),
            ..GivenSettings::default()
        };
        let command = &self.server_command.command;
        let sources = crate::cli::sources(given);
        sources.file().map_err(|error| anyhow!("{error}"))?;
        let section = self.server.clone().unwrap_or_else(|| server_name::section_name(command));
        let resolved = sources.settings(&section);
        let name = self.server.clone().unwrap_or_else(|| {
            let words = resolved.redaction.redactor().redact_argv(command);
            server_name::server_name(command, &words)
        });
        let (settings, warnings) = resolved.otlp(&process_environment);
        let warn = |line: &str| drop(writeln!(std::io::stderr(), "spantap: {}", Printable::new(line)));
        resolved.problems.iter().for_each(|problem| warn(&problem.to_string()));
        warnings.iter().for_each(|line| warn(line));
        let connection_id = identity::connection_id();
        let identity = Identity {
            session_id: connection_id.clone(),
            connection_id,
            server_name: check::name(&name),
            user_id: None,
        };
        let kinds = check::FailureKind::ALL.map(check::FailureKind::as_str);
        let Some(settings) = settings else { return Ok(None) };
        let (mut otlp, checks) =
            Otlp::of_checks(settings, &identity, &kinds, move |notice| warn(&notice.to_string()));
        otlp.open();
        Ok(checks.map(|checks| (otlp, checks)))
    }
}

fn measurement(outcome: &Result<ServerHealth, ServerFailure>) -> CheckMeasurement {
    match outcome {
        Ok(health) => {
            let mut steps = vec![("handshake", health.handshake), ("ping", health.ping)];
            steps.extend(health.tools.map(|(_, time)| ("tools/list", time)));
            steps.push(("end", health.end.after));
            CheckMeasurement::Works(
                steps.into_iter().map(|(step, time)| (step, time.as_secs_f64())).collect(),
            )
        }
        Err(failure) => CheckMeasurement::Fails(failure.kind.as_str()),
    }
}

/// Returns milliseconds with three decimals.
fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn health_json(health: &ServerHealth) -> Value {
    json!({
        "ok": true, "server": health.name, "version": health.version, "protocol": health.protocol,
        "era": health.era, "handshake_ms": ms(health.handshake), "ping_ms": ms(health.ping),
        "ping_method": health.ping_method, "tools": health.tools.map(|(tools, _)| tools),
        "tools_list_ms": health.tools.map(|(_, time)| ms(time)), "ended_by": health.end.by,
        "end_ms": ms(health.end.after), "banner_lines": health.banner_lines, "warnings": health.warnings,
    })
}

fn failure_json(failure: &ServerFailure) -> Value {
    json!({
        "ok": false, "error_type": failure.kind.as_str(), "error": failure.text, "stderr": failure.stderr,
        "banner_lines": failure.banner_lines, "hint": failure.hint(),
    })
}

fn print(health: &ServerHealth, out: &mut Out<'_>) -> anyhow::Result<()> {
    let [name, version, protocol] =
        [&health.name, &health.version, &health.protocol].map(|text| Printable::new(text));
    writeln!(out, "ok  {name} {version}, protocol {protocol}")?;
    writeln!(out, "    start and handshake  {:>9.1} ms", ms(health.handshake))?;
    writeln!(out, "    {:<19}  {:>9.1} ms", health.ping_method, ms(health.ping))?;
    if let Some((tools, time)) = health.tools {
        let noun = if tools == 1 { "tool" } else { "tools" };
        writeln!(out, "    tools/list           {:>9.1} ms  {tools} {noun}", ms(time))?;
    }
    writeln!(out, "    end                  {:>9.1} ms", ms(health.end.after))?;
    for warning in &health.warnings {
        writeln!(out, "    warning: {}", Printable::new(warning))?;
    }
    Ok(())
}

fn summary(health: &ServerHealth) -> String {
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
