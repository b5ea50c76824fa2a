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
use crate::observe::tool_definition::ToolChangeKind;
use crate::observe::tools::{ListingReport, PageCursor, PagePlace, ToolDrift, ToolListings, ToolSet};

/// Names in each list of an event; a record has a limited size.
const MAX_NAMES: usize = 500;
/// Pages of listings, and changes, that are reported one by one. After that one listing and one change are reported in
/// an interval.
const MANY: u64 = 64;
const INTERVAL: Duration = Duration::from_secs(600);
/// Tools of a listing that are kept until the end if the listing is not reported.
const MAX_WITHHELD: usize = 4096;

/// The tools of the server, and how often they were reported.
#[derive(Default)]
pub(super) struct ReportedTools {
    pub(super) listings: ToolListings,
    listed: RateLimit,
    changed: RateLimit,
    pub(super) linted: LintedTools,
    withheld: WithheldListing,
}

/// The pages of the last listing that was not reported.
#[derive(Default)]
struct WithheldListing {
    number: u64,
    pages: Vec<ToolsListed>,
}

impl WithheldListing {
    fn take_page(&mut self, place: &PagePlace, listed: &ToolsListed) {
        let number = place.listing;
        match place.report {
            ListingReport::Recorded => self.pages.clear(),
            ListingReport::Withheld if number == self.number => {
                let kept: usize = self.pages.iter().map(|page| page.tools.len().max(1)).sum();
                if kept < MAX_WITHHELD {
                    self.pages.push(listed.clone());
                }
            }
            // An unchanged list is again the one that was reported. Its last page, once more, changes nothing.
            ListingReport::Withheld | ListingReport::Unchanged => {
                if number > self.number && (place.report == ListingReport::Withheld || place.is_complete) {
                    *self = WithheldListing { number, pages: vec![listed.clone()] };
                }
            }
        }
    }
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
        let mut sizes = Sha256::new();
        for tool in &page.tools {
            let name = self.redactor.redact(Field::Name, tool.name.as_bytes());
            set.add(name.as_str(), &tool.fingerprint);
            for size in [tool.sizes.definition, tool.sizes.description, tool.sizes.schema] {
                sizes.update(size.to_le_bytes());
            }
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
        let (limit, mut count) = (&mut self.tools.listed, None);
        let next = cursor(envelope, Member::NextCursor);
        let place = self.tools.listings.page(asked, (set, sizes.finalize().into()), next, || {
            count = limit.one_more(MANY, INTERVAL, step.now);
            count.is_some()
        });
        if place.is_recorded && count.is_none() {
            limit.one_with_the_last();
        }
        let listed = ToolsListed {
            tools,
            total: page.tools.len() as u64 + page.unlisted.count,
            page: place.number,
            is_complete: place.is_complete,
            definition_size: page.size,
            result_size: envelope.result_size.unwrap_or(0),
            is_recorded: place.is_recorded,
            count: count.unwrap_or(1),
        };
        self.tools.withheld.take_page(&place, &listed);
        let listed = Box::new(listed);
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
        let pages = std::mem::take(&mut self.tools.withheld.pages);
        // Without a listing that differed, the log has the last one.
        if let Some(count) = self.tools.listed.rest() {
            for (index, mut page) in pages.into_iter().enumerate() {
                // Its size was counted when it came.
                (page.result_size, page.is_recorded) = (0, true);
                page.count = if index == 0 { count } else { 1 };
                self.emit(EventKind::ToolsListed(Box::new(page)), step);
            }
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
