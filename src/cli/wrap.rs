//! `wrap`, `unwrap`, `status`: the proxy put into hosts' config files, taken out, and looked for.

use std::collections::BTreeSet;
use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser};
use serde_json::json;

use super::{Out, hint};
use crate::diagnostics;
use crate::hosts::entry::{self, State, Step};
use crate::hosts::locate::{self, Found, Scope, Surroundings};
use crate::hosts::splice::{self, Change, Proxy};
use crate::hosts::store::{Replaced, Snapshot};
use crate::hosts::table::{self, HOSTS};
use crate::hosts::tree::{Format, Node};
use crate::observe::redact::Redactor;

mod status;

pub use status::StatusArgs;

/// Which files and which servers in them.
#[derive(Debug, Default, Args)]
pub struct Which {
    /// Only these servers [default: every local (stdio) server found]
    #[arg(value_name = "SERVER")]
    pub servers: Vec<String>,
    /// Only this host; repeatable. See spantap status for names
    #[arg(long = "host", value_name = "HOST", value_parser = host_id)]
    pub hosts: Vec<String>,
    /// A config file in an unusual place (with --host for its format)
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Also project files of the current folder (.mcp.json, .vscode/mcp.json, ...)
    #[arg(long)]
    pub project: bool,
}

#[derive(Debug, Args)]
pub struct How {
    /// Show the changes as a diff and write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Report as JSON; writes only with --yes
    #[arg(long)]
    pub json: bool,
    /// Write even while the host runs that will write its file back
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct WrapArgs {
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub how: How,
    /// Passed on to 'spantap run' in every wrapped entry
    #[arg(last = true, value_name = "RUN OPTIONS")]
    pub run_options: Vec<String>,
}

#[derive(Debug, Args)]
pub struct UnwrapArgs {
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub how: How,
    /// User files and project files of the current folder, every server
    #[arg(long, conflicts_with_all = ["servers", "file"])]
    pub all: bool,
}

fn host_id(id: &str) -> Result<String, String> {
    match table::host(id) {
        Some(host) => Ok(host.id.to_owned()),
        None => {
            let ids: Vec<&str> = HOSTS.iter().map(|host| host.id).collect();
            Err(format!("known hosts: {}", ids.join(", ")))
        }
    }
}

impl WrapArgs {
    /// # Errors
    /// No local server found, options that `run` would refuse, or a file that could not be written.
    pub fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let mut options = inherited_options(&self.run_options);
        options.extend(self.run_options);
        check_options(&options)?;
        change(out, &self.which, &self.how, Some(&options))
    }
}

impl UnwrapArgs {
    /// # Errors
    /// No wrapped server found, or a file that could not be written.
    pub fn run(mut self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        self.which.project |= self.all;
        change(out, &self.which, &self.how, None)
    }
}

/// What the shell says and a host's stripped environment will not.
fn inherited_options(given: &[String]) -> Vec<String> {
    let mut options = Vec::new();
    for (flag, variable) in [("--log-dir", "SPANTAP_LOG_DIR"), ("--config", "SPANTAP_CONFIG")] {
        let is_given = given.iter().any(|word| word == flag || word.starts_with(&format!("{flag}=")));
        if let Some(value) = crate::config::process_environment(variable).filter(|_| !is_given) {
            let absolute = std::path::absolute(&value).map(|path| path.to_string_lossy().into_owned());
            options.extend([flag.to_owned(), absolute.unwrap_or(value)]);
        }
    }
    options
}

/// An option that `run` refuses would keep every wrapped server from starting.
fn check_options(options: &[String]) -> anyhow::Result<()> {
    let is_ours = |word: &String| word == "--" || word == "--wrapped" || word == "--server";
    if let Some(word) = options.iter().find(|word| is_ours(word)) {
        anyhow::bail!("`{word}` cannot be among the options passed on");
    }
    let line =
        ["spantap", "run"].into_iter().chain(options.iter().map(String::as_str)).chain(["--", "server"]);
    super::Cli::try_parse_from(line).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        hint(anyhow::anyhow!("{first}"), "options after -- are those of `spantap run --help`")
    })?;
    Ok(())
}

fn surroundings(environment: &dyn Fn(&str) -> Option<String>, project: bool) -> Surroundings<'_> {
    let home = environment("HOME").or_else(|| environment("USERPROFILE")).map(PathBuf::from);
    Surroundings { home, environment, project: project.then(|| std::env::current_dir().ok()).flatten() }
}

fn files(which: &Which) -> anyhow::Result<Vec<Found>> {
    let environment = crate::config::process_environment;
    if let Some(path) = &which.file {
        let [id] = which.hosts.as_slice() else {
            anyhow::bail!("--file needs one --host, whose format it has");
        };
        let host = table::host(id).ok_or_else(|| anyhow::anyhow!("no host is called `{id}`"))?;
        return Ok(vec![Found { host, scope: Scope::User, path: path.clone() }]);
    }
    Ok(locate::files(&surroundings(&environment, which.project), &which.hosts))
}

/// Where nothing was found, and what to do.
fn nowhere(which: &Which) -> anyhow::Error {
    let environment = crate::config::process_environment;
    let places = locate::places(&surroundings(&environment, which.project), &which.hosts);
    let mut text = String::from("no config file of a host found; looked at");
    for place in &places {
        text.push_str(&format!("\n  {:<15} {}", place.host.id, place.path.display()));
    }
    hint(
        anyhow::anyhow!(text),
        "for a file in another place: spantap wrap --host HOST --file FILE; for files of this folder: --project",
    )
}

/// The name that entries of a scope will call the proxy by.
fn program(scope: Scope) -> anyhow::Result<String> {
    if scope == Scope::Project {
        return Ok("spantap".to_owned());
    }
    let exe = std::env::current_exe()?;
    // A link on the PATH outlives an upgrade, what it points to may not.
    let on_path = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path)
            .map(|folder| folder.join("spantap"))
            .find(|file| file.is_absolute() && file.canonicalize().ok() == exe.canonicalize().ok())
    });
    let path = on_path.unwrap_or(exe);
    path.to_str().map(str::to_owned).ok_or_else(|| anyhow::anyhow!("the path of spantap itself is not UTF-8"))
}

/// What will be, or was, done in one file.
struct Plan {
    found: Found,
    snapshot: Snapshot,
    after: String,
    changed: Vec<String>,
    edited: Vec<String>,
    /// Servers left alone, and why.
    skipped: Vec<(String, String)>,
}

fn plan(found: &Found, which: &Which, options: Option<&[String]>) -> Result<Plan, String> {
    let snapshot = Snapshot::read(&found.path).map_err(|error| error.to_string())?;
    let format = Format::of(&snapshot.path);
    let root = Node::parse(snapshot.text(), format)?;
    let program = program(found.scope).map_err(|error| error.to_string())?;
    let mut after = snapshot.text().to_owned();
    let (mut changed, mut edited, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    let wanted = |name: &str| which.servers.is_empty() || which.servers.iter().any(|server| server == name);
    for server in entry::entries(&root, found.host).into_iter().filter(|server| wanted(&server.name)) {
        let step = match (options, &server.state) {
            (Some(options), State::Plain) => Change::Wrap(&Proxy { program: &program, options }),
            (None, State::Wrapped { edited: is_edited, .. }) => {
                if *is_edited {
                    edited.push(diagnostics::safe(&server.name));
                }
                Change::Unwrap
            }
            (Some(_), State::Wrapped { .. }) => {
                skipped.push((label(&server.name, &server.path), "wrapped already".to_owned()));
                continue;
            }
            (_, State::Remote) => {
                let reason = "remote; to watch it, run it through a bridge such as mcp-remote";
                skipped.push((label(&server.name, &server.path), reason.to_owned()));
                continue;
            }
            (Some(_), State::Unsupported(reason)) => {
                skipped.push((label(&server.name, &server.path), (*reason).to_owned()));
                continue;
            }
            (None, _) => continue,
        };
        match splice::change(&after, format, found.host, &server.path, step) {
            Ok(edits) => {
                after = splice::apply(&after, &edits);
                changed.push(label(&server.name, &server.path));
            }
            Err(reason) => skipped.push((label(&server.name, &server.path), reason.to_owned())),
        }
    }
    Ok(Plan { found: found.clone(), snapshot, after, changed, edited, skipped })
}

/// The server's name; behind it the project where one file holds several.
fn label(name: &str, path: &[Step]) -> String {
    // A project's file is somebody else's text.
    match path {
        [Step::Key(first), Step::Key(project), ..] if first == "projects" => {
            diagnostics::safe(&format!("{name} ({project})"))
        }
        _ => diagnostics::safe(name),
    }
}

fn change(
    out: &mut Out<'_>,
    which: &Which,
    how: &How,
    options: Option<&[String]>,
) -> anyhow::Result<ExitCode> {
    let files = files(which)?;
    if files.is_empty() {
        return Err(nowhere(which));
    }
    let mut failures: Vec<(Found, String)> = Vec::new();
    let mut plans = Vec::new();
    let mut seen = BTreeSet::new();
    for found in files {
        match plan(&found, which, options) {
            Ok(plan) if seen.insert(plan.snapshot.path.clone()) => plans.push(plan),
            Ok(_) => {}
            Err(reason) => failures.push((found, reason)),
        }
    }
    let todo = plans.iter().any(|plan| !plan.changed.is_empty());
    if !how.json {
        for plan in &plans {
            describe(out, plan, how.dry_run)?;
        }
    }
    let write = todo && !how.dry_run && (how.yes || (!how.json && confirmed(out, options.is_some())?));
    let mut report = Vec::new();
    for plan in plans {
        let (found, changes) = (plan.found.clone(), !plan.changed.is_empty());
        let outcome = if write && changes { carry_out(plan, which, how, options) } else { Ok(plan) };
        match outcome {
            Ok(plan) => {
                if write && changes && !how.json {
                    next_steps(out, &plan)?;
                }
                report.push(json!({
                    "host": found.host.id, "scope": found.scope.word(), "file": found.path,
                    "changed": plan.changed, "edited": plan.edited, "written": write && changes,
                    "skipped": plan.skipped.iter()
                        .map(|(server, reason)| json!({"server": server, "reason": reason})).collect::<Vec<_>>(),
                }));
            }
            Err(reason) => failures.push((found, reason)),
        }
    }
    for (found, reason) in &failures {
        if how.json {
            report.push(json!({"host": found.host.id, "scope": found.scope.word(), "file": found.path, "error": reason}));
        } else {
            writeln!(out, "{}: {}: left alone: {reason}", found.host.name, found.path.display())?;
        }
    }
    if how.json {
        for line in report {
            writeln!(out, "{line}")?;
        }
    } else if !todo && failures.is_empty() {
        writeln!(out, "nothing to do")?;
    }
    Ok(if failures.is_empty() && (write || !todo || how.dry_run) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn describe(out: &mut Out<'_>, plan: &Plan, diff: bool) -> anyhow::Result<()> {
    if plan.changed.is_empty() && plan.skipped.is_empty() {
        return Ok(());
    }
    writeln!(out, "{} ({}): {}", plan.found.host.name, plan.found.scope.word(), plan.found.path.display())?;
    for server in &plan.changed {
        writeln!(out, "  {server}")?;
    }
    for server in &plan.edited {
        writeln!(out, "  {server}: changed by hand since it was wrapped; the changes stay")?;
    }
    for (server, reason) in &plan.skipped {
        writeln!(out, "  {server}: left alone: {reason}")?;
    }
    if plan.found.scope == Scope::Project && !plan.changed.is_empty() {
        writeln!(
            out,
            "  this file is shared: everybody who uses it needs spantap on the PATH of their host"
        )?;
    }
    if diff {
        let format = Format::of(&plan.snapshot.path);
        write!(out, "{}", splice::diff(&hidden(plan.snapshot.text(), format), &hidden(&plan.after, format)))?;
    }
    Ok(())
}

/// A host's file as it may be shown: a line that changes can hold the whole entry, with its environment and
/// its server's flags. Lines stay lines, and what is hidden is hidden alike before and after.
fn hidden(text: &str, format: Format) -> String {
    let mut ranges = Vec::new();
    if let Ok(root) = Node::parse(text, format) {
        values_of_environments(&root, false, &mut ranges);
    }
    ranges.sort_by_key(|range: &std::ops::Range<usize>| range.start);
    let (mut shown, mut done) = (String::new(), 0);
    for range in ranges.into_iter().filter(|range| !range.is_empty()) {
        if let Some(before) = text.get(done..range.start) {
            shown.push_str(before);
            shown.push_str("\"[REDACTED:environment]\"");
            done = range.end;
        }
    }
    shown.push_str(text.get(done..).unwrap_or_default());
    Redactor::default().explain(shown.as_bytes()).0.to_string()
}

/// Where the values of environments and headers stand, whatever they are called.
fn values_of_environments(node: &Node, inside: bool, ranges: &mut Vec<std::ops::Range<usize>>) {
    const NAMES: [&str; 6] = ["env", "envs", "environment", "env_vars", "headers", "inputs"];
    for member in node.members() {
        let inside = inside || NAMES.contains(&member.key.as_str()) && !member.value.members().is_empty();
        match member.value.text() {
            Some(_) if inside => ranges.push(member.value.range.clone()),
            _ => values_of_environments(&member.value, inside, ranges),
        }
    }
    for item in node.items().unwrap_or_default() {
        values_of_environments(item, inside, ranges);
    }
}

fn confirmed(out: &mut Out<'_>, wrapping: bool) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(hint(anyhow::anyhow!("nobody there to ask"), "add --yes to write, or --dry-run to look"));
    }
    write!(out, "{} these servers? [y/N] ", if wrapping { "Wrap" } else { "Unwrap" })?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn next_steps(out: &mut Out<'_>, plan: &Plan) -> anyhow::Result<()> {
    let servers = plan.changed.len();
    let noun = if servers == 1 { "server" } else { "servers" };
    writeln!(
        out,
        "{}: {servers} {noun} changed. To take effect: {}",
        plan.found.host.name, plan.found.host.restart
    )?;
    Ok(())
}

/// Rounds against a host that keeps writing its file.
const ATTEMPTS: usize = 3;

fn carry_out(first: Plan, which: &Which, how: &How, options: Option<&[String]>) -> Result<Plan, String> {
    if !how.force
        && let Some(name) = first.found.host.rewritten_by.iter().find(|name| is_running(name))
    {
        return Err(format!(
            "{name} is running and would write its own version back; quit it, or use --force"
        ));
    }
    let backups = crate::places::state_dir().map(|folder| folder.join("backups"));
    let mut current = first;
    for _ in 0..ATTEMPTS {
        let done = current
            .snapshot
            .replace(&current.after, backups.as_deref())
            .map_err(|error| error.to_string())?;
        if done == Replaced::Done {
            return Ok(current);
        }
        current = plan(&current.found, which, options)?;
    }
    Err("the host keeps writing the file; quit it and try again".to_owned())
}

#[cfg(target_os = "linux")]
fn is_running(name: &str) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    processes.flatten().any(|process| {
        std::fs::read_to_string(process.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    })
}

#[cfg(not(target_os = "linux"))]
fn is_running(name: &str) -> bool {
    let found = std::process::Command::new("pgrep").arg("-x").arg(name).output();
    found.is_ok_and(|output| output.status.success())
}

/// Whether an entry's proxy can be started: a bare name is looked for on the PATH.
fn can_start(program: &str) -> bool {
    let is_file = |path: &Path| path.metadata().is_ok_and(|metadata| metadata.is_file());
    if program.contains('/') || program.contains('\\') {
        return is_file(Path::new(program));
    }
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| is_file(&folder.join(program))))
}
