//! The ports: listeners, and connections within limits of number and time. Every port takes OTLP over HTTP and gRPC.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::sleep;

use crate::collect::receive::HasAsked;
use crate::collect::recording::SharedCounts;
use crate::system::ports::{PortOwner, owner_of};

/// Ports of OTLP over HTTP and over gRPC.
const PORTS: [u16; 2] = [4318, 4317];
/// Most connections at the same time.
const MOST_CONNECTIONS: u64 = 512;
/// How long a new connection may take to send the head of a request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// How long a connection is kept without a request.
const IDLE: Duration = Duration::from_secs(90);
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

/// Where to listen: a port of this machine, or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    Port(u16),
    Address(SocketAddr),
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<ListenAddress, String> {
        let text = text.strip_prefix("localhost:").unwrap_or(text);
        let port = text.parse().ok().map(ListenAddress::Port);
        let address = || text.parse().ok().map(ListenAddress::Address);
        port.or_else(address).ok_or_else(|| "write a port (4318) or an address (192.168.1.7:4318)".to_owned())
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Port(port) => write!(f, "{port}"),
            ListenAddress::Address(address) => write!(f, "{address}"),
        }
    }
}

impl ListenAddress {
    /// Returns true if other machines can reach it.
    pub fn is_open(self) -> bool {
        match self {
            ListenAddress::Port(_) => false,
            ListenAddress::Address(address) => !address.ip().to_canonical().is_loopback(),
        }
    }
}

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
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1024);
    Arc::new(Semaphore::new(MOST_CONNECTIONS.min(files / 2) as usize))
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
            (Ok((stream, _)), Ok(permit)) => {
                tokio::spawn(connection(stream, router.clone(), permit, counts.clone(), closing.clone()));
            }
            (Ok((stream, _)), Err(_)) => {
                counts.refuse("connections");
                let _ = stream.try_write(FULL);
            }
            (Err(_), _) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Serves one connection. `permit` is given back at its end.
async fn connection(
    stream: TcpStream,
    router: Router,
    _permit: OwnedSemaphorePermit,
    counts: SharedCounts,
    mut closing: watch::Receiver<bool>,
) {
    let has_asked = HasAsked::default();
    let service = TowerToHyperService::new(router.layer(Extension(has_asked.clone())));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(MOST_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(IDLE)
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(MOST_HEAD as u32);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut first = pin!(sleep(FIRST_REQUEST));
    let mut is_first = true;
    loop {
        tokio::select! {
            _ = served.as_mut() => return,
            () = first.as_mut(), if is_first => {
                is_first = false;
                if !has_asked.0.load(Ordering::Relaxed) {
                    return counts.refuse("silent_connection");
                }
            }
            // The run has the sender as long as connections are served.
            Ok(()) = closing.changed() => served.as_mut().graceful_shutdown(),
        }
    }
}
