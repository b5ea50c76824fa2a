//! The values that the relay passes to the observer: which stream carried which bytes when, and which bytes
//! were lost.
//!
//! They go one way: the observer cannot act on the relay.

use std::num::NonZeroU64;

pub use crate::system::clock::Moment;
use crate::text::words::words;

words! {
    /// One of the server's three standard streams, named as the server sees it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub enum Stream { Stdin = "stdin", Stdout = "stdout", Stderr = "stderr" }
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
    /// Mark of the line that these bytes are, or are a part of. Bytes with a mark are of one line only.
    pub mark: Option<LineMark>,
}

/// The span that the line editor has made for a request of the client. The relay passes both numbers on unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineMark {
    /// Id of the request's span.
    pub span: NonZeroU64,
    /// Number of the request's trace in the connection.
    pub trace: u64,
}

/// Bytes that were forwarded but not observed: the ring was full, the observer failed, or time ran out at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub stream: Stream,
    /// Number of bytes of this stream that were read before the first lost one.
    pub offset: u64,
    pub bytes: u64,
    /// Number of newlines among them.
    pub newlines: u64,
    /// The last lost byte was a newline, so the next byte starts a line.
    pub ends_line: bool,
    /// Time at which the next bytes, or the end of the stream, were read.
    pub read_at: Moment,
}
