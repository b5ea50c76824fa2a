//! From bytes to events.
//!
//! [`Observer`] is a plain value without locks, I/O or a clock, and the thread that owns it feeds it. A
//! [`Chunk`] contains the moment at which it was read, so a recorded session replays to the same events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub mod event;

pub mod canonical;
pub mod envelope;
mod error_words;
pub mod frame;
pub(crate) mod lint;
pub mod mcp;
pub mod message;
pub mod propagation;
pub mod redact;
mod repeats;
pub(crate) mod result_limits;
mod session;
pub mod tool_definition;
pub mod tools;
mod trace_ids;
pub mod traceparent;
pub(crate) mod turns;

use crate::relay::chunk::{Chunk, Gap, Moment, Stream};
use crate::text::glob::Glob;
use canonical::HashKey;
use envelope::{LineKind, Scanner};
use event::{
    BodiesState, CallFacts, Direction, EndReason, MalformedReason, SessionStarted, Sink, Span, StatsSample,
};
use frame::{Framer, Piece};
use propagation::SharedContext;
use session::{Session, Step};
use tools::ToolSet;

/// Name of the client in a probe of `spantap check`, and origin of a proxy that the probed command starts.
pub(crate) const CHECK_CLIENT: &str = "spantap-check";

#[derive(Clone, Debug)]
pub struct ObserverSettings {
    /// A call that has been open for this long is reported, and again after ten times as long.
    pub slow: Duration,
    /// A call that is answered later than this, or never, ends as `timeout`.
    pub call_timeout: Option<Duration>,
    /// A call that is made more often than this with the same arguments is reported.
    pub thrash_threshold: u32,
    /// Thresholds of the tools that match, instead of `thrash_threshold`. The first match counts.
    pub thrash_tools: Vec<(Glob, u32)>,
    /// Tokens of a result from which on the host is said to cut it; 0 for no limit. Without it the host is looked up.
    pub result_limit: Option<u32>,
    pub debug: Debug,
    pub hash_key: HashKey,
    /// The connection span, which is the parent of every operation or linked from it.
    pub connection: Span,
    /// Rules by which an error is a refusal.
    pub denials: Denials,
    /// Conversation from an environment variable of the host.
    pub conversation_id: Option<redact::Redacted>,
}

impl ObserverSettings {
    /// Returns the number of identical calls of a tool above which they are reported.
    fn threshold_of(&self, tool: &str) -> u32 {
        let own = self.thrash_tools.iter().find(|(glob, _)| glob.matches(tool));
        own.map_or(self.thrash_threshold, |(_, threshold)| *threshold)
    }
}

/// Setting for debug events: result summaries, notifications and lines of stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Debug {
    Off,
    On,
    Until(Moment),
}

/// An order of `spantap debug` to a session that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugOrder {
    pub until: Moment,
    pub bodies: BodiesState,
}

/// Rules by which a JSON-RPC error is a refusal by a person or a policy.
#[derive(Clone, Debug, Default)]
pub struct Denials {
    pub codes: Vec<i64>,
    /// Lower-case words. An error message whose point is one of them is a refusal.
    pub words: Vec<String>,
}

impl Denials {
    /// Returns the codes and words that servers and hosts are known to use.
    pub fn standard() -> Denials {
        let words = [
            "denied",
            "forbidden",
            "unauthorized",
            "unauthorised",
            "not authorized",
            "rejected by user",
            "rejected by the user",
            "declined by user",
            "declined by the user",
            "user rejected",
            "user declined",
            "blocked by policy",
        ];
        Denials { codes: vec![401, 403], words: words.map(str::to_owned).to_vec() }
    }
}

/// Detail of the observation, which the observer thread lowers under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadMode {
    Full,
    /// Result bodies are not hashed or summarised, and operations are marked as truncated.
    EnvelopeOnly,
}

/// End of the connection, as the relay observed it.
#[derive(Clone, Copy, Debug)]
pub struct ServerEnd {
    pub at: Moment,
    pub reason: EndReason,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    /// spantap killed the server, because it did not end when its host was gone.
    pub orphan_killed: bool,
    /// Number of times that the observer thread caught up with full rings.
    pub catch_ups: u64,
    /// Panics of the observer that the observer thread caught.
    pub observer_panics: u64,
}

/// Turns the chunks that the relay copied into events.
pub struct Observer {
    session: Session,
    stdin: MessageLines,
    stdout: MessageLines,
    stderr: StderrLines,
    /// The latest moment of a chunk, a gap or a tick.
    now: Moment,
}

struct MessageLines {
    direction: Direction,
    framer: Framer,
    scanner: Scanner,
    bytes: u64,
}

/// The server's stderr, of which the beginnings of lines are kept.
#[derive(Default)]
struct StderrLines {
    framer: Framer,
    line: Vec<u8>,
    /// The last lines, for the event of an abnormal end.
    tail: StderrTail,
    bytes: u64,
}

/// The last lines of stderr, not redacted yet.
#[derive(Default)]
struct StderrTail {
    lines: VecDeque<Vec<u8>>,
    /// State before the first line: a private key may have begun in an earlier one.
    before: redact::KeyLines,
}

impl StderrTail {
    fn push(&mut self, line: Vec<u8>) {
        if self.lines.len() == STDERR_TAIL
            && let Some(first) = self.lines.pop_front()
        {
            self.before.next(&first);
        }
        self.lines.push_back(line);
    }
}

/// Bytes of a stderr line that are kept: the limit of the field, and room for a secret at the cut.
const STDERR_LINE: usize = (8 << 10) + (4 << 10);
/// Lines of stderr in the event of an abnormal end.
const STDERR_TAIL: usize = 10;

impl Observer {
    /// Creates the observer of one connection. `random` seeds the span ids.
    pub fn new(settings: ObserverSettings, redactor: redact::Redactor, random: [u8; 32]) -> Observer {
        let session = Session::new(settings, redactor, random);
        let lines = |direction| MessageLines {
            direction,
            framer: Framer::default(),
            scanner: Scanner::new(session.hashing().clone()),
            bytes: 0,
        };
        Observer {
            stdin: lines(Direction::ClientToServer),
            stdout: lines(Direction::ServerToClient),
            stderr: StderrLines::default(),
            session,
            now: Moment(0),
        }
    }

    /// Emits `session_started`, after the server was started or could not be started.
    pub fn start(&mut self, started: SessionStarted, at: Moment, sink: &mut dyn Sink) {
        self.now = self.now.max(at);
        self.session.start(started, &mut Step { now: at, out: sink });
    }

    /// Takes bytes of one stream. The caller feeds the chunks of each stream in their order, and those of stdin and
    /// stdout together in the order in which they were read.
    pub fn chunk(&mut self, chunk: Chunk<'_>, sink: &mut dyn Sink) {
        self.now = self.now.max(chunk.read_at);
        self.session.set_mark(chunk.mark);
        let step = &mut Step { now: chunk.read_at, out: sink };
        match chunk.stream {
            Stream::Stdin => self.stdin.feed(chunk.bytes, &mut self.session, step),
            Stream::Stdout => self.stdout.feed(chunk.bytes, &mut self.session, step),
            Stream::Stderr => self.stderr.feed(chunk.bytes, &mut self.session, step),
        }
    }

    /// Takes note of lost bytes. The line that they cut is partial, and its request or answer is unknown.
    pub fn gap(&mut self, gap: Gap, sink: &mut dyn Sink) {
        self.now = self.now.max(gap.read_at);
        let step = &mut Step { now: gap.read_at, out: sink };
        let lines = match gap.stream {
            Stream::Stdin => &mut self.stdin,
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => {
                self.stderr.bytes += gap.bytes;
                self.stderr.framer.gap(gap.newlines, gap.ends_line, |_| {});
                self.stderr.line.clear();
                self.session.gap(&gap, step);
                return;
            }
        };
        lines.bytes += gap.bytes;
        let MessageLines { framer, scanner, .. } = lines;
        framer.gap(gap.newlines, gap.ends_line, |_| scanner.reset());
        self.session.gap(&gap, step);
    }

    /// Sets the detail for messages that begin from now on.
    pub(crate) fn set_load_mode(&mut self, load_mode: LoadMode) {
        for lines in [&mut self.stdin, &mut self.stdout] {
            lines.scanner.set_bodies(load_mode == LoadMode::Full);
        }
    }

    /// Turns debug on by an order of the user, or ends the order. The setting stays as it is.
    pub fn order_debug(&mut self, order: Option<DebugOrder>, now: Moment, sink: &mut dyn Sink) {
        self.now = self.now.max(now);
        self.session.order_debug(order, &mut Step { now, out: sink });
        self.stdout.scanner.keep_outer(self.session.keeps_bodies(now));
    }

    /// Reports hanging calls and turns debug off. `now` is later than all chunks before.
    pub fn tick(&mut self, now: Moment, sink: &mut dyn Sink) {
        self.now = self.now.max(now);
        self.session.tick(&mut Step { now, out: sink });
        self.stdout.scanner.keep_outer(self.session.keeps_bodies(now));
    }

    /// Returns the moment at which [`Observer::tick`] next has something to do.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.session.next_deadline()
    }

    /// Emits `sample`, completed with the number of open requests.
    pub(crate) fn stats_sample(&mut self, sample: StatsSample, at: Moment, sink: &mut dyn Sink) {
        self.session.stats_sample(sample, &mut Step { now: at, out: sink });
    }

    /// Resets the observer after a panic. Each stream continues at its next line, and open requests end as
    /// `unknown`.
    pub fn recover(&mut self, sink: &mut dyn Sink) {
        for lines in [&mut self.stdin, &mut self.stdout] {
            lines.scanner.reset();
            lines.framer.restart();
        }
        self.stderr.framer.restart();
        self.stderr.line.clear();
        self.session.abandon_all(&mut Step { now: self.now, out: sink });
    }

    /// Ends the connection: takes last lines without a newline, ends every open request, and emits
    /// `session_ended` with the totals.
    pub fn end(&mut self, end: ServerEnd, sink: &mut dyn Sink) {
        let step = &mut Step { now: self.now, out: sink };
        self.stdin.end(&mut self.session, step);
        self.stdout.end(&mut self.session, step);
        self.stderr.end(&mut self.session, step);
        let totals = &mut self.session.totals;
        [totals.stdin_bytes, totals.stdout_bytes, totals.stderr_bytes] =
            [self.stdin.bytes, self.stdout.bytes, self.stderr.bytes];
        let framers = [&self.stdin.framer, &self.stdout.framer, &self.stderr.framer];
        [totals.stdin_frames, totals.stdout_frames, totals.stderr_frames] =
            framers.map(|framer| framer.frames);
        totals.frames_lost = framers.iter().map(|framer| framer.frames_lost).sum();
        step.now = end.at.max(self.now);
        let StderrTail { lines, before } = std::mem::take(&mut self.stderr.tail);
        self.session.end(end, before, lines.into(), step);
    }

    /// Returns the open requests, oldest first, with the moment at which each arrived.
    pub(crate) fn open_requests(&self) -> impl Iterator<Item = (&CallFacts, Moment)> {
        self.session.open_requests()
    }

    /// Returns the number of requests that have arrived.
    pub(crate) fn arrived(&self) -> u64 {
        self.session.arrived()
    }

    /// Sets the tool definitions of the last session with this server.
    pub fn remember_tools(&mut self, known: Option<ToolSet>) {
        self.session.remember_tools(known);
    }

    /// Lets requests have the spans that a pump has given them, and reports the counts of the pump at the end.
    pub fn follow(&mut self, context: Arc<SharedContext>) {
        self.session.follow(context);
    }

    /// Returns the tool definitions of this session, for the next one.
    pub fn tools(&self) -> Option<&ToolSet> {
        self.session.tools()
    }
}

impl MessageLines {
    fn feed(&mut self, bytes: &[u8], session: &mut Session, step: &mut Step<'_>) {
        self.bytes += bytes.len() as u64;
        let MessageLines { direction, framer, scanner, .. } = self;
        framer.feed(bytes, |piece| MessageLines::piece(*direction, scanner, piece, session, step));
    }

    fn end(&mut self, session: &mut Session, step: &mut Step<'_>) {
        let MessageLines { direction, framer, scanner, .. } = self;
        framer.end(|piece| MessageLines::piece(*direction, scanner, piece, session, step));
    }

    fn piece(
        direction: Direction,
        scanner: &mut Scanner,
        piece: Piece<'_>,
        session: &mut Session,
        step: &mut Step<'_>,
    ) {
        let bodies = scanner.bodies();
        match piece {
            Piece::Bytes(bytes) => {
                scanner.feed(bytes, |envelope| session.message(direction, envelope, bodies, step));
            }
            Piece::End { size } => {
                let line = scanner.end(|envelope| session.message(direction, envelope, bodies, step));
                if line == LineKind::NotJson {
                    session.malformed(direction.stream(), MalformedReason::NotJson, size, step);
                }
                session.totals.envelope_only += u64::from(!bodies);
            }
            Piece::Cut { .. } => scanner.reset(),
        }
    }
}

impl StderrLines {
    fn feed(&mut self, bytes: &[u8], session: &mut Session, step: &mut Step<'_>) {
        self.bytes += bytes.len() as u64;
        let StderrLines { framer, line, tail, .. } = self;
        framer.feed(bytes, |piece| StderrLines::piece(line, tail, piece, session, step));
    }

    fn end(&mut self, session: &mut Session, step: &mut Step<'_>) {
        let StderrLines { framer, line, tail, .. } = self;
        framer.end(|piece| StderrLines::piece(line, tail, piece, session, step));
    }

    fn piece(
        line: &mut Vec<u8>,
        tail: &mut StderrTail,
        piece: Piece<'_>,
        session: &mut Session,
        step: &mut Step<'_>,
    ) {
        match piece {
            Piece::Bytes(bytes) => {
                let room = STDERR_LINE.saturating_sub(line.len()).min(bytes.len());
                line.extend_from_slice(&bytes[..room]);
            }
            Piece::End { size } => {
                if size > line.len() as u64 {
                    line.truncate(redact::length_of_whole_words(line));
                }
                if session.is_debug(step.now) {
                    session.stderr_line(line, size, step);
                }
                tail.push(std::mem::take(line));
            }
            Piece::Cut { .. } => line.clear(),
        }
    }
}
