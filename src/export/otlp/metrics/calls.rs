//! Instruments of operations, and the totals of a session.

use std::collections::{BTreeSet, HashMap, HashSet};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Gauge, Histogram};

use crate::export::otlp::instruments::{FirstNames, InstrumentFactory, ServerLabel};
use crate::export::otlp::semconv::{self, attribute as name};
use crate::export::otlp::spans::{is_error_of, is_receiver};
use crate::observe::event::{CallTarget, ErrorType, Event, Operation, Status, ToolsListed};
use crate::observe::mcp::{Method, known_request};
use crate::observe::redact::Redacted;
use crate::observe::turns::RecentValues;
use crate::record::cost::{Charge, Prices};
use crate::record::tokens;
use crate::record::words::Side;

/// Tools, and prompts, of one server that get series of their own; the rest are `_OTHER`.
pub(super) const MAX_TOOLS: usize = 200;
pub(super) const OTHER: &str = semconv::value::OTHER;
/// Codes of errors, and versions of the protocol, that get series of their own.
const MOST_VALUES: usize = 50;

pub(super) struct CallMetrics {
    label: ServerLabel,
    side: Side,
    server: String,
    prices: Prices,
    /// Tools of the last `tools/list` answers.
    tools: ListedNames,
    /// Prompts of the last `prompts/list` answers.
    prompts: ListedNames,
    codes: FirstNames,
    versions: FirstNames,
    repeats: HashMap<String, ToolRepeats>,
    /// Conversations and turns that were counted.
    turns: RecentValues,
    totals: CallCounts,
    server_operation: Histogram<f64>,
    client_operation: Histogram<f64>,
    tool_repeats: Gauge<u64>,
    gauges: TotalGauges,
}

/// The first names that the server listed.
#[derive(Default)]
struct ListedNames(BTreeSet<String>);

impl ListedNames {
    fn add<'a>(&mut self, names: impl IntoIterator<Item = &'a Redacted>) {
        for name in names {
            if self.0.len() == MAX_TOOLS {
                return;
            }
            self.0.insert(name.as_str().to_owned());
        }
    }

    /// Returns the name if the server listed it.
    fn label<'a>(&self, name: &'a str) -> &'a str {
        if self.0.contains(name) { name } else { OTHER }
    }
}

/// Most identical calls of one tool so far.
#[derive(Default)]
struct ToolRepeats {
    most: u64,
    /// The tool was called or listed since the gauge was recorded.
    is_new: bool,
}

/// Totals of a session. They are recorded every second in which there is traffic, not for each call: the
/// gauges would cost more than the histogram.
#[derive(Default)]
struct CallCounts {
    calls: u64,
    called_tools: HashSet<String>,
    turns: u64,
    denials: u64,
    /// Of definitions, arguments and results.
    tokens: [u64; 3],
    charged: Charge,
}

/// Gauges of the totals, with the attributes of their points.
struct TotalGauges {
    label: Vec<KeyValue>,
    calls: Gauge<u64>,
    tools: Gauge<u64>,
    turns: Gauge<u64>,
    denials: Gauge<u64>,
    tokens: Gauge<u64>,
    kinds_of_tokens: [Vec<KeyValue>; 3],
    cost: Gauge<f64>,
    /// Of all tokens and of all calls.
    kinds_of_cost: [Vec<KeyValue>; 2],
}

impl TotalGauges {
    fn new(factory: &InstrumentFactory<'_>, label: &ServerLabel) -> TotalGauges {
        let tokens = ["definitions", "arguments", "results"];
        TotalGauges {
            label: label.with([]),
            calls: factory.gauge(semconv::SESSION_TOOL_CALLS),
            tools: factory.gauge(semconv::SESSION_TOOLS),
            turns: factory.gauge(semconv::SESSION_TURNS),
            denials: factory.gauge(semconv::SESSION_DENIALS),
            tokens: factory.gauge(semconv::SESSION_TOKENS),
            kinds_of_tokens: tokens.map(|kind| label.and(name::SPANTAP_TOKEN_KIND, kind)),
            cost: factory.float_gauge(semconv::SESSION_COST),
            kinds_of_cost: ["llm_estimate", "mcp"].map(|kind| label.and(name::SPANTAP_COST_KIND, kind)),
        }
    }

    fn record(&self, totals: &CallCounts, prices: &Prices) {
        self.calls.record(totals.calls, &self.label);
        self.tools.record(totals.called_tools.len() as u64, &self.label);
        self.turns.record(totals.turns, &self.label);
        self.denials.record(totals.denials, &self.label);
        for (kind, tokens) in self.kinds_of_tokens.iter().zip(totals.tokens) {
            self.tokens.record(tokens, kind);
        }
        let [of_tokens, of_calls] = &self.kinds_of_cost;
        if let Some(usd) = prices.tokens(totals.tokens.iter().sum()) {
            self.cost.record(usd, of_tokens);
        }
        if prices.has_calls() {
            self.cost.record(totals.charged.usd(), of_calls);
        }
    }
}

impl CallMetrics {
    pub(super) fn new(
        factory: &InstrumentFactory<'_>,
        label: ServerLabel,
        side: Side,
        server: &str,
        prices: Prices,
    ) -> CallMetrics {
        let mut metrics = CallMetrics {
            side,
            server: server.to_owned(),
            prices,
            tools: ListedNames::default(),
            prompts: ListedNames::default(),
            codes: FirstNames::new(MOST_VALUES),
            versions: FirstNames::new(MOST_VALUES),
            repeats: HashMap::new(),
            turns: RecentValues::default(),
            totals: CallCounts::default(),
            server_operation: factory.histogram(semconv::SERVER_OPERATION, semconv::OPERATION_BOUNDS),
            client_operation: factory.histogram(semconv::CLIENT_OPERATION, semconv::OPERATION_BOUNDS),
            tool_repeats: factory.gauge(semconv::SESSION_REPEATS),
            gauges: TotalGauges::new(factory, &label),
            label,
        };
        metrics.record_totals();
        metrics
    }

    pub(super) fn record_totals(&mut self) {
        self.gauges.record(&self.totals, &self.prices);
        for (tool, repeats) in &mut self.repeats {
            if std::mem::take(&mut repeats.is_new) {
                let tool = self.label.and(name::GEN_AI_TOOL_NAME, tool.clone());
                self.tool_repeats.record(repeats.most, &tool);
            }
        }
    }

    /// Takes a listing, and the tokens of all tools that are listed since then.
    pub(super) fn tools_listed(&mut self, listed: &ToolsListed, definition_tokens: u64) {
        self.tools.add(listed.tools.iter().map(|tool| &tool.name));
        for tool in &self.tools.0 {
            self.repeats.entry(tool.clone()).or_default().is_new = true;
        }
        self.totals.tokens[0] = definition_tokens;
    }

    pub(super) fn prompts_listed(&mut self, names: &[Redacted]) {
        self.prompts.add(names);
    }

    pub(super) fn operation(&mut self, operation: &Operation, event: &Event) {
        let tool = match &operation.facts.target {
            Some(CallTarget::Tool(tool)) => Some(tool.as_str()),
            _ => None,
        };
        let label = tool.map(|tool| self.tools.label(tool));
        self.duration(operation, label);
        if let (Some(tool), Some(label)) = (tool, label) {
            self.call(operation, tool, event);
            let count = u64::from(operation.facts.alarming_repeats);
            let repeats = match self.repeats.get_mut(label) {
                Some(repeats) => repeats,
                None => self.repeats.entry(label.to_owned()).or_default(),
            };
            *repeats = ToolRepeats { most: repeats.most.max(count), is_new: true };
        }
    }

    fn duration(&mut self, Operation { facts, answer, timing, .. }: &Operation, tool: Option<&str>) {
        // The duration of a subscription is not the server's.
        if answer.status == Status::Unknown || facts.method == Method::Listen {
            return;
        }
        let is_server = is_receiver(self.side, facts.direction);
        let mut attributes = self.label.with([
            KeyValue::new(name::MCP_METHOD_NAME, method_label(facts.method_name.as_str())),
            KeyValue::new(name::NETWORK_TRANSPORT, semconv::value::PIPE),
        ]);
        if let Some(tool) = tool {
            attributes.push(KeyValue::new(name::GEN_AI_TOOL_NAME, tool.to_owned()));
            attributes.push(KeyValue::new(name::GEN_AI_OPERATION_NAME, semconv::value::EXECUTE_TOOL));
        }
        if let Some(CallTarget::Prompt(prompt)) = &facts.target {
            let prompt = self.prompts.label(prompt.as_str()).to_owned();
            attributes.push(KeyValue::new(name::GEN_AI_PROMPT_NAME, prompt));
        }
        if let Some(version) = &facts.protocol_version {
            attributes.push(self.versions.attribute(name::MCP_PROTOCOL_VERSION, version.as_str()));
        }
        let error = answer.error_type.filter(|_| answer.status.is_failure());
        if let Some((error, word)) = error.map(|error| (error, error.text()))
            && is_error_of(is_server, &word, answer.error_code)
        {
            attributes.push(match error {
                ErrorType::Code(_) => self.codes.attribute(name::ERROR_TYPE, &word),
                _ => KeyValue::new(name::ERROR_TYPE, word),
            });
        }
        if let Some(code) = answer.error_code {
            attributes.push(self.codes.attribute(name::RPC_RESPONSE_STATUS_CODE, &code.to_string()));
        }
        let histogram = if is_server { &self.server_operation } else { &self.client_operation };
        histogram.record(timing.ended.since(timing.started).as_secs_f64(), &attributes);
    }

    fn call(&mut self, Operation { facts, answer, .. }: &Operation, tool: &str, event: &Event) {
        let totals = &mut self.totals;
        let turn = (&event.conversation_id, &event.turn_id);
        totals.turns += u64::from(event.turn_id.is_some() && self.turns.is_new(turn));
        // A further round of a request is not a call of its own.
        if facts.continues.is_none() {
            totals.calls += 1;
            totals.charged.add(self.prices.call(&self.server, tool));
        }
        if totals.called_tools.len() < MAX_TOOLS && !totals.called_tools.contains(tool) {
            totals.called_tools.insert(tool.to_owned());
        }
        totals.denials += u64::from(answer.status == Status::Denied);
        totals.tokens[1] += facts.args_size.map_or(0, tokens);
        totals.tokens[2] += answer.size.map_or(0, tokens);
    }
}

/// Returns the method if a revision of MCP has it: a peer that invents names creates one series.
fn method_label(method: &str) -> &'static str {
    known_request(method).unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_peer_makes_up_make_no_series() {
        assert_eq!(method_label("tools/call"), "tools/call");
        for made_up in ["x/random-123", "tools/random-1", "tools/", "pinged", "initialize2"] {
            assert_eq!(method_label(made_up), OTHER);
        }
    }
}
