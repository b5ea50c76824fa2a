//! The session log: one file for each connection, one line for each record.
//!
//! The observer thread puts lines into a bounded queue of blocks in memory. The writer thread takes them out block by
//! block, so only the writer hangs if the disk hangs. `tracing_appender::non_blocking` would do most of
//! this, but it counts lines instead of bytes, cannot wait for a burst to drain, and its guard prints to
//! standard output, which carries the protocol, if its worker is stuck at the end.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::export::Output;
use crate::observe::event::Event;
use crate::record::timestamp::Timestamp;
use crate::record::words::LossPlace;
use crate::record::{Dropped, Identity};
use crate::record::{EventName, Level, Record, SCHEMA, line};
use crate::system::mutex::lock;
use crate::system::thread::{self, Duty};

mod file;
mod queue;
pub(crate) mod retention;

pub(crate) use file::SessionFile;
pub(super) use file::reason as write_error;

use queue::{LineQueue, MAX_QUEUE, Packer};

#[derive(Clone, Debug)]
pub struct LogSettings {
    pub folder: PathBuf,
    /// Bytes after which a new part begins.
    pub max_size: u64,
    /// Bytes of all session logs of the folder together. If they are more when this log is opened, the
    /// oldest logs are deleted; `None` deletes nothing.
    pub max_total_size: Option<u64>,
}

/// How long the writer waits for more lines, to write them together. The kernel has a record well within a
/// second.
const LINGER: Duration = Duration::from_millis(20);
/// Time without lines after which all blocks but one are given back.
const QUIET: Duration = Duration::from_secs(1);
/// How long the observer thread waits for progress if the queue is full. The writer thread has the lowest
/// priority, so a busy machine may delay it for this long.
const PATIENCE: Duration = Duration::from_millis(200);
/// The same if waiting is better than losing a record. A disk without progress for so long hangs.
const LONG_PATIENCE: Duration = Duration::from_secs(10);

pub struct Log {
    shared: Arc<LogState>,
    identity: Identity,
    line: Vec<u8>,
    /// True once the writer thread has been started, which the first line does.
    started: bool,
    /// The progress of the disk when the last wait ended without any; no wait begins before it changes.
    stuck_at: Option<u64>,
    patience: Duration,
    /// True if the end, too, waits for the disk as long as it makes progress.
    is_patient: bool,
    /// Number of records that did not fit into the queue since the last one that did.
    missing: u64,
    /// Called by the writer thread after its first write.
    prepare_thread: fn(),
    ceiling: LogCeiling,
}

/// The limit of a session's log. A server that sends without end would fill the disk.
struct LogCeiling {
    /// In bytes.
    limit: u64,
    /// Bytes of the lines so far.
    size: u64,
    /// Number of records that were dropped, and of those that a gap has reported.
    dropped: u64,
    reported: u64,
    warn: Box<dyn Fn(&str) + Send>,
}

/// Reason of the records that a session's log has no room for.
const SESSION_FULL: &str = "session_full";

impl LogCeiling {
    /// Counts a dropped record. Returns the number of records to report, at each doubling.
    fn drop_one(&mut self) -> Option<u64> {
        if self.dropped == 0 {
            (self.warn)(&format!(
                "the log of this session has reached `max_session_size` ({} MiB); the session goes on, records are \
                 dropped and counted; set a larger size to keep them",
                self.limit >> 20
            ));
        }
        self.dropped += 1;
        self.dropped.is_power_of_two().then(|| self.unreported())
    }

    fn unreported(&mut self) -> u64 {
        let count = self.dropped - self.reported;
        self.reported = self.dropped;
        count
    }
}

/// The state that the observer thread, the writer thread and the closing thread share.
struct LogState {
    queue: Mutex<LineQueue>,
    /// Notified if there are lines to write, or if the log closes.
    ready: Condvar,
    /// Notified if lines have been written.
    room: Condvar,
    file: Mutex<SessionFile>,
    dropped: Mutex<BTreeMap<&'static str, u64>>,
    /// Number of blocks that the disk has taken.
    progress: AtomicU64,
}

impl Log {
    /// Returns a log whose file is opened by the first record. Calls `warn` with one line when the log cannot
    /// be written, and with another one when it can be written again.
    pub fn new(settings: LogSettings, identity: &Identity, warn: impl Fn(&str) + Send + 'static) -> Log {
        Log::on(SessionFile::new(settings, identity.clone(), Box::new(warn)), identity)
    }

    fn on(file: SessionFile, identity: &Identity) -> Log {
        let shared = LogState {
            queue: Mutex::new(LineQueue::default()),
            ready: Condvar::new(),
            room: Condvar::new(),
            file: Mutex::new(file),
            dropped: Mutex::new(BTreeMap::new()),
            progress: AtomicU64::new(0),
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
            ceiling: LogCeiling { limit: u64::MAX, size: 0, dropped: 0, reported: 0, warn: Box::new(|_| {}) },
        }
    }

    /// Drops records after `limit` bytes, except the last one, and calls `warn` with one line when it begins to.
    pub(crate) fn limited(mut self, limit: u64, warn: impl Fn(&str) + Send + 'static) -> Log {
        self.ceiling = LogCeiling { limit, warn: Box::new(warn), ..self.ceiling };
        self
    }

    /// Waits for a disk that makes progress rather than lose a record.
    pub(crate) fn patient(self) -> Log {
        Log { patience: LONG_PATIENCE, is_patient: true, ..self }
    }

    /// Lets the writer thread call `prepare` after its first write, to lower its priority.
    pub(crate) fn with_thread(self, prepare: fn()) -> Log {
        Log { prepare_thread: prepare, ..self }
    }

    /// Opens the file now, for `--strict`.
    pub(crate) fn open_now(&self) -> std::io::Result<PathBuf> {
        lock(&self.shared.file).open_now()
    }

    /// Queues the record in `self.line`, unless the session's log has no room for it.
    fn queue_within_ceiling(&mut self, seq: u64, is_last: bool) {
        let LogCeiling { limit, size, dropped, .. } = &mut self.ceiling;
        *size = size.saturating_add(self.line.len() as u64);
        if *size <= *limit && *dropped == 0 {
            return self.queue(seq);
        }
        if is_last {
            let line = std::mem::take(&mut self.line);
            let count = self.ceiling.unreported();
            self.queue_gap(count, seq);
            self.line = line;
            return self.queue(seq);
        }
        self.shared.count(SESSION_FULL, 1);
        if let Some(count) = self.ceiling.drop_one() {
            self.queue_gap(count, seq + 1);
        }
    }

    /// Queues the report of `count` records that the session's log has no room for.
    fn queue_gap(&mut self, count: u64, next_seq: u64) {
        if count > 0 {
            self.line = gap_line(&self.identity, count, SESSION_FULL, next_seq);
            self.queue(next_seq.saturating_sub(1));
        }
    }

    /// Queues the line in `self.line`, the record with number `seq`.
    fn queue(&mut self, seq: u64) {
        let mut queue = lock(&self.shared.queue);
        while queue.is_full_for(&self.line) {
            let before = self.shared.progress.load(Ordering::Relaxed);
            if self.stuck_at == Some(before) {
                drop(queue);
                self.missing += 1;
                return self.shared.count("queue_full", 1);
            }
            let (woken, timeout) =
                self.shared.room.wait_timeout(queue, self.patience).unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            let is_stuck = timeout.timed_out() && self.shared.progress.load(Ordering::Relaxed) == before;
            self.stuck_at = is_stuck.then_some(before);
        }
        let before = queue.size;
        if self.missing > 0 {
            queue.push_report(&gap_line(&self.identity, self.missing, "queue_full", seq));
            self.missing = 0;
        }
        queue.push(&self.line);
        let enough = MAX_QUEUE / 4;
        let is_time = before == 0 || (before < enough && queue.size >= enough);
        drop(queue);
        if is_time {
            self.shared.ready.notify_all();
        }
        if !self.started {
            self.started = true;
            let (shared, prepare) = (Arc::clone(&self.shared), self.prepare_thread);
            let body = move || {
                // At normal priority: a busy machine must not hide for long that the log cannot be opened.
                shared.write(&mut lock(&shared.file), true);
                prepare();
                shared.write_while_open();
            };
            // Without a writer thread the lines are written when the log is closed.
            let _ = thread::spawn(Duty::Log, "log", body);
        }
    }
}

/// Returns the line that reports `count` lost records. It has the number of the last of them, the one before
/// `next_seq`.
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

impl LogState {
    fn count(&self, reason: &'static str, lost: u64) {
        *lock(&self.dropped).entry(reason).or_default() += lost;
    }

    /// Runs the writer thread until the log closes: waits for lines, gathers more, writes them. After a
    /// failure the lines stay in the queue, as far as they fit, until the next attempt.
    fn write_while_open(&self) {
        let mut retry_at = lock(&self.file).retry_at();
        loop {
            let mut queue = lock(&self.queue);
            while queue.is_empty() && !queue.closing {
                if queue.spare.len() <= 1 {
                    queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                let waited = self.ready.wait_timeout(queue, QUIET).unwrap_or_else(PoisonError::into_inner);
                queue = waited.0;
                if waited.1.timed_out() {
                    queue.spare = queue.spare.pop().into_iter().collect();
                }
            }
            let wait = |queue, time, condition: fn(&mut LineQueue) -> bool| {
                let waited = self.ready.wait_timeout_while(queue, time, condition);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
            if let Some(at) = retry_at {
                let pause = at.saturating_duration_since(Instant::now());
                queue = wait(queue, pause, |queue| !queue.closing);
            }
            queue = wait(queue, LINGER, |queue| !queue.closing && queue.size < MAX_QUEUE / 4);
            // The closing thread writes the rest.
            if queue.closing {
                return;
            }
            drop(queue);
            let mut file = lock(&self.file);
            self.write(&mut file, true);
            retry_at = file.retry_at();
        }
    }

    /// Writes the rest and closes the file. Runs on a thread of its own, since the writer thread may have the
    /// lowest priority.
    fn write_rest(&self, mut file: MutexGuard<'_, SessionFile>) {
        file.try_again_now();
        self.write(&mut file, false);
        file.close();
        lock(&self.queue).closed = true;
        self.room.notify_all();
    }

    /// Writes the blocks that are queued now. Only the thread that has locked the file takes blocks out, so the lines
    /// keep their order. If blocks may wait, it leaves the rest in the queue after a failure, until the next attempt,
    /// and for the closing thread.
    fn write(&self, file: &mut SessionFile, may_wait: bool) {
        let count = lock(&self.queue).len();
        for _ in 0..count {
            let mut queue = lock(&self.queue);
            if may_wait && (queue.closing || file.retry_at().is_some_and(|at| Instant::now() < at)) {
                return;
            }
            let Some(block) = queue.take() else { return };
            drop(queue);
            let records = block.records();
            let written = catch_unwind(AssertUnwindSafe(|| {
                let content = block.into_lines();
                (file.write(&content), content)
            }));
            let (lost, room) = match written {
                Ok((lost, room)) => (lost, Some(room)),
                Err(_) => (Some(("writer_panic", records)), None),
            };
            if lost.is_none() {
                self.progress.fetch_add(1, Ordering::Relaxed);
            }
            // The packer is made while the queue is not locked: a thread that is refused memory waits for ever.
            let has_packer = lock(&self.queue).has_packer();
            let packer = (lost.is_some() && !has_packer).then(Packer::new);
            let mut queue = lock(&self.queue);
            if lost.is_some() != has_packer {
                queue.set_packer(packer);
            }
            queue.put_back(room);
            // After the deadline these lines have been counted already.
            let lost = lost.filter(|_| !queue.abandoned);
            drop(queue);
            self.room.notify_all();
            if let Some((reason, count)) = lost {
                self.count(reason, count);
            }
        }
    }
}

impl Output for Log {
    /// Waits for the disk only while the queue is full and the disk makes progress.
    fn take(&mut self, _: &Event, record: Option<&Record<'_>>) {
        let Some(record) = record else { return };
        self.line.clear();
        match line::write(record, &mut self.line) {
            Ok(()) => self.queue_within_ceiling(record.seq, record.event == EventName::SessionEnded),
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

    /// Gives the queued lines to a thread that has the caller's priority.
    fn begin_close(&mut self) {
        lock(&self.shared.queue).closing = true;
        self.shared.ready.notify_all();
        if !self.started {
            lock(&self.shared.queue).closed = true;
            return;
        }
        let shared = Arc::clone(&self.shared);
        if thread::spawn(Duty::Log, "log-close", move || shared.write_rest(lock(&shared.file))).is_err() {
            // The writer thread may have been refused memory with the file locked. Other outputs must not wait for it.
            match self.shared.file.try_lock() {
                Ok(file) => self.shared.write_rest(file),
                Err(TryLockError::Poisoned(error)) => self.shared.write_rest(error.into_inner()),
                Err(TryLockError::WouldBlock) => {}
            }
        }
    }

    fn finish_close(&mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = if self.is_patient { left.max(self.patience) } else { left };
        let mut queue = lock(&self.shared.queue);
        loop {
            let before = self.shared.progress.load(Ordering::Relaxed);
            let waited = self.shared.room.wait_timeout_while(queue, left, |queue| !queue.closed);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            let moved = self.shared.progress.load(Ordering::Relaxed) != before;
            if queue.closed || !self.is_patient || !moved {
                break;
            }
        }
        if !queue.closed {
            queue.abandoned = true;
            let lost = queue.unwritten();
            drop(queue);
            self.shared.count("timeout", lost);
        }
    }
}

#[cfg(test)]
mod tests;
