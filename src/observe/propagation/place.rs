//! The place in a line where trace context is inserted.
//!
//! The line is read once, as strict JSON and without an allocation. Members are compared with their escapes
//! resolved, so that no duplicate can arise.

use crate::observe::event::ContextOmission;

/// Deepest nesting of a line that is read. The readers of most servers follow at least as far.
const MAX_DEPTH: u32 = 100;

/// The offset in a request at which members are inserted, and what surrounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InsertionPlace {
    pub at: usize,
    /// The members are inserted into `params`, in a `_meta` of their own.
    pub makes_meta: bool,
    /// The object has no members yet.
    pub is_empty: bool,
}

impl InsertionPlace {
    /// Finds the place in a line without its newline. Returns why the line gets no context; `None` for a blank line.
    pub fn find(line: &[u8]) -> Result<InsertionPlace, Option<ContextOmission>> {
        let mut reader = JsonReader { text: line, at: 0 };
        reader.space();
        let Some(first) = reader.peek() else { return Err(None) };
        let is_text = std::str::from_utf8(line).is_ok();
        let found = match first {
            b'[' => reader.value().map(|()| Err(ContextOmission::Batch)),
            _ => reader.message().map(FoundMembers::place),
        };
        reader.space();
        let found = found.filter(|_| is_text && reader.at == line.len());
        found.unwrap_or(Err(ContextOmission::Invalid)).map_err(Some)
    }
}

/// The members of a message that decide whether it is a request without trace context.
#[derive(Default)]
struct FoundMembers {
    has_method: bool,
    has_id: bool,
    is_answer: bool,
    /// A member that decides is there twice.
    duplicate: bool,
    /// `params` is there, and so is `_meta` in it, with or without trace context.
    params: Option<ObjectStart>,
    meta: Option<ObjectStart>,
    has_context: bool,
    /// One bit for each [`Name`].
    seen: u8,
}

/// The value of a member.
#[derive(Clone, Copy)]
enum ObjectStart {
    /// An object: the offset after its brace, and whether it has no members.
    Object {
        at: usize,
        is_empty: bool,
    },
    Other,
}

/// The members that decide.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    Method,
    Id,
    Params,
    Result,
    Error,
    Meta,
    TraceParent,
    TraceState,
}

impl Name {
    const OF_MESSAGE: [(Name, &str); 5] = [
        (Name::Method, "method"),
        (Name::Id, "id"),
        (Name::Params, "params"),
        (Name::Result, "result"),
        (Name::Error, "error"),
    ];
    const OF_PARAMS: [(Name, &str); 1] = [(Name::Meta, "_meta")];
    const OF_META: [(Name, &str); 2] = [(Name::TraceParent, "traceparent"), (Name::TraceState, "tracestate")];
}

impl FoundMembers {
    fn place(self) -> Result<InsertionPlace, ContextOmission> {
        if self.duplicate {
            return Err(ContextOmission::Duplicate);
        }
        if !self.has_method || !self.has_id || self.is_answer {
            return Err(ContextOmission::NotARequest);
        }
        if self.has_context {
            return Err(ContextOmission::HasContext);
        }
        match (self.params, self.meta) {
            (Some(ObjectStart::Object { .. }), Some(ObjectStart::Object { at, is_empty })) => {
                Ok(InsertionPlace { at, makes_meta: false, is_empty })
            }
            (Some(ObjectStart::Object { at, is_empty }), None) => {
                Ok(InsertionPlace { at, makes_meta: true, is_empty })
            }
            _ => Err(ContextOmission::NoParams),
        }
    }

    /// Notes that a member is there. A second one is a duplicate.
    fn see(&mut self, name: Name) {
        let bit = 1 << name as u8;
        self.duplicate |= self.seen & bit != 0;
        self.seen |= bit;
    }
}

/// Reads JSON. Each method returns `None` if the text is not what it reads.
struct JsonReader<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> JsonReader<'a> {
    fn message(&mut self) -> Option<FoundMembers> {
        let mut found = FoundMembers::default();
        self.members(|reader, key| {
            let name = named(key, &Name::OF_MESSAGE);
            name.into_iter().for_each(|name| found.see(name));
            let first = reader.peek()?;
            match name {
                Some(Name::Method) => found.has_method = first == b'"',
                Some(Name::Id) => found.has_id = matches!(first, b'"' | b'-' | b'0'..=b'9'),
                Some(Name::Result | Name::Error) => found.is_answer = true,
                Some(Name::Params) => {
                    found.params = Some(ObjectStart::Other);
                    if first == b'{' {
                        found.params = Some(reader.params(&mut found)?);
                        return Some(());
                    }
                }
                _ => {}
            }
            reader.value()
        })?;
        Some(found)
    }

    fn params(&mut self, found: &mut FoundMembers) -> Option<ObjectStart> {
        self.members(|reader, key| {
            if named(key, &Name::OF_PARAMS).is_none() {
                return reader.value();
            }
            found.see(Name::Meta);
            if reader.peek()? != b'{' {
                found.meta = Some(ObjectStart::Other);
                return reader.value();
            }
            let meta = reader.members(|reader, key| {
                if let Some(name) = named(key, &Name::OF_META) {
                    found.see(name);
                    found.has_context = true;
                }
                reader.value()
            })?;
            found.meta = Some(meta);
            Some(())
        })
    }

    /// Reads an object and calls `each` with the raw key of each member, before its value.
    fn members(
        &mut self,
        mut each: impl FnMut(&mut JsonReader<'a>, &'a [u8]) -> Option<()>,
    ) -> Option<ObjectStart> {
        self.takes(b'{')?;
        let at = self.at;
        self.space();
        if self.takes(b'}').is_some() {
            return Some(ObjectStart::Object { at, is_empty: true });
        }
        loop {
            let key = self.key()?;
            each(self, key)?;
            self.space();
            if self.takes(b',').is_none() {
                self.takes(b'}')?;
                return Some(ObjectStart::Object { at, is_empty: false });
            }
        }
    }

    /// Reads a key with its colon and what is blank around them, and returns the text between its quotes.
    fn key(&mut self) -> Option<&'a [u8]> {
        self.space();
        let key = self.string()?;
        self.space();
        self.takes(b':')?;
        self.space();
        Some(key)
    }

    /// Reads a value of any depth up to [`MAX_DEPTH`], in constant memory.
    fn value(&mut self) -> Option<()> {
        // One bit for each open object or array: 1 for an object.
        let (mut open, mut depth) = (0_u128, 0);
        loop {
            self.space();
            let byte = self.peek()?;
            if let b'{' | b'[' = byte {
                self.at += 1;
                self.space();
                if self.takes(byte + 2).is_none() {
                    (open, depth) = (open << 1 | u128::from(byte == b'{'), depth + 1);
                    if depth > MAX_DEPTH {
                        return None;
                    }
                    if byte == b'{' {
                        self.key()?;
                    }
                    continue;
                }
            } else {
                self.scalar(byte)?;
            }
            // A value has ended, and with it the objects and arrays that it was the last of.
            while depth > 0 {
                self.space();
                let is_object = open & 1 == 1;
                if self.takes(b',').is_some() {
                    if is_object {
                        self.key()?;
                    }
                    break;
                }
                self.takes(if is_object { b'}' } else { b']' })?;
                (open, depth) = (open >> 1, depth - 1);
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn scalar(&mut self, first: u8) -> Option<()> {
        let word: &[u8] = match first {
            b'"' => return self.string().map(|_| ()),
            b't' => b"true",
            b'f' => b"false",
            b'n' => b"null",
            _ => return self.number(),
        };
        self.text[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.takes(b'-');
        if self.takes(b'0').is_none() {
            self.digits()?;
        }
        if self.takes(b'.').is_some() {
            self.digits()?;
        }
        if self.takes(b'e').or_else(|| self.takes(b'E')).is_some() {
            let _ = self.takes(b'+').or_else(|| self.takes(b'-'));
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let count = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        (count > 0).then_some(())
    }

    /// Reads a string and returns the text between its quotes.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.takes(b'"')?;
        let start = self.at;
        loop {
            let rest = &self.text[self.at..];
            let plain = memchr::memchr2(b'"', b'\\', rest)?;
            if rest[..plain].iter().any(|byte| *byte < b' ') {
                return None;
            }
            self.at += plain + 1;
            if rest[plain] == b'"' {
                return Some(&self.text[start..self.at - 1]);
            }
            let is_escape = match rest.get(plain + 1)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => true,
                b'u' => rest.get(plain + 2..plain + 6)?.iter().all(u8::is_ascii_hexdigit),
                _ => false,
            };
            is_escape.then(|| self.at += 1)?;
        }
    }

    fn space(&mut self) {
        let blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        self.at += self.text[self.at..].iter().take_while(blank).count();
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn takes(&mut self, byte: u8) -> Option<()> {
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }
}

fn named(key: &[u8], names: &[(Name, &str)]) -> Option<Name> {
    names.iter().find(|(_, name)| spells(key, name.as_bytes())).map(|(name, _)| *name)
}

/// Returns true if the raw text of a valid JSON string is `name`, in any spelling.
fn spells(raw: &[u8], name: &[u8]) -> bool {
    if raw.len() <= name.len() {
        return raw == name;
    }
    let (mut rest, mut name) = (raw, name.iter());
    while let Some((&byte, behind)) = rest.split_first() {
        let character = match (byte, behind) {
            (b'\\', [b'u', digits @ ..]) => {
                let (digits, behind) = digits.split_at_checked(4).unwrap_or((digits, &[]));
                rest = behind;
                let digit = |digit: &u8| char::from(*digit).to_digit(16).unwrap_or_default();
                digits.iter().fold(0, |code, next| code << 4 | digit(next))
            }
            // The other escapes are of characters that no name contains.
            (b'\\', _) => return false,
            _ => {
                rest = behind;
                u32::from(byte)
            }
        };
        if name.next().map(|byte| u32::from(*byte)) != Some(character) {
            return false;
        }
    }
    name.next().is_none()
}
