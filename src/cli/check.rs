//! `check`: starts servers or reaches them over HTTP, and measures whether and how fast they work, once or at an
//! interval.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};

use crate::check::remote::{address_of, host_of};
use crate::check::{self, FailureKind, Probe, ProtocolEra, ServerFailure, ServerHealth};
use crate::cli::selection::ColorArgs;
use crate::cli::wrap::ServerSelection;
use crate::cli::{Out, ServerCommand, exit_with, help, write_json};
use crate::export::Output;
use crate::export::otlp::Otlp;
use crate::export::otlp::checks::{CheckInstruments, CheckMeasurement};
use crate::hosts::launch::{LocalLaunch, RemoteLaunch, ServerLaunch};
use crate::hosts::table::HOSTS;
use crate::observe::redact::Redactor;
use crate::present::commands::{CommandEscape, CommandlessLines};
use crate::present::{Printable, format};
use crate::proxy::identity;
use crate::record::Identity;
use crate::settings::{GivenSettings, process_environment, server_name};

mod lint;
mod many;
mod servers;

use lint::LintReport;
use many::{CheckForm, CheckOutcome};
use servers::{CheckPlan, CheckTarget};

/// Meanings of the exit statuses. A test compares them with `docs/operations.md`.
const STATUSES: &str = "\
Exit status: of one server, 0 it works; 1 it died; 3 no answer in time; 4 it answers, but not as MCP requires; \
5 it answers with something other than MCP; 126 cannot be executed, 127 not found; 2 usage.
Of a URL also: 6 unknown name; 7 no connection; 8 TLS; 9 status of HTTP; 10 needs a sign-in.
Of several servers: 0 none failed, 1 at least one did. A server that is not checked is not a failure.
With --lint: 1 also if a host refuses a tool, a server or its request; warnings do not count.
With --every: the status of the last check, once --count is reached.";

#[derive(Debug, Args)]
#[command(after_help = STATUSES)]
pub struct CheckArgs {
    /// Servers by their names in your hosts' files, or the URL of a remote server
    #[arg(value_name = "NAME|URL", conflicts_with = "command")]
    names: Vec<String>,
    /// Check every server of your hosts' files, at most four at a time
    #[arg(long, conflicts_with_all = ["names", "command", "every", "otlp", "server"])]
    all: bool,
    /// Start a server also if a proxy runs it now, or probe it again
    #[arg(long)]
    again: bool,
    /// Only servers of this host; repeatable
    #[arg(long = "host", value_name = "HOST", value_parser = PossibleValuesParser::new(HOSTS.iter().map(|host| host.id)))]
    hosts: Vec<String>,
    /// A host's config file in an unusual place; --host names its format if the file does not show it
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Also project files of the current folder (.mcp.json, .vscode/mcp.json, ...). This starts the programs that they name
    #[arg(long)]
    project: bool,
    /// Time limit of each answer
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = crate::text::duration::parse_positive)]
    timeout: Duration,
    /// Handshake to try: both, server/discover alone, or initialize alone
    #[arg(long, value_enum, default_value = "auto")]
    era: ProtocolEra,
    /// Repeat the check at this interval; print a line and send metrics to a configured collector each time
    #[arg(long, value_name = "DURATION", value_parser = crate::text::duration::parse_positive)]
    every: Option<Duration>,
    /// Also name the tools that hosts refuse or cut, with the reason and the way out
    #[arg(long, conflicts_with = "every")]
    lint: bool,
    /// Print the findings of --lint as SARIF 2.1.0
    #[arg(long, requires = "lint", conflicts_with = "json")]
    sarif: bool,
    /// Report an alert after this many failures in a row
    #[arg(long, value_name = "N", default_value = "3", requires = "every", value_parser = clap::value_parser!(u32).range(1..))]
    alert_after: u32,
    /// End after this many checks
    #[arg(long, value_name = "N", requires = "every", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Name used in metrics [default: from the command, the host's file, or the host of the URL]
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    #[arg(long, value_name = "URL", help = help::of("otlp.endpoint"))]
    otlp: Option<String>,
    #[arg(long, value_name = "FILE", help = help::CONFIG)]
    config: Option<PathBuf>,
    /// Print one JSON object per check; of several servers, one document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) color: ColorArgs,
    #[command(flatten)]
    server_command: ServerCommand,
}

/// Time limit for sending the last metrics.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

impl CheckArgs {
    pub(crate) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let escape = if self.form() == CheckForm::Text { CommandEscape::Text } else { CommandEscape::Json };
        self.run_any(&mut CommandlessLines::new(out, escape))
    }

    fn run_any(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let (targets, unread) = self.targets()?;
        let is_one = matches!(&targets[..], [CheckTarget { plan: CheckPlan::Probe(_), .. }]);
        if self.all || !is_one {
            return self.run_many(&targets, &unread, out);
        }
        let target = &targets[0];
        let mut metrics = self.metrics(target)?;
        let status = match self.every {
            Some(every) => self.repeat(target, every, &mut metrics, out),
            None => self.once(targets, &mut metrics, out),
        };
        if let Some((otlp, _)) = &mut metrics {
            otlp.begin_close();
            otlp.finish_close(Instant::now() + FLUSH_TIMEOUT);
        }
        status
    }

    /// Returns what the command line names, and the files that cannot be read.
    fn targets(&self) -> anyhow::Result<(Vec<CheckTarget>, Vec<servers::UnreadFile>)> {
        let command = &self.server_command.command;
        if !command.is_empty() {
            let launch = LocalLaunch { command: own_command(command), ..LocalLaunch::default() };
            return Ok((vec![self.target(self.command_name(), ServerLaunch::Local(launch))], Vec::new()));
        }
        let is_url = |name: &String| name.contains("://");
        match &self.names[..] {
            [] if !self.all => {
                let example = "`spantap check --all` checks every server of your hosts; \
                               put `--` before a command: spantap check -- npx -y my-server";
                Err(exit_with(2, anyhow!("no server is named"), example))
            }
            [url] if is_url(url) => {
                if let Err(reason) = address_of(url) {
                    let form = "write it as https://HOST[:PORT]/PATH";
                    return Err(exit_with(2, anyhow!("the URL {reason}"), form));
                }
                let launch = RemoteLaunch { url: url.clone(), ..RemoteLaunch::default() };
                Ok((vec![self.target(host_of(url), ServerLaunch::Remote(launch))], Vec::new()))
            }
            names if names.iter().any(is_url) => {
                let error = anyhow!("a URL is checked alone");
                Err(exit_with(2, error, "run `spantap check` once for each URL"))
            }
            names => {
                let selection = ServerSelection::of(self.hosts.clone(), self.file.clone(), self.project);
                servers::targets(&selection, names, self.again)
            }
        }
    }

    fn target(&self, name: String, launch: ServerLaunch) -> CheckTarget {
        let label = check::name(&name);
        CheckTarget { name, label, hosts: Vec::new(), plan: CheckPlan::Probe(launch) }
    }

    fn command_name(&self) -> String {
        let command = &self.server_command.command;
        let words = crate::cli::redactor(self.config.as_deref(), command).redact_argv(command);
        server_name::server_name(command, &words)
    }

    fn run_many(
        &self,
        targets: &[CheckTarget],
        unread: &[servers::UnreadFile],
        out: &mut Out<'_>,
    ) -> anyhow::Result<ExitCode> {
        if self.every.is_some() || self.otlp.is_some() {
            let places: Vec<String> =
                targets.iter().map(|it| format!("{} in {}", it.label, it.hosts.join(", "))).collect();
            let error = anyhow!(
                "--every and --otlp need one server that can be checked; found: {}",
                places.join("; ")
            );
            return Err(exit_with(2, error, "choose one with --host HOST or --file FILE"));
        }
        let outcomes = many::run(targets, self.as_probe(), &|target| self.redactor(target));
        let lint = self.lint(targets, &outcomes);
        many::print(out, targets, &outcomes, unread, (self.form(), lint.as_ref()))
    }

    fn lint(&self, targets: &[CheckTarget], outcomes: &[Option<CheckOutcome>]) -> Option<LintReport> {
        let healths = outcomes.iter().map(|it| it.as_ref().and_then(|it| it.outcome.as_ref().ok()));
        let linted: Vec<_> = healths.map(|health| health.map(|health| &health.lint)).collect();
        self.lint.then(|| LintReport::new(targets, &linted, self.server.as_deref()))
    }

    fn form(&self) -> CheckForm {
        match (self.json, self.sarif) {
            (true, _) => CheckForm::Json,
            (_, true) => CheckForm::Sarif,
            _ => CheckForm::Text,
        }
    }

    fn once(
        &self,
        targets: Vec<CheckTarget>,
        metrics: &mut Option<(Otlp, CheckInstruments)>,
        out: &mut Out<'_>,
    ) -> anyhow::Result<ExitCode> {
        let outcomes = many::run(&targets, self.as_probe(), &|target| self.redactor(target));
        let lint = self.lint(&targets, &outcomes);
        let Some(Some(CheckOutcome { outcome, changes })) = outcomes.into_iter().next() else {
            return Ok(ExitCode::FAILURE);
        };
        if let Some((_, checks)) = metrics {
            checks.take(&measurement(&outcome));
        }
        match outcome {
            Ok(health) => match (self.form(), &lint) {
                (CheckForm::Json, lint) => {
                    let mut report = health_json(&health);
                    report["changes"] = changes.as_ref().map_or(Value::Null, many::changes_json);
                    if let Some(lint) = lint {
                        report["lint"] = lint.server_json(0);
                    }
                    write_json(out, &report)?;
                }
                (CheckForm::Sarif, Some(lint)) => write_json(out, &lint.sarif(&[]))?,
                (_, lint) => {
                    print(&health, changes.as_ref(), out)?;
                    if let Some(lint) = lint {
                        lint.write(out)?;
                    }
                }
            },
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
                if let (CheckForm::Sarif, Some(lint)) = (self.form(), &lint) {
                    write_json(out, &lint.sarif(std::slice::from_ref(&text)))?;
                }
                return Err(exit_with(status, anyhow!(text), hint));
            }
        }
        Ok(match lint.is_some_and(|lint| lint.has_errors()) {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        })
    }

    /// Repeats the check until `--count` is reached or the user ends it.
    fn repeat(
        &self,
        target: &CheckTarget,
        every: Duration,
        metrics: &mut Option<(Otlp, CheckInstruments)>,
        out: &mut Out<'_>,
    ) -> anyhow::Result<ExitCode> {
        let (mut failures, mut done) = (0_u32, 0_u64);
        let CheckPlan::Probe(launch) = &target.plan else { return Ok(ExitCode::FAILURE) };
        loop {
            let begin = Instant::now();
            let outcome = self.as_probe().run(launch, &|| self.redactor(target));
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
                Ok(health) => {
                    let state = if many::slow_steps(health).is_some() { "slow" } else { "ok" };
                    writeln!(out, "{time}  {state:<4}  {}", Printable::new(&summary(health)))?;
                }
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

    fn as_probe(&self) -> Probe {
        Probe { timeout: self.timeout, era: self.era }
    }

    fn redactor(&self, target: &CheckTarget) -> Redactor {
        crate::cli::section_redactor(self.config.as_deref(), &self.section(target))
    }

    /// Returns the name of the target's section in the config file.
    fn section(&self, target: &CheckTarget) -> String {
        match (&self.server, &target.plan) {
            (Some(server), _) => server.clone(),
            (None, CheckPlan::Probe(ServerLaunch::Local(local))) if target.hosts.is_empty() => {
                server_name::section_name(&local.command)
            }
            _ => target.name.clone(),
        }
    }

    /// Sets up the export of metrics. A single check sends metrics only with `--otlp`.
    fn metrics(&self, target: &CheckTarget) -> anyhow::Result<Option<(Otlp, CheckInstruments)>> {
        if self.every.is_none() && self.otlp.is_none() {
            return Ok(None);
        }
        let given = GivenSettings {
            config: self.config.clone(),
            otlp_endpoint: self.otlp.clone(),
            ..GivenSettings::default()
        };
        let sources = crate::cli::sources(given);
        sources.file().map_err(|error| anyhow!("{error}"))?;
        let resolved = sources.settings(&self.section(target));
        let name = self.server.clone().unwrap_or_else(|| target.name.clone());
        let (settings, warnings) = resolved.otlp(&process_environment);
        let warn = |line: &str| drop(writeln!(std::io::stderr(), "spantap: {}", Printable::new(line)));
        resolved.problems.iter().for_each(|problem| warn(&problem.to_string()));
        warnings.iter().for_each(|warning| warn(&warning.to_string()));
        let connection_id = identity::connection_id();
        let identity = Identity {
            session_id: connection_id.clone(),
            connection_id,
            server_name: check::name(&name),
            user_id: None,
        };
        let CheckPlan::Probe(launch) = &target.plan else { return Ok(None) };
        let kinds: Vec<&str> = FailureKind::of(launch).into_iter().map(FailureKind::as_str).collect();
        let Some(settings) = settings else { return Ok(None) };
        let (mut otlp, checks) =
            Otlp::of_checks(settings, &identity, &kinds, move |notice| warn(&notice.to_string()));
        otlp.open();
        Ok(checks.map(|checks| (otlp, checks)))
    }
}

/// Returns a command without a proxy in front of it.
fn own_command(command: &[OsString]) -> Vec<OsString> {
    let words: Vec<&str> = command.iter().map(|word| word.to_str().unwrap_or("?")).collect();
    let own = crate::hosts::entry::own_words(&words).len();
    command[command.len() - own..].to_vec()
}

fn measurement(outcome: &Result<ServerHealth, ServerFailure>) -> CheckMeasurement {
    match outcome {
        Ok(health) => {
            let mut steps = vec![("handshake", health.handshake), ("ping", health.ping)];
            steps.extend(health.tools.as_ref().map(|tools| ("tools/list", tools.time)));
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
    let tools = health.tools.as_ref();
    json!({
        "ok": true, "slow": many::slow_steps(health).is_some(), "server": health.name, "version": health.version, "protocol": health.protocol,
        "era": health.era, "handshake_ms": ms(health.handshake), "ping_ms": ms(health.ping),
        "ping_method": health.ping_method, "tools": tools.map(|tools| tools.count),
        "tools_list_ms": tools.map(|tools| ms(tools.time)), "definitions_bytes": tools.map(|tools| tools.bytes),
        "definitions_tokens_est": tools.map(|tools| crate::record::tokens(tools.bytes)), "ended_by": health.end.by,
        "end_ms": ms(health.end.after), "banner_lines": health.banner_lines, "warnings": health.warnings,
    })
}

fn failure_json(failure: &ServerFailure) -> Value {
    json!({
        "ok": false, "error_type": failure.kind.as_str(), "error": failure.text, "stderr": failure.stderr,
        "banner_lines": failure.banner_lines, "hint": failure.hint(),
    })
}

fn print(
    health: &ServerHealth,
    changes: Option<&many::ChangedTools>,
    out: &mut Out<'_>,
) -> anyhow::Result<()> {
    let [name, version, protocol] =
        [&health.name, &health.version, &health.protocol].map(|text| Printable::new(text));
    let slow = many::slow_steps(health);
    let state = if slow.is_some() { "slow" } else { "ok" };
    writeln!(out, "{state}  {name} {version}, protocol {protocol}")?;
    writeln!(out, "    start and handshake  {:>9.1} ms", ms(health.handshake))?;
    writeln!(out, "    {:<19}  {:>9.1} ms", health.ping_method, ms(health.ping))?;
    if let Some(tools) = &health.tools {
        let (count, tokens) =
            (format::plural(tools.count as u64, "tool"), crate::record::tokens(tools.bytes));
        let size = format!("{count}, ~{} tokens", format::count(tokens));
        writeln!(out, "    tools/list           {:>9.1} ms  {size}", ms(tools.time))?;
    }
    writeln!(out, "    end                  {:>9.1} ms", ms(health.end.after))?;
    if let Some(changes) = changes.filter(|changes| !changes.tools.is_empty()) {
        let since = changes.since.local(&jiff::tz::TimeZone::system(), "%Y-%m-%d %H:%M");
        writeln!(out, "    since {since}: {}", Printable::new(&many::changes_text(&changes.tools)))?;
    }
    for warning in health.warnings.iter().chain(&slow.map(|steps| format!("slow: {steps}"))) {
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
    if let Some(tools) = &health.tools {
        text.push_str(&format!("  tools/list {:.1} ms ({})", ms(tools.time), tools.count));
    }
    for warning in &health.warnings {
        text.push_str(&format!("; {warning}"));
    }
    text
}
