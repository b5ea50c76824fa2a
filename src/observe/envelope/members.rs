//! The members that the scanner captures.

use crate::observe::canonical::{Hash, MAX_CANONICAL};
use crate::observe::envelope::definitions::ToolPage;

/// A member that is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Member {
    JsonRpc,
    Id,
    Method,
    Name,
    Uri,
    Arguments,
    ParamsMeta,
    RequestId,
    Reason,
    ProgressToken,
    ParamsTaskId,
    Cursor,
    ParamsProtocolVersion,
    ClientInfo,
    RequestState,
    InputResponses,
    Data,
    ParamsStatus,
    ParamsStatusMessage,
    ParamsResult,
    ParamsError,
    IsError,
    Content,
    ResultType,
    ResultProtocolVersion,
    ServerInfo,
    ResultMeta,
    Task,
    ResultTaskId,
    ResultStatus,
    ResultStatusMessage,
    ResultResult,
    ResultError,
    Action,
    ResultRequestState,
    InputRequests,
    StructuredContent,
    Tools,
    Prompts,
    NextCursor,
    ErrorCode,
    ErrorMessage,
}

/// Members in the order of their numbers: parent, key, and limit of the captured bytes.
pub const MEMBERS: [(Member, MemberParent, &str, usize); 42] = {
    use Member::*;
    use MemberParent::*;
    [
        (JsonRpc, Root, "jsonrpc", 1 << 10),
        (Id, Root, "id", 1 << 10),
        (Method, Root, "method", 1 << 10),
        (Name, Params, "name", 8 << 10),
        (Uri, Params, "uri", 16 << 10),
        (Arguments, Params, "arguments", MAX_CANONICAL),
        (ParamsMeta, Params, "_meta", 32 << 10),
        (RequestId, Params, "requestId", 1 << 10),
        (Reason, Params, "reason", 8 << 10),
        (ProgressToken, Params, "progressToken", 1 << 10),
        (ParamsTaskId, Params, "taskId", 1 << 10),
        (Cursor, Params, "cursor", 1 << 10),
        (ParamsProtocolVersion, Params, "protocolVersion", 1 << 10),
        (ClientInfo, Params, "clientInfo", 8 << 10),
        (RequestState, Params, "requestState", 64 << 10),
        (InputResponses, Params, "inputResponses", 64 << 10),
        (Data, Params, "data", 8 << 10),
        (ParamsStatus, Params, "status", 64),
        (ParamsStatusMessage, Params, "statusMessage", 8 << 10),
        (ParamsResult, Params, "result", MAX_CANONICAL),
        (ParamsError, Params, "error", 16 << 10),
        (IsError, Result, "isError", 16),
        (Content, Result, "content", MAX_CANONICAL),
        (ResultType, Result, "resultType", 256),
        (ResultProtocolVersion, Result, "protocolVersion", 1 << 10),
        (ServerInfo, Result, "serverInfo", 8 << 10),
        (ResultMeta, Result, "_meta", 32 << 10),
        (Task, Result, "task", 8 << 10),
        (ResultTaskId, Result, "taskId", 1 << 10),
        (ResultStatus, Result, "status", 64),
        (ResultStatusMessage, Result, "statusMessage", 8 << 10),
        (ResultResult, Result, "result", MAX_CANONICAL),
        (ResultError, Result, "error", 16 << 10),
        (Action, Result, "action", 256),
        (ResultRequestState, Result, "requestState", 64 << 10),
        (InputRequests, Result, "inputRequests", 64 << 10),
        // Only its presence counts.
        (StructuredContent, Result, "structuredContent", 0),
        // `definitions` reads these two.
        (Tools, Result, "tools", 0),
        (Prompts, Result, "prompts", 0),
        (NextCursor, Result, "nextCursor", 1 << 10),
        (ErrorCode, Error, "code", 64),
        (ErrorMessage, Error, "message", 16 << 10),
    ]
};

/// The object that contains a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberParent {
    Root,
    Params,
    Result,
    Error,
}

impl MemberParent {
    /// Returns the numbers of this parent's members, which are neighbours in [`MEMBERS`].
    fn members(self) -> std::ops::Range<usize> {
        const fn first(member: Member) -> usize {
            member as usize
        }
        match self {
            MemberParent::Root => 0..first(Member::Name),
            MemberParent::Params => first(Member::Name)..first(Member::IsError),
            MemberParent::Result => first(Member::IsError)..first(Member::ErrorCode),
            MemberParent::Error => first(Member::ErrorCode)..MEMBERS.len(),
        }
    }

    /// Returns the captured member with this key.
    pub(super) fn member(self, name: &[u8]) -> Option<Member> {
        let here = &MEMBERS[self.members()];
        here.iter().find(|(_, _, known, _)| known.as_bytes() == name).map(|(member, ..)| *member)
    }

    /// Returns a bit for each member of this parent.
    fn mask(self) -> u64 {
        self.members().fold(0, |mask, number| mask | 1 << number)
    }
}

#[derive(Debug, Default)]
pub(super) struct Capture {
    pub(super) bytes: Vec<u8>,
    /// Length of the whole member, which may be longer than `bytes`.
    pub(super) size: u64,
}

/// The members of one message. The buffers are reused for the next message.
pub struct Envelope {
    pub(super) captures: [Capture; MEMBERS.len()],
    /// A bit for each member that is present.
    present: u64,
    /// A bit for each member that was begun, also if it was forgotten.
    begun: u64,
    pub has_params: bool,
    /// Length of `result` in bytes, if it is present.
    pub result_size: Option<u64>,
    /// True if `result` is present and an object, as MCP requires.
    pub(super) result_is_object: bool,
    pub result_hash: Option<Hash>,
    /// The text of `result`, if it is kept.
    pub(super) result_text: Option<Vec<u8>>,
    /// The text of `error`, if it is kept.
    pub(super) error_text: Option<Vec<u8>>,
    /// Length of `error` in bytes, if it is present.
    pub error_size: Option<u64>,
    /// The definitions in `result.tools`, if it is present.
    pub tools: ToolPage,
    /// The definitions in `result.prompts`, if it is present.
    pub prompts: ToolPage,
    /// Hash of arguments that are too long to be canonicalised.
    pub long_arguments_hash: Option<Hash>,
    /// Length of this message in bytes; in a batch, of its element.
    pub size: u64,
}

impl Envelope {
    pub(super) fn new() -> Envelope {
        Envelope {
            captures: std::array::from_fn(|_| Capture::default()),
            present: 0,
            begun: 0,
            has_params: false,
            result_size: None,
            result_is_object: false,
            result_hash: None,
            result_text: None,
            error_text: None,
            error_size: None,
            tools: ToolPage::default(),
            prompts: ToolPage::default(),
            long_arguments_hash: None,
            size: 0,
        }
    }

    /// Returns the raw JSON of a member, if it is present and not longer than its limit.
    pub(crate) fn raw(&self, member: Member) -> Option<&[u8]> {
        let capture = &self.captures[member as usize];
        (self.has(member) && capture.size == capture.bytes.len() as u64).then_some(&capture.bytes)
    }

    /// Returns the beginning of a member, if it is present.
    pub fn head(&self, member: Member) -> Option<&[u8]> {
        self.has(member).then_some(&self.captures[member as usize].bytes)
    }

    /// Returns true if the answer is an error. An `error` of four bytes beside a `result` is taken for `null`,
    /// because some servers always write both members.
    pub(crate) fn has_error(&self) -> bool {
        self.error_size.is_some_and(|size| size != 4 || self.result_size.is_none())
    }

    /// Returns true if the answer is neither an error nor a result of MCP, which is an object.
    pub(crate) fn is_invalid_result(&self) -> bool {
        !self.has_error() && !self.result_is_object
    }

    /// Returns the text of `error`, or else of `result`, if it was kept whole.
    pub(crate) fn answer_text(&self) -> Option<&[u8]> {
        let text = if self.has_error() { &self.error_text } else { &self.result_text };
        text.as_deref()
    }

    pub(crate) fn has(&self, member: Member) -> bool {
        self.present & 1 << member as u32 != 0
    }

    pub fn size_of(&self, member: Member) -> Option<u64> {
        self.has(member).then_some(self.captures[member as usize].size)
    }

    /// Begins a member. The last of two equal members counts.
    pub(super) fn begin(&mut self, member: Member) {
        self.present |= 1 << member as u32;
        self.begun |= 1 << member as u32;
        let capture = &mut self.captures[member as usize];
        capture.size = 0;
        capture.bytes.clear();
    }

    pub(super) fn forget(&mut self, place: MemberParent) {
        self.present &= !place.mask();
    }

    pub(super) fn clear(&mut self) {
        /// Capacity in bytes above which a buffer is freed between messages.
        const MAX_IDLE_CAPACITY: usize = 16 << 10;
        while self.begun != 0 {
            let bytes = &mut self.captures[self.begun.trailing_zeros() as usize].bytes;
            if bytes.capacity() > MAX_IDLE_CAPACITY {
                *bytes = Vec::new();
            }
            self.begun &= self.begun - 1;
        }
        self.present = 0;
        self.has_params = false;
        self.result_size = None;
        self.result_is_object = false;
        self.result_hash = None;
        self.result_text = None;
        self.error_text = None;
        self.error_size = None;
        self.tools = ToolPage::default();
        self.prompts = ToolPage::default();
        self.long_arguments_hash = None;
        self.size = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_members_of_a_parent_are_neighbours() {
        for (number, (member, place, name, _)) in MEMBERS.into_iter().enumerate() {
            assert_eq!(member as usize, number);
            assert!(place.members().contains(&number), "{name}");
            assert_eq!(place.member(name.as_bytes()), Some(member));
        }
        assert_eq!(MemberParent::Params.member(b"content"), None);
    }
}
