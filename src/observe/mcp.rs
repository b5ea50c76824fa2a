//! Methods, `_meta` and tool contents of MCP, for every revision up to 2026-07-28.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::observe::canonical::JsonText;
use crate::observe::envelope::{Envelope, Member};
use crate::observe::redact::whole_words;
use crate::observe::traceparent::TraceParent;
use crate::text::baggage;

/// The methods that are treated specially; all others are `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Initialize,
    /// 2026-07-28. A server of an older revision answers with an error, which is normal.
    Discover,
    ToolsCall,
    ToolsList,
    PromptsGet,
    PromptsList,
    /// `resources/read`, `…/subscribe` and `…/unsubscribe`, which name a resource by URI.
    Resource,
    /// Stays open until the subscription ends (2026-07-28).
    Listen,
    /// Stays open until the task ends (2025-11-25).
    TasksResult,
    /// The other `tasks/…` with a task id.
    Tasks,
    /// The server asks a person.
    Elicitation,
    Sampling,
    Other,
}

impl Method {
    pub(crate) fn new(name: &[u8]) -> Method {
        match name {
            b"initialize" => Method::Initialize,
            b"server/discover" => Method::Discover,
            b"tools/call" => Method::ToolsCall,
            b"tools/list" => Method::ToolsList,
            b"prompts/get" => Method::PromptsGet,
            b"prompts/list" => Method::PromptsList,
            b"resources/read" | b"resources/subscribe" | b"resources/unsubscribe" => Method::Resource,
            b"subscriptions/listen" => Method::Listen,
            b"tasks/result" => Method::TasksResult,
            b"tasks/get" | b"tasks/cancel" | b"tasks/update" => Method::Tasks,
            b"elicitation/create" => Method::Elicitation,
            b"sampling/createMessage" => Method::Sampling,
            _ => Method::Other,
        }
    }

    /// Returns true if the method waits for a person or an event, so that a long wait is normal.
    pub(crate) fn waits_by_design(self) -> bool {
        matches!(self, Method::Listen | Method::TasksResult | Method::Elicitation | Method::Sampling)
    }

    /// Returns true if a person is asked, who may refuse.
    pub(crate) fn asks_consent(self) -> bool {
        matches!(self, Method::Elicitation | Method::Sampling)
    }
}

/// Returns the method of a request if a revision of MCP has it.
pub(crate) fn known_request(method: &str) -> Option<&'static str> {
    const REQUESTS: [&str; 23] = [
        "completion/complete",
        "elicitation/create",
        "initialize",
        "logging/setLevel",
        "ping",
        "prompts/get",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/subscribe",
        "resources/templates/list",
        "resources/unsubscribe",
        "roots/list",
        "sampling/createMessage",
        "server/discover",
        "subscriptions/listen",
        "tasks/cancel",
        "tasks/get",
        "tasks/list",
        "tasks/result",
        "tasks/update",
        "tools/call",
        "tools/list",
    ];
    REQUESTS.into_iter().find(|known| *known == method)
}

/// Members of `_meta` in which hosts send their ids; the first that is present is used.
const CONVERSATION_KEYS: &[&str] = &[
    "vscode.conversationId",
    "threadId",
    "thread_id",
    "ai.opencode/sessionID",
    "sessionID",
    "antigravity.google/conversation_id",
    "claudecode/sessionId",
    "session_id",
];
const TURN_KEYS: &[&str] = &["vscode.requestId", "turnId", "turn_id", "ai.opencode/messageID"];
const CALL_KEYS: &[&str] =
    &["claudecode/toolUseId", "vscode.toolCallId", "toolCallId", "callId", "call_id", "ai.opencode/callID"];
const MODEL_KEYS: &[&str] = &["model"];
/// Members of `baggage` that are read.
const BAGGAGE_KEYS: &[&str] = &["gen_ai.conversation.id", "session.id"];
/// Members of `_meta` that contain such members themselves (Codex).
const NESTED: &[&str] = &["x-codex-turn-metadata"];

/// Length of a progress token in bytes, above which it counts as absent. A notification's token has the same limit.
const MAX_TOKEN: usize = 1 << 10;

#[derive(Debug, Default)]
pub struct Meta {
    pub trace_parent: Option<TraceParent>,
    pub trace_state: Option<String>,
    /// Raw JSON.
    pub progress_token: Option<Vec<u8>>,
    pub conversation: Option<String>,
    pub turn: Option<String>,
    /// The model's id of the call. Codex sends it as `callId`; its `itemId` is the id of the model's output item.
    pub call: Option<String>,
    pub model: Option<String>,
    pub protocol_version: Option<String>,
    pub client: Option<Peer>,
    pub server: Option<Peer>,
}

/// The name and version that a peer sends of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    pub name: Option<String>,
    pub version: Option<String>,
}

impl Peer {
    /// Reads an `Implementation` object: `{"name": …, "version": …}`.
    pub(crate) fn new(value: &Value) -> Option<Peer> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let peer = Peer { name: text("name"), version: text("version") };
        (peer != Peer::default()).then_some(peer)
    }
}

impl Meta {
    /// Reads a `_meta` object. Members of an unexpected type are left out.
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
            progress_token: meta
                .get("progressToken")
                .and_then(|token| serde_json::to_vec(token).ok())
                .filter(|token| token.len() <= MAX_TOKEN),
            conversation: first(CONVERSATION_KEYS)
                .or_else(|| text("baggage").and_then(|header| baggage::value(&header, BAGGAGE_KEYS))),
            turn: first(TURN_KEYS),
            call: first(CALL_KEYS),
            model: first(MODEL_KEYS),
            protocol_version: text("io.modelcontextprotocol/protocolVersion"),
            client: peer("io.modelcontextprotocol/clientInfo"),
            server: peer("io.modelcontextprotocol/serverInfo"),
        }
    }

    pub(crate) fn of(envelope: &Envelope, member: Member) -> Meta {
        envelope.raw(member).map(Meta::new).unwrap_or_default()
    }
}

#[derive(Debug, Default)]
pub struct Content<'a>(Vec<Block<'a>>);

/// One content block. A member of an unexpected type counts as absent.
#[derive(Debug, Default)]
struct Block<'a> {
    kind: Option<Cow<'a, str>>,
    text: Option<Cow<'a, str>>,
    mime_type: Option<Cow<'a, str>>,
    /// Length of `data`, which is base64.
    data: Option<usize>,
}

impl<'a> Content<'a> {
    /// Reads a `content` array. Any other JSON is an empty content.
    pub fn new(raw: &'a [u8]) -> Content<'a> {
        // The first reader passes over each text once, but fails if one is not a text or not Unicode, which is rare.
        let blocks = read_blocks::<JsonText<'_>>(raw).or_else(|| read_blocks::<LenientText<'_>>(raw));
        Content(blocks.unwrap_or_default())
    }

    /// Returns the decoded text if the content is exactly one text block.
    pub(crate) fn only_text(&self) -> Option<&str> {
        match self.0.as_slice() {
            [block] if block.kind.as_deref() == Some("text") => block.text.as_deref(),
            _ => None,
        }
    }

    /// Returns a summary of about `window` bytes at most: texts as they are, other blocks as kind and size.
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
                // The last word may be half a secret.
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

/// Returns the blocks of a `content` array. `T` reads the members that are texts.
fn read_blocks<'a, T>(raw: &'a [u8]) -> Option<Vec<Block<'a>>>
where
    T: Deserialize<'a> + Into<Option<Cow<'a, str>>>,
{
    let read: Vec<BlockReader<'a, T>> = serde_json::from_slice(raw).ok()?;
    Some(read.into_iter().map(|BlockReader(block, _)| block).collect())
}

struct BlockReader<'de, T>(Block<'de>, PhantomData<T>);

impl<'de, T> Deserialize<'de> for BlockReader<'de, T>
where
    T: Deserialize<'de> + Into<Option<Cow<'de, str>>>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<BlockReader<'de, T>, D::Error> {
        struct BlockVisitor<T>(PhantomData<T>);

        impl<'de, T> Visitor<'de> for BlockVisitor<T>
        where
            T: Deserialize<'de> + Into<Option<Cow<'de, str>>>,
        {
            type Value = Block<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a content block")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Block<'de>, A::Error> {
                let mut block = Block::default();
                while let Some(JsonText(key)) = members.next_key()? {
                    // The last of two equal members counts.
                    match &*key {
                        "type" => block.kind = members.next_value::<T>()?.into(),
                        "text" => block.text = members.next_value::<T>()?.into(),
                        "mimeType" => block.mime_type = members.next_value::<T>()?.into(),
                        "data" => block.data = members.next_value::<T>()?.into().map(|data| data.len()),
                        _ => {
                            members.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(block)
            }
        }

        deserializer
            .deserialize_map(BlockVisitor(PhantomData::<T>))
            .map(|block| BlockReader(block, PhantomData))
    }
}

impl<'de> From<JsonText<'de>> for Option<Cow<'de, str>> {
    fn from(JsonText(text): JsonText<'de>) -> Option<Cow<'de, str>> {
        Some(text)
    }
}

/// A string, or `None` for a value of another type and for a string that is not Unicode (`"\ud800"`).
struct LenientText<'de>(Option<Cow<'de, str>>);

impl<'de> From<LenientText<'de>> for Option<Cow<'de, str>> {
    fn from(LenientText(text): LenientText<'de>) -> Option<Cow<'de, str>> {
        text
    }
}

impl<'de> Deserialize<'de> for LenientText<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LenientText<'de>, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(LenientText(serde_json::from_str(raw.get()).ok().map(|JsonText(text)| text)))
    }
}

/// Returns at most `limit` bytes of `text`, cut between characters.
fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

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
        let codex = Meta::new(
            br#"{"callId":"call_1","itemId":"fc_1","x-codex-turn-metadata":{"session_id":"s","thread_id":"sub","model":"gpt"}}"#,
        );
        assert_eq!((codex.call.as_deref(), codex.model.as_deref()), (Some("call_1"), Some("gpt")));
        assert_eq!(codex.conversation.as_deref(), Some("sub"));
        let opencode = Meta::new(br#"{"sessionID":"ses_1"}"#);
        assert_eq!(opencode.conversation.as_deref(), Some("ses_1"));
    }

    #[test]
    fn a_conversation_in_the_baggage_counts_if_the_host_names_none_itself() {
        let baggage = r#""baggage":"session.id=s,gen_ai.conversation.id=c,user.id=someone""#;
        let meta = |raw: String| Meta::new(raw.as_bytes()).conversation;
        assert_eq!(meta(format!("{{{baggage}}}")).as_deref(), Some("c"));
        assert_eq!(meta(format!(r#"{{{baggage},"threadId":"t"}}"#)).as_deref(), Some("t"));
        assert_eq!(meta(r#"{"baggage":["session.id=s"]}"#.to_owned()), None);
    }

    #[test]
    fn meta_may_contain_anything() {
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
