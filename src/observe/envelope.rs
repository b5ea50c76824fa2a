//! Finds the members of a message in one pass over a line of any size, in constant memory.
//!
//! Only direct members of the message and of its `params`, `result` and `error` are needed. The scanner
//! follows these two levels and skips deeper ones by counting brackets, so nesting costs nothing and no
//! value is built. Members are captured as raw JSON up to a limit, hashed as their bytes arrive, or both.
//! Skipped bytes are not validated.

use crate::observe::canonical::{Hasher, Hashing};
use crate::observe::redact::LONGEST_BODY;

mod definitions;
mod members;
#[cfg(test)]
mod tests;

use definitions::DefinitionReader;
pub use definitions::ToolPage;
pub use members::{Envelope, MEMBERS, Member, MemberParent};

/// The kind of a complete line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    Empty,
    /// One message, or the elements of a batch.
    Messages,
    /// Not JSON, or not an object or array of objects.
    NotJson,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// Before the line's value.
    Value,
    Element,
    /// The first element of a batch, which may be missing.
    ElementOrEnd,
    KeyOrEnd,
    Key,
    Colon,
    MemberValue,
    CommaOrEnd,
    /// After an element of a batch.
    ElementEnd,
    /// After the line's value.
    Nothing,
    /// The line is not a message; the rest of it is skipped.
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    /// Between tokens.
    Structure,
    /// A key of a followed object.
    Key,
    /// A string value of a followed object.
    String,
    /// A number or word of a followed object.
    Scalar,
    /// An object or array that is skipped, this many levels deep.
    Skipped(u32),
    /// A string in a skipped object or array.
    SkippedString(u32),
}

/// Scans the lines of one stream: the caller feeds the bytes of a line, then ends the line.
pub struct Scanner {
    hashing: Hashing,
    envelope: Envelope,
    expect: Expect,
    inside: Inside,
    escaped: bool,
    batch: bool,
    /// 1 in the message's object, 2 in its `params`, `result` or `error`.
    level: u8,
    place: MemberParent,
    key: Vec<u8>,
    /// True if the key contains no escapes.
    key_is_plain: bool,
    key_is_overlong: bool,
    /// The member that is being captured, and where in the current piece its next bytes begin.
    member: Option<Member>,
    member_from: usize,
    /// Hashes arguments that are too long to be kept.
    arguments_hasher: Option<Hasher>,
    /// True in the value of `params`, `result` or `error`, which is `outer`. The value begins at
    /// `outer_start` in the line, and its next bytes begin at `outer_from` in the current piece.
    in_outer: bool,
    outer: MemberParent,
    outer_start: u64,
    outer_from: usize,
    outer_reader: Option<OuterReader>,
    definitions: DefinitionReader,
    message_start: u64,
    /// Bytes of the line before the current piece.
    before: u64,
    /// True if the scanner hashes results and keeps the range of `content`; false with `LoadMode::EnvelopeOnly`.
    bodies: bool,
    /// True if the texts of `result` and `error` are kept, for `spantap debug on --bodies`.
    keeps_outer: bool,
}

/// Reads the bytes of `result` or `error` as they arrive.
struct OuterReader {
    hasher: Option<Hasher>,
    /// The bytes, as long as they are few.
    kept: Option<Vec<u8>>,
}

impl OuterReader {
    fn update(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.kept.take_if(|kept| kept.len() + bytes.len() > LONGEST_BODY);
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        }
    }
}

/// Length of the longest member's key in bytes, if every character is written as an escape of six.
const MAX_RAW_KEY: usize = 6 * 24;

impl Scanner {
    pub fn new(hashing: Hashing) -> Scanner {
        Scanner {
            hashing,
            envelope: Envelope::new(),
            expect: Expect::Value,
            inside: Inside::Structure,
            escaped: false,
            batch: false,
            level: 0,
            place: MemberParent::Root,
            key: Vec::with_capacity(MAX_RAW_KEY),
            key_is_plain: true,
            key_is_overlong: false,
            member: None,
            member_from: 0,
            arguments_hasher: None,
            in_outer: false,
            outer: MemberParent::Root,
            outer_start: 0,
            outer_from: 0,
            outer_reader: None,
            definitions: DefinitionReader::default(),
            message_start: 0,
            before: 0,
            bodies: true,
            keeps_outer: false,
        }
    }

    /// Sets whether the texts of `result` and `error` are kept, for those that begin from now on.
    pub(crate) fn keep_outer(&mut self, keeps: bool) {
        self.keeps_outer = keeps;
    }

    /// Sets whether result bodies are hashed and their texts kept, for messages that begin from now on.
    pub(crate) fn set_bodies(&mut self, bodies: bool) {
        self.bodies = bodies;
    }

    pub(crate) fn bodies(&self) -> bool {
        self.bodies
    }

    /// Takes bytes of the current line. Calls `each` with every complete element of a batch.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&Envelope)) {
        self.member_from = 0;
        self.outer_from = 0;
        let mut at = 0;
        while at < bytes.len() {
            match self.inside {
                Inside::Structure if self.expect == Expect::Broken => break,
                Inside::Structure => {
                    self.structure(bytes, at, &mut each);
                    at += 1;
                }
                Inside::Key => at = self.key_part(bytes, at),
                Inside::String => {
                    let (next, closed) = self.string_end(bytes, at);
                    at = next;
                    if closed {
                        self.value_ends(bytes, at);
                    }
                }
                Inside::Scalar => {
                    let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r');
                    match bytes[at..].iter().position(ends) {
                        Some(length) => {
                            at += length;
                            self.value_ends(bytes, at);
                        }
                        None => at = bytes.len(),
                    }
                }
                Inside::Skipped(depth) => at = self.skip(bytes, at, depth),
                Inside::SkippedString(depth) => {
                    let (next, closed) = self.string_end(bytes, at);
                    at = next;
                    if closed {
                        self.inside = Inside::Skipped(depth);
                    }
                }
            }
        }
        self.flow_member(bytes, bytes.len());
        self.flow_outer(bytes, bytes.len());
        self.before += bytes.len() as u64;
    }

    /// Ends the line: calls `each` with its message and returns the kind of the line.
    pub fn end(&mut self, mut each: impl FnMut(&Envelope)) -> LineKind {
        let line = match (self.expect, self.inside) {
            (Expect::Value, Inside::Structure) => LineKind::Empty,
            (Expect::Nothing, Inside::Structure) => {
                if !self.batch {
                    self.envelope.size = self.before;
                    each(&self.envelope);
                }
                LineKind::Messages
            }
            _ => LineKind::NotJson,
        };
        self.reset();
        line
    }

    pub(crate) fn reset(&mut self) {
        self.envelope.clear();
        self.expect = Expect::Value;
        self.inside = Inside::Structure;
        self.escaped = false;
        self.batch = false;
        self.level = 0;
        self.member = None;
        self.arguments_hasher = None;
        self.in_outer = false;
        self.outer_reader = None;
        self.before = 0;
    }

    fn structure(&mut self, bytes: &[u8], at: usize, each: &mut impl FnMut(&Envelope)) {
        let byte = bytes[at];
        if matches!(byte, b' ' | b'\t' | b'\r') {
            return;
        }
        match (self.expect, byte) {
            // A byte order mark before the value.
            (Expect::Value, 0xef | 0xbb | 0xbf) if self.before + (at as u64) < 3 => {}
            (Expect::Value | Expect::Element | Expect::ElementOrEnd, b'{') => {
                self.level = 1;
                self.place = MemberParent::Root;
                self.message_start = self.before + at as u64;
                self.expect = Expect::KeyOrEnd;
            }
            (Expect::Value, b'[') => {
                self.batch = true;
                self.expect = Expect::ElementOrEnd;
            }
            (Expect::ElementOrEnd | Expect::ElementEnd, b']') => self.expect = Expect::Nothing,
            (Expect::ElementEnd, b',') => self.expect = Expect::Element,
            (Expect::KeyOrEnd | Expect::Key, b'"') => {
                self.key.clear();
                self.key_is_plain = true;
                self.key_is_overlong = false;
                self.inside = Inside::Key;
            }
            (Expect::Colon, b':') => self.expect = Expect::MemberValue,
            (Expect::MemberValue, _) => self.value_begins(byte, at),
            (Expect::CommaOrEnd, b',') => self.expect = Expect::Key,
            (Expect::KeyOrEnd | Expect::CommaOrEnd, b'}') if self.level == 2 => {
                self.outer_ends(bytes, at + 1);
            }
            (Expect::KeyOrEnd | Expect::CommaOrEnd, b'}') => {
                self.level = 0;
                self.expect = Expect::Nothing;
                if self.batch {
                    self.envelope.size = self.before + at as u64 + 1 - self.message_start;
                    each(&self.envelope);
                    self.envelope.clear();
                    self.expect = Expect::ElementEnd;
                }
            }
            _ => self.break_off(),
        }
    }

    /// Marks the line as not a message.
    fn break_off(&mut self) {
        self.expect = Expect::Broken;
        self.inside = Inside::Structure;
        self.member = None;
        self.in_outer = false;
        self.outer_reader = None;
    }

    fn value_begins(&mut self, byte: u8, at: usize) {
        let key = if self.key_is_plain && !self.key_is_overlong { self.key.as_slice() } else { &[] };
        let outer = match (self.level, key) {
            (1, b"params") => Some(MemberParent::Params),
            (1, b"result") => Some(MemberParent::Result),
            (1, b"error") => Some(MemberParent::Error),
            _ => None,
        };
        if let Some(outer) = outer {
            self.outer_begins(outer, byte, at);
            if byte == b'{' {
                self.level = 2;
                self.place = outer;
                self.expect = Expect::KeyOrEnd;
                return;
            }
        } else {
            self.member = self.place.member(key);
            if !self.bodies && matches!(self.member, Some(Member::Content)) {
                self.member = None;
            }
            if let Some(member) = self.member {
                self.envelope.begin(member);
                self.member_from = at;
                if matches!(member, Member::Tools | Member::Prompts) {
                    self.definitions = DefinitionReader::default();
                }
            }
        }
        self.inside = match byte {
            b'"' => Inside::String,
            b'{' | b'[' => Inside::Skipped(1),
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => Inside::Scalar,
            _ => return self.break_off(),
        };
    }

    /// Begins the value of `params`, `result` or `error` with its first byte. The last of two equal members counts.
    fn outer_begins(&mut self, place: MemberParent, byte: u8, at: usize) {
        self.envelope.forget(place);
        self.in_outer = true;
        self.outer_start = self.before + at as u64;
        self.outer_from = at;
        match place {
            MemberParent::Params => {
                self.envelope.has_params = true;
                self.envelope.long_arguments_hash = None;
            }
            MemberParent::Result => {
                self.envelope.result_size = Some(0);
                self.envelope.result_is_object = byte == b'{';
                self.outer_reader = self
                    .bodies
                    .then(|| OuterReader { hasher: Some(self.hashing.start()), kept: self.kept() });
            }
            MemberParent::Error => {
                self.envelope.error_size = Some(0);
                self.outer_reader = self.kept().map(|kept| OuterReader { hasher: None, kept: Some(kept) });
            }
            MemberParent::Root => {}
        }
        self.outer = place;
    }

    fn kept(&self) -> Option<Vec<u8>> {
        (self.keeps_outer && self.bodies).then(Vec::new)
    }

    fn outer_ends(&mut self, bytes: &[u8], at: usize) {
        self.flow_outer(bytes, at);
        let size = self.before + at as u64 - self.outer_start;
        let reader = self.outer_reader.take();
        match self.outer {
            MemberParent::Result => {
                self.envelope.result_size = Some(size);
                if let Some(OuterReader { hasher, kept }) = reader {
                    self.envelope.result_hash = hasher.map(|hasher| hasher.finish(true));
                    self.envelope.result_text = kept;
                }
            }
            MemberParent::Error => {
                self.envelope.error_size = Some(size);
                self.envelope.error_text = reader.and_then(|reader| reader.kept);
            }
            MemberParent::Params | MemberParent::Root => {}
        }
        self.in_outer = false;
        self.level = 1;
        self.place = MemberParent::Root;
        self.inside = Inside::Structure;
        self.expect = Expect::CommaOrEnd;
    }

    fn value_ends(&mut self, bytes: &[u8], at: usize) {
        if self.level == 1 && self.in_outer {
            // The value of `params`, `result` or `error` is not an object.
            return self.outer_ends(bytes, at);
        }
        self.flow_member(bytes, at);
        match self.member.take() {
            Some(Member::Arguments) => {
                self.envelope.long_arguments_hash =
                    self.arguments_hasher.take().map(|hasher| hasher.finish(true));
            }
            Some(Member::Tools) => self.envelope.tools = self.definitions.end(),
            Some(Member::Prompts) => self.envelope.prompts = self.definitions.end(),
            _ => {}
        }
        self.inside = Inside::Structure;
        self.expect = Expect::CommaOrEnd;
    }

    /// Keeps the bytes of the current member up to `to`.
    fn flow_member(&mut self, bytes: &[u8], to: usize) {
        let Some(member) = self.member else { return };
        let new = &bytes[self.member_from..to];
        let capture = &mut self.envelope.captures[member as usize];
        let (.., limit) = MEMBERS[member as usize];
        let room = limit.saturating_sub(capture.bytes.len()).min(new.len());
        let fitted = capture.size == capture.bytes.len() as u64;
        capture.bytes.extend_from_slice(&new[..room]);
        capture.size += new.len() as u64;
        if matches!(member, Member::Tools | Member::Prompts) {
            self.definitions.feed(new);
        }
        if member == Member::Arguments && room < new.len() {
            let hasher = self.arguments_hasher.get_or_insert_with(|| self.hashing.start());
            if fitted {
                hasher.update(&capture.bytes);
            }
            hasher.update(&new[room..]);
        }
        self.member_from = to;
    }

    /// Reads the bytes of `result` or `error` up to `to`.
    fn flow_outer(&mut self, bytes: &[u8], to: usize) {
        if let Some(reader) = &mut self.outer_reader {
            reader.update(&bytes[self.outer_from..to]);
            self.outer_from = to;
        }
    }

    /// Continues in a string at `at`. Returns the next position, and true after the closing quote.
    fn string_end(&mut self, bytes: &[u8], mut at: usize) -> (usize, bool) {
        if self.escaped {
            self.escaped = false;
            at += 1;
        }
        while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
            at += found;
            if bytes[at] == b'"' {
                return (at + 1, true);
            }
            if at + 1 == bytes.len() {
                self.escaped = true;
                return (at + 1, false);
            }
            at += 2;
        }
        (bytes.len(), false)
    }

    fn key_part(&mut self, bytes: &[u8], at: usize) -> usize {
        let was_escaped = self.escaped;
        let (next, closed) = self.string_end(bytes, at);
        let part = &bytes[at..next - usize::from(closed)];
        self.key_is_plain &= !was_escaped && !part.contains(&b'\\');
        self.key_is_overlong |= self.key.len() + part.len() > MAX_RAW_KEY;
        if !self.key_is_overlong {
            self.key.extend_from_slice(part);
        }
        if closed {
            if !self.key_is_plain && !self.key_is_overlong {
                self.unescape_key();
            }
            self.inside = Inside::Structure;
            self.expect = Expect::Colon;
        }
        next
    }

    /// Replaces the escapes of the key.
    fn unescape_key(&mut self) {
        let quoted = [b"\"", self.key.as_slice(), b"\""].concat();
        if let Ok(key) = serde_json::from_slice::<String>(&quoted) {
            self.key = key.into_bytes();
            self.key_is_plain = true;
        }
    }

    /// Continues in a skipped object or array, `depth` levels deep.
    fn skip(&mut self, bytes: &[u8], mut at: usize, mut depth: u32) -> usize {
        while let Some(byte) = bytes.get(at) {
            at += 1;
            match byte {
                b'"' => {
                    let (next, closed) = self.string_end(bytes, at);
                    at = next;
                    if !closed {
                        self.inside = Inside::SkippedString(depth);
                        return at;
                    }
                }
                b'{' | b'[' => depth = depth.saturating_add(1),
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.value_ends(bytes, at);
                        return at;
                    }
                }
                _ => {}
            }
        }
        self.inside = Inside::Skipped(depth);
        at
    }
}
