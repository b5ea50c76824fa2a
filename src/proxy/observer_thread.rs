//! The baton: the observer with its sinks and the rings that it looks into.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::export::Exporter;
use crate::observe::event::StatsSample;
use crate::observe::{LoadMode, Observer, ServerEnd};
use crate::record::Dropped;
use crate::relay::StreamReaders;
use crate::relay::chunk::{Chunk, Gap, Moment, Stream};
use crate::relay::ring::Item;
use crate::system::procfs::ProcessStat;
use crate::system::stdio::say;

/// The server process, when the observer is made.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    /// `None` when it could not be started.
    pub pid: Option<i32>,
    pub spawned: Moment,
}

/// An observer and where its events go. It has been told of the start.
pub struct Watch {
    pub observer: Observer,
    pub exporter: Exporter,
    /// Called with the tools seen, at the end.
    pub remember: Option<Remember>,
}

/// Keeps what the next session with this server should know.
pub type Remember = Box<dyn FnOnce(&Observer) + Send>;

/// Makes the [`Watch`].
pub type Build = Box<dyn FnOnce(&Started) -> Watch + Send>;

/// The time for the end of a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    /// Of the sinks.
    pub(super) deadline: Instant,
    /// How far observing what is left may push it back.
    pub(super) grace: Duration,
}

impl Time {
    fn latest(self) -> Instant {
        self.deadline + self.grace
    }

    /// What is left for the sinks after something that began at `begun`, and was not theirs.
    fn after(self, begun: Instant) -> Time {
        let used = begun.elapsed().min(self.grace);
        Time { deadline: self.deadline + used, grace: self.grace - used }
    }
}

enum State {
    /// Nothing has been looked at yet.
    Waiting(Build),
    Watching(Box<Watch>),
    /// The observer has panicked too often: what is on the rings is counted as lost, and the end is told.
    Off(Box<Watch>),
    /// Not even that can be done; bytes are taken off the rings and forgotten.
    Gone,
}

/// After this many panics the observer is switched off for the rest of the session.
const MAX_PANICS: u64 = 3;
/// Part of the flush budget that is kept for the sinks.
const SINKS_TIME: Duration = Duration::from_millis(400);
/// How often figures are told while there is traffic.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Watcher {
    state: State,
    readers: StreamReaders,
    pub(super) started: Option<Started>,
    pub(super) catch_ups: u64,
    panics: u64,
    load_mode: LoadMode,
    next_sample: Moment,
    seen_since_sample: bool,
}

impl Watcher {
    pub(super) fn new(build: Build, readers: StreamReaders) -> Watcher {
        Watcher {
            state: State::Waiting(build),
            readers,
            started: None,
            catch_ups: 0,
            panics: 0,
            load_mode: LoadMode::Full,
            next_sample: Moment(0),
            seen_since_sample: false,
        }
    }

    /// Observes what is waiting, up to about `limit` bytes; returns how many bytes it was.
    pub(super) fn look(&mut self, limit: usize) -> usize {
        self.build();
        self.change_gear();
        let mut seen = 0;
        // An answer is read after its request was published. So what lies in stdout's ring now has its
        // request in what we see of stdin's ring a moment later, and the other way round for the part of
        // stdout's ring that is older than something in stdin's.
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
        let Watcher { state, readers, .. } = self;
        let tap = match stream {
            Stream::Stdin => &mut readers.stdin,
            Stream::Stdout => &mut readers.stdout,
            Stream::Stderr => &mut readers.stderr,
        };
        // At least one, so that a ring of empty entries ends as well.
        let mut size = 1;
        let mut panicked = false;
        tap.take(|item| {
            if let Item::Chunk(chunk) = &item {
                size += chunk.bytes.len();
            }
            let (watch, is_off) = match state {
                State::Watching(watch) => (watch, false),
                State::Off(watch) => (watch, true),
                State::Waiting(_) | State::Gone => return,
            };
            let Watch { observer, exporter, .. } = watch.as_mut();
            panicked |= catch_unwind(AssertUnwindSafe(|| match item {
                Item::Chunk(chunk) if is_off => observer.gap(unseen(&chunk), exporter),
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

    /// Time has passed.
    pub(super) fn tick(&mut self) {
        let now = crate::system::clock::now();
        let sample = (self.seen_since_sample && now >= self.next_sample).then(|| self.stats_sample());
        if sample.is_some() {
            self.seen_since_sample = false;
            self.next_sample = now.after(SAMPLE_INTERVAL);
        }
        self.guarded(|watch| {
            watch.observer.tick(now, &mut watch.exporter);
            if let Some(sample) = sample {
                watch.observer.stats_sample(sample, now, &mut watch.exporter);
            }
        });
    }

    /// The nap, or the time until the observer has something to do by itself.
    pub(super) fn until_deadline(&self, nap: Duration) -> Duration {
        let State::Watching(watch) = &self.state else { return nap };
        let deadline = catch_unwind(AssertUnwindSafe(|| watch.observer.next_deadline())).ok().flatten();
        match deadline {
            Some(deadline) => {
                nap.min(deadline.since(crate::system::clock::now()).max(crate::proxy::SHORTEST_NAP))
            }
            None => nap,
        }
    }

    /// Whether more is waiting than the background should be left with.
    pub(super) fn is_pressed(&self) -> bool {
        [&self.readers.stdin, &self.readers.stdout, &self.readers.stderr].iter().any(|tap| {
            let ring = tap.ring();
            ring.depth() > ring.size() / 16
        })
    }

    /// The last gear: drains the rings, ends every open request, closes the sinks.
    pub(super) fn finish(&mut self, end: ServerEnd, time: Time) {
        let begun = Instant::now();
        // Sinks need time too: what cannot be observed by then is counted as lost.
        let observed_until = time.latest() - SINKS_TIME;
        let mut more = true;
        while more && Instant::now() < observed_until {
            more = self.look(crate::proxy::SLICE) > 0;
        }
        if more {
            let bytes = self.count_the_rest();
            if bytes > 0 {
                say(&format!("{bytes} bytes were relayed and not observed: the time for it was over"));
            }
        }
        let time = time.after(begun);
        let sample = self.stats_sample();
        self.guarded(|watch| watch.observer.stats_sample(sample, end.at, &mut watch.exporter));
        let end = ServerEnd { catch_ups: self.catch_ups, observer_panics: self.panics, ..end };
        if let State::Watching(watch) | State::Off(watch) = &mut self.state {
            self::end(watch, end, time);
        }
    }

    /// Time is over: what still waits in the rings is counted, not looked at. Returns how many bytes.
    fn count_the_rest(&mut self) -> u64 {
        self.build();
        let Watcher { state, readers, .. } = self;
        let (State::Watching(watch) | State::Off(watch)) = state else { return 0 };
        let mut bytes = 0;
        for tap in [&mut readers.stdin, &mut readers.stdout, &mut readers.stderr] {
            tap.snapshot();
            while tap.peek().is_some() {
                tap.take(|item| {
                    let gap = match item {
                        Item::Chunk(chunk) => unseen(&chunk),
                        Item::Gap(gap) => gap,
                        Item::End(_) => return,
                    };
                    bytes += gap.bytes;
                    // Whoever fails at counting has nothing left that could be said of it.
                    let _ = catch_unwind(AssertUnwindSafe(|| watch.observer.gap(gap, &mut watch.exporter)));
                });
            }
        }
        bytes
    }

    /// Full detail while there is room, the envelope only while a ring is more than half full.
    fn change_gear(&mut self) {
        let depth = |quarters| {
            [&self.readers.stdin, &self.readers.stdout].iter().any(|tap| {
                let ring = tap.ring();
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
            self.guarded(|watch| watch.observer.set_load_mode(load_mode));
        }
    }

    /// Makes the observer and its sinks, unless they are there.
    pub(super) fn build(&mut self) {
        if let State::Waiting(_) = self.state
            && let (State::Waiting(build), Some(started)) =
                (std::mem::replace(&mut self.state, State::Gone), self.started)
        {
            match catch_unwind(AssertUnwindSafe(|| build(&started))) {
                Ok(watch) => self.state = State::Watching(Box::new(watch)),
                Err(_) => say("the observer could not be set up and is off; the traffic is not affected"),
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
            server_rss: stat.map(|stat| stat.resident),
            server_cpu: stat.map(|stat| stat.cpu),
            server_first_answer: None,
            added_latency,
            ring_depth: deepest.map_or(0, |ring| ring.depth() as u64),
            ring_size: deepest.map_or(0, |ring| ring.size() as u64),
        }
    }

    fn guarded(&mut self, act: impl FnOnce(&mut Watch)) {
        let State::Watching(watch) = &mut self.state else { return };
        if catch_unwind(AssertUnwindSafe(|| act(watch))).is_err() {
            self.after_panic();
        }
    }

    /// Says so, and lets the observer go on behind a hole; a third time it is off for good, and only counts.
    fn after_panic(&mut self) {
        self.panics += 1;
        self.state = match std::mem::replace(&mut self.state, State::Gone) {
            State::Watching(mut watch) => {
                let recover = AssertUnwindSafe(|| watch.observer.recover(&mut watch.exporter));
                let recovered = catch_unwind(recover).is_ok();
                if recovered && self.panics < MAX_PANICS {
                    say(
                        "the observer failed on something it saw and goes on behind it; the traffic is not affected",
                    );
                    State::Watching(watch)
                } else {
                    say("the observer failed and is off for this session; the traffic is not affected");
                    State::Off(watch)
                }
            }
            State::Off(_) => {
                say("what is not observed of this session cannot be counted either");
                State::Gone
            }
            state => state,
        };
    }
}

/// What a chunk becomes that nobody looks into.
fn unseen(chunk: &Chunk<'_>) -> Gap {
    Gap {
        stream: chunk.stream,
        offset: chunk.offset,
        bytes: chunk.bytes.len() as u64,
        newlines: memchr::memchr_iter(b'\n', chunk.bytes).count() as u64,
        ends_line: chunk.bytes.last() == Some(&b'\n'),
        read_at: chunk.read_at,
    }
}

/// What is left of the time after the sinks were given up, to say so.
const LAST_WORD: Duration = Duration::from_millis(50);
/// Part of the time that the sinks have to write out what has been made; what would be made later is
/// counted only.
const WRITING_TIME: Duration = Duration::from_millis(250);

/// Ends the observation: every request, the session, the sinks; says what was lost.
pub(super) fn end(watch: &mut Watch, end: ServerEnd, time: Time) {
    let begun = Instant::now();
    watch.exporter.stop_at(time.latest() - WRITING_TIME);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        watch.observer.end(end, &mut watch.exporter);
        if let Some(remember) = watch.remember.take() {
            remember(&watch.observer);
        }
    }));
    if ended.is_err() {
        say("the observer failed at the end: what it had still to record is lost, uncounted");
    }
    let dropped = watch.exporter.close(time.after(begun).deadline - LAST_WORD);
    let lost: Vec<String> = dropped
        .iter()
        .filter(|dropped| dropped.count > 0)
        .map(|Dropped { place, reason, count }| format!("{count} at {place} ({reason})"))
        .collect();
    if !lost.is_empty() {
        say(&format!("records lost: {}; `spantap doctor` looks for the cause", lost.join(", ")));
    }
}

/// In builds with debug assertions, `SPANTAP_TEST_PANIC` names a text on whose sight the observer panics.
fn injected_panic(bytes: &[u8]) {
    if cfg!(debug_assertions)
        && let Some(trigger) = std::env::var_os("SPANTAP_TEST_PANIC")
    {
        let found = memchr::memmem::find(bytes, trigger.as_encoded_bytes()).is_some();
        assert!(!found, "panic injected by SPANTAP_TEST_PANIC");
    }
}
