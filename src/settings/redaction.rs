//! The `[redaction]` table as a setting.

use crate::observe::event::BodiesState;
use crate::observe::redact::{self, RedactionMode, Redactor};

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

    /// Returns whether a session with these settings keeps bodies if the user asks for them.
    pub(crate) fn bodies_state(&self) -> BodiesState {
        match self {
            RedactionTable::Settings(settings) if settings.check().is_err() => BodiesState::RedactionSettings,
            RedactionTable::Settings(settings) if settings.mode == RedactionMode::Strict => {
                BodiesState::StrictMode
            }
            RedactionTable::Settings(_) => BodiesState::On,
            RedactionTable::Unusable => BodiesState::RedactionSettings,
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
