//! spantap shows what an MCP host and an MCP server say to each other, without changing it.
//!
//! The way of a byte:
//!
//! ```text
//! client ─stdin──► pump ──write──► server ─stdout─► pump ──write──► client    relay: bytes only
//!                   │ ring                           │ ring
//!                   └───────────────┬────────────────┘  the pumps never wait for the observer
//!                                   ▼ one observer, on a thread at nice 19    observe: no I/O
//! 1. Chunk      bytes as read: stream, offset, moment
//! 2. Frame      one line, cut by the Framer; lost bytes are a Gap
//! 3. Envelope   the JSON-RPC members of the line, by byte range
//! 4. Message    Request | Response | Notification | Batch | Malformed
//! 5. Event      what happened, every text Redacted; a request with its answer is an Operation
//!                                   ▼ Sink
//! 6. Record     one line of the log, `spantap/1`                              record
//!                                   ▼
//!               log file, spans, metrics, logs over OTLP                      export
//! ```
//!
//! `relay` does not parse JSON, `observe` does no I/O, `export` sees no bytes of the traffic. The modules are
//! listed from the lowest to the highest: each names only modules above it in this list.
//! `docs/architecture.md` contains the map, the glossary and the invariants.

pub mod system;
pub mod text;

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

/// The version with the commit it was built from and the day of that commit, as far as they are known:
/// `0.1.0 (abc1234 2026-11-22)`. `build.rs` sets it.
pub const VERSION: &str = match option_env!("SPANTAP_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};
