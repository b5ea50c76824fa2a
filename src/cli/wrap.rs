//! `wrap`, `unwrap`, `status`: puts the proxy into hosts' config files, removes it, and reports where it is.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsString;
use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::cli::selection::{ColorArgs, note};
use crate::cli::{Out, exit_with, hint, redacted};
use crate::hosts::backup_folder::EditFolder;
use crate::hosts::diff::DiffRedactor;
use crate::hosts::entry::{self, PathStep, ServerEntry};
use crate::hosts::locate::{self, FileScope, HostFile, SearchContext};
use crate::hosts::own_entry;
use crate::hosts::replace::ReplaceOutcome;
use crate::hosts::store::FileSnapshot;
use crate::hosts::table::{self, HOSTS, Host};
use crate::hosts::tree::{FileFormat, Node};
use crate::observe::redact::Redactor;
use crate::present::Printable;
use crate::system::files::home;

mod options;
mod plan;
mod print;
pub(crate) mod programs;
mod status;

use plan::{FilePlan, WrapAction};
use print::Answer;
pub use status::StatusArgs;

/// Selection of host files and servers.
#[derive(Clone, Debug, Default, Args)]
pub struct ServerSelection {
    /// Only these servers [default: every local (stdio) server found]
    #[arg(value_name = "SERVER")]
    servers: Vec<String>,
    /// Only servers of this host; repeatable
    #[arg(long = "host", value_name = "HOST", value_parser = PossibleValuesParser::new(HOSTS.iter().map(|host| host.id)))]
    hosts: Vec<String>,
    /// A host's config file in an unusual place; --host names its format if the file does not show it
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Also project files of the current folder (.mcp.json, .vscode/mcp.json, ...)
    #[arg(long)]
    project: bool,
    /// The entries that the user picked from the list.
    #[arg(skip)]
    picked: Option<PickedEntries>,
}

/// Entries: the file, the steps to the entry, and its name. A host may change its file meanwhile.
type PickedEntries = Vec<(PathBuf, (Vec<PathStep>, String))>;

impl ServerSelection {
    /// All servers of the user's files and of this folder's project files.
    pub(crate) fn everything() -> ServerSelection {
        ServerSelection { project: true, ..ServerSelection::default() }
    }

    /// The servers of these hosts, or of a file.
    pub(crate) fn of(hosts: Vec<String>, file: Option<PathBuf>, project: bool) -> ServerSelection {
        ServerSelection { hosts, file, project, ..ServerSelection::default() }
    }

    fn takes(&self, server: &str) -> bool {
        self.servers.is_empty() || self.servers.iter().any(|name| name == server)
    }

    fn takes_entry(&self, file: &HostFile, server: &ServerEntry) -> bool {
        let entry = || (file.path.clone(), (server.path.clone(), server.name.clone()));
        self.takes(&server.name) && self.picked.as_ref().is_none_or(|picked| picked.contains(&entry()))
    }

    /// Returns true if spantap's own entry may be added to the file or removed from it.
    fn takes_own(&self, file: &HostFile, path: &[PathStep]) -> bool {
        let entry = || (file.path.clone(), (path.to_owned(), own_entry::NAME.to_owned()));
        self.picked.as_ref().is_none_or(|picked| picked.contains(&entry()))
    }

    /// Checks that every server named on the command line is among `found`.
    fn check_names<'a>(&self, found: impl Iterator<Item = &'a String> + Clone) -> anyhow::Result<()> {
        match self.servers.iter().find(|name| !found.clone().any(|known| known == *name)) {
            Some(name) => {
                Err(hint(anyhow::anyhow!("no server is called `{name}`"), "`spantap status` lists them"))
            }
            None => Ok(()),
        }
    }
}

#[derive(Debug, Args)]
pub struct WriteOptions {
    /// Show the changes as a diff and write nothing
    #[arg(long, short_alias = 'n')]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Report as JSON; writes only with --yes
    #[arg(long)]
    json: bool,
    /// Write even if a running host may overwrite the file
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pub(super) color: ColorArgs,
}

/// Meanings of the exit statuses.
const STATUSES: &str = "\
Exit status: 0 done, or nothing to do; 1 a file was left alone, a file or server was not found,
or the change was not confirmed; 2 usage.";

#[derive(Debug, Args)]
#[command(after_help = STATUSES)]
pub struct WrapArgs {
    #[command(flatten)]
    selection: ServerSelection,
    #[command(flatten)]
    pub(super) options: WriteOptions,
    /// Also add 'spantap mcp', a server through which the agent asks about its own calls; 'unwrap' removes it
    #[arg(long)]
    with_self: bool,
    /// Passed on to 'spantap run' in every wrapped entry
    #[arg(last = true, value_name = "RUN OPTIONS")]
    run_options: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = STATUSES)]
pub struct UnwrapArgs {
    #[command(flatten)]
    selection: ServerSelection,
    #[command(flatten)]
    pub(super) options: WriteOptions,
    /// User files and project files of the current folder, every server
    #[arg(long, conflicts_with_all = ["servers", "file"])]
    all: bool,
}

impl WrapArgs {
    /// Puts the proxy in front of the selected servers.
    pub(crate) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        options::check(&self.run_options)?;
        let inherited = options::inherited(&self.run_options);
        options::check(&inherited)?;
        let action = WrapAction::Wrap { inherited, given: self.run_options, with_self: self.with_self };
        change(out, &self.selection, &self.options, &action)
    }
}

impl UnwrapArgs {
    /// Removes the proxy from the selected servers.
    pub(crate) fn run(mut self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        self.selection.project |= self.all;
        change(out, &self.selection, &self.options, &WrapAction::Unwrap)
    }
}

fn search_context(environment: &dyn Fn(&str) -> Option<String>, project: bool) -> SearchContext<'_> {
    let home = environment(home::VARIABLE).map(PathBuf::from);
    SearchContext { home, environment, project: project.then(|| std::env::current_dir().ok()).flatten() }
}

/// Returns the selected files that exist.
pub(super) fn host_files(selection: &ServerSelection) -> anyhow::Result<Vec<HostFile>> {
    if let Some(path) = &selection.file {
        return named_file(path, &selection.hosts).map(|file| vec![file]);
    }
    let environment = crate::settings::process_variable;
    let mut places: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let mut files: Vec<HostFile> = Vec::new();
    for file in locate::files(&search_context(&environment, selection.project), &selection.hosts) {
        let target = file.path.canonicalize().unwrap_or_else(|_| file.path.clone());
        match places.entry(target) {
            Entry::Vacant(place) => {
                place.insert(files.len());
                files.push(file);
            }
            // Several hosts have a file of this name, and its content decides. In the home folder a project's
            // file can be the user's own.
            Entry::Occupied(place) => {
                let first = &mut files[*place.get()];
                if let Ok((_, root)) = first.read()
                    && !entry::has_server(&root, first.host)
                    && entry::has_server(&root, file.host)
                {
                    *first = file;
                }
            }
        }
    }
    Ok(files)
}

/// Returns the file that `--file` names, with its host.
fn named_file(path: &Path, hosts: &[String]) -> anyhow::Result<HostFile> {
    if let Some(what) = locate::other_than_file(path) {
        anyhow::bail!("`{}` is {what}", path.display());
    }
    File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let content = FileSnapshot::read(path).map_err(|error| error.to_string()).and_then(|snapshot| {
        let format = FileFormat::of(&snapshot.path);
        Ok((format, Node::parse(snapshot.text(), format)?))
    });
    // A file that cannot be parsed is reported later, if its host is known.
    let (content, reason) = match content {
        Ok(content) => (Some(content), None),
        Err(reason) => (None, Some(reason)),
    };
    let host = match hosts {
        [id] => table::host(id)
            .filter(|host| content.as_ref().is_none_or(|(_, root)| entry::has_list(root, host))),
        [] => host_of(path, content.as_ref()),
        _ => {
            let error = anyhow::anyhow!("--file needs exactly one host, whose format the file has");
            return Err(exit_with(2, error, "give --host once, or not at all"));
        }
    };
    let host = host.ok_or_else(|| {
        hint(
            match reason {
                Some(reason) => anyhow::anyhow!("cannot read `{}`: {reason}", path.display()),
                None => anyhow::anyhow!("no list of servers found in `{}`", path.display()),
            },
            "name the host of the file: --host HOST; `spantap wrap --help` lists the hosts",
        )
    })?;
    Ok(HostFile { host, scope: scope_of(host, path), path: path.to_owned() })
}

/// Returns the host whose format a file has: a host of a file with this name, or else any, if the file has a
/// server where that host looks for it; or else one that finds an empty list.
fn host_of(path: &Path, content: Option<&(FileFormat, Node)>) -> Option<&'static Host> {
    let has_name = |host: &&Host| {
        let below_home = host.user_files.iter().filter_map(|place| {
            let base = if place.starts_with('{') { "}/" } else { "/" };
            place.split_once(base).map(|(_, rest)| rest)
        });
        below_home.chain(host.project_files.iter().copied()).any(|place| path.ends_with(place))
    };
    let Some((format, root)) = content else { return HOSTS.iter().find(has_name) };
    let has_format = |host: &&Host| {
        let mut places = host.user_files.iter().chain(host.project_files);
        places.any(|place| FileFormat::of(Path::new(place)) == *format)
    };
    // The last row is any other program that reads an `mcpServers` file, which is JSON.
    let other = HOSTS.last().filter(|_| *format == FileFormat::Json);
    let candidates: Vec<&'static Host> =
        HOSTS.iter().filter(has_name).chain(other).chain(HOSTS.iter().filter(has_format)).collect();
    let find = |fits: fn(&Node, &Host) -> bool| candidates.iter().find(|host| fits(root, host)).copied();
    find(entry::has_server).or_else(|| find(entry::has_list))
}

/// Returns the scope of a file that `--file` names. A project's file is treated as with `--project`.
fn scope_of(host: &'static Host, path: &Path) -> FileScope {
    let environment = crate::settings::process_variable;
    let users = locate::places(&search_context(&environment, false), &[host.id.to_owned()]);
    let is_same = |file: &HostFile| file.path.canonicalize().ok() == path.canonicalize().ok();
    let has_project_name = || {
        std::path::absolute(path)
            .is_ok_and(|path| host.project_files.iter().any(|place| path.ends_with(place)))
    };
    if !users.iter().any(is_same) && has_project_name() { FileScope::Project } else { FileScope::User }
}

/// Returns the error for a selection without files: the searched paths, and a hint for `command`.
pub(super) fn no_file(selection: &ServerSelection, command: &str) -> anyhow::Error {
    let environment = crate::settings::process_variable;
    let places = locate::places(&search_context(&environment, selection.project), &selection.hosts);
    let mut text = String::from("no config file of a host found; searched:");
    let mut last = "";
    for place in &places {
        // A host with several places is named once.
        let name = if place.host.id == last { "" } else { place.host.id };
        text.push_str(&format!("\n  {name:<15} {}", printable_path(&place.path)));
        last = place.host.id;
    }
    let more = if selection.project {
        "without a file: put `spantap --` in front of the server's command".to_owned()
    } else {
        format!("the files of this folder: spantap {command} --project")
    };
    let hint_text = format!("a file in another place: spantap {command} --file FILE; {more}");
    hint(anyhow::anyhow!(text), hint_text)
}

/// Returns a path with the home folder as `~`.
pub(super) fn printable_path(path: &Path) -> Printable {
    Printable::from(crate::settings::paths::home_as_tilde(path))
}

/// Prints a note about a file that cannot be read. It is not a failure of servers that the user named.
pub(super) fn note_unread(file: &HostFile, reason: &str) {
    let path = printable_path(&file.path);
    note(&format!("{}: {path} cannot be read, so its servers are left out: {reason}", file.host.id));
}

/// Returns the program by which entries of a scope name the proxy.
fn program(scope: FileScope) -> anyhow::Result<String> {
    if scope == FileScope::Project {
        return Ok("spantap".to_owned());
    }
    let exe = std::env::current_exe()?;
    // A link on the PATH outlives an upgrade; the file that it points to may not.
    let on_path = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path)
            .map(|folder| folder.join(format!("spantap{}", std::env::consts::EXE_SUFFIX)))
            .find(|file| file.is_absolute() && file.canonicalize().ok() == exe.canonicalize().ok())
    });
    let path = on_path.unwrap_or(exe);
    path.to_str().map(str::to_owned).ok_or_else(|| anyhow::anyhow!("the path of spantap itself is not UTF-8"))
}

/// Warns if a launcher started spantap from its cache: the changed entries do not start their servers later.
fn note_launcher(plans: &[FilePlan]) -> anyhow::Result<()> {
    let Some((launcher, install)) = programs::launcher_of(&std::env::current_exe()?) else { return Ok(()) };
    let has_changes = |scope| plans.iter().any(|plan| plan.file.scope == scope && !plan.changes.is_empty());
    if has_changes(FileScope::User) {
        note(&format!(
            "spantap runs from the cache of {launcher}, and entries would name its file there; when {launcher} \
             deletes it, their servers do not start. Install spantap first: {install}"
        ));
    } else if has_changes(FileScope::Project) {
        note(&format!(
            "spantap runs from the cache of {launcher}, and entries of a project start the spantap on the PATH, where \
             this one is only while {launcher} runs it; without another, their servers do not start. Install \
             spantap first: {install}"
        ));
    }
    Ok(())
}

/// Returns the server's name, followed by the project if one file has the servers of several.
pub(super) fn label(name: &str, path: &[PathStep]) -> String {
    match path {
        [PathStep::Key(first), PathStep::Key(project), ..] if first == "projects" => {
            redacted(&format!("{name} ({project})")).to_string()
        }
        _ => redacted(name).to_string(),
    }
}

/// Files that are left alone, with the reason.
type Failures = Vec<(HostFile, String)>;

/// Runs `wrap` or `unwrap`: collects a plan for each file, decides whether to write, writes, and reports.
fn change(
    out: &mut Out<'_>,
    selection: &ServerSelection,
    options: &WriteOptions,
    action: &WrapAction,
) -> anyhow::Result<ExitCode> {
    let files = host_files(selection)?;
    edit_folder().into_iter().for_each(EditFolder::clean);
    if files.is_empty() {
        return without_files(out, selection, action);
    }
    let mut selection = selection.clone();
    let (mut plans, mut failures) = collect(files, &selection, action)?;
    let has_changes = plans.iter().any(|plan| !plan.changes.is_empty());
    if matches!(action, WrapAction::Wrap { .. }) {
        note_launcher(&plans)?;
    }
    let is_refused = plans.iter().any(|plan| plan.refused);
    let mut writes = has_changes && !options.dry_run && options.yes;
    let asks = has_changes && !options.dry_run && !options.yes && !options.json;
    let with_diff = options.dry_run || asks && !std::io::stdin().is_terminal();
    let mut printed = match options.json {
        true => Ok(()),
        false => print::plans(out, &plans, action, asks, with_diff),
    };
    if asks {
        // A change that could not be shown is not confirmed.
        printed?;
        printed = Ok(());
        (writes, plans) = asked(out, &mut selection, action, plans)?;
    }
    let mut done = Vec::new();
    // With --yes every file is written, even if the reader of the output is gone.
    for plan in plans {
        let (file, writes) = (plan.file.clone(), writes && !plan.changes.is_empty());
        match if writes { write(plan, &selection, options, action) } else { Ok(plan) } {
            Ok(plan) => {
                if writes && !options.json && printed.is_ok() {
                    printed = print::next_step(out, &plan);
                }
                let is_written = writes && !plan.changes.is_empty();
                done.push((plan, is_written));
            }
            Err(reason) => failures.push((file, reason)),
        }
    }
    if printed.is_err() && !failures.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    printed?;
    match options.json {
        true => print::json(out, &done, &failures, options.dry_run)?,
        false => print::failures(out, &failures)?,
    }
    if !options.json && !has_changes && failures.is_empty() && !is_refused {
        print::nothing(out, &done)?;
    }
    let is_done = failures.is_empty() && !is_refused && (writes || !has_changes || options.dry_run);
    Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Ends without a file: nothing is to be unwrapped, or the selection is wrong.
fn without_files(
    out: &mut Out<'_>,
    selection: &ServerSelection,
    action: &WrapAction,
) -> anyhow::Result<ExitCode> {
    if matches!(action, WrapAction::Wrap { .. }) || !selection.hosts.is_empty() {
        return Err(no_file(selection, action.command()));
    }
    writeln!(out, "nothing to do: no host has a config file here")?;
    Ok(ExitCode::SUCCESS)
}

/// Asks until the user agrees or refuses. Returns true for consent, and the plans of the servers that were picked,
/// which `selection` has afterwards.
fn asked(
    out: &mut Out<'_>,
    selection: &mut ServerSelection,
    action: &WrapAction,
    mut plans: Vec<FilePlan>,
) -> anyhow::Result<(bool, Vec<FilePlan>)> {
    loop {
        match print::ask(out, action, &plans)? {
            Answer::Yes => return Ok((true, plans)),
            Answer::No => return Ok((false, plans)),
            Answer::Pick(picked) => {
                selection.picked = Some(picked);
                let files = plans.into_iter().map(|plan| plan.file).collect();
                plans = collect(files, selection, action)?.0;
                print::plans(out, &plans, action, true, false)?;
            }
        }
    }
}

/// Makes a plan for each file.
///
/// # Errors
/// A server that the user named is not in the files that can be read.
fn collect(
    files: Vec<HostFile>,
    selection: &ServerSelection,
    action: &WrapAction,
) -> anyhow::Result<(Vec<FilePlan>, Failures)> {
    let (mut plans, mut failures) = (Vec::new(), Vec::new());
    for file in files {
        match FilePlan::make(&file, selection, action) {
            Ok(plan) => plans.push(plan),
            Err(reason) if !selection.servers.is_empty() && file.read().is_err() => {
                note_unread(&file, &reason);
            }
            Err(reason) => failures.push((file, reason)),
        }
    }
    if failures.is_empty() {
        selection.check_names(plans.iter().flat_map(|plan| &plan.names))?;
    }
    Ok((plans, failures))
}

/// How long a plan is made anew because the host writes its file meanwhile.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// Returns the folder of backups and temporary files.
fn edit_folder() -> Option<PathBuf> {
    crate::settings::paths::state_dir().map(|folder| folder.join("backups"))
}

/// Writes the file of a plan; returns the plan that was written.
fn write(
    first: FilePlan,
    selection: &ServerSelection,
    options: &WriteOptions,
    action: &WrapAction,
) -> Result<FilePlan, String> {
    let host = first.file.host;
    if host.writes_back
        && !options.force
        && let Some(name) = host.processes.iter().find(|name| programs::is_running(name))
    {
        return Err(format!(
            "{name} is running and would write its own version back; quit it, or use --force"
        ));
    }
    let folder = edit_folder().map(EditFolder::open).transpose().map_err(|error| error.to_string())?;
    let mut current = first;
    let deadline = Instant::now() + PATIENCE;
    // A file that the host has changed may need no change any more.
    while !current.changes.is_empty() {
        let outcome = current.snapshot.replace(&current.after, folder.as_ref());
        if outcome.map_err(|error| error.to_string())? == ReplaceOutcome::Done {
            break;
        }
        if Instant::now() >= deadline {
            return Err(
                "a program writes the file or keeps it open for writing; quit it and try again".to_owned()
            );
        }
        std::thread::sleep(PAUSE);
        current = FilePlan::make(&current.file, selection, action)?;
    }
    Ok(current)
}

/// A diff ends up in screenshots and bug reports: it is redacted and printable.
impl DiffRedactor for Redactor {
    fn words(&mut self, words: &[&str]) -> Vec<String> {
        let words: Vec<OsString> = words.iter().map(Into::into).collect();
        self.redact_argv(&words).iter().map(|word| word.as_str().to_owned()).collect()
    }

    fn line(&mut self, line: &str) -> String {
        self.explain(line.as_bytes()).0.as_str().to_owned()
    }

    fn name(&mut self, name: &str) -> String {
        Printable::new(redacted(name).as_str()).to_string()
    }
}
