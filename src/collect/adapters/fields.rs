//! Reads the attributes that a table names into a record. Every text passes the redactor here.

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use serde_json::Value as Json;

use super::table::{AgentTable, EXCEPTION, FieldSlot, Fields, Row};
use super::{SentItem, opencode, redacted, value_of};
use crate::observe::redact::{Field, Redactor};
use crate::record::agent::AgentRecord;
use crate::record::words::{CostSource, Decider, Status, ToolDecision};
use crate::record::{EventName, Millis};
use crate::text::hex;

/// Longest attribute that is read as a JSON object, which takes many times its bytes as a tree.
const MOST_OF_OBJECT: usize = 64 << 10;

/// Longest id, and longest name of a model, a provider or an operation.
const LONGEST_WORD: usize = 256;
/// Most words of a span's name.
const MOST_WORDS: usize = 3;
/// Longest word for the kind of an error.
const LONGEST_ERROR: usize = 64;
/// Stands for a name or the kind of an error that is not a word.
pub(super) const OTHER: &str = "_OTHER";

/// Largest number that is read. An agent means no number above it, and a time of that length can be calculated with.
const MOST_NUMBER: f64 = 1e15;

pub(super) struct FieldReader<'f, 'r> {
    pub(super) redactor: &'f mut Redactor,
    pub(super) item: &'f SentItem<'r>,
    pub(super) record: &'f mut AgentRecord<'static>,
}

impl FieldReader<'_, '_> {
    pub(super) fn read(&mut self, fields: Fields) {
        for (slot, attribute) in fields {
            let SentItem { attributes, resource, .. } = *self.item;
            if let Some((name, member)) = attribute.split_once('#') {
                if let Some(value) = member_of(self.item, name, member) {
                    self.set(*slot, &value, None);
                }
            } else if *attribute == EXCEPTION {
                if let Some(value) = self.item.exception() {
                    self.set(*slot, value, None);
                }
            } else if let Some(value) = value_of(attributes, attribute) {
                self.set(*slot, value, None);
            } else if let Some(value) = resource.value(attribute) {
                self.set(*slot, value, Some(attribute));
            }
        }
    }

    /// Sets a field to a value, which the attribute `shared` of the resource has, if that is not `None`.
    fn set(&mut self, slot: FieldSlot, value: &Value, shared: Option<&'static str>) {
        let record = &mut *self.record;
        let (id, name) = (Field::Id, Field::Name);
        let (redactor, resource) = (&mut *self.redactor, self.item.resource);
        let mut text = |field| match (value, shared) {
            (Value::StringValue(text), _) if text.is_empty() => None,
            (Value::StringValue(text), Some(name)) => Some(resource.redacted(name, field, text, redactor)),
            (Value::StringValue(text), None) => Some(redacted(redactor, field, text)),
            _ => None,
        };
        // An agent can put any text there, also a prompt.
        let is_word = holds(value, is_word);
        let mut word = |field| if is_word { text(field) } else { None };
        match slot {
            FieldSlot::Session if record.session_id.is_empty() => {
                if let Some(text) = word(id) {
                    record.session_id = text;
                }
            }
            FieldSlot::Session => {}
            FieldSlot::Conversation => first(&mut record.conversation_id, || word(id)),
            FieldSlot::Turn => first(&mut record.turn_id, || word(id)),
            FieldSlot::Version => first(&mut record.agent_version, || word(name)),
            FieldSlot::Pid => first(&mut record.host_pid, || u32::try_from(whole(value)?).ok()),
            FieldSlot::Provider => first_word(&mut record.provider, is_word, || text(name)),
            FieldSlot::Operation => first_word(&mut record.operation, is_word, || text(name)),
            FieldSlot::Model => first_word(&mut record.model, is_word, || text(name)),
            FieldSlot::InputTokens => first(&mut record.input_tokens, || whole(value)),
            FieldSlot::MoreInputTokens => more(&mut record.input_tokens, value),
            FieldSlot::OutputTokens => first(&mut record.output_tokens, || whole(value)),
            FieldSlot::MoreOutputTokens => more(&mut record.output_tokens, value),
            FieldSlot::CachedTokens => first(&mut record.cached_tokens, || whole(value)),
            FieldSlot::CacheWriteTokens => first(&mut record.cache_write_tokens, || whole(value)),
            FieldSlot::CostUsd => {
                first(&mut record.cost_usd, || number(value));
                record.cost_source = record.cost_usd.map(|_| CostSource::Agent);
            }
            FieldSlot::FirstTokenMs => first(&mut record.first_token_ms, || millis(value)),
            FieldSlot::Attempt => first(&mut record.attempt, || whole(value)),
            FieldSlot::AttemptFromZero => first(&mut record.attempt, || whole(value)?.checked_add(1)),
            FieldSlot::CallIds => first(&mut record.call_ids, || Some(vec![word(id)?])),
            FieldSlot::CallId => first(&mut record.call_id, || word(id)),
            FieldSlot::ToolName => first_word(&mut record.tool_name, is_word, || text(name)),
            FieldSlot::ToolServer => first(&mut record.tool_server, || text(name)),
            FieldSlot::Decision => first(&mut record.decision, || decision(value)),
            FieldSlot::DecidedBy => first(&mut record.decided_by, || decider(value)),
            FieldSlot::Duration => first(&mut record.duration_ms, || millis(value)),
            FieldSlot::Success => first(&mut record.status, || success(value)),
            FieldSlot::ErrorType => {
                first_word(&mut record.error_type, holds(value, is_error_word), || match value {
                    Value::IntValue(code) => Some(code.to_string().into()),
                    _ => text(name),
                });
            }
        }
    }

    /// Sets the provider and the operation of a model call that does not name its own.
    pub(super) fn defaults(&mut self, table: &AgentTable) {
        let known = |word: &'static str| (!word.is_empty()).then_some(Cow::Borrowed(word));
        first(&mut self.record.provider, || known(table.provider));
        first(&mut self.record.operation, || known(table.operation));
    }

    /// Adds the tokens of the cache to an input that does not contain them: by the table of the agent, or because it is
    /// smaller than they are.
    pub(super) fn add_cache(&mut self, table: &AgentTable) {
        let AgentRecord { input_tokens, cached_tokens, cache_write_tokens, .. } = self.record;
        let cache = cached_tokens.unwrap_or(0).saturating_add(cache_write_tokens.unwrap_or(0));
        if let Some(input) = input_tokens.as_mut().filter(|input| !table.input_has_cached || **input < cache)
        {
            *input = input.saturating_add(cache);
        }
    }

    /// Sets the ids, times and status that the item itself has.
    pub(super) fn times_and_ids(&mut self, row: &Row) {
        let SentItem { trace, span, parent, started, .. } = *self.item;
        let record = &mut *self.record;
        let id = |bytes: &[u8], length| (bytes.len() == length).then(|| hex::text(bytes).into());
        let (begin, end) = self.item.times();
        record.timestamp = end;
        if row.has_times {
            record.trace_id = id(trace, 16);
            record.span_id = id(span, 8);
            record.parent_span_id = id(parent, 8);
            record.ended_at = Some(end);
            if started.is_some() {
                record.started_at = Some(begin);
                record.duration_ms = Some(Millis(begin.ms_until(end)));
            } else if let Some(Millis(ms)) = record.duration_ms {
                record.started_at = Some(end.plus_ms(-ms));
            }
        }
        if row.is_failure {
            record.status = Some(Status::Error);
        } else if row.has_status && record.status.is_none() {
            record.status = self.item.status;
        }
        if row.event == EventName::AgentTool
            && opencode::REFUSALS.iter().any(|refusal| self.item.status_message.starts_with(refusal))
        {
            record.decision = Some(ToolDecision::Refused);
        }
    }

    /// Sets the time of a span as that for which a person was asked, if a person decided.
    pub(super) fn person_wait(&mut self) {
        if self.record.decided_by == Some(Decider::User) {
            let (begin, end) = self.item.times();
            self.record.person_wait_ms = Some(Millis(begin.ms_until(end)));
        }
    }
}

fn first<T>(field: &mut Option<T>, value: impl FnOnce() -> Option<T>) {
    if field.is_none() {
        *field = value();
    }
}

/// Sets a field that has no word to a text: to [`OTHER`] if the text is not a word.
fn first_word(
    field: &mut Option<Cow<'static, str>>,
    is_word: bool,
    text: impl FnOnce() -> Option<Cow<'static, str>>,
) {
    if field.as_deref().is_none_or(|known| known == OTHER) {
        let word = if is_word { text() } else { Some(OTHER.into()) };
        *field = word.or(field.take());
    }
}

/// Returns false for a text that is not empty and not of the form that `is_word` accepts.
fn holds(value: &Value, is_word: fn(&str) -> bool) -> bool {
    match value {
        Value::StringValue(text) => text.is_empty() || is_word(text),
        _ => true,
    }
}

/// Returns true for a text that can be an id, or the name of a model, a provider, an operation or a version. Sentences
/// have blanks, or letters of another alphabet.
fn is_word(text: &str) -> bool {
    (1..=LONGEST_WORD).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Returns true for a text that can be the name of a span: of one to three words, such as `tools/call add` and
/// `router - /mcp`.
pub(super) fn is_span_name(text: &str) -> bool {
    text.len() <= LONGEST_WORD && text.split(' ').count() <= MOST_WORDS && text.split(' ').all(is_word)
}

/// Returns true for a text that can be the kind of an error.
fn is_error_word(text: &str) -> bool {
    let is_of_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-:/".contains(&byte);
    (1..=LONGEST_ERROR).contains(&text.len()) && text.bytes().all(is_of_word)
}

/// Adds the number in `value` to a count that is known.
fn more(count: &mut Option<u64>, value: &Value) {
    *count = count.map(|count| count.saturating_add(whole(value).unwrap_or(0)));
}

fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::IntValue(number) => *number as f64,
        Value::DoubleValue(number) => *number,
        Value::StringValue(text) => text.parse().ok()?,
        _ => return None,
    };
    (0.0..=MOST_NUMBER).contains(&number).then_some(number)
}

fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::IntValue(number) => u64::try_from(*number).ok(),
        Value::StringValue(text) => text.parse().ok(),
        // Whole numbers up to 2^53 are exact.
        _ => {
            number(value).filter(|number| number.fract() == 0.0 && *number < 9e15).map(|number| number as u64)
        }
    }
}

fn millis(value: &Value) -> Option<Millis> {
    Some(Millis((number(value)? * 1000.0).round() / 1000.0))
}

fn success(value: &Value) -> Option<Status> {
    let is_ok = match value {
        Value::BoolValue(is_ok) => *is_ok,
        Value::StringValue(text) => text.parse().ok()?,
        _ => return None,
    };
    Some(if is_ok { Status::Ok } else { Status::Error })
}

/// Returns the decision that an agent's word means.
fn decision(value: &Value) -> Option<ToolDecision> {
    let Value::StringValue(word) = value else { return None };
    match word.as_str() {
        "accept"
        | "auto_accept"
        | "modify"
        | "approved"
        | "approved_for_session"
        | "approved_execpolicy_amendment" => Some(ToolDecision::Allowed),
        "reject" | "cancelled" | "denied" | "abort" | "timed_out" | "policy_violation" => {
            Some(ToolDecision::Refused)
        }
        _ => None,
    }
}

/// Returns the maker of the decision that an agent's word means.
fn decider(value: &Value) -> Option<Decider> {
    let Value::StringValue(word) = value else { return None };
    match word.as_str() {
        "config" | "Config" | "policy_violation" => Some(Decider::Config),
        "hook" => Some(Decider::Hook),
        "User" | "user" | "user_permanent" | "user_temporary" | "user_abort" | "user_reject" => {
            Some(Decider::User)
        }
        "AutomatedReviewer" | "automated_reviewer" | "classifier" => Some(Decider::Agent),
        _ => None,
    }
}

/// Returns a text that is a member of the JSON object in an attribute.
fn member_of(item: &SentItem<'_>, name: &str, member: &str) -> Option<Value> {
    let Value::StringValue(object) = value_of(item.attributes, name)? else { return None };
    let object = Some(object).filter(|object| object.len() <= MOST_OF_OBJECT)?;
    let object: serde_json::Map<String, Json> = serde_json::from_str(object).ok()?;
    Some(Value::StringValue(object.get(member)?.as_str()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::adapters::resource::SentResource;
    use crate::collect::adapters::tests::attribute;
    use opentelemetry_proto::tonic::logs::v1::LogRecord;

    #[test]
    fn a_number_that_means_nothing_is_not_read() {
        let read = |number: f64| millis(&Value::DoubleValue(number)).map(|Millis(ms)| ms);
        assert_eq!([0.0, 1.5, 1e15].map(read), [Some(0.0), Some(1.5), Some(1e15)]);
        assert_eq!([-1.0, 1e16, f64::MAX, f64::INFINITY, f64::NAN].map(read), [None; 5]);
        let text = Value::StringValue("1e308".to_owned());
        assert_eq!((number(&text), whole(&Value::IntValue(-1))), (None, None));
    }

    #[test]
    fn a_long_attribute_is_not_read_as_an_object() {
        let member = |padding: usize| {
            let object = format!(r#"{{"name":"a","rest":"{}"}}"#, "x".repeat(padding));
            let log = LogRecord { attributes: vec![attribute("input", &object)], ..LogRecord::default() };
            member_of(&SentItem::of_log(&log, &SentResource::new(None), 0), "input", "name").is_some()
        };
        assert_eq!([0, 60 << 10, 64 << 10].map(member), [true, true, false]);
    }

    #[test]
    fn a_text_that_is_not_a_word_is_no_id_and_no_name() {
        let sentence = "please translate my diary";
        let read = |texts: &[(FieldSlot, &str)]| {
            let (resource, log) = (SentResource::new(None), LogRecord::default());
            let item = SentItem::of_log(&log, &resource, 0);
            let (mut redactor, mut record) = (Redactor::default(), AgentRecord::default());
            let mut fields = FieldReader { redactor: &mut redactor, item: &item, record: &mut record };
            for (slot, text) in texts {
                fields.set(*slot, &Value::StringValue((*text).to_owned()), None);
            }
            record
        };
        let ids = [FieldSlot::Session, FieldSlot::Conversation, FieldSlot::Turn, FieldSlot::Version];
        let ids = [&ids[..], &[FieldSlot::CallId, FieldSlot::CallIds]].concat();
        for text in [sentence, "translate\u{a0}it", "請翻譯我的日記", &"x".repeat(257)] {
            let given: Vec<_> = ids.iter().map(|slot| (*slot, text)).collect();
            assert_eq!(read(&given), AgentRecord::default(), "{text}");
            let names = read(&[(FieldSlot::Model, text), (FieldSlot::Provider, text)]);
            assert_eq!((names.model.as_deref(), names.provider.as_deref()), (Some(OTHER), Some(OTHER)));
        }
        let tool = |text: &str| read(&[(FieldSlot::ToolName, text)]).tool_name.map(Cow::into_owned);
        assert_eq!(tool(sentence).as_deref(), Some(OTHER));
        assert_eq!(tool("mcp__files__read-file").as_deref(), Some("mcp__files__read-file"));
        for name in ["SELECT", "tools/call get-sum", "router - /mcp"] {
            assert!(is_span_name(name), "{name}");
        }
        for name in [sentence, "", "two  blanks", "請翻譯我的日記", &"x".repeat(257)] {
            assert!(!is_span_name(name), "{name}");
        }
        for model in ["claude-opus-5[1m]", "us.anthropic.claude:0", "accounts/x/models/y@2", "llama3:8b"] {
            assert_eq!(read(&[(FieldSlot::Model, model)]).model.as_deref(), Some(model));
        }
        let error = |texts: &[&str]| {
            let given: Vec<_> = texts.iter().map(|text| (FieldSlot::ErrorType, *text)).collect();
            read(&given).error_type.map(Cow::into_owned)
        };
        for word in ["429", "AI_APICallError", "openai.RateLimitError", "reqwest::Error", "http/500"] {
            assert_eq!(error(&[word]).as_deref(), Some(word));
        }
        for text in [sentence, "prompt=diary", &"x".repeat(65)] {
            assert_eq!(error(&[text]).as_deref(), Some(OTHER));
        }
        // The next attribute can have a word.
        assert_eq!(error(&[sentence, "client_error", "later"]).as_deref(), Some("client_error"));
        assert_eq!(error(&["client_error", sentence]).as_deref(), Some("client_error"));
    }
}
