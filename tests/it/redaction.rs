//! Nothing secret gets through the redactor, and what is not secret does.
//!
//! The corpus is data: `fixtures/redaction/`, with its own README.

use std::ffi::OsString;

use serde::Deserialize;
use spantap::observe::redact::{Field, Redactor};

#[derive(Debug, Deserialize)]
struct Case {
    id: String,
    class: String,
    source: String,
    context: String,
    input: Input,
    #[serde(default)]
    secret: Vec<String>,
    #[serde(default)]
    keep: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Arguments(Vec<String>),
}

fn corpus(name: &str) -> Vec<Case> {
    let path = format!("{}/fixtures/redaction/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Reads a case the way its field is read in a session.
fn cleaned(redactor: &mut Redactor, case: &Case) -> String {
    match (&case.input, case.context.as_str()) {
        (Input::Arguments(arguments), _) => {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            let cleaned: Vec<String> =
                redactor.redact_argv(&arguments).iter().map(ToString::to_string).collect();
            cleaned.join(" ")
        }
        (Input::Text(text), "stderr") => {
            let lines: Vec<String> = text
                .split('\n')
                .map(|line| redactor.redact(Field::StderrLine, line.as_bytes()).to_string())
                .collect();
            lines.join("\n")
        }
        (Input::Text(text), context) => redactor.redact(field(context), text.as_bytes()).to_string(),
    }
}

fn field(context: &str) -> Field {
    match context {
        "message" | "notification" => Field::Message,
        "result" => Field::Summary,
        "name" => Field::Name,
        "uri" => Field::Uri,
        other => panic!("no field for {other}"),
    }
}

#[test]
fn every_secret_of_the_corpus_is_gone_and_the_text_around_it_stays() {
    let cases = corpus("positive");
    assert!(cases.len() >= 300);
    let mut wrong = Vec::new();
    for case in &cases {
        let cleaned = cleaned(&mut Redactor::default(), case);
        for secret in &case.secret {
            // Nor any piece of it that would help.
            let pieces = secret.as_bytes().windows(secret.len().min(12));
            if pieces.map(String::from_utf8_lossy).any(|piece| cleaned.contains(&*piece)) {
                wrong
                    .push(format!("{} {} {}: shows {secret:?}: {cleaned}", case.id, case.class, case.source));
                break;
            }
        }
        for keep in case.keep.iter().filter(|keep| !cleaned.contains(keep.as_str())) {
            wrong.push(format!("{} {} {}: lost {keep:?}: {cleaned}", case.id, case.class, case.source));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn at_most_two_in_a_hundred_harmless_texts_lose_anything() {
    let cases = corpus("negative");
    assert!(cases.len() >= 150);
    let mut redactor = Redactor::default();
    let mut lost = Vec::new();
    for case in &cases {
        redactor.take_counts();
        let cleaned = cleaned(&mut redactor, case);
        if !redactor.take_counts().is_empty() {
            lost.push(format!("{} {}: {cleaned}", case.id, case.source));
        }
    }
    assert!(lost.len() * 100 <= cases.len() * 2, "{} of {}:\n{}", lost.len(), cases.len(), lost.join("\n"));
}
