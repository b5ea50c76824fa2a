//! `spantap gate`: the verdict as text, JSON, JUnit XML, SARIF and annotations of GitHub.

use std::io::{self, Write};

use serde::Serialize;

use crate::present::commands::{CommandEscape, CommandlessLines};
use crate::present::sarif::{self, SarifLevel, SarifResult, SarifRule};
use crate::present::table::{Terminal, Tone};
use crate::present::{Printable, format};
use crate::query::gate::{GateCheck, GateFacts, GateFigure, GateVerdict, overall};

/// The forms of a verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum GateForm {
    #[default]
    Text,
    Json,
    Junit,
    Sarif,
    Github,
}

/// Every rule: its name, what it asks for, and the way out.
const RULES: &[(&str, &str, &str)] = &[
    ("max-errors", "At most this many calls fail", "`spantap stats --by error` shows why calls fail"),
    (
        "max-error-rate",
        "At most this share of the calls fails",
        "`spantap stats --by error` shows why calls fail",
    ),
    (
        "no-deaths",
        "No server dies, and every server starts",
        "`spantap why` shows the last words of a server",
    ),
    ("no-loops", "No call is repeated without progress", "`spantap why` shows repeated calls"),
    (
        "p95",
        "95 of 100 calls of a tool take at most this long",
        "`spantap stats` shows the durations of all tools",
    ),
    (
        "max-definitions",
        "The definitions of all servers of a session have at most this many tokens",
        "remove servers or tools that are not needed",
    ),
    ("max-result", "No result of a tool has more tokens than this", "`spantap show HANDLE` shows the call"),
    ("expect-tool", "The tool is called", "`spantap stats` shows which tools were called"),
    ("forbid-tool", "The tool is not called", "`spantap tail --tool TOOL` shows the calls"),
    (
        "no-new-tools",
        "Every listed tool is in the baseline",
        "`spantap diff` shows what changed in the tools",
    ),
    ("lint", "Hosts refuse no listed tool", "`spantap check --lint` names the reason and the way out"),
    ("complete", "Nothing of the sessions is missing", "--allow-loss accepts what is missing"),
];

/// Writes the verdict in one of its forms.
pub(crate) fn write(
    out: &mut dyn Write,
    terminal: &Terminal,
    form: GateForm,
    facts: &GateFacts,
    checks: &[GateCheck],
) -> anyhow::Result<()> {
    let escape = match form {
        GateForm::Text => CommandEscape::Text,
        GateForm::Json | GateForm::Sarif => CommandEscape::Json,
        GateForm::Junit => CommandEscape::Xml,
        // These are commands, and a text in one of them is escaped.
        GateForm::Github => return Ok(out.write_all(github(facts, checks).as_bytes())?),
    };
    let mut out = CommandlessLines::new(out, escape);
    match form {
        GateForm::Json => writeln!(out, "{}", json(facts, checks)?)?,
        GateForm::Junit => out.write_all(junit(checks).as_bytes())?,
        GateForm::Sarif => writeln!(out, "{}", Printable::rounded_json(&sarif(checks))?)?,
        _ => write_text(&mut out, terminal, facts, checks)?,
    }
    Ok(())
}

fn write_text(
    out: &mut dyn Write,
    terminal: &Terminal,
    facts: &GateFacts,
    checks: &[GateCheck],
) -> io::Result<()> {
    let width = checks.iter().map(|check| title(check).width()).max().unwrap_or(0).min(terminal.share(2));
    for check in checks {
        let (word, tone) = match check.verdict {
            GateVerdict::Passed => ("ok  ", Tone::Good),
            GateVerdict::Failed => ("FAIL", Tone::Bad),
            GateVerdict::NothingToJudge => ("none", Tone::Warning),
        };
        let title = terminal.cut(title(check), width);
        let blanks = width - title.width().min(width);
        let line = format!("{title}{:blanks$}  {}", "", outcome(check));
        let line = Printable::from(line);
        let used = "FAIL  ".len() + line.width();
        let evidence = match check.verdict {
            GateVerdict::Passed if check.rule != "complete" => String::new(),
            _ => check.evidence.join("; "),
        };
        let evidence = Printable::from(if evidence.is_empty() { evidence } else { format!("- {evidence}") });
        let note = terminal.note(&evidence, Tone::Faint, used, 1, "FAIL  ".len());
        writeln!(
            out,
            "{}  {}{note}",
            tone.paint(word),
            terminal.cut(&line, terminal.width.saturating_sub(6))
        )?;
    }
    let tone = if overall(checks) == GateVerdict::Passed { Tone::Good } else { Tone::Bad };
    writeln!(out, "{}", tone.paint(summary(facts, checks)))
}

fn title(check: &GateCheck) -> Printable {
    match &check.tool {
        Some(tool) => Printable::from(format!("{} {tool}", check.rule)),
        None => Printable::new(check.rule),
    }
}

/// Returns figure and limit.
fn outcome(check: &GateCheck) -> String {
    let limit = match check.rule {
        "expect-tool" => "at least 1".to_owned(),
        "complete" if check.verdict == GateVerdict::Passed && check.figure != Some(GateFigure::Count(0)) => {
            "allowed".to_owned()
        }
        // Rounded figures that look equal say nothing.
        _ if check.figure.is_some_and(|figure| {
            figure != check.limit && figure_text(figure) == figure_text(check.limit)
        }) =>
        {
            let figure = check.figure.map(exact_text).unwrap_or_default();
            return format!("{figure}, limit {}", exact_text(check.limit));
        }
        _ => format!("limit {}", figure_text(check.limit)),
    };
    match check.figure {
        Some(figure) => format!("{}, {limit}", figure_text(figure)),
        None => format!("nothing to judge, {limit}"),
    }
}

fn figure_text(figure: GateFigure) -> String {
    match figure {
        GateFigure::Count(count) => count.to_string(),
        GateFigure::Share(share) => format!("{} %", format::percent(share)),
        GateFigure::Ms(ms) => format::duration(ms),
        GateFigure::Tokens(tokens) => format!("~{} tokens", format::count(tokens)),
    }
}

fn exact_text(figure: GateFigure) -> String {
    match figure {
        GateFigure::Count(count) => count.to_string(),
        GateFigure::Share(share) => format!("{} %", (share * 1e11).round() / 1e9),
        GateFigure::Ms(ms) => format!("{} ms", (ms * 1e6).round() / 1e6),
        GateFigure::Tokens(tokens) => format!("~{tokens} tokens"),
    }
}

/// Returns a line about all rules.
fn summary(facts: &GateFacts, checks: &[GateCheck]) -> String {
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let rules = format::plural(checks.len() as u64, "rule");
    let verdict = match overall(checks) {
        GateVerdict::Passed => format!("passed: {rules}"),
        GateVerdict::Failed => format!("failed: {} of {rules}", count(GateVerdict::Failed)),
        GateVerdict::NothingToJudge => {
            format!(
                "nothing to judge for {} of {rules}, which is not a pass",
                count(GateVerdict::NothingToJudge)
            )
        }
    };
    let calls = format::plural(facts.calls.calls, "call");
    format!("{verdict}; {calls} in {}", format::plural(facts.sessions as u64, "session"))
}

fn json(facts: &GateFacts, checks: &[GateCheck]) -> serde_json::Result<Printable> {
    #[derive(Serialize)]
    struct GateLine<'c> {
        verdict: GateVerdict,
        rules: &'c [GateCheck],
        sessions: usize,
        connections: usize,
        calls: u64,
    }
    Printable::rounded_json(&GateLine {
        verdict: overall(checks),
        rules: checks,
        sessions: facts.sessions,
        connections: facts.connections,
        calls: facts.calls.calls,
    })
}

/// Returns the message of a rule that did not pass.
fn message(check: &GateCheck) -> Printable {
    let evidence: String = check.evidence.iter().map(|fact| format!("; {fact}")).collect();
    Printable::from(format!("{}: {}{evidence}", title(check), outcome(check)))
}

fn junit(checks: &[GateCheck]) -> String {
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let counts = format!(
        "name=\"spantap gate\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"0\"",
        checks.len(),
        count(GateVerdict::Failed),
        count(GateVerdict::NothingToJudge)
    );
    let mut text =
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n<testsuite {counts}>\n");
    for check in checks {
        let name = xml(&title(check));
        text.push_str(&format!("<testcase classname=\"spantap.gate\" name=\"{name}\""));
        let element = match check.verdict {
            GateVerdict::Passed => None,
            GateVerdict::Failed => Some("failure"),
            GateVerdict::NothingToJudge => Some("error"),
        };
        match element {
            None => text.push_str("/>\n"),
            Some(element) => {
                let outcome = xml(&Printable::from(outcome(check)));
                let evidence: String =
                    check.evidence.iter().map(|fact| format!("{}\n", xml(&Printable::new(fact)))).collect();
                text.push_str(&format!(
                    "><{element} type=\"{}\" message=\"{outcome}\">{evidence}</{element}></testcase>\n",
                    check.rule
                ));
            }
        }
    }
    text + "</testsuite>\n</testsuites>\n"
}

/// Escapes a text for XML 1.0. Characters that it cannot have are replaced.
fn xml(text: &Printable) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c if c < ' ' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

fn sarif(checks: &[GateCheck]) -> serde_json::Value {
    let rule = |(id, text, help): &(&'static str, &str, &str)| SarifRule {
        id,
        text: (*text).to_owned(),
        help: (*help).to_owned(),
        help_uri: None,
    };
    let rules: Vec<SarifRule> = RULES.iter().map(rule).collect();
    let noted = checks.iter().filter(|check| check.verdict != GateVerdict::Passed);
    let result = |check: &GateCheck| SarifResult {
        rule: check.rule,
        level: match check.verdict {
            GateVerdict::Failed => SarifLevel::Error,
            _ => SarifLevel::Warning,
        },
        message: message(check).to_string(),
        place: check.tool.iter().map(|tool| ("tool", Printable::new(tool).to_string())).collect(),
    };
    let results: Vec<SarifResult> = noted.map(result).collect();
    let unjudged = checks.iter().filter(|check| check.verdict == GateVerdict::NothingToJudge);
    let unjudged: Vec<String> = unjudged.map(|check| message(check).to_string()).collect();
    sarif::document(&rules, &results, &unjudged)
}

/// Returns workflow commands of GitHub Actions, one on a line.
fn github(facts: &GateFacts, checks: &[GateCheck]) -> String {
    let mut text = String::new();
    for check in checks {
        let level = match check.verdict {
            GateVerdict::Passed if check.rule == "complete" && !check.evidence.is_empty() => "warning",
            GateVerdict::Passed => continue,
            _ => "error",
        };
        let data = escaped(&message(check));
        text.push_str(&format!("::{level} title=spantap gate {}::{data}\n", check.rule));
    }
    text + &summary(facts, checks) + "\n"
}

/// Writes `%` and line breaks in the data of a workflow command as GitHub requires.
fn escaped(text: &Printable) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}
