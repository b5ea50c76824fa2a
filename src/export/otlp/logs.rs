//! Encodes records as OTLP log records: the message is the body, every other field an attribute.

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_proto::tonic::logs::v1::SeverityNumber;
use serde::Serialize as _;

use crate::export::otlp::protobuf::{OpenMessage, ProtobufWriter, field as of_value};
use crate::export::otlp::spans::nanoseconds;
use crate::record::values::{ValueSerializer, ValueWriter, Written};
use crate::record::{Level, Record};

/// Field numbers of `LogRecord` (OTLP `logs.proto`).
mod field {
    pub(crate) const TIME: u32 = 1;
    pub(crate) const SEVERITY_NUMBER: u32 = 2;
    pub(crate) const SEVERITY_TEXT: u32 = 3;
    pub(crate) const BODY: u32 = 5;
    pub(crate) const ATTRIBUTES: u32 = 6;
    pub(crate) const FLAGS: u32 = 8;
    pub(crate) const TRACE_ID: u32 = 9;
    pub(crate) const SPAN_ID: u32 = 10;
    pub(crate) const OBSERVED_TIME: u32 = 11;
    pub(crate) const EVENT_NAME: u32 = 12;
}

/// Fields of a record that have a place of their own in an OTLP log record.
const PLACED: [&str; 6] = ["timestamp", "level", "message", "trace_id", "span_id", "trace_flags"];

pub(super) fn log(record: &Record<'_>, log: &mut ProtobufWriter) -> Written {
    let at = nanoseconds(record.timestamp);
    let (severity, word) = match record.level {
        Level::Debug => (SeverityNumber::Debug, "DEBUG"),
        Level::Info => (SeverityNumber::Info, "INFO"),
        Level::Warn => (SeverityNumber::Warn, "WARN"),
        Level::Error => (SeverityNumber::Error, "ERROR"),
    };
    log.fixed64(field::TIME, at);
    log.fixed64(field::OBSERVED_TIME, at);
    log.varint(field::SEVERITY_NUMBER, severity as u64);
    log.bytes(field::SEVERITY_TEXT, word.as_bytes());
    log.bytes(field::EVENT_NAME, record.event.as_str().as_bytes());
    log.message(field::BODY, |body| body.text_value(&record.message));
    let trace_id = record.trace_id.as_deref().and_then(|id| TraceId::from_hex(id).ok());
    let span_id = record.span_id.as_deref().and_then(|id| SpanId::from_hex(id).ok());
    if let (Some(trace_id), Some(span_id)) = (trace_id, span_id) {
        log.bytes(field::TRACE_ID, &trace_id.to_bytes());
        log.bytes(field::SPAN_ID, &span_id.to_bytes());
        let flags = record.trace_flags.as_deref().and_then(|flags| u8::from_str_radix(flags, 16).ok());
        log.fixed32(field::FLAGS, flags.unwrap_or(0).into());
    }
    record.serialize(ValueSerializer(&mut AnyValueWriter { out: log, is_record: true }))
}

/// Writes one value as the fields of an `AnyValue`, or a whole record as attributes.
struct AnyValueWriter<'a> {
    out: &'a mut ProtobufWriter,
    /// True until the record has begun.
    is_record: bool,
}

impl AnyValueWriter<'_> {
    fn value(&mut self, field: u32, value: impl FnOnce(&mut Self) -> Written) -> Written {
        let any_value = self.out.begin(field);
        value(self)?;
        self.out.end(any_value);
        Ok(())
    }
}

impl ValueWriter for AnyValueWriter<'_> {
    /// The message of the list or map, and the field number of its items. The record itself has no message.
    type Open = (Option<OpenMessage>, u32);

    fn text(&mut self, text: &str) {
        self.out.text_value(text);
    }

    fn bool(&mut self, value: bool) {
        self.out.bool_value(value);
    }

    fn int(&mut self, value: i64) {
        self.out.int_value(value);
    }

    fn uint(&mut self, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.out.int_value(value),
            Err(_) => self.out.double_value(value as f64),
        }
    }

    fn float(&mut self, value: f64) {
        self.out.double_value(value);
    }

    fn begin_list(&mut self) -> Self::Open {
        (Some(self.out.begin(of_value::ARRAY_VALUE)), of_value::VALUES)
    }

    fn begin_map(&mut self) -> Self::Open {
        match std::mem::take(&mut self.is_record) {
            true => (None, field::ATTRIBUTES),
            false => (Some(self.out.begin(of_value::KVLIST_VALUE)), of_value::VALUES),
        }
    }

    fn end(&mut self, (message, _): Self::Open) {
        if let Some(message) = message {
            self.out.end(message);
        }
    }

    fn item(&mut self, (_, items): &Self::Open, value: impl FnOnce(&mut Self) -> Written) -> Written {
        self.value(*items, value)
    }

    fn entry(
        &mut self,
        (_, entries): &Self::Open,
        key: impl FnOnce(&mut Self) -> Written,
        value: impl FnOnce(&mut Self) -> Written,
    ) -> Written {
        // A text is written as field 1, which is the key of a `KeyValue` too.
        const { assert!(of_value::KEY == of_value::STRING_VALUE) };
        self.value(*entries, |entry| {
            key(entry)?;
            entry.value(of_value::VALUE, value)
        })
    }

    fn takes(&self, name: &'static str) -> bool {
        !PLACED.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
    use opentelemetry_proto::tonic::logs::v1::LogRecord;
    use prost::Message;
    use serde_json::{Map, Value};

    use super::*;
    use crate::record::timestamp::Timestamp;
    use crate::record::words::Status;
    use crate::record::{EventName, Millis, Totals};

    fn json(value: AnyValue) -> Value {
        use any_value::Value as Kind;
        match value.value.unwrap() {
            Kind::StringValue(text) => text.into(),
            Kind::BoolValue(value) => value.into(),
            Kind::IntValue(value) => value.into(),
            Kind::DoubleValue(value) => value.into(),
            Kind::ArrayValue(list) => list.values.into_iter().map(json).collect(),
            Kind::KvlistValue(list) => members(list.values).into(),
            other => panic!("{other:?}"),
        }
    }

    fn members(list: Vec<KeyValue>) -> Map<String, Value> {
        list.into_iter().map(|member| (member.key, json(member.value.unwrap()))).collect()
    }

    #[test]
    fn every_field_of_a_record_is_an_attribute_or_has_a_place_of_its_own() {
        let record = Record {
            timestamp: Timestamp(1_700_000_000_000_001),
            level: Level::Warn,
            event: EventName::SessionEnded,
            message: "said".into(),
            seq: 1 << 40,
            error_code: Some(-7),
            duration_ms: Some(Millis(3.0)),
            status: Some(Status::Error),
            truncated: Some(true),
            command: Some(vec!["a".into(), "".into()]),
            dropped: Some([("log:queue_full".into(), 3), ("otlp:shutdown".into(), 300)].into()),
            totals: Some(Totals { errors: 5, ..Totals::default() }),
            text: Some("long ".repeat(60_000).into()),
            trace_id: Some("0af7651916cd43dd8448eb211c80319c".into()),
            span_id: Some("b7ad6b7169203331".into()),
            trace_flags: Some("03".into()),
            ..Record::default()
        };
        let mut encoded = ProtobufWriter::default();
        log(&record, &mut encoded).unwrap();
        let log = LogRecord::decode(encoded.as_bytes()).unwrap();
        let Value::Object(mut fields) = serde_json::to_value(&record).unwrap() else { panic!("a record") };
        PLACED.iter().for_each(|name| drop(fields.remove(*name).unwrap()));
        assert_eq!(members(log.attributes), fields);
        assert_eq!(log.time_unix_nano, 1_700_000_000_000_001_000);
        assert_eq!((log.severity_text.as_str(), log.severity_number), ("WARN", 13));
        assert_eq!((log.event_name.as_str(), json(log.body.unwrap())), ("session_ended", "said".into()));
        assert_eq!((log.trace_id.len(), log.span_id.len(), log.flags), (16, 8, 3));
    }
}
