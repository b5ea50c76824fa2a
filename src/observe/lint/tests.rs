use serde_json::json;

use super::*;
use crate::observe::lint::rules::{LintRow, RULES};

#[test]
fn each_rule_has_its_row_in_the_table_with_a_source() {
    for (rule, row) in LintRule::ALL.iter().zip(&RULES) {
        assert_eq!(*rule, row.rule);
        assert!(row.source.starts_with("https://"), "{rule}");
        for text in [row.what, row.hosts, row.way_out] {
            assert!(!text.is_empty() && !text.ends_with('.'), "{rule}: {text}");
        }
    }
}

/// Compares the table in the documentation. With `UPDATE_FIXTURES` it writes the table anew.
#[test]
fn the_table_in_docs_is_that_of_the_rules() {
    let mut table = "| rule | fault | hosts | way out |\n| --- | --- | --- | --- |\n".to_owned();
    for LintRow { rule, level, what, hosts, way_out, source } in &RULES {
        let mark = if *level == LintLevel::Error { "" } else { ", a warning" };
        let what = what.replace('|', "\\|");
        table.push_str(&format!("| `{rule}`{mark} | {what} | {hosts} ([source]({source})) | {way_out} |\n"));
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/hosts.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once("<!-- lint rules -->\n").unwrap();
    let (found, after) = rest.split_once("<!-- end of lint rules -->").unwrap();
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        let page = format!("{before}<!-- lint rules -->\n{table}<!-- end of lint rules -->{after}");
        return std::fs::write(&path, page).unwrap();
    }
    assert!(found == table, "docs/hosts.md is not up to date: UPDATE_FIXTURES=1 cargo test --lib lint");
}

fn rules(definition: Value) -> Vec<LintRule> {
    findings(&definition).into_iter().map(|finding| finding.rule).collect()
}

fn of_input(schema: Value) -> Vec<LintRule> {
    rules(json!({"name": "a", "description": "b", "inputSchema": schema}))
}

fn of_output(schema: Value) -> Vec<LintRule> {
    let input = json!({"type": "object"});
    rules(json!({"name": "a", "description": "b", "inputSchema": input, "outputSchema": schema}))
}

#[test]
fn the_check_of_keywords_agrees_with_the_meta_schema() {
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(2),
        json!(2.0),
        json!(2.5),
        json!("string"),
        json!("any"),
        json!([]),
        json!([[]]),
        json!(["string"]),
        json!(["string", "null"]),
        json!(["string", "string"]),
        json!(["a", 1]),
        json!([{}]),
        json!([{}, true]),
        json!([{}, 7]),
        json!({}),
        json!({"a": {}}),
        json!({"a": true}),
        json!({"a": ["b"]}),
        json!({"a": ["b", "b"]}),
        json!({"a": "b"}),
        json!({"type": "any"}),
        json!({"a": {"type": "any"}}),
        json!([{"type": "any"}]),
    ];
    let mut invalid = 0;
    for (keyword, _) in schema::KEYWORDS {
        for value in &values {
            let schema = json!({keyword: value});
            let mut is_valid = true;
            schema::lint(&schema, schema::SchemaUse::Output, &mut |rule, _| {
                is_valid &= rule != LintRule::InvalidSchema;
            });
            assert_eq!(is_valid, jsonschema::draft202012::meta::is_valid(&schema), "{schema}");
            invalid += u32::from(!is_valid);
        }
    }
    assert!(invalid > 500, "{invalid}");
    assert!(schema::KEYWORDS.is_sorted_by_key(|(name, _)| *name));
}

#[test]
fn a_schema_that_hosts_take_has_no_finding() {
    let input = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {
            "a.b-c_1": {"$ref": "#/$defs/node"},
            "either": {"anyOf": [{"type": "string"}, {"type": "array", "items": {}}, {"type": "null"}]},
            "any": {},
            // A property with the name of a keyword is not a keyword.
            "required": {"type": "boolean"},
            "patch": {"type": "object", "properties": {"x[]": {}, "$ref": {}}, "anyOf": [{"required": ["y"]}]},
            "encoded": {"$ref": "#/%24defs/a~1b%20c"},
            "anchored": {"$ref": "#leaf"},
        },
        "required": ["a.b-c_1", "any"],
        "additionalProperties": false,
        "$defs": {
            "node": {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]},
            "a/b c": {"$anchor": "leaf", "const": {"type": "any"}, "default": [{"$ref": "#/nowhere"}]},
        },
    });
    assert_eq!(of_input(input), []);
    let whole = json!({"$id": "https://example.org/x", "type": "object", "properties": {
        "a": {"$id": "inner", "$defs": {"b": {}}, "items": {"$ref": "#/$defs/b"}},
        "c": {"$ref": "inner"},
        "d": {"$ref": "http://json-schema.org/draft-07/schema#"},
    }});
    assert_eq!(of_output(whole), []);
}

#[test]
fn a_reference_is_resolved_from_the_nearest_id() {
    let inner = json!({"type": "object", "$defs": {"b": {}}, "properties": {
        "a": {"$id": "inner", "items": {"$ref": "#/$defs/b"}},
    }});
    assert_eq!(of_output(inner), [LintRule::UnresolvedRef]);
    assert_eq!(of_output(json!({"type": "object", "$ref": "other.json"})), [LintRule::UnresolvedRef]);
    assert_eq!(of_output(json!({"type": "object", "$ref": "#gone"})), [LintRule::UnresolvedRef]);
}

#[test]
fn an_output_schema_is_read_in_the_dialect_that_it_declares() {
    let tuple = |declared: &str| of_output(json!({"$schema": declared, "type": "object", "items": [{}]}));
    assert_eq!(tuple("http://json-schema.org/draft-07/schema#"), [LintRule::OutputSchemaOldDialect]);
    assert_eq!(tuple("https://json-schema.org/draft/2020-12/schema"), [LintRule::InvalidSchema]);
    assert_eq!(tuple("http://json-schema.org/draft-04/schema#"), [LintRule::OutputSchemaDialect]);
}

#[test]
fn a_rule_is_found_once_with_the_number_of_its_places() {
    let found = findings(&json!({"name": "a", "description": "b", "inputSchema": {
        "type": "object", "properties": {"a[]": {}, "b[]": {}, "c[]": {}},
    }}));
    assert_eq!(
        found,
        [LintFinding { rule: LintRule::PropertyName, detail: "property `a[]`".to_owned(), more: 2 }]
    );
}

#[test]
fn a_text_of_the_server_is_cut_and_on_one_line() {
    let name = format!("\n\u{1b}{}", "é".repeat(500));
    let found = findings(&json!({"name": "a", "description": "b", "inputSchema": {
        "type": "object", "properties": {name: {}}, "required": ["z".repeat(500)],
    }}));
    for finding in found {
        assert!(
            finding.detail.len() < 200 && !finding.detail.contains(['\n', '\u{1b}']),
            "{}",
            finding.detail
        );
    }
}

#[test]
fn revisions_have_rules_of_their_own() {
    let (old, new) = (Some("2025-11-25"), Some("2026-07-28"));
    assert!(LintRule::OutputSchemaType.is_in_force(old) && !LintRule::OutputSchemaType.is_in_force(new));
    assert!(!LintRule::RemovedFeature.is_in_force(old) && LintRule::RemovedFeature.is_in_force(new));
    assert!(!LintRule::RemovedFeature.is_in_force(None) && LintRule::ToolName.is_in_force(None));
}

#[test]
fn any_value_is_linted_without_a_panic_and_a_large_one_in_a_moment() {
    for text in ["null", "7", "[]", "{}", r#"{"name":7,"inputSchema":[],"outputSchema":7,"execution":{}}"#] {
        findings(&serde_json::from_str(text).unwrap());
    }
    // Anchors and references that would take a second for each other if each looked for its own.
    let refs: Vec<Value> =
        (0..20_000).map(|n| json!({"$ref": format!("#{n}"), "$anchor": n.to_string()})).collect();
    let found = of_output(json!({"type": "object", "allOf": refs}));
    assert_eq!(found, []);
}
