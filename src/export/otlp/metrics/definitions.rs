//! Instruments of tool definitions: what each costs, and what changed.

use std::collections::BTreeMap;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge};

use crate::export::otlp::instruments::{InstrumentFactory, ServerLabel};
use crate::export::otlp::metrics::calls::{MAX_TOOLS, OTHER};
use crate::export::otlp::semconv::{self, attribute as name};
use crate::observe::event::{ToolsChanged, ToolsListed};
use crate::observe::tool_definition::ToolChangeKind;
use crate::record::tokens;

pub(super) struct DefinitionMetrics {
    label: ServerLabel,
    /// The first tools that were listed; the rest are `_OTHER`.
    tools: BTreeMap<String, Definition>,
    other: Definition,
    definition_tokens: Gauge<u64>,
    changes: Counter<u64>,
}

/// The definitions of one name in the current listing.
#[derive(Default)]
struct Definition {
    tokens: u64,
    is_listed: bool,
}

impl Definition {
    /// Forgets the definitions of the listing before.
    fn restart(&mut self) {
        if !self.is_listed {
            self.tokens = 0;
        }
    }

    fn add(&mut self, tokens: u64) {
        *self = Definition { tokens: self.tokens.saturating_add(tokens), is_listed: true };
    }
}

impl DefinitionMetrics {
    pub(super) fn new(factory: &InstrumentFactory<'_>, label: ServerLabel) -> DefinitionMetrics {
        DefinitionMetrics {
            label,
            tools: BTreeMap::new(),
            other: Definition::default(),
            definition_tokens: factory.gauge(semconv::DEFINITION_TOKENS),
            changes: factory.counter(semconv::TOOL_CHANGES),
        }
    }

    pub(super) fn listed(&mut self, listed: &ToolsListed) {
        // A listing that was withheld before has been measured.
        if listed.result_size == 0 {
            return;
        }
        if listed.page == 1 {
            self.tools.values_mut().chain([&mut self.other]).for_each(|tool| tool.is_listed = false);
        }
        let mut others = listed.definition_size;
        for tool in &listed.tools {
            let name = tool.name.as_str();
            if self.tools.len() < MAX_TOOLS && !self.tools.contains_key(name) {
                self.tools.insert(name.to_owned(), Definition::default());
            }
            let Some(definition) = self.tools.get_mut(name) else { continue };
            others = others.saturating_sub(tool.definition_size);
            definition.restart();
            definition.add(tokens(tool.definition_size));
        }
        if others > 0 {
            self.other.restart();
            self.other.add(tokens(others));
        }
        self.record(listed.is_complete);
    }

    /// Returns the tokens of the definitions of all tools: the sum of the points that were recorded last.
    pub(super) fn tokens(&self) -> u64 {
        self.tools.values().chain([&self.other]).map(|tool| tool.tokens).sum()
    }

    /// Records the tools of the listing. Tools that are not in it are gone if it is complete.
    fn record(&mut self, is_complete: bool) {
        let other = (OTHER, &mut self.other);
        let tools = self.tools.iter_mut().map(|(name, tool)| (name.as_str(), tool));
        for (name, definition) in tools.chain([other]) {
            if !definition.is_listed && (!is_complete || definition.tokens == 0) {
                continue;
            }
            definition.restart();
            let tool = self.label.and(name::GEN_AI_TOOL_NAME, name.to_owned());
            self.definition_tokens.record(definition.tokens, &tool);
        }
    }

    pub(super) fn changed(&self, changed: &ToolsChanged) {
        for change in &changed.changes {
            let tool = change.tool.as_str();
            let tool = if self.tools.contains_key(tool) { tool } else { OTHER };
            let parts = change.parts.iter().map(|part| part.as_str());
            let kind = Some(change.kind.as_str()).filter(|_| change.kind != ToolChangeKind::Changed);
            for what in parts.chain(kind) {
                let attributes = self.label.with([
                    KeyValue::new(name::GEN_AI_TOOL_NAME, tool.to_owned()),
                    KeyValue::new(name::SPANTAP_TOOL_CHANGE, what),
                ]);
                self.changes.add(1, &attributes);
            }
        }
    }
}
