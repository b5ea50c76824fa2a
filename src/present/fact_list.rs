//! Named facts under headings.

use std::io::{self, Write};

use crate::present::table::Tone;

pub(super) struct FactList<'o> {
    pub(super) out: &'o mut dyn Write,
}

impl FactList<'_> {
    pub(super) fn section(&mut self, title: &str) -> io::Result<()> {
        writeln!(self.out, "{}", Tone::Faint.paint(title))
    }

    /// Writes one fact, unless its value is empty. Values are never cut: they are copied from here.
    pub(super) fn add(&mut self, name: &str, value: &str, tone: Tone) -> io::Result<()> {
        if value.is_empty() {
            return Ok(());
        }
        self.add_marked(name, &tone.paint(value))
    }

    /// Writes one fact whose value has escape sequences of spantap.
    pub(super) fn add_marked(&mut self, name: &str, value: &str) -> io::Result<()> {
        writeln!(self.out, "  {name:<14} {value}")
    }
}
