//! Writes a record as its line of the log.
//!
//! The bytes are those that `serde_json` writes, as a test checks. `serde_json` looks at each byte of a string
//! for characters to escape. This serializer copies strings in long pieces. Most of a record is text, so this is
//! three times as fast. To write a line and queue it takes 1.3 of the 6.2 us of a call (`cargo bench --bench proxy
//! -- observe`). Only the kinds of values that records contain can be written: numbers, text, words, and lists and
//! maps of them.

use std::fmt::Display;

use serde::ser::{
    Error as _, Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer,
};
use serde_json::Error;

use crate::observe::canonical::write_string;
use crate::record::Record;

/// Appends `record` and a newline to `line`.
///
/// # Errors
/// Fails if the record contains a value of a kind that records do not have, which a test rules out.
pub(crate) fn write(record: &Record<'_>, line: &mut Vec<u8>) -> Result<(), Error> {
    record.serialize(&mut LineSerializer(line))?;
    line.push(b'\n');
    Ok(())
}

struct LineSerializer<'a>(&'a mut Vec<u8>);

impl LineSerializer<'_> {
    fn number(&mut self, number: impl Serialize) -> Result<(), Error> {
        serde_json::to_writer(&mut *self.0, &number)
    }
}

/// A list, map or struct that is being written.
struct LineMembers<'a, 'b> {
    line: &'b mut LineSerializer<'a>,
    is_first: bool,
    end: u8,
}

impl<'a, 'b> LineMembers<'a, 'b> {
    fn begin(line: &'b mut LineSerializer<'a>, begin: u8, end: u8) -> LineMembers<'a, 'b> {
        line.0.push(begin);
        LineMembers { line, is_first: true, end }
    }

    fn separate(&mut self) {
        if !std::mem::take(&mut self.is_first) {
            self.line.0.push(b',');
        }
    }

    fn finish(self) -> Result<(), Error> {
        self.line.0.push(self.end);
        Ok(())
    }
}

impl SerializeSeq for LineMembers<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.separate();
        value.serialize(&mut *self.line)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl SerializeMap for LineMembers<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.separate();
        key.serialize(&mut *self.line)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.line.0.push(b':');
        value.serialize(&mut *self.line)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl SerializeStruct for LineMembers<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        self.separate();
        // Names of fields need no escapes.
        self.line.0.push(b'"');
        self.line.0.extend_from_slice(key.as_bytes());
        self.line.0.extend_from_slice(b"\":");
        value.serialize(&mut *self.line)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

fn unsupported<T>(what: impl Display) -> Result<T, Error> {
    Err(Error::custom(format_args!("a record cannot contain {what}")))
}

impl<'a, 'b> Serializer for &'b mut LineSerializer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = LineMembers<'a, 'b>;
    type SerializeMap = LineMembers<'a, 'b>;
    type SerializeStruct = LineMembers<'a, 'b>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeStructVariant = Impossible<(), Error>;

    fn serialize_str(self, text: &str) -> Result<(), Error> {
        write_string(text, self.0);
        Ok(())
    }

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.0.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn serialize_i8(self, number: i8) -> Result<(), Error> {
        self.number(number)
    }

    fn serialize_i16(self, number: i16) -> Result<(), Error> {
        self.number(number)
    }

    fn serialize_i32(self, number: i32) -> Result<(), Error> {
        self.number(number)
    }

    fn serialize_i64(self, number: i64) -> Result<(), Error> {
        self.number(number)
    }

    fn serialize_u8(self, number: u8) -> Result<(), Error> {
        self.number(number)
    }

    fn serialize_u16(self, number: u16) -> Result<(), Error> {
        self.number(number)
    }

    fn serialize_u32(self, number: u32) -> Result<(), Error> {
        self.number(number)
    }

    fn serialize_u64(self, number: u64) -> Result<(), Error> {
        self.number(number)
    }

    fn serialize_f32(self, number: f32) -> Result<(), Error> {
        self.number(number)
    }

    fn serialize_f64(self, number: f64) -> Result<(), Error> {
        self.number(number)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<LineMembers<'a, 'b>, Error> {
        Ok(LineMembers::begin(self, b'[', b']'))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<LineMembers<'a, 'b>, Error> {
        Ok(LineMembers::begin(self, b'{', b'}'))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<LineMembers<'a, 'b>, Error> {
        Ok(LineMembers::begin(self, b'{', b'}'))
    }

    fn serialize_char(self, _: char) -> Result<(), Error> {
        unsupported("a character")
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Error> {
        unsupported("bytes")
    }

    fn serialize_none(self) -> Result<(), Error> {
        unsupported("null")
    }

    fn serialize_unit(self) -> Result<(), Error> {
        unsupported("null")
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<(), Error> {
        unsupported(name)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        unsupported(name)
    }

    fn serialize_tuple(self, _: usize) -> Result<Impossible<(), Error>, Error> {
        unsupported("a tuple")
    }

    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Impossible<(), Error>, Error> {
        unsupported(name)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Impossible<(), Error>, Error> {
        unsupported(name)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Impossible<(), Error>, Error> {
        unsupported(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::timestamp::Timestamp;
    use crate::record::{EventName, Millis, Totals};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_line_is_what_serde_json_writes(
            text in any::<String>(),
            odd in "[\\x00-\\x20\"\\\\\\x7f\u{80}\u{2028}a-c]{0,70}",
            number in any::<u64>(),
            code in any::<i64>(),
            exit in any::<i32>(),
            millis in 0.0..1e12_f64,
            lists in proptest::collection::vec(any::<String>(), 0..4),
            micros in 0..4_000_000_000_000_000_i64,
        ) {
            let counts = lists.iter().map(|text| (text.as_str().into(), number)).collect();
            let record = Record {
                schema: "spantap/1".into(),
                timestamp: Timestamp(micros),
                event: EventName::McpToolCall,
                message: odd.as_str().into(),
                seq: number,
                session_id: text.as_str().into(),
                error_message: Some(odd.as_str().into()),
                error_code: Some(code),
                exit_code: Some(exit),
                duration_ms: Some(Millis(millis)),
                truncated: Some(number % 2 == 0),
                command: Some(lists.iter().map(|text| text.as_str().into()).collect()),
                dropped: Some(counts),
                totals: Some(Totals { errors: number, ..Totals::default() }),
                ..Record::default()
            };
            let mut line = Vec::new();
            write(&record, &mut line).unwrap();
            prop_assert_eq!(&serde_json::from_slice::<Record<'_>>(&line).unwrap(), &record);
            let mut expected = serde_json::to_vec(&record).unwrap();
            expected.push(b'\n');
            prop_assert_eq!(String::from_utf8(line).unwrap(), String::from_utf8(expected).unwrap());
        }
    }
}
