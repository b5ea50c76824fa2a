//! Prints plans, their diffs and outcomes: as text, or as JSON lines.

use std::io::{BufRead, IsTerminal};

use serde_json::json;

use crate::cli::wrap::plan::{FilePlan, ServerChange, WrapAction};
use crate::cli::wrap::{Failures, printable_path};
use crate::cli::{Out, hint, write_json};
use crate::hosts::diff;
use crate::hosts::locate::FileScope;
use crate::hosts::tree::FileFormat;
use crate::observe::redact::Redactor;
use crate::present::Printable;

pub(super) fn plan(out: &mut Out<'_>, plan: &FilePlan, with_diff: bool) -> anyhow::Result<()> {
    if plan.changes.is_empty() && plan.skipped.is_empty() {
        return Ok(());
    }
    let file = &plan.file;
    writeln!(out, "{} ({}): {}", file.host.name, file.scope.as_str(), printable_path(&file.path))?;
    for ServerChange { label, edited, renewed, origin_set, disabled } in &plan.changes {
        let note = match (edited, renewed, origin_set, disabled) {
            (true, ..) => ": its command was changed by hand after `wrap`; the change stays, as shown",
            (_, true, ..) => ": wrapped by a spantap that no longer exists; replaced by this one",
            (.., true, _) => ": wrapped already; gets the option --origin, by which `status` knows it",
            (.., true) => " (disabled)",
            _ => "",
        };
        writeln!(out, "  {}{note}", Printable::new(label))?;
    }
    for (label, reason) in &plan.skipped {
        writeln!(out, "  {}: left alone: {reason}", Printable::new(label))?;
    }
    if file.scope == FileScope::Project && !plan.changes.is_empty() {
        writeln!(out, "  this file is shared: each of its users needs spantap on the PATH of their host")?;
    }
    if with_diff || plan.changes.iter().any(|change| change.edited) {
        write!(out, "{}", diff_of(plan))?;
    }
    Ok(())
}

fn diff_of(plan: &FilePlan) -> String {
    let format = FileFormat::of(&plan.snapshot.path);
    diff::diff(plan.snapshot.text(), &plan.after, format, plan.file.host, &mut Redactor::default())
}

/// Asks the user for consent; prints a line if it is not given. Fails if standard input is not a terminal.
pub(super) fn confirm(out: &mut Out<'_>, action: &WrapAction) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        let error = anyhow::anyhow!("cannot ask for confirmation: stdin is not a terminal");
        return Err(hint(error, "add --yes to write, or --dry-run to see the changes"));
    }
    write!(out, "{} these servers? [y/N] ", action.verb())?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    let agrees = matches!(answer.trim(), "y" | "Y" | "yes");
    if !agrees {
        writeln!(out, "nothing was changed")?;
    }
    Ok(agrees)
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
    writeln!(out, "{}: {servers} {noun} changed. To take effect: {}", host.name, host.restart)?;
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
        let skipped = plan.skipped.iter().map(|(label, reason)| json!({"server": label, "reason": reason}));
        let mut line = json!({
            "host": plan.file.host.id, "scope": plan.file.scope.as_str(), "file": plan.file.path,
            "changed": labels(|_| true), "edited": labels(|change| change.edited),
            "renewed": labels(|change| change.renewed),
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
