//! Reads a TOML value into a type, with errors that are kinds: serde's own messages quote the value, which
//! may be a secret.

use std::fmt::Display;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use toml::Value;

/// The reason why a value does not fit a type.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{self:?}")]
pub(super) enum Misfit {
    /// The table has other entries: these.
    UnknownEntry(&'static [&'static str]),
    /// The text has to be one of these words.
    UnknownWord(&'static [&'static str]),
    /// The value has to be of this type, if it is known.
    Type(Option<&'static str>),
    Other,
}

impl de::Error for Misfit {
    fn custom<T: Display>(_: T) -> Misfit {
        Misfit::Other
    }

    fn invalid_type(_: Unexpected<'_>, _: &dyn Expected) -> Misfit {
        Misfit::Type(None)
    }

    fn invalid_value(_: Unexpected<'_>, _: &dyn Expected) -> Misfit {
        Misfit::Type(None)
    }

    fn unknown_field(_: &str, names: &'static [&'static str]) -> Misfit {
        Misfit::UnknownEntry(names)
    }

    fn unknown_variant(_: &str, words: &'static [&'static str]) -> Misfit {
        Misfit::UnknownWord(words)
    }
}

/// Reads `value` as a `T`.
pub(super) fn read<T: DeserializeOwned>(value: Value) -> Result<T, Misfit> {
    T::deserialize(TomlEntry(value))
}

struct TomlEntry(Value);

impl<'de> IntoDeserializer<'de, Misfit> for TomlEntry {
    type Deserializer = TomlEntry;

    fn into_deserializer(self) -> TomlEntry {
        self
    }
}

/// Deserializes any value, and names the expected type in the error.
macro_rules! typed {
    ($($method:ident: $expected:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            self.deserialize_any(visitor).map_err(|misfit| match misfit {
                Misfit::Type(None) => Misfit::Type(Some($expected)),
                other => other,
            })
        })*
    };
}

impl<'de> Deserializer<'de> for TomlEntry {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::String(text) => visitor.visit_string(text),
            Value::Integer(number) => visitor.visit_i64(number),
            Value::Float(number) => visitor.visit_f64(number),
            Value::Boolean(is_true) => visitor.visit_bool(is_true),
            Value::Datetime(_) => Err(Misfit::Type(None)),
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(TomlEntry))),
            Value::Table(table) => visitor.visit_map(MapDeserializer::new(
                table.into_iter().map(|(key, value)| (key, TomlEntry(value))),
            )),
        }
    }

    typed! {
        deserialize_bool: "true or false";
        deserialize_u64: "a number";
        deserialize_f64: "a number";
        deserialize_string: "a text";
        deserialize_seq: "a list";
        deserialize_map: "a table of texts";
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::String(word) => visitor.visit_enum(word.into_deserializer()),
            _ => Err(Misfit::Type(Some("a text"))),
        }
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 char str bytes byte_buf unit unit_struct tuple tuple_struct
        struct identifier ignored_any
    }
}
