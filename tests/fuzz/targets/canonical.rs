//! The canonical form: it is its own canonical form, every spelling of a value has the same one, and it
//! parses to the same value. Where no rule of its own applies, it is the output of `serde_json`.

use std::fmt::Write;

use serde_json::Value;
use spantap::observe::canonical::canonical;

use crate::random::Random;

pub fn run(input: &[u8]) {
    let mut random = Random::of(input);
    for line in input.split(|byte| *byte == b'\n') {
        let value = serde_json::from_slice::<Value>(line);
        let Some(once) = canonical(line) else {
            // Only invalid JSON, and objects with a duplicate name, have no canonical form.
            if let Ok(value) = value {
                let again = serde_json::to_vec(&value).unwrap();
                assert!(canonical(&again).is_some(), "no form for {value}");
            }
            continue;
        };
        let value = value.expect("what has a canonical form is JSON");
        let text = std::str::from_utf8(&once).expect("the canonical form is UTF-8");
        assert_eq!(canonical(&once).as_deref(), Some(once.as_slice()), "{text}");
        let spelled = respelled(&value, &mut random);
        assert_eq!(canonical(spelled.as_bytes()).as_deref(), Some(once.as_slice()), "{spelled}");
        assert!(same(&serde_json::from_slice(&once).unwrap(), &value), "{text}");
        if is_plain(&value) {
            assert_eq!(text, serde_json::to_string(&value).unwrap());
        }
    }
}

/// Returns the same value in another spelling: members in another order, spaces, escapes.
pub fn respelled(value: &Value, random: &mut Random) -> String {
    let mut out = String::new();
    respell(value, random, &mut out);
    out
}

fn respell(value: &Value, random: &mut Random, out: &mut String) {
    let space = |random: &mut Random| ["", " ", "\t\r ", ""][random.below(4)];
    match value {
        Value::String(text) => respell_text(text, random, out),
        Value::Array(items) => {
            out.push('[');
            for (number, item) in items.iter().enumerate() {
                out.push_str(if number > 0 { "," } else { "" });
                out.push_str(space(random));
                respell(item, random, out);
            }
            out.push_str(space(random));
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            for at in (1..members.len()).rev() {
                members.swap(at, random.below(at + 1));
            }
            out.push('{');
            for (number, (name, member)) in members.into_iter().enumerate() {
                out.push_str(if number > 0 { "," } else { "" });
                out.push_str(space(random));
                respell_text(name, random, out);
                out.push_str(space(random));
                out.push(':');
                out.push_str(space(random));
                respell(member, random, out);
            }
            out.push_str(space(random));
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

fn respell_text(text: &str, random: &mut Random, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        let must = c < ' ' || c == '"' || c == '\\';
        if must || random.below(3) == 0 {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = if random.below(2) == 0 {
                    write!(out, "\\u{unit:04x}")
                } else {
                    write!(out, "\\u{unit:04X}")
                };
            }
        } else if c == '/' && random.below(2) == 0 {
            out.push_str("\\/");
        } else {
            out.push(c);
        }
    }
    out.push('"');
}

/// Returns true if the values are equal, with `1` and `1.0` as one number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

/// Returns true if the order of keys by UTF-16 equals that by UTF-8, and every number is an integer.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::Number(number) => !number.is_f64(),
        Value::Array(items) => items.iter().all(is_plain),
        Value::Object(members) => {
            members.iter().all(|(name, member)| name.chars().all(|c| c < '\u{e000}') && is_plain(member))
        }
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}
