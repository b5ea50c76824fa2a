//! The session log: one file for each connection, a line for each record.
//!
//! The observer's thread writes its lines into a bounded buffer in memory; a thread of our own takes
//! them out in large pieces. That thread alone may hang with the disk. `tracing_appender::non_blocking`
//! would do most of this, but it counts lines instead of bytes, cannot wait for a burst to drain, and
//! its guard prints to standard output, which is the wire, when its worker is stuck at the end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::record::Record;
use super::{Dropped, Identity, Output};
use crate::observe::event::Event;

mod file;

use file::SessionFile;
pub use file::{file_name, is_session_file};

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    pub folder: PathBuf,
    /// Size at which a new part is begun, in bytes.
    pub max_size: u64,
}

/// Bytes that may wait for the disk. The rings behind the observer are the larger buffer.
const MAX_QUEUE: usize = 4 << 20;
/// How long lines may wait for company before they are written together; a record is in the kernel's
/// hands well within a second.
const LINGER: Duration = Duration::from_millis(20);
/// How long a full queue is waited for while the disk makes progress.
const PATIENCE: Duration = Duration::from_millis(50);

/// The log of one connection.
pub struct Log {
    shared: Arc<Shared>,
    line: Vec<u8>,
    /// Whether the writer has been started; it is when the first line comes.
    started: bool,
    /// The disk stood still when we last waited for it; until it moves nothing is waited for.
    stuck_at: Option<u64>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// There is something to write, or it is time to close.
    ready: Condvar,
    /// There is room again.
    room: Condvar,
    file: Mutex<SessionFile>,
    dropped: Mutex<BTreeMap<&'static str, u64>>,
}

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    closing: bool,
    /// Pieces that the writer has taken: its pulse.
    taken: u64,
    /// Pieces that are with the writer now.
    in_hand: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    /// A log that will be opened when its first record comes. `warn` gets one line when the log cannot
    /// be written, and another when it can again.
    pub fn new(settings: Settings, identity: &Identity, warn: impl Fn(&str) + Send + 'static) -> Log {
        let file = SessionFile::new(settings, identity.clone(), Box::new(warn));
        let shared = Shared {
            queue: Mutex::new(Queue::default()),
            ready: Condvar::new(),
            room: Condvar::new(),
            file: Mutex::new(file),
            dropped: Mutex::new(BTreeMap::new()),
        };
        Log { shared: Arc::new(shared), line: Vec::with_capacity(2048), started: false, stuck_at: None }
    }

    /// Opens the file now, for `--strict`.
    ///
    /// # Errors
    /// Why the folder or the file cannot be used.
    pub fn open_now(&self) -> std::io::Result<PathBuf> {
        lock(&self.shared.file).open_now()
    }

    fn drop_one(&self, reason: &'static str) {
        *lock(&self.shared.dropped).entry(reason).or_default() += 1;
    }

    /// Queues the line in `self.line`.
    fn queue(&mut self) {
        let mut queue = lock(&self.shared.queue);
        while !queue.lines.is_empty() && queue.lines.len() + self.line.len() > MAX_QUEUE {
            if self.stuck_at == Some(queue.taken) {
                drop(queue);
                return self.drop_one("queue_full");
            }
            let before = queue.taken;
            let (woken, timeout) =
                self.shared.room.wait_timeout(queue, PATIENCE).unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            self.stuck_at = (timeout.timed_out() && queue.taken == before).then_some(before);
        }
        let was_empty = queue.lines.is_empty();
        queue.lines.extend_from_slice(&self.line);
        drop(queue);
        if was_empty {
            self.shared.ready.notify_one();
        }
        if !self.started {
            self.started = true;
            let shared = Arc::clone(&self.shared);
            // Without a writer the lines are written when the log is closed.
            let _ = std::thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_along());
        }
    }
}

impl Shared {
    /// The writer's life: waits for lines, gathers some more, writes them.
    fn write_along(&self) {
        loop {
            let mut queue = lock(&self.queue);
            while queue.lines.is_empty() && !queue.closing {
                queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            if queue.lines.is_empty() {
                return;
            }
            let enough = |queue: &mut Queue| !queue.closing && queue.lines.len() < MAX_QUEUE / 4;
            let waited = self.ready.wait_timeout_while(queue, LINGER, enough);
            let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
            // Whoever holds the file writes; at the end that is the closing thread.
            let Ok(mut file) = self.file.try_lock() else {
                drop(queue);
                std::thread::sleep(LINGER);
                continue;
            };
            let lines = queue.take();
            drop(queue);
            self.room.notify_all();
            self.write(&mut file, &lines);
        }
    }

    fn write(&self, file: &mut SessionFile, lines: &[u8]) {
        let written = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| file.write(lines)));
        let lost = match written {
            Ok(lost) => lost,
            Err(_) => Some(("writer_panic", memchr::memchr_iter(b'\n', lines).count() as u64)),
        };
        if let Some((reason, count)) = lost {
            *lock(&self.dropped).entry(reason).or_default() += count;
        }
        lock(&self.queue).in_hand = false;
        self.room.notify_all();
    }
}

impl Queue {
    fn take(&mut self) -> Vec<u8> {
        self.taken += 1;
        self.in_hand = true;
        std::mem::take(&mut self.lines)
    }
}

impl Output for Log {
    /// Waits for the disk only while its queue is full and the disk is moving.
    fn take(&mut self, _: &Event, record: Option<&Record<'_>>) {
        let Some(record) = record else { return };
        self.line.clear();
        match serde_json::to_writer(&mut self.line, record) {
            Ok(()) => {
                self.line.push(b'\n');
                self.queue();
            }
            Err(_) => self.drop_one("not_serialised"),
        }
    }

    fn dropped(&self) -> Vec<Dropped> {
        let dropped = lock(&self.shared.dropped);
        dropped.iter().map(|(reason, count)| Dropped { place: "log", reason, count: *count }).collect()
    }

    fn begin_close(&mut self) {
        lock(&self.shared.queue).closing = true;
        self.shared.ready.notify_all();
    }

    /// Writes what is left itself where the writer is not at it: the writer may run at a low priority.
    fn finish_close(&mut self, deadline: Instant) {
        loop {
            if let Ok(mut file) = self.shared.file.try_lock() {
                let lines = lock(&self.shared.queue).take();
                if !lines.is_empty() {
                    self.shared.write(&mut file, &lines);
                }
                file.close();
                return;
            }
            let queue = lock(&self.shared.queue);
            let left = deadline.saturating_duration_since(Instant::now()).min(Duration::from_millis(1));
            if left.is_zero() {
                let lost = memchr::memchr_iter(b'\n', &queue.lines).count() as u64;
                drop(queue);
                *lock(&self.shared.dropped).entry("timeout").or_default() += lost;
                return;
            }
            let _ = self.shared.room.wait_timeout(queue, left);
        }
    }
}
