//! Lints one JSON Schema: the keywords against JSON Schema 2020-12, references, and what hosts require of each part.
//!
//! The check of keywords is that of the meta-schema without formats. A test compares both.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use serde_json::{Map, Value};

use crate::observe::lint::{Cut, LintRule, Quoted, Report};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SchemaUse {
    /// Goes to the API of the model, which reads each schema as 2020-12.
    Input,
    /// Is compiled by the client, in the dialect that it declares.
    Output,
}

/// The dialect that a schema declares, as the clients of the TypeScript SDK know it.
pub(super) enum Dialect<'a> {
    Current,
    Older(&'static str),
    Unknown(&'a str),
}

pub(super) fn dialect(schema: &Value) -> Dialect<'_> {
    let Some(declared) = schema["$schema"].as_str() else { return Dialect::Current };
    let name = declared.strip_suffix('#').unwrap_or(declared);
    let name = name.strip_prefix("https://").or(name.strip_prefix("http://")).unwrap_or(name);
    match name {
        "json-schema.org/draft/2020-12/schema" => Dialect::Current,
        "json-schema.org/draft/2019-09/schema" => Dialect::Older("2019-09"),
        "json-schema.org/draft-07/schema" => Dialect::Older("draft-07"),
        "json-schema.org/draft-06/schema" => Dialect::Older("draft-06"),
        _ => Dialect::Unknown(declared),
    }
}

/// Form of a keyword's value.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Schema,
    /// A non-empty array of schemas.
    Schemas,
    /// An object whose values are schemas.
    Named,
    Text,
    Boolean,
    Number,
    /// A number above 0.
    Positive,
    /// An integer from 0 on.
    Count,
    Array,
    /// An array of strings that differ.
    Names,
    /// An object whose values are [`Form::Names`].
    NamedNames,
    /// One or several types.
    Types,
}

/// The keywords that the meta-schema restricts, sorted.
pub(super) const KEYWORDS: [(&str, Form); 55] = [
    ("$anchor", Form::Text),
    ("$comment", Form::Text),
    ("$defs", Form::Named),
    ("$dynamicAnchor", Form::Text),
    ("$dynamicRef", Form::Text),
    ("$id", Form::Text),
    ("$ref", Form::Text),
    ("$schema", Form::Text),
    ("additionalProperties", Form::Schema),
    ("allOf", Form::Schemas),
    ("anyOf", Form::Schemas),
    ("contains", Form::Schema),
    ("contentEncoding", Form::Text),
    ("contentMediaType", Form::Text),
    ("contentSchema", Form::Schema),
    ("definitions", Form::Named),
    ("dependentRequired", Form::NamedNames),
    ("dependentSchemas", Form::Named),
    ("deprecated", Form::Boolean),
    ("description", Form::Text),
    ("else", Form::Schema),
    ("enum", Form::Array),
    ("examples", Form::Array),
    ("exclusiveMaximum", Form::Number),
    ("exclusiveMinimum", Form::Number),
    ("format", Form::Text),
    ("if", Form::Schema),
    ("items", Form::Schema),
    ("maxContains", Form::Count),
    ("maxItems", Form::Count),
    ("maxLength", Form::Count),
    ("maxProperties", Form::Count),
    ("maximum", Form::Number),
    ("minContains", Form::Count),
    ("minItems", Form::Count),
    ("minLength", Form::Count),
    ("minProperties", Form::Count),
    ("minimum", Form::Number),
    ("multipleOf", Form::Positive),
    ("not", Form::Schema),
    ("oneOf", Form::Schemas),
    ("pattern", Form::Text),
    ("patternProperties", Form::Named),
    ("prefixItems", Form::Schemas),
    ("properties", Form::Named),
    ("propertyNames", Form::Schema),
    ("readOnly", Form::Boolean),
    ("required", Form::Names),
    ("then", Form::Schema),
    ("title", Form::Text),
    ("type", Form::Types),
    ("unevaluatedItems", Form::Schema),
    ("unevaluatedProperties", Form::Schema),
    ("uniqueItems", Form::Boolean),
    ("writeOnly", Form::Boolean),
];

impl Form {
    fn words(self) -> &'static str {
        match self {
            Form::Schema => "a schema",
            Form::Schemas => "a non-empty array of schemas",
            Form::Named => "an object of schemas",
            Form::Text => "a string",
            Form::Boolean => "a boolean",
            Form::Number => "a number",
            Form::Positive => "a number above 0",
            Form::Count => "an integer from 0 on",
            Form::Array => "an array",
            Form::Names => "an array of different strings",
            Form::NamedNames => "an object of arrays of strings",
            Form::Types => "a type of JSON, or an array of types",
        }
    }

    /// Returns true if the value has this form. The schemas in it are checked apart.
    fn fits(self, value: &Value) -> bool {
        let number = |value: &Value| value.as_f64();
        match self {
            Form::Schema => is_schema(value),
            Form::Schemas => value.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(is_schema)),
            Form::Named => value.as_object().is_some_and(|all| all.values().all(is_schema)),
            Form::Text => value.is_string(),
            Form::Boolean => value.is_boolean(),
            Form::Number => value.is_number(),
            Form::Positive => number(value).is_some_and(|number| number > 0.0),
            Form::Count => number(value).is_some_and(|number| number >= 0.0 && number.fract() == 0.0),
            Form::Array => value.is_array(),
            Form::Names => are_names(value),
            Form::NamedNames => value.as_object().is_some_and(|all| all.values().all(are_names)),
            Form::Types => match value {
                Value::Array(all) => {
                    let kinds: BTreeSet<&str> = all.iter().filter_map(type_name).collect();
                    !all.is_empty() && kinds.len() == all.len()
                }
                one => type_name(one).is_some(),
            },
        }
    }
}

fn is_schema(value: &Value) -> bool {
    value.is_object() || value.is_boolean()
}

fn are_names(value: &Value) -> bool {
    let names = |all: &Vec<Value>| all.iter().filter_map(Value::as_str).collect::<BTreeSet<&str>>().len();
    value.as_array().is_some_and(|all| names(all) == all.len())
}

fn type_name(value: &Value) -> Option<&str> {
    const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];
    value.as_str().filter(|name| TYPES.contains(name))
}

/// Lints a schema and all schemas in it.
pub(super) fn lint(root: &Value, usage: SchemaUse, report: &mut Report<'_>) {
    let allows_tuples = usage == SchemaUse::Output && matches!(dialect(root), Dialect::Older(_));
    let mut walk = SchemaWalk { root, base: root, usage, allows_tuples, names: None, report };
    let top = match usage {
        SchemaUse::Input => "inputSchema",
        SchemaUse::Output => "outputSchema",
    };
    walk.schema(root, &SchemaPath { above: None, word: top }, false);
}

/// The place of a schema, from the inside to the outside.
struct SchemaPath<'a> {
    above: Option<&'a SchemaPath<'a>>,
    word: &'a str,
}

impl fmt::Display for SchemaPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(above) = self.above {
            write!(f, "{above}.")?;
        }
        f.write_str(&super::beginning(self.word))
    }
}

struct SchemaWalk<'a, 'r> {
    root: &'a Value,
    /// The schema that references begin at: the nearest one with an `$id`.
    base: &'a Value,
    usage: SchemaUse,
    /// True if `items` may be an array.
    allows_tuples: bool,
    /// Ids and anchors of the whole schema, collected for the first reference that needs them.
    names: Option<HashSet<&'a str>>,
    report: &'r mut Report<'r>,
}

impl<'a> SchemaWalk<'a, '_> {
    /// `is_branch` is true for an alternative of the schema around it, which need not repeat its properties.
    fn schema(&mut self, schema: &'a Value, path: &SchemaPath<'_>, is_branch: bool) {
        let Some(members) = schema.as_object() else { return };
        let outer = self.base;
        if members.get("$id").is_some_and(Value::is_string) {
            self.base = schema;
        }
        self.for_hosts(members, path, is_branch);
        for (keyword, value) in members {
            let Ok(at) = KEYWORDS.binary_search_by_key(&keyword.as_str(), |(name, _)| *name) else {
                continue;
            };
            let form = match (KEYWORDS[at].0, value) {
                ("items", Value::Array(_)) if self.allows_tuples => Form::Schemas,
                _ => KEYWORDS[at].1,
            };
            if !form.fits(value) {
                (self.report)(
                    LintRule::InvalidSchema,
                    format_args!("`{keyword}` of {path} is {}, not {}", Quoted(value), form.words()),
                );
            }
            if let ("$ref" | "$dynamicRef", Some(reference)) = (keyword.as_str(), value.as_str())
                && !self.resolves(reference)
            {
                (self.report)(LintRule::UnresolvedRef, format_args!("{} in {path}", Cut(reference)));
            }
            let path = SchemaPath { above: Some(path), word: keyword };
            let is_branch =
                matches!(&**keyword, "allOf" | "anyOf" | "oneOf" | "if" | "then" | "else" | "not");
            match (form, value) {
                (Form::Schema, value) => self.schema(value, &path, is_branch),
                (Form::Schemas, Value::Array(all)) => {
                    all.iter().for_each(|schema| self.schema(schema, &path, is_branch));
                }
                (Form::Named, Value::Object(all)) => {
                    for (name, schema) in all {
                        self.schema(schema, &SchemaPath { above: Some(&path), word: name }, is_branch);
                    }
                }
                _ => {}
            }
        }
        self.base = outer;
    }

    /// Lints what some hosts require beyond JSON Schema, in a schema that goes to the model.
    fn for_hosts(&mut self, members: &Map<String, Value>, path: &SchemaPath<'_>, is_branch: bool) {
        if self.usage == SchemaUse::Output {
            return;
        }
        if members.get("type").and_then(Value::as_str) == Some("array") && !members.contains_key("items") {
            (self.report)(LintRule::ArrayItems, format_args!("the array {path} has no `items`"));
        }
        let known = members.get("properties").and_then(Value::as_object);
        let unions = ["allOf", "anyOf", "oneOf", "$ref", "if"];
        if is_branch || known.is_none() && unions.iter().any(|union| members.contains_key(*union)) {
            return;
        }
        let required = members.get("required").and_then(Value::as_array).into_iter().flatten();
        for name in required.filter_map(Value::as_str) {
            if !known.is_some_and(|known| known.contains_key(name)) {
                (self.report)(
                    LintRule::RequiredUnknown,
                    format_args!("{} in `required` of {path}", Cut(name)),
                );
            }
        }
    }

    fn resolves(&mut self, reference: &str) -> bool {
        match reference.split_once('#') {
            Some(("", "")) => true,
            Some(("", pointer)) if pointer.starts_with('/') => {
                self.base.pointer(&percent_decoded(pointer)).is_some()
            }
            // Clients know the meta-schemas.
            _ if reference.contains("://json-schema.org/") => true,
            Some(("", name)) => self.names().contains(name),
            Some((document, _)) => self.names().contains(document),
            None => self.names().contains(reference),
        }
    }

    fn names(&mut self) -> &HashSet<&'a str> {
        let root = self.root;
        self.names.get_or_insert_with(|| {
            let (mut names, mut open) = (HashSet::new(), vec![root]);
            while let Some(value) = open.pop() {
                match value {
                    Value::Object(members) => {
                        let of = |key: &str| members.get(key).and_then(Value::as_str);
                        names.extend(["$id", "$anchor", "$dynamicAnchor"].into_iter().filter_map(of));
                        // Draft-07 writes an anchor as an id.
                        names.extend(of("$id").and_then(|id| id.strip_prefix('#')));
                        open.extend(members.values());
                    }
                    Value::Array(elements) => open.extend(elements),
                    _ => {}
                }
            }
            names
        })
    }
}

/// Decodes `%xx` in the fragment of a reference.
fn percent_decoded(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *first == b'%').and_then(|it| std::str::from_utf8(it).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
