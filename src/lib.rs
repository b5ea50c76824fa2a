//! spantap: sees what an MCP host and an MCP server say to each other, without changing it.
//!
//! The walk of a byte:
//!
//! ```text
//! client ─stdin──► pump ──write──► server ─stdout─► pump ──write──► client    floor 1: relay, bytes only
//!                   │ ring                           │ ring
//!                   └───────────────┬────────────────┘  never waited for
//!                                   ▼ one owner at a time, nice 19             floor 2: observe, pure
//! 1. Chunk      bytes as read: stream, offset, instant
//! 2. Frame      one line, cut by the Framer; a hole is a Gap
//! 3. Envelope   the JSON-RPC members of the line, by byte range
//! 4. Message    Request | Response | Notification | Batch | Malformed
//! 5. Event      what happened, every text Redacted; a request with its answer is an Operation
//!                                   ▼ Sink                                     floor 3: export, out
//! 6. Record     the line of the log, `spantap/1`; spans and metrics are made from it
//! ```
//!
//! Nobody on floor 1 knows JSON, nobody on floor 2 does I/O, nobody on floor 3 sees bytes.
//! `docs/architecture.md` holds the map and the invariants.

pub mod text;

pub mod system;

pub mod relay;

pub mod observe;

pub mod record;

pub mod export;

pub mod settings;

pub mod proxy;

pub mod query;

pub mod present;

pub mod hosts;

pub mod check;

pub mod demo;

pub mod cli;

/// The version with the commit it was built from and that commit's day, as far as they are known:
/// `0.1.0 (abc1234 2026-11-22)`. See `build.rs`.
pub const VERSION: &str = match option_env!("SPANTAP_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};
