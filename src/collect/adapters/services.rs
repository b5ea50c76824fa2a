//! Which services are agents, and which are MCP servers.
//!
//! The conventions give the span of a tool call in a server the operation of a tool call in an agent, and a server can call
//! models, too. So a service that serves calls is a server, whatever else it sends.

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::bounded::BoundedMap;
use super::server::IS_REMOTE;
use super::table::AgentTable;
use super::{AGENTS, genai, text_of};
use crate::collect::fact::FactHash;

/// The attribute that each span of the conventions for MCP has.
const METHOD: &str = "mcp.method.name";
/// Methods that a server serves. The others are those of a client, or of both.
const SERVED: [&str; 4] = ["initialize", "tools/", "prompts/", "resources/"];
/// Most services, and most spans, that are remembered.
const SERVICES: usize = 256;
const SPANS: usize = 4096;

pub(super) struct Services {
    /// Tables of the services that are not known by their name, by the hash of the name; `None` for a server.
    tables: BoundedMap<FactHash, Option<&'static AgentTable>>,
    /// Spans of spantap for tool calls, and the spans from which these calls came.
    calls: BoundedMap<[u8; 8], ()>,
    callers: BoundedMap<[u8; 8], ()>,
    /// Parents of the spans of services that follow the conventions for generative AI, with the hash of the service.
    parents: BoundedMap<[u8; 8], FactHash>,
}

impl Default for Services {
    fn default() -> Services {
        Services {
            tables: BoundedMap::new(SERVICES),
            calls: BoundedMap::new(SPANS),
            callers: BoundedMap::new(SPANS),
            parents: BoundedMap::new(SPANS),
        }
    }
}

impl Services {
    /// Remembers a span of spantap itself: a service with a span below that of a tool call is a server.
    pub(super) fn know_own(&mut self, span: &Span) {
        if text_of(&span.attributes, METHOD) != Some("tools/call") {
            return;
        }
        if let Ok(id) = <[u8; 8]>::try_from(&*span.span_id) {
            self.calls.insert(id, ());
            if let Some(service) = self.parents.get(&id) {
                self.tables.insert(*service, None);
            }
        }
        if let Ok(id) = span.parent_span_id.as_slice().try_into() {
            self.callers.insert(id, ());
        }
    }

    /// Returns the table of a service that sent these spans; `None` if it is not an agent.
    pub(super) fn of_spans<'s>(
        &mut self,
        service: &str,
        mut spans: impl Iterator<Item = &'s Span> + Clone,
    ) -> Option<&'static AgentTable> {
        if let Some(table) = self.of_names(service, spans.clone().map(|span| &*span.name)) {
            return Some(table);
        }
        let name = FactHash::of([service.as_bytes()]);
        if spans.clone().any(|span| self.is_served(span)) {
            self.tables.insert(name, None);
        } else if !self.tables.contains(&name) && spans.clone().any(is_of_agent) {
            self.tables.insert(name, Some(&genai::TABLE));
        }
        let table = self.tables.get(&name).copied().flatten();
        if table.is_some() {
            let parents = spans.by_ref().filter_map(|span| span.parent_span_id.as_slice().try_into().ok());
            parents.for_each(|parent| self.parents.insert(parent, name));
        }
        table
    }

    /// Returns the agent with a table of its own that has this name, or that sent spans or events with these names.
    pub(super) fn of_names<'s>(
        &mut self,
        service: &str,
        mut names: impl Iterator<Item = &'s str>,
    ) -> Option<&'static AgentTable> {
        let of_service = |table: &&AgentTable| table.services.contains(&service);
        if let Some(table) = AGENTS.into_iter().find(of_service) {
            return Some(table);
        }
        let hash = FactHash::of([service.as_bytes()]);
        let known = self.tables.get(&hash).copied().flatten();
        known.filter(|table| !table.agent.is_empty()).or_else(|| {
            let of_name = |name| AGENTS.into_iter().find(|table| table.own_names.contains(&name));
            let table = names.find_map(of_name)?;
            self.tables.insert(hash, Some(table));
            Some(table)
        })
    }

    /// Returns true if the span is work of a server on the call of a client.
    fn is_served(&self, span: &Span) -> bool {
        let is_method = |method: &str| SERVED.iter().any(|served| method.starts_with(served));
        if span.kind() == SpanKind::Server && text_of(&span.attributes, METHOD).is_some_and(is_method) {
            return true;
        }
        let is_remote = span.flags & IS_REMOTE != 0;
        let parent: Result<[u8; 8], _> = span.parent_span_id.as_slice().try_into();
        parent.is_ok_and(|id| self.calls.contains(&id) || is_remote && self.callers.contains(&id))
    }
}

/// Returns true if only an agent has such a span: one with an operation of a model or a tool that is not the work of a server.
/// A call of an MCP client does not count, since servers can be clients of other servers.
fn is_of_agent(span: &Span) -> bool {
    let is_operation =
        |word: &str| genai::TABLE.spans.iter().any(|row| row.only.is_some_and(|only| only.1 == word));
    span.kind() != SpanKind::Server
        && text_of(&span.attributes, genai::OPERATION).is_some_and(is_operation)
        && text_of(&span.attributes, METHOD).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::adapters::tests::span;

    const CHAT: (&str, &str) = (genai::OPERATION, "chat");
    const TOOL: (&str, &str) = (genai::OPERATION, "execute_tool");

    #[test]
    fn a_service_that_called_a_model_is_an_agent_from_then_on() {
        let mut services = Services::default();
        let mut is_agent = |service: &str, kind: SpanKind, attributes: &[(&str, &str)]| {
            services.of_spans(service, [span(2, 1, kind, attributes)].iter()).is_some()
        };
        assert!(!is_agent("one", SpanKind::Internal, &[]));
        // Not those of a server, of a server's client, and of a client that a server asks.
        assert!(!is_agent("one", SpanKind::Server, &[TOOL]));
        assert!(!is_agent("one", SpanKind::Client, &[TOOL, (METHOD, "tools/call")]));
        assert!(!is_agent("one", SpanKind::Server, &[CHAT, (METHOD, "sampling/createMessage")]));
        assert!(is_agent("one", SpanKind::Client, &[CHAT]));
        assert!(is_agent("one", SpanKind::Internal, &[]));
        assert!(is_agent("one", SpanKind::Server, &[(METHOD, "sampling/createMessage")]));
        assert!(!is_agent("two", SpanKind::Internal, &[]));
    }

    #[test]
    fn a_service_below_a_call_of_spantap_is_a_server_whichever_span_comes_first() {
        let remote = |span: Span| Span { flags: IS_REMOTE, ..span };
        let own = |method| span(5, 4, SpanKind::Server, &[(METHOD, method)]);
        let chat = |parent| span(6, parent, SpanKind::Client, &[CHAT]);
        for (own, sent, is_server) in [
            (own("tools/call"), chat(5), true),
            (own("tools/call"), remote(chat(4)), true),
            // Another span of the agent below the one that called the tool.
            (own("tools/call"), chat(4), false),
            // The agent calls the model for the server.
            (own("sampling/createMessage"), chat(5), false),
        ] {
            let mut services = Services::default();
            services.know_own(&own);
            assert_eq!(services.of_spans("it", [sent.clone()].iter()).is_none(), is_server, "{own:?}");
            // spantap's span comes last.
            let mut services = Services::default();
            assert!(services.of_spans("it", [sent.clone()].iter()).is_some());
            services.know_own(&own);
            assert_eq!(services.of_spans("it", [sent].iter()).is_none(), is_server, "{own:?}");
        }
    }
    #[test]
    fn an_agent_is_known_by_its_whole_name_or_by_what_only_it_sends() {
        let mut services = Services::default();
        let mut agent = |service: &str, name: &str| {
            services.of_names(service, [name].into_iter()).map(|table| table.agent)
        };
        for (service, found) in
            [("codex_exec", "codex"), ("claude-code", "claude-code"), ("opencode", "opencode")]
        {
            assert_eq!(agent(service, "anything"), Some(found));
        }
        for service in ["codex-index", "opencode-tools", "claude-code-router", ""] {
            assert_eq!(agent(service, "query"), None);
        }
        assert_eq!(agent("codex_next", "run"), None);
        assert_eq!(agent("codex_next", "codex.sse_event"), Some("codex"));
        assert_eq!(agent("codex_next", "run"), Some("codex"));
        // A span of a call to a server that it is, too, changes nothing.
        let call = span(2, 1, SpanKind::Server, &[(METHOD, "tools/call")]);
        let table = services.of_spans("codex_next", [call].iter());
        assert_eq!(table.map(|table| table.agent), Some("codex"));
    }
}
