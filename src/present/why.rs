//! `spantap why`: the facts in at most five sentences, each with the handle to look at.

use std::io::{self, Write};

use serde::Serialize;

use crate::present::table::{Terminal, Tone};
use crate::present::{Printable, format};
use crate::query::why::agent::{ModelFailureFact, RefusalFact};
use crate::query::why::ends::EndFact;
use crate::query::why::failures::{DenialFact, FailureCause, FailureFact, FailureMessage};
use crate::query::why::repeats::RepeatFact;
use crate::query::why::time::{TimeFact, ToolTime};
use crate::query::why::usual::{UnusualFact, UsualDuration};
use crate::query::why::{CallFact, Fact, OpenFact};
use crate::record::words::Decider;

/// Most sentences.
const SENTENCES: usize = 5;
/// The sentence about a session or call without a remarkable fact.
const HEALTHY: &str = "Nothing stood out.";
/// Columns of a name on a terminal.
const NAME: usize = 40;
/// Columns of a message on a terminal.
const MESSAGE: usize = 160;
/// Most messages of one tool that a sentence names.
const MESSAGES: usize = 3;
/// Share of the time below which a part is not mentioned.
const LEAST_SHARE: f64 = 0.02;

/// Writes at most `limit` sentences.
pub(crate) fn write(
    out: &mut dyn Write,
    terminal: &Terminal,
    facts: &[Fact],
    limit: Option<usize>,
) -> io::Result<()> {
    if !facts.iter().any(Fact::stands_out) {
        writeln!(out, "{}", Tone::Good.paint(HEALTHY))?;
    }
    let limit = limit.unwrap_or(SENTENCES).min(SENTENCES);
    let texts = SentenceWriter { terminal, open: open(facts).filter(|_| limit > 1) };
    let sentences = facts.iter().filter_map(|fact| Some((texts.sentence(fact)?, fact.handle())));
    for (sentence, handle) in sentences.take(limit) {
        write_sentence(out, terminal, &sentence.into(), &handle.into())?;
    }
    Ok(())
}

/// Returns the facts with their sentences as one JSON object.
pub(crate) fn json(session_id: &str, call: Option<&str>, facts: &[Fact]) -> serde_json::Result<Printable> {
    #[derive(Serialize)]
    struct FactLine<'f> {
        #[serde(flatten)]
        fact: &'f Fact,
        #[serde(skip_serializing_if = "Option::is_none")]
        sentence: Option<String>,
    }
    #[derive(Serialize)]
    struct WhyLine<'f> {
        session_id: &'f str,
        #[serde(skip_serializing_if = "Option::is_none")]
        call: Option<&'f str>,
        nothing_stood_out: bool,
        facts: Vec<FactLine<'f>>,
    }
    let terminal = Terminal {
        width: Terminal::UNLIMITED,
        unicode: true,
        zone: jiff::tz::TimeZone::UTC,
        warn: u32::MAX,
        trace_link: None,
    };
    let texts = SentenceWriter { terminal: &terminal, open: open(facts) };
    let line = WhyLine {
        session_id,
        call,
        nothing_stood_out: !facts.iter().any(Fact::stands_out),
        facts: facts.iter().map(|fact| FactLine { fact, sentence: texts.sentence(fact) }).collect(),
    };
    Printable::rounded_json(&line)
}

/// Writes a sentence over as many lines as it needs, and its handle after it.
fn write_sentence(
    out: &mut dyn Write,
    terminal: &Terminal,
    sentence: &Printable,
    handle: &Printable,
) -> io::Result<()> {
    let text = terminal.paragraph(sentence, 0, 0);
    let used = Printable::new(text.rsplit('\n').next().unwrap_or_default()).width();
    let gap = if used + 2 + handle.width() > terminal.width { "\n" } else { "  " };
    writeln!(out, "{text}{gap}{}", Tone::Faint.paint(handle))
}

fn open(facts: &[Fact]) -> Option<&OpenFact> {
    facts.iter().find_map(|fact| if let Fact::Open(open) = fact { Some(open) } else { None })
}

/// Puts facts into words.
struct SentenceWriter<'t> {
    terminal: &'t Terminal,
    /// The open request that has a sentence of its own.
    open: Option<&'t OpenFact>,
}

impl SentenceWriter<'_> {
    /// Returns the sentence of a fact; `None` if there is nothing to say.
    fn sentence(&self, fact: &Fact) -> Option<String> {
        Some(match fact {
            Fact::Time(fact) => return self.time(fact),
            Fact::Call(fact) => self.call(fact),
            Fact::Open(fact) => self.open(fact),
            Fact::End(fact) => self.end(fact),
            Fact::Failures(fact) => self.failures(fact),
            Fact::ModelFailures(fact) => self.model_failures(fact),
            Fact::Denials(fact) => self.denials(fact),
            Fact::Refusals(fact) => self.refusals(fact),
            Fact::Repeats(fact) => self.repeats(fact),
            Fact::Unusual(fact) => self.unusual(fact),
        })
    }

    fn name(&self, name: &str) -> Printable {
        self.terminal.cut(name, NAME)
    }

    fn tool(&self, tool: &str, server: &str) -> String {
        format!("{} on {}", self.name(tool), self.name(server))
    }

    fn message(&self, message: &str) -> Printable {
        self.terminal.cut(message.trim_end_matches('.'), MESSAGE)
    }

    fn time(&self, fact: &TimeFact) -> Option<String> {
        let is_told = |tool: &&ToolTime| {
            tool.calls == 1
                && self.open.is_some_and(|open| {
                    (&open.server_name, &open.name) == (&tool.server_name, &tool.tool_name)
                })
        };
        let tool = fact.longest_tool.as_ref().filter(|tool| tool.worked_ms > 0.0 && !is_told(tool));
        let tools = tool.map_or_else(String::new, |tool| {
            let (name, open) =
                (self.tool(&tool.tool_name, &tool.server_name), format::duration(tool.worked_ms));
            let calls = format::plural(tool.calls, "call");
            match (tool.calls, tool.still_open) {
                (_, 0) => format!(" ({name}: {open} in {calls})"),
                (1, _) => format!(" ({name}: {open}, still open)"),
                (_, still) => format!(" ({name}: {open} in {calls}, {still} still open)"),
            }
        });
        let parts = [
            (fact.tools_ms, format!("in tools{tools}")),
            (fact.model_ms, "in model calls".to_owned()),
            (fact.start_ms, self.start(fact)),
            (fact.person_ms, "waiting for a person".to_owned()),
            (fact.unobserved_ms, "in calls whose answer was not observed".to_owned()),
            (fact.silence_ms, "in which nothing was asked".to_owned()),
            (fact.between_turns_ms, "between turns".to_owned()),
        ];
        let mut parts: Vec<(f64, String)> =
            parts.into_iter().filter(|(ms, _)| *ms > 0.0 && *ms >= fact.total_ms * LEAST_SHARE).collect();
        parts.sort_by(|a, b| b.0.total_cmp(&a.0));
        let total = format::duration(fact.total_ms);
        let parts: Vec<String> =
            parts.iter().map(|(ms, what)| format!("{} {what}", format::duration(*ms))).collect();
        let what = if fact.is_of_all { "The whole session" } else { "It" };
        let head = match fact.is_open {
            true => format!("{what} has taken {total} so far"),
            false => format!("{what} took {total} from the first request to the last answer"),
        };
        (!parts.is_empty()).then(|| format!("{head}: {}.", parts.join(", ")))
    }

    fn start(&self, fact: &TimeFact) -> String {
        let Some(slowest) = &fact.slowest_start else { return "for the start of servers".to_owned() };
        let name = self.name(&slowest.server_name);
        if fact.servers < 2 {
            return format!("for the start of {name}");
        }
        let how = if fact.is_sequential { " one after another" } else { "" };
        let alone = format::duration(slowest.start_ms);
        let servers = format::plural(fact.servers as u64, "server");
        format!("for the start of {servers}{how} (the slowest, {name}: {alone})")
    }

    fn call(&self, fact: &CallFact) -> String {
        let name = self.tool(&fact.name, &fact.server_name);
        let Some(ms) = fact.duration_ms else {
            return format!("The end of {name} was not observed.");
        };
        let mut text = format!("{name} took {}", format::duration(ms));
        if fact.user_wait_ms > 0.0 {
            text.push_str(&format!(", {} of it waiting for the host", format::duration(fact.user_wait_ms)));
        }
        if let Some(usual) = &fact.usual {
            let word = if fact.is_unusual { "much more than usual: " } else { "" };
            text.push_str(&format!("; {word}{}", usual_text(usual)));
        }
        if fact.beside > 0 {
            let calls = format::plural(fact.beside as u64, "other call");
            let verb = if fact.beside == 1 { "was" } else { "were" };
            text.push_str(&format!("; {calls} of the server {verb} open when it began"));
        }
        text + "."
    }

    fn open(&self, fact: &OpenFact) -> String {
        let name = self.tool(&fact.name, &fact.server_name);
        let usual = fact.usual.as_ref().map(|usual| format!("; {}", usual_text(usual))).unwrap_or_default();
        let others = match fact.count.saturating_sub(1) {
            0 => String::new(),
            1 => ", and 1 other request is open".to_owned(),
            others => format!(", and {} are open", format::plural(others, "other request")),
        };
        format!("{name} has been open for {} and is open now{others}{usual}.", format::duration(fact.open_ms))
    }

    fn end(&self, fact: &EndFact) -> String {
        let mut text = format!("{} {}", self.name(&fact.server_name), self.message(&fact.how));
        if fact.was_ready == Some(false) {
            text.push_str(" before it was ready");
        }
        if fact.count > 1 {
            text.push_str(&format!(", {} times", fact.count));
        }
        if fact.unanswered > 0 {
            let comma = if fact.count > 1 { "," } else { "" };
            let requests = format::plural(fact.unanswered, "request");
            text.push_str(&format!("{comma} and left {requests} unanswered"));
        }
        if let Some(words) = &fact.last_words {
            text.push_str(&format!("; its last words: {}", self.message(words)));
        }
        text + "."
    }

    fn failures(&self, fact: &FailureFact) -> String {
        let name = self.tool(&fact.name, &fact.server_name);
        let word = if fact.is_call { "call" } else { "request" };
        let subject = match (fact.count, fact.operations) {
            (1, None | Some(1)) => name,
            (2, Some(2)) => format!("Both {word}s of {name}"),
            (count, Some(all)) if count == all => format!("All {count} {word}s of {name}"),
            (count, Some(all)) => format!("{count} of {} of {name}", format::plural(all, word)),
            (count, None) => format!("{} of {name}", format::plural(count, word)),
        };
        let verb = match (fact.status, fact.count) {
            ("timeout", _) => "timed out",
            ("cancelled", 1) => "was cancelled",
            ("cancelled", _) => "were cancelled",
            _ => "failed",
        };
        let cause = match cause_text(fact.cause) {
            Some(cause) => format!("; {cause}"),
            None => String::new(),
        };
        let all = match (fact.all_failures, fact.failed_calls) {
            (Some(all), calls) if all > fact.count => match calls {
                Some(calls) if calls == all => format!("; {} failed in all", format::plural(all, "call")),
                Some(1) => format!("; {all} requests failed in all, 1 of them a call"),
                Some(calls) if calls > 0 => format!("; {all} requests failed in all, {calls} of them calls"),
                _ => format!("; {} failed in all", format::plural(all, "request")),
            },
            _ => String::new(),
        };
        format!("{subject} {verb}{}{cause}{all}.", self.messages(fact))
    }

    /// Returns the messages of failures; if there are several, each with its number and, if they differ, its cause.
    fn messages(&self, fact: &FailureFact) -> String {
        if fact.messages.len() < 2 {
            let message = self.message(&fact.message);
            return if message.is_empty() { String::new() } else { format!(": {message}") };
        }
        let all = fact.messages.len() as u64 + fact.more_messages;
        let named = &fact.messages[..fact.messages.len().min(MESSAGES)];
        let text = |message: &FailureMessage| {
            let text = match &*message.message {
                "" => "no message".into(),
                text => self.terminal.cut(text.trim_end_matches('.'), MESSAGE / MESSAGES),
            };
            let cause = cause_text(message.cause).filter(|_| message.cause != fact.cause);
            let cause = cause.map(|cause| format!(", {cause}")).unwrap_or_default();
            format!("{text} ({}{cause})", message.count)
        };
        let mut texts: Vec<String> = named.iter().map(text).collect();
        let more = all - named.len() as u64;
        if more > 0 {
            texts.push(format!("and {more} more"));
        }
        format!(", with {all} messages: {}", texts.join(", "))
    }

    fn model_failures(&self, fact: &ModelFailureFact) -> String {
        let model = match &fact.model {
            Some(model) => format!(" of {}", self.name(model)),
            None => String::new(),
        };
        let subject = match (fact.count, fact.calls) {
            (1, 1) => format!("The only model call{model}"),
            (count, calls) => format!("{count} of {}{model}", format::plural(calls, "model call")),
        };
        let took = match fact.failed_ms {
            ms if ms > 0.0 => format!(" after {} in all", format::duration(ms)),
            _ => String::new(),
        };
        let reason = match fact.error_type.as_deref() {
            Some(reason) => format!(": {}", self.message(reason)),
            None => String::new(),
        };
        format!("{subject} failed{took}{reason}.")
    }

    fn refusals(&self, fact: &RefusalFact) -> String {
        let by = match fact.decided_by {
            Some(Decider::User) => "A person",
            Some(Decider::Config) => "A rule of the agent's settings",
            Some(Decider::Hook) => "A hook of the agent",
            Some(Decider::Agent) => "The agent",
            None => "A person or a policy",
        };
        let times = if fact.count > 1 { format!(" {} times", fact.count) } else { String::new() };
        let name = match &fact.tool_server {
            Some(server) => self.tool(&fact.tool_name, server),
            None => self.name(&fact.tool_name).to_string(),
        };
        format!("{by} refused {name}{times} before a server was asked, which is not an error.")
    }

    fn denials(&self, fact: &DenialFact) -> String {
        if fact.is_question {
            let questions =
                if fact.count > 1 { format!("{} questions", fact.count) } else { "a question".into() };
            let server = self.name(&fact.server_name);
            return format!("A person declined {questions} of {server}, which is not an error.");
        }
        let by = if fact.by_person { "A person" } else { "A person or a policy" };
        let times = if fact.count > 1 { format!(" {} times", fact.count) } else { String::new() };
        let name = self.tool(&fact.name, &fact.server_name);
        format!("{by} refused {name}{times}, which is not an error.")
    }

    fn repeats(&self, fact: &RepeatFact) -> String {
        let name = self.tool(&fact.tool_name, &fact.server_name);
        let count = fact.count;
        let what = match fact.cycle_length {
            Some(length) => format!(
                "The same {length} calls were made {count} times in the same order, the last of them {name}"
            ),
            None => format!("{name} was called {count} times with the same arguments"),
        };
        let progress = match fact.no_progress {
            Some(true) => ", and nothing changed in the results: no progress",
            Some(false) => ", and the results differed",
            None => "",
        };
        format!("{what}{progress}.")
    }

    fn unusual(&self, fact: &UnusualFact) -> String {
        let name = self.tool(&fact.tool_name, &fact.server_name);
        let (slowest, usual) = (format::duration(fact.slowest_ms), usual_text(&fact.usual));
        match (fact.slow, fact.calls) {
            (1, 1) => format!("{name} took {slowest}, much more than usual: {usual}."),
            (1, calls) => {
                format!(
                    "The slowest of {calls} calls of {name} took {slowest}, much more than usual: {usual}."
                )
            }
            (slow, calls) => {
                format!(
                    "{slow} of {calls} calls of {name} took much more than usual, up to {slowest}: {usual}."
                )
            }
        }
    }
}

fn cause_text(cause: FailureCause) -> Option<&'static str> {
    Some(match cause {
        FailureCause::Server => "the cause was the server",
        FailureCause::Arguments => "the cause was the arguments",
        FailureCause::Person => "the cause was a person, who left a question without an answer",
        FailureCause::Client => "the cause was the client",
        FailureCause::Unknown => return None,
    })
}

/// Returns what a tool usually takes.
fn usual_text(usual: &UsualDuration) -> String {
    format!(
        "its median is {}, its p95 {} ({} in 30 days)",
        format::duration(usual.median_ms),
        format::duration(usual.p95_ms),
        format::plural(usual.calls as u64, "call")
    )
}
