//! The server process of a probe: its pipes, its last lines, and its end.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, PipeReader, PipeWriter, Read};
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::check::answer::{ProbeReply, answer_to, parsed, reply_of};
use crate::check::{FailureKind, ProbeEnd, ProbePeer, ProbeProblem, ServerFailure};
use crate::hosts::launch::LocalLaunch;
use crate::observe::CHECK_CLIENT;
use crate::observe::redact::{Field, Redacted, Redactor};
use crate::system::group::{self, ProcessGroup, ServerEnds};
use crate::system::mutex::lock;

/// Longest line, in bytes, that is read whole.
const MAX_LINE: u64 = 16 << 20;
/// Number of lines of stderr that are shown when the server fails.
const MAX_LINES: usize = 10;
/// How long hosts wait for the server's end, and again after SIGTERM (the official SDKs: 2 s each).
const GRACE: Duration = Duration::from_secs(2);
/// How long to read the pipes of a server that has ended; a process that it started may keep them open.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Last lines of a stream.
type LastLines = Arc<Mutex<VecDeque<Redacted>>>;

pub(super) struct ProbeServer {
    child: Child,
    stdin: Option<PipeWriter>,
    /// Time limit of each answer, and of each message to the server.
    timeout: Duration,
    group: ProcessGroup,
    /// When the server was started.
    pub(super) begin: Instant,
    lines: Receiver<StdoutLine>,
    errors: LastLines,
    /// Receives a message when stderr has ended.
    errors_end: Receiver<()>,
    redactor: Redactor,
    last_id: u64,
    /// Number of lines on stdout that are not JSON-RPC.
    pub(super) banner_lines: usize,
    first_banner: Option<Vec<u8>>,
    /// True if a line was JSON-RPC.
    has_json_rpc: bool,
    ended: bool,
}

const ENDED: &str = "the server ended before it answered";

impl ProbeServer {
    /// Starts the server. `redactor` makes the redactors for its texts.
    pub(super) fn start(
        launch: &LocalLaunch,
        timeout: Duration,
        redactor: &dyn Fn() -> Redactor,
    ) -> Result<ProbeServer, ServerFailure> {
        let failure = |kind, text| ServerFailure { kind, text, stderr: Vec::new(), banner_lines: 0 };
        let [program, args @ ..] = &launch.command[..] else {
            return Err(failure(FailureKind::NotFound, "no server command".to_owned()));
        };
        let pipes = pipes().map_err(|error| {
            failure(FailureKind::NotStarted, format!("no pipe can be made for the server: {error}"))
        });
        let pipes = pipes?;
        let mut command = group::command(program);
        if let Some(folder) = &launch.folder {
            command.current_dir(folder);
        }
        command
            .args(args)
            // If the command starts a proxy, readers leave its session out.
            .env("SPANTAP_ORIGIN", CHECK_CLIENT)
            .envs(&launch.environment);
        // A launcher and the server that it starts are ended together.
        let started = ProcessGroup::start(command, pipes);
        let (group, child, ServerEnds { begin, stdin, stdout, stderr }) =
            started.map_err(|error| start_failure(&error, launch, redactor))?;
        let lines = read_lines(stdout);
        let (errors, errors_end) = read_tail(stderr, redactor());
        Ok(ProbeServer {
            child,
            stdin: Some(stdin),
            timeout,
            group,
            begin,
            lines,
            errors,
            errors_end,
            redactor: redactor(),
            last_id: 0,
            banner_lines: 0,
            first_banner: None,
            has_json_rpc: false,
            ended: false,
        })
    }

    /// Kills the process and returns `problem` as a failure, with the lines that the process wrote last. The
    /// failure of a process that died contains its exit status.
    pub(super) fn into_failure(mut self, problem: ProbeProblem) -> ServerFailure {
        let ProbeProblem { mut kind, mut text } = problem;
        if kind == FailureKind::Died {
            match self.wait(DRAIN_TIMEOUT) {
                // A server that ends has closed its stdin, too. Which of the two is noticed first is chance.
                Some(status) => text = format!("{ENDED} ({})", group::ending(status)),
                None => text = format!("{text}, but its process still runs"),
            }
            let _ = self.errors_end.recv_timeout(DRAIN_TIMEOUT);
            // Lines after the last answer count too. A process that goes on writing is not waited for.
            let deadline = Instant::now() + DRAIN_TIMEOUT;
            while let (Ok(line), true) = (self.lines.try_recv(), Instant::now() < deadline) {
                let StdoutLine::Whole(line) = line else { continue };
                if serde_json::from_slice::<Value>(&line).is_err() && !line.trim_ascii().is_empty() {
                    self.banner_lines += 1;
                    self.first_banner.get_or_insert(line);
                }
            }
        }
        if let Some(banner) = &self.first_banner {
            let banner = self.redactor.redact(Field::Summary, banner.trim_ascii()).as_str().to_owned();
            if kind == FailureKind::NoAnswer && !self.has_json_rpc {
                kind = FailureKind::Banner;
                text = format!("{text}; its stdout has something else: {banner}");
            } else {
                text = format!("{text}; its stdout also has a line that is not JSON-RPC: {banner}");
            }
        }
        let lines = lock(&self.errors).clone();
        let stderr = lines.iter().map(Redacted::to_string).collect();
        ServerFailure { kind, text, stderr, banner_lines: self.banner_lines }
    }

    /// Ends the process as a host does: closes stdin, then sends SIGTERM, then SIGKILL.
    pub(super) fn end(mut self) -> ProbeEnd {
        self.terminate()
    }

    fn terminate(&mut self) -> ProbeEnd {
        self.ended = true;
        let begin = Instant::now();
        drop(self.stdin.take());
        if self.wait(GRACE).is_some() {
            return ProbeEnd { by: "stdin_closed", after: begin.elapsed() };
        }
        if self.group.ask_to_end() && self.wait(GRACE).is_some() {
            return ProbeEnd { by: "sigterm", after: begin.elapsed() };
        }
        self.group.kill();
        // It may have left the group and closed its pipes.
        let _ = self.child.kill();
        let _ = self.child.wait();
        ProbeEnd { by: "sigkill", after: begin.elapsed() }
    }

    fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
                _ => return None,
            }
        }
    }
}

impl ProbeServer {
    /// Writes a message. Fails if the server has not read what was written before by `deadline`.
    fn write(&mut self, message: &Value, deadline: Instant) -> Result<(), ProbeProblem> {
        let line = format!("{message}\n");
        let mut rest = line.as_bytes();
        while let (Some(stdin), false) = (self.stdin.as_mut(), rest.is_empty()) {
            let (kind, text) = match group::write_now(stdin, rest) {
                Ok(count) => {
                    rest = &rest[count..];
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    (FailureKind::Died, "the server closed its stdin")
                }
                Err(_) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                }
                Err(_) => (FailureKind::NoAnswer, "the server does not read its stdin, which is full"),
            };
            return Err(ProbeProblem { kind, text: text.to_owned() });
        }
        Ok(())
    }
}

impl ProbePeer for ProbeServer {
    fn request(&mut self, method: &str, params: Value) -> Result<u64, ProbeProblem> {
        self.last_id += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params}))?;
        Ok(self.last_id)
    }

    fn send(&mut self, message: &Value) -> Result<(), ProbeProblem> {
        self.write(message, Instant::now() + self.timeout)
    }

    fn reply(&mut self, deadline: Instant) -> Result<Option<ProbeReply>, ProbeProblem> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Messages without end do not move the deadline.
            if left.is_zero() {
                return Ok(None);
            }
            let line = match self.lines.recv_timeout(left) {
                Ok(StdoutLine::Whole(line)) => line,
                Ok(StdoutLine::TooLong) => {
                    let text = "a line of its stdout is larger than 16 MiB".to_owned();
                    return Err(ProbeProblem { kind: FailureKind::ProtocolError, text });
                }
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(ProbeProblem { kind: FailureKind::Died, text: ENDED.to_owned() });
                }
            };
            if line.trim_ascii().is_empty() {
                continue;
            }
            let message = parsed(&line)?;
            let Some(message) = message.filter(|message| message["jsonrpc"] == "2.0") else {
                self.banner_lines += 1;
                self.first_banner.get_or_insert(line);
                continue;
            };
            self.has_json_rpc = true;
            if message["method"].is_string() {
                // Servers of older revisions may send requests, and would wait for the answers.
                if let Some(answer) = answer_to(&message)? {
                    self.write(&answer, deadline)?;
                }
                continue;
            }
            let Some(reply) = reply_of(&message, &line)? else { continue };
            return Ok(Some(reply));
        }
    }
}

impl Drop for ProbeServer {
    fn drop(&mut self) {
        if !self.ended {
            self.terminate();
        }
    }
}

/// Makes the pipes of stdin, stdout and stderr.
fn pipes() -> std::io::Result<[(PipeReader, PipeWriter); 3]> {
    Ok([std::io::pipe()?, std::io::pipe()?, std::io::pipe()?])
}

/// Returns why a process could not be started.
fn start_failure(
    error: &std::io::Error,
    launch: &LocalLaunch,
    redactor: &dyn Fn() -> Redactor,
) -> ServerFailure {
    let has_no_folder = launch.folder.as_deref().is_some_and(|folder| !folder.is_dir());
    let (kind, reason) = match error.kind() {
        ErrorKind::NotFound if has_no_folder => {
            (FailureKind::NotFound, "its working folder does not exist".to_owned())
        }
        ErrorKind::NotFound => (FailureKind::NotFound, "not found".to_owned()),
        ErrorKind::PermissionDenied => (FailureKind::NotExecutable, "not executable".to_owned()),
        ErrorKind::InvalidInput => (FailureKind::BadEntry, error.to_string()),
        ErrorKind::WouldBlock | ErrorKind::OutOfMemory | ErrorKind::ArgumentListTooLong => {
            (FailureKind::NotStarted, error.to_string())
        }
        _ => (FailureKind::NotExecutable, error.to_string()),
    };
    let program = redactor().redact_argv(&launch.command[..1]);
    let program = program.first().map(|word| word.as_str().to_owned()).unwrap_or_default();
    let text = format!("failed to start server `{program}`: {reason}");
    ServerFailure { kind, text, stderr: Vec::new(), banner_lines: 0 }
}

enum StdoutLine {
    Whole(Vec<u8>),
    /// Longer than [`MAX_LINE`].
    TooLong,
}

/// Reads lines in a new thread. A server that writes faster than its lines are received has to wait.
fn read_lines(source: impl Read + Send + 'static) -> Receiver<StdoutLine> {
    let (sender, receiver) = sync_channel(16);
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        while let Some(line) = next_line(&mut source) {
            let line = if is_cut(&line) { StdoutLine::TooLong } else { StdoutLine::Whole(line) };
            let is_read = matches!(line, StdoutLine::Whole(_)) || source.skip_until(b'\n').is_ok();
            if sender.send(line).is_err() || !is_read {
                return;
            }
        }
    });
    receiver
}

/// Reads lines in a new thread and keeps the last ones. The receiver gets a message at the end. Every line
/// passes the redactor, because a private key can begin long before the last lines.
fn read_tail(source: impl Read + Send + 'static, mut redactor: Redactor) -> (LastLines, Receiver<()>) {
    let tail = LastLines::default();
    let kept = Arc::clone(&tail);
    let (sender, end) = sync_channel(1);
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        while let Some(line) = next_line(&mut source) {
            let is_cut = is_cut(&line);
            let line = redactor.redact(Field::StderrLine, line.trim_ascii_end());
            let mut kept = lock(&kept);
            if kept.len() == MAX_LINES {
                kept.pop_front();
            }
            kept.push_back(line);
            drop(kept);
            // The rest may begin within a token, which is then not recognised.
            if is_cut && source.skip_until(b'\n').is_err() {
                break;
            }
        }
        let _ = sender.send(());
    });
    (tail, end)
}

/// Returns true if [`next_line`] returned only the beginning of a line.
fn is_cut(line: &[u8]) -> bool {
    line.len() as u64 == MAX_LINE && !line.ends_with(b"\n")
}

/// Returns a line with its end, of a longer one the first [`MAX_LINE`] bytes.
fn next_line(source: &mut BufReader<impl Read>) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let read = source.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
    matches!(read, Ok(1..)).then_some(line)
}
