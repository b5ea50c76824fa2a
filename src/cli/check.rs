//! `check`: a server of its own is started, greeted and measured; live traffic is never touched.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use clap::Args;
use serde_json::{Value, json};

use super::{Hinted, Out, ServerCommand, hint};
use crate::observe::redact::{Field, Redacted, Redactor};

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// How long to wait for each answer
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = super::run::duration)]
    pub timeout: Duration,
    /// One JSON object instead of a text
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub server_command: ServerCommand,
}

/// Longer lines than this are no answer to a handshake.
const MAX_LINE: u64 = 16 << 20;
/// Lines of stderr that are shown when the server fails.
const TAIL: usize = 10;

struct Server {
    child: Child,
    lines: Receiver<Vec<u8>>,
    errors: Arc<Mutex<VecDeque<Redacted>>>,
    timeout: Duration,
    /// Lines on stdout that were not JSON.
    banners: usize,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(1);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl CheckArgs {
    /// Prints what the server said and how long it took.
    ///
    /// # Errors
    /// The server cannot be started, dies, does not answer or answers with an error: exit status 1.
    pub fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        let Some((program, args)) = self.server_command.command.split_first() else {
            let example = "put it behind two dashes: spantap check -- npx -y my-server".to_owned();
            return Err(Hinted { error: anyhow!("no server command"), hint: example, status: 2 }.into());
        };
        let redactor = || super::redactor(None, &self.server_command.command);
        let begin = Instant::now();
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.map_err(|error| {
            let program = redactor().redact(Field::Message, program.as_encoded_bytes());
            let text = anyhow!("failed to start server `{program}`: {error}");
            hint(text, "hosts started from the desktop have a short PATH; give the full path")
        })?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            bail!("the server has no pipes");
        };
        let (lines, errors) = (read_lines(stdout), read_tail(stderr, redactor()));
        let mut server = Server { child, lines, errors, timeout: self.timeout, banners: 0 };
        let hello = json!({"protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "spantap-check", "version": env!("CARGO_PKG_VERSION")}});
        let answer = server.ask(1, "initialize", hello)?;
        let handshake = begin.elapsed();
        server.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))?;
        let begin = Instant::now();
        server.ask(2, "ping", json!({}))?;
        let ping = begin.elapsed();
        let mut listing = None;
        if answer.pointer("/capabilities/tools").is_some() {
            let begin = Instant::now();
            let tools = server.ask(3, "tools/list", json!({}))?;
            listing = Some((tools["tools"].as_array().map_or(0, Vec::len), begin.elapsed()));
        }
        let mut redactor = redactor();
        let mut text = |pointer: &str| {
            let text = answer.pointer(pointer).and_then(Value::as_str).unwrap_or("?");
            redactor.redact(Field::Name, text.as_bytes()).as_str().to_owned()
        };
        let (name, version) = (text("/serverInfo/name"), text("/serverInfo/version"));
        let protocol = text("/protocolVersion");
        let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        if self.json {
            let line = json!({"server": name, "version": version, "protocol": protocol,
                "handshake_ms": ms(handshake), "ping_ms": ms(ping), "tools": listing.map(|(tools, _)| tools),
                "tools_list_ms": listing.map(|(_, time)| ms(time)), "banner_lines": server.banners});
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "ok  {name} {version}, protocol {protocol}")?;
            writeln!(out, "    start and handshake  {} ms", ms(handshake))?;
            writeln!(out, "    ping                 {} ms", ms(ping))?;
            if let Some((tools, time)) = listing {
                writeln!(out, "    tools/list           {} ms  {tools} tools on the first page", ms(time))?;
            }
            if server.banners > 0 {
                writeln!(out, "    {} lines on stdout are not JSON; strict hosts break off", server.banners)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Server {
    fn send(&mut self, message: &Value) -> anyhow::Result<()> {
        let sent = match self.child.stdin.as_mut() {
            Some(stdin) => writeln!(stdin, "{message}").and_then(|()| stdin.flush()),
            None => Ok(()),
        };
        sent.map_err(|_| self.failure("the server closed its stdin"))
    }

    fn ask(&mut self, id: u32, method: &str, params: Value) -> anyhow::Result<Value> {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))?;
        let deadline = Instant::now() + self.timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(self.failure(&format!("no answer to {method} within {:?}", self.timeout)));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.failure(&format!("the server ended before it answered {method}")));
                }
            };
            let Ok(message) = serde_json::from_slice::<Value>(&line) else {
                self.banners += usize::from(!line.trim_ascii().is_empty());
                continue;
            };
            if message["id"] != json!(id) || message.get("method").is_some() {
                continue;
            }
            if let Some(result) = message.get("result") {
                return Ok(result.clone());
            }
            let code = message.pointer("/error/code").and_then(Value::as_i64);
            let code =
                code.map_or_else(|| "neither result nor code".to_owned(), |code| format!("error {code}"));
            return Err(self.failure(&format!("the server answered {method} with {code}")));
        }
    }

    /// An error with the last lines of stderr, redacted.
    fn failure(&mut self, text: &str) -> anyhow::Error {
        // What a dying server said may still be on its way.
        let _ = self.child.kill();
        let _ = self.child.wait();
        std::thread::sleep(Duration::from_millis(100));
        let lines = self.errors.lock().map(|lines| lines.clone()).unwrap_or_default();
        let mut shown = String::new();
        for line in &lines {
            shown.push_str("\n  stderr: ");
            shown.push_str(line.as_str());
        }
        let banners = match self.banners {
            0 => String::new(),
            count => format!("; {count} lines on its stdout are not JSON"),
        };
        anyhow!("{text}{banners}{shown}")
    }
}

/// Reads lines in a thread of their own; a server that says more than is read has to wait.
fn read_lines(source: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = sync_channel(16);
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        while let Some(line) = next_line(&mut source) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Keeps the last lines, however many there are. All of them pass the redactor, since a private key may have
/// begun before the last ones.
fn read_tail(source: impl Read + Send + 'static, mut redactor: Redactor) -> Arc<Mutex<VecDeque<Redacted>>> {
    let tail = Arc::new(Mutex::new(VecDeque::new()));
    let kept = Arc::clone(&tail);
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        while let Some(line) = next_line(&mut source) {
            let line = redactor.redact(Field::StderrLine, line.trim_ascii_end());
            let Ok(mut kept) = kept.lock() else { return };
            if kept.len() == TAIL {
                kept.pop_front();
            }
            kept.push_back(line);
        }
    });
    tail
}

fn next_line(source: &mut BufReader<impl Read>) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let read = source.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
    matches!(read, Ok(1..)).then_some(line)
}
