//! The cost of redaction: `cargo bench --bench redaction`. Prints microseconds, and fails if a budget of
//! docs/redaction.md is exceeded tenfold, which noise of a machine does not explain.

use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

use spantap::observe::redact::{Field, RedactionMode, RedactionSettings, Redactor, rules};

/// Returns the shortest time of many runs, which is the cost without other work on the machine.
fn shortest(runs: usize, mut work: impl FnMut()) -> Duration {
    (0..runs)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .min()
        .unwrap_or_default()
}

fn main() {
    let mut out = std::io::stdout().lock();
    let mut slow = Vec::new();
    let mut report = |name: &str, took: Duration, budget: Duration| {
        let _ = writeln!(
            out,
            "{name:<44} {:>10.2} µs   budget {:>8.0} µs",
            took.as_nanos() as f64 / 1e3,
            budget.as_nanos() as f64 / 1e3
        );
        if took > budget * 10 {
            slow.push(name.to_owned());
        }
    };
    let micros = Duration::from_micros;

    let start = Instant::now();
    let mut redactor = Redactor::default();
    report("new", start.elapsed(), micros(1_000));
    let start = Instant::now();
    black_box(redactor.redact(Field::Message, b"connection to 10.0.0.7 refused after 3 attempts"));
    report("first text (finds starts of tokens)", start.elapsed(), micros(20_000));
    let start = Instant::now();
    for rule in rules() {
        black_box(redactor.redact(Field::Message, rule.sample.as_bytes()));
    }
    report("every rule once (compiles all of them)", start.elapsed(), micros(20_000));

    let clean = "2026-11-24T10:00:00Z INFO connection 7f3c9a52 to db.example:5432 refused after 3 attempts, next in 250 ms; \
                 queue=12 workers=4 host=worker-7 version=1.24.0 path=/srv/rep.csv user=anna state=retry/xxxxx";
    let dirty =
        format!("{} password=q7Zr2EXAMPLEpw token ghp_EXAMPLEexample0123456789EXAMPLEexamp", &clean[..120]);
    assert_eq!(clean.len(), 200, "the text is 200 bytes");
    let time = |field: Field, text: &str, runs: usize| {
        let mut redactor = Redactor::default();
        shortest(runs, || {
            black_box(redactor.redact(field, black_box(text.as_bytes())));
        })
    };
    report("name, read_file", time(Field::Name, "read_file", 20_000), micros(1));
    report(
        "name, list_pull_request_review_comments",
        time(Field::Name, "list_pull_request_review_comments", 20_000),
        micros(1),
    );
    report("message, 200 bytes, clean", time(Field::Message, clean, 5_000), micros(50));
    report("message, 200 bytes, two secrets", time(Field::Message, &dirty, 5_000), micros(50));
    let big = clean.repeat(72 * 1024 / clean.len());
    report("message, 72 KiB (a window of it is read)", time(Field::Message, &big, 200), micros(5_000));
    report("stderr line, 72 KiB", time(Field::StderrLine, &big, 200), micros(5_000));
    let strict = RedactionSettings { mode: RedactionMode::Strict, ..RedactionSettings::default() };
    let mut strict = Redactor::try_new(&strict).expect("strict needs nothing");
    for (field, name, text) in [
        (Field::Message, "message, 200 bytes, in strict mode", clean),
        (Field::Name, "list_pull_request_review_comments, strict", "list_pull_request_review_comments"),
    ] {
        let took = shortest(5_000, || {
            black_box(strict.redact(field, black_box(text.as_bytes())));
        });
        report(name, took, micros(50));
    }
    let whole = shortest(50, || {
        black_box(redactor.explain(black_box(big.as_bytes())));
    });
    report("72 KiB as a whole (spantap redact)", whole, micros(5_000));
    for shape in ["-", "a=", "AAAA", "1", "@", "eyJ", "token:["] {
        let text = shape.repeat(80 * 1024 / shape.len());
        let took = shortest(20, || {
            black_box(redactor.explain(black_box(text.as_bytes())));
        });
        report(&format!("80 KiB of {shape}, as a whole"), took, micros(5_000));
    }
    let line = serde_json::json!({"schema": "spantap/1", "event": "mcp_tool_call", "tool_name": "read_file", "message": clean, "args_hash": format!("hmac-sha256:{}", "0123456789abcdef".repeat(4)), "status": "ok", "duration_ms": 12.5}).to_string();
    report(
        &format!("a finished log line of {} bytes, again", line.len()),
        time(Field::StderrLine, &line, 5_000),
        micros(50),
    );
    assert!(slow.is_empty(), "ten times over budget: {slow:?}");
}
