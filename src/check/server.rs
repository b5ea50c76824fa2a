//! The process behind a probe: its pipes, its last words and its end.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use crate::check::{End, Failure, Kind, Problem};
use crate::observe::redact::{Field, Redacted, Redactor};

/// Longer lines than this are no answer to a probe.
const MAX_LINE: u64 = 16 << 20;
/// Lines of stderr that are shown when the server fails.
const TAIL: usize = 10;
/// What hosts give a server to end by itself, and again after SIGTERM (the official SDKs: 2 s each).
const GRACE: Duration = Duration::from_secs(2);
/// How long to wait for what a dead server's pipes still hold; a process it left behind may keep them open.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The last lines of a stream.
type Tail = Arc<Mutex<VecDeque<Redacted>>>;

pub(super) struct Server {
    child: Child,
    lines: Receiver<Vec<u8>>,
    errors: Tail,
    /// Says when stderr has ended.
    errors_end: Receiver<()>,
    redactor: Redactor,
    last_id: u64,
    /// Lines on stdout that were not JSON-RPC.
    pub(super) banner_lines: usize,
    first_banner: Option<Vec<u8>>,
    /// Whether a line was JSON-RPC.
    spoke: bool,
    ended: bool,
}

/// An answer to one of our requests.
pub(super) struct Reply {
    pub id: u64,
    pub answer: Answer,
}

pub(super) enum Answer {
    Result(Value),
    /// The code, if it has one.
    Error(Option<i64>),
}

impl Server {
    /// `redactor` makes one for everything that this server says.
    pub(super) fn start(command: &[OsString], redactor: &dyn Fn() -> Redactor) -> Result<Server, Failure> {
        let [program, args @ ..] = command else {
            let text = "no server command".to_owned();
            return Err(Failure { kind: Kind::NotFound, text, stderr: Vec::new(), banner_lines: 0 });
        };
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // So that a launcher and the server behind it can be ended together.
            .process_group(0)
            .spawn();
        let mut child = child.map_err(|error| {
            let (kind, reason) = match error.kind() {
                ErrorKind::NotFound => (Kind::NotFound, "not found".to_owned()),
                ErrorKind::PermissionDenied => (Kind::NotExecutable, "not executable".to_owned()),
                _ => (Kind::NotExecutable, error.to_string()),
            };
            let program = redactor().redact_argv(std::slice::from_ref(program));
            let program = program.first().map(|word| word.as_str().to_owned()).unwrap_or_default();
            let text = format!("failed to start server `{program}`: {reason}");
            Failure { kind, text, stderr: Vec::new(), banner_lines: 0 }
        })?;
        let stdout = child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
        let stderr = child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
        let empty = || Box::new(std::io::empty()) as Box<dyn Read + Send>;
        let lines = read_lines(stdout.unwrap_or_else(empty));
        let (errors, errors_end) = read_tail(stderr.unwrap_or_else(empty), redactor());
        Ok(Server {
            child,
            lines,
            errors,
            errors_end,
            redactor: redactor(),
            last_id: 0,
            banner_lines: 0,
            first_banner: None,
            spoke: false,
            ended: false,
        })
    }

    /// Sends a request; returns its id.
    pub(super) fn request(&mut self, method: &str, params: Value) -> Result<u64, Problem> {
        self.last_id += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params}))?;
        Ok(self.last_id)
    }

    pub(super) fn send(&mut self, message: &Value) -> Result<(), Problem> {
        let sent = match self.child.stdin.as_mut() {
            Some(stdin) => writeln!(stdin, "{message}").and_then(|()| stdin.flush()),
            None => Ok(()),
        };
        sent.map_err(|_| Problem { kind: Kind::Died, text: "the server closed its stdin".to_owned() })
    }

    /// The next answer to any request of ours; `None` when there is none before `deadline`.
    pub(super) fn reply(&mut self, deadline: Instant) -> Result<Option<Reply>, Problem> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => {
                    let text = "the server ended before it had answered".to_owned();
                    return Err(Problem { kind: Kind::Died, text });
                }
            };
            if line.trim_ascii().is_empty() {
                continue;
            }
            let message = serde_json::from_slice::<Value>(&line).ok();
            let Some(message) = message.filter(|message| message["jsonrpc"] == "2.0") else {
                self.banner_lines += 1;
                self.first_banner.get_or_insert(line);
                continue;
            };
            self.spoke = true;
            if let Some(method) = message["method"].as_str() {
                // Servers of the older revisions may ask too; silence would keep them waiting.
                match (message.get("id"), method) {
                    (None, _) => {}
                    (Some(id), "ping") => self.send(&json!({"jsonrpc": "2.0", "id": id, "result": {}}))?,
                    (Some(id), _) => {
                        let error = json!({"code": -32601, "message": "method not found"});
                        self.send(&json!({"jsonrpc": "2.0", "id": id, "error": error}))?;
                    }
                }
                continue;
            }
            let Some(id) = message["id"].as_u64() else { continue };
            let answer = match message.get("result") {
                Some(result) if result.is_object() => Answer::Result(result.clone()),
                Some(_) => {
                    return Err(crate::check::protocol_error(
                        "the server answered with a result that is no object",
                    ));
                }
                None => Answer::Error(message.pointer("/error/code").and_then(Value::as_i64)),
            };
            return Ok(Some(Reply { id, answer }));
        }
    }

    /// The problem with what the process itself had to say about it.
    pub(super) fn failure(mut self, problem: Problem) -> Failure {
        let Problem { mut kind, mut text } = problem;
        if kind == Kind::Died {
            match self.wait(LAST_WORDS) {
                Some(status) => text = format!("{text} ({})", ending(status)),
                None => text = format!("{text}, though its process still runs"),
            }
            let _ = self.errors_end.recv_timeout(LAST_WORDS);
            // What was said behind the last answer counts too.
            while let Ok(line) = self.lines.try_recv() {
                if serde_json::from_slice::<Value>(&line).is_err() && !line.trim_ascii().is_empty() {
                    self.banner_lines += 1;
                    self.first_banner.get_or_insert(line);
                }
            }
        }
        if let Some(banner) = &self.first_banner {
            let banner = self.redactor.redact(Field::Summary, banner.trim_ascii()).as_str().to_owned();
            if kind == Kind::NoAnswer && !self.spoke {
                kind = Kind::Banner;
                text = format!("{text}; it says something else on its stdout: {banner}");
            } else {
                text = format!("{text}; its stdout also has what is not JSON-RPC: {banner}");
            }
        }
        let lines = self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let stderr = lines.iter().map(Redacted::to_string).collect();
        Failure { kind, text, stderr, banner_lines: self.banner_lines }
    }

    /// Ends the process as a host does: closed stdin, then SIGTERM, then SIGKILL.
    pub(super) fn end(mut self) -> End {
        self.end_it()
    }

    fn end_it(&mut self) -> End {
        self.ended = true;
        let begin = Instant::now();
        drop(self.child.stdin.take());
        if self.wait(GRACE).is_some() {
            return End { by: "stdin_closed", after: begin.elapsed() };
        }
        self.signal(Signal::TERM);
        if self.wait(GRACE).is_some() {
            return End { by: "sigterm", after: begin.elapsed() };
        }
        self.signal(Signal::KILL);
        let _ = self.child.wait();
        End { by: "sigkill", after: begin.elapsed() }
    }

    fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, signal);
        }
    }

    fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
                _ => return None,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.ended {
            self.end_it();
        }
    }
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown status".to_owned(),
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

/// Keeps the last lines, however many there are; the receiver hears of the end. All lines pass the
/// redactor: a private key may begin long before the last ones.
fn read_tail(source: impl Read + Send + 'static, mut redactor: Redactor) -> (Tail, Receiver<()>) {
    let tail = Tail::default();
    let kept = Arc::clone(&tail);
    let (sender, end) = sync_channel(1);
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        while let Some(line) = next_line(&mut source) {
            let line = redactor.redact(Field::StderrLine, line.trim_ascii_end());
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == TAIL {
                kept.pop_front();
            }
            kept.push_back(line);
        }
        let _ = sender.send(());
    });
    (tail, end)
}

fn next_line(source: &mut BufReader<impl Read>) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let read = source.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
    matches!(read, Ok(1..)).then_some(line)
}
