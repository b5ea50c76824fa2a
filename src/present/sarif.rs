//! Findings as SARIF 2.1.0, which code scanners and CI systems read.

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
        }
    }
}

/// Returns the document of one run. `unjudged` has a redacted text for each part that could not be judged.
pub(crate) fn document(rules: &[SarifRule], results: &[SarifResult], unjudged: &[String]) -> Value {
    let notification = |text: &String| json!({"level": "error", "message": {"text": text}});
    let notifications: Vec<Value> = unjudged.iter().map(notification).collect();
    let described: Vec<Value> = rules.iter().map(rule).collect();
    let found: Vec<Value> = results.iter().map(|it| result(it, rules)).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "spantap", "semanticVersion": env!("CARGO_PKG_VERSION"), "rules": described,
            }},
            "invocations": [{
                "executionSuccessful": unjudged.is_empty(), "toolExecutionNotifications": notifications,
            }],
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
