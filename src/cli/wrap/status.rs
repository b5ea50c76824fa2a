//! `status`: hosts, their servers, and whether each is watched.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::{Which, can_start, files, label, nowhere};
use crate::cli::Out;
use crate::hosts::entry::{self, State};
use crate::hosts::store::Snapshot;
use crate::hosts::tree::{Format, Node};

#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub which: Which,
    /// One JSON object per server
    #[arg(long)]
    pub json: bool,
    /// Folder of the session logs, for LAST SEEN [default: see spantap doctor]
    #[arg(long, value_name = "DIR", env = "SPANTAP_LOG_DIR")]
    pub log_dir: Option<std::path::PathBuf>,
}

/// What a row says.
struct Row {
    host: &'static str,
    scope: &'static str,
    server: String,
    transport: &'static str,
    watched: &'static str,
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
            return Err(nowhere(&self.which));
        }
        let logs = self.log_dir.clone().or_else(crate::places::sessions_dir);
        let (mut rows, mut broken) = (Vec::new(), Vec::new());
        for found in &files {
            let root = Snapshot::read(&found.path)
                .map_err(|error| error.to_string())
                .and_then(|snapshot| Node::parse(snapshot.text(), Format::of(&snapshot.path)));
            let root = match root {
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
                let (transport, watched) = match &server.state {
                    State::Plain => ("stdio", "no"),
                    State::Wrapped { program, .. } if !can_start(program) => ("stdio", "stale binary"),
                    State::Wrapped { edited: true, .. } => ("stdio", "edited"),
                    State::Wrapped { .. } => ("stdio", "yes"),
                    State::Remote => ("remote", "remote"),
                    State::Unsupported(_) => ("other", "no"),
                };
                let seen = logs.as_deref().and_then(|logs| last_seen(logs, &server.name));
                rows.push(Row {
                    host: found.host.id,
                    scope: found.scope.word(),
                    server: label(&server.name, &server.path),
                    transport,
                    watched,
                    seen,
                });
            }
        }
        if self.json {
            for row in &rows {
                let line = json!({"host": row.host, "scope": row.scope, "server": row.server,
                    "transport": row.transport, "watched": row.watched,
                    "last_seen": row.seen.map(|seen| seen.to_string())});
                writeln!(out, "{line}")?;
            }
            for (found, reason) in &broken {
                writeln!(out, "{}", json!({"host": found.host.id, "file": found.path, "error": reason}))?;
            }
        } else {
            table(out, &rows)?;
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
        [row.host, row.scope, &row.server, row.transport, row.watched, &seen].map(str::to_owned)
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

/// When the newest log of a server was last written to.
fn last_seen(logs: &Path, server: &str) -> Option<Timestamp> {
    let newest = std::fs::read_dir(logs)
        .ok()?
        .flatten()
        .filter(|file| {
            let name = file.file_name();
            let rest = name.to_str().and_then(|name| name.strip_prefix(server)?.strip_prefix('-'));
            rest.is_some_and(starts_with_date)
        })
        .filter_map(|file| file.metadata().ok()?.modified().ok())
        .max()?;
    Timestamp::try_from(newest).ok()
}

/// Whether the rest of a log's name is `YYYY-MM-DD-…`: else it is the log of a server with a longer name.
fn starts_with_date(rest: &str) -> bool {
    let shape = rest.bytes().take(11).map(|byte| if byte.is_ascii_digit() { b'0' } else { byte });
    shape.eq(*b"0000-00-00-")
}
