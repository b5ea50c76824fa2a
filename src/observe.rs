//! Floor 2: from bytes to events.
//!
//! One owner at a time, no locks, no I/O, no clock: a [`Chunk`] brings the instant at which it was
//! read, so that a recorded session replays to the same events. [`Observer`] is a value; whichever
//! thread holds it may feed it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub mod event;

pub mod canonical;
pub mod envelope;
pub mod frame;
pub mod mcp;
pub mod message;
pub mod redact;
mod repeats;
mod session;
pub mod traceparent;

use crate::relay::chunk::{Chunk, Gap, Moment, Stream};
use canonical::HashKey;
use envelope::{LineKind, Scanner};
use event::{Direction, EndReason, Lost, MalformedReason, SessionStarted, Sink, Span, StatsSample};
use frame::{Framer, Piece};
use session::{Session, Step};

/// How to look at the traffic.
#[derive(Clone, Debug)]
pub struct ObserverSettings {
    /// Report a call that has been open for this long, and again at ten times this.
    pub slow: Duration,
    /// A call answered later than this, or never, ends as `timeout`.
    pub call_timeout: Option<Duration>,
    /// Report the same call made more often than this.
    pub thrash_threshold: u32,
    /// Whether debug events (result summaries, notifications, stderr lines) are made.
    pub debug: Debug,
    pub hash_key: HashKey,
    /// The connection span: parent of, or linked from, every operation.
    pub connection: Span,
    /// What says that an error is a refusal.
    pub denials: Denials,
    /// Conversation known from outside (a host's environment variable).
    pub conversation_id: Option<redact::Redacted>,
    /// Hash of each tool definition at the last session with this server, by hashed or plain name.
    pub known_tools: Option<std::collections::BTreeMap<String, [u8; 32]>>,
}

/// Whether debug events are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Debug {
    Off,
    On,
    /// On until this moment, then off by itself.
    Until(Moment),
}

/// Which JSON-RPC errors are refusals by a person or a policy.
#[derive(Clone, Debug, Default)]
pub struct Denials {
    pub codes: Vec<i64>,
    /// Lower-case words; an error message that contains one of them is a refusal.
    pub words: Vec<String>,
}

impl Denials {
    /// What servers and hosts are known to use.
    pub fn standard() -> Denials {
        let words =
            ["denied", "forbidden", "unauthorized", "unauthorised", "not authorized", "rejected by user"];
        Denials { codes: vec![-1, 401, 403], words: words.map(str::to_owned).to_vec() }
    }
}

/// How much is looked at, which the run loop turns down under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadMode {
    Full,
    /// The second gear: no hash over result bodies, no summaries; such operations are marked.
    EnvelopeOnly,
}

/// How the connection ended, as the relay saw it.
#[derive(Clone, Copy, Debug)]
pub struct ServerEnd {
    pub at: Moment,
    pub reason: EndReason,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    /// How often the catch-up gear ran.
    pub catch_ups: u64,
    /// Panics of the observer that the run loop caught.
    pub observer_panics: u64,
}

/// Turns what the relay copied into events.
pub struct Observer {
    session: Session,
    stdin: MessageLines,
    stdout: MessageLines,
    stderr: StderrLines,
    /// The latest instant that was seen.
    now: Moment,
    load_mode: LoadMode,
}

/// One stream of messages.
struct MessageLines {
    direction: Direction,
    framer: Framer,
    scanner: Scanner,
    bytes: u64,
}

/// The server's stderr, of which short beginnings of lines are looked at.
#[derive(Default)]
struct StderrLines {
    framer: Framer,
    line: Vec<u8>,
    /// The last lines, for the record of an abnormal end.
    tail: StderrTail,
    bytes: u64,
}

/// The last lines as they are. A private key may have begun before them.
#[derive(Default)]
struct StderrTail {
    lines: VecDeque<Vec<u8>>,
    /// Whether one goes on at the first of them.
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

/// How much of a stderr line is looked at: its limit and what a secret at the cut may need.
const STDERR_LINE: usize = (8 << 10) + (4 << 10);
/// How many of the last lines of stderr an abnormal end tells.
const STDERR_TAIL: usize = 10;

impl Observer {
    /// `random` seeds the span ids.
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
            load_mode: LoadMode::Full,
        }
    }

    /// The server runs (or could not be started): emits `session_started`.
    pub fn start(&mut self, started: SessionStarted, at: Moment, sink: &mut dyn Sink) {
        self.now = self.now.max(at);
        self.session.start(started, &mut Step { now: at, out: sink });
    }

    /// Takes bytes of one stream, in the order of their offsets. Chunks of both directions come in
    /// the order in which they were read.
    pub fn chunk(&mut self, chunk: Chunk<'_>, sink: &mut dyn Sink) {
        self.now = self.now.max(chunk.read_at);
        let step = &mut Step { now: chunk.read_at, out: sink };
        match chunk.stream {
            Stream::Stdin => self.stdin.feed(chunk.bytes, &mut self.session, step),
            Stream::Stdout => self.stdout.feed(chunk.bytes, &mut self.session, step),
            Stream::Stderr => self.stderr.feed(chunk.bytes, &mut self.session, step),
        }
    }

    /// Bytes were lost: the line they cut is partial, and its request or answer is unknown.
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
        let MessageLines { direction, framer, scanner, .. } = lines;
        framer.gap(gap.newlines, gap.ends_line, |piece| {
            if let Piece::Cut { size } = piece {
                scanner.reset();
                self.session.cut(*direction, size, step);
            }
        });
        self.session.gap(&gap, step);
    }

    /// Under load bodies are not hashed; operations are marked then.
    pub fn set_load_mode(&mut self, load_mode: LoadMode) {
        self.load_mode = load_mode;
        for lines in [&mut self.stdin, &mut self.stdout] {
            lines.scanner.set_bodies(load_mode == LoadMode::Full);
        }
    }

    /// Time passes: reports hanging calls, turns debug off. `now` is later than all chunks before.
    pub fn tick(&mut self, now: Moment, sink: &mut dyn Sink) {
        self.now = self.now.max(now);
        self.session.tick(&mut Step { now, out: sink });
    }

    /// When [`Observer::tick`] next has something to do; `None`: not before the next chunk.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.session.next_deadline()
    }

    /// Passes figures on, completed with the number of open requests.
    pub fn stats_sample(&mut self, sample: StatsSample, at: Moment, sink: &mut dyn Sink) {
        self.session.stats_sample(sample, &mut Step { now: at, out: sink });
    }

    /// Records were lost behind the sink: emits `gap`.
    pub fn lost(&mut self, lost: Lost, at: Moment, sink: &mut dyn Sink) {
        self.session.lost_records(lost, &mut Step { now: at, out: sink });
    }

    /// Something in here failed: forgets what it was in the middle of. Each stream goes on at its next
    /// line, and open requests end as `unknown`.
    pub fn recover(&mut self, sink: &mut dyn Sink) {
        for lines in [&mut self.stdin, &mut self.stdout] {
            lines.scanner.reset();
            lines.framer.gap(0, false, |_| {});
        }
        self.stderr.line.clear();
        self.session.abandon_all(&mut Step { now: self.now, out: sink });
    }

    /// The end: the last lines without newline are taken as they are, every open request ends, and
    /// `session_ended` is emitted with the totals.
    pub fn end(&mut self, end: ServerEnd, sink: &mut dyn Sink) {
        let step = &mut Step { now: self.now, out: sink };
        self.stdin.end(&mut self.session, step);
        self.stdout.end(&mut self.session, step);
        self.stderr.end(&mut self.session, step);
        let totals = &mut self.session.totals;
        totals.bytes = [self.stdin.bytes, self.stdout.bytes, self.stderr.bytes];
        let framers = [&self.stdin.framer, &self.stdout.framer, &self.stderr.framer];
        totals.frames = framers.map(|framer| framer.frames);
        totals.frames_lost = framers.iter().map(|framer| framer.frames_lost).sum();
        step.now = end.at.max(self.now);
        let StderrTail { lines, before } = std::mem::take(&mut self.stderr.tail);
        self.session.end(end, before, lines.into(), step);
    }

    /// Hash of each tool definition seen in this session, for the next one.
    pub fn tools(&self) -> Option<&BTreeMap<String, [u8; 32]>> {
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
            Piece::Cut { size } => {
                scanner.reset();
                session.cut(direction, size, step);
            }
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
