//! Finds what makes hosts refuse a tool, its server or a whole request, in the JSON of one tool definition.

use std::fmt;

use serde_json::Value;

mod rules;
mod schema;
#[cfg(test)]
mod tests;

pub(crate) use rules::LintLevel;

use crate::observe::redact::{Field, Redactor};
use crate::text::words::words;

words! {
    /// A rule for tool definitions. [`LintRule::row`] describes it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum LintRule {
        InputSchemaType = "input-schema-type",
        InputSchemaUnion = "input-schema-union",
        PropertyName = "property-name",
        PropertySchema = "property-schema",
        RequiredUnknown = "required-unknown",
        ArrayItems = "array-items",
        UnresolvedRef = "unresolved-ref",
        InvalidSchema = "invalid-schema",
        OutputSchemaType = "output-schema-type",
        OutputSchemaOldDialect = "output-schema-old-dialect",
        OutputSchemaDialect = "output-schema-dialect",
        StructuredContent = "structured-content",
        MissingName = "missing-name",
        ToolName = "tool-name",
        PrefixedName = "prefixed-name",
        DuplicateName = "duplicate-name",
        SharedName = "shared-name",
        NoDescription = "no-description",
        DescriptionLength = "description-length",
        RemovedFeature = "removed-feature",
        DeprecatedFeature = "deprecated-feature",
    }
}

/// First revision of the modern era.
const MODERN: &str = "2026-07-28";

impl LintRule {
    /// Returns true if the rule counts in this revision of MCP. Without a known revision, only the rules of no
    /// revision count.
    pub(crate) fn is_in_force(self, revision: Option<&str>) -> bool {
        match self {
            LintRule::OutputSchemaType => revision.is_some_and(|revision| revision < MODERN),
            LintRule::RemovedFeature | LintRule::DeprecatedFeature => {
                revision.is_some_and(|revision| revision >= MODERN)
            }
            _ => true,
        }
    }
}

/// A fault in one tool definition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LintFinding {
    pub(crate) rule: LintRule,
    /// The fault in words, with the name of the place. It contains text of the server.
    pub(crate) detail: String,
    /// Number of further places with the same fault.
    pub(crate) more: u32,
}

/// A set of rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LintRules(u32);

impl LintRules {
    pub(crate) fn insert(&mut self, rule: LintRule) {
        self.0 |= 1 << rule as u32;
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = LintRule> {
        LintRule::ALL.into_iter().filter(move |rule| self.0 & 1 << *rule as u32 != 0)
    }
}

/// The lint of a definition that is observed, without words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObservedLint {
    pub(crate) rules: LintRules,
    /// True if each result must have `structuredContent`.
    pub(crate) declares_output: bool,
}

/// Longest definition that is linted when it is observed, in bytes. The values in it take up to sixteen times as much.
const MAX_OBSERVED: usize = 256 << 10;

/// Lints the text of a definition that is observed. A longer one has no findings.
pub(crate) fn observed(text: &str) -> ObservedLint {
    let mut found = ObservedLint::default();
    let definition = (text.len() <= MAX_OBSERVED).then(|| serde_json::from_str::<Value>(text));
    if let Some(Ok(definition)) = definition {
        lint(&definition, &mut |rule, _| found.rules.insert(rule));
        found.declares_output = definition["outputSchema"].is_object();
    }
    found
}

/// Takes each fault. One rule may be reported many times.
type Report<'a> = dyn FnMut(LintRule, fmt::Arguments<'_>) + 'a;

/// Characters that the API of Claude takes in the name of a tool or of a property.
const MAX_NAME: usize = 64;
/// Characters of a description that Claude Code hands on.
const MAX_DESCRIPTION: usize = 2048;
/// Length of the longest text of the server in a detail.
const MAX_QUOTED: usize = 80;

/// Returns the faults of a tool definition, one for each rule, in the order of the rules.
pub(crate) fn findings(definition: &Value) -> Vec<LintFinding> {
    let mut all: Vec<LintFinding> = Vec::new();
    lint(definition, &mut |rule, detail| match all.iter_mut().find(|finding| finding.rule == rule) {
        Some(finding) => finding.more += 1,
        None => all.push(LintFinding { rule, detail: detail.to_string(), more: 0 }),
    });
    all.sort_by_key(|finding| finding.rule);
    all
}

/// Lints a tool definition.
pub(crate) fn lint(definition: &Value, report: &mut Report<'_>) {
    tool_name(definition, report);
    description(definition, report);
    let input = &definition["inputSchema"];
    match input {
        Value::Null => report(LintRule::InputSchemaType, format_args!("inputSchema is missing")),
        Value::Object(members) => {
            if members.get("type").and_then(Value::as_str) != Some("object") {
                let found = members
                    .get("type")
                    .map_or("is missing".to_owned(), |found| format!("is {}", Quoted(found)));
                report(LintRule::InputSchemaType, format_args!("`type` of inputSchema {found}"));
            }
            for union in ["anyOf", "oneOf", "allOf"].into_iter().filter(|union| members.contains_key(*union))
            {
                report(LintRule::InputSchemaUnion, format_args!("`{union}` at the top level of inputSchema"));
            }
            properties(members.get("properties"), report);
            schema::lint(input, schema::SchemaUse::Input, report);
        }
        other => report(LintRule::InputSchemaType, format_args!("inputSchema is {}", Quoted(other))),
    }
    if let Some(output) = definition.get("outputSchema").filter(|output| !output.is_null()) {
        output_schema(output, report);
    }
    if let Some(execution) = definition.get("execution").filter(|execution| execution.is_object()) {
        let support = &execution["taskSupport"];
        if !support.is_null() {
            report(LintRule::RemovedFeature, format_args!("`execution.taskSupport` is {}", Quoted(support)));
        }
    }
}

fn tool_name(definition: &Value, report: &mut Report<'_>) {
    let Some(name) = definition["name"].as_str() else {
        let found = definition.get("name").map_or("is missing".to_owned(), |it| format!("is {}", Quoted(it)));
        return report(LintRule::MissingName, format_args!("the name {found}"));
    };
    let odd = name.chars().find(|it| !(it.is_ascii_alphanumeric() || matches!(it, '_' | '-')));
    let length = name.chars().count();
    if let Some(odd) = odd {
        report(LintRule::ToolName, format_args!("the name contains `{}`", odd.escape_debug()));
    } else if length == 0 || length > MAX_NAME {
        report(LintRule::ToolName, format_args!("the name has {length} characters"));
    }
}

fn description(definition: &Value, report: &mut Report<'_>) {
    let text = definition["description"].as_str().unwrap_or_default();
    let length = text.encode_utf16().count();
    if text.trim().is_empty() {
        report(LintRule::NoDescription, format_args!("the description is missing or empty"));
    } else if length > MAX_DESCRIPTION {
        report(LintRule::DescriptionLength, format_args!("the description has {length} characters"));
    }
}

/// Lints what hosts require of the properties of the input. Hosts do not look at those of objects within it.
fn properties(properties: Option<&Value>, report: &mut Report<'_>) {
    for (name, schema) in properties.and_then(Value::as_object).into_iter().flatten() {
        let is_taken = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '.' | '-');
        if name.is_empty() || name.chars().count() > MAX_NAME || !name.chars().all(is_taken) {
            report(LintRule::PropertyName, format_args!("property {}", Cut(name)));
        }
        // What is neither an object nor a boolean is not a schema at all.
        if schema.is_boolean() {
            report(
                LintRule::PropertySchema,
                format_args!("the schema of property {} is {schema}", Cut(name)),
            );
        }
    }
}

fn output_schema(output: &Value, report: &mut Report<'_>) {
    let found = &output["type"];
    if found.as_str() != Some("object") {
        let found = if found.is_null() { "is missing".to_owned() } else { format!("is {}", Quoted(found)) };
        report(LintRule::OutputSchemaType, format_args!("`type` of outputSchema {found}"));
    }
    match schema::dialect(output) {
        schema::Dialect::Current => {}
        schema::Dialect::Older(name) => {
            report(LintRule::OutputSchemaOldDialect, format_args!("outputSchema declares {name}"));
        }
        schema::Dialect::Unknown(declared) => {
            let declared = Cut(declared);
            report(LintRule::OutputSchemaDialect, format_args!("outputSchema declares {declared}"));
            return;
        }
    }
    schema::lint(output, schema::SchemaUse::Output, report);
}

/// A text of the server in a detail: quoted, on one line.
struct Cut<'a>(&'a str);

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", beginning(self.0).escape_debug())
    }
}

/// Returns the beginning of a text of the server. It is redacted before it is cut, because the redactor does not
/// recognise half a secret.
fn beginning(text: &str) -> String {
    let redacted = Redactor::default().redact(Field::Message, text.as_bytes());
    let text = redacted.as_str();
    let end = text.floor_char_boundary(MAX_QUOTED);
    format!("{}{}", &text[..end], if end < text.len() { "…" } else { "" })
}

/// A value in a detail: a string as it is, other values by their kind.
struct Quoted<'a>(&'a Value);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::String(text) => Cut(text).fmt(f),
            Value::Object(_) => f.write_str("an object"),
            Value::Array(_) => f.write_str("an array"),
            other => write!(f, "`{other}`"),
        }
    }
}
