//! Records as OTLP log records: the message is the body, every other field an attribute.

use std::time::{Duration, SystemTime};

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::trace::{SpanId, TraceFlags, TraceId};
use opentelemetry_sdk::logs::{SdkLogRecord, SdkLogger, SdkLoggerProvider};
use serde_json::Value;

use crate::export::otlp::semconv;
use crate::record::{Level, Record};

/// Makes log records.
#[derive(Debug)]
pub struct LogBuilder(SdkLogger);

impl Default for LogBuilder {
    fn default() -> LogBuilder {
        LogBuilder(SdkLoggerProvider::builder().build().logger(semconv::SCOPE))
    }
}

/// Fields that have a place of their own in an OTLP log record.
const PLACED: [&str; 6] = ["timestamp", "level", "message", "trace_id", "span_id", "trace_flags"];

impl LogBuilder {
    pub fn log(&self, record: &Record<'_>) -> SdkLogRecord {
        let mut log = self.0.create_log_record();
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(record.timestamp.0.unsigned_abs());
        log.set_timestamp(at);
        log.set_observed_timestamp(at);
        let (severity, word) = match record.level {
            Level::Debug => (Severity::Debug, "DEBUG"),
            Level::Info => (Severity::Info, "INFO"),
            Level::Warn => (Severity::Warn, "WARN"),
            Level::Error => (Severity::Error, "ERROR"),
        };
        log.set_severity_number(severity);
        log.set_severity_text(word);
        log.set_event_name(record.event.as_str());
        log.set_body(AnyValue::from(record.message.to_string()));
        let trace_id = record.trace_id.as_deref().and_then(|id| TraceId::from_hex(id).ok());
        let span_id = record.span_id.as_deref().and_then(|id| SpanId::from_hex(id).ok());
        if let (Some(trace_id), Some(span_id)) = (trace_id, span_id) {
            let flags = record.trace_flags.as_deref().and_then(|flags| u8::from_str_radix(flags, 16).ok());
            log.set_trace_context(trace_id, span_id, flags.map(TraceFlags::new));
        }
        if let Ok(Value::Object(fields)) = serde_json::to_value(record) {
            for (name, value) in fields {
                if !PLACED.contains(&name.as_str())
                    && let Some(value) = any(value)
                {
                    log.add_attribute(name, value);
                }
            }
        }
        log
    }
}

fn any(value: Value) -> Option<AnyValue> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => AnyValue::Boolean(value),
        Value::Number(number) => match number.as_i64() {
            Some(number) => AnyValue::Int(number),
            None => AnyValue::Double(number.as_f64()?),
        },
        Value::String(text) => AnyValue::from(text),
        Value::Array(items) => AnyValue::ListAny(Box::new(items.into_iter().filter_map(any).collect())),
        Value::Object(members) => AnyValue::Map(Box::new(
            members.into_iter().filter_map(|(key, value)| Some((key.into(), any(value)?))).collect(),
        )),
    })
}
