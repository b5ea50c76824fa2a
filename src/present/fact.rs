//! One record of an agent with everything that it reported, as `show HANDLE` draws a call.

use std::borrow::Cow;
use std::io::{self, Write};

use crate::present::fact_list::FactList;
use crate::present::table::{Terminal, Tone};
use crate::present::{Printable, format};
use crate::query::agents::RunFact;
use crate::record::EventName;
use crate::record::agent::AgentRecord;
use crate::record::words::{CostSource, Status, ToolDecision};

fn known<'r>(text: &'r Option<Cow<'_, str>>) -> &'r str {
    text.as_deref().unwrap_or_default()
}

/// Draws what the agent reported, and the ids that join it to other records.
pub(crate) fn write(out: &mut dyn Write, terminal: &Terminal, fact: &RunFact<'_>) -> io::Result<()> {
    let record = &fact.record;
    let title = Tone::Strong.paint(fact.handle());
    writeln!(out, "{title}  {} of {}", Printable::from(name(record)), Printable::new(&record.agent_name))?;
    let mut facts = FactList { out };
    write_outcome(&mut facts, terminal, fact)?;
    write_usage(&mut facts, record)?;
    write_ids(&mut facts, terminal, record)
}

/// Returns what the record is about, in words.
pub(crate) fn name(record: &AgentRecord<'_>) -> String {
    match record.event {
        EventName::ModelCall => format!("model call {}", known(&record.model)),
        EventName::AgentTool => {
            let server = record.tool_server.as_deref().map(|server| format!("{server}/"));
            format!("tool {}{}", server.unwrap_or_default(), known(&record.tool_name))
        }
        EventName::ServerSpan => format!("span {}", known(&record.span_name)),
        _ => format!("turn {}", known(&record.turn_id)),
    }
    .trim_end()
    .to_owned()
}

fn write_outcome(facts: &mut FactList<'_>, terminal: &Terminal, fact: &RunFact<'_>) -> io::Result<()> {
    let record = &fact.record;
    let is_of_server = record.event == EventName::ServerSpan;
    let reporter = if is_of_server { "server" } else { "agent" };
    facts.section(&format!("what the {reporter} reported"))?;
    let at = fact.began().local(&terminal.zone, "%Y-%m-%d %H:%M:%S%.6f %:z");
    let took = fact.length_ms().map(format::duration).unwrap_or_else(|| "an unknown time".to_owned());
    facts.add("time", &format!("{at}, took {took}"), Tone::Plain)?;
    let first = record.first_token_ms.as_ref().map(|ms| format::duration(ms.0));
    facts.add("first token", &first.map(|ms| format!("after {ms}")).unwrap_or_default(), Tone::Plain)?;
    let attempt = record.attempt.filter(|attempt| *attempt > 1);
    facts.add("attempt", &attempt.map(|attempt| attempt.to_string()).unwrap_or_default(), Tone::Plain)?;
    let (status, tone) = match record.status {
        None => ("", Tone::Plain),
        Some(Status::Ok) => ("ok", Tone::Good),
        Some(status) if status.is_error() => (status.as_str(), Tone::Bad),
        Some(status) => (status.as_str(), Tone::Warning),
    };
    facts.add("status", status, tone)?;
    facts.add("error", known(&record.error_type), Tone::Bad)?;
    let by = record.decided_by.map(|by| format!(" by {by}")).unwrap_or_default();
    let (decision, tone) = match record.decision {
        None => (String::new(), Tone::Plain),
        Some(ToolDecision::Refused) => (format!("refused{by}, before a server was asked"), Tone::Warning),
        Some(decision) => (format!("{decision}{by}"), Tone::Plain),
    };
    facts.add("decision", &decision, tone)?;
    let waited = record.person_wait_ms.as_ref().map(|ms| format!("{} for a person", format::duration(ms.0)));
    facts.add("waited", &waited.unwrap_or_default(), Tone::Plain)
}

/// Writes tokens and cost, each as exactly as it was reported.
fn write_usage(facts: &mut FactList<'_>, record: &AgentRecord<'_>) -> io::Result<()> {
    for (name, tokens) in [
        ("tokens in", record.input_tokens),
        ("from the cache", record.cached_tokens),
        ("to the cache", record.cache_write_tokens),
        ("tokens out", record.output_tokens),
    ] {
        facts.add(name, &tokens.map(|tokens| tokens.to_string()).unwrap_or_default(), Tone::Plain)?;
    }
    let cost = record.cost_usd.filter(|cost| cost.is_finite()).map(|cost| match record.cost_source {
        Some(CostSource::Config) => format!("~{}, by the prices in the config file", format::usd(cost)),
        _ => format!("{}, as the agent reported", format::usd(cost)),
    });
    facts.add("cost", &cost.unwrap_or_default(), Tone::Plain)
}

fn write_ids(facts: &mut FactList<'_>, terminal: &Terminal, record: &AgentRecord<'_>) -> io::Result<()> {
    facts.section("the chain")?;
    let is_of_server = record.event == EventName::ServerSpan;
    let calls = record.call_ids.iter().flatten().map(|id| &**id).collect::<Vec<_>>().join(" ");
    let pid = record.host_pid.map(|pid| pid.to_string()).unwrap_or_default();
    for (name, value) in [
        ("agent session", if is_of_server { "" } else { &*record.session_id }),
        ("version", known(&record.agent_version)),
        ("process", &pid),
        ("conversation", known(&record.conversation_id)),
        ("turn", known(&record.turn_id)),
        ("tool call", known(&record.call_id)),
        ("asked for", &calls),
        ("collector run", &record.connection_id),
        ("fact", known(&record.fact_id)),
        ("trace", known(&record.trace_id)),
        ("span", known(&record.span_id)),
        ("parent span", known(&record.parent_span_id)),
    ] {
        facts.add(name, value, Tone::Plain)?;
    }
    let link = terminal.trace_link.as_ref();
    match link.and_then(|link| link.text(known(&record.trace_id), known(&record.span_id))) {
        Some(link) => facts.add_marked("trace link", &link),
        None => Ok(()),
    }
}
