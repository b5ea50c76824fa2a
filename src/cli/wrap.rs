//! `wrap`, `unwrap`, `status`: the proxy put into hosts' config files, taken out, and looked for.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::json;

use crate::cli::{Hinted, Out, hint};
use crate::hosts::diff;
use crate::hosts::entry::Step;
use crate::hosts::locate::{self, Found, Scope, Surroundings};
use crate::hosts::store::Replaced;
use crate::hosts::table::{self, HOSTS, Host};
use crate::hosts::tree::{Format, Node};
use crate::observe::redact::{Redactor, Settings};

mod options;
mod plan;
mod status;
pub mod watched;

use plan::{Changed, Intent, Plan};
pub use status::StatusArgs;

/// Which files and which servers in them.
#[derive(Debug, Default, Args)]
pub struct Which {
    /// Only these servers [default: every local (stdio) server found]
    #[arg(value_name = "SERVER")]
    pub servers: Vec<String>,
    /// Only this host; repeatable
    #[arg(long = "host", value_name = "HOST", value_parser = PossibleValuesParser::new(HOSTS.iter().map(|host| host.id)))]
    pub hosts: Vec<String>,
    /// A config file in an unusual place; --host says whose format it has, if that cannot be told
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

/// What the statuses mean.
const STATUSES: &str = "\
Exit status: 0 done, or nothing to do; 1 a file was left alone, there is no such file or server,
or nobody agreed to the change; 2 usage.";

#[derive(Debug, Args)]
#[command(after_help = STATUSES)]
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
#[command(after_help = STATUSES)]
pub struct UnwrapArgs {
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub how: How,
    /// User files and project files of the current folder, every server
    #[arg(long, conflicts_with_all = ["servers", "file"])]
    pub all: bool,
}

impl WrapArgs {
    /// # Errors
    /// No local server found, options that `run` would refuse, or a file that could not be written.
    pub fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        options::check(&self.run_options)?;
        let inherited = options::inherited(&self.run_options);
        options::check(&inherited)?;
        change(out, &self.which, &self.how, &Intent::Wrap { inherited, given: self.run_options })
    }
}

impl UnwrapArgs {
    /// # Errors
    /// No wrapped server found, or a file that could not be written.
    pub fn run(mut self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        self.which.project |= self.all;
        change(out, &self.which, &self.how, &Intent::Unwrap)
    }
}

fn surroundings(environment: &dyn Fn(&str) -> Option<String>, project: bool) -> Surroundings<'_> {
    let home = environment("HOME").or_else(|| environment("USERPROFILE")).map(PathBuf::from);
    Surroundings { home, environment, project: project.then(|| std::env::current_dir().ok()).flatten() }
}

pub(super) fn files(which: &Which) -> anyhow::Result<Vec<Found>> {
    let environment = crate::settings::process_environment;
    if let Some(path) = &which.file {
        File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let host = match which.hosts.as_slice() {
            [id] => table::host(id),
            [] => host_of(path),
            _ => {
                let error = anyhow::anyhow!("--file goes with one --host, whose format it has");
                return Err(Hinted { error, hint: "give one --host, or none".to_owned(), status: 2 }.into());
            }
        };
        let host = host.ok_or_else(|| {
            let text = format!("no list of servers found in `{}`", path.display());
            hint(
                anyhow::anyhow!(text),
                "say whose file it is: --host HOST, with one of the names that `spantap wrap --help` lists",
            )
        })?;
        return Ok(vec![Found { host, scope: scope_of(host, path), path: path.clone() }]);
    }
    let mut seen = BTreeSet::new();
    let mut found = locate::files(&surroundings(&environment, which.project), &which.hosts);
    // In the home folder a project's file may be the user's own; it counts as that.
    found.retain(|found| seen.insert(found.path.canonicalize().unwrap_or_else(|_| found.path.clone())));
    Ok(found)
}

/// Whose format a file has that nobody named a host for: by its name, else by what stands in it.
fn host_of(path: &Path) -> Option<&'static Host> {
    let by_name = HOSTS.iter().find(|host| {
        let below_home = host.user_files.iter().filter_map(|place| {
            let base = if place.starts_with('{') { "}/" } else { "/" };
            place.split_once(base).map(|(_, rest)| rest)
        });
        below_home.chain(host.project_files.iter().copied()).any(|place| path.ends_with(place))
    });
    let by_content = || {
        let snapshot = crate::hosts::store::Snapshot::read(path).ok()?;
        let root = Node::parse(snapshot.text(), Format::of(&snapshot.path)).ok()?;
        let format = Format::of(&snapshot.path);
        let holds = |host: &&Host| host.keys.iter().any(|keys| root.get(keys[0]).is_some());
        let writes = |host: &&Host| {
            let mut places = host.user_files.iter().chain(host.project_files);
            places.any(|place| Format::of(Path::new(place)) == format)
        };
        // The last one is every other program that reads an `mcpServers` file, which is JSON.
        let others = HOSTS.last().filter(|_| format == Format::Json).filter(holds);
        others.or_else(|| HOSTS.iter().find(|host| holds(host) && writes(host)))
    };
    by_name.or_else(by_content)
}

/// Whether a file that was named is a project's, so that it is as careful with it as `--project` is.
fn scope_of(host: &'static Host, path: &Path) -> Scope {
    let environment = crate::settings::process_environment;
    let users = locate::places(&surroundings(&environment, false), &[host.id.to_owned()]);
    let same = |found: &Found| found.path.canonicalize().ok() == path.canonicalize().ok();
    let is_named_so = || {
        std::path::absolute(path)
            .is_ok_and(|path| host.project_files.iter().any(|place| path.ends_with(place)))
    };
    if !users.iter().any(same) && is_named_so() { Scope::Project } else { Scope::User }
}

/// Where nothing was found, and what to do instead; `command` is what was asked for.
fn nowhere(which: &Which, command: &str) -> anyhow::Error {
    let environment = crate::settings::process_environment;
    let places = locate::places(&surroundings(&environment, which.project), &which.hosts);
    let mut text = String::from("no config file of a host found; looked at");
    let mut last = "";
    for place in &places {
        // A host with several places is named once.
        let name = if place.host.id == last { "" } else { place.host.id };
        text.push_str(&format!("\n  {name:<15} {}", place.path.display()));
        last = place.host.id;
    }
    let more = if which.project {
        "without a file: put `spantap --` in front of the server's command".to_owned()
    } else {
        format!("the files of this folder: spantap {command} --project")
    };
    let hint_text = format!("a file in another place: spantap {command} --file FILE; {more}");
    hint(anyhow::anyhow!(text), hint_text)
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

/// The server's name; behind it the project where one file holds several.
fn label(name: &str, path: &[Step]) -> String {
    match path {
        [Step::Key(first), Step::Key(project), ..] if first == "projects" => format!("{name} ({project})"),
        _ => name.to_owned(),
    }
}

fn change(out: &mut Out<'_>, which: &Which, how: &How, intent: &Intent) -> anyhow::Result<ExitCode> {
    let files = files(which)?;
    if files.is_empty() && matches!(intent, Intent::Unwrap) && which.hosts.is_empty() {
        writeln!(out, "nothing to do: no host has a config file here")?;
        return Ok(ExitCode::SUCCESS);
    }
    if files.is_empty() {
        return Err(nowhere(which, intent.command()));
    }
    let mut failures: Vec<(Found, String)> = Vec::new();
    let mut plans = Vec::new();
    for found in files {
        match Plan::make(&found, which, intent) {
            Ok(plan) => plans.push(plan),
            Err(reason) => failures.push((found, reason)),
        }
    }
    let missing = which.servers.iter().find(|name| !plans.iter().any(|plan| plan.names.contains(name)));
    if let (Some(name), true) = (missing, failures.is_empty()) {
        return Err(hint(anyhow::anyhow!("no server is called `{name}`"), "`spantap status` lists them"));
    }
    let todo = plans.iter().any(|plan| !plan.changed.is_empty());
    // Once it was decided to write, all is written, whether or not anybody reads what is said of it.
    let mut unsaid = Ok(());
    if !how.json {
        for plan in &plans {
            unsaid = unsaid.and(describe(out, plan, how.dry_run || !how.yes));
        }
    }
    if !how.yes && unsaid.is_err() {
        // Who does not read what would be changed agrees to nothing.
        unsaid?;
        return Ok(ExitCode::FAILURE);
    }
    let asks = todo && !how.dry_run && !how.yes && !how.json;
    let agreed = asks && confirmed(out, intent)?;
    if asks && !agreed {
        writeln!(out, "nothing was changed")?;
    }
    let write = todo && !how.dry_run && (how.yes || agreed);
    let mut report = Vec::new();
    for plan in plans {
        let (found, changes) = (plan.found.clone(), !plan.changed.is_empty());
        let outcome = if write && changes { carry_out(plan, which, how, intent) } else { Ok(plan) };
        match outcome {
            Ok(plan) => {
                if write && changes && !how.json && unsaid.is_ok() {
                    unsaid = next_steps(out, &plan);
                }
                report.push(report_of(&plan, write && changes, how.dry_run));
            }
            Err(reason) => failures.push((found, reason)),
        }
    }
    if unsaid.is_err() && !failures.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    unsaid?;
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

fn report_of(plan: &Plan, written: bool, with_diff: bool) -> serde_json::Value {
    let labels = |wanted: fn(&Changed) -> bool| -> Vec<&str> {
        plan.changed.iter().filter(|changed| wanted(changed)).map(|changed| changed.label.as_str()).collect()
    };
    let mut line = json!({
        "host": plan.found.host.id, "scope": plan.found.scope.word(), "file": plan.found.path,
        "changed": labels(|_| true), "edited": labels(|changed| changed.edited),
        "renewed": labels(|changed| changed.renewed), "written": written,
        "skipped": plan.skipped.iter()
            .map(|(server, reason)| json!({"server": server, "reason": reason})).collect::<Vec<_>>(),
    });
    if with_diff {
        line["diff"] = diff_of(plan).into();
    }
    line
}

fn describe(out: &mut Out<'_>, plan: &Plan, diff: bool) -> anyhow::Result<()> {
    if plan.changed.is_empty() && plan.skipped.is_empty() {
        return Ok(());
    }
    writeln!(out, "{} ({}): {}", plan.found.host.name, plan.found.scope.word(), plan.found.path.display())?;
    for Changed { label, edited, renewed, disabled } in &plan.changed {
        let note = match (edited, renewed, disabled) {
            (true, ..) => ": changed by hand since it was wrapped; the changes stay, as shown",
            (_, true, _) => ": wrapped by a spantap that is no longer there; it gets this one",
            (.., true) => " (disabled)",
            _ => "",
        };
        writeln!(out, "  {label}{note}")?;
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
    if diff || plan.changed.iter().any(|changed| changed.edited) {
        write!(out, "{}", diff_of(plan))?;
    }
    Ok(())
}

fn diff_of(plan: &Plan) -> String {
    let format = Format::of(&plan.snapshot.path);
    let mut clean = Shown(Redactor::new(&Settings::default()));
    diff::diff(plan.snapshot.text(), &plan.after, format, plan.found.host, &mut clean)
}

/// What of a file may be shown on a terminal: it ends up in screenshots and bug reports.
struct Shown(Redactor);

impl diff::Clean for Shown {
    fn words(&mut self, words: &[&str]) -> Vec<String> {
        let words: Vec<std::ffi::OsString> = words.iter().map(Into::into).collect();
        self.0.redact_argv(&words).iter().map(|word| word.as_str().to_owned()).collect()
    }

    fn line(&mut self, line: &str) -> String {
        self.0.explain(line.as_bytes()).0.as_str().to_owned()
    }
}

fn confirmed(out: &mut Out<'_>, intent: &Intent) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(hint(anyhow::anyhow!("nobody there to ask"), "add --yes to write, or --dry-run to look"));
    }
    write!(out, "{} these servers? [y/N] ", intent.verb())?;
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

fn carry_out(first: Plan, which: &Which, how: &How, intent: &Intent) -> Result<Plan, String> {
    let host = first.found.host;
    if host.writes_back
        && !how.force
        && let Some(name) = host.processes.iter().find(|name| watched::is_running(name))
    {
        return Err(format!(
            "{name} is running and would write its own version back; quit it, or use --force"
        ));
    }
    let backups = crate::settings::paths::state_dir().map(|folder| folder.join("backups"));
    let mut current = first;
    for _ in 0..ATTEMPTS {
        let done = current
            .snapshot
            .replace(&current.after, backups.as_deref())
            .map_err(|error| error.to_string())?;
        if done == Replaced::Done {
            return Ok(current);
        }
        current = Plan::make(&current.found, which, intent)?;
    }
    Err("the host keeps writing the file; quit it and try again".to_owned())
}
