//! The walk over the values of a record, for the writers of log lines and of OTLP logs.
//!
//! Only the kinds of values that records contain can be written: numbers, text, words, and lists and maps of them.

use std::fmt::Error;

use serde::ser::{Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer};

/// Receives the values of a record in their order.
pub(crate) trait ValueWriter: Sized {
    /// A list or map that has begun.
    type Open;

    fn text(&mut self, text: &str);
    fn bool(&mut self, value: bool);
    fn int(&mut self, value: i64);
    fn uint(&mut self, value: u64);
    fn float(&mut self, value: f64);

    fn begin_list(&mut self) -> Self::Open;
    fn begin_map(&mut self) -> Self::Open;
    fn end(&mut self, open: Self::Open);

    /// Writes an item of a list, whose value `value` writes.
    fn item(&mut self, list: &Self::Open, value: impl FnOnce(&mut Self) -> Written) -> Written;

    /// Writes an entry of a map, whose key and value `key` and `value` write.
    fn entry(
        &mut self,
        map: &Self::Open,
        key: impl FnOnce(&mut Self) -> Written,
        value: impl FnOnce(&mut Self) -> Written,
    ) -> Written;

    /// Writes the name of a field, which needs no escapes.
    fn name(&mut self, name: &'static str) {
        self.text(name);
    }

    /// Returns false if the field is left out.
    fn takes(&self, _name: &'static str) -> bool {
        true
    }
}

/// Fails if the record has a value of a kind that no record has, which a test refuses.
pub(crate) type Written = Result<(), Error>;

/// Gives the values of a record to a writer.
pub(crate) struct ValueSerializer<'a, W>(pub(crate) &'a mut W);

pub(crate) struct OpenValues<'a, W: ValueWriter> {
    writer: &'a mut W,
    open: W::Open,
}

impl<W: ValueWriter> SerializeSeq for OpenValues<'_, W> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.writer.item(&self.open, |writer| value.serialize(ValueSerializer(writer)))
    }

    fn end(self) -> Written {
        self.writer.end(self.open);
        Ok(())
    }
}

impl<W: ValueWriter> SerializeMap for OpenValues<'_, W> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Written {
        Err(Error)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, _: &T) -> Written {
        Err(Error)
    }

    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Written {
        self.writer.entry(
            &self.open,
            |writer| key.serialize(ValueSerializer(writer)),
            |writer| value.serialize(ValueSerializer(writer)),
        )
    }

    fn end(self) -> Written {
        SerializeSeq::end(self)
    }
}

impl<W: ValueWriter> SerializeStruct for OpenValues<'_, W> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Written {
        if !self.writer.takes(name) {
            return Ok(());
        }
        let key = |writer: &mut W| {
            writer.name(name);
            Ok(())
        };
        self.writer.entry(&self.open, key, |writer| value.serialize(ValueSerializer(writer)))
    }

    fn end(self) -> Written {
        SerializeSeq::end(self)
    }
}

macro_rules! values {
    ($($method:ident($kind:ty) => $of_writer:ident;)*) => {
        $(fn $method(self, value: $kind) -> Written {
            self.0.$of_writer(value.into());
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

impl<'a, W: ValueWriter> Serializer for ValueSerializer<'a, W> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = OpenValues<'a, W>;
    type SerializeMap = OpenValues<'a, W>;
    type SerializeStruct = OpenValues<'a, W>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeStructVariant = Impossible<(), Error>;

    values! {
        serialize_str(&str) => text;
        serialize_bool(bool) => bool;
        serialize_i8(i8) => int;
        serialize_i16(i16) => int;
        serialize_i32(i32) => int;
        serialize_i64(i64) => int;
        serialize_u8(u8) => uint;
        serialize_u16(u16) => uint;
        serialize_u32(u32) => uint;
        serialize_u64(u64) => uint;
        serialize_f32(f32) => float;
        serialize_f64(f64) => float;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Written {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<OpenValues<'a, W>, Error> {
        let open = self.0.begin_list();
        Ok(OpenValues { writer: self.0, open })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<OpenValues<'a, W>, Error> {
        let open = self.0.begin_map();
        Ok(OpenValues { writer: self.0, open })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<OpenValues<'a, W>, Error> {
        self.serialize_map(None)
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
    ) -> Written {
        Err(Error)
    }
}
