//! Passes requests on as they came, to one other collector.
//!
//! The bodies wait in a bounded queue. A failure that may pass is tried again, with growing pauses; what the collector
//! refuses, and what finds no room, is counted. A marker header names every collector that a request has passed, so that
//! a request that comes back is refused.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::collect::recording::SharedCounts;
use crate::export::otlp::settings::Signal;
use crate::export::otlp::{PassOnClient, PassOnError};

/// The marker header: the ids of the runs that a request has passed.
pub(super) const VIA: HeaderName = HeaderName::from_static("spantap-collect-via");
/// Bytes of all bodies that wait.
const MOST_WAITING: usize = 16 << 20;
/// Bytes for each permit of the semaphore that bounds them.
const PERMIT: usize = 4 << 10;
/// Requests under way at the same time.
const CONCURRENT: usize = 4;
/// First pause after a failure that may pass; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Where requests are passed on, and with which headers.
#[derive(Clone, Debug)]
pub(crate) struct ForwardSettings {
    /// Without the path of a signal.
    pub(crate) url: String,
    /// Headers of requests that are passed on with them.
    pub(crate) names: Vec<HeaderName>,
    /// Headers that every request gets.
    pub(crate) headers: Vec<(String, String)>,
}

/// A body as it came, with all that goes with it.
pub(super) struct ForwardedBody {
    pub(super) signal: Signal,
    pub(super) body: Bytes,
    pub(super) content_type: Option<HeaderValue>,
    pub(super) encoding: Option<HeaderValue>,
    pub(super) headers: HeaderMap,
}

/// The way in: offers bodies to the senders.
pub(super) struct Forwarder {
    names: Vec<HeaderName>,
    via: HeaderValue,
    room: Arc<Semaphore>,
    queue: UnboundedSender<(ForwardedBody, OwnedSemaphorePermit)>,
    pending: Arc<AtomicU64>,
    counts: SharedCounts,
}

/// The senders, which end once the run closes and all bodies are sent.
pub(super) struct ForwardSenders {
    tasks: JoinSet<()>,
    is_closing: watch::Sender<bool>,
    pending: Arc<AtomicU64>,
    counts: SharedCounts,
}

type ForwardQueue = Arc<Mutex<UnboundedReceiver<(ForwardedBody, OwnedSemaphorePermit)>>>;

/// Starts to pass requests on. `warn` is called when the collector begins to fail, and when it takes requests again.
/// Must be called inside a runtime.
///
/// # Errors
/// If the URL or a header cannot be used.
pub(super) fn start(
    settings: &ForwardSettings,
    connection_id: &str,
    counts: &SharedCounts,
    warn: fn(&str),
) -> anyhow::Result<(Forwarder, ForwardSenders)> {
    let client = Arc::new(PassOnClient::new(&settings.url, &settings.headers)?);
    let (queue, waiting) = unbounded_channel();
    let waiting: ForwardQueue = Arc::new(Mutex::new(waiting));
    let (is_closing, closing) = watch::channel(false);
    let pending = Arc::new(AtomicU64::new(0));
    let pause = Arc::new(Mutex::new(ForwardPause { length: FIRST_PAUSE, until: None }));
    let mut tasks = JoinSet::new();
    for _ in 0..CONCURRENT {
        let sender = ForwardSender {
            client: Arc::clone(&client),
            waiting: Arc::clone(&waiting),
            pause: Arc::clone(&pause),
            closing: closing.clone(),
            pending: Arc::clone(&pending),
            counts: counts.clone(),
            warn,
        };
        tasks.spawn(sender.run());
    }
    let forwarder = Forwarder {
        names: settings.names.clone(),
        via: HeaderValue::from_str(connection_id)?,
        room: Arc::new(Semaphore::new(MOST_WAITING / PERMIT)),
        queue,
        pending: Arc::clone(&pending),
        counts: counts.clone(),
    };
    Ok((forwarder, ForwardSenders { tasks, is_closing, pending, counts: counts.clone() }))
}

impl Forwarder {
    /// Returns the headers of a request that go on with it, and the marker.
    pub(super) fn named(&self, headers: &HeaderMap) -> HeaderMap {
        let mut kept = HeaderMap::new();
        for name in self.names.iter().chain([&VIA]) {
            for value in headers.get_all(name) {
                kept.append(name, value.clone());
            }
        }
        kept.append(VIA, self.via.clone());
        kept
    }

    /// Puts a body into the queue, or counts it as lost.
    pub(super) fn offer(&self, body: ForwardedBody) {
        let permits = u32::try_from(body.body.len() / PERMIT + 1).unwrap_or(u32::MAX);
        match Arc::clone(&self.room).try_acquire_many_owned(permits) {
            Ok(permit) => {
                self.pending.fetch_add(1, Ordering::Relaxed);
                let _ = self.queue.send((body, permit));
            }
            Err(_) => self.counts.lose_forward("queue_full", 1),
        }
    }
}

impl ForwardSenders {
    /// Waits at most `patience` until all bodies are sent. Each is tried once more; those that are left are counted as
    /// lost.
    pub(super) async fn finish(mut self, patience: Duration) {
        let _ = self.is_closing.send(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(patience, all).await.is_err() {
            self.tasks.shutdown().await;
        }
        self.counts.lose_forward("timeout", self.pending.swap(0, Ordering::Relaxed));
    }
}

/// The pause that all senders keep after a failure.
struct ForwardPause {
    length: Duration,
    until: Option<Instant>,
}

struct ForwardSender {
    client: Arc<PassOnClient>,
    waiting: ForwardQueue,
    pause: Arc<Mutex<ForwardPause>>,
    closing: watch::Receiver<bool>,
    pending: Arc<AtomicU64>,
    counts: SharedCounts,
    warn: fn(&str),
}

impl ForwardSender {
    async fn run(mut self) {
        loop {
            let next = {
                let mut waiting = self.waiting.lock().await;
                tokio::select! {
                    biased;
                    next = waiting.recv() => next,
                    _ = self.closing.wait_for(|is_closing| *is_closing) => None,
                }
            };
            let Some((body, _permit)) = next else { return };
            match self.send(body).await {
                Ok(()) => self.counts.forward(),
                Err(reason) => self.counts.lose_forward(reason, 1),
            }
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Sends a body until it is taken or refused. Returns the reason of a refusal.
    async fn send(&mut self, body: ForwardedBody) -> Result<(), &'static str> {
        let mut headers = body.headers;
        if let Some(kind) = body.content_type {
            headers.insert(CONTENT_TYPE, kind);
        }
        if let Some(encoding) = body.encoding {
            headers.insert(CONTENT_ENCODING, encoding);
        }
        loop {
            let until = self.pause.lock().await.until;
            if let Some(until) = until {
                tokio::select! {
                    () = sleep_until(until) => {}
                    _ = self.closing.wait_for(|is_closing| *is_closing) => {}
                }
            }
            let outcome = self.client.post(body.signal, headers.clone(), body.body.clone()).await;
            self.note(outcome.as_ref().err()).await;
            match outcome {
                Ok(_) => return Ok(()),
                Err(PassOnError { may_pass: true, .. }) if !*self.closing.borrow() => {}
                Err(PassOnError { reason, .. }) => return Err(reason),
            }
        }
    }

    /// Sets the pause, and reports a change.
    async fn note(&self, failure: Option<&PassOnError>) {
        let mut pause = self.pause.lock().await;
        let was_failing = pause.until.is_some();
        let Some(failure) = failure else {
            if was_failing {
                *pause = ForwardPause { length: FIRST_PAUSE, until: None };
                (self.warn)("the target of --forward takes requests again");
            }
            return;
        };
        if !was_failing {
            let what = if failure.may_pass {
                "they wait, and are counted if they find no room"
            } else {
                "they are counted"
            };
            (self.warn)(&format!(
                "the target of --forward does not take requests ({}); {what}",
                failure.reason
            ));
        }
        // A refusal of one body says nothing about the next one.
        let length =
            if failure.may_pass { failure.retry_after.unwrap_or(pause.length) } else { Duration::ZERO };
        pause.until = Some(Instant::now() + length);
        if failure.may_pass {
            pause.length = (pause.length * 2).min(MAX_PAUSE);
        }
    }
}

/// Returns the address of `own` to which the URL leads, so that each request would come back.
pub(super) fn leads_back(url: &str, own: &[SocketAddr]) -> Option<SocketAddr> {
    let uri: http::Uri = url.parse().ok()?;
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let host = uri.host()?.trim_matches(['[', ']']);
    let targets: Vec<SocketAddr> = (host, port).to_socket_addrs().ok()?.collect();
    let is_target = |own: &SocketAddr| {
        targets.iter().any(|target| {
            let ip = target.ip().to_canonical();
            let is_reached =
                own.ip() == ip || ip.is_unspecified() || (own.ip().is_unspecified() && is_local(ip));
            target.port() == own.port() && is_reached
        })
    };
    own.iter().copied().find(is_target)
}

/// Returns true if `ip` is an address of this machine: a socket can have it.
fn is_local(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_is_this_collector_is_found_by_its_addresses() {
        let own = |text: &str| vec![text.parse::<SocketAddr>().unwrap()];
        for (url, address, leads) in [
            ("http://127.0.0.1:4318", "127.0.0.1:4318", true),
            ("http://localhost:4318/", "127.0.0.1:4318", true),
            ("http://0.0.0.0:4318", "127.0.0.1:4318", true),
            ("http://127.0.0.1:4318", "0.0.0.0:4318", true),
            ("http://[::ffff:127.0.0.1]:4318", "127.0.0.1:4318", true),
            ("http://127.0.0.1:4319", "127.0.0.1:4318", false),
            ("http://127.0.0.2:4318", "127.0.0.1:4318", false),
            ("http://192.0.2.7:4318", "0.0.0.0:4318", false),
            ("https://127.0.0.1", "127.0.0.1:443", true),
        ] {
            assert_eq!(leads_back(url, &own(address)).is_some(), leads, "{url} at {address}");
        }
    }
}
