//! What MCP means by a method and by `_meta`, for every revision up to 2026-07-28.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::observe::canonical::JsonText;
use crate::observe::envelope::{Envelope, Member};
use crate::observe::redact::whole_words;
use crate::observe::traceparent::TraceParent;

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
pub struct Content<'a>(Vec<Block<'a>>);

/// One block of the content. A member of another type than MCP says counts as absent.
#[derive(Debug, Default)]
struct Block<'a> {
    kind: Option<Cow<'a, str>>,
    text: Option<Cow<'a, str>>,
    mime_type: Option<Cow<'a, str>>,
    /// Length of `data`, which is base64.
    data: Option<usize>,
}

impl<'a> Content<'a> {
    /// Reads a `content` array. What is no array of objects has no content.
    pub fn new(raw: &'a [u8]) -> Content<'a> {
        Content(serde_json::from_slice(raw).unwrap_or_default())
    }

    /// The decoded text, where there is exactly one block and it is a text: what the model saw.
    pub fn only_text(&self) -> Option<&str> {
        match self.0.as_slice() {
            [block] if block.kind.as_deref() == Some("text") => block.text.as_deref(),
            _ => None,
        }
    }

    /// What stands in for the whole: texts as they are, anything else by kind and size, at most about
    /// `window` bytes.
    pub fn summary(&self, window: usize) -> String {
        let mut summary = String::new();
        for block in &self.0 {
            if summary.len() >= window {
                break;
            }
            if !summary.is_empty() {
                summary.push('\n');
            }
            match &block.text {
                // What is cut off may be half a secret.
                Some(text) if text.len() > window => summary.push_str(whole_words(cut(text, window))),
                Some(text) => summary.push_str(text),
                None => {
                    let kind = cut(block.kind.as_deref().unwrap_or("unknown"), 40);
                    let mime = cut(block.mime_type.as_deref().unwrap_or("unknown type"), 80);
                    let size = block.data.map_or(0, |length| length / 4 * 3);
                    summary.push_str(&format!("[{kind} {mime}, {size} bytes]"));
                }
            }
        }
        summary
    }
}

impl<'de> Deserialize<'de> for Block<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Block<'de>, D::Error> {
        struct BlockVisitor;

        impl<'de> Visitor<'de> for BlockVisitor {
            type Value = Block<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a content block")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Block<'de>, A::Error> {
                let mut block = Block::default();
                while let Some(JsonText(key)) = members.next_key()? {
                    // Where a member stands twice the last one counts.
                    match &*key {
                        "type" => block.kind = members.next_value::<Lenient>()?.0,
                        "text" => block.text = members.next_value::<Lenient>()?.0,
                        "mimeType" => block.mime_type = members.next_value::<Lenient>()?.0,
                        "data" => block.data = members.next_value::<Lenient>()?.0.map(|data| data.len()),
                        _ => {
                            members.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(block)
            }
        }

        deserializer.deserialize_map(BlockVisitor)
    }
}

/// A string that is expected, or anything else that is passed over.
struct Lenient<'de>(Option<Cow<'de, str>>);

impl<'de> Deserialize<'de> for Lenient<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Lenient<'de>, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Lenient(serde_json::from_str(raw.get()).ok().map(|JsonText(text)| text)))
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
        let one = Content::new(br#"[{"type":"text","text":"caf\u00e9"}]"#);
        assert_eq!(one.only_text(), Some("café"));
        let two = Content::new(
            br#"[{"type":"text","text":"a"},{"type":"image","mimeType":"image/png","data":"AAAA"}]"#,
        );
        assert_eq!(two.only_text(), None);
        assert_eq!(two.summary(100), "a\n[image image/png, 3 bytes]");
    }

    #[test]
    fn members_of_wrong_types_count_as_absent_and_the_last_of_two_counts() {
        let odd = Content::new(
            br#"[{"type":7,"text":{"a":[]},"data":null},{"type":"text","text":"a","text":"b"}]"#,
        );
        assert_eq!(odd.summary(100), "[unknown unknown type, 0 bytes]\nb");
        for raw in [&b"7"[..], b"{}", b"[1]", b"[", b"\"\""] {
            assert_eq!(Content::new(raw).summary(100), "");
        }
    }
}
