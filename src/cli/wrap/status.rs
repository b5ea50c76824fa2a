//! `status`: hosts, their servers, and whether each is watched.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use crate::cli::wrap::programs::can_start;
use crate::cli::wrap::{Failures, ServerSelection, host_files, label, no_file, printable_path};
use crate::cli::{Out, help, log_folder, redacted, write_json};
use crate::hosts::entry::{self, EntryState, ServerEntry};
use crate::hosts::locate::{FileScope, HostFile};
use crate::present::Printable;
use crate::present::table::{Cell, Column, Table, Terminal};
use crate::record::file_name::{SessionFileName, server_part};

#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 no problem found; 1 a watched entry names a spantap that is gone, a file
cannot be read, or no file or no such server is found; 2 usage."
)]
pub struct StatusArgs {
    #[command(flatten)]
    selection: ServerSelection,
    /// Print one JSON object per server
    #[arg(long)]
    json: bool,
    #[arg(long, value_name = "DIR", help = help::of("log_dir"))]
    log_dir: Option<PathBuf>,
}

struct StatusRow {
    host: &'static str,
    scope: &'static str,
    name: String,
    label: String,
    transport: &'static str,
    watched: &'static str,
    disabled: bool,
    /// The reason why the server is not watched, or a problem with its entry.
    note: Option<String>,
    last_seen: Option<Timestamp>,
}

impl StatusArgs {
    /// Prints a row for each server; exit status 1 if an entry or a file is broken.
    pub(crate) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let files = host_files(&self.selection)?;
        if files.is_empty() {
            return Err(no_file(&self.selection, "status"));
        }
        let (rows, failures) = self.collect(&files);
        if failures.is_empty() {
            self.selection.check_names(rows.iter().map(|row| &row.name))?;
        }
        match self.json {
            true => print_json(out, &rows, &failures)?,
            false => print(out, &rows, &failures, &files)?,
        }
        let is_stale = rows.iter().any(|row| row.watched == "stale binary");
        Ok(if is_stale || !failures.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn collect(&self, files: &[HostFile]) -> (Vec<StatusRow>, Failures) {
        let logs = log_folder(self.log_dir.clone()).ok().flatten();
        let (mut rows, mut failures) = (Vec::new(), Vec::new());
        for file in files {
            match file.read() {
                Ok((_, root)) => rows.extend(
                    entry::entries(&root, file.host)
                        .into_iter()
                        .filter(|server| self.selection.takes(&server.name))
                        .map(|server| StatusRow::new(file, server, logs.as_deref())),
                ),
                Err(reason) => failures.push((file.clone(), reason)),
            }
        }
        (rows, failures)
    }
}

impl StatusRow {
    fn new(file: &HostFile, server: ServerEntry, logs: Option<&Path>) -> StatusRow {
        let (transport, watched, note) = describe(&server.state, file.scope);
        let own = server.state.option("--log-dir").map(PathBuf::from);
        StatusRow {
            host: file.host.id,
            scope: file.scope.as_str(),
            label: label(&server.name, &server.path),
            transport,
            watched,
            disabled: server.disabled,
            note: note.map(|note| redacted(&note).to_string()),
            last_seen: own.as_deref().or(logs).and_then(|logs| last_seen(logs, &server.name)),
            name: server.name,
        }
    }
}

/// Returns the transport, whether the server is watched, and a note.
fn describe(state: &EntryState, scope: FileScope) -> (&'static str, &'static str, Option<String>) {
    match state {
        EntryState::Plain => ("stdio", "no", None),
        EntryState::Wrapped { program, .. } | EntryState::ByHand { program, .. } if !can_start(program) => {
            let fix = match scope {
                FileScope::User => "`spantap wrap` names this spantap instead",
                FileScope::Project => "put spantap on the PATH",
            };
            ("stdio", "stale binary", Some(format!("`{program}` does not exist; {fix}")))
        }
        EntryState::Wrapped { edited: true, .. } => {
            let note = "its command was changed by hand after `wrap`; the changed command is watched";
            ("stdio", "edited", Some(note.to_owned()))
        }
        EntryState::Wrapped { .. } => ("stdio", "yes", None),
        EntryState::ByHand { .. } => ("stdio", "yes", Some("put in by hand".to_owned())),
        EntryState::Remote => ("remote", "remote", None),
        EntryState::Unsupported(reason) => ("other", "no", Some((*reason).to_owned())),
    }
}

fn print_json(out: &mut Out<'_>, rows: &[StatusRow], failures: &Failures) -> anyhow::Result<()> {
    for row in rows {
        let line = json!({"host": row.host, "scope": row.scope, "server": row.label,
            "transport": row.transport, "watched": row.watched, "disabled": row.disabled,
            "note": row.note, "last_seen": row.last_seen.map(|seen| seen.to_string())});
        write_json(out, &line)?;
    }
    for (file, reason) in failures {
        write_json(out, &json!({"host": file.host.id, "file": file.path, "error": reason}))?;
    }
    Ok(())
}

fn print(
    out: &mut Out<'_>,
    rows: &[StatusRow],
    failures: &Failures,
    files: &[HostFile],
) -> anyhow::Result<()> {
    if !rows.is_empty() {
        // Not cut to the terminal: a name that is cut cannot be given to `wrap`.
        let terminal = Terminal { width: usize::MAX, unicode: true, zone: TimeZone::UTC, warn: 0 };
        table(rows).write(out, &terminal)?;
    }
    for row in rows {
        if let Some(note) = &row.note {
            writeln!(out, "{} {}: {}", row.host, Printable::new(&row.label), Printable::new(note))?;
        }
    }
    if rows.is_empty() && failures.is_empty() {
        writeln!(out, "no server in these files:")?;
        files.iter().try_for_each(|file| writeln!(out, "  {}", printable_path(&file.path)))?;
    }
    for (file, reason) in failures {
        writeln!(out, "{}: {}: {}", file.host.id, printable_path(&file.path), Printable::new(reason))?;
    }
    Ok(())
}

fn table(rows: &[StatusRow]) -> Table {
    let titles = ["HOST", "SCOPE", "SERVER", "TRANSPORT", "WATCHED", "LAST SEEN"];
    let cells = |row: &StatusRow| {
        let disabled = if row.disabled { " (disabled)" } else { "" };
        let last_seen = row
            .last_seen
            .map_or_else(|| "-".to_owned(), |seen| seen.strftime("%Y-%m-%d %H:%M UTC").to_string());
        let server = format!("{}{disabled}", row.label);
        [row.host, row.scope, &server, row.transport, row.watched, &last_seen]
            .map(|text| Cell::from(Printable::new(text)))
            .to_vec()
    };
    Table {
        columns: titles.map(|title| Column::left(title, 0)).to_vec(),
        rows: rows.iter().map(cells).collect(),
    }
}

/// Returns when the newest log of a server was last written.
fn last_seen(logs: &Path, server: &str) -> Option<Timestamp> {
    let server = server_part(server);
    let newest = std::fs::read_dir(logs)
        .ok()?
        .flatten()
        .filter(|file| {
            let name = file.file_name().to_str().and_then(SessionFileName::parse);
            name.is_some_and(|name| name.server == server)
        })
        .filter_map(|file| file.metadata().ok()?.modified().ok())
        .max()?;
    Timestamp::try_from(newest).ok()
}
