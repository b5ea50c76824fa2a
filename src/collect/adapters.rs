//! Reads requests of agents into facts. Each agent has a table of names; one interpreter reads them all.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

use crate::collect::fact::AgentFact;
use crate::observe::redact::Redactor;

/// The tables of all agents, and what they remember between two requests.
pub struct Adapters {
    _redactor: Redactor,
}

impl Adapters {
    pub fn new(redactor: Redactor) -> Adapters {
        Adapters { _redactor: redactor }
    }

    /// Adds the facts that the spans of a request report.
    pub fn read_traces(&mut self, _request: &ExportTraceServiceRequest, _facts: &mut Vec<AgentFact>) {}

    /// Adds the facts that the log records of a request report.
    pub fn read_logs(&mut self, _request: &ExportLogsServiceRequest, _facts: &mut Vec<AgentFact>) {}
}
