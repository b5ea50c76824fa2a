//! A redacted body: within the limit, without control characters, and without a secret or a half of it, wherever
//! the cut is and whatever is around it.

use serde_json::json;
use spantap::observe::redact::{MOST_OF_BODY, RedactionCounts, Redactor, rules};

use crate::random::Random;

/// Room for the note of the cut.
const NOTE: usize = 40;
/// The value of a member whose name says that it is secret.
const PASSWORD: &str = "Zx9qT4mWv7kQ2rB8";
const FILLER: &str = "plain words ";

pub fn run(input: &[u8]) {
    redacted(input);
    let mut random = Random::of(input);
    let text = String::from_utf8_lossy(input);
    let (before, after) = text.split_at(text.floor_char_boundary(random.below(text.len() + 1)));
    let samples: Vec<&str> = rules().map(|rule| rule.sample).collect();
    let sample = samples[random.below(samples.len())];
    let (secret, holder) = match random.below(3) {
        0 => (sample, json!(format!("({sample})"))),
        1 => (sample, json!(json!({ "log": format!("\"{sample}\"\n") }).to_string())),
        _ => (PASSWORD, json!({ "password": PASSWORD })),
    };
    let body = |pad: &str| json!([before, pad, holder, after, FILLER.repeat(200)]);
    // The length up to the secret, after redaction.
    let length = redacted(json!([before, "", ""]).to_string().as_bytes()).len();
    let written = holder.to_string().len();
    let room = (MOST_OF_BODY + 8).saturating_sub(length + random.below(written + 16));
    let pad = FILLER.repeat(room / FILLER.len()) + &FILLER[..room % FILLER.len()];
    let shown = redacted(body(&pad).to_string().as_bytes());
    // The input may hold a half of the sample itself.
    let tail = shown.rsplit_once(FILLER).map_or(shown.as_str(), |(_, tail)| tail);
    let half = &secret[..secret.len() / 2];
    assert!(!tail.contains(half) || text.contains(half), "{secret}: {:?}", last(&shown));
    assert!(!shown.contains(secret) || text.contains(secret), "{secret}: {:?}", last(&shown));
}

/// Redacts a body, and checks what holds for any.
fn redacted(json: &[u8]) -> String {
    let shown =
        Redactor::default().body(json, &mut RedactionCounts::default()).expect("shorter than the limit");
    let shown = shown.to_string();
    assert!(shown.len() <= MOST_OF_BODY + NOTE, "{} bytes", shown.len());
    assert!(!shown.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n')), "{:?}", last(&shown));
    shown
}

fn last(shown: &str) -> &str {
    &shown[shown.floor_char_boundary(shown.len().saturating_sub(300))..]
}
