//! One operation with everything that is recorded of it.

use std::borrow::Cow;
use std::io::{self, Write};

use crate::present::fact_list::FactList;
use crate::present::table::{Terminal, Tone};
use crate::present::{Printable, annotations, body, chain, format};
use crate::query::agents::chain::ChainPath;
use crate::query::bodies::OperationBodies;
use crate::query::row::OperationRow;
use crate::record::Record;

/// Draws one operation: what happened, what the agent and the server reported around it, the chain of ids and hashes,
/// and how to compare a text with them.
pub fn write(
    out: &mut dyn Write,
    terminal: &Terminal,
    row: &OperationRow,
    record: &Record<'_>,
    summary: Option<&str>,
    bodies: &OperationBodies,
    path: Option<&ChainPath<'_, '_>>,
) -> io::Result<()> {
    let title = Tone::Strong.paint(row.handle());
    writeln!(out, "{title}  {} on {}", Printable::new(row.name()), Printable::new(&row.server_name))?;
    let mut facts = FactList { out };
    write_outcome(&mut facts, terminal, row, record)?;
    write_summary(&mut facts, summary)?;
    write_bodies(&mut facts, record, bodies)?;
    path.map_or(Ok(()), |path| chain::write_path(&mut facts, path))?;
    write_chain(&mut facts, terminal, row, record)?;
    write_comparison(&mut facts, terminal, record)
}

fn write_outcome(
    facts: &mut FactList<'_>,
    terminal: &Terminal,
    row: &OperationRow,
    record: &Record<'_>,
) -> io::Result<()> {
    facts.section("what happened")?;
    let side = if row.is_from_server { "server" } else { "client" };
    let request = format!("{} {}", row.method, row.target);
    facts.add("request", &format!("{}, asked by the {side}", request.trim_end()), Tone::Plain)?;
    let at = row.started.local(&terminal.zone, "%Y-%m-%d %H:%M:%S%.6f %:z");
    let took = row.duration_ms.map(format::duration).unwrap_or_else(|| "unknown".to_owned());
    facts.add("time", &format!("{at}, took {took}"), Tone::Plain)?;
    let (note, tone) = annotations::operation(row, terminal.warn);
    let code = record.error_code.map(|code| format!(" (code {code})")).unwrap_or_default();
    facts.add("status", &format!("{}{code}", row.status.as_str()), tone)?;
    facts.add("", &note, tone)?;
    let size = |bytes: Option<u64>, tokens: Option<u64>| {
        let tokens = tokens.map(|tokens| format!(", ~{} tokens", format::count(tokens))).unwrap_or_default();
        bytes.map(|bytes| format!("{}{tokens}", format::bytes(bytes)))
    };
    let sent = size(record.request_size_bytes, record.args_tokens_est);
    facts.add("sent", &sent.unwrap_or_default(), Tone::Plain)?;
    let returned = size(row.result_size_bytes, record.result_tokens_est);
    facts.add("returned", &returned.unwrap_or_else(|| "nothing".to_owned()), Tone::Plain)
}

fn write_summary(facts: &mut FactList<'_>, summary: Option<&str>) -> io::Result<()> {
    let summary = Printable::new(summary.unwrap_or("not recorded; --log-level debug records a summary"));
    // The record holds line breaks in their written form.
    let lines = summary.split("\\u{a}").filter(|line| !line.trim().is_empty());
    for (number, line) in lines.enumerate() {
        facts.add(if number == 0 { "summary" } else { "" }, line, Tone::Plain)?;
    }
    Ok(())
}

/// Writes the request and the response, redacted, or how to keep those of later calls.
fn write_bodies(facts: &mut FactList<'_>, record: &Record<'_>, bodies: &OperationBodies) -> io::Result<()> {
    let targets = [&record.tool_name, &record.prompt_name, &record.resource_uri];
    if *bodies == OperationBodies::default() && targets.into_iter().any(Option::is_some) {
        let hint = "not kept; `spantap debug on --bodies` keeps those of later calls, redacted";
        return facts.add("bodies", hint, Tone::Plain);
    }
    for (title, kept) in [("request, redacted", &bodies.request), ("response, redacted", &bodies.response)] {
        let Some(kept) = kept else { continue };
        facts.section(title)?;
        match &kept.text {
            Some(text) => {
                for line in body::lines(text) {
                    writeln!(facts.out, "  {line}")?;
                }
            }
            None => {
                let size = format::bytes(kept.size);
                writeln!(facts.out, "  {size}, not kept: too long, or not seen as a whole")?;
            }
        }
    }
    Ok(())
}

fn write_chain(
    facts: &mut FactList<'_>,
    terminal: &Terminal,
    row: &OperationRow,
    record: &Record<'_>,
) -> io::Result<()> {
    facts.section("the chain")?;
    fn known<'r>(text: &'r Option<Cow<'_, str>>) -> &'r str {
        text.as_deref().unwrap_or_default()
    }
    for (name, value) in [
        ("agent session", &*row.session_id),
        ("host", known(&record.host_name)),
        ("user", known(&record.user_id)),
        ("conversation", known(&record.conversation_id)),
        ("turn", known(&record.turn_id)),
        ("tool call", known(&record.call_id)),
        ("model", known(&record.model)),
        ("connection", &row.connection_id),
        ("request id", known(&record.request_id)),
        ("trace", known(&record.trace_id)),
        ("span", known(&record.span_id)),
        ("parent span", known(&record.parent_span_id)),
    ] {
        facts.add(name, value, Tone::Plain)?;
    }
    let link = terminal.trace_link.as_ref();
    if let Some(link) = link.and_then(|link| link.text(known(&record.trace_id), known(&record.span_id))) {
        facts.add_marked("trace link", &link)?;
    }
    for (name, value) in [
        ("arguments", known(&record.args_hash)),
        ("result", known(&record.result_hash)),
        ("text", known(&record.text_hash)),
    ] {
        facts.add(name, value, Tone::Plain)?;
    }
    Ok(())
}

fn write_comparison(facts: &mut FactList<'_>, terminal: &Terminal, record: &Record<'_>) -> io::Result<()> {
    if record.result_hash.is_none() {
        return Ok(());
    }
    facts.section("is this what the server returned?")?;
    if record.text_hash.is_some() {
        let command = "spantap redact --hash text FILE      prints the hash above";
        facts.add("its text", command, Tone::Plain)?;
    }
    let command = "spantap redact --hash result FILE    prints the hash above";
    facts.add("its result", command, Tone::Plain)?;
    let verdict = "Same hash: the server returned it. Different hash: changed or made up later.";
    let verdict = terminal.cut(verdict, terminal.width.saturating_sub(2));
    writeln!(facts.out, "  {}", Tone::Faint.paint(verdict))
}
