//! Floor 2: from bytes to events.
//!
//! One owner at a time, no locks, no I/O, no clock: a [`Chunk`](crate::relay::tap::Chunk) brings the
//! instant at which it was read, so that a recorded session replays to the same events.

pub mod event;

pub mod canonical;
pub mod envelope;
pub mod frame;
pub mod mcp;
pub mod message;
pub mod patterns;
pub mod redact;
pub mod session;
pub mod traceparent;
