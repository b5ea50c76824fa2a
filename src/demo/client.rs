//! The scripted client: an agent that searches, reads the same file repeatedly, fails, waits, gets a refusal,
//! and once puts a secret into its arguments.

use std::io::{self, BufRead, Write};

use serde_json::{Value, json};

/// Secret in the arguments of one call. It must not appear in anything that spantap writes.
pub(crate) const SECRET: &str = "sk-EXAMPLE-demo-0123456789abcdefEXAMPLE";

/// Returns the tool calls of the script: tool and arguments.
fn script() -> Vec<(&'static str, Value)> {
    let readme = || ("read_file", json!({"path": "README.md"}));
    let mut calls = vec![
        ("search_issues", json!({"query": "build"})),
        readme(),
        ("create_issue", json!({})),
        ("create_issue", json!({"title": "the build is red"})),
        ("send_mail", json!({"to": "ops@example.com", "api_key": SECRET})),
        ("build_report", json!({})),
        ("delete_repository", json!({})),
        ("no_such_tool", json!({})),
    ];
    // The same call seven times: more than the default thrash threshold of five.
    calls.extend((0..6).map(|_| readme()));
    calls
}

/// Plays the script over the two pipes of a server; returns the number of tool calls. Closing `to_server`
/// afterwards ends the connection.
pub(crate) fn play(to_server: &mut dyn Write, from_server: &mut dyn BufRead) -> io::Result<usize> {
    let mut client = SampleClient { to_server, from_server };
    client.request(&json!({
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "spantap-demo", "version": env!("CARGO_PKG_VERSION")},
        },
    }))?;
    client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))?;
    client.request(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}))?;
    let script = script();
    for (number, (tool, arguments)) in script.iter().enumerate() {
        let id = number + 2;
        client.request(&json!({
            "jsonrpc": "2.0",
            "id": id,
            "method": "tools/call",
            "params": {"name": tool, "arguments": arguments, "_meta": {"progressToken": id}},
        }))?;
    }
    Ok(script.len())
}

struct SampleClient<'a> {
    to_server: &'a mut dyn Write,
    from_server: &'a mut dyn BufRead,
}

impl SampleClient<'_> {
    fn send(&mut self, message: &Value) -> io::Result<()> {
        serde_json::to_writer(&mut self.to_server, message)?;
        self.to_server.write_all(b"\n")?;
        self.to_server.flush()
    }

    /// Sends a request and reads until its answer. Declines every request of the server meanwhile.
    fn request(&mut self, request: &Value) -> io::Result<Value> {
        self.send(request)?;
        let mut line = String::new();
        loop {
            line.clear();
            if self.from_server.read_line(&mut line)? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the server ended before it answered",
                ));
            }
            let message: Value = serde_json::from_str(&line)?;
            match (message.get("method"), message.get("id")) {
                (Some(_), Some(id)) => {
                    self.send(&json!({"jsonrpc": "2.0", "id": id, "result": {"action": "decline"}}))?;
                }
                (None, Some(id)) if *id == request["id"] => return Ok(message),
                _ => {}
            }
        }
    }
}
