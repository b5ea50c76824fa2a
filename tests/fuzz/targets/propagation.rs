//! Lines into which trace context may be inserted: without the inserted member a line has the client's bytes, and
//! for other parsers it has the client's value. The observer makes one request of it, with the span that it names.

use serde_json::Value;
use serde_json::value::RawValue;
use spantap::observe::canonical::canonical;
use spantap::observe::propagation::ContextInserter;
use spantap::observe::traceparent::{SpanId, TraceFlags, TraceId, TraceParent};
use spantap::relay::chunk::Moment;
use spantap::relay::line_editor::{LineEdit, LineEditor};

pub fn run(input: &[u8]) {
    let connection = TraceParent {
        trace_id: TraceId::new([1; 16]).unwrap(),
        parent_id: SpanId::new([2; 8]).unwrap(),
        flags: TraceFlags::new_trace(true),
    };
    let (mut inserter, shared) = ContextInserter::new(connection, Some("a=1"), [[3; 32], [4; 32]]);
    let mut edits = 0;
    let lines = || input.split(|byte| *byte == b'\n');
    for line in lines() {
        let LineEdit { insertion, mark } = inserter.edit(line, Moment(0));
        let Some((at, bytes)) = insertion else { continue };
        edits += 1;
        let edited = [&line[..at], bytes, &line[at..]].concat();
        check(line, &edited, mark.expect("an edited line is marked").span.get());
    }
    let counts = serde_json::to_value(shared.counts()).unwrap();
    let counted: u64 = counts.as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(counts["inserted"], edits);
    let blank = |line: &&[u8]| line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
    assert_eq!(counted, lines().filter(|line| !blank(line)).count() as u64);
}

/// Compares an edited line with the client's.
fn check(line: &[u8], edited: &[u8], span: u64) {
    let text = String::from_utf8_lossy(edited);
    assert!(serde_json::from_slice::<&RawValue>(line).is_ok(), "{text}: the client's line is JSON");
    assert!(serde_json::from_slice::<&RawValue>(edited).is_ok(), "{text}");
    // Some JSON has no value here, such as a number out of range.
    let Ok(mut value) = serde_json::from_slice::<Value>(edited) else { return };
    let Ok(before) = serde_json::from_slice::<Value>(line) else { return };
    let params = value["params"].as_object_mut().expect("params");
    let meta = params["_meta"].as_object_mut().expect("_meta");
    let parent = meta.remove("traceparent").expect("traceparent");
    let parent = TraceParent::parse(parent.as_str().unwrap()).expect("a valid traceparent");
    assert_eq!(parent.parent_id.to_string(), format!("{span:016x}"), "{text}");
    assert_eq!(meta.remove("tracestate").as_ref().and_then(Value::as_str), Some("a=1"), "{text}");
    if before["params"].get("_meta").is_none() {
        assert!(meta.is_empty(), "{text}");
        params.remove("_meta");
    }
    assert_eq!(value, before, "{text}");
    // A duplicate of the inserted members would have no canonical form.
    assert_eq!(canonical(line).is_some(), canonical(edited).is_some(), "{text}");
}
