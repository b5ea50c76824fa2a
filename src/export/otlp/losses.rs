//! Counts of spans, logs and points that were lost on the way to a collector, by reason.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::system::mutex::lock;

/// Takes a reason and the number of items that were lost for it.
pub(crate) type LossCallback = Box<dyn Fn(&'static str, u64) + Send + Sync>;

pub(super) struct LossCounts {
    counts: Mutex<BTreeMap<&'static str, u64>>,
    /// Losses of the other outputs, so far.
    pub(super) elsewhere: AtomicU64,
    /// Called for each loss: the instrument that counts them.
    callback: Option<LossCallback>,
}

impl LossCounts {
    pub(super) fn new(callback: Option<LossCallback>) -> LossCounts {
        LossCounts { counts: Mutex::default(), elsewhere: AtomicU64::new(0), callback }
    }

    pub(super) fn add(&self, reason: &'static str, count: u64) {
        if count > 0 {
            *lock(&self.counts).entry(reason).or_default() += count;
            if let Some(callback) = &self.callback {
                callback(reason, count);
            }
        }
    }

    /// Returns all losses, here and elsewhere. The sum only grows.
    pub(super) fn total(&self) -> u64 {
        lock(&self.counts).values().sum::<u64>() + self.elsewhere.load(Ordering::Relaxed)
    }

    pub(super) fn by_reason(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.counts).clone()
    }
}
