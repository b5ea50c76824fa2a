//! The pages of `tools/list`, and what changed in them.

use sha2::{Digest, Sha256};

use crate::observe::envelope::{Envelope, Member};
use crate::observe::event::*;
use crate::observe::message;
use crate::observe::redact::{Field, Redacted};
use crate::observe::session::{Session, Step};
use crate::observe::tools::{PageCursor, ToolDrift, ToolSet};

/// Names in each list of an event; a record has a limited size.
const MAX_NAMES: usize = 500;

/// Reads a cursor. `null` and an empty one count as none.
pub(super) fn cursor(envelope: &Envelope, member: Member) -> Option<PageCursor> {
    let text = message::text(envelope.head(member).filter(|raw| *raw != b"null")?);
    (!text.is_empty()).then(|| (envelope.size_of(member).unwrap_or(0), Sha256::digest(&text).into()))
}

impl Session {
    /// Takes the answer to a `tools/list` with the cursor `asked`.
    pub(super) fn tools_listed(
        &mut self,
        asked: Option<PageCursor>,
        envelope: &Envelope,
        step: &mut Step<'_>,
    ) {
        let mut page = ToolSet::new(false, envelope.tools.unlisted.clone());
        let mut names = Vec::new();
        for (name, hash) in &envelope.tools.tools {
            let name = self.redactor.redact(Field::Name, name.as_bytes());
            page.add(name.as_str(), *hash);
            names.push(name);
        }
        let size = envelope.result_size.unwrap_or(0);
        self.emit(EventKind::ToolsListed(ToolsListed { names, size }), step);
        let drift = self.tools.page(asked, page, cursor(envelope, Member::NextCursor));
        self.report_tools(drift, step);
    }

    /// Compares the listings that have not ended, as far as they have come.
    pub(super) fn end_listings(&mut self, step: &mut Step<'_>) {
        while self.tools.has_open() {
            let drift = self.tools.end_oldest();
            self.report_tools(drift, step);
        }
    }

    fn report_tools(&mut self, drift: Option<ToolDrift>, step: &mut Step<'_>) {
        let Some(ToolDrift { added, removed, changed, mut unlisted }) = drift else { return };
        let mut named = |names: Vec<String>| -> Vec<Redacted> {
            unlisted += names.len().saturating_sub(MAX_NAMES) as u64;
            let names = names.iter().take(MAX_NAMES);
            names.map(|name| self.redactor.redact(Field::Name, name.as_bytes())).collect()
        };
        let (added, removed, changed) = (named(added), named(removed), named(changed));
        let mut all = self.hashing.start();
        if let Some(ToolSet { hashes, unlisted, .. }) = self.tools.fresh() {
            for (name, hash) in hashes {
                all.update(name.as_bytes());
                all.update(hash);
            }
            all.update(&unlisted.hash);
        }
        let definitions_hash = all.finish(true);
        let changed = ToolsChanged { added, removed, changed, unlisted, definitions_hash };
        self.emit(EventKind::ToolsChanged(changed), step);
    }
}
