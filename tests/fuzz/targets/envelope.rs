//! The scanner against `serde_json`: on JSON both agree about every member and its bytes. On other input the
//! scanner stays within its limits. Cuts change nothing.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use spantap::observe::canonical::{Hash, HashKey, Hashing};
use spantap::observe::envelope::{Envelope, LineKind, MEMBERS, MemberParent, Scanner};

use super::pieces;

/// The members that were found in one message.
#[derive(Debug, PartialEq)]
pub struct Found {
    /// In the order of [`MEMBERS`]: true if present, the length, and the kept bytes.
    members: Vec<Option<(u64, Vec<u8>)>>,
    has_params: bool,
    result: Option<(u64, Option<Hash>)>,
    error: Option<u64>,
    arguments: Option<Hash>,
    size: u64,
}

pub fn run(input: &[u8]) {
    for line in input.split(|byte| *byte == b'\n') {
        let whole = scan(line, usize::MAX);
        for most in [1, 3, 50] {
            assert_eq!(scan(line, most), whole, "in pieces of {most}");
        }
        for found in &whole.1 {
            for ((_, _, name, limit), member) in MEMBERS.iter().zip(&found.members) {
                if let Some((size, kept)) = member {
                    assert_eq!(kept.len(), usize::try_from(*size).unwrap().min(*limit), "{name}");
                }
            }
        }
        compare(line, &whole);
    }
}

pub fn hashing() -> Hashing {
    Hashing::new(&HashKey::Keyed([7; 32]))
}

pub fn scan(line: &[u8], most: usize) -> (LineKind, Vec<Found>) {
    let mut found = Vec::new();
    let line = each_envelope(line, most, |envelope| found.push(Found::new(envelope)));
    (line, found)
}

pub fn each_envelope(line: &[u8], most: usize, mut each: impl FnMut(&Envelope)) -> LineKind {
    let mut scanner = Scanner::new(hashing());
    pieces(line, most).into_iter().for_each(|piece| scanner.feed(piece, &mut each));
    scanner.end(&mut each)
}

impl Found {
    fn new(envelope: &Envelope) -> Found {
        let member = |member| Some((envelope.size_of(member)?, envelope.head(member)?.to_vec()));
        Found {
            members: MEMBERS.iter().map(|(name, ..)| member(*name)).collect(),
            has_params: envelope.has_params,
            result: envelope.result_size.map(|size| (size, envelope.result_hash)),
            error: envelope.error_size,
            arguments: envelope.long_arguments_hash,
            size: envelope.size,
        }
    }

    /// Returns the members that `serde_json` finds. Of members with the same name the last one counts.
    fn expected(object: &str, size: u64) -> Option<Found> {
        let root: Object<'_> = serde_json::from_str(object).ok()?;
        let mut places: [Option<Object<'_>>; 3] = [None, None, None];
        for (place, name) in places.iter_mut().zip(["params", "result", "error"]) {
            *place = match root.get(name).map(|raw| raw.get()) {
                Some(raw) if raw.starts_with('{') => Some(serde_json::from_str(raw).ok()?),
                Some(_) => Some(Object::new()),
                None => None,
            };
        }
        let members = MEMBERS.iter().map(|(_, place, name, limit)| {
            let holder = match place {
                MemberParent::Root => Some(&root),
                MemberParent::Params => places[0].as_ref(),
                MemberParent::Result => places[1].as_ref(),
                MemberParent::Error => places[2].as_ref(),
            };
            let raw = holder?.get(*name)?.get().as_bytes();
            Some((raw.len() as u64, raw[..raw.len().min(*limit)].to_vec()))
        });
        let raw = |name: &str| root.get(name).map(|raw| raw.get().as_bytes());
        let hashed = |raw: &[u8]| (raw.len() as u64, Some(hashing().raw(raw)));
        let long = |raw: &&&RawValue| raw.get().len() > spantap::observe::canonical::MAX_CANONICAL;
        let arguments = places[0].as_ref().and_then(|params| params.get("arguments")).filter(long);
        Some(Found {
            members: members.collect(),
            has_params: places[0].is_some(),
            result: raw("result").map(hashed),
            error: raw("error").map(|raw| raw.len() as u64),
            arguments: arguments.map(|raw| hashing().raw(raw.get().as_bytes())),
            size,
        })
    }
}

type Object<'a> = BTreeMap<String, &'a RawValue>;

fn compare(line: &[u8], (kind, found): &(LineKind, Vec<Found>)) {
    let json = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    if json.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r')) {
        assert_eq!((*kind, found.len()), (LineKind::Empty, 0));
        return;
    }
    let Ok(value) = serde_json::from_slice::<&RawValue>(json) else { return };
    let expected: Option<Vec<Found>> = match value.get().as_bytes()[0] {
        b'{' => Found::expected(value.get(), line.len() as u64).map(|found| vec![found]),
        b'[' => {
            let elements: Vec<&RawValue> = serde_json::from_str(value.get()).unwrap();
            if !elements.iter().all(|element| element.get().starts_with('{')) {
                assert_eq!(*kind, LineKind::NotJson);
                return;
            }
            elements
                .iter()
                .map(|element| Found::expected(element.get(), element.get().len() as u64))
                .collect()
        }
        _ => {
            assert_eq!(*kind, LineKind::NotJson);
            return;
        }
    };
    // A key that is not a text (a lone surrogate) cannot be compared.
    let Some(expected) = expected else { return };
    assert_eq!(*kind, LineKind::Messages);
    assert_eq!(*found, expected);
}
