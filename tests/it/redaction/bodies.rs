//! Bodies for `spantap debug on --bodies`: JSON texts that are redacted whole and then cut.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};
use spantap::observe::redact::{
    LONGEST_BODY, MOST_OF_BODY, RedactionCounts, RedactionMode, RedactionSettings, Redactor,
};

use super::{Case, Input, corpus};

fn body(json: &Value) -> String {
    let text = json.to_string();
    Redactor::default().body(text.as_bytes(), &mut RedactionCounts::default()).unwrap().to_string()
}

/// The texts of the corpora with their secrets, which several tests and cases read.
static TEXTS: LazyLock<Vec<(String, String, Vec<String>)>> = LazyLock::new(texts);

fn texts() -> Vec<(String, String, Vec<String>)> {
    let cases = ["positive", "shapes"].into_iter().flat_map(corpus);
    let text = |Case { id, input, secret, .. }: Case| match input {
        Input::Text(text) => Some((id, text, secret)),
        // A command line is not JSON.
        Input::Arguments(_) => None,
    };
    cases.filter_map(text).filter(|(.., secrets)| !secrets.is_empty()).collect()
}

/// Returns the secrets that are in `shown`, as they are or as a JSON string writes them.
fn left<'s>(shown: &str, secrets: &'s [String]) -> Vec<&'s String> {
    let is_shown = |secret: &&String| {
        let written = json!(secret).to_string();
        shown.contains(secret.as_str()) || shown.contains(written.trim_matches('"'))
    };
    secrets.iter().filter(is_shown).collect()
}

#[test]
fn no_secret_of_the_corpora_is_in_a_body() {
    assert!(TEXTS.len() > 2000, "{}", TEXTS.len());
    let mut leaks = Vec::new();
    for (id, text, secrets) in TEXTS.iter() {
        let shapes = [
            json!({"query": text}),
            json!({"content": [{"type": "text", "text": text}], "isError": false}),
            json!({"content": [{"type": "text", "text": json!({"log": text}).to_string()}]}),
        ];
        for (number, shape) in shapes.iter().enumerate() {
            let shown = body(shape);
            leaks.extend(
                left(&shown, secrets).iter().map(|secret| format!("{id}.{number}: {secret}: {shown}")),
            );
        }
    }
    assert!(leaks.is_empty(), "{} leaks\n{}", leaks.len(), leaks.join("\n"));
}

#[test]
fn a_body_without_secrets_stays_as_it_is() {
    let text =
        json!({"path": "/srv/notes/todo.md", "lines": [1, 2.50, null, true], "text": "a\nb \"c\" \u{e9}"});
    assert_eq!(body(&text), text.to_string());
}

#[test]
fn strict_mode_and_a_body_that_is_too_long_give_nothing() {
    let mut counts = RedactionCounts::default();
    let strict = RedactionSettings { mode: RedactionMode::Strict, ..RedactionSettings::default() };
    assert!(Redactor::new(&strict).body(b"{}", &mut counts).is_none());
    assert!(Redactor::closed().body(b"{}", &mut counts).is_none());
    assert!(Redactor::default().body(&vec![b' '; LONGEST_BODY + 1], &mut counts).is_none());
    assert!(Redactor::default().body(&vec![b' '; LONGEST_BODY], &mut counts).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The cut lies somewhere in thirty texts with secrets. Nothing of a secret is before it.
    #[test]
    fn no_half_of_a_secret_is_left_at_the_cut(first in 0_usize..2000, before in 0_usize..4000, filler in "[a-z]{3,6} |é |\\PC ") {
        let some: Vec<_> = TEXTS.iter().cycle().skip(first).take(30).collect();
        let pad = filler.repeat((MOST_OF_BODY - before) / json!(filler).to_string().len().max(3));
        let inputs: Vec<&String> = some.iter().map(|(_, text, _)| text).collect();
        let shown = body(&json!([pad, inputs, "end ".repeat(4000)]));
        prop_assert!(shown.len() <= MOST_OF_BODY + 40);
        let cut = shown.rsplit_once('…').map_or(shown.as_str(), |(cut, _)| cut);
        for (id, _, secrets) in some {
            prop_assert!(left(&shown, secrets).is_empty(), "{id}: {:?}", &cut[cut.floor_char_boundary(cut.len() - 300)..]);
            for secret in secrets.iter().filter(|secret| secret.is_ascii() && secret.len() >= 16) {
                let halves = 8..secret.len();
                prop_assert!(!halves.into_iter().any(|end| cut.ends_with(&secret[..end])), "{id}: half of {secret}");
            }
        }
    }

    #[test]
    fn any_bytes_give_a_text_within_the_limit_of_bodies(bytes in prop::collection::vec(any::<u8>(), 0..3000), copies in 1_usize..60) {
        let bytes = bytes.repeat(copies);
        let shown = Redactor::default().body(&bytes, &mut RedactionCounts::default()).unwrap();
        prop_assert!(shown.as_str().len() <= MOST_OF_BODY + 40);
    }
}
