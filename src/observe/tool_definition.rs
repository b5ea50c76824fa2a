//! One tool definition: its name, the sizes of its parts, and hashes by which two versions are compared by part.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::observe::canonical::{JsonText, canonical, write_string};
use crate::observe::lint::ObservedLint;
use crate::text::hex;
use crate::text::words::words;

words! {
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub enum ToolChangeKind {
        Added = "added",
        Removed = "removed",
        #[default]
        Changed = "changed",
    }
}

words! {
    /// A part of a tool definition.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub enum DefinitionPart {
        Title = "title",
        Description = "description",
        InputSchema = "input_schema",
        OutputSchema = "output_schema",
        Annotations = "annotations",
        /// All other members, such as `icons` and `_meta`.
        #[default]
        Other = "other",
    }
}

/// A tool definition as it was received.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolDefinition {
    pub name: String,
    pub fingerprint: ToolFingerprint,
    pub sizes: DefinitionSizes,
    /// Set where a definition is observed.
    pub lint: ObservedLint,
}

/// Lengths in bytes, as they were received.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DefinitionSizes {
    /// The whole JSON object.
    pub definition: u64,
    /// The JSON text of `description`.
    pub description: u64,
    /// The JSON texts of `inputSchema` and `outputSchema`.
    pub schema: u64,
}

/// Hashes of a definition and of its parts. They are not keyed, so that a new hash key changes no definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToolFingerprint {
    /// SHA-256 of the canonical form if the definition has one, else of its text.
    pub(crate) hash: [u8; 32],
    /// Hash of each part; 0 if the definition does not contain it.
    parts: [u64; DefinitionPart::ALL.len()],
}

impl ToolDefinition {
    /// Reads a definition. Returns only its hash if it has no name that can be read. The last of two equal members
    /// counts as the name.
    pub(crate) fn read(text: &str) -> Result<ToolDefinition, [u8; 32]> {
        let Ok(mut members) = serde_json::Deserializer::from_str(text).deserialize_map(MembersVisitor) else {
            return Err(hash_of(text, canonical(text.as_bytes())));
        };
        let name = members.iter().rev().find(|(key, _)| key == "name").and_then(|(_, value)| name(value));
        // RFC 8785 sorts by UTF-16 code units. The order of equal members is kept.
        members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
        let mut fingerprint = ToolFingerprint { hash: [0; 32], parts: Default::default() };
        let mut sizes = DefinitionSizes { definition: text.len() as u64, ..DefinitionSizes::default() };
        let is_unique = members.windows(2).all(|pair| pair[0].0 != pair[1].0);
        let mut whole = is_unique.then(Vec::new);
        for (key, value) in &members {
            let value = value.get();
            let canonical = canonical(value.as_bytes());
            match (&mut whole, &canonical) {
                (Some(whole), Some(canonical)) => {
                    let mut member = Vec::with_capacity(key.len() + canonical.len() + 8);
                    write_string(key, &mut member);
                    member.push(b':');
                    member.extend_from_slice(canonical);
                    whole.push(member);
                }
                (whole, _) => *whole = None,
            }
            let part = match &**key {
                "name" => continue,
                "title" => DefinitionPart::Title,
                "description" => DefinitionPart::Description,
                "inputSchema" => DefinitionPart::InputSchema,
                "outputSchema" => DefinitionPart::OutputSchema,
                "annotations" => DefinitionPart::Annotations,
                _ => DefinitionPart::Other,
            };
            match part {
                DefinitionPart::Description => sizes.description += value.len() as u64,
                DefinitionPart::InputSchema | DefinitionPart::OutputSchema => {
                    sizes.schema += value.len() as u64
                }
                _ => {}
            }
            let hash = hash_of(
                &format!("{key}:{value}"),
                canonical.map(|value| [key.as_bytes(), b":", &value].concat()),
            );
            let slot = &mut fingerprint.parts[part as usize];
            *slot = joined_part(*slot, first_digits(&hash).max(1));
        }
        fingerprint.hash = hash_of(text, whole.map(|members| [b"{", &*members.join(&b','), b"}"].concat()));
        let name = name.ok_or(fingerprint.hash)?;
        Ok(ToolDefinition { name, fingerprint, sizes, lint: ObservedLint::default() })
    }
}

/// Collects the members of an object with the JSON text of their values.
struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tool definition")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some((JsonText(key), value)) = members.next_entry()? {
            all.push((key, value));
        }
        Ok(all)
    }
}

/// Returns the text of a name. A half surrogate pair is kept as it is written.
fn name(value: &RawValue) -> Option<String> {
    let quoted = value.get().strip_prefix('"')?;
    Some(serde_json::from_str(value.get()).unwrap_or_else(|_| quoted.trim_end_matches('"').to_owned()))
}

fn hash_of(text: &str, canonical: Option<Vec<u8>>) -> [u8; 32] {
    match canonical {
        Some(canonical) => Sha256::digest(canonical).into(),
        None => Sha256::new().chain_update(b"raw:").chain_update(text).finalize().into(),
    }
}

/// Returns one hash of two.
pub(super) fn joined(first: &[u8; 32], second: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(first).chain_update(second).finalize().into()
}

fn joined_part(first: u64, second: u64) -> u64 {
    match (first, second) {
        (0, part) | (part, 0) => part,
        _ => {
            let both = Sha256::new().chain_update(first.to_be_bytes()).chain_update(second.to_be_bytes());
            first_digits(&both.finalize().into()).max(1)
        }
    }
}

/// Returns the first 16 hex digits of a hash as a number.
fn first_digits(hash: &[u8; 32]) -> u64 {
    hash[..8].iter().fold(0, |digits, byte| digits << 8 | u64::from(*byte))
}

impl ToolFingerprint {
    /// Returns the fingerprint of a definition of which only the hash is known.
    #[cfg(test)]
    pub(crate) fn of_hash(hash: [u8; 32]) -> ToolFingerprint {
        ToolFingerprint { hash, parts: Default::default() }
    }

    /// Returns the first 16 hex digits of the definition's hash as a number.
    pub(crate) fn id(&self) -> u64 {
        first_digits(&self.hash)
    }

    /// Joins the fingerprint of another tool with the same name to this one.
    pub(crate) fn join(&mut self, other: &ToolFingerprint) {
        self.hash = joined(&self.hash, &other.hash);
        for (part, other) in self.parts.iter_mut().zip(other.parts) {
            *part = joined_part(*part, other);
        }
    }

    fn changed_parts(&self, before: &ToolFingerprint) -> Vec<DefinitionPart> {
        let differs = |part: &DefinitionPart| self.parts[*part as usize] != before.parts[*part as usize];
        DefinitionPart::ALL.into_iter().filter(differs).collect()
    }
}

/// The fingerprint in files: the hex digits of all hashes.
impl Serialize for ToolFingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = hex::text(&self.hash);
        self.parts.iter().for_each(|part| hex::push(&mut text, &part.to_be_bytes()));
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for ToolFingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ToolFingerprint, D::Error> {
        let JsonText(text) = JsonText::deserialize(deserializer)?;
        let read = || {
            let bytes = hex::bytes(&text)?;
            let (hash, parts) = bytes.split_at_checked(32)?;
            let parts: Vec<u64> = parts
                .chunks(8)
                .map(|part| Some(u64::from_be_bytes(part.try_into().ok()?)))
                .collect::<Option<_>>()?;
            Some(ToolFingerprint { hash: hash.try_into().ok()?, parts: parts.try_into().ok()? })
        };
        read().ok_or_else(|| D::Error::custom("not a fingerprint"))
    }
}

/// Fingerprints by the redacted name of the tool.
pub(crate) type Fingerprints = BTreeMap<String, ToolFingerprint>;

/// One tool that was added, removed or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToolChange {
    pub(crate) tool: String,
    pub(crate) kind: ToolChangeKind,
    /// Parts that differ, if the tool was changed.
    pub(crate) parts: Vec<DefinitionPart>,
}

/// Returns the changes from `before` to `now`, by name of the tool.
pub(crate) fn changes(before: &Fingerprints, now: &Fingerprints) -> Vec<ToolChange> {
    let change = |tool: &String| {
        let (kind, parts) = match (before.get(tool), now.get(tool)) {
            (Some(old), Some(new)) if old == new => return None,
            (Some(old), Some(new)) => (ToolChangeKind::Changed, new.changed_parts(old)),
            (None, _) => (ToolChangeKind::Added, Vec::new()),
            (_, None) => (ToolChangeKind::Removed, Vec::new()),
        };
        Some(ToolChange { tool: tool.clone(), kind, parts })
    };
    let tools: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    tools.into_iter().filter_map(change).collect()
}

/// Returns the parts of a definition in words: `description and input schema`.
pub(crate) fn parts_text(parts: &[DefinitionPart]) -> String {
    let word = |part: &DefinitionPart| match part {
        DefinitionPart::Other => "other fields".to_owned(),
        part => part.as_str().replace('_', " "),
    };
    let words: Vec<String> = parts.iter().map(word).collect();
    match &*words {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => words.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{"name":"a","title":"t","description":"d\n","inputSchema":{"b":1,"a":2},
        "outputSchema":[],"annotations":{},"icons":[],"_meta":{}}"#;

    fn read(text: &str) -> ToolDefinition {
        ToolDefinition::read(text).unwrap()
    }

    #[test]
    fn sizes_are_those_of_the_text_as_it_was_received() {
        let DefinitionSizes { definition, description, schema } = read(FULL).sizes;
        assert_eq!((definition, description, schema), (FULL.len() as u64, 5, 15));
        assert_eq!(read(r#"{"name":"a"}"#).sizes.schema, 0);
    }

    #[test]
    fn the_hash_is_that_of_the_canonical_form_or_else_of_the_text() {
        let digest = |text: &[u8]| -> [u8; 32] { Sha256::digest(text).into() };
        for text in [FULL, r#"{"\ue000":1,"name":"a","\ud83d\ude00":[1.0,"\u0041"]}"#] {
            assert_eq!(read(text).fingerprint.hash, digest(&canonical(text.as_bytes()).unwrap()));
        }
        for text in [r#"{"name":"a","x":1,"x":1}"#, r#"{"name":"a","x":"\ud800"}"#] {
            assert_eq!(read(text).fingerprint.hash, digest(&[b"raw:", text.as_bytes()].concat()));
        }
        for text in ["{}", "[]", "7", "{\"name\":7}", "{\"name\""] {
            assert!(ToolDefinition::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_change_is_in_its_part_and_in_no_other() {
        use DefinitionPart::*;
        let full = read(FULL).fingerprint;
        let changed = |from: &str, to: &str| read(&FULL.replace(from, to)).fingerprint.changed_parts(&full);
        for (from, to, part) in [
            ("\"t\"", "\"u\"", Title),
            ("d\\n", "d", Description),
            ("\"b\":1", "\"b\":2", InputSchema),
            ("[],\"ann", "[1],\"ann", OutputSchema),
            ("\"annotations\":{}", "\"annotations\":{\"x\":1}", Annotations),
            ("\"_meta\"", "\"meta\"", Other),
            (",\"icons\":[]", "", Other),
        ] {
            assert_ne!(FULL.replace(from, to), FULL);
            assert_eq!(changed(from, to), [part], "{from} to {to}");
        }
        for (from, to) in
            [("{\"b\":1,\"a\":2}", "{ \"a\":2,\"b\":1.0}"), ("\"t\"", "\"\\u0074\""), ("\"a\",", "\"b\",")]
        {
            assert_eq!(changed(from, to), [], "{from} to {to}");
        }
    }

    #[test]
    fn a_fingerprint_is_read_as_it_is_written() {
        let fingerprint = read(FULL).fingerprint;
        let text = serde_json::to_string(&fingerprint).unwrap();
        assert_eq!(serde_json::from_str::<ToolFingerprint>(&text).unwrap(), fingerprint);
        for text in ["\"00\"", "\"\"", "7", &text.replace('0', "g"), &text[..text.len() - 3]] {
            assert!(serde_json::from_str::<ToolFingerprint>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn parts_are_listed_in_words() {
        use DefinitionPart::*;
        assert_eq!(parts_text(&[Title, InputSchema, Other]), "title, input schema and other fields");
        assert_eq!(parts_text(&[OutputSchema]), "output schema");
    }
}
