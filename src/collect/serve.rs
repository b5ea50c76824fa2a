//! The ports: listeners, and connections within limits of number and time. Every port takes OTLP over HTTP and gRPC.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::collect::connection_use::{ConnectionLimits, ConnectionUse};
use crate::collect::recording::SharedCounts;
use crate::collect::state::{CONNECTIONS, SILENT};
use crate::settings::ListenAddress;
use crate::system::descriptor;
use crate::system::ports::{PortOwner, owner_of};

/// Ports of OTLP over HTTP and over gRPC.
const PORTS: [u16; 2] = [4318, 4317];
/// Most connections at the same time.
const MOST_CONNECTIONS: u64 = 512;
const LIMITS: ConnectionLimits = ConnectionLimits {
    first: Duration::from_secs(10),
    idle: Duration::from_secs(90),
    grace: Duration::from_secs(10),
};
/// Bytes of the head of a request.
const MOST_HEAD: usize = 32 << 10;
/// Bytes of a body over HTTP/2 that a client may send before they are read.
const WINDOW: u32 = 128 << 10;
/// Requests at the same time on one connection over HTTP/2.
const STREAMS: u32 = 32;
/// Pause after the system has refused a connection, for example because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Answer to a connection that finds no room.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// An address on which the collector cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}")]
pub struct ListenError {
    pub address: SocketAddr,
    pub error: io::Error,
    /// The process that listens there, if the port is taken and the process is known.
    pub owner: Option<PortOwner>,
}

/// Opens the listeners; without `addresses` the ports of OTLP.
pub(super) fn listen(addresses: &[ListenAddress]) -> Result<Vec<std::net::TcpListener>, ListenError> {
    let ports = PORTS.map(ListenAddress::Port);
    let mut listeners = Vec::new();
    for address in if addresses.is_empty() { &ports } else { addresses } {
        match *address {
            ListenAddress::Address(address) => listeners.push(bind(address)?),
            ListenAddress::Port(port) => {
                let first = bind((Ipv4Addr::LOCALHOST, port).into())?;
                let port = first.local_addr().map_or(port, |address| address.port());
                listeners.push(first);
                match bind((Ipv6Addr::LOCALHOST, port).into()) {
                    Ok(second) => listeners.push(second),
                    Err(taken) if taken.error.kind() == io::ErrorKind::AddrInUse => return Err(taken),
                    // The machine has no IPv6.
                    Err(_) => {}
                }
            }
        }
    }
    Ok(listeners)
}

fn bind(address: SocketAddr) -> Result<std::net::TcpListener, ListenError> {
    let bound = std::net::TcpListener::bind(address);
    let bound = bound.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    bound.map_err(|error| {
        let is_taken = error.kind() == io::ErrorKind::AddrInUse;
        ListenError { address, owner: is_taken.then(|| owner_of(address.port())).flatten(), error }
    })
}

/// Returns the number of connections for which this process may have descriptors.
pub(super) fn connection_limit() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MOST_CONNECTIONS.min(descriptor::limit() / 2) as usize))
}

/// Takes connections of one listener until `closing` changes.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    room: Arc<Semaphore>,
    counts: SharedCounts,
    mut closing: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.changed() => return,
        };
        match (accepted, Arc::clone(&room).try_acquire_owned()) {
            (Ok((stream, _)), Ok(place)) => {
                let (router, counts, closing) = (router.clone(), counts.clone(), closing.clone());
                tokio::spawn(connection(stream, router, place, counts, LIMITS, closing));
            }
            (Ok((stream, _)), Err(_)) => {
                counts.refuse(CONNECTIONS);
                let _ = stream.try_write(FULL);
            }
            (Err(_), _) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Serves one connection, until it ends or is idle for too long. `place` is given back at its end, or at that of its last
/// request.
async fn connection(
    stream: TcpStream,
    router: Router,
    place: OwnedSemaphorePermit,
    counts: SharedCounts,
    limits: ConnectionLimits,
    mut closing: watch::Receiver<bool>,
) {
    let usage = ConnectionUse::new(Instant::now(), place);
    let service = TowerToHyperService::new(router.layer(Extension(usage.clone())));
    let mut builder = Builder::new(TokioExecutor::new());
    // A client may close its side once it has sent all, and read the answer.
    builder.http1().half_close(true);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.idle).max_buf_size(MOST_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.idle)
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(MOST_HEAD as u32);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let between_checks = limits.first.min(limits.idle);
    let mut check = pin!(sleep(between_checks));
    let mut is_leaving = false;
    loop {
        tokio::select! {
            biased;
            _ = served.as_mut() => return,
            () = check.as_mut() => {
                let now = Instant::now();
                let next = match usage.deadline(limits) {
                    Some(deadline) if deadline > now => deadline.min(now + between_checks),
                    // A request that is under way has a limit of its own.
                    None => now + between_checks,
                    Some(_) if !usage.has_asked() => return counts.refuse(SILENT),
                    Some(_) if is_leaving => return,
                    Some(_) => {
                        is_leaving = true;
                        served.as_mut().graceful_shutdown();
                        now + limits.grace
                    }
                };
                check.as_mut().set(sleep_until(next));
            }
            // The run has the sender as long as connections are served.
            Ok(()) = closing.changed() => served.as_mut().graceful_shutdown(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;
    use crate::collect::adapters::Adapters;
    use crate::collect::receive::Receiver;
    use crate::collect::recording::Recording;
    use crate::observe::redact::Redactor;
    use crate::record::cost::ModelPrices;

    const SOON: Duration = Duration::from_millis(50);
    const NEVER: Duration = Duration::from_secs(3600);
    /// How long a test waits for the end of a connection.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A connection that is served, and what the run knows of it.
    struct Served {
        client: TcpStream,
        room: Arc<Semaphore>,
        counts: SharedCounts,
        _open: watch::Sender<bool>,
    }

    /// Serves a connection on which the client has sent `sent` already.
    async fn served(limits: ConnectionLimits, sent: &[u8]) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(sent).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let counts = SharedCounts::default();
        let (adapters, prices) = (Adapters::new(Redactor::default()), ModelPrices::default());
        let recording = Recording::new(adapters, None, prices, None, "id", &counts);
        let recording = Arc::new(tokio::sync::Mutex::new(recording));
        let router = Receiver::new(recording, counts.clone(), None, None, "id").router();
        let room = Arc::new(Semaphore::new(1));
        let place = Arc::clone(&room).try_acquire_owned().unwrap();
        let (open, closing) = watch::channel(false);
        tokio::spawn(connection(stream, router, place, counts.clone(), limits, closing));
        Served { client, room, counts, _open: open }
    }

    impl Served {
        /// Waits until the connection has given its place back. Returns the number of silent connections.
        async fn end(self) -> u64 {
            let _place = timeout(PATIENCE, self.room.acquire()).await.unwrap().unwrap();
            self.counts.lock().refused.get(SILENT).copied().unwrap_or(0)
        }
    }

    #[tokio::test]
    async fn an_idle_connection_over_http2_is_closed_also_if_the_client_does_not_leave() {
        let mut served = served(ConnectionLimits { first: NEVER, idle: SOON, grace: SOON }, b"").await;
        let (mut sender, connection) = h2::client::handshake(&mut served.client).await.unwrap();
        let uri = "http://localhost/v1/traces";
        let request = http::Request::post(uri).header("content-type", "application/json").body(()).unwrap();
        let asked = async {
            let (answer, mut body) = sender.send_request(request, false).unwrap();
            body.send_data("{}".into(), true).unwrap();
            answer.await.unwrap().status()
        };
        // The connection is driven until the answer is there. Then the client reads nothing any more.
        tokio::select! {
            status = asked => assert_eq!(status, 200),
            ended = connection => panic!("{ended:?}"),
        }
        assert_eq!(served.end().await, 0);
    }

    #[tokio::test]
    async fn a_connection_without_a_request_that_is_admitted_is_closed_soon() {
        let limits = ConnectionLimits { first: SOON, idle: NEVER, grace: SOON };
        for (sent, silent) in [
            (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..], 1),
            (b"POST /v1/traces HTTP/1.1\r\nhost: localhost\r\n", 1),
            (b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", 0),
            (b"POST /v1/traces HTTP/1.1\r\nhost: rebound.example\r\ncontent-length: 0\r\n\r\n", 0),
        ] {
            let mut served = served(limits, sent).await;
            if silent == 0 {
                assert_ne!(served.client.read(&mut [0; 1024]).await.unwrap(), 0);
            }
            assert_eq!(served.end().await, silent);
        }
    }
}
