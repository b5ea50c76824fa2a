//! `spantap doctor`: checks the set-up and reports how to fix it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::cli::collect::{CollectorNote, last_run, start_problem};
use crate::cli::selection::{self, ColorArgs};
use crate::cli::{HintedError, Out, help, redacted};
use crate::export::notify::look_up;
use crate::present::Printable;
use crate::present::format::plural;
use crate::present::table::{Terminal, Tone};
use crate::settings::hash_key::{self, HashKeySource};
use crate::settings::{GivenSettings, SettingSources, Settings, misspelt_variables, process_environment};
use crate::system::files::home;

mod collector;
mod entries;
mod logs;
mod settings;

#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 no finding is marked `fail`; 1 at least one is; 2 usage.")]
pub struct DoctorArgs {
    /// Print findings and settings as JSON, for a bug report; no secrets, the home folder as ~
    #[arg(long)]
    json: bool,
    /// Also show the settings that have their defaults
    #[arg(long)]
    all: bool,
    /// Show the settings of this server
    #[arg(long, value_name = "NAME", default_value = "")]
    server: String,
    #[arg(long, value_name = "FILE", help = help::CONFIG)]
    config: Option<PathBuf>,
    #[arg(long, value_name = "DIR", help = help::of("log_dir"))]
    log_dir: Option<PathBuf>,
    #[arg(long, value_name = "URL", help = help::of("otlp.endpoint"))]
    otlp: Option<String>,
    #[arg(long, value_name = "KEY=VALUE", help = help::OTLP_SET)]
    otlp_set: Vec<String>,
    #[command(flatten)]
    pub(super) color: ColorArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// One line of the report. The home folder is shown as `~`.
#[derive(Debug, Serialize)]
struct DoctorFinding {
    verdict: Verdict,
    what: Printable,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<Printable>,
}

#[derive(Default)]
struct DoctorFindings(Vec<DoctorFinding>);

impl DoctorFindings {
    fn ok(&mut self, what: impl Into<String>) {
        self.push(Verdict::Ok, what.into(), None);
    }

    fn warn(&mut self, what: impl Into<String>, fix: impl Into<String>) {
        self.push(Verdict::Warn, what.into(), Some(fix.into()));
    }

    fn fail(&mut self, what: impl Into<String>, fix: impl Into<String>) {
        self.push(Verdict::Fail, what.into(), Some(fix.into()));
    }

    fn push(&mut self, verdict: Verdict, what: String, fix: Option<String>) {
        let printable = |text: String| Printable::new(&shown(&text));
        self.0.push(DoctorFinding { verdict, what: printable(what), fix: fix.map(printable) });
    }

    /// Prints the number of problems, then the findings, the worst first. A fix that several have is printed once.
    fn print(&self, out: &mut Out<'_>, terminal: &Terminal) -> std::io::Result<()> {
        let mut sorted: Vec<&DoctorFinding> = self.0.iter().collect();
        sorted.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
        let count = |verdict| self.0.iter().filter(|finding| finding.verdict == verdict).count() as u64;
        let headline = match (count(Verdict::Fail), count(Verdict::Warn)) {
            (0, 0) => "no problem found".to_owned(),
            (0, warnings) => plural(warnings, "warning"),
            (failures, 0) => plural(failures, "failure"),
            (failures, warnings) => {
                format!("{}, {}", plural(failures, "failure"), plural(warnings, "warning"))
            }
        };
        writeln!(out, "{}", Tone::Strong.paint(headline))?;
        for (at, DoctorFinding { verdict, what, fix }) in sorted.iter().enumerate() {
            let (word, tone) = match verdict {
                Verdict::Ok => ("ok  ", Tone::Good),
                Verdict::Warn => ("warn", Tone::Warning),
                Verdict::Fail => ("fail", Tone::Bad),
            };
            writeln!(out, "{}  {}", tone.paint(word), terminal.paragraph(what, 6, 6))?;
            let is_last = sorted.get(at + 1).is_none_or(|next| next.fix != *fix);
            if let Some(fix) = fix.as_ref().filter(|_| is_last) {
                writeln!(out, "      {}", terminal.paragraph(fix, 6, 6))?;
            }
        }
        Ok(())
    }
}

impl DoctorArgs {
    /// Prints findings and settings; exit status 1 if a finding keeps spantap from working.
    pub(crate) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let sources = crate::cli::sources(GivenSettings {
            config: self.config,
            log_dir: self.log_dir,
            otlp_endpoint: self.otlp,
            otlp_set: self.otlp_set,
            server: Some(self.server.clone()).filter(|server| !server.is_empty()),
            ..GivenSettings::default()
        });
        let mut findings = DoctorFindings::default();
        config_file(&sources, &mut findings);
        let config = sources.settings(&self.server);
        let folder = config.log_folder();
        check(&config, folder.as_deref(), &mut findings);
        let settings = settings::rows(&config, folder.as_deref());
        if self.json {
            let report = serde_json::json!({
                "version": crate::VERSION,
                "findings": findings.0,
                "settings": settings,
            });
            for line in serde_json::to_string_pretty(&report)?.lines() {
                writeln!(out, "{}", Printable::json(line))?;
            }
        } else {
            let terminal = selection::terminal(0);
            findings.print(out, &terminal)?;
            settings::print(out, &settings, self.all)?;
        }
        let failed = findings.0.iter().any(|finding| finding.verdict == Verdict::Fail);
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// Checks everything except the config file; `folder` is the folder of session logs.
fn check(config: &Settings, folder: Option<&Path>, findings: &mut DoctorFindings) {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for problem in config.problems.iter().chain(&misspelt_variables(names)) {
        findings.warn(problem.to_string(), "fix it; `spantap doctor --all` lists the settings");
    }
    for warning in config.redaction.warnings() {
        findings.warn(warning, "leave it out, unless the text is meant to be recorded");
    }
    match (folder, config.log.value) {
        (_, false) => findings.warn("no session log is written", "set `log = true`, or leave --no-log out"),
        (None, true) => {
            findings.fail("the logs have no folder, because the home folder is not known", "set `log_dir`")
        }
        (Some(folder), true) => {
            logs::check_folder(folder, findings);
            logs::check_files(folder, entries::are_watched(), findings);
        }
    }
    hash_key(config, findings);
    notify(config, findings);
    if config.otlp(&process_environment).0.is_none() {
        findings.ok("no collector is configured");
    }
    let mut asked = BTreeSet::new();
    collector::check(config, &process_environment, "", &mut asked, findings);
    if let Some(problem) = start_problem(config) {
        let known = problem.downcast_ref::<HintedError>().map(|known| known.hint.clone());
        let fix = known.unwrap_or_else(|| "correct its settings".to_owned());
        findings.warn(format!("spantap collect does not start: {problem:#}"), fix);
    }
    match last_run() {
        Some(CollectorNote { text, fix: Some(fix) }) => findings.warn(text, fix),
        Some(CollectorNote { text, fix: None }) => findings.ok(text),
        None => {}
    }
    entries::check(folder.filter(|_| config.log.value), &mut asked, findings);
    environment(findings);
}

/// Returns `text` without secrets and with `~` for the home folder, so that a report does not contain the user's
/// name.
fn shown(text: &str) -> String {
    let text = redacted(text);
    match home::folder() {
        Some(home) if home.as_os_str().len() > 1 => text.as_str().replace(&*home.to_string_lossy(), "~"),
        _ => text.to_string(),
    }
}

fn config_file(sources: &SettingSources<'_>, findings: &mut DoctorFindings) {
    match (sources.file(), sources.path()) {
        (Ok(_), None) => {}
        (Ok(Some(_)), Some(path)) => findings.ok(format!("config file {}", path.display())),
        (Ok(None), Some(path)) => {
            findings.ok(format!("no config file at {}: every setting has its default", path.display()));
        }
        (Err(error), _) => findings.fail(
            format!("config file {} cannot be read: {}", error.path.display(), error.error),
            "make it readable, or remove it together with the flag or variable that points to it; \
             free text is not recorded until then",
        ),
    }
}

fn hash_key(config: &Settings, findings: &mut DoctorFindings) {
    let source = hash_key::choose(config);
    match source {
        HashKeySource::Unkeyed => findings
            .warn("hashes are not keyed: short arguments can be guessed from them", "leave `args_hash` out"),
        HashKeySource::Process => findings.warn("no home folder for the hash key", "set `hash_key_file`"),
        HashKeySource::File(_) | HashKeySource::Installation(_) => match source.load_or_make() {
            Ok(_) => findings.ok("the hash key exists and is private"),
            Err(error) => findings.fail(
                error.to_string(),
                "fix it; hashes of different sessions can be compared only with a usable key",
            ),
        },
    }
}

/// Checks that the program of `notify` can be started.
fn notify(config: &Settings, findings: &mut DoctorFindings) {
    if config.notify.is_empty() {
        return;
    }
    match look_up(&config.notify) {
        (program, None) => findings.ok(format!("notify: `{program}` can be started")),
        (_, Some((problem, fix))) => {
            findings.warn(format!("notify: {problem}, so you are notified of nothing"), fix);
        }
    }
}

/// Reports variables that are set here and that most hosts do not pass on. `wrap` writes the folders into entries.
fn environment(findings: &mut DoctorFindings) {
    let is_lost = |name: &String| {
        (name.starts_with("SPANTAP_") || name.starts_with("OTEL_"))
            && !["SPANTAP_LOG_DIR", "SPANTAP_CONFIG"].contains(&name.as_str())
    };
    let names: Vec<String> = std::env::vars().map(|(name, _)| name).filter(is_lost).collect();
    if !names.is_empty() {
        findings.warn(
            format!("set here and stripped by most hosts: {}", names.join(", ")),
            "put the settings into the config file, or after `spantap wrap --`",
        );
    }
}
