//! The table of the rules.

use crate::observe::lint::LintRule;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LintLevel {
    /// A host refuses the tool, its server or the whole request.
    Error,
    /// A host loses or cuts something, or did so in earlier versions.
    Warning,
}

/// Description of a rule.
#[derive(Debug)]
pub(crate) struct LintRow {
    pub(crate) rule: LintRule,
    pub(crate) level: LintLevel,
    /// The fault.
    pub(crate) what: &'static str,
    /// The hosts that care, and what they do.
    pub(crate) hosts: &'static str,
    /// The change that ends the fault.
    pub(crate) way_out: &'static str,
    /// A public report or the specification.
    pub(crate) source: &'static str,
}

impl LintRule {
    pub(crate) fn row(self) -> &'static LintRow {
        &RULES[self as usize]
    }
}

const fn error(
    rule: LintRule,
    what: &'static str,
    hosts: &'static str,
    way_out: &'static str,
    source: &'static str,
) -> LintRow {
    LintRow { rule, level: LintLevel::Error, what, hosts, way_out, source }
}

const fn warning(
    rule: LintRule,
    what: &'static str,
    hosts: &'static str,
    way_out: &'static str,
    source: &'static str,
) -> LintRow {
    LintRow { rule, level: LintLevel::Warning, what, hosts, way_out, source }
}

/// The rules in their order.
pub(crate) const RULES: [LintRow; LintRule::ALL.len()] = [
    error(
        LintRule::InputSchemaType,
        "the input schema is not of type object",
        "clients of the TypeScript SDK refuse the whole list; the API of Claude refuses the request",
        "set \"type\": \"object\" at the top level of inputSchema, also without parameters",
        "https://github.com/kaeawc/auto-mobile/issues/973",
    ),
    error(
        LintRule::InputSchemaUnion,
        "anyOf, oneOf or allOf is at the top level of the input schema",
        "Claude Code drops the tool; the APIs of Claude and of OpenAI models before GPT-5 refuse the request",
        "merge the alternatives into one object, and describe in words which parameters go together",
        "https://github.com/opentokenz/mcpx/issues/28",
    ),
    error(
        LintRule::PropertyName,
        "the name of a property does not match ^[a-zA-Z0-9_.-]{1,64}$",
        "the API of Claude refuses the whole request, with the tools of every other server",
        "rename the property, and map it to the old name in the server",
        "https://github.com/ComposioHQ/composio/issues/3500",
    ),
    error(
        LintRule::PropertySchema,
        "the schema of a property is true or false",
        "clients of the TypeScript SDK 1 refuse the whole list",
        "write {} for true, and leave the property out for false",
        "https://github.com/modelcontextprotocol/typescript-sdk/blob/v1.x/src/types.ts",
    ),
    error(
        LintRule::RequiredUnknown,
        "required names a property that does not exist",
        "the API of Gemini refuses the whole request, in every host that uses it",
        "describe the property in properties, or remove its name from required",
        "https://github.com/probelabs/probe/issues/569",
    ),
    error(
        LintRule::ArrayItems,
        "an array has no items",
        "VS Code refuses the tool; the API of Gemini refuses the whole request",
        "describe the elements in items; {} allows any",
        "https://github.com/microsoft/vscode/issues/246119",
    ),
    error(
        LintRule::UnresolvedRef,
        "a reference has no target in the same schema",
        "Claude Code, Cursor, Kiro and opencode lose every tool of the server",
        "put the target into $defs of the same schema, or write it in place of the reference",
        "https://github.com/gemini-cli-extensions/stitch/issues/13",
    ),
    error(
        LintRule::InvalidSchema,
        "the schema is not valid JSON Schema 2020-12",
        "the API of Claude refuses the whole request",
        "correct the keyword",
        "https://github.com/Dokploy/mcp/issues/10",
    ),
    error(
        LintRule::OutputSchemaType,
        "the output schema is not of type object, in a revision before 2026-07-28",
        "clients of the TypeScript SDK 1 refuse the whole list",
        "put the result into an object with one property",
        "https://github.com/opentokenz/mcpx/issues/28",
    ),
    warning(
        LintRule::OutputSchemaOldDialect,
        "the output schema declares a dialect before 2020-12",
        "clients of early versions of the TypeScript SDK 2 (Claude Code, Claude Desktop in August 2026) refuse each call",
        "leave $schema out of outputSchema, or declare 2020-12",
        "https://github.com/anthropics/claude-code/issues/88882",
    ),
    error(
        LintRule::OutputSchemaDialect,
        "the output schema declares an unknown dialect",
        "clients of the TypeScript SDK 2 refuse each call",
        "leave $schema out of outputSchema, or declare 2020-12",
        "https://github.com/anthropics/claude-code/issues/86142",
    ),
    error(
        LintRule::StructuredContent,
        "a result has no structuredContent, although the tool declares an output schema",
        "clients of the official SDKs (Claude Code, Copilot, Cursor) turn the result into an error",
        "return structuredContent with each result that is not an error, or remove outputSchema",
        "https://github.com/crisnahine/rails-ai-context/issues/69",
    ),
    error(
        LintRule::MissingName,
        "the tool has no name, or its name is not a string",
        "MCP requires a string; clients of the official SDKs refuse the whole list",
        "give the tool a name",
        "https://github.com/modelcontextprotocol/modelcontextprotocol/blob/main/schema/2025-11-25/schema.ts",
    ),
    error(
        LintRule::ToolName,
        "the name of the tool does not match ^[a-zA-Z0-9_-]{1,64}$",
        "Claude Desktop withholds every tool of the server; Copilot CLI fails at each prompt",
        "use letters, digits, _ and - only, at most 64",
        "https://github.com/github/copilot-cli/issues/2581",
    ),
    warning(
        LintRule::PrefixedName,
        "the name of the tool is too long with the name of the server",
        "Cursor drops the tool from 60 characters on; Claude Code fails above 64 in some versions",
        "give the server a shorter name in the host's file, or shorten the name of the tool",
        "https://github.com/ComposioHQ/composio/issues/2788",
    ),
    error(
        LintRule::DuplicateName,
        "two tools of the server have the same name",
        "the API of Claude refuses the whole request",
        "rename one of them",
        "https://github.com/baguskto/threads-mcp/issues/2",
    ),
    warning(
        LintRule::SharedName,
        "tools of several servers have the same name",
        "hosts that do not put the server's name before it lose one of the tools, or the API refuses the request",
        "leave one of the servers out, or rename the tool",
        "https://github.com/cloudwego/eino/issues/632",
    ),
    warning(
        LintRule::NoDescription,
        "the tool has no description",
        "Amazon Q refuses the request; a model cannot know when to use the tool",
        "describe in one sentence what the tool does and when to use it",
        "https://github.com/aws/amazon-q-developer-cli/issues/1468",
    ),
    warning(
        LintRule::DescriptionLength,
        "the description is longer than 2,048 characters",
        "Claude Code cuts the rest off, without a word",
        "put what matters first, and details of parameters into their own descriptions",
        "https://github.com/anthropics/claude-code/issues/41593",
    ),
    warning(
        LintRule::RemovedFeature,
        "the definition uses a feature that MCP 2026-07-28 does not contain",
        "clients of that revision ignore it",
        "use the extension io.modelcontextprotocol/tasks",
        "https://github.com/modelcontextprotocol/modelcontextprotocol/blob/main/schema/2026-07-28/schema.ts",
    ),
    warning(
        LintRule::DeprecatedFeature,
        "the server offers a feature that MCP 2026-07-28 has deprecated",
        "clients may stop to support it from July 2027 on",
        "write logs to stderr, or export them with OpenTelemetry",
        "https://modelcontextprotocol.io/seps/2577-deprecate-roots-sampling-and-logging",
    ),
];
