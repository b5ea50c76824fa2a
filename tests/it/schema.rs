//! The published contract of the log: `docs/log.schema.json`, `docs/log.md`, `spantap schema`.
//!
//! `UPDATE_FIXTURES=1 cargo test schema` writes the schema and the tables anew.

use std::path::{Path, PathBuf};

use serde_json::Value;
use spantap::record::schema::{
    AGENT_ALWAYS, AGENT_EVENTS, AGENT_WHERE_KNOWN, ALWAYS, EVENTS, EventFields, WHERE_KNOWN, names, schema,
};

use crate::support::*;

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

/// Compares `text` with the file. With `UPDATE_FIXTURES` it writes the file.
#[track_caller]
fn assert_published(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(path, text).unwrap();
    }
    let published = std::fs::read_to_string(path).unwrap_or_default();
    assert!(published == text, "{} is not up to date: UPDATE_FIXTURES=1 cargo test schema", path.display());
}

#[test]
fn the_schema_in_docs_is_the_one_of_the_code_and_of_the_command() {
    assert_published(&docs("log.schema.json"), &format!("{:#}\n", schema()));
    let output = Home::new().spantap(["schema"]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(text(&output).0, format!("{:#}\n", schema()));
}

/// Returns the page with `table` between `<!-- NAME -->` and `<!-- /NAME -->`.
fn with_table(page: &str, name: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let from = page.find(&begin).unwrap_or_else(|| panic!("{begin}")) + begin.len();
    let to = page.find(&end).unwrap_or_else(|| panic!("{end}"));
    format!("{}{table}{}", &page[..from], &page[to..])
}

fn quoted(fields: &str) -> String {
    names(fields).iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ")
}

fn events_table(events: &[EventFields]) -> String {
    let mut table = "| event | always | if known |\n| --- | --- | --- |\n".to_owned();
    for event in events {
        let (required, optional) = (quoted(event.required), quoted(event.optional));
        table += &format!("| `{}` | {required} | {optional} |\n", event.event.as_str());
    }
    table
}

/// Returns the JSON type of a field in words.
fn kind(field: &Value, definitions: &Value) -> String {
    if let Some(reference) = field["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        return match name {
            "Timestamp" => "time".to_owned(),
            "Millis" => "milliseconds".to_owned(),
            "Level" | "EventName" => "word".to_owned(),
            _ => kind(&definitions[name], definitions),
        };
    }
    match field["type"].as_str().unwrap_or_default() {
        "array" if field["items"].get("$ref").is_some() => "list of objects".to_owned(),
        "array" => "list of text".to_owned(),
        "object" => "object".to_owned(),
        "string" if field.get("enum").is_some() => "word".to_owned(),
        "string" => "text".to_owned(),
        other => other.to_owned(),
    }
}

/// Returns the fields of `events`, each once, in the order of their first appearance.
fn fields_of(always: &str, where_known: &str, events: &[EventFields]) -> Vec<String> {
    let of_events = events.iter().flat_map(|event| [event.required, event.optional]);
    let mut fields: Vec<String> = Vec::new();
    for name in [always, where_known].into_iter().chain(of_events).flat_map(names) {
        if !fields.iter().any(|field| field == name) {
            fields.push(name.to_owned());
        }
    }
    fields
}

fn fields_table(fields: &[String]) -> String {
    let schema = schema();
    let mut table = "| field | type | meaning |\n| --- | --- | --- |\n".to_owned();
    for name in fields {
        let field = &schema["properties"][name];
        let meaning = field["description"].as_str().unwrap_or_else(|| panic!("{name} is not described"));
        let meaning = meaning.replace('\n', " ").replace('|', "\\|");
        table += &format!("| `{name}` | {} | {meaning} |\n", kind(field, &schema["$defs"]));
    }
    table
}

#[test]
fn the_tables_in_docs_are_those_of_the_code() {
    let path = docs("log.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let fields = fields_of(ALWAYS, WHERE_KNOWN, EVENTS);
    let mut of_agents = fields_of(AGENT_ALWAYS, AGENT_WHERE_KNOWN, AGENT_EVENTS);
    for name in schema()["properties"].as_object().unwrap().keys() {
        assert!(fields.contains(name) || of_agents.contains(name), "{name} belongs to no event");
    }
    of_agents.retain(|name| !fields.contains(name));
    let page_now = [
        ("events", events_table(EVENTS)),
        ("fields", fields_table(&fields)),
        ("agent events", events_table(AGENT_EVENTS)),
        ("agent fields", fields_table(&of_agents)),
    ];
    let page_now = page_now.iter().fold(page, |page, (name, table)| with_table(&page, name, table));
    assert_published(&path, &page_now);
}

#[test]
fn the_examples_in_docs_are_records() {
    let page = std::fs::read_to_string(docs("log.md")).unwrap();
    let examples: Vec<&str> = page.lines().filter(|line| line.starts_with("{\"schema\"")).collect();
    assert!(examples.len() >= 5, "{}", examples.len());
    for example in examples {
        validate_line(Path::new("docs/log.md"), example);
    }
}

#[test]
fn the_recipes_in_docs_work_on_real_logs() {
    if !can_run(&["jq", "--version"], "the recipes in docs/log.md") {
        return;
    }
    let home = Home::new();
    let mut session = home.session(&[]);
    session.calls(2);
    for _ in 0..7 {
        session.request("tools/call", serde_json::json!({"name": "create_issue", "arguments": {}}));
    }
    session.end();
    let page = std::fs::read_to_string(docs("log.md")).unwrap();
    let recipes: Vec<&str> =
        page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let jq: Vec<&str> = recipes.into_iter().filter(|recipe| recipe.starts_with("jq ")).collect();
    assert!(jq.len() >= 2, "{}", jq.len());
    for recipe in jq {
        let mut shell = home.command("sh");
        let output = shell.args(["-c", recipe]).current_dir(home.logs()).output().unwrap();
        let (printed, said) = text(&output);
        assert!(output.status.success() && said.is_empty(), "{recipe}\n{said}");
        assert!(!printed.trim().is_empty(), "{recipe}\nprints nothing");
    }
}
