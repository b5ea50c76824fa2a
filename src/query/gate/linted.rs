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
    /// True if the records have findings whose level is not known: beyond the limit of a record, or of a later spantap.
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
        if self.found.len() < KEPT {
            self.found.insert(finding);
        }
    }

    pub(super) fn merge(&mut self, other: LintErrors) {
        self.has_unknown |= other.has_unknown;
        other.found.into_iter().for_each(|finding| self.insert(finding));
    }
}
