//! The state that the observer threads share: the observer, its sinks, and the rings that they read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::export::Exporter;
use crate::observe::event::StatsSample;
use crate::observe::{DebugOrder, LoadMode, Observer, ServerEnd};
use crate::proxy::debug_watch::DebugWatch;
use crate::record::Dropped;
use crate::relay::StreamReaders;
use crate::relay::chunk::{Chunk, Gap, Moment, Stream};
use crate::relay::ring::Item;
use crate::system::messages::say;
use crate::system::processes::ProcessStat;

/// The start of the server, as the observer needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerStart {
    /// `None` if the server could not be started.
    pub(crate) pid: Option<i32>,
    pub(crate) spawned: Moment,
    /// The host's stdout and stderr are one stream.
    pub(crate) stderr_is_stdout: bool,
}

/// The observer of a session, which has observed its start, and its sinks.
pub(crate) struct SessionObserver {
    pub(crate) observer: Observer,
    pub(crate) exporter: Exporter,
    /// Called at the end with the tools that were seen.
    pub(crate) remember_tools: Option<RememberTools>,
    /// Looks for orders of `spantap debug`, until the observer thread takes it.
    pub(crate) debug_watch: Option<DebugWatch>,
}

/// Saves the tools for the next session with this server.
pub(crate) type RememberTools = Box<dyn FnOnce(&Observer) + Send>;

/// Makes the [`SessionObserver`].
pub(crate) type BuildObserver = Box<dyn FnOnce(&ServerStart) -> SessionObserver + Send>;

/// The time that the end of a session may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShutdownBudget {
    /// Deadline of the sinks.
    pub(super) deadline: Instant,
    /// How far the observation of the remaining chunks may move the deadline.
    pub(super) grace: Duration,
}

impl ShutdownBudget {
    fn latest(self) -> Instant {
        self.deadline + self.grace
    }

    /// Returns the budget of the sinks after other work, which began at `begun`.
    fn after(self, begun: Instant) -> ShutdownBudget {
        let used = begun.elapsed().min(self.grace);
        ShutdownBudget { deadline: self.deadline + used, grace: self.grace - used }
    }
}

enum ObserverState {
    /// The observer has not been made yet.
    NotBuilt(BuildObserver),
    Observing(Box<SessionObserver>),
    /// The observer has panicked too often. Chunks are counted as lost, and the end is recorded.
    Counting(Box<SessionObserver>),
    /// Counting has panicked, too. Chunks are taken off the rings and dropped.
    Off,
}

/// After this many panics the observer only counts for the rest of the session.
const MAX_PANICS: u64 = 3;
/// Part of the flush budget that is reserved for the sinks.
const SINKS_TIME: Duration = Duration::from_millis(400);
/// Interval of the statistics while there is traffic.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// The observer and the reading ends of the rings. The background thread and the catch-up thread share this value
/// in a mutex.
pub(super) struct ObserverRunner {
    state: ObserverState,
    readers: StreamReaders,
    pub(super) started: Option<ServerStart>,
    pub(super) catch_ups: u64,
    panics: u64,
    load_mode: LoadMode,
    next_sample: Moment,
    seen_since_sample: bool,
    /// When an output asked to be refreshed.
    next_refresh: Option<Moment>,
}

impl ObserverRunner {
    pub(super) fn new(build: BuildObserver, readers: StreamReaders) -> ObserverRunner {
        ObserverRunner {
            state: ObserverState::NotBuilt(build),
            readers,
            started: None,
            catch_ups: 0,
            panics: 0,
            load_mode: LoadMode::Full,
            next_sample: Moment(0),
            seen_since_sample: false,
            next_refresh: None,
        }
    }

    /// Observes waiting chunks of about `limit` bytes; returns the number of observed bytes.
    pub(super) fn observe(&mut self, limit: usize) -> usize {
        self.build();
        self.update_load_mode();
        let mut seen = 0;
        // A pump publishes a request before it reads the answer. So if an answer is in stdout's ring now, its
        // request is in a later snapshot of stdin's ring. Chunks of stdout after `mark` wait for that snapshot,
        // unless stdin's ring has a later chunk.
        let mark = self.readers.stdout.snapshot();
        self.readers.stdin.snapshot();
        self.readers.stdout.snapshot();
        self.readers.stderr.snapshot();
        while seen < limit {
            let stdin = self.readers.stdin.peek();
            let stdout = self.readers.stdout.peek();
            let next = match (stdin, stdout) {
                (Some(stdin), Some(stdout)) if stdout < stdin => Stream::Stdout,
                (Some(_), _) => Stream::Stdin,
                (None, Some(_)) if self.readers.stdout.is_before(mark) => Stream::Stdout,
                _ if self.readers.stderr.peek().is_some() => Stream::Stderr,
                _ => break,
            };
            seen += self.take(next);
        }
        self.seen_since_sample |= seen > 0;
        seen
    }

    fn take(&mut self, stream: Stream) -> usize {
        let ObserverRunner { state, readers, .. } = self;
        let reader = match stream {
            Stream::Stdin => &mut readers.stdin,
            Stream::Stdout => &mut readers.stdout,
            Stream::Stderr => &mut readers.stderr,
        };
        // At least 1, so that `observe` also ends on a ring of empty entries.
        let mut size = 1;
        let mut panicked = false;
        reader.take(|item| {
            if let Item::Chunk(chunk) = &item {
                size += chunk.bytes.len();
            }
            let (session, only_counts) = match state {
                ObserverState::Observing(session) => (session, false),
                ObserverState::Counting(session) => (session, true),
                ObserverState::NotBuilt(_) | ObserverState::Off => return,
            };
            let SessionObserver { observer, exporter, .. } = session.as_mut();
            panicked |= catch_unwind(AssertUnwindSafe(|| match item {
                Item::Chunk(chunk) if only_counts => observer.gap(gap_of(&chunk), exporter),
                Item::Chunk(chunk) => {
                    injected_panic(chunk.bytes);
                    observer.chunk(chunk, exporter);
                }
                Item::Gap(gap) => observer.gap(gap, exporter),
                Item::End(_) => {}
            }))
            .is_err();
        });
        if panicked {
            self.after_panic();
        }
        size
    }

    /// Returns what looks for orders of `spantap debug`, once.
    pub(super) fn take_debug_watch(&mut self) -> Option<DebugWatch> {
        match &mut self.state {
            ObserverState::Observing(session) => session.debug_watch.take(),
            _ => None,
        }
    }

    pub(super) fn order_debug(&mut self, order: Option<DebugOrder>, now: Moment) {
        self.guarded(|session| session.observer.order_debug(order, now, &mut session.exporter));
    }

    /// Reports deadlines that have passed, and statistics. Returns the present moment.
    pub(super) fn tick(&mut self) -> Moment {
        let now = crate::system::clock::now();
        let sample = (self.seen_since_sample && now >= self.next_sample).then(|| self.stats_sample());
        if sample.is_some() {
            self.seen_since_sample = false;
            self.next_sample = now.after(SAMPLE_INTERVAL);
        }
        let mut next_refresh = None;
        self.guarded(|session| {
            session.observer.tick(now, &mut session.exporter);
            if let Some(sample) = sample {
                session.observer.stats_sample(sample, now, &mut session.exporter);
            }
            next_refresh = session.exporter.refresh(&session.observer, now);
        });
        self.next_refresh = next_refresh;
        now
    }

    /// Returns `nap`, or the time until the observer's next deadline if that is shorter.
    pub(super) fn until_deadline(&self, nap: Duration) -> Duration {
        let ObserverState::Observing(session) = &self.state else { return nap };
        let deadline = catch_unwind(AssertUnwindSafe(|| session.observer.next_deadline())).ok().flatten();
        match deadline.into_iter().chain(self.next_refresh).min() {
            Some(deadline) => {
                nap.min(deadline.since(crate::system::clock::now()).max(crate::proxy::SHORTEST_NAP))
            }
            None => nap,
        }
    }

    /// Returns the number of exchanges with collectors so far.
    pub(super) fn exchanges(&self) -> u64 {
        match &self.state {
            ObserverState::Observing(session) => session.exporter.exchanges(),
            _ => 0,
        }
    }

    /// Returns true if a ring is too full for the background loop alone.
    pub(super) fn is_pressed(&self) -> bool {
        [&self.readers.stdin, &self.readers.stdout, &self.readers.stderr].iter().any(|reader| {
            let ring = reader.ring();
            ring.depth() > ring.size() / 16
        })
    }

    /// Drains the rings, ends every open request, closes the sinks.
    pub(super) fn finish(&mut self, end: ServerEnd, budget: ShutdownBudget) {
        let begun = Instant::now();
        // The sinks need time, too: chunks that are not observed by then are counted as lost.
        let observed_until = budget.latest() - SINKS_TIME;
        let mut more = true;
        while more && Instant::now() < observed_until {
            more = self.observe(crate::proxy::SLICE) > 0;
        }
        if more {
            let bytes = self.count_the_rest();
            if bytes > 0 {
                say(format_args!("{bytes} bytes were forwarded but not recorded: shutdown deadline reached"));
            }
        }
        let budget = budget.after(begun);
        let sample = self.stats_sample();
        self.guarded(|session| session.observer.stats_sample(sample, end.at, &mut session.exporter));
        let end = ServerEnd { catch_ups: self.catch_ups, observer_panics: self.panics, ..end };
        if let ObserverState::Observing(session) | ObserverState::Counting(session) = &mut self.state {
            session.end(end, budget);
        }
    }

    /// Counts the chunks on the rings as lost; returns their number of bytes.
    fn count_the_rest(&mut self) -> u64 {
        self.build();
        let ObserverRunner { state, readers, .. } = self;
        let (ObserverState::Observing(session) | ObserverState::Counting(session)) = state else { return 0 };
        let mut bytes = 0;
        for reader in [&mut readers.stdin, &mut readers.stdout, &mut readers.stderr] {
            reader.snapshot();
            while reader.peek().is_some() {
                reader.take(|item| {
                    let gap = match item {
                        Item::Chunk(chunk) => gap_of(&chunk),
                        Item::Gap(gap) => gap,
                        Item::End(_) => return,
                    };
                    bytes += gap.bytes;
                    // If counting panics too, there is nothing more to report.
                    let count = || session.observer.gap(gap, &mut session.exporter);
                    let _ = catch_unwind(AssertUnwindSafe(count));
                });
            }
        }
        bytes
    }

    /// Reduces the observer to envelopes while a ring is more than half full, until it is less than a quarter
    /// full.
    fn update_load_mode(&mut self) {
        let depth = |quarters| {
            [&self.readers.stdin, &self.readers.stdout].iter().any(|reader| {
                let ring = reader.ring();
                ring.depth() > ring.size() / 4 * quarters
            })
        };
        let load_mode = match self.load_mode {
            LoadMode::Full if depth(2) => LoadMode::EnvelopeOnly,
            LoadMode::EnvelopeOnly if !depth(1) => LoadMode::Full,
            same => same,
        };
        if load_mode != self.load_mode {
            self.load_mode = load_mode;
            self.guarded(|session| session.observer.set_load_mode(load_mode));
        }
    }

    /// Makes the observer and its sinks, if they do not exist yet.
    pub(super) fn build(&mut self) {
        if let ObserverState::NotBuilt(_) = self.state
            && let (ObserverState::NotBuilt(build), Some(started)) =
                (std::mem::replace(&mut self.state, ObserverState::Off), self.started)
        {
            match catch_unwind(AssertUnwindSafe(|| build(&started))) {
                Ok(session) => self.state = ObserverState::Observing(Box::new(session)),
                Err(_) => say(
                    "the observer cannot be set up: this session is not recorded; traffic is not affected",
                ),
            }
        }
    }

    fn stats_sample(&self) -> StatsSample {
        let stat = self.started.and_then(|started| ProcessStat::read(started.pid?));
        let rings = [self.readers.stdin.ring(), self.readers.stdout.ring(), self.readers.stderr.ring()];
        let deepest = rings.iter().max_by_key(|ring| ring.depth());
        let mut added_latency: Vec<(u64, u64)> = Vec::new();
        for (bound, count) in rings[..2].iter().flat_map(|ring| ring.take_latency()) {
            match added_latency.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, sum)) => *sum += count,
                None => added_latency.push((bound, count)),
            }
        }
        StatsSample {
            in_flight: 0,
            server_rss: stat.map(|stat| stat.resident()),
            server_cpu: stat.map(|stat| stat.cpu()),
            server_first_answer: None,
            added_latency,
            ring_depth: deepest.map_or(0, |ring| ring.depth() as u64),
        }
    }

    /// Calls `act` if the observer observes, and handles its panic.
    fn guarded(&mut self, act: impl FnOnce(&mut SessionObserver)) {
        let ObserverState::Observing(session) = &mut self.state else { return };
        if catch_unwind(AssertUnwindSafe(|| act(session))).is_err() {
            self.after_panic();
        }
    }

    /// Reports the panic. The observer continues after a gap; from [`MAX_PANICS`] on it only counts.
    fn after_panic(&mut self) {
        self.panics += 1;
        self.state = match std::mem::replace(&mut self.state, ObserverState::Off) {
            ObserverState::Observing(mut session) => {
                let recover = AssertUnwindSafe(|| session.observer.recover(&mut session.exporter));
                let recovered = catch_unwind(recover).is_ok();
                if recovered && self.panics < MAX_PANICS {
                    say("the observer failed on a message and continues after it; traffic is not affected");
                    ObserverState::Observing(session)
                } else {
                    say("the observer failed and is off for this session; traffic is not affected");
                    ObserverState::Counting(session)
                }
            }
            ObserverState::Counting(_) => {
                say("the rest of this session is not recorded, and the number of lost records is unknown");
                ObserverState::Off
            }
            state => state,
        };
    }
}

/// Returns the gap that replaces a chunk which is not observed.
fn gap_of(chunk: &Chunk<'_>) -> Gap {
    Gap {
        stream: chunk.stream,
        offset: chunk.offset,
        bytes: chunk.bytes.len() as u64,
        newlines: memchr::memchr_iter(b'\n', chunk.bytes).count() as u64,
        ends_line: chunk.bytes.last() == Some(&b'\n'),
        read_at: chunk.read_at,
    }
}

/// Time between the deadline of the sinks and that of the session, to report what the sinks lost.
const REPORT_TIME: Duration = Duration::from_millis(50);
/// Part of the budget in which the sinks write the records that they have. Later records are only counted.
const WRITING_TIME: Duration = Duration::from_millis(250);

impl SessionObserver {
    /// Ends every request, the session and the sinks; reports lost records.
    pub(super) fn end(&mut self, end: ServerEnd, budget: ShutdownBudget) {
        let begun = Instant::now();
        self.exporter.stop_at(budget.latest() - WRITING_TIME);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            self.observer.end(end, &mut self.exporter);
            if let Some(remember_tools) = self.remember_tools.take() {
                remember_tools(&self.observer);
            }
        }));
        if ended.is_err() {
            say("the observer failed at the end: its last records are lost, and their number is unknown");
        }
        let dropped = self.exporter.close(budget.after(begun).deadline - REPORT_TIME);
        let lost: Vec<String> = dropped
            .iter()
            .filter(|dropped| dropped.count > 0)
            .map(|Dropped { place, reason, count }| format!("{count} at {place} ({reason})"))
            .collect();
        if !lost.is_empty() {
            say(format_args!("records lost: {}; `spantap doctor` looks for the cause", lost.join(", ")));
        }
    }
}

/// Panics in builds with debug assertions if the text in `SPANTAP_TEST_PANIC` appears in `bytes`.
fn injected_panic(bytes: &[u8]) {
    if cfg!(debug_assertions)
        && let Some(trigger) = std::env::var_os("SPANTAP_TEST_PANIC")
    {
        let found = memchr::memmem::find(bytes, trigger.as_encoded_bytes()).is_some();
        assert!(!found, "panic injected by SPANTAP_TEST_PANIC");
    }
}
