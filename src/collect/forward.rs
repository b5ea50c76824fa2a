//! Passes requests on as they came, to one other collector.
//!
//! The queue is bounded. A failure that may pass is retried up to [`MOST_TRIES`] times, with growing pauses.
//! Counted as lost: requests that the collector refuses, requests without room in the queue, and items that it rejects.
//! A header lists the collectors that a request has passed; a request that comes back is refused.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::collect::recording::SharedCounts;
use crate::collect::state::add;
use crate::export::otlp::settings::Signal;
use crate::export::otlp::{PartialSuccess, PassOnClient, PassOnError};
use crate::observe::redact::{Field, Redactor};

/// The marker header: the ids of the runs that a request has passed.
pub(super) const VIA: HeaderName = HeaderName::from_static("spantap-collect-via");
/// Bytes of all bodies that wait, with their headers.
const MOST_WAITING: usize = 16 << 20;
/// Bytes for each permit of the semaphore that bounds them.
const PERMIT: usize = 4 << 10;
/// Requests under way at the same time.
const CONCURRENT: usize = 4;
/// First pause of a body after a failure that may pass; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Failed tries after which a body is lost, so that four bad bodies do not block all senders. With pauses and time
/// limits they take five minutes at most.
const MOST_TRIES: u32 = 8;
/// Shortest time between two messages of one kind.
const BETWEEN_MESSAGES: Duration = Duration::from_secs(60);

/// Where requests are passed on, and with which headers.
pub(crate) struct ForwardSettings {
    /// Without the path of a signal.
    pub(crate) url: String,
    /// Headers of requests that are passed on with them.
    pub(crate) names: Vec<HeaderName>,
    /// Headers that every request gets.
    pub(crate) headers: Vec<(String, String)>,
    /// No proxy of the environment is used.
    pub(crate) is_direct: bool,
    /// Redacts what the target says.
    pub(crate) redactor: Redactor,
}

/// A body as it came, with all that goes with it.
pub(super) struct ForwardedBody {
    pub(super) signal: Signal,
    pub(super) body: Bytes,
    pub(super) content_type: Option<HeaderValue>,
    pub(super) encoding: Option<HeaderValue>,
    pub(super) headers: HeaderMap,
}

impl ForwardedBody {
    /// Returns how much of the queue's room it takes. The largest body takes all of it.
    fn permits(&self) -> u32 {
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        let kind = self.content_type.as_ref().map_or(0, HeaderValue::len);
        let size = self.body.len() + kind + headers.sum::<usize>();
        (size / PERMIT + 1).min(MOST_WAITING / PERMIT) as u32
    }
}

/// The way in: offers bodies to the senders.
pub(super) struct Forwarder {
    names: Vec<HeaderName>,
    via: HeaderValue,
    room: Arc<Semaphore>,
    queue: UnboundedSender<(ForwardedBody, OwnedSemaphorePermit)>,
    counts: SharedCounts,
}

/// The senders, which end once the run closes and all bodies are sent.
pub(super) struct ForwardSenders {
    tasks: JoinSet<()>,
    is_closing: watch::Sender<bool>,
    counts: SharedCounts,
}

type ForwardQueue = Arc<Mutex<UnboundedReceiver<(ForwardedBody, OwnedSemaphorePermit)>>>;

/// Starts to pass requests on. `warn` is called when the collector begins to fail, and when it takes requests again.
/// Must be called inside a runtime.
///
/// # Errors
/// If the URL or a header cannot be used.
pub(super) fn start(
    settings: ForwardSettings,
    connection_id: &str,
    counts: &SharedCounts,
    warn: fn(&str),
) -> anyhow::Result<(Forwarder, ForwardSenders)> {
    let client = Arc::new(PassOnClient::new(&settings.url, &settings.headers, settings.is_direct)?);
    let (queue, waiting) = unbounded_channel();
    let waiting: ForwardQueue = Arc::new(Mutex::new(waiting));
    let (is_closing, closing) = watch::channel(false);
    let state = TargetState { redactor: settings.redactor, ..TargetState::default() };
    let state = Arc::new(Mutex::new(state));
    let mut tasks = JoinSet::new();
    for _ in 0..CONCURRENT {
        let sender = ForwardSender {
            client: Arc::clone(&client),
            waiting: Arc::clone(&waiting),
            state: Arc::clone(&state),
            first_pause: FIRST_PAUSE,
            closing: closing.clone(),
            counts: counts.clone(),
            warn,
        };
        tasks.spawn(sender.run());
    }
    let forwarder = Forwarder {
        names: settings.names,
        via: HeaderValue::from_str(connection_id)?,
        room: Arc::new(Semaphore::new(MOST_WAITING / PERMIT)),
        queue,
        counts: counts.clone(),
    };
    Ok((forwarder, ForwardSenders { tasks, is_closing, counts: counts.clone() }))
}

impl Forwarder {
    /// Returns the headers of a request that go on with it, and the marker. The values are copies, because a clone
    /// would keep the buffer of the whole request.
    pub(super) fn named(&self, headers: &HeaderMap) -> HeaderMap {
        let mut kept = HeaderMap::new();
        for name in self.names.iter().chain([&VIA]) {
            for value in headers.get_all(name) {
                kept.extend(HeaderValue::from_bytes(value.as_bytes()).map(|value| (name.clone(), value)));
            }
        }
        kept.append(VIA, self.via.clone());
        kept
    }

    /// Puts a body into the queue, or counts it as lost.
    pub(super) fn offer(&self, body: ForwardedBody) {
        match Arc::clone(&self.room).try_acquire_many_owned(body.permits()) {
            Ok(permit) => {
                self.counts.lock().forward_waiting += 1;
                // It fails only after the senders have ended. The body then is among those that wait, which are counted
                // as lost at the end.
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
        let left = std::mem::take(&mut self.counts.lock().forward_waiting);
        self.counts.lose_forward("timeout", left);
    }
}

/// State of the target, as all senders know it.
#[derive(Default)]
struct TargetState {
    /// End of the pause after a failure that may pass; `None` after a success.
    until: Option<Instant>,
    /// True if the user has read that it fails.
    is_reported: bool,
    failure_reported: Option<Instant>,
    refusal_reported: Option<Instant>,
    rejection_reported: Option<Instant>,
    redactor: Redactor,
}

struct ForwardSender {
    client: Arc<PassOnClient>,
    waiting: ForwardQueue,
    state: Arc<Mutex<TargetState>>,
    first_pause: Duration,
    closing: watch::Receiver<bool>,
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
            let outcome = self.send(body).await;
            let mut counts = self.counts.lock();
            counts.forward_waiting -= 1;
            match outcome {
                Ok(()) => counts.forwarded += 1,
                Err(reason) => add(&mut counts.forward_lost, reason, 1),
            }
        }
    }

    /// Sends a body until it is taken or refused, or has failed too often. Returns the reason of the last failure.
    async fn send(&mut self, body: ForwardedBody) -> Result<(), &'static str> {
        let mut headers = body.headers;
        if let Some(kind) = body.content_type {
            headers.insert(CONTENT_TYPE, kind);
        }
        if let Some(encoding) = body.encoding {
            headers.insert(CONTENT_ENCODING, encoding);
        }
        let (mut tries, mut pause, mut own_until) = (0, self.first_pause, None);
        loop {
            let until = self.state.lock().await.until.max(own_until);
            if let Some(until) = until {
                tokio::select! {
                    () = sleep_until(until) => {}
                    _ = self.closing.wait_for(|is_closing| *is_closing) => {}
                }
            }
            let outcome = self.client.post(body.signal, headers.clone(), body.body.clone()).await;
            let mut state = self.state.lock().await;
            let now = Instant::now();
            let failure = match outcome {
                Ok(partial) => {
                    self.report(state.succeed());
                    if partial.rejected > 0 {
                        let items = items(body.signal);
                        add(&mut self.counts.lock().forward_rejected, items, partial.rejected);
                        self.report(state.reject(items, &partial, now));
                    }
                    return Ok(());
                }
                Err(failure) => failure,
            };
            self.report(state.fail(failure, now));
            // A target that is away says nothing about the body.
            tries += u32::from(!matches!(failure.reason, "refused" | "unknown_host"));
            if !failure.may_pass || tries >= MOST_TRIES || *self.closing.borrow() {
                return Err(failure.reason);
            }
            own_until = Some(now + failure.retry_after.unwrap_or_default().max(pause));
            state.until = state.until.max(own_until);
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    fn report(&self, message: Option<String>) {
        message.iter().for_each(|message| (self.warn)(message));
    }
}

impl TargetState {
    /// Ends the pause. Returns the message if the user has read that the target fails.
    fn succeed(&mut self) -> Option<String> {
        self.until = None;
        std::mem::take(&mut self.is_reported)
            .then(|| "the target of --forward takes requests again".to_owned())
    }

    /// Returns the message about items that were left out of a request, at most one a minute.
    fn reject(&mut self, items: &str, partial: &PartialSuccess, now: Instant) -> Option<String> {
        if self.rejection_reported.is_some_and(|last| now < last + BETWEEN_MESSAGES) {
            return None;
        }
        self.rejection_reported = Some(now);
        let words = self.redactor.redact(Field::Message, partial.message.as_bytes());
        let words = Some(words.as_str()).filter(|words| !words.is_empty());
        let words = words.map(|words| format!(" ({words})")).unwrap_or_default();
        Some(format!(
            "the target of --forward took a request without {} of its {items}{words}; such {items} are counted and not \
             sent again; its own log may have the reason",
            partial.rejected
        ))
    }

    /// Returns the message about a failure, at most one of each kind a minute.
    fn fail(&mut self, failure: PassOnError, now: Instant) -> Option<String> {
        let PassOnError { reason, may_pass, .. } = failure;
        let reported = if may_pass { &mut self.failure_reported } else { &mut self.refusal_reported };
        if (may_pass && self.is_reported) || reported.is_some_and(|last| now < last + BETWEEN_MESSAGES) {
            return None;
        }
        *reported = Some(now);
        self.is_reported |= may_pass;
        Some(match may_pass {
            true => format!(
                "the target of --forward does not take requests ({reason}); they wait, and are counted if they find \
                 no room or fail {MOST_TRIES} times; check its address and its own log"
            ),
            // A refusal of one body says nothing about the next one.
            false => {
                format!(
                    "the target of --forward refused a request ({reason}); such requests are counted; its own log \
                     may have the reason"
                )
            }
        })
    }
}

/// Returns what a request of the signal consists of.
fn items(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "spans",
        Signal::Metrics => "data points",
        Signal::Logs => "log records",
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
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A target that answers each request with `status`, and counts them.
    fn target(status: &'static str) -> (String, Arc<AtomicU64>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(&stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|count| count > 0)
                {
                }
                let _ = reader.read_exact(&mut [0; BODY.len()]);
                count.fetch_add(1, Ordering::Relaxed);
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = (&stream).write_all(answer.as_bytes());
            }
        });
        (url, asked)
    }

    const BODY: &[u8] = b"body";

    fn body(headers: HeaderMap) -> ForwardedBody {
        let body = Bytes::from_static(BODY);
        ForwardedBody { signal: Signal::Traces, body, content_type: None, encoding: None, headers }
    }

    #[tokio::test]
    async fn a_body_that_always_fails_is_given_up_and_one_that_is_refused_is_not_tried_again() {
        for (status, tries, reason) in [("503", 8, "http_503"), ("404", 1, "http_404")] {
            let (url, asked) = target(status);
            let (_open, closing) = watch::channel(false);
            let mut sender = ForwardSender {
                client: Arc::new(PassOnClient::new(&url, &[], false).unwrap()),
                waiting: Arc::new(Mutex::new(unbounded_channel().1)),
                state: Arc::default(),
                first_pause: Duration::ZERO,
                closing,
                counts: SharedCounts::default(),
                warn: |_| {},
            };
            assert_eq!(sender.send(body(HeaderMap::new())).await, Err(reason));
            assert_eq!(asked.load(Ordering::Relaxed), tries);
        }
    }

    #[test]
    fn a_target_that_takes_some_requests_and_refuses_others_is_reported_once_a_minute() {
        let (mut state, start) = (TargetState::default(), Instant::now());
        let error = |may_pass| PassOnError { reason: "why", may_pass, retry_after: None };
        let mut reports = |may_pass, seconds| {
            let now = start + Duration::from_secs(seconds);
            let failed = state.fail(error(may_pass), now).is_some();
            (failed, state.succeed().is_some())
        };
        assert_eq!(reports(false, 0), (true, false));
        assert_eq!(reports(false, 59), (false, false));
        assert_eq!(reports(false, 60), (true, false));
        // A failure that may pass has an end.
        assert_eq!(reports(true, 60), (true, true));
        assert_eq!(reports(true, 119), (false, false));
        assert_eq!(reports(true, 120), (true, true));
    }

    #[test]
    fn what_a_target_says_of_the_items_that_it_rejects_is_redacted_and_reported_once_a_minute() {
        let (mut state, start) = (TargetState::default(), Instant::now());
        let mut said = |message: &str, seconds| {
            let partial = PartialSuccess { rejected: 7, message: message.to_owned() };
            state.reject("spans", &partial, start + Duration::from_secs(seconds))
        };
        let first = said("too old; password=hunter2secret", 0).unwrap();
        assert!(first.contains("without 7 of its spans (too old; "), "{first}");
        assert!(!first.contains("hunter2"), "{first}");
        assert_eq!(said("", 59), None);
        assert!(said("", 60).unwrap().contains("of its spans; such"));
    }

    #[test]
    fn the_room_of_a_body_has_its_headers_in_it_and_the_largest_body_finds_room() {
        let mut headers = HeaderMap::new();
        headers.append(VIA, HeaderValue::from_bytes(&[b'a'; 8 * PERMIT]).unwrap());
        assert_eq!(body(HeaderMap::new()).permits(), 1);
        assert_eq!(body(headers.clone()).permits(), 9);
        let largest = ForwardedBody { body: vec![0; MOST_WAITING].into(), ..body(headers) };
        assert_eq!(largest.permits() as usize, MOST_WAITING / PERMIT);
    }

    fn leads(url: &str, own: &str) -> bool {
        leads_back(url, &[own.parse().unwrap()]).is_some()
    }

    #[test]
    fn a_target_that_is_this_collector_is_found_by_its_addresses() {
        for (url, own, is_this_one) in [
            ("http://127.0.0.1:4318", "127.0.0.1:4318", true),
            ("http://localhost:4318/", "127.0.0.1:4318", true),
            ("http://0.0.0.0:4318", "127.0.0.1:4318", true),
            ("http://127.0.0.1:4318", "0.0.0.0:4318", true),
            ("http://[::ffff:127.0.0.1]:4318", "127.0.0.1:4318", true),
            ("http://127.0.0.1:4319", "127.0.0.1:4318", false),
            ("http://127.0.0.2:4318", "127.0.0.1:4318", false),
            ("https://127.0.0.1", "127.0.0.1:443", true),
        ] {
            assert_eq!(leads(url, own), is_this_one, "{url} at {own}");
        }
    }

    #[test]
    fn an_address_of_another_machine_is_not_this_collector() {
        for (url, own) in
            [("http://198.51.100.7:4318", "0.0.0.0:4318"), ("http://[2001:db8::7]:4318", "[::]:4318")]
        {
            assert!(!leads(url, own), "{url} at {own}");
        }
    }
}
