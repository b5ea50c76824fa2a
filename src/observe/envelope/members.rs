//! What the scanner looks for, and where it keeps what it finds.

use crate::observe::canonical::{Hash, MAX_CANONICAL};

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
    ParamsProtocolVersion,
    ClientInfo,
    RequestState,
    InputResponses,
    Data,
    IsError,
    Content,
    ResultType,
    ResultProtocolVersion,
    ServerInfo,
    ResultMeta,
    Task,
    ResultTaskId,
    Action,
    ResultRequestState,
    InputRequests,
    Tools,
    NextCursor,
    ErrorCode,
    ErrorMessage,
}

/// Members in the order of their numbers, with where they stand and how many bytes of them are kept.
pub const MEMBERS: [(Member, Place, &str, usize); 31] = {
    use Member::*;
    use Place::*;
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
        (ParamsProtocolVersion, Params, "protocolVersion", 1 << 10),
        (ClientInfo, Params, "clientInfo", 8 << 10),
        (RequestState, Params, "requestState", 64 << 10),
        (InputResponses, Params, "inputResponses", 64 << 10),
        (Data, Params, "data", 8 << 10),
        (IsError, Result, "isError", 16),
        (Content, Result, "content", MAX_CANONICAL),
        (ResultType, Result, "resultType", 256),
        (ResultProtocolVersion, Result, "protocolVersion", 1 << 10),
        (ServerInfo, Result, "serverInfo", 8 << 10),
        (ResultMeta, Result, "_meta", 32 << 10),
        (Task, Result, "task", 8 << 10),
        (ResultTaskId, Result, "taskId", 1 << 10),
        (Action, Result, "action", 256),
        (ResultRequestState, Result, "requestState", 64 << 10),
        (InputRequests, Result, "inputRequests", 64 << 10),
        (Tools, Result, "tools", 1 << 20),
        (NextCursor, Result, "nextCursor", 1 << 10),
        (ErrorCode, Error, "code", 64),
        (ErrorMessage, Error, "message", 16 << 10),
    ]
};

/// The object that a member stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Root,
    Params,
    Result,
    Error,
}

/// Raw JSON of one member.
#[derive(Debug, Default)]
pub(super) struct Capture {
    pub(super) bytes: Vec<u8>,
    /// Length of the whole member, which may be more than was kept.
    pub(super) size: u64,
    pub(super) present: bool,
}

/// What was found in one message. Reused for the next one.
pub struct Envelope {
    pub(super) captures: [Capture; MEMBERS.len()],
    pub has_params: bool,
    /// Length of `result`, in bytes, where there is one.
    pub result_size: Option<u64>,
    pub result_hash: Option<Hash>,
    /// Length of `error`, in bytes, where there is one.
    pub error_size: Option<u64>,
    /// Of arguments too long to be canonicalised.
    pub long_arguments_hash: Option<Hash>,
    /// Length of this message, in bytes; within a batch, of its element.
    pub size: u64,
}

impl Envelope {
    pub(super) fn new() -> Envelope {
        Envelope {
            captures: std::array::from_fn(|_| Capture::default()),
            has_params: false,
            result_size: None,
            result_hash: None,
            error_size: None,
            long_arguments_hash: None,
            size: 0,
        }
    }

    /// The raw JSON of a member, if it was there and not too long.
    pub fn raw(&self, member: Member) -> Option<&[u8]> {
        let capture = &self.captures[member as usize];
        (capture.present && capture.size == capture.bytes.len() as u64).then_some(&capture.bytes)
    }

    /// The first bytes of a member that was there, however long.
    pub fn head(&self, member: Member) -> Option<&[u8]> {
        let capture = &self.captures[member as usize];
        capture.present.then_some(&capture.bytes)
    }

    pub fn has(&self, member: Member) -> bool {
        self.captures[member as usize].present
    }

    /// Length of a member in bytes.
    pub fn size_of(&self, member: Member) -> Option<u64> {
        let capture = &self.captures[member as usize];
        capture.present.then_some(capture.size)
    }

    pub(super) fn clear(&mut self) {
        /// Buffers larger than this are given back between messages.
        const KEEP: usize = 16 << 10;
        for capture in &mut self.captures {
            if capture.present {
                capture.present = false;
                capture.size = 0;
                capture.bytes.clear();
                if capture.bytes.capacity() > KEEP {
                    capture.bytes = Vec::new();
                }
            }
        }
        self.has_params = false;
        self.result_size = None;
        self.result_hash = None;
        self.error_size = None;
        self.long_arguments_hash = None;
        self.size = 0;
    }
}
