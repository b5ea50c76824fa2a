//! `status`: hosts, their servers, and whether each is watched.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use crate::cli::wrap::watched::can_start;
use crate::cli::wrap::{Which, files, label, nowhere};
use crate::cli::{Out, hint, keep};
use crate::export::log::{is_session_file, server_part};
use crate::hosts::entry::{self, State};
use crate::hosts::locate::Scope;

#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 all is as it should be; 1 a watched entry names a spantap that is gone, a file
cannot be read, or there is none, or no such server; 2 usage."
)]
pub struct StatusArgs {
    #[command(flatten)]
    pub which: Which,
    /// One JSON object per server
    #[arg(long)]
    pub json: bool,
    /// Folder of the session logs, for LAST SEEN [default: see spantap doctor]
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
}

/// What a row says.
struct Row {
    host: &'static str,
    scope: &'static str,
    server: String,
    transport: &'static str,
    watched: &'static str,
    disabled: bool,
    /// Why it is not watched, or what is wrong with it.
    note: Option<String>,
    seen: Option<Timestamp>,
}

impl StatusArgs {
    /// Prints a row for each server; exit status 1 if an entry or a file is broken.
    ///
    /// # Errors
    /// When no config file is found.
    pub fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let files = files(&self.which)?;
        if files.is_empty() {
            return Err(nowhere(&self.which, "status"));
        }
        let logs = keep::folder(self.log_dir.clone()).ok().flatten();
        let (mut rows, mut broken) = (Vec::new(), Vec::new());
        let mut names = BTreeSet::new();
        for found in &files {
            let root = match found.parse() {
                Ok(root) => root,
                Err(reason) => {
                    broken.push((found, reason));
                    continue;
                }
            };
            for server in entry::entries(&root, found.host) {
                if !self.which.servers.is_empty() && !self.which.servers.contains(&server.name) {
                    continue;
                }
                names.insert(server.name.clone());
                let (transport, watched, note) = match &server.state {
                    State::Plain => ("stdio", "no", None),
                    State::Wrapped { program, .. } | State::ByHand { program, .. } if !can_start(program) => {
                        let fix = match found.scope {
                            Scope::User => "`spantap wrap` names this spantap instead",
                            Scope::Project => "put spantap on the PATH",
                        };
                        ("stdio", "stale binary", Some(format!("`{program}` is not there; {fix}")))
                    }
                    State::Wrapped { edited: true, .. } => {
                        let note =
                            "its command was changed by hand since it was wrapped; that is what is watched";
                        ("stdio", "edited", Some(note.to_owned()))
                    }
                    State::Wrapped { .. } => ("stdio", "yes", None),
                    State::ByHand { .. } => ("stdio", "yes", Some("put in by hand".to_owned())),
                    State::Remote => ("remote", "remote", None),
                    State::Unsupported(reason) => ("other", "no", Some((*reason).to_owned())),
                };
                let own = match &server.state {
                    State::Wrapped { options, .. } | State::ByHand { options, .. } => log_dir_of(options),
                    _ => None,
                };
                let seen = own.as_deref().or(logs.as_deref()).and_then(|logs| last_seen(logs, &server.name));
                rows.push(Row {
                    host: found.host.id,
                    scope: found.scope.word(),
                    server: label(&server.name, &server.path),
                    transport,
                    watched,
                    disabled: server.disabled,
                    note,
                    seen,
                });
            }
        }
        let missing = self.which.servers.iter().find(|name| !names.contains(*name));
        if let (Some(name), true) = (missing, broken.is_empty()) {
            return Err(hint(anyhow::anyhow!("no server is called `{name}`"), "`spantap status` lists them"));
        }
        if self.json {
            for row in &rows {
                let line = json!({"host": row.host, "scope": row.scope, "server": row.server,
                    "transport": row.transport, "watched": row.watched, "disabled": row.disabled,
                    "note": row.note, "last_seen": row.seen.map(|seen| seen.to_string())});
                writeln!(out, "{line}")?;
            }
            for (found, reason) in &broken {
                writeln!(out, "{}", json!({"host": found.host.id, "file": found.path, "error": reason}))?;
            }
        } else {
            if !rows.is_empty() {
                table(out, &rows)?;
            }
            for row in &rows {
                if let Some(note) = &row.note {
                    writeln!(out, "{} {}: {note}", row.host, row.server)?;
                }
            }
            if rows.is_empty() && broken.is_empty() {
                writeln!(out, "no server in these files:")?;
                files.iter().try_for_each(|found| writeln!(out, "  {}", found.path.display()))?;
            }
            for (found, reason) in &broken {
                writeln!(out, "{}: {}: {reason}", found.host.id, found.path.display())?;
            }
        }
        let is_stale = rows.iter().any(|row| row.watched == "stale binary");
        Ok(if is_stale || !broken.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn table(out: &mut Out<'_>, rows: &[Row]) -> anyhow::Result<()> {
    let heads = ["HOST", "SCOPE", "SERVER", "TRANSPORT", "WATCHED", "LAST SEEN"].map(str::to_owned);
    let cells = rows.iter().map(|row| {
        let seen =
            row.seen.map_or_else(|| "-".to_owned(), |seen| seen.strftime("%Y-%m-%d %H:%M UTC").to_string());
        let server = if row.disabled { format!("{} (disabled)", row.server) } else { row.server.clone() };
        [row.host, row.scope, &server, row.transport, row.watched, &seen].map(str::to_owned)
    });
    let lines: Vec<[String; 6]> = std::iter::once(heads).chain(cells).collect();
    for line in &lines {
        let mut text = String::new();
        for (column, cell) in line.iter().enumerate() {
            let width = lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
            text.push_str(&format!("{cell:<width$}  "));
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

/// The folder that an entry's own options name.
fn log_dir_of(options: &[String]) -> Option<PathBuf> {
    let at = options.iter().position(|word| word == "--log-dir" || word.starts_with("--log-dir="))?;
    let folder = match options[at].split_once('=') {
        Some((_, folder)) => folder,
        None => options.get(at + 1)?,
    };
    Some(PathBuf::from(folder))
}

/// When the newest log of a server was last written to.
fn last_seen(logs: &Path, server: &str) -> Option<Timestamp> {
    let server = server_part(server);
    let newest = std::fs::read_dir(logs)
        .ok()?
        .flatten()
        .filter(|file| {
            let name = file.file_name();
            let name = name.to_str().filter(|name| is_session_file(name));
            let rest = name.and_then(|name| name.strip_prefix(&server)?.strip_prefix('-'));
            // Else it is the log of a server with a longer name.
            rest.is_some_and(|rest| is_session_file(&format!("x-{rest}")) && !is_session_file(rest))
        })
        .filter_map(|file| file.metadata().ok()?.modified().ok())
        .max()?;
    Timestamp::try_from(newest).ok()
}
