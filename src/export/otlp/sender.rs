//! Sends what is queued of one signal: batches, back-off, and the end.
//!
//! Each signal has a task of its own, so a collector that hangs at one of them does not delay the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::{Id, JoinSet};

use crate::export::otlp::backlog::Batch;
use crate::export::otlp::losses::LossCounts;
use crate::export::otlp::notice::{ExportNotice, NoticeCallback};
use crate::export::otlp::outcome::{self, Outcome};
use crate::export::otlp::queue::{Due, Queue};
use crate::export::otlp::settings::SignalTarget;
use crate::export::otlp::transport::CollectorClient;

/// Batches that are sent at the same time if more than one waits and the collector takes them.
const CONCURRENT: usize = 4;
/// First pause after a failure that may pass; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Decides when a collector that failed is tried again, and reports changes.
pub(super) struct Backoff {
    /// Name of the signal, for messages.
    signal: &'static str,
    /// Host and port of the collector, for messages.
    address: Arc<str>,
    pause: Duration,
    pub(super) not_before: Option<Instant>,
    pub(super) failing: bool,
    rejecting: bool,
    /// Number of exchanges of all signals.
    exchanges: Arc<AtomicU64>,
    notify: NoticeCallback,
}

impl Backoff {
    pub(super) fn new(
        signal: &'static str,
        target: &SignalTarget,
        exchanges: Arc<AtomicU64>,
        notify: NoticeCallback,
    ) -> Backoff {
        Backoff {
            signal,
            address: target.address().into(),
            pause: FIRST_PAUSE,
            not_before: None,
            failing: false,
            rejecting: false,
            exchanges,
            notify,
        }
    }

    pub(super) fn may_try(&self) -> bool {
        self.not_before.is_none_or(|at| Instant::now() >= at)
    }

    pub(super) fn note(&mut self, outcome: &Outcome) {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        let signal = self.signal;
        let Some(reason) = outcome.failure else {
            if std::mem::take(&mut self.failing) {
                (self.notify)(&ExportNotice::TakenAgain { signal });
            }
            if outcome.rejected > 0 && !std::mem::replace(&mut self.rejecting, true) {
                (self.notify)(&ExportNotice::PartlyRejected { signal });
            }
            self.pause = FIRST_PAUSE;
            self.not_before = None;
            return;
        };
        if !std::mem::replace(&mut self.failing, true) {
            let address = Arc::clone(&self.address);
            (self.notify)(&match outcome::has_no_answer(reason) {
                true => ExportNotice::NoAnswer { signal, address, reason },
                false => ExportNotice::NotTaken { signal, address, reason },
            });
        }
        let pause = outcome.retry_after.unwrap_or(self.pause);
        self.not_before = Some(Instant::now() + pause + jitter(self.pause));
        self.pause = (self.pause * 2).min(MAX_PAUSE);
    }
}

/// Returns up to a quarter of `pause`, so that many proxies do not come back at the same instant.
fn jitter(pause: Duration) -> Duration {
    let mut byte = [0];
    // If the system gives no random byte, the jitter is zero.
    let _ = getrandom::fill(&mut byte);
    pause.mul_f64(f64::from(byte[0]) / 1024.0)
}

pub(super) struct QueueSender<'a> {
    pub(super) client: Arc<CollectorClient>,
    pub(super) queue: &'a Queue,
    pub(super) losses: &'a LossCounts,
    pub(super) backoff: Backoff,
    /// Items in a batch: fewer after the collector found a batch too large.
    pub(super) size: usize,
}

impl QueueSender<'_> {
    /// Sends what is queued until the end. What is left then stays in the queue.
    pub(super) async fn run(mut self) {
        loop {
            let closing = matches!(self.queue.due(self.backoff.not_before).await, Due::Closing);
            self.send_waiting(closing).await;
            if closing {
                return;
            }
        }
    }

    /// Sends batches until too little waits. At the end the collector is asked once more, even during its pause.
    async fn send_waiting(&mut self, closing: bool) {
        // What comes in meanwhile waits its time, unless it fills a batch.
        let mut at_least = 1;
        while closing || self.backoff.may_try() {
            let most = if self.backoff.failing { 1 } else { CONCURRENT };
            let batches = self.queue.take(most, self.size, at_least);
            if batches.is_empty() {
                return;
            }
            at_least = if closing { 1 } else { self.size };
            let mut under_way = UnderWay::default();
            for batch in batches {
                let client = Arc::clone(&self.client);
                under_way.spawn(batch.len(), async move {
                    let outcome = client.send(batch.request()).await;
                    (batch, outcome)
                });
            }
            let mut come_back = Vec::new();
            while let Some(arrived) = under_way.next().await {
                match arrived {
                    Ok((batch, outcome)) => come_back.extend(self.settle(batch, &outcome)),
                    Err(count) if self.queue.settle(count) => {
                        self.losses.add("exporter_panic", count as u64);
                    }
                    Err(_) => {}
                }
            }
            for batch in come_back {
                self.losses.add("queue_full", self.queue.put_back(batch));
            }
            if closing && !self.backoff.may_try() && self.backoff.failing {
                return;
            }
        }
    }

    /// Counts what became of a batch. Returns the batch if it is to be sent again.
    fn settle(&mut self, batch: Batch, outcome: &Outcome) -> Option<Batch> {
        let count = batch.len();
        let smaller = outcome.too_large && count > 1;
        if smaller {
            self.size = count.div_ceil(2);
        } else {
            self.backoff.note(outcome);
            if outcome.failure.is_none() {
                // The items after a large one may be small.
                self.size = (self.size + self.size.div_ceil(8)).min(self.queue.limits.batch);
            }
        }
        if smaller || outcome.retryable {
            return Some(batch);
        }
        if self.queue.settle(count) {
            let lost = if outcome.failure.is_some() { count as u64 } else { outcome.rejected };
            self.losses.add(outcome.failure.unwrap_or("rejected"), lost.min(count as u64));
        }
        None
    }
}

/// Tasks that send batches, with the number of items of each.
struct UnderWay<T> {
    tasks: JoinSet<T>,
    counts: HashMap<Id, usize>,
}

impl<T> Default for UnderWay<T> {
    fn default() -> UnderWay<T> {
        UnderWay { tasks: JoinSet::new(), counts: HashMap::new() }
    }
}

impl<T: Send + 'static> UnderWay<T> {
    fn spawn(&mut self, count: usize, sending: impl Future<Output = T> + Send + 'static) {
        self.counts.insert(self.tasks.spawn(sending).id(), count);
    }

    /// Waits for the next task to end. Returns `None` after the last one.
    ///
    /// # Errors
    /// Returns the number of items of a task that panicked.
    async fn next(&mut self) -> Option<Result<T, usize>> {
        Some(match self.tasks.join_next_with_id().await? {
            Ok((_, outcome)) => Ok(outcome),
            Err(error) => Err(self.counts.get(&error.id()).copied().unwrap_or(0)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_items_of_a_task_that_panics_are_told() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut arrived = runtime.block_on(async {
            let mut under_way = UnderWay::default();
            under_way.spawn(3, async { panic!("in the middle of a request") });
            under_way.spawn(5, async { "sent" });
            let mut arrived = Vec::new();
            while let Some(outcome) = under_way.next().await {
                arrived.push(outcome);
            }
            arrived
        });
        arrived.sort();
        assert_eq!(arrived, [Ok("sent"), Err(3)]);
    }
}
