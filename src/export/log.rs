//! The session log: one file for each connection, a line for each record.
//!
//! The observer's thread writes its lines into a bounded buffer in memory; a thread of our own takes
//! them out in large pieces. That thread alone may hang with the disk. `tracing_appender::non_blocking`
//! would do most of this, but it counts lines instead of bytes, cannot wait for a burst to drain, and
//! its guard prints to standard output, which is the wire, when its worker is stuck at the end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::export::Output;
use crate::observe::event::Event;
use crate::record::timestamp::Timestamp;
use crate::record::words::LossPlace;
use crate::record::{Dropped, Identity};
use crate::record::{EventName, Level, Record, SCHEMA, line};

mod file;
pub mod retention;

use file::SessionFile;

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    pub folder: PathBuf,
    /// Size at which a new part is begun, in bytes.
    pub max_size: u64,
    /// Size in bytes of all session logs of the folder together, beyond which the oldest are deleted
    /// when this one is opened; `None` deletes nothing.
    pub max_total_size: Option<u64>,
}

/// Bytes that may wait for the disk. The rings behind the observer are the larger buffer.
const MAX_QUEUE: usize = 4 << 20;
/// How long lines may wait for company before they are written together; a record is in the kernel's
/// hands well within a second.
const LINGER: Duration = Duration::from_millis(20);
/// The most that is written at once, in bytes: the unit in which the disk is seen to move.
const PIECE: usize = 256 << 10;
/// How long a full queue is waited for until the disk has taken another piece. The writer has the
/// lowest priority, so a busy machine may keep it waiting for this long.
const PATIENCE: Duration = Duration::from_millis(200);
/// The same where losing a record is worse than waiting. A disk that stands still for so long hangs.
const LONG_PATIENCE: Duration = Duration::from_secs(10);

/// The log of one connection.
pub struct Log {
    shared: Arc<Shared>,
    identity: Identity,
    line: Vec<u8>,
    /// Whether the writer has been started; it is when the first line comes.
    started: bool,
    /// Where the disk stood still when we last waited for it; until it moves nothing is waited for.
    stuck_at: Option<u64>,
    patience: Duration,
    /// The end, too, waits for the disk as long as it moves.
    is_patient: bool,
    /// Records that found the queue full since the last one that did not.
    missing: u64,
    /// What the writer's thread does first.
    prepare_thread: fn(),
}

struct Shared {
    queue: Mutex<Queue>,
    /// There is something to write, or it is time to close.
    ready: Condvar,
    /// There is room again.
    room: Condvar,
    file: Mutex<SessionFile>,
    dropped: Mutex<BTreeMap<&'static str, u64>>,
    /// Pieces that the disk has taken.
    pulse: AtomicU64,
}

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    closing: bool,
    /// Lines that are being written now.
    in_hand: u64,
    /// The last line is written, and none will come.
    closed: bool,
    /// Nobody waits for what is still being written; it has been counted as lost.
    given_up: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    /// A log that will be opened when its first record comes. `warn` gets one line when the log cannot
    /// be written, and another when it can again.
    pub fn new(settings: Settings, identity: &Identity, warn: impl Fn(&str) + Send + 'static) -> Log {
        Log::on(SessionFile::new(settings, identity.clone(), Box::new(warn)), identity)
    }

    fn on(file: SessionFile, identity: &Identity) -> Log {
        let shared = Shared {
            queue: Mutex::new(Queue::default()),
            ready: Condvar::new(),
            room: Condvar::new(),
            file: Mutex::new(file),
            dropped: Mutex::new(BTreeMap::new()),
            pulse: AtomicU64::new(0),
        };
        Log {
            shared: Arc::new(shared),
            identity: identity.clone(),
            line: Vec::with_capacity(2048),
            started: false,
            stuck_at: None,
            patience: PATIENCE,
            is_patient: false,
            missing: 0,
            prepare_thread: || {},
        }
    }

    /// Waits for a disk that moves rather than lose a record.
    pub fn patient(self) -> Log {
        Log { patience: LONG_PATIENCE, is_patient: true, ..self }
    }

    /// Lets the thread that writes call `prepare` first, to lower its priority.
    pub fn with_thread(self, prepare: fn()) -> Log {
        Log { prepare_thread: prepare, ..self }
    }

    /// Opens the file now, for `--strict`.
    ///
    /// # Errors
    /// Why the folder or the file cannot be used.
    pub fn open_now(&self) -> std::io::Result<PathBuf> {
        lock(&self.shared.file).open_now()
    }

    /// Queues the line in `self.line`, the record with number `seq`.
    fn queue(&mut self, seq: u64) {
        let mut queue = lock(&self.shared.queue);
        while !queue.lines.is_empty() && queue.lines.len() + self.line.len() > MAX_QUEUE {
            let before = self.shared.pulse.load(Ordering::Relaxed);
            if self.stuck_at == Some(before) {
                drop(queue);
                self.missing += 1;
                return self.shared.count("queue_full", 1);
            }
            let (woken, timeout) =
                self.shared.room.wait_timeout(queue, self.patience).unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            let stands = timeout.timed_out() && self.shared.pulse.load(Ordering::Relaxed) == before;
            self.stuck_at = stands.then_some(before);
        }
        let before = queue.lines.len();
        if self.missing > 0 {
            queue.lines.extend(gap_line(&self.identity, self.missing, "queue_full", seq));
            self.missing = 0;
        }
        queue.lines.extend_from_slice(&self.line);
        let enough = MAX_QUEUE / 4;
        let is_time = before == 0 || (before < enough && queue.lines.len() >= enough);
        drop(queue);
        if is_time {
            self.shared.ready.notify_all();
        }
        if !self.started {
            self.started = true;
            let (shared, prepare) = (Arc::clone(&self.shared), self.prepare_thread);
            let body = move || {
                prepare();
                shared.write_along();
            };
            // Without a writer the lines are written when the log is closed.
            let _ = std::thread::Builder::new().name("log".to_owned()).spawn(body);
        }
    }
}

/// The record of records lost, in the place of the last of them: the one before number `next_seq`.
fn gap_line(identity: &Identity, count: u64, reason: &'static str, next_seq: u64) -> Vec<u8> {
    let record = Record {
        schema: SCHEMA.into(),
        timestamp: Timestamp::now(),
        level: Level::Warn,
        event: EventName::Gap,
        message: format!("lost at log: {count} records ({reason})").into(),
        seq: next_seq.saturating_sub(1),
        session_id: identity.session_id.as_str().into(),
        connection_id: identity.connection_id.as_str().into(),
        server_name: identity.server_name.as_str().into(),
        user_id: identity.user_id.as_deref().map(Into::into),
        place: Some(LossPlace::Log.as_str().into()),
        records_lost: Some(count),
        reason: Some(reason.into()),
        ..Record::default()
    };
    let mut line = Vec::new();
    let _ = line::write(&record, &mut line);
    line
}

fn count_lines(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

impl Shared {
    fn count(&self, reason: &'static str, lost: u64) {
        *lock(&self.dropped).entry(reason).or_default() += lost;
    }

    /// The writer's life: waits for lines, gathers some more, writes them. After a failure they wait for
    /// the next attempt, as many as there is room for.
    fn write_along(&self) {
        let mut retry_at: Option<Instant> = None;
        loop {
            let mut queue = lock(&self.queue);
            while queue.lines.is_empty() && !queue.closing {
                queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            let wait = |queue, time, condition: fn(&mut Queue) -> bool| {
                let waited = self.ready.wait_timeout_while(queue, time, condition);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
            if let Some(at) = retry_at {
                let pause = at.saturating_duration_since(Instant::now());
                queue = wait(queue, pause, |queue| !queue.closing);
            }
            queue = wait(queue, LINGER, |queue| !queue.closing && queue.lines.len() < MAX_QUEUE / 4);
            // What is left then is for the closing thread.
            if queue.closing {
                return;
            }
            drop(queue);
            let mut file = lock(&self.file);
            self.write(&mut file);
            retry_at = file.retry_at();
        }
    }

    /// The end: a thread of the closer's own priority, since the writer may be at the lowest.
    fn write_rest(&self) {
        let mut file = lock(&self.file);
        file.try_again_now();
        self.write(&mut file);
        file.close();
        lock(&self.queue).closed = true;
        self.room.notify_all();
    }

    /// Writes all that is queued. Whoever holds the file is the one who takes lines out, so they keep
    /// their order.
    fn write(&self, file: &mut SessionFile) {
        let lines = {
            let mut queue = lock(&self.queue);
            let lines = std::mem::take(&mut queue.lines);
            queue.in_hand = count_lines(&lines);
            lines
        };
        self.room.notify_all();
        let mut rest = lines.as_slice();
        while !rest.is_empty() {
            let (piece, after) = first_piece(rest);
            rest = after;
            let written = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| file.write(piece)));
            let lost = match written {
                Ok(lost) => lost,
                Err(_) => Some(("writer_panic", count_lines(piece))),
            };
            if lost.is_none() {
                self.pulse.fetch_add(1, Ordering::Relaxed);
            }
            let mut queue = lock(&self.queue);
            queue.in_hand -= count_lines(piece);
            // What was given up has been counted already.
            let lost = lost.filter(|_| !queue.given_up);
            drop(queue);
            self.room.notify_all();
            if let Some((reason, count)) = lost {
                self.count(reason, count);
            }
        }
    }
}

/// At most [`PIECE`] bytes of whole lines, at least one line, and the rest.
fn first_piece(lines: &[u8]) -> (&[u8], &[u8]) {
    if lines.len() <= PIECE {
        return (lines, &[]);
    }
    let end = memchr::memrchr(b'\n', &lines[..PIECE]).or_else(|| memchr::memchr(b'\n', lines));
    lines.split_at(end.map_or(lines.len(), |at| at + 1))
}

impl Output for Log {
    /// Waits for the disk only while its queue is full and the disk is moving.
    fn take(&mut self, _: &Event, record: Option<&Record<'_>>) {
        let Some(record) = record else { return };
        self.line.clear();
        match line::write(record, &mut self.line) {
            Ok(()) => self.queue(record.seq),
            Err(_) => self.shared.count("not_serialised", 1),
        }
    }

    fn dropped(&self) -> Vec<Dropped> {
        let dropped = lock(&self.shared.dropped);
        dropped
            .iter()
            .map(|(reason, count)| Dropped { place: LossPlace::Log, reason, count: *count })
            .collect()
    }

    /// Hands what is queued to a thread of the caller's priority.
    fn begin_close(&mut self) {
        lock(&self.shared.queue).closing = true;
        self.shared.ready.notify_all();
        if !self.started {
            lock(&self.shared.queue).closed = true;
            return;
        }
        let shared = Arc::clone(&self.shared);
        let closer = std::thread::Builder::new().name("log-close".to_owned());
        if closer.spawn(move || shared.write_rest()).is_err() {
            self.shared.write_rest();
        }
    }

    fn finish_close(&mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = if self.is_patient { left.max(self.patience) } else { left };
        let mut queue = lock(&self.shared.queue);
        loop {
            let before = self.shared.pulse.load(Ordering::Relaxed);
            let waited = self.shared.room.wait_timeout_while(queue, left, |queue| !queue.closed);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            let moved = self.shared.pulse.load(Ordering::Relaxed) != before;
            if queue.closed || !self.is_patient || !moved {
                break;
            }
        }
        if !queue.closed {
            queue.given_up = true;
            let lost = queue.in_hand + count_lines(&queue.lines);
            drop(queue);
            self.shared.count("timeout", lost);
        }
    }
}

#[cfg(test)]
mod tests;
