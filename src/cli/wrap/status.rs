//! `status`: hosts, their servers, and whether each is watched.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::collect::{CollectorNote, last_run};
use crate::cli::selection::{self, ColorArgs};
use crate::cli::wrap::programs::can_start;
use crate::cli::wrap::{Failures, ServerSelection, host_files, label, no_file, note_unread, printable_path};
use crate::cli::{Out, help, log_folder, redacted, write_json};
use crate::hosts::entry::{self, EntryState, PathStep, ServerEntry};
use crate::hosts::locate::{FileScope, HostFile};
use crate::hosts::splice::ORIGIN;
use crate::present::table::{Cell, Column, Table, Terminal, Tone};
use crate::present::{Printable, status_line};
use crate::query::attention::Attention;
use crate::query::last_seen::{self, EntryPlace, LastSeen, SeenBy, SeenLogs};
use crate::query::live::{self, LiveConnection};
use crate::record::timestamp::Timestamp;
use crate::settings::paths;

#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 no problem found; 1 a watched entry names a spantap that is gone, a file
cannot be read (unless servers are named), or no file or no such server is found; 2 usage.
`spantap check --all` shows whether the servers work."
)]
pub struct StatusArgs {
    #[command(flatten)]
    selection: ServerSelection,
    /// Print one JSON object per server, and one for the collector
    #[arg(long)]
    json: bool,
    /// Print one short line for prompts and status bars: what needs attention now; exit status 0
    #[arg(long, conflicts_with_all = ["json", "log_dir", "file", "project", "hosts", "servers"])]
    line: bool,
    #[arg(long, value_name = "DIR", help = help::of("log_dir"))]
    log_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) color: ColorArgs,
}

struct StatusRow {
    host: &'static str,
    scope: &'static str,
    name: String,
    label: String,
    /// The folder of the project whose entry it is, with the home folder as `~`.
    project: Option<String>,
    transport: &'static str,
    watched: &'static str,
    disabled: bool,
    /// The reason why the server is not watched, or a problem with its entry.
    note: Option<String>,
    last_seen: Option<LastSeen>,
}

impl StatusArgs {
    /// Prints a row for each server; exit status 1 if an entry or a file is broken.
    pub(crate) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        if self.line {
            return print_line(out);
        }
        let files = host_files(&self.selection)?;
        if files.is_empty() {
            match self.json {
                true => print_json(out, &[], &Failures::default())?,
                false => print_collector(out)?,
            }
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
        let folder = log_folder(self.log_dir.clone()).ok().flatten();
        let live = paths::live_dir().map(|folder| live::connections(&folder).0).unwrap_or_default();
        let mut seen = SeenServers { folder, logs: BTreeMap::new(), live };
        let (mut rows, mut failures) = (Vec::new(), Vec::new());
        for file in files {
            match file.read() {
                Ok((_, root)) => rows.extend(
                    entry::entries(&root, file.host)
                        .into_iter()
                        .filter(|server| self.selection.takes(&server.name))
                        .map(|server| StatusRow::new(file, server, &mut seen)),
                ),
                Err(reason) if !self.selection.servers.is_empty() => note_unread(file, &reason),
                Err(reason) => failures.push((file.clone(), reason)),
            }
        }
        (rows, failures)
    }
}

/// Prints what needs attention now. It reads live files only.
fn print_line(out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
    if let Some(folder) = paths::live_dir() {
        let attention = Attention::look(&folder, Timestamp::now());
        status_line::write(out, &attention, selection::terminal(0).unicode)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Logs and live files, in which servers are looked up.
struct SeenServers {
    /// Folder of the logs of entries that name none.
    folder: Option<PathBuf>,
    logs: BTreeMap<PathBuf, SeenLogs>,
    live: Vec<LiveConnection>,
}

impl SeenServers {
    /// Returns when an entry was last seen.
    fn last(&mut self, state: &EntryState, place: &EntryPlace<'_>) -> Option<LastSeen> {
        let folder = state.option("--log-dir").map(PathBuf::from).or_else(|| self.folder.clone());
        let logs = folder
            .map(|folder| &*self.logs.entry(folder).or_insert_with_key(|folder| SeenLogs::in_dir(folder)));
        let seen = [last_seen::running(&self.live, place), logs.and_then(|logs| logs.last(place))];
        // A name alone shows nothing about an entry that is not watched.
        let is_watched = state.program().is_some();
        let known = seen.into_iter().flatten().filter(|seen| is_watched || seen.by == SeenBy::Origin);
        known.min_by_key(|seen| seen.by == SeenBy::Name)
    }
}

impl StatusRow {
    fn new(file: &HostFile, server: ServerEntry, seen: &mut SeenServers) -> StatusRow {
        let (transport, watched, mut note) = describe(&server.state, file.scope);
        let origin = file.origin();
        let project = match (&server.path[..], file.scope) {
            ([PathStep::Key(first), PathStep::Key(project), ..], _) if first == "projects" => {
                Some(PathBuf::from(project))
            }
            (_, FileScope::Project) => std::env::current_dir().ok(),
            (_, FileScope::User) => None,
        };
        let project = project.map(|folder| paths::home_as_tilde(&folder));
        if watched == "yes" && server.state.option(ORIGIN).is_some_and(|own| own != origin) {
            note = Some(
                "its --origin names another place, as of a copied entry; `spantap wrap` corrects it".into(),
            );
        }
        let place = EntryPlace { server: &server.name, origin: &origin, project: project.as_deref() };
        StatusRow {
            host: file.host.id,
            scope: file.scope.as_str(),
            label: label(&server.name, &server.path),
            transport,
            watched,
            disabled: server.disabled,
            note: note.map(|note| redacted(&note).to_string()),
            last_seen: seen.last(&server.state, &place),
            project: project.filter(|_| file.scope == FileScope::User),
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
        EntryState::Own => ("stdio", "no", Some("answers questions about the watched servers".to_owned())),
        EntryState::Remote => ("remote", "remote", None),
        EntryState::Unsupported(reason) => ("other", "no", Some((*reason).to_owned())),
    }
}

fn print_json(out: &mut Out<'_>, rows: &[StatusRow], failures: &Failures) -> anyhow::Result<()> {
    for row in rows {
        let line = json!({"host": row.host, "scope": row.scope, "server": row.label,
            "transport": row.transport, "watched": row.watched, "disabled": row.disabled,
            "note": row.note, "last_seen": row.last_seen.map(|seen| seen.at.to_string()),
            "last_seen_by": row.last_seen.map(|seen| match seen.by {
                SeenBy::Origin => "origin",
                SeenBy::Name => "name",
            }),
            "running": row.last_seen.is_some_and(|seen| seen.is_running)});
        write_json(out, &line)?;
    }
    for (file, reason) in failures {
        write_json(out, &json!({"host": file.host.id, "file": file.path, "error": reason}))?;
    }
    if let Some(CollectorNote { text, fix }) = last_run() {
        write_json(out, &json!({"collector": text, "way_out": fix}))?;
    }
    Ok(())
}

fn print(
    out: &mut Out<'_>,
    rows: &[StatusRow],
    failures: &Failures,
    files: &[HostFile],
) -> anyhow::Result<()> {
    let terminal = selection::terminal(0);
    if !rows.is_empty() {
        table(rows, &terminal).write(out, &terminal)?;
    }
    let line = |out: &mut Out<'_>, text: String| {
        writeln!(out, "{}", terminal.paragraph(&Printable::from(text), 0, 2))
    };
    for row in rows {
        if let Some(note) = &row.note {
            line(out, format!("{} {}: {note}", row.host, row.label))?;
        }
    }
    let by_name = |row: &StatusRow| row.last_seen.is_some_and(|seen| seen.by == SeenBy::Name);
    if rows.iter().any(by_name) {
        let text = "~ a server of this name was seen; its log does not name the entry. `spantap wrap` adds the \
                    name to entries that lack it";
        line(out, text.to_owned())?;
    }
    if rows.is_empty() && failures.is_empty() {
        writeln!(out, "no server in these files:")?;
        files.iter().try_for_each(|file| writeln!(out, "  {}", printable_path(&file.path)))?;
    }
    for (file, reason) in failures {
        writeln!(out, "{}: {}: {}", file.host.id, printable_path(&file.path), Printable::new(reason))?;
    }
    print_collector(out)?;
    if !rows.is_empty() && !terminal.is_unlimited() {
        line(out, "whether they work: spantap check --all".to_owned())?;
    }
    Ok(())
}

/// Prints what is known of a collector that runs, or that did not end in order.
fn print_collector(out: &mut Out<'_>) -> std::io::Result<()> {
    let Some(CollectorNote { text, fix }) = last_run() else { return Ok(()) };
    let text = text + &fix.map(|fix| format!("; {fix}")).unwrap_or_default();
    writeln!(out, "{}", selection::terminal(0).paragraph(&Printable::from(text), 0, 2))
}

fn table(rows: &[StatusRow], terminal: &Terminal) -> Table {
    // A name that is cut cannot be given to `wrap`, and a date that is cut is not one.
    let whole = |title, drop| Column { cut: false, ..Column::left(title, drop) };
    let columns = vec![
        whole("HOST", 0),
        whole("SCOPE", 2),
        whole("SERVER", 0),
        Column::left("PROJECT", 1),
        whole("TRANSPORT", 3),
        whole("WATCHED", 0),
        whole("LAST SEEN", 0),
    ];
    let cells = |row: &StatusRow| {
        let disabled = if row.disabled { " (disabled)" } else { "" };
        let tone = match row.watched {
            "yes" => Tone::Good,
            "stale binary" => Tone::Bad,
            "edited" => Tone::Warning,
            _ => Tone::Faint,
        };
        let project = row.project.as_ref().map(|project| redacted(project).to_string());
        vec![
            row.host.into(),
            Cell::toned(row.scope, Tone::Faint),
            format!("{}{disabled}", redacted(&row.name)).into(),
            Cell::toned(project.unwrap_or_default(), Tone::Faint),
            Cell::toned(row.transport, Tone::Faint),
            Cell::toned(row.watched, tone),
            last_seen_cell(row.last_seen, terminal),
        ]
    };
    Table { columns, rows: rows.iter().map(cells).collect() }
}

fn last_seen_cell(seen: Option<LastSeen>, terminal: &Terminal) -> Cell {
    let Some(seen) = seen else { return Cell::toned("-", Tone::Faint) };
    let mark = if seen.by == SeenBy::Name { "~" } else { "" };
    match seen.is_running {
        true => Cell::toned(format!("{mark}running"), Tone::Good),
        false => format!("{mark}{}", seen.at.local(&terminal.zone, "%Y-%m-%d %H:%M")).into(),
    }
}
