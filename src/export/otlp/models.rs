//! The model calls that `spantap collect` recorded as metrics (GenAI conventions).

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter};

use crate::export::otlp::instruments::{FirstNames, InstrumentFactory};
use crate::export::otlp::semconv::{self, attribute as name, value};
use crate::record::agent::AgentRecord;
use crate::record::cost::ModelTokens;
use crate::record::words::Status;

/// Models, and words for errors, that get series of their own; the rest are `_OTHER`.
const MOST_NAMES: usize = 100;
/// Agents, providers and operations that get series of their own.
const MOST_AGENTS: usize = 20;

/// Characters of the longest word for an error.
const LONGEST_ERROR: usize = 64;
/// Characters of the longest name of an agent, model, provider or operation.
const LONGEST_NAME: usize = 128;

pub(crate) struct ModelMetrics {
    agents: FirstNames,
    providers: FirstNames,
    operations: FirstNames,
    models: FirstNames,
    errors: FirstNames,
    tokens: Histogram<f64>,
    duration: Histogram<f64>,
}

/// Returns true if the text is a word for a kind of error. An agent can put a whole message there, which is not sent.
fn is_error_word(text: &str) -> bool {
    let is_of_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    (1..=LONGEST_ERROR).contains(&text.len()) && text.bytes().all(is_of_word)
}

/// Returns the name of an agent, model, provider or operation; `_OTHER` if it is not one word. An agent can put any text there,
/// which is not sent.
fn name_or_other(text: &str) -> &str {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:@-".contains(&byte);
    let is_name = (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(is_of_name);
    if is_name { text } else { value::OTHER }
}

impl ModelMetrics {
    pub(super) fn new(meter: &Meter) -> ModelMetrics {
        let factory = InstrumentFactory(meter);
        ModelMetrics {
            agents: FirstNames::new(MOST_AGENTS),
            providers: FirstNames::new(MOST_AGENTS),
            operations: FirstNames::new(MOST_AGENTS),
            models: FirstNames::new(MOST_NAMES),
            errors: FirstNames::new(MOST_NAMES),
            tokens: factory.histogram(semconv::MODEL_TOKENS, semconv::TOKEN_BOUNDS),
            duration: factory.histogram(semconv::MODEL_CALL, semconv::MODEL_CALL_BOUNDS),
        }
    }

    /// Counts a model call. Figures that the agent did not report are left out. A record that amends an earlier one has
    /// tokens that came too late for that one, and does not make another call.
    pub(crate) fn take(&mut self, call: &AgentRecord<'_>, tokens: ModelTokens) {
        let operation = name_or_other(call.operation.as_deref().unwrap_or(value::CHAT));
        let mut attributes = vec![
            self.agents.attribute(name::GEN_AI_AGENT_NAME, name_or_other(&call.agent_name)),
            self.operations.attribute(name::GEN_AI_OPERATION_NAME, operation),
        ];
        if let Some(provider) = &call.provider {
            attributes.push(self.providers.attribute(name::GEN_AI_PROVIDER_NAME, name_or_other(provider)));
        }
        if let Some(model) = call.model.as_deref().map(name_or_other) {
            attributes.push(self.models.attribute(name::GEN_AI_REQUEST_MODEL, model));
            attributes.push(self.models.attribute(name::GEN_AI_RESPONSE_MODEL, model));
        }
        for (kind, count) in [("input", tokens.input), ("output", tokens.output)] {
            let Some(count) = count else { continue };
            attributes.push(KeyValue::new(name::GEN_AI_TOKEN_TYPE, kind));
            self.tokens.record(count as f64, &attributes);
            attributes.pop();
        }
        if let Some(duration) = call.duration_ms.as_ref().filter(|_| call.amends.is_none()) {
            if call.status == Some(Status::Error) {
                let word =
                    call.error_type.as_deref().filter(|word| is_error_word(word)).unwrap_or(value::OTHER);
                attributes.push(self.errors.attribute(name::ERROR_TYPE, word));
            }
            self.duration.record(duration.0.max(0.0) / 1000.0, &attributes);
        }
    }
}
