//! One session: its totals, its events, and its operations as a waterfall.

use std::io::{self, Write};

use crate::present::sessions::annotation;
use crate::present::table::{Terminal, Tone};
use crate::present::waterfall::{self, DrawnPart};
use crate::present::{Printable, chain, format};
use crate::query::agents::chain::SessionChain;
use crate::query::event::EventRow;
use crate::query::find::SessionReader;
use crate::query::row::OperationRow;
use crate::query::time_spent::TimeSpent;
use crate::record::timestamp::Timestamp;

/// Draws a session that was read and settled.
///
/// `again` are the folder and files that a suggested command has to name.
pub(crate) fn write(
    out: &mut dyn Write,
    terminal: &Terminal,
    session_id: &str,
    session: &SessionReader<'_>,
    chain: Option<&SessionChain<'_>>,
    part: DrawnPart,
    again: &Printable,
) -> io::Result<()> {
    write_totals(out, terminal, session_id, session, chain)?;
    let rows: Vec<&OperationRow> = session.operations.iter().map(|operation| &operation.row).collect();
    let open: Vec<_> = session.totals.open().map(|(_, request)| request).collect();
    if session.more == 0 {
        let agent = chain.map(|chain| chain.times.clone()).unwrap_or_default();
        write_time(out, terminal, &TimeSpent::with_agent(&rows, &open, Timestamp::now(), agent))?;
    }
    let links = session.traces().filter_map(|trace| terminal.trace_link.as_ref()?.text(trace, ""));
    for link in links {
        writeln!(out, "trace: {link}")?;
    }
    let names_servers = session.totals.servers.len() > 1;
    session.events.iter().try_for_each(|event| write_event(out, terminal, event, names_servers))?;
    for open in &session.open {
        let ms = format::duration(open.started.ms_until(Timestamp::now()));
        let silent = open.silent_ms.map_or_else(String::new, |ms| {
            format!(", nothing from the server in the first {}", format::duration(ms))
        });
        let text = format!("open for {ms}: {} on {}{silent}", open.name, open.server_name);
        writeln!(out, "{}", Tone::Warning.paint(terminal.cut(text, terminal.width)))?;
    }
    if rows.is_empty() && session.more == 0 && chain.is_none() {
        return Ok(());
    }
    writeln!(out)?;
    match chain {
        Some(chain) => chain::draw(out, terminal, chain, &rows, part)?,
        None => waterfall::draw(out, terminal, &rows, part)?,
    }
    let (shown, later) = part.counts(&rows);
    let all = rows.len() as u64 + session.more;
    if shown + later < all {
        let later = if later > 0 {
            format!(" and {}", format::plural(later, "later failure"))
        } else {
            String::new()
        };
        let all = format::plural(all, "operation");
        writeln!(
            out,
            "the first {shown} of {all}{later}; --all shows all, --status error, --since, --tool others"
        )?;
    }
    writeln!(out)?;
    let failed = rows.iter().find(|row| row.status.is_failure()).map(|row| (row, "first failure"));
    match failed.or(rows.last().map(|row| (row, "last one"))) {
        Some((row, which)) => write_example(out, terminal, row, which, again),
        None => Ok(()),
    }
}

fn write_totals(
    out: &mut dyn Write,
    terminal: &Terminal,
    session_id: &str,
    session: &SessionReader<'_>,
    chain: Option<&SessionChain<'_>>,
) -> io::Result<()> {
    let totals = &session.totals;
    let (first, last) = totals.span.get().unwrap_or_default();
    writeln!(out, "{}", Tone::Strong.paint(session_id))?;
    let servers: Vec<&str> = totals.servers.keys().map(String::as_str).collect();
    let hosts: Vec<&str> = totals.hosts.iter().map(String::as_str).collect();
    let facts = [
        servers.join(", "),
        hosts.join(", "),
        totals.folders.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
        format::span(first, (!totals.goes_on).then_some(last), &terminal.zone, terminal.dash()),
        format::duration(totals.span.ms()),
    ];
    let counts = [
        format::plural(totals.calls.calls, "call"),
        format::plural(totals.calls.errors(), "error"),
        format::plural(totals.turns.turns(), "turn"),
        format!("~{} tokens", format::count(totals.calls.tokens)),
    ];
    for (facts, separator) in [(&facts[..], "  "), (&counts[..], ", ")] {
        let facts: Vec<Printable> = facts.iter().map(|fact| Printable::new(fact)).collect();
        for line in terminal.lines(&facts, separator) {
            writeln!(out, "{line}")?;
        }
    }
    for facts in chain.map(|chain| chain::summary(&chain.totals)).unwrap_or_default() {
        for line in terminal.lines(&facts, ", ") {
            writeln!(out, "{line}")?;
        }
    }
    if let Some(runs) = &totals.ambiguous_runs {
        for line in terminal.lines(&runs.facts().map(Printable::from), "; ") {
            writeln!(out, "{line}")?;
        }
    }
    let (note, tone) = annotation(totals, terminal.warn, false);
    if !note.is_empty() {
        writeln!(out, "{}", tone.paint(terminal.cut(note, terminal.width)))?;
    }
    Ok(())
}

/// Writes where the time went, except kinds that took none.
fn write_time(out: &mut dyn Write, terminal: &Terminal, time: &TimeSpent) -> io::Result<()> {
    let parts = [
        ("starting", time.starting_ms),
        ("tools", time.tools_ms),
        ("the model", time.model_ms),
        ("a person", time.person_ms),
        ("nothing asked", time.silent_ms()),
    ];
    let parts = parts.into_iter().filter(|(_, ms)| *ms > 0.0);
    let mut parts: Vec<Printable> =
        parts.map(|(what, ms)| format!("{what} {}", format::duration(ms)).into()).collect();
    if let Some(first) = parts.first_mut() {
        *first = format!("time: {first}").into();
    }
    let lines = terminal.lines(&parts, if terminal.unicode { " · " } else { ", " });
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))
}

fn write_event(
    out: &mut dyn Write,
    terminal: &Terminal,
    event: &EventRow,
    names_server: bool,
) -> io::Result<()> {
    let at = event.at.local(&terminal.zone, "%H:%M:%S");
    let server = if names_server { format!("{}: ", event.server_name) } else { String::new() };
    let line = terminal.cut(format!("{at}  {server}{}", event.text), terminal.width);
    writeln!(out, "{}", Tone::from(event.severity).paint(line))?;
    event.stderr.iter().try_for_each(|line| {
        let line = terminal.cut(format!("{:10}{line}", ""), terminal.width);
        writeln!(out, "{}", Tone::Faint.paint(line))
    })
}

/// Suggests the command that shows an operation in full.
fn write_example(
    out: &mut dyn Write,
    terminal: &Terminal,
    row: &OperationRow,
    which: &str,
    again: &Printable,
) -> io::Result<()> {
    let mut hint = format!("spantap show {}{again}", Printable::from(row.handle()));
    let purpose = format!(" shows the {which} in full");
    // A command is copied, and therefore never cut.
    if Printable::new(&hint).width() + purpose.len() <= terminal.width {
        hint.push_str(&purpose);
    }
    writeln!(out, "{}", Tone::Faint.paint(hint))
}
