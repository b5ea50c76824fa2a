//! Items that wait to be sent, bounded.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::export::otlp::backlog::{Backlog, Batch};
use crate::export::otlp::request::RequestOrigin;
use crate::system::mutex::lock;

/// Items of one signal, in the order in which they came.
pub(super) struct Queue {
    state: Mutex<QueueState>,
    /// Wakes threads that wait for room: items were sent, or the sender has ended.
    changed: Condvar,
    /// Wakes the sender: an item was put in, or the end has come.
    wake: Notify,
    pub(super) limits: QueueLimits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueLimits {
    pub(crate) queue: usize,
    pub(crate) batch: usize,
    /// Longest time that an item waits for a full batch.
    pub(crate) interval: Duration,
}

struct QueueState {
    waiting: Backlog,
    /// When the oldest item came in.
    since: Option<Instant>,
    /// One of the items must not wait for a full batch.
    urgent: bool,
    /// A thread waits until all items are sent, so none waits for a full batch.
    flushing: bool,
    /// Items that are being sent.
    in_hand: usize,
    closing: bool,
    /// The sender has ended.
    ended: bool,
    /// Items that were left have been counted as lost.
    abandoned: bool,
}

/// Reason why [`Queue::due`] returns.
pub(super) enum Due {
    /// A batch is due.
    Now,
    /// The end has come: everything is sent, without waiting for a pause.
    Closing,
}

impl Queue {
    pub(super) fn new(limits: QueueLimits) -> Queue {
        let state = QueueState {
            waiting: Backlog::default(),
            since: None,
            urgent: false,
            flushing: false,
            in_hand: 0,
            closing: false,
            ended: false,
            abandoned: false,
        };
        Queue { state: Mutex::new(state), changed: Condvar::new(), wake: Notify::new(), limits }
    }

    /// Puts an item in. Returns false if the queue is full or has ended.
    pub(super) fn put(&self, origin: &Arc<RequestOrigin>, item: &[u8], urgent: bool) -> bool {
        let mut state = lock(&self.state);
        let before = state.waiting.len();
        let has_room = before < self.limits.queue && !state.ended;
        if has_room {
            state.waiting.push(origin, item);
        }
        if before == 0 && has_room {
            state.since = Some(Instant::now());
        }
        state.urgent |= urgent;
        // Waking costs a system call, so the sender is woken only if it would sleep too long.
        let wake = urgent || (has_room && (before == 0 || before + 1 == self.limits.batch));
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        has_room
    }

    pub(super) fn has_ended(&self) -> bool {
        lock(&self.state).ended
    }

    /// Waits until a batch is due, not before `not_before` except at the end.
    pub(super) async fn due(&self, not_before: Option<Instant>) -> Due {
        loop {
            let wait = {
                let mut state = lock(&self.state);
                if state.closing {
                    return Due::Closing;
                }
                let full = state.urgent || state.flushing || state.waiting.len() >= self.limits.batch;
                let since = state.since.filter(|_| !state.waiting.is_empty());
                let due = since.map(|since| if full { since } else { since + self.limits.interval });
                let due = due.map(|due| not_before.map_or(due, |at| at.max(due)));
                let now = Instant::now();
                if due.is_some_and(|due| due <= now) {
                    state.urgent = false;
                    return Due::Now;
                }
                due.map(|due| due - now)
            };
            match wait {
                Some(wait) => drop(tokio::time::timeout(wait, self.wake.notified()).await),
                None => self.wake.notified().await,
            }
        }
    }

    /// Waits for `time`. Returns `Due::Closing` as soon as the end comes.
    pub(super) async fn nap(&self, time: Duration) -> Due {
        let until = Instant::now() + time;
        loop {
            if lock(&self.state).closing {
                return Due::Closing;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Due::Now;
            }
            let _ = tokio::time::timeout(left, self.wake.notified()).await;
        }
    }

    /// Takes up to `batches` lists of up to `size` items, or none if fewer than `at_least` wait.
    pub(super) fn take(&self, batches: usize, size: usize, at_least: usize) -> Vec<Batch> {
        let mut state = lock(&self.state);
        let mut taken = Vec::new();
        if state.waiting.len() < at_least && !state.flushing {
            return taken;
        }
        while taken.len() < batches && !state.waiting.is_empty() {
            let batch = state.waiting.take(size.max(1));
            state.in_hand += batch.len();
            taken.push(batch);
        }
        if !state.waiting.is_empty() {
            state.since = Some(Instant::now());
        }
        taken
    }

    /// Forgets `count` items in hand. Returns false if they have been counted as lost meanwhile.
    pub(super) fn settle(&self, count: usize) -> bool {
        let mut state = lock(&self.state);
        if state.abandoned {
            return false;
        }
        state.in_hand -= count;
        drop(state);
        self.changed.notify_all();
        true
    }

    /// Puts items in hand back in front. Returns how many of the newest items found no room.
    pub(super) fn put_back(&self, batch: Batch) -> u64 {
        let mut state = lock(&self.state);
        if state.abandoned {
            return 0;
        }
        state.in_hand -= batch.len();
        state.waiting.put_back(batch);
        state.since.get_or_insert_with(Instant::now);
        state.waiting.truncate(self.limits.queue) as u64
    }

    pub(super) fn close(&self) {
        lock(&self.state).closing = true;
        self.wake.notify_one();
    }

    /// Ends the queue. Items that wait or are in hand are lost; returns how many.
    pub(super) fn end(&self) -> u64 {
        let mut state = lock(&self.state);
        let left = state.waiting.len() + std::mem::take(&mut state.in_hand);
        state.waiting = Backlog::default();
        state.ended = true;
        state.abandoned = true;
        drop(state);
        self.changed.notify_all();
        left as u64
    }

    /// Sends all items without waiting for a full batch. Returns when they are sent or the sender has ended; false
    /// after `patience` without a change.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        lock(&self.state).flushing = true;
        self.wake.notify_one();
        let is_sent = self.wait_for_room(0, patience);
        lock(&self.state).flushing = false;
        is_sent
    }

    /// Waits until at most `most` items are left or the sender ends. Returns false after `patience` without a change.
    pub(super) fn wait_for_room(&self, most: usize, patience: Duration) -> bool {
        let mut state = lock(&self.state);
        let mut least = usize::MAX;
        let mut since = Instant::now();
        loop {
            let left = state.waiting.len() + state.in_hand;
            if left <= most || state.ended {
                return true;
            }
            if left < least {
                (least, since) = (left, Instant::now());
            }
            let Some(time) = patience.checked_sub(since.elapsed()) else { return false };
            let waited = self.changed.wait_timeout(state, time);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::otlp::backlog::tests::{numbers, origin, span};

    fn queue() -> Queue {
        Queue::new(QueueLimits { queue: 4, batch: 2, interval: Duration::from_secs(3600) })
    }

    impl Queue {
        fn put_number(&self, number: usize, urgent: bool) -> bool {
            self.put(&origin("bench"), &span(number), urgent)
        }

        fn take_numbers(&self, batches: usize, size: usize, at_least: usize) -> Vec<Vec<usize>> {
            self.take(batches, size, at_least).iter().map(numbers).collect()
        }
    }

    #[test]
    fn what_finds_no_room_is_told() {
        let queue = queue();
        let taken: Vec<bool> = (0..6).map(|item| queue.put_number(item, false)).collect();
        assert_eq!(taken, [true, true, true, true, false, false]);
        assert!(queue.take(9, 3, 5).is_empty());
        assert_eq!(queue.take_numbers(9, 3, 4), [vec![0, 1, 2], vec![3]]);
    }

    #[test]
    fn what_was_not_taken_goes_in_front_and_pushes_the_newest_out() {
        let queue = queue();
        (0..4).for_each(|item| assert!(queue.put_number(item, false)));
        let batch = queue.take(1, 2, 0).remove(0);
        (4..6).for_each(|item| assert!(queue.put_number(item, false)));
        assert_eq!(queue.put_back(batch), 2);
        assert_eq!(queue.take_numbers(1, 9, 0), [vec![0, 1, 2, 3]]);
    }

    #[test]
    fn what_is_in_hand_at_the_end_is_lost_once() {
        let queue = queue();
        (0..3).for_each(|item| assert!(queue.put_number(item, false)));
        let batch = queue.take(1, 2, 0).remove(0);
        assert_eq!(queue.end(), 3);
        assert!(!queue.settle(batch.len()));
        assert_eq!(queue.put_back(batch), 0);
        assert_eq!(queue.end(), 0);
        assert!(!queue.put_number(9, false), "an ended queue takes no item");
    }

    #[test]
    fn a_flush_waits_for_no_full_batch() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let queue = queue();
        (0..3).for_each(|item| assert!(queue.put_number(item, false)));
        std::thread::scope(|scope| {
            let flushed = scope.spawn(|| queue.flush(Duration::from_secs(60)));
            // The sender took a full batch, and asks for another full one.
            queue.take(1, 2, 1);
            assert!(queue.settle(2));
            runtime.block_on(async {
                let due = tokio::time::timeout(Duration::from_secs(60), queue.due(None)).await;
                assert!(matches!(due, Ok(Due::Now)));
            });
            assert_eq!(queue.take_numbers(1, 2, 2), [vec![2]]);
            assert!(queue.settle(1));
            assert!(flushed.join().unwrap());
        });
        queue.put_number(4, false);
        assert!(queue.take(1, 2, 2).is_empty(), "after a flush items wait for a full batch again");
    }

    #[test]
    fn a_full_batch_and_an_urgent_item_wait_for_nobody() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let queue = queue();
        let waits = |not_before| {
            let due = runtime.block_on(async {
                tokio::time::timeout(Duration::from_millis(10), queue.due(not_before)).await
            });
            due.is_err()
        };
        assert!(waits(None));
        queue.put_number(1, false);
        assert!(waits(None), "for the interval");
        queue.put_number(2, false);
        assert!(!waits(None), "a full batch");
        assert!(waits(Some(Instant::now() + Duration::from_secs(3600))), "a collector is stayed away from");
        queue.take(1, 2, 0);
        assert!(queue.put_number(3, true));
        assert!(!waits(None), "urgent");
        queue.close();
        assert!(!waits(Some(Instant::now() + Duration::from_secs(3600))), "the end");
    }
}
