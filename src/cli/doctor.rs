//! `spantap doctor`: is everything set up right, and if not, what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

use clap::Args;
use serde::Serialize;

use crate::cli::Out;
use crate::cli::run::RunArgs;
use crate::export::log::is_session_file;
use crate::export::otlp::{self, ProbeResult};
use crate::present::format::plural;
use crate::record::Record;
use crate::settings::paths;
use crate::settings::{Config, File, process_environment};

mod entries;
mod settings;

use settings::Shown;

#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 nothing is broken; 1 something is, and is marked so; 2 usage.")]
pub struct DoctorArgs {
    /// Print the findings and settings as JSON, for a report; no secrets, the home folder as ~
    #[arg(long)]
    json: bool,
    /// Look at the settings as for this server
    #[arg(long, value_name = "NAME", default_value = "")]
    server: String,
    /// Read this config file instead of the usual one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Look at this folder of session logs instead of the configured one
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// Ask this collector, as the same option of a wrapped server does
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
    /// Any entry of the config file's [otlp] table, e.g. protocol=grpc; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    otlp_set: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Finding {
    verdict: Verdict,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

/// Less than this free on the logs' disk is worth a word, in KiB.
const LITTLE_SPACE: u64 = 512 << 10;
/// How long a collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Newest logs whose records are looked at.
const LOOKED_AT: usize = 20;

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, what: impl Into<String>) {
        self.0.push(Finding { verdict: Verdict::Ok, what: tilde(&what.into()), fix: None });
    }

    fn warn(&mut self, what: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding {
            verdict: Verdict::Warn,
            what: tilde(&what.into()),
            fix: Some(tilde(&fix.into())),
        });
    }

    fn fail(&mut self, what: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding {
            verdict: Verdict::Fail,
            what: tilde(&what.into()),
            fix: Some(tilde(&fix.into())),
        });
    }
}

impl DoctorArgs {
    /// Exit status 1 when something is wrong that keeps spantap from working.
    ///
    /// # Errors
    /// When the output breaks.
    pub fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let args = RunArgs {
            config: self.config.clone(),
            log_dir: self.log_dir.clone(),
            otlp: self.otlp.clone(),
            otlp_set: self.otlp_set.clone(),
            ..RunArgs::default()
        };
        let mut findings = Findings::default();
        let path = crate::settings::file_path(&args, &process_environment, paths::config_dir().as_deref());
        let file = config_file(path.as_deref(), &args, &mut findings);
        let config = Config::resolve(&args, &process_environment, file.as_ref(), &self.server);
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        for problem in config.problems.iter().chain(&crate::settings::misspelt(names)) {
            findings.warn(problem.to_string(), "mend it; docs/configuration.md lists the settings");
        }
        for warning in config.redaction.warnings() {
            findings.warn(warning, "docs/redaction.md says what each setting shows");
        }
        let folder = config.log_dir.value.clone().or_else(paths::sessions_dir);
        match (&folder, config.log.value) {
            (_, false) => {
                findings.warn("no session log is written", "set `log = true`, or leave --no-log out")
            }
            (None, true) => findings.fail("there is no home folder for the logs", "set `log_dir`"),
            (Some(folder), true) => {
                log_folder(folder, &mut findings);
                logs(folder, &mut findings);
            }
        }
        hash_key(&config, &mut findings);
        if config.otlp(&process_environment).0.is_none() {
            findings.ok("no collector is configured");
        }
        let mut asked = BTreeSet::new();
        collector(&config, &process_environment, "", &mut asked, &mut findings);
        entries::check(folder.as_deref().filter(|_| config.log.value), &mut asked, &mut findings);
        environment(&mut findings);

        let settings = settings::rows(&config, folder.as_deref(), &self.server);
        if self.json {
            let report = serde_json::json!({
                "version": crate::VERSION,
                "findings": findings.0,
                "settings": settings,
            });
            writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        } else {
            for Finding { verdict, what, fix } in &findings.0 {
                let word = match verdict {
                    Verdict::Ok => "ok  ",
                    Verdict::Warn => "warn",
                    Verdict::Fail => "fail",
                };
                writeln!(out, "{word}  {what}")?;
                if let Some(fix) = fix {
                    writeln!(out, "      {fix}")?;
                }
            }
            writeln!(out, "\nSettings:")?;
            let width = settings.iter().map(|shown| shown.setting.len()).max().unwrap_or(0);
            for Shown { setting, value, origin } in &settings {
                writeln!(out, "  {setting:width$}  {value}  ({origin})")?;
            }
        }
        let failed = findings.0.iter().any(|finding| finding.verdict == Verdict::Fail);
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// The home folder as `~`, so that a report tells nobody's name.
fn tilde(text: &str) -> String {
    match etcetera::home_dir() {
        Ok(home) if home.as_os_str().len() > 1 => text.replace(&*home.to_string_lossy(), "~"),
        _ => text.to_owned(),
    }
}

fn config_file(path: Option<&Path>, args: &RunArgs, findings: &mut Findings) -> Option<File> {
    let path = path?;
    match crate::settings::read(Some(path), args, &process_environment) {
        Ok(Some(file)) => {
            findings.ok(format!("config file {}", path.display()));
            Some(file)
        }
        Ok(None) => {
            findings.ok(format!("no config file at {}: everything is at its default", path.display()));
            None
        }
        Err(error) => {
            findings.fail(
                format!("config file {} cannot be read: {error}", path.display()),
                "make it readable, or remove it and who names it; until then no free text is recorded",
            );
            None
        }
    }
}

fn log_folder(folder: &Path, findings: &mut Findings) {
    let shown = folder.display();
    if !folder.exists() {
        let parent = folder.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(folder);
        match tempfile::NamedTempFile::new_in(parent) {
            Ok(_) => findings.ok(format!("log folder {shown} will be made by the first session")),
            Err(error) => findings.fail(
                format!("log folder {shown} cannot be made: {error}"),
                "name another one with `log_dir` or --log-dir",
            ),
        }
        return;
    }
    match tempfile::NamedTempFile::new_in(folder) {
        Ok(_) => findings.ok(format!("log folder {shown} can be written")),
        Err(error) => findings.fail(
            format!("log folder {shown} cannot be written: {error}"),
            "name another one with `log_dir`",
        ),
    }
    if let Ok(metadata) = fs::metadata(folder)
        && metadata.is_dir()
        && metadata.mode() & 0o077 != 0
    {
        findings.warn(format!("others can look into {shown}"), format!("chmod 700 {shown}"));
    }
    if let Some(free) = free_kib(folder)
        && free < LITTLE_SPACE
    {
        findings.warn(
            format!("{} MiB free for the logs", free / 1024),
            "`spantap prune --older-than 30d` makes room; `max_total_size` does so by itself",
        );
    }
}

/// What `df` says is available, in KiB.
fn free_kib(folder: &Path) -> Option<u64> {
    let output = Command::new("df").arg("-Pk").arg(folder).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()
}

/// How old the newest record is, and whether all can be read.
fn logs(folder: &Path, findings: &mut Findings) {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let what = format!("log folder {} cannot be read: {error}", folder.display());
            return findings.fail(what, "check its owner and mode, or name another one with `log_dir`");
        }
        entries => entries.into_iter().flatten().flatten(),
    };
    let mut files: Vec<(SystemTime, PathBuf)> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(is_session_file))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    files.sort();
    let Some((newest, _)) = files.last() else {
        findings.warn(
            "no session has been recorded yet",
            "`spantap wrap` puts spantap in front of your servers; then restart their host",
        );
        return;
    };
    let age = newest.elapsed().unwrap_or_default().as_secs();
    let age = match age {
        0..=119 => format!("{age} s"),
        120..=7199 => format!("{} min", age / 60),
        7200..=172_799 => format!("{} h", age / 3600),
        _ => format!("{} d", age / 86_400),
    };
    findings.ok(format!("{}, the newest record {age} ago", plural(files.len() as u64, "session file")));
    for (_, path) in files.iter().rev().take(LOOKED_AT) {
        let Ok(bytes) = fs::read(path) else {
            findings.warn(format!("{} cannot be read", path.display()), "check its owner and mode");
            continue;
        };
        // A last line without its newline is being written, or was cut off by a kill.
        let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at);
        let lines = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let bad = lines.filter(|line| serde_json::from_slice::<Record<'_>>(line).is_err()).count();
        if bad > 0 {
            findings.warn(
                format!("{} of {} cannot be read", plural(bad as u64, "record"), path.display()),
                "readers pass over them; a full disk or another writer did this",
            );
        }
    }
}

fn hash_key(config: &Config, findings: &mut Findings) {
    if config.args_hash.value == crate::settings::ArgsHash::Sha256 {
        findings
            .warn("hashes are not keyed: short arguments can be guessed from them", "leave `args_hash` out");
        return;
    }
    let key = match (&config.hash_key_file.value, paths::state_dir()) {
        (Some(file), _) => crate::settings::hash_key::from_file(file),
        (None, Some(state)) => crate::settings::hash_key::of_installation(&state),
        (None, None) => return findings.warn("no home folder for the hash key", "set `hash_key_file`"),
    };
    match key {
        Ok(_) => findings.ok("the hash key is there and private"),
        Err(error) => {
            findings.fail(error.to_string(), "hashes of different sessions compare only with a usable key")
        }
    }
}

/// Whether what `who` would send is taken. A collector that was asked already for a signal is not asked again.
fn collector(
    config: &Config,
    environment: crate::settings::Environment<'_>,
    who: &str,
    asked: &mut BTreeSet<String>,
    findings: &mut Findings,
) {
    let (settings, warnings) = config.otlp(environment);
    for warning in warnings {
        findings.warn(format!("{who}{warning}"), "docs/telemetry.md lists the settings of [otlp] and OTEL_*");
    }
    let Some(mut settings) = settings else { return };
    // One endpoint may be that of all signals.
    let signals =
        [("traces", &mut settings.traces), ("metrics", &mut settings.metrics), ("logs", &mut settings.logs)];
    for (signal, target) in signals {
        target.take_if(|target| !asked.insert(format!("{signal} {}", target.endpoint)));
    }
    let mut taken: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut silent = BTreeSet::new();
    for ProbeResult { signal, endpoint, failure } in otlp::probe(&settings, PATIENCE) {
        let Some(address) = address(&endpoint) else {
            findings.fail(format!("{who}an OTLP endpoint has no host"), "write it as http://HOST:4318");
            continue;
        };
        let signal = signal.plural();
        let Some(reason) = failure else {
            taken.entry(address).or_default().push(signal);
            continue;
        };
        let fix = match reason.as_str() {
            "refused" | "unknown_host" | "timeout" | "reset" | "no_http" => {
                if silent.insert(address.clone()) {
                    findings.fail(
                        format!("{who}the collector at {address} does not answer: {reason}"),
                        "start it, or mend `otlp.endpoint`; `spantap export` sends later what is missed now",
                    );
                }
                continue;
            }
            "tls" => "https or http? A certificate that this machine does not know is named by `certificate`",
            "http_401" | "http_403" => {
                "it wants credentials: `headers` of [otlp], or OTEL_EXPORTER_OTLP_HEADERS"
            }
            "http_404" => {
                "mend the path of the endpoint; a signal that it does not take is turned off in [otlp]"
            }
            _ => "see what it says itself; docs/telemetry.md lists the settings of [otlp]",
        };
        findings.fail(format!("{who}the collector at {address} does not take {signal}: {reason}"), fix);
    }
    for (address, signals) in taken {
        findings.ok(format!("{who}the collector at {address} takes {}", signals.join(", ")));
    }
}

/// Host and port of a URL, without what else may stand in it.
fn address(endpoint: &str) -> Option<String> {
    let (scheme, rest) = endpoint.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next().filter(|host| !host.is_empty())?;
    let has_port =
        host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let port = if scheme == "https" { 443 } else { 80 };
    Some(if has_port { host.to_owned() } else { format!("{host}:{port}") })
}

/// Variables that are set here and that most hosts do not pass on.
fn environment(findings: &mut Findings) {
    let ours =
        |name: &str| name.starts_with("SPANTAP_") || name.starts_with("OTEL_") || name.starts_with("XDG_");
    let names: Vec<String> = std::env::vars().map(|(name, _)| name).filter(|name| ours(name)).collect();
    if !names.is_empty() {
        findings.warn(
            format!("set here and stripped by most hosts: {}", names.join(", ")),
            "put the settings into the config file, or behind `spantap wrap --`",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_all_that_is_shown_of_an_endpoint() {
        for (endpoint, shown) in [
            ("http://localhost:4318/v1/traces", Some("localhost:4318")),
            ("https://user:pass@collector.example/x?token=1", Some("collector.example:443")),
            ("http://", None),
            ("nonsense", None),
        ] {
            assert_eq!(address(endpoint).as_deref(), shown, "{endpoint}");
        }
    }
}
