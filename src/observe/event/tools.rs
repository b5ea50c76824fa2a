//! The events of tool lists.

use crate::observe::canonical::Hash;
use crate::observe::lint::LintRule;
use crate::observe::redact::Redacted;
use crate::observe::tool_definition::{DefinitionPart, ToolChangeKind};

#[derive(Clone, Debug)]
pub struct ToolsChanged {
    /// The changes by tool: at most 500 of each kind.
    pub changes: Vec<ChangedTool>,
    /// Number of definitions that are not in the list, if one of them may have changed.
    pub unlisted: u64,
    pub definitions_hash: Hash,
    /// Changed listings that this event represents.
    pub count: u64,
}

#[derive(Clone, Debug)]
pub struct ChangedTool {
    pub tool: Redacted,
    pub kind: ToolChangeKind,
    /// Parts that differ, if the tool was changed.
    pub parts: Vec<DefinitionPart>,
}

#[derive(Clone, Debug)]
pub struct ToolsListed {
    /// At most 500 tools of one page of a `tools/list` answer.
    pub tools: Vec<ListedTool>,
    /// Number of all tools of the page.
    pub total: u64,
    /// Number of the page, from 1.
    pub page: u64,
    /// True if no page is missing and this is the last one.
    pub is_complete: bool,
    /// Length of all definitions of the page, in bytes. They fill the model's context.
    pub definition_size: u64,
    /// Length of the page's `result`, in bytes.
    pub result_size: u64,
    pub is_recorded: bool,
    /// Listings that this event represents: those that differed since the last one that was recorded.
    pub count: u64,
}

#[derive(Clone, Debug)]
pub struct ListedTool {
    pub name: Redacted,
    /// Lengths in bytes: of the whole definition, of its description, and of its schemas.
    pub definition_size: u64,
    pub description_size: u64,
    pub schema_size: u64,
    /// The first 16 hex digits of the definition's SHA-256.
    pub definition_hash: u64,
}

#[derive(Clone, Debug)]
pub struct ToolsLinted {
    /// At most 500 tools.
    pub tools: Vec<LintedTool>,
    /// Number of further tools with findings.
    pub unlisted: u64,
}

#[derive(Clone, Debug)]
pub struct LintedTool {
    pub name: Redacted,
    pub rules: Vec<LintRule>,
    /// The first 16 hex digits of the definition's SHA-256.
    pub definition_hash: u64,
}
