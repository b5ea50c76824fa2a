//! How a connection is used, which decides when it is closed.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::system::mutex::lock;

/// How long a connection is kept.
#[derive(Clone, Copy)]
pub(super) struct ConnectionLimits {
    /// Until the first request is admitted.
    pub(super) first: Duration,
    /// After the last request that was admitted.
    pub(super) idle: Duration,
    /// After the client was asked to leave.
    pub(super) grace: Duration,
}

/// The requests of one connection, as its handlers and the task that serves it know them.
#[derive(Clone)]
pub(super) struct ConnectionUse(Arc<UsedConnection>);

struct UsedConnection {
    seen: Mutex<RequestsSeen>,
    /// The place among all connections. A request whose client has left keeps it until it is recorded.
    _place: OwnedSemaphorePermit,
}

struct RequestsSeen {
    under_way: u32,
    has_asked: bool,
    /// A request that is refused by its head, for example for its token, does not keep a connection open.
    is_admitted: bool,
    /// Begin of the connection, or end of the last request that was admitted.
    since: Instant,
}

/// A request that is under way.
pub(super) struct RequestUnderWay(ConnectionUse);

impl ConnectionUse {
    pub(super) fn new(now: Instant, place: OwnedSemaphorePermit) -> ConnectionUse {
        let seen = RequestsSeen { under_way: 0, has_asked: false, is_admitted: false, since: now };
        ConnectionUse(Arc::new(UsedConnection { seen: Mutex::new(seen), _place: place }))
    }

    fn lock(&self) -> MutexGuard<'_, RequestsSeen> {
        lock(&self.0.seen)
    }

    /// Notes that a request is under way until the result is dropped.
    pub(super) fn begin(&self) -> RequestUnderWay {
        let mut seen = self.lock();
        seen.under_way += 1;
        seen.has_asked = true;
        RequestUnderWay(self.clone())
    }

    /// Notes that a request was admitted by its head.
    pub(super) fn admit(&self) {
        let mut seen = self.lock();
        (seen.is_admitted, seen.since) = (true, Instant::now());
    }

    /// Returns true if a request has come.
    pub(super) fn has_asked(&self) -> bool {
        self.lock().has_asked
    }

    /// Returns when the connection has been idle for too long; `None` while a request is under way.
    pub(super) fn deadline(&self, limits: ConnectionLimits) -> Option<Instant> {
        let seen = self.lock();
        let patience = if seen.is_admitted { limits.idle } else { limits.first };
        (seen.under_way == 0).then(|| seen.since + patience)
    }
}

impl Drop for RequestUnderWay {
    fn drop(&mut self) {
        let mut seen = self.0.lock();
        seen.under_way -= 1;
        if seen.is_admitted {
            seen.since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn a_connection_is_idle_after_its_last_request_and_only_a_request_that_was_admitted_counts() {
        let (first, idle) = (Duration::from_secs(10), Duration::from_secs(90));
        let limits = ConnectionLimits { first, idle, grace: first };
        let begin = Instant::now();
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let usage = ConnectionUse::new(begin, place);
        assert_eq!((usage.deadline(limits), usage.has_asked()), (Some(begin + first), false));
        let refused = usage.begin();
        assert_eq!((usage.deadline(limits), usage.has_asked()), (None, true));
        drop(refused);
        assert_eq!(usage.deadline(limits), Some(begin + first));
        let (slow, quick) = (usage.begin(), usage.begin());
        usage.admit();
        drop(quick);
        assert_eq!(usage.deadline(limits), None);
        drop(slow);
        assert!(usage.deadline(limits) >= Some(begin + idle));
    }
}
