//! Checks wrapped servers in host config files: that spantap can be started and has this version, that logs
//! go to the folder that reading commands use, and that the host has read the changed file.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;

use crate::cli::Cli;
use crate::cli::doctor::{DoctorFindings, collector};
use crate::cli::wrap::{ServerSelection, host_files};
use crate::hosts::entry::{self, EntryState, ServerEntry};
use crate::hosts::locate::{FileScope, HostFile};
use crate::present::format::plural;
use crate::settings::server_name::spantap_at;
use crate::settings::{ConfigFileError, SettingSources};
use crate::system::files::home;
use crate::system::process::find_program;
use crate::system::processes;

/// How long another spantap may take to print its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks every entry of the user's files and of this folder's project files. `folder` is the folder of
/// session logs that `doctor` checks.
pub(super) fn check(folder: Option<&Path>, asked: &mut BTreeSet<String>, findings: &mut DoctorFindings) {
    let files = host_files(&ServerSelection::everything()).unwrap_or_default();
    let (mut watched, mut plain, mut unsupported) = (0_u64, 0_u64, 0_u64);
    let mut versions = BTreeMap::new();
    for file in &files {
        let root = match file.read() {
            Ok((_, root)) => root,
            Err(reason) => {
                findings.warn(
                    format!("{}'s file {} cannot be read: {reason}", file.host.name, file.path.display()),
                    "fix it; spantap does not change it until then",
                );
                continue;
            }
        };
        let mut here = 0;
        for server in entry::entries(&root, file.host) {
            match &server.state {
                EntryState::Plain => plain += 1,
                EntryState::Wrapped { program, options, .. } | EntryState::ByHand { program, options } => {
                    here += 1;
                    check_program(file, &server, program, &mut versions, findings);
                    check_options(file, &server, options, folder, asked, findings);
                }
                EntryState::Unsupported(_) => unsupported += 1,
                EntryState::Own | EntryState::Remote => {}
            }
        }
        if here > 0 {
            check_restart(file, findings);
        }
        watched += here;
    }
    let not_watched = plain + unsupported;
    match (watched, not_watched) {
        (0, 0) => findings.ok("no host has a local server in a place that `spantap status` looks at"),
        (0, _) => findings.warn(
            format!("none of your hosts' {} is watched", plural(not_watched, "local server")),
            match plain {
                0 => "`spantap wrap` cannot put spantap in front of them; `spantap status` says why",
                _ => "`spantap wrap` puts spantap in front of them",
            },
        ),
        (_, _) => findings.ok(format!(
            "your hosts' servers: {watched} watched, {not_watched} not; `spantap check --all` starts each and \
             measures it"
        )),
    }
}

/// Returns true if a file has an entry that spantap watches.
pub(super) fn are_watched() -> bool {
    let files = host_files(&ServerSelection::everything()).unwrap_or_default();
    files.iter().filter_map(|file| Some((file, file.read().ok()?.1))).any(|(file, root)| {
        entry::entries(&root, file.host).iter().any(|server| server.state.program().is_some())
    })
}

/// Checks that the entry's spantap exists and has this version.
fn check_program(
    file: &HostFile,
    server: &ServerEntry,
    program: &str,
    versions: &mut BTreeMap<PathBuf, Option<String>>,
    findings: &mut DoctorFindings,
) {
    let who = format!("{} server {}", file.host.id, server.name);
    let Some(path) = find_program(program) else {
        let fix = match file.scope {
            FileScope::User => "`spantap wrap` names this spantap instead; `spantap unwrap` removes it",
            FileScope::Project => "put spantap on the PATH that the host has",
        };
        return findings.fail(format!("{who} is wrapped by `{program}`, which cannot be started"), fix);
    };
    // A launcher such as `npx` has a version of its own, and which spantap it starts shows only then.
    if spantap_at(&[program]).is_none() && matches!(server.state, EntryState::ByHand { .. }) {
        return;
    }
    let path = path.canonicalize().unwrap_or(path);
    let ours = std::env::current_exe().and_then(|exe| exe.canonicalize());
    if ours.is_ok_and(|ours| ours == path) {
        return;
    }
    // A cloned repository can name any program.
    if file.scope == FileScope::Project {
        return findings.warn(
            format!(
                "{who} is wrapped by {program}, which is not this spantap; it was not started, because a project's \
                 file names it"
            ),
            "name it `spantap`, and put this spantap first on the PATH that the host has",
        );
    }
    let version = versions.entry(path.clone()).or_insert_with(|| version_of(&path));
    let own = format!("spantap {}", crate::VERSION);
    match version {
        Some(version) if *version == own => {}
        Some(version) if version.starts_with("spantap ") => findings.warn(
            format!("{who} is wrapped by {}, which is {version}; this is {own}", path.display()),
            "install one of them over the other, or unwrap and wrap again",
        ),
        _ => findings.warn(
            format!("{who} is wrapped by {}, which does not report that it is spantap", path.display()),
            "`spantap unwrap`, then `spantap wrap`",
        ),
    }
}

/// Returns the first line that `PROGRAM -V` prints.
fn version_of(program: &Path) -> Option<String> {
    let mut command = Command::new(program);
    command.arg("-V").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let deadline = Instant::now() + VERSION_TIMEOUT;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut printed = String::new();
    child.stdout.take()?.take(4096).read_to_string(&mut printed).ok()?;
    printed.lines().next().map(str::to_owned)
}

/// Checks that `run` accepts the entry's options, that logs go to `folder`, and that the collector can be
/// reached. The host passes on almost nothing of this environment, so none of it is used.
fn check_options(
    file: &HostFile,
    server: &ServerEntry,
    options: &[String],
    folder: Option<&Path>,
    asked: &mut BTreeSet<String>,
    findings: &mut DoctorFindings,
) {
    let who = format!("{} server {}", file.host.id, server.name);
    let line = ["spantap", "run"].into_iter().chain(options.iter().map(String::as_str)).chain(["--", "x"]);
    let args = match Cli::try_parse_from(line) {
        Ok(Cli { command: Some(crate::cli::Command::Run(args)), .. }) => args,
        _ => {
            return findings.fail(
                format!("{who} has options that `spantap run` refuses"),
                "`spantap unwrap`, then `spantap wrap` with the options you want",
            );
        }
    };
    let Some(home) = home::folder() else { return };
    let sources = SettingSources::read(args.given, &|_| None, Some(&home.join(".config/spantap")));
    if let Err(ConfigFileError { path, error }) = sources.file() {
        return findings.fail(
            format!("{who} names config file {}, which cannot be read: {error}", path.display()),
            "fix the file, or wrap again with another --config",
        );
    }
    let config = sources.settings(&server.name);
    // A cloned repository can name any collector, too.
    if file.scope == FileScope::User {
        collector::check(&config, &|_| None, &format!("{who}: "), asked, findings);
    }
    if !config.log.value {
        return findings.warn(format!("{who} writes no log"), "leave --no-log out, or set `log = true`");
    }
    let theirs = config.log_dir.value.unwrap_or_else(|| home.join(".local/state/spantap/sessions"));
    if folder.is_some_and(|folder| folder != theirs) {
        findings.warn(
            format!("{who} writes its log to {}", theirs.display()),
            "set `log_dir` in the config file, so that writers and readers agree",
        );
    }
}

/// Warns if a process of the host is older than its file.
fn check_restart(file: &HostFile, findings: &mut DoctorFindings) {
    let Ok(changed) = file.path.metadata().and_then(|metadata| metadata.modified()) else { return };
    let started = |name: &&str| processes::start_times(name);
    let is_older = |started: SystemTime| started < changed;
    if file.host.processes.iter().flat_map(started).any(is_older) {
        findings.warn(
            format!("{} has been running since before its file was changed", file.host.name),
            format!("if a server was wrapped since: {}", file.host.restart),
        );
    }
}
