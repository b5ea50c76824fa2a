//! The pages of `tools/list`, and what changed in them.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::observe::envelope::{Envelope, Member};
use crate::observe::event::*;
use crate::observe::message;
use crate::observe::redact::Field;
use crate::observe::repeats::RateLimit;
use crate::observe::session::linted::LintedTools;
use crate::observe::session::{Session, Step};
use crate::observe::tools::{PageCursor, ToolDrift, ToolListings, ToolSet};

/// Names in each list of an event; a record has a limited size.
const MAX_NAMES: usize = 500;
/// Listings, and changes, that are reported one by one. After that one of each is reported in an interval.
const MANY: u64 = 64;
const INTERVAL: Duration = Duration::from_secs(600);

/// The tools of the server, and how often they were reported.
#[derive(Default)]
pub(super) struct ReportedTools {
    pub(super) listings: ToolListings,
    listed: RateLimit,
    changed: RateLimit,
    pub(super) linted: LintedTools,
    /// The last page, if it was to be reported and was not.
    withheld: Option<Box<ToolsListed>>,
}

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
        let page = &envelope.tools;
        let mut set = ToolSet::new(false, page.unlisted.clone());
        let mut tools = Vec::with_capacity(page.tools.len().min(MAX_NAMES));
        for tool in &page.tools {
            let name = self.redactor.redact(Field::Name, tool.name.as_bytes());
            set.add(name.as_str(), &tool.fingerprint);
            if tools.len() < MAX_NAMES {
                tools.push(ListedTool {
                    name,
                    definition_size: tool.sizes.definition,
                    description_size: tool.sizes.description,
                    schema_size: tool.sizes.schema,
                    definition_hash: tool.fingerprint.id(),
                });
            }
        }
        let place = self.tools.listings.page(asked, set, cursor(envelope, Member::NextCursor));
        let due = if place.is_new { self.tools.listed.one_more(MANY, INTERVAL, step.now) } else { None };
        let listed = Box::new(ToolsListed {
            tools,
            total: page.tools.len() as u64 + page.unlisted.count,
            page: place.number,
            is_complete: place.is_complete,
            definition_size: page.size,
            result_size: envelope.result_size.unwrap_or(0),
            is_recorded: due.is_some(),
            count: due.unwrap_or_default(),
        });
        if place.is_new {
            self.tools.withheld = due.is_none().then(|| listed.clone());
        }
        self.emit(EventKind::ToolsListed(listed), step);
        self.lint_page(page, step);
        if place.has_changed {
            self.tools_changed(step);
        }
    }

    pub(super) fn prompts_listed(&mut self, envelope: &Envelope, step: &mut Step<'_>) {
        let prompts = envelope.prompts.tools.iter().take(MAX_NAMES);
        let names = prompts.map(|prompt| self.redactor.redact(Field::Name, prompt.name.as_bytes())).collect();
        self.emit(EventKind::PromptsListed(names), step);
    }

    /// Compares the listings that have not ended, as far as they have come, and reports the last listing and the last
    /// changes if they were not reported.
    pub(super) fn end_listings(&mut self, step: &mut Step<'_>) {
        while self.tools.listings.has_open() {
            if self.tools.listings.end_oldest() {
                self.tools_changed(step);
            }
        }
        if let (Some(mut last), Some(count)) = (self.tools.withheld.take(), self.tools.listed.rest()) {
            // Its size was counted when it came.
            (last.result_size, last.is_recorded, last.count) = (0, true, count);
            self.emit(EventKind::ToolsListed(last), step);
        }
        if let Some(count) = self.tools.changed.rest() {
            self.report_changes(count, step);
        }
    }

    fn tools_changed(&mut self, step: &mut Step<'_>) {
        if let Some(count) = self.tools.changed.one_more(MANY, INTERVAL, step.now) {
            self.report_changes(count, step);
        }
    }

    /// Reports the difference of the last `count` changes together.
    fn report_changes(&mut self, count: u64, step: &mut Step<'_>) {
        let ToolDrift { changes: all, mut unlisted } = self.tools.listings.take_changes();
        let mut changes: Vec<ChangedTool> = Vec::new();
        let mut of_kind = [0; ToolChangeKind::ALL.len()];
        for change in all {
            let of_kind = &mut of_kind[change.kind as usize];
            *of_kind += 1;
            if *of_kind > MAX_NAMES {
                unlisted += 1;
                continue;
            }
            let tool = self.redactor.redact(Field::Name, change.tool.as_bytes());
            changes.push(ChangedTool { tool, kind: change.kind, parts: change.parts });
        }
        let mut all = self.hashing.start();
        if let Some(ToolSet { fingerprints, unlisted, .. }) = self.tools.listings.fresh() {
            for (name, fingerprint) in fingerprints {
                all.update(name.as_bytes());
                all.update(&fingerprint.hash);
            }
            all.update(&unlisted.hash);
        }
        let definitions_hash = all.finish(true);
        let changed = ToolsChanged { changes, unlisted, definitions_hash, count };
        self.emit(EventKind::ToolsChanged(changed), step);
    }
}
