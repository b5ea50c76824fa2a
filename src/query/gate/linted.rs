//! The findings of the lint in `tools_linted` records.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::record::words::{LintLevel, LintRule};

/// Most findings that are kept. A connection records at most 4,096.
const KEPT: usize = 10_000;

/// The findings of level error: server, tool and rule.
#[derive(Clone, Debug, Default)]
pub(super) struct LintErrors {
    pub(super) found: BTreeSet<(String, String, &'static str)>,
    /// True if there are findings that are not in `found`: beyond its limit or that of a record, or of a later spantap.
    pub(super) has_unknown: bool,
}

/// The part of a `tools_linted` record that is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LintLine {
    linted: Vec<LintLineTool>,
    unlisted: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LintLineTool {
    name: String,
    rules: Vec<String>,
}

impl LintErrors {
    pub(super) fn add(&mut self, server: &str, line: &[u8]) {
        let Ok(record) = serde_json::from_slice::<LintLine>(line) else {
            self.has_unknown = true;
            return;
        };
        self.has_unknown |= record.unlisted > 0;
        for tool in record.linted {
            for word in tool.rules {
                match LintRule::from_word(&word) {
                    Some(rule) if rule.row().level == LintLevel::Error => {
                        self.insert((server.to_owned(), tool.name.clone(), rule.as_str()));
                    }
                    Some(_) => {}
                    None => self.has_unknown = true,
                }
            }
        }
    }

    fn insert(&mut self, finding: (String, String, &'static str)) {
        match self.found.len() < KEPT {
            true => drop(self.found.insert(finding)),
            false => self.has_unknown |= !self.found.contains(&finding),
        }
    }

    pub(super) fn merge(&mut self, other: LintErrors) {
        self.has_unknown |= other.has_unknown;
        other.found.into_iter().for_each(|finding| self.insert(finding));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_beyond_the_limit_are_known_to_exist() {
        let finding = |number: usize| ("s".to_owned(), number.to_string(), "name");
        let mut found = LintErrors::default();
        (0..KEPT).chain([7]).for_each(|number| found.insert(finding(number)));
        assert!(!found.has_unknown);
        found.insert(finding(KEPT));
        assert!(found.has_unknown && found.found.len() == KEPT);
    }
}
