//! spantap shows what an MCP host and an MCP server say to each other, without changing it.
//!
//! The way of a byte:
//!
//! ```text
//! host ─stdin──► pump ──write──► server ─stdout─► pump ──write──► host    relay: bytes only
//!                 │ ring                           │ ring   (a third pump copies stderr)
//!                 └───────────────┬────────────────┘
//! 1. Chunk      bytes as read: stream, offset, moment; lost bytes are a Gap
//!                                 ▼ a background thread runs the observer    proxy
//! 2. Piece      a part or the end of a line (frame), cut by the Framer        observe: no I/O
//! 3. Envelope   the JSON-RPC members of a message, by byte range, from the Scanner
//! 4. Event      what happened, from the Session, every text Redacted; a request with
//!               its answer is an Operation
//!                                 ▼ Exporter (a Sink)
//! 5. Record     one line of the log, `spantap/1`                              record
//!                                 ▼ Log, LiveFile, Notifier and Otlp (Outputs)
//!               log file, spans and logs over OTLP; metrics from the events   export
//!                                 ▼ later, in another process: scan, LogEntry
//! 6. rows, totals                                                             query
//!    tables, waterfalls, the report page                                      present
//! ```
//!
//! A pump publishes bytes to its ring before it writes them onward, and waits for the observer only with
//! `--overload=wait`. `relay` does not parse JSON, `observe` does no I/O, `export` sees only redacted text. Each
//! module below names only modules that are listed before it. `docs/architecture.md` contains the map, the
//! glossary and the invariants.

// The operating system: processes, descriptors, files, clock, network.
pub mod system;

// Text without meaning: globs, hex, durations.
pub mod text;

// Starts the server, moves bytes, ends as the server ends.
pub mod relay;

// Turns bytes into events, with all text redacted.
pub mod observe;

// The line of the log.
pub mod record;

// The log file, the live file, the notify command, OTLP.
pub mod export;

// One name for flag, variable and config key.
pub mod settings;

// The assembly of one proxy: threads, load, shutdown.
pub mod proxy;

// Receives the telemetry of agents and servers.
pub mod collect;

// Computes answers from the logs.
pub mod query;

// Shows the answers.
pub mod present;

// Edits the config files of hosts, and resolves their entries.
pub mod hosts;

// Probes a server.
pub mod check;

// A sample server, and a client for it.
pub mod demo;

// One file for each command.
pub mod cli;

/// The version with the commit it was built from and the day of that commit, as far as they are known:
/// `0.1.0 (abc1234 2026-11-22)`. `build.rs` sets it.
pub const VERSION: &str = match option_env!("SPANTAP_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};
