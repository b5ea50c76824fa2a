//! Protobuf messages, written field by field from borrowed values.
//!
//! `prost` encodes owned structs only. A span has about twenty attributes, so building them first costs
//! fifty allocations a span. Source: Protocol Buffers, "Encoding".

use std::io;

/// Wire types.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;
const FIXED32: u32 = 5;

/// Field numbers of `KeyValue` and `AnyValue` (OTLP `common.proto`).
pub(super) mod field {
    pub(crate) const KEY: u32 = 1;
    pub(crate) const VALUE: u32 = 2;
    pub(crate) const STRING_VALUE: u32 = 1;
    pub(crate) const BOOL_VALUE: u32 = 2;
    pub(crate) const INT_VALUE: u32 = 3;
    pub(crate) const DOUBLE_VALUE: u32 = 4;
    pub(crate) const ARRAY_VALUE: u32 = 5;
    pub(crate) const KVLIST_VALUE: u32 = 6;
    /// Of `ArrayValue` and `KeyValueList`.
    pub(crate) const VALUES: u32 = 1;
}

/// A message whose length is not known yet.
pub(super) struct OpenMessage {
    fields_at: usize,
}

#[derive(Debug, Default)]
pub(super) struct ProtobufWriter {
    bytes: Vec<u8>,
}

impl ProtobufWriter {
    pub(super) fn with_capacity(bytes: usize) -> ProtobufWriter {
        ProtobufWriter { bytes: Vec::with_capacity(bytes) }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    pub(super) fn fields(&mut self, encoded: &[u8]) {
        self.bytes.extend_from_slice(encoded);
    }

    /// Appends encoded fields that `from` yields.
    pub(super) fn fields_from(&mut self, mut from: impl io::Read) -> io::Result<()> {
        from.read_to_end(&mut self.bytes).map(drop)
    }

    /// Splits after the first `count` fields, all of which have lengths. Returns the others.
    pub(super) fn split_off_fields(&mut self, count: usize) -> ProtobufWriter {
        let mut at = 0;
        for _ in 0..count {
            at += 1;
            let mut length = 0;
            for shift in (0..).step_by(7) {
                let byte = self.bytes[at];
                at += 1;
                length |= usize::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            at += length;
        }
        ProtobufWriter { bytes: self.bytes.split_off(at) }
    }

    pub(super) fn varint(&mut self, field: u32, value: u64) {
        self.key(field, VARINT);
        self.raw_varint(value);
    }

    pub(super) fn fixed32(&mut self, field: u32, value: u32) {
        self.key(field, FIXED32);
        self.fields(&value.to_le_bytes());
    }

    pub(super) fn fixed64(&mut self, field: u32, value: u64) {
        self.key(field, FIXED64);
        self.fields(&value.to_le_bytes());
    }

    pub(super) fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.key(field, LENGTH_DELIMITED);
        self.raw_varint(bytes.len() as u64);
        self.fields(bytes);
    }

    /// Appends a message whose fields `write` writes.
    pub(super) fn message(&mut self, field: u32, write: impl FnOnce(&mut ProtobufWriter)) {
        let message = self.begin(field);
        write(self);
        self.end(message);
    }

    /// Begins a message, which [`ProtobufWriter::end`] ends.
    pub(super) fn begin(&mut self, field: u32) -> OpenMessage {
        self.key(field, LENGTH_DELIMITED);
        // Most messages are short, and then their length is one byte.
        self.bytes.push(0);
        OpenMessage { fields_at: self.bytes.len() }
    }

    pub(super) fn end(&mut self, OpenMessage { fields_at }: OpenMessage) {
        let length = self.bytes.len() - fields_at;
        if length < 0x80 {
            self.bytes[fields_at - 1] = length as u8;
        } else {
            let mut prefix = ProtobufWriter::default();
            prefix.raw_varint(length as u64);
            self.bytes.splice(fields_at - 1..fields_at, prefix.bytes);
        }
    }

    /// Appends a `KeyValue` whose `AnyValue` `write` writes.
    pub(super) fn attribute(&mut self, field: u32, key: &str, write: impl FnOnce(&mut ProtobufWriter)) {
        self.message(field, |attribute| {
            attribute.bytes(field::KEY, key.as_bytes());
            attribute.message(field::VALUE, write);
        });
    }

    pub(super) fn text_attribute(&mut self, field: u32, key: &str, text: &str) {
        self.attribute(field, key, |value| value.text_value(text));
    }

    pub(super) fn int_attribute(&mut self, field: u32, key: &str, int: u64) {
        self.attribute(field, key, |value| value.int_value(i64::try_from(int).unwrap_or(i64::MAX)));
    }

    pub(super) fn text_value(&mut self, text: &str) {
        self.bytes(field::STRING_VALUE, text.as_bytes());
    }

    pub(super) fn bool_value(&mut self, value: bool) {
        self.varint(field::BOOL_VALUE, u64::from(value));
    }

    pub(super) fn int_value(&mut self, value: i64) {
        self.varint(field::INT_VALUE, value as u64);
    }

    pub(super) fn double_value(&mut self, value: f64) {
        self.fixed64(field::DOUBLE_VALUE, value.to_bits());
    }

    fn key(&mut self, field: u32, wire_type: u32) {
        self.raw_varint(u64::from(field << 3 | wire_type));
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}
