//! Says what could not be read.

use std::collections::BTreeMap;

use crate::cli::selection::Reading;
use crate::present::{Printable, format};
use crate::query::files::LogSource;
use crate::query::scan::ScanFindings;

/// Begins the note about logs of a newer version.
pub(in crate::cli) const NEWER: &str =
    "written by a newer spantap, whose events and fields that this version does not know are left out";

impl Reading {
    /// Returns the logs of the folders of which parts are missing, with the number of these parts.
    fn missing_parts(&self) -> BTreeMap<String, u64> {
        let of_folder = self.sources.iter().filter(|source| !self.named.contains(&source.name()));
        LogSource::missing_parts(of_folder, self.select.window.since.is_none())
    }

    pub(in crate::cli) fn print_problems(&self, findings: &ScanFindings) {
        self.problems(findings).iter().for_each(|text| self.note(text));
    }

    /// Returns what could not be read, one line each.
    pub(in crate::cli) fn problems(&self, findings: &ScanFindings) -> Vec<Printable> {
        let files = |names: &[String]| {
            let more = if names.len() > 3 { format!(" and {} more", names.len() - 3) } else { String::new() };
            format!("{}{more}", names[..names.len().min(3)].join(", "))
        };
        let mut problems = Vec::new();
        let inner = self.select.inner.len() as u64;
        if inner > 0 {
            problems.push(format!(
                "{} left out, because each call is in the log of an outer spantap too; \
                 `spantap sessions --connections` lists all",
                format::plural(inner, "connection")
            ));
        }
        if !findings.foreign.is_empty() {
            problems.push(format!("not a session log of spantap: {}", files(&findings.foreign)));
        }
        if !findings.newer.is_empty() {
            problems.push(format!("{NEWER}: {}", files(&findings.newer)));
        }
        if findings.duplicates > 0 {
            let records = format::plural(findings.duplicates, "record");
            problems
                .push(format!("{records} left out, because the same record is in another file or place too"));
        }
        let missing = self.missing_parts();
        if let Some(first) = missing.keys().next() {
            let parts = missing.values().sum::<u64>();
            let (are, their) = if parts == 1 { ("is", "its") } else { ("are", "their") };
            let (parts, logs) = (format::plural(parts, "part"), format::plural(missing.len() as u64, "log"));
            problems
                .push(format!("{parts} of {logs} {are} missing, and {their} records do not count: {first}"));
        }
        for (name, lines) in &findings.unreadable {
            problems.push(format!("{} of {name} could not be read", format::plural(*lines, "line")));
        }
        for (name, error) in &findings.failed {
            problems.push(format!("{name} could not be read: {error}"));
        }
        problems.into_iter().map(Printable::from).collect()
    }
}
