//! The rule for names, measured on names that MCP servers really have: `fixtures/redaction/names.tsv`.

use std::collections::BTreeMap;

use spantap::observe::redact::{Field, Redactor};

/// A key of a vendor and a password, made up.
const SECRETS: [&str; 2] = ["7x3kq9vw2mzt5rj8yb4ncd6fhgps3ula7e2wq9xk5mvt8rjz", "Kq7vR2mXw9Lt"];

struct NameCase {
    is_secret: bool,
    /// Empty for a secret.
    value: String,
}

/// Reads each name once, whatever the number of servers that have it.
fn names() -> BTreeMap<String, NameCase> {
    let path = format!("{}/fixtures/redaction/names.tsv", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let is_secret = fields[1] == "secret";
            assert_eq!(fields.len(), if is_secret { 4 } else { 5 }, "{line}");
            let value = fields.get(4).copied().unwrap_or_default().to_owned();
            (fields[0].to_owned(), NameCase { is_secret, value })
        })
        .collect()
}

/// Writes a name and a value as command lines, requests, environments and config files do.
fn notations(name: &str, value: &str) -> Vec<String> {
    if name.starts_with("--") {
        vec![format!("npx server {name} {value}"), format!("npx server {name}={value}")]
    } else if name.contains('-') || name == "Authorization" {
        vec![format!("{name}: {value}"), format!("{{\"{name}\":\"{value}\"}}")]
    } else {
        let value = value.replace('\\', "\\\\");
        vec![
            format!("docker run -e {name}={value} image"),
            format!("{name}: {value}"),
            format!("{{\"{name}\": \"{value}\", \"n\": 1}}"),
        ]
    }
}

fn shown(text: &str) -> String {
    Redactor::default().redact(Field::StderrLine, text.as_bytes()).to_string()
}

#[test]
fn ninety_eight_of_a_hundred_secret_names_of_real_servers_are_found() {
    let secret: Vec<String> =
        names().into_iter().filter(|(_, case)| case.is_secret).map(|(name, _)| name).collect();
    let passes = |name: &String| {
        SECRETS
            .iter()
            .any(|value| notations(name, value).iter().any(|text| shown(text).contains(&value[..8])))
    };
    let missed: Vec<&String> = secret.iter().filter(|name| passes(name)).collect();
    assert!(secret.len() >= 300, "{}", secret.len());
    assert!(missed.len() * 50 <= secret.len(), "{} of {}: {missed:?}", missed.len(), secret.len());
}

#[test]
fn at_most_one_of_a_hundred_harmless_names_of_real_servers_loses_its_value() {
    let harmless: Vec<(String, NameCase)> = names().into_iter().filter(|(_, case)| !case.is_secret).collect();
    let hurt: Vec<String> = harmless
        .iter()
        .flat_map(|(name, case)| notations(name, &case.value).into_iter().find(|text| &shown(text) != text))
        .collect();
    assert!(harmless.len() >= 500, "{}", harmless.len());
    assert!(hurt.len() * 100 <= harmless.len(), "{} of {}: {hurt:#?}", hurt.len(), harmless.len());
}
