//! The findings of `spantap check --lint`, by rule, with the way out.

use std::io::{self, Write};

use crate::present::Printable;
use crate::present::format;
use crate::present::table::{Terminal, Tone};

/// A rule with what it found. Texts of servers are redacted.
#[derive(Clone, Debug)]
pub(crate) struct LintGroup {
    pub(crate) rule: &'static str,
    pub(crate) is_error: bool,
    pub(crate) what: &'static str,
    pub(crate) hosts: &'static str,
    pub(crate) way_out: &'static str,
    pub(crate) source: &'static str,
    /// The tool, and the fault in words. Of several servers, the tool is written with its server.
    pub(crate) places: Vec<(String, String)>,
}

/// Widest column of tools.
const MOST_NAME: usize = 40;

/// Writes the findings and their sum. `tools` is the number of tools that were linted.
pub(crate) fn write(
    out: &mut dyn Write,
    groups: &[LintGroup],
    tools: usize,
    terminal: &Terminal,
) -> io::Result<()> {
    for group in groups {
        let (word, tone) = if group.is_error { ("error", Tone::Bad) } else { ("warning", Tone::Warning) };
        write!(out, "\n{}  ", tone.paint(word))?;
        let title = format!("{}: {}", group.rule, group.what);
        lines(out, &title, word.len() + 2, 2, terminal, Tone::Strong)?;
        let width =
            group.places.iter().map(|(tool, _)| Printable::new(tool).width()).max().unwrap_or_default();
        let width = width.min(MOST_NAME);
        for (tool, detail) in &group.places {
            let tool = Printable::new(tool);
            let gap = width.saturating_sub(tool.width()) + 2;
            write!(out, "  {tool}{:gap$}", "")?;
            lines(out, detail, 2 + tool.width() + gap, 6, terminal, Tone::Plain)?;
        }
        for (word, text) in [("hosts", group.hosts), ("way out", group.way_out)] {
            write!(out, "  ")?;
            lines(out, &format!("{word}: {text}"), 2, 4, terminal, Tone::Faint)?;
        }
        writeln!(out, "  {}", Tone::Faint.paint(group.source))?;
    }
    let count = |is_error: bool| -> u64 {
        let of_level = groups.iter().filter(|group| group.is_error == is_error);
        of_level.map(|group| group.places.len() as u64).sum()
    };
    let (errors, warnings) = (count(true), count(false));
    let sums =
        [(errors, "error", Tone::Bad), (warnings, "warning", Tone::Warning)].map(|(count, word, tone)| {
            let text = format::plural(count, word);
            if count > 0 { tone.paint(text) } else { text }
        });
    writeln!(out, "\nlint of {}: {}", format::plural(tools as u64, "tool"), sums.join(", "))
}

/// Writes a text that begins at column `used`, in lines with `indent` from the second on.
fn lines(
    out: &mut dyn Write,
    text: &str,
    used: usize,
    indent: usize,
    terminal: &Terminal,
    tone: Tone,
) -> io::Result<()> {
    for line in terminal.broken(&Printable::new(text), used, indent) {
        writeln!(out, "{}", tone.paint(line))?;
    }
    Ok(())
}
