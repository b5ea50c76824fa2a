//! The kind of a message, its ids, its `_meta` and its content, compared with `serde_json`.

use serde_json::Value;
use spantap::observe::envelope::LineKind;
use spantap::observe::mcp::{Content, Meta, keys};
use spantap::observe::message::{MessageKind, RequestId, integer, kind, text};

use super::canonical::respelled;
use super::envelope::each_envelope;
use crate::random::Random;

pub fn run(input: &[u8]) {
    let mut random = Random::of(input);
    for line in input.split(|byte| *byte == b'\n') {
        values(line, &mut random);
        let mut kinds = Vec::new();
        let read = each_envelope(line, usize::MAX, |envelope| kinds.push(kind(envelope)));
        let json = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        let Ok(value) = serde_json::from_slice::<Value>(json) else { continue };
        if read == LineKind::Messages {
            let messages = match &value {
                Value::Array(elements) => elements.as_slice(),
                one => std::slice::from_ref(one),
            };
            assert_eq!(kinds, messages.iter().map(expected).collect::<Vec<_>>());
        }
        parts(&value, 0, &mut random);
    }
}

fn expected(message: &Value) -> MessageKind {
    let has = |name: &str| match message.get(name) {
        Some(Value::Null) => matches!(name, "result" | "error"),
        found => found.is_some(),
    };
    match (has("method"), has("id"), has("result") || has("error")) {
        (true, true, _) => MessageKind::Request,
        (true, false, _) => MessageKind::Notification,
        (false, _, true) => MessageKind::Response,
        (false, _, false) => MessageKind::Neither,
    }
}

/// Every value of a message is tried as an id, a `_meta` and a content.
fn parts(value: &Value, depth: usize, random: &mut Random) {
    if depth > 3 {
        return;
    }
    let spelled = respelled(value, random);
    let plain = serde_json::to_vec(value).unwrap();
    values(&plain, random);
    match value {
        Value::String(string) => {
            assert_eq!(RequestId::new(spelled.as_bytes()), RequestId::new(&plain), "{spelled}");
            let other = serde_json::to_vec(&format!("x{string}")).unwrap();
            assert_ne!(RequestId::new(&other), RequestId::new(&plain));
            assert_eq!(text(spelled.as_bytes()), string.as_bytes());
        }
        Value::Number(number) => {
            let read = integer(&plain);
            assert_eq!(read.filter(|_| number.is_i64()), number.as_i64());
            if let Some(read) = read {
                assert_eq!(Some(read as f64), number.as_f64(), "{number}");
            }
        }
        Value::Array(items) => items.iter().for_each(|item| parts(item, depth + 1, random)),
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort();
            assert_eq!(keys(spelled.as_bytes()).iter().collect::<Vec<_>>(), names);
            members.values().for_each(|member| parts(member, depth + 1, random));
        }
        Value::Null | Value::Bool(_) => {}
    }
}

/// Reading any bytes stays within the limits.
fn values(raw: &[u8], random: &mut Random) {
    let id = RequestId::new(raw);
    assert_eq!(RequestId::new(id.bytes()), id, "an id equals itself");
    let value = id.value();
    assert_eq!(value.value(), value, "the value of a value");
    if let Ok(Value::Number(number)) = serde_json::from_slice(raw) {
        let quoted = serde_json::to_vec(&number.to_string()).unwrap();
        let same = RequestId::new(&quoted).value();
        assert_eq!(same, RequestId::new(number.to_string().as_bytes()).value(), "{number}");
    }
    let _ = (Meta::new(raw), keys(raw), integer(raw), text(raw));
    let window = random.below(200);
    let summary = Content::new(raw).summary(window);
    assert!(summary.len() <= 2 * window + 200, "{}", summary.len());
}
