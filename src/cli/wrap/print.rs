//! Prints plans, their diffs and outcomes: as text, or as JSON lines.

use std::io::{BufRead, IsTerminal};

use serde_json::json;

use crate::cli::selection;
use crate::cli::wrap::plan::{FilePlan, ServerChange, WrapAction};
use crate::cli::wrap::{Failures, PickedEntries, printable_path};
use crate::cli::{Out, hint, write_json};
use crate::hosts::diff;
use crate::hosts::locate::FileScope;
use crate::hosts::tree::FileFormat;
use crate::observe::redact::Redactor;
use crate::present::Printable;
use crate::present::format::plural;
use crate::present::table::{Cell, Column, Table, Terminal, Tone};

/// Prints a line for each server, then the sentences about them; with the diffs if `with_diff`. The changes have
/// numbers if `has_numbers`.
pub(super) fn plans(
    out: &mut Out<'_>,
    plans: &[FilePlan],
    action: &WrapAction,
    has_numbers: bool,
    with_diff: bool,
) -> anyhow::Result<()> {
    let rows: Vec<PlanRow> = plans.iter().flat_map(|plan| rows(plan, action)).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let terminal = selection::terminal(0);
    writeln!(out, "{}", Tone::Strong.paint(summary(plans, &rows)))?;
    table(&rows, has_numbers).write(out, &terminal)?;
    for (reason, labels) in notes(&rows) {
        writeln!(out, "{}", terminal.paragraph(&Printable::from(format!("{labels}: {reason}")), 0, 2))?;
    }
    for plan in plans {
        let path = printable_path(&plan.file.path);
        let is_wrapped = matches!(action, WrapAction::Wrap { .. }) && !plan.changes.is_empty();
        if is_wrapped && plan.file.scope == FileScope::Project {
            let text = "this file is shared: each of its users needs spantap on the PATH of their host";
            writeln!(out, "{}", terminal.paragraph(&Printable::from(format!("{path}: {text}")), 0, 2))?;
        }
        if with_diff || plan.changes.iter().any(|change| change.edited) {
            print_diff(out, plan, &terminal)?;
        }
    }
    Ok(())
}

/// A server in the table of `plans`.
struct PlanRow {
    host: &'static str,
    path: Printable,
    label: String,
    change: &'static str,
    tone: Tone,
    is_changed: bool,
    /// The sentence about it; empty if the table shows everything.
    note: String,
}

fn rows(plan: &FilePlan, action: &WrapAction) -> Vec<PlanRow> {
    let row = |label: &str, change, tone, is_changed, note: String| PlanRow {
        host: plan.file.host.name,
        path: printable_path(&plan.file.path),
        label: label.to_owned(),
        change,
        tone,
        is_changed,
        note,
    };
    let changes = plan.changes.iter().map(|server| {
        let disabled = if server.disabled { " (disabled)" } else { "" };
        let label = format!("{}{disabled}", server.label);
        let (change, tone, note) = match server {
            ServerChange { own: true, .. } => {
                let is_wrap = matches!(action, WrapAction::Wrap { .. });
                let change = if is_wrap { "add" } else { "remove" };
                (change, Tone::Good, "a server through which the agent asks about its own calls")
            }
            ServerChange { edited: true, .. } => (
                action.command(),
                Tone::Warning,
                "its command was changed by hand after `wrap`; the change stays, as shown",
            ),
            ServerChange { renewed: true, .. } => {
                ("update", Tone::Warning, "wrapped by a spantap that no longer exists; replaced by this one")
            }
            ServerChange { origin_set: true, .. } => (
                "update",
                Tone::Good,
                "wrapped already; gets the option --origin, by which `status` knows the entry",
            ),
            _ => (action.command(), Tone::Good, ""),
        };
        row(&label, change, tone, true, note.to_owned())
    });
    let skipped = plan.skipped.iter().map(|server| {
        let tone = if plan.refused && server.state == "left alone" { Tone::Bad } else { Tone::Faint };
        row(&server.label, server.state, tone, false, format!("left alone: {}", server.reason))
    });
    changes.chain(skipped).collect()
}

/// Returns `12 servers in 6 files: wrap 10, remote 2`.
fn summary(plans: &[FilePlan], rows: &[PlanRow]) -> String {
    let files = plans.iter().filter(|plan| !plan.changes.is_empty() || !plan.skipped.is_empty()).count();
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for row in rows {
        match counts.iter_mut().find(|(change, _)| *change == row.change) {
            Some((_, count)) => *count += 1,
            None => counts.push((row.change, 1)),
        }
    }
    let counts: Vec<String> = counts.iter().map(|(change, count)| format!("{change} {count}")).collect();
    format!(
        "{} in {}: {}",
        plural(rows.len() as u64, "server"),
        plural(files as u64, "file"),
        counts.join(", ")
    )
}

fn table(rows: &[PlanRow], has_numbers: bool) -> Table {
    let columns = vec![
        Column::right("#", 0),
        Column::left("HOST", 0),
        Column::left("SERVER", 0),
        Column { cut: false, ..Column::left("CHANGE", 0) },
        Column::left("FILE", 1),
    ];
    let mut number = 0;
    let cells = rows.iter().map(|row| {
        number += usize::from(row.is_changed);
        let shown = if has_numbers && row.is_changed { number.to_string() } else { String::new() };
        vec![
            shown.into(),
            row.host.into(),
            row.label.as_str().into(),
            Cell::toned(row.change, row.tone),
            Cell::toned(&row.path, Tone::Faint),
        ]
    });
    Table { rows: cells.collect(), columns }
}

/// Returns each sentence with the servers that it is about.
fn notes(rows: &[PlanRow]) -> Vec<(&str, String)> {
    let mut notes: Vec<(&str, String)> = Vec::new();
    for row in rows.iter().filter(|row| !row.note.is_empty()) {
        match notes.iter_mut().find(|(note, _)| *note == row.note) {
            // The same entry in several files.
            Some((_, labels)) if *labels == row.label => {}
            Some((_, labels)) => labels.push_str(&format!(", {}", row.label)),
            None => notes.push((&row.note, row.label.clone())),
        }
    }
    notes
}

/// Prints the lines that differ, in red and green; they are broken between words, and a long word within.
fn print_diff(out: &mut Out<'_>, plan: &FilePlan, terminal: &Terminal) -> anyhow::Result<()> {
    let file = &plan.file;
    let heading = format!("{} ({}): ", file.host.name, file.scope.as_str());
    writeln!(out, "{}", Tone::Strong.paint(heading + &printable_path(&file.path)))?;
    for line in diff_of(plan).replace('\t', "    ").lines() {
        let tone = match line.as_bytes().first() {
            Some(b'-') => Tone::Bad,
            Some(b'+') => Tone::Good,
            _ => Tone::Faint,
        };
        let indent = 1 + line[1..].len() - line[1..].trim_start().len();
        for line in terminal.folded(&Printable::new(line), (indent + 4).min(terminal.width / 2)) {
            writeln!(out, "{}", tone.paint(line))?;
        }
    }
    Ok(())
}

fn diff_of(plan: &FilePlan) -> String {
    let format = FileFormat::of(&plan.snapshot.path);
    diff::diff(plan.snapshot.text(), &plan.after, format, plan.file.host, &mut Redactor::default())
}

/// The answer to the question whether to write.
pub(super) enum Answer {
    Yes,
    No,
    /// Only these entries.
    Pick(PickedEntries),
}

/// Asks the user for consent; prints a line if it is not given. Fails if standard input is not a terminal.
pub(super) fn ask(out: &mut Out<'_>, action: &WrapAction, plans: &[FilePlan]) -> anyhow::Result<Answer> {
    if !std::io::stdin().is_terminal() {
        let error = anyhow::anyhow!("cannot ask for confirmation: stdin is not a terminal");
        return Err(hint(error, "add --yes to write, or --dry-run to see the changes"));
    }
    let count = plans.iter().map(|plan| plan.changes.len()).sum::<usize>();
    let question = format!("{} {}?", action.verb(), plural(count as u64, "server"));
    loop {
        let answer = read_line(out, &format!("\n{question} [y]es [d]iff [s]elect [n]o "))?;
        match answer.as_deref().map(str::trim) {
            Some("y" | "Y" | "yes") => return Ok(Answer::Yes),
            Some("d" | "D" | "diff") => {
                let terminal = selection::terminal(0);
                let changed = plans.iter().filter(|plan| !plan.changes.is_empty());
                changed.into_iter().try_for_each(|plan| print_diff(out, plan, &terminal))?;
            }
            Some("s" | "S" | "select") => {
                let numbers = read_line(out, &format!("Numbers of servers, 1 to {count} (such as 1 3-5): "))?;
                match picked(plans, &numbers.unwrap_or_default()) {
                    Ok(picked) => return Ok(Answer::Pick(picked)),
                    Err(problem) => writeln!(out, "{}", Printable::from(problem))?,
                }
            }
            None | Some("" | "n" | "N" | "no") => {
                writeln!(out, "nothing was changed")?;
                return Ok(Answer::No);
            }
            Some(_) => writeln!(out, "answer y, d, s or n")?,
        }
    }
}

/// Prints `text` and reads a line; `None` at the end of the input.
fn read_line(out: &mut Out<'_>, text: &str) -> anyhow::Result<Option<String>> {
    write!(out, "{text}")?;
    out.flush()?;
    let mut answer = String::new();
    let length = std::io::stdin().lock().read_line(&mut answer)?;
    Ok((length > 0).then_some(answer))
}

/// Returns the entries whose numbers are in `text`.
fn picked(plans: &[FilePlan], text: &str) -> Result<PickedEntries, String> {
    let entries: Vec<_> = plans
        .iter()
        .flat_map(|plan| plan.changes.iter().map(|change| (plan.file.path.clone(), change.entry.clone())))
        .collect();
    let number = |word: &str| {
        let number = word.parse().ok().filter(|number| (1..=entries.len()).contains(number));
        number.ok_or_else(|| format!("`{word}` is not a number from 1 to {}", entries.len()))
    };
    let mut picked = PickedEntries::new();
    for word in text.split([' ', ',', '\n', '\r', '\t']).filter(|word| !word.is_empty()) {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        picked.extend(
            entries[number(first)? - 1..]
                .iter()
                .take(number(last)?.saturating_sub(number(first)? - 1))
                .cloned(),
        );
    }
    if picked.is_empty() { Err("no number was given".to_owned()) } else { Ok(picked) }
}

/// Prints how the host is made to read the file that was written.
pub(super) fn next_step(out: &mut Out<'_>, plan: &FilePlan) -> anyhow::Result<()> {
    let servers = plan.changes.len();
    if servers == 0 {
        writeln!(
            out,
            "{}: the host changed the file meanwhile; nothing is left to change",
            plan.file.host.name
        )?;
        return Ok(());
    }
    let noun = if servers == 1 { "server" } else { "servers" };
    let host = plan.file.host;
    let text = format!("{}: {servers} {noun} changed. To take effect: {}", host.name, host.restart);
    writeln!(out, "{}", selection::terminal(0).paragraph(&Printable::from(text), 0, 2))?;
    Ok(())
}

/// Prints that nothing is to be done. If no file has a server, prints which files have none.
pub(super) fn nothing(out: &mut Out<'_>, done: &[(FilePlan, bool)]) -> anyhow::Result<()> {
    if done.iter().any(|(plan, _)| !plan.names.is_empty()) {
        writeln!(out, "nothing to do")?;
        return Ok(());
    }
    writeln!(out, "nothing to do: no server in these files:")?;
    done.iter().try_for_each(|(plan, _)| writeln!(out, "  {}", printable_path(&plan.file.path)))?;
    Ok(())
}

pub(super) fn failures(out: &mut Out<'_>, failures: &Failures) -> anyhow::Result<()> {
    for (file, reason) in failures {
        let (path, reason) = (printable_path(&file.path), Printable::new(reason));
        writeln!(out, "{}: {path}: left alone: {reason}", file.host.name)?;
    }
    Ok(())
}

/// Prints one JSON object per file; `done` are the plans, each with true if its file was written.
pub(super) fn json(
    out: &mut Out<'_>,
    done: &[(FilePlan, bool)],
    failures: &Failures,
    with_diff: bool,
) -> anyhow::Result<()> {
    for (plan, written) in done {
        let labels = |wanted: fn(&ServerChange) -> bool| -> Vec<&str> {
            plan.changes.iter().filter(|change| wanted(change)).map(|change| change.label.as_str()).collect()
        };
        let skipped =
            plan.skipped.iter().map(|server| json!({"server": server.label, "reason": server.reason}));
        let mut line = json!({
            "host": plan.file.host.id, "scope": plan.file.scope.as_str(), "file": plan.file.path,
            "changed": labels(|_| true), "edited": labels(|change| change.edited),
            "own": labels(|change| change.own), "renewed": labels(|change| change.renewed),
            "origin_set": labels(|change| change.origin_set), "written": written,
            "skipped": skipped.collect::<Vec<_>>(),
        });
        if with_diff {
            line["diff"] = diff_of(plan).into();
        }
        write_json(out, &line)?;
    }
    for (file, reason) in failures {
        let (host, scope, path) = (file.host.id, file.scope.as_str(), &file.path);
        write_json(out, &json!({"host": host, "scope": scope, "file": path, "error": reason}))?;
    }
    Ok(())
}
