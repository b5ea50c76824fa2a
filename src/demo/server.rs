//! The sample server: a small MCP server of the 2025-11-25 revision with tools that succeed, fail,
//! take some time, and ask for consent.

use std::io::{self, BufRead, Write};
use std::time::Duration;

use serde_json::{Value, json};

/// Duration of `build_report`, long enough to be visible in a waterfall.
const REPORT_TIME: Duration = Duration::from_millis(240);
/// Number of its steps, each reported as progress.
const REPORT_STEPS: u32 = 4;

/// Serves one connection: reads requests from `input` until it ends, writes answers to `output`. A line that is
/// not JSON gets a parse error as its answer.
pub(crate) fn serve(input: &mut dyn BufRead, output: &mut dyn Write) -> io::Result<()> {
    let mut server = SampleServer { input, output, asked: 0 };
    while let Some(line) = server.read()? {
        match serde_json::from_str(&line) {
            Ok(message) => server.handle(&message)?,
            Err(_) => server.send(&failure(&Value::Null, -32700, "parse error"))?,
        }
    }
    Ok(())
}

struct SampleServer<'a> {
    input: &'a mut dyn BufRead,
    output: &'a mut dyn Write,
    /// Number of requests that this server has sent to the client; it makes their ids.
    asked: u64,
}

impl SampleServer<'_> {
    fn read(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        Ok((self.input.read_line(&mut line)? > 0).then_some(line))
    }

    fn send(&mut self, message: &Value) -> io::Result<()> {
        serde_json::to_writer(&mut self.output, message)?;
        self.output.write_all(b"\n")?;
        self.output.flush()
    }

    fn handle(&mut self, message: &Value) -> io::Result<()> {
        let Some(id) = message.get("id") else { return Ok(()) };
        let params = &message["params"];
        let answer = match message["method"].as_str() {
            Some("initialize") => success(
                id,
                json!({
                    "protocolVersion": "2025-11-25",
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "sample", "version": env!("CARGO_PKG_VERSION")},
                }),
            ),
            Some("ping") => success(id, json!({})),
            Some("tools/list") => success(id, json!({ "tools": tools() })),
            Some("tools/call") => self.call(id, params)?,
            Some(_) => failure(id, -32601, "method not found"),
            // A late answer to a request of this server.
            None => return Ok(()),
        };
        self.send(&answer)
    }

    fn call(&mut self, id: &Value, params: &Value) -> io::Result<Value> {
        let arguments = &params["arguments"];
        Ok(match params["name"].as_str().unwrap_or_default() {
            "search_issues" => success(
                id,
                json!({
                    "content": [{"type": "text", "text": "#12 the build is red\n#15 flaky test on Tuesdays"}],
                    "structuredContent": {"issues": [12, 15]},
                }),
            ),
            "read_file" => text(id, "# Sample\n\nNothing to see here but a few lines of text.\n", false),
            "create_issue" if arguments["title"].is_null() => text(id, "title is missing", true),
            "create_issue" => text(id, "created #16", false),
            "send_mail" => text(id, "queued", false),
            "build_report" => {
                self.report(&params["_meta"]["progressToken"])?;
                text(id, "42 pages", false)
            }
            "delete_repository" => match self.confirm("Really delete the repository?")? {
                true => text(id, "deleted", false),
                false => text(id, "the user declined", true),
            },
            _ => failure(id, -32602, "unknown tool"),
        })
    }

    fn report(&mut self, progress_token: &Value) -> io::Result<()> {
        for step in 1..=REPORT_STEPS {
            std::thread::sleep(REPORT_TIME / REPORT_STEPS);
            if !progress_token.is_null() {
                self.send(&json!({
                    "jsonrpc": "2.0",
                    "method": "notifications/progress",
                    "params": {"progressToken": progress_token, "progress": step, "total": REPORT_STEPS},
                }))?;
            }
        }
        Ok(())
    }

    /// Asks the user of the client. Every answer except acceptance is a refusal.
    fn confirm(&mut self, question: &str) -> io::Result<bool> {
        let id = json!(format!("confirm-{}", self.asked));
        self.asked += 1;
        self.send(&json!({
            "jsonrpc": "2.0",
            "id": id,
            "method": "elicitation/create",
            "params": {"message": question, "requestedSchema": {"type": "object", "properties": {}}},
        }))?;
        while let Some(line) = self.read()? {
            match serde_json::from_str::<Value>(&line) {
                Ok(message) if message["id"] == id => return Ok(message["result"]["action"] == "accept"),
                Ok(message) => self.handle(&message)?,
                Err(_) => self.send(&failure(&Value::Null, -32700, "parse error"))?,
            }
        }
        Ok(false)
    }
}

fn success(id: &Value, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

fn failure(id: &Value, code: i64, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
}

fn text(id: &Value, text: &str, is_error: bool) -> Value {
    success(id, json!({"content": [{"type": "text", "text": text}], "isError": is_error}))
}

fn tools() -> Value {
    let tool = |name: &str, description: &str, properties: Value| {
        json!({
            "name": name,
            "description": description,
            "inputSchema": {"type": "object", "properties": properties},
        })
    };
    json!([
        tool("search_issues", "Search the issues", json!({"query": {"type": "string"}})),
        tool("read_file", "Read a file", json!({"path": {"type": "string"}})),
        tool("create_issue", "Create an issue", json!({"title": {"type": "string"}})),
        tool("send_mail", "Send a mail", json!({"to": {"type": "string"}, "api_key": {"type": "string"}})),
        tool("build_report", "Build the report; takes some time", json!({})),
        tool("delete_repository", "Delete the repository, after asking", json!({})),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(requests: &[Value]) -> Vec<Value> {
        let input: String = requests.iter().map(|request| format!("{request}\n")).collect();
        let mut output = Vec::new();
        serve(&mut input.as_bytes(), &mut output).unwrap();
        output
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    #[test]
    fn a_tool_that_needs_consent_asks_and_takes_no_for_an_answer() {
        let call = json!({"id": 1, "method": "tools/call", "params": {"name": "delete_repository"}});
        let no = json!({"id": "confirm-0", "result": {"action": "decline"}});
        let answers = answers(&[call, no]);
        assert_eq!(answers[0]["method"], "elicitation/create");
        assert_eq!(answers[1]["result"]["isError"], true);
    }

    #[test]
    fn an_unknown_tool_is_a_protocol_error() {
        let call = json!({"id": 1, "method": "tools/call", "params": {"name": "nothing"}});
        assert_eq!(answers(&[call])[0]["error"]["code"], -32602);
    }
}
