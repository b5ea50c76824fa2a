//! What MCP means by a method and by `_meta`, for every revision up to 2026-07-28.

use serde_json::Value;

use super::envelope::{Envelope, Member};
use super::traceparent::TraceParent;

/// The methods that are treated in a way of their own; everything else is `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Initialize,
    /// 2026-07-28; a server of an older revision answers with an error, which is normal.
    Discover,
    ToolsCall,
    ToolsList,
    PromptsGet,
    /// Has a resource URI: `resources/read`, `…/subscribe`, `…/unsubscribe`.
    Resource,
    /// Stays open until the subscription ends (2026-07-28).
    Listen,
    /// Stays open until the task ends (2025-11-25).
    TasksResult,
    /// `tasks/…` with a task id.
    Tasks,
    /// A person is asked.
    Elicitation,
    Sampling,
    Other,
}

impl Method {
    pub fn new(name: &[u8]) -> Method {
        match name {
            b"initialize" => Method::Initialize,
            b"server/discover" => Method::Discover,
            b"tools/call" => Method::ToolsCall,
            b"tools/list" => Method::ToolsList,
            b"prompts/get" => Method::PromptsGet,
            b"resources/read" | b"resources/subscribe" | b"resources/unsubscribe" => Method::Resource,
            b"subscriptions/listen" => Method::Listen,
            b"tasks/result" => Method::TasksResult,
            b"tasks/get" | b"tasks/cancel" | b"tasks/update" => Method::Tasks,
            b"elicitation/create" => Method::Elicitation,
            b"sampling/createMessage" => Method::Sampling,
            _ => Method::Other,
        }
    }

    /// Whether an open request of this kind says nothing about the server's health.
    pub fn waits_by_design(self) -> bool {
        matches!(self, Method::Listen | Method::TasksResult | Method::Elicitation | Method::Sampling)
    }

    /// Whether somebody is asked who may say no.
    pub fn asks_consent(self) -> bool {
        matches!(self, Method::Elicitation | Method::Sampling)
    }
}

/// Where hosts put their ids into `_meta`; the first that is there wins.
const CONVERSATION_KEYS: &[&str] = &[
    "vscode.conversationId",
    "threadId",
    "ai.opencode/sessionID",
    "antigravity.google/conversation_id",
    "claudecode/sessionId",
];
const TURN_KEYS: &[&str] = &["vscode.requestId", "turnId", "turn_id", "ai.opencode/messageID"];
const CALL_KEYS: &[&str] =
    &["claudecode/toolUseId", "vscode.toolCallId", "toolCallId", "callId", "call_id", "ai.opencode/callID"];
/// Codex puts its ids one level deeper.
const NESTED: &[&str] = &["x-codex-turn-metadata"];

/// The parts of a request's `_meta` that we read.
#[derive(Debug, Default)]
pub struct Meta {
    pub trace_parent: Option<TraceParent>,
    pub trace_state: Option<String>,
    /// Raw JSON.
    pub progress_token: Option<Vec<u8>>,
    pub conversation: Option<String>,
    pub turn: Option<String>,
    pub call: Option<String>,
    pub protocol_version: Option<String>,
    pub client: Option<Peer>,
    pub server: Option<Peer>,
}

/// What a peer calls itself; unverified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    pub name: Option<String>,
    pub version: Option<String>,
}

impl Peer {
    /// From an `Implementation` object: `{"name": …, "version": …}`.
    pub fn new(value: &Value) -> Option<Peer> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let peer = Peer { name: text("name"), version: text("version") };
        (peer != Peer::default()).then_some(peer)
    }
}

impl Meta {
    /// Reads a `_meta` object; what is of another type than expected is left out.
    pub fn new(raw: &[u8]) -> Meta {
        let Ok(Value::Object(meta)) = serde_json::from_slice(raw) else { return Meta::default() };
        let id = |value: &Value| match value {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let first = |keys: &[&str]| {
            let direct = keys.iter().find_map(|key| meta.get(*key).and_then(id));
            direct.or_else(|| {
                NESTED.iter().find_map(|outer| {
                    let inner = meta.get(*outer)?;
                    keys.iter().find_map(|key| inner.get(key).and_then(id))
                })
            })
        };
        let text = |key: &str| meta.get(key).and_then(Value::as_str).map(str::to_owned);
        let peer = |key: &str| meta.get(key).and_then(Peer::new);
        let trace_parent = text("traceparent").and_then(|header| TraceParent::parse(&header));
        Meta {
            // Without a valid parent the state is discarded (W3C §3.3).
            trace_state: trace_parent.and_then(|_| text("tracestate")).filter(|state| !state.is_empty()),
            trace_parent,
            progress_token: meta.get("progressToken").and_then(|token| serde_json::to_vec(token).ok()),
            conversation: first(CONVERSATION_KEYS),
            turn: first(TURN_KEYS),
            call: first(CALL_KEYS),
            protocol_version: text("io.modelcontextprotocol/protocolVersion"),
            client: peer("io.modelcontextprotocol/clientInfo"),
            server: peer("io.modelcontextprotocol/serverInfo"),
        }
    }

    pub fn of(envelope: &Envelope, member: Member) -> Meta {
        envelope.raw(member).map(Meta::new).unwrap_or_default()
    }
}

/// The content of a tool result, as far as we look at it.
#[derive(Debug, Default)]
pub struct Content {
    /// The decoded text, where there is exactly one block and it is a text.
    pub only_text: Option<String>,
    /// What stands in for the whole in a summary: texts as they are, anything else by kind and size.
    pub summary: String,
}

impl Content {
    /// Reads a `content` array; of its texts, at most about `window` bytes go into the summary.
    pub fn new(raw: &[u8], window: usize) -> Content {
        let Ok(Value::Array(mut blocks)) = serde_json::from_slice(raw) else { return Content::default() };
        let mut summary = String::new();
        for block in &blocks {
            if summary.len() >= window {
                break;
            }
            if !summary.is_empty() {
                summary.push('\n');
            }
            let kind = block["type"].as_str().unwrap_or("unknown");
            match block["text"].as_str() {
                Some(text) => summary.push_str(cut(text, window)),
                None => {
                    let mime = block["mimeType"].as_str().unwrap_or("unknown type");
                    let size = block["data"].as_str().map_or(0, |data| data.len() / 4 * 3);
                    summary.push_str(&format!("[{} {}, {size} bytes]", cut(kind, 40), cut(mime, 80)));
                }
            }
        }
        let only_text = match blocks.as_mut_slice() {
            [Value::Object(block)] if block.get("type").and_then(Value::as_str) == Some("text") => {
                match block.remove("text") {
                    Some(Value::String(text)) => Some(text),
                    _ => None,
                }
            }
            _ => None,
        };
        Content { only_text, summary }
    }
}

/// At most `limit` bytes of `text`, cut between characters.
fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// The sorted keys of a JSON object.
pub fn keys(raw: &[u8]) -> Vec<String> {
    match serde_json::from_slice::<Value>(raw) {
        Ok(Value::Object(members)) => {
            let mut keys: Vec<String> = members.into_iter().map(|(key, _)| key).collect();
            keys.sort();
            keys
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_where_hosts_put_them() {
        let meta = Meta::new(
            br#"{"vscode.conversationId":"c1","vscode.requestId":"r1","progressToken":3,"traceparent":"junk","tracestate":"a=b"}"#,
        );
        assert_eq!(meta.conversation.as_deref(), Some("c1"));
        assert_eq!(meta.turn.as_deref(), Some("r1"));
        assert_eq!(meta.progress_token.as_deref(), Some(&b"3"[..]));
        assert_eq!((meta.trace_parent, meta.trace_state), (None, None));
        let codex = Meta::new(br#"{"x-codex-turn-metadata":{"turn_id":"t9"},"threadId":"th"}"#);
        assert_eq!((codex.conversation.as_deref(), codex.turn.as_deref()), (Some("th"), Some("t9")));
    }

    #[test]
    fn anything_may_stand_in_meta() {
        for raw in [&b"3"[..], b"[]", b"{\"progressToken\":{}}", b"{\"traceparent\":7}", b"{", b""] {
            Meta::new(raw);
        }
    }

    #[test]
    fn only_a_single_text_block_is_what_the_model_saw() {
        let one = Content::new(br#"[{"type":"text","text":"caf\u00e9"}]"#, 100);
        assert_eq!(one.only_text.as_deref(), Some("café"));
        let two = Content::new(
            br#"[{"type":"text","text":"a"},{"type":"image","mimeType":"image/png","data":"AAAA"}]"#,
            100,
        );
        assert_eq!(two.only_text, None);
        assert_eq!(two.summary, "a\n[image image/png, 3 bytes]");
    }
}
