//! Hashes by which two values can be compared without keeping either.
//!
//! Arguments are hashed over their canonical form: RFC 8785 (JCS), with the difference that integers of
//! up to 64 bits are exact, while JCS rounds them beyond 2^53. Arguments without a canonical form
//! (duplicate keys, lone surrogates, numbers out of range, more than 128 levels) are hashed as received
//! and marked `-raw`.

use std::borrow::Cow;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use sha2::{Digest, Sha256};

/// Length of the longest arguments that are canonicalised, in bytes. Longer ones are hashed as received.
pub const MAX_CANONICAL: usize = 256 << 10;

/// The function that computed a [`Hash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    HmacSha256,
    Sha256,
}

/// A hash, written as `hmac-sha256:<64 hex>`, or as `hmac-sha256-raw:<64 hex>` if it covers bytes as
/// received instead of their canonical form.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash {
    pub algorithm: Algorithm,
    pub raw: bool,
    pub digest: [u8; 32],
}

impl Hash {
    /// Returns the text of [`Display`](fmt::Display), without the cost of formatting: a record holds three.
    pub(crate) fn text(&self) -> String {
        let mut text = String::with_capacity(96);
        text.push_str(self.name());
        crate::text::hex::push(&mut text, &self.digest);
        text
    }

    fn name(&self) -> &'static str {
        match (self.algorithm, self.raw) {
            (Algorithm::HmacSha256, false) => "hmac-sha256:",
            (Algorithm::HmacSha256, true) => "hmac-sha256-raw:",
            (Algorithm::Sha256, false) => "sha256:",
            (Algorithm::Sha256, true) => "sha256-raw:",
        }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Clone)]
pub enum HashKey {
    /// 32 bytes from the operating system, kept in the state folder or shared by a fleet.
    Keyed([u8; 32]),
    /// `args_hash = "sha256"`: comparable across machines, and open to guessing of short values.
    Unkeyed,
}

impl HashKey {
    /// Returns the first four bytes of the key's SHA-256, by which a change of the key is visible in the log.
    pub fn id(&self) -> Option<[u8; 4]> {
        match self {
            HashKey::Keyed(key) => {
                let digest: [u8; 32] = Sha256::digest(key).into();
                Some([digest[0], digest[1], digest[2], digest[3]])
            }
            HashKey::Unkeyed => None,
        }
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey([REDACTED])")
    }
}

/// Makes [`Hasher`]s for one key; the keyed state is computed once.
#[derive(Clone)]
pub struct Hashing {
    start: Hasher,
}

impl Hashing {
    pub fn new(key: &HashKey) -> Hashing {
        Hashing {
            start: match key {
                HashKey::Keyed(key) => Hasher::Keyed(Box::new(
                    Hmac::new_from_slice(key).unwrap_or_else(|_| unreachable!("any length is a key")),
                )),
                HashKey::Unkeyed => Hasher::Unkeyed(Sha256::new()),
            },
        }
    }

    pub(crate) fn start(&self) -> Hasher {
        self.start.clone()
    }

    /// Hashes the JSON text of `params.arguments`. An absent member counts as `{}`.
    pub(crate) fn args(&self, raw: &[u8]) -> Hash {
        match canonical(raw) {
            Some(canonical) => self.of(&canonical, false),
            None => self.of(raw, true),
        }
    }

    /// Hashes bytes as received: a `result`, a decoded text, an opaque id.
    pub fn raw(&self, bytes: &[u8]) -> Hash {
        self.of(bytes, true)
    }

    fn of(&self, bytes: &[u8], raw: bool) -> Hash {
        match &self.start {
            // The state is not boxed, because it lives in this function only.
            Hasher::Keyed(start) => keyed_hash(Mac::chain_update((**start).clone(), bytes), raw),
            Hasher::Unkeyed(start) => unkeyed_hash(Digest::chain_update(start.clone(), bytes), raw),
        }
    }
}

#[derive(Clone)]
pub(crate) enum Hasher {
    Keyed(Box<Hmac<Sha256>>),
    Unkeyed(Sha256),
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Keyed(hmac) => hmac.update(bytes),
            Hasher::Unkeyed(sha) => Digest::update(sha, bytes),
        }
    }

    pub(crate) fn finish(self, raw: bool) -> Hash {
        match self {
            Hasher::Keyed(hmac) => keyed_hash(*hmac, raw),
            Hasher::Unkeyed(sha) => unkeyed_hash(sha, raw),
        }
    }
}

fn keyed_hash(hmac: Hmac<Sha256>, raw: bool) -> Hash {
    Hash { algorithm: Algorithm::HmacSha256, raw, digest: hmac.finalize().into_bytes().into() }
}

fn unkeyed_hash(sha: Sha256, raw: bool) -> Hash {
    Hash { algorithm: Algorithm::Sha256, raw, digest: sha.finalize().into() }
}

/// Returns the canonical form of a JSON text, if it has one.
pub fn canonical(json: &[u8]) -> Option<Vec<u8>> {
    let value: JsonValue = serde_json::from_slice(json).ok()?;
    let mut out = Vec::with_capacity(json.len());
    value.write(&mut out)?;
    Some(out)
}

/// A JSON value with unique keys in canonical order.
enum JsonValue<'de> {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Double(f64),
    String(JsonText<'de>),
    Array(Vec<JsonValue<'de>>),
    Object(Vec<(JsonText<'de>, JsonValue<'de>)>),
}

/// A string, borrowed from the JSON text if it contains no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct JsonText<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

impl JsonValue<'_> {
    fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        match self {
            JsonValue::Null => out.extend_from_slice(b"null"),
            JsonValue::Bool(true) => out.extend_from_slice(b"true"),
            JsonValue::Bool(false) => out.extend_from_slice(b"false"),
            JsonValue::Unsigned(number) => out.extend_from_slice(number.to_string().as_bytes()),
            JsonValue::Signed(number) => out.extend_from_slice(number.to_string().as_bytes()),
            JsonValue::Double(number) if number.is_finite() => {
                out.extend_from_slice(ryu_js::Buffer::new().format_finite(*number).as_bytes());
            }
            JsonValue::Double(_) => return None,
            JsonValue::String(JsonText(text)) => write_string(text, out),
            JsonValue::Array(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    item.write(out)?;
                }
                out.push(b']');
            }
            JsonValue::Object(members) => {
                out.push(b'{');
                for (index, (JsonText(key), value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    write_string(key, out);
                    out.push(b':');
                    value.write(out)?;
                }
                out.push(b'}');
            }
        }
        Some(())
    }
}

/// Appends `text` as ECMAScript's `JSON.stringify` writes a string (RFC 8785 §3.2.2.2).
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    out.reserve(rest.len() + 2);
    out.push(b'"');
    while let Some(at) = must_be_escaped(rest) {
        out.extend_from_slice(&rest[..at]);
        let byte = rest[at];
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0a => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x0d => out.extend_from_slice(b"\\r"),
            _ => {
                let digit = b"0123456789abcdef"[usize::from(byte & 15)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', b'0' + (byte >> 4), digit]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Returns the position of the first control character, quote or backslash. Checks 32 bytes at once, or eight.
fn must_be_escaped(bytes: &[u8]) -> Option<usize> {
    // Without an exit from the inner loop, the compiler compares many bytes at once.
    let is_plain = |block: &&[u8; 32]| {
        !block.iter().fold(false, |found, byte| found | (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\'))
    };
    let (blocks, _) = bytes.as_chunks();
    let plain = 32 * blocks.iter().take_while(is_plain).count();
    escaped_in_words(&bytes[plain..]).map(|found| plain + found)
}

fn escaped_in_words(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    // The lowest mark is right. The subtraction borrows, so marks above it may be false.
    let below = |word: u64, limit: u64| word.wrapping_sub(limit * ONES) & !word & HIGH;
    let mut words = bytes.chunks_exact(8);
    let mut at = 0;
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
        let (quote, backslash) = (word ^ (u64::from(b'"') * ONES), word ^ (u64::from(b'\\') * ONES));
        let found = below(word, 0x20) | below(quote, 1) | below(backslash, 1);
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let rest = words.remainder().iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\'));
    rest.map(|found| at + found)
}

impl<'de> Deserialize<'de> for JsonValue<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<JsonValue<'de>, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = JsonValue<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Double(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::String(JsonText(Cow::Owned(value.to_owned()))))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::String(JsonText(Cow::Borrowed(value))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<JsonValue<'de>, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(JsonValue::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<JsonValue<'de>, A::Error> {
        let mut object: Vec<(JsonText<'de>, JsonValue<'de>)> = Vec::new();
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        // RFC 8785 §3.2.3: by UTF-16 code units, which differs from bytes above U+FFFF.
        object.sort_by(|(JsonText(a), _), (JsonText(b), _)| a.encode_utf16().cmp(b.encode_utf16()));
        if object.windows(2).any(|pair| pair[0].0.0 == pair[1].0.0) {
            return Err(A::Error::custom("duplicate key"));
        }
        Ok(JsonValue::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vector_of_the_fixture_holds() {
        let fixture: serde_json::Value =
            serde_json::from_str(include_str!("../../fixtures/hash/args-hash-vectors.json")).unwrap();
        let key: Vec<u8> = (0..32).collect();
        let key = HashKey::Keyed(key.try_into().unwrap());
        let vectors = fixture["vectors"].as_array().unwrap();
        assert!(vectors.len() >= 17);
        for vector in vectors {
            let raw = vector["raw"].as_str().unwrap_or("{}").as_bytes();
            let tag = vector["tag"].as_str().unwrap();
            let expect = |algorithm: &str, field: &str| {
                format!("{algorithm}{tag}:{}", vector[field].as_str().unwrap())
            };
            let name = &vector["name"];
            assert_eq!(Hashing::new(&key).args(raw).to_string(), expect("hmac-sha256", "hmac"), "{name}");
            assert_eq!(
                Hashing::new(&HashKey::Unkeyed).args(raw).to_string(),
                expect("sha256", "sha256"),
                "{name}"
            );
        }
    }

    #[test]
    fn some_json_has_no_canonical_form() {
        let deep = [b"[".repeat(200), b"]".repeat(200)].concat();
        for json in [&b"{\"a\":1,\"a\":1}"[..], b"\"\\ud800\"", b"1e400", b"\"\xff\"", &deep, b"{} x", b""] {
            assert_eq!(canonical(json), None, "{}", String::from_utf8_lossy(json));
        }
    }
}
