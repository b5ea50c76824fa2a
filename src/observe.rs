//! Floor 2: from bytes to events.
//!
//! One owner at a time, no locks, no I/O, no clock: a [`Chunk`] brings the instant at which it was
//! read, so that a recorded session replays to the same events. [`Observer`] is a value; whichever
//! thread holds it may feed it.

use std::time::Duration;

pub mod event;

pub mod canonical;
pub mod envelope;
pub mod frame;
pub mod mcp;
pub mod message;
pub mod patterns;
pub mod redact;
pub mod session;
pub mod traceparent;

use crate::relay::tap::{Chunk, Gap, Moment};
use canonical::HashKey;
use event::{EndReason, Lost, Pulse, SessionStarted, Sink, Span};

/// How to look at the traffic.
#[derive(Clone, Debug)]
pub struct Settings {
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
pub enum Detail {
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
    settings: Settings,
    redactor: redact::Redactor,
}

impl Observer {
    pub fn new(settings: Settings, redactor: redact::Redactor) -> Observer {
        Observer { settings, redactor }
    }

    /// The server runs (or could not be started): emits `session_started`.
    pub fn start(&mut self, started: SessionStarted, at: Moment, sink: &mut dyn Sink) {
        let _ = (&self.settings, &self.redactor, started, at, sink);
    }

    /// Takes bytes of one stream, in the order of their offsets. Chunks of both directions come in
    /// the order in which they were read.
    pub fn chunk(&mut self, chunk: Chunk<'_>, sink: &mut dyn Sink) {
        let _ = (chunk, sink);
    }

    /// Bytes were lost: the line they cut is partial, and its request or answer is unknown.
    pub fn gap(&mut self, gap: Gap, sink: &mut dyn Sink) {
        let _ = (gap, sink);
    }

    pub fn set_detail(&mut self, detail: Detail) {
        let _ = detail;
    }

    /// Time passes: reports hanging calls, turns debug off. `now` is later than all chunks before.
    pub fn tick(&mut self, now: Moment, sink: &mut dyn Sink) {
        let _ = (now, sink);
    }

    /// When [`Observer::tick`] next has something to do; `None`: not before the next chunk.
    pub fn next_deadline(&self) -> Option<Moment> {
        None
    }

    /// Passes figures on, completed with the number of open requests.
    pub fn pulse(&mut self, pulse: Pulse, at: Moment, sink: &mut dyn Sink) {
        let _ = (pulse, at, sink);
    }

    /// Records were lost behind the sink: emits `gap`.
    pub fn lost(&mut self, lost: Lost, at: Moment, sink: &mut dyn Sink) {
        let _ = (lost, at, sink);
    }

    /// Something in here failed: forgets what it was in the middle of. Each stream goes on at its next
    /// line, and open requests end as `unknown`.
    pub fn recover(&mut self, sink: &mut dyn Sink) {
        let _ = sink;
    }

    /// The end: the last lines without newline are taken as they are, every open request ends, and
    /// `session_ended` is emitted with the totals.
    pub fn end(&mut self, end: ServerEnd, sink: &mut dyn Sink) {
        let _ = (end, sink);
    }

    /// Hash of each tool definition seen in this session, for the next one.
    pub fn tools(&self) -> Option<&std::collections::BTreeMap<String, [u8; 32]>> {
        None
    }
}
