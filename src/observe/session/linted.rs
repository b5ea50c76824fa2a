//! Reports what the lint finds in the definitions of one connection: once for each definition.

use std::collections::{HashMap, HashSet};

use crate::observe::envelope::{Envelope, Member, ToolPage};
use crate::observe::event::*;
use crate::observe::lint::{LintRule, LintRules};
use crate::observe::mcp::Method;
use crate::observe::redact::Field;
use crate::observe::session::{Session, Step};

/// Tools in one event.
const MAX_LISTED: usize = 500;
/// Definitions that are remembered. Beyond it new ones are not reported.
const MAX_KNOWN: usize = 4096;

/// The findings that were reported, and the tools whose results must have `structuredContent`.
#[derive(Default)]
pub(super) struct LintedTools {
    /// The ids of definitions with the rules that were reported.
    reported: HashSet<(u64, LintRules)>,
    /// The id of the definition by the redacted name of the tool.
    with_output: HashMap<String, u64>,
}

impl LintedTools {
    fn is_new(&mut self, definition: u64, rules: LintRules) -> bool {
        self.reported.len() < MAX_KNOWN && self.reported.insert((definition, rules))
    }
}

impl Session {
    /// Reports the tools of a page in which the lint found something that was not reported.
    pub(super) fn lint_page(&mut self, page: &ToolPage, step: &mut Step<'_>) {
        let revision = self.revision();
        let (mut names, mut tools, mut unlisted) = (HashSet::new(), Vec::new(), 0);
        for tool in &page.tools {
            let is_second = !names.insert(&tool.name);
            let in_force = |rule: &LintRule| rule.is_in_force(revision.as_deref());
            let mut rules = LintRules::default();
            tool.lint.rules.iter().filter(in_force).for_each(|rule| rules.insert(rule));
            if is_second {
                rules.insert(LintRule::DuplicateName);
            }
            let definition_hash = tool.fingerprint.id();
            let LintedTools { with_output, .. } = &self.tools.linted;
            let has_room = with_output.len() < MAX_KNOWN;
            let is_known = !with_output.is_empty();
            let is_new = rules != LintRules::default() && self.tools.linted.is_new(definition_hash, rules);
            let is_listed = is_new && tools.len() < MAX_LISTED;
            unlisted += u64::from(is_new && !is_listed);
            if !is_listed && !is_known && !tool.lint.declares_output {
                continue;
            }
            let name = self.redactor.redact(Field::Name, tool.name.as_bytes());
            match tool.lint.declares_output {
                true if has_room => {
                    self.tools.linted.with_output.insert(name.as_str().to_owned(), definition_hash);
                }
                _ => drop(self.tools.linted.with_output.remove(name.as_str())),
            }
            if is_listed {
                tools.push(LintedTool { name, rules: rules.iter().collect(), definition_hash });
            }
        }
        if !tools.is_empty() {
            self.emit(EventKind::ToolsLinted(Box::new(ToolsLinted { tools, unlisted })), step);
        }
    }

    /// Reports a result without `structuredContent` whose tool declares an output schema.
    pub(super) fn lint_result(
        &mut self,
        facts: &CallFacts,
        answer: &CallAnswer,
        envelope: &Envelope,
        step: &mut Step<'_>,
    ) {
        let Some(CallTarget::Tool(name)) = &facts.target else { return };
        let is_complete = envelope.raw(Member::ResultType).is_none_or(|kind| kind == b"\"complete\"");
        let is_result = answer.status == Status::Ok && answer.task_id_hash.is_none() && is_complete;
        if facts.method != Method::ToolsCall || !is_result || envelope.has(Member::StructuredContent) {
            return;
        }
        let linted = &mut self.tools.linted;
        let Some(definition_hash) = linted.with_output.remove(name.as_str()) else { return };
        let mut rules = LintRules::default();
        rules.insert(LintRule::StructuredContent);
        if linted.is_new(definition_hash, rules) {
            let tool = LintedTool { name: name.clone(), rules: rules.iter().collect(), definition_hash };
            let linted = ToolsLinted { tools: vec![tool], unlisted: 0 };
            self.emit(EventKind::ToolsLinted(Box::new(linted)), step);
        }
    }
}
