//! Wrapped servers in host config files: can each be started, is it this version, does it write where
//! somebody looks, and has its host seen the change.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;

use crate::cli::Cli;
use crate::cli::doctor::{Findings, collector};
use crate::cli::wrap::{Which, watched};
use crate::hosts::entry::{self, Entry, State};
use crate::hosts::locate::{Found, Scope};
use crate::present::format::plural;
use crate::settings::{self, Config};
use crate::system::procfs;

/// How long another spantap may take to say its version.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at every entry of the user's files and of this folder's project files; `folder` is where this
/// doctor looks for logs.
pub(super) fn check(folder: Option<&Path>, asked: &mut BTreeSet<String>, findings: &mut Findings) {
    let which = Which { project: true, ..Which::default() };
    let files = crate::cli::wrap::files(&which).unwrap_or_default();
    let (mut watched, mut plain) = (0_u64, 0_u64);
    let mut versions = BTreeMap::new();
    for found in &files {
        let root = match found.parse() {
            Ok(root) => root,
            Err(reason) => {
                findings.warn(
                    format!("{}'s file {} cannot be read: {reason}", found.host.name, found.path.display()),
                    "mend it; spantap leaves it alone until then",
                );
                continue;
            }
        };
        let mut here = 0;
        for server in entry::entries(&root, found.host) {
            match &server.state {
                State::Plain => plain += 1,
                State::Wrapped { program, options, .. } | State::ByHand { program, options } => {
                    here += 1;
                    one(found, &server, program, &mut versions, findings);
                    runs(found, &server, options, folder, asked, findings);
                }
                State::Remote | State::Unsupported(_) => {}
            }
        }
        if here > 0 {
            seen(found, findings);
        }
        watched += here;
    }
    match (watched, plain) {
        (0, 0) => findings.ok("no host has a local server in a place that `spantap status` looks at"),
        (0, _) => findings.warn(
            format!("none of your hosts' {} is watched", plural(plain, "local server")),
            "`spantap wrap` puts spantap in front of them",
        ),
        (_, _) => findings.ok(format!("your hosts' servers: {watched} watched, {plain} not")),
    }
}

/// Whether the entry's spantap is there, and is this version.
fn one(
    found: &Found,
    server: &Entry,
    program: &str,
    versions: &mut BTreeMap<PathBuf, Option<String>>,
    findings: &mut Findings,
) {
    let who = format!("{} server {}", found.host.id, server.name);
    let Some(path) = watched::resolve(program) else {
        let fix = match found.scope {
            Scope::User => "`spantap wrap` names this spantap instead; `spantap unwrap` takes it out",
            Scope::Project => "put spantap on the PATH that the host has",
        };
        return findings.fail(format!("{who} is wrapped by `{program}`, which cannot be started"), fix);
    };
    let path = path.canonicalize().unwrap_or(path);
    let ours = std::env::current_exe().and_then(|exe| exe.canonicalize());
    if ours.is_ok_and(|ours| ours == path) {
        return;
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
            format!("{who} is wrapped by {}, which does not say that it is spantap", path.display()),
            "`spantap unwrap`, then `spantap wrap`",
        ),
    }
}

/// What `PROGRAM -V` says first.
fn version_of(program: &Path) -> Option<String> {
    let mut command = Command::new(program);
    command.arg("-V").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let deadline = Instant::now() + PATIENCE;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut said = String::new();
    child.stdout.take()?.take(4096).read_to_string(&mut said).ok()?;
    said.lines().next().map(str::to_owned)
}

/// Whether the entry runs as it should, writes its logs where the reading commands look, and reaches its
/// collector: its host starts it with next to nothing of this environment.
fn runs(
    found: &Found,
    server: &Entry,
    options: &[String],
    folder: Option<&Path>,
    asked: &mut BTreeSet<String>,
    findings: &mut Findings,
) {
    let who = format!("{} server {}", found.host.id, server.name);
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
    let Ok(home) = etcetera::home_dir() else { return };
    let path = settings::file_path(&args, &|_| None, Some(&home.join(".config/spantap")));
    let file = match settings::read(path.as_deref(), &args, &|_| None) {
        Ok(file) => file,
        Err(error) => {
            let path = path.unwrap_or_default();
            return findings.fail(
                format!("{who} names config file {}, which cannot be read: {error}", path.display()),
                "mend the file, or wrap again with another --config",
            );
        }
    };
    let config = Config::resolve(&args, &|_| None, file.as_ref(), &server.name);
    collector(&config, &|_| None, &format!("{who}: "), asked, findings);
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

/// Whether a process of the host is older than its file.
fn seen(found: &Found, findings: &mut Findings) {
    let Ok(changed) = found.path.metadata().and_then(|metadata| metadata.modified()) else { return };
    let started = |name: &&str| procfs::start_times(name);
    let is_older = |started: SystemTime| started < changed;
    if found.host.processes.iter().flat_map(started).any(is_older) {
        findings.warn(
            format!("{} has been running since before its file was changed", found.host.name),
            format!("if a server was wrapped since: {}", found.host.restart),
        );
    }
}
