//! Values of a record as OTLP values.

use std::fmt::Error;

use serde::ser::{Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer};

use crate::export::otlp::protobuf::{OpenMessage, ProtobufWriter, field};

/// Writes one value as the fields of an `AnyValue`, or a whole record as attributes.
pub(super) struct AnyValueSerializer<'a> {
    out: &'a mut ProtobufWriter,
    /// Field number of the attributes, and names that are left out; for a whole record only.
    attributes: Option<(u32, &'static [&'static str])>,
}

impl<'a> AnyValueSerializer<'a> {
    /// Writes the fields of a struct as attributes, without those that `placed` names.
    pub(super) fn of_attributes(
        out: &'a mut ProtobufWriter,
        field: u32,
        placed: &'static [&'static str],
    ) -> AnyValueSerializer<'a> {
        AnyValueSerializer { out, attributes: Some((field, placed)) }
    }

    fn list(self, kind: u32) -> ValueList<'a> {
        let list = Some(self.out.begin(kind));
        ValueList { out: self.out, list, field: field::VALUES, placed: &[], entry: None }
    }
}

/// A list of values or of attributes that is being written.
pub(super) struct ValueList<'a> {
    out: &'a mut ProtobufWriter,
    list: Option<OpenMessage>,
    /// Field number of each value or attribute.
    field: u32,
    placed: &'static [&'static str],
    /// The map entry whose key has been written.
    entry: Option<OpenMessage>,
}

impl ValueList<'_> {
    fn value<T: Serialize + ?Sized>(&mut self, field: u32, value: &T) -> Result<(), Error> {
        let any_value = self.out.begin(field);
        value.serialize(AnyValueSerializer { out: self.out, attributes: None })?;
        self.out.end(any_value);
        Ok(())
    }

    fn finish(self) -> Result<(), Error> {
        if let Some(list) = self.list {
            self.out.end(list);
        }
        Ok(())
    }
}

impl SerializeSeq for ValueList<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.value(self.field, value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl SerializeMap for ValueList<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.entry = Some(self.out.begin(self.field));
        // A text is written as field 1, which is the key of a `KeyValue` too.
        const { assert!(field::KEY == field::STRING_VALUE) };
        key.serialize(AnyValueSerializer { out: self.out, attributes: None })
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.value(field::VALUE, value)?;
        let entry = self.entry.take().ok_or(Error)?;
        self.out.end(entry);
        Ok(())
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl SerializeStruct for ValueList<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        if self.placed.contains(&key) {
            return Ok(());
        }
        SerializeMap::serialize_entry(self, key, value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

macro_rules! integers {
    ($($method:ident $kind:ty),*) => {
        $(fn $method(self, value: $kind) -> Result<(), Error> {
            self.out.int_value(value.into());
            Ok(())
        })*
    };
}

macro_rules! not_in_a_record {
    ($($method:ident($($kind:ty),*) -> $result:ty;)*) => {
        $(fn $method(self, $(_: $kind),*) -> Result<$result, Error> {
            Err(Error)
        })*
    };
}

impl<'a> Serializer for AnyValueSerializer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = ValueList<'a>;
    type SerializeMap = ValueList<'a>;
    type SerializeStruct = ValueList<'a>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeStructVariant = Impossible<(), Error>;

    integers! { serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_u8 u8,
    serialize_u16 u16, serialize_u32 u32 }

    fn serialize_u64(self, value: u64) -> Result<(), Error> {
        match i64::try_from(value) {
            Ok(value) => self.out.int_value(value),
            Err(_) => self.out.double_value(value as f64),
        }
        Ok(())
    }

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.out.bool_value(value);
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        self.out.double_value(value);
        Ok(())
    }

    fn serialize_str(self, text: &str) -> Result<(), Error> {
        self.out.text_value(text);
        Ok(())
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

    fn serialize_seq(self, _: Option<usize>) -> Result<ValueList<'a>, Error> {
        Ok(self.list(field::ARRAY_VALUE))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<ValueList<'a>, Error> {
        Ok(self.list(field::KVLIST_VALUE))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<ValueList<'a>, Error> {
        match self.attributes {
            Some((field, placed)) => Ok(ValueList { out: self.out, list: None, field, placed, entry: None }),
            None => Ok(self.list(field::KVLIST_VALUE)),
        }
    }

    not_in_a_record! {
        serialize_char(char) -> ();
        serialize_bytes(&[u8]) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        Err(Error)
    }
}
