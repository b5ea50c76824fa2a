//! Answers of a probed server, and ours to its requests.

use serde_json::{Value, json};

use crate::check::{FailureKind, ProbeProblem, protocol_error};
use crate::observe::canonical::{HashKey, Hashing};
use crate::observe::envelope::Scanner;
use crate::observe::message::RequestId;

/// Answer to one of our requests, with the request's id.
pub(super) struct ProbeReply {
    pub(super) id: u64,
    pub(super) answer: ProbeAnswer,
    /// Bytes of the tool definitions in the result, as they came.
    pub(super) definition_bytes: u64,
}

impl ProbeReply {
    pub(super) fn error(id: u64, code: Option<i64>) -> ProbeReply {
        ProbeReply {
            id,
            answer: ProbeAnswer::Error(ProbeError { code, message: String::new() }),
            definition_bytes: 0,
        }
    }
}

pub(super) enum ProbeAnswer {
    Result(Value),
    Error(ProbeError),
}

/// Error with which a server answered.
pub(super) struct ProbeError {
    pub(super) code: Option<i64>,
    /// The text of the server as it came; empty without one.
    pub(super) message: String,
}

/// Parses a message; `None` if it is not JSON. Fails if it is nested too deeply.
pub(super) fn parsed(text: &[u8]) -> Result<Option<Value>, ProbeProblem> {
    match serde_json::from_slice(text) {
        Ok(message) => Ok(Some(message)),
        // The parser names no kind for this error.
        Err(error) if error.to_string().starts_with("recursion limit exceeded") => Err(protocol_error(
            "the server sent JSON that is nested more than 127 levels deep, which spantap does not read",
        )),
        Err(_) => Ok(None),
    }
}

/// Returns the answer in a message; `None` if it answers no request of ours. `text` is the message as it came.
pub(super) fn reply_of(message: &Value, text: &[u8]) -> Result<Option<ProbeReply>, ProbeProblem> {
    // Hosts take `"1"` and `1.0` for 1.
    let id = RequestId::new(message["id"].to_string().as_bytes()).value();
    let Ok(id) = serde_json::from_slice(id.bytes()) else { return Ok(None) };
    let answer = match message.get("result") {
        Some(result) if result.is_object() => ProbeAnswer::Result(result.clone()),
        Some(_) => return Err(protocol_error("the server answered with a result that is not an object")),
        None => {
            let error = &message["error"];
            let message = error["message"].as_str().unwrap_or_default().to_owned();
            ProbeAnswer::Error(ProbeError { code: error["code"].as_i64(), message })
        }
    };
    let has_tools = message.pointer("/result/tools").is_some();
    let definition_bytes = if has_tools { definition_bytes(text) } else { 0 };
    Ok(Some(ProbeReply { id, answer, definition_bytes }))
}

/// Returns the length of the tool definitions in a message, by the measure of the log.
fn definition_bytes(message: &[u8]) -> u64 {
    // A line break, which JSON over HTTP may have between tokens, would end the message.
    let line: Vec<u8> = message.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }).collect();
    let (mut scanner, mut size) = (Scanner::new(Hashing::new(&HashKey::Unkeyed)), 0);
    scanner.feed(&line, |_| {});
    scanner.end(|envelope| size = envelope.tools.size);
    size
}

/// Returns our answer to a request of the server; `None` for a notification. Fails for our own first request, which
/// only a program that sends back what it receives can send.
pub(super) fn answer_to(message: &Value) -> Result<Option<Value>, ProbeProblem> {
    let method = message["method"].as_str();
    if matches!(method, Some("initialize" | "server/discover")) {
        let text = "it sends back what it receives; it is not an MCP server".to_owned();
        return Err(ProbeProblem { kind: FailureKind::Echo, text });
    }
    let Some(id) = message.get("id") else { return Ok(None) };
    Ok(Some(match method {
        Some("ping") => json!({"jsonrpc": "2.0", "id": id, "result": {}}),
        _ => {
            let error = json!({"code": -32601, "message": "method not found"});
            json!({"jsonrpc": "2.0", "id": id, "error": error})
        }
    }))
}
