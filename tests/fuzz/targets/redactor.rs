//! The output of the redactor: within the limit, without control characters and line ends, unchanged by a
//! second pass, and in time that grows linearly with the text.

use std::time::Duration;

use spantap::observe::redact::{Field, RedactionMode, RedactionSettings, Redactor};

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
/// Repeats the input to make long texts.
const LONG: usize = 96 << 10;
/// Far above the time that a slow machine needs for [`LONG`] bytes in linear time, far below quadratic time.
const PATIENCE: Duration = Duration::from_secs(20);

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
    if random.below(64) == 0 && !input.is_empty() {
        let long = input.repeat(LONG / input.len() + 1);
        let start = cpu_time();
        let _ = Redactor::default().explain(&long);
        let took = cpu_time() - start;
        assert!(took < PATIENCE, "{took:?} for {} bytes", long.len());
    }
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
