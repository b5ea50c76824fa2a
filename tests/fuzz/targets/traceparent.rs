//! The strict parser against the grammar, implemented a second time from the specification.

use spantap::observe::traceparent::TraceParent;

pub fn run(input: &[u8]) {
    for line in input.split(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        check(&text);
        for start in 0..text.len().min(300) {
            for length in [54, 55, 56, 70] {
                text.get(start..(start + length).min(text.len())).into_iter().for_each(check);
            }
        }
    }
}

fn check(text: &str) {
    let parsed = TraceParent::parse(text);
    assert_eq!(parsed.is_some(), is_valid(text), "{text}");
    if let Some(parent) = parsed {
        let ids = format!("-{}-{}-", parent.trace_id, parent.parent_id);
        assert_eq!(text.get(2..53), Some(ids.as_str()));
        let written = parent.to_string();
        assert_eq!(TraceParent::parse(&written), Some(parent));
        let flags = u8::from_str_radix(&text[53..55], 16).unwrap();
        assert_eq!(parent.flags.bits(), flags & 0b11);
    }
}

/// W3C Trace Context Level 2, §3.2.2 and §4.3.
fn is_valid(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(5, '-').collect();
    let [version, trace, parent, flags, rest @ ..] = parts.as_slice() else { return false };
    let hex = |part: &str, length: usize| {
        part.len() == length && part.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
    };
    let id = |part: &str, length: usize| hex(part, length) && part.chars().any(|c| c != '0');
    hex(version, 2)
        && *version != "ff"
        && id(trace, 32)
        && id(parent, 16)
        && hex(flags, 2)
        && (rest.is_empty() || *version != "00")
}
