//! Compares counts of instructions with those that are kept in a file.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How far a count may be from the kept one, in percent.
const TOLERANCE: u64 = 3;

/// Numbers of instructions by the name of what was counted.
#[derive(Debug, Default, PartialEq)]
pub struct Counts(pub BTreeMap<String, u64>);

impl Counts {
    /// Parses lines of a name, a tab and a number. Lines that begin with `#` are comments.
    ///
    /// # Errors
    /// The first line that is neither, in words.
    pub fn parse(text: &str) -> Result<Counts, String> {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let pair = |line: &str| {
            let (name, count) = line.split_once('\t')?;
            Some((name.to_owned(), count.parse().ok()?))
        };
        let pairs =
            lines.map(|line| pair(line).ok_or_else(|| format!("not a name, a tab and a number: `{line}`")));
        pairs.collect::<Result<_, _>>().map(Counts)
    }

    /// Returns the lines that [`Counts::parse`] reads.
    pub fn text(&self) -> String {
        let mut text = "# What was counted, and its instructions. `cargo bench --bench proxy -- instructions` compares, and\n\
                        # writes this file if UPDATE_FIXTURES is set.\n"
            .to_owned();
        for (name, count) in &self.0 {
            let _ = writeln!(text, "{name}\t{count}");
        }
        text
    }

    /// Returns one line for each count that differs from the kept one by more than the tolerance, or has no
    /// counterpart.
    pub fn differences(&self, kept: &Counts) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, &count) in &self.0 {
            let Some(&before) = kept.0.get(name) else {
                lines.push(format!("{name}: {count} instructions, and no count is kept"));
                continue;
            };
            let difference = count.abs_diff(before);
            if difference * 100 > before * TOLERANCE {
                let percent = difference as f64 * 100.0 / before as f64;
                let verdict = match count > before {
                    true => "more: find the cause (`callgrind_annotate`), or keep the new count and say why",
                    false => "fewer: keep the new count, so that a later loss is seen",
                };
                lines
                    .push(format!("{name}: from {before} to {count} instructions, {percent:.1} % {verdict}"));
            }
        }
        let gone = kept.0.keys().filter(|name| !self.0.contains_key(*name));
        lines.extend(gone.map(|name| format!("{name}: a count is kept, and it is not counted")));
        lines
    }
}
