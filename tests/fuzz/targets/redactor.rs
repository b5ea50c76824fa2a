//! The output of the redactor: within the limit, without control characters and line ends, unchanged by a
//! second pass, and in time that grows linearly with the text.

use std::time::Duration;

use spantap::observe::redact::{Field, RedactionMode, RedactionSettings, Redactor, rules};

use crate::random::Random;

const FIELDS: [(Field, usize); 8] = [
    (Field::Name, 128),
    (Field::Id, 128),
    (Field::UserId, 128),
    (Field::Uri, 500),
    (Field::Message, 500),
    (Field::Summary, 200),
    (Field::StderrLine, 8 << 10),
    (Field::TraceState, 512),
];
/// Starts of what the rules without a vendor react to. Those of the vendors come from the rules themselves.
#[rustfmt::skip]
const ANCHORS: &[&str] = &[
    "https://hooks.slack.com/services/", "://u:p", "://h/hook/", "@", "password=", "\"token\":\"", "secret: >-\n",
    "value=", "got \"", "Authorization: ", "Bearer ", "Basic ", "--api-key ", "curl -u ", "mysql -p", "-----BEGIN KEY",
    "-----END ", "%25", "&amp;", "\\u003d", "</b> ", "| a ", "**", "->", "(a): ", "aGVsbG8g", "acme_key_", "MIIE", "word ",
    "4111 ", "AB12 ", "ab12 3456 ", "0221 ", "tel 0", "ssn 1", "555-", "a.b@", "<password>", "\x1b[", "\u{200b}",
    "TOKEN=$(echo ", "TOKEN=`", "echo a | s --token-stdin ", "--session ", "-Dtoken=", "-u a:", "ConvertTo-SecureString \"",
    "set -x A_TOKEN ", "setenv ", "WEBHOOK_URL=https://", "https://mcp.a/", "setPassword(\"", "login(\"a\", \"", "password=<%",
    "password=$a[", "cookie: a=", "sk-***", "AC01", "random_password", "login: a / ",
];
/// Lengths of two texts of the same shape.
const SHORT: usize = 4 << 10;
const LONG: usize = 64 << 10;
/// The shortest time that counts, because smaller ones are noise.
const FLOOR: Duration = Duration::from_millis(2);

pub fn run(input: &[u8]) {
    let mut random = Random::of(input);
    for (field, limit) in FIELDS {
        let mut redactor = Redactor::default();
        let once = redactor.redact(field, input);
        check(once.as_str(), field, limit);
        let again = Redactor::default().redact(field, once.as_str().as_bytes());
        assert_eq!(again, once, "{field:?}: cleaning what is clean");
        // A redactor that has read other texts returns the same, except for lines, which may be inside a key.
        if field != Field::StderrLine {
            assert_eq!(redactor.redact(field, input), once);
        }
    }
    let strict = RedactionSettings { mode: RedactionMode::Strict, ..RedactionSettings::default() };
    let mut strict = Redactor::try_new(&strict).expect("strict needs nothing");
    for field in [Field::Message, Field::Summary, Field::StderrLine] {
        let out = strict.redact(field, input);
        assert!(out.as_str().is_empty() || out.as_str().starts_with("…(+"), "{out:?}");
    }
    let (explained, findings) = Redactor::default().explain(input);
    for finding in findings {
        assert!(explained.as_str().is_char_boundary(finding.at), "{finding:?} in {explained:?}");
    }
    if random.below(16) == 0 {
        check_linear(&mut random, input);
    }
}

/// Repeats the starts of rules with a piece of the input, and requires that 16 times the length takes at most 64
/// times as long. Quadratic time would be 256 times.
fn check_linear(random: &mut Random, input: &[u8]) {
    let samples: Vec<&str> = rules().map(|rule| rule.sample).collect();
    let mut shape = Vec::new();
    for _ in 0..=random.below(2) {
        let anchor = match random.below(2) {
            0 => ANCHORS[random.below(ANCHORS.len())],
            _ => samples[random.below(samples.len())],
        };
        shape.extend_from_slice(&anchor.as_bytes()[..1 + random.below(anchor.len())]);
    }
    shape.extend_from_slice(&input[..input.len().min(random.below(8))]);
    let time = |length: usize| {
        let text = shape.repeat(length / shape.len() + 1);
        let took = |_| {
            let start = cpu_time();
            let _ = Redactor::default().explain(&text);
            cpu_time() - start
        };
        (0..3).map(took).min().unwrap_or_default()
    };
    let (short, long) = (time(SHORT).max(FLOOR), time(LONG));
    assert!(long < short * 64, "{:?}: {short:?}, {long:?}", String::from_utf8_lossy(&shape));
}

/// CPU time of this thread, which does not depend on the load of the machine.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

fn check(out: &str, field: Field, limit: usize) {
    let allowed = |c: char| {
        !c.is_control() || (c == '\t' && matches!(field, Field::Message | Field::Summary | Field::StderrLine))
    };
    assert!(out.chars().all(allowed), "{field:?}: {out:?}");
    for separator in ['\u{2028}', '\u{2029}', '\u{202e}', '\u{feff}', '\u{200b}'] {
        assert!(!out.contains(separator), "{field:?}: {out:?}");
    }
    let shown = out.rsplit_once("…(+").map_or(out, |(shown, _)| shown);
    let length = if field == Field::StderrLine { shown.len() } else { shown.chars().count() };
    assert!(length <= limit, "{field:?}: {length} beyond {limit}");
}
