//! Findings as SARIF 2.1.0, which code scanners and CI systems read.

#![cfg_attr(not(test), allow(dead_code))]

use serde_json::{Value, json};

/// A rule that findings may name.
#[derive(Clone, Debug)]
pub(crate) struct SarifRule {
    pub(crate) id: &'static str,
    /// One line: the fault that the rule finds.
    pub(crate) text: String,
    /// The way out.
    pub(crate) help: String,
    /// Address of a page about it, if there is one.
    pub(crate) help_uri: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SarifLevel {
    Error,
    Warning,
    /// A fact that must be known and is not a fault: lost records, a rule that could not be judged.
    Note,
}

/// One finding.
#[derive(Clone, Debug)]
pub(crate) struct SarifResult {
    /// The rule's id, one of those of the document.
    pub(crate) rule: &'static str,
    pub(crate) level: SarifLevel,
    /// Redacted text.
    pub(crate) message: String,
    /// The place, from the outside to the inside: the kind and the name of each part, such as `server` and `tool`.
    pub(crate) place: Vec<(&'static str, String)>,
}

impl SarifLevel {
    fn word(self) -> &'static str {
        match self {
            SarifLevel::Error => "error",
            SarifLevel::Warning => "warning",
            SarifLevel::Note => "note",
        }
    }
}

/// Returns the document of one run. `is_complete` is false if a part could not be judged.
pub(crate) fn document(rules: &[SarifRule], results: &[SarifResult], is_complete: bool) -> Value {
    let described: Vec<Value> = rules.iter().map(rule).collect();
    let found: Vec<Value> = results.iter().map(|it| result(it, rules)).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "spantap", "semanticVersion": env!("CARGO_PKG_VERSION"), "rules": described,
            }},
            "invocations": [{"executionSuccessful": is_complete}],
            "results": found,
        }],
    })
}

fn rule(rule: &SarifRule) -> Value {
    let mut value = json!({
        "id": rule.id, "shortDescription": {"text": rule.text}, "help": {"text": rule.help},
    });
    if let Some(uri) = rule.help_uri {
        value["helpUri"] = uri.into();
    }
    value
}

fn result(result: &SarifResult, rules: &[SarifRule]) -> Value {
    let mut value = json!({
        "ruleId": result.rule, "level": result.level.word(), "message": {"text": result.message},
    });
    if let Some(index) = rules.iter().position(|rule| rule.id == result.rule) {
        value["ruleIndex"] = index.into();
    }
    if let Some((kind, name)) = result.place.last() {
        let names: Vec<&str> = result.place.iter().map(|(_, name)| name.as_str()).collect();
        let place = json!({"name": name, "kind": kind, "fullyQualifiedName": names.join("/")});
        value["locations"] = json!([{"logicalLocations": [place]}]);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_valid_sarif_and_each_result_names_its_rule_and_place() {
        let schema = include_str!("../../fixtures/sarif/sarif-2.1.0-rtm.5.json");
        let mut schema: Value = serde_json::from_str(schema).unwrap();
        // A pattern there has a bracket too many, which strict readers of regular expressions refuse.
        for part in ["run", "toolComponent"] {
            let language = &mut schema["definitions"][part]["properties"]["language"];
            language.as_object_mut().unwrap().remove("pattern").unwrap();
        }
        let validator = jsonschema::draft4::new(&schema).unwrap();
        let named = |id| SarifRule { id, text: "x".into(), help: "y".into(), help_uri: None };
        let rules = [named("a"), SarifRule { help_uri: Some("https://example.org/b"), ..named("b") }];
        let found = SarifResult {
            rule: "b",
            level: SarifLevel::Note,
            message: "\u{1b}[31m \"quoted\"".into(),
            place: vec![("server", "files".into()), ("tool", "read".into())],
        };
        let without_place =
            SarifResult { rule: "a", level: SarifLevel::Error, place: Vec::new(), ..found.clone() };
        let warning = SarifResult { level: SarifLevel::Warning, ..found.clone() };
        let document = document(&rules, &[found, without_place, warning], false);
        let problems: Vec<String> = validator.iter_errors(&document).map(|it| it.to_string()).collect();
        assert_eq!(problems, Vec::<String>::new());
        let results = &document["runs"][0]["results"];
        assert_eq!(results[0]["ruleIndex"], 1);
        assert_eq!(results[0]["locations"][0]["logicalLocations"][0]["fullyQualifiedName"], "files/read");
        assert!(results[1].get("locations").is_none());
        let mut broken = document.clone();
        broken["runs"][0]["results"][0]["level"] = "fatal".into();
        assert!(!validator.is_valid(&broken));
    }
}
