//! The closed lists of words in a record, as JSON.
//!
//! The observer, which knows no JSON, declares most of them; this module writes and reads them. A log of a newer
//! version may contain words that this version does not know. Its records are read all the same: an unknown status is
//! [`Status::Unknown`], an unknown part of a tool is [`DefinitionPart::Other`], and any other field with an unknown
//! word counts as absent.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::observe::canonical::JsonText;
pub(crate) use crate::observe::event::{
    BodiesState, BodyPart, Direction, EndReason, LossPlace, SessionSource, Status, UnmatchedKind,
};
pub(crate) use crate::observe::lint::{LintLevel, LintRule};
pub(crate) use crate::observe::tool_definition::{DefinitionPart, ToolChangeKind};
pub(crate) use crate::relay::chunk::Stream;
use crate::text::words::words;

words! {
    /// Side of the connection that spans and metrics describe.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
    pub enum Side {
        #[default]
        Server = "server",
        Client = "client",
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Debug,
    #[default]
    Info,
    Warn,
    Error,
}

words! {
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
    )]
    #[serde(rename_all = "snake_case")]
    pub enum EventName {
        SessionStarted = "session_started",
        PeerIdentified = "peer_identified",
        McpToolCall = "mcp_tool_call",
        McpRequest = "mcp_request",
        CallPending = "call_pending",
        ServerUnresponsive = "server_unresponsive",
        AgentThrashing = "agent_thrashing",
        TaskEnded = "task_ended",
        ToolsListed = "tools_listed",
        ToolsChanged = "tools_changed",
        ToolsLinted = "tools_linted",
        Malformed = "malformed",
        Unmatched = "unmatched",
        Gap = "gap",
        ToolResult = "tool_result",
        McpNotification = "mcp_notification",
        ServerStderr = "server_stderr",
        DebugStarted = "debug_started",
        DebugEnded = "debug_ended",
        SessionEnded = "session_ended",
        AgentTurn = "agent_turn",
        ModelCall = "model_call",
        AgentTool = "agent_tool",
        ServerSpan = "server_span",
        /// An event of a newer version; never written.
        #[default]
        #[serde(other)]
        #[schemars(skip)]
        Unknown = "unknown",
    }
}

impl EventName {
    /// Returns true if the event is one that `spantap collect` records. It belongs to an agent, not to a connection.
    pub fn is_of_agent(self) -> bool {
        use EventName::{AgentTool, AgentTurn, ModelCall, ServerSpan};
        matches!(self, AgentTurn | ModelCall | AgentTool | ServerSpan)
    }
}

words! {
    /// What was decided about a tool that the model asked for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum ToolDecision {
        Allowed = "allowed",
        Refused = "refused",
    }
}

words! {
    /// Maker of a [`ToolDecision`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Decider {
        User = "user",
        Config = "config",
        Hook = "hook",
        Agent = "agent",
    }
}

words! {
    /// Source of the cost of a model call.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum CostSource {
        Agent = "agent",
        Config = "config",
    }
}

words! {
    /// Kind of a span, in the words of OpenTelemetry.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum ServerSpanKind {
        Internal = "internal",
        Server = "server",
        Client = "client",
        Producer = "producer",
        Consumer = "consumer",
    }
}

/// An enum whose words are values of record fields.
pub(crate) trait Word: Sized {
    fn from_text(text: &str) -> Option<Self>;
}

macro_rules! json {
    ($($name:ident),+) => {$(
        impl Word for $name {
            fn from_text(text: &str) -> Option<$name> {
                $name::from_word(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "enum": $name::ALL.map($name::as_str)})
            }
        }
    )+};
}

json!(
    BodiesState,
    BodyPart,
    CostSource,
    Decider,
    DefinitionPart,
    Direction,
    ServerSpanKind,
    SessionSource,
    Status,
    Stream,
    ToolChangeKind,
    ToolDecision,
    UnmatchedKind
);

/// Reads an unknown word as the default of its list.
macro_rules! read_or_default {
    ($($name:ident),+) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                Ok(known(deserializer)?.unwrap_or_default())
            }
        }
    )+};
}

read_or_default!(DefinitionPart, Status, ToolChangeKind);

/// Reads a word; `None` if it is null or not in the list.
pub(crate) fn known<'de, D: Deserializer<'de>, W: Word>(deserializer: D) -> Result<Option<W>, D::Error> {
    let word = Option::<JsonText<'de>>::deserialize(deserializer)?;
    Ok(word.and_then(|JsonText(word)| W::from_text(&word)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{EventName, Record};

    #[test]
    fn a_record_with_words_of_a_newer_version_is_kept() {
        let line = r#"{"schema":"spantap/2","event":"teleported","seq":3,"status":"sideways",
            "direction":"up","stream":"stdlog","what":null,"session_source":"stars","method":"tools/call"}"#;
        let record: Record<'_> = serde_json::from_str(line).unwrap();
        let expected = Record {
            schema: "spantap/2".into(),
            event: EventName::Unknown,
            seq: 3,
            status: Some(Status::Unknown),
            method: Some("tools/call".into()),
            ..Record::default()
        };
        assert_eq!(record, expected);
        assert!(serde_json::from_str::<Record<'_>>(r#"{"direction":1}"#).is_err());
    }

    #[test]
    fn each_word_is_read_as_it_is_written() {
        for status in Status::ALL {
            let text = serde_json::to_string(&status).unwrap();
            assert_eq!(text, format!("\"{}\"", status.as_str()));
            assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
        }
        for direction in Direction::ALL {
            let record = Record { direction: Some(direction), ..Record::default() };
            let line = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<Record<'_>>(&line).unwrap(), record);
        }
    }
}
