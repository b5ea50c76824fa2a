//! Checks several servers at the same time, and compares their tools with those of the last check.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::check::remote::shown_url;
use crate::check::tools::{CheckMemory, LastCheck};
use crate::check::{FailureKind, Probe, ServerFailure, ServerHealth};
use crate::cli::check::lint::LintReport;
use crate::cli::check::servers::{CheckPlan, CheckTarget, UnreadFile};
use crate::cli::check::{failure_json, health_json};
use crate::cli::selection::{note, terminal};
use crate::cli::{Out, write_json};
use crate::hosts::launch::ServerLaunch;
use crate::observe::redact::Redactor;
use crate::observe::tool_definition::{ToolChange, ToolChangeKind, parts_text};
use crate::present::check::{CheckRow, CheckState};
use crate::present::{Printable, check, format};
use crate::record::live::LiveState;
use crate::record::timestamp::Timestamp;
use crate::settings::paths;
use crate::system::files::{read_limited, write_private};
use crate::system::mutex;

/// Most servers that are checked at the same time.
const MOST_AT_ONCE: usize = 4;
/// Time from which on a start or a list of tools is slow: half of the default `--timeout`.
const SLOW: Duration = Duration::from_secs(5);
/// Largest file of the memory, in bytes. [`CheckMemory::encode`] stays below it.
const MAX_FILE: u64 = 2 << 20;

/// Outcome of a check, with the changes since the last one.
pub(super) struct CheckOutcome {
    pub(super) outcome: Result<ServerHealth, ServerFailure>,
    pub(super) changes: Option<ChangedTools>,
}

/// Changes of a server's tools since the check at a time.
pub(super) struct ChangedTools {
    pub(super) since: Timestamp,
    pub(super) tools: Vec<ToolChange>,
}

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckForm {
    Text,
    Json,
    Sarif,
}

/// Makes the redactor for the texts of a target.
pub(super) type RedactorOf<'a> = &'a (dyn Fn(&CheckTarget) -> Redactor + Sync);

/// Probes the targets; `None` for one that is not probed.
pub(super) fn run(
    targets: &[CheckTarget],
    probe: Probe,
    redactor: RedactorOf<'_>,
) -> Vec<Option<CheckOutcome>> {
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let is_shown = targets.len() > 1 && std::io::stderr().is_terminal();
    // A line of its own, which the table replaces.
    let progress = |done: usize| {
        if is_shown {
            let _ = write!(std::io::stderr(), "\rchecked {done} of {} ", targets.len());
        }
    };
    progress(0);
    let outcomes: Vec<_> = targets.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..MOST_AT_ONCE.min(targets.len()) {
            scope.spawn(|| {
                while let Some(index) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < targets.len())
                {
                    let target = &targets[index];
                    if let CheckPlan::Probe(launch) = &target.plan {
                        let outcome = probe.run(launch, &|| redactor(target));
                        *mutex::lock(&outcomes[index]) = Some(outcome);
                    }
                    progress(done.fetch_add(1, Ordering::Relaxed) + 1);
                }
            });
        }
    });
    if is_shown {
        let _ = write!(std::io::stderr(), "\r{:40}\r", "");
    }
    let outcomes = outcomes.into_iter().map(mutex::into_inner);
    compare(targets, outcomes.collect(), redactor)
}

/// Compares the tools with those of the last check, and remembers them.
fn compare(
    targets: &[CheckTarget],
    outcomes: Vec<Option<Result<ServerHealth, ServerFailure>>>,
    redactor: RedactorOf<'_>,
) -> Vec<Option<CheckOutcome>> {
    let file = paths::state_dir().map(|folder| folder.join("checks.json"));
    let text = file.as_deref().and_then(|file| read_limited(file, MAX_FILE).ok());
    let mut memory = CheckMemory::parse(&text.unwrap_or_default());
    let mut has_news = false;
    let now = Timestamp::now();
    let mut compared = Vec::new();
    for (target, outcome) in targets.iter().zip(outcomes) {
        let mut changes = None;
        if let (CheckPlan::Probe(launch), Some(Ok(health))) = (&target.plan, &outcome) {
            let tools = health.tools.as_ref().map(|tools| tools.definitions.clone()).unwrap_or_default();
            has_news = true;
            let check = LastCheck { at: now.0, tools: tools.clone() };
            changes = memory.replace(key(target, launch, redactor), check).map(|last| ChangedTools {
                since: Timestamp(last.at),
                tools: tools.changes_since(&last.tools),
            });
        }
        compared.push(outcome.map(|outcome| CheckOutcome { outcome, changes }));
    }
    if let Some(file) = file.filter(|_| has_news)
        && let Err(error) = write_private(&file, &memory.encode())
    {
        tracing::info!("checks are not remembered: {error}");
    }
    compared
}

/// Returns the name of a server in the memory, which contains no secret.
fn key(target: &CheckTarget, launch: &ServerLaunch, redactor: RedactorOf<'_>) -> String {
    let mut hasher = Sha256::new_with_prefix(&target.label);
    match launch {
        ServerLaunch::Local(local) => {
            for word in redactor(target).redact_argv(&local.command) {
                hasher.update([0]);
                hasher.update(word.as_str());
            }
            local.folder.iter().for_each(|folder| hasher.update(folder.as_os_str().as_encoded_bytes()));
        }
        ServerLaunch::Remote(remote) => hasher.update(shown_url(&remote.url)),
    }
    crate::text::hex::text(&hasher.finalize()[..16])
}

/// Prints the table or the document, and returns the exit status: 1 if a server or a file failed, or the lint found
/// what a host refuses.
pub(super) fn print(
    out: &mut Out<'_>,
    targets: &[CheckTarget],
    outcomes: &[Option<CheckOutcome>],
    unread: &[UnreadFile],
    (form, lint): (CheckForm, Option<&LintReport>),
) -> anyhow::Result<ExitCode> {
    let rows: Vec<CheckRow> =
        targets.iter().zip(outcomes).map(|(target, outcome)| row(target, outcome.as_ref())).collect();
    let count = |state: CheckState| rows.iter().filter(|row| row.state == state).count();
    let (ok, running, failed) =
        (count(CheckState::Works), count(CheckState::Runs), count(CheckState::Fails) + unread.len());
    if let (CheckForm::Sarif, Some(lint)) = (form, lint) {
        let unlinted = rows.iter().enumerate().filter(|(index, _)| !lint.is_linted(*index));
        let reason = |row: &CheckRow| {
            format!("{} is not linted: {}", row.server, row.notes.first().unwrap_or(&row.word))
        };
        let mut unlinted: Vec<String> = unlinted.map(|(_, row)| reason(row)).collect();
        unlinted.extend(unread.iter().map(unread_text));
        unlinted.iter().for_each(|text| note(text));
        write_json(out, &lint.sarif(&unlinted))?;
    } else if form == CheckForm::Json {
        let server = |index: usize| {
            let mut server = server_json(&targets[index], &rows[index], outcomes[index].as_ref());
            if let Some(lint) = lint {
                server["lint"] = lint.server_json(index);
            }
            server
        };
        let servers: Vec<Value> = (0..targets.len()).map(server).collect();
        let unread: Vec<Value> = unread
            .iter()
            .map(|(host, file, reason)| json!({"host": host, "file": file, "error": reason}))
            .collect();
        let mut document = json!({
            "servers": servers, "unread_files": unread, "ok": ok, "slow": count(CheckState::Slow),
            "running": running, "failed": failed,
            "not_checked": count(CheckState::NotChecked),
        });
        if let Some([errors, warnings]) = lint.map(LintReport::counts) {
            document["lint_errors"] = errors.into();
            document["lint_warnings"] = warnings.into();
        }
        write_json(out, &document)?;
    } else {
        check::write(out, &rows, &terminal(0))?;
        for file in unread {
            writeln!(out, "{}", Printable::new(&unread_text(file)))?;
        }
        if let Some(lint) = lint {
            lint.write(out)?;
        }
    }
    let is_refused = lint.is_some_and(LintReport::has_errors);
    Ok(if failed > 0 || is_refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn unread_text((host, file, reason): &UnreadFile) -> String {
    format!("{host}: {}: {reason}", file.display())
}

fn row(target: &CheckTarget, outcome: Option<&CheckOutcome>) -> CheckRow {
    let row =
        CheckRow { server: target.label.clone(), hosts: target.hosts.join(", "), ..CheckRow::default() };
    match (&target.plan, outcome) {
        (_, Some(CheckOutcome { outcome: Ok(health), changes })) => working(row, health, changes.as_ref()),
        (plan, Some(CheckOutcome { outcome: Err(failure), .. })) => failing(row, plan, failure),
        (CheckPlan::Running(state), _) => running(row, state),
        (CheckPlan::Disabled, _) => CheckRow { word: "disabled".to_owned(), ..row },
        (CheckPlan::NotChecked(reason), _) => {
            let is_input = reason.starts_with("needs input");
            let word = if is_input { "needs input" } else { "not checked" };
            CheckRow { word: word.to_owned(), notes: vec![format!("not checked: {reason}")], ..row }
        }
        (CheckPlan::Probe(_), None) => row,
    }
}

/// Returns what took long, if something did: the start, the list of tools, or both.
pub(super) fn slow_steps(health: &ServerHealth) -> Option<String> {
    let list = health.tools.as_ref().map_or(Duration::ZERO, |tools| tools.time);
    let slow = [("start", health.handshake), ("tools/list", list)].into_iter().filter(|step| step.1 >= SLOW);
    let texts: Vec<String> =
        slow.map(|(step, time)| format!("{step} took {:.1} s", time.as_secs_f64())).collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

fn working(row: CheckRow, health: &ServerHealth, changes: Option<&ChangedTools>) -> CheckRow {
    let mut notes: Vec<String> =
        health.warnings.iter().map(|warning| format!("warning: {warning}")).collect();
    let changed = changes.map(|changes| changes.tools.len());
    if let Some(changes) = changes.filter(|changes| !changes.tools.is_empty()) {
        let since = changes.since.local(&jiff::tz::TimeZone::system(), "%Y-%m-%d %H:%M");
        notes.push(format!("since {since}: {}", changes_text(&changes.tools)));
    }
    let slow = slow_steps(health);
    let (state, word) = if slow.is_some() { (CheckState::Slow, "slow") } else { (CheckState::Works, "ok") };
    notes.extend(slow.map(|steps| format!("slow: {steps}")));
    CheckRow {
        state,
        word: word.to_owned(),
        start_ms: Some(super::ms(health.handshake)),
        tools: Some(health.tools.as_ref().map_or(0, |tools| tools.count as u64)),
        definitions: health.tools.as_ref().map(|tools| crate::record::tokens(tools.bytes)),
        protocol: health.protocol.clone(),
        changed,
        notes,
        ..row
    }
}

/// Returns the changes in words: `added search; changed read (description and input schema)`.
pub(super) fn changes_text(changes: &[ToolChange]) -> String {
    let list = |kind: ToolChangeKind| {
        let of_kind = changes.iter().filter(|change| change.kind == kind);
        let names: Vec<String> = of_kind
            .map(|change| match change.parts.is_empty() {
                true => change.tool.clone(),
                false => format!("{} ({})", change.tool, parts_text(&change.parts)),
            })
            .collect();
        (!names.is_empty()).then(|| format!("{kind} {}", names.join(", ")))
    };
    ToolChangeKind::ALL.into_iter().filter_map(list).collect::<Vec<_>>().join("; ")
}

/// Returns the state of a server that failed, for people.
fn words(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::NotFound => "not found",
        FailureKind::BadEntry => "bad entry",
        FailureKind::NotExecutable => "not executable",
        FailureKind::NotStarted => "not started",
        FailureKind::Died => "died",
        FailureKind::NoAnswer => "no answer",
        FailureKind::Banner | FailureKind::Echo | FailureKind::NotMcp => "not MCP",
        FailureKind::ProtocolError => "protocol error",
        FailureKind::Dns => "unknown name",
        FailureKind::Connect => "no connection",
        FailureKind::Tls => "TLS error",
        FailureKind::HttpStatus => "HTTP error",
        FailureKind::NeedsSignIn => "needs sign-in",
    }
}

fn failing(row: CheckRow, plan: &CheckPlan, failure: &ServerFailure) -> CheckRow {
    let has_no_credentials =
        matches!(plan, CheckPlan::Probe(ServerLaunch::Remote(remote)) if remote.headers.is_empty());
    let is_sse = matches!(plan, CheckPlan::Probe(ServerLaunch::Remote(remote)) if remote.is_sse);
    let word = words(failure.kind).to_owned();
    match failure.kind {
        // The host signs in for such an entry.
        FailureKind::NeedsSignIn if has_no_credentials => {
            CheckRow { word, notes: vec![failure.text.clone()], ..row }
        }
        FailureKind::HttpStatus if is_sse => {
            let note = format!("not checked: the older transport HTTP with SSE; {}", failure.text);
            CheckRow { word: "not checked".to_owned(), notes: vec![note], ..row }
        }
        _ => {
            let stderr = failure.stderr.iter().map(|line| format!("stderr: {line}"));
            let hint = format!("hint: {}", failure.hint());
            let notes = std::iter::once(failure.text.clone()).chain(stderr).chain([hint]).collect();
            CheckRow { state: CheckState::Fails, word, notes, ..row }
        }
    }
}

fn running(row: CheckRow, state: &LiveState) -> CheckRow {
    let up = state.started_at.ms_until(Timestamp::now());
    let mut note = format!(
        "for {}: {}, {}; --again starts another",
        format::duration(up),
        format::plural(state.calls, "call"),
        format::plural(state.errors, "error"),
    );
    if let Some(open) = state.open.first() {
        let more = state.open.len() as u64 + state.more_open;
        note.push_str(&format!("; now {} ({} open)", open.name(), more));
    }
    if let Some(error) = &state.last_error {
        note.push_str(&format!("; last error: {}: {}", error.name, error.message));
    }
    CheckRow { state: CheckState::Runs, word: "running".to_owned(), notes: vec![note], ..row }
}

fn server_json(target: &CheckTarget, row: &CheckRow, outcome: Option<&CheckOutcome>) -> Value {
    let mut server = match outcome {
        Some(CheckOutcome { outcome: Ok(health), changes }) => {
            let mut server = health_json(health);
            server["changes"] = changes.as_ref().map_or(Value::Null, changes_json);
            server
        }
        Some(CheckOutcome { outcome: Err(failure), .. }) => failure_json(failure),
        None => json!({"notes": row.notes}),
    };
    if let CheckPlan::Running(state) = &target.plan {
        server["connection_id"] = state.connection_id.clone().into();
        server["started_at"] = state.started_at.to_string().into();
        server["calls"] = state.calls.into();
        server["errors"] = state.errors.into();
        server["open"] = (state.open.len() as u64 + state.more_open).into();
    }
    server["name"] = target.label.clone().into();
    server["hosts"] = target.hosts.clone().into();
    server["state"] = row.word.clone().into();
    server["ok"] = match row.state {
        CheckState::Works | CheckState::Slow | CheckState::Runs => true.into(),
        CheckState::Fails => false.into(),
        CheckState::NotChecked => Value::Null,
    };
    server
}

pub(super) fn changes_json(changes: &ChangedTools) -> Value {
    let tools: Vec<Value> = changes
        .tools
        .iter()
        .map(|change| json!({"tool": change.tool, "change": change.kind, "parts": change.parts}))
        .collect();
    json!({"since": changes.since.to_string(), "tools": tools})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::lint::LintedServer;
    use crate::check::{ProbeEnd, ToolList};

    #[test]
    fn a_server_whose_start_or_list_takes_five_seconds_is_slow_and_not_a_failure() {
        for (start, list, word, note) in [
            (4_999, 4_999, "ok", None),
            (5_000, 1, "slow", Some("slow: start took 5.0 s")),
            (7_240, 5_100, "slow", Some("slow: start took 7.2 s, tools/list took 5.1 s")),
        ] {
            let tools = ToolList { time: Duration::from_millis(list), ..ToolList::default() };
            let health = ServerHealth {
                name: String::new(),
                version: String::new(),
                protocol: String::new(),
                era: "legacy",
                handshake: Duration::from_millis(start),
                ping: Duration::ZERO,
                ping_method: "ping",
                tools: Some(tools),
                end: ProbeEnd { by: "stdin_closed", after: Duration::ZERO },
                banner_lines: 0,
                warnings: Vec::new(),
                lint: LintedServer::new(false, ""),
            };
            let plan = CheckPlan::Disabled;
            let target = CheckTarget { name: String::new(), label: "db".to_owned(), hosts: Vec::new(), plan };
            let outcome = Some(CheckOutcome { outcome: Ok(health), changes: None });
            let row = row(&target, outcome.as_ref());
            assert_eq!((&*row.word, row.notes.first().map(|note| &**note)), (word, note));
            let is_slow = note.is_some();
            let server = server_json(&target, &row, outcome.as_ref());
            assert_eq!((&server["state"], &server["ok"]), (&json!(word), &json!(true)));
            assert_eq!(server["slow"], is_slow);
            let mut printed = Vec::new();
            let status = print(&mut printed, &[target], &[outcome], &[], (CheckForm::Text, None)).unwrap();
            let printed = String::from_utf8(printed).unwrap();
            assert!(printed.contains(if is_slow { "1 slow" } else { "1 ok" }), "{printed}");
            assert_eq!(format!("{status:?}"), format!("{:?}", ExitCode::SUCCESS));
        }
    }
}
