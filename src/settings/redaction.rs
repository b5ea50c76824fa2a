//! The `[redaction]` table as a setting.

use crate::observe::redact::{self, Redactor};

#[derive(Clone, Debug)]
pub enum RedactionTable {
    Settings(Box<redact::RedactionSettings>),
    /// The table exists and cannot be applied: no free text is written.
    Unusable,
}

impl RedactionTable {
    /// Returns one line for each entry that shows more than users expect.
    pub(crate) fn warnings(&self) -> Vec<String> {
        match self {
            RedactionTable::Settings(settings) => settings.warnings(),
            RedactionTable::Unusable => Vec::new(),
        }
    }

    pub fn redactor(&self) -> Redactor {
        match self {
            RedactionTable::Settings(settings) => {
                Redactor::try_new(settings).unwrap_or_else(|_| Redactor::closed())
            }
            RedactionTable::Unusable => Redactor::closed(),
        }
    }
}
