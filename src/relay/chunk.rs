//! The values that the relay passes to the observer: which stream carried which bytes when, and which bytes
//! were lost.
//!
//! They go one way. They do not parse JSON, and they give the observer no way to act on the relay.

pub use crate::system::clock::Moment;

/// One of the server's three standard streams, named as the server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    Stdin,
    Stdout,
    Stderr,
}

impl Stream {
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdin => "stdin",
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }

    /// Returns the direction of the stream's messages; `None` for stderr, which carries no protocol.
    pub fn direction(self) -> Option<Direction> {
        match self {
            Stream::Stdin => Some(Direction::ClientToServer),
            Stream::Stdout => Some(Direction::ServerToClient),
            Stream::Stderr => None,
        }
    }
}

/// Which peer sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    ClientToServer,
    ServerToClient,
}

impl Direction {
    /// The way an answer to a message of this direction travels.
    pub fn reversed(self) -> Direction {
        match self {
            Direction::ClientToServer => Direction::ServerToClient,
            Direction::ServerToClient => Direction::ClientToServer,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Direction::ClientToServer => "client_to_server",
            Direction::ServerToClient => "server_to_client",
        }
    }
}

/// Bytes as one `read(2)` returned them, at most 64 KiB.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    pub stream: Stream,
    /// Number of bytes of this stream that were read before these, observed or lost.
    pub offset: u64,
    /// Time at which `read(2)` returned them.
    pub read_at: Moment,
    pub bytes: &'a [u8],
}

/// Bytes that were forwarded but not observed, because the ring was full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub stream: Stream,
    /// Number of bytes of this stream that were read before the first lost one.
    pub offset: u64,
    /// Number of lost bytes.
    pub bytes: u64,
    /// Number of newlines among them.
    pub newlines: u64,
    /// The last lost byte was a newline, so the next byte starts a line.
    pub ends_line: bool,
    /// Time at which the first of them was read.
    pub read_at: Moment,
}
